use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

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
    body.extend(std::iter::repeat_n(7, extra));
    let mut bytes = Vec::new();
    bytes.extend(base.to_be_bytes());
    bytes.extend((body.len() as i32 + 9).to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.push(2);
    bytes.extend(crc32c::crc32c(&body).to_be_bytes());
    bytes.extend(body);
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
        let config = FetchConfig {
            isolation: Isolation::ReadUncommitted,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            bytes_max,
            partition_bytes_max: MIB as i32,
            rack: None,
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
        let ask = self.fetcher.poll_ask(self.now, &self.view)?;
        let (Owner::Fetch(call), Target::Fetch(BrokerId(broker)), Request::Fetch(request)) = (ask.owner, ask.to, ask.request)
        else {
            panic!("no Fetch")
        };
        assert!(ask.timeout > Duration::from_millis(request.max_wait_ms as u64), "a long poll must not time out");
        Some((call, broker, request))
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
    fn deliver(&mut self, call: u64, records: Vec<u8>) -> Vec<FetchEvent> {
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
fn a_throttled_consumer_waits_but_not_for_ever() {
    for (throttle, expected) in [(3, 3), (1_000_000, 30)] {
        let (mut h, call) = Harness::asking();
        let mut response = response(vec![answered(0, ErrorCode::NONE, batch(10, 1, 5, 0))]);
        response.throttle = Duration::from_secs(throttle);
        h.answer(call, Ok(Response::Fetch(response)));
        assert_eq!(h.ask(), None);
        assert_eq!(h.sleep_and_ask().2, Duration::from_secs(expected));
    }
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

// Pause.

#[test]
fn a_paused_partition_is_not_asked_for_and_keeps_what_comes() {
    // Lesson 15.
    let (mut h, call) = Harness::asking();
    h.fetcher.pause(&partition(0), true);
    assert_eq!(chunk_of(&h.deliver(call, batch(10, 1, 5, 0))).1.next_offset, Offset(11));
    assert_eq!(h.ask(), None);
    h.fetcher.add(h.now, &handle(0, 2), offset(50), &h.view);
    assert_eq!(h.ask(), None, "a seek does not end a pause");
    h.fetcher.pause(&partition(0), false);
    assert_eq!(h.asked_offset(), Some(50));
    h.fetcher.pause(&partition(0), true);
    h.fetcher.remove(&handle(0, 2));
    h.add(0, offset(60));
    assert!(h.fetcher.cursors[&partition(0)].is_wanted(), "another assignment does");
}

// The budget.

#[test]
fn a_full_partition_is_not_asked_for_and_does_not_hold_up_the_others() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(0));
    h.add(1, offset(0));
    let mut base = 0;
    let mut full_at = 0;
    for _ in 0..10 {
        let (call, _, request) = h.ask().expect("a Fetch");
        if request.partitions.len() == 1 {
            assert_eq!((request.partitions[0].partition.partition(), request.max_wait_ms), (1, 20), "a short wait");
            break;
        }
        assert_eq!(request.max_wait_ms, 500);
        full_at += chunk_of(&h.deliver(call, batch(base, 1, 5, MIB - 61))).1.data.len();
        base += 1;
    }
    assert_eq!(full_at, 2 * MIB);
    let call = h.fetcher.calls.keys().next().copied().expect("partition 1's");
    h.fetcher.handle_taken(h.now, &handle(0, 1), MIB);
    h.answer_one(call, answered(1, ErrorCode::NONE, batch(0, 1, 5, 0)));
    assert_eq!(h.ask().map(|(_, _, request)| request.partitions.len()), Some(2));
}

#[test]
fn a_partition_that_nobody_takes_cannot_starve_another() {
    let mut h = Harness::with(MIB);
    (0..4).for_each(|n| h.add(n, offset(0)));
    let mut positions = [0i64; 4];
    for _ in 0..1000 {
        let mut calls = Vec::new();
        while let Some((call, _, request)) = h.ask() {
            calls.push((call, request));
        }
        for (call, request) in calls {
            let mut room = request.max_bytes as usize;
            let mut partitions = Vec::new();
            for asked in &request.partitions {
                let n = asked.partition.partition();
                let size = (asked.max_bytes as usize).min(room);
                if size > 100 {
                    partitions.push(answered(n, ErrorCode::NONE, batch(positions[n as usize], 1, 5, size - 61)));
                    room -= size;
                }
            }
            for event in h.answer(call, Ok(Response::Fetch(response(partitions)))) {
                let FetchEvent::Chunk { handle, chunk, .. } = event else { continue };
                let n = handle.partition.partition();
                positions[n as usize] = chunk.next_offset.0;
                // Only partition 3's records are ever taken.
                if n == 3 {
                    h.fetcher.handle_taken(h.now, &handle, chunk.data.len());
                }
            }
        }
    }
    assert!(positions[3] > 100, "{positions:?}");
    assert!(positions[..3].iter().all(|&n| (1..10).contains(&n)), "{positions:?}");
}

#[test]
fn bytes_of_an_older_handle_count_until_they_are_taken() {
    let (mut h, call) = Harness::asking();
    let events = h.deliver(call, batch(10, 1, 5, 100));
    let bytes = chunk_of(&events).1.data.len();
    h.fetcher.add(h.now, &handle(0, 2), offset(50), &h.view);
    assert_eq!(h.used(), bytes);
    h.fetcher.handle_taken(h.now, &handle(0, 2), bytes);
    assert_eq!(h.used(), bytes, "not the new one's");
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes);
    assert_eq!(h.used(), 0);
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes);
    assert_eq!(h.used(), 0, "given back once");
}

