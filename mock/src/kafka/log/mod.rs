//! A partition's log: what was written, by whom, and how far it may be read.

mod batch;
mod compact;
mod epochs;
mod handlers;
mod producers;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use crate::record::{Record, StoredRecord};

pub(super) use handlers::{delete_records, list_offsets, offset_for_leader_epoch};

pub(crate) use batch::{Batch, Invalid, Producer};

use batch::{Header, Unreadable};
use epochs::Epochs;
use producers::Producers;

/// A partition's log. Every replica has all of it at once, so its end is the high watermark.
#[derive(Debug)]
pub(crate) struct Log {
    /// By their last offset, which goes up.
    batches: Vec<Batch>,
    start: i64,
    end: i64,
    epochs: Epochs,
    producers: Producers,
    /// In the order in which their markers were written.
    aborted: Vec<Aborted>,
    /// `message.timestamp.type=LogAppendTime`.
    is_log_append_time: bool,
}

/// A transaction that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// Where its marker lies.
    pub(crate) last_offset: i64,
}

/// Where a producer's batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// When it was appended, if the topic dates records so.
    pub(crate) log_append_time_ms: Option<i64>,
}

/// A record that was found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dated {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) leader_epoch: i32,
}

/// What a read has found: the bytes of batches one after the other, the last one cut off where the limit was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Log {
    /// Begins a log in leader epoch 0.
    pub(crate) fn new(is_log_append_time: bool) -> Self {
        let mut epochs = Epochs::default();
        epochs.begin(0, 0);
        let (batches, aborted) = (Vec::new(), Vec::new());
        Self { batches, start: 0, end: 0, epochs, producers: Producers::default(), aborted, is_log_append_time }
    }

    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Says where the first transaction begins that has not ended: read_committed reads no further.
    pub(crate) fn last_stable(&self) -> i64 {
        self.producers.open_from().map_or(self.end, |offset| offset.max(self.start))
    }

    /// Says how far one may read.
    pub(crate) fn limit(&self, is_read_committed: bool) -> i64 {
        if is_read_committed { self.last_stable() } else { self.end }
    }

    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.begin(epoch, self.end);
    }

    /// Says where an epoch ended: see KIP-320.
    pub(crate) fn end_of(&self, epoch: i32) -> Option<(i32, i64)> {
        self.epochs.end_of(epoch, self.end)
    }

    /// Says in which epoch the log starts.
    pub(crate) fn earliest_epoch(&self) -> Option<i32> {
        self.epochs.earliest(self.start)
    }

    /// Appends records of a producer without id, as one batch; no records are no batch.
    pub(crate) fn append(&mut self, records: impl IntoIterator<Item = Record>, now_ms: i64) -> i64 {
        self.append_batch(Header::plain(), records, now_ms)
    }

    /// Appends records to the producer's transaction, which begins with them if it has not begun.
    pub(crate) fn append_in_transaction(
        &mut self,
        producer: Producer,
        records: impl IntoIterator<Item = Record>,
        now_ms: i64,
    ) -> i64 {
        let sequence = self.producers.next_sequence(producer);
        self.append_batch(Header::transactional(producer, sequence), records, now_ms)
    }

    /// Appends what a producer has sent, as it came.
    pub(crate) fn append_produced(&mut self, mut batch: Batch, now_ms: i64) -> Result<Appended, ResponseError> {
        if batch.header.producer_id >= 0 {
            if let Some(written) = self.producers.duplicate(&batch) {
                // Kafka tells the time of a batch that it has already, whoever set it.
                return Ok(Appended { base_offset: written.base_offset, log_append_time_ms: Some(written.max_timestamp) });
            }
            self.producers.check(&batch.header)?;
        }
        if self.is_log_append_time {
            batch.date(now_ms);
        }
        let base_offset = self.push(batch);
        Ok(Appended { base_offset, log_append_time_ms: self.is_log_append_time.then_some(now_ms) })
    }

    /// Appends one batch as it is, sound or not.
    pub(crate) fn append_raw(&mut self, bytes: Bytes) -> i64 {
        self.push(Batch::trust(bytes))
    }

    /// Appends records as a batch whose checksum is wrong.
    pub(crate) fn append_corrupt(&mut self, records: impl IntoIterator<Item = Record>, now_ms: i64) -> i64 {
        let base_offset = self.append(records, now_ms);
        if self.end > base_offset {
            self.batches.last_mut().expect("it was appended just now").corrupt();
        }
        base_offset
    }

    /// Writes the marker that ends the producer's transaction, and says where.
    pub(crate) fn end_transaction(&mut self, producer: Producer, is_committed: bool, coordinator_epoch: i32, now_ms: i64) -> i64 {
        self.push(Batch::marker(self.end, producer, is_committed, coordinator_epoch, now_ms))
    }

    /// Says whether a batch of this producer would be part of a transaction that has begun here.
    pub(crate) fn has_open(&self, producer: Producer) -> bool {
        self.producers.has_open(producer)
    }

    /// Lists who has a transaction open.
    pub(crate) fn open(&self) -> Vec<Producer> {
        self.producers.open().collect()
    }

    /// Forgets what is before an offset.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        let gone = self.batches.partition_point(|batch| batch.last_offset() < self.start);
        self.batches.drain(..gone);
        self.aborted.retain(|aborted| aborted.last_offset >= self.start);
        self.epochs.forget_before(self.start);
    }

    /// Loses what is from an offset on, back to where a batch begins.
    pub(crate) fn truncate(&mut self, end: i64) {
        let kept = self.batches.partition_point(|batch| batch.last_offset() < end);
        let cut = self.batches.get(kept).map_or(end, |batch| batch.base_offset().min(end));
        self.end = cut.clamp(0, self.end);
        self.start = self.start.min(self.end);
        self.batches.truncate(kept);
        self.epochs.forget_from(self.end);
        self.aborted.retain(|aborted| aborted.last_offset < self.end);
        self.producers = Producers::default();
        for batch in self.batches.iter().filter(|batch| batch.is_intact()) {
            match batch.ends() {
                Some(_) => drop(self.producers.ended(producer_of(batch))),
                None if batch.header.is_control() => {}
                None => self.producers.wrote(batch),
            }
        }
    }

    /// Reads from an offset up to (not with) `limit`. The first batch comes whole if `is_first_whole`, however long it is; otherwise
    /// there is nothing if it does not fit. The last one may be cut off.
    pub(crate) fn read(&self, from: i64, limit: i64, bytes_max: usize, is_first_whole: bool) -> Slice {
        let mut slice = Slice::default();
        let first = self.batches.partition_point(|batch| batch.last_offset() < from);
        for batch in self.batches[first..].iter().take_while(|batch| batch.last_offset() < limit) {
            let left = bytes_max - slice.bytes.min(bytes_max);
            let whole = batch.bytes.len();
            let taken = if slice.chunks.is_empty() && (is_first_whole || whole <= left) {
                whole
            } else if slice.chunks.is_empty() {
                0
            } else {
                whole.min(left)
            };
            if taken == 0 {
                break;
            }
            slice.bytes += taken;
            slice.chunks.push(batch.bytes.slice(..taken));
        }
        slice
    }

    /// Lists the transactions that were given up and may have records from here on, in the order of their ends.
    pub(crate) fn aborted_from(&self, from: i64) -> impl Iterator<Item = &Aborted> {
        self.aborted.iter().filter(move |aborted| aborted.last_offset >= from)
    }

    /// Finds the first record that is not older.
    pub(crate) fn first_since(&self, timestamp_ms: i64) -> Option<Dated> {
        let mut batches = self.batches.iter().filter(|batch| batch.header.max_timestamp >= timestamp_ms);
        batches.find_map(|batch| self.dated(batch).into_iter().find(|dated| dated.timestamp_ms >= timestamp_ms))
    }

    /// Finds the first of the youngest records.
    pub(crate) fn youngest(&self) -> Option<Dated> {
        let youngest = self.batches.iter().rev().max_by_key(|batch| batch.header.max_timestamp)?;
        self.dated(youngest).into_iter().rev().max_by_key(|dated| dated.timestamp_ms)
    }

    /// Reads what a reader of committed records would be given. Broken batches are left out.
    pub(crate) fn visible(&self) -> Vec<StoredRecord> {
        let limit = self.last_stable();
        let readable = self.batches.iter().take_while(|batch| batch.last_offset() < limit);
        let data = readable.filter(|batch| !batch.header.is_control() && !self.is_aborted(batch));
        let records = data.flat_map(|batch| match batch.records() {
            Ok(records) => records,
            Err(Unreadable::Corrupt) => Vec::new(),
            Err(Unreadable::Compressed) => {
                panic!("the batch at offset {} is compressed: it is not read here", batch.base_offset())
            }
        });
        records.filter(|record| record.offset >= self.start).collect()
    }

    fn is_aborted(&self, batch: &Batch) -> bool {
        let (id, base, last) = (batch.header.producer_id, batch.base_offset(), batch.last_offset());
        let holds = |aborted: &Aborted| aborted.producer_id == id && aborted.first_offset <= base && last < aborted.last_offset;
        batch.header.is_transactional() && self.aborted.iter().any(holds)
    }

    fn append_batch(&mut self, mut header: Header, records: impl IntoIterator<Item = Record>, now_ms: i64) -> i64 {
        header.base_offset = self.end;
        let stored = records.into_iter().zip(self.end..).map(|(record, offset)| {
            let Record { key, value, headers, timestamp_ms } = record;
            StoredRecord { offset, timestamp_ms: timestamp_ms.unwrap_or(now_ms), key, value, headers }
        });
        let stored: Vec<_> = stored.collect();
        if stored.is_empty() {
            return self.end;
        }
        let mut batch = Batch::build(header, &stored);
        if self.is_log_append_time {
            batch.date(now_ms);
        }
        self.push(batch)
    }

    fn push(&mut self, mut batch: Batch) -> i64 {
        let base_offset = self.end;
        batch.place(base_offset, self.epochs.latest().unwrap_or(0));
        match batch.ends() {
            Some(is_committed) => {
                let producer = producer_of(&batch);
                if let Some(first_offset) = self.producers.ended(producer).filter(|_| !is_committed) {
                    self.aborted.push(Aborted { producer_id: producer.id, first_offset, last_offset: base_offset });
                }
            }
            // What a broken header says of a producer would hold up all readers for ever.
            None if batch.header.is_control() || !batch.is_intact() => {}
            None => self.producers.wrote(&batch),
        }
        self.end = batch.last_offset() + 1;
        self.batches.push(batch);
        base_offset
    }

    /// Dates a batch's records; of one that cannot be read only what its header says is known.
    fn dated(&self, batch: &Batch) -> Vec<Dated> {
        let leader_epoch = batch.header.leader_epoch;
        let dated = |offset: i64, timestamp_ms| Dated { offset, timestamp_ms, leader_epoch };
        let Ok(records) = batch.records() else {
            return vec![dated(batch.base_offset().max(self.start), batch.header.max_timestamp)];
        };
        let records = records.into_iter().filter(|record| record.offset >= self.start);
        records.map(|record| dated(record.offset, record.timestamp_ms)).collect()
    }
}

impl Slice {
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.chunks.len() == 1 { self.chunks.remove(0) } else { self.chunks.concat().into() }
    }
}

fn producer_of(batch: &Batch) -> Producer {
    Producer { id: batch.header.producer_id, epoch: batch.header.producer_epoch }
}
