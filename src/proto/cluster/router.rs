//! Which connection a request takes, and when connections are opened.
//!
//! * A connection is opened when something must be sent on it, and belongs to an address and a [`Purpose`]: a broker that moved to
//!   another address gets another connection.
//! * What goes to [`Target::Any`] waits until some control connection is Ready. While it waits, the addresses are tried in turn, the one
//!   that was tried longest ago first, known brokers before bootstrap addresses; a slow attempt does not hold up the next.
//! * Each address has a back-off, over all its connections, that ends when one of them has answered a request. So a broker that takes
//!   connections only to drop them is as harmless as one that is down.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    ClusterConfig, ClusterOutput, Complaint, Outbox,
    connection::{CALLS_MAX, Call, Codec, Connection, Fault, Purpose, Received, Settings},
    sasl::{Sasl, Token},
};
use crate::{
    model::BrokerId,
    proto::{
        Ask, BrokerAddr, CallError, ConnId, Deadline, Disconnect, Owner, Problem, ProblemKind, Target,
        backoff::{Backoff, Rng},
        earliest,
    },
    wire::Broker,
};

/// How long an attempt to connect, or an unanswered request, holds up what any broker could do.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// How long no broker can be reached before the user hears of it.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(4);
/// How long a broker rests that refused our credentials: they hardly become good within a second, and may be locked after too many tries.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How long credentials that were good once may be refused before the consumer ends.
const REFUSED_MAX: Duration = Duration::from_secs(300);

pub(super) struct Router {
    settings: Settings,
    bootstrap: Vec<BrokerAddr>,
    brokers: BTreeMap<BrokerId, BrokerAddr>,
    connections: BTreeMap<ConnId, Connection>,
    by_key: BTreeMap<(BrokerAddr, Purpose), ConnId>,
    coordinator: Option<ConnId>,
    health: BTreeMap<BrokerAddr, Health>,
    /// The back-off that a new address starts with.
    fresh: Backoff,
    /// What any broker may do, until one is Ready.
    anywhere: VecDeque<Call>,
    /// Whom our own requests went to last, and whose answers were of no use: the next of those should go to another.
    any_last: BTreeMap<Owner, BrokerAddr>,
    any_avoid: BTreeSet<BrokerAddr>,
    /// Where in the list of addresses this client starts, so that not all clients start with the same broker.
    start: u64,
    rng: Rng,
    next_conn: u64,
    /// Since when something should be sent and no open connection has ever answered anything.
    silent_since: Option<Instant>,
    silence: Complaint,
    /// Brokers have believed who we are.
    was_authenticated: bool,
    /// Since when they do not any more.
    refused_since: Option<Instant>,
    refusal: Complaint,
    /// That was said to be the end.
    gave_up: bool,
    /// No broker is trusted, or trusts us.
    distrust: Complaint,
    events: VecDeque<RouterEvent>,
}

#[derive(Debug)]
pub(super) enum RouterEvent {
    CoordinatorReady,
    CoordinatorClosed { why: String },
    Problem(Problem),
}

/// What is known of an address.
struct Health {
    backoff: Backoff,
    not_before: Option<Instant>,
    failed: Option<Instant>,
    tried: Option<Instant>,
    error: Option<String>,
    /// It refused our credentials.
    refusals: Backoff,
    /// What it sent that no broker sends, or its certificate.
    nonsense: Complaint,
}

/// How a connection ends.
struct Ending {
    why: String,
    /// `net` does not know yet.
    by_us: bool,
    blame: Blame,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// It may be opened again at once.
    Nobody,
    /// It failed: its address shall rest.
    Broker,
    /// What came is nothing that a broker sends: the user should know.
    Nonsense,
    /// It is not trusted, or does not trust us: the user should know.
    Untrusted,
    /// It does not believe who we are: the user should know.
    Refused,
}

