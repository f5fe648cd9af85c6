//! One worker: for each of its partitions a task, and the database's word on where it begins.

use std::time::Duration;

use ottla::{Consumer, Delivery, GroupProtocol, SeekTo, UnplacedPartition};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Result, TOPIC};

pub async fn run(name: &str, bootstrap: &str, database: &str) -> Result<()> {
    let mut partitions = Consumer::builder("bank", bootstrap.split(','))
        .subscribe([TOPIC])
        // Whoever comes back within the session finds its partitions where they were.
        .group_instance_id(name)
        // At once, that is: by the new protocol the name of a process that was killed is not free before its session is over.
        .group_protocol(GroupProtocol::Classic)
        .connect()
        .await?
        .unplaced_partitions();
    while let Some(partition) = partitions.next().await {
        let (partition, bank) = (partition?, open(database)?);
        tokio::spawn(async move {
            let of = partition.topic_partition().clone();
            // Its stream is gone with the task: if the partition is still this worker's, it comes again.
            if let Err(error) = book_all(partition, bank).await {
                eprintln!("{of}: {error}");
            }
        });
    }
    Ok(())
}

pub fn open(database: &str) -> Result<Connection> {
    let bank = Connection::open(database)?;
    bank.busy_timeout(Duration::from_secs(10))?;
    bank.pragma_update(None, "journal_mode", "WAL")?;
    bank.execute_batch(
        "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, payments INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));",
    )?;
    Ok(bank)
}

async fn book_all(partition: UnplacedPartition, mut bank: Connection) -> Result<()> {
    let of = partition.topic_partition();
    let known = "SELECT next FROM positions WHERE topic = ? AND partition = ?";
    let known = bank.query_row(known, params![of.topic(), of.partition()], |row| row.get(0)).optional()?;
    let mut next: i64 = match known {
        Some(next) => next,
        None => {
            bank.execute("INSERT OR IGNORE INTO positions VALUES (?, ?, 0)", params![of.topic(), of.partition()])?;
            0
        }
    };
    let mut payments = partition.start_from(SeekTo::Offset(next));
    while let Some(payment) = payments.next().await {
        tokio::task::block_in_place(|| book(&mut bank, &payment, next))?;
        next = payment.offset() + 1;
        payment.ack(); // for those who watch the group's lag
    }
    Ok(())
}

/// Books a payment, and says in the same transaction that it is booked, if nobody was here since `next`: somebody else may have the partition
/// by now, and have booked it.
fn book(bank: &mut Connection, payment: &Delivery, next: i64) -> Result<()> {
    let (account, amount) = read(payment)?;
    let transaction = bank.transaction()?;
    let moved = transaction.execute(
        "UPDATE positions SET next = ? WHERE topic = ? AND partition = ? AND next = ?",
        params![payment.offset() + 1, payment.topic(), payment.partition(), next],
    )?;
    if moved != 1 {
        return Err("the database has gone on without us".into());
    }
    transaction.execute(
        "INSERT INTO accounts VALUES (?1, ?2, 1)
         ON CONFLICT (id) DO UPDATE SET balance = balance + ?2, payments = payments + 1",
        params![account, amount],
    )?;
    Ok(transaction.commit()?)
}

fn read(payment: &Delivery) -> Result<(i64, i64)> {
    let text = std::str::from_utf8(payment.value().unwrap_or_default())?;
    let (account, amount) = text.split_once(' ').ok_or_else(|| format!("{text:?} is no payment"))?;
    Ok((account.parse()?, amount.parse()?))
}
