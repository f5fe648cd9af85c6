//! Who is asked for what: one Fetch per broker, within one budget of bytes for all.
//!
//! A request reserves what it may bring; a chunk holds what it brought, until the user's side takes it. The budget is shared out so that
//! no partition whose records nobody takes can starve another: with `n` partitions each may reserve and hold one n-th, half of it asked
//! for at a time. Only what a broker cannot send smaller (one batch, at least) goes beyond.

use std::{collections::BTreeMap, time::Instant};

use super::{Asked, Call, Fetcher, cursor::Cursor};
use crate::{
    model::BrokerId,
    proto::{Ask, Owner, PartitionHandle, Target, invariant},
    wire::{FetchPartition, FetchRequest, Request},
};

/// The least worth asking for. With more partitions than the budget has such pieces, they take turns.
const ASK_MIN: usize = 16 * 1024;

pub(super) enum Plan {
    Ask(Ask),
    Nothing,
    /// Something could be asked for, had the budget room for it.
    NoRoom,
}

/// The bytes that are on their way or not yet taken.
#[derive(Default)]
pub(super) struct Budget {
    reserved: usize,
    held: usize,
    /// By handle, not by partition: what an older assignment still holds is not the new one's.
    untaken: BTreeMap<PartitionHandle, usize>,
}

impl Budget {
    pub(super) fn free(&self, bytes_max: usize) -> usize {
        bytes_max.saturating_sub(self.reserved.saturating_add(self.held))
    }

    fn reserve(&mut self, bytes: usize) {
        self.reserved += bytes;
    }

    pub(super) fn release(&mut self, bytes: usize) {
        if invariant!(bytes <= self.reserved, "more bytes come back than were reserved") {
            self.reserved -= bytes;
        }
    }

    pub(super) fn hold(&mut self, handle: &PartitionHandle, bytes: usize) {
        self.held += bytes;
        *self.untaken.entry(handle.clone()).or_default() += bytes;
    }

    pub(super) fn take(&mut self, handle: &PartitionHandle, bytes: usize) {
        let Some(untaken) = self.untaken.get_mut(handle) else { return };
        let bytes = bytes.min(*untaken);
        *untaken -= bytes;
        self.held -= bytes;
        if *untaken == 0 {
            self.untaken.remove(handle);
        }
    }

    fn untaken(&self, handle: &PartitionHandle) -> usize {
        self.untaken.get(handle).copied().unwrap_or(0)
    }
}

/// One partition's share of the budget.
#[derive(Clone, Copy)]
struct Share {
    /// What is asked for at a time.
    ask: usize,
    /// With so much untaken it is full, and not asked for.
    full: usize,
}

impl Fetcher {
    pub(super) fn plan(&mut self, now: Instant, broker: BrokerId) -> Plan {
        let Some(node) = self.nodes.get(&broker) else { return Plan::Nothing };
        let share = self.share();
        let mut wait = self.config.max_wait;
        let mut wanted: Vec<&Cursor> = Vec::new();
        for cursor in node.cursors.iter().filter_map(|p| self.cursors.get(p)).filter(|c| c.is_wanted()) {
            if self.budget.untaken(&cursor.handle) >= share.full {
                // The user may take it any moment: a caught-up partition's long wait must not hold it up.
                wait = wait.min(self.short_wait());
            } else if let Some(retry_at) = cursor.retry_at.filter(|&at| at > now) {
                wait = wait.min((retry_at - now).max(self.short_wait()));
            } else {
                wanted.push(cursor);
            }
        }
        if wanted.is_empty() {
            return Plan::Nothing;
        }
        wanted.sort_by_key(|cursor| cursor.turn);

        let free = self.budget.free(self.config.bytes_max);
        if free < share.ask {
            return Plan::NoRoom;
        }
        let size = |cursor: &Cursor| cursor.grown.unwrap_or(share.ask);
        let sum = wanted.iter().fold(0usize, |sum, cursor| sum.saturating_add(size(cursor)));
        let max_bytes = i32::try_from(sum.min(free)).unwrap_or(i32::MAX);
        let partition = |cursor: &&Cursor| FetchPartition {
            partition: cursor.handle.partition.clone(),
            topic_id: cursor.topic_id,
            current_leader_epoch: cursor.leader_epoch,
            offset: cursor.position.offset,
            last_fetched_epoch: cursor.position.leader_epoch,
            max_bytes: i32::try_from(size(cursor)).unwrap_or(i32::MAX).min(max_bytes),
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.min_bytes,
            max_bytes,
            isolation: self.config.isolation,
            rack: self.config.rack.clone(),
            partitions: wanted.iter().map(partition).collect(),
        };
        let asked = |p: &FetchPartition| Asked { partition: p.partition.clone(), topic_id: p.topic_id, max_bytes: p.max_bytes };
        let reserved = usize::try_from(max_bytes).expect("the sum of sizes is not negative");
        let call = Call { broker, reserved, asked_at: now, wait, partitions: request.partitions.iter().map(asked).collect() };
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
            (node.in_flight, node.last_asked) = (Some(number), number);
        }
        self.budget.reserve(call.reserved);
        let ask = Ask {
            owner: Owner::Fetch(number),
            to: Target::Fetch(call.broker),
            request: Request::Fetch(request),
            timeout: self.config.request_timeout.saturating_add(call.wait),
        };
        self.calls.insert(number, call);
        ask
    }

    fn share(&self) -> Share {
        let (bytes_max, partition_max) = (self.config.bytes_max.max(1), self.partition_bytes_max());
        let half = bytes_max / self.cursors.len().max(1) / 2;
        let ask = half.max(ASK_MIN).min(partition_max).min(bytes_max);
        Share { ask, full: half.clamp(1, partition_max.saturating_mul(2)) }
    }

    fn partition_bytes_max(&self) -> usize {
        usize::try_from(self.config.partition_bytes_max).unwrap_or(0).max(1)
    }

    /// What a batch may at most need.
    pub(super) fn grown_max(&self) -> usize {
        self.config.bytes_max.clamp(1, i32::MAX as usize)
    }

    fn short_wait(&self) -> std::time::Duration {
        super::SHORT_WAIT.min(self.config.max_wait)
    }
}
