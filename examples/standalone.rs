//! All of a topic, without a group: each process that runs this has the whole of it, as a cache would, and follows what is added.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example standalone -- TOPIC [PARTITION…]`

use std::{collections::HashMap, time::Duration};

use ottla::{Consumer, OffsetReset};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let partitions =
        args.map(|number| Ok((topic.clone(), number.parse()?))).collect::<Result<Vec<_>, std::num::ParseIntError>>()?;

    let builder = Consumer::standalone(bootstrap.split(',')).offset_reset(OffsetReset::Earliest);
    let builder = if partitions.is_empty() { builder.subscribe([topic]) } else { builder.assign(partitions) };
    let mut records = builder.connect().await?.at_least_once();
    let handle = records.handle();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        handle.shutdown(Duration::ZERO);
    });

    let mut newest = HashMap::new();
    while let Some(delivery) = records.next().await {
        let delivery = delivery?;
        let (key, value) = (delivery.key().map(<[u8]>::to_vec), delivery.value().map(<[u8]>::len));
        println!("{} {}: {value:?} bytes, {} keys", delivery.topic_partition(), delivery.offset(), newest.len());
        newest.insert(key, value);
        delivery.ack(); // nothing is committed: it only need not come again
    }
    Ok(())
}
