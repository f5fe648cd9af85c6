use super::*;
use crate::{
    model::Generation,
    proto::{Answer, CallError, TopicView},
    wire::{Api, EpochEnd, FetchedOffset, ListedOffset, Malformed, OffsetFetchResponse, Response},
};

const WALL_MS: i64 = 1_700_000_000_000;

fn at(offset: i64, epoch: i32) -> Position {
    Position { offset: Offset(offset), leader_epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)) }
}

fn partition(n: i32) -> TopicPartition {
    TopicPartition::new("orders", n)
}

fn handle(n: i32, assignment: u64) -> PartitionHandle {
    PartitionHandle { partition: partition(n), assignment }
}

/// Partitions 0 to 3: the even ones led by broker 1, the others by broker 2.
fn view(epoch: Option<i32>) -> ClusterView {
    let known =
        |n| PartitionView { leader: Some(BrokerId(1 + n % 2)), leader_epoch: epoch.map(LeaderEpoch), ..PartitionView::default() };
    let topic = TopicView { error: ErrorCode::NONE, id: None, partitions: (0..4).map(known).collect() };
    ClusterView { revision: 1, topics: [("orders".into(), topic)].into() }
}

struct Harness {
    positions: Positions,
    now: Instant,
    view: ClusterView,
    member: Membership,
    coordinator_known: bool,
    events: Vec<PositionEvent>,
}

impl Harness {
    fn new(reset: ResetPolicy) -> Self {
        Self::of(Some("g"), reset)
    }

    #[allow(clippy::disallowed_methods, reason = "where virtual time begins")]
    fn of(group: Option<&str>, reset: ResetPolicy) -> Self {
        let config = PositionsConfig {
            group: group.map(Into::into),
            reset,
            isolation: Isolation::ReadCommitted,
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 3,
        };
        let (now, view) = (Instant::now(), view(Some(5)));
        let member = Membership { member_id: "m".into(), generation: Generation(4) };
        Self { positions: Positions::new(config), now, view, member, coordinator_known: true, events: Vec::new() }
    }

    /// With the committed offset of partition 0 asked for.
    fn asking(reset: ResetPolicy) -> (Self, u64) {
        let mut h = Self::new(reset);
        h.positions.resolve(h.now, &handle(0, 1));
        let call = h.ask().expect("OffsetFetch").0;
        (h, call)
    }

    /// With partition 0 read up to `position`, and its leader asked about that.
    fn validating(reset: ResetPolicy, position: Position) -> (Self, u64) {
        let mut h = Self::new(reset);
        h.positions.validate(h.now, &handle(0, 1), position);
        let call = h.ask().expect("OffsetForLeaderEpoch").0;
        (h, call)
    }

    fn ask(&mut self) -> Option<(u64, Target, Request)> {
        let ask = self.positions.poll_ask(self.now, WALL_MS, &self.view, &self.member, self.coordinator_known);
        self.events.extend(std::iter::from_fn(|| self.positions.poll_event()));
        let Ask { owner: Owner::Positions(call), to, request, .. } = ask? else { panic!("another's call") };
        Some((call, to, request))
    }

    fn answer(&mut self, call: u64, answer: Answer) -> Vec<PositionEvent> {
        self.positions.handle_answer(self.now, call, answer);
        self.events.extend(std::iter::from_fn(|| self.positions.poll_event()));
        std::mem::take(&mut self.events)
    }

    fn fetched(&mut self, call: u64, partitions: &[(i32, ErrorCode, Option<Position>)]) -> Vec<PositionEvent> {
        let word = |&(n, error, committed): &(_, _, _)| (partition(n), FetchedOffset { error, committed, metadata: None });
        let partitions = partitions.iter().map(word).collect();
        self.answer(call, Ok(Response::OffsetFetch(OffsetFetchResponse { error: ErrorCode::NONE, partitions })))
    }

