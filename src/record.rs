//! Records apart from how they were delivered.

use std::{fmt, str, sync::Arc};

use bytes::Bytes;

/// One header of a record, borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    pub(crate) fn new(key: &'a [u8], value: Option<&'a [u8]>) -> Self {
        Self { key, value }
    }

    /// Returns the header's key. Kafka asks for UTF-8 and does not enforce it.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Returns the key as text, or `None` if it is not UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        str::from_utf8(self.key).ok()
    }

    /// Returns the header's value; `None` is null, which is not the same as empty.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}

/// Shows the key, never the value.
impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_header(f, "Header", self.key, self.value.map(<[u8]>::len))
    }
}

/// A record that owns its bytes, apart from the buffer it was fetched in.
///
/// A delivery keeps the whole answer that it came in alive: to hold records for long, hold these.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, counted from 0.
    pub partition: i32,
    /// The record's offset in its partition.
    pub offset: i64,
    /// The epoch of the leader that appended the record; `None` where the broker did not say.
    pub leader_epoch: Option<i32>,
    /// Milliseconds since 1970: when the producer made the record, or when the broker appended it, as the topic's
    /// `message.timestamp.type` says. -1 if the producer gave none.
    pub timestamp: i64,
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<Bytes>,
    /// The value; `None` is null: in a compacted topic, a deletion of the key.
    pub value: Option<Bytes>,
    /// The headers in the producer's order; a key may come more than once.
    pub headers: Vec<OwnedHeader>,
}

/// Shows where the record stands, never what is in it.
impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// One header of an [`OwnedRecord`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedHeader {
    /// The key. Kafka asks for UTF-8 and does not enforce it.
    pub key: Bytes,
    /// The value; `None` is null, which is not the same as empty.
    pub value: Option<Bytes>,
}

impl OwnedHeader {
    /// Returns the key as text, or `None` if it is not UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        str::from_utf8(&self.key).ok()
    }
}

/// Shows the key, never the value.
impl fmt::Debug for OwnedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_header(f, "OwnedHeader", &self.key, self.value.as_ref().map(Bytes::len))
    }
}

fn debug_header(f: &mut fmt::Formatter<'_>, name: &str, key: &[u8], value_len: Option<usize>) -> fmt::Result {
    f.debug_struct(name).field("key", &String::from_utf8_lossy(key)).field("value_len", &value_len).finish()
}
