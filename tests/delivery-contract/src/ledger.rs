//! What happened to one partition.

use std::{collections::BTreeMap, fmt, ops::Range};

use crate::{Checker, Member, Mode, contract::Report, ranges::Ranges};

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    log: Log,
    holders: BTreeMap<Member, Holding>,
    handed_out: Ranges,
    /// At most once, these may come again all the same: somebody sought them.
    may_repeat: Ranges,
    /// The highest offset handed out since the last seek; and what it was when the committed offset was asked for.
    handed_out_top: Option<i64>,
    top_when_asked: Option<i64>,
    acked: Ranges,
    /// The highest commit of which each member has heard that it is stored.
    acknowledged: BTreeMap<Member, i64>,
    committed: Option<i64>,
    /// How often the committed offset may still go back.
    ways_back: u32,
    /// Up to here commits were judged already.
    judged_below: i64,
    /// What a commit passed though nobody had acked it, and what an assignment stepped over: nothing that is to be seen, as far as is known.
    passed: Ranges,
    stepped_over: Ranges,
}

/// What is known to be in the log.
#[derive(Clone, Debug, Default)]
struct Log {
    start: i64,
    visible: Ranges,
    invisible: Ranges,
    /// Nobody need read these: they were deleted, or somebody sought what lies behind them.
    excused: Ranges,
    /// Here was something else before the log was cut: whoever speaks of these offsets may mean that.
    ambiguous: Ranges,
}

/// A partition in the hands of a member, as far as the member knows.
#[derive(Clone, Debug)]
struct Holding {
    generation: i32,
    revoking: bool,
    last: Option<i64>,
    /// Where it was sought to, until it knows the epoch there. Without that nobody can see that the log was cut below and has grown again:
    /// reading goes on there, as was asked for.
    sought: Option<i64>,
    /// What is handed out and not acked, with the attempt.
    open: BTreeMap<i64, u32>,
}

enum Step {
    /// With what was stepped over.
    Forward(Range<i64>),
    Again,
    /// The offset that it should have followed.
    Back(i64),
}

// ---------------------------------------------------------------- the log

impl Ledger {
    pub(crate) fn visible(&mut self, offset: i64, report: &mut Report<'_>) {
        if offset < self.log.start || !self.log.visible.insert(offset) {
            return;
        }
        self.log.invisible.remove_all(offset..offset + 1);
        let judged = [&self.log.excused, &self.log.ambiguous].iter().all(|except| !except.contains(offset));
        if judged && self.passed.contains(offset) {
            report.say(Checker::CommittedUnfinished, format_args!("offset {offset} was committed, and had not been acked"));
        }
        if judged && self.stepped_over.contains(offset) {
            report.say(Checker::Skipped, format_args!("offset {offset} was stepped over"));
        }
        self.passed.remove_all(offset..offset + 1);
        self.stepped_over.remove_all(offset..offset + 1);
    }

    pub(crate) fn invisible(&mut self, offset: i64, report: &mut Report<'_>) {
        if offset < self.log.start {
            return;
        }
        if self.log.invisible.insert(offset) && self.handed_out.contains(offset) && !self.log.ambiguous.contains(offset) {
            report.say(Checker::HandedOutAborted, format_args!("offset {offset} was handed out, and nobody was to see it"));
        }
        self.passed.remove_all(offset..offset + 1);
        self.stepped_over.remove_all(offset..offset + 1);
    }

    pub(crate) fn compacted(&mut self, offset: i64) {
        self.log.visible.remove_all(offset..offset + 1);
        self.log.excused.insert(offset);
        self.passed.remove_all(offset..offset + 1);
        self.stepped_over.remove_all(offset..offset + 1);
    }

    pub(crate) fn log_starts(&mut self, offset: i64) {
        self.log.start = self.log.start.max(offset);
        for set in [&mut self.log.visible, &mut self.log.invisible, &mut self.passed, &mut self.stepped_over] {
            set.remove_all(0..offset);
        }
    }

    pub(crate) fn truncated(&mut self, end: i64) {
        let seen = [&self.log.visible, &self.log.invisible, &self.handed_out, &self.acked].into_iter().filter_map(Ranges::last);
        let seen_below = seen.max().map_or(end, |last| last + 1).max(self.committed.unwrap_or(end));
        self.log.ambiguous.insert_all(end..seen_below);
        self.may_repeat.insert_all(end..seen_below);
        let Log { visible, invisible, excused, .. } = &mut self.log;
        for set in [visible, invisible, excused, &mut self.handed_out, &mut self.acked, &mut self.passed, &mut self.stepped_over]
        {
            set.remove_all(end..i64::MAX);
        }
        self.judged_below = self.judged_below.min(end);
        // What was excused by a seek is so again if its member does go on from there: see `Holding::sought`. Whoever takes over instead, or
        // is told that the log was cut, reads what has come in its place.
        self.handed_out_top = None;
        self.top_when_asked = None;
        self.ways_back += 1;
        self.holders.values_mut().for_each(|holding| holding.cut(end));
    }

