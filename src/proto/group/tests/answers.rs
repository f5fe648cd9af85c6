//! A test for each row of each table of error codes, and for each the same answer when it comes too late.

use super::*;
use crate::wire::Malformed;

/// Plays `answer`, then finds the coordinator if it was lost; gives who the member is, what it told, and what it asks next.
#[track_caller]
fn check(mut rig: Rig, api: Api, answer: Answer, member: &str, told: &[&str], next: &str) {
    rig.told();
    let ask = rig.take(api);
    rig.asks.clear();
    rig.answer_to(&ask, answer);
    assert_eq!(rig.member(), member);
    let events = rig.told();
    assert_eq!(events, told);
    if events.iter().any(|event| event == "coordinator unknown") {
        assert!(rig.asks.is_empty(), "nobody to ask");
        rig.coordinator(true);
    }
    assert_eq!(rig.next_ask(), next);
}

#[track_caller]
fn check_join(code: ErrorCode, member: &str, told: &[&str], next: &str) {
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(join_error(code)), member, told, next);
}

#[test]
fn join_ok_makes_a_member_that_syncs() {
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(joined("m", 6)), "m/6", &[], "SyncGroup at once");
}

#[test]
fn join_member_id_required_joins_with_it_at_once() {
    let answer = Response::JoinGroup(joined_with(ErrorCode::MEMBER_ID_REQUIRED, "new"));
    let mut rig = Rig::joining(config());
    rig.answer(Api::JoinGroup, Ok(answer));
    assert_eq!(rig.member(), "new/-1");
    assert_eq!(rig.told(), [""; 0]);
    let ask = rig.take(Api::JoinGroup);
    assert_eq!(&*join_request(&ask).member_id, "new");
}

#[test]
fn join_member_id_required_without_an_id_backs_off_and_is_said() {
    check(
        Rig::joining(config()),
        Api::JoinGroup,
        Ok(join_error(ErrorCode::MEMBER_ID_REQUIRED)),
        "/-1",
        &["Protocol"],
        "JoinGroup after a back-off",
    );
}

#[test]
fn join_member_id_required_again_backs_off() {
    let answer = Response::JoinGroup(joined_with(ErrorCode::MEMBER_ID_REQUIRED, "another"));
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(answer), "another/-1", &[], "JoinGroup after a back-off");
}

#[test]
fn join_unknown_member_id_starts_anew() {
    check_join(ErrorCode::UNKNOWN_MEMBER_ID, "/-1", &["rejoining"], "JoinGroup at once");
}

#[test]
fn join_illegal_generation_keeps_the_member_id() {
    check_join(ErrorCode::ILLEGAL_GENERATION, "m/-1", &["rejoining"], "JoinGroup at once");
}

#[test]
fn join_rebalance_in_progress_joins_again_at_once() {
    check_join(ErrorCode::REBALANCE_IN_PROGRESS, "m/5", &[], "JoinGroup at once");
}

#[test]
fn join_coordinator_loading_backs_off() {
    check_join(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, "m/5", &[], "JoinGroup after a back-off");
}

#[test]
fn join_coordinator_not_available_looks_it_up() {
    check_join(ErrorCode::COORDINATOR_NOT_AVAILABLE, "m/5", &["coordinator unknown"], "JoinGroup after a back-off");
}

#[test]
fn join_not_coordinator_looks_it_up() {
    check_join(ErrorCode::NOT_COORDINATOR, "m/5", &["coordinator unknown"], "JoinGroup after a back-off");
}

#[test]
fn join_lost_looks_the_coordinator_up() {
    let rig = Rig::rejoining(config());
    check(rig, Api::JoinGroup, lost(), "m/5", &["coordinator unknown"], "JoinGroup after a back-off");
}

#[test]
fn join_not_sent_looks_the_coordinator_up() {
    let answer = Err(CallError::NotSent("no connection".to_owned()));
    let rig = Rig::rejoining(config());
    check(rig, Api::JoinGroup, answer, "m/5", &["coordinator unknown"], "JoinGroup after a back-off");
}

