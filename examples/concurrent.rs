//! Records processed in many tasks at once, acknowledged in whatever order they finish.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example concurrent -- TOPIC GROUP`

use std::{sync::Arc, time::Duration};

use ottla::Consumer;
use tokio::sync::Semaphore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "orders-worker".into());

    let mut records = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).connect().await?.at_least_once();
    let tasks = Arc::new(Semaphore::new(64));
    while let Some(delivery) = records.next().await {
        let delivery = delivery?;
        let permit = Arc::clone(&tasks).acquire_owned().await?;
        tokio::spawn(async move {
            // Offsets are committed only up to the lowest record that is still in work, whatever finishes first.
            tokio::time::sleep(Duration::from_millis(delivery.offset().unsigned_abs() % 20)).await;
            println!("{}-{} {}", delivery.topic(), delivery.partition(), delivery.offset());
            delivery.ack();
            drop(permit);
        });
    }
    Ok(())
}
