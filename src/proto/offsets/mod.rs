//! Offsets, as the group's coordinator and the partitions' leaders know them: where to start, and what is finished.
//!
//! * `committer` says to the coordinator what is finished.
//! * `positions` finds out where to read from, and whether a log was truncated below what was read.
//! * `lookup` answers questions about offsets of those who only look on.
//! * `errors` is the table of what each error code means for each of them.

mod committer;
mod errors;
mod lookup;
mod positions;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use committer::{CommitEvent, CommitFailure, Committer, CommitterConfig};
pub(crate) use lookup::{Commit, Found, Listed, Lookup, LookupConfig, LookupEvent, Outcome, Question};
pub(crate) use positions::{PositionEvent, Positions, PositionsConfig, ResetPolicy};

use crate::model::TopicPartition;

/// What an answer says of each partition that waits for it: the first word counts, and what nobody asked for does not.
fn first_words<T>(waiting: &BTreeSet<TopicPartition>, answered: Vec<(TopicPartition, T)>) -> BTreeMap<TopicPartition, T> {
    let mut words = BTreeMap::new();
    for (partition, word) in answered {
        if waiting.contains(&partition) {
            words.entry(partition).or_insert(word);
        } else {
            tracing::debug!(%partition, "an answer about offsets names a partition that nobody waits for");
        }
    }
    words
}
