//! Other people's clients on the mock, over TCP: Java's, librdkafka and franz-go join, read, commit, share and leave.
//!
//! They need a JDK, Python and Go, so they run where `OTTLA_REAL_KAFKA=1` says that these are there (`cargo xtask test`).

#![allow(clippy::disallowed_methods, reason = "other processes take real time")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use kafka_harness::{Admin, DEFAULT_VERSION, JavaMember, Librdkafka, MemberStatus, Outcome, Produce};
use ottla::{Consumer, Handle, OffsetReset};
use ottla_mock::MockCluster;

const DEADLINE: Duration = Duration::from_secs(40);
const GROUP: &str = "group";
const TOPIC: &str = "topic";
const PARTITIONS: i32 = 4;

/// A member of the group, whoever wrote it.
trait Member {
    fn status(&self) -> MemberStatus;
    fn leave(self: Box<Self>) -> MemberStatus;
}

impl Member for JavaMember<'static> {
    fn status(&self) -> MemberStatus {
        JavaMember::status(self).expect("Java's status")
    }

    fn leave(self: Box<Self>) -> MemberStatus {
        self.stop().expect("Java leaves")
    }
}

impl Member for Librdkafka {
    fn status(&self) -> MemberStatus {
        Librdkafka::status(self)
    }

    fn leave(self: Box<Self>) -> MemberStatus {
        self.stop()
    }
}

struct Ottla {
    handle: Handle,
    seen: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Ottla {
    async fn join(bootstrap: &str) -> Self {
        let builder = Consumer::builder(GROUP, bootstrap.split(',')).subscribe([TOPIC]).offset_reset(OffsetReset::Earliest);
        let builder = builder.heartbeat_interval(Duration::from_millis(300)).commit_interval(Duration::from_millis(100));
        let mut records = builder.connect().await.expect("connect").at_least_once();
        let (handle, seen) = (records.handle(), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(delivery) = records.next().await {
                delivery.expect("a record").ack();
                *count.lock().unwrap() += 1;
            }
        });
        Self { handle, seen, task }
    }

    async fn leave(self) {
        self.handle.shutdown(DEADLINE);
        self.task.await.expect("the member's task does not panic");
    }
}

