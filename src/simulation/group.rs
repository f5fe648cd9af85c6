//! Coming, going, and who owns what: each scenario is something that went wrong elsewhere.

use std::sync::Arc;

use ottla_mock::{Api, Release, ResponseError, Settings, Verdict};

use super::{
    user::Records,
    world::{GROUP, World, builder, builder_of_nothing, ms, orders, secs},
};
use crate::{
    assignor::{Assignor, CooperativeSticky},
    consumer::{Handle, Subscription},
    error::ConsumeErrorKind,
    model::{GroupProtocol, TopicPartition},
};

/// Elsewhere, a commit between JoinGroup and SyncGroup, or one overtaken by a JoinGroup, cost the assignment (librdkafka #4059, #4908).
/// The judge asserts that there is none of the first kind; here is the second.
#[test]
fn a_join_waits_for_the_commit_that_is_in_flight() {
    let mut world = World::new(1);
    world.produce(0, 10);
    let client = world.join(builder().metadata_max_age(secs(1)), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(4));
    world.kafka.fail_next(Api::OffsetCommit, 1, Verdict::Delay(secs(5)));
    world.produce(0, 10);
    world.run_until(secs(2), |world| world.committed(&orders(0)) == Some(20));
    let joins = world.count(Api::JoinGroup);
    // The coordinator's connection is taken, but the leader of a group notices by itself that there is more to assign.
    world.grow("orders", 2);
    world.run(secs(4));
    assert_eq!(world.clients[client].said("Revoking").len(), 1, "the change was noticed");
    assert_eq!(world.count(Api::JoinGroup), joins, "the commit is not answered yet");
    world.run(secs(3));
    assert_eq!(world.count(Api::JoinGroup), joins + 1);
    assert_eq!(world.clients[client].said("Rejoining").len(), 1, "said once");
    world.produce(1, 10);
    world.finish(secs(3));
    assert_eq!(world.repeats(), 0);
}

/// Elsewhere, a member that had been put out went on reading, because only its commit had heard of it (franz-go v1.21.3, #1326).
#[test]
fn a_commit_that_names_a_fatal_membership_error_starts_the_rejoin() {
    for code in [ResponseError::UnknownMemberId, ResponseError::IllegalGeneration] {
        let mut world = World::new(1);
        world.produce(0, 10);
        let client = world.join(builder().session_timeout(secs(300)).heartbeat_interval(secs(100)), |consumer| {
            Records::AtLeastOnce(consumer.at_least_once())
        });
        world.finish(secs(5));
        world.kafka.fail_next(Api::OffsetCommit, 1, Verdict::Error(code));
        let joins = world.count(Api::JoinGroup);
        world.produce(0, 10);
        world.run(secs(3));
        assert_eq!(world.clients[client].said("Lost").len(), 1, "{code}");
        assert!(world.count(Api::JoinGroup) > joins, "{code}");
        if code == ResponseError::UnknownMemberId {
            // It comes back as another; the broker, who lied, still waits for the first.
            world.expel(GROUP, 0);
        }
        world.produce(0, 10);
        world.finish(secs(10));
    }
}

/// Elsewhere, the search for the coordinator was bound to a call that had been cancelled, or had no timer behind it (franz-go v1.15.4,
/// librdkafka #2791, #3396, KAFKA-10793).
#[test]
fn the_coordinator_is_found_again_whatever_becomes_of_the_search() {
    for fate in [
        Verdict::CloseAfterApplying,
        Verdict::CloseBefore,
        Verdict::NoReply,
        Verdict::Garbage,
        Verdict::Error(ResponseError::CoordinatorNotAvailable),
    ] {
        let mut world = World::new(2);
        world.produce(0, 10);
        let client = world.at_least_once();
        world.finish(secs(5));
        world.kafka.fail_next(Api::FindCoordinator, 2, fate.clone());
        world.move_coordinator(2);
        world.produce(0, 10);
        world.produce(1, 10);
        // Longer than the session while a search without an answer is given up: who lost the member must take it back.
        world.finish(secs(90));
        let found = world.clients[client].said("CoordinatorFound");
        assert_eq!(found.len(), 2, "{fate:?}");
    }
}

