//! What `cargo xtask bench` runs: a broker, topics that are filled, and one reader after another, each a process of its own.
//!
//! Every round runs every client once, so that whatever else happens on the machine happens to all of them; what is told are medians.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod batch;
mod clients;
mod fill;
mod machine;
mod measure;
mod pace;
mod plan;
mod report;
mod stage;
mod table;
mod values;
mod workload;

use std::{env, process::ExitCode};

use crate::{plan::Plan, report::Report, stage::Stage};

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    match Plan::parse(&args).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<(), String> {
    let folder = env::current_dir().map_err(|error| error.to_string())?.join("target/bench");
    let (clients, missing) = clients::prepare(plan, &folder);
    let mut report = Report::new(machine::describe(), &missing, folder);
    println!("{}\n", report.machine());
    for what in &missing {
        println!("missing: {what}");
    }
    for brokers in [1, 3] {
        let workloads: Vec<_> = plan.workloads.iter().filter(|workload| workload.brokers == brokers).collect();
        if workloads.is_empty() {
            continue;
        }
        let stage = Stage::start(brokers)?;
        for workload in workloads {
            // One workload that fails must not cost the others, which may have taken an hour.
            match stage.play(workload, &clients, plan) {
                Ok(outcome) => report.add(outcome)?,
                Err(what) => println!("\n{}: FAILED: {what}", workload.name),
            }
        }
    }
    report.conclude()
}