    fn group_error(&mut self, call: u64, error: ErrorCode) -> Vec<PositionEvent> {
        self.answer(call, Ok(Response::OffsetFetch(OffsetFetchResponse { error, partitions: Vec::new() })))
    }

    fn listed(&mut self, call: u64, n: i32, error: ErrorCode, position: Option<Position>) -> Vec<PositionEvent> {
        self.answer(call, Ok(Response::ListOffsets(vec![(partition(n), ListedOffset { error, position, timestamp_ms: None })])))
    }

    fn epoch_end(&mut self, call: u64, error: ErrorCode, end: Option<(i32, i64)>) -> Vec<PositionEvent> {
        let end = end.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
        self.answer(call, Ok(Response::OffsetForLeaderEpoch(vec![(partition(0), EpochEnd { error, end })])))
    }

    fn sleep(&mut self) {
        let (until, _) = self.positions.poll_timeout().expect("a deadline");
        assert!(until > self.now, "a deadline that has passed is a busy loop");
        self.now = until;
        self.positions.handle_timeout(self.now);
    }

    fn sleep_and_ask(&mut self) -> (u64, Request, Duration) {
        let start = self.now;
        for _ in 0..100 {
            self.sleep();
            if let Some((call, _, request)) = self.ask() {
                return (call, request, self.now - start);
            }
        }
        panic!("nothing is asked any more");
    }
}

fn resolved(n: i32, position: Position, committed: Option<Position>) -> PositionEvent {
    PositionEvent::Resolved { handle: handle(n, 1), position, committed, truncated: None }
}

fn problems(events: &[PositionEvent]) -> Vec<(ProblemKind, bool)> {
    let problem = |event: &PositionEvent| match event {
        PositionEvent::Problem(problem) => Some((problem.kind, problem.fatal)),
        _ => None,
    };
    events.iter().filter_map(problem).collect()
}

fn asks_for_committed(request: &Request) -> bool {
    matches!(request, Request::OffsetFetch { .. })
}

fn sought(request: &Request) -> Timestamp {
    let Request::ListOffsets { partitions, isolation: Isolation::ReadCommitted } = request else {
        panic!("no ListOffsets: {request:?}")
    };
    partitions[0].timestamp
}

// Where the group left off.

#[test]
fn one_question_to_the_coordinator_serves_all_partitions_that_wait() {
    let mut h = Harness::new(ResetPolicy::Earliest);
    for n in [2, 0, 1] {
        h.positions.resolve(h.now, &handle(n, 1));
    }
    let (call, to, request) = h.ask().expect("OffsetFetch");
    assert_eq!(to, Target::Coordinator);
    assert_eq!(request, Request::OffsetFetch { group: "g".into(), partitions: (0..3).map(partition).collect() });
    h.positions.resolve(h.now, &handle(3, 1));
    assert_eq!(h.ask(), None, "one at a time");
    let none = ErrorCode::NONE;
    h.fetched(call, &[(0, none, Some(at(7, -1))), (1, none, Some(at(8, 5))), (2, none, Some(at(9, -1)))]);
    let (_, _, request) = h.ask().expect("the one that came later");
    assert_eq!(request, Request::OffsetFetch { group: "g".into(), partitions: vec![partition(3)] });
    assert_eq!(h.ask(), None);
    let expected = [(0, at(7, -1)), (1, at(8, 5)), (2, at(9, -1))].map(|(n, position)| resolved(n, position, Some(position)));
    assert_eq!(h.events, expected);
}

#[test]
fn nothing_is_asked_before_the_coordinator_is_known() {
    let mut h = Harness::new(ResetPolicy::Earliest);
    h.positions.resolve(h.now, &handle(0, 1));
    h.coordinator_known = false;
    assert_eq!(h.ask(), None);
    assert_eq!(h.positions.poll_timeout(), None);
    h.coordinator_known = true;
    assert!(h.ask().is_some());
}

