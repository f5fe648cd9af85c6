//! At most once: a record is committed before it is handed out, so it is never seen twice, and may be lost in a crash.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example at_most_once -- TOPIC GROUP`

use ottla::{Consumer, OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "orders-notifier".into());

    // This mode starts at the end by default, for going back could repeat records; a new group may say otherwise.
    let builder = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).offset_reset(OffsetReset::Earliest);
    let mut records = builder.connect().await?.at_most_once();
    while let Some(record) = records.next().await {
        let record = record?;
        println!(
            "{}-{} {}: {} bytes",
            record.topic(),
            record.partition(),
            record.offset(),
            record.value().map_or(0, <[u8]>::len)
        );
    }
    Ok(())
}
