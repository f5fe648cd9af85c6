//! A consumer's streams, with the bench where the driver and the core would be.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::sync::mpsc;

use super::{Answer, at, handle, start};
use crate::{
    consumer::{AtLeastOnce, AtMostOnce, Batches, Consumer, Undriven},
    proto::message::{Command, Event, Watermarks},
    records::Chunk,
};

/// How records are handed out.
#[derive(Debug)]
#[expect(missing_docs, reason = "they are names")]
pub enum Streams {
    AtLeastOnce,
    Batches,
    AtMostOnce,
}

/// A stream that has one partition, and gets one answer again and again.
///
/// Nothing is left out between the driver's hand and the user's: the inbox, the feed, the fence and what is urgent, the run, the ack, the
/// watermark when the commit interval is over.
pub struct Stream {
    kind: Kind,
    chunk: Chunk,
    on_event: Box<dyn Fn(Event)>,
    commands: mpsc::UnboundedReceiver<Command>,
}

enum Kind {
    AtLeastOnce(AtLeastOnce),
    Batches(Batches),
    AtMostOnce(AtMostOnce),
}

impl Stream {
    /// Makes a stream, and assigns it the partition.
    pub fn new(answer: &Answer, streams: &Streams) -> Self {
        let builder = Consumer::builder("bench", ["localhost:9092"]).subscribe(["bench"]).verify_crc(answer.verify_crc());
        let Undriven { core, consumer, handle: of_consumer, commands, on_event } = builder.undriven(start(), 1);
        drop((core, of_consumer));
        let kind = match streams {
            Streams::AtLeastOnce => Kind::AtLeastOnce(consumer.at_least_once()),
            Streams::Batches => Kind::Batches(consumer.batches()),
            Streams::AtMostOnce => Kind::AtMostOnce(consumer.at_most_once()),
        };
        on_event(Event::Assigned { generation: 1, member_id: "m".into(), handles: vec![handle(0)] });
        on_event(Event::Started { handle: handle(0), position: at(0), committed: None });
        Self { kind, chunk: answer.chunk(), on_event, commands }
    }

    /// Takes the answer in, reads all of it, key and value of every record, acks it, and says how far everything is finished.
    pub fn read_all(&mut self) -> usize {
        let mut read = 0;
        let chunk = self.chunk.clone();
        let watermarks = Watermarks { high: chunk.next_offset, last_stable: chunk.next_offset };
        (self.on_event)(Event::Chunk { handle: handle(0), chunk, watermarks });
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            read += self.kind.read_ready(cx);
            if !self.commit() {
                break;
            }
        }
        (self.on_event)(Event::ReadProgress);
        self.commit();
        read
    }

    /// Answers what is asked of the core; whether something was committed that the stream waits for.
    fn commit(&mut self) -> bool {
        let mut released = false;
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Release { positions } = command {
                for (handle, position) in positions {
                    (self.on_event)(Event::Committed { handle, position });
                }
                released = true;
            }
        }
        released
    }
}

impl Kind {
    /// Reads until there is nothing more to read now.
    fn read_ready(&mut self, cx: &mut Context<'_>) -> usize {
        use futures_core::Stream;

        let mut read = 0;
        match self {
            Self::AtLeastOnce(stream) => {
                while let Poll::Ready(Some(delivery)) = Pin::new(&mut *stream).poll_next(cx) {
                    let delivery = delivery.expect("good records");
                    read += len(delivery.key()) + len(delivery.value());
                    delivery.ack();
                }
            }
            Self::Batches(stream) => {
                while let Poll::Ready(Some(batch)) = Pin::new(&mut *stream).poll_next(cx) {
                    let batch = batch.expect("good records");
                    for record in &batch {
                        read += len(record.key()) + len(record.value());
                    }
                    batch.ack();
                }
            }
            Self::AtMostOnce(stream) => {
                while let Poll::Ready(Some(record)) = Pin::new(&mut *stream).poll_next(cx) {
                    let record = record.expect("good records");
                    read += len(record.key()) + len(record.value());
                }
            }
        }
        read
    }
}

fn len(field: Option<&[u8]>) -> usize {
    field.map_or(0, <[u8]>::len)
}