#[test]
fn a_committed_offset_of_an_older_epoch_is_validated_first() {
    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    assert_eq!(h.fetched(call, &[(0, ErrorCode::NONE, Some(at(7, 3)))]), []);
    let (call, to, request) = h.ask().expect("OffsetForLeaderEpoch");
    assert_eq!(to, Target::Broker(BrokerId(1)));
    let question =
        EpochPartition { partition: partition(0), current_leader_epoch: Some(LeaderEpoch(5)), leader_epoch: LeaderEpoch(3) };
    assert_eq!(request, Request::OffsetForLeaderEpoch { partitions: vec![question] });
    assert_eq!(h.epoch_end(call, ErrorCode::NONE, Some((3, 7))), [resolved(0, at(7, 3), Some(at(7, 3)))]);
}

// The doors to the reset policy.

/// There is nobody who could have committed anything, and no coordinator to ask.
#[test]
fn door_one_no_group() {
    let mut h = Harness::of(None, ResetPolicy::Latest);
    h.positions.resolve(h.now, &handle(0, 1));
    let (call, to, request) = h.ask().expect("ListOffsets");
    assert_eq!((to, sought(&request)), (Target::Broker(BrokerId(1)), Timestamp::Latest));
    assert_eq!(h.listed(call, 0, ErrorCode::NONE, Some(at(42, 5))), [resolved(0, at(42, 5), None)]);

    let mut h = Harness::of(None, ResetPolicy::Fail);
    h.positions.resolve(h.now, &handle(0, 1));
    assert_eq!(h.ask(), None);
    let [PositionEvent::Problem(Problem { kind: ProblemKind::NoOffset, what, fatal: false, .. })] = &h.events[..] else {
        panic!("{:?}", h.events)
    };
    assert_eq!(
        what,
        "cannot find where to read orders-0: there is no group that would have committed an offset, and the reset policy is to fail; seek to \
         go on"
    );
}