#[test]
fn join_malformed_is_said_and_backs_off() {
    let malformed = Malformed { api: Api::JoinGroup, version: 9, at: 3, what: "cut short" };
    let told = ["Protocol", "coordinator unknown"];
    check(
        Rig::rejoining(config()),
        Api::JoinGroup,
        Err(CallError::Malformed(malformed)),
        "m/5",
        &told,
        "JoinGroup after a back-off",
    );
}

#[test]
fn join_unsupported_is_fatal() {
    let answer = Err(CallError::Unsupported { api: Api::JoinGroup, ours: (2, 9), theirs: None });
    check(Rig::rejoining(config()), Api::JoinGroup, answer, "m/-1", &["Incompatible, fatal"], "nothing");
}

#[test]
fn join_fenced_instance_id_is_fatal() {
    let mut rig = Rig::rejoining(static_config());
    rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::FENCED_INSTANCE_ID)));
    assert_eq!(rig.told(), ["Fenced, fatal"]);
    assert_eq!(rig.next_ask(), "nothing");
}

#[test]
fn join_inconsistent_group_protocol_is_fatal_and_names_our_assignors() {
    let mut rig = Rig::rejoining(config());
    rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)));
    let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{:?}", rig.events) };
    assert!(problem.fatal && problem.what.contains("(range, roundrobin)") && problem.what.contains("rolling upgrade"));
    assert_eq!(problem.code, Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
}

#[test]
fn who_leaves_the_choice_to_us_goes_on_by_the_other_protocol_once_the_group_is_of_that() {
    let auto = || GroupConfig { protocol: GroupProtocol::Auto, ..config() };
    let inconsistent = || Ok(join_error(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    check(Rig::rejoining(auto()), Api::JoinGroup, inconsistent(), "/-1", &["other protocol"], "JoinGroup after a back-off");
    // By the other one it was just told that the group is of this.
    check(Rig::joining(auto()), Api::JoinGroup, inconsistent(), "/-1", &["GroupRefused, fatal"], "nothing");
}

#[test]
fn join_invalid_session_timeout_is_fatal_and_names_the_brokers_limits() {
    let mut rig = Rig::rejoining(config());
    rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::INVALID_SESSION_TIMEOUT)));
    let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{:?}", rig.events) };
    assert!(problem.fatal);
    for part in ["group g", "45000 ms", "group.min.session.timeout.ms", "group.max.session.timeout.ms"] {
        assert!(problem.what.contains(part), "{}", problem.what);
    }
}

#[test]
fn join_invalid_group_id_is_fatal() {
    check_join(ErrorCode::INVALID_GROUP_ID, "m/-1", &["GroupRefused, fatal"], "nothing");
}

#[test]
fn join_unsupported_version_is_fatal() {
    check_join(ErrorCode::UNSUPPORTED_VERSION, "m/-1", &["Incompatible, fatal"], "nothing");
}

#[test]
fn join_unknown_code_is_fatal() {
    check_join(ErrorCode(999), "m/-1", &["GroupRefused, fatal"], "nothing");
}

#[test]
fn join_retriable_code_backs_off() {
    check_join(ErrorCode::REQUEST_TIMED_OUT, "m/5", &[], "JoinGroup after a back-off");
}

#[test]
fn join_group_authorization_failed_is_said_and_tried_again_slowly() {
    check_join(ErrorCode::GROUP_AUTHORIZATION_FAILED, "m/5", &["Unauthorized"], "JoinGroup after a back-off");
    let mut rig = Rig::joining(config());
    rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::GROUP_AUTHORIZATION_FAILED)));
    let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{:?}", rig.events) };
    assert!(!problem.fatal && problem.what.contains("READ on GROUP g"), "{}", problem.what);
}

#[test]
fn join_group_max_size_reached_is_said_and_tried_again_slowly() {
    check_join(ErrorCode::GROUP_MAX_SIZE_REACHED, "m/5", &["GroupRefused"], "JoinGroup after a back-off");
}

#[test]
fn join_of_another_protocol_type_is_fatal() {
    let answer = JoinGroupResponse { protocol_type: Some("connect".into()), ..follower("m", 6) };
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(Response::JoinGroup(answer)), "m/-1", &["GroupRefused, fatal"], "nothing");
}

