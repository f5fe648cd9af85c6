//! Finds out where to read from.
//!
//! ```text
//!  resolve ──► Committed ── OffsetFetch: an offset ──────────► Epoch ── OffsetForLeaderEpoch: the log still has it ──► Resolved
//!                 │                                 validate ────▲ │
//!                 │ OffsetFetch: NONE, no offset                   │ the log ends below it: Resolved at its end, or Truncated
//!                 ▼                                                │ the log knows no such epoch
//!               policy ◄───────────────────────────────────────────┘
//!                 │ ▲ reset: the leader said OFFSET_OUT_OF_RANGE at our own position
//!                 │ └──────
//!                 ├─ fail ──────► Stopped, until a seek
//!                 ▼
//!   seek ─────► Offset ── ListOffsets ──► Resolved
//! ```
//!
//! The policy has these three doors and no other; without a group, `resolve` goes straight through the first. No error code, lost answer or
//! missing partition opens one: all of them are tried again where they happened, for as long as it takes, and the user hears of what lasts.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    model::{BrokerId, LeaderEpoch, Offset, Position, TopicPartition},
    proto::{
        Ask, ClusterView, Deadline, Membership, Owner, PartitionHandle, PartitionView, Problem, ProblemKind, Target,
        backoff::{Backoff, Pace, Rng},
        earliest,
    },
    wire::{EpochPartition, ErrorCode, Isolation, ListOffsetsPartition, Request, Timestamp},
};

/// After how many failures in a row the user hears of it.
const TRIES_MAX: u32 = 5;
/// How long to wait before what fails for a lasting reason (a missing permission or topic) is tried again.
const LASTING_RETRY: Duration = Duration::from_secs(5);
/// How long to wait before asking again for an offset that a transaction has not decided yet.
const UNSTABLE_RETRY: Duration = Duration::from_secs(1);

/// Where to start without a usable committed offset (Java: `auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetPolicy {
    Earliest,
    Latest,
    /// At the first record that is at most this old.
    ByDuration(Duration),
    Fail,
}

#[derive(Clone, Debug)]
pub(crate) struct PositionsConfig {
    /// Whose committed offsets to begin at.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) reset: ResetPolicy,
    pub(crate) isolation: Isolation,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PositionEvent {
    /// Reading goes on at `position`. The partition is done with here.
    Resolved {
        handle: PartitionHandle,
        position: Position,
        /// What the group has committed, where that was asked for and is still in the log.
        committed: Option<Position>,
        truncated: Option<Truncation>,
    },
    /// The coordinator said something about the membership that the question was `sent` with.
    Member {
        sent: Membership,
        code: ErrorCode,
    },
    CoordinatorUnknown {
        why: String,
    },
    RefreshMetadata,
    Problem(Problem),
}

/// What was read, or committed, is no longer in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncation {
    /// The position that the log no longer has.
    pub(crate) from: Position,
    /// Where reading goes on.
    pub(crate) to: Position,
}

pub(crate) struct Positions {
    config: PositionsConfig,
    rng: Rng,
    pace: Pace,
    entries: BTreeMap<TopicPartition, Entry>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    coordinator: Peer,
    leaders: BTreeMap<BrokerId, Peer>,
    events: VecDeque<PositionEvent>,
}

/// A partition whose position is being found out.
struct Entry {
    handle: PartitionHandle,
    stage: Stage,
    /// The call that asks for it.
    call: Option<u64>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// It waits for metadata that names a leader, or a newer one, and only asks for that at `retry_at`.
    leaderless: bool,
    committed: Option<Position>,
    /// The position that the log no longer has.
    truncated: Option<Position>,
    /// What the user was last told, so that it is said once.
    said: Option<ProblemKind>,
}

/// What is asked for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Committed,
    Epoch(Position),
    Offset(Sought),
    /// The user was told; only a seek helps.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sought {
    At(Timestamp),
    /// The first record that is at most this old.
    Ago(Duration),
}