/// What only members should hear is no news of a membership, and is told when it lasts.
#[test]
fn who_is_no_member_is_told_of_a_coordinator_that_speaks_of_one() {
    let mut h = Harness::new(ResetPolicy::Earliest);
    h.member = Membership::none();
    h.positions.resolve(h.now, &handle(0, 1));
    let (mut call, ..) = h.ask().expect("OffsetFetch");
    let mut told = Vec::new();
    for _ in 0..2 * TRIES_MAX {
        told.extend(h.group_error(call, ErrorCode::UNKNOWN_MEMBER_ID));
        call = h.sleep_and_ask().0;
    }
    assert_eq!(problems(&told), [(ProblemKind::Protocol, false)], "{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn door_one_no_committed_offset() {
    for (policy, timestamp) in [
        (ResetPolicy::Earliest, Timestamp::Earliest),
        (ResetPolicy::Latest, Timestamp::Latest),
        (ResetPolicy::ByDuration(Duration::from_secs(60)), Timestamp::AtMs(WALL_MS - 60_000)),
    ] {
        let (mut h, call) = Harness::asking(policy);
        assert_eq!(h.fetched(call, &[(0, ErrorCode::NONE, None)]), []);
        let (call, to, request) = h.ask().expect("ListOffsets");
        assert_eq!((to, sought(&request)), (Target::Broker(BrokerId(1)), timestamp));
        assert_eq!(h.listed(call, 0, ErrorCode::NONE, Some(at(42, 5))), [resolved(0, at(42, 5), None)]);
        assert_eq!((h.ask(), h.positions.poll_timeout()), (None, None));
    }
}

#[test]
fn door_two_the_leader_says_out_of_range() {
    let mut h = Harness::new(ResetPolicy::Earliest);
    h.positions.reset(h.now, &handle(0, 1), at(9, 5), "the leader says so");
    assert_eq!(sought(&h.ask().expect("ListOffsets").2), Timestamp::Earliest);
}

#[test]
fn door_three_a_truncation_that_nobody_can_place() {
    let (mut h, call) = Harness::validating(ResetPolicy::Latest, at(9, 3));
    assert_eq!(h.epoch_end(call, ErrorCode::NONE, None), []);
    let (call, _, request) = h.ask().expect("ListOffsets");
    assert_eq!(sought(&request), Timestamp::Latest);
    let truncated = Some(Truncation { from: at(9, 3), to: at(4, 5) });
    let expected = PositionEvent::Resolved { handle: handle(0, 1), position: at(4, 5), committed: None, truncated };
    assert_eq!(h.listed(call, 0, ErrorCode::NONE, Some(at(4, 5))), [expected]);
}

#[test]
fn the_policy_to_fail_stops_the_partition_until_a_seek() {
    let (mut h, call) = Harness::asking(ResetPolicy::Fail);
    assert_eq!(problems(&h.fetched(call, &[(0, ErrorCode::NONE, None)])), [(ProblemKind::NoOffset, false)]);
    assert_eq!((h.ask(), h.positions.poll_timeout()), (None, None));
    h.positions.reset(h.now, &handle(0, 1), at(9, 5), "the leader says so");
    assert!(h.ask().is_none());
    assert_eq!(problems(&std::mem::take(&mut h.events)), [(ProblemKind::NoOffset, false)]);
    h.positions.seek(h.now, &handle(0, 2), Timestamp::Earliest);
    assert_eq!(sought(&h.ask().expect("ListOffsets").2), Timestamp::Earliest);
}

#[test]
fn no_error_leads_to_the_reset_policy() {
    // Lesson 9: every code of the table, and some outside it, for the group and for the partition; always with the policy that loses most.
    for code in (-1..120).map(ErrorCode).filter(|&code| code != ErrorCode::NONE) {
        for of_group in [true, false] {
            let (mut h, mut call) = Harness::asking(ResetPolicy::Latest);
            for _ in 0..20 {
                let events = if of_group { h.group_error(call, code) } else { h.fetched(call, &[(0, code, None)]) };
                assert!(!events.iter().any(|event| matches!(event, PositionEvent::Resolved { .. })), "{code}");
                let (next, request, _) = h.sleep_and_ask();
                assert!(asks_for_committed(&request), "{code} led to {request:?}");
                call = next;
            }
            h.fetched(call, &[(0, ErrorCode::NONE, Some(at(7, 5)))]);
            assert_eq!(h.ask(), None);
            assert_eq!(h.events.pop(), Some(resolved(0, at(7, 5), Some(at(7, 5)))), "{code}: it goes on when the error ends");
        }
    }
}

#[test]
fn no_lost_answer_and_no_omission_leads_to_the_reset_policy() {
    let errors = || {
        [
            CallError::Lost("reset".into()),
            CallError::NotSent("refused".into()),
            CallError::Malformed(Malformed { api: Api::OffsetFetch, version: 8, at: 0, what: "a length" }),
            CallError::Unsupported { api: Api::OffsetFetch, ours: (1, 8), theirs: None },
        ]
        .map(Err)
    };
    let omitted = Ok(Response::OffsetFetch(OffsetFetchResponse { error: ErrorCode::NONE, partitions: Vec::new() }));
    for answer in errors().into_iter().chain([omitted]) {
        let (mut h, mut call) = Harness::asking(ResetPolicy::Latest);
        for _ in 0..20 {
            h.answer(call, answer.clone());
            let (next, request, _) = h.sleep_and_ask();
            assert!(asks_for_committed(&request), "{answer:?} led to {request:?}");
            call = next;
        }
    }
}

#[test]
fn no_error_while_validating_leads_to_the_reset_policy() {
    // Lesson 9, librdkafka 2.3: a lasting validation error.
    for code in (-1..120).map(ErrorCode).filter(|&code| code != ErrorCode::NONE) {
        let (mut h, mut call) = Harness::validating(ResetPolicy::Latest, at(9, 3));
        for _ in 0..20 {
            let events = h.epoch_end(call, code, None);
            if code == ErrorCode::CLUSTER_AUTHORIZATION_FAILED {
                assert_eq!(events, [resolved(0, at(9, 3), None)]);
                break;
            }
            let (next, request, _) = h.sleep_and_ask();
            assert!(matches!(request, Request::OffsetForLeaderEpoch { .. }), "{code} led to {request:?}");
            call = next;
        }
    }
}

// One test per row of OffsetFetch's table.

#[test]
fn an_unstable_offset_is_waited_for_without_limit_while_others_start() {
    // Lesson 10.
    let mut h = Harness::new(ResetPolicy::Latest);
    h.positions.resolve(h.now, &handle(0, 1));
    h.positions.resolve(h.now, &handle(1, 1));
    let mut call = h.ask().expect("OffsetFetch").0;
    h.fetched(call, &[(0, ErrorCode::UNSTABLE_OFFSET_COMMIT, None), (1, ErrorCode::NONE, Some(at(7, 5)))]);
    assert_eq!(h.ask(), None);
    assert_eq!(std::mem::take(&mut h.events), [resolved(1, at(7, 5), Some(at(7, 5)))]);
    for _ in 0..1000 {
        let (next, _, waited) = h.sleep_and_ask();
        assert!(waited >= UNSTABLE_RETRY && waited <= UNSTABLE_RETRY * 2);
        assert_eq!(h.fetched(next, &[(0, ErrorCode::UNSTABLE_OFFSET_COMMIT, None)]), []);
        call = next;
    }
    assert!(call >= 1000);
}

#[test]
fn a_moved_coordinator_is_looked_up() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let (mut h, call) = Harness::asking(ResetPolicy::Latest);
        assert!(matches!(h.group_error(call, code)[..], [PositionEvent::CoordinatorUnknown { .. }]));
        let (mut h, call) = Harness::asking(ResetPolicy::Latest);
        assert!(matches!(h.fetched(call, &[(0, code, None)])[..], [PositionEvent::CoordinatorUnknown { .. }]));
    }
    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    let lost = h.answer(call, Err(CallError::Lost("reset".into())));
    assert_eq!(lost, [PositionEvent::CoordinatorUnknown { why: "reset".into() }]);
}