impl Router {
    pub(super) fn new(config: &ClusterConfig, codec: Codec, mut rng: Rng) -> Self {
        Self {
            settings: Settings {
                client_id: Arc::clone(&config.client_id),
                connect_timeout: config.connect_timeout,
                idle_timeout: config.idle_timeout,
                codec,
                encrypted: config.encrypted,
                sasl: config.sasl.clone().map(Sasl::new),
            },
            bootstrap: config.bootstrap.clone(),
            brokers: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_key: BTreeMap::new(),
            coordinator: None,
            health: BTreeMap::new(),
            fresh: Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max),
            anywhere: VecDeque::new(),
            any_last: BTreeMap::new(),
            any_avoid: BTreeSet::new(),
            start: rng.next_u64(),
            rng,
            next_conn: 0,
            silent_since: None,
            silence: Complaint::default(),
            was_authenticated: false,
            refused_since: None,
            refusal: Complaint::default(),
            gave_up: false,
            distrust: Complaint::default(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn ask(&mut self, now: Instant, ask: Ask, out: &mut Outbox) {
        let Ask { owner, to, request, timeout } = ask;
        let call = Call { owner, request, timeout, deadline: now + timeout };
        match to {
            Target::Any if self.anywhere.len() < CALLS_MAX => {
                if !self.is_reached() {
                    self.silent_since.get_or_insert(now);
                }
                self.anywhere.push_back(call);
            }
            Target::Any => not_sent(&call, "too many requests wait for a broker that can be reached", out),
            Target::Coordinator => match self.coordinator {
                Some(id) => self.ask_on(now, id, call, out),
                None => not_sent(&call, "the group's coordinator is not known", out),
            },
            Target::Broker(id) => self.ask_broker(now, id, Purpose::Control, call, out),
            Target::Fetch(id, line) => self.ask_broker(now, id, Purpose::Fetch(line), call, out),
        }
    }

    /// Replaces what is known of the brokers, from a metadata answer.
    pub(super) fn set_brokers(&mut self, brokers: &[Broker]) {
        self.brokers.clear();
        self.add_brokers(brokers);
        let (known, bootstrap, by_key) = (&self.brokers, &self.bootstrap, &self.by_key);
        let is_ours = |addr: &BrokerAddr| {
            known.values().any(|known| known == addr)
                || bootstrap.contains(addr)
                || by_key.keys().any(|(connected, _)| connected == addr)
        };
        self.health.retain(|addr, _| is_ours(addr));
        self.any_avoid.retain(|addr| is_ours(addr));
    }

    /// Forgets all brokers, and begins again at the bootstrap addresses (KIP-1102): what is known may be of another cluster than they lead to now.
    pub(super) fn start_over(&mut self, now: Instant, why: &'static str, out: &mut Outbox) {
        tracing::info!(why, "starting over from the bootstrap addresses");
        self.brokers.clear();
        self.any_avoid.clear();
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            let why = format!("the client starts over from its bootstrap addresses: {why}");
            self.close(now, id, Ending { why, by_us: true, blame: Blame::Nobody }, out);
        }
    }

    pub(super) fn add_brokers<'a>(&mut self, brokers: impl IntoIterator<Item = &'a Broker>) {
        self.brokers.extend(brokers.into_iter().map(|broker| (broker.id, addr_of(broker))));
    }

    pub(super) fn addr(&self, id: BrokerId) -> Option<&BrokerAddr> {
        self.brokers.get(&id)
    }

    /// Lets the next request to any broker go to another than the one that `owner` asked last: that one's answer was of no use.
    pub(super) fn try_another(&mut self, owner: Owner) {
        self.any_avoid.extend(self.any_last.remove(&owner));
    }

    /// Opens the coordinator's connection; `CoordinatorReady` or `CoordinatorClosed` will tell what came of it.
    pub(super) fn open_coordinator(&mut self, now: Instant, broker: &Broker) {
        self.coordinator = Some(self.connection(now, addr_of(broker), Purpose::Coordinator));
    }

