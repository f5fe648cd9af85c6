//! The same service on the mock and on a real Kafka: what is read, what is committed, and how often the group began anew.
//!
//! The mock is played in every `cargo test`, the real Kafka with `OTTLA_REAL_KAFKA=1` (`cargo xtask test`).

#![allow(clippy::disallowed_methods, reason = "real brokers take real time")]

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kafka_harness::{Admin, Cluster, DEFAULT_VERSION, Options, Produce};
use ottla::{
    CommitError, ConsumeErrorKind, Consumer, ConsumerBuilder, GroupEvent, GroupProtocol, Handle, OffsetReset, TopicPartition,
};
use ottla_mock::MockCluster;

const DEADLINE: Duration = Duration::from_secs(30);

type Place = (i32, i64);

/// Where a scenario takes place.
enum Stage {
    Mock(MockCluster),
    Real(&'static Real),
}

struct Real {
    cluster: Cluster,
    admin: Admin,
}

impl Stage {
    fn bootstrap(&self) -> String {
        match self {
            Self::Mock(mock) => mock.bootstrap_servers(),
            Self::Real(real) => real.cluster.bootstrap(),
        }
    }

    fn create(&self, topic: &str, partitions: i32) {
        match self {
            Self::Mock(mock) => mock.create_topic(topic, partitions as usize),
            Self::Real(Real { admin, .. }) => {
                admin.create_topic(topic, partitions, 1, &[]).expect("create a topic");
                let is_led = || admin.leaders(topic).is_ok_and(|all| all.len() == partitions as usize);
                assert!(kafka_harness::eventually(DEADLINE, is_led), "{topic} has no leaders");
            }
        }
    }

    /// Appends so many records to each partition.
    fn append(&self, topic: &str, partitions: i32, count: u64) {
        for partition in 0..partitions {
            match self {
                Self::Mock(mock) => drop(mock.append(topic, partition, (0..count).map(|n| n.to_string()))),
                Self::Real(Real { admin, .. }) => {
                    admin.produce(&Produce { topic, partition, count, ..Produce::default() }).map(drop).expect("produce");
                }
            }
        }
    }

    /// Tells what the group has committed, by partition; group and topic have one name.
    fn committed(&self, name: &str) -> BTreeMap<i32, i64> {
        match self {
            Self::Mock(mock) => mock.committed(name).into_iter().map(|((_, partition), offset)| (partition, offset)).collect(),
            Self::Real(real) => {
                let all = real.admin.committed(name).expect("list committed offsets");
                all.into_iter().map(|((_, partition), lag)| (partition, lag.offset)).collect()
            }
        }
    }

