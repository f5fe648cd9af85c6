//! What the questions lead to.

use std::collections::BTreeMap;

use crate::{
    error::OffsetsError,
    model::TopicPartition,
    proto::offsets::{Commit, Found, Listed},
};

/// What a question led to in each partition: where some have no answer, the others are there all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it may hold errors"]
pub struct PerPartition<T> {
    /// The partitions that have an answer.
    pub found: BTreeMap<TopicPartition, T>,
    /// One for each partition that has none, or for a topic of which not even the partitions are known.
    pub errors: Vec<OffsetsError>,
}

/// A place in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOffset {
    /// The record's offset; at the end that of the next one.
    pub offset: i64,
    /// The record's timestamp in milliseconds since 1970, where a record was asked for by time.
    pub timestamp_ms: Option<i64>,
    /// The epoch of the leader that wrote there, where the broker tells (from Kafka 2.1 on).
    pub leader_epoch: Option<i32>,
}

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the record before, where whoever committed told it (KIP-320).
    pub leader_epoch: Option<i32>,
    /// What was stored beside it; most often nothing.
    pub metadata: String,
}

/// How far behind a group is in one partition. What a consumer knows of its own, without asking, is a [`Lag`](crate::Lag).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionLag {
    /// `None`: the group has never committed anything here, or what it had is expired.
    pub committed: Option<CommittedOffset>,
    /// Where the partition ends.
    pub end: LogOffset,
}

/// How far behind a group is in all partitions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LagTotal {
    /// The sum over the partitions whose lag is known.
    pub records: i64,
    /// How many partitions count for nothing in it, because the group has never committed there.
    pub never_committed: usize,
    /// How many partitions, or whole topics, count for nothing in it, because there is an error instead of an answer.
    pub failed: usize,
}

impl<T> PerPartition<T> {
    /// Returns the answers, if every partition has one.
    ///
    /// # Errors
    ///
    /// The first of the errors, if there is one.
    pub fn all(self) -> Result<BTreeMap<TopicPartition, T>, OffsetsError> {
        match self.errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(self.found),
        }
    }
}

impl PerPartition<LogOffset> {
    /// Of something that every partition has.
    pub(super) fn whole(found: Found) -> Self {
        let listed = found.listed.into_iter().filter_map(|(partition, listed)| Some((partition, log_offset(listed?))));
        Self { found: listed.collect(), errors: found.errors }
    }
}

impl PerPartition<Option<LogOffset>> {
    pub(super) fn sought(found: Found) -> Self {
        let listed = found.listed.into_iter().map(|(partition, listed)| (partition, listed.map(log_offset)));
        Self { found: listed.collect(), errors: found.errors }
    }
}

impl PerPartition<CommittedOffset> {
    pub(super) fn committed(found: Found) -> Self {
        let committed = found.committed.into_iter().map(|(partition, commit)| (partition, committed_offset(commit)));
        Self { found: committed.collect(), errors: found.errors }
    }
}

impl PerPartition<PartitionLag> {
    pub(super) fn lag(mut found: Found) -> Self {
        let lag = |(partition, listed): (TopicPartition, Option<Listed>)| {
            let committed = found.committed.remove(&partition).map(committed_offset);
            Some((partition, PartitionLag { committed, end: log_offset(listed?) }))
        };
        Self { found: found.listed.into_iter().filter_map(lag).collect(), errors: found.errors }
    }

    /// Adds up what is known, and counts what is not.
    pub fn total(&self) -> LagTotal {
        let known = self.found.values().filter_map(PartitionLag::records);
        LagTotal {
            records: known.fold(0, i64::saturating_add),
            never_committed: self.found.values().filter(|lag| lag.committed.is_none()).count(),
            failed: self.errors.len(),
        }
    }
}

impl PartitionLag {
    /// Returns how many offsets lie between what is committed and the end; `None`: nothing was ever committed.
    ///
    /// None lie there, too, where what is committed is beyond the end, as after the topic was made anew: compare the two.
    pub fn records(&self) -> Option<i64> {
        let committed = self.committed.as_ref()?;
        Some(self.end.offset.saturating_sub(committed.offset).max(0))
    }
}

fn log_offset(Listed { position, timestamp_ms }: Listed) -> LogOffset {
    let leader_epoch = position.leader_epoch.map(|epoch| epoch.0);
    LogOffset { offset: position.offset.0, timestamp_ms, leader_epoch }
}

fn committed_offset(Commit { position, metadata }: Commit) -> CommittedOffset {
    let leader_epoch = position.leader_epoch.map(|epoch| epoch.0);
    CommittedOffset { offset: position.offset.0, leader_epoch, metadata: metadata.as_deref().unwrap_or_default().to_owned() }
}
