//! ottla

mod assignor;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod consumer;
mod model;
mod net;
mod proto;
mod record;
mod records;
mod wire;

pub use consumer::{Batch, BatchIter, BatchRecord, Delivery, Record};
pub use model::TopicPartition;
pub use record::{Header, OwnedHeader, OwnedRecord};
pub use records::Headers;