#[test]
fn a_coordinator_that_dies_and_moves_costs_no_partition() {
    let mut world = World::new(2);
    let client = world.at_least_once();
    world.run(secs(4));
    for round in 0..5 {
        let (old, new) = (round % 3 + 1, (round + 1) % 3 + 1);
        for partition in 0..2 {
            world.produce(partition, 10);
            world.elect(partition, new);
        }
        world.stop_broker(old);
        world.run(ms(1500));
        world.move_coordinator(new);
        world.run(secs(2));
        world.restart_brokers();
        world.finish(secs(6));
    }
    assert!(world.clients[client].said("Lost").is_empty());
    assert_eq!(world.clients[client].said("Assigned").len(), 1);
    assert_eq!(world.repeats(), 0);
}

/// Elsewhere, a commit that failed inside a rebalance left the member without any fetch (librdkafka #2933).
#[test]
fn a_commit_that_fails_inside_a_rebalance_ends_it_no_worse() {
    let refused = [
        ResponseError::RebalanceInProgress,
        ResponseError::IllegalGeneration,
        ResponseError::UnknownMemberId,
        ResponseError::NotCoordinator,
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::RequestTimedOut,
        ResponseError::OffsetMetadataTooLarge,
        ResponseError::InvalidCommitOffsetSize,
        ResponseError::UnknownServerError,
    ];
    let fates = refused.map(Verdict::Error).into_iter().chain([
        Verdict::CloseAfterApplying,
        Verdict::CloseBefore,
        Verdict::NoReply,
        Verdict::Garbage,
    ]);
    for fate in fates {
        let mut world = World::new(1);
        // Nothing is committed but at the rebalance.
        let rarely = builder().commit_interval(secs(600)).heartbeat_interval(ms(300));
        let client = world.join(rarely, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
        world.run(secs(4));
        world.produce(0, 10);
        world.run(ms(50));
        assert_eq!(world.count(Api::OffsetCommit), 0);
        world.kafka.fail_next(Api::OffsetCommit, 1, fate.clone());
        world.rebalance();
        world.run(secs(90));
        assert!(world.count(Api::OffsetCommit) > 0, "{fate:?}");
        assert!(world.clients[client].said("Assigned").len() >= 2, "{fate:?}:\n{}", world.report());
        world.produce(0, 10);
        world.rebalance();
        world.run(secs(5));
        assert!(world.is_done(), "{fate:?}:\n{}", world.report());
    }
}

/// Elsewhere, partitions and topics that came later were never read (kafka-go #646, sarama #1739, KAFKA-16198, krafka).
#[test]
fn new_partitions_and_topics_are_found_within_the_age_of_metadata() {
    let mut world = World::new(1);
    let subscribed = builder().subscribe(["late"]).metadata_max_age(secs(5));
    let client = world.join(subscribed, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(20));
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::UnknownTopic]);
    world.create("late", 2);
    world.produce_to(&TopicPartition::new("late", 1), 10);
    world.finish(secs(15));
    world.grow("orders", 2);
    world.produce(1, 10);
    world.finish(secs(15));
    assert_eq!(world.clients[client].holds.len(), 4);
    assert_eq!(world.repeats(), 0);
}

/// Elsewhere, metadata were refreshed only when something else happened.
#[test]
fn metadata_age_even_while_the_group_is_stuck() {
    let mut world = World::new(1);
    world.kafka.fail_next(Api::FindCoordinator, usize::MAX, Verdict::Error(ResponseError::CoordinatorNotAvailable));
    world.join(builder().metadata_max_age(secs(5)), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(60));
    let asked = world.count(Api::Metadata);
    assert!((12..=70).contains(&asked), "{asked} in a minute");
}

