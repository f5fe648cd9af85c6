//! What the answers about offsets mean for the positions.

use std::{collections::BTreeSet, time::Instant};

use super::{
    Call, Kind, LASTING_RETRY, PositionEvent, Positions, ResetPolicy, Sought, Stage, TRIES_MAX, Truncation, UNSTABLE_RETRY,
};
use crate::{
    model::{BrokerId, LeaderEpoch, Offset, Position, TopicPartition},
    proto::{
        Answer, CallError, Membership, ProblemKind,
        backoff::Rng,
        invariant,
        offsets::{
            errors::{self, CoordinatorVerdict, LeaderVerdict},
            first_words,
        },
    },
    wire::{EpochEnd, ErrorCode, FetchedOffset, ListedOffset, OffsetFetchResponse, Response, Timestamp},
};

impl Positions {
    pub(crate) fn handle_answer(&mut self, now: Instant, call: u64, answer: Answer) {
        let Some(asked) = self.calls.remove(&call) else {
            tracing::debug!(call, "an answer about offsets that nobody waits for");
            return;
        };
        // Whatever was begun anew since then does not wait for this answer.
        let waiting: BTreeSet<_> = asked.partitions.iter().filter(|&p| self.is_waiting(p, call)).cloned().collect();
        for partition in &waiting {
            self.entries.get_mut(partition).expect("only what waits was collected").call = None;
        }
        match (asked.kind, answer) {
            (_, Err(error)) => self.handle_no_answer(now, asked, waiting, error),
            (Kind::Committed, Ok(Response::OffsetFetch(response))) => self.handle_fetched(now, asked.sent, waiting, response),
            (Kind::Offset(broker), Ok(Response::ListOffsets(listed))) => {
                self.peer(asked.kind).reset();
                let mut listed = first_words(&waiting, listed);
                let rng = self.rng.in_common();
                for partition in waiting {
                    let word = listed.remove(&partition);
                    self.handle_listed(now, &mut rng.clone(), broker, partition, word);
                }
            }
            (Kind::Epoch(broker), Ok(Response::OffsetForLeaderEpoch(ends))) => {
                self.peer(asked.kind).reset();
                let mut ends = first_words(&waiting, ends);
                let rng = self.rng.in_common();
                for partition in waiting {
                    let word = ends.remove(&partition);
                    self.handle_epoch_end(now, &mut rng.clone(), broker, partition, word);
                }
            }
            (kind, Ok(_)) => {
                invariant!(false, "a question about offsets was answered with another API's answer");
                self.back_off(now, kind);
            }
        }
    }

    fn handle_no_answer(&mut self, now: Instant, asked: Call, waiting: BTreeSet<TopicPartition>, error: CallError) {
        let kind = asked.kind;
        match error {
            CallError::NotSent(why) | CallError::Lost(why) => {
                self.back_off(now, kind);
                match kind {
                    Kind::Committed => self.events.push_back(PositionEvent::CoordinatorUnknown { why }),
                    Kind::Epoch(_) | Kind::Offset(_) => self.refresh(),
                }
            }
            CallError::Unsupported { .. } if matches!(kind, Kind::Epoch(_)) => {
                for partition in waiting {
                    self.accept_unvalidated(&partition);
                }
            }
            CallError::Unsupported { .. } => {
                self.leave_alone(now, kind, LASTING_RETRY);
                let what = format!("cannot find where to start reading{}: {error}", self.for_group());
                self.say_of_peer(kind, ProblemKind::Incompatible, None, format!("{what}; upgrade the brokers"), false);
            }
            CallError::Malformed(_) => {
                self.back_off(now, kind);
                let what = format!("cannot find where to start reading{}: {error}; trying again", self.for_group());
                self.say_of_peer(kind, ProblemKind::Protocol, None, what, false);
            }
        }
    }

    fn handle_fetched(
        &mut self,
        now: Instant,
        sent: Membership,
        waiting: BTreeSet<TopicPartition>,
        response: OffsetFetchResponse,
    ) {
        if response.error != ErrorCode::NONE {
            if planted!(ResetOnTransientError) {
                return waiting.iter().for_each(|of| self.ask_policy(of, ProblemKind::NoOffset, "an error".to_owned()));
            }
            return self.handle_group_word(now, sent, response.error);
        }
        let mut fetched = first_words(&waiting, response.partitions);
        let mut group = None;
        let rng = self.rng.in_common();
        for partition in waiting {
            let word = fetched.remove(&partition);
            if let Some(code) = self.handle_fetched_partition(now, &mut rng.clone(), partition, word) {
                group = Some(code);
            }
        }
        match group {
            Some(code) => self.handle_group_word(now, sent, code),
            None => self.coordinator.reset(),
        }
    }

