//! What goes into the cluster, and what comes out.

use std::time::Instant;

use bytes::Bytes;

/// A connection, numbered by whoever carries its bytes. A number is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client has connected to this broker.
    Connected(ConnId, i32),
    /// The client sent these bytes: any part of the stream, frames and their lengths.
    Received(ConnId, Bytes),
    /// The client has hung up.
    Disconnected(ConnId),
    /// The moment of the last [`Output::Wait`] has come.
    Tick,
}

/// Something to be done outside.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send these bytes to the client.
    Transmit(ConnId, Bytes),
    /// Hang up on the client, once everything before has been sent.
    Disconnect(ConnId),
    /// Somebody may want to know of this.
    Event(Event),
    /// There is nothing to do until something comes in, or this moment.
    Wait(Option<Instant>),
}

/// What the cluster did that a test may want to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An offset was stored for a group.
    Committed {
        /// The group that owns the offset.
        group: String,
        /// Who committed it; empty for a tool, or a consumer that assigns its partitions itself.
        member_id: String,
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
        /// The next offset to read.
        offset: i64,
        /// Which connection brought it.
        conn: ConnId,
    },
    /// A group has a new generation, or epoch.
    Generation {
        /// The group.
        group: String,
        /// Its generation, or epoch.
        generation: i32,
        /// Who is in it, by member id.
        members: Vec<String>,
    },
    /// A member is gone: it left, its session ended, or it was fenced.
    MemberGone {
        /// The group.
        group: String,
        /// The member's id.
        member_id: String,
        /// Why.
        why: &'static str,
    },
}
