//! The raw loop: what reading costs at least. One blocking connection to each leader; it fetches, checks the CRC of each batch, walks the
//! lengths of the records, and keeps nothing. No group, no commits, no task, no record that outlives the buffer; compressed batches are
//! counted by their headers, not decompressed. It shares no decoding with ottla.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, error::Error};

use bench_meter::{Meter, Task};
use kafka_protocol::{
    messages::{
        FetchRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
    },
    protocol::StrBytes,
};
use ottla_bench::{Connection, leaders};

const SETTINGS: &str = "1 MiB per partition and 4 MiB per Fetch; CRCs checked; std::net, one thread";
const FETCH_VERSION: i16 = 11;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
/// More would leave the cache before it is looked at.
const FETCH_BYTES_MAX: i32 = 4 << 20;
const COMPRESSION: u16 = 0b111;

/// One broker, and how far each partition that it leads has been read.
struct Leader {
    connection: Connection,
    partitions: BTreeMap<i32, Position>,
}

#[derive(Clone, Copy)]
struct Position {
    next: i64,
    end: i64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let task = Task::of_this_process();
    let mut meter = Meter::of(&task);
    let topic = TopicName(StrBytes::from_string(task.topic.clone()));
    let mut brokers = Vec::new();
    for (address, partitions) in leaders(&task.bootstrap, &task.topic)? {
        let begin = |partition| (partition, Position { next: 0, end: i64::MAX });
        let partitions = partitions.into_iter().map(begin).collect();
        let mut leader = Leader { connection: Connection::open(&address)?, partitions };
        leader.ask(&topic)?;
        brokers.push(leader);
    }
    while !meter.is_done() {
        // A broker that has nothing more would wait before it says so, and the others with it.
        for leader in brokers.iter_mut().filter(|leader| leader.has_more()) {
            leader.take(&mut meter)?;
            if leader.has_more() {
                leader.ask(&topic)?;
            }
        }
    }
    meter.print("raw", SETTINGS);
    Ok(())
}

impl Leader {
    fn has_more(&self) -> bool {
        self.partitions.values().any(|position| position.next < position.end)
    }

    fn ask(&mut self, topic: &TopicName) -> Result<(), Box<dyn Error>> {
        let partition = |(partition, position): (&i32, &Position)| {
            let asked = FetchPartition::default().with_partition(*partition).with_fetch_offset(position.next);
            asked.with_partition_max_bytes(PARTITION_BYTES_MAX)
        };
        let partitions = self.partitions.iter().map(partition).collect();
        let request = FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_max_bytes(FETCH_BYTES_MAX);
        let request = request.with_topics(vec![FetchTopic::default().with_topic(topic.clone()).with_partitions(partitions)]);
        Ok(self.connection.send(&request, FETCH_VERSION)?)
    }

    /// Takes an answer apart: as FetchResponse v11 lays it out.
    fn take(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
        let mut answer = Cursor(self.connection.receive_raw()?);
        answer.skip(4 + 4 + 2 + 4); // correlation id, throttle time, error, session
        for _ in 0..answer.i32() {
            let name_len = answer.i16();
            answer.skip(name_len as usize);
            for _ in 0..answer.i32() {
                let (partition, error) = (answer.i32(), answer.i16());
                if error != 0 {
                    return Err(format!("partition {partition}: error {error}").into());
                }
                let end = i64::from(answer.i32()) << 32 | i64::from(answer.i32() as u32);
                answer.skip(2 * 8); // last stable offset, log start
                let aborted = answer.i32().max(0) as usize;
                answer.skip(16 * aborted + 4); // and the preferred replica
                let len = answer.i32().max(0) as usize;
                let position = self.partitions.get_mut(&partition).ok_or("a partition that nobody asked for")?;
                position.end = end;
                walk(answer.take(len), &mut position.next, meter)?;
            }
        }
        Ok(())
    }
}

/// Walks the batches of one partition.
fn walk(mut batches: &[u8], next: &mut i64, meter: &mut Meter) -> Result<(), Box<dyn Error>> {
    while let Some(header) = batches.first_chunk::<61>() {
        let at = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let len = 12 + at(8) as usize;
        // The last batch of an answer may be cut off.
        let Some(batch) = batches.get(..len) else { break };
        batches = &batches[len..];
        if at(17) as u32 != crc32c::crc32c(&batch[21..]) {
            return Err("a batch with a wrong CRC".into());
        }
        let (base, last_delta, records) = (i64::from(at(0)) << 32 | i64::from(at(4) as u32), at(23), at(57));
        *next = base + i64::from(last_delta) + 1;
        if u16::from_be_bytes([header[21], header[22]]) & COMPRESSION != 0 {
            meter.count(records as u64, 0);
            continue;
        }
        let mut records_left = Cursor(&batch[61..]);
        for _ in 0..records {
            let len = records_left.varint();
            let mut record = Cursor(records_left.take(len as usize));
            record.skip(1); // attributes
            record.varint(); // timestamp
            record.varint(); // offset
            let key_len = record.varint().max(0) as usize;
            record.skip(key_len);
            let value_len = record.varint().max(0) as usize;
            meter.record(Some(record.take(value_len)));
        }
    }
    Ok(())
}

/// Reads from the front; what is not there is a panic, for this is a broker of ours.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        front
    }

    #[inline]
    fn skip(&mut self, len: usize) {
        self.0 = &self.0[len..];
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(*self.take(2).first_chunk().expect("two bytes were taken"))
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(*self.take(4).first_chunk().expect("four bytes were taken"))
    }

    #[inline]
    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.0[0];
            self.0 = &self.0[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
            shift += 7;
        }
    }
}
