//! SyncGroup, Heartbeat and LeaveGroup.

use std::collections::BTreeMap;

use kafka_protocol::{
    ResponseError,
    messages::{HeartbeatRequest, SyncGroupRequest, SyncGroupResponse, leave_group_request::MemberIdentity},
    protocol::StrBytes,
};

use super::{ClassicGroup, Member, State, Timer};
use crate::kafka::{Context, call::Call};

impl ClassicGroup {
    /// Gives the call back if it is to be refused.
    pub(in super::super) fn sync(
        &mut self,
        cx: &mut Context<'_>,
        call: Call,
        request: SyncGroupRequest,
    ) -> Result<(), (Call, ResponseError)> {
        let member_id = &request.member_id;
        if let Err(error) = self.validate_sync(&request) {
            return Err((call, error));
        }
        match self.state {
            State::Empty => return Err((call, ResponseError::UnknownMemberId)),
            State::Preparing => return Err((call, ResponseError::RebalanceInProgress)),
            State::Completing => {
                self.synced(member_id);
                self.members.get_mut(member_id).expect("it is valid").syncing = Some(call);
                if self.is_leader(member_id) {
                    self.assign(cx, request);
                }
            }
            State::Stable => {
                self.synced(member_id);
                let member = &self.members[member_id];
                let body = self.synced_answer(&call, member);
                cx.out.answer(call, &body);
            }
        }
        Ok(())
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ResponseError> {
        self.validate(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |asked: &Option<StrBytes>, current: &Option<StrBytes>| asked.is_some() && asked != current;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&mut self, member_id: &StrBytes) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.timers.cancel(&Timer::Sync);
        }
    }

    /// Gives out the leader's assignment; whom it left out gets an empty one.
    fn assign(&mut self, cx: &mut Context<'_>, request: SyncGroupRequest) {
        let assignments = request.assignments.into_iter();
        let mut assignments: BTreeMap<_, _> = assignments.map(|of| (of.member_id, of.assignment)).collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.store();
        let waiting = self.members.values_mut().filter_map(|member| Some((member.id.clone(), member.syncing.take()?)));
        for (member_id, call) in waiting.collect::<Vec<_>>() {
            let body = self.synced_answer(&call, &self.members[&member_id]);
            cx.out.answer(call, &body);
            self.keep_alive(cx.now, &member_id);
        }
        self.enter(cx.now, State::Stable);
    }

    fn synced_answer(&self, call: &Call, member: &Member) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_throttle_time_ms(call.throttle_time_ms)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_assignment(member.assignment.clone())
    }

    pub(in super::super) fn heartbeat(&mut self, cx: &mut Context<'_>, request: &HeartbeatRequest) -> Result<(), ResponseError> {
        self.validate(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        self.keep_alive(cx.now, &request.member_id);
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::Preparing => Err(ResponseError::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// Lets members go, and says of each whether it was one.
    pub(in super::super) fn leave(&mut self, cx: &mut Context<'_>, leaving: &[MemberIdentity]) -> Vec<Result<(), ResponseError>> {
        let results: Vec<_> = leaving.iter().map(|identity| self.leave_one(cx, identity)).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::Completing => self.prepare_rebalance(cx),
                State::Preparing => self.complete_if_all_joined(cx),
                State::Empty => {}
            }
        }
        results
    }

    fn leave_one(&mut self, cx: &mut Context<'_>, identity: &MemberIdentity) -> Result<(), ResponseError> {
        let instance_id = identity.group_instance_id.as_ref();
        let member_id = if identity.member_id.is_empty() {
            // A tool may take a static member out by its instance id alone.
            let named = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            named.cloned().ok_or(ResponseError::UnknownMemberId)?
        } else {
            identity.member_id.clone()
        };
        if !self.pending_joins.contains(&member_id) {
            self.validate(&member_id, instance_id)?;
        }
        if let Some(mut member) = self.remove(cx, &member_id, "left") {
            member.id = StrBytes::default();
            member.refuse_join(cx, ResponseError::UnknownMemberId);
        } else {
            self.timers.cancel(&Timer::Session(member_id));
        }
        Ok(())
    }
}