    fn consumer(&self, name: &str) -> ConsumerBuilder {
        Consumer::builder(name, self.bootstrap().split(','))
            .subscribe([name])
            // By the new one the brokers say how often they want a heartbeat, and 5 s are long for a test.
            .group_protocol(GroupProtocol::Classic)
            .heartbeat_interval(Duration::from_millis(100))
            .commit_interval(Duration::from_millis(50))
            .offset_reset(OffsetReset::Earliest)
    }
}

/// Plays a scenario on the mock, and on a real Kafka if one is wanted.
async fn play(scenario: impl AsyncFn(&Stage)) {
    static REAL: OnceLock<Real> = OnceLock::new();
    scenario(&Stage::Mock(MockCluster::start().await)).await;
    if env::var_os("OTTLA_REAL_KAFKA").is_some() {
        let real = tokio::task::block_in_place(|| {
            REAL.get_or_init(|| {
                let cluster = Cluster::start(Options::default()).expect("a real Kafka");
                let admin = Admin::start(&cluster.bootstrap(), DEFAULT_VERSION).expect("the admin shell");
                Real { cluster, admin }
            })
        });
        scenario(&Stage::Real(real)).await;
    }
}

/// A member that acknowledges whatever it reads, and counts how often it was given partitions.
struct Member {
    handle: Handle,
    seen: Arc<Mutex<Vec<Place>>>,
    assigned: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Member {
    async fn join(builder: ConsumerBuilder) -> Self {
        let consumer = builder.connect().await.expect("connect");
        let handle = consumer.handle();
        let (seen, assigned) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (all, count, mut events) = (Arc::clone(&seen), Arc::clone(&assigned), handle.events());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let GroupEvent::Assigned { .. } = event {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut records = consumer.at_least_once();
        let task = tokio::spawn(async move {
            while let Some(delivery) = records.next().await {
                let delivery = delivery.expect("a record");
                all.lock().unwrap().push((delivery.partition(), delivery.offset()));
                delivery.ack();
            }
        });
        Self { handle, seen, assigned, task }
    }

    fn held(&self) -> usize {
        self.handle.assignment().len()
    }

    fn seen(&self) -> Vec<Place> {
        let mut seen = self.seen.lock().unwrap().clone();
        seen.sort();
        seen
    }

    fn assigned(&self) -> usize {
        self.assigned.load(Ordering::Relaxed)
    }

    async fn leave(self) {
        self.handle.shutdown(DEADLINE);
        self.task.await.expect("the member's task does not panic");
    }
}

fn places(partitions: i32, offsets: std::ops::Range<i64>) -> Vec<Place> {
    (0..partitions).flat_map(|partition| offsets.clone().map(move |offset| (partition, offset))).collect()
}

fn all_at(partitions: i32, offset: i64) -> BTreeMap<i32, i64> {
    (0..partitions).map(|partition| (partition, offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_and_one_takes_over() {
    play(async |stage| {
        let name = "share";
        stage.create(name, 4);
        stage.append(name, 4, 10);
        let first = Member::join(stage.consumer(name)).await;
        eventually("the first reads everything", || first.seen() == places(4, 0..10)).await;
        eventually("and commits it", || stage.committed(name) == all_at(4, 10)).await;
        let second = Member::join(stage.consumer(name)).await;
        eventually("they share", || (first.held(), second.held()) == (2, 2)).await;
        stage.append(name, 4, 5);
        eventually("each reads its own", || (first.seen().len(), second.seen().len()) == (50, 10)).await;
        eventually("one generation alone, one together", || (first.assigned(), second.assigned()) == (2, 1)).await;
        first.leave().await;
        eventually("the second takes over", || second.held() == 4).await;
        stage.append(name, 4, 1);
        eventually("and goes on where the first stopped", || second.seen().len() == 14).await;
        eventually("one more generation", || second.assigned() == 2).await;
        second.leave().await;
        assert_eq!(stage.committed(name), all_at(4, 16));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_comes_again_and_holds_the_commit_back() {
    play(async |stage| {
        let name = "again";
        stage.create(name, 1);
        stage.append(name, 1, 5);
        let mut records = stage.consumer(name).connect().await.expect("connect").at_least_once();
        let mut kept = None;
        let mut order = Vec::new();
        for _ in 0..5 {
            let delivery = records.next().await.expect("not closed").expect("a record");
            order.push(delivery.offset());
            match delivery.offset() {
                2 => kept = Some(delivery),
                _ => delivery.ack(),
            }
        }
        assert_eq!(order, [0, 1, 2, 3, 4]);
        eventually("the commit ends before the hole", || stage.committed(name) == all_at(1, 2)).await;
        drop(kept);
        let again = records.next().await.expect("not closed").expect("a record");
        assert_eq!((again.offset(), again.attempt()), (2, 2));
        again.ack();
        eventually("all is committed", || stage.committed(name) == all_at(1, 5)).await;
        records.close(DEADLINE).await.expect("close");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_commits_first() {
    play(async |stage| {
        let name = "once";
        stage.create(name, 2);
        stage.append(name, 2, 10);
        let mut records = stage.consumer(name).connect().await.expect("connect").at_most_once();
        let mut seen = Vec::new();
        for _ in 0..20 {
            let record = records.next().await.expect("not closed").expect("a record");
            let committed = tokio::task::block_in_place(|| stage.committed(name));
            assert!(committed[&record.partition()] > record.offset(), "it is committed before it is there");
            seen.push((record.partition(), record.offset()));
        }
        seen.sort();
        assert_eq!(seen, places(2, 0..10));
        records.close(DEADLINE).await.expect("close");
        assert_eq!(stage.committed(name), all_at(2, 10));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_committed_by_hand_as_far_as_one_says() {
    play(async |stage| {
        let name = "by-hand";
        stage.create(name, 1);
        stage.append(name, 1, 10);
        let mut batches = stage.consumer(name).connect().await.expect("connect").manual();
        let batch = batches.next_batch().await.expect("not closed").expect("a batch");
        assert!(stage.committed(name).is_empty(), "nothing is committed by itself");
        batch.commit_to(1).await.expect("commit");
        assert_eq!(stage.committed(name), all_at(1, 1));
        let mut next = batch.next_offset();
        batch.commit().await.expect("commit");
        assert_eq!(stage.committed(name), all_at(1, next));
        drop(batch);
        while next < 10 {
            let batch = batches.next_batch().await.expect("not closed").expect("a batch");
            next = batch.next_offset();
            batch.commit().await.expect("commit");
        }
        batches.close(DEADLINE).await.expect("close");
        assert_eq!(stage.committed(name), all_at(1, 10));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_streams_of_their_own() {
    play(async |stage| {
        let name = "streams";
        stage.create(name, 3);
        stage.append(name, 3, 10);
        let mut partitions = stage.consumer(name).connect().await.expect("connect").partitions();
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = partitions.next().await.expect("not closed").expect("a partition");
            streams.push(tokio::spawn(async move {
                let mut seen = Vec::new();
                while seen.len() < 10 {
                    let delivery = stream.next().await.expect("nobody takes it away");
                    seen.push((delivery.partition(), delivery.offset()));
                    delivery.ack();
                }
                (seen, stream)
            }));
        }
        let mut seen = Vec::new();
        let mut kept = Vec::new();
        for stream in streams {
            let (of, stream) = stream.await.expect("no panic");
            assert!(of.is_sorted(), "in order");
            seen.extend(of);
            kept.push(stream);
        }
        seen.sort();
        assert_eq!(seen, places(3, 0..10));
        eventually("all is committed", || stage.committed(name) == all_at(3, 10)).await;
        drop(kept);
        partitions.close(DEADLINE).await.expect("close");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_no_group_reads_all_and_commits_only_where_nobody_else_may() {
    play(async |stage| {
        let name = "alone";
        stage.create(name, 3);
        stage.append(name, 3, 10);
        let standalone = || Consumer::standalone(stage.bootstrap().split(',')).subscribe([name]);
        let (one, other) = (Member::join(standalone()).await, Member::join(standalone()).await);
        eventually("each reads everything", || one.seen() == places(3, 0..10) && other.seen() == places(3, 0..10)).await;
        assert!(stage.committed(name).is_empty());
        one.leave().await;
        other.leave().await;

        // Beside a group: from the committed offsets on, and as far as it is done.
        let beside = || {
            let group = Consumer::builder(name, stage.bootstrap().split(',')).commit_interval(Duration::from_millis(50));
            group.offset_reset(OffsetReset::Earliest).assign([(name, 1)])
        };
        let first = Member::join(beside()).await;
        eventually("it commits what it has read", || stage.committed(name) == BTreeMap::from([(1, 10)])).await;
        first.leave().await;
        stage.append(name, 3, 5);
        let second = Member::join(beside()).await;
        eventually("the next goes on there", || second.seen() == (10..15).map(|offset| (1, offset)).collect::<Vec<_>>()).await;
        eventually("and commits", || stage.committed(name) == BTreeMap::from([(1, 15)])).await;
        second.leave().await;

        // While the group has a member, nobody else commits for it.
        let member = Member::join(stage.consumer(name)).await;
        eventually("the member reads the rest", || member.seen().len() == 30).await;
        let mut batches = beside().connect().await.expect("connect").manual();
        let handle = batches.handle();
        eventually("the other begins where the group is", || handle.lag().len() == 1).await;
        stage.append(name, 3, 1);
        let batch = batches.next_batch().await.expect("not closed").expect("a batch");
        assert!(matches!(batch.commit().await, Err(CommitError::Broker { .. })));
        let told = batches.next_batch().await.expect("not closed").expect_err("the stream tells");
        assert_eq!(told.kind(), ConsumeErrorKind::CommitRefused, "{told}");
        drop(batch);
        let unfinished = batches.close(DEADLINE).await.expect_err("what was refused is not forgotten");
        assert_eq!(unfinished.uncommitted, [TopicPartition::new(name, 1)]);
        eventually("the member reads what came since", || member.seen().len() == 33).await;
        member.leave().await;
        assert_eq!(stage.committed(name), all_at(3, 16));
    })
    .await;
}

/// Looks again and again until a condition holds, which may take its time: a real broker is asked by way of another process.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !tokio::task::block_in_place(&mut condition) {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
