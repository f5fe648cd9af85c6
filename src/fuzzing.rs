//! What `fuzz/` feeds with bytes, and what must hold whatever they are; not part of the API.
//!
//! An input that broke something once becomes a seed: every seed is a test, too.

mod core;
mod frames;

use bytes::Bytes;

use crate::{
    model::{Offset, Position},
    proto::cluster::feed_sasl,
    records::{Chunk, ChunkReader, Codecs, Segment, index},
    wire::{self, AbortedTransaction, Api, Response, Subscription},
};

/// What is fed, and how much memory it may take.
pub struct Target {
    /// The name of the folder of its seeds, too.
    pub name: &'static str,
    /// Feeds it, and panics where something does not hold.
    pub feed: fn(&[u8]),
    /// How many bytes it may hold at any time, for each byte of the input, and besides.
    pub bytes_max: (usize, usize),
}

impl Target {
    /// Feeds an input, and panics where it takes more memory than it may. `measure` says how many bytes were held at most.
    pub fn check(&self, input: &[u8], measure: impl FnOnce(&mut dyn FnMut()) -> u64) {
        let held = measure(&mut || (self.feed)(input));
        let (for_each, besides) = self.bytes_max;
        let allowed = input.len() * for_each + besides;
        assert!(held <= allowed as u64, "{} bytes of input took {held} bytes of memory, not {allowed} at most", input.len());
    }
}

/// Everything that is fuzzed in here.
pub const TARGETS: [Target; 6] = [
    Target { name: "answers", feed: answers, bytes_max: (96, 8 << 10) },
    Target { name: "blobs", feed: blobs, bytes_max: (64, 8 << 10) },
    Target { name: "core", feed: core::feed, bytes_max: (256, 8 << 20) },
    Target { name: "frames", feed: frames::feed, bytes_max: (4, 4 << 20) },
    Target { name: "records", feed: records, bytes_max: (16, 2 << 20) },
    Target { name: "sasl", feed: feed_sasl, bytes_max: (16, 4 << 10) },
];

/// Decodes an answer: one byte for the API, one for the version, the rest is what a broker says.
fn answers(input: &[u8]) {
    let [api, version, body @ ..] = input else { return };
    let Some(api) = Api::ALL.into_iter().find(|&known| known as i16 == i16::from(*api)) else { return };
    if let Err(malformed) = Response::decode(api, (*version).into(), Bytes::copy_from_slice(body)) {
        assert!(malformed.at <= body.len(), "{malformed}");
    }
}

/// Reads what a Fetch answer holds of one partition. Three bytes say how: flags (1: read_committed, 2: verify checksums), the offset asked
/// for, and the producer of an aborted transaction.
fn records(input: &[u8]) {
    /// Small, so that a bomb is found out by the time it takes.
    const DECOMPRESSED_BYTES_MAX: usize = 16 << 10;

    let [flags, from, producer, data @ ..] = input else { return };
    let (data, from) = (Bytes::copy_from_slice(data), Offset((*from).into()));
    let indexed = index(&data, from);
    let Some(next_offset) = indexed.next_offset else { return };
    let aborted = vec![AbortedTransaction { producer_id: (*producer).into(), first_offset: Offset(0) }];
    let chunk = Chunk { data, heads: indexed.heads, aborted, from, next_offset };
    let mut reader = ChunkReader::new(chunk, flags & 1 != 0, flags & 2 != 0);
    let mut codecs = Codecs::new(DECOMPRESSED_BYTES_MAX);
    let mut at = Offset(0);
    while let Some(segment) = reader.next_segment(&mut codecs) {
        at = match segment {
            Ok(segment) => {
                walk(&segment, at, from);
                segment.next.offset
            }
            Err(error) => {
                assert!(at <= error.offset && error.offset < error.next_offset, "{error}");
                error.next_offset
            }
        };
    }
    assert!(at <= next_offset);
}

/// Decodes what another member of the group wrote, and writes it again.
fn blobs(input: &[u8]) {
    if let Ok(subscription) = Subscription::decode(input) {
        let encoded = subscription.encode();
        let again = Subscription::decode(&encoded).expect("what was encoded can be decoded");
        assert_eq!(again.encode(), encoded);
    }
    if let Ok((partitions, user_data)) = wire::decode_assignment(input) {
        let encoded = wire::encode_assignment(&partitions, user_data.as_ref());
        assert_eq!(wire::decode_assignment(&encoded), Ok((partitions, user_data)));
    }
}

/// Looks at all there is to a segment whose first record may stand at `at` or later.
fn walk(segment: &Segment, at: Offset, from: Offset) {
    /// In a batch with gaps, to find a record's offset is to walk there: looking for all of them would take its square.
    const LOOKED_UP_MAX: u32 = 50;

    let mut cursor = segment.cursor();
    let mut at = at.max(from);
    loop {
        let record = match cursor.next(segment) {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => {
                assert!(error.offset < error.next_offset && error.next_offset <= segment.next.offset, "{error}");
                assert_eq!(cursor.next(segment), Ok(None), "after an error nothing comes");
                return;
            }
        };
        assert!(at <= record.offset && record.offset < segment.next.offset);
        assert!(segment.skip <= record.idx && record.idx < segment.count);
        let lens = segment.key(&record).map_or(0, <[u8]>::len) + segment.value(&record).map_or(0, <[u8]>::len);
        assert!(lens <= segment.body(&record).1.len());
        assert_eq!(segment.headers(&record).count(), segment.headers(&record).len());
        segment.timestamp(&record);
        if record.idx < LOOKED_UP_MAX {
            assert_eq!(segment.offset_of(record.idx), record.offset);
            let before = segment.position_before(record.idx);
            assert!(before.is_none_or(|Position { offset, .. }| offset <= record.offset));
        }
        at = Offset(record.offset.0 + 1);
    }
    assert_eq!(cursor.idx(), segment.count);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Feeds each file of `fuzz/seeds/<target>`. An input that broke something once is one of them.
    fn check_seeds(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        // The published crate comes without them.
        let Ok(seeds) = fs::read_dir(seeds) else { return };
        let mut count = 0;
        for seed in seeds.map(Result::unwrap) {
            println!("{}", seed.path().display());
            let input = fs::read(seed.path()).unwrap();
            target.check(&input, |feed| allocation_counter::measure(feed).bytes_max);
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn seeds_of_answers_hold() {
        check_seeds("answers");
    }

    #[test]
    fn seeds_of_blobs_hold() {
        check_seeds("blobs");
    }

    #[test]
    fn seeds_of_the_core_hold() {
        check_seeds("core");
    }

    #[test]
    fn seeds_of_frames_hold() {
        check_seeds("frames");
    }

    #[test]
    fn seeds_of_records_hold() {
        check_seeds("records");
    }

    #[test]
    fn seeds_of_sasl_hold() {
        check_seeds("sasl");
    }
}
