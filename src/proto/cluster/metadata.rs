//! What is known of the topics, and when to ask again.
//!
//! One Metadata request is in flight at most. The next one is sent
//!
//! * at once when a topic is new, or when an error elsewhere calls for it; again and again only with a back-off,
//! * with a back-off while a wanted topic or a leader is missing, or no topic matches where nothing else is wanted: this never stops, because
//!   nothing else would notice a topic that is created, or a leader that is elected, later,
//! * when what is known has reached its age, whatever else happens or does not.
//!
//! Of a topic that the group's coordinator assigned, only the id may be known: what it is called is asked for in a request of its own, again and
//! again with a back-off, until it is known or not wanted any more. From then on the topic is asked for by its name, like any other.
//!
//! Where that has failed for long, or a broker says so, all that is known of the brokers is forgotten, and the bootstrap addresses tell it anew.
//!
//! What is known never goes back: brokers learn of a new leader one after the other, so the answer of one may be older than that of
//! another. A leader epoch that is lower than the known one is not believed unless it stays so. Nor is a topic that matches the pattern taken
//! for gone before it has been missing for a while.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{ClusterConfig, Complaint, Pace, racks::BrokerRacks};
use crate::{
    model::{BrokerId, LeaderEpoch, TopicId, TopicPartition},
    proto::{
        CallError, ClusterView, Deadline, MISSING_AFTER, PartitionView, Problem, ProblemKind, TopicView,
        backoff::{Backoff, Rng},
        earliest,
        selection::TopicPattern,
    },
    wire::{Broker, ErrorCode, MetadataResponse, MetadataTopic, Request},
};

/// How long every broker must insist on a lower leader epoch or fewer partitions before it is believed: the topic was made anew, on
/// brokers that do not know topic ids.
const HELD_BACK_FOR: Duration = Duration::from_secs(15);
/// After this many looks for what is missing, about a minute, they become rarer.
const EAGER_LOOKS: u32 = 60;
const RARER_BY: u32 = 4;
/// How long the first attempt may take. A broker that hangs must not hold up the news for a whole request timeout; each attempt that
/// fails is given twice the time of the one before.
const PATIENCE: Duration = Duration::from_secs(5);
/// After how many failures in a row the user hears of an answer that makes no sense: each attempt asks another broker, and one that does is
/// enough.
const NONSENSE_AFTER: u32 = 4;

/// What the other machines want to know of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Who wants a topic by its name is told that it is missing.
    pub(crate) named: BTreeSet<Arc<str>>,
    /// Topics that nobody wants any more, and of which something is still held: their leaders are known until it is given back.
    pub(crate) held: BTreeSet<Arc<str>>,
    /// All topics that match are wanted as well.
    pub(crate) pattern: Option<Arc<TopicPattern>>,
    /// Topics of which only the id is known.
    pub(crate) ids: BTreeSet<TopicId>,
}