#[test]
fn a_batch_larger_than_the_whole_budget_is_read_and_nothing_else_until_it_is_taken() {
    let mut h = Harness::with(1000);
    h.add(0, offset(10));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.max_bytes, 1000);
    let events = h.deliver(call, batch(10, 1, 5, MIB));
    let bytes = chunk_of(&events).1.data.len();
    assert_eq!(h.ask(), None);
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes);
    assert_eq!(h.asked_offset(), Some(11));
}

#[test]
fn what_a_broker_sends_beyond_the_reservation_is_left_to_the_next_fetch() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(0));
    h.add(1, offset(0));
    let (call, ..) = h.ask().expect("a Fetch");
    let huge = |n| answered(n, ErrorCode::NONE, batch(0, 1, 5, 3 * MIB));
    let events = h.answer(call, Ok(Response::Fetch(response(vec![huge(0), huge(1)]))));
    assert_eq!(chunk_of(&events).0, &handle(0, 1));
    assert_eq!(h.position(1), Some(offset(0)));
    let (_, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].partition, partition(1), "its turn");
}

#[test]
fn partitions_take_turns() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(0));
    h.add(1, offset(0));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].partition, partition(0));
    h.deliver(call, batch(0, 1, 5, 0));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].partition, partition(1));
    h.answer_one(call, answered(1, ErrorCode::NONE, batch(0, 1, 5, 0)));
    assert_eq!(h.ask().expect("a Fetch").2.partitions[0].partition, partition(0));
}

#[test]
fn a_broker_that_waits_for_room_is_not_overtaken() {
    let mut h = Harness::with(64 * 1024);
    h.add(0, offset(0));
    h.add(2, offset(0));
    let (call_1, broker, _) = h.ask().expect("a Fetch");
    assert_eq!(broker, 1);
    // Broker 1's answer is larger than everything: there is no room for broker 2 until it is taken.
    let call_2 = h.ask().map(|(call, ..)| call).expect("half each");
    let events = h.deliver(call_1, batch(0, 1, 5, 64 * 1024));
    let bytes = chunk_of(&events).1.data.len();
    h.answer_one(call_2, answered(2, ErrorCode::NONE, batch(0, 1, 5, 0)));
    assert_eq!(h.ask(), None);
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes);
    assert!(h.ask().is_some());
}

// One test per row of the table.

#[test]
fn stale_metadata_is_refreshed_and_the_position_kept() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::LEADER_NOT_AVAILABLE,
    ] {
        let (mut h, call) = Harness::asking();
        let events = h.refuse(call, code);
        assert!(matches!(events[..], [FetchEvent::RefreshMetadata { .. }]), "{code}: {events:?}");
        assert_eq!(h.ask(), None, "{code}");
        let (_, request, waited) = h.sleep_and_ask();
        assert_eq!(request.partitions[0].offset, Offset(10));
        assert!(waited <= Duration::from_millis(200));
    }
}

#[test]
fn a_topic_that_may_be_gone_is_suspect_until_it_is_read_again() {
    // Lesson 23.
    for code in [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID, ErrorCode::INCONSISTENT_TOPIC_ID] {
        let (mut h, call) = Harness::asking();
        let events = h.refuse(call, code);
        assert_eq!(events[0], FetchEvent::Suspect { handle: handle(0, 1), suspect: true });
        assert!(refreshes(&events));
        let call = h.sleep_and_ask().0;
        let events = h.refuse(call, code);
        assert!(matches!(events[..], [FetchEvent::RefreshMetadata { .. }]), "{events:?}");
        h.add(0, offset(10));
        let call = h.ask().expect("a Fetch").0;
        let events = h.deliver(call, batch(10, 1, 5, 0));
        assert_eq!(events[0], FetchEvent::Suspect { handle: handle(0, 1), suspect: false });
    }
}

