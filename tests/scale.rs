//! Groups of a thousand members that share a hundred thousand partitions, and members of ten thousand.
//!
//! The bounds are those of a release on an idle machine, ten times as long without optimisation: they are there to find what grows with
//! the square. What it takes to the instruction stands in `benches/instructions.toml`.

#![allow(clippy::disallowed_methods, reason = "it is time that is measured")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ottla::{Assignor, Consumer, GroupView, MemberView, OffsetReset, Racks, Range, RoundRobin, Sticky};
use ottla_mock::MockCluster;

const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

#[track_caller]
fn check_within_limit(what: &str, took: Duration) {
    println!("{what}: {took:.1?}");
    assert!(took < LIMIT, "{what}: {took:.1?}, at most {LIMIT:?}");
}

#[test]
fn a_thousand_members_share_a_hundred_thousand_partitions() {
    check_assignors("", |group| group);
}

/// In twelve racks, with the replicas of each partition in three of them.
#[test]
fn a_thousand_members_in_racks_share_a_hundred_thousand_partitions() {
    let rack = |n: usize| Arc::from(format!("rack-{:02}", n % 12));
    let sets: Vec<Racks> = (0..12).map(|n| BTreeSet::from([n, n + 1, n + 5].map(rack)).into_iter().collect()).collect();
    check_assignors(" in racks", |mut group| {
        group.members.values_mut().enumerate().for_each(|(n, member)| member.rack = Some(rack(n)));
        let mut next = sets.iter().cycle().cloned();
        let mut racks = |&count: &i32| next.by_ref().take(count as usize).collect();
        group.partition_racks = group.partition_counts.iter().map(|(topic, count)| (topic.clone(), racks(count))).collect();
        group
    });
}

fn check_assignors(what: &str, prepare: impl Fn(GroupView) -> GroupView) {
    for (topics, partitions) in [(1, 100_000), (1_000, 100), (10_000, 10)] {
        let names: Vec<Arc<str>> = (0..topics).map(|n| format!("topic-{n:05}").into()).collect();
        let member = MemberView { topics: names.clone(), ..MemberView::default() };
        let group = prepare(GroupView {
            members: (0..1_000).map(|n| (format!("member-{n:04}").into(), member.clone())).collect(),
            partition_counts: names.into_iter().map(|name| (name, partitions)).collect(),
            ..GroupView::default()
        });
        let check = |how: &str, assignor: &dyn Assignor, group: &GroupView| {
            let started = Instant::now();
            let assignment = assignor.assign(group);
            check_within_limit(&format!("{how}, {topics} topics of {partitions} partitions{what}"), started.elapsed());
            assert_eq!(assignment.values().map(Vec::len).sum::<usize>(), 100_000);
            assignment
        };
        check("range", &Range, &group);
        check("roundrobin", &RoundRobin, &group);
        let assignment = check("sticky", &Sticky, &group);
        // One that had come with the others before it is gone; and one who had everything is joined by all the others.
        let mut less = group.clone();
        let holders = less.members.iter_mut().zip(assignment.into_values());
        holders.for_each(|((_, member), partitions)| member.owned = partitions);
        less.members.pop_first();
        check("sticky, a member less", &Sticky, &less);
        let all = less.members.values_mut().flat_map(|member| std::mem::take(&mut member.owned)).collect();
        less.members.first_entry().expect("many").get_mut().owned = all;
        check("sticky, from one to all", &Sticky, &less);
    }
}

/// From joining the group to the last record: committed offsets are asked for, and where none is, the log's start; then everything is read.
#[tokio::test]
async fn a_member_reads_ten_thousand_partitions_and_leaves() {
    const PARTITIONS: i32 = 10_000;
    let kafka = MockCluster::builder().brokers(3).topic("orders", PARTITIONS as usize).start().await;
    for partition in 0..PARTITIONS {
        kafka.append("orders", partition, ["an order"]);
    }
    let consumer = Consumer::builder("workers", [kafka.bootstrap_servers()])
        .subscribe(["orders"])
        .offset_reset(OffsetReset::Earliest)
        .connect()
        .await
        .expect("a cluster");
    let started = Instant::now();
    let mut orders = consumer.at_least_once();
    let mut read = BTreeMap::new();
    while read.len() < PARTITIONS as usize {
        let delivery = orders.next().await.expect("open").expect("good");
        *read.entry(delivery.partition()).or_insert(0) += 1;
        delivery.ack();
    }
    check_within_limit("10,000 partitions are read", started.elapsed());
    assert!(read.values().all(|&times| times == 1), "nothing is read twice");

    let started = Instant::now();
    orders.close(LIMIT).await.expect("all acknowledged");
    check_within_limit("10,000 partitions are committed and left", started.elapsed());
    assert_eq!(kafka.committed("workers").len(), PARTITIONS as usize);
}
