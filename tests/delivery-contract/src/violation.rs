//! What was broken, by name.

use std::{fmt, time::Duration};

use crate::Partition;

/// Something that must not happen has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, since the start of the run.
    pub at: Duration,
    /// What was broken.
    pub checker: Checker,
    /// Where.
    pub partition: Partition,
    /// How, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s: {}: {}: {}", self.at.as_secs_f64(), self.checker, self.partition, self.what)
    }
}

/// The promises, each by the name under which its breach is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checker {
    /// A stored commit passed a record that nobody had acknowledged.
    CommittedUnfinished,
    /// At most once: a record came before a commit beyond it was acknowledged.
    HandedOutUncommitted,
    /// A member handed out a record of a partition that, as far as it had been told, was not its own.
    HandedOutUnowned,
    /// A member handed out a record of a partition that it had begun to give up.
    HandedOutAfterRevocation,
    /// At most once: a record came again.
    HandedOutTwice,
    /// An offset came after a higher one, and was no redelivery.
    OutOfOrder,
    /// A record that is to be seen was stepped over.
    Skipped,
    /// A commit below an earlier one was stored.
    CommitWentBack,
    /// Two members were assigned one partition in one generation.
    TwoOwners,
    /// A member handed a partition back in good time, everything of it was finished, and not all of that was committed.
    HandedBackUncommitted,
    /// A record that nobody is to see was handed out.
    HandedOutAborted,
    /// At the end: a record that is to be seen never was.
    NeverHandedOut,
    /// At the end: a record was finished, as everything before it, and its commit is missing.
    AckLost,
    /// At the end: a record is not acknowledged, or (at most once) not committed.
    Unfinished,
}

impl Checker {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::CommittedUnfinished,
        Self::HandedOutUncommitted,
        Self::HandedOutUnowned,
        Self::HandedOutAfterRevocation,
        Self::HandedOutTwice,
        Self::OutOfOrder,
        Self::Skipped,
        Self::CommitWentBack,
        Self::TwoOwners,
        Self::HandedBackUncommitted,
        Self::HandedOutAborted,
        Self::NeverHandedOut,
        Self::AckLost,
        Self::Unfinished,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommittedUnfinished => "committed before it was finished",
            Self::HandedOutUncommitted => "handed out before its commit was acknowledged",
            Self::HandedOutUnowned => "handed out without owning the partition",
            Self::HandedOutAfterRevocation => "handed out after revocation began",
            Self::HandedOutTwice => "at most once, but handed out twice",
            Self::OutOfOrder => "out of order within an assignment",
            Self::Skipped => "skipped within an assignment",
            Self::CommitWentBack => "the committed offset went back",
            Self::TwoOwners => "two members hold one partition in one generation",
            Self::HandedBackUncommitted => "handed back before what was finished was committed",
            Self::HandedOutAborted => "an aborted record was handed out",
            Self::NeverHandedOut => "a committed record was never handed out",
            Self::AckLost => "an acked record was lost",
            Self::Unfinished => "not everything was acked and committed",
        }
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
