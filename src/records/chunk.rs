//! What a Fetch answer holds of one partition, opened on the user's task: checksums, markers, transactions, decompression.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;

use super::{
    BatchHead, Codecs, DecompressError, Head, Segment,
    batch::{CRC_FROM, HEADER_LEN},
    compress::Codec,
    record::{RECORD_LEN_MIN, control_type},
};
use crate::{
    model::{Offset, Position},
    wire::AbortedTransaction,
};

/// The type of the control record that ends a transaction without effect.
const ABORT: i16 = 0;

/// What one Fetch answer holds of one partition: crosses from the core to the user's task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Record batches, still encoded: a slice of the frame.
    pub(crate) data: Bytes,
    /// The batches in `data`, as [`index`](super::index) found them.
    pub(crate) heads: Vec<BatchHead>,
    /// In any order; see [`aborted_within`].
    pub(crate) aborted: Vec<AbortedTransaction>,
    /// The offset that was asked for: the first batch may begin before it.
    pub(crate) from: Offset,
    /// Where the fetching goes on.
    pub(crate) next_offset: Offset,
}

impl Chunk {
    /// Where to go on after it.
    pub(crate) fn end(&self) -> Position {
        Position { offset: self.next_offset, leader_epoch: self.heads.last().and_then(|head| head.leader_epoch) }
    }

    /// How many records it has at most, as its batches' headers say.
    pub(crate) fn records(&self) -> usize {
        self.heads.iter().fold(0, |records: usize, head| records.saturating_add(head.count as usize))
    }
}

/// Keeps of the aborted transactions that an answer names those that matter to its batches. That is one for each batch at most, however many
/// a broker names: a transaction takes effect at its producer's next batch, and there is none else's that it concerns.
pub(crate) fn aborted_within(heads: &[BatchHead], aborted: Vec<AbortedTransaction>) -> Vec<AbortedTransaction> {
    if aborted.is_empty() {
        return aborted;
    }
    let batches: BTreeSet<_> = heads.iter().map(|head| (head.producer_id, head.last_offset())).collect();
    let mut kept = BTreeMap::new();
    for transaction in aborted {
        let next = batches.range((transaction.producer_id, transaction.first_offset)..).next();
        if let Some(next) = next.filter(|(producer_id, _)| *producer_id == transaction.producer_id) {
            kept.entry(*next).or_insert(transaction);
        }
    }
    kept.into_values().collect()
}

/// A batch or a record that cannot be read. The partition stops at `offset`; nothing after it has been handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at offset {}", offset.0)]
pub(crate) struct RecordError {
    /// Everything before this offset was readable.
    pub(crate) offset: Offset,
    /// The offset after the batch: where to go on for one who gives the batch up.
    pub(crate) next_offset: Offset,
    pub(crate) kind: RecordErrorKind,
}

/// What is wrong with a batch or a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordErrorKind {
    #[error("wrong checksum (expected {expected:#010x}, found {found:#010x})")]
    Crc { expected: u32, found: u32 },
    #[error("{codec} data that cannot be decompressed ({what})")]
    Decompress { codec: Codec, what: String },
    #[error("{0}")]
    Malformed(&'static str),
    /// Not necessarily broken: raise the limit to read it.
    #[error("a batch of more than {limit} bytes when decompressed")]
    TooLarge { limit: usize },
}

/// Cuts a chunk into segments.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    chunk: Chunk,
    verify_crc: bool,
    /// The batch that is looked at next, and what was found out about it already.
    number: usize,
    verdict: Option<Result<Verdict, RecordErrorKind>>,
    transactions: Option<Aborted>,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// Nothing in it for the user.
    Skip,
    Plain,
    Compressed(Codec),
}

impl ChunkReader {
    /// Opens a chunk. Without `verify_crc`, whatever TCP's checksum did not see goes unseen.
    pub(crate) fn new(mut chunk: Chunk, read_committed: bool, verify_crc: bool) -> Self {
        let transactions = read_committed.then(|| Aborted::new(std::mem::take(&mut chunk.aborted)));
        Self { chunk, verify_crc, number: 0, verdict: None, transactions }
    }

    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// The next segment; `None` at the chunk's end.
    ///
    /// Batches that hold nothing for the user are stepped over, and count for the `next` of the segment before them, or else of the one
    /// after; if there is neither, comes a segment without records. A batch that cannot be read comes as an error, after what was good
    /// before it; one who goes on regardless gets what follows it.
    pub(crate) fn next_segment(&mut self, codecs: &mut Codecs) -> Option<Result<Segment, RecordError>> {
        let mut open = Open::default();
        while let Some(&batch) = self.chunk.heads.get(self.number) {
            let verdict = match self.verdict.take() {
                Some(verdict) => verdict,
                None => self.judge(&batch),
            };
            let added = match verdict {
                Ok(Verdict::Skip) => Ok(()),
                Ok(Verdict::Plain) if open.decompressed.is_none() => open.push(&batch, batch.records()),
                Ok(Verdict::Compressed(codec)) if open.heads.is_empty() => {
                    let input = &batch.bytes(&self.chunk.data)[HEADER_LEN..];
                    open.decompress(&batch, codec, input, codecs)
                }
                Ok(_) => {
                    self.verdict = Some(verdict);
                    break;
                }
                Err(kind) => Err(kind),
            };
            match added {
                Ok(()) => open.next = Some(Position { offset: batch.next_offset(), leader_epoch: batch.leader_epoch }),
                Err(kind) if open.next.is_none() => {
                    self.number += 1;
                    // What comes before `from` has been read already.
                    let offset = batch.base.max(self.chunk.from);
                    return Some(Err(RecordError { offset, next_offset: batch.next_offset(), kind }));
                }
                Err(kind) => {
                    self.verdict = Some(Err(kind));
                    break;
                }
            }
            self.number += 1;
        }
        open.close(&self.chunk).map(Ok)
    }

