//! krafka, polled for many records at a time.

#![forbid(unsafe_code)]

use std::{error::Error, time::Duration};

use bench_meter::{Meter, Task};
use krafka::{
    Kafka,
    consumer::{AutoOffsetReset, Consumer, GroupProtocol},
};
use tokio::time::{Instant, sleep};

const MAX_POLL_RECORDS: i32 = 10_000;
const POLL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let task = Task::of_this_process();
    let kafka = Kafka::builder(&task.bootstrap).connect().await?;
    let consumer = kafka.consumer(&task.group).group_protocol(GroupProtocol::Classic);
    let consumer = consumer.auto_offset_reset(AutoOffsetReset::Earliest).auto_commit_interval(task.commit_interval);
    let consumer = consumer.max_poll_records(MAX_POLL_RECORDS).build().await?;
    consumer.subscribe([&task.topic]).await?;

    let mut meter = Meter::of(&task);
    while !meter.is_done() {
        for record in consumer.poll(POLL).await? {
            meter.record(record.value.as_deref());
        }
    }
    if let Some(idle) = task.idle {
        wait(&consumer, Task::SETTLE).await?;
        meter.idle_begins();
        wait(&consumer, idle).await?;
        meter.idle_ends();
    }
    sleep(task.hold.unwrap_or_default()).await;
    meter.closes();
    consumer.close().await?;
    meter.closed();
    let settings = format!(
        "max_poll_records={MAX_POLL_RECORDS}, auto_commit_interval={:?}, group_protocol=Classic, range; poll, tokio multi-thread",
        task.commit_interval
    );
    meter.print("krafka 0.28", &settings);
    Ok(())
}

async fn wait(consumer: &Consumer, duration: Duration) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        consumer.poll(end - Instant::now()).await?;
    }
    Ok(())
}
