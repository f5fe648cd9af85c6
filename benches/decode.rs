//! What a record costs between the frame and the user's hands, and back as an ack. `cargo bench --features __bench --bench decode`.

#![allow(missing_docs, reason = "criterion's macro makes functions without any")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use ottla::bench::{Answer, Compression, Shape, Stream, Streams};

/// What brokers send of one partition at a time by default, and where the caches are used best.
const ANSWER_BYTES: usize = 1 << 20;

/// Every way to hand records out, beside decoding alone.
fn streams(criterion: &mut Criterion) {
    let plain = |value_len| Answer::new(ANSWER_BYTES, Shape::value(value_len), Compression::None);
    for (name, answer) in [
        ("100 B", plain(100)),
        ("16 B", plain(16)),
        ("1 KiB", plain(1024)),
        ("100 B lz4", Answer::new(ANSWER_BYTES, Shape::value(100), Compression::Lz4)),
        ("100 B, no CRC", plain(100).without_crc()),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(answer.records()));
        measure(&mut group, "walk", || answer.walk());
        for (name, streams) in [
            ("delivery and ack per record", Streams::AtLeastOnce),
            ("batch, one ack", Streams::Batches),
            ("at most once", Streams::AtMostOnce),
        ] {
            let mut stream = Stream::new(&answer, &streams);
            measure(&mut group, name, || stream.read_all());
        }
        group.finish();
    }
}

/// Decoding alone, for each codec and shape.
fn decode(criterion: &mut Criterion) {
    let shapes = [
        ("value of 100 B", Shape::value(100)),
        ("key and value", Shape { key_len: Some(16), value_len: 100, headers: 0 }),
        ("key, value and two headers", Shape { key_len: Some(16), value_len: 100, headers: 2 }),
    ];
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut group = criterion.benchmark_group(format!("decode, {compression:?}"));
        for (name, shape) in shapes {
            let answer = Answer::new(ANSWER_BYTES, shape, compression);
            group.throughput(Throughput::Elements(answer.records()));
            measure(&mut group, name, || answer.walk());
        }
        group.finish();
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut run: impl FnMut() -> usize) {
    group.bench_function(name, |bencher| bencher.iter(|| black_box(run())));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = streams, decode
}
criterion_main!(benches);
