//! What the answers about offsets mean for the questions.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::{Call, Commit, Inquiry, Kind, Listed, Lookup, LookupEvent, Pending, TRIES_MAX, Tools};
use crate::{
    error::{OffsetsError, OffsetsErrorKind},
    model::{BrokerId, TopicPartition, is_topic_name},
    proto::{
        Answer, CallError,
        backoff::Rng,
        invariant,
        offsets::{
            errors::{self, CoordinatorVerdict, LeaderVerdict},
            first_words,
        },
    },
    wire::{CoordinatorResponse, ErrorCode, ListedOffset, OffsetFetchResponse, Response, Timestamp},
};

impl<T> Lookup<T> {
    pub(crate) fn handle_answer(&mut self, now: Instant, call: u64, answer: Answer) {
        let Some(asked) = self.calls.remove(&call) else {
            tracing::debug!(call, "an answer about offsets that nobody waits for");
            return;
        };
        let id = asked.inquiry;
        let Some(inquiry) = self.inquiries.get_mut(&id) else { return };
        inquiry.asked(asked.kind, &asked.partitions).for_each(|pending| pending.call = None);
        let fatal = match (asked.kind, answer) {
            (_, Err(error)) => inquiry.handle_no_answer(now, &asked, &error, &mut self.tools),
            (Kind::Find, Ok(Response::FindCoordinator(answer))) => {
                let coordinator = answer.coordinator.clone();
                let fatal = inquiry.handle_coordinator(now, answer, &mut self.tools);
                self.events.extend(coordinator.map(LookupEvent::Coordinator));
                fatal
            }
            (Kind::Committed(broker), Ok(Response::OffsetFetch(answer))) => {
                let fatal = inquiry.handle_committed(now, broker, answer, &mut self.tools);
                self.watch();
                fatal
            }
            (Kind::List(broker), Ok(Response::ListOffsets(listed))) => {
                let mut listed = first_words(&asked.partitions, listed);
                let rng = self.tools.rng.in_common();
                for partition in asked.partitions {
                    let word = listed.remove(&partition);
                    inquiry.handle_listed(now, &mut rng.clone(), broker, &partition, word, &mut self.tools);
                }
                None
            }
            (_, Ok(_)) => {
                invariant!(false, "a question about offsets was answered with another API's answer");
                let error = CallError::Lost("the answer was one to another request".to_owned());
                inquiry.handle_no_answer(now, &asked, &error, &mut self.tools)
            }
        };
        if std::mem::take(&mut self.tools.refresh) {
            self.refresh();
        }
        if fatal.is_some() {
            self.answer(id, fatal);
        }
    }
}

/// What ends a whole question, where something does.
type Fatal = Option<OffsetsError>;

impl<T> Inquiry<T> {
    fn handle_no_answer(&mut self, now: Instant, asked: &Call, error: &CallError, tools: &mut Tools) -> Fatal {
        let what = match asked.kind {
            Kind::Find => format!("no broker could be asked who coordinates the group: {error}"),
            Kind::Committed(broker) | Kind::List(broker) => format!("broker {} could not be asked: {error}", broker.0),
        };
        let kind = match error {
            CallError::NotSent(_) | CallError::Lost(_) => None,
            CallError::Malformed(_) => Some(OffsetsErrorKind::Protocol),
            CallError::Unsupported { .. } => Some(OffsetsErrorKind::Incompatible),
        };
        tools.refresh = true;
        if !matches!(asked.kind, Kind::List(_)) {
            // Another broker may coordinate the group by now.
            if let Some(group) = &mut self.group {
                group.coordinator = None;
            }
            return match kind {
                Some(kind @ OffsetsErrorKind::Incompatible) => self.group_error(kind, &format!("{what}; upgrade the brokers")),
                kind => self.try_group_again(now, kind, what, tools),
            };
        }
        let rng = tools.rng.in_common();
        for partition in &asked.partitions {
            match kind {
                Some(kind @ OffsetsErrorKind::Incompatible) => {
                    self.fail(partition, kind, &format!("{what}; upgrade the brokers"))
                }
                kind => self.try_again(now, &mut rng.clone(), partition, kind, what.clone(), tools),
            }
        }
        None
    }

    // ---------------------------------------------------------------- the group's coordinator

