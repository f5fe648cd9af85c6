//! What all this was measured on.

use std::{fs, process::Command};

/// Describes this machine and the tools in a few lines.
pub(crate) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&info, "model name").unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib: u64 = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{model}, {cores} cores, {} GiB; Linux {}; load {}\nKafka {} (C2, G1, 1 GiB heap) on the same machine\n{}\n{}\n{}",
        memory_kib >> 20,
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
        kafka_harness::DEFAULT_VERSION,
        version("rustc", "--version"),
        version("go", "version"),
        version("java", "--version"),
    )
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(name))?.split(':').nth(1).map(str::trim)
}

fn version(program: &str, argument: &str) -> String {
    let told = Command::new(program).arg(argument).output().ok();
    let told = told.and_then(|output| Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned()));
    told.unwrap_or_else(|| format!("no {program}"))
}
