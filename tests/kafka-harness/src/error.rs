//! One error for the whole harness: a text for the person who reads the failed test.

use std::{fmt, io};

/// What went wrong, in words, with the last lines of a log where there is one.
pub struct Error(String);

/// The harness' result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As `Display`: tests unwrap, and a log with escaped line ends is hard to read.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Says what was tried when the system says no.
pub(crate) trait Context<T> {
    fn context(self, tried: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, tried: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error(format!("cannot {tried}: {error}")))
    }
}
