//! Groups: who is in them, and what they have committed.

mod classic;
mod consumer;
mod convert;
mod describe;
mod embedded;
mod offsets;
#[cfg(test)]
mod tests;
mod timers;
mod view;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kafka_protocol::{
    ResponseError,
    messages::{leave_group_request::MemberIdentity, leave_group_response::MemberResponse, *},
    protocol::StrBytes,
};

use super::{Context, api::Release, call::Call, refuse::refuse};

pub use view::MemberView;

use classic::{ClassicGroup, State};
use consumer::ConsumerGroup;
use offsets::Offsets;

/// `offsets.retention.check.interval.ms`: after so long an empty group without offsets is forgotten.
const RETENTION_CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
}

#[derive(Debug)]
struct Group {
    members: Members,
    offsets: Offsets,
    /// When its offsets are next looked through for old ones.
    expiry: Option<Instant>,
}

/// A group is of one protocol or the other; in one of the consumer protocol there may be members that speak the classic one (`convert`).
#[derive(Debug)]
enum Members {
    Classic(Box<ClassicGroup>),
    Consumer(Box<ConsumerGroup>),
}

impl Groups {
    pub(super) fn join_group(&mut self, cx: &mut Context<'_>, call: Call, request: JoinGroupRequest) {
        let session_timeout = super::clock::ms(request.session_timeout_ms);
        let allowed = cx.settings.group_min_session_timeout..=cx.settings.group_max_session_timeout;
        let id = request.group_id.to_string();
        if id.is_empty() {
            return refuse(&request.into(), ResponseError::InvalidGroupId, call, cx.out);
        }
        if !allowed.contains(&session_timeout) {
            return refuse(&request.into(), ResponseError::InvalidSessionTimeout, call, cx.out);
        }
        if !self.by_id.contains_key(&id) && !request.member_id.is_empty() {
            return refuse(&request.into(), ResponseError::UnknownMemberId, call, cx.out);
        }
        let group = self.get_or_create(cx, &id);
        if matches!(&group.members, Members::Consumer(consumer) if consumer.is_empty()) {
            group.members = Members::new_classic(&id, cx.now);
        }
        match &mut group.members {
            Members::Classic(classic) => classic.join(cx, call, &request),
            Members::Consumer(consumer) => consumer.join(cx, call, &request),
        }
        group.turn_classic_by_replacement(cx);
        group.reckon_expiry(cx);
    }

