//! A reader of answers that believes no length before it has compared it with the bytes that are there.

use std::{mem, sync::Arc};

use bytes::Bytes;

use super::{Api, Malformed};

/// How many entries one answer may have in all its lists together: topics, partitions, members, brokers and the like. An entry in memory is
/// many times what it is on the wire, so the bytes that are there do not bound it well enough.
pub(super) const ENTRIES_MAX: usize = 1_000_000;

/// How long a text may be, in bytes. Before compact lengths none could be longer, and brokers keep to that.
const TEXT_LEN_MAX: usize = i16::MAX as usize;

/// Reads the fields of one answer in order, each as the answer's version encodes it.
pub(super) struct Cursor {
    api: Api,
    version: i16,
    bytes: Bytes,
    at: usize,
    /// Where reading must stop: the end of the tagged field being read, else of the answer.
    end: usize,
    /// How many entries of lists may still come.
    entries_left: usize,
}

impl Cursor {
    pub(super) fn new(api: Api, version: i16, bytes: Bytes) -> Self {
        let end = bytes.len();
        Self { api, version, bytes, at: 0, end, entries_left: ENTRIES_MAX }
    }

    pub(super) fn api(&self) -> Api {
        self.api
    }

    pub(super) fn version(&self) -> i16 {
        self.version
    }

    /// How many bytes the whole answer has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Compact lengths and tagged fields, instead of fixed lengths and none.
    pub(super) fn is_flexible(&self) -> bool {
        self.api.is_flexible(self.version)
    }

    /// Says what is wrong at the current place.
    pub(super) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { api: self.api, version: self.version, at: self.at, what }
    }

    /// Checks that the answer was read whole.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        if self.at == self.end { Ok(()) } else { Err(self.malformed("bytes left over")) }
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(u8::from_be_bytes(self.fixed()?) != 0)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    pub(super) fn string(&mut self) -> Result<Arc<str>, Malformed> {
        self.nullable_string()?.ok_or_else(|| self.malformed("null where a string must be"))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<Arc<str>>, Malformed> {
        let length = if self.is_flexible() {
            self.compact_length()?
        } else {
            let length = self.i16()?;
            self.plain_length(length.into())?
        };
        let Some(length) = length else { return Ok(None) };
        if length > TEXT_LEN_MAX {
            return Err(self.malformed("a text of more than 32767 bytes"));
        }
        match str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(self.malformed("a string that is not UTF-8")),
        }
    }

    /// Bytes as a slice of the answer: nothing is copied.
    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        self.nullable_bytes()?.ok_or_else(|| self.malformed("null where bytes must be"))
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.length()? else { return Ok(None) };
        let from = self.at;
        self.take(length)?;
        Ok(Some(self.bytes.slice(from..self.at)))
    }

    pub(super) fn array<T>(&mut self, element: impl FnMut(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        self.nullable_array(element)?.ok_or_else(|| self.malformed("null where an array must be"))
    }

    pub(super) fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.entries()? else { return Ok(None) };
        // Room for no more than the bytes that are there: whatever the count says, the vector grows beyond that only by elements read.
        let mut elements = Vec::with_capacity(count.min(self.remaining() / size_of::<T>().max(1)));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads an array whose elements are put somewhere else.
    pub(super) fn each(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let count = self.entries()?.ok_or_else(|| self.malformed("null where an array must be"))?;
        (0..count).try_for_each(|_| element(self))
    }

    /// Reads a list of numbers: they take no more memory than they take bytes, and are not counted as entries.
    pub(super) fn numbers<T>(&mut self, of: impl Fn(i32) -> T) -> Result<Vec<T>, Malformed> {
        let count = self.count()?.ok_or_else(|| self.malformed("null where an array must be"))?;
        let bytes = self.take(count.saturating_mul(size_of::<i32>()))?;
        Ok(bytes.as_chunks().0.iter().map(|number| of(i32::from_be_bytes(*number))).collect())
    }

    /// Reads the tagged fields that end a structure of a flexible version. `field` gets each tag, and reads the field whole or skips it.
    pub(super) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(&mut Self, u32) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.is_flexible() {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(self.malformed("a tagged field that is longer than what holds it"));
            }
            let outer = mem::replace(&mut self.end, self.at + size);
            field(self, tag)?;
            self.finish()?;
            self.end = outer;
        }
        Ok(())
    }

    pub(super) fn skip_tagged_fields(&mut self) -> Result<(), Malformed> {
        self.tagged_fields(|cursor, _| {
            cursor.skip_field();
            Ok(())
        })
    }

    /// Skips the rest of the tagged field being read.
    pub(super) fn skip_field(&mut self) {
        self.at = self.end;
    }

    fn remaining(&self) -> usize {
        self.end - self.at
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Malformed> {
        if count > self.remaining() {
            return Err(self.malformed("cut short"));
        }
        let from = self.at;
        self.at += count;
        Ok(&self.bytes[from..self.at])
    }

    /// The count of an array whose elements are entries; `None` for null.
    fn entries(&mut self) -> Result<Option<usize>, Malformed> {
        let Some(count) = self.count()? else { return Ok(None) };
        match self.entries_left.checked_sub(count) {
            Some(left) => self.entries_left = left,
            None => return Err(self.malformed("more than 1000000 entries")),
        }
        Ok(Some(count))
    }

    /// The count of an array; `None` for null.
    fn count(&mut self) -> Result<Option<usize>, Malformed> {
        let count = self.length()?;
        // No element takes less than a byte.
        if count.is_some_and(|count| count > self.remaining()) {
            return Err(self.malformed("an array with more elements than there are bytes"));
        }
        Ok(count)
    }

    /// The length of bytes or of an array; `None` for null.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        if self.is_flexible() {
            return self.compact_length();
        }
        let length = self.i32()?;
        self.plain_length(length)
    }

    fn plain_length(&self, length: i32) -> Result<Option<usize>, Malformed> {
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| self.malformed("a negative length")),
        }
    }

    /// Compact lengths count from 1, and 0 is null.
    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in (0..u32::BITS).step_by(7) {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number of more than 32 bits"))
    }
}
