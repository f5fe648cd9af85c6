//! The wire, as little of it as is needed to fill topics and to read them raw: blocking, one request at a time or several in a row.

#![forbid(unsafe_code)]

mod connection;

pub use connection::{Connection, Leaders, leaders};
