//! What an ack costs, in whatever order it comes, and from however many threads. `cargo bench --features __bench --bench acks`.

#![allow(missing_docs, reason = "criterion's macro makes functions without any")]

use std::{thread, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ottla::{
    Delivery,
    bench::{Acks, Answer, Compression, Shape},
};

const THREADS: usize = 8;

/// All records of some answers are out; all are acked, and the watermark is read.
fn window(criterion: &mut Criterion) {
    let answer = Answer::new(4 << 20, Shape::value(100), Compression::None);
    let mut group = criterion.benchmark_group("ack window");
    group.throughput(Throughput::Elements(answer.records()));
    for (name, order) in [("in order", in_order as fn(&mut [Delivery])), ("backwards", backwards), ("random", random)] {
        let out = || {
            let (acks, mut deliveries) = Acks::of(&answer);
            order(&mut deliveries);
            (acks, deliveries)
        };
        let ack = |(acks, deliveries): (Acks, Vec<Delivery>)| {
            deliveries.into_iter().for_each(Delivery::ack);
            acks.watermark()
        };
        group.bench_function(name, |bencher| bencher.iter_batched(out, ack, BatchSize::LargeInput));
    }
    // The time that starting the threads takes is in it.
    let out = || {
        let (acks, mut deliveries) = Acks::of(&answer);
        random(&mut deliveries);
        let mut shares: Vec<Vec<_>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (n, delivery) in deliveries.into_iter().enumerate() {
            shares[n % THREADS].push(delivery);
        }
        (acks, shares)
    };
    let ack = |(acks, shares): (Acks, Vec<Vec<Delivery>>)| {
        thread::scope(|scope| {
            for share in shares {
                scope.spawn(|| share.into_iter().for_each(Delivery::ack));
            }
        });
        acks.watermark()
    };
    group.bench_function("random, from 8 threads", |bencher| bencher.iter_batched(out, ack, BatchSize::LargeInput));
    group.finish();
}

fn in_order(_: &mut [Delivery]) {}

fn backwards(deliveries: &mut [Delivery]) {
    deliveries.reverse();
}

/// The same order each time.
fn random(deliveries: &mut [Delivery]) {
    let mut state = 1u64;
    deliveries.sort_by_cached_key(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 32
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = window
}
criterion_main!(benches);
