//! Exponential back-off with jitter, from a seeded generator: the core has no other source of chance.

use std::time::{Duration, Instant};

/// A small seeded generator (SplitMix64): the same seed gives the same sequence everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The same chance for all that came of one answer: what failed together is tried again together.
    pub(crate) fn in_common(&mut self) -> Self {
        let common = self.clone();
        self.next_u64();
        common
    }
}

/// Waits that double from `base` to `max`, each varied by up to a fifth so that many clients do not return at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// Counts one more failure and says how long to wait because of it.
    pub(crate) fn fail(&mut self, rng: &mut Rng) -> Duration {
        let doubled = self.base.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.8 + (rng.next_u64() % 400) as f64 / 1000.0)
    }

    /// Forgets the failures: something succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How often in a row it failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Moves moments up to a common grid, so that what fails at many different times is still tried again in few requests.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    step: Duration,
    origin: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(step: Duration) -> Self {
        Self { step: step.max(Duration::from_millis(1)), origin: None }
    }

    /// The first moment of the grid that is at least `wait` from `now`.
    pub(crate) fn after(&mut self, now: Instant, wait: Duration) -> Instant {
        let origin = *self.origin.get_or_insert(now);
        let step = self.step.as_nanos();
        let steps = (now + wait).saturating_duration_since(origin).as_nanos().div_ceil(step);
        origin + Duration::from_nanos(u64::try_from(steps * step).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_ceiling_and_starts_again_after_success() {
        let (mut rng, mut backoff) = (Rng::new(1), Backoff::new(Duration::from_millis(100), Duration::from_secs(1)));
        for (failure, expected_ms) in [100u64, 200, 400, 800, 1000, 1000, 1000].into_iter().enumerate() {
            let wait = backoff.fail(&mut rng).as_millis() as u64;
            assert!(wait >= expected_ms * 8 / 10 && wait <= expected_ms * 12 / 10, "failure {failure}: {wait} ms");
        }
        backoff.reset();
        assert!(backoff.fail(&mut rng) <= Duration::from_millis(120));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "where virtual time begins")]
    fn waits_that_end_close_together_end_at_one_moment() {
        let (start, mut pace) = (Instant::now(), Pace::new(Duration::from_millis(100)));
        let ends_ms = |pace: &mut Pace, now_ms, wait_ms| {
            let end = pace.after(start + Duration::from_millis(now_ms), Duration::from_millis(wait_ms));
            end.duration_since(start).as_millis()
        };
        assert_eq!(ends_ms(&mut pace, 0, 100), 100);
        assert_eq!(ends_ms(&mut pace, 0, 101), 200);
        assert_eq!(ends_ms(&mut pace, 37, 120), 200);
        assert_eq!(ends_ms(&mut pace, 5_000, 0), 5_000);
    }
}
