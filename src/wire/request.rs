//! Requests, as the state machines state them, before a version is chosen.

use std::sync::Arc;

use bytes::Bytes;

use super::Api;
use crate::{
    model::{Generation, LeaderEpoch, Offset, TopicId, TopicPartition},
    secret::Secret,
};

/// A request before its version is chosen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    ApiVersions,
    /// Topics by name, or all there are; an empty list asks for the brokers only. Never creates a topic.
    Metadata {
        topics: Option<Vec<Arc<str>>>,
    },
    /// Topics of which only the ids are known. A broker takes ids or names, not both in one request.
    MetadataById {
        topics: Vec<TopicId>,
    },
    FindCoordinator {
        group: Arc<str>,
    },
    JoinGroup(JoinGroupRequest),
    SyncGroup(SyncGroupRequest),
    Heartbeat(MemberRequest),
    LeaveGroup(LeaveGroupRequest),
    ConsumerGroupHeartbeat(Box<ConsumerHeartbeatRequest>),
    OffsetCommit(OffsetCommitRequest),
    /// Committed offsets, stable ones only (KIP-447).
    OffsetFetch {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
    },
    /// Everything that a group has committed. Whatever a transaction is about to commit is not waited for: who only looks on reads nothing
    /// from there.
    GroupOffsets {
        group: Arc<str>,
    },
    ListOffsets {
        isolation: Isolation,
        partitions: Vec<ListOffsetsPartition>,
    },
    Fetch(FetchRequest),
    OffsetForLeaderEpoch {
        partitions: Vec<EpochPartition>,
    },
    SaslHandshake {
        mechanism: &'static str,
    },
    /// The next message of the mechanism that the handshake chose.
    SaslAuthenticate {
        message: Secret,
    },
}

/// Who speaks: the part that most requests of a member have in common.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberRequest {
    pub(crate) group: Arc<str>,
    pub(crate) generation: Generation,
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinGroupRequest {
    pub(crate) group: Arc<str>,
    /// Empty when the member has none yet.
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// Assignor names with each one's subscription blob, preferred first. The protocol type is always "consumer".
    pub(crate) protocols: Vec<(Arc<str>, Bytes)>,
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyncGroupRequest {
    pub(crate) member: MemberRequest,
    /// The assignor that the broker selected.
    pub(crate) protocol: Arc<str>,
    /// Member id and assignment blob; empty for a follower.
    pub(crate) assignments: Vec<(Arc<str>, Bytes)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LeaveGroupRequest {
    pub(crate) group: Arc<str>,
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) reason: Option<String>,
}

/// A heartbeat of the consumer protocol (KIP-848): joins, tells what has changed, asks what is assigned, and leaves. What is `None` is as it
/// was told last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerHeartbeatRequest {
    /// The generation is the member's epoch: 0 joins, -1 leaves, -2 leaves a static member's place open.
    pub(crate) member: MemberRequest,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) rebalance_timeout_ms: Option<i32>,
    pub(crate) topics: Option<Vec<Arc<str>>>,
    /// A regular expression for the coordinator to match; an empty one ends that which was told last.
    pub(crate) pattern: Option<Arc<str>>,
    /// The coordinator's own assignor.
    pub(crate) assignor: Option<Arc<str>>,
    /// What the member holds.
    pub(crate) owned: Option<Vec<(TopicId, Vec<i32>)>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OffsetCommitRequest {
    pub(crate) member: MemberRequest,
    pub(crate) partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CommitPartition {
    pub(crate) partition: TopicPartition,
    /// The offset of the next record to read.
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// Which records a reader may see (Java: `isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timestamp {
    Earliest,
    Latest,
    /// The first offset whose record is at least this old or newer, in milliseconds since 1970.
    AtMs(i64),
    /// The record with the highest timestamp (KIP-734).
    Newest,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListOffsetsPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) current_leader_epoch: Option<LeaderEpoch>,
    pub(crate) timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) current_leader_epoch: Option<LeaderEpoch>,
    /// The epoch whose end is asked for.
    pub(crate) leader_epoch: LeaderEpoch,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchRequest {
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) isolation: Isolation,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) session: FetchSession,
    /// Every partition's topic id is known, also of those that the session has and the request does not name. Without, no version from 13 on
    /// can be used.
    pub(crate) by_topic_id: bool,
    /// What is asked for; in a session that goes on, what is asked for in another way than before.
    pub(crate) partitions: Vec<FetchPartition>,
}

/// What a Fetch has to do with a fetch session (KIP-227).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchSession {
    /// The broker's number for it, 0 for none.
    pub(crate) id: i32,
    /// -1: outside any session; 0: begins one, which takes the place of that with the id.
    pub(crate) epoch: i32,
    /// What is not asked for any more.
    pub(crate) forgotten: Vec<ForgottenPartition>,
}

impl FetchSession {
    /// Outside any session, and none is begun.
    pub(crate) const NONE: Self = Self { id: 0, epoch: -1, forgotten: Vec::new() };
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForgottenPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Option<TopicId>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) current_leader_epoch: Option<LeaderEpoch>,
    pub(crate) offset: Offset,
    /// The epoch of the record before `offset`, so that the leader can report a truncation (v12 and later).
    pub(crate) last_fetched_epoch: Option<LeaderEpoch>,
    pub(crate) max_bytes: i32,
}

/// A request that cannot be said at the chosen version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode {api:?} version {version}: {what}")]
pub(crate) struct EncodeError {
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) what: String,
}

impl Request {
    /// Which API this is a request of.
    pub(crate) fn api(&self) -> Api {
        match self {
            Self::ApiVersions => Api::ApiVersions,
            Self::Metadata { .. } | Self::MetadataById { .. } => Api::Metadata,
            Self::FindCoordinator { .. } => Api::FindCoordinator,
            Self::JoinGroup(_) => Api::JoinGroup,
            Self::SyncGroup(_) => Api::SyncGroup,
            Self::Heartbeat(_) => Api::Heartbeat,
            Self::LeaveGroup(_) => Api::LeaveGroup,
            Self::ConsumerGroupHeartbeat(_) => Api::ConsumerGroupHeartbeat,
            Self::OffsetCommit(_) => Api::OffsetCommit,
            Self::OffsetFetch { .. } | Self::GroupOffsets { .. } => Api::OffsetFetch,
            Self::ListOffsets { .. } => Api::ListOffsets,
            Self::Fetch(_) => Api::Fetch,
            Self::OffsetForLeaderEpoch { .. } => Api::OffsetForLeaderEpoch,
            Self::SaslHandshake { .. } => Api::SaslHandshake,
            Self::SaslAuthenticate { .. } => Api::SaslAuthenticate,
        }
    }
}
