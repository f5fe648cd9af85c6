//! Between the driver and the user: what was fetched and not yet taken, what the core has to say, and who waits for it.
//!
//! The driver puts in (`handle`), the streams take out (`poll_take`), one lock around it, taken once per chunk and never per record.
//! Nothing in here knows the time: whatever must wait is a command to the core, and comes back as an event.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use indexmap::{IndexMap, IndexSet};
use tokio::sync::{mpsc, oneshot};

use super::{
    acks::{Assigned, Notice},
    handle::{GroupEvent, Lag, Listeners, Stats},
    lane::{Claim, Lane},
    partitions::PartitionEnd,
    redelivery::{DroppedRecords, Redelivery},
    release::{ReleasePace, ReleaseWindow},
    subscription::Standing,
    taken::{Taken, thrown_away},
    told::{commit_error, consume_error},
};
use crate::{
    connect::Reached,
    error::{BuildError, CommitError, ConsumeError, ConsumeErrorKind, ConsumeErrorParts},
    model::{Offset, Position, TopicPartition},
    proto::{
        PartitionHandle, ProblemKind,
        message::{Command, Event, PartitionProgress, Progress, SeekTarget, Unfinished},
    },
    records::{Chunk, RecordError},
};

/// How records are handed out; chosen once, when the consumer becomes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    AtLeastOnce,
    AtMostOnce,
    Manual,
}

pub(crate) struct Inbox {
    state: Mutex<State>,
    dropped: Arc<DroppedRecords>,
    commands: mpsc::UnboundedSender<Command>,
    /// Something more urgent than the records of the current run is there: looked at before every record.
    urgent: AtomicBool,
    pub(crate) listeners: Listeners,
    settings: InboxSettings,
}

/// What of the user's settings concerns the buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxSettings {
    pub(crate) unacked_records_max: usize,
    pub(crate) buffer_bytes_max: usize,
    pub(crate) read_committed: bool,
    pub(crate) standing: Standing,
}

struct State {
    mode: Mode,
    /// Each partition has a stream of its own.
    split: bool,
    lanes: IndexMap<TopicPartition, Lane>,
    /// Partitions with something to take, in the order in which they get their turn.
    turns: VecDeque<TopicPartition>,
    /// Partitions that have no stream of their own yet.
    unclaimed: VecDeque<TopicPartition>,
    problems: VecDeque<ConsumeError>,
    redeliveries: VecDeque<(PartitionHandle, Redelivery)>,
    waiting: Option<Waker>,
    tickets: BTreeMap<u64, (TopicPartition, oneshot::Sender<Result<(), CommitError>>)>,
    ticket_count: u64,
    reached: Reached,
    closers: Vec<oneshot::Sender<Unfinished>>,
    /// Nothing more is handed out.
    ended: bool,
    /// The membership is over, and this is what could not be finished.
    closed: Option<Unfinished>,
    /// Too many records are unacknowledged: nothing more is taken until some are.
    blocked: bool,
    /// No more records than this can be unacknowledged, as counted last and added to since.
    unacked_max: usize,
    stalled: bool,
    /// At most once: how many records may be committed ahead.
    pace: ReleasePace,
    /// Chunks that the core is still to be told of.
    untold: Taken,
    taken: u64,
}

impl Inbox {
    pub(crate) fn new(commands: mpsc::UnboundedSender<Command>, settings: InboxSettings) -> Self {
        Self {
            state: Mutex::new(State {
                mode: Mode::AtLeastOnce,
                split: false,
                lanes: IndexMap::new(),
                turns: VecDeque::new(),
                unclaimed: VecDeque::new(),
                problems: VecDeque::new(),
                redeliveries: VecDeque::new(),
                waiting: None,
                tickets: BTreeMap::new(),
                ticket_count: 0,
                reached: Reached::default(),
                closers: Vec::new(),
                ended: false,
                closed: None,
                blocked: false,
                unacked_max: 0,
                stalled: false,
                pace: ReleasePace::new(),
                untold: Taken::new(settings.buffer_bytes_max),
                taken: 0,
            }),
            dropped: Arc::default(),
            commands,
            urgent: AtomicBool::new(false),
            listeners: Listeners::default(),
            settings,
        }
    }

