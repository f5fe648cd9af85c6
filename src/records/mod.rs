//! Bytes to batches to records.
//!
//! What one Fetch answer holds of one partition passes through three hands:
//!
//! 1. The core calls [`index`]: headers only, to learn the next offset. What it found travels on as a [`Chunk`].
//! 2. The user's task opens the chunk with a [`ChunkReader`]: checksums, markers, aborted transactions, decompression. Out come
//!    [`Segment`]s: records of one contiguous buffer, and the offset after them.
//! 3. A [`Reader`] walks a segment, one record a step, copying nothing; a [`Cursor`] is a place in it.
//!
//! Every byte here came from a network: no count and no length is believed before it was compared with the bytes that are there.

mod batch;
mod chunk;
mod compress;
mod headers;
mod reader;
mod record;
mod varint;

pub(crate) use batch::{BatchError, BatchHead, index};
pub(crate) use chunk::{Chunk, ChunkReader, RecordError, RecordErrorKind, aborted_within};
pub(crate) use compress::{Codecs, DecompressError};
pub use headers::Headers;
pub(crate) use reader::Reader;
pub(crate) use record::{Cursor, Head, RawRecord, Segment};

#[cfg(any(test, feature = "__bench"))]
#[cfg_attr(not(test), allow(dead_code, reason = "benches write only what a producer would"))]
pub(crate) mod encode;
#[cfg(test)]
mod tests;
