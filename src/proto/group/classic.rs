//! The classic protocol's member: its interface, its timers, its requests. What the answers do stands in `answers`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info};

use super::{
    GroupConfig, GroupEvent, LASTING_RETRY_MAX, LEAVE_WAIT,
    errors::{self, Reaction},
    leader::Topics,
    pulse::Pulse,
    state::{Afterwards, LeaveStep, Leaving, State, Sync, TRANSITIONS},
    voice::{Voice, millis},
};
#[cfg(test)]
use crate::proto::group::state::Name;
use crate::{
    assignor::{Assignor, RebalanceProtocol},
    model::{Generation, GroupProtocol, TopicPartition},
    proto::{
        Ask, ClusterView, Deadline, Membership, Owner, Problem, ProblemKind, Target,
        backoff::{Backoff, Rng},
        earliest, invariant,
    },
    wire::{
        ErrorCode, JoinGroupRequest, LeaveGroupRequest, Request, Subscription, SyncGroupRequest, encode_cooperative,
        encode_sticky,
    },
};

/// How much longer than the rebalance timeout to wait for an answer to JoinGroup: the coordinator answers when that is over.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// After so many joins in a row that came to nothing the user is told; with the usual back-off these take four seconds.
const FRUITLESS_JOINS_SAID: u32 = 7;

/// JoinGroup and LeaveGroup carry a reason of at most so many characters (KIP-800).
const REASON_MAX: usize = 255;

/// A member of a group in the classic protocol.
#[derive(Debug)]
pub(crate) struct Classic {
    pub(super) config: GroupConfig,
    pub(super) rng: Rng,
    pub(super) membership: Membership,
    /// What is wanted, sorted, each once.
    pub(super) subscription: Vec<Arc<str>>,
    /// How soon to join for what it changed to last.
    pub(super) changed: Pace,
    pub(super) state: State,
    /// What our surroundings hold in our name.
    pub(super) owned: BTreeSet<TopicPartition>,
    /// What was assigned last, for the sticky assignors.
    pub(super) last: Last,
    pub(super) coordinator: Coordinator,
    pub(super) pulse: Pulse,
    pub(super) rejoin: Rejoin,
    /// Every request without an answer yet, also those whose answer no longer matters.
    pub(super) calls: BTreeMap<u64, Call>,
    next_call: u64,
    pub(super) topics: Topics,
    watched: Vec<Arc<str>>,
    voice: Voice,
    pub(super) events: VecDeque<GroupEvent>,
    #[cfg(test)]
    pub(super) visited: Vec<(Name, Name)>,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) known: bool,
    /// Grows with each lookup: what a former coordinator answers says nothing about the present one.
    found: u64,
    /// `CoordinatorUnknown` was said, or there was no need to.
    asked_for: bool,
}

/// When to join next, and why.
#[derive(Debug)]
pub(super) struct Rejoin {
    at: Option<Instant>,
    reason: String,
    pub(super) backoff: Backoff,
    pub(super) lasting: Backoff,
}

/// How soon to join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Part of the same attempt.
    Same,
    /// At once: the program wants something else, and that the last join is of no use any more was not its fault.
    Asked,
    /// At once, unless the last join was for nothing as well.
    AtOnce,
    BackOff,
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Join,
    Sync,
    Heartbeat,
    Leave,
}

/// The last assignment, whatever became of it.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) generation: Generation,
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) is_leaderless: bool,
    /// The coordinator, to whom we were a member in that generation, has asked for the next one.
    pub(super) is_called_off: bool,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) sent: Membership,
    pub(super) sent_at: Instant,
    /// Which coordinator was asked.
    found: u64,
}

impl Classic {
    /// Makes a member that has not joined and wants nothing yet.
    pub(crate) fn new(config: GroupConfig) -> Self {
        let backoff = || Backoff::new(config.retry_backoff, config.retry_backoff_max);
        Self {
            rng: Rng::new(config.seed),
            membership: Membership::none(),
            subscription: Vec::new(),
            changed: Pace::Asked,
            state: State::Unjoined,
            owned: BTreeSet::new(),
            last: Last { generation: Generation::NONE, partitions: Vec::new(), is_leaderless: false, is_called_off: false },
            coordinator: Coordinator { known: false, found: 0, asked_for: false },
            pulse: Pulse::new(config.heartbeat_interval, config.session_timeout, backoff()),
            rejoin: Rejoin {
                at: None,
                reason: String::new(),
                backoff: backoff(),
                lasting: Backoff::new(config.retry_backoff_max, LASTING_RETRY_MAX),
            },
            calls: BTreeMap::new(),
            next_call: 0,
            topics: Topics::default(),
            watched: Vec::new(),
            voice: Voice::default(),
            events: VecDeque::new(),
            #[cfg(test)]
            visited: Vec::new(),
            config,
        }
    }

