mod budget;
mod cluster;
mod lines;
mod sessions;
mod table;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    proto::{Answer, CallError, Owner, PartitionView, Target, TopicView},
    wire::{Api, ErrorCode, FetchRequest, FetchResponse, FetchedPartition, Malformed, Request, Response, TopicRef},
};

const MIB: usize = 1 << 20;

fn offset(offset: i64) -> Position {
    Position { offset: Offset(offset), leader_epoch: None }
}

fn at(offset: i64, epoch: i32) -> Position {
    Position { offset: Offset(offset), leader_epoch: Some(LeaderEpoch(epoch)) }
}

fn partition(n: i32) -> TopicPartition {
    TopicPartition::new("orders", n)
}

fn handle(n: i32, assignment: u64) -> PartitionHandle {
    PartitionHandle { partition: partition(n), assignment }
}

fn id(n: u8) -> TopicId {
    TopicId([n; 16])
}

/// A batch header with `count` offsets from `base`, and `extra` bytes in place of records.
fn batch(base: i64, count: i32, epoch: i32, extra: usize) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0i16.to_be_bytes());
    body.extend((count - 1).to_be_bytes());
    body.extend([0; 16]);
    body.extend((-1i64).to_be_bytes());
    body.extend((-1i16).to_be_bytes());
    body.extend((-1i32).to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend_from_slice(&vec![0; extra]);
    let mut bytes = Vec::new();
    bytes.extend(base.to_be_bytes());
    bytes.extend((body.len() as i32 + 9).to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.push(2);
    // The checksum, which the core leaves to the user's task.
    bytes.extend([0; 4]);
    bytes.extend_from_slice(&body);
    bytes
}

fn answered(n: i32, error: ErrorCode, records: impl Into<Bytes>) -> FetchedPartition {
    FetchedPartition {
        topic: TopicRef::Name("orders".into()),
        partition: n,
        error,
        high_watermark: Offset(1000),
        last_stable_offset: Offset(1000),
        log_start_offset: Some(Offset(0)),
        aborted: Vec::new(),
        preferred_replica: None,
        diverging: None,
        current_leader: None,
        records: records.into(),
    }
}

fn response(partitions: Vec<FetchedPartition>) -> FetchResponse {
    FetchResponse { throttle: Duration::ZERO, error: ErrorCode::NONE, session_id: 0, partitions, brokers: Vec::new() }
}

struct Harness {
    fetcher: Fetcher,
    now: Instant,
    view: ClusterView,
}

impl Harness {
    fn with(bytes_max: usize) -> Self {
        Self::with_lines(bytes_max, 0)
    }

    /// With so many reading lines to each broker.
    #[allow(clippy::disallowed_methods, reason = "where virtual time begins")]
    fn with_lines(bytes_max: usize, reading_lines: usize) -> Self {
        let config = FetchConfig {
            isolation: Isolation::ReadUncommitted,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            bytes_max,
            partition_bytes_max: MIB as i32,
            reading_lines,
            rack: None,
            replica_lease: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 5,
        };
        let mut h = Self { fetcher: Fetcher::new(config), now: Instant::now(), view: ClusterView::default() };
        h.lead(&[1, 1, 2, 2], 5);
        h
    }

    /// With partition 0 at offset 10.
    fn reading() -> Self {
        let mut h = Self::with(64 * MIB);
        h.add(0, offset(10));
        h
    }

    /// With partition 0 at offset 10, and asked for.
    fn asking() -> (Self, u64) {
        let mut h = Self::reading();
        let call = h.ask().expect("a Fetch").0;
        (h, call)
    }

    /// A new view: the leaders of partitions 0, 1, … (0 for none), all at one epoch.
    fn lead(&mut self, leaders: &[i32], epoch: i32) {
        let known = |&n: &i32| PartitionView {
            leader: (n > 0).then_some(BrokerId(n)),
            leader_epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)),
            ..PartitionView::default()
        };
        let topic = TopicView { error: ErrorCode::NONE, id: Some(id(1)), partitions: leaders.iter().map(known).collect() };
        let revision = self.view.revision + 1;
        self.view = ClusterView { revision, topics: [("orders".into(), topic)].into() };
    }

    fn rename(&mut self, new: Option<TopicId>) {
        self.view.revision += 1;
        self.view.topics.get_mut("orders").expect("there").id = new;
    }

    fn add(&mut self, n: i32, position: Position) {
        self.fetcher.add(self.now, &handle(n, 1), position, &self.view);
    }

    fn ask(&mut self) -> Option<(u64, i32, FetchRequest)> {
        self.ask_line().map(|(call, broker, _, request)| (call, broker, request))
    }

    fn ask_line(&mut self) -> Option<(u64, i32, usize, FetchRequest)> {
        let ask = self.fetcher.poll_ask(self.now, &self.view)?;
        let (Owner::Fetch(call), Target::Fetch(BrokerId(broker), line), Request::Fetch(request)) =
            (ask.owner, ask.to, ask.request)
        else {
            panic!("no Fetch")
        };
        assert!(ask.timeout > Duration::from_millis(request.max_wait_ms as u64), "a long poll must not time out");
        Some((call, broker, line, request))
    }

    /// What is asked for now: the offset in partition 0.
    fn asked_offset(&mut self) -> Option<i64> {
        self.ask().map(|(_, _, request)| request.partitions[0].offset.0)
    }

    fn answer(&mut self, call: u64, answer: Answer) -> Vec<FetchEvent> {
        self.fetcher.handle_answer(self.now, call, answer, &self.view);
        self.events()
    }

    fn answer_one(&mut self, call: u64, partition: FetchedPartition) -> Vec<FetchEvent> {
        self.answer(call, Ok(Response::Fetch(response(vec![partition]))))
    }

    /// Answers partition 0 with a code.
    fn refuse(&mut self, call: u64, code: ErrorCode) -> Vec<FetchEvent> {
        self.answer_one(call, answered(0, code, Bytes::new()))
    }

    /// Answers partition 0 with bytes.
    fn deliver(&mut self, call: u64, records: impl Into<Bytes>) -> Vec<FetchEvent> {
        self.answer_one(call, answered(0, ErrorCode::NONE, records))
    }

    fn events(&mut self) -> Vec<FetchEvent> {
        std::iter::from_fn(|| self.fetcher.poll_event()).collect()
    }

    fn position(&self, n: i32) -> Option<Position> {
        self.fetcher.position(&partition(n))
    }

    fn sleep(&mut self) {
        let (until, _) = self.fetcher.poll_timeout().expect("a deadline");
        assert!(until > self.now, "a deadline that has passed is a busy loop");
        self.now = until;
        self.fetcher.handle_timeout(self.now);
    }

    fn sleep_and_ask(&mut self) -> (u64, FetchRequest, Duration) {
        let start = self.now;
        for _ in 0..100 {
            self.sleep();
            if let Some((call, _, request)) = self.ask() {
                return (call, request, self.now - start);
            }
        }
        panic!("nothing is asked any more");
    }

    fn used(&self) -> usize {
        self.fetcher.config.bytes_max - self.fetcher.budget.free(self.fetcher.config.bytes_max)
    }
}

