//! Answers as producers and brokers make them.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::{
    model::Offset,
    records::{
        Chunk, ChunkReader, Codecs, Segment,
        encode::{TestBatch, TestRecord},
        index,
    },
};

/// How many bytes of records go into one batch, before compression: a producer's `batch.size`, by default.
const BATCH_BYTES: usize = 16 << 10;

/// What a record looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// `None`: it has no key.
    pub key_len: Option<usize>,
    /// How long the value is.
    pub value_len: usize,
    /// How many headers there are, of some thirty bytes each.
    pub headers: usize,
}

/// How batches are compressed; the numbers are those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are names")]
pub enum Compression {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// What one Fetch answer holds of one partition, read again and again.
#[derive(Clone, Debug)]
pub struct Answer {
    data: Bytes,
    verify_crc: bool,
}

impl Shape {
    /// A value of so many bytes and nothing else.
    pub fn value(value_len: usize) -> Self {
        Self { key_len: None, value_len, headers: 0 }
    }

    fn record(&self, offset: i64, delta: i32) -> TestRecord {
        let header = |n| (format!("header-{n}").into_bytes(), Some(letters(offset + 1, 20)));
        TestRecord {
            timestamp_delta: i64::from(delta / 50),
            key: self.key_len.map(|len| letters(!offset, len)),
            headers: (0..self.headers).map(header).collect(),
            ..TestRecord::new(delta, letters(offset, self.value_len))
        }
    }
}

impl Answer {
    /// Makes an answer of about `bytes` bytes before compression, in batches of about 16 KiB.
    pub fn new(bytes: usize, shape: Shape, compression: Compression) -> Self {
        let record_len = shape.value_len + shape.key_len.unwrap_or(0) + shape.headers * 30 + 8;
        let per_batch = (BATCH_BYTES / record_len).max(1) as i32;
        let mut data = Vec::new();
        let (mut base, mut plain_len) = (0, 0);
        while plain_len < bytes {
            let records = (0..per_batch).map(|delta| shape.record(base + i64::from(delta), delta)).collect();
            let mut batch = TestBatch { records, ..TestBatch::new(base) };
            plain_len += batch.encode().len();
            if compression != Compression::None {
                batch = batch.compressed(compression as i16, |bytes| compress(compression, bytes));
            }
            data.extend(batch.encode());
            base += i64::from(per_batch);
        }
        Self { data: data.into(), verify_crc: true }
    }

    /// Leaves the checksums unchecked.
    pub fn without_crc(self) -> Self {
        Self { verify_crc: false, ..self }
    }

    /// Returns how many records there are.
    pub fn records(&self) -> u64 {
        self.segments().iter().map(|segment| u64::from(segment.count)).sum()
    }

    /// Decodes and checks everything, and delivers nothing.
    pub fn walk(&self) -> usize {
        let mut lens = 0;
        for segment in self.segments() {
            let read = |record| lens += segment.value(&record).map_or(0, <[u8]>::len);
            segment.cursor().walk(&segment, u32::MAX, read).expect("good records");
        }
        lens
    }

    pub(super) fn verify_crc(&self) -> bool {
        self.verify_crc
    }

    /// What the core makes of the answer.
    pub(super) fn chunk(&self) -> Chunk {
        let indexed = index(&self.data, Offset(0));
        Chunk {
            data: self.data.clone(),
            heads: indexed.heads,
            aborted: Vec::new(),
            from: Offset(0),
            next_offset: indexed.next_offset.unwrap_or(Offset(0)),
        }
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        let mut codecs = Codecs::new(64 << 20);
        let mut reader = ChunkReader::new(self.chunk(), true, self.verify_crc);
        std::iter::from_fn(|| reader.next_segment(&mut codecs)).map(|segment| segment.expect("good batches")).collect()
    }
}

/// Letters that differ from record to record, and compress as text does, roughly.
pub(super) fn letters(seed: i64, len: usize) -> Vec<u8> {
    let mut state = seed.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(format!("{:04x},id:", state >> 48).bytes());
    }
    bytes.truncate(len);
    bytes
}

fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("room in memory")
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(bytes).expect("not too long"),
        Compression::Lz4 => lz4_frame(bytes),
        Compression::Zstd => zrip::compress(bytes, 1).expect("not too long"),
    }
}

fn lz4_frame(bytes: &[u8]) -> Vec<u8> {
    // Magic, flags (version 1, independent blocks), 64 KiB blocks, the header's checksum.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    for block in bytes.chunks(64 << 10) {
        let compressed = lz4_flex::block::compress(block);
        frame.extend((compressed.len() as u32).to_le_bytes());
        frame.extend(compressed);
    }
    frame.extend([0; 4]);
    frame
}
