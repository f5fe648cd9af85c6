//! One connection to a broker: its handshake, and the requests on it.
//!
//! ```text
//! Delayed ──► Connecting ──► Handshaking ──► Ready
//!  back-off    net connects   ApiVersions     requests are written at once, in order
//! ```
//!
//! Before Ready, requests wait and surely have not been sent. From Ready on, each is written when it is asked: a broker answers in the
//! order it was asked, so the queue of what is in flight names the next answer. An answer that is not the next one, or that did
//! not come in time, ends the connection, because no later answer on it could be trusted.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{ClusterOutput, Outbox};
use crate::{
    proto::{BrokerAddr, CallError, ConnId, Deadline, Owner, earliest},
    wire::{self, Api, ApiRange, EncodeError, ErrorCode, Malformed, Request, Response},
};

/// How many requests one connection holds, waiting and in flight.
pub(super) const CALLS_MAX: usize = 256;

/// What a connection is for. A broker serves one request at a time per connection, so what may wait long has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Control,
    Coordinator,
    Fetch,
}

/// How requests become bytes and bytes answers. The tests of this folder have one of their own, so that they can be broker.
#[derive(Clone, Copy)]
pub(super) struct Codec {
    pub(super) versions: fn(&Request) -> RangeInclusive<i16>,
    pub(super) negotiate: fn(&Request, &[ApiRange]) -> Option<i16>,
    pub(super) encode: fn(&Request, i16, i32, &str) -> Result<Bytes, EncodeError>,
    pub(super) decode: fn(Api, i16, Bytes) -> Result<Response, Malformed>,
}

impl Codec {
    pub(super) const WIRE: Self =
        Self { versions: Request::versions, negotiate: wire::negotiate, encode: Request::encode, decode: Response::decode };
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) owner: Owner,
    pub(super) request: Request,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
}

/// What a frame turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The handshake goes on at a lower version.
    Downgraded,
    /// The handshake is done.
    Ready,
    /// The answer to a request.
    Answered,
}

/// Why the connection must end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The handshake's answer makes no sense: perhaps the other side is no Kafka.
    Handshake(String),
    /// A frame that is not the next answer.
    Order(String),
    /// No answer in time.
    Timeout(String),
}

/// What every connection of the cluster has in common.
pub(super) struct Settings {
    pub(super) client_id: Arc<str>,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) codec: Codec,
}

/// `net` tries several addresses, each for up to a connect timeout, and says what came of it; this many of them without a word is a bug
/// there, and must not stop the core.
const CONNECT_TIMEOUTS_MAX: u32 = 10;

pub(super) struct Connection {
    id: ConnId,
    addr: BrokerAddr,
    purpose: Purpose,
    state: State,
    /// Not written yet, because the connection is not Ready.
    waiting: VecDeque<Call>,
    in_flight: VecDeque<InFlight>,
    next_correlation: i32,
    /// When the attempt to connect began.
    opened: Instant,
    used: Instant,
    answered: bool,
}

#[derive(Debug)]
enum State {
    Delayed { until: Instant },
    Connecting,
    Handshaking,
    Ready { apis: Vec<ApiRange> },
}

struct InFlight {
    correlation: i32,
    api: Api,
    version: i16,
    /// `None`: the handshake's own.
    owner: Option<Owner>,
    written: Instant,
    timeout: Duration,
    deadline: Instant,
}

impl Connection {
    /// A connection that is to be opened at `at`, which is now unless its broker failed just before.
    pub(super) fn new(now: Instant, at: Instant, id: ConnId, addr: BrokerAddr, purpose: Purpose) -> Self {
        Self {
            id,
            addr,
            purpose,
            state: State::Delayed { until: at },
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_correlation: 0,
            opened: at.max(now),
            used: now,
            answered: false,
        }
    }

