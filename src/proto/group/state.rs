//! Where a member stands, and the ways from there.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::leader::{Roster, Snapshot};
use crate::{assignor::Assignor, model::TopicPartition};

#[derive(Debug)]
pub(super) enum State {
    /// Asks nothing, and owns nothing but what is held through a rebalance. Joins once topics are wanted, the coordinator is known and the
    /// time has come.
    Unjoined,
    /// These partitions are being handed back, in the generation that still is; then comes the next.
    Releasing {
        partitions: Vec<TopicPartition>,
        until: Instant,
    },
    /// JoinGroup is under way, for these topics. The coordinator answers when all members have joined.
    Joining {
        call: u64,
        topics: Vec<Arc<str>>,
    },
    /// Leads, and waits to know the topics of all members.
    Assigning {
        round: Round,
        roster: Roster,
        skip: bool,
        until: Instant,
    },
    Syncing {
        round: Round,
        step: Sync,
    },
    Stable {
        round: Round,
        since: Instant,
    },
    Leaving(Leaving),
    /// Left because the user's processing stalled.
    Stalled,
    /// Said something fatal.
    Failed,
    Left,
}

/// One generation: what holds from JoinGroup's answer until the next rebalance.
#[derive(Debug)]
pub(super) struct Round {
    /// What we subscribed to when we joined, sorted.
    pub(super) topics: Vec<Arc<str>>,
    /// The one that the coordinator selected.
    pub(super) assignor: Arc<dyn Assignor>,
    pub(super) lead: Option<Lead>,
    /// Nobody leads: the coordinator assigns, in a group in which others speak the new protocol (KIP-848).
    pub(super) is_leaderless: bool,
}

#[derive(Debug)]
pub(super) struct Lead {
    pub(super) snapshot: Snapshot,
    /// What we would have assigned to ourselves, where the coordinator kept an older assignment (KIP-814).
    pub(super) own_share: Option<Vec<TopicPartition>>,
}

#[derive(Debug)]
pub(super) enum Sync {
    /// To be written, with these assignments.
    Due(Vec<(Arc<str>, Bytes)>),
    /// Under way.
    Asked(u64),
}

#[derive(Debug)]
pub(super) struct Leaving {
    /// Empty while JoinGroup is under way that will tell.
    pub(super) member_id: Arc<str>,
    pub(super) reason: String,
    pub(super) step: LeaveStep,
    pub(super) retried: bool,
    /// Leaving is a courtesy: after this nobody waits for it.
    pub(super) until: Instant,
    pub(super) then: Afterwards,
}

#[derive(Debug)]
pub(super) enum LeaveStep {
    /// JoinGroup is under way, and only its answer will tell our member id.
    AwaitJoin(u64),
    Due(Instant),
    Asked(u64),
}

/// What comes after leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    Left,
    Stalled,
    Unjoined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Unjoined,
    Releasing,
    Joining,
    Assigning,
    Syncing,
    Stable,
    Leaving,
    Stalled,
    Failed,
    Left,
}

/// Every way from one state to another there is, and when it is taken.
pub(super) const TRANSITIONS: &[(Name, Name, &str)] = &[
    (Name::Unjoined, Name::Joining, "JoinGroup was written"),
    (Name::Unjoined, Name::Leaving, "closed, stalled or unsubscribed, with a member id"),
    (Name::Unjoined, Name::Stalled, "stalled, without a member id"),
    (Name::Unjoined, Name::Left, "closed, without a member id"),
    (Name::Unjoined, Name::Failed, "fatal answer"),
    (Name::Joining, Name::Unjoined, "refused or no answer, or the subscription has changed"),
    (Name::Joining, Name::Assigning, "joined as leader"),
    (Name::Joining, Name::Syncing, "joined as follower, or as leader without a roster"),
    (Name::Joining, Name::Leaving, "closed or stalled"),
    (Name::Joining, Name::Stalled, "stalled, static"),
    (Name::Joining, Name::Failed, "fatal answer"),
    (Name::Joining, Name::Left, "closed, static"),
    (Name::Assigning, Name::Syncing, "assigned"),
    (Name::Assigning, Name::Unjoined, "the subscription has changed, or the generation is gone"),
    (Name::Assigning, Name::Leaving, "closed or stalled"),
    (Name::Assigning, Name::Stalled, "stalled, static"),
    (Name::Assigning, Name::Failed, "the assignor's answer is wrong, or a fatal answer"),
    (Name::Assigning, Name::Left, "closed, static"),
    (Name::Syncing, Name::Stable, "got an assignment"),
    (Name::Syncing, Name::Unjoined, "refused or no answer, the subscription has changed, or the assignment does not fit it"),
    (Name::Syncing, Name::Leaving, "closed or stalled"),
    (Name::Syncing, Name::Stalled, "stalled, static"),
    (Name::Syncing, Name::Failed, "fatal answer"),
    (Name::Syncing, Name::Left, "closed, static"),
    (Name::Stable, Name::Releasing, "rebalance, or assigned to others, and something is to be handed back"),
    (Name::Stable, Name::Unjoined, "rebalance, and nothing is to be handed back; or the partitions are lost"),
    (Name::Stable, Name::Leaving, "closed or stalled"),
    (Name::Stable, Name::Stalled, "stalled, static"),
    (Name::Stable, Name::Failed, "fatal answer"),
    (Name::Stable, Name::Left, "closed, static"),
    (Name::Releasing, Name::Unjoined, "released, given up, or lost"),
    (Name::Releasing, Name::Leaving, "closed or stalled"),
    (Name::Releasing, Name::Stalled, "stalled, static"),
    (Name::Releasing, Name::Failed, "fatal answer"),
    (Name::Releasing, Name::Left, "closed, static"),
    (Name::Leaving, Name::Left, "done, after close"),
    (Name::Leaving, Name::Stalled, "done, after a stall"),
    (Name::Leaving, Name::Unjoined, "done, after unsubscribing, or resumed meanwhile"),
    (Name::Leaving, Name::Failed, "fatal answer to what was asked before"),
    (Name::Stalled, Name::Unjoined, "resumed"),
    (Name::Stalled, Name::Left, "closed"),
    (Name::Stalled, Name::Failed, "fatal answer to what was asked before"),
    (Name::Failed, Name::Leaving, "closed, with a member id"),
    (Name::Failed, Name::Left, "closed, without a member id"),
];

impl State {
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Unjoined => Name::Unjoined,
            Self::Releasing { .. } => Name::Releasing,
            Self::Joining { .. } => Name::Joining,
            Self::Assigning { .. } => Name::Assigning,
            Self::Syncing { .. } => Name::Syncing,
            Self::Stable { .. } => Name::Stable,
            Self::Leaving(_) => Name::Leaving,
            Self::Stalled => Name::Stalled,
            Self::Failed => Name::Failed,
            Self::Left => Name::Left,
        }
    }

    /// Whether the coordinator counts on us. It does not while JoinGroup is under way: then it keeps the member itself.
    pub(super) fn heartbeats(&self) -> bool {
        matches!(self, Self::Releasing { .. } | Self::Assigning { .. } | Self::Syncing { .. } | Self::Stable { .. })
    }

    /// Whether nothing but leaving can come.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Failed | Self::Left | Self::Leaving(Leaving { then: Afterwards::Left, .. }))
    }
}