fn chunk_of(events: &[FetchEvent]) -> (&PartitionHandle, &Chunk) {
    let [FetchEvent::Chunk { handle, chunk, .. }] = events else { panic!("no chunk: {events:?}") };
    (handle, chunk)
}

fn problems(events: &[FetchEvent]) -> Vec<ProblemKind> {
    let kind = |event: &FetchEvent| match event {
        FetchEvent::Problem(problem) => Some(problem.kind),
        _ => None,
    };
    events.iter().filter_map(kind).collect()
}

fn refreshes(events: &[FetchEvent]) -> bool {
    events.iter().any(|event| matches!(event, FetchEvent::RefreshMetadata { .. }))
}

// Reading.

#[test]
fn what_comes_is_handed_on_and_the_header_says_where_to_go_on() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, at(10, 5));
    let (call, broker, request) = h.ask().expect("a Fetch");
    assert_eq!((broker, request.max_wait_ms, request.max_bytes), (1, 500, MIB as i32));
    let asked = &request.partitions[0];
    assert_eq!((asked.offset, asked.topic_id, asked.max_bytes), (Offset(10), Some(id(1)), MIB as i32));
    assert_eq!((asked.current_leader_epoch, asked.last_fetched_epoch), (Some(LeaderEpoch(5)), Some(LeaderEpoch(5))));

    // The first batch begins before what was asked for; the last has lost its tail to compaction.
    let bytes = [batch(8, 5, 5, 30), batch(13, 7, 6, 0)].concat();
    let events = h.deliver(call, bytes.clone());
    let (_, chunk) = chunk_of(&events);
    assert_eq!((chunk.from, chunk.next_offset, chunk.heads.len()), (Offset(10), Offset(20), 2));
    assert_eq!(chunk.data, bytes);
    assert_eq!(h.position(0), Some(at(20, 6)));
    assert_eq!(h.asked_offset(), Some(20), "at once");
}