    /// Reads one partition's committed offset; returns a code that concerns the whole group.
    fn handle_fetched_partition(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        partition: TopicPartition,
        word: Option<FetchedOffset>,
    ) -> Option<ErrorCode> {
        let Some(FetchedOffset { error: code, committed, .. }) = word else {
            self.try_again(now, rng, &partition, ProblemKind::Protocol, None, "the coordinator's answer leaves it out");
            return None;
        };
        match errors::offset_fetch(code) {
            CoordinatorVerdict::Done => match committed {
                Some(position) => {
                    let entry = self.entries.get_mut(&partition)?;
                    (entry.committed, entry.stage) = (Some(position), Stage::Epoch(position));
                    entry.backoff.reset();
                }
                None => {
                    let why = format!("group {} has committed no offset", self.group());
                    self.ask_policy(&partition, ProblemKind::NoOffset, why);
                }
            },
            CoordinatorVerdict::Unstable => {
                let retry_at = self.pace.after(now, UNSTABLE_RETRY);
                self.entries.get_mut(&partition)?.retry_at = Some(retry_at);
            }
            CoordinatorVerdict::UnknownTopic => {
                self.refresh();
                let what = "the coordinator does not know the topic";
                self.try_again(now, rng, &partition, ProblemKind::UnknownTopic, Some(code), what);
            }
            CoordinatorVerdict::TopicUnauthorized => self.put_off_unauthorized(now, &partition, code),
            CoordinatorVerdict::Refused | CoordinatorVerdict::Unexpected => {
                let what = format!("the coordinator answered OffsetFetch with {code}");
                self.try_again(now, rng, &partition, ProblemKind::Protocol, Some(code), &what);
            }
            CoordinatorVerdict::Membership
            | CoordinatorVerdict::NotReady
            | CoordinatorVerdict::Moved
            | CoordinatorVerdict::Unknown
            | CoordinatorVerdict::GroupUnauthorized
            | CoordinatorVerdict::BadGroup
            | CoordinatorVerdict::Incompatible => return Some(code),
        }
        None
    }

    fn handle_group_word(&mut self, now: Instant, sent: Membership, code: ErrorCode) {
        self.back_off(now, Kind::Committed);
        let cannot = format!("cannot read the committed offsets of group {}: {code}", self.group());
        let mut say = |kind, advice, fatal| {
            self.say_of_peer(Kind::Committed, kind, Some(code), format!("{cannot}; {advice}"), fatal);
        };
        match errors::offset_fetch(code) {
            CoordinatorVerdict::Membership if sent != Membership::none() => {
                self.events.push_back(PositionEvent::Member { sent, code })
            }
            CoordinatorVerdict::Moved | CoordinatorVerdict::Unknown => {
                let why = format!("OffsetFetch was answered with {code}");
                self.events.push_back(PositionEvent::CoordinatorUnknown { why });
            }
            CoordinatorVerdict::NotReady | CoordinatorVerdict::Unstable => {}
            // Permissions that were taken away may be given back.
            CoordinatorVerdict::GroupUnauthorized => {
                say(ProblemKind::Unauthorized, "grant READ on the group; ottla goes on trying", false);
            }
            CoordinatorVerdict::BadGroup => say(ProblemKind::GroupRefused, "choose another group id", true),
            CoordinatorVerdict::Incompatible => say(ProblemKind::Incompatible, "upgrade the brokers", true),
            _ if self.coordinator.backoff.failures() >= TRIES_MAX => {
                self.say_of_peer(Kind::Committed, ProblemKind::Protocol, Some(code), format!("{cannot}; trying again"), false);
            }
            _ => {}
        }
    }

    /// For whom it is looked up, for the text of an error.
    pub(super) fn for_group(&self) -> String {
        self.config.group.as_deref().map(|group| format!(" for group {group}")).unwrap_or_default()
    }

    fn group(&self) -> &str {
        self.config.group.as_deref().unwrap_or_default()
    }

