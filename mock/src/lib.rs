//! A Kafka cluster inside your process, for tests.

#![forbid(unsafe_code)]

mod cluster;
mod kafka;
mod record;
mod serve;

pub use cluster::{MockCluster, MockClusterBuilder};
pub use kafka::{
    ConnId, Event, Input, Kafka, MemberView, Offsets, Outcome, Output, Release, Request, SaslMechanism, SaslSettings, Settings,
    Verdict,
};
pub use kafka_protocol::{self, ResponseError, messages::ApiKey as Api};
pub use record::{Record, StoredRecord};
