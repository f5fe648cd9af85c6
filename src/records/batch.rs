//! The headers of record batches (format version 2), without their records.

use std::ops::Range;

use bytes::Bytes;

use crate::model::{LeaderEpoch, Offset};

/// The header's length: what a batch cannot be shorter than.
pub(super) const HEADER_LEN: usize = 61;
/// Base offset and length: the part that the length does not count.
const LOG_OVERHEAD: usize = 12;
/// Up to and with the magic byte, which stands in the same place in every format.
const MAGIC_END: usize = 17;
/// Where the bytes begin that the CRC covers.
pub(super) const CRC_FROM: usize = 21;

const COMPRESSION_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// One batch's header, and where the batch stands in its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// Where the batch begins in the chunk's data.
    pub(crate) at: u32,
    /// How many bytes it takes, header included.
    pub(crate) len: u32,
    pub(crate) base: Offset,
    /// The last record's offset less `base`; stays when compaction removes that record.
    pub(crate) last_delta: i32,
    /// What the header says; not yet compared with the bytes.
    pub(crate) count: u32,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
}

impl BatchHead {
    /// The offset of the batch's last record, also where compaction has removed it.
    pub(crate) fn last_offset(&self) -> Offset {
        Offset(self.base.0.saturating_add(self.last_delta.into()))
    }

    /// Where to go on after this batch: the only way past an empty tail that compaction left.
    pub(crate) fn next_offset(&self) -> Offset {
        if planted!(StepByRecord) {
            return Offset(self.base.0.saturating_add(self.count.into()));
        }
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The number of the codec; 0 is none.
    pub(super) fn codec(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    pub(super) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Where the records stand in the chunk's data, uncompressed or not.
    pub(super) fn records(&self) -> Range<u32> {
        self.at + HEADER_LEN as u32..self.at + self.len
    }

    /// The whole batch within its chunk's data.
    pub(super) fn bytes<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        &data[self.at as usize..][..self.len as usize]
    }
}

/// What the headers of one partition's part of a Fetch answer say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Every whole batch that reaches `from` or beyond, in order.
    pub(crate) heads: Vec<BatchHead>,
    /// Where to fetch next; `None` when there is no such batch.
    pub(crate) next_offset: Option<Offset>,
    /// What ended the walk early. The batches before it are good.
    pub(crate) error: Option<BatchError>,
}

impl Indexed {
    /// The epoch of the last batch: what the next Fetch states as `last_fetched_epoch`.
    pub(crate) fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.heads.last()?.leader_epoch
    }
}

/// Why a partition's part of a Fetch answer cannot be walked to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    /// Not even the first batch is whole. Brokers before 0.10.1 (KIP-74) cut it at the asked size: ask for more.
    #[error("the first batch needs at least {needed} bytes, more than were asked for")]
    TooSmall {
        /// As the bytes say it: to be capped before it is believed.
        needed: usize,
    },
    /// Written before Kafka 0.11.
    #[error("records at offset {} are in the message format v{magic}, older than Kafka 0.11", offset.0)]
    Legacy { magic: i8, offset: Offset },
    #[error("malformed batch at offset {}: {what}", offset.0)]
    Malformed { offset: Offset, what: &'static str },
}

/// Walks the batches' headers in one partition's part of a Fetch answer that was asked from `from`.
///
/// Looks at headers only: neither the CRC nor any record. A truncated batch at the end is legal and ends the walk quietly, unless
/// nothing of use came before it.
pub(crate) fn index(data: &Bytes, from: Offset) -> Indexed {
    let mut indexed = Indexed::default();
    let mut at = 0;
    let mut min_base = 0;
    loop {
        let rest = data.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return indexed;
        }
        let head = match parse(rest, at, min_base) {
            Ok(head) => head,
            Err(Stop::Truncated { .. }) if !indexed.heads.is_empty() => return indexed,
            Err(Stop::Truncated { needed }) => {
                indexed.error = Some(BatchError::TooSmall { needed });
                return indexed;
            }
            Err(Stop::Error(error)) => {
                indexed.error = Some(error);
                return indexed;
            }
        };
        at += head.len as usize;
        min_base = head.next_offset().0;
        if head.last_offset() >= from {
            indexed.next_offset = Some(head.next_offset());
            indexed.heads.push(head);
        }
    }
}

enum Stop {
    Truncated { needed: usize },
    Error(BatchError),
}

/// Parses the header at the start of `rest`, which begins at `at` of its chunk.
fn parse(rest: &[u8], at: usize, min_base: i64) -> Result<BatchHead, Stop> {
    let too_short = |needed: usize| Stop::Truncated { needed };

    let (Some(base), Some(len)) = (i64_at(rest, 0), i32_at(rest, 8)) else { return Err(too_short(HEADER_LEN)) };
    let malformed = |what| Stop::Error(BatchError::Malformed { offset: Offset(base), what });
    let len = usize::try_from(len).map_err(|_| malformed("negative length"))?;
    let needed = LOG_OVERHEAD.saturating_add(len);

    let Some(&magic) = rest.get(MAGIC_END - 1) else { return Err(too_short(needed.max(HEADER_LEN))) };
    match magic.cast_signed() {
        2 => {}
        magic @ 0..2 => return Err(Stop::Error(BatchError::Legacy { magic, offset: Offset(base) })),
        _ => return Err(malformed("unknown format version")),
    }
    if needed < HEADER_LEN {
        return Err(malformed("length shorter than a batch's header"));
    }
    let (Some(batch), Ok(at), Ok(len)) = (rest.get(..needed), u32::try_from(at), u32::try_from(needed)) else {
        return Err(too_short(needed));
    };

    let holds = "the batch is at least as long as its header";
    let last_delta = i32_at(batch, 23).expect(holds);
    let count = u32::try_from(i32_at(batch, 57).expect(holds)).map_err(|_| malformed("negative record count"))?;
    if base < min_base {
        return Err(malformed("base offset not above the batch before"));
    }
    if last_delta < 0 {
        return Err(malformed("negative last offset delta"));
    }
    // The offset after the last one must exist too.
    if base.checked_add(i64::from(last_delta) + 1).is_none() {
        return Err(malformed("offsets beyond 64 bits"));
    }
    Ok(BatchHead {
        at,
        len,
        base: Offset(base),
        last_delta,
        count,
        crc: i32_at(batch, 17).expect(holds).cast_unsigned(),
        attributes: i16::from_be_bytes([batch[21], batch[22]]),
        leader_epoch: Some(i32_at(batch, 12).expect(holds)).filter(|&epoch| epoch >= 0).map(LeaderEpoch),
        base_timestamp: i64_at(batch, 27).expect(holds),
        max_timestamp: i64_at(batch, 35).expect(holds),
        producer_id: i64_at(batch, 43).expect(holds),
    })
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().copied().map(i32::from_be_bytes)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().copied().map(i64::from_be_bytes)
}
