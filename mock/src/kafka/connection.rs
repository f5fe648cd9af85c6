//! One client's connection to one broker: a stream of bytes cut into requests, served one at a time.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::sasl::Sasl;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) broker: i32,
    pub(crate) sasl: Sasl,
    received: BytesMut,
    /// A request has not been answered yet: those behind it wait.
    is_serving: bool,
    /// The answer was held back once already.
    was_delayed: bool,
    /// Nothing is read from it before: the client was told to slow down (KIP-219).
    muted_until: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(broker: i32) -> Self {
        Self {
            broker,
            sasl: Sasl::default(),
            received: BytesMut::new(),
            is_serving: false,
            was_delayed: false,
            muted_until: None,
        }
    }

    /// Takes bytes in. A client sends ahead of the answers it waits for, but not without end.
    pub(crate) fn receive(&mut self, bytes: &Bytes, bytes_max: usize) -> Result<(), String> {
        if self.received.len() + bytes.len() > bytes_max.saturating_mul(2) {
            return Err(format!("more than {} bytes while an answer is awaited", bytes_max.saturating_mul(2)));
        }
        self.received.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the next request off the stream, without its length, if its turn has come.
    pub(crate) fn next_request(&mut self, now: Instant, bytes_max: usize) -> Result<Option<Bytes>, String> {
        if self.is_serving || self.muted_until.is_some_and(|until| until > now) {
            return Ok(None);
        }
        let Some(length) = self.received.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        let fits = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
        let length = fits.ok_or_else(|| format!("a frame of {length} bytes"))?;
        if self.received.len() < 4 + length {
            return Ok(None);
        }
        self.received.advance(4);
        self.is_serving = true;
        self.was_delayed = false;
        Ok(Some(self.received.split_to(length).freeze()))
    }

    pub(crate) fn answered(&mut self) {
        self.is_serving = false;
    }

    /// Says whether the answer may be held back: it may, once.
    pub(crate) fn delay_once(&mut self) -> bool {
        !std::mem::replace(&mut self.was_delayed, true)
    }

    pub(crate) fn mute(&mut self, until: Instant) {
        self.muted_until = Some(until);
    }

    /// Says whether the connection may be read from again.
    pub(crate) fn unmute(&mut self, now: Instant) -> bool {
        self.muted_until.take_if(|until| *until <= now).is_some()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.muted_until
    }
}
