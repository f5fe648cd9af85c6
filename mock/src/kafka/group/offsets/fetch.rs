//! OffsetFetch.

use kafka_protocol::{
    ResponseError,
    messages::{
        GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName, offset_fetch_request::OffsetFetchRequestGroup,
        offset_fetch_response as response,
    },
    protocol::StrBytes,
};

use super::{Offset, Offsets};
use crate::kafka::{
    Context,
    call::Call,
    group::{Groups, Members, text},
};

/// What a group says about one partition.
type Found<'a> = Result<Option<&'a Offset>, ResponseError>;
/// By topic and partition.
type Topics<'a> = Vec<(TopicName, Vec<(i32, Found<'a>)>)>;
/// What is asked for; `None` is everything.
type Asked = Option<Vec<(TopicName, Vec<i32>)>>;

impl Groups {
    pub(crate) fn offset_fetch(&mut self, cx: &mut Context<'_>, call: Call, request: OffsetFetchRequest) {
        let mut body = OffsetFetchResponse::default();
        if call.version >= 3 {
            body = body.with_throttle_time_ms(call.throttle_time_ms);
        }
        if call.version >= 8 {
            let group = |group: &OffsetFetchRequestGroup| {
                let topics = group.topics.iter().flatten();
                let asked = topics.map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect();
                let asked = group.topics.is_some().then_some(asked);
                let found = match cx.brokers.coordinator_of(&group.group_id) {
                    None => Err(ResponseError::CoordinatorNotAvailable),
                    Some(broker) if broker != call.broker => Err(ResponseError::NotCoordinator),
                    Some(_) => self.look_up(&group.group_id, group, asked, request.require_stable),
                };
                let body = response::OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                match found {
                    Ok(topics) => body.with_topics(topics.into_iter().map(encode_grouped).collect()),
                    Err(error) => body.with_error_code(error.code()),
                }
            };
            body = body.with_groups(request.groups.iter().map(group).collect());
        } else {
            let topics = request.topics.iter().flatten();
            let asked = topics.map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect();
            // Versions before 2 have no way to say "everything".
            let asked = request.topics.is_some().then_some(asked);
            let nobody = OffsetFetchRequestGroup::default().with_member_epoch(-1);
            let is_stable = call.version >= 7 && request.require_stable;
            match self.look_up(&request.group_id, &nobody, asked, is_stable) {
                Ok(topics) => body = body.with_topics(topics.into_iter().map(encode).collect()),
                Err(error) => return crate::kafka::refuse::refuse(&request.into(), error, call, cx.out),
            }
        }
        cx.out.answer(call, &body);
    }

    fn look_up(
        &self,
        id: &GroupId,
        asked_by: &OffsetFetchRequestGroup,
        asked: Asked,
        require_stable: bool,
    ) -> Result<Topics<'_>, ResponseError> {
        let Some(group) = self.by_id.get(id.as_str()) else {
            let nothing = |numbers: Vec<i32>| numbers.into_iter().map(|number| (number, Ok(None))).collect();
            return Ok(asked.into_iter().flatten().map(|(topic, numbers)| (topic, nothing(numbers))).collect());
        };
        if let Members::Consumer(consumer) = &group.members {
            consumer.validate_fetch(asked_by.member_id.as_ref(), asked_by.member_epoch)?;
        }
        let asked = asked.unwrap_or_else(|| group.offsets.all());
        let of_topic = |(topic, numbers): (TopicName, Vec<i32>)| {
            let found = numbers.into_iter().map(|number| (number, group.offsets.look_up(&topic, number, require_stable)));
            let found = found.collect();
            (topic, found)
        };
        Ok(asked.into_iter().map(of_topic).collect())
    }
}

impl Offsets {
    fn all(&self) -> Vec<(TopicName, Vec<i32>)> {
        self.by_topic.iter().map(|(topic, offsets)| (text(topic).into(), offsets.keys().copied().collect())).collect()
    }

    fn look_up(&self, topic: &str, number: i32, require_stable: bool) -> Found<'_> {
        if require_stable && self.is_pending(topic, number) {
            return Err(ResponseError::UnstableOffsetCommit);
        }
        Ok(self.get(topic, number))
    }
}

struct Answer {
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    error: i16,
}

fn read(found: Found<'_>) -> Answer {
    match found {
        Ok(Some(of)) => Answer { offset: of.offset, leader_epoch: of.leader_epoch, metadata: of.metadata.clone(), error: 0 },
        Ok(None) => Answer { offset: -1, leader_epoch: -1, metadata: StrBytes::default(), error: 0 },
        Err(error) => Answer { offset: -1, leader_epoch: -1, metadata: StrBytes::default(), error: error.code() },
    }
}

fn encode((name, partitions): (TopicName, Vec<(i32, Found<'_>)>)) -> response::OffsetFetchResponseTopic {
    let partitions = partitions.into_iter().map(|(number, found)| {
        let Answer { offset, leader_epoch, metadata, error } = read(found);
        response::OffsetFetchResponsePartition::default()
            .with_partition_index(number)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
            .with_error_code(error)
    });
    response::OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
}

fn encode_grouped((name, partitions): (TopicName, Vec<(i32, Found<'_>)>)) -> response::OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(number, found)| {
        let Answer { offset, leader_epoch, metadata, error } = read(found);
        response::OffsetFetchResponsePartitions::default()
            .with_partition_index(number)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
            .with_error_code(error)
    });
    response::OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
}
