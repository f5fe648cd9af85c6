//! What ottla promises, asserted at every step: the contract of the group, and what only the inside of a consumer shows.
//!
//! The letters are those of the invariants: (A) a commit passes only what is finished, (B) at most once a commit comes first, (C) nothing is
//! handed out of what is not owned, or is being revoked, (D) one commit in flight, none across a rebalance, (E) the reset policy has
//! two doors, (F) what is held stays within the budget, (G) every wait ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use delivery_contract::{Contract, Event, Member, Mode, Partition};

use super::user::Seen;
use crate::model::{Position, TopicPartition};

/// No group gets so far in one life.
const GENERATIONS_MAX: i32 = 1_000_000;

/// A promise was broken: its name, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) checker: String,
    pub(super) what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

pub(super) struct HandedOut {
    pub(super) client: usize,
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
}

/// Judges one group.
pub(super) struct Judge {
    contract: Contract,
    mode: Mode,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Everything that was handed out, in that order.
    pub(super) handed_out: Vec<HandedOut>,
    was_handed_out: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// The records that nobody was handed yet.
    missing: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Up to where nobody need read: somebody sought what lies behind.
    excused: BTreeMap<TopicPartition, i64>,
    generation: i32,
    /// What its generations are told apart by from those of a former count, and those in which each member was last.
    count: i32,
    counts: BTreeMap<String, i32>,
    /// Who waits for the answer to an OffsetCommit.
    committing: BTreeSet<usize>,
    /// Who has asked to join, and does not know yet what it was given.
    joining: BTreeSet<usize>,
    /// Where the reset policy may be used: who was told that there is no committed offset, or that its position does not exist.
    doors: BTreeSet<(usize, TopicPartition)>,
    /// Logs that were cut: who has read them goes back.
    was_cut: BTreeSet<TopicPartition>,
    /// Who has asked for another position, and is not there yet.
    seeking: BTreeSet<(usize, TopicPartition)>,
    /// Where reading began last, if it was sought.
    sought_to: BTreeMap<TopicPartition, i64>,
    /// Bytes of records that each client holds.
    held: BTreeMap<usize, usize>,
    /// Of a consumer without a group.
    pub(super) commits_nothing: bool,
    failures: Vec<Failure>,
}

impl Judge {
    pub(super) fn new(at_most_once: bool) -> Self {
        let mode = if at_most_once { Mode::AtMostOnce } else { Mode::AtLeastOnce };
        Self {
            contract: Contract::new(mode),
            mode,
            partitions: BTreeMap::new(),
            handed_out: Vec::new(),
            was_handed_out: BTreeMap::new(),
            missing: BTreeMap::new(),
            excused: BTreeMap::new(),
            generation: 0,
            count: 0,
            counts: BTreeMap::new(),
            committing: BTreeSet::new(),
            joining: BTreeSet::new(),
            doors: BTreeSet::new(),
            was_cut: BTreeSet::new(),
            seeking: BTreeSet::new(),
            sought_to: BTreeMap::new(),
            held: BTreeMap::new(),
            commits_nothing: false,
            failures: Vec::new(),
        }
    }

    pub(super) fn is_at_most_once(&self) -> bool {
        self.mode == Mode::AtMostOnce
    }

    /// Returns the first promise that was broken.
    pub(super) fn failure(&self) -> Option<Failure> {
        let broken = self.contract.violations().first();
        let broken = broken.map(|broken| Failure { checker: broken.checker.to_string(), what: broken.to_string() });
        broken.or_else(|| self.failures.first().cloned())
    }

    pub(super) fn fail(&mut self, checker: &str, what: String) {
        self.failures.push(Failure { checker: checker.to_owned(), what });
    }

    fn observe(&mut self, at: Duration, event: &Event) {
        self.contract.observe(at, event);
    }

    fn partition(&mut self, of: &TopicPartition) -> Partition {
        if let Some(partition) = self.partitions.get(of) {
            return partition.clone();
        }
        let partition = Partition::new(of.topic(), of.partition());
        self.partitions.insert(of.clone(), partition.clone());
        partition
    }
}

// ---------------------------------------------------------------- the log

impl Judge {
    pub(super) fn visible(&mut self, at: Duration, of: &TopicPartition, offset: i64) {
        let partition = self.partition(of);
        if self.excused.get(of).is_none_or(|below| offset >= *below) {
            self.missing.entry(of.clone()).or_default().insert(offset);
        }
        self.observe(at, &Event::Visible { partition, offset });
    }

    pub(super) fn invisible(&mut self, at: Duration, of: &TopicPartition, offset: i64) {
        let partition = self.partition(of);
        self.observe(at, &Event::Invisible { partition, offset });
    }

    pub(super) fn log_starts(&mut self, at: Duration, of: &TopicPartition, offset: i64) {
        let partition = self.partition(of);
        if let Some(missing) = self.missing.get_mut(of) {
            *missing = missing.split_off(&offset);
        }
        self.observe(at, &Event::LogStarts { partition, offset });
    }

