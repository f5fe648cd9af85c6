//! Fetches records: keeps a cursor for each partition, one Fetch outstanding on each line to a broker, and the bytes within one budget.
//!
//! ```text
//!              add                     view: another leader epoch ─► Validate
//!   (absent) ──────► fetching ───────► diverging ───────────────────► Truncated   ──► suspended ── add ──► fetching
//!                    │  ▲  │           OFFSET_OUT_OF_RANGE ─────────► OutOfRange
//!                    └──┘              broken bytes, twice ─────────► Problem
//!       records, errors, with a back-off
//! ```
//!
//! A position moves by what batch headers say, and by nothing else. An answer counts only for a cursor that still waits for that very
//! call; whatever moves, suspends or replaces a cursor ends its waiting.

mod answers;
mod budget;
mod cursor;
mod errors;
mod node;
mod planner;
mod replica;
mod session;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use budget::Budget;
use cursor::{Cursor, LASTING_RETRY_MAX, State, Watermarks};
use node::Node;
use planner::Plan;

use crate::{
    model::{BrokerId, LeaderEpoch, Offset, Position, TopicId, TopicPartition},
    proto::{
        Ask, ClusterView, Deadline, PartitionHandle, Problem, ProblemKind,
        backoff::{Pace, Rng},
        earliest,
    },
    records::Chunk,
    wire::{Broker, Isolation},
};

#[derive(Clone, Debug)]
pub(crate) struct FetchConfig {
    pub(crate) isolation: Isolation,
    /// How long a broker may wait for records (Java: `fetch.max.wait.ms`).
    pub(crate) max_wait: Duration,
    pub(crate) min_bytes: i32,
    /// How many bytes may be on their way and untaken together.
    pub(crate) bytes_max: usize,
    /// How much of one partition is asked for at a time.
    pub(crate) partition_bytes_max: i32,
    /// How many connections read what lies unread, beside the one to each broker that waits, shared by the brokers where something does, each
    /// of which has one at least; with none that one does both.
    pub(crate) reading_lines: usize,
    /// Where we run, so that the leader can name a replica there.
    pub(crate) rack: Option<Arc<str>>,
    /// How long such a replica is asked before the leader is again (Java: `metadata.max.age.ms`).
    pub(crate) replica_lease: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FetchEvent {
    /// Batches to read. Its bytes count against the budget until `handle_taken` gives them back, once per chunk.
    Chunk {
        handle: PartitionHandle,
        chunk: Chunk,
        high_watermark: Offset,
        last_stable_offset: Offset,
        log_start: Option<Offset>,
    },
    /// Nothing to read, but the log's ends have moved.
    Idle {
        handle: PartitionHandle,
        high_watermark: Offset,
        last_stable_offset: Offset,
        log_start: Option<Offset>,
    },
    /// The leader says that our own position is out of range. The partition is suspended.
    OutOfRange {
        handle: PartitionHandle,
        position: Position,
    },
    /// The leader's epoch is another one. The partition is suspended until its position has been validated.
    Validate {
        handle: PartitionHandle,
        position: Position,
    },
    /// The leader's log departs from what was read: the end of the last epoch they share. The partition is suspended.
    Truncated {
        handle: PartitionHandle,
        position: Position,
        diverging: (LeaderEpoch, Offset),
    },
    /// The topic may be gone: while that is so, its offsets must not be committed.
    Suspect {
        handle: PartitionHandle,
        suspect: bool,
    },
    RefreshMetadata {
        why: String,
    },
    /// A broker named a newer leader (KIP-951).
    LeaderHint {
        partition: TopicPartition,
        leader: BrokerId,
        epoch: LeaderEpoch,
        brokers: Vec<Broker>,
    },
    Problem(Problem),
}

impl FetchEvent {
    fn chunk_mut(&mut self) -> Option<&mut Chunk> {
        if let Self::Chunk { chunk, .. } = self { Some(chunk) } else { None }
    }
}

pub(crate) struct Fetcher {
    config: FetchConfig,
    rng: Rng,
    pace: Pace,
    cursors: BTreeMap<TopicPartition, Cursor>,
    nodes: BTreeMap<BrokerId, Node>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    budget: Budget,
    /// The view that the cursors' leaders were taken from.
    revision: Option<u64>,
    /// Counts answers with data, so that partitions take turns.
    turns: u64,
    /// Something happened since there was last nothing to ask.
    changed: bool,
    /// With more room in the budget there would be something to ask.
    lacks_room: bool,
    events: VecDeque<FetchEvent>,
}

/// A Fetch on its way.
struct Call {
    broker: BrokerId,
    line: usize,
    reserved: usize,
    /// Its partitions are those of the broker's fetch session.
    in_session: bool,
    asked_at: Instant,
    wait: Duration,
    partitions: Vec<Asked>,
}

struct Asked {
    partition: TopicPartition,
    topic_id: Option<TopicId>,
    max_bytes: i32,
}

impl Fetcher {
    pub(crate) fn new(config: FetchConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            pace: Pace::new(config.retry_backoff),
            config,
            cursors: BTreeMap::new(),
            nodes: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 1,
            budget: Budget::default(),
            revision: None,
            turns: 0,
            changed: false,
            lacks_room: false,
            events: VecDeque::new(),
        }
    }

