//! At most once: a record is handed out only after the broker acknowledged a commit beyond it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use super::{
    delivery::Record,
    feed::{Feed, Next},
    member::Member,
    next::NextItem,
    run::RunCursor,
};
use crate::{
    error::{CloseError, ConsumeError},
    model::Offset,
};

/// A stream of [`Record`], each of which is committed already when it is handed out: there is nothing to acknowledge.
///
/// No record is ever handed out twice within the group, across crashes and rebalances. What is committed and not yet processed when the
/// process dies is lost. Commits go ahead of the hand-out in blocks that fit the pace at which records are taken (16 at first; about a
/// thirtieth of what was taken per commit interval); that is the most a crash or a rebalance loses, beside what the program itself holds. An
/// unclean leader election that cuts the log off below what was read loses as much. A batch that cannot be read may lie within a block: it
/// is told of, and after a restart reading goes on behind the block.
///
/// One case is left that Kafka's protocol gives no means against: a commit whose answer was lost is repeated by a new connection, a broker
/// carries out the first one only after that and later ones, and the process dies before its next commit.
///
/// A reset policy that goes back (`earliest`) repeats records when committed offsets expire or lie outside the log: this mode is best
/// used with `latest` or `fail`.
pub struct AtMostOnce {
    feed: Feed,
    cursor: Option<RunCursor>,
    /// Records of the cursor's run below it may be handed out.
    released: Offset,
    member: Member,
}

impl AtMostOnce {
    pub(crate) fn new(feed: Feed, member: Member) -> Self {
        Self { feed, cursor: None, released: Offset(i64::MIN), member }
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
    pub fn next(&mut self) -> impl Future<Output = Option<Result<Record, ConsumeError>>> + Send {
        NextItem(self)
    }

    #[inline(always)]
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Record, ConsumeError>>> {
        loop {
            if let Some(cursor) = &mut self.cursor
                && !cursor.run().assigned().is_fenced()
                && let Some(record) = cursor.next_record_below(self.released)
            {
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(self.poll_more(cx)) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Off the hot path: a commit to wait for, a new run, an error. `()`: look again.
    #[inline(never)]
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), ConsumeError>>> {
        loop {
            if let Some(cursor) = &mut self.cursor {
                if cursor.run().assigned().is_fenced() {
                    self.cursor = None;
                    continue;
                }
                let Some(next) = cursor.next_offset() else {
                    if let Some(cursor) = self.cursor.take() {
                        self.feed.finish(cursor);
                    }
                    continue;
                };
                // Why a commit is not answered may be told just now.
                if let Some(Err(error)) = self.feed.take_urgent() {
                    return Poll::Ready(Some(Err(error)));
                }
                let run = cursor.run();
                let end = self.feed.end_of_chunk(run);
                match ready!(self.feed.inbox().poll_released(cx, run.assigned().handle(), next, end)) {
                    Some(released) => {
                        self.released = released;
                        return Poll::Ready(Some(Ok(())));
                    }
                    None => self.cursor = None,
                }
                continue;
            }
            match ready!(self.feed.poll_next(cx)) {
                Some(Ok(Next::Run(run))) => {
                    self.released = Offset(i64::MIN);
                    self.cursor = Some(RunCursor::new(run));
                    return Poll::Ready(Some(Ok(())));
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

    /// Stops handing out records and leaves the group.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the group could not be left within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the closing; it goes on in the background.
    pub async fn close(self, timeout: Duration) -> Result<(), CloseError> {
        let Self { feed, cursor, member, .. } = self;
        drop((feed, cursor));
        member.close(timeout).await
    }
}

impl Stream for AtMostOnce {
    type Item = Result<Record, ConsumeError>;

    #[inline(always)]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(cx)
    }
}