    fn handle_coordinator(&mut self, now: Instant, answer: CoordinatorResponse, tools: &mut Tools) -> Fatal {
        match (answer.error, answer.coordinator) {
            (ErrorCode::NONE, Some(broker)) => {
                let group = self.group.as_mut()?;
                group.coordinator = Some(broker.id);
                None
            }
            (error, _) => {
                let said = match answer.message.filter(|message| !message.is_empty()) {
                    Some(message) => format!("{error} ({message})"),
                    None => error.to_string(),
                };
                self.handle_group_word(now, error, format!("FindCoordinator was answered with {said}"), tools)
            }
        }
    }

    fn handle_committed(&mut self, now: Instant, broker: BrokerId, answer: OffsetFetchResponse, tools: &mut Tools) -> Fatal {
        let of_topic = |code: ErrorCode| {
            matches!(
                errors::offset_fetch(code),
                CoordinatorVerdict::Done | CoordinatorVerdict::TopicUnauthorized | CoordinatorVerdict::UnknownTopic
            )
        };
        let codes = std::iter::once(answer.error).chain(answer.partitions.iter().map(|(_, word)| word.error));
        let of_group = codes.into_iter().find(|code| !of_topic(*code));
        if let Some(code) = of_group.or(Some(answer.error).filter(|code| *code != ErrorCode::NONE)) {
            return self.handle_group_word(now, code, format!("broker {} answered OffsetFetch with {code}", broker.0), tools);
        }
        let group = self.group.take()?;
        let mut refused = BTreeSet::new();
        // No topic has another name; a broker that says so must not fill the memory with it.
        for (partition, word) in answer.partitions.into_iter().filter(|(partition, _)| is_topic_name(partition.topic())) {
            if word.error != ErrorCode::NONE {
                // Of each topic once: the others are refused for the same reason.
                if self.found.committed.contains_key(&partition) || !refused.insert(Arc::clone(partition.shared_topic())) {
                    continue;
                }
                let (kind, advice) = match errors::offset_fetch(word.error) {
                    CoordinatorVerdict::TopicUnauthorized => (OffsetsErrorKind::Unauthorized, "allow Describe on the topic"),
                    _ => (OffsetsErrorKind::UnknownTopic, "the coordinator does not know it"),
                };
                let message = format!(
                    "cannot find what group {} has committed for topic {}: broker {} answered OffsetFetch with {}; {advice}",
                    group.name,
                    partition.topic(),
                    broker.0,
                    word.error
                );
                let topic = Some(Arc::clone(partition.shared_topic()));
                self.found.errors.push(OffsetsError { kind, topic, partition: None, message });
            } else if let Some(position) = word.committed {
                if group.with_ends {
                    // Of its topic all partitions, for there may be some of which the group has committed nothing.
                    self.topics.entry(partition.shared_topic().clone()).or_insert_with(|| tools.pending());
                    self.partitions.entry(partition.clone()).or_insert_with(|| tools.pending());
                }
                self.found.committed.entry(partition).or_insert(Commit { position, metadata: word.metadata });
            }
        }
        None
    }

    fn handle_group_word(&mut self, now: Instant, code: ErrorCode, what: String, tools: &mut Tools) -> Fatal {
        match errors::offset_fetch(code) {
            CoordinatorVerdict::NotReady | CoordinatorVerdict::Unknown | CoordinatorVerdict::Unstable => {
                self.try_group_again(now, None, what, tools)
            }
            CoordinatorVerdict::Moved => {
                if let Some(group) = &mut self.group {
                    group.coordinator = None;
                }
                self.try_group_again(now, None, what, tools)
            }
            CoordinatorVerdict::GroupUnauthorized => {
                self.group_error(OffsetsErrorKind::Unauthorized, &format!("{what}; allow Describe on the group"))
            }
            CoordinatorVerdict::BadGroup => {
                self.group_error(OffsetsErrorKind::Refused, &format!("{what}; a group's name cannot be like this"))
            }
            CoordinatorVerdict::Incompatible => {
                self.group_error(OffsetsErrorKind::Incompatible, &format!("{what}; upgrade the brokers"))
            }
            CoordinatorVerdict::Membership if code == ErrorCode::GROUP_ID_NOT_FOUND => {
                // A group that does not exist has committed nothing.
                self.group = None;
                None
            }
            CoordinatorVerdict::Done
            | CoordinatorVerdict::Membership
            | CoordinatorVerdict::UnknownTopic
            | CoordinatorVerdict::TopicUnauthorized
            | CoordinatorVerdict::Refused
            | CoordinatorVerdict::Unexpected => self.try_group_again(now, Some(OffsetsErrorKind::Protocol), what, tools),
        }
    }

