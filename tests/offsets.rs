//! Offsets and lag, without joining a group, against an embedded cluster: over sockets, in real time.

#![allow(clippy::disallowed_methods, reason = "a client and a server live in real time")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla::{
    BuildError, Consumer, Isolation, LogOffset, Offsets, OffsetsBuilder, OffsetsErrorKind, PerPartition, TopicPartition,
};
use ottla_mock::{Api, MockCluster, Outcome, Record, ResponseError, Verdict, kafka_protocol::messages::RequestKind};

fn builder(kafka: &MockCluster) -> OffsetsBuilder {
    Offsets::builder([kafka.bootstrap_servers()]).timeout(Duration::from_secs(20))
}

async fn connect(kafka: &MockCluster) -> Offsets {
    builder(kafka).connect().await.expect("the cluster is there")
}

/// Three brokers that lead in turn, and partitions with 0, 10, 20, … records.
async fn cluster(topic: &str, partitions: usize) -> MockCluster {
    let kafka = MockCluster::builder().brokers(3).topic(topic, partitions).start().await;
    for number in 1..partitions {
        kafka.append(topic, number as i32, (0..number * 10).map(|n| n.to_string()));
    }
    kafka
}

fn offsets(found: PerPartition<LogOffset>) -> Vec<(i32, i64)> {
    let found = found.all().expect("all are found");
    found.into_iter().map(|(partition, at)| (partition.partition(), at.offset)).collect()
}

/// Lets a member of the group commit what there is.
async fn commit_all(kafka: &MockCluster, group: &str, topic: &str, records: usize) {
    let builder = Consumer::builder(group, [kafka.bootstrap_servers()]).subscribe([topic]);
    let mut stream = builder.connect().await.expect("the cluster is there").at_least_once();
    for _ in 0..records {
        stream.next().await.expect("a record").expect("a good one").ack();
    }
    stream.close(Duration::from_secs(10)).await.expect("all is acknowledged");
}

#[tokio::test]
async fn beginnings_and_ends_of_topics_and_partitions_come_in_one_request_to_each_leader() {
    let kafka = cluster("orders", 6).await;
    kafka.with(|kafka| kafka.delete_records("orders", 5, 7));
    let offsets_of = connect(&kafka).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    kafka.intercept(Api::ListOffsets, move |request| {
        seen.lock().expect("no panic").push(request.broker);
        Verdict::Pass
    });
    let expected: Vec<_> = (0..6).map(|number| (number, i64::from(number) * 10)).collect();
    assert_eq!(offsets(offsets_of.end(["orders"]).await.expect("answered")), expected);
    let brokers: BTreeSet<_> = asked.lock().expect("no panic").iter().copied().collect();
    assert_eq!((asked.lock().expect("no panic").len(), brokers), (3, [1, 2, 3].into()));
    let beginning = offsets_of.beginning([TopicPartition::new("orders", 5), TopicPartition::new("orders", 1)]).await;
    assert_eq!(offsets(beginning.expect("answered")), [(1, 0), (5, 7)]);
}

#[tokio::test]
async fn a_time_leads_to_the_first_record_since_then_and_beyond_the_last_to_none() {
    let kafka = MockCluster::builder().topic("orders", 2).start().await;
    for timestamp_ms in [1_000, 5_000, 3_000] {
        kafka.append("orders", 0, [Record::new("an order").timestamp_ms(timestamp_ms)]);
    }
    let offsets = connect(&kafka).await;
    let found = async |timestamp_ms| {
        let found = offsets.at_time(["orders"], timestamp_ms).await.expect("answered").all().expect("all");
        assert_eq!(found[&TopicPartition::new("orders", 1)], None, "it is empty");
        found[&TopicPartition::new("orders", 0)].map(|at| (at.offset, at.timestamp_ms))
    };
    assert_eq!(found(0).await, Some((0, Some(1_000))));
    assert_eq!(found(1_001).await, Some((1, Some(5_000))));
    assert_eq!(found(5_001).await, None);
    let newest = offsets.max_timestamp(["orders"]).await.expect("answered").all().expect("all");
    let newest: Vec<_> = newest.into_values().map(|at| at.map(|at| (at.offset, at.timestamp_ms))).collect();
    assert_eq!(newest, [Some((1, Some(5_000))), None]);
}

