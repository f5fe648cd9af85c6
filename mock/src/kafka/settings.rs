//! What a cluster is made with.

use std::time::Duration;

use super::{api::Release, sasl::SaslSettings};

/// What a cluster is made with: each value by Kafka's own name for it, and the default that suits tests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How many brokers there are; they are numbered from 1 (default 1).
    pub brokers: i32,
    /// Which release of Kafka's API versions are announced (default: the newest).
    pub release: Release,
    /// What all chance in the cluster comes from (default 0).
    pub seed: u64,
    /// `auto.create.topics.enable`: a topic that somebody asks for comes into being. Off by default, unlike in Kafka, where it hides
    /// misspelt names.
    pub auto_create_topics: bool,
    /// `num.partitions`: what a topic gets that does not say (default 1).
    pub default_partitions: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members (default 0; Kafka's is 3 s).
    pub group_initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms` (default 1 ms; Kafka's is 6 s, too long to wait for in a test).
    pub group_min_session_timeout: Duration,
    /// `group.max.session.timeout.ms` (default 30 min, as Kafka's).
    pub group_max_session_timeout: Duration,
    /// `group.max.size`: how many members a group may have (default: no limit).
    pub group_max_size: usize,
    /// `group.coordinator.rebalance.protocols` has `consumer`: groups of KIP-848 are served (default true, from 4.0 on).
    pub consumer_groups: bool,
    /// `group.consumer.migration.policy` is `bidirectional`: groups with members change from one protocol to the other (default true, as
    /// Kafka's). If not it is `disabled`: only empty ones do.
    pub consumer_group_migration: bool,
    /// `group.consumer.heartbeat.interval.ms` (default 5 s).
    pub consumer_group_heartbeat_interval: Duration,
    /// `group.consumer.session.timeout.ms` (default 45 s).
    pub consumer_group_session_timeout: Duration,
    /// `offsets.retention.minutes`: how long the offsets of an empty group are kept (default 7 days).
    pub offsets_retention: Duration,
    /// Who may connect (default: everybody, without SASL).
    pub sasl: Option<SaslSettings>,
    /// `socket.request.max.bytes` (default 100 MiB).
    pub request_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots` (default 1000).
    pub fetch_sessions_max: usize,
    /// `transaction.max.timeout.ms` (default 15 min).
    pub transaction_max_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: 1,
            release: Release::NEWEST,
            seed: 0,
            auto_create_topics: false,
            default_partitions: 1,
            group_initial_rebalance_delay: Duration::ZERO,
            group_min_session_timeout: Duration::from_millis(1),
            group_max_session_timeout: Duration::from_secs(30 * 60),
            group_max_size: usize::MAX,
            consumer_groups: true,
            consumer_group_migration: true,
            consumer_group_heartbeat_interval: Duration::from_secs(5),
            consumer_group_session_timeout: Duration::from_secs(45),
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            sasl: None,
            request_bytes_max: 100 << 20,
            fetch_sessions_max: 1000,
            transaction_max_timeout: Duration::from_secs(15 * 60),
        }
    }
}
