//! Who this client is, and how it proves that to a broker: SASL, from the client's side.
//!
//! | file | what it decides |
//! |---|---|
//! | [`scram`] | the messages of SCRAM, and whether the broker knows the password, too |
//! | [`bearer`] | the message of OAUTHBEARER |
//! | [`tokens`] | when to ask the user's program for a token |
//! | [`fuzzing`] | a broker that says what it likes |
//!
//! The mechanism's messages travel in SaslAuthenticate, or bare where a broker (Kafka 0.11) has no such request; see [`super::connection`].

mod bearer;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod scram;
mod tokens;

use std::{sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub(super) use self::tokens::Tokens;
use self::{bearer::Bearer, scram::Scram};
pub(crate) use self::{bearer::Token, scram::ScramHash};
use crate::{proto::ConnId, secret::Secret};

/// Who this client says it is.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    Plain {
        user: Arc<str>,
        password: Secret,
    },
    Scram {
        hash: ScramHash,
        user: Arc<str>,
        password: Secret,
    },
    /// OAUTHBEARER: whoever a token says, and the tokens come from the user's program.
    Bearer,
}

/// What the cluster machine must be told once about authentication.
#[derive(Clone, Debug)]
pub(crate) struct SaslConfig {
    pub(crate) credentials: Credentials,
    /// What nobody else can guess: nonces are made of it.
    pub(crate) nonce_key: Secret,
}

impl Credentials {
    /// The mechanism's name on the wire.
    pub(super) fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { hash: ScramHash::Sha256, .. } => "SCRAM-SHA-256",
            Self::Scram { hash: ScramHash::Sha512, .. } => "SCRAM-SHA-512",
            Self::Bearer => "OAUTHBEARER",
        }
    }

    /// Names who wants in, for the text of an error.
    pub(super) fn who(&self) -> String {
        match self {
            Self::Plain { user, .. } | Self::Scram { user, .. } => format!("user {user:?}"),
            Self::Bearer => "the token's user".to_owned(),
        }
    }
}

/// The state of authentication that all connections share.
pub(super) struct Sasl {
    config: SaslConfig,
    pub(super) tokens: Tokens,
}

impl Sasl {
    pub(super) fn new(config: SaslConfig) -> Self {
        Self { config, tokens: Tokens::default() }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.config.credentials
    }

    /// Begins an exchange on a connection, with the first message; `None` while there is no token to show. No two exchanges of a client have
    /// both numbers in common.
    pub(super) fn begin(&self, now: Instant, conn: ConnId, number: i32) -> Option<(Exchange, Secret)> {
        Some(match &self.config.credentials {
            Credentials::Plain { user, password } => {
                let parts: [&[u8]; 4] = [b"\0", user.as_bytes(), b"\0", password.expose()];
                (Exchange::Plain, Secret::new(parts.concat()))
            }
            Credentials::Scram { hash, user, password } => {
                let (scram, first) = Scram::begin(*hash, user, password.clone(), &self.nonce(conn, number));
                (Exchange::Scram(scram), first)
            }
            Credentials::Bearer => (Exchange::Bearer(Bearer::default()), self.tokens.usable(now)?.message()),
        })
    }

    /// A nonce that is new, and that nobody can foresee: otherwise a recorded answer of a broker could be played again.
    fn nonce(&self, conn: ConnId, number: i32) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.config.nonce_key.expose()).expect("HMAC takes a key of any length");
        mac.update(&conn.0.to_be_bytes());
        mac.update(&number.to_be_bytes());
        BASE64.encode(mac.finalize().into_bytes())
    }
}

/// One run of a mechanism, after its first message.
#[derive(Debug)]
pub(super) enum Exchange {
    Plain,
    Scram(Scram),
    Bearer(Bearer),
}

/// What follows a broker's message.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Send(Secret),
    /// Both sides have said all, and nothing more is to be proved.
    Done,
}

impl Exchange {
    /// Takes the broker's next message. An error says why the broker is not to be believed, or does not believe.
    pub(super) fn handle(&mut self, message: &[u8]) -> Result<Next, String> {
        match self {
            Self::Plain => Ok(Next::Done),
            Self::Scram(scram) => scram.handle(message),
            Self::Bearer(bearer) => bearer.handle(message),
        }
    }

    /// What the broker said before it refused, beside its error.
    pub(super) fn complaint(&self) -> Option<&str> {
        match self {
            Self::Bearer(bearer) => bearer.complaint(),
            Self::Plain | Self::Scram(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
