//! Members of groups as processes: librdkafka, by way of Python's `confluent-kafka`, and whatever else tells as it does what it reads.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use crate::{
    admin::{MemberStatus, Seen, partitions},
    error::{Context, Error, Result},
    jars::{build_folder, cache_folder, run},
};

const MODULE: &str = "confluent_kafka";
const PACKAGE: &str = "confluent-kafka";

/// A member of a group on librdkafka; leaves it when told to [`stop`](Self::stop), and when dropped.
pub struct Librdkafka {
    process: Child,
    input: Option<ChildStdin>,
    status: Arc<Mutex<MemberStatus>>,
    reader: Option<JoinHandle<()>>,
}

impl Librdkafka {
    /// Lets librdkafka join a group. `assignors` are names such as `range` or `roundrobin`, separated by commas.
    ///
    /// # Errors
    ///
    /// Says what to install when Python or its package is missing and cannot be fetched.
    pub fn join(bootstrap: &str, group: &str, topics: &[&str], assignors: &str, configs: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(python()?);
        command.args(["-c", include_str!("../python/peer.py"), bootstrap, group, &topics.join(","), assignors]);
        command.args(configs.iter().map(|(name, value)| format!("{name}={value}")));
        Self::run(command)
    }

    /// Runs another program that prints what `python/peer.py` does, and leaves its group when its input ends.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn run(mut command: Command) -> Result<Self> {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("start a member")?;
        let input = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().expect("asked for above")).lines();
        let status = Arc::new(Mutex::new(MemberStatus::default()));
        let told = Arc::clone(&status);
        let reader = thread::spawn(move || {
            let mut left = false;
            for line in lines.map_while(std::io::Result::ok) {
                left |= line == "left";
                take(&line, &mut told.lock().expect("nothing panics while it holds it"));
            }
            let mut status = told.lock().expect("nothing panics while it holds it");
            if !left && status.failure.is_empty() {
                status.failure = "the process ended".into();
            }
        });
        Ok(Self { process, input, status, reader: Some(reader) })
    }

    /// Tells what the member holds and has read.
    pub fn status(&self) -> MemberStatus {
        self.status.lock().expect("nothing panics while it holds it").clone()
    }

    /// Kills the process: the group hears nothing more of the member.
    pub fn kill(mut self) -> Result<MemberStatus> {
        self.process.kill().context("kill python")?;
        self.end();
        Ok(self.status())
    }

    /// Leaves the group in order, and tells the last status.
    pub fn stop(mut self) -> MemberStatus {
        self.end();
        self.status()
    }

    fn end(&mut self) {
        self.input = None;
        let _ = self.process.wait();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

impl Drop for Librdkafka {
    fn drop(&mut self) {
        let _ = self.process.kill();
        self.end();
    }
}

fn take(line: &str, status: &mut MemberStatus) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let read = match word {
        "assigned" => partitions(rest).map(|assigned| {
            status.rebalances += u32::from(!assigned.is_empty());
            status.assigned = assigned;
        }),
        "seen" => rest.split_once(' ').ok_or_else(|| Error::new(line)).and_then(|(partition, offsets)| {
            let seen = Seen::parse(offsets)?;
            status.seen.extend(partitions(partition)?.into_iter().map(|partition| (partition, seen.clone())));
            Ok(())
        }),
        "failed" => Err(Error::new(rest)),
        _ => Ok(()),
    };
    if let Err(error) = read {
        status.failure = error.to_string();
    }
}

/// Finds a Python that has the package: the user's, or one in the cache folder that is made for it.
fn python() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    if run(Command::new("python3").args(["-c", &format!("import {MODULE}")]), "python3").is_ok() {
        return Ok("python3".into());
    }
    let _one_at_a_time = MAKING.lock().expect("no installation panics");
    let folder = cache_folder()?.join("librdkafka");
    let python = |folder: &std::path::Path| folder.join("bin").join("python");
    build_folder(&folder, |fresh| {
        run(Command::new("python3").args(["-m", "venv"]).arg(fresh), "python3 -m venv")?;
        run(Command::new(python(fresh)).args(["-m", "pip", "install", "--quiet", PACKAGE]), "pip")
    })
    .map_err(|error| {
        Error::new(format!("a test beside librdkafka needs Python 3 with {PACKAGE} (pip install {PACKAGE}): {error}"))
    })?;
    Ok(python(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_prints_becomes_its_status() {
        let mut status = MemberStatus::default();
        for line in ["assigned t/0,t/1", "seen t/1 0-9,5-9", "assigned t/0", "assigned ", "left"] {
            take(line, &mut status);
        }
        assert_eq!((status.assigned.len(), status.rebalances, status.records()), (0, 2, 15));
        assert_eq!(status.failure, "");
        take("failed on purpose", &mut status);
        assert_eq!(status.failure, "on purpose");
    }
}
