//! Questions about offsets, for those who join no group: where logs begin and end, what groups have committed, how far behind they are.

mod builder;
mod found;

pub use builder::OffsetsBuilder;
pub use found::{CommittedOffset, LagTotal, LogOffset, PartitionLag, PerPartition};

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    error::{OffsetsError, OffsetsErrorKind},
    model::TopicOrPartition,
    proto::{
        offsets::{Outcome, Question},
        onlooker::Command,
    },
    wire::Timestamp,
};

/// By what an answer finds its asker.
type Ticket = oneshot::Sender<Outcome>;

/// Answers questions about offsets, without joining a group: where partitions begin and end, what was written when, what a group has
/// committed and how far behind it is.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ottla::Offsets;
///
/// let offsets = Offsets::builder(["localhost:9092"]).connect().await?;
/// for (partition, end) in offsets.end(["orders"]).await?.all()? {
///     println!("{partition} ends at {}", end.offset);
/// }
/// let lag = offsets.lag("orders-worker").await?;
/// for (partition, lag) in &lag.found {
///     println!("{partition}: {:?} of {}", lag.records(), lag.end.offset);
/// }
/// println!("{} records behind", lag.total().records);
/// # Ok(())
/// # }
/// ```
///
/// Whatever is asked for several partitions goes in one request to each of their leaders. What passes by itself (a leader or a coordinator
/// that moves, a broker that is restarted) is tried again for [`timeout`](OffsetsBuilder::timeout), and whatever has no answer by then, or
/// never will, is an [`OffsetsError`] of its own that says what was waited for: the other partitions' answers are there all the same.
///
/// Questions may be asked at the same time, from several tasks. Every question asks the brokers anew, and no offset is answered from memory;
/// partitions that are added to a topic while other questions about it are under way may be found by the next question only.
/// Dropping it ends its connections and its background task at once.
///
/// # Permissions
///
/// `Describe` on each topic, and on the group for [`committed`](Self::committed) and [`lag`](Self::lag). Of the topics of a group that may
/// not be described, brokers say nothing: they are left out.
///
/// # Cancel safety
///
/// Dropping the future of a question forgets the question; nothing changes at the brokers by any of them.
#[derive(Debug)]
pub struct Offsets {
    commands: mpsc::UnboundedSender<Command<Ticket>>,
    timeout: Duration,
    questions: AtomicU64,
    driver: AbortHandle,
}

impl Offsets {
    /// Starts to describe a client that finds its cluster through the `bootstrap` addresses (Java: `bootstrap.servers`), each
    /// `host:port`, or several with commas between them.
    pub fn builder<S: Into<String>>(bootstrap: impl IntoIterator<Item = S>) -> OffsetsBuilder {
        OffsetsBuilder::new(bootstrap.into_iter().map(Into::into).collect())
    }

    /// Tells the offset of the first record that there still is, or the end where there is none. Java: `beginningOffsets`,
    /// `OffsetSpec.earliest()`.
    ///
    /// # Errors
    ///
    /// An error of its own for each topic and partition without an answer; one for the whole question where nobody can answer it.
    pub async fn beginning<T: Into<TopicOrPartition>>(
        &self,
        of: impl IntoIterator<Item = T>,
    ) -> Result<PerPartition<LogOffset>, OffsetsError> {
        self.list(of, Timestamp::Earliest).await.map(PerPartition::whole)
    }

    /// Tells the offset that comes next: beyond the last record that is replicated, or, with
    /// [`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted), before the first one of a transaction that is still open (the last
    /// stable offset). Java: `endOffsets`, `OffsetSpec.latest()`.
    ///
    /// # Errors
    ///
    /// As for [`beginning`](Self::beginning).
    pub async fn end<T: Into<TopicOrPartition>>(
        &self,
        of: impl IntoIterator<Item = T>,
    ) -> Result<PerPartition<LogOffset>, OffsetsError> {
        self.list(of, Timestamp::Latest).await.map(PerPartition::whole)
    }

