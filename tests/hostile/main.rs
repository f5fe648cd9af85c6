//! Whole consumers, and brokers that answer what no broker should, at every point of the conversation.
//!
//! Whatever comes, it must not end the process, hold much memory, or make the client ask again and again; and when the brokers come to
//! their senses, everything is read and committed.

#![allow(clippy::disallowed_methods, reason = "sockets take real time")]

mod broker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use broker::{Attack, Hostile};
use ottla::{ConsumeError, Consumer, ConsumerBuilder, GroupProtocol, OffsetReset, Offsets};
use ottla_mock::{Api, MockCluster};
use tokio::{runtime, task::LocalSet};

const DEADLINE: Duration = Duration::from_secs(40);
const REQUEST_TIMEOUT: Duration = Duration::from_millis(900);
/// At each question that a consumer asks in its life.
const APIS: [Api; 11] = [
    Api::ApiVersions,
    Api::Metadata,
    Api::FindCoordinator,
    Api::JoinGroup,
    Api::SyncGroup,
    Api::OffsetFetch,
    Api::ListOffsets,
    Api::Fetch,
    Api::Heartbeat,
    Api::OffsetCommit,
    Api::ConsumerGroupHeartbeat,
];
const RECORDS: i64 = 10;
/// What everything here may hold: ten consumers, their clusters, and 64 KiB of a flood on its way for each connection. A frame that claims
/// 256 MiB gets a megabyte.
const BYTES_MAX: u64 = 64 << 20;
/// What a consumer asks in this life is some twenty requests, and then two Fetches, a heartbeat and a commit in a second or so.
const REQUESTS_MAX: usize = 60;
const REQUESTS_A_SECOND_MAX: usize = 40;

fn builder(bootstrap: &str) -> ConsumerBuilder {
    Consumer::builder("workers", bootstrap.split(','))
        .subscribe(["orders"])
        .offset_reset(OffsetReset::Earliest)
        .request_timeout(REQUEST_TIMEOUT)
        .connect_timeout(Duration::from_secs(6))
        // What an answer to JoinGroup may take, a little less than.
        .rebalance_timeout(Duration::from_secs(3))
        .session_timeout(Duration::from_secs(6))
        .heartbeat_interval(Duration::from_millis(100))
        .commit_interval(Duration::from_millis(100))
}

fn protocol_that_asks(api: Api) -> GroupProtocol {
    if api == Api::ConsumerGroupHeartbeat { GroupProtocol::Consumer } else { GroupProtocol::Classic }
}

/// Lives through one attack, in which some answers of one API come like that: everything is read and committed in the end.
async fn live_through(api: Api, attack: Attack) -> Vec<ConsumeError> {
    let times = if attack.is_slow() { 1 } else { 3 };
    let mock = MockCluster::builder().brokers(2).topic("orders", 2).start().await;
    for partition in 0..2 {
        mock.append("orders", partition, (0..RECORDS).map(|n| n.to_string()));
    }
    let cluster = Hostile::start(mock, api, attack, times).await;
    let started = Instant::now();
    let mut errors = Vec::new();
    let life = async {
        let builder = builder(&cluster.bootstrap).group_protocol(protocol_that_asks(api));
        let mut records = builder.connect().await.expect("the cluster comes to its senses").at_least_once();
        let mut read = [0; 2];
        // Some questions are only asked when all was read.
        while read.iter().any(|read| *read < RECORDS)
            || cluster.attacks() == 0
            || cluster.mock.committed("workers").values().filter(|offset| **offset == RECORDS).count() < 2
        {
            let next = tokio::time::timeout(Duration::from_millis(50), records.next());
            match next.await {
                Ok(Some(Ok(delivery))) => {
                    // At least once: what was lost with an assignment may come again.
                    let next = &mut read[delivery.partition() as usize];
                    assert!(delivery.offset() <= *next, "{api:?} {attack:?}: {delivery:?} after {next}");
                    *next = (*next).max(delivery.offset() + 1);
                    delivery.ack();
                }
                Ok(Some(Err(error))) => errors.push(error),
                Ok(None) => panic!("{api:?} {attack:?}: the stream has ended: {errors:?}"),
                Err(_) => {}
            }
        }
        drop(records);
    };
    let lived = tokio::time::timeout(DEADLINE, life).await;
    assert!(lived.is_ok(), "{api:?} {attack:?}: not all was read and committed, after {} attacks: {errors:?}", cluster.attacks());
    let asked = cluster.requests();
    let allowed = REQUESTS_MAX + REQUESTS_A_SECOND_MAX * started.elapsed().as_secs_f64().ceil() as usize;
    assert!(asked <= allowed, "{api:?} {attack:?}: {asked} requests in {:?}", started.elapsed());
    errors
}