    /// Starts, or goes on after a suspension, at a position that is known to be good. Replaces an older handle of the partition.
    ///
    /// A pause stays as long as the partition does.
    pub(crate) fn add(&mut self, now: Instant, handle: &PartitionHandle, position: Position, view: &ClusterView) {
        self.handle_view(now, view);
        self.changed = true;
        let partition = &handle.partition;
        match self.cursors.get_mut(partition) {
            Some(cursor) if cursor.handle == *handle => {
                cursor.go_on(position);
                // The leader may have changed again before the answer about the one before it came.
                let (epoch, validated) = (cursor.leader_epoch, cursor.validating.take());
                if validated.is_some() && validated != epoch && position.leader_epoch.is_some() && position.leader_epoch != epoch
                {
                    cursor.suspend();
                    cursor.validating = epoch;
                    self.events.push_back(FetchEvent::Validate { handle: handle.clone(), position });
                }
            }
            _ => {
                self.detach(partition);
                self.cursors.insert(partition.clone(), Cursor::new(handle.clone(), position, &self.config));
            }
        }
        self.attach(now, partition, view);
    }

    /// Stops reading a partition. Chunks of it that are not taken yet count until they are.
    pub(crate) fn remove(&mut self, handle: &PartitionHandle) {
        if self.cursors.get(&handle.partition).is_some_and(|c| c.handle == *handle) {
            self.detach(&handle.partition);
            self.cursors.remove(&handle.partition);
            self.changed = true;
        }
    }

    /// Stops asking for a partition, or starts again. What is on its way is still handed out.
    pub(crate) fn pause(&mut self, partition: &TopicPartition, paused: bool) {
        if let Some(cursor) = self.cursors.get_mut(partition) {
            cursor.paused = paused;
            self.changed = true;
        }
    }

    /// Gives a chunk's bytes back to the budget: it was taken, or dropped. Exactly once for each chunk, also under an old handle.
    pub(crate) fn handle_taken(&mut self, _now: Instant, handle: &PartitionHandle, bytes: usize) {
        self.budget.take(handle, bytes);
        self.changed |= self.lacks_room;
    }

    /// Follows the leaders. Who owns the partition looks whether its topic is still the same one.
    pub(crate) fn handle_view(&mut self, now: Instant, view: &ClusterView) {
        if self.revision.replace(view.revision) == Some(view.revision) {
            return;
        }
        self.changed = true;
        let partitions: Vec<_> = self.cursors.keys().cloned().collect();
        for partition in partitions {
            self.follow(now, &partition, view);
        }
    }

    /// Fetches again from `offset`, where the bytes that came were broken; the second time at one offset the partition stops.
    ///
    /// The chunks that are dropped because of it are given back with `handle_taken`, as any other.
    pub(crate) fn refetch(&mut self, now: Instant, handle: &PartitionHandle, offset: Offset) {
        let Some(cursor) = self.cursors.get_mut(&handle.partition).filter(|c| c.handle == *handle) else { return };
        cursor.position = Position { offset, leader_epoch: None };
        (cursor.asked, cursor.retry_at) = (None, None);
        if cursor.state != State::Fetching {
            cursor.refetch_from = Some(offset);
        }
        if !cursor.may_refetch() {
            self.stop(&handle.partition, ProblemKind::Corrupt, "the bytes are broken, also when fetched a second time".into());
        }
        self.shun_replicas(now, &handle.partition, "its bytes are broken");
        self.changed = true;
    }

