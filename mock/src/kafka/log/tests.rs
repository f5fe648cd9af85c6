use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
    protocol::StrBytes,
    records::{
        Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
        TimestampType,
    },
};

use super::{
    Batch, Invalid, Log, Producer,
    batch::{Header, Unreadable},
};
use crate::{
    Outcome, Record, StoredRecord,
    kafka::{ConnId, Settings, random::Random, tester::Tester},
};

const NOW_MS: i64 = 1_000;
const P: Producer = Producer { id: 7, epoch: 0 };

fn values(log: &Log) -> Vec<(i64, String)> {
    log.visible().iter().map(|record| (record.offset, record.value_str().unwrap_or("-").to_owned())).collect()
}

fn records(values: &[&str]) -> Vec<Record> {
    values.iter().map(|value| Record::from(*value)).collect()
}

fn keyed(pairs: &[(&str, &str)]) -> Vec<Record> {
    pairs.iter().map(|pair| Record::from(*pair)).collect()
}

fn random_bytes(random: &mut Random) -> Option<Bytes> {
    let length = random.next_u64() % 200;
    (!length.is_multiple_of(5)).then(|| (0..length).map(|_| random.next_u64() as u8).collect())
}

fn random_records(random: &mut Random) -> Vec<StoredRecord> {
    let count = 1 + random.next_u64() % 20;
    let mut offset = 40;
    let mut records = Vec::new();
    for _ in 0..count {
        offset += 1 + (random.next_u64() % 100) as i64;
        let mut headers = Vec::new();
        for _ in 0..random.next_u64() % 4 {
            headers.push((random_bytes(random).unwrap_or_default(), random_bytes(random)));
        }
        let timestamp_ms = (random.next_u64() % 2_000_000_000_000) as i64;
        records.push(StoredRecord { offset, timestamp_ms, headers, key: random_bytes(random), value: random_bytes(random) });
    }
    records
}

#[test]
fn batches_come_back_as_they_were_written() {
    let mut random = Random::new(1);
    for _ in 0..300 {
        let written = random_records(&mut random);
        let batch = Batch::build(Header { base_offset: 40, ..Header::plain() }, &written);
        assert_eq!(batch.records().as_ref(), Ok(&written));
        assert_eq!(batch.last_offset(), written.last().expect("at least one").offset);
        let trusted = Batch::trust(batch.bytes.clone());
        assert_eq!(trusted.header, batch.header);
    }
}

#[test]
fn another_decoder_reads_the_same() {
    let mut random = Random::new(2);
    for _ in 0..100 {
        let mut written = random_records(&mut random);
        // It keeps headers by name, as text.
        for (number, record) in written.iter_mut().enumerate() {
            record.headers = vec![(format!("h{number}").into(), Some(Bytes::from_static(b"v")))];
        }
        let batch = Batch::build(Header { base_offset: 40, leader_epoch: 3, ..Header::plain() }, &written);
        let set = RecordBatchDecoder::decode(&mut batch.bytes.clone()).expect("a batch");
        assert_eq!(set.records.len(), written.len());
        for (theirs, ours) in set.records.iter().zip(&written) {
            assert_eq!((theirs.offset, theirs.timestamp), (ours.offset, ours.timestamp_ms));
            assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
            assert_eq!(theirs.headers.len(), 1);
            assert_eq!(theirs.partition_leader_epoch, 3);
        }
    }
}

