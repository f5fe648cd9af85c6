//! Confluent's Rust client, polled for many records at a time. It knows the new group protocol (KIP-848) only.

#![forbid(unsafe_code)]

use std::{collections::HashMap, error::Error, time::Duration};

use bench_meter::{Meter, Task};
use confluent_kafka::{
    common::serialization::BytesDeserializer,
    consumer::{Consumer, ConsumerConfig, KafkaConsumer},
};
use tokio::time::{Instant, sleep};

/// Beside its defaults, which are Java's.
const SETTINGS: [(&str, &str); 3] =
    [("auto.offset.reset", "earliest"), ("max.poll.records", "10000"), ("group.protocol", "consumer")];
const POLL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let task = Task::of_this_process();
    let mut config: HashMap<_, _> = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    config.insert("bootstrap.servers".into(), task.bootstrap.clone());
    config.insert("group.id".into(), task.group.clone());
    config.insert("auto.commit.interval.ms".into(), task.commit_interval.as_millis().to_string());
    let config = ConsumerConfig::new(&config)?;
    let mut consumer = KafkaConsumer::new(config, BytesDeserializer::new(), BytesDeserializer::new())?;
    consumer.subscribe_with_topics(vec![task.topic.clone()]).await?;

    let mut meter = Meter::of(&task);
    while !meter.is_done() {
        for record in &consumer.poll(POLL).await? {
            meter.record(record.value().map(|value| &value[..]));
        }
    }
    if let Some(idle) = task.idle {
        for (at, duration) in [Task::SETTLE, idle].into_iter().enumerate() {
            if at == 1 {
                meter.idle_begins();
            }
            let end = Instant::now() + duration;
            while Instant::now() < end {
                consumer.poll(end - Instant::now()).await?;
            }
        }
        meter.idle_ends();
    }
    sleep(task.hold.unwrap_or_default()).await;
    meter.closes();
    consumer.close().await?;
    meter.closed();
    let settings: Vec<_> = SETTINGS.map(|(name, value)| format!("{name}={value}")).into();
    let settings = format!("{}, auto.commit.interval={:?}; poll, tokio multi-thread", settings.join(", "), task.commit_interval);
    meter.print("confluent-kafka 1.0", &settings);
    Ok(())
}
