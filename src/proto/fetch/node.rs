//! A broker that leads partitions of ours, and the lines over which it is asked.
//!
//! A broker serves one request at a time per connection, and keeps one that waits for records for as long as it may wait. So the first
//! line waits, for all that has nothing to read; while more than it can bring lies unread, further lines read that. Brokers that are read at
//! the same time share those: what more bring at once than is worked on waits here, and has left the processor's cache when its turn comes.
//! A broker for which less than two are left reads over its first line, unless that has more to wait for.

use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant},
};

use super::{FetchConfig, session::Session};
use crate::{
    model::TopicPartition,
    proto::{ProblemKind, backoff::Backoff},
};

/// The line on which a broker waits for records.
pub(super) const WAITING: usize = 0;
/// For how long one line must do after another has failed: the broker may allow no more connections, or a wall before it.
const ALONE: Duration = Duration::from_secs(300);
/// An answer that brings less than this part of what it might have brought shows that there is little to read.
const FULL_PART: usize = 4;

pub(super) struct Node {
    pub(super) cursors: BTreeSet<TopicPartition>,
    lines: Vec<Line>,
    /// Of the waiting line.
    pub(super) session: Session,
    pub(super) last_asked: u64,
    /// The broker as a whole is left alone until then.
    pub(super) retry_at: Option<Instant>,
    pub(super) backoff: Backoff,
    /// What the user was last told, so that it is said once.
    pub(super) said: Option<ProblemKind>,
    /// Whether its answers come full; nobody knows before the first one.
    is_busy: Option<bool>,
    alone_until: Option<Instant>,
}

/// At most one Fetch is on its way on each.
#[derive(Clone, Default)]
struct Line {
    is_asked: bool,
    /// What is asked for is only waited for.
    waits: bool,
    /// The broker said, or showed, that an earlier request would be in vain.
    rests_until: Option<Instant>,
}

impl Node {
    pub(super) fn new(config: &FetchConfig) -> Self {
        Self {
            cursors: BTreeSet::new(),
            lines: vec![Line::default(); 1 + config.reading_lines],
            session: Session::default(),
            last_asked: 0,
            retry_at: None,
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            said: None,
            is_busy: None,
            alone_until: None,
        }
    }

    /// Says whether it leads nothing of ours any more, and nothing is on its way.
    pub(super) fn is_done_with(&self) -> bool {
        self.cursors.is_empty() && self.lines.iter().all(|line| !line.is_asked)
    }

    /// Says whether it could be asked something.
    pub(super) fn may_be_asked(&self, now: Instant, lines_each: usize) -> bool {
        let lines = WAITING..self.reading_lines(now, lines_each).end.max(WAITING + 1);
        self.retry_at.is_none_or(|at| at <= now) && self.idle_line(now, lines).is_some()
    }

    /// Returns the first of these lines that is free.
    pub(super) fn idle_line(&self, now: Instant, lines: Range<usize>) -> Option<usize> {
        let is_idle = |&line: &usize| {
            let line = &self.lines[line];
            !line.is_asked && line.rests_until.is_none_or(|at| at <= now)
        };
        lines.into_iter().find(is_idle)
    }

    /// Says whether more lies unread there than one request brings, or may do.
    pub(super) fn may_be_busy(&self) -> bool {
        self.is_busy.unwrap_or(true) && !self.cursors.is_empty()
    }

    /// Returns the lines that could read what lies unread, of which each broker has so many just now; none, if the first one does that, too.
    pub(super) fn reading_lines(&self, now: Instant, lines_each: usize) -> Range<usize> {
        let pays = self.is_busy == Some(true) && self.cursors.len() > 1 && self.alone_until.is_none_or(|at| at <= now);
        if pays { 1..1 + lines_each } else { 0..0 }
    }

    /// Says whether the first line may read, too, where so many partitions are quiet and so many are not: the former are named each time.
    pub(super) fn may_read_on_first(&self, quiet: usize, behind: usize) -> bool {
        let first = &self.lines[WAITING];
        quiet <= behind && !(first.is_asked && first.waits)
    }

    pub(super) fn handle_asked(&mut self, line: usize, call: u64, waits: bool) {
        (self.lines[line].is_asked, self.lines[line].waits) = (true, waits);
        self.last_asked = call;
    }

    /// An answer came, or none will.
    pub(super) fn handle_answered(&mut self, line: usize) {
        self.lines[line].is_asked = false;
        self.is_busy.get_or_insert(false);
    }

    /// Takes note of how much a good answer brought of what it might have.
    pub(super) fn handle_brought(&mut self, line: usize, bytes: usize, bytes_max: usize, rests_until: Option<Instant>) {
        self.lines[line].rests_until = rests_until;
        if bytes.saturating_mul(FULL_PART) >= bytes_max {
            self.is_busy = Some(true);
        }
        self.backoff.reset();
        (self.retry_at, self.said) = (None, None);
    }

    /// Nothing lies unread: the waiting line can do alone what comes next.
    pub(super) fn handle_caught_up(&mut self) {
        self.is_busy = self.is_busy.map(|_| false);
    }

    /// A line has failed.
    pub(super) fn handle_lost(&mut self, now: Instant, line: usize) {
        if line != WAITING {
            self.alone_until = Some(now + ALONE);
        }
    }

    /// Lets what waited until now go on.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.retry_at = self.retry_at.filter(|&at| at > now);
        for line in &mut self.lines {
            line.rests_until = line.rests_until.filter(|&at| at > now);
        }
    }

    /// Returns when it may be asked again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let idle = self.lines.iter().filter(|line| !line.is_asked);
        idle.map(|line| line.rests_until).filter_map(|rests| rests.max(self.retry_at)).min()
    }
}
