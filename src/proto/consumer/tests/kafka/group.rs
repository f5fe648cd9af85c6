//! The coordinator's side of the classic group protocol.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::messages::{
    self as kafka, GroupId,
    join_group_response::JoinGroupResponseMember,
    leave_group_response::MemberResponse,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics},
};

use super::{Call, Kafka};
use crate::{model::TopicPartition, wire::ErrorCode};

#[derive(Default)]
pub(in super::super) struct Group {
    pub(in super::super) generation: i32,
    pub(in super::super) members: BTreeMap<String, Member>,
    phase: Phase,
    leader: String,
    protocol: String,
    ids: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Empty,
    /// Members are to join until then.
    Joining(Instant),
    /// The leader is to assign.
    Syncing,
    Stable,
}

pub(in super::super) struct Member {
    pub(in super::super) client: usize,
    protocols: Vec<(String, Bytes)>,
    session: Duration,
    rebalance: Duration,
    expires: Instant,
    assignment: Bytes,
    join: Option<Call>,
    sync: Option<Call>,
}

/// An offset that was stored.
#[derive(Clone, Debug)]
pub(in super::super) struct Commit {
    pub(in super::super) client: usize,
    pub(in super::super) partition: TopicPartition,
    pub(in super::super) offset: i64,
}

impl Group {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = |member: &Member| member.join.is_some() || member.sync.is_some();
        let sessions = self.members.values().filter(|member| !waits(member)).map(|member| member.expires);
        let joining = match self.phase {
            Phase::Joining(until) => Some(until),
            _ => None,
        };
        sessions.chain(joining).min()
    }

    pub(in super::super) fn is_stable(&self) -> bool {
        self.phase == Phase::Stable
    }

    fn check(&mut self, now: Instant, member_id: &str, generation: i32) -> Result<(), ErrorCode> {
        let ours = self.generation;
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if generation != ours {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        member.expires = now + member.session;
        Ok(())
    }
}

impl Kafka {
    /// Asks every member to join again, as when one has come, gone or changed.
    pub(in super::super) fn rebalance(&mut self, now: Instant) {
        let longest = self.group.members.values().map(|member| member.rebalance).max().unwrap_or_default();
        self.group.phase = Phase::Joining(now + longest);
        let waiting: Vec<_> = self.group.members.values_mut().filter_map(|member| member.sync.take()).collect();
        for call in waiting {
            self.answer_sync(call, ErrorCode::REBALANCE_IN_PROGRESS, Bytes::new());
        }
        self.try_complete_join(now);
    }

    /// Puts a member out, as at the end of its session.
    pub(in super::super) fn expel(&mut self, now: Instant, client: usize) {
        self.group.members.retain(|_, member| member.client != client);
        self.after_departure(now);
    }

    pub(in super::super) fn remove_member(&mut self, now: Instant, id: &str) {
        self.group.members.remove(id);
        self.after_departure(now);
    }

    /// Moves the coordinator. A group that was in the middle of a round begins with nobody.
    pub(in super::super) fn move_coordinator(&mut self, now: Instant, to: i32) {
        self.coordinator = to;
        let stable = self.group.is_stable();
        let mut joins = Vec::new();
        let mut syncs = Vec::new();
        for member in self.group.members.values_mut() {
            joins.extend(member.join.take());
            syncs.extend(member.sync.take());
            member.expires = now + member.session;
        }
        if !stable {
            self.group.members.clear();
            self.group.phase = Phase::Empty;
        }
        for call in joins {
            self.answer_join(call, ErrorCode::NOT_COORDINATOR, "");
        }
        for call in syncs {
            self.answer_sync(call, ErrorCode::NOT_COORDINATOR, Bytes::new());
        }
    }

    pub(super) fn tick_group(&mut self, now: Instant) {
        let before = self.group.members.len();
        self.group.members.retain(|_, member| member.expires > now || member.join.is_some() || member.sync.is_some());
        if self.group.members.len() != before {
            self.after_departure(now);
        }
        if let Phase::Joining(until) = self.group.phase
            && until <= now
        {
            self.group.members.retain(|_, member| member.join.is_some());
            self.try_complete_join(now);
        }
    }

    fn after_departure(&mut self, now: Instant) {
        match self.group.phase {
            Phase::Stable | Phase::Syncing => self.rebalance(now),
            _ => self.try_complete_join(now),
        }
    }

