//! Records, as tests write and read them.

use bytes::Bytes;

/// A record to be appended. What many tests need converts into one: `"value"`, `("key", "value")`, a `String`, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in their order; keys may repeat, and need not be text.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// When it was made; `None` is now.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// Makes a record of a value.
    #[must_use]
    pub fn new(value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(copy(value)), ..Self::default() }
    }

    /// Makes a record that deletes its key from a compacted topic.
    #[must_use]
    pub fn tombstone(key: impl AsRef<[u8]>) -> Self {
        Self::default().key(key)
    }

    /// Gives it a key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(copy(key));
        self
    }

    /// Adds a header behind those it has.
    #[must_use]
    pub fn header(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((copy(key), Some(copy(value))));
        self
    }

    /// Says when it was made.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl From<&str> for Record {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<String> for Record {
    fn from(value: String) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

impl From<Vec<u8>> for Record {
    fn from(value: Vec<u8>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

impl From<Bytes> for Record {
    fn from(value: Bytes) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> From<(K, V)> for Record {
    fn from((key, value): (K, V)) -> Self {
        Self::new(value).key(key)
    }
}

fn copy(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// A record as it lies in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Where it lies.
    pub offset: i64,
    /// When it was made, or appended, as the topic's `message.timestamp.type` says.
    pub timestamp_ms: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// The headers in their order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl StoredRecord {
    /// Reads the key as text; nothing if there is none, or it is not text.
    #[must_use]
    pub fn key_str(&self) -> Option<&str> {
        str::from_utf8(self.key.as_deref()?).ok()
    }

    /// Reads the value as text; nothing if there is none, or it is not text.
    #[must_use]
    pub fn value_str(&self) -> Option<&str> {
        str::from_utf8(self.value.as_deref()?).ok()
    }
}
