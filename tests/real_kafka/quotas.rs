//! Quotas: a client that takes more than its share is made to wait, and does (KIP-219); its group does not notice.

use std::time::{Duration, Instant};

use kafka_harness::{Options, Produce};
use ottla::{ConsumerBuilder, GroupProtocol};

use crate::{
    member::{HEARTBEAT_INTERVAL, Member, SESSION_TIMEOUT, builder, counts, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

const PARTITIONS: i32 = 4;
const RECORD_BYTES: usize = 4 * 1024;
const QUOTA_BYTES: u32 = 256 * 1024;
/// Over how long the broker looks back: that much may come at once.
const WINDOW_S: u32 = 9;
/// How long the quota makes the records take that are written at a time: what comes at once, and two sessions of the member.
const LOAD_S: u32 = WINDOW_S + 2 * SESSION_TIMEOUT.as_secs() as u32;
/// How much of the quota one answer takes: so long a client has to wait when that is too much.
const ANSWER_S: u32 = 3;
/// A connection that has to wait is not listened to meanwhile. Who asks all the same is not answered in time, and gives it up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a quota on requests makes a connection wait after each: so far the broker looks back.
const REQUEST_WAIT_S: u32 = 3;
/// Commits and lookups are on the coordinator's connection, too: from heartbeat to heartbeat it may have to wait four times.
const SLOW_SESSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A broker that counts in so many windows, the one that has begun among them, of so many seconds.
fn looking_back(windows: u32, seconds: u32) -> Option<Kafka> {
    let conf = [("quota.window.num", windows), ("quota.window.size.seconds", seconds)];
    let extra_conf = conf.map(|(name, value)| (name.to_owned(), value.to_string())).into();
    Kafka::start(Options { extra_conf, ..Options::default() })
}

/// Its heartbeats have a pace that is the member's own.
fn by_classic_protocol(builder: ConsumerBuilder) -> ConsumerBuilder {
    builder.group_protocol(GroupProtocol::Classic)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_member_reads_at_its_quota_waits_itself_and_stays_in_its_group() {
    let Some(kafka) = looking_back(WINDOW_S + 1, 1) else { return };
    let (group, process) = (kafka.group("throttled"), kafka.cluster().process_id(1).unwrap());
    let client_id = format!("ottla-{group}");
    let quota = |value| kafka.admin.set_quota(&client_id, "consumer_byte_rate", value).unwrap();
    quota(Some(QUOTA_BYTES.into()));
    // What the controller says first, brokers hear first: where there is a topic, there is the quota.
    let topic = kafka.topic("throttled", PARTITIONS);
    let load = (QUOTA_BYTES * LOAD_S) as usize / RECORD_BYTES;
    let produce = || {
        for partition in 0..PARTITIONS {
            let count = (load / PARTITIONS as usize) as u64;
            kafka.admin.produce(&Produce { topic: &topic, partition, count, size: RECORD_BYTES, ..Produce::default() }).unwrap();
        }
    };

    produce();
    let settings = by_classic_protocol(builder(kafka.bootstrap(), &group, &topic)).request_timeout(REQUEST_TIMEOUT);
    let settings = settings.partition_fetch_bytes_max((QUOTA_BYTES * ANSWER_S) as usize / PARTITIONS as usize);
    let member = Member::join(settings).await;
    eventually_async("it begins", DEADLINE, || !member.seen().is_empty()).await;
    let started = Instant::now();
    let mut events = member.handle.events();
    // By then each connection that it needs is there.
    eventually_async("a part has come", DEADLINE, || member.seen().len() > load / 2).await;
    let connections = kafka.admin.connections(process).unwrap();
    let (heartbeats, counting) = (kafka.admin.requests(process, "Heartbeat").unwrap(), Instant::now());
    eventually_async("all has come", DEADLINE, || member.seen().len() == load).await;
    let took = started.elapsed();
    println!("{LOAD_S} s of the quota took {took:.1?}");
    assert!((f64::from(LOAD_S - WINDOW_S)..f64::from(LOAD_S) * 1.6).contains(&took.as_secs_f64()), "{took:?}");
    let heartbeats = kafka.admin.requests(process, "Heartbeat").unwrap() - heartbeats;
    let due = counting.elapsed().div_duration_f64(HEARTBEAT_INTERVAL);
    assert!(heartbeats as f64 > due / 2.0, "its heartbeats are not held up: {heartbeats} of {due:.0}");
    assert_eq!(kafka.admin.connections(process).unwrap(), connections, "it waits, and gives up no connection that is silent");
    let heard = tokio::time::timeout(Duration::ZERO, events.next()).await;
    assert!(heard.is_err(), "nothing happens in its group: {heard:?}");

    let started = Instant::now();
    quota(None);
    produce();
    eventually_async("all of that has come, too", DEADLINE, || member.seen().len() == 2 * load).await;
    let took = started.elapsed();
    println!("without a quota it took {took:.1?}");
    assert!(took < Duration::from_secs(LOAD_S.into()) / 2, "{took:?}");
    assert_eq!(member.errors(), Vec::<String>::new());
    assert!(counts(member.leave().await).into_values().all(|count| count == 1), "nothing twice");
}

/// A quota on requests holds up heartbeats and commits, too: each by more than an answer may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_every_request_is_throttled_holds() {
    let Some(kafka) = looking_back(2, REQUEST_WAIT_S) else { return };
    let (group, process) = (kafka.group("slowed"), kafka.cluster().process_id(1).unwrap());
    let quota = |value| kafka.admin.set_quota(&format!("ottla-{group}"), "request_percentage", value).unwrap();
    // So little that each is above it: then no Fetch brings anything, either.
    quota(Some(0.001));
    let topic = kafka.topic("slowed", PARTITIONS);
    kafka.produce(&topic, PARTITIONS, 50);
    let settings = || {
        let settings = by_classic_protocol(builder(kafka.bootstrap(), &group, &topic));
        settings.request_timeout(REQUEST_TIMEOUT).session_timeout(SLOW_SESSION_TIMEOUT)
    };
    let join = || Member::join(settings());
    let members = [join().await, join().await];
    settled(&members, PARTITIONS).await;
    let mut events = members[0].handle.events();
    let (heartbeats, started) = (|| kafka.admin.requests(process, "Heartbeat").unwrap(), Instant::now());
    let before = heartbeats();
    eventually_async("there are heartbeats", DEADLINE, || heartbeats() > before && started.elapsed() > SLOW_SESSION_TIMEOUT / 2)
        .await;
    // By then each connection that it needs is there.
    let (connections, between) = (kafka.admin.connections(process).unwrap(), heartbeats());
    eventually_async("there are more, for longer than a session", DEADLINE, || {
        heartbeats() > between && started.elapsed() > SLOW_SESSION_TIMEOUT * 5 / 4
    })
    .await;
    let (heartbeats, at_full_pace) = (heartbeats() - before, 2.0 * started.elapsed().div_duration_f64(HEARTBEAT_INTERVAL));
    println!("{heartbeats} heartbeats instead of {at_full_pace:.0}");
    assert!((heartbeats as f64) < at_full_pace / 2.0, "{heartbeats}: they are throttled");
    let heard = tokio::time::timeout(Duration::ZERO, events.next()).await;
    assert!(heard.is_err(), "nothing happens in its group: {heard:?}");
    assert_eq!(kafka.admin.connections(process).unwrap(), connections, "what waits is not given up");
    quota(None);
    eventually_async("all is read, and committed", DEADLINE, || {
        kafka.committed(&group, &topic).into_values().eq([50; PARTITIONS as usize])
    })
    .await;
    for member in members {
        assert_eq!(member.errors(), Vec::<String>::new());
        member.leave().await;
    }
}
