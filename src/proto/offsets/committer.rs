//! Commits what is finished: at most one OffsetCommit in flight for the group, never taken back once written; what comes meanwhile merges.
//!
//! ```text
//!          finished, commit            tick, flush, ticket, retry                 NONE
//!  clean ───────────────────► dirty ─────────────────────────────► in flight ───────────────► clean
//!                               ▲                                      │
//!                               └──────────────────────────────────────┘
//!               whatever may be tried again: with the newest value, not the one that was sent
//! ```
//!
//! Commits are serialised, and a connection writes one where nothing else is in flight, so that a broker that listens reads it at once. So a
//! commit whose outcome is unknown can simply be followed by the newest value: an older one does not land after it.
//!
//! Without a group nothing is committed; up to where each partition is finished is known all the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::errors::{self, CoordinatorVerdict};
use crate::{
    model::{Generation, Position, TopicPartition},
    proto::{
        Answer, Ask, CallError, Deadline, Membership, Owner, PartitionHandle, Problem, ProblemKind, Target,
        backoff::{Backoff, Pace, Rng},
        earliest, invariant,
    },
    wire::{CommitPartition, ErrorCode, MemberRequest, OffsetCommitRequest, Request, Response},
};

/// How often in a row one partition's value is tried before the user hears of it.
const TRIES_MAX: u32 = 5;
/// How long to wait before what is refused for a lasting reason (a missing permission) is tried again.
const LASTING_RETRY: Duration = Duration::from_secs(5);
/// How many explicit commits of one partition may wait; beyond it the oldest is told that its outcome is unknown.
const TICKETS_MAX: usize = 1024;
/// How long a commit waits for news of a topic that may have been made anew.
const HOLD_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct CommitterConfig {
    /// Whose offsets they are.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) instance_id: Option<Arc<str>>,
    /// How often finished work is committed (Java: `auto.commit.interval.ms`).
    pub(crate) interval: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CommitEvent {
    /// The coordinator has stored this position.
    Committed {
        handle: PartitionHandle,
        position: Position,
    },
    /// What became of an explicit commit; exactly one per ticket.
    Done {
        ticket: u64,
        result: Result<(), CommitFailure>,
    },
    /// The coordinator said something about the membership that the commit was `sent` with.
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

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CommitFailure {
    /// The partition is not, or no longer, ours.
    NotAssigned,
    /// There is no group whose offset it would be.
    NoGroup,
    /// The membership was lost before the commit was sent.
    Rebalanced,
    /// Perhaps stored: the request was written, and no answer told.
    Unknown(String),
    Broker(ErrorCode, String),
}

pub(crate) struct Committer {
    config: CommitterConfig,
    rng: Rng,
    pace: Pace,
    entries: BTreeMap<TopicPartition, Entry>,
    in_flight: Option<InFlight>,
    next_call: u64,
    /// Dirty values may be sent: the interval is over, or somebody asked for it. Ends with the next request.
    due: bool,
    progress_wanted: bool,
    next_tick: Option<Instant>,
    gate: Gate,
    events: VecDeque<CommitEvent>,
}

/// Holds back every request, because of an answer that concerned more than one partition.
struct Gate {
    backoff: Backoff,
    until: Option<Instant>,
    /// The membership that was refused: under another one there is no reason to wait.
    refused: Option<Membership>,
    /// What the user was last told, so that it is said once.
    said: Option<ProblemKind>,
}

/// What [`Committer::take`] took.
pub(crate) struct Carried(Entry);

/// A partition that is assigned to us.
struct Entry {
    handle: PartitionHandle,
    committed: Option<Position>,
    /// Up to where everything is finished.
    finished: Position,
    /// What to commit next.
    wanted: Option<Position>,
    tickets: VecDeque<Ticket>,
    held_until: Option<Instant>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// What is wanted was sent before, and is sent again without waiting for the interval.
    again: bool,
    /// What the user was last told, so that it is said once.
    said: Option<ProblemKind>,
}

/// Somebody waits for an explicit commit.
#[derive(Clone, Copy)]
struct Ticket {
    number: u64,
    /// It was sent once already, and may have been stored.
    in_doubt: bool,
}

struct InFlight {
    call: u64,
    sent: Membership,
    partitions: BTreeMap<TopicPartition, Sent>,
}

struct Sent {
    handle: PartitionHandle,
    position: Position,
    tickets: VecDeque<Ticket>,
    /// The partition was lost meanwhile.
    abandoned: bool,
}

/// Why one partition's commit was not stored.
struct Refusal {
    kind: ProblemKind,
    /// `None`: the answer left the partition out.
    code: Option<ErrorCode>,
    what: String,
}

impl Committer {
    pub(crate) fn new(config: CommitterConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            pace: Pace::new(config.retry_backoff),
            gate: Gate {
                backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
                until: None,
                refused: None,
                said: None,
            },
            config,
            entries: BTreeMap::new(),
            in_flight: None,
            next_call: 0,
            due: false,
            progress_wanted: false,
            next_tick: None,
            events: VecDeque::new(),
        }
    }

    /// Takes a partition in: reading began at `start`, and the coordinator knows `committed`. Replaces an older handle of it.
    ///
    /// Nothing is dirty until something beyond `start` is finished; this also holds where `start` came from the reset policy.
    pub(crate) fn assign(&mut self, now: Instant, handle: &PartitionHandle, start: Position, committed: Option<Position>) {
        // An older assignment's commit is still on its way: what the coordinator will know is open.
        let committed =
            committed.filter(|_| !self.in_flight.as_ref().is_some_and(|f| f.partitions.contains_key(&handle.partition)));
        let entry = Entry {
            handle: handle.clone(),
            committed,
            finished: start,
            wanted: None,
            tickets: VecDeque::new(),
            held_until: None,
            backoff: Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max),
            retry_at: None,
            again: false,
            said: None,
        };
        if let Some(old) = self.entries.insert(handle.partition.clone(), entry) {
            self.dismiss(old.tickets, &CommitFailure::NotAssigned);
        }
        if self.next_tick.is_none() {
            self.next_tick = now.checked_add(self.interval());
        }
    }

    /// Lets a partition go: what is dirty is forgotten, and what is in flight only answers its tickets.
    pub(crate) fn remove(&mut self, handle: &PartitionHandle) {
        if self.entry(handle).is_none() || planted!(CommitUnderNextEpoch) {
            return;
        }
        if let Some(entry) = self.entries.remove(&handle.partition) {
            self.dismiss(entry.tickets, &CommitFailure::NotAssigned);
        }
        if self.entries.is_empty() {
            (self.next_tick, self.due, self.progress_wanted) = (None, false, false);
        }
    }

    /// Takes a partition's commits out of the one handle, to [go on](Self::carry_on) with them under the next: reading begins anew, and
    /// goes nowhere else.
    pub(crate) fn take(&mut self, handle: &PartitionHandle) -> Option<Carried> {
        self.entry(handle)?;
        self.entries.remove(&handle.partition).map(Carried)
    }

    /// Goes on with a partition's commits under its new handle, also with one that is on its way; unless reading began before what is finished.
    pub(crate) fn carry_on(&mut self, handle: &PartitionHandle, Carried(mut entry): Carried) {
        let begins_before = |new: &Entry| new.finished.offset < entry.finished.offset;
        if self.entry(handle).is_some_and(|new| begins_before(new)) {
            return self.dismiss(entry.tickets, &CommitFailure::NotAssigned);
        }
        let in_flight = self.in_flight.as_mut().and_then(|flight| flight.partitions.get_mut(&handle.partition));
        if let Some(sent) = in_flight.filter(|sent| sent.handle == entry.handle) {
            sent.handle = handle.clone();
        }
        entry.handle = handle.clone();
        self.entries.insert(handle.partition.clone(), entry);
    }

    /// Up to where a partition is finished, or was committed by its user, as far as is known: what lies behind it has to be read again.
    pub(crate) fn finished(&self, handle: &PartitionHandle) -> Option<Position> {
        let entry = self.entries.get(&handle.partition).filter(|entry| entry.handle == *handle)?;
        let committed = entry.committed.filter(|committed| committed.offset > entry.finished.offset);
        Some(committed.unwrap_or(entry.finished))
    }

    /// Takes in up to where a partition is finished without a hole. Never goes back.
    pub(crate) fn handle_finished(&mut self, _now: Instant, handle: &PartitionHandle, finished: Position) {
        let has_group = self.has_group();
        let Some(entry) = self.entry(handle) else { return };
        if finished.offset <= entry.finished.offset {
            return;
        }
        entry.finished = finished;
        if !has_group {
            return;
        }
        let known = entry.committed.is_some_and(|committed| committed.offset == finished.offset);
        entry.wanted = (!known || !entry.tickets.is_empty()).then_some(finished);
    }

    /// Keeps a partition from being committed, because its topic may have been deleted and made anew; for a while only, since what would
    /// tell may itself wait for the commit: at most once, nothing is handed out before it, and a full buffer fetches nothing.
    pub(crate) fn hold(&mut self, now: Instant, handle: &PartitionHandle, held: bool) {
        if let Some(entry) = self.entry(handle) {
            // What was due meanwhile is due now.
            entry.again |= entry.held_until.is_some() && !held;
            entry.held_until = held.then(|| now + HOLD_MAX);
        }
    }

    /// Commits this very position, also if that goes back, and answers the ticket once.
    pub(crate) fn commit(&mut self, _now: Instant, handle: &PartitionHandle, position: Position, ticket: u64) {
        if !self.has_group() {
            self.events.push_back(CommitEvent::Done { ticket, result: Err(CommitFailure::NoGroup) });
            return;
        }
        let Some(entry) = self.entry(handle) else {
            self.events.push_back(CommitEvent::Done { ticket, result: Err(CommitFailure::NotAssigned) });
            return;
        };
        entry.wanted = Some(position);
        entry.tickets.push_back(Ticket { number: ticket, in_doubt: false });
        let excess = if entry.tickets.len() > TICKETS_MAX { entry.tickets.pop_front() } else { None };
        let why = "the coordinator cannot be reached, and too many later commits of the partition wait too";
        self.dismiss(excess, &CommitFailure::Unknown(why.into()));
    }

    /// Commits what is dirty as soon as that is allowed, rather than at the interval.
    pub(crate) fn flush(&mut self, _now: Instant) {
        self.due = true;
    }

    /// Nothing of these is dirty, in flight or waited for; apart from what is held, or refused for a reason that lasts.
    pub(crate) fn is_settled(&self, partitions: &BTreeSet<TopicPartition>) -> bool {
        let is_settled = |e: &Entry| e.tickets.is_empty() && (!e.is_sendable() || e.said.is_some() || self.gate.is_hopeless());
        let is_in_flight =
            self.in_flight.as_ref().is_some_and(|f| f.partitions.keys().any(|partition| partitions.contains(partition)));
        !is_in_flight && partitions.iter().filter_map(|partition| self.entries.get(partition)).all(is_settled)
    }

    /// Whether something of it is finished that the coordinator has not stored: refused, held back, or not answered yet.
    pub(crate) fn is_behind(&self, partition: &TopicPartition) -> bool {
        let is_behind = |e: &Entry| {
            let is_given_up = e.said.is_some() && e.committed.is_none_or(|committed| committed.offset < e.finished.offset);
            e.wanted.is_some() || is_given_up
        };
        let is_in_flight = self.in_flight.as_ref().is_some_and(|flight| flight.partitions.contains_key(partition));
        is_in_flight || self.entries.get(partition).is_some_and(is_behind)
    }

    /// Whether anything is ever committed.
    pub(crate) fn has_group(&self) -> bool {
        self.config.group.is_some()
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the aggregate shall now say how far each partition is finished. True once per interval while something is assigned.
    pub(crate) fn wants_progress(&mut self, now: Instant) -> bool {
        self.tick(now);
        std::mem::take(&mut self.progress_wanted)
    }

    /// Lets a partition go that is somebody else's: as `remove`, and who waits for a commit of it hears of a rebalance.
    pub(crate) fn lost(&mut self, handle: &PartitionHandle) {
        let in_flight = self.in_flight.as_mut().and_then(|flight| flight.partitions.get_mut(&handle.partition));
        if let Some(sent) = in_flight.filter(|sent| sent.handle == *handle) {
            sent.abandoned = true;
        }
        if let Some(entry) = self.entry(handle) {
            let tickets = std::mem::take(&mut entry.tickets);
            self.dismiss(tickets, &CommitFailure::Rebalanced);
        }
        self.remove(handle);
    }

    pub(crate) fn handle_answer(&mut self, now: Instant, call: u64, answer: Answer) {
        let Some(flight) = self.in_flight.take_if(|f| f.call == call) else {
            tracing::debug!(call, "an answer to a commit that nobody waits for");
            return;
        };
        match answer {
            Ok(Response::OffsetCommit(answered)) => self.handle_codes(now, flight, answered),
            Ok(_) => {
                invariant!(false, "OffsetCommit was answered with another API's answer");
                self.try_all_again(now, flight, Some("its answer was of another kind"));
            }
            Err(CallError::NotSent(why)) => {
                self.events.push_back(CommitEvent::CoordinatorUnknown { why });
                self.try_all_again(now, flight, None);
            }
            Err(CallError::Lost(why)) => {
                self.events.push_back(CommitEvent::CoordinatorUnknown { why: why.clone() });
                if planted!(DropWrittenCommit) {
                    return;
                }
                self.try_all_again(now, flight, Some(&why));
            }
            Err(error @ CallError::Malformed(_)) => {
                let what = format!("cannot tell whether group {} has committed: {error}; trying again", self.group());
                self.say_of_group(ProblemKind::Protocol, None, what, false);
                self.try_all_again(now, flight, Some(&error.to_string()));
            }
            Err(error @ CallError::Unsupported { .. }) => {
                let what = format!("cannot commit for group {}: {error}; upgrade the brokers", self.group());
                self.say_of_group(ProblemKind::Incompatible, None, what, false);
                self.try_all_again(now, flight, None);
                self.gate.until = Some(self.pace.after(now, LASTING_RETRY));
                self.fail_tickets(ErrorCode::UNSUPPORTED_VERSION);
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        self.gate.until = self.gate.until.filter(|&until| until > now);
        for entry in self.entries.values_mut() {
            entry.retry_at = entry.retry_at.filter(|&at| at > now);
            entry.again |= entry.held_until.take_if(|until| *until <= now).is_some();
        }
    }

    /// Asks for everything that is dirty at once, when something of it is due. `allowed` is false from JoinGroup to the end of SyncGroup, and
    /// where there is nobody to commit to.
    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant, member: &Membership, allowed: bool) -> Option<Ask> {
        let is_in_flight = self.in_flight.is_some() && !planted!(CommitTwiceAtOnce);
        let has_lost_its_generation = member.generation == Generation::NONE && *member != Membership::none();
        if !allowed || is_in_flight || has_lost_its_generation || !self.gate.is_open(now, member) {
            return None;
        }
        let group = self.config.group.clone()?;
        if !self.entries.values().any(|e| e.is_ready(now) && (self.due || e.is_urgent())) {
            return None;
        }
        self.due = false;
        let mut partitions = Vec::new();
        let mut sent = BTreeMap::new();
        for (partition, entry) in self.entries.iter_mut().filter(|(_, e)| e.is_ready(now)) {
            let Some(position) = entry.wanted.take() else { continue };
            entry.again = false;
            partitions.push(CommitPartition {
                partition: partition.clone(),
                offset: position.offset,
                leader_epoch: position.leader_epoch,
            });
            let tickets = std::mem::take(&mut entry.tickets);
            sent.insert(partition.clone(), Sent { handle: entry.handle.clone(), position, tickets, abandoned: false });
        }
        let call = self.next_call;
        self.next_call += 1;
        self.in_flight = Some(InFlight { call, sent: member.clone(), partitions: sent });
        let member = MemberRequest {
            group,
            generation: member.generation,
            member_id: member.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
        };
        Some(Ask {
            owner: Owner::Committer(call),
            to: Target::Coordinator,
            request: Request::OffsetCommit(OffsetCommitRequest { member, partitions }),
            timeout: self.config.request_timeout,
        })
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<CommitEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self, allowed: bool) -> Option<Deadline> {
        let tick = self.next_tick.map(|at| (at, "commit interval"));
        let held = self.entries.values().filter_map(|e| e.held_until).min();
        let tick = earliest(tick, held.map(|at| (at, "commit of a topic in doubt")));
        if !allowed || self.in_flight.is_some() || !self.entries.values().any(Entry::is_sendable) {
            return tick;
        }
        let gate = self.gate.until.map(|at| (at, "commit retry"));
        let retries = self.entries.values().filter(|e| e.is_sendable()).filter_map(|e| e.retry_at).min();
        earliest(tick, earliest(gate, retries.map(|at| (at, "commit retry of a partition"))))
    }

    fn interval(&self) -> Duration {
        self.config.interval.max(Duration::from_millis(1))
    }

    fn tick(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|at| at <= now) {
            self.next_tick = now.checked_add(self.interval());
            (self.progress_wanted, self.due) = (true, true);
        }
    }

    fn entry(&mut self, handle: &PartitionHandle) -> Option<&mut Entry> {
        self.entries.get_mut(&handle.partition).filter(|e| e.handle == *handle)
    }

    /// Answers tickets that will not be tried (again): those in doubt may have been stored all the same.
    fn dismiss(&mut self, tickets: impl IntoIterator<Item = Ticket>, failure: &CommitFailure) {
        for ticket in tickets {
            let failure = if ticket.in_doubt {
                CommitFailure::Unknown("no answer told whether it was stored, and it cannot be tried again".into())
            } else {
                failure.clone()
            };
            self.events.push_back(CommitEvent::Done { ticket: ticket.number, result: Err(failure) });
        }
    }

    /// Reads the whole answer first: one partition's code may concern them all.
    fn handle_codes(&mut self, now: Instant, flight: InFlight, answered: Vec<(TopicPartition, ErrorCode)>) {
        let mut codes = BTreeMap::new();
        for (partition, code) in answered {
            if !flight.partitions.contains_key(&partition) {
                tracing::debug!(%partition, "the answer to a commit names a partition that was not committed");
                continue;
            }
            codes.entry(partition).or_insert(code);
        }
        let mut group = GroupWord::default();
        let rng = self.rng.clone();
        self.rng.next_u64();
        for (partition, sent) in flight.partitions {
            // The same chance for all of one answer: what failed together is tried again together.
            self.handle_code(now, &mut rng.clone(), sent, codes.get(&partition).copied(), &mut group);
        }
        self.handle_group_word(now, flight.sent, group);
    }

    fn handle_code(&mut self, now: Instant, rng: &mut Rng, mut sent: Sent, code: Option<ErrorCode>, group: &mut GroupWord) {
        let Some(code) = code else {
            let what = format!("the answer to a commit of offset {} left the partition out", sent.position.offset.0);
            sent.doubt();
            return self.try_a_few_times(now, rng, sent, Refusal { kind: ProblemKind::Protocol, code: None, what });
        };
        let what = format!("the coordinator refused to commit offset {}: {code}", sent.position.offset.0);
        let refusal = Refusal { kind: ProblemKind::CommitRefused, code: Some(code), what };
        match errors::offset_commit(code) {
            CoordinatorVerdict::Done => self.handle_stored(sent),
            CoordinatorVerdict::Membership => {
                // A rebalance is the weaker news: it leaves the membership as it is.
                if group.member.is_none_or(|known| known == ErrorCode::REBALANCE_IN_PROGRESS) {
                    group.member = Some(code);
                }
                self.restore(sent);
            }
            CoordinatorVerdict::NotReady => {
                group.not_ready = true;
                self.restore(sent);
            }
            CoordinatorVerdict::Moved => {
                group.moved = Some(format!("OffsetCommit was answered with {code}"));
                self.restore(sent);
            }
            CoordinatorVerdict::Unknown => {
                group.moved = Some(format!("OffsetCommit was answered with {code}"));
                sent.doubt();
                self.restore(sent);
            }
            CoordinatorVerdict::UnknownTopic => {
                group.refresh = true;
                self.try_a_few_times(now, rng, sent, refusal);
            }
            CoordinatorVerdict::TopicUnauthorized => {
                let what = format!("{}; grant READ on the topic", refusal.what);
                self.try_later(now, sent, Refusal { kind: ProblemKind::Unauthorized, what, ..refusal });
            }
            CoordinatorVerdict::Refused => self.give_up(now, sent, refusal),
            CoordinatorVerdict::GroupUnauthorized | CoordinatorVerdict::BadGroup | CoordinatorVerdict::Incompatible => {
                group.refused = Some(code);
                self.restore(sent);
            }
            CoordinatorVerdict::Unstable | CoordinatorVerdict::Unexpected => self.try_a_few_times(now, rng, sent, refusal),
        }
    }

    fn handle_group_word(&mut self, now: Instant, sent: Membership, word: GroupWord) {
        if word.is_good() {
            self.gate.reset();
        } else {
            let only_member = word.moved.is_none() && !word.not_ready && word.member.is_some();
            self.close_gate(now, only_member.then(|| sent.clone()));
        }
        if word.refresh {
            self.events.push_back(CommitEvent::RefreshMetadata);
        }
        if let Some(why) = word.moved {
            self.events.push_back(CommitEvent::CoordinatorUnknown { why });
        }
        match word.member {
            Some(code) if sent == Membership::none() => self.refuse_stranger(now, code),
            Some(code) => self.events.push_back(CommitEvent::Member { sent, code }),
            None => {}
        }
        if let Some(code) = word.refused {
            // Permissions that were taken away may be given back.
            let (kind, advice, fatal) = match code {
                ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                    (ProblemKind::Unauthorized, "grant READ on the group; ottla goes on trying", false)
                }
                ErrorCode::INVALID_GROUP_ID => (ProblemKind::GroupRefused, "choose another group id", true),
                _ => (ProblemKind::Incompatible, "upgrade the brokers", true),
            };
            let what = format!("cannot commit for group {}: {code}; {advice}", self.group());
            self.say_of_group(kind, Some(code), what, fatal);
            self.fail_tickets(code);
        }
    }

    /// Whoever is no member may commit for a group only while it has none. Its members may leave, so it is tried again, rarely.
    fn refuse_stranger(&mut self, now: Instant, code: ErrorCode) {
        self.gate.until = Some(self.pace.after(now, LASTING_RETRY));
        let why = match code {
            ErrorCode::GROUP_ID_NOT_FOUND => "it is no group of consumers; choose another group id",
            _ => {
                "it has members, and while it has any, the coordinator takes commits of nobody else; stop them, or choose another group id \
                 for this consumer, which is assigned its partitions by its program; ottla goes on trying"
            }
        };
        let what = format!("cannot commit for group {}: {code}: {why}", self.group());
        self.say_of_group(ProblemKind::CommitRefused, Some(code), what, false);
        self.fail_tickets(code);
    }

    fn group(&self) -> &str {
        self.config.group.as_deref().unwrap_or_default()
    }

    fn handle_stored(&mut self, sent: Sent) {
        for ticket in sent.tickets {
            self.events.push_back(CommitEvent::Done { ticket: ticket.number, result: Ok(()) });
        }
        let Some(entry) = self.entry(&sent.handle) else { return };
        entry.committed = Some(sent.position);
        entry.backoff.reset();
        (entry.retry_at, entry.said) = (None, None);
        self.events.push_back(CommitEvent::Committed { handle: sent.handle, position: sent.position });
    }

    /// Makes dirty again what was sent, unless something newer is.
    fn restore(&mut self, mut sent: Sent) {
        match self.entry(&sent.handle) {
            Some(entry) => {
                entry.wanted.get_or_insert(sent.position);
                entry.again = true;
                sent.tickets.append(&mut entry.tickets);
                entry.tickets = sent.tickets;
            }
            _ if sent.abandoned => self.dismiss(sent.tickets, &CommitFailure::Rebalanced),
            _ => self.dismiss(sent.tickets, &CommitFailure::NotAssigned),
        }
    }

    fn try_a_few_times(&mut self, now: Instant, rng: &mut Rng, sent: Sent, refusal: Refusal) {
        let Self { entries, pace, .. } = self;
        if let Some(entry) = entries.get_mut(&sent.handle.partition).filter(|e| e.handle == sent.handle) {
            let wait = entry.backoff.fail(rng);
            if entry.backoff.failures() < TRIES_MAX {
                entry.retry_at = Some(pace.after(now, wait));
                return self.restore(sent);
            }
        }
        self.give_up(now, sent, Refusal { what: format!("{}; tried {TRIES_MAX} times", refusal.what), ..refusal });
    }

    /// Answers who waits, and keeps the value for when the reason may have gone.
    fn try_later(&mut self, now: Instant, sent: Sent, refusal: Refusal) {
        let again = Sent { handle: sent.handle.clone(), tickets: VecDeque::new(), ..sent };
        self.give_up(now, sent, refusal);
        self.restore(again);
    }

    /// Answers who waits, and does not try this value again; a newer one not at once.
    fn give_up(&mut self, now: Instant, sent: Sent, refusal: Refusal) {
        let retry_at = self.pace.after(now, LASTING_RETRY);
        if let Some(entry) = self.entry(&sent.handle) {
            entry.retry_at = Some(retry_at);
        }
        self.dismiss(
            sent.tickets,
            &match refusal.code {
                Some(code) => CommitFailure::Broker(code, refusal.what.clone()),
                None => CommitFailure::Unknown(refusal.what.clone()),
            },
        );
        self.say(&sent.handle, refusal);
    }

    fn try_all_again(&mut self, now: Instant, flight: InFlight, in_doubt: Option<&str>) {
        if let Some(why) = in_doubt {
            tracing::debug!(group = self.group(), why, "the outcome of a commit is unknown");
        }
        for mut sent in flight.partitions.into_values() {
            if in_doubt.is_some() {
                sent.doubt();
            }
            self.restore(sent);
        }
        self.close_gate(now, None);
    }

    fn close_gate(&mut self, now: Instant, refused: Option<Membership>) {
        self.gate.until = Some(self.pace.after(now, self.gate.backoff.fail(&mut self.rng)));
        self.gate.refused = refused;
    }

    /// No commit of the group will be taken: nobody shall wait for one.
    fn fail_tickets(&mut self, code: ErrorCode) {
        let tickets: Vec<_> = self.entries.values_mut().flat_map(|e| std::mem::take(&mut e.tickets)).collect();
        let what = format!("the coordinator takes no commit of group {}: {code}", self.group());
        self.dismiss(tickets, &CommitFailure::Broker(code, what));
    }

    /// Tells the user about a partition, once until it is over or something else is wrong.
    fn say(&mut self, handle: &PartitionHandle, Refusal { kind, code, what }: Refusal) {
        let Some(entry) = self.entry(handle) else { return };
        if entry.said.replace(kind) != Some(kind) {
            let what = format!("cannot commit {} for group {}: {what}", handle.partition, self.group());
            let partition = Some(handle.partition.clone());
            self.events.push_back(CommitEvent::Problem(Problem { kind, partition, code, what, fatal: false }));
        }
    }

    fn say_of_group(&mut self, kind: ProblemKind, code: Option<ErrorCode>, what: String, fatal: bool) {
        if self.gate.said.replace(kind) != Some(kind) {
            self.events.push_back(CommitEvent::Problem(Problem { kind, partition: None, code, what, fatal }));
        }
    }
}

