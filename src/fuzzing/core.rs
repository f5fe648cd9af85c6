//! A whole consumer, the core and its user, and whatever a broker may answer it.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_core::Stream;

use crate::{
    consumer::{AtLeastOnce, Consumer, Handle, SeekTo, Undriven},
    model::GroupProtocol,
    proto::{
        ConnId, Disconnect,
        consumer::Consumer as Core,
        message::{Command, Event, Input, Output},
    },
};

/// How much a consumer may do without anything happening to it.
const STEPS_MAX: usize = 10_000;
/// How many requests a consumer of one topic and a few partitions may send: at all, for each thing that happens to it, and for each second.
const REQUESTS_MAX: (usize, usize, usize) = (50, 10, 40);
/// Where the broker of the recorded sessions said that it is.
const BOOTSTRAP: &str = "127.0.0.1:32001";
/// How many answers wait for their requests.
const EARLY_MAX: usize = 32;
/// An hour of trouble is enough.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// What happens, one after the other. Each begins with its kind, a byte.
mod kind {
    /// An API (a byte), a length (two bytes), a body: the oldest request of that API is answered with it, as soon as there is one.
    pub(super) const ANSWER: u8 = 0;
    /// Milliseconds (two bytes): the time passes.
    pub(super) const PASS: u8 = 1;
    /// A connection (a byte; counted from the oldest), a length (two bytes), bytes: it brings this frame, whatever was asked.
    pub(super) const FRAME: u8 = 2;
    /// A connection (a byte): it ends.
    pub(super) const END: u8 = 3;
    /// A number (a byte): so many of the next attempts to connect fail.
    pub(super) const REFUSE: u8 = 4;
    /// Whether (a byte): the user takes and acknowledges what comes.
    pub(super) const TAKE: u8 = 5;
    /// A partition of what is assigned (a byte), an offset (two bytes): the user seeks.
    pub(super) const SEEK: u8 = 6;
    /// The user closes, within five seconds.
    pub(super) const CLOSE: u8 = 7;
}

/// Plays what an input says; see [`kind`]. Whatever else it says ends it.
pub(super) fn feed(input: &[u8]) {
    play(input);
}

fn play(input: &[u8]) -> Life {
    let mut life = Life::begin();
    let mut rest = input;
    while let Some(()) = life.happen(&mut rest) {
        life.happened += 1;
        life.settle();
        // Whatever numbers came, what is told of them can be told.
        assert!(life.handle.lag().iter().all(|lag| lag.records() >= Some(0) || lag.end.is_none()));
        life.handle.stats();
    }
    life
}

struct Life {
    start: Instant,
    now: Instant,
    core: Core,
    records: Option<AtLeastOnce>,
    handle: Handle,
    commands: tokio::sync::mpsc::UnboundedReceiver<Command>,
    on_event: Box<dyn Fn(Event)>,
    deadline: Option<Instant>,
    /// What each connection has not answered: API and correlation id.
    asked: BTreeMap<ConnId, VecDeque<(i16, i32)>>,
    /// Answers that nobody has asked for yet, each with its API.
    early: VecDeque<(i16, Bytes)>,
    refusals: u8,
    takes: bool,
    happened: usize,
    requests: usize,
    delivered: usize,
}

impl Life {
    fn begin() -> Self {
        #[expect(clippy::disallowed_methods, reason = "some moment to begin with: only differences are looked at")]
        let start = Instant::now();
        let builder = Consumer::builder("workers", [BOOTSTRAP]).subscribe(["orders"]);
        // As the sessions were recorded.
        let builder = builder.group_protocol(GroupProtocol::Classic);
        let Undriven { core, consumer, handle, commands, on_event } =
            builder.decompressed_batch_bytes_max(64 << 10).undriven(start, 7);
        let mut life = Self {
            start,
            now: start,
            core,
            records: Some(consumer.at_least_once()),
            handle,
            commands,
            on_event,
            deadline: None,
            asked: BTreeMap::new(),
            early: VecDeque::new(),
            refusals: 0,
            takes: true,
            happened: 0,
            requests: 0,
            delivered: 0,
        };
        life.settle();
        life
    }

    /// Lets the next thing happen; `None` when there is none.
    fn happen(&mut self, rest: &mut &[u8]) -> Option<()> {
        match rest.try_get_u8().ok()? {
            kind::ANSWER => {
                let api = i16::from(rest.try_get_u8().ok()?);
                self.early.push_back((api, Bytes::copy_from_slice(sized(rest)?)));
                if self.early.len() > EARLY_MAX {
                    self.early.pop_front();
                }
            }
            kind::PASS => self.pass(Duration::from_millis(rest.try_get_u16().ok()?.into())),
            kind::FRAME => {
                let conn = self.connection(rest.try_get_u8().ok()?);
                let bytes = sized(rest)?;
                if let Some(conn) = conn {
                    self.core.handle(self.now, Input::Frame(conn, Bytes::copy_from_slice(bytes)));
                }
            }
            kind::END => {
                if let Some(conn) = self.connection(rest.try_get_u8().ok()?) {
                    self.asked.remove(&conn);
                    self.core.handle(self.now, Input::Disconnected(conn, Disconnect::Closed("reset".to_owned())));
                }
            }
            kind::REFUSE => self.refusals = rest.try_get_u8().ok()?,
            kind::TAKE => self.takes = rest.try_get_u8().ok()? != 0,
            kind::SEEK => {
                let (number, offset) = (rest.try_get_u8().ok()?, rest.try_get_u16().ok()?);
                if let Some(partition) = self.handle.assignment().get(usize::from(number)) {
                    self.handle.seek(partition, SeekTo::Offset(offset.into()));
                }
            }
            kind::CLOSE => self.handle.shutdown(Duration::from_secs(5)),
            _ => return None,
        }
        Some(())
    }

