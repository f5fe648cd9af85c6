//! What the coordinator's answers do.

use std::time::{Duration, Instant};

use tracing::{debug, info, trace};

use super::{Call, Kind, Kip848, Leaving, State, Untold, errors, errors::Reaction};
use crate::{
    proto::{Answer, CallError, ProblemKind, group::GroupEvent, invariant},
    wire::{ConsumerHeartbeatResponse, ErrorCode, Response},
};

impl Kip848 {
    pub(crate) fn handle_answer(&mut self, now: Instant, number: u64, answer: Answer) {
        let Some(call) = self.call.take_if(|call| call.number == number) else {
            trace!(group = %self.config.group, number, "an answer that nobody waits for");
            return;
        };
        match (call.kind, answer) {
            (Kind::Leave, Ok(Response::ConsumerGroupHeartbeat(answer))) => self.on_left(now, answer.error),
            (Kind::Leave, _) => self.leave_again(now),
            (_, Ok(Response::ConsumerGroupHeartbeat(answer))) => self.on_beat(now, &call, answer),
            (_, Ok(_)) => {
                invariant!(false, "an answer of another API to a heartbeat");
                self.on_failure(now, &call, &CallError::Lost("an answer of another API came".to_owned()));
            }
            (_, Err(error)) => self.on_failure(now, &call, &error),
        }
        self.settle(now);
    }

    fn on_beat(&mut self, now: Instant, call: &Call, answer: ConsumerHeartbeatResponse) {
        let awaited = match call.kind {
            Kind::Join => matches!(self.state, State::Unjoined),
            Kind::Beat | Kind::Leave => self.is_member(),
        };
        if !awaited || call.sent != self.membership {
            debug!(group = %self.config.group, code = %answer.error, "a late answer");
            self.untold.everything = true;
            return;
        }
        // Not the answer's time counts but the question's: a process that was stopped in between reads it long after.
        let expires_at = call.sent_at + self.config.session_timeout;
        match errors::heartbeat(answer.error) {
            // The session has ended again, and what it brought is another's.
            _ if expires_at <= now => self.try_again(now, "a heartbeat was answered a session after it was sent"),
            Reaction::Done if answer.epoch.0 <= 0 => {
                let what = format!("in group {}: a heartbeat was answered with epoch {}", self.config.group, answer.epoch.0);
                self.say(now, ProblemKind::Protocol, None, what);
                self.try_again(now, "a heartbeat was answered without an epoch");
            }
            Reaction::Done => {
                self.expires_at = self.expires_at.max(Some(expires_at));
                self.on_alive(now, call, answer);
            }
            reaction => self.on_refused(now, call, &answer, reaction),
        }
    }

    fn on_alive(&mut self, now: Instant, call: &Call, answer: ConsumerHeartbeatResponse) {
        self.backoff.reset();
        self.lasting.reset();
        // One that gets lost must not end a session that the user made short.
        self.interval = answer.heartbeat_interval.unwrap_or(self.interval).min(self.config.session_timeout / 3);
        self.next_at = Some(call.sent_at + self.interval);
        if call.kind == Kind::Join {
            info!(group = %self.config.group, member_id = %self.membership.member_id, epoch = answer.epoch.0, "joined");
            self.state = State::Member { is_said: false };
            self.untold = Untold { topics: self.untold.topics, pattern: self.untold.pattern, ..Untold::default() };
        }
        self.membership.generation = answer.epoch;
        if let Some(assignment) = answer.assignment {
            let partitions = |(id, numbers): (_, Vec<i32>)| numbers.into_iter().map(move |number| (id, number));
            self.target = assignment.into_iter().flat_map(partitions).collect();
            // Also where nothing changes the coordinator waits to hear so.
            self.untold.owned = true;
            self.voice.forget();
        }
        self.reconcile(now);
        // What has changed, before or meanwhile, is said at once.
        let may_say_what_is_owned = matches!(self.state, State::Member { .. });
        let Untold { everything, topics, pattern, owned } = self.untold;
        if everything || topics || pattern || owned && may_say_what_is_owned {
            self.beat_at(now);
        }
    }