    pub(super) fn sync_group(&mut self, cx: &mut Context<'_>, call: Call, request: SyncGroupRequest) {
        let error = if request.group_id.is_empty() {
            ResponseError::InvalidGroupId
        } else if call.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            ResponseError::InconsistentGroupProtocol
        } else {
            ResponseError::UnknownMemberId
        };
        let group = self.by_id.get_mut(request.group_id.as_str()).filter(|_| error == ResponseError::UnknownMemberId);
        let refused = match group {
            Some(group) => {
                let result = match &mut group.members {
                    Members::Classic(classic) => classic.sync(cx, call, request),
                    Members::Consumer(consumer) => consumer.sync(cx, call, request),
                };
                group.reckon_expiry(cx);
                result
            }
            None => Err((call, error)),
        };
        if let Err((call, error)) = refused {
            let body = SyncGroupResponse::default().with_throttle_time_ms(call.throttle_time_ms);
            cx.out.answer(call, &body.with_error_code(error.code()));
        }
    }

    pub(super) fn heartbeat(&mut self, cx: &mut Context<'_>, call: Call, request: HeartbeatRequest) {
        let result = match self.by_id.get_mut(request.group_id.as_str()).map(|group| &mut group.members) {
            _ if request.group_id.is_empty() => Err(ResponseError::InvalidGroupId),
            Some(Members::Classic(classic)) => classic.heartbeat(cx, &request),
            Some(Members::Consumer(consumer)) => consumer.classic_heartbeat(cx, &request),
            None => Err(ResponseError::UnknownMemberId),
        };
        let body = HeartbeatResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        cx.out.answer(call, &body.with_error_code(code_of(result)));
    }

    pub(super) fn leave_group(&mut self, cx: &mut Context<'_>, call: Call, request: LeaveGroupRequest) {
        if request.group_id.is_empty() {
            return refuse(&request.into(), ResponseError::InvalidGroupId, call, cx.out);
        }
        let leaving = match call.version {
            ..3 => vec![MemberIdentity::default().with_member_id(request.member_id.clone())],
            _ => request.members,
        };
        let results = match self.by_id.get_mut(request.group_id.as_str()) {
            Some(group) => {
                let results = match &mut group.members {
                    Members::Classic(classic) => classic.leave(cx, &leaving),
                    Members::Consumer(consumer) => consumer.remove(cx, &leaving),
                };
                group.turn_classic_if_all_are(cx);
                group.reckon_expiry(cx);
                results
            }
            None => vec![Err(ResponseError::UnknownMemberId); leaving.len()],
        };
        let body = LeaveGroupResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let body = if call.version < 3 {
            body.with_error_code(results.into_iter().next().map_or(0, code_of))
        } else {
            let members = leaving.into_iter().zip(results).map(|(identity, result)| {
                MemberResponse::default()
                    .with_member_id(identity.member_id)
                    .with_group_instance_id(identity.group_instance_id)
                    .with_error_code(code_of(result))
            });
            body.with_members(members.collect())
        };
        cx.out.answer(call, &body);
    }

    pub(super) fn consumer_group_heartbeat(&mut self, cx: &mut Context<'_>, call: Call, request: ConsumerGroupHeartbeatRequest) {
        let result = self.beat(cx, &call, &request);
        let body = result.unwrap_or_else(|(error, message)| {
            let body = ConsumerGroupHeartbeatResponse::default().with_error_code(error.code());
            body.with_error_message(message.map(StrBytes::from_static_str))
        });
        let throttle_time_ms = call.throttle_time_ms;
        cx.out.answer(call, &body.with_throttle_time_ms(throttle_time_ms));
    }

    fn beat(
        &mut self,
        cx: &mut Context<'_>,
        call: &Call,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, (ResponseError, Option<&'static str>)> {
        if !cx.settings.consumer_groups || cx.settings.release < Release::new(4, 0) {
            return Err((ResponseError::UnsupportedVersion, None));
        }
        consumer::validate(request, call.version)?;
        let id = request.group_id.as_str();
        let is_joining = request.member_epoch == 0;
        let mut created = None;
        let group = match self.by_id.get_mut(id) {
            Some(group) => match &mut group.members {
                Members::Consumer(consumer) => consumer,
                Members::Classic(classic) if is_joining && classic.is_empty() => {
                    created.insert(Box::new(ConsumerGroup::new(id, cx.now, cx.settings.release)))
                }
                Members::Classic(classic) if is_joining => {
                    created.insert(Box::new(ConsumerGroup::from_classic(cx, id, classic)?))
                }
                Members::Classic(_) => return Err((ResponseError::GroupIdNotFound, Some("The group is not a consumer group."))),
            },
            None if is_joining => created.insert(Box::new(ConsumerGroup::new(id, cx.now, cx.settings.release))),
            None => return Err((ResponseError::GroupIdNotFound, None)),
        };
        let body = group.heartbeat(cx, call, request)?;
        if let Some(created) = created {
            let former = std::mem::replace(&mut self.get_or_create(cx, id).members, Members::Consumer(created));
            if let Members::Classic(mut classic) = former {
                classic.dissolve(cx);
            }
        }
        if let Some(group) = self.by_id.get_mut(id) {
            group.turn_classic_if_all_are(cx);
            group.reckon_expiry(cx);
        }
        Ok(body)
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let mut forgotten = Vec::new();
        for (id, group) in &mut self.by_id {
            if group.deadline().is_none_or(|at| at > now) {
                continue;
            }
            match &mut group.members {
                Members::Classic(classic) => classic.tick(cx),
                Members::Consumer(consumer) => consumer.tick(cx),
            }
            group.turn_classic_if_all_are(cx);
            group.reckon_expiry(cx);
            if group.expiry.is_some_and(|at| at <= now) {
                if group.expire(cx) {
                    forgotten.push(id.clone());
                } else {
                    group.reckon_expiry(cx);
                }
            }
        }
        for id in forgotten {
            self.by_id.remove(&id);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Group::deadline).min()
    }

    /// The group has another coordinator, which has read its state from the log: who waits is told, and all sessions begin anew.
    pub(super) fn coordinator_moved(&mut self, cx: &mut Context<'_>, group: &str) {
        let Some(group) = self.by_id.get_mut(group) else { return };
        match &mut group.members {
            Members::Classic(classic) => classic.reload(cx),
            Members::Consumer(consumer) => consumer.reload(cx),
        }
        group.reckon_expiry(cx);
    }

    fn get_or_create(&mut self, cx: &Context<'_>, id: &str) -> &mut Group {
        self.by_id.entry(id.to_owned()).or_insert_with(|| Group {
            members: Members::new_classic(id, cx.now),
            offsets: Offsets::default(),
            expiry: Some(cx.now + RETENTION_CHECK_INTERVAL),
        })
    }
}

