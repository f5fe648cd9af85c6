//! The handle: steering and watching a consumer from anywhere.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::{
    inbox::Inbox,
    subscription::{Subscription, select_partitions},
};
use crate::{
    error::BuildError,
    model::{Offset, TopicPartition},
    proto::{
        message::{Command, SeekTarget},
        selection::Selection,
    },
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

impl SeekTo {
    pub(super) fn target(self) -> SeekTarget {
        match self {
            Self::Beginning => SeekTarget::Time(Timestamp::Earliest),
            Self::End => SeekTarget::Time(Timestamp::Latest),
            Self::Offset(offset) => SeekTarget::Offset(Offset(offset.max(0))),
            Self::TimestampMs(at) => SeekTarget::Time(Timestamp::AtMs(at.max(0))),
        }
    }
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
        Some(self.end?.saturating_sub(self.committed.unwrap_or(self.position)).max(0))
    }
}

/// What a consumer holds and has done, all partitions together.
///
/// Records count for as long as their partition is assigned, and read on without a seek: what the program still holds of one that is
/// lost, or was sought elsewhere, is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// How many partitions this member holds.
    pub assigned_partitions: usize,
    /// How many bytes were fetched and not yet taken by a stream, as the brokers sent them: compressed. Bounded by `buffer_bytes_max`.
    pub buffered_bytes: usize,
    /// How many bytes the records that were handed out, and those next to come, keep in memory: decompressed.
    ///
    /// One record keeps all that came with it: its batch if that was compressed, else everything its partition had in the Fetch answer.
    /// Other partitions' part of an answer may stay in memory with it, and is not counted.
    pub pinned_bytes: usize,
    /// How many records were handed out and not yet acknowledged, those included that were dropped and will be handed out again.
    ///
    /// Under manual commits, which know no acks: how many are in batches that the program still holds.
    pub unacked_records: usize,
    /// How many records and batches were dropped unacknowledged and wait to be handed out again.
    pub waiting_redeliveries: usize,
    /// How many times a stream has taken what one Fetch answer held of one partition, since the consumer was built. Only grows.
    pub taken_chunks: u64,
}

