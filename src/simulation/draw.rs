//! What a seed's life is like: each draws which faults, settings, versions and ways of reading there are in it.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use ottla_mock::Release;

use super::{
    user::{Habits, Records},
    world::{builder_of_nothing, ms, secs},
};
use crate::{
    assignor::{Assignor, CooperativeSticky, Range as RangeAssignor, RoundRobin, Sticky},
    consumer::{Consumer, ConsumerBuilder, OffsetReset},
    model::GroupProtocol,
    proto::backoff::Rng,
};

/// How records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    AtLeastOnce,
    Batches,
    AtMostOnce,
    Manual,
    Partitions,
    /// Partition by partition, from positions in the program's own store.
    Placed,
}

/// What goes wrong, or is done, in a life; the others do not exist in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Requests are refused, answers lost, late or nonsense.
    Requests,
    /// Connections of which only one side knows that they are gone.
    HalfOpen,
    /// Networks that come apart.
    Cuts,
    /// Clients vanish without a word.
    Crashes,
    /// Clients are stopped, and go on later.
    Freezes,
    /// Clients close in order.
    Closes,
    /// Users stop taking records, or take very long.
    Stalls,
    Seeks,
    Pauses,
    Growth,
    Leaders,
    Coordinators,
    Rebalances,
    Expulsions,
    BrokerStops,
    BrokerKills,
    Truncation,
    Retention,
    Compaction,
    Transactions,
    /// Topics that are deleted and made anew.
    Topics,
    /// Brokers that do not lead any more, and say that an offset is out of range.
    FormerLeaders,
}

const TROUBLES: [Trouble; 22] = [
    Trouble::FormerLeaders,
    Trouble::Requests,
    Trouble::HalfOpen,
    Trouble::Cuts,
    Trouble::Crashes,
    Trouble::Freezes,
    Trouble::Closes,
    Trouble::Stalls,
    Trouble::Seeks,
    Trouble::Pauses,
    Trouble::Growth,
    Trouble::Leaders,
    Trouble::Coordinators,
    Trouble::Rebalances,
    Trouble::Expulsions,
    Trouble::BrokerStops,
    Trouble::BrokerKills,
    Trouble::Truncation,
    Trouble::Retention,
    Trouble::Compaction,
    Trouble::Transactions,
    Trouble::Topics,
];

/// The releases whose versions brokers announce.
const RELEASES: [Release; 8] = [
    Release::NEWEST,
    Release::new(4, 0),
    Release::new(3, 9),
    Release::new(3, 3),
    Release::new(2, 8),
    Release::new(2, 4),
    Release::new(2, 1),
    Release::OLDEST,
];

/// The first release whose OffsetForLeaderEpoch consumers may use (KIP-320).
const EPOCHS_SINCE: Release = Release::new(2, 3);

/// What the members offer; those that start in the second half may offer something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assigning {
    Eager,
    EagerRolled,
    Sticky,
    Cooperative,
    /// The group is on its way from eager to cooperative, or back.
    ToCooperative,
    FromCooperative,
    /// The coordinator assigns (KIP-848).
    Consumer,
    /// Whatever the brokers allow.
    Auto,
}

/// What the group is on its way to while there are members of both group protocols in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Converting {
    ToConsumer,
    FromConsumer,
}

impl Assigning {
    fn protocol(self) -> GroupProtocol {
        match self {
            Self::Consumer => GroupProtocol::Consumer,
            Self::Auto => GroupProtocol::Auto,
            _ => GroupProtocol::Classic,
        }
    }

    fn is_rolled(self) -> bool {
        matches!(self, Self::ToCooperative | Self::FromCooperative)
    }

