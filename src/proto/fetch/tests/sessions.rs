//! What is said in fetch sessions, and what ends them.

use super::*;

const ID: i32 = 4711;

/// A Fetch, in short: the session and its epoch, what is named with its offset, and what is to be forgotten.
type Said = ((i32, i32), Vec<(i32, i64)>, Vec<i32>);

impl Harness {
    /// With partitions 0 to 2 on one broker, and a session in which nothing is new.
    fn in_session() -> Self {
        let mut h = Self::with(64 * MIB);
        h.lead(&[1, 1, 1], 5);
        (0..3).for_each(|n| h.add(n, offset(10)));
        let (call, said) = h.say();
        assert_eq!(said, ((0, 0), vec![(0, 10), (1, 10), (2, 10)], vec![]), "all is said");
        h.hear(call, ID, (0..3).map(quiet).collect());
        h.rest();
        h
    }

    fn say(&mut self) -> (u64, Said) {
        let (call, _, request) = self.ask().expect("a Fetch");
        let named = request.partitions.iter().map(|p| (p.partition.partition(), p.offset.0)).collect();
        let forgotten = request.session.forgotten.iter().map(|p| p.partition.partition()).collect();
        (call, ((request.session.id, request.session.epoch), named, forgotten))
    }

    fn hear(&mut self, call: u64, session_id: i32, partitions: Vec<FetchedPartition>) -> Vec<FetchEvent> {
        self.answer(call, Ok(Response::Fetch(FetchResponse { session_id, ..response(partitions) })))
    }

    /// An answer of the session in which nothing is new.
    fn hear_nothing(&mut self, call: u64) {
        assert!(self.hear(call, ID, vec![]).is_empty());
        self.rest();
    }

    fn hear_error(&mut self, call: u64, error: ErrorCode) -> Vec<FetchEvent> {
        self.answer(call, Ok(Response::Fetch(FetchResponse { error, ..response(vec![]) })))
    }

    /// Until what was answered without news may be asked for again.
    fn rest(&mut self) {
        self.now += Duration::from_millis(500);
        self.fetcher.handle_timeout(self.now);
    }

    /// One round in which nothing happens.
    fn idle(&mut self, epoch: i32) {
        let (call, said) = self.say();
        assert_eq!(said, ((ID, epoch), vec![], vec![]), "there is nothing new to say");
        self.hear_nothing(call);
    }
}

/// At the end of the log.
fn quiet(n: i32) -> FetchedPartition {
    FetchedPartition { high_watermark: Offset(10), last_stable_offset: Offset(10), ..answered(n, ErrorCode::NONE, Bytes::new()) }
}

fn record(n: i32, base: i64) -> FetchedPartition {
    let end = Offset(base + 1);
    FetchedPartition { high_watermark: end, last_stable_offset: end, ..answered(n, ErrorCode::NONE, batch(base, 1, 5, 0)) }
}

#[test]
fn only_what_has_changed_is_said() {
    let mut h = Harness::in_session();
    h.idle(1);
    h.idle(2);
    let (call, said) = h.say();
    assert_eq!(said, ((ID, 3), vec![], vec![]));
    // Everything was asked for, also what was not named.
    chunk_of(&h.hear(call, ID, vec![record(1, 10)]));
    let (call, said) = h.say();
    assert_eq!(said, ((ID, 4), vec![(1, 11)], vec![]));
    h.hear_nothing(call);
    h.idle(5);
}

#[test]
fn what_is_not_wanted_is_forgotten_and_named_when_it_is_wanted_again() {
    let mut h = Harness::in_session();
    h.fetcher.pause(&partition(1), true);
    let (call, said) = h.say();
    assert_eq!(said, ((ID, 1), vec![], vec![1]));
    h.hear_nothing(call);
    h.idle(2);
    h.fetcher.pause(&partition(1), false);
    let (call, said) = h.say();
    assert_eq!(said, ((ID, 3), vec![(1, 10)], vec![]));
    chunk_of(&h.hear(call, ID, vec![record(1, 10)]));
}

#[test]
fn a_topic_made_anew_is_another_one_to_the_session() {
    let mut h = Harness::in_session();
    h.rename(Some(id(2)));
    let (call, _, request) = h.ask().expect("a Fetch");
    let forgotten: Vec<_> = request.session.forgotten.iter().map(|p| p.topic_id).collect();
    assert_eq!((request.session.epoch, request.partitions.len(), forgotten), (1, 3, vec![Some(id(1)); 3]));
    assert!(request.partitions.iter().all(|p| p.topic_id == Some(id(2))));
    h.hear(call, ID, (0..3).map(quiet).collect());
    h.rest();
    h.idle(2);
}

#[test]
fn a_session_by_names_does_not_go_on_by_ids() {
    let mut h = Harness::in_session();
    h.rename(None);
    h.add(3, offset(0));
    h.lead(&[1, 1, 1, 1], 5);
    h.rename(None);
    // What was known of the others stays; the new one has none.
    let (_, _, request) = h.ask().expect("a Fetch");
    assert_eq!((request.by_topic_id, request.session.epoch, request.partitions.len()), (false, 0, 4));
    assert_eq!(request.session.id, ID, "the old one makes room for the new one");
}