    pub(crate) fn remade(&mut self) {
        self.log.start = 0;
        self.truncated(0);
        self.committed = None;
        // In another log it was never sought.
        self.holders.values_mut().for_each(|holding| holding.sought = None);
    }
}

// ---------------------------------------------------------------- the members

impl Ledger {
    pub(crate) fn assigned(&mut self, member: Member, generation: i32, report: &mut Report<'_>) {
        let same = self.holders.iter().find(|(other, holding)| **other != member && holding.generation == generation);
        if let Some((other, _)) = same {
            let both = format_args!("members {other} and {member} in generation {generation}");
            report.say(Checker::TwoOwners, both);
        }
        match self.holders.get_mut(&member).filter(|holding| !holding.revoking) {
            Some(holding) => holding.generation = generation,
            None => drop(self.holders.insert(member, Holding::new(generation))),
        }
    }

    pub(crate) fn revoking(&mut self, member: Member) {
        if let Some(holding) = self.holders.get_mut(&member) {
            holding.revoking = true;
        }
    }

    pub(crate) fn handed_back(&self, member: Member, report: &mut Report<'_>) {
        if let Some(last) = self.left_uncommitted(member) {
            let what = format_args!("offset {last} by member {member}: {:?} is committed", self.committed);
            report.say(Checker::HandedBackUncommitted, what);
        }
    }

    /// The last record that a member with nothing in work was handed, if it is acked and not committed.
    pub(crate) fn left_uncommitted(&self, member: Member) -> Option<i64> {
        let last = self.holders.get(&member).filter(|holding| holding.open.is_empty())?.last?;
        let is_due = self.acked.contains(last) && !self.log.ambiguous.contains(last);
        (is_due && self.committed.is_none_or(|committed| committed <= last)).then_some(last)
    }

    pub(crate) fn released(&mut self, member: Member) {
        self.holders.remove(&member);
    }

    pub(crate) fn gone(&mut self, member: Member) {
        self.holders.remove(&member);
        self.acknowledged.remove(&member);
    }

    pub(crate) fn handed_out(&mut self, mode: Mode, member: Member, offset: i64, attempt: u32, report: &mut Report<'_>) {
        match self.holders.get_mut(&member) {
            None => report.say(Checker::HandedOutUnowned, format_args!("offset {offset} by member {member}")),
            Some(holding) if holding.revoking => {
                report.say(Checker::HandedOutAfterRevocation, format_args!("offset {offset} by member {member}"));
            }
            Some(holding) => {
                if let Some(to) = holding.sought.take().filter(|to| *to <= offset) {
                    self.log.excused.insert_all(0..to);
                }
                match holding.step(mode, offset, attempt) {
                    Step::Forward(gap) => self.stepped_over(member, gap, report),
                    Step::Back(last) if !self.log.ambiguous.contains(offset) => {
                        let what = format_args!("offset {offset}, attempt {attempt}, by member {member}, after {last}");
                        report.say(Checker::OutOfOrder, what);
                    }
                    Step::Again | Step::Back(_) => {}
                }
            }
        }
        if self.log.invisible.contains(offset) && !self.log.ambiguous.contains(offset) {
            report.say(Checker::HandedOutAborted, format_args!("offset {offset} by member {member}"));
        }
        if mode == Mode::AtMostOnce {
            let acknowledged = self.acknowledged.get(&member).copied();
            if acknowledged.is_none_or(|acknowledged| acknowledged <= offset) {
                let what = format_args!("offset {offset} by member {member}, which had heard of {acknowledged:?}");
                report.say(Checker::HandedOutUncommitted, what);
            }
            if self.handed_out.contains(offset) && !self.may_repeat.contains(offset) {
                report.say(Checker::HandedOutTwice, format_args!("offset {offset}, this time by member {member}"));
            }
        }
        self.handed_out.insert(offset);
        self.handed_out_top = self.handed_out_top.max(Some(offset));
    }

    fn stepped_over(&mut self, member: Member, gap: Range<i64>, report: &mut Report<'_>) {
        if gap.is_empty() {
            return;
        }
        let Log { visible, invisible, excused, ambiguous, .. } = &self.log;
        if let Some(skipped) = visible.first_beyond(gap.clone(), &[excused, ambiguous]) {
            let next = gap.end;
            report.say(Checker::Skipped, format_args!("offset {skipped} by member {member}, which went on at {next}"));
        }
        for unknown in visible.gaps(gap).flat_map(|gap| invisible.gaps(gap)) {
            self.stepped_over.insert_all(unknown);
        }
    }

    pub(crate) fn acked(&mut self, member: Member, offset: i64) {
        self.acked.insert(offset);
        if let Some(holding) = self.holders.get_mut(&member) {
            holding.open.remove(&offset);
        }
    }

    pub(crate) fn sought(&mut self, member: Member, to: Option<i64>) {
        if let Some(holding) = self.holders.get_mut(&member) {
            holding.begin_anew();
            holding.sought = to;
        }
        let Some(to) = to else { return };
        self.log.excused.insert_all(0..to);
        self.may_repeat.insert_all(to..self.handed_out.last().map_or(to, |last| last + 1));
        self.handed_out_top = None;
        self.top_when_asked = None;
        // A commit of what was beyond may still be on its way.
        self.ways_back += 1;
    }

