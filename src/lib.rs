//! A Kafka consumer in pure Rust: it joins consumer groups, hands out records as a stream under an explicit delivery mode, and commits
//! **what was finished**, not what was handed out.
//!
//! ```no_run
//! # async fn store(_: Option<&[u8]>, _: Option<&[u8]>) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use ottla::Consumer;
//!
//! let mut records = Consumer::builder("orders-worker", ["localhost:9092"])
//!     .subscribe(["orders"])
//!     .connect()
//!     .await?
//!     .at_least_once();
//!
//! while let Some(delivery) = records.next().await {
//!     let delivery = delivery?;
//!     store(delivery.key(), delivery.value()).await?;
//!     delivery.ack(); // not reached on error: the record is read again
//! }
//! records.close(Duration::from_secs(10)).await?; // waits for outstanding acks, commits, leaves the group
//! # Ok(())
//! # }
//! ```
//!
//! # Delivery modes
//!
//! | call | item | contract |
//! |---|---|---|
//! | [`at_least_once`](Consumer::at_least_once) | [`Delivery`] | to be acknowledged, in any order, from any task; what is committed is the offset below which everything was; dropped unacknowledged = handed out again |
//! | [`at_most_once`](Consumer::at_most_once) | [`Record`] | handed out only after the broker acknowledged a commit beyond it; never twice, perhaps never |
//! | [`manual`](Consumer::manual) | [`ManualBatch`] | the program commits, and hears what became of it |
//! | [`partitions`](Consumer::partitions) | [`PartitionStream`] | one at-least-once stream for each assigned partition |
//!
//! Each is a [`Stream`](futures_core::Stream) and has an inherent, cancel-safe `next`. [`Consumer::batches`] hands out whole batches.
//!
//! # What goes on by itself
//!
//! Heartbeats, rebalances, fetching and commits go on in a background task, whether or not the program asks for records just then. An error
//! on a stream is something to know or to decide: the library retries what can be retried. [`Handle`] steers and watches a consumer from
//! anywhere.
//!
//! # Without joining a group
//!
//! [`Consumer::standalone`] reads all partitions of what is subscribed to, for itself alone, and commits nothing. [`ConsumerBuilder::assign`] names
//! partitions; with a group it begins at the group's committed offsets, and commits there, without being a member.
//!
//! # Offsets and lag
//!
//! [`Offsets`] tells where partitions begin and end, what was written when, and how far behind a group is, without joining any.
//!
//! # Getting in
//!
//! `ConsumerBuilder::tls` encrypts connections, [`ConsumerBuilder::sasl`] says who the consumer is ([`OffsetsBuilder`] has both, too): by [`Sasl::plain`],
//! [`Sasl::scram_sha_256`], [`Sasl::scram_sha_512`] or [`Sasl::oauth_bearer`].
//!
//! | feature | default | what it is for |
//! |---|---|---|
//! | `tls` | on | TLS, with cryptography in Rust ([graviola](https://docs.rs/graviola)); wants a CPU from about 2015 on, and says so on others |
//! | `aws-lc` | off | the same with [aws-lc-rs](https://docs.rs/aws-lc-rs), on any CPU; needs a C compiler |
//! | `ring` | off | the same with [ring](https://docs.rs/ring), on any CPU; needs a C compiler |

#![forbid(unsafe_code)]

/// Says whether this bug is planted: never, but in tests of the simulation.
#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        crate::planted::is_planted(crate::planted::Bug::$bug)
    };
}
#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

mod assignor;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench;
mod connect;
mod consumer;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod manual;
mod model;
mod net;
mod offsets;
#[cfg(test)]
mod planted;
mod proto;
mod record;
mod records;
mod secret;
#[cfg(test)]
mod simulation;
mod sync;
mod wire;

pub use assignor::{
    Assignment, Assignor, CooperativeSticky, GroupView, MemberView, Range, RebalanceProtocol, RoundRobin, Sticky,
};
#[cfg(feature = "__rustls")]
pub use connect::Tls;
pub use connect::{OauthToken, Sasl};
pub use consumer::{
    AtLeastOnce, AtMostOnce, Batch, BatchIter, BatchRecord, Batches, Consumer, ConsumerBuilder, Delivery, Events, GroupEvent,
    Handle, Isolation, Lag, Manual, ManualBatch, OffsetReset, PartitionEnd, PartitionStream, Partitions, Record, SeekTo, Stats,
    Subscription, UnplacedPartition, UnplacedPartitions,
};
pub use error::{BuildError, CloseError, CommitError, ConsumeError, ConsumeErrorKind, OffsetsError, OffsetsErrorKind};
pub use model::{GroupProtocol, Racks, TopicOrPartition, TopicPartition};
pub use offsets::{CommittedOffset, LagTotal, LogOffset, Offsets, OffsetsBuilder, PartitionLag, PerPartition};
pub use record::{Header, OwnedHeader, OwnedRecord};
pub use records::Headers;