    pub(super) fn addr(&self) -> &BrokerAddr {
        &self.addr
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether `net` has heard of it.
    pub(super) fn is_known_to_net(&self) -> bool {
        !matches!(self.state, State::Delayed { .. })
    }

    /// Whether it was of use: a handshake alone proves little, because a listener that wants SASL takes it too.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// How many requests it holds.
    pub(super) fn load(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Since when the oldest request in flight has been waiting.
    pub(super) fn oldest_written(&self) -> Option<Instant> {
        self.in_flight.front().map(|call| call.written)
    }

    /// What it is doing, for the text of an error.
    pub(super) fn doing(&self) -> String {
        match (&self.state, self.in_flight.front()) {
            (State::Delayed { .. }, _) => "waiting to connect again".to_owned(),
            (State::Connecting, _) => "connecting".to_owned(),
            (State::Handshaking, _) => "waiting for the answer to ApiVersions".to_owned(),
            (State::Ready { .. }, Some(call)) => format!("waiting for the answer to {:?}", call.api),
            (State::Ready { .. }, None) => "idle".to_owned(),
        }
    }

    /// Starts the attempt to connect when its back-off is over.
    pub(super) fn connect_if_due(&mut self, now: Instant, out: &mut Outbox) {
        if matches!(self.state, State::Delayed { until } if until <= now) {
            self.state = State::Connecting;
            self.opened = now;
            out.outputs.push_back(ClusterOutput::Connect(self.id, self.addr.clone()));
        }
    }

    /// Takes a request: to be written now or, before Ready, later. The caller checked that there is room.
    pub(super) fn ask(&mut self, now: Instant, call: Call, settings: &Settings, out: &mut Outbox) {
        self.used = now;
        if self.is_ready() {
            self.write(now, call, settings, out);
        } else {
            self.waiting.push_back(call);
        }
    }

    /// The connection stands: asks for the broker's versions, at the highest that ottla speaks.
    pub(super) fn handle_connected(&mut self, now: Instant, settings: &Settings, out: &mut Outbox) -> Result<(), Fault> {
        if !matches!(self.state, State::Connecting) {
            return Ok(());
        }
        self.state = State::Handshaking;
        self.write_handshake(now, *(settings.codec.versions)(&Request::ApiVersions).end(), settings, out)
    }

    /// Takes one frame, from its correlation id on.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        frame: Bytes,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<Received, Fault> {
        self.used = now;
        let correlation = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        let next = match (self.in_flight.front().map(|call| call.correlation), correlation) {
            (Some(expected), Some(got)) if expected == got => self.in_flight.pop_front(),
            (expected, got) => return Err(self.out_of_order(expected, got)),
        };
        let Some(InFlight { api, version, owner, .. }) = next else {
            return Err(self.out_of_order(None, correlation));
        };
        let answer = (settings.codec.decode)(api, version, frame.slice(4..));
        match owner {
            Some(owner) => {
                self.answered = true;
                out.answers.push_back((owner, answer.map_err(CallError::from)));
                Ok(Received::Answered)
            }
            None => self.handle_handshake(now, version, answer, settings, out),
        }
    }

    /// Gives up what has been waiting for too long. What was written and not answered in time ends the connection.
    pub(super) fn handle_timeout(&mut self, now: Instant, settings: &Settings, out: &mut Outbox) -> Result<(), Fault> {
        if matches!(self.state, State::Connecting) && self.opened + settings.connect_timeout * CONNECT_TIMEOUTS_MAX <= now {
            return Err(Fault::Timeout(format!("nothing was heard of the attempt to connect to {}", self.addr)));
        }
        if let Some(late) = self.in_flight.iter().find(|call| call.deadline <= now) {
            return Err(Fault::Timeout(format!("{} did not answer {:?} within {:?}", self.addr, late.api, late.timeout)));
        }
        if self.waiting.iter().any(|call| call.deadline <= now) {
            let doing = self.doing();
            for call in std::mem::take(&mut self.waiting) {
                if call.deadline <= now {
                    let (api, timeout) = (call.request.api(), call.timeout);
                    let what = format!("{api:?} was not sent to {} within {timeout:?}: {doing}", self.addr);
                    out.answers.push_back((call.owner, Err(CallError::NotSent(what))));
                } else {
                    self.waiting.push_back(call);
                }
            }
        }
        Ok(())
    }

    /// Whether it has been of no use for so long that it should be closed. The coordinator's is kept: heartbeats need it.
    pub(super) fn is_idle(&self, now: Instant, settings: &Settings) -> bool {
        self.idle_at(settings).is_some_and(|at| at <= now)
    }

    pub(super) fn poll_timeout(&self, settings: &Settings) -> Option<Deadline> {
        let state = match &self.state {
            State::Delayed { until } => Some((*until, "reconnect back-off")),
            State::Connecting => Some((self.opened + settings.connect_timeout * CONNECT_TIMEOUTS_MAX, "connect")),
            State::Handshaking => None,
            State::Ready { .. } => self.idle_at(settings).map(|at| (at, "idle connection")),
        };
        let unanswered = self.in_flight.iter().map(|call| call.deadline).min().map(|at| (at, "request in flight"));
        let unwritten = self.waiting.iter().map(|call| call.deadline).min().map(|at| (at, "request not sent yet"));
        earliest(state, earliest(unanswered, unwritten))
    }

    /// Ends the connection: every request on it gets its answer. What was written may have been done.
    pub(super) fn close(self, why: &str, out: &mut Outbox) {
        for owner in self.in_flight.iter().filter_map(|call| call.owner) {
            out.answers.push_back((owner, Err(CallError::Lost(why.to_owned()))));
        }
        for call in self.waiting {
            out.answers.push_back((call.owner, Err(CallError::NotSent(why.to_owned()))));
        }
    }

    fn idle_at(&self, settings: &Settings) -> Option<Instant> {
        let idle = self.is_ready() && self.load() == 0 && self.purpose != Purpose::Coordinator;
        idle.then(|| self.used + settings.idle_timeout)
    }

    fn handle_handshake(
        &mut self,
        now: Instant,
        version: i16,
        answer: Result<Response, Malformed>,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<Received, Fault> {
        let answer = match answer {
            Ok(Response::ApiVersions(answer)) => answer,
            Ok(_) => return Err(Fault::Handshake("not an answer to ApiVersions".to_owned())),
            Err(malformed) => return Err(Fault::Handshake(malformed.to_string())),
        };
        match answer.error {
            ErrorCode::NONE => {
                self.state = State::Ready { apis: wire::ranges_of_interest(&answer.apis) };
                for call in std::mem::take(&mut self.waiting) {
                    self.write(now, call, settings, out);
                }
                Ok(Received::Ready)
            }
            // Brokers before Kafka 2.4 do not say what they know, but all know version 0.
            ErrorCode::UNSUPPORTED_VERSION if version > 0 => {
                let theirs = (settings.codec.negotiate)(&Request::ApiVersions, &answer.apis).unwrap_or(0);
                self.write_handshake(now, theirs.min(version - 1), settings, out)?;
                Ok(Received::Downgraded)
            }
            error => Err(Fault::Handshake(format!("{error} in answer to ApiVersions version {version}"))),
        }
    }

    fn write_handshake(&mut self, now: Instant, version: i16, settings: &Settings, out: &mut Outbox) -> Result<(), Fault> {
        let correlation = self.next_correlation;
        let frame = (settings.codec.encode)(&Request::ApiVersions, version, correlation, &settings.client_id)
            .map_err(|error| Fault::Handshake(error.to_string()))?;
        // Whoever took the connection answers this quickly or is stuck: the patience for connecting is the right one.
        let timeout = settings.connect_timeout;
        self.send(
            frame,
            InFlight { correlation, api: Api::ApiVersions, version, owner: None, written: now, timeout, deadline: now + timeout },
            out,
        );
        Ok(())
    }

    fn write(&mut self, now: Instant, call: Call, settings: &Settings, out: &mut Outbox) {
        let State::Ready { apis } = &self.state else {
            self.waiting.push_back(call);
            return;
        };
        let (api, correlation) = (call.request.api(), self.next_correlation);
        let Some(version) = (settings.codec.negotiate)(&call.request, apis) else {
            let ours = (settings.codec.versions)(&call.request).into_inner();
            let unsupported = CallError::Unsupported { api, ours, theirs: wire::api_range(apis, api) };
            out.answers.push_back((call.owner, Err(unsupported)));
            return;
        };
        match (settings.codec.encode)(&call.request, version, correlation, &settings.client_id) {
            Ok(frame) => self.send(
                frame,
                InFlight {
                    correlation,
                    api,
                    version,
                    owner: Some(call.owner),
                    written: now,
                    timeout: call.timeout,
                    deadline: call.deadline,
                },
                out,
            ),
            Err(error) => out.answers.push_back((call.owner, Err(CallError::NotSent(error.to_string())))),
        }
    }

    fn send(&mut self, frame: Bytes, call: InFlight, out: &mut Outbox) {
        tracing::trace!(conn = self.id.0, addr = %self.addr, api = ?call.api, version = call.version, "request");
        self.next_correlation = self.next_correlation.wrapping_add(1);
        self.in_flight.push_back(call);
        out.outputs.push_back(ClusterOutput::Transmit(self.id, frame));
    }

    fn out_of_order(&self, expected: Option<i32>, got: Option<i32>) -> Fault {
        let got = got.map_or("a frame too short for a correlation id".to_owned(), |got| format!("correlation id {got}"));
        let expected = expected.map_or("nothing was asked".to_owned(), |expected| format!("{expected} was the next"));
        let what = format!("{} sent {got} where {expected}", self.addr);
        if self.is_ready() { Fault::Order(what) } else { Fault::Handshake(what) }
    }
}
