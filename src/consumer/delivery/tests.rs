use super::{super::run::RunCursor, *};
use crate::{
    consumer::acks::tests::{Fixture, take_all},
    model::Offset,
    records::{
        RecordErrorKind,
        encode::{TestBatch, TestRecord},
    },
};

fn full_record() -> TestRecord {
    TestRecord {
        timestamp_delta: 7,
        key: Some(b"key".to_vec()),
        headers: vec![(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), None), (vec![0xff], Some(vec![]))],
        ..TestRecord::new(2, "value")
    }
}

fn offsets<'a>(records: impl IntoIterator<Item = BatchRecord<'a>>) -> Vec<i64> {
    records.into_iter().map(|record| record.offset()).collect()
}

fn whole_batch(cursor: &RunCursor) -> Batch {
    cursor.run().whole_batch().unwrap()
}

#[test]
fn what_the_user_holds_may_go_anywhere() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Delivery>();
    check::<Record>();
    check::<Batch>();
    check::<OwnedRecord>();
}

#[test]
fn every_form_says_the_same_of_a_record() {
    let fixture = Fixture::new(40);
    let batch = TestBatch { records: vec![full_record()], leader_epoch: 5, ..TestBatch::new(40) };
    macro_rules! check {
        ($record:expr) => {{
            let record = &$record;
            assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 4, 42));
            assert_eq!(record.topic_partition(), &TopicPartition::new("orders", 4));
            assert_eq!((record.timestamp(), record.leader_epoch()), (1007, Some(5)));
            assert_eq!((record.key(), record.value()), (Some(&b"key"[..]), Some(&b"value"[..])));
            let headers: Vec<_> = record.headers().map(|header| (header.key(), header.value())).collect();
            assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (b"h", None), (&[0xff], Some(b""))]);
            let owned = record.to_owned_record();
            assert_eq!((&*owned.topic, owned.partition, owned.offset), ("orders", 4, 42));
            assert_eq!((owned.timestamp, owned.leader_epoch), (1007, Some(5)));
            assert_eq!((owned.key.as_deref(), owned.value.as_deref()), (record.key(), record.value()));
            let owned: Vec<_> = owned.headers.iter().map(|header| (&*header.key, header.value.as_deref())).collect();
            assert_eq!(owned, headers);
        }};
    }
    let delivery = fixture.open_one(batch.clone()).next().unwrap();
    check!(delivery);
    delivery.ack();
    check!(fixture.open_one(batch.clone()).next_record_below(Offset(43)).unwrap());
    let batch = whole_batch(&fixture.open_one(batch));
    check!(batch.iter().next().unwrap());
    batch.ack();
}

#[test]
fn an_owned_record_is_apart_from_its_answer() {
    let fixture = Fixture::new(0);
    let delivery = fixture.open_one(TestBatch { records: vec![TestRecord::default(), full_record()], ..TestBatch::new(0) });
    let deliveries = take_all(&mut { delivery });
    let owned: Vec<_> = deliveries.iter().map(Delivery::to_owned_record).collect();
    deliveries.into_iter().for_each(Delivery::ack);
    assert_eq!(fixture.assigned.live_runs(), 0);
    assert_eq!((owned[0].key.clone(), owned[0].value.clone(), owned[0].headers.len()), (None, None, 0));
    assert_eq!(owned[1].value.as_deref(), Some(&b"value"[..]));
    assert_eq!(owned[1].headers.iter().map(OwnedHeader::key_str).collect::<Vec<_>>(), [Some("h"), Some("h"), None]);
}

