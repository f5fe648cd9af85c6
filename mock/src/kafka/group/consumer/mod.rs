//! A group of the consumer protocol (KIP-848): the coordinator assigns the partitions, and leads each member there by heartbeats.
//!
//! Whatever changes the group bumps its epoch; the next heartbeat of anybody computes a target for that epoch; and each member goes
//! towards its target on its own: it gives up what it must, and gets what others have given up.
//!
//! Members that speak the classic protocol may be among them: for those, `classic` translates.

mod assign;
mod classic;
mod heartbeat;
mod member;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use kafka_protocol::{ResponseError, messages::leave_group_request::MemberIdentity, protocol::StrBytes};
use uuid::Uuid;

use super::timers::Timers;
use crate::kafka::{Context, api::Release, message::Event, topics::Topics};

pub(super) use heartbeat::validate;
pub(super) use member::{Classic, Member};

/// A static member that is away for a while.
const STATIC_LEAVE_EPOCH: i32 = -2;
/// From here on a commit of an older epoch is good for the partitions that the member has had since (KIP-1251).
const ASSIGNMENT_EPOCHS: Release = Release::new(4, 3);
/// From here on a group is created with epoch 1, so that the first who wants something begins 2.
const NEW_GROUPS_HAVE_AN_EPOCH: Release = Release::new(4, 3);
const DEFAULT_ASSIGNOR: &str = "uniform";

/// Partitions by their topics.
pub(super) type TopicPartitions = BTreeMap<Uuid, BTreeSet<i32>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Session(StrBytes),
    /// A member has not given up its partitions.
    Rebalance(StrBytes),
    /// One that speaks the classic protocol has not joined again, though it was told to.
    Join(StrBytes),
    /// It has joined, and not synced.
    Sync(StrBytes),
}

#[derive(Debug)]
pub(super) struct ConsumerGroup {
    id: String,
    epoch: i32,
    /// Which epoch the targets were computed for.
    assignment_epoch: i32,
    members: BTreeMap<StrBytes, Member>,
    /// Member ids by instance id.
    static_members: BTreeMap<StrBytes, StrBytes>,
    targets: BTreeMap<StrBytes, TopicPartitions>,
    /// The subscribed topics and how many partitions they had when the epoch was last looked at.
    metadata: BTreeMap<String, (Uuid, usize)>,
    /// Since when nobody is in it.
    pub(super) empty_since: Option<Instant>,
    timers: Timers<Timer>,
}

impl ConsumerGroup {
    pub(super) fn new(id: &str, now: Instant, release: Release) -> Self {
        Self {
            id: id.to_owned(),
            epoch: if release >= NEW_GROUPS_HAVE_AN_EPOCH { 1 } else { 0 },
            assignment_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            targets: BTreeMap::new(),
            metadata: BTreeMap::new(),
            empty_since: Some(now),
            timers: Timers::default(),
        }
    }

    /// Makes a group of members that come from a classic group, all of whom have what they were given there.
    pub(super) fn of_members(cx: &Context<'_>, id: &str, epoch: i32, members: impl Iterator<Item = Member>) -> Self {
        let mut group = Self::new(id, cx.now, cx.settings.release);
        (group.epoch, group.assignment_epoch, group.empty_since) = (epoch, epoch, None);
        for member in members {
            let session_timeout =
                member.classic.as_ref().map_or(cx.settings.consumer_group_session_timeout, |of| of.session_timeout);
            group.timers.set(Timer::Session(member.id.clone()), cx.now + session_timeout);
            group.static_members.extend(member.instance_id.clone().map(|instance_id| (instance_id, member.id.clone())));
            group.targets.insert(member.id.clone(), member.assignment());
            group.members.insert(member.id.clone(), member);
        }
        group.metadata = group.read_metadata(cx.topics);
        group
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Says whether nobody in it speaks the consumer protocol any more.
    pub(super) fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Names a topic that somebody is subscribed to, or was just now.
    pub(super) fn name_of(&self, topic: Uuid) -> String {
        let named = self.metadata.iter().find(|(_, (id, _))| *id == topic);
        named.map_or_else(|| topic.to_string(), |(name, _)| name.clone())
    }

    pub(super) fn target(&self, member_id: &StrBytes) -> TopicPartitions {
        self.targets.get(member_id).cloned().unwrap_or_default()
    }

    /// Names the assignor that most members prefer.
    pub(super) fn assignor(&self) -> &str {
        assign::preferred(&self.members)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Names the state as Kafka does.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.is_subscribed_to(topic))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        // What is due in a group of classic members only is for the classic group to find that it becomes.
        while !self.is_all_classic()
            && let Some(timer) = self.timers.pop_due(cx.now)
        {
            match timer {
                Timer::Session(member_id) => self.fence(cx, &member_id, "session timed out"),
                Timer::Rebalance(member_id) => self.fence(cx, &member_id, "did not revoke in time"),
                Timer::Join(member_id) => self.fence(cx, &member_id, "did not rejoin in time"),
                Timer::Sync(member_id) => self.fence(cx, &member_id, "did not sync in time"),
            }
        }
    }