#[test]
fn join_with_an_assignor_that_was_not_offered_is_fatal() {
    let answer = JoinGroupResponse { protocol: Some("sticky".into()), ..follower("m", 6) };
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(Response::JoinGroup(answer)), "m/-1", &["Protocol, fatal"], "nothing");
}

#[test]
fn join_ok_without_a_generation_is_said_and_backs_off() {
    let answer = Response::JoinGroup(follower("m", -1));
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(answer), "m/5", &["Protocol"], "JoinGroup after a back-off");
}

#[test]
fn join_from_an_old_broker_says_no_protocol_type() {
    let answer = JoinGroupResponse { protocol_type: None, ..follower("m", 6) };
    check(Rig::rejoining(config()), Api::JoinGroup, Ok(Response::JoinGroup(answer)), "m/6", &[], "SyncGroup at once");
}

#[test]
fn a_late_join_answer_changes_nothing() {
    let codes = [
        ErrorCode::NONE,
        ErrorCode::MEMBER_ID_REQUIRED,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::INVALID_SESSION_TIMEOUT,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::UNSUPPORTED_VERSION,
    ];
    for code in codes {
        // Stalled while JoinGroup was under way; its answer comes when the member has left.
        let mut rig = Rig::rejoining(config());
        let join = rig.take(Api::JoinGroup);
        rig.stalled();
        rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
        let answer = JoinGroupResponse { error: code, ..follower("m", 6) };
        rig.answer_to(&join, Ok(Response::JoinGroup(answer)));
        assert_eq!((rig.told(), rig.member().as_str()), (vec![], "/-1"), "{code}");
        assert_eq!(rig.next_ask(), "nothing", "{code}");
    }
}

#[test]
fn a_late_fenced_instance_id_is_fatal_all_the_same() {
    let mut rig = Rig::rejoining(static_config());
    let join = rig.take(Api::JoinGroup);
    rig.stalled();
    assert_eq!(rig.told(), [""; 0]);
    rig.answer_to(&join, Ok(join_error(ErrorCode::FENCED_INSTANCE_ID)));
    assert_eq!(rig.told(), ["Fenced, fatal"]);
}