    /// Closes the coordinator's connection without an event.
    pub(super) fn close_coordinator(&mut self, now: Instant, why: &str, out: &mut Outbox) {
        if let Some(id) = self.coordinator.take() {
            self.close(now, id, Ending { why: why.to_owned(), by_us: true, blame: Blame::Nobody }, out);
        }
    }

    pub(super) fn handle_connected(&mut self, now: Instant, id: ConnId, out: &mut Outbox) {
        if let Some(connection) = self.connections.get_mut(&id)
            && let Err(fault) = connection.handle_connected(now, &self.settings, out)
        {
            self.handle_fault(now, id, fault, out);
        }
    }

    pub(super) fn handle_frame(&mut self, now: Instant, id: ConnId, frame: Bytes, out: &mut Outbox) {
        // Frames may still come after we closed the connection: whoever asked has an answer already.
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.handle_frame(now, frame, &self.settings, out) {
            Ok(Received::Shaking) => {}
            Ok(Received::Renewed) => self.handle_authenticated(),
            Ok(Received::Ready) => {
                tracing::debug!(conn = id.0, addr = %connection.addr(), purpose = ?connection.purpose(), "connected");
                if self.coordinator == Some(id) {
                    self.events.push_back(RouterEvent::CoordinatorReady);
                }
                if self.settings.sasl.is_some() {
                    self.handle_authenticated();
                }
            }
            Ok(Received::Answered) => {
                if let Some(health) = self.health.get_mut(connection.addr()) {
                    health.recover();
                }
                self.silent_since = None;
                self.silence.is_over();
                self.distrust.is_over();
            }
            Err(fault) => self.handle_fault(now, id, fault, out),
        }
    }

    pub(super) fn handle_disconnected(&mut self, now: Instant, id: ConnId, why: Disconnect, out: &mut Outbox) {
        let Some(connection) = self.connections.get(&id) else { return };
        let blame = match why {
            Disconnect::BadFrame(_) => Blame::Nonsense,
            // Whoever has answered was trusted, and trusted us: something else is wrong, and the next handshake will tell.
            Disconnect::Tls(_) if connection.has_answered() => Blame::Broker,
            Disconnect::Tls(_) => Blame::Untrusted,
            Disconnect::Closed(_) if connection.is_refused_by_closing() => Blame::Refused,
            Disconnect::Closed(_) if connection.has_answered() => Blame::Nobody,
            Disconnect::Closed(_) | Disconnect::Unreachable(_) => Blame::Broker,
        };
        let hint = match (&why, connection.has_answered(), connection.is_ready()) {
            _ if blame == Blame::Refused => ", as a broker before Kafka 1.0 refuses credentials",
            (Disconnect::Closed(_), false, true) if self.settings.sasl.is_none() => ", as a listener that wants SASL does",
            (Disconnect::Closed(_), false, false) if !self.settings.encrypted && !connection.is_authenticating() => {
                ", as a listener that wants TLS does"
            }
            _ => "",
        };
        let why = match why {
            Disconnect::Unreachable(why) | Disconnect::BadFrame(why) | Disconnect::Tls(why) => why,
            Disconnect::Closed(why) => format!("{why} while {}{hint}", connection.doing()),
        };
        self.close(now, id, Ending { why, by_us: false, blame }, out);
    }