    fn connection(&self, number: u8) -> Option<ConnId> {
        self.asked.keys().copied().nth(number.into())
    }

    /// Lets time pass, stopping wherever the core asked for it.
    fn pass(&mut self, time: Duration) {
        let end = (self.now + time).min(self.start + TIME_MAX);
        let mut stops = 0;
        while let Some(at) = self.deadline.filter(|at| *at <= end) {
            // A moment may be stopped at more than once, if it is for different reasons.
            stops = if at > self.now { 0 } else { stops + 1 };
            assert!(stops < 100, "a deadline that stays in the past");
            self.now = self.now.max(at);
            self.core.handle(self.now, Input::Tick);
            self.settle();
        }
        self.now = end;
        self.core.handle(self.now, Input::Tick);
    }

    /// Lets the consumer and its user do all that they can now.
    fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            match self.core.poll(self.now) {
                Output::Connect(conn, _) if self.refusals > 0 => {
                    self.refusals -= 1;
                    self.core.handle(self.now, Input::Disconnected(conn, Disconnect::Unreachable("refused".to_owned())));
                }
                Output::Connect(conn, _) => {
                    self.asked.insert(conn, VecDeque::new());
                    self.core.handle(self.now, Input::Connected(conn));
                }
                Output::Transmit(conn, frame) => self.transmit(conn, &frame),
                Output::Disconnect(conn) => drop(self.asked.remove(&conn)),
                Output::FetchToken => unreachable!("this consumer has no tokens"),
                Output::Event(event) => (self.on_event)(event),
                Output::Wait(deadline) => {
                    self.deadline = deadline.map(|(at, _)| at);
                    if let Ok(command) = self.commands.try_recv() {
                        self.core.handle(self.now, Input::Command(command));
                    } else if !self.answer() && !self.take() {
                        return;
                    }
                }
            }
        }
        panic!("a busy loop");
    }

    fn transmit(&mut self, conn: ConnId, mut frame: &[u8]) {
        let (length, api, _, correlation_id) = (frame.get_i32(), frame.get_i16(), frame.get_i16(), frame.get_i32());
        assert_eq!(length as usize, frame.len() + 8);
        if let Some(asked) = self.asked.get_mut(&conn) {
            asked.push_back((api, correlation_id));
        }
        self.requests += 1;
        let (at_all, for_each, a_second) = REQUESTS_MAX;
        let seconds = (self.now - self.start).as_secs() as usize;
        assert!(self.requests <= at_all + for_each * self.happened + a_second * seconds, "a storm of requests");
    }

    /// Gives an answer to whoever has asked for it; says whether there was any.
    fn answer(&mut self) -> bool {
        let asker = |api: i16| {
            let next = |asked: &VecDeque<(i16, i32)>| asked.front().filter(|(of, _)| *of == api).map(|(_, id)| *id);
            self.asked.iter().find_map(|(conn, asked)| Some((*conn, next(asked)?)))
        };
        let Some((at, (conn, correlation_id))) =
            self.early.iter().enumerate().find_map(|(at, (api, _))| Some((at, asker(*api)?)))
        else {
            return false;
        };
        let (_, body) = self.early.remove(at).expect("found above");
        self.asked.get_mut(&conn).expect("found above").pop_front();
        let mut frame = BytesMut::new();
        frame.put_i32(correlation_id);
        frame.put_slice(&body);
        self.core.handle(self.now, Input::Frame(conn, frame.freeze()));
        true
    }

    /// Takes the next record; says whether there was anything.
    fn take(&mut self) -> bool {
        let Some(records) = self.records.as_mut().filter(|_| self.takes) else { return false };
        match Pin::new(records).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(delivery))) => {
                assert_eq!(delivery.headers().count(), delivery.headers().len());
                delivery.ack();
                self.delivered += 1;
                true
            }
            Poll::Ready(Some(Err(_))) => true,
            Poll::Ready(None) => self.records.take().is_some(),
            Poll::Pending => false,
        }
    }
}

/// Takes bytes that come after their length.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.try_get_u16().ok()?.into();
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// What the fuzzer changes is a whole session, from the handshake to the commit.
    #[test]
    fn a_session_with_a_real_broker_goes_as_it_went() {
        let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/core/real-ottla");
        // The published crate comes without it.
        let Ok(session) = fs::read(seed) else { return };
        let life = play(&session);
        let committed = life.handle.lag().iter().map(|lag| lag.committed.unwrap_or(0)).sum::<i64>();
        assert_eq!((life.delivered, life.handle.assignment().len()), (28, 3));
        // With the markers of two transactions, and what was aborted.
        assert_eq!(committed, 31);
    }
}
