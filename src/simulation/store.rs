//! The store of a program that keeps its positions itself: what a record changes, and the offset behind it, in one transaction.
//!
//! Each record is to count exactly once, whatever becomes of processes: also of one that was stopped, has lost its partition, and goes on as
//! if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::TopicPartition;

/// Of one group.
#[derive(Default)]
pub(super) struct Store {
    tables: BTreeMap<TopicPartition, Table>,
    /// Where the stream that a client reads now has got to, by the store.
    readers: BTreeMap<(usize, TopicPartition), i64>,
}

#[derive(Default)]
struct Table {
    /// The offset behind the last record that counts.
    next: i64,
    counted: BTreeSet<i64>,
}

impl Store {
    /// A client begins to read: says where.
    pub(super) fn begin(&mut self, client: usize, of: &TopicPartition) -> i64 {
        let next = self.tables.entry(of.clone()).or_default().next;
        self.readers.insert((client, of.clone()), next);
        next
    }

    /// Lets a record count, if everything that counts already is what this reader has seen; says whether it was so.
    pub(super) fn count(&mut self, client: usize, of: &TopicPartition, offset: i64) -> bool {
        let (Some(table), Some(at)) = (self.tables.get_mut(of), self.readers.get_mut(&(client, of.clone()))) else {
            return false;
        };
        if table.next != *at || offset < table.next {
            return false;
        }
        (table.next, *at) = (offset + 1, offset + 1);
        table.counted.insert(offset)
    }

    /// The first of these records that does not count.
    pub(super) fn lacks(&self, of: &TopicPartition, visible: &BTreeSet<i64>) -> Option<i64> {
        let counted = self.tables.get(of).map(|table| &table.counted);
        visible.iter().find(|offset| counted.is_none_or(|counted| !counted.contains(offset))).copied()
    }
}
