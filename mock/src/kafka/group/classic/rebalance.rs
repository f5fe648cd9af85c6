//! From one generation to the next.

use std::time::Duration;

use indexmap::IndexMap;
use kafka_protocol::{ResponseError, protocol::StrBytes};

use super::{ClassicGroup, InitialDelay, State, Timer};
use crate::kafka::{Context, message::Event};

impl ClassicGroup {
    pub(in super::super) fn tick(&mut self, cx: &mut Context<'_>) {
        while let Some(timer) = self.timers.pop_due(cx.now) {
            match timer {
                Timer::Join => self.end_join_phase(cx),
                Timer::Sync => self.give_up_pending_syncs(cx),
                Timer::Session(member_id) => self.end_session(cx, &member_id),
            }
        }
    }

    /// Makes everybody join again.
    pub(in super::super) fn rebalance_or_complete(&mut self, cx: &mut Context<'_>) {
        if self.state == State::Preparing { self.complete_if_all_joined(cx) } else { self.prepare_rebalance(cx) }
    }

    pub(in super::super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>) {
        if self.state == State::Completing {
            for member in self.members.values_mut() {
                member.assignment.clear();
                if member.syncing.is_some() {
                    member.refuse_sync(cx, ResponseError::RebalanceInProgress);
                    self.timers.set(Timer::Session(member.id.clone()), cx.now + member.session_timeout);
                }
            }
        }
        self.pending_syncs.clear();
        self.timers.cancel(&Timer::Sync);
        let is_initial = self.state == State::Empty;
        self.enter(cx.now, State::Preparing);
        if is_initial {
            let delay = cx.settings.group_initial_rebalance_delay;
            self.initial = Some(InitialDelay { delay, remaining: self.rebalance_timeout().saturating_sub(delay) });
            self.timers.set(Timer::Join, cx.now + delay);
        } else if self.have_all_joined() {
            self.complete_join(cx);
        } else {
            self.timers.set(Timer::Join, cx.now + self.rebalance_timeout());
        }
    }

    pub(super) fn complete_if_all_joined(&mut self, cx: &mut Context<'_>) {
        // An empty group waits out its delay, however many have come.
        if self.state == State::Preparing && self.previous != State::Empty && self.have_all_joined() {
            self.complete_join(cx);
        }
    }

    fn end_join_phase(&mut self, cx: &mut Context<'_>) {
        match self.initial {
            Some(InitialDelay { delay, remaining }) if self.is_new_member_added && !remaining.is_zero() => {
                self.is_new_member_added = false;
                let next = cx.settings.group_initial_rebalance_delay.min(remaining);
                self.initial = Some(InitialDelay { delay: next, remaining: remaining.saturating_sub(delay) });
                self.timers.set(Timer::Join, cx.now + next);
            }
            _ => self.complete_join(cx),
        }
    }

    fn complete_join(&mut self, cx: &mut Context<'_>) {
        self.initial = None;
        self.timers.cancel(&Timer::Join);
        // Static members stay until their session ends: they may have gone only to come back.
        let absent = self.members.values().filter(|member| member.joining.is_none() && member.instance_id.is_none());
        for member_id in absent.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(cx, &member_id, "did not rejoin in time");
        }
        if !self.elect_leader() {
            self.timers.set(Timer::Join, cx.now + self.rebalance_timeout().max(Duration::from_millis(1)));
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.protocol = self.select_protocol();
        self.subscribed = self.subscriptions();
        self.is_new_member_added = false;
        cx.out.event(Event::Generation {
            group: self.id.clone(),
            generation: self.generation,
            members: self.members.keys().map(|id| id.to_string()).collect(),
        });
        if self.members.is_empty() {
            self.enter(cx.now, State::Empty);
            self.store();
            return;
        }
        self.enter(cx.now, State::Completing);
        self.pending_syncs = self.members.keys().cloned().collect();
        for member_id in self.pending_syncs.clone() {
            let member = self.members.get_mut(&member_id).expect("it is one of the members");
            member.is_new = false;
            if let Some(call) = member.joining.take() {
                self.answer_join(cx, call, &member_id, false);
            }
            self.keep_alive(cx.now, &member_id);
        }
        self.timers.set(Timer::Sync, cx.now + self.rebalance_timeout());
    }

    /// Sees to it that the leader is among those who joined; there is none if only static members are left that did not.
    fn elect_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return self.members.is_empty() };
        if self.members.get(leader).is_some_and(|member| member.joining.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.joining.is_some());
        let elected = joined.map(|member| member.id.clone());
        let is_elected = elected.is_some();
        self.leader = elected.or(self.leader.take());
        is_elected
    }

    /// Counts the members' votes: each is for the first of its protocols that all others have too.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let is_common = |name: &StrBytes| self.members.values().all(|member| member.supports(name));
        let mut votes = IndexMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| is_common(name)) {
                *votes.entry(name).or_insert(0) += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    fn give_up_pending_syncs(&mut self, cx: &mut Context<'_>) {
        for member_id in std::mem::take(&mut self.pending_syncs) {
            self.remove(cx, &member_id, "did not sync in time");
        }
        self.prepare_rebalance(cx);
    }

    fn end_session(&mut self, cx: &mut Context<'_>, member_id: &StrBytes) {
        let waits = |member: &super::Member| !member.is_new && (member.joining.is_some() || member.syncing.is_some());
        match self.members.get(member_id) {
            Some(member) if waits(member) => {}
            Some(_) => self.expel(cx, member_id, "session timed out"),
            None => {
                self.pending_joins.remove(member_id);
                if self.state == State::Preparing && self.have_all_joined() {
                    self.complete_join(cx);
                }
            }
        }
    }

    /// Takes a member out against its will.
    pub(in super::super) fn expel(&mut self, cx: &mut Context<'_>, member_id: &str, why: &'static str) {
        let Some(mut member) = self.remove(cx, member_id, why) else { return };
        member.id = StrBytes::default();
        member.refuse_join(cx, ResponseError::UnknownMemberId);
        match self.state {
            State::Stable | State::Completing => self.prepare_rebalance(cx),
            State::Preparing if self.have_all_joined() => self.complete_join(cx),
            State::Preparing | State::Empty => {}
        }
    }
}
