//! `cargo xtask fuzz`: bytes that nobody meant to send.

use std::{fs, path::Path, process::Command};

use crate::process::call;

const SECONDS: u32 = 60;

/// Fuzzes each target for a while, from the seeds and what earlier runs found.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let seconds = match *args {
        [] => SECONDS,
        [seconds] => seconds.parse().map_err(|_| format!("{seconds}: not a number of seconds"))?,
        _ => return Err(crate::USAGE.into()),
    };
    for seeds in fs::read_dir("fuzz/seeds").map_err(|error| format!("cannot list fuzz/seeds: {error}"))?.flatten() {
        let target = seeds.file_name();
        let corpus = Path::new("fuzz/corpus").join(&target);
        fs::create_dir_all(&corpus).map_err(|error| format!("cannot make {}: {error}", corpus.display()))?;
        // An input of 4 KiB must not make the client take 64 MiB at a time, whatever lengths it states.
        let limits = [format!("-max_total_time={seconds}"), "-max_len=4096".into(), "-malloc_limit_mb=64".into()];
        let mut fuzz = Command::new("rustup");
        fuzz.args(["run", "nightly", "cargo", "fuzz", "run"]).arg(&target).args([&corpus, &seeds.path()]).arg("--").args(limits);
        call(&mut fuzz)?;
    }
    Ok(())
}
