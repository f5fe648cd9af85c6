//! Bugs that are put in on purpose, one at a time, in builds for tests only: whoever looks for bugs must find them.
//!
//! Each is a mistake that another client has made. `planted!(Bug)` is `false` in every build but those for tests.

use std::cell::Cell;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What was handed out is committed, finished or not.
    CommitHandedOut,
    /// What was fetched is committed.
    CommitFetchPosition,
    /// What is buffered of a partition is handed out although it is being revoked.
    DeliverAfterRevocation,
    /// What was fetched under an older assignment is taken for the new one's.
    ForgetAssignmentEpoch,
    /// An error in the answer to OffsetFetch is taken for "nothing is committed".
    ResetOnTransientError,
    /// At most once: records are handed out while their commit is on its way.
    ReleaseBeforeCommit,
    /// A commit whose answer is lost counts as done.
    DropWrittenCommit,
    /// A rebalance is joined before what was held is given up.
    RejoinWithoutRevoking,
    /// Metadata are asked for once.
    NeverRefreshMetadata,
    /// A coordinator that was lost is not looked for again.
    LeaveCoordinatorUnknown,
    /// Reading goes on after the last record, not after the batch: the end of a compacted batch is never left behind.
    StepByRecord,
    /// Whoever says that an offset is out of range is believed, the leader or not.
    BelieveAnyoneOutOfRange,
    /// An aborted transaction's records are handed out.
    HandOutAborted,
    /// A second commit is written before the first is answered.
    CommitTwiceAtOnce,
    /// Whoever claims a partition is believed, however old the claim.
    BelieveStaleClaims,
    /// What a member goes on holding through a rebalance is read again from where it was committed.
    RefetchKept,
    /// What is handed back is given up before what was finished of it is committed.
    AcknowledgeBeforeCommit,
    /// What was finished of a partition that is lost is committed under the next epoch, which is somebody else's there.
    CommitUnderNextEpoch,
    /// What an assignment names and metadata do not know yet is forgotten.
    DropUnresolvedTopics,
    /// What a fetch session was told to forget is taken for known there, when it is wanted again.
    KeepForgotten,
}

impl Bug {
    pub(crate) const ALL: [Self; 20] = [
        Self::CommitHandedOut,
        Self::CommitFetchPosition,
        Self::DeliverAfterRevocation,
        Self::ForgetAssignmentEpoch,
        Self::ResetOnTransientError,
        Self::ReleaseBeforeCommit,
        Self::DropWrittenCommit,
        Self::RejoinWithoutRevoking,
        Self::NeverRefreshMetadata,
        Self::LeaveCoordinatorUnknown,
        Self::StepByRecord,
        Self::BelieveAnyoneOutOfRange,
        Self::HandOutAborted,
        Self::CommitTwiceAtOnce,
        Self::BelieveStaleClaims,
        Self::RefetchKept,
        Self::AcknowledgeBeforeCommit,
        Self::CommitUnderNextEpoch,
        Self::DropUnresolvedTopics,
        Self::KeepForgotten,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    static CLAIMS_LOST: Cell<bool> = const { Cell::new(false) };
}

/// Whether members claim what they have lost, where they hold nothing, as some clients do (KAFKA-12984). That is no bug of ours to find: other
/// members must not believe it.
pub(crate) fn claims_lost() -> bool {
    CLAIMS_LOST.get()
}

/// From now on, on this thread.
pub(crate) fn set_claims_lost(claims: bool) {
    CLAIMS_LOST.set(claims);
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Puts a bug in for as long as `act` takes, on this thread.
pub(crate) fn with<T>(bug: Bug, act: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    let _reset = Reset;
    PLANTED.set(Some(bug));
    act()
}
