//! A run: records of one partition in one buffer, handed out and acked one by one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError},
};

use super::{
    acks::Assigned,
    delivery::{Batch, Delivery, Record},
};
use crate::{
    model::{Offset, Position, TopicPartition},
    records::{Reader, RecordError, Segment},
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// Nobody has gone through the records yet.
const UNCHECKED: u32 = u32::MAX;

/// Records of one partition in one buffer, and which of them are acked.
///
/// Shared by everybody who may still ack one of them. When the last of these is gone, the run settles in its partition's window.
pub(crate) struct Run {
    segment: Segment,
    assigned: Arc<Assigned>,
    /// The run's number within its assignment.
    pub(super) seq: u64,
    /// All records are acked at once, whatever `acked` says.
    all: AtomicBool,
    /// One for each record, by its number: offsets may have gaps of any size. A byte each, because a bit would need an atomic
    /// read-modify-write, which costs as much as decoding the record.
    acked: Box<[AtomicBool]>,
    /// How many records were handed out, those to skip included.
    handed: AtomicU32,
    /// How often a record was given back or handed out again: as long as it is 0, nobody looks into `attempts`.
    retries: AtomicU32,
    /// How often each record, or the batch that begins with it, was given back.
    attempts: Mutex<BTreeMap<u32, u32>>,
    /// The number after the last record that can be decoded, or `UNCHECKED`. It matters where all are handed out at once: whoever goes
    /// through them one by one finds out.
    readable: AtomicU32,
}

/// How far a run is acked from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// To the end.
    Finished,
    /// To here.
    Reached(Position),
    /// Not even the first record.
    Untouched,
}

impl Run {
    /// A run outside of any window, until it has its number.
    pub(super) fn new(assigned: Arc<Assigned>, segment: Segment) -> Self {
        let (skip, count) = (segment.skip, segment.count);
        let acked = (0..count).map(|idx| AtomicBool::new(idx < skip)).collect();
        Self {
            segment,
            assigned,
            seq: 0,
            all: AtomicBool::new(false),
            acked,
            handed: AtomicU32::new(skip),
            retries: AtomicU32::new(0),
            attempts: Mutex::default(),
            readable: AtomicU32::new(UNCHECKED),
        }
    }

    #[inline]
    pub(crate) fn assigned(&self) -> &Arc<Assigned> {
        &self.assigned
    }

    /// Where to go on after the run.
    pub(crate) fn next(&self) -> Position {
        self.segment.next
    }

    /// Whether there is no record to hand out.
    pub(crate) fn is_empty(&self) -> bool {
        self.segment.skip == self.segment.count
    }

    /// Where the buffer begins that the run keeps in memory, and its length; an uncompressed run shares it with others of its chunk.
    pub(super) fn buffer(&self) -> (*const u8, usize) {
        (self.segment.data.as_ptr(), self.segment.data.len())
    }

    /// Makes a delivery of a record that was given back.
    pub(crate) fn redeliver(self: &Arc<Self>, idx: u32) -> Delivery {
        self.retries.fetch_add(1, Release);
        let record = self.segment.record(idx).expect("a record that was delivered before");
        Delivery::new(Arc::clone(self), record)
    }

    /// Hands out all records as one batch; not even one, if the first cannot be decoded.
    ///
    /// The others are decoded when somebody goes through them, and by whoever is done with the batch if nobody did: what cannot be read is
    /// not acked unseen.
    pub(crate) fn whole_batch(self: &Arc<Self>) -> Result<Batch, RecordError> {
        self.segment.cursor().next(&self.segment)?;
        self.handed.store(self.segment.count, Relaxed);
        Ok(Batch::new(Arc::clone(self)))
    }

    /// Makes a batch of one that was given back.
    pub(crate) fn redeliver_batch(self: &Arc<Self>) -> Batch {
        self.retries.fetch_add(1, Release);
        Batch::new(Arc::clone(self))
    }

    /// The number of the first record to hand out.
    pub(super) fn first(&self) -> u32 {
        self.segment.skip
    }

    /// The number after the last record that can be decoded; goes through them, unless somebody has. What is wrong with the next one is
    /// for [`Assigned::take_unreadable`].
    pub(crate) fn readable_end(&self) -> u32 {
        let known = self.readable.load(Relaxed);
        if known != UNCHECKED {
            return known;
        }
        let mut end = self.first();
        match self.segment.cursor().walk(&self.segment, u32::MAX, |record| end = record.idx + 1) {
            Ok(()) => self.readable.store(end, Relaxed),
            Err(error) => {
                let mut unreadable = self.assigned.unreadable();
                // Another may have found it at the same time, and it may have been dealt with.
                if self.readable.swap(end, Relaxed) == UNCHECKED {
                    *unreadable = Some(error);
                }
            }
        }
        end
    }

    /// Somebody has gone through all records.
    pub(super) fn note_readable(&self) {
        self.readable.store(self.segment.count, Relaxed);
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.assigned.handle().partition
    }

