//! The workloads: what lies in the topic, what is asked of each client, and which figures are told.

use crate::{batch::Codec, fill::Load, table::Metric};

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
    pub(crate) load: Load,
    /// The figures of its table.
    pub(crate) metrics: &'static [Metric],
    /// Whether rates and CPU are also told as ratios to other clients.
    pub(crate) has_ratios: bool,
}

pub(crate) const ALL: &[Workload] = &[
    read("b100", "100 B, 4 partitions, uncompressed", 10_000_000, 100, Codec::None),
    read("b16", "16 B, 4 partitions, uncompressed", 10_000_000, 16, Codec::None),
    read("k1", "1 KiB, 4 partitions, uncompressed", 2_000_000, 1024, Codec::None),
    read("lz4", "100 B, 4 partitions, lz4", 5_000_000, 100, Codec::Lz4),
    read("zstd", "1 KiB, 4 partitions, zstd", 2_000_000, 1024, Codec::Zstd),
    read("gzip", "1 KiB, 4 partitions, gzip", 2_000_000, 1024, Codec::Gzip),
    read("snappy", "1 KiB, 4 partitions, snappy", 2_000_000, 1024, Codec::Snappy),
    Workload {
        partitions: 1000,
        load: Load { batch_bytes: SMALL_BATCH, ..load(5_000_000, 100, Codec::None) },
        ..read("wide", "100 B, 1,000 partitions, uncompressed", 5_000_000, 100, Codec::None)
    },
    Workload {
        brokers: 3,
        partitions: 12,
        ..read("three", "100 B, 12 partitions on 3 brokers, uncompressed", 10_000_000, 100, Codec::None)
    },
];

impl Workload {
    /// Leaves out all but one of so many records.
    pub(crate) fn shorten(&mut self, divisor: u64) {
        self.load.records /= divisor;
    }
}

/// Records that are there, to be read as fast as can be.
const fn read(name: &'static str, says: &'static str, records: u64, value_bytes: usize, codec: Codec) -> Workload {
    Workload {
        name,
        says,
        brokers: 1,
        partitions: PARTITIONS,
        load: load(records, value_bytes, codec),
        metrics: &[Metric::Rate, Metric::CpuNs, Metric::PeakMib],
        has_ratios: true,
    }
}

const fn load(records: u64, value_bytes: usize, codec: Codec) -> Load {
    Load { records, value_bytes, batch_bytes: LARGE_BATCH, codec }
}