#[test]
fn plain_failures_are_tried_again_after_a_while() {
    for code in [ErrorCode::UNKNOWN_LEADER_EPOCH, ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::REQUEST_TIMED_OUT] {
        let (mut h, call) = Harness::asking();
        assert_eq!(h.refuse(call, code), []);
        assert_eq!(h.ask(), None);
        assert_eq!(h.sleep_and_ask().1.partitions[0].offset, Offset(10));
    }
}

#[test]
fn a_partition_that_fails_does_not_stop_the_others() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(10));
    h.add(1, offset(10));
    let (call, ..) = h.ask().expect("a Fetch");
    h.refuse(call, ErrorCode::UNKNOWN_SERVER_ERROR);
    let (_, _, request) = h.ask().expect("at once");
    assert_eq!(request.partitions.iter().map(|p| p.partition.partition()).collect::<Vec<_>>(), [1]);
    assert!(request.max_wait_ms <= 200, "the long poll ends when the other may be asked again");
}

#[test]
fn out_of_range_from_the_leader_suspends_the_partition() {
    let (mut h, call) = Harness::asking();
    assert_eq!(
        h.refuse(call, ErrorCode::OFFSET_OUT_OF_RANGE),
        [FetchEvent::OutOfRange { handle: handle(0, 1), position: offset(10) }]
    );
    assert_eq!((h.ask(), h.fetcher.poll_timeout()), (None, None));
    h.fetcher.add(h.now, &handle(0, 2), offset(500), &h.view);
    assert_eq!(h.asked_offset(), Some(500));
}

