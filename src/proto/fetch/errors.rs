//! What each error code of Fetch asks for, one line per code; a code that stands here not at all is `Unexpected`. None but
//! `OFFSET_OUT_OF_RANGE` may ever move a position.

use crate::wire::ErrorCode;

/// What a broker's word on one partition, or on a whole Fetch, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    /// What we know of the cluster is old: refresh it, and ask again after a while.
    Refresh,
    /// The same; and the topic may have been deleted, or made anew under its name.
    Suspect,
    /// Ask again after a while.
    Retry,
    OutOfRange,
    Unauthorized,
    Corrupt,
    Incompatible,
    Unexpected,
}

/// Whether a broker cannot go on with a fetch session: it has restarted, made room for others, or has heard something else than was said.
pub(super) fn ends_session(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND | ErrorCode::INVALID_FETCH_SESSION_EPOCH | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    )
}

pub(super) fn fetch(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Accept,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::OFFSET_NOT_AVAILABLE => Verdict::Refresh,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID
        | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => Verdict::Suspect,
        ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::UNKNOWN_SERVER_ERROR
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED
        // Where no session was to be gone on with, these make no sense.
        | ErrorCode::FETCH_SESSION_ID_NOT_FOUND
        | ErrorCode::INVALID_FETCH_SESSION_EPOCH => Verdict::Retry,
        ErrorCode::OFFSET_OUT_OF_RANGE => Verdict::OutOfRange,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => Verdict::Unauthorized,
        ErrorCode::CORRUPT_MESSAGE => Verdict::Corrupt,
        ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT => Verdict::Incompatible,
        _ => Verdict::Unexpected,
    }
}
