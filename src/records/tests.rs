mod foreign;

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    indexmap::IndexMap,
    protocol::StrBytes,
    records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};
use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
use proptest::prelude::*;

use super::{
    batch::Indexed,
    compress::{Codec, tests as compressors},
    encode::{TestBatch, TestRecord, put_varint},
    *,
};
use crate::{
    model::{LeaderEpoch, Offset, Position},
    wire::AbortedTransaction,
};

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

fn join(batches: &[TestBatch]) -> Bytes {
    batches.iter().flat_map(TestBatch::encode).collect::<Vec<_>>().into()
}

fn chunk(data: Bytes, from: i64, aborted: &[(i64, i64)]) -> Chunk {
    let indexed = index(&data, Offset(from));
    assert_eq!(indexed.error, None);
    let aborted =
        aborted.iter().map(|&(producer_id, first)| AbortedTransaction { producer_id, first_offset: Offset(first) }).collect();
    Chunk { data, heads: indexed.heads, aborted, from: Offset(from), next_offset: indexed.next_offset.unwrap_or(Offset(from)) }
}

/// All that a chunk gives, in order.
#[derive(Debug, PartialEq)]
enum Step {
    /// A segment: the offsets that its cursor hands out, and where it says to go on.
    Segment(Vec<i64>, i64),
    /// An error, from the reader or from the cursor: its offset and the one after.
    Error(i64, i64),
}

fn read(chunk: Chunk, read_committed: bool) -> Vec<Step> {
    let mut reader = ChunkReader::new(chunk, read_committed, true);
    let mut codecs = Codecs::new(1 << 20);
    let mut steps = Vec::new();
    while let Some(segment) = reader.next_segment(&mut codecs) {
        match segment {
            Ok(segment) => {
                let (records, error) = walk(&segment);
                steps.push(Step::Segment(records.iter().map(|record| record.offset.0).collect(), segment.next.offset.0));
                steps.extend(error.map(|error| Step::Error(error.offset.0, error.next_offset.0)));
            }
            Err(error) => steps.push(Step::Error(error.offset.0, error.next_offset.0)),
        }
    }
    steps
}

fn walk(segment: &Segment) -> (Vec<RawRecord>, Option<RecordError>) {
    let mut cursor = segment.cursor();
    let mut records = Vec::new();
    loop {
        match cursor.next(segment) {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, None),
            Err(error) => {
                assert_eq!(cursor.next(segment), Ok(None), "nothing comes after an error");
                return (records, Some(error));
            }
        }
    }
}

fn only_segment(batch: &TestBatch) -> Segment {
    let mut reader = ChunkReader::new(chunk(join(std::slice::from_ref(batch)), batch.base, &[]), false, true);
    let mut codecs = Codecs::new(1 << 20);
    let segment = reader.next_segment(&mut codecs).unwrap().unwrap();
    assert!(reader.next_segment(&mut codecs).is_none());
    segment
}

fn first_error(chunk: Chunk) -> RecordErrorKind {
    let mut reader = ChunkReader::new(chunk, true, true);
    let mut codecs = Codecs::new(1 << 20);
    loop {
        match reader.next_segment(&mut codecs).expect("an error was expected") {
            Err(error) => return error.kind,
            Ok(segment) => {
                if let Some(error) = walk(&segment).1 {
                    return error.kind;
                }
            }
        }
    }
}

/// A record back from a segment, to compare with what was encoded.
fn decoded(segment: &Segment, record: &RawRecord) -> TestRecord {
    let head = segment.head_of(record.idx);
    TestRecord {
        delta: (record.offset.0 - head.base.0) as i32,
        timestamp_delta: segment.timestamp(record) - head.timestamp,
        key: segment.key(record).map(Into::into),
        value: segment.value(record).map(Into::into),
        headers: segment.headers(record).map(|header| (header.key().into(), header.value().map(Into::into))).collect(),
    }
}

// The index: headers only.

#[test]
fn index_finds_the_batches_and_the_next_offset() {
    let data =
        join(&[TestBatch::dense(10, 3), TestBatch::dense(13, 2), TestBatch { leader_epoch: 9, ..TestBatch::dense(20, 1) }]);
    let indexed = index(&data, Offset(10));
    assert_eq!(indexed.heads.iter().map(|head| (head.base.0, head.count)).collect::<Vec<_>>(), [(10, 3), (13, 2), (20, 1)]);
    assert_eq!((indexed.next_offset, indexed.last_epoch(), indexed.error), (Some(Offset(21)), Some(LeaderEpoch(9)), None));
}

