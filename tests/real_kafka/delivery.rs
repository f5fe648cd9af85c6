//! What is committed, what is repeated, and what is never: also when the process is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla::{CommitError, ConsumeErrorKind, Consumer, OffsetReset, PartitionEnd, SeekTo};

use crate::{
    member::{Member, Place, Process, all_places, builder, counts, parse, role, setting, tell},
    support::{DEADLINE, Kafka, eventually_async},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_or_panics_is_delivered_again_and_nothing_else() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("redelivery", 2), kafka.group("redelivery"));
    kafka.produce(&topic, 2, 100);
    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let mut attempts: BTreeMap<Place, Vec<u32>> = BTreeMap::new();
    let mut acked = 0;
    while acked < 200 {
        let delivery = records.next().await.unwrap().unwrap();
        let place = (delivery.partition(), delivery.offset());
        attempts.entry(place).or_default().push(delivery.attempt());
        match (place.1, delivery.attempt()) {
            (7, 1 | 2) => drop(delivery),
            (9, 1) => {
                let worker = tokio::spawn(async move { panic!("the worker of {delivery:?}") });
                assert!(worker.await.is_err());
            }
            (11, 1) => delivery.retry_after(Duration::from_millis(10)),
            _ => {
                delivery.ack();
                acked += 1;
            }
        }
    }
    for (place, attempts) in attempts {
        let expected: &[u32] = match place.1 {
            7 => &[1, 2, 3],
            9 | 11 => &[1, 2],
            _ => &[1],
        };
        assert_eq!(attempts, expected, "{place:?}");
    }
    eventually_async("the commit has caught up", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([100, 100])).await;
    records.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_holds_the_commit_back_until_it_is_filled() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("hole", 1), kafka.group("hole"));
    kafka.produce(&topic, 1, 100);
    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let mut held = None;
    for _ in 0..100 {
        let delivery = records.next().await.unwrap().unwrap();
        if delivery.offset() == 40 { held = Some(delivery) } else { delivery.ack() }
    }
    eventually_async("what is below the hole is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([40]))
        .await;
    let lag = records.handle().lag();
    assert_eq!((lag[0].unacked, lag[0].oldest_unacked, lag[0].end), (1, Some(40), Some(100)));
    held.unwrap().ack();
    eventually_async("the rest is, too", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([100])).await;
    records.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_acknowledged_whole_and_come_again_when_dropped() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("batches", 2), kafka.group("batches"));
    kafka.produce(&topic, 2, 300);
    let mut batches = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().batches();
    let mut seen = BTreeSet::new();
    let mut dropped = BTreeSet::new();
    while seen.len() < 600 {
        let batch = batches.next_batch().await.unwrap().unwrap();
        let places: Vec<_> = batch.iter().map(|record| (batch.partition(), record.offset())).collect();
        if dropped.insert(places[0]) {
            assert_eq!(batch.attempt(), 1);
            continue;
        }
        assert_eq!(batch.attempt(), 2);
        seen.extend(places);
        batch.ack();
    }
    assert_eq!(seen, all_places(2, 300));
    batches.close(DEADLINE).await.unwrap();
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [300, 300]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_resumes_behind_the_last_acknowledged_record() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("resume", 1), kafka.group("resume"));
    kafka.produce(&topic, 1, 100);
    for round in 0..4 {
        let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
        for offset in round * 25..(round + 1) * 25 {
            let delivery = records.next().await.unwrap().unwrap();
            assert_eq!(delivery.offset(), offset);
            delivery.ack();
        }
        records.close(DEADLINE).await.unwrap();
        assert_eq!(kafka.committed(&group, &topic)[&0], (round + 1) * 25);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_commits_say_what_became_of_them() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("manual", 1), kafka.group("manual"));
    kafka.produce(&topic, 1, 100);
    let mut batches = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().manual();
    let mut read = 0;
    let mut last = None;
    while read < 100 {
        let batch = batches.next_batch().await.unwrap().unwrap();
        read += batch.len();
        batch.commit_to(batch.next_offset() - 1).await.unwrap();
        assert_eq!(kafka.committed(&group, &topic)[&0], batch.next_offset() - 1);
        batch.commit().await.unwrap();
        assert_eq!(kafka.committed(&group, &topic)[&0], batch.next_offset());
        last = Some(batch);
    }
    let handle = batches.handle();
    handle.shutdown(Duration::from_millis(100));
    assert!(batches.next_batch().await.is_none());
    let late = last.unwrap().commit().await.unwrap_err();
    assert!(matches!(late, CommitError::NotAssigned { .. }), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_has_its_stream_and_a_rebalance_waits_for_it() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("streams", 4), kafka.group("streams"));
    kafka.produce(&topic, 4, 50);
    let mut partitions = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().partitions();
    let handle = partitions.handle();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (all, ended) = (Arc::clone(&seen), Arc::clone(&ends));
    let task = tokio::spawn(async move {
        while let Some(partition) = partitions.next().await {
            let mut stream = partition.unwrap();
            let (all, ended) = (Arc::clone(&all), Arc::clone(&ended));
            tokio::spawn(async move {
                while let Some(delivery) = stream.next().await {
                    all.lock().unwrap().push((delivery.partition(), delivery.offset()));
                    delivery.ack();
                }
                ended.lock().unwrap().push(stream.end());
            });
        }
    });
    eventually_async("all is read", DEADLINE, || seen.lock().unwrap().len() == 200).await;
    let other = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("half of the partitions move", DEADLINE, || other.partitions().len() == 2).await;
    // By the new protocol only what moves is handed back.
    assert_eq!(*ends.lock().unwrap(), [PartitionEnd::Revoked; 2]);
    kafka.produce(&topic, 4, 10);
    eventually_async("both read on", DEADLINE, || seen.lock().unwrap().len() == 220 && other.seen().len() == 20).await;
    handle.shutdown(DEADLINE);
    task.await.unwrap();
    other.leave().await;
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [60; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_partitions_rest_and_seeks_go_where_they_say() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("steering", 2), kafka.group("steering"));
    kafka.produce(&topic, 2, 100);
    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let handle = records.handle();
    let first = records.next().await.unwrap().unwrap();
    let (busy, resting) = (first.topic_partition().clone(), first.partition() ^ 1);
    let resting = ottla::TopicPartition::new(topic.as_str(), resting);
    first.ack();
    handle.pause([&resting]);
    let mut count = 1;
    while count < 100 {
        let delivery = records.next().await.unwrap().unwrap();
        assert_eq!(delivery.partition(), busy.partition(), "the other is paused");
        delivery.ack();
        count += 1;
    }
    assert!(tokio::time::timeout(Duration::from_millis(300), records.next()).await.is_err(), "nothing of the paused one");
    handle.resume([&resting]);
    for offset in 0..100 {
        let delivery = records.next().await.unwrap().unwrap();
        assert_eq!((delivery.partition(), delivery.offset()), (resting.partition(), offset));
        delivery.ack();
    }
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([100, 100])).await;

    for (to, expected) in [(SeekTo::Offset(42), 42), (SeekTo::Beginning, 0), (SeekTo::TimestampMs(1), 0)] {
        handle.seek(&busy, to);
        let delivery = records.next().await.unwrap().unwrap();
        assert_eq!((delivery.partition(), delivery.offset()), (busy.partition(), expected), "{to:?}");
        delivery.ack();
        eventually_async("an explicit seek moves the commit, back too", DEADLINE, || {
            kafka.committed(&group, &topic)[&busy.partition()] == expected + 1
        })
        .await;
    }
    handle.seek(&busy, SeekTo::End);
    kafka.produce(&topic, 2, 1);
    let mut seen = BTreeSet::new();
    while !seen.contains(&(busy.partition(), 100)) {
        let delivery = records.next().await.unwrap().unwrap();
        seen.insert((delivery.partition(), delivery.offset()));
        delivery.ack();
    }
    records.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_unacked_records_are_said_and_not_a_silent_stall() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("unacked", 1), kafka.group("unacked"));
    let builder = builder(kafka.bootstrap(), &group, &topic).unacked_records_max(10);
    let mut records = builder.connect().await.unwrap().at_least_once();
    let mut held = Vec::new();
    let error = loop {
        // One record at a time, so that each comes as a batch of its own.
        kafka.produce(&topic, 1, 1);
        match records.next().await.unwrap() {
            Ok(delivery) => held.push(delivery),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), held.len()), (ConsumeErrorKind::TooManyUnacked, 10));
    assert!(error.to_string().contains("offset 0"), "{error}");
    assert!(tokio::time::timeout(Duration::from_millis(300), records.next()).await.is_err());
    held.drain(..).for_each(ottla::Delivery::ack);
    assert_eq!(records.next().await.unwrap().unwrap().offset(), 10, "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reset_policies_begin_where_they_say() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.topic("reset", 1);
    kafka.produce(&topic, 1, 20);
    kafka.admin.delete_records(&topic, 0, 5).unwrap();
    let first_with = async |policy: OffsetReset, produce: bool| {
        let group = kafka.group("reset");
        let consumer = builder(kafka.bootstrap(), &group, &topic).offset_reset(policy).connect().await.unwrap();
        let mut records = consumer.at_least_once();
        let handle = records.handle();
        if produce {
            eventually_async("a position is known", DEADLINE, || !handle.lag().is_empty()).await;
            kafka.produce(&topic, 1, 1);
        }
        records.next().await.unwrap().map(|delivery| delivery.offset()).map_err(|error| error.kind())
    };
    assert_eq!(first_with(OffsetReset::Earliest, false).await, Ok(5));
    assert_eq!(first_with(OffsetReset::ByDuration(Duration::from_secs(3600)), false).await, Ok(5));
    assert_eq!(first_with(OffsetReset::Fail, false).await, Err(ConsumeErrorKind::NoOffset));
    let end = kafka.end_offset(&topic, 0);
    assert_eq!(first_with(OffsetReset::Latest, true).await, Ok(end));
}

