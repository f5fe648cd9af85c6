//! A service that ends on ctrl-c: what is in work is finished and committed, and the group told.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example shutdown -- TOPIC GROUP`

use std::time::Duration;

use ottla::{Consumer, GroupEvent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "orders-worker".into());

    let consumer = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).connect().await?;
    let mut events = consumer.handle().events(); // before the group is joined: nothing is missed
    let mut records = consumer.at_least_once();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                GroupEvent::Assigned { partitions, generation, .. } => println!("generation {generation}: {partitions:?}"),
                event => println!("{event:?}"),
            }
        }
    });
    loop {
        tokio::select! {
            // Both are cancel safe: nothing is lost when the other branch is taken.
            delivery = records.next() => match delivery {
                Some(delivery) => delivery?.ack(),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    records.close(Duration::from_secs(10)).await?;
    println!("everything acknowledged is committed");
    Ok(())
}