    /// Takes a token, or why there is none, and lets the connections that waited for it go on.
    pub(super) fn handle_token(&mut self, now: Instant, token: Result<Token, String>, out: &mut Outbox) {
        let Some(sasl) = &mut self.settings.sasl else { return };
        if let Err(why) = sasl.tokens.handle(now, token, &mut self.rng) {
            let goes_on = if self.was_authenticated { "; still trying" } else { "" };
            self.complain_of_refusal(now, format!("there is no token for OAUTHBEARER: {why}{goes_on}"), false);
            return;
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if let Err(fault) = connection.handle_token(now, &self.settings, out) {
                self.handle_fault(now, id, fault, out);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if let Err(fault) = connection.handle_timeout(now, &self.settings, out) {
                self.handle_fault(now, id, fault, out);
            } else if connection.is_idle(now, &self.settings) {
                self.close(now, id, Ending { why: "idle".to_owned(), by_us: true, blame: Blame::Nobody }, out);
            }
        }
        if self.anywhere.iter().any(|call| call.deadline <= now) {
            let (late, waiting): (VecDeque<_>, _) =
                std::mem::take(&mut self.anywhere).into_iter().partition(|call| call.deadline <= now);
            self.anywhere = waiting;
            let tried = self.tried();
            for call in late {
                not_sent(&call, &format!("no broker could be reached within {:?}: {tried}", call.timeout), out);
            }
        }
        self.complain_of_silence(now);
    }

    /// Moves what can move: requests that any broker may take, and connections whose back-off is over.
    pub(super) fn advance(&mut self, now: Instant, out: &mut Outbox) {
        while !self.anywhere.is_empty() {
            let Some((id, addr)) = self.choose_any(now) else { break };
            let Some(call) = self.anywhere.pop_front() else { break };
            if self.any_avoid.contains(&addr) {
                // There was no better one: the round begins again.
                self.any_avoid.clear();
            }
            if matches!(call.owner, Owner::Cluster(_)) {
                self.any_last.insert(call.owner, addr);
            }
            self.ask_on(now, id, call, out);
        }
        if !self.anywhere.is_empty()
            && let Some(addr) = self.next_candidate(now)
        {
            self.connection(now, addr, Purpose::Control);
        }
        for connection in self.connections.values_mut() {
            connection.connect_if_due(now, out);
        }
        if let Some(sasl) = &mut self.settings.sasl {
            if self.connections.values().any(Connection::needs_token) {
                sasl.tokens.want(now);
            }
            if sasl.tokens.poll_request(now) {
                out.outputs.push_back(ClusterOutput::FetchToken);
            }
        }
    }

    #[must_use]
    pub(super) fn poll_event(&mut self) -> Option<RouterEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let mut deadline = None;
        for connection in self.connections.values() {
            deadline = earliest(deadline, connection.poll_timeout(&self.settings));
        }
        for call in &self.anywhere {
            deadline = earliest(deadline, Some((call.deadline, "request for any broker")));
        }
        if !self.anywhere.is_empty() {
            deadline = earliest(deadline, self.attempt_due().map(|at| (at, "next broker to try")));
        }
        if let Some(sasl) = &self.settings.sasl {
            deadline = earliest(deadline, sasl.tokens.poll_timeout());
        }
        let silence = self.silent_since.map(|since| (self.silence.due(since + UNREACHABLE_AFTER), "no broker reached"));
        earliest(deadline, silence)
    }

    fn ask_broker(&mut self, now: Instant, id: BrokerId, purpose: Purpose, call: Call, out: &mut Outbox) {
        match self.brokers.get(&id).cloned() {
            Some(addr) => {
                let id = self.connection(now, addr, purpose);
                self.ask_on(now, id, call, out);
            }
            None => not_sent(&call, &format!("broker {} is not known", id.0), out),
        }
    }

    fn ask_on(&mut self, now: Instant, id: ConnId, call: Call, out: &mut Outbox) {
        match self.connections.get_mut(&id) {
            Some(connection) if connection.load() < CALLS_MAX => connection.ask(now, call, &self.settings, out),
            Some(connection) => not_sent(&call, &format!("too many requests wait for {}", connection.addr()), out),
            None => not_sent(&call, "the connection is closed", out),
        }
    }