#[tokio::test]
async fn an_open_transaction_ends_what_a_reader_of_committed_records_sees() {
    let kafka = MockCluster::builder().topic("orders", 1).start().await;
    kafka.append("orders", 0, ["one", "two"]);
    kafka.with(|kafka| kafka.append_transaction("orders", 0, ["three"], Outcome::Open));
    let committed = connect(&kafka).await;
    let uncommitted = builder(&kafka).isolation(Isolation::ReadUncommitted).connect().await.expect("the cluster is there");
    let end = async |of: &Offsets| offsets(of.end(["orders"]).await.expect("answered"))[0].1;
    assert_eq!((end(&committed).await, end(&uncommitted).await), (2, 3));
    kafka.with(|kafka| kafka.end_open_transactions("orders", 0, Outcome::Commit));
    // The marker has an offset, too.
    assert_eq!((end(&committed).await, end(&uncommitted).await), (4, 4));
}

#[tokio::test]
async fn the_newest_record_is_not_asked_for_of_brokers_that_cannot_tell() {
    for (release, works) in [("2.8", false), ("3.0", true)] {
        let kafka = MockCluster::builder().kafka_version(release).topic("orders", 1).start().await;
        kafka.append("orders", 0, ["one"]);
        let offsets = connect(&kafka).await;
        let newest = offsets.max_timestamp(["orders"]).await.expect("answered");
        let kinds: Vec<_> = newest.errors.iter().map(|error| (error.kind(), error.topic(), error.partition())).collect();
        let too_old = (OffsetsErrorKind::Incompatible, Some("orders"), Some(0));
        assert_eq!((newest.found.len(), kinds), if works { (1, vec![]) } else { (0, vec![too_old]) }, "{release}");
    }
}

#[tokio::test]
async fn a_group_is_told_with_what_it_committed_and_what_it_never_did() {
    for release in ["0.11", "2.8", "4.0"] {
        let kafka = MockCluster::builder().kafka_version(release).brokers(3).topic("orders", 3).start().await;
        kafka.append("orders", 0, ["one", "two"]);
        kafka.append("orders", 1, ["three"]);
        commit_all(&kafka, "workers", "orders", 3).await;
        kafka.append("orders", 1, ["four", "five"]);
        kafka.append("orders", 2, ["six"]);
        let offsets = connect(&kafka).await;
        let stored = kafka.committed("workers");
        let committed = offsets.committed("workers").await.expect("answered").all().expect("all");
        let told: BTreeMap<_, _> =
            committed.iter().map(|(of, commit)| ((of.topic().to_owned(), of.partition()), commit.offset)).collect();
        assert_eq!(told, stored, "{release}");
        let lag = offsets.lag("workers").await.expect("answered");
        assert_eq!(lag.errors, [], "{release}");
        let by_number = |number| &lag.found[&TopicPartition::new("orders", number)];
        assert_eq!([by_number(0).records(), by_number(1).records()], [Some(0), Some(2)], "{release}");
        assert_eq!(by_number(2).end.offset, 1);
        // Of the last partition something is committed or not, for there was nothing to read.
        let never = usize::from(!stored.contains_key(&("orders".to_owned(), 2)));
        let total = lag.total();
        assert_eq!((total.records, total.never_committed, total.failed), (3 - never as i64, never, 0), "{release}");
        assert_eq!(offsets.committed("strangers").await.expect("answered").found, BTreeMap::new());
        assert_eq!(offsets.lag("strangers").await.expect("answered").total().records, 0);
    }
}

