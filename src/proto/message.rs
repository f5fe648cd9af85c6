//! What goes into the core and what comes out of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    BrokerAddr, ConnId, Deadline, Disconnect, PartitionHandle, Problem,
    cluster::{ClusterOutput, Token},
    offsets::{CommitFailure, ResetPolicy},
    selection::Selection,
};
use crate::{
    model::{Offset, Position, TopicPartition},
    records::Chunk,
    wire::Timestamp,
};

/// What the shell tells the core.
#[derive(Debug)]
pub(crate) enum Input<C = Command> {
    Connected(ConnId),
    /// A whole frame, without its length.
    Frame(ConnId, Bytes),
    Disconnected(ConnId, Disconnect),
    Command(C),
    /// What came of `Output::FetchToken`: exactly one for each.
    Token(Result<Token, String>),
    /// Nothing but the time.
    Tick,
}

/// What the core wants of the shell.
#[derive(Debug)]
pub(crate) enum Output<E = Event> {
    Connect(ConnId, BrokerAddr),
    /// A whole frame, with its length.
    Transmit(ConnId, Bytes),
    Disconnect(ConnId),
    /// Ask the user's program for a token of OAUTHBEARER.
    FetchToken,
    Event(E),
    /// Nothing more to do until then (or until the next input).
    Wait(Option<Deadline>),
}

impl<E> From<ClusterOutput> for Output<E> {
    fn from(output: ClusterOutput) -> Self {
        match output {
            ClusterOutput::Connect(conn, addr) => Self::Connect(conn, addr),
            ClusterOutput::Transmit(conn, bytes) => Self::Transmit(conn, bytes),
            ClusterOutput::Disconnect(conn) => Self::Disconnect(conn),
            ClusterOutput::FetchToken => Self::FetchToken,
        }
    }
}

/// What the user's side tells the core.
#[derive(Debug)]
pub(crate) enum Command {
    /// Join the group for what is selected.
    Join {
        start: Start,
        reset: ResetPolicy,
    },
    /// Select something else; nothing at all means to leave the group.
    Subscribe(Selection),
    /// How far processing has got: the answer to `Event::ReadProgress`, and news while partitions are being revoked.
    Progress(Progress),
    /// The user's side took these chunks out of the buffer, or threw them away: their bytes are free.
    Taken {
        chunks: Vec<(PartitionHandle, usize)>,
    },
    /// At most once: commit these now; `Event::Committed` says when that is done.
    Release {
        positions: Vec<(PartitionHandle, Position)>,
    },
    /// A record was dropped without an ack: say `Event::Redeliver` with this token after a back-off.
    Dropped {
        handle: PartitionHandle,
        token: u64,
        attempt: u32,
        after: Option<Duration>,
    },
    /// A batch that fails its checksum, or cannot be decoded. What was buffered of the partition has been thrown away.
    Corrupt {
        handle: PartitionHandle,
        offset: Offset,
        next_offset: Offset,
        what: String,
    },
    Pause {
        partitions: Vec<TopicPartition>,
        paused: bool,
    },
    Seek {
        partition: TopicPartition,
        to: SeekTarget,
    },
    /// The partition's own stream was dropped while it is assigned: reading begins anew behind what is finished, which counts.
    Reopen {
        handle: PartitionHandle,
        finished: Position,
    },
    /// The answer to `Event::Unplaced`.
    Place {
        handle: PartitionHandle,
        at: SeekTarget,
    },
    /// Manual mode: exactly one `Event::CommitDone` answers.
    Commit {
        handle: PartitionHandle,
        position: Position,
        ticket: u64,
    },
    /// Something left the user's hands while its partition is being revoked: time to read the progress.
    Nudge,
    /// The stream is polled again after a stall.
    Polled,
    Close {
        timeout: Duration,
    },
}

/// Who says where reading of a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The group: at what is committed.
    Committed,
    /// The user, each time: what the group has committed is not asked for.
    Placed,
}

/// Where a seek goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SeekTarget {
    Offset(Offset),
    Time(Timestamp),
}

/// How far the user's side has got, in every partition it still has something of.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) partitions: Vec<PartitionProgress>,
    /// Another number whenever a record was handed out or acked.
    pub(crate) activity: u64,
    /// The user waits for records and there are none to hand out.
    pub(crate) waiting: bool,
}

#[derive(Debug)]
pub(crate) struct PartitionProgress {
    pub(crate) handle: PartitionHandle,
    /// Everything before it is finished.
    pub(crate) finished: Position,
    /// Something of the partition is still in the user's hands.
    pub(crate) in_work: bool,
}

/// What the core tells the user's side.
#[derive(Debug)]
pub(crate) enum Event {
    /// A broker answered for the first time.
    Reached,
    Assigned {
        generation: i32,
        member_id: Arc<str>,
        handles: Vec<PartitionHandle>,
    },
    /// The user is to say where to read it: answer with `Command::Place`, whenever that is known. Nothing is handed out before.
    Unplaced(PartitionHandle),
    /// Reading begins, or begins anew, at `position`. A partition that was read under an older handle is read under this one from now on.
    Started {
        handle: PartitionHandle,
        position: Position,
        committed: Option<Position>,
    },
    Chunk {
        handle: PartitionHandle,
        chunk: Chunk,
        watermarks: Watermarks,
    },
    /// The broker said where the log ends, and there was nothing to read.
    Watermarks {
        handle: PartitionHandle,
        watermarks: Watermarks,
    },
    /// Hand out nothing more of these; answer with `Command::Progress` now and whenever something of them leaves the user's hands.
    Revoking(Vec<PartitionHandle>),
    /// Hand out nothing more of it: it will be read from elsewhere, under a new handle.
    Halted(TopicPartition),
    /// Nothing of these is in work any more, and what was finished is committed, as far as there was time.
    Revoked(Vec<PartitionHandle>),
    /// Somebody else has these already: acks of them change nothing any more.
    Lost {
        handles: Vec<PartitionHandle>,
        why: String,
    },
    /// Answer with `Command::Progress` at once.
    ReadProgress,
    Committed {
        handle: PartitionHandle,
        position: Position,
    },
    CommitDone {
        ticket: u64,
        result: Result<(), CommitFailure>,
    },
    Redeliver {
        handle: PartitionHandle,
        token: u64,
    },
    Rejoining {
        why: String,
    },
    CoordinatorFound {
        broker: String,
    },
    CoordinatorLost {
        why: String,
    },
    Problem(Problem),
    /// The last event: the consumer has left its group, or gave up trying in time.
    Closed(Unfinished),
}

/// Where a partition's log ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Watermarks {
    pub(crate) high: Offset,
    pub(crate) last_stable: Offset,
}

/// What could not be finished before the consumer closed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Unfinished {
    /// Partitions with records still in the user's hands when the time ran out.
    pub(crate) in_work: Vec<TopicPartition>,
    /// Partitions whose finished records could not be committed in time.
    pub(crate) uncommitted: Vec<TopicPartition>,
}
