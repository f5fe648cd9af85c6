//! Consumers that join no group: without one, and beside one, whose offsets they go by.

use std::time::Duration;

use ottla_mock::{Api, Release, ResponseError, Settings, Verdict};

use super::{
    fetching::make_orders_anew,
    user::Records,
    world::{GROUP, World, builder_of_nothing, ms, orders, secs},
};
use crate::{
    consumer::{Consumer, ConsumerBuilder, OffsetReset, SeekTo},
    error::ConsumeErrorKind,
    model::TopicPartition,
};

fn bootstrap() -> [&'static str; 3] {
    ["b1:9092", "b2:9092", "b3:9092"]
}

fn standalone() -> ConsumerBuilder {
    Consumer::standalone(bootstrap()).metadata_max_age(secs(5))
}

/// Beside the group that most scenarios have.
fn beside(partitions: &[i32]) -> ConsumerBuilder {
    builder_of_nothing(GROUP).assign(partitions.iter().map(|number| orders(*number))).metadata_max_age(secs(5))
}

fn read(world: &mut World, builder: ConsumerBuilder) -> usize {
    world.join(builder, |consumer| Records::AtLeastOnce(consumer.at_least_once()))
}

/// What one client was handed out of a partition.
fn handed(world: &World, client: usize, of: &TopicPartition) -> Vec<i64> {
    world.judges[&world.clients[client].group].offsets(of)
}

fn holds(world: &World, client: usize) -> Vec<String> {
    world.clients[client].holds.keys().map(ToString::to_string).collect()
}

/// A group's members ask for its coordinator, join, beat, and commit.
fn asked_of_coordinators(world: &World) -> usize {
    let apis = [Api::FindCoordinator, Api::JoinGroup, Api::Heartbeat, Api::OffsetFetch, Api::OffsetCommit, Api::LeaveGroup];
    apis.into_iter().map(|api| world.count(api)).sum()
}

#[test]
fn each_reads_all_of_it_and_no_coordinator_hears_of_them() {
    for read in [
        |consumer: Consumer| Records::AtLeastOnce(consumer.at_least_once()),
        |consumer: Consumer| Records::Batches(consumer.batches()),
        |consumer: Consumer| Records::Manual(consumer.manual()),
        |consumer: Consumer| Records::Partitions(consumer.partitions(), Vec::new()),
        |consumer: Consumer| Records::Placed(consumer.unplaced_partitions(), Vec::new()),
    ] {
        let mut world = World::new(3);
        (0..3).for_each(|partition| world.produce(partition, 20));
        let clients =
            [world.join(standalone().subscribe(["orders"]), read), world.join(standalone().subscribe(["orders"]), read)];
        world.run(secs(5));
        (0..3).for_each(|partition| world.produce(partition, 20));
        world.finish(secs(5));
        world.run(secs(20));
        for client in clients {
            for partition in 0..3 {
                assert_eq!(handed(&world, client, &orders(partition)), (0..40).collect::<Vec<_>>());
            }
            assert_eq!(world.problem_kinds(client), []);
        }
        assert_eq!(asked_of_coordinators(&world), 0);
    }
}

#[test]
fn reading_begins_where_the_policy_says() {
    for (policy, seen) in [(OffsetReset::Earliest, 0..15), (OffsetReset::Latest, 10..15)] {
        let mut world = World::new(1);
        world.produce(0, 10);
        world.run(secs(60));
        let client = read(&mut world, standalone().subscribe(["orders"]).offset_reset(policy));
        world.run(secs(2));
        world.produce(0, 5);
        world.run(secs(2));
        assert_eq!(handed(&world, client, &orders(0)), seen.collect::<Vec<_>>(), "{policy:?}");
    }
    let mut world = World::new(1);
    world.produce(0, 10);
    let client = read(&mut world, standalone().subscribe(["orders"]).offset_reset(OffsetReset::Fail));
    world.run(secs(10));
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::NoOffset]);
    let (_, told) = &world.clients[client].problems[0];
    assert!(told.to_string().contains("there is no group that would have committed an offset"), "{told}");
    world.with_handle(client, |handle| handle.seek(&orders(0), SeekTo::Offset(7)));
    world.run(secs(2));
    assert_eq!(handed(&world, client, &orders(0)), [7, 8, 9]);
}