#[test]
fn a_broker_that_has_forgotten_the_session_is_told_everything_at_once() {
    for code in
        [ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ErrorCode::INVALID_FETCH_SESSION_EPOCH, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR]
    {
        let mut h = Harness::in_session();
        let (call, _) = h.say();
        assert!(h.hear_error(call, code).is_empty(), "nothing is wrong");
        let (call, said) = h.say();
        assert_eq!(said, ((ID, 0), vec![(0, 10), (1, 10), (2, 10)], vec![]), "{code}");
        // It makes no sense now: no storm.
        h.hear_error(call, code);
        assert!(h.ask().is_none(), "{code}");
    }
}

#[test]
fn a_broker_that_cannot_do_sessions_any_more_is_told_everything_at_once() {
    let mut h = Harness::in_session();
    let (call, _) = h.say();
    let events = h.answer(call, Err(CallError::Unsupported { api: Api::Fetch, ours: (7, 18), theirs: Some((0, 6)) }));
    assert!(problems(&events).is_empty(), "an older broker is no error");
    assert_eq!(h.say().1.0, (ID, 0));
}

#[test]
fn a_request_without_an_answer_ends_the_session() {
    for error in [CallError::Lost("reset".into()), CallError::NotSent("closed".into())] {
        let mut h = Harness::in_session();
        let (call, _) = h.say();
        h.answer(call, Err(error));
        let (_, request, _) = h.sleep_and_ask();
        assert_eq!((request.session.id, request.session.epoch, request.partitions.len()), (ID, 0, 3));
    }
}

#[test]
fn an_answer_from_another_session_ends_it() {
    for other in [0, ID + 1] {
        let mut h = Harness::in_session();
        let (call, _) = h.say();
        h.hear(call, other, vec![]);
        h.rest();
        assert_eq!(h.say().1.0, (ID, 0));
    }
}

#[test]
fn a_broker_without_room_for_a_session_is_told_everything_each_time() {
    let mut h = Harness::with(64 * MIB);
    h.lead(&[1, 1, 1], 5);
    (0..3).for_each(|n| h.add(n, offset(10)));
    for _ in 0..3 {
        let (call, said) = h.say();
        assert_eq!(said, ((0, 0), vec![(0, 10), (1, 10), (2, 10)], vec![]));
        h.hear(call, 0, (0..3).map(quiet).collect());
        h.rest();
    }
}

/// The broker would not say again where the log ends, and whoever holds the partition now would not know.
#[test]
fn a_partition_held_anew_is_heard_of_anew() {
    let mut h = Harness::in_session();
    h.fetcher.remove(&handle(1, 1));
    h.fetcher.add(h.now, &handle(1, 2), offset(10), &h.view);
    let (call, said) = h.say();
    assert_eq!(said, ((ID, 0), vec![(0, 10), (1, 10), (2, 10)], vec![]));
    let events = h.hear(call, ID, (0..3).map(quiet).collect());
    assert!(matches!(&events[..], [FetchEvent::Idle { handle: of, .. }] if *of == handle(1, 2)), "{events:?}");
}

/// Nor what it said while nobody listened.
#[test]
fn news_that_nobody_waited_for_is_heard_again() {
    let mut h = Harness::in_session();
    let (call, _) = h.say();
    // Its leader has changed, and the position is known to be good, before the answer comes.
    h.lead(&[1, 1, 1], 6);
    h.fetcher.handle_view(h.now, &h.view);
    assert!(h.hear(call, ID, vec![FetchedPartition { high_watermark: Offset(12), ..quiet(2) }]).is_empty());
    h.rest();
    let (call, said) = h.say();
    assert_eq!((said.0, said.1.len()), ((ID, 0), 3));
    let events = h.hear(call, ID, vec![FetchedPartition { high_watermark: Offset(12), ..quiet(2) }]);
    assert!(matches!(&events[..], [FetchEvent::Idle { high_watermark: Offset(12), .. }]), "{events:?}");
}

#[test]
fn what_is_read_as_fast_as_it_comes_is_read_outside_the_session_which_goes_on_afterwards() {
    let mut h = Harness::in_session();
    let (call, _) = h.say();
    let more = FetchedPartition { high_watermark: Offset(12), last_stable_offset: Offset(12), ..record(0, 10) };
    h.hear(call, ID, vec![more]);
    let (call, said) = h.say();
    assert_eq!((said.0, said.1.len()), ((0, -1), 3));
    chunk_of(&h.hear(call, 0, vec![record(0, 11), quiet(1), quiet(2)]));
    let (call, said) = h.say();
    assert_eq!(said, ((ID, 2), vec![(0, 12)], vec![]));
    h.hear_nothing(call);
    h.idle(3);
}

#[test]
fn the_epoch_goes_from_the_greatest_to_one() {
    let mut session = crate::proto::fetch::session::Session::default();
    session.handle_accepted(ID);
    session.epoch = i32::MAX;
    session.handle_accepted(ID);
    assert_eq!(session.ask(Vec::new(), false).0.epoch, 1);
}
