//! Answers at random, of each API and with what its version can say.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::super::*;
use crate::model::{BrokerId, Generation, LeaderEpoch, Offset, Position, TopicId, TopicPartition};

/// Answers to `api` at `version`.
pub(super) fn answer(api: Api, version: i16) -> BoxedStrategy<Response> {
    match api {
        Api::ApiVersions => (error(), vec(api_range(), 0..5))
            // At later versions this one is answered in the format of version 0.
            .prop_filter("a refusal", move |(error, _)| version == 0 || *error != ErrorCode::UNSUPPORTED_VERSION)
            .prop_map(|(error, apis)| Response::ApiVersions(ApiVersionsResponse { error, apis }))
            .boxed(),
        Api::Metadata => {
            let error = if version >= 13 { error().boxed() } else { Just(ErrorCode::NONE).boxed() };
            (error, vec(broker(), 0..4), option::of(text()), vec(metadata_topic(version), 0..4))
                .prop_map(|(error, brokers, cluster_id, topics)| {
                    Response::Metadata(MetadataResponse { error, brokers, cluster_id, topics })
                })
                .boxed()
        }
        Api::FindCoordinator => find_coordinator(version),
        Api::JoinGroup => join_group(version),
        Api::SyncGroup => (error(), since(version, 5, option::of(text())), since(version, 5, option::of(text())), blob())
            .prop_map(|(error, protocol_type, protocol, assignment)| {
                Response::SyncGroup(SyncGroupResponse { error, protocol_type, protocol, assignment })
            })
            .boxed(),
        Api::Heartbeat => error().prop_map(Response::Heartbeat).boxed(),
        Api::ConsumerGroupHeartbeat => {
            let topic = (any::<[u8; 16]>().prop_map(TopicId), vec(number(), 0..4));
            let interval = option::of((1..i32::MAX as u64).prop_map(Duration::from_millis));
            (error(), option::of(text()), any::<i32>().prop_map(Generation), interval, option::of(vec(topic, 0..4)))
                .prop_map(|(error, message, epoch, heartbeat_interval, assignment)| {
                    let answer = ConsumerHeartbeatResponse { error, message, epoch, heartbeat_interval, assignment };
                    Response::ConsumerGroupHeartbeat(answer)
                })
                .boxed()
        }
        Api::LeaveGroup => (error(), since(version, 3, vec((text(), error()), 0..3)))
            .prop_map(|(error, members)| Response::LeaveGroup(LeaveGroupResponse { error, members }))
            .boxed(),
        Api::OffsetCommit => by_topic(error()).prop_map(Response::OffsetCommit).boxed(),
        Api::OffsetFetch => offset_fetch(version),
        Api::ListOffsets => {
            let listed = (error(), position(version, 4), option::of(0..i64::MAX))
                .prop_map(|(error, position, timestamp_ms)| ListedOffset { error, position, timestamp_ms });
            by_topic(listed).prop_map(Response::ListOffsets).boxed()
        }
        Api::Fetch => fetch(version),
        Api::OffsetForLeaderEpoch => {
            let end = (error(), option::of((epoch(), offset()))).prop_map(|(error, end)| EpochEnd { error, end });
            by_topic(end).prop_map(Response::OffsetForLeaderEpoch).boxed()
        }
        Api::SaslHandshake => (error(), vec(text(), 0..4))
            .prop_map(|(error, mechanisms)| Response::SaslHandshake(SaslHandshakeResponse { error, mechanisms }))
            .boxed(),
        Api::SaslAuthenticate => {
            let lifetime = option::of((1..i64::MAX as u64).prop_map(Duration::from_millis));
            (error(), option::of(text()), blob(), since(version, 1, lifetime))
                .prop_map(|(error, message, challenge, session_lifetime)| {
                    Response::SaslAuthenticate(SaslAuthenticateResponse { error, message, challenge, session_lifetime })
                })
                .boxed()
        }
    }
}

fn metadata_topic(version: i16) -> impl Strategy<Value = MetadataTopic> {
    let partition = (error(), number(), option::of(broker_id()), since(version, 7, option::of(epoch())), vec(broker_id(), 0..4))
        .prop_map(|(error, partition, leader, leader_epoch, replicas)| MetadataPartition {
            error,
            partition,
            leader,
            leader_epoch,
            replicas,
        });
    // No id is sixteen zeros.
    let id = option::of((any::<[u8; 15]>(), 1u8..).prop_map(|(start, end)| {
        let mut id = [end; 16];
        id[..15].copy_from_slice(&start);
        TopicId(id)
    }));
    let name = if version >= 12 { option::of(text()).boxed() } else { text().prop_map(Some).boxed() };
    let topic = (error(), name, since(version, 10, id), any::<bool>(), vec(partition, 0..4));
    topic.prop_map(|(error, name, id, is_internal, partitions)| MetadataTopic { error, name, id, is_internal, partitions })
}

fn find_coordinator(version: i16) -> BoxedStrategy<Response> {
    let message = since(version, 1, option::of("[ -~é-ü]{0,8}"));
    let found = (broker(), message.clone()).prop_map(|(broker, message)| CoordinatorResponse {
        error: ErrorCode::NONE,
        message,
        coordinator: Some(Broker { rack: None, ..broker }),
    });
    let failed = (1i16.., message).prop_map(|(error, message)| CoordinatorResponse {
        error: ErrorCode(error),
        message,
        coordinator: None,
    });
    prop_oneof![found, failed].prop_map(Response::FindCoordinator).boxed()
}

