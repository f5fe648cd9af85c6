//! Members of a consumer group that speak the classic protocol (KIP-848): JoinGroup, SyncGroup and Heartbeat as the coordinator answers them
//! there.
//!
//! Nobody leads and nobody waits for others: a join leads its member on towards its target at once, the epoch that it is in then is its
//! generation, and a sync tells what it has. A heartbeat says that a rebalance is in progress for as long as it would get further by joining.

use kafka_protocol::{
    ResponseError,
    messages::{HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse},
    protocol::StrBytes,
};

use super::{Classic, ConsumerGroup, Member, Timer, TopicPartitions, by_topic_id};
use crate::kafka::{
    Context,
    api::Release,
    call::Call,
    clock::ms,
    group::{
        classic::{read_protocols, refuse_join},
        embedded::{CONSUMER_PROTOCOL, decode_subscription, encode_assignment},
        text,
    },
};

/// From here on a member joins once there is a target for the group's epoch, and not as soon as there is the epoch.
const JOINS_WAIT_FOR_TARGETS: Release = Release::new(4, 3);

impl ConsumerGroup {
    pub(in super::super) fn join(&mut self, cx: &mut Context<'_>, call: Call, request: &JoinGroupRequest) {
        let nobody = StrBytes::default();
        let is_new = request.member_id.is_empty();
        let member_id = if is_new { text(&cx.random.uuid().to_string()) } else { request.member_id.clone() };
        if self.members.len() >= cx.settings.group_max_size && !self.members.contains_key(&member_id) {
            return refuse_join(cx, call, ResponseError::GroupMaxSizeReached, &nobody);
        }
        if !cx.settings.consumer_group_migration || !self.supports_protocols_of(request) {
            return refuse_join(cx, call, ResponseError::InconsistentGroupProtocol, &nobody);
        }
        if is_new && request.group_instance_id.is_none() && call.version >= 4 {
            return refuse_join(cx, call, ResponseError::MemberIdRequired, &member_id);
        }
        let former = match self.find_joining(is_new, &member_id, request.group_instance_id.as_ref()) {
            Ok(former) => former,
            Err(error) => return refuse_join(cx, call, error, &nobody),
        };
        let protocols = read_protocols(&request.protocols);
        let Some(subscription) = protocols.first().and_then(|(_, metadata)| decode_subscription(metadata.clone())) else {
            return refuse_join(cx, call, ResponseError::UnknownServerError, &nobody);
        };

        // Nothing is refused from here on.
        let mut member = former.map_or_else(|| Member::new(member_id.clone()), |id| self.take(cx, &id, &member_id));
        let names = subscription.topics.iter().map(|name| name.to_string()).collect();
        let has_changed = member.names != names || member.pattern().is_some();
        let session_timeout = ms(request.session_timeout_ms);
        // Version 0 has one timeout for both.
        let rebalance_timeout = if call.version == 0 { session_timeout } else { ms(request.rebalance_timeout_ms) };
        member.client_id = call.client_id.clone().unwrap_or_default();
        member.instance_id = request.group_instance_id.clone().or(member.instance_id);
        member.rack_id = subscription.rack_id.clone().or(member.rack_id);
        member.rebalance_timeout = rebalance_timeout;
        member.names = names;
        member.regex = None;
        member.classic = Some(Classic { session_timeout, protocols });
        self.static_members.extend(member.instance_id.clone().map(|instance_id| (instance_id, member_id.clone())));
        self.members.insert(member_id.clone(), member);
        self.empty_since = None;
        self.bump_if_changed(cx, has_changed);
        let owned = subscription.owned_partitions.iter();
        let owned = owned.flat_map(|of| of.partitions.iter().map(|number| (of.topic.as_str(), *number)));
        let owned = by_topic_id(cx.topics, owned);
        // Where this was the last one of the consumer protocol, a leader is to assign from now on.
        if !self.is_all_classic() {
            self.assign();
        }
        if self.is_assigned() {
            self.lead(cx, &member_id, has_changed, Some(&owned));
        }
        self.timers.cancel(&Timer::Join(member_id.clone()));
        self.timers.set(Timer::Session(member_id.clone()), cx.now + session_timeout);
        self.timers.set(Timer::Sync(member_id.clone()), cx.now + rebalance_timeout);

        let member = &self.members[&member_id];
        let body = JoinGroupResponse::default()
            .with_throttle_time_ms(call.throttle_time_ms)
            .with_generation_id(member.epoch)
            .with_protocol_type(Some(StrBytes::from_static_str(CONSUMER_PROTOCOL)))
            .with_protocol_name(request.protocols.first().map(|protocol| protocol.name.clone()))
            .with_member_id(member_id);
        cx.out.answer(call, &body);
    }