#[test]
fn out_of_range_from_one_who_does_not_lead_is_not_believed() {
    // Lesson 16.
    let (mut h, call) = Harness::asking();
    h.view.topics.get_mut("orders").expect("there").partitions[0].leader = Some(BrokerId(2));
    let events = h.refuse(call, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert!(matches!(events[..], [FetchEvent::RefreshMetadata { .. }]), "{events:?}");
    assert_eq!(h.position(0), Some(offset(10)));
    assert_eq!(h.sleep_and_ask().1.partitions[0].offset, Offset(10));
}

#[test]
fn no_code_moves_a_position_or_stops_a_partition() {
    // Lesson 9: all but the one door.
    for code in (-1..120).map(ErrorCode).filter(|code| ![ErrorCode::NONE, ErrorCode::OFFSET_OUT_OF_RANGE].contains(code)) {
        let (mut h, mut call) = Harness::asking();
        for _ in 0..20 {
            let events = h.refuse(call, code);
            assert!(!events.iter().any(|e| matches!(e, FetchEvent::OutOfRange { .. } | FetchEvent::Chunk { .. })), "{code}");
            let (next, request, _) = h.sleep_and_ask();
            assert_eq!(request.partitions[0].offset, Offset(10), "{code}");
            call = next;
        }
        chunk_of(
            &h.deliver(call, batch(10, 1, 5, 0))[..]
                .iter()
                .filter(|e| matches!(e, FetchEvent::Chunk { .. }))
                .cloned()
                .collect::<Vec<_>>(),
        );
    }
}

#[test]
fn a_forbidden_topic_is_reported_once_then_tried_rarely() {
    // Lesson 24.
    let (mut h, mut call) = Harness::asking();
    assert_eq!(problems(&h.refuse(call, ErrorCode::TOPIC_AUTHORIZATION_FAILED)), [ProblemKind::Unauthorized]);
    let start = h.now;
    for _ in 0..10 {
        let (next, _, waited) = h.sleep_and_ask();
        assert!(waited <= Duration::from_millis(6_100), "{waited:?}");
        assert_eq!(h.refuse(next, ErrorCode::TOPIC_AUTHORIZATION_FAILED), []);
        call = next;
    }
    assert!(h.now - start > Duration::from_secs(15));
    assert!(call > 10);
    let call = h.sleep_and_ask().0;
    chunk_of(&h.deliver(call, batch(10, 1, 5, 0)));
    let call = h.ask().expect("a Fetch").0;
    assert_eq!(problems(&h.refuse(call, ErrorCode::TOPIC_AUTHORIZATION_FAILED)), [ProblemKind::Unauthorized], "it changed");
}

#[test]
fn corruption_that_a_broker_reports_is_fetched_once_more_then_reported() {
    let (mut h, call) = Harness::asking();
    assert_eq!(h.refuse(call, ErrorCode::CORRUPT_MESSAGE), []);
    let call = h.sleep_and_ask().0;
    assert_eq!(problems(&h.refuse(call, ErrorCode::CORRUPT_MESSAGE)), [ProblemKind::Corrupt]);
    let call = h.sleep_and_ask().0;
    assert_eq!(h.refuse(call, ErrorCode::CORRUPT_MESSAGE), [], "and still tried: another replica may have it whole");
}

#[test]
fn an_unheard_of_code_is_reported_after_a_few_tries() {
    let (mut h, mut call) = Harness::asking();
    for n in 1..10 {
        assert_eq!(problems(&h.refuse(call, ErrorCode(999))).len(), usize::from(n == 5), "failure {n}");
        call = h.sleep_and_ask().0;
    }
}

#[test]
fn codes_against_the_whole_fetch_are_backed_off_from() {
    for (code, problem) in [
        (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, None),
        (ErrorCode::INVALID_FETCH_SESSION_EPOCH, None),
        (ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR, None),
        (ErrorCode::UNSUPPORTED_VERSION, Some(ProblemKind::Incompatible)),
        (ErrorCode(999), Some(ProblemKind::Protocol)),
    ] {
        let (mut h, mut call) = Harness::asking();
        let mut said = Vec::new();
        for _ in 0..10 {
            let mut response = response(Vec::new());
            response.error = code;
            let events = h.answer(call, Ok(Response::Fetch(response)));
            assert_eq!(refreshes(&events), code == ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
            said.extend(problems(&events));
            assert_eq!(h.ask(), None);
            call = h.sleep_and_ask().0;
        }
        assert_eq!(said, problem.into_iter().collect::<Vec<_>>(), "{code}");
    }
}

#[test]
fn no_answer_is_backed_off_from() {
    for (error, refresh, problem) in [
        (CallError::Lost("reset".into()), true, None),
        (CallError::NotSent("refused".into()), true, None),
        (
            CallError::Malformed(Malformed { api: Api::Fetch, version: 12, at: 0, what: "a length" }),
            false,
            Some(ProblemKind::Protocol),
        ),
        (CallError::Unsupported { api: Api::Fetch, ours: (4, 17), theirs: None }, false, Some(ProblemKind::Incompatible)),
    ] {
        let (mut h, mut call) = Harness::asking();
        let mut said = Vec::new();
        for _ in 0..10 {
            let events = h.answer(call, Err(error.clone()));
            assert_eq!((refreshes(&events), h.used()), (refresh, 0));
            said.extend(problems(&events));
            assert_eq!(h.ask(), None);
            let (next, request, _) = h.sleep_and_ask();
            assert_eq!(request.partitions[0].offset, Offset(10));
            call = next;
        }
        assert_eq!(said, problem.into_iter().collect::<Vec<_>>(), "{error}");
    }
}

#[test]
fn a_newer_leader_that_a_broker_names_is_passed_on() {
    let (mut h, call) = Harness::asking();
    let mut moved = answered(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, Bytes::new());
    moved.current_leader = Some((BrokerId(2), LeaderEpoch(6)));
    let hint =
        FetchEvent::LeaderHint { partition: partition(0), leader: BrokerId(2), epoch: LeaderEpoch(6), brokers: Vec::new() };
    let events = h.answer_one(call, moved.clone());
    assert!(events.contains(&hint) && refreshes(&events));
    let call = h.sleep_and_ask().0;
    moved.current_leader = Some((BrokerId(3), LeaderEpoch(5)));
    assert!(!h.answer_one(call, moved).iter().any(|e| matches!(e, FetchEvent::LeaderHint { .. })), "not an older one");
}

// Batches that cannot be read.

#[test]
fn a_batch_that_does_not_fit_is_asked_for_with_more_bytes_and_never_skipped() {
    // Lesson 19.
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(10));
    let (mut call, _, request) = h.ask().expect("a Fetch");
    let mut size = request.partitions[0].max_bytes;
    let large = batch(10, 1, 5, 5 * MIB);
    while (size as usize) < large.len() {
        assert_eq!(h.deliver(call, large[..size as usize].to_vec()), []);
        let (next, request, _) = h.sleep_and_ask();
        assert_eq!((request.partitions[0].offset, request.partitions[0].max_bytes), (Offset(10), size * 2));
        (call, size) = (next, size * 2);
    }
    assert_eq!(chunk_of(&h.deliver(call, large)).1.next_offset, Offset(11));
}

#[test]
fn a_batch_beyond_the_budget_is_reported_and_never_skipped() {
    let mut h = Harness::with(4 * MIB);
    h.add(0, offset(10));
    let mut call = h.ask().expect("a Fetch").0;
    let mut said = Vec::new();
    for _ in 0..10 {
        said.extend(problems(&h.deliver(call, batch(10, 1, 5, 5 * MIB)[..MIB].to_vec())));
        let (next, request, _) = h.sleep_and_ask();
        assert_eq!(request.partitions[0].offset, Offset(10));
        assert!(request.max_bytes as usize <= 4 * MIB);
        call = next;
    }
    assert_eq!(said, [ProblemKind::Corrupt]);
}

#[test]
fn a_truncated_last_batch_is_no_error() {
    let (mut h, call) = Harness::asking();
    let mut bytes = batch(10, 3, 5, 0);
    bytes.extend(&batch(13, 1, 5, 50)[..70]);
    assert_eq!(chunk_of(&h.deliver(call, bytes)).1.next_offset, Offset(13));
}

#[test]
fn an_old_format_stops_the_partition_with_its_offset_named() {
    let (mut h, call) = Harness::asking();
    let mut old = batch(10, 1, 5, 0);
    old[16] = 1;
    let events = h.deliver(call, old);
    assert_eq!(problems(&events), [ProblemKind::LegacyFormat]);
    let [FetchEvent::Problem(problem)] = &events[..] else { panic!("{events:?}") };
    assert!(problem.what.contains("orders-0") && problem.what.contains("offset 10"), "{}", problem.what);
    assert_eq!((h.ask(), h.fetcher.poll_timeout(), h.position(0)), (None, None, Some(offset(10))));
}

#[test]
fn broken_headers_are_fetched_once_more_then_stop_the_partition() {
    // Lesson 26: one bad batch stops one partition.
    let mut backwards = batch(10, 1, 5, 0);
    backwards[23..27].copy_from_slice(&(-5i32).to_be_bytes());
    let too_old = batch(3, 2, 5, 0);
    for broken in [backwards, too_old] {
        let mut h = Harness::with(64 * MIB);
        h.add(0, offset(10));
        h.add(1, offset(10));
        let call = h.ask().expect("a Fetch").0;
        assert_eq!(h.deliver(call, broken.clone()), []);
        let other = h.ask().expect("the other one").0;
        h.answer_one(other, answered(1, ErrorCode::NONE, batch(10, 1, 5, 0)));
        h.sleep();
        let call = h.ask().expect("both").0;
        assert_eq!(problems(&h.deliver(call, broken)), [ProblemKind::Corrupt]);
        let (_, _, request) = h.ask().expect("the other one goes on");
        assert_eq!(request.partitions.iter().map(|p| p.partition.partition()).collect::<Vec<_>>(), [1]);
        assert_eq!(h.position(0), Some(offset(10)));
    }
}

#[test]
fn good_batches_before_a_broken_one_are_handed_on() {
    let (mut h, call) = Harness::asking();
    let mut broken = batch(11, 1, 5, 0);
    broken[16] = 9;
    assert_eq!(chunk_of(&h.deliver(call, [batch(10, 1, 5, 0), broken.clone()].concat())).1.next_offset, Offset(11));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].offset, Offset(11));
    assert_eq!(h.deliver(call, broken.clone()), []);
    let call = h.sleep_and_ask().0;
    assert_eq!(problems(&h.deliver(call, broken)), [ProblemKind::Corrupt]);
}

