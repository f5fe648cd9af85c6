//! The range assignor: each topic on its own, in consecutive runs; where racks matter, what is near first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Assignment, Assignor, GroupView, MemberOrder,
    racks::{self, Deal, Room, names},
};
use crate::model::TopicPartition;

/// Gives each member a consecutive run of every topic's partitions (Java: `RangeAssignor`, the default there).
///
/// Partition `n` of two topics with as many partitions and the same subscribers goes to the same member, so records with equal keys
/// meet. The price: with many topics of few partitions, the first members get more than the last.
///
/// Where members say in which rack they are (Java: `client.rack`), and not all partitions of a topic have replicas in the same racks, each
/// member first gets partitions with a replica in its rack (KIP-881); of topics whose partitions belong together, those with one in each. Then
/// the others are shared out in runs. Whoever has no rack takes what comes. Of a topic, no member gets more than one partition more than
/// another, with or without racks.
///
/// Members stand in the order of their `group.instance.id`, static ones first, then of their member id. Makes the same choices as the
/// Java client, from Kafka 3.5 on where there are racks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        let members = MemberOrder::of(group);
        by_racks(group, &members).unwrap_or_else(|| in_runs(group, &members))
    }
}

fn in_runs(group: &GroupView, members: &MemberOrder) -> Assignment {
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

fn share(partitions: i32, members: usize, nth: usize) -> i32 {
    let members = i32::try_from(members).expect("a group has fewer than 2^31 members");
    let extra = usize::try_from(partitions % members).is_ok_and(|extra| nth < extra);
    partitions / members + i32::from(extra)
}

/// `None` where racks do not matter.
fn by_racks(group: &GroupView, members: &MemberOrder) -> Option<Assignment> {
    if group.partition_racks.is_empty() || !members.have_racks() {
        return None;
    }
    let all = Together::all(group, members);
    // As in Java, topics that belong together are also dealt by racks if those of another topic matter.
    all.iter().any(|together| together.racks_matter).then_some(())?;
    let mut shares = vec![Vec::new(); members.len()];
    for together in all {
        for (partition, owner) in (0..).zip(together.owners(group)) {
            let Some(owner) = owner else { continue };
            let numbered = together.topics.iter().map(|&topic| TopicPartition::new(Arc::clone(topic), partition));
            shares[together.subscribers[owner]].extend(numbered);
        }
    }
    shares.iter_mut().for_each(|share| share.sort_unstable());
    Some(shares.into_iter().enumerate().map(|(place, share)| (members.id(place).clone(), share)).collect())
}

/// Topics with as many partitions and the same subscribers: who gets a partition of one gets it of all.
struct Together<'a> {
    topics: Vec<&'a Arc<str>>,
    partitions: i32,
    subscribers: Vec<usize>,
    /// The racks of the subscribers.
    members: Vec<Option<&'a str>>,
    racks_matter: bool,
}

impl<'a> Together<'a> {
    fn all(group: &'a GroupView, members: &MemberOrder<'a>) -> Vec<Self> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for (topic, partitions, subscribers) in members.subscribers(group).filter(|(_, _, subscribers)| !subscribers.is_empty()) {
            all.entry((subscribers, partitions)).or_default().push(topic);
        }
        let together = |((subscribers, partitions), topics): ((Vec<usize>, i32), Vec<&'a Arc<str>>)| {
            let members: Vec<_> = subscribers.iter().map(|&place| members.rack(place)).collect();
            let near: BTreeSet<&str> = members.iter().copied().flatten().collect();
            let racks_matter = topics.iter().any(|topic| racks::matter(&near, group.topic_racks(topic, partitions)));
            Self { topics, partitions, subscribers, members, racks_matter }
        };
        all.into_iter().map(together).collect()
    }

    /// Which subscriber gets each partition.
    fn owners(&self, group: &GroupView) -> Vec<Option<usize>> {
        let partitions = self.racks_in_common(group);
        let (members, count) = (self.members.len(), partitions.len());
        let room = Room::new(vec![count / members; members], vec![true; members], count % members);
        let mut deal = Deal::new(&self.members, &partitions, room);
        // The two differ in who gets one more; and in that the Java client chooses so.
        match self.topics[..] {
            [_] if self.racks_matter => deal.by_member(0..members, 0..count),
            [_] => {}
            _ => deal.by_partition(),
        }
        deal.rest()
    }

    /// The racks in which the partitions of this number have replicas in every topic.
    fn racks_in_common<'g>(&self, group: &'g GroupView) -> Vec<Vec<&'g str>> {
        let of = |topic: &str| group.topic_racks(topic, self.partitions);
        let mut common: Vec<Vec<&str>> = of(self.topics[0]).map(|racks| names(racks).collect()).collect();
        for topic in &self.topics[1..] {
            for (common, racks) in common.iter_mut().zip(of(topic)) {
                common.retain(|rack| racks.binary_search_by(|other| (**other).cmp(rack)).is_ok());
            }
        }
        common
    }
}
