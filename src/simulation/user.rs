//! The user's program: it takes what its stream gives, works on it for a while, and finishes it, or not.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures_core::Stream;

use crate::{
    consumer::{
        AtLeastOnce, AtMostOnce, Batch, BatchIter, Batches, Delivery, Manual, ManualBatch, PartitionStream, Partitions,
        UnplacedPartition, UnplacedPartitions,
    },
    error::{CommitError, ConsumeError},
    model::TopicPartition,
};

/// A stream of any mode.
pub(super) enum Records {
    AtLeastOnce(AtLeastOnce),
    Batches(Batches),
    AtMostOnce(AtMostOnce),
    Manual(Manual),
    Partitions(Partitions, Vec<PartitionStream>),
    /// The program keeps the positions itself.
    Placed(UnplacedPartitions, Vec<PartitionStream>),
    /// The test polls its streams itself.
    None,
}

/// How the user's program goes about its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) takes: bool,
    /// How many it works on at the same time.
    pub(super) at_once: usize,
    /// How long it works on each.
    pub(super) work: Duration,
    /// Some take up to twice as long, others no time: so what began later may end first.
    pub(super) is_uneven: bool,
    /// It drops so many of a hundred without an ack.
    pub(super) drops_percent: u64,
}

/// Something that the program was given and has not finished.
pub(super) struct Work {
    /// How often reading of its partition had begun anew when it was handed out.
    pub(super) era: u64,
    what: What,
}

enum What {
    Delivery(Delivery),
    Batch(Batch),
    Manual(ManualBatch),
    /// A commit whose outcome is awaited.
    Committing(Commit),
}

/// It gives the batch back, for the commit to be repeated.
type Commit = Pin<Box<dyn Future<Output = (ManualBatch, Result<(), CommitError>)>>>;

/// A record, as it was handed out.
pub(super) struct Seen {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) attempt: u32,
    pub(super) value: Vec<u8>,
}

/// Looks at a record, of whichever type: all have the same words.
macro_rules! seen {
    ($record:expr, $attempt:expr) => {
        Seen {
            partition: $record.topic_partition().clone(),
            offset: $record.offset(),
            attempt: $attempt,
            value: $record.value().unwrap_or_default().to_vec(),
        }
    };
}

pub(super) enum Taken {
    /// What was handed out, and what is to be finished; nothing is, at most once.
    Records(Vec<Seen>, Option<Work>),
    Problem(ConsumeError),
    /// A partition's stream has begun, or ended.
    Stream(&'static str, TopicPartition),
    /// A partition is to be placed.
    Unplaced(Box<UnplacedPartition>),
}

/// Tells that a stream, or a future, wants to be polled.
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn set(&self, woken: bool) {
        self.0.store(woken, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.set(true);
    }
}

impl Records {
    pub(super) fn is_at_most_once(&self) -> bool {
        matches!(self, Self::AtMostOnce(_))
    }

