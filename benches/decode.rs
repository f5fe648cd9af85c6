//! What a record costs between the frame and the user's hands, and back as an ack. `cargo bench --features __bench --bench decode`.

#![allow(missing_docs, reason = "criterion's macro makes functions without any")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use ottla::bench::Answer;

/// What brokers send of one partition at a time by default, and where the caches are used best.
const ANSWER_BYTES: usize = 1 << 20;

fn decode(criterion: &mut Criterion) {
    for (name, value_len, lz4, verify_crc) in [
        ("100 B", 100, false, true),
        ("16 B", 16, false, true),
        ("1 KiB", 1024, false, true),
        ("100 B lz4", 100, true, true),
        ("100 B, no CRC", 100, false, false),
    ] {
        let mut answer = Answer::new(ANSWER_BYTES, value_len, lz4, verify_crc);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(answer.records()));
        measure(&mut group, "walk", || answer.walk());
        measure(&mut group, "delivery and ack per record", || answer.deliver());
        measure(&mut group, "batch, one ack", || answer.deliver_batches());
        group.finish();
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut run: impl FnMut() -> usize) {
    group.bench_function(name, |bencher| bencher.iter(|| black_box(run())));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = decode
}
criterion_main!(benches);