#[test]
fn only_what_is_assigned_is_read() {
    let mut world = World::new(4);
    (0..4).for_each(|partition| world.produce(partition, 10));
    let client = read(&mut world, standalone().assign([("orders", 1), ("orders", 3)]));
    world.run(secs(5));
    assert_eq!(holds(&world, client), ["orders-1", "orders-3"]);
    world.grow("orders", 6);
    world.run(secs(20));
    assert_eq!(holds(&world, client), ["orders-1", "orders-3"]);
    let read = [0, 1, 2, 3].map(|partition| handed(&world, client, &orders(partition)).len());
    assert_eq!(read, [0, 10, 0, 10]);
}

/// Nobody but the program remembers where reading was.
#[test]
fn a_leader_that_moves_or_dies_costs_nothing() {
    let mut world = World::new(2);
    let client = read(&mut world, standalone().subscribe(["orders"]));
    for round in 0..4 {
        let (old, new) = (round % 3 + 1, (round + 1) % 3 + 1);
        (0..2).for_each(|partition| world.produce(partition, 10));
        world.run(ms(700));
        (0..2).for_each(|partition| world.elect(partition, new));
        world.run(ms(100));
        world.stop_broker(old);
        (0..2).for_each(|partition| world.produce(partition, 10));
        world.run(secs(5));
        world.restart_brokers();
        world.finish(secs(5));
    }
    assert_eq!(world.repeats(), 0);
    assert_eq!(world.clients[client].said("Assigned").len(), 1);
    assert!(world.clients[client].said("Lost").is_empty());
}

#[test]
fn partitions_and_topics_that_come_later_are_read_from_their_beginning() {
    let mut world = World::new(1);
    let named = read(&mut world, standalone().subscribe(["orders", "late"]));
    let matching = read(&mut world, standalone().subscribe_pattern("orders|la.*"));
    let assigned = read(&mut world, standalone().assign([("orders", 2), ("late", 0)]));
    world.run(secs(10));
    assert_eq!(world.problem_kinds(named), [ConsumeErrorKind::UnknownTopic]);
    assert_eq!(world.problem_kinds(assigned), [ConsumeErrorKind::UnknownTopic; 2]);
    assert!(world.clients[assigned].problems.iter().any(|(_, told)| told.to_string().starts_with("orders-2 does not exist")));
    world.create("late", 1);
    world.grow("orders", 3);
    let late = TopicPartition::new("late", 0);
    [orders(2), late.clone()].iter().for_each(|of| world.produce_to(of, 10));
    world.run(secs(15));
    for client in [named, matching, assigned] {
        for of in [orders(2), late.clone()] {
            assert_eq!(handed(&world, client, &of), (0..10).collect::<Vec<_>>(), "client {client}, {of}");
        }
    }
    assert_eq!(holds(&world, named), holds(&world, matching));
    assert_eq!(holds(&world, assigned), ["late-0", "orders-2"]);
}

/// With topic ids and without, named and matched; and there may be fewer partitions than there were.
#[test]
fn a_topic_made_anew_is_read_from_its_beginning() {
    for release in [Release::new(2, 5), Settings::default().release] {
        for builder in
            [standalone().subscribe(["orders"]), standalone().subscribe_pattern("orders"), standalone().assign([("orders", 0)])]
        {
            let mut settings = Settings::default();
            settings.release = release;
            let mut world = World::seeded(2, 7, settings);
            world.produce(0, 30);
            let client = read(&mut world, builder);
            world.run(secs(5));
            make_orders_anew(&mut world);
            world.run(secs(30));
            assert_eq!(handed(&world, client, &orders(0)), (0..20).collect::<Vec<_>>());
            assert_eq!(holds(&world, client), ["orders-0"]);
            assert!(world.clients[client].problems.len() <= 3, "{:?}", world.clients[client].problems);
        }
    }
}