#[tokio::test]
async fn a_partition_without_a_commit_has_no_lag_and_is_counted_apart() {
    let kafka = MockCluster::builder().topic("orders", 1).start().await;
    kafka.append("orders", 0, ["one", "two"]);
    commit_all(&kafka, "workers", "orders", 2).await;
    kafka.append("orders", 0, ["three"]);
    kafka.with(|kafka| kafka.add_partitions("orders", 1));
    kafka.append("orders", 1, ["four"]);
    let lag = connect(&kafka).await.lag("workers").await.expect("answered");
    let told: Vec<_> = lag.found.values().map(|lag| (lag.records(), lag.end.offset)).collect();
    assert_eq!(told, [(Some(1), 3), (None, 1)]);
    assert_eq!((lag.total().records, lag.total().never_committed), (1, 1));
}

#[tokio::test]
async fn what_does_not_exist_is_said_by_name_and_holds_nothing_else_up() {
    let kafka = cluster("orders", 2).await;
    let offsets = connect(&kafka).await;
    let started = Instant::now();
    let found = offsets.end(["orders", "odrers"]).await.expect("answered");
    assert_eq!(found.found.len(), 2);
    let told: Vec<_> = found.errors.iter().map(|error| (error.kind(), error.topic(), error.partition())).collect();
    assert_eq!(told, [(OffsetsErrorKind::UnknownTopic, Some("odrers"), None)]);
    let found = offsets.end([TopicPartition::new("orders", 1), TopicPartition::new("orders", 2)]).await.expect("answered");
    let told: Vec<_> = found.errors.iter().map(|error| (error.kind(), error.topic(), error.partition())).collect();
    assert_eq!((found.found.len(), told), (1, vec![(OffsetsErrorKind::UnknownTopic, Some("orders"), Some(2))]));
    assert!(found.errors[0].to_string().contains("orders-2: the topic has 2 partitions"), "{}", found.errors[0]);
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn leaders_and_coordinators_that_move_are_followed() {
    let kafka = cluster("orders", 3).await;
    commit_all(&kafka, "workers", "orders", 30).await;
    let offsets_of = connect(&kafka).await;
    kafka.fail_next(Api::ListOffsets, 2, Verdict::Error(ResponseError::NotLeaderOrFollower));
    kafka.fail_next(Api::ListOffsets, 1, Verdict::CloseBefore);
    kafka.fail_next(Api::OffsetFetch, 1, Verdict::Error(ResponseError::NotCoordinator));
    kafka.fail_next(Api::FindCoordinator, 1, Verdict::Error(ResponseError::CoordinatorNotAvailable));
    kafka.fail_next(Api::OffsetFetch, 1, Verdict::Error(ResponseError::CoordinatorLoadInProgress));
    let lag = offsets_of.lag("workers").await.expect("answered");
    assert_eq!((lag.errors.len(), lag.total().records), (0, 0));
    let (leader, coordinator) =
        kafka.with(|kafka| (kafka.leader("orders", 2).expect("led"), kafka.coordinator("workers").expect("coordinated")));
    kafka.kill_broker(leader);
    assert_eq!(offsets(offsets_of.end(["orders"]).await.expect("answered")), [(0, 0), (1, 10), (2, 20)]);
    if coordinator != leader {
        kafka.kill_broker(coordinator);
    }
    assert_eq!(
        offsets_of.committed("workers").await.expect("answered").all().expect("all")[&TopicPartition::new("orders", 2)].offset,
        20
    );
}

#[tokio::test]
async fn a_time_that_has_passed_says_what_was_waited_for() {
    let kafka = cluster("orders", 2).await;
    let offsets = builder(&kafka).timeout(Duration::from_millis(300)).connect().await.expect("the cluster is there");
    let silent = kafka.with(|kafka| kafka.leader("orders", 1)).expect("led");
    kafka.intercept(Api::ListOffsets, move |request| if request.broker == silent { Verdict::NoReply } else { Verdict::Pass });
    let found = offsets.end(["orders"]).await.expect("answered");
    assert_eq!(found.found.keys().map(TopicPartition::partition).collect::<Vec<_>>(), [0]);
    let [error] = &*found.errors else { panic!("{:?}", found.errors) };
    assert_eq!((error.kind(), error.partition()), (OffsetsErrorKind::TimedOut, Some(1)));
    let expected = format!("cannot find the end of orders-1 within 300ms: broker {silent} did not answer ListOffsets");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn who_may_not_look_is_told_at_once() {
    let kafka = cluster("orders", 1).await;
    let offsets = connect(&kafka).await;
    kafka.fail_next(Api::FindCoordinator, 1, Verdict::Error(ResponseError::GroupAuthorizationFailed));
    let error = offsets.committed("workers").await.expect_err("refused");
    assert_eq!(error.kind(), OffsetsErrorKind::Unauthorized);
    assert!(error.to_string().contains("workers") && error.to_string().contains("GROUP_AUTHORIZATION_FAILED"), "{error}");
    kafka.fail_next(Api::ListOffsets, 1, Verdict::Error(ResponseError::TopicAuthorizationFailed));
    let found = offsets.end(["orders"]).await.expect("answered");
    assert_eq!(found.errors[0].kind(), OffsetsErrorKind::Unauthorized);
    assert!(found.all().expect_err("refused").to_string().contains("orders-0"));
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_is_not_asked_again() {
    let kafka = cluster("orders", 1).await;
    let offsets = connect(&kafka).await;
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    kafka.intercept(Api::ListOffsets, move |request| {
        let RequestKind::ListOffsets(body) = request.body else { panic!("another request") };
        *count.lock().expect("no panic") += 1;
        // Only the first question, for the end, goes on and on.
        let is_end = body.topics[0].partitions[0].timestamp == -1;
        if is_end { Verdict::Error(ResponseError::LeaderNotAvailable) } else { Verdict::Pass }
    });
    assert!(tokio::time::timeout(Duration::from_millis(500), offsets.end(["orders"])).await.is_err(), "it goes on");
    offsets.beginning(["orders"]).await.expect("answered").all().expect("all");
    let before = *asked.lock().expect("no panic");
    assert!(before > 1);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(*asked.lock().expect("no panic"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_may_be_asked_at_the_same_time_from_several_tasks() {
    let kafka = cluster("orders", 3).await;
    let offsets_of = Arc::new(connect(&kafka).await);
    let asked = (0..20).map(|_| {
        let offsets_of = Arc::clone(&offsets_of);
        tokio::spawn(async move { offsets(offsets_of.end(["orders"]).await.expect("answered")) })
    });
    for asked in asked.collect::<Vec<_>>() {
        assert_eq!(asked.await.expect("no panic"), [(0, 0), (1, 10), (2, 20)]);
    }
}

#[tokio::test]
async fn dropping_it_ends_its_connections() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let kafka = cluster("orders", 1).await;
    let mut server = kafka.connect(1);
    let address = listener.local_addr().expect("bound").to_string();
    let relayed = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a connection");
        drop(listener);
        // Ends when either side does.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let offsets = Offsets::builder([address]).connect().await.expect("the cluster is there");
    assert!(!relayed.is_finished());
    drop(offsets);
    tokio::time::timeout(Duration::from_secs(2), relayed).await.expect("it ends at once").expect("no panic");
}

#[tokio::test]
async fn settings_that_make_no_sense_and_clusters_that_are_not_there_are_refused() {
    let none: [&str; 0] = [];
    for (builder, expected) in [
        (Offsets::builder(none), "builder(bootstrap)"),
        (Offsets::builder(["localhost"]), "builder(bootstrap)"),
        (Offsets::builder(["localhost:9092"]).timeout(Duration::ZERO), "timeout"),
        (Offsets::builder(["localhost:9092"]).request_timeout(Duration::ZERO), "request_timeout"),
    ] {
        match builder.connect().await {
            Err(BuildError::InvalidSetting { setting, .. }) => assert_eq!(setting, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    let refused = Offsets::builder([address.as_str()]).connect_timeout(Duration::from_secs(6)).connect().await;
    match refused {
        Err(BuildError::Unreachable { message }) => assert!(message.contains(&address), "{message}"),
        other => panic!("{other:?}"),
    }
}
