//! What the coordinator refuses.

use super::*;
use crate::proto::CallError;

#[track_caller]
fn check_beat(code: ErrorCode, told: &[&str], next: &str, said: &str) {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(refused(code));
    assert_eq!(rig.told(), told);
    if !rig.machine.coordinator_known {
        rig.coordinator(true);
    }
    assert_eq!(rig.next_ask(), next);
    if next != "never" {
        assert_eq!(rig.said(beat(6, None)), said);
    }
}

const ALL: &str = "5 is new here wants t holds t:0,1";
const ANEW: &str = "0 is new here wants t holds nothing";

#[test]
fn coordinator_load_in_progress() {
    check_beat(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, &[], "after a back-off", ALL);
}

#[test]
fn not_coordinator() {
    check_beat(ErrorCode::NOT_COORDINATOR, &["coordinator unknown"], "at once", ALL);
}

#[test]
fn fenced_member_epoch() {
    check_beat(ErrorCode::FENCED_MEMBER_EPOCH, &["lost t-0 t-1", "rejoining"], "at once", ANEW);
}

#[test]
fn unknown_member_id() {
    check_beat(ErrorCode::UNKNOWN_MEMBER_ID, &["lost t-0 t-1", "rejoining"], "at once", ANEW);
}

#[test]
fn group_authorization_failed_is_said_and_tried_again() {
    check_beat(ErrorCode::GROUP_AUTHORIZATION_FAILED, &["Unauthorized"], "after a back-off", ALL);
}

#[test]
fn what_nobody_foresaw_is_fatal() {
    check_beat(ErrorCode(999), &["lost t-0 t-1", "GroupRefused, fatal"], "never", "");
}

#[test]
fn an_epoch_that_is_none_is_told_and_asked_for_again() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(beat(0, None));
    assert_eq!((rig.told(), rig.next_ask()), (vec!["Protocol".to_owned()], "after a back-off"));
    assert_eq!(rig.machine.membership().generation, Generation(5));
}

#[test]
fn who_is_fenced_keeps_its_id_and_who_is_unknown_makes_another() {
    for (code, same) in [(ErrorCode::FENCED_MEMBER_EPOCH, true), (ErrorCode::UNKNOWN_MEMBER_ID, false)] {
        let mut rig = Rig::holding(config());
        let id = rig.member_id();
        rig.pass(5_000);
        rig.answer(refused(code));
        assert_eq!(rig.member_id() == id, same, "{code}");
    }
}