    pub(super) fn truncated(&mut self, at: Duration, of: &TopicPartition, end: i64) {
        let partition = self.partition(of);
        self.was_cut.insert(of.clone());
        self.missing.entry(of.clone()).or_default().split_off(&end);
        self.was_handed_out.entry(of.clone()).or_default().split_off(&end);
        self.observe(at, &Event::Truncated { partition, end });
    }

    /// A record went, and its offset stays empty: nobody need see it, and who has it already saw right.
    pub(super) fn compacted(&mut self, at: Duration, of: &TopicPartition, offset: i64) {
        let partition = self.partition(of);
        if let Some(missing) = self.missing.get_mut(of) {
            missing.remove(&offset);
        }
        self.observe(at, &Event::Compacted { partition, offset });
    }

    /// The topic was deleted, or made anew: its offsets begin again.
    pub(super) fn remade(&mut self, at: Duration, of: &TopicPartition) {
        self.was_cut.insert(of.clone());
        let partition = self.partition(of);
        self.handed_out.retain(|handed| handed.partition != *of);
        self.missing.remove(of);
        self.excused.remove(of);
        self.was_handed_out.remove(of);
        self.observe(at, &Event::Remade { partition });
    }
}

// ---------------------------------------------------------------- members

impl Judge {
    pub(super) fn assigned(&mut self, at: Duration, client: usize, (member_id, generation): (&str, i32), of: &[TopicPartition]) {
        self.joining.remove(&client);
        // Who was stopped hears late, when the group may have begun another count.
        let generation = self.counts.get(member_id).unwrap_or(&self.count) + generation;
        let partitions = of.iter().map(|of| self.partition(of)).collect();
        self.observe(at, &Event::Assigned { member: member(client), generation, partitions });
    }

    /// The brokers have counted on; or from the beginning again, where the group was empty and is of another protocol now.
    pub(super) fn generation_begins(&mut self, generation: i32, members: &[String]) {
        if generation <= self.generation {
            self.count += GENERATIONS_MAX;
        }
        self.generation = generation;
        self.counts.extend(members.iter().map(|member| (member.clone(), self.count)));
    }

    pub(super) fn revoking(&mut self, at: Duration, client: usize, of: &TopicPartition) {
        let partition = self.partition(of);
        self.observe(at, &Event::Revoking { member: member(client), partition });
    }

    /// In good time, and with nothing against its commits.
    pub(super) fn handed_back(&mut self, at: Duration, client: usize, of: &TopicPartition) {
        let partition = self.partition(of);
        self.contract.handed_back(at, member(client), &partition);
    }

    /// Says whether it would leave something finished that is not committed, if it let go of a partition now.
    pub(super) fn is_behind(&mut self, client: usize, of: &TopicPartition) -> bool {
        let partition = self.partition(of);
        self.contract.is_behind(member(client), &partition)
    }

    pub(super) fn released(&mut self, at: Duration, client: usize, of: &TopicPartition) {
        let partition = self.partition(of);
        self.seeking.remove(&(client, of.clone()));
        self.observe(at, &Event::Released { member: member(client), partition });
    }

    pub(super) fn gone(&mut self, at: Duration, client: usize) {
        self.committing.remove(&client);
        self.observe(at, &Event::Gone { member: member(client) });
    }

    pub(super) fn handed_out(&mut self, at: Duration, client: usize, seen: &Seen) {
        let (of, offset) = (&seen.partition, seen.offset);
        let partition = self.partition(of);
        if seen.value != format!("v{offset}").as_bytes() {
            let value = String::from_utf8_lossy(&seen.value).into_owned();
            self.fail("a record has another's value", format!("offset {offset} of {of}: {value:?}"));
        }
        if let Some(missing) = self.missing.get_mut(of) {
            missing.remove(&offset);
        }
        self.was_handed_out.entry(of.clone()).or_default().insert(offset);
        self.handed_out.push(HandedOut { client, partition: of.clone(), offset });
        self.observe(at, &Event::HandedOut { member: member(client), partition, offset, attempt: seen.attempt });
    }

    pub(super) fn acked(&mut self, at: Duration, client: usize, of: &TopicPartition, offset: i64) {
        let partition = self.partition(of);
        self.observe(at, &Event::Acked { member: member(client), partition, offset });
    }

    /// Reading goes on elsewhere, by the program's wish or the reset policy.
    pub(super) fn sought(&mut self, at: Duration, client: usize, of: &TopicPartition, to: Option<i64>) {
        let partition = self.partition(of);
        if let Some(to) = to {
            let missing = self.missing.entry(of.clone()).or_default();
            *missing = missing.split_off(&to);
            let below = self.excused.entry(of.clone()).or_default();
            *below = to.max(*below);
        }
        self.observe(at, &Event::Sought { member: member(client), partition, to });
    }

    /// What lies before it need not be finished by anybody.
    pub(super) fn excuse(&mut self, at: Duration, of: &TopicPartition, below: i64) {
        self.sought(at, usize::MAX >> 32, of, Some(below));
    }
}

// ---------------------------------------------------------------- commits and requests

impl Judge {
    pub(super) fn stored(&mut self, at: Duration, client: usize, of: &TopicPartition, offset: i64) {
        let partition = self.partition(of);
        self.observe(at, &Event::CommitStored { member: member(client), partition, offset });
    }