/// What an answer says about more than one partition.
#[derive(Default)]
struct GroupWord {
    member: Option<ErrorCode>,
    moved: Option<String>,
    /// It takes no commit of the group at all.
    refused: Option<ErrorCode>,
    not_ready: bool,
    refresh: bool,
}

impl GroupWord {
    fn is_good(&self) -> bool {
        self.member.is_none() && self.moved.is_none() && self.refused.is_none() && !self.not_ready
    }
}

impl Gate {
    fn is_open(&self, now: Instant, member: &Membership) -> bool {
        self.until.is_none_or(|until| until <= now) || self.refused.as_ref().is_some_and(|refused| refused != member)
    }

    /// The last answer leaves no hope for any commit, until another one does.
    fn is_hopeless(&self) -> bool {
        self.said.is_some_and(|kind| kind != ProblemKind::Protocol)
    }

    fn reset(&mut self) {
        self.backoff.reset();
        (self.until, self.refused, self.said) = (None, None, None);
    }
}

impl Entry {
    /// There is something to commit, and nothing but a back-off against it.
    fn is_sendable(&self) -> bool {
        self.wanted.is_some() && self.held_until.is_none()
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.is_sendable() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Does not wait for the interval.
    fn is_urgent(&self) -> bool {
        self.again || !self.tickets.is_empty()
    }
}

impl Sent {
    fn doubt(&mut self) {
        self.tickets.iter_mut().for_each(|ticket| ticket.in_doubt = true);
    }
}

#[cfg(test)]
mod tests;
