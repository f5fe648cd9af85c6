//! At least once: a record counts as finished when it was acknowledged, and only what is finished is committed.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use super::{
    deliveries::Deliveries,
    delivery::{Batch, Delivery},
    feed::{Feed, Next},
    member::Member,
    next::NextItem,
    redelivery::Redelivery,
};
use crate::error::{CloseError, ConsumeError};

/// A stream of [`Delivery`]: each record is to be acknowledged, in any order, from any task.
///
/// What is committed is the offset below which everything was acknowledged. A delivery that is dropped without an ack (a panic, an early
/// return) is handed out again after a back-off, with [`attempt`](Delivery::attempt) one higher. After a crash, whatever was not yet
/// committed is read again by whoever gets the partition: **processing should be idempotent**.
///
/// Before a partition goes to another member, the stream hands out nothing more of it, waits (up to `drain_timeout`) for the deliveries
/// that are out, and commits; so on a clean hand-over nothing is processed twice. The wait also ends only when the stream itself is
/// polled, or dropped: poll it, or use [`handle`](Self::handle) to [`shutdown`](super::Handle::shutdown).
///
/// Dropping the stream without [`close`](Self::close) never blocks: a background task then commits what was acknowledged and leaves the
/// group, as far as the runtime lives long enough for that.
pub struct AtLeastOnce {
    deliveries: Deliveries,
    member: Member,
}

impl AtLeastOnce {
    pub(crate) fn new(feed: Feed, member: Member) -> Self {
        Self { deliveries: Deliveries::new(feed), member }
    }

    /// Waits for the next record. `None` after [`close`](Self::close), [`shutdown`](super::Handle::shutdown) or a fatal error.
    ///
    /// # Errors
    ///
    /// See [`ConsumeError`]. Unless [`is_fatal`](ConsumeError::is_fatal), the stream goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future before it is ready loses nothing.
    #[expect(clippy::should_implement_trait, reason = "it is awaited: nobody takes it for an iterator's")]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<Delivery, ConsumeError>>> + Send {
        NextItem(self)
    }

    /// Returns a handle that pauses, seeks, watches and shuts down this consumer from anywhere.
    pub fn handle(&self) -> super::Handle {
        self.member.handle()
    }

    /// Stops handing out records, waits for outstanding acks, commits, leaves the group.
    ///
    /// # Errors
    ///
    /// [`CloseError`] says what could not be finished within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the closing; it goes on in the background.
    pub async fn close(self, timeout: Duration) -> Result<(), CloseError> {
        let Self { deliveries, member } = self;
        drop(deliveries);
        member.close(timeout).await
    }
}

impl Stream for AtLeastOnce {
    type Item = Result<Delivery, ConsumeError>;

    #[inline(always)]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.deliveries.poll_next(cx)
    }
}

/// A stream of [`Batch`]: the batch form of [`AtLeastOnce`], with the same contract for each batch as a whole.
pub struct Batches {
    feed: Feed,
    member: Member,
}

impl Batches {
    pub(crate) fn new(feed: Feed, member: Member) -> Self {
        Self { feed, member }
    }

    /// Waits for the next batch of records of one partition.
    ///
    /// # Errors
    ///
    /// See [`ConsumeError`]. Unless [`is_fatal`](ConsumeError::is_fatal), the stream goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future before it is ready loses nothing.
    pub fn next_batch(&mut self) -> impl Future<Output = Option<Result<Batch, ConsumeError>>> + Send {
        NextItem(self)
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch, ConsumeError>>> {
        loop {
            match ready!(self.feed.poll_next(cx)) {
                Some(Ok(Next::Run(run))) => {
                    if let Some(batch) = self.feed.whole_batch(&run) {
                        return Poll::Ready(Some(Ok(batch)));
                    }
                }
                Some(Ok(Next::Redelivery(Redelivery::Batch { run }))) => return Poll::Ready(Some(Ok(run.redeliver_batch()))),
                Some(Ok(Next::Redelivery(Redelivery::Record { .. }))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Returns a handle that pauses, seeks, watches and shuts down this consumer from anywhere.
    pub fn handle(&self) -> super::Handle {
        self.member.handle()
    }

    /// Stops handing out batches, waits for outstanding acks, commits, leaves the group: as [`AtLeastOnce::close`].
    ///
    /// # Errors
    ///
    /// [`CloseError`] says what could not be finished within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the closing; it goes on in the background.
    pub async fn close(self, timeout: Duration) -> Result<(), CloseError> {
        let Self { feed, member } = self;
        drop(feed);
        member.close(timeout).await
    }
}

impl Stream for Batches {
    type Item = Result<Batch, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_batch(cx)
    }
}
