//! Settings, each with its default, its unit and its name in Java, and the way from them to a connected consumer.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;

use super::{
    Consumer, Handle,
    feed::ReadSettings,
    inbox::{Inbox, InboxSettings},
    member::Member,
    subscription::{Standing, Subscription, select_partitions},
};
use crate::{
    assignor::{Assignor, CooperativeSticky, Range},
    connect::{Connecting, check_times, connection_settings, seed},
    error::BuildError,
    model::{GroupProtocol, TopicPartition},
    net,
    proto::{
        BrokerAddr,
        consumer::{Config, Consumer as Core},
        fetch::FetchConfig,
        group::{GroupConfig, MemberConfig, StandaloneConfig},
        offsets::{CommitterConfig, PositionsConfig, ResetPolicy},
        selection::Selection,
    },
    wire,
};

/// Which records of transactions are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Only records of committed transactions, and records outside any (Java: `read_committed`).
    #[default]
    ReadCommitted,
    /// Every record as soon as it is replicated, also those of transactions that are open or were aborted (Java: `read_uncommitted`).
    ReadUncommitted,
}

impl From<Isolation> for wire::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::ReadCommitted => Self::ReadCommitted,
            Isolation::ReadUncommitted => Self::ReadUncommitted,
        }
    }
}

/// Where to begin in a partition for which the group has committed nothing, or whose committed offset is not in the log (any more).
///
/// Nothing else ever leads here: an error while the committed offset is looked up is retried, however long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the first record there still is.
    Earliest,
    /// Behind the last record: only what is written from now on.
    Latest,
    /// At the first record that is at most so old (Java: `by_duration:`, KIP-1106); at the end where there is none.
    ByDuration(Duration),
    /// Nowhere: the stream says so (`ConsumeErrorKind::NoOffset`) and the partition rests until a seek (Java: `none`).
    Fail,
}

/// Describes a consumer; [`connect`](Self::connect) makes it.
///
/// Every setting but the topics has a default that suits most programs.
#[derive(Debug)]
pub struct ConsumerBuilder {
    group_id: Option<String>,
    connecting: Connecting,
    subscription: Subscription,
    assigned: Option<Vec<TopicPartition>>,
    group_instance_id: Option<String>,
    client_rack: Option<String>,
    assignors: Option<Vec<Arc<dyn Assignor>>>,
    group_protocol: Option<GroupProtocol>,
    server_assignor: Option<String>,
    isolation: Isolation,
    offset_reset: Option<OffsetReset>,
    commit_interval: Duration,
    session_timeout: Duration,
    heartbeat_interval: Duration,
    rebalance_timeout: Duration,
    processing_timeout: Duration,
    drain_timeout: Duration,
    redelivery_backoff: Duration,
    redelivery_backoff_max: Duration,
    unacked_records_max: usize,
    buffer_bytes_max: usize,
    partition_fetch_bytes_max: usize,
    decompressed_batch_bytes_max: usize,
    catch_up_connections: usize,
    fetch_max_wait: Duration,
    fetch_min_bytes: usize,
    verify_crc: bool,
}

const CATCH_UP_CONNECTIONS_MAX: usize = 8;

impl ConsumerBuilder {
    pub(crate) fn new(group_id: Option<String>, bootstrap: Vec<String>) -> Self {
        Self {
            group_id,
            connecting: Connecting::new(bootstrap),
            subscription: Subscription::new(),
            assigned: None,
            group_instance_id: None,
            client_rack: None,
            assignors: None,
            group_protocol: None,
            server_assignor: None,
            isolation: Isolation::default(),
            offset_reset: None,
            commit_interval: Duration::from_secs(1),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(300),
            processing_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            redelivery_backoff: Duration::from_millis(100),
            redelivery_backoff_max: Duration::from_secs(30),
            unacked_records_max: 1_000_000,
            buffer_bytes_max: 64 << 20,
            partition_fetch_bytes_max: 1 << 20,
            decompressed_batch_bytes_max: 64 << 20,
            catch_up_connections: 2,
            fetch_max_wait: Duration::from_millis(500),
            fetch_min_bytes: 1,
            verify_crc: true,
        }
    }

