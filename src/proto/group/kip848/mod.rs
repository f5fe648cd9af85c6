//! A member by the consumer protocol (KIP-848): the coordinator assigns, and leads each member there with the answers to its heartbeats.
//!
//! ```text
//!              epoch 0 is answered             something is to go              released
//!  Unjoined ───────────────────────► Member ──────────────────────► Releasing ──────────► Member
//!   ▲   ▲                              │  lost (fenced, or no heartbeat answered for a session) │
//!   │   └──────────────────────────────┴─────────────────────────────────────────────────────────┘
//!   └── unsubscribed, or resumed ── Leaving ──► Left (closed) | Stalled
//!
//!  any ──► Failed (fatal)
//! ```
//!
//! There is no round that everybody waits for: an epoch is each member's own, a member holds what it has until it has handed that back, and
//! the coordinator gives nothing away before. One heartbeat is in flight at most. It says what has changed since the last one that was
//! answered; after one that was not, everything.
//!
//! Towards a new assignment a member goes one step at a time: what is to go is handed back, and only then is what is new taken on, and said to
//! be held. What comes meanwhile waits: the newest assignment counts when the step is done.

mod answers;
mod errors;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info};

use super::{
    GroupConfig, GroupEvent, LASTING_RETRY_MAX, LEAVE_WAIT,
    state::Afterwards,
    voice::{Voice, millis},
};
use crate::{
    model::{Generation, GroupProtocol, TopicId, TopicPartition},
    proto::{
        Ask, ClusterView, Deadline, Membership, Owner, Problem, ProblemKind, Target,
        backoff::{Backoff, Rng},
        earliest,
    },
    wire::{ConsumerHeartbeatRequest, ErrorCode, MemberRequest, Request},
};

/// The epoch with which a member joins.
const JOIN: Generation = Generation(0);
/// The epoch with which a member leaves, and the one with which a static member leaves its place open.
const LEAVE: Generation = Generation(-1);
const STEP_OUT: Generation = Generation(-2);

/// Until the coordinator says how often it wants to hear from its members.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);

/// A member of a group in the consumer protocol.
#[derive(Debug)]
pub(crate) struct Kip848 {
    config: GroupConfig,
    rng: Rng,
    /// The generation is the member's epoch, and none while it has not joined.
    membership: Membership,
    /// What is wanted, sorted, each once.
    subscription: Vec<Arc<str>>,
    /// For the coordinator to match: what matches, it assigns by the topics' ids.
    pattern: Option<Arc<str>>,
    state: State,
    /// What our surroundings hold in our name, and of which topic it is.
    owned: BTreeMap<TopicPartition, TopicId>,
    /// What the coordinator wants us to hold.
    target: BTreeSet<(TopicId, i32)>,
    /// The topics that metadata tell of, by their ids.
    names: BTreeMap<TopicId, Arc<str>>,
    /// What of the target is not among them, as our surroundings were told.
    unnamed: BTreeSet<TopicId>,
    /// What the coordinator is still to be told.
    untold: Untold,
    coordinator_known: bool,
    /// Grows with each lookup: what a former coordinator answers says nothing about the present one.
    found: u64,
    asked_for_coordinator: bool,
    interval: Duration,
    next_at: Option<Instant>,
    /// Without an answer until then, the coordinator has given our partitions away.
    expires_at: Option<Instant>,
    backoff: Backoff,
    lasting: Backoff,
    /// The only request under way.
    call: Option<Call>,
    next_call: u64,
    voice: Voice,
    events: VecDeque<GroupEvent>,
}

#[derive(Debug)]
enum State {
    Unjoined,
    /// Part of the group. Said or not: whoever has just joined says what it holds, even if that is nothing.
    Member {
        is_said: bool,
    },
    /// As `Member`, and these partitions are being handed back.
    Releasing {
        partitions: Vec<TopicPartition>,
        until: Instant,
    },
    Leaving(Leaving),
    Stalled,
    Failed,
    Left,
}