/// What another client would send: two records of an idempotent producer.
fn produced(compression: Compression) -> Bytes {
    let record = |sequence: i32| kafka_protocol::records::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: sequence.into(),
        sequence,
        timestamp: 5,
        key: None,
        value: Some(Bytes::from(format!("v{sequence}"))),
        headers: Default::default(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode(&mut bytes, &[record(0), record(1)], &options).expect("a batch");
    bytes.freeze()
}

#[test]
fn what_another_encoder_wrote_is_read_and_what_is_broken_is_refused() {
    let bytes = produced(Compression::None);
    let batch = Batch::parse(&bytes).expect("a sound batch");
    let found: Vec<_> = batch.records().expect("readable").into_iter().map(|record| record.value).collect();
    assert_eq!(found, [Some(Bytes::from("v0")), Some(Bytes::from("v1"))]);

    let broken = |at: usize, by: u8| {
        let mut bytes = BytesMut::from(&bytes[..]);
        bytes[at] ^= by;
        Batch::parse(&bytes.freeze()).map(drop)
    };
    assert_eq!(broken(70, 1), Err(Invalid::Corrupt), "the checksum covers the records");
    assert_eq!(broken(16, 3), Err(Invalid::OldFormat));
    assert_eq!(broken(9, 1), Err(Invalid::Corrupt), "a length that does not fit");
    assert_eq!(Batch::parse(&bytes.slice(..60)).map(drop), Err(Invalid::Corrupt));
    let twice = Bytes::from([&bytes[..], &bytes[..]].concat());
    assert_eq!(Batch::parse(&twice).map(drop), Err(Invalid::Contradictory), "one batch a partition");
}

#[test]
fn a_compressed_batch_is_kept_unread_and_counted_by_its_header() {
    // The attributes say gzip; nobody looks inside.
    let mut batch = Batch::build(
        Header { attributes: 1, base_timestamp: 9, ..Header::plain() },
        &[StoredRecord { offset: 0, timestamp_ms: 9, key: None, value: None, headers: Vec::new() }],
    );
    batch = Batch::parse(&batch.bytes).expect("its header is sound");
    assert_eq!(batch.records(), Err(Unreadable::Compressed));
    let mut log = Log::default();
    assert_eq!(log.append_produced(batch, NOW_MS).map(|appended| appended.base_offset), Ok(0));
    assert_eq!(log.end(), 1);
    assert_eq!(log.first_since(8).map(|dated| dated.offset), Some(0));
}

#[test]
fn reading_starts_with_the_batch_that_has_the_offset_and_ends_within_a_batch() {
    let mut log = Log::default();
    log.append(records(&["a", "b"]), NOW_MS);
    log.append(records(&["c"]), NOW_MS);
    let whole = log.read(0, 3, usize::MAX, false).len();
    let first = log.read(0, 2, usize::MAX, false).len();
    assert_eq!(log.read(1, 3, usize::MAX, false).len(), whole);
    assert_eq!(log.read(2, 3, usize::MAX, false).len(), whole - first);
    assert_eq!(log.read(3, 3, usize::MAX, true).len(), 0);
    assert_eq!(log.read(0, 3, 1, true).len(), first, "the first batch is whole");
    assert_eq!(log.read(0, 3, first - 1, false).len(), 0, "or left out");
    assert_eq!(log.read(0, 3, first + 10, false).len(), first + 10, "and the last one is cut off");
}

#[test]
fn a_batch_sent_twice_is_appended_once_and_one_out_of_order_is_refused() {
    let mut log = Log::default();
    let batch = |sequence: i32, epoch: i16| {
        let header = Header { attributes: 0, ..Header::transactional(Producer { id: 7, epoch }, sequence) };
        let record = |offset| StoredRecord { offset, timestamp_ms: 0, key: None, value: None, headers: Vec::new() };
        Batch::parse(&Batch::build(header, &[record(0), record(1)]).bytes).expect("a sound batch")
    };
    let mut append = |sequence, epoch| log.append_produced(batch(sequence, epoch), NOW_MS).map(|appended| appended.base_offset);
    assert_eq!(append(0, 0), Ok(0));
    assert_eq!(append(2, 0), Ok(2));
    assert_eq!(append(0, 0), Ok(0), "it was written before");
    assert_eq!(append(5, 0), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(append(1, 1), Err(ResponseError::OutOfOrderSequenceNumber), "an epoch begins at 0");
    assert_eq!(append(0, 1), Ok(4));
    assert_eq!(append(4, 0), Err(ResponseError::InvalidProducerEpoch));
    for sequence in (2..14).step_by(2) {
        append(sequence, 1).expect("the next one");
    }
    assert_eq!(append(4, 1), Ok(8), "five are remembered");
    assert_eq!(append(2, 1), Err(ResponseError::OutOfOrderSequenceNumber), "six are not");
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset_and_an_aborted_one_is_listed() {
    let mut log = Log::default();
    log.append(records(&["a"]), NOW_MS);
    log.append_in_transaction(P, records(&["b", "c"]), NOW_MS);
    log.append(records(&["d"]), NOW_MS);
    assert_eq!((log.last_stable(), log.end()), (1, 4));
    assert_eq!(values(&log), [(0, "a".into())]);
    log.end_transaction(P, false, 0, NOW_MS);
    assert_eq!((log.last_stable(), log.end()), (5, 5));
    assert_eq!(values(&log), [(0, "a".into()), (3, "d".into())]);
    let aborted: Vec<_> = log.aborted_from(0).map(|it| (it.producer_id, it.first_offset, it.last_offset)).collect();
    assert_eq!(aborted, [(7, 1, 4)]);

    log.append_in_transaction(P, records(&["e"]), NOW_MS);
    log.end_transaction(P, true, 0, NOW_MS);
    assert_eq!(values(&log).last(), Some(&(5, "e".into())));
    assert_eq!(log.aborted_from(5).count(), 0);
}

#[test]
fn markers_are_read_by_another_decoder() {
    let marker = Batch::marker(9, P, true, 4, NOW_MS);
    assert_eq!(marker.ends(), Some(true));
    assert_eq!(Batch::marker(9, P, false, 4, NOW_MS).ends(), Some(false));
    let set = RecordBatchDecoder::decode(&mut marker.bytes.clone()).expect("a batch");
    let record = &set.records[0];
    assert!(record.control && record.transactional);
    assert_eq!((record.offset, record.producer_id, record.producer_epoch), (9, 7, 0));
    assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, 1][..]));
    assert_eq!(record.value.as_deref(), Some(&[0, 0, 0, 0, 0, 4][..]));
}

