//! Answers questions about offsets: where logs begin and end, what a group has committed. Whoever asks is in no group.
//!
//! ```text
//!  committed, lag ──► FindCoordinator ──► OffsetFetch, no topics named ──► committed: answered
//!                         ▲      NOT_COORDINATOR │                              │ lag: all partitions of its topics
//!                         └──────────────────────┘                              ▼
//!  beginning, end, … ──► topics ── Metadata ──► partitions ── ListOffsets, one to each leader ──► answered
//!                                                   ▲   NOT_LEADER, lost, left out │
//!                                                   └──────────────────────────────┘
//! ```
//!
//! A question is answered once: when there is nothing more to ask, or when its time has passed. What passes by itself is tried again with a
//! back-off, what does not is an error of its topic or partition at once; the others' answers are not held up by it.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{OffsetsError, OffsetsErrorKind},
    model::{BrokerId, Position, TopicOrPartition, TopicPartition, is_topic_name, no_topic_name},
    proto::{
        Ask, ClusterView, Deadline, MISSING_AFTER, Owner, Target,
        backoff::{Backoff, Pace, Rng},
        earliest,
    },
    wire::{Broker, ErrorCode, Isolation, ListOffsetsPartition, Request, Timestamp},
};

/// After how many failures in a row an answer that makes no sense is not hoped to become a better one.
const TRIES_MAX: u32 = 5;
/// Requests have no room for a longer one.
const GROUP_NAME_MAX: usize = i16::MAX as usize;
/// How much of a name that cannot be one is shown.
const TOPIC_NAME_SHOWN: usize = 249;

#[derive(Clone, Debug)]
pub(crate) struct LookupConfig {
    pub(crate) isolation: Isolation,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    /// Where these partitions have this moment.
    List { of: Vec<TopicOrPartition>, at: Timestamp },
    /// What a group has committed.
    Committed { group: Arc<str> },
    /// The same, and where the partitions of its topics end.
    Lag { group: Arc<str> },
}

/// What a question led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) committed: BTreeMap<TopicPartition, Commit>,
    /// `None`: the partition has no such record.
    pub(crate) listed: BTreeMap<TopicPartition, Option<Listed>>,
    /// Of topics and partitions for which there is no answer.
    pub(crate) errors: Vec<OffsetsError>,
}

pub(crate) type Outcome = Result<Found, OffsetsError>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    pub(crate) position: Position,
    pub(crate) metadata: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) position: Position,
    pub(crate) timestamp_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LookupEvent<T> {
    /// The only answer to the question that came with the ticket.
    Answered {
        ticket: T,
        outcome: Outcome,
    },
    /// What has to be known of the cluster, from now on.
    WatchTopics(BTreeSet<Arc<str>>),
    /// A broker was named that metadata may not know.
    Coordinator(Broker),
    RefreshMetadata,
}

/// The machine; see the [module](self). `T` is whatever an answer has to find its asker by.
pub(crate) struct Lookup<T> {
    tools: Tools,
    inquiries: BTreeMap<u64, Inquiry<T>>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    watched: BTreeSet<Arc<str>>,
    /// What is wrong with the whole cluster just now, if anything is.
    trouble: Option<String>,
    events: VecDeque<LookupEvent<T>>,
}

struct Tools {
    config: LookupConfig,
    rng: Rng,
    pace: Pace,
    /// What is known of the cluster seems to be old.
    refresh: bool,
}

/// One question, and what is still to be asked for it.
struct Inquiry<T> {
    ticket: T,
    timeout: Duration,
    deadline: Instant,
    at: Timestamp,
    group: Option<Group>,
    /// Topics whose partitions are not known yet.
    topics: BTreeMap<Arc<str>, Pending>,
    partitions: BTreeMap<TopicPartition, Pending>,
    found: Found,
}

/// A group whose committed offsets are not known yet.
struct Group {
    name: Arc<str>,
    /// `None`: to be found.
    coordinator: Option<BrokerId>,
    pending: Pending,
    /// Where its partitions end is to be asked next.
    with_ends: bool,
}

/// Something still without an answer.
struct Pending {
    /// The call that asks for it.
    call: Option<u64>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// Since when brokers say that there is no such thing.
    missing_since: Option<Instant>,
    /// Metadata know of no such thing: it waits for better ones.
    absent: bool,
    /// How many answers in a row made no sense.
    nonsense: u32,
    /// What came of asking last.
    last: Option<String>,
}

struct Call {
    inquiry: u64,
    kind: Kind,
    partitions: BTreeSet<TopicPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Find,
    Committed(BrokerId),
    List(BrokerId),
}

