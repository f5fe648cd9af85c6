//! What a member says, in the order in which it happens.
//!
//! A record is taken from its stream, and told of, in one step, under a lock: the group's events of before are told before it, those of
//! after after it, also where the consumer works on another thread.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    io::Write,
    pin::Pin,
    sync::{Mutex, MutexGuard},
    task::{Context, Poll},
};

use delivery_contract::{Event, Member, Partition};
use futures_core::Stream;
use ottla::{Events, GroupEvent, TopicPartition};

use crate::stage::Clock;

pub(crate) struct Voice(Mutex<Telling>);

pub(crate) struct Telling {
    member: Member,
    clock: Clock,
    events: Option<Events>,
    owned: BTreeSet<Partition>,
    lines: String,
}

impl Voice {
    pub(crate) fn new(member: Member, clock: Clock) -> Self {
        Self(Mutex::new(Telling { member, clock, events: None, owned: BTreeSet::new(), lines: String::new() }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Telling> {
        self.0.lock().expect("nothing panics while it tells something")
    }

    /// Listens to the group. What it already holds then has no generation that could be known.
    pub(crate) fn listen(&self, events: Events, assignment: &[TopicPartition]) {
        let mut telling = self.lock();
        telling.events = Some(events);
        if !assignment.is_empty() {
            let generation = -1 - telling.member.0 as i32;
            telling.assigned(generation, assignment);
            telling.flush();
        }
    }

    /// Waits for the next of a stream; `tell` is asked to tell of it at once, if it is a record of that partition.
    pub(crate) async fn take<S: Stream + Unpin>(
        &self,
        stream: &mut S,
        partition: impl Fn(&S::Item) -> Option<Partition>,
        tell: impl Fn(&mut Telling, &S::Item),
    ) -> Option<S::Item> {
        poll_fn(|cx| {
            let mut telling = self.lock();
            telling.hear(cx);
            let next = Pin::new(&mut *stream).poll_next(cx);
            if let Poll::Ready(Some(item)) = &next
                && let Some(partition) = partition(item)
            {
                // It was assigned while the stream was looked at, on another thread.
                if !telling.owned.contains(&partition) {
                    telling.hear(cx);
                }
                tell(&mut telling, item);
                telling.flush();
            }
            next
        })
        .await
    }

    /// Tells of the group's events until there are no more.
    pub(crate) async fn listen_on(&self) {
        poll_fn(|cx| {
            let mut telling = self.lock();
            telling.hear(cx);
            if telling.events.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(crate) fn say(&self, event: &Event) {
        let mut telling = self.lock();
        telling.tell(event);
        telling.flush();
    }

    /// Tells that records are finished, all in one piece.
    pub(crate) fn acked(&self, partition: &Partition, offsets: impl IntoIterator<Item = i64>) {
        let mut telling = self.lock();
        let member = telling.member;
        for offset in offsets {
            telling.tell(&Event::Acked { member, partition: partition.clone(), offset });
        }
        telling.flush();
    }

    /// Says something for the reader, which nobody judges.
    pub(crate) fn remark(&self, what: &str) {
        let mut telling = self.lock();
        telling.line(format_args!("# {}", what.replace('\n', " ")));
        telling.flush();
    }
}

impl Telling {
    pub(crate) fn member(&self) -> Member {
        self.member
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        self.line(format_args!("{event}"));
    }

    /// A record, with the number that stands in its value.
    pub(crate) fn handed_out(&mut self, partition: &Partition, offset: i64, attempt: u32, value: Option<&[u8]>) {
        let number = value.and_then(|value| number_of(partition, value)).unwrap_or(u64::MAX);
        let (member, partition) = (self.member, partition.clone());
        self.line(format_args!("{} #{number}", Event::HandedOut { member, partition, offset, attempt }));
    }

    /// Writes what was told, in one piece.
    fn flush(&mut self) {
        // The operator is gone: nobody listens any more.
        if std::io::stdout().lock().write_all(self.lines.as_bytes()).is_err() {
            std::process::exit(0);
        }
        self.lines.clear();
    }

    fn line(&mut self, what: std::fmt::Arguments<'_>) {
        self.lines.push_str(&format!("{} {what}\n", self.clock.now().as_micros()));
    }

    fn hear(&mut self, cx: &mut Context<'_>) {
        while let Some(events) = &mut self.events {
            match Pin::new(events).poll_next(cx) {
                Poll::Ready(Some(event)) => self.heard(event),
                Poll::Ready(None) => self.events = None,
                Poll::Pending => break,
            }
        }
        if !self.lines.is_empty() {
            self.flush();
        }
    }

    fn heard(&mut self, event: GroupEvent) {
        let member = self.member;
        match event {
            GroupEvent::Assigned { generation, partitions, .. } => self.assigned(generation, &partitions),
            GroupEvent::Revoked { partitions } => {
                for partition in partitions.iter().map(named) {
                    self.owned.remove(&partition);
                    self.tell(&Event::Released { member, partition });
                }
            }
            GroupEvent::Lost { partitions, why } => {
                self.line(format_args!("# lost: {why}"));
                for partition in partitions.iter().map(named) {
                    self.owned.remove(&partition);
                    self.tell(&Event::Lost { member, partition });
                }
            }
            other => self.line(format_args!("# {other:?}")),
        }
    }

    fn assigned(&mut self, generation: i32, partitions: &[TopicPartition]) {
        // A cooperative member holds the rest on.
        self.owned.extend(partitions.iter().map(named));
        let partitions = self.owned.iter().cloned().collect();
        self.tell(&Event::Assigned { member: self.member, generation, partitions });
    }
}

pub(crate) fn named(partition: &TopicPartition) -> Partition {
    Partition::new(partition.topic(), partition.partition())
}

/// The number of a record, as `kafka_harness::value` writes it: `TOPIC-PARTITION-NUMBER....`.
fn number_of(partition: &Partition, value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let number = text.strip_prefix(&*partition.topic)?.strip_prefix(&format!("-{}-", partition.number))?;
    number.trim_end_matches('.').parse().ok()
}
