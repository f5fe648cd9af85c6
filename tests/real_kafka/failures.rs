//! Brokers that die, move and lie; settings that cannot work. Each ends in recovery or a clear error, in bounded time.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use kafka_harness::Options;
use ottla::{BuildError, ConsumeErrorKind, Consumer, GroupEvent};

use crate::{
    member::{Member, all_places, builder, counts, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_and_leaders_are_killed_and_nothing_is_lost() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let (topic, group) = (kafka.topic("failover", 6), kafka.group("failover"));
    let settings = || builder(kafka.bootstrap(), &group, &topic).session_timeout(Duration::from_secs(20));
    let members = [Member::join(settings()).await, Member::join(settings()).await];
    settled(&members, 6).await;
    let mut events = members[0].handle.events();
    let mut produced = 0;
    for round in 0..3 {
        let coordinator = kafka.admin.group(&group).unwrap().coordinator;
        kafka.produce(&topic, 6, 20);
        produced += 20;
        // The coordinator leads partitions, too.
        if round == 2 {
            kafka.cluster().stop_broker(coordinator as usize).unwrap()
        } else {
            kafka.cluster().kill_broker(coordinator as usize).unwrap()
        }
        kafka.produce(&topic, 6, 20);
        produced += 20;
        eventually_async("all is read", DEADLINE, || {
            members.iter().flat_map(Member::seen).collect::<BTreeSet<_>>() == all_places(6, produced)
        })
        .await;
        kafka.cluster().start_broker(coordinator as usize).unwrap();
        eventually_async("all replicas are in sync", DEADLINE, || {
            kafka.admin.leaders(&topic).is_ok_and(|all| all.values().all(|one| one.in_sync.len() == 3))
        })
        .await;
    }
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([produced; 6])).await;
    let mut joins = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), events.next()).await {
        joins += usize::from(matches!(event, GroupEvent::Rejoining { .. }));
    }
    assert!(joins <= 6, "no storm of rejoins over three failovers: {joins}");
    let mut seen = Vec::new();
    for member in members {
        seen.extend(member.leave().await);
    }
    let most = counts(seen).into_values().max().unwrap();
    assert!(most <= 4, "a record is repeated at most once per failover: {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_leader_holds_up_only_its_own_partitions() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let (topic, group) = (kafka.topic("halted", 3), kafka.group("halted"));
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic).request_timeout(Duration::from_secs(3))).await;
    kafka.produce(&topic, 3, 10);
    eventually_async("all is read", DEADLINE, || member.seen().len() == 30).await;
    let coordinator = kafka.admin.group(&group).unwrap().coordinator;
    let leaders = kafka.admin.leaders(&topic).unwrap();
    let halted = leaders.values().map(|one| one.leader).find(|leader| *leader != coordinator).unwrap();
    kafka.cluster().pause_broker(halted as usize).unwrap();
    for (partition, _) in leaders.iter().filter(|(_, one)| one.leader != halted) {
        let records = kafka_harness::Produce {
            topic: &topic,
            partition: *partition,
            count: 5,
            configs: &[("acks", "1")],
            ..Default::default()
        };
        kafka.admin.produce(&records).unwrap();
    }
    let others = leaders.values().filter(|one| one.leader != halted).count();
    eventually_async("the others flow", Duration::from_secs(20), || member.seen().len() >= 30 + others * 5).await;
    kafka.cluster().resume_broker(halted as usize).unwrap();
    kafka.produce(&topic, 3, 5);
    eventually_async("all flows again", DEADLINE, || counts(member.seen()).len() == 45 + others * 5).await;
    member.leave().await;
}

/// What connecting to `addr` ends in, and how long that took.
async fn connect(addr: &str) -> (BuildError, Duration) {
    let started = Instant::now();
    let error = Consumer::builder("group", [addr]).subscribe(["topic"]).connect().await.map(drop).unwrap_err();
    (error, started.elapsed())
}

