//! The sans-IO core: one deterministic state machine, no socket, no clock, no task, no lock.
//!
//! The machines in `cluster`, `group`, `offsets` and `fetch` do not know each other; they meet only in an aggregate (`consumer`, or `onlooker`
//! for those who only look on), and what they have in common stands here. Each has `handle_*(now, …)`, which takes something in, and
//! `#[must_use] poll_*()`, which hands something out:
//!
//! * `poll_ask` — a request to send. Its answer comes back through `handle_answer` with the same call number. An answer whose number the
//!   machine no longer waits for is stale and changes nothing.
//! * `poll_event` — something the aggregate must know.
//! * `poll_timeout` — when to call `handle_timeout`, and why.
//!
//! Every request gets exactly one answer: what the broker said, or a `CallError`. There is no way for a call to be forgotten.

pub(crate) mod backoff;
pub(crate) mod cluster;
pub(crate) mod consumer;
pub(crate) mod fetch;
pub(crate) mod group;
mod identity;
pub(crate) mod message;
pub(crate) mod offsets;
pub(crate) mod onlooker;
pub(crate) mod selection;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    model::{BrokerId, Generation, LeaderEpoch, Racks, TopicId, TopicPartition},
    wire::{Api, ErrorCode, Malformed, Request, Response},
};

/// A partition together with the assignment under which it is held.
///
/// Every fetched chunk, ack and commit carries one. The number is our own and grows with each assign, seek and reset: what carries an
/// old one is dropped on arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartitionHandle {
    pub(crate) partition: TopicPartition,
    pub(crate) assignment: u64,
}

/// Who in the group we are, as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Empty until the coordinator gave one.
    pub(crate) member_id: Arc<str>,
    pub(crate) generation: Generation,
}

impl Membership {
    /// Not a member of any generation.
    pub(crate) fn none() -> Self {
        Self { member_id: "".into(), generation: Generation::NONE }
    }
}

/// Which machine asked, and the number it gave the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Cluster(u64),
    Group(u64),
    Committer(u64),
    Positions(u64),
    Fetch(u64),
    Lookup(u64),
}

/// A connection, as the core and `net` both call it; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// Where a broker listens: a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BrokerAddr {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl fmt::Display for BrokerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a connection ended, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disconnect {
    /// Never connected: the name did not resolve, or none of its addresses took the connection.
    Unreachable(String),
    /// The other side closed or reset it.
    Closed(String),
    /// What came is no Kafka frame, or one beyond the limit; says what it looks like.
    BadFrame(String),
    /// One side does not trust the other, or they do not understand each other's TLS: that does not pass by itself.
    #[cfg_attr(not(feature = "__rustls"), allow(dead_code, reason = "there is no TLS in this build"))]
    Tls(String),
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unreachable(why) | Self::Closed(why) | Self::BadFrame(why) | Self::Tls(why)) = self;
        f.write_str(why)
    }
}

/// To which connection a request goes. A broker serves one request at a time per connection, so what may wait long has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Any broker that can be reached.
    Any,
    /// The group's coordinator, on the connection kept for it.
    Coordinator,
    /// A broker, for short requests.
    Broker(BrokerId),
    /// A broker, on one of the connections for Fetch: number 0 is where that may wait.
    Fetch(BrokerId, usize),
}

/// A request that a machine wants sent.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) owner: Owner,
    pub(crate) to: Target,
    pub(crate) request: Request,
    /// How long to wait for the answer, from now.
    pub(crate) timeout: Duration,
}