/// What metadata say of a topic or a partition.
enum Sight {
    Good,
    /// Nothing yet.
    Unseen,
    /// It is there, and cannot be asked for yet.
    NotYet(String),
    /// There is no such thing, as far as the broker knows that was asked.
    Missing(String),
    Refused(OffsetsErrorKind, String),
}

impl<T> Lookup<T> {
    pub(crate) fn new(config: LookupConfig) -> Self {
        let (rng, pace) = (Rng::new(config.seed), Pace::new(config.retry_backoff));
        Self {
            tools: Tools { config, rng, pace, refresh: false },
            inquiries: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            watched: BTreeSet::new(),
            trouble: None,
            events: VecDeque::new(),
        }
    }

    /// Takes a question in, which is answered within `timeout`. `id` is for [`forget`](Self::forget), and used once.
    pub(crate) fn ask(&mut self, now: Instant, id: u64, question: Question, timeout: Duration, ticket: T) {
        let (mut topics, mut partitions, mut at, mut group) = (BTreeMap::new(), BTreeMap::new(), Timestamp::Latest, None);
        let mut found = Found::default();
        match question {
            Question::List { of, at: sought } => {
                at = sought;
                for of in of {
                    match of {
                        // Asked of a broker, it would be the end of the connection on which others ask.
                        TopicOrPartition::Topic(topic) if !is_topic_name(&topic) => found.errors.push(no_name(topic)),
                        TopicOrPartition::Partition(of) if !is_topic_name(of.topic()) => {
                            found.errors.push(no_name(Arc::clone(of.shared_topic())));
                        }
                        TopicOrPartition::Topic(topic) => drop(topics.insert(topic, self.tools.pending())),
                        TopicOrPartition::Partition(partition) => drop(partitions.insert(partition, self.tools.pending())),
                    }
                }
            }
            Question::Committed { group: name } | Question::Lag { group: name }
                if !(1..=GROUP_NAME_MAX).contains(&name.len()) =>
            {
                let message = format!("a consumer group needs a name, of {GROUP_NAME_MAX} bytes at most");
                let error = OffsetsError { kind: OffsetsErrorKind::Refused, topic: None, partition: None, message };
                return self.events.push_back(LookupEvent::Answered { ticket, outcome: Err(error) });
            }
            Question::Committed { group: name } => group = Some(self.tools.group(name, false)),
            Question::Lag { group: name } => group = Some(self.tools.group(name, true)),
        }
        // What is known of a topic for another question's sake may be old.
        if topics.keys().any(|topic| self.watched.contains(topic)) {
            self.refresh();
        }
        let deadline = now + timeout;
        self.inquiries.insert(id, Inquiry { ticket, timeout, deadline, at, group, topics, partitions, found });
        self.watch();
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget(&mut self, id: u64) {
        if self.inquiries.remove(&id).is_some() {
            self.calls.retain(|_, call| call.inquiry != id);
            self.watch();
        }
    }

    /// Takes in what is wrong with the cluster as a whole, or that nothing is any more: for the text of errors.
    pub(crate) fn handle_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Nothing good can come of asking on.
    pub(crate) fn fail_all(&mut self, kind: OffsetsErrorKind, message: &str) {
        for id in self.inquiries.keys().copied().collect::<Vec<_>>() {
            self.answer(id, Some(OffsetsError { kind, topic: None, partition: None, message: message.to_owned() }));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (id, inquiry) in &mut self.inquiries {
            if inquiry.deadline <= now {
                late.push(*id);
            }
            inquiry.all_pending().for_each(|pending| pending.retry_at = pending.retry_at.filter(|at| *at > now));
        }
        for id in late {
            self.time_out(id);
        }
    }

    /// Asks the coordinators and the leaders, each leader for all partitions of a question at once.
    ///
    /// What `view` alone can answer is answered here, so events may follow also where there is nothing to ask.
    #[must_use]
    pub(crate) fn poll_ask(&mut self, now: Instant, view: &ClusterView) -> Option<Ask> {
        for id in self.inquiries.keys().copied().collect::<Vec<_>>() {
            let Some(inquiry) = self.inquiries.get_mut(&id) else { continue };
            inquiry.look_at(now, view, &mut self.tools);
            if std::mem::take(&mut self.tools.refresh) {
                self.refresh();
            }
            let Some(inquiry) = self.inquiries.get_mut(&id) else { continue };
            if inquiry.is_answered() {
                self.answer(id, None);
            } else if let Some((kind, partitions, to, request)) = inquiry.next_ask(now, view, self.tools.config.isolation) {
                return Some(self.call(id, kind, partitions, to, request));
            }
        }
        None
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<LookupEvent<T>> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let deadline = self.inquiries.values().map(|inquiry| inquiry.deadline).min();
        let retry = self.inquiries.values().filter_map(Inquiry::retry_at).min();
        earliest(deadline.map(|at| (at, "time of a question about offsets")), retry.map(|at| (at, "lookup retry")))
    }

    fn call(&mut self, id: u64, kind: Kind, partitions: BTreeSet<TopicPartition>, to: Target, request: Request) -> Ask {
        let call = self.next_call;
        self.next_call += 1;
        if let Some(inquiry) = self.inquiries.get_mut(&id) {
            inquiry.asked(kind, &partitions).for_each(|pending| (pending.call, pending.retry_at) = (Some(call), None));
        }
        self.calls.insert(call, Call { inquiry: id, kind, partitions });
        Ask { owner: Owner::Lookup(call), to, request, timeout: self.tools.config.request_timeout }
    }

    /// Ends a question: with what was found, or with an error that concerns all of it.
    fn answer(&mut self, id: u64, error: Option<OffsetsError>) {
        let Some(Inquiry { ticket, found, .. }) = self.inquiries.remove(&id) else { return };
        self.calls.retain(|_, call| call.inquiry != id);
        let outcome = error.map_or(Ok(found), Err);
        self.events.push_back(LookupEvent::Answered { ticket, outcome });
        self.watch();
    }

    /// Says of everything without an answer what it waited for.
    fn time_out(&mut self, id: u64) {
        let Some(inquiry) = self.inquiries.get_mut(&id) else { return };
        let trouble = self.trouble.as_ref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        let (timeout, at, calls) = (inquiry.timeout, inquiry.at, &self.calls);
        let error = |tried: String, pending: &Pending, topic, partition| {
            let waited = pending.waited_for(calls);
            let message = format!(
                "cannot find {tried} within {timeout:?}: {waited}{trouble}; check the brokers' health, or give it more time (`timeout`)"
            );
            OffsetsError { kind: OffsetsErrorKind::TimedOut, topic, partition, message }
        };
        if let Some(group) = &inquiry.group {
            let error = error(format!("what group {} has committed", group.name), &group.pending, None, None);
            return self.answer(id, Some(error));
        }
        for (topic, pending) in &inquiry.topics {
            let error = error(format!("the partitions of topic {topic}"), pending, Some(Arc::clone(topic)), None);
            inquiry.found.errors.push(error);
        }
        // Of a topic that is told as a whole, not each partition by itself.
        let others = inquiry.partitions.iter().filter(|(partition, _)| !inquiry.topics.contains_key(partition.topic()));
        for (partition, pending) in others {
            let tried = format!("{} of {partition}", name_of(at));
            let (topic, number) = (Arc::clone(partition.shared_topic()), partition.partition());
            inquiry.found.errors.push(error(tried, pending, Some(topic), Some(number)));
        }
        self.answer(id, None);
    }

    fn refresh(&mut self) {
        let is_asked = self.events.iter().any(|event| matches!(event, LookupEvent::RefreshMetadata));
        if !is_asked {
            self.events.push_back(LookupEvent::RefreshMetadata);
        }
    }

    /// Says which topics all questions together are about, where that is news.
    fn watch(&mut self) {
        let named = |inquiry: &Inquiry<T>| {
            let of_partitions = inquiry.partitions.keys().map(|partition| Arc::clone(partition.shared_topic()));
            inquiry.topics.keys().cloned().chain(of_partitions).collect::<Vec<_>>()
        };
        let watched: BTreeSet<_> = self.inquiries.values().flat_map(named).collect();
        if watched != self.watched {
            self.watched = watched.clone();
            self.events.push_back(LookupEvent::WatchTopics(watched));
        }
    }
}

impl<T> Inquiry<T> {
    fn is_answered(&self) -> bool {
        self.group.is_none() && self.topics.is_empty() && self.partitions.is_empty()
    }

    fn all_pending(&mut self) -> impl Iterator<Item = &mut Pending> {
        let group = self.group.as_mut().map(|group| &mut group.pending);
        group.into_iter().chain(self.topics.values_mut()).chain(self.partitions.values_mut())
    }

    /// What a call asked for.
    fn asked(&mut self, kind: Kind, partitions: &BTreeSet<TopicPartition>) -> impl Iterator<Item = &mut Pending> {
        let group = self.group.as_mut().filter(|_| !matches!(kind, Kind::List(_))).map(|group| &mut group.pending);
        let partitions = self.partitions.iter_mut().filter(|(partition, _)| partitions.contains(*partition));
        group.into_iter().chain(partitions.map(|(_, pending)| pending))
    }

    fn retry_at(&self) -> Option<Instant> {
        let group = self.group.as_ref().map(|group| &group.pending);
        let all = group.into_iter().chain(self.topics.values()).chain(self.partitions.values());
        all.filter(|pending| pending.call.is_none()).filter_map(|pending| pending.retry_at).min()
    }

    /// Takes over what metadata say: which partitions a topic has, and what there is not.
    fn look_at(&mut self, now: Instant, view: &ClusterView, tools: &mut Tools) {
        for (topic, mut pending) in std::mem::take(&mut self.topics) {
            match see(view, &topic, None) {
                Sight::Good => {
                    let count = view.topics.get(&topic).map_or(0, |topic| topic.partitions.len());
                    for number in (0..).take(count) {
                        let partition = TopicPartition::new(Arc::clone(&topic), number);
                        self.partitions.entry(partition).or_insert_with(|| tools.pending());
                    }
                    continue;
                }
                Sight::Refused(kind, why) => self.fail_topic(topic, kind, &why),
                Sight::Missing(why) if pending.is_missing_for_good(now) => {
                    self.fail_topic(topic, OffsetsErrorKind::UnknownTopic, &why);
                }
                sight => {
                    pending.wait(now, sight, tools);
                    self.topics.insert(topic, pending);
                }
            }
        }
        let mut failed = Vec::new();
        for (partition, pending) in self.partitions.iter_mut().filter(|(_, pending)| pending.call.is_none()) {
            match see(view, partition.topic(), Some(partition.partition())) {
                Sight::Good => {
                    if std::mem::take(&mut pending.absent) {
                        (pending.retry_at, pending.missing_since) = (None, None);
                    }
                }
                Sight::Refused(kind, why) => failed.push((partition.clone(), kind, why)),
                Sight::Missing(why) if pending.is_missing_for_good(now) => {
                    failed.push((partition.clone(), OffsetsErrorKind::UnknownTopic, why));
                }
                // A topic that is not there is looked for anyway, but nobody looks for a further partition.
                sight => tools.refresh |= pending.wait(now, sight, tools),
            }
        }
        for (partition, kind, why) in failed {
            self.fail(&partition, kind, &why);
        }
    }

    /// Chooses whom to ask next, and for what.
    fn next_ask(
        &self,
        now: Instant,
        view: &ClusterView,
        isolation: Isolation,
    ) -> Option<(Kind, BTreeSet<TopicPartition>, Target, Request)> {
        if let Some(group) = self.group.as_ref().filter(|group| group.pending.is_ready(now)) {
            let name = Arc::clone(&group.name);
            let (kind, to, request) = match group.coordinator {
                None => (Kind::Find, Target::Any, Request::FindCoordinator { group: name }),
                Some(id) => (Kind::Committed(id), Target::Broker(id), Request::GroupOffsets { group: name }),
            };
            return Some((kind, BTreeSet::new(), to, request));
        }
        let ready = self.partitions.iter().filter(|(_, pending)| pending.is_ready(now));
        let mut led = ready.filter_map(|(partition, _)| {
            let known = view.partition(partition)?;
            Some((known.leader?, partition, known))
        });
        let (leader, first, known) = led.next()?;
        let same = led.filter(|(of, ..)| *of == leader).map(|(_, partition, known)| (partition, known));
        let partitions: Vec<_> = std::iter::once((first, known))
            .chain(same)
            .map(|(partition, known)| ListOffsetsPartition {
                partition: partition.clone(),
                current_leader_epoch: known.leader_epoch,
                timestamp: self.at,
            })
            .collect();
        let asked = partitions.iter().map(|asked| asked.partition.clone()).collect();
        Some((Kind::List(leader), asked, Target::Broker(leader), Request::ListOffsets { isolation, partitions }))
    }

    /// There is no answer for a whole topic, nor for any partition of it.
    fn fail_topic(&mut self, topic: Arc<str>, kind: OffsetsErrorKind, why: &str) {
        self.partitions.retain(|partition, _| *partition.topic() != *topic);
        let message = format!("cannot find {} of topic {topic}: {why}", name_of(self.at));
        self.found.errors.push(OffsetsError { kind, topic: Some(topic), partition: None, message });
    }

    fn fail(&mut self, partition: &TopicPartition, kind: OffsetsErrorKind, why: &str) {
        if self.partitions.remove(partition).is_some() {
            let message = format!("cannot find {} of {partition}: {why}", name_of(self.at));
            let (topic, number) = (Arc::clone(partition.shared_topic()), partition.partition());
            self.found.errors.push(OffsetsError { kind, topic: Some(topic), partition: Some(number), message });
        }
    }
}

impl Pending {
    fn is_ready(&self, now: Instant) -> bool {
        self.call.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    fn is_missing_for_good(&self, now: Instant) -> bool {
        self.missing_since.is_some_and(|since| since + MISSING_AFTER <= now)
    }

    /// Notes why it cannot be asked for yet. Says whether it is time for another look at the cluster.
    fn wait(&mut self, now: Instant, sight: Sight, tools: &mut Tools) -> bool {
        match sight {
            Sight::Missing(why) => {
                let since = *self.missing_since.get_or_insert(now);
                (self.absent, self.last) = (true, Some(why));
                let is_time = self.is_ready(now);
                if is_time {
                    let retry_at = tools.pace.after(now, self.backoff.fail(&mut tools.rng));
                    self.retry_at = Some(retry_at.min(since + MISSING_AFTER));
                }
                return is_time;
            }
            Sight::NotYet(why) => self.last = Some(why),
            Sight::Unseen | Sight::Good | Sight::Refused(..) => {}
        }
        false
    }

    fn waited_for(&self, calls: &BTreeMap<u64, Call>) -> String {
        let asked = self.call.and_then(|call| calls.get(&call)).map(|call| match call.kind {
            Kind::Find => "no broker answered FindCoordinator".to_owned(),
            Kind::Committed(broker) => format!("broker {} did not answer OffsetFetch", broker.0),
            Kind::List(broker) => format!("broker {} did not answer ListOffsets", broker.0),
        });
        match (asked, &self.last) {
            (Some(asked), Some(last)) => format!("{asked}, and before {last}"),
            (Some(asked), None) => asked,
            (None, Some(last)) => last.clone(),
            (None, None) => "no broker answered Metadata".to_owned(),
        }
    }
}

impl Tools {
    fn pending(&self) -> Pending {
        let backoff = Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max);
        Pending { call: None, backoff, retry_at: None, missing_since: None, absent: false, nonsense: 0, last: None }
    }

    fn group(&self, name: Arc<str>, with_ends: bool) -> Group {
        Group { name, coordinator: None, pending: self.pending(), with_ends }
    }
}

/// Reads in metadata about a partition, or about a topic as a whole.
fn see(view: &ClusterView, topic: &str, number: Option<i32>) -> Sight {
    let Some(known) = view.topics.get(topic) else { return Sight::Unseen };
    match known.error {
        ErrorCode::NONE => {}
        error @ ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            let why = format!("this user may not look at the topic: {error}; allow Describe on it");
            return Sight::Refused(OffsetsErrorKind::Unauthorized, why);
        }
        error @ ErrorCode::INVALID_TOPIC_EXCEPTION => {
            let why = format!("that is no name for a topic: {error}");
            return Sight::Refused(OffsetsErrorKind::UnknownTopic, why);
        }
        error @ ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            return Sight::Missing(format!(
                "the topic does not exist, or this user may not describe it: {error}; check its name, or create it"
            ));
        }
        error => return Sight::NotYet(format!("a broker answered Metadata with {error}")),
    }
    let count = known.partitions.len();
    match number.map(|number| usize::try_from(number).ok().and_then(|number| known.partitions.get(number))) {
        None if count > 0 => Sight::Good,
        None => Sight::NotYet("no broker tells its partitions".to_owned()),
        Some(None) => Sight::Missing(format!("the topic has {count} partitions, counted from 0; check the number")),
        Some(Some(partition)) if partition.leader.is_none() => Sight::NotYet("no broker leads it".to_owned()),
        Some(Some(_)) => Sight::Good,
    }
}

/// No topic can have this name.
fn no_name(topic: Arc<str>) -> OffsetsError {
    let shown: String = topic.chars().take(TOPIC_NAME_SHOWN).collect();
    let message = format!("{}; check it", no_topic_name(&shown));
    OffsetsError { kind: OffsetsErrorKind::UnknownTopic, topic: Some(topic), partition: None, message }
}

/// Names what is asked for, for the text of an error.
fn name_of(at: Timestamp) -> String {
    match at {
        Timestamp::Earliest => "the beginning".to_owned(),
        Timestamp::Latest => "the end".to_owned(),
        Timestamp::Newest => "the newest record".to_owned(),
        Timestamp::AtMs(timestamp_ms) => format!("the first record since {timestamp_ms} ms"),
    }
}

#[cfg(test)]
mod tests;