#[test]
fn index_leaves_out_batches_before_the_asked_offset() {
    let data = join(&[TestBatch::dense(10, 3), TestBatch::dense(13, 2)]);
    assert_eq!(index(&data, Offset(12)).heads.len(), 2);
    assert_eq!(index(&data, Offset(13)).heads.len(), 1);
    assert_eq!(index(&data, Offset(15)), Indexed::default());
    assert_eq!(index(&Bytes::new(), Offset(0)), Indexed::default());
}

#[test]
fn trap_6_the_next_offset_steps_over_a_compacted_tail() {
    let data =
        join(&[TestBatch::sparse(10, &[0, 2], Some(9)), TestBatch { count: Some(0), ..TestBatch::sparse(20, &[], Some(4)) }]);
    assert_eq!(index(&data, Offset(10)).next_offset, Some(Offset(25)));
    assert_eq!(read(chunk(data.clone(), 10, &[]), false), [Step::Segment(vec![10, 12], 25)]);
    assert_eq!(read(chunk(data, 20, &[]), false), [Step::Segment(vec![], 25)]);
}

#[test]
fn trap_8_a_tail_cut_at_any_byte_ends_quietly() {
    let data = join(&[TestBatch::dense(10, 2), TestBatch::dense(12, 2)]);
    let first_len = TestBatch::dense(10, 2).encode().len();
    for end in 1..data.len() {
        let indexed = index(&data.slice(..end), Offset(10));
        if end < first_len {
            assert!(
                matches!(indexed.error, Some(BatchError::TooSmall { needed }) if needed == if end < 12 { 61 } else { first_len }),
                "cut at {end}: {:?}",
                indexed.error
            );
            assert_eq!((indexed.heads.len(), indexed.next_offset), (0, None));
        } else {
            assert_eq!((indexed.error, indexed.heads.len(), indexed.next_offset), (None, 1, Some(Offset(12))), "cut at {end}");
        }
    }
}

#[test]
fn a_cut_batch_after_nothing_but_earlier_ones_asks_for_more() {
    let data = join(&[TestBatch::dense(10, 2), TestBatch::dense(12, 2)]);
    let indexed = index(&data.slice(..data.len() - 1), Offset(12));
    assert!(matches!(indexed.error, Some(BatchError::TooSmall { .. })));
}

#[test]
fn index_names_old_formats_and_keeps_what_was_before() {
    for magic in [0, 1] {
        // A message of these formats: offset, size, CRC, magic, attributes, (timestamp,) key, value.
        let mut old = 12i64.to_be_bytes().to_vec();
        old.extend(14i32.to_be_bytes());
        old.extend([0, 0, 0, 0, magic, 0]);
        old.extend([0xff; 8]);
        let error = Some(BatchError::Legacy { magic: magic as i8, offset: Offset(12) });
        assert_eq!(index(&old.clone().into(), Offset(12)).error, error);

        let mixed = [TestBatch::dense(10, 2).encode(), old].concat();
        let indexed = index(&mixed.into(), Offset(10));
        assert_eq!((indexed.heads.len(), indexed.next_offset, indexed.error), (1, Some(Offset(12)), error));
    }
}

#[test]
fn index_refuses_nonsense() {
    let put = |at: usize, bytes: &[u8]| {
        let mut data = TestBatch::dense(12, 2).encode();
        data[at..at + bytes.len()].copy_from_slice(bytes);
        data
    };
    for (bad, what) in [
        (put(8, &(-1i32).to_be_bytes()), "negative length"),
        (put(8, &i32::MIN.to_be_bytes()), "negative length"),
        (put(8, &48i32.to_be_bytes()), "length shorter than a batch's header"),
        (put(8, &0i32.to_be_bytes()), "length shorter than a batch's header"),
        (put(16, &[3]), "unknown format version"),
        (put(16, &[0xff]), "unknown format version"),
        (put(23, &(-1i32).to_be_bytes()), "negative last offset delta"),
        (put(57, &(-1i32).to_be_bytes()), "negative record count"),
        (put(0, &11i64.to_be_bytes()), "base offset not above the batch before"),
        (put(0, &(-1i64).to_be_bytes()), "base offset not above the batch before"),
        (put(0, &i64::MAX.to_be_bytes()), "offsets beyond 64 bits"),
        (put(0, &(i64::MAX - 1).to_be_bytes()), "offsets beyond 64 bits"),
    ] {
        let offset = Offset(i64::from_be_bytes(bad[..8].try_into().unwrap()));
        let data = [TestBatch::dense(10, 2).encode(), bad].concat();
        let indexed = index(&data.into(), Offset(10));
        assert_eq!(indexed.error, Some(BatchError::Malformed { offset, what }));
        assert_eq!((indexed.heads.len(), indexed.next_offset), (1, Some(Offset(12))), "what was good before is kept");
    }
}

