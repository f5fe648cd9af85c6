//! The workloads: what lies in the topic, what is asked of each client, and which figures are told.

use crate::{
    batch::Codec,
    fill::Load,
    table::{Metric, ON_ONE},
};

/// The partitions of a topic that is read for its own sake.
const PARTITIONS: i32 = 4;
/// What a producer that waits a little makes of much that comes at once.
const LARGE_BATCH: usize = 128 << 10;
/// What it makes when records go to a thousand partitions: Java's `batch.size`.
const SMALL_BATCH: usize = 16 << 10;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) says: &'static str,
    pub(crate) brokers: usize,
    pub(crate) partitions: i32,
    /// Every client reads from each of these, in turn.
    pub(crate) places: &'static [Place],
    pub(crate) load: Load,
    pub(crate) feed: Feed,
    /// How many records each client reads; `None` is all.
    pub(crate) reads: Option<u64>,
    /// What else is asked of the clients: arguments as `benches/meter` understands them.
    pub(crate) asks: &'static [&'static str],
    pub(crate) who: Who,
    /// A run that takes long, and comes out the same each time, is not repeated as often.
    pub(crate) rounds_max: usize,
    /// A quick run has so many times fewer records.
    pub(crate) quick_divisor: u64,
    /// The figures of its table.
    pub(crate) metrics: &'static [Metric],
    /// Whether rates and CPU are also told as ratios to other clients.
    pub(crate) has_ratios: bool,
}

/// Where a topic's partitions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Spread over the brokers there are.
    Everywhere,
    /// All on one of them. The others idle, so that the machine has the same to carry.
    OnOne,
}

impl Place {
    /// What is added to the names of topics, and to those of clients in tables.
    pub(crate) fn suffixes(self) -> (&'static str, &'static str) {
        match self {
            Self::Everywhere => ("", ""),
            Self::OnOne => ("-on-one", ON_ONE),
        }
    }
}

/// When the records come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// All are there before.
    Before,
    /// So many in a second while the client runs, each with the time at which it was sent.
    PerSecond(u32),
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    All,
    /// Members of groups: ottla as it is used most, and the peers.
    Members,
    /// The program in which two of ottla's members hand over to each other.
    Pair,
}

