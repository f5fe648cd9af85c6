//! `cargo xtask fuzz`: bytes that nobody meant to send.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::process::call;

const MINUTES: u32 = 1;

/// Fuzzes each target for a while, from the seeds and what earlier runs found.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let (minutes, only) = match *args {
        [] => (MINUTES, None),
        ["--minutes", minutes] => (number(minutes)?, None),
        [target] if !target.starts_with('-') => (MINUTES, Some(target)),
        ["--minutes", minutes, target] => (number(minutes)?, Some(target)),
        _ => return Err(crate::USAGE.into()),
    };
    need("a nightly toolchain", &["run", "nightly", "cargo", "--version"], "rustup toolchain install nightly")?;
    need("cargo-fuzz", &["run", "nightly", "cargo", "fuzz", "--version"], "cargo install --locked cargo-fuzz")?;
    let mut targets = targets()?;
    targets.retain(|target| only.is_none_or(|only| only == target));
    if targets.is_empty() {
        return Err(format!("{}: no such target; there are those of fuzz/seeds", only.unwrap_or("fuzz/seeds")));
    }
    for target in targets {
        println!("==== {target} ====");
        let corpus = Path::new("fuzz/corpus").join(&target);
        fs::create_dir_all(&corpus).map_err(|error| format!("cannot make {}: {error}", corpus.display()))?;
        let seeds = Path::new("fuzz/seeds").join(&target);
        let mut limits = vec![
            format!("-max_total_time={}", minutes * 60),
            format!("-max_len={}", input_bytes_max(&target)),
            "-timeout=10".into(),
        ];
        // What an input may hold in all, the targets count; and nothing takes as much as this at a time.
        limits.extend(["-malloc_limit_mb=128".into(), "-print_final_stats=1".into()]);
        let dictionary = Path::new("fuzz/dictionaries").join(&target);
        if dictionary.exists() {
            limits.push(format!("-dict={}", dictionary.display()));
        }
        let mut fuzz = Command::new("rustup");
        fuzz.args(["run", "nightly", "cargo", "fuzz", "run", &target]).args([&corpus, &seeds]).arg("--").args(limits);
        call(&mut fuzz)?;
    }
    Ok(())
}

/// A life has many answers; all else is short.
fn input_bytes_max(target: &str) -> usize {
    if target == "core" { 16 << 10 } else { 4 << 10 }
}

/// The targets' names: each has a folder of seeds.
fn targets() -> Result<Vec<String>, String> {
    let folders = fs::read_dir("fuzz/seeds").map_err(|error| format!("cannot list fuzz/seeds: {error}"))?;
    let mut targets: Vec<_> = folders.flatten().filter_map(|folder| folder.file_name().into_string().ok()).collect();
    targets.sort();
    Ok(targets)
}

fn number(minutes: &str) -> Result<u32, String> {
    minutes.parse().ok().filter(|minutes| (1..=100_000).contains(minutes)).ok_or(format!("{minutes}: not a number of minutes"))
}

/// Says what is missing, and how to get it.
fn need(what: &str, rustup: &[&str], install: &str) -> Result<(), String> {
    let found = Command::new("rustup").args(rustup).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(format!("fuzzing needs {what}, which is not here: {install}"))
}
