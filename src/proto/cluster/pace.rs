//! How often: to try again, and to say that it failed again.

use std::time::{Duration, Instant};

use crate::proto::{
    ProblemKind,
    backoff::{Backoff, Rng},
};

/// How often the user hears of a problem that lasts.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Lets the first through at once, and those that follow closely only with a back-off.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    /// This long without one, and the next is a first one again.
    calm: Duration,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) fn new(base: Duration, max: Duration) -> Self {
        Self { backoff: Backoff::new(base, max), calm: max * 2, not_before: None }
    }

    /// When the next may happen; it is counted as if it did.
    pub(super) fn next(&mut self, now: Instant, rng: &mut Rng) -> Instant {
        if self.not_before.is_none_or(|at| at + self.calm <= now) {
            self.backoff.reset();
        }
        let at = self.not_before.map_or(now, |at| at.max(now));
        self.not_before = Some(at + self.backoff.fail(rng));
        at
    }
}

/// Whether to tell the user of a problem: once when it begins or becomes another, then rarely.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    told: Option<(Instant, ProblemKind)>,
}

impl Complaint {
    pub(super) fn is_news(&mut self, now: Instant, kind: ProblemKind) -> bool {
        let is_news = self.told.is_none_or(|(at, told)| told != kind || at + REPEAT_AFTER <= now);
        if is_news {
            self.told = Some((now, kind));
        }
        is_news
    }

    /// When to tell of a problem that should be told at `first`.
    pub(super) fn due(&self, first: Instant) -> Instant {
        self.told.map_or(first, |(at, _)| at + REPEAT_AFTER)
    }

    /// The problem is over; should it come back, that is news.
    pub(super) fn is_over(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_the_first_through_slows_the_next_and_is_patient_again_after_a_calm_time() {
        let start = Instant::now();
        let (mut rng, mut pace) = (Rng::new(1), Pace::new(Duration::from_millis(100), Duration::from_secs(1)));
        let mut now = start;
        assert_eq!(pace.next(now, &mut rng), start);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let at = pace.next(now, &mut rng);
            waits.push((at - now).as_millis());
            now = at;
        }
        assert!(waits.is_sorted_by(|a, b| *b as f64 > *a as f64 * 0.6) && waits[0] >= 80 && waits[7] <= 1200, "{waits:?}");
        now += Duration::from_secs(4);
        assert_eq!(pace.next(now, &mut rng), now);
        assert!(pace.next(now, &mut rng) - now <= Duration::from_millis(120));
    }

    #[test]
    fn a_complaint_is_news_once_then_each_minute_and_again_when_it_changed_or_came_back() {
        let (start, mut complaint) = (Instant::now(), Complaint::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(complaint.is_news(at(0), ProblemKind::Unreachable));
        assert!(!complaint.is_news(at(59), ProblemKind::Unreachable));
        assert!(complaint.is_news(at(60), ProblemKind::Unreachable));
        assert!(complaint.is_news(at(61), ProblemKind::Protocol));
        complaint.is_over();
        assert!(complaint.is_news(at(62), ProblemKind::Protocol));
    }
}
