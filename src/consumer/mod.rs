//! What a program holds: the builder, the streams, the records, the handle.
//!
//! The delivery contract is kept here, on the user's side of the core: `acks` knows what is finished, `run` holds what was fetched,
//! `inbox` stands between the driver and the streams.

pub(crate) mod acks;
mod at_least_once;
mod at_most_once;
mod builder;
mod deliveries;
mod delivery;
mod feed;
mod handle;
mod inbox;
mod lane;
mod manual;
mod member;
mod next;
mod partitions;
mod redelivery;
mod release;
pub(crate) mod run;
mod subscription;
mod taken;
mod told;
mod unplaced;

pub use at_least_once::{AtLeastOnce, Batches};
pub use at_most_once::AtMostOnce;
#[cfg(any(fuzzing, test, feature = "__bench"))]
pub(crate) use builder::Undriven;
pub use builder::{ConsumerBuilder, Isolation, OffsetReset};
pub use delivery::{Batch, BatchIter, BatchRecord, Delivery, Record};
pub use handle::{Events, GroupEvent, Handle, Lag, SeekTo, Stats};
pub use manual::{Manual, ManualBatch};
pub use partitions::{PartitionEnd, PartitionStream, Partitions};
pub use subscription::Subscription;
pub use unplaced::{UnplacedPartition, UnplacedPartitions};

use std::sync::Arc;

use builder::reset_policy;
use feed::{Feed, ReadSettings};
use inbox::{Inbox, Mode};
use member::Member;
use subscription::Standing;

use crate::proto::{
    Problem, ProblemKind,
    message::{Command, Event, Start},
};

/// A connected consumer that has not yet joined its group: what is left to say is how records are delivered.
///
/// Made by [`Consumer::builder`], or by [`Consumer::standalone`]. One that is to join no group begins to read where others join theirs.
pub struct Consumer {
    inbox: Arc<Inbox>,
    offset_reset: Option<OffsetReset>,
    settings: ReadSettings,
    member: Member,
}

impl Consumer {
    /// Starts to describe a member of the consumer group `group_id` (Java: `group.id`), which finds its cluster through the
    /// `bootstrap` addresses (Java: `bootstrap.servers`), each `host:port`, or several with commas between them.
    pub fn builder<S: Into<String>>(group_id: impl Into<String>, bootstrap: impl IntoIterator<Item = S>) -> ConsumerBuilder {
        ConsumerBuilder::new(Some(group_id.into()), bootstrap.into_iter().map(Into::into).collect())
    }

    /// Starts to describe a consumer without a group: for caches, tails, tools, and programs that keep their positions themselves. It finds its
    /// cluster through the `bootstrap` addresses (Java: `bootstrap.servers`), each `host:port`, or several with commas between them. Java: no
    /// `group.id`.
    ///
    /// All partitions of the [subscribed](ConsumerBuilder::subscribe) topics are read, also those that are added later, or just those that are
    /// [assigned](ConsumerBuilder::assign); by any number of such consumers, which know nothing of each other. Nothing is committed. Each partition
    /// begins where [`offset_reset`](ConsumerBuilder::offset_reset) says (default: at its first record), whenever it is found, or where the program
    /// says ([`unplaced_partitions`](Self::unplaced_partitions)). With `OffsetReset::Latest`, what is written to a new partition before it is found,
    /// within [`metadata_max_age`](ConsumerBuilder::metadata_max_age), is not read.
    ///
    /// Reading goes on where it was for as long as the consumer lives, also across the time in which a topic cannot be seen. A topic that was deleted
    /// and made anew begins anew, and one that has ceased to match a pattern and matches again.
    ///
    /// An ack only says that a record need not be delivered again. [`close`](AtLeastOnce::close) waits for no ack, since there is nothing to commit; nor
    /// does anything else that takes partitions away. [`at_most_once`](Self::at_most_once) has nothing to stand on, and says so
    /// (`ConsumeErrorKind::NoGroup`); [`ManualBatch::commit`] likewise (`CommitError::NoGroup`). What is for members of groups says nothing, among it
    /// [`processing_timeout`](ConsumerBuilder::processing_timeout): nobody waits to take over. [`commit_interval`](ConsumerBuilder::commit_interval)
    /// still says how often is looked at what was acknowledged.
    pub fn standalone<S: Into<String>>(bootstrap: impl IntoIterator<Item = S>) -> ConsumerBuilder {
        ConsumerBuilder::new(None, bootstrap.into_iter().map(Into::into).collect())
    }

