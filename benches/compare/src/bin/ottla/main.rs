//! ottla in each of its modes, by its public API alone.

#![forbid(unsafe_code)]

mod pair;

use std::time::Duration;

use bench_meter::{Meter, Task};
use ottla::{
    AtLeastOnce, AtMostOnce, Batches, Consumer, ConsumerBuilder, Events, GroupEvent, GroupProtocol, Manual, OffsetReset,
};
use tokio::{
    runtime,
    time::{sleep, timeout},
};

type Error = Box<dyn std::error::Error + Send + Sync>;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Error> {
    let task = Task::of_this_process();
    let mut runtime =
        if is_multi_thread(&task) { runtime::Builder::new_multi_thread() } else { runtime::Builder::new_current_thread() };
    // In a task, as a program would: on a runtime's main future every wake-up costs more.
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async { tokio::spawn(measure(task)).await })?
}

async fn measure(task: Task) -> Result<(), Error> {
    let meter = Meter::of(&task);
    let (builder, settings) = builder(&task)?;
    let mode = task.other("mode").unwrap_or("deliveries");
    if let Some(protocol) = pair::Protocol::of(mode) {
        return pair::measure(&task, protocol, meter).await;
    }
    let consumer = builder.connect().await?;
    match mode {
        "deliveries" => read(consumer.at_least_once(), &task, meter, &settings).await,
        "batches" => read(consumer.batches(), &task, meter, &settings).await,
        "at-most-once" => read(consumer.at_most_once(), &task, meter, &settings).await,
        "manual" => read(consumer.manual(), &task, meter, &settings).await,
        other => Err(format!("there is no mode {other}").into()),
    }
}

/// Sets up a consumer; tells the settings in words.
fn builder(task: &Task) -> Result<(ConsumerBuilder, String), Error> {
    let number = |name: &str, default: usize| task.other(name).map_or(Ok(default), str::parse);
    let (partition_bytes, buffer_bytes) = (number("partition_bytes", 1 << 20)?, number("buffer_bytes", 64 << 20)?);
    let connections = number("catch_up_connections", 2)?;
    let builder = Consumer::builder(task.group.as_str(), task.bootstrap.split(',')).subscribe([task.topic.as_str()]);
    let builder = builder.offset_reset(OffsetReset::Earliest).commit_interval(task.commit_interval);
    let builder = builder.partition_fetch_bytes_max(partition_bytes).buffer_bytes_max(buffer_bytes);
    let protocol = match task.other("protocol") {
        // As every peer has it, so that what is compared is the clients.
        None => GroupProtocol::Classic,
        Some("consumer") => GroupProtocol::Consumer,
        Some(other) => return Err(format!("there is no protocol {other}").into()),
    };
    let builder = builder.catch_up_connections(connections).group_protocol(protocol);
    let settings = format!(
        "partition_fetch_bytes_max={partition_bytes}, buffer_bytes_max={buffer_bytes}, catch_up_connections={connections}, \
         group_protocol={protocol:?}, commit_interval={:?}, CRCs checked; tokio, {}",
        task.commit_interval,
        if is_multi_thread(task) { "multi-thread" } else { "current-thread" }
    );
    Ok((builder, settings))
}

fn is_multi_thread(task: &Task) -> bool {
    task.other("threads") == Some("many")
}

async fn read(mut mode: impl Mode, task: &Task, mut meter: Meter, settings: &str) -> Result<(), Error> {
    let assigned = tokio::spawn(await_assignment(mode.events()));
    while !meter.is_done() {
        mode.take(&mut meter).await?;
    }
    if assigned.is_finished() {
        let (partitions, assigned_at) = assigned.await?;
        meter.tell("assigned_partitions", partitions as f64);
        meter.tell("assigned_s", meter.since_start().saturating_sub(assigned_at.elapsed()).as_secs_f64());
    }
    if let Some(idle) = task.idle {
        let mut nothing = Meter::of(task);
        drop(timeout(Task::SETTLE, mode.take(&mut nothing)).await);
        meter.idle_begins();
        drop(timeout(idle, mode.take(&mut nothing)).await);
        meter.idle_ends();
    }
    sleep(task.hold.unwrap_or_default()).await;
    meter.closes();
    mode.close().await?;
    meter.closed();
    meter.print("ottla", settings);
    Ok(())
}

/// Waits for the first assignment; tells how many partitions it has, and when it was.
async fn await_assignment(mut events: Events) -> (usize, tokio::time::Instant) {
    while let Some(event) = events.next().await {
        if let GroupEvent::Assigned { partitions, .. } = event {
            return (partitions.len(), tokio::time::Instant::now());
        }
    }
    (0, tokio::time::Instant::now())
}

/// A way to take records.
trait Mode: Send {
    fn events(&self) -> Events;
    /// Takes what is next, and finishes it.
    fn take(&mut self, meter: &mut Meter) -> impl Future<Output = Result<(), Error>> + Send;
    fn close(self) -> impl Future<Output = Result<(), ottla::CloseError>> + Send;
}

impl Mode for AtLeastOnce {
    fn events(&self) -> Events {
        self.handle().events()
    }

    #[inline]
    async fn take(&mut self, meter: &mut Meter) -> Result<(), Error> {
        let delivery = self.next().await.ok_or("the stream ended")??;
        meter.record(delivery.value());
        delivery.ack();
        Ok(())
    }

    async fn close(self) -> Result<(), ottla::CloseError> {
        self.close(CLOSE_TIMEOUT).await
    }
}

impl Mode for Batches {
    fn events(&self) -> Events {
        self.handle().events()
    }

    async fn take(&mut self, meter: &mut Meter) -> Result<(), Error> {
        let batch = self.next_batch().await.ok_or("the stream ended")??;
        if meter.is_stamped() {
            batch.iter().for_each(|record| meter.record(record.value()));
        } else {
            let bytes = batch.iter().map(|record| record.value().map_or(0, <[u8]>::len)).sum();
            meter.count(batch.len() as u64, bytes);
        }
        batch.ack();
        Ok(())
    }

    async fn close(self) -> Result<(), ottla::CloseError> {
        self.close(CLOSE_TIMEOUT).await
    }
}

impl Mode for AtMostOnce {
    fn events(&self) -> Events {
        self.handle().events()
    }

    #[inline]
    async fn take(&mut self, meter: &mut Meter) -> Result<(), Error> {
        let record = self.next().await.ok_or("the stream ended")??;
        meter.record(record.value());
        Ok(())
    }

    async fn close(self) -> Result<(), ottla::CloseError> {
        self.close(CLOSE_TIMEOUT).await
    }
}

impl Mode for Manual {
    fn events(&self) -> Events {
        self.handle().events()
    }

    async fn take(&mut self, meter: &mut Meter) -> Result<(), Error> {
        let batch = self.next_batch().await.ok_or("the stream ended")??;
        batch.iter().for_each(|record| meter.record(record.value()));
        batch.commit().await?;
        Ok(())
    }

    async fn close(self) -> Result<(), ottla::CloseError> {
        self.close(CLOSE_TIMEOUT).await
    }
}
