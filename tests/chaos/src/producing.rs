//! Records, all the time, some of them in transactions, and some of those aborted.

use std::{
    sync::mpsc::Sender,
    thread::sleep,
    time::{Duration, Instant},
};

use delivery_contract::Partition;
use kafka_harness::{JavaMember, Outcome, Produce};

use crate::{
    court::{Court, Told},
    lot::Lot,
    stage::Stage,
};

pub(crate) const PARTITIONS: i32 = 6;
const SIZE: usize = 60;
/// A transaction whose producer failed must not hold up its partition for a minute.
const TRANSACTIONAL: &[(&str, &str)] = &[("transaction.timeout.ms", "6000")];
const TRUTH_TIMEOUT: Duration = Duration::from_secs(120);
/// When a reader has seen nothing new for so long, it is at the end.
const END_AFTER: Duration = Duration::from_secs(4);

/// Writes to every `step`-th partition from `start` on until all is quiet, and tells the court of it.
pub(crate) fn produce(stage: &Stage, topic: &str, start: i32, step: i32, mut lot: Lot, court: &Sender<(Duration, Told)>) {
    let mut numbers = [0_u64; PARTITIONS as usize];
    let mut transactions = 0;
    while !stage.is(&stage.is_quiet) {
        for partition in (start..PARTITIONS).step_by(step as usize) {
            let (number, count) = (numbers[partition as usize], 1 + lot.below(25) as u64);
            numbers[partition as usize] += count;
            let mut records = Produce { topic, partition, count, first: number, size: SIZE, ..Produce::default() };
            records.codec = ["none", "lz4", "zstd", "gzip", "snappy"][lot.below(5)];
            let (written, visible) = match lot.below(20) {
                luck @ 0..2 => {
                    let outcome = if luck == 0 { Outcome::Abort } else { Outcome::Commit };
                    // A producer keeps the codec that it began with.
                    (records.codec, records.configs) = ("lz4", TRANSACTIONAL);
                    let id = format!("{topic}-{start}-{transactions}");
                    let written = stage.admin.produce_in_transaction(&id, &records, outcome, false);
                    // One that failed is never used again: its state is anybody's guess.
                    transactions += u32::from(written.is_err());
                    (written, outcome == Outcome::Commit)
                }
                _ => (stage.admin.produce(&records), true),
            };
            let partition = Partition::new(topic, partition);
            let told = match written {
                Ok((first, last)) if (last - first + 1) as u64 == count => {
                    Told::Produced { partition, first, count, number, visible }
                }
                Ok(_) | Err(_) => Told::Perhaps { partition, count, number },
            };
            court.send((stage.clock().now(), told)).expect("the court sits until everybody has spoken");
        }
        sleep(lot.ms(60..260));
    }
}

/// Reads the whole topic with Java's consumer: what it sees is to be seen, and what it does not is not.
pub(crate) fn tell_truth(stage: &Stage, topic: &str, court: &Court, tell: &Sender<(Duration, Told)>) -> Result<(), String> {
    let configs = [("isolation.level", "read_committed"), ("enable.auto.commit", "false"), ("max.poll.records", "20000")];
    let name = format!("truth-{topic}");
    let reader = stage.admin.join(&name, &name, &[topic], "range", &configs).map_err(|error| error.to_string())?;
    let read = read_all(&reader, topic, court);
    let seen = reader.stop().map_err(|error| error.to_string())?.seen;
    read?;
    let tell = |event| tell.send((stage.clock().now(), Told::Event(event))).expect("the court sits until everybody has spoken");
    for ((topic, number), seen) in seen {
        let partition = Partition::new(topic, number);
        let mut next = 0;
        for run in seen.0 {
            for offset in next..*run.start() {
                tell(delivery_contract::Event::Invisible { partition: partition.clone(), offset });
            }
            for offset in run.clone() {
                tell(delivery_contract::Event::Visible { partition: partition.clone(), offset });
            }
            next = next.max(run.end() + 1);
        }
    }
    Ok(())
}

fn read_all(reader: &JavaMember<'_>, topic: &str, court: &Court) -> Result<(), String> {
    let (begun, mut changed, mut records) = (Instant::now(), Instant::now(), 0);
    loop {
        sleep(Duration::from_millis(500));
        let status = reader.status().map_err(|error| error.to_string())?;
        let is_whole = (0..PARTITIONS).all(|number| {
            let last = court.bench().last_visible(&Partition::new(topic, number));
            let seen = status.seen.get(&(topic.to_owned(), number)).and_then(|seen| seen.0.last());
            last.is_none_or(|last| seen.is_some_and(|run| *run.end() >= last))
        });
        if status.records() != records {
            (records, changed) = (status.records(), Instant::now());
        }
        if is_whole && changed.elapsed() > END_AFTER {
            return Ok(());
        }
        if !status.failure.is_empty() || begun.elapsed() > TRUTH_TIMEOUT {
            return Err(format!("Java's consumer did not read {topic} to the end: {records} records, {}", status.failure));
        }
    }
}
