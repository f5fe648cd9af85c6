//! Batches that other people's clients have made of the same records, in each codec, as a broker sent them.

use std::{fs, path::Path};

use super::*;

/// The clients and codecs that the files in `fuzz/seeds/records` are named after. They are Java's 4.3.1, librdkafka 2.x by way of
/// confluent-kafka, and franz-go 1.22.
const CLIENTS: [&str; 3] = ["java", "librdkafka", "franz-go"];
const CODECS: [(&str, Option<Codec>); 5] = [
    ("none", None),
    ("gzip", Some(Codec::Gzip)),
    ("snappy", Some(Codec::Snappy)),
    ("lz4", Some(Codec::Lz4)),
    ("zstd", Some(Codec::Zstd)),
];
const COUNT: i32 = 20;
const START_MS: i64 = 1_700_000_000_000;

/// What each of them was told to write.
fn expected(n: i32) -> TestRecord {
    let header = |value: Option<String>| (b"h".to_vec(), value.map(String::into_bytes));
    TestRecord {
        delta: n,
        timestamp_delta: n.into(),
        key: (n % 5 != 0).then(|| format!("key-{n}").into_bytes()),
        value: (n != 7).then(|| format!("value-{n}").repeat(10).into_bytes()),
        headers: if n % 3 == 0 { vec![header(Some(n.to_string())), header(None)] } else { Vec::new() },
    }
}

#[test]
fn batches_of_the_java_client_librdkafka_and_franz_go_in_each_codec() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/records");
    // The published crate comes without them.
    if !folder.exists() {
        return;
    }
    for client in CLIENTS {
        for (name, codec) in CODECS {
            let seed = fs::read(folder.join(format!("{client}-{name}"))).unwrap();
            // A seed begins with three bytes on how to read it.
            let chunk = chunk(Bytes::from(seed).slice(3..), 0, &[]);
            assert_eq!(
                chunk.heads.iter().map(|head| (head.codec(), head.count)).collect::<Vec<_>>(),
                [(codec.map_or(0, |codec| codec as i16 + 1), COUNT as u32)]
            );
            let mut reader = ChunkReader::new(chunk, true, true);
            let segment = reader.next_segment(&mut Codecs::new(1 << 20)).unwrap().unwrap();
            let (records, error) = walk(&segment);
            let read: Vec<_> = records.iter().map(|record| decoded(&segment, record)).collect();
            assert_eq!((read, error), ((0..COUNT).map(expected).collect(), None), "{client} {name}");
            assert_eq!(segment.timestamp(&records[0]), START_MS, "{client} {name}");
        }
    }
}