#[test]
fn a_loading_coordinator_is_asked_again_after_a_while() {
    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    assert_eq!(h.group_error(call, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), []);
    assert_eq!(h.ask(), None);
    assert!(h.sleep_and_ask().2 <= Duration::from_millis(200));
}

#[test]
fn membership_errors_reach_the_group() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::STALE_MEMBER_EPOCH] {
        let (mut h, call) = Harness::asking(ResetPolicy::Latest);
        let sent = Membership { member_id: "m".into(), generation: Generation(4) };
        assert_eq!(h.group_error(call, code), [PositionEvent::Member { sent, code }]);
    }
}

#[test]
fn codes_against_the_whole_group_are_said_once_and_fatal_where_nothing_can_change() {
    for (code, kind, fatal) in [
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, ProblemKind::Unauthorized, false),
        (ErrorCode::INVALID_GROUP_ID, ProblemKind::GroupRefused, true),
    ] {
        let (mut h, call) = Harness::asking(ResetPolicy::Latest);
        assert_eq!(problems(&h.group_error(call, code)), [(kind, fatal)]);
        let call = h.sleep_and_ask().0;
        assert_eq!(problems(&h.group_error(call, code)), []);
    }
}

#[test]
fn a_lasting_failure_of_one_partition_is_said_once_then_tried_rarely() {
    for (code, tries, kind) in [
        (Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), TRIES_MAX, ProblemKind::UnknownTopic),
        (Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), 1, ProblemKind::Unauthorized),
        (Some(ErrorCode(999)), TRIES_MAX, ProblemKind::Protocol),
        (None, TRIES_MAX, ProblemKind::Protocol),
    ] {
        let (mut h, mut call) = Harness::asking(ResetPolicy::Latest);
        let answer: Vec<_> = code.map(|code| (0, code, None)).into_iter().collect();
        for n in 1..=20 {
            let events = h.fetched(call, &answer);
            assert_eq!(problems(&events).len(), usize::from(n == tries), "{code:?}, failure {n}");
            assert!(n != tries || problems(&events) == [(kind, false)]);
            let refreshes = events.contains(&PositionEvent::RefreshMetadata);
            assert_eq!(refreshes, code == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            let (next, _, waited) = h.sleep_and_ask();
            assert!(n < tries || waited >= LASTING_RETRY, "{code:?}, failure {n}: {waited:?}");
            call = next;
        }
    }
}

