//! A client for the tests of this crate: it asks in real frames, in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer},
};

use super::{ConnId, Event, Input, Kafka, Output, Settings};

/// What records are dated when a test begins: 2026-01-01.
pub(crate) const START_MS: i64 = 1_767_225_600_000;

pub(crate) struct Tester {
    pub(crate) kafka: Kafka,
    pub(crate) now: Instant,
    pub(crate) events: Vec<Event>,
    frames: BTreeMap<ConnId, VecDeque<Bytes>>,
    closed: BTreeSet<ConnId>,
    connections: u64,
}

impl Tester {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            kafka: Kafka::new(settings, now, START_MS),
            now,
            events: Vec::new(),
            frames: BTreeMap::new(),
            closed: BTreeSet::new(),
            connections: 0,
        }
    }

    pub(crate) fn connect(&mut self, broker: i32) -> ConnId {
        self.connections += 1;
        let conn = ConnId(self.connections);
        self.input(Input::Connected(conn, broker));
        conn
    }

    /// Asks, and takes the answer, which must come at once.
    #[track_caller]
    pub(crate) fn ask<R: Request>(&mut self, conn: ConnId, version: i16, request: &R) -> R::Response {
        self.send(conn, version, request);
        self.answer::<R>(conn, version).expect("an answer at once")
    }

    pub(crate) fn send<R: Request>(&mut self, conn: ConnId, version: i16, request: &R) {
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let header = header.with_client_id(Some(StrBytes::from_static_str("tester")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        encode_request_header_into_buffer(&mut frame, &header).expect("a header");
        request.encode(&mut frame, version).expect("a request of this version");
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.input(Input::Received(conn, frame.freeze()));
    }

    /// Takes the next answer of a connection; `None` while it waits for it.
    pub(crate) fn answer<R: Request>(&mut self, conn: ConnId, version: i16) -> Option<R::Response> {
        let mut frame = self.frames.get_mut(&conn)?.pop_front()?;
        frame.advance(4);
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a header");
        let answer = R::Response::decode(&mut frame, version).expect("an answer of this version");
        assert!(frame.is_empty(), "{} bytes too many", frame.len());
        Some(answer)
    }

    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    /// Lets time pass, stopping wherever the cluster asked for it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = self.drain();
            let Some(at) = deadline.filter(|at| *at <= end) else { break };
            assert!(at >= self.now || self.now <= end, "a deadline that is over");
            self.now = self.now.max(at);
            self.kafka.handle(self.now, Input::Tick);
            let next = self.drain();
            assert_ne!(next, Some(at), "a deadline that came is still there: a busy loop");
        }
        self.now = end;
        self.kafka.handle(self.now, Input::Tick);
        self.drain();
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.kafka.handle(self.now, input);
        self.drain();
    }

    /// Does something to the cluster itself.
    pub(crate) fn with<T>(&mut self, act: impl FnOnce(&mut Kafka) -> T) -> T {
        let done = act(&mut self.kafka);
        self.kafka.handle(self.now, Input::Tick);
        self.drain();
        done
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.kafka.poll() {
                Output::Transmit(conn, frame) => self.frames.entry(conn).or_default().push_back(frame),
                Output::Disconnect(conn) => drop(self.closed.insert(conn)),
                Output::Event(event) => self.events.push(event),
                Output::Wait(deadline) => return deadline,
            }
        }
    }
}