// Records.

fn options() -> RecordEncodeOptions {
    RecordEncodeOptions { version: 2, compression: Compression::None }
}

fn reference(offset: i64, timestamp: i64) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 4,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp,
        key: None,
        value: None,
        headers: IndexMap::new(),
    }
}

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(
        prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..20), 1 => prop::collection::vec(any::<u8>(), 60..200)],
    )
}

fn records() -> impl Strategy<Value = Vec<TestRecord>> {
    let record = (1..4i32, -100_000..100_000i64, field(), field(), prop::collection::vec((field(), field()), 0..4));
    prop::collection::vec(record, 1..20).prop_map(|parts| {
        let mut next = -1;
        let mut records = Vec::new();
        for (step, timestamp_delta, key, value, headers) in parts {
            next += step;
            let headers = headers.into_iter().map(|(key, value)| (key.unwrap_or_default(), value)).collect();
            records.push(TestRecord { delta: next, timestamp_delta, key, value, headers });
        }
        records
    })
}

proptest! {
    #[test]
    fn round_trip_of_what_kafka_protocol_encodes(base in 0..i64::MAX / 2, records in records(), codec in 0..5usize) {
        let records: Vec<_> = records
            .into_iter()
            .map(|record| Record {
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                // Its headers are a map with keys of text.
                headers: record.headers.into_iter().enumerate().map(|(n, (_, value))| (StrBytes::from_string(format!("h{n}")), value.map(Into::into))).collect(),
                ..reference(base + i64::from(record.delta), 1_700_000_000_000 + record.timestamp_delta)
            })
            .collect();
        let mut data = BytesMut::new();
        let compression = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd][codec];
        let compress = |records: &mut BytesMut, out: &mut BytesMut, compression| {
            out.extend(match compression {
                Compression::None => records.to_vec(),
                Compression::Gzip => compressors::gzip(records),
                Compression::Snappy => compressors::snappy_xerial(records, 100),
                Compression::Lz4 => compressors::lz4(records, FrameInfo::new()),
                Compression::Zstd => compressors::zstd(records),
            });
            Ok(())
        };
        let options = RecordEncodeOptions { compression, ..options() };
        RecordBatchEncoder::encode_with_custom_compression(&mut data, &records, &options, Some(compress)).unwrap();

        let chunk = chunk(data.freeze(), records[0].offset, &[]);
        prop_assert_eq!(chunk.next_offset.0, records.last().unwrap().offset + 1);
        let mut reader = ChunkReader::new(chunk, true, true);
        let mut codecs = Codecs::new(1 << 20);
        let mut found = Vec::new();
        while let Some(segment) = reader.next_segment(&mut codecs) {
            let segment = segment.unwrap();
            let (raw, error) = walk(&segment);
            prop_assert_eq!(error, None);
            found.extend(raw.iter().map(|raw| Record {
                key: segment.key(raw).map(Bytes::copy_from_slice),
                value: segment.value(raw).map(Bytes::copy_from_slice),
                headers: segment.headers(raw).map(|header| (StrBytes::from_string(header.key_str().unwrap().into()), header.value().map(Bytes::copy_from_slice))).collect(),
                ..reference(raw.offset.0, segment.timestamp(raw))
            }));
        }
        prop_assert_eq!(found, records);
    }

    #[test]
    fn round_trip_of_what_our_own_encoder_writes(base in 0..i64::MAX / 2, records in records()) {
        let batch = TestBatch { records, ..TestBatch::new(base) };
        let segment = only_segment(&batch);
        let (raw, error) = walk(&segment);
        prop_assert_eq!(error, None);
        for (nth, record) in raw.iter().enumerate() {
            prop_assert_eq!(&decoded(&segment, record), &batch.records[nth]);
            prop_assert_eq!(segment.offset_of(nth as u32), record.offset);
        }
        prop_assert_eq!(raw.len(), batch.records.len());
    }

    #[test]
    fn no_bytes_panic(mut records in records(), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..5), count in prop::option::of(0..40i32), codec in 0..6i16) {
        let _ = index(&records[0].value.take().unwrap_or_default().into(), Offset(0));
        let plain = TestBatch { records, ..TestBatch::new(7) };
        let mut payload = plain.plain_records();
        for (at, mask) in flips {
            let at = at % payload.len();
            payload[at] ^= mask;
        }
        let batch = TestBatch { payload: Some(payload), count: count.or(Some(plain.count())), last_delta: Some(plain.last_delta()), attributes: codec, ..plain };
        for step in read(chunk(join(&[batch.clone(), TestBatch::dense(1000, 1)]), 9, &[]), true) {
            if let Step::Segment(offsets, next) = step {
                prop_assert!(offsets.iter().all(|&offset| offset >= 9 && offset < next));
                prop_assert!(offsets.is_sorted_by(|a, b| a < b));
            }
        }
    }
}

