//! ConsumerGroupHeartbeat.

use std::collections::BTreeSet;

use kafka_protocol::{
    ResponseError,
    messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, consumer_group_heartbeat_response as response},
    protocol::StrBytes,
};

use super::{
    ConsumerGroup, Member, STATIC_LEAVE_EPOCH, Timer, TopicPartitions, assign,
    member::{Plan, Subscription},
};
use crate::kafka::{Context, call::Call, clock::ms, group::text};

type Refused = (ResponseError, Option<&'static str>);

/// Says what is wrong with a heartbeat in itself.
pub(in super::super) fn validate(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refused> {
    let invalid = |message| Err((ResponseError::InvalidRequest, Some(message)));
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    if (version >= 1 || request.member_epoch > 0 || request.member_epoch == -1) && request.member_id.trim().is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    match request.member_epoch {
        0 if request.rebalance_timeout_ms == -1 => return invalid("RebalanceTimeoutMs must be provided in first request."),
        0 if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        STATIC_LEAVE_EPOCH if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..STATIC_LEAVE_EPOCH => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    match request.server_assignor.as_deref() {
        None | Some("uniform" | "range") => Ok(()),
        Some(_) => Err((ResponseError::UnsupportedAssignor, Some("Supported assignors: uniform, range."))),
    }
}

impl ConsumerGroup {
    pub(in super::super) fn heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        call: &Call,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
        if request.member_epoch < 0 {
            return self.leave(cx, request);
        }
        let owned = request.topic_partitions.as_ref().map(|owned| {
            let of = |topic: &kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions| {
                (topic.topic_id, topic.partitions.iter().copied().collect())
            };
            owned.iter().map(of).collect::<TopicPartitions>()
        });
        if self.members.len() >= cx.settings.group_max_size && !self.members.contains_key(&request.member_id) {
            return Err((ResponseError::GroupMaxSizeReached, None));
        }
        let member_id = match &request.member_id {
            id if id.is_empty() => text(&cx.random.uuid().to_string()),
            id => id.clone(),
        };
        let former = self.find(&member_id, request, owned.as_ref())?;
        let regex = match &request.subscribed_topic_regex {
            None => None,
            Some(pattern) if pattern.is_empty() => Some(None),
            Some(pattern) => {
                let why = Some("SubscribedTopicRegex is not a valid regular expression.");
                Some(Some(Subscription::parse(pattern).ok_or((ResponseError::InvalidRegularExpression, why))?))
            }
        };

        // Nothing is refused from here on.
        let mut member = former.map_or_else(|| Member::new(member_id.clone()), |id| self.take(cx, &id, &member_id));
        let before = member.assignment();
        member.client_id = call.client_id.clone().unwrap_or_default();
        member.classic = None;
        member.instance_id = request.instance_id.clone().or(member.instance_id);
        member.rack_id = request.rack_id.clone().or(member.rack_id);
        member.assignor = request.server_assignor.clone().or(member.assignor);
        if request.rebalance_timeout_ms != -1 {
            member.rebalance_timeout = ms(request.rebalance_timeout_ms);
        }
        let mut has_changed = false;
        if let Some(names) = &request.subscribed_topic_names {
            let names = names.iter().map(|name| name.to_string()).collect();
            has_changed |= member.names != names;
            member.names = names;
        }
        if let Some(regex) = regex {
            has_changed |= member.pattern() != regex.as_ref().map(|of| &of.pattern);
            member.regex = regex;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        self.members.insert(member_id.clone(), member);
        self.empty_since = None;
        self.bump_if_changed(cx, has_changed);
        self.assign();
        self.lead(cx, &member_id, has_changed, owned.as_ref());
        self.timers.set(Timer::Session(member_id.clone()), cx.now + cx.settings.consumer_group_session_timeout);

        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && owned.is_some();
        let member = &self.members[&member_id];
        let assignment = member.assignment();
        let is_told = request.member_epoch == 0 || is_full || assignment != before;
        let interval = cx.settings.consumer_group_heartbeat_interval.as_millis();
        Ok(ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(member_id))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(i32::try_from(interval).unwrap_or(i32::MAX))
            .with_assignment(is_told.then(|| encode(assignment))))
    }

    /// Finds who a heartbeat comes from: nobody yet, or a member, for a static one perhaps by its former id.
    fn find(
        &self,
        member_id: &StrBytes,
        request: &ConsumerGroupHeartbeatRequest,
        owned: Option<&TopicPartitions>,
    ) -> Result<Option<StrBytes>, Refused> {
        let is_joining = request.member_epoch == 0;
        let known = match &request.instance_id {
            None => self.members.get(member_id),
            Some(instance_id) => {
                let current = self.static_members.get(instance_id).and_then(|id| self.members.get(id));
                match current {
                    Some(current) if is_joining => {
                        // One that speaks the classic protocol is replaced as it would be in a classic group.
                        if current.epoch != STATIC_LEAVE_EPOCH && current.classic.is_none() {
                            return Err((ResponseError::UnreleasedInstanceId, None));
                        }
                        return Ok(Some(current.id.clone()));
                    }
                    Some(current) if current.id != *member_id => return Err((ResponseError::FencedInstanceId, None)),
                    None if is_joining => self.members.get(member_id),
                    current => current,
                }
            }
        };
        let Some(member) = known else {
            return if is_joining { Ok(None) } else { Err((ResponseError::UnknownMemberId, None)) };
        };
        let is_subset = |owned: &TopicPartitions| {
            let assigned = member.assignment();
            owned.iter().all(|(topic, numbers)| assigned.get(topic).is_some_and(|of| numbers.is_subset(of)))
        };
        // A member that missed an answer may still be an epoch behind.
        let has_missed_answer =
            request.member_epoch < member.epoch && request.member_epoch == member.previous_epoch && owned.is_some_and(is_subset);
        if is_joining || request.member_epoch == member.epoch || has_missed_answer {
            return Ok(Some(member.id.clone()));
        }
        Err((ResponseError::FencedMemberEpoch, Some("The member must abandon all its partitions and rejoin.")))
    }

    /// Takes a member out to be changed; under a new id if it is a static one that has come back.
    pub(super) fn take(&mut self, cx: &mut Context<'_>, id: &StrBytes, new_id: &StrBytes) -> Member {
        let mut member = self.members.remove(id).expect("it was found");
        if id != new_id || member.epoch == STATIC_LEAVE_EPOCH {
            let target = self.targets.remove(id);
            self.forget(id);
            self.targets.extend(target.map(|target| (new_id.clone(), target)));
            member.id = new_id.clone();
            member.epoch = 0;
            member.previous_epoch = 0;
            if id != new_id {
                let group = self.id.clone();
                cx.out.event(crate::kafka::message::Event::MemberGone { group, member_id: id.to_string(), why: "replaced" });
            }
        }
        member
    }

    /// Begins a new epoch if the members want something else, or their topics have changed.
    pub(super) fn bump_if_changed(&mut self, cx: &mut Context<'_>, has_changed: bool) {
        let metadata = self.read_metadata(cx.topics);
        if has_changed || metadata != self.metadata {
            self.metadata = metadata;
            self.bump(cx);
        }
    }

    /// Brings the targets up to date.
    pub(super) fn assign(&mut self) {
        if self.assignment_epoch < self.epoch {
            self.targets = assign::assign(&self.members, &self.targets, &self.metadata);
            self.assignment_epoch = self.epoch;
        }
    }

    /// Leads a member on towards its target.
    pub(super) fn lead(
        &mut self,
        cx: &Context<'_>,
        member_id: &StrBytes,
        has_subscription_changed: bool,
        owned: Option<&TopicPartitions>,
    ) {
        if !has_subscription_changed && self.members[member_id].is_reconciled_to(self.assignment_epoch) {
            return;
        }
        let others = self.members.values().filter(|member| member.id != *member_id);
        let taken: BTreeSet<_> = others.flat_map(Member::holdings).collect();
        let member = self.members.get_mut(member_id).expect("it was just put there");
        let subscribed = self.metadata.iter().filter(|(name, _)| member.is_subscribed_to(name)).map(|(_, (id, _))| *id);
        let plan = Plan {
            target: self.targets.entry(member_id.clone()).or_default(),
            target_epoch: self.assignment_epoch,
            subscribed: &subscribed.collect(),
            taken: &taken,
            owned,
            has_subscription_changed,
        };
        let timer = Timer::Rebalance(member_id.clone());
        // Those of the classic protocol give up what they must before they join.
        if !member.reconcile(&plan) || member.classic.is_some() {
            return;
        }
        if member.is_revoking() {
            self.timers.set(timer, cx.now + member.rebalance_timeout);
        } else {
            self.timers.cancel(&timer);
        }
    }

    fn leave(
        &mut self,
        cx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
        let member_id = match &request.instance_id {
            None => self.members.get_key_value(&request.member_id).map(|(id, _)| id),
            Some(instance_id) => self.static_members.get(instance_id),
        };
        let member_id = member_id.cloned().ok_or((ResponseError::UnknownMemberId, None))?;
        if member_id != request.member_id {
            return Err((ResponseError::FencedInstanceId, None));
        }
        if request.member_epoch == STATIC_LEAVE_EPOCH && request.instance_id.is_some() {
            let member = self.members.get_mut(&member_id).expect("it is a member");
            member.step_out(STATIC_LEAVE_EPOCH);
            self.timers.cancel(&Timer::Rebalance(member_id.clone()));
        } else {
            self.fence(cx, &member_id, "left");
        }
        let body = ConsumerGroupHeartbeatResponse::default().with_member_id(Some(member_id));
        Ok(body.with_member_epoch(request.member_epoch))
    }
}

fn encode(assignment: TopicPartitions) -> response::Assignment {
    let topic = |(topic, numbers): (_, BTreeSet<i32>)| {
        let body = response::TopicPartitions::default().with_topic_id(topic);
        body.with_partitions(numbers.into_iter().collect())
    };
    response::Assignment::default().with_topic_partitions(assignment.into_iter().map(topic).collect())
}
