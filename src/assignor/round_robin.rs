//! The round-robin assignor: all partitions of all topics, dealt in turn.

use super::{Assignment, Assignor, GroupView, MemberOrder};
use crate::model::TopicPartition;

/// Deals the partitions of all topics to the members in turn (Java: `RoundRobinAssignor`).
///
/// Where all members subscribe to the same topics, no two differ by more than one partition. A member that did not subscribe to a topic
/// is passed over, so with different subscriptions the shares may be uneven.
///
/// Members stand in the order of their `group.instance.id`, static ones first, then of their member id. Makes the same choices as the
/// Java client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        let members = MemberOrder::of(group);
        let mut assignment = members.empty_assignment();
        let mut turn = 0;
        for (topic, &partitions) in &group.partition_counts {
            if !(0..members.len()).any(|place| members.is_subscribed(place, topic)) {
                continue;
            }
            for partition in 0..partitions {
                while !members.is_subscribed(turn, topic) {
                    turn = (turn + 1) % members.len();
                }
                let member = members.id(turn).clone();
                assignment.entry(member).or_default().push(TopicPartition::new(topic.clone(), partition));
                turn = (turn + 1) % members.len();
            }
        }
        assignment
    }
}
