//! What records can be like, as other clients write them.

use std::{collections::BTreeMap, time::Duration};

use kafka_harness::{Outcome, Produce, value};
use ottla::{AtLeastOnce, Delivery, Isolation};

use crate::{
    member::builder,
    support::{DEADLINE, Kafka, eventually_async},
};

async fn read(records: &mut AtLeastOnce, count: usize) -> Vec<Delivery> {
    let mut read = Vec::new();
    while read.len() < count {
        read.push(tokio::time::timeout(DEADLINE, records.next()).await.expect("a record in time").unwrap().unwrap());
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_of_the_java_producer_is_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("codecs", 1), kafka.group("codecs"));
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (at, codec) in codecs.into_iter().enumerate() {
        for size in [10, 1000] {
            let first = at as u64 * 1000 + size;
            let records =
                Produce { topic: &topic, codec, count: 200, first, size: size as usize, key: Some("key-"), ..Produce::default() };
            kafka.admin.produce(&records).unwrap();
        }
    }
    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let mut read = read(&mut records, codecs.len() * 400).await.into_iter();
    for at in 0..codecs.len() as u64 {
        for size in [10u64, 1000] {
            for n in at * 1000 + size..at * 1000 + size + 200 {
                let delivery = read.next().unwrap();
                let expected = value(&topic, 0, n, size as usize);
                assert_eq!(delivery.value(), Some(expected.as_bytes()), "{}", codecs[at as usize]);
                assert_eq!(delivery.key(), Some(format!("key-{n}").as_bytes()));
                delivery.ack();
            }
        }
    }
    records.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_nulls_and_timestamps_are_as_they_were_written() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("shapes", 1), kafka.group("shapes"));
    let headers = [("same", "1"), ("other", ""), ("same", "2")];
    let told = Produce {
        topic: &topic,
        count: 1,
        key: Some("k"),
        headers: &headers,
        timestamp_ms: Some(1_600_000_000_123),
        ..Produce::default()
    };
    kafka.admin.produce(&told).unwrap();
    kafka.admin.produce(&Produce { topic: &topic, count: 1, first: 1, null_values: true, ..Produce::default() }).unwrap();
    kafka.admin.alter_config("topic", &topic, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
    let before_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    eventually_async("the broker has the new setting", DEADLINE, || {
        let first = kafka.end_offset(&topic, 0) as u64;
        kafka.admin.produce(&Produce { topic: &topic, count: 1, first, timestamp_ms: Some(5), ..Produce::default() }).unwrap();
        first > 8
    })
    .await;
    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let read = read(&mut records, 8).await;
    let found: Vec<_> = read[0].headers().map(|header| (header.key().to_vec(), header.value().map(<[u8]>::to_vec))).collect();
    let expected: Vec<_> =
        headers.iter().map(|(key, value)| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))).collect();
    assert_eq!(found, expected, "in order, duplicates kept");
    assert_eq!((read[0].timestamp(), read[0].leader_epoch()), (1_600_000_000_123, Some(0)));
    assert_eq!((read[1].key(), read[1].value(), read[1].headers().count()), (None, None, 0));
    assert!(read.last().unwrap().timestamp() >= before_ms - 60_000, "the broker's time: {}", read.last().unwrap().timestamp());
    let owned = read[0].to_owned_record();
    read.into_iter().for_each(Delivery::ack);
    records.close(DEADLINE).await.unwrap();
    assert_eq!((&*owned.topic, owned.offset, owned.key.as_deref()), (topic.as_str(), 0, Some(&b"k0"[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_never_seen_and_the_lag_reaches_zero() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("transactions", 1), kafka.group("transactions"));
    let records = |count| Produce { topic: &topic, count, ..Produce::default() };
    let produce = |id: &str, count, outcome, join| {
        kafka.admin.produce_in_transaction(&format!("{topic}-{id}"), &records(count), outcome, join).unwrap()
    };
    produce("a", 10, Outcome::Open, false); // 0 to 9
    produce("b", 10, Outcome::Abort, false); // 10 to 19, marker 20
    produce("a", 5, Outcome::Commit, true); // 21 to 25, marker 26
    kafka.admin.produce(&records(5)).unwrap(); // 27 to 31
    produce("b", 10, Outcome::Commit, false); // 32 to 41, marker 42
    produce("a", 10, Outcome::Abort, false); // 43 to 52, marker 53
    let expected: Vec<i64> = (0..10).chain(21..26).chain(27..42).collect();

    let mut committed = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let read_committed = read(&mut committed, expected.len()).await;
    assert_eq!(read_committed.iter().map(Delivery::offset).collect::<Vec<_>>(), expected);
    read_committed.into_iter().for_each(Delivery::ack);
    assert!(tokio::time::timeout(Duration::from_millis(700), committed.next()).await.is_err());
    // The log ends with an aborted transaction and its marker: the commit steps over what holds no records.
    eventually_async("no lag is left", DEADLINE, || {
        kafka.admin.committed(&group).unwrap().into_values().all(|lag| (lag.offset, lag.lag) == (54, 0))
    })
    .await;
    committed.close(DEADLINE).await.unwrap();

    let group = kafka.group("uncommitted");
    let builder = builder(kafka.bootstrap(), &group, &topic).isolation(Isolation::ReadUncommitted);
    let mut uncommitted = builder.connect().await.unwrap().at_least_once();
    let all = read(&mut uncommitted, 50).await;
    let markers = [20, 26, 42, 53];
    assert_eq!(
        all.iter().map(Delivery::offset).collect::<Vec<_>>(),
        (0..54).filter(|at| !markers.contains(at)).collect::<Vec<_>>()
    );
    all.into_iter().for_each(Delivery::ack);
    uncommitted.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_readers_back_until_it_ends() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("open", 1), kafka.group("open"));
    let records = Produce { topic: &topic, count: 5, ..Produce::default() };
    kafka.admin.produce(&records).unwrap();
    kafka.admin.produce_in_transaction(&topic, &records, Outcome::Open, false).unwrap();
    let mut stream = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    read(&mut stream, 5).await.into_iter().for_each(Delivery::ack);
    assert!(tokio::time::timeout(Duration::from_millis(700), stream.next()).await.is_err());
    kafka.admin.end_transaction(&topic, Outcome::Commit).unwrap();
    assert_eq!(read(&mut stream, 5).await.last().unwrap().offset(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_with_holes_is_read_to_its_end() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("compacted", 1), kafka.group("compacted"));
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.0"),
        ("max.compaction.lag.ms", "100"),
        ("delete.retention.ms", "100"),
    ];
    kafka.admin.alter_config("topic", &topic, &configs).unwrap();
    for round in 0..5u64 {
        // The same fifty keys again and again; only the last of each stays.
        kafka
            .admin
            .produce(&Produce {
                topic: &topic,
                count: 50,
                first: 0,
                key: Some("k"),
                size: 10 + round as usize,
                ..Produce::default()
            })
            .unwrap();
    }
    let end = kafka.end_offset(&topic, 0);
    let mut gone = BTreeMap::new();
    eventually_async("the log is compacted", DEADLINE, || {
        // One more record rolls the segment.
        kafka.admin.produce(&Produce { topic: &topic, count: 1, first: 1, key: Some("roll"), ..Produce::default() }).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let member = kafka
            .admin
            .join(&format!("{topic}-{}", gone.len()), &format!("{group}-{}", gone.len()), &[&topic], "range", &[])
            .unwrap();
        let last = kafka.end_offset(&topic, 0) - 1;
        let done = || member.status().unwrap().seen.values().any(|seen| seen.0.last().is_some_and(|run| *run.end() == last));
        kafka_harness::eventually(DEADLINE, done);
        let status = member.stop().unwrap();
        gone.insert(gone.len(), status.records());
        (status.records() as i64) < end - 100
    })
    .await;
    let java = kafka.admin.join(&format!("{topic}-java"), &format!("{group}-java"), &[&topic], "range", &[]).unwrap();
    let mut stream = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let last = kafka.end_offset(&topic, 0);
    let mut offsets = Vec::new();
    while offsets.last() != Some(&(last - 1)) {
        let delivery = read(&mut stream, 1).await.pop().unwrap();
        offsets.push(delivery.offset());
        delivery.ack();
    }
    assert!((offsets.len() as i64) < last - 100, "there are holes");
    eventually_async("no lag is left", DEADLINE, || {
        kafka.admin.committed(&group).unwrap().into_values().all(|lag| (lag.offset, lag.lag) == (last, 0))
    })
    .await;
    eventually_async("Java has seen the same", DEADLINE, || {
        java.status().unwrap().seen.into_values().flat_map(|seen| seen.0).flatten().eq(offsets.iter().copied())
    })
    .await;
    java.stop().unwrap();
    stream.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_five_megabytes_comes_whole() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("large", 1), kafka.group("large"));
    kafka.admin.alter_config("topic", &topic, &[("max.message.bytes", "10000000")]).unwrap();
    let size = 5_000_000;
    let configs = [("max.request.size", "10000000"), ("buffer.memory", "40000000")];
    let produce = |codec, first| Produce { topic: &topic, count: 2, first, size, codec, configs: &configs, ..Produce::default() };
    eventually_async("the broker takes records that large", DEADLINE, || kafka.admin.produce(&produce("none", 0)).is_ok()).await;
    kafka.admin.produce(&produce("zstd", 2)).unwrap();
    // More than the request asks for, and more than the whole budget.
    let settings = builder(kafka.bootstrap(), &group, &topic).partition_fetch_bytes_max(1000).buffer_bytes_max(100_000);
    let mut stream = settings.connect().await.unwrap().at_least_once();
    for n in 0..4 {
        let delivery = read(&mut stream, 1).await.pop().unwrap();
        assert_eq!(delivery.value().map(<[u8]>::len), Some(size), "{n}");
        assert!(delivery.value().unwrap().starts_with(value(&topic, 0, n, 0).as_bytes()));
        delivery.ack();
    }
    stream.close(DEADLINE).await.unwrap();
}