    fn assignors(self, is_late: bool) -> Vec<Arc<dyn Assignor>> {
        let (range, round_robin): (Arc<dyn Assignor>, Arc<dyn Assignor>) = (Arc::new(RangeAssignor), Arc::new(RoundRobin));
        let (sticky, cooperative): (Arc<dyn Assignor>, Arc<dyn Assignor>) = (Arc::new(Sticky), Arc::new(CooperativeSticky));
        match (self, is_late) {
            (Self::Eager, _) | (Self::EagerRolled, false) => vec![range, round_robin],
            (Self::EagerRolled, true) => vec![round_robin, range],
            (Self::Sticky, _) => vec![sticky, range],
            (Self::Cooperative, _) | (Self::ToCooperative, true) | (Self::FromCooperative, false) => vec![cooperative],
            (Self::ToCooperative, false) | (Self::FromCooperative, true) => vec![range, cooperative],
            (Self::Consumer | Self::Auto, _) => vec![range, cooperative],
        }
    }
}

/// The first release whose groups may be assigned by the coordinator.
const KIP_848_SINCE: Release = Release::new(4, 0);

/// To what programs subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subscribing {
    Names,
    Pattern,
    /// For the coordinator to match.
    ServerPattern,
    /// To something else now and then.
    Changing,
}

/// What was drawn.
#[derive(Clone)]
pub(super) struct Draw {
    pub(super) reading: Reading,
    pub(super) release: Release,
    pub(super) troubles: Vec<Trouble>,
    pub(super) latency: Range<Duration>,
    pub(super) partitions: i32,
    pub(super) clients_max: usize,
    pub(super) steps: u64,
    /// The longest pause between two steps.
    pub(super) pause_ms: u64,
    assigning: Assigning,
    /// Who starts in one half of the life has another group protocol than who starts in the other half.
    converting: Option<Converting>,
    /// Members go on claiming what they have lost.
    pub(super) claims_lost: bool,
    /// The brokers are in racks of their own, and the programs in one of them: most is read from replicas that do not lead.
    pub(super) has_racks: bool,
    /// How many fetch sessions a broker has room for.
    pub(super) fetch_sessions_max: usize,
    /// How many of a hundred answers say that a quota is used up.
    pub(super) throttled_percent: u64,
    pub(super) subscribing: Subscribing,
    pub(super) session_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
    commit_interval: Duration,
    pub(super) drain_timeout: Duration,
    fetch_max_wait: Duration,
    buffer_bytes_max: usize,
    partition_fetch_bytes_max: usize,
    catch_up_connections: usize,
    unacked_records_max: usize,
    at_once: usize,
    work_ms: u64,
    drops_percent: u64,
}