    #[inline]
    pub(super) fn ack(&self, idx: u32) {
        self.acked[idx as usize].store(true, Release);
    }

    /// Acks every record that can be read.
    pub(super) fn ack_all(&self) {
        self.all.store(true, Release);
    }

    /// Which attempt at a record this is: 1 is the first.
    #[inline]
    pub(super) fn attempt(&self, idx: u32) -> u32 {
        if self.retries.load(Acquire) == 0 { 1 } else { self.attempts().get(&idx).copied().unwrap_or(0).saturating_add(1) }
    }

    /// Notes that a record was given back: the number of the attempt to come.
    pub(super) fn note_given_back(&self, idx: u32) -> u32 {
        let attempt = {
            let mut attempts = self.attempts();
            let given_back = attempts.entry(idx).or_default();
            *given_back = given_back.saturating_add(1);
            given_back.saturating_add(1)
        };
        self.retries.fetch_add(1, Release);
        attempt
    }

    pub(super) fn progress(&self) -> Progress {
        match self.first_unacked() {
            None => Progress::Finished,
            Some(idx) => self.segment.position_before(idx).map_or(Progress::Untouched, Progress::Reached),
        }
    }

    pub(super) fn activity(&self) -> u64 {
        let acked = if self.all.load(Relaxed) {
            u64::from(self.segment.count)
        } else {
            self.acked.iter().map(|acked| u64::from(acked.load(Relaxed))).sum()
        };
        u64::from(self.handed.load(Relaxed)) + u64::from(self.retries.load(Relaxed)) + acked
    }

    /// How many records were handed out and not acked.
    pub(super) fn unacked(&self) -> usize {
        self.handed_unacked().count()
    }

    pub(super) fn oldest_unacked(&self) -> Option<Offset> {
        self.handed_unacked().next().map(|idx| self.segment.offset_of(idx))
    }

    /// The numbers of the records handed out and not acked.
    fn handed_unacked(&self) -> impl Iterator<Item = u32> {
        let handed = if self.all.load(Acquire) { 0 } else { self.handed.load(Relaxed) };
        (0..handed).filter(|&idx| !self.acked[idx as usize].load(Acquire))
    }

    fn first_unacked(&self) -> Option<u32> {
        if self.all.load(Acquire) {
            return Some(self.readable_end()).filter(|&end| end < self.segment.count);
        }
        (0..).zip(&self.acked).find_map(|(idx, acked)| (!acked.load(Acquire)).then_some(idx))
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<u32, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Run {
    /// Settles the run: nobody can ack any more.
    fn drop(&mut self) {
        // No less than `activity` ever was; counting the acks would cost something for each record.
        let activity =
            u64::from(self.handed.load(Relaxed)) + u64::from(self.retries.load(Relaxed)) + u64::from(self.segment.count);
        self.assigned.retire(self.seq, self.progress(), self.next(), activity);
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("handle", self.assigned.handle())
            .field("seq", &self.seq)
            .field("count", &self.segment.count)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

/// Hands out a run's records in order.
///
/// Where nothing more comes, [`take_error`](Self::take_error) tells whether that is the end. Errors come apart from the records because of
/// what they cost: a result that may hold either is copied in pieces, for each record.
#[derive(Debug)]
pub(crate) struct RunCursor {
    run: Arc<Run>,
    reader: Reader,
}

impl RunCursor {
    /// Begins at the first record that is not to be skipped.
    pub(crate) fn new(run: Arc<Run>) -> Self {
        Self { reader: Reader::new(run.segment.cursor(), run.segment.count), run }
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Whether everything was handed out, or what comes next cannot be decoded.
    #[cfg(test)]
    pub(crate) fn is_finished(&mut self) -> bool {
        self.next_offset().is_none()
    }

    /// The next record's offset, without handing it out; `None` at the end, or where it cannot be decoded.
    pub(crate) fn next_offset(&mut self) -> Option<Offset> {
        self.reader.peek(&self.run.segment).map(|record| record.offset)
    }

    /// Why nothing more comes: `None` means the end. An error is told once.
    pub(crate) fn take_error(&mut self) -> Option<RecordError> {
        self.reader.take_error()
    }

    /// Hands out the next record.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Delivery> {
        let record = self.reader.next(&self.run.segment)?;
        self.run.handed.store(record.idx + 1, Relaxed);
        Some(Delivery::new(Arc::clone(&self.run), record))
    }

    /// Hands out the next record, if its offset is below `limit`; it counts as acked from then on.
    ///
    /// `None` also when the next record waits for a higher limit: [`next_offset`](Self::next_offset) tells which.
    #[inline]
    pub(crate) fn next_record_below(&mut self, limit: Offset) -> Option<Record> {
        let record = self.reader.next_if(&self.run.segment, |record| record.offset < limit)?;
        self.run.handed.store(record.idx + 1, Relaxed);
        self.run.ack(record.idx);
        Some(Record::new(Arc::clone(&self.run), record))
    }
}
