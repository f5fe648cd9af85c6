//! A small encoder of record batches, for tests and benches: it writes what no producer would, too.

use super::batch::{CRC_FROM, HEADER_LEN};

pub(crate) type OwnedHeaders = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// One record as a test states it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestRecord {
    pub(crate) delta: i32,
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: OwnedHeaders,
}

impl TestRecord {
    pub(crate) fn new(delta: i32, value: impl AsRef<[u8]>) -> Self {
        Self { delta, value: Some(value.as_ref().to_vec()), ..Self::default() }
    }
}

/// One batch as a test states it. What is `None` is written as a producer would.
#[derive(Clone, Debug)]
pub(crate) struct TestBatch {
    pub(crate) base: i64,
    pub(crate) records: Vec<TestRecord>,
    pub(crate) last_delta: Option<i32>,
    pub(crate) count: Option<i32>,
    pub(crate) attributes: i16,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) leader_epoch: i32,
    /// The records' bytes as they stand in the batch, instead of `records`.
    pub(crate) payload: Option<Vec<u8>>,
}

impl TestBatch {
    pub(crate) const LOG_APPEND_TIME: i16 = 8;
    const TRANSACTIONAL: i16 = 16;
    const CONTROL: i16 = 32;

    pub(crate) fn new(base: i64) -> Self {
        Self {
            base,
            records: Vec::new(),
            last_delta: None,
            count: None,
            attributes: 0,
            base_timestamp: 1_000,
            max_timestamp: 2_000,
            producer_id: -1,
            leader_epoch: 3,
            payload: None,
        }
    }

    /// `count` records without gaps.
    pub(crate) fn dense(base: i64, count: i32) -> Self {
        Self::sparse(base, &(0..count).collect::<Vec<_>>(), None)
    }

    /// Records at `deltas`, as compaction leaves them.
    pub(crate) fn sparse(base: i64, deltas: &[i32], last_delta: Option<i32>) -> Self {
        let records = deltas.iter().map(|&delta| TestRecord::new(delta, format!("v{}", base + i64::from(delta)))).collect();
        Self { records, last_delta, ..Self::new(base) }
    }

    pub(crate) fn transactional(self, producer_id: i64) -> Self {
        Self { producer_id, attributes: self.attributes | Self::TRANSACTIONAL, ..self }
    }

    /// The marker that ends a transaction: 0 aborts it, 1 commits it.
    pub(crate) fn marker(base: i64, producer_id: i64, kind: i16) -> Self {
        let mut key = 0i16.to_be_bytes().to_vec();
        key.extend(kind.to_be_bytes());
        let record = TestRecord { key: Some(key), ..TestRecord::new(0, [0; 6]) };
        Self { records: vec![record], producer_id, attributes: Self::TRANSACTIONAL | Self::CONTROL, ..Self::new(base) }
    }

    /// The same batch with its records compressed.
    pub(crate) fn compressed(self, codec: i16, compress: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let payload = compress(&self.plain_records());
        let (count, last_delta) = (Some(self.count()), Some(self.last_delta()));
        Self { payload: Some(payload), count, last_delta, attributes: self.attributes | codec, ..self }
    }

    pub(crate) fn count(&self) -> i32 {
        self.count.unwrap_or(self.records.len() as i32)
    }

    pub(crate) fn last_delta(&self) -> i32 {
        self.last_delta.unwrap_or_else(|| self.records.last().map_or(0, |record| record.delta))
    }

    pub(crate) fn plain_records(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in &self.records {
            put_record(&mut bytes, record);
        }
        bytes
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let payload = self.payload.clone().unwrap_or_else(|| self.plain_records());
        let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
        bytes.extend(self.base.to_be_bytes());
        bytes.extend(((HEADER_LEN - 12 + payload.len()) as i32).to_be_bytes());
        bytes.extend(self.leader_epoch.to_be_bytes());
        bytes.push(2);
        bytes.extend([0; 4]);
        bytes.extend(self.attributes.to_be_bytes());
        bytes.extend(self.last_delta().to_be_bytes());
        bytes.extend(self.base_timestamp.to_be_bytes());
        bytes.extend(self.max_timestamp.to_be_bytes());
        bytes.extend(self.producer_id.to_be_bytes());
        bytes.extend([0xff; 2 + 4]);
        bytes.extend(self.count().to_be_bytes());
        bytes.extend(payload);
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

pub(crate) fn put_record(bytes: &mut Vec<u8>, record: &TestRecord) {
    let mut body = vec![0];
    put_varint(&mut body, record.timestamp_delta);
    put_varint(&mut body, record.delta.into());
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (key, value) in &record.headers {
        put_bytes(&mut body, Some(key));
        put_bytes(&mut body, value.as_deref());
    }
    put_varint(bytes, body.len() as i64);
    bytes.extend(body);
}

pub(crate) fn put_varint(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    put_varint(bytes, field.map_or(-1, |field| field.len() as i64));
    bytes.extend(field.unwrap_or_default());
}
