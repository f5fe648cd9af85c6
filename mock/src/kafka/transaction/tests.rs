use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest,
        TransactionalId,
        add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction},
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::StrBytes,
    records::RecordBatchDecoder,
};

use crate::{
    Offsets, Record,
    kafka::{
        ConnId, Settings,
        log::{Log, Producer},
        tester::Tester,
    },
};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn tx() -> TransactionalId {
    text("tx").into()
}

/// A cluster with topic `t` of two partitions, and a connection to its one broker.
fn cluster() -> (Tester, ConnId) {
    let mut tester = Tester::new(Settings::default());
    let conn = tester.connect(1);
    tester.with(|kafka| kafka.create_topic("t", 2));
    (tester, conn)
}

/// A batch as a producer sends it; sequence numbers go on from those written to the same log.
fn batch(log: &mut Log, producer: Producer, value: &str) -> Bytes {
    let from = log.append_in_transaction(producer, [Record::from(value)], 5);
    log.read(from, from + 1, usize::MAX, true).into_bytes()
}

fn plain(value: &str) -> Bytes {
    let mut log = Log::default();
    log.append([Record::from(value)], 5);
    log.read(0, 1, usize::MAX, true).into_bytes()
}

fn to_produce(acks: i16, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(text("t").into()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

fn produce(tester: &mut Tester, conn: ConnId, version: i16, request: &ProduceRequest) -> PartitionProduceResponse {
    let answer = tester.ask(conn, version, request);
    answer.responses[0].partition_responses[0].clone()
}

fn write(tester: &mut Tester, conn: ConnId, version: i16, records: Bytes) -> i16 {
    let request = to_produce(-1, 0, records).with_transactional_id(Some(tx()));
    produce(tester, conn, version, &request).error_code
}

fn init(tester: &mut Tester, conn: ConnId, version: i16) -> Result<Producer, ResponseError> {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(tx())).with_transaction_timeout_ms(10_000);
    let answer = tester.ask(conn, version, &request);
    match ResponseError::try_from_code(answer.error_code) {
        Some(error) => Err(error),
        None => Ok(Producer { id: answer.producer_id.0, epoch: answer.producer_epoch }),
    }
}

fn add(tester: &mut Tester, conn: ConnId, version: i16, producer: Producer, partitions: &[i32]) -> Vec<i16> {
    let topic = AddPartitionsToTxnTopic::default().with_name(text("t").into()).with_partitions(partitions.to_vec());
    let request = AddPartitionsToTxnRequest::default();
    let request = if version < 4 {
        request
            .with_v3_and_below_transactional_id(tx())
            .with_v3_and_below_producer_id(producer.id.into())
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic])
    } else {
        let transaction = AddPartitionsToTxnTransaction::default().with_transactional_id(tx()).with_topics(vec![topic]);
        let transaction = transaction.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
        request.with_transactions(vec![transaction])
    };
    let mut answer = tester.ask(conn, version, &request);
    let topics = match answer.results_by_transaction.pop() {
        Some(result) => result.topic_results,
        None => answer.results_by_topic_v3_and_below,
    };
    topics[0].results_by_partition.iter().map(|result| result.partition_error_code).collect()
}

fn end(tester: &mut Tester, conn: ConnId, version: i16, producer: Producer, is_committed: bool) -> (i16, Producer) {
    let request = EndTxnRequest::default().with_transactional_id(tx()).with_committed(is_committed);
    let request = request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
    let answer = tester.ask(conn, version, &request);
    (answer.error_code, Producer { id: answer.producer_id.0, epoch: answer.producer_epoch })
}

fn values(tester: &Tester, partition: i32) -> Vec<String> {
    tester.kafka.records("t", partition).iter().map(|record| record.value_str().unwrap_or("-").to_owned()).collect()
}

fn offsets(tester: &Tester, partition: i32) -> (i64, i64) {
    let Offsets { end, last_stable, .. } = tester.kafka.offsets("t", partition);
    (last_stable, end)
}

