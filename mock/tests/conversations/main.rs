//! The same conversations with the mock and with a real Kafka, word by word.
//!
//! Each test speaks raw requests over TCP and writes down what it hears; ids, ports and what else is never the same twice get names in
//! the order in which they appear. What is expected stands in the test: it is what Kafka 4.3.1 said. The mock is held to it in every
//! `cargo test`, the real Kafka with `OTTLA_REAL_KAFKA=1` (`cargo xtask test`). With `KAFKA_TRANSCRIPTS=FOLDER` what was heard is also
//! written there, as `NAME.real` and `NAME.mock`, to be read or taken over.

#![allow(clippy::disallowed_methods, reason = "conversations take place in real time")]

mod cluster;
mod consumer_groups;
mod converted;
mod fetch;
mod groups;
mod leaders;
mod logs;
mod notes;
mod offsets;
mod produce;
mod stage;
mod static_members;
mod topics;
mod transactions;