    /// Looks whether there is something to take.
    pub(super) fn take(&mut self, waker: &Waker) -> Option<Taken> {
        let cx = &mut Context::from_waker(waker);
        match self {
            Self::AtLeastOnce(records) => taken(next(records, cx), delivered),
            Self::Batches(batches) => taken(next(batches, cx), |batch| {
                Taken::Records(all_seen(batch.iter(), batch.attempt()), Some(Work::new(What::Batch(batch))))
            }),
            Self::AtMostOnce(records) => taken(next(records, cx), |record| Taken::Records(vec![seen!(record, 1)], None)),
            Self::Manual(batches) => {
                taken(next(batches, cx), |batch| Taken::Records(all_seen(batch.iter(), 1), Some(Work::new(What::Manual(batch)))))
            }
            Self::Partitions(partitions, streams) => {
                match next(partitions, cx) {
                    Some(Ok(stream)) => {
                        let partition = stream.topic_partition().clone();
                        streams.push(stream);
                        return Some(Taken::Stream("is read by a task of its own", partition));
                    }
                    Some(Err(error)) => return Some(Taken::Problem(error)),
                    None => {}
                }
                take_of_any(streams, cx)
            }
            Self::Placed(partitions, streams) => match next(partitions, cx) {
                Some(Ok(partition)) => Some(Taken::Unplaced(Box::new(partition))),
                Some(Err(error)) => Some(Taken::Problem(error)),
                None => take_of_any(streams, cx),
            },
            Self::None => None,
        }
    }
}

fn take_of_any(streams: &mut Vec<PartitionStream>, cx: &mut Context<'_>) -> Option<Taken> {
    for at in 0..streams.len() {
        match Pin::new(&mut streams[at]).poll_next(cx) {
            Poll::Ready(Some(delivery)) => return Some(delivered(delivery)),
            Poll::Ready(None) => {
                let ended = streams.remove(at);
                return Some(Taken::Stream("has no task any more", ended.topic_partition().clone()));
            }
            Poll::Pending => {}
        }
    }
    None
}

fn next<S: Stream + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Option<S::Item> {
    match Pin::new(stream).poll_next(cx) {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    }
}

fn taken<T>(item: Option<Result<T, ConsumeError>>, hand_out: impl FnOnce(T) -> Taken) -> Option<Taken> {
    Some(item?.map_or_else(Taken::Problem, hand_out))
}

fn delivered(delivery: Delivery) -> Taken {
    Taken::Records(vec![seen!(delivery, delivery.attempt())], Some(Work::new(What::Delivery(delivery))))
}

fn all_seen(records: BatchIter<'_>, attempt: u32) -> Vec<Seen> {
    records.map(|record| seen!(record, attempt)).collect()
}

impl Work {
    fn new(what: What) -> Self {
        Self { era: 0, what }
    }

    pub(super) fn of_era(self, era: u64) -> Self {
        Self { era, ..self }
    }

    /// What it holds, as far as it is still to be finished.
    pub(super) fn offsets(&self) -> Vec<(TopicPartition, i64)> {
        match &self.what {
            What::Delivery(delivery) => vec![(delivery.topic_partition().clone(), delivery.offset())],
            What::Batch(batch) => batch.iter().map(|record| (record.topic_partition().clone(), record.offset())).collect(),
            What::Manual(batch) => batch.iter().map(|record| (record.topic_partition().clone(), record.offset())).collect(),
            What::Committing(_) => Vec::new(),
        }
    }

    /// Says whether ottla hands it out again when it is dropped.
    pub(super) fn may_be_dropped(&self) -> bool {
        matches!(self.what, What::Delivery(_) | What::Batch(_))
    }

    /// Finishes it; what is left has to be waited for.
    pub(super) fn finish(self) -> Option<Self> {
        match self.what {
            What::Delivery(delivery) => delivery.ack(),
            What::Batch(batch) => batch.ack(),
            What::Manual(batch) => return Some(Self { era: self.era, what: What::Committing(commit(batch)) }),
            What::Committing(_) => return Some(self),
        }
        None
    }

    /// Looks whether a commit has got its answer; one that may be repeated is.
    pub(super) fn step(self, waker: &Waker) -> (Option<Self>, Option<CommitError>) {
        let Self { era, what: What::Committing(mut commit) } = self else { return (Some(self), None) };
        match commit.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => (Some(Self { era, what: What::Committing(commit) }), None),
            Poll::Ready((_, Ok(()))) => (None, None),
            Poll::Ready((_, Err(error @ (CommitError::NotAssigned { .. } | CommitError::NoGroup { .. })))) => (None, Some(error)),
            Poll::Ready((batch, Err(error))) => (Some(Self { era, what: What::Manual(batch) }), Some(error)),
        }
    }
}

fn commit(batch: ManualBatch) -> Commit {
    Box::pin(async move {
        let result = batch.commit().await;
        (batch, result)
    })
}

/// When a piece of work is done.
pub(super) fn done_at(now: Instant, habits: &Habits, chance: u64) -> Instant {
    if !habits.is_uneven || habits.work.is_zero() {
        return now + habits.work;
    }
    now + Duration::from_micros(chance % (2 * habits.work.as_micros() as u64 + 1))
}