    /// The next offset to fetch.
    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.cursors.get(partition).map(|cursor| cursor.position)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.nodes.values_mut().for_each(|node| node.handle_timeout(now));
        let mut leaderless = Vec::new();
        for (partition, cursor) in &mut self.cursors {
            if cursor.retry_at.is_some_and(|at| at <= now) {
                cursor.retry_at = None;
                if cursor.leader.is_none() {
                    leaderless.push(partition.clone());
                }
            }
        }
        for partition in leaderless {
            self.miss_leader(now, &partition);
        }
        self.changed = true;
    }

    /// Asks the broker that was asked longest ago, of those that have a free line and lead something that is wanted.
    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant, view: &ClusterView) -> Option<Ask> {
        self.handle_view(now, view);
        if !self.changed {
            return None;
        }
        self.lacks_room = false;
        let busy = self.nodes.values().filter(|node| node.may_be_busy()).count();
        let lines_each = (self.config.reading_lines / busy.max(1)).max(1).min(self.config.reading_lines);
        let idle = self.nodes.iter().filter(|(_, node)| node.may_be_asked(now, lines_each));
        let mut idle: Vec<_> = idle.map(|(&id, node)| (node.last_asked, id)).collect();
        idle.sort_unstable();
        for (_, broker) in idle {
            match self.plan(now, broker, lines_each) {
                Plan::Ask(ask) => return Some(ask),
                Plan::Nothing => {}
                // Room is short for all alike; when there is some again, this broker is the first.
                Plan::NoRoom => break,
            }
        }
        self.changed = false;
        None
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<FetchEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let nodes = self.nodes.values().filter_map(Node::poll_timeout).min();
        let cursors = self.cursors.values().filter(|c| c.asked.is_none()).filter_map(|c| c.retry_at).min();
        earliest(nodes.map(|at| (at, "fetch retry at a broker")), cursors.map(|at| (at, "fetch retry of a partition")))
    }

    /// Takes over what the view says of one partition.
    fn follow(&mut self, now: Instant, partition: &TopicPartition, view: &ClusterView) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let id = view.topics.get(partition.topic()).and_then(|topic| topic.id);
        let known = view.partition(partition);
        let leader = known.and_then(|known| known.leader);
        let epoch = known.and_then(|known| known.leader_epoch);
        let epoch_changed = epoch.is_some() && epoch != cursor.leader_epoch;
        if leader != cursor.leader || epoch_changed || (id.is_some() && id != cursor.topic_id) {
            let position = cursor.position;
            // Also where the epoch is lower: a topic made anew on brokers without topic ids.
            let must_validate = epoch_changed && position.leader_epoch.is_some() && position.leader_epoch != epoch;
            if !planted!(BelieveAnyoneOutOfRange) {
                cursor.asked = None;
            }
            cursor.retry_at = None;
            if must_validate && cursor.state == State::Fetching {
                cursor.suspend();
                cursor.validating = epoch;
                self.events.push_back(FetchEvent::Validate { handle: cursor.handle.clone(), position });
            }
            self.attach(now, partition, view);
        }
    }

    /// Counts a partition to its leader.
    fn attach(&mut self, now: Instant, partition: &TopicPartition, view: &ClusterView) {
        self.detach(partition);
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        cursor.topic_id = view.topics.get(partition.topic()).and_then(|topic| topic.id).or(cursor.topic_id);
        let known = view.partition(partition);
        cursor.leader = known.and_then(|known| known.leader);
        cursor.leader_epoch = known.and_then(|known| known.leader_epoch).or(cursor.leader_epoch);
        match cursor.leader {
            Some(leader) => self.join(leader, partition),
            None => self.miss_leader(now, partition),
        }
    }

    fn detach(&mut self, partition: &TopicPartition) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let source = cursor.source();
        (cursor.leader, cursor.replica) = (None, None);
        source.into_iter().for_each(|broker| self.leave(broker, partition));
    }

    /// Asks for metadata as long as a partition has no leader.
    fn miss_leader(&mut self, now: Instant, partition: &TopicPartition) {
        let Some(cursor) = self.cursors.get_mut(partition).filter(|c| c.state == State::Fetching) else { return };
        cursor.retry_at = Some(self.pace.after(now, cursor.backoff.fail(&mut self.rng)));
        self.refresh(format!("{partition} has no leader"));
    }

    fn refresh(&mut self, why: String) {
        if !self.events.iter().any(|event| matches!(event, FetchEvent::RefreshMetadata { .. })) {
            self.events.push_back(FetchEvent::RefreshMetadata { why });
        }
    }

    /// Suspends a partition because of something that only the user can decide.
    fn stop(&mut self, partition: &TopicPartition, kind: ProblemKind, what: String) {
        if let Some(cursor) = self.cursors.get_mut(partition) {
            cursor.suspend();
            // It stands still now, whatever was said before.
            cursor.said = None;
        }
        self.say(partition, kind, None, format!("{what}; the partition has stopped, seek to go on"));
    }
}

#[cfg(test)]
mod tests;
