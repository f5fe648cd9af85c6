//! Questions about offsets, without joining a group.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use kafka_harness::{Options, Outcome, Produce};
use ottla::{Isolation, LogOffset, Offsets, OffsetsErrorKind, PerPartition, TopicPartition};

use crate::{
    member::{Member, builder, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

async fn connect(kafka: &Kafka) -> Offsets {
    Offsets::builder(kafka.bootstrap().split(',')).timeout(DEADLINE).connect().await.expect("connect")
}

fn by_number(found: PerPartition<LogOffset>) -> BTreeMap<i32, i64> {
    let found = found.all().expect("all are found");
    found.into_iter().map(|(partition, at)| (partition.partition(), at.offset)).collect()
}

/// What is the same for every broker there is.
async fn the_basics_work_on(kafka: &Kafka, has_newest: bool) {
    let (topic, group) = (kafka.topic("offsets", 4), kafka.group("offsets"));
    let start_ms = 1_700_000_000_000;
    for partition in 0..3 {
        let records = Produce { topic: &topic, partition, count: 100, timestamp_ms: Some(start_ms), ..Produce::default() };
        kafka.admin.produce(&records).unwrap();
    }
    kafka.admin.delete_records(&topic, 1, 40).unwrap();
    let offsets = connect(kafka).await;
    let java = |at: kafka_harness::Result<BTreeMap<i32, i64>>| at.expect("Java's answer");
    let beginnings = by_number(offsets.beginning([&topic]).await.unwrap());
    assert_eq!(beginnings, [(0, 0), (1, 40), (2, 0), (3, 0)].into());
    assert_eq!(beginnings, java(kafka.admin.start_offsets(&topic)));
    let ends = by_number(offsets.end([&topic]).await.unwrap());
    assert_eq!(ends, [(0, 100), (1, 100), (2, 100), (3, 0)].into());
    assert_eq!(ends, java(kafka.admin.end_offsets(&topic)));

    let since = offsets.at_time([&topic], start_ms + 60).await.unwrap().all().unwrap();
    let since: Vec<_> = since.into_values().map(|at| at.map(|at| (at.offset, at.timestamp_ms))).collect();
    let sixtieth = Some((60, Some(start_ms + 60)));
    assert_eq!(since, [sixtieth, sixtieth, sixtieth, None]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_millis() as i64;
    assert!(offsets.at_time([&topic], now_ms).await.unwrap().all().unwrap().into_values().eq([None; 4]));
    let newest = offsets.max_timestamp([TopicPartition::new(topic.as_str(), 0)]).await.unwrap();
    if has_newest {
        let newest = newest.all().unwrap().into_values().map(|at| at.map(|at| (at.offset, at.timestamp_ms)));
        assert!(newest.eq([Some((99, Some(start_ms + 99)))]));
    } else {
        assert_eq!(newest.errors[0].kind(), OffsetsErrorKind::Incompatible, "{}", newest.errors[0]);
    }

    // Nobody is in the group yet, and it has committed nothing.
    assert!(offsets.committed(&group).await.unwrap().all().unwrap().is_empty());
    let members = [
        Member::join(builder(kafka.bootstrap(), &group, &topic)).await,
        Member::join(builder(kafka.bootstrap(), &group, &topic)).await,
    ];
    settled(&members, 4).await;
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).values().sum::<i64>() == 300).await;
    let lag = offsets.lag(&group).await.unwrap();
    assert_eq!((lag.errors.len(), lag.total().records), (0, 0));
    assert_eq!(lag.found.len(), 4, "also the partition in which there is nothing to commit");
    let [first, second] = members;
    first.leave().await;
    second.leave().await;
    kafka.produce(&topic, 4, 7);
    let committed = offsets.committed(&group).await.unwrap().all().unwrap();
    let committed: BTreeMap<_, _> = committed.into_iter().map(|(of, commit)| (of.partition(), commit.offset)).collect();
    assert_eq!(committed, kafka.committed(&group, &topic));
    let lag = offsets.lag(&group).await.unwrap();
    let never = usize::from(!committed.contains_key(&3));
    let total = lag.total();
    assert_eq!((total.records, total.never_committed, total.failed), (7 * (4 - never as i64), never, 0));

    let unknown = offsets.end([topic.as_str(), "no-such-topic"]).await.unwrap();
    assert_eq!((unknown.found.len(), unknown.errors.len()), (4, 1));
    assert_eq!((unknown.errors[0].kind(), unknown.errors[0].topic()), (OffsetsErrorKind::UnknownTopic, Some("no-such-topic")));
    println!("{}", unknown.errors[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_on_the_newest_broker() {
    let Some(kafka) = Kafka::shared() else { return };
    the_basics_work_on(kafka, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_on_a_broker_of_the_middle_ages() {
    let Some(kafka) = Kafka::start(Options { version: "2.8.2".into(), ..Options::default() }) else { return };
    the_basics_work_on(&kafka, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_on_the_oldest_broker_that_starts() {
    let Some(kafka) = Kafka::start(Options { version: "0.11.0.3".into(), ..Options::default() }) else { return };
    the_basics_work_on(&kafka, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_end_where_a_transaction_is_open_for_who_reads_what_is_committed() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.topic("offsets-open", 1);
    let records = Produce { topic: &topic, count: 10, ..Produce::default() };
    kafka.admin.produce(&records).unwrap();
    kafka.admin.produce_in_transaction(&topic, &records, Outcome::Open, false).unwrap();
    let committed = connect(kafka).await;
    let all = Offsets::builder([kafka.bootstrap()]).isolation(Isolation::ReadUncommitted).connect().await.unwrap();
    let end = async |of: &Offsets| by_number(of.end([&topic]).await.unwrap())[&0];
    assert_eq!((end(&committed).await, end(&all).await), (10, 20));
    kafka.admin.end_transaction(&topic, Outcome::Commit).unwrap();
    eventually_async("the marker is written", DEADLINE, || kafka.end_offset(&topic, 0) == 21).await;
    assert_eq!((end(&committed).await, end(&all).await), (21, 21));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_and_lag_of_three_brokers_whose_leader_and_coordinator_die() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let (topic, group) = (kafka.topic("offsets-spread", 6), kafka.group("offsets-spread"));
    kafka.produce(&topic, 6, 20);
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).values().sum::<i64>() == 120).await;
    let offsets = connect(&kafka).await;
    let leaders: std::collections::BTreeSet<_> = kafka.admin.leaders(&topic).unwrap().into_values().map(|of| of.leader).collect();
    assert_eq!(leaders.len(), 3, "the leaders are spread");
    assert!(by_number(offsets.end([&topic]).await.unwrap()).into_values().eq([20; 6]));
    for broker in 1..=3 {
        kafka.cluster().kill_broker(broker).unwrap();
        // While some partitions have no leader, and perhaps the group no coordinator.
        let until = Instant::now() + DEADLINE;
        loop {
            let lag = offsets.lag(&group).await.unwrap();
            assert_eq!((lag.errors.len(), lag.total().records), (0, 0), "{:?}", lag.errors);
            // A broker that has just become the coordinator tells what it knows to be replicated, which may be less for a moment.
            if lag.found.len() == 6 {
                break;
            }
            assert!(Instant::now() < until, "{:?}", lag.found);
        }
        kafka.cluster().start_broker(broker).unwrap();
        let in_sync = || kafka.admin.leaders(&topic).is_ok_and(|all| all.values().all(|one| one.in_sync.len() == 3));
        eventually_async("it has caught up", DEADLINE, in_sync).await;
    }
    member.leave().await;
}
