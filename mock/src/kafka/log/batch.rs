//! Record batches of format 2: a header of fixed size, then records of varints.

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::StoredRecord;

pub(crate) const HEADER_BYTES: usize = 61;
/// All formats have their length and magic here.
const PREFIX_BYTES: usize = 17;
const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The checksum covers what begins here: the broker may set offset and epoch without a new one.
const CHECKED_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION: i16 = 0b111;
const ZSTD: i16 = 4;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// What a batch says of itself before its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

/// One batch, as its bytes lie in a log.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) header: Header,
}

/// Who writes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// Why a batch's records cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Their codec is not spoken here.
    Compressed,
    /// Length, checksum, magic or records are wrong.
    Corrupt,
}

/// Why bytes are no batch that a producer may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// Length or checksum do not fit.
    Corrupt,
    /// The format is older than today's.
    OldFormat,
    /// What the header says does not go together.
    Contradictory,
}

impl Header {
    /// Begins the header of a batch that no producer with an id has written.
    pub(crate) fn plain() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        }
    }

    pub(crate) fn transactional(producer: Producer, base_sequence: i32) -> Self {
        let Producer { id: producer_id, epoch: producer_epoch } = producer;
        Self { producer_id, producer_epoch, base_sequence, attributes: TRANSACTIONAL, ..Self::plain() }
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(Self {
            base_offset: i64::from_be_bytes(part(bytes, 0)),
            leader_epoch: i32::from_be_bytes(part(bytes, EPOCH_AT)),
            attributes: i16::from_be_bytes(part(bytes, CHECKED_AT)),
            last_offset_delta: i32::from_be_bytes(part(bytes, 23)),
            base_timestamp: i64::from_be_bytes(part(bytes, 27)),
            max_timestamp: i64::from_be_bytes(part(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(part(bytes, 43)),
            producer_epoch: i16::from_be_bytes(part(bytes, 51)),
            base_sequence: i32::from_be_bytes(part(bytes, 53)),
            count: i32::from_be_bytes(part(bytes, 57)),
        })
    }
}

impl Batch {
    /// Builds a batch of these records; its offsets and times are those of the header as far as it sets them.
    pub(crate) fn build(mut header: Header, records: &[StoredRecord]) -> Self {
        let last_delta = records.last().map(|record| record.offset - header.base_offset).unwrap_or(-1);
        header.last_offset_delta = header.last_offset_delta.max(i32::try_from(last_delta).expect("a batch of fewer records"));
        header.count = i32::try_from(records.len()).expect("a batch of fewer records");
        if let Some(first) = records.first().filter(|_| header.base_timestamp < 0) {
            header.base_timestamp = first.timestamp_ms;
        }
        if !header.is_log_append_time() {
            header.max_timestamp = records.iter().map(|record| record.timestamp_ms).max().unwrap_or(header.max_timestamp);
        }
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + 64 * records.len());
        bytes.put_i64(header.base_offset);
        bytes.put_i32(0);
        bytes.put_i32(header.leader_epoch);
        bytes.put_i8(2);
        bytes.put_u32(0);
        bytes.put_i16(header.attributes);
        bytes.put_i32(header.last_offset_delta);
        bytes.put_i64(header.base_timestamp);
        bytes.put_i64(header.max_timestamp);
        bytes.put_i64(header.producer_id);
        bytes.put_i16(header.producer_epoch);
        bytes.put_i32(header.base_sequence);
        bytes.put_i32(header.count);
        records.iter().for_each(|record| put_record(&mut bytes, &header, record));
        let length = i32::try_from(bytes.len() - EPOCH_AT).expect("a batch shorter than 2 GiB");
        bytes[LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
        seal(&mut bytes);
        Self { bytes: bytes.freeze(), header }
    }

    /// Builds the marker that ends a transaction.
    pub(crate) fn marker(base_offset: i64, producer: Producer, is_committed: bool, coordinator_epoch: i32, now_ms: i64) -> Self {
        let mut header = Header { base_offset, ..Header::transactional(producer, -1) };
        header.attributes |= CONTROL;
        let mut key = BytesMut::new();
        key.put_i16(0);
        key.put_i16(if is_committed { COMMIT } else { ABORT });
        let mut value = BytesMut::new();
        value.put_i16(0);
        value.put_i32(coordinator_epoch);
        let (key, value) = (Some(key.freeze()), Some(value.freeze()));
        let record = StoredRecord { offset: base_offset, timestamp_ms: now_ms, key, value, headers: Vec::new() };
        Self::build(header, &[record])
    }

    /// Says whether bytes call themselves part of a transaction, be they a sound batch or not.
    pub(crate) fn claims_transaction(bytes: &Bytes) -> bool {
        bytes.len() >= PREFIX_BYTES && bytes[MAGIC_AT] == 2 && Header::read(bytes).is_some_and(|header| header.is_transactional())
    }

    /// Reads the one batch that a producer has sent for a partition.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, Invalid> {
        if bytes.len() < PREFIX_BYTES {
            return Err(Invalid::Corrupt);
        }
        match bytes[MAGIC_AT] {
            2 => {}
            0 | 1 => return Err(Invalid::OldFormat),
            _ => return Err(Invalid::Corrupt),
        }
        let header = Header::read(bytes).ok_or(Invalid::Corrupt)?;
        let length = i32::from_be_bytes(part(bytes, LENGTH_AT));
        let length = usize::try_from(length).map_err(|_| Invalid::Corrupt)?;
        if length + EPOCH_AT < bytes.len() {
            return Err(Invalid::Contradictory);
        }
        let batch = Self { bytes: bytes.clone(), header };
        if length + EPOCH_AT > bytes.len() || !batch.is_intact() {
            return Err(Invalid::Corrupt);
        }
        let header = &batch.header;
        let is_dense = header.count > 0 && header.last_offset_delta == header.count - 1;
        let has_producer = header.producer_id >= 0 && header.producer_epoch >= 0 && header.base_sequence >= 0;
        let has_whole_producer = has_producer || (header.producer_id < 0 && !header.is_transactional());
        let is_readable = match batch.records() {
            Ok(records) => (0..).zip(&records).all(|(at, record)| record.offset - header.base_offset == at),
            Err(why) => why == Unreadable::Compressed,
        };
        if is_dense && is_readable && has_whole_producer && !header.is_control() {
            Ok(batch)
        } else {
            Err(Invalid::Contradictory)
        }
    }

    /// Takes any bytes for a batch, however broken: what there is of a header is believed.
    pub(crate) fn trust(bytes: Bytes) -> Self {
        assert!(bytes.len() >= PREFIX_BYTES, "{} bytes are too few for a batch: not even the magic is there", bytes.len());
        let mut header = Header::read(&bytes).filter(|_| bytes[MAGIC_AT] >= 2).unwrap_or_else(Header::plain);
        header.base_offset = i64::from_be_bytes(part(&bytes, 0));
        header.last_offset_delta = header.last_offset_delta.max(0);
        Self { bytes, header }
    }

    /// Puts the batch at its place, which does not change its checksum.
    pub(crate) fn place(&mut self, base_offset: i64, leader_epoch: i32) {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        self.header.base_offset = base_offset;
        // In older formats the checksum is here.
        if bytes[MAGIC_AT] >= 2 {
            bytes[EPOCH_AT..][..4].copy_from_slice(&leader_epoch.to_be_bytes());
            self.header.leader_epoch = leader_epoch;
        }
        self.bytes = bytes.freeze();
    }

    /// Dates the batch by when it was appended.
    pub(crate) fn date(&mut self, now_ms: i64) {
        self.header.attributes |= LOG_APPEND_TIME;
        self.header.max_timestamp = now_ms;
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[CHECKED_AT..][..2].copy_from_slice(&self.header.attributes.to_be_bytes());
        bytes[MAX_TIMESTAMP_AT..][..8].copy_from_slice(&now_ms.to_be_bytes());
        seal(&mut bytes);
        self.bytes = bytes.freeze();
    }

    /// Makes the checksum wrong.
    pub(crate) fn corrupt(&mut self) {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[CRC_AT] ^= 0xff;
        self.bytes = bytes.freeze();
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.header.base_offset + i64::from(self.header.last_offset_delta)
    }

    pub(crate) fn is_zstd(&self) -> bool {
        self.header.attributes & COMPRESSION == ZSTD
    }

    /// Says who writes it, if it is part of a transaction.
    pub(crate) fn transactional_producer(&self) -> Option<Producer> {
        let producer = Producer { id: self.header.producer_id, epoch: self.header.producer_epoch };
        self.header.is_transactional().then_some(producer)
    }

    pub(crate) fn last_sequence(&self) -> i32 {
        add_to_sequence(self.header.base_sequence, self.header.last_offset_delta)
    }

    /// Says whose transaction the batch ends, if it is a marker, and how.
    pub(crate) fn ends(&self) -> Option<bool> {
        if !self.header.is_control() {
            return None;
        }
        let records = self.records().ok()?;
        let key = records.first()?.key.as_ref()?;
        match i16::from_be_bytes(*key.get(2..)?.first_chunk()?) {
            ABORT => Some(false),
            COMMIT => Some(true),
            _ => None,
        }
    }

    /// Reads the records, those of a control batch too.
    pub(crate) fn records(&self) -> Result<Vec<StoredRecord>, Unreadable> {
        if !self.is_intact() {
            return Err(Unreadable::Corrupt);
        }
        if self.header.is_compressed() {
            return Err(Unreadable::Compressed);
        }
        let mut reader = Reader { bytes: &self.bytes, at: HEADER_BYTES };
        let mut records = Vec::new();
        for _ in 0..self.header.count {
            records.push(reader.record(&self.header).ok_or(Unreadable::Corrupt)?);
        }
        if reader.at == self.bytes.len() { Ok(records) } else { Err(Unreadable::Corrupt) }
    }

    pub(crate) fn is_intact(&self) -> bool {
        let bytes = &self.bytes;
        bytes.len() >= HEADER_BYTES
            && bytes[MAGIC_AT] == 2
            && usize::try_from(i32::from_be_bytes(part(bytes, LENGTH_AT))) == Ok(bytes.len() - EPOCH_AT)
            && u32::from_be_bytes(part(bytes, CRC_AT)) == crc32c::crc32c(&bytes[CHECKED_AT..])
    }
}

