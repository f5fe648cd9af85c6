//! What tools ask about groups: their lists, their members, and to be rid of them.

use kafka_protocol::{
    ResponseError,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
        DescribeGroupsRequest, DescribeGroupsResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
        consumer_group_describe_response as modern, delete_groups_response::DeletableGroupResult,
        describe_groups_response as classic, list_groups_response::ListedGroup,
    },
    protocol::StrBytes,
};

use super::{
    Context, Groups, Members,
    classic::{ClassicGroup, Member, State},
    consumer::{ConsumerGroup, TopicPartitions},
    text,
};
use crate::kafka::call::Call;

pub(super) const CLIENT_HOST: &str = "/127.0.0.1";

impl Groups {
    pub(crate) fn describe_groups(&mut self, cx: &mut Context<'_>, call: Call, request: DescribeGroupsRequest) {
        let describe = |id: &GroupId| {
            let body = classic::DescribedGroup::default().with_group_id(id.clone());
            if let Err(error) = coordinates(cx, &call, id) {
                return body.with_error_code(error.code());
            }
            match self.by_id.get(id.as_str()).map(|group| &group.members) {
                Some(Members::Classic(group)) => describe_classic(body, group, call.version),
                _ => {
                    let body = body.with_group_state(StrBytes::from_static_str("Dead"));
                    if call.version < 6 {
                        return body;
                    }
                    let message = text(&format!("Group {} is not a classic group.", id.as_str()));
                    body.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(message))
                }
            }
        };
        let body = DescribeGroupsResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let body = body.with_groups(request.groups.iter().map(describe).collect());
        cx.out.answer(call, &body);
    }

    pub(crate) fn consumer_group_describe(&mut self, cx: &mut Context<'_>, call: Call, request: ConsumerGroupDescribeRequest) {
        let describe = |id: &GroupId| {
            let body = modern::DescribedGroup::default().with_group_id(id.clone());
            if id.is_empty() {
                return body.with_error_code(ResponseError::InvalidGroupId.code());
            }
            if let Err(error) = coordinates(cx, &call, id) {
                return body.with_error_code(error.code());
            }
            match self.by_id.get(id.as_str()).map(|group| &group.members) {
                Some(Members::Consumer(group)) => describe_consumer(body, group, call.version),
                _ => {
                    let message = text(&format!("Group {} is not a consumer group.", id.as_str()));
                    body.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(message))
                }
            }
        };
        let body = ConsumerGroupDescribeResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let body = body.with_groups(request.group_ids.iter().map(describe).collect());
        cx.out.answer(call, &body);
    }

    pub(crate) fn list_groups(&mut self, cx: &mut Context<'_>, call: Call, request: ListGroupsRequest) {
        let is_wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        };
        let mut groups = Vec::new();
        for (id, group) in &self.by_id {
            let (protocol_type, state, kind) = match &group.members {
                Members::Classic(of) => (of.protocol_type().cloned().unwrap_or_default(), of.state().name(), "classic"),
                Members::Consumer(of) => (StrBytes::from_static_str("consumer"), of.state(), "consumer"),
            };
            let is_here = cx.brokers.coordinator_of(id) == Some(call.broker);
            if !is_here || !is_wanted(&request.states_filter, state) || !is_wanted(&request.types_filter, kind) {
                continue;
            }
            let body = ListedGroup::default().with_group_id(text(id).into()).with_protocol_type(protocol_type);
            groups.push(body.with_group_state(text(state)).with_group_type(text(kind)));
        }
        let body = ListGroupsResponse::default().with_throttle_time_ms(call.throttle_time_ms).with_groups(groups);
        cx.out.answer(call, &body);
    }

    pub(crate) fn delete_groups(&mut self, cx: &mut Context<'_>, call: Call, request: DeleteGroupsRequest) {
        let mut results = Vec::new();
        for id in &request.groups_names {
            // The group without a name may have offsets, too: those of old clients.
            let result = match coordinates(cx, &call, id) {
                Err(error) if error != ResponseError::InvalidGroupId => Err(error),
                _ => self.delete(id),
            };
            results.push(DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(super::code_of(result)));
        }
        let body = DeleteGroupsResponse::default().with_throttle_time_ms(call.throttle_time_ms).with_results(results);
        cx.out.answer(call, &body);
    }

    fn delete(&mut self, id: &GroupId) -> Result<(), ResponseError> {
        let group = self.by_id.get(id.as_str()).ok_or(ResponseError::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(ResponseError::NonEmptyGroup);
        }
        self.by_id.remove(id.as_str());
        Ok(())
    }
}

fn coordinates(cx: &Context<'_>, call: &Call, id: &GroupId) -> Result<(), ResponseError> {
    match cx.brokers.coordinator_of(id) {
        None => Err(ResponseError::CoordinatorNotAvailable),
        Some(broker) if broker != call.broker => Err(ResponseError::NotCoordinator),
        Some(_) => Ok(()),
    }
}

fn describe_classic(body: classic::DescribedGroup, group: &ClassicGroup, version: i16) -> classic::DescribedGroup {
    let protocol = group.protocol().filter(|_| group.state() == State::Stable);
    let member = |member: &Member| {
        let body = classic::DescribedGroupMember::default()
            .with_member_id(member.id.clone())
            .with_client_id(member.client_id.clone())
            .with_client_host(StrBytes::from_static_str(CLIENT_HOST))
            .with_member_metadata(protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default())
            .with_member_assignment(member.assignment.clone());
        if version >= 4 { body.with_group_instance_id(member.instance_id.clone()) } else { body }
    };
    body.with_group_state(text(group.state().name()))
        .with_protocol_type(group.protocol_type().cloned().unwrap_or_default())
        .with_protocol_data(protocol.cloned().unwrap_or_default())
        .with_members(group.members().map(member).collect())
}

fn describe_consumer(body: modern::DescribedGroup, group: &ConsumerGroup, version: i16) -> modern::DescribedGroup {
    let assignment = |partitions: TopicPartitions| {
        let topic = |(id, numbers): (uuid::Uuid, std::collections::BTreeSet<i32>)| {
            let body = modern::TopicPartitions::default().with_topic_id(id).with_topic_name(text(&group.name_of(id)).into());
            body.with_partitions(numbers.into_iter().collect())
        };
        modern::Assignment::default().with_topic_partitions(partitions.into_iter().map(topic).collect())
    };
    let member = |member: &super::consumer::Member| {
        let body = modern::Member::default()
            .with_member_id(member.id.clone())
            .with_instance_id(member.instance_id.clone())
            .with_rack_id(member.rack_id.clone())
            .with_member_epoch(member.epoch)
            .with_client_id(member.client_id.clone())
            .with_client_host(StrBytes::from_static_str(CLIENT_HOST))
            .with_subscribed_topic_names(member.names.iter().map(|name| text(name).into()).collect())
            .with_subscribed_topic_regex(Some(member.pattern().cloned().unwrap_or_default()))
            .with_assignment(assignment(member.assignment()))
            .with_target_assignment(assignment(group.target(&member.id)));
        // 1 speaks the protocol of consumer groups, 0 the classic one.
        if version >= 1 { body.with_member_type(member.classic.is_none().into()) } else { body }
    };
    body.with_group_state(text(group.state()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.assignment_epoch())
        .with_assignor_name(text(group.assignor()))
        .with_members(group.members().map(member).collect())
}