#[test]
fn answers_are_untrusted() {
    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    let none = ErrorCode::NONE;
    h.fetched(call, &[(9, none, None), (0, none, Some(at(7, 5))), (0, none, None)]);
    assert_eq!(h.ask(), None);
    assert_eq!(h.events, [resolved(0, at(7, 5), Some(at(7, 5)))]);
}

// Staleness.

#[test]
fn an_answer_for_an_older_assignment_is_dropped() {
    // Lesson 11.
    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    h.positions.seek(h.now, &handle(0, 2), Timestamp::Earliest);
    assert_eq!(h.fetched(call, &[(0, ErrorCode::NONE, None)]), []);
    assert_eq!(sought(&h.ask().expect("the seek's question").2), Timestamp::Earliest);

    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    h.positions.remove(&handle(0, 7));
    h.positions.remove(&handle(0, 1));
    assert_eq!(h.fetched(call, &[(0, ErrorCode::NONE, None)]), []);
    assert_eq!(h.ask(), None);
    assert_eq!(h.answer(call, Err(CallError::Lost("late".into()))), [], "an answer counts once");
}

// ListOffsets.

#[test]
fn questions_are_grouped_by_leader_and_one_is_in_flight_to_each() {
    let mut h = Harness::new(ResetPolicy::Latest);
    for n in 0..4 {
        h.positions.seek(h.now, &handle(n, 1), Timestamp::Earliest);
    }
    let mut asked = Vec::new();
    while let Some((_, to, Request::ListOffsets { partitions, .. })) = h.ask() {
        asked.push((to, partitions.iter().map(|p| p.partition.partition()).collect::<Vec<_>>()));
    }
    assert_eq!(asked, [(Target::Broker(BrokerId(1)), vec![0, 2]), (Target::Broker(BrokerId(2)), vec![1, 3])]);
    h.positions.seek(h.now, &handle(0, 2), Timestamp::Latest);
    assert_eq!(h.ask(), None);
}

#[test]
fn a_time_after_the_last_record_is_the_end() {
    let mut h = Harness::new(ResetPolicy::Fail);
    h.positions.seek(h.now, &handle(0, 1), Timestamp::AtMs(WALL_MS));
    let (call, ..) = h.ask().expect("ListOffsets");
    assert_eq!(h.listed(call, 0, ErrorCode::NONE, None), []);
    let (call, _, request) = h.ask().expect("ListOffsets");
    assert_eq!(sought(&request), Timestamp::Latest);
    assert_eq!(h.listed(call, 0, ErrorCode::NONE, Some(at(3, -1))), [resolved(0, at(3, -1), None)]);
}

#[test]
fn listing_errors_are_tried_again_with_the_same_question() {
    for (code, refreshes) in [
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, true),
        (ErrorCode::FENCED_LEADER_EPOCH, true),
        (ErrorCode::UNKNOWN_LEADER_EPOCH, true),
        (ErrorCode::OFFSET_NOT_AVAILABLE, true),
        (ErrorCode::UNKNOWN_SERVER_ERROR, false),
        (ErrorCode::REQUEST_TIMED_OUT, false),
    ] {
        let mut h = Harness::new(ResetPolicy::Latest);
        h.positions.seek(h.now, &handle(0, 1), Timestamp::Earliest);
        let mut call = h.ask().expect("ListOffsets").0;
        for _ in 0..20 {
            let events = h.listed(call, 0, code, None);
            assert_eq!(events.contains(&PositionEvent::RefreshMetadata), refreshes, "{code}");
            assert_eq!(problems(&events), [], "{code} passes by itself");
            let (next, request, _) = h.sleep_and_ask();
            assert_eq!(sought(&request), Timestamp::Earliest);
            call = next;
        }
    }
}

