use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    consumer::{Delivery, run::RunCursor},
    model::{LeaderEpoch, TopicPartition},
    records::{Chunk, ChunkReader, Codecs, encode::TestBatch, index},
};

pub(crate) fn position(offset: i64, epoch: Option<i32>) -> Position {
    Position { offset: Offset(offset), leader_epoch: epoch.map(LeaderEpoch) }
}

pub(crate) fn segments(batches: &[TestBatch], from: i64) -> Vec<Segment> {
    let data: Bytes = batches.iter().flat_map(TestBatch::encode).collect::<Vec<_>>().into();
    let indexed = index(&data, Offset(from));
    assert_eq!(indexed.error, None);
    let next_offset = indexed.next_offset.expect("the batches reach the offset");
    let chunk = Chunk { data, heads: indexed.heads, aborted: Vec::new(), from: Offset(from), next_offset };
    let (mut reader, mut codecs) = (ChunkReader::new(chunk, true, true), Codecs::new(1 << 20));
    std::iter::from_fn(|| reader.next_segment(&mut codecs)).map(Result::unwrap).collect()
}

/// An assignment, and the notices that it gave.
pub(crate) struct Fixture {
    pub(crate) assigned: Arc<Assigned>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Fixture {
    pub(crate) fn new(start: i64) -> Self {
        let notices = Arc::<Mutex<Vec<Notice>>>::default();
        let sink = Arc::clone(&notices);
        let handle = PartitionHandle { partition: TopicPartition::new("orders", 4), assignment: 9 };
        let assigned = Assigned::new(handle, position(start, Some(1)), Arc::new(move |notice| sink.lock().unwrap().push(notice)));
        Self { assigned, notices }
    }

    /// Opens all the segments of some batches.
    pub(crate) fn open(&self, batches: &[TestBatch], from: i64) -> Vec<RunCursor> {
        segments(batches, from).into_iter().map(|segment| RunCursor::new(self.assigned.open(segment))).collect()
    }

    pub(crate) fn open_one(&self, batch: TestBatch) -> RunCursor {
        let from = batch.base;
        let mut runs = self.open(&[batch], from);
        assert_eq!(runs.len(), 1);
        runs.remove(0)
    }

    pub(crate) fn watermark(&self) -> i64 {
        self.assigned.watermark().offset.0
    }

    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock().unwrap())
    }

    fn unacked(&self) -> (usize, Option<i64>) {
        let (count, oldest) = self.assigned.unacked();
        (count, oldest.map(|offset| offset.0))
    }
}

pub(crate) fn take_all(cursor: &mut RunCursor) -> Vec<Delivery> {
    std::iter::from_fn(|| cursor.next()).collect()
}

#[test]
fn acks_in_order_move_the_watermark_record_by_record() {
    let fixture = Fixture::new(10);
    let mut cursor = fixture.open_one(TestBatch::dense(10, 3));
    assert_eq!(fixture.assigned.watermark(), position(10, Some(1)));
    for next in [11, 12, 13] {
        cursor.next().unwrap().ack();
        assert_eq!(fixture.assigned.watermark(), position(next, Some(3)));
    }
}

#[test]
fn acks_in_reverse_move_it_at_once() {
    let fixture = Fixture::new(10);
    let mut cursor = fixture.open_one(TestBatch::dense(10, 3));
    let mut deliveries = take_all(&mut cursor);
    while deliveries.len() > 1 {
        deliveries.pop().unwrap().ack();
        assert_eq!(fixture.watermark(), 10);
    }
    deliveries.pop().unwrap().ack();
    assert_eq!(fixture.watermark(), 13);
}

#[test]
fn a_run_behind_a_live_one_waits_for_it() {
    let fixture = Fixture::new(0);
    let mut first = fixture.open_one(TestBatch::dense(0, 2));
    let mut second = fixture.open_one(TestBatch::dense(2, 2));
    take_all(&mut second).into_iter().for_each(Delivery::ack);
    drop(second);
    assert_eq!(fixture.watermark(), 0);
    take_all(&mut first).into_iter().for_each(Delivery::ack);
    assert_eq!(fixture.watermark(), 4);
    assert_eq!(fixture.assigned.live_runs(), 1, "the cursor holds its run");
    drop(first);
    assert_eq!(fixture.assigned.live_runs(), 0);
    assert!(fixture.take_notices().is_empty());
}

