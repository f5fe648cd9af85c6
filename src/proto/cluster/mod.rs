//! The cluster as one client sees it: connections, brokers, topics, and the group's coordinator.
//!
//! | file | what it decides |
//! |---|---|
//! | [`connection`] | one connection: handshake, authentication, what is in flight, deadlines |
//! | [`sasl`] | who this client is, and the messages that prove it |
//! | [`router`] | which connection a request takes; when one is opened, and how long a failed address rests |
//! | [`metadata`] | what is known of the topics, and when to ask again |
//! | [`coordinator`] | who coordinates the group |
//! | [`pace`] | how often to try, and to say so |
//!
//! What must hold: every [`Ask`] gets exactly one answer, and whether it may have been done is never in doubt ([`CallError`]). No wait is
//! without a deadline, no retry without a back-off. Nothing here ends by itself: a cluster that comes back after an hour is found within
//! a few seconds.

mod connection;
mod coordinator;
mod metadata;
mod pace;
mod racks;
mod router;
mod sasl;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub(crate) use self::metadata::Wanted;
#[cfg(any(fuzzing, test))]
pub(crate) use self::sasl::fuzzing::feed as feed_sasl;
pub(crate) use self::sasl::{Credentials, SaslConfig, ScramHash, Token};
use self::{
    connection::Codec,
    coordinator::{Coordinator, Found},
    metadata::Metadata,
    pace::{Complaint, Pace},
    router::{Router, RouterEvent},
};
use super::{
    Answer, Ask, BrokerAddr, CallError, ClusterView, ConnId, Deadline, Disconnect, Owner, Problem, Target, backoff::Rng, earliest,
};
use crate::{
    model::{BrokerId, LeaderEpoch, TopicPartition},
    wire::{Broker, Request, Response},
};

/// What the cluster machine must be told once.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    /// Where to begin, and where to begin again: when no known broker can be reached, when a broker asks for it, and after a while without
    /// metadata.
    pub(crate) bootstrap: Vec<BrokerAddr>,
    pub(crate) client_id: Arc<str>,
    /// Whose coordinator to find when asked.
    pub(crate) group: Option<Arc<str>>,
    /// How long an answer to our own requests may take.
    pub(crate) request_timeout: Duration,
    /// How long one address may take to accept a connection, and then to answer the handshake.
    pub(crate) connect_timeout: Duration,
    pub(crate) metadata_max_age: Duration,
    /// After so long without metadata what is known of the brokers is forgotten.
    pub(crate) rebootstrap_trigger: Duration,
    pub(crate) reconnect_backoff: Duration,
    pub(crate) reconnect_backoff_max: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    /// A connection of no use for that long is closed; the coordinator's is kept.
    pub(crate) idle_timeout: Duration,
    /// Whether `net` encrypts connections: for the text of errors.
    pub(crate) encrypted: bool,
    pub(crate) sasl: Option<SaslConfig>,
    pub(crate) seed: u64,
}

/// What `net` shall do.
#[derive(Debug, PartialEq)]
pub(crate) enum ClusterOutput {
    Connect(ConnId, BrokerAddr),
    /// A whole frame, with its length.
    Transmit(ConnId, Bytes),
    /// Close it, and forget what was not yet sent on it. Nothing needs to be reported back.
    Disconnect(ConnId),
    /// Ask the user's program for a token; [`Cluster::handle_token`] takes what comes of it.
    FetchToken,
}

/// What the other machines must know.
#[derive(Debug, PartialEq)]
pub(crate) enum ClusterEvent {
    /// Newer metadata came, though it may say the same as before.
    MetadataChanged,
    /// The group's coordinator, to which a connection stands.
    CoordinatorKnown(BrokerId),
    /// What was in flight to the coordinator has its answers; a search for the next one is going on.
    CoordinatorUnknown {
        why: String,
    },
    Problem(Problem),
}

/// Our own requests: one of each kind is in flight at most.
const METADATA: Owner = Owner::Cluster(0);
const COORDINATOR: Owner = Owner::Cluster(1);

/// The machine; see the [module](self).
pub(crate) struct Cluster {
    router: Router,
    metadata: Metadata,
    coordinator: Coordinator,
    rng: Rng,
    out: Outbox,
    answers: VecDeque<(Owner, Answer)>,
    events: VecDeque<ClusterEvent>,
}

