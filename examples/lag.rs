//! How far behind a group is, without joining it.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example lag -- GROUP`

use ottla::Offsets;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let group = std::env::args().nth(1).unwrap_or_else(|| "orders-worker".into());

    let lag = Offsets::builder(bootstrap.split(',')).connect().await?.lag(&group).await?;
    for (partition, lag) in &lag.found {
        match (&lag.committed, lag.records()) {
            (Some(committed), Some(records)) => {
                println!("{partition}: {} of {}, {records} behind", committed.offset, lag.end.offset)
            }
            _ => println!("{partition}: never committed, and it ends at {}", lag.end.offset),
        }
    }
    for error in &lag.errors {
        eprintln!("{error}");
    }
    let total = lag.total();
    println!("{} records behind, beside {} partitions that never were committed", total.records, total.never_committed);
    Ok(())
}
