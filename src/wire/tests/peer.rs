//! The broker's side: answers written by `kafka_protocol`. Whatever ottla does not read is filled with noise.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{self as kafka, GroupId, ProducerId, ResponseHeader, TopicName},
    protocol::{Encodable, HeaderVersion, StrBytes},
};

use super::super::*;
use crate::model::{BrokerId, LeaderEpoch, Offset, Position, TopicId, TopicPartition};

const NOISE: i32 = 0x4E4F_4953;

/// Writes the answer: header without the correlation id, then body.
pub(super) fn encode(answer: &Response, version: i16) -> Bytes {
    match answer {
        Response::ApiVersions(answer) => frame(version, api_versions(version, answer)),
        Response::Metadata(answer) => frame(version, metadata(version, answer)),
        Response::FindCoordinator(answer) => frame(version, find_coordinator(version, answer)),
        Response::JoinGroup(answer) => frame(version, join_group(version, answer)),
        Response::SyncGroup(answer) => frame(version, sync_group(version, answer)),
        Response::Heartbeat(error) => frame(
            version,
            kafka::HeartbeatResponse::default()
                .with_throttle_time_ms(since(version, 1, NOISE))
                .with_error_code(error.0)
                .with_unknown_tagged_fields(noise()),
        ),
        Response::ConsumerGroupHeartbeat(answer) => frame(version, consumer_group_heartbeat(answer)),
        Response::LeaveGroup(answer) => frame(version, leave_group(version, answer)),
        Response::OffsetCommit(answer) => frame(version, offset_commit(version, answer)),
        Response::OffsetFetch(answer) => frame(version, offset_fetch(version, answer)),
        Response::ListOffsets(answer) => frame(version, list_offsets(version, answer)),
        Response::Fetch(answer) => frame(version, fetch(version, answer)),
        Response::OffsetForLeaderEpoch(answer) => frame(version, offset_for_leader_epoch(answer)),
        Response::SaslHandshake(answer) => frame(
            version,
            kafka::SaslHandshakeResponse::default()
                .with_error_code(answer.error.0)
                .with_mechanisms(answer.mechanisms.iter().map(text).collect()),
        ),
        Response::SaslAuthenticate(answer) => frame(
            version,
            kafka::SaslAuthenticateResponse::default()
                .with_error_code(answer.error.0)
                .with_error_message(optional(&answer.message))
                .with_auth_bytes(answer.challenge.clone())
                .with_session_lifetime_ms(answer.session_lifetime.map_or(0, |lifetime| lifetime.as_millis() as i64))
                .with_unknown_tagged_fields(noise()),
        ),
    }
}

/// Writes a header without the correlation id, then the body.
pub(super) fn frame<T: Encodable + HeaderVersion>(version: i16, body: T) -> Bytes {
    let mut frame = BytesMut::new();
    ResponseHeader::default()
        .with_unknown_tagged_fields(noise())
        .encode(&mut frame, T::header_version(version))
        .expect("a header can be encoded");
    body.encode(&mut frame, version).expect("the answer fits its version");
    frame.freeze().slice(4..)
}

fn api_versions(version: i16, answer: &ApiVersionsResponse) -> kafka::ApiVersionsResponse {
    let api = |range: &ApiRange| {
        kafka::api_versions_response::ApiVersion::default()
            .with_api_key(range.key)
            .with_min_version(range.min)
            .with_max_version(range.max)
            .with_unknown_tagged_fields(noise())
    };
    let body = kafka::ApiVersionsResponse::default()
        .with_error_code(answer.error.0)
        .with_api_keys(answer.apis.iter().map(api).collect())
        .with_throttle_time_ms(since(version, 1, NOISE))
        .with_unknown_tagged_fields(noise());
    if version < 3 {
        return body;
    }
    let feature = kafka::api_versions_response::SupportedFeatureKey::default().with_name("noise".into()).with_max_version(7);
    body.with_supported_features(vec![feature]).with_finalized_features_epoch(7)
}

