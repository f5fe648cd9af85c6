//! Zstandard (RFC 8878).

use super::{DecompressError, Output};

/// What one byte of input can make at most: a block of 128 KiB takes four bytes.
const EXPANSION_MAX: usize = 32 << 10;

pub(super) fn decompress(
    context: &mut zrip::DecompressContext,
    input: &[u8],
    output: &mut Output,
) -> Result<(), DecompressError> {
    // The decoder reserves what the frame states, up to the limit that it is given: a short frame that lies must not get much.
    let limit = output.limit.min(input.len().saturating_mul(EXPANSION_MAX));
    output.buffer.clear();
    match context.decompress_into_with_limit(input, &mut output.buffer, limit) {
        Ok(written) => {
            output.len = written;
            Ok(())
        }
        Err(zrip::DecompressError::OutputTooSmall) if limit == output.limit => Err(output.too_large()),
        Err(zrip::DecompressError::OutputTooSmall) => {
            Err(DecompressError::Corrupt("states more output than its input can make".into()))
        }
        Err(error) => Err(DecompressError::corrupt(error)),
    }
}
