//! What must not be seen: passwords, tokens, and the messages that prove them.

use std::fmt;

use bytes::Bytes;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that are never printed, and are overwritten when the last copy of them is dropped.
#[derive(Clone)]
pub(crate) struct Secret(Bytes);

impl Secret {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Bytes::from_owner(Zeroizing::new(bytes.into())))
    }

    /// The bytes themselves; a copy of them is a secret, too.
    pub(crate) fn expose(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for Secret {}