/// Something the group did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// The member is part of a new generation, and these partitions are its own from now on.
    Assigned {
        /// The group's generation; -1 where no group is joined.
        generation: i32,
        /// This member's id; empty where no group is joined.
        member_id: String,
        /// The partitions that are new to it; all that it holds, unless the group is cooperative, where it keeps others through a rebalance.
        /// None when it stands by, or gets nothing new.
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

    /// Reads something else from now on: replaces all that was subscribed to.
    ///
    /// Does not wait. The group rebalances; partitions of topics that are no longer wanted are given back as in any rebalance: what is in work
    /// is waited for, and committed. Topics that stay are read on. Java: `subscribe`.
    ///
    /// [Without a group](super::Consumer::standalone) all partitions of these topics are read, also after an [`assign`](Self::assign), and what
    /// is no longer wanted goes at once.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidSetting`] when nothing is named, a name is none, or a pattern no regular expression; when the coordinator is to match
    /// one ([`Subscription::server_pattern`]) and there is none that does; or when the consumer was built with
    /// [`assign`](super::ConsumerBuilder::assign) for a group, which it has not joined. What was read before stays.
    pub fn subscribe(&self, subscription: impl Into<Subscription>) -> Result<(), BuildError> {
        let standing = self.inbox.standing();
        standing.check("subscribe")?;
        self.inbox.command(Command::Subscribe(subscription.into().select(standing)?));
        Ok(())
    }

    /// Reads just these partitions from now on: replaces all that was assigned, or [without a group](super::Consumer::standalone) subscribed to.
    ///
    /// Does not wait. What stays is read on. What is new begins as in [`ConsumerBuilder::assign`](super::ConsumerBuilder::assign). Of what goes,
    /// records in work are waited for, up to `drain_timeout`, and committed, if there is a group; without one it goes at once. Java: `assign`.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidSetting`] when nothing is named, or what is named can be no partition, or when the consumer is a member of a group,
    /// which deals out the partitions; what was read before stays.
    pub fn assign<P: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = P>) -> Result<(), BuildError> {
        self.inbox.standing().check("assign")?;
        let partitions: Vec<_> = partitions.into_iter().map(Into::into).collect();
        self.inbox.command(Command::Subscribe(select_partitions(&partitions)?));
        Ok(())
    }

    /// Gives back all partitions, as in any rebalance, and leaves the group, if it is a member; the stream waits until something is
    /// [subscribed](Self::subscribe) to or [assigned](Self::assign) again, or it is closed. The group waits for a static member to come back, until its session ends, before
    /// it gives its partitions to others. Java: `unsubscribe`.
    pub fn unsubscribe(&self) {
        self.inbox.command(Command::Subscribe(Selection::default()));
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
        self.inbox.seek(partition, to.target());
    }

    /// Returns the partitions that this member holds now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.inbox.with_lanes(|lanes| lanes.keys().cloned().collect())
    }

    /// Returns how far each assigned partition has been read, as known from the last fetches: it asks no broker.
    pub fn lag(&self) -> Vec<Lag> {
        self.inbox.lag()
    }

    /// Returns what the consumer holds just now: it asks no broker.
    pub fn stats(&self) -> Stats {
        self.inbox.stats()
    }

    /// Returns a stream of what the group does from now on: for logs, metrics and tests. Who wants the first assignment, too, asks
    /// [`Consumer::handle`](crate::Consumer::handle) for it before a delivery mode is chosen.
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::{
        consumer::{
            Delivery,
            acks::tests::{position, take_all},
            feed::{Feed, Next, ReadSettings},
            inbox::InboxSettings,
            run::RunCursor,
            subscription::Standing,
        },
        proto::{
            PartitionHandle,
            message::{Event, Watermarks},
        },
        records::{Chunk, encode::TestBatch, index},
    };

    const SNAPPY: i16 = 2;

    fn chunk(batches: &[TestBatch]) -> Chunk {
        let data: bytes::Bytes = batches.iter().flat_map(TestBatch::encode).collect::<Vec<_>>().into();
        let (from, indexed) = (Offset(batches[0].base), index(&data, Offset(batches[0].base)));
        Chunk {
            data,
            heads: indexed.heads,
            aborted: Vec::new(),
            from,
            next_offset: indexed.next_offset.expect("there are batches"),
        }
    }

    /// A broker may say that the end is anywhere.
    #[test]
    fn a_lag_is_never_below_nothing_and_never_wraps() {
        let partition = TopicPartition::new("orders", 0);
        let lag = |end| Lag {
            partition: partition.clone(),
            position: 5,
            committed: None,
            end,
            unacked: 0,
            oldest_unacked: None,
            paused: false,
        };
        assert_eq!([None, Some(7), Some(3), Some(i64::MIN)].map(|end| lag(end).records()), [None, Some(2), Some(0), Some(0)]);
    }

    #[test]
    fn stats_follow_a_chunk_from_the_broker_to_the_ack() {
        let (commands, _core) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::new(
            commands,
            InboxSettings {
                unacked_records_max: 1000,
                buffer_bytes_max: 1 << 20,
                read_committed: true,
                standing: Standing::Member(crate::GroupProtocol::Classic),
            },
        ));
        let handle = Handle::new(Arc::clone(&inbox));
        assert_eq!(handle.stats(), Stats::default());

        let partition = PartitionHandle { partition: TopicPartition::new("orders", 4), assignment: 9 };
        inbox.handle(Event::Started { handle: partition.clone(), position: position(0, None), committed: None });
        // An uncompressed batch on either side of a compressed one: two runs share a buffer, and one has its own.
        let plain = TestBatch::dense(3, 3);
        let decompressed = plain.plain_records().len();
        let compressed = plain.compressed(SNAPPY, |records| snap::raw::Encoder::new().compress_vec(records).unwrap());
        let chunk = chunk(&[TestBatch::dense(0, 3), compressed, TestBatch::dense(6, 3)]);
        let fetched = chunk.data.len();
        let watermarks = Watermarks { high: Offset(9), last_stable: Offset(9) };
        inbox.handle(Event::Chunk { handle: partition.clone(), chunk, watermarks });
        let buffered = Stats { assigned_partitions: 1, buffered_bytes: fetched, ..Stats::default() };
        assert_eq!(handle.stats(), buffered);

        let settings = ReadSettings { read_committed: true, verify_crc: true, decompressed_bytes_max: 1 << 20 };
        let mut feed = Feed::new(Arc::clone(&inbox), None, settings);
        let mut records: Vec<Vec<Delivery>> = Vec::new();
        for pinned_bytes in [fetched, fetched + decompressed, fetched + decompressed] {
            let next = feed.poll_next(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Some(Ok(Next::Run(run)))) = next else { panic!("no records") };
            records.push(take_all(&mut RunCursor::new(run)));
            let taken = Stats {
                buffered_bytes: 0,
                pinned_bytes,
                unacked_records: 3 * records.len(),
                taken_chunks: 1,
                ..buffered.clone()
            };
            assert_eq!(handle.stats(), taken);
        }

        // What is left is the first record, which waits to be handed out again, and the chunk that it stands in.
        drop(records[0].remove(0));
        records.into_iter().flatten().for_each(Delivery::ack);
        let left = Stats { buffered_bytes: 0, pinned_bytes: fetched, unacked_records: 1, taken_chunks: 1, ..buffered };
        assert_eq!(handle.stats(), Stats { waiting_redeliveries: 1, ..left });
    }
}
