//! Offsets, as the group's coordinator and the partitions' leaders know them: where to start, and what is finished.
//!
//! * `committer` says to the coordinator what is finished.
//! * `positions` finds out where to read from, and whether a log was truncated below what was read.
//! * `errors` is the table of what each error code means for either.

mod committer;
mod errors;
mod positions;

pub(crate) use committer::{CommitEvent, CommitFailure, Committer, CommitterConfig};
pub(crate) use positions::{PositionEvent, Positions, PositionsConfig, ResetPolicy};
