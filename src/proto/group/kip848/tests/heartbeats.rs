//! What a heartbeat says, and when.

use super::*;

#[test]
fn joining_says_everything() {
    let mut rig = Rig::joining(config());
    let ask = rig.take();
    let request = request(&ask);
    assert_eq!(in_short(request), "0 is new here wants t holds nothing");
    assert_eq!((&*request.member.group, request.member.member_id.len(), &request.member.instance_id), ("g", 36, &None));
    assert_eq!((request.rack.as_deref(), request.assignor.as_deref()), (Some("r"), Some("uniform")));
    assert_eq!(request.rebalance_timeout_ms, Some(300_000));
}

#[test]
fn a_member_makes_an_id_of_its_own_and_keeps_it() {
    let [one, other] = [1, 2].map(|seed| Rig::new(GroupConfig { seed, ..config() }).member_id());
    assert_ne!(one, other);
    let id = one.as_bytes();
    assert_eq!((id[14], id[8], id[13], id[18], id[23]), (b'4', b'-', b'-', b'-', b'-'), "{one} is a UUID, version 4");
    assert!(matches!(id[19], b'8' | b'9' | b'a' | b'b'), "{one}");
    let rig = Rig::holding(config());
    assert_eq!(rig.member_id(), Rig::new(config()).member_id());
}

#[test]
fn what_did_not_change_is_not_said() {
    let mut rig = Rig::holding(config());
    rig.pass(4_999);
    assert_eq!(rig.asks.len(), 0);
    rig.pass(1);
    assert_eq!(rig.said(beat(5, None)), "5");
}

#[test]
fn the_coordinator_says_how_often_it_wants_to_hear() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    let mut answer = beat(5, None);
    if let Ok(Response::ConsumerGroupHeartbeat(answer)) = &mut answer {
        answer.heartbeat_interval = Some(Duration::from_secs(13));
    }
    rig.answer(answer);
    rig.pass(12_999);
    assert_eq!(rig.asks.len(), 0);
    rig.pass(1);
    assert_eq!(rig.asks.len(), 1);
}

#[test]
fn a_short_session_is_kept_alive_by_more_than_the_coordinator_asks_for() {
    let mut rig = Rig::holding(GroupConfig { session_timeout: Duration::from_secs(6), ..config() });
    rig.pass(1_999);
    assert_eq!(rig.asks.len(), 0);
    rig.pass(1);
    assert_eq!(rig.asks.len(), 1);
}

#[test]
fn one_heartbeat_is_under_way_at_most() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.subscribe(&["t", "u"]);
    rig.pass(20_000);
    assert_eq!(rig.asks.len(), 1);
    // What came meanwhile is said as soon as the former is answered.
    assert_eq!(rig.said(beat(5, None)), "5");
    assert_eq!(rig.said(beat(6, None)), "5 wants t,u");
    assert_eq!(rig.asks.len(), 0);
}

#[test]
fn a_new_epoch_counts_from_its_answer_on() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    assert_eq!(rig.machine.membership().generation, Generation(5));
    rig.answer(beat(6, None));
    assert_eq!(rig.machine.membership().generation, Generation(6));
    rig.pass(5_000);
    assert_eq!(rig.said(beat(6, None)), "6");
}

#[test]
fn after_an_answer_that_was_lost_everything_is_said_again() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.subscribe(&["t", "u"]);
    rig.answer(lost());
    assert_eq!(rig.told(), ["coordinator unknown"]);
    rig.pass(200);
    assert_eq!(rig.asks.len(), 0, "nobody is there to be asked");
    rig.coordinator(true);
    assert_eq!(rig.said(beat(5, None)), "5 is new here wants t,u holds t:0,1");
    rig.pass(5_000);
    assert_eq!(rig.said(beat(5, None)), "5");
}

#[test]
fn a_join_whose_answer_was_lost_is_sent_again_under_the_same_id() {
    let mut rig = Rig::joining(config());
    let first = rig.take();
    rig.answer_to(&first, lost());
    rig.coordinator(true);
    rig.pass(200);
    let second = rig.take();
    assert_eq!(request(&first), request(&second));
}

#[test]
fn another_coordinator_is_told_at_once_and_everything() {
    let mut rig = Rig::holding(config());
    rig.coordinator(false);
    rig.coordinator(true);
    // It was not the member that lost it, so that it knows of nothing that got lost: a beat is enough.
    assert_eq!(rig.said(refused(ErrorCode::NOT_COORDINATOR)), "5");
    assert_eq!(rig.told(), ["coordinator unknown"]);
    rig.coordinator(true);
    assert_eq!(rig.said(beat(5, None)), "5 is new here wants t holds t:0,1");
}

