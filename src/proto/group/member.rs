//! A member by one protocol or the other, and the way from one to the other; or nobody's member.

use std::{sync::Arc, time::Instant};

use super::{Classic, GroupEvent, Kip848, MemberConfig, Standalone, Wish};
use crate::{
    model::GroupProtocol,
    proto::{Answer, Ask, ClusterView, Deadline, Membership, invariant},
    wire::ErrorCode,
};

/// What a consumer is in its group, or beside it.
#[derive(Debug)]
pub(crate) enum GroupMember {
    Classic(Box<Classic>),
    Kip848(Box<Kip848>),
    Standalone(Box<Standalone>),
}

/// Does the same for any.
macro_rules! any {
    ($self:ident, $member:ident => $act:expr) => {
        match $self {
            Self::Classic($member) => $act,
            Self::Kip848($member) => $act,
            Self::Standalone($member) => $act,
        }
    };
}

/// Does the same for a member of a group, by whichever protocol; who is nobody's member has nothing to do with it.
macro_rules! joined {
    ($self:ident, $member:ident => $act:expr, else $other:expr) => {
        match $self {
            Self::Classic($member) => $act,
            Self::Kip848($member) => $act,
            Self::Standalone(_) => $other,
        }
    };
}

impl GroupMember {
    pub(crate) fn new(config: MemberConfig) -> Self {
        match config {
            MemberConfig::Standalone(config) => Self::Standalone(Box::new(Standalone::new(config))),
            MemberConfig::Group(config) => match config.protocol {
                GroupProtocol::Classic => Self::Classic(Box::new(Classic::new(config))),
                GroupProtocol::Consumer | GroupProtocol::Auto => Self::Kip848(Box::new(Kip848::new(config))),
            },
        }
    }

    /// Replaces what is wanted. A pattern is for the coordinator to match, which only [`may_take_pattern`](Self::may_take_pattern) allows.
    pub(crate) fn handle_subscribe(&mut self, now: Instant, wish: Wish, is_asked: bool) {
        let Wish { topics, pattern, partitions } = wish;
        match self {
            Self::Classic(member) => member.handle_subscribe(now, topics, is_asked),
            Self::Kip848(member) => member.handle_subscribe(now, topics, pattern),
            Self::Standalone(member) => member.handle_subscribe(now, topics, partitions),
        }
    }

    pub(crate) fn handle_coordinator(&mut self, now: Instant, known: bool) {
        // It has nothing to say to one; commits do.
        joined!(self, member => member.handle_coordinator(now, known), else {});
    }

    pub(crate) fn handle_metadata(&mut self, now: Instant, view: &ClusterView) {
        any!(self, member => member.handle_metadata(now, view));
    }

    pub(crate) fn handle_released(&mut self, now: Instant) {
        any!(self, member => member.handle_released(now));
    }

    pub(crate) fn handle_member_error(&mut self, now: Instant, sent: &Membership, code: ErrorCode) {
        // There is no membership that could be over.
        joined!(self, member => member.handle_member_error(now, sent, code), else {});
    }

    pub(crate) fn handle_stalled(&mut self, now: Instant) {
        // Nobody waits for its partitions.
        joined!(self, member => member.handle_stalled(now), else {});
    }

    pub(crate) fn handle_resumed(&mut self, now: Instant) {
        joined!(self, member => member.handle_resumed(now), else {});
    }

    pub(crate) fn handle_leave(&mut self, now: Instant, reason: String) {
        match self {
            Self::Classic(member) => member.handle_leave(now, reason),
            // Its protocol has no word for why.
            Self::Kip848(member) => member.handle_leave(now),
            Self::Standalone(member) => member.handle_leave(),
        }
    }

    pub(crate) fn handle_answer(&mut self, now: Instant, call: u64, answer: Answer) {
        joined!(self, member => member.handle_answer(now, call, answer), else {
            invariant!(false, "an answer to somebody who asks nothing");
        });
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        any!(self, member => member.handle_timeout(now));
    }

    /// Goes on by the other protocol: the answer to `GroupEvent::OtherProtocol`. Nothing is joined or held any more.
    pub(crate) fn change_protocol(&mut self, now: Instant, view: &ClusterView) {
        let (config, known, topics) = joined!(self, member => {
            (member.config().clone(), member.is_coordinator_known(), member.subscription().to_vec())
        }, else { return });
        *self = match self {
            Self::Kip848(_) => Self::Classic(Box::new(Classic::new(config))),
            _ => Self::Kip848(Box::new(Kip848::new(config))),
        };
        self.handle_metadata(now, view);
        self.handle_coordinator(now, known);
        // Who has a pattern for the coordinator does not change, and a classic member has none.
        self.handle_subscribe(now, Wish { topics, ..Wish::default() }, true);
    }

    pub(crate) fn membership(&self) -> &Membership {
        any!(self, member => member.membership())
    }

    /// The group that it is a member of; `None`: of none.
    pub(crate) fn group(&self) -> Option<&Arc<str>> {
        joined!(self, member => Some(&member.config().group), else None)
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
        any!(self, member => member.may_commit())
    }

    /// Asks for what is due. `may_join` is false while a commit is under way: a classic member would have it answered in another generation.
    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant, may_join: bool) -> Option<Ask> {
        match self {
            Self::Classic(member) => member.poll_ask(now, may_join),
            Self::Kip848(member) => member.poll_ask(now),
            Self::Standalone(_) => None,
        }
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<GroupEvent> {
        any!(self, member => member.poll_event())
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self, may_join: bool) -> Option<Deadline> {
        match self {
            Self::Classic(member) => member.poll_timeout(may_join),
            Self::Kip848(member) => member.poll_timeout(),
            Self::Standalone(member) => member.poll_timeout(),
        }
    }
}
