//! What is not obvious: each line was a bug once, found by the simulation, in ottla or in what checks it.
//!
//! * **A log that was cut is read again from what is finished, not from where it was cut.** What is buffered below the cut has been
//!   fetched, and not handed out; starting at the cut throws it away. (`what_a_truncation_leaves_unfinished_is_read_again`)
//! * **The epoch of a committed offset is that of whatever lies just before it, seen or not.** Behind the last record of a batch there may
//!   be aborted ones of a newer leader. An older epoch makes the next reader believe that the log was cut.
//!   (`a_manual_commit_names_the_epoch_of_what_lies_just_before_it`)
//! * **Brokers forget an epoch in which nothing was written.** A position at the end of a log may name it. That the log "departs" from what
//!   was read, at the very position, means no more than that. (`an_epoch_in_which_nothing_was_written_is_no_obstacle`)
//! * **Every wait has a timer, also that for certainty.** A commit waits while its topic may have been made anew, and what would tell is the
//!   next Fetch; at most once, that Fetch may itself wait for the commit. (`a_partition_is_not_held_for_ever`)
//! * **What a partition might bring is no room used.** One with nothing to read may be named for a megabyte, and brings none. Counted
//!   against the request's room, several of them kept the one with records from ever being named.
//!   (`what_is_behind_is_named_beside_any_number_that_are_quiet`)
//! * **A broker answers a request of a connection it has lost.** A commit is stored although its client has hung up, crashed, or asked for
//!   the same again by another connection.
//! * **A broker with a quota reads late.** After a heartbeat that uses the quota up it does not listen for seconds, and what was written behind
//!   it waits there. A commit that does, whose connection is given up, is stored after a newer one that went by another connection, and the
//!   offset goes back. So a commit is written where nothing else is in flight.
//!   (`a_commit_is_written_where_nothing_else_is_in_flight`, and lives with quotas)
//! * **A commit names its topic by name.** Where a topic is deleted and made anew in the seconds in which its offsets are committed, they
//!   are those of another log, and no broker can see that (up to version 9 of OffsetCommit).
//! * **A coordinator that assigns by topic ids gives the partitions of a topic that was made anew to anybody**, also while a member still holds
//!   those of the former one, and would read the new ones by their name (KIP-848).
//!   (`a_topic_of_the_same_name_is_another_one`)
//! * **A group may be of another protocol when a member comes back that was put out**, because all who are left speak the classic one. "The
//!   group is not found" then means as much as "you are not known": joining converts it again, or says that it cannot be.
//!   (`a_member_that_is_put_out_finds_its_group_classic_and_converts_it_again`)
//! * **A group that changes its protocol while it is empty counts its generations from the beginning.** Whoever was stopped meanwhile may
//!   believe to hold a partition in the very generation in which another one does.
//! * **A classic group that becomes one of KIP-848 in a rebalance forgets who has what.** Cooperative members read on, and the coordinator gives
//!   what they have to others; when they join, it takes their commits all the same. And where nobody leads it takes in whoever joins, also a
//!   member id of another life of the group. So what is missing from such an assignment is handed back, with a commit, only where the
//!   coordinator called the rebalance and waits for it in the old generation; else it is lost, and nothing of it is committed.
//!   (`what_a_coordinator_takes_that_assigns_is_handed_back_only_in_the_generation_in_which_it_was_given`, and lives that are converted)
//! * **Who leads now is news whoever asked.** An answer that comes after its partition was assigned anew brings no records any more; but if it
//!   names the leader, the former one's late word is to be believed no longer. (`who_leads_now_counts_whoever_asked`,
//!   `a_newer_leader_counts_also_where_the_partition_is_not_read_any_more`)
//! * **A leader that is told a rack may send no records but a broker's number.** Whoever does not go there reads nothing, and asks without end
//!   (KIP-392). (`the_nearest_replica_is_read_and_the_leader_where_it_fails`)
//! * **An offset says nothing in another topic of its name**, from the moment it is asked for. A topic may be replaced while its committed
//!   offset is on its way, or waits for a leader to validate it. (`a_topic_replaced_while_a_position_is_validated_is_read_from_its_beginning`)
//! * **Before Kafka 2.8 topics have no ids.** That one was made anew shows only in its absence: once brokers have said for three seconds that
//!   there is none, its offsets count no more (`a_topic_that_was_away_is_another_where_topics_have_no_ids`). One that is back sooner, with
//!   more in it than had been read, looks the same to any client.
//! * **A marker that is lost leaves its transaction open for ever.** An unclean election can do that; `read_committed` then reads nothing
//!   beyond, in any client.
//! * **A log that was cut and has grown again looks whole on brokers before Kafka 2.3.** They do not tell consumers where an epoch ended.
//! * **A seek to an offset names no epoch.** If the log is cut below it before anything was read from there, and has grown beyond it again,
//!   nobody can see that: reading goes on at that offset, as was asked for. (`a_seek_holds_where_the_log_is_cut_before_anything_was_read`)
//! * **A seek crosses commits.** What was finished before it may be stored after it, and the offset then goes back with the next commit.
//! * **In TLS 1.3 a client believes to be connected before the broker has looked at its certificate.** Why it was refused comes as the first
//!   thing to read; or never, if the client stops reading when a write fails. (`a_broker_may_want_a_certificate_and_says_why_it_refuses_one`)
//! * **A broker reads nothing while it has something to answer.** So a connection may authenticate anew while a Fetch is in flight: the
//!   messages lie behind it, and their deadline begins where that of the Fetch ends.
//!   (`a_session_is_renewed_before_it_ends_and_no_request_is_lost`)