    pub(crate) fn set_mode(&self, mode: Mode, split: bool) {
        let mut state = self.lock();
        state.mode = mode;
        state.split = split;
    }

    pub(crate) fn standing(&self) -> Standing {
        self.settings.standing
    }

    pub(crate) fn command(&self, command: Command) {
        // The driver is gone only after the last event, which every waiter has seen.
        let _ = self.commands.send(command);
    }

    fn tell(&self, command: Option<Command>) {
        if let Some(command) = command {
            self.command(command);
        }
    }

    fn release(&self, positions: Vec<(PartitionHandle, Position)>) {
        if !positions.is_empty() {
            self.command(Command::Release { positions });
        }
    }

    /// Says whether something more urgent than the current run waits: a redelivery, a problem.
    #[inline]
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, so a poisoned one only means that a waker panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---------------------------------------------------------------- the driver's side

    pub(crate) fn handle(&self, event: Event) {
        // What is thrown away is dropped after the lock is released: dropping a run takes other locks.
        let mut garbage = Vec::new();
        let wakers = {
            let mut state = self.lock();
            let mut wakers = Wakers::default();
            self.handle_locked(&mut state, event, &mut wakers, &mut garbage);
            self.urgent.store(!state.redeliveries.is_empty() || !state.problems.is_empty(), Ordering::Relaxed);
            wakers
        };
        drop(garbage);
        wakers.wake();
    }

