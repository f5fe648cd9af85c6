//! Getting at the records: each scenario is something that went wrong elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kafka_protocol::messages::{
    FetchResponse, RequestKind, ResponseKind,
    fetch_response::{FetchableTopicResponse, PartitionData},
};
use ottla_mock::{Api, Record, Release, ResponseError, Settings, Verdict};

use super::{
    user::Records,
    world::{Request, World, builder, ms, orders, secs},
};
use crate::{
    consumer::{ConsumerBuilder, OffsetReset},
    error::ConsumeErrorKind,
    records::encode::TestBatch,
};

fn join(world: &mut World, builder: ConsumerBuilder) -> usize {
    world.join(builder, |consumer| Records::AtLeastOnce(consumer.at_least_once()))
}

/// Elsewhere, memory grew without a limit while the user did not take anything (librdkafka #5140, franz-go #701).
#[test]
fn what_is_fetched_and_not_taken_stays_within_the_budget() {
    const BUDGET: usize = 40_000;
    let mut world = World::new(6);
    for partition in 0..6 {
        for _ in 0..100 {
            world.produce(partition, 20);
        }
    }
    let client =
        join(&mut world, builder().buffer_bytes_max(BUDGET).partition_fetch_bytes_max(10_000).processing_timeout(secs(1000)));
    world.habits(client, |habits| habits.takes = false);
    world.run(secs(30));
    let sent = world.bytes_fetched;
    assert!(sent <= BUDGET && sent > BUDGET / 2, "{sent} bytes");
    let fetches = world.count(Api::Fetch);
    world.run(secs(30));
    assert_eq!(world.count(Api::Fetch), fetches, "there is no room to ask for anything");
    world.habits(client, |habits| habits.takes = true);
    world.finish(secs(60));
}

/// Elsewhere, what was fetched of a paused partition was thrown away and fetched again and again (KAFKA-7548, librdkafka #5343).
#[test]
fn a_paused_partition_is_not_fetched_and_what_was_fetched_is_kept() {
    let mut world = World::new(2);
    for _ in 0..50 {
        world.produce(0, 20);
        world.produce(1, 20);
    }
    let client = join(&mut world, builder().buffer_bytes_max(200_000).partition_fetch_bytes_max(5_000));
    world.habits(client, |habits| (habits.at_once, habits.work) = (1, ms(5)));
    world.run(secs(4));
    world.with_handle(client, |handle| handle.pause([&orders(0)]));
    world.run(secs(2));
    let (handed, seen) = (world.handed_out(&orders(0)).len(), world.requests.len());
    world.habits(client, |habits| habits.work = ms(0));
    world.run(secs(30));
    assert!(world.handed_out(&orders(0)).len() <= handed + 1);
    assert_eq!(world.handed_out(&orders(1)).len(), 1000, "the other partition goes on");
    let asked = |seen: &Request| seen.fetched.iter().any(|(partition, _)| *partition == orders(0));
    assert!(!world.requests[seen..].iter().any(asked));
    world.with_handle(client, |handle| handle.resume([&orders(0)]));
    world.finish(secs(10));
    let mut froms: Vec<_> = world.requests.iter().flat_map(|seen| &seen.fetched).filter(|(of, _)| *of == orders(0)).collect();
    froms.dedup();
    assert!(froms.is_sorted(), "nothing was fetched twice");
    assert_eq!(world.repeats(), 0);
}

/// What was paused was fetched again after a seek, and its records took the room of others until it was resumed.
#[test]
fn a_seek_does_not_end_a_pause() {
    let mut world = World::new(1);
    world.produce(0, 20);
    let client = world.at_least_once();
    world.run(secs(5));
    world.with_handle(client, |handle| handle.pause([&orders(0)]));
    world.run(secs(2));
    let seen = world.requests.len();
    world.with_handle(client, |handle| handle.seek(&orders(0), crate::consumer::SeekTo::Offset(10)));
    world.run(secs(5));
    assert!(world.requests[seen..].iter().all(|seen| seen.fetched.is_empty()), "it is paused");
    assert_eq!(world.handed_out(&orders(0)).len(), 20);
    world.with_handle(client, |handle| handle.resume([&orders(0)]));
    world.run(secs(5));
    assert_eq!(world.handed_out(&orders(0))[20..], (10..20).collect::<Vec<_>>());
}

