//! librdkafka by way of rdkafka, polled in a loop: the quickest of its ways.

#![forbid(unsafe_code)]

use std::{
    error::Error,
    thread::sleep,
    time::{Duration, Instant},
};

use bench_meter::{Meter, Task};
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

/// Beside its defaults: a longer queue, as its own performance tool has.
const SETTINGS: [(&str, &str); 3] =
    [("auto.offset.reset", "earliest"), ("queued.min.messages", "1000000"), ("partition.assignment.strategy", "range")];
const POLL: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let task = Task::of_this_process();
    let mut config = ClientConfig::new();
    config.extend(SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    config.set("bootstrap.servers", &task.bootstrap).set("group.id", &task.group);
    config.set("auto.commit.interval.ms", task.commit_interval.as_millis().to_string());
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[&task.topic])?;

    let mut meter = Meter::of(&task);
    while !meter.is_done() {
        if let Some(message) = consumer.poll(POLL) {
            meter.record(message?.payload());
        }
    }
    if let Some(idle) = task.idle {
        wait(&consumer, Task::SETTLE);
        meter.idle_begins();
        wait(&consumer, idle);
        meter.idle_ends();
    }
    sleep(task.hold.unwrap_or_default());
    meter.closes();
    match consumer.commit_consumer_state(CommitMode::Sync) {
        // It was committed already.
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => return Err(error.into()),
    }
    drop(consumer);
    meter.closed();
    let settings: Vec<_> = SETTINGS.map(|(name, value)| format!("{name}={value}")).into();
    let (_, version) = rdkafka::util::get_rdkafka_version();
    let settings = format!("{}, auto.commit.interval={:?}, check.crcs=false (its default); BaseConsumer::poll", settings.join(", "), task.commit_interval);
    meter.print(&format!("rdkafka 0.39, librdkafka {version}"), &settings);
    Ok(())
}

fn wait(consumer: &BaseConsumer, duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let _ = consumer.poll(left);
    }
}
