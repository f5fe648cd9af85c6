//! The group member: joins, keeps its place alive, hands partitions back, assigns for the others where it leads.
//!
//! [`Classic`] speaks the protocol of JoinGroup, SyncGroup, Heartbeat and LeaveGroup, [`Kip848`] that of ConsumerGroupHeartbeat, with the
//! same events; [`Standalone`] is nobody's member, and takes what is wanted; [`GroupMember`] is one of the three. They know nothing of records
//! and commits: they say what has to happen to the partitions and wait until it did. What follows is about the first.
//!
//! ```text
//!             subscribed, coordinator known          JoinGroup ok, follower
//!  Unjoined ──────────────────────────────► Joining ────────────────────────► Syncing ──► Stable
//!   ▲  ▲ ▲                                     │ JoinGroup ok, leader            ▲           │
//!   │  │ └── any error that ends the round ────┤                                 │           │ rejoin, something owned
//!   │  │                                       └──────────► Assigning ───────────┘           ▼
//!   │  └──────── rejoin, nothing to hand back, or lost ──────────────────────────────────────┤
//!   └──────────────── released, or given up ─────────────────────────────────────────── Releasing
//!
//!  any ──► Leaving ──► Left (closed) | Stalled (processing stalled, until resumed) | Unjoined (unsubscribed)
//!  any ──► Failed (fatal)
//! ```
//!
//! In Kafka's words: Unjoined and Releasing are UNJOINED with a rejoin needed, Joining is PREPARING_REBALANCE, Assigning and Syncing are
//! COMPLETING_REBALANCE. The table of transitions is data, in `state`; what each error code does is data, in `errors`.
//!
//! What is handed back before a join, and what is held through it, is the protocol's choice: an eager member hands back everything, a
//! cooperative one (KIP-429) nothing. It names in JoinGroup what it holds, learns from the assignment what of that is to be another's, hands
//! that back in the new generation, and joins once more, so that it can be given away. All the while the rest is read on.
//!
//! Three rules carry it:
//!
//! * Each request remembers the [`Membership`](super::Membership) it was sent with. An answer that says something about a member counts
//!   only if that is still who we are.
//! * A round takes up what has changed meanwhile: a subscription that changed while JoinGroup was under way is compared when its answer
//!   comes, partition counts when the round is over. So triggers merge by themselves, and none is lost.
//! * Two joins in a row are immediate, from then on there is a back-off, whatever the reason, but the program's own wish for other topics. It
//!   is forgotten once a generation has held for a while.

mod answers;
mod claims;
mod classic;
mod errors;
mod kip848;
mod leader;
mod member;
mod pulse;
mod standalone;
mod state;
#[cfg(test)]
mod tests;
mod voice;

pub(crate) use classic::Classic;
pub(crate) use kip848::Kip848;
pub(crate) use member::GroupMember;
pub(crate) use standalone::{Standalone, StandaloneConfig};

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Membership, Problem};
use crate::{
    assignor::{Assignor, RebalanceProtocol},
    model::{Generation, GroupProtocol, TopicId, TopicPartition},
    wire::MemberRequest,
};

/// How long leaving may take, the coordinator's lookup and a retry included.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// The ceiling of the wait between tries of what somebody would have to put right (with the jitter, under five seconds).
const LASTING_RETRY_MAX: Duration = Duration::from_secs(4);

/// How a consumer comes by its partitions.
#[derive(Clone, Debug)]
pub(crate) enum MemberConfig {
    /// As a member of a group, which deals them out.
    Group(GroupConfig),
    /// Without joining any: all that is wanted.
    Standalone(StandaloneConfig),
}

/// What a member is told once.
#[derive(Clone, Debug)]
pub(crate) struct GroupConfig {
    pub(crate) group: Arc<str>,
    /// Makes the member static (KIP-345): it never leaves, and finds its place again after a restart.
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) protocol: GroupProtocol,
    /// By the consumer protocol the coordinator assigns: which of its assignors it is to use.
    pub(crate) server_assignor: Option<Arc<str>>,
    /// Of the classic protocol, preferred first.
    pub(crate) assignors: Vec<Arc<dyn Assignor>>,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    /// How long the coordinator waits for a member to join again before it goes on without it.
    pub(crate) rebalance_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    pub(crate) seed: u64,
}

impl GroupConfig {
    /// Who asks.
    fn member_request(&self, Membership { member_id, generation }: &Membership) -> MemberRequest {
        MemberRequest {
            group: self.group.clone(),
            generation: *generation,
            member_id: member_id.clone(),
            instance_id: self.instance_id.clone(),
        }
    }

    /// Whether partitions are held through a rebalance: every assignor that is offered must allow it, for any of them may be selected.
    pub(super) fn is_cooperative(&self) -> bool {
        self.assignors.iter().all(|assignor| assignor.protocol() == RebalanceProtocol::Cooperative)
    }
}

/// What is to be read; each kind of member acts on what it can.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) topics: Vec<Arc<str>>,
    /// For the coordinator to match.
    pub(crate) pattern: Option<Arc<str>>,
    /// Of who does not have a group deal them out.
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

/// What the member asks of its surroundings, or tells them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupEvent {
    /// The coordinator has to be looked up (again); said once until `handle_coordinator(true)`.
    CoordinatorUnknown { why: String },
    /// These partitions are still ours, but not for long: stop delivery, finish and commit, then call `handle_released`. After the
    /// deadline the member goes on without an answer, and what was not released is `Lost`.
    Release { partitions: Vec<TopicPartition>, deadline: Instant, why: String },
    /// These partitions may be someone else's already: fence at once, commit nothing.
    Lost { partitions: Vec<TopicPartition>, why: String },
    /// The member is part of a generation, and these partitions are new to it. It holds them beside what it held through the rebalance.
    Assigned { generation: Generation, member_id: Arc<str>, protocol: Arc<str>, leader: bool, partitions: Vec<TopicPartition> },
    /// The topics beside our own whose metadata the leader has to follow; replaces what was said before, and may be empty.
    WatchTopics(Vec<Arc<str>>),
    /// Metadata are to tell of a partition that is not there, or not yet.
    RefreshMetadata,
    /// Metadata are to tell what these topics of the assignment are called; replaces what was said before, and may be empty.
    Identify(BTreeSet<TopicId>),
    /// The group cannot be joined by this protocol (any more), and the user leaves the choice to us: call `change_protocol`.
    OtherProtocol,
    /// The member takes part in a rebalance.
    Rejoining { why: String },
    /// The answer to `handle_leave`: nothing more will come.
    Left,
    /// Fatal, or lasting; a lasting one is said once and retried.
    Problem(Problem),
}