#[test]
fn trap_5_headers_keep_order_duplicates_nulls_and_odd_keys() {
    let headers = vec![
        (b"b".to_vec(), Some(b"1".to_vec())),
        (b"a".to_vec(), None),
        (b"b".to_vec(), Some(vec![])),
        (vec![0xff, 0xfe], Some(b"2".to_vec())),
        (vec![], Some(b"3".to_vec())),
    ];
    let record = TestRecord { headers: headers.clone(), ..TestRecord::new(0, "v") };
    let segment = only_segment(&TestBatch { records: vec![record], ..TestBatch::new(0) });
    let found = segment.headers(&walk(&segment).0[0]);
    assert_eq!(found.len(), 5);
    assert_eq!(found.clone().map(|header| (header.key().to_vec(), header.value().map(Into::into))).collect::<Vec<_>>(), headers);
    assert_eq!(found.map(|header| header.key_str()).collect::<Vec<_>>(), [Some("b"), Some("a"), Some("b"), None, Some("")]);
}

#[test]
fn null_and_empty_are_not_the_same() {
    let fields = [(None, None), (Some(vec![]), Some(vec![])), (None, Some(vec![1])), (Some(vec![2]), None)];
    let records: Vec<_> = fields
        .into_iter()
        .zip(0..)
        .map(|((key, value), delta)| TestRecord { delta, key, value, ..TestRecord::default() })
        .collect();
    let segment = only_segment(&TestBatch { records: records.clone(), ..TestBatch::new(0) });
    assert_eq!(walk(&segment).0.iter().map(|record| decoded(&segment, record)).collect::<Vec<_>>(), records);
}

#[test]
fn trap_7_log_append_time_is_the_max_timestamp_for_every_record() {
    let records =
        (0..3).map(|delta| TestRecord { delta, timestamp_delta: delta.into(), ..TestRecord::default() }).collect::<Vec<_>>();
    let created = only_segment(&TestBatch { records: records.clone(), ..TestBatch::new(0) });
    assert_eq!(walk(&created).0.iter().map(|record| created.timestamp(record)).collect::<Vec<_>>(), [1000, 1001, 1002]);
    let appended = only_segment(&TestBatch { records, attributes: TestBatch::LOG_APPEND_TIME, ..TestBatch::new(0) });
    assert_eq!(walk(&appended).0.iter().map(|record| appended.timestamp(record)).collect::<Vec<_>>(), [2000, 2000, 2000]);
}

#[test]
fn trap_9_timestamps_saturate() {
    for (base_timestamp, timestamp_delta, expected) in
        [(i64::MAX - 1, 5, i64::MAX), (i64::MIN, -1, i64::MIN), (-1, i64::MIN, i64::MIN)]
    {
        let record = TestRecord { timestamp_delta, ..TestRecord::default() };
        let segment = only_segment(&TestBatch { base_timestamp, records: vec![record], ..TestBatch::new(0) });
        assert_eq!(segment.timestamp(&walk(&segment).0[0]), expected);
    }
}

#[test]
fn trap_2_a_record_count_of_i32_max_in_a_small_batch_is_refused() {
    let batch = TestBatch { count: Some(i32::MAX), last_delta: Some(i32::MAX), ..TestBatch::dense(5, 1) };
    assert!(batch.encode().len() < 75);
    assert_eq!(
        first_error(chunk(join(&[batch]), 5, &[])),
        RecordErrorKind::Malformed("more records counted than the batch's bytes can hold")
    );
}

#[test]
fn trap_3_a_header_count_of_i32_max_is_refused() {
    for count in [i32::MAX, 1, -1, i32::MIN] {
        let mut body = vec![0, 0, 0, 1, 1];
        put_varint(&mut body, count.into());
        let mut payload = Vec::new();
        put_varint(&mut payload, body.len() as i64);
        payload.extend(body);
        let batch = TestBatch { payload: Some(payload), count: Some(1), ..TestBatch::new(5) };
        assert_eq!(read(chunk(join(std::slice::from_ref(&batch)), 5, &[]), false), [Step::Segment(vec![], 6), Step::Error(5, 6)]);
        assert_eq!(
            first_error(chunk(join(&[batch]), 5, &[])),
            RecordErrorKind::Malformed("headers that do not fit their record")
        );
    }
}