/// Lives through all attacks on one API, one at a time, on one thread whose memory is counted.
fn live_through_all(api: Api) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let lives = LocalSet::new();
    let count = Arc::new(AtomicUsize::new(0));
    let held = allocation_counter::measure(|| {
        runtime.block_on(lives.run_until(async {
            let tasks: Vec<_> = Attack::ALL
                .into_iter()
                .map(|attack| {
                    let count = Arc::clone(&count);
                    tokio::task::spawn_local(async move {
                        for error in live_through(api, attack).await {
                            println!("{api:?} {attack:?}: {error}");
                            assert!(!error.is_fatal(), "{api:?} {attack:?}: {error}");
                        }
                        count.fetch_add(1, Relaxed);
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a life");
            }
        }));
    });
    assert_eq!(count.load(Relaxed), Attack::ALL.len());
    println!("{api:?}: {} bytes held at most", held.bytes_max);
    assert!(held.bytes_max <= BYTES_MAX, "{api:?}: {} bytes", held.bytes_max);
}

macro_rules! attacks {
    ($($name:ident: $api:ident;)*) => {
        const ATTACKED: &[Api] = &[$(Api::$api),*];
        $(
            #[test]
            fn $name() {
                live_through_all(Api::$api);
            }
        )*
    };
}

attacks! {
    attacks_on_the_handshake_are_lived_through: ApiVersions;
    attacks_on_metadata_are_lived_through: Metadata;
    attacks_on_the_search_for_the_coordinator_are_lived_through: FindCoordinator;
    attacks_on_joining_are_lived_through: JoinGroup;
    attacks_on_syncing_are_lived_through: SyncGroup;
    attacks_on_committed_offsets_are_lived_through: OffsetFetch;
    attacks_on_listed_offsets_are_lived_through: ListOffsets;
    attacks_on_fetching_are_lived_through: Fetch;
    attacks_on_heartbeats_are_lived_through: Heartbeat;
    attacks_on_commits_are_lived_through: OffsetCommit;
    attacks_on_heartbeats_of_the_consumer_protocol_are_lived_through: ConsumerGroupHeartbeat;
}

#[test]
fn every_question_is_attacked() {
    assert_eq!(ATTACKED, APIS);
}

/// Asks how far behind a group is until that is told as it is; every single question is answered in its time, somehow.
async fn look_on(api: Api, attack: Attack, times: usize) {
    const TIMEOUT: Duration = Duration::from_secs(3);

    let mock = MockCluster::builder().brokers(2).topic("orders", 2).start().await;
    let good = mock.bootstrap_servers();
    mock.append("orders", 0, (0..RECORDS).map(|n| n.to_string()));
    let mut records = builder(&good).connect().await.expect("a good cluster").at_least_once();
    for _ in 0..RECORDS {
        records.next().await.expect("a record").expect("a good one").ack();
    }
    records.close(DEADLINE).await.expect("all is acknowledged");
    mock.append("orders", 0, ["one more"]);
    let cluster = Hostile::start(mock, api, attack, times).await;
    let started = Instant::now();
    let settings = Offsets::builder(cluster.bootstrap.split(','));
    let settings = settings.request_timeout(REQUEST_TIMEOUT).connect_timeout(Duration::from_secs(6)).timeout(TIMEOUT);
    let Ok(offsets) = settings.connect().await else {
        assert_eq!(times, usize::MAX, "{api:?} {attack:?}: the cluster comes to its senses");
        return;
    };
    loop {
        let asked = Instant::now();
        let lag = offsets.lag("workers").await;
        assert!(asked.elapsed() < TIMEOUT + Duration::from_secs(1), "{api:?} {attack:?}: {:?}", asked.elapsed());
        if times == usize::MAX {
            break;
        }
        match lag {
            Ok(lag) if lag.errors.is_empty() && lag.total().records == 1 => break,
            other => println!("{api:?} {attack:?}: {other:?}"),
        }
        assert!(started.elapsed() < DEADLINE, "{api:?} {attack:?}: never told as it is");
    }
    let allowed = REQUESTS_MAX + REQUESTS_A_SECOND_MAX * started.elapsed().as_secs_f64().ceil() as usize;
    assert!(cluster.requests() <= allowed, "{api:?} {attack:?}: {} requests", cluster.requests());
}

#[tokio::test]
async fn who_only_looks_on_lives_through_every_attack_and_has_an_answer_in_time() {
    let lives = LocalSet::new();
    let mut tasks = Vec::new();
    for api in [Api::Metadata, Api::FindCoordinator, Api::OffsetFetch, Api::ListOffsets] {
        for (attack, times) in
            Attack::ALL.into_iter().flat_map(|attack| [(attack, 1 + usize::from(!attack.is_slow())), (attack, usize::MAX)])
        {
            tasks.push(lives.spawn_local(look_on(api, attack, times)));
        }
    }
    lives.await;
    for task in tasks {
        task.await.expect("a life");
    }
}

/// A broker that never comes to its senses is gone around: another one answers.
#[tokio::test]
async fn another_broker_is_found_when_the_first_answers_nonsense_for_ever() {
    for attack in Attack::ALL {
        let mock = MockCluster::builder().brokers(1).topic("orders", 1).start().await;
        mock.append("orders", 0, ["one"]);
        let good = mock.bootstrap_servers();
        // It stands in front of the same cluster, and nobody is led to it.
        let bad = Hostile::start(mock, Api::Metadata, attack, usize::MAX).await;
        let addresses = format!("{},{good}", bad.bootstrap);
        let builder = builder(&addresses);
        let found = async {
            let mut records = builder.connect().await.expect("a broker that answers").at_least_once();
            loop {
                match records.next().await {
                    Some(Ok(delivery)) => break delivery.ack(),
                    Some(Err(error)) => assert!(!error.is_fatal(), "{attack:?}: {error}"),
                    None => panic!("{attack:?}: the stream has ended"),
                }
            }
        };
        assert!(tokio::time::timeout(DEADLINE, found).await.is_ok(), "{attack:?}");
    }
}

/// What is wrong is said, with where.
#[tokio::test]
async fn nonsense_is_told_to_the_user() {
    for (api, attack, said) in [
        (Api::ApiVersions, Attack::Enormous, "it announces a frame of 2147483647 bytes"),
        (Api::ApiVersions, Attack::Negative, "it announces a frame of -1 bytes"),
        (Api::ApiVersions, Attack::AllOnes, "malformed ApiVersions answer"),
        (Api::Metadata, Attack::Truncated, "malformed Metadata answer"),
        (Api::FindCoordinator, Attack::AllOnes, "malformed FindCoordinator answer"),
        (Api::JoinGroup, Attack::Truncated, "malformed JoinGroup answer"),
        (Api::SyncGroup, Attack::AllOnes, "malformed SyncGroup answer"),
        (Api::Fetch, Attack::OneByteMore, "malformed Fetch answer"),
        (Api::ConsumerGroupHeartbeat, Attack::Truncated, "malformed ConsumerGroupHeartbeat answer"),
    ] {
        let mock = MockCluster::builder().topic("orders", 1).start().await;
        let cluster = Hostile::start(mock, api, attack, usize::MAX).await;
        let builder = builder(&cluster.bootstrap).group_protocol(protocol_that_asks(api));
        let told = async {
            let mut records = match builder.connect().await {
                Ok(consumer) => consumer.at_least_once(),
                Err(error) => return error.to_string(),
            };
            loop {
                match records.next().await {
                    Some(Err(error)) if error.to_string().contains(said) => return error.to_string(),
                    Some(Err(error)) => assert!(!error.is_fatal(), "{api:?} {attack:?}: {error}"),
                    other => panic!("{api:?} {attack:?}: {other:?}"),
                }
            }
        };
        let told = tokio::time::timeout(DEADLINE, told).await.unwrap_or_else(|_| panic!("{api:?} {attack:?}: nothing is said"));
        assert!(told.contains(said), "{api:?} {attack:?}: {told}");
        println!("{api:?} {attack:?}: {told}");
    }
}
