//! What a consumer group promises, judged from what it did, whoever tells.
//!
//! A [`Contract`] judges one group. It is fed with [`Event`]s: what is in the log, what each member was assigned, handed out and finished,
//! and what the broker stored. It answers with [`Violation`]s, each with the name of its [`Checker`]; [`Contract::finish`] asks at the
//! end for what should have happened and did not.
//!
//! The judge is made for two courts. In a simulation everything is seen in the order in which it happens, what brokers store included. On
//! a real cluster the truth about the log comes late, committed offsets are read now and then, and a member's word may arrive after it
//! was killed: so a fact about the log may come before or after what the members did with it, and a member is judged by what it had been
//! told itself. Where a history could be legal, nothing is said:
//!
//! * A member that was stopped and wakes after its session may hand out what it had, until it hears of the loss. Meanwhile others may
//!   hold its partitions, in a later generation.
//! * A commit counts whenever the broker stores it, also after its sender has lost the partition, or died.
//! * Acks count for ever, also those of records that were read again after a seek.
//! * What was cut off a log, or was in a topic that was made anew, may still be in somebody's buffer: its offsets may come twice.
//!
//! An event has a text form of one line, for members that are processes, and to replay what they said.

#![forbid(unsafe_code)]

mod contract;
mod event;
mod ledger;
mod ranges;
#[cfg(test)]
mod tests;
mod violation;

pub use contract::{Contract, Mode};
pub use event::{Event, Member, ParseError, Partition};
pub use violation::{Checker, Violation};