    /// Says why an offset of any of these partitions may not be committed.
    pub(super) fn validate_commit(
        &self,
        cx: &Context<'_>,
        (member_id, instance_id): (&StrBytes, Option<&StrBytes>),
        epoch: i32,
        partitions: &[(Uuid, i32)],
        version: Option<i16>,
    ) -> Result<(), ResponseError> {
        let is_transactional = version.is_none();
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        if is_transactional && epoch == -1 && member_id.is_empty() && instance_id.is_none() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ResponseError::UnknownMemberId)?;
        if member.classic.is_none() && version.is_some_and(|version| version < 9) {
            return Err(ResponseError::UnsupportedVersion);
        }
        let is_held = |(topic, number): &(Uuid, i32)| member.held_since(*topic, *number).is_some_and(|since| since <= epoch);
        let is_recent = cx.settings.release >= ASSIGNMENT_EPOCHS && epoch < member.epoch && partitions.iter().all(is_held);
        if epoch == member.epoch || is_recent {
            Ok(())
        } else if is_transactional {
            Err(ResponseError::IllegalGeneration)
        } else {
            Err(member.stale())
        }
    }

    pub(super) fn validate_fetch(&self, member_id: Option<&StrBytes>, epoch: i32) -> Result<(), ResponseError> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.members.get(id)).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(member.stale()) }
    }

    /// Lets members go who speak the classic protocol, or whom a tool takes out; the others leave by heartbeat.
    pub(super) fn remove(&mut self, cx: &mut Context<'_>, leaving: &[MemberIdentity]) -> Vec<Result<(), ResponseError>> {
        let found: Vec<_> = leaving.iter().map(|identity| self.identify(identity)).collect();
        let mut has_changed = false;
        for member_id in found.iter().flatten() {
            has_changed |= self.take_out(cx, member_id, "left");
        }
        if has_changed {
            self.bump_unless_all_classic(cx);
        }
        found.into_iter().map(|found| found.map(drop)).collect()
    }

    fn identify(&self, identity: &MemberIdentity) -> Result<StrBytes, ResponseError> {
        match &identity.group_instance_id {
            // A tool may name a static member by its instance id alone.
            Some(instance_id) if identity.member_id.is_empty() => {
                self.static_members.get(instance_id).cloned().ok_or(ResponseError::UnknownMemberId)
            }
            instance_id => self.known(&identity.member_id, instance_id.as_ref()).map(|member| member.id.clone()),
        }
    }

    /// Finds a member by its id; one that says its name must be the one who has that now.
    fn known(&self, member_id: &StrBytes, instance_id: Option<&StrBytes>) -> Result<&Member, ResponseError> {
        match instance_id.map(|instance_id| self.static_members.get(instance_id)) {
            Some(None) => return Err(ResponseError::UnknownMemberId),
            Some(Some(current)) if current != member_id => return Err(ResponseError::FencedInstanceId),
            None | Some(Some(_)) => {}
        }
        self.members.get(member_id).ok_or(ResponseError::UnknownMemberId)
    }

    /// Moves to another coordinator: everything is in its log, only the timers begin anew.
    pub(super) fn reload(&mut self, cx: &Context<'_>) {
        self.timers.clear();
        for member in self.members.values() {
            self.timers.set(Timer::Session(member.id.clone()), cx.now + cx.settings.consumer_group_session_timeout);
            if member.is_revoking() {
                self.timers.set(Timer::Rebalance(member.id.clone()), cx.now + member.rebalance_timeout);
            }
        }
    }

    /// Takes a member out: what it had is free at once, and its own next heartbeat is refused.
    pub(super) fn fence(&mut self, cx: &mut Context<'_>, member_id: &StrBytes, why: &'static str) {
        if self.take_out(cx, member_id, why) {
            self.bump_unless_all_classic(cx);
        }
    }

    /// What becomes a classic group keeps the epoch as its generation, and rebalances.
    fn bump_unless_all_classic(&mut self, cx: &mut Context<'_>) {
        if !self.is_all_classic() {
            self.bump(cx);
        }
    }

    fn take_out(&mut self, cx: &mut Context<'_>, member_id: &StrBytes, why: &'static str) -> bool {
        let Some(member) = self.members.remove(member_id) else { return false };
        self.forget(member_id);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        cx.out.event(Event::MemberGone { group: self.id.clone(), member_id: member_id.to_string(), why });
        if self.members.is_empty() {
            self.empty_since = Some(cx.now);
        }
        self.metadata = self.read_metadata(cx.topics);
        true
    }

    /// Makes all targets be computed anew.
    pub(super) fn bump(&mut self, cx: &mut Context<'_>) {
        self.epoch = self.epoch.wrapping_add(1);
        cx.out.event(Event::Generation {
            group: self.id.clone(),
            generation: self.epoch,
            members: self.members.keys().map(|id| id.to_string()).collect(),
        });
    }

    fn forget(&mut self, member_id: &StrBytes) {
        self.targets.remove(member_id);
        for timer in [Timer::Session, Timer::Rebalance, Timer::Join, Timer::Sync] {
            self.timers.cancel(&timer(member_id.clone()));
        }
    }

    fn read_metadata(&self, topics: &Topics) -> BTreeMap<String, (Uuid, usize)> {
        let subscribed = topics.iter().filter(|(name, _)| self.is_subscribed_to(name));
        subscribed.map(|(name, topic)| (name.to_owned(), (topic.id, topic.partitions.len()))).collect()
    }
}

/// Names partitions by the ids of their topics, as far as those exist.
pub(super) fn by_topic_id<'a>(topics: &Topics, named: impl IntoIterator<Item = (&'a str, i32)>) -> TopicPartitions {
    let mut partitions = TopicPartitions::new();
    for (name, number) in named {
        if let Some(topic) = topics.get(name) {
            partitions.entry(topic.id).or_default().insert(number);
        }
    }
    partitions
}