/// Elsewhere, one slow partition held up every other of its broker (sarama).
#[test]
fn a_partition_nobody_takes_from_does_not_hold_up_the_others() {
    let mut world = World::new(1);
    world.grow("orders", 21);
    for partition in 0..21 {
        world.produce(partition, 100);
    }
    let client = world.at_least_once();
    world.run(ms(10));
    world.with_handle(client, |handle| handle.pause([&orders(3)]));
    world.run(secs(5));
    world.with_handle(client, |handle| handle.pause([&orders(3)]));
    let others = (0..21).filter(|partition| *partition != 3).map(|partition| world.handed_out(&orders(partition)).len());
    assert_eq!(others.sum::<usize>(), 2000);
}

/// The program is slow, and far behind in one partition. What comes in the others waits for what one Fetch has brought of that one, at most.
#[test]
fn one_hot_partition_keeps_none_of_a_thousand_quiet_ones_waiting() {
    let mut world = World::new(1000);
    for _ in 0..100 {
        world.produce(0, 100);
    }
    // A batch at a time, on which the program works for a tenth of a second.
    let client = join(&mut world, builder().partition_fetch_bytes_max(1_000));
    world.habits(client, |habits| (habits.at_once, habits.work) = (1, ms(1)));
    world.run(secs(2));
    for quiet in (1..1000).step_by(37) {
        let came = world.now;
        world.produce(quiet, 1);
        while world.handed_out(&orders(quiet)).is_empty() {
            assert!(world.now < came + ms(150), "partition {quiet} waits");
            world.run(ms(1));
        }
    }
    let hot = world.handed_out(&orders(0)).len();
    assert!((2_000..10_000).contains(&hot), "the hot one is read all the while, and not done: {hot}");
}

/// Elsewhere, a record larger than what a fetch asks for was skipped (sarama).
#[test]
fn a_record_larger_than_any_limit_of_a_fetch_is_read_whole() {
    let mut world = World::new(1);
    world.produce(0, 5);
    world.kafka.append("orders", 0, [Record::new("v5").key(vec![b'x'; 100_000])]);
    world.became_visible(&orders(0), 5..6);
    world.produce(0, 5);
    let client = join(&mut world, builder().partition_fetch_bytes_max(1_000).buffer_bytes_max(10_000));
    world.finish(secs(5));
    assert_eq!(world.handed_out(&orders(0)), (0..11).collect::<Vec<_>>());
    assert_eq!(world.problem_kinds(client), []);
}

/// Deletes the topic, and creates it with one partition and 20 records after a while in which it is looked for without haste.
pub(super) fn make_orders_anew(world: &mut World) {
    world.delete("orders");
    world.run(secs(30));
    let seen = world.requests.len();
    world.run(secs(60));
    assert!(world.requests.len() - seen <= 300, "{} requests in a minute", world.requests.len() - seen);
    // The offsets went with the topic.
    world.create("orders", 1);
    world.produce(0, 20);
}

/// Elsewhere, a topic that was deleted and made anew was never read again, with 1,000 errors a second (franz-go 1.22).
#[test]
fn a_topic_made_anew_is_read_from_its_beginning() {
    let mut world = World::new(1);
    world.produce(0, 30);
    let client = world.at_least_once();
    world.finish(secs(5));
    make_orders_anew(&mut world);
    world.finish(secs(30));
    assert_eq!(world.handed_out(&orders(0)), (0..20).collect::<Vec<_>>());
    assert!(world.clients[client].problems.len() <= 3, "{:?}", world.clients[client].problems);
}

