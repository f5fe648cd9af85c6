//! Fetching: long polls, limits, errors and sessions.

use std::time::Duration;

use bytes::{Buf, Bytes};
use ottla_mock::kafka_protocol::messages::{
    fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
    *,
};
use uuid::Uuid;

use crate::{
    produce::{NOBODY, batch, produce, write},
    stage::{Line, Stage, play, text},
};

pub(crate) fn fetch(topic: Uuid, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1);
    let topics = vec![FetchTopic::default().with_topic_id(topic).with_partitions(vec![partition])];
    outside_sessions(FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_topics(topics))
}

fn outside_sessions(request: FetchRequest) -> FetchRequest {
    request.with_session_id(0).with_session_epoch(-1)
}

/// Fetches, and notes of the records only where they are.
pub(crate) async fn read(stage: &mut Stage, line: Line, version: i16, request: &FetchRequest) -> FetchResponse {
    let answer = stage.quietly(line, version, request).await;
    note(stage, version, answer)
}

fn note(stage: &mut Stage, version: i16, mut answer: FetchResponse) -> FetchResponse {
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.records = partition.records.take().map(|records| places(records).into());
    }
    stage.notes(&format!("Fetch v{version}"), &answer);
    answer
}

/// Names each batch by its first and last offset.
fn places(mut records: Bytes) -> String {
    let mut places = Vec::new();
    while records.len() >= 12 {
        let (base, length) = ((&records[..8]).get_i64(), (&records[8..]).get_i32() as usize);
        if records.len() < 12 + length {
            places.push("cut".to_owned());
            break;
        }
        let batch = records.split_to(12 + length);
        let (epoch, attributes) = ((&batch[12..]).get_i32(), (&batch[21..]).get_i16());
        let last = base + i64::from((&batch[23..]).get_i32());
        let kind = if attributes & 0x20 != 0 {
            " marker"
        } else if attributes & 0x10 != 0 {
            " in transaction"
        } else {
            ""
        };
        places.push(format!("{base}-{last} epoch {epoch}{kind}"));
    }
    places.join("; ")
}

#[tokio::test]
async fn records_are_read_within_limits() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("reads", stage.connect().await);
        let id = stage.topic(topic, 2).await;
        stage.says("nothing is there");
        read(stage, line, 17, &fetch(id, 0, 0)).await;
        for _ in 0..3 {
            write(stage, line, topic, 2).await;
        }
        read(stage, line, 17, &fetch(id, 0, 0)).await;
        read(stage, line, 17, &fetch(id, 0, 3)).await;
        read(stage, line, 17, &fetch(id, 0, 6)).await;
        stage.says("the first batch is whole, whatever the limits");
        let mut small = fetch(id, 0, 0);
        small.topics[0].partitions[0].partition_max_bytes = 1;
        read(stage, line, 17, &small).await;
        read(stage, line, 17, &fetch(id, 0, 2).with_max_bytes(1)).await;
        let one = batch(NOBODY, 2, 1_700_000_000_000).len() as i32;
        small.topics[0].partitions[0].partition_max_bytes = one;
        read(stage, line, 17, &small).await;
        small.topics[0].partitions[0].partition_max_bytes = 2 * one;
        read(stage, line, 17, &small).await;
        stage.says("only of the first partition that has records");
        let mut two = fetch(id, 0, 0).with_max_bytes(1);
        let empty = two.topics[0].partitions[0].clone().with_partition(1);
        two.topics[0].partitions.insert(0, empty);
        read(stage, line, 17, &two).await;
        stage.says("by name, as of old");
        let by_name = |version: i16| {
            let mut request = fetch(Uuid::nil(), 0, 4);
            request.topics[0].topic = TopicName(text(topic));
            if version < 7 {
                request.session_epoch = -1;
            }
            request
        };
        read(stage, line, 12, &by_name(12)).await;
        read(stage, line, 11, &by_name(11)).await;
        read(stage, line, 4, &by_name(4)).await;
    };
    let heard = r#"
        # nothing is there
        Fetch v17: {responses [{topic_id id of reads, partitions [{last_stable_offset 0, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0; 2-3 epoch 0; 4-5 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"2-3 epoch 0; 4-5 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # the first batch is whole, whatever the limits
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"2-3 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0; 2-3 epoch 0"}]}]}
        # only of the first partition that has records
        Fetch v17: {responses [{topic_id id of reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0"}, {partition_index 1, last_stable_offset 0, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # by name, as of old
        Fetch v12: {responses [{topic reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"4-5 epoch 0"}]}]}
        Fetch v11: {responses [{topic reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"4-5 epoch 0"}]}]}
        Fetch v4: {responses [{topic reads, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"4-5 epoch 0"}]}]}
    "#;
    play("reads", script, heard).await;
}