/// What became of a request.
pub(crate) type Answer = Result<Response, CallError>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum CallError {
    /// Surely not done: the request was never written.
    #[error("{0}")]
    NotSent(String),
    /// Perhaps done: the connection was lost, or the time ran out, after the request was written.
    #[error("{0}")]
    Lost(String),
    /// The broker speaks no version of this API that we do.
    #[error("the broker speaks {api:?} versions {theirs:?}, ottla {ours:?}")]
    Unsupported { api: Api, ours: (i16, i16), theirs: Option<(i16, i16)> },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What is known of the cluster; a new one with each metadata answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterView {
    /// Grows with each change.
    pub(crate) revision: u64,
    pub(crate) topics: BTreeMap<Arc<str>, TopicView>,
}

/// One topic, as the newest metadata told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicView {
    /// NONE, or why the topic's partitions are not known (unknown topic, no permission, …).
    pub(crate) error: ErrorCode,
    pub(crate) id: Option<TopicId>,
    /// Indexed by partition number.
    pub(crate) partitions: Vec<PartitionView>,
}

/// One partition, as the newest metadata told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PartitionView {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) racks: Racks,
}

impl ClusterView {
    /// Looks a partition up; `None` when its topic or number is not known.
    pub(crate) fn partition(&self, partition: &TopicPartition) -> Option<&PartitionView> {
        self.topics.get(partition.topic())?.partitions.get(usize::try_from(partition.partition()).ok()?)
    }
}

/// Something the user must hear of: the library retries what can be retried, so this is fatal, needs a decision, or lasts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    /// The partition it concerns, where it is one.
    pub(crate) partition: Option<TopicPartition>,
    /// What the broker said, where it was the broker.
    pub(crate) code: Option<ErrorCode>,
    /// A sentence without a full stop: what was tried, on which topic, partition, group or broker, what came of it, and what to do.
    pub(crate) what: String,
    /// Nothing more will come: the consumer has ended.
    pub(crate) fatal: bool,
}

/// By what a user's program would tell problems apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemKind {
    /// No broker can be reached, or the coordinator cannot be found, for a while now.
    Unreachable,
    /// A broker speaks no version of a request that ottla speaks, or is no Kafka at all.
    Incompatible,
    /// The group, or a topic, may not be used by this user.
    Unauthorized,
    /// A broker does not believe who this client says it is, or no token could be had to say it.
    Unauthenticated,
    /// A broker's certificate is not trusted, or the broker does not trust ours.
    Untrusted,
    /// A subscribed topic does not exist.
    UnknownTopic,
    /// The group refused this member for good: settings, size, protocol.
    GroupRefused,
    /// Another member took this one's `group.instance.id`.
    Fenced,
    /// A custom assignor gave a partition twice, or to a member that did not ask for it.
    BadAssignment,
    /// There is no committed offset, or it is out of range, and the reset policy is to fail.
    NoOffset,
    /// The log was truncated below what had been read (unclean leader election).
    Truncated,
    /// Bytes that fail their checksum or cannot be decoded.
    Corrupt,
    /// Records in a format older than Kafka 0.11.
    LegacyFormat,
    /// A commit was refused for a reason that lasts.
    CommitRefused,
    /// Processing stalled longer than `processing_timeout`: the member left the group.
    ProcessingStalled,
    /// An answer that no correct broker gives.
    Protocol,
    /// What the program wants is done by a group, and there is none.
    NoGroup,
}

/// How long a topic or a partition may be missing before it counts as missing: brokers hear of a new one, one after the other.
const MISSING_AFTER: Duration = Duration::from_secs(3);

/// When a machine wants to be called again, and why.
pub(crate) type Deadline = (Instant, &'static str);

/// The earlier of two deadlines.
pub(crate) fn earliest(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Checks what must always hold. A breach is a bug of ottla: it panics in tests, simulation and fuzzing, and is logged in release, where
/// the caller goes the safe way.
macro_rules! invariant {
    ($cond:expr, $($what:tt)+) => {{
        let holds = $cond;
        if !holds {
            debug_assert!(holds, $($what)+);
            tracing::error!(target: "ottla", "broken invariant, please report: {}", format_args!($($what)+));
        }
        holds
    }};
}
pub(crate) use invariant;
