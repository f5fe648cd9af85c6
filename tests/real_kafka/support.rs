//! What tests against real Kafka have in common.

use std::{
    collections::BTreeMap,
    env,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kafka_harness::{Admin, Cluster, ConsumerGroups, DEFAULT_VERSION, Options, Produce};

/// How long a test waits for what must happen: generous, for it is spent only when the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// The pace of members by the consumer protocol (KIP-848) is the broker's to say; by default 5 s and 45 s. Older brokers know nothing of it.
const QUICK_MEMBERS: [(&str, &str); 4] = [
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "300"),
    ("group.consumer.min.session.timeout.ms", "500"),
    ("group.consumer.session.timeout.ms", "6000"),
];

/// A cluster and, beside it, a JVM that does what others would do.
pub(crate) struct Kafka {
    pub(crate) admin: Admin,
    bootstrap: String,
    version: String,
    /// `None` for brokers that somebody else started.
    cluster: Option<Cluster>,
}

impl Kafka {
    /// Returns the one broker that all tests share: that of `KAFKA_BOOTSTRAP_SERVERS`, or one of our own. It is never stopped.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        is_wanted().then(|| {
            SHARED.get_or_init(|| match env::var("KAFKA_BOOTSTRAP_SERVERS") {
                Ok(bootstrap) => {
                    let admin = Admin::start(&bootstrap, DEFAULT_VERSION).expect("the admin shell");
                    Self { admin, bootstrap, version: DEFAULT_VERSION.into(), cluster: None }
                }
                Err(_) => Self::of(Options::default()),
            })
        })
    }

    /// Starts three brokers for one test, which may do to them what it likes.
    pub(crate) fn three_nodes() -> Option<Self> {
        Self::start(Options { nodes: 3, ..Options::default() })
    }

    /// Starts a cluster for one test.
    pub(crate) fn start(options: Options) -> Option<Self> {
        is_wanted().then(|| Self::of(options))
    }

    fn of(mut options: Options) -> Self {
        let version = options.version.clone();
        options.extra_conf.extend(QUICK_MEMBERS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let cluster = Cluster::start(options).expect("a real Kafka");
        let admin = Admin::start(&cluster.bootstrap(), &version).expect("the admin shell");
        Self { admin, bootstrap: cluster.bootstrap(), version, cluster: Some(cluster) }
    }

    /// Returns the bootstrap servers, separated by commas.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Returns the brokers of a test's own cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("only a test with a cluster of its own stops brokers")
    }

    /// Returns Kafka's own tool for groups.
    pub(crate) fn consumer_groups(&self) -> ConsumerGroups {
        ConsumerGroups::of(&self.bootstrap, &self.version).expect("Kafka's tools")
    }

    /// Creates a topic, on three brokers where there are three, and returns its name: `name` with something that makes it unique.
    pub(crate) fn topic(&self, name: &str, partitions: i32) -> String {
        let topic = unique(name);
        let replication = self.bootstrap.split(',').count().min(3) as i16;
        self.admin.create_topic(&topic, partitions, replication, &[]).expect("create a topic");
        // The answer comes when the controller has it; the brokers hear a moment later.
        eventually("every partition has a leader", DEADLINE, || {
            let leaders = self.admin.leaders(&topic).unwrap_or_default();
            leaders.len() == partitions as usize && leaders.values().all(|partition| partition.leader >= 0)
        });
        topic
    }

    /// Returns a name for a group that no earlier run has used.
    pub(crate) fn group(&self, name: &str) -> String {
        unique(name)
    }

    /// Produces `count` further records to each partition of a topic; see [`kafka_harness::value`] for what they hold.
    pub(crate) fn produce(&self, topic: &str, partitions: i32, count: u64) {
        for partition in 0..partitions {
            let records =
                Produce { topic, partition, count, first: self.end_offset(topic, partition) as u64, ..Produce::default() };
            self.admin.produce(&records).expect("produce");
        }
    }

    /// Tells the offset after a partition's last record.
    pub(crate) fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        self.admin.end_offsets(topic).expect("list offsets")[&partition]
    }

    /// Tells the offsets that a group has committed for a topic, by partition.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let all = self.admin.committed(group).expect("list committed offsets");
        all.into_iter().filter(|((of, _), _)| of == topic).map(|((_, partition), lag)| (partition, lag.offset)).collect()
    }
}

/// Looks again and again until a condition holds.
///
/// # Panics
///
/// When it does not within `deadline`.
#[track_caller]
pub(crate) fn eventually(what: &str, deadline: Duration, condition: impl FnMut() -> bool) {
    assert!(kafka_harness::eventually(deadline, condition), "not within {deadline:?}: {what}");
}

/// As [`eventually`], from an async test: other tasks go on meanwhile.
///
/// # Panics
///
/// When it does not within `deadline`.
pub async fn eventually_async(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + deadline;
    loop {
        let asked = Instant::now();
        // The condition may take its time (a question to a broker): it is asked where blocking is allowed.
        if tokio::task::block_in_place(&mut condition) {
            return;
        }
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        // What takes long on a busy machine is asked less often, so that the others get on.
        tokio::time::sleep(asked.elapsed().max(Duration::from_millis(10))).await;
    }
}

fn is_wanted() -> bool {
    let is_wanted = env::var_os("OTTLA_REAL_KAFKA").is_some();
    if env::var_os("OTTLA_TRACE").is_some() {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(std::io::stderr)
            .try_init();
    }
    if !is_wanted {
        eprintln!("needs a broker: run cargo xtask test");
    }
    is_wanted
}

fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    format!("{name}-{:x}-{}", since_1970.as_millis(), COUNT.fetch_add(1, Ordering::Relaxed))
}
