//! Exactly once, with positions in the program's own database: balances and offsets change in one transaction.
//!
//! `cargo run --manifest-path examples/sqlite/Cargo.toml` plays it, and needs a C compiler for SQLite: two workers, each a process, book
//! payments from an embedded Kafka, and are killed at random. In the end each payment is booked once.
//!
//! The part to copy is `worker.rs`.

#![allow(clippy::disallowed_methods, reason = "an example takes real time")]

mod worker;

use std::{
    error::Error,
    fs, process,
    process::{Child, Command},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ottla_mock::MockCluster;
use rusqlite::Connection;

const TOPIC: &str = "payments";
const PARTITIONS: usize = 4;
const PAYMENTS: usize = 250;
const WORKERS: usize = 2;
const KILLS: usize = 12;
/// Longer than any rebalance.
const TIMEOUT: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", name, bootstrap, database] => worker::run(name, bootstrap, database).await,
        _ => play().await,
    }
}

async fn play() -> Result<()> {
    let kafka = MockCluster::start().await;
    kafka.create_topic(TOPIC, PARTITIONS);
    for partition in 0..PARTITIONS {
        // Account and amount.
        let payments = (0..PAYMENTS).map(|number| format!("{} {}", (number + partition) % 7, number % 10 + 1));
        kafka.append(TOPIC, partition as i32, payments);
    }
    let folder = std::env::temp_dir().join(format!("ottla-example-sqlite-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let database = folder.join("bank.db");
    let database = database.to_str().ok_or("a path that is no text")?;
    let bank = worker::open(database)?;

    let mut chance = Chance(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos());
    let start = |which: usize| worker_process(which, &kafka.bootstrap_servers(), database);
    let mut workers = (0..WORKERS).map(start).collect::<Result<Vec<_>>>()?;
    for kill in 1..=KILLS {
        // Somewhere in its part of the work: in the midst of a transaction, or between one and its ack.
        let at = PARTITIONS * PAYMENTS * kill / (KILLS + 1);
        wait_until(&bank, at).await?;
        tokio::time::sleep(Duration::from_micros(chance.below(3_000))).await;
        let which = chance.below(WORKERS as u64) as usize;
        workers[which].kill()?;
        workers[which].wait()?;
        println!("worker {which} is killed, with {} payments booked", booked(&bank)?);
        workers[which] = start(which)?;
    }
    wait_until(&bank, PARTITIONS * PAYMENTS).await?;
    for mut worker in workers {
        worker.kill()?;
        worker.wait()?;
    }
    let expected: usize = PARTITIONS * (0..PAYMENTS).map(|number| number % 10 + 1).sum::<usize>();
    let total: usize = bank.query_row("SELECT sum(balance) FROM accounts", [], |row| row.get(0))?;
    println!("{} payments booked, {KILLS} kills: the balances are {total}, and should be {expected}", booked(&bank)?);
    fs::remove_dir_all(folder)?;
    if total != expected || booked(&bank)? != PARTITIONS * PAYMENTS {
        return Err("not exactly once".into());
    }
    Ok(())
}

fn worker_process(which: usize, bootstrap: &str, database: &str) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.args(["worker", &format!("worker-{which}"), bootstrap, database]).spawn()?)
}

fn booked(bank: &Connection) -> Result<usize> {
    Ok(bank.query_row("SELECT coalesce(sum(payments), 0) FROM accounts", [], |row| row.get(0))?)
}

async fn wait_until(bank: &Connection, count: usize) -> Result<()> {
    let end = Instant::now() + TIMEOUT;
    while booked(bank)? < count {
        if Instant::now() > end {
            return Err(format!("{} of {count} payments booked after {TIMEOUT:?}", booked(bank)?).into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// A little of it: when to kill whom.
struct Chance(u32);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from(self.0 >> 8) % limit
    }
}
