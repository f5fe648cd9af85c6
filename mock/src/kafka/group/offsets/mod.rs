//! Committed offsets: plain ones, and those that wait for their transaction to end.

mod fetch;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, RequestKind, TopicName,
        TxnOffsetCommitRequest, TxnOffsetCommitResponse, offset_commit_response as committed, offset_delete_response as deleted,
        txn_offset_commit_response as txn_committed,
    },
    protocol::StrBytes,
};

use uuid::Uuid;

use super::{Ageing, Context, Groups, Members, code_of};
use crate::kafka::{
    call::Call,
    message::{ConnId, Event},
    refuse::refuse,
};

/// `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;
/// Stands for "as long as the broker likes" in a commit.
const DEFAULT_RETENTION_MS: i64 = -1;
/// No clock goes further: whatever is kept longer is kept for ever.
const RETENTION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[derive(Debug, Default)]
pub(super) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<i32, Offset>>,
    /// By producer, topic and partition.
    pending: BTreeMap<i64, BTreeMap<(String, i32), Pending>>,
    /// Counts what is written, to tell which of two commits came later.
    written: u64,
}

#[derive(Clone, Debug)]
struct Offset {
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    written: u64,
    committed_at: Instant,
    /// Given by the commit itself, as clients of old could.
    expires_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Pending {
    offset: Offset,
    by: Committer,
}

/// Who committed an offset.
#[derive(Clone, Debug)]
struct Committer {
    member_id: String,
    conn: ConnId,
}

impl Groups {
    pub(crate) fn offset_commit(&mut self, cx: &mut Context<'_>, call: Call, request: OffsetCommitRequest) {
        let is_known = |topic: &str, number| cx.topics.partition(topic, number).is_some();
        let mut partitions = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |of| (topic, of)));
        let is_any_known = partitions.any(|(topic, of)| is_known(&topic.name, of.partition_index));
        if is_any_known && let Err(error) = self.validate_commit(cx, &call, &request) {
            // What does not exist is told apart even so.
            return answer_commit(cx, call, &request, |is_known, _| {
                Err(if is_known { error } else { ResponseError::UnknownTopicOrPartition })
            });
        }
        let by = Committer { member_id: request.member_id.to_string(), conn: call.conn };
        if let Some(group) = self.by_id.get_mut(request.group_id.as_str()).filter(|_| is_any_known) {
            let lifetime = (request.retention_time_ms != DEFAULT_RETENTION_MS)
                .then(|| Duration::from_millis(request.retention_time_ms.try_into().unwrap_or(0)));
            for topic in &request.topics {
                for of in &topic.partitions {
                    if cx.topics.partition(&topic.name, of.partition_index).is_none() || is_too_long(&of.committed_metadata) {
                        continue;
                    }
                    let offset = Offset {
                        offset: of.committed_offset,
                        leader_epoch: if call.version >= 6 { of.committed_leader_epoch } else { -1 },
                        metadata: of.committed_metadata.clone().unwrap_or_default(),
                        written: 0,
                        committed_at: cx.now,
                        expires_at: lifetime.map(|lifetime| cx.now + lifetime.min(RETENTION_MAX)),
                    };
                    group.offsets.store(cx, &request.group_id, (&topic.name, of.partition_index), offset, &by);
                }
            }
            group.reckon_expiry(cx);
        }
        answer_commit(cx, call, &request, |is_known, metadata| match is_known {
            false => Err(ResponseError::UnknownTopicOrPartition),
            true if is_too_long(metadata) => Err(ResponseError::OffsetMetadataTooLarge),
            true => Ok(()),
        });
    }

    fn validate_commit(&mut self, cx: &Context<'_>, call: &Call, request: &OffsetCommitRequest) -> Result<(), ResponseError> {
        let generation = request.generation_id_or_member_epoch;
        if !self.by_id.contains_key(request.group_id.as_str()) && generation >= 0 {
            let is_new = call.version >= 9;
            return Err(if is_new { ResponseError::GroupIdNotFound } else { ResponseError::IllegalGeneration });
        }
        match &mut self.get_or_create(cx, &request.group_id).members {
            Members::Classic(classic) => {
                classic.validate_commit(cx.now, &request.member_id, request.group_instance_id.as_ref(), generation, false)
            }
            Members::Consumer(consumer) => {
                let partitions = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |of| (topic, of)));
                let partitions = partitions.filter_map(|(topic, of)| identify(cx, &topic.name, of.partition_index));
                let by = (&request.member_id, request.group_instance_id.as_ref());
                consumer.validate_commit(cx, by, generation, &partitions.collect::<Vec<_>>(), Some(call.version))
            }
        }
    }

    pub(crate) fn txn_offset_commit(&mut self, cx: &mut Context<'_>, call: Call, request: TxnOffsetCommitRequest) {
        let asked = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |of| (topic, of)));
        let known = asked.filter_map(|(topic, of)| identify(cx, &topic.name, of.partition_index)).collect::<Vec<_>>();
        let validated = if known.is_empty() { Ok(()) } else { self.validate_txn_commit(cx, &request, &known) };
        let by = Committer { member_id: request.member_id.to_string(), conn: call.conn };
        let mut group = self.by_id.get_mut(request.group_id.as_str());
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for of in &topic.partitions {
                let at = (topic.name.as_str(), of.partition_index);
                let result = match (cx.topics.partition(at.0, at.1), validated) {
                    (None, _) => Err(ResponseError::UnknownTopicOrPartition),
                    (Some(_), Err(error)) => Err(error),
                    (Some(_), Ok(())) if is_too_long(&of.committed_metadata) => Err(ResponseError::OffsetMetadataTooLarge),
                    (Some(_), Ok(())) => {
                        let offset = Offset {
                            offset: of.committed_offset,
                            leader_epoch: if call.version >= 2 { of.committed_leader_epoch } else { -1 },
                            metadata: of.committed_metadata.clone().unwrap_or_default(),
                            written: 0,
                            committed_at: cx.now,
                            expires_at: None,
                        };
                        let group = group.as_mut().expect("it was there to be validated");
                        group.offsets.hold(request.producer_id.0, at, offset, &by);
                        Ok(())
                    }
                };
                let body = txn_committed::TxnOffsetCommitResponsePartition::default();
                partitions.push(body.with_partition_index(of.partition_index).with_error_code(code_of(result)));
            }
            let body = txn_committed::TxnOffsetCommitResponseTopic::default();
            topics.push(body.with_name(topic.name.clone()).with_partitions(partitions));
        }
        if let Some(group) = group {
            group.reckon_expiry(cx);
        }
        let body = TxnOffsetCommitResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        cx.out.answer(call, &body.with_topics(topics));
    }

    fn validate_txn_commit(
        &mut self,
        cx: &Context<'_>,
        request: &TxnOffsetCommitRequest,
        partitions: &[(Uuid, i32)],
    ) -> Result<(), ResponseError> {
        if !self.by_id.contains_key(request.group_id.as_str()) && request.generation_id >= 0 {
            return Err(ResponseError::IllegalGeneration);
        }
        let instance_id = request.group_instance_id.as_ref();
        match &mut self.get_or_create(cx, &request.group_id).members {
            Members::Classic(classic) => {
                classic.validate_commit(cx.now, &request.member_id, instance_id, request.generation_id, true)
            }
            Members::Consumer(consumer) => {
                let by = (&request.member_id, instance_id);
                consumer.validate_commit(cx, by, request.generation_id, partitions, None)
            }
        }
    }

    /// Settles the offsets that a transaction has left with its groups.
    pub(in crate::kafka) fn end_transaction(&mut self, cx: &mut Context<'_>, producer_id: i64, is_committed: bool) {
        for (id, group) in &mut self.by_id {
            let Some(pending) = group.offsets.pending.remove(&producer_id) else { continue };
            for ((topic, number), Pending { offset, by }) in pending {
                // What was committed without a transaction after this one was written stands.
                let is_newest = group.offsets.get(&topic, number).is_none_or(|stored| stored.written < offset.written);
                if is_committed && is_newest {
                    group.offsets.settle(cx, id, (&topic, number), offset, &by);
                }
            }
            group.reckon_expiry(cx);
        }
    }

    pub(crate) fn offset_delete(&mut self, cx: &mut Context<'_>, call: Call, request: OffsetDeleteRequest) {
        let group = match self.by_id.get_mut(request.group_id.as_str()) {
            _ if request.group_id.is_empty() => Err(ResponseError::InvalidGroupId),
            None => Err(ResponseError::GroupIdNotFound),
            Some(group) => match &group.members {
                // Of other protocols it cannot be told which offsets are in use.
                Members::Classic(classic) if !classic.is_empty() && !classic.uses_consumer_protocol() => {
                    Err(ResponseError::NonEmptyGroup)
                }
                Members::Classic(_) | Members::Consumer(_) => Ok(group),
            },
        };
        let group = match group {
            Ok(group) => group,
            Err(error) => return refuse(&RequestKind::OffsetDelete(request), error, call, cx.out),
        };
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for of in &topic.partitions {
                let result = if cx.topics.partition(&topic.name, of.partition_index).is_none() {
                    Err(ResponseError::UnknownTopicOrPartition)
                } else if group.is_subscribed_to(&topic.name) {
                    Err(ResponseError::GroupSubscribedToTopic)
                } else {
                    group.offsets.delete(&topic.name, of.partition_index);
                    Ok(())
                };
                let body = deleted::OffsetDeleteResponsePartition::default();
                partitions.push(body.with_partition_index(of.partition_index).with_error_code(code_of(result)));
            }
            let body = deleted::OffsetDeleteResponseTopic::default();
            topics.push(body.with_name(topic.name.clone()).with_partitions(partitions));
        }
        group.reckon_expiry(cx);
        let body = OffsetDeleteResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        cx.out.answer(call, &body.with_topics(topics));
    }

    /// Forgets the offsets of a topic that is no more.
    pub(in crate::kafka) fn topic_deleted(&mut self, cx: &mut Context<'_>, name: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.by_topic.remove(name);
            group.offsets.forget_pending(|(topic, _)| topic == name);
            group.reckon_expiry(cx);
        }
    }

    /// Stores an offset as if a tool had committed it: a lever for tests.
    pub(in crate::kafka) fn store_offset(&mut self, cx: &mut Context<'_>, group: &str, topic: &str, partition: i32, offset: i64) {
        let of = self.get_or_create(cx, group);
        of.offsets.store(cx, group, (topic, partition), Offset::plain(offset, cx.now), &Committer::a_tool());
        of.reckon_expiry(cx);
    }

    /// Leaves an offset as a transaction does that has not ended: a lever for tests.
    pub(in crate::kafka) fn leave_pending(
        &mut self,
        cx: &mut Context<'_>,
        producer_id: i64,
        group: &str,
        (topic, partition): (&str, i32),
        offset: i64,
    ) {
        let of = self.get_or_create(cx, group);
        of.offsets.hold(producer_id, (topic, partition), Offset::plain(offset, cx.now), &Committer::a_tool());
    }
}

