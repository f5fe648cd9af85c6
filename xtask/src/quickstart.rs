//! `cargo xtask quickstart`: from a checkout to two members that share a topic, in one command.

use std::{
    env,
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kafka_harness::{Admin, Cluster, DEFAULT_VERSION, Options, Produce, eventually};

use crate::process::{call, cargo};

const PARTITIONS: i32 = 4;
const RECORDS_PER_PARTITION: u64 = 5;
/// On a quiet machine a new topic has its leaders within milliseconds.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // First, so that nobody waits for a broker only to see that the example cannot be built.
    call(&mut cargo("build --quiet --example quickstart"))?;
    if let Ok(bootstrap) = env::var("KAFKA_BOOTSTRAP_SERVERS") {
        println!("on the brokers of KAFKA_BOOTSTRAP_SERVERS: {bootstrap}");
        return show(&bootstrap);
    }
    println!("starting Kafka {DEFAULT_VERSION} (the first time it must be fetched, which takes longer)");
    let cluster = Cluster::start(Options::default())?;
    show(&cluster.bootstrap())
}

/// Runs the example on a topic of its own, which is deleted afterwards: the brokers may be somebody's.
fn show(bootstrap: &str) -> Result<(), Box<dyn Error>> {
    let admin = Admin::start(bootstrap, DEFAULT_VERSION)?;
    let topic = format!("ottla-quickstart-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    admin.create_topic(&topic, PARTITIONS, 1, &[])?;
    let shown = fill(&admin, &topic).and_then(|()| {
        let command = format!("run --quiet --example quickstart -- {topic}");
        println!("KAFKA_BOOTSTRAP_SERVERS={bootstrap} cargo {command}\n");
        Ok(call(cargo(&command).env("KAFKA_BOOTSTRAP_SERVERS", bootstrap))?)
    });
    admin.delete_topic(&topic)?;
    shown
}

fn fill(admin: &Admin, topic: &str) -> Result<(), Box<dyn Error>> {
    let is_led = || {
        let leaders = admin.leaders(topic).unwrap_or_default();
        leaders.len() == PARTITIONS as usize && leaders.values().all(|partition| partition.leader >= 0)
    };
    if !eventually(LEADERS_TIMEOUT, is_led) {
        return Err(format!("{topic} has no leaders within {LEADERS_TIMEOUT:?}").into());
    }
    for partition in 0..PARTITIONS {
        admin.produce(&Produce { topic, partition, count: RECORDS_PER_PARTITION, ..Produce::default() })?;
    }
    println!("filled topic {topic}: {PARTITIONS} partitions, {RECORDS_PER_PARTITION} records in each");
    Ok(())
}
