//! Counting, the clocks, and the line at the end.

use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};

use crate::task::{Task, now_ns};

/// Latencies count from so long after the first record on.
const STRIDE_NS: u64 = 1_000_000_000;

/// Counts records and bytes; its clocks run from the first record to the last.
pub struct Meter {
    wanted: u64,
    records: u64,
    bytes: u64,
    started: SystemTime,
    first: Option<Moment>,
    last: Option<Moment>,
    is_stamped: bool,
    /// From being sent to being handed over, in nanoseconds.
    latencies: Vec<u64>,
    /// What was sent before is not counted: the client was still to join its group, and to get into its stride.
    counted_since_ns: Option<u64>,
    idle: Option<(Moment, Moment)>,
    close: Option<(Instant, Duration)>,
    others: String,
}

/// What the clocks show.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    since_start: Duration,
    /// User and system time of this process.
    cpu: Duration,
}

impl Meter {
    /// Makes a meter for what is to be done.
    pub fn of(task: &Task) -> Self {
        Self {
            wanted: task.records,
            records: 0,
            bytes: 0,
            started: task.started,
            first: None,
            last: None,
            is_stamped: task.is_stamped,
            latencies: Vec::with_capacity(if task.is_stamped { task.records as usize } else { 0 }),
            counted_since_ns: None,
            idle: None,
            close: None,
            others: String::new(),
        }
    }

    /// Counts a record when it is handed over.
    #[inline]
    pub fn record(&mut self, value: Option<&[u8]>) {
        if self.is_stamped {
            self.stamped(value);
        }
        self.count(1, value.map_or(0, <[u8]>::len));
    }

    /// Counts several records at once, of so many bytes together.
    #[inline]
    pub fn count(&mut self, records: u64, bytes: usize) {
        if self.first.is_none() {
            self.first = Some(self.now());
        }
        self.records += records;
        self.bytes += bytes as u64;
        if self.is_done() && self.last.is_none() {
            self.last = Some(self.now());
        }
    }

    /// Says whether values begin with the time at which they were sent: then each wants to be counted by itself.
    pub fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// Says whether all records that were asked for have been counted.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.records >= self.wanted
    }

    /// Says that the program waits for records that do not come, from now on, and has nothing else to do any more.
    pub fn idle_begins(&mut self) {
        self.idle = Some((self.now(), self.now()));
    }

    /// Says that it has waited.
    pub fn idle_ends(&mut self) {
        let now = self.now();
        if let Some((_, ends)) = &mut self.idle {
            *ends = now;
        }
    }

    /// Says that the program begins to leave its group.
    pub fn closes(&mut self) {
        self.close = Some((Instant::now(), Duration::ZERO));
    }

    /// Says that the program has left its group.
    pub fn closed(&mut self) {
        if let Some((since, took)) = &mut self.close {
            *took = since.elapsed();
        }
    }

    /// Adds a number that only this program tells, such as a duration in seconds.
    pub fn tell(&mut self, name: &str, value: f64) {
        write!(self.others, r#","{name}":{value}"#).expect("writing to a String cannot fail");
    }

    /// Returns the time since this process was started.
    pub fn since_start(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }

    /// Prints what was measured, under the client's name with its version, and its settings in words.
    pub fn print(mut self, client: &str, settings: &str) {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            eprintln!("{client}: {} of {} records were read", self.records, self.wanted);
            std::process::exit(1);
        };
        self.latencies.sort_unstable();
        let latency_ms = |share: f64| {
            let at = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(at).map(|latency| *latency as f64 / 1e6)
        };
        let idle = self.idle.map(|(begins, ends)| {
            let wall = ends.at.duration_since(begins.at);
            (ends.cpu - begins.cpu).as_secs_f64() / wall.as_secs_f64()
        });
        let mut line = format!(r#"{{"client":"{client}","settings":"{settings}""#);
        for (name, value) in [
            ("records", Some(self.records as f64)),
            ("bytes", Some(self.bytes as f64)),
            ("start_s", Some(first.since_start.as_secs_f64())),
            ("start_cpu_s", Some(first.cpu.as_secs_f64())),
            ("read_s", Some(last.at.duration_since(first.at).as_secs_f64())),
            ("cpu_s", Some((last.cpu - first.cpu).as_secs_f64())),
            ("peak_kib", status_kib("VmHWM")),
            ("rss_kib", status_kib("VmRSS")),
            ("latency_p50_ms", latency_ms(0.50)),
            ("latency_p99_ms", latency_ms(0.99)),
            ("idle_cpu_share", idle),
            ("close_s", self.close.map(|(_, took)| took.as_secs_f64())),
        ] {
            if let Some(value) = value {
                write!(line, r#","{name}":{value}"#).expect("writing to a String cannot fail");
            }
        }
        println!("{line}{}}}", self.others);
    }

    #[cold]
    fn stamped(&mut self, value: Option<&[u8]>) {
        let Some(sent) = value.and_then(|value| value.first_chunk()) else { return };
        let (now, sent) = (now_ns(), u64::from_be_bytes(*sent));
        if sent >= *self.counted_since_ns.get_or_insert(now + STRIDE_NS) {
            self.latencies.push(now.saturating_sub(sent));
        }
    }

    fn now(&self) -> Moment {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0));
        Moment { at: Instant::now(), since_start: self.since_start(), cpu }
    }
}

/// What the system knows about this process' memory, in KiB.
fn status_kib(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with(name))?.split_whitespace().nth(1)?.parse().ok()
}