    /// Puts the group off; after some failures it is an error, if there is a kind for it.
    fn try_group_again(&mut self, now: Instant, kind: Option<OffsetsErrorKind>, what: String, tools: &mut Tools) -> Fatal {
        let mut rng = tools.rng.in_common();
        let pending = &mut self.group.as_mut()?.pending;
        pending.retry_at = Some(tools.pace.after(now, pending.backoff.fail(&mut rng)));
        let is_hopeless = pending.is_hopeless(kind);
        match kind.filter(|_| is_hopeless) {
            Some(kind) => self.group_error(kind, &format!("{what}, {TRIES_MAX} times; check the brokers' logs")),
            None => {
                pending.last = Some(what);
                None
            }
        }
    }

    fn group_error(&self, kind: OffsetsErrorKind, why: &str) -> Fatal {
        let group = self.group.as_ref()?;
        let message = format!("cannot find what group {} has committed: {why}", group.name);
        Some(OffsetsError { kind, topic: None, partition: None, message })
    }

    // ---------------------------------------------------------------- the partitions' leaders

    fn handle_listed(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        broker: BrokerId,
        partition: &TopicPartition,
        word: Option<ListedOffset>,
        tools: &mut Tools,
    ) {
        let protocol = Some(OffsetsErrorKind::Protocol);
        let Some(ListedOffset { error: code, position, timestamp_ms }) = word else {
            let what = format!("broker {}'s answer to ListOffsets leaves it out", broker.0);
            return self.try_again(now, rng, partition, protocol, what, tools);
        };
        let what = format!("broker {} answered ListOffsets with {code}", broker.0);
        match errors::leader(code) {
            LeaderVerdict::Done if position.is_none() && matches!(self.at, Timestamp::Earliest | Timestamp::Latest) => {
                let what = format!("broker {} named no offset for an end of the log", broker.0);
                self.try_again(now, rng, partition, protocol, what, tools);
            }
            LeaderVerdict::Done => {
                if self.partitions.remove(partition).is_some() {
                    let listed = position.map(|position| Listed { position, timestamp_ms });
                    self.found.listed.insert(partition.clone(), listed);
                }
            }
            LeaderVerdict::Refresh => {
                tools.refresh = true;
                self.try_again(now, rng, partition, None, what, tools);
            }
            LeaderVerdict::Retry => self.try_again(now, rng, partition, None, what, tools),
            LeaderVerdict::UnknownTopic => {
                tools.refresh = true;
                let Some(pending) = self.partitions.get_mut(partition) else { return };
                let since = *pending.missing_since.get_or_insert(now);
                if pending.is_missing_for_good(now) {
                    self.fail(partition, OffsetsErrorKind::UnknownTopic, &format!("{what}; it does not exist (any more)"));
                } else {
                    self.try_again(now, rng, partition, None, what, tools);
                    // Unless leaders say something else in between, it goes on to be missing.
                    if let Some(pending) = self.partitions.get_mut(partition) {
                        pending.missing_since = Some(since);
                    }
                }
            }
            LeaderVerdict::TopicUnauthorized | LeaderVerdict::Forbidden => {
                self.fail(partition, OffsetsErrorKind::Unauthorized, &format!("{what}; allow Describe on the topic"));
            }
            LeaderVerdict::Incompatible => {
                let advice = match code {
                    ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT => "its records are of before Kafka 0.10, and have no timestamps",
                    _ => "upgrade the brokers",
                };
                self.fail(partition, OffsetsErrorKind::Incompatible, &format!("{what}; {advice}"));
            }
            LeaderVerdict::Unexpected => self.try_again(now, rng, partition, protocol, what, tools),
        }
    }

    /// Puts a partition off; after some failures it is an error, if there is a kind for it.
    fn try_again(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        partition: &TopicPartition,
        kind: Option<OffsetsErrorKind>,
        what: String,
        tools: &mut Tools,
    ) {
        let Some(pending) = self.partitions.get_mut(partition) else { return };
        pending.retry_at = Some(tools.pace.after(now, pending.backoff.fail(rng)));
        pending.missing_since = None;
        let is_hopeless = pending.is_hopeless(kind);
        match kind.filter(|_| is_hopeless) {
            Some(kind) => self.fail(partition, kind, &format!("{what}, {TRIES_MAX} times; check the brokers' logs")),
            None => pending.last = Some(what),
        }
    }
}

impl Pending {
    /// Counts answers that make no sense, where there is a kind of error for them; says whether there were enough in a row.
    fn is_hopeless(&mut self, kind: Option<OffsetsErrorKind>) -> bool {
        self.nonsense = if kind.is_some() { self.nonsense + 1 } else { 0 };
        self.nonsense >= TRIES_MAX
    }
}
