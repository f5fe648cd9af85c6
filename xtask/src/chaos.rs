//! `cargo xtask chaos`: real processes on real brokers, and everything that can happen to them.

use crate::process::{call, cargo};

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    kafka_harness::java_and_maven().map_err(|error| error.to_string())?;
    call(cargo("run --quiet --release --package ottla-chaos --").args(args))
}
