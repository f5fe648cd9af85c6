//! Assignors: who of a group's members gets which partition.
//!
//! An assignor is a pure function of the group's subscriptions and the topics' partition counts. The broker picks one assignor
//! that all members know, and the group's leader computes the assignment with it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::model::TopicPartition;

/// Decides which member of a group gets which partition.
///
/// The same input must give the same answer, whatever the machine, the time and the order of calls: no clocks, no randomness.
pub trait Assignor: fmt::Debug + Send + Sync + 'static {
    /// Returns the name by which members of a group agree on an assignor (Java: the entries of `partition.assignment.strategy`
    /// name classes with these names, such as `range`).
    fn name(&self) -> &str;

    /// Assigns every partition of every topic in `group` to one of the members that subscribed to the topic.
    ///
    /// A partition given to nobody is not read. A partition given to two members, or to one that did not subscribe to its topic,
    /// is refused by the caller, and the rebalance is reported as failed.
    fn assign(&self, group: &GroupView) -> Assignment;
}

/// What the leader of a group knows when it assigns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// The members by member id.
    pub members: BTreeMap<Arc<str>, MemberView>,
    /// The number of partitions of each topic that some member subscribed to and that exists.
    pub partition_counts: BTreeMap<Arc<str>, i32>,
}

/// What the leader knows of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberView {
    /// The static member's name (Java: `group.instance.id`, KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// The topics the member subscribed to, sorted, each once.
    pub topics: Vec<Arc<str>>,
    /// The rack the member says it is in (Java: `client.rack`, KIP-881).
    pub rack: Option<Arc<str>>,
}

/// The partitions of each member, by member id.
pub type Assignment = BTreeMap<Arc<str>, Vec<TopicPartition>>;