/// A topic that was only not to be seen is read on where reading was.
#[test]
fn nothing_is_read_again_because_nobody_told_of_the_topic_for_a_while() {
    let mut world = World::new(1);
    world.produce(0, 20);
    let client = read(&mut world, standalone().subscribe(["orders"]).offset_reset(OffsetReset::Latest));
    world.run(secs(5));
    world.produce(0, 20);
    world.run(secs(5));
    world.kafka.fail_next(Api::Metadata, usize::MAX, Verdict::Error(ResponseError::UnknownTopicOrPartition));
    world.run(secs(30));
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::UnknownTopic]);
    world.produce(0, 20);
    world.heal();
    world.run(secs(30));
    assert_eq!(handed(&world, client, &orders(0)), (20..60).collect::<Vec<_>>());
}

#[test]
fn what_is_read_changes_as_the_program_says() {
    let mut world = World::new(2);
    world.create("other", 1);
    let other = TopicPartition::new("other", 0);
    [orders(0), orders(1), other.clone()].iter().for_each(|of| world.produce_to(of, 10));
    let client = read(&mut world, standalone().subscribe(["orders"]));
    // What is not acknowledged does not hold up what nobody commits.
    world.habits(client, |habits| habits.work = secs(3600));
    world.run(secs(2));
    world.with_handle(client, |handle| handle.subscribe(["other"]).unwrap());
    world.run(secs(2));
    assert_eq!(holds(&world, client), ["other-0"]);
    assert_eq!(handed(&world, client, &other).len(), 10);
    world.with_handle(client, |handle| handle.assign([("orders", 1), ("other", 0)]).unwrap());
    world.run(secs(2));
    assert_eq!(holds(&world, client), ["orders-1", "other-0"]);
    assert_eq!(handed(&world, client, &orders(1)), (0..10).chain(0..10).collect::<Vec<_>>(), "it begins anew");
    assert_eq!(handed(&world, client, &other).len(), 10, "what stays is read on");
    world.with_handle(client, |handle| handle.unsubscribe());
    world.run(secs(2));
    assert_eq!(holds(&world, client), [""; 0]);
    world.close(client, secs(100));
    world.run(ms(1));
    assert_eq!(world.clients[client].closed, Some(Default::default()), "nothing is waited for");
}

/// Nobody waits for its partitions, and nothing is committed.
#[test]
fn who_stalls_keeps_everything_and_closes_at_once() {
    let mut world = World::new(1);
    world.produce(0, 10);
    let client = read(&mut world, standalone().subscribe(["orders"]).processing_timeout(secs(20)));
    world.habits(client, |habits| (habits.at_once, habits.work) = (3, secs(3600)));
    world.run(secs(600));
    // Its hands are full, so it hears of nothing: what would be said counts.
    assert_eq!((world.clients[client].said("Problem"), holds(&world, client).len()), (vec![], 1));
    world.close(client, secs(0));
    world.run(ms(1));
    assert_eq!(world.clients[client].closed, Some(Default::default()));
}

#[test]
fn what_is_dropped_is_delivered_again_without_a_group_too() {
    let mut world = World::new(1);
    (0..10).for_each(|_| world.produce(0, 10));
    let few_at_a_time = standalone().subscribe(["orders"]).unacked_records_max(10).partition_fetch_bytes_max(1);
    let client = read(&mut world, few_at_a_time);
    world.habits(client, |habits| (habits.work, habits.drops_percent) = (ms(5), 30));
    world.run(secs(200));
    assert!(world.problem_kinds(client).contains(&ConsumeErrorKind::TooManyUnacked), "and it went on");
    let mut seen = handed(&world, client, &orders(0));
    assert!(seen.len() > 110, "{} deliveries", seen.len());
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert_eq!(world.clients[client].handle.stats().unacked_records, 0);
    let lag = &world.clients[client].handle.lag()[0];
    assert_eq!((lag.position, lag.committed, lag.end, lag.records()), (100, None, Some(100), Some(0)));
}