impl Draw {
    pub(super) fn new(rng: &mut Rng) -> Self {
        // Aside, so that the other draws stay what they are.
        let mut aside = Rng::new(rng.clone().next_u64());
        let has_racks = aside.next_u64().is_multiple_of(3);
        let fetch_sessions_max = [1000, 1000, 1, 0][(aside.next_u64() % 4) as usize];
        let subscribing = [Subscribing::Names, Subscribing::Names, Subscribing::Pattern, Subscribing::Changing];
        let subscribing = subscribing[(aside.next_u64() % 4) as usize];
        let keeps_positions = aside.next_u64().is_multiple_of(2);
        let lets_coordinator_match = aside.next_u64().is_multiple_of(2);
        let throttled_percent = [0, 0, 0, 0, 3, 30][(aside.next_u64() % 6) as usize];
        let converting = [Some(Converting::ToConsumer), Some(Converting::FromConsumer), None, None, None, None, None];
        let converting = converting[(aside.next_u64() % 7) as usize];
        let mut below = |limit: u64| rng.next_u64() % limit;
        let readings = [Reading::AtLeastOnce, Reading::AtMostOnce, Reading::Batches, Reading::Manual, Reading::Partitions];
        // The first two are what most people use.
        let reading = match readings[[0, 0, 0, 1, 1, 2, 3, 4][below(8) as usize]] {
            Reading::Partitions if keeps_positions => Reading::Placed,
            reading => reading,
        };
        let share = 20 + below(60);
        let mut troubles: Vec<_> = TROUBLES.into_iter().filter(|_| below(100) < share).collect();
        let release = RELEASES[[0, 0, 0, 1, 2, 3, 4, 5, 6, 7][below(10) as usize]];
        // Older brokers do not tell consumers where an epoch ended: nobody can notice there that a log was cut and grew again.
        if release < EPOCHS_SINCE {
            troubles.retain(|trouble| *trouble != Trouble::Truncation);
        }
        // A store cannot go on where the log has lost what it lacks, or something that it has.
        if reading == Reading::Placed {
            troubles.retain(|trouble| !matches!(trouble, Trouble::Truncation | Trouble::Retention | Trouble::Topics));
        }
        // Who is not known yet not to lead is believed, and the reset policy of these lives goes back.
        if reading == Reading::AtMostOnce {
            troubles.retain(|trouble| *trouble != Trouble::FormerLeaders);
        }
        let assigning = [
            Assigning::Eager,
            Assigning::Eager,
            Assigning::EagerRolled,
            Assigning::Sticky,
            Assigning::Cooperative,
            Assigning::Cooperative,
            Assigning::ToCooperative,
            Assigning::FromCooperative,
            Assigning::Consumer,
            Assigning::Consumer,
            Assigning::Auto,
        ][below(11) as usize];
        let converting = converting.filter(|_| !assigning.is_rolled());
        let has_kip_848 = assigning == Assigning::Consumer || converting.is_some();
        let release = if has_kip_848 { release.max(KIP_848_SINCE) } else { release };
        let are_all_of_kip_848 = assigning == Assigning::Consumer && converting.is_none();
        let subscribing = match subscribing {
            Subscribing::Pattern if are_all_of_kip_848 && lets_coordinator_match => Subscribing::ServerPattern,
            subscribing => subscribing,
        };
        // A coordinator that takes a group over knows of each member only the assignor that was selected: to it the old members offer
        // nothing else until they join again, and who offers only another one is refused.
        if assigning.is_rolled() {
            troubles.retain(|trouble| !matches!(trouble, Trouble::Coordinators | Trouble::BrokerStops | Trouble::BrokerKills));
        }
        let session_timeout = ms([6_000, 10_000, 20_000][below(3) as usize]);
        Self {
            reading,
            release,
            troubles,
            latency: ms(below(3))..ms(3 + [0, 20, 200][below(3) as usize]),
            partitions: 1 + below(6) as i32,
            clients_max: 1 + below(5) as usize,
            steps: 10 + below(40),
            pause_ms: [100, 800, 2_500][below(3) as usize],
            assigning,
            converting,
            claims_lost: below(2) == 0,
            has_racks,
            fetch_sessions_max,
            throttled_percent,
            subscribing,
            session_timeout,
            heartbeat_interval: session_timeout / [3, 10, 20][below(3) as usize],
            commit_interval: ms([20, 300, 5_000][below(3) as usize]),
            drain_timeout: ms([200, 4_000][below(2) as usize]),
            fetch_max_wait: ms([100, 500, 4_000][below(3) as usize]),
            buffer_bytes_max: [2_000, 50_000, 64 << 20][below(3) as usize],
            unacked_records_max: [5, 1_000, 1_000_000][below(3) as usize],
            at_once: [1, 3, 20, 1_000][below(4) as usize],
            work_ms: [0, 0, 5, 50, 300][below(5) as usize],
            drops_percent: [0, 0, 4, 12][below(4) as usize],
            // Never less than the largest batch: of one that is larger, an answer brings more than was reserved for it.
            partition_fetch_bytes_max: [1_000, 5_000, 1 << 20][below(3) as usize],
            catch_up_connections: [0, 1, 2, 2][below(4) as usize],
        }
    }

    /// Describes a consumer of a group as this life has them.
    pub(super) fn builder(&self, group: &str, is_late: bool) -> ConsumerBuilder {
        let builder = match (self.has_racks, is_late) {
            (true, false) => builder_of_nothing(group).client_rack("rack1"),
            (true, true) => builder_of_nothing(group).client_rack("rack2"),
            (false, _) => builder_of_nothing(group),
        };
        let builder = match self.subscribing {
            Subscribing::Names | Subscribing::Changing => builder.subscribe(["orders", "extra"]),
            Subscribing::Pattern => builder.subscribe_pattern("[a-z]*").exclude_pattern("x.*"),
            Subscribing::ServerPattern => builder.subscribe_server_pattern("[a-wyz][a-z]*"),
        };
        builder
            .offset_reset(OffsetReset::Earliest)
            .group_protocol(self.group_protocol(is_late))
            .assignors(self.assigning.assignors(is_late))
            .session_timeout(self.session_timeout)
            .heartbeat_interval(self.heartbeat_interval)
            .rebalance_timeout(secs(20))
            .drain_timeout(self.drain_timeout)
            .processing_timeout(secs(20))
            .commit_interval(self.commit_interval)
            .fetch_max_wait(self.fetch_max_wait)
            .buffer_bytes_max(self.buffer_bytes_max)
            .partition_fetch_bytes_max(self.partition_fetch_bytes_max)
            .catch_up_connections(self.catch_up_connections)
            .unacked_records_max(self.unacked_records_max)
            .request_timeout(secs(5))
            .metadata_max_age(secs(10))
    }