#[test]
fn a_malformed_record_stops_after_the_good_ones() {
    let good = TestBatch::dense(10, 3);
    // What is wrong, how many records come before it, and the batch.
    let cases: [(&str, usize, TestBatch); 7] = [
        ("record longer than its batch", 2, {
            let mut payload = good.plain_records();
            payload.truncate(payload.len() - 1);
            TestBatch { payload: Some(payload), count: Some(3), last_delta: Some(2), ..good.clone() }
        }),
        ("bytes left after the last record", 2, {
            let payload = [good.plain_records(), vec![0]].concat();
            TestBatch { payload: Some(payload), count: Some(3), last_delta: Some(2), ..good.clone() }
        }),
        ("bytes left after the last record", 1, TestBatch { count: Some(2), last_delta: Some(2), ..good.clone() }),
        ("record offsets out of order or beyond the batch's last", 0, TestBatch { last_delta: Some(1), ..good.clone() }),
        ("record offsets out of order or beyond the batch's last", 2, TestBatch::sparse(10, &[0, 1, 1], Some(2))),
        ("record offsets out of order or beyond the batch's last", 2, TestBatch::sparse(10, &[0, 2, 1], Some(3))),
        ("record offsets out of order or beyond the batch's last", 1, TestBatch::sparse(10, &[0, 2, 1], Some(2))),
    ];
    for (what, good, batch) in cases {
        let before = TestBatch::dense(0, 10);
        let chunk = chunk(join(&[before, batch.clone()]), 0, &[]);
        let kind = first_error(chunk.clone());
        assert_eq!(kind, RecordErrorKind::Malformed(what));
        let steps = read(chunk, false);
        let [Step::Segment(offsets, _), Step::Error(offset, next)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(offsets.len(), 10 + good, "{what}");
        assert_eq!((*offset, *next), (offsets.last().unwrap() + 1, batch.base + i64::from(batch.last_delta()) + 1), "{what}");
        // From a later offset the broker would send the batch behind it, and nobody would hear of this one.
        assert!(offset < next, "{what}");
    }
}

// Chunks.

#[test]
fn uncompressed_batches_are_one_segment_over_the_frame() {
    let data = join(&[TestBatch::dense(10, 3), TestBatch::dense(13, 2), TestBatch::dense(20, 1)]);
    let mut reader = ChunkReader::new(chunk(data.clone(), 10, &[]), true, true);
    let segment = reader.next_segment(&mut Codecs::new(0)).unwrap().unwrap();
    assert_eq!(segment.data.as_ptr(), data.as_ptr());
    assert_eq!((segment.count, segment.skip, segment.heads.len()), (6, 0, 3));
    assert_eq!(segment.next, Position { offset: Offset(21), leader_epoch: Some(LeaderEpoch(3)) });
    assert_eq!(
        walk(&segment).0.iter().map(|record| (record.offset.0, record.idx)).collect::<Vec<_>>(),
        [(10, 0), (11, 1), (12, 2), (13, 3), (14, 4), (20, 5)]
    );
}

#[test]
fn trap_13_records_before_the_asked_offset_are_skipped() {
    let batches = [TestBatch::sparse(10, &[0, 2, 4, 6], Some(9)), TestBatch::dense(20, 2)];
    for (from, skip, offsets) in [
        (10, 0, vec![10, 12, 14, 16, 20, 21]),
        (11, 1, vec![12, 14, 16, 20, 21]),
        (12, 1, vec![12, 14, 16, 20, 21]),
        (16, 3, vec![16, 20, 21]),
        (17, 4, vec![20, 21]),
        (21, 1, vec![21]),
    ] {
        for compressed in [false, true] {
            let batches = batches.clone().map(|batch| if compressed { batch.compressed(1, compressors::gzip) } else { batch });
            let mut reader = ChunkReader::new(chunk(join(&batches), from, &[]), false, true);
            let mut codecs = Codecs::new(1 << 20);
            let segments: Vec<_> = std::iter::from_fn(|| reader.next_segment(&mut codecs)).map(Result::unwrap).collect();
            assert_eq!(segments[0].skip, skip, "from {from}");
            assert!(segments[1..].iter().all(|segment| segment.skip == 0));
            let found: Vec<_> = segments.iter().flat_map(|segment| walk(segment).0).map(|record| record.offset.0).collect();
            assert_eq!(found, offsets, "from {from}");
        }
    }
}

#[test]
fn each_compressed_batch_is_a_segment_and_every_codec_is_read() {
    let info = || FrameInfo::new().block_size(BlockSize::Max64KB);
    let batches = [
        TestBatch::dense(0, 5),
        TestBatch::dense(5, 5).compressed(1, compressors::gzip),
        TestBatch::dense(10, 5).compressed(2, compressors::snappy_raw),
        TestBatch::dense(15, 5).compressed(2, |bytes| compressors::snappy_xerial(bytes, 10)),
        TestBatch::dense(20, 5).compressed(3, |bytes| compressors::lz4(bytes, info())),
        TestBatch::dense(25, 5).compressed(3, |bytes| compressors::lz4(bytes, info().block_mode(BlockMode::Linked))),
        TestBatch::dense(30, 5).compressed(4, compressors::zstd),
        TestBatch::dense(35, 5),
        TestBatch::dense(40, 5),
    ];
    let segment = |first: i64, count: i64| Step::Segment((first..first + count).collect(), first + count);
    let expected = [
        segment(0, 5),
        segment(5, 5),
        segment(10, 5),
        segment(15, 5),
        segment(20, 5),
        segment(25, 5),
        segment(30, 5),
        segment(35, 10),
    ];
    assert_eq!(read(chunk(join(&batches), 0, &[]), true), expected);
}

#[test]
fn an_unknown_codec_is_an_error() {
    for codec in [5, 6, 7] {
        let batch = TestBatch { attributes: codec, ..TestBatch::dense(0, 1) };
        assert_eq!(
            first_error(chunk(join(&[batch]), 0, &[])),
            RecordErrorKind::Malformed("batch with an unknown compression codec")
        );
    }
}

#[test]
fn a_batch_over_the_limit_names_the_limit() {
    let batch =
        TestBatch { records: vec![TestRecord::new(0, vec![0; 1 << 20])], ..TestBatch::new(3) }.compressed(1, compressors::gzip);
    assert_eq!(first_error(chunk(join(&[batch]), 3, &[])), RecordErrorKind::TooLarge { limit: 1 << 20 });
}

#[test]
fn a_flipped_bit_gives_what_was_before_it_then_an_error_then_what_is_after() {
    let plain = [TestBatch::dense(0, 2), TestBatch::dense(2, 2), TestBatch::dense(4, 2)];
    let compressed = plain.clone().map(|batch| batch.compressed(4, compressors::zstd));
    for batches in [plain, compressed] {
        let mut data = join(&batches).to_vec();
        let at = batches[0].encode().len();
        for bad in at + 21..at + batches[1].encode().len() {
            data[bad] ^= 0x10;
            // Flips in the header's own fields are the index's to find.
            let indexed = index(&data.clone().into(), Offset(0));
            if indexed.error.is_none() && indexed.heads[1].next_offset() == Offset(4) {
                let steps = read(chunk(data.clone().into(), 0, &[]), true);
                assert_eq!(steps, [Step::Segment(vec![0, 1], 2), Step::Error(2, 4), Step::Segment(vec![4, 5], 6)], "byte {bad}");
            }
            data[bad] ^= 0x10;
        }
    }
}

#[test]
fn a_checksum_error_says_what_was_expected_and_found() {
    let mut data = TestBatch::dense(0, 2).encode();
    let expected = u32::from_be_bytes(data[17..21].try_into().unwrap());
    data[65] ^= 1;
    let found = crc32c::crc32c(&data[21..]);
    assert_eq!(first_error(chunk(data.clone().into(), 0, &[])), RecordErrorKind::Crc { expected, found });
    let mut unverified = ChunkReader::new(chunk(data.into(), 0, &[]), true, false);
    assert!(unverified.next_segment(&mut Codecs::new(0)).unwrap().is_ok());
}

// Markers and transactions.

#[test]
fn control_batches_are_stepped_over_whatever_the_isolation() {
    let batches = [
        TestBatch::marker(0, 7, COMMIT),
        TestBatch::dense(1, 2).transactional(7),
        TestBatch::marker(3, 7, COMMIT),
        TestBatch::dense(4, 1),
        TestBatch { leader_epoch: 8, ..TestBatch::marker(5, 7, ABORT) },
    ];
    for read_committed in [false, true] {
        assert_eq!(read(chunk(join(&batches), 0, &[]), read_committed), [Step::Segment(vec![1, 2, 4], 6)]);
    }
    let mut reader = ChunkReader::new(chunk(join(&batches), 0, &[]), true, true);
    let segment = reader.next_segment(&mut Codecs::new(0)).unwrap().unwrap();
    assert_eq!(segment.next.leader_epoch, Some(LeaderEpoch(8)), "the epoch of the batch before the next offset, marker or not");
}

#[test]
fn markers_after_a_compressed_batch_count_for_its_segment() {
    let batches = [
        TestBatch::marker(0, 7, COMMIT),
        TestBatch::dense(1, 2).compressed(4, compressors::zstd),
        TestBatch::marker(3, 7, COMMIT),
        TestBatch::dense(4, 1).compressed(4, compressors::zstd),
        TestBatch::marker(5, 7, COMMIT),
    ];
    assert_eq!(read(chunk(join(&batches), 0, &[]), true), [Step::Segment(vec![1, 2], 4), Step::Segment(vec![4], 6)]);
}

#[test]
fn only_markers_give_a_segment_without_records() {
    let batches = [TestBatch::marker(4, 7, COMMIT), TestBatch::marker(5, 8, ABORT)];
    assert_eq!(read(chunk(join(&batches), 4, &[]), true), [Step::Segment(vec![], 6)]);
}

#[test]
fn trap_13_aborted_records_are_left_out_when_only_committed_ones_are_read() {
    let batches = [
        TestBatch::dense(0, 2).transactional(7),
        TestBatch::dense(2, 2).transactional(8),
        TestBatch::marker(4, 7, ABORT),
        TestBatch::dense(5, 2).transactional(7),
        TestBatch::marker(7, 8, COMMIT),
        TestBatch::marker(8, 7, COMMIT),
    ];
    let aborted = [(7, 0)];
    assert_eq!(read(chunk(join(&batches), 0, &aborted), true), [Step::Segment(vec![2, 3, 5, 6], 9)]);
    assert_eq!(read(chunk(join(&batches), 0, &aborted), false), [Step::Segment(vec![0, 1, 2, 3, 5, 6], 9)]);
}

#[test]
fn only_aborted_data_still_moves_on() {
    let batches = [TestBatch::dense(0, 2).transactional(7), TestBatch::marker(2, 7, ABORT)];
    assert_eq!(read(chunk(join(&batches), 0, &[(7, 0)]), true), [Step::Segment(vec![], 3)]);
}

#[test]
fn the_aborted_list_may_come_in_any_order() {
    let batches = [
        TestBatch::dense(0, 1).transactional(7),
        TestBatch::marker(1, 7, ABORT),
        TestBatch::dense(2, 1).transactional(7),
        TestBatch::marker(3, 7, COMMIT),
        TestBatch::dense(4, 1).transactional(8),
        TestBatch::marker(5, 8, ABORT),
        TestBatch::dense(6, 1).transactional(7),
        TestBatch::marker(7, 7, ABORT),
    ];
    for aborted in [[(7, 0), (8, 4), (7, 6)], [(7, 6), (8, 4), (7, 0)], [(8, 4), (7, 6), (7, 0)]] {
        assert_eq!(read(chunk(join(&batches), 0, &aborted), true), [Step::Segment(vec![2], 8)], "{aborted:?}");
    }
}

#[test]
fn of_the_aborted_transactions_one_for_each_batch_is_kept_at_most() {
    let batches =
        [TestBatch::dense(10, 2).transactional(7), TestBatch::marker(12, 7, ABORT), TestBatch::dense(13, 1).transactional(8)];
    let Chunk { heads, .. } = chunk(join(&batches), 10, &[]);
    let kept = |aborted: &[(i64, i64)]| {
        let Chunk { aborted, .. } = chunk(Bytes::new(), 10, aborted);
        aborted_within(&heads, aborted).iter().map(|kept| (kept.producer_id, kept.first_offset.0)).collect::<Vec<_>>()
    };
    // A million of them, of producers with and without batches here, before, within and after.
    let many: Vec<_> = (0..1_000_000).map(|n| (n % 10, n / 10 % 20)).collect();
    assert_eq!(kept(&many).len(), 3);
    assert_eq!(kept(&[(7, 3), (9, 10), (7, 14), (8, 13), (8, 14)]), [(7, 3), (8, 13)]);
    assert_eq!(kept(&[(7, 11), (7, 12), (7, 13)]), [(7, 11), (7, 12)]);
}

proptest! {
    /// What is left out makes no difference.
    #[test]
    fn records_are_aborted_alike_by_all_transactions_and_by_those_that_are_kept(
        kinds in prop::collection::vec((0..4u8, 0..3i64, 1..3i32), 1..12),
        aborted in prop::collection::vec((0..4i64, 0..30i64), 0..12),
    ) {
        let mut base = 0;
        let batches: Vec<_> = kinds
            .into_iter()
            .map(|(kind, producer, count)| {
                let at = base;
                base += if kind < 2 { 1 } else { i64::from(count) };
                match kind {
                    0 => TestBatch::marker(at, producer, ABORT),
                    1 => TestBatch::marker(at, producer, COMMIT),
                    2 => TestBatch::dense(at, count),
                    _ => TestBatch::dense(at, count).transactional(producer),
                }
            })
            .collect();
        let all = chunk(join(&batches), 0, &aborted);
        let kept = Chunk { aborted: aborted_within(&all.heads, all.aborted.clone()), ..all.clone() };
        prop_assert_eq!(read(kept, true), read(all, true));
    }
}

#[test]
fn another_producers_marker_or_a_commit_does_not_end_an_aborted_transaction() {
    let batches = [
        TestBatch::dense(0, 1).transactional(7),
        TestBatch::dense(1, 1).transactional(8),
        TestBatch::marker(2, 8, COMMIT),
        TestBatch::dense(3, 1).transactional(7),
        TestBatch::dense(4, 1).transactional(9),
        TestBatch::marker(5, 9, ABORT),
        TestBatch::dense(6, 1).transactional(7),
        TestBatch::marker(7, 7, ABORT),
        TestBatch::dense(8, 1).transactional(7),
    ];
    assert_eq!(read(chunk(join(&batches), 0, &[(9, 4), (7, 0)]), true), [Step::Segment(vec![1, 8], 9)]);
    // A commit marker of the very producer, of a transaction before: it does not end the abort either.
    let batches = [TestBatch::marker(2, 7, COMMIT), TestBatch::dense(3, 1).transactional(7)];
    assert_eq!(read(chunk(join(&batches), 2, &[(7, 1)]), true), [Step::Segment(vec![], 4)]);
}

#[test]
fn a_transaction_that_began_before_the_asked_offset_is_filtered() {
    let batches = [TestBatch::dense(10, 4).transactional(7), TestBatch::marker(14, 7, ABORT), TestBatch::dense(15, 1)];
    assert_eq!(read(chunk(join(&batches), 12, &[(7, 3)]), true), [Step::Segment(vec![15], 16)]);
}

#[test]
fn records_outside_a_transaction_are_never_aborted() {
    let batches = [TestBatch { producer_id: 7, ..TestBatch::dense(0, 2) }];
    assert_eq!(read(chunk(join(&batches), 0, &[(7, 0)]), true), [Step::Segment(vec![0, 1], 2)]);
}

#[test]
fn a_marker_that_cannot_be_read_is_an_error_where_it_matters() {
    let bad = TestBatch { records: vec![TestRecord::new(0, "no key")], ..TestBatch::marker(2, 7, ABORT) };
    let batches = [TestBatch::dense(0, 2), bad, TestBatch::dense(3, 1)];
    assert_eq!(
        read(chunk(join(&batches), 0, &[]), true),
        [Step::Segment(vec![0, 1], 2), Step::Error(2, 3), Step::Segment(vec![3], 4)]
    );
    assert_eq!(read(chunk(join(&batches), 0, &[]), false), [Step::Segment(vec![0, 1, 3], 4)]);
}

// Positions.

#[test]
fn a_position_takes_offset_and_epoch_from_the_same_batch() {
    let batches = [
        TestBatch { leader_epoch: 5, ..TestBatch::dense(10, 2) },
        TestBatch { leader_epoch: 6, ..TestBatch::marker(12, 7, COMMIT) },
        TestBatch { leader_epoch: 6, ..TestBatch::dense(13, 1) },
        TestBatch { leader_epoch: 7, ..TestBatch::sparse(20, &[1, 3], Some(9)) },
        TestBatch { leader_epoch: -1, ..TestBatch::dense(30, 2) },
    ];
    let mut reader = ChunkReader::new(chunk(join(&batches), 10, &[]), true, true);
    let segment = reader.next_segment(&mut Codecs::new(0)).unwrap().unwrap();
    let position = |offset, epoch: Option<i32>| Some(Position { offset: Offset(offset), leader_epoch: epoch.map(LeaderEpoch) });
    assert_eq!(
        (0..7).map(|idx| segment.position_before(idx)).collect::<Vec<_>>(),
        [
            None,
            position(11, Some(5)),
            // Not 13 with epoch 5: the marker at 12 is of epoch 6.
            position(12, Some(5)),
            // The gap at 20 belongs to the batch of epoch 7.
            position(21, Some(7)),
            position(23, Some(7)),
            // No gap: the offset is the end of the batch before, so the epoch is that one's too.
            position(30, Some(7)),
            position(31, None),
        ]
    );
}

#[test]
fn error_messages_say_where_and_what() {
    let error = RecordError { offset: Offset(7), next_offset: Offset(9), kind: RecordErrorKind::Crc { expected: 1, found: 2 } };
    assert_eq!(error.to_string(), "wrong checksum (expected 0x00000001, found 0x00000002) at offset 7");
    let kind = RecordErrorKind::Decompress { codec: Codec::Zstd, what: "bad magic".into() };
    assert_eq!(kind.to_string(), "zstd data that cannot be decompressed (bad magic)");
}