/// Elsewhere, threads spun while nothing was to be done (KAFKA-18376, KAFKA-20535, KAFKA-20854).
#[test]
fn an_idle_consumer_does_next_to_nothing() {
    let mut world = World::new(3);
    let client = world.at_least_once();
    world.run(secs(10));
    let (wakeups, requests) = (world.clients[client].wakeups, world.requests.len());
    world.run(secs(60));
    let (wakeups, requests) = (world.clients[client].wakeups - wakeups, world.requests.len() - requests);
    let fetches = 60 * 2 * 3;
    assert!(requests <= fetches + 30, "{requests} requests");
    assert!(wakeups <= 150, "{wakeups} wake-ups");
}

/// Elsewhere, a group's heartbeat waited behind a Fetch that waited for records (krafka, aiokafka).
#[test]
fn heartbeats_and_commits_do_not_wait_behind_a_fetch() {
    let mut world = World::new(1);
    let patient = builder().fetch_max_wait(secs(20)).fetch_min_bytes(1 << 20);
    world.join(patient, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.produce(0, 10);
    world.run(secs(25));
    assert_eq!(world.committed(&orders(0)), Some(10));
    let beats: Vec<_> = world.requests.iter().filter(|seen| seen.api == Api::Heartbeat).map(|seen| seen.at).collect();
    assert!(beats.len() >= 7, "{} heartbeats", beats.len());
    assert!(beats.windows(2).all(|pair| pair[1] - pair[0] <= ms(3100)));
    assert_eq!(world.kafka.coordinator(GROUP), world.kafka.leader("orders", 0), "both at one broker");
}

/// Elsewhere, a missing permission was not told at all, or the broker was asked 25 to 1,000 times a second.
#[test]
fn a_missing_permission_is_told_within_seconds_and_then_rarely() {
    for (api, code) in [
        (Api::FindCoordinator, ResponseError::GroupAuthorizationFailed),
        (Api::JoinGroup, ResponseError::GroupAuthorizationFailed),
        (Api::OffsetFetch, ResponseError::GroupAuthorizationFailed),
        (Api::OffsetCommit, ResponseError::GroupAuthorizationFailed),
        (Api::Metadata, ResponseError::TopicAuthorizationFailed),
        (Api::Fetch, ResponseError::TopicAuthorizationFailed),
    ] {
        let mut world = World::new(1);
        world.produce(0, 10);
        world.kafka.fail_next(api, usize::MAX, Verdict::Error(code));
        let client = world.at_least_once();
        world.run(secs(300));
        let problems = &world.clients[client].problems;
        assert!(!problems.is_empty(), "{api:?}: nothing was said");
        assert!(problems[0].0 <= secs(6), "{api:?}: said after {:?}", problems[0].0);
        assert!(problems.len() <= 6, "{api:?}: said {} times", problems.len());
        let kinds = world.problem_kinds(client);
        assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{api:?}: {kinds:?}");
        assert!(world.count(api) <= 330, "{api:?}: {} requests in five minutes", world.count(api));
        world.heal();
        world.finish(secs(40));
    }
}

/// Elsewhere, nonsense instead of an answer ended the process, or was followed by thousands of requests a second.
#[test]
fn nonsense_instead_of_an_answer_is_survived_and_not_asked_for_in_a_loop() {
    for api in [
        Api::ApiVersions,
        Api::Metadata,
        Api::FindCoordinator,
        Api::JoinGroup,
        Api::SyncGroup,
        Api::Heartbeat,
        Api::OffsetFetch,
        Api::ListOffsets,
        Api::OffsetCommit,
        Api::Fetch,
    ] {
        let mut world = World::new(1);
        world.produce(0, 10);
        world.kafka.fail_next(api, usize::MAX, Verdict::Garbage);
        let client = world.at_least_once();
        world.run(secs(120));
        assert!(!world.clients[client].problems.is_empty(), "{api:?}: nothing was said");
        let asked = world.count(api);
        // A connection a second for each of the three brokers.
        assert!(asked <= 400, "{api:?}: {asked} requests in two minutes");
        assert!(world.requests.len() <= 1200, "{api:?}: {} requests in two minutes", world.requests.len());
        world.heal();
        world.finish(secs(40));
    }
}

/// A process that was stopped beyond its session finds its partitions gone, and commits nothing of theirs.
#[test]
fn a_process_that_was_stopped_for_long_commits_nothing_it_lost() {
    let mut world = World::new(1);
    world.produce(0, 200);
    let first = world.at_least_once();
    world.habits(first, |habits| (habits.at_once, habits.work) = (5, ms(200)));
    world.run(secs(3));
    world.freeze(first, true);
    let second = world.at_least_once();
    world.run(secs(15));
    assert_eq!(world.holders(&orders(0)).len(), 2, "the first does not know yet");
    let commits = world.stored.len();
    world.freeze(first, false);
    world.run(secs(10));
    assert!(world.stored[commits..].iter().all(|commit| commit.client == second || commit.offset >= 200));
    assert_eq!(world.clients[first].said("Lost").len(), 1);
    world.finish(secs(60));
}

/// A rebalance in the middle of another one ends like any.
#[test]
fn members_that_come_and_go_quickly_are_settled_within_seconds() {
    let mut world = World::new(6);
    let mut alive = vec![world.at_least_once()];
    for round in 0..12 {
        for partition in 0..6 {
            world.produce(partition, 20);
        }
        match round % 4 {
            0 | 1 => alive.push(world.at_least_once()),
            2 => world.close(alive.remove(0), secs(5)),
            _ => world.kill(alive.remove(0)),
        }
        world.run(ms(700 * (round % 3)));
    }
    world.run(secs(25));
    let held: usize = alive.iter().map(|client| world.clients[*client].holds.len()).sum();
    assert_eq!(held, 6, "{}", world.report());
    for partition in 0..6 {
        world.produce(partition, 1);
    }
    world.finish(secs(5));
}

/// KIP-429: a member that joins holds nothing up but what it takes. Here the group waits for a member that is stopped, for as long as its session.
#[test]
fn what_a_cooperative_member_keeps_is_read_while_the_group_rebalances() {
    let mut world = World::new(4);
    let cooperative = || {
        let assignors: [Arc<dyn Assignor>; 1] = [Arc::new(CooperativeSticky)];
        builder().assignors(assignors).session_timeout(secs(10)).heartbeat_interval(ms(300))
    };
    let read = |consumer: crate::consumer::Consumer| Records::AtLeastOnce(consumer.at_least_once());
    let [first, second] = [world.join(cooperative(), read), world.join(cooperative(), read)];
    world.run(secs(8));
    let kept: Vec<_> = world.clients[first].holds.keys().cloned().collect();
    assert_eq!((kept.len(), world.clients[second].holds.len()), (2, 2));
    world.freeze(second, true);
    world.join(cooperative(), read);
    world.run(secs(3));
    assert_eq!(world.clients[first].said("Rejoining").len(), 1, "it waits for the group");
    world.produce(kept[0].partition(), 50);
    world.run(ms(500));
    let handed = world.judge().handed_out.iter().filter(|handed| handed.client == first && handed.partition == kept[0]).count();
    assert_eq!(handed, 50, "{}", world.report());
    assert!(world.clients[first].said("Revoking").is_empty());
    world.freeze(second, false);
    world.finish(secs(60));
    assert!(world.clients[first].said("Lost").is_empty());
    assert_eq!((world.clients[first].holds.len(), world.repeats()), (1, 0), "{}", world.report());
    // What is kept is fetched on, from where it was.
    let fetches = world.requests.iter().filter(|request| request.client == first).flat_map(|request| &request.fetched);
    for kept in world.clients[first].holds.keys() {
        let offsets: Vec<_> = fetches.clone().filter(|(of, _)| of == kept).map(|(_, offset)| *offset).collect();
        assert!(offsets.is_sorted(), "{kept}: {offsets:?}");
    }
}

/// Who reads by pattern: what comes is found by all members at once, what goes is let go of, and what is held is read on meanwhile.
#[test]
fn members_by_pattern_read_what_comes_and_let_go_of_what_goes() {
    let mut world = World::new(2);
    world.produce(0, 10);
    world.produce(1, 10);
    let assignors: [Arc<dyn Assignor>; 1] = [Arc::new(CooperativeSticky)];
    let by_pattern = |age| {
        let builder = builder_of_nothing(GROUP).subscribe_pattern("[a-z]+").exclude_pattern("ex.*");
        builder.assignors(assignors.clone()).metadata_max_age(age)
    };
    let one = world.join(by_pattern(secs(5)), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.finish(secs(5));
    // The other one would find what is new an hour later.
    let other = world.join(by_pattern(secs(3600)), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(10));
    let joins = world.count(Api::JoinGroup);
    world.create("late", 2);
    world.create("extra", 1);
    world.produce_to(&TopicPartition::new("late", 0), 10);
    world.produce_to(&TopicPartition::new("late", 1), 10);
    world.run_until(secs(15), |world| world.holders(&TopicPartition::new("late", 1)).len() == 1);
    world.run(secs(10));
    let held = [one, other].map(|client| world.clients[client].holds.len());
    assert_eq!(held, [2, 2], "what is excluded is not read, and each has its share");
    assert!(world.count(Api::JoinGroup) - joins <= 6, "one found it, and the other looked when the group rebalanced");
    assert_eq!(world.handed_out(&TopicPartition::new("late", 0)).len(), 10);
    world.delete("late");
    world.run(secs(20));
    let held = [one, other].map(|client| world.clients[client].holds.len());
    assert_eq!((held, world.problem_kinds(one), world.problem_kinds(other)), ([1, 1], vec![], vec![]));
    assert_eq!(world.repeats(), 0);
}

/// Found by the simulation: who closed between JoinGroup and SyncGroup was not told of the generation in which it then committed what it had
/// held all the while.
#[test]
fn who_closes_while_it_joins_is_told_in_which_generation_it_commits() {
    let mut world = World::new(4);
    let cooperative: [Arc<dyn Assignor>; 1] = [Arc::new(CooperativeSticky)];
    let settings = || builder().assignors(cooperative.clone()).commit_interval(secs(3600));
    let first = world.join(settings(), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    (0..4).for_each(|partition| world.produce(partition, 10));
    world.run_until(secs(10), |world| (0..4).all(|partition| world.handed_out(&orders(partition)).len() == 10));
    let joins = world.count(Api::JoinGroup);
    world.join(settings(), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    // The newcomer is given an id, and asks again with it; the third is the first member.
    world.run_until(secs(10), |world| world.count(Api::JoinGroup) == joins + 3);
    world.close(first, secs(5));
    world.run_until(secs(10), |world| (0..4).all(|partition| world.committed(&orders(partition)) == Some(10)));
    assert_eq!(world.clients[first].said("Assigned").len(), 2);
    world.finish(secs(20));
    assert_eq!(world.repeats(), 0);
}

/// Who lets the coordinator match learns of topics by their ids alone, also of such that come later, or match another pattern.
#[test]
fn what_the_coordinator_finds_to_match_is_read_and_let_go_of_when_it_does_not_match_any_more() {
    let mut world = World::new(2);
    (0..2).for_each(|partition| world.produce(partition, 10));
    let late = |number| TopicPartition::new("late", number);
    // What is old is never asked for here: it is the coordinator that finds what is new.
    let by_pattern = || {
        let builder = builder_of_nothing(GROUP).subscribe_server_pattern("[a-z]{4,6}").group_protocol(GroupProtocol::Consumer);
        builder.metadata_max_age(secs(3600))
    };
    let [one, other] = [0; 2].map(|_| world.join(by_pattern(), |consumer| Records::AtLeastOnce(consumer.at_least_once())));
    world.finish(secs(20));
    world.create("late", 2);
    world.create("longer-than-the-pattern", 1);
    (0..2).for_each(|number| world.produce_to(&late(number), 10));
    world.run_until(secs(20), |world| world.handed_out(&late(0)).len() + world.handed_out(&late(1)).len() == 20);
    let held = |world: &World| [one, other].map(|client| world.clients[client].holds.len());
    assert_eq!(held(&world), [2, 2], "what matches in part only is not read, and each has its share");
    world.delete("late");
    world.run_until(secs(20), |world| held(world) == [1, 1]);
    // A deleted topic's name is looked for until its id is not assigned any more, which is soon: there is no storm.
    let asked = world.count(Api::Metadata);
    world.run(secs(60));
    assert!(world.count(Api::Metadata) - asked <= 20, "{} questions in a minute", world.count(Api::Metadata) - asked);
    world.create("lamps", 1);
    for client in [one, other] {
        world.with_handle(client, |handle| handle.subscribe(Subscription::new().server_pattern("lam.*")).unwrap());
    }
    world.produce_to(&TopicPartition::new("lamps", 0), 10);
    world.run_until(secs(20), |world| world.handed_out(&TopicPartition::new("lamps", 0)).len() == 10);
    world.run_until(secs(20), |world| held(world).iter().sum::<usize>() == 1);
    assert_eq!((world.problem_kinds(one), world.problem_kinds(other), world.repeats()), (vec![], vec![], 0));
    world.with_handle(one, |handle| handle.subscribe(Subscription::new().server_pattern("or(ders")).unwrap());
    world.run(secs(20));
    assert_eq!(world.problem_kinds(one), [ConsumeErrorKind::GroupRefused], "and the stream has ended");
}

/// Of a topic that only its id is known of, the name is asked for until some broker tells it, whatever becomes of the questions.
#[test]
fn a_topic_known_by_its_id_is_found_whatever_becomes_of_the_question() {
    for fate in [
        Verdict::CloseAfterApplying,
        Verdict::CloseBefore,
        Verdict::NoReply,
        Verdict::Garbage,
        Verdict::Error(ResponseError::UnknownTopicId),
        Verdict::Error(ResponseError::TopicAuthorizationFailed),
    ] {
        let mut world = World::new(1);
        world.produce(0, 10);
        let builder = builder_of_nothing(GROUP).subscribe_server_pattern("orders").group_protocol(GroupProtocol::Consumer);
        world.join(builder.metadata_max_age(secs(3600)), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
        world.run_until(secs(5), |world| world.count(Api::Metadata) > 0);
        world.kafka.fail_next(Api::Metadata, 3, fate);
        world.finish(secs(60));
        assert_eq!(world.repeats(), 0);
    }
}

/// Where no broker matches, a pattern for it is an error, and not silence.
#[test]
fn a_pattern_for_the_coordinator_is_an_error_where_it_does_not_match() {
    let mut older = Settings::default();
    older.release = Release::new(3, 9);
    let mut world = World::seeded(1, 1, older);
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Auto] {
        let builder = builder_of_nothing(GROUP).subscribe_server_pattern("orders").group_protocol(protocol);
        let client = world.join(builder, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
        world.run(secs(5));
        assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::Incompatible], "{protocol:?}");
    }
    // It came after the group was joined by the other protocol.
    let client =
        world.join(builder().group_protocol(GroupProtocol::Auto), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(5));
    assert_eq!(world.clients[client].holds.len(), 1);
    world.with_handle(client, |handle| handle.subscribe(Subscription::new().server_pattern("orders")).unwrap());
    world.run(secs(5));
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::Incompatible]);
}

/// A program that wants something else gives back what it no longer wants, commits and all, and keeps the rest.
#[test]
fn a_subscription_may_change_and_end_and_begin_again() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut world = World::new(2);
        world.create("lamps", 1);
        let lamps = TopicPartition::new("lamps", 0);
        for of in [&orders(0), &orders(1), &lamps] {
            world.produce_to(of, 10);
        }
        let cooperative: [Arc<dyn Assignor>; 1] = [Arc::new(CooperativeSticky)];
        // Nothing is committed but what has to be.
        let both = builder().subscribe(["lamps"]).assignors(cooperative).group_protocol(protocol).commit_interval(secs(3600));
        let client = world.join(both, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
        world.run_until(secs(20), |world| world.handed_out(&lamps).len() == 10);
        world.with_handle(client, |handle| handle.subscribe(["orders"]).unwrap());
        world.run_until(secs(20), |world| world.clients[client].holds.len() == 2);
        assert_eq!(world.committed(&lamps), Some(10), "{protocol:?}: what goes is committed");
        let revoked = world.clients[client].events.iter().filter(|(_, event)| event.starts_with("Revok"));
        assert!(revoked.clone().count() > 0, "{protocol:?}");
        assert!(revoked.clone().all(|(_, event)| !event.contains("orders")), "{protocol:?}: what stays is not handed back");
        world.produce(0, 5);
        world.run_until(secs(5), |world| world.handed_out(&orders(0)).len() == 15);
        world.with_handle(client, Handle::unsubscribe);
        world.run_until(secs(20), |world| world.clients[client].holds.is_empty());
        assert_eq!([0, 1].map(|number| world.committed(&orders(number))), [Some(15), Some(10)], "{protocol:?}");
        let (joins, beats) = (world.count(Api::JoinGroup), world.count(Api::ConsumerGroupHeartbeat));
        world.produce(0, 5);
        world.run(secs(20));
        assert_eq!((world.count(Api::JoinGroup), world.handed_out(&orders(0)).len()), (joins, 15), "{protocol:?}: it has left");
        assert!(world.count(Api::ConsumerGroupHeartbeat) - beats <= 1, "{protocol:?}: but for its farewell nothing is said");
        world.with_handle(client, |handle| handle.subscribe(["orders", "lamps"]).unwrap());
        world.run_until(secs(20), |world| world.handed_out(&orders(0)).len() == 20);
        assert_eq!((world.clients[client].holds.len(), world.repeats()), (3, 0), "{protocol:?}");
    }
}