    fn handle_locked(&self, state: &mut State, event: Event, wakers: &mut Wakers, garbage: &mut Vec<Redelivery>) {
        match event {
            Event::Reached => state.reached.handle_reached(),
            Event::Assigned { generation, member_id, handles } => {
                let partitions: Vec<_> = handles.iter().map(|handle| handle.partition.clone()).collect();
                for handle in handles {
                    let start = Position { offset: Offset(0), leader_epoch: None };
                    let lane = self.new_lane(state.mode == Mode::Manual, handle.clone(), start, false);
                    state.lanes.insert(handle.partition, lane);
                }
                self.listeners.tell(GroupEvent::Assigned { generation, member_id: member_id.to_string(), partitions });
            }
            Event::Unplaced(handle) => {
                let start = Position { offset: Offset(0), leader_epoch: None };
                let mut lane = self.new_lane(state.mode == Mode::Manual, handle, start, false);
                lane.unplaced = true;
                self.replace_lane(state, lane, wakers, garbage);
            }
            Event::Started { handle, position, committed } => {
                let mut lane = self.new_lane(state.mode == Mode::Manual, handle.clone(), position, true);
                lane.committed = committed;
                lane.position = Some(position.offset);
                match state.lanes.get_mut(&handle.partition) {
                    // Whoever has said where to begin waits for its first record, or has gone meanwhile, which the core will hear next.
                    Some(placed) if placed.is(&handle) && placed.unplaced => {
                        lane.paused = placed.paused;
                        lane.claim = Arc::clone(&placed.claim);
                        wakers.add(placed.waiting.take());
                        state.lanes.insert(handle.partition, lane);
                    }
                    _ => self.replace_lane(state, lane, wakers, garbage),
                }
            }
            Event::Chunk { handle, chunk, watermarks } => {
                let expected = |lane: &&mut Lane| {
                    lane.is(&handle) && !lane.assigned.is_fenced() && lane.resume_at.is_none_or(|at| at == chunk.from)
                };
                match state.lanes.get_mut(&handle.partition).filter(expected) {
                    Some(lane) => {
                        lane.resume_at = None;
                        lane.watermarks = Some(watermarks);
                        lane.chunks.push_back(chunk);
                        if lane.chunks.len() == 1 && !lane.paused {
                            if !state.split {
                                state.turns.push_back(handle.partition);
                            }
                            wakers.add(lane.waiting.take());
                            wakers.add(state.waiting.take());
                        }
                    }
                    None => self.tell(thrown_away(&handle, std::iter::once(chunk))),
                }
            }
            Event::Watermarks { handle, watermarks } => {
                if let Some(lane) = state.lanes.get_mut(&handle.partition).filter(|lane| lane.is(&handle)) {
                    lane.watermarks = Some(watermarks);
                }
            }
            Event::Revoking(handles) => {
                for handle in handles {
                    // Also where reading was to begin anew, under this handle, and has not yet.
                    if let Some(lane) = state.lanes.get_mut(&handle.partition) {
                        lane.revoking = true;
                        if planted!(DeliverAfterRevocation) {
                            continue;
                        }
                        lane.assigned.fence();
                        self.purge(lane, garbage, &mut state.redeliveries);
                        wakers.add(lane.waiting.take());
                    }
                }
                // A stream in the middle of a run lets go of it when it is polled.
                wakers.add(state.waiting.take());
            }
            Event::Halted(partition) => {
                if let Some(lane) = state.lanes.get_mut(&partition) {
                    lane.assigned.fence();
                    self.purge(lane, garbage, &mut state.redeliveries);
                    wakers.add(lane.waiting.take());
                    wakers.add(state.waiting.take());
                }
            }
            Event::Revoked(handles) => {
                let partitions = handles.iter().map(|handle| handle.partition.clone()).collect();
                self.drop_lanes(state, &handles, wakers, garbage);
                self.listeners.tell(GroupEvent::Revoked { partitions });
            }
            Event::Lost { handles, why } => {
                let partitions = handles.iter().map(|handle| handle.partition.clone()).collect();
                self.drop_lanes(state, &handles, wakers, garbage);
                self.listeners.tell(GroupEvent::Lost { partitions, why });
            }
            Event::ReadProgress => {
                let progress = self.progress(state);
                if state.blocked && self.unacked(state).0 < self.settings.unacked_records_max {
                    state.blocked = false;
                    wakers.add(state.waiting.take());
                    wakers.0.extend(state.lanes.values_mut().filter_map(|lane| lane.waiting.take()));
                }
                state.pace.tick();
                // A commit that was given up is asked for again: nothing else would.
                let unanswered = state.lanes.values().filter(|lane| !lane.revoking);
                let unanswered = unanswered.filter_map(|lane| Some((lane.assigned.handle().clone(), lane.release.unanswered()?)));
                self.release(unanswered.collect());
                self.command(Command::Progress(progress));
            }
            Event::Committed { handle, position } => {
                if let Some(lane) = state.lanes.get_mut(&handle.partition).filter(|lane| lane.is(&handle)) {
                    lane.committed = Some(position);
                    if state.mode == Mode::AtMostOnce && !lane.revoking {
                        lane.release.committed(position.offset);
                        wakers.add(lane.waiting.take());
                        wakers.add(state.waiting.take());
                    }
                }
            }
            Event::CommitDone { ticket, result } => {
                if let Some((partition, done)) = state.tickets.remove(&ticket) {
                    let _ = done.send(result.map_err(|failure| commit_error(failure, partition)));
                }
            }
            Event::Redeliver { handle, token } => {
                let redelivery = self.dropped.take(token);
                let live = state.lanes.get(&handle.partition).is_some_and(|lane| lane.is(&handle) && !lane.revoking);
                match redelivery {
                    Some(redelivery) if live => {
                        state.redeliveries.push_back((handle.clone(), redelivery));
                        wakers.add(state.waiting.take());
                        wakers.add(state.lanes.get_mut(&handle.partition).and_then(|lane| lane.waiting.take()));
                    }
                    Some(redelivery) => garbage.push(redelivery),
                    None => {}
                }
            }
            Event::Rejoining { why } => self.listeners.tell(GroupEvent::Rejoining { why }),
            Event::CoordinatorFound { broker } => self.listeners.tell(GroupEvent::CoordinatorFound { broker }),
            Event::CoordinatorLost { why } => self.listeners.tell(GroupEvent::CoordinatorLost { why }),
            Event::Problem(problem) => {
                if matches!(problem.kind, ProblemKind::CommitRefused) {
                    self.listeners.tell(GroupEvent::CommitFailed { why: problem.what.clone() });
                }
                state.stalled |= problem.kind == ProblemKind::ProcessingStalled;
                let (is_heard, is_fatal) = (state.reached.handle_problem(&problem), problem.fatal);
                if !is_heard {
                    state.push_problem(consume_error(problem));
                }
                if is_fatal {
                    self.end(state, wakers);
                }
                wakers.add(state.waiting.take());
            }
            Event::Closed(unfinished) => self.close(state, unfinished, wakers),
        }
    }

