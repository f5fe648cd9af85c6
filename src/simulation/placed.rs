//! Partitions that begin where the program says: each scenario is a step of its life, or of its store's.

use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use ottla_mock::Api;

use super::{
    user::Records,
    world::{World, builder, orders, secs},
};
use crate::{
    consumer::{Consumer, Delivery, PartitionEnd, PartitionStream, SeekTo, UnplacedPartition, UnplacedPartitions},
    error::ConsumeErrorKind,
};

/// A program whose streams the test polls itself.
struct Program {
    world: World,
    client: usize,
    partitions: UnplacedPartitions,
}

impl Program {
    /// Ten records in each of two partitions, of which 4 are committed, as by somebody else before.
    fn new() -> Self {
        let mut world = World::new(2);
        let before = world.at_least_once();
        world.habits(before, |habits| habits.at_once = 4);
        world.produce(0, 4);
        world.produce(1, 4);
        world.finish(secs(10));
        world.close(before, secs(5));
        world.run(secs(5));
        world.produce(0, 6);
        world.produce(1, 6);
        // What the test takes, the judge does not see.
        world.is_strict = false;
        let mut partitions = None;
        let client = world.join(builder(), |consumer: Consumer| {
            partitions = Some(consumer.unplaced_partitions());
            // In its place, for the world wants something to poll.
            Records::None
        });
        let mut program = Self { world, client, partitions: partitions.expect("just made") };
        program.run(secs(5));
        program
    }

    fn run(&mut self, time: std::time::Duration) {
        self.world.run(time);
    }

    #[track_caller]
    fn next(&mut self) -> UnplacedPartition {
        match poll(&mut self.partitions) {
            Poll::Ready(Some(Ok(partition))) => partition,
            other => panic!("{other:?} instead of a partition"),
        }
    }

    /// Partitions come in any order.
    #[track_caller]
    fn both(&mut self) -> [UnplacedPartition; 2] {
        let mut both = [self.next(), self.next()];
        both.sort_by_key(|partition| partition.topic_partition().partition());
        assert_eq!(both.each_ref().map(|partition| partition.topic_partition().partition()), [0, 1]);
        both
    }

    /// What a stream hands out, without acks, until it has nothing more.
    fn offsets(&mut self, stream: &mut PartitionStream) -> Vec<i64> {
        self.deliveries(stream).iter().map(Delivery::offset).collect()
    }

    fn deliveries(&mut self, stream: &mut PartitionStream) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            self.run(secs(1) / 10);
            while let Poll::Ready(Some(delivery)) = poll(stream) {
                deliveries.push(delivery);
            }
        }
        deliveries
    }
}

fn poll<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    std::pin::Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn nothing_is_read_before_it_is_said_where_nor_is_the_group_asked() {
    let mut program = Program::new();
    let (asked, fetched) = (program.world.count(Api::OffsetFetch), program.world.bytes_fetched);
    let [first, second] = program.both();
    program.run(secs(20));
    assert_eq!(program.world.bytes_fetched, fetched);
    let mut first = first.start_from(SeekTo::Offset(7));
    assert_eq!(program.offsets(&mut first), [7, 8, 9]);
    let mut second = second.start_from(SeekTo::Beginning);
    assert_eq!(program.offsets(&mut second), (0..10).collect::<Vec<_>>());
    assert_eq!(program.world.count(Api::OffsetFetch), asked, "nobody looks where the group was");
    assert!(poll(&mut program.partitions).is_pending(), "each comes once");
}

#[test]
fn what_is_acknowledged_is_committed_for_others_to_see() {
    let mut program = Program::new();
    let [first, _second] = program.both();
    let mut first = first.start_from(SeekTo::Offset(2));
    let deliveries = program.deliveries(&mut first);
    deliveries.into_iter().take(3).for_each(Delivery::ack);
    program.run(secs(5));
    assert_eq!(program.world.committed(&orders(0)), Some(5));
}

#[test]
fn what_is_dropped_comes_again_to_be_placed() {
    let mut program = Program::new();
    let [first, second] = program.both();
    drop(second);
    program.run(secs(1));
    let second = program.next();
    assert_eq!(*second.topic_partition(), orders(1));
    // Also a stream that was begun, wherever it was.
    let mut first = first.start_from(SeekTo::Offset(3));
    assert_eq!(program.offsets(&mut first).len(), 7);
    drop(first);
    program.run(secs(1));
    let mut first = program.next().start_from(SeekTo::Offset(5));
    assert_eq!(*first.topic_partition(), orders(0));
    assert_eq!(program.offsets(&mut first), [5, 6, 7, 8, 9]);
    // Or one that is dropped in the moment in which it was placed.
    drop(second.start_from(SeekTo::Offset(1)));
    program.run(secs(1));
    let mut second = program.next().start_from(SeekTo::End);
    assert_eq!(program.offsets(&mut second), [0; 0]);
    program.world.produce(1, 1);
    assert_eq!(program.offsets(&mut second), [10]);
}