    fn on_refused(&mut self, now: Instant, call: &Call, answer: &ConsumerHeartbeatResponse, reaction: Reaction) {
        let (code, message) = (answer.error, answer.message.as_deref());
        let why = format!("a heartbeat was answered with {code}");
        match reaction {
            Reaction::Done | Reaction::BackOff => self.try_again(now, &why),
            Reaction::FindCoordinator => {
                self.try_again(now, &why);
                if call.found == self.found {
                    self.coordinator_lost(why);
                }
            }
            Reaction::Rejoin => self.rejoin_soon(now, &why),
            Reaction::RejoinAsNew => self.rejoin_as_new(now, &why),
            Reaction::FallBack if call.kind != Kind::Join => self.rejoin_as_new(now, &why),
            Reaction::FallBack if self.may_fall_back() => self.fall_back(&why),
            Reaction::FallBack => self.refuse(ProblemKind::Incompatible, code, message),
            Reaction::Lasting(kind) => {
                let what = errors::explain(code, message, &self.config, self.pattern.as_deref());
                self.say(now, kind, Some(code), what);
                self.untold.everything = true;
                self.next_at = Some(now + self.lasting.fail(&mut self.rng));
            }
            Reaction::Fatal(kind) => self.refuse(kind, code, message),
        }
    }

    /// There is no answer: what was said may not have been heard.
    fn on_failure(&mut self, now: Instant, call: &Call, error: &CallError) {
        self.untold.everything = true;
        let why = format!("a heartbeat of group {} got no answer: {error}", self.config.group);
        match error {
            CallError::Unsupported { .. } if self.is_over() || matches!(self.state, State::Leaving(_)) => return,
            CallError::Unsupported { .. } if call.kind != Kind::Join => return self.rejoin_as_new(now, &why),
            CallError::Unsupported { .. } if self.may_fall_back() => return self.fall_back(&why),
            CallError::Unsupported { .. } => {
                let what = format!(
                    "group {} cannot be joined by the consumer protocol (KIP-848): {error}; upgrade the brokers to Kafka 4.0, or {}",
                    self.config.group,
                    errors::instead(self.pattern.as_deref())
                );
                return self.fail(ProblemKind::Incompatible, None, what);
            }
            CallError::Malformed(_) if !self.is_over() => {
                self.say(now, ProblemKind::Protocol, None, format!("in group {}: {error}", self.config.group));
            }
            _ => {}
        }
        self.try_again(now, &why);
        if call.found == self.found {
            self.coordinator_lost(why);
        }
    }

    fn try_again(&mut self, now: Instant, why: &str) {
        debug!(group = %self.config.group, why, "trying again");
        self.untold.everything = true;
        self.next_at = Some(now + self.backoff.fail(&mut self.rng));
    }

    fn fall_back(&mut self, why: &str) {
        info!(group = %self.config.group, why, "the group is joined by the classic protocol");
        self.events.push_back(GroupEvent::OtherProtocol);
    }

    fn rejoin_as_new(&mut self, now: Instant, why: &str) {
        self.rejoin_soon(now, why);
        self.forget_membership(false);
    }

    /// The first time at once; a coordinator that fences again and again is not asked without end.
    fn rejoin_soon(&mut self, now: Instant, why: &str) {
        let wait = self.backoff.fail(&mut self.rng);
        self.rejoin(now, why, if self.backoff.failures() == 1 { Duration::ZERO } else { wait });
    }

    fn on_left(&mut self, now: Instant, code: ErrorCode) {
        match errors::heartbeat(code) {
            Reaction::FindCoordinator => {
                self.coordinator_lost(format!("leaving was answered with {code}"));
                self.leave_again(now);
            }
            Reaction::BackOff => self.leave_again(now),
            // Gone already, or never to be done: leaving is a courtesy, nobody waits for it.
            _ => {
                if let State::Leaving(Leaving { then, .. }) = self.state {
                    info!(group = %self.config.group, %code, "left the group");
                    self.finish_leaving(now, then);
                }
            }
        }
    }

    /// Tries a second and last time to leave.
    fn leave_again(&mut self, now: Instant) {
        let State::Leaving(leaving) = &mut self.state else { return };
        if std::mem::replace(&mut leaving.retried, true) {
            let then = leaving.then;
            self.finish_leaving(now, then);
        } else {
            leaving.due = Some(now + self.config.retry_backoff);
        }
    }
}
