//! The bytes that are on their way or not yet taken, and how they are shared out.
//!
//! A request reserves what it may bring; a chunk holds what it brought, until the user's side takes it. No partition whose records nobody
//! takes can starve another. With few partitions each may reserve and hold its part of all there is, half of it asked for at a time. With
//! many, such parts would be less than is worth asking for: so one half of the budget is for whoever comes first, in pieces as large as
//! those of few, and when that is used up, the other half has a part for each. Only what a broker cannot send smaller (one batch, at
//! least) goes beyond.

use std::collections::BTreeMap;

use super::FetchConfig;
use crate::proto::{PartitionHandle, invariant};

/// With more partitions, parts of the whole become small.
const FEW: usize = 8;
/// The least worth asking for. With more partitions than the budget has such pieces, they take turns.
const ASK_MIN: usize = 16 * 1024;

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

    pub(super) fn reserve(&mut self, bytes: usize) {
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

    pub(super) fn untaken(&self, handle: &PartitionHandle) -> usize {
        self.untaken.get(handle).copied().unwrap_or(0)
    }

    /// Says what each of so many partitions may have now.
    pub(super) fn share(&self, config: &FetchConfig, partitions: usize) -> Share {
        let bytes_max = config.bytes_max.max(1);
        let partition_max = usize::try_from(config.partition_bytes_max).unwrap_or(0).max(1);
        let share = |part: usize, room| Share {
            ask: part.max(ASK_MIN).min(partition_max).min(bytes_max),
            full: part.clamp(1, partition_max.saturating_mul(2)),
            room,
        };
        let free = self.free(bytes_max);
        if partitions <= FEW {
            return share(bytes_max / partitions.max(1) / 2, free);
        }
        let first_come = share(bytes_max / FEW / 2, free.saturating_sub(bytes_max / 2));
        if first_come.ask <= first_come.room { first_come } else { share(bytes_max / partitions / 4, free) }
    }
}

/// What one partition may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// What is asked for at a time.
    pub(super) ask: usize,
    /// With so much untaken it is full, and not asked for.
    pub(super) full: usize,
    /// What one request may ask for, all its partitions together.
    pub(super) room: usize,
}
