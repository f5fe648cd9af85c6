//! When to ask the user's program for a token: when one is needed first, well before the last one expires, and after a failure not at once.

use std::time::{Duration, Instant};

use super::Token;
use crate::proto::{
    Deadline,
    backoff::{Backoff, Rng},
};

/// After this part of its life, in percent, a token is renewed (Java: `sasl.login.refresh.window.factor`).
const REFRESH_AT: u32 = 80;
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Longer than any wait.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(in crate::proto::cluster) struct Tokens {
    held: Option<Held>,
    /// Asked for, and not here yet.
    asked: bool,
    /// When to ask for the next.
    due: Option<Instant>,
    failures: Backoff,
}

struct Held {
    token: Token,
    expires: Instant,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { held: None, asked: false, due: None, failures: Backoff::new(RETRY.0, RETRY.1) }
    }
}

impl Tokens {
    /// The token to show now, if there is one that has not expired.
    pub(super) fn usable(&self, now: Instant) -> Option<&Token> {
        self.held.as_ref().filter(|held| now < held.expires).map(|held| &held.token)
    }

    pub(in crate::proto::cluster) fn is_usable(&self, now: Instant) -> bool {
        self.usable(now).is_some()
    }

    /// Some connection waits for one.
    pub(in crate::proto::cluster) fn want(&mut self, now: Instant) {
        if !self.asked && !self.is_usable(now) {
            self.due.get_or_insert(now);
        }
    }

    /// A broker did not take it: it is of no use any more.
    pub(in crate::proto::cluster) fn discard(&mut self, now: Instant) {
        if self.held.take().is_some() && !self.asked {
            self.due = Some(now);
        }
    }

    /// Whether it is time to ask for one.
    #[must_use]
    pub(in crate::proto::cluster) fn poll_request(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|at| at <= now);
        if is_due {
            self.due = None;
            self.asked = true;
        }
        is_due
    }

    /// Takes what came of asking. An error says why there is still none.
    pub(in crate::proto::cluster) fn handle(
        &mut self,
        now: Instant,
        came: Result<Token, String>,
        rng: &mut Rng,
    ) -> Result<(), String> {
        self.asked = false;
        match came {
            Ok(token) if token.lifetime.is_zero() => self.handle(now, Err("it has expired already".to_owned()), rng),
            Ok(token) => {
                self.failures.reset();
                let lifetime = token.lifetime.min(FOREVER);
                // A moment from now at least, however short it lives.
                self.due = Some(now + (lifetime * REFRESH_AT / 100).max(RETRY.0));
                self.held = Some(Held { token, expires: now + lifetime });
                Ok(())
            }
            Err(why) => {
                self.due = Some(now + self.failures.fail(rng));
                tracing::warn!(target: "ottla", why, "no token for OAUTHBEARER");
                if self.is_usable(now) { Ok(()) } else { Err(why) }
            }
        }
    }

    #[must_use]
    pub(in crate::proto::cluster) fn poll_timeout(&self) -> Option<Deadline> {
        self.due.map(|at| (at, "token for OAUTHBEARER"))
    }
}
