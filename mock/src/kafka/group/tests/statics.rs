//! Static members of classic groups.

use super::*;

/// A group of one static member and a dynamic one that leads or follows.
fn with_static(t: &mut Tester, is_leader: bool) -> (Client, Client) {
    let mut clients = vec![Client::with_instance(t, "i"), Client::new(t)];
    if !is_leader {
        clients.reverse();
    }
    settle(t, &mut clients);
    let b = clients.pop().expect("two");
    let a = clients.pop().expect("two");
    if is_leader { (a, b) } else { (b, a) }
}

#[test]
fn a_static_member_gets_an_id_with_its_name_at_once() {
    let mut t = tester();
    let mut a = Client::with_instance(&mut t, "i");
    a.send_join(&mut t);
    let answer = a.joined(&mut t);
    assert!(answer.member_id.starts_with("i-"), "{}", answer.member_id);
    assert_eq!(answer.members[0].group_instance_id.as_deref(), Some("i"));
}

#[test]
fn a_static_member_that_begins_anew_takes_its_old_place_without_a_rebalance() {
    let mut t = tester();
    let (old, other) = with_static(&mut t, false);
    let mut new = Client::with_instance(&mut t, "i");
    new.send_join(&mut t);
    let answer = new.joined(&mut t);
    assert_eq!(answer.generation_id, old.generation);
    assert_ne!(answer.member_id, old.id);
    assert!(!answer.skip_assignment);
    assert_eq!((answer.leader, answer.members), (other.id.clone(), vec![]));
    assert_eq!(state(&t), "Stable");
    new.send_sync(&mut t, &[]);
    assert_eq!(new.sync_answer(&mut t).unwrap().assignment, assignment("t", &[1]));
    assert_eq!(gone(&t), [(old.id.to_string(), "fenced")]);
    assert_eq!(old.heartbeat(&mut t), code(ResponseError::FencedInstanceId));
    assert_eq!(old.commit(&mut t, 5), code(ResponseError::FencedInstanceId));
    assert_eq!(old.leave(&mut t), code(ResponseError::FencedInstanceId));
    let answer = t.ask(old.conn, 9, &old.join_request());
    assert_eq!(answer.error_code, code(ResponseError::FencedInstanceId));
    assert_eq!(t.ask(old.conn, 5, &old.sync_request(&[])).error_code, code(ResponseError::FencedInstanceId));
    // Without its name it is nobody.
    let nameless = Client { instance_id: None, ..old };
    assert_eq!(nameless.heartbeat(&mut t), code(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_leader_that_begins_anew_is_told_to_assign_nothing() {
    let mut t = tester();
    let (_, other) = with_static(&mut t, true);
    let mut new = Client::with_instance(&mut t, "i");
    new.send_join(&mut t);
    let answer = new.joined(&mut t);
    assert!(answer.skip_assignment);
    assert_eq!(answer.leader, new.id);
    assert_eq!(answer.members.iter().map(|of| &of.member_id).collect::<Vec<_>>(), [&new.id, &other.id]);
}

#[test]
fn an_older_static_leader_that_begins_anew_does_not_learn_that_it_leads() {
    let mut t = tester();
    let (old, _) = with_static(&mut t, true);
    let mut new = Client { version: 8, ..Client::with_instance(&mut t, "i") };
    new.send_join(&mut t);
    let answer = new.joined(&mut t);
    assert_eq!((answer.leader, answer.members), (old.id, vec![]));
}

#[test]
fn a_static_member_with_other_topics_is_no_reason_to_rebalance_but_another_protocol_is() {
    let mut t = tester();
    let (_, mut other) = with_static(&mut t, false);
    let mut new = Client::with_instance(&mut t, "i");
    new.protocols = vec![("range", subscription(&["u"]))];
    new.send_join(&mut t);
    new.joined(&mut t);
    assert_eq!(state(&t), "Stable");
    other.protocols.insert(0, ("sticky", subscription(&["t"])));
    other.send_join(&mut t);
    let again = Client::with_instance(&mut t, "i");
    let request = again.join_request();
    t.send(again.conn, 9, &request);
    assert_eq!(other.joined(&mut t).protocol_name.as_deref(), Some("range"));
    other.send_sync(&mut t, &[]);
    let mut last = Client::with_instance(&mut t, "i");
    last.protocols.insert(0, ("sticky", subscription(&["t"])));
    last.send_join(&mut t);
    assert!(last.join_answer(&mut t).is_none());
    assert_eq!(state(&t), "PreparingRebalance");
}

#[test]
fn a_static_member_that_begins_anew_in_the_middle_of_a_rebalance_begins_it_anew() {
    let mut t = tester();
    let mut old = Client::with_instance(&mut t, "i");
    old.send_join(&mut t);
    old.joined(&mut t);
    assert_eq!(state(&t), "CompletingRebalance");
    let mut new = Client::with_instance(&mut t, "i");
    new.send_join(&mut t);
    assert_eq!(new.joined(&mut t).generation_id, 2);
}

#[test]
fn a_join_that_waits_is_fenced_by_a_newcomer_of_the_same_name() {
    let mut t = tester();
    let (mut old, mut other) = with_static(&mut t, true);
    old.send_join(&mut t);
    let mut new = Client::with_instance(&mut t, "i");
    new.send_join(&mut t);
    assert_eq!(old.join_answer(&mut t).unwrap().error_code, code(ResponseError::FencedInstanceId));
    other.send_join(&mut t);
    assert_eq!(new.joined(&mut t).leader, new.id);
}

#[test]
fn a_static_member_is_kept_over_a_rebalance_it_missed_until_its_session_ends() {
    let mut t = tester();
    let (absent, mut other) = with_static(&mut t, false);
    other.send_join(&mut t);
    for _ in 0..5 {
        absent.heartbeat(&mut t);
        t.pass(REBALANCE / 6);
    }
    absent.heartbeat(&mut t);
    t.pass(REBALANCE / 6);
    assert_eq!(other.joined(&mut t).members.len(), 2, "the absent one is still a member");
    assert!(gone(&t).is_empty());
    let plan = [(&other.id, assignment("t", &[0]))];
    other.send_sync(&mut t, &plan);
    t.pass(SESSION);
    assert_eq!(gone(&t)[0], (absent.id.to_string(), "session timed out"));
}

#[test]
fn a_tool_takes_static_members_out_by_their_names() {
    let mut t = tester();
    let (a, _) = with_static(&mut t, false);
    let by_name = |name| MemberIdentity::default().with_group_instance_id(Some(text(name)));
    let request = LeaveGroupRequest::default().with_group_id(text(GROUP).into());
    let answer = t.ask(a.conn, 3, &request.with_members(vec![by_name("i"), by_name("nobody")]));
    let errors: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
    assert_eq!((answer.error_code, errors), (0, vec![0, code(ResponseError::UnknownMemberId)]));
    assert_eq!(gone(&t), [(a.id.to_string(), "left")]);
    assert_eq!(state(&t), "PreparingRebalance");
}

#[test]
fn an_absent_static_leader_is_followed_by_one_who_joined() {
    let mut t = tester();
    let (absent, mut other) = with_static(&mut t, true);
    other.protocols = vec![("range", subscription(&["u"]))];
    other.send_join(&mut t);
    for _ in 0..6 {
        absent.heartbeat(&mut t);
        t.pass(REBALANCE / 6);
    }
    let answer = other.joined(&mut t);
    assert_eq!((answer.leader, answer.members.len()), (other.id.clone(), 2));
}

#[test]
fn a_join_phase_that_nobody_joined_goes_on_as_long_as_static_members_are_there() {
    let mut t = tester();
    let (mut absent, other) = with_static(&mut t, true);
    assert_eq!(other.leave(&mut t), 0);
    for _ in 0..15 {
        assert_eq!(absent.heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
        t.pass(REBALANCE / 6);
    }
    assert_eq!(state(&t), "PreparingRebalance");
    absent.send_join(&mut t);
    assert_eq!(absent.joined(&mut t).members.len(), 1);
}

#[test]
fn a_static_member_that_came_back_waits_in_its_join_as_long_as_an_old_one() {
    let mut t = tester();
    let (_, other) = with_static(&mut t, false);
    with_groups(&mut t, |groups, cx| groups.rebalance(cx, GROUP));
    let mut new = Client::with_instance(&mut t, "i");
    new.send_join(&mut t);
    for _ in 0..3 {
        t.pass(SESSION / 2);
        assert_eq!(other.heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    }
    assert_eq!(new.join_answer(&mut t), None);
}