pub(super) struct Metadata {
    max_age: Duration,
    rebootstrap_trigger: Duration,
    request_timeout: Duration,
    wanted: Wanted,
    /// The topics that match the pattern, without one none; not known before all topics were asked for.
    matching: Option<BTreeSet<Arc<str>>>,
    /// What topics are called that are wanted by their ids, as far as that is known.
    identified: BTreeMap<TopicId, Arc<str>>,
    view: Arc<ClusterView>,
    /// What the request in flight asks about.
    asked: Option<Asked>,
    succeeded: Option<Instant>,
    /// Since when there was no answer of use to what is asked, or since what is known of the brokers was forgotten for it.
    failing_since: Option<Instant>,
    /// A broker asked for it: what is known of the brokers is to be forgotten.
    starts_over: bool,
    /// It was done, and no answer of use has come since.
    started_over: bool,
    /// The next request because of an error or a new topic.
    urgent: Option<(Instant, &'static str)>,
    errors: Pace,
    /// The next look for what is missing.
    look: Option<Instant>,
    looks: Backoff,
    /// The next look for what is wanted by its id.
    id_look: Option<Instant>,
    id_looks: Backoff,
    /// After an attempt that failed: nothing is sent before.
    retry: Option<Instant>,
    retries: Backoff,
    topics: BTreeMap<Arc<str>, Trouble>,
    /// Nothing matches the pattern, and nothing else is wanted.
    unmatched: Option<Trouble>,
    /// What is wanted by its id may not be described.
    undescribed: Complaint,
    racks: BrokerRacks,
    /// Since when an answer's older news about a topic is not believed.
    held_back: BTreeMap<Arc<str>, Instant>,
    trouble: Complaint,
    problems: VecDeque<Problem>,
}

#[derive(Default)]
struct Asked {
    topics: BTreeSet<Arc<str>>,
    /// All topics were asked for, because of it.
    pattern: Option<Arc<TopicPattern>>,
    /// Only what is wanted by its id was asked for.
    by_id: bool,
}

/// A wanted topic whose partitions are not known.
struct Trouble {
    since: Instant,
    told: Option<ProblemKind>,
}

impl Metadata {
    pub(super) fn new(config: &ClusterConfig) -> Self {
        Self {
            max_age: config.metadata_max_age,
            rebootstrap_trigger: config.rebootstrap_trigger,
            request_timeout: config.request_timeout,
            wanted: Wanted::default(),
            matching: Some(BTreeSet::new()),
            identified: BTreeMap::new(),
            view: Arc::default(),
            asked: None,
            succeeded: None,
            failing_since: None,
            starts_over: false,
            started_over: false,
            urgent: None,
            errors: Pace::new(config.retry_backoff, config.retry_backoff_max),
            look: None,
            looks: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            id_look: None,
            id_looks: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            retry: None,
            retries: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            topics: BTreeMap::new(),
            unmatched: None,
            undescribed: Complaint::default(),
            racks: BrokerRacks::default(),
            held_back: BTreeMap::new(),
            trouble: Complaint::default(),
            problems: VecDeque::new(),
        }
    }

    pub(super) fn view(&self) -> &Arc<ClusterView> {
        &self.view
    }

    /// The topics that match the pattern, none where there is no pattern; `None` until they are known.
    pub(super) fn matching(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.matching.as_ref()
    }

    /// Replaces the topics of interest; a new one is asked about at once.
    pub(super) fn want(&mut self, now: Instant, wanted: Wanted) {
        let before = self.of_interest();
        let is_another = match (&self.wanted.pattern, &wanted.pattern) {
            (Some(former), Some(pattern)) => !Arc::ptr_eq(former, pattern),
            (former, pattern) => former.is_some() != pattern.is_some(),
        };
        let former_ids = std::mem::replace(&mut self.wanted, wanted).ids;
        self.identified.retain(|id, _| self.wanted.ids.contains(id));
        let unnamed = self.unnamed();
        if unnamed.is_empty() {
            self.id_look = None;
        } else if !unnamed.is_subset(&former_ids) {
            self.id_look = Some(now);
            self.id_looks.reset();
        }
        if is_another {
            self.matching = self.wanted.pattern.is_none().then(BTreeSet::new);
            self.unmatched = None;
        }
        let after = self.of_interest();
        if !after.is_subset(&before) || self.matching.is_none() && is_another {
            self.urgent = Some((now, "new topics"));
            self.looks.reset();
        }
        self.topics.retain(|topic, _| after.contains(topic));
        self.held_back.retain(|topic, _| after.contains(topic));
        if self.view.topics.keys().any(|topic| !after.contains(topic)) {
            let view = Arc::make_mut(&mut self.view);
            view.topics.retain(|topic, _| after.contains(topic));
            view.revision += 1;
        }
    }

    fn of_interest(&self) -> BTreeSet<Arc<str>> {
        let Wanted { named, held, .. } = &self.wanted;
        named.iter().chain(held).chain(self.matching.iter().flatten()).chain(self.identified.values()).cloned().collect()
    }

    /// The topics that are wanted by their ids, and of which there is none with this id in what is known.
    fn unnamed(&self) -> BTreeSet<TopicId> {
        if self.wanted.ids.is_empty() {
            return BTreeSet::new();
        }
        let known = self.view.topics.values().filter_map(|topic| topic.id).collect();
        self.wanted.ids.difference(&known).copied().collect()
    }