impl Offset {
    /// An offset of which nothing is known but where it is.
    fn plain(offset: i64, now: Instant) -> Self {
        let metadata = StrBytes::default();
        Self { offset, leader_epoch: -1, metadata, written: 0, committed_at: now, expires_at: None }
    }
}

impl Committer {
    /// Somebody who is in no group and has no connection: a test.
    fn a_tool() -> Self {
        Self { member_id: String::new(), conn: ConnId(0) }
    }
}

impl Offsets {
    /// Says whether there are none, not even pending ones.
    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty() && self.pending.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        let of_topic = |(topic, offsets)| {
            let of_topic: &BTreeMap<i32, Offset> = offsets;
            let topic: &String = topic;
            of_topic.iter().map(move |(number, offset)| (topic.as_str(), *number, offset.offset))
        };
        self.by_topic.iter().flat_map(of_topic)
    }

    /// Says when the first offset will be too old.
    pub(super) fn next_expiry(&self, retention: Duration, from: Ageing, is_subscribed: impl Fn(&str) -> bool) -> Option<Instant> {
        let topics = self.by_topic.iter().filter(|(topic, _)| !is_subscribed(topic));
        let offsets = topics.flat_map(|(topic, offsets)| offsets.iter().map(move |(number, offset)| (topic, *number, offset)));
        let settled = offsets.filter(|(topic, number, _)| !self.is_pending(topic, *number));
        settled.map(|(_, _, offset)| offset.expiry(retention, from)).min()
    }

    pub(super) fn expire(&mut self, now: Instant, retention: Duration, from: Ageing, is_subscribed: impl Fn(&str) -> bool) {
        let mut by_topic = std::mem::take(&mut self.by_topic);
        by_topic.retain(|topic, offsets| {
            offsets.retain(|number, offset| {
                is_subscribed(topic) || self.is_pending(topic, *number) || offset.expiry(retention, from) > now
            });
            !offsets.is_empty()
        });
        self.by_topic = by_topic;
    }

    fn get(&self, topic: &str, number: i32) -> Option<&Offset> {
        self.by_topic.get(topic)?.get(&number)
    }

    fn is_pending(&self, topic: &str, number: i32) -> bool {
        !self.pending.is_empty() && self.pending.values().any(|of| of.contains_key(&(topic.to_owned(), number)))
    }

    fn store(&mut self, cx: &mut Context<'_>, group: &str, at: (&str, i32), mut offset: Offset, by: &Committer) {
        self.written += 1;
        offset.written = self.written;
        self.settle(cx, group, at, offset, by);
    }

    fn settle(&mut self, cx: &mut Context<'_>, group: &str, (topic, partition): (&str, i32), offset: Offset, by: &Committer) {
        cx.out.event(Event::Committed {
            group: group.to_owned(),
            member_id: by.member_id.clone(),
            topic: topic.to_owned(),
            partition,
            offset: offset.offset,
            conn: by.conn,
        });
        self.by_topic.entry(topic.to_owned()).or_default().insert(partition, offset);
    }

    /// Keeps an offset until its transaction ends.
    fn hold(&mut self, producer_id: i64, (topic, partition): (&str, i32), mut offset: Offset, by: &Committer) {
        self.written += 1;
        offset.written = self.written;
        let pending = Pending { offset, by: by.clone() };
        self.pending.entry(producer_id).or_default().insert((topic.to_owned(), partition), pending);
    }

    fn delete(&mut self, topic: &str, partition: i32) {
        if let Some(offsets) = self.by_topic.get_mut(topic) {
            offsets.remove(&partition);
            if offsets.is_empty() {
                self.by_topic.remove(topic);
            }
        }
        self.forget_pending(|(of, number)| of == topic && *number == partition);
    }

    fn forget_pending(&mut self, is_meant: impl Fn(&(String, i32)) -> bool) {
        self.pending.retain(|_, pending| {
            pending.retain(|at, _| !is_meant(at));
            !pending.is_empty()
        });
    }
}