    /// The connection for this address and purpose, opened if there is none, when the address's back-off allows it.
    fn connection(&mut self, now: Instant, addr: BrokerAddr, purpose: Purpose) -> ConnId {
        let key = (addr, purpose);
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let health = self.health.entry(key.0.clone()).or_insert_with(|| Health::new(&self.fresh));
        let at = health.not_before.unwrap_or(now).max(now);
        health.tried = Some(at);
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        self.connections.insert(id, Connection::new(now, at, id, key.0.clone(), purpose));
        self.by_key.insert(key, id);
        id
    }

    /// The control connection that serves what any broker may: Ready, not stalled, not the one to avoid. A worse one only when no other
    /// address is worth waiting for.
    fn choose_any(&self, now: Instant) -> Option<(ConnId, BrokerAddr)> {
        let control = || self.connections.iter().filter(|(_, c)| c.purpose() == Purpose::Control && c.is_ready());
        let is_good = |connection: &Connection| {
            !self.any_avoid.contains(connection.addr()) && connection.oldest_written().is_none_or(|at| now < at + STALLED_AFTER)
        };
        let good =
            control().filter(|(_, connection)| is_good(connection)).min_by_key(|(id, connection)| (connection.load(), **id));
        let chosen = good.or_else(|| {
            let worth_waiting = self.is_attempting(now) || self.candidates().any(|(_, health)| may_try(now, health));
            control().min_by_key(|(id, connection)| (connection.load(), **id)).filter(|_| !worth_waiting)
        });
        chosen.map(|(id, connection)| (*id, connection.addr().clone()))
    }

    /// The address to try next: tried longest ago, known brokers first.
    fn next_candidate(&self, now: Instant) -> Option<BrokerAddr> {
        if self.is_attempting(now) {
            return None;
        }
        let free = self.candidates().filter(|(_, health)| may_try(now, *health));
        let (addr, _) = free.min_by_key(|(_, health)| health.and_then(|health| health.tried))?;
        Some(addr.clone())
    }

    /// When what waits for any broker should be looked at again, if no frame comes before.
    fn attempt_due(&self) -> Option<Instant> {
        let patience = self.youngest_attempt().map(|at| at + STALLED_AFTER);
        let has_ready = self.connections.values().any(|c| c.purpose() == Purpose::Control && c.is_ready());
        if has_ready {
            return patience;
        }
        let rested = self.candidates().map(|(_, health)| health.and_then(|health| health.not_before)).min()?;
        rested.max(patience)
    }

    /// Every address without a control connection, each list in an order of this client's own.
    fn candidates(&self) -> impl Iterator<Item = (&BrokerAddr, Option<&Health>)> {
        let known: Vec<&BrokerAddr> = self.brokers.values().collect();
        let bootstrap: Vec<&BrokerAddr> = self.bootstrap.iter().filter(|addr| !known.contains(addr)).collect();
        let rotated = |mut list: Vec<_>| {
            let by = if list.is_empty() { 0 } else { (self.start % list.len() as u64) as usize };
            list.rotate_left(by);
            list
        };
        let all = rotated(known).into_iter().chain(rotated(bootstrap));
        all.filter(|addr| !self.by_key.contains_key(&((*addr).clone(), Purpose::Control)))
            .map(|addr| (addr, self.health.get(addr)))
    }

    fn youngest_attempt(&self) -> Option<Instant> {
        let attempts = self.connections.values().filter(|c| c.purpose() == Purpose::Control && !c.is_ready());
        attempts.map(Connection::opened).max()
    }

    fn is_attempting(&self, now: Instant) -> bool {
        self.youngest_attempt().is_some_and(|at| now < at + STALLED_AFTER)
    }

    /// Whether a broker to which a connection stands has answered something.
    pub(super) fn is_reached(&self) -> bool {
        self.connections.values().any(Connection::has_answered)
    }