/// Elsewhere, one batch that could not be read stopped every partition for good, in silence (confluent 1.0).
#[test]
fn a_broken_batch_stops_its_partition_only_with_its_offset_named() {
    let mut world = World::new(2);
    world.produce(0, 5);
    world.kafka.append_corrupt("orders", 0, ["x", "y", "z"]);
    world.produce(0, 5);
    let client = world.at_least_once();
    world.run(secs(5));
    world.produce(1, 10);
    world.run(secs(60));
    assert_eq!(world.handed_out(&orders(0)), (0..5).collect::<Vec<_>>());
    assert_eq!(world.handed_out(&orders(1)).len(), 10);
    assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::Corrupt]);
    let (_, problem) = &world.clients[client].problems[0];
    assert!(problem.to_string().contains("offset 5 of orders-0"), "{problem}");
    assert_eq!(world.committed(&orders(0)), Some(5));
    world.excuse(&orders(0), 8);
    world.with_handle(client, |handle| handle.seek(&orders(0), crate::consumer::SeekTo::Offset(8)));
    world.finish(secs(5));
}

/// The checksum is right, and a record within the batch makes no sense: it is found when the records are gone through, or when nobody
/// does. Either way it is told, not acked, and nothing behind it is handed out.
#[test]
fn a_batch_with_a_record_that_makes_no_sense_ends_before_it() {
    fn check(join: fn(&mut World) -> usize) {
        let mut world = World::new(1);
        world.produce(0, 5);
        // The fourth record claims the offset of the third.
        world.kafka.append_raw("orders", 0, TestBatch::sparse(5, &[0, 1, 2, 2], Some(3)).encode());
        world.became_visible(&orders(0), 5..9);
        world.produce(0, 5);
        let client = join(&mut world);
        world.run(secs(60));
        assert_eq!(world.handed_out(&orders(0)), (0..8).collect::<Vec<_>>());
        assert_eq!(world.problem_kinds(client), [ConsumeErrorKind::Corrupt]);
        let (_, problem) = &world.clients[client].problems[0];
        assert!(problem.to_string().contains("offset 8 of orders-0"), "{problem}");
        assert_eq!(world.committed(&orders(0)), Some(8));
    }
    check(|world| world.at_least_once());
    check(|world| world.join(builder(), |consumer| Records::Batches(consumer.batches())));
    check(|world| world.join(builder(), |consumer| Records::Manual(consumer.manual())));
}

/// Elsewhere, an answer that named a partition nobody had asked for ended the process (librdkafka 2.12).
#[test]
fn a_partition_nobody_asked_for_is_ignored() {
    let mut world = World::new(2);
    let mut turn = 0;
    world.kafka.intercept(Api::Fetch, move |request| {
        turn += 1;
        // Now and then, something else than what was asked for.
        stray(request.body).filter(|_| turn % 3 == 0).map_or(Verdict::Pass, |stray| Verdict::Reply(Box::new(stray)))
    });
    world.produce(0, 10);
    world.produce(1, 10);
    world.at_least_once();
    world.finish(secs(10));
    assert_eq!(world.repeats(), 0);
}

/// Names a partition that nobody has, in the topic that was asked for, if one is named.
fn stray(request: &RequestKind) -> Option<ResponseKind> {
    let RequestKind::Fetch(request) = request else { unreachable!("only Fetch is intercepted") };
    let topic = request.topics.first()?;
    let partition = PartitionData::default().with_partition_index(17).with_high_watermark(3).with_records(Some("junk".into()));
    let topic = FetchableTopicResponse::default().with_topic_id(topic.topic_id).with_partitions(vec![partition]);
    Some(ResponseKind::Fetch(FetchResponse::default().with_responses(vec![topic])))
}

