//! What was dropped without an ack, and rests until it is handed out again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{delivery::Delivery, run::Run};
use crate::proto::PartitionHandle;

/// A record, or a batch, that was dropped without an ack and is to be handed out again.
pub(crate) enum Redelivery {
    /// By its number within its run.
    Record {
        run: Arc<Run>,
        idx: u32,
    },
    Batch {
        run: Arc<Run>,
    },
}

impl Redelivery {
    pub(crate) fn into_delivery(self) -> Option<Delivery> {
        match self {
            Self::Record { run, idx } if !run.assigned().is_fenced() => Some(run.redeliver(idx)),
            Self::Record { .. } => None,
            Self::Batch { .. } => None,
        }
    }
}

/// Dropped records that rest before they are handed out again, by token. Apart from the inbox's own lock because records are dropped
/// anywhere, perhaps while that lock is held.
#[derive(Default)]
pub(super) struct DroppedRecords {
    resting: Mutex<(u64, BTreeMap<u64, Redelivery>)>,
}

impl DroppedRecords {
    pub(super) fn put(&self, redelivery: Redelivery) -> u64 {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.0 += 1;
        let token = resting.0;
        resting.1.insert(token, redelivery);
        token
    }

    pub(super) fn take(&self, token: u64) -> Option<Redelivery> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&token)
    }

    pub(super) fn len(&self) -> usize {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).1.len()
    }

    pub(super) fn take_all(&self, handle: &PartitionHandle) -> Vec<Redelivery> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |redelivery: &Redelivery| match redelivery {
            Redelivery::Record { run, .. } | Redelivery::Batch { run } => run.assigned().handle() == handle,
        };
        let tokens: Vec<u64> = resting.1.iter().filter(|(_, redelivery)| of(redelivery)).map(|(token, _)| *token).collect();
        tokens.into_iter().filter_map(|token| resting.1.remove(&token)).collect()
    }
}
