//! The two clocks of a broker: one that measures, and one that dates records.

use std::time::{Duration, Instant};

/// Turns moments into the milliseconds that records and timestamps carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    unix_ms: i64,
}

impl Clock {
    pub(crate) fn new(start: Instant, unix_ms: i64) -> Self {
        Self { start, unix_ms }
    }

    pub(crate) fn unix_ms(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.start).as_millis();
        self.unix_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// Reads a time of the protocol: negative ones are none.
pub(crate) fn ms(time: i32) -> Duration {
    Duration::from_millis(u64::try_from(time).unwrap_or(0))
}
