//! Who is nobody's member: reads all that is wanted, as soon as metadata know it.
//!
//! There is no coordinator to join, no generation and no session. Nothing is shared with anybody, so nothing waits for anybody either: what is
//! new is taken on at once, what is not wanted any more is handed back, and nothing is lost but what is not there.
//!
//! What metadata do not tell of any more stays held: a topic that is only not to be seen for a while is read on where reading was, which nobody
//! else would remember. Whether there is another of its name is for the aggregate to see.
//!
//! A partition that is wanted and that its topic does not have is looked for as long as it takes; the user hears of it once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::info;

use super::{GroupEvent, LASTING_RETRY_MAX};
use crate::{
    model::TopicPartition,
    proto::{
        ClusterView, Deadline, MISSING_AFTER, Membership, Problem, ProblemKind, TopicView,
        backoff::{Backoff, Rng},
    },
    wire::ErrorCode,
};

/// What it is told once.
#[derive(Clone, Debug)]
pub(crate) struct StandaloneConfig {
    /// By whose committed offsets it goes, without being a member.
    pub(crate) group: Option<Arc<str>>,
    /// How long what is handed back may take to be finished and committed.
    pub(crate) release_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) seed: u64,
}

/// Whoever reads without joining a group.
#[derive(Debug)]
pub(crate) struct Standalone {
    config: StandaloneConfig,
    rng: Rng,
    /// None, for ever.
    membership: Membership,
    /// All of their partitions are wanted.
    topics: BTreeSet<Arc<str>>,
    /// Wanted one by one.
    partitions: BTreeSet<TopicPartition>,
    /// How many partitions the topics have that metadata tell of.
    counts: BTreeMap<Arc<str>, i32>,
    /// What our surroundings hold in our name.
    owned: BTreeSet<TopicPartition>,
    /// What of that is being handed back.
    releasing: BTreeSet<TopicPartition>,
    /// Wanted one by one, of a topic that has no such partition.
    missing: BTreeMap<TopicPartition, Missing>,
    look_at: Option<Instant>,
    looks: Backoff,
    has_left: bool,
    events: VecDeque<GroupEvent>,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    is_told: bool,
}