struct Call {
    kind: Kind,
    sent: Membership,
    partitions: BTreeSet<TopicPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Committed,
    Epoch(BrokerId),
    Offset(BrokerId),
}

/// Somebody who is asked, and is left alone for a while after a failure that concerns every question.
struct Peer {
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// What the user was last told, so that it is said once.
    said: Option<ProblemKind>,
}

impl Positions {
    pub(crate) fn new(config: PositionsConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            pace: Pace::new(config.retry_backoff),
            coordinator: Peer::new(&config),
            config,
            entries: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            leaders: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Starts where the group left off; without one, where the reset policy says.
    pub(crate) fn resolve(&mut self, _now: Instant, handle: &PartitionHandle) {
        if self.config.group.is_some() {
            return self.begin(handle, Stage::Committed);
        }
        self.begin(handle, Stage::Stopped);
        let why = "there is no group that would have committed an offset".to_owned();
        self.ask_policy(&handle.partition, ProblemKind::NoOffset, why);
    }

    /// Asks the reset policy: the leader said that `at`, our own position, is out of range.
    pub(crate) fn reset(&mut self, _now: Instant, handle: &PartitionHandle, at: Position, why: &'static str) {
        self.begin(handle, Stage::Stopped);
        self.ask_policy(&handle.partition, ProblemKind::NoOffset, format!("offset {} is out of range ({why})", at.offset.0));
    }

    /// Starts where the user says.
    pub(crate) fn seek(&mut self, _now: Instant, handle: &PartitionHandle, to: Timestamp) {
        self.begin(handle, Stage::Offset(Sought::At(to)));
    }

    /// Asks the new leader whether its log still has what was read up to `position`.
    pub(crate) fn validate(&mut self, _now: Instant, handle: &PartitionHandle, position: Position) {
        self.begin(handle, Stage::Epoch(position));
        if position.leader_epoch.is_none() {
            self.finish(&handle.partition, position, None);
        }
    }

    /// Takes in what a leader said in its answer to Fetch: its log and what was read up to `from` part at the end of `diverging`.
    pub(crate) fn truncated(
        &mut self,
        _now: Instant,
        handle: &PartitionHandle,
        from: Position,
        diverging: (LeaderEpoch, Offset),
    ) {
        self.begin(handle, Stage::Stopped);
        self.handle_truncated(&handle.partition, from, diverging.0, diverging.1);
    }

    pub(crate) fn remove(&mut self, handle: &PartitionHandle) {
        if self.entries.get(&handle.partition).is_some_and(|e| e.handle == *handle) {
            self.entries.remove(&handle.partition);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let peers = self.leaders.values_mut().chain([&mut self.coordinator]);
        peers.for_each(|peer| peer.retry_at = peer.retry_at.filter(|&at| at > now));
        self.entries.values_mut().for_each(|entry| entry.retry_at = entry.retry_at.filter(|&at| at > now));
    }

    /// Changes the policy: the delivery mode has a say in it, and is chosen after everything else.
    pub(crate) fn set_reset(&mut self, reset: ResetPolicy) {
        self.config.reset = reset;
    }

    /// Asks the coordinator and the leaders: one call at a time to each, for all partitions that wait.
    ///
    /// What `view` alone can answer is answered here, so events may follow also where there is nothing to ask.
    #[must_use]
    pub(crate) fn poll_ask(
        &mut self,
        now: Instant,
        wall_ms: i64,
        view: &ClusterView,
        member: &Membership,
        coordinator_known: bool,
    ) -> Option<Ask> {
        if self.entries.is_empty() {
            return None;
        }
        if coordinator_known && let Some(ask) = self.ask_committed(now, member) {
            return Some(ask);
        }
        self.settle_epochs(view);
        let (kind, partitions) = self.next_for_a_leader(now, view)?;
        let asked = partitions.iter().filter_map(|p| Some((p, self.entries.get(p)?.stage, view.partition(p)?)));
        let (broker, request) = match kind {
            Kind::Epoch(broker) => {
                let partitions = asked.filter_map(|(p, stage, known)| epoch_question(p, stage, known)).collect();
                (broker, Request::OffsetForLeaderEpoch { partitions })
            }
            Kind::Offset(broker) => {
                let partitions = asked.filter_map(|(p, stage, known)| offset_question(p, stage, known, wall_ms)).collect();
                (broker, Request::ListOffsets { isolation: self.config.isolation, partitions })
            }
            Kind::Committed => unreachable!("a leader is not asked for committed offsets"),
        };
        Some(self.call(kind, partitions, member, Target::Broker(broker), request))
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<PositionEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let waiting = || self.entries.values().filter(|e| e.call.is_none() && e.stage != Stage::Stopped);
        let entries = waiting().filter_map(|e| e.retry_at).min();
        let coordinator = self.coordinator.retry_at.filter(|_| waiting().any(|e| e.stage == Stage::Committed));
        let leaders = self.leaders.values().filter_map(|peer| peer.retry_at).min();
        let leaders = leaders.filter(|_| waiting().any(|e| e.stage != Stage::Committed));
        earliest(
            entries.map(|at| (at, "position retry of a partition")),
            earliest(coordinator.map(|at| (at, "committed offsets retry")), leaders.map(|at| (at, "position retry at a leader"))),
        )
    }

    fn begin(&mut self, handle: &PartitionHandle, stage: Stage) {
        let entry = Entry {
            handle: handle.clone(),
            stage,
            call: None,
            backoff: Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max),
            retry_at: None,
            leaderless: false,
            committed: None,
            truncated: None,
            said: None,
        };
        self.entries.insert(handle.partition.clone(), entry);
    }

    fn is_waiting(&self, partition: &TopicPartition, call: u64) -> bool {
        self.entries.get(partition).is_some_and(|e| e.call == Some(call))
    }

    fn finish(&mut self, partition: &TopicPartition, position: Position, truncated: Option<Truncation>) {
        let Some(Entry { handle, committed, .. }) = self.entries.remove(partition) else { return };
        let committed = committed.filter(|_| truncated.is_none());
        self.events.push_back(PositionEvent::Resolved { handle, position, committed, truncated });
    }

    /// The only way to the reset policy. `why` is what the user reads if the policy is to fail.
    fn ask_policy(&mut self, partition: &TopicPartition, kind: ProblemKind, why: String) {
        let sought = match self.config.reset {
            ResetPolicy::Earliest => Sought::At(Timestamp::Earliest),
            ResetPolicy::Latest => Sought::At(Timestamp::Latest),
            ResetPolicy::ByDuration(age) => Sought::Ago(age),
            ResetPolicy::Fail => return self.stop(partition, kind, why),
        };
        tracing::info!(%partition, group = self.config.group.as_deref(), why, "resetting the position");
        if let Some(entry) = self.entries.get_mut(partition) {
            entry.stage = Stage::Offset(sought);
            entry.backoff.reset();
        }
    }

    fn stop(&mut self, partition: &TopicPartition, kind: ProblemKind, why: String) {
        if let Some(entry) = self.entries.get_mut(partition) {
            entry.stage = Stage::Stopped;
        }
        self.say(partition, kind, None, format!("{why}, and the reset policy is to fail; seek to go on"));
    }

    fn ask_committed(&mut self, now: Instant, member: &Membership) -> Option<Ask> {
        if !self.coordinator.is_ready(now) || self.is_asking(Kind::Committed) {
            return None;
        }
        let group = self.config.group.clone()?;
        let waiting = self.entries.iter().filter(|(_, e)| e.stage == Stage::Committed && e.is_ready(now));
        let partitions: BTreeSet<_> = waiting.map(|(p, _)| p.clone()).collect();
        if partitions.is_empty() {
            return None;
        }
        let request = Request::OffsetFetch { group, partitions: partitions.iter().cloned().collect() };
        Some(self.call(Kind::Committed, partitions, member, Target::Coordinator, request))
    }

    /// Finishes positions that need no leader's word: no epoch is known, or it is still the newest.
    fn settle_epochs(&mut self, view: &ClusterView) {
        let settled: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.call.is_none())
            .filter_map(|(partition, entry)| match (entry.stage, view.partition(partition)) {
                (Stage::Epoch(position), Some(known))
                    if position.leader_epoch.is_none()
                        || (known.leader.is_some() && known.leader_epoch.is_none_or(|e| Some(e) == position.leader_epoch)) =>
                {
                    Some((partition.clone(), position))
                }
                _ => None,
            })
            .collect();
        for (partition, position) in settled {
            self.finish(&partition, position, None);
        }
    }