pub(crate) const ALL: &[Workload] = &[
    read("b100", "100 B, 4 partitions, uncompressed", load(10_000_000, 100, Codec::None)),
    read("b16", "16 B, 4 partitions, uncompressed", load(10_000_000, 16, Codec::None)),
    read("k1", "1 KiB, 4 partitions, uncompressed", load(2_000_000, 1024, Codec::None)),
    read("lz4", "100 B, 4 partitions, lz4", load(5_000_000, 100, Codec::Lz4)),
    read("zstd", "1 KiB, 4 partitions, zstd", load(2_000_000, 1024, Codec::Zstd)),
    read("gzip", "1 KiB, 4 partitions, gzip", load(2_000_000, 1024, Codec::Gzip)),
    read("snappy", "1 KiB, 4 partitions, snappy", load(2_000_000, 1024, Codec::Snappy)),
    Workload {
        partitions: 1000,
        // From its start: the first answer of some clients holds a tenth of all there is.
        metrics: &[Metric::RateFromStart, Metric::CpuNsFromStart, Metric::PeakMib],
        ..read("wide", "100 B, 1,000 partitions", Load { batch_bytes: SMALL_BATCH, ..load(5_000_000, 100, Codec::None) })
    },
    Workload {
        brokers: 3,
        partitions: 12,
        places: &[Place::Everywhere, Place::OnOne],
        ..read("three", "100 B, 12 partitions on 3 brokers, uncompressed", load(10_000_000, 100, Codec::None))
    },
    Workload {
        feed: Feed::PerSecond(1000),
        asks: &["stamped=1"],
        quick_divisor: 3,
        ..further(
            "latency",
            "100 B at 1,000 a second, from being sent to being handed over",
            load(12_000, 100, Codec::None),
            &[Metric::LatencyP50Ms, Metric::LatencyP99Ms],
        )
    },
    Workload {
        reads: Some(1),
        who: Who::All,
        ..further(
            "start",
            "100 B, from the process' start to the first record",
            load(4000, 100, Codec::None),
            &[Metric::StartMs, Metric::StartCpuMs],
        )
    },
    Workload {
        partitions: 100,
        asks: &["idle_ms=20000"],
        rounds_max: 2,
        ..further(
            "idle",
            "100 B, then nothing for 20 s in 100 partitions",
            load(100, 100, Codec::None),
            &[Metric::IdlePercent, Metric::FetchesPerWait, Metric::IdleFetchBytes, Metric::RssMib, Metric::PeakMib],
        )
    },
    Workload {
        partitions: 10_000,
        asks: &["idle_ms=20000"],
        rounds_max: 1,
        ..further(
            "idle10k",
            "100 B, then nothing for 20 s in 10,000 partitions",
            load(10_000, 100, Codec::None),
            &[Metric::IdlePercent, Metric::IdleFetchBytes, Metric::RssMib, Metric::PeakMib],
        )
    },
    Workload {
        reads: Some(1),
        asks: &["hold_ms=10000"],
        rounds_max: 2,
        quick_divisor: 10,
        ..further(
            "memory",
            "100 B, of which one is taken, and then none for 10 s",
            load(10_000_000, 100, Codec::None),
            &[Metric::RssMib, Metric::PeakMib],
        )
    },
    Workload {
        asks: &["hold_ms=1500"],
        ..further("close", "100 B, then the member is idle, and leaves", load(4, 100, Codec::None), &[Metric::CloseMs])
    },
    Workload {
        partitions: 10_000,
        rounds_max: 3,
        ..further(
            "assign",
            "100 B, one in each of 10,000 partitions, from the process' start",
            load(10_000, 100, Codec::None),
            &[Metric::AssignedMs, Metric::StartMs, Metric::LastMs, Metric::PeakMib],
        )
    },
    Workload {
        partitions: 1000,
        who: Who::Pair,
        // What the first member reads before the second comes; the rest comes all the while.
        reads: Some(5_000),
        feed: Feed::PerSecond(2_000),
        rounds_max: 3,
        ..further(
            "handover",
            "100 B at 2,000 a second, two members share 1,000 partitions, then one leaves",
            load(40_000, 100, Codec::None),
            &[Metric::SharedMs, Metric::TakenOverMs],
        )
    },
];

impl Workload {
    /// Leaves out what a quick run does without.
    pub(crate) fn shorten(&mut self) {
        self.load.records /= self.quick_divisor;
        self.rounds_max = self.rounds_max.div_ceil(2);
    }

    /// Returns how many records each client reads.
    pub(crate) fn wanted(&self) -> u64 {
        self.reads.unwrap_or(self.load.records)
    }

    /// Returns the settings of its topic.
    pub(crate) fn topic_configs(&self) -> &'static [(&'static str, &'static str)] {
        match self.partitions {
            // Indices are laid out for a whole segment beforehand, in each partition.
            100.. => &[("retention.ms", "-1"), ("file.delete.delay.ms", "1000"), ("segment.index.bytes", "65536")],
            _ => &[("retention.ms", "-1"), ("file.delete.delay.ms", "1000")],
        }
    }
}

/// Records that are there, to be read as fast as can be.
const fn read(name: &'static str, says: &'static str, load: Load) -> Workload {
    Workload {
        name,
        says,
        brokers: 1,
        partitions: PARTITIONS,
        places: &[Place::Everywhere],
        load,
        feed: Feed::Before,
        reads: None,
        asks: &[],
        who: Who::All,
        rounds_max: usize::MAX,
        quick_divisor: 10,
        metrics: &[Metric::Rate, Metric::CpuNs, Metric::BrokerCpuNs, Metric::PeakMib],
        has_ratios: true,
    }
}

/// What else there is to a consumer than to read fast.
const fn further(name: &'static str, says: &'static str, load: Load, metrics: &'static [Metric]) -> Workload {
    Workload { who: Who::Members, quick_divisor: 1, metrics, has_ratios: false, ..read(name, says, load) }
}

const fn load(records: u64, value_bytes: usize, codec: Codec) -> Load {
    Load { records, value_bytes, batch_bytes: LARGE_BATCH, codec }
}