    /// Asks for news because of an error: at once, unless there were errors just before.
    pub(super) fn refresh(&mut self, now: Instant, why: &'static str, rng: &mut Rng) {
        if self.urgent.is_none() {
            self.urgent = Some((self.errors.next(now, rng), why));
        }
    }

    /// Whether this partition's leader is older news than what a broker just told; if so, takes it over.
    pub(super) fn hint(&mut self, partition: &TopicPartition, leader: BrokerId, epoch: LeaderEpoch) -> bool {
        let Some(known) = self.view.partition(partition) else { return false };
        if known.leader_epoch.is_some_and(|known| known >= epoch) {
            return false;
        }
        let view = Arc::make_mut(&mut self.view);
        let known = view.topics.get_mut(partition.topic()).and_then(|t| t.partitions.get_mut(partition.partition() as usize));
        if let Some(known) = known {
            (known.leader, known.leader_epoch) = (Some(leader), Some(epoch));
            view.revision += 1;
        }
        true
    }

    /// What to ask now, if it is time, with the time the answer may take.
    #[must_use]
    pub(super) fn poll_request(&mut self, now: Instant) -> Option<(Request, Duration)> {
        let (_, why) = self.ask_deadline().filter(|(at, _)| *at <= now)?;
        self.retry = None;
        self.failing_since.get_or_insert(now);
        let request = if self.id_look.take_if(|at| *at <= now).is_some() { self.ask_by_id(why) } else { self.ask(why) };
        let patience = PATIENCE.saturating_mul(1 << self.retries.failures().min(8)).min(self.request_timeout);
        Some((request, patience))
    }

    fn ask_by_id(&mut self, why: &str) -> Request {
        let topics: Vec<TopicId> = self.unnamed().into_iter().collect();
        tracing::debug!(why, topics = topics.len(), "metadata by topic id");
        self.asked = Some(Asked { by_id: true, ..Asked::default() });
        Request::MetadataById { topics }
    }

    fn ask(&mut self, why: &str) -> Request {
        let (topics, pattern) = (self.of_interest(), self.wanted.pattern.clone());
        tracing::debug!(why, topics = topics.len(), all = pattern.is_some(), "metadata refresh");
        (self.urgent, self.look) = (None, None);
        let listed = pattern.is_none().then(|| topics.iter().cloned().collect());
        self.asked = Some(Asked { topics, pattern, by_id: false });
        Request::Metadata { topics: listed }
    }

    /// Says why all that is known of the brokers is to be forgotten, if it is. While none is reached it helps nobody: the bootstrap addresses are
    /// tried as well, and the known ones may come back sooner.
    #[must_use]
    pub(super) fn poll_start_over(&mut self, now: Instant, is_reached: bool) -> Option<&'static str> {
        let is_asked_for = std::mem::take(&mut self.starts_over);
        if !is_asked_for {
            self.start_over_deadline().filter(|(at, _)| *at <= now)?;
        }
        self.failing_since = Some(now);
        if !is_reached {
            return None;
        }
        self.started_over = true;
        Some(if is_asked_for { "a broker asks for it" } else { "metadata could not be refreshed for long" })
    }

    /// Whether the last answer left nothing to be looked for.
    pub(super) fn is_satisfied(&self) -> bool {
        self.look.is_none() && self.id_look.is_none() && self.retry.is_none()
    }