    fn try_complete_join(&mut self, now: Instant) {
        let group = &mut self.group;
        if !matches!(group.phase, Phase::Joining(_)) {
            return;
        }
        if group.members.is_empty() {
            group.phase = Phase::Empty;
            return;
        }
        if group.members.values().any(|member| member.join.is_none()) {
            return;
        }
        group.generation += 1;
        group.phase = Phase::Syncing;
        if !group.members.contains_key(&group.leader) {
            group.leader = group.members.keys().next().cloned().expect("not empty");
        }
        let offers =
            |name: &str| group.members.values().all(|member| member.protocols.iter().any(|(offered, _)| offered == name));
        let wanted = group.members[&group.leader].protocols.iter().map(|(name, _)| name.clone());
        group.protocol = wanted.into_iter().find(|name| offers(name)).expect("a protocol in common");
        let mut calls = Vec::new();
        for (id, member) in &mut group.members {
            member.expires = now + member.session;
            member.assignment = Bytes::new();
            calls.extend(member.join.take().map(|call| (id.clone(), call)));
        }
        for (id, call) in calls {
            self.answer_join(call, ErrorCode::NONE, &id);
        }
    }

    pub(super) fn join(&mut self, now: Instant, call: Call, request: &kafka::JoinGroupRequest) {
        let id = request.member_id.to_string();
        if let Some(code) = self.refusal(&call) {
            return self.answer_join(call, code, &id);
        }
        if id.is_empty() {
            self.group.ids += 1;
            let id = format!("member-{}", self.group.ids);
            return self.answer_join(call, ErrorCode::MEMBER_ID_REQUIRED, &id);
        }
        let protocols: Vec<_> =
            request.protocols.iter().map(|protocol| (protocol.name.to_string(), protocol.metadata.clone())).collect();
        let session = Duration::from_millis(request.session_timeout_ms as u64);
        let known = self.group.members.contains_key(&id);
        if !known && id.strip_prefix("member-").and_then(|id| id.parse().ok()).is_none_or(|id: u32| id > self.group.ids) {
            return self.answer_join(call, ErrorCode::UNKNOWN_MEMBER_ID, "");
        }
        let changed = self.group.members.get(&id).is_none_or(|member| member.protocols != protocols);
        let leads = self.group.leader == id;
        let rebalances = match self.group.phase {
            Phase::Joining(_) => false,
            Phase::Empty => true,
            Phase::Stable => changed || leads,
            Phase::Syncing => changed,
        };
        let assignment = self.group.members.get(&id).map_or_else(Bytes::new, |member| member.assignment.clone());
        let answers_at_once = !rebalances && !matches!(self.group.phase, Phase::Joining(_));
        let member = Member {
            client: call.client,
            protocols,
            session,
            rebalance: Duration::from_millis(request.rebalance_timeout_ms as u64),
            expires: now + session,
            assignment,
            join: (!answers_at_once).then(|| call.clone()),
            sync: None,
        };
        self.group.members.insert(id.clone(), member);
        if answers_at_once {
            self.answer_join(call, ErrorCode::NONE, &id);
        } else if rebalances {
            self.rebalance(now);
        } else {
            self.try_complete_join(now);
        }
    }

    fn answer_join(&mut self, call: Call, code: ErrorCode, id: &str) {
        let group = &self.group;
        let mut body = kafka::JoinGroupResponse::default()
            .with_error_code(code.0)
            .with_generation_id(-1)
            .with_member_id(id.to_owned().into())
            .with_protocol_name(Some("".into()));
        if code == ErrorCode::NONE {
            let member = |(id, member): (&String, &Member)| {
                let blob = member.protocols.iter().find(|(name, _)| *name == group.protocol).expect("offered by all");
                JoinGroupResponseMember::default().with_member_id(id.clone().into()).with_metadata(blob.1.clone())
            };
            let members = if group.leader == id { group.members.iter().map(member).collect() } else { Vec::new() };
            body = body
                .with_generation_id(group.generation)
                .with_protocol_type(Some("consumer".into()))
                .with_protocol_name(Some(group.protocol.clone().into()))
                .with_leader(group.leader.clone().into())
                .with_members(members);
        }
        self.answer(call, &body);
    }

    pub(super) fn sync(&mut self, now: Instant, call: Call, request: &kafka::SyncGroupRequest) {
        let id = request.member_id.to_string();
        let checked = match self.refusal(&call) {
            Some(code) => Err(code),
            None => self.group.check(now, &id, request.generation_id),
        };
        if let Err(code) = checked {
            return self.answer_sync(call, code, Bytes::new());
        }
        match self.group.phase {
            Phase::Stable => {
                let assignment = self.group.members[&id].assignment.clone();
                self.answer_sync(call, ErrorCode::NONE, assignment);
            }
            Phase::Syncing => {
                self.group.members.get_mut(&id).expect("checked").sync = Some(call);
                if id != self.group.leader {
                    return;
                }
                self.group.phase = Phase::Stable;
                for given in &request.assignments {
                    if let Some(member) = self.group.members.get_mut(given.member_id.as_str()) {
                        member.assignment = given.assignment.clone();
                    }
                }
                let waiting = self.group.members.values_mut();
                let waiting: Vec<_> =
                    waiting.filter_map(|member| Some((member.sync.take()?, member.assignment.clone()))).collect();
                for (call, assignment) in waiting {
                    self.answer_sync(call, ErrorCode::NONE, assignment);
                }
            }
            _ => self.answer_sync(call, ErrorCode::REBALANCE_IN_PROGRESS, Bytes::new()),
        }
    }