#[test]
fn a_number_nobody_gave_is_ignored() {
    let mut rig = Rig::rejoining(config());
    rig.machine.handle_answer(rig.now, 999, Ok(join_error(ErrorCode::INVALID_GROUP_ID)));
    rig.drain();
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[track_caller]
fn check_sync(code: ErrorCode, member: &str, told: &[&str], next: &str) {
    check(Rig::syncing(config()), Api::SyncGroup, Ok(sync_error(code)), member, told, next);
}

#[test]
fn sync_ok_gives_the_assignment() {
    let next = "Heartbeat after seconds";
    check(Rig::syncing(config()), Api::SyncGroup, Ok(synced(&[("t", 1)])), "m/5", &["assigned 5: t-1"], next);
}

#[test]
fn sync_rebalance_in_progress_joins_again_at_once_and_keeps_the_generation() {
    check_sync(ErrorCode::REBALANCE_IN_PROGRESS, "m/5", &[], "JoinGroup at once");
}

#[test]
fn sync_illegal_generation_keeps_the_member_id() {
    check_sync(ErrorCode::ILLEGAL_GENERATION, "m/-1", &["rejoining"], "JoinGroup at once");
}

#[test]
fn sync_unknown_member_id_starts_anew() {
    check_sync(ErrorCode::UNKNOWN_MEMBER_ID, "/-1", &["rejoining"], "JoinGroup at once");
}

#[test]
fn sync_fenced_instance_id_is_fatal() {
    let answer = Ok(sync_error(ErrorCode::FENCED_INSTANCE_ID));
    check(Rig::syncing(static_config()), Api::SyncGroup, answer, "/-1", &["Fenced, fatal"], "nothing");
}

#[test]
fn sync_coordinator_not_available_looks_it_up_and_joins_again() {
    check_sync(ErrorCode::COORDINATOR_NOT_AVAILABLE, "m/5", &["coordinator unknown"], "JoinGroup after a back-off");
}

#[test]
fn sync_not_coordinator_looks_it_up_and_joins_again() {
    check_sync(ErrorCode::NOT_COORDINATOR, "m/5", &["coordinator unknown"], "JoinGroup after a back-off");
}

#[test]
fn sync_lost_looks_the_coordinator_up_and_joins_again() {
    let next = "JoinGroup after a back-off";
    check(Rig::syncing(config()), Api::SyncGroup, lost(), "m/5", &["coordinator unknown"], next);
}

#[test]
fn sync_inconsistent_group_protocol_is_fatal() {
    check_sync(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "m/-1", &["GroupRefused, fatal"], "nothing");
}

#[test]
fn sync_group_authorization_failed_is_said_and_joins_again_slowly() {
    check_sync(ErrorCode::GROUP_AUTHORIZATION_FAILED, "m/5", &["Unauthorized"], "JoinGroup after a back-off");
}

#[test]
fn sync_of_another_protocol_type_is_fatal() {
    let answer = SyncGroupResponse { protocol_type: Some("connect".into()), ..synced_with(ErrorCode::NONE, Bytes::new()) };
    let told = ["GroupRefused, fatal"];
    check(Rig::syncing(config()), Api::SyncGroup, Ok(Response::SyncGroup(answer)), "m/-1", &told, "nothing");
}

#[test]
fn sync_of_another_assignor_is_fatal() {
    let answer = SyncGroupResponse { protocol: Some("roundrobin".into()), ..synced_with(ErrorCode::NONE, Bytes::new()) };
    let told = ["GroupRefused, fatal"];
    check(Rig::syncing(config()), Api::SyncGroup, Ok(Response::SyncGroup(answer)), "m/-1", &told, "nothing");
}

#[test]
fn sync_with_empty_bytes_is_an_empty_assignment() {
    check_sync(ErrorCode::NONE, "m/5", &["assigned 5: "], "Heartbeat after seconds");
}

#[test]
fn sync_with_garbled_bytes_is_said_and_backs_off() {
    let answer = Response::SyncGroup(synced_with(ErrorCode::NONE, Bytes::from_static(&[0, 3, 0x7f, 0xff, 0xff, 0xff])));
    check(Rig::syncing(config()), Api::SyncGroup, Ok(answer), "m/5", &["Protocol"], "JoinGroup after a back-off");
}

#[test]
fn sync_with_a_topic_we_did_not_subscribe_to_is_not_taken() {
    check(Rig::syncing(config()), Api::SyncGroup, Ok(synced(&[("t", 0), ("u", 0)])), "m/5", &[], "JoinGroup at once");
}

#[test]
fn a_late_sync_answer_changes_nothing() {
    let codes = [
        ErrorCode::NONE,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
    ];
    for code in codes {
        // The heartbeat tells that the member is unknown before SyncGroup does.
        let mut rig = Rig::syncing(config());
        let sync = rig.take(Api::SyncGroup);
        rig.pass(3_000);
        rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::UNKNOWN_MEMBER_ID)));
        assert_eq!(rig.told(), ["rejoining"]);
        rig.answer_to(&sync, Ok(sync_error(code)));
        assert_eq!((rig.told(), rig.member().as_str()), (vec![], "/-1"), "{code}");
        assert_eq!(rig.under_way(), [Api::JoinGroup], "{code}");
    }
}

#[test]
fn a_late_fenced_sync_is_fatal_all_the_same() {
    let mut rig = Rig::syncing(static_config());
    let sync = rig.take(Api::SyncGroup);
    rig.member_error(&rig.machine.membership().clone(), ErrorCode::ILLEGAL_GENERATION);
    rig.told();
    rig.answer_to(&sync, Ok(sync_error(ErrorCode::FENCED_INSTANCE_ID)));
    assert_eq!(rig.told(), ["Fenced, fatal"]);
}

/// A stable member with a heartbeat under way.
fn beating(config: GroupConfig) -> Rig {
    let mut rig = Rig::stable(config);
    rig.pass(2_000);
    rig
}