#[test]
fn debug_shows_where_and_never_what() {
    let fixture = Fixture::new(0);
    let batch = || TestBatch { records: vec![full_record()], ..TestBatch::new(0) };
    let delivery = fixture.open_one(batch()).next().unwrap();
    assert_eq!(format!("{delivery:?}"), r#"Delivery { topic: "orders", partition: 4, offset: 2, .. }"#);
    assert_eq!(format!("{:?}", delivery.to_owned_record()), r#"OwnedRecord { topic: "orders", partition: 4, offset: 2, .. }"#);
    assert_eq!(format!("{:?}", delivery.headers().next().unwrap()), r#"Header { key: "h", value_len: Some(1) }"#);
    delivery.ack();
    let batch = whole_batch(&fixture.open_one(batch()));
    assert_eq!(format!("{batch:?}"), r#"Batch { topic: "orders", partition: 4, first_offset: 2, len: 1, .. }"#);
    assert_eq!(format!("{:?}", batch.iter().next().unwrap()), r#"BatchRecord { topic: "orders", partition: 4, offset: 2, .. }"#);
    batch.ack();
}

#[test]
fn a_delivery_that_is_dropped_comes_again_with_its_attempt_counted() {
    let fixture = Fixture::new(0);
    let mut cursor = fixture.open_one(TestBatch::dense(0, 3));
    let mut deliveries = take_all(&mut cursor);
    assert!(deliveries.iter().all(|delivery| delivery.attempt() == 1));
    let mut delivery = deliveries.remove(1);
    for attempt in 2..5 {
        drop(delivery);
        let mut notices = fixture.take_notices();
        let Some(Notice::Dropped { run, redelivery, attempt: told, after: None }) = notices.pop() else { panic!("{notices:?}") };
        assert!(notices.is_empty());
        delivery = run.redeliver(redelivery);
        assert_eq!((delivery.offset(), delivery.attempt(), told), (1, attempt, attempt));
        assert_eq!(delivery.value(), Some(&b"v1"[..]));
    }
    assert!(deliveries.iter().all(|delivery| delivery.attempt() == 1), "only that one was tried again");
    delivery.ack();
    deliveries.into_iter().for_each(Delivery::ack);
    assert!(fixture.take_notices().is_empty());
}

#[test]
fn retry_after_is_told_once_with_its_delay() {
    let fixture = Fixture::new(0);
    let delay = Duration::from_secs(3);
    let delivery = fixture.open_one(TestBatch::dense(0, 1)).next().unwrap();
    delivery.retry_after(delay);
    let notices = fixture.take_notices();
    assert!(
        matches!(notices.as_slice(), [Notice::Dropped { attempt: 2, after: Some(after), .. }] if *after == delay),
        "{notices:?}"
    );

    let batch = whole_batch(&fixture.open_one(TestBatch::dense(1, 2)));
    batch.retry_after(delay);
    let notices = fixture.take_notices();
    assert!(
        matches!(notices.as_slice(), [Notice::DroppedBatch { attempt: 2, after: Some(after), .. }] if *after == delay),
        "{notices:?}"
    );
}

#[test]
fn a_panic_gives_the_record_back() {
    let fixture = Fixture::new(0);
    let delivery = fixture.open_one(TestBatch::dense(0, 1)).next().unwrap();
    std::thread::spawn(move || {
        let _delivery = delivery;
        std::panic::resume_unwind(Box::new("as a worker would"));
    })
    .join()
    .unwrap_err();
    assert!(matches!(fixture.take_notices().as_slice(), [Notice::Dropped { attempt: 2, after: None, .. }]));
}

#[test]
fn a_batch_is_acked_or_comes_again_whole() {
    let fixture = Fixture::new(0);
    let batch = whole_batch(&fixture.open_one(TestBatch::sparse(0, &[0, 3, 5], Some(8))));
    assert_eq!((batch.len(), batch.is_empty(), batch.first_offset(), batch.next_offset(), batch.attempt()), (3, false, 0, 9, 1));
    assert_eq!(offsets(&batch), [0, 3, 5]);
    assert_eq!(batch.iter().size_hint(), (0, Some(3)));
    drop(batch);
    assert_eq!(fixture.watermark(), 0);
    let Some(Notice::DroppedBatch { run, attempt: 2, after: None }) = fixture.take_notices().pop() else { panic!() };
    let again = run.redeliver_batch();
    drop(run);
    assert_eq!((offsets(&again), again.attempt()), (vec![0, 3, 5], 2));
    again.ack();
    assert_eq!((fixture.watermark(), fixture.assigned.live_runs()), (9, 0));
    assert!(fixture.take_notices().is_empty());
}

#[test]
fn a_batch_is_iterated_alike_step_by_step_and_at_once() {
    let fixture = Fixture::new(0);
    let batch = whole_batch(&fixture.open_one(TestBatch::dense(0, 100)));
    for steps in [0, 1, 15, 16, 17, 99, 100] {
        let mut iter = batch.iter();
        let mut seen: Vec<_> = iter.by_ref().take(steps).map(|record| record.offset()).collect();
        assert_eq!(iter.size_hint(), (0, Some(100 - steps)));
        iter.fold((), |(), record| seen.push(record.offset()));
        assert_eq!(seen, (0..100).collect::<Vec<_>>(), "{steps} steps first");
    }
    batch.ack();
}

/// Three good records, and a fourth that claims the offset of the third.
fn malformed(base: i64) -> TestBatch {
    TestBatch::sparse(base, &[0, 1, 2, 2], Some(3))
}

#[test]
fn a_malformed_record_comes_as_an_error_after_the_good_ones() {
    let fixture = Fixture::new(0);
    let mut cursor = fixture.open_one(malformed(0));
    for _ in 0..3 {
        cursor.next().unwrap().ack();
    }
    assert!(cursor.next().is_none());
    let error = cursor.take_error().unwrap();
    assert_eq!((error.offset, error.next_offset), (Offset(3), Offset(4)));
    assert!(matches!(error.kind, RecordErrorKind::Malformed(_)));
    assert!(cursor.next().is_none() && cursor.is_finished());
    assert_eq!(fixture.watermark(), 3, "what cannot be read is never committed");
    drop(cursor);
    assert_eq!(fixture.watermark(), 3);
}

/// Whoever finds out that a batch has a record which cannot be read, it is told once, and not acked.
#[test]
fn a_batch_ends_before_a_malformed_record_and_its_ack_does_too() {
    fn check(what: &str, with: impl FnOnce(&Batch)) {
        let fixture = Fixture::new(0);
        let batch = whole_batch(&fixture.open_one(malformed(0)));
        with(&batch);
        batch.ack();
        assert_eq!((fixture.watermark(), fixture.assigned.live_runs()), (3, 0), "{what}");
        assert_eq!(fixture.assigned.take_unreadable().map(|error| error.offset), Some(Offset(3)), "{what}");
        assert_eq!(fixture.assigned.take_unreadable(), None, "{what}");
    }
    check("nobody looks", |_| {});
    check("its records are gone through", |batch| assert_eq!(offsets(batch), [0, 1, 2]));
    check("some are gone through", |batch| assert_eq!(batch.iter().take(2).count(), 2));
    check("it is asked for its end", |batch| assert_eq!((batch.next_offset(), batch.len()), (3, 3)));

    let fixture = Fixture::new(0);
    let batch = whole_batch(&fixture.open_one(malformed(0)));
    drop(batch);
    assert!(fixture.assigned.take_unreadable().is_some(), "nor is it dropped unseen");
    // The first record must be there.
    let error = fixture.open_one(TestBatch::sparse(0, &[4], Some(3))).run().whole_batch().unwrap_err();
    assert_eq!(error.offset, Offset(0));
}

#[test]
fn at_most_once_stops_at_the_limit_and_loses_nothing() {
    let fixture = Fixture::new(0);
    let mut cursor = fixture.open_one(TestBatch::sparse(0, &[0, 2, 4], Some(9)));
    let mut below = |limit: i64| {
        let offset = cursor.next_record_below(Offset(limit)).map(|record| record.offset());
        (offset, cursor.is_finished())
    };
    assert_eq!(below(0), (None, false));
    assert_eq!(below(1), (Some(0), false));
    assert_eq!(below(1), (None, false));
    assert_eq!(below(2), (None, false));
    assert_eq!(below(3), (Some(2), false));
    assert_eq!(fixture.watermark(), 4, "what was handed out is finished");
    let mut below = |limit: i64| {
        let offset = cursor.next_record_below(Offset(limit)).map(|record| record.offset());
        (offset, cursor.is_finished())
    };
    assert_eq!(below(10), (Some(4), true));
    assert_eq!(below(10), (None, true));
    drop(cursor);
    assert_eq!(fixture.watermark(), 10);
    assert!(fixture.take_notices().is_empty(), "a record that is dropped is no news");
}

#[test]
fn at_most_once_reports_a_malformed_record_too() {
    let fixture = Fixture::new(0);
    let mut cursor: RunCursor = fixture.open_one(malformed(0));
    for offset in 0..3 {
        assert_eq!(cursor.take_error(), None, "not before the good ones are out");
        assert_eq!(cursor.next_record_below(Offset(10)).unwrap().offset(), offset);
    }
    assert!(cursor.next_record_below(Offset(10)).is_none());
    assert_eq!(cursor.take_error().unwrap().offset, Offset(3));
    assert!(cursor.next_record_below(Offset(10)).is_none() && cursor.is_finished());
}
