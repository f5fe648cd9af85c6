//! A connection's bytes, cut into frames.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::net;

/// What the longest frame may be here: short inputs get to it.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Reads frames until there are no more. The first byte says how many bytes come at a time, the others are what comes.
pub(super) fn feed(input: &[u8]) {
    let [step, bytes @ ..] = input else { return };
    let broker = Broker { rest: bytes, step: usize::from(*step).max(1) };
    let mut reading = pin!(net::read_all_frames(broker, FRAME_BYTES_MAX));
    // A broker here always has an answer, be it that it has gone.
    let Poll::Ready((frames, _)) = reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("waits for nothing")
    };
    let mut rest = bytes;
    for frame in frames {
        let (length, after) = rest.split_first_chunk().expect("a frame has a length");
        assert_eq!(i32::from_be_bytes(*length) as usize, frame.len());
        let (body, after) = after.split_at(frame.len());
        assert_eq!(frame, body);
        rest = after;
    }
    let whole = rest.split_first_chunk().and_then(|(length, after)| {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok().filter(|length| *length <= FRAME_BYTES_MAX)?;
        after.get(..length)
    });
    assert_eq!(whole, None, "a frame was left unread");
}

/// Gives what it has, a few bytes at a time, and then hangs up.
struct Broker<'a> {
    rest: &'a [u8],
    step: usize,
}

impl AsyncRead for Broker<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let (now, later) = self.rest.split_at(self.step.min(room.remaining()).min(self.rest.len()));
        room.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}
