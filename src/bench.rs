//! The hot path, opened to `benches/`; not part of the API.
//!
//! | | what is measured |
//! |---|---|
//! | [`Answer`] | what one Fetch answer holds of one partition: made here, and decoded |
//! | [`Stream`] | a consumer's stream with the bench in the driver's place: takes answers, hands out records, takes acks |
//! | [`Acks`] | deliveries that are out, and the watermark |
//! | [`Planner`] | who is asked for what |
//! | [`Commits`] | a tick of the commit interval |

mod acks;
mod answer;
mod commits;
mod planner;
mod stream;

pub use acks::Acks;
pub use answer::{Answer, Compression, Shape};
pub use commits::Commits;
pub use planner::Planner;
pub use stream::{Stream, Streams};

use std::{sync::Arc, time::Instant};

use crate::{
    assignor::{self, Assignment, GroupView, MemberView},
    model::{Offset, Position, TopicPartition},
    proto::PartitionHandle,
};

/// Makes a group in which all members subscribe to all topics.
pub fn group(members: usize, topics: usize, partitions: i32) -> GroupView {
    let topics: Vec<Arc<str>> = (0..topics).map(|topic| format!("topic-{topic:05}").into()).collect();
    let member = MemberView { topics: topics.clone(), ..MemberView::default() };
    GroupView {
        members: (0..members).map(|n| (format!("ottla-4c1f-{n:05}").into(), member.clone())).collect(),
        partition_counts: topics.into_iter().map(|topic| (topic, partitions)).collect(),
        ..GroupView::default()
    }
}

/// What a group's leader asks of every assignment before it is given out; returns whether it is good.
pub fn check_assignment(group: &GroupView, assignment: &Assignment) -> bool {
    assignor::check(group, assignment).is_ok()
}

fn handle(partition: i32) -> PartitionHandle {
    PartitionHandle { partition: TopicPartition::new("bench", partition), assignment: 1 }
}

fn at(offset: i64) -> Position {
    Position { offset: Offset(offset), leader_epoch: None }
}

#[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
fn start() -> Instant {
    Instant::now()
}
