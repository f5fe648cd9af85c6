//! gzip (RFC 1952), of one member or several.

use std::io::{ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use super::{DecompressError, Output};

/// The step by which output is asked for at first; grows with what has come.
const STEP: usize = 32 << 10;

pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), DecompressError> {
    let mut reader = MultiGzDecoder::new(input);
    loop {
        let step = output.len.max(STEP).min(output.room());
        // At the limit, one more byte decides.
        let mut probe = [0];
        let room = if step == 0 { &mut probe[..] } else { output.grow(step) };
        match reader.read(room) {
            Ok(0) => return Ok(()),
            Ok(_) if step == 0 => return Err(output.too_large()),
            Ok(read) => output.len += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(DecompressError::corrupt(error)),
        }
    }
}
