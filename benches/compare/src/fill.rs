//! Fills topics, fast: batches are built once and sent again and again, for a broker gives each its own offsets.

use std::{
    collections::BTreeMap,
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ProduceRequest, TopicName,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use ottla_bench::{Connection, leaders};

use crate::{
    batch::{Codec, batch},
    values::value,
};

/// How many different batches there are: too many for the caches of whoever reads them.
const BATCHES: usize = 64;
const REQUESTS_IN_FLIGHT_MAX: usize = 4;
const REQUEST_BYTES_MAX: usize = 4 << 20;
const REQUEST_PARTITIONS_MAX: usize = 1000;
const PRODUCE_VERSION: i16 = 7;
const TIMEOUT_MS: i32 = 30_000;

/// What a topic shall hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// All partitions together.
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
    /// How large a batch is before it is compressed.
    pub(crate) batch_bytes: usize,
    pub(crate) codec: Codec,
}

impl Load {
    /// Makes one batch of records.
    fn batch(self, first: u64, records: u64, now_ms: i64) -> Bytes {
        batch((first..first + records).map(|n| value(n, self.value_bytes)), now_ms, self.codec)
    }
}

/// Fills a topic that is there already, all partitions alike.
pub(crate) fn fill(bootstrap: &str, topic: &str, load: Load) -> io::Result<()> {
    let leaders = leaders(bootstrap, topic)?;
    let partitions = leaders.values().map(Vec::len).sum::<usize>() as u64;
    let now_ms = now_ms();
    let per_batch = (load.batch_bytes / load.value_bytes).max(1) as u64;
    let full: Vec<_> = (0..BATCHES as u64).map(|n| load.batch(n * per_batch, per_batch, now_ms)).collect();
    let mut partial = BTreeMap::new();
    for (address, led) in leaders {
        let mut pipe = Pipe::open(&address, topic)?;
        let mut left: Vec<_> =
            led.iter().map(|&p| (p, load.records / partitions + u64::from((p as u64) < load.records % partitions))).collect();
        let mut next = 0;
        while !left.is_empty() {
            let mut request = Vec::new();
            for (partition, left) in &mut left {
                let records = if *left >= per_batch {
                    next += 1;
                    full[next % BATCHES].clone()
                } else {
                    partial.entry(*left).or_insert_with(|| load.batch(0, *left, now_ms)).clone()
                };
                *left = left.saturating_sub(per_batch);
                request.push((*partition, records));
                let bytes = request.iter().map(|(_, records)| records.len()).sum::<usize>();
                if bytes >= REQUEST_BYTES_MAX || request.len() == REQUEST_PARTITIONS_MAX {
                    pipe.send(std::mem::take(&mut request))?;
                }
            }
            pipe.send(request)?;
            left.retain(|(_, left)| *left > 0);
        }
        pipe.drain(0)?;
    }
    Ok(())
}

/// Produce requests to one broker, some of them not answered yet.
pub(crate) struct Pipe {
    connection: Connection,
    topic: TopicName,
    in_flight: usize,
}

impl Pipe {
    /// Connects to a broker that leads partitions of a topic.
    pub(crate) fn open(address: &str, topic: &str) -> io::Result<Self> {
        Ok(Self { connection: Connection::open(address)?, topic: name(topic), in_flight: 0 })
    }

    /// Sends one batch for each of some partitions.
    pub(crate) fn send(&mut self, batches: Vec<(i32, Bytes)>) -> io::Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        let data = |(partition, records)| PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(self.topic.clone());
        let topic = topic.with_partition_data(batches.into_iter().map(data).collect());
        let request = ProduceRequest::default().with_acks(1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        self.connection.send(&request, PRODUCE_VERSION)?;
        self.in_flight += 1;
        self.drain(REQUESTS_IN_FLIGHT_MAX)
    }

    /// Waits until no more than so many requests are unanswered.
    pub(crate) fn drain(&mut self, in_flight_max: usize) -> io::Result<()> {
        while self.in_flight > in_flight_max {
            let answer = self.connection.receive::<ProduceRequest>(PRODUCE_VERSION)?;
            self.in_flight -= 1;
            for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                if partition.error_code != 0 {
                    return Err(io::Error::other(format!("cannot produce: error {}", partition.error_code)));
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
