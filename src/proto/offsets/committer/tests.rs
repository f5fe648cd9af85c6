use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{Generation, LeaderEpoch, Offset},
    wire::{Api, Malformed},
};

const INTERVAL: Duration = Duration::from_secs(5);

fn at(offset: i64) -> Position {
    Position { offset: Offset(offset), leader_epoch: Some(LeaderEpoch(1)) }
}

fn handle(partition: i32, assignment: u64) -> PartitionHandle {
    PartitionHandle { partition: TopicPartition::new("orders", partition), assignment }
}

fn member(generation: i32) -> Membership {
    Membership { member_id: "m".into(), generation: Generation(generation) }
}

/// A committer, virtual time, and the coordinator's side.
struct Harness {
    committer: Committer,
    now: Instant,
    member: Membership,
    allowed: bool,
}

impl Harness {
    fn new() -> Self {
        Self::of(Some("g"))
    }

    #[allow(clippy::disallowed_methods, reason = "where virtual time begins")]
    fn of(group: Option<&str>) -> Self {
        let config = CommitterConfig {
            group: group.map(Into::into),
            instance_id: None,
            interval: INTERVAL,
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 7,
        };
        Self { committer: Committer::new(config), now: Instant::now(), member: member(1), allowed: true }
    }

    /// With partition 0 assigned at offset 10, as committed.
    fn assigned() -> (Self, PartitionHandle) {
        let (mut h, p) = (Self::new(), handle(0, 1));
        h.committer.assign(h.now, &p, at(10), Some(at(10)));
        (h, p)
    }

    /// With offset 20 of partition 0 just sent.
    fn sent() -> (Self, PartitionHandle, u64) {
        let (mut h, p) = Self::assigned();
        let call = h.finish_and_ask(&p, 20);
        (h, p, call)
    }

    /// What the coordinator is known to have stored.
    fn committed(&self, p: &PartitionHandle) -> Option<Position> {
        self.committer.entries.get(&p.partition).filter(|entry| entry.handle == *p)?.committed
    }

    fn is_settled(&self) -> bool {
        let in_flight = self.committer.in_flight.iter().flat_map(|flight| flight.partitions.keys());
        self.committer.is_settled(&self.committer.entries.keys().chain(in_flight).cloned().collect())
    }

    fn finish_and_ask(&mut self, p: &PartitionHandle, offset: i64) -> u64 {
        self.committer.handle_finished(self.now, p, at(offset));
        self.committer.flush(self.now);
        self.ask().expect("a commit").0
    }

    fn ask(&mut self) -> Option<(u64, Vec<(i32, i64)>)> {
        let ask = self.committer.poll_ask(self.now, &self.member, self.allowed)?;
        let (Owner::Committer(call), Request::OffsetCommit(request)) = (ask.owner, ask.request) else { panic!("no commit") };
        assert_eq!((ask.to, &request.member.generation), (Target::Coordinator, &self.member.generation));
        Some((call, request.partitions.iter().map(|p| (p.partition.partition(), p.offset.0)).collect()))
    }

    fn answer(&mut self, call: u64, codes: &[(i32, ErrorCode)]) -> Vec<CommitEvent> {
        let codes = codes.iter().map(|&(p, code)| (TopicPartition::new("orders", p), code)).collect();
        self.committer.handle_answer(self.now, call, Ok(Response::OffsetCommit(codes)));
        self.events()
    }

    fn fail(&mut self, call: u64, error: CallError) -> Vec<CommitEvent> {
        self.committer.handle_answer(self.now, call, Err(error));
        self.events()
    }

    fn events(&mut self) -> Vec<CommitEvent> {
        std::iter::from_fn(|| self.committer.poll_event()).collect()
    }

    /// Goes on to the next deadline; how long that was.
    fn sleep(&mut self) -> Duration {
        let (until, _) = self.committer.poll_timeout(self.allowed).expect("a deadline");
        assert!(until > self.now, "a deadline that has passed is a busy loop");
        let slept = until - self.now;
        self.now = until;
        self.committer.handle_timeout(self.now);
        slept
    }

    /// Sleeps until something is asked.
    fn sleep_and_ask(&mut self) -> (u64, Vec<(i32, i64)>, Duration) {
        let start = self.now;
        for _ in 0..100 {
            self.sleep();
            if let Some((call, partitions)) = self.ask() {
                return (call, partitions, self.now - start);
            }
        }
        panic!("nothing is asked any more");
    }
}

