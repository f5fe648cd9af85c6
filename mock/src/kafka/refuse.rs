//! An error as each API's answer tells it: for all it asked about.

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{self as kafka, RequestKind, ResponseKind},
    protocol::StrBytes,
};

use super::call::{Call, Outbox};

/// Answers a request with an error, in every place where the answer can have one.
pub(super) fn refuse(request: &RequestKind, error: ResponseError, call: Call, out: &mut Outbox) {
    let code = error.code();
    let throttle = call.throttle_time_ms;
    match request {
        RequestKind::ApiVersions(_) => {
            out.answer(call, &kafka::ApiVersionsResponse::default().with_error_code(code));
        }
        RequestKind::FindCoordinator(request) => {
            let body = kafka::FindCoordinatorResponse::default();
            let body = if call.version >= 4 {
                let one = |key: &StrBytes| {
                    kafka::find_coordinator_response::Coordinator::default()
                        .with_key(key.clone())
                        .with_node_id((-1).into())
                        .with_port(-1)
                        .with_error_code(code)
                };
                body.with_coordinators(request.coordinator_keys.iter().map(one).collect())
            } else {
                body.with_node_id((-1).into()).with_port(-1).with_error_code(code)
            };
            out.answer(call, &body);
        }
        RequestKind::JoinGroup(request) => {
            let body = kafka::JoinGroupResponse::default()
                .with_throttle_time_ms(throttle)
                .with_error_code(code)
                .with_generation_id(-1)
                .with_protocol_name((call.version < 7).then(StrBytes::default))
                .with_member_id(request.member_id.clone());
            out.answer(call, &body);
        }
        RequestKind::SyncGroup(_) => {
            out.answer(call, &kafka::SyncGroupResponse::default().with_throttle_time_ms(throttle).with_error_code(code));
        }
        RequestKind::Heartbeat(_) => {
            out.answer(call, &kafka::HeartbeatResponse::default().with_throttle_time_ms(throttle).with_error_code(code));
        }
        RequestKind::LeaveGroup(_) => {
            out.answer(call, &kafka::LeaveGroupResponse::default().with_throttle_time_ms(throttle).with_error_code(code));
        }
        RequestKind::ConsumerGroupHeartbeat(_) => {
            let body = kafka::ConsumerGroupHeartbeatResponse::default().with_throttle_time_ms(throttle).with_error_code(code);
            out.answer(call, &body);
        }
        RequestKind::OffsetCommit(request) => {
            use kafka::offset_commit_response as response;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let body = response::OffsetCommitResponsePartition::default();
                    body.with_partition_index(partition.partition_index).with_error_code(code)
                });
                let body = response::OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
                body.with_name(topic.name.clone()).with_topic_id(topic.topic_id)
            });
            let body = kafka::OffsetCommitResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_topics(topics.collect()));
        }
        RequestKind::OffsetFetch(request) => refuse_offset_fetch(request, error, call, out),
        RequestKind::OffsetDelete(_) => {
            out.answer(call, &kafka::OffsetDeleteResponse::default().with_throttle_time_ms(throttle).with_error_code(code));
        }
        RequestKind::TxnOffsetCommit(request) => {
            use kafka::txn_offset_commit_response as response;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let body = response::TxnOffsetCommitResponsePartition::default();
                    body.with_partition_index(partition.partition_index).with_error_code(code)
                });
                response::TxnOffsetCommitResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions.collect())
            });
            let body = kafka::TxnOffsetCommitResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_topics(topics.collect()));
        }
        RequestKind::Fetch(request) if call.version >= 7 => {
            let _ = request;
            out.answer(call, &kafka::FetchResponse::default().with_throttle_time_ms(throttle).with_error_code(code));
        }
        RequestKind::Fetch(request) => {
            use kafka::fetch_response as response;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let body = response::PartitionData::default().with_partition_index(partition.partition);
                    body.with_error_code(code).with_high_watermark(-1).with_records(Some(Bytes::new()))
                });
                response::FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
            });
            let body = kafka::FetchResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_responses(topics.collect()));
        }
        RequestKind::ListOffsets(request) => {
            use kafka::list_offsets_response as response;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let body = response::ListOffsetsPartitionResponse::default();
                    body.with_partition_index(partition.partition_index).with_error_code(code)
                });
                response::ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
            });
            out.answer(call, &kafka::ListOffsetsResponse::default().with_topics(topics.collect()));
        }
        RequestKind::OffsetForLeaderEpoch(request) => {
            use kafka::offset_for_leader_epoch_response as response;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    response::EpochEndOffset::default().with_partition(partition.partition).with_error_code(code)
                });
                response::OffsetForLeaderTopicResult::default()
                    .with_topic(topic.topic.clone())
                    .with_partitions(partitions.collect())
            });
            out.answer(call, &kafka::OffsetForLeaderEpochResponse::default().with_topics(topics.collect()));
        }
        RequestKind::Produce(request) if request.acks == 0 => out.hang_up(call),
        RequestKind::Produce(request) => {
            use kafka::produce_response as response;
            let topics = request.topic_data.iter().map(|topic| {
                let partitions = topic.partition_data.iter().map(|partition| {
                    let body = response::PartitionProduceResponse::default().with_index(partition.index);
                    body.with_error_code(code).with_base_offset(-1)
                });
                response::TopicProduceResponse::default()
                    .with_name(topic.name.clone())
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(partitions.collect())
            });
            let body = kafka::ProduceResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_responses(topics.collect()));
        }
        RequestKind::InitProducerId(_) => {
            let body = kafka::InitProducerIdResponse::default().with_throttle_time_ms(throttle).with_error_code(code);
            out.answer(call, &body.with_producer_id((-1).into()).with_producer_epoch(-1));
        }
        RequestKind::AddPartitionsToTxn(request) if call.version < 4 => {
            use kafka::add_partitions_to_txn_response as response;
            let topics = request.v3_and_below_topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let body = response::AddPartitionsToTxnPartitionResult::default();
                    body.with_partition_index(*partition).with_partition_error_code(code)
                });
                response::AddPartitionsToTxnTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_results_by_partition(partitions.collect())
            });
            let body = kafka::AddPartitionsToTxnResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_results_by_topic_v3_and_below(topics.collect()));
        }
        RequestKind::AddPartitionsToTxn(_) => {
            let body = kafka::AddPartitionsToTxnResponse::default().with_throttle_time_ms(throttle).with_error_code(code);
            out.answer(call, &body);
        }
        RequestKind::AddOffsetsToTxn(_) => {
            let body = kafka::AddOffsetsToTxnResponse::default().with_throttle_time_ms(throttle).with_error_code(code);
            out.answer(call, &body);
        }
        RequestKind::EndTxn(_) => {
            out.answer(call, &kafka::EndTxnResponse::default().with_throttle_time_ms(throttle).with_error_code(code));
        }
        RequestKind::CreateTopics(request) => {
            let topics = request.topics.iter().map(|topic| {
                let body = kafka::create_topics_response::CreatableTopicResult::default();
                body.with_name(topic.name.clone()).with_error_code(code)
            });
            out.answer(call, &kafka::CreateTopicsResponse::default().with_topics(topics.collect()));
        }
        RequestKind::DeleteTopics(request) => {
            use kafka::delete_topics_response::DeletableTopicResult;
            let names = request.topic_names.iter().cloned().map(|name| (Some(name), uuid::Uuid::nil()));
            let topics = names.chain(request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id)));
            let topic = |(name, id)| {
                let body = DeletableTopicResult::default().with_name(name).with_error_code(code);
                if call.version >= 6 { body.with_topic_id(id) } else { body }
            };
            let responses = topics.map(topic).collect();
            out.answer(call, &kafka::DeleteTopicsResponse::default().with_responses(responses));
        }
        RequestKind::CreatePartitions(request) => {
            let results = request.topics.iter().map(|topic| {
                let body = kafka::create_partitions_response::CreatePartitionsTopicResult::default();
                body.with_name(topic.name.clone()).with_error_code(code)
            });
            let body = kafka::CreatePartitionsResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_results(results.collect()));
        }
        RequestKind::DeleteRecords(request) => {
            use kafka::delete_records_response as response;
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    let body = response::DeleteRecordsPartitionResult::default().with_low_watermark(-1);
                    body.with_partition_index(partition.partition_index).with_error_code(code)
                });
                response::DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
            });
            let body = kafka::DeleteRecordsResponse::default().with_throttle_time_ms(throttle);
            out.answer(call, &body.with_topics(topics.collect()));
        }
        RequestKind::DescribeGroups(request) => {
            let groups = request.groups.iter().map(|group| {
                let body = kafka::describe_groups_response::DescribedGroup::default();
                body.with_group_id(group.clone()).with_error_code(code)
            });
            out.answer(call, &kafka::DescribeGroupsResponse::default().with_groups(groups.collect()));
        }
        RequestKind::ConsumerGroupDescribe(request) => {
            let groups = request.group_ids.iter().map(|group| {
                let body = kafka::consumer_group_describe_response::DescribedGroup::default();
                body.with_group_id(group.clone()).with_error_code(code)
            });
            out.answer(call, &kafka::ConsumerGroupDescribeResponse::default().with_groups(groups.collect()));
        }
        RequestKind::ListGroups(_) => out.answer(call, &kafka::ListGroupsResponse::default().with_error_code(code)),
        RequestKind::DeleteGroups(request) => {
            let results = request.groups_names.iter().map(|group| {
                let body = kafka::delete_groups_response::DeletableGroupResult::default();
                body.with_group_id(group.clone()).with_error_code(code)
            });
            out.answer(call, &kafka::DeleteGroupsResponse::default().with_results(results.collect()));
        }
        RequestKind::SaslHandshake(_) => out.answer(call, &kafka::SaslHandshakeResponse::default().with_error_code(code)),
        RequestKind::SaslAuthenticate(_) => {
            out.answer(call, &kafka::SaslAuthenticateResponse::default().with_error_code(code));
        }
        RequestKind::DescribeCluster(_) => out.answer(call, &kafka::DescribeClusterResponse::default().with_error_code(code)),
        other => unreachable!("{other:?} is not announced, and so was refused when it was read"),
    }
}

fn refuse_offset_fetch(request: &kafka::OffsetFetchRequest, error: ResponseError, call: Call, out: &mut Outbox) {
    use kafka::offset_fetch_response as response;
    let mut body = kafka::OffsetFetchResponse::default();
    match call.version {
        8.. => {
            let groups = request.groups.iter().map(|group| {
                let body = response::OffsetFetchResponseGroup::default();
                body.with_group_id(group.group_id.clone()).with_error_code(error.code())
            });
            body = body.with_groups(groups.collect());
        }
        2.. => body = body.with_error_code(error.code()),
        _ => {
            let topics = request.topics.iter().flatten().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|number| {
                    response::OffsetFetchResponsePartition::default()
                        .with_partition_index(*number)
                        .with_committed_offset(-1)
                        .with_metadata(Some(StrBytes::default()))
                        .with_error_code(error.code())
                });
                response::OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
            });
            body = body.with_topics(topics.collect());
        }
    }
    out.answer(call, &body);
}

/// Sends an answer that a test has made.
pub(super) fn reply(response: &ResponseKind, call: Call, out: &mut Outbox) {
    out.answer_any(call, response);
}
