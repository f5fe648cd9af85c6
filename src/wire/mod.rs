//! The bytes of the Kafka protocol: requests out, answers in. The only module that names `kafka_protocol`.
//!
//! Requests are encoded with `kafka_protocol`. Answers are decoded by our own bounded cursor: a length that came from
//! the wire is never believed before it has been compared with the bytes that are there.

mod consumer_protocol;
mod request;
mod response;
mod versions;

mod cursor;
mod decode;
mod encode;

#[cfg(test)]
mod tests;

pub(crate) use consumer_protocol::{
    BlobError, PROTOCOL_TYPE, Subscription, decode_assignment, decode_cooperative, decode_sticky, encode_assignment,
    encode_cooperative, encode_sticky,
};
pub(crate) use request::{
    CommitPartition, ConsumerHeartbeatRequest, EncodeError, EpochPartition, FetchPartition, FetchRequest, FetchSession,
    ForgottenPartition, Isolation, JoinGroupRequest, LeaveGroupRequest, ListOffsetsPartition, MemberRequest, OffsetCommitRequest,
    Request, SyncGroupRequest, Timestamp,
};
pub(crate) use response::{
    AbortedTransaction, ApiRange, ApiVersionsResponse, Broker, ConsumerHeartbeatResponse, CoordinatorResponse, EpochEnd,
    FetchResponse, FetchedOffset, FetchedPartition, JoinGroupResponse, JoinedMember, LeaveGroupResponse, ListedOffset,
    MetadataPartition, MetadataResponse, MetadataTopic, OffsetFetchResponse, Response, SaslAuthenticateResponse,
    SaslHandshakeResponse, SyncGroupResponse, TopicRef,
};
pub(crate) use versions::{api_range, negotiate, ranges_of_interest};

use std::fmt;

/// The requests that a consumer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[expect(clippy::enum_variant_names, reason = "ApiVersions is the protocol's own name")]
pub(crate) enum Api {
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    SaslHandshake = 17,
    ApiVersions = 18,
    OffsetForLeaderEpoch = 23,
    SaslAuthenticate = 36,
    ConsumerGroupHeartbeat = 68,
}

impl Api {
    pub(crate) const ALL: [Self; 15] = [
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::FindCoordinator,
        Self::JoinGroup,
        Self::Heartbeat,
        Self::LeaveGroup,
        Self::SyncGroup,
        Self::SaslHandshake,
        Self::ApiVersions,
        Self::OffsetForLeaderEpoch,
        Self::SaslAuthenticate,
        Self::ConsumerGroupHeartbeat,
    ];
}

/// An answer whose bytes do not make sense: what was read, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {api:?} answer (version {version}): {what} at byte {at}")]
pub(crate) struct Malformed {
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// An error code as it stands in an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ErrorCode(pub(crate) i16);

macro_rules! error_codes {
    ($($name:ident = $code:literal,)*) => {
        #[allow(dead_code, reason = "the protocol's table, whole")]
        impl ErrorCode {
            $(pub(crate) const $name: Self = Self($code);)*

            /// The name that Kafka's documentation uses, or `None` for a code newer than this table.
            pub(crate) fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    UNKNOWN_SERVER_ERROR = -1,
    NONE = 0,
    OFFSET_OUT_OF_RANGE = 1,
    CORRUPT_MESSAGE = 2,
    UNKNOWN_TOPIC_OR_PARTITION = 3,
    INVALID_FETCH_SIZE = 4,
    LEADER_NOT_AVAILABLE = 5,
    NOT_LEADER_OR_FOLLOWER = 6,
    REQUEST_TIMED_OUT = 7,
    BROKER_NOT_AVAILABLE = 8,
    REPLICA_NOT_AVAILABLE = 9,
    MESSAGE_TOO_LARGE = 10,
    STALE_CONTROLLER_EPOCH = 11,
    OFFSET_METADATA_TOO_LARGE = 12,
    NETWORK_EXCEPTION = 13,
    COORDINATOR_LOAD_IN_PROGRESS = 14,
    COORDINATOR_NOT_AVAILABLE = 15,
    NOT_COORDINATOR = 16,
    INVALID_TOPIC_EXCEPTION = 17,
    ILLEGAL_GENERATION = 22,
    INCONSISTENT_GROUP_PROTOCOL = 23,
    INVALID_GROUP_ID = 24,
    UNKNOWN_MEMBER_ID = 25,
    INVALID_SESSION_TIMEOUT = 26,
    REBALANCE_IN_PROGRESS = 27,
    INVALID_COMMIT_OFFSET_SIZE = 28,
    TOPIC_AUTHORIZATION_FAILED = 29,
    GROUP_AUTHORIZATION_FAILED = 30,
    CLUSTER_AUTHORIZATION_FAILED = 31,
    INVALID_TIMESTAMP = 32,
    UNSUPPORTED_SASL_MECHANISM = 33,
    ILLEGAL_SASL_STATE = 34,
    UNSUPPORTED_VERSION = 35,
    INVALID_REQUEST = 42,
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43,
    KAFKA_STORAGE_ERROR = 56,
    SASL_AUTHENTICATION_FAILED = 58,
    FETCH_SESSION_ID_NOT_FOUND = 70,
    INVALID_FETCH_SESSION_EPOCH = 71,
    LISTENER_NOT_FOUND = 72,
    FENCED_LEADER_EPOCH = 74,
    UNKNOWN_LEADER_EPOCH = 75,
    UNSUPPORTED_COMPRESSION_TYPE = 76,
    OFFSET_NOT_AVAILABLE = 78,
    MEMBER_ID_REQUIRED = 79,
    GROUP_MAX_SIZE_REACHED = 81,
    FENCED_INSTANCE_ID = 82,
    UNSTABLE_OFFSET_COMMIT = 88,
    THROTTLING_QUOTA_EXCEEDED = 89,
    UNKNOWN_TOPIC_ID = 100,
    INCONSISTENT_TOPIC_ID = 103,
    FETCH_SESSION_TOPIC_ID_ERROR = 106,
    GROUP_ID_NOT_FOUND = 69,
    FENCED_MEMBER_EPOCH = 110,
    UNRELEASED_INSTANCE_ID = 111,
    UNSUPPORTED_ASSIGNOR = 112,
    STALE_MEMBER_EPOCH = 113,
    INVALID_REGULAR_EXPRESSION = 128,
    REBOOTSTRAP_REQUIRED = 129,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
