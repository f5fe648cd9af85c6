//! What the user gets: deliveries, records, batches.

use std::{fmt, iter::FusedIterator, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{acks::Notice, run::Run};
use crate::{
    model::{LeaderEpoch, Offset, TopicPartition},
    record::{OwnedHeader, OwnedRecord},
    records::{Headers, RawRecord, Reader},
};

/// The number of no record: what carries it has nothing more to tell when it is dropped.
const DISARMED: u32 = u32::MAX;

/// A record that is to be acknowledged, delivered at least once.
///
/// It owns its place in the stream: send it to another task, keep it, ack in any order. What is committed is everything before the first
/// record that is not acked.
///
/// Dropped without [`ack`](Self::ack), as by an early return or a panic, it is delivered again after a back-off, with
/// [`attempt`](Self::attempt) one higher. So nothing is lost and nothing waits for ever on a record that nobody works on.
///
/// It keeps the whole answer that it was fetched in alive, which may be megabytes: to hold records for long, hold what
/// [`to_owned_record`](Self::to_owned_record) returns.
#[must_use = "a delivery that is dropped without `ack` is delivered again"]
pub struct Delivery {
    raw: RawRecord,
    claim: Claim,
}

/// What a delivery owes: its ack, or else to come again.
///
/// Apart from the delivery, because what is dropped by code of its own must stand in memory as a whole. So it is as little as can be, and
/// the rest of a delivery that lives for a moment only never leaves the registers.
struct Claim {
    run: Arc<Run>,
    /// The record's number; `DISARMED` when nothing is owed any more.
    idx: u32,
}

const _: () = assert!(size_of::<Delivery>() == 48);
const _: () = assert!(size_of::<Record>() == 40);

impl Delivery {
    #[inline]
    pub(super) fn new(run: Arc<Run>, raw: RawRecord) -> Self {
        Self { claim: Claim { run, idx: raw.idx }, raw }
    }

    #[inline]
    fn run(&self) -> &Run {
        &self.claim.run
    }

    /// States that the work on this record is done: it may be committed once every record before it is acked too.
    ///
    /// Never blocks and never fails. If the partition went to another member meanwhile, it changes nothing: that member reads the record
    /// again.
    #[inline]
    pub fn ack(self) {
        let Self { mut claim, .. } = self;
        claim.run.ack(claim.idx);
        claim.idx = DISARMED;
    }

    /// Gives the record back, to be delivered again no sooner than after `delay`.
    ///
    /// Until it is acked, nothing at or after it in its partition is committed. The records after it are delivered all the same.
    pub fn retry_after(self, delay: Duration) {
        let Self { mut claim, .. } = self;
        claim.give_back(Some(delay));
    }

    /// Returns which attempt at this record this is: 1 is the first.
    ///
    /// Counts within one assignment of the partition: a member that gets the partition later begins at 1 again.
    pub fn attempt(&self) -> u32 {
        self.claim.run.attempt(self.raw.idx)
    }
}

impl Claim {
    #[cold]
    fn give_back(&mut self, after: Option<Duration>) {
        let redelivery = std::mem::replace(&mut self.idx, DISARMED);
        let attempt = self.run.note_given_back(redelivery);
        self.run.assigned().give_back(Notice::Dropped { run: Arc::clone(&self.run), redelivery, attempt, after });
    }
}

impl Drop for Claim {
    #[inline]
    fn drop(&mut self) {
        if self.idx != DISARMED {
            self.give_back(None);
        }
    }
}

/// A record delivered at most once: its commit was acknowledged before it was handed out.
///
/// There is nothing to ack. It keeps the whole answer that it was fetched in alive, which may be megabytes: to hold records for long, hold
/// what [`to_owned_record`](Self::to_owned_record) returns.
pub struct Record {
    raw: RawRecord,
    run: Arc<Run>,
}

impl Record {
    #[inline]
    pub(super) fn new(run: Arc<Run>, raw: RawRecord) -> Self {
        Self { raw, run }
    }

    #[inline]
    fn run(&self) -> &Run {
        &self.run
    }
}

/// Records of one partition that are acknowledged together, delivered at least once.
///
/// Iterating lends the records out of the batch, which costs less than a [`Delivery`] for each. Dropped without [`ack`](Self::ack), the
/// whole batch is delivered again after a back-off, with [`attempt`](Self::attempt) one higher.
#[must_use = "a batch that is dropped without `ack` is delivered again"]
pub struct Batch {
    run: Arc<Run>,
    /// Cleared when there is nothing more to tell.
    armed: bool,
}

impl Batch {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Self { run, armed: true }
    }

    /// Returns the topic's name.
    pub fn topic(&self) -> &str {
        self.run.topic_partition().topic()
    }

    /// Returns the partition's number, counted from 0.
    pub fn partition(&self) -> i32 {
        self.run.topic_partition().partition()
    }

    /// Returns topic and partition together: a key for maps, cheap to clone.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.run.topic_partition()
    }

    /// Returns how many records there are.
    ///
    /// They have to be decoded for that, unless [`iter`](Self::iter) has gone through them before: a batch ends before a record that
    /// cannot be.
    pub fn len(&self) -> usize {
        (self.run.readable_end() - self.run.first()) as usize
    }

    /// Returns whether there are no records. A stream hands out no such batch.
    pub fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// Returns the offset of the first record.
    pub fn first_offset(&self) -> i64 {
        self.run.segment().offset_of(self.run.first()).0
    }

    /// Returns the offset after the batch: where one goes on who has dealt with it. Not `first_offset() + len()`, for there may be gaps.
    pub fn next_offset(&self) -> i64 {
        let segment = self.run.segment();
        match self.run.readable_end() {
            end if end == segment.count => segment.next.offset.0,
            end => segment.offset_of(end).0,
        }
    }

    /// Returns the leader epoch that the log had just before an offset of this batch, or after it; `None` where no record tells.
    pub(super) fn epoch_before(&self, offset: Offset) -> Option<LeaderEpoch> {
        let segment = self.run.segment();
        if offset == segment.next.offset {
            // Behind the last record there may have been others, of a newer epoch, that nobody is to see.
            return segment.next.leader_epoch;
        }
        let before = self.iter().take_while(|record| record.offset() < offset.0).last();
        let is_next_to_it = |record: &BatchRecord<'_>| record.offset() + 1 == offset.0;
        before.filter(is_next_to_it).and_then(|record| record.leader_epoch()).map(LeaderEpoch)
    }

    /// Iterates over the records in the order of their offsets.
    pub fn iter(&self) -> BatchIter<'_> {
        let segment = self.run.segment();
        BatchIter { run: &self.run, reader: Reader::new(segment.cursor(), segment.count) }
    }

    /// Returns which attempt at this batch this is: 1 is the first.
    pub fn attempt(&self) -> u32 {
        self.run.attempt(self.run.first())
    }

    /// States that the work on all these records is done, as [`Delivery::ack`] does for one.
    pub fn ack(mut self) {
        self.armed = false;
        self.run.ack_all();
    }

    /// Gives the batch back, to be delivered again no sooner than after `delay`.
    pub fn retry_after(mut self, delay: Duration) {
        self.give_back(Some(delay));
    }

    fn give_back(&mut self, after: Option<Duration>) {
        self.armed = false;
        let attempt = self.run.note_given_back(self.run.first());
        self.run.assigned().give_back(Notice::DroppedBatch { run: Arc::clone(&self.run), attempt, after });
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // While the run can still be asked: the stream goes on behind it only if every record could be read.
        self.run.readable_end();
        if self.armed {
            self.give_back(None);
        }
    }
}

