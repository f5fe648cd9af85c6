//! Leaving: closed, stalled, unsubscribed.

use super::*;

#[track_caller]
fn check_leave(answer: Answer, told: &[&str], next: &str) {
    let mut rig = Rig::stable(config());
    rig.leave();
    rig.answer(Api::LeaveGroup, answer);
    assert_eq!(rig.told(), told);
    rig.coordinator(true);
    assert_eq!(rig.next_ask(), next);
}

#[test]
fn leave_ok() {
    check_leave(Ok(left(ErrorCode::NONE)), &["left"], "nothing");
}

#[test]
fn leave_says_who_and_why() {
    let mut rig = Rig::stable(config());
    rig.leave();
    let ask = rig.take(Api::LeaveGroup);
    let request = leave_request(&ask);
    assert_eq!((&*request.group, &*request.member_id, request.reason.as_deref()), ("g", "m", Some("closed")));
    assert_eq!(rig.member(), "/-1");
    assert!(!rig.machine.may_commit());
}

#[test]
fn leave_unknown_member_id_is_as_good() {
    check_leave(Ok(left(ErrorCode::UNKNOWN_MEMBER_ID)), &["left"], "nothing");
}

#[test]
fn leave_unknown_member_id_of_the_member_is_as_good() {
    let members = vec![("m".into(), ErrorCode::UNKNOWN_MEMBER_ID)];
    check_leave(Ok(Response::LeaveGroup(LeaveGroupResponse { error: ErrorCode::NONE, members })), &["left"], "nothing");
}

#[test]
fn leave_fenced_instance_id_ends_it_too() {
    check_leave(Ok(left(ErrorCode::FENCED_INSTANCE_ID)), &["left"], "nothing");
}

#[test]
fn leave_group_authorization_failed_ends_it_too() {
    check_leave(Ok(left(ErrorCode::GROUP_AUTHORIZATION_FAILED)), &["left"], "nothing");
}

#[test]
fn leave_not_coordinator_is_tried_once_more() {
    check_leave(Ok(left(ErrorCode::NOT_COORDINATOR)), &["coordinator unknown"], "LeaveGroup after a back-off");
}

#[test]
fn leave_coordinator_not_available_is_tried_once_more() {
    check_leave(Ok(left(ErrorCode::COORDINATOR_NOT_AVAILABLE)), &["coordinator unknown"], "LeaveGroup after a back-off");
}

#[test]
fn leave_lost_is_tried_once_more() {
    check_leave(lost(), &["coordinator unknown"], "LeaveGroup after a back-off");
}

#[test]
fn leave_coordinator_loading_is_tried_once_more() {
    check_leave(Ok(left(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)), &[], "LeaveGroup after a back-off");
}

#[test]
fn leave_is_not_tried_a_third_time() {
    let mut rig = Rig::stable(config());
    rig.leave();
    rig.answer(Api::LeaveGroup, lost());
    rig.coordinator(true);
    rig.pass(100);
    rig.answer(Api::LeaveGroup, lost());
    assert_eq!(rig.told(), ["coordinator unknown", "coordinator unknown", "left"]);
}

