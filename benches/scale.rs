//! What grows with the number of partitions. `cargo bench --features __bench --bench scale`.

#![allow(missing_docs, reason = "criterion's macro makes functions without any")]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use ottla::{
    Assignor, Range, RoundRobin,
    bench::{Commits, Planner, check_assignment, group},
};

/// Every broker is asked once, and answers.
fn planner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("planner, 10,000 partitions on 3 brokers, a round");
    for (name, with_data) in [("idle", 0), ("100 with data", 100), ("all with data", 10_000)] {
        let mut planner = Planner::new(10_000, 3);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(planner.round(with_data))));
    }
    group.finish();
}

fn commit_tick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit tick");
    for partitions in [100, 10_000] {
        let mut commits = Commits::new(partitions);
        group.bench_function(format!("{partitions} partitions"), |bencher| bencher.iter(|| black_box(commits.tick())));
    }
    group.finish();
}

/// With the check that the leader makes of every assignment.
fn assignors(criterion: &mut Criterion) {
    for (topics, partitions) in [(1, 100_000), (1_000, 100), (10_000, 10)] {
        let view = group(1_000, topics, partitions);
        let mut group = criterion.benchmark_group(format!("1,000 members, {topics} topics of {partitions} partitions"));
        for assignor in [&Range as &dyn Assignor, &RoundRobin] {
            group.bench_function(assignor.name(), |bencher| {
                bencher.iter(|| assert!(check_assignment(&view, &assignor.assign(&view))));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(10);
    targets = planner, commit_tick, assignors
}
criterion_main!(benches);
