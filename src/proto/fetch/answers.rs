//! What the answers to Fetch mean for the cursors.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Asked, Call, FetchEvent, Fetcher, LASTING_RETRY_MAX, Watermarks,
    cursor::Cursor,
    errors::{self, Verdict},
};
use crate::{
    model::{BrokerId, LeaderEpoch, Offset, Position, TopicId, TopicPartition},
    proto::{Answer, CallError, ClusterView, Problem, ProblemKind, backoff::Rng, invariant},
    records::{self, BatchError, Chunk},
    wire::{AbortedTransaction, Broker, ErrorCode, FetchedPartition, Response, TopicRef},
};

/// After how many failures in a row, with a code that means nothing to us, the user hears of it.
const TRIES_MAX: u32 = 5;
/// How often one batch's size is doubled before the user hears of it.
const GROWTHS_MAX: u32 = 32;

/// One answer, as far as its partitions share it.
struct Frame<'a> {
    now: Instant,
    /// The same chance for all of one answer: what failed together is tried again together.
    rng: Rng,
    broker: BrokerId,
    /// It was asked in the broker's fetch session.
    in_session: bool,
    view: &'a ClusterView,
    /// The addresses of the leaders that the answer names.
    brokers: &'a [Broker],
    /// What is left of the reservation.
    room: usize,
    is_first: bool,
    /// How many bytes of records it has, all partitions together. If there are any, a partition without may have found no room.
    brought: usize,
}

impl Frame<'_> {
    /// Whether bytes may be handed out: within the reservation, or the first of their answer, which a broker may not be able to send
    /// smaller. What is left out is fetched again.
    fn admits(&mut self, bytes: usize) -> bool {
        let admits = bytes <= self.room || self.is_first;
        self.room = self.room.saturating_sub(bytes);
        self.is_first = false;
        admits
    }
}

