//! What a test does to topics and their logs, past all brokers.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Kafka,
    log::Producer,
    topics::{Partition, Topic, check_name, place},
};
use crate::record::{Record, StoredRecord};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its records count.
    Commit,
    /// Its records are as if they had never been written.
    Abort,
    /// It stays open: readers of committed records wait before it.
    Open,
}

/// How far a partition's log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offsets {
    /// The first offset that can be read.
    pub start: i64,
    /// Where the next record goes: the high watermark.
    pub end: i64,
    /// How far readers of committed records get.
    pub last_stable: i64,
}

/// Topics and their records, without a client. All of these panic if what they are asked about does not exist.
impl Kafka {
    /// Creates a topic, its partitions led by the brokers in turn, with up to three replicas each.
    pub fn create_topic(&mut self, name: &str, partitions: usize) -> Uuid {
        let replicas = place(&self.brokers, 0..partitions, None);
        self.create(name, &replicas, BTreeMap::new())
    }

    /// Creates a topic whose partitions have these replicas, the preferred leader of each first.
    pub fn create_topic_with(&mut self, name: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) -> Uuid {
        let replicas: Vec<Vec<i32>> = replicas.iter().map(|replicas| replicas.to_vec()).collect();
        let unknown = replicas.iter().flatten().find(|id| self.brokers.get(**id).is_none());
        assert_eq!(unknown, None, "no such broker");
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.create(name, &replicas, configs.collect())
    }

    fn create(&mut self, name: &str, replicas: &[Vec<i32>], configs: BTreeMap<String, String>) -> Uuid {
        assert!(!replicas.is_empty(), "a topic of no partitions");
        if let Err((_, why)) = check_name(&self.topics, name) {
            panic!("{why}");
        }
        let id = self.topics.create(name, replicas, configs, &self.brokers, &mut self.random);
        self.settle();
        id
    }

    /// Deletes a topic.
    pub fn delete_topic(&mut self, name: &str) {
        assert!(self.topics.remove(name).is_some(), "no topic {name}");
        self.groups.topic_deleted(super::context!(self), name);
        self.settle();
    }

    /// Adds so many partitions to a topic.
    pub fn add_partitions(&mut self, name: &str, count: usize) {
        let topic = topic(self.topics.get_mut(name), name);
        let had = topic.partitions.len();
        let factor = topic.partitions.first().map(|partition| partition.replicas.len());
        let replicas = place(&self.brokers, had..had + count, factor);
        topic.grow(&replicas, &self.brokers);
        self.settle();
    }

    /// Appends records as one batch, and says where the first one is.
    pub fn append<R: Into<Record>>(&mut self, topic: &str, partition: i32, records: impl IntoIterator<Item = R>) -> i64 {
        let now_ms = self.unix_ms();
        self.change(topic, partition, |partition| partition.log.append(records.into_iter().map(Into::into), now_ms))
    }

    /// Appends records as a transaction of a producer of its own, and says where the first one is.
    pub fn append_transaction<R: Into<Record>>(
        &mut self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = R>,
        outcome: Outcome,
    ) -> i64 {
        let now_ms = self.unix_ms();
        let producer = Producer { id: self.transactions.new_producer_id(), epoch: 0 };
        self.change(topic, partition, |partition| {
            let base_offset = partition.log.append_in_transaction(producer, records.into_iter().map(Into::into), now_ms);
            if let Some(is_committed) = outcome.is_committed() {
                partition.log.end_transaction(producer, is_committed, 0, now_ms);
            }
            base_offset
        })
    }

    /// Ends all transactions that are open in a partition, and says how many they were.
    pub fn end_open_transactions(&mut self, topic: &str, partition: i32, outcome: Outcome) -> usize {
        let now_ms = self.unix_ms();
        self.change(topic, partition, |partition| {
            let open = partition.log.open();
            if let Some(is_committed) = outcome.is_committed() {
                for producer in &open {
                    partition.log.end_transaction(*producer, is_committed, 0, now_ms);
                }
            }
            open.len()
        })
    }

