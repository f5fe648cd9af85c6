//! Snappy: one raw block, as librdkafka writes it, or the framing of xerial's snappy-java, as the Java client does.

use super::{DecompressError, Output};

/// Magic, version and the lowest compatible version.
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";

pub(super) fn decompress(decoder: &mut snap::raw::Decoder, input: &[u8], output: &mut Output) -> Result<(), DecompressError> {
    if !input.starts_with(XERIAL_MAGIC) {
        return block(decoder, input, output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Streams that were joined have a header each.
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(truncated)?;
            continue;
        }
        let (&len, after) = rest.split_first_chunk().ok_or_else(truncated)?;
        let len = u32::from_be_bytes(len) as usize;
        let (compressed, after) = after.split_at_checked(len).ok_or_else(truncated)?;
        block(decoder, compressed, output)?;
        rest = after;
    }
    Ok(())
}

fn block(decoder: &mut snap::raw::Decoder, input: &[u8], output: &mut Output) -> Result<(), DecompressError> {
    let len = snap::raw::decompress_len(input).map_err(DecompressError::corrupt)?;
    if len > output.room() {
        return Err(output.too_large());
    }
    // Two bytes of input copy 64 at most.
    if len > input.len().saturating_mul(64).saturating_add(64) {
        return Err(DecompressError::Corrupt("states more output than its input can make".into()));
    }
    let written = decoder.decompress(input, output.grow(len)).map_err(DecompressError::corrupt)?;
    output.len += written;
    Ok(())
}

fn truncated() -> DecompressError {
    DecompressError::Corrupt("truncated xerial frame".into())
}
