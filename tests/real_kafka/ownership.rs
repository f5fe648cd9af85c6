//! Who owns what, and how it moves.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kafka_harness::Librdkafka;
use ottla::{Assignor, ConsumeErrorKind, Consumer, ConsumerBuilder, CooperativeSticky, GroupEvent, Range, RoundRobin, Sticky};
use tokio::sync::Semaphore;

use crate::{
    member::{Member, Process, all_places, builder, counts, role, setting, settled, tell},
    support::{DEADLINE, Kafka, eventually_async},
};

pub(crate) fn assignor(name: &str) -> Arc<dyn Assignor> {
    match name {
        "range" => Arc::new(Range),
        "roundrobin" => Arc::new(RoundRobin),
        "sticky" => Arc::new(Sticky),
        _ => Arc::new(CooperativeSticky),
    }
}

async fn members_come_and_go_with(name: &str) {
    members_come_and_go(name, |builder| builder.assignors([assignor(name)])).await;
}

/// `name` is what the coordinator calls the assignor.
pub(crate) async fn members_come_and_go(name: &str, settings: impl Fn(ConsumerBuilder) -> ConsumerBuilder) {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("ownership", 4), kafka.group(name));
    let mut members = Vec::new();
    for count in 1..=6 {
        members.push(Member::join(settings(builder(kafka.bootstrap(), &group, &topic))).await);
        settled(&members, 4).await;
        eventually_async("the coordinator agrees", DEADLINE, || {
            let described = kafka.admin.group(&group).unwrap();
            described.state == "Stable" && described.members.len() == count
        })
        .await;
        settled(&members, 4).await;
        let sizes: Vec<_> = members.iter().map(|member| member.partitions().len()).collect();
        let idle = sizes.iter().filter(|size| **size == 0).count();
        assert_eq!(idle, usize::saturating_sub(count, 4), "{count} members: {sizes:?}");
    }
    let described = kafka.admin.group(&group).unwrap();
    assert_eq!((described.assignor.as_str(), described.members.len()), (name, 6));

    // Leaving one by one, holders first: somebody who stood by takes over.
    let mut seen = Vec::new();
    while members.len() > 1 {
        let holder = members.iter().position(|member| !member.partitions().is_empty()).unwrap();
        seen.extend(members.remove(holder).leave().await);
        settled(&members, 4).await;
        kafka.produce(&topic, 4, 5);
    }
    let last = members.pop().unwrap();
    eventually_async("the last member has read the rest", DEADLINE, || {
        counts(seen.iter().copied().chain(last.seen())).len() == 4 * 25
    })
    .await;
    seen.extend(last.leave().await);
    assert!(counts(seen).into_values().all(|count| count == 1), "nothing twice on clean hand-overs");
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [25; 4]);
    assert_eq!(kafka.admin.group(&group).unwrap().state, "Empty", "every member has left, none was timed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_has_one_owner_with_range() {
    members_come_and_go_with("range").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_has_one_owner_with_roundrobin() {
    members_come_and_go_with("roundrobin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_has_one_owner_with_sticky() {
    members_come_and_go_with("sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_has_one_owner_with_cooperative_sticky() {
    members_come_and_go_with("cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_read_independently() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.topic("independent", 2);
    let groups = [kafka.group("independent-a"), kafka.group("independent-b")];
    kafka.produce(&topic, 2, 50);
    let first = Member::join(builder(kafka.bootstrap(), &groups[0], &topic)).await;
    eventually_async("the first group has read all", DEADLINE, || first.seen().len() == 100).await;
    first.leave().await;
    kafka.produce(&topic, 2, 10);
    let second = Member::join(builder(kafka.bootstrap(), &groups[1], &topic)).await;
    eventually_async("the second group has read all, too", DEADLINE, || second.seen().len() == 120).await;
    second.leave().await;

    for (group, offset, lag) in [(&groups[0], "50", "10"), (&groups[1], "60", "0")] {
        let told = kafka.consumer_groups().run(&["--describe", "--group", group]).unwrap();
        let rows: Vec<Vec<&str>> =
            told.lines().filter(|line| line.contains(&topic)).map(|line| line.split_whitespace().collect()).collect();
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
        assert_eq!(rows.len(), 2, "{told}");
        assert!(rows.iter().all(|row| row[3] == offset && row[4] == "60" && row[5] == lag), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_hand_over_waits_for_work_in_flight_and_repeats_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("handover", 4), kafka.group("handover"));
    kafka.produce(&topic, 4, 2000);
    let settings = || builder(kafka.bootstrap(), &group, &topic);
    // 32 records at a time, each taking a while: at any moment a rebalance finds work in flight.
    let tasks = Arc::new(Semaphore::new(32));
    let work = move |delivery: ottla::Delivery| {
        let tasks = Arc::clone(&tasks);
        async move {
            let permit = tasks.acquire_owned().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20 + delivery.offset() as u64 % 17)).await;
                delivery.ack();
                drop(permit);
            });
        }
    };
    let first = Member::join_with(settings(), work.clone()).await;
    eventually_async("the first member is at work", DEADLINE, || first.seen().len() > 100).await;
    let second = Member::join_with(settings(), work.clone()).await;
    eventually_async("both are at work", DEADLINE, || second.seen().len() > 50).await;
    let third = Member::join_with(settings(), work).await;
    eventually_async("the third is, too", DEADLINE, || third.seen().len() > 20).await;
    let mut seen = first.leave().await;
    eventually_async("all is read", DEADLINE, || {
        seen.iter().copied().chain(second.seen()).chain(third.seen()).collect::<BTreeSet<_>>() == all_places(4, 2000)
    })
    .await;
    seen.extend(second.leave().await);
    seen.extend(third.leave().await);
    let twice: Vec<_> = counts(seen).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "processed twice: {twice:?}");
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [2000; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_member_loses_its_partitions_and_rejoins_when_it_polls_again() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("stall", 2), kafka.group("stall"));
    kafka.produce(&topic, 2, 10);
    let builder = || builder(kafka.bootstrap(), &group, &topic).processing_timeout(Duration::from_secs(2));
    let mut stalled = builder().connect().await.unwrap().at_least_once();
    let mut events = stalled.handle().events();
    let held = stalled.next().await.unwrap().unwrap();
    let other = Member::join(builder().drain_timeout(Duration::from_secs(30))).await;
    // The stalled member neither polls nor acks. The other one waits for it no longer than processing_timeout.
    eventually_async("the other member has everything", DEADLINE, || {
        other.seen().into_iter().collect::<BTreeSet<_>>() == all_places(2, 10)
    })
    .await;
    assert_eq!(stalled.handle().assignment(), []);
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([10, 10])).await;
    held.ack(); // Too late: changes nothing.
    let error = stalled.next().await.unwrap().expect_err("the partitions are lost");
    assert_eq!(error.kind(), ConsumeErrorKind::ProcessingStalled);
    assert!(!error.is_fatal());
    // Polling is what brings it back.
    let rejoined = async {
        while stalled.handle().assignment().is_empty() {
            let nothing = tokio::time::timeout(Duration::from_millis(20), stalled.next()).await;
            assert!(nothing.is_err(), "all is read: {nothing:?}");
        }
    };
    tokio::time::timeout(DEADLINE, rejoined).await.expect("it has rejoined");
    assert_eq!(stalled.handle().assignment().len(), 1);
    kafka.produce(&topic, 2, 5);
    stalled.next().await.unwrap().unwrap().ack();
    let mut story = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), events.next()).await {
        story.push(event);
    }
    assert!(story.iter().any(|event| matches!(event, GroupEvent::Lost { .. })), "{story:?}");
    assert!(kafka.committed(&group, &topic).into_values().all(|offset| offset >= 10), "the late ack moved nothing back");
}

