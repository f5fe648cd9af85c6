//! One connection to a broker: its handshake, and the requests on it.
//!
//! ```text
//! Delayed ──► Connecting ──► Handshaking ──► Ready
//!  back-off    net connects   ApiVersions     requests are written at once, in order
//! ```
//!
//! Before Ready, requests wait and surely have not been sent. From Ready on, each is written when it is asked: a broker answers in the
//! order it was asked, so the queue of what is in flight names the next answer. An answer that is not the next one, or that did
//! not come in time, ends the connection, because no later answer on it could be trusted. While a quota of the broker is used up, it does not
//! listen (KIP-219): requests wait as before Ready, and the time for an answer begins when it listens again.
//!
//! A commit is written where nothing else is in flight. Behind a request whose answer lets us wait, it would be read late: perhaps when this
//! connection has long been given up, and after a newer commit that went by another.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    ClusterOutput, Outbox,
    sasl::{Exchange, Next, Sasl},
};
use crate::{
    proto::{BrokerAddr, CallError, ConnId, Deadline, Owner, earliest},
    secret::Secret,
    wire::{
        self, Api, ApiRange, ApiVersionsResponse, EncodeError, ErrorCode, Malformed, Request, Response, SaslAuthenticateResponse,
        SaslHandshakeResponse,
    },
};

/// How many requests one connection holds, waiting and in flight.
pub(super) const CALLS_MAX: usize = 256;

/// What a connection is for. A broker serves one request at a time per connection, so what may wait long has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Control,
    Coordinator,
    /// One of several.
    Fetch(usize),
}

/// How requests become bytes and bytes answers. The tests of this folder have one of their own, so that they can be broker.
#[derive(Clone, Copy)]
pub(super) struct Codec {
    pub(super) versions: fn(&Request) -> RangeInclusive<i16>,
    pub(super) negotiate: fn(&Request, &[ApiRange]) -> Option<i16>,
    pub(super) encode: fn(&Request, i16, i32, &str) -> Result<Bytes, EncodeError>,
    pub(super) decode: fn(Api, i16, Bytes) -> Result<Response, Malformed>,
    pub(super) throttle: fn(Api, i16, &Bytes) -> Duration,
}

impl Codec {
    pub(super) const WIRE: Self = Self {
        versions: Request::versions,
        negotiate: wire::negotiate,
        encode: Request::encode,
        decode: Response::decode,
        throttle: Response::throttle,
    };
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
    /// The handshake goes on.
    Shaking,
    /// The handshake is done, and authentication where there is one.
    Ready,
    /// It has authenticated anew.
    Renewed,
    /// The answer to a request.
    Answered,
}

/// Why the connection must end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The handshake's answer makes no sense: perhaps the other side is no Kafka.
    Handshake(String),
    /// The broker does not believe who we are, or is not to be believed itself.
    Refused(String),
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
    /// Connections are encrypted by `net`.
    pub(super) encrypted: bool,
    /// `None`: whoever is connected may ask.
    pub(super) sasl: Option<Sasl>,
}

/// `net` tries several addresses, each for up to a connect timeout, and says what came of it; this many of them without a word is a bug
/// there, and must not stop the core.
const CONNECT_TIMEOUTS_MAX: u32 = 12;
/// After which part of its session, in percent, a connection authenticates anew; each a little earlier or later than the next, so that not
/// all of a client's do at once (KIP-368).
const RENEW_AT: u32 = 85;
const RENEW_SPREAD: u32 = 10;
/// The least that is left then of a session, for what is on its way to the broker, which closes the connection over any request that it
/// reads after the end.
const RENEW_BEFORE: Duration = Duration::from_secs(1);
/// Longer than any session.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// A broker takes no second authentication within a second of the first.
const RENEW_AFTER_MIN: Duration = Duration::from_millis(1100);