#[test]
fn what_the_reader_finds_broken_is_fetched_once_more_then_stops_the_partition() {
    let (mut h, call) = Harness::asking();
    h.deliver(call, batch(10, 5, 5, 0));
    let (in_flight, ..) = h.ask().expect("a Fetch");
    h.fetcher.refetch(h.now, &handle(0, 9), Offset(10));
    assert_eq!(h.position(0), Some(at(15, 5)), "a stale handle");
    h.fetcher.refetch(h.now, &handle(0, 1), Offset(10));
    assert_eq!(h.deliver(in_flight, batch(15, 1, 5, 0)), [], "asked for from where it no longer stands");
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!((request.partitions[0].offset, request.partitions[0].last_fetched_epoch), (Offset(10), None));
    h.deliver(call, batch(10, 5, 5, 0));
    h.fetcher.refetch(h.now, &handle(0, 1), Offset(10));
    assert_eq!(problems(&h.events()), [ProblemKind::Corrupt]);
    assert_eq!(h.ask(), None);
}

#[test]
fn broken_bytes_found_while_validating_are_not_skipped() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, at(10, 5));
    let call = h.ask().expect("a Fetch").0;
    h.deliver(call, batch(10, 5, 5, 0));
    h.lead(&[1, 1, 2, 2], 6);
    assert_eq!(h.ask(), None);
    assert_eq!(h.events(), [FetchEvent::Validate { handle: handle(0, 1), position: at(15, 5) }]);
    h.fetcher.refetch(h.now, &handle(0, 1), Offset(10));
    assert_eq!(h.ask(), None, "not while validating");
    h.add(0, at(15, 5));
    assert_eq!(h.asked_offset(), Some(10));
}

// The cluster changes.

#[test]
fn a_new_leader_epoch_is_validated_before_anything_else_is_fetched() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, at(10, 5));
    let (old, broker, _) = h.ask().expect("a Fetch");
    assert_eq!(broker, 1);
    h.lead(&[2, 1, 2, 2], 6);
    h.fetcher.handle_view(h.now, &h.view);
    assert_eq!(h.events(), [FetchEvent::Validate { handle: handle(0, 1), position: at(10, 5) }]);
    assert_eq!(h.ask(), None);
    assert_eq!(h.deliver(old, batch(10, 1, 5, 0)), [], "the old leader's records may be truncated");
    h.add(0, at(10, 5));
    let (_, broker, request) = h.ask().expect("at the new leader");
    assert_eq!((broker, request.partitions[0].current_leader_epoch), (2, Some(LeaderEpoch(6))));
}