    /// Tells the first record whose timestamp is `timestamp_ms` or later, in milliseconds since 1970, with its own timestamp; `None` where
    /// all are older. Java: `offsetsForTimes`, `OffsetSpec.forTimestamp()`.
    ///
    /// Timestamps below 0 count as 0. With [`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted) there is none either where the first
    /// such record lies behind the beginning of a transaction that is still open.
    ///
    /// # Errors
    ///
    /// As for [`beginning`](Self::beginning).
    pub async fn at_time<T: Into<TopicOrPartition>>(
        &self,
        of: impl IntoIterator<Item = T>,
        timestamp_ms: i64,
    ) -> Result<PerPartition<Option<LogOffset>>, OffsetsError> {
        self.list(of, Timestamp::AtMs(timestamp_ms.max(0))).await.map(PerPartition::sought)
    }

    /// Tells the record with the highest timestamp, which need not be the last (KIP-734); `None` where there is no record, or where it lies
    /// behind the beginning of a transaction that is still open, with [`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted). Needs
    /// Kafka 3.0.
    /// Java: `OffsetSpec.maxTimestamp()`.
    ///
    /// # Errors
    ///
    /// As for [`beginning`](Self::beginning); [`OffsetsErrorKind::Incompatible`] by brokers that are too old.
    pub async fn max_timestamp<T: Into<TopicOrPartition>>(
        &self,
        of: impl IntoIterator<Item = T>,
    ) -> Result<PerPartition<Option<LogOffset>>, OffsetsError> {
        self.list(of, Timestamp::Newest).await.map(PerPartition::sought)
    }

    /// Tells what a group has committed, in all topics. It is empty for a group that has committed nothing, or does not exist. Java:
    /// `Admin.listConsumerGroupOffsets`.
    ///
    /// What a transaction is about to commit (KIP-447) counts when it is committed; until then it is what was committed before. A broker of Kafka
    /// 4 that has just taken over a group may, for a moment, know less of it to be replicated than its last coordinator had told.
    ///
    /// # Errors
    ///
    /// An error for the whole question where nobody answers for the group, or will not; one of its own for each partition that has no answer.
    pub async fn committed(&self, group: impl AsRef<str>) -> Result<PerPartition<CommittedOffset>, OffsetsError> {
        self.ask(Question::Committed { group: group.as_ref().into() }).await.map(PerPartition::committed)
    }

    /// Tells how far behind a group is: for every partition of each topic in which it has committed anything, what is committed and
    /// where the partition ends, as [`end`](Self::end) has it. A partition in which it has never committed has no lag that could be told, and says so.
    ///
    /// The commits are read first, the ends after them.
    ///
    /// # Errors
    ///
    /// As for [`committed`](Self::committed).
    pub async fn lag(&self, group: impl AsRef<str>) -> Result<PerPartition<PartitionLag>, OffsetsError> {
        self.ask(Question::Lag { group: group.as_ref().into() }).await.map(PerPartition::lag)
    }

    async fn list<T: Into<TopicOrPartition>>(&self, of: impl IntoIterator<Item = T>, at: Timestamp) -> Outcome {
        self.ask(Question::List { of: of.into_iter().map(Into::into).collect(), at }).await
    }

    async fn ask(&self, question: Question) -> Outcome {
        let (ticket, answer) = oneshot::channel();
        let id = self.questions.fetch_add(1, Ordering::Relaxed);
        let _forgotten = Forgotten { commands: &self.commands, id };
        // If the driver is gone, so is the ticket, which says so.
        let _ = self.commands.send(Command::Ask { id, question, timeout: self.timeout, ticket });
        answer.await.unwrap_or_else(|_| {
            let message =
                "the background task of these offsets has ended: its runtime was shut down, or ottla has a bug (then please \
                           report it, with the panic's message)"
                    .to_owned();
            Err(OffsetsError { kind: OffsetsErrorKind::Internal, topic: None, partition: None, message })
        })
    }
}

impl Drop for Offsets {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Lets a question be forgotten when nobody waits for its answer any more.
struct Forgotten<'a> {
    commands: &'a mpsc::UnboundedSender<Command<Ticket>>,
    id: u64,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        // If the driver is gone, everything is forgotten.
        let _ = self.commands.send(Command::Forget { id: self.id });
    }
}
