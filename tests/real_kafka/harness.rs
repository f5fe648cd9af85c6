//! The harness itself, without ottla: what the other tests stand on.

use std::{
    env,
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use kafka_harness::{Librdkafka, Options, Outcome, Produce, Seen, eventually as holds_within};

use crate::support::{DEADLINE, Kafka, eventually};

#[test]
fn java_reads_what_java_produced_and_the_tool_agrees() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("demonstration", 3), kafka.group("demonstration"));
    kafka.produce(&topic, 3, 100);
    assert_eq!(kafka.admin.end_offsets(&topic).unwrap().into_values().collect::<Vec<_>>(), [100, 100, 100]);

    let member = kafka.admin.join("java", &group, &[&topic], "range", &[("enable.auto.commit", "false")]).unwrap();
    eventually("the member has read everything", DEADLINE, || member.status().unwrap().records() == 300);
    assert_eq!(member.status().unwrap().seen[&(topic.clone(), 2)], Seen(vec![0..=99]));
    assert!(kafka.committed(&group, &topic).is_empty());
    member.commit().unwrap();
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [100, 100, 100]);

    let described = kafka.admin.group(&group).unwrap();
    assert_eq!((described.state.as_str(), described.assignor.as_str(), described.members.len()), ("Stable", "range", 1));
    assert_eq!(described.members[0].assigned.len(), 3);
    let told = kafka.consumer_groups().run(&["--describe", "--group", &group]).unwrap();
    assert_eq!(told.matches(&topic).count(), 3, "{told}");
    member.stop().unwrap();
    assert_eq!(kafka.admin.group(&group).unwrap().state, "Empty");
}

#[test]
fn java_and_librdkafka_share_a_group() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("shared", 4), kafka.group("shared"));
    let java = kafka.admin.join("beside-librdkafka", &group, &[&topic], "roundrobin", &[]).unwrap();
    let librdkafka = Librdkafka::join(kafka.bootstrap(), &group, &[&topic], "roundrobin", &[]).unwrap();
    eventually("each has two partitions", DEADLINE, || {
        assert_eq!(librdkafka.status().failure, "");
        java.status().unwrap().assigned.len() == 2 && librdkafka.status().assigned.len() == 2
    });
    kafka.produce(&topic, 4, 50);
    eventually("each has read its half", DEADLINE, || {
        java.status().unwrap().records() == 100 && librdkafka.status().records() == 100
    });
    assert_eq!(librdkafka.stop().failure, "");
    eventually("Java has all partitions", DEADLINE, || java.status().unwrap().assigned.len() == 4);
    java.stop().unwrap();
    assert!(kafka.committed(&group, &topic).into_values().eq([50; 4]));
}

#[test]
fn records_of_a_transaction_are_seen_when_it_is_committed_and_never_when_it_is_aborted() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("transactions", 1), kafka.group("transactions"));
    let records =
        Produce { topic: &topic, count: 10, codec: "zstd", key: Some("k"), headers: &[("h", "1")], ..Produce::default() };
    let produce = |outcome, join| kafka.admin.produce_in_transaction(&topic, &records, outcome, join).unwrap();
    assert_eq!(produce(Outcome::Commit, false), (0, 9));
    // Offset 10 holds the marker of the commit.
    assert_eq!(produce(Outcome::Abort, false), (11, 20));
    assert_eq!(produce(Outcome::Open, false), (22, 31));
    assert_eq!(produce(Outcome::Open, true), (32, 41));

    let committed = [("isolation.level", "read_committed")];
    let member = kafka.admin.join("read-committed", &group, &[&topic], "range", &committed).unwrap();
    let has_seen = |runs: &[_]| member.status().unwrap().seen.values().eq([&Seen(runs.to_vec())]);
    eventually("the committed records are seen", DEADLINE, || has_seen(&[0..=9]));
    kafka.admin.end_transaction(&topic, Outcome::Commit).unwrap();
    eventually("the open transaction's are, too", DEADLINE, || has_seen(&[0..=9, 22..=41]));
    member.stop().unwrap();
}

