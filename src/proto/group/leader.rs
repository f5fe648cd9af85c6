//! What a group's leader does for the others: learn who wants what, assign, and notice when the assignment no longer fits the topics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::claims::Claims;
use crate::{
    assignor::{self, Assignor, GroupView, MemberView, RebalanceProtocol},
    model::{Racks, TopicPartition, is_topic_name},
    proto::{ClusterView, TopicView},
    wire::{ErrorCode, JoinedMember, Subscription, encode_assignment},
};

/// How many topics all members together may want.
const TOPICS_MAX: usize = 1_000_000;

/// What the newest metadata told of each topic; `None` for one that does not exist, or not for us.
///
/// A topic that is not in it was not told about, or only that it cannot be told about just now.
#[derive(Debug, Default)]
pub(super) struct Topics(BTreeMap<Arc<str>, Option<Topic>>);

/// What an assignment depends on.
#[derive(Clone, Debug, PartialEq)]
struct Topic {
    partitions: i32,
    /// By partition; shared, because each view of the cluster and each assignment has them.
    racks: Arc<[Racks]>,
}

impl Topics {
    pub(super) fn of(view: &ClusterView) -> Self {
        let settled = view.topics.iter().filter(|(_, topic)| is_settled(topic.error));
        Self(settled.map(|(name, topic)| (Arc::clone(name), Topic::of(topic))).collect())
    }

    pub(super) fn tell_all(&self, topics: &BTreeSet<Arc<str>>) -> bool {
        topics.iter().all(|topic| self.0.contains_key(topic))
    }
}

/// Whether metadata with this error says something about the topic, rather than about a bad moment.
fn is_settled(error: ErrorCode) -> bool {
    !matches!(
        error,
        ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::UNKNOWN_SERVER_ERROR
    )
}

impl Topic {
    fn of(topic: &TopicView) -> Option<Self> {
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let racks = || topic.partitions.iter().map(|partition| Racks::clone(&partition.racks)).collect();
        (topic.error == ErrorCode::NONE && partitions > 0).then(|| Self { partitions, racks: racks() })
    }
}

/// The members of one generation, as JoinGroup told the leader.
#[derive(Debug)]
pub(super) struct Roster {
    members: BTreeMap<Arc<str>, MemberView>,
    claims: Claims,
}

impl Roster {
    /// Reads every member's subscription, as members of this assignor write it. Of one that cannot be read it also says why: such a member
    /// gets nothing, for the others must not stand still because of it.
    pub(super) fn read(members: &[JoinedMember], assignor: &dyn Assignor) -> (Self, Vec<String>) {
        Self::read_within(members, assignor, TOPICS_MAX)
    }

    fn read_within(members: &[JoinedMember], assignor: &dyn Assignor, topics_max: usize) -> (Self, Vec<String>) {
        let (mut unreadable, mut claims) = (Vec::new(), Claims::default());
        // Members of a group mostly want the same: a name is kept once, not once for each of them.
        let mut names = BTreeSet::new();
        let mut read = |member: &JoinedMember| {
            let subscription = Subscription::decode(&member.metadata).unwrap_or_else(|error| {
                unreadable.push(format!("the subscription of member {} cannot be read: {error}", member.member_id));
                Subscription::default()
            });
            if let Err(error) = claims.hear(&member.member_id, &subscription, assignor) {
                unreadable.push(format!("what member {} holds cannot be read: {error}", member.member_id));
            }
            let topics = share_names(subscription.topics, &mut names, topics_max).unwrap_or_else(|| {
                let what = "with its topics, the group's members want more than";
                unreadable.push(format!("the subscription of member {} is left out: {what} {topics_max}", member.member_id));
                Vec::new()
            });
            // Some clients' word for no rack is an empty one.
            let rack = subscription.rack.filter(|rack| !rack.is_empty());
            MemberView { instance_id: member.instance_id.clone(), topics, rack, owned: Vec::new() }
        };
        let mut members: BTreeMap<_, _> = members.iter().map(|member| (Arc::clone(&member.member_id), read(member))).collect();
        for (partition, member_id) in claims.undisputed() {
            if let Some(member) = members.get_mut(member_id) {
                member.owned.push(partition.clone());
            }
        }
        (Self { members, claims }, unreadable)
    }

    /// Whether some member says in which rack it is.
    pub(super) fn has_racks(&self) -> bool {
        self.members.values().any(|member| member.rack.is_some())
    }

    /// Every topic that some member wants.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.members.values().flat_map(|member| member.topics.iter().cloned()).collect()
    }
}

/// Sorts what one member wants, each topic once and under the one name that all members share; `None` if there are too many of those.
fn share_names(topics: Vec<Arc<str>>, names: &mut BTreeSet<Arc<str>>, topics_max: usize) -> Option<Vec<Arc<str>>> {
    let mut shared = BTreeSet::new();
    // No topic has an impossible name, and nobody should be asked for one.
    for topic in topics.into_iter().filter(|topic| is_topic_name(topic)) {
        match names.get(&topic) {
            Some(name) => shared.insert(Arc::clone(name)),
            None if names.len() < topics_max => names.insert(Arc::clone(&topic)) && shared.insert(topic),
            None => return None,
        };
    }
    Some(shared.into_iter().collect())
}

