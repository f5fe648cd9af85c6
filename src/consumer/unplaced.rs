//! One stream for each assigned partition, which begins where the program says: for positions in the program's own store.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{
    handle::SeekTo,
    next::NextItem,
    partitions::{PartitionStream, Partitions},
};
use crate::{
    error::{CloseError, ConsumeError},
    model::TopicPartition,
};

/// A stream of [`UnplacedPartition`]: one for each partition this member is assigned.
///
/// A partition comes again, to be placed anew, when it is assigned anew after it was away, when its stream was dropped while it was still
/// assigned (its task panicked, say), after [`Handle::seek`](super::Handle::seek) (wherever to), and when its topic was made anew or its log
/// cut below what had been read.
pub struct UnplacedPartitions {
    /// Their streams wait for the word where to begin.
    partitions: Partitions,
}

impl UnplacedPartitions {
    pub(super) fn new(partitions: Partitions) -> Self {
        Self { partitions }
    }

    /// Waits for the next partition that is assigned. `None` after close, shutdown or a fatal error.
    ///
    /// # Errors
    ///
    /// See [`ConsumeError`]: all of them come here, also those that concern one partition.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future before it is ready loses nothing.
    #[expect(clippy::should_implement_trait, reason = "it is awaited: nobody takes it for an iterator's")]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<UnplacedPartition, ConsumeError>>> + Send {
        NextItem(self)
    }

    /// Returns a handle that pauses, watches and shuts down this consumer from anywhere.
    pub fn handle(&self) -> super::Handle {
        self.partitions.handle()
    }

    /// Ends the partitions' streams, waits until they are dropped and for outstanding acks, commits, leaves the group.
    ///
    /// # Errors
    ///
    /// [`CloseError`] says what could not be finished within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the closing; it goes on in the background.
    pub async fn close(self, timeout: Duration) -> Result<(), CloseError> {
        self.partitions.close(timeout).await
    }
}

impl Stream for UnplacedPartitions {
    type Item = Result<UnplacedPartition, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let unplaced = |stream| UnplacedPartition { stream };
        Pin::new(&mut self.partitions).poll_next(cx).map(|next| next.map(|stream| stream.map(unplaced)))
    }
}

/// A partition that was assigned, and of which nothing is fetched before the program says where to begin.
///
/// A rebalance does not wait for it. While a program waits neither for the next partition nor for records, as when it loads state between the
/// two, [`processing_timeout`](super::ConsumerBuilder::processing_timeout) runs: load in a task of its own. If it is dropped while the partition is still assigned, it comes again.
#[must_use = "nothing is read of a partition before it is said where to begin"]
pub struct UnplacedPartition {
    stream: PartitionStream,
}

impl UnplacedPartition {
    /// Returns the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.stream.topic_partition()
    }

    /// Begins to read, at `SeekTo::Offset` of the first record that the store does not have, say.
    ///
    /// An offset that is not in the log (any more) is an error of the kind [`NoOffset`](crate::ConsumeErrorKind::NoOffset) on the stream of
    /// partitions, and the partition rests until a [seek](super::Handle::seek), or the end of its stream, brings it again; an
    /// [`offset_reset`](super::ConsumerBuilder::offset_reset) has no say here.
    ///
    /// If the partition was given to somebody else meanwhile, the stream ends at once.
    pub fn start_from(self, at: SeekTo) -> PartitionStream {
        self.stream.place(at);
        self.stream
    }
}

impl fmt::Debug for UnplacedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnplacedPartition").field(self.topic_partition()).finish()
    }
}