#[test]
fn one_fetch_is_outstanding_to_each_broker() {
    let mut h = Harness::with(64 * MIB);
    (0..4).for_each(|n| h.add(n, offset(0)));
    let partitions = |request: FetchRequest| request.partitions.iter().map(|p| p.partition.partition()).collect::<Vec<_>>();
    let (first, broker, request) = h.ask().expect("broker 1");
    assert_eq!((broker, partitions(request)), (1, vec![0, 1]));
    let (_, broker, request) = h.ask().expect("broker 2");
    assert_eq!((broker, partitions(request)), (2, vec![2, 3]));
    assert_eq!(h.ask(), None);
    h.deliver(first, batch(0, 1, 5, 0));
    assert_eq!(h.ask().map(|(_, broker, _)| broker), Some(1));
    assert_eq!(h.ask(), None);
}

#[test]
fn an_idle_fetcher_has_no_deadline() {
    let mut h = Harness::with(64 * MIB);
    assert_eq!((h.ask(), h.fetcher.poll_timeout()), (None, None));
    h.add(0, offset(0));
    h.ask().expect("a Fetch");
    assert_eq!(h.fetcher.poll_timeout(), None, "the call has a time limit of its own");
    h.fetcher.remove(&handle(0, 1));
    assert_eq!((h.ask(), h.fetcher.poll_timeout()), (None, None));
}

#[test]
fn watermarks_that_move_without_data_are_told_once() {
    let (mut h, call) = Harness::asking();
    let (high_watermark, log_start) = (Offset(1000), Some(Offset(0)));
    let idle = FetchEvent::Idle { handle: handle(0, 1), high_watermark, last_stable_offset: high_watermark, log_start };
    assert_eq!(h.refuse(call, ErrorCode::NONE), [idle]);
    let call = h.sleep_and_ask().0;
    assert_eq!(h.refuse(call, ErrorCode::NONE), []);
}

#[test]
fn an_empty_answer_that_comes_at_once_is_no_busy_loop() {
    // Lesson 18.
    let mut h = Harness::reading();
    let (start, mut requests) = (h.now, 0);
    while h.now - start < Duration::from_secs(60) {
        while let Some((call, ..)) = h.ask() {
            requests += 1;
            // As well: an answer that names nothing.
            let partitions = if requests % 2 == 0 { vec![] } else { vec![answered(0, ErrorCode::NONE, Bytes::new())] };
            h.answer(call, Ok(Response::Fetch(response(partitions))));
        }
        h.sleep();
    }
    assert!((100..=121).contains(&requests), "{requests} requests in a minute");
}

#[test]
fn a_throttled_consumer_waits() {
    let (mut h, call) = Harness::asking();
    let mut response = response(vec![answered(0, ErrorCode::NONE, batch(10, 1, 5, 0))]);
    response.throttle = Duration::from_secs(3);
    h.answer(call, Ok(Response::Fetch(response)));
    assert_eq!(h.ask(), None);
    assert_eq!(h.sleep_and_ask().2, Duration::from_secs(3));
}

#[test]
fn answers_name_topics_by_id_or_by_name() {
    let (mut h, call) = Harness::asking();
    let mut by_id = answered(0, ErrorCode::NONE, batch(10, 1, 5, 0));
    by_id.topic = TopicRef::Id(id(1));
    assert_eq!(chunk_of(&h.answer_one(call, by_id)).0, &handle(0, 1));
}

#[test]
fn answers_are_untrusted() {
    // Lesson 27: a partition that nobody asked for, one twice, and by another topic's id.
    let (mut h, call) = Harness::asking();
    let mut unknown = answered(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Bytes::new());
    unknown.topic = TopicRef::Id(id(9));
    let partitions = vec![
        answered(1, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new()),
        answered(-1, ErrorCode::NONE, batch(0, 1, 5, 0)),
        unknown,
        answered(0, ErrorCode::NONE, batch(10, 1, 5, 0)),
        answered(0, ErrorCode::NONE, batch(11, 1, 5, 0)),
        answered(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new()),
    ];
    let events = h.answer(call, Ok(Response::Fetch(response(partitions))));
    assert_eq!(chunk_of(&events).1.next_offset, Offset(11));
    assert_eq!(h.position(0), Some(at(11, 5)));
    assert_eq!(h.answer(call, Err(CallError::Lost("late".into()))), [], "an answer counts once");
}

