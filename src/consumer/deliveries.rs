//! Record by record out of a feed: what the stream over all partitions and the stream of one have in common.

use std::task::{Context, Poll, ready};

use super::{
    delivery::Delivery,
    feed::{Feed, Next},
    redelivery::Redelivery,
    run::RunCursor,
};
use crate::error::ConsumeError;

pub(crate) struct Deliveries {
    feed: Feed,
    cursor: Option<RunCursor>,
}

impl Deliveries {
    pub(crate) fn new(feed: Feed) -> Self {
        Self { feed, cursor: None }
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Lets go of the run that is being handed out.
    pub(crate) fn release(&mut self) {
        self.cursor = None;
    }

    /// Gives the next delivery. A record leaves its run only in the step that returns it.
    #[inline(always)]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, ConsumeError>>> {
        loop {
            if let Some(cursor) = &mut self.cursor
                && !cursor.run().assigned().is_fenced()
                && !self.feed.inbox().is_urgent()
            {
                match cursor.next() {
                    Some(delivery) => return Poll::Ready(Some(Ok(delivery))),
                    None => self.finish(),
                }
            }
            match ready!(self.poll_more(cx)) {
                Some(Ok(None)) => {}
                Some(Ok(Some(delivery))) => return Poll::Ready(Some(Ok(delivery))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Off the hot path: a new run, a redelivery, an error. `None` within: look again.
    #[inline(never)]
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Option<Delivery>, ConsumeError>>> {
        if let Some(urgent) = self.feed.take_urgent() {
            return Poll::Ready(Some(urgent.map(Redelivery::into_delivery)));
        }
        // What is urgent was for another stream: this one goes on with its run.
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| !cursor.run().assigned().is_fenced()) {
            match cursor.next() {
                Some(delivery) => return Poll::Ready(Some(Ok(Some(delivery)))),
                None => self.finish(),
            }
        }
        self.cursor = None;
        Poll::Ready(match ready!(self.feed.poll_next(cx)) {
            Some(Ok(Next::Run(run))) => {
                self.cursor = Some(RunCursor::new(run));
                Some(Ok(None))
            }
            Some(Ok(Next::Redelivery(redelivery))) => Some(Ok(redelivery.into_delivery())),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    /// The run is at its end, or at a record that cannot be decoded.
    #[cold]
    fn finish(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            self.feed.finish(cursor);
        }
    }
}
