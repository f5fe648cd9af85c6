//! What is handed out, and what is committed: each scenario is something that went wrong elsewhere.

use ottla_mock::{Api, Outcome, ResponseError, Verdict};

use super::{
    user::Records,
    world::{GROUP, World, builder, ms, orders, secs},
};
use crate::consumer::SeekTo;

#[test]
fn everything_is_handed_out_once_in_order_and_committed() {
    let mut world = World::new(2);
    world.produce(0, 100);
    world.at_least_once();
    world.finish(secs(3));
    world.produce(1, 50);
    world.produce(0, 1);
    world.finish(secs(2));
    assert_eq!(world.handed_out(&orders(0)), (0..101).collect::<Vec<_>>());
    assert_eq!(world.handed_out(&orders(1)), (0..50).collect::<Vec<_>>());
    assert!(world.count(Api::OffsetCommit) <= 5);
}

/// Elsewhere, what was handed out between the commit of a revocation and its end was read again by the next owner (KAFKA-14196).
#[test]
fn a_clean_hand_over_repeats_nothing() {
    let mut world = World::new(4);
    for partition in 0..4 {
        world.produce(partition, 400);
    }
    let first = world.at_least_once();
    world.habits(first, |habits| (habits.at_once, habits.work) = (8, ms(30)));
    world.run(secs(2));
    let second = world.at_least_once();
    world.habits(second, |habits| (habits.at_once, habits.work) = (8, ms(30)));
    world.run_until(secs(5), |world| world.clients[second].holds.len() == 2);
    world.finish(secs(60));
    assert_eq!(world.repeats(), 0);
    assert!(world.clients[first].said("Lost").is_empty());
}

/// Elsewhere, what was buffered was handed out after its partition had gone, or come back (KAFKA-16460, KAFKA-20332, kafka-go #1398).
#[test]
fn what_was_buffered_before_a_rebalance_is_not_handed_out_after_it() {
    let mut world = World::new(2);
    world.produce(0, 1000);
    world.produce(1, 1000);
    let client = world.at_least_once();
    world.habits(client, |habits| (habits.at_once, habits.work) = (1, ms(100)));
    world.run(secs(2));
    for _ in 0..5 {
        world.rebalance();
        world.run(secs(4));
    }
    world.habits(client, |habits| habits.work = ms(0));
    world.finish(secs(10));
    assert_eq!(world.repeats(), 0, "the member stayed alone, so it goes on exactly where it was");
}

/// Elsewhere, the position of the fetcher was committed in the background, and what a crash left in the buffer was lost (KAFKA-18641).
#[test]
fn a_crash_loses_nothing_that_was_fetched_and_not_finished() {
    let mut world = World::new(1);
    world.produce(0, 500);
    let first = world.at_least_once();
    world.habits(first, |habits| (habits.at_once, habits.work) = (20, ms(700)));
    world.run(secs(5));
    let done = world.committed(&orders(0)).expect("something was committed");
    assert!((1..500).contains(&done));
    world.kill(first);
    let second = world.at_least_once();
    world.finish(secs(20));
    let again = world.judge().handed_out.iter().find(|handed| handed.client == second).expect("finished");
    assert_eq!(again.offset, done, "the next member goes on at what was finished, to the record");
}

