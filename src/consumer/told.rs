//! What the core says, as a user's errors.

use crate::{
    error::{CommitError, ConsumeError, ConsumeErrorKind, ConsumeErrorParts},
    model::TopicPartition,
    proto::{Problem, ProblemKind, offsets::CommitFailure},
};

pub(super) fn commit_error(failure: CommitFailure, partition: TopicPartition) -> CommitError {
    match failure {
        CommitFailure::NotAssigned => CommitError::NotAssigned { partition },
        CommitFailure::NoGroup => CommitError::NoGroup { partition },
        CommitFailure::Rebalanced => CommitError::Rebalanced { partition },
        CommitFailure::Unknown(message) => CommitError::Unknown { partition, message },
        CommitFailure::Broker(code, message) => CommitError::Broker { message: format!("{partition}: {code}: {message}") },
    }
}

pub(super) fn consume_error(problem: Problem) -> ConsumeError {
    let kind = match problem.kind {
        ProblemKind::Unreachable => ConsumeErrorKind::Unreachable,
        ProblemKind::Incompatible => ConsumeErrorKind::Incompatible,
        ProblemKind::Unauthorized => ConsumeErrorKind::Unauthorized,
        ProblemKind::Unauthenticated => ConsumeErrorKind::Unauthenticated,
        ProblemKind::Untrusted => ConsumeErrorKind::Untrusted,
        ProblemKind::UnknownTopic => ConsumeErrorKind::UnknownTopic,
        ProblemKind::GroupRefused => ConsumeErrorKind::GroupRefused,
        ProblemKind::Fenced => ConsumeErrorKind::Fenced,
        ProblemKind::BadAssignment => ConsumeErrorKind::BadAssignment,
        ProblemKind::NoOffset => ConsumeErrorKind::NoOffset,
        ProblemKind::Truncated => ConsumeErrorKind::Truncated,
        ProblemKind::Corrupt => ConsumeErrorKind::Corrupt,
        ProblemKind::LegacyFormat => ConsumeErrorKind::LegacyFormat,
        ProblemKind::CommitRefused => ConsumeErrorKind::CommitRefused,
        ProblemKind::ProcessingStalled => ConsumeErrorKind::ProcessingStalled,
        ProblemKind::Protocol => ConsumeErrorKind::Protocol,
        ProblemKind::NoGroup => ConsumeErrorKind::NoGroup,
    };
    ConsumeError::new(ConsumeErrorParts { kind, partition: problem.partition, message: problem.what, fatal: problem.fatal })
}
