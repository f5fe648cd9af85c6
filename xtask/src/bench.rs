//! `cargo xtask bench`: ottla beside a raw loop and other people's clients.

use crate::process::{call, cargo};

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    kafka_harness::java_and_maven().map_err(|error| error.to_string())?;
    call(&mut cargo("build --quiet --release --package ottla-bench"))?;
    call(cargo("run --quiet --release --package ottla-bench --bin ottla-bench --").args(args))
}
