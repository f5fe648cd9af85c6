//! Where the protocol has a filler, ottla has `None`; and what an answer means beyond its fields.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{
    self as kafka,
    fetch_response::{EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData},
};

use super::{super::*, every_version, peer};
use crate::model::{Offset, Position};

fn decode(api: Api, version: i16, body: Bytes) -> Response {
    Response::decode(api, version, body).unwrap_or_else(|malformed| panic!("{malformed}"))
}

fn fetched(version: i16, partition: PartitionData) -> FetchedPartition {
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    let body = peer::frame(version, kafka::FetchResponse::default().with_responses(vec![topic]));
    let Response::Fetch(answer) = decode(Api::Fetch, version, body) else { panic!("not a Fetch answer") };
    answer.partitions.into_iter().next().unwrap()
}

#[test]
fn a_fetched_partition_that_says_nothing() {
    for version in Api::Fetch.versions() {
        let partition = PartitionData::default()
            .with_high_watermark(42)
            .with_last_stable_offset(-1)
            .with_log_start_offset(-1)
            .with_aborted_transactions(None)
            .with_records(None);
        let partition = fetched(version, partition);
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (Offset(42), Offset(42)));
        assert_eq!((partition.log_start_offset, partition.preferred_replica), (None, None));
        assert_eq!((partition.diverging, partition.current_leader), (None, None));
        assert!(partition.aborted.is_empty() && partition.records.is_empty());
    }
}

#[test]
fn half_a_divergence_or_half_a_leader_is_none() {
    let partition = PartitionData::default()
        .with_diverging_epoch(EpochEndOffset::default().with_epoch(3))
        .with_current_leader(LeaderIdAndEpoch::default().with_leader_epoch(3));
    let partition = fetched(12, partition);
    assert_eq!((partition.diverging, partition.current_leader), (None, None));
}

#[test]
fn records_are_a_slice_of_the_frame() {
    let partition = PartitionData::default().with_records(Some(Bytes::from(vec![7; 1000])));
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    let frame = peer::frame(12, kafka::FetchResponse::default().with_responses(vec![topic]));
    let Response::Fetch(answer) = decode(Api::Fetch, 12, frame.clone()) else { panic!("not a Fetch answer") };
    let records = &answer.partitions[0].records;
    assert_eq!(**records, [7; 1000]);
    assert!(frame.as_ptr_range().contains(&records.as_ptr()), "copied");
}

#[test]
fn the_partitions_of_a_topic_share_its_name() {
    use kafka::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};

    let partitions = [0, 1].map(|number| OffsetCommitResponsePartition::default().with_partition_index(number));
    let topic = OffsetCommitResponseTopic::default().with_name(kafka::TopicName("t".into())).with_partitions(partitions.into());
    let body = peer::frame(5, kafka::OffsetCommitResponse::default().with_topics(vec![topic]));
    let Response::OffsetCommit(codes) = decode(Api::OffsetCommit, 5, body) else { panic!("not an OffsetCommit answer") };
    assert!(Arc::ptr_eq(codes[0].0.shared_topic(), codes[1].0.shared_topic()));
}

#[test]
fn a_listed_offset_of_minus_one_is_no_position() {
    use kafka::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

    for (offset, expected) in [(-1, None), (0, Some(Position { offset: Offset(0), leader_epoch: None })), (i64::MIN, None)] {
        let partition = ListOffsetsPartitionResponse::default().with_offset(offset).with_leader_epoch(-1);
        let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
        let body = peer::frame(6, kafka::ListOffsetsResponse::default().with_topics(vec![topic]));
        let Response::ListOffsets(listed) = decode(Api::ListOffsets, 6, body) else { panic!("not a ListOffsets answer") };
        assert_eq!(listed[0].1.position, expected, "{offset}");
    }
}

#[test]
fn an_epoch_without_an_end_and_an_end_without_an_epoch_are_none() {
    use kafka::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};

    for (epoch, end) in [(-1, 5), (5, -1), (-1, -1)] {
        let partition = EpochEndOffset::default().with_leader_epoch(epoch).with_end_offset(end);
        let topic = OffsetForLeaderTopicResult::default().with_partitions(vec![partition]);
        let body = peer::frame(4, kafka::OffsetForLeaderEpochResponse::default().with_topics(vec![topic]));
        let Response::OffsetForLeaderEpoch(ends) = decode(Api::OffsetForLeaderEpoch, 4, body) else {
            panic!("not an OffsetForLeaderEpoch answer")
        };
        assert_eq!(ends[0].1.end, None, "{epoch} {end}");
    }
}

#[test]
fn a_topic_id_of_zeros_is_none() {
    let topic = kafka::metadata_response::MetadataResponseTopic::default();
    let body = peer::frame(10, kafka::MetadataResponse::default().with_topics(vec![topic]));
    let Response::Metadata(metadata) = decode(Api::Metadata, 10, body) else { panic!("not a Metadata answer") };
    assert_eq!(metadata.topics[0].id, None);
}

#[test]
fn a_negative_throttle_time_is_none() {
    let body = peer::frame(4, kafka::FetchResponse::default().with_throttle_time_ms(-5));
    let Response::Fetch(answer) = decode(Api::Fetch, 4, body) else { panic!("not a Fetch answer") };
    assert!(answer.throttle.is_zero());
}

#[test]
fn a_failed_search_for_the_coordinator_has_no_address() {
    for version in Api::FindCoordinator.versions() {
        let (error, message) = (ErrorCode::COORDINATOR_NOT_AVAILABLE, (version >= 1).then(|| "not yet".to_owned()));
        let meant = Response::FindCoordinator(CoordinatorResponse { error, message, coordinator: None });
        assert_eq!(decode(Api::FindCoordinator, version, peer::encode(&meant, version)), meant);
    }
}

/// KIP-511: a broker answers at version 0 when it does not know the version asked.
#[test]
fn a_refusal_of_the_version_is_read_whatever_version_was_asked() {
    let apis = vec![ApiRange { key: 18, min: 0, max: 3 }];
    for meant in [apis, vec![]].map(|apis| ApiVersionsResponse { error: ErrorCode::UNSUPPORTED_VERSION, apis }) {
        let meant = Response::ApiVersions(meant);
        let body = peer::encode(&meant, 0);
        for asked in Api::ApiVersions.versions() {
            assert_eq!(decode(Api::ApiVersions, asked, body.clone()), meant, "{asked}");
        }
    }
}

/// Another API's answer that happens to begin with those bytes is not mistaken for one.
#[test]
fn only_api_versions_is_refused_that_way() {
    for (api, version) in every_version().filter(|(api, _)| *api == Api::Heartbeat) {
        let meant = Response::Heartbeat(ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(decode(api, version, peer::encode(&meant, version)), meant);
    }
}