pub(super) struct Connection {
    id: ConnId,
    addr: BrokerAddr,
    purpose: Purpose,
    state: State,
    /// Not written yet, because the connection is not Ready.
    waiting: VecDeque<Call>,
    in_flight: VecDeque<InFlight>,
    next_correlation: i32,
    /// Until then the broker does not listen.
    throttled_until: Option<Instant>,
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
    Authenticating(Authenticating),
    Ready { apis: Vec<ApiRange>, renew: Option<Instant> },
}

/// SASL on one connection: Handshaking or Ready → Authenticating → Ready. Meanwhile requests wait; those in flight are answered before
/// the broker reads the first message.
#[derive(Debug)]
struct Authenticating {
    apis: Vec<ApiRange>,
    step: Step,
    /// It has been Ready before.
    anew: bool,
}

#[derive(Debug)]
enum Step {
    /// There is nothing to show yet.
    NeedsToken,
    /// The broker was asked whether it takes the mechanism. Whether the messages will go bare, and the first of them.
    Choosing { exchange: Exchange, first: Secret, bare: bool },
    /// Messages of the mechanism go back and forth.
    Exchanging { exchange: Exchange, bare: bool },
}

struct InFlight {
    /// `None`: a bare message of SASL, whose answer is as bare.
    correlation: Option<i32>,
    api: Api,
    version: i16,
    /// `None`: the connection's own.
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
            throttled_until: None,
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

    /// Whether it waits for a token to authenticate with.
    pub(super) fn needs_token(&self) -> bool {
        matches!(&self.state, State::Authenticating(Authenticating { step: Step::NeedsToken, .. }))
    }

    /// Whether it is about who we are: the broker has answered the handshake.
    pub(super) fn is_authenticating(&self) -> bool {
        matches!(&self.state, State::Authenticating(_))
    }

    /// Whether a broker that hangs up now does so because it does not believe who we are: one that speaks SASL without headers has no
    /// other way to say so.
    pub(super) fn is_refused_by_closing(&self) -> bool {
        matches!(&self.state, State::Authenticating(Authenticating { step: Step::Exchanging { bare: true, .. }, .. }))
    }

