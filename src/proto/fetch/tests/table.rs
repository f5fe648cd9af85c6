//! One test per row of the table of codes, and for bytes that cannot be read.

use super::*;

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

/// It may be read again a moment later, from the former leader, who would be believed that it is out of range.
#[test]
fn a_newer_leader_counts_also_where_the_partition_is_not_read_any_more() {
    let (mut h, call) = Harness::asking();
    h.fetcher.remove(&handle(0, 1));
    let mut moved = answered(0, ErrorCode::FENCED_LEADER_EPOCH, Bytes::new());
    moved.current_leader = Some((BrokerId(2), LeaderEpoch(6)));
    let events = h.answer_one(call, moved);
    assert!(matches!(&events[..], [FetchEvent::LeaderHint { leader: BrokerId(2), .. }]), "{events:?}");
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
    let beginning = Bytes::from(batch(10, 1, 5, 5 * MIB)).slice(..MIB);
    for _ in 0..10 {
        said.extend(problems(&h.deliver(call, beginning.clone())));
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

#[test]
fn an_hour_of_errors_is_few_requests() {
    // Lessons 23 and 24: a dozen partitions, and each kind of failure.
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
        h.lead(&[1; 12], 5);
        let (start, mut requests, mut wakes) = (h.now, 0, 0);
        for n in 0..12 {
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
