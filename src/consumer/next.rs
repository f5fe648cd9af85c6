//! The future of a stream's next item.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

/// Waits for a stream's next item. Cancel safe where the stream gives an item only in the step that returns it.
///
/// It is polled where it is awaited, not behind a call: a record that comes back through memory waits there, for it is written in other
/// pieces than it is read in. That costs as much as decoding it.
pub(super) struct NextItem<'a, S>(pub(super) &'a mut S);

impl<S: Stream + Unpin> Future for NextItem<'_, S> {
    type Output = Option<S::Item>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}
