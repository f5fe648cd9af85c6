//! What of one assigned partition is finished, exact to the record.
//!
//! Runs of records are registered in the log's order. Each settles once: done, when all its records were acked, or as a hole, when nobody
//! is left who could ack the rest. The watermark is the end of the done runs at the front, plus the acked records at the start of the first
//! run that is still live. It never passes a hole.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use super::run::{Progress, Run};
use crate::{
    model::{Offset, Position},
    proto::PartitionHandle,
    records::{RecordError, Segment},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Acquire, Ordering::Release},
    },
};

/// What happens to runs and deliveries where the stream does not look.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A delivery was dropped unacked: hand it out again. It keeps its run alive; dropping the notice instead makes a hole.
    Dropped {
        run: Arc<Run>,
        /// The record's number within its run.
        redelivery: u32,
        /// The number of the attempt to come; the first redelivery is 2.
        attempt: u32,
        /// How long to wait first, where the user said.
        after: Option<Duration>,
    },
    /// A batch was dropped unacked: likewise.
    DroppedBatch { run: Arc<Run>, attempt: u32, after: Option<Duration> },
    /// Nobody holds a certain run any more, and the partition is fenced, or the run was not finished: look at the watermark again.
    Released,
}

/// Takes notices: called from whatever thread drops something, so it must not block.
pub(crate) type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// One assignment of one partition.
///
/// An assignment that comes after it is another `Assigned`. A delivery keeps the one it came from, so a stale ack touches only an orphan.
pub(crate) struct Assigned {
    handle: PartitionHandle,
    notify: Notify,
    fenced: AtomicBool,
    /// A record that cannot be read, found behind the stream's back.
    unreadable: Mutex<Option<RecordError>>,
    window: Mutex<Window>,
}

/// The runs between the watermark and what was read last.
///
/// Nothing that may hold the last reference to a run is dropped under its lock: a run takes the same lock when it goes.
struct Window {
    /// Everything before this is finished. Only grows.
    acked: Position,
    /// The number of the run in the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// There is a hole: what comes after it cannot count any more, and gets no slot.
    holed: bool,
    next_seq: u64,
    /// Every run that somebody holds, finished or not.
    live: BTreeMap<u64, Weak<Run>>,
    /// The activity of the runs that are gone.
    retired: u64,
}

/// Where one run stands.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Live,
    /// All acked: go on here.
    Done(Position),
    /// Not all acked, and nobody left to do it: up to here, or nothing of it.
    Hole(Option<Position>),
}

impl Assigned {
    /// Begins an assignment that reads from `start`.
    pub(crate) fn new(handle: PartitionHandle, start: Position, notify: Notify) -> Arc<Self> {
        let window = Window {
            acked: start,
            first: 0,
            slots: VecDeque::new(),
            holed: false,
            next_seq: 0,
            live: BTreeMap::new(),
            retired: 0,
        };
        Arc::new(Self {
            handle,
            notify,
            fenced: AtomicBool::new(false),
            unreadable: Mutex::default(),
            window: Mutex::new(window),
        })
    }

    pub(crate) fn handle(&self) -> &PartitionHandle {
        &self.handle
    }

    /// Registers a segment's records behind those registered before.
    pub(crate) fn open(self: &Arc<Self>, segment: Segment) -> Arc<Run> {
        let mut run = Run::new(Arc::clone(self), segment);
        let mut window = self.window();
        run.seq = window.next_seq;
        window.next_seq += 1;
        let run = Arc::new(run);
        window.live.insert(run.seq, Arc::downgrade(&run));
        if !window.holed {
            window.slots.push_back(Slot::Live);
        }
        run
    }

    /// The position to commit: everything before it is finished.
    ///
    /// Never goes back. Its offset is that of the first record which is not, or that after the last one which is, where no record lies between the two.
    pub(crate) fn watermark(&self) -> Position {
        if planted!(CommitHandedOut)
            && let Some(newest) = self.runs().last()
        {
            return newest.next();
        }
        loop {
            let (acked, front) = {
                let window = self.window();
                (window.acked, window.front_run())
            };
            let Some(run) = front else { return acked };
            match run.progress() {
                // Acked to the end, and still held by somebody.
                Progress::Finished => self.window().settle(run.seq, Slot::Done(run.next())),
                Progress::Reached(position) => return self.window().reach(position),
                Progress::Untouched => return acked,
            }
        }
    }