fn done(ticket: u64, result: Result<(), CommitFailure>) -> CommitEvent {
    CommitEvent::Done { ticket, result }
}

fn problems(events: &[CommitEvent]) -> Vec<(ProblemKind, bool)> {
    events
        .iter()
        .filter_map(|event| match event {
            CommitEvent::Problem(problem) => Some((problem.kind, problem.fatal)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_idle_committer_has_no_deadline() {
    let mut h = Harness::new();
    assert_eq!(h.committer.poll_timeout(true), None);
    assert_eq!(h.ask(), None);
    let p = handle(0, 1);
    h.committer.assign(h.now, &p, at(0), None);
    assert_eq!(h.committer.poll_timeout(true), Some((h.now + INTERVAL, "commit interval")));
    h.committer.remove(&p);
    assert_eq!(h.committer.poll_timeout(true), None);
}

#[test]
fn finished_work_is_committed_at_the_interval() {
    let (mut h, p) = Harness::assigned();
    h.committer.handle_finished(h.now, &p, at(12));
    assert_eq!(h.ask(), None, "before the interval");
    assert!(!h.committer.wants_progress(h.now));
    assert_eq!(h.sleep(), INTERVAL);
    assert!(h.committer.wants_progress(h.now));
    assert!(!h.committer.wants_progress(h.now), "once per interval");
    h.committer.handle_finished(h.now, &p, at(15));
    let (call, partitions) = h.ask().expect("a commit");
    assert_eq!(partitions, [(0, 15)]);
    let events = h.answer(call, &[(0, ErrorCode::NONE)]);
    assert_eq!(events, [CommitEvent::Committed { handle: p.clone(), position: at(15) }]);
    assert_eq!(h.committed(&p), Some(at(15)));
    assert!(h.is_settled());
}

#[test]
fn what_was_only_delivered_is_never_committed() {
    // Lesson 3: only what is finished beyond the start is; neither the start nor a repeated or older watermark is news.
    let (mut h, p) = Harness::assigned();
    for offset in [10, 9, 0] {
        h.committer.handle_finished(h.now, &p, at(offset));
        h.committer.flush(h.now);
        assert_eq!(h.ask(), None, "offset {offset}");
    }
    let fresh = handle(1, 2);
    h.committer.assign(h.now, &fresh, at(100), None);
    h.committer.flush(h.now);
    assert_eq!(h.ask(), None, "a start from the reset policy is not committed before something is finished");
    h.committer.handle_finished(h.now, &fresh, at(101));
    assert_eq!(h.ask().expect("a commit").1, [(1, 101)]);
}

#[test]
fn commits_are_never_two_at_once_and_later_ones_merge() {
    // Lesson 5.
    let (mut h, p, call) = Harness::sent();
    for offset in [21, 25, 23] {
        h.committer.handle_finished(h.now, &p, at(offset));
        h.committer.flush(h.now);
        assert_eq!(h.ask(), None, "one is in flight");
    }
    h.answer(call, &[(0, ErrorCode::NONE)]);
    assert_eq!(h.ask().expect("the merged one").1, [(0, 25)]);
}

#[test]
fn nothing_is_sent_between_join_and_sync() {
    // Lesson 4.
    let (mut h, p) = Harness::assigned();
    h.committer.handle_finished(h.now, &p, at(20));
    h.committer.flush(h.now);
    h.allowed = false;
    assert_eq!(h.ask(), None);
    assert_eq!(h.committer.poll_timeout(false).map(|(_, why)| why), Some("commit interval"));
    h.allowed = true;
    h.member = member(-1);
    assert_eq!(h.ask(), None, "without a generation");
    h.member = member(2);
    assert_eq!(h.ask().expect("a commit").1, [(0, 20)]);
}

#[test]
fn all_dirty_partitions_go_in_one_request_in_order() {
    let mut h = Harness::new();
    for n in [3, 1, 2] {
        h.committer.assign(h.now, &handle(n, 1), at(0), None);
        h.committer.handle_finished(h.now, &handle(n, 1), at(i64::from(n)));
    }
    h.committer.flush(h.now);
    assert_eq!(h.ask().expect("a commit").1, [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn a_stale_handle_changes_nothing() {
    let (mut h, old) = Harness::assigned();
    let new = handle(0, 2);
    h.committer.assign(h.now, &new, at(30), Some(at(30)));
    h.committer.handle_finished(h.now, &old, at(50));
    h.committer.remove(&old);
    h.committer.flush(h.now);
    assert_eq!(h.ask(), None);
    assert_eq!(h.committed(&old), None);
    assert_eq!(h.committed(&new), Some(at(30)));
    h.committer.commit(h.now, &old, at(5), 1);
    assert_eq!(h.events(), [done(1, Err(CommitFailure::NotAssigned))]);
}

#[test]
fn an_answer_for_a_lost_partition_is_ignored() {
    let (mut h, p, call) = Harness::sent();
    h.committer.remove(&p);
    let new = handle(0, 2);
    h.committer.assign(h.now, &new, at(0), Some(at(20)));
    assert_eq!(h.answer(call, &[(0, ErrorCode::NONE)]), []);
    assert_eq!(h.committed(&new), None, "what the older commit left behind is not known");
    h.committer.handle_finished(h.now, &new, at(20));
    h.committer.flush(h.now);
    assert_eq!(h.ask().expect("a commit").1, [(0, 20)], "the older commit may have landed after what we were told");
}

#[test]
fn an_answer_to_an_older_call_is_ignored() {
    let (mut h, p, call) = Harness::sent();
    assert_eq!(h.answer(call + 1, &[(0, ErrorCode::NONE)]), []);
    assert!(h.committer.in_flight.is_some());
    h.answer(call, &[(0, ErrorCode::NONE)]);
    let second = h.finish_and_ask(&p, 30);
    assert_eq!(h.answer(call, &[(0, ErrorCode::NONE)]), []);
    assert!(h.committer.in_flight.is_some());
    assert_eq!(h.answer(second, &[(0, ErrorCode::NONE)]).len(), 1);
}

#[test]
fn a_held_partition_is_not_committed_until_it_is_let_go() {
    // Lesson 23: a deleted topic that was made anew must not inherit the old one's offset.
    let (mut h, p) = Harness::assigned();
    h.committer.hold(h.now, &p, true);
    h.committer.handle_finished(h.now, &p, at(20));
    h.committer.flush(h.now);
    assert_eq!(h.ask(), None);
    assert!(h.is_settled());
    let other = handle(1, 1);
    h.committer.assign(h.now, &other, at(0), None);
    let call = h.finish_and_ask(&other, 1);
    h.answer(call, &[(1, ErrorCode::NONE)]);
    assert_eq!(h.ask(), None);
    h.committer.hold(h.now, &p, false);
    assert_eq!(h.ask().expect("a commit").1, [(0, 20)]);
}

/// Found by the simulation: what would have told was not fetched, for the buffer was full of what waited for that very commit.
#[test]
fn a_partition_is_not_held_for_ever() {
    let (mut h, p) = Harness::assigned();
    h.committer.hold(h.now, &p, true);
    h.committer.handle_finished(h.now, &p, at(20));
    h.committer.flush(h.now);
    assert_eq!(h.ask(), None);
    let since = h.now;
    while h.ask().is_none() {
        h.sleep();
        assert!(h.now - since <= HOLD_MAX + Duration::from_secs(5), "still held after {:?}", h.now - since);
    }
    assert!(h.now - since >= HOLD_MAX);
}

// Explicit commits.

#[test]
fn an_explicit_commit_does_not_wait_for_the_interval_and_may_go_back() {
    let (mut h, p) = Harness::assigned();
    h.committer.commit(h.now, &p, at(5), 1);
    let (call, partitions) = h.ask().expect("a commit");
    assert_eq!(partitions, [(0, 5)]);
    let events = h.answer(call, &[(0, ErrorCode::NONE)]);
    assert_eq!(events, [done(1, Ok(())), CommitEvent::Committed { handle: p.clone(), position: at(5) }]);
    assert_eq!(h.committed(&p), Some(at(5)));
}

#[test]
fn merged_commits_answer_every_ticket_once() {
    let (mut h, p) = Harness::assigned();
    h.committer.commit(h.now, &p, at(11), 1);
    let (call, _) = h.ask().expect("a commit");
    h.committer.commit(h.now, &p, at(12), 2);
    h.committer.commit(h.now, &p, at(13), 3);
    let events = h.answer(call, &[(0, ErrorCode::NONE)]);
    assert_eq!(events[0], done(1, Ok(())));
    assert_eq!(events.len(), 2);
    let (call, partitions) = h.ask().expect("the merged one");
    assert_eq!(partitions, [(0, 13)]);
    assert_eq!(h.answer(call, &[(0, ErrorCode::NONE)])[..2], [done(2, Ok(())), done(3, Ok(()))]);
    assert!(h.is_settled());
}

#[test]
fn a_ticket_of_a_partition_given_up_is_answered() {
    let (mut h, p) = Harness::assigned();
    h.committer.commit(h.now, &p, at(11), 1);
    h.committer.remove(&p);
    assert_eq!(h.events(), [done(1, Err(CommitFailure::NotAssigned))]);
}

#[test]
fn a_ticket_in_flight_learns_the_truth_after_its_partition_is_gone() {
    for (code, result) in [(ErrorCode::NONE, Ok(())), (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Err(CommitFailure::NotAssigned))]
    {
        let (mut h, p) = Harness::assigned();
        h.committer.commit(h.now, &p, at(11), 1);
        let (call, _) = h.ask().expect("a commit");
        h.committer.remove(&p);
        assert_eq!(h.answer(call, &[(0, code)]), [done(1, result)]);
    }
}

#[test]
fn a_commit_that_may_be_stored_is_called_unknown() {
    let (mut h, p) = Harness::assigned();
    h.committer.commit(h.now, &p, at(11), 1);
    let (call, _) = h.ask().expect("a commit");
    assert_eq!(
        h.fail(call, CallError::Lost("reset".into())),
        [CommitEvent::CoordinatorUnknown { why: "reset".into() }],
        "it is tried again first"
    );
    h.committer.commit(h.now, &p, at(12), 2);
    h.committer.lost(&p);
    let events = h.events();
    assert!(matches!(&events[0], CommitEvent::Done { ticket: 1, result: Err(CommitFailure::Unknown(_)) }), "{events:?}");
    assert_eq!(events[1], done(2, Err(CommitFailure::Rebalanced)), "never sent");
}

#[test]
fn waiting_tickets_are_limited() {
    let (mut h, p) = Harness::assigned();
    for ticket in 0..=TICKETS_MAX as u64 {
        h.committer.commit(h.now, &p, at(11), ticket);
    }
    assert!(matches!(h.events()[..], [CommitEvent::Done { ticket: 0, result: Err(CommitFailure::Unknown(_)) }]));
}

#[test]
fn a_lost_partition_drops_what_is_dirty_and_keeps_what_is_in_flight() {
    let (mut h, p, call) = Harness::sent();
    h.committer.handle_finished(h.now, &p, at(30));
    h.committer.lost(&p);
    assert!(h.committer.in_flight.is_some());
    assert_eq!(h.answer(call, &[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]), []);
    h.committer.flush(h.now);
    assert_eq!((h.ask(), h.is_settled()), (None, true));
}

// One test per row of the table.

#[test]
fn rebalance_in_progress_keeps_the_commit_for_after_the_rebalance() {
    let (mut h, _, call) = Harness::sent();
    let events = h.answer(call, &[(0, ErrorCode::REBALANCE_IN_PROGRESS)]);
    assert_eq!(events, [CommitEvent::Member { sent: member(1), code: ErrorCode::REBALANCE_IN_PROGRESS }]);
    assert_eq!(h.ask(), None, "not again at once");
    h.member = member(2);
    assert_eq!(h.ask().expect("under the new generation").1, [(0, 20)]);
}

#[test]
fn rebalance_in_progress_is_tried_again_also_where_the_generation_stays() {
    let (mut h, _, call) = Harness::sent();
    h.answer(call, &[(0, ErrorCode::REBALANCE_IN_PROGRESS)]);
    let (_, partitions, waited) = h.sleep_and_ask();
    assert_eq!(partitions, [(0, 20)]);
    assert!(waited <= Duration::from_millis(200));
}

#[test]
fn membership_errors_reach_the_group_with_the_membership_that_was_sent() {
    // Lesson 6: a fatal membership error from any API starts the rejoin.
    for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID] {
        let (mut h, _, call) = Harness::sent();
        h.member = member(2);
        assert_eq!(h.answer(call, &[(0, code)]), [CommitEvent::Member { sent: member(1), code }]);
        assert_eq!(h.ask().expect("under the membership that is current").1, [(0, 20)]);
    }
}

#[test]
fn the_whole_answer_is_read_before_anything_is_concluded() {
    let mut h = Harness::new();
    for n in 0..3 {
        h.committer.assign(h.now, &handle(n, 1), at(0), None);
        h.committer.commit(h.now, &handle(n, 1), at(9), n as u64);
    }
    let (call, _) = h.ask().expect("a commit");
    let events =
        h.answer(call, &[(0, ErrorCode::REBALANCE_IN_PROGRESS), (1, ErrorCode::UNKNOWN_MEMBER_ID), (2, ErrorCode::NONE)]);
    assert_eq!(
        events,
        [
            done(2, Ok(())),
            CommitEvent::Committed { handle: handle(2, 1), position: at(9) },
            CommitEvent::Member { sent: member(1), code: ErrorCode::UNKNOWN_MEMBER_ID },
        ]
    );
}

#[test]
fn a_loading_coordinator_is_asked_again_after_a_while() {
    let (mut h, _, call) = Harness::sent();
    assert_eq!(h.answer(call, &[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]), []);
    assert_eq!(h.ask(), None);
    let (_, partitions, waited) = h.sleep_and_ask();
    assert_eq!(partitions, [(0, 20)]);
    assert!(waited <= Duration::from_millis(200));
}

#[test]
fn a_moved_coordinator_is_looked_up() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::REQUEST_TIMED_OUT] {
        let (mut h, _, call) = Harness::sent();
        let events = h.answer(call, &[(0, code)]);
        assert!(matches!(events[..], [CommitEvent::CoordinatorUnknown { .. }]), "{code}: {events:?}");
        assert_eq!(h.sleep_and_ask().1, [(0, 20)]);
    }
}

#[test]
fn a_lost_commit_is_followed_by_the_newest_value() {
    for error in [CallError::Lost("reset".into()), CallError::NotSent("refused".into())] {
        let (mut h, p, call) = Harness::sent();
        h.committer.handle_finished(h.now, &p, at(33));
        let events = h.fail(call, error);
        assert!(matches!(events[..], [CommitEvent::CoordinatorUnknown { .. }]));
        assert!(!h.is_settled());
        assert_eq!(h.sleep_and_ask().1, [(0, 33)]);
    }
}

#[test]
fn an_unknown_topic_is_tried_a_few_times_then_reported_once() {
    let (mut h, p) = Harness::assigned();
    h.committer.commit(h.now, &p, at(20), 1);
    let (mut call, _) = h.ask().expect("a commit");
    for _ in 1..TRIES_MAX {
        assert_eq!(h.answer(call, &[(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]), [CommitEvent::RefreshMetadata]);
        call = h.sleep_and_ask().0;
    }
    let events = h.answer(call, &[(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    assert_eq!(problems(&events), [(ProblemKind::CommitRefused, false)]);
    assert!(matches!(
        events[0],
        CommitEvent::Done { ticket: 1, result: Err(CommitFailure::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, _)) }
    ));
    assert!(h.is_settled(), "that value is not tried any more");
    h.committer.handle_finished(h.now, &p, at(30));
    h.committer.flush(h.now);
    let (call, partitions, waited) = h.sleep_and_ask();
    assert_eq!((partitions, waited >= LASTING_RETRY), (vec![(0, 30)], true));
    assert_eq!(problems(&h.answer(call, &[(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)])), []);
}

#[test]
fn a_forbidden_topic_is_reported_once_and_the_others_stand() {
    // Lesson 24: said once, within seconds, then tried rarely.
    let (mut h, p) = Harness::assigned();
    let other = handle(1, 1);
    h.committer.assign(h.now, &other, at(0), None);
    h.committer.handle_finished(h.now, &other, at(1));
    let call = h.finish_and_ask(&p, 20);
    let events = h.answer(call, &[(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED), (1, ErrorCode::NONE)]);
    assert_eq!(problems(&events), [(ProblemKind::Unauthorized, false)]);
    assert!(events.contains(&CommitEvent::Committed { handle: other, position: at(1) }));
    assert!(h.is_settled(), "a revocation must not wait for it");
    for _ in 0..10 {
        let (call, _, waited) = h.sleep_and_ask();
        assert!(waited >= LASTING_RETRY);
        assert_eq!(h.answer(call, &[(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED)]), []);
    }
    let (call, partitions, _) = h.sleep_and_ask();
    assert_eq!(partitions, [(0, 20)], "granted at last");
    h.answer(call, &[(0, ErrorCode::NONE)]);
    let call = h.finish_and_ask(&p, 21);
    assert_eq!(problems(&h.answer(call, &[(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED)])).len(), 1, "it changed");
}

#[test]
fn codes_against_the_whole_group_are_said_and_fatal_where_nothing_can_change() {
    for (code, kind, fatal) in [
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, ProblemKind::Unauthorized, false),
        (ErrorCode::INVALID_GROUP_ID, ProblemKind::GroupRefused, true),
        (ErrorCode::UNSUPPORTED_VERSION, ProblemKind::Incompatible, true),
    ] {
        let (mut h, p) = Harness::assigned();
        h.committer.commit(h.now, &p, at(11), 1);
        let (call, _) = h.ask().expect("a commit");
        let events = h.answer(call, &[(0, code)]);
        assert_eq!(problems(&events), [(kind, fatal)]);
        assert!(
            events
                .iter()
                .any(|e| matches!(e, CommitEvent::Done { ticket: 1, result: Err(CommitFailure::Broker(c, _)) } if *c == code))
        );
        assert!(h.is_settled());
    }
}

#[test]
fn who_is_no_member_is_told_once_that_the_group_has_some_and_tries_rarely() {
    for (code, why) in [
        (ErrorCode::UNKNOWN_MEMBER_ID, "it has members"),
        (ErrorCode::REBALANCE_IN_PROGRESS, "it has members"),
        (ErrorCode::GROUP_ID_NOT_FOUND, "it is no group of consumers"),
    ] {
        let (mut h, p) = Harness::assigned();
        h.member = Membership::none();
        h.committer.commit(h.now, &p, at(20), 7);
        let (call, _) = h.ask().expect("a commit of no member");
        let events = h.answer(call, &[(0, code)]);
        assert_eq!(problems(&events), [(ProblemKind::CommitRefused, false)], "{code}");
        let Some(CommitEvent::Problem(problem)) = events.first() else { panic!("{events:?}") };
        assert!(problem.what.starts_with("cannot commit for group g") && problem.what.contains(why), "{}", problem.what);
        assert!(
            matches!(&events[1..], [CommitEvent::Done { ticket: 7, result: Err(CommitFailure::Broker(of, _)) }] if *of == code)
        );
        // Nobody waits for what may not be for hours.
        assert!(h.is_settled());
        let (call, partitions, waited) = h.sleep_and_ask();
        assert_eq!(partitions, [(0, 20)]);
        assert!(waited >= LASTING_RETRY, "{waited:?}");
        assert_eq!(h.answer(call, &[(0, code)]), [], "said once");
        let (call, ..) = h.sleep_and_ask();
        assert_eq!(h.answer(call, &[(0, ErrorCode::NONE)]), [CommitEvent::Committed { handle: p.clone(), position: at(20) }]);
        let call = h.finish_and_ask(&p, 30);
        assert_eq!(problems(&h.answer(call, &[(0, code)])).len(), 1, "it is news again");
    }
}

#[test]
fn without_a_group_it_is_known_what_is_finished_and_nothing_is_committed() {
    let (mut h, p) = (Harness::of(None), handle(0, 1));
    h.member = Membership::none();
    h.committer.assign(h.now, &p, at(10), None);
    h.committer.handle_finished(h.now, &p, at(20));
    h.committer.flush(h.now);
    assert_eq!((h.ask(), h.committer.finished(&p), h.is_settled()), (None, Some(at(20)), true));
    h.committer.commit(h.now, &p, at(20), 7);
    assert_eq!(h.events(), [done(7, Err(CommitFailure::NoGroup))]);
    for _ in 0..3 {
        assert_eq!(h.sleep(), INTERVAL, "it is looked at how far the program is");
        assert!(h.committer.wants_progress(h.now));
        assert_eq!(h.ask(), None);
    }
    h.committer.remove(&p);
    assert_eq!(h.committer.poll_timeout(true), None);
}

#[test]
fn a_value_that_is_refused_is_not_tried_again() {
    for code in [ErrorCode::OFFSET_METADATA_TOO_LARGE, ErrorCode::INVALID_COMMIT_OFFSET_SIZE] {
        let (mut h, _, call) = Harness::sent();
        assert_eq!(problems(&h.answer(call, &[(0, code)])), [(ProblemKind::CommitRefused, false)]);
        assert!(h.is_settled());
        h.committer.flush(h.now);
        assert_eq!(h.ask(), None);
    }
}

#[test]
fn an_unheard_of_code_is_tried_a_few_times() {
    let (mut h, _, mut call) = Harness::sent();
    for _ in 1..TRIES_MAX {
        assert_eq!(h.answer(call, &[(0, ErrorCode(999))]), []);
        call = h.sleep_and_ask().0;
    }
    assert_eq!(problems(&h.answer(call, &[(0, ErrorCode(999))])), [(ProblemKind::CommitRefused, false)]);
}

#[test]
fn a_partition_that_the_answer_leaves_out_is_tried_again_then_reported() {
    let (mut h, _, mut call) = Harness::sent();
    for _ in 1..TRIES_MAX {
        assert_eq!(h.answer(call, &[]), []);
        call = h.sleep_and_ask().0;
    }
    assert_eq!(problems(&h.answer(call, &[])), [(ProblemKind::Protocol, false)]);
    assert!(h.is_settled());
}

#[test]
fn names_that_nobody_asked_about_are_ignored_and_the_first_word_counts() {
    let (mut h, p, call) = Harness::sent();
    let events = h.answer(call, &[(7, ErrorCode::UNKNOWN_MEMBER_ID), (0, ErrorCode::NONE), (0, ErrorCode::UNKNOWN_MEMBER_ID)]);
    assert_eq!(events, [CommitEvent::Committed { handle: p, position: at(20) }]);
}

#[test]
fn a_garbled_answer_is_reported_once_and_tried_again() {
    let (mut h, _, mut call) = Harness::sent();
    let garbled = || CallError::Malformed(Malformed { api: Api::OffsetCommit, version: 9, at: 3, what: "a length" });
    assert_eq!(problems(&h.fail(call, garbled())), [(ProblemKind::Protocol, false)]);
    for _ in 0..5 {
        call = h.sleep_and_ask().0;
        assert_eq!(h.fail(call, garbled()), []);
    }
}

#[test]
fn a_coordinator_without_the_api_is_reported_and_nobody_waits_for_it() {
    let (mut h, p) = Harness::assigned();
    h.committer.commit(h.now, &p, at(11), 1);
    let (call, _) = h.ask().expect("a commit");
    let events = h.fail(call, CallError::Unsupported { api: Api::OffsetCommit, ours: (2, 9), theirs: None });
    assert_eq!(problems(&events), [(ProblemKind::Incompatible, false)]);
    assert_eq!(events.len(), 2);
    assert!(h.is_settled());
}

#[test]
fn an_hour_of_errors_is_few_requests() {
    let codes = [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode(999),
    ];
    for code in codes {
        let (mut h, mut requests) = (Harness::new(), 0);
        for n in 0..12 {
            h.committer.assign(h.now, &handle(n, 1), at(0), None);
        }
        let (start, mut offset, mut wakes) = (h.now, 0, 0);
        while h.now - start < Duration::from_secs(3600) {
            h.sleep();
            wakes += 1;
            if h.committer.wants_progress(h.now) {
                offset += 1;
                (0..12).for_each(|n| h.committer.handle_finished(h.now, &handle(n, 1), at(offset + i64::from(n % 3))));
            }
            while let Some((call, partitions)) = h.ask() {
                requests += 1;
                let codes: Vec<_> = partitions.iter().map(|&(n, _)| (n, code)).collect();
                h.answer(call, &codes);
            }
        }
        assert!((100..=2 * 3600).contains(&requests), "{code}: {requests} requests");
        assert!(wakes <= 4 * 3600, "{code}: {wakes} wake-ups");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Assign(i32),
    Remove(i32),
    Finish(i32, i64),
    Commit(i32, i64),
    Hold(i32, bool),
    Lose,
    Join,
    Allow(bool),
    Sleep,
    Answer(i16),
    Fail(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let p = 0..3i32;
    let code = prop_oneof![5 => Just(0i16), 1 => prop::sample::select(vec![3, 7, 12, 14, 16, 22, 25, 27, 29, 999])];
    let step = prop_oneof![
        2 => p.clone().prop_map(Step::Assign),
        1 => p.clone().prop_map(Step::Remove),
        6 => (p.clone(), 1..20i64).prop_map(|(p, n)| Step::Finish(p, n)),
        2 => (p.clone(), 0..50i64).prop_map(|(p, n)| Step::Commit(p, n)),
        1 => (p, any::<bool>()).prop_map(|(p, held)| Step::Hold(p, held)),
        1 => Just(Step::Lose),
        1 => Just(Step::Join),
        1 => any::<bool>().prop_map(Step::Allow),
        4 => Just(Step::Sleep),
        6 => code.prop_map(Step::Answer),
        1 => any::<bool>().prop_map(Step::Fail),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Invariants A and D, and one answer per ticket, whatever happens in whatever order.
    #[test]
    fn one_commit_in_flight_never_beyond_what_is_finished(steps in steps()) {
        let mut h = Harness::new();
        let (mut assignment, mut ticket) = (0u64, 0u64);
        // By handle: the highest offset that may be committed.
        let mut limits: BTreeMap<PartitionHandle, i64> = BTreeMap::new();
        let mut current: BTreeMap<i32, PartitionHandle> = BTreeMap::new();
        let mut in_flight: Option<(u64, Vec<(i32, i64)>)> = None;
        let mut answered = BTreeSet::new();
        for step in steps {
            match step {
                Step::Assign(n) => {
                    assignment += 1;
                    let p = handle(n, assignment);
                    h.committer.assign(h.now, &p, at(0), None);
                    limits.insert(p.clone(), 0);
                    current.insert(n, p);
                }
                Step::Remove(n) => current.remove(&n).iter().for_each(|p| h.committer.remove(p)),
                Step::Finish(n, more) => if let Some(p) = current.get(&n) {
                    let limit = limits.get_mut(p).expect("assigned");
                    *limit += more;
                    h.committer.handle_finished(h.now, p, at(*limit));
                }
                Step::Commit(n, offset) => {
                    let p = current.get(&n).cloned().unwrap_or_else(|| handle(n, 0));
                    let limit = limits.entry(p.clone()).or_default();
                    *limit = offset.max(*limit);
                    h.committer.commit(h.now, &p, at(offset), ticket);
                    ticket += 1;
                }
                Step::Hold(n, held) => current.get(&n).iter().for_each(|p| h.committer.hold(h.now, p, held)),
                Step::Lose => std::mem::take(&mut current).values().for_each(|p| h.committer.lost(p)),
                Step::Join => h.member = member(h.member.generation.0 + 1),
                Step::Allow(allowed) => h.allowed = allowed,
                Step::Sleep => if h.committer.poll_timeout(h.allowed).is_some() { h.sleep(); },
                Step::Answer(code) => if let Some((call, partitions)) = in_flight.take() {
                    let codes = partitions.iter().map(|&(n, _)| (TopicPartition::new("orders", n), ErrorCode(code))).collect();
                    h.committer.handle_answer(h.now, call, Ok(Response::OffsetCommit(codes)));
                }
                Step::Fail(sent) => if let Some((call, _)) = in_flight.take() {
                    let error = if sent { CallError::Lost("x".into()) } else { CallError::NotSent("x".into()) };
                    h.committer.handle_answer(h.now, call, Err(error));
                }
            }
            if let Some((call, partitions)) = h.ask() {
                prop_assert!(in_flight.is_none(), "two commits in flight");
                for (n, offset) in &partitions {
                    prop_assert!(*offset <= limits[&current[n]], "{n}: {offset} was never finished");
                }
                in_flight = Some((call, partitions));
            }
            for event in h.events() {
                match event {
                    CommitEvent::Done { ticket, .. } => prop_assert!(answered.insert(ticket), "ticket {ticket} answered twice"),
                    CommitEvent::Committed { handle, position } => prop_assert!(position.offset.0 <= limits[&handle]),
                    _ => {}
                }
            }
        }
        // The faults stop: everything settles, and everybody who waited has heard.
        (h.allowed, h.member) = (true, member(1000));
        current.values().for_each(|p| h.committer.hold(h.now, p, false));
        h.committer.flush(h.now);
        for _ in 0..100 {
            if in_flight.is_none() { in_flight = h.ask(); }
            if let Some((call, partitions)) = in_flight.take() {
                let codes: Vec<_> = partitions.iter().map(|&(n, _)| (n, ErrorCode::NONE)).collect();
                for event in h.answer(call, &codes) {
                    if let CommitEvent::Done { ticket, .. } = event { prop_assert!(answered.insert(ticket)); }
                }
            } else if h.committer.poll_timeout(true).is_some() {
                h.sleep();
            }
        }
        prop_assert!(h.is_settled());
        prop_assert_eq!(answered.len() as u64, ticket);
    }
}
