//! What can go wrong, as a user sees it.
//!
//! The library retries what can be retried. An error that reaches a program is fatal, needs a decision, or has lasted for a while.

use std::{fmt, sync::Arc, time::Duration};

use crate::model::TopicPartition;

/// Why a consumer, or an [`Offsets`](crate::Offsets), could not be built or connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting, or a combination of settings, makes no sense.
    #[error("invalid setting {setting}: {why}")]
    InvalidSetting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// No bootstrap address led to a broker.
    #[error("{message}")]
    Unreachable {
        /// Each address that was tried, and what came of it.
        message: String,
    },
    /// Something answered that is not a Kafka broker, or one that is too old.
    #[error("{message}")]
    Incompatible {
        /// What was seen, and where.
        message: String,
    },
    /// A broker refused the credentials, or no token could be had to show.
    #[error("{message}")]
    Unauthenticated {
        /// Who said no to whom, by which mechanism, and why.
        message: String,
    },
    /// No broker's certificate is trusted, or none trusts the one that was shown.
    #[error("{message}")]
    Untrusted {
        /// Each address that was tried, and what came of it.
        message: String,
    },
    /// There was no answer in time.
    #[error("no broker answered within {after:?} ({bootstrap})")]
    TimedOut {
        /// How long was waited.
        after: Duration,
        /// The bootstrap addresses.
        bootstrap: String,
    },
}

/// An error on a stream of records.
///
/// Unless [`is_fatal`](Self::is_fatal), the stream goes on: the next item may be a record again.
// A pointer, for it shares its place with every record that is handed out.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumeError(pub(crate) Box<ConsumeErrorParts>);

/// What a [`ConsumeError`] says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ConsumeErrorParts {
    pub(crate) kind: ConsumeErrorKind,
    pub(crate) partition: Option<TopicPartition>,
    pub(crate) message: String,
    pub(crate) fatal: bool,
}

impl ConsumeError {
    pub(crate) fn new(parts: ConsumeErrorParts) -> Self {
        Self(Box::new(parts))
    }

    /// Returns what kind of error it is, to match on.
    pub fn kind(&self) -> ConsumeErrorKind {
        self.0.kind
    }

    /// Returns the partition it concerns, where it concerns one.
    pub fn topic_partition(&self) -> Option<&TopicPartition> {
        self.0.partition.as_ref()
    }

    /// Says whether the stream ends with this error. If not, ottla goes on trying, and reading whatever else can be read.
    pub fn is_fatal(&self) -> bool {
        self.0.fatal
    }
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConsumeErrorParts { kind, message, fatal, .. } = &*self.0;
        write!(f, "{kind:?}{}: {message}", if *fatal { " (fatal)" } else { "" })
    }
}

impl std::error::Error for ConsumeError {}

/// The kinds of [`ConsumeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConsumeErrorKind {
    /// A custom assignor gave a partition twice, or to a member that did not ask for it.
    BadAssignment,
    /// Commits are refused for a reason that lasts.
    CommitRefused,
    /// A batch fails its checksum or cannot be decoded. Its partition rests until a seek.
    Corrupt,
    /// Another member took this one's `group.instance.id`.
    Fenced,
    /// The group refused this member: settings, size or protocol.
    GroupRefused,
    /// A broker speaks no version of a request that ottla speaks, or is no Kafka at all.
    Incompatible,
    /// A bug in ottla. Please report it.
    Internal,
    /// Records in a format older than Kafka 0.11.
    LegacyFormat,
    /// At most once a record is committed before it is handed out, and there is no group to commit it for.
    NoGroup,
    /// No committed offset, or one out of range, and the reset policy is to fail. The partition rests until a seek.
    NoOffset,
    /// The member left the group because nothing was taken or acknowledged for `processing_timeout`. It rejoins when the stream is
    /// polled again.
    ProcessingStalled,
    /// An answer that no correct broker gives.
    Protocol,
    /// So many records are unacknowledged that no more are handed out until some are.
    TooManyUnacked,
    /// The log was truncated below what had been read (unclean leader election).
    Truncated,
    /// A broker refuses the credentials, or no token can be had to show. If that lasts, the stream ends.
    Unauthenticated,
    /// The topic or the group may not be used with these credentials.
    Unauthorized,
    /// A topic that is subscribed to, or a partition that is assigned, does not exist. It is read as soon as it does.
    UnknownTopic,
    /// No broker can be reached, or no coordinator found, for a while now.
    Unreachable,
    /// A broker's certificate is not trusted, or the broker does not trust the one that was shown.
    Untrusted,
}