/// Elsewhere, a commit whose answer was lost or late was overtaken, or cancelled, and the offset went back (franz-go v1.21.0, sarama #2947).
#[test]
fn committed_offsets_never_go_back_whatever_becomes_of_the_answers() {
    let mut world = World::new(2);
    // An answer that never comes must be given up before the session ends: nothing else gets through on that connection.
    let impatient = builder().request_timeout(secs(5));
    let client = world.join(impatient, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    for round in 0..8 {
        let fate =
            [Verdict::Delay(secs(4)), Verdict::CloseAfterApplying, Verdict::NoReply, Verdict::CloseBefore][round % 4].clone();
        world.kafka.fail_next(Api::OffsetCommit, 1, fate.clone());
        for _ in 0..20 {
            world.produce(0, 5);
            world.produce(1, 3);
            world.run(ms(200));
        }
    }
    world.finish(secs(60));
    for partition in [orders(0), orders(1)] {
        let offsets: Vec<_> =
            world.stored.iter().filter(|commit| commit.partition == partition).map(|commit| commit.offset).collect();
        assert!(offsets.is_sorted(), "{partition}: {offsets:?}");
    }
    assert_eq!(world.repeats(), 0);
    assert!(world.clients[client].said("Lost").is_empty());
}

/// Elsewhere, a transaction's offsets that were not settled yet were not waited for, or not long enough (librdkafka #3265).
#[test]
fn offsets_that_are_not_stable_yet_are_waited_for_as_long_as_it_takes() {
    let mut world = World::new(2);
    world.produce(0, 100);
    world.produce(1, 100);
    world.begin_at(&orders(0), 60);
    world.kafka.leave_offset_pending(GROUP, "orders", 0, 80);
    world.at_least_once();
    world.run(secs(120));
    assert!(world.handed_out(&orders(0)).is_empty());
    assert_eq!(world.handed_out(&orders(1)).len(), 100, "the other partition goes on");
    assert!(world.count(Api::OffsetFetch) <= 150, "{} requests", world.count(Api::OffsetFetch));
    world.kafka.settle_pending_offsets(false);
    world.run(secs(3));
    assert_eq!(world.handed_out(&orders(0)), (60..100).collect::<Vec<_>>());
}

/// Elsewhere, an error while the committed offset was looked up was taken for "none", and the reset policy skipped records (librdkafka
/// #3442 and #4293, platformatic #267).
#[test]
fn no_error_leads_to_the_reset_policy() {
    let codes = [
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::NotCoordinator,
        ResponseError::CoordinatorNotAvailable,
        ResponseError::UnstableOffsetCommit,
        ResponseError::UnknownMemberId,
        ResponseError::StaleMemberEpoch,
        ResponseError::UnknownServerError,
    ];
    let fates = codes.map(Verdict::Error).into_iter().chain([
        Verdict::CloseAfterApplying,
        Verdict::Garbage,
        Verdict::CloseBefore,
        Verdict::Delay(secs(5)),
    ]);
    for fate in fates {
        let mut world = World::new(1);
        world.produce(0, 100);
        world.begin_at(&orders(0), 60);
        world.kafka.fail_next(Api::OffsetFetch, 3, fate.clone());
        world.at_least_once();
        world.run(secs(60));
        assert_eq!(world.count(Api::ListOffsets), 0, "{fate:?}");
        assert_eq!(world.handed_out(&orders(0)), (60..100).collect::<Vec<_>>(), "{fate:?}");
    }
}

/// Elsewhere, a failed validation of the position ended in a reset, too (librdkafka #4293, #4427).
#[test]
fn a_validation_that_fails_moves_nothing() {
    let fates = [ResponseError::UnknownServerError, ResponseError::TopicAuthorizationFailed, ResponseError::FencedLeaderEpoch]
        .map(Verdict::Error)
        .into_iter()
        .chain([Verdict::CloseAfterApplying, Verdict::Garbage, Verdict::NoReply]);
    for fate in fates {
        let mut world = World::new(1);
        world.produce(0, 10);
        world.at_least_once();
        world.finish(secs(5));
        world.kafka.fail_next(Api::OffsetForLeaderEpoch, 2, fate.clone());
        world.elect(0, 2);
        world.produce(0, 10);
        world.run(secs(120));
        assert!(world.is_done(), "{fate:?}:\n{}", world.report());
        assert!(world.count(Api::OffsetForLeaderEpoch) >= 2, "{fate:?}: the position was validated");
        assert_eq!(world.repeats(), 0, "{fate:?}");
        assert_eq!(world.count(Api::ListOffsets), 1, "{fate:?}: only for the group's first offset");
    }
}

/// Elsewhere, leaders that change, pauses and seeks handed out again what had been read, or skipped it (librdkafka #4249, #4686, #4637).
#[test]
fn new_leaders_and_pauses_repeat_nothing_and_skip_nothing() {
    let mut world = World::new(2);
    let client = world.at_least_once();
    world.habits(client, |habits| (habits.at_once, habits.work) = (3, ms(10)));
    for round in 0..30 {
        world.produce(0, 20);
        world.produce(1, 10);
        world.run(ms(100));
        match round % 5 {
            0 => world.elect(0, round / 5 % 3 + 1),
            1 => world.with_handle(client, |handle| handle.pause([&orders(0)])),
            2 => world.elect(0, round / 5 % 2 + 1),
            3 => world.with_handle(client, |handle| handle.resume([&orders(0)])),
            _ => world.kafka.fail_next(Api::OffsetForLeaderEpoch, 1, Verdict::Delay(ms(300))),
        }
    }
    world.with_handle(client, |handle| handle.resume([&orders(0)]));
    world.finish(secs(60));
    assert_eq!(world.repeats(), 0);
    assert!(world.handed_out(&orders(0)).is_sorted());
}

/// Elsewhere, what was fetched before a seek was handed out after it (krafka 0.17).
#[test]
fn a_seek_is_obeyed_from_the_next_record_on() {
    let mut world = World::new(1);
    world.produce(0, 1000);
    let client = world.at_least_once();
    world.habits(client, |habits| (habits.at_once, habits.work) = (1, ms(10)));
    world.run(secs(2));
    let before = world.handed_out(&orders(0)).len();
    world.excuse(&orders(0), 700);
    // It has a hand free at this very moment.
    world.clients[client].habits.at_once = 2;
    world.with_handle(client, |handle| handle.seek(&orders(0), SeekTo::Offset(700)));
    world.run(secs(5));
    let handed = world.handed_out(&orders(0));
    assert_eq!(handed[before..], (700..1000).collect::<Vec<_>>()[..handed.len() - before]);
    world.with_handle(client, |handle| handle.seek(&orders(0), SeekTo::Offset(10)));
    let before = handed.len();
    world.run(ms(500));
    let handed = world.handed_out(&orders(0));
    assert!(handed.len() > before + 10);
    assert_eq!(handed[before..], (10..).take(handed.len() - before).collect::<Vec<_>>());
}

/// Elsewhere, the commit stays below the markers of transactions, so that a group is never seen to be done.
#[test]
fn the_commit_passes_what_holds_no_records() {
    let mut world = World::new(1);
    for (count, outcome) in [(5, Outcome::Abort), (3, Outcome::Commit), (4, Outcome::Abort), (1, Outcome::Abort)] {
        world.produce_transaction(&orders(0), count, outcome);
    }
    world.at_least_once();
    world.run(secs(5));
    assert_eq!(world.handed_out(&orders(0)), [6, 7, 8]);
    assert_eq!(world.committed(&orders(0)), Some(17));
    world.produce_transaction(&orders(0), 2, Outcome::Abort);
    world.run(secs(5));
    assert_eq!(world.committed(&orders(0)), Some(20), "also where there was nothing else to read");
}

#[test]
fn an_open_transaction_is_waited_for() {
    let mut world = World::new(1);
    world.produce(0, 5);
    world.produce_transaction(&orders(0), 5, Outcome::Open);
    world.produce(0, 5);
    world.at_least_once();
    world.run(secs(5));
    assert_eq!(world.handed_out(&orders(0)), [0, 1, 2, 3, 4]);
    world.end_transactions(&orders(0), Outcome::Commit);
    world.finish(secs(3));
}

/// A record that is dropped unacked comes again, and holds the commit until it is done.
#[test]
fn what_was_dropped_unacked_is_handed_out_again_until_it_is_done() {
    let mut world = World::new(1);
    world.produce(0, 300);
    let client = world.at_least_once();
    world.habits(client, |habits| (habits.at_once, habits.work, habits.drops_percent) = (10, ms(5), 20));
    world.finish(secs(60));
    assert!(world.repeats() > 30);
}

/// Found by the simulation: the commit at the end of a batch, behind an aborted transaction of a newer leader, named the older epoch, so
/// that whoever came next believed that the log had been cut.
#[test]
fn a_manual_commit_names_the_epoch_of_what_lies_just_before_it() {
    let mut world = World::new(1);
    world.produce(0, 2);
    world.elect(0, 2);
    world.produce_transaction(&orders(0), 2, Outcome::Abort);
    let mode = |consumer: crate::consumer::Consumer| Records::Manual(consumer.manual());
    let first = world.join(builder(), mode);
    world.run(secs(5));
    assert_eq!(world.committed(&orders(0)), Some(5));
    world.kill(first);
    world.elect(0, 3);
    let second = world.join(builder(), mode);
    world.run(secs(20));
    assert_eq!(world.problem_kinds(second), []);
    assert_eq!(world.handed_out(&orders(0)), [0, 1]);
}

#[test]
fn at_most_once_hands_nothing_out_before_its_commit_or_twice() {
    let mut world = World::new(2);
    world.produce(0, 500);
    world.produce(1, 500);
    let mode = |consumer: crate::consumer::Consumer| Records::AtMostOnce(consumer.at_most_once());
    let earliest = || builder().offset_reset(crate::consumer::OffsetReset::Earliest);
    let first = world.join(earliest(), mode);
    world.kafka.fail_next(Api::OffsetCommit, 2, Verdict::CloseAfterApplying);
    world.run(secs(4));
    world.produce(0, 500);
    world.kafka.fail_next(Api::OffsetCommit, 1, Verdict::Delay(secs(2)));
    world.join(earliest(), mode);
    world.run(secs(10));
    world.produce(1, 300);
    world.kill(first);
    world.run(secs(60));
    let committed = [orders(0), orders(1)].map(|partition| world.committed(&partition));
    assert_eq!(committed, [Some(1000), Some(800)]);
    assert!(world.judge().handed_out.len() > 1500, "{} of 1800", world.judge().handed_out.len());
}

/// Closing waits for what is in work, commits it and leaves; the next member need not wait for any session to end.
#[test]
fn closing_finishes_what_is_in_work_and_hands_over_at_once() {
    let mut world = World::new(1);
    world.produce(0, 500);
    let first = world.at_least_once();
    let second = world.at_least_once();
    for client in [first, second] {
        world.habits(client, |habits| (habits.at_once, habits.work) = (5, ms(400)));
    }
    world.run(secs(10));
    let owner = world.holders(&orders(0))[0];
    world.close(owner, secs(10));
    world.run_until(secs(2), |world| world.clients[owner].closed.is_some());
    assert_eq!(world.clients[owner].closed, Some(Default::default()));
    world.run_until(secs(4), |world| world.holders(&orders(0)) == [first + second - owner]);
    world.finish(secs(60));
    assert_eq!(world.repeats(), 0);
}

/// A clean end is said only where everything is committed, though nobody waits for what the coordinator refuses for good.
#[test]
fn closing_says_what_the_coordinator_refused_to_commit() {
    for code in [
        ResponseError::TopicAuthorizationFailed,
        ResponseError::GroupAuthorizationFailed,
        ResponseError::InvalidCommitOffsetSize,
        ResponseError::OffsetMetadataTooLarge,
    ] {
        let mut world = World::new(2);
        let owner = world.join(builder(), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
        world.produce(0, 10);
        world.finish(secs(10));
        world.kafka.intercept(Api::OffsetCommit, move |_| Verdict::Error(code));
        world.produce(0, 10);
        world.run_until(secs(10), |world| world.handed_out(&orders(0)).len() == 20);
        world.run(secs(10));
        world.close(owner, secs(30));
        world.run_until(secs(10), |world| world.clients[owner].closed.is_some());
        let unfinished = world.clients[owner].closed.clone().expect("it has closed");
        assert_eq!((unfinished.in_work, unfinished.uncommitted), (vec![], vec![orders(0)]), "{code:?}");
        assert_eq!(world.committed(&orders(0)), Some(10));
    }
}

/// A user that finishes nothing any more cannot keep a partition for ever.
#[test]
fn a_user_that_stalls_loses_its_partitions_and_gets_them_back_when_it_goes_on() {
    let mut world = World::new(2);
    world.produce(0, 100);
    world.produce(1, 100);
    let first = world.at_least_once();
    world.habits(first, |habits| (habits.at_once, habits.work) = (10, secs(1000)));
    world.run(secs(5));
    let second = world.at_least_once();
    world.run(secs(120));
    assert_eq!(world.clients[second].holds.len(), 2);
    assert!(world.clients[first].holds.is_empty());
    assert!(world.is_done());
    world.ack_all(first);
    world.habits(first, |habits| (habits.at_once, habits.work) = (10, ms(1)));
    world.run(secs(10));
    assert_eq!(world.clients[first].holds.len(), 1, "{}", world.report());
    world.produce(0, 10);
    world.produce(1, 10);
    world.finish(secs(10));
}

/// An offset that somebody seeks has no epoch until something was read from there: that the log was cut and grew again meanwhile cannot be
/// seen, and is not what was asked. Whoever takes over before reads all of it; so does who has begun to read, and is told.
#[test]
fn a_seek_holds_where_the_log_is_cut_before_anything_was_read() {
    for is_taken_over in [false, true] {
        let mut world = World::new(1);
        world.produce(0, 5);
        let first = world.at_least_once();
        world.finish(secs(10));
        world.produce(0, 10);
        world.habits(first, |habits| habits.takes = false);
        // Nothing is read before the log is cut.
        world.kafka.fail_next(Api::Fetch, 100, Verdict::Error(ResponseError::NotLeaderOrFollower));
        world.run(secs(1));
        world.with_handle(first, |handle| handle.seek(&orders(0), crate::consumer::SeekTo::Offset(12)));
        world.run(secs(1));
        world.truncate(&orders(0), 5);
        world.produce(0, 20);
        if is_taken_over {
            world.kill(first);
            world.at_least_once();
        }
        world.kafka.heal();
        world.habits(first, |habits| habits.takes = true);
        world.run(secs(60));
        let from = if is_taken_over { 5 } else { 12 };
        assert_eq!(world.handed_out(&orders(0))[5..], (from..25).collect::<Vec<_>>(), "{}", world.report());
        let at = world.elapsed();
        assert!(world.judge().is_finished(at), "{}", world.report());
    }
}

/// A hand-over takes as long as the work that is still to be done, and no longer.
#[test]
fn a_revocation_ends_with_the_last_record_in_work() {
    let mut world = World::new(1);
    world.produce(0, 10);
    let rarely = builder().commit_interval(secs(600)).heartbeat_interval(ms(300));
    let client = world.join(rarely, |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.habits(client, |habits| habits.work = ms(4_321));
    world.run(secs(1));
    world.rebalance();
    world.run_until(secs(10), |world| world.clients[client].in_hand.is_empty());
    world.run(ms(20));
    assert_eq!(world.clients[client].said("Revoked").len(), 1, "{}", world.report());
    assert_eq!(world.committed(&orders(0)), Some(10));
}