fn metadata(version: i16, answer: &MetadataResponse) -> kafka::MetadataResponse {
    use kafka::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};

    let broker = |broker: &Broker| {
        MetadataResponseBroker::default()
            .with_node_id(broker.id.0.into())
            .with_host(text(&broker.host))
            .with_port(broker.port.into())
            .with_rack(optional(&broker.rack))
            .with_unknown_tagged_fields(noise())
    };
    let partition = |partition: &MetadataPartition| {
        MetadataResponsePartition::default()
            .with_error_code(partition.error.0)
            .with_partition_index(partition.partition)
            .with_leader_id(id(partition.leader).into())
            .with_leader_epoch(epoch(partition.leader_epoch))
            .with_replica_nodes(partition.replicas.iter().map(|id| id.0.into()).collect())
            .with_isr_nodes(vec![NOISE.into(), NOISE.into()])
            .with_offline_replicas(since(version, 5, vec![NOISE.into()]))
            .with_unknown_tagged_fields(noise())
    };
    let topic = |topic: &MetadataTopic| {
        MetadataResponseTopic::default()
            .with_error_code(topic.error.0)
            .with_name(topic.name.as_ref().map(|name| TopicName(text(name))))
            .with_topic_id(topic.id.map_or([0; 16], |id| id.0).to_vec().try_into().unwrap())
            .with_is_internal(topic.is_internal)
            .with_partitions(topic.partitions.iter().map(partition).collect())
            .with_topic_authorized_operations(if version >= 8 { NOISE } else { i32::MIN })
            .with_unknown_tagged_fields(noise())
    };
    kafka::MetadataResponse::default()
        .with_error_code(answer.error.0)
        .with_throttle_time_ms(NOISE)
        .with_brokers(answer.brokers.iter().map(broker).collect())
        .with_cluster_id(optional(&answer.cluster_id))
        .with_controller_id(NOISE.into())
        .with_topics(answer.topics.iter().map(topic).collect())
        .with_cluster_authorized_operations(if (8..=10).contains(&version) { NOISE } else { i32::MIN })
        .with_unknown_tagged_fields(noise())
}

fn find_coordinator(version: i16, answer: &CoordinatorResponse) -> kafka::FindCoordinatorResponse {
    let message = answer.message.as_ref().map(|message| StrBytes::from(message.clone()));
    let (node_id, host, port) = match &answer.coordinator {
        Some(broker) => (broker.id.0, text(&broker.host), i32::from(broker.port)),
        None => (-1, StrBytes::default(), -1),
    };
    let body = kafka::FindCoordinatorResponse::default()
        .with_throttle_time_ms(since(version, 1, NOISE))
        .with_unknown_tagged_fields(noise());
    if version >= 4 {
        let coordinator = kafka::find_coordinator_response::Coordinator::default()
            .with_key("noise".into())
            .with_node_id(node_id.into())
            .with_host(host)
            .with_port(port)
            .with_error_code(answer.error.0)
            .with_error_message(message)
            .with_unknown_tagged_fields(noise());
        return body.with_coordinators(vec![coordinator]);
    }
    let body = body.with_error_code(answer.error.0).with_node_id(node_id.into()).with_host(host).with_port(port);
    if version >= 1 { body.with_error_message(message) } else { body }
}

fn join_group(version: i16, answer: &JoinGroupResponse) -> kafka::JoinGroupResponse {
    let member = |member: &JoinedMember| {
        kafka::join_group_response::JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(optional(&member.instance_id))
            .with_metadata(member.metadata.clone())
            .with_unknown_tagged_fields(noise())
    };
    kafka::JoinGroupResponse::default()
        .with_throttle_time_ms(since(version, 2, NOISE))
        .with_error_code(answer.error.0)
        .with_generation_id(answer.generation.0)
        .with_protocol_type(optional(&answer.protocol_type))
        .with_protocol_name(optional(&answer.protocol))
        .with_leader(text(&answer.leader))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(text(&answer.member_id))
        .with_members(answer.members.iter().map(member).collect())
        .with_unknown_tagged_fields(noise())
}

fn consumer_group_heartbeat(answer: &ConsumerHeartbeatResponse) -> kafka::ConsumerGroupHeartbeatResponse {
    use kafka::consumer_group_heartbeat_response::{Assignment, TopicPartitions};

    let topic = |(id, partitions): &(TopicId, Vec<i32>)| {
        TopicPartitions::default()
            .with_topic_id(id.0.to_vec().try_into().unwrap())
            .with_partitions(partitions.clone())
            .with_unknown_tagged_fields(noise())
    };
    kafka::ConsumerGroupHeartbeatResponse::default()
        .with_throttle_time_ms(NOISE)
        .with_error_code(answer.error.0)
        .with_error_message(optional(&answer.message))
        .with_member_id(Some(StrBytes::from_static_str("noise")))
        .with_member_epoch(answer.epoch.0)
        .with_heartbeat_interval_ms(answer.heartbeat_interval.map_or(0, |interval| interval.as_millis() as i32))
        .with_assignment(answer.assignment.as_ref().map(|topics| {
            let topics = topics.iter().map(topic).collect();
            Assignment::default().with_topic_partitions(topics).with_unknown_tagged_fields(noise())
        }))
        .with_unknown_tagged_fields(noise())
}

fn sync_group(version: i16, answer: &SyncGroupResponse) -> kafka::SyncGroupResponse {
    kafka::SyncGroupResponse::default()
        .with_throttle_time_ms(since(version, 1, NOISE))
        .with_error_code(answer.error.0)
        .with_protocol_type(optional(&answer.protocol_type))
        .with_protocol_name(optional(&answer.protocol))
        .with_assignment(answer.assignment.clone())
        .with_unknown_tagged_fields(noise())
}