#[test]
fn truncation_goes_back_to_a_batch_and_takes_epochs_and_transactions_with_it() {
    let mut log = Log::default();
    log.append(records(&["a"]), NOW_MS);
    log.append_in_transaction(P, records(&["b", "c"]), NOW_MS);
    log.begin_epoch(1);
    log.end_transaction(P, false, 0, NOW_MS);
    assert_eq!(log.end_of(0), Some((0, 3)));

    log.truncate(3);
    assert_eq!((log.end(), log.last_stable()), (3, 1), "the transaction is open again");
    assert_eq!(log.aborted_from(0).count(), 0);
    assert_eq!(log.end_of(1), None);
    log.truncate(2);
    assert_eq!((log.end(), log.last_stable()), (1, 1), "a batch goes as a whole");
}

#[test]
fn truncation_leaves_ended_what_has_its_marker() {
    let mut log = Log::default();
    log.append_in_transaction(P, records(&["a"]), NOW_MS);
    log.end_transaction(P, true, 0, NOW_MS);
    log.append(records(&["b"]), NOW_MS);
    log.truncate(2);
    assert_eq!((log.last_stable(), log.end()), (2, 2));
    assert_eq!(values(&log), [(0, "a".into())]);
}

#[test]
fn epochs_end_where_the_next_one_began() {
    let mut log = Log::default();
    log.append(records(&["a"]), NOW_MS);
    log.begin_epoch(2);
    log.append(records(&["b"]), NOW_MS);
    log.begin_epoch(3);
    log.begin_epoch(5);
    assert_eq!(log.end_of(0), Some((0, 1)));
    assert_eq!(log.end_of(1), Some((0, 1)), "an epoch that nobody wrote in ends with the one before");
    assert_eq!(log.end_of(3), Some((2, 2)), "so does one that was over before anything was written");
    assert_eq!(log.end_of(5), Some((5, 2)));
    assert_eq!(log.end_of(6), None);
    log.delete_before(2);
    assert_eq!(log.end_of(0), Some((0, 2)), "what is older than the log ends where it starts");
    assert_eq!(log.earliest_epoch(), Some(5));
}

