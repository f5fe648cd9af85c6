//! The core of those who look on: the cluster, and the questions about its offsets. It joins no group.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Deadline, Owner, Problem, ProblemKind,
    cluster::{Cluster, ClusterConfig, ClusterEvent, Wanted},
    earliest,
    message::{Input, Output},
    offsets::{Lookup, LookupConfig, LookupEvent, Outcome, Question},
};
use crate::error::OffsetsErrorKind;

/// What the user's side asks; `T` is whatever an answer has to find its asker by.
#[derive(Debug)]
pub(crate) enum Command<T> {
    /// Exactly one `Event::Answered` answers, unless it is forgotten. No two have one `id`.
    Ask { id: u64, question: Question, timeout: Duration, ticket: T },
    /// Nobody waits for that answer any more.
    Forget { id: u64 },
}

#[derive(Debug)]
pub(crate) enum Event<T> {
    /// A broker answered for the first time.
    Reached,
    Problem(Problem),
    Answered {
        ticket: T,
        outcome: Outcome,
    },
}

pub(crate) struct Onlooker<T> {
    cluster: Cluster,
    lookup: Lookup<T>,
    reached: bool,
    events: VecDeque<Event<T>>,
    now: Instant,
}

impl<T> Onlooker<T> {
    pub(crate) fn new(now: Instant, cluster: ClusterConfig, lookup: LookupConfig) -> Self {
        let mut cluster = Cluster::new(cluster);
        cluster.refresh_metadata(now, "who is there");
        let events = VecDeque::new();
        Self { cluster, lookup: Lookup::new(lookup), reached: false, events, now }
    }

    /// Takes one input in. Drain `poll` to `Output::Wait` before the next.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<Command<T>>) {
        let now = self.advance(now);
        let due = |deadline: Option<Deadline>| deadline.is_some_and(|(at, _)| at <= now);
        if due(self.cluster.poll_timeout()) {
            self.cluster.handle_timeout(now);
        }
        if due(self.lookup.poll_timeout()) {
            self.lookup.handle_timeout(now);
        }
        match input {
            Input::Connected(conn) => self.cluster.handle_connected(now, conn),
            Input::Frame(conn, frame) => self.cluster.handle_frame(now, conn, frame),
            Input::Disconnected(conn, why) => self.cluster.handle_disconnected(now, conn, why),
            Input::Token(token) => self.cluster.handle_token(now, token),
            Input::Command(Command::Ask { id, question, timeout, ticket }) => {
                self.lookup.ask(now, id, question, timeout, ticket);
            }
            Input::Command(Command::Forget { id }) => self.lookup.forget(id),
            Input::Tick => {}
        }
    }

    /// Hands out what there is to do, until it says `Wait`.
    #[must_use]
    pub(crate) fn poll(&mut self, now: Instant) -> Output<Event<T>> {
        let now = self.advance(now);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if let Some(output) = self.cluster.poll_output() {
                return output.into();
            }
            if !self.drain(now) {
                return Output::Wait(earliest(self.cluster.poll_timeout(), self.lookup.poll_timeout()));
            }
        }
    }

    /// Time never goes back in here, whatever the caller's clock does.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// Moves one thing from machine to machine; says whether there was any.
    fn drain(&mut self, now: Instant) -> bool {
        if let Some((owner, answer)) = self.cluster.poll_answer() {
            if let Owner::Lookup(call) = owner {
                self.lookup.handle_answer(now, call, answer);
            }
        } else if let Some(event) = self.cluster.poll_event() {
            self.handle_cluster_event(event);
        } else if let Some(event) = self.lookup.poll_event() {
            self.handle_lookup_event(now, event);
        } else {
            let view = Arc::clone(self.cluster.view());
            match self.lookup.poll_ask(now, &view) {
                Some(ask) => self.cluster.handle_ask(now, ask),
                // What metadata alone could answer was answered without asking anybody.
                None => match self.lookup.poll_event() {
                    Some(event) => self.handle_lookup_event(now, event),
                    None => return false,
                },
            }
        }
        true
    }

    fn handle_cluster_event(&mut self, event: ClusterEvent) {
        match event {
            ClusterEvent::MetadataChanged => {
                self.lookup.handle_trouble(None);
                if !std::mem::replace(&mut self.reached, true) {
                    self.events.push_back(Event::Reached);
                }
            }
            ClusterEvent::Problem(problem) => self.handle_problem(problem),
            // It has no group of its own.
            ClusterEvent::CoordinatorKnown(_) | ClusterEvent::CoordinatorUnknown { .. } => {}
        }
    }

    fn handle_problem(&mut self, problem: Problem) {
        tracing::warn!(target: "ottla", kind = ?problem.kind, fatal = problem.fatal, "{}", problem.what);
        if matches!(problem.kind, ProblemKind::Unauthorized | ProblemKind::UnknownTopic) {
            // Of a single topic: whoever asks about that hears of it anyway.
            return;
        }
        if problem.fatal {
            // Nothing else is fatal to a client that has no group of its own.
            self.lookup.fail_all(OffsetsErrorKind::Unauthenticated, &problem.what);
        }
        self.lookup.handle_trouble(Some(problem.what.clone()));
        self.events.push_back(Event::Problem(problem));
    }

    fn handle_lookup_event(&mut self, now: Instant, event: LookupEvent<T>) {
        match event {
            LookupEvent::Answered { ticket, outcome } => self.events.push_back(Event::Answered { ticket, outcome }),
            LookupEvent::WatchTopics(named) => self.cluster.want_topics(now, Wanted { named, ..Wanted::default() }),
            LookupEvent::Coordinator(broker) => self.cluster.learn_broker(&broker),
            LookupEvent::RefreshMetadata => self.cluster.refresh_metadata(now, "an offset could not be looked up"),
        }
    }
}
