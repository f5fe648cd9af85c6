//! Real Kafka brokers, and the clients ottla shares groups with, as processes of a test: no Docker needed.
//!
//! * [`Cluster`] runs brokers of any version from 0.11 on, and stops, kills, pauses and restarts each of them.
//! * [`Admin`] is one long-lived JVM beside a cluster: it makes topics, produces, describes groups, and joins groups as Java's consumer.
//! * [`ConsumerGroups`] runs Kafka's own command-line tool, for its word on a group.
//! * [`Librdkafka`] is a member of a group on librdkafka.
//!
//! Wanted on the machine: a JDK from 17 on (`java` and `javac`), Maven (`mvn`), and for librdkafka `python3`. What they fetch (the
//! broker's jars, `confluent-kafka`) is kept in the user's cache folder.
//!
//! Nothing outlives the test: a watchdog process ends the brokers and removes their folder when the [`Cluster`] is dropped *or* when the
//! process that started it dies, however it dies.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a harness waits for real processes in real time")]

mod admin;
mod cluster;
mod config;
mod error;
mod jars;
mod librdkafka;
mod process;
mod tool;

pub use admin::{Admin, Group, GroupMember, JavaMember, Lag, Leader, MemberStatus, Outcome, Produce, Seen, value};
pub use cluster::{Cluster, Listener, Options, stop_detached};
pub use error::{Error, Result};
pub use jars::{Jvm, java_and_maven, java_program};
pub use librdkafka::Librdkafka;
pub use process::{eventually, signal};
pub use tool::ConsumerGroups;

/// The version that a cluster has when nobody asks for another.
pub const DEFAULT_VERSION: &str = "4.3.1";
