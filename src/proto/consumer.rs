//! The aggregate: owns the machines, turns one's events into another's inputs, and holds the one thing they share, who owns what.
//!
//! ```text
//!            frames                      asks, answers
//!  net  ───────────►  cluster  ◄───────────────────────────►  group, committer, positions, fetcher
//!                        │ view, coordinator                          │ events
//!                        └──────────────►  Consumer  ◄────────────────┘
//!                                     commands │ ▲ events
//!                                              ▼ │
//!                                         the user's side
//! ```
//!
//! A partition's life: *assigned* → its position is *resolved* → *fetched* → *revoking* (nothing more is handed out, what is in work is
//! waited for) → committed → *revoked*; or *lost* at any time, when somebody else has it already and nothing may be committed.
//!
//! Every handle carries an assignment number of our own. Whatever comes back under another number than the current one is dropped.

mod liveness;
mod release;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use liveness::Liveness;
use release::{Closing, Release, ReleaseStep};

use super::{
    Ask, Deadline, Owner, PartitionHandle, Problem, ProblemKind,
    cluster::{Cluster, ClusterConfig, ClusterEvent, Wanted},
    earliest,
    fetch::{FetchConfig, FetchEvent, Fetcher},
    group::{GroupEvent, GroupMember, MemberConfig, Wish},
    identity::Identity,
    message::{Command, Event, Input, Output, PartitionProgress, Progress, SeekTarget, Start, Unfinished, Watermarks},
    offsets::{CommitEvent, CommitFailure, Committer, CommitterConfig, PositionEvent, Positions, PositionsConfig},
    selection::Selection,
};
use crate::model::{Offset, Position, TopicId, TopicPartition};

/// Longer than any wait: what a user's own duration is cut to, before it is added to a time.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a member that cannot go on tries to leave its group.
const FAREWELL: Duration = Duration::from_secs(5);

/// Everything the core needs to know beforehand.
pub(crate) struct Config {
    pub(crate) cluster: ClusterConfig,
    pub(crate) group: MemberConfig,
    pub(crate) committer: CommitterConfig,
    pub(crate) positions: PositionsConfig,
    pub(crate) fetch: FetchConfig,
    /// How long a revocation waits for what is in work; bounded by the group's own deadline.
    pub(crate) drain_timeout: Duration,
    /// How long the user may neither take nor ack a record before the member leaves the group.
    pub(crate) processing_timeout: Duration,
    /// How long a record dropped unacked rests before it is delivered again; doubles with each attempt.
    pub(crate) redelivery_backoff: Duration,
    pub(crate) redelivery_backoff_max: Duration,
    /// What to look up as soon as a broker can be reached, and to read when a delivery mode is chosen.
    pub(crate) selection: Selection,
    /// Milliseconds since 1970 at `started_at`: for reset policies that go by the clock on the wall.
    pub(crate) started_at_ms: i64,
    pub(crate) started_at: Instant,
}

/// The whole core of one consumer.
pub(crate) struct Consumer {
    cluster: Cluster,
    group: GroupMember,
    committer: Committer,
    positions: Positions,
    fetcher: Fetcher,
    owned: BTreeMap<TopicPartition, Owned>,
    assignments: u64,
    selection: Selection,
    /// Whether to read (as a member of the group, if there is one to join), as soon as something is selected.
    joined: bool,
    start: Start,
    /// Topics that only other members want, while we lead the group.
    watched: BTreeSet<Arc<str>>,
    /// Topics that were assigned to us by their ids, and what they are called is not known.
    unnamed: BTreeSet<TopicId>,
    coordinator_known: bool,
    release: Option<Release>,
    closing: Option<Closing>,
    closed: bool,
    reached: bool,
    liveness: Liveness,
    redeliveries: BTreeMap<(Instant, u64), (PartitionHandle, u64)>,
    redelivery_count: u64,
    events: VecDeque<Event>,
    now: Instant,
    settings: Settings,
}

struct Settings {
    drain_timeout: Duration,
    processing_timeout: Duration,
    redelivery_backoff: Duration,
    redelivery_backoff_max: Duration,
    started_at_ms: i64,
    started_at: Instant,
}