async fn mixed_group(name: &str) {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("mixed", 6), kafka.group(&format!("mixed-{name}")));
    let ottla = Member::join(builder(kafka.bootstrap(), &group, &topic).assignors([assignor(name)])).await;
    let java_name = format!("java-{name}");
    let fast = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")];
    let java = kafka.admin.join(&java_name, &group, &[&topic], name, &fast).unwrap();
    let librdkafka = Librdkafka::join(kafka.bootstrap(), &group, &[&topic], name, &fast).unwrap();
    let spread = || {
        let held = [ottla.partitions().len(), java.status().unwrap().assigned.len(), librdkafka.status().assigned.len()];
        held == [2, 2, 2]
    };
    eventually_async("two partitions each", DEADLINE, spread).await;
    kafka.produce(&topic, 6, 50);
    eventually_async("each reads its own", DEADLINE, || {
        (ottla.seen().len(), java.status().unwrap().records(), librdkafka.status().records()) == (100, 100, 100)
    })
    .await;
    // Whoever leads, the others agree. ottla joined first, so it led; now a Java or librdkafka member leads, and ottla follows.
    assert_eq!(ottla.leave().await.len(), 100);
    let again = Member::join(builder(kafka.bootstrap(), &group, &topic).assignors([assignor(name)])).await;
    eventually_async("two partitions each again", DEADLINE, || {
        [again.partitions().len(), java.status().unwrap().assigned.len(), librdkafka.status().assigned.len()] == [2, 2, 2]
    })
    .await;
    kafka.produce(&topic, 6, 10);
    eventually_async("ottla reads on where the group had got to", DEADLINE, || again.seen().len() == 20).await;
    assert_eq!(librdkafka.stop().failure, "");
    java.stop().unwrap();
    let alone = [again];
    settled(&alone, 6).await;
    let [again] = alone;
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([60; 6])).await;
    again.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_and_librdkafka_and_ottla_share_a_group_with_range() {
    mixed_group("range").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_and_librdkafka_and_ottla_share_a_group_with_roundrobin() {
    mixed_group("roundrobin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_and_librdkafka_and_ottla_share_a_group_with_cooperative_sticky() {
    mixed_group("cooperative-sticky").await;
}

/// librdkafka knows no eager sticky assignor: of its user data Java's members are the judges.
#[tokio::test(flavor = "multi_thread")]
async fn java_and_ottla_share_a_group_with_sticky() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("sticky", 6), kafka.group("sticky-mixed"));
    let settings = || builder(kafka.bootstrap(), &group, &topic).assignors([assignor("sticky")]);
    let fast = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")];
    // Java leads; then ottla does, and Java's claims are read here.
    let java = kafka.admin.join("java-sticky", &group, &[&topic], "sticky", &fast).unwrap();
    eventually_async("Java holds everything", DEADLINE, || java.status().unwrap().assigned.len() == 6).await;
    let first = Member::join(settings()).await;
    eventually_async("three each", DEADLINE, || (java.status().unwrap().assigned.len(), first.partitions().len()) == (3, 3))
        .await;
    let of_java = |java: &kafka_harness::JavaMember<'_>| java.status().unwrap().assigned.into_iter().collect::<BTreeSet<_>>();
    let (kept_by_java, kept) = (of_java(&java), first.partitions());
    let second = Member::join(settings()).await;
    eventually_async("two each", DEADLINE, || {
        [java.status().unwrap().assigned.len(), first.partitions().len(), second.partitions().len()] == [2, 2, 2]
    })
    .await;
    assert!(of_java(&java).is_subset(&kept_by_java), "Java keeps two of its three");
    assert!(first.partitions().iter().all(|partition| kept.contains(partition)), "so does ottla");
    java.stop().unwrap();
    settled(&[first, second], 6).await;
}