    /// Replaces the topics that are wanted; none at all means to leave the group. What was not asked for, but found, is joined for no faster
    /// than for other reasons: who knows how much more there is to be found.
    pub(crate) fn handle_subscribe(&mut self, now: Instant, mut topics: Vec<Arc<str>>, is_asked: bool) {
        topics.sort_unstable();
        topics.dedup();
        if topics == self.subscription {
            return;
        }
        self.subscription = topics;
        self.changed = if is_asked { Pace::Asked } else { Pace::AtOnce };
        match &self.state {
            State::Unjoined if !self.subscription.is_empty() => self.want_join(now),
            State::Assigning { .. } => {
                self.schedule(now, self.changed, "the subscription has changed".to_owned());
                self.advance(|_| State::Unjoined);
            }
            State::Stable { .. } => self.rebalance(now, self.changed, "the subscription has changed".to_owned()),
            // Compared when the round's next answer comes; the others do not join, or have not yet.
            _ => {}
        }
        self.settle(now);
    }

    /// The coordinator was found, or lost.
    pub(crate) fn handle_coordinator(&mut self, now: Instant, known: bool) {
        self.coordinator.known = known;
        self.coordinator.asked_for = true;
        if known {
            self.coordinator.found += 1;
            self.pulse.found(now);
            self.compare_snapshot(now);
        }
    }

    /// Takes in newer metadata: the leader assigns by it, and rebalances when what it assigned no longer fits.
    pub(crate) fn handle_metadata(&mut self, now: Instant, view: &ClusterView) {
        self.topics = Topics::of(view);
        match &self.state {
            State::Assigning { .. } => self.assign(false),
            State::Stable { .. } => self.compare_snapshot(now),
            // Compared once stable.
            _ => {}
        }
    }

    /// What was to be released is not held in our name any more, and no commit of it is under way: the answer to `Release`.
    pub(crate) fn handle_released(&mut self, now: Instant) {
        if let State::Releasing { partitions, .. } = &self.state {
            partitions.iter().for_each(|partition| _ = self.owned.remove(partition));
            self.advance(|_| State::Unjoined);
            self.settle(now);
        }
    }

    /// Something else that was asked in our name, a commit or a committed position, was refused with `code`.
    pub(crate) fn handle_member_error(&mut self, now: Instant, sent: &Membership, code: ErrorCode) {
        if *sent != self.membership || sent.generation == Generation::NONE {
            return;
        }
        let why = format!("a commit or a fetch of positions was refused with {code}");
        match errors::member(code) {
            Reaction::Rejoin => self.rebalance(now, Pace::AtOnce, why),
            Reaction::ResetGeneration => self.reset(now, true, why),
            Reaction::ResetMember => self.reset(now, false, why),
            Reaction::Fatal(kind) => self.refuse(kind, "a commit", code),
            _ => {}
        }
        self.settle(now);
    }

    /// The user stopped processing: leaves, so that others get the partitions, and stays away until `handle_resumed`.
    pub(crate) fn handle_stalled(&mut self, now: Instant) {
        if !self.state.is_over() && !matches!(self.state, State::Stalled | State::Leaving(_)) {
            self.lose("processing stalled longer than processing_timeout");
            self.depart(now, Afterwards::Stalled, "processing stalled longer than processing_timeout".to_owned());
        }
    }

    /// The user goes on.
    pub(crate) fn handle_resumed(&mut self, now: Instant) {
        match &mut self.state {
            State::Leaving(leaving) if leaving.then == Afterwards::Stalled => leaving.then = Afterwards::Unjoined,
            State::Stalled => {
                self.rejoin.reason = "processing goes on".to_owned();
                self.finish_leaving(now, Afterwards::Unjoined);
            }
            _ => {}
        }
    }