#[test]
fn leave_without_an_answer_ends_within_seconds_and_a_late_one_changes_nothing() {
    let mut rig = Rig::stable(config());
    rig.leave();
    let ask = rig.take(Api::LeaveGroup);
    rig.pass(5_000);
    assert_eq!(rig.told(), ["left"]);
    rig.answer_to(&ask, Ok(left(ErrorCode::NOT_COORDINATOR)));
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn leave_without_a_coordinator_ends_within_seconds() {
    let mut rig = Rig::stable(config());
    rig.coordinator(false);
    rig.leave();
    rig.pass(4_000);
    assert_eq!(rig.told(), [""; 0]);
    rig.pass(1_000);
    assert_eq!(rig.told(), ["left"]);
    assert_eq!(rig.asks.len(), 0);
}

#[test]
fn leave_waits_for_the_coordinator_to_be_found() {
    let mut rig = Rig::stable(config());
    rig.coordinator(false);
    rig.leave();
    rig.pass(1_000);
    rig.coordinator(true);
    rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn a_static_member_only_stops() {
    for mut rig in [
        Rig::stable(static_config()),
        Rig::joining(static_config()),
        Rig::syncing(static_config()),
        Rig::releasing(static_config()),
    ] {
        rig.asks.clear();
        rig.told();
        rig.leave();
        assert_eq!(rig.told(), ["left"]);
        assert_eq!(rig.next_ask(), "nothing");
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
    assert_eq!((rig.told(), rig.next_ask().as_str()), (vec![], "nothing"));
}

#[test]
fn closing_while_the_first_join_is_parked_leaves_with_the_id_that_its_answer_brings() {
    for answer in [joined("late", 1), Response::JoinGroup(joined_with(ErrorCode::MEMBER_ID_REQUIRED, "late"))] {
        let mut rig = Rig::joining(config());
        rig.leave();
        assert_eq!((rig.told(), rig.under_way()), (vec![], vec![Api::JoinGroup]));
        rig.answer(Api::JoinGroup, Ok(answer));
        let ask = rig.take(Api::LeaveGroup);
        assert_eq!(&*leave_request(&ask).member_id, "late");
        rig.answer_to(&ask, Ok(left(ErrorCode::NONE)));
        assert_eq!(rig.told(), ["left"]);
    }
}

#[test]
fn closing_while_the_first_join_is_parked_does_not_wait_for_it_long() {
    let mut rig = Rig::joining(config());
    rig.leave();
    rig.pass(5_000);
    assert_eq!(rig.told(), ["left"]);
    rig.answer(Api::JoinGroup, Ok(joined("late", 1)));
    assert_eq!((rig.told(), rig.next_ask().as_str()), (vec![], "nothing"));
}

#[test]
fn closing_while_the_first_join_fails_is_done() {
    for answer in [Ok(join_error(ErrorCode::GROUP_MAX_SIZE_REACHED)), lost()] {
        let mut rig = Rig::joining(config());
        rig.leave();
        rig.answer(Api::JoinGroup, answer);
        assert_eq!(rig.told().last().map(String::as_str), Some("left"));
    }
}

#[test]
fn closing_while_a_later_join_is_parked_leaves_with_the_id_we_have() {
    let mut rig = Rig::rejoining(config());
    rig.leave();
    let ask = rig.take(Api::LeaveGroup);
    assert_eq!(&*leave_request(&ask).member_id, "m");
    // The coordinator answers in order: first the join, then the farewell.
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    assert_eq!(rig.told(), [""; 0]);
    rig.answer_to(&ask, Ok(left(ErrorCode::NONE)));
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn closing_with_a_pending_member_id_leaves_with_it() {
    let mut rig = Rig::joining(config());
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(joined_with(ErrorCode::MEMBER_ID_REQUIRED, "pending"))));
    rig.take(Api::JoinGroup);
    rig.leave();
    let ask = rig.take(Api::LeaveGroup);
    assert_eq!(&*leave_request(&ask).member_id, "pending");
}

#[test]
fn closing_after_something_fatal_still_leaves() {
    let mut rig = Rig::rejoining(config());
    rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::INVALID_SESSION_TIMEOUT)));
    rig.told();
    rig.leave();
    rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::UNKNOWN_MEMBER_ID)));
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn a_stalled_member_loses_its_partitions_leaves_and_stays_away_until_it_goes_on() {
    let mut rig = Rig::stable(config());
    rig.stalled();
    assert_eq!(rig.told(), ["lost"]);
    let ask = rig.take(Api::LeaveGroup);
    assert!(leave_request(&ask).reason.as_deref().is_some_and(|reason| reason.contains("processing_timeout")));
    rig.answer_to(&ask, Ok(left(ErrorCode::NONE)));
    rig.pass(600_000);
    assert_eq!((rig.told(), rig.under_way()), (vec![], vec![]));
    rig.resumed();
    let ask = rig.take(Api::JoinGroup);
    assert_eq!(&*join_request(&ask).member_id, "");
}

#[test]
fn a_stalled_member_that_goes_on_before_it_has_left_joins_after_that() {
    let mut rig = Rig::stable(config());
    rig.stalled();
    rig.resumed();
    assert_eq!(rig.under_way(), [Api::LeaveGroup]);
    rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[test]
fn a_stalled_static_member_just_stops_beating() {
    let mut rig = Rig::stable(static_config());
    rig.stalled();
    assert_eq!(rig.told(), ["lost"]);
    rig.pass(60_000);
    assert_eq!(rig.under_way(), []);
    rig.resumed();
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[test]
fn stalled_in_the_first_join_waits_for_its_answer_to_leave_with_and_does_not_join_meanwhile() {
    let mut rig = Rig::joining(config());
    rig.stalled();
    rig.resumed();
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
    rig.answer(Api::JoinGroup, Ok(joined("ghost", 1)));
    let ask = rig.take(Api::LeaveGroup);
    assert_eq!(&*leave_request(&ask).member_id, "ghost");
    rig.answer_to(&ask, Ok(left(ErrorCode::NONE)));
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[test]
fn a_join_that_was_given_up_holds_back_the_next_one() {
    let mut rig = Rig::rejoining(config());
    let parked = rig.take(Api::JoinGroup);
    rig.stalled();
    rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    rig.resumed();
    assert_eq!(rig.under_way(), []);
    rig.answer_to(&parked, Ok(join_error(ErrorCode::UNKNOWN_MEMBER_ID)));
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[test]
fn closing_while_leaving_after_a_stall_is_done_when_that_is() {
    let mut rig = Rig::stable(config());
    rig.stalled();
    rig.leave();
    assert_eq!(rig.told(), ["lost"]);
    rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    assert_eq!(rig.told(), ["left"]);
}

#[test]
fn a_leader_that_leaves_stops_watching() {
    let mut rig = Rig::assigning(config());
    rig.stalled();
    assert_eq!(rig.told(), ["watch "]);
}

#[test]
fn closing_a_stalled_member_is_done_at_once() {
    let mut rig = Rig::stable(static_config());
    rig.stalled();
    rig.leave();
    assert_eq!(rig.told(), ["lost", "left"]);
}

#[test]
fn unsubscribing_releases_and_then_leaves() {
    let mut rig = Rig::stable(config());
    rig.subscribe(&[]);
    assert_eq!(rig.told(), ["release"]);
    rig.released();
    let ask = rig.take(Api::LeaveGroup);
    assert_eq!(leave_request(&ask).reason.as_deref(), Some("unsubscribed"));
    rig.answer_to(&ask, Ok(left(ErrorCode::NONE)));
    assert_eq!(rig.next_ask(), "nothing");
    rig.subscribe(&["u"]);
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[test]
fn unsubscribing_while_joining_leaves_when_joined() {
    let mut rig = Rig::joining(config());
    rig.subscribe(&[]);
    rig.answer(Api::JoinGroup, Ok(joined("m", 1)));
    assert_eq!(rig.under_way(), [Api::LeaveGroup]);
}