#[test]
fn an_acked_record_that_is_still_held_does_not_stall_the_watermark() {
    let fixture = Fixture::new(0);
    let first = fixture.open_one(TestBatch::dense(0, 2));
    let mut second = fixture.open_one(TestBatch::dense(2, 2));
    let held = Arc::clone(first.run());
    take_all(&mut { first }).into_iter().for_each(Delivery::ack);
    take_all(&mut second).into_iter().for_each(Delivery::ack);
    assert_eq!(fixture.watermark(), 4);
    assert_eq!(fixture.assigned.live_runs(), 2);
    drop(held);
    assert_eq!(fixture.watermark(), 4);
}

#[test]
fn the_watermark_steps_over_markers_and_compacted_tails() {
    let batches = [
        TestBatch::dense(0, 1),
        TestBatch::marker(1, 7, 1),
        TestBatch::sparse(2, &[1], Some(7)),
        TestBatch { leader_epoch: 6, ..TestBatch::marker(10, 7, 1) },
    ];
    let fixture = Fixture::new(0);
    let mut cursors = fixture.open(&batches, 0);
    take_all(&mut cursors[0]).into_iter().for_each(Delivery::ack);
    assert_eq!(fixture.assigned.watermark(), position(11, Some(6)));
    // A segment without any record is finished from the start.
    drop(fixture.open(&[TestBatch::marker(11, 7, 1)], 11));
    assert_eq!(fixture.watermark(), 12);
    let held = fixture.open(&[TestBatch::marker(12, 7, 1)], 12);
    assert_eq!(fixture.watermark(), 13);
    drop(held);
}

#[test]
fn records_before_the_asked_offset_count_as_finished() {
    let fixture = Fixture::new(3);
    let mut cursor = fixture.open(&[TestBatch::dense(0, 70)], 3).remove(0);
    assert_eq!((fixture.watermark(), fixture.unacked()), (3, (0, None)));
    let delivery = cursor.next().unwrap();
    assert_eq!(delivery.offset(), 3);
    assert_eq!(fixture.unacked(), (1, Some(3)));
    delivery.ack();
    assert_eq!(fixture.watermark(), 4);
    // None is left where they were the last.
    let fixture = Fixture::new(3);
    let cursor = fixture.open(&[TestBatch::sparse(0, &[0, 1], Some(5))], 3).remove(0);
    assert_eq!(fixture.watermark(), 6);
    drop(cursor);
    assert!(fixture.take_notices().is_empty());
}

#[test]
fn unacked_counts_what_was_handed_out_only() {
    let fixture = Fixture::new(0);
    let mut first = fixture.open_one(TestBatch::sparse(0, &(0..100).map(|n| n * 2).collect::<Vec<_>>(), None));
    let mut second = fixture.open_one(TestBatch::dense(500, 10));
    assert_eq!(fixture.unacked(), (0, None));
    let mut deliveries: Vec<_> = (0..70).map(|_| first.next().unwrap()).collect();
    let other = second.next().unwrap();
    assert_eq!(fixture.unacked(), (71, Some(0)));
    deliveries.drain(..67).for_each(Delivery::ack);
    assert_eq!(fixture.unacked(), (4, Some(134)));
    deliveries.drain(..).for_each(Delivery::ack);
    assert_eq!(fixture.unacked(), (1, Some(500)));
    other.ack();
    assert_eq!(fixture.unacked(), (0, None));
}

