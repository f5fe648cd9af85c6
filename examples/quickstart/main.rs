//! Two members share a topic; one leaves; the other takes over where it stopped.
//!
//! `cargo run --example quickstart` needs nothing but this: its Kafka runs inside the process. With `KAFKA_BOOTSTRAP_SERVERS` set it plays
//! on that one instead (and needs Java, to fill a topic there).

#![allow(clippy::disallowed_methods, reason = "an example takes real time")]

mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    process,
    time::Duration,
};

use ottla::{AtLeastOnce, Consumer, GroupEvent, GroupProtocol, OffsetReset};
use tokio::time::{interval, timeout};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let stage = stage::Stage::set().await?;
    let mut seen = Seen::default();

    let mut ann = Member::join("ann", &stage).await?;
    let all = ann.wait_for_partitions().await?;
    let mut bob = Member::join("bob", &stage).await?;
    bob.wait_for_partitions().await?;
    ann.wait_for_partitions().await?;

    ann.work(6, 1, &mut seen).await?;
    bob.work(6, 1, &mut seen).await?;
    tokio::try_join!(ann.leave(), bob.work(usize::MAX, all, &mut seen))?;
    bob.leave().await?;

    println!("{} records were handled, {} of them twice", seen.records.len(), seen.again);
    stage.clear()
}

/// A process, in real life.
struct Member {
    name: &'static str,
    records: AtLeastOnce,
}

impl Member {
    async fn join(name: &'static str, stage: &stage::Stage) -> Result<Self> {
        // A group of its own for each run, so that it begins at the beginning.
        let group = format!("ottla-quickstart-{}", process::id());

        println!("{name} joins");
        let builder = Consumer::builder(group, stage.bootstrap.split(','))
            .subscribe([stage.topic.as_str()])
            .offset_reset(OffsetReset::Earliest)
            // Otherwise a Kafka 4 would say how often it wants heartbeats: every 5 seconds, which is long for who watches.
            .group_protocol(GroupProtocol::Classic)
            .heartbeat_interval(Duration::from_millis(50)) // how soon a member hears that another has come
            .fetch_max_wait(Duration::from_millis(50)); // how soon it knows that there is nothing more to read
        Ok(Self { name, records: builder.connect().await?.at_least_once() })
    }

    /// Returns how many partitions the group has given to the member.
    async fn wait_for_partitions(&self) -> Result<usize> {
        const TIMEOUT: Duration = Duration::from_secs(30);

        let handle = self.records.handle();
        let mut events = handle.events();
        let assigned = async { while handle.assignment().is_empty() && events.next().await.is_some() {} };
        if timeout(TIMEOUT, assigned).await.is_err() {
            return Err(format!("{} has no partitions after {TIMEOUT:?}: has the topic two or more?", self.name).into());
        }
        self.tell_partitions();
        Ok(handle.assignment().len())
    }

    /// Handles `most` records, or all that there are when these are fewer, of `partitions` partitions or more.
    async fn work(&mut self, most: usize, partitions: usize, seen: &mut Seen) -> Result<()> {
        let handle = self.records.handle();
        let mut events = handle.events();
        let mut look = interval(Duration::from_millis(100));
        let mut handled = Handled::default();
        let mut left = most;
        while left > 0 {
            tokio::select! {
                biased; // it is looked whether everything is done only when there is nothing to do
                Some(event) = events.next() => if let GroupEvent::Assigned { .. } = event {
                    self.tell_handled(&mut handled);
                    self.tell_partitions();
                },
                Some(delivery) = self.records.next() => {
                    let delivery = delivery?;
                    handled.entry(delivery.partition()).or_default().push(delivery.offset());
                    seen.insert(delivery.partition(), delivery.offset());
                    delivery.ack(); // in real life: when the work with the record is done
                    left -= 1;
                }
                _ = look.tick() => {
                    let lags = handle.lag();
                    if lags.len() >= partitions && lags.iter().all(|lag| lag.records() == Some(0)) {
                        break;
                    }
                }
            }
        }
        self.tell_handled(&mut handled);
        Ok(())
    }

    async fn leave(self) -> Result<()> {
        println!("{} leaves", self.name);
        self.records.close(Duration::from_secs(10)).await?; // what was handled is committed
        Ok(())
    }

    fn tell_partitions(&self) {
        let mut partitions: Vec<_> = self.records.handle().assignment().iter().map(|assigned| assigned.partition()).collect();
        partitions.sort();
        println!("{} holds partitions {partitions:?}", self.name);
    }

    fn tell_handled(&self, handled: &mut Handled) {
        for (partition, offsets) in std::mem::take(handled) {
            println!("{} handles partition {partition}, offsets {offsets:?}", self.name);
        }
    }
}

/// The offsets of a member's records, by partition.
type Handled = BTreeMap<i32, Vec<i64>>;

/// Partition and offset of all records that any member handled.
#[derive(Default)]
struct Seen {
    records: BTreeSet<(i32, i64)>,
    again: usize,
}

impl Seen {
    fn insert(&mut self, partition: i32, offset: i64) {
        if !self.records.insert((partition, offset)) {
            self.again += 1;
        }
    }
}