#[track_caller]
fn check_heartbeat(code: ErrorCode, member: &str, told: &[&str], next: &str) {
    check(beating(config()), Api::Heartbeat, Ok(heartbeat(code)), member, told, next);
}

#[test]
fn heartbeat_ok_goes_on() {
    check_heartbeat(ErrorCode::NONE, "m/5", &[], "Heartbeat after seconds");
}

#[test]
fn heartbeat_rebalance_in_progress_releases_and_goes_on_beating() {
    check_heartbeat(ErrorCode::REBALANCE_IN_PROGRESS, "m/5", &["rejoining", "release"], "Heartbeat after seconds");
}

#[test]
fn heartbeat_rebalance_in_progress_is_old_news_outside_stable() {
    let mut rig = Rig::releasing(config());
    rig.pass(2_000);
    check(rig, Api::Heartbeat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)), "m/5", &[], "Heartbeat after seconds");
    let mut rig = Rig::syncing(config());
    rig.pass(3_000);
    check(rig, Api::Heartbeat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)), "m/5", &[], "Heartbeat after seconds");
}

#[test]
fn heartbeat_illegal_generation_loses_the_partitions_and_keeps_the_member_id() {
    check_heartbeat(ErrorCode::ILLEGAL_GENERATION, "m/-1", &["lost", "rejoining"], "JoinGroup at once");
}

#[test]
fn heartbeat_unknown_member_id_loses_the_partitions() {
    check_heartbeat(ErrorCode::UNKNOWN_MEMBER_ID, "/-1", &["lost", "rejoining"], "JoinGroup at once");
}

#[test]
fn heartbeat_fenced_instance_id_is_fatal() {
    let answer = Ok(heartbeat(ErrorCode::FENCED_INSTANCE_ID));
    check(beating(static_config()), Api::Heartbeat, answer, "/-1", &["lost", "Fenced, fatal"], "nothing");
}

#[test]
fn heartbeat_coordinator_not_available_revokes_nothing() {
    check_heartbeat(ErrorCode::COORDINATOR_NOT_AVAILABLE, "m/5", &["coordinator unknown"], "Heartbeat after a back-off");
}

#[test]
fn heartbeat_not_coordinator_revokes_nothing() {
    check_heartbeat(ErrorCode::NOT_COORDINATOR, "m/5", &["coordinator unknown"], "Heartbeat after a back-off");
}

#[test]
fn heartbeat_lost_revokes_nothing() {
    let next = "Heartbeat after a back-off";
    check(beating(config()), Api::Heartbeat, lost(), "m/5", &["coordinator unknown"], next);
}

#[test]
fn heartbeat_retriable_code_backs_off() {
    check_heartbeat(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, "m/5", &[], "Heartbeat after a back-off");
}

#[test]
fn heartbeat_group_authorization_failed_is_said_and_tried_again() {
    check_heartbeat(ErrorCode::GROUP_AUTHORIZATION_FAILED, "m/5", &["Unauthorized"], "Heartbeat after seconds");
}

#[test]
fn heartbeat_unknown_code_is_fatal() {
    check_heartbeat(ErrorCode(999), "m/-1", &["lost", "GroupRefused, fatal"], "nothing");
}

#[test]
fn a_late_heartbeat_answer_changes_nothing() {
    let codes = [
        ErrorCode::NONE,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
    ];
    for code in codes {
        // Sent in generation 5, answered in generation 6.
        let mut rig = beating(config());
        let beat = rig.take(Api::Heartbeat);
        rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
        rig.released();
        rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
        rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
        rig.told();
        rig.answer_to(&beat, Ok(heartbeat(code)));
        assert_eq!((rig.told(), rig.member().as_str()), (vec![], "m/6"), "{code}");
        assert!(rig.machine.is_stable(), "{code}");
    }
}

#[test]
fn a_heartbeat_answered_while_joining_changes_nothing() {
    for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS] {
        let mut rig = beating(config());
        let beat = rig.take(Api::Heartbeat);
        rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
        rig.released();
        rig.told();
        rig.answer_to(&beat, Ok(heartbeat(code)));
        assert_eq!((rig.told(), rig.member().as_str()), (vec![], "m/5"), "{code}");
        assert_eq!(rig.under_way(), [Api::JoinGroup], "{code}");
    }
}

