//! Leaving: closed, stalled, unsubscribed.

use super::*;

#[test]
fn closing_leaves_with_the_id_it_had() {
    let mut rig = Rig::holding(config());
    let id = rig.member_id();
    rig.leave();
    let ask = rig.take();
    assert_eq!(in_short(request(&ask)), "-1");
    assert_eq!(request(&ask).member.member_id, id);
    assert!(!rig.machine.may_commit());
    rig.answer_to(&ask, beat(-1, None));
    assert_eq!((rig.told(), rig.next_ask()), (vec!["left".to_owned()], "never"));
}

#[test]
fn a_static_member_leaves_its_place_open() {
    let mut rig = Rig::holding(static_config());
    rig.leave();
    assert_eq!(rig.said(beat(-2, None)), "-2");
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn leaving_does_not_wait_for_a_heartbeat_under_way() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    let heartbeat = rig.take();
    rig.leave();
    let farewell = rig.take();
    rig.answer_to(&heartbeat, beat(6, Some(&[(T, &[0])])));
    assert_eq!((rig.told(), rig.held().len()), (vec![], 0));
    rig.answer_to(&farewell, beat(-1, None));
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn leaving_is_tried_twice_and_takes_seconds_at_most() {
    for answer in [lost(), refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)] {
        let mut rig = Rig::holding(config());
        rig.leave();
        rig.answer(answer.clone());
        assert_eq!((rig.told(), rig.next_ask()), (vec![], "after a back-off"));
        rig.answer(answer);
        assert_eq!(rig.told(), ["left"]);
    }
    let mut rig = Rig::holding(config());
    rig.coordinator(false);
    rig.leave();
    rig.pass(4_999);
    assert_eq!((rig.told(), rig.asks.len()), (vec![], 0));
    rig.pass(1);
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn a_refused_farewell_is_as_good() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::GROUP_AUTHORIZATION_FAILED] {
        let mut rig = Rig::holding(config());
        rig.leave();
        rig.answer(refused(code));
        assert_eq!(rig.told(), ["left"], "{code}");
    }
}

#[test]
fn leaving_what_was_never_joined_is_done_at_once() {
    let mut rig = Rig::new(config());
    rig.leave();
    assert_eq!(rig.told(), ["left"]);
    rig.leave();
    rig.subscribe(&["t"]);
    rig.coordinator(true);
    assert_eq!((rig.told(), rig.next_ask()), (vec![], "never"));
}

#[test]
fn closing_while_the_join_is_under_way_leaves_what_may_have_been_joined() {
    let mut rig = Rig::joining(config());
    let join = rig.take();
    rig.leave();
    let farewell = rig.take();
    assert_eq!(request(&join).member.member_id, request(&farewell).member.member_id);
    rig.answer_to(&farewell, refused(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn who_stalls_leaves_and_comes_back_as_another_when_it_goes_on() {
    let mut rig = Rig::holding(config());
    let id = rig.member_id();
    rig.stalled();
    assert_eq!(rig.told(), ["lost t-0 t-1"]);
    assert_eq!(rig.said(beat(-1, None)), "-1");
    rig.pass(600_000);
    assert_eq!((rig.asks.len(), rig.told()), (0, vec![]));
    rig.resumed();
    assert_eq!(rig.said(beat(7, None)), "0 is new here wants t holds nothing");
    assert_ne!(rig.member_id(), id);
}

#[test]
fn who_goes_on_while_it_leaves_comes_back_at_once() {
    let mut rig = Rig::holding(config());
    rig.stalled();
    rig.told();
    rig.resumed();
    assert_eq!(rig.said(beat(-1, None)), "-1");
    assert_eq!(rig.said(beat(7, None)), "0 is new here wants t holds nothing");
}

#[test]
fn who_wants_nothing_any_more_hands_everything_back_and_leaves() {
    let mut rig = Rig::holding(config());
    rig.subscribe(&[]);
    assert_eq!(rig.told(), ["release t-0 t-1"]);
    rig.asks.clear();
    rig.released();
    assert_eq!(rig.said(beat(-1, None)), "-1");
    assert_eq!((rig.told(), rig.next_ask()), (vec![], "never"));
    rig.subscribe(&["t"]);
    assert_eq!(rig.next_ask(), "at once");
}

#[test]
fn closing_after_something_fatal_still_leaves() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(refused(ErrorCode::UNSUPPORTED_ASSIGNOR));
    assert_eq!(rig.told(), ["lost t-0 t-1", "GroupRefused, fatal"]);
    rig.leave();
    assert_eq!(rig.said(beat(-1, None)), "-1");
    assert_eq!(rig.told(), ["left"]);
}