    fn handle_fault(&mut self, now: Instant, id: ConnId, fault: Fault, out: &mut Outbox) {
        let (why, blame) = match fault {
            Fault::Handshake(why) => (why, Blame::Nonsense),
            Fault::Refused(why) => (why, Blame::Refused),
            Fault::Order(why) | Fault::Timeout(why) => (why, Blame::Broker),
        };
        self.close(now, id, Ending { why, by_us: true, blame }, out);
    }

    fn close(&mut self, now: Instant, id: ConnId, ending: Ending, out: &mut Outbox) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let Ending { mut why, by_us, blame } = ending;
        if blame == Blame::Refused
            && let Some(sasl) = &self.settings.sasl
        {
            let (who, mechanism) = (sasl.credentials().who(), sasl.credentials().mechanism());
            why = format!("cannot authenticate {who} by {mechanism}: {why}");
        }
        let addr = connection.addr();
        tracing::debug!(conn = id.0, %addr, purpose = ?connection.purpose(), why, "connection ended");
        self.by_key.remove(&(addr.clone(), connection.purpose()));
        if by_us && connection.is_known_to_net() {
            out.outputs.push_back(ClusterOutput::Disconnect(id));
        }
        if blame != Blame::Nobody {
            self.count_failure(now, &connection, &why, blame);
        }
        match blame {
            Blame::Nonsense => self.complain_of_nonsense(now, &connection, &why),
            Blame::Untrusted => self.complain_of_distrust(now, &connection, &why),
            Blame::Refused => self.handle_refused(now, &connection, &why),
            Blame::Nobody | Blame::Broker => {}
        }
        let why = format!("{addr}: {why}");
        if self.coordinator == Some(id) {
            self.coordinator = None;
            self.events.push_back(RouterEvent::CoordinatorClosed { why: why.clone() });
        }
        connection.close(&why, out);
    }

    fn count_failure(&mut self, now: Instant, connection: &Connection, why: &str, blame: Blame) {
        if !self.is_reached() {
            self.silent_since.get_or_insert(now);
        }
        let health = self.health.entry(connection.addr().clone()).or_insert_with(|| Health::new(&self.fresh));
        health.error = Some(why.to_owned());
        // Attempts that ran side by side fail for one reason: it counts once.
        if health.failed.is_none_or(|failed| failed < connection.opened()) {
            health.failed = Some(now);
            let backoff = if blame == Blame::Refused { &mut health.refusals } else { &mut health.backoff };
            health.not_before = Some(now + backoff.fail(&mut self.rng));
        }
    }

    /// Brokers believe who we are.
    fn handle_authenticated(&mut self) {
        self.was_authenticated = true;
        self.refused_since = None;
        self.refusal.is_over();
    }

    /// Credentials that were never good end the consumer. Those that were may be given back, which is waited for, but not for ever.
    fn handle_refused(&mut self, now: Instant, connection: &Connection, why: &str) {
        if let Some(sasl) = &mut self.settings.sasl {
            sasl.tokens.discard(now);
        }
        let since = *self.refused_since.get_or_insert(now);
        let fatal = !self.was_authenticated || since + REFUSED_MAX <= now;
        let advice = if fatal { "check the credentials, and what the listener takes" } else { "still trying" };
        self.complain_of_refusal(now, format!("{}: {why}; {advice}", connection.addr()), fatal);
    }

    fn complain_of_refusal(&mut self, now: Instant, what: String, fatal: bool) {
        let kind = ProblemKind::Unauthenticated;
        if self.refusal.is_news(now, kind) || (fatal && !self.gave_up) {
            self.gave_up |= fatal;
            self.events.push_back(RouterEvent::Problem(Problem { kind, partition: None, code: None, what, fatal }));
        }
    }

    /// Told at once, unless nothing was reached yet and another address may still be better.
    fn complain_of_distrust(&mut self, now: Instant, connection: &Connection, why: &str) {
        let kind = ProblemKind::Untrusted;
        let addr = connection.addr();
        let has_failed = |addr: &BrokerAddr| self.health.get(addr).is_some_and(|health| health.error.is_some());
        let (what, is_news) = if self.is_reached() {
            let news = self.health.get_mut(addr).is_some_and(|health| health.nonsense.is_news(now, kind));
            (format!("{addr}: {why}; still trying"), news)
        } else if self.brokers.values().chain(&self.bootstrap).all(has_failed) {
            (format!("no broker can be reached, still trying: {}", self.tried()), self.distrust.is_news(now, kind))
        } else {
            return;
        };
        if is_news {
            self.events.push_back(RouterEvent::Problem(Problem { kind, partition: None, code: None, what, fatal: false }));
        }
    }

    fn complain_of_nonsense(&mut self, now: Instant, connection: &Connection, said: &str) {
        let addr = connection.addr();
        let (kind, what) = if connection.has_answered() {
            (ProblemKind::Protocol, format!("broker {addr} sent what no Kafka broker sends: {said}; the connection was closed"))
        } else {
            let advice = "check the address, the port and the listener's security protocol";
            (ProblemKind::Incompatible, format!("{addr} does not speak the Kafka protocol: {said}; {advice}"))
        };
        if let Some(health) = self.health.get_mut(addr)
            && health.nonsense.is_news(now, kind)
        {
            self.events.push_back(RouterEvent::Problem(Problem { kind, partition: None, code: None, what, fatal: false }));
        }
    }

    fn complain_of_silence(&mut self, now: Instant) {
        let kind = ProblemKind::Unreachable;
        if self.silent_since.is_some() && self.connections.values().any(Connection::needs_token) {
            // It is the user's program that is waited for, and brokers are only to be judged by what comes after.
            self.silent_since = Some(now);
        }
        let lasts = self.silent_since.is_some_and(|since| since + UNREACHABLE_AFTER <= now);
        if lasts && self.silence.is_news(now, kind) {
            let what = format!("no broker can be reached, still trying: {}", self.tried());
            self.events.push_back(RouterEvent::Problem(Problem { kind, partition: None, code: None, what, fatal: false }));
        }
    }

    /// Every address with what came of the last attempt, for the text of an error.
    fn tried(&self) -> String {
        let addrs: BTreeSet<&BrokerAddr> = self.brokers.values().chain(&self.bootstrap).collect();
        let outcome = |addr: &BrokerAddr| {
            let error = self.health.get(addr).and_then(|health| health.error.clone());
            let now = self.by_key.get(&(addr.clone(), Purpose::Control)).and_then(|id| self.connections.get(id));
            error.or(now.map(|connection| format!("still {}", connection.doing()))).unwrap_or_else(|| "not tried yet".to_owned())
        };
        addrs.into_iter().map(|addr| format!("{addr} ({})", outcome(addr))).collect::<Vec<_>>().join(", ")
    }
}

impl Health {
    fn new(fresh: &Backoff) -> Self {
        let nonsense = Complaint::default();
        let refusals = Backoff::new(REFUSED.0, REFUSED.1);
        Self { backoff: fresh.clone(), not_before: None, failed: None, tried: None, error: None, refusals, nonsense }
    }

    /// It answered a request.
    fn recover(&mut self) {
        self.backoff.reset();
        self.refusals.reset();
        self.not_before = None;
        self.error = None;
        self.nonsense.is_over();
    }
}

fn may_try(now: Instant, health: Option<&Health>) -> bool {
    health.and_then(|health| health.not_before).is_none_or(|at| at <= now)
}

fn not_sent(call: &Call, why: &str, out: &mut Outbox) {
    let what = format!("{:?} was not sent: {why}", call.request.api());
    out.answers.push_back((call.owner, Err(CallError::NotSent(what))));
}

fn addr_of(broker: &Broker) -> BrokerAddr {
    BrokerAddr { host: Arc::clone(&broker.host), port: broker.port }
}
