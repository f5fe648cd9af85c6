//! A member of a consumer group, and its way from what it has to what it shall have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::{ResponseError, protocol::StrBytes};
use regex::Regex;
use uuid::Uuid;

use super::TopicPartitions;

/// Partitions by topic, each with the epoch it was assigned in.
type Held = BTreeMap<Uuid, BTreeMap<i32, i32>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has what its epoch's target says.
    Stable,
    /// It has yet to give up partitions.
    Unrevoked,
    /// Others have yet to give up partitions that it shall have.
    Unreleased,
}

#[derive(Clone, Debug)]
pub(in super::super) struct Member {
    pub(in super::super) id: StrBytes,
    pub(in super::super) instance_id: Option<StrBytes>,
    pub(in super::super) rack_id: Option<StrBytes>,
    pub(in super::super) client_id: StrBytes,
    pub(in super::super) epoch: i32,
    pub(super) previous_epoch: i32,
    state: State,
    pub(in super::super) rebalance_timeout: Duration,
    pub(in super::super) names: BTreeSet<String>,
    pub(super) regex: Option<Subscription>,
    pub(super) assignor: Option<StrBytes>,
    /// How it speaks if it keeps to the classic protocol; the others do not.
    pub(in super::super) classic: Option<Classic>,
    assigned: Held,
    revoking: Held,
}

/// What is known of a member that speaks the classic protocol.
#[derive(Clone, Debug)]
pub(in super::super) struct Classic {
    pub(in super::super) session_timeout: Duration,
    /// What it offers, the best first.
    pub(in super::super) protocols: Vec<(StrBytes, Bytes)>,
}

/// A subscription by pattern.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) pattern: StrBytes,
    regex: Regex,
}

/// What a member is to be led to, and what stands in its way.
pub(super) struct Plan<'a> {
    pub(super) target: &'a TopicPartitions,
    pub(super) target_epoch: i32,
    /// The topics that it wants, as far as they exist.
    pub(super) subscribed: &'a BTreeSet<Uuid>,
    /// Partitions that other members have, or have yet to give up.
    pub(super) taken: &'a BTreeSet<(Uuid, i32)>,
    /// What it says it has, if it says so.
    pub(super) owned: Option<&'a TopicPartitions>,
    pub(super) has_subscription_changed: bool,
}

impl Subscription {
    /// Reads a pattern, which is to match whole names.
    pub(super) fn parse(pattern: &StrBytes) -> Option<Self> {
        let regex = Regex::new(&format!("^(?:{})$", pattern.as_str())).ok()?;
        Some(Self { pattern: pattern.clone(), regex })
    }
}

impl Member {
    pub(in super::super) fn new(id: StrBytes) -> Self {
        Self {
            id,
            instance_id: None,
            rack_id: None,
            client_id: StrBytes::default(),
            epoch: 0,
            previous_epoch: -1,
            state: State::Stable,
            rebalance_timeout: Duration::ZERO,
            names: BTreeSet::new(),
            regex: None,
            assignor: None,
            classic: None,
            assigned: Held::new(),
            revoking: Held::new(),
        }
    }

    /// Lets it have what it was given in a classic group, in the generation that is its epoch now.
    pub(in super::super) fn settle(&mut self, epoch: i32, assigned: &TopicPartitions) {
        let held = |numbers: &BTreeSet<i32>| numbers.iter().map(|number| (*number, epoch)).collect();
        self.assigned = assigned.iter().map(|(topic, numbers)| (*topic, held(numbers))).collect();
        self.epoch = epoch;
        self.previous_epoch = epoch;
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.names.contains(topic) || self.regex.as_ref().is_some_and(|of| of.regex.is_match(topic))
    }

