//! What a group is for, on brokers of every era and by every way in which partitions are shared.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_harness::{DEFAULT_VERSION, Options};
use ottla::{ConsumerBuilder, GroupProtocol};
use tokio::{task::block_in_place, time::timeout};

use crate::{
    member::{Member, Place, Process, builder, counts, role, setting, settled, tell},
    ownership::assignor,
    support::{DEADLINE, Kafka, eventually_async},
};

const PARTITIONS: i32 = 2;
/// How many records each partition gets at a time.
const ROUND: i64 = 20;
const CLASSIC: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];
/// The consumer protocol (KIP-848), by the name of the assignor that the coordinator then takes.
const CONSUMER: &str = "uniform";

#[tokio::test(flavor = "multi_thread")]
async fn a_group_on_kafka_4() {
    matrix("matrix::a_group_on_kafka_4", DEFAULT_VERSION, &[&CLASSIC[..], &[CONSUMER]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_on_kafka_3_9() {
    matrix("matrix::a_group_on_kafka_3_9", "3.9.2", &CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_on_kafka_2_8() {
    matrix("matrix::a_group_on_kafka_2_8", "2.8.2", &CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_on_kafka_0_11() {
    matrix("matrix::a_group_on_kafka_0_11", "0.11.0.3", &CLASSIC).await;
}

/// Plays the scenario by each of these ways at once, on one broker.
async fn matrix(test: &'static str, version: &str, ways: &[&'static str]) {
    if role().is_some() {
        return finish_below(setting("LIMIT").parse().unwrap()).await;
    }
    let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
    let kafka = Arc::new(kafka);
    let cells: Vec<_> = ways.iter().map(|&way| (way, tokio::spawn(scenario(test, Arc::clone(&kafka), way)))).collect();
    let mut failed = Vec::new();
    for (way, cell) in cells {
        if cell.await.is_err() {
            failed.push(way);
        }
    }
    assert!(failed.is_empty(), "on Kafka {version}: {failed:?}, see above");
}

fn by(way: &str, builder: ConsumerBuilder) -> ConsumerBuilder {
    if way == CONSUMER { builder.group_protocol(GroupProtocol::Consumer) } else { builder.assignors([assignor(way)]) }
}

/// A group with a member too many, one that leaves, one that is killed, and one that comes back; beside it another group.
async fn scenario(test: &'static str, kafka: Arc<Kafka>, way: &'static str) {
    let started = Instant::now();
    let topic = block_in_place(|| kafka.topic("matrix", PARTITIONS));
    let (group, other) = (kafka.group(way), kafka.group(&format!("beside-{way}")));
    let join = |group: &str| Member::join(by(way, builder(kafka.bootstrap(), group, &topic)));
    let produce = || block_in_place(|| kafka.produce(&topic, PARTITIONS, ROUND as u64));
    let committed = |group: &str| block_in_place(|| kafka.committed(group, &topic));
    let is_shared_by = |count: usize| {
        let described = kafka.admin.group(&group).unwrap();
        let held: Vec<_> = described.members.iter().map(|member| member.assigned.len()).collect();
        let is_even = held.iter().max().unwrap_or(&0) - held.iter().min().unwrap_or(&0) <= 1;
        let is_all = held.len() == count && held.iter().sum::<usize>() == PARTITIONS as usize;
        described.state == "Stable" && described.assignor == way && is_even && is_all
    };
    let shared_by = |count| eventually_async("the coordinator agrees", DEADLINE, move || is_shared_by(count));

    produce();
    let beside = [join(&other).await];
    settled(&beside, PARTITIONS).await;
    let mut heard_beside = beside[0].handle.events();

    // Members join and share; the one too many stands by.
    let mut members = vec![join(&group).await];
    eventually_async("one reads all", DEADLINE, || members[0].seen().len() == rounds(0..1).len()).await;
    for count in 2..=3 {
        members.push(join(&group).await);
        shared_by(count).await;
        settled(&members, PARTITIONS).await;
    }

    // One leaves in order, with records on their way.
    produce();
    let mut finished = leave(&mut members).await;
    settled(&members, PARTITIONS).await;

    // Another comes that does not finish all it gets, and is killed.
    let (limit, end) = (2 * ROUND + ROUND / 2, 3 * ROUND);
    let settings = [("BOOT", kafka.bootstrap()), ("GROUP", &group), ("TOPIC", &topic), ("WAY", way)];
    let killed = Process::start(test, "member", &[&settings[..], &[("LIMIT", &limit.to_string())]].concat());
    let has = || killed.lines("has").into_iter().map(|place| (place[0] as i32, place[1]));
    shared_by(3).await;
    finished.extend(leave(&mut members).await);
    shared_by(2).await;
    let survivor = members.remove(0);
    eventually_async("all is read, and nothing twice", DEADLINE, || {
        counts(finished.iter().copied().chain(survivor.seen()).chain(has())) == counts(rounds(0..2))
    })
    .await;
    produce();
    eventually_async("the one has finished half, the other all", DEADLINE, || {
        committed(&group).into_values().collect::<BTreeSet<_>>() == [limit, end].into()
    })
    .await;
    eventually_async("the rest is in hand", DEADLINE, || has().any(|(_, offset)| offset == end - 1)).await;
    finished.extend(has().filter(|(_, offset)| *offset < limit));
    killed.kill();
    shared_by(1).await;
    eventually_async("all is finished", DEADLINE, || committed(&group).into_values().eq([end; PARTITIONS as usize])).await;
    assert_eq!(survivor.errors(), Vec::<String>::new(), "{way}");
    finished.extend(survivor.leave().await);
    assert_eq!(counts(finished), counts(rounds(0..3)), "{way}: what was unfinished was taken over, and nothing else");

    // The other group has read it all, and heard nothing of it.
    let [beside] = beside;
    eventually_async("the other group has read all, too", DEADLINE, || beside.seen().len() == rounds(0..3).len()).await;
    let heard = timeout(Duration::ZERO, heard_beside.next()).await;
    assert!(heard.is_err(), "{way}: the other group heard {heard:?}");
    assert_eq!(counts(beside.leave().await), counts(rounds(0..3)), "{way}");

    // A member comes back to the group.
    assert_eq!(block_in_place(|| kafka.admin.group(&group)).unwrap().state, "Empty", "{way}");
    produce();
    let again = join(&group).await;
    eventually_async("it reads on", DEADLINE, || again.seen().iter().collect::<BTreeSet<_>>().len() >= rounds(3..4).len()).await;
    assert_eq!(counts(again.leave().await), counts(rounds(3..4)), "{way}: from where its group was");
    assert!(committed(&group).into_values().eq([4 * ROUND; PARTITIONS as usize]), "{way}");
    assert!(committed(&other).into_values().eq([end; PARTITIONS as usize]), "{way}: each group has its own offsets");
    println!("{way} on Kafka {}: {:.1} s", kafka.cluster().version(), started.elapsed().as_secs_f32());
}

/// What is produced in these rounds.
fn rounds(rounds: Range<i64>) -> BTreeSet<Place> {
    (0..PARTITIONS)
        .flat_map(|partition| (rounds.start * ROUND..rounds.end * ROUND).map(move |offset| (partition, offset)))
        .collect()
}

/// Lets one leave in order that has something to give up; returns what it has read.
async fn leave(members: &mut Vec<Member>) -> Vec<Place> {
    let mut holder = None;
    eventually_async("somebody holds a partition", DEADLINE, || {
        holder = members.iter().position(|member| !member.partitions().is_empty());
        holder.is_some()
    })
    .await;
    members.remove(holder.expect("waited for")).leave().await
}

/// The member that is killed: finishes what lies below `limit`, and has the rest in hand.
async fn finish_below(limit: i64) {
    let settings = by(&setting("WAY"), builder(&setting("BOOT"), &setting("GROUP"), &setting("TOPIC")));
    // By the classic protocol it is the member that says how soon it may be missed.
    let mut records = settings.session_timeout(Duration::from_secs(3)).connect().await.unwrap().at_least_once();
    let mut in_hand = Vec::new();
    while let Some(delivery) = records.next().await {
        let delivery = delivery.unwrap();
        tell("has", &[i64::from(delivery.partition()), delivery.offset()]);
        if delivery.offset() < limit { delivery.ack() } else { in_hand.push(delivery) }
    }
}