impl Fetcher {
    pub(crate) fn handle_answer(&mut self, now: Instant, call: u64, answer: Answer, view: &ClusterView) {
        let Some(Call { broker, line, reserved, in_session, asked_at, wait, mut partitions }) = self.calls.remove(&call) else {
            tracing::debug!(call, "an answer to a Fetch that nobody waits for");
            return;
        };
        self.handle_view(now, view);
        self.changed = true;
        self.budget.release(reserved);
        // A cursor that was moved, suspended or replaced meanwhile does not wait for this answer any more.
        let mut live = BTreeSet::new();
        for asked in &mut partitions {
            if let Some(cursor) =
                self.cursors.get_mut(&asked.partition).filter(|c| c.asked == Some(call) || planted!(ForgetAssignmentEpoch))
            {
                (cursor.asked, cursor.is_behind) = (None, false);
                live.insert(asked.partition.clone());
            }
        }
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.handle_answered(line);
            if node.is_done_with() {
                self.nodes.remove(&broker);
            }
        }
        let accepted = match &answer {
            Ok(Response::Fetch(response)) if response.error == ErrorCode::NONE => Some(response.session_id),
            _ => None,
        };
        if in_session && self.handle_session(broker, accepted, &answer) {
            return;
        }
        if accepted.is_none() {
            self.shun_replica(now, broker);
        }
        match answer {
            Ok(Response::Fetch(response)) if response.error == ErrorCode::NONE => {
                let brought = response.partitions.iter().map(|partition| partition.records.len()).sum();
                let frame = Frame {
                    now,
                    rng: self.rng.clone(),
                    broker,
                    in_session,
                    view,
                    brokers: &response.brokers,
                    room: reserved,
                    is_first: true,
                    brought,
                };
                self.rng.next_u64();
                let has_news = self.handle_response(frame, &partitions, &live, response.partitions);
                // An answer without news that came early counts as if it had taken its time.
                let due = if has_news { now } else { asked_at + wait };
                // The connection would wait, but room would be kept for the answer meanwhile.
                let due = due.max(now + response.throttle);
                if let Some(node) = self.nodes.get_mut(&broker) {
                    node.handle_brought(line, brought, reserved, (due > now).then_some(due));
                }
            }
            Ok(Response::Fetch(response)) => self.handle_error(now, broker, response.error),
            Ok(_) => {
                invariant!(false, "Fetch was answered with another API's answer");
                self.back_off(now, broker);
            }
            Err(CallError::NotSent(why) | CallError::Lost(why)) => {
                if let Some(node) = self.nodes.get_mut(&broker) {
                    node.handle_lost(now, line);
                }
                self.back_off(now, broker);
                self.refresh(format!("broker {} did not answer Fetch: {why}", broker.0));
            }
            Err(error @ CallError::Malformed(_)) => {
                self.back_off(now, broker);
                let what = format!("cannot fetch from broker {}: {error}; trying again", broker.0);
                self.say_of_node(broker, ProblemKind::Protocol, None, what);
            }
            Err(error @ CallError::Unsupported { .. }) => {
                self.leave_alone(now, broker, LASTING_RETRY_MAX);
                let what = format!("cannot fetch from broker {}: {error}; upgrade it", broker.0);
                self.say_of_node(broker, ProblemKind::Incompatible, None, what);
            }
        }
    }

    /// Takes note of what an answer means for the session that was asked in. Returns whether that is all there is to it: the broker could
    /// not go on with it, and everything is said anew at once.
    fn handle_session(&mut self, broker: BrokerId, accepted: Option<i32>, answer: &Answer) -> bool {
        let Some(node) = self.nodes.get_mut(&broker) else { return false };
        let was_open = node.session.is_open();
        if let Some(id) = accepted {
            node.session.handle_accepted(id);
            return false;
        }
        node.session.end();
        let is_over = match answer {
            Ok(Response::Fetch(response)) => errors::ends_session(response.error),
            // The broker is an older one now.
            Err(CallError::Unsupported { .. }) => true,
            _ => false,
        };
        was_open && is_over
    }

    /// Returns whether there was anything but silence.
    fn handle_response(
        &mut self,
        mut frame: Frame<'_>,
        asked: &[Asked],
        live: &BTreeSet<TopicPartition>,
        answered: Vec<FetchedPartition>,
    ) -> bool {
        // In a session most answers say nothing.
        let mut unanswered = Questions::new(if answered.is_empty() { &[] } else { asked });
        let mut has_news = false;
        let before = self.events.len();
        for answered in answered {
            let Some(asked) = unanswered.take(&answered.topic, answered.partition) else {
                tracing::debug!(broker = frame.broker.0, topic = ?answered.topic, partition = answered.partition, "not asked for, or answered twice");
                continue;
            };
            has_news |= answered.error != ErrorCode::NONE || !answered.records.is_empty() || answered.diverging.is_some();
            has_news |= answered.preferred_replica.is_some();
            if live.contains(&asked.partition) {
                self.handle_partition(&mut frame, asked, answered);
            } else {
                // Whoever asked, it is news: the former leader is not to be believed.
                self.hint(&frame, &asked.partition, answered.current_leader);
                // And would not be said again.
                if frame.in_session
                    && let Some(node) = self.nodes.get_mut(&frame.broker)
                {
                    node.session.end();
                }
            }
        }
        self.unpin(before, frame.brought);
        has_news
    }

    /// Takes the chunks from event number `from` on out of their answer where they are the smaller part of its records: the budget counts
    /// what is kept, and a slice keeps all of it.
    fn unpin(&mut self, from: usize, brought: usize) {
        let mut chunks: Vec<_> = self.events.range_mut(from..).filter_map(FetchEvent::chunk_mut).collect();
        let kept: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
        if kept * 2 < brought {
            chunks.iter_mut().for_each(|chunk| chunk.data = Bytes::copy_from_slice(&chunk.data));
        }
    }

    fn handle_partition(&mut self, frame: &mut Frame<'_>, asked: &Asked, answered: FetchedPartition) {
        let partition = &asked.partition;
        let code = answered.error;
        let replica = self.cursors.get(partition).and_then(|cursor| cursor.replica).filter(|it| it.broker == frame.broker);
        if replica.is_some() && (code != ErrorCode::NONE || answered.diverging.is_some()) {
            return self.handle_word_of_replica(frame, partition, &answered);
        }
        match errors::fetch(code) {
            Verdict::Accept => {
                let nearer = answered.preferred_replica.filter(|&nearer| nearer != frame.broker && replica.is_none());
                self.handle_accepted(frame, asked, answered);
                match (nearer, replica) {
                    (Some(nearer), _) => self.go_to_replica(frame.now, partition, nearer),
                    (None, Some(replica)) if replica.until <= frame.now => self.return_to_leader(partition),
                    _ => {}
                }
            }
            Verdict::Refresh => {
                self.put_off(frame, partition);
                self.hint(frame, partition, answered.current_leader);
                self.refresh(format!("broker {} answered Fetch of {partition} with {code}", frame.broker.0));
            }
            Verdict::Suspect => {
                self.set_suspect(partition, true);
                self.put_off_longer(frame, partition);
                self.refresh(format!("broker {} answered Fetch of {partition} with {code}", frame.broker.0));
            }
            Verdict::Retry => self.put_off(frame, partition),
            Verdict::OutOfRange => self.handle_out_of_range(frame, partition),
            Verdict::Unauthorized => {
                self.put_off_longer(frame, partition);
                let what = format!("{code}; grant READ on the topic");
                self.say(partition, ProblemKind::Unauthorized, Some(code), what);
            }
            Verdict::Corrupt => {
                self.put_off_longer(frame, partition);
                if !self.cursors.get_mut(partition).is_some_and(Cursor::may_refetch) {
                    let what = format!("broker {} answered with {code}, again and again", frame.broker.0);
                    self.say(partition, ProblemKind::Corrupt, Some(code), what);
                }
            }
            Verdict::Incompatible => {
                self.put_off_longer(frame, partition);
                let what = format!("broker {} answered with {code}; upgrade it", frame.broker.0);
                self.say(partition, ProblemKind::Incompatible, Some(code), what);
            }
            Verdict::Unexpected => {
                let what = format!("broker {} answered with {code}", frame.broker.0);
                self.handle_nonsense(frame, partition, Some(code), &what);
            }
        }
    }

    /// A replica may be behind the leader, or be none any more: what is wrong is for the leader to say.
    fn handle_word_of_replica(&mut self, frame: &Frame<'_>, partition: &TopicPartition, answered: &FetchedPartition) {
        self.hint(frame, partition, answered.current_leader);
        if errors::fetch(answered.error) == Verdict::Refresh {
            self.refresh(format!("broker {} answered Fetch of {partition} with {}", frame.broker.0, answered.error));
        }
        self.shun_replicas(frame.now, partition, &format!("it answered with {}", answered.error));
    }

    fn handle_accepted(&mut self, frame: &mut Frame<'_>, asked: &Asked, answered: FetchedPartition) {
        let partition = &asked.partition;
        self.set_suspect(partition, false);
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let watermarks = Watermarks {
            high: answered.high_watermark,
            last_stable: answered.last_stable_offset,
            log_start: answered.log_start_offset,
        };
        if let Some(diverging) = answered.diverging {
            self.handle_diverging(frame, partition, diverging);
        } else if answered.records.is_empty() {
            cursor.recover();
            cursor.is_behind = frame.brought > 0 && cursor.position.offset < watermarks.end(self.config.isolation);
            if cursor.watermarks.replace(watermarks) != Some(watermarks) {
                let Watermarks { high: high_watermark, last_stable: last_stable_offset, log_start } = watermarks;
                let handle = cursor.handle.clone();
                self.events.push_back(FetchEvent::Idle { handle, high_watermark, last_stable_offset, log_start });
            }
        } else if frame.admits(answered.records.len()) {
            self.handle_records(frame, asked, answered.records, answered.aborted, watermarks);
        } else {
            cursor.is_behind = true;
            tracing::debug!(%partition, broker = frame.broker.0, "more bytes than asked for: left to the next Fetch");
        }
    }

    fn handle_records(
        &mut self,
        frame: &mut Frame<'_>,
        asked: &Asked,
        data: Bytes,
        aborted: Vec<AbortedTransaction>,
        watermarks: Watermarks,
    ) {
        let partition = &asked.partition;
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let from = cursor.position.offset;
        let indexed = records::index(&data, from);
        let leader_epoch = indexed.last_epoch();
        match (indexed.next_offset.filter(|&next| next > from), indexed.error) {
            // An error after good batches is met again, at the front, by the next Fetch.
            (Some(next_offset), _) => {
                self.turns += 1;
                cursor.turn = self.turns;
                cursor.position = Position { offset: next_offset, leader_epoch };
                cursor.is_behind = next_offset < watermarks.end(self.config.isolation);
                cursor.recover();
                cursor.watermarks = Some(watermarks);
                let handle = cursor.handle.clone();
                self.budget.hold(&handle, data.len());
                let Watermarks { high: high_watermark, last_stable: last_stable_offset, log_start } = watermarks;
                let aborted = records::aborted_within(&indexed.heads, aborted);
                let chunk = Chunk { data, heads: indexed.heads, aborted, from, next_offset };
                self.events.push_back(FetchEvent::Chunk { handle, chunk, high_watermark, last_stable_offset, log_start });
            }
            (None, Some(BatchError::TooSmall { needed })) => self.grow(frame, asked, needed),
            (None, Some(error @ BatchError::Legacy { .. })) => {
                self.stop(partition, ProblemKind::LegacyFormat, format!("{error}"));
            }
            (None, Some(error @ BatchError::Malformed { .. })) => self.handle_broken(frame, partition, &error.to_string()),
            (None, None) => self.handle_broken(frame, partition, "every batch of the answer ends before that offset"),
        }
    }

    fn handle_diverging(&mut self, frame: &mut Frame<'_>, partition: &TopicPartition, diverging: (LeaderEpoch, Offset)) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let (handle, position) = (cursor.handle.clone(), cursor.position);
        if diverging.1 < position.offset {
            cursor.suspend();
            self.events.push_back(FetchEvent::Truncated { handle, position, diverging });
        } else if position.leader_epoch.is_some_and(|epoch| diverging.0 < epoch) {
            // The log is what was read; only nothing was written in the epoch that the position names, and so its leader has forgotten it.
            cursor.position.leader_epoch = Some(diverging.0);
            cursor.recover();
        } else {
            let what = format!("broker {} says that the log departs from it at offset {}", frame.broker.0, diverging.1.0);
            self.handle_nonsense(frame, partition, None, &what);
        }
    }

    /// Asks again, more and more rarely; if it stays so, the user hears of it.
    fn handle_nonsense(&mut self, frame: &mut Frame<'_>, partition: &TopicPartition, code: Option<ErrorCode>, what: &str) {
        self.put_off_longer(frame, partition);
        if self.cursors.get(partition).is_some_and(|c| c.lasting.failures() >= TRIES_MAX) {
            self.say(partition, ProblemKind::Protocol, code, format!("{what}; trying again"));
        }
    }

    fn handle_broken(&mut self, frame: &mut Frame<'_>, partition: &TopicPartition, what: &str) {
        let may_refetch = self.cursors.get_mut(partition).is_some_and(Cursor::may_refetch);
        if may_refetch {
            tracing::debug!(%partition, broker = frame.broker.0, what, "fetching once more");
            self.put_off(frame, partition);
            self.shun_replicas(frame.now, partition, "its bytes are broken");
        } else {
            self.stop(partition, ProblemKind::Corrupt, format!("{what}, also when fetched a second time"));
        }
    }

    /// Asks for more: not one batch was whole. Nothing is ever skipped.
    fn grow(&mut self, frame: &mut Frame<'_>, asked: &Asked, needed: usize) {
        let max = self.grown_max();
        let partition = &asked.partition;
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let size = usize::try_from(asked.max_bytes).unwrap_or(0);
        cursor.grown = Some(size.saturating_mul(2).clamp(1, max).max(cursor.grown.unwrap_or(0)));
        self.put_off_longer(frame, partition);
        // The budget may be too busy to ever give as much as would show that even all of it is not enough.
        let is_hopeless = self.cursors.get(partition).is_some_and(|c| c.lasting.failures() >= GROWTHS_MAX);
        if size >= max || is_hopeless {
            let what = format!("the next batch needs {needed} bytes, and the fetch budget is {max}; raise it");
            self.say(partition, ProblemKind::Corrupt, None, what);
        }
    }

    fn handle_out_of_range(&mut self, frame: &mut Frame<'_>, partition: &TopicPartition) {
        let is_leader = frame.view.partition(partition).is_some_and(|known| known.leader == Some(frame.broker));
        if !is_leader && !planted!(BelieveAnyoneOutOfRange) {
            self.put_off(frame, partition);
            return self.refresh(format!("broker {} may not lead {partition} any more", frame.broker.0));
        }
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let (handle, position) = (cursor.handle.clone(), cursor.position);
        cursor.suspend();
        self.events.push_back(FetchEvent::OutOfRange { handle, position });
    }

    /// Passes on which newer leader an answer names, if it names one; also of a partition that is not read any more: it may be again, from
    /// the former leader.
    fn hint(&mut self, frame: &Frame<'_>, partition: &TopicPartition, current_leader: Option<(BrokerId, LeaderEpoch)>) {
        let Some((leader, epoch)) = current_leader else { return };
        if self.cursors.get(partition).is_none_or(|c| c.leader_epoch.is_none_or(|known| epoch > known)) {
            let (partition, brokers) = (partition.clone(), frame.brokers.to_vec());
            self.events.push_back(FetchEvent::LeaderHint { partition, leader, epoch, brokers });
        }
    }

    fn set_suspect(&mut self, partition: &TopicPartition, suspect: bool) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        if cursor.suspect != suspect {
            cursor.suspect = suspect;
            self.events.push_back(FetchEvent::Suspect { handle: cursor.handle.clone(), suspect });
        }
    }

    fn put_off(&mut self, frame: &Frame<'_>, partition: &TopicPartition) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        cursor.retry_at = Some(self.pace.after(frame.now, cursor.backoff.fail(&mut frame.rng.clone())));
    }

    /// For what may last: the waits grow longer.
    fn put_off_longer(&mut self, frame: &Frame<'_>, partition: &TopicPartition) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        cursor.retry_at = Some(self.pace.after(frame.now, cursor.lasting.fail(&mut frame.rng.clone())));
    }

    /// A code against the whole Fetch.
    fn handle_error(&mut self, now: Instant, broker: BrokerId, code: ErrorCode) {
        self.back_off(now, broker);
        let what = format!("cannot fetch from broker {}: {code}", broker.0);
        match errors::fetch(code) {
            Verdict::Suspect | Verdict::Refresh => self.refresh(what),
            Verdict::Incompatible => {
                self.leave_alone(now, broker, LASTING_RETRY_MAX);
                self.say_of_node(broker, ProblemKind::Incompatible, Some(code), format!("{what}; upgrade it"));
            }
            Verdict::Retry => {}
            _ => {
                if self.nodes.get(&broker).is_some_and(|node| node.backoff.failures() >= TRIES_MAX) {
                    self.say_of_node(broker, ProblemKind::Protocol, Some(code), format!("{what}; trying again"));
                }
            }
        }
    }

    fn back_off(&mut self, now: Instant, broker: BrokerId) {
        let Some(wait) = self.nodes.get_mut(&broker).map(|node| node.backoff.fail(&mut self.rng)) else { return };
        self.leave_alone(now, broker, wait);
    }

    fn leave_alone(&mut self, now: Instant, broker: BrokerId, wait: Duration) {
        let retry_at = self.pace.after(now, wait);
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.retry_at = Some(retry_at);
        }
    }

    /// Tells the user about a partition, once until it is over or something else is wrong.
    pub(super) fn say(&mut self, partition: &TopicPartition, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        if cursor.said.replace(kind) != Some(kind) {
            let what = format!("cannot read {partition} at offset {}: {what}", cursor.position.offset.0);
            let partition = Some(partition.clone());
            self.events.push_back(FetchEvent::Problem(Problem { kind, partition, code, what, fatal: false }));
        }
    }

    fn say_of_node(&mut self, broker: BrokerId, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        let Some(node) = self.nodes.get_mut(&broker) else { return };
        if node.said.replace(kind) != Some(kind) {
            self.events.push_back(FetchEvent::Problem(Problem { kind, partition: None, code, what, fatal: false }));
        }
    }
}

/// What was asked for and is not answered yet, by either way an answer may name it.
struct Questions<'a> {
    by_name: BTreeMap<(&'a str, i32), &'a Asked>,
    by_id: BTreeMap<(TopicId, i32), &'a Asked>,
}

impl<'a> Questions<'a> {
    fn new(asked: &'a [Asked]) -> Self {
        let number = |asked: &Asked| asked.partition.partition();
        Self {
            by_name: asked.iter().map(|a| ((a.partition.topic(), number(a)), a)).collect(),
            by_id: asked.iter().filter_map(|a| Some(((a.topic_id?, number(a)), a))).collect(),
        }
    }

    fn take(&mut self, topic: &TopicRef, partition: i32) -> Option<&'a Asked> {
        let asked = match topic {
            TopicRef::Name(name) => *self.by_name.get(&(&**name, partition))?,
            TopicRef::Id(id) => *self.by_id.get(&(*id, partition))?,
        };
        self.by_name.remove(&(asked.partition.topic(), partition))?;
        if let Some(id) = asked.topic_id {
            self.by_id.remove(&(id, partition));
        }
        Some(asked)
    }
}