    fn new_lane(&self, manual: bool, handle: PartitionHandle, start: Position, started: bool) -> Lane {
        let (dropped, commands) = (Arc::clone(&self.dropped), self.commands.clone());
        let notify = move |notice: Notice| {
            // Manual mode knows no acks, so there is nothing to give back.
            if manual && !matches!(notice, Notice::Released) {
                return;
            }
            let assigned = match &notice {
                Notice::Dropped { run, .. } | Notice::DroppedBatch { run, .. } => Some(Arc::clone(run.assigned())),
                Notice::Released => None,
            };
            let command = match notice {
                Notice::Dropped { run, redelivery, attempt, after } => {
                    let handle = run.assigned().handle().clone();
                    let token = dropped.put(Redelivery::Record { run, idx: redelivery });
                    Command::Dropped { handle, token, attempt, after }
                }
                Notice::DroppedBatch { run, attempt, after } => {
                    let handle = run.assigned().handle().clone();
                    let token = dropped.put(Redelivery::Batch { run });
                    Command::Dropped { handle, token, attempt, after }
                }
                Notice::Released => Command::Nudge,
            };
            // Fenced meanwhile: whoever fenced may have looked for tokens before this one was there.
            match (&command, assigned) {
                (Command::Dropped { token, .. }, Some(assigned)) if assigned.is_fenced() => drop(dropped.take(*token)),
                _ => drop(commands.send(command)),
            }
        };
        Lane {
            assigned: Assigned::new(handle, start, Arc::new(notify)),
            chunks: VecDeque::new(),
            paused: false,
            started,
            revoking: false,
            unclaimed: false,
            unplaced: false,
            release: ReleaseWindow::new(start.offset),
            watermarks: None,
            committed: None,
            position: None,
            resume_at: None,
            waiting: None,
            claim: Arc::new(()),
        }
    }

    /// Puts a lane in the place of the partition's former one, whose records count no more; it waits for a stream where each partition has its own.
    fn replace_lane(&self, state: &mut State, mut lane: Lane, wakers: &mut Wakers, garbage: &mut Vec<Redelivery>) {
        let partition = lane.assigned.handle().partition.clone();
        lane.unclaimed = state.split;
        let mut is_unclaimed_already = false;
        if let Some(old) = state.lanes.get_mut(&partition) {
            is_unclaimed_already = old.unclaimed;
            lane.paused = old.paused;
            lane.watermarks = old.watermarks;
            old.assigned.fence();
            self.purge(old, garbage, &mut state.redeliveries);
            wakers.add(old.waiting.take());
        }
        if state.split {
            if !is_unclaimed_already {
                state.unclaimed.push_back(partition.clone());
            }
            wakers.add(state.waiting.take());
        }
        state.lanes.insert(partition, lane);
    }

    /// Throws away what was not taken; its bytes are free again.
    fn purge(&self, lane: &mut Lane, garbage: &mut Vec<Redelivery>, redeliveries: &mut VecDeque<(PartitionHandle, Redelivery)>) {
        let handle = lane.assigned.handle();
        self.tell(thrown_away(handle, lane.chunks.drain(..)));
        let (gone, kept): (VecDeque<_>, _) = redeliveries.drain(..).partition(|(of, _)| of == handle);
        *redeliveries = kept;
        garbage.extend(gone.into_iter().map(|(_, redelivery)| redelivery));
        garbage.extend(self.dropped.take_all(handle));
    }

    fn drop_lanes(&self, state: &mut State, handles: &[PartitionHandle], wakers: &mut Wakers, garbage: &mut Vec<Redelivery>) {
        for handle in handles {
            let Some(lane) = state.lanes.get_mut(&handle.partition) else { continue };
            lane.assigned.fence();
            self.purge(lane, garbage, &mut state.redeliveries);
            wakers.add(lane.waiting.take());
        }
        // All at once: one by one, each would move those behind it.
        let gone: IndexSet<_> = handles.iter().map(|handle| &handle.partition).collect();
        state.lanes.retain(|partition, _| !gone.contains(partition));
        state.turns.retain(|partition| !gone.contains(partition));
        state.unclaimed.retain(|partition| !gone.contains(partition));
        state.blocked = false;
        wakers.add(state.waiting.take());
    }

