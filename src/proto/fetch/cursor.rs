//! One partition that is being read: where it stands, and what keeps it from being asked for.

use std::time::{Duration, Instant};

use super::{FetchConfig, replica::Replica};
use crate::{
    model::{BrokerId, LeaderEpoch, Offset, Position, TopicId},
    proto::{PartitionHandle, ProblemKind, backoff::Backoff},
    wire::Isolation,
};

/// The longest wait before what fails for a lasting reason (a missing permission or topic) is tried again.
pub(super) const LASTING_RETRY_MAX: Duration = Duration::from_secs(5);

pub(super) struct Cursor {
    pub(super) handle: PartitionHandle,
    /// The next offset to ask for, and the epoch of the batch before it.
    pub(super) position: Position,
    pub(super) state: State,
    pub(super) paused: bool,
    /// The call whose answer it waits for. An answer to any other is stale.
    pub(super) asked: Option<u64>,
    pub(super) leader: Option<BrokerId>,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    /// Asked instead of the leader.
    pub(super) replica: Option<Replica>,
    pub(super) shuns_replicas_until: Option<Instant>,
    pub(super) topic_id: Option<TopicId>,
    pub(super) retry_at: Option<Instant>,
    /// For what passes by itself.
    pub(super) backoff: Backoff,
    /// For what lasts until somebody does something about it.
    pub(super) lasting: Backoff,
    /// How much to ask for, where the usual was not enough for one batch.
    pub(super) grown: Option<usize>,
    /// There was more to read than the last answer brought.
    pub(super) is_behind: bool,
    /// When it last had data, in turns: who waited longest is asked for first.
    pub(super) turn: u64,
    /// What the user was last told, so that it is said once.
    pub(super) said: Option<ProblemKind>,
    pub(super) suspect: bool,
    /// Where bytes were broken and have been fetched once more.
    pub(super) refetched: Option<Offset>,
    /// Where to fetch again from, once the position has been validated.
    pub(super) refetch_from: Option<Offset>,
    /// The leader epoch because of which it was suspended.
    pub(super) validating: Option<LeaderEpoch>,
    /// The last that were reported.
    pub(super) watermarks: Option<Watermarks>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Fetching,
    /// The aggregate, or the user, must say where to go on.
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watermarks {
    pub(super) high: Offset,
    pub(super) last_stable: Offset,
    pub(super) log_start: Option<Offset>,
}

impl Watermarks {
    /// Where reading ends for now.
    pub(super) fn end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high,
            Isolation::ReadCommitted => self.last_stable,
        }
    }
}

impl Cursor {
    pub(super) fn new(handle: PartitionHandle, position: Position, config: &FetchConfig) -> Self {
        Self {
            handle,
            position,
            state: State::Fetching,
            paused: false,
            asked: None,
            leader: None,
            leader_epoch: None,
            replica: None,
            shuns_replicas_until: None,
            topic_id: None,
            retry_at: None,
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            lasting: Backoff::new(config.retry_backoff, LASTING_RETRY_MAX),
            grown: None,
            is_behind: false,
            turn: 0,
            said: None,
            suspect: false,
            refetched: None,
            refetch_from: None,
            validating: None,
            watermarks: None,
        }
    }

    /// Goes on at `position`, which somebody has found to be good; or before it, where bytes were found to be broken meanwhile.
    pub(super) fn go_on(&mut self, position: Position) {
        self.position = match self.refetch_from.take() {
            Some(offset) if offset < position.offset => Position { offset, leader_epoch: None },
            _ => position,
        };
        self.state = State::Fetching;
        (self.asked, self.retry_at) = (None, None);
    }

    /// Asks no more until somebody says where to go on. What is on its way is dropped when it comes.
    pub(super) fn suspend(&mut self) {
        self.state = State::Suspended;
        (self.asked, self.retry_at) = (None, None);
    }

    /// Who is asked for it.
    pub(super) fn source(&self) -> Option<BrokerId> {
        self.replica.map(|replica| replica.broker).or(self.leader)
    }

    /// Whether the leader may send us to a replica.
    pub(super) fn may_go_to_replica(&self, now: Instant) -> bool {
        self.shuns_replicas_until.is_none_or(|until| until <= now)
    }

    /// Nothing but room and time keeps it from being asked for.
    pub(super) fn is_wanted(&self) -> bool {
        self.state == State::Fetching && !self.paused && self.asked.is_none()
    }

    /// Something of it was read, or there is nothing to read: whatever was wrong is over.
    pub(super) fn recover(&mut self) {
        self.backoff.reset();
        self.lasting.reset();
        self.said = None;
    }

    /// Whether the bytes at its position may be fetched once more before they are called broken.
    pub(super) fn may_refetch(&mut self) -> bool {
        self.refetched.replace(self.position.offset) != Some(self.position.offset)
    }
}
