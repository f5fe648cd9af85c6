//! JoinGroup: who may come in, and what that does to the group.

use kafka_protocol::{
    ResponseError,
    messages::{JoinGroupRequest, JoinGroupResponse, join_group_response::JoinGroupResponseMember},
    protocol::StrBytes,
};

use super::{
    ClassicGroup, State, Timer,
    member::{Member, refuse_join},
};
use crate::kafka::{Context, call::Call, clock::ms, message::Event};

/// How long somebody may stay in a first join that does not end.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

impl ClassicGroup {
    pub(in super::super) fn join(&mut self, cx: &mut Context<'_>, call: Call, request: &JoinGroupRequest) {
        let unknown = StrBytes::default();
        if !self.has_room_for(cx, &request.member_id) {
            self.remove(cx, &request.member_id, "the group is full");
            refuse_join(cx, call, ResponseError::GroupMaxSizeReached, &unknown);
        } else if !self.supports_protocols_of(request) {
            refuse_join(cx, call, ResponseError::InconsistentGroupProtocol, &request.member_id);
        } else if request.member_id.is_empty() {
            self.join_as_new(cx, call, request);
        } else if self.pending_joins.contains(&request.member_id) && request.group_instance_id.is_none() {
            self.add_joining(cx, call, request, request.member_id.clone());
        } else {
            self.rejoin(cx, call, request);
        }
    }

    fn has_room_for(&self, cx: &Context<'_>, member_id: &StrBytes) -> bool {
        let max = cx.settings.group_max_size;
        match self.state {
            State::Empty => true,
            State::Preparing => {
                self.members.get(member_id).is_some_and(|member| member.joining.is_some()) || self.count_joined() < max
            }
            State::Completing | State::Stable => self.members.contains_key(member_id) || self.members.len() < max,
        }
    }

    fn supports_protocols_of(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let is_common = |name| self.members.values().all(|member| member.supports(name));
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| is_common(&protocol.name))
    }

    fn join_as_new(&mut self, cx: &mut Context<'_>, call: Call, request: &JoinGroupRequest) {
        let prefix = request.group_instance_id.as_ref().or(call.client_id.as_ref()).map_or("", |name| name.as_str());
        let member_id = StrBytes::from_string(format!("{prefix}-{}", cx.random.uuid()));
        if let Some(instance_id) = &request.group_instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace(cx, call, request, &old_id, member_id),
                None => self.add_joining(cx, call, request, member_id),
            }
        } else if call.version >= 4 {
            self.pending_joins.insert(member_id.clone());
            self.timers.set(Timer::Session(member_id.clone()), cx.now + ms(request.session_timeout_ms));
            refuse_join(cx, call, ResponseError::MemberIdRequired, &member_id);
        } else {
            self.add_joining(cx, call, request, member_id);
        }
    }

    fn add_joining(&mut self, cx: &mut Context<'_>, call: Call, request: &JoinGroupRequest, member_id: StrBytes) {
        if self.state == State::Preparing && self.previous == State::Empty {
            self.is_new_member_added = true;
        }
        self.add(Member::new(member_id.clone(), call, request));
        self.timers.set(Timer::Session(member_id), cx.now + ms(NEW_MEMBER_JOIN_TIMEOUT_MS));
        self.rebalance_or_complete(cx);
    }

    fn rejoin(&mut self, cx: &mut Context<'_>, call: Call, request: &JoinGroupRequest) {
        let member_id = &request.member_id;
        if let Err(error) = self.validate(member_id, request.group_instance_id.as_ref()) {
            return refuse_join(cx, call, error, member_id);
        }
        let member = self.members.get_mut(member_id).expect("it is valid");
        let is_repeated = match self.state {
            State::Preparing => false,
            State::Completing => member.matches(request),
            State::Stable => self.leader.as_ref() != Some(member_id) && member.matches(request),
            State::Empty => return refuse_join(cx, call, ResponseError::UnknownMemberId, member_id),
        };
        if is_repeated {
            self.answer_join(cx, call, member_id, false);
        } else {
            member.update(call, request);
            self.rebalance_or_complete(cx);
        }
    }

    /// Lets a static member that has begun anew take the place of its former self.
    fn replace(&mut self, cx: &mut Context<'_>, call: Call, request: &JoinGroupRequest, old_id: &StrBytes, new_id: StrBytes) {
        let former_leader = self.leader.clone();
        let (place, _, mut member) = self.members.shift_remove_full(old_id).expect("static members are members");
        self.timers.cancel(&Timer::Session(old_id.clone()));
        member.refuse_join(cx, ResponseError::FencedInstanceId);
        member.refuse_sync(cx, ResponseError::FencedInstanceId);
        cx.out.event(Event::MemberGone { group: self.id.clone(), member_id: old_id.to_string(), why: "fenced" });
        member.id = new_id.clone();
        member.update(call, request);
        // It was in the group all the time, under another id.
        member.is_new = false;
        self.members.shift_insert(place, new_id.clone(), member);
        self.static_members.extend(request.group_instance_id.clone().map(|instance_id| (instance_id, new_id.clone())));
        if self.leader.as_ref() == Some(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.keep_alive(cx.now, &new_id);

        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                self.store();
                let call = self.members.get_mut(&new_id).and_then(|member| member.joining.take()).expect("it joins");
                if call.version >= 9 {
                    let skip_assignment = self.is_leader(&new_id);
                    self.answer_join(cx, call, &new_id, skip_assignment);
                } else {
                    // It must not find itself the leader: it would assign anew, and nobody else would hear of that.
                    let body = self.joined(&call, &new_id).with_leader(former_leader.unwrap_or_default());
                    cx.out.answer(call, &body.with_members(Vec::new()));
                }
            }
            State::Stable | State::Completing => self.prepare_rebalance(cx),
            State::Preparing | State::Empty => self.complete_if_all_joined(cx),
        }
    }

    /// Tells a member about the current generation.
    pub(super) fn answer_join(&self, cx: &mut Context<'_>, call: Call, member_id: &StrBytes, skip_assignment: bool) {
        let body = self.joined(&call, member_id);
        let body = if skip_assignment { body.with_skip_assignment(true) } else { body };
        cx.out.answer(call, &body);
    }

    fn joined(&self, call: &Call, member_id: &StrBytes) -> JoinGroupResponse {
        let members = if self.is_leader(member_id) { self.members_for_leader(call.version) } else { Vec::new() };
        JoinGroupResponse::default()
            .with_throttle_time_ms(call.throttle_time_ms)
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(Some(self.protocol.clone().unwrap_or_default()))
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_member_id(member_id.clone())
            .with_members(members)
    }

    fn members_for_leader(&self, version: i16) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = |member: &Member| {
            let body = JoinGroupResponseMember::default().with_member_id(member.id.clone());
            let body = body.with_metadata(member.metadata(&protocol));
            if version >= 5 { body.with_group_instance_id(member.instance_id.clone()) } else { body }
        };
        self.members.values().map(member).collect()
    }
}