#[test]
fn what_is_produced_lies_in_the_log() {
    let (mut tester, conn) = cluster();
    for version in 3..=12 {
        let request = to_produce(1, 0, plain("v"));
        let answer = produce(&mut tester, conn, version, &request);
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(version) - 3));
    }
    let id = tester.kafka.topics.get("t").expect("it exists").id;
    let mut request = to_produce(1, 0, plain("v"));
    request.topic_data[0] = request.topic_data[0].clone().with_topic_id(id).with_name(StrBytes::default().into());
    assert_eq!(produce(&mut tester, conn, 13, &request).base_offset, 10);
    request.topic_data[0].topic_id = uuid::Uuid::from_u128(9);
    assert_eq!(produce(&mut tester, conn, 13, &request).error_code, ResponseError::UnknownTopicId.code());
    assert_eq!(values(&tester, 0).len(), 11);
}

#[test]
fn without_acks_there_is_no_answer_and_the_connection_goes_on() {
    let (mut tester, conn) = cluster();
    tester.send(conn, 9, &to_produce(0, 0, plain("v")));
    tester.ask(conn, 12, &MetadataRequest::default());
    assert_eq!(values(&tester, 0), ["v"]);
    assert!(tester.answer::<ProduceRequest>(conn, 9).is_none());
    tester.send(conn, 9, &to_produce(0, 9, plain("v")));
    assert!(tester.is_closed(conn), "this is how a failure is told");
}

#[test]
fn a_batch_that_is_none_is_refused() {
    let (mut tester, conn) = cluster();
    let sound = plain("v");
    let mut broken = sound.to_vec();
    broken[65] ^= 1;
    let mut old = sound.to_vec();
    old[16] = 1;
    let cases = [
        (Bytes::from(broken), ResponseError::CorruptMessage),
        (Bytes::from(old), ResponseError::InvalidRecord),
        (Bytes::from([&sound[..], &sound[..]].concat()), ResponseError::InvalidRecord),
        (plain(&"v".repeat(1 << 20)), ResponseError::MessageTooLarge),
    ];
    for (records, error) in cases {
        let answer = produce(&mut tester, conn, 9, &to_produce(-1, 0, records));
        assert_eq!((answer.error_code, answer.base_offset), (error.code(), -1));
    }
    assert_eq!(offsets(&tester, 0), (0, 0));
    let answer = produce(&mut tester, conn, 9, &to_produce(2, 0, sound));
    assert_eq!(answer.error_code, ResponseError::InvalidRequiredAcks.code());
}

#[test]
fn a_topic_may_date_its_records_itself() {
    let (mut tester, conn) = cluster();
    tester.with(|kafka| {
        kafka.delete_topic("t");
        kafka.create_topic_with("t", &[&[1]], &[("message.timestamp.type", "LogAppendTime")]);
    });
    let answer = produce(&mut tester, conn, 9, &to_produce(-1, 0, plain("v")));
    let dated = tester.kafka.records("t", 0)[0].timestamp_ms;
    assert_eq!((answer.log_append_time_ms, dated), (crate::kafka::tester::START_MS, crate::kafka::tester::START_MS));
}

#[test]
fn a_transaction_counts_when_it_is_committed() {
    let (mut tester, conn) = cluster();
    let producer = init(&mut tester, conn, 5).expect("a new id");
    let mut log = Log::default();
    assert_eq!(write(&mut tester, conn, 9, batch(&mut log, producer, "early")), ResponseError::InvalidTxnState.code());
    for (round, version) in (0..).zip([0, 3, 4, 5]) {
        assert_eq!(add(&mut tester, conn, version, producer, &[0, 1]), [0, 0]);
        let mut log = Log::default();
        (0..round).for_each(|_| drop(batch(&mut log, producer, "before")));
        assert_eq!(write(&mut tester, conn, 9, batch(&mut log, producer, "v")), 0);
        assert_eq!(offsets(&tester, 0), (2 * round, 2 * round + 1));
        assert_eq!(end(&mut tester, conn, 4, producer, round != 1).0, 0);
        assert_eq!(offsets(&tester, 0), (2 * round + 2, 2 * round + 2));
    }
    assert_eq!(values(&tester, 0), ["v", "v", "v"], "the second one was given up");
    assert_eq!(offsets(&tester, 1), (4, 4), "a partition without records has markers too");
    assert_eq!(end(&mut tester, conn, 4, producer, true).0, 0, "it may ask again");
    assert_eq!(end(&mut tester, conn, 4, producer, false).0, ResponseError::InvalidTxnState.code());
}

