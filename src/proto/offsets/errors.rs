//! What each error code of an offset request asks for. Three tables, one line per code; a code that stands in none is `Unexpected`.
//!
//! No line leads to the reset policy: that is decided where an answer *without* an error is read.

use crate::wire::ErrorCode;

/// What the coordinator's word on OffsetCommit or OffsetFetch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoordinatorVerdict {
    Done,
    /// Our membership is not what the coordinator thinks: the group's machine must hear it.
    Membership,
    /// The coordinator is there, but not ready: ask it again after a while.
    NotReady,
    /// This broker is not the coordinator: find it, then ask again.
    Moved,
    /// The coordinator gave up waiting for its replicas: what it was asked may have been done.
    Unknown,
    /// A transaction that concerns this partition is not decided yet: ask again, for as long as it takes.
    Unstable,
    UnknownTopic,
    TopicUnauthorized,
    GroupUnauthorized,
    /// This very value will never be taken.
    Refused,
    /// The group's name will never be taken.
    BadGroup,
    Incompatible,
    Unexpected,
}

/// OffsetCommit (group-level codes come with each partition).
pub(super) fn offset_commit(code: ErrorCode) -> CoordinatorVerdict {
    match code {
        ErrorCode::OFFSET_METADATA_TOO_LARGE | ErrorCode::INVALID_COMMIT_OFFSET_SIZE => CoordinatorVerdict::Refused,
        // Not a word of OffsetCommit.
        ErrorCode::UNSTABLE_OFFSET_COMMIT => CoordinatorVerdict::Unexpected,
        code => coordinator(code),
    }
}

/// OffsetFetch: the group's own code and those of the partitions.
pub(super) fn offset_fetch(code: ErrorCode) -> CoordinatorVerdict {
    coordinator(code)
}

fn coordinator(code: ErrorCode) -> CoordinatorVerdict {
    match code {
        ErrorCode::NONE => CoordinatorVerdict::Done,
        ErrorCode::REBALANCE_IN_PROGRESS
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::FENCED_INSTANCE_ID
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::FENCED_MEMBER_EPOCH
        | ErrorCode::GROUP_ID_NOT_FOUND => CoordinatorVerdict::Membership,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => CoordinatorVerdict::NotReady,
        ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => CoordinatorVerdict::Moved,
        ErrorCode::REQUEST_TIMED_OUT => CoordinatorVerdict::Unknown,
        ErrorCode::UNSTABLE_OFFSET_COMMIT => CoordinatorVerdict::Unstable,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => CoordinatorVerdict::UnknownTopic,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => CoordinatorVerdict::TopicUnauthorized,
        ErrorCode::GROUP_AUTHORIZATION_FAILED => CoordinatorVerdict::GroupUnauthorized,
        ErrorCode::INVALID_GROUP_ID => CoordinatorVerdict::BadGroup,
        ErrorCode::UNSUPPORTED_VERSION => CoordinatorVerdict::Incompatible,
        _ => CoordinatorVerdict::Unexpected,
    }
}

/// What a leader's word on ListOffsets or OffsetForLeaderEpoch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaderVerdict {
    Done,
    /// What we know of the cluster is old: refresh it, then ask again.
    Refresh,
    /// Ask again after a while.
    Retry,
    UnknownTopic,
    TopicUnauthorized,
    /// Brokers before 2.4 want a permission on the cluster for OffsetForLeaderEpoch, which a consumer has no reason to have.
    Forbidden,
    Incompatible,
    Unexpected,
}

/// ListOffsets and OffsetForLeaderEpoch.
pub(super) fn leader(code: ErrorCode) -> LeaderVerdict {
    match code {
        ErrorCode::NONE => LeaderVerdict::Done,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::OFFSET_NOT_AVAILABLE => LeaderVerdict::Refresh,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::UNKNOWN_SERVER_ERROR
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => LeaderVerdict::Retry,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::INCONSISTENT_TOPIC_ID => {
            LeaderVerdict::UnknownTopic
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => LeaderVerdict::TopicUnauthorized,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => LeaderVerdict::Forbidden,
        ErrorCode::UNSUPPORTED_VERSION | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT => LeaderVerdict::Incompatible,
        _ => LeaderVerdict::Unexpected,
    }
}