// Staleness.

#[test]
fn an_answer_for_an_older_handle_is_dropped_and_its_budget_is_free() {
    // Lesson 2.
    let (mut h, call) = Harness::asking();
    h.fetcher.add(h.now, &handle(0, 2), offset(50), &h.view);
    assert_eq!(h.used(), MIB);
    assert_eq!(h.ask(), None, "one Fetch per broker");
    assert_eq!(h.deliver(call, batch(10, 1, 5, 0)), []);
    assert_eq!((h.used(), h.position(0)), (0, Some(offset(50))));
    assert_eq!(h.asked_offset(), Some(50));

    let (mut h, call) = Harness::asking();
    h.fetcher.remove(&handle(0, 9));
    assert!(h.position(0).is_some(), "a stale remove");
    h.fetcher.remove(&handle(0, 1));
    assert_eq!(h.deliver(call, batch(10, 1, 5, 0)), []);
    assert_eq!((h.used(), h.position(0), h.ask()), (0, None, None));
}

#[test]
fn an_answer_that_comes_after_the_same_handle_was_moved_is_dropped() {
    let (mut h, call) = Harness::asking();
    h.add(0, offset(50));
    assert_eq!(h.deliver(call, batch(10, 1, 5, 0)), []);
    assert_eq!(h.position(0), Some(offset(50)));
}

#[test]
fn a_stale_out_of_range_resets_nothing() {
    // Lessons 9 and 11.
    let (mut h, call) = Harness::asking();
    h.fetcher.add(h.now, &handle(0, 2), offset(50), &h.view);
    assert_eq!(h.refuse(call, ErrorCode::OFFSET_OUT_OF_RANGE), []);
    assert_eq!(h.asked_offset(), Some(50));
}

