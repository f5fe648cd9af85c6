//! Manual: the program commits by itself, and hears what became of each commit.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example manual -- TOPIC GROUP`

use ottla::{CommitError, Consumer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "orders-loader".into());

    let mut batches = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).connect().await?.manual();
    while let Some(batch) = batches.next_batch().await {
        let batch = batch?;
        let bytes: usize = batch.iter().map(|record| record.value().map_or(0, <[u8]>::len)).sum();
        println!("{}: {} records, {bytes} bytes", batch.topic_partition(), batch.len());
        match batch.commit().await {
            Ok(()) => println!("  committed {}", batch.next_offset()),
            // Maybe stored, maybe not: whoever reads on may see these records again.
            Err(CommitError::Unknown { message, .. }) => eprintln!("  unknown: {message}"),
            Err(error) => eprintln!("  not stored: {error}"),
        }
    }
    Ok(())
}
