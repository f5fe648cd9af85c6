//! What a log remembers of those who write to it: sequence numbers, and transactions that have not ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kafka_protocol::ResponseError;

use super::batch::{Batch, Header, Producer, add_to_sequence};

/// How many batches of a producer are remembered, to know them again when they are sent twice.
const REMEMBERED_BATCHES: usize = 5;

#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    by_id: BTreeMap<i64, Known>,
    /// Where transactions are open from, and whose they are: every read asks for the first.
    open: BTreeSet<(i64, i64)>,
}

#[derive(Clone, Debug)]
struct Known {
    epoch: i16,
    /// What it has written in this epoch, the oldest first.
    written: VecDeque<Written>,
    /// Where its open transaction begins.
    open_from: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    first_sequence: i32,
    last_sequence: i32,
    pub(super) base_offset: i64,
    pub(super) max_timestamp: i64,
}

impl Producers {
    /// Finds the batch that this one repeats.
    pub(super) fn duplicate(&self, batch: &Batch) -> Option<Written> {
        let known = self.by_id.get(&batch.header.producer_id).filter(|known| known.epoch == batch.header.producer_epoch)?;
        let sequences = (batch.header.base_sequence, batch.last_sequence());
        known.written.iter().find(|written| (written.first_sequence, written.last_sequence) == sequences).copied()
    }

    /// Says whether the producer may write this batch now.
    pub(super) fn check(&self, header: &Header) -> Result<(), ResponseError> {
        let Some(known) = self.by_id.get(&header.producer_id) else { return Ok(()) };
        if header.producer_epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let is_next = match known.written.back() {
            Some(last) if header.producer_epoch == known.epoch => header.base_sequence == add_to_sequence(last.last_sequence, 1),
            // It begins a new epoch, or one whose only trace is a marker.
            _ => header.base_sequence == 0,
        };
        if !is_next {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        if known.open_from.is_some() && !header.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(())
    }

    pub(super) fn wrote(&mut self, batch: &Batch) {
        let header = &batch.header;
        if header.producer_id < 0 {
            return;
        }
        let known = self.know(header.producer_id, header.producer_epoch);
        let begins = header.is_transactional() && known.open_from.is_none();
        if begins {
            known.open_from = Some(batch.base_offset());
        }
        if header.base_sequence >= 0 {
            if known.written.len() == REMEMBERED_BATCHES {
                known.written.pop_front();
            }
            known.written.push_back(Written {
                first_sequence: header.base_sequence,
                last_sequence: batch.last_sequence(),
                base_offset: batch.base_offset(),
                max_timestamp: header.max_timestamp,
            });
        }
        if begins {
            self.open.insert((batch.base_offset(), header.producer_id));
        }
    }

    /// Ends the producer's transaction, and says where it began if there was one.
    pub(super) fn ended(&mut self, producer: Producer) -> Option<i64> {
        let from = self.know(producer.id, producer.epoch).open_from.take()?;
        self.open.remove(&(from, producer.id));
        Some(from)
    }

    /// Says where the oldest open transaction begins.
    pub(super) fn open_from(&self) -> Option<i64> {
        self.open.first().map(|(from, _)| *from)
    }

    pub(super) fn has_open(&self, producer: Producer) -> bool {
        self.by_id.get(&producer.id).is_some_and(|known| known.epoch == producer.epoch && known.open_from.is_some())
    }

    /// Lists whose transactions are open, the oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = Producer> {
        self.open.iter().map(|(_, id)| Producer { id: *id, epoch: self.by_id[id].epoch })
    }

    /// Says where the last batch lies that this producer has written.
    pub(super) fn last_base_offset(&self, id: i64) -> Option<i64> {
        self.by_id.get(&id)?.written.back().map(|last| last.base_offset)
    }

    pub(super) fn next_sequence(&self, producer: Producer) -> i32 {
        let known = self.by_id.get(&producer.id).filter(|known| known.epoch == producer.epoch);
        known.and_then(|known| known.written.back()).map_or(0, |last| add_to_sequence(last.last_sequence, 1))
    }

    fn know(&mut self, id: i64, epoch: i16) -> &mut Known {
        let known = self.by_id.entry(id).or_insert_with(|| Known { epoch, written: VecDeque::new(), open_from: None });
        if known.epoch < epoch {
            known.epoch = epoch;
            known.written.clear();
        }
        known
    }
}
