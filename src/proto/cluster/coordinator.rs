//! Who coordinates the group: one search at a time, which nobody can cancel and which never ends but with an answer.
//!
//! ```text
//! Unwanted ──► Searching ──► Connecting ──► Known
//!                 ▲  ▲            │            │
//!                 │  └────────────┘            │   the connection ended, or the group says that it was
//!                 └────────────────────────────┘   the wrong one
//! ```

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{ClusterConfig, Complaint, Pace};
use crate::{
    model::BrokerId,
    proto::{
        CallError, Deadline, Problem, ProblemKind,
        backoff::{Backoff, Rng},
    },
    wire::{Broker, CoordinatorResponse, ErrorCode},
};

/// How long the coordinator cannot be found before the user hears of it. It is longer than a cluster needs to notice a dead broker and
/// elect another.
const LOST_AFTER: Duration = Duration::from_secs(12);
/// How long to wait for a connection before asking whether it is still the one: of a dead host nothing comes back.
const RECHECK_AFTER: Duration = Duration::from_secs(3);
/// A refusal may be lifted, but hardly within a second.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// How long an answer may take at first; each search that fails gives the next one twice the time.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Coordinator {
    group: Option<Arc<str>>,
    request_timeout: Duration,
    state: State,
    /// When to ask for it next; `None` while that is not needed.
    due: Option<Instant>,
    asked: bool,
    searches: Pace,
    refusals: Backoff,
    /// How many searches in a row got no answer.
    unanswered: u32,
    /// Since when it is wanted and not known.
    missing_since: Option<Instant>,
    trouble: Complaint,
    problems: VecDeque<Problem>,
}

enum State {
    Unwanted,
    Searching,
    Connecting { broker: Broker },
    Known { broker: Broker },
}

/// What the answer to a search calls for.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Open the connection for it; the old one, if any, is of no use.
    Open(Broker),
    /// Another broker may know better, and newer metadata may name one.
    AskAnother,
    Nothing,
}

impl Coordinator {
    pub(super) fn new(config: &ClusterConfig) -> Self {
        Self {
            group: config.group.clone(),
            request_timeout: config.request_timeout,
            state: State::Unwanted,
            due: None,
            asked: false,
            searches: Pace::new(config.retry_backoff, config.retry_backoff_max),
            refusals: Backoff::new(REFUSED.0, REFUSED.1),
            unanswered: 0,
            missing_since: None,
            trouble: Complaint::default(),
            problems: VecDeque::new(),
        }
    }

    /// The coordinator, when its connection is Ready.
    pub(super) fn known(&self) -> Option<BrokerId> {
        match &self.state {
            State::Known { broker } => Some(broker.id),
            _ => None,
        }
    }

    /// The broker that was last said to be the coordinator.
    pub(super) fn broker(&self) -> Option<&Broker> {
        match &self.state {
            State::Known { broker } | State::Connecting { broker } => Some(broker),
            State::Unwanted | State::Searching => None,
        }
    }

    pub(super) fn want(&mut self, now: Instant, rng: &mut Rng) {
        if matches!(self.state, State::Unwanted) && self.group.is_some() {
            self.search(now, rng);
        }
    }

    /// Its connection is Ready.
    pub(super) fn handle_ready(&mut self) -> Option<BrokerId> {
        let State::Connecting { broker } = std::mem::replace(&mut self.state, State::Searching) else { return None };
        let id = broker.id;
        tracing::debug!(broker = id.0, "coordinator found");
        self.state = State::Known { broker };
        self.due = None;
        self.missing_since = None;
        self.trouble.is_over();
        Some(id)
    }

    /// Its connection ended, or the group found that it is the wrong one. `true`: it was known until now.
    pub(super) fn handle_lost(&mut self, now: Instant, why: &str, rng: &mut Rng) -> bool {
        match std::mem::replace(&mut self.state, State::Searching) {
            State::Known { broker } => {
                tracing::debug!(broker = broker.id.0, why, "coordinator lost");
                if !planted!(LeaveCoordinatorUnknown) {
                    self.search(now, rng);
                }
                true
            }
            State::Connecting { broker } => {
                self.search(now, rng);
                let group = self.group.as_deref().unwrap_or_default();
                let what =
                    format!("cannot connect to broker {}, the coordinator of group {group}, still trying: {why}", broker.id.0);
                self.complain_if_it_lasts(now, None, what);
                false
            }
            before @ (State::Unwanted | State::Searching) => {
                self.state = before;
                false
            }
        }
    }