#[test]
fn a_leader_that_cannot_be_reached_does_not_hold_up_another() {
    let mut h = Harness::new(ResetPolicy::Latest);
    for n in 0..2 {
        h.positions.seek(h.now, &handle(n, 1), Timestamp::Earliest);
    }
    let (first, ..) = h.ask().expect("broker 1");
    let (second, ..) = h.ask().expect("broker 2");
    assert_eq!(h.answer(first, Err(CallError::Lost("reset".into()))), [PositionEvent::RefreshMetadata]);
    assert_eq!(h.listed(second, 1, ErrorCode::NONE, Some(at(1, 5))), [resolved(1, at(1, 5), None)]);
    assert!(h.sleep_and_ask().2 <= Duration::from_millis(200));
}

#[test]
fn a_partition_without_a_leader_waits_for_metadata() {
    let mut h = Harness::new(ResetPolicy::Latest);
    let good = std::mem::take(&mut h.view);
    h.positions.seek(h.now, &handle(0, 1), Timestamp::Earliest);
    for _ in 0..5 {
        assert_eq!(h.ask(), None);
        assert_eq!(std::mem::take(&mut h.events), [PositionEvent::RefreshMetadata]);
        assert_eq!(h.ask(), None);
        assert_eq!(h.events, [], "not again before its time");
        h.sleep();
    }
    assert_eq!(h.ask(), None);
    h.view = good;
    assert!(h.ask().is_some(), "at once, when metadata comes");
}

// Validation.

#[test]
fn a_position_whose_epoch_needs_no_validation_is_resolved_at_once() {
    let mut h = Harness::new(ResetPolicy::Latest);
    h.positions.validate(h.now, &handle(0, 1), at(9, -1));
    h.positions.validate(h.now, &handle(1, 1), at(9, 5));
    assert_eq!(h.ask(), None);
    assert_eq!(h.events, [resolved(0, at(9, -1), None), resolved(1, at(9, 5), None)]);

    let (mut h, call) = Harness::validating(ResetPolicy::Latest, at(9, 3));
    let unsupported = CallError::Unsupported { api: Api::OffsetForLeaderEpoch, ours: (2, 4), theirs: None };
    assert_eq!(h.answer(call, Err(unsupported)), [resolved(0, at(9, 3), None)]);

    let mut h = Harness::new(ResetPolicy::Latest);
    h.view = view(None);
    h.positions.validate(h.now, &handle(0, 1), at(9, 3));
    assert_eq!((h.ask(), &h.events[..]), (None, &[resolved(0, at(9, 3), None)][..]), "brokers without epochs");
}

#[test]
fn a_truncated_log_is_read_on_at_its_end_and_reported() {
    let (mut h, call) = Harness::validating(ResetPolicy::Earliest, at(9, 3));
    let truncated = Some(Truncation { from: at(9, 3), to: at(4, 2) });
    let expected = PositionEvent::Resolved { handle: handle(0, 1), position: at(4, 2), committed: None, truncated };
    assert_eq!(h.epoch_end(call, ErrorCode::NONE, Some((2, 4))), [expected]);
}

#[test]
fn a_truncation_told_in_an_answer_to_fetch_is_treated_alike() {
    let mut h = Harness::new(ResetPolicy::Earliest);
    h.positions.truncated(h.now, &handle(0, 1), at(9, 3), (LeaderEpoch(2), Offset(4)));
    let truncated = Some(Truncation { from: at(9, 3), to: at(4, 2) });
    assert_eq!(h.ask(), None);
    let expected = PositionEvent::Resolved { handle: handle(0, 1), position: at(4, 2), committed: None, truncated };
    assert_eq!(h.events, [expected]);
    let mut h = Harness::new(ResetPolicy::Fail);
    h.positions.truncated(h.now, &handle(0, 1), at(9, 3), (LeaderEpoch(2), Offset(4)));
    assert_eq!(h.ask(), None);
    assert_eq!(problems(&h.events), [(ProblemKind::Truncated, false)]);
}