    /// Returns a handle to what this becomes: whoever listens to its [`events`](Handle::events) before the group is joined misses nothing.
    pub fn handle(&self) -> Handle {
        self.member.handle()
    }

    /// Joins the group; records are committed after they were acknowledged. The default choice.
    pub fn at_least_once(self) -> AtLeastOnce {
        let (feed, member) = self.join(Mode::AtLeastOnce);
        AtLeastOnce::new(feed, member)
    }

    /// Joins the group; as [`at_least_once`](Self::at_least_once), with one ack for a whole batch: for those who count nanoseconds.
    pub fn batches(self) -> Batches {
        let (feed, member) = self.join(Mode::AtLeastOnce);
        Batches::new(feed, member)
    }

    /// Joins the group; records are committed before they are handed out.
    pub fn at_most_once(self) -> AtMostOnce {
        let (feed, member) = self.join(Mode::AtMostOnce);
        AtMostOnce::new(feed, member)
    }

    /// Joins the group; the program commits by itself.
    pub fn manual(self) -> Manual {
        let (feed, member) = self.join(Mode::Manual);
        Manual::new(feed, member)
    }

    /// Joins the group; each assigned partition comes as a stream of its own, at least once.
    pub fn partitions(self) -> Partitions {
        self.split(Start::Committed)
    }

    /// Joins the group; as [`partitions`](Self::partitions), but each partition begins where the program says: for state that is to be loaded
    /// first, and for positions in the program's own store.
    ///
    /// Write what a record changes and the offset behind it in one transaction of your store, and only if the store's offset is still where
    /// this stream was: then each record counts exactly once, whatever crashes, and a process that was stopped and has lost its partition
    /// changes nothing. Who fails at a record drops the stream, which comes again from where the store is; a delivery that is dropped alone comes
    /// again behind others. The group's committed offset follows what is acknowledged, as in every mode, for others to see; nothing begins there.
    /// Java: `ConsumerRebalanceListener.onPartitionsAssigned` with `seek`.
    pub fn unplaced_partitions(self) -> UnplacedPartitions {
        UnplacedPartitions::new(self.split(Start::Placed))
    }

    fn join(self, mode: Mode) -> (Feed, Member) {
        self.start(mode, false, Start::Committed);
        (Feed::new(self.inbox, None, self.settings), self.member)
    }

    fn split(self, start: Start) -> Partitions {
        self.start(Mode::AtLeastOnce, true, start);
        Partitions::new(self.inbox, self.settings, self.member)
    }

    fn start(&self, mode: Mode, split: bool, start: Start) {
        let usual = match mode {
            // Going back to the beginning would hand out again what was handed out before.
            Mode::AtMostOnce => OffsetReset::Latest,
            Mode::AtLeastOnce | Mode::Manual => OffsetReset::Earliest,
        };
        let reset = match start {
            Start::Committed => self.offset_reset.unwrap_or(usual),
            // Whoever keeps the positions decides what to do about one that is wrong.
            Start::Placed => OffsetReset::Fail,
        };
        let reset = reset_policy(reset);
        self.inbox.set_mode(mode, split);
        if mode == Mode::AtMostOnce && self.inbox.standing() == Standing::Standalone {
            let what = "at most once, a record is committed before it is handed out, and this consumer was built without a group to commit it for: \
                        name one (`Consumer::builder`, with `assign` to choose the partitions all the same), or choose another mode";
            let (kind, what) = (ProblemKind::NoGroup, what.to_owned());
            return self.inbox.handle(Event::Problem(Problem { kind, partition: None, code: None, what, fatal: true }));
        }
        self.inbox.command(Command::Join { start, reset });
    }
}