#[test]
fn a_seek_brings_it_again_wherever_to() {
    let mut program = Program::new();
    let [first, second] = program.both();
    let mut first = first.start_from(SeekTo::Offset(3));
    assert_eq!(program.offsets(&mut first).len(), 7);
    for of in [orders(0), orders(1)] {
        program.world.with_handle(program.client, |handle| handle.seek(&of, SeekTo::End));
    }
    program.run(secs(1));
    assert!(matches!(poll(&mut first), Poll::Ready(None)) && first.end() == PartitionEnd::Lost);
    // What was not placed yet is void, too.
    let mut stale = second.start_from(SeekTo::Beginning);
    program.run(secs(1));
    assert!(matches!(poll(&mut stale), Poll::Ready(None)));
    let [first, _second] = program.both();
    assert_eq!(program.offsets(&mut first.start_from(SeekTo::Offset(8))), [8, 9]);
}

#[test]
fn a_rebalance_waits_for_nothing_that_was_not_placed() {
    let mut program = Program::new();
    let [first, second] = program.both();
    program.world.at_least_once();
    program.run(secs(8));
    let lost = orders(program.world.clients[program.client].holds.keys().next().map_or(0, |kept| 1 - kept.partition()));
    assert_eq!(program.world.clients[program.client].holds.len(), 1, "the other one has its share");
    for stale in [first, second] {
        let is_lost = *stale.topic_partition() == lost;
        let mut stale = stale.start_from(SeekTo::Beginning);
        program.run(secs(1));
        assert!(matches!(poll(&mut stale), Poll::Ready(None)), "eager members start anew: {lost} {is_lost}");
        assert_eq!(stale.end(), PartitionEnd::Lost);
    }
    let kept = program.next();
    assert_ne!(*kept.topic_partition(), lost);
    assert_eq!(program.offsets(&mut kept.start_from(SeekTo::Offset(9))), [9]);
}

#[test]
fn an_offset_that_is_not_in_the_log_is_told_and_the_partition_rests_until_a_seek() {
    let mut program = Program::new();
    let [first, _second] = program.both();
    let mut first = first.start_from(SeekTo::Offset(1000));
    program.run(secs(5));
    let Poll::Ready(Some(Err(error))) = poll(&mut program.partitions) else { panic!("nothing is told") };
    assert_eq!((error.kind(), error.topic_partition()), (ConsumeErrorKind::NoOffset, Some(&orders(0))));
    assert!(error.to_string().contains("offset 1000"), "{error}");
    assert!(poll(&mut first).is_pending() && first.end() == PartitionEnd::Open);
    program.world.with_handle(program.client, |handle| handle.seek(&orders(0), SeekTo::Beginning));
    program.run(secs(1));
    let mut first = program.next().start_from(SeekTo::Offset(8));
    assert_eq!(program.offsets(&mut first), [8, 9]);
}

#[test]
fn a_topic_made_anew_is_placed_anew() {
    let mut program = Program::new();
    let [first, second] = program.both();
    let mut first = first.start_from(SeekTo::Offset(4));
    assert_eq!(program.offsets(&mut first).len(), 6);
    program.world.delete("orders");
    program.world.create("orders", 2);
    program.world.produce(0, 2);
    program.run(secs(400));
    assert!(matches!(poll(&mut first), Poll::Ready(None)));
    drop((first, second));
    program.run(secs(2));
    let found = std::iter::from_fn(|| match poll(&mut program.partitions) {
        Poll::Ready(Some(found)) => Some(found),
        _ => None,
    });
    let found: Vec<_> = found.filter_map(Result::ok).filter(|found| *found.topic_partition() == orders(0)).collect();
    let [first] = <[_; 1]>::try_from(found).expect("once");
    assert_eq!(program.offsets(&mut first.start_from(SeekTo::Beginning)), [0, 1]);
}

/// Also of what is read from the group's own positions: a stream that ends while its partition is held forgets nothing.
#[test]
fn what_was_acknowledged_before_a_stream_was_dropped_is_committed() {
    for interval in [secs(600), secs(1)] {
        let mut world = World::new(1);
        world.produce(0, 10);
        world.is_strict = false;
        let mut partitions = None;
        let client = world.join(builder().commit_interval(interval), |consumer: Consumer| {
            partitions = Some(consumer.partitions());
            Records::None
        });
        let mut partitions = partitions.expect("just made");
        world.run(secs(5));
        let Poll::Ready(Some(Ok(mut stream))) = poll(&mut partitions) else { panic!("no partition") };
        for offset in 0..7 {
            let Poll::Ready(Some(delivery)) = poll(&mut stream) else { panic!("no record {offset}") };
            delivery.ack();
        }
        drop(stream);
        if interval == secs(600) {
            world.run(secs(1));
            world.close(client, secs(5));
        }
        world.run(secs(5));
        assert_eq!(world.committed(&orders(0)), Some(7));
    }
}

/// Where it is placed again at once, nothing having come meanwhile, nothing but the close would commit it.
#[test]
fn what_was_acknowledged_before_a_partition_was_placed_again_is_committed() {
    // The second time the store has gone further than this program knew.
    for at in [10, 12] {
        let mut program = Program::new();
        let [first, second] = program.both();
        program.world.produce(0, 5);
        let mut first = first.start_from(SeekTo::Offset(4));
        let deliveries = program.deliveries(&mut first);
        program.run(secs(1));
        deliveries.into_iter().take(6).for_each(Delivery::ack);
        drop(first);
        program.world.settle(program.client);
        let first = program.next().start_from(SeekTo::Offset(at));
        program.world.settle(program.client);
        program.run(secs(5));
        assert_eq!(program.world.committed(&orders(0)), Some(at), "placed at {at}");
        drop((first, second));
    }
}
