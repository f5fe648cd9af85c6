//! What the inbox keeps for one partition.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use super::{acks::Assigned, inbox::Mode, release::ReleaseWindow};
use crate::{
    model::{Offset, Position},
    proto::{PartitionHandle, message::Watermarks},
    records::Chunk,
};

/// What belongs to one partition.
pub(super) struct Lane {
    pub(super) assigned: Arc<Assigned>,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) paused: bool,
    pub(super) started: bool,
    pub(super) revoking: bool,
    /// It waits for a stream of its own: it is among those that `poll_claim` answers.
    pub(super) unclaimed: bool,
    /// The user says where it begins, and what claims it now goes on with it then.
    pub(super) unplaced: bool,
    /// At most once: how far records may be handed out.
    pub(super) release: ReleaseWindow,
    pub(super) watermarks: Option<Watermarks>,
    pub(super) committed: Option<Position>,
    /// The next record to hand out, as far as whole chunks tell.
    pub(super) position: Option<Offset>,
    /// A batch could not be read: whatever comes next must begin there.
    pub(super) resume_at: Option<Offset>,
    pub(super) waiting: Option<Waker>,
    /// Held by the partition's own stream: while it lives, something of the partition is in work.
    pub(super) claim: Arc<()>,
}

/// A partition that is to have a stream of its own, and what that stream holds while it lives.
pub(super) type Claim = (PartitionHandle, Arc<()>);

impl Lane {
    pub(super) fn is(&self, handle: &PartitionHandle) -> bool {
        self.assigned.handle() == handle
    }

    pub(super) fn take(&mut self) -> Option<(Arc<Assigned>, Chunk)> {
        if self.paused || self.assigned.is_fenced() {
            return None;
        }
        let chunk = self.chunks.pop_front()?;
        self.position = Some(chunk.next_offset);
        Some((Arc::clone(&self.assigned), chunk))
    }

    /// At most once: what to commit so that records which are still to be taken can be handed out without waiting.
    pub(super) fn demand_ahead(&mut self, left: &mut i64) -> Option<(PartitionHandle, Position)> {
        if self.paused || self.revoking || self.assigned.is_fenced() {
            return None;
        }
        let chunk = self.chunks.front()?;
        let next = self.release.released().max(chunk.from);
        let position = self.release.demand(next, chunk.end(), left)?;
        Some((self.assigned.handle().clone(), position))
    }

    pub(super) fn finished(&self, mode: Mode) -> Position {
        if planted!(CommitFetchPosition)
            && let Some(newest) = self.chunks.back()
        {
            return Position { offset: newest.next_offset, leader_epoch: None };
        }
        match mode {
            // Here the commit comes first and is asked for by `Command::Release`; nothing is finished behind it.
            Mode::AtMostOnce | Mode::Manual => Position { offset: Offset(i64::MIN), leader_epoch: None },
            Mode::AtLeastOnce => self.assigned.watermark(),
        }
    }

    pub(super) fn is_in_work(&self) -> bool {
        self.assigned.live_runs() > 0 || Arc::strong_count(&self.claim) > 1
    }
}
