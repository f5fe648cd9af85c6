//! At most once: how much is committed ahead of being handed out.
//!
//! Each commit costs a round trip, so records are released in blocks; a crash loses what was released and not yet processed, so the
//! blocks are no larger than the user's pace calls for. A block doubles while the user asks again before the next tick, and at each
//! tick shrinks to a fraction of what was used since the last. Any offset may end a block, whether or not a record has that offset.

use crate::model::{LeaderEpoch, Offset, Position};

/// The first block, and the smallest.
const RECORDS_MIN: i64 = 16;
/// No block is larger, however fast the user is.
const RECORDS_MAX: i64 = 1 << 17;
/// After a tick a block holds this part of what was used in the last interval.
const PART_OF_INTERVAL: i64 = 32;

pub(crate) struct ReleaseWindow {
    /// Records below it may be handed out: the broker acknowledged a commit of at least this offset.
    released: Offset,
    /// A commit of this offset has been asked for.
    demanded: Offset,
    demanded_epoch: Option<LeaderEpoch>,
    block: i64,
    used_since_tick: i64,
}

impl ReleaseWindow {
    pub(crate) fn new(start: Offset) -> Self {
        Self { released: start, demanded: start, demanded_epoch: None, block: RECORDS_MIN, used_since_tick: 0 }
    }

    pub(crate) fn released(&self) -> Offset {
        self.released
    }

    /// The next record is `next`, and records are at hand up to `end`: what to commit so that some can be handed out. `None` while an
    /// earlier demand is still unanswered.
    pub(crate) fn demand(&mut self, next: Offset, end: Position) -> Option<Position> {
        if self.demanded > self.released {
            return None;
        }
        let until = next.0.saturating_add(self.block).min(end.offset.0);
        if until <= self.released.0 {
            return None;
        }
        self.used_since_tick += until - next.0;
        self.block = (self.block * 2).min(RECORDS_MAX);
        self.demanded = Offset(until);
        if planted!(ReleaseBeforeCommit) {
            self.released = self.demanded;
        }
        // The leader epoch belongs to the last record before the position; within a run the epoch of its end may be a newer one.
        let leader_epoch = end.leader_epoch.filter(|_| until == end.offset.0);
        self.demanded_epoch = leader_epoch;
        Some(Position { offset: Offset(until), leader_epoch })
    }

    /// What was demanded and is not acknowledged yet.
    pub(crate) fn unanswered(&self) -> Option<Position> {
        (self.demanded > self.released).then_some(Position { offset: self.demanded, leader_epoch: self.demanded_epoch })
    }

    pub(crate) fn committed(&mut self, offset: Offset) {
        self.released = self.released.max(offset.min(self.demanded));
    }

    /// The commit interval has passed.
    pub(crate) fn tick(&mut self) {
        self.block = (self.used_since_tick / PART_OF_INTERVAL).clamp(RECORDS_MIN, self.block.max(RECORDS_MIN));
        self.used_since_tick = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(offset: i64) -> Position {
        Position { offset: Offset(offset), leader_epoch: None }
    }

    #[test]
    fn nothing_is_released_before_its_commit_was_acknowledged() {
        let mut window = ReleaseWindow::new(Offset(100));
        let demanded = window.demand(Offset(100), end(1000)).expect("a first block");
        assert_eq!(window.released(), Offset(100));
        assert_eq!(window.demand(Offset(100), end(1000)), None, "one demand at a time");
        window.committed(Offset(100 + RECORDS_MIN - 1));
        assert_eq!(window.released(), Offset(100 + RECORDS_MIN - 1), "exactly what was acknowledged");
        window.committed(demanded.offset);
        assert_eq!(window.released(), demanded.offset);
    }

    #[test]
    fn blocks_grow_with_a_fast_user_and_shrink_with_a_slow_one() {
        let mut window = ReleaseWindow::new(Offset(0));
        for _ in 0..20 {
            let until = window.demand(window.released(), end(i64::MAX)).expect("answered").offset;
            window.committed(until);
        }
        assert_eq!(window.block, RECORDS_MAX);
        window.tick();
        window.tick();
        assert_eq!(window.block, RECORDS_MIN, "nothing was used in the last interval");
    }

    #[test]
    fn a_commit_from_before_a_seek_releases_nothing_beyond_what_was_asked() {
        let mut window = ReleaseWindow::new(Offset(5));
        window.committed(Offset(50));
        assert_eq!(window.released(), Offset(5));
    }
}
