//! What can be told about a group, and how it looks as a line of text.

use std::{fmt, str::FromStr, sync::Arc};

/// A partition of a topic. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
}

impl Partition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

/// A member of the group: one life of one process. Who comes back after a crash is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(pub u32);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The log holds a record that a consumer is to see. May be told late, but not before a transaction is committed.
    Visible {
        /// Where.
        partition: Partition,
        /// The record's offset.
        offset: i64,
    },
    /// The log holds something that no consumer is to see: a record of an aborted transaction, say. May be told late.
    Invisible {
        /// Where.
        partition: Partition,
        /// Its offset.
        offset: i64,
    },
    /// Compaction took a record away: it need not be seen any more, and may have been.
    Compacted {
        /// Where.
        partition: Partition,
        /// The record's offset.
        offset: i64,
    },
    /// Retention, or somebody, deleted all records before an offset.
    LogStarts {
        /// Where.
        partition: Partition,
        /// The first offset that there still may be.
        offset: i64,
    },
    /// The log lost its end: what is written there from now on is something else.
    Truncated {
        /// Where.
        partition: Partition,
        /// Where the log ends now.
        end: i64,
    },
    /// The topic was deleted and made anew.
    Remade {
        /// Which partition begins anew, at offset 0.
        partition: Partition,
    },
    /// A member learnt what it holds: all of it. What it held and is not named is released by that.
    Assigned {
        /// Who.
        member: Member,
        /// The group's generation. One that changes its protocol while it is empty counts from the beginning again: whoever tells must keep
        /// those apart.
        generation: i32,
        /// Everything that the member holds.
        partitions: Vec<Partition>,
    },
    /// A member begins to give a partition up: from now on it hands out nothing of it.
    Revoking {
        /// Who.
        member: Member,
        /// What.
        partition: Partition,
    },
    /// A member has given a partition up.
    Released {
        /// Who.
        member: Member,
        /// What.
        partition: Partition,
    },
    /// A member learnt that a partition is not its own any more.
    Lost {
        /// Who.
        member: Member,
        /// What.
        partition: Partition,
    },
    /// A member ended, in whatever way: nothing comes of it any more.
    Gone {
        /// Who.
        member: Member,
    },
    /// A member was stopped, as by SIGSTOP. For the reader of the story: it excuses nothing, since a member is judged by what it knows.
    Stalled {
        /// Who.
        member: Member,
    },
    /// A stopped member goes on.
    Woke {
        /// Who.
        member: Member,
    },
    /// A program was given a record.
    HandedOut {
        /// By whom.
        member: Member,
        /// From where.
        partition: Partition,
        /// The record's offset.
        offset: i64,
        /// 1, and one more whenever this member drops the record without an ack.
        attempt: u32,
    },
    /// A program has finished a record. To be told before anybody can commit it: before the ack.
    Acked {
        /// Who.
        member: Member,
        /// Where.
        partition: Partition,
        /// The record's offset.
        offset: i64,
    },
    /// A member heard the broker say yes to a commit.
    CommitAcknowledged {
        /// Who.
        member: Member,
        /// Where.
        partition: Partition,
        /// The committed offset: that of the next record to read.
        offset: i64,
    },
    /// The broker stored a commit.
    CommitStored {
        /// Who sent it.
        member: Member,
        /// Where.
        partition: Partition,
        /// The committed offset.
        offset: i64,
    },
    /// Somebody asks for the committed offsets: what was handed out before this, at most once, must be below what he is told.
    CommitsAsked,
    /// The committed offset as somebody read it, which he had asked for at the last [`CommitsAsked`](Self::CommitsAsked).
    CommitRead {
        /// Where.
        partition: Partition,
        /// The committed offset.
        offset: i64,
        /// Whether it is surely the newest. A broker that was stopped and goes on may for a moment tell of old times: it is then judged
        /// only for being too high.
        fresh: bool,
    },
    /// A member reads from elsewhere from now on: by the program's seek, by the reset policy, or as its stream was made anew.
    Sought {
        /// Who.
        member: Member,
        /// Where.
        partition: Partition,
        /// The offset, if it is known: what lies before it need not be finished by anybody. `None` when reading begins anew at what is
        /// committed, or was not acknowledged.
        to: Option<i64>,
    },
    /// A member knows the leader epoch of its position, by what it read there or because it was told: from now on it can see that the log is
    /// cut below. Need not be told where no log is cut.
    Anchored {
        /// Who.
        member: Member,
        /// Where.
        partition: Partition,
    },
}