    fn group_protocol(&self, is_late: bool) -> GroupProtocol {
        match (self.converting, is_late) {
            (None, _) => self.assigning.protocol(),
            (Some(Converting::ToConsumer), false) | (Some(Converting::FromConsumer), true) => GroupProtocol::Classic,
            (Some(Converting::ToConsumer), true) | (Some(Converting::FromConsumer), false) => GroupProtocol::Consumer,
        }
    }

    /// A coordinator that takes over a group that has just become a classic one does not know that all were to join again.
    pub(super) fn may_forget_to_rebalance(&self) -> bool {
        self.converting.is_some()
    }

    pub(super) fn has_any_of(&self, troubles: &[Trouble]) -> bool {
        self.troubles.iter().any(|trouble| troubles.contains(trouble))
    }

    pub(super) fn read(&self, consumer: Consumer) -> Records {
        match self.reading {
            Reading::AtLeastOnce => Records::AtLeastOnce(consumer.at_least_once()),
            Reading::Batches => Records::Batches(consumer.batches()),
            Reading::AtMostOnce => Records::AtMostOnce(consumer.at_most_once()),
            Reading::Manual => Records::Manual(consumer.manual()),
            Reading::Partitions => Records::Partitions(consumer.partitions(), Vec::new()),
            Reading::Placed => Records::Placed(consumer.unplaced_partitions(), Vec::new()),
        }
    }

    /// How long a user may take over so many records, some of them more than once.
    pub(super) fn time_to_work_on(&self, records: usize) -> Duration {
        ms(self.work_ms * 4 * (records as u64 + 20))
    }

    pub(super) fn fetch_wait_ms(&self) -> usize {
        self.fetch_max_wait.as_millis() as usize
    }

    pub(super) fn heartbeat_ms(&self) -> usize {
        self.heartbeat_interval.as_millis() as usize
    }

    pub(super) fn habits(&self, rng: &mut Rng) -> Habits {
        Habits {
            takes: true,
            // A program that commits by itself does one thing after the other.
            at_once: if matches!(self.reading, Reading::Manual | Reading::Placed) { 1 } else { self.at_once },
            work: ms(if self.work_ms == 0 { 0 } else { rng.next_u64() % self.work_ms }),
            is_uneven: rng.next_u64().is_multiple_of(2),
            // What is dropped comes after others, and a store that counts by offset has passed it then.
            drops_percent: if self.reading == Reading::Placed { 0 } else { self.drops_percent },
        }
    }
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}, {:?}{}{}{}, subscribing by {:?}, {} fetch sessions, {}% throttled, Kafka {:?}, {} partitions, up to {} clients, {} steps, latency {:?}, session {:?}, commits every {:?}, \
             buffer {} bytes, {} at once for up to {} ms, {}% dropped, with {:?}",
            self.reading,
            self.assigning,
            self.converting.map(|converting| format!(" {converting:?}")).unwrap_or_default(),
            if self.claims_lost { " claiming what is lost" } else { "" },
            if self.has_racks { ", in racks" } else { "" },
            self.subscribing,
            self.fetch_sessions_max,
            self.throttled_percent,
            self.release,
            self.partitions,
            self.clients_max,
            self.steps,
            self.latency,
            self.session_timeout,
            self.commit_interval,
            self.buffer_bytes_max,
            self.at_once,
            self.work_ms,
            self.drops_percent,
            self.troubles
        )
    }
}