    fn handle_listed(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        broker: BrokerId,
        partition: TopicPartition,
        word: Option<ListedOffset>,
    ) {
        let Some(ListedOffset { error: code, position, .. }) = word else {
            return self.try_again(now, rng, &partition, ProblemKind::Protocol, None, "the leader's answer leaves it out");
        };
        if errors::leader(code) != LeaderVerdict::Done {
            return self.handle_leader_word(now, rng, broker, &partition, "ListOffsets", code);
        }
        let Some(entry) = self.entries.get_mut(&partition) else { return };
        match (entry.stage, position) {
            (Stage::Offset(_), Some(to)) => {
                let truncated = entry.truncated.map(|from| Truncation { from, to });
                self.finish(&partition, to, truncated);
            }
            (Stage::Offset(Sought::Ago(_) | Sought::At(Timestamp::AtMs(_))), None) => {
                // Every record is older: what is new comes at the end.
                entry.stage = Stage::Offset(Sought::At(Timestamp::Latest));
            }
            _ => self.try_again(
                now,
                rng,
                &partition,
                ProblemKind::Protocol,
                None,
                "the leader named no offset for an end of the log",
            ),
        }
    }

    fn handle_epoch_end(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        broker: BrokerId,
        partition: TopicPartition,
        word: Option<EpochEnd>,
    ) {
        let Some(EpochEnd { error: code, end }) = word else {
            return self.try_again(now, rng, &partition, ProblemKind::Protocol, None, "the leader's answer leaves it out");
        };
        if errors::leader(code) != LeaderVerdict::Done {
            return self.handle_leader_word(now, rng, broker, &partition, "OffsetForLeaderEpoch", code);
        }
        let Some(entry) = self.entries.get_mut(&partition) else { return };
        let Stage::Epoch(from) = entry.stage else { return };
        match end {
            Some((epoch, end)) if end >= from.offset => {
                // An epoch in which nothing was written may be forgotten: the one before it is as good.
                let leader_epoch = from.leader_epoch.map(|known| known.min(epoch));
                self.finish(&partition, Position { leader_epoch, ..from }, None);
            }
            Some((epoch, end)) => self.handle_truncated(&partition, from, epoch, end),
            None => {
                entry.truncated = Some(from);
                let why = format!("the log was truncated below offset {}, nobody knows how far", from.offset.0);
                self.ask_policy(&partition, ProblemKind::Truncated, why);
            }
        }
    }

    pub(super) fn handle_truncated(&mut self, partition: &TopicPartition, from: Position, epoch: LeaderEpoch, end: Offset) {
        if self.config.reset == ResetPolicy::Fail {
            let why = format!("the log was truncated to offset {}, below offset {}", end.0, from.offset.0);
            return self.stop(partition, ProblemKind::Truncated, why);
        }
        let to = Position { offset: end, leader_epoch: Some(epoch) };
        self.finish(partition, to, Some(Truncation { from, to }));
    }

    fn handle_leader_word(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        broker: BrokerId,
        partition: &TopicPartition,
        api: &str,
        code: ErrorCode,
    ) {
        let what = format!("broker {} answered {api} with {code}", broker.0);
        match errors::leader(code) {
            LeaderVerdict::Done => {}
            LeaderVerdict::Refresh => {
                self.refresh();
                self.put_off(now, rng, partition);
            }
            LeaderVerdict::Retry => self.put_off(now, rng, partition),
            LeaderVerdict::UnknownTopic => {
                self.refresh();
                self.try_again(now, rng, partition, ProblemKind::UnknownTopic, Some(code), &what);
            }
            LeaderVerdict::TopicUnauthorized => self.put_off_unauthorized(now, partition, code),
            LeaderVerdict::Forbidden if matches!(self.entries.get(partition).map(|e| e.stage), Some(Stage::Epoch(_))) => {
                self.accept_unvalidated(partition);
            }
            LeaderVerdict::Incompatible => self.try_again(now, rng, partition, ProblemKind::Incompatible, Some(code), &what),
            LeaderVerdict::Forbidden | LeaderVerdict::Unexpected => {
                self.try_again(now, rng, partition, ProblemKind::Protocol, Some(code), &what);
            }
        }
    }

    /// The broker has no way to tell: go on as clients did before it had one.
    fn accept_unvalidated(&mut self, partition: &TopicPartition) {
        if let Some(Stage::Epoch(position)) = self.entries.get(partition).map(|e| e.stage) {
            self.finish(partition, position, None);
        }
    }
}
