//! Record batches as a producer makes them (magic 2), without keys or headers.

use std::io::Write;

use bytes::Bytes;

/// How a batch is compressed; the number is Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// The levels that Kafka's own producer has when nobody sets another.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// What Java's snappy puts before its blocks, and how much goes into one.
const XERIAL_MAGIC: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// Builds a batch of some values, all with the same timestamp.
pub(crate) fn batch(values: impl Iterator<Item = Vec<u8>>, timestamp_ms: i64, codec: Codec) -> Bytes {
    let (mut records, mut count) = (Vec::new(), 0i32);
    for value in values {
        let mut record = vec![0, 0]; // attributes, timestamp
        varint(i64::from(count), &mut record);
        varint(-1, &mut record); // no key
        varint(value.len() as i64, &mut record);
        record.extend(value);
        record.push(0); // no headers
        varint(record.len() as i64, &mut records);
        records.extend(record);
        count += 1;
    }
    let mut checked = Vec::with_capacity(records.len());
    checked.extend((codec as i16).to_be_bytes());
    checked.extend((count - 1).to_be_bytes());
    checked.extend(timestamp_ms.to_be_bytes());
    checked.extend(timestamp_ms.to_be_bytes());
    checked.extend([0xff; 8 + 2 + 4]); // no producer id, epoch, sequence
    checked.extend(count.to_be_bytes());
    checked.extend(compress(records, codec));

    let mut batch = vec![0; 8]; // the broker gives the offset
    batch.extend((checked.len() as i32 + 9).to_be_bytes());
    batch.extend((-1i32).to_be_bytes()); // and the leader epoch
    batch.push(2);
    batch.extend(crc32c::crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch.into()
}

fn compress(records: Vec<u8>, codec: Codec) -> Vec<u8> {
    let cannot_fail = "writing to a Vec cannot fail";
    match codec {
        Codec::None => records,
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(&records).expect(cannot_fail);
            encoder.finish().expect(cannot_fail)
        }
        Codec::Snappy => {
            let mut framed = XERIAL_MAGIC.to_vec();
            for block in records.chunks(XERIAL_BLOCK_BYTES) {
                let block = snap::raw::Encoder::new().compress_vec(block).expect("a block is small");
                framed.extend((block.len() as u32).to_be_bytes());
                framed.extend(block);
            }
            framed
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&records).expect(cannot_fail);
            encoder.finish().expect(cannot_fail)
        }
        Codec::Zstd => zrip::compress(&records, ZSTD_LEVEL).expect("the level exists"),
    }
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_states_its_length_its_count_and_its_checksum() {
        let batch = batch([b"one".to_vec(), b"two".to_vec()].into_iter(), 7, Codec::None);
        let number = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
        assert_eq!(number(8) as usize + 12, batch.len());
        assert_eq!((number(23), number(57)), (1, 2));
        assert_eq!(number(17) as u32, crc32c::crc32c(&batch[21..]));
        assert_eq!(&batch[61..70], [18, 0, 0, 0, 1, 6, b'o', b'n', b'e']);
    }
}