/// What connections have to hand out.
#[derive(Default)]
struct Outbox {
    outputs: VecDeque<ClusterOutput>,
    answers: VecDeque<(Owner, Answer)>,
}

impl Cluster {
    pub(crate) fn new(config: ClusterConfig) -> Self {
        Self::with_codec(config, Codec::WIRE)
    }

    fn with_codec(config: ClusterConfig, codec: Codec) -> Self {
        let mut rng = Rng::new(config.seed);
        Self {
            router: Router::new(&config, codec, Rng::new(rng.next_u64())),
            metadata: Metadata::new(&config),
            coordinator: Coordinator::new(&config),
            rng,
            out: Outbox::default(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// What is known of the topics of interest.
    pub(crate) fn view(&self) -> &Arc<ClusterView> {
        self.metadata.view()
    }

    /// Names a broker, for the text of an error.
    pub(crate) fn broker_name(&self, id: BrokerId) -> String {
        match self.router.addr(id) {
            Some(addr) => format!("broker {} ({addr})", id.0),
            None => format!("broker {}", id.0),
        }
    }

    pub(crate) fn handle_connected(&mut self, now: Instant, id: ConnId) {
        self.router.handle_connected(now, id, &mut self.out);
        self.advance(now);
    }

    /// Takes a frame without its length.
    pub(crate) fn handle_frame(&mut self, now: Instant, id: ConnId, frame: Bytes) {
        self.router.handle_frame(now, id, frame, &mut self.out);
        self.advance(now);
    }

    pub(crate) fn handle_disconnected(&mut self, now: Instant, id: ConnId, why: Disconnect) {
        self.router.handle_disconnected(now, id, why, &mut self.out);
        self.advance(now);
    }

    /// Takes a token of the user's program, or why there is none.
    pub(crate) fn handle_token(&mut self, now: Instant, token: Result<Token, String>) {
        self.router.handle_token(now, token, &mut self.out);
        self.advance(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.router.handle_timeout(now, &mut self.out);
        self.advance(now);
    }

    /// Takes a request, which gets exactly one answer through [`poll_answer`](Self::poll_answer).
    pub(crate) fn handle_ask(&mut self, now: Instant, ask: Ask) {
        self.router.ask(now, ask, &mut self.out);
        self.advance(now);
    }

    /// Replaces the topics of interest. A new one is asked about at once, one that is no longer named is forgotten.
    pub(crate) fn want_topics(&mut self, now: Instant, wanted: Wanted) {
        self.metadata.want(now, wanted);
        self.advance(now);
    }

    /// The topics that match the wanted pattern, none where there is no pattern; `None` until they are known.
    pub(crate) fn matching_topics(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.metadata.matching()
    }

    /// Starts to look for the group's coordinator, unless that has begun; from then on there is always one or a search for it.
    pub(crate) fn want_coordinator(&mut self, now: Instant) {
        self.coordinator.want(now, &mut self.rng);
        self.advance(now);
    }

    /// The coordinator is not the right one any more: drops its connection and looks for it again.
    pub(crate) fn coordinator_lost(&mut self, now: Instant, why: &str) {
        if self.coordinator.known().is_some() {
            self.router.close_coordinator(now, why, &mut self.out);
            self.handle_coordinator_lost(now, why.to_owned());
            self.advance(now);
        }
    }

    /// Asks for newer metadata because of an error: at once, unless that was done just before.
    pub(crate) fn refresh_metadata(&mut self, now: Instant, why: &'static str) {
        self.metadata.refresh(now, why, &mut self.rng);
        self.advance(now);
    }

    /// Takes over what a broker said about a partition's leader (KIP-951), if it is newer than what is known.
    pub(crate) fn leader_hint(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        leader: BrokerId,
        epoch: LeaderEpoch,
        brokers: &[Broker],
    ) {
        let told = brokers.iter().find(|broker| broker.id == leader);
        if told.is_none() && self.router.addr(leader).is_none() {
            return;
        }
        if self.metadata.hint(partition, leader, epoch) {
            self.router.add_brokers(told);
            self.events.push_back(ClusterEvent::MetadataChanged);
            self.advance(now);
        }
    }

    /// Takes over where a broker is, that an answer to somebody else's request named.
    pub(crate) fn learn_broker(&mut self, broker: &Broker) {
        self.router.add_brokers([broker]);
    }

    #[must_use]
    pub(crate) fn poll_output(&mut self) -> Option<ClusterOutput> {
        self.out.outputs.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_answer(&mut self) -> Option<(Owner, Answer)> {
        self.answers.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<ClusterEvent> {
        self.events.pop_front()
    }

    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        earliest(self.router.poll_timeout(), earliest(self.metadata.poll_timeout(), self.coordinator.poll_timeout()))
    }

    /// Lets one machine's news be the others' until there is none. It ends, because a request that fails at once is followed by a
    /// back-off.
    fn advance(&mut self, now: Instant) {
        loop {
            self.router.advance(now, &mut self.out);
            if let Some((owner, answer)) = self.out.answers.pop_front() {
                match owner {
                    METADATA => self.handle_metadata(now, answer),
                    COORDINATOR => self.handle_coordinator(now, answer),
                    _ => self.answers.push_back((owner, answer)),
                }
            } else if let Some(event) = self.router.poll_event() {
                self.handle_router_event(now, event);
            } else if let Some(why) = self.metadata.poll_start_over(now, self.router.is_reached()) {
                self.router.start_over(now, why, &mut self.out);
            } else if let Some((request, timeout)) = self.metadata.poll_request(now) {
                self.ask_any(now, METADATA, request, timeout);
            } else if let Some((group, timeout)) = self.coordinator.poll_request(now) {
                self.ask_any(now, COORDINATOR, Request::FindCoordinator { group }, timeout);
            } else {
                break;
            }
        }
        let problems = std::iter::from_fn(|| self.metadata.poll_problem().or_else(|| self.coordinator.poll_problem()));
        self.events.extend(problems.map(ClusterEvent::Problem));
    }

    fn ask_any(&mut self, now: Instant, owner: Owner, request: Request, timeout: Duration) {
        self.router.ask(now, Ask { owner, to: Target::Any, request, timeout }, &mut self.out);
    }

    fn handle_metadata(&mut self, now: Instant, answer: Answer) {
        let answer = answer.and_then(|answer| match answer {
            Response::Metadata(answer) => Ok(answer),
            other => Err(not_what_was_asked(&other)),
        });
        if let Some(brokers) = self.metadata.handle_answer(now, answer, &mut self.rng) {
            self.router.set_brokers(&brokers);
            if let Some(coordinator) = self.coordinator.broker().filter(|broker| self.router.addr(broker.id).is_none()) {
                self.router.add_brokers([coordinator]);
            }
            self.events.push_back(ClusterEvent::MetadataChanged);
        }
        if !self.metadata.is_satisfied() {
            self.router.try_another(METADATA);
        }
    }

    fn handle_coordinator(&mut self, now: Instant, answer: Answer) {
        let answer = answer.and_then(|answer| match answer {
            Response::FindCoordinator(answer) => Ok(answer),
            other => Err(not_what_was_asked(&other)),
        });
        match self.coordinator.handle_answer(now, answer, &mut self.rng) {
            Found::Open(broker) => {
                self.router.close_coordinator(now, "another broker coordinates the group", &mut self.out);
                self.router.add_brokers([&broker]);
                self.router.open_coordinator(now, &broker);
            }
            Found::AskAnother => {
                self.router.try_another(COORDINATOR);
                self.metadata.refresh(now, "the coordinator cannot be found", &mut self.rng);
            }
            Found::Nothing => {}
        }
    }

    fn handle_router_event(&mut self, now: Instant, event: RouterEvent) {
        match event {
            RouterEvent::CoordinatorReady => {
                self.events.extend(self.coordinator.handle_ready().map(ClusterEvent::CoordinatorKnown));
            }
            RouterEvent::CoordinatorClosed { why } => self.handle_coordinator_lost(now, why),
            RouterEvent::Problem(problem) => self.events.push_back(ClusterEvent::Problem(problem)),
        }
    }

    fn handle_coordinator_lost(&mut self, now: Instant, why: String) {
        if self.coordinator.handle_lost(now, &why, &mut self.rng) {
            self.events.push_back(ClusterEvent::CoordinatorUnknown { why });
        }
    }
}

fn not_what_was_asked(answer: &Response) -> CallError {
    super::invariant!(false, "an answer of another API was decoded: {answer:?}");
    CallError::Lost("the answer was one to another request".to_owned())
}
