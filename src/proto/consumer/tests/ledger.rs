//! What was handed out, acked and committed, and the promises that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use super::kafka::Log;
use crate::{
    consumer::Delivery,
    model::TopicPartition,
    proto::{ConnId, backoff::Rng},
    wire::Api,
};

pub(super) struct Ledger {
    pub(super) handed: Vec<Handed>,
    offsets: BTreeMap<TopicPartition, BTreeSet<i64>>,
    acked: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Everything below was found to be acked.
    acked_below: BTreeMap<TopicPartition, i64>,
    /// Up to where the consumer has heard that it is committed.
    acknowledged: BTreeMap<(usize, TopicPartition), i64>,
    commits_in_flight: BTreeSet<(usize, ConnId)>,
    /// Who has sent a JoinGroup, and does not know yet what it was given.
    joining: BTreeSet<usize>,
    wrong_values: Vec<String>,
    at_least_once: bool,
    at_most_once: bool,
    rng: Rng,
}

#[derive(Clone, Debug)]
pub(super) struct Handed {
    pub(super) client: usize,
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            handed: Vec::new(),
            offsets: BTreeMap::new(),
            acked: BTreeMap::new(),
            acked_below: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            commits_in_flight: BTreeSet::new(),
            joining: BTreeSet::new(),
            wrong_values: Vec::new(),
            at_least_once: false,
            at_most_once: false,
            rng: Rng::new(5),
        }
    }
}

impl Ledger {
    pub(super) fn expect(&mut self, at_least_once: bool, at_most_once: bool) {
        self.at_least_once |= at_least_once;
        self.at_most_once |= at_most_once;
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.rng.next_u64() % 100 < percent
    }

    /// What was below need not have been acked: a reset, or a seek, went past it.
    pub(super) fn skip(&mut self, partition: &TopicPartition, below: i64) {
        self.acked_below.insert(partition.clone(), below);
    }

    /// The partition begins anew, as another.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.handed.retain(|handed| handed.partition != *partition);
        self.offsets.remove(partition);
        self.acked.remove(partition);
        self.acked_below.remove(partition);
    }

    /// The log was cut at `end`: what comes there now is something else.
    pub(super) fn truncated(&mut self, partition: &TopicPartition, end: i64) {
        self.offsets.entry(partition.clone()).or_default().split_off(&end);
        self.acked.entry(partition.clone()).or_default().split_off(&end);
        let below = self.acked_below.entry(partition.clone()).or_default();
        *below = end.min(*below);
    }

    /// A record was handed out: invariants B and C.
    pub(super) fn taken(
        &mut self,
        client: usize,
        holds: &BTreeMap<TopicPartition, bool>,
        partition: &TopicPartition,
        offset: i64,
        value: Option<&[u8]>,
    ) {
        let revoking = holds.get(partition);
        assert_eq!(
            revoking,
            Some(&false),
            "client {client} was handed offset {offset} of {partition}, which is not (any more) its own"
        );
        if self.at_most_once {
            let acknowledged = self.acknowledged.get(&(client, partition.clone())).copied().unwrap_or(0);
            assert!(acknowledged > offset, "offset {offset} of {partition} was handed out before its commit was acknowledged");
            assert!(!self.was_handed_out(partition, offset), "offset {offset} of {partition} was handed out twice");
        }
        if value != Some(format!("v{offset}").as_bytes()) {
            self.wrong_values.push(format!("{partition} offset {offset}: {value:?}"));
        }
        self.offsets.entry(partition.clone()).or_default().insert(offset);
        self.handed.push(Handed { client, partition: partition.clone(), offset });
    }

    pub(super) fn acked(&mut self, delivery: &Delivery) {
        self.acked.entry(delivery.topic_partition().clone()).or_default().insert(delivery.offset());
    }

    /// A commit was stored: invariant A.
    pub(super) fn stored(&mut self, log: &Log, partition: &TopicPartition, offset: i64) {
        if !self.at_least_once {
            return;
        }
        let below = self.acked_below.entry(partition.clone()).or_insert(0);
        let acked = self.acked.entry(partition.clone()).or_default();
        if *below < offset {
            let unfinished = log.visible.range(*below..offset).find(|offset| !acked.contains(offset));
            assert_eq!(unfinished, None, "{offset} was committed for {partition} before that offset was finished");
            *below = offset;
        }
    }

    /// The consumer knows what it was given, or that it has lost everything.
    pub(super) fn joined(&mut self, client: usize) {
        self.joining.remove(&client);
    }

    /// A request was sent: invariant D, and no commit crosses a join.
    pub(super) fn sent(&mut self, client: usize, conn: ConnId, api: i16) {
        if api == Api::JoinGroup as i16 {
            self.joining.insert(client);
        }
        if api == Api::OffsetCommit as i16 {
            assert!(!self.joining.contains(&client), "an OffsetCommit crosses a JoinGroup");
            let others = self.commits_in_flight.iter().filter(|(of, _)| *of == client).count();
            assert_eq!(others, 0, "two OffsetCommits are in flight");
            self.commits_in_flight.insert((client, conn));
        }
    }

    pub(super) fn answered(&mut self, client: usize, conn: ConnId, api: Api, commits: &[(TopicPartition, i64)]) {
        if api == Api::OffsetCommit {
            self.commits_in_flight.remove(&(client, conn));
        }
        for (partition, offset) in commits {
            self.acknowledged.insert((client, partition.clone()), *offset);
        }
    }

    pub(super) fn hung_up(&mut self, client: usize, conn: ConnId) {
        self.commits_in_flight.remove(&(client, conn));
    }

    pub(super) fn was_handed_out(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.offsets.get(partition).is_some_and(|offsets| offsets.contains(&offset))
    }

    /// Every offset that was handed out, in that order.
    pub(super) fn handed_out(&self, partition: &TopicPartition) -> Vec<i64> {
        self.handed.iter().filter(|handed| handed.partition == *partition).map(|handed| handed.offset).collect()
    }

    /// How many records were handed out more than once.
    pub(super) fn repeats(&self) -> usize {
        self.handed.len() - self.offsets.values().map(BTreeSet::len).sum::<usize>()
    }

    pub(super) fn check_contents(&self) {
        assert_eq!(self.wrong_values, Vec::<String>::new());
    }
}