/// Round by round of restarts, a group goes from eager to cooperative and back, reading all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_rolled_from_range_to_cooperative_sticky_and_back() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("rolled", 6), kafka.group("rolled"));
    let join = |names: &'static [&'static str]| {
        Member::join(builder(kafka.bootstrap(), &group, &topic).assignors(names.iter().map(|name| assignor(name))))
    };
    let mut members = vec![join(&["range"]).await, join(&["range"]).await];
    let mut seen = Vec::new();
    let rounds: [(&[&str], &str); 4] = [
        (&["range", "cooperative-sticky"], "range"),
        (&["cooperative-sticky"], "cooperative-sticky"),
        (&["range", "cooperative-sticky"], "range"),
        (&["range"], "range"),
    ];
    for (round, (names, selected)) in (1..).zip(rounds) {
        for _ in 0..2 {
            kafka.produce(&topic, 6, 50);
            seen.extend(members.remove(0).leave().await);
            members.push(join(names).await);
        }
        settled(&members, 6).await;
        eventually_async("all is read", DEADLINE, || {
            seen.iter().copied().chain(members.iter().flat_map(Member::seen)).collect::<BTreeSet<_>>()
                == all_places(6, round * 100)
        })
        .await;
        assert_eq!(kafka.admin.group(&group).unwrap().assignor, selected, "round {round}");
        assert!(members.iter().all(|member| member.errors().is_empty()));
    }
    for member in members {
        seen.extend(member.leave().await);
    }
    assert!(counts(seen).into_values().all(|count| count == 1), "nothing twice on clean leaves");
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [400; 6]);
}

const KILLED: &str = "ownership::a_killed_members_partitions_are_taken_over";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_members_partitions_are_taken_over() {
    if role().is_some() {
        let member = Member::join(builder(&setting("BOOT"), &setting("GROUP"), &setting("TOPIC"))).await;
        let told = AtomicUsize::new(0);
        eventually_async("the outer test kills this", DEADLINE, || {
            if member.partitions().len() != told.swap(member.partitions().len(), Ordering::Relaxed) {
                tell("holds", &[member.partitions().len() as i64]);
            }
            false
        })
        .await;
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("takeover", 4), kafka.group("takeover"));
    let settings = [("BOOT", kafka.bootstrap()), ("GROUP", &group), ("TOPIC", &topic)];
    let doomed = Process::start(KILLED, "member", &settings);
    let survivor = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("they share", DEADLINE, || survivor.partitions().len() == 2 && !doomed.lines("holds").is_empty()).await;
    let killed = Instant::now();
    doomed.kill();
    let alone = [survivor];
    settled(&alone, 4).await;
    assert!(killed.elapsed() < Duration::from_secs(10), "session timeout (6 s) and a little: {:?}", killed.elapsed());
}

/// Cancel safety, tested by cancelling: whatever the point at which `next` is dropped, nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_next_at_any_point_loses_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("cancel", 2), kafka.group("cancel"));
    kafka.produce(&topic, 2, 500);
    let mut records =
        Consumer::builder(group, kafka.bootstrap().split(',')).subscribe([topic]).connect().await.unwrap().at_least_once();
    let mut seen = Vec::new();
    let mut patience_us = 0;
    while seen.len() < 1000 {
        patience_us = (patience_us + 7) % 400;
        if let Ok(delivery) = tokio::time::timeout(Duration::from_micros(patience_us), records.next()).await {
            let delivery = delivery.unwrap().unwrap();
            seen.push((delivery.partition(), delivery.offset()));
            delivery.ack();
        }
    }
    assert_eq!(counts(seen), counts(all_places(2, 500)));
    records.close(DEADLINE).await.unwrap();
}
