//! One process, measured once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kafka_harness::eventually;
use serde::Serialize;
use serde_json::Value;

/// Longer than the slowest client takes for the largest topic.
const LIMIT: Duration = Duration::from_secs(300);

/// What a client told about itself and what it did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    #[serde(skip)]
    pub(crate) client: String,
    #[serde(skip)]
    pub(crate) settings: String,
    #[serde(flatten)]
    numbers: BTreeMap<String, f64>,
}

impl Sample {
    /// Reads the line that a client prints.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
        let text = |name| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let (client, settings) = (text("client")?, text("settings")?);
        let numbers = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect();
        Some(Self { client, settings, numbers })
    }

    /// Returns a number that the client told.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    /// Adds what was observed of it from outside.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.numbers.insert(name.to_owned(), value);
    }
}

/// Runs a client to its end. What it complains of goes to the log.
pub(crate) fn run(mut command: Command, log: &Path) -> Result<Sample, String> {
    let errors = File::create(log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    command.arg(format!("started_ns={now}")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let mut process = command.spawn().map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    let mut status = None;
    eventually(LIMIT, || {
        status = process.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_none() {
        let _ = process.kill();
        let _ = process.wait();
        return Err(format!("not done within {LIMIT:?}; see {}", log.display()));
    }
    let mut told = String::new();
    let _ = process.stdout.take().map(|mut output| output.read_to_string(&mut told));
    told.lines().rev().find_map(Sample::parse).ok_or_else(|| {
        let complaint = fs::read_to_string(log).unwrap_or_default();
        let complaint = complaint.lines().last().unwrap_or("it said nothing");
        format!("it told no figures: {complaint}")
    })
}

/// Returns the user and system time of a process so far, as Linux tells it: in hundredths of a second.
pub(crate) fn cpu_of(process: u32) -> Result<Duration, String> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    // The name, in brackets, may have spaces; user and system time are the 12th and the 13th field after it.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split_whitespace().skip(11).take(2));
    let ticks = fields.into_iter().flatten().map(str::parse::<u64>).sum::<Result<u64, _>>();
    ticks.map(|ticks| Duration::from_millis(10 * ticks)).map_err(|error| format!("cannot understand {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{process, time::Instant};

    use super::*;

    #[test]
    fn a_process_that_works_takes_cpu() {
        let (since, before) = (Instant::now(), cpu_of(process::id()).unwrap());
        while cpu_of(process::id()).unwrap() < before + Duration::from_millis(50) {
            assert!(since.elapsed() < Duration::from_secs(60), "no more than {before:?}");
        }
    }

    #[test]
    fn the_line_of_a_client_is_two_texts_and_numbers() {
        let sample = Sample::parse(r#"{"client":"raw","settings":"none","records":10,"read_s":0.5}"#).unwrap();
        assert_eq!((sample.client.as_str(), sample.get("read_s"), sample.get("client")), ("raw", Some(0.5), None));
        assert!(Sample::parse("a word of warning").is_none());
    }
}