#[test]
fn a_leader_that_changes_while_validating_is_validated_too() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, at(10, 5));
    for epoch in [6, 7] {
        h.lead(&[1, 1, 2, 2], epoch);
        h.fetcher.handle_view(h.now, &h.view);
    }
    assert_eq!(h.events(), [FetchEvent::Validate { handle: handle(0, 1), position: at(10, 5) }]);
    h.add(0, at(10, 5));
    assert_eq!(h.events(), [FetchEvent::Validate { handle: handle(0, 1), position: at(10, 5) }]);
    assert_eq!(h.ask(), None);
    h.add(0, at(10, 5));
    assert_eq!(h.asked_offset(), Some(10));
}

#[test]
fn a_position_without_an_epoch_or_of_the_new_one_is_not_validated() {
    for position in [offset(10), at(10, 6)] {
        let mut h = Harness::with(64 * MIB);
        h.add(0, position);
        h.lead(&[2, 1, 2, 2], 6);
        assert_eq!(h.ask().map(|(_, broker, _)| broker), Some(2));
        assert_eq!(h.events(), []);
    }
}

#[test]
fn a_leader_that_hangs_does_not_hold_a_partition_that_moved() {
    let (mut h, _) = Harness::asking();
    h.lead(&[2, 1, 2, 2], 5);
    assert_eq!(h.ask().map(|(_, broker, _)| broker), Some(2), "without waiting for the old one's answer");
}

#[test]
fn a_back_off_ends_with_the_leader_that_caused_it() {
    let (mut h, call) = Harness::asking();
    h.refuse(call, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    h.lead(&[2, 1, 2, 2], 6);
    assert_eq!(h.ask().map(|(_, broker, _)| broker), Some(2));
}

#[test]
fn a_partition_without_a_leader_asks_for_metadata_until_it_has_one() {
    let mut h = Harness::with(64 * MIB);
    h.lead(&[0, 1, 2, 2], 5);
    h.add(0, offset(10));
    for _ in 0..5 {
        assert_eq!(h.ask(), None);
        assert!(matches!(h.events()[..], [FetchEvent::RefreshMetadata { .. }]));
        h.sleep();
    }
    h.lead(&[1, 1, 2, 2], 5);
    assert_eq!(h.asked_offset(), Some(10));
}

#[test]
fn a_topic_made_anew_is_noticed_and_its_old_handle_never_read_again() {
    // Lesson 23.
    let (mut h, call) = Harness::asking();
    h.rename(Some(id(2)));
    assert_eq!(h.deliver(call, batch(10, 1, 5, 0)), [FetchEvent::Recreated { partition: partition(0) }]);
    h.rename(Some(id(3)));
    h.add(0, offset(10));
    assert_eq!((h.ask(), h.events()), (None, vec![]), "said once; a late validation does not start it again");
    h.fetcher.add(h.now, &handle(0, 2), offset(0), &h.view);
    let (_, _, request) = h.ask().expect("a Fetch");
    assert_eq!((request.partitions[0].offset, request.partitions[0].topic_id), (Offset(0), Some(id(3))));
}

#[test]
fn a_topic_that_vanishes_from_metadata_for_a_while_is_not_another() {
    let mut h = Harness::reading();
    let view = h.view.clone();
    h.view = ClusterView { revision: 90, ..ClusterView::default() };
    assert_eq!(h.ask(), None);
    h.view = ClusterView { revision: 91, ..view };
    assert_eq!(h.asked_offset(), Some(10));
    assert!(h.events().iter().all(|event| matches!(event, FetchEvent::RefreshMetadata { .. })));
}

#[test]
fn a_log_that_departs_from_what_was_read_suspends_the_partition() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, at(10, 5));
    let (call, ..) = h.ask().expect("a Fetch");
    let mut departs = answered(0, ErrorCode::NONE, batch(10, 1, 5, 0));
    departs.diverging = Some((LeaderEpoch(4), Offset(8)));
    let expected = FetchEvent::Truncated { handle: handle(0, 1), position: at(10, 5), diverging: (LeaderEpoch(4), Offset(8)) };
    assert_eq!(h.answer_one(call, departs), [expected]);
    assert_eq!((h.ask(), h.position(0)), (None, Some(at(10, 5))));
}

#[test]
fn a_log_that_departs_beyond_what_was_read_is_nonsense() {
    let (mut h, mut call) = Harness::asking();
    let mut said = Vec::new();
    for _ in 0..10 {
        let mut departs = answered(0, ErrorCode::NONE, Bytes::new());
        departs.diverging = Some((LeaderEpoch(4), Offset(10)));
        said.extend(problems(&h.answer_one(call, departs)));
        call = h.sleep_and_ask().0;
    }
    assert_eq!(said, [ProblemKind::Protocol]);
}