/// Shows where the records stand, never what is in them.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("first_offset", &self.first_offset())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = BatchRecord<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// Iterates over the records of a [`Batch`].
#[derive(Clone)]
pub struct BatchIter<'a> {
    run: &'a Run,
    reader: Reader,
}

impl BatchIter<'_> {
    /// There is nothing more: because everything was read?
    fn end(&self) {
        if self.reader.is_at_end() {
            self.run.note_readable();
        }
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = BatchRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<BatchRecord<'a>> {
        match self.reader.next(self.run.segment()) {
            Some(raw) => Some(BatchRecord { run: self.run, raw }),
            None => {
                self.end();
                None
            }
        }
    }

    /// There may be fewer than the batch says, where one cannot be decoded.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.reader.left()))
    }

    #[inline]
    fn fold<A, F: FnMut(A, BatchRecord<'a>) -> A>(mut self, init: A, mut fold: F) -> A {
        let run = self.run;
        let folded = self.reader.fold(run.segment(), init, |folded, raw| fold(folded, BatchRecord { run, raw }));
        self.end();
        folded
    }
}

impl FusedIterator for BatchIter<'_> {}

impl fmt::Debug for BatchIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("left", &self.reader.left()).finish_non_exhaustive()
    }
}

/// A record borrowed from its [`Batch`].
#[derive(Clone, Copy)]
pub struct BatchRecord<'a> {
    run: &'a Run,
    raw: RawRecord,
}

