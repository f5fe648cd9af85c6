//! At most once: how much is committed ahead of being handed out.
//!
//! Each commit costs a round trip, so records are released in blocks; a crash loses what was released and not yet processed, so the
//! blocks are no larger than the user's pace calls for. A block doubles while the user asks again before the next tick, and at each
//! tick shrinks to a fraction of what was used since the last. Any offset may end a block, whether or not a record has that offset.
//!
//! A block is shared by the partitions whose turn is next: with a thousand of them, each with a handful of records, one commit releases all
//! of these.

use crate::model::{LeaderEpoch, Offset, Position};

/// The first block, and the smallest.
const RECORDS_MIN: i64 = 16;
/// No block is larger, however fast the user is.
const RECORDS_MAX: i64 = 1 << 17;
/// After a tick a block holds this part of what was used in the last interval.
const PART_OF_INTERVAL: i64 = 32;

/// How large a block may be.
pub(crate) struct ReleasePace {
    block: i64,
    used_since_tick: i64,
}

/// How far the records of one partition may be handed out.
pub(crate) struct ReleaseWindow {
    /// Records below it may be handed out: the broker acknowledged a commit of at least this offset.
    released: Offset,
    /// A commit of this offset has been asked for.
    demanded: Offset,
    demanded_epoch: Option<LeaderEpoch>,
}

impl ReleasePace {
    pub(crate) fn new() -> Self {
        Self { block: RECORDS_MIN, used_since_tick: 0 }
    }

    /// The user wants more than was released: so many records may be released next.
    pub(crate) fn next_block(&mut self) -> i64 {
        let block = self.block;
        self.block = (block * 2).min(RECORDS_MAX);
        block
    }

    /// So many of them are to be released.
    pub(crate) fn used(&mut self, records: i64) {
        self.used_since_tick += records;
    }

    /// The commit interval has passed.
    pub(crate) fn tick(&mut self) {
        self.block = (self.used_since_tick / PART_OF_INTERVAL).clamp(RECORDS_MIN, self.block.max(RECORDS_MIN));
        self.used_since_tick = 0;
    }
}

impl ReleaseWindow {
    pub(crate) fn new(start: Offset) -> Self {
        Self { released: start, demanded: start, demanded_epoch: None }
    }

    pub(crate) fn released(&self) -> Offset {
        self.released
    }

    /// The next record is `next`, and records are at hand up to `end`: what to commit so that some can be handed out, with no more than
    /// is `left` of a block. `None` also while an earlier demand is still unanswered.
    pub(crate) fn demand(&mut self, next: Offset, end: Position, left: &mut i64) -> Option<Position> {
        if self.demanded > self.released {
            return None;
        }
        let until = next.0.saturating_add(*left).min(end.offset.0);
        if until <= self.released.0 || until <= next.0 {
            return None;
        }
        *left -= until - next.0;
        self.demanded = Offset(until);
        if planted!(ReleaseBeforeCommit) {
            self.released = self.demanded;
        }
        // The leader epoch belongs to the last record before the position; before the end it may be an older one.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(offset: i64) -> Position {
        Position { offset: Offset(offset), leader_epoch: Some(LeaderEpoch(3)) }
    }

    #[test]
    fn nothing_is_released_before_its_commit_was_acknowledged() {
        let mut window = ReleaseWindow::new(Offset(100));
        let mut left = 16;
        let demanded = window.demand(Offset(100), end(1000), &mut left).expect("a first block");
        assert_eq!((demanded, left), (Position { offset: Offset(116), leader_epoch: None }, 0));
        assert_eq!(window.released(), Offset(100));
        assert_eq!(window.demand(Offset(100), end(1000), &mut 16), None, "one demand at a time");
        window.committed(Offset(115));
        assert_eq!(window.released(), Offset(115), "exactly what was acknowledged");
        window.committed(demanded.offset);
        assert_eq!((window.released(), window.unanswered()), (Offset(116), None));
    }

    #[test]
    fn a_block_is_shared_and_what_ends_at_the_end_names_its_epoch() {
        let mut left = 16;
        let first = ReleaseWindow::new(Offset(0)).demand(Offset(0), end(10), &mut left);
        assert_eq!((first, left), (Some(end(10)), 6));
        let second = ReleaseWindow::new(Offset(50)).demand(Offset(50), end(1000), &mut left);
        assert_eq!((second.map(|position| position.offset), left), (Some(Offset(56)), 0));
        assert_eq!(ReleaseWindow::new(Offset(7)).demand(Offset(7), end(9), &mut left), None, "nothing is left");
    }

    #[test]
    fn blocks_grow_with_a_fast_user_and_shrink_with_a_slow_one() {
        let mut pace = ReleasePace::new();
        for _ in 0..20 {
            let block = pace.next_block();
            pace.used(block);
        }
        assert_eq!(pace.next_block(), RECORDS_MAX);
        pace.tick();
        pace.tick();
        assert_eq!(pace.next_block(), RECORDS_MIN, "nothing was used in the last interval");
    }

    #[test]
    fn a_commit_from_before_a_seek_releases_nothing_beyond_what_was_asked() {
        let mut window = ReleaseWindow::new(Offset(5));
        window.committed(Offset(50));
        assert_eq!(window.released(), Offset(5));
    }
}
