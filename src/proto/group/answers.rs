//! What the coordinator's answers do.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use tracing::{debug, info, trace, warn};

use super::{
    GroupEvent,
    classic::{Call, Classic, Kind, Last, Pace},
    errors::{self, Reaction},
    leader::{Plan, Roster, Snapshot},
    state::{Lead, LeaveStep, Leaving, Round, State, Sync},
};
use crate::{
    model::{Generation, TopicPartition},
    proto::{Answer, CallError, Membership, ProblemKind, invariant},
    wire::{ErrorCode, JoinGroupResponse, LeaveGroupResponse, PROTOCOL_TYPE, Response, SyncGroupResponse, decode_assignment},
};

/// Of the random part of a member id.
const UUID_LENGTH: usize = 36;

impl Classic {
    pub(crate) fn handle_answer(&mut self, now: Instant, number: u64, answer: Answer) {
        let Some(call) = self.calls.remove(&number) else {
            trace!(group = %self.config.group, number, "an answer that nobody waits for");
            return;
        };
        match (call.kind, answer) {
            (Kind::Join, Ok(Response::JoinGroup(response))) => self.on_join(now, number, &call, response),
            (Kind::Sync, Ok(Response::SyncGroup(response))) => self.on_sync(now, number, &call, response),
            (Kind::Heartbeat, Ok(Response::Heartbeat(code))) => self.on_heartbeat(now, &call, code),
            (Kind::Leave, Ok(Response::LeaveGroup(response))) => self.on_leave(now, number, &call, &response),
            (kind, Ok(_)) => {
                invariant!(false, "an answer of another API to {kind:?}");
                self.on_failure(now, number, &call, CallError::Lost("an answer of another API came".to_owned()));
            }
            (_, Err(error)) => self.on_failure(now, number, &call, error),
        }
        // While a join is under way no session ends, however long it takes; when it has come to nothing, one may long be over.
        self.expire(now);
        self.settle(now);
    }

    fn on_join(&mut self, now: Instant, number: u64, call: &Call, response: JoinGroupResponse) {
        if let State::Leaving(leaving) = &mut self.state
            && matches!(leaving.step, LeaveStep::AwaitJoin(awaited) if awaited == number)
        {
            if response.member_id.is_empty() {
                let then = leaving.then;
                self.finish_leaving(now, then);
            } else {
                // Now the coordinator knows us, or keeps a place for us: it can be told that we do not come.
                leaving.member_id = response.member_id;
                leaving.step = LeaveStep::Due(now);
            }
            return;
        }
        let State::Joining { call: awaited, topics } = &mut self.state else { return self.on_stale(call, response.error) };
        if *awaited != number {
            return self.on_stale(call, response.error);
        }
        let topics = std::mem::take(topics);
        match errors::join(response.error) {
            Reaction::Done => self.on_joined(now, topics, response),
            Reaction::AdoptMemberId if response.member_id.is_empty() => {
                self.advance(|_| State::Unjoined);
                self.on_nonsense(now, "JoinGroup asked for a member id and gave none".to_owned());
            }
            Reaction::AdoptMemberId => {
                // A coordinator that gives one id after the other would be asked for ever.
                let pace = if call.sent.member_id.is_empty() { Pace::Same } else { Pace::BackOff };
                self.membership = Membership { member_id: response.member_id, generation: Generation::NONE };
                self.schedule(now, pace, "the coordinator gave a member id".to_owned());
                self.advance(|_| State::Unjoined);
            }
            reaction => {
                self.advance(|_| State::Unjoined);
                self.on_refused(now, call, "JoinGroup", response.error, reaction);
            }
        }
    }