impl Group {
    fn deadline(&self) -> Option<Instant> {
        let members = match &self.members {
            Members::Classic(classic) => classic.deadline(),
            Members::Consumer(consumer) => consumer.deadline(),
        };
        [members, self.expiry].into_iter().flatten().min()
    }

    fn is_empty(&self) -> bool {
        match &self.members {
            Members::Classic(classic) => classic.is_empty(),
            Members::Consumer(consumer) => consumer.is_empty(),
        }
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.are_subscribed_to(topic)
    }

    /// Finds out when the next offset is too old to be kept, or the group itself.
    fn reckon_expiry(&mut self, cx: &Context<'_>) {
        self.expiry = if self.offsets.is_empty() {
            self.abandoned_since().map(|since| since + RETENTION_CHECK_INTERVAL)
        } else {
            self.ageing().and_then(|from| {
                let retention = cx.settings.offsets_retention;
                self.offsets.next_expiry(retention, from, |topic| self.is_subscribed_to(topic))
            })
        };
    }

    /// Since when nobody has been in it; its offsets may be there all the same.
    fn abandoned_since(&self) -> Option<Instant> {
        match &self.members {
            Members::Classic(classic) => classic.is_abandoned().then_some(classic.since),
            Members::Consumer(consumer) => consumer.empty_since,
        }
    }

    /// Says from when offsets age; `None` while they do not.
    fn ageing(&self) -> Option<Ageing> {
        match &self.members {
            Members::Consumer(_) => Some(Ageing::FromCommit),
            Members::Classic(classic) if classic.protocol_type().is_none() => Some(Ageing::FromCommit),
            Members::Classic(classic) => match classic.state() {
                State::Empty => Some(Ageing::From(classic.since)),
                State::Stable if classic.knows_subscriptions() => Some(Ageing::FromCommit),
                _ => None,
            },
        }
    }

    /// Drops what is too old; says whether the group itself is to go.
    fn expire(&mut self, cx: &Context<'_>) -> bool {
        if let Some(from) = self.ageing() {
            let members = &self.members;
            self.offsets.expire(cx.now, cx.settings.offsets_retention, from, |topic| members.are_subscribed_to(topic));
        }
        self.offsets.is_empty() && self.abandoned_since().is_some()
    }
}

impl Members {
    fn new_classic(id: &str, now: Instant) -> Self {
        Self::Classic(Box::new(ClassicGroup::new(id, now)))
    }

    fn are_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(classic) => classic.is_subscribed_to(topic),
            Self::Consumer(consumer) => consumer.is_subscribed_to(topic),
        }
    }
}

/// From when on an offset gets old.
#[derive(Clone, Copy, Debug)]
enum Ageing {
    FromCommit,
    From(Instant),
}

fn code_of(result: Result<(), ResponseError>) -> i16 {
    result.map_or_else(|error| error.code(), |()| 0)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