impl Standalone {
    pub(crate) fn new(config: StandaloneConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            membership: Membership::none(),
            topics: BTreeSet::new(),
            partitions: BTreeSet::new(),
            counts: BTreeMap::new(),
            owned: BTreeSet::new(),
            releasing: BTreeSet::new(),
            missing: BTreeMap::new(),
            look_at: None,
            looks: Backoff::new(config.retry_backoff, LASTING_RETRY_MAX),
            has_left: false,
            events: VecDeque::new(),
            config,
        }
    }

    /// Replaces what is wanted: topics with all their partitions, and partitions.
    pub(crate) fn handle_subscribe(&mut self, now: Instant, topics: Vec<Arc<str>>, partitions: BTreeSet<TopicPartition>) {
        self.topics = topics.into_iter().collect();
        self.partitions = partitions;
        self.reconcile(now);
    }

    /// Takes in newer metadata.
    pub(crate) fn handle_metadata(&mut self, now: Instant, view: &ClusterView) {
        let is_told = |topic: &TopicView| topic.error == ErrorCode::NONE && !topic.partitions.is_empty();
        let told = view.topics.iter().filter(|(_, topic)| is_told(topic));
        let count = |of: usize| i32::try_from(of).unwrap_or(i32::MAX);
        self.counts = told.map(|(name, topic)| (Arc::clone(name), count(topic.partitions.len()))).collect();
        self.reconcile(now);
    }

    /// What was to be released is not held in our name any more: the answer to `Release`.
    pub(crate) fn handle_released(&mut self, now: Instant) {
        for partition in mem::take(&mut self.releasing) {
            self.owned.remove(&partition);
        }
        self.reconcile(now);
    }

    /// Ends for good; everything owned has been released before.
    pub(crate) fn handle_leave(&mut self) {
        self.owned.clear();
        self.look_at = None;
        if !mem::replace(&mut self.has_left, true) {
            self.events.push_back(GroupEvent::Left);
        }
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.look_at.take_if(|at| *at <= now).is_some() {
            self.events.push_back(GroupEvent::RefreshMetadata);
            self.look_at = Some(now + self.looks.fail(&mut self.rng));
        }
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether there is a group to commit to. Whether it takes commits of who is no member is for its coordinator to say.
    pub(crate) fn may_commit(&self) -> bool {
        self.config.group.is_some()
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        Some((self.look_at?, "a partition that is not there is looked for"))
    }

    /// Goes from what is held to what is wanted.
    fn reconcile(&mut self, now: Instant) {
        if self.has_left {
            return;
        }
        self.lose_what_is_not_there();
        self.take_on();
        self.hand_back(now);
        self.look_for_missing(now);
    }

    /// A topic that was made anew may have fewer partitions than the former one of its name.
    fn lose_what_is_not_there(&mut self) {
        let partitions: Vec<_> = self.owned.iter().filter(|held| self.is_missing(held)).cloned().collect();
        if !partitions.is_empty() {
            for partition in &partitions {
                self.owned.remove(partition);
                self.releasing.remove(partition);
            }
            let why = "the topic was made anew with fewer partitions".to_owned();
            self.events.push_back(GroupEvent::Lost { partitions, why });
        }
    }

    fn take_on(&mut self) {
        let of_topics = self.topics.iter().filter_map(|topic| Some((topic, *self.counts.get(topic)?)));
        let of_topics =
            of_topics.flat_map(|(topic, count)| (0..count).map(|number| TopicPartition::new(Arc::clone(topic), number)));
        let named = self.partitions.iter().filter(|named| self.counts.contains_key(named.topic()) && !self.is_missing(named));
        let added: BTreeSet<_> = of_topics.chain(named.cloned()).filter(|wanted| !self.owned.contains(wanted)).collect();
        if added.is_empty() {
            return;
        }
        self.owned.extend(added.iter().cloned());
        info!(group = self.config.group.as_deref(), ?added, held = self.owned.len(), "assigned");
        let Membership { member_id, generation } = self.membership.clone();
        let (protocol, partitions) = ("".into(), added.into_iter().collect());
        self.events.push_back(GroupEvent::Assigned { generation, member_id, protocol, leader: false, partitions });
    }

    /// One step at a time: what is wanted again meanwhile is taken on when it has been handed back.
    fn hand_back(&mut self, now: Instant) {
        if !self.releasing.is_empty() {
            return;
        }
        let is_wanted = |held: &&TopicPartition| self.topics.contains(held.topic()) || self.partitions.contains(*held);
        self.releasing = self.owned.iter().filter(|held| !is_wanted(held)).cloned().collect();
        if !self.releasing.is_empty() {
            let (partitions, deadline) = (self.releasing.iter().cloned().collect(), now + self.config.release_timeout);
            self.events.push_back(GroupEvent::Release { partitions, deadline, why: "no longer wanted".to_owned() });
        }
    }

    /// Whether the topic is there and has no such partition.
    fn is_missing(&self, partition: &TopicPartition) -> bool {
        self.counts.get(partition.topic()).is_some_and(|count| partition.partition() >= *count)
    }

    fn look_for_missing(&mut self, now: Instant) {
        let mut before = mem::take(&mut self.missing);
        let missing = self.partitions.iter().filter(|named| self.is_missing(named));
        let still =
            |named: &TopicPartition| (named.clone(), before.remove(named).unwrap_or(Missing { since: now, is_told: false }));
        self.missing = missing.map(still).collect();
        for (named, missing) in &mut self.missing {
            if missing.since + MISSING_AFTER <= now && !mem::replace(&mut missing.is_told, true) {
                let count = self.counts.get(named.topic()).copied().unwrap_or_default();
                let what = format!(
                    "{named} does not exist: topic {} has {count} partitions, counted from 0; still looking for it; add partitions, or check what \
                     is assigned",
                    named.topic()
                );
                let partition = Some(named.clone());
                let problem = Problem { kind: ProblemKind::UnknownTopic, partition, code: None, what, fatal: false };
                self.events.push_back(GroupEvent::Problem(problem));
            }
        }
        if self.missing.is_empty() {
            self.look_at = None;
            self.looks.reset();
        } else if self.look_at.is_none() {
            self.look_at = Some(now + self.looks.fail(&mut self.rng));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::group::tests::view;

    /// What happens, in virtual time.
    enum Happens {
        /// All partitions of these topics are wanted.
        Topics(&'static [&'static str]),
        /// These partitions are wanted.
        Partitions(&'static [(&'static str, i32)]),
        /// Topics with so many partitions; -1: there is none of the name.
        Metadata(&'static [(&'static str, i32)]),
        Released,
        /// So many milliseconds pass, and the machine looks at the clock whenever it has asked to.
        Pass(u64),
        Leave,
    }
    use Happens::{Leave, Metadata, Partitions, Pass, Released, Topics};

    /// Lets things happen, each with what is told because of it.
    #[track_caller]
    fn check(script: &[(Happens, &[&str])]) {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let mut now = Instant::now();
        let (release_timeout, retry_backoff) = (Duration::from_secs(60), Duration::from_millis(100));
        let mut machine = Standalone::new(StandaloneConfig { group: None, release_timeout, retry_backoff, seed: 3 });
        for (number, (happens, told)) in script.iter().enumerate() {
            match happens {
                Topics(topics) => {
                    machine.handle_subscribe(now, topics.iter().map(|&topic| topic.into()).collect(), BTreeSet::new());
                }
                Partitions(partitions) => {
                    machine.handle_subscribe(now, Vec::new(), partitions.iter().map(|&named| named.into()).collect());
                }
                Metadata(topics) => machine.handle_metadata(now, &view(topics)),
                Released => machine.handle_released(now),
                Pass(milliseconds) => {
                    let end = now + Duration::from_millis(*milliseconds);
                    while let Some((at, _)) = machine.poll_timeout().filter(|(at, _)| *at <= end) {
                        assert!(at > now, "a deadline that has passed is a busy loop");
                        now = at;
                        machine.handle_timeout(now);
                    }
                    now = end;
                }
                Leave => machine.handle_leave(),
            }
            let events: Vec<_> = std::iter::from_fn(|| machine.poll_event()).map(|event| words(&event, now)).collect();
            assert_eq!(events, *told, "step {number}");
        }
    }

    fn words(event: &GroupEvent, now: Instant) -> String {
        let list = |partitions: &[TopicPartition]| partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match event {
            GroupEvent::Assigned { generation, member_id, partitions, .. } => {
                assert_eq!((generation.0, &**member_id), (-1, ""));
                format!("assigned {}", list(partitions))
            }
            GroupEvent::Release { partitions, deadline, .. } => {
                assert_eq!(*deadline, now + Duration::from_secs(60));
                format!("release {}", list(partitions))
            }
            GroupEvent::Lost { partitions, .. } => format!("lost {}", list(partitions)),
            GroupEvent::RefreshMetadata => "look".to_owned(),
            GroupEvent::Problem(Problem { kind: ProblemKind::UnknownTopic, fatal: false, what, .. }) => {
                what.split(';').next().unwrap_or_default().to_owned()
            }
            GroupEvent::Left => "left".to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_that_is_wanted_is_taken_on_as_soon_as_it_is_known() {
        check(&[
            (Topics(&["t", "u"]), &[]),
            (Metadata(&[("t", 2)]), &["assigned t-0 t-1"]),
            (Metadata(&[("t", 2), ("u", 1), ("not-wanted", 1)]), &["assigned u-0"]),
            (Metadata(&[("t", 3), ("u", 1)]), &["assigned t-2"]),
            (Metadata(&[("t", 3), ("u", 1)]), &[]),
        ]);
        // What was known before.
        check(&[(Metadata(&[("t", 1)]), &[]), (Topics(&["t"]), &["assigned t-0"]), (Topics(&["t"]), &[])]);
    }

    #[test]
    fn partitions_are_taken_on_one_by_one() {
        check(&[
            (Metadata(&[("t", 4), ("u", 1)]), &[]),
            (Partitions(&[("t", 3), ("t", 1)]), &["assigned t-1 t-3"]),
            (Metadata(&[("t", 6), ("u", 1)]), &[]),
            (Partitions(&[("t", 3), ("t", 5)]), &["assigned t-5", "release t-1"]),
            (Released, &[]),
        ]);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_handed_back_and_holds_nothing_up() {
        check(&[
            (Metadata(&[("t", 1), ("u", 1), ("v", 1)]), &[]),
            (Topics(&["t"]), &["assigned t-0"]),
            (Topics(&["u"]), &["assigned u-0", "release t-0"]),
            // While t is handed back, it is wanted again, and u is not.
            (Topics(&["t", "v"]), &["assigned v-0"]),
            (Released, &["assigned t-0", "release u-0"]),
            (Released, &[]),
            (Topics(&[]), &["release t-0 v-0"]),
            (Released, &[]),
        ]);
    }

    #[test]
    fn what_is_only_not_to_be_seen_stays() {
        check(&[
            (Topics(&["t"]), &[]),
            (Metadata(&[("t", 2)]), &["assigned t-0 t-1"]),
            (Metadata(&[("t", -1)]), &[]),
            (Metadata(&[]), &[]),
            (Metadata(&[("t", 2)]), &[]),
        ]);
    }

    #[test]
    fn what_its_topic_does_not_have_any_more_is_lost() {
        check(&[
            (Topics(&["t"]), &[]),
            (Metadata(&[("t", 3)]), &["assigned t-0 t-1 t-2"]),
            (Metadata(&[("t", 1)]), &["lost t-1 t-2"]),
            (Metadata(&[("t", 2)]), &["assigned t-1"]),
            (Topics(&[]), &["release t-0 t-1"]),
            (Metadata(&[("t", 1)]), &["lost t-1"]),
            // It is not held when the release is over, and not wanted either.
            (Released, &[]),
            (Topics(&["t"]), &["assigned t-0"]),
        ]);
    }

    #[test]
    fn a_partition_that_does_not_exist_is_looked_for_and_told_once() {
        let missing = "t-7 does not exist: topic t has 2 partitions, counted from 0";
        check(&[
            (Metadata(&[("t", 2)]), &[]),
            (Partitions(&[("t", 1), ("t", 7)]), &["assigned t-1"]),
            // Twice as long from look to look: after 0.1, 0.3, 0.7 and 1.5 s.
            (Pass(2_200), &["look", "look", "look", "look"]),
            (Metadata(&[("t", 2)]), &[]),
            (Pass(1_000), &["look"]),
            (Metadata(&[("t", 2)]), &[missing]),
            (Metadata(&[("t", 2)]), &[]),
            (Pass(8_000), &["look", "look"]),
            (Metadata(&[("t", 8)]), &["assigned t-7"]),
            (Pass(60_000), &[]),
        ]);
        // Of a topic that is missing as a whole, others tell.
        check(&[(Partitions(&[("t", 7)]), &[]), (Metadata(&[("t", -1)]), &[]), (Pass(60_000), &[]), (Metadata(&[]), &[])]);
    }

    #[test]
    fn who_leaves_takes_on_nothing_more() {
        check(&[
            (Metadata(&[("t", 1)]), &[]),
            (Partitions(&[("t", 0), ("t", 1)]), &["assigned t-0"]),
            (Leave, &["left"]),
            (Metadata(&[("t", 2)]), &[]),
            (Pass(60_000), &[]),
            (Leave, &[]),
        ]);
    }
}
