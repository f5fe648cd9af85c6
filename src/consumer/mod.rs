pub(crate) mod acks;
mod delivery;
pub(crate) mod run;

pub use delivery::{Batch, BatchIter, BatchRecord, Delivery, Record};
