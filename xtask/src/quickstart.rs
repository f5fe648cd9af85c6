//! `cargo xtask quickstart`: what the example of that name shows, on a real broker.

use std::{env, error::Error};

use kafka_harness::{Cluster, DEFAULT_VERSION, Options};

use crate::process::{call, cargo};

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // First, so that nobody waits for a broker only to see that the example cannot be built.
    call(&mut cargo("build --quiet --example quickstart"))?;
    if env::var_os("KAFKA_BOOTSTRAP_SERVERS").is_some() {
        return Ok(call(&mut cargo("run --quiet --example quickstart"))?);
    }
    println!("starting Kafka {DEFAULT_VERSION} (the first time it must be fetched, which takes longer)");
    let cluster = Cluster::start(Options::default())?;
    Ok(call(cargo("run --quiet --example quickstart").env("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap()))?)
}
