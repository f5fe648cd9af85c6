//! Compaction, as the log cleaner leaves a log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Batch, Log};
use crate::record::StoredRecord;

impl Log {
    /// Keeps the last record of each key, up to the last stable offset. Batches keep their first and last offsets whatever they have
    /// lost, and those that have lost all go, unless the log or a producer ends in them. With `are_tombstones_dropped` the markers of
    /// transactions go too, as they are kept as long.
    pub(crate) fn compact(&mut self, are_tombstones_dropped: bool) {
        let limit = self.last_stable();
        let latest = self.latest(limit);
        let batches = std::mem::take(&mut self.batches);
        let last_base = batches.last().map(Batch::base_offset);
        let mut gone = BTreeSet::new();
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches {
            if batch.last_offset() >= limit || (batch.ends().is_some() && !are_tombstones_dropped) {
                kept.push(batch);
                continue;
            }
            let Ok(mut records) = batch.records() else {
                kept.push(batch);
                continue;
            };
            let count = records.len();
            records.retain(|record| is_latest(&latest, record) && (record.value.is_some() || !are_tombstones_dropped));
            let is_last = Some(batch.base_offset()) == last_base
                || self.producers.last_base_offset(batch.header.producer_id) == Some(batch.base_offset());
            if records.len() == count {
                kept.push(batch);
            } else if !records.is_empty() || is_last {
                kept.push(Batch::build(batch.header, &records));
            } else {
                gone.insert(batch.base_offset());
            }
        }
        self.batches = kept;
        self.aborted.retain(|aborted| !gone.contains(&aborted.last_offset));
    }

    fn latest(&self, limit: i64) -> BTreeMap<Bytes, i64> {
        let mut latest = BTreeMap::new();
        let readable = self.batches.iter().take_while(|batch| batch.last_offset() < limit);
        for batch in readable.filter(|batch| !batch.header.is_control() && !self.is_aborted(batch)) {
            let records = batch.records().unwrap_or_default();
            latest.extend(records.into_iter().filter_map(|record| Some((record.key?, record.offset))));
        }
        latest
    }
}

/// Says whether nothing newer has the key. A record without one is never kept.
fn is_latest(latest: &BTreeMap<Bytes, i64>, record: &StoredRecord) -> bool {
    record.key.as_ref().and_then(|key| latest.get(key)) == Some(&record.offset)
}
