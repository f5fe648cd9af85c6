//! One task for each partition: order within a partition, all partitions at once.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example partitions -- TOPIC GROUP`

use ottla::{Consumer, PartitionStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "orders-worker".into());

    let mut partitions = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).connect().await?.partitions();
    while let Some(partition) = partitions.next().await {
        tokio::spawn(work(partition?));
    }
    Ok(())
}

async fn work(mut records: PartitionStream) {
    println!("{}: mine", records.topic_partition());
    while let Some(delivery) = records.next().await {
        println!("{}-{} {}", delivery.topic(), delivery.partition(), delivery.offset());
        delivery.ack();
    }
    // The rebalance waits for the stream to be dropped: what was acknowledged above is committed before the partition moves on.
    println!("{}: {:?}", records.topic_partition(), records.end());
}
