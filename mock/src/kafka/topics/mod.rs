//! Topics, their partitions, and who leads them.

mod admin;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::{Context, broker::Brokers, log::Log, random::Random};

pub(super) use admin::{create_partitions, create_topics, delete_topics};

const DEFAULT_REPLICATION_FACTOR: usize = 3;
const NAME_CHARS_MAX: usize = 249;

/// All topics of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
    /// Goes up whenever anything may have changed: who waits for a change looks only then.
    changes: u64,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
    /// As `topic configs` say: `cleanup.policy`, `retention.ms` and their like.
    pub(crate) configs: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Partition {
    /// The brokers that have it, the preferred leader first.
    pub(crate) replicas: Vec<i32>,
    /// `None` while no replica is alive.
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) log: Log,
    /// Where the followers' copies end; `None` while they keep up.
    pub(crate) follower_end: Option<i64>,
}

impl Topics {
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// How many partitions there are.
    pub(crate) fn partitions(&self) -> usize {
        self.by_name.values().map(|topic| topic.partitions.len()).sum()
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.changes += 1;
        self.by_name.get_mut(name)
    }

    pub(crate) fn partition(&self, name: &str, number: i32) -> Option<&Partition> {
        self.get(name)?.partitions.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, name: &str, number: i32) -> Option<&mut Partition> {
        self.get_mut(name)?.partitions.get_mut(usize::try_from(number).ok()?)
    }

    /// Finds the partition for a request that only its leader may serve. `current_leader_epoch` is the epoch that the client knows,
    /// or -1.
    pub(crate) fn leads(
        &self,
        name: &str,
        number: i32,
        broker: i32,
        current_leader_epoch: i32,
    ) -> Result<&Partition, ResponseError> {
        let partition = self.has_replica(name, number, broker, current_leader_epoch)?;
        if partition.leader == Some(broker) { Ok(partition) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// Finds the partition for a request that any of its replicas may serve.
    pub(crate) fn has_replica(
        &self,
        name: &str,
        number: i32,
        broker: i32,
        current_leader_epoch: i32,
    ) -> Result<&Partition, ResponseError> {
        let partition = self.partition(name, number).ok_or(ResponseError::UnknownTopicOrPartition)?;
        if !partition.replicas.contains(&broker) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        match current_leader_epoch {
            ..=-1 => Ok(partition),
            older if older < partition.leader_epoch => Err(ResponseError::FencedLeaderEpoch),
            newer if newer > partition.leader_epoch => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(partition),
        }
    }

    /// Creates a topic whose partitions have these replicas, the first of each that is alive its leader.
    pub(crate) fn create(
        &mut self,
        name: &str,
        replicas: &[Vec<i32>],
        configs: BTreeMap<String, String>,
        brokers: &Brokers,
        random: &mut Random,
    ) -> Uuid {
        let id = random.uuid();
        let mut topic = Topic { id, partitions: Vec::new(), configs };
        topic.grow(replicas, brokers);
        self.insert(name, topic);
        id
    }

    pub(crate) fn insert(&mut self, name: &str, topic: Topic) {
        self.changes += 1;
        self.names.insert(topic.id, name.to_owned());
        self.by_name.insert(name.to_owned(), topic);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Topic> {
        self.changes += 1;
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }

    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// Goes through all topics by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.by_name.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Topic)> {
        self.changes += 1;
        self.by_name.iter_mut().map(|(name, topic)| (name.as_str(), topic))
    }

    /// Counts what may have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }
}

impl Topic {
    /// Adds partitions with these replicas.
    pub(crate) fn grow(&mut self, replicas: &[Vec<i32>], brokers: &Brokers) {
        let is_log_append_time = self.configs.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime");
        self.partitions.extend(replicas.iter().map(|replicas| Partition {
            leader: replicas.iter().copied().find(|id| brokers.accepts(*id)),
            replicas: replicas.clone(),
            leader_epoch: 0,
            log: Log::new(is_log_append_time),
            follower_end: None,
        }));
    }
}

impl Partition {
    /// Makes another broker the leader: the epoch goes up, and the log remembers where it began.
    pub(crate) fn elect(&mut self, leader: Option<i32>) {
        self.leader = leader;
        if leader.is_some() {
            self.leader_epoch += 1;
            self.log.begin_epoch(self.leader_epoch);
        }
    }
}

/// Creates a topic, led by the brokers in turn, if a topic may be called so.
pub(super) fn create(cx: &mut Context<'_>, name: &str, partitions: i32) {
    if check_name(cx.topics, name).is_ok() {
        let replicas = place(cx.brokers, 0..usize::try_from(partitions).unwrap_or(0), None);
        cx.topics.create(name, &replicas, BTreeMap::new(), cx.brokers, cx.random);
    }
}

/// Places partitions on the brokers in turn: of three brokers, partition 4 is on 2, 3, 1.
pub(crate) fn place(brokers: &Brokers, numbers: std::ops::Range<usize>, factor: Option<usize>) -> Vec<Vec<i32>> {
    let ids: Vec<_> = brokers.ids().collect();
    let factor = factor.unwrap_or(DEFAULT_REPLICATION_FACTOR).min(ids.len());
    let replicas = |number: usize| ids.iter().cycle().skip(number % ids.len()).take(factor).copied().collect();
    numbers.map(replicas).collect()
}

/// Says whether a topic could have this name.
pub(crate) fn is_legal(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=NAME_CHARS_MAX).contains(&name.len()) && !matches!(name, "." | "..") && name.chars().all(is_legal)
}

/// Says whether a new topic may be called so.
pub(crate) fn check_name(topics: &Topics, name: &str) -> Result<(), (ResponseError, String)> {
    if topics.get(name).is_some() {
        return Err((ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    let invalid = |why: String| Err((ResponseError::InvalidTopicException, why));
    if !is_legal(name) {
        return invalid(format!("Topic name '{name}' is illegal"));
    }
    // Metrics name both alike.
    match topics.iter().find(|(other, _)| other.replace('.', "_") == name.replace('.', "_")) {
        Some((other, _)) => invalid(format!("Topic '{name}' collides with existing topic: {other}")),
        None => Ok(()),
    }
}