#[test]
fn who_leads_now_counts_whoever_asked() {
    // Elsewhere the former leader's late word that an offset is out of range would be believed.
    let (mut h, call) = Harness::asking();
    h.fetcher.add(h.now, &handle(0, 2), offset(50), &h.view);
    let current_leader = Some((BrokerId(2), LeaderEpoch(6)));
    let stale = FetchedPartition { current_leader, ..answered(0, ErrorCode::FENCED_LEADER_EPOCH, Bytes::new()) };
    let events = h.answer_one(call, stale);
    let [FetchEvent::LeaderHint { partition: of, leader, epoch, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((of, *leader, *epoch), (&partition(0), BrokerId(2), LeaderEpoch(6)));
}

// Pause.

#[test]
fn a_paused_partition_is_not_asked_for_and_keeps_what_comes() {
    // Lesson 15.
    let (mut h, call) = Harness::asking();
    h.fetcher.pause(&partition(0), true);
    assert_eq!(chunk_of(&h.deliver(call, batch(10, 1, 5, 0))).1.next_offset, Offset(11));
    assert_eq!(h.ask(), None);
    h.fetcher.pause(&partition(0), false);
    assert_eq!(h.asked_offset(), Some(11));
}

#[test]
fn a_frame_is_not_copied() {
    let (mut h, call) = Harness::asking();
    let frame = BytesMut::from(&batch(10, 1, 5, 100)[..]).freeze();
    let events = h.answer_one(call, answered(0, ErrorCode::NONE, frame.clone()));
    assert_eq!(chunk_of(&events).1.data.as_ptr(), frame.as_ptr());
}

// The nearest replica (KIP-392).

impl Harness {
    /// Runs in a rack, reads partition 0 from offset 10, and was sent by its leader, broker 1, to broker 3, whom it asks.
    fn at_replica() -> (Self, u64) {
        let mut h = Self::with(64 * MIB);
        h.fetcher.config.rack = Some("r".into());
        h.add(0, offset(10));
        let (call, broker, request) = h.ask().expect("a Fetch");
        assert_eq!((broker, request.rack.as_deref()), (1, Some("r")));
        h.send_to(call, 3);
        let (call, broker, _) = h.ask().expect("at once");
        assert_eq!(broker, 3);
        (h, call)
    }

    fn send_to(&mut self, call: u64, broker: i32) {
        let preferred_replica = Some(BrokerId(broker));
        let nearer = FetchedPartition { preferred_replica, ..answered(0, ErrorCode::NONE, Bytes::new()) };
        self.answer_one(call, nearer);
    }

    /// Whom it asks now, and whether it says its rack.
    #[track_caller]
    fn asked_broker(&mut self) -> (i32, bool, u64) {
        let (call, broker, request) = self.ask().expect("a Fetch");
        (broker, request.rack.is_some(), call)
    }
}

#[test]
fn what_the_leader_names_is_read_from_there() {
    let (mut h, mut call) = Harness::at_replica();
    for n in 10..13 {
        assert_eq!(chunk_of(&h.deliver(call, batch(n, 1, 5, 0))).1.next_offset, Offset(n + 1));
        let (broker, _, next) = h.asked_broker();
        assert_eq!(broker, 3);
        call = next;
    }
}

#[test]
fn when_the_lease_ends_the_leader_is_asked_again_and_may_name_another() {
    let (mut h, call) = Harness::at_replica();
    h.now += h.fetcher.config.replica_lease;
    assert_eq!(chunk_of(&h.deliver(call, batch(10, 1, 5, 0))).1.next_offset, Offset(11), "what has come is good");
    let (broker, has_rack, call) = h.asked_broker();
    assert_eq!((broker, has_rack), (1, true));
    h.send_to(call, 4);
    assert_eq!(h.asked_broker().0, 4);
}

#[test]
fn what_a_replica_refuses_is_for_the_leader_to_say() {
    for code in [
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::UNSUPPORTED_VERSION,
        ErrorCode(999),
    ] {
        let (mut h, call) = Harness::at_replica();
        let events = h.refuse(call, code);
        assert_eq!(events.len(), usize::from(code == ErrorCode::NOT_LEADER_OR_FOLLOWER), "{code}: {events:?}");
        // At once, and so that it sends no one away.
        let (broker, has_rack, call) = h.asked_broker();
        assert_eq!((broker, has_rack, h.position(0)), (1, false, Some(offset(10))), "{code}");
        chunk_of(&h.deliver(call, batch(10, 1, 5, 0)));
        // After a while a replica may be tried again.
        h.now += Duration::from_secs(30);
        assert!(h.asked_broker().1, "{code}");
    }
}

#[test]
fn a_replica_says_nothing_of_where_the_log_was_cut() {
    let (mut h, call) = Harness::at_replica();
    let cut = FetchedPartition { diverging: Some((LeaderEpoch(4), Offset(3))), ..answered(0, ErrorCode::NONE, Bytes::new()) };
    assert_eq!(h.answer_one(call, cut), []);
    assert_eq!(h.asked_broker().0, 1);
}

#[test]
fn a_replica_that_does_not_answer_is_left_for_the_leader() {
    for error in [CallError::Lost("cut".into()), CallError::NotSent("no address".into())] {
        let (mut h, call) = Harness::at_replica();
        h.answer(call, Err(error));
        let (broker, has_rack, _) = h.asked_broker();
        assert_eq!((broker, has_rack), (1, false));
    }
    let (mut h, call) = Harness::at_replica();
    h.answer(call, Ok(Response::Fetch(FetchResponse { error: ErrorCode::UNKNOWN_SERVER_ERROR, ..response(vec![]) })));
    assert_eq!(h.asked_broker().0, 1);
}

#[test]
fn broken_bytes_of_a_replica_are_fetched_again_from_the_leader() {
    let (mut h, call) = Harness::at_replica();
    h.deliver(call, batch(10, 1, 5, 0));
    h.fetcher.refetch(h.now, &handle(0, 1), Offset(10));
    let (broker, has_rack, _) = h.asked_broker();
    assert_eq!((broker, has_rack, h.position(0)), (1, false, Some(offset(10))));
}

#[test]
fn a_new_leader_is_asked_first() {
    let (mut h, call) = Harness::at_replica();
    h.lead(&[2, 1, 2, 2], 6);
    assert_eq!(h.deliver(call, batch(10, 1, 5, 0)), [], "of the former leader's time");
    let (broker, has_rack, _) = h.asked_broker();
    assert_eq!((broker, has_rack), (2, true));
}

#[test]
fn what_is_removed_is_not_asked_for_anywhere() {
    let (mut h, call) = Harness::at_replica();
    h.fetcher.remove(&handle(0, 1));
    h.deliver(call, batch(10, 1, 5, 0));
    assert!(h.fetcher.nodes.is_empty());
    assert_eq!(h.ask(), None);
}
