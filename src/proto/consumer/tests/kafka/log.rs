//! A partition's log, with what a consumer should see of it.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ProducerId, fetch_response::AbortedTransaction};

use crate::records::encode::TestBatch;

pub(in super::super) struct Topic {
    pub(in super::super) id: [u8; 16],
    pub(in super::super) logs: Vec<Log>,
}

pub(in super::super) struct Log {
    /// -1 while there is none.
    pub(in super::super) leader: i32,
    pub(in super::super) epoch: i32,
    pub(in super::super) start: i64,
    pub(in super::super) end: i64,
    /// The offsets that a consumer is to see.
    pub(in super::super) visible: BTreeSet<i64>,
    /// Where an open transaction begins.
    pub(in super::super) open_from: Option<i64>,
    batches: Vec<(i64, i64, Bytes)>,
    /// Producer, first offset, the marker's offset.
    aborted: Vec<(i64, i64, i64)>,
    /// Each epoch with the offset it begins at.
    epochs: Vec<(i32, i64)>,
}

impl Log {
    pub(in super::super) fn new(leader: i32) -> Self {
        Self {
            leader,
            epoch: 0,
            start: 0,
            end: 0,
            visible: BTreeSet::new(),
            open_from: None,
            batches: Vec::new(),
            aborted: Vec::new(),
            epochs: vec![(0, 0)],
        }
    }

    /// Appends records, each with its own offset in its value.
    pub(in super::super) fn produce(&mut self, count: i32) {
        self.visible.extend(self.end..self.end + i64::from(count));
        self.append(TestBatch::dense(self.end, count));
    }

    /// Appends a transaction that was aborted.
    pub(in super::super) fn produce_aborted(&mut self, producer: i64, count: i32) {
        let first = self.end;
        self.append(TestBatch::dense(first, count).transactional(producer));
        self.aborted.push((producer, first, self.end));
        self.append(TestBatch::marker(self.end, producer, 0));
    }

    /// Appends a transaction that was committed.
    pub(in super::super) fn produce_committed(&mut self, producer: i64, count: i32) {
        self.visible.extend(self.end..self.end + i64::from(count));
        self.append(TestBatch::dense(self.end, count).transactional(producer));
        self.append(TestBatch::marker(self.end, producer, 1));
    }

    pub(in super::super) fn append(&mut self, batch: TestBatch) {
        let batch = TestBatch { leader_epoch: self.epoch, ..batch };
        let last = batch.base + i64::from(batch.last_delta());
        self.append_bytes(batch.base, last, batch.encode().into());
    }

    pub(in super::super) fn append_bytes(&mut self, base: i64, last: i64, bytes: Bytes) {
        self.batches.push((base, last, bytes));
        self.end = last + 1;
    }

    /// Makes another broker the leader.
    pub(in super::super) fn elect(&mut self, leader: i32) {
        self.leader = leader;
        self.epoch += 1;
        self.epochs.push((self.epoch, self.end));
    }

    /// Loses what is at and after `end`, as in an unclean election, which is to follow.
    pub(in super::super) fn truncate(&mut self, end: i64) {
        self.batches.retain(|(_, last, _)| *last < end);
        self.visible.split_off(&end);
        self.epochs.retain(|(_, from)| *from <= end);
        self.end = end;
    }

    /// Deletes what is before `start`.
    pub(in super::super) fn delete_before(&mut self, start: i64) {
        self.batches.retain(|(_, last, _)| *last >= start);
        self.visible = self.visible.split_off(&start);
        self.start = start;
    }

    pub(super) fn last_stable(&self) -> i64 {
        self.open_from.unwrap_or(self.end)
    }

    pub(super) fn read(&self, from: i64, limit: i64, bytes_max: usize, first_whole: bool) -> Bytes {
        let mut bytes = BytesMut::new();
        for (_, _, batch) in self.batches.iter().filter(|(base, last, _)| *last >= from && *base < limit) {
            let alone = first_whole && bytes.is_empty();
            if !alone && bytes.len() + batch.len() > bytes_max {
                break;
            }
            bytes.extend_from_slice(batch);
        }
        bytes.freeze()
    }

    pub(super) fn aborted_from(&self, from: i64) -> Vec<AbortedTransaction> {
        let later = self.aborted.iter().filter(|(_, _, marker)| *marker >= from);
        let aborted = |&(producer, first, _): &(i64, i64, i64)| {
            AbortedTransaction::default().with_producer_id(ProducerId(producer)).with_first_offset(first)
        };
        // Brokers sort by where each began; clients must not count on it.
        later.rev().map(aborted).collect()
    }

    /// Where this epoch, or else the one before it that there is, ends.
    pub(super) fn end_of(&self, epoch: i32) -> Option<(i32, i64)> {
        let at = self.epochs.iter().rposition(|(of, _)| *of <= epoch)?;
        Some((self.epochs[at].0, self.epochs.get(at + 1).map_or(self.end, |(_, from)| *from)))
    }

    /// Where the log departs from that of a reader who was at `offset` and read `epoch` last.
    pub(super) fn diverges(&self, epoch: i32, offset: i64) -> Option<(i32, i64)> {
        if epoch < 0 {
            return None;
        }
        let (found, end) = self.end_of(epoch).unwrap_or((-1, -1));
        (found < epoch || end < offset).then_some((found, end))
    }
}
