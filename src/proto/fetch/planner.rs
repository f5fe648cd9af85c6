//! Who is asked for what, over which line: one Fetch on each, within one budget of bytes for all.

use std::time::{Duration, Instant};

use super::{Asked, Call, Fetcher, cursor::Cursor, node::WAITING};
use crate::{
    model::BrokerId,
    proto::{Ask, Owner, Target},
    wire::{FetchPartition, FetchRequest, FetchSession, Request},
};

/// What one request asks for at most, unless a single batch needs more. What came in larger answers has left the processor's cache before
/// anybody looks at it, and of what lies there unread, only as much is named in a request as it can bring.
const ASK_MAX: usize = 4 * 1024 * 1024;
/// How long a broker may wait for records when another partition there may be asked for any moment.
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// What it may wait longer for each partition that has to be named again afterwards.
const SHORT_WAIT_EACH: Duration = Duration::from_micros(100);

pub(super) enum Plan {
    Ask(Ask),
    Nothing,
    /// Something could be asked for, had the budget room for it.
    NoRoom,
}

impl Fetcher {
    pub(super) fn plan(&mut self, now: Instant, broker: BrokerId, lines_each: usize) -> Plan {
        let Some(node) = self.nodes.get_mut(&broker) else { return Plan::Nothing };
        let share = self.budget.share(&self.config, self.cursors.len());
        let short_wait = SHORT_WAIT.min(self.config.max_wait);
        let mut wait = self.config.max_wait;
        // What has nothing to read, as far as is known; what has; and how many of the latter are asked for already.
        let (mut quiet, mut behind, mut reading): (Vec<&Cursor>, Vec<&Cursor>, usize) = (Vec::new(), Vec::new(), 0);
        for cursor in node.cursors.iter().filter_map(|partition| self.cursors.get(partition)) {
            if !cursor.is_wanted() {
                reading += usize::from(cursor.is_behind && cursor.asked.is_some());
            } else if self.budget.untaken(&cursor.handle) >= share.full {
                // The user may take it any moment: a caught-up partition's long wait must not hold it up.
                wait = wait.min(short_wait);
                self.lacks_room = true;
            } else if let Some(retry_at) = cursor.retry_at.filter(|&at| at > now) {
                wait = wait.min((retry_at - now).max(short_wait));
            } else if cursor.is_behind {
                behind.push(cursor);
            } else {
                quiet.push(cursor);
            }
        }
        let all_behind = behind.len() + reading;
        let is_caught_up = all_behind == 0;
        if is_caught_up {
            node.handle_caught_up();
        }
        let mut lines = node.reading_lines(now, lines_each);
        if lines.len() == 1 && node.may_read_on_first(quiet.len(), all_behind) {
            lines = 0..0;
        }
        let behind_max = all_behind.div_ceil(lines.len().max(1));
        let reading_line = node.idle_line(now, lines.clone()).filter(|_| !behind.is_empty());
        let Some(line) = reading_line.or_else(|| node.idle_line(now, WAITING..WAITING + 1)) else { return Plan::Nothing };
        let mut wanted = if line != WAITING {
            // They have something; should that be wrong, it must not hold up the others.
            wait = short_wait;
            behind
        } else {
            if lines.is_empty() {
                quiet.append(&mut behind);
            } else if !is_caught_up {
                // What catches up has to wait for this answer before it is asked for again.
                let for_each = SHORT_WAIT_EACH.saturating_mul(u32::try_from(quiet.len()).unwrap_or(u32::MAX));
                wait = wait.min(short_wait.max(for_each));
            }
            quiet
        };
        wanted.sort_by_key(|cursor| cursor.turn);
        let Some(first) = wanted.first() else { return Plan::Nothing };
        if share.room < share.ask {
            self.lacks_room = true;
            return Plan::NoRoom;
        }

        let size = |cursor: &Cursor| cursor.grown.unwrap_or(share.ask);
        // A batch that needs more than usual may have whatever is free.
        let room = if first.grown.is_some() { self.budget.free(self.config.bytes_max) } else { share.room };
        let bytes_max = room.min(ASK_MAX.max(size(first)));
        // What is quiet hardly uses the room that it might: it is named in any case, and takes none away from what is behind.
        let (mut named, mut bytes) = (0, 0);
        wanted.retain(|cursor| {
            let is_named = !cursor.is_behind || (named < behind_max && bytes < bytes_max);
            if is_named && cursor.is_behind {
                (named, bytes) = (named + 1, bytes + size(cursor));
            }
            is_named
        });
        let sum = wanted.iter().fold(0_usize, |sum, cursor| sum.saturating_add(size(cursor)));
        let max_bytes = i32::try_from(sum.min(bytes_max)).unwrap_or(i32::MAX);
        let partition = |cursor: &&Cursor| FetchPartition {
            partition: cursor.handle.partition.clone(),
            topic_id: cursor.topic_id,
            current_leader_epoch: cursor.leader_epoch,
            offset: cursor.position.offset,
            last_fetched_epoch: cursor.position.leader_epoch,
            max_bytes: i32::try_from(size(cursor)).unwrap_or(i32::MAX).min(max_bytes),
        };
        // Said to the leader of one that is to stay there, it would be of no use for the others either.
        let rack = self.config.rack.clone().filter(|_| wanted.iter().all(|cursor| cursor.may_go_to_replica(now)));
        let partitions: Vec<_> = wanted.iter().map(partition).collect();
        let asked = |p: &FetchPartition| Asked { partition: p.partition.clone(), topic_id: p.topic_id, max_bytes: p.max_bytes };
        let reserved = usize::try_from(max_bytes).expect("the sum of sizes is not negative");
        // What is read as fast as it comes is named anew in each request anyway, and in the order in which it waited.
        let in_session = line == WAITING && wanted.iter().all(|cursor| !cursor.is_behind && cursor.grown.is_none());
        let call =
            Call { broker, line, reserved, in_session, asked_at: now, wait, partitions: partitions.iter().map(asked).collect() };
        let by_topic_id = partitions.iter().all(|partition| partition.topic_id.is_some());
        let (session, partitions) = if in_session {
            let assignments = wanted.iter().map(|cursor| cursor.handle.assignment);
            node.session.ask(assignments.zip(partitions).collect(), by_topic_id)
        } else {
            (FetchSession::NONE, partitions)
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.min_bytes,
            max_bytes,
            isolation: self.config.isolation,
            rack,
            session,
            by_topic_id,
            partitions,
        };
        Plan::Ask(self.send(call, request))
    }

    fn send(&mut self, call: Call, request: FetchRequest) -> Ask {
        let number = self.next_call;
        self.next_call += 1;
        for asked in &call.partitions {
            if let Some(cursor) = self.cursors.get_mut(&asked.partition) {
                (cursor.asked, cursor.retry_at) = (Some(number), None);
            }
        }
        if let Some(node) = self.nodes.get_mut(&call.broker) {
            node.handle_asked(call.line, number, call.in_session);
        }
        self.budget.reserve(call.reserved);
        let ask = Ask {
            owner: Owner::Fetch(number),
            to: Target::Fetch(call.broker, call.line),
            request: Request::Fetch(request),
            timeout: self.config.request_timeout.saturating_add(call.wait),
        };
        self.calls.insert(number, call);
        ask
    }

    /// What a batch may at most need.
    pub(super) fn grown_max(&self) -> usize {
        self.config.bytes_max.clamp(1, i32::MAX as usize)
    }
}