    /// What it is doing, for the text of an error.
    pub(super) fn doing(&self) -> String {
        match (&self.state, self.in_flight.front()) {
            (State::Ready { .. }, _) if self.throttled_until.is_some() => "waiting because a quota is used up".to_owned(),
            (State::Delayed { .. }, _) => "waiting to connect again".to_owned(),
            (State::Connecting, _) => "connecting".to_owned(),
            (State::Handshaking, _) => "waiting for the answer to ApiVersions".to_owned(),
            (State::Authenticating(Authenticating { step: Step::NeedsToken, .. }), _) => "waiting for a token".to_owned(),
            (State::Authenticating(_), _) => "authenticating".to_owned(),
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
    pub(super) fn ask(&mut self, now: Instant, mut call: Call, settings: &Settings, out: &mut Outbox) {
        self.used = now;
        if let Some(until) = self.throttled_until {
            call.deadline = call.deadline.max(until + call.timeout);
        }
        self.write(now, call, settings, out);
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
        if self.in_flight.front().is_some_and(|call| call.correlation.is_none()) {
            self.in_flight.pop_front();
            return self.handle_sasl_message(now, &frame, None, settings, out);
        }
        let correlation = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        let next = match (self.in_flight.front().and_then(|call| call.correlation), correlation) {
            (Some(expected), Some(got)) if expected == got => self.in_flight.pop_front(),
            (expected, got) => return Err(self.out_of_order(expected, got)),
        };
        let Some(InFlight { api, version, owner, written, .. }) = next else {
            return Err(self.out_of_order(None, correlation));
        };
        let body = frame.slice(4..);
        self.handle_throttle(now, (settings.codec.throttle)(api, version, &body));
        let answer = (settings.codec.decode)(api, version, body);
        match owner {
            Some(owner) => {
                self.used = now;
                self.answered = true;
                out.answers.push_back((owner, answer.map_err(CallError::from)));
                if self.in_flight.is_empty() {
                    self.write_waiting(now, settings, out);
                }
                Ok(Received::Answered)
            }
            None => match answer {
                Ok(Response::ApiVersions(answer)) => self.handle_handshake(now, version, answer, settings, out),
                Ok(Response::SaslHandshake(answer)) => self.handle_sasl_handshake(now, answer, settings, out),
                Ok(Response::SaslAuthenticate(answer)) => self.handle_sasl_answer(now, written, &answer, settings, out),
                Ok(_) => Err(Fault::Handshake(format!("not an answer to {api:?}"))),
                Err(malformed) => Err(Fault::Handshake(malformed.to_string())),
            },
        }
    }

    /// The broker does not listen for so long.
    fn handle_throttle(&mut self, now: Instant, throttle: Duration) {
        if throttle.is_zero() {
            return;
        }
        tracing::debug!(conn = self.id.0, addr = %self.addr, ?throttle, "a quota of the broker is used up");
        let until = now + throttle;
        self.throttled_until = Some(until);
        let written = self.in_flight.iter_mut().map(|call| (&mut call.deadline, call.timeout));
        let waiting = self.waiting.iter_mut().map(|call| (&mut call.deadline, call.timeout));
        written.chain(waiting).for_each(|(deadline, timeout)| *deadline = (*deadline).max(until + timeout));
    }

    /// There may be a token now.
    pub(super) fn handle_token(&mut self, now: Instant, settings: &Settings, out: &mut Outbox) -> Result<(), Fault> {
        match std::mem::replace(&mut self.state, State::Handshaking) {
            State::Authenticating(Authenticating { apis, step: Step::NeedsToken, anew }) => {
                self.authenticate(now, apis, anew, settings, out)
            }
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    /// Gives up what has been waiting for too long. What was written and not answered in time ends the connection.
    pub(super) fn handle_timeout(&mut self, now: Instant, settings: &Settings, out: &mut Outbox) -> Result<(), Fault> {
        if matches!(self.state, State::Connecting) && self.opened + settings.connect_timeout * CONNECT_TIMEOUTS_MAX <= now {
            return Err(Fault::Timeout(format!("nothing was heard of the attempt to connect to {}", self.addr)));
        }
        if matches!(&self.state, State::Ready { renew: Some(at), .. } if *at <= now)
            && let State::Ready { apis, .. } = std::mem::replace(&mut self.state, State::Handshaking)
        {
            self.authenticate(now, apis, true, settings, out)?;
        }
        if self.throttled_until.take_if(|until| *until <= now).is_some() {
            self.write_waiting(now, settings, out);
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
            // What is in flight has its deadline; while a token is missing, whoever has to do with tokens has one.
            State::Handshaking | State::Authenticating(_) => None,
            State::Ready { renew, .. } => {
                earliest(self.idle_at(settings).map(|at| (at, "idle connection")), renew.map(|at| (at, "the end of the session")))
            }
        };
        let throttled = self.throttled_until.map(|at| (at, "a quota that is used up"));
        let unanswered = self.in_flight.iter().map(|call| call.deadline).min().map(|at| (at, "request in flight"));
        let unwritten = self.waiting.iter().map(|call| call.deadline).min().map(|at| (at, "request not sent yet"));
        earliest(earliest(state, throttled), earliest(unanswered, unwritten))
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
        answer: ApiVersionsResponse,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<Received, Fault> {
        match answer.error {
            ErrorCode::NONE if settings.sasl.is_some() => {
                self.authenticate(now, wire::ranges_of_interest(&answer.apis), false, settings, out)?;
                Ok(Received::Shaking)
            }
            ErrorCode::NONE => {
                self.become_ready(now, wire::ranges_of_interest(&answer.apis), None, settings, out);
                Ok(Received::Ready)
            }
            // Brokers before Kafka 2.4 do not say what they know, but all know version 0.
            ErrorCode::UNSUPPORTED_VERSION if version > 0 => {
                let theirs = (settings.codec.negotiate)(&Request::ApiVersions, &answer.apis).unwrap_or(0);
                self.write_handshake(now, theirs.min(version - 1), settings, out)?;
                Ok(Received::Shaking)
            }
            error => Err(Fault::Handshake(format!("{error} in answer to ApiVersions version {version}"))),
        }
    }

    fn become_ready(&mut self, now: Instant, apis: Vec<ApiRange>, renew: Option<Instant>, settings: &Settings, out: &mut Outbox) {
        self.state = State::Ready { apis, renew };
        self.write_waiting(now, settings, out);
    }

    fn write_waiting(&mut self, now: Instant, settings: &Settings, out: &mut Outbox) {
        for call in std::mem::take(&mut self.waiting) {
            self.write(now, call, settings, out);
        }
    }

    /// Begins to authenticate, as far as there is something to show.
    fn authenticate(
        &mut self,
        now: Instant,
        apis: Vec<ApiRange>,
        anew: bool,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Some(sasl) = &settings.sasl else {
            self.become_ready(now, apis, None, settings, out);
            return Ok(());
        };
        let Some((exchange, first)) = sasl.begin(now, self.id, self.next_correlation) else {
            self.state = State::Authenticating(Authenticating { apis, step: Step::NeedsToken, anew });
            return Ok(());
        };
        let request = Request::SaslHandshake { mechanism: sasl.credentials().mechanism() };
        let Some(version) = (settings.codec.negotiate)(&request, &apis) else {
            return Err(Fault::Refused("it does not speak SASL".to_owned()));
        };
        let step = Step::Choosing { exchange, first, bare: version == 0 };
        self.state = State::Authenticating(Authenticating { apis, step, anew });
        self.write_own(now, &request, version, settings, out)
    }

    fn handle_sasl_handshake(
        &mut self,
        now: Instant,
        answer: SaslHandshakeResponse,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<Received, Fault> {
        match answer.error {
            ErrorCode::NONE => {}
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let takes = answer.mechanisms.join(", ");
                return Err(Fault::Refused(format!("the listener does not take this mechanism, but {takes}")));
            }
            ErrorCode::ILLEGAL_SASL_STATE => {
                return Err(Fault::Refused(format!("the listener is one without SASL ({})", answer.error)));
            }
            error => return Err(Fault::Refused(format!("it answers SaslHandshake with {error}"))),
        }
        match std::mem::replace(&mut self.state, State::Handshaking) {
            State::Authenticating(Authenticating { apis, step: Step::Choosing { exchange, first, bare }, anew }) => {
                let message = self.write_sasl_message(now, first, bare, &apis, settings, out);
                self.state = State::Authenticating(Authenticating { apis, step: Step::Exchanging { exchange, bare }, anew });
                message.map(|()| Received::Shaking)
            }
            _ => Err(Fault::Handshake("an answer to SaslHandshake that nothing asked for".to_owned())),
        }
    }

    fn handle_sasl_answer(
        &mut self,
        now: Instant,
        written: Instant,
        answer: &SaslAuthenticateResponse,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<Received, Fault> {
        if answer.error == ErrorCode::NONE {
            // The session began somewhere between question and answer.
            let renew = answer.session_lifetime.map(|lifetime| self.renew_at(written, lifetime).max(now + RENEW_AFTER_MIN));
            return self.handle_sasl_message(now, &answer.challenge, renew, settings, out);
        }
        let mut why = answer.error.to_string();
        if let Some(message) = answer.message.as_deref().filter(|message| !message.is_empty()) {
            why = format!("{message} ({why})");
        }
        if let State::Authenticating(Authenticating { step: Step::Exchanging { exchange, .. }, .. }) = &self.state
            && let Some(complaint) = exchange.complaint().filter(|complaint| !why.contains(complaint))
        {
            why = format!("{why}: {complaint}");
        }
        Err(Fault::Refused(why))
    }

    fn renew_at(&self, began: Instant, lifetime: Duration) -> Instant {
        let (part, lifetime) = (RENEW_AT + (self.id.0 % u64::from(RENEW_SPREAD)) as u32, lifetime.min(FOREVER));
        began + (lifetime * part / 100).min(lifetime.saturating_sub(RENEW_BEFORE))
    }

    /// Takes the broker's next message of the mechanism.
    fn handle_sasl_message(
        &mut self,
        now: Instant,
        message: &[u8],
        renew: Option<Instant>,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<Received, Fault> {
        let State::Authenticating(Authenticating { apis, step: Step::Exchanging { mut exchange, bare }, anew }) =
            std::mem::replace(&mut self.state, State::Handshaking)
        else {
            return Err(Fault::Handshake("a message of SASL that nothing asked for".to_owned()));
        };
        match exchange.handle(message).map_err(Fault::Refused)? {
            Next::Send(next) => {
                self.write_sasl_message(now, next, bare, &apis, settings, out)?;
                self.state = State::Authenticating(Authenticating { apis, step: Step::Exchanging { exchange, bare }, anew });
                Ok(Received::Shaking)
            }
            Next::Done => {
                self.become_ready(now, apis, renew, settings, out);
                Ok(if anew { Received::Renewed } else { Received::Ready })
            }
        }
    }

    fn write_sasl_message(
        &mut self,
        now: Instant,
        message: Secret,
        bare: bool,
        apis: &[ApiRange],
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if !bare {
            let request = Request::SaslAuthenticate { message };
            let Some(version) = (settings.codec.negotiate)(&request, apis) else {
                return Err(Fault::Refused("it speaks no version of SaslAuthenticate that ottla speaks".to_owned()));
            };
            return self.write_own(now, &request, version, settings, out);
        }
        let message = message.expose();
        let length = i32::try_from(message.len()).map_err(|_| Fault::Refused("the message is too long".to_owned()))?;
        let frame = Secret::new([&length.to_be_bytes()[..], message].concat());
        self.send_own(now, None, Api::SaslAuthenticate, 0, frame.expose().clone(), settings, out);
        Ok(())
    }

    fn write_handshake(&mut self, now: Instant, version: i16, settings: &Settings, out: &mut Outbox) -> Result<(), Fault> {
        self.write_own(now, &Request::ApiVersions, version, settings, out)
    }

    /// Writes a request of the connection's own.
    fn write_own(
        &mut self,
        now: Instant,
        request: &Request,
        version: i16,
        settings: &Settings,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let correlation = self.next_correlation;
        let frame = (settings.codec.encode)(request, version, correlation, &settings.client_id)
            .map_err(|error| Fault::Handshake(error.to_string()))?;
        self.send_own(now, Some(correlation), request.api(), version, frame, settings, out);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of what is in flight, and where they go")]
    fn send_own(
        &mut self,
        now: Instant,
        correlation: Option<i32>,
        api: Api,
        version: i16,
        frame: Bytes,
        settings: &Settings,
        out: &mut Outbox,
    ) {
        // Whoever took the connection answers this quickly or is stuck: the patience for connecting is the right one. It may have to answer
        // others first.
        let timeout = settings.connect_timeout;
        let others = self.in_flight.iter().map(|call| call.deadline).max();
        let begins = others.into_iter().chain(self.throttled_until).fold(now, Instant::max);
        self.send(
            frame,
            InFlight { correlation, api, version, owner: None, written: now, timeout, deadline: begins + timeout },
            out,
        );
    }

    /// Writes a request, or keeps it until it may be written.
    fn write(&mut self, now: Instant, call: Call, settings: &Settings, out: &mut Outbox) {
        let is_its_turn = call.request.api() != Api::OffsetCommit || self.in_flight.is_empty();
        let (State::Ready { apis, .. }, None, true) = (&self.state, self.throttled_until, is_its_turn) else {
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
                    correlation: Some(correlation),
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
        if self.answered || self.is_ready() { Fault::Order(what) } else { Fault::Handshake(what) }
    }
}
