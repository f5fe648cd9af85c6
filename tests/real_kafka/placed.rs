//! Positions in the program's own store: each record counts exactly once, whatever is killed.

use std::{collections::BTreeMap, time::Duration};

use ottla::{ConsumeErrorKind, ConsumerBuilder, SeekTo};

use crate::{
    member::{Place, Process, all_places, builder, counts, parse, role, setting, tell},
    support::{DEADLINE, Kafka, eventually_async},
};

const KILLED: &str = "placed::ten_kills_lose_nothing_and_repeat_nothing_with_a_store";
const PARTITIONS: i32 = 3;

/// The store is what the worker has told: a line is there whole or not at all, and holds both what was done and where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_lose_nothing_and_repeat_nothing_with_a_store() {
    if role().is_some() {
        return work().await;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("store", PARTITIONS), kafka.group("store"));
    kafka.produce(&topic, PARTITIONS, 2000);
    let mut stored: Vec<Place> = Vec::new();
    for kill in 0..=10 {
        let next = |partition| stored.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| offset + 1).max().unwrap_or(0);
        let next: Vec<_> = (0..PARTITIONS).map(|partition| next(partition).to_string()).collect();
        let settings = [("BOOT", kafka.bootstrap()), ("GROUP", &group), ("TOPIC", &topic), ("NEXT", &next.join(" "))];
        let process = Process::start(KILLED, "worker", &settings);
        let enough = if kill < 10 { 20 + kill * 37 % 90 } else { 2000 * PARTITIONS as usize - stored.len() };
        eventually_async("the worker works", DEADLINE, || process.lines("did").len() >= enough).await;
        stored.extend(parse(&process.kill(), "did").iter().map(|line| (line[0] as i32, line[1])));
    }
    let counts = counts(stored);
    assert!(counts.keys().copied().eq(all_places(PARTITIONS, 2000)), "all are there");
    assert_eq!(counts.iter().find(|(_, count)| **count > 1), None, "each once");
}

fn quick(bootstrap: &str, group: &str, topic: &str) -> ConsumerBuilder {
    // The commits of before are far behind, or not there: nothing may begin at them.
    builder(bootstrap, group, topic).session_timeout(Duration::from_secs(1)).commit_interval(Duration::from_secs(5))
}

async fn work() {
    let mut partitions =
        quick(&setting("BOOT"), &setting("GROUP"), &setting("TOPIC")).connect().await.unwrap().unplaced_partitions();
    let stored: BTreeMap<i32, i64> = (0..).zip(setting("NEXT").split(' ').map(|next| next.parse().unwrap())).collect();
    let mut streams = BTreeMap::new();
    while streams.len() < stored.len() {
        let partition = partitions.next().await.unwrap().unwrap();
        let number = partition.topic_partition().partition();
        streams.insert(number, partition.start_from(SeekTo::Offset(stored[&number])));
    }
    for mut stream in streams.into_values() {
        tokio::spawn(async move {
            while let Some(delivery) = stream.next().await {
                tokio::time::sleep(Duration::from_micros(500)).await;
                tell("did", &[i64::from(delivery.partition()), delivery.offset()]);
                delivery.ack();
            }
        });
    }
    while partitions.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_log_is_told_and_a_seek_brings_the_partition_again() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("beyond", 1), kafka.group("beyond"));
    kafka.produce(&topic, 1, 10);
    let mut partitions = quick(kafka.bootstrap(), &group, &topic).connect().await.unwrap().unplaced_partitions();
    let mut stream = partitions.next().await.unwrap().unwrap().start_from(SeekTo::Offset(1000));
    let error = partitions.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::NoOffset);
    assert!(error.to_string().contains(&topic) && error.to_string().contains("1000"), "{error}");
    partitions.handle().seek(error.topic_partition().unwrap(), SeekTo::End);
    assert!(stream.next().await.is_none());
    let mut stream = partitions.next().await.unwrap().unwrap().start_from(SeekTo::Offset(7));
    for offset in 7..10 {
        let delivery = stream.next().await.unwrap();
        assert_eq!(delivery.offset(), offset);
        delivery.ack();
    }
    drop(stream);
    partitions.close(DEADLINE).await.unwrap();
    assert_eq!(kafka.committed(&group, &topic)[&0], 10, "for others to see");
}
