//! The nouns that every layer shares: no I/O, and no logic but what a name may be.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Names one partition of one topic.
///
/// Cheap to clone: the topic's name is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// Returns the topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the partition's number, counted from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    pub(crate) fn shared_topic(&self) -> &Arc<str> {
        &self.topic
    }
}

/// A topic's name, and the partition's number.
impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

impl From<&Self> for TopicPartition {
    fn from(partition: &Self) -> Self {
        partition.clone()
    }
}

/// The racks in which a partition has replicas (Java: `broker.rack` of their brokers), sorted, each once; none where no broker tells its rack.
///
/// Cheap to clone: partitions with replicas in the same racks share one.
pub type Racks = Arc<[Arc<str>]>;

/// What a question about offsets is about: a topic with all its partitions, or one partition.
///
/// Made of a topic's name or of a [`TopicPartition`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TopicOrPartition {
    /// All partitions that the topic has.
    Topic(Arc<str>),
    /// This one.
    Partition(TopicPartition),
}

impl From<&str> for TopicOrPartition {
    fn from(topic: &str) -> Self {
        Self::Topic(topic.into())
    }
}

impl From<&String> for TopicOrPartition {
    fn from(topic: &String) -> Self {
        Self::Topic(topic.as_str().into())
    }
}

impl From<String> for TopicOrPartition {
    fn from(topic: String) -> Self {
        Self::Topic(topic.into())
    }
}

impl From<Arc<str>> for TopicOrPartition {
    fn from(topic: Arc<str>) -> Self {
        Self::Topic(topic)
    }
}

impl From<TopicPartition> for TopicOrPartition {
    fn from(partition: TopicPartition) -> Self {
        Self::Partition(partition)
    }
}

impl From<&TopicPartition> for TopicOrPartition {
    fn from(partition: &TopicPartition) -> Self {
        Self::Partition(partition.clone())
    }
}

/// Says that a topic cannot have this name, for the text of an error.
pub(crate) fn no_topic_name(name: &str) -> String {
    format!(r#"{name:?} is no topic name: 1 to 249 of the characters a-z A-Z 0-9 . _ -, and not "." or "..""#)
}

/// Says whether a topic can have this name: Kafka's own rule.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An offset of a record in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Offset(pub(crate) i64);

/// The epoch of a partition's leader; grows with each election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LeaderEpoch(pub(crate) i32);

/// The group's generation; grows with each completed rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub(crate) i32);

impl Generation {
    /// No generation: the member is not (or no longer) part of one.
    pub(crate) const NONE: Self = Self(-1);
}

/// How a member takes part in its group (Java: `group.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup: one of the members assigns, with an assignor of the client's. Every broker speaks it.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848): the coordinator assigns, and leads each member to its assignment on its own. From Kafka 4.0 on.
    Consumer,
    /// The new protocol where broker and group allow it when the member joins, and the classic one elsewhere; found out anew when the
    /// coordinator says that the group is of the other. A group of classic members is converted by it, where the broker's `group.consumer.migration.policy` says so, as it does unless it is changed.
    #[default]
    Auto,
}

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BrokerId(pub(crate) i32);

/// A topic's id (KIP-516): another one after the topic was deleted and made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(crate) [u8; 16]);

/// As Kafka's own tools show it.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Where to go on in a partition: the offset of the *next* record, and the leader epoch of the one before it, where known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}
