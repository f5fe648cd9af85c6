//! Fetch sessions (KIP-227): idle partitions cost next to nothing, and nothing is lost where a broker has none, or loses them.

use std::time::Duration;

use kafka_harness::{Options, Produce};

use crate::{
    member::{Member, builder, counts},
    support::{DEADLINE, Kafka, eventually_async},
};

const PARTITIONS: i32 = 300;

/// Writes one record to every `step`th partition; says how many.
fn produce(kafka: &Kafka, topic: &str, step: usize) -> usize {
    let partitions: Vec<_> = (0..PARTITIONS).step_by(step).collect();
    for &partition in &partitions {
        kafka.admin.produce(&Produce { topic, partition, count: 1, ..Produce::default() }).unwrap();
    }
    partitions.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_partitions_are_not_named_again_and_all_are_read_before_and_after_a_restart() {
    let Some(kafka) = Kafka::start(Options::default()) else { return };
    let (topic, group) = (kafka.topic("idle", PARTITIONS), kafka.group("idle"));
    let mut count = produce(&kafka, &topic, 1);
    let builder = builder(kafka.bootstrap(), &group, &topic).fetch_max_wait(Duration::from_millis(50));
    let member = Member::join(builder).await;
    eventually_async("all is read", DEADLINE, || member.seen().len() == count).await;

    let process = kafka.cluster().process_id(1).unwrap();
    let asked = kafka.admin.requests(process, "FetchConsumer").unwrap();
    eventually_async("it is asked again and again", DEADLINE, || {
        kafka.admin.requests(process, "FetchConsumer").unwrap() > 2 * asked + 20
    })
    .await;
    let bytes = kafka.admin.request_bytes(process, "FetchConsumer").unwrap();
    println!("a Fetch of {PARTITIONS} idle partitions has {bytes} bytes");
    assert!(bytes < 200, "{bytes}");
    count += produce(&kafka, &topic, 7);
    eventually_async("what comes later is read", DEADLINE, || member.seen().len() == count).await;

    kafka.cluster().stop_broker(1).unwrap();
    kafka.cluster().start_broker(1).unwrap();
    count += produce(&kafka, &topic, 5);
    eventually_async("and by the broker that knows no session any more", DEADLINE, || member.seen().len() == count).await;
    assert!(counts(member.leave().await).into_values().all(|count| count == 1), "nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_room_for_sessions_is_told_everything_each_time() {
    let no_room = ("max.incremental.fetch.session.cache.slots".to_owned(), "0".to_owned());
    let Some(kafka) = Kafka::start(Options { extra_conf: vec![no_room], ..Options::default() }) else { return };
    let (topic, group) = (kafka.topic("no-room", PARTITIONS), kafka.group("no-room"));
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic).fetch_max_wait(Duration::from_millis(50))).await;
    let mut count = 0;
    for step in [1, 7, 5] {
        count += produce(&kafka, &topic, step);
        eventually_async("all is read", DEADLINE, || member.seen().len() == count).await;
    }
    let bytes = kafka.admin.request_bytes(kafka.cluster().process_id(1).unwrap(), "FetchConsumer").unwrap();
    assert!(bytes > 20 * PARTITIONS as u64, "{bytes}");
    assert_eq!(member.errors(), Vec::<String>::new());
    assert!(counts(member.leave().await).into_values().all(|count| count == 1), "nothing twice");
}