/// Elsewhere, a follower's word, or a stale leader's, sent the reader back to the beginning (librdkafka #4616).
#[test]
fn out_of_range_counts_only_from_the_leader_at_our_own_position() {
    let mut world = World::new(1);
    world.produce(0, 50);
    world.at_least_once();
    world.finish(secs(5));
    let asked = world.count(Api::ListOffsets);
    world.kafka.fail_next(Api::Fetch, 1, Verdict::Delay(secs(5)));
    world.run(secs(1));
    world.elect(0, 2);
    world.kafka.fail_next(Api::Fetch, 3, Verdict::Error(ResponseError::NotLeaderOrFollower));
    world.produce(0, 50);
    world.finish(secs(30));
    assert_eq!(world.count(Api::ListOffsets), asked);
    assert_eq!(world.repeats(), 0);
}

#[test]
fn records_that_were_deleted_are_stepped_over_and_no_others() {
    let mut world = World::new(1);
    for _ in 0..10 {
        world.produce(0, 10);
    }
    let client = world.at_least_once();
    world.finish(secs(5));
    world.freeze(client, true);
    for _ in 0..10 {
        world.produce(0, 10);
    }
    world.delete_before(&orders(0), 150);
    world.freeze(client, false);
    world.finish(secs(30));
    let handed = world.handed_out(&orders(0));
    // One answer was on its way already.
    assert_eq!(handed[..100], (0..100).collect::<Vec<_>>());
    assert_eq!(handed[handed.len() - 50..], (150..200).collect::<Vec<_>>());
    assert_eq!(world.repeats(), 0);
}

/// After an unclean election what was lost is not waited for, and what came in its place is read, and finished, before it is committed.
#[test]
fn a_truncated_log_is_read_on_from_where_it_was_cut() {
    let mut world = World::new(1);
    for _ in 0..10 {
        world.produce(0, 10);
    }
    let client = join(&mut world, builder().offset_reset(OffsetReset::Earliest));
    world.finish(secs(5));
    world.habits(client, |habits| (habits.at_once, habits.work) = (10, ms(500)));
    world.truncate(&orders(0), 80);
    world.produce(0, 40);
    // What is committed must go back, too: 100 is finished no more.
    world.run_until(secs(5), |world| world.committed(&orders(0)).is_some_and(|committed| (81..100).contains(&committed)));
    world.run_until(secs(30), |world| world.handed_out(&orders(0)).len() == 140);
    world.finish(secs(30));
    let handed = world.handed_out(&orders(0));
    assert_eq!(handed[100..], (80..120).collect::<Vec<_>>(), "{:?}", world.clients[client].problems);
}

/// Found by the simulation: a position at the end of a log named the newest epoch, nothing was written in it before the next leader
/// came, whose brokers have forgotten it then; the reader took their word for nonsense, and asked for ever.
#[test]
fn an_epoch_in_which_nothing_was_written_is_no_obstacle() {
    let mut world = World::new(1);
    world.produce(0, 5);
    world.elect(0, 2);
    let client = world.at_least_once();
    world.run(secs(5));
    world.with_handle(client, |handle| handle.seek(&orders(0), crate::consumer::SeekTo::End));
    world.run(secs(5));
    world.elect(0, 3);
    world.produce(0, 5);
    world.finish(secs(30));
    assert_eq!(world.problem_kinds(client), []);
    assert_eq!(world.repeats(), 0);
}

/// Found by the simulation: what had been fetched, and lay below where the log was cut, was thrown away and never read again.
#[test]
fn what_a_truncation_leaves_unfinished_is_read_again() {
    let mut world = World::new(1);
    for _ in 0..3 {
        world.produce(0, 10);
    }
    let client = world.at_least_once();
    world.habits(client, |habits| (habits.at_once, habits.work) = (1, ms(500)));
    world.run(secs(3));
    let done = world.handed_out(&orders(0)).len() as i64;
    assert!((2..10).contains(&done), "{done} of the first batch");
    world.truncate(&orders(0), 20);
    world.produce(0, 15);
    world.finish(secs(60));
    assert!((0..35).all(|offset| world.handed_out(&orders(0)).contains(&offset)));
    assert!(world.repeats() <= 1, "only what was in hand comes again: {}", world.repeats());
}

