//! Reads the records of a segment one by one, and decodes them a few at a time.

use super::{Cursor, RawRecord, RecordError, Segment};

/// How many records are decoded at a time: enough that one is long written when it is read, few enough to stay in the fastest cache.
const AHEAD: usize = 16;

/// Reads the records of a segment, from a cursor up to a record or an error.
///
/// Decoding runs ahead of handing out: in a loop of its own it needs half the time, and what was decoded just now is read slowly, for its
/// fields were written one by one and are read as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// Behind what is ahead.
    cursor: Cursor,
    /// The number of the record where to stop.
    end: u32,
    ahead: [RawRecord; AHEAD],
    next: usize,
    filled: usize,
    /// What is wrong with the record behind what is ahead.
    error: Option<RecordError>,
}

impl Reader {
    /// Begins at `cursor` and ends before record number `end`.
    pub(crate) fn new(cursor: Cursor, end: u32) -> Self {
        Self { cursor, end, ahead: [RawRecord::NONE; AHEAD], next: 0, filled: 0, error: None }
    }

    /// The next record, which stays the next; `None` at the end, and before a record that cannot be decoded.
    #[inline]
    pub(crate) fn peek(&mut self, segment: &Segment) -> Option<&RawRecord> {
        // The index is below `AHEAD` anyway, which the compiler cannot know.
        (self.next < self.filled || self.fill(segment)).then(|| &self.ahead[self.next % AHEAD])
    }

    /// The next record; `None` at the end, and before a record that cannot be decoded.
    #[inline]
    pub(crate) fn next(&mut self, segment: &Segment) -> Option<RawRecord> {
        self.next_if(segment, |_| true)
    }

    /// The next record, if it is wanted; it stays the next if not.
    #[inline]
    pub(crate) fn next_if(&mut self, segment: &Segment, is_wanted: impl FnOnce(&RawRecord) -> bool) -> Option<RawRecord> {
        let record = *self.peek(segment).filter(|record| is_wanted(record))?;
        self.next += 1;
        Some(record)
    }

    /// Reads what is left, and folds it.
    #[inline]
    pub(crate) fn fold<A>(&mut self, segment: &Segment, mut folded: A, mut fold: impl FnMut(A, RawRecord) -> A) -> A {
        for record in &self.ahead[self.next..self.filled] {
            folded = fold(folded, *record);
        }
        self.next = self.filled;
        let mut folded = Some(folded);
        // An error ends it, as it ends `next`.
        let _ = self.cursor.walk(segment, self.end.saturating_sub(self.cursor.idx()), |record| {
            folded = folded.take().map(|so_far| fold(so_far, record));
        });
        folded.expect("put back after each record")
    }

    /// Why there is no next record: `None` means the end. An error is told once.
    pub(crate) fn take_error(&mut self) -> Option<RecordError> {
        self.error.take_if(|_| self.next == self.filled)
    }

    /// Whether everything was read, and nothing was wrong with it.
    pub(crate) fn is_at_end(&self) -> bool {
        self.next == self.filled && self.cursor.idx() == self.end
    }

    /// How many records there still are, if nothing is wrong with them.
    pub(crate) fn left(&self) -> usize {
        (self.filled - self.next) + self.end.saturating_sub(self.cursor.idx()) as usize
    }

    #[inline(never)]
    fn fill(&mut self, segment: &Segment) -> bool {
        (self.next, self.filled) = (0, 0);
        let limit = self.end.saturating_sub(self.cursor.idx()).min(AHEAD as u32);
        let (ahead, filled) = (&mut self.ahead, &mut self.filled);
        let walked = self.cursor.walk(segment, limit, |record| {
            ahead[*filled % AHEAD] = record;
            *filled += 1;
        });
        if let Err(error) = walked {
            self.error = Some(error);
        }
        self.filled > 0
    }
}
