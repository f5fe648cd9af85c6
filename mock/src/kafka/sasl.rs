//! Who may speak on a connection: SASL with PLAIN and SCRAM, from the broker's side.

mod scram;

use std::time::{Duration, Instant};

use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse},
    protocol::StrBytes,
};

use super::{Context, call::Call, random::Random};

/// Who may connect, and how; without it everybody may.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SaslSettings {
    /// User names with their passwords.
    pub users: Vec<(String, String)>,
    /// `sasl.enabled.mechanisms`.
    pub mechanisms: Vec<SaslMechanism>,
    /// `connections.max.reauth.ms`: after so long a connection is good for nothing but authenticating anew (KIP-368).
    pub max_reauth: Option<Duration>,
}

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SaslMechanism {
    /// Name and password as they are.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How far a connection has got.
#[derive(Debug, Default)]
pub(crate) enum Sasl {
    #[default]
    Unknown,
    /// It has chosen a mechanism.
    Chosen(SaslMechanism),
    /// It was asked to prove that it knows the password.
    Challenged(scram::Challenge),
    /// It is somebody, until then.
    Known(Option<Instant>),
}

impl Sasl {
    /// Says whether a connection in this state may ask this.
    pub(crate) fn admits(&self, api: ApiKey, now: Instant) -> bool {
        match (self, api) {
            (_, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) => true,
            (Self::Known(until), _) => until.is_none_or(|until| now < until),
            _ => false,
        }
    }

    pub(crate) fn handshake(&mut self, cx: &mut Context<'_>, call: Call, request: &SaslHandshakeRequest) {
        let enabled = cx.settings.sasl.as_ref().map_or(&[][..], |sasl| &sasl.mechanisms);
        let mechanism = SaslMechanism::ALL.into_iter().find(|of| of.name() == request.mechanism.as_str() && enabled.contains(of));
        let names = enabled.iter().map(|of| StrBytes::from_static_str(of.name())).collect();
        let error = match mechanism {
            Some(mechanism) => {
                *self = Self::Chosen(mechanism);
                0
            }
            None => ResponseError::UnsupportedSaslMechanism.code(),
        };
        cx.out.answer(call, &SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(names));
    }

    /// Takes the next message of the exchange. Whoever fails is told so, and may say nothing more.
    pub(crate) fn authenticate(&mut self, cx: &mut Context<'_>, call: Call, request: &SaslAuthenticateRequest) {
        let settings = cx.settings.sasl.clone().unwrap_or_default();
        let password = |name: &str| {
            let user = settings.users.iter().find(|(user, _)| user == name);
            user.map(|(_, password)| password.as_str()).ok_or_else(|| "Authentication failed: no such user".to_owned())
        };
        let message = &request.auth_bytes;
        let stepped = match std::mem::take(self) {
            Self::Chosen(SaslMechanism::Plain) => plain(message, password).map(|()| (Vec::new(), None)),
            Self::Chosen(mechanism) => {
                scram::challenge(mechanism, message, password, cx.random).map(|(answer, challenge)| (answer, Some(challenge)))
            }
            Self::Challenged(challenge) => challenge.verify(message).map(|answer| (answer, None)),
            Self::Unknown | Self::Known(_) => Err("SaslHandshake has to come first".to_owned()),
        };
        let mut body = SaslAuthenticateResponse::default();
        match stepped {
            Ok((answer, Some(challenge))) => {
                *self = Self::Challenged(challenge);
                body = body.with_auth_bytes(answer.into());
            }
            Ok((answer, None)) => {
                *self = Self::Known(settings.max_reauth.map(|lifetime| cx.now + lifetime));
                body = body.with_auth_bytes(answer.into());
                if let Some(lifetime) = settings.max_reauth.filter(|_| call.version >= 1) {
                    body = body.with_session_lifetime_ms(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
                }
            }
            Err(why) => {
                body = body.with_error_code(ResponseError::SaslAuthenticationFailed.code());
                body = body.with_error_message(Some(StrBytes::from_string(why)));
            }
        }
        cx.out.answer(call, &body);
    }
}

/// Reads `authorization id NUL name NUL password`.
fn plain<'a>(message: &[u8], password: impl Fn(&str) -> Result<&'a str, String>) -> Result<(), String> {
    let mut parts = message.split(|byte| *byte == 0).map(std::str::from_utf8);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(_)), Some(Ok(name)), Some(Ok(given)), None) if password(name)? == given => Ok(()),
        (Some(Ok(_)), Some(Ok(_)), Some(Ok(_)), None) => Err("Authentication failed: Invalid username or password".to_owned()),
        _ => Err("Invalid SASL/PLAIN response: it is not authorization id, name and password".to_owned()),
    }
}

/// Makes a nonce of printable letters.
fn nonce(random: &mut Random) -> String {
    format!("{:016x}{:016x}", random.next_u64(), random.next_u64())
}

#[cfg(test)]
mod tests;