#[test]
fn activity_changes_with_each_step() {
    let fixture = Fixture::new(0);
    let mut seen = BTreeSet::new();
    let mut check = |what: &str| assert!(seen.insert(fixture.assigned.activity()), "{what}");
    check("nothing yet");
    let mut cursor = fixture.open_one(TestBatch::dense(0, 3));
    let deliveries = take_all(&mut cursor);
    check("handed out");
    let mut deliveries = deliveries.into_iter();
    deliveries.next().unwrap().ack();
    check("acked");
    deliveries.next().unwrap().ack();
    check("acked again");
    drop(deliveries);
    check("dropped");
    let Some(Notice::Dropped { run, redelivery, .. }) = fixture.take_notices().pop() else { panic!("no notice") };
    let again = run.redeliver(redelivery);
    check("handed out again");
    again.ack();
    check("acked at last");
    drop(cursor);
    drop(run);
    check("the run is gone");
    assert_eq!(fixture.assigned.live_runs(), 0);
}

#[test]
fn a_hole_holds_the_watermark_for_ever() {
    let fixture = Fixture::new(0);
    let mut first = fixture.open_one(TestBatch::dense(0, 5));
    let mut second = fixture.open_one(TestBatch::dense(5, 5));
    let mut third = fixture.open_one(TestBatch::dense(10, 5));
    take_all(&mut third).into_iter().for_each(Delivery::ack);
    // The second run is given up after two records, while the first is not finished.
    second.next().unwrap().ack();
    second.next().unwrap().ack();
    drop(second);
    assert!(matches!(fixture.take_notices().as_slice(), [Notice::Released]));
    assert_eq!(fixture.watermark(), 0);
    assert_eq!(fixture.assigned.window().slots.len(), 2, "what comes after the hole cannot count");
    take_all(&mut first).into_iter().for_each(Delivery::ack);
    assert_eq!(fixture.watermark(), 7);
    for n in 3..100 {
        let mut cursor = fixture.open_one(TestBatch::dense(n * 5, 5));
        take_all(&mut cursor).into_iter().for_each(Delivery::ack);
        drop(cursor);
        assert_eq!(fixture.assigned.watermark(), position(7, Some(3)));
        assert_eq!(fixture.assigned.window().slots.len(), 0, "constant memory from here on");
    }
    drop((first, third));
    assert_eq!(fixture.assigned.live_runs(), 0);
    assert_eq!(fixture.watermark(), 7);
}

#[test]
fn a_hole_at_a_runs_first_record_stays_where_the_run_before_ended() {
    let fixture = Fixture::new(0);
    let mut first = fixture.open_one(TestBatch::dense(0, 1));
    let second = fixture.open_one(TestBatch { leader_epoch: 8, ..TestBatch::dense(5, 5) });
    first.next().unwrap().ack();
    drop(second);
    assert_eq!(fixture.assigned.watermark(), position(1, Some(3)));
}

#[test]
fn a_hole_that_is_delivered_again_and_acked_frees_the_watermark() {
    let fixture = Fixture::new(0);
    let mut cursor = fixture.open_one(TestBatch::dense(0, 5));
    let mut deliveries = take_all(&mut cursor);
    drop(cursor);
    drop(deliveries.remove(2));
    deliveries.into_iter().for_each(Delivery::ack);
    assert_eq!(fixture.watermark(), 2);
    let Some(Notice::Dropped { run, redelivery, attempt: 2, after: None }) = fixture.take_notices().pop() else {
        panic!("no notice")
    };
    let again = run.redeliver(redelivery);
    drop(run);
    assert_eq!((again.offset(), again.attempt()), (2, 2));
    assert_eq!(fixture.watermark(), 2);
    again.ack();
    assert_eq!(fixture.watermark(), 5);
    assert_eq!(fixture.assigned.live_runs(), 0);
}

#[test]
fn a_notice_that_nobody_takes_makes_a_hole() {
    let handle = PartitionHandle { partition: TopicPartition::new("orders", 4), assignment: 9 };
    let released = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&released);
    let assigned = Assigned::new(
        handle,
        position(0, None),
        Arc::new(move |notice| {
            // A sender whose receiver is gone drops what it was given.
            if matches!(notice, Notice::Released) {
                count.fetch_add(1, Relaxed);
            }
        }),
    );
    let segment = segments(&[TestBatch::dense(0, 3)], 0).remove(0);
    let mut cursor = RunCursor::new(assigned.open(segment));
    cursor.next().unwrap().ack();
    let dropped = cursor.next().unwrap();
    drop(cursor);
    drop(dropped);
    assert_eq!((released.load(Relaxed), assigned.live_runs(), assigned.watermark().offset.0), (1, 0, 1));
}

