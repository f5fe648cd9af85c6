//! Producers' ids, and the coordinator of their transactions.

mod handlers;
mod produce;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kafka_protocol::ResponseError;

use super::{Context, group::Groups, log::Producer};

/// With every new id epochs begin at 0; the last one is kept for fencing.
const EPOCH_MAX: i16 = i16::MAX - 1;
const NO_EPOCH: i16 = -1;

/// All transactions, by transactional id.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    next_producer_id: i64,
}

#[derive(Debug)]
struct Transaction {
    producer: Producer,
    /// The epoch before, if it was the producer itself that went on from it: it may ask again.
    last_epoch: i16,
    timeout: Duration,
    began: Instant,
    state: State,
    /// Those that have not had their markers yet.
    partitions: BTreeSet<(String, i32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing,
    /// It is decided, and partitions without a leader still lack their markers.
    Ending {
        is_committed: bool,
        /// Whom the markers name: the producer may have gone on to another id.
        by: Producer,
    },
    Ended {
        is_committed: bool,
    },
}

impl Transactions {
    pub(super) fn new_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }

    /// Gives up what takes too long, and writes the markers that could not be written before.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>, groups: &mut Groups) {
        for transaction in self.by_id.values_mut() {
            if transaction.deadline().is_some_and(|at| at <= cx.now) {
                transaction.fence();
                transaction.end(cx, groups, transaction.producer, false);
            }
            transaction.mark(cx);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Transaction::deadline).min()
    }

    /// Finds the transaction that this producer may go on with.
    fn find(&mut self, id: &str, producer: Producer) -> Result<&mut Transaction, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let known = self.by_id.get_mut(id).filter(|known| known.producer.id == producer.id);
        let known = known.ok_or(ResponseError::InvalidProducerIdMapping)?;
        if known.producer.epoch != producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        if matches!(known.state, State::Ending { .. }) {
            return Err(ResponseError::ConcurrentTransactions);
        }
        Ok(known)
    }

    /// Gives out a producer id and epoch; `expected` is what the producer had before.
    fn init(
        &mut self,
        cx: &mut Context<'_>,
        groups: &mut Groups,
        id: &str,
        timeout: Duration,
        expected: Option<Producer>,
    ) -> Result<Producer, ResponseError> {
        let fresh = Producer { id: self.next_producer_id, epoch: 0 };
        let Some(known) = self.by_id.get_mut(id) else {
            self.next_producer_id += 1;
            self.by_id.insert(id.to_owned(), Transaction::new(fresh, timeout, cx.now));
            return Ok(fresh);
        };
        if let Some(expected) = expected {
            let is_own = expected.epoch == known.producer.epoch || expected.epoch == known.last_epoch;
            if expected.id != known.producer.id || !is_own {
                return Err(ResponseError::ProducerFenced);
            }
        }
        match known.state {
            State::Ending { .. } => Err(ResponseError::ConcurrentTransactions),
            // Whoever wrote it is fenced; the new one comes again when it is over.
            State::Ongoing => {
                known.fence();
                known.end(cx, groups, known.producer, false);
                Err(ResponseError::ConcurrentTransactions)
            }
            State::Empty | State::Ended { .. } => {
                known.timeout = timeout;
                known.state = State::Empty;
                let is_repeated = expected.is_some_and(|expected| expected.epoch != known.producer.epoch);
                if !is_repeated && known.bump(fresh) {
                    self.next_producer_id += 1;
                }
                if expected.is_none() {
                    known.last_epoch = NO_EPOCH;
                }
                Ok(known.producer)
            }
        }
    }

    /// Ends a transaction as its producer asks; from version 5 on every end begins an epoch (KIP-890).
    fn end_as_asked(
        &mut self,
        cx: &mut Context<'_>,
        groups: &mut Groups,
        id: &str,
        producer: Producer,
        is_committed: bool,
        is_bumping: bool,
    ) -> Result<Producer, ResponseError> {
        let fresh = Producer { id: self.next_producer_id, epoch: 0 };
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let known = self.by_id.get_mut(id).filter(|known| known.producer.id == producer.id);
        let known = known.ok_or(ResponseError::InvalidProducerIdMapping)?;
        let is_repeated = is_bumping && producer.epoch == known.last_epoch && known.state != State::Ongoing;
        if known.producer.epoch != producer.epoch && !is_repeated {
            return Err(ResponseError::ProducerFenced);
        }
        match known.state {
            State::Ending { is_committed: was, .. } if was == is_committed => return Err(ResponseError::ConcurrentTransactions),
            State::Ended { is_committed: was } if was == is_committed && (is_repeated || !is_bumping) => {
                return Ok(known.producer);
            }
            State::Ongoing => {}
            // There may be nothing to give up.
            State::Empty | State::Ended { .. } if is_bumping && !is_repeated && !is_committed => {}
            _ => return Err(ResponseError::InvalidTxnState),
        }
        let before = known.producer;
        let by = if is_bumping { Producer { epoch: before.epoch + 1, ..before } } else { before };
        let is_rotated = is_bumping && known.bump(fresh);
        let after = known.producer;
        known.end(cx, groups, by, is_committed);
        if is_rotated {
            self.next_producer_id += 1;
        }
        Ok(after)
    }
}

impl Transaction {
    fn new(producer: Producer, timeout: Duration, now: Instant) -> Self {
        let partitions = BTreeSet::new();
        Self { producer, last_epoch: NO_EPOCH, timeout, began: now, state: State::Empty, partitions }
    }

    fn deadline(&self) -> Option<Instant> {
        (self.state == State::Ongoing).then_some(self.began + self.timeout)
    }

    /// Makes it ongoing, if it is not yet.
    fn begin(&mut self, now: Instant) {
        if self.state != State::Ongoing {
            self.state = State::Ongoing;
            self.began = now;
        }
    }

    /// Begins the producer's next epoch, or its next id where epochs end: then says so.
    fn bump(&mut self, fresh: Producer) -> bool {
        self.last_epoch = self.producer.epoch;
        let is_rotated = self.producer.epoch >= EPOCH_MAX;
        self.producer = if is_rotated { fresh } else { Producer { epoch: self.producer.epoch + 1, ..self.producer } };
        is_rotated
    }

    /// Shuts out whoever has the epoch.
    fn fence(&mut self) {
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.last_epoch = NO_EPOCH;
    }

    fn end(&mut self, cx: &mut Context<'_>, groups: &mut Groups, by: Producer, is_committed: bool) {
        self.state = State::Ending { is_committed, by };
        groups.end_transaction(cx, by.id, is_committed);
        self.mark(cx);
    }

    /// Writes the markers where there is a leader to write them.
    fn mark(&mut self, cx: &mut Context<'_>) {
        let State::Ending { is_committed, by } = self.state else { return };
        self.partitions.retain(|(topic, number)| match cx.topics.partition(topic, *number) {
            None => false,
            Some(partition) if partition.leader.is_none() => true,
            Some(_) => {
                let partition = cx.topics.partition_mut(topic, *number).expect("it was found just now");
                partition.log.end_transaction(by, is_committed, 0, cx.unix_ms);
                false
            }
        });
        if self.partitions.is_empty() {
            self.state = State::Ended { is_committed };
        }
    }
}