/// Counts a sequence number on: after the greatest comes 0.
pub(crate) fn add_to_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    i32::try_from(if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum }).expect("below the greatest")
}

fn seal(bytes: &mut BytesMut) {
    let crc = crc32c::crc32c(&bytes[CHECKED_AT..]);
    bytes[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the caller has looked at the length")
}

fn put_record(out: &mut BytesMut, header: &Header, record: &StoredRecord) {
    let mut body = BytesMut::new();
    body.put_i8(0);
    put_varint(&mut body, record.timestamp_ms.wrapping_sub(header.base_timestamp));
    put_varint(&mut body, record.offset - header.base_offset);
    put_optional(&mut body, record.key.as_deref());
    put_optional(&mut body, record.value.as_deref());
    put_length(&mut body, record.headers.len());
    for (key, value) in &record.headers {
        put_optional(&mut body, Some(key));
        put_optional(&mut body, value.as_deref());
    }
    put_length(out, body.len());
    out.put_slice(&body);
}

fn put_optional(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_length(out, bytes.len());
            out.put_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

fn put_length(out: &mut BytesMut, length: usize) {
    put_varint(out, i64::try_from(length).expect("a length in memory fits"));
}

/// Writes a number in zigzag form, seven bits a byte, the low ones first.
fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn record(&mut self, header: &Header) -> Option<StoredRecord> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        self.byte()?;
        let timestamp_delta = self.varint()?;
        let offset_delta = self.varint()?;
        let (key, value) = (self.optional()?, self.optional()?);
        let count = self.varint()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((self.optional()??, self.optional()?));
        }
        let made = header.base_timestamp.saturating_add(timestamp_delta);
        let timestamp_ms = if header.is_log_append_time() { header.max_timestamp } else { made };
        let offset = header.base_offset.checked_add(offset_delta)?;
        (self.at == end && count >= 0).then_some(StoredRecord { offset, timestamp_ms, key, value, headers })
    }

    fn optional(&mut self) -> Option<Option<Bytes>> {
        let length = self.varint()?;
        if length == -1 {
            return Some(None);
        }
        let length = usize::try_from(length).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let bytes = self.bytes.slice(self.at..end);
        self.at = end;
        Some(Some(bytes))
    }

    fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }
}