#[test]
fn a_fenced_assignment_gives_nothing_back_and_tells_of_each_released_run() {
    let fixture = Fixture::new(0);
    let mut cursor = fixture.open_one(TestBatch::dense(0, 3));
    let mut deliveries = take_all(&mut cursor);
    let other = fixture.open_one(TestBatch::dense(3, 3));
    fixture.assigned.fence();
    assert!(fixture.assigned.is_fenced());
    drop(other);
    assert!(matches!(fixture.take_notices().as_slice(), [Notice::Released]));
    // Acks still count.
    deliveries.remove(0).ack();
    assert_eq!(fixture.watermark(), 1);
    drop(deliveries.remove(0));
    assert!(fixture.take_notices().is_empty());
    deliveries.remove(0).ack();
    drop(cursor);
    assert!(matches!(fixture.take_notices().as_slice(), [Notice::Released]));
    assert_eq!((fixture.assigned.live_runs(), fixture.watermark()), (0, 1));
}

#[test]
fn a_finished_run_is_told_of_only_when_fenced() {
    for fenced in [false, true] {
        let fixture = Fixture::new(0);
        let mut cursor = fixture.open_one(TestBatch::dense(0, 1));
        let delivery = cursor.next().unwrap();
        if fenced {
            fixture.assigned.fence();
        }
        drop(cursor);
        delivery.ack();
        assert_eq!(fixture.take_notices().len(), usize::from(fenced));
        assert_eq!(fixture.watermark(), 1);
    }
}

#[test]
fn the_watermark_does_not_fall_back_while_its_run_is_being_dropped() {
    let fixture = Fixture::new(0);
    let mut cursor = fixture.open_one(TestBatch::dense(0, 3));
    cursor.next().unwrap().ack();
    assert_eq!(fixture.watermark(), 1);
    // As between the last reference's end and the lock that its drop takes.
    fixture.assigned.window().live.insert(cursor.run().seq, Weak::new());
    assert_eq!(fixture.assigned.watermark(), position(1, Some(3)));
}

#[test]
fn a_gap_before_the_first_record_is_not_work_done() {
    let fixture = Fixture::new(10);
    let mut cursor = fixture.open_one(TestBatch::sparse(10, &[2, 4], None));
    assert_eq!(fixture.assigned.watermark(), position(10, Some(1)));
    cursor.next().unwrap().ack();
    assert_eq!(fixture.assigned.watermark(), position(14, Some(3)));
}

#[test]
fn a_stale_ack_touches_only_the_orphan() {
    let before = Fixture::new(0);
    let mut cursor = before.open_one(TestBatch::dense(0, 2));
    let stale = take_all(&mut cursor);
    before.assigned.fence();
    let now = Fixture::new(0);
    let mut cursor = now.open_one(TestBatch::dense(0, 2));
    let first = cursor.next().unwrap();
    stale.into_iter().for_each(Delivery::ack);
    assert_eq!((before.watermark(), now.watermark()), (2, 0));
    first.ack();
    assert_eq!(now.watermark(), 1);
}

#[test]
fn eight_threads_acking_at_random_end_at_the_exact_watermark() {
    let fixture = Fixture::new(0);
    let mut deliveries = Vec::new();
    for n in 0..50 {
        deliveries.extend(take_all(&mut fixture.open_one(TestBatch::dense(n * 200, 200))));
    }
    // One record is never acked.
    let kept = deliveries.remove(9_000);
    let mut hands: Vec<Vec<Delivery>> = (0..8).map(|_| Vec::new()).collect();
    let mut state = 1u64;
    while !deliveries.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let delivery = deliveries.swap_remove((state >> 33) as usize % deliveries.len());
        hands[(state >> 60) as usize % 8].push(delivery);
    }
    thread::scope(|scope| {
        for hand in hands {
            scope.spawn(move || hand.into_iter().for_each(Delivery::ack));
        }
        let mut last = 0;
        while last < 9_000 {
            let watermark = fixture.watermark();
            assert!((last..=9_000).contains(&watermark));
            last = watermark;
        }
    });
    assert_eq!((fixture.watermark(), fixture.unacked()), (9_000, (1, Some(9_000))));
    kept.ack();
    assert_eq!((fixture.watermark(), fixture.unacked()), (10_000, (0, None)));
    assert_eq!(fixture.assigned.live_runs(), 0);
}