#[test]
fn an_hour_of_errors_is_few_requests() {
    // Lessons 23 and 24: 50 partitions, and each kind of failure.
    let codes = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode(999),
    ];
    for code in codes.map(Some).into_iter().chain([None]) {
        let mut h = Harness::with(64 * MIB);
        h.lead(&[1; 50], 5);
        let (start, mut requests, mut wakes) = (h.now, 0, 0);
        for n in 0..50 {
            // Not all at once: each gets a phase of its own.
            h.add(n, offset(10));
            if let Some((call, _, request)) = h.ask() {
                let refuse = |p: &crate::wire::FetchPartition| {
                    answered(p.partition.partition(), ErrorCode::UNKNOWN_SERVER_ERROR, Bytes::new())
                };
                h.answer(call, Ok(Response::Fetch(response(request.partitions.iter().map(refuse).collect()))));
            }
            h.now += Duration::from_millis(13);
        }
        h.fetcher.handle_timeout(h.now);
        while h.now - start < Duration::from_secs(3600) {
            while let Some((call, _, request)) = h.ask() {
                requests += 1;
                match code {
                    Some(code) => {
                        let refuse = |p: &crate::wire::FetchPartition| answered(p.partition.partition(), code, Bytes::new());
                        h.answer(call, Ok(Response::Fetch(response(request.partitions.iter().map(refuse).collect()))));
                    }
                    None => drop(h.answer(call, Err(CallError::Lost("reset".into())))),
                }
            }
            wakes += 1;
            h.sleep();
        }
        assert!((700..=4 * 3600).contains(&requests), "{code:?}: {requests} requests");
        assert!(wakes <= 5 * 3600, "{code:?}: {wakes} wake-ups");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(i32),
    Remove(i32),
    Pause(i32, bool),
    /// The broker's next answer: how full, and whether the first batch is larger than what was asked for.
    Answer(prop::sample::Index, u8, bool),
    Fail(prop::sample::Index, bool),
    Code(prop::sample::Index, i16),
    Take(prop::sample::Index),
    Move(Vec<i32>, i32),
    Refetch(i32),
    Sleep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..4i32;
    let index = any::<prop::sample::Index>();
    let code = prop::sample::select(vec![0i16, -1, 1, 2, 3, 6, 29, 74, 75, 100, 999]);
    let step = prop_oneof![
        3 => n.clone().prop_map(Step::Add),
        1 => n.clone().prop_map(Step::Remove),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, paused)| Step::Pause(n, paused)),
        8 => (index.clone(), any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(i, full, huge)| Step::Answer(i, full, huge)),
        1 => (index.clone(), any::<bool>()).prop_map(|(i, sent)| Step::Fail(i, sent)),
        2 => (index.clone(), code).prop_map(|(i, code)| Step::Code(i, code)),
        6 => index.prop_map(Step::Take),
        1 => (prop::collection::vec(0..4i32, 4), 5..8i32).prop_map(|(leaders, epoch)| Step::Move(leaders, epoch)),
        1 => n.prop_map(Step::Refetch),
        4 => Just(Step::Sleep),
    ];
    prop::collection::vec(step, 1..250)
}