#[test]
fn what_a_former_coordinator_says_is_not_held_against_the_present_one() {
    for answer in [Ok(heartbeat(ErrorCode::NOT_COORDINATOR)), lost()] {
        let mut rig = beating(config());
        let beat = rig.take(Api::Heartbeat);
        rig.coordinator(false);
        rig.coordinator(true);
        rig.answer_to(&beat, answer);
        assert_eq!(rig.told(), [""; 0]);
    }
}

#[track_caller]
fn check_member_error(code: ErrorCode, member: &str, told: &[&str], next: &str) {
    let mut rig = Rig::stable(config());
    rig.asks.clear();
    rig.member_error(&rig.machine.membership().clone(), code);
    assert_eq!(rig.member(), member);
    assert_eq!(rig.told(), told);
    assert_eq!(rig.next_ask(), next);
}

#[test]
fn commit_rebalance_in_progress_rejoins_without_losing_anything() {
    check_member_error(ErrorCode::REBALANCE_IN_PROGRESS, "m/5", &["rejoining", "release"], "Heartbeat after seconds");
}

#[test]
fn commit_illegal_generation_rejoins_by_itself() {
    check_member_error(ErrorCode::ILLEGAL_GENERATION, "m/-1", &["lost", "rejoining"], "JoinGroup at once");
}

/// A member that is unknown must not go on consuming until a heartbeat is due.
#[test]
fn commit_unknown_member_id_rejoins_by_itself() {
    check_member_error(ErrorCode::UNKNOWN_MEMBER_ID, "/-1", &["lost", "rejoining"], "JoinGroup at once");
}

#[test]
fn commit_group_id_not_found_rejoins_by_itself() {
    check_member_error(ErrorCode::GROUP_ID_NOT_FOUND, "/-1", &["lost", "rejoining"], "JoinGroup at once");
}

#[test]
fn commit_fenced_instance_id_is_fatal() {
    check_member_error(ErrorCode::FENCED_INSTANCE_ID, "/-1", &["lost", "Fenced, fatal"], "nothing");
}

#[test]
fn other_commit_errors_are_the_committers_business() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::GROUP_AUTHORIZATION_FAILED, ErrorCode::OFFSET_METADATA_TOO_LARGE] {
        check_member_error(code, "m/5", &[], "Heartbeat after seconds");
    }
}

#[test]
fn a_commit_of_a_former_membership_changes_nothing() {
    let former = Membership { member_id: "m".into(), generation: Generation(4) };
    for code in [
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::GROUP_ID_NOT_FOUND,
        ErrorCode::FENCED_INSTANCE_ID,
    ] {
        let mut rig = Rig::stable(config());
        rig.member_error(&former, code);
        assert_eq!((rig.told(), rig.member().as_str()), (vec![], "m/5"), "{code}");
        assert!(rig.machine.is_stable());
    }
}

#[test]
fn a_commit_refused_while_joining_leaves_it_to_the_join() {
    for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS] {
        let mut rig = Rig::rejoining(config());
        rig.member_error(&rig.machine.membership().clone(), code);
        assert_eq!((rig.told(), rig.member().as_str()), (vec![], "m/5"), "{code}");
        assert_eq!(rig.under_way(), [Api::JoinGroup]);
    }
}

#[test]
fn a_commit_refused_while_releasing_loses_what_was_to_be_released() {
    let mut rig = Rig::releasing(config());
    rig.member_error(&rig.machine.membership().clone(), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rig.told(), ["lost", "rejoining"]);
    // Joining does not wait for what is lost, and its release later means nothing.
    let join = rig.take(Api::JoinGroup);
    rig.released();
    rig.answer_to(&join, Ok(joined("m", 6)));
    rig.released();
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    assert_eq!(rig.told(), ["assigned 6: t-0"]);
    rig.released();
    assert!(rig.machine.is_stable());
}