    fn answer_sync(&mut self, call: Call, code: ErrorCode, assignment: Bytes) {
        let body = kafka::SyncGroupResponse::default()
            .with_error_code(code.0)
            .with_protocol_type(Some("consumer".into()))
            .with_protocol_name(Some(self.group.protocol.clone().into()))
            .with_assignment(assignment);
        self.answer(call, &body);
    }

    pub(super) fn heartbeat(&mut self, now: Instant, call: Call, request: &kafka::HeartbeatRequest) {
        let checked = match self.refusal(&call) {
            Some(code) => Err(code),
            None => self.group.check(now, &request.member_id, request.generation_id),
        };
        let code = match (checked, self.group.phase) {
            (Err(code), _) => code,
            (Ok(()), Phase::Joining(_)) => ErrorCode::REBALANCE_IN_PROGRESS,
            (Ok(()), _) => ErrorCode::NONE,
        };
        self.answer(call, &kafka::HeartbeatResponse::default().with_error_code(code.0));
    }

    pub(super) fn leave(&mut self, now: Instant, call: Call, request: &kafka::LeaveGroupRequest) {
        let refused = self.refusal(&call);
        let mut members = Vec::new();
        for leaver in &request.members {
            let known = refused.is_some() || self.group.members.remove(leaver.member_id.as_str()).is_some();
            let code = if known { ErrorCode::NONE } else { ErrorCode::UNKNOWN_MEMBER_ID };
            members.push(MemberResponse::default().with_member_id(leaver.member_id.clone()).with_error_code(code.0));
        }
        if refused.is_none() {
            self.after_departure(now);
        }
        let body =
            kafka::LeaveGroupResponse::default().with_error_code(refused.unwrap_or(ErrorCode::NONE).0).with_members(members);
        self.answer(call, &body);
    }

    pub(super) fn offset_commit(&mut self, now: Instant, mut call: Call, request: &kafka::OffsetCommitRequest) {
        let generation = request.generation_id_or_member_epoch;
        let checked = match self.refusal(&call) {
            Some(code) => Err(code),
            None => self.group.check(now, &request.member_id, generation),
        };
        let code = match (checked, self.group.phase) {
            (Err(code), _) => code,
            (Ok(()), Phase::Syncing) => ErrorCode::REBALANCE_IN_PROGRESS,
            (Ok(()), _) => ErrorCode::NONE,
        };
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let partition = TopicPartition::new(topic.name.0.as_str(), asked.partition_index);
                let code = match self.find(&partition) {
                    None if code == ErrorCode::NONE => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    _ => code,
                };
                if code == ErrorCode::NONE {
                    let offset = asked.committed_offset;
                    self.offsets.insert(partition.clone(), (offset, asked.committed_leader_epoch));
                    call.commits.push((partition.clone(), offset));
                    self.commits.push(Commit { client: call.client, partition, offset });
                }
                let body = OffsetCommitResponsePartition::default().with_partition_index(asked.partition_index);
                partitions.push(body.with_error_code(code.0));
            }
            topics.push(OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        self.answer(call, &kafka::OffsetCommitResponse::default().with_topics(topics));
    }

    pub(super) fn offset_fetch(&mut self, call: Call, request: &kafka::OffsetFetchRequest) {
        let unstable_only = call.error().filter(|code| *code == ErrorCode::UNSTABLE_OFFSET_COMMIT);
        let refused = self.refusal(&call).filter(|_| unstable_only.is_none());
        let mut groups = Vec::new();
        for asked in &request.groups {
            let topics = asked.topics.iter().flatten().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|number| {
                    let partition = TopicPartition::new(topic.name.0.as_str(), *number);
                    let body = OffsetFetchResponsePartitions::default()
                        .with_partition_index(*number)
                        .with_committed_offset(-1)
                        .with_committed_leader_epoch(-1);
                    let unstable = unstable_only.is_some() || self.unstable.contains(&partition);
                    if unstable && request.require_stable {
                        return body.with_error_code(ErrorCode::UNSTABLE_OFFSET_COMMIT.0);
                    }
                    match self.offsets.get(&partition) {
                        Some((offset, epoch)) => body.with_committed_offset(*offset).with_committed_leader_epoch(*epoch),
                        None => body,
                    }
                });
                OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
            });
            let topics = if refused.is_some() { Vec::new() } else { topics.collect() };
            let body = OffsetFetchResponseGroup::default().with_group_id(GroupId(asked.group_id.0.clone())).with_topics(topics);
            groups.push(body.with_error_code(refused.unwrap_or(ErrorCode::NONE).0));
        }
        self.answer(call, &kafka::OffsetFetchResponse::default().with_groups(groups));
    }

    fn refusal(&self, call: &Call) -> Option<ErrorCode> {
        call.error().or_else(|| (call.broker != self.coordinator).then_some(ErrorCode::NOT_COORDINATOR))
    }
}
