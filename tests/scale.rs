//! Groups of a thousand members that share a hundred thousand partitions.
//!
//! The bounds are those of a release on an idle machine, ten times as long without optimisation: they are there to find what grows with
//! the square. What it takes to the instruction stands in `benches/instructions.toml`.

#![allow(clippy::disallowed_methods, reason = "it is time that is measured")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ottla::{Assignor, GroupView, MemberView, Range, RoundRobin};

const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

#[track_caller]
fn check_within_limit(what: &str, took: Duration) {
    println!("{what}: {took:.1?}");
    assert!(took < LIMIT, "{what}: {took:.1?}, at most {LIMIT:?}");
}

#[test]
fn a_thousand_members_share_a_hundred_thousand_partitions() {
    for (topics, partitions) in [(1, 100_000), (1_000, 100), (10_000, 10)] {
        let names: Vec<Arc<str>> = (0..topics).map(|n| format!("topic-{n:05}").into()).collect();
        let member = MemberView { topics: names.clone(), ..MemberView::default() };
        let group = GroupView {
            members: (0..1_000).map(|n| (format!("member-{n:04}").into(), member.clone())).collect(),
            partition_counts: names.into_iter().map(|name| (name, partitions)).collect(),
        };
        for assignor in [&Range as &dyn Assignor, &RoundRobin] {
            let started = Instant::now();
            let assignment = assignor.assign(&group);
            check_within_limit(&format!("{}, {topics} topics of {partitions} partitions", assignor.name()), started.elapsed());
            assert_eq!(assignment.values().map(Vec::len).sum::<usize>(), 100_000);
        }
    }
}
