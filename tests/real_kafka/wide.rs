//! Ten thousand partitions on three brokers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kafka_harness::Produce;
use ottla::{Consumer, Delivery, GroupEvent, GroupProtocol, OffsetReset};
use tokio::time::timeout;

use crate::{
    member::{HEARTBEAT_INTERVAL, Member},
    support::{DEADLINE, Kafka, eventually, eventually_async},
};

const TOPICS: usize = 10;
const PARTITIONS: usize = 1_000;
const ALL: usize = TOPICS * PARTITIONS;
/// Every how manyth partition is written to at a time: some in each topic, and on each broker.
const STEP: usize = 37;

const FETCH: &str = "FetchConsumer";

/// Run it alone: `OTTLA_REAL_KAFKA=1 cargo test --workspace --features ottla/__bench,ottla-mock/tls --test real_kafka -- --ignored --nocapture wide`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes on a busy machine, and three brokers with 350 MB each"]
async fn ten_thousand_partitions_are_resolved_read_and_shared() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let started = Instant::now();
    let topics: Vec<_> = (0..TOPICS).map(|number| kafka.group(&format!("wide-{number}"))).collect();
    for topic in &topics {
        kafka.admin.create_topic(topic, PARTITIONS as i32, 1, &[]).unwrap();
    }
    for topic in &topics {
        eventually("each partition has a leader", DEADLINE, || {
            let leaders = kafka.admin.leaders(topic).unwrap_or_default();
            leaders.len() == PARTITIONS && leaders.values().all(|one| one.leader > 0)
        });
    }
    println!("{ALL} partitions are there after {:.1?}", started.elapsed());
    let written: Vec<_> = (0..ALL).step_by(STEP).collect();
    let produce = || {
        let produce = |at: &usize| {
            let (topic, partition) = (&topics[at / PARTITIONS], (at % PARTITIONS) as i32);
            kafka.admin.produce(&Produce { topic, partition, count: 1, ..Produce::default() }).unwrap();
        };
        // A few at a time: one after the other they would take longer than all else.
        std::thread::scope(|scope| {
            written.chunks(written.len() / 8).for_each(|some| drop(scope.spawn(|| some.iter().for_each(produce))));
        });
        written.len()
    };
    for (protocol, written_before) in [(GroupProtocol::Classic, 0), (GroupProtocol::Consumer, 2 * written.len())] {
        println!("{protocol:?}");
        one_has_all_and_two_share(&kafka, &topics, protocol, written_before, &produce).await;
    }
}

/// Each group reads from the beginning; meanwhile as much as `produce` says is written, twice.
async fn one_has_all_and_two_share(
    kafka: &Kafka,
    topics: &[String],
    protocol: GroupProtocol,
    written_before: usize,
    produce: &dyn Fn() -> usize,
) {
    let written = written_before + produce();
    let group = kafka.group("wide");
    let read = Arc::new(Mutex::new(BTreeMap::new()));
    let has_read = |count: usize| read.lock().unwrap().len() == count;
    let join = async || {
        let settings = Consumer::builder(group.as_str(), kafka.bootstrap().split(',')).offset_reset(OffsetReset::Earliest);
        let settings = settings.heartbeat_interval(HEARTBEAT_INTERVAL).fetch_max_wait(Duration::from_millis(50));
        let consumer = settings.group_protocol(protocol).subscribe(topics.iter().map(String::as_str)).connect().await.unwrap();
        let (events, read) = (consumer.handle().events(), Arc::clone(&read));
        let work = move |delivery: Delivery| {
            *read.lock().unwrap().entry((delivery.topic_partition().clone(), delivery.offset())).or_insert(0) += 1;
            async { delivery.ack() }
        };
        (Member::start(consumer, work), events)
    };

    let (first, mut events) = join().await;
    let mut assigned = 0;
    while assigned < ALL {
        if let GroupEvent::Assigned { partitions, .. } = timeout(DEADLINE, events.next()).await.expect("in time").unwrap() {
            assigned += partitions.len();
        }
    }
    let started = Instant::now();
    eventually_async("each position is known", DEADLINE, || first.handle.lag().len() == ALL).await;
    let took = started.elapsed();
    println!("from the assignment until {ALL} positions are known it takes {took:.1?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    eventually_async("all is read", DEADLINE, || has_read(written)).await;

    for id in 1..=3 {
        let process = kafka.cluster().process_id(id).unwrap();
        let counted = || {
            let admin = &kafka.admin;
            (admin.requests(process, FETCH).unwrap(), admin.all_request_bytes(process, FETCH).unwrap())
        };
        // The first ones still name what was resolved last.
        let (mut before, mut bytes) = (counted(), 0);
        eventually_async("it is asked again and again, in few bytes", DEADLINE, || {
            let now = counted();
            if now.0 < before.0 + 20 {
                return false;
            }
            bytes = (now.1 - before.1) / (now.0 - before.0);
            before = now;
            bytes < 200
        })
        .await;
        println!("a Fetch to broker {id}, where nothing happens, has {bytes} bytes");
    }

    let started = Instant::now();
    let (second, _) = join().await;
    let both = [first, second];
    eventually_async("each has half", DEADLINE, || {
        let held: Vec<_> = both.iter().map(|member| member.handle.assignment()).collect();
        held.iter().all(|held| held.len() == ALL / 2) && held.iter().flatten().collect::<BTreeSet<_>>().len() == ALL
    })
    .await;
    println!("a second member has half of them after {:.1?}", started.elapsed());
    let written = written + produce();
    eventually_async("what is new is read, too", DEADLINE, || has_read(written)).await;
    for member in both {
        assert!(!member.seen().is_empty());
        assert_eq!(member.errors(), Vec::<String>::new());
        member.leave().await;
    }
    assert!(read.lock().unwrap().values().all(|times| *times == 1), "nothing twice");
}