    /// How many runs are held by anybody, finished or not.
    pub(crate) fn live_runs(&self) -> usize {
        self.window().live.len()
    }

    /// How many bytes those runs keep in memory; a buffer that several of them share counts once.
    pub(crate) fn held_bytes(&self) -> usize {
        let runs = self.runs();
        let buffers: BTreeMap<_, _> = runs.iter().map(|run| run.buffer()).collect();
        buffers.values().sum()
    }

    /// A number that changes with every record handed out, acked, or given back.
    pub(crate) fn activity(&self) -> u64 {
        // In this order: a run that goes in between counts twice rather than not at all.
        let live: u64 = self.runs().iter().map(|run| run.activity()).sum();
        self.window().retired + live
    }

    /// How many records were handed out and not acked, and the lowest of their offsets.
    pub(crate) fn unacked(&self) -> (usize, Option<Offset>) {
        let (mut count, mut oldest) = (0, None);
        for run in self.runs() {
            count += run.unacked();
            oldest = oldest.or_else(|| run.oldest_unacked());
        }
        (count, oldest)
    }

    /// Ends the handing out: the partition is being revoked, or is lost. Acks still count; what is dropped unacked is not given back.
    pub(crate) fn fence(&self) {
        self.fenced.store(true, Release);
    }

    /// Whether nothing may be handed out any more. To be asked before each record, also one that is handed out again.
    #[inline]
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Acquire)
    }

    /// Tells of something dropped unacked, unless nobody would hand it out again.
    pub(super) fn give_back(&self, notice: Notice) {
        if !self.is_fenced() {
            (self.notify)(notice);
        }
    }

    /// What is wrong with a record of a batch that was handed out, if somebody found out; told once.
    pub(super) fn take_unreadable(&self) -> Option<RecordError> {
        self.unreadable().take()
    }

    pub(super) fn unreadable(&self) -> MutexGuard<'_, Option<RecordError>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of run `seq`, which nobody holds any more.
    pub(super) fn retire(&self, seq: u64, progress: Progress, next: Position, activity: u64) {
        let slot = match progress {
            Progress::Finished => Slot::Done(next),
            Progress::Reached(position) => Slot::Hole(Some(position)),
            Progress::Untouched => Slot::Hole(None),
        };
        {
            let mut window = self.window();
            window.settle(seq, slot);
            window.live.remove(&seq);
            window.retired += activity + 1;
        }
        // Whoever fences and then counts the live runs either does not count this one, or is told here.
        if self.is_fenced() || matches!(slot, Slot::Hole(_)) {
            (self.notify)(Notice::Released);
        }
    }

    /// The live runs, in order; to be dropped without the lock.
    fn runs(&self) -> Vec<Arc<Run>> {
        self.window().live.values().filter_map(Weak::upgrade).collect()
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Nothing under the lock leaves the window half changed, should it panic.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assigned").field("handle", &self.handle).field("fenced", &self.is_fenced()).finish_non_exhaustive()
    }
}

impl Window {
    /// The run that the watermark stands in; `None` when there is none, or it is being dropped just now.
    fn front_run(&self) -> Option<Arc<Run>> {
        match self.slots.front()? {
            Slot::Live => self.live.get(&self.first)?.upgrade(),
            Slot::Done(_) | Slot::Hole(_) => None,
        }
    }

    /// Notes how far the run at the front is acked: while it is being dropped it cannot be asked, and the watermark must not fall back.
    fn reach(&mut self, position: Position) -> Position {
        if position.offset > self.acked.offset {
            self.acked = position;
        }
        self.acked
    }

    fn settle(&mut self, seq: u64, slot: Slot) {
        let Some(at) = seq.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { return };
        let Some(settled) = self.slots.get_mut(at) else { return };
        *settled = slot;
        if matches!(slot, Slot::Hole(_)) {
            self.holed = true;
            self.slots.truncate(at + 1);
        }
        self.fold();
    }

    fn fold(&mut self) {
        while let Some(&slot) = self.slots.front() {
            match slot {
                Slot::Live => return,
                Slot::Done(next) => {
                    self.reach(next);
                    self.first += 1;
                    self.slots.pop_front();
                }
                Slot::Hole(reached) => {
                    if let Some(position) = reached {
                        self.reach(position);
                    }
                    self.slots = VecDeque::new();
                }
            }
        }
    }
}

#[cfg(all(test, shuttle))]
mod orders;
#[cfg(test)]
pub(super) mod tests;