    /// Finds out what is to be done with a batch. Called once for each, in order.
    fn judge(&mut self, batch: &BatchHead) -> Result<Verdict, RecordErrorKind> {
        let bytes = batch.bytes(&self.chunk.data);
        if self.verify_crc {
            let found = crc32c::crc32c(&bytes[CRC_FROM..]);
            if found != batch.crc {
                return Err(RecordErrorKind::Crc { expected: batch.crc, found });
            }
        }
        if let Some(aborted) = &mut self.transactions
            && !planted!(HandOutAborted)
            && aborted.covers(batch, &bytes[HEADER_LEN..])?
        {
            return Ok(Verdict::Skip);
        }
        if batch.is_control() || batch.count == 0 {
            return Ok(Verdict::Skip);
        }
        match Codec::from_attributes(batch.codec()) {
            Ok(None) => Ok(Verdict::Plain),
            Ok(Some(codec)) => Ok(Verdict::Compressed(codec)),
            Err(_) => Err(RecordErrorKind::Malformed("batch with an unknown compression codec")),
        }
    }
}

/// A segment being put together.
#[derive(Default)]
struct Open {
    /// `None`: the records stand in the chunk's own bytes.
    decompressed: Option<Bytes>,
    heads: Vec<Head>,
    count: u32,
    /// After the last batch that was taken in; `None` before the first.
    next: Option<Position>,
}

impl Open {
    fn decompress(&mut self, batch: &BatchHead, codec: Codec, input: &[u8], codecs: &mut Codecs) -> Result<(), RecordErrorKind> {
        let data = codecs.decompress(codec, input).map_err(|error| match error {
            DecompressError::Corrupt(what) => RecordErrorKind::Decompress { codec, what },
            DecompressError::TooLarge { limit } => RecordErrorKind::TooLarge { limit },
        })?;
        let end = u32::try_from(data.len()).expect("the limit of decompressed bytes fits into 32 bits");
        self.push(batch, 0..end)?;
        self.decompressed = Some(data);
        Ok(())
    }

    /// Adds a batch whose records stand in `bytes` of the segment.
    fn push(&mut self, batch: &BatchHead, bytes: Range<u32>) -> Result<(), RecordErrorKind> {
        if u64::from(batch.count) * RECORD_LEN_MIN > bytes.len() as u64 {
            return Err(RecordErrorKind::Malformed("more records counted than the batch's bytes can hold"));
        }
        let log_append_time = batch.is_log_append_time();
        self.heads.push(Head {
            at: bytes.start,
            end: bytes.end,
            first_idx: self.count,
            count: batch.count,
            base: batch.base,
            last_delta: batch.last_delta,
            leader_epoch: batch.leader_epoch,
            timestamp: if log_append_time { batch.max_timestamp } else { batch.base_timestamp },
            log_append_time,
        });
        self.count += batch.count;
        Ok(())
    }

    fn close(self, chunk: &Chunk) -> Option<Segment> {
        let data = self.decompressed.unwrap_or_else(|| chunk.data.clone());
        Some(Segment::new(data, self.heads.into(), self.next?, chunk.from))
    }
}

/// Which producers are in a transaction that was aborted.
#[derive(Debug)]
struct Aborted {
    /// The last one begins first.
    ahead: Vec<AbortedTransaction>,
    /// Producer ids.
    open: BTreeSet<i64>,
}

impl Aborted {
    fn new(mut transactions: Vec<AbortedTransaction>) -> Self {
        transactions.sort_unstable_by_key(|transaction| Reverse(transaction.first_offset));
        Self { ahead: transactions, open: BTreeSet::new() }
    }

    /// Takes in the next batch of the log: does it belong to an aborted transaction?
    ///
    /// Only an abort marker of the same producer ends an aborted transaction: a commit marker, or another producer's, says nothing of it.
    fn covers(&mut self, batch: &BatchHead, records: &[u8]) -> Result<bool, RecordErrorKind> {
        while let Some(transaction) = self.ahead.pop_if(|transaction| transaction.first_offset <= batch.last_offset()) {
            self.open.insert(transaction.producer_id);
        }
        if batch.is_control() {
            let marker = control_type(records).filter(|_| batch.codec() == 0);
            if batch.count > 0 && marker.ok_or(RecordErrorKind::Malformed("control batch without a readable marker"))? == ABORT {
                self.open.remove(&batch.producer_id);
            }
            return Ok(false);
        }
        Ok(batch.is_transactional() && self.open.contains(&batch.producer_id))
    }
}