    /// Says whether there is a target for the group's epoch.
    pub(in super::super) fn is_assigned(&self) -> bool {
        self.assignment_epoch == self.epoch
    }

    fn supports_protocols_of(&self, request: &JoinGroupRequest) -> bool {
        let is_common = |name| {
            let classic = self.members.values().filter_map(|member| member.classic.as_ref());
            classic.into_iter().all(|of| of.protocols.iter().any(|(offered, _)| offered == name))
        };
        request.protocol_type.as_str() == CONSUMER_PROTOCOL && request.protocols.iter().any(|protocol| is_common(&protocol.name))
    }

    /// Finds whose place somebody takes who joins: its own, that of its former self if it is a static member, or nobody's.
    fn find_joining(
        &self,
        is_new: bool,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<Option<StrBytes>, ResponseError> {
        match instance_id {
            None => Ok(self.members.get(member_id).map(|member| member.id.clone())),
            Some(instance_id) if is_new => Ok(self.static_members.get(instance_id).cloned()),
            Some(_) => self.known(member_id, instance_id).map(|member| Some(member.id.clone())),
        }
    }

    /// Gives the call back if it is to be refused.
    pub(in super::super) fn sync(
        &mut self,
        cx: &mut Context<'_>,
        call: Call,
        request: SyncGroupRequest,
    ) -> Result<(), (Call, ResponseError)> {
        let instance_id = request.group_instance_id.as_ref();
        let (member, classic) = match self.speaker(&request.member_id, instance_id, request.generation_id) {
            Ok(found) => found,
            Err(error) => return Err((call, error)),
        };
        let (name, subscription) = classic.protocols.first().expect("nobody joins without a protocol");
        let is_other_type = request.protocol_type.as_ref().is_some_and(|of| of.as_str() != CONSUMER_PROTOCOL);
        if is_other_type || request.protocol_name.as_ref().is_some_and(|of| of != name) {
            return Err((call, ResponseError::InconsistentGroupProtocol));
        }
        let (member_id, session_timeout) = (member.id.clone(), classic.session_timeout);
        if member.epoch < self.assignment_epoch && !member.is_revoking() {
            self.timers.set_if_absent(Timer::Join(member_id), cx.now + member.rebalance_timeout);
            return Err((call, ResponseError::RebalanceInProgress));
        }
        let topics = member.assignment().into_iter();
        let topics = topics.map(|(topic, numbers)| (self.name_of(topic), numbers.into_iter().collect()));
        let body = SyncGroupResponse::default()
            .with_throttle_time_ms(call.throttle_time_ms)
            .with_protocol_type(request.protocol_type.clone())
            .with_protocol_name(request.protocol_name.clone())
            .with_assignment(encode_assignment(subscription, topics));
        self.timers.cancel(&Timer::Sync(member_id.clone()));
        self.timers.set(Timer::Session(member_id), cx.now + session_timeout);
        cx.out.answer(call, &body);
        Ok(())
    }

    pub(in super::super) fn classic_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ResponseError> {
        let instance_id = request.group_instance_id.as_ref();
        let (member, classic) = self.speaker(&request.member_id, instance_id, request.generation_id)?;
        let newest = if cx.settings.release >= JOINS_WAIT_FOR_TARGETS { self.assignment_epoch } else { self.epoch };
        let gets_further = member.epoch < newest
            || member.is_revoking()
            || (member.waits_for_others() && !self.is_anything_taken_that_it_shall_have(member));
        let (member_id, rebalance_timeout) = (member.id.clone(), member.rebalance_timeout);
        self.timers.set(Timer::Session(member_id.clone()), cx.now + classic.session_timeout);
        if !gets_further {
            return Ok(());
        }
        self.timers.set_if_absent(Timer::Join(member_id), cx.now + rebalance_timeout);
        Err(ResponseError::RebalanceInProgress)
    }

    fn is_anything_taken_that_it_shall_have(&self, member: &Member) -> bool {
        let (target, has) = (self.target(&member.id), member.assignment());
        let contains = |of: &TopicPartitions, topic, number| of.get(&topic).is_some_and(|numbers| numbers.contains(&number));
        let mut held = self.members.values().flat_map(Member::holdings);
        held.any(|(topic, number)| contains(&target, topic, number) && !contains(&has, topic, number))
    }

    /// Finds who speaks the classic protocol in this generation, or says why nobody does.
    fn speaker(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(&Member, &Classic), ResponseError> {
        let member = self.known(member_id, instance_id)?;
        let classic = member.classic.as_ref().ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == generation { Ok((member, classic)) } else { Err(ResponseError::IllegalGeneration) }
    }
}