    pub(super) fn join_sent(&mut self, client: usize) {
        self.joining.insert(client);
    }

    pub(super) fn commit_sent(&mut self, client: usize) {
        if self.joining.contains(&client) {
            self.fail("a commit crosses a rebalance", format!("client {client} has asked to join, and commits"));
        }
        if !self.committing.insert(client) {
            self.fail("two commits are in flight", format!("of client {client}"));
        }
    }

    pub(super) fn commit_answered(&mut self, at: Duration, client: usize, stored: Vec<(TopicPartition, i64)>) {
        self.committing.remove(&client);
        for (of, offset) in stored {
            let partition = self.partition(&of);
            self.observe(at, &Event::CommitAcknowledged { member: member(client), partition, offset });
        }
    }

    pub(super) fn commit_abandoned(&mut self, client: usize) {
        self.committing.remove(&client);
    }

    /// A client was told something that is a reason to use the reset policy.
    pub(super) fn door_opened(&mut self, client: usize, of: TopicPartition) {
        self.doors.insert((client, of));
    }

    /// A client was told where its group has got to: whatever reason there was before is none any more.
    pub(super) fn door_closed(&mut self, client: usize, of: TopicPartition) {
        self.doors.remove(&(client, of));
    }

    /// A program asks for another position, which may have to be looked up.
    pub(super) fn seek_begins(&mut self, client: usize, of: TopicPartition) {
        self.seeking.insert((client, of));
    }

    /// Reading begins, or begins anew, at `position`: anywhere but at what is committed only for a reason.
    pub(super) fn started(
        &mut self,
        at: Duration,
        client: usize,
        of: &TopicPartition,
        position: Position,
        committed: Option<i64>,
    ) {
        let (position, has_epoch) = (position.offset.0, position.leader_epoch.is_some());
        let is_sought = self.seeking.remove(&(client, of.clone()));
        match is_sought {
            true => self.sought_to.insert(of.clone(), position),
            false => self.sought_to.remove(of),
        };
        let may_reset = self.doors.remove(&(client, of.clone()));
        if committed == Some(position) {
            return self.sought(at, client, of, None);
        }
        if !is_sought && !may_reset && !self.was_cut.contains(of) {
            let what =
                format!("client {client} reads {of} from {position} on, {committed:?} is committed, and there was no reason");
            self.fail("reset without a reason", what);
        }
        self.sought(at, client, of, (is_sought || may_reset).then_some(position));
        if has_epoch {
            self.anchored(at, client, of);
        }
    }

    /// From now on it sees where the log is cut below its position.
    pub(super) fn anchored(&mut self, at: Duration, client: usize, of: &TopicPartition) {
        let partition = self.partition(of);
        self.observe(at, &Event::Anchored { member: member(client), partition });
    }

    pub(super) fn received(&mut self, client: usize, bytes: usize, budget: usize) {
        let held = self.held.entry(client).or_default();
        // The first batch of an answer is whole, however large.
        let is_alone = *held == 0;
        *held += bytes;
        if *held > budget && !is_alone {
            let what = format!("client {client} holds {held} bytes of records, and may hold {budget}");
            self.fail("more is held than the budget", what);
        }
    }

    pub(super) fn released_bytes(&mut self, client: usize, bytes: usize) {
        let held = self.held.entry(client).or_default();
        *held = held.saturating_sub(bytes);
    }
}

// ---------------------------------------------------------------- looking back

impl Judge {
    /// Says whether its reader has sought a position beyond `last`, or nothing was handed out before somebody did: there is nothing to finish,
    /// and nothing to commit.
    pub(super) fn is_passed_by(&self, of: &TopicPartition, last: i64) -> bool {
        let is_untouched = !self.is_at_most_once() && self.was_handed_out.get(of).is_none_or(BTreeSet::is_empty);
        is_untouched || self.sought_to.get(of).is_some_and(|to| *to > last)
    }

    pub(super) fn missing(&self, of: &TopicPartition) -> usize {
        self.missing.get(of).map_or(0, BTreeSet::len)
    }

    pub(super) fn missing_in_all(&self) -> usize {
        self.missing.values().map(BTreeSet::len).sum()
    }

    /// Every offset that was handed out, in that order.
    pub(super) fn offsets(&self, of: &TopicPartition) -> Vec<i64> {
        self.handed_out.iter().filter(|handed| handed.partition == *of).map(|handed| handed.offset).collect()
    }

    /// How many records were handed out more than once.
    pub(super) fn repeats(&self) -> usize {
        self.handed_out.len() - self.was_handed_out.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Says whether everything has happened that should: also that what was handed out was finished.
    pub(super) fn is_finished(&self, at: Duration) -> bool {
        self.contract.clone().finish(at, &BTreeMap::new()).is_empty()
    }

    /// Asks, in the end, for what should have happened.
    pub(super) fn finish(&mut self, at: Duration) {
        self.contract.finish(at, &BTreeMap::new());
    }
}

fn member(client: usize) -> Member {
    Member(u32::try_from(client).unwrap_or(u32::MAX))
}
