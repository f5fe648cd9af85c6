//! Whether the user's program still works: a member that does not leaves the group, and others take its partitions. Who is nobody's member
//! holds up nobody, and is not looked at.

use std::time::{Duration, Instant};

use super::{
    Consumer,
    release::{Release, ReleaseStep},
};
use crate::proto::{Deadline, Problem, ProblemKind, message::Event};

/// Does the user's program still take records, or ack them?
pub(super) struct Liveness {
    pub(super) activity: u64,
    pub(super) last_active: Instant,
    pub(super) next_look: Instant,
    /// The limit is reached: what the next progress says decides.
    pub(super) judging: bool,
    pub(super) stalled: bool,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { activity: 0, last_active: now, next_look: now, judging: false, stalled: false }
    }
}

impl Consumer {
    /// A member that stalls while its partitions are awaited elsewhere holds up the whole group: it is looked at all the same, until
    /// nothing of it is in work any more.
    fn is_watched(&self) -> bool {
        let is_last = |release: &Release| release.partitions.len() == self.owned.len() && release.step == ReleaseStep::Committing;
        let is_committing = self.release.as_ref().is_some_and(is_last);
        let is_member = self.group.group().is_some();
        is_member && !self.owned.is_empty() && !self.liveness.stalled && !is_committing && self.closing.is_none()
    }

    pub(super) fn liveness_deadline(&self) -> Option<Deadline> {
        self.is_watched().then_some((self.liveness.next_look, "is the user still processing"))
    }

    pub(super) fn drive_liveness(&mut self, now: Instant) -> bool {
        if !self.is_watched() || now < self.liveness.next_look {
            return false;
        }
        let limit = self.settings.processing_timeout;
        let due = now.saturating_duration_since(self.liveness.last_active) >= limit;
        if due && !self.liveness.judging {
            // One more look, in case something moved since the last.
            self.liveness.judging = true;
            self.liveness.next_look = now + Duration::from_millis(1);
            self.events.push_back(Event::ReadProgress);
            return true;
        }
        self.liveness.judging = false;
        if due {
            self.liveness.stalled = true;
            let what = format!(
                "no record was taken or acknowledged for {limit:?} (processing_timeout) and this member of group {:?} has left it: its \
                 partitions go to other members; poll the stream again to rejoin, process faster, or raise processing_timeout",
                self.group.group().map_or("", |group| &**group)
            );
            self.group.handle_stalled(now);
            self.tell(Problem { kind: ProblemKind::ProcessingStalled, partition: None, code: None, what, fatal: false });
            return true;
        }
        // Looking again in a while, and exactly when the limit would be reached.
        self.liveness.next_look = (now + limit / 8).min((self.liveness.last_active + limit).max(now + Duration::from_millis(1)));
        self.events.push_back(Event::ReadProgress);
        true
    }
}