#[test]
fn partitions_join_together_or_not_at_all() {
    let (mut tester, conn) = cluster();
    let producer = init(&mut tester, conn, 4).expect("a new id");
    let (unknown, other) = (ResponseError::UnknownTopicOrPartition.code(), ResponseError::OperationNotAttempted.code());
    assert_eq!(add(&mut tester, conn, 3, producer, &[0, 7]), [other, unknown]);
    assert_eq!(end(&mut tester, conn, 4, producer, true).0, ResponseError::InvalidTxnState.code(), "nothing has begun");
    let stranger = Producer { id: 99, ..producer };
    assert_eq!(add(&mut tester, conn, 3, stranger, &[0]), [ResponseError::InvalidProducerIdMapping.code()]);
}

#[test]
fn a_new_producer_fences_the_one_before_and_gives_up_its_transaction() {
    let (mut tester, conn) = cluster();
    let first = init(&mut tester, conn, 4).expect("a new id");
    let mut log = Log::default();
    add(&mut tester, conn, 3, first, &[0]);
    assert_eq!(write(&mut tester, conn, 9, batch(&mut log, first, "v")), 0);
    assert_eq!(init(&mut tester, conn, 4), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(offsets(&tester, 0), (2, 2), "it was given up");
    let second = init(&mut tester, conn, 4).expect("the transaction is over");
    assert_eq!((second.id, second.epoch), (first.id, 2));
    assert_eq!(add(&mut tester, conn, 3, first, &[0]), [ResponseError::ProducerFenced.code()]);
    assert_eq!(add(&mut tester, conn, 1, first, &[0]), [ResponseError::InvalidProducerEpoch.code()]);
    assert_eq!(end(&mut tester, conn, 3, first, true).0, ResponseError::ProducerFenced.code());
    assert_eq!(end(&mut tester, conn, 1, first, true).0, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(write(&mut tester, conn, 9, batch(&mut log, first, "w")), ResponseError::InvalidProducerEpoch.code());
    assert!(values(&tester, 0).is_empty());
}

#[test]
fn a_transaction_that_takes_too_long_is_given_up() {
    let (mut tester, conn) = cluster();
    let producer = init(&mut tester, conn, 4).expect("a new id");
    let request = AddOffsetsToTxnRequest::default().with_transactional_id(tx()).with_group_id(text("g").into());
    let request = request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
    assert_eq!(tester.ask(conn, 3, &request).error_code, 0);
    add(&mut tester, conn, 3, producer, &[0]);
    write(&mut tester, conn, 9, batch(&mut Log::default(), producer, "v"));
    tester.pass(Duration::from_millis(9_999));
    assert_eq!(offsets(&tester, 0), (0, 1));
    tester.pass(Duration::from_millis(1));
    assert_eq!(offsets(&tester, 0), (2, 2));
    assert!(values(&tester, 0).is_empty());
    assert_eq!(end(&mut tester, conn, 4, producer, true).0, ResponseError::ProducerFenced.code());
}

#[test]
fn a_transaction_may_not_last_longer_than_brokers_allow() {
    let (mut tester, conn) = cluster();
    let request = InitProducerIdRequest::default().with_transactional_id(Some(tx()));
    for timeout in [0, 900_001] {
        let answer = tester.ask(conn, 4, &request.clone().with_transaction_timeout_ms(timeout));
        assert_eq!(answer.error_code, ResponseError::InvalidTransactionTimeout.code());
    }
    let idempotent = tester.ask(conn, 4, &request.clone().with_transactional_id(None));
    assert_eq!((idempotent.error_code, idempotent.producer_epoch), (0, 0));
    let nameless = tester.ask(conn, 4, &request.with_transactional_id(Some(StrBytes::default().into())));
    assert_eq!(nameless.error_code, ResponseError::InvalidRequest.code());
}

#[test]
fn every_version_is_answered() {
    let (mut tester, conn) = cluster();
    for version in 0..=5 {
        let producer = init(&mut tester, conn, version).expect("nothing is open");
        assert_eq!(add(&mut tester, conn, version, producer, &[0]), [0]);
        let request = AddOffsetsToTxnRequest::default().with_transactional_id(tx()).with_group_id(text("g").into());
        let request = request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
        assert_eq!(tester.ask(conn, version.min(4), &request).error_code, 0);
        assert_eq!(end(&mut tester, conn, version, producer, true).0, 0);
    }
    assert_eq!(offsets(&tester, 0), (6, 6), "one marker each");
}

#[test]
fn a_producer_that_comes_again_with_its_epoch_gets_the_next_one_once() {
    let (mut tester, conn) = cluster();
    let first = init(&mut tester, conn, 4).expect("a new id");
    let request = InitProducerIdRequest::default().with_transactional_id(Some(tx())).with_transaction_timeout_ms(10_000);
    let request = request.with_producer_id(first.id.into()).with_producer_epoch(first.epoch);
    for _ in 0..2 {
        let answer = tester.ask(conn, 4, &request);
        assert_eq!((answer.error_code, answer.producer_id.0, answer.producer_epoch), (0, first.id, 1));
    }
    init(&mut tester, conn, 4).expect("somebody else");
    assert_eq!(tester.ask(conn, 4, &request).error_code, ResponseError::ProducerFenced.code());
    assert_eq!(tester.ask(conn, 3, &request).error_code, ResponseError::InvalidProducerEpoch.code());
}

#[test]
fn epochs_that_have_run_out_go_on_with_a_new_id() {
    let (mut tester, conn) = cluster();
    let first = init(&mut tester, conn, 5).expect("a new id");
    let last = Producer { epoch: i16::MAX - 1, ..first };
    tester.kafka.transactions.by_id.get_mut("tx").expect("it is known").producer = last;
    assert_eq!(write(&mut tester, conn, 12, batch(&mut Log::default(), last, "a")), 0);
    tester.with(|kafka| kafka.elect("t", 0, None));
    let (code, next) = end(&mut tester, conn, 5, last, true);
    assert_eq!((code, next), (0, Producer { id: first.id + 1, epoch: 0 }));
    tester.with(|kafka| kafka.elect("t", 0, 1));
    assert_eq!(values(&tester, 0), ["a"]);
    assert_eq!(write(&mut tester, conn, 12, batch(&mut Log::default(), next, "b")), 0);
}

#[test]
fn with_new_versions_writing_joins_and_every_end_begins_an_epoch() {
    let (mut tester, conn) = cluster();
    let first = init(&mut tester, conn, 5).expect("a new id");
    assert_eq!(write(&mut tester, conn, 12, batch(&mut Log::default(), first, "a")), 0);
    let (code, second) = end(&mut tester, conn, 5, first, true);
    assert_eq!((code, second), (0, Producer { epoch: 1, ..first }));
    let log = &tester.kafka.topics.partition("t", 0).expect("it exists").log;
    let marker = RecordBatchDecoder::decode(&mut log.read(1, 2, usize::MAX, true).into_bytes()).expect("a batch");
    assert_eq!(marker.records[0].producer_epoch, 1, "the marker has the new epoch, so that the log refuses the old one too");
    assert_eq!(end(&mut tester, conn, 5, first, true), (0, second), "it may ask again");
    assert_eq!(end(&mut tester, conn, 5, first, false).0, ResponseError::InvalidTxnState.code());
    assert_eq!(end(&mut tester, conn, 5, second, true).0, ResponseError::InvalidTxnState.code(), "nothing has begun");
    assert_eq!(write(&mut tester, conn, 12, batch(&mut Log::default(), first, "x")), ResponseError::InvalidProducerEpoch.code());
    assert_eq!(write(&mut tester, conn, 12, batch(&mut Log::default(), second, "b")), 0);
    let (code, third) = end(&mut tester, conn, 5, second, false);
    assert_eq!((code, third.epoch), (0, 2));
    assert_eq!(end(&mut tester, conn, 5, third, false), (0, Producer { epoch: 3, ..first }), "there was nothing to give up");
    assert_eq!(values(&tester, 0), ["a"]);
}

#[test]
fn markers_wait_for_a_leader_and_the_producer_with_them() {
    let (mut tester, conn) = cluster();
    let producer = init(&mut tester, conn, 4).expect("a new id");
    add(&mut tester, conn, 3, producer, &[0, 1]);
    tester.with(|kafka| kafka.elect("t", 1, None));
    assert_eq!(end(&mut tester, conn, 4, producer, true).0, 0);
    assert_eq!((offsets(&tester, 0), offsets(&tester, 1)), ((1, 1), (0, 0)));
    assert_eq!(add(&mut tester, conn, 3, producer, &[0]), [ResponseError::ConcurrentTransactions.code()]);
    assert_eq!(end(&mut tester, conn, 4, producer, true).0, ResponseError::ConcurrentTransactions.code());
    tester.with(|kafka| kafka.elect("t", 1, 1));
    assert_eq!(offsets(&tester, 1), (1, 1));
    assert_eq!(add(&mut tester, conn, 3, producer, &[0]), [0]);
}