#[test]
fn at_most_once_has_nothing_to_stand_on() {
    let mut world = World::new(1);
    world.produce(0, 10);
    let client = world.join(standalone().subscribe(["orders"]), |consumer| Records::AtMostOnce(consumer.at_most_once()));
    let problems = &world.clients[client].problems;
    assert_eq!(problems.len(), 1, "at once");
    assert!(problems[0].1.kind() == ConsumeErrorKind::NoGroup && problems[0].1.is_fatal(), "{:?}", problems[0]);
    world.run(secs(10));
    assert_eq!(handed(&world, client, &orders(0)), [0; 0]);
    world.close(client, secs(5));
    world.run(ms(1));
    assert_eq!(world.clients[client].closed, Some(Default::default()));
}

// ---------------------------------------------------------------- beside a group

#[test]
fn a_crash_beside_a_group_goes_on_at_what_is_committed() {
    let mut world = World::new(3);
    (0..3).for_each(|partition| world.produce(partition, 100));
    let first = read(&mut world, beside(&[0, 2]));
    world.habits(first, |habits| (habits.at_once, habits.work) = (5, ms(100)));
    world.run(secs(3));
    world.kill(first);
    let committed = [0, 1, 2].map(|partition| world.committed(&orders(partition)));
    assert!(committed[0].is_some_and(|at| at > 10) && committed[1].is_none(), "{committed:?}");
    let second = read(&mut world, beside(&[0, 2]));
    let of_both = |world: &World| [0, 2].iter().all(|partition| world.committed(&orders(*partition)) == Some(100));
    world.run_until(secs(10), of_both);
    assert_eq!(handed(&world, second, &orders(1)), [0; 0]);
    assert!(world.repeats() <= 60, "{} records were read again", world.repeats());
    assert_eq!(world.count(Api::JoinGroup) + world.count(Api::Heartbeat), 0);
    // Whoever joins finds it there.
    world.close(second, secs(5));
    world.at_least_once();
    world.finish(secs(10));
}

#[test]
fn all_modes_go_beside_a_group() {
    for read in [
        |consumer: Consumer| Records::AtLeastOnce(consumer.at_least_once()),
        |consumer: Consumer| Records::Batches(consumer.batches()),
        |consumer: Consumer| Records::AtMostOnce(consumer.at_most_once()),
        |consumer: Consumer| Records::Manual(consumer.manual()),
        |consumer: Consumer| Records::Partitions(consumer.partitions(), Vec::new()),
        |consumer: Consumer| Records::Placed(consumer.unplaced_partitions(), Vec::new()),
    ] {
        let mut world = World::new(2);
        let client = world.join(beside(&[0, 1]).offset_reset(OffsetReset::Earliest), read);
        world.run(secs(3));
        (0..2).for_each(|partition| world.produce(partition, 50));
        world.finish(secs(20));
        assert_eq!(world.repeats(), 0);
        world.close(client, secs(5));
        world.run(secs(1));
        assert_eq!(world.clients[client].closed, Some(Default::default()));
    }
}

/// The coordinator takes commits of no member only while there is none.
#[test]
fn commits_into_a_living_group_are_refused_told_and_tried_again_rarely() {
    let mut world = World::new(2);
    world.produce(0, 10);
    let another = || builder_of_nothing(GROUP).subscribe(["another"]);
    let member = world.join(another(), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.create("another", 1);
    world.run(secs(20));
    let client = read(&mut world, beside(&[0]));
    world.run(secs(120));
    let problems = &world.clients[client].problems;
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::CommitRefused], "once");
    assert!(problems[0].1.to_string().contains("it has members"), "{}", problems[0].1);
    assert!(!problems[0].1.is_fatal());
    assert_eq!(handed(&world, client, &orders(0)).len(), 10, "reading goes on");
    let commits = world.count(Api::OffsetCommit);
    assert!((10..=30).contains(&commits), "{commits} in two minutes");
    world.close(member, secs(5));
    world.run_until(secs(10), |world| world.committed(&orders(0)) == Some(10));
    // Said again when it happens again.
    let member = world.join(another(), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(5));
    world.produce(0, 10);
    world.run(secs(20));
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::CommitRefused; 2]);
    // Who closes does not wait for what will not be.
    world.close(client, secs(600));
    world.run(secs(1));
    let unfinished = world.clients[client].closed.clone();
    assert!(unfinished.is_some(), "it has not closed");
    world.close(member, secs(5));
}

