//! Letting go of partitions, of some for a rebalance or of all for good: revoke, drain, commit, let go.

use std::{
    collections::BTreeSet,
    mem,
    time::{Duration, Instant},
};

use super::{Consumer, FOREVER, Owned};
use crate::{
    model::TopicPartition,
    proto::{
        Deadline,
        message::{Event, Unfinished},
    },
};

/// A release in progress. What is not in it is read on, and committed.
pub(super) struct Release {
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// Until when to wait for what is in work.
    pub(super) drain_until: Instant,
    /// What is still in work.
    pub(super) in_work: BTreeSet<TopicPartition>,
    pub(super) step: ReleaseStep,
    /// Until when to wait for the commit.
    pub(super) commit_until: Instant,
}

/// Draining → (out of time: LastLook →) Drained → Committing → released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReleaseStep {
    /// Records are in work.
    Draining,
    /// Time is up; what was finished up to now still counts.
    LastLook,
    /// Nothing more is waited for, or there is nothing to wait for.
    Drained,
    /// What was finished is being committed.
    Committing,
}

/// The end, in progress.
pub(super) struct Closing {
    pub(super) deadline: Instant,
    pub(super) unfinished: Unfinished,
    pub(super) leaving: bool,
}

impl Release {
    /// It is somebody else's already.
    pub(super) fn leave_out(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
        self.in_work.remove(partition);
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        match self.step {
            ReleaseStep::Draining => Some((self.drain_until, "drain")),
            // The user's side answers at once.
            ReleaseStep::LastLook | ReleaseStep::Drained => None,
            ReleaseStep::Committing => Some((self.commit_until, "commit before release")),
        }
    }
}

impl Consumer {
    /// Begins to let go of these, or of these too.
    pub(super) fn start_release(&mut self, now: Instant, deadline: Instant, partitions: Vec<TopicPartition>) {
        let owned = partitions.iter().filter_map(|partition| self.owned.get(partition));
        let handles: Vec<_> =
            owned.map(|owned| owned.handle.clone()).filter(|handle| !self.is_released(&handle.partition)).collect();
        for handle in &handles {
            self.positions.remove(handle);
            self.fetcher.remove(handle);
        }
        let partitions: BTreeSet<_> = handles.iter().map(|handle| handle.partition.clone()).collect();
        self.redeliveries.retain(|_, (of, _)| !partitions.contains(&of.partition));
        // The commit needs some of the time that is left, however little that is.
        let left = deadline.saturating_duration_since(now);
        let drain_until = (now + self.settings.drain_timeout).min(now + left * 3 / 4);
        // Of what has not begun, nothing can be in work; and where nothing is committed, nothing is waited for.
        let waits = |partition, owned: &Owned| owned.started && self.committer.has_group() && partitions.contains(partition);
        let in_work = self.owned.iter().filter(|(partition, owned)| waits(*partition, owned));
        let in_work: BTreeSet<_> = in_work.map(|(partition, _)| partition.clone()).collect();
        match &mut self.release {
            Some(release) => {
                release.commit_until = release.commit_until.min(deadline);
                if partitions.is_empty() {
                    return;
                }
                release.partitions.extend(partitions);
                release.in_work.extend(in_work);
                (release.step, release.drain_until) = (ReleaseStep::Draining, drain_until);
            }
            release => {
                let step = ReleaseStep::Draining;
                *release = Some(Release { partitions, drain_until, in_work, step, commit_until: deadline });
            }
        }
        self.events.push_back(Event::Revoking(handles));
        self.events.push_back(Event::ReadProgress);
    }

    pub(super) fn drive_release(&mut self, now: Instant) -> bool {
        if let Some(closing) = &self.closing
            && closing.deadline <= now
        {
            self.finish_close();
            return true;
        }
        let Some(release) = &mut self.release else { return false };
        if release.step != ReleaseStep::Committing {
            match release.step {
                ReleaseStep::Draining if release.in_work.is_empty() => {}
                ReleaseStep::Draining if now >= release.drain_until => {
                    release.step = ReleaseStep::LastLook;
                    self.events.push_back(Event::ReadProgress);
                    return true;
                }
                ReleaseStep::Draining | ReleaseStep::LastLook => return false,
                ReleaseStep::Drained | ReleaseStep::Committing => {}
            }
            release.step = ReleaseStep::Committing;
            if let Some(closing) = &mut self.closing {
                closing.unfinished.in_work = release.in_work.iter().cloned().collect();
            }
            if !release.in_work.is_empty() {
                let partitions: Vec<_> = release.in_work.iter().map(ToString::to_string).collect();
                tracing::warn!(target: "ottla", partitions = partitions.join(", "), "released with records still in work: they will be read again");
            }
            if !planted!(AcknowledgeBeforeCommit) {
                self.committer.flush(now);
            }
            return true;
        }
        let settled = self.committer.is_settled(&release.partitions) || planted!(AcknowledgeBeforeCommit);
        if !settled && now < release.commit_until {
            return false;
        }
        let partitions = mem::take(&mut release.partitions);
        self.release = None;
        if let Some(closing) = &mut self.closing {
            // Also what the coordinator refused for good, or for as long as the time lasted.
            let behind = partitions.iter().filter(|partition| !settled || self.committer.is_behind(partition));
            closing.unfinished.uncommitted.extend(behind.cloned());
        }
        let released = partitions.iter().filter_map(|partition| self.owned.remove(partition));
        let handles: Vec<_> = released.map(|owned| owned.handle).collect();
        for handle in &handles {
            self.forget(handle);
        }
        self.want_topics(now);
        self.events.push_back(Event::Revoked(handles));
        match &mut self.closing {
            Some(closing) => {
                closing.leaving = true;
                self.leave(now);
            }
            None => self.group.handle_released(now),
        }
        true
    }

    pub(super) fn start_close(&mut self, now: Instant, timeout: Duration) {
        if let Some(closing) = &mut self.closing {
            // A second call may shorten the first one's time.
            let deadline = closing.deadline.min(now + timeout.min(FOREVER));
            closing.deadline = deadline;
            if let Some(release) = &mut self.release {
                release.commit_until = release.commit_until.min(deadline);
                release.drain_until = release.drain_until.min(now + deadline.saturating_duration_since(now) * 3 / 4);
            }
            return;
        }
        let deadline = now + timeout.min(FOREVER);
        let leaving = self.owned.is_empty();
        self.closing = Some(Closing { deadline, unfinished: Unfinished::default(), leaving });
        if leaving {
            return self.leave(now);
        }
        // Also where a rebalance is releasing already: what follows it is leaving instead of joining.
        self.start_release(now, deadline, self.owned.keys().cloned().collect());
        // Closing waits for the user's work as long as the caller said, not as long as a rebalance would.
        let left = deadline.saturating_duration_since(now);
        if let Some(release) = &mut self.release {
            release.drain_until = now + left * 3 / 4;
        }
    }

    pub(super) fn leave(&mut self, now: Instant) {
        // The coordinator reads nothing more from a connection on which a JoinGroup waits for the others.
        if self.coordinator_known && self.group.is_joining() {
            self.lose_coordinator(now, "leaving, while JoinGroup waits for the group on its connection");
        }
        self.group.handle_leave(now, "the consumer is closing".into());
    }

    pub(super) fn finish_close(&mut self) {
        let Some(mut closing) = self.closing.take() else { return };
        if !self.owned.is_empty() && self.committer.has_group() {
            closing.unfinished.uncommitted = self.owned.keys().cloned().collect();
        }
        self.owned.clear();
        self.release = None;
        self.closed = true;
        self.events.push_back(Event::Closed(closing.unfinished));
    }
}