/// One partition that is ours.
struct Owned {
    handle: PartitionHandle,
    /// The topic that its position is in: since the position was asked for, which may be long before reading starts.
    topic: Identity,
    started: bool,
    /// The user wants nothing of it for now.
    paused: bool,
    /// A corrupt batch was found at this offset and has been fetched again: the second time the user is told.
    refetched: Option<Offset>,
}

impl Consumer {
    pub(crate) fn new(now: Instant, config: Config) -> Self {
        let settings = Settings {
            drain_timeout: config.drain_timeout,
            processing_timeout: config.processing_timeout,
            redelivery_backoff: config.redelivery_backoff,
            redelivery_backoff_max: config.redelivery_backoff_max,
            started_at_ms: config.started_at_ms,
            started_at: config.started_at,
        };
        let mut consumer = Self {
            cluster: Cluster::new(config.cluster),
            group: GroupMember::new(config.group),
            committer: Committer::new(config.committer),
            positions: Positions::new(config.positions),
            fetcher: Fetcher::new(config.fetch),
            owned: BTreeMap::new(),
            assignments: 0,
            selection: config.selection,
            joined: false,
            start: Start::Committed,
            watched: BTreeSet::new(),
            unnamed: BTreeSet::new(),
            coordinator_known: false,
            release: None,
            closing: None,
            closed: false,
            reached: false,
            liveness: Liveness::new(now),
            redeliveries: BTreeMap::new(),
            redelivery_count: 0,
            events: VecDeque::new(),
            now,
            settings,
        };
        consumer.want_topics(now);
        let Selection { topics, pattern, server_pattern, .. } = &consumer.selection;
        if server_pattern.is_some() && topics.is_empty() && pattern.is_none() {
            // There is nothing to ask about before the coordinator assigns something, and yet the cluster has to be reached.
            consumer.cluster.refresh_metadata(now, "the cluster has yet to be reached");
        }
        consumer
    }