/// At most once, what is not committed is not handed out; the stream says why.
#[test]
fn at_most_once_in_a_living_group_hands_out_nothing() {
    let mut world = World::new(2);
    let client =
        world.join(beside(&[0]).offset_reset(OffsetReset::Earliest), |consumer| Records::AtMostOnce(consumer.at_most_once()));
    world.create("another", 1);
    let member =
        world.join(builder_of_nothing(GROUP).subscribe(["another"]), |consumer| Records::AtMostOnce(consumer.at_most_once()));
    world.run(secs(10));
    world.produce(0, 10);
    world.run(secs(60));
    assert_eq!(world.handed_out(&orders(0)), [0; 0]);
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::CommitRefused]);
    world.close(member, secs(5));
    world.run(secs(10));
    assert_eq!(world.handed_out(&orders(0)), (0..10).collect::<Vec<_>>());
}

#[test]
fn the_coordinator_is_found_again_where_it_is_only_committed_to() {
    let mut world = World::new(1);
    let client = read(&mut world, beside(&[0]));
    world.run(secs(3));
    for round in 0..4 {
        let (old, new) = (round % 3 + 1, (round + 1) % 3 + 1);
        world.produce(0, 10);
        world.elect(0, new);
        world.stop_broker(old);
        world.run(ms(1500));
        world.move_coordinator(new);
        world.run(secs(2));
        world.restart_brokers();
        world.finish(secs(10));
    }
    assert_eq!((world.repeats(), world.clients[client].said("Assigned").len()), (0, 1));
}

#[test]
fn what_is_no_longer_assigned_is_finished_and_committed_first() {
    let mut world = World::new(2);
    (0..2).for_each(|partition| world.produce(partition, 10));
    let client = read(&mut world, beside(&[0, 1]).commit_interval(secs(600)));
    world.habits(client, |habits| habits.work = secs(3));
    world.run(secs(2));
    world.with_handle(client, |handle| handle.assign([orders(1)]).unwrap());
    world.run(ms(200));
    assert_eq!(holds(&world, client).len(), 2, "ten are in work");
    world.run(secs(3));
    assert_eq!(holds(&world, client), ["orders-1"]);
    assert_eq!([0, 1].map(|partition| world.committed(&orders(partition))), [Some(10), None]);
    let refused = world.clients[client].handle.subscribe(["orders"]).unwrap_err().to_string();
    assert!(refused.contains("Handle::assign"), "{refused}");
    world.close(client, secs(10));
    world.finish(secs(10));
    assert_eq!(world.repeats(), 0);
}

#[test]
fn an_idle_one_asks_for_nothing_but_records() {
    let mut world = World::new(3);
    let client =
        read(&mut world, Consumer::standalone(bootstrap()).subscribe(["orders"]).commit_interval(Duration::from_secs(5)));
    world.run(secs(10));
    let (wakeups, seen) = (world.clients[client].wakeups, world.requests.len());
    world.run(secs(60));
    let (wakeups, requests) = (world.clients[client].wakeups - wakeups, &world.requests[seen..]);
    assert!(
        requests.iter().all(|request| request.api == Api::Fetch),
        "{:?}",
        requests.iter().map(|request| request.api).collect::<Vec<_>>()
    );
    assert!(requests.len() <= 60 * 2 * 3, "{} requests", requests.len());
    assert!(wakeups <= 30, "{wakeups} wake-ups");
}