    /// Chooses a leader that has no such call yet, and what to ask it for. Partitions without a leader ask for metadata.
    fn next_for_a_leader(&mut self, now: Instant, view: &ClusterView) -> Option<(Kind, BTreeSet<TopicPartition>)> {
        let mut questions: BTreeMap<Kind, BTreeSet<TopicPartition>> = BTreeMap::new();
        let mut leaderless = false;
        let rng = self.rng.clone();
        for (partition, entry) in &mut self.entries {
            if entry.call.is_some() || matches!(entry.stage, Stage::Committed | Stage::Stopped) {
                continue;
            }
            let known = view.partition(partition).filter(|known| !entry.is_ahead_of(known));
            match known.and_then(|known| known.leader) {
                Some(leader) => {
                    if std::mem::take(&mut entry.leaderless) {
                        entry.retry_at = None;
                    }
                    if entry.is_ready(now) {
                        let kind =
                            if matches!(entry.stage, Stage::Epoch(_)) { Kind::Epoch(leader) } else { Kind::Offset(leader) };
                        questions.entry(kind).or_default().insert(partition.clone());
                    }
                }
                None if entry.is_ready(now) => {
                    leaderless = true;
                    entry.leaderless = true;
                    entry.retry_at = Some(self.pace.after(now, entry.backoff.fail(&mut rng.clone())));
                }
                None => {}
            }
        }
        if leaderless {
            self.rng.next_u64();
            self.refresh();
        }
        questions.into_iter().find(|(kind, _)| {
            let (Kind::Epoch(leader) | Kind::Offset(leader)) = kind else { return false };
            !self.is_asking(*kind) && self.leaders.get(leader).is_none_or(|peer| peer.is_ready(now))
        })
    }

