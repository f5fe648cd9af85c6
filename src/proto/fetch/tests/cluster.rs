//! Leaders move, logs are truncated, topics are made anew.

use super::*;

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
fn what_was_asked_of_a_topic_says_nothing_about_the_one_that_was_made_anew() {
    // Lesson 23. That the position means nothing there either, whoever owns the partition knows.
    let (mut h, call) = Harness::asking();
    h.rename(Some(id(2)));
    assert_eq!(h.deliver(call, batch(10, 1, 5, 0)), []);
    h.fetcher.add(h.now, &handle(0, 2), offset(0), &h.view);
    let (_, _, request) = h.ask().expect("a Fetch");
    assert_eq!((request.partitions[0].offset, request.partitions[0].topic_id), (Offset(0), Some(id(2))));
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
