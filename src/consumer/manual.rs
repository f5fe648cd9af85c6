//! Manual: the program says what to commit, and when, and hears what became of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use super::{
    delivery::{Batch, BatchIter},
    feed::{Feed, Next},
    inbox::Inbox,
    member::Member,
    next::NextItem,
};
use crate::{
    error::{CloseError, CommitError, ConsumeError},
    model::{Offset, Position, TopicPartition},
    proto::PartitionHandle,
};

/// A stream of [`ManualBatch`]: nothing is committed but by [`ManualBatch::commit`] and [`ManualBatch::commit_to`].
///
/// Before a partition goes to another member, ottla waits (up to `drain_timeout`) until the batches of it that are out were dropped, so
/// that they can still be committed.
///
/// After an unclean leader election that cut off what had been read, reading goes back to what was committed last, or to where the
/// assignment began: only the program knows what it has finished.
pub struct Manual {
    feed: Feed,
    member: Member,
}

impl Manual {
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
    pub fn next_batch(&mut self) -> impl Future<Output = Option<Result<ManualBatch, ConsumeError>>> + Send {
        NextItem(self)
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ManualBatch, ConsumeError>>> {
        loop {
            match ready!(self.feed.poll_next(cx)) {
                Some(Ok(Next::Run(run))) => {
                    let handle = run.assigned().handle().clone();
                    if let Some(batch) = self.feed.whole_batch(&run) {
                        return Poll::Ready(Some(Ok(ManualBatch { batch, handle, inbox: Arc::clone(self.feed.inbox()) })));
                    }
                }
                Some(Ok(Next::Redelivery(_))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Returns a handle that pauses, seeks, watches and shuts down this consumer from anywhere.
    pub fn handle(&self) -> super::Handle {
        self.member.handle()
    }

    /// Stops handing out batches, waits for those that are out, leaves the group. Commits nothing of its own.
    ///
    /// # Errors
    ///
    /// [`CloseError`] says what could not be finished within `timeout`, and where the last commit was refused.
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

impl Stream for Manual {
    type Item = Result<ManualBatch, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_batch(cx)
    }
}

/// Records of one partition, in order, and the means to commit them.
pub struct ManualBatch {
    batch: Batch,
    handle: PartitionHandle,
    inbox: Arc<Inbox>,
}

impl ManualBatch {
    /// Iterates over the records, borrowed from the batch.
    pub fn iter(&self) -> BatchIter<'_> {
        self.batch.iter()
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Says whether there is no record; a batch that a stream handed out has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.handle.partition
    }

    /// Returns the offset that follows the batch: what [`commit`](Self::commit) commits.
    pub fn next_offset(&self) -> i64 {
        self.batch.next_offset()
    }

    /// Commits everything up to the end of this batch, and waits for the broker's answer.
    ///
    /// # Errors
    ///
    /// [`CommitError::Unknown`] means that the offset may be stored or not; every other error, that it is not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the commit back: once asked for, it is written, and its outcome is then unknown to the caller.
    pub async fn commit(&self) -> Result<(), CommitError> {
        self.commit_to(self.next_offset()).await
    }

    /// Commits `next_offset`, the offset of the next record to read: of the middle of this batch, say. It may go back.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    ///
    /// As [`commit`](Self::commit).
    pub async fn commit_to(&self, next_offset: i64) -> Result<(), CommitError> {
        // With the epoch of the last record before it, a reader that comes later can tell whether the log was truncated meanwhile.
        let offset = Offset(next_offset);
        let (handle, position) = (&self.handle, Position { offset, leader_epoch: self.batch.epoch_before(offset) });
        match self.inbox.commit(handle, position).await {
            Ok(result) => result,
            Err(_) => {
                let message = "the consumer ended before the answer came".into();
                Err(CommitError::Unknown { partition: handle.partition.clone(), message })
            }
        }
    }
}

impl std::fmt::Debug for ManualBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManualBatch({}, {} records up to {})", self.topic_partition(), self.len(), self.next_offset())
    }
}
