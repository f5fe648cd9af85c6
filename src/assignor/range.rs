//! The range assignor: each topic on its own, in consecutive runs.

use super::{Assignment, Assignor, GroupView, MemberOrder};
use crate::model::TopicPartition;

/// Gives each member a consecutive run of every topic's partitions (Java: `RangeAssignor`, the default there).
///
/// Partition `n` of two topics with as many partitions and the same subscribers goes to the same member, so records with equal keys
/// meet. The price: with many topics of few partitions, the first members get more than the last.
///
/// Members stand in the order of their `group.instance.id`, static ones first, then of their member id. Makes the same choices as the
/// Java client does when no racks are configured; racks (KIP-881) are not taken into account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        let members = MemberOrder::of(group);
        let mut assignment = members.empty_assignment();
        for (topic, partitions, subscribers) in members.subscribers(group) {
            let mut next = 0;
            // Where there are fewer partitions than subscribers, the last get nothing.
            for (nth, &place) in subscribers.iter().enumerate().take(usize::try_from(partitions).unwrap_or(0)) {
                // The first `partitions % subscribers` members take one more.
                let share = share(partitions, subscribers.len(), nth);
                let run = (next..next + share).map(|partition| TopicPartition::new(topic.clone(), partition));
                assignment.entry(members.id(place).clone()).or_default().extend(run);
                next += share;
            }
        }
        assignment
    }
}

fn share(partitions: i32, members: usize, nth: usize) -> i32 {
    let members = i32::try_from(members).expect("a group has fewer than 2^31 members");
    let extra = usize::try_from(partitions % members).is_ok_and(|extra| nth < extra);
    partitions / members + i32::from(extra)
}