/// KIP-1102: a broker may send its clients back to their bootstrap addresses, all connections anew. What they hold they keep.
#[test]
fn a_member_that_is_sent_back_to_the_bootstrap_addresses_keeps_what_it_holds() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut world = World::new(2);
        (0..2).for_each(|partition| world.produce(partition, 10));
        let settings = builder().group_protocol(protocol).metadata_max_age(secs(5));
        let client = world.join(settings, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
        world.finish(secs(10));
        world.run(secs(10));
        let (handshakes, assigned) = (world.count(Api::ApiVersions), world.clients[client].said("Assigned").len());
        world.kafka.fail_next(Api::Metadata, 2, Verdict::Error(ResponseError::RebootstrapRequired));
        world.run(secs(10));
        let handshakes = world.count(Api::ApiVersions) - handshakes;
        assert!((2..=8).contains(&handshakes), "{protocol:?}: {handshakes} connections, those to the brokers anew and no more");
        (0..2).for_each(|partition| world.produce(partition, 10));
        world.finish(secs(10));
        assert_eq!(world.clients[client].said("Assigned").len(), assigned, "{protocol:?}");
        assert!(world.clients[client].said("Lost").is_empty(), "{protocol:?}");
        assert_eq!((world.problem_kinds(client), world.repeats()), (vec![], 0), "{protocol:?}");
    }
}

/// A broker that is down is in no metadata, yet its replicas are where they were: there is nothing to assign anew.
#[test]
fn a_broker_that_is_down_makes_no_group_in_racks_rebalance() {
    let mut world = World::new(3);
    world.in_racks();
    for rack in ["rack1", "rack2"] {
        let settings = builder().client_rack(rack).metadata_max_age(secs(2));
        world.join(settings, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    }
    world.run(secs(10));
    let joins = world.count(Api::JoinGroup);
    for broker in 1..=3 {
        world.kill_broker(broker);
        world.run(secs(10));
        world.restart_brokers();
        world.run(secs(10));
    }
    assert_eq!(world.count(Api::JoinGroup), joins);
    world.kafka.set_rack(3, Some("rack4"));
    world.run(secs(10));
    assert_eq!(world.count(Api::JoinGroup), joins + 2, "replicas in another rack are a reason");
    (0..3).for_each(|partition| world.produce(partition, 10));
    world.finish(secs(20));
}