    /// Appends bytes as one batch, sound or not; only base offset and leader epoch are set. Its last offset is what it claims.
    pub fn append_raw(&mut self, topic: &str, partition: i32, batch: impl Into<Bytes>) -> i64 {
        self.change(topic, partition, |partition| partition.log.append_raw(batch.into()))
    }

    /// Appends records as a batch whose checksum is wrong, and says where the first one would be.
    pub fn append_corrupt<R: Into<Record>>(&mut self, topic: &str, partition: i32, records: impl IntoIterator<Item = R>) -> i64 {
        let now_ms = self.unix_ms();
        self.change(topic, partition, |partition| partition.log.append_corrupt(records.into_iter().map(Into::into), now_ms))
    }

    /// Reads all records that a reader of committed records would be given. Broken batches are left out; a compressed one panics.
    #[must_use]
    pub fn records(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        found(self.topics.partition(topic, partition), topic, partition).log.visible()
    }

    /// Says how far a partition's log reaches.
    #[must_use]
    pub fn offsets(&self, topic: &str, partition: i32) -> Offsets {
        let log = &found(self.topics.partition(topic, partition), topic, partition).log;
        Offsets { start: log.start(), end: log.end(), last_stable: log.last_stable() }
    }

    /// Moves the start of a log up to an offset, as retention does.
    pub fn delete_records(&mut self, topic: &str, partition: i32, before: i64) {
        self.change(topic, partition, |partition| partition.log.delete_before(before));
    }

    /// Compacts a log up to its last stable offset: the last record of each key stays, and tombstones if they are not to be dropped.
    pub fn compact(&mut self, topic: &str, partition: i32, are_tombstones_dropped: bool) {
        self.change(topic, partition, |partition| partition.log.compact(are_tombstones_dropped));
    }

    /// Loses what is from an offset on, back to where a batch begins, as an unclean election does: the leader epoch goes up. Says where
    /// the log ends now.
    pub fn truncate(&mut self, topic: &str, partition: i32, end: i64) -> i64 {
        self.change(topic, partition, |partition| {
            partition.log.truncate(end);
            partition.elect(partition.leader);
            partition.log.end()
        })
    }

    /// Says which broker leads a partition.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        found(self.topics.partition(topic, partition), topic, partition).leader
    }

    /// Makes another broker the leader of a partition; or none, for as long as none is elected.
    pub fn elect(&mut self, topic: &str, partition: i32, leader: impl Into<Option<i32>>) {
        let leader = leader.into();
        self.change(topic, partition, |found| {
            let is_replica = leader.is_none_or(|leader| found.replicas.contains(&leader));
            assert!(is_replica, "broker {leader:?} has no replica of {topic}-{partition}: {:?} have", found.replicas);
            found.elect(leader);
        });
    }

    /// Lets the followers' copies of a log end here; with `None` they keep up again.
    pub fn hold_followers(&mut self, topic: &str, partition: i32, end: Option<i64>) {
        self.change(topic, partition, |partition| partition.follower_end = end);
    }

    /// Forgets the fetch sessions of a broker, as its restart does.
    pub fn forget_fetch_sessions(&mut self, broker: i32) {
        self.fetches.forget_sessions(broker);
    }

    fn change<T>(&mut self, topic: &str, number: i32, act: impl FnOnce(&mut Partition) -> T) -> T {
        let done = act(found(self.topics.partition_mut(topic, number), topic, number));
        self.settle();
        done
    }

    fn unix_ms(&self) -> i64 {
        self.clock.unix_ms(self.now)
    }
}

impl Outcome {
    fn is_committed(self) -> Option<bool> {
        match self {
            Self::Commit => Some(true),
            Self::Abort => Some(false),
            Self::Open => None,
        }
    }
}

fn topic<'a>(topic: Option<&'a mut Topic>, name: &str) -> &'a mut Topic {
    topic.unwrap_or_else(|| panic!("no topic {name}"))
}

fn found<T>(partition: Option<T>, topic: &str, number: i32) -> T {
    partition.unwrap_or_else(|| panic!("no partition {topic}-{number}"))
}