#[test]
fn without_an_answer_for_a_session_the_partitions_are_another_s() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(lost());
    rig.told();
    // It was heard of last when it said what it holds.
    rig.pass(39_999);
    assert_eq!((rig.told(), rig.machine.may_commit()), (vec![], true));
    rig.pass(1);
    assert_eq!(rig.told(), ["lost t-0 t-1", "rejoining"]);
    assert!(!rig.machine.may_commit());
    let id = rig.member_id();
    rig.coordinator(true);
    assert_eq!(rig.said(beat(9, Some(&[(T, &[0])]))), "0 is new here wants t holds nothing");
    assert_eq!((rig.told(), rig.member_id()), (vec!["assigned 9: t-0".to_owned()], id));
}

#[test]
fn an_answer_read_long_after_the_question_does_not_prolong_the_session() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.pass(30_000);
    rig.answer(beat(5, None));
    // The session began with the question, at 5 s, and now it is 35 s.
    rig.pass(14_999);
    rig.asks.clear();
    assert_eq!(rig.told(), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.told(), ["coordinator unknown", "lost t-0 t-1", "rejoining"]);
}

#[test]
fn an_answer_to_another_membership_counts_for_nothing() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    let late = rig.take();
    rig.pass(45_000);
    rig.told();
    rig.answer_to(&late, beat(6, Some(&[(T, &[0])])));
    assert_eq!((rig.told(), rig.held().len(), rig.machine.may_commit()), (vec![], 0, false));
}

#[test]
fn a_refused_commit_asks_for_a_heartbeat() {
    for code in [ErrorCode::STALE_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_MEMBER_EPOCH] {
        let mut rig = Rig::holding(config());
        rig.member_error(code);
        assert_eq!((rig.next_ask(), rig.told()), ("at once", vec![]), "{code}");
    }
}

#[test]
fn a_refused_commit_of_another_membership_says_nothing() {
    let mut rig = Rig::holding(config());
    let sent = Membership { generation: Generation(4), ..rig.machine.membership().clone() };
    rig.machine.handle_member_error(rig.now, &sent, ErrorCode::FENCED_INSTANCE_ID);
    rig.drain();
    assert_eq!((rig.asks.len(), rig.told()), (0, vec![]));
}

#[test]
fn a_subscription_that_changes_while_joining_is_said_right_after() {
    let mut rig = Rig::joining(config());
    rig.subscribe(&["t", "u"]);
    assert_eq!(rig.said(beat(5, Some(&[(T, &[0])]))), "0 is new here wants t holds nothing");
    assert_eq!(rig.said(beat(5, None)), "5 wants t,u holds t:0");
    rig.pass(5_000);
    assert_eq!(rig.said(beat(5, None)), "5");
}

#[test]
fn a_subscription_that_changes_is_said_at_once_and_once() {
    let mut rig = Rig::holding(config());
    rig.subscribe(&["u"]);
    assert_eq!(rig.said(beat(6, Some(&[]))), "5 wants u");
    assert_eq!(rig.told(), ["release t-0 t-1"]);
    rig.released();
    assert_eq!(rig.said(beat(6, None)), "6 holds nothing");
}

#[test]
fn a_pattern_is_said_when_it_is_new_and_ends_with_an_empty_one() {
    let mut rig = Rig::holding(config());
    rig.subscribe_pattern(&["t"], "a.*");
    assert_eq!(rig.said(beat(5, None)), "5 matches a.*");
    rig.subscribe_pattern(&["t"], "a.*");
    assert_eq!(rig.asks.len(), 0, "it was said");
    rig.subscribe_pattern(&["t", "u"], "b.*");
    assert_eq!(rig.said(beat(5, None)), "5 wants t,u matches b.*");
    rig.subscribe(&["t", "u"]);
    assert_eq!(rig.said(beat(5, None)), "5 matches no more");
    rig.pass(5_000);
    assert_eq!(rig.said(beat(5, None)), "5");
}

#[test]
fn a_pattern_that_changes_while_a_heartbeat_is_under_way_is_said_by_the_next() {
    let mut rig = Rig::new(config());
    rig.coordinator(true);
    rig.subscribe_pattern(&[], "a.*");
    rig.subscribe_pattern(&[], "b.*");
    assert_eq!(rig.said(beat(1, None)), "0 is new here wants none matches a.* holds nothing");
    assert_eq!(rig.said(beat(1, None)), "1 matches b.* holds nothing");
}

#[test]
fn who_wants_only_what_matches_leaves_when_that_ends() {
    let mut rig = Rig::new(config());
    rig.coordinator(true);
    rig.subscribe_pattern(&[], "a.*");
    rig.answer(beat(1, None));
    rig.answer(beat(1, None));
    rig.subscribe(&[]);
    assert_eq!(rig.said(beat(-1, None)), "-1");
}

#[test]
fn a_pattern_is_ended_also_where_it_was_told_by_the_one_before() {
    let mut rig = Rig::joining(config());
    let ask = rig.take();
    assert_eq!(request(&ask).pattern.as_deref(), Some(""), "the former process of a static member may have had one");
}
