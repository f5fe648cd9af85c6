//! What tests may look at in groups, and do to them.

use std::collections::BTreeMap;

use kafka_protocol::protocol::StrBytes;

use super::{
    Context, Groups, Members,
    classic::Member,
    consumer,
    embedded::{decode_assignment, partitions_of},
    text,
};

/// A member of a group, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberView {
    /// The member's id.
    pub member_id: String,
    /// What its client calls itself.
    pub client_id: String,
    /// The name of a static member.
    pub instance_id: Option<String>,
    /// Its partitions by topic and number, in order: in a classic group those that the leader gave it, in a consumer group those
    /// that it has now.
    pub assignment: Vec<(String, i32)>,
    /// Whether it assigns the partitions; nobody does in a consumer group.
    pub is_leader: bool,
}

impl Groups {
    /// Lists the ids of all groups.
    pub(in crate::kafka) fn groups(&self) -> Vec<String> {
        self.by_id.keys().cloned().collect()
    }

    /// Tells a group's committed offsets by topic and partition.
    pub(in crate::kafka) fn committed(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        let offsets = self.by_id.get(group).into_iter().flat_map(|group| group.offsets.iter());
        offsets.map(|(topic, number, offset)| ((topic.to_owned(), number), offset)).collect()
    }

    /// Tells who is in a group.
    pub(in crate::kafka) fn members(&self, group: &str) -> Vec<MemberView> {
        match self.by_id.get(group).map(|group| &group.members) {
            None => Vec::new(),
            Some(Members::Classic(classic)) => {
                classic.members().map(|member| view_classic(member, classic.is_leader(&member.id))).collect()
            }
            Some(Members::Consumer(consumer)) => consumer.members().map(|member| view_consumer(consumer, member)).collect(),
        }
    }

    /// Names a group's state as Kafka does.
    pub(in crate::kafka) fn state(&self, group: &str) -> Option<&'static str> {
        match &self.by_id.get(group)?.members {
            Members::Classic(classic) => Some(classic.state().name()),
            Members::Consumer(consumer) => Some(consumer.state()),
        }
    }

    /// Tells a group's generation, or epoch.
    pub(in crate::kafka) fn generation(&self, group: &str) -> Option<i32> {
        match &self.by_id.get(group)?.members {
            Members::Classic(classic) => Some(classic.generation()),
            Members::Consumer(consumer) => Some(consumer.epoch()),
        }
    }

    /// Makes a group rebalance: in a classic group all have to join again.
    pub(in crate::kafka) fn rebalance(&mut self, cx: &mut Context<'_>, group: &str) {
        let Some(group) = self.by_id.get_mut(group) else { return };
        match &mut group.members {
            Members::Classic(classic) if !classic.is_empty() => classic.rebalance_or_complete(cx),
            Members::Classic(_) => {}
            Members::Consumer(consumer) => consumer.bump(cx),
        }
        group.reckon_expiry(cx);
    }

    /// Takes a member out as if its session had ended.
    pub(in crate::kafka) fn expel(&mut self, cx: &mut Context<'_>, group: &str, member_id: &str) {
        let Some(group) = self.by_id.get_mut(group) else { return };
        match &mut group.members {
            Members::Classic(classic) => classic.expel(cx, member_id, "session timed out"),
            Members::Consumer(consumer) => consumer.fence(cx, &text(member_id), "session timed out"),
        }
        group.turn_classic_if_all_are(cx);
        group.reckon_expiry(cx);
    }
}

fn view_classic(member: &Member, is_leader: bool) -> MemberView {
    // Who leads a group of another kind may give out whatever it likes.
    let assignment = decode_assignment(member.assignment.clone()).unwrap_or_default();
    let partitions = partitions_of(&assignment).map(|(topic, number)| (topic.to_owned(), number)).collect();
    view((&member.id, &member.client_id, member.instance_id.as_ref()), partitions, is_leader)
}

fn view_consumer(group: &consumer::ConsumerGroup, member: &consumer::Member) -> MemberView {
    let topics = member.assignment().into_iter();
    let partitions = topics.flat_map(|(topic, numbers)| numbers.into_iter().map(move |number| (group.name_of(topic), number)));
    view((&member.id, &member.client_id, member.instance_id.as_ref()), partitions.collect(), false)
}

fn view(who: (&StrBytes, &StrBytes, Option<&StrBytes>), mut assignment: Vec<(String, i32)>, is_leader: bool) -> MemberView {
    let (member_id, client_id, instance_id) = who;
    assignment.sort();
    MemberView {
        member_id: member_id.to_string(),
        client_id: client_id.to_string(),
        instance_id: instance_id.map(|id| id.to_string()),
        assignment,
        is_leader,
    }
}