/// The topics that an assignment was made for.
#[derive(Debug)]
pub(super) struct Snapshot {
    topics: BTreeMap<Arc<str>, Option<Topic>>,
    /// Some member is in a rack. To the others it is all the same where replicas are.
    minds_racks: bool,
}

impl Snapshot {
    pub(super) fn take(wanted: impl IntoIterator<Item = Arc<str>>, topics: &Topics, minds_racks: bool) -> Self {
        let known = |topic: Arc<str>| {
            let known = topics.0.get(&topic).cloned().flatten();
            (topic, known)
        };
        Self { topics: wanted.into_iter().map(known).collect(), minds_racks }
    }

    /// What is different by now, if something is.
    pub(super) fn change(&self, topics: &Topics) -> Option<String> {
        self.topics.iter().find_map(|(topic, then)| match (then, topics.0.get(topic)?) {
            (None, Some(now)) => Some(format!("topic {topic} now exists, with {} partitions", now.partitions)),
            (Some(_), None) => Some(format!("topic {topic} no longer exists")),
            (Some(then), Some(now)) if then.partitions != now.partitions => {
                Some(format!("topic {topic} has {} partitions instead of {}", now.partitions, then.partitions))
            }
            (Some(then), Some(now)) if self.minds_racks && then.racks != now.racks => {
                Some(format!("replicas of topic {topic} are in other racks than was known"))
            }
            _ => None,
        })
    }
}

/// An assignment that was checked.
#[derive(Debug)]
pub(super) struct Plan(assignor::Assignment);

impl Plan {
    /// Runs the assignor. Of a cooperative one's assignment, what somebody else still holds is given to nobody yet: its member learns by that
    /// to let go, and joins again when it has.
    ///
    /// # Errors
    ///
    /// What is wrong with its assignment.
    pub(super) fn make(assignor: &dyn Assignor, roster: &Roster, snapshot: &Snapshot) -> Result<Self, String> {
        let topics = || snapshot.topics.iter().filter_map(|(name, topic)| Some((Arc::clone(name), topic.as_ref()?)));
        let racks = topics().filter(|_| snapshot.minds_racks).map(|(name, topic)| (name, topic.racks.to_vec()));
        let group = GroupView {
            members: roster.members.clone(),
            partition_counts: topics().map(|(name, topic)| (name, topic.partitions)).collect(),
            partition_racks: racks.collect(),
        };
        let mut assignment = assignor.assign(&group);
        assignor::check(&group, &assignment)?;
        if assignor.protocol() == RebalanceProtocol::Cooperative {
            for (member_id, partitions) in &mut assignment {
                partitions.retain(|partition| !roster.claims.is_held_by_others(partition, member_id));
            }
        }
        for member_id in group.members.into_keys() {
            assignment.entry(member_id).or_default();
        }
        Ok(Self(assignment))
    }

    /// One blob for every member.
    pub(super) fn encode(&self) -> Vec<(Arc<str>, Bytes)> {
        self.0.iter().map(|(member_id, partitions)| (Arc::clone(member_id), encode_assignment(partitions, None))).collect()
    }

    /// What one member gets, sorted.
    pub(super) fn share(&self, member_id: &str) -> Vec<TopicPartition> {
        let mut share = self.0.get(member_id).cloned().unwrap_or_default();
        share.sort_unstable();
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignor::Range;

    fn member(id: &str, topics: &[&str]) -> JoinedMember {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        let metadata = Subscription { topics, ..Subscription::default() }.encode();
        JoinedMember { member_id: id.into(), instance_id: None, metadata }
    }

    fn names(topics: &[Arc<str>]) -> Vec<&str> {
        topics.iter().map(|topic| &**topic).collect()
    }

    #[test]
    fn what_several_members_want_is_kept_once() {
        let (Roster { members, .. }, unreadable) = Roster::read(&[member("a", &["t", "t", "u"]), member("b", &["t"])], &Range);
        assert_eq!((names(&members["a"].topics), names(&members["b"].topics)), (vec!["t", "u"], vec!["t"]));
        assert!(Arc::ptr_eq(&members["a"].topics[0], &members["b"].topics[0]));
        assert_eq!(unreadable, Vec::<String>::new());
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_never_asked_for() {
        let long = "x".repeat(250);
        let (roster, unreadable) = Roster::read(&[member("a", &["", ".", "..", "a b", "é", &long, &long[1..], "fine"])], &Range);
        assert_eq!(roster.topics().iter().map(|topic| topic.len()).collect::<Vec<_>>(), [4, 249]);
        assert_eq!(unreadable, Vec::<String>::new());
    }

    #[test]
    fn members_who_want_too_many_topics_in_all_get_nothing_and_the_others_what_they_want() {
        let members = [member("a", &["t", "u"]), member("b", &["v", "w"]), member("c", &["u", "v"])];
        let (Roster { members: read, .. }, unreadable) = Roster::read_within(&members, &Range, 4);
        assert_eq!((read["b"].topics.len(), unreadable.len()), (2, 0), "exactly as many as are allowed");
        let (Roster { members: read, .. }, unreadable) = Roster::read_within(&members, &Range, 3);
        assert_eq!(["a", "b", "c"].map(|id| read[id].topics.len()), [2, 0, 2]);
        let what = "the subscription of member b is left out: with its topics, the group's members want more than 3";
        assert_eq!(unreadable, [what]);
    }
}
