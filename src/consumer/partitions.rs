//! One stream for each assigned partition: for programs that give each partition a task, or state, of its own.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use super::{
    deliveries::Deliveries,
    delivery::Delivery,
    feed::{Feed, ReadSettings},
    handle::SeekTo,
    inbox::Inbox,
    member::Member,
    next::NextItem,
};
use crate::{
    error::{CloseError, ConsumeError},
    model::TopicPartition,
    proto::{PartitionHandle, message::Command},
};

/// A stream of [`PartitionStream`]: one for each partition this member is assigned, at least once.
///
/// A partition that is assigned anew after it was away comes as a new stream.
pub struct Partitions {
    inbox: Arc<Inbox>,
    settings: ReadSettings,
    member: Member,
}

impl Partitions {
    pub(crate) fn new(inbox: Arc<Inbox>, settings: ReadSettings, member: Member) -> Self {
        Self { inbox, settings, member }
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
    pub fn next(&mut self) -> impl Future<Output = Option<Result<PartitionStream, ConsumeError>>> + Send {
        NextItem(self)
    }

    fn poll_partition(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PartitionStream, ConsumeError>>> {
        Poll::Ready(match ready!(self.inbox.poll_claim(cx)) {
            Some(Ok((handle, claim))) => Some(Ok(PartitionStream::new(Arc::clone(&self.inbox), handle, claim, self.settings))),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    /// Returns a handle that pauses, seeks, watches and shuts down this consumer from anywhere.
    pub fn handle(&self) -> super::Handle {
        self.member.handle()
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
        self.member.close(timeout).await
    }
}

impl Stream for Partitions {
    type Item = Result<PartitionStream, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_partition(cx)
    }
}

/// A stream of the [`Delivery`]s of one partition, for as long as it is assigned.
///
/// `None` means that the partition is revoked, lost, sought elsewhere, or the consumer closes; [`end`](Self::end) says which. **A
/// rebalance waits until the stream is dropped** (up to `drain_timeout`), so that a task may finish what it does and acknowledge it.
///
/// A stream that is dropped while its partition is still assigned (its task panicked, say) comes again from [`Partitions::next`], at the
/// first record that is not acknowledged; acks of deliveries from the dropped one then change nothing any more.
pub struct PartitionStream {
    deliveries: Deliveries,
    handle: PartitionHandle,
    /// Given back before the core is told.
    claim: Option<Arc<()>>,
}

/// Why a [`PartitionStream`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionEnd {
    /// It has not ended.
    Open,
    /// The partition goes to another member (or comes back to this one): what is acknowledged now is still committed.
    Revoked,
    /// The partition is already someone else's, or a new stream took its place: acks change nothing any more.
    Lost,
    /// The consumer has closed.
    Closed,
}

impl PartitionStream {
    fn new(inbox: Arc<Inbox>, handle: PartitionHandle, claim: Arc<()>, settings: ReadSettings) -> Self {
        Self { deliveries: Deliveries::new(Feed::new(inbox, Some(handle.clone()), settings)), handle, claim: Some(claim) }
    }

    /// Says where to begin.
    pub(super) fn place(&self, at: SeekTo) {
        let command = Command::Place { handle: self.handle.clone(), at: at.target() };
        self.deliveries.feed().inbox().command(command);
    }

    /// Returns the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.handle.partition
    }

    /// Says whether and why the stream has ended.
    pub fn end(&self) -> PartitionEnd {
        self.deliveries.feed().inbox().partition_end(&self.handle)
    }

    /// Waits for the partition's next record.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future before it is ready loses nothing.
    #[expect(clippy::should_implement_trait, reason = "it is awaited: nobody takes it for an iterator's")]
    pub fn next(&mut self) -> impl Future<Output = Option<Delivery>> + Send {
        NextItem(self)
    }

    #[inline]
    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            match ready!(self.deliveries.poll_next(cx)) {
                Some(Ok(delivery)) => return Poll::Ready(Some(delivery)),
                // Errors are told by the stream of streams.
                Some(Err(_)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for PartitionStream {
    type Item = Delivery;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_delivery(cx)
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        self.deliveries.release();
        self.claim = None;
        self.deliveries.feed().inbox().released(&self.handle);
    }
}