#[test]
fn compaction_keeps_the_last_of_each_key_and_the_offsets_of_batches() {
    let mut log = Log::default();
    log.append(keyed(&[("k", "1"), ("l", "1")]), NOW_MS);
    log.append(keyed(&[("k", "2"), ("m", "1")]), NOW_MS);
    log.append(vec![Record::tombstone("m"), Record::from(("k", "3"))], NOW_MS);
    log.append(records(&["without a key"]), NOW_MS);
    log.compact(false);
    assert_eq!(values(&log), [(1, "1".into()), (4, "-".into()), (5, "3".into())]);
    assert_eq!((log.start(), log.end()), (0, 7));
    let slice = log.read(0, 7, usize::MAX, true).into_bytes();
    let batch = Batch::trust(slice);
    assert_eq!((batch.base_offset(), batch.last_offset()), (0, 1), "the first batch still begins at 0");
    let ranges: Vec<_> = log.batches.iter().map(|batch| (batch.base_offset(), batch.last_offset(), batch.header.count)).collect();
    assert_eq!(ranges, [(0, 1, 1), (4, 5, 2), (6, 6, 0)], "one is gone, and the log ends in an empty one");

    log.compact(true);
    assert_eq!(values(&log), [(1, "1".into()), (5, "3".into())]);
}

#[test]
fn compaction_stops_before_an_open_transaction_and_clears_aborted_ones() {
    let mut log = Log::default();
    log.append_in_transaction(P, keyed(&[("k", "given up")]), NOW_MS);
    log.end_transaction(P, false, 0, NOW_MS);
    log.append(keyed(&[("k", "1")]), NOW_MS);
    let other = Producer { id: 8, epoch: 0 };
    log.append_in_transaction(other, keyed(&[("k", "2")]), NOW_MS);
    log.compact(true);
    assert_eq!(values(&log), [(2, "1".into())]);
    assert_eq!(log.last_stable(), 3);
    log.end_transaction(other, true, 0, NOW_MS);
    log.compact(true);
    assert_eq!(values(&log), [(3, "2".into())]);
    assert_eq!(log.aborted_from(0).count(), 0);
}

#[test]
fn a_broken_header_holds_nobody_up() {
    let mut log = Log::default();
    let mut bytes = BytesMut::from(&Batch::build(Header::transactional(P, 0), &[]).bytes[..]);
    bytes[17] ^= 1;
    bytes[23..27].copy_from_slice(&4_i32.to_be_bytes());
    assert_eq!(log.append_raw(bytes.freeze()), 0);
    assert_eq!((log.end(), log.last_stable()), (5, 5));
    assert!(log.visible().is_empty());
}

fn tester() -> (Tester, ConnId) {
    let mut tester = Tester::new(Settings { brokers: 2, ..Settings::default() });
    let conn = tester.connect(1);
    tester.with(|kafka| kafka.create_topic("t", 1));
    (tester, conn)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn list(tester: &mut Tester, conn: ConnId, version: i16, timestamp: i64, isolation: i8) -> (i16, i64, i64, i32) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let request = if version >= 2 { request.with_isolation_level(isolation) } else { request };
    let answer = tester.ask(conn, version, &request);
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.offset, found.timestamp, found.leader_epoch)
}