#[test]
fn topics_and_groups_change_as_asked() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group, admin) = (kafka.topic("changes", 1), kafka.group("changes"), &kafka.admin);
    kafka.produce(&topic, 1, 20);
    admin.delete_records(&topic, 0, 5).unwrap();
    assert_eq!(admin.start_offsets(&topic).unwrap()[&0], 5);
    admin.add_partitions(&topic, 2).unwrap();
    eventually("the partition is there", DEADLINE, || admin.leaders(&topic).unwrap().len() == 2);
    admin.alter_config("topic", &topic, &[("cleanup.policy", "compact")]).unwrap();

    admin.alter_offset(&group, &topic, 0, 7).unwrap();
    assert_eq!(kafka.committed(&group, &topic)[&0], 7);
    admin.delete_offsets(&group, &topic, 0).unwrap();
    assert!(kafka.committed(&group, &topic).is_empty());

    admin.delete_topic(&topic).unwrap();
    eventually("the topic is gone", DEADLINE, || admin.end_offsets(&topic).is_err());
    let refused = admin.create_topic("no/such/name", 1, 1, &[]).unwrap_err();
    assert!(refused.to_string().contains("InvalidTopic"), "{refused}");
}

#[test]
fn brokers_are_killed_stopped_paused_and_come_back() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let (admin, cluster) = (&kafka.admin, kafka.cluster());
    let topic = kafka.topic("failover", 3);
    kafka.produce(&topic, 3, 10);
    let is_led_by = |broker: i32| admin.leaders(&topic).is_ok_and(|all| all.values().any(|one| one.leader == broker));
    let in_sync = |wanted: usize| admin.leaders(&topic).is_ok_and(|all| all.values().all(|one| one.in_sync.len() == wanted));
    eventually("all replicas are in sync", DEADLINE, || in_sync(3));

    cluster.kill_broker(1).unwrap();
    eventually("the killed broker leads nothing", DEADLINE, || !is_led_by(1));
    kafka.produce(&topic, 3, 10);
    cluster.start_broker(1).unwrap();
    eventually("it has caught up", DEADLINE, || in_sync(3));
    admin
        .elect_preferred(
            &topic,
            admin.leaders(&topic).unwrap().iter().find(|(_, one)| one.replicas[0] == 1).map(|(n, _)| *n).unwrap(),
        )
        .unwrap();
    eventually("it leads again", DEADLINE, || is_led_by(1));

    cluster.pause_broker(2).unwrap();
    eventually("the halted broker leads nothing", DEADLINE, || !is_led_by(2));
    cluster.resume_broker(2).unwrap();
    eventually("it has caught up", DEADLINE, || in_sync(3));

    cluster.stop_broker(3).unwrap();
    assert!(cluster.stop_broker(3).is_err(), "it does not run");
    eventually("the stopped broker leads nothing", DEADLINE, || !is_led_by(3));
    assert_eq!(kafka.end_offset(&topic, 0), 20);
}

/// The same program once more plays the test that is killed while its broker runs.
#[test]
fn brokers_do_not_outlive_a_killed_test() {
    const PLAY: &str = "OTTLA_TEST_TO_BE_KILLED";
    if env::var_os(PLAY).is_some() {
        let kafka = Kafka::start(Options::default()).expect("asked for by the outer test");
        println!("\nlistens at {}", kafka.bootstrap());
        std::thread::sleep(DEADLINE);
        return;
    }
    if Kafka::shared().is_none() {
        return;
    }
    let name = "harness::brokers_do_not_outlive_a_killed_test";
    let mut test = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PLAY, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(test.stdout.take().unwrap()));
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("listens at "));
    let address =
        line.as_deref().and_then(|line| line.strip_prefix("listens at ")).expect("the inner test starts its broker").to_owned();
    assert!(TcpStream::connect(&address).is_ok());

    test.kill().unwrap();
    test.wait().unwrap();

    assert!(holds_within(Duration::from_secs(20), || TcpStream::connect(&address).is_err()), "the broker at {address} lives on");
}

/// Fetches a few hundred megabytes: run it when the harness learns of a new version.
#[test]
#[ignore = "fetches seven versions of Kafka"]
fn every_era_of_kafka_starts() {
    for version in ["0.11.0.3", "1.1.1", "2.1.1", "2.8.2", "3.3.2", "3.9.2", "4.4.0"] {
        let started = std::time::Instant::now();
        let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
        let started_s = started.elapsed().as_secs_f32();
        let (topic, group) = (kafka.topic("era", 2), kafka.group("era"));
        kafka.produce(&topic, 2, 10);
        let member = kafka.admin.join("java", &group, &[&topic], "range", &[]).unwrap();
        eventually("the member has read everything", DEADLINE, || member.status().unwrap().records() == 20);
        member.stop().unwrap();
        let told = kafka.consumer_groups().run(&["--describe", "--group", &group]).unwrap();
        assert_eq!(told.matches(&topic).count(), 2, "{told}");
        println!("{version}: {started_s:.1} s to start, {:.1} s in all", started.elapsed().as_secs_f32());
    }
}
