//! Assignors: who of a group's members gets which partition.
//!
//! An assignor is a pure function of the group's subscriptions and the topics' partition counts. The broker picks one assignor
//! that all members know, and the group's leader computes the assignment with it.

mod balance;
mod racks;
mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

pub use range::Range;
pub use round_robin::RoundRobin;
pub use sticky::{CooperativeSticky, Sticky};

use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

use crate::model::{Racks, TopicPartition};

/// Decides which member of a group gets which partition.
///
/// The same input must give the same answer, whatever the machine, the time and the order of calls: no clocks, no randomness.
pub trait Assignor: fmt::Debug + Send + Sync + 'static {
    /// Returns the name by which members of a group agree on an assignor (Java: the entries of `partition.assignment.strategy`
    /// name classes with these names, such as `range`).
    fn name(&self) -> &str;

    /// Says what members hand back before they join. Eager, if nothing else is said.
    ///
    /// A member that offers several assignors hands back as little as all of them allow (as in Java: cooperative only if each of them is).
    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    /// Whether members shall tell what they hold, or held last, for [`MemberView::owned`]. No, if nothing else is said.
    ///
    /// Eager members tell it in the form of Java's `StickyAssignor`, cooperative ones in the subscription itself.
    fn is_sticky(&self) -> bool {
        false
    }

    /// Assigns every partition of every topic in `group` to one of the members that subscribed to the topic.
    ///
    /// A partition given to nobody is not read. A partition given to two members, or to one that did not subscribe to its topic,
    /// is refused by the caller, and the rebalance is reported as failed. A member that is left out gets nothing.
    ///
    /// A cooperative assignor need not wait for a partition's former member: the caller withholds what somebody else still holds, until
    /// that member has let go of it.
    ///
    /// Is called on the task that also keeps the group alive: it should take milliseconds, not seconds.
    fn assign(&self, group: &GroupView) -> Assignment;
}

/// What members hand back before they join their group again (Java: `ConsumerPartitionAssignor.RebalanceProtocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceProtocol {
    /// Everything.
    Eager,
    /// Nothing (KIP-429). What another member gets is handed back once the assignment is known, and given away in a second rebalance.
    Cooperative,
}

/// What the leader of a group knows when it assigns.
///
/// More fields may come: in your tests, end one with `..GroupView::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// The members by member id.
    pub members: BTreeMap<Arc<str>, MemberView>,
    /// The number of partitions of each topic that some member subscribed to and that exists.
    pub partition_counts: BTreeMap<Arc<str>, i32>,
    /// Where the replicas of these topics' partitions are, by partition number (KIP-881). Empty where no member says in which rack it is: the
    /// leader then does not look at racks, and where some member does, the group rebalances when they change.
    pub partition_racks: BTreeMap<Arc<str>, Vec<Racks>>,
}

impl GroupView {
    /// Returns the racks in which a partition has replicas; none where they are not known.
    pub fn racks(&self, partition: &TopicPartition) -> &[Arc<str>] {
        let known = self.partition_racks.get(partition.topic());
        known.and_then(|racks| racks.get(usize::try_from(partition.partition()).ok()?)).map_or(&[], |racks| racks)
    }

    /// The racks of each of a topic's partitions; none where they are not known.
    fn topic_racks<'g>(&'g self, topic: &str, partitions: i32) -> impl Iterator<Item = &'g [Arc<str>]> + Clone + use<'g> {
        let known = self.partition_racks.get(topic).map_or(&[][..], |racks| racks);
        (0..usize::try_from(partitions).unwrap_or(0)).map(move |partition| known.get(partition).map_or(&[][..], |racks| racks))
    }
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
    /// What the member holds, or held last, sorted; told for sticky assignors only. Of claims that contradict each other only the one of the
    /// newest generation counts, and none of two from the same generation; so no partition is in two members' lists.
    pub owned: Vec<TopicPartition>,
}

impl MemberView {
    fn is_subscribed(&self, topic: &str) -> bool {
        self.topics.binary_search_by(|subscribed| (**subscribed).cmp(topic)).is_ok()
    }
}