impl<'a> BatchRecord<'a> {
    #[inline]
    fn run(&self) -> &'a Run {
        self.run
    }
}

/// What a record says of itself is the same however it was delivered; `$life` is how long what it lends may be kept.
macro_rules! accessors {
    (impl<$($generic:lifetime)?> $type:ty, $name:literal, $life:lifetime) => {
        impl<$($generic)?> $type {
            /// Returns the topic's name.
            pub fn topic(&self) -> &$life str {
                self.run().topic_partition().topic()
            }

            /// Returns the partition's number, counted from 0.
            pub fn partition(&self) -> i32 {
                self.run().topic_partition().partition()
            }

            /// Returns topic and partition together: a key for maps, cheap to clone.
            pub fn topic_partition(&self) -> &$life TopicPartition {
                self.run().topic_partition()
            }

            /// Returns the record's offset in its partition. Offsets ascend; compaction and transactions leave gaps.
            #[inline]
            pub fn offset(&self) -> i64 {
                self.raw.offset.0
            }

            /// Returns the record's time in milliseconds since 1970, -1 if the producer gave none.
            ///
            /// It is when the producer made the record, or when the broker appended it, as the topic's `message.timestamp.type` says.
            pub fn timestamp(&self) -> i64 {
                self.run().segment().timestamp(&self.raw)
            }

            /// Returns the key; `None` is null, which is not the same as empty.
            #[inline]
            pub fn key(&self) -> Option<&$life [u8]> {
                self.run().segment().key(&self.raw)
            }

            /// Returns the value; `None` is null: in a compacted topic, a deletion of the key.
            #[inline]
            pub fn value(&self) -> Option<&$life [u8]> {
                self.run().segment().value(&self.raw)
            }

            /// Returns the headers in the producer's order; a key may come more than once.
            pub fn headers(&self) -> Headers<$life> {
                self.run().segment().headers(&self.raw)
            }

            /// Returns the epoch of the leader that appended the record; `None` where the broker did not say.
            pub fn leader_epoch(&self) -> Option<i32> {
                self.run().segment().head_of(self.raw.idx).leader_epoch.map(|LeaderEpoch(epoch)| epoch)
            }

            /// Copies the record out of the answer that it came in.
            ///
            /// Kept records keep the whole answer in memory, up to some megabytes for a single one: to hold records for long, hold copies.
            pub fn to_owned_record(&self) -> OwnedRecord {
                to_owned_record(self.run(), &self.raw)
            }
        }

        /// Shows where the record stands, never what is in it.
        impl<$($generic)?> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name)
                    .field("topic", &self.topic())
                    .field("partition", &self.partition())
                    .field("offset", &self.offset())
                    .finish_non_exhaustive()
            }
        }
    };
}

accessors!(impl<> Delivery, "Delivery", '_);
accessors!(impl<> Record, "Record", '_);
accessors!(impl<'a> BatchRecord<'a>, "BatchRecord", 'a);

fn to_owned_record(run: &Run, raw: &RawRecord) -> OwnedRecord {
    let segment = run.segment();
    let (start, body) = segment.body(raw);
    // One copy, of which all parts are slices.
    let copy = Bytes::copy_from_slice(body);
    let part = |at: u32, len: i32| {
        let at = at as usize - start;
        usize::try_from(len).ok().map(|len| copy.slice(at..at + len))
    };
    OwnedRecord {
        topic: Arc::clone(run.topic_partition().shared_topic()),
        partition: run.topic_partition().partition(),
        offset: raw.offset.0,
        leader_epoch: segment.head_of(raw.idx).leader_epoch.map(|LeaderEpoch(epoch)| epoch),
        timestamp: segment.timestamp(raw),
        key: part(raw.key, raw.key_len),
        value: part(raw.value, raw.value_len),
        headers: Headers::new(&copy[raw.headers_at() - start..])
            .map(|header| OwnedHeader {
                key: copy.slice_ref(header.key()),
                value: header.value().map(|value| copy.slice_ref(value)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
