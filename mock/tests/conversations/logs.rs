//! Logs: offsets by time, epochs, and records that are deleted.

use ottla_mock::kafka_protocol::messages::{
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    *,
};

use crate::{
    fetch::{fetch, read},
    produce::{NOBODY, batch, produce, write},
    stage::{Stage, play, text},
};

pub(crate) fn list(topic: &str, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

pub(crate) fn epoch_end(topic: &str, number: i32, epoch: i32, current: i32) -> OffsetForLeaderEpochRequest {
    let partition = OffsetForLeaderPartition::default().with_partition(number).with_leader_epoch(epoch);
    let partition = partition.with_current_leader_epoch(current);
    let topic = OffsetForLeaderTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
    OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn delete(topic: &str, before: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default().with_offset(before);
    let topic = DeleteRecordsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("times", stage.connect().await);
        stage.topic(topic, 1).await;
        let all = [-1, -2, -3, -4, -5, -6, -7, 0, 1_700_000_000_000, 1_700_000_001_500, 1_700_000_002_000, 1_800_000_000_000];
        stage.says("an empty log");
        for timestamp in all {
            stage.ask(line, 10, &list(topic, timestamp)).await;
        }
        stage.says("three records");
        stage.quietly(line, 9, &produce(topic, batch(NOBODY, 3, 1_700_000_000_000))).await;
        for timestamp in all {
            stage.ask(line, 10, &list(topic, timestamp)).await;
        }
        stage.says("older versions");
        stage.ask(line, 1, &list(topic, -1)).await;
        stage.ask(line, 4, &list(topic, 1_700_000_001_000)).await;
        stage.ask(line, 6, &list(topic, -3)).await;
        stage.ask(line, 7, &list(topic, -3)).await;
        stage.says("refused");
        stage.ask(line, 10, &list("times-unknown", -1)).await;
        let mut request = list(topic, -1);
        request.topics[0].partitions[0].current_leader_epoch = 5;
        stage.ask(line, 10, &request).await;
        request.topics[0].partitions[0].current_leader_epoch = 0;
        stage.ask(line, 10, &request).await;
    };
    let heard = r#"
        # an empty log
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [UnsupportedVersion {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [UnsupportedVersion {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        # three records
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 3}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp 1700000002000, offset 2}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [UnsupportedVersion {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [UnsupportedVersion {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp 1700000000000, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp 1700000000000, offset 0}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp 1700000002000, offset 2}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp 1700000002000, offset 2}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset -1, leader_epoch -1}]}]}
        # older versions
        ListOffsets v1: {topics [{name times, partitions [{timestamp -1, offset 3, leader_epoch -1}]}]}
        ListOffsets v4: {topics [{name times, partitions [{timestamp 1700000001000, offset 1}]}]}
        ListOffsets v6: {topics [{name times, partitions [UnsupportedVersion {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v7: {topics [{name times, partitions [{timestamp 1700000002000, offset 2}]}]}
        # refused
        ListOffsets v10: {topics [{name times-unknown, partitions [UnknownTopicOrPartition {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [UnknownLeaderEpoch {timestamp -1, offset -1, leader_epoch -1}]}]}
        ListOffsets v10: {topics [{name times, partitions [{timestamp -1, offset 3}]}]}
    "#;
    play("times", script, heard).await;
}

#[tokio::test]
async fn epochs_end_where_the_next_begin() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("epochs", stage.connect().await);
        stage.topic(topic, 1).await;
        stage.says("an empty log");
        stage.ask(line, 4, &epoch_end(topic, 0, 0, -1)).await;
        stage.says("three records");
        write(stage, line, topic, 3).await;
        for epoch in [0, 1, -1] {
            stage.ask(line, 4, &epoch_end(topic, 0, epoch, -1)).await;
        }
        stage.ask(line, 4, &epoch_end(topic, 0, 0, 0)).await;
        stage.ask(line, 4, &epoch_end(topic, 0, 0, 1)).await;
        stage.ask(line, 4, &epoch_end(topic, 7, 0, -1)).await;
        stage.ask(line, 4, &epoch_end("epochs-unknown", 0, 0, -1)).await;
        stage.ask(line, 2, &epoch_end(topic, 0, 0, -1)).await;
    };
    let heard = r#"
        # an empty log
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [{end_offset 0}]}]}
        # three records
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [{end_offset 3}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [{leader_epoch -1, end_offset -1}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [{leader_epoch -1, end_offset -1}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [{end_offset 3}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [UnknownLeaderEpoch {leader_epoch -1, end_offset -1}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic epochs, partitions [UnknownTopicOrPartition {partition 7, leader_epoch -1, end_offset -1}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic epochs-unknown, partitions [UnknownTopicOrPartition {leader_epoch -1, end_offset -1}]}]}
        OffsetForLeaderEpoch v2: {topics [{topic epochs, partitions [{end_offset 3}]}]}
    "#;
    play("epochs", script, heard).await;
}

#[tokio::test]
async fn deleted_records_are_out_of_range() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("deleted", stage.connect().await);
        let id = stage.topic(topic, 1).await;
        write(stage, line, topic, 3).await;
        write(stage, line, topic, 2).await;
        stage.ask(line, 2, &delete(topic, 0)).await;
        stage.ask(line, 2, &delete(topic, 4)).await;
        stage.ask(line, 2, &delete(topic, 2)).await;
        stage.ask(line, 2, &delete(topic, 9)).await;
        stage.ask(line, 2, &delete(topic, -3)).await;
        stage.ask(line, 2, &delete("deleted-unknown", 1)).await;
        stage.ask(line, 10, &list(topic, -2)).await;
        stage.ask(line, 10, &list(topic, 0)).await;
        read(stage, line, 17, &fetch(id, 0, 3)).await;
        read(stage, line, 17, &fetch(id, 0, 4)).await;
        stage.says("up to the end");
        stage.ask(line, 2, &delete(topic, -1)).await;
        stage.ask(line, 10, &list(topic, -2)).await;
        read(stage, line, 17, &fetch(id, 0, 5)).await;
    };
    let heard = r#"
        DeleteRecords v2: {topics [{name deleted, partitions [0]}]}
        DeleteRecords v2: {topics [{name deleted, partitions [{low_watermark 4}]}]}
        DeleteRecords v2: {topics [{name deleted, partitions [{low_watermark 4}]}]}
        DeleteRecords v2: {topics [{name deleted, partitions [OffsetOutOfRange {low_watermark -1}]}]}
        DeleteRecords v2: {topics [{name deleted, partitions [OffsetOutOfRange {low_watermark -1}]}]}
        DeleteRecords v2: {topics [{name deleted-unknown, partitions [UnknownTopicOrPartition {low_watermark -1}]}]}
        ListOffsets v10: {topics [{name deleted, partitions [{timestamp -1, offset 4}]}]}
        ListOffsets v10: {topics [{name deleted, partitions [{timestamp now, offset 4}]}]}
        Fetch v17: {responses [{topic_id id of deleted, partitions [OffsetOutOfRange {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {responses [{topic_id id of deleted, partitions [{high_watermark 5, last_stable_offset 5, log_start_offset 4, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"3-4 epoch 0"}]}]}
        # up to the end
        DeleteRecords v2: {topics [{name deleted, partitions [{low_watermark 5}]}]}
        ListOffsets v10: {topics [{name deleted, partitions [{timestamp -1, offset 5}]}]}
        Fetch v17: {responses [{topic_id id of deleted, partitions [{high_watermark 5, last_stable_offset 5, log_start_offset 5, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
    "#;
    play("deleted", script, heard).await;
}