#[test]
fn offsets_are_listed_by_time_and_by_isolation() {
    let (mut tester, conn) = tester();
    let unsupported = ResponseError::UnsupportedVersion.code();
    assert_eq!(list(&mut tester, conn, 10, -3, 0), (0, -1, -1, -1), "there is no youngest record");
    tester.with(|kafka| {
        let at = |ms: i64| Record::new("v").timestamp_ms(ms);
        kafka.append("t", 0, [at(10), at(30), at(20)]);
        kafka.elect("t", 0, 1);
        kafka.append_transaction("t", 0, [at(40)], Outcome::Open);
    });
    for version in 4..=10 {
        assert_eq!(list(&mut tester, conn, version, -1, 0), (0, 4, -1, 1));
        assert_eq!(list(&mut tester, conn, version, -1, 1), (0, 3, -1, 1));
        assert_eq!(list(&mut tester, conn, version, -2, 0), (0, 0, -1, 0));
        assert_eq!(
            list(&mut tester, conn, version, 15, 0),
            (0, 1, 30, 0),
            "the first that is not older, though a later one is nearer"
        );
        assert_eq!(list(&mut tester, conn, version, 35, 0), (0, 3, 40, 1));
        assert_eq!(list(&mut tester, conn, version, 35, 1), (0, -1, -1, -1), "not past the last stable offset");
        assert_eq!(list(&mut tester, conn, version, 41, 0), (0, -1, -1, -1));
    }
    for version in 1..=3 {
        assert_eq!(list(&mut tester, conn, version, -1, 0), (0, 4, -1, -1));
    }
    assert_eq!(list(&mut tester, conn, 7, -3, 0), (0, 3, 40, 1));
    assert_eq!(list(&mut tester, conn, 6, -3, 0), (unsupported, -1, -1, -1));
    assert_eq!(list(&mut tester, conn, 10, -9, 0), (unsupported, -1, -1, -1));
    let elsewhere = tester.connect(2);
    assert_eq!(list(&mut tester, elsewhere, 5, -1, 0).0, ResponseError::NotLeaderOrFollower.code());
    tester.with(|kafka| kafka.delete_records("t", 0, 2));
    assert_eq!(list(&mut tester, conn, 8, -4, 0), (0, 2, -1, 0));
    assert_eq!(list(&mut tester, conn, 8, 5, 0), (0, 2, 20, 0), "what was deleted is not found");
}

#[test]
fn an_epochs_end_is_told_to_who_knows_the_leaders_epoch() {
    let (mut tester, conn) = tester();
    tester.with(|kafka| {
        kafka.append("t", 0, ["a"]);
        kafka.elect("t", 0, 1);
    });
    let mut ask = |version, current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(text("t").into()).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-2).into()).with_topics(vec![topic]);
        let request = if version >= 3 { request.with_replica_id((-1).into()) } else { request };
        let answer = tester.ask(conn, version, &request);
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.leader_epoch, found.end_offset)
    };
    for version in 2..=4 {
        assert_eq!(ask(version, 1, 0), (0, 0, 1));
        assert_eq!(ask(version, -1, 7), (0, -1, -1));
        assert_eq!(ask(version, 0, 0).0, ResponseError::FencedLeaderEpoch.code());
        assert_eq!(ask(version, 2, 0).0, ResponseError::UnknownLeaderEpoch.code());
    }
}

#[test]
fn records_are_deleted_up_to_the_high_watermark() {
    let (mut tester, conn) = tester();
    tester.with(|kafka| kafka.append("t", 0, ["a", "b", "c"]));
    let mut version = (0..=2).cycle();
    let mut ask = |offset| {
        let version = version.next().expect("it has no end");
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
        let answer = tester.ask(conn, version, &DeleteRecordsRequest::default().with_topics(vec![topic]));
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.low_watermark)
    };
    assert_eq!(ask(1), (0, 1));
    assert_eq!(ask(4), (ResponseError::OffsetOutOfRange.code(), -1));
    assert_eq!(ask(-1), (0, 3));
    assert_eq!(ask(2), (0, 3), "it never goes back");
}
