//! Producing: plain, idempotent, and what is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use ottla_mock::kafka_protocol::{
    messages::{
        produce_request::{PartitionProduceData, TopicProduceData},
        *,
    },
    records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};

use crate::stage::{Line, Stage, play, text};

/// Who writes: id, epoch, the sequence of the first record, and whether in a transaction.
#[derive(Clone, Copy)]
pub(crate) struct Writer(pub(crate) i64, pub(crate) i16, pub(crate) i32, pub(crate) bool);

pub(crate) const NOBODY: Writer = Writer(-1, -1, -1, false);

/// A batch of so many records, one second apart from `timestamp` on.
pub(crate) fn batch(writer: Writer, count: i64, timestamp: i64) -> Bytes {
    let Writer(producer_id, producer_epoch, sequence, transactional) = writer;
    let record = |n: i64| Record {
        transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: n,
        // Without gaps, or the encoder begins another batch.
        sequence: sequence + n as i32,
        timestamp: timestamp + 1000 * n,
        key: None,
        value: Some(Bytes::from_static(b"value")),
        headers: Default::default(),
    };
    let records: Vec<_> = (0..count).map(record).collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("a batch");
    bytes.freeze()
}

pub(crate) fn produce(topic: &str, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Now: records of very different times would lie in different segments of a real log, and no answer has those of two.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    since_1970.as_millis() as i64
}

/// Writes some records, and notes nothing.
pub(crate) async fn write(stage: &mut Stage, line: Line, topic: &str, count: i64) {
    let answer = stage.quietly(line, 9, &produce(topic, batch(NOBODY, count, now_ms()))).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
}

#[tokio::test]
async fn what_is_written_is_answered() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("plain", stage.connect().await);
        let id = stage.topic(topic, 1).await;
        let good = || batch(NOBODY, 3, 1_700_000_000_000);
        stage.ask(line, 9, &produce(topic, good())).await;
        stage.ask(line, 9, &produce(topic, good()).with_acks(1)).await;
        stage.ask(line, 3, &produce(topic, good())).await;
        let mut by_id = produce("", good());
        by_id.topic_data[0].topic_id = id;
        stage.ask(line, 13, &by_id).await;
        stage.says("refused");
        stage.ask(line, 9, &produce("plain-unknown", good())).await;
        by_id.topic_data[0].topic_id = uuid::Uuid::from_u128(7);
        stage.names.set(by_id.topic_data[0].topic_id, "unknown-topic");
        stage.ask(line, 13, &by_id).await;
        stage.ask(line, 9, &produce(topic, good()).with_acks(7)).await;
        let mut corrupt = good().to_vec();
        *corrupt.last_mut().expect("bytes") ^= 1;
        stage.ask(line, 9, &produce(topic, corrupt.into())).await;
        stage.ask(line, 9, &produce(topic, batch(Writer(-1, -1, -1, true), 1, 1_700_000_000_000))).await;
        stage.says("no answer without acks; the next is to the next");
        stage.send(line, 9, &produce(topic, good()).with_acks(0)).await;
        stage.ask(line, 9, &produce(topic, good())).await;
    };
    let heard = r#"
        Produce v9: {responses [{name plain, partition_responses [{base_offset 0, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name plain, partition_responses [{base_offset 3, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v3: {responses [{name plain, partition_responses [{base_offset 6, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v13: {responses [{topic_id id of plain, partition_responses [{base_offset 9, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # refused
        Produce v9: {responses [{name plain-unknown, partition_responses [UnknownTopicOrPartition {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v13: {responses [{topic_id unknown-topic, partition_responses [UnknownTopicId {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name plain, partition_responses [InvalidRequiredAcks {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name plain, partition_responses [CorruptMessage {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name plain, partition_responses [TransactionalIdAuthorizationFailed {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # no answer without acks; the next is to the next
        Produce v9: {responses [{name plain, partition_responses [{base_offset 15, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
    "#;
    play("plain", script, heard).await;
}

#[tokio::test]
async fn an_idempotent_producer_writes_once_and_in_order() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("idempotent", stage.connect().await);
        stage.topic(topic, 1).await;
        let init = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        stage.until(line, 4, &init, |answer| answer.error_code == 0).await;
        let given = stage.ask(line, 4, &init).await;
        let id = given.producer_id.0;
        let writes = |epoch, sequence| produce(topic, batch(Writer(id, epoch, sequence, false), 2, 1_700_000_000_000));
        stage.ask(line, 9, &writes(0, 0)).await;
        stage.ask(line, 9, &writes(0, 2)).await;
        stage.says("again: the answer is that of the first time");
        stage.ask(line, 9, &writes(0, 0)).await;
        stage.ask(line, 9, &writes(0, 2)).await;
        stage.says("a gap");
        stage.ask(line, 9, &writes(0, 6)).await;
        stage.says("part of what was written");
        stage.ask(line, 9, &writes(0, 3)).await;
        stage.says("six batches on, the first is no longer remembered");
        for sequence in [4, 6, 8, 10, 12] {
            stage.ask(line, 9, &writes(0, sequence)).await;
        }
        stage.ask(line, 9, &writes(0, 0)).await;
        stage.says("a new epoch begins at 0");
        stage.ask(line, 9, &writes(1, 5)).await;
        stage.ask(line, 9, &writes(1, 0)).await;
        stage.ask(line, 9, &writes(0, 14)).await;
        stage.says("a producer that the log does not know may begin anywhere");
        let stranger = Writer(id + 1_000_000, 0, 9, false);
        stage.ask(line, 9, &produce(topic, batch(stranger, 1, 1_700_000_000_000))).await;
    };
    let heard = r#"
        InitProducerId v4: {producer_id producer-1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 0, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 2, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # again: the answer is that of the first time
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 0, log_append_time_ms 1700000001000, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 2, log_append_time_ms 1700000001000, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # a gap
        Produce v9: {responses [{name idempotent, partition_responses [OutOfOrderSequenceNumber {base_offset -1, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # part of what was written
        Produce v9: {responses [{name idempotent, partition_responses [OutOfOrderSequenceNumber {base_offset -1, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # six batches on, the first is no longer remembered
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 4, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 6, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 8, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 10, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 12, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [OutOfOrderSequenceNumber {base_offset -1, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # a new epoch begins at 0
        Produce v9: {responses [{name idempotent, partition_responses [OutOfOrderSequenceNumber {base_offset -1, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 14, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name idempotent, partition_responses [InvalidProducerEpoch {base_offset -1, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # a producer that the log does not know may begin anywhere
        Produce v9: {responses [{name idempotent, partition_responses [{base_offset 16, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
    "#;
    play("idempotent", script, heard).await;
}
