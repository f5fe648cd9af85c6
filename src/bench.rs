//! The hot path, opened to `benches/`; not part of the API.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    consumer::{acks::Assigned, run::RunCursor},
    model::{Offset, Position, TopicPartition},
    proto::PartitionHandle,
    records::{
        Chunk, ChunkReader, Codecs, Segment,
        encode::{TestBatch, TestRecord},
        index,
    },
};

/// What one Fetch answer holds of one partition, read again and again.
#[derive(Debug)]
pub struct Answer {
    data: Bytes,
    codecs: Codecs,
    verify_crc: bool,
}

impl Answer {
    /// Makes an answer of about `bytes` bytes before compression, in batches of about 16 KiB.
    pub fn new(bytes: usize, value_len: usize, lz4: bool, verify_crc: bool) -> Self {
        let per_batch = ((16 << 10) / (value_len + 8)) as i32;
        let mut data = Vec::new();
        let (mut base, mut plain_len) = (0, 0);
        while plain_len < bytes {
            let record = |delta: i32| TestRecord {
                timestamp_delta: i64::from(delta / 50),
                ..TestRecord::new(delta, letters(base + i64::from(delta), value_len))
            };
            let mut batch = TestBatch { records: (0..per_batch).map(record).collect(), ..TestBatch::new(base) };
            plain_len += batch.encode().len();
            if lz4 {
                batch = batch.compressed(3, lz4_frame);
            }
            data.extend(batch.encode());
            base += i64::from(per_batch);
        }
        Self { data: data.into(), codecs: Codecs::new(64 << 20), verify_crc }
    }

    /// Returns how many records there are.
    pub fn records(&mut self) -> u64 {
        self.segments().iter().map(|segment| u64::from(segment.count)).sum()
    }

    /// Decodes and checks everything, and delivers nothing.
    pub fn walk(&mut self) -> usize {
        let mut lens = 0;
        for segment in self.segments() {
            let read = |record| lens += segment.value(&record).map_or(0, <[u8]>::len);
            segment.cursor().walk(&segment, u32::MAX, read).expect("good records");
        }
        lens
    }

    /// Hands every record out as a delivery of its own, reads key and value, acks it, and asks for the watermark at the end.
    pub fn deliver(&mut self) -> usize {
        let assigned = assigned();
        let mut lens = 0;
        for segment in self.segments() {
            let mut cursor = RunCursor::new(assigned.open(segment));
            while let Some(delivery) = cursor.next() {
                if assigned.is_fenced() {
                    break;
                }
                lens += delivery.key().map_or(0, <[u8]>::len) + delivery.value().map_or(0, <[u8]>::len);
                delivery.ack();
            }
        }
        lens + usize::try_from(assigned.watermark().offset.0).unwrap_or(0)
    }

    /// Hands the records out in batches, with one ack for each.
    pub fn deliver_batches(&mut self) -> usize {
        let assigned = assigned();
        let mut lens = 0;
        for segment in self.segments() {
            let mut cursor = RunCursor::new(assigned.open(segment));
            while let Some(batch) = cursor.next_batch() {
                for record in &batch {
                    lens += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                }
                batch.ack();
            }
        }
        lens + usize::try_from(assigned.watermark().offset.0).unwrap_or(0)
    }

    fn segments(&mut self) -> Vec<Segment> {
        let indexed = index(&self.data, Offset(0));
        let chunk = Chunk {
            data: self.data.clone(),
            heads: indexed.heads,
            aborted: Vec::new(),
            from: Offset(0),
            next_offset: indexed.next_offset.unwrap_or(Offset(0)),
        };
        let mut reader = ChunkReader::new(chunk, true, self.verify_crc);
        std::iter::from_fn(|| reader.next_segment(&mut self.codecs)).map(|segment| segment.expect("good batches")).collect()
    }
}

fn assigned() -> Arc<Assigned> {
    let handle = PartitionHandle { partition: TopicPartition::new("bench", 0), assignment: 1 };
    Assigned::new(handle, Position { offset: Offset(0), leader_epoch: None }, Arc::new(|_| {}))
}

/// Letters that differ from record to record, and compress as text does, roughly.
fn letters(seed: i64, len: usize) -> Vec<u8> {
    let mut state = seed.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(format!("{:04x},id:", state >> 48).bytes());
    }
    bytes.truncate(len);
    bytes
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
