//! Deliveries that are out, and the window that they are acked in.

use std::sync::Arc;

use super::{Answer, at, handle};
use crate::consumer::{Delivery, acks::Assigned, run::RunCursor};

/// One assignment, some records of which are in the user's hands.
#[derive(Debug)]
pub struct Acks(Arc<Assigned>);

impl Acks {
    /// Hands out everything that an answer holds.
    pub fn of(answer: &Answer) -> (Self, Vec<Delivery>) {
        let assigned = Assigned::new(handle(0), at(0), Arc::new(|_| {}));
        let mut deliveries = Vec::new();
        for segment in answer.segments() {
            let mut cursor = RunCursor::new(assigned.open(segment));
            deliveries.extend(std::iter::from_fn(|| cursor.next()));
        }
        (Self(assigned), deliveries)
    }

    /// The offset before which everything is acked.
    pub fn watermark(&self) -> i64 {
        self.0.watermark().offset.0
    }
}