impl Offset {
    fn expiry(&self, retention: Duration, from: Ageing) -> Instant {
        let since = match from {
            Ageing::FromCommit => self.committed_at,
            Ageing::From(since) => since,
        };
        self.expires_at.unwrap_or(since + retention.min(RETENTION_MAX))
    }
}

/// Names a partition by its topic's id, if it exists.
fn identify(cx: &Context<'_>, topic: &str, number: i32) -> Option<(Uuid, i32)> {
    cx.topics.partition(topic, number)?;
    Some((cx.topics.get(topic)?.id, number))
}

fn is_too_long(metadata: &Option<StrBytes>) -> bool {
    metadata.as_ref().is_some_and(|metadata| metadata.len() > METADATA_BYTES_MAX)
}

/// Answers with what `judge` says of each partition, by whether it exists and by the commit's metadata.
fn answer_commit(
    cx: &mut Context<'_>,
    call: Call,
    request: &OffsetCommitRequest,
    judge: impl Fn(bool, &Option<StrBytes>) -> Result<(), ResponseError>,
) {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|of| {
            let is_known = cx.topics.partition(&topic.name, of.partition_index).is_some();
            let body = committed::OffsetCommitResponsePartition::default().with_partition_index(of.partition_index);
            body.with_error_code(code_of(judge(is_known, &of.committed_metadata)))
        });
        let name: TopicName = topic.name.clone();
        committed::OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    let body = OffsetCommitResponse::default().with_throttle_time_ms(call.throttle_time_ms).with_topics(topics.collect());
    cx.out.answer(call, &body);
}