#[test]
fn a_truncated_log_stops_the_partition_under_the_policy_to_fail() {
    for end in [Some((2, 4)), None] {
        let (mut h, call) = Harness::validating(ResetPolicy::Fail, at(9, 3));
        let events = h.epoch_end(call, ErrorCode::NONE, end);
        assert_eq!(problems(&events), [(ProblemKind::Truncated, false)]);
        let PositionEvent::Problem(problem) = &events[0] else { panic!() };
        assert!(problem.what.contains("offset 9") && (end.is_none() || problem.what.contains("offset 4")), "{}", problem.what);
        assert_eq!((h.ask(), h.positions.poll_timeout()), (None, None));
    }
}

#[test]
fn stale_metadata_does_not_look_like_a_truncation() {
    // The view's leader is older than the committed offset: it would not know that epoch.
    let (mut h, call) = Harness::asking(ResetPolicy::Latest);
    h.fetched(call, &[(0, ErrorCode::NONE, Some(at(7, 6)))]);
    assert_eq!(h.ask(), None);
    assert_eq!(std::mem::take(&mut h.events), [PositionEvent::RefreshMetadata]);
    h.view = view(Some(6));
    assert_eq!(h.ask(), None);
    assert_eq!(h.events, [resolved(0, at(7, 6), Some(at(7, 6)))]);
}

#[test]
fn a_topic_made_anew_with_lower_epochs_is_asked_after_all() {
    // Lesson 23.
    let (mut h, call) = Harness::asking(ResetPolicy::Earliest);
    h.fetched(call, &[(0, ErrorCode::NONE, Some(at(700, 6)))]);
    h.view = view(Some(0));
    assert_eq!(h.ask(), None);
    let (call, request, waited) = h.sleep_and_ask();
    assert!(matches!(request, Request::OffsetForLeaderEpoch { .. }));
    assert!(waited <= Duration::from_secs(5));
    h.epoch_end(call, ErrorCode::NONE, None);
    assert_eq!(sought(&h.ask().expect("the policy").2), Timestamp::Earliest);
}

#[test]
fn an_hour_of_errors_is_few_requests() {
    for code in
        [ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::TOPIC_AUTHORIZATION_FAILED]
    {
        let (mut h, mut requests, mut wakes) = (Harness::new(ResetPolicy::Latest), 0, 0);
        let start = h.now;
        for n in 0..4 {
            h.positions.resolve(h.now, &handle(n, 1));
        }
        // Two of them get as far as their leaders.
        let call = h.ask().expect("OffsetFetch").0;
        h.fetched(call, &[(0, ErrorCode::NONE, None), (1, ErrorCode::NONE, Some(at(7, 3)))]);
        while h.now - start < Duration::from_secs(3600) {
            while let Some((call, _, request)) = h.ask() {
                requests += 1;
                match request {
                    Request::OffsetFetch { .. } => drop(h.group_error(call, code)),
                    Request::ListOffsets { .. } => drop(h.listed(call, 0, code, None)),
                    Request::OffsetForLeaderEpoch { partitions } => {
                        let end = EpochEnd { error: code, end: None };
                        h.answer(call, Ok(Response::OffsetForLeaderEpoch(vec![(partitions[0].partition.clone(), end)])));
                    }
                    request => panic!("{request:?}"),
                }
            }
            wakes += 1;
            h.sleep();
        }
        assert!((1000..=4 * 3600).contains(&requests), "{code}: {requests} requests");
        assert!(wakes <= 5 * 3600, "{code}: {wakes} wake-ups");
    }
}