// ---------------------------------------------------------------- killed processes

const KILLED_AT_LEAST_ONCE: &str = "delivery::twenty_kills_lose_nothing_at_least_once";

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_nothing_at_least_once() {
    if role().is_some() {
        return count_with_commits_behind().await;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("kills", 3), kafka.group("kills"));
    kafka.produce(&topic, 3, 2000);
    let settings = [("BOOT", kafka.bootstrap()), ("GROUP", &group), ("TOPIC", &topic)];
    let mut processed = BTreeSet::new();
    for kill in 0..20 {
        let process = Process::start(KILLED_AT_LEAST_ONCE, "worker", &settings);
        let enough = 20 + kill * 37 % 90;
        eventually_async("the worker works", DEADLINE, || process.lines("did").len() >= enough).await;
        let lines = process.kill();
        let committed = kafka.committed(&group, &topic);
        processed.extend(parse(&lines, "did").iter().map(|line| (line[0] as i32, line[1])));
        for (partition, offset) in &committed {
            let missing = (0..*offset).find(|at| !processed.contains(&(*partition, *at)));
            assert_eq!(missing, None, "kill {kill}: committed {offset} of partition {partition}, but this was never processed");
        }
    }
    let last = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("the union is complete", DEADLINE, || {
        processed.iter().copied().chain(last.seen()).collect::<BTreeSet<_>>() == all_places(3, 2000)
    })
    .await;
    last.leave().await;
}