    /// Takes an answer in, and hands on the brokers it names if it was of use.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        answer: Result<MetadataResponse, CallError>,
        rng: &mut Rng,
    ) -> Option<Vec<Broker>> {
        let asked = self.asked.take()?;
        let answer = match answer {
            Ok(answer) if answer.error != ErrorCode::NONE => {
                // Once is enough: who has started over asks whom the bootstrap addresses lead to, and another of them.
                self.starts_over = answer.error == ErrorCode::REBOOTSTRAP_REQUIRED && !self.started_over;
                let why = format!("the brokers answer {}, also those to which the bootstrap addresses lead", answer.error);
                self.handle_failure(now, &asked, &CallError::NotSent(why.clone()), rng);
                if self.retries.failures() >= NONSENSE_AFTER {
                    self.complain(now, ProblemKind::Unreachable, why);
                }
                return None;
            }
            // A broker that knows no broker, not even itself, is just starting.
            Ok(answer) if answer.brokers.is_empty() => {
                self.handle_failure(now, &asked, &CallError::NotSent("the answer names no broker".to_owned()), rng);
                return None;
            }
            Ok(answer) => answer,
            Err(error) => {
                self.handle_failure(now, &asked, &error, rng);
                return None;
            }
        };
        self.retries.reset();
        (self.failing_since, self.started_over) = (None, false);
        self.trouble.is_over();
        if !asked.by_id {
            self.succeeded = Some(now);
        }
        self.racks.hear(&answer.brokers);
        self.identify(now, &answer.topics);
        let brokers: BTreeSet<BrokerId> = answer.brokers.iter().map(|broker| broker.id).collect();
        let by_name = |topic: MetadataTopic| Some((topic.name.clone()?, topic));
        let mut told: BTreeMap<Arc<str>, MetadataTopic> = answer.topics.into_iter().filter_map(by_name).collect();
        let mut topics = self.view.topics.clone();
        let mut complete = self.match_topics(now, asked.pattern, told.values());
        let of_interest = self.of_interest();
        // Which topics there are is known of all or of those that were asked for.
        let is_told = |name: &&Arc<str>| asked.topics.contains(*name) || told.contains_key(*name);
        for name in of_interest.iter().filter(is_told).cloned().collect::<Vec<_>>() {
            let topic = told.remove(&name);
            let error = topic.as_ref().map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
            match topic {
                Some(topic) if error == ErrorCode::NONE => {
                    self.topics.remove(&name);
                    complete &= self.merge(now, &mut topics, &name, topic, &brokers);
                }
                _ => {
                    complete = false;
                    self.handle_topic_error(now, &mut topics, &name, error);
                }
            }
        }
        let of_interest = self.of_interest();
        topics.retain(|name, _| of_interest.contains(name));
        if topics != self.view.topics {
            let view = Arc::make_mut(&mut self.view);
            view.topics = topics;
            view.revision += 1;
        }
        if !complete {
            self.look = Some(now + next_look(&mut self.looks, rng));
        } else if !asked.by_id {
            self.looks.reset();
        }
        if self.unnamed().is_empty() {
            (self.id_look, self.undescribed) = (None, Complaint::default());
            self.id_looks.reset();
        } else if self.id_look.is_none() {
            self.id_look = Some(now + next_look(&mut self.id_looks, rng));
        }
        Some(answer.brokers)
    }

    #[must_use]
    pub(super) fn poll_problem(&mut self) -> Option<Problem> {
        self.problems.pop_front()
    }

    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        earliest(self.ask_deadline(), self.start_over_deadline())
    }

    fn start_over_deadline(&self) -> Option<Deadline> {
        Some((self.failing_since? + self.rebootstrap_trigger, "metadata: start over from the bootstrap addresses"))
    }

    fn ask_deadline(&self) -> Option<Deadline> {
        if self.asked.is_some() || (planted!(NeverRefreshMetadata) && !self.view.topics.is_empty()) {
            return None;
        }
        let look = self.look.map(|at| (at, "metadata: something is missing"));
        let id_look = self.id_look.map(|at| (at, "metadata: only a topic's id is known"));
        let age = self.succeeded.map(|at| (at + self.max_age, "metadata age"));
        let (at, why) = earliest(earliest(self.urgent, look), earliest(id_look, age))?;
        Some((self.retry.map_or(at, |retry| retry.max(at)), why))
    }

    fn handle_failure(&mut self, now: Instant, asked: &Asked, error: &CallError, rng: &mut Rng) {
        tracing::debug!(%error, "no metadata");
        self.retry = Some(now + self.retries.fail(rng));
        if asked.by_id {
            self.id_look = Some(now);
        } else {
            self.urgent = Some((now, "metadata retry"));
        }
        let kind = match error {
            CallError::Unsupported { .. } => ProblemKind::Incompatible,
            CallError::Malformed(_) if self.retries.failures() < NONSENSE_AFTER => return,
            CallError::Malformed(_) => ProblemKind::Protocol,
            // That no broker can be reached is the router's to tell.
            CallError::NotSent(_) | CallError::Lost(_) => return,
        };
        self.complain(now, kind, error);
    }

    fn complain(&mut self, now: Instant, kind: ProblemKind, why: impl Display) {
        if self.trouble.is_news(now, kind) {
            let what = format!("cannot learn of the cluster's topics, still trying: {why}");
            self.problems.push_back(Problem { kind, partition: None, code: None, what, fatal: false });
        }
    }

    /// Hears what topics are called that are wanted by their ids.
    fn identify(&mut self, now: Instant, told: &[MetadataTopic]) {
        for topic in told {
            let Some(id) = topic.id.filter(|id| self.wanted.ids.contains(id)) else { continue };
            match &topic.name {
                Some(name) if topic.error == ErrorCode::NONE => _ = self.identified.insert(id, Arc::clone(name)),
                _ => _ = self.identified.remove(&id),
            }
            let (error, kind) = (topic.error, ProblemKind::Unauthorized);
            if error == ErrorCode::TOPIC_AUTHORIZATION_FAILED && self.undescribed.is_news(now, kind) {
                let what = format!(
                    "the group assigned a topic that this user may not describe: of the topic with the id {id} the broker says {error}, still \
                     asking; allow Describe and Read on what the group subscribes to"
                );
                self.problems.push_back(Problem { kind, partition: None, code: Some(error), what, fatal: false });
            }
        }
    }

    /// Sees which of all topics match, if it is still the same pattern for which they were asked for. `false`: another look is needed.
    fn match_topics<'a>(
        &mut self,
        now: Instant,
        pattern: Option<Arc<TopicPattern>>,
        told: impl Iterator<Item = &'a MetadataTopic>,
    ) -> bool {
        let (Some(pattern), Some(wanted)) = (pattern, &self.wanted.pattern) else { return true };
        if !Arc::ptr_eq(&pattern, wanted) {
            return true;
        }
        let matching = self.matching.get_or_insert_default();
        let name_of_match = |topic: &MetadataTopic| topic.name.clone().filter(|name| pattern.matches(name, topic.is_internal));
        matching.extend(told.filter_map(name_of_match));
        if !matching.is_empty() || !self.wanted.named.is_empty() {
            self.unmatched = None;
            return true;
        }
        let trouble = self.unmatched.get_or_insert(Trouble { since: now, told: None });
        if trouble.since + MISSING_AFTER <= now && trouble.told.is_none() {
            trouble.told = Some(ProblemKind::UnknownTopic);
            let what = format!(
                "no topic that this user may describe matches {pattern}, still looking; create one, or check the pattern and who may describe \
                 what"
            );
            self.problems.push_back(Problem { kind: ProblemKind::UnknownTopic, partition: None, code: None, what, fatal: false });
        }
        false
    }

    /// Takes over what an answer says of one topic. `false`: another look is needed.
    fn merge(
        &mut self,
        now: Instant,
        topics: &mut BTreeMap<Arc<str>, TopicView>,
        name: &Arc<str>,
        topic: MetadataTopic,
        brokers: &BTreeSet<BrokerId>,
    ) -> bool {
        // Numbered from 0 without a gap; what does not fit is not believed, nor is anything sized by it.
        let mut told = vec![None; topic.partitions.len()];
        for partition in topic.partitions {
            let leader = partition.leader.filter(|leader| brokers.contains(leader));
            if let Some(place) = usize::try_from(partition.partition).ok().and_then(|number| told.get_mut(number)) {
                let racks = self.racks.of(&partition.replicas);
                *place = Some(PartitionView { leader, leader_epoch: partition.leader_epoch, racks });
            }
        }
        let told: Vec<PartitionView> = told.into_iter().map(Option::unwrap_or_default).collect();
        let known = topics.get(name).filter(|known| known.error == ErrorCode::NONE);
        let made_anew = known.is_some_and(|known| known.id.is_some() && topic.id.is_some() && known.id != topic.id);
        let known = known.filter(|_| !made_anew);
        // In the midst of an upgrade some brokers do not tell the id yet.
        let id = topic.id.or(known.and_then(|known| known.id));
        let known = known.map_or(&[][..], |known| &known.partitions);
        let held_back = is_older(known, &told) && *self.held_back.entry(Arc::clone(name)).or_insert(now) + HELD_BACK_FOR > now;
        if !held_back {
            self.held_back.remove(name);
        }
        let partitions = if held_back { newer_of(known, told) } else { told };
        let complete = !held_back && !partitions.is_empty() && partitions.iter().all(|partition| partition.leader.is_some());
        topics.insert(Arc::clone(name), TopicView { error: ErrorCode::NONE, id, partitions });
        complete
    }

    /// A topic that cannot be used: what was known of it is kept for a while, unless it is certain that it is of no use any more.
    fn handle_topic_error(
        &mut self,
        now: Instant,
        topics: &mut BTreeMap<Arc<str>, TopicView>,
        name: &Arc<str>,
        error: ErrorCode,
    ) {
        let trouble = self.topics.entry(Arc::clone(name)).or_insert(Trouble { since: now, told: None });
        let lasts = trouble.since + MISSING_AFTER <= now;
        let kind = match error {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => ProblemKind::Unauthorized,
            _ => ProblemKind::UnknownTopic,
        };
        let certain = matches!(error, ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::INVALID_TOPIC_EXCEPTION);
        let is_known = topics.get(name).is_some_and(|known| known.error == ErrorCode::NONE);
        if certain || lasts || !is_known {
            topics.insert(Arc::clone(name), TopicView { error, id: None, partitions: Vec::new() });
            self.held_back.remove(name);
        }
        if (certain || lasts) && !self.wanted.named.contains(name) && (certain || error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        {
            // It is not there any more, and nobody named it: it does not match, and nothing is said.
            if let Some(matching) = &mut self.matching {
                matching.remove(name);
            }
            self.topics.remove(name);
        } else if (certain || lasts) && trouble.told != Some(kind) {
            trouble.told = Some(kind);
            let what = match error {
                ErrorCode::TOPIC_AUTHORIZATION_FAILED => format!(
                    "this user may not read topic {name}: the broker says {error}, still asking; allow Describe and Read on the topic"
                ),
                ErrorCode::INVALID_TOPIC_EXCEPTION => {
                    format!("{name:?} is not a valid name for a topic: {error}; check the subscription")
                }
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => format!(
                    "topic {name} does not exist, or this user may not describe it: {error}, still looking for it; create it, or check the subscription"
                ),
                _ => {
                    format!("topic {name} cannot be looked up, still trying: the brokers say {error}; check the brokers' health")
                }
            };
            self.problems.push_back(Problem { kind, partition: None, code: Some(error), what, fatal: false });
        }
    }
}

/// How long to wait for the next look for what is missing.
fn next_look(looks: &mut Backoff, rng: &mut Rng) -> Duration {
    let wait = looks.fail(rng);
    if looks.failures() > EAGER_LOOKS { wait * RARER_BY } else { wait }
}

/// Whether what is told of a topic is, for some partition, older than what is known.
fn is_older(known: &[PartitionView], told: &[PartitionView]) -> bool {
    told.len() < known.len() || known.iter().zip(told).any(|(known, told)| is_older_leader(known, told))
}

/// Of each partition the newer news; and no partition less, because a topic never loses one.
fn newer_of(known: &[PartitionView], mut told: Vec<PartitionView>) -> Vec<PartitionView> {
    for (known, told) in known.iter().zip(&mut told) {
        if is_older_leader(known, told) {
            *told = known.clone();
        }
    }
    let told_of = told.len();
    told.extend(known.iter().skip(told_of).cloned());
    told
}

fn is_older_leader(known: &PartitionView, told: &PartitionView) -> bool {
    matches!((known.leader_epoch, told.leader_epoch), (Some(known), Some(told)) if told < known)
}