#[derive(Debug)]
struct Leaving {
    member_id: Arc<str>,
    /// When LeaveGroup's counterpart is to be written; none while it is under way.
    due: Option<Instant>,
    retried: bool,
    until: Instant,
    then: Afterwards,
}

#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    everything: bool,
    topics: bool,
    pattern: bool,
    owned: bool,
}

#[derive(Debug)]
struct Call {
    number: u64,
    kind: Kind,
    sent: Membership,
    sent_at: Instant,
    found: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Join,
    Beat,
    Leave,
}

impl Kip848 {
    pub(crate) fn new(config: GroupConfig) -> Self {
        let mut rng = Rng::new(config.seed);
        let member_id = new_member_id(&mut rng);
        Self {
            rng,
            membership: Membership { member_id, generation: Generation::NONE },
            subscription: Vec::new(),
            pattern: None,
            state: State::Unjoined,
            owned: BTreeMap::new(),
            target: BTreeSet::new(),
            names: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            untold: Untold { everything: true, ..Untold::default() },
            coordinator_known: false,
            found: 0,
            asked_for_coordinator: false,
            interval: FIRST_INTERVAL,
            next_at: None,
            expires_at: None,
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            lasting: Backoff::new(config.retry_backoff_max, LASTING_RETRY_MAX),
            call: None,
            next_call: 0,
            voice: Voice::default(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Replaces the topics that are wanted, and the pattern for the coordinator to match; nothing at all means to leave the group.
    pub(crate) fn handle_subscribe(&mut self, now: Instant, mut topics: Vec<Arc<str>>, pattern: Option<Arc<str>>) {
        topics.sort_unstable();
        topics.dedup();
        if topics == self.subscription && pattern == self.pattern {
            return;
        }
        // Also where it joins just now: what was sent says what was wanted before.
        self.untold.topics |= topics != self.subscription;
        self.untold.pattern |= pattern != self.pattern;
        (self.subscription, self.pattern) = (topics, pattern);
        match self.state {
            State::Unjoined if self.wants_anything() => self.want_join(now),
            State::Member { .. } | State::Releasing { .. } => self.beat_at(now),
            _ => {}
        }
        self.settle(now);
    }

    /// The coordinator was found, or lost.
    pub(crate) fn handle_coordinator(&mut self, now: Instant, known: bool) {
        self.coordinator_known = known;
        self.asked_for_coordinator = true;
        if known {
            self.found += 1;
            if self.is_member() {
                self.beat_at(now);
            }
        }
    }

    /// Takes in newer metadata, which may name the topics of an assignment.
    pub(crate) fn handle_metadata(&mut self, now: Instant, view: &ClusterView) {
        self.names = view.topics.iter().filter_map(|(name, topic)| Some((topic.id?, Arc::clone(name)))).collect();
        self.lose_former_topics(now, view);
        self.reconcile(now);
    }

    /// What was to be released is not held in our name any more, and no commit of it is under way: the answer to `Release`.
    pub(crate) fn handle_released(&mut self, now: Instant) {
        if let State::Releasing { partitions, .. } = &mut self.state {
            let released = mem::take(partitions);
            released.iter().for_each(|partition| _ = self.owned.remove(partition));
            self.state = State::Member { is_said: true };
            self.say_what_is_owned(now);
            self.settle(now);
            self.reconcile(now);
        }
    }

    /// A commit or a fetch of positions was refused with `code`: what has become of us is for a heartbeat to tell.
    pub(crate) fn handle_member_error(&mut self, now: Instant, sent: &Membership, code: ErrorCode) {
        if *sent != self.membership || !self.is_member() {
            return;
        }
        debug!(group = %self.config.group, %code, "a commit was refused: a heartbeat will tell");
        match code {
            // Nothing that a heartbeat of another id would be told.
            ErrorCode::FENCED_INSTANCE_ID => self.refuse(ProblemKind::Fenced, code, None),
            _ => self.beat_at(now),
        }
    }

    /// The user stopped processing: leaves, so that others get the partitions, and stays away until `handle_resumed`.
    pub(crate) fn handle_stalled(&mut self, now: Instant) {
        if !self.is_over() && !matches!(self.state, State::Stalled | State::Leaving(_)) {
            self.lose("processing stalled longer than processing_timeout");
            self.depart(now, Afterwards::Stalled);
        }
    }

    /// The user goes on.
    pub(crate) fn handle_resumed(&mut self, now: Instant) {
        match &mut self.state {
            State::Leaving(leaving) if leaving.then == Afterwards::Stalled => leaving.then = Afterwards::Unjoined,
            State::Stalled => self.finish_leaving(now, Afterwards::Unjoined),
            _ => {}
        }
    }

    /// Leaves the group for good; everything owned has been released before. `Left` follows within seconds, whatever happens.
    pub(crate) fn handle_leave(&mut self, now: Instant) {
        self.owned.clear();
        match &mut self.state {
            State::Left => {}
            State::Leaving(leaving) => leaving.then = Afterwards::Left,
            _ => self.depart(now, Afterwards::Left),
        }
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.session_deadline().is_some_and(|(at, _)| at <= now) {
            let why = format!("no heartbeat was answered for {} ms", self.config.session_timeout.as_millis());
            self.coordinator_lost(why.clone());
            self.rejoin(now, &why, Duration::ZERO);
        }
        match &mut self.state {
            State::Releasing { partitions, until } if *until <= now => {
                let partitions = partitions.clone();
                self.lose_some(partitions, "what was in work could not be released within the rebalance timeout");
                self.say_what_is_owned(now);
                self.reconcile(now);
            }
            State::Leaving(leaving) if leaving.until <= now => {
                let then = leaving.then;
                self.finish_leaving(now, then);
            }
            _ => {}
        }
        self.settle(now);
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
        self.coordinator_known
    }

    /// Whether the coordinator would take a commit.
    pub(crate) fn may_commit(&self) -> bool {
        self.is_member()
    }

    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        let (at, _) = self.ask_deadline()?;
        if at > now {
            return None;
        }
        Some(match &self.state {
            State::Leaving(_) => self.ask_leave(now),
            State::Unjoined => self.ask_join(now),
            _ => self.ask_beat(now),
        })
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let of_state = match &self.state {
            State::Releasing { until, .. } => Some((*until, "what is owned must be released")),
            State::Leaving(leaving) => Some((leaving.until, "leaving has taken long enough")),
            _ => None,
        };
        earliest(earliest(of_state, self.session_deadline()), self.ask_deadline())
    }

    fn session_deadline(&self) -> Option<Deadline> {
        Some((self.expires_at.filter(|_| self.is_member())?, "the session ends without a heartbeat"))
    }

    fn ask_deadline(&self) -> Option<Deadline> {
        if !self.coordinator_known {
            return None;
        }
        let is_free = self.call.is_none();
        match &self.state {
            // It does not wait for an answer that no longer matters.
            State::Leaving(leaving) => Some((leaving.due?, "leaving is due")),
            State::Unjoined if is_free && self.wants_anything() => Some((self.next_at?, "joining is due")),
            State::Member { .. } | State::Releasing { .. } if is_free => Some((self.next_at?, "a heartbeat is due")),
            _ => None,
        }
    }

    fn ask_join(&mut self, now: Instant) -> Ask {
        let beat = self.everything(JOIN);
        (self.untold.topics, self.untold.pattern) = (false, false);
        self.ask(now, Kind::Join, beat)
    }

    fn ask_beat(&mut self, now: Instant) -> Ask {
        let untold = mem::take(&mut self.untold);
        let epoch = self.membership.generation;
        let beat = if untold.everything {
            self.everything(epoch)
        } else {
            // While something is handed back, nothing is said to be held: the coordinator would take the rest for given up.
            let is_releasing = matches!(self.state, State::Releasing { .. });
            self.untold.owned = untold.owned && is_releasing;
            ConsumerHeartbeatRequest {
                topics: untold.topics.then(|| self.subscription.clone()),
                pattern: untold.pattern.then(|| self.pattern_to_tell()),
                owned: (untold.owned && !is_releasing).then(|| self.owned_by_topic()),
                ..self.nothing_new(epoch)
            }
        };
        self.ask(now, Kind::Beat, beat)
    }

    /// A heartbeat that says all there is.
    fn everything(&self, epoch: Generation) -> ConsumerHeartbeatRequest {
        ConsumerHeartbeatRequest {
            rack: self.config.rack.clone(),
            rebalance_timeout_ms: Some(millis(self.config.rebalance_timeout)),
            topics: Some(self.subscription.clone()),
            pattern: Some(self.pattern_to_tell()),
            assignor: self.config.server_assignor.clone(),
            owned: Some(self.owned_by_topic()),
            ..self.nothing_new(epoch)
        }
    }

    /// A heartbeat that says only who is there.
    fn nothing_new(&self, epoch: Generation) -> ConsumerHeartbeatRequest {
        let member = MemberRequest { generation: epoch, ..self.config.member_request(&self.membership) };
        let (rack, rebalance_timeout_ms, topics, pattern, assignor, owned) = Default::default();
        ConsumerHeartbeatRequest { member, rack, rebalance_timeout_ms, topics, pattern, assignor, owned }
    }

    /// Without a pattern an empty one, which ends what the coordinator may know of: from before an answer was lost, or from the process that had
    /// a static member's place before.
    fn pattern_to_tell(&self) -> Arc<str> {
        self.pattern.clone().unwrap_or_default()
    }

    fn owned_by_topic(&self) -> Vec<(TopicId, Vec<i32>)> {
        let mut owned = BTreeMap::<TopicId, Vec<i32>>::new();
        for (partition, id) in &self.owned {
            owned.entry(*id).or_default().push(partition.partition());
        }
        owned.into_iter().collect()
    }

    fn ask_leave(&mut self, now: Instant) -> Ask {
        let epoch = if self.config.instance_id.is_some() { STEP_OUT } else { LEAVE };
        let mut farewell = self.nothing_new(epoch);
        if let State::Leaving(leaving) = &mut self.state {
            leaving.due = None;
            farewell.member.member_id = Arc::clone(&leaving.member_id);
        }
        self.ask(now, Kind::Leave, farewell)
    }

    fn ask(&mut self, now: Instant, kind: Kind, beat: ConsumerHeartbeatRequest) -> Ask {
        let number = self.next_call;
        self.next_call += 1;
        self.next_at = Some(now + self.interval);
        self.call = Some(Call { number, kind, sent: self.membership.clone(), sent_at: now, found: self.found });
        let timeout = match kind {
            Kind::Leave => self.config.request_timeout.min(LEAVE_WAIT),
            Kind::Join | Kind::Beat => self.config.request_timeout.min(self.config.session_timeout),
        };
        Ask {
            owner: Owner::Group(number),
            to: Target::Coordinator,
            request: Request::ConsumerGroupHeartbeat(Box::new(beat)),
            timeout,
        }
    }

    /// Goes a step from what is held to what is to be held.
    fn reconcile(&mut self, now: Instant) {
        let State::Member { is_said } = self.state else { return };
        if !self.wants_anything() {
            return;
        }
        let is_kept = |(partition, id): &(&TopicPartition, &TopicId)| self.target.contains(&(**id, partition.partition()));
        let back: Vec<_> = self.owned.iter().filter(|held| !is_kept(held)).map(|(partition, _)| partition.clone()).collect();
        if !back.is_empty() {
            let why = format!("{} of its partitions are to be others'", back.len());
            return self.hand_back(now, back, why);
        }
        let mut added = Vec::new();
        let mut unnamed = BTreeSet::new();
        for (id, number) in &self.target {
            match self.names.get(id) {
                Some(name) => {
                    let partition = TopicPartition::new(Arc::clone(name), *number);
                    if !self.owned.contains_key(&partition) {
                        self.owned.insert(partition.clone(), *id);
                        added.push(partition);
                    }
                }
                None => _ = unnamed.insert(*id),
            }
        }
        if planted!(DropUnresolvedTopics) {
            self.target.retain(|(id, _)| self.names.contains_key(id));
            unnamed.clear();
        }
        if added.is_empty() && is_said {
            return self.identify(unnamed);
        }
        self.state = State::Member { is_said: true };
        let Membership { member_id, generation } = self.membership.clone();
        info!(group = %self.config.group, %member_id, epoch = generation.0, ?added, held = self.owned.len(), "assigned");
        let protocol = "consumer".into();
        self.events.push_back(GroupEvent::Assigned { generation, member_id, protocol, leader: false, partitions: added });
        // Only now: what has been named has to be taken on before it may be forgotten.
        self.identify(unnamed);
        self.say_what_is_owned(now);
    }

    /// What can be named is held already; the rest as soon as metadata tell.
    fn identify(&mut self, unnamed: BTreeSet<TopicId>) {
        if unnamed != self.unnamed {
            self.unnamed.clone_from(&unnamed);
            self.events.push_back(GroupEvent::Identify(unnamed));
        }
    }

    fn hand_back(&mut self, now: Instant, partitions: Vec<TopicPartition>, why: String) {
        info!(group = %self.config.group, member_id = %self.membership.member_id, %why, "handing back");
        // The coordinator counts from when it decided, we from when we heard of it, up to a heartbeat later.
        let slack = (self.interval + self.config.retry_backoff_max).min(self.config.rebalance_timeout / 4);
        let until = now + (self.config.rebalance_timeout - slack);
        self.events.push_back(GroupEvent::Release { partitions: partitions.clone(), deadline: until, why });
        self.state = State::Releasing { partitions, until };
    }

    /// Leaves the group if it is joined for nothing.
    fn settle(&mut self, now: Instant) {
        if self.wants_anything() || !matches!(self.state, State::Member { .. }) {
            return;
        }
        if self.owned.is_empty() {
            self.depart(now, Afterwards::Unjoined);
        } else {
            let all = self.owned.keys().cloned().collect();
            self.hand_back(now, all, "unsubscribed".to_owned());
        }
    }

    /// Says goodbye, where the coordinator knows us or may know us.
    fn depart(&mut self, now: Instant, then: Afterwards) {
        info!(group = %self.config.group, member_id = %self.membership.member_id, "leaving the group");
        let was_member = self.membership.generation != Generation::NONE;
        let may_be_known = was_member || self.call.as_ref().is_some_and(|call| call.kind == Kind::Join);
        let member_id = self.membership.member_id.clone();
        self.forget_membership(false);
        if may_be_known {
            let until = now + LEAVE_WAIT;
            self.state = State::Leaving(Leaving { member_id, due: Some(now), retried: false, until, then });
        } else {
            self.finish_leaving(now, then);
        }
    }

    fn finish_leaving(&mut self, now: Instant, then: Afterwards) {
        // What is under way is nobody's business any more.
        self.call = None;
        match then {
            Afterwards::Left => {
                self.state = State::Left;
                self.events.push_back(GroupEvent::Left);
            }
            Afterwards::Stalled => self.state = State::Stalled,
            Afterwards::Unjoined => {
                self.state = State::Unjoined;
                self.want_join(now);
            }
        }
    }

    /// The membership is gone, and with it the partitions: joins anew.
    fn rejoin(&mut self, now: Instant, why: &str, wait: Duration) {
        info!(group = %self.config.group, member_id = %self.membership.member_id, %why, "no longer in the group");
        self.lose(why);
        self.forget_membership(true);
        self.state = State::Unjoined;
        self.next_at = Some(now + wait);
        self.events.push_back(GroupEvent::Rejoining { why: why.to_owned() });
    }

    fn want_join(&mut self, now: Instant) {
        self.next_at = Some(now);
        if !mem::replace(&mut self.asked_for_coordinator, true) {
            let why = format!("the coordinator of group {} was not looked up yet", self.config.group);
            self.events.push_back(GroupEvent::CoordinatorUnknown { why });
        }
    }

    fn forget_membership(&mut self, keep_id: bool) {
        self.membership.generation = Generation::NONE;
        if !keep_id {
            self.membership.member_id = new_member_id(&mut self.rng);
        }
        self.target.clear();
        self.identify(BTreeSet::new());
        self.untold.everything = true;
        self.expires_at = None;
    }

    fn say_what_is_owned(&mut self, now: Instant) {
        self.untold.owned = true;
        self.beat_at(now);
    }

    fn beat_at(&mut self, at: Instant) {
        self.next_at = Some(self.next_at.map_or(at, |next| next.min(at)));
    }

    fn lose(&mut self, why: &str) {
        let all = self.owned.keys().cloned().collect();
        self.lose_some(all, why);
    }

    fn lose_some(&mut self, partitions: Vec<TopicPartition>, why: &str) {
        if partitions.is_empty() {
            return;
        }
        partitions.iter().for_each(|partition| _ = self.owned.remove(partition));
        self.events.push_back(GroupEvent::Lost { partitions, why: why.to_owned() });
        if let State::Releasing { partitions, .. } = &mut self.state {
            partitions.retain(|partition| self.owned.contains_key(partition));
            if partitions.is_empty() {
                self.state = State::Member { is_said: true };
            }
        }
    }

    /// A topic that was deleted and made anew is another one, whose partitions the coordinator gives to anybody: of the former they say nothing.
    fn lose_former_topics(&mut self, now: Instant, view: &ClusterView) {
        let is_former = |(partition, id): &(&TopicPartition, &TopicId)| {
            view.topics.get(partition.topic()).and_then(|topic| topic.id).is_some_and(|present| present != **id)
        };
        let former: Vec<_> = self.owned.iter().filter(is_former).map(|(partition, _)| partition.clone()).collect();
        if !former.is_empty() {
            self.lose_some(former, "its topic was deleted, and there is another of its name");
            self.say_what_is_owned(now);
        }
    }

    fn coordinator_lost(&mut self, why: String) {
        self.untold.everything = true;
        if mem::take(&mut self.coordinator_known) {
            debug!(group = %self.config.group, %why, "coordinator unknown");
            self.events.push_back(GroupEvent::CoordinatorUnknown { why });
        }
    }

    /// Ends the member: a heartbeat was refused for good.
    fn refuse(&mut self, kind: ProblemKind, code: ErrorCode, message: Option<&str>) {
        let what = errors::explain(code, message, &self.config, self.pattern.as_deref());
        self.fail(kind, Some(code), what);
    }

    fn fail(&mut self, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        self.lose(&what);
        // Its epoch stays, so that `handle_leave` can still tell the coordinator; but a fenced one's place is another's.
        if kind == ProblemKind::Fenced {
            self.forget_membership(false);
        }
        self.state = State::Failed;
        self.events.push_back(GroupEvent::Problem(Problem { kind, partition: None, code, what, fatal: true }));
    }

    fn say(&mut self, now: Instant, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        self.events.extend(self.voice.say(now, kind, code, what));
    }

    /// By the classic protocol nobody would match the pattern.
    fn may_fall_back(&self) -> bool {
        self.config.protocol == GroupProtocol::Auto && self.pattern.is_none()
    }

    fn wants_anything(&self) -> bool {
        !self.subscription.is_empty() || self.pattern.is_some()
    }

    fn is_member(&self) -> bool {
        matches!(self.state, State::Member { .. } | State::Releasing { .. })
    }

    /// Whether nothing but leaving can come.
    fn is_over(&self) -> bool {
        matches!(self.state, State::Failed | State::Left | State::Leaving(Leaving { then: Afterwards::Left, .. }))
    }
}

/// A member makes its own id (KIP-1082): a UUID, version 4.
fn new_member_id(rng: &mut Rng) -> Arc<str> {
    let (high, low) = (rng.next_u64(), rng.next_u64());
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | 1 << 63);
    let [a, b, c, d, e] = [high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff];
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}").into()
}