    /// Takes one input in. Drain `poll` to `Output::Wait` before the next.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        let now = self.advance(now);
        self.drive_timeouts(now);
        match input {
            Input::Connected(conn) => self.cluster.handle_connected(now, conn),
            Input::Frame(conn, frame) => self.cluster.handle_frame(now, conn, frame),
            Input::Disconnected(conn, why) => self.cluster.handle_disconnected(now, conn, why),
            Input::Command(command) => self.handle_command(now, command),
            Input::Token(token) => self.cluster.handle_token(now, token),
            Input::Tick => {}
        }
    }

    /// Hands out what there is to do, until it says `Wait`.
    #[must_use]
    pub(crate) fn poll(&mut self, now: Instant) -> Output {
        let now = self.advance(now);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if let Some(output) = self.cluster.poll_output() {
                return output.into();
            }
            if !self.drain(now) {
                return Output::Wait(self.deadline().filter(|_| !self.closed));
            }
        }
    }

    /// Says whether the consumer has ended, and everything was said about it.
    pub(crate) fn is_finished(&self) -> bool {
        self.closed && self.events.is_empty()
    }

    /// Time never goes back in here, whatever the caller's clock does.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// Moves one thing from machine to machine, in one written order; says whether there was any.
    fn drain(&mut self, now: Instant) -> bool {
        if self.closed {
            return false;
        }
        if let Some((owner, answer)) = self.cluster.poll_answer() {
            match owner {
                // None of ours: nobody looks on in here.
                Owner::Cluster(_) | Owner::Lookup(_) => {}
                Owner::Group(call) => self.group.handle_answer(now, call, answer),
                Owner::Committer(call) => self.committer.handle_answer(now, call, answer),
                Owner::Positions(call) => self.positions.handle_answer(now, call, answer),
                Owner::Fetch(call) => self.fetcher.handle_answer(now, call, answer, self.cluster.view()),
            }
            return true;
        }
        if let Some(event) = self.cluster.poll_event() {
            self.handle_cluster_event(now, event);
            return true;
        }
        if let Some(event) = self.group.poll_event() {
            self.handle_group_event(now, event);
            return true;
        }
        if let Some(event) = self.committer.poll_event() {
            self.handle_commit_event(now, event);
            return true;
        }
        if let Some(event) = self.positions.poll_event() {
            self.handle_position_event(now, event);
            return true;
        }
        if let Some(event) = self.fetcher.poll_event() {
            self.handle_fetch_event(now, event);
            return true;
        }
        if self.committer.wants_progress(now) && !self.owned.is_empty() {
            self.events.push_back(Event::ReadProgress);
            return true;
        }
        if self.drive_release(now) || self.drive_liveness(now) || self.drive_redeliveries(now) {
            return true;
        }
        match self.next_ask(now) {
            Some(ask) => {
                self.cluster.handle_ask(now, ask);
                true
            }
            // What metadata alone could answer was answered without asking anybody.
            None => {
                if let Some(event) = self.positions.poll_event() {
                    self.handle_position_event(now, event);
                } else if let Some(event) = self.fetcher.poll_event() {
                    self.handle_fetch_event(now, event);
                } else {
                    return false;
                }
                true
            }
        }
    }

    fn next_ask(&mut self, now: Instant) -> Option<Ask> {
        let may_commit = self.coordinator_known && self.group.may_commit();
        let wall_ms = self.wall_ms(now);
        let view = self.cluster.view();
        if let Some(ask) = self.group.poll_ask(now, !self.committer.is_in_flight()) {
            return Some(ask);
        }
        if let Some(ask) = self.committer.poll_ask(now, self.group.membership(), may_commit) {
            return Some(ask);
        }
        // The coordinator reads nothing more from a connection on which a JoinGroup waits.
        let may_ask_coordinator = self.coordinator_known && !self.group.is_joining();
        if let Some(ask) = self.positions.poll_ask(now, wall_ms, view, self.group.membership(), may_ask_coordinator) {
            return Some(ask);
        }
        self.fetcher.poll_ask(now, view)
    }

    fn wall_ms(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.settings.started_at).as_millis();
        self.settings.started_at_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    fn deadline(&self) -> Option<Deadline> {
        let may_commit = self.coordinator_known && self.group.may_commit();
        let mut next = self.cluster.poll_timeout();
        next = earliest(next, self.group.poll_timeout(!self.committer.is_in_flight()));
        next = earliest(next, self.committer.poll_timeout(may_commit));
        next = earliest(next, self.positions.poll_timeout());
        next = earliest(next, self.fetcher.poll_timeout());
        next = earliest(next, self.release.as_ref().and_then(Release::poll_timeout));
        if let Some(closing) = &self.closing {
            next = earliest(next, Some((closing.deadline, "close")));
        }
        next = earliest(next, self.liveness_deadline());
        if let Some(((due, _), _)) = self.redeliveries.first_key_value() {
            next = earliest(next, Some((*due, "deliver again")));
        }
        next
    }

    /// Lets every machine whose deadline has come look at the clock. Once per input: what is still due then is due for being asked.
    fn drive_timeouts(&mut self, now: Instant) {
        let due = |deadline: Option<Deadline>| deadline.is_some_and(|(at, _)| at <= now);
        let may_commit = self.coordinator_known && self.group.may_commit();
        if due(self.cluster.poll_timeout()) {
            self.cluster.handle_timeout(now);
        }
        if due(self.group.poll_timeout(!self.committer.is_in_flight())) {
            self.group.handle_timeout(now);
        }
        if due(self.committer.poll_timeout(may_commit)) {
            self.committer.handle_timeout(now);
        }
        if due(self.positions.poll_timeout()) {
            self.positions.handle_timeout(now);
        }
        if due(self.fetcher.poll_timeout()) {
            self.fetcher.handle_timeout(now);
        }
    }

    // ---------------------------------------------------------------- commands

    fn handle_command(&mut self, now: Instant, command: Command) {
        if self.closed {
            match command {
                Command::Commit { ticket, .. } => {
                    self.events.push_back(Event::CommitDone { ticket, result: Err(CommitFailure::NotAssigned) });
                }
                Command::Close { .. } => self.events.push_back(Event::Closed(Unfinished::default())),
                _ => {}
            }
            return;
        }
        match command {
            Command::Join { start, reset } => {
                self.positions.set_reset(reset);
                self.start = start;
                self.joined = true;
                self.cluster.want_coordinator(now);
                self.follow_selection(now, true);
            }
            Command::Subscribe(selection) => {
                self.selection = selection;
                self.want_topics(now);
                self.follow_selection(now, true);
            }
            Command::Progress(progress) => self.handle_progress(now, progress),
            Command::Taken { chunks } => {
                for (handle, bytes) in chunks {
                    self.fetcher.handle_taken(now, &handle, bytes);
                }
            }
            Command::Release { positions } => {
                for (handle, position) in positions {
                    if self.is_current(&handle) && !self.is_released(&handle.partition) {
                        self.committer.handle_finished(now, &handle, position);
                    }
                }
                self.committer.flush(now);
            }
            Command::Dropped { handle, token, attempt, after } => {
                let wait = after.unwrap_or_else(|| {
                    // The attempt to come is the second after one failure.
                    let doubled = self.settings.redelivery_backoff.saturating_mul(1 << attempt.saturating_sub(2).min(16));
                    doubled.min(self.settings.redelivery_backoff_max)
                });
                self.redelivery_count += 1;
                self.redeliveries.insert((now + wait.min(FOREVER), self.redelivery_count), (handle, token));
            }
            Command::Corrupt { handle, offset, next_offset, what } => self.handle_corrupt(now, handle, offset, next_offset, what),
            Command::Pause { partitions, paused } => {
                for partition in partitions {
                    if let Some(owned) = self.owned.get_mut(&partition) {
                        owned.paused = paused;
                        self.fetcher.pause(&partition, paused);
                    }
                }
            }
            Command::Seek { partition, to } => self.handle_seek(now, partition, to),
            Command::Reopen { handle, finished } => self.handle_reopen(now, handle, finished),
            Command::Place { handle, at } => {
                let is_unplaced = self.owned.get(&handle.partition).is_some_and(|owned| owned.handle == handle && !owned.started);
                if is_unplaced && !self.is_released(&handle.partition) {
                    self.begin_at(now, handle, at);
                }
            }
            Command::Commit { handle, position, ticket } => {
                if self.is_current(&handle) {
                    self.committer.commit(now, &handle, position, ticket);
                } else {
                    self.events.push_back(Event::CommitDone { ticket, result: Err(CommitFailure::NotAssigned) });
                }
            }
            Command::Nudge => self.events.push_back(Event::ReadProgress),
            Command::Polled => {
                if self.liveness.stalled {
                    self.liveness.stalled = false;
                    self.liveness.last_active = now;
                    self.group.handle_resumed(now);
                }
            }
            Command::Close { timeout } => self.start_close(now, timeout),
        }
    }

    fn handle_progress(&mut self, now: Instant, progress: Progress) {
        if progress.waiting || progress.activity != self.liveness.activity {
            self.liveness.activity = progress.activity;
            self.liveness.last_active = now;
        }
        for PartitionProgress { handle, finished, in_work } in progress.partitions {
            if !self.is_current(&handle) {
                continue;
            }
            match self.release.as_mut().filter(|release| release.partitions.contains(&handle.partition)) {
                // What is finished after the drain was given up is not committed: the release would never end.
                Some(Release { step: ReleaseStep::Committing, .. }) => continue,
                Some(release) if !in_work => {
                    release.in_work.remove(&handle.partition);
                }
                _ => {}
            }
            self.committer.handle_finished(now, &handle, finished);
        }
        if let Some(release) = &mut self.release
            && release.step == ReleaseStep::LastLook
        {
            release.step = ReleaseStep::Drained;
        }
    }

    fn handle_corrupt(&mut self, now: Instant, handle: PartitionHandle, offset: Offset, next_offset: Offset, what: String) {
        let Some(owned) = self.owned.get_mut(&handle.partition).filter(|owned| owned.handle == handle) else { return };
        if owned.refetched == Some(offset) {
            let what = format!(
                "the batch at offset {} of {} cannot be read, fetched twice: {what}; the partition rests: to step over the batch, \
                 seek to offset {}",
                offset.0, handle.partition, next_offset.0
            );
            let partition = Some(handle.partition.clone());
            self.fetcher.remove(&handle);
            self.positions.remove(&handle);
            self.tell(Problem { kind: ProblemKind::Corrupt, partition, code: None, what, fatal: false });
        } else {
            owned.refetched = Some(offset);
            self.fetcher.refetch(now, &handle, offset);
        }
    }

    fn handle_seek(&mut self, now: Instant, partition: TopicPartition, to: SeekTarget) {
        if self.is_released(&partition) || !self.owned.contains_key(&partition) {
            return;
        }
        let handle = self.renew(&partition);
        if !self.asks_program(&handle) {
            self.begin_at(now, handle, to);
        }
    }

    /// Asks the program where to begin, if it is the one that keeps the positions: whatever else would say so, has no say then.
    fn asks_program(&mut self, handle: &PartitionHandle) -> bool {
        let asks = self.start == Start::Placed;
        if asks {
            self.events.push_back(Event::Unplaced(handle.clone()));
        }
        asks
    }

    fn handle_reopen(&mut self, now: Instant, handle: PartitionHandle, finished: Position) {
        if !self.is_current(&handle) || self.is_released(&handle.partition) {
            return;
        }
        self.committer.handle_finished(now, &handle, finished);
        let commits = self.committer.take(&handle);
        let handle = self.renew(&handle.partition);
        if !self.asks_program(&handle) {
            self.start_at(now, handle.clone(), finished, None);
        }
        if let Some(commits) = commits {
            self.committer.carry_on(&handle, commits);
        }
    }

    fn begin_at(&mut self, now: Instant, handle: PartitionHandle, at: SeekTarget) {
        match at {
            SeekTarget::Offset(offset) => self.start_at(now, handle, Position { offset, leader_epoch: None }, None),
            SeekTarget::Time(time) => self.positions.seek(now, &handle, time),
        }
    }

    /// Finds out where to begin.
    fn place(&mut self, now: Instant, handle: &PartitionHandle) {
        if !self.asks_program(handle) {
            self.positions.resolve(now, handle);
        }
    }

    // ---------------------------------------------------------------- ownership

    fn is_current(&self, handle: &PartitionHandle) -> bool {
        self.owned.get(&handle.partition).is_some_and(|owned| owned.handle == *handle)
    }

    /// Whether a partition is being let go of.
    fn is_released(&self, partition: &TopicPartition) -> bool {
        self.release.as_ref().is_some_and(|release| release.partitions.contains(partition))
    }

    /// Takes a partition on under a new assignment number; every older handle of it is stale from here on.
    fn renew(&mut self, partition: &TopicPartition) -> PartitionHandle {
        // It is paused until it is resumed, wherever it is read from.
        let mut paused = false;
        if let Some(old) = self.owned.get(partition) {
            paused = old.paused;
            let old = old.handle.clone();
            self.forget(&old);
        }
        self.assignments += 1;
        let handle = PartitionHandle { partition: partition.clone(), assignment: self.assignments };
        let topic = Identity::of(self.cluster.view().topics.get(partition.topic()));
        self.owned.insert(partition.clone(), Owned { handle: handle.clone(), topic, started: false, paused, refetched: None });
        handle
    }

    fn forget(&mut self, handle: &PartitionHandle) {
        self.committer.remove(handle);
        self.positions.remove(handle);
        self.fetcher.remove(handle);
        self.redeliveries.retain(|_, (of, _)| of != handle);
    }

    /// Starts over where a partition's topic is gone: what was read of it, or was committed, says nothing about another of its name.
    fn leave_topics_that_are_gone(&mut self, now: Instant) {
        // Where partitions are assigned by the topic's id, the member says what is lost.
        if self.group.holds_by_topic_id() {
            return;
        }
        let topics = &self.cluster.view().topics;
        let is_gone = |(partition, owned): (&TopicPartition, &mut Owned)| {
            owned.topic.is_over(topics.get(partition.topic())).then(|| partition.clone())
        };
        let mut gone: Vec<_> = self.owned.iter_mut().filter_map(is_gone).collect();
        // What is being released goes anyway.
        gone.retain(|partition| !self.is_released(partition));
        for partition in gone {
            tracing::info!(target: "ottla", %partition, "the topic was deleted: if there is another of its name, reading starts over");
            let handle = self.renew(&partition);
            self.events.push_back(Event::Halted(partition));
            self.place(now, &handle);
        }
    }

    /// Begins reading at `position`.
    fn start_at(&mut self, now: Instant, handle: PartitionHandle, position: Position, committed: Option<Position>) {
        // There are some where the program dropped the partition's stream, and has placed it anew.
        let commits = self.committer.take(&handle);
        self.committer.assign(now, &handle, position, committed);
        if let Some(commits) = commits {
            self.committer.carry_on(&handle, commits);
        }
        self.fetcher.add(now, &handle, position, self.cluster.view());
        if let Some(owned) = self.owned.get_mut(&handle.partition) {
            owned.started = true;
            self.fetcher.pause(&handle.partition, owned.paused);
        }
        self.events.push_back(Event::Started { handle, position, committed });
    }

    /// Fences what others may have already.
    fn lose(&mut self, partitions: &[TopicPartition], why: String) {
        let lost: Vec<_> =
            partitions.iter().filter_map(|partition| self.owned.remove(partition)).map(|owned| owned.handle).collect();
        for handle in &lost {
            self.committer.lost(handle);
            self.forget(handle);
        }
        if let Some(closing) = &mut self.closing
            && self.committer.has_group()
        {
            closing.unfinished.uncommitted.extend(lost.iter().map(|handle| handle.partition.clone()));
        }
        self.release.take_if(|release| {
            lost.iter().for_each(|handle| release.leave_out(&handle.partition));
            release.partitions.is_empty()
        });
        if !lost.is_empty() {
            self.want_topics(self.now);
            self.events.push_back(Event::Lost { handles: lost, why });
        }
    }

    // ---------------------------------------------------------------- redelivery

    fn drive_redeliveries(&mut self, now: Instant) -> bool {
        let Some(entry) = self.redeliveries.first_entry().filter(|entry| entry.key().0 <= now) else { return false };
        let (handle, token) = entry.remove();
        if self.is_current(&handle) {
            self.events.push_back(Event::Redeliver { handle, token });
        }
        true
    }

    // ---------------------------------------------------------------- what the machines say

    fn handle_cluster_event(&mut self, now: Instant, event: ClusterEvent) {
        match event {
            ClusterEvent::MetadataChanged => {
                self.leave_topics_that_are_gone(now);
                if self.selection.pattern.is_some() {
                    self.follow_selection(now, false);
                }
                let view = self.cluster.view();
                self.group.handle_metadata(now, view);
                self.fetcher.handle_view(now, view);
                if !self.reached {
                    self.reached = true;
                    self.events.push_back(Event::Reached);
                }
            }
            ClusterEvent::CoordinatorKnown(broker) => {
                self.coordinator_known = true;
                self.group.handle_coordinator(now, true);
                let broker = self.cluster.broker_name(broker);
                self.events.push_back(Event::CoordinatorFound { broker });
            }
            ClusterEvent::CoordinatorUnknown { why } => {
                self.coordinator_known = false;
                self.group.handle_coordinator(now, false);
                self.events.push_back(Event::CoordinatorLost { why });
            }
            ClusterEvent::Problem(problem) => self.tell(problem),
        }
    }

    fn handle_group_event(&mut self, now: Instant, event: GroupEvent) {
        match event {
            GroupEvent::CoordinatorUnknown { why } => self.lose_coordinator(now, &why),
            // Why was said before, and if nothing is subscribed to any more, nothing is joined again.
            GroupEvent::Release { .. } if planted!(RejoinWithoutRevoking) => self.group.handle_released(now),
            GroupEvent::Release { partitions, deadline, .. } => self.start_release(now, deadline, partitions),
            GroupEvent::Lost { partitions, why } => {
                self.lose(&partitions, why);
                if let Some(closing) = &mut self.closing
                    && !closing.leaving
                    && self.owned.is_empty()
                {
                    closing.leaving = true;
                    self.leave(now);
                }
            }
            GroupEvent::Assigned { generation, member_id, mut partitions, .. } => {
                if self.closing.is_some() {
                    // Nothing more is taken on by who is about to go.
                    partitions.clear();
                }
                let mut handles: Vec<_> = partitions.iter().map(|partition| self.renew(partition)).collect();
                if planted!(RefetchKept) {
                    let kept: Vec<_> = self.owned.keys().filter(|kept| !partitions.contains(kept)).cloned().collect();
                    handles.extend(kept.iter().map(|partition| self.renew(partition)));
                }
                self.want_topics(now);
                if self.group.holds_by_topic_id() {
                    // By the new protocol nobody hears of a rebalance but by this.
                    self.look_for_matches(now);
                }
                self.liveness.last_active = now;
                self.liveness.next_look = now + self.settings.processing_timeout / 8;
                self.events.push_back(Event::Assigned { generation: generation.0, member_id, handles: handles.clone() });
                handles.iter().for_each(|handle| self.place(now, handle));
            }
            GroupEvent::WatchTopics(topics) => {
                self.watched = topics.into_iter().collect();
                self.want_topics(now);
            }
            GroupEvent::RefreshMetadata => self.cluster.refresh_metadata(now, "a partition that is wanted is not known"),
            GroupEvent::Identify(topics) => {
                self.unnamed = topics;
                self.want_topics(now);
            }
            GroupEvent::OtherProtocol => self.group.change_protocol(now, self.cluster.view()),
            GroupEvent::Rejoining { why } => {
                self.look_for_matches(now);
                self.events.push_back(Event::Rejoining { why });
            }
            GroupEvent::Left => {
                if self.closing.is_some() {
                    self.finish_close();
                }
            }
            GroupEvent::Problem(problem) => self.tell(problem),
        }
    }

    fn handle_commit_event(&mut self, now: Instant, event: CommitEvent) {
        match event {
            CommitEvent::Committed { handle, position } => self.events.push_back(Event::Committed { handle, position }),
            CommitEvent::Done { ticket, result } => self.events.push_back(Event::CommitDone { ticket, result }),
            CommitEvent::Member { sent, code } => self.group.handle_member_error(now, &sent, code),
            CommitEvent::CoordinatorUnknown { why } => self.lose_coordinator(now, &why),
            CommitEvent::RefreshMetadata => self.cluster.refresh_metadata(now, "a commit named an unknown partition"),
            CommitEvent::Problem(problem) => self.tell(problem),
        }
    }

    fn handle_position_event(&mut self, now: Instant, event: PositionEvent) {
        match event {
            // Nothing begins, or goes on, that is being released.
            PositionEvent::Resolved { handle, .. } if self.is_released(&handle.partition) => {}
            PositionEvent::Resolved { handle, position, committed, truncated } => {
                let Some(owned) = self.owned.get(&handle.partition).filter(|owned| owned.handle == handle) else { return };
                let back = truncated.is_some()
                    || self.fetcher.position(&handle.partition).is_some_and(|reading| position.offset < reading.offset);
                let started = owned.started;
                // What is buffered, or in work, below where reading goes on is not finished: it must not be left behind.
                let finished = self.committer.finished(&handle).filter(|_| started && back);
                let position = finished.filter(|finished| finished.offset < position.offset).unwrap_or(position);
                if let Some(truncated) = truncated {
                    let next = match self.start {
                        Start::Committed => format!("reading goes on at offset {}", position.offset.0),
                        Start::Placed => "the program is to say again where to begin".to_owned(),
                    };
                    let what = format!(
                        "the log of {} was truncated to offset {}, below {}, which had been read or committed (an unclean leader election): \
                         {next}",
                        handle.partition, truncated.to.offset.0, truncated.from.offset.0
                    );
                    let partition = Some(handle.partition.clone());
                    self.tell(Problem { kind: ProblemKind::Truncated, partition, code: None, what, fatal: false });
                }
                if !started {
                    self.start_at(now, handle, position, committed);
                } else if back {
                    // Reading goes back: acks of what was read before must not count for what comes in its place.
                    let renewed = self.renew(&handle.partition);
                    if !self.asks_program(&renewed) {
                        self.start_at(now, renewed, position, None);
                    }
                } else {
                    self.fetcher.add(now, &handle, position, self.cluster.view());
                }
            }
            PositionEvent::Member { sent, code } => self.group.handle_member_error(now, &sent, code),
            PositionEvent::CoordinatorUnknown { why } => self.lose_coordinator(now, &why),
            PositionEvent::RefreshMetadata => self.cluster.refresh_metadata(now, "a position could not be resolved"),
            PositionEvent::Problem(problem) => self.tell(problem),
        }
    }

    fn handle_fetch_event(&mut self, now: Instant, event: FetchEvent) {
        match event {
            FetchEvent::Chunk { handle, chunk, high_watermark, last_stable_offset, .. } => {
                let watermarks = Watermarks { high: high_watermark, last_stable: last_stable_offset };
                self.events.push_back(Event::Chunk { handle, chunk, watermarks });
            }
            FetchEvent::Idle { handle, high_watermark, last_stable_offset, .. } => {
                let watermarks = Watermarks { high: high_watermark, last_stable: last_stable_offset };
                self.events.push_back(Event::Watermarks { handle, watermarks });
            }
            // It goes, or its topic went in the same moment: the position that is being found for the next one is not to be replaced.
            FetchEvent::OutOfRange { handle, .. }
            | FetchEvent::Validate { handle, .. }
            | FetchEvent::Truncated { handle, .. }
                if self.is_released(&handle.partition) || !self.is_current(&handle) => {}
            FetchEvent::OutOfRange { handle, position } => {
                self.positions.reset(now, &handle, position, "the leader says that the position is out of range");
            }
            FetchEvent::Validate { handle, position } => {
                // If the log turns out to be shorter, reading goes back to what is finished.
                self.events.push_back(Event::ReadProgress);
                self.positions.validate(now, &handle, position);
            }
            FetchEvent::Truncated { handle, position, diverging } => self.positions.truncated(now, &handle, position, diverging),
            FetchEvent::Suspect { handle, suspect } => self.committer.hold(now, &handle, suspect),
            FetchEvent::RefreshMetadata { why } => {
                tracing::debug!(target: "ottla", why, "metadata is refreshed");
                self.cluster.refresh_metadata(now, "a fetch failed");
            }
            FetchEvent::LeaderHint { partition, leader, epoch, brokers } => {
                self.cluster.leader_hint(now, &partition, leader, epoch, &brokers);
            }
            FetchEvent::Problem(problem) => self.tell(problem),
        }
    }

    fn lose_coordinator(&mut self, now: Instant, why: &str) {
        self.cluster.coordinator_lost(now, why);
    }

    fn want_topics(&mut self, now: Instant) {
        let named = self.selection.named().chain(&self.watched).cloned().collect();
        let held = self.owned.keys().map(|partition| Arc::clone(partition.shared_topic())).collect();
        let (pattern, ids) = (self.selection.pattern.clone(), self.unnamed.clone());
        self.cluster.want_topics(now, Wanted { named, held, pattern, ids });
    }

    /// What another member has just found is found by all in one rebalance, not by each in one of its own.
    fn look_for_matches(&mut self, now: Instant) {
        if self.selection.pattern.is_some() {
            self.cluster.refresh_metadata(now, "the group rebalances, perhaps for a topic that is new");
        }
    }

    /// Tells the group what is wanted now: because the program asked for it, or topics have come or gone.
    fn follow_selection(&mut self, now: Instant, is_asked: bool) {
        if !self.joined || self.closing.is_some() {
            return;
        }
        // With less than all that matches, the group would rebalance for nothing.
        let Some(matching) = self.cluster.matching_topics() else { return };
        let topics = self.selection.topics.union(matching).cloned().collect();
        let (pattern, partitions) = (self.selection.server_pattern.clone(), self.selection.partitions.clone());
        if let Some(pattern) = pattern.as_deref().filter(|_| !self.group.may_take_pattern()) {
            let group = self.group.group().map_or("", |group| group);
            let what = format!(
                "the pattern {pattern:?} is for the brokers to match, but group {group} was joined by the classic protocol, by which none does; \
                 subscribe by subscribe_pattern"
            );
            return self.tell(Problem { kind: ProblemKind::Incompatible, partition: None, code: None, what, fatal: true });
        }
        self.group.handle_subscribe(now, Wish { topics, pattern, partitions }, is_asked);
    }

    /// Tells the user; a fatal problem ends the consumer, whatever else was going on.
    fn tell(&mut self, problem: Problem) {
        tracing::warn!(target: "ottla", kind = ?problem.kind, fatal = problem.fatal, "{}", problem.what);
        let (now, fatal) = (self.now, problem.fatal);
        if fatal {
            let all: Vec<_> = self.owned.keys().cloned().collect();
            self.lose(&all, problem.what.clone());
        }
        self.events.push_back(Event::Problem(problem));
        if fatal && self.closing.is_none() {
            // The others need not wait for the end of this member's session.
            self.closing = Some(Closing { deadline: now + FAREWELL, unfinished: Unfinished::default(), leaving: true });
            self.leave(now);
        }
    }
}