/// The worker that is killed: tells of each record before it acknowledges it.
async fn count_with_commits_behind() {
    let builder = builder(&setting("BOOT"), &setting("GROUP"), &setting("TOPIC")).session_timeout(Duration::from_secs(1));
    let mut records = builder.commit_interval(Duration::from_millis(20)).connect().await.unwrap().at_least_once();
    while let Some(delivery) = records.next().await {
        let delivery = delivery.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
        tell("did", &[i64::from(delivery.partition()), delivery.offset()]);
        delivery.ack();
    }
}

const KILLED_AT_MOST_ONCE: &str = "delivery::twenty_kills_repeat_nothing_at_most_once";

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_repeat_nothing_at_most_once() {
    if role().is_some() {
        let builder = builder(&setting("BOOT"), &setting("GROUP"), &setting("TOPIC")).session_timeout(Duration::from_secs(1));
        let mut records = builder.connect().await.unwrap().at_most_once();
        while let Some(record) = records.next().await {
            let record = record.unwrap();
            tell("did", &[i64::from(record.partition()), record.offset()]);
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("once", 3), kafka.group("once"));
    kafka.produce(&topic, 3, 4000);
    let settings = [("BOOT", kafka.bootstrap()), ("GROUP", &group), ("TOPIC", &topic)];
    let mut seen: Vec<Place> = Vec::new();
    for kill in 0..20 {
        let process = Process::start(KILLED_AT_MOST_ONCE, "worker", &settings);
        let enough = 20 + kill * 37 % 90;
        eventually_async("the worker works", DEADLINE, || process.lines("did").len() >= enough).await;
        let lines = process.kill();
        seen.extend(parse(&lines, "did").iter().map(|line| (line[0] as i32, line[1])));
        let committed = kafka.committed(&group, &topic);
        let beyond = seen.iter().find(|(partition, offset)| committed.get(partition).is_none_or(|committed| offset >= committed));
        assert_eq!(beyond, None, "kill {kill}: handed out before it was committed ({committed:?})");
    }
    let twice: Vec<_> = counts(seen.iter().copied()).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "handed out twice: {twice:?}");
    assert!(seen.len() >= 20 * 20);
}