    fn on_joined(&mut self, now: Instant, topics: Vec<Arc<str>>, response: JoinGroupResponse) {
        if !is_ours(response.protocol_type.as_deref()) {
            return self.refuse(ProblemKind::GroupRefused, "JoinGroup", ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if response.member_id.is_empty() || response.generation < Generation(0) {
            self.advance(|_| State::Unjoined);
            return self.on_nonsense(now, "JoinGroup was answered without a member id or a generation".to_owned());
        }
        self.membership = Membership { member_id: response.member_id, generation: response.generation };
        self.pulse.start(now);
        let selected = response.protocol.as_deref().unwrap_or_default();
        let Some(assignor) = self.config.assignors.iter().find(|assignor| assignor.name() == selected).cloned() else {
            let what = format!(
                "the coordinator of group {} selected the assignor \"{selected}\", which we did not offer",
                self.config.group
            );
            return self.fail(ProblemKind::Protocol, None, what);
        };
        let is_leaderless = response.leader.is_empty();
        let leads = response.leader == self.membership.member_id || self.led_before(&response.leader);
        info!(
            group = %self.config.group, member_id = %self.membership.member_id, generation = response.generation.0, leads,
            assignor = selected, "joined"
        );
        if topics != self.subscription {
            self.schedule(now, self.changed, "the subscription has changed".to_owned());
            return self.advance(|_| State::Unjoined);
        }
        if leads && !response.members.is_empty() {
            let (roster, unreadable) = Roster::read(&response.members, &*assignor);
            for what in unreadable {
                warn!(group = %self.config.group, "{what}");
                self.say(now, ProblemKind::Protocol, None, format!("{what}; it is assigned nothing"));
            }
            let others = roster.topics().into_iter().filter(|topic| topics.binary_search(topic).is_err()).collect();
            self.watch(others);
            // Shorter than the followers wait for our SyncGroup, and than our session.
            let until = now + (self.config.request_timeout / 2).min(self.config.session_timeout / 2);
            let skip = response.skip_assignment;
            self.advance(|_| State::Assigning {
                round: Round { topics, assignor, lead: None, is_leaderless },
                roster,
                skip,
                until,
            });
            self.assign(false);
        } else {
            self.watch(Vec::new());
            // A leader without a roster came back under its instance id to a group that is stable: the assignment stands. It only has
            // to notice when that no longer fits, for nobody else does.
            let lead = leads.then(|| {
                let snapshot = Snapshot::take(topics.iter().cloned(), &self.topics, self.config.rack.is_some());
                Lead { snapshot, own_share: None }
            });
            self.advance(|_| State::Syncing {
                round: Round { topics, assignor, lead, is_leaderless },
                step: Sync::Due(Vec::new()),
            });
        }
    }

    /// Whether `leader` was this static member before it came back under a new member id (brokers before JoinGroup version 9 still name
    /// the old one, made of the instance id and something random).
    fn led_before(&self, leader: &str) -> bool {
        let random =
            self.config.instance_id.as_deref().and_then(|instance_id| leader.strip_prefix(instance_id)?.strip_prefix('-'));
        random.is_some_and(|random| random.len() == UUID_LENGTH)
    }

    /// Assigns once every topic is known, or with what is known where there is no more time to wait.
    pub(super) fn assign(&mut self, waited_enough: bool) {
        let State::Assigning { round, roster, .. } = &self.state else { return };
        let wanted: BTreeSet<Arc<str>> = roster.topics();
        if !waited_enough && !self.topics.tell_all(&wanted) {
            return;
        }
        let snapshot = Snapshot::take(wanted, &self.topics, roster.has_racks());
        let plan = match Plan::make(&*round.assignor, roster, &snapshot) {
            Ok(plan) => plan,
            Err(wrong) => {
                let name = round.assignor.name();
                let what =
                    format!("the assignor \"{name}\" made an assignment for group {} that cannot be: {wrong}", self.config.group);
                return self.fail(ProblemKind::BadAssignment, None, what);
            }
        };
        debug!(group = %self.config.group, ?plan, "assigned");
        let own_share = plan.share(&self.membership.member_id);
        self.advance(|old| match old {
            State::Assigning { mut round, skip, .. } => {
                round.lead = Some(Lead { snapshot, own_share: skip.then_some(own_share) });
                State::Syncing { round, step: Sync::Due(if skip { Vec::new() } else { plan.encode() }) }
            }
            other => other,
        });
    }

    fn on_sync(&mut self, now: Instant, number: u64, call: &Call, response: SyncGroupResponse) {
        let State::Syncing { round, step: Sync::Asked(awaited) } = &self.state else {
            return self.on_stale(call, response.error);
        };
        if *awaited != number {
            return self.on_stale(call, response.error);
        }
        match errors::sync(response.error) {
            Reaction::Done => {}
            reaction => {
                self.advance(|_| State::Unjoined);
                return self.on_refused(now, call, "SyncGroup", response.error, reaction);
            }
        }
        let protocol_fits = response.protocol.as_deref().is_none_or(|protocol| protocol == round.assignor.name());
        if !is_ours(response.protocol_type.as_deref()) || !protocol_fits {
            return self.refuse(ProblemKind::GroupRefused, "SyncGroup", ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let partitions = if response.assignment.is_empty() {
            warn!(group = %self.config.group, "the group's leader left this member out: it gets nothing");
            Vec::new()
        } else {
            match decode_assignment(&response.assignment) {
                Ok((partitions, _)) => partitions,
                Err(error) => {
                    self.advance(|_| State::Unjoined);
                    return self.on_nonsense(now, format!("our assignment cannot be read: {error}"));
                }
            }
        };
        self.on_assigned(now, partitions);
    }

    fn on_assigned(&mut self, now: Instant, partitions: Vec<TopicPartition>) {
        let State::Syncing { round, .. } = &self.state else { return };
        let foreign = partitions.iter().find(|partition| round.topics.binary_search(partition.shared_topic()).is_err());
        let again = if round.topics != self.subscription {
            Some((self.changed, "the subscription has changed".to_owned()))
        } else {
            let why = |partition| format!("{partition} was assigned to us, but we did not subscribe to its topic");
            foreign.map(|partition| (Pace::AtOnce, why(partition)))
        };
        if let Some((pace, why)) = again {
            warn!(group = %self.config.group, %why, "the assignment is not taken");
            self.schedule(now, pace, why);
            return self.advance(|_| State::Unjoined);
        }
        let protocol: Arc<str> = round.assignor.name().into();
        let leader = round.lead.is_some();
        let outdated = round.lead.as_ref().and_then(|lead| lead.own_share.as_ref()).is_some_and(|share| *share != partitions);
        let Membership { member_id, generation } = self.membership.clone();
        let assigned: BTreeSet<_> = partitions.iter().cloned().collect();
        let mut back: Vec<_> = self.owned.difference(&assigned).cloned().collect();
        let is_leaderless = round.is_leaderless;
        // A coordinator that assigns waits for what is to be given back, in the generation in which it was given. Where it has gone on
        // without that, it did not know of it, and it may be another's already: a group that becomes one of KIP-848 in a rebalance
        // forgets who had what; and one that was empty meanwhile counts from the beginning, and takes in whoever joins.
        let is_known = self.last.is_leaderless || self.last.is_called_off;
        if is_leaderless && !(is_known && generation == self.last.generation) {
            self.lose_some(std::mem::take(&mut back), "the coordinator assigns now, and did not know that they were held");
        }
        let added: Vec<_> = assigned.difference(&self.owned).cloned().collect();
        let kept = self.owned.len() - back.len();
        info!(group = %self.config.group, %member_id, generation = generation.0, ?added, ?back, kept, "assigned");
        self.owned.extend(assigned);
        self.last = Last { generation, partitions, is_leaderless, is_called_off: false };
        self.forget_problems();
        self.events.push_back(GroupEvent::Assigned { generation, member_id, protocol, leader, partitions: added });
        self.advance(|old| match old {
            State::Syncing { round, .. } => State::Stable { round, since: now },
            other => other,
        });
        if !back.is_empty() {
            let count = back.len();
            let why = format!("{count} of its partitions are to be others': released, they can be assigned");
            self.hand_back(now, back, Pace::AtOnce, why);
        } else if outdated {
            let why = "the assignment that the coordinator kept for us no longer fits the topics";
            self.rebalance(now, Pace::AtOnce, why.to_owned());
        } else {
            self.compare_snapshot(now);
        }
    }

    /// As leader: rebalances if the topics are no longer what was assigned. Not while the coordinator is unknown: nothing is gained by
    /// handing partitions back before the group can meet.
    pub(super) fn compare_snapshot(&mut self, now: Instant) {
        if !self.coordinator.known {
            return;
        }
        let State::Stable { round: Round { lead: Some(lead), .. }, .. } = &self.state else { return };
        if let Some(change) = lead.snapshot.change(&self.topics) {
            self.rebalance(now, Pace::AtOnce, change);
        }
    }

    fn on_heartbeat(&mut self, now: Instant, call: &Call, code: ErrorCode) {
        let reaction = errors::heartbeat(code);
        if call.sent != self.membership {
            if reaction == Reaction::FindCoordinator {
                self.coordinator_lost_by(call, format!("a heartbeat was answered with {code}"));
            }
            return;
        }
        match reaction {
            Reaction::Done => self.pulse.alive(call.sent_at),
            Reaction::Rejoin => {
                self.pulse.alive(call.sent_at);
                self.last.is_called_off = true;
                self.rebalance(now, Pace::AtOnce, "the group is rebalancing".to_owned());
            }
            Reaction::BackOff => self.pulse.failed(now, &mut self.rng),
            Reaction::FindCoordinator => {
                self.pulse.failed(now, &mut self.rng);
                self.coordinator_lost_by(call, format!("a heartbeat was answered with {code}"));
            }
            Reaction::Lasting(kind) => {
                let what = errors::explain("a heartbeat", code, &self.config);
                self.say(now, kind, Some(code), what);
            }
            Reaction::ResetGeneration => self.reset(now, true, format!("a heartbeat was answered with {code}")),
            Reaction::ResetMember => self.reset(now, false, format!("a heartbeat was answered with {code}")),
            Reaction::Fatal(kind) if !self.state.is_over() => self.refuse(kind, "a heartbeat", code),
            Reaction::Fatal(_) | Reaction::AdoptMemberId | Reaction::OtherProtocol | Reaction::Ignore => {}
        }
    }

    fn on_leave(&mut self, now: Instant, number: u64, call: &Call, response: &LeaveGroupResponse) {
        let State::Leaving(Leaving { step: LeaveStep::Asked(awaited), then, .. }) = &self.state else { return };
        if *awaited != number {
            return;
        }
        match errors::leave(response.error) {
            Reaction::FindCoordinator => {
                self.coordinator_lost_by(call, format!("LeaveGroup was answered with {}", response.error));
                self.leave_again(now);
            }
            Reaction::BackOff => self.leave_again(now),
            _ => {
                let then = *then;
                let member_error = response.members.iter().map(|(_, code)| *code).find(|&code| code != ErrorCode::NONE);
                let code = if response.error == ErrorCode::NONE { member_error } else { Some(response.error) };
                info!(group = %self.config.group, ?code, "left the group");
                self.finish_leaving(now, then);
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
            leaving.step = LeaveStep::Due(now + self.config.retry_backoff);
        }
    }

    /// There is no answer.
    fn on_failure(&mut self, now: Instant, number: u64, call: &Call, error: CallError) {
        let why = format!("{:?} of group {} got no answer: {error}", call.kind, self.config.group);
        let awaited = match &self.state {
            State::Joining { call, .. }
            | State::Syncing { step: Sync::Asked(call), .. }
            | State::Leaving(Leaving { step: LeaveStep::Asked(call) | LeaveStep::AwaitJoin(call), .. }) => *call == number,
            _ => call.kind == Kind::Heartbeat,
        };
        match &error {
            CallError::Unsupported { .. } if call.kind != Kind::Leave && !self.state.is_over() => {
                return self.fail(ProblemKind::Incompatible, None, format!("no group without {:?}: {error}", call.kind));
            }
            CallError::Malformed(_) if awaited && !self.state.is_over() => {
                self.say(now, ProblemKind::Protocol, None, format!("in group {}: {error}", self.config.group));
            }
            _ => {}
        }
        self.coordinator_lost_by(call, why.clone());
        match (call.kind, &self.state) {
            (Kind::Heartbeat, _) => self.pulse.failed(now, &mut self.rng),
            (Kind::Join, State::Leaving(leaving)) if awaited => {
                let then = leaving.then;
                self.finish_leaving(now, then);
            }
            (Kind::Leave, State::Leaving(_)) if awaited => self.leave_again(now),
            (Kind::Join | Kind::Sync, _) if awaited => {
                self.schedule(now, Pace::BackOff, why);
                self.advance(|_| State::Unjoined);
            }
            _ => {}
        }
    }

    /// JoinGroup or SyncGroup was refused; the round is over, and what is held through it is held on, unless it is said to be lost.
    fn on_refused(&mut self, now: Instant, call: &Call, tried: &str, code: ErrorCode, reaction: Reaction) {
        let why = format!("{tried} was answered with {code}");
        match reaction {
            Reaction::ResetGeneration => self.reset(now, true, why),
            Reaction::ResetMember => self.reset(now, false, why),
            Reaction::Rejoin => self.schedule(now, Pace::AtOnce, why),
            Reaction::FindCoordinator => {
                self.coordinator_lost_by(call, why.clone());
                self.schedule(now, Pace::BackOff, why);
            }
            Reaction::Lasting(kind) => {
                let what = errors::explain(tried, code, &self.config);
                self.say(now, kind, Some(code), what);
                self.schedule(now, Pace::Slow, why);
            }
            Reaction::OtherProtocol if self.may_change_protocol() => {
                info!(group = %self.config.group, %why, "the group is joined by the consumer protocol");
                self.lose(&why);
                self.forget_membership(false);
                self.watch(Vec::new());
                self.schedule(now, Pace::BackOff, why);
                self.events.push_back(GroupEvent::OtherProtocol);
            }
            Reaction::OtherProtocol => self.refuse(ProblemKind::GroupRefused, tried, code),
            Reaction::Fatal(kind) => self.refuse(kind, tried, code),
            Reaction::BackOff | Reaction::Done | Reaction::AdoptMemberId | Reaction::Ignore => {
                self.schedule(now, Pace::BackOff, why)
            }
        }
    }

    /// An answer that no correct broker gives, or an assignment that no correct leader makes.
    fn on_nonsense(&mut self, now: Instant, what: String) {
        warn!(group = %self.config.group, "{what}");
        self.say(now, ProblemKind::Protocol, None, format!("in group {}: {what}", self.config.group));
        self.schedule(now, Pace::BackOff, what);
    }

    /// JoinGroup or SyncGroup was answered after the member went on without it.
    fn on_stale(&mut self, call: &Call, code: ErrorCode) {
        debug!(group = %self.config.group, kind = ?call.kind, %code, "a late answer");
        // This one alone does not age: the name is another's now.
        if code == ErrorCode::FENCED_INSTANCE_ID && !self.state.is_over() {
            self.refuse(ProblemKind::Fenced, "a late answer", code);
        }
    }
}

/// Old brokers do not say the protocol type.
fn is_ours(protocol_type: Option<&str>) -> bool {
    protocol_type.is_none_or(|protocol_type| protocol_type == PROTOCOL_TYPE)
}
