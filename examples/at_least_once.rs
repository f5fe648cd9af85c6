//! At least once, the default: a record is committed after it was acknowledged.
//!
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example at_least_once -- TOPIC GROUP`

use ottla::{Consumer, Delivery};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let mut args = std::env::args().skip(1);
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "orders-worker".into());

    let mut records = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).connect().await?.at_least_once();
    while let Some(delivery) = records.next().await {
        match delivery {
            // A record that fails is dropped without an ack, and so handed out again after a while: `attempt` counts.
            Ok(delivery) if delivery.attempt() > 3 => {
                eprintln!("giving up on {delivery:?}");
                delivery.ack();
            }
            Ok(delivery) => {
                if process(&delivery).is_ok() {
                    delivery.ack();
                }
            }
            // The stream goes on unless the error is fatal, and then it ends by itself.
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

fn process(delivery: &Delivery) -> Result<(), std::str::Utf8Error> {
    let value = std::str::from_utf8(delivery.value().unwrap_or_default())?;
    println!("{}-{} {}: {value}", delivery.topic(), delivery.partition(), delivery.offset());
    Ok(())
}