/// The partitions of each member, by member id.
pub type Assignment = BTreeMap<Arc<str>, Vec<TopicPartition>>;

/// Says what is wrong with an assignment, if something is: an assignor may be the user's own, and what it gives away twice would be
/// read twice.
pub(crate) fn check(group: &GroupView, assignment: &Assignment) -> Result<(), String> {
    let mut given = BTreeMap::new();
    for (member_id, partitions) in assignment {
        let Some(member) = group.members.get(member_id) else {
            return Err(format!("it names member {member_id}, which is not in the group"));
        };
        for partition in partitions {
            if !member.is_subscribed(partition.topic()) {
                return Err(format!("it gives {partition} to member {member_id}, which did not subscribe to that topic"));
            }
            let count = group.partition_counts.get(partition.topic()).copied().unwrap_or(0);
            if !(0..count).contains(&partition.partition()) {
                return Err(format!("it gives {partition} to member {member_id}, but the topic has {count} partitions"));
            }
            if let Some(other) = given.insert(partition, member_id) {
                return Err(match other == member_id {
                    true => format!("it gives {partition} to member {member_id} twice"),
                    false => format!("it gives {partition} both to member {other} and to member {member_id}"),
                });
            }
        }
    }
    Ok(())
}

/// The members in the order in which the Java client's assignors go through them: static ones first, by instance id, then the others,
/// by member id.
struct MemberOrder<'a>(Vec<(&'a Arc<str>, &'a MemberView)>);

impl<'a> MemberOrder<'a> {
    fn of(group: &'a GroupView) -> Self {
        let mut members: Vec<_> = group.members.iter().collect();
        members.sort_by(|(a_id, a), (b_id, b)| match (&a.instance_id, &b.instance_id) {
            (Some(a), Some(b)) => java_order(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => java_order(a_id, b_id),
        });
        Self(members)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn id(&self, place: usize) -> &'a Arc<str> {
        self.0[place].0
    }

    fn view(&self, place: usize) -> &'a MemberView {
        self.0[place].1
    }

    fn rack(&self, place: usize) -> Option<&'a str> {
        self.0[place].1.rack.as_deref()
    }

    fn is_near(&self, place: usize, racks: &[Arc<str>]) -> bool {
        self.rack(place).is_some_and(|rack| racks::names(racks).any(|other| other == rack))
    }

    fn have_racks(&self) -> bool {
        self.0.iter().any(|(_, member)| member.rack.is_some())
    }

    fn is_subscribed(&self, place: usize, topic: &str) -> bool {
        self.0[place].1.is_subscribed(topic)
    }

    /// Walks through the group's topics, with their partition counts and the places of the members that subscribed to each.
    ///
    /// All members side by side: to look each topic up with each of them takes seconds in a large group.
    fn subscribers(&self, group: &'a GroupView) -> impl Iterator<Item = (&'a Arc<str>, i32, Vec<usize>)> {
        let mut ahead: Vec<&[Arc<str>]> = self.0.iter().map(|(_, member)| &*member.topics).collect();
        group.partition_counts.iter().map(move |(topic, &partitions)| {
            let places = ahead.iter_mut().enumerate().filter_map(|(place, ahead)| {
                while let Some((next, rest)) = ahead.split_first().filter(|(next, _)| *next <= topic) {
                    *ahead = rest;
                    if next == topic {
                        return Some(place);
                    }
                }
                None
            });
            (topic, partitions, places.collect())
        })
    }

    /// An entry for every member, also for those that will get nothing.
    fn empty_assignment(&self) -> Assignment {
        self.0.iter().map(|(member_id, _)| (Arc::clone(member_id), Vec::new())).collect()
    }
}

/// Java compares strings by UTF-16 unit, Rust by byte. They differ where one string goes beyond the Basic Multilingual Plane, and a
/// member id begins with the client id, which may hold anything. (Topics and instance ids are ASCII.)
fn java_order(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}