#[test]
fn runs_go_while_everything_is_asked_and_a_notice_asks_back() {
    // Each of these would wait for ever if the last reference to a run were dropped, or a notice given, under the lock.
    let slot = Arc::<Mutex<Weak<Assigned>>>::default();
    let asked = Arc::clone(&slot);
    let handle = PartitionHandle { partition: TopicPartition::new("orders", 4), assignment: 9 };
    let assigned = Assigned::new(
        handle,
        position(0, None),
        Arc::new(move |_notice| {
            if let Some(assigned) = asked.lock().unwrap().upgrade() {
                assigned.watermark();
                assigned.live_runs();
            }
        }),
    );
    *slot.lock().unwrap() = Arc::downgrade(&assigned);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Acquire) {
                    assigned.watermark();
                    assigned.unacked();
                    assigned.activity();
                    assigned.held_bytes();
                }
            });
        }
        for n in 0..400 {
            let segment = segments(&[TestBatch::dense(n * 2, 2)], n * 2).remove(0);
            let mut cursor = RunCursor::new(assigned.open(segment));
            let deliveries = take_all(&mut cursor);
            if n == 380 {
                drop(deliveries);
            } else {
                deliveries.into_iter().for_each(Delivery::ack);
            }
        }
        done.store(true, Release);
    });
    assert_eq!((assigned.watermark().offset.0, assigned.live_runs()), (760, 0));
}

/// What a user's tasks and a stream can do, in any order.
#[derive(Clone, Debug)]
enum Step {
    Open,
    HandOut,
    HandOutBatch,
    Ack(Index),
    AckBatch(Index),
    Drop(Index),
    DropBatch(Index),
    Redeliver(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Open),
        8 => Just(Step::HandOut),
        1 => Just(Step::HandOutBatch),
        8 => any::<Index>().prop_map(Step::Ack),
        1 => any::<Index>().prop_map(Step::AckBatch),
        2 => any::<Index>().prop_map(Step::Drop),
        1 => any::<Index>().prop_map(Step::DropBatch),
        3 => any::<Index>().prop_map(Step::Redeliver),
    ]
}

