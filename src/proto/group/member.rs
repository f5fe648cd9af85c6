//! A member by one protocol or the other, and the way from one to the other.

use std::{sync::Arc, time::Instant};

use super::{Classic, GroupConfig, GroupEvent, Kip848};
use crate::{
    model::GroupProtocol,
    proto::{Answer, Ask, ClusterView, Deadline, Membership},
    wire::ErrorCode,
};

/// What a consumer is in its group.
#[derive(Debug)]
pub(crate) enum GroupMember {
    Classic(Box<Classic>),
    Kip848(Box<Kip848>),
}

/// Does the same for either.
macro_rules! either {
    ($self:ident, $member:ident => $act:expr) => {
        match $self {
            Self::Classic($member) => $act,
            Self::Kip848($member) => $act,
        }
    };
}

impl GroupMember {
    pub(crate) fn new(config: GroupConfig) -> Self {
        match config.protocol {
            GroupProtocol::Classic => Self::Classic(Box::new(Classic::new(config))),
            GroupProtocol::Consumer | GroupProtocol::Auto => Self::Kip848(Box::new(Kip848::new(config))),
        }
    }

    /// Replaces what is wanted. A pattern is for the coordinator to match, which only [`may_take_pattern`](Self::may_take_pattern) allows.
    pub(crate) fn handle_subscribe(&mut self, now: Instant, topics: Vec<Arc<str>>, pattern: Option<Arc<str>>, is_asked: bool) {
        match self {
            Self::Classic(member) => member.handle_subscribe(now, topics, is_asked),
            Self::Kip848(member) => member.handle_subscribe(now, topics, pattern),
        }
    }

    pub(crate) fn handle_coordinator(&mut self, now: Instant, known: bool) {
        either!(self, member => member.handle_coordinator(now, known));
    }

    pub(crate) fn handle_metadata(&mut self, now: Instant, view: &ClusterView) {
        either!(self, member => member.handle_metadata(now, view));
    }

    pub(crate) fn handle_released(&mut self, now: Instant) {
        either!(self, member => member.handle_released(now));
    }

    pub(crate) fn handle_member_error(&mut self, now: Instant, sent: &Membership, code: ErrorCode) {
        either!(self, member => member.handle_member_error(now, sent, code));
    }

    pub(crate) fn handle_stalled(&mut self, now: Instant) {
        either!(self, member => member.handle_stalled(now));
    }

    pub(crate) fn handle_resumed(&mut self, now: Instant) {
        either!(self, member => member.handle_resumed(now));
    }

    pub(crate) fn handle_leave(&mut self, now: Instant, reason: String) {
        match self {
            Self::Classic(member) => member.handle_leave(now, reason),
            // Its protocol has no word for why.
            Self::Kip848(member) => member.handle_leave(now),
        }
    }

    pub(crate) fn handle_answer(&mut self, now: Instant, call: u64, answer: Answer) {
        either!(self, member => member.handle_answer(now, call, answer));
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        either!(self, member => member.handle_timeout(now));
    }

    /// Goes on by the other protocol: the answer to `GroupEvent::OtherProtocol`. Nothing is joined or held any more.
    pub(crate) fn change_protocol(&mut self, now: Instant, view: &ClusterView) {
        let (config, known, topics) = either!(self, member => {
            (member.config().clone(), member.is_coordinator_known(), member.subscription().to_vec())
        });
        *self = match self {
            Self::Kip848(_) => Self::Classic(Box::new(Classic::new(config))),
            Self::Classic(_) => Self::Kip848(Box::new(Kip848::new(config))),
        };
        self.handle_metadata(now, view);
        self.handle_coordinator(now, known);
        // Who has a pattern for the coordinator does not change, and a classic member has none.
        self.handle_subscribe(now, topics, None, true);
    }

    pub(crate) fn membership(&self) -> &Membership {
        either!(self, member => member.membership())
    }

    pub(crate) fn group(&self) -> &Arc<str> {
        either!(self, member => &member.config().group)
    }

    /// Whether the coordinator can be told a pattern, and matches it.
    pub(crate) fn may_take_pattern(&self) -> bool {
        matches!(self, Self::Kip848(_))
    }

    /// Whether what is held is a topic's by its id, or by its name.
    pub(crate) fn holds_by_topic_id(&self) -> bool {
        matches!(self, Self::Kip848(_))
    }

    /// Whether a JoinGroup is under way: the coordinator may let it wait for as long as a rebalance may take.
    pub(crate) fn is_joining(&self) -> bool {
        matches!(self, Self::Classic(member) if member.is_joining())
    }

    /// Whether the coordinator would take a commit.
    pub(crate) fn may_commit(&self) -> bool {
        either!(self, member => member.may_commit())
    }

    /// Asks for what is due. `may_join` is false while a commit is under way: a classic member would have it answered in another generation.
    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant, may_join: bool) -> Option<Ask> {
        match self {
            Self::Classic(member) => member.poll_ask(now, may_join),
            Self::Kip848(member) => member.poll_ask(now),
        }
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<GroupEvent> {
        either!(self, member => member.poll_event())
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self, may_join: bool) -> Option<Deadline> {
        match self {
            Self::Classic(member) => member.poll_timeout(may_join),
            Self::Kip848(member) => member.poll_timeout(),
        }
    }
}