fn leave_group(version: i16, answer: &LeaveGroupResponse) -> kafka::LeaveGroupResponse {
    let member = |(member_id, error): &(Arc<str>, ErrorCode)| {
        kafka::leave_group_response::MemberResponse::default()
            .with_member_id(text(member_id))
            .with_group_instance_id(Some("noise".into()))
            .with_error_code(error.0)
            .with_unknown_tagged_fields(noise())
    };
    kafka::LeaveGroupResponse::default()
        .with_throttle_time_ms(since(version, 1, NOISE))
        .with_error_code(answer.error.0)
        .with_members(answer.members.iter().map(member).collect())
        .with_unknown_tagged_fields(noise())
}

fn offset_commit(version: i16, answer: &[(TopicPartition, ErrorCode)]) -> kafka::OffsetCommitResponse {
    use kafka::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};

    let topics = topics(answer, |name, partitions| {
        let partition = |(partition, error): &(TopicPartition, ErrorCode)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition())
                .with_error_code(error.0)
                .with_unknown_tagged_fields(noise())
        };
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.iter().map(partition).collect())
            .with_unknown_tagged_fields(noise())
    });
    kafka::OffsetCommitResponse::default()
        .with_throttle_time_ms(since(version, 3, NOISE))
        .with_topics(topics)
        .with_unknown_tagged_fields(noise())
}

fn offset_fetch(version: i16, answer: &OffsetFetchResponse) -> kafka::OffsetFetchResponse {
    use kafka::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
        OffsetFetchResponseTopics,
    };

    let body =
        kafka::OffsetFetchResponse::default().with_throttle_time_ms(since(version, 3, NOISE)).with_unknown_tagged_fields(noise());
    if version >= 8 {
        let topics = topics(&answer.partitions, |name, partitions| {
            let partition = |(partition, fetched): &(TopicPartition, FetchedOffset)| {
                let (offset, epoch) = position(fetched.committed);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition.partition())
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(fetched.metadata.as_deref().map(|metadata| StrBytes::from(metadata.to_owned())))
                    .with_error_code(fetched.error.0)
                    .with_unknown_tagged_fields(noise())
            };
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(noise())
        });
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(GroupId("noise".into()))
            .with_topics(topics)
            .with_error_code(answer.error.0)
            .with_unknown_tagged_fields(noise());
        return body.with_groups(vec![group]);
    }
    let topics = topics(&answer.partitions, |name, partitions| {
        let partition = |(partition, fetched): &(TopicPartition, FetchedOffset)| {
            let (offset, epoch) = position(fetched.committed);
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition())
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(StrBytes::from(fetched.metadata.as_deref().unwrap_or_default().to_owned())))
                .with_error_code(fetched.error.0)
                .with_unknown_tagged_fields(noise())
        };
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.iter().map(partition).collect())
            .with_unknown_tagged_fields(noise())
    });
    body.with_topics(topics).with_error_code(answer.error.0)
}

fn list_offsets(version: i16, answer: &[(TopicPartition, ListedOffset)]) -> kafka::ListOffsetsResponse {
    use kafka::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

    let topics = topics(answer, |name, partitions| {
        let partition = |(partition, listed): &(TopicPartition, ListedOffset)| {
            let (offset, epoch) = position(listed.position);
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition())
                .with_error_code(listed.error.0)
                .with_timestamp(listed.timestamp_ms.unwrap_or(-1))
                .with_offset(offset)
                .with_leader_epoch(epoch)
                .with_unknown_tagged_fields(noise())
        };
        ListOffsetsTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions.iter().map(partition).collect())
            .with_unknown_tagged_fields(noise())
    });
    kafka::ListOffsetsResponse::default()
        .with_throttle_time_ms(since(version, 2, NOISE))
        .with_topics(topics)
        .with_unknown_tagged_fields(noise())
}

fn offset_for_leader_epoch(answer: &[(TopicPartition, EpochEnd)]) -> kafka::OffsetForLeaderEpochResponse {
    use kafka::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};

    let topics = topics(answer, |name, partitions| {
        let partition = |(partition, end): &(TopicPartition, EpochEnd)| {
            EpochEndOffset::default()
                .with_error_code(end.error.0)
                .with_partition(partition.partition())
                .with_leader_epoch(end.end.map_or(-1, |(epoch, _)| epoch.0))
                .with_end_offset(end.end.map_or(-1, |(_, offset)| offset.0))
                .with_unknown_tagged_fields(noise())
        };
        OffsetForLeaderTopicResult::default()
            .with_topic(name)
            .with_partitions(partitions.iter().map(partition).collect())
            .with_unknown_tagged_fields(noise())
    });
    kafka::OffsetForLeaderEpochResponse::default()
        .with_throttle_time_ms(NOISE)
        .with_topics(topics)
        .with_unknown_tagged_fields(noise())
}

