//! OAUTHBEARER (RFC 7628, KIP-255): one message, which holds the token.

use std::time::Duration;

use super::Next;
use crate::secret::Secret;

/// What the client says to an error that the broker explains: nothing, so that the broker ends the exchange.
const SO_BE_IT: &[u8] = b"\x01";

/// A token, as the user's program gave it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// The whole message: the token must stand in it as it came.
    message: Secret,
    /// From the moment it was given.
    pub(super) lifetime: Duration,
}

impl Token {
    /// # Errors
    ///
    /// Says which part of it cannot be said in a message.
    pub(crate) fn new(value: &str, extensions: &[(String, String)], lifetime: Duration) -> Result<Self, String> {
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token is empty, or holds what is no visible ASCII character".to_owned());
        }
        let mut message = b"n,,\x01auth=Bearer ".to_vec();
        // What it takes in all, so that it never moves and leaves no copy behind.
        message
            .reserve_exact(value.len() + extensions.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 2);
        message.extend_from_slice(value.as_bytes());
        for (name, value) in extensions {
            if name.is_empty() || name == "auth" || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(format!("{name:?} cannot name an extension: letters a-z A-Z only, and not \"auth\""));
            }
            if !value.bytes().all(|byte| byte.is_ascii_graphic() || b" \t\r\n".contains(&byte)) {
                return Err(format!("the extension {name:?} holds what is no visible ASCII character or space"));
            }
            message.extend_from_slice(b"\x01");
            message.extend_from_slice(name.as_bytes());
            message.extend_from_slice(b"=");
            message.extend_from_slice(value.as_bytes());
        }
        message.extend_from_slice(b"\x01\x01");
        Ok(Self { message: Secret::new(message), lifetime })
    }

    pub(super) fn message(&self) -> Secret {
        self.message.clone()
    }
}

/// One exchange, after its one message.
#[derive(Debug, Default)]
pub(in crate::proto::cluster) struct Bearer {
    /// Why the broker does not take the token, in JSON.
    complaint: Option<String>,
}

impl Bearer {
    pub(super) fn handle(&mut self, message: &[u8]) -> Result<Next, String> {
        match &self.complaint {
            None if message.is_empty() => Ok(Next::Done),
            None => {
                self.complaint = Some(String::from_utf8_lossy(message).into_owned());
                Ok(Next::Send(Secret::new(SO_BE_IT)))
            }
            Some(complaint) => Err(format!("it says {complaint}")),
        }
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}