/// The same, where nobody was there to see that the topic was away.
#[test]
fn a_topic_replaced_by_another_of_its_name_is_read_from_its_beginning() {
    let mut world = World::new(1);
    world.produce(0, 30);
    let client = world.at_least_once();
    world.finish(secs(5));
    world.delete("orders");
    world.create("orders", 1);
    world.produce(0, 50);
    world.finish(secs(30));
    assert_eq!(world.handed_out(&orders(0)), (0..50).collect::<Vec<_>>());
    assert!(world.clients[client].said("Lost").is_empty());
}

/// Found by the simulation: the position that was validated had been committed in the topic before, and nobody compared the two.
#[test]
fn a_topic_replaced_while_a_position_is_validated_is_read_from_its_beginning() {
    let mut world = World::new(2);
    world.produce(1, 20);
    let first = world.at_least_once();
    world.finish(secs(10));
    world.close(first, secs(1));
    world.run(secs(2));
    // Its leader is asked whether the log still has what was committed, and is away.
    world.stop_broker(2);
    let second = world.at_least_once();
    world.run(secs(10));
    assert!(world.clients[second].holds.contains_key(&orders(1)) && world.clients[second].said("Started").len() == 1);
    world.delete("orders");
    world.create("orders", 2);
    world.produce(1, 50);
    world.restart_brokers();
    world.finish(secs(30));
    assert_eq!(world.handed_out(&orders(1)), (0..50).collect::<Vec<_>>());
    assert_eq!(world.problem_kinds(second), [], "nothing was truncated");
}

/// Found by the simulation: where brokers have no topic ids, who read a topic that went, and came again with more in it than had been read,
/// went on in the midst of it. A leader of the group that did not look meanwhile had no reason to assign anything anew.
#[test]
fn a_topic_that_was_away_is_another_where_topics_have_no_ids() {
    let mut settings = Settings::default();
    settings.release = Release::new(2, 7);
    let mut world = World::seeded(1, 7, settings);
    world.produce(0, 30);
    for _ in 0..3 {
        world.at_least_once();
    }
    world.finish(secs(20));
    world.run(secs(20));
    let owner = world.holders(&orders(0));
    let joins = world.count(Api::JoinGroup);
    world.delete("orders");
    world.run(secs(10));
    world.create("orders", 1);
    world.produce(0, 50);
    world.finish(secs(30));
    assert_eq!(world.handed_out(&orders(0)), (0..50).collect::<Vec<_>>());
    assert_eq!((world.holders(&orders(0)), world.count(Api::JoinGroup)), (owner, joins), "nobody else noticed");
}

/// What is thrown away unread is room again.
#[test]
fn rebalances_and_seeks_leave_the_budget_whole() {
    let mut world = World::new(2);
    for _ in 0..200 {
        world.produce(0, 10);
        world.produce(1, 10);
    }
    let client = join(&mut world, builder().buffer_bytes_max(20_000).partition_fetch_bytes_max(8_000));
    world.habits(client, |habits| (habits.at_once, habits.work) = (1, ms(20)));
    for round in 0..15 {
        world.run(secs(1));
        match round % 2 {
            0 => world.rebalance(),
            _ => world.with_handle(client, |handle| handle.seek(&orders(0), crate::consumer::SeekTo::Offset(round * 5))),
        }
    }
    world.excuse(&orders(0), 70);
    world.run(secs(5));
    world.habits(client, |habits| habits.work = ms(0));
    world.run(secs(20));
    for partition in [orders(0), orders(1)] {
        assert_eq!(world.committed(&partition), Some(2000), "{}", world.report());
    }
}

