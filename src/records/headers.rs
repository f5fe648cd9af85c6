//! Headers of a record, read from its bytes one at a time.

use std::{fmt, iter::FusedIterator};

use super::varint::varint;
use crate::record::Header;

/// The headers of one record, in the order in which the producer wrote them; a key may come more than once.
///
/// An iterator that borrows from its record and copies nothing.
#[derive(Clone)]
pub struct Headers<'a> {
    /// What is left, beginning at the next header.
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Headers<'a> {
    /// Reads the headers of a record whose bytes the cursor has checked; `bytes` begins at their count.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut at = 0;
        let left = varint(bytes, &mut at).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        Self { bytes: bytes.get(at..).unwrap_or_default(), left }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut at = 0;
        let header = read(self.bytes, &mut at);
        self.bytes = self.bytes.get(at..).unwrap_or_default();
        if header.is_none() {
            self.left = 0;
        }
        header
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Walks the headers that begin at `at` with their count: where they end, or `None` when they do not fit into `bytes`.
///
/// Whatever the count says, the walk ends with the bytes.
pub(super) fn end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let count = varint(bytes, &mut at)?;
    if count < 0 {
        return None;
    }
    for _ in 0..count {
        read(bytes, &mut at)?;
    }
    Some(at)
}

fn read<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Header<'a>> {
    let key_len = usize::try_from(varint(bytes, at)?).ok()?;
    let key = take(bytes, at, key_len)?;
    let value = match usize::try_from(varint(bytes, at)?) {
        Ok(len) => Some(take(bytes, at, len)?),
        Err(_) => None,
    };
    Some(Header::new(key, value))
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, len: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(*at..)?.get(..len)?;
    *at += len;
    Some(taken)
}