    fn is_asking(&self, kind: Kind) -> bool {
        self.calls.values().any(|call| call.kind == kind)
    }

    fn call(
        &mut self,
        kind: Kind,
        partitions: BTreeSet<TopicPartition>,
        member: &Membership,
        to: Target,
        request: Request,
    ) -> Ask {
        let call = self.next_call;
        self.next_call += 1;
        for partition in &partitions {
            if let Some(entry) = self.entries.get_mut(partition) {
                (entry.call, entry.retry_at) = (Some(call), None);
            }
        }
        self.calls.insert(call, Call { kind, sent: member.clone(), partitions });
        Ask { owner: Owner::Positions(call), to, request, timeout: self.config.request_timeout }
    }

    fn peer(&mut self, kind: Kind) -> &mut Peer {
        match kind {
            Kind::Committed => &mut self.coordinator,
            Kind::Epoch(broker) | Kind::Offset(broker) => self.leaders.entry(broker).or_insert_with(|| Peer::new(&self.config)),
        }
    }

    fn back_off(&mut self, now: Instant, kind: Kind) {
        let mut rng = self.rng.in_common();
        let wait = self.peer(kind).backoff.fail(&mut rng);
        self.leave_alone(now, kind, wait);
    }

    fn leave_alone(&mut self, now: Instant, kind: Kind, wait: Duration) {
        let retry_at = self.pace.after(now, wait);
        self.peer(kind).retry_at = Some(retry_at);
    }

