//! Fetch sessions (KIP-227): the broker remembers what the waiting line asks for, and both sides say only what is new.
//!
//! ```text
//!   closed ── all is named, epoch 0 ──► answered with an id ──► open, epoch 1, 2, … ── only what changed is named
//!     ▲                                                           │
//!     └── an error, no answer, a partition held anew, an answer that nobody waited for
//! ```
//!
//! A broker leaves out of its answers what is as it said last. So where something it said was not taken in, the session is begun anew:
//! nothing else would make the broker say it again. A broker that has no room answers with no id, and is told everything each time.

use std::collections::BTreeMap;

use crate::{
    model::TopicPartition,
    wire::{FetchPartition, FetchSession, ForgottenPartition},
};

/// What the broker knows of the partitions that one line asks for.
#[derive(Default)]
pub(super) struct Session {
    /// The broker's number for it. Kept beyond its end: the next one then takes its place there.
    id: i32,
    /// What the next request has to say; 0 while there is none.
    pub(super) epoch: i32,
    by_topic_id: bool,
    /// What the first request named, each with its assignment: what is known once there is a second.
    begun_with: Vec<(u64, FetchPartition)>,
    known: BTreeMap<TopicPartition, Known>,
    /// Counts requests.
    requests: u64,
}

struct Known {
    asked: FetchPartition,
    /// Under which assignment it was held when it was named first.
    assignment: u64,
    /// The last request that it belonged to.
    request: u64,
}

impl Session {
    /// Says what has to be said so that the broker reads all of `wanted`, each with its assignment, and nothing else.
    pub(super) fn ask(&mut self, wanted: Vec<(u64, FetchPartition)>, by_topic_id: bool) -> (FetchSession, Vec<FetchPartition>) {
        if by_topic_id == self.by_topic_id
            && let Some(news) = self.news(&wanted)
        {
            return news;
        }
        self.end();
        self.by_topic_id = by_topic_id;
        self.known.clear();
        self.begun_with.clone_from(&wanted);
        let named = wanted.into_iter().map(|(_, asked)| asked).collect();
        (FetchSession { id: self.id, epoch: self.epoch, forgotten: Vec::new() }, named)
    }

    /// Says what is new in the session, if it can go on.
    fn news(&mut self, wanted: &[(u64, FetchPartition)]) -> Option<(FetchSession, Vec<FetchPartition>)> {
        if !self.is_open() {
            return None;
        }
        self.requests += 1;
        let known =
            |(assignment, asked): (u64, FetchPartition)| (asked.partition.clone(), Known { asked, assignment, request: 0 });
        self.known.extend(std::mem::take(&mut self.begun_with).into_iter().map(known));
        let (mut named, mut forgotten) = (Vec::new(), Vec::new());
        for (assignment, asked) in wanted {
            match self.known.get_mut(&asked.partition) {
                // Who holds a partition anew has to hear of its log's ends anew.
                Some(known) if known.assignment != *assignment => return None,
                Some(known) if known.asked == *asked => known.request = self.requests,
                known => {
                    // To the broker, another topic of the same name has other partitions.
                    forgotten.extend(known.filter(|known| known.asked.topic_id != asked.topic_id).map(|known| known.forgotten()));
                    let known = Known { asked: asked.clone(), assignment: *assignment, request: self.requests };
                    self.known.insert(asked.partition.clone(), known);
                    named.push(asked.clone());
                }
            }
        }
        self.known.retain(|_, known| {
            let is_wanted = known.request == self.requests;
            if !is_wanted {
                forgotten.push(known.forgotten());
            }
            is_wanted || planted!(KeepForgotten)
        });
        Some((FetchSession { id: self.id, epoch: self.epoch, forgotten }, named))
    }

    /// The broker took the request in, and says which session its answer belongs to; 0 for none.
    pub(super) fn handle_accepted(&mut self, id: i32) {
        if !self.is_open() {
            self.id = id;
            self.epoch = i32::from(id != 0);
        } else if id == self.id {
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        } else {
            self.end();
        }
    }

    /// The broker may not know any more, or not say again, what it should: the next request says everything.
    pub(super) fn end(&mut self) {
        self.epoch = 0;
    }

    /// Whether the next request says only what is new.
    pub(super) fn is_open(&self) -> bool {
        self.epoch != 0
    }
}

impl Known {
    fn forgotten(&self) -> ForgottenPartition {
        ForgottenPartition { partition: self.asked.partition.clone(), topic_id: self.asked.topic_id }
    }
}
