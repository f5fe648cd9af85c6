//! Whole consumers, with their users' programs as they are, against the brokers of ottla-mock, in virtual time and one thread.
//!
//! ```text
//!  swarm ─► life (draw: what a seed's life is like) ─┐                        ┌─► judge (delivery-contract, and the inside)
//!                                                    ├─► world, its clients ──┤
//!  delivery, group, fetching, …: named scenarios ────┘   network, ottla-mock  └─► story (what a person reads)
//! ```
//!
//! What must hold at every moment is asserted by the `judge` at every step of every test. A failure of a life prints one command that plays
//! it again: `cargo xtask sim --seed N --trace`.
//!
//! Each row is something that went wrong in other clients, with the tests that it does not go wrong here: in this folder, or beside the
//! machine that looks after it. What the lives found in ottla itself is told in `manual::non_obvious`, with the scenario of each.
//!
//! | what went wrong | tests |
//! |---|---|
//! | records handed out after the last commit before a revocation | `delivery::a_clean_hand_over_repeats_nothing` |
//! | buffered records of a revoked partition handed out | `delivery::what_was_buffered_before_a_rebalance_is_not_handed_out_after_it`, `fetch::tests::an_answer_for_an_older_handle_is_dropped_and_its_budget_is_free` |
//! | the fetch position committed | `delivery::a_crash_loses_nothing_that_was_fetched_and_not_finished`, `committer::tests::what_was_only_delivered_is_never_committed` |
//! | commits that cross a join or a sync | `group::a_join_waits_for_the_commit_that_is_in_flight`, `group::tests::rounds::commits_are_held_from_the_join_to_the_end_of_the_sync` |
//! | commits overtaken or cancelled, offsets that go back | `delivery::committed_offsets_never_go_back_whatever_becomes_of_the_answers`, `committer::tests::commits_are_never_two_at_once_and_later_ones_merge` |
//! | a member that was put out and reads on | `group::a_commit_that_names_a_fatal_membership_error_starts_the_rejoin`, `group::a_process_that_was_stopped_for_long_commits_nothing_it_lost` |
//! | stuck after the coordinator changed | `group::the_coordinator_is_found_again_whatever_becomes_of_the_search`, `group::a_coordinator_that_dies_and_moves_costs_no_partition` |
//! | no fetch any more after a commit failed in a rebalance | `group::a_commit_that_fails_inside_a_rebalance_ends_it_no_worse` |
//! | transient errors that lead to the reset policy | `delivery::no_error_leads_to_the_reset_policy`, `delivery::a_validation_that_fails_moves_nothing`, `positions::tests::door_one_no_committed_offset` and the two other doors |
//! | offsets of an open transaction not waited for | `delivery::offsets_that_are_not_stable_yet_are_waited_for_as_long_as_it_takes` |
//! | validation, seek, pause that repeat or skip | `delivery::new_leaders_and_pauses_repeat_nothing_and_skip_nothing`, `delivery::a_seek_is_obeyed_from_the_next_record_on` |
//! | partitions owned twice, or by nobody | `assignor::tests`, `group::members_that_come_and_go_quickly_are_settled_within_seconds` |
//! | memory without a limit | `fetching::what_is_fetched_and_not_taken_stays_within_the_budget`, `fetch::tests::budget::the_budget_is_never_exceeded`, `compress::tests::trap_4_*` |
//! | aborted records handed out, committed ones dropped | `delivery::the_commit_passes_what_holds_no_records`, `records::tests::the_aborted_list_may_come_in_any_order` |
//! | paused data fetched again and again, one partition that blocks others | `fetching::a_paused_partition_is_not_fetched_and_what_was_fetched_is_kept`, `fetching::a_partition_nobody_takes_from_does_not_hold_up_the_others` |
//! | out of range believed of anybody | `fetching::out_of_range_counts_only_from_the_leader_at_our_own_position` |
//! | new partitions and topics never read | `group::new_partitions_and_topics_are_found_within_the_age_of_metadata` |
//! | stalls, and loops that spin | `group::an_idle_consumer_does_next_to_nothing`, `fetching::a_cluster_that_is_away_for_an_hour_is_found_again_within_seconds`, `delivery::a_user_that_stalls_loses_its_partitions_and_gets_them_back_when_it_goes_on` |
//! | records that are too large skipped | `fetching::a_record_larger_than_any_limit_of_a_fetch_is_read_whole` |
//! | heartbeats that wait behind a fetch | `group::heartbeats_and_commits_do_not_wait_behind_a_fetch` |
//! | a topic made anew never read | `fetching::a_topic_made_anew_is_read_from_its_beginning`, `fetching::a_topic_replaced_by_another_of_its_name_is_read_from_its_beginning` |
//! | a missing permission not told, or asked for in a loop | `group::a_missing_permission_is_told_within_seconds_and_then_rarely` |
//! | metadata that age only when something else happens | `group::metadata_age_even_while_the_group_is_stuck` |
//! | one broken batch that stops everything | `fetching::a_broken_batch_stops_its_partition_only_with_its_offset_named` |
//! | nonsense that ends the process, or is asked for in a loop | `group::nonsense_instead_of_an_answer_is_survived_and_not_asked_for_in_a_loop`, `fetching::a_partition_nobody_asked_for_is_ignored` |
//! | lag that stays behind transactions' markers | `delivery::the_commit_passes_what_holds_no_records` |
//! | seconds of silence after a broker died | `fetching::a_broker_that_dies_is_gone_for_a_second_or_two` |

mod client;
mod conversion;
mod delivery;
mod draw;
mod fetching;
mod group;
mod hostile;
mod judge;
mod life;
mod logs;
mod network;
mod operator;
mod placed;
mod quotas;
mod sight;
mod standalone;
mod store;
mod story;
mod swarm;
mod user;
mod world;
