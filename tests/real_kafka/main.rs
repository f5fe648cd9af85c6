//! Tests against real Kafka: run them with `cargo xtask test`. Without `OTTLA_REAL_KAFKA=1` each of them only says so.
//!
//! Every test begins with one of
//!
//! ```ignore
//! let Some(kafka) = Kafka::shared() else { return };          // one broker, shared by all tests
//! let Some(kafka) = Kafka::three_nodes() else { return };     // of its own, for tests that stop or kill brokers
//! ```
//!
//! and uses only topics and groups whose names it got from `kafka`: they are new in each run.

#![allow(clippy::disallowed_methods, reason = "real brokers take real time")]
#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]

mod data;
mod delivery;
mod failures;
mod harness;
mod kip848;
mod matrix;
mod member;
mod offsets;
mod ownership;
mod patterns;
mod placed;
mod quotas;
mod racks;
mod security;
mod sessions;
mod standalone;
mod statics;
mod support;
mod topics;
mod versions;
mod wide;
