//! Brokers with quotas: an answer says for how long its connection is not listened to (KIP-219), and it is not.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::network::Asked;
use crate::{proto::backoff::Rng, wire::Api};

/// The longest that one answer makes its client wait.
const WAIT_MS_MAX: u64 = 2_000;
/// Before the body of a frame stand its length and its correlation id.
const HEADER_LEN: usize = 8;

pub(super) struct Quotas {
    /// How many of a hundred answers make their client wait.
    pub(super) percent: u64,
    rng: Rng,
}

impl Quotas {
    pub(super) fn new(percent: u64, seed: u64) -> Self {
        Self { percent, rng: Rng::new(seed) }
    }

    /// Lets an answer say for how long its connection is not listened to, if it is one that does.
    pub(super) fn throttle(&mut self, asked: &Asked, frame: &mut Bytes) -> Duration {
        if self.percent == 0 || self.rng.next_u64() % 100 >= self.percent {
            return Duration::ZERO;
        }
        let wait_ms = 1 + self.rng.next_u64() % WAIT_MS_MAX;
        let api = Api::ALL.into_iter().find(|api| *api as i16 == asked.api as i16).expect("ottla asks for what it knows");
        // The handshake's has its list first.
        if api == Api::ApiVersions || !api.throttles(asked.version) {
            return Duration::ZERO;
        }
        // A flexible header ends with the count of its tagged fields, which is 0.
        let at = HEADER_LEN + usize::from(api.is_flexible(asked.version));
        let mut said = BytesMut::from(&frame[..]);
        // In what is nonsense there is something else, or nothing.
        let Some(field) = said.get_mut(at..at + 4).filter(|field| **field == [0; 4]) else { return Duration::ZERO };
        field.copy_from_slice(&(wait_ms as i32).to_be_bytes());
        *frame = said.freeze();
        Duration::from_millis(wait_ms)
    }
}
