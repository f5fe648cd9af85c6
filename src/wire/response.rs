//! Answers, parsed: what the state machines see.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::ErrorCode;
use crate::model::{BrokerId, Generation, LeaderEpoch, Offset, Position, TopicId, TopicPartition};

/// An answer of any API a consumer asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Response {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    FindCoordinator(CoordinatorResponse),
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(ErrorCode),
    LeaveGroup(LeaveGroupResponse),
    ConsumerGroupHeartbeat(ConsumerHeartbeatResponse),
    /// One code for each partition that the answer names.
    OffsetCommit(Vec<(TopicPartition, ErrorCode)>),
    OffsetFetch(OffsetFetchResponse),
    ListOffsets(Vec<(TopicPartition, ListedOffset)>),
    Fetch(FetchResponse),
    OffsetForLeaderEpoch(Vec<(TopicPartition, EpochEnd)>),
    SaslHandshake(SaslHandshakeResponse),
    SaslAuthenticate(SaslAuthenticateResponse),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiVersionsResponse {
    /// `UNSUPPORTED_VERSION` when the broker is too old for the version asked: `apis` then still says what it knows.
    pub(crate) error: ErrorCode,
    pub(crate) apis: Vec<ApiRange>,
}

/// The versions of one API that a broker speaks; `key` may be one that a consumer never asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ApiRange {
    pub(crate) key: i16,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: BrokerId,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) rack: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataResponse {
    /// Of the whole answer, from version 13 on: the client is to start over from its bootstrap addresses (KIP-1102).
    pub(crate) error: ErrorCode,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) cluster_id: Option<Arc<str>>,
    pub(crate) topics: Vec<MetadataTopic>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataTopic {
    pub(crate) error: ErrorCode,
    /// `None` for a topic that was asked for by an id of which the broker does not know, or may not tell, the name.
    pub(crate) name: Option<Arc<str>>,
    /// From version 10 on.
    pub(crate) id: Option<TopicId>,
    /// Whether Kafka keeps something of its own there, such as committed offsets.
    pub(crate) is_internal: bool,
    pub(crate) partitions: Vec<MetadataPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataPartition {
    pub(crate) error: ErrorCode,
    /// Not negative, but as large as the broker likes, in any order and perhaps twice.
    pub(crate) partition: i32,
    /// `None` while the partition has no leader.
    pub(crate) leader: Option<BrokerId>,
    /// From version 7 on.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) replicas: Vec<BrokerId>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CoordinatorResponse {
    pub(crate) error: ErrorCode,
    pub(crate) message: Option<String>,
    /// The coordinator, when `error` is NONE.
    pub(crate) coordinator: Option<Broker>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinGroupResponse {
    pub(crate) error: ErrorCode,
    pub(crate) generation: Generation,
    /// From version 7 on.
    pub(crate) protocol_type: Option<Arc<str>>,
    /// The selected assignor; empty or absent on errors.
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Arc<str>,
    /// KIP-814, version 9: the leader shall not compute an assignment.
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: Arc<str>,
    /// All members, for the leader only.
    pub(crate) members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    /// The member's subscription blob.
    pub(crate) metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyncGroupResponse {
    pub(crate) error: ErrorCode,
    /// From version 5 on.
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol: Option<Arc<str>>,
    /// The assignment blob; empty when the leader left this member out.
    pub(crate) assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LeaveGroupResponse {
    pub(crate) error: ErrorCode,
    /// From version 3 on: a code for each member that left.
    pub(crate) members: Vec<(Arc<str>, ErrorCode)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerHeartbeatResponse {
    pub(crate) error: ErrorCode,
    pub(crate) message: Option<Arc<str>>,
    /// The member's epoch.
    pub(crate) epoch: Generation,
    /// `None` where the broker says nothing sensible.
    pub(crate) heartbeat_interval: Option<Duration>,
    /// Everything that the member shall hold; `None`: as it was told last.
    pub(crate) assignment: Option<Vec<(TopicId, Vec<i32>)>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OffsetFetchResponse {
    /// The group's own error, from version 2 on.
    pub(crate) error: ErrorCode,
    pub(crate) partitions: Vec<(TopicPartition, FetchedOffset)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchedOffset {
    pub(crate) error: ErrorCode,
    /// `None`: the group has committed nothing for this partition.
    pub(crate) committed: Option<Position>,
    /// What was committed beside it, if anything was.
    pub(crate) metadata: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListedOffset {
    pub(crate) error: ErrorCode,
    /// `None`: no record is as new as the timestamp that was asked for.
    pub(crate) position: Option<Position>,
    /// Of the record there; `None` where an end of the log was asked for.
    pub(crate) timestamp_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochEnd {
    pub(crate) error: ErrorCode,
    /// `None`: the leader does not know that epoch, nor an earlier one.
    pub(crate) end: Option<(LeaderEpoch, Offset)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchResponse {
    pub(crate) throttle: Duration,
    pub(crate) error: ErrorCode,
    pub(crate) session_id: i32,
    pub(crate) partitions: Vec<FetchedPartition>,
    /// New leaders' addresses (KIP-951, version 16).
    pub(crate) brokers: Vec<Broker>,
}

/// How an answer names its topic: by id from version 13 on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TopicRef {
    Name(Arc<str>),
    Id(TopicId),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchedPartition {
    pub(crate) topic: TopicRef,
    pub(crate) partition: i32,
    pub(crate) error: ErrorCode,
    /// With an error it may be anything, -1 most often.
    pub(crate) high_watermark: Offset,
    /// Equals the high watermark where the broker did not say.
    pub(crate) last_stable_offset: Offset,
    pub(crate) log_start_offset: Option<Offset>,
    /// For read_committed: in whatever order the broker sent them.
    pub(crate) aborted: Vec<AbortedTransaction>,
    /// Where the broker would rather be asked (KIP-392).
    pub(crate) preferred_replica: Option<BrokerId>,
    /// The end of the last epoch that this log and the asked position have in common (v12): the log was truncated.
    pub(crate) diverging: Option<(LeaderEpoch, Offset)>,
    /// The leader as this broker knows it (v12).
    pub(crate) current_leader: Option<(BrokerId, LeaderEpoch)>,
    /// Record batches, still encoded: a slice of the frame, not a copy, where such slices are most of it.
    pub(crate) records: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: Offset,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SaslHandshakeResponse {
    pub(crate) error: ErrorCode,
    /// What the listener takes.
    pub(crate) mechanisms: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SaslAuthenticateResponse {
    pub(crate) error: ErrorCode,
    pub(crate) message: Option<Arc<str>>,
    /// The broker's next message of the mechanism.
    pub(crate) challenge: Bytes,
    /// After so long the connection must authenticate anew (KIP-368, from version 1 on).
    pub(crate) session_lifetime: Option<Duration>,
}