/// A server that answers each connection's first bytes with `answer` and closes.
fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if !answer.is_empty() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_lead_nowhere_are_clear_errors_in_time() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = server(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let tls = server(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46]);
    let closes = server(b"");
    let huge = server(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
    let garbage = server(&[0, 0, 0, 8, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef]);
    for (addr, words) in [
        (free.to_string(), &["refused"][..]),
        ("no-such-host.invalid:9092".into(), &["no-such-host.invalid"]),
        (http, &["HTTP"]),
        (tls, &["TLS"]),
        (closes, &["closed"]),
        (huge, &["2147483647"]),
        (garbage, &[]),
    ] {
        let (error, took) = connect(&addr).await;
        let text = error.to_string();
        assert!(text.contains(&addr), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{addr}: {text}");
        assert!(took < Duration::from_secs(11), "{took:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_good_address_among_bad_ones_is_enough() {
    let Some(kafka) = Kafka::shared() else { return };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let http = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let topic = kafka.topic("bootstrap", 1);
    let good = kafka.bootstrap().split(',').next().unwrap();
    let consumer = Consumer::builder(kafka.group("bootstrap"), [free.as_str(), &http, good]).subscribe([topic]).connect().await;
    assert!(consumer.is_ok(), "{:?}", consumer.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_timeout_that_the_broker_refuses_ends_the_stream_with_its_reason() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.topic("session", 1);
    let settings = builder(kafka.bootstrap(), &kafka.group("session"), &topic).session_timeout(Duration::from_secs(7200));
    let mut records = settings.connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(Duration::from_secs(5), records.next()).await.expect("said in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::GroupRefused);
    assert!(error.is_fatal() && error.to_string().contains("session.timeout"), "{error}");
    assert!(records.next().await.is_none(), "a fatal error is the last item");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_permissions_are_said_once_and_access_given_back_is_picked_up() {
    let acl = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let extra_conf = acl.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let Some(kafka) = Kafka::start(Options { extra_conf, ..Options::default() }) else { return };
    let (topic, group) = (kafka.topic("acl", 1), kafka.group("acl"));
    kafka.produce(&topic, 1, 10);
    kafka.admin.deny("group", &group, "READ").unwrap();
    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(Duration::from_secs(5), records.next()).await.expect("said in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::Unauthorized);
    assert!(error.to_string().contains(&group), "{error}");
    assert!(tokio::time::timeout(Duration::from_secs(3), records.next()).await.is_err(), "said once");
    kafka.admin.undeny("group", &group).unwrap();
    let delivery = tokio::time::timeout(Duration::from_secs(15), records.next()).await.expect("picked up").unwrap().unwrap();
    assert_eq!(delivery.offset(), 0);
    delivery.ack();
    kafka.admin.deny("topic", &topic, "READ").unwrap();
    kafka.produce(&topic, 1, 10);
    let error = loop {
        match tokio::time::timeout(Duration::from_secs(10), records.next()).await.expect("said in time").unwrap() {
            Ok(delivery) => delivery.ack(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ConsumeErrorKind::Unauthorized);
    assert!(error.to_string().contains(&topic), "{error}");
    kafka.admin.undeny("topic", &topic).unwrap();
    loop {
        match tokio::time::timeout(Duration::from_secs(15), records.next()).await.expect("picked up").unwrap() {
            Ok(delivery) if delivery.offset() == 19 => break,
            Ok(delivery) => delivery.ack(),
            Err(error) => assert_eq!(error.kind(), ConsumeErrorKind::Unauthorized),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_group_is_said_and_entered_when_there_is_room() {
    let extra_conf = vec![("group.max.size".into(), "1".into())];
    let Some(kafka) = Kafka::start(Options { extra_conf, ..Options::default() }) else { return };
    let (topic, group) = (kafka.topic("full", 1), kafka.group("full"));
    kafka.produce(&topic, 1, 1);
    let first = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("the group has its one member", DEADLINE, || first.seen().len() == 1).await;
    let mut second = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(Duration::from_secs(5), second.next()).await.expect("said in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::GroupRefused);
    assert!(error.to_string().contains("group.max.size"), "{error}");
    first.leave().await;
    kafka.produce(&topic, 1, 1);
    let delivery = tokio::time::timeout(Duration::from_secs(15), second.next()).await.expect("room is found").unwrap().unwrap();
    assert_eq!(delivery.offset(), 1);
}