    fn progress(&self, state: &State) -> Progress {
        let nothing_to_take = state.redeliveries.is_empty()
            && state.problems.is_empty()
            && state.lanes.values().all(|lane| lane.paused || lane.chunks.is_empty() || lane.waiting.is_some());
        let lanes = state.lanes.values().filter(|lane| lane.started || lane.revoking);
        // The user waits for a commit's answer, or for room under the limit, not the other way round.
        let held_up = state.blocked || state.lanes.values().any(|lane| lane.release.unanswered().is_some());
        Progress {
            partitions: lanes
                .map(|lane| {
                    // In this order: what is acknowledged in between counts as finished.
                    // At most once, what was handed out is committed already: nobody has to be waited for.
                    let in_work = state.mode != Mode::AtMostOnce && lane.is_in_work();
                    let finished = lane.finished(state.mode);
                    PartitionProgress { handle: lane.assigned.handle().clone(), finished, in_work }
                })
                .collect(),
            activity: state.lanes.values().fold(state.taken, |sum, lane| sum.wrapping_add(lane.assigned.activity())),
            waiting: (nothing_to_take || held_up)
                && (state.waiting.is_some() || state.lanes.values().any(|lane| lane.waiting.is_some())),
        }
    }

    fn unacked(&self, state: &State) -> (usize, Option<(TopicPartition, i64)>) {
        let mut oldest = None;
        let mut sum = 0;
        for lane in state.lanes.values() {
            let (count, lowest) = lane.assigned.unacked();
            sum += count;
            if oldest.is_none() {
                oldest = lowest.map(|offset| (lane.assigned.handle().partition.clone(), offset.0));
            }
        }
        (sum, oldest)
    }

    /// Ends the streams. The membership may still have to end, which `Event::Closed` tells.
    fn end(&self, state: &mut State, wakers: &mut Wakers) {
        for (_, (partition, done)) in std::mem::take(&mut state.tickets) {
            let message = "the consumer ended before the answer came".into();
            let _ = done.send(Err(CommitError::Unknown { partition, message }));
        }
        state.ended = true;
        wakers.add(state.waiting.take());
        wakers.0.extend(state.lanes.values_mut().filter_map(|lane| lane.waiting.take()));
        self.listeners.end();
    }

    fn close(&self, state: &mut State, unfinished: Unfinished, wakers: &mut Wakers) {
        self.end(state, wakers);
        for closer in state.closers.drain(..) {
            let _ = closer.send(unfinished.clone());
        }
        state.closed = Some(unfinished);
    }

    /// The driver is gone, in whatever way. If it did not say so before, that is an error of its own.
    pub(crate) fn driver_ended(&self) {
        let mut wakers = Wakers::default();
        {
            let mut state = self.lock();
            if state.closed.is_some() {
                return;
            }
            let message =
                "the background task of this consumer ended before it was closed: its runtime was shut down, or ottla has a bug \
                           (then please report it, with the panic's message)"
                    .to_owned();
            if !state.reached.fail(BuildError::Unreachable { message: message.clone() }) {
                let kind = ConsumeErrorKind::Internal;
                state.push_problem(ConsumeError::new(ConsumeErrorParts { kind, partition: None, message, fatal: true }));
            }
            let uncommitted = state.lanes.keys().cloned().collect();
            self.close(&mut state, Unfinished { in_work: Vec::new(), uncommitted }, &mut wakers);
            self.refresh_urgent(&state);
        }
        wakers.wake();
    }

    // ---------------------------------------------------------------- the streams' side

