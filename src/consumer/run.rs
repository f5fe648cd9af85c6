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
    records::{Cursor, Reader, RecordError, Segment},
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

const WORD: u32 = u64::BITS;

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
    /// One bit for each record, by its number: offsets may have gaps of any size.
    acked: Box<[AtomicU64]>,
    /// How many records were handed out, those to skip included.
    handed: AtomicU32,
    /// How often a record was given back or handed out again: as long as it is 0, nobody looks into `attempts`.
    retries: AtomicU32,
    /// How often each record, or the batch that begins with it, was given back.
    attempts: Mutex<BTreeMap<u32, u32>>,
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

/// Where a batch begins and ends within its run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawBatch {
    pub(super) start: Cursor,
    /// The number of the record after the last.
    pub(super) end: u32,
}

impl Run {
    /// A run outside of any window, until it has its number.
    pub(super) fn new(assigned: Arc<Assigned>, segment: Segment) -> Self {
        let (skip, count) = (segment.skip, segment.count);
        let acked: Box<[AtomicU64]> =
            (0..count.div_ceil(WORD)).map(|word| AtomicU64::new(bits_below(skip, word) | !bits_below(count, word))).collect();
        Self {
            segment,
            assigned,
            seq: 0,
            all: AtomicBool::new(false),
            acked,
            handed: AtomicU32::new(skip),
            retries: AtomicU32::new(0),
            attempts: Mutex::default(),
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

    /// Makes a batch of one that was given back.
    pub(crate) fn redeliver_batch(self: &Arc<Self>, batch: RawBatch) -> Batch {
        self.retries.fetch_add(1, Release);
        Batch::new(Arc::clone(self), batch)
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.assigned.handle().partition
    }

    #[inline]
    pub(super) fn ack(&self, idx: u32) {
        self.acked[(idx / WORD) as usize].fetch_or(1 << (idx % WORD), Release);
    }

    /// Acks records `from..to`.
    pub(super) fn ack_all(&self, from: u32, to: u32) {
        if from <= self.segment.skip && to == self.segment.count {
            self.all.store(true, Release);
            return;
        }
        for word in from / WORD..to.div_ceil(WORD) {
            self.acked[word as usize].fetch_or(bits_below(to, word) & !bits_below(from, word), Release);
        }
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
            self.acked.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum()
        };
        u64::from(self.handed.load(Relaxed)) + u64::from(self.retries.load(Relaxed)) + acked
    }

    /// How many records were handed out and not acked.
    pub(super) fn unacked(&self) -> usize {
        self.handed_unacked().map(|(_, bits)| bits.count_ones() as usize).sum()
    }

    pub(super) fn oldest_unacked(&self) -> Option<Offset> {
        let (word, bits) = self.handed_unacked().find(|&(_, bits)| bits != 0)?;
        Some(self.segment.offset_of(word * WORD + bits.trailing_zeros()))
    }

    /// The records handed out and not acked, as bits, word by word.
    fn handed_unacked(&self) -> impl Iterator<Item = (u32, u64)> {
        let handed = if self.all.load(Acquire) { 0 } else { self.handed.load(Relaxed) };
        (0..handed.div_ceil(WORD)).map(move |word| (word, !self.acked[word as usize].load(Acquire) & bits_below(handed, word)))
    }

    fn first_unacked(&self) -> Option<u32> {
        if self.all.load(Acquire) {
            return None;
        }
        // The bits after the last record are set.
        (0..).zip(&self.acked).find_map(|(word, bits)| {
            let ones = bits.load(Acquire).trailing_ones();
            (ones < WORD).then_some(word * WORD + ones)
        })
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<u32, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Run {
    /// Settles the run: nobody can ack any more.
    fn drop(&mut self) {
        self.assigned.retire(self.seq, self.progress(), self.next(), self.activity());
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

/// The bits of word `word` that stand for records before `idx`.
fn bits_below(idx: u32, word: u32) -> u64 {
    match idx.saturating_sub(word * WORD) {
        bits @ 0..WORD => (1 << bits) - 1,
        _ => u64::MAX,
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

    /// Hands out all that is left as one batch.
    ///
    /// Every record is decoded here once, so that a batch holds only what can be read: a malformed record ends the batch before it. Were
    /// it left to the iteration, a user who does not iterate to the end would ack it unseen.
    pub(crate) fn next_batch(&mut self) -> Option<Batch> {
        let (start, end) = self.reader.skip_all(&self.run.segment);
        if end == start.idx() {
            return None;
        }
        self.run.handed.store(end, Relaxed);
        Some(Batch::new(Arc::clone(&self.run), RawBatch { start, end }))
    }
}
