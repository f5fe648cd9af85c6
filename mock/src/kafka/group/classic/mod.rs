//! A group of the classic protocol: its members, and the states that it goes through.
//!
//! ```text
//!            a member joins            all have joined, or time is up        the leader has synced
//!  Empty ───────────────────► Preparing ────────────────────► Completing ────────────────────► Stable
//!    ▲                            │ ▲                            │                                │
//!    └──── nobody is left ────────┘ └────────── somebody comes, goes or changes ──────────────────┘
//! ```

mod join;
mod member;
mod rebalance;
mod sync;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::{ResponseError, protocol::StrBytes};

use super::{
    super::Context,
    embedded::{CONSUMER_PROTOCOL, decode_subscription},
    timers::Timers,
};
use crate::kafka::message::Event;

pub(super) use member::{Member, read_protocols, refuse_join};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl State {
    /// Names the state as Kafka does.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The join phase ends.
    Join,
    /// The members that have not synced are given up.
    Sync,
    /// A member's session ends, or the time in which somebody may come back with a new member id.
    Session(StrBytes),
}

/// How long an empty group goes on waiting for more members.
#[derive(Clone, Copy, Debug)]
struct InitialDelay {
    delay: Duration,
    remaining: Duration,
}

#[derive(Debug)]
pub(super) struct ClassicGroup {
    id: String,
    state: State,
    previous: State,
    /// When this state began.
    pub(super) since: Instant,
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    /// By member id, in the order they came.
    members: IndexMap<StrBytes, Member>,
    /// Member ids by instance id.
    static_members: BTreeMap<StrBytes, StrBytes>,
    /// Ids that were given to members who are to come back with them.
    pending_joins: BTreeSet<StrBytes>,
    /// Members of this generation that have not synced yet.
    pending_syncs: BTreeSet<StrBytes>,
    /// `None` unless they can be read.
    subscribed: Option<BTreeSet<String>>,
    initial: Option<InitialDelay>,
    is_new_member_added: bool,
    timers: Timers<Timer>,
    stored: Stored,
}

/// What the coordinator has written to its log: all that is left when another broker takes over.
#[derive(Clone, Debug, Default)]
struct Stored {
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: Vec<Member>,
}

impl ClassicGroup {
    pub(super) fn new(id: &str, now: Instant) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            previous: State::Empty,
            since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: IndexMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            subscribed: None,
            initial: None,
            is_new_member_added: false,
            timers: Timers::default(),
            stored: Stored::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn protocol_type(&self) -> Option<&StrBytes> {
        self.protocol_type.as_ref()
    }

    pub(super) fn protocol(&self) -> Option<&StrBytes> {
        self.protocol.as_ref()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Says whether nobody is in it, nor about to come.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_empty() && self.pending_joins.is_empty()
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Says whether a topic's offsets are in use; where that cannot be told, they are.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or_else(|| self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    pub(super) fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    /// Says why a member may not speak for the group.
    pub(super) fn validate(&self, member_id: &str, instance_id: Option<&StrBytes>) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if current.as_str() != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id.as_bytes()) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Says why an offset may not be committed, and takes note that the member is alive.
    pub(super) fn validate_commit(
        &mut self,
        now: Instant,
        member_id: &str,
        instance_id: Option<&StrBytes>,
        generation: i32,
        is_transactional: bool,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.validate(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ResponseError::IllegalGeneration);
            }
        } else if !is_transactional {
            return Err(ResponseError::UnknownMemberId);
        }
        if is_transactional {
            return Ok(());
        }
        if self.state == State::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.keep_alive(now, member_id);
        Ok(())
    }

    /// Begins a member's session anew.
    fn keep_alive(&mut self, now: Instant, member_id: &str) {
        if let Some(member) = self.members.get(member_id.as_bytes()) {
            self.timers.set(Timer::Session(member.id.clone()), now + member.session_timeout);
        }
    }

    fn enter(&mut self, now: Instant, state: State) {
        self.previous = self.state;
        self.state = state;
        self.since = now;
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn have_all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    fn count_joined(&self) -> usize {
        self.members.values().filter(|member| member.joining.is_some()).count()
    }

    fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(member.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_joins.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out, or an id that nobody has come back with.
    fn remove(&mut self, cx: &mut Context<'_>, member_id: &str, why: &'static str) -> Option<Member> {
        let removed = self.members.shift_remove(member_id.as_bytes());
        if let Some(member) = &removed {
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
            cx.out.event(Event::MemberGone { group: self.id.clone(), member_id: member_id.to_owned(), why });
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_joins.remove(member_id.as_bytes());
        self.pending_syncs.remove(member_id.as_bytes());
        self.timers.cancel(&Timer::Session(StrBytes::from_string(member_id.to_owned())));
        removed
    }

    /// Writes the group to the log.
    fn store(&mut self) {
        let members = self.members.values().map(|member| member.stored_as(self.protocol.as_ref())).collect();
        self.stored = Stored {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members,
        };
    }

    /// Moves to another coordinator, which knows what was stored and no more.
    pub(super) fn reload(&mut self, cx: &mut Context<'_>) {
        for member in self.members.values_mut() {
            member.refuse_join(cx, ResponseError::NotCoordinator);
            member.refuse_sync(cx, ResponseError::NotCoordinator);
        }
        let mut fresh = Self::new(&self.id, self.since);
        fresh.stored = self.stored.clone();
        let stored = self.stored.clone();
        for member in stored.members {
            fresh.timers.set(Timer::Session(member.id.clone()), cx.now + member.session_timeout);
            fresh.add(member);
        }
        fresh.state = if fresh.members.is_empty() { State::Empty } else { State::Stable };
        fresh.previous = fresh.state;
        fresh.generation = stored.generation;
        fresh.protocol_type = stored.protocol_type;
        fresh.protocol = stored.protocol;
        fresh.leader = stored.leader;
        fresh.subscribed = fresh.subscriptions();
        *self = fresh;
        if self.members.len() > cx.settings.group_max_size {
            self.prepare_rebalance(cx);
        }
    }

    /// Makes a stable group of members that come from a consumer group, in the generation that its epoch was.
    pub(super) fn of_members(cx: &Context<'_>, id: &str, generation: i32, members: impl Iterator<Item = Member>) -> Self {
        let mut group = Self::new(id, cx.now);
        members.for_each(|member| group.add(member));
        for member in group.members.values() {
            group.timers.set(Timer::Session(member.id.clone()), cx.now + member.session_timeout);
        }
        group.state = State::Stable;
        group.previous = State::Stable;
        group.generation = generation;
        group.protocol = group.select_protocol();
        group.subscribed = group.subscriptions();
        group
    }

    /// Gives each member its assignment, and writes that to the log.
    pub(super) fn give_out(&mut self, assign: impl Fn(&StrBytes, &Member) -> Bytes) {
        let protocol = self.protocol.clone().unwrap_or_default();
        for member in self.members.values_mut() {
            member.assignment = assign(&protocol, member);
        }
        self.store();
    }

    /// Sends all away who wait for others: the group is of another protocol from now on, and they have to join that.
    pub(super) fn dissolve(&mut self, cx: &mut Context<'_>) {
        for member in self.members.values_mut() {
            member.refuse_join(cx, ResponseError::RebalanceInProgress);
            member.refuse_sync(cx, ResponseError::RebalanceInProgress);
        }
    }

    /// Reads which topics its members want, if they speak the consumer protocol.
    fn subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription = decode_subscription(member.metadata(self.protocol.as_ref()?))?;
            topics.extend(subscription.topics.iter().map(|topic| topic.to_string()));
        }
        Some(topics)
    }
}