proptest! {
    /// Invariant F: whatever happens, only what is free is asked for, and all of it comes back. And each chunk continues the last.
    #[test]
    fn the_budget_is_never_exceeded(steps in steps()) {
        const MAX: usize = 200 * 1024;
        let mut h = Harness::with(MAX);
        let mut current: BTreeMap<i32, PartitionHandle> = BTreeMap::new();
        let mut next: BTreeMap<PartitionHandle, i64> = BTreeMap::new();
        let mut in_flight: Vec<(u64, i32, FetchRequest)> = Vec::new();
        let mut untaken: Vec<(PartitionHandle, usize)> = Vec::new();
        let mut assignment = 0;
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Sleep, 3)) {
            let mut answer = None;
            match step {
                Step::Add(n) => {
                    assignment += 1;
                    let p = handle(n, assignment);
                    h.fetcher.add(h.now, &p, at(100, 5), &h.view);
                    next.insert(p.clone(), 100);
                    current.insert(n, p);
                }
                Step::Remove(n) => if let Some(p) = current.remove(&n) { h.fetcher.remove(&p) },
                Step::Pause(n, paused) => h.fetcher.pause(&partition(n), paused),
                Step::Answer(i, full, huge) if !in_flight.is_empty() => {
                    let (call, _, request) = in_flight.remove(i.index(in_flight.len()));
                    let mut room = request.max_bytes as usize * usize::from(full) / 255;
                    let mut partitions = Vec::new();
                    for (i, asked) in request.partitions.iter().enumerate() {
                        let size = if huge && i == 0 { 2 * asked.max_bytes as usize } else { room.min(asked.max_bytes as usize) };
                        if size >= 61 {
                            room = room.saturating_sub(size);
                            let records = batch(asked.offset.0, 3, 5, size - 61);
                            partitions.push(answered(asked.partition.partition(), ErrorCode::NONE, records));
                        }
                    }
                    answer = Some((call, Ok(Response::Fetch(response(partitions))), request.max_bytes as usize));
                }
                Step::Code(i, code) if !in_flight.is_empty() => {
                    let (call, _, request) = in_flight.remove(i.index(in_flight.len()));
                    let refuse = |p: &crate::wire::FetchPartition| answered(p.partition.partition(), ErrorCode(code), Bytes::new());
                    answer = Some((call, Ok(Response::Fetch(response(request.partitions.iter().map(refuse).collect()))), 0));
                }
                Step::Fail(i, sent) if !in_flight.is_empty() => {
                    let (call, ..) = in_flight.remove(i.index(in_flight.len()));
                    let error = if sent { CallError::Lost("x".into()) } else { CallError::NotSent("x".into()) };
                    answer = Some((call, Err(error), 0));
                }
                Step::Take(i) if !untaken.is_empty() => {
                    let (p, bytes) = untaken.remove(i.index(untaken.len()));
                    h.fetcher.handle_taken(h.now, &p, bytes);
                }
                Step::Move(leaders, epoch) => {
                    h.lead(&leaders, epoch);
                    h.fetcher.handle_view(h.now, &h.view);
                }
                Step::Refetch(n) => if let Some(p) = current.get(&n) {
                    h.fetcher.refetch(h.now, p, Offset(100));
                    next.insert(p.clone(), 100);
                }
                Step::Sleep => if h.fetcher.poll_timeout().is_some() { h.sleep(); },
                _ => {}
            }
            let mut admitted = (0, 0);
            if let Some((call, answer, reserved)) = answer {
                admitted.0 = reserved;
                h.fetcher.handle_answer(h.now, call, answer, &h.view);
            }
            while let Some(event) = h.fetcher.poll_event() {
                match event {
                    FetchEvent::Chunk { handle, chunk, .. } => {
                        prop_assert!(current.values().any(|p| *p == handle), "a chunk of a partition that is not ours");
                        prop_assert_eq!(next.insert(handle.clone(), chunk.next_offset.0), Some(chunk.from.0), "a gap");
                        admitted.1 += chunk.data.len();
                        prop_assert!(admitted.1 <= admitted.0 || admitted.1 == chunk.data.len(), "more than reserved");
                        untaken.push((handle, chunk.data.len()));
                    }
                    // The aggregate validates; the log is whole.
                    FetchEvent::Validate { handle, position } => h.fetcher.add(h.now, &handle, position, &h.view),
                    _ => {}
                }
            }
            loop {
                let held: usize = untaken.iter().map(|(_, bytes)| bytes).sum();
                let reserved: usize = in_flight.iter().map(|(_, _, request)| request.max_bytes as usize).sum();
                prop_assert_eq!(h.fetcher.budget.free(MAX), MAX.saturating_sub(held + reserved));
                let Some((call, broker, request)) = h.ask() else { break };
                prop_assert!(held + reserved + request.max_bytes as usize <= MAX, "more is asked for than is free");
                prop_assert!(in_flight.iter().all(|(_, other, _)| *other != broker), "two Fetches to one broker");
                in_flight.push((call, broker, request));
            }
        }
        // All is taken and answered: nothing is left of the budget's use, and everything that can be read is asked for.
        for (p, bytes) in untaken { h.fetcher.handle_taken(h.now, &p, bytes); }
        for (call, ..) in in_flight { h.answer(call, Err(CallError::Lost("x".into()))); }
        prop_assert_eq!(h.used(), 0);
        h.lead(&[1, 1, 2, 2], 9);
        h.fetcher.handle_view(h.now, &h.view);
        for (n, _) in current {
            assignment += 1;
            h.fetcher.pause(&partition(n), false);
            h.fetcher.add(h.now, &handle(n, assignment), at(100, 9), &h.view);
        }
        h.now += Duration::from_secs(60);
        h.fetcher.handle_timeout(h.now);
        let mut asked = 0;
        while let Some((_, _, request)) = h.ask() { asked += request.partitions.len(); }
        prop_assert_eq!(asked, h.fetcher.cursors.len());
    }
}

#[test]
fn a_frame_is_not_copied() {
    let (mut h, call) = Harness::asking();
    let frame = BytesMut::from(&batch(10, 1, 5, 100)[..]).freeze();
    let events = h.answer_one(call, answered(0, ErrorCode::NONE, frame.clone()));
    assert_eq!(chunk_of(&events).1.data.as_ptr(), frame.as_ptr());
}
