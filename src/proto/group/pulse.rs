//! The member's pulse: when the next heartbeat is due, and when the session is over.

use std::time::{Duration, Instant};

use crate::proto::backoff::{Backoff, Rng};

#[derive(Debug)]
pub(super) struct Pulse {
    interval: Duration,
    session_timeout: Duration,
    backoff: Backoff,
    /// Both `None` until the first JoinGroup succeeded.
    next_at: Option<Instant>,
    expires_at: Option<Instant>,
    /// The session was prolonged because a coordinator was found, and nothing has been heard from it since.
    prolonged: bool,
}

impl Pulse {
    pub(super) fn new(interval: Duration, session_timeout: Duration, backoff: Backoff) -> Self {
        Self { interval, session_timeout, backoff, next_at: None, expires_at: None, prolonged: false }
    }

    /// JoinGroup succeeded.
    pub(super) fn start(&mut self, now: Instant) {
        self.next_at = Some(now + self.interval);
        self.expires_at = Some(now + self.session_timeout);
        self.prolonged = false;
        self.backoff.reset();
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.next_at = Some(now + self.interval);
    }

    /// The coordinator heard from us after `sent_at`. Not the answer's time counts but the question's: a process that was stopped in
    /// between reads the answer long after its partitions were given away.
    pub(super) fn alive(&mut self, sent_at: Instant) {
        self.expires_at = self.expires_at.max(Some(sent_at + self.session_timeout));
        self.prolonged = false;
        self.backoff.reset();
    }

    pub(super) fn failed(&mut self, now: Instant, rng: &mut Rng) {
        self.next_at = Some(now + self.backoff.fail(rng));
    }

    /// A coordinator was found: a new one gives every member a session's time. But once only, else a coordinator that we can find but
    /// never reach would let us hold partitions for ever that it gave away long ago.
    pub(super) fn found(&mut self, now: Instant) {
        if !self.prolonged {
            self.prolonged = true;
            self.expires_at = self.expires_at.map(|_| now + self.session_timeout);
        }
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }
}
