//! What a member tells its user of what lasts: once, and then rarely.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::GroupEvent;
use crate::{
    proto::{Problem, ProblemKind},
    wire::ErrorCode,
};

/// A lasting problem is said once, and again after this.
const SAY_AGAIN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Voice(BTreeMap<(ProblemKind, Option<ErrorCode>), Instant>);

impl Voice {
    /// Tells of something that lasts, and that is tried again, unless that was said.
    pub(super) fn say(&mut self, now: Instant, kind: ProblemKind, code: Option<ErrorCode>, what: String) -> Option<GroupEvent> {
        let last = self.0.get(&(kind, code));
        last.is_none_or(|&last| now.saturating_duration_since(last) >= SAY_AGAIN).then(|| {
            self.0.insert((kind, code), now);
            GroupEvent::Problem(Problem { kind, partition: None, code, what, fatal: false })
        })
    }

    /// Everything works again: what went wrong may be said anew.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_silent(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