/// Plays one client's life on the mock: alone, beside another of its kind, and beside ottla where that speaks the group's protocol.
async fn lives(brokers: i32, join: impl Fn(&MockCluster, &str) -> Box<dyn Member>, beside_ottla: bool) {
    let mock = MockCluster::builder().brokers(brokers).topic(TOPIC, PARTITIONS as usize).start().await;
    let append = |count: usize| {
        for partition in 0..PARTITIONS {
            mock.append(TOPIC, partition, (0..count).map(|n| format!("value-{n}")));
        }
    };
    let committed = |offset: i64| {
        let all = mock.committed(GROUP);
        all.len() == PARTITIONS as usize && all.values().all(|committed| *committed == offset)
    };

    append(10);
    let first = join(&mock, "first");
    eventually("it has read everything", || healthy(&*first).records() == 40).await;
    eventually("it has committed everything", || committed(10)).await;
    assert_eq!(shares(&mock), [4]);

    let second = join(&mock, "second");
    eventually("the two share", || held(&*first, &*second) == [2, 2]).await;
    mock.wait_until("the mock knows who has what", |kafka| {
        kafka.members(GROUP).iter().map(|member| member.assignment.len()).eq([2, 2])
    })
    .await;
    append(5);
    eventually("each reads its own", || healthy(&*first).records() + healthy(&*second).records() == 60).await;
    eventually("both commit", || committed(15)).await;
    let (one, other) = (healthy(&*first), healthy(&*second));
    assert_eq!((one.records(), other.records()), (50, 10), "nothing is read twice");

    let last = first.leave();
    assert_eq!(last.failure, "");
    eventually("who is left has everything", || healthy(&*second).assigned.len() == 4).await;
    if beside_ottla {
        let ottla = Ottla::join(&mock.bootstrap_servers()).await;
        eventually("it shares with ottla", || healthy(&*second).assigned.len() == 2 && ottla.handle.assignment().len() == 2)
            .await;
        append(5);
        eventually("each reads its own", || healthy(&*second).records() == 20 && *ottla.seen.lock().unwrap() == 10).await;
        eventually("both commit", || committed(20)).await;
        ottla.leave().await;
        eventually("who is left has everything", || healthy(&*second).assigned.len() == 4).await;
    }
    assert_eq!(second.leave().failure, "");
    mock.wait_until("the group is empty", |kafka| kafka.members(GROUP).is_empty()).await;
    assert_eq!(mock.with(|kafka| kafka.malformed().to_vec()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn java_lives_on_the_mock() {
    if is_wanted() {
        lives(1, |mock, name| java(mock, name, &FAST), true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn java_lives_on_the_mock_in_a_consumer_group() {
    if is_wanted() {
        lives(3, |mock, name| java(mock, name, &MODERN), false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_lives_on_the_mock() {
    if is_wanted() {
        lives(3, |mock, _| librdkafka(mock, &FAST), true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_lives_on_the_mock_in_a_consumer_group() {
    if is_wanted() {
        lives(1, |mock, _| librdkafka(mock, &MODERN), false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn franz_go_lives_on_the_mock() {
    let Some(franz) = franz_go() else { return };
    let join = |mock: &MockCluster, _: &str| -> Box<dyn Member> {
        let mut command = Command::new(franz);
        command.args([&mock.bootstrap_servers(), GROUP, TOPIC]);
        Box::new(Librdkafka::run(command).expect("franz-go"))
    };
    lives(3, join, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_writes_to_the_mock_also_in_transactions() {
    if !is_wanted() {
        return;
    }
    let mock = MockCluster::builder().brokers(3).topic(TOPIC, 1).start().await;
    let admin = Admin::start(&mock.bootstrap_servers(), DEFAULT_VERSION).expect("the admin shell");
    let records = Produce { topic: TOPIC, count: 10, ..Produce::default() };
    tokio::task::block_in_place(|| {
        assert_eq!(admin.produce(&records).unwrap(), (0, 9));
        assert_eq!(admin.produce_in_transaction("id", &records, Outcome::Commit, false).unwrap(), (10, 19));
        assert_eq!(admin.produce_in_transaction("id", &records, Outcome::Abort, false).unwrap(), (21, 30));
        assert_eq!(admin.produce_in_transaction("id", &records, Outcome::Open, false).unwrap(), (32, 41));
        assert_eq!(admin.end_offsets(TOPIC).unwrap()[&0], 42);
    });
    let visible: Vec<_> = mock.with(|kafka| kafka.records(TOPIC, 0)).into_iter().map(|record| record.offset).collect();
    assert_eq!(visible, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn franz_go_writes_to_the_mock_in_transactions() {
    let Some(franz) = franz_go() else { return };
    let mock = MockCluster::builder().topic(TOPIC, 1).start().await;
    let output = tokio::task::block_in_place(|| {
        Command::new(franz).args([&mock.bootstrap_servers(), GROUP, TOPIC, "id"]).output().expect("franz-go runs")
    });
    assert_eq!(String::from_utf8_lossy(&output.stdout), "wrote\n");
    assert_eq!(mock.with(|kafka| kafka.records(TOPIC, 0)).len(), 10);
}

/// Settings that make what takes long take short.
const FAST: [(&str, &str); 2] = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")];
const MODERN: [(&str, &str); 1] = [("group.protocol", "consumer")];

fn java(mock: &MockCluster, name: &str, configs: &[(&str, &str)]) -> Box<dyn Member> {
    // It serves until the test program ends, as its members do.
    let admin: &'static Admin =
        Box::leak(Box::new(Admin::start(&mock.bootstrap_servers(), DEFAULT_VERSION).expect("the admin shell")));
    Box::new(admin.join(name, GROUP, &[TOPIC], "range", configs).expect("Java joins"))
}

fn librdkafka(mock: &MockCluster, configs: &[(&str, &str)]) -> Box<dyn Member> {
    Box::new(Librdkafka::join(&mock.bootstrap_servers(), GROUP, &[TOPIC], "range", configs).expect("librdkafka joins"))
}

/// Builds the program on franz-go, once; `None`, and a note, where there is no Go.
fn franz_go() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    if !is_wanted() {
        return None;
    }
    let build = || {
        let is_there = Command::new("go").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
        if !is_there {
            eprintln!("not tested: there is no Go on this machine");
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("franz-go");
        fs::create_dir_all(&folder).expect("a folder for the program");
        let program = folder.join("franz");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/franz-go");
        let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).status();
        assert!(built.expect("go runs").success(), "franz-go builds");
        Some(program)
    };
    PROGRAM.get_or_init(build).as_deref()
}

fn is_wanted() -> bool {
    let is_wanted = env::var_os("OTTLA_REAL_KAFKA").is_some();
    if !is_wanted {
        eprintln!("needs Java, Python and Go: run cargo xtask test");
    }
    is_wanted
}

fn healthy(member: &dyn Member) -> MemberStatus {
    let status = member.status();
    assert_eq!(status.failure, "");
    status
}

fn held(one: &dyn Member, other: &dyn Member) -> [usize; 2] {
    let (one, other) = (healthy(one).assigned, healthy(other).assigned);
    let all: BTreeSet<_> = one.iter().chain(&other).collect();
    if all.len() == PARTITIONS as usize { [one.len(), other.len()] } else { [0, 0] }
}

/// How many partitions the mock thinks that each member has.
fn shares(mock: &MockCluster) -> Vec<usize> {
    mock.members(GROUP).iter().map(|member| member.assignment.len()).collect()
}

/// Looks again and again until a condition holds; other tasks, the mock's among them, go on meanwhile.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !tokio::task::block_in_place(&mut condition) {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