    /// It did go on from where it was sought to, and a cut is no secret to it any more.
    pub(crate) fn anchored(&mut self, member: Member) {
        if let Some(to) = self.holders.get_mut(&member).and_then(|holding| holding.sought.take()) {
            self.log.excused.insert_all(0..to);
        }
    }
}

// ---------------------------------------------------------------- commits

impl Ledger {
    pub(crate) fn commit_acknowledged(&mut self, member: Member, offset: i64) {
        let acknowledged = self.acknowledged.entry(member).or_insert(offset);
        *acknowledged = offset.max(*acknowledged);
    }

    /// `is_newest`: no later commit can have been stored before this one was seen.
    pub(crate) fn committed(
        &mut self,
        mode: Mode,
        offset: i64,
        is_newest: bool,
        by: fmt::Arguments<'_>,
        report: &mut Report<'_>,
    ) {
        if mode == Mode::AtLeastOnce && self.judged_below < offset {
            let range = self.judged_below..offset;
            let Log { visible, invisible, excused, ambiguous, .. } = &self.log;
            if let Some(unfinished) = visible.first_beyond(range.clone(), &[&self.acked, excused, ambiguous]) {
                let what = format_args!("{offset} was committed ({by}), and offset {unfinished} had not been acked");
                report.say(Checker::CommittedUnfinished, what);
            }
            let unknown = visible.gaps(range).flat_map(|gap| invisible.gaps(gap)).flat_map(|gap| self.acked.gaps(gap));
            unknown.for_each(|gap| self.passed.insert_all(gap));
            self.judged_below = offset;
        }
        match self.committed {
            Some(before) if offset < before && !is_newest => {}
            Some(before) if offset < before && self.ways_back == 0 => {
                report.say(Checker::CommitWentBack, format_args!("from {before} to {offset} ({by})"));
                self.committed = Some(offset);
            }
            Some(before) => {
                self.ways_back -= u32::from(offset < before);
                self.committed = Some(offset);
            }
            None => self.committed = Some(offset),
        }
    }

    pub(crate) fn commits_asked(&mut self) {
        self.top_when_asked = self.handed_out_top;
    }

    /// The committed offset is the newest there was when it was asked for, or a newer one.
    pub(crate) fn answered(&mut self, committed: i64, report: &mut Report<'_>) {
        if let Some(top) = self.top_when_asked.take().filter(|&top| top >= committed) {
            report.say(Checker::HandedOutUncommitted, format_args!("offset {top}, and {committed} is committed"));
        }
    }

    pub(crate) fn finish(&self, mode: Mode, end: i64, report: &mut Report<'_>) {
        let visible = &self.log.visible;
        // Who sought the end has nothing to read there yet.
        let mut excused = self.log.excused.clone();
        self.holders.values().filter_map(|holding| holding.sought).for_each(|to| excused.insert_all(0..to));
        let excused = &excused;
        if mode == Mode::AtLeastOnce {
            if let Some(offset) = visible.first_beyond(0..end, &[&self.handed_out, excused]) {
                report.say(Checker::NeverHandedOut, format_args!("offset {offset}"));
                return;
            }
            if let Some(offset) = visible.first_beyond(0..end, &[&self.acked, excused]) {
                report.say(Checker::Unfinished, format_args!("offset {offset} is not acked"));
                return;
            }
        }
        let Some(last) = visible.last_below(end).filter(|&last| !excused.contains(last)) else { return };
        if self.committed.is_none_or(|committed| committed <= last) {
            let checker = if mode == Mode::AtLeastOnce { Checker::AckLost } else { Checker::Unfinished };
            report.say(checker, format_args!("offset {last} is not committed: {:?} is", self.committed));
        }
    }
}

impl Holding {
    fn new(generation: i32) -> Self {
        Self { generation, revoking: false, last: None, sought: None, open: BTreeMap::new() }
    }

    /// What was there is gone: reading goes on at `end`, if it had come so far.
    fn cut(&mut self, end: i64) {
        self.open.split_off(&end);
        if self.last.is_some_and(|last| last >= end) {
            self.last = None;
        }
    }

    fn begin_anew(&mut self) {
        (self.last, self.sought) = (None, None);
        self.open.clear();
    }

    fn step(&mut self, mode: Mode, offset: i64, attempt: u32) -> Step {
        let before = if attempt > 1 { self.open.get(&offset).copied() } else { None };
        if mode == Mode::AtLeastOnce {
            self.open.insert(offset, attempt);
        }
        if before.is_some_and(|before| before < attempt) {
            return Step::Again;
        }
        match self.last.replace(offset) {
            None => Step::Forward(offset..offset),
            Some(last) if offset > last => Step::Forward(last + 1..offset),
            // It goes on where it was: one step back is one violation.
            Some(last) => {
                self.last = Some(last);
                Step::Back(last)
            }
        }
    }
}