    /// The group to ask about now, if it is time, with the time the answer may take.
    #[must_use]
    pub(super) fn poll_request(&mut self, now: Instant) -> Option<(Arc<str>, Duration)> {
        self.poll_timeout().filter(|(at, _)| *at <= now)?;
        let group = self.group.clone()?;
        self.asked = true;
        self.due = None;
        Some((group, PATIENCE.saturating_mul(1 << self.unanswered.min(8)).min(self.request_timeout)))
    }

    pub(super) fn handle_answer(&mut self, now: Instant, answer: Result<CoordinatorResponse, CallError>, rng: &mut Rng) -> Found {
        self.asked = false;
        if matches!(self.state, State::Unwanted | State::Known { .. }) {
            return Found::Nothing;
        }
        let group = self.group.clone().unwrap_or_default();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.handle_failure(now, &error, rng);
                return if self.due.is_some() { Found::AskAnother } else { Found::Nothing };
            }
        };
        self.unanswered = 0;
        let said = match &answer.message {
            Some(message) if !message.is_empty() => format!("{} ({message})", answer.error),
            _ => answer.error.to_string(),
        };
        match (answer.error, answer.coordinator) {
            (ErrorCode::NONE, Some(broker)) => {
                self.refusals.reset();
                self.due = Some(now + RECHECK_AFTER);
                if self.broker() == Some(&broker) {
                    return Found::Nothing;
                }
                self.state = State::Connecting { broker: broker.clone() };
                Found::Open(broker)
            }
            (ErrorCode::GROUP_AUTHORIZATION_FAILED, _) => {
                self.due = Some(now + self.refusals.fail(rng));
                if self.trouble.is_news(now, ProblemKind::Unauthorized) {
                    let what = format!("this user may not use group {group}: {said}, still asking; allow Read on the group");
                    self.tell(ProblemKind::Unauthorized, Some(answer.error), what, false);
                }
                Found::Nothing
            }
            (error @ (ErrorCode::INVALID_GROUP_ID | ErrorCode::UNSUPPORTED_VERSION), _) => {
                let kind = match error {
                    ErrorCode::INVALID_GROUP_ID => ProblemKind::GroupRefused,
                    _ => ProblemKind::Incompatible,
                };
                self.give_up(kind, Some(error), format!("the broker refuses to name a coordinator for group {group:?}: {said}"));
                Found::Nothing
            }
            (error, _) => {
                self.search(now, rng);
                let what = format!("the coordinator of group {group} cannot be found, still trying: the brokers say {said}");
                self.complain_if_it_lasts(now, Some(error), what);
                Found::AskAnother
            }
        }
    }

    #[must_use]
    pub(super) fn poll_problem(&mut self) -> Option<Problem> {
        self.problems.pop_front()
    }

    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        if self.asked { None } else { self.due.map(|at| (at, "coordinator search")) }
    }

    fn handle_failure(&mut self, now: Instant, error: &CallError, rng: &mut Rng) {
        let group = self.group.clone().unwrap_or_default();
        match error {
            CallError::Unsupported { .. } => {
                let what =
                    format!("the broker cannot name a coordinator for group {group}: {error}; ottla needs Kafka 0.11 or newer");
                self.give_up(ProblemKind::Incompatible, None, what);
            }
            CallError::Malformed(_) => {
                self.search(now, rng);
                if self.trouble.is_news(now, ProblemKind::Protocol) {
                    let what = format!("cannot learn who coordinates group {group}, still trying: {error}");
                    self.tell(ProblemKind::Protocol, None, what, false);
                }
            }
            // That no broker can be reached is the router's to tell.
            CallError::NotSent(_) | CallError::Lost(_) => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.search(now, rng);
            }
        }
    }

    /// Plans the next question: at once after a calm time. A connection that is being opened meanwhile goes on.
    fn search(&mut self, now: Instant, rng: &mut Rng) {
        if !matches!(self.state, State::Connecting { .. }) {
            self.state = State::Searching;
        }
        self.missing_since.get_or_insert(now);
        self.due = Some(self.searches.next(now, rng));
    }

    fn give_up(&mut self, kind: ProblemKind, code: Option<ErrorCode>, what: String) {
        self.state = State::Unwanted;
        self.due = None;
        self.tell(kind, code, what, true);
    }

    fn complain_if_it_lasts(&mut self, now: Instant, code: Option<ErrorCode>, what: String) {
        let lasts = self.missing_since.is_some_and(|since| since + LOST_AFTER <= now);
        if lasts && self.trouble.is_news(now, ProblemKind::Unreachable) {
            self.tell(ProblemKind::Unreachable, code, what, false);
        }
    }

    fn tell(&mut self, kind: ProblemKind, code: Option<ErrorCode>, what: String, fatal: bool) {
        self.problems.push_back(Problem { kind, partition: None, code, what, fatal });
    }
}