const KILLED_OUT_OF_ORDER: &str = "delivery::acks_out_of_order_never_commit_beyond_the_lowest_unacked";

#[tokio::test(flavor = "multi_thread")]
async fn acks_out_of_order_never_commit_beyond_the_lowest_unacked() {
    if role().is_some() {
        return work_in_many_tasks().await;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("disorder", 2), kafka.group("disorder"));
    kafka.produce(&topic, 2, 5000);
    let settings = [("BOOT", kafka.bootstrap()), ("GROUP", &group), ("TOPIC", &topic)];
    let mut acked: BTreeSet<Place> = BTreeSet::new();
    for kill in 1..=5 {
        let process = Process::start(KILLED_OUT_OF_ORDER, "worker", &settings);
        eventually_async("tasks are at work", DEADLINE, || process.lines("acks").len() >= kill * 130).await;
        acked.extend(parse(&process.kill(), "acks").iter().map(|line| (line[0] as i32, line[1])));
        for (partition, committed) in kafka.committed(&group, &topic) {
            let lowest_unacked = (0..).find(|offset| !acked.contains(&(partition, *offset))).unwrap();
            assert!(committed <= lowest_unacked, "partition {partition}: committed {committed}, unacked {lowest_unacked}");
        }
    }
    assert!(kafka.committed(&group, &topic).into_values().any(|offset| offset > 0), "something was committed at all");
}

/// 64 tasks, each taking its own time; each tells just before it acknowledges.
async fn work_in_many_tasks() {
    let builder = builder(&setting("BOOT"), &setting("GROUP"), &setting("TOPIC")).session_timeout(Duration::from_secs(1));
    let mut records = builder.commit_interval(Duration::from_millis(5)).connect().await.unwrap().at_least_once();
    let tasks = Arc::new(tokio::sync::Semaphore::new(64));
    let mut state = u64::from(std::process::id());
    while let Some(delivery) = records.next().await {
        let delivery = delivery.unwrap();
        let permit = Arc::clone(&tasks).acquire_owned().await.unwrap();
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let delay = Duration::from_micros((state >> 33) % 20_000);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            tell("acks", &[i64::from(delivery.partition()), delivery.offset()]);
            delivery.ack();
            drop(permit);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_commits_and_leaves_in_the_background() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("dropped", 1), kafka.group("dropped"));
    kafka.produce(&topic, 1, 10);
    let mut records = Consumer::builder(group.as_str(), kafka.bootstrap().split(','))
        .subscribe([topic.as_str()])
        .commit_interval(Duration::from_secs(600))
        .connect()
        .await
        .unwrap()
        .at_least_once();
    for _ in 0..7 {
        records.next().await.unwrap().unwrap().ack();
    }
    drop(records);
    eventually_async("what was acknowledged is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([7]))
        .await;
    eventually_async("the member has left", DEADLINE, || kafka.admin.group(&group).unwrap().state == "Empty").await;
}