    /// Takes the next chunk: of any partition, or of the one named. `None`: there will be no more.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, only: Option<&PartitionHandle>) -> Poll<Option<(Arc<Assigned>, Chunk)>> {
        let mut state = self.lock();
        let state = &mut *state;
        self.resume(state);
        if state.ended {
            return Poll::Ready(None);
        }
        self.check_unacked(state);
        let taken = match only {
            Some(handle) => match state.lanes.get_mut(&handle.partition).filter(|lane| lane.is(handle) && !lane.revoking) {
                None => return Poll::Ready(None),
                Some(_) if state.blocked => None,
                Some(lane) => lane.take(),
            },
            None if state.blocked => None,
            None => state.take_turn(),
        };
        if let Some((assigned, chunk)) = taken {
            state.taken += 1;
            state.unacked_max = state.unacked_max.saturating_add(chunk.records());
            state.untold.add(assigned.handle(), &chunk);
            if only.is_some() || state.turns.is_empty() || state.untold.is_much() {
                self.tell(state.untold.tell());
            }
            return Poll::Ready(Some((assigned, chunk)));
        }
        if only.is_none() && !state.problems.is_empty() {
            // Too many unacked, found just now.
            cx.waker().wake_by_ref();
        }
        self.tell(state.untold.tell());
        match only.and_then(|handle| state.lanes.get_mut(&handle.partition)) {
            Some(lane) => store(&mut lane.waiting, cx),
            None => store(&mut state.waiting, cx),
        }
        Poll::Pending
    }

    /// Takes what must not wait: a problem (told by the stream over all partitions only), a record to deliver again.
    pub(crate) fn take_urgent(&self, only: Option<&PartitionHandle>) -> Option<Result<Redelivery, ConsumeError>> {
        let mut state = self.lock();
        let state = &mut *state;
        let problem = if only.is_none() { state.problems.pop_front() } else { None };
        let taken = match problem {
            Some(problem) => Some(Err(problem)),
            None => {
                let at = state.redeliveries.iter().position(|(of, _)| only.is_none_or(|handle| of == handle));
                at.and_then(|at| state.redeliveries.remove(at)).map(|(_, redelivery)| Ok(redelivery))
            }
        };
        self.refresh_urgent(state);
        taken
    }

    /// The user is back after a stall.
    fn resume(&self, state: &mut State) {
        if state.stalled {
            state.stalled = false;
            self.command(Command::Polled);
        }
    }

    /// The next partition that has no stream of its own yet.
    pub(crate) fn poll_claim(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Claim, ConsumeError>>> {
        let mut state = self.lock();
        let state = &mut *state;
        self.resume(state);
        if let Some(problem) = state.problems.pop_front() {
            self.refresh_urgent(state);
            return Poll::Ready(Some(Err(problem)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        while let Some(partition) = state.unclaimed.pop_front() {
            let Some(lane) = state.lanes.get_mut(&partition) else { continue };
            lane.unclaimed = false;
            if !lane.revoking {
                return Poll::Ready(Some(Ok((lane.assigned.handle().clone(), Arc::clone(&lane.claim)))));
            }
        }
        store(&mut state.waiting, cx);
        Poll::Pending
    }

    /// At most once: how far records of this assignment may be handed out. When that is not beyond `next`, asks for more (up to `end`)
    /// and waits for the commit's answer. `None`: the partition is not ours any more.
    pub(crate) fn poll_released(
        &self,
        cx: &mut Context<'_>,
        handle: &PartitionHandle,
        next: Offset,
        end: Position,
    ) -> Poll<Option<Offset>> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(lane) = state.lanes.get_mut(&handle.partition).filter(|lane| lane.is(handle) && !lane.revoking) else {
            return Poll::Ready(None);
        };
        if lane.release.released() > next {
            return Poll::Ready(Some(lane.release.released()));
        }
        if lane.release.unanswered().is_none() {
            let block = state.pace.next_block();
            let mut left = block;
            let mut positions = Vec::new();
            positions.extend(lane.release.demand(next, end, &mut left).map(|position| (handle.clone(), position)));
            // Whose turn is next need not wait then.
            for partition in &state.turns {
                if left == 0 {
                    break;
                }
                positions.extend(state.lanes.get_mut(partition).and_then(|lane| lane.demand_ahead(&mut left)));
            }
            state.pace.used(block - left);
            self.release(positions);
        }
        store(&mut state.waiting, cx);
        Poll::Pending
    }

    /// A batch cannot be read: what follows it is thrown away, and the core fetches it again or tells the user.
    pub(crate) fn corrupt(&self, handle: &PartitionHandle, error: &RecordError) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(lane) = state.lanes.get_mut(&handle.partition).filter(|lane| lane.is(handle)) else { return };
        self.tell(thrown_away(handle, lane.chunks.drain(..)));
        state.turns.retain(|turn| *turn != handle.partition);
        let (offset, next_offset) = (error.offset, error.next_offset);
        lane.resume_at = Some(offset);
        self.command(Command::Corrupt { handle: handle.clone(), offset, next_offset, what: error.to_string() });
    }

    /// Stops handing out when too much is unacknowledged, and says so once.
    fn check_unacked(&self, state: &mut State) {
        if state.blocked || state.mode != Mode::AtLeastOnce {
            return;
        }
        // Counting looks at every partition: not for each chunk.
        if state.unacked_max < self.settings.unacked_records_max {
            return;
        }
        let (count, oldest) = self.unacked(state);
        state.unacked_max = count;
        let Some((partition, offset)) = oldest.filter(|_| count >= self.settings.unacked_records_max) else { return };
        state.blocked = true;
        // Where each partition has a stream of its own, the one over all of them tells.
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
        state.push_problem(ConsumeError::new(ConsumeErrorParts {
            kind: ConsumeErrorKind::TooManyUnacked,
            message: format!(
                "{count} records are unacknowledged (unacked_records_max = {}); the oldest is offset {offset} of {partition}: no more are \
                 handed out until some are acknowledged or dropped",
                self.settings.unacked_records_max
            ),
            partition: Some(partition),
            fatal: false,
        }));
        self.refresh_urgent(state);
    }

    fn refresh_urgent(&self, state: &State) {
        self.urgent.store(!state.redeliveries.is_empty() || !state.problems.is_empty(), Ordering::Relaxed);
    }

    // ---------------------------------------------------------------- the handle's side

    /// Pauses or resumes; answers the partitions that are not assigned.
    pub(crate) fn pause(&self, partitions: &[TopicPartition], paused: bool) {
        let wakers = {
            let mut state = self.lock();
            let state = &mut *state;
            let mut wakers = Wakers::default();
            for partition in partitions {
                let Some(lane) = state.lanes.get_mut(partition) else { continue };
                if lane.paused != paused {
                    lane.paused = paused;
                    if !paused && !lane.chunks.is_empty() {
                        if !state.split {
                            state.turns.push_back(partition.clone());
                        }
                        wakers.add(lane.waiting.take());
                        wakers.add(state.waiting.take());
                    }
                }
            }
            wakers
        };
        self.command(Command::Pause { partitions: partitions.to_vec(), paused });
        wakers.wake();
    }

    /// Goes on elsewhere: from this moment on nothing is handed out from where reading was.
    pub(crate) fn seek(&self, partition: &TopicPartition, to: SeekTarget) {
        let mut garbage = Vec::new();
        let wakers = {
            let mut state = self.lock();
            let mut wakers = Wakers::default();
            self.halt(&mut state, partition, &mut wakers, &mut garbage);
            self.command(Command::Seek { partition: partition.clone(), to });
            wakers
        };
        drop(garbage);
        wakers.wake();
    }

    fn halt(&self, state: &mut State, partition: &TopicPartition, wakers: &mut Wakers, garbage: &mut Vec<Redelivery>) {
        if let Some(lane) = state.lanes.get_mut(partition).filter(|lane| lane.started && !lane.revoking) {
            lane.assigned.fence();
            self.purge(lane, garbage, &mut state.redeliveries);
            wakers.add(lane.waiting.take());
            wakers.add(state.waiting.take());
        }
    }

    pub(crate) fn lag(&self) -> Vec<Lag> {
        self.with_lanes(|lanes| {
            let started = lanes.iter().filter(|(_, lane)| lane.started);
            started
                .map(|(partition, lane)| {
                    let (unacked, oldest_unacked) = lane.assigned.unacked();
                    Lag {
                        partition: partition.clone(),
                        position: lane.position.map_or(0, |offset| offset.0),
                        committed: lane.committed.map(|position| position.offset.0),
                        end: lane
                            .watermarks
                            .map(|marks| if self.settings.read_committed { marks.last_stable.0 } else { marks.high.0 }),
                        unacked,
                        oldest_unacked: oldest_unacked.map(|offset| offset.0),
                        paused: lane.paused,
                    }
                })
                .collect()
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.lock();
        let mut stats = Stats {
            assigned_partitions: state.lanes.len(),
            waiting_redeliveries: state.redeliveries.len() + self.dropped.len(),
            taken_chunks: state.taken,
            ..Stats::default()
        };
        for lane in state.lanes.values() {
            stats.buffered_bytes += lane.chunks.iter().map(|chunk| chunk.data.len()).sum::<usize>();
            stats.pinned_bytes += lane.assigned.held_bytes();
            stats.unacked_records += lane.assigned.unacked().0;
        }
        stats
    }

    pub(super) fn with_lanes<T>(&self, read: impl FnOnce(&IndexMap<TopicPartition, Lane>) -> T) -> T {
        read(&self.lock().lanes)
    }

    pub(crate) fn commit(&self, handle: &PartitionHandle, position: Position) -> oneshot::Receiver<Result<(), CommitError>> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.ended {
            let _ = done.send(Err(CommitError::NotAssigned { partition: handle.partition.clone() }));
            return receiver;
        }
        state.ticket_count += 1;
        let ticket = state.ticket_count;
        state.tickets.insert(ticket, (handle.partition.clone(), done));
        self.command(Command::Commit { handle: handle.clone(), position, ticket });
        receiver
    }

    pub(crate) fn partition_end(&self, handle: &PartitionHandle) -> PartitionEnd {
        let state = self.lock();
        match state.lanes.get(&handle.partition).filter(|lane| lane.is(handle)) {
            _ if state.ended => PartitionEnd::Closed,
            None => PartitionEnd::Lost,
            Some(lane) if lane.revoking => PartitionEnd::Revoked,
            Some(_) => PartitionEnd::Open,
        }
    }

    /// A partition's stream was dropped: a drain may have waited for that. If the partition is still assigned, it is offered again.
    pub(crate) fn released(&self, handle: &PartitionHandle) {
        let mut garbage = Vec::new();
        let wakers = {
            let mut state = self.lock();
            let state = &mut *state;
            let mut wakers = Wakers::default();
            let lane = state.lanes.get(&handle.partition).filter(|lane| lane.is(handle) && !lane.assigned.is_fenced());
            match lane.filter(|_| !state.ended).map(|lane| Arc::clone(&lane.assigned)) {
                Some(assigned) => {
                    // In this order, under one lock: what is acknowledged later does not count, and nobody tells the core of less than it knows.
                    self.halt(state, &handle.partition, &mut wakers, &mut garbage);
                    self.command(Command::Reopen { handle: handle.clone(), finished: assigned.watermark() });
                }
                None => self.command(Command::Nudge),
            }
            wakers
        };
        drop(garbage);
        wakers.wake();
    }

    /// Resolves when the first broker has answered, or with the first problem there is.
    pub(crate) fn reached(&self) -> oneshot::Receiver<Result<(), BuildError>> {
        self.lock().reached.wait()
    }

    pub(crate) fn closed(&self) -> oneshot::Receiver<Unfinished> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        match &state.closed {
            Some(unfinished) => drop(sender.send(unfinished.clone())),
            None => state.closers.push(sender),
        }
        receiver
    }
}

impl State {
    fn take_turn(&mut self) -> Option<(Arc<Assigned>, Chunk)> {
        for _ in 0..self.turns.len() {
            let partition = self.turns.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            if let Some(taken) = lane.take() {
                if !lane.chunks.is_empty() {
                    self.turns.push_back(partition);
                }
                return Some(taken);
            }
        }
        None
    }

    fn push_problem(&mut self, error: ConsumeError) {
        // Problems are said once per change, so the queue is short; a user who never polls must not grow it.
        const PROBLEMS_MAX: usize = 64;
        if self.problems.len() == PROBLEMS_MAX {
            self.problems.pop_front();
        }
        self.problems.push_back(error);
    }
}

/// Wakers to call after the lock is released.
#[derive(Default)]
struct Wakers(Vec<Waker>);

impl Wakers {
    fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }

    fn wake(self) {
        for waker in self.0 {
            waker.wake();
        }
    }
}

fn store(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