fn join_group(version: i16) -> BoxedStrategy<Response> {
    let member = (text(), since(version, 5, option::of(text())), blob())
        .prop_map(|(member_id, instance_id, metadata)| JoinedMember { member_id, instance_id, metadata });
    // Before version 7 there is always a name, be it an empty one.
    let protocol = if version >= 7 { option::of(text()).boxed() } else { text().prop_map(Some).boxed() };
    (
        error(),
        any::<i32>().prop_map(Generation),
        since(version, 7, option::of(text())),
        protocol,
        text(),
        since(version, 9, any::<bool>()),
        text(),
        vec(member, 0..4),
    )
        .prop_map(|(error, generation, protocol_type, protocol, leader, skip_assignment, member_id, members)| {
            Response::JoinGroup(JoinGroupResponse {
                error,
                generation,
                protocol_type,
                protocol,
                leader,
                skip_assignment,
                member_id,
                members,
            })
        })
        .boxed()
}

fn offset_fetch(version: i16) -> BoxedStrategy<Response> {
    let fetched = (error(), position(version, 5), option::of(text().prop_filter("none", |text| !text.is_empty())))
        .prop_map(|(error, committed, metadata)| FetchedOffset { error, committed, metadata });
    let group_error = if version >= 2 { error().boxed() } else { Just(ErrorCode::NONE).boxed() };
    (group_error, by_topic(fetched))
        .prop_map(|(error, partitions)| Response::OffsetFetch(OffsetFetchResponse { error, partitions }))
        .boxed()
}

fn fetch(version: i16) -> BoxedStrategy<Response> {
    let topic = if version >= 13 {
        any::<[u8; 16]>().prop_map(|id| TopicRef::Id(TopicId(id))).boxed()
    } else {
        text().prop_map(TopicRef::Name).boxed()
    };
    let partitions = vec((topic, vec(fetched_partition(version), 1..3)), 0..3).prop_map(|topics| {
        let named = topics.into_iter().flat_map(|(topic, partitions)| {
            partitions.into_iter().map(move |partition| FetchedPartition { topic: topic.clone(), ..partition })
        });
        named.collect()
    });
    let error = if version >= 7 { error().boxed() } else { Just(ErrorCode::NONE).boxed() };
    let throttle = since(version, 8, (0..=30_000_u64).prop_map(Duration::from_millis));
    (throttle, error, since(version, 7, any::<i32>()), partitions, since(version, 16, vec(broker(), 0..3)))
        .prop_map(|(throttle, error, session_id, partitions, brokers)| {
            Response::Fetch(FetchResponse { throttle, error, session_id, partitions, brokers })
        })
        .boxed()
}

/// A partition whose topic is yet to be filled in.
fn fetched_partition(version: i16) -> impl Strategy<Value = FetchedPartition> {
    let aborted = (any::<i64>(), any::<i64>().prop_map(Offset))
        .prop_map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
    (
        (number(), error(), offset(), offset(), since(version, 5, option::of(offset()))),
        vec(aborted, 0..3),
        since(version, 11, option::of(broker_id())),
        since(version, 12, option::of((epoch(), offset()))),
        since(version, 12, option::of((broker_id(), epoch()))),
        blob(),
    )
        .prop_map(|(numbers, aborted, preferred_replica, diverging, current_leader, records)| {
            let (partition, error, high_watermark, last_stable_offset, log_start_offset) = numbers;
            FetchedPartition {
                topic: TopicRef::Id(TopicId([0; 16])),
                partition,
                error,
                high_watermark,
                last_stable_offset,
                log_start_offset,
                aborted,
                preferred_replica,
                diverging,
                current_leader,
                records,
            }
        })
}

/// A few topics with a few partitions each.
fn by_topic<T: std::fmt::Debug>(what: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(TopicPartition, T)>> {
    vec((text(), vec((number(), what), 1..4)), 0..4).prop_map(|topics| {
        let named = topics.into_iter().flat_map(|(topic, partitions)| {
            partitions.into_iter().map(move |(number, what)| (TopicPartition::new(Arc::clone(&topic), number), what))
        });
        named.collect()
    })
}

/// `value` from version `since` on; its default before, when the answer does not say.
fn since<S>(version: i16, since: i16, value: S) -> BoxedStrategy<S::Value>
where
    S: Strategy + 'static,
    S::Value: Clone + Default + 'static,
{
    if version >= since { value.boxed() } else { Just(S::Value::default()).boxed() }
}

fn broker() -> impl Strategy<Value = Broker> {
    (broker_id(), "[a-z.]{1,8}", any::<u16>(), option::of(text())).prop_map(|(id, host, port, rack)| Broker {
        id,
        host: host.into(),
        port,
        rack,
    })
}

fn api_range() -> impl Strategy<Value = ApiRange> {
    any::<(i16, i16, i16)>().prop_map(|(key, min, max)| ApiRange { key, min, max })
}

fn position(version: i16, epoch_since: i16) -> impl Strategy<Value = Option<Position>> {
    option::of(
        (offset(), since(version, epoch_since, option::of(epoch())))
            .prop_map(|(offset, leader_epoch)| Position { offset, leader_epoch }),
    )
}

fn text() -> BoxedStrategy<Arc<str>> {
    // Long enough now and then for a compact length of two bytes.
    prop_oneof![8 => "\\PC{0,8}", 1 => "[a-z]{120,140}"].prop_map(Arc::from).boxed()
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn error() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![Just(0), any::<i16>()].prop_map(ErrorCode)
}

fn number() -> impl Strategy<Value = i32> {
    0..=i32::MAX
}

fn broker_id() -> impl Strategy<Value = BrokerId> {
    (0..=i32::MAX).prop_map(BrokerId)
}

fn epoch() -> impl Strategy<Value = LeaderEpoch> {
    (0..=i32::MAX).prop_map(LeaderEpoch)
}

fn offset() -> impl Strategy<Value = Offset> {
    (0..=i64::MAX).prop_map(Offset)
}