#[tokio::test]
async fn a_long_poll_ends_with_an_append_or_in_time() {
    let script = async |stage: &mut Stage| {
        let (topic, line, writer) = ("poll", stage.connect().await, stage.connect().await);
        let id = stage.topic(topic, 1).await;
        stage.says("an append ends it");
        stage.send(line, 17, &fetch(id, 0, 0).with_max_wait_ms(10_000)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        write(stage, writer, topic, 1).await;
        let answer = stage.receive::<FetchRequest>(line, 17).await;
        note(stage, 17, answer);
        stage.says("one that is too small for it does not");
        let size = batch(NOBODY, 1, 1_700_000_000_000).len() as i32;
        stage.send(line, 17, &fetch(id, 0, 1).with_max_wait_ms(10_000).with_min_bytes(size + 1)).await;
        write(stage, writer, topic, 1).await;
        write(stage, writer, topic, 1).await;
        let answer = stage.receive::<FetchRequest>(line, 17).await;
        note(stage, 17, answer);
        stage.says("time ends it, with what there is");
        read(stage, line, 17, &fetch(id, 0, 2).with_max_wait_ms(100).with_min_bytes(1 << 20)).await;
        stage.says("an error is told at once");
        read(stage, line, 17, &fetch(id, 0, 7).with_max_wait_ms(10_000).with_min_bytes(1 << 20)).await;
    };
    let heard = r#"
        # an append ends it
        Fetch v17: {responses [{topic_id id of poll, partitions [{high_watermark 1, last_stable_offset 1, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-0 epoch 0"}]}]}
        # one that is too small for it does not
        Fetch v17: {responses [{topic_id id of poll, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"1-1 epoch 0; 2-2 epoch 0"}]}]}
        # time ends it, with what there is
        Fetch v17: {responses [{topic_id id of poll, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"2-2 epoch 0"}]}]}
        # an error is told at once
        Fetch v17: {responses [{topic_id id of poll, partitions [OffsetOutOfRange {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
    "#;
    play("poll", script, heard).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("unreadable", stage.connect().await);
        let id = stage.topic(topic, 1).await;
        write(stage, line, topic, 3).await;
        let unknown = Uuid::from_u128(7);
        stage.names.set(unknown, "unknown-topic");
        read(stage, line, 17, &fetch(id, 0, 4)).await;
        read(stage, line, 17, &fetch(id, 0, -1)).await;
        read(stage, line, 17, &fetch(unknown, 0, 0)).await;
        read(stage, line, 17, &fetch(id, 7, 0)).await;
        let mut by_name = fetch(Uuid::nil(), 0, 0);
        by_name.topics[0].topic = TopicName(text("unreadable-unknown"));
        read(stage, line, 12, &by_name).await;
        stage.says("leader epochs");
        for epoch in [0, 1] {
            let mut request = fetch(id, 0, 0);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            read(stage, line, 17, &request).await;
        }
        stage.says("a log that is said to have diverged");
        for (offset, epoch) in [(1, 0), (3, 0)] {
            let mut request = fetch(id, 0, offset);
            request.topics[0].partitions[0].last_fetched_epoch = epoch;
            read(stage, line, 17, &request).await;
        }
    };
    let heard = r#"
        Fetch v17: {responses [{topic_id id of unreadable, partitions [OffsetOutOfRange {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {responses [{topic_id id of unreadable, partitions [OffsetOutOfRange {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {responses [{topic_id unknown-topic, partitions [UnknownTopicId {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {responses [{topic_id id of unreadable, partitions [UnknownTopicOrPartition {partition_index 7, high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v12: {responses [{topic unreadable-unknown, partitions [UnknownTopicOrPartition {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # leader epochs
        Fetch v17: {responses [{topic_id id of unreadable, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-2 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of unreadable, partitions [UnknownLeaderEpoch {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # a log that is said to have diverged
        Fetch v17: {responses [{topic_id id of unreadable, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-2 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of unreadable, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
    "#;
    play("unreadable", script, heard).await;
}

#[tokio::test]
async fn a_session_tells_only_what_changed() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("session", stage.connect().await);
        let id = stage.topic(topic, 2).await;
        write(stage, line, topic, 2).await;
        let begin = || {
            let mut request = fetch(id, 0, 0).with_session_epoch(0);
            let second = request.topics[0].partitions[0].clone().with_partition(1);
            request.topics[0].partitions.push(second);
            request
        };
        let go_on = |session, epoch| {
            FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_session_id(session).with_session_epoch(epoch)
        };
        stage.says("a full request begins one");
        let session = read(stage, line, 17, &begin()).await.session_id;
        stage.says("the same again");
        read(stage, line, 17, &go_on(session, 1)).await;
        stage.says("read on");
        let mut on = go_on(session, 2);
        on.topics = fetch(id, 0, 2).topics;
        read(stage, line, 17, &on).await;
        read(stage, line, 17, &go_on(session, 3)).await;
        write(stage, line, topic, 1).await;
        read(stage, line, 17, &go_on(session, 4)).await;
        stage.says("forget the one with records");
        let forgotten = ForgottenTopic::default().with_topic_id(id).with_partitions(vec![0]);
        read(stage, line, 17, &go_on(session, 5).with_forgotten_topics_data(vec![forgotten])).await;
        stage.says("out of step, unknown, another's");
        read(stage, line, 17, &go_on(session, 5)).await;
        read(stage, line, 17, &go_on(session, 9)).await;
        read(stage, line, 17, &go_on(session.wrapping_add(12_345).max(1), 1)).await;
        read(stage, line, 17, &go_on(session, 6)).await;
        stage.says("errors are told in a session, and told again");
        let mut wrong = go_on(session, 7);
        wrong.topics = fetch(id, 0, 99).topics;
        read(stage, line, 17, &wrong).await;
        read(stage, line, 17, &go_on(session, 8)).await;
        stage.says("end it");
        read(stage, line, 17, &go_on(session, -1)).await;
        read(stage, line, 17, &go_on(session, 9)).await;
        stage.says("outside of sessions");
        read(stage, line, 17, &fetch(id, 0, 0)).await;
        stage.ask(line, 9, &produce(topic, batch(NOBODY, 1, 1_700_000_000_000))).await;
    };
    let heard = r#"
        # a full request begins one
        Fetch v17: {session_id session-1, responses [{topic_id id of session, partitions [{high_watermark 2, last_stable_offset 2, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0"}, {partition_index 1, last_stable_offset 0, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # the same again
        Fetch v17: {session_id session-1, responses [{topic_id id of session, partitions [{high_watermark 2, last_stable_offset 2, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0"}]}]}
        # read on
        Fetch v17: {session_id session-1}
        Fetch v17: {session_id session-1}
        Fetch v17: {session_id session-1, responses [{topic_id id of session, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"2-2 epoch 0"}]}]}
        # forget the one with records
        Fetch v17: {session_id session-1}
        # out of step, unknown, another's
        Fetch v17: InvalidFetchSessionEpoch
        Fetch v17: InvalidFetchSessionEpoch
        Fetch v17: FetchSessionIdNotFound
        Fetch v17: {session_id session-1}
        # errors are told in a session, and told again
        Fetch v17: {session_id session-1, responses [{topic_id id of session, partitions [OffsetOutOfRange {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {session_id session-1, responses [{topic_id id of session, partitions [OffsetOutOfRange {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # end it
        Fetch v17: NONE
        Fetch v17: FetchSessionIdNotFound
        # outside of sessions
        Fetch v17: {responses [{topic_id id of session, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0; 2-2 epoch 0"}]}]}
        Produce v9: {responses [{name session, partition_responses [{base_offset 3, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
    "#;
    play("session", script, heard).await;
}
