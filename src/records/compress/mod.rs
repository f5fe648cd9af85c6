//! Decompression with a limit on what may come out.
//!
//! No size that the compressed bytes state is believed: memory is taken as output comes, or up to what so many bytes of input can make.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// Reads the number in a batch's attributes; an unknown one comes back.
    pub(super) fn from_attributes(codec: i16) -> Result<Option<Self>, i16> {
        match codec {
            0 => Ok(None),
            1 => Ok(Some(Self::Gzip)),
            2 => Ok(Some(Self::Snappy)),
            3 => Ok(Some(Self::Lz4)),
            4 => Ok(Some(Self::Zstd)),
            unknown => Err(unknown),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DecompressError {
    Corrupt(String),
    /// The output would be longer than `limit` bytes.
    TooLarge {
        limit: usize,
    },
}

impl DecompressError {
    fn corrupt(what: impl fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

/// The decompressors of one task, and the buffers that they fill: kept, because making them anew costs more than a small batch.
pub(crate) struct Codecs {
    limit: usize,
    pool: Arc<Pool>,
    snappy: snap::raw::Decoder,
    zstd: zrip::DecompressContext,
}

impl Codecs {
    /// Decompressors that put out at most `decompressed_bytes_max` for one batch.
    pub(crate) fn new(decompressed_bytes_max: usize) -> Self {
        Self {
            // Places in a batch are 32 bits wide.
            limit: decompressed_bytes_max.min(i32::MAX as usize),
            pool: Arc::default(),
            snappy: snap::raw::Decoder::new(),
            zstd: zrip::DecompressContext::new(),
        }
    }

    /// Decompresses one batch's records into a buffer of their own, which comes back here when it is dropped.
    pub(crate) fn decompress(&mut self, codec: Codec, input: &[u8]) -> Result<Bytes, DecompressError> {
        let mut output = Output { buffer: self.pool.take(), len: 0, limit: self.limit };
        let done = match codec {
            Codec::Gzip => gzip::decompress(input, &mut output),
            Codec::Snappy => snappy::decompress(&mut self.snappy, input, &mut output),
            Codec::Lz4 => lz4::decompress(input, &mut output),
            Codec::Zstd => zstd::decompress(&mut self.zstd, input, &mut output),
        };
        let pooled = Pooled { buffer: output.buffer, len: output.len, pool: Arc::downgrade(&self.pool) };
        done?;
        Ok(Bytes::from_owner(pooled))
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codecs").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A buffer being filled. What lies in it past `len` is left over from earlier use: zeroing it again would cost as much as a decompressor.
struct Output {
    buffer: Vec<u8>,
    len: usize,
    limit: usize,
}

impl Output {
    /// How many bytes may still come.
    fn room(&self) -> usize {
        self.limit - self.len
    }

    /// Makes `more` bytes after what is filled usable, and returns both.
    fn split(&mut self, more: usize) -> (&[u8], &mut [u8]) {
        debug_assert!(more <= self.room(), "the caller has compared with the room");
        let needed = self.len + more;
        if self.buffer.len() < needed {
            // Geometric, so that growing by blocks does not copy everything for each.
            self.buffer.resize(needed.max(self.buffer.len().saturating_mul(2)).min(self.limit), 0);
        }
        let (filled, rest) = self.buffer.split_at_mut(self.len);
        (filled, &mut rest[..more])
    }

    /// Makes `more` bytes usable.
    fn grow(&mut self, more: usize) -> &mut [u8] {
        self.split(more).1
    }

    fn too_large(&self) -> DecompressError {
        DecompressError::TooLarge { limit: self.limit }
    }
}

/// Buffers that wait to be used again. Their length is what was once initialised.
#[derive(Default)]
struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// As many batches as a reader holds at a time without a delivery outstanding, and some.
    const BUFFERS_MAX: usize = 4;
    /// What is larger was a rare batch: not worth holding.
    const BUFFER_BYTES_MAX: usize = 4 << 20;

    fn take(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > Self::BUFFER_BYTES_MAX {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < Self::BUFFERS_MAX {
            free.push(buffer);
        }
    }
}

/// A filled buffer on loan.
struct Pooled {
    buffer: Vec<u8>,
    len: usize,
    pool: Weak<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