/// After a broker died the partitions it led are read within seconds of their election.
#[test]
fn a_broker_that_dies_is_gone_for_a_second_or_two() {
    let mut world = World::new(3);
    world.at_least_once();
    world.run(secs(4));
    world.stop_broker(2);
    world.run(secs(1));
    world.elect(1, 3);
    world.produce(1, 10);
    world.produce(0, 10);
    let since = world.now;
    world.run_until(secs(3), |world| world.handed_out(&orders(1)).len() == 10);
    assert!(world.now - since <= ms(1500), "{:?}", world.now - since);
    world.finish(secs(3));
    assert_eq!(world.repeats(), 0);
}

/// However long a cluster is away, it is asked for seldom, and found again within seconds.
#[test]
fn a_cluster_that_is_away_for_an_hour_is_found_again_within_seconds() {
    let mut world = World::new(2);
    world.produce(0, 10);
    let client = world.at_least_once();
    world.finish(secs(5));
    for broker in 1..=3 {
        world.stop_broker(broker);
    }
    let wakeups = world.clients[client].wakeups;
    world.run(secs(3600));
    let wakeups = world.clients[client].wakeups - wakeups;
    assert!(wakeups <= 3600 * 12, "{wakeups} wake-ups");
    assert!(!world.clients[client].problems.is_empty());
    assert!(world.clients[client].problems.len() <= 130, "said {} times", world.clients[client].problems.len());
    world.restart_brokers();
    world.produce(0, 10);
    world.finish(secs(25));
}

/// How many Fetches each broker was asked that name a partition.
fn fetches_of(world: &mut World) -> Arc<[AtomicUsize; 4]> {
    let counts = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let counted = Arc::clone(&counts);
    world.kafka.intercept(Api::Fetch, move |request| {
        counted[request.broker as usize].fetch_add(1, Ordering::Relaxed);
        Verdict::Pass
    });
    counts
}

/// The leader of a rack's reader sends no records but the way to a replica. Who does not go it reads nothing.
#[test]
fn the_nearest_replica_is_read_and_the_leader_where_it_fails() {
    let mut world = World::new(6);
    world.in_racks();
    let fetches = fetches_of(&mut world);
    let asked = |broker: usize| fetches[broker].load(Ordering::Relaxed);
    join(&mut world, builder().client_rack("rack2"));
    for _ in 0..10 {
        (0..6).for_each(|partition| world.produce(partition, 10));
        world.run(secs(1));
    }
    // Each of the two other leaders is asked once or twice, until it has sent all its partitions away.
    assert!(asked(1) <= 4 && asked(3) <= 4 && asked(2) >= 20, "{fetches:?}");
    world.stop_broker(2);
    (0..6).for_each(|partition| world.produce(partition, 10));
    world.run(secs(10));
    assert_eq!(world.handed_out(&orders(0)).len(), 110, "the leaders are read");
    // And when it is back, it is found within a minute, by each leader's word.
    world.restart_brokers();
    world.run(secs(60));
    let before = (asked(1), asked(2), asked(3));
    world.run(secs(20));
    assert!(asked(2) > before.1 && (asked(1), asked(3)) == (before.0, before.2), "{before:?}, {fetches:?}");
    world.finish(secs(20));
    assert_eq!(world.repeats(), 0);
}

/// A replica that is behind has nothing out of range, and is read on when it has caught up.
#[test]
fn a_replica_that_is_behind_is_waited_for() {
    let mut world = World::new(1);
    world.in_racks();
    world.produce(0, 10);
    world.kafka.elect("orders", 0, 1);
    join(&mut world, builder().client_rack("rack2").metadata_max_age(secs(20)));
    world.run(secs(5));
    assert_eq!(world.handed_out(&orders(0)).len(), 10);
    world.kafka.hold_followers("orders", 0, Some(10));
    world.produce(0, 10);
    world.run(secs(5));
    assert_eq!(world.handed_out(&orders(0)).len(), 10, "the replica has no more");
    world.kafka.hold_followers("orders", 0, None);
    world.finish(secs(25));
    assert_eq!(world.repeats(), 0);
}
