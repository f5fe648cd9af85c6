//! The cluster as a test has it.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::io::DuplexStream;

use crate::{
    kafka::{Event, Kafka, MemberView, Release, Request, Settings, Verdict},
    record::Record,
    serve::{self, Listening, Shared, Tasks},
};

/// How long a wait may take before it fails the test.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A Kafka cluster in this process, on ports of its own on loopback. It ends when it is dropped.
///
/// What a test does to it is done when the call returns; only the waits are asynchronous, and they end as soon as what they wait for is
/// so. All functions panic, with what was asked, where a topic, partition or broker does not exist: a test should not go on then.
#[derive(Debug)]
pub struct MockCluster {
    shared: Arc<Shared>,
    ports: BTreeMap<i32, u16>,
    /// They end with the cluster.
    tasks: Mutex<Tasks>,
}

/// Says what a cluster is to be like; see [`MockCluster::builder`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MockClusterBuilder {
    settings: Settings,
    topics: Vec<(String, usize)>,
    listening: Listening,
}

impl MockClusterBuilder {
    /// Sets how many brokers there are (default 1). They are numbered from 1.
    pub fn brokers(mut self, count: i32) -> Self {
        self.settings.brokers = count;
        self
    }

    /// Creates a topic at once.
    pub fn topic(mut self, name: &str, partitions: usize) -> Self {
        self.topics.push((name.to_owned(), partitions));
        self
    }

    /// Announces only the API versions of this release of Kafka, from `"0.11"` on.
    ///
    /// # Panics
    ///
    /// If it is no release that this crate knows.
    #[track_caller]
    pub fn kafka_version(mut self, release: &str) -> Self {
        let known = || format!("{release:?} is no release from {:?} to {:?}", Release::OLDEST, Release::NEWEST);
        self.settings.release = Release::parse(release).unwrap_or_else(|| panic!("{}", known()));
        self
    }

    /// Sets what all chance in the cluster comes from: ids of topics, members and sessions (default 0).
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Lets every broker listen with TLS and nothing else (feature `tls`). The configuration is one of rustls 0.23: it says which
    /// certificate the brokers show (it should be for `127.0.0.1`), and whose certificates their clients must have.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<tokio_rustls::rustls::ServerConfig>>) -> Self {
        self.listening.tls = Some(config.into().into());
        self
    }

    /// Changes any of the [`Settings`].
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts the cluster.
    ///
    /// # Panics
    ///
    /// If no port on loopback can be had.
    pub async fn start(self) -> MockCluster {
        self.try_start().await.unwrap_or_else(|error| panic!("cannot listen on loopback: {error}"))
    }

    async fn try_start(self) -> io::Result<MockCluster> {
        let brokers = self.settings.brokers;
        let shared = Arc::new(Shared::new(self.settings));
        let mut tasks = Tasks::new();
        let mut ports = BTreeMap::new();
        for broker in 1..=brokers {
            ports.insert(broker, serve::listen(&shared, &mut tasks, broker, &self.listening).await?);
        }
        tasks.spawn(Arc::clone(&shared).tick());
        let cluster = MockCluster { shared, ports, tasks: Mutex::new(tasks) };
        for (name, partitions) in &self.topics {
            cluster.create_topic(name, *partitions);
        }
        Ok(cluster)
    }
}

impl MockCluster {
    /// Starts a cluster of one broker that speaks like the newest Kafka.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Begins to describe a cluster.
    pub fn builder() -> MockClusterBuilder {
        MockClusterBuilder::default()
    }

    /// Returns where the brokers are, as clients want to be told: `host:port`, with commas between.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        let servers: Vec<_> = self.ports.values().map(|port| format!("127.0.0.1:{port}")).collect();
        servers.join(",")
    }

    /// Connects to a broker without any socket, for clients that can speak through any stream.
    #[must_use]
    #[track_caller]
    pub fn connect(&self, broker: i32) -> DuplexStream {
        assert!(self.ports.contains_key(&broker), "there is no broker {broker}: there are {}, from 1", self.ports.len());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        serve::connect(&self.shared, &mut tasks, broker)
    }

    /// Does anything to the cluster that [`Kafka`] can: everything here and much more.
    pub fn with<T>(&self, act: impl FnOnce(&mut Kafka) -> T) -> T {
        self.shared.with(act)
    }

    /// Creates a topic, its partitions led by the brokers in turn.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: usize) {
        self.with(|kafka| kafka.create_topic(name, partitions));
    }

    /// Appends records to a partition; returns the offset of the first.
    #[track_caller]
    pub fn append<R: Into<Record>>(&self, topic: &str, partition: i32, records: impl IntoIterator<Item = R>) -> i64 {
        self.with(|kafka| kafka.append(topic, partition, records))
    }

    /// Returns what a group has committed, by topic and partition: the next offset to read.
    #[must_use]
    pub fn committed(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        self.shared.look(|kafka| kafka.committed(group))
    }

    /// Returns who is in a group, with what each was assigned.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<MemberView> {
        self.shared.look(|kafka| kafka.members(group))
    }

    /// Lets `judge` decide what becomes of every request to this API.
    pub fn intercept(&self, api: crate::Api, judge: impl FnMut(&Request<'_>) -> Verdict + Send + 'static) {
        self.with(|kafka| kafka.intercept(api, judge));
    }

    /// Lets the next `times` requests to this API have this fate.
    pub fn fail_next(&self, api: crate::Api, times: usize, verdict: Verdict) {
        self.with(|kafka| kafka.fail_next(api, times, verdict));
    }

    /// Kills a broker: its connections end, other replicas lead its partitions, other brokers coordinate its groups.
    #[track_caller]
    pub fn kill_broker(&self, broker: i32) {
        self.with(|kafka| kafka.kill_broker(broker));
    }

    /// Starts a broker again, with everything that it had.
    #[track_caller]
    pub fn restart_broker(&self, broker: i32) {
        self.with(|kafka| kafka.restart_broker(broker));
    }

    /// Takes what happened since the last time: commits, generations, members that went.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        self.shared.take_events()
    }

    /// Waits until `done` says so of the cluster; it is asked again after everything that happens in it.
    ///
    /// # Panics
    ///
    /// If it does not come to pass within 30 s, with `what`.
    #[track_caller]
    pub fn wait_until<'a>(&'a self, what: &'a str, done: impl Fn(&Kafka) -> bool + 'a) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut changes = self.shared.changes();
            let wait = async {
                while !self.shared.look(&done) {
                    changes.changed().await.expect("the cluster is there as long as this borrows it");
                }
            };
            if tokio::time::timeout(WAIT_MAX, wait).await.is_err() {
                let groups = self.shared.look(Kafka::describe_groups);
                panic!("{caller}: waited {WAIT_MAX:?} for: {what}\n{groups}");
            }
        }
    }

    /// Waits until a group is stable with so many members.
    #[track_caller]
    pub fn wait_for_members<'a>(&'a self, group: &'a str, count: usize) -> impl Future<Output = ()> + 'a {
        self.wait_until("a stable group with so many members", move |kafka| {
            kafka.group_state(group) == Some("Stable") && kafka.members(group).len() == count
        })
    }

    /// Waits until a group has committed this offset, or a later one.
    #[track_caller]
    pub fn wait_for_committed<'a>(
        &'a self,
        group: &'a str,
        topic: &'a str,
        partition: i32,
        offset: i64,
    ) -> impl Future<Output = ()> + 'a {
        self.wait_until("a commit", move |kafka| {
            kafka.committed(group).get(&(topic.to_owned(), partition)).is_some_and(|committed| *committed >= offset)
        })
    }
}
