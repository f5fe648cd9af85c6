//! What a measured program is asked to do.

use std::{
    collections::BTreeMap,
    io::Read,
    str::FromStr,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What a measured program is asked to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where the brokers are, separated by commas.
    pub bootstrap: String,
    /// A group that nobody was in before.
    pub group: String,
    /// What to read, from its beginning.
    pub topic: String,
    /// How many records to read.
    pub records: u64,
    /// How often to commit.
    pub commit_interval: Duration,
    /// When whoever measures started this process.
    pub started: SystemTime,
    /// Whether values begin with the time at which they were sent.
    pub is_stamped: bool,
    /// How long to wait for records that do not come, once all are read.
    pub idle: Option<Duration>,
    /// How long not to ask for any record, once all are read.
    pub hold: Option<Duration>,
    others: BTreeMap<String, String>,
}

impl Task {
    /// How long an idle consumer may still have things to do, before the idle time is measured.
    pub const SETTLE: Duration = Duration::from_secs(2);

    /// Reads the arguments of this process; lets it end when its input does, so that it never outlives whoever started it.
    ///
    /// # Panics
    ///
    /// When an argument is missing, or cannot be understood.
    pub fn of_this_process() -> Self {
        thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(1);
        });
        Self::parse(std::env::args().skip(1))
    }

    fn parse(args: impl Iterator<Item = String>) -> Self {
        let pair = |arg: String| arg.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut args: BTreeMap<_, _> = args.filter_map(pair).collect();
        let started = UNIX_EPOCH + Duration::from_nanos(number(&mut args, "started_ns").unwrap_or_else(now_ns));
        Self {
            bootstrap: text(&mut args, "bootstrap"),
            group: text(&mut args, "group"),
            topic: text(&mut args, "topic"),
            records: number(&mut args, "records").expect("records=NUMBER is an argument"),
            commit_interval: Duration::from_millis(number(&mut args, "commit_interval_ms").unwrap_or(5000)),
            started,
            is_stamped: number(&mut args, "stamped") == Some(1),
            idle: number(&mut args, "idle_ms").map(Duration::from_millis),
            hold: number(&mut args, "hold_ms").map(Duration::from_millis),
            others: args,
        }
    }

    /// Returns what is asked of this program only.
    pub fn other(&self, name: &str) -> Option<&str> {
        self.others.get(name).map(String::as_str)
    }
}

/// The time in nanoseconds since 1970: what a stamped value begins with, big-endian.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn text(args: &mut BTreeMap<String, String>, name: &str) -> String {
    args.remove(name).unwrap_or_else(|| panic!("{name}=TEXT is an argument"))
}

fn number<T: FromStr>(args: &mut BTreeMap<String, String>, name: &str) -> Option<T> {
    args.remove(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_names_and_values_in_any_order() {
        let args = ["records=10", "topic=t", "mode=batches", "bootstrap=a:1,b:2", "group=g", "idle_ms=1500"];
        let task = Task::parse(args.into_iter().map(str::to_owned));
        assert_eq!((task.bootstrap.as_str(), task.records), ("a:1,b:2", 10));
        assert_eq!((task.idle, task.hold), (Some(Duration::from_millis(1500)), None));
        assert_eq!((task.other("mode"), task.is_stamped), (Some("batches"), false));
    }
}
