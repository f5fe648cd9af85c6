//! Groups on a real cluster of three brokers, while whatever can go wrong does; judged by the delivery contract.
//!
//! This program is both the operator, who starts, stops and kills, and, run by itself with `member`, one member of a group. A member tells
//! what it does, line by line, each before it can have an effect on others; the operator adds what was produced and what is committed,
//! puts everything in order, and gives it to the judge.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod broker_faults;
mod commits;
mod court;
mod lot;
mod member;
mod members;
mod mode;
mod operator;
mod producing;
mod protocol;
mod stage;
mod voice;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((role, args)) if role == "member" => member::run(args),
        _ => operator::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