    /// Waits as long as a failure that passes by itself needs.
    fn put_off(&mut self, now: Instant, rng: &mut Rng, partition: &TopicPartition) {
        if let Some(entry) = self.entries.get_mut(partition) {
            entry.retry_at = Some(self.pace.after(now, entry.backoff.fail(rng)));
        }
    }

    /// As `put_off`, but after a few failures the user hears of it, and it is tried more rarely.
    fn try_again(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        partition: &TopicPartition,
        kind: ProblemKind,
        code: Option<ErrorCode>,
        what: &str,
    ) {
        self.put_off(now, rng, partition);
        let Some(entry) = self.entries.get_mut(partition).filter(|e| e.backoff.failures() >= TRIES_MAX) else { return };
        entry.retry_at = Some(self.pace.after(now, LASTING_RETRY));
        self.say(partition, kind, code, format!("{what}; trying again"));
    }

    fn put_off_unauthorized(&mut self, now: Instant, partition: &TopicPartition, code: ErrorCode) {
        let Some(entry) = self.entries.get_mut(partition) else { return };
        entry.retry_at = Some(self.pace.after(now, LASTING_RETRY));
        let what = format!("{code}; grant READ and DESCRIBE on the topic");
        self.say(partition, ProblemKind::Unauthorized, Some(code), what);
    }

    fn refresh(&mut self) {
        if !self.events.contains(&PositionEvent::RefreshMetadata) {
            self.events.push_back(PositionEvent::RefreshMetadata);
        }
    }

    /// Tells the user about a partition, once until it is resolved or something else is wrong.
    fn say(&mut self, partition: &TopicPartition, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        let Some(entry) = self.entries.get_mut(partition) else { return };
        if entry.said.replace(kind) != Some(kind) {
            let what = format!("cannot find where to read {partition}{}: {what}", self.for_group());
            let partition = Some(partition.clone());
            self.events.push_back(PositionEvent::Problem(Problem { kind, partition, code, what, fatal: false }));
        }
    }

    fn say_of_peer(&mut self, of: Kind, kind: ProblemKind, code: Option<ErrorCode>, what: String, fatal: bool) {
        if self.peer(of).said.replace(kind) != Some(kind) {
            self.events.push_back(PositionEvent::Problem(Problem { kind, partition: None, code, what, fatal }));
        }
    }
}

impl Entry {
    /// Our position was read under a newer leader than the view knows. An older leader would not know that epoch, which would look like a
    /// truncation. If metadata stays behind, it is one: the topic was made anew.
    fn is_ahead_of(&self, known: &PartitionView) -> bool {
        let Stage::Epoch(position) = self.stage else { return false };
        known.leader_epoch.is_some() && position.leader_epoch > known.leader_epoch && self.backoff.failures() < TRIES_MAX
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.call.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }
}

impl Peer {
    fn new(config: &PositionsConfig) -> Self {
        Self { backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max), retry_at: None, said: None }
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    fn reset(&mut self) {
        self.backoff.reset();
        (self.retry_at, self.said) = (None, None);
    }
}

fn epoch_question(partition: &TopicPartition, stage: Stage, known: &PartitionView) -> Option<EpochPartition> {
    let Stage::Epoch(Position { leader_epoch: Some(leader_epoch), .. }) = stage else { return None };
    Some(EpochPartition { partition: partition.clone(), current_leader_epoch: known.leader_epoch, leader_epoch })
}

fn offset_question(
    partition: &TopicPartition,
    stage: Stage,
    known: &PartitionView,
    wall_ms: i64,
) -> Option<ListOffsetsPartition> {
    let Stage::Offset(sought) = stage else { return None };
    let timestamp = match sought {
        Sought::At(timestamp) => timestamp,
        Sought::Ago(age) => Timestamp::AtMs(wall_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).max(0)),
    };
    Some(ListOffsetsPartition { partition: partition.clone(), current_leader_epoch: known.leader_epoch, timestamp })
}

#[cfg(test)]
mod tests;
