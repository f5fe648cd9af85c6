//! The handle: steering and watching a consumer from anywhere.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::inbox::Inbox;
use crate::{
    model::{Offset, TopicPartition},
    proto::message::{Command, SeekTarget},
    wire::Timestamp,
};

/// Steers and watches a consumer. Cheap to clone; works from any task; keeps nothing alive.
#[derive(Clone)]
pub struct Handle {
    inbox: Arc<Inbox>,
}

/// Where to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTo {
    /// The first record there still is.
    Beginning,
    /// Only what is written from now on.
    End,
    /// A record's offset.
    Offset(i64),
    /// The first record whose timestamp is this or later, in milliseconds since 1970; the end when there is none.
    TimestampMs(i64),
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to hand out, counted in what one fetch brings: what is being handed out counts as read.
    pub position: i64,
    /// The committed offset, if any is known.
    pub committed: Option<i64>,
    /// The end of the partition as of the last fetch: the last stable offset under read_committed, else the high watermark.
    pub end: Option<i64>,
    /// How many records are handed out and not yet acknowledged.
    pub unacked: usize,
    /// The lowest offset that is handed out and not yet acknowledged.
    pub oldest_unacked: Option<i64>,
    /// Whether it is paused.
    pub paused: bool,
}

impl Lag {
    /// Returns how many offsets lie between what is committed (or else read) and the end.
    pub fn records(&self) -> Option<i64> {
        Some((self.end? - self.committed.unwrap_or(self.position)).max(0))
    }
}

/// Something the group did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// These partitions are this member's from now on.
    Assigned {
        /// The group's generation.
        generation: i32,
        /// This member's id.
        member_id: String,
        /// All partitions that the member holds; none when it stands by.
        partitions: Vec<TopicPartition>,
    },
    /// Nothing of these partitions is in work any more, and what was finished is committed, as far as there was time.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Somebody else has these partitions already, or soon: acks of their records change nothing any more.
    Lost {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// What happened.
        why: String,
    },
    /// The member joins the group (again).
    Rejoining {
        /// What for.
        why: String,
    },
    /// Commits are refused for a reason that lasts.
    CommitFailed {
        /// The reason.
        why: String,
    },
    /// The group's coordinator was found, or is another one now.
    CoordinatorFound {
        /// Its id and address.
        broker: String,
    },
    /// The group's coordinator cannot be reached, or is none any more; it is being looked for.
    CoordinatorLost {
        /// What happened.
        why: String,
    },
}

impl Handle {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Asks the consumer to close: its stream ends (`None`) after outstanding acks were waited for, up to `timeout`, and committed.
    ///
    /// Does not wait; [`close`](super::AtLeastOnce::close) on the stream does.
    pub fn shutdown(&self, timeout: Duration) {
        self.inbox.command(Command::Close { timeout });
    }

    /// Stops handing out records of these partitions. What is fetched is kept; ownership, heartbeats and commits go on.
    ///
    /// Partitions that are not assigned are ignored; a partition that comes back after a rebalance is not paused.
    pub fn pause<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        self.inbox.pause(&partitions.into_iter().cloned().collect::<Vec<_>>(), true);
    }

    /// Hands out records of these partitions again.
    pub fn resume<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        self.inbox.pause(&partitions.into_iter().cloned().collect::<Vec<_>>(), false);
    }

    /// Goes on reading an assigned partition from somewhere else.
    ///
    /// Acks of records that were handed out before the seek change nothing any more. A seek back makes the committed offset go back, too,
    /// as soon as something is finished there. A partition that is not assigned, or is being revoked, is left alone.
    pub fn seek(&self, partition: &TopicPartition, to: SeekTo) {
        let to = match to {
            SeekTo::Beginning => SeekTarget::Time(Timestamp::Earliest),
            SeekTo::End => SeekTarget::Time(Timestamp::Latest),
            SeekTo::Offset(offset) => SeekTarget::Offset(Offset(offset.max(0))),
            SeekTo::TimestampMs(at) => SeekTarget::Time(Timestamp::AtMs(at.max(0))),
        };
        self.inbox.seek(partition, to);
    }

    /// Returns the partitions that this member holds now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.inbox.with_lanes(|lanes| lanes.keys().cloned().collect())
    }

    /// Returns how far each assigned partition has been read, as known from the last fetches: it asks no broker.
    pub fn lag(&self) -> Vec<Lag> {
        self.inbox.lag()
    }

    /// Returns a stream of what the group does from now on: for logs, metrics and tests.
    ///
    /// A listener that falls 1,024 events behind misses what comes until it has caught up; it never holds up the consumer.
    pub fn events(&self) -> Events {
        self.inbox.listeners.add()
    }
}

/// A stream of [`GroupEvent`]; ends with the consumer.
pub struct Events {
    receiver: mpsc::Receiver<GroupEvent>,
}

impl Events {
    /// Waits for the next event. `None` when the consumer has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future before it is ready loses nothing.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        self.receiver.recv().await
    }
}

impl Stream for Events {
    type Item = GroupEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

const EVENTS_MAX: usize = 1024;

/// Who listens to the group's events.
#[derive(Default)]
pub(crate) struct Listeners {
    state: Mutex<Listening>,
}

#[derive(Default)]
struct Listening {
    senders: Vec<mpsc::Sender<GroupEvent>>,
    ended: bool,
}

impl Listeners {
    fn add(&self) -> Events {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let mut state = self.lock();
        if !state.ended {
            state.senders.push(sender);
        }
        Events { receiver }
    }

    pub(crate) fn tell(&self, event: GroupEvent) {
        let closed = |error| matches!(error, mpsc::error::TrySendError::Closed(_));
        self.lock().senders.retain(|sender| !sender.try_send(event.clone()).is_err_and(closed));
    }

    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.senders.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