    /// Subscribes to these topics; more than one call adds up. At least one is required, here or by
    /// [`subscribe_pattern`](Self::subscribe_pattern) or [`subscribe_server_pattern`](Self::subscribe_server_pattern), unless partitions are named by
    /// [`assign`](Self::assign). [`Handle::subscribe`] changes it while the consumer runs.
    ///
    /// A topic that does not exist yet is read as soon as it does; the stream says meanwhile that it is missing. ottla never lets a
    /// broker create a topic.
    pub fn subscribe<S: Into<String>>(mut self, topics: impl IntoIterator<Item = S>) -> Self {
        self.subscription = self.subscription.topics(topics);
        self
    }

    /// Subscribes to every topic whose whole name matches this regular expression, also to those that are yet to be created; more than one
    /// call adds up. See [`Subscription::pattern`]. Java: `subscribe(Pattern)`.
    ///
    /// Members of a group should share their patterns. While no topic matches, the member stays out of the group, and the stream says so.
    pub fn subscribe_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscription = self.subscription.pattern(pattern);
        self
    }

    /// Subscribes to every topic whose whole name matches this regular expression of the syntax RE2, and lets the group's coordinator match: Kafka
    /// 4.0 or newer, and not with [`GroupProtocol::Classic`]. There is one at most, the last that is given. See
    /// [`Subscription::server_pattern`], also for what comes where the brokers do not match. Java: `subscribe(SubscriptionPattern)` (KIP-848).
    pub fn subscribe_server_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscription = self.subscription.server_pattern(pattern);
        self
    }

    /// Leaves out every topic whose whole name matches this regular expression, unless it was named by [`subscribe`](Self::subscribe).
    pub fn exclude_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscription = self.subscription.exclude_pattern(pattern);
        self
    }

    /// Whether patterns match no topic in which Kafka keeps something of its own, such as `__consumer_offsets`. Default: yes. Java:
    /// `exclude.internal.topics`.
    pub fn exclude_internal_topics(mut self, exclude: bool) -> Self {
        self.subscription = self.subscription.exclude_internal_topics(exclude);
        self
    }

    /// Reads just these partitions, each named by its topic and its number; more than one call adds up. Java: `assign`. Not to be had together
    /// with [`subscribe`](Self::subscribe). [`Handle::assign`] changes it while the consumer runs.
    ///
    /// The group is not joined: nobody else hears of this consumer, or is kept from reading the same. Reading begins at the group's committed
    /// offsets, and commits go there, too, as those of no member do: with the generation -1 and without a member id. The coordinator takes them
    /// only while the group has no members; as long as it has, the stream says so (`ConsumeErrorKind::CommitRefused`), once, explicit commits fail, at
    /// most once nothing is handed out, and ottla goes on trying every five seconds. Of two consumers with the same partition and group the last to
    /// commit wins. Without a group ([`Consumer::standalone`]) nothing is committed.
    ///
    /// What is for members says nothing here: [`session_timeout`](Self::session_timeout), [`assignors`](Self::assignors) and the like;
    /// [`processing_timeout`](Self::processing_timeout), too, since nobody waits to take over.
    ///
    /// A partition or topic that does not exist yet is read as soon as it does; the stream says meanwhile that it is missing. A partition whose
    /// topic is deleted stays assigned.
    pub fn assign<P: Into<TopicPartition>>(mut self, partitions: impl IntoIterator<Item = P>) -> Self {
        self.assigned.get_or_insert_default().extend(partitions.into_iter().map(Into::into));
        self
    }

    connection_settings!();

    /// Makes this a static member (KIP-345): when it stops and comes back under the same name within the session timeout, no partition
    /// moves. Two running members must never share a name. Needs Kafka 2.3. Default: none. Java: `group.instance.id`.
    ///
    /// Who is started again after a crash has its place at once by the classic protocol. By the new one ([`group_protocol`](Self::group_protocol)) it
    /// waits until the session of the process that died is over (the broker's `group.consumer.session.timeout.ms`, 45 s), and is told so.
    pub fn group_instance_id(mut self, name: impl Into<String>) -> Self {
        self.group_instance_id = Some(name.into());
        self
    }

    /// Says in which rack this program runs. Default: none. Java: `client.rack`.
    ///
    /// Records are then read from a replica in that rack (KIP-392, from Kafka 2.4 on), if there is one and the brokers are set up to name it
    /// (`replica.selector.class` is `RackAwareReplicaSelector`). A replica is a little behind its leader. The leader is asked where the replica
    /// fails, and, every [`metadata_max_age`](Self::metadata_max_age), for the nearest anew.
    ///
    /// The group's leader learns the rack, too (KIP-881), whatever the brokers are set up to: [`Range`](crate::Range), [`Sticky`](crate::Sticky)
    /// and [`CooperativeSticky`](crate::CooperativeSticky) give a member partitions with a replica in its rack, as far as the shares stay even;
    /// the brokers tell their racks (`broker.rack`). [`RoundRobin`](crate::RoundRobin) does not look at racks. When replicas move to other racks,
    /// the group rebalances. Assignors of your own, and the coordinator's, learn the rack as well.
    pub fn client_rack(mut self, rack: impl Into<String>) -> Self {
        self.client_rack = Some(rack.into());
        self
    }

    /// Chooses the protocol by which the member takes part in its group. Default: [`GroupProtocol::Auto`], which is the new one (KIP-848) where
    /// broker and group allow it, and the classic one elsewhere; for who chooses [`assignors`](Self::assignors) and nothing here,
    /// [`GroupProtocol::Classic`], for they are of that. Java: `group.protocol`, whose default is `classic`.
    ///
    /// By the new protocol the broker says how often it wants heartbeats, and when it has not heard from a member for too long: `assignors` and
    /// [`heartbeat_interval`](Self::heartbeat_interval) say nothing then, and [`session_timeout`](Self::session_timeout) only when the member
    /// takes its partitions for lost, so that it should be no longer than the broker's `group.consumer.session.timeout.ms` (45 s). What it is
    /// better at, and where the classic one hands over sooner, is in [the manual](crate::manual::rebalancing).
    ///
    /// [`connect`](Self::connect) does not tell whether the brokers speak it: with [`GroupProtocol::Consumer`] the stream ends with an error of
    /// the kind `Incompatible` where they do not, or where the group cannot be converted.
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group_protocol = Some(protocol);
        self
    }

    /// Names the broker's assignor to use by the new protocol, such as `uniform` or `range`. Default: the broker's default. Java:
    /// `group.remote.assignor`.
    pub fn server_assignor(mut self, name: impl Into<String>) -> Self {
        self.server_assignor = Some(name.into());
        self
    }

    /// Offers these assignors to a group of the classic protocol, preferred first; the coordinator picks one that all members offer. Who
    /// chooses here gets that protocol, unless [`group_protocol`](Self::group_protocol) says otherwise. Default: `Range`, then
    /// `CooperativeSticky`, as in Java: every group of Java's members or librdkafka's can be joined, and one restart of each member with
    /// `CooperativeSticky` alone makes the group cooperative (KIP-429). Java: `partition.assignment.strategy`.
    ///
    /// With cooperative assignors only, a member reads on through rebalances what it keeps; with any other among them it hands back everything
    /// before each. See [the manual](crate::manual::rebalancing).
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Arc<dyn Assignor>>) -> Self {
        self.assignors = Some(assignors.into_iter().collect());
        self
    }

    /// Chooses which records of transactions are handed out. Default: `ReadCommitted` (Java's default is the other). Java:
    /// `isolation.level`.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Chooses where to begin when there is no committed offset in the log. Default: `Earliest`, so that nothing is skipped; for
    /// `at_most_once`, `Latest`, so that nothing is repeated. Java: `auto.offset.reset`.
    pub fn offset_reset(mut self, policy: OffsetReset) -> Self {
        self.offset_reset = Some(policy);
        self
    }

    /// How often what was finished is committed. Default: 1 s. A crash repeats at most about this much work; each commit is one small
    /// request. Java: `auto.commit.interval.ms`, though what is committed there is what was handed out.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// How long the coordinator waits for a heartbeat before it gives a member's partitions away. Default: 45 s. Shorter notices a crash
    /// sooner, and takes a long pause of the machine for one. The broker bounds it (`group.min/max.session.timeout.ms`). Java:
    /// `session.timeout.ms`.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How often to send a heartbeat; must be well below the session timeout. Default: 3 s. Java: `heartbeat.interval.ms`.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// How long the group waits for each member to release its partitions and rejoin. Default: 5 min. Java: `max.poll.interval.ms`, which
    /// there stands for [`processing_timeout`](Self::processing_timeout), too.
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.rebalance_timeout = timeout;
        self
    }

    /// How long the program may neither take nor acknowledge a record before this member leaves the group, so that others get its
    /// partitions. Default: 5 min. Java: `max.poll.interval.ms`. Says nothing where no group is joined: nobody waits to take over.
    pub fn processing_timeout(mut self, timeout: Duration) -> Self {
        self.processing_timeout = timeout;
        self
    }

    /// How long a rebalance waits for records that are in work, so that they can be committed before their partition moves. Default:
    /// 30 s. What is not finished by then is processed again by the next owner. Never more than three quarters of the rebalance timeout. Where
    /// partitions are [assigned](Self::assign) by the program, the same when it assigns others; without a group nothing is waited for.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How long a record that was dropped unacknowledged rests before it is handed out again: `first` after the first attempt, doubled
    /// after each further one up to `max`. Default: 100 ms and 30 s.
    pub fn redelivery_backoff(mut self, first: Duration, max: Duration) -> Self {
        self.redelivery_backoff = first;
        self.redelivery_backoff_max = max;
        self
    }

    /// How many records may be handed out and unacknowledged before the stream says so and waits. Default: 1,000,000. Each keeps the
    /// memory of its whole fetch alive.
    pub fn unacked_records_max(mut self, records: usize) -> Self {
        self.unacked_records_max = records;
        self
    }

    /// How many bytes may be fetched ahead of what the program takes, over all partitions. Default: 64 MiB.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = bytes;
        self
    }

    /// How many bytes to ask for of each partition in one request. Default: 1 MiB, which measured best. A larger batch is read all the
    /// same. Java: `max.partition.fetch.bytes`.
    ///
    /// Partitions take turns, and what one request has brought of a partition is one turn. Where records take long to work on, and one
    /// partition is far behind, less makes the others wait less; so do several records at a time, or a stream for each partition
    /// ([`Consumer::partitions`](super::Consumer::partitions)).
    pub fn partition_fetch_bytes_max(mut self, bytes: usize) -> Self {
        self.partition_fetch_bytes_max = bytes;
        self
    }

    /// How many connections may read what lies unread, beside the one to each broker on which it waits for new records; at most 8. They are
    /// opened when a broker's partitions have more to read than one request brings, and closed like any other that idles. Brokers that are
    /// read at the same time share them: more would bring what nobody can work on yet. A broker for which fewer than two are left is read
    /// over the connection on which it waits, unless that waits for more partitions than there are to read.
    /// With 0 all goes over one connection to each, every request after the answer to the one before. Default: 2.
    pub fn catch_up_connections(mut self, connections: usize) -> Self {
        self.catch_up_connections = connections;
        self
    }

    /// How large a compressed batch may become; a larger one is refused as corrupt. Default: 64 MiB.
    pub fn decompressed_batch_bytes_max(mut self, bytes: usize) -> Self {
        self.decompressed_batch_bytes_max = bytes;
        self
    }

    /// How long a broker may wait for `fetch_min_bytes` before it answers. Default: 500 ms. Java: `fetch.max.wait.ms`.
    pub fn fetch_max_wait(mut self, wait: Duration) -> Self {
        self.fetch_max_wait = wait;
        self
    }

    /// How many bytes a broker shall gather before it answers. Default: 1, which is as soon as there is anything. Java: `fetch.min.bytes`.
    pub fn fetch_min_bytes(mut self, bytes: usize) -> Self {
        self.fetch_min_bytes = bytes;
        self
    }

    /// Whether batches' checksums are verified. Default: yes. Java: `check.crcs`.
    pub fn verify_crc(mut self, verify: bool) -> Self {
        self.verify_crc = verify;
        self
    }

    /// How old metadata may become before it is fetched again: how soon new partitions are found. Default: 5 min. Java:
    /// `metadata.max.age.ms`.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.connecting.metadata_max_age = age;
        self
    }

    /// Connects to the cluster; the group is joined (without one: reading begins) when a delivery mode is chosen on what comes back.
    ///
    /// Starts a background task on the current tokio runtime, which ends when the consumer is closed or dropped.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidSetting`] at once; [`BuildError::Unauthenticated`] as soon as a broker refuses the credentials, and
    /// [`BuildError::Untrusted`] as soon as no address has a broker that is trusted; the others when no broker answers within
    /// `connect_timeout`. Once connected, a consumer never gives up for want of a broker.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(self) -> Result<Consumer, BuildError> {
        let (bootstrap, selection) = self.check()?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::new(commands, self.inbox_settings()));
        let reached = inbox.reached();
        let (now, wall_clock) = clocks();
        let core = Core::new(now, self.core_config(bootstrap, selection, now, wall_clock));
        let events = Arc::clone(&inbox);
        // What comes back from the user is used for what is fetched next.
        let net = self.connecting.net_config(self.buffer_bytes_max)?;
        // Whatever ends the driver, be it a bug or the end of its runtime: nobody waits for it in vain.
        let driver = EndOfDriver(Arc::clone(&inbox));
        tokio::spawn(async move {
            let _driver = driver;
            net::drive(core, net, receiver, move |event| {
                events.handle(event);
                None
            })
            .await;
        });
        let member = Member::new(Arc::clone(&inbox), Handle::new(Arc::clone(&inbox)));
        self.connecting.reached(reached).await?;
        Ok(self.consumer(inbox, member))
    }

    fn inbox_settings(&self) -> InboxSettings {
        InboxSettings {
            unacked_records_max: self.unacked_records_max,
            buffer_bytes_max: self.buffer_bytes_max,
            read_committed: self.isolation == Isolation::ReadCommitted,
            standing: self.standing(),
        }
    }

    fn standing(&self) -> Standing {
        match (&self.group_id, &self.assigned) {
            (None, _) => Standing::Standalone,
            (Some(_), Some(_)) => Standing::Beside,
            (Some(_), None) => Standing::Member(self.protocol()),
        }
    }

    /// The user's side, as it is before a mode is chosen.
    fn consumer(&self, inbox: Arc<Inbox>, member: Member) -> Consumer {
        Consumer {
            inbox,
            offset_reset: self.offset_reset,
            settings: ReadSettings {
                read_committed: self.isolation == Isolation::ReadCommitted,
                verify_crc: self.verify_crc,
                decompressed_bytes_max: self.decompressed_batch_bytes_max,
            },
            member,
        }
    }

    fn check(&self) -> Result<(Vec<BrokerAddr>, Selection), BuildError> {
        let invalid = |setting, why: String| Err(BuildError::InvalidSetting { setting, why });
        if self.group_id.as_deref() == Some("") {
            return invalid("builder(group_id)", "a consumer group needs a name".into());
        }
        let bootstrap = self.connecting.check()?;
        let selection = match &self.assigned {
            None => self.subscription.select(self.standing())?,
            Some(_) if self.subscription != Subscription::new() => {
                return invalid("assign", "leave out subscribe and its patterns: only one of them can say what to read".into());
            }
            Some(partitions) => select_partitions(partitions)?,
        };
        if self.assignors.as_ref().is_some_and(Vec::is_empty) {
            return invalid("assignors", "a group needs at least one".into());
        }
        if self.group_instance_id.as_deref() == Some("") {
            return invalid("group_instance_id", "an empty name is none: leave it out".into());
        }
        if self.group_instance_id.is_some() && !self.standing().is_member() {
            return invalid("group_instance_id", "it names a member, and no group is joined: leave it out".into());
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval >= self.session_timeout {
            let why = format!(
                "{:?} must be above zero and below session_timeout ({:?}), best a third of it",
                self.heartbeat_interval, self.session_timeout
            );
            return invalid("heartbeat_interval", why);
        }
        check_times(&[
            ("session_timeout", self.session_timeout),
            ("rebalance_timeout", self.rebalance_timeout),
            ("processing_timeout", self.processing_timeout),
            ("drain_timeout", self.drain_timeout),
            ("commit_interval", self.commit_interval),
            ("fetch_max_wait", self.fetch_max_wait),
        ])?;
        let request_timeout = self.connecting.request_timeout;
        if request_timeout <= self.fetch_max_wait {
            let why = format!("{request_timeout:?} must be above fetch_max_wait ({:?})", self.fetch_max_wait);
            return invalid("request_timeout", why);
        }
        for (setting, bytes) in [
            ("partition_fetch_bytes_max", self.partition_fetch_bytes_max),
            ("buffer_bytes_max", self.buffer_bytes_max),
            ("fetch_min_bytes", self.fetch_min_bytes),
            ("decompressed_batch_bytes_max", self.decompressed_batch_bytes_max),
            ("unacked_records_max", self.unacked_records_max),
        ] {
            if bytes == 0 || i32::try_from(bytes).is_err() {
                return invalid(setting, format!("{bytes} must be at least 1 and at most {}", i32::MAX));
            }
        }
        if self.catch_up_connections > CATCH_UP_CONNECTIONS_MAX {
            let why = format!("{} must be at most {CATCH_UP_CONNECTIONS_MAX}", self.catch_up_connections);
            return invalid("catch_up_connections", why);
        }
        Ok((bootstrap, selection))
    }

    /// Who chooses assignors would not want them to be passed over in silence.
    fn protocol(&self) -> GroupProtocol {
        let unsaid = if self.assignors.is_some() { GroupProtocol::Classic } else { GroupProtocol::default() };
        self.group_protocol.unwrap_or(unsaid)
    }

    fn core_config(&self, bootstrap: Vec<BrokerAddr>, selection: Selection, now: Instant, wall_clock: SystemTime) -> Config {
        let seed = seed();
        let group: Option<Arc<str>> = self.group_id.as_deref().map(Into::into);
        let instance_id: Option<Arc<str>> = self.group_instance_id.as_deref().map(Into::into);
        let rack: Option<Arc<str>> = self.client_rack.as_deref().filter(|rack| !rack.is_empty()).map(Into::into);
        let isolation = self.isolation.into();
        let int = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let &Connecting { request_timeout, metadata_max_age, retry_backoff, retry_backoff_max, .. } = &self.connecting;
        Config {
            cluster: self.connecting.cluster_config(bootstrap, group.clone(), seed),
            group: match group.clone().filter(|_| self.standing().is_member()) {
                Some(group) => MemberConfig::Group(GroupConfig {
                    group,
                    instance_id: instance_id.clone(),
                    rack: rack.clone(),
                    protocol: self.protocol(),
                    server_assignor: self.server_assignor.as_deref().map(Arc::from),
                    assignors: self.assignors.clone().unwrap_or_else(|| vec![Arc::new(Range), Arc::new(CooperativeSticky)]),
                    session_timeout: self.session_timeout,
                    heartbeat_interval: self.heartbeat_interval,
                    rebalance_timeout: self.rebalance_timeout,
                    request_timeout,
                    retry_backoff,
                    retry_backoff_max,
                    seed: seed ^ 1,
                }),
                None => MemberConfig::Standalone(StandaloneConfig {
                    group: group.clone(),
                    release_timeout: self.rebalance_timeout,
                    retry_backoff,
                    seed: seed ^ 1,
                }),
            },
            committer: CommitterConfig {
                group: group.clone(),
                instance_id,
                interval: self.commit_interval,
                request_timeout,
                retry_backoff,
                retry_backoff_max,
                seed: seed ^ 2,
            },
            positions: PositionsConfig {
                group,
                reset: reset_policy(self.offset_reset.unwrap_or(OffsetReset::Earliest)),
                isolation,
                request_timeout,
                retry_backoff,
                retry_backoff_max,
                seed: seed ^ 3,
            },
            fetch: FetchConfig {
                isolation,
                max_wait: self.fetch_max_wait,
                min_bytes: int(self.fetch_min_bytes),
                bytes_max: self.buffer_bytes_max,
                partition_bytes_max: int(self.partition_fetch_bytes_max),
                reading_lines: self.catch_up_connections,
                rack,
                replica_lease: metadata_max_age,
                request_timeout,
                retry_backoff,
                retry_backoff_max,
                seed: seed ^ 4,
            },
            selection,
            drain_timeout: self.drain_timeout,
            processing_timeout: self.processing_timeout,
            redelivery_backoff: self.redelivery_backoff,
            redelivery_backoff_max: self.redelivery_backoff_max,
            started_at_ms: wall_clock.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
            started_at: now,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the core has no clock: it is told when it began, and by the driver what time it is"
)]
fn clocks() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

struct EndOfDriver(Arc<Inbox>);

impl Drop for EndOfDriver {
    fn drop(&mut self) {
        self.0.driver_ended();
    }
}

/// Says what a delivery mode does about a missing offset when the user did not.
pub(crate) fn reset_policy(policy: OffsetReset) -> ResetPolicy {
    match policy {
        OffsetReset::Earliest => ResetPolicy::Earliest,
        OffsetReset::Latest => ResetPolicy::Latest,
        OffsetReset::ByDuration(duration) => ResetPolicy::ByDuration(duration),
        OffsetReset::Fail => ResetPolicy::Fail,
    }
}

/// Both sides of a consumer with nothing between them: who tests the core is its driver.
#[cfg(any(fuzzing, test, feature = "__bench"))]
pub(crate) struct Undriven {
    pub(crate) core: Core,
    pub(crate) consumer: Consumer,
    pub(crate) handle: Handle,
    pub(crate) commands: mpsc::UnboundedReceiver<crate::proto::message::Command>,
    pub(crate) on_event: Box<dyn Fn(crate::proto::message::Event)>,
}

#[cfg(any(fuzzing, test, feature = "__bench"))]
impl ConsumerBuilder {
    /// What whoever judges a consumer has to know of it: its group, and how many bytes it may hold.
    #[cfg(test)]
    pub(crate) fn looked_at(&self) -> (Option<String>, usize) {
        (self.group_id.clone(), self.buffer_bytes_max)
    }

    /// Makes both sides of a consumer, with chance from `seed` and time that begins at `now`.
    pub(crate) fn undriven(self, now: Instant, seed: u64) -> Undriven {
        let (bootstrap, selection) = self.check().expect("settings that make sense");
        let (sender, commands) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::new(sender, self.inbox_settings()));
        let mut config = self.core_config(bootstrap, selection, now, SystemTime::UNIX_EPOCH);
        let seeds = [
            &mut config.cluster.seed,
            match &mut config.group {
                MemberConfig::Group(group) => &mut group.seed,
                MemberConfig::Standalone(standalone) => &mut standalone.seed,
            },
            &mut config.committer.seed,
            &mut config.positions.seed,
            &mut config.fetch.seed,
        ];
        for (machine, of) in seeds.into_iter().enumerate() {
            *of = seed ^ machine as u64;
        }
        let handle = Handle::new(Arc::clone(&inbox));
        let consumer = self.consumer(Arc::clone(&inbox), Member::new(Arc::clone(&inbox), handle.clone()));
        let on_event = Box::new(move |event| inbox.handle(event));
        Undriven { core: Core::new(now, config), consumer, handle, commands, on_event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ConsumerBuilder {
        ConsumerBuilder::new(Some("group".into()), vec!["localhost:9092".into()]).subscribe(["topic"])
    }

    fn check(builder: ConsumerBuilder, setting: &str) {
        match builder.check() {
            Err(BuildError::InvalidSetting { setting: found, why }) => {
                assert_eq!(found, setting);
                assert!(!why.is_empty());
            }
            other => panic!("{setting}: {other:?}"),
        }
    }

    /// Who deals out the partitions is settled before the consumer runs.
    #[test]
    fn what_is_read_may_only_be_changed_as_it_was_begun() {
        let assigned = ConsumerBuilder::new(Some("group".into()), vec!["localhost:9092".into()]).assign([("topic", 0)]);
        let standalone = ConsumerBuilder::new(None, vec!["localhost:9092".into()]).assign([("topic", 0)]);
        for (builder, may_subscribe, may_assign) in [(builder(), true, false), (assigned, false, true), (standalone, true, true)]
        {
            let handle = builder.undriven(clocks().0, 1).handle;
            assert_eq!(handle.subscribe(["other"]).is_ok(), may_subscribe);
            assert_eq!(handle.assign([("other", 1)]).is_ok(), may_assign);
            assert!(handle.assign([("other", -1)]).is_err() && handle.assign::<TopicPartition>([]).is_err());
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        assert!(builder().check().is_ok());
        check(ConsumerBuilder::new(Some("".into()), vec!["localhost:9092".into()]).subscribe(["topic"]), "builder(group_id)");
        check(ConsumerBuilder::new(Some("group".into()), vec![]).subscribe(["topic"]), "builder(bootstrap)");
        check(
            ConsumerBuilder::new(Some("group".into()), vec!["localhost:9092,".into()]).subscribe(["topic"]),
            "builder(bootstrap)",
        );
        check(ConsumerBuilder::new(Some("group".into()), vec!["localhost:9092".into()]), "subscribe");
        check(builder().subscribe(["no spaces"]), "subscribe");
        check(builder().subscribe_pattern("("), "subscribe_pattern");
        check(builder().subscribe_pattern("a").exclude_pattern("("), "exclude_pattern");
        check(builder().group_protocol(GroupProtocol::Classic).subscribe_server_pattern("a"), "subscribe_server_pattern");
        assert!(builder().group_protocol(GroupProtocol::Consumer).subscribe_server_pattern("a").check().is_ok());
        check(builder().assign([("topic", 0)]), "assign");
        let assigned = |partitions: &[(&'static str, i32)]| {
            ConsumerBuilder::new(Some("group".into()), vec!["localhost:9092".into()]).assign(partitions.to_vec())
        };
        check(assigned(&[]), "assign");
        check(assigned(&[("topic", -1)]), "assign");
        check(assigned(&[("no spaces", 0)]), "assign");
        check(assigned(&[("topic", 0)]).exclude_pattern("a"), "assign");
        check(assigned(&[("topic", 0)]).group_instance_id("me"), "group_instance_id");
        let standalone = || ConsumerBuilder::new(None, vec!["localhost:9092".into()]);
        check(standalone(), "subscribe");
        check(standalone().subscribe(["topic"]).group_instance_id("me"), "group_instance_id");
        assert!(standalone().subscribe(["topic"]).check().is_ok() && standalone().assign([("topic", 0)]).check().is_ok());
        check(builder().assignors([]), "assignors");
        check(builder().group_instance_id(""), "group_instance_id");
        check(builder().heartbeat_interval(Duration::from_secs(45)), "heartbeat_interval");
        check(builder().heartbeat_interval(Duration::ZERO), "heartbeat_interval");
        check(builder().session_timeout(Duration::from_secs(1 << 40)), "session_timeout");
        check(builder().commit_interval(Duration::ZERO), "commit_interval");
        check(builder().request_timeout(Duration::from_millis(400)), "request_timeout");
        check(builder().buffer_bytes_max(0), "buffer_bytes_max");
        check(builder().unacked_records_max(0), "unacked_records_max");
        check(builder().catch_up_connections(9), "catch_up_connections");
    }

    #[test]
    fn assignors_that_are_chosen_are_not_passed_over() {
        use GroupProtocol::{Auto, Classic, Consumer};
        let assigned = || builder().assignors([Arc::new(Range) as _]);
        assert_eq!(builder().protocol(), Auto);
        assert_eq!(builder().server_assignor("range").protocol(), Auto);
        assert_eq!(assigned().protocol(), Classic);
        for said in [Auto, Classic, Consumer] {
            assert_eq!(assigned().group_protocol(said).protocol(), said);
        }
    }
}