/// Why an explicit commit did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The broker refused; nothing was stored.
    #[error("the commit was refused: {message}")]
    Broker {
        /// What the broker said.
        message: String,
    },
    /// The consumer has no group whose offset it would be: nothing was stored.
    #[error("{partition} cannot be committed: the consumer was built without a group")]
    NoGroup {
        /// The partition.
        partition: TopicPartition,
    },
    /// The partition is not this member's any more, or was given to it anew: nothing was stored.
    #[error("{partition} is not assigned to this member (any more): nothing was committed")]
    NotAssigned {
        /// The partition.
        partition: TopicPartition,
    },
    /// The group was rebalanced before the commit was written: nothing was stored.
    #[error("the group was rebalanced before {partition} was committed: nothing was committed")]
    Rebalanced {
        /// The partition.
        partition: TopicPartition,
    },
    /// The answer was lost: the offset may or may not be stored.
    #[error("it is unknown whether {partition} was committed: {message}")]
    Unknown {
        /// The partition.
        partition: TopicPartition,
        /// What happened to the answer.
        message: String,
    },
}

/// What [`close`](crate::AtLeastOnce::close) could not finish in the time it was given, or the coordinator refused. The member has left its
/// group (or will be dropped from it when its session ends); what is listed will be read again by whoever gets the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseError {
    /// Partitions with records still unacknowledged when the time ran out.
    pub in_work: Vec<TopicPartition>,
    /// Partitions whose acknowledged records could not all be committed; why was said by the stream's errors.
    pub uncommitted: Vec<TopicPartition>,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the consumer closed before everything was finished:")?;
        for (what, partitions) in [("still in work", &self.in_work), ("not committed", &self.uncommitted)] {
            if !partitions.is_empty() {
                write!(f, " {what}: {partitions:?};")?;
            }
        }
        f.write_str(" these records will be read again")
    }
}

impl std::error::Error for CloseError {}

/// Why [`Offsets`](crate::Offsets) has no answer: to a whole question, or for one topic or partition of it.
///
/// What passes by itself was tried again before, for as long as the question's time allowed.
#[derive(Clone, PartialEq, Eq)]
pub struct OffsetsError {
    pub(crate) kind: OffsetsErrorKind,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) partition: Option<i32>,
    pub(crate) message: String,
}

impl OffsetsError {
    /// Returns what kind of error it is, to match on.
    pub fn kind(&self) -> OffsetsErrorKind {
        self.kind
    }

    /// Returns the topic it concerns, where it concerns one.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// Returns the number of the partition it concerns; `None`: the whole topic, or the whole question.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }
}

impl fmt::Display for OffsetsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for OffsetsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for OffsetsError {}

/// The kinds of [`OffsetsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OffsetsErrorKind {
    /// The broker speaks no version in which the question can be asked.
    Incompatible,
    /// The background task has ended: its runtime was shut down, or ottla has a bug.
    Internal,
    /// Answers that no correct broker gives.
    Protocol,
    /// The group's name, or the question, will never be taken.
    Refused,
    /// The question's time has passed. What it waited for is in the text.
    TimedOut,
    /// A broker refuses the credentials.
    Unauthenticated,
    /// The topic or the group may not be looked at with these credentials.
    Unauthorized,
    /// The topic does not exist, or has no such partition.
    UnknownTopic,
}
