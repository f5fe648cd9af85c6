//! What is asked about a log: its offsets, its epochs, and to delete from it.

use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
        OffsetForLeaderEpochResponse,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

use super::Dated;
use crate::kafka::{Context, call::Call, topics::Partition};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const READ_COMMITTED: i8 = 1;
/// The high watermark, as DeleteRecords names it.
const HIGH_WATERMARK: i64 = -1;

pub(crate) fn list_offsets(cx: &mut Context<'_>, call: Call, request: ListOffsetsRequest) {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let body = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let found = check_timestamp(asked.timestamp, call.version)
                .and_then(|()| cx.topics.leads(&topic.name, asked.partition_index, call.broker, asked.current_leader_epoch));
            match found {
                Ok(partition) => find(body, partition, asked, request.isolation_level == READ_COMMITTED, call.version),
                Err(error) => body.with_error_code(error.code()),
            }
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    let body = ListOffsetsResponse::default().with_topics(topics.collect());
    let body = if call.version >= 2 { body.with_throttle_time_ms(call.throttle_time_ms) } else { body };
    cx.out.answer(call, &body);
}

fn check_timestamp(timestamp: i64, version: i16) -> Result<(), ResponseError> {
    let since = match timestamp {
        EARLIEST.. => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => i16::MAX,
    };
    if version >= since { Ok(()) } else { Err(ResponseError::UnsupportedVersion) }
}

fn find(
    body: ListOffsetsPartitionResponse,
    partition: &Partition,
    asked: &ListOffsetsPartition,
    is_read_committed: bool,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let log = &partition.log;
    let limit = log.limit(is_read_committed);
    let undated = |offset, leader_epoch| Some(Dated { offset, timestamp_ms: -1, leader_epoch });
    let found = match asked.timestamp {
        LATEST => undated(limit, partition.leader_epoch),
        EARLIEST | EARLIEST_LOCAL => undated(log.start(), log.earliest_epoch().unwrap_or(-1)),
        LATEST_TIERED => None,
        MAX_TIMESTAMP => log.youngest().filter(|dated| dated.offset < limit),
        timestamp => log.first_since(timestamp).filter(|dated| dated.offset < limit),
    };
    let Some(found) = found else { return body };
    let body = body.with_offset(found.offset).with_timestamp(found.timestamp_ms);
    if version >= 4 { body.with_leader_epoch(found.leader_epoch) } else { body }
}

pub(crate) fn offset_for_leader_epoch(cx: &mut Context<'_>, call: Call, request: OffsetForLeaderEpochRequest) {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let body = EpochEndOffset::default().with_partition(asked.partition);
            match cx.topics.leads(&topic.topic, asked.partition, call.broker, asked.current_leader_epoch) {
                Ok(partition) => match partition.log.end_of(asked.leader_epoch).filter(|_| asked.leader_epoch >= 0) {
                    Some((epoch, end)) => body.with_leader_epoch(epoch).with_end_offset(end),
                    None => body,
                },
                Err(error) => body.with_error_code(error.code()),
            }
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    let body = OffsetForLeaderEpochResponse::default().with_throttle_time_ms(call.throttle_time_ms);
    let body = body.with_topics(topics.collect());
    cx.out.answer(call, &body);
}

pub(crate) fn delete_records(cx: &mut Context<'_>, call: Call, request: DeleteRecordsRequest) {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let body = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete(cx, &call, &topic.name, asked.partition_index, asked.offset) {
                Ok(low_watermark) => body.with_low_watermark(low_watermark),
                Err(error) => body.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let body = DeleteRecordsResponse::default().with_throttle_time_ms(call.throttle_time_ms);
    let body = body.with_topics(topics.collect());
    cx.out.answer(call, &body);
}

fn delete(cx: &mut Context<'_>, call: &Call, topic: &str, number: i32, offset: i64) -> Result<i64, ResponseError> {
    let log = &cx.topics.leads(topic, number, call.broker, -1)?.log;
    let offset = if offset == HIGH_WATERMARK { log.end() } else { offset };
    if !(0..=log.end()).contains(&offset) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let log = &mut cx.topics.partition_mut(topic, number).expect("it was found just now").log;
    log.delete_before(offset);
    Ok(log.start())
}
