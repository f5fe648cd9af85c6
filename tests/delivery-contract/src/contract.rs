//! The judge of one group.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{Checker, Event, Member, Partition, Violation, ledger::Ledger};

/// So many violations are kept; of more, only the number. A member gone wrong breaks its word with every record.
const VIOLATIONS_MAX: usize = 1000;

/// What the group's members promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every record is handed out; a commit passes only what is finished.
    AtLeastOnce,
    /// No record is handed out twice: its commit comes first.
    AtMostOnce,
}

/// Judges one group by what is told of it.
///
/// It grows with the offsets that were seen, and where they lie together hardly at all.
#[derive(Clone, Debug)]
pub struct Contract {
    mode: Mode,
    ledgers: BTreeMap<Partition, Ledger>,
    violations: Violations,
}

impl Contract {
    /// Begins with a group of which nothing is known.
    pub fn new(mode: Mode) -> Self {
        Self { mode, ledgers: BTreeMap::new(), violations: Violations::default() }
    }

    /// Takes note of an event, `at` being the time since the start of the run.
    pub fn observe(&mut self, at: Duration, event: &Event) {
        let mode = self.mode;
        match event {
            Event::Visible { partition, offset } => self.with(at, partition, |ledger, report| ledger.visible(*offset, report)),
            Event::Invisible { partition, offset } => {
                self.with(at, partition, |ledger, report| ledger.invisible(*offset, report));
            }
            Event::Compacted { partition, offset } => self.with(at, partition, |ledger, _| ledger.compacted(*offset)),
            Event::LogStarts { partition, offset } => self.with(at, partition, |ledger, _| ledger.log_starts(*offset)),
            Event::Truncated { partition, end } => self.with(at, partition, |ledger, _| ledger.truncated(*end)),
            Event::Remade { partition } => self.with(at, partition, |ledger, _| ledger.remade()),
            Event::Assigned { member, generation, partitions } => self.assigned(at, *member, *generation, partitions),
            Event::Revoking { member, partition } => self.with(at, partition, |ledger, _| ledger.revoking(*member)),
            Event::Released { member, partition } | Event::Lost { member, partition } => {
                self.with(at, partition, |ledger, _| ledger.released(*member));
            }
            Event::Gone { member } => self.ledgers.values_mut().for_each(|ledger| ledger.gone(*member)),
            Event::Stalled { .. } | Event::Woke { .. } => {}
            Event::HandedOut { member, partition, offset, attempt } => {
                self.with(at, partition, |ledger, report| ledger.handed_out(mode, *member, *offset, *attempt, report))
            }
            Event::Acked { member, partition, offset } => self.with(at, partition, |ledger, _| ledger.acked(*member, *offset)),
            Event::CommitAcknowledged { member, partition, offset } => {
                self.with(at, partition, |ledger, _| ledger.commit_acknowledged(*member, *offset));
            }
            Event::CommitStored { member, partition, offset } => self.with(at, partition, |ledger, report| {
                ledger.committed(mode, *offset, true, format_args!("member {member}"), report);
            }),
            Event::CommitsAsked => self.ledgers.values_mut().for_each(Ledger::commits_asked),
            Event::CommitRead { partition, offset, fresh } => self.with(at, partition, |ledger, report| {
                ledger.committed(mode, *offset, *fresh, format_args!("somebody"), report);
                if *fresh && mode == Mode::AtMostOnce {
                    ledger.answered(*offset, report);
                }
            }),
            Event::Sought { member, partition, to } => self.with(at, partition, |ledger, _| ledger.sought(*member, *to)),
            Event::Anchored { member, partition } => self.with(at, partition, |ledger, _| ledger.anchored(*member)),
        }
    }

    /// Asks, once everything is healed and has had its time, for what should have happened: at least once, that every record that is to be
    /// seen was handed out, acked and committed; at most once, that the commits reached the end.
    ///
    /// `ends` says up to where that is asked of a partition; where it says nothing, of all that is known to be in the log.
    pub fn finish(&mut self, at: Duration, ends: &BTreeMap<Partition, i64>) -> &[Violation] {
        for (partition, ledger) in &self.ledgers {
            let end = ends.get(partition).copied().unwrap_or(i64::MAX);
            ledger.finish(self.mode, end, &mut Report { at, partition, violations: &mut self.violations });
        }
        self.violations()
    }

    /// Returns what was broken, in the order in which it was seen; the first thousand.
    pub fn violations(&self) -> &[Violation] {
        &self.violations.list
    }

    /// Returns how often something was broken.
    pub fn violation_count(&self) -> u64 {
        self.violations.count
    }

    /// Judges that a member is about to be told that it has released a partition, in good time, and with nothing against its commits.
    pub fn handed_back(&mut self, at: Duration, member: Member, partition: &Partition) {
        self.with(at, partition, |ledger, report| ledger.handed_back(member, report));
    }

    /// Says whether a member, if it let go of a partition now with nothing in work, would leave something finished that is not committed.
    pub fn is_behind(&self, member: Member, partition: &Partition) -> bool {
        self.ledgers.get(partition).is_some_and(|ledger| ledger.left_uncommitted(member).is_some())
    }

    fn assigned(&mut self, at: Duration, member: Member, generation: i32, partitions: &[Partition]) {
        for (partition, ledger) in &mut self.ledgers {
            if !partitions.contains(partition) {
                ledger.released(member);
            }
        }
        for partition in partitions {
            self.with(at, partition, |ledger, report| ledger.assigned(member, generation, report));
        }
    }

    fn with(&mut self, at: Duration, partition: &Partition, act: impl FnOnce(&mut Ledger, &mut Report<'_>)) {
        let mut report = Report { at, partition, violations: &mut self.violations };
        match self.ledgers.get_mut(partition) {
            Some(ledger) => act(ledger, &mut report),
            None => act(self.ledgers.entry(partition.clone()).or_default(), &mut report),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Violations {
    list: Vec<Violation>,
    count: u64,
}

/// Where a ledger says what is wrong. Words are made only then.
pub(crate) struct Report<'a> {
    at: Duration,
    partition: &'a Partition,
    violations: &'a mut Violations,
}

impl Report<'_> {
    pub(crate) fn say(&mut self, checker: Checker, what: fmt::Arguments<'_>) {
        self.violations.count += 1;
        if self.violations.list.len() < VIOLATIONS_MAX {
            let (at, partition, what) = (self.at, self.partition.clone(), what.to_string());
            self.violations.list.push(Violation { at, checker, partition, what });
        }
    }
}
