//! The LZ4 frame format; the blocks within are decompressed by `lz4_flex`.
//!
//! Its own frame decoder takes a truncated frame for a whole one, and does not know the header checksum of Kafka's first clients.

use super::{DecompressError, Output};

const MAGIC: u32 = 0x184d_2204;
/// Sixteen magics, for data that a decoder steps over.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// How far back a linked block may reach.
const WINDOW: usize = 64 << 10;
const STORED: u32 = 1 << 31;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const BLOCKS_INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY_ID: u8 = 1;

/// Decompresses one frame, or several one after another.
pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), DecompressError> {
    let mut reader = Reader { rest: input };
    loop {
        let frame_at = reader.rest;
        match reader.u32()? {
            MAGIC => frame(&mut reader, frame_at, output)?,
            magic if magic & !0xf == SKIPPABLE_MAGIC => {
                let len = reader.u32()? as usize;
                reader.take(len)?;
            }
            _ => return Err(corrupt("no LZ4 frame")),
        }
        if reader.rest.is_empty() {
            return Ok(());
        }
    }
}

/// Decompresses what follows a frame's magic. `whole` begins at the magic.
fn frame(reader: &mut Reader<'_>, whole: &[u8], output: &mut Output) -> Result<(), DecompressError> {
    let descriptor = reader.rest;
    let [flags, block_descriptor] = reader.array()?;
    if flags & VERSION_MASK != VERSION_1 {
        return Err(corrupt("unknown frame version"));
    }
    if flags & DICTIONARY_ID != 0 {
        return Err(corrupt("needs a dictionary"));
    }
    let block_max = match block_descriptor >> 4 & 0b111 {
        size @ 4.. => 1usize << (8 + 2 * size),
        _ => return Err(corrupt("unknown block size")),
    };
    let content_size = if flags & CONTENT_SIZE == 0 { None } else { Some(u64::from_le_bytes(reader.array()?)) };
    let descriptor = &descriptor[..descriptor.len() - reader.rest.len()];
    let [checksum] = reader.array()?;
    // Java clients before 0.10 took the magic into the sum (KAFKA-3160).
    let legacy = &whole[..4 + descriptor.len()];
    if checksum != header_checksum(descriptor) && checksum != header_checksum(legacy) {
        return Err(corrupt("wrong header checksum"));
    }

    let start = output.len;
    loop {
        let size = reader.u32()?;
        if size == 0 {
            break;
        }
        let (stored, size) = (size & STORED != 0, (size & !STORED) as usize);
        // A block that would grow is stored instead.
        if size > block_max {
            return Err(corrupt("block longer than its frame allows"));
        }
        let compressed = reader.take(size)?;
        if flags & BLOCK_CHECKSUM != 0 && reader.u32()? != xxh32(compressed) {
            return Err(corrupt("wrong block checksum"));
        }
        let room = output.room();
        if stored {
            if size > room {
                return Err(output.too_large());
            }
            output.grow(size).copy_from_slice(compressed);
            output.len += size;
            continue;
        }
        let wanted = block_max.min(size * 255 + 16);
        let (filled, free) = output.split(wanted.min(room));
        let decompressed = if flags & BLOCKS_INDEPENDENT != 0 {
            lz4_flex::block::decompress_into(compressed, free)
        } else {
            let window = &filled[start.max(filled.len().saturating_sub(WINDOW))..];
            lz4_flex::block::decompress_into_with_dict(compressed, free, window)
        };
        match decompressed {
            Ok(written) => output.len += written,
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < wanted => return Err(output.too_large()),
            Err(error) => return Err(DecompressError::corrupt(error)),
        }
    }

    let content = &output.buffer[start..output.len];
    if content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(corrupt("content size differs from what the frame states"));
    }
    if flags & CONTENT_CHECKSUM != 0 && reader.u32()? != xxh32(content) {
        return Err(corrupt("wrong content checksum"));
    }
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecompressError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| corrupt("truncated frame"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecompressError> {
        Ok(*self.take(N)?.first_chunk().expect("N bytes were taken"))
    }

    fn u32(&mut self) -> Result<u32, DecompressError> {
        self.array().map(u32::from_le_bytes)
    }
}

fn corrupt(what: &'static str) -> DecompressError {
    DecompressError::Corrupt(what.into())
}

pub(super) fn header_checksum(descriptor: &[u8]) -> u8 {
    (xxh32(descriptor) >> 8) as u8
}

/// XXH32 with seed 0.
pub(super) fn xxh32(bytes: &[u8]) -> u32 {
    const P1: u32 = 0x9e37_79b1;
    const P2: u32 = 0x85eb_ca77;
    const P3: u32 = 0xc2b2_ae3d;
    const P4: u32 = 0x27d4_eb2f;
    const P5: u32 = 0x1656_67b1;

    let (stripes, rest) = bytes.as_chunks::<16>();
    let mut sum = if stripes.is_empty() {
        P5
    } else {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u32.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
                *lane = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P2)).rotate_left(13).wrapping_mul(P1);
            }
        }
        let [a, b, c, d] = lanes;
        a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
    };
    sum = sum.wrapping_add(bytes.len() as u32);
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum = sum.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
    }
    for &byte in rest {
        sum = sum.wrapping_add(u32::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    sum = (sum ^ sum >> 15).wrapping_mul(P2);
    sum = (sum ^ sum >> 13).wrapping_mul(P3);
    sum ^ sum >> 16
}