    pub(in super::super) fn pattern(&self) -> Option<&StrBytes> {
        self.regex.as_ref().map(|of| &of.pattern)
    }

    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == State::Stable && self.epoch == epoch
    }

    pub(super) fn is_revoking(&self) -> bool {
        self.state == State::Unrevoked
    }

    pub(super) fn waits_for_others(&self) -> bool {
        self.state == State::Unreleased
    }

    /// How it is told that its epoch is not the one that it names.
    pub(super) fn stale(&self) -> ResponseError {
        if self.classic.is_some() { ResponseError::IllegalGeneration } else { ResponseError::StaleMemberEpoch }
    }

    /// What it has, apart from what it is to give up.
    pub(in super::super) fn assignment(&self) -> TopicPartitions {
        self.assigned.iter().map(|(topic, held)| (*topic, held.keys().copied().collect())).collect()
    }

    /// All that nobody else may have yet.
    pub(super) fn holdings(&self) -> impl Iterator<Item = (Uuid, i32)> {
        let held = self.assigned.iter().chain(&self.revoking);
        held.flat_map(|(topic, held)| held.keys().map(|number| (*topic, *number)))
    }

    /// Says since which epoch a partition is in its hands.
    pub(super) fn held_since(&self, topic: Uuid, number: i32) -> Option<i32> {
        let of = |held: &Held| held.get(&topic)?.get(&number).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// Leaves for a while, as a static member may: what it has is kept for it, what it was to give up is free.
    pub(super) fn step_out(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self.revoking.clear();
        self.assigned.values_mut().flat_map(BTreeMap::values_mut).for_each(|since| *since = 0);
    }

    /// Goes on towards the target as far as is possible now; says whether that is a step.
    pub(super) fn reconcile(&mut self, plan: &Plan<'_>) -> bool {
        match self.state {
            State::Stable if self.epoch != plan.target_epoch => self.advance(plan),
            State::Unrevoked if !owns_any(plan.owned, &self.revoking) => self.advance(plan),
            State::Unreleased => self.advance(plan),
            State::Stable | State::Unrevoked if plan.has_subscription_changed => return self.drop_unsubscribed(plan),
            State::Stable | State::Unrevoked => return false,
        }
        true
    }

    fn advance(&mut self, plan: &Plan<'_>) {
        let mut kept = Held::new();
        let mut revoking = Held::new();
        for (topic, held) in &self.assigned {
            for (number, since) in held {
                let is_wanted = plan.wants(*topic, *number);
                let to = if is_wanted { &mut kept } else { &mut revoking };
                to.entry(*topic).or_default().insert(*number, *since);
            }
        }
        if !revoking.is_empty() && owns_any(plan.owned, &revoking) {
            self.state = State::Unrevoked;
            self.previous_epoch = self.epoch;
            self.assigned = kept;
            self.revoking = revoking;
            return;
        }
        let mut is_held_up = false;
        for (topic, numbers) in plan.target.iter().filter(|(topic, _)| plan.subscribed.contains(*topic)) {
            for number in numbers {
                if plan.taken.contains(&(*topic, *number)) {
                    is_held_up = true;
                } else {
                    kept.entry(*topic).or_default().entry(*number).or_insert(plan.target_epoch);
                }
            }
        }
        self.state = if is_held_up { State::Unreleased } else { State::Stable };
        self.previous_epoch = self.epoch;
        self.epoch = plan.target_epoch;
        self.assigned = kept;
        self.revoking.clear();
    }

    /// Takes away at once what it does not want any more, whatever the target says.
    fn drop_unsubscribed(&mut self, plan: &Plan<'_>) -> bool {
        let unwanted: Vec<_> = self.assigned.keys().filter(|topic| !plan.subscribed.contains(*topic)).copied().collect();
        if unwanted.is_empty() {
            return false;
        }
        let mut revoking = self.revoking.clone();
        for topic in unwanted {
            let held = self.assigned.remove(&topic).unwrap_or_default();
            revoking.entry(topic).or_default().extend(held);
        }
        self.previous_epoch = self.epoch;
        if owns_any(plan.owned, &revoking) {
            self.state = State::Unrevoked;
            self.revoking = revoking;
        }
        true
    }
}

impl Plan<'_> {
    fn wants(&self, topic: Uuid, number: i32) -> bool {
        self.subscribed.contains(&topic) && self.target.get(&topic).is_some_and(|numbers| numbers.contains(&number))
    }
}

/// Says whether a member may still have any of these; it may if it does not say what it has.
fn owns_any(owned: Option<&TopicPartitions>, held: &Held) -> bool {
    let Some(owned) = owned else { return true };
    held.iter().any(|(topic, held)| owned.get(topic).is_some_and(|owned| held.keys().any(|number| owned.contains(number))))
}
