//! What happens each time the commit interval is over, with the bench in the coordinator's place.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{at, handle, start};
use crate::{
    consumer::{AtLeastOnce, Consumer, Undriven},
    model::Generation,
    proto::{
        Membership, Owner,
        message::{Command, Event},
        offsets::{Committer, CommitterConfig},
    },
    wire::{ErrorCode, Request, Response},
};

const INTERVAL: Duration = Duration::from_secs(5);

/// A member that has partitions, in every one of which something is finished between two ticks.
pub struct Commits {
    /// It lives as long as its member.
    _stream: AtLeastOnce,
    on_event: Box<dyn Fn(Event)>,
    commands: mpsc::UnboundedReceiver<Command>,
    committer: Committer,
    member: Membership,
    now: Instant,
    finished: i64,
}

impl Commits {
    /// Assigns so many partitions.
    pub fn new(partitions: i32) -> Self {
        let builder = Consumer::builder("bench", ["localhost:9092"]).subscribe(["bench"]);
        let now = start();
        let Undriven { core, consumer, handle: of_consumer, commands, on_event } = builder.undriven(now, 1);
        drop((core, of_consumer));
        let stream = consumer.at_least_once();
        let mut committer = Committer::new(CommitterConfig {
            group: Some("bench".into()),
            instance_id: None,
            interval: INTERVAL,
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 7,
        });
        on_event(Event::Assigned { generation: 1, member_id: "m".into(), handles: (0..partitions).map(handle).collect() });
        for n in 0..partitions {
            on_event(Event::Started { handle: handle(n), position: at(0), committed: None });
            committer.assign(now, &handle(n), at(0), None);
        }
        let member = Membership { member_id: "m".into(), generation: Generation(1) };
        Self { _stream: stream, on_event, commands, committer, member, now, finished: 0 }
    }

    /// Reads how far every partition is finished, commits it, and takes the answer. Returns how many partitions were committed.
    pub fn tick(&mut self) -> usize {
        self.now += INTERVAL;
        self.committer.handle_timeout(self.now);
        assert!(self.committer.wants_progress(self.now));
        (self.on_event)(Event::ReadProgress);
        self.finished += 1;
        while let Ok(command) = self.commands.try_recv() {
            let Command::Progress(progress) = command else { continue };
            for partition in progress.partitions {
                let finished = partition.finished.offset.0 + self.finished;
                self.committer.handle_finished(self.now, &partition.handle, at(finished));
            }
        }
        let ask = self.committer.poll_ask(self.now, &self.member, true).expect("something is finished");
        let (Owner::Committer(call), Request::OffsetCommit(request)) = (ask.owner, ask.request) else { return 0 };
        let codes: Vec<_> = request.partitions.into_iter().map(|asked| (asked.partition, ErrorCode::NONE)).collect();
        let committed = codes.len();
        self.committer.handle_answer(self.now, call, Ok(Response::OffsetCommit(codes)));
        while self.committer.poll_event().is_some() {}
        committed
    }
}