/// Batches one after another: gaps between and within, empty tails, markers, epochs that grow.
fn log() -> impl Strategy<Value = Vec<TestBatch>> {
    let batch = (0..3i64, prop::collection::vec(1..4i32, 0..12), 0..3i32, 0..2i32, 0..6u8);
    prop::collection::vec(batch, 1..25).prop_map(|parts| {
        let (mut next, mut leader_epoch) = (0, 1);
        let batches = parts.into_iter().map(|(gap, steps, tail, newer, kind)| {
            next += gap;
            leader_epoch += newer;
            let mut delta = -1;
            let deltas: Vec<_> = steps
                .iter()
                .map(|step| {
                    delta += step;
                    delta
                })
                .collect();
            let batch = match kind {
                0 => TestBatch::marker(next, 7, 1),
                _ => TestBatch::sparse(next, &deltas, Some((delta + tail).max(0))),
            };
            next += i64::from(batch.last_delta()) + 1;
            TestBatch { leader_epoch, ..batch }
        });
        batches.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_watermark_agrees_with_a_set_of_offsets(log in log(), chunk_len in 1..6usize, from in 0..5i64, steps in prop::collection::vec(step(), 0..150)) {
        let end = |batch: &TestBatch| batch.base + i64::from(batch.last_delta()) + 1;
        prop_assume!(end(&log[0]) > from);

        let fixture = Fixture::new(from);
        let mut chunks = log.chunks(chunk_len);
        let (mut cursor, mut deliveries, mut batches, mut given_back) = (None, Vec::new(), Vec::new(), Vec::new());
        // The model: offsets neither acked, of all that was opened; of these, what the user holds or has given back.
        let (mut unfinished, mut out) = (BTreeSet::new(), BTreeSet::new());
        let (mut next, mut last) = (from, from);
        let mut begun = false;

        for step in steps {
            match step {
                Step::Open => {
                    if cursor.as_mut().is_none_or(RunCursor::is_finished) && let Some(chunk) = chunks.next() {
                        // Several chunks at a time would be several streams.
                        cursor = fixture.open(chunk, next.max(chunk[0].base)).pop();
                        begun = false;
                        let records = chunk.iter().filter(|batch| batch.attributes == 0).flat_map(|batch| {
                            batch.records.iter().map(|record| batch.base + i64::from(record.delta))
                        });
                        unfinished.extend(records.filter(|&offset| offset >= from));
                        next = end(chunk.last().unwrap());
                    }
                }
                Step::HandOut => if let Some(delivery) = cursor.as_mut().and_then(RunCursor::next) {
                    begun = true;
                    prop_assert!(out.insert(delivery.offset()));
                    deliveries.push(delivery);
                },
                // All or nothing: a stream hands out either.
                Step::HandOutBatch => if let Some(cursor) = cursor.take_if(|_| !begun) {
                    let batch = cursor.run().whole_batch().unwrap();
                    out.extend(batch.iter().map(|record| record.offset()));
                    prop_assert_eq!(batch.iter().count(), batch.len());
                    batches.push(batch);
                },
                Step::Ack(at) => if !deliveries.is_empty() {
                    let delivery = deliveries.swap_remove(at.index(deliveries.len()));
                    unfinished.remove(&delivery.offset());
                    out.remove(&delivery.offset());
                    delivery.ack();
                },
                Step::AckBatch(at) => if !batches.is_empty() {
                    let batch = batches.swap_remove(at.index(batches.len()));
                    for record in &batch {
                        unfinished.remove(&record.offset());
                        out.remove(&record.offset());
                    }
                    batch.ack();
                },
                Step::Drop(at) => if !deliveries.is_empty() {
                    drop(deliveries.swap_remove(at.index(deliveries.len())));
                },
                Step::DropBatch(at) => if !batches.is_empty() {
                    drop(batches.swap_remove(at.index(batches.len())));
                },
                Step::Redeliver(at) => {
                    given_back.extend(fixture.take_notices());
                    if !given_back.is_empty() {
                        match given_back.swap_remove(at.index(given_back.len())) {
                            Notice::Dropped { run, redelivery, attempt, .. } => {
                                let delivery = run.redeliver(redelivery);
                                prop_assert_eq!(delivery.attempt(), attempt);
                                deliveries.push(delivery);
                            }
                            Notice::DroppedBatch { run, attempt, .. } => {
                                let batch = run.redeliver_batch();
                                prop_assert_eq!(batch.attempt(), attempt);
                                batches.push(batch);
                            }
                            Notice::Released => prop_assert!(false, "nothing was given up"),
                        }
                    }
                }
            }

            let watermark = fixture.assigned.watermark();
            let offset = watermark.offset.0;
            prop_assert!(offset >= last, "never back");
            last = offset;
            match unfinished.first() {
                // Exact to the record: not beyond the first that is unfinished, and no record between.
                Some(&first) => {
                    prop_assert!(offset <= first);
                    let between = log.iter().filter(|batch| batch.attributes == 0).flat_map(|batch| {
                        batch.records.iter().map(|record| batch.base + i64::from(record.delta))
                    });
                    prop_assert_eq!(between.filter(|record| (offset..first).contains(record)).count(), 0);
                }
                None => prop_assert_eq!(offset, next),
            }
            if offset > from {
                let before = log.iter().find(|batch| (batch.base..end(batch)).contains(&(offset - 1)));
                prop_assert_eq!(watermark.leader_epoch.map(|epoch| epoch.0), before.map(|batch| batch.leader_epoch));
            }
            prop_assert_eq!(fixture.unacked(), (out.len(), out.first().copied()));
        }
    }
}
