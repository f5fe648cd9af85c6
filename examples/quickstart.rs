//! Two members share a topic; one leaves; the other takes over where it stopped.
//!
//! `cargo xtask quickstart` starts a broker, fills the topic and runs this. With a broker of your own:
//! `KAFKA_BOOTSTRAP_SERVERS=localhost:9092 cargo run --example quickstart -- TOPIC`

use std::{collections::BTreeSet, time::Duration};

use ottla::{AtLeastOnce, Consumer, GroupEvent, OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".into());
    let topic = std::env::args().nth(1).unwrap_or_else(|| "ottla-quickstart".into());
    // A group of its own each time, so that every run starts at the beginning.
    let group = format!("ottla-quickstart-{}", std::process::id());

    let mut first = join("first", &bootstrap, &group, &topic).await?;
    let mut second = join("second", &bootstrap, &group, &topic).await?;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        tokio::select! {
            Some(delivery) = first.next() => take("first", delivery?, &mut seen),
            Some(delivery) = second.next() => take("second", delivery?, &mut seen),
        }
    }
    first.close(Duration::from_secs(5)).await?;
    println!("first has left; what it acknowledged is committed");

    // The rest comes to the second member, and nothing twice: it waits no longer than a second for a next record.
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(1), second.next()).await {
        take("second", delivery?, &mut seen);
    }
    println!("{} records, each exactly once", seen.len());
    second.close(Duration::from_secs(5)).await?;
    Ok(())
}

async fn join(name: &'static str, bootstrap: &str, group: &str, topic: &str) -> Result<AtLeastOnce, Box<dyn std::error::Error>> {
    let builder = Consumer::builder(group, bootstrap.split(',')).subscribe([topic]).offset_reset(OffsetReset::Earliest);
    let member = builder.connect().await?.at_least_once();
    let mut events = member.handle().events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let GroupEvent::Assigned { partitions, .. } = event {
                println!("{name} member holds {partitions:?}");
            }
        }
    });
    Ok(member)
}

fn take(who: &str, delivery: ottla::Delivery, seen: &mut BTreeSet<(i32, i64)>) {
    let again = if seen.insert((delivery.partition(), delivery.offset())) { "" } else { " (again)" };
    let value = String::from_utf8_lossy(delivery.value().unwrap_or_default()).into_owned();
    println!("{who:>6}: partition {} offset {:>2}: {value}{again}", delivery.partition(), delivery.offset());
    delivery.ack();
}
