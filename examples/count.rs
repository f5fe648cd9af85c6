//! Counts records: how fast, and at what cost. The clock starts with the first record, so that joining the group is not timed.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --release --example count -- TOPIC RECORDS [at-least-once|batches|at-most-once]`

#![allow(clippy::disallowed_methods, reason = "an example that measures time")]

use std::time::Instant;

use ottla::{Consumer, OffsetReset};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let (Some(topic), Some(records)) = (args.next(), args.next()) else { return Err("usage: count TOPIC RECORDS [MODE]".into()) };
    let records: u64 = records.parse()?;
    let mode = args.next().unwrap_or_else(|| "at-least-once".into());
    // A group of its own each time, so that every run reads everything.
    let group = format!("ottla-count-{}", std::process::id());
    let consumer =
        Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).offset_reset(OffsetReset::Earliest).connect().await?;

    let mut meter = Meter::default();
    // In a task, as a program would: on a runtime's main future every wake-up costs more.
    let meter = match mode.as_str() {
        "at-least-once" => tokio::spawn(async move {
            let mut stream = consumer.at_least_once();
            while meter.records < records {
                let Some(Ok(delivery)) = stream.next().await else { break };
                meter.count(1, delivery.key().map_or(0, <[u8]>::len) + delivery.value().map_or(0, <[u8]>::len));
                delivery.ack();
            }
            meter
        }),
        "batches" => tokio::spawn(async move {
            let mut stream = consumer.batches();
            while meter.records < records {
                let Some(Ok(batch)) = stream.next_batch().await else { break };
                let bytes =
                    batch.iter().map(|record| record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len)).sum();
                meter.count(batch.len() as u64, bytes);
                batch.ack();
            }
            meter
        }),
        "at-most-once" => tokio::spawn(async move {
            let mut stream = consumer.at_most_once();
            while meter.records < records {
                let Some(Ok(record)) = stream.next().await else { break };
                meter.count(1, record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len));
            }
            meter
        }),
        other => return Err(format!("there is no mode {other}").into()),
    };
    meter.await?.tell(&mode);
    Ok(())
}

#[derive(Default)]
struct Meter {
    records: u64,
    bytes: usize,
    first: Option<Instant>,
}

impl Meter {
    fn count(&mut self, records: u64, bytes: usize) {
        if self.first.is_none() {
            self.first = Some(Instant::now());
        }
        self.records += records;
        self.bytes += bytes;
    }

    fn tell(&self, mode: &str) {
        let seconds = self.first.map_or(0.0, |first| first.elapsed().as_secs_f64());
        let million = self.records as f64 / seconds / 1e6;
        println!("{mode}: {} records, {} bytes, {seconds:.3} s, {million:.2} million records/s", self.records, self.bytes);
        if let (Some(cpu_s), Some(peak_kib)) = (cpu_seconds(), peak_kib()) {
            println!("{mode}: {:.0} ns of CPU per record, {} MiB at most", cpu_s * 1e9 / self.records as f64, peak_kib / 1024);
        }
    }
}

/// User and system time of this process so far, where the system tells it.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    // In ticks of 10 ms.
    Some((fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?) as f64 / 100.0)
}

fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with("VmHWM"))?.split_whitespace().nth(1)?.parse().ok()
}