fn fetch(version: i16, answer: &FetchResponse) -> kafka::FetchResponse {
    use kafka::fetch_response::{FetchableTopicResponse, NodeEndpoint};

    let topic = |partitions: &[FetchedPartition]| {
        let topic = FetchableTopicResponse::default()
            .with_partitions(partitions.iter().map(|partition| fetched_partition(version, partition)).collect())
            .with_unknown_tagged_fields(noise());
        match &partitions[0].topic {
            TopicRef::Name(name) => topic.with_topic(TopicName(text(name))),
            TopicRef::Id(id) => topic.with_topic_id(id.0.to_vec().try_into().unwrap()),
        }
    };
    let endpoint = |broker: &Broker| {
        NodeEndpoint::default()
            .with_node_id(broker.id.0.into())
            .with_host(text(&broker.host))
            .with_port(broker.port.into())
            .with_rack(optional(&broker.rack))
            .with_unknown_tagged_fields(noise())
    };
    kafka::FetchResponse::default()
        .with_throttle_time_ms(if version < 8 { NOISE } else { i32::try_from(answer.throttle.as_millis()).unwrap() })
        .with_error_code(answer.error.0)
        .with_session_id(answer.session_id)
        .with_responses(answer.partitions.chunk_by(|a, b| a.topic == b.topic).map(topic).collect())
        .with_node_endpoints(answer.brokers.iter().map(endpoint).collect())
        .with_unknown_tagged_fields(noise())
}

fn fetched_partition(version: i16, partition: &FetchedPartition) -> kafka::fetch_response::PartitionData {
    use kafka::fetch_response::{AbortedTransaction as Aborted, EpochEndOffset, LeaderIdAndEpoch, PartitionData, SnapshotId};

    let aborted = |aborted: &AbortedTransaction| {
        Aborted::default()
            .with_producer_id(ProducerId(aborted.producer_id))
            .with_first_offset(aborted.first_offset.0)
            .with_unknown_tagged_fields(noise())
    };
    let mut body = PartitionData::default()
        .with_partition_index(partition.partition)
        .with_error_code(partition.error.0)
        .with_high_watermark(partition.high_watermark.0)
        .with_last_stable_offset(partition.last_stable_offset.0)
        .with_log_start_offset(partition.log_start_offset.map_or(-1, |offset| offset.0))
        .with_aborted_transactions(Some(partition.aborted.iter().map(aborted).collect()))
        .with_preferred_read_replica(id(partition.preferred_replica).into())
        .with_records(Some(partition.records.clone()))
        .with_unknown_tagged_fields(noise());
    if let Some((epoch, offset)) = partition.diverging {
        let diverging = EpochEndOffset::default().with_epoch(epoch.0).with_end_offset(offset.0);
        body = body.with_diverging_epoch(diverging.with_unknown_tagged_fields(noise()));
    }
    if let Some((leader, epoch)) = partition.current_leader {
        let leader = LeaderIdAndEpoch::default().with_leader_id(leader.0.into()).with_leader_epoch(epoch.0);
        body = body.with_current_leader(leader.with_unknown_tagged_fields(noise()));
    }
    if version >= 12 {
        body = body.with_snapshot_id(SnapshotId::default().with_end_offset(7).with_epoch(7));
    }
    body
}

fn topics<T, U>(partitions: &[(TopicPartition, T)], topic: impl Fn(TopicName, &[(TopicPartition, T)]) -> U) -> Vec<U> {
    partitions
        .chunk_by(|(a, _), (b, _)| a.topic() == b.topic())
        .map(|partitions| topic(TopicName(text(partitions[0].0.shared_topic())), partitions))
        .collect()
}

fn since<T: Default>(version: i16, since: i16, value: T) -> T {
    if version >= since { value } else { T::default() }
}

/// A tagged field from the future.
fn noise() -> BTreeMap<i32, Bytes> {
    BTreeMap::from([(99, Bytes::from_static(b"noise"))])
}

fn text(text: &Arc<str>) -> StrBytes {
    text.to_string().into()
}

fn optional(optional: &Option<Arc<str>>) -> Option<StrBytes> {
    optional.as_ref().map(text)
}

fn id(id: Option<BrokerId>) -> i32 {
    id.map_or(-1, |id| id.0)
}

fn epoch(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, |epoch| epoch.0)
}

fn position(position: Option<Position>) -> (i64, i32) {
    position.map_or((-1, -1), |Position { offset: Offset(offset), leader_epoch }| (offset, epoch(leader_epoch)))
}
