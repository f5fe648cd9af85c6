//! What all threads of the operator share: the cluster, the time, and how far the play is.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kafka_harness::{Admin, Cluster};

use crate::protocol::Protocol;

/// For so long after a broker was disturbed another may think that it is still what it was.
const STALE_FOR: Duration = Duration::from_secs(5);

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) admin: Admin,
    pub(crate) seed: u64,
    pub(crate) protocol: Protocol,
    /// Where the stories are written.
    pub(crate) folder: PathBuf,
    start: Clock,
    /// No more faults; then: no more records; then: everybody goes home.
    pub(crate) heals: AtomicBool,
    pub(crate) is_quiet: AtomicBool,
    pub(crate) is_over: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// The time since the start of the run, the same for all processes of this machine.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) start_us: u64,
}

struct Trouble {
    ongoing: bool,
    last: Instant,
}

impl Stage {
    pub(crate) fn new(cluster: Cluster, admin: Admin, seed: u64, protocol: Protocol, folder: PathBuf) -> Self {
        let (heals, is_quiet, is_over) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let trouble = Mutex::new(Trouble { ongoing: false, last: Instant::now() });
        Self { cluster, admin, seed, protocol, folder, start: Clock::start(), heals, is_quiet, is_over, trouble }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.start
    }

    pub(crate) fn is(&self, phase: &AtomicBool) -> bool {
        phase.load(Ordering::SeqCst)
    }

    pub(crate) fn enter(&self, phase: &AtomicBool) {
        phase.store(true, Ordering::SeqCst);
    }

    /// Says that a broker is disturbed from now on, or no more.
    pub(crate) fn trouble(&self, ongoing: bool) {
        *self.trouble.lock().expect("nothing panics while it holds it") = Trouble { ongoing, last: Instant::now() };
    }

    /// Whether no broker was disturbed for a while before `asked`, and none since.
    pub(crate) fn was_calm(&self, asked: Instant) -> bool {
        let trouble = self.trouble.lock().expect("nothing panics while it holds it");
        !trouble.ongoing && asked.saturating_duration_since(trouble.last) > STALE_FOR
    }
}

impl Clock {
    fn start() -> Self {
        Self { start_us: since_epoch_us() }
    }

    pub(crate) fn now(self) -> Duration {
        Duration::from_micros(since_epoch_us().saturating_sub(self.start_us))
    }
}

fn since_epoch_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("1970 is over").as_micros() as u64
}