#[test]
fn who_is_fenced_again_and_again_slows_down() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(refused(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(rig.next_ask(), "at once");
    for _ in 0..5 {
        rig.answer(refused(ErrorCode::FENCED_MEMBER_EPOCH));
        assert_eq!(rig.next_ask(), "after a back-off");
    }
}

#[test]
fn a_name_that_is_not_free_yet_is_waited_for() {
    let mut rig = Rig::joining(static_config());
    rig.answer(refused(ErrorCode::UNRELEASED_INSTANCE_ID));
    assert_eq!((rig.told(), rig.next_ask()), (vec!["Fenced".to_owned()], "after a back-off"));
    for _ in 0..20 {
        rig.answer(refused(ErrorCode::UNRELEASED_INSTANCE_ID));
        assert_eq!(rig.told(), [""; 0], "it is said once");
        assert!(["after a back-off", "after seconds"].contains(&rig.next_ask()));
    }
    rig.answer(beat(1, Some(&[(T, &[0])])));
    assert_eq!(rig.told(), ["assigned 1: t-0"]);
}

#[test]
fn a_name_that_is_another_s_is_the_end() {
    let mut rig = Rig::holding(static_config());
    rig.pass(5_000);
    rig.answer(refused(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!((rig.told(), rig.next_ask()), (vec!["lost t-0 t-1".to_owned(), "Fenced, fatal".to_owned()], "never"));
    // The place is another's: there is nothing to leave.
    rig.leave();
    assert_eq!((rig.told(), rig.asks.len()), (vec!["left".to_owned()], 0));
}

#[test]
fn a_commit_refused_for_the_name_is_the_end_too() {
    let mut rig = Rig::holding(static_config());
    rig.member_error(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.told(), ["lost t-0 t-1", "Fenced, fatal"]);
}

fn unsupported() -> Answer {
    Err(CallError::Unsupported { api: crate::wire::Api::ConsumerGroupHeartbeat, ours: (1, 1), theirs: None })
}

#[test]
fn a_broker_or_group_of_the_older_protocol_is_joined_by_that_one_where_the_user_leaves_the_choice() {
    let answers = [refused(ErrorCode::UNSUPPORTED_VERSION), refused(ErrorCode::GROUP_ID_NOT_FOUND), unsupported()];
    for answer in answers {
        let mut rig = Rig::joining(auto_config());
        rig.answer(answer.clone());
        assert_eq!(rig.told(), ["other protocol"], "{answer:?}");
        let mut rig = Rig::joining(config());
        rig.answer(answer.clone());
        assert_eq!((rig.told(), rig.next_ask()), (vec!["Incompatible, fatal".to_owned()], "never"), "{answer:?}");
    }
}

#[test]
fn who_has_a_pattern_for_the_coordinator_does_not_fall_back_where_nobody_would_match_it() {
    let answers = [refused(ErrorCode::UNSUPPORTED_VERSION), refused(ErrorCode::GROUP_ID_NOT_FOUND), unsupported()];
    for answer in answers {
        let mut rig = Rig::new(auto_config());
        rig.coordinator(true);
        rig.subscribe_pattern(&["t"], "a.*");
        rig.answer(answer.clone());
        let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{answer:?}: {:?}", rig.events) };
        assert_eq!((problem.kind, problem.fatal), (crate::proto::ProblemKind::Incompatible, true), "{answer:?}");
        assert!(problem.what.contains("\"a.*\"") && problem.what.contains("subscribe_pattern"), "{}", problem.what);
    }
}

#[test]
fn a_pattern_that_is_none_is_the_end_and_is_said() {
    let mut rig = Rig::holding(config());
    rig.subscribe_pattern(&["t"], "or(ders");
    rig.answer(refused(ErrorCode::INVALID_REGULAR_EXPRESSION));
    let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{:?}", rig.events) };
    assert!(problem.fatal && problem.what.contains("\"or(ders\"") && problem.what.contains("RE2"), "{}", problem.what);
}

#[test]
fn who_has_joined_joins_anew_before_it_falls_back_or_gives_up() {
    for answer in [refused(ErrorCode::UNSUPPORTED_VERSION), refused(ErrorCode::GROUP_ID_NOT_FOUND), unsupported()] {
        let mut rig = Rig::holding(auto_config());
        rig.pass(5_000);
        rig.answer(answer.clone());
        assert_eq!((rig.told(), rig.next_ask()), (vec!["lost t-0 t-1".to_owned(), "rejoining".to_owned()], "at once"));
        rig.answer(answer.clone());
        assert_eq!(rig.told(), ["other protocol"], "{answer:?}");
        let mut rig = Rig::holding(config());
        rig.pass(5_000);
        rig.answer(answer.clone());
        assert_eq!((rig.told(), rig.next_ask()), (vec!["lost t-0 t-1".to_owned(), "rejoining".to_owned()], "at once"));
        rig.answer(answer);
        assert_eq!(rig.told(), ["Incompatible, fatal"]);
    }
}

#[test]
fn the_errors_say_what_to_do() {
    for (code, config, word) in [
        (ErrorCode::UNSUPPORTED_ASSIGNOR, config(), "\"uniform\""),
        (ErrorCode::GROUP_ID_NOT_FOUND, config(), "group.consumer.migration.policy"),
        (ErrorCode::FENCED_INSTANCE_ID, static_config(), "group.instance.id i"),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, config(), "READ on GROUP g"),
    ] {
        let mut rig = Rig::joining(config);
        rig.answer(refused(code));
        let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{:?}", rig.events) };
        assert!(problem.what.contains(word) && problem.what.contains("group g"), "{}", problem.what);
        assert_eq!(problem.code, Some(code));
    }
}