/// A line that tells of no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no event: {:?}", self.0)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for Event {
    /// Writes a word and what belongs to it, between blanks: `handed-out 3 orders/0 17 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Visible { partition, offset } => write!(f, "visible {partition} {offset}"),
            Self::Invisible { partition, offset } => write!(f, "invisible {partition} {offset}"),
            Self::Compacted { partition, offset } => write!(f, "compacted {partition} {offset}"),
            Self::LogStarts { partition, offset } => write!(f, "log-starts {partition} {offset}"),
            Self::Truncated { partition, end } => write!(f, "truncated {partition} {end}"),
            Self::Remade { partition } => write!(f, "remade {partition}"),
            Self::Assigned { member, generation, partitions } => {
                write!(f, "assigned {member} {generation}")?;
                partitions.iter().try_for_each(|partition| write!(f, " {partition}"))
            }
            Self::Revoking { member, partition } => write!(f, "revoking {member} {partition}"),
            Self::Released { member, partition } => write!(f, "released {member} {partition}"),
            Self::Lost { member, partition } => write!(f, "lost {member} {partition}"),
            Self::Gone { member } => write!(f, "gone {member}"),
            Self::Stalled { member } => write!(f, "stalled {member}"),
            Self::Woke { member } => write!(f, "woke {member}"),
            Self::HandedOut { member, partition, offset, attempt } => {
                write!(f, "handed-out {member} {partition} {offset} {attempt}")
            }
            Self::Acked { member, partition, offset } => write!(f, "acked {member} {partition} {offset}"),
            Self::CommitAcknowledged { member, partition, offset } => {
                write!(f, "commit-acknowledged {member} {partition} {offset}")
            }
            Self::CommitStored { member, partition, offset } => write!(f, "commit-stored {member} {partition} {offset}"),
            Self::CommitsAsked => f.write_str("commits-asked"),
            Self::CommitRead { partition, offset, fresh: true } => write!(f, "commit-read {partition} {offset} fresh"),
            Self::CommitRead { partition, offset, fresh: false } => write!(f, "commit-read {partition} {offset} perhaps-old"),
            Self::Sought { member, partition, to: Some(to) } => write!(f, "sought {member} {partition} {to}"),
            Self::Sought { member, partition, to: None } => write!(f, "sought {member} {partition} anew"),
            Self::Anchored { member, partition } => write!(f, "anchored {member} {partition}"),
        }
    }
}

impl FromStr for Event {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let mut words = Words { line, words: line.split(' ') };
        let event = match words.word()? {
            "visible" => Self::Visible { partition: words.next()?, offset: words.next()? },
            "invisible" => Self::Invisible { partition: words.next()?, offset: words.next()? },
            "compacted" => Self::Compacted { partition: words.next()?, offset: words.next()? },
            "log-starts" => Self::LogStarts { partition: words.next()?, offset: words.next()? },
            "truncated" => Self::Truncated { partition: words.next()?, end: words.next()? },
            "remade" => Self::Remade { partition: words.next()? },
            "assigned" => Self::Assigned { member: words.next()?, generation: words.next()?, partitions: words.rest()? },
            "revoking" => Self::Revoking { member: words.next()?, partition: words.next()? },
            "released" => Self::Released { member: words.next()?, partition: words.next()? },
            "lost" => Self::Lost { member: words.next()?, partition: words.next()? },
            "gone" => Self::Gone { member: words.next()? },
            "stalled" => Self::Stalled { member: words.next()? },
            "woke" => Self::Woke { member: words.next()? },
            "handed-out" => {
                Self::HandedOut { member: words.next()?, partition: words.next()?, offset: words.next()?, attempt: words.next()? }
            }
            "acked" => Self::Acked { member: words.next()?, partition: words.next()?, offset: words.next()? },
            "commit-acknowledged" => {
                Self::CommitAcknowledged { member: words.next()?, partition: words.next()?, offset: words.next()? }
            }
            "commit-stored" => Self::CommitStored { member: words.next()?, partition: words.next()?, offset: words.next()? },
            "commits-asked" => Self::CommitsAsked,
            "commit-read" => {
                let (partition, offset) = (words.next()?, words.next()?);
                let fresh = match words.word()? {
                    "fresh" => true,
                    "perhaps-old" => false,
                    _ => return Err(words.error()),
                };
                Self::CommitRead { partition, offset, fresh }
            }
            "sought" => {
                let (member, partition) = (words.next()?, words.next()?);
                let to = match words.word()? {
                    "anew" => None,
                    offset => Some(offset.parse().map_err(|_| words.error())?),
                };
                Self::Sought { member, partition, to }
            }
            "anchored" => Self::Anchored { member: words.next()?, partition: words.next()? },
            _ => return Err(words.error()),
        };
        if words.words.next().is_some() { Err(words.error()) } else { Ok(event) }
    }
}

struct Words<'a> {
    line: &'a str,
    words: std::str::Split<'a, char>,
}

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, ParseError> {
        self.words.next().ok_or_else(|| self.error())
    }

    fn next<T: FromStr>(&mut self) -> Result<T, ParseError> {
        self.word()?.parse().map_err(|_| self.error())
    }

    fn rest<T: FromStr>(&mut self) -> Result<Vec<T>, ParseError> {
        let rest: Result<Vec<_>, _> = self.words.by_ref().map(str::parse).collect();
        rest.map_err(|_| self.error())
    }

    fn error(&self) -> ParseError {
        ParseError(self.line.into())
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

impl FromStr for Partition {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = text.split_once('/').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
        let (topic, number) = parts.ok_or_else(|| ParseError(text.into()))?;
        Ok(Self::new(topic, number))
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Member {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(Self).map_err(|_| ParseError(text.into()))
    }
}
