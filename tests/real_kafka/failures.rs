//! Brokers that die, move and lie; settings that cannot work. Each ends in recovery or a clear error, in bounded time.

use std::{
    collections::BTreeSet,
    io::{Read, Seek, SeekFrom, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use kafka_harness::{Options, Produce};
use ottla::{BuildError, ConsumeErrorKind, Consumer, GroupEvent, GroupProtocol, SeekTo};

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
    let cases = [
        (free.to_string(), &["refused"][..]),
        ("no-such-host.invalid:9092".into(), &["no-such-host.invalid"]),
        (http, &["HTTP"]),
        (tls, &["TLS"]),
        (closes, &["ApiVersions"]),
        (huge, &["2147483647"]),
        (garbage, &[]),
    ];
    // All at once: each takes seconds.
    let attempts: Vec<_> = cases
        .map(|(addr, words)| {
            (
                tokio::spawn({
                    let addr = addr.clone();
                    async move { connect(&addr).await }
                }),
                addr,
                words,
            )
        })
        .into();
    for (attempt, addr, words) in attempts {
        let (error, took) = attempt.await.unwrap();
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
    // By the new protocol it is the broker's.
    let settings = settings.group_protocol(GroupProtocol::Classic);
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
    // The ten before may all have come before the broker heard of the rule.
    kafka.produce(&topic, 1, 1);
    loop {
        match tokio::time::timeout(Duration::from_secs(15), records.next()).await.expect("picked up").unwrap() {
            Ok(delivery) if delivery.offset() == 20 => break,
            Ok(delivery) => delivery.ack(),
            Err(error) => assert_eq!(error.kind(), ConsumeErrorKind::Unauthorized),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_group_is_said_and_entered_when_there_is_room() {
    let limits = ["group.max.size", "group.consumer.max.size"];
    let extra_conf = limits.map(|limit| (limit.into(), "1".into())).to_vec();
    let Some(kafka) = Kafka::start(Options { extra_conf, ..Options::default() }) else { return };
    for (protocol, limit) in [GroupProtocol::Classic, GroupProtocol::Consumer].into_iter().zip(limits) {
        a_full_group_is_entered_when_there_is_room(&kafka, protocol, limit).await;
    }
}

async fn a_full_group_is_entered_when_there_is_room(kafka: &Kafka, protocol: GroupProtocol, limit: &str) {
    let (topic, group) = (kafka.topic("full", 1), kafka.group("full"));
    let builder = || builder(kafka.bootstrap(), &group, &topic).group_protocol(protocol);
    kafka.produce(&topic, 1, 1);
    let first = Member::join(builder()).await;
    eventually_async("the group has its one member", DEADLINE, || first.seen().len() == 1).await;
    let mut second = builder().connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(Duration::from_secs(5), second.next()).await.expect("said in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::GroupRefused);
    assert!(error.to_string().contains(limit), "{error}");
    first.leave().await;
    kafka.produce(&topic, 1, 1);
    let delivery = tokio::time::timeout(Duration::from_secs(15), second.next()).await.expect("room is found").unwrap().unwrap();
    assert_eq!(delivery.offset(), 1);
}

/// What a disk, or a bug, may do to a log: the broker sends it as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_batch_is_fetched_again_then_said_and_may_be_stepped_over() {
    let Some(kafka) = Kafka::start(Options::default()) else { return };
    let (topic, group) = (kafka.topic("corrupt", 2), kafka.group("corrupt"));
    for record in 0..3 {
        // A batch each.
        kafka.admin.produce(&Produce { topic: &topic, count: 1, first: record, size: 50, ..Produce::default() }).unwrap();
    }
    kafka.admin.produce(&Produce { topic: &topic, partition: 1, count: 5, ..Produce::default() }).unwrap();
    let log = kafka.cluster().data_folder(1).unwrap().join(format!("{topic}-0/00000000000000000000.log"));
    let sound = std::fs::read(&log).unwrap();
    let needle = kafka_harness::value(&topic, 0, 1, 0).into_bytes();
    let at = sound.windows(needle.len()).position(|bytes| bytes == needle).expect("the second record's value");
    let mut broken = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
    broken.seek(SeekFrom::Start(at as u64)).unwrap();
    broken.write_all(b"X").unwrap();

    let mut records = builder(kafka.bootstrap(), &group, &topic).connect().await.unwrap().at_least_once();
    let (mut seen, mut errors) = (BTreeSet::new(), Vec::new());
    while seen.len() < 6 || errors.is_empty() {
        match tokio::time::timeout(DEADLINE, records.next())
            .await
            .expect("the other partition flows, and the error is said")
            .unwrap()
        {
            Ok(delivery) => {
                seen.insert((delivery.partition(), delivery.offset()));
                delivery.ack();
            }
            Err(error) => errors.push(error),
        }
    }
    assert_eq!(seen, [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)].into());
    let error = &errors[0];
    assert_eq!((error.kind(), error.is_fatal(), errors.len()), (ConsumeErrorKind::Corrupt, false, 1), "{error}");
    let corrupt = error.topic_partition().expect("it concerns one").clone();
    assert!(error.to_string().contains("offset 1") && error.to_string().contains("seek to offset 2"), "{error}");
    assert!(tokio::time::timeout(Duration::from_secs(2), records.next()).await.is_err(), "said once, and no busy loop");
    records.handle().seek(&corrupt, SeekTo::Offset(2));
    let delivery = tokio::time::timeout(DEADLINE, records.next()).await.expect("it goes on").unwrap().unwrap();
    assert_eq!((delivery.partition(), delivery.offset()), (0, 2));
    delivery.ack();
    records.close(DEADLINE).await.unwrap();
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [3, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_records_is_read_on_from_where_it_ends_now() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let (topic, group) = (format!("{}-unclean", kafka.topic("unclean", 1)), kafka.group("unclean"));
    // Broker 2 leads, broker 3 follows; broker 1 has no part in it.
    kafka.admin.create_topic_on(&topic, &[&[2, 3]], &[]).unwrap();
    let leads = |broker: i32| kafka.admin.leaders(&topic).is_ok_and(|all| all.values().all(|one| one.leader == broker));
    eventually_async("broker 2 leads", DEADLINE, || leads(2)).await;
    let settings = builder(kafka.bootstrap(), &group, &topic).session_timeout(Duration::from_secs(30));
    let member = Member::join(settings).await;
    let produce = |first| kafka.admin.produce(&Produce { topic: &topic, count: 10, first, ..Produce::default() }).unwrap();
    produce(0);
    eventually_async("both have it", DEADLINE, || kafka.admin.leaders(&topic).is_ok_and(|all| all[&0].in_sync.len() == 2)).await;
    eventually_async("it is read", DEADLINE, || member.seen().len() == 10).await;
    kafka.cluster().kill_broker(3).unwrap();
    eventually_async("broker 3 is missed", DEADLINE, || kafka.admin.leaders(&topic).is_ok_and(|all| all[&0].in_sync == [2]))
        .await;
    produce(10);
    eventually_async("what only broker 2 has is read, too", DEADLINE, || member.seen().len() == 20).await;
    kafka.cluster().kill_broker(2).unwrap();
    kafka.cluster().start_broker(3).unwrap();
    eventually_async("broker 3 leads, without the last ten records", DEADLINE, || {
        let _ = kafka.admin.elect_unclean(&topic, 0);
        leads(3)
    })
    .await;
    // The offsets 10 to 14 are other records now: read, though higher ones had been read before.
    kafka.admin.produce(&Produce { topic: &topic, count: 5, first: 100, ..Produce::default() }).unwrap();
    eventually_async("what came in place of the lost records is read", DEADLINE, || {
        counts(member.seen()).iter().filter(|((_, offset), count)| (10..15).contains(offset) && **count == 2).count() == 5
    })
    .await;
    kafka.cluster().start_broker(2).unwrap();
    eventually_async("the commit follows", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([15])).await;
    member.leave().await;
}