    /// Leaves the group for good; everything owned has been released before. `Left` follows within seconds, whatever happens.
    pub(crate) fn handle_leave(&mut self, now: Instant, reason: String) {
        self.owned.clear();
        match &mut self.state {
            State::Left => {}
            State::Leaving(leaving) => leaving.then = Afterwards::Left,
            _ => self.depart(now, Afterwards::Left, reason),
        }
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        match &self.state {
            State::Releasing { partitions, until } if *until <= now => {
                let partitions = partitions.clone();
                self.lose_some(partitions, "what was in work could not be released within the rebalance timeout");
                self.advance(|_| State::Unjoined);
            }
            State::Assigning { until, .. } if *until <= now => self.assign(true),
            State::Leaving(leaving) if leaving.until <= now => {
                debug!(group = %self.config.group, "leaving took too long, the coordinator will notice by itself");
                let then = leaving.then;
                self.finish_leaving(now, then);
            }
            _ => {}
        }
        self.settle(now);
    }

    /// Gives up what is held where the session is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.session_deadline().is_some_and(|(at, _)| at <= now) {
            let why = format!("no heartbeat was answered for {} ms", self.config.session_timeout.as_millis());
            self.coordinator_lost(why.clone());
            self.reset(now, true, why);
        }
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(crate) fn config(&self) -> &GroupConfig {
        &self.config
    }

    pub(super) fn subscription(&self) -> &[Arc<str>] {
        &self.subscription
    }

    pub(super) fn is_coordinator_known(&self) -> bool {
        self.coordinator.known
    }

    /// Whether the group may have become one of the consumer protocol, and the user leaves the choice to us. Who has never been in it has been
    /// told a moment ago that it is not.
    pub(super) fn may_change_protocol(&self) -> bool {
        self.config.protocol == GroupProtocol::Auto && self.last.generation != Generation::NONE
    }

    /// Whether a JoinGroup is under way: the coordinator may let it wait for as long as a rebalance may take.
    pub(crate) fn is_joining(&self) -> bool {
        matches!(self.state, State::Joining { .. })
    }

    pub(crate) fn is_stable(&self) -> bool {
        matches!(self.state, State::Stable { .. })
    }

    /// Whether the coordinator would take a commit: in a generation, and not once JoinGroup is written or before SyncGroup is answered.
    pub(crate) fn may_commit(&self) -> bool {
        matches!(self.state, State::Stable { .. } | State::Releasing { .. }) && self.membership.generation >= Generation(0)
    }

    /// Asks for what is due. `may_join` is false while a commit is under way: it is to be answered in the generation that it was made in.
    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant, may_join: bool) -> Option<Ask> {
        let due = |deadline: Option<Deadline>| deadline.is_some_and(|(at, _)| at <= now);
        if due(self.leave_deadline()) {
            return self.ask_leave(now);
        }
        if may_join && due(self.join_deadline()) {
            return Some(self.ask_join(now));
        }
        if self.coordinator.known
            && !self.is_under_way(Kind::Sync)
            && let Some(ask) = self.ask_sync(now)
        {
            return Some(ask);
        }
        due(self.heartbeat_deadline()).then(|| self.ask_heartbeat(now))
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self, may_join: bool) -> Option<Deadline> {
        let of_state = match &self.state {
            State::Releasing { until, .. } => Some((*until, "what is owned must be released")),
            State::Assigning { until, .. } => Some((*until, "the leader assigns with what it knows")),
            State::Leaving(leaving) => Some((leaving.until, "leaving has taken long enough")),
            _ => None,
        };
        let join = self.join_deadline().filter(|_| may_join);
        [self.session_deadline(), self.leave_deadline(), join, self.heartbeat_deadline()].into_iter().fold(of_state, earliest)
    }

    fn session_deadline(&self) -> Option<Deadline> {
        // What is held between two generations is held in the session of the former.
        let is_between = matches!(self.state, State::Unjoined) && !self.owned.is_empty();
        let at = self.pulse.expires_at().filter(|_| is_between || self.state.heartbeats())?;
        Some((at, "the session ends without a heartbeat"))
    }

    fn leave_deadline(&self) -> Option<Deadline> {
        match &self.state {
            State::Leaving(Leaving { step: LeaveStep::Due(at), .. }) if self.coordinator.known => {
                Some((*at, "LeaveGroup is due"))
            }
            _ => None,
        }
    }

    fn join_deadline(&self) -> Option<Deadline> {
        let may_join = matches!(self.state, State::Unjoined)
            && !(self.subscription.is_empty() && self.owned.is_empty())
            && self.coordinator.known
            // One that was given up may still be waiting at the coordinator, and would hold up the next one.
            && !self.is_under_way(Kind::Join);
        Some((self.rejoin.at.filter(|_| may_join)?, "JoinGroup is due"))
    }

    fn heartbeat_deadline(&self) -> Option<Deadline> {
        let may_beat = self.state.heartbeats() && self.coordinator.known && !self.is_under_way(Kind::Heartbeat);
        Some((self.pulse.next_at().filter(|_| may_beat)?, "a heartbeat is due"))
    }

    fn is_under_way(&self, kind: Kind) -> bool {
        self.calls.values().any(|call| call.kind == kind)
    }

    fn ask_join(&mut self, now: Instant) -> Ask {
        let protocols = self.config.assignors.iter();
        let request = Request::JoinGroup(JoinGroupRequest {
            group: self.config.group.clone(),
            member_id: self.membership.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            protocols: protocols.map(|assignor| (assignor.name().into(), self.subscribe_by(&**assignor).encode())).collect(),
            reason: truncated(&self.rejoin.reason),
        });
        let timeout = self.config.request_timeout.max(self.config.rebalance_timeout + JOIN_GRACE);
        let (call, topics) = (self.next_call, self.subscription.clone());
        self.advance(|_| State::Joining { call, topics });
        self.ask(now, Kind::Join, request, timeout)
    }

    /// What the group's leader is told, should this assignor be selected.
    fn subscribe_by(&self, assignor: &dyn Assignor) -> Subscription {
        let topics = self.subscription.clone();
        let rack = self.config.rack.clone();
        let Last { generation, partitions, .. } = &self.last;
        if self.config.is_cooperative() {
            let owned = self.claims();
            let user_data = Some(encode_cooperative(*generation));
            return Subscription { topics, user_data, owned, generation: Some(*generation), rack };
        }
        // An eager member holds nothing when it joins. Without a generation the bytes stay the same from join to join, by which the coordinator
        // sees that nothing has changed.
        let tells = assignor.is_sticky() && assignor.protocol() == RebalanceProtocol::Eager && !partitions.is_empty();
        let user_data = tells.then(|| encode_sticky(partitions, *generation));
        Subscription { topics, user_data, owned: Vec::new(), generation: None, rack }
    }

    fn claims(&self) -> Vec<TopicPartition> {
        #[cfg(test)]
        if self.owned.is_empty() && crate::planted::claims_lost() {
            return self.last.partitions.clone();
        }
        self.owned.iter().cloned().collect()
    }

    fn ask_sync(&mut self, now: Instant) -> Option<Ask> {
        let call = self.next_call;
        let State::Syncing { round, step } = &mut self.state else { return None };
        let Sync::Due(assignments) = step else { return None };
        let assignments = mem::take(assignments);
        *step = Sync::Asked(call);
        let protocol = round.assignor.name().into();
        let request =
            Request::SyncGroup(SyncGroupRequest { member: self.config.member_request(&self.membership), protocol, assignments });
        Some(self.ask(now, Kind::Sync, request, self.config.request_timeout))
    }

    fn ask_heartbeat(&mut self, now: Instant) -> Ask {
        self.pulse.sent(now);
        let request = Request::Heartbeat(self.config.member_request(&self.membership));
        self.ask(now, Kind::Heartbeat, request, self.config.request_timeout.min(self.config.session_timeout))
    }

    fn ask_leave(&mut self, now: Instant) -> Option<Ask> {
        let call = self.next_call;
        let State::Leaving(leaving) = &mut self.state else { return None };
        leaving.step = LeaveStep::Asked(call);
        let request = Request::LeaveGroup(LeaveGroupRequest {
            group: self.config.group.clone(),
            member_id: leaving.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
            reason: truncated(&leaving.reason),
        });
        Some(self.ask(now, Kind::Leave, request, self.config.request_timeout.min(LEAVE_WAIT)))
    }

    fn ask(&mut self, now: Instant, kind: Kind, request: Request, timeout: Duration) -> Ask {
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, Call { kind, sent: self.membership.clone(), sent_at: now, found: self.coordinator.found });
        Ask { owner: Owner::Group(call), to: Target::Coordinator, request, timeout }
    }

    /// Goes from one state to the next, which takes over what it needs of the old one.
    pub(super) fn advance(&mut self, next: impl FnOnce(State) -> State) {
        let old = mem::replace(&mut self.state, State::Unjoined);
        let from = old.name();
        self.state = next(old);
        let to = self.state.name();
        if from == to {
            return;
        }
        let known = TRANSITIONS.iter().any(|&(a, b, _)| (a, b) == (from, to));
        invariant!(known, "a group member cannot go from {from:?} to {to:?}");
        debug!(group = %self.config.group, ?from, ?to, "group member");
        #[cfg(test)]
        self.visited.push((from, to));
    }

    /// Begins a rebalance, if none is under way.
    pub(super) fn rebalance(&mut self, now: Instant, pace: Pace, why: String) {
        if self.is_stable() {
            let is_wanted = |partition: &&TopicPartition| self.subscription.binary_search(partition.shared_topic()).is_ok();
            let is_kept = |partition: &&TopicPartition| self.config.is_cooperative() && is_wanted(partition);
            let back = self.owned.iter().filter(|partition| !is_kept(partition)).cloned().collect();
            self.hand_back(now, back, pace, why);
        }
    }

    /// Joins again, once these partitions are released.
    pub(super) fn hand_back(&mut self, now: Instant, partitions: Vec<TopicPartition>, pace: Pace, why: String) {
        info!(group = %self.config.group, member_id = %self.membership.member_id, %why, back = partitions.len(), "rejoining");
        self.schedule(now, pace, why.clone());
        if !self.subscription.is_empty() {
            self.events.push_back(GroupEvent::Rejoining { why: why.clone() });
        }
        if partitions.is_empty() {
            return self.advance(|_| State::Unjoined);
        }
        // The coordinator counted from when it decided, we from when we heard of it, up to a heartbeat later.
        let slack = (self.config.heartbeat_interval + self.config.retry_backoff_max).min(self.config.rebalance_timeout / 4);
        let until = now + (self.config.rebalance_timeout - slack);
        self.events.push_back(GroupEvent::Release { partitions: partitions.clone(), deadline: until, why });
        self.advance(|_| State::Releasing { partitions, until });
    }

    /// The generation is gone, and with it the partitions; with `keep_id` the coordinator may still know the member. A JoinGroup under
    /// way is not given up for it: its own answer will tell.
    pub(super) fn reset(&mut self, now: Instant, keep_id: bool, why: String) {
        if self.state.is_over() || matches!(self.state, State::Joining { .. } | State::Leaving(_) | State::Stalled) {
            return;
        }
        info!(group = %self.config.group, member_id = %self.membership.member_id, %why, keep_id, "no longer in the generation");
        let was_member = self.membership.generation != Generation::NONE;
        self.schedule(now, Pace::AtOnce, why.clone());
        self.lose(&why);
        self.forget_membership(keep_id);
        if was_member {
            self.events.push_back(GroupEvent::Rejoining { why });
        }
        self.advance(|_| State::Unjoined);
    }

    pub(super) fn lose(&mut self, why: &str) {
        let all = self.owned.iter().cloned().collect();
        self.lose_some(all, why);
    }

    pub(super) fn lose_some(&mut self, partitions: Vec<TopicPartition>, why: &str) {
        if !partitions.is_empty() {
            partitions.iter().for_each(|partition| _ = self.owned.remove(partition));
            self.events.push_back(GroupEvent::Lost { partitions, why: why.to_owned() });
        }
    }

    pub(super) fn forget_membership(&mut self, keep_id: bool) {
        self.membership.generation = Generation::NONE;
        if !keep_id {
            self.membership = Membership::none();
        }
    }

    /// Sets when the next join may be written. Whatever the reason, from the third in a row on there is a wait.
    pub(super) fn schedule(&mut self, now: Instant, pace: Pace, reason: String) {
        let held = matches!(&self.state, State::Stable { since, .. }
            if now.saturating_duration_since(*since) >= self.config.retry_backoff_max);
        if held {
            self.rejoin.backoff.reset();
        }
        let wait = match pace {
            Pace::Same | Pace::Asked => Duration::ZERO,
            Pace::AtOnce if held => Duration::ZERO,
            Pace::AtOnce | Pace::BackOff => {
                let first = self.rejoin.backoff.failures() == 0;
                let wait = self.rejoin.backoff.fail(&mut self.rng);
                if first && pace == Pace::AtOnce { Duration::ZERO } else { wait }
            }
            Pace::Slow => self.rejoin.lasting.fail(&mut self.rng),
        };
        if pace != Pace::Asked && self.rejoin.backoff.failures() >= FRUITLESS_JOINS_SAID && self.voice.is_silent() {
            let kind = if pace == Pace::BackOff { ProblemKind::Unreachable } else { ProblemKind::GroupRefused };
            self.say(now, kind, None, format!("joining group {} comes to nothing again and again: {reason}", self.config.group));
        }
        self.rejoin.at = Some(now + wait);
        self.rejoin.reason = reason;
    }

    /// Joins as soon as possible, if nothing else was said.
    fn want_join(&mut self, now: Instant) {
        self.rejoin.at.get_or_insert(now);
        if !mem::replace(&mut self.coordinator.asked_for, true) {
            let why = format!("the coordinator of group {} was not looked up yet", self.config.group);
            self.events.push_back(GroupEvent::CoordinatorUnknown { why });
        }
    }

    /// Leaves the group if it is joined to for nothing.
    pub(super) fn settle(&mut self, now: Instant) {
        let for_nothing = self.subscription.is_empty() && !self.membership.member_id.is_empty();
        if !matches!(self.state, State::Unjoined) || !for_nothing {
            return;
        }
        if self.owned.is_empty() {
            self.depart(now, Afterwards::Unjoined, "unsubscribed".to_owned());
        } else {
            // Between two generations nothing can be committed: the next one is joined, so that what is held is handed back in it.
            self.want_join(now);
        }
    }

    /// Says goodbye, where that helps the others: a static member means to come back, and one without a member id is not known.
    fn depart(&mut self, now: Instant, then: Afterwards, reason: String) {
        info!(group = %self.config.group, member_id = %self.membership.member_id, %reason, "leaving the group");
        let member_id = self.membership.member_id.clone();
        self.forget_membership(false);
        self.watch(Vec::new());
        let step = match &self.state {
            _ if self.config.instance_id.is_some() => None,
            State::Joining { call, .. } if member_id.is_empty() => Some(LeaveStep::AwaitJoin(*call)),
            _ if member_id.is_empty() => None,
            _ => Some(LeaveStep::Due(now)),
        };
        match step {
            Some(step) => {
                let until = now + LEAVE_WAIT;
                self.advance(|_| State::Leaving(Leaving { member_id, reason, step, retried: false, until, then }));
            }
            None => self.finish_leaving(now, then),
        }
    }

    pub(super) fn finish_leaving(&mut self, now: Instant, then: Afterwards) {
        match then {
            Afterwards::Left => {
                self.events.push_back(GroupEvent::Left);
                self.advance(|_| State::Left);
            }
            Afterwards::Stalled => self.advance(|_| State::Stalled),
            Afterwards::Unjoined => {
                self.advance(|_| State::Unjoined);
                self.want_join(now);
            }
        }
    }

    pub(super) fn watch(&mut self, topics: Vec<Arc<str>>) {
        if topics != self.watched {
            self.events.push_back(GroupEvent::WatchTopics(topics.clone()));
            self.watched = topics;
        }
    }

    pub(super) fn coordinator_lost(&mut self, why: String) {
        if mem::take(&mut self.coordinator.known) {
            debug!(group = %self.config.group, %why, "coordinator unknown");
            self.events.push_back(GroupEvent::CoordinatorUnknown { why });
        }
    }

    /// As `coordinator_lost`, if it was the present coordinator that was asked.
    pub(super) fn coordinator_lost_by(&mut self, call: &Call, why: String) {
        if call.found == self.coordinator.found {
            self.coordinator_lost(why);
        }
    }

    /// Ends the member: `tried` was refused for good.
    pub(super) fn refuse(&mut self, kind: ProblemKind, tried: &str, code: ErrorCode) {
        let what = errors::explain(tried, code, &self.config);
        self.fail(kind, Some(code), what);
    }

    pub(super) fn fail(&mut self, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        self.lose(&what);
        // Its member id stays, so that `handle_leave` can still tell the others; but a fenced one is another's.
        self.forget_membership(kind != ProblemKind::Fenced);
        self.advance(|_| State::Failed);
        self.events.push_back(GroupEvent::Problem(Problem { kind, partition: None, code, what, fatal: true }));
    }

    /// Tells of something that lasts, and that is tried again: once, and then rarely.
    pub(super) fn say(&mut self, now: Instant, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        self.events.extend(self.voice.say(now, kind, code, what));
    }

    /// Everything works again: what went wrong may be said anew.
    pub(super) fn forget_problems(&mut self) {
        self.voice.forget();
        self.rejoin.lasting.reset();
    }
}

fn truncated(reason: &str) -> Option<String> {
    (!reason.is_empty()).then(|| reason.chars().take(REASON_MAX).collect())
}
