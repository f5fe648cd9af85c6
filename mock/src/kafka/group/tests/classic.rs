//! Dynamic members of classic groups.

use super::*;

#[test]
fn a_first_member_gets_its_id_joins_leads_and_syncs() {
    let mut t = tester();
    let mut a = Client::new(&mut t);
    let first = t.ask(a.conn, 9, &a.join_request());
    assert_eq!(first.error_code, code(ResponseError::MemberIdRequired));
    assert!(first.member_id.starts_with("tester-"), "{}", first.member_id);
    a.id = first.member_id;
    let answer = t.ask(a.conn, 9, &a.join_request());
    assert_eq!((answer.error_code, answer.generation_id), (0, 1));
    assert_eq!(answer.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    assert_eq!((&answer.leader, &answer.member_id), (&a.id, &a.id));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(answer.members[0].metadata, subscription(&["t"]));
    a.generation = 1;
    assert_eq!(state(&t), "CompletingRebalance");
    assert_eq!(a.heartbeat(&mut t), 0);
    a.send_sync(&mut t, &[(&a.id, assignment("t", &[0, 2]))]);
    assert_eq!(a.sync_answer(&mut t).unwrap().assignment, assignment("t", &[0, 2]));
    assert_eq!(state(&t), "Stable");
    let view = &t.kafka.groups.members(GROUP)[0];
    assert_eq!(view.assignment, [("t".to_owned(), 0), ("t".to_owned(), 2)]);
    assert!(view.is_leader);
    assert!(t.events.iter().any(|event| matches!(event, Event::Generation { generation: 1, .. })));
}

#[test]
fn members_of_old_clients_join_without_the_way_round_and_all_versions_speak() {
    for version in 0..=9 {
        let mut t = tester();
        let mut a = Client { version, ..Client::new(&mut t) };
        a.send_join(&mut t);
        let answer = a.joined(&mut t);
        assert_eq!(answer.protocol_name.as_deref(), Some("range"));
        assert_eq!(answer.members.len(), 1);
        a.send_sync(&mut t, &[(&a.id, assignment("t", &[0]))]);
        assert_eq!(a.sync_answer(&mut t).unwrap().error_code, 0, "version {version}");
    }
}

#[test]
fn version_0_rebalances_within_its_session_timeout() {
    let mut t = tester();
    let mut a = Client { version: 0, ..Client::new(&mut t) };
    let mut b = Client { version: 0, ..Client::new(&mut t) };
    a.send_join(&mut t);
    a.joined(&mut t);
    a.send_sync(&mut t, &[]);
    assert_eq!(a.sync_answer(&mut t).unwrap().error_code, 0);
    b.send_join(&mut t);
    t.pass(SESSION / 2);
    assert_eq!(a.heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    assert!(b.join_answer(&mut t).is_none());
    t.pass(SESSION / 2);
    assert_eq!(b.joined(&mut t).members.len(), 1);
    assert_eq!(gone(&t), [(a.id.to_string(), "did not rejoin in time")]);
}

#[test]
fn only_the_leader_learns_who_is_in_the_group() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    for client in &mut clients {
        client.send_join(&mut t);
    }
    let [a, b] = &mut clients[..] else { unreachable!() };
    let (to_leader, to_follower) = (a.joined(&mut t), b.joined(&mut t));
    assert_eq!(to_leader.members.iter().map(|of| &of.member_id).collect::<Vec<_>>(), [&a.id, &b.id]);
    assert_eq!(to_follower.members, []);
    assert_eq!(to_follower.leader, a.id);
}

#[test]
fn the_sync_of_a_follower_waits_for_the_leaders_and_who_was_left_out_gets_nothing() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients.iter_mut().for_each(|client| client.send_join(&mut t));
    clients.iter_mut().for_each(|client| drop(client.joined(&mut t)));
    let [a, b] = &clients[..] else { unreachable!() };
    b.send_sync(&mut t, &[]);
    assert!(b.sync_answer(&mut t).is_none());
    a.send_sync(&mut t, &[(&a.id, assignment("t", &[0, 1, 2]))]);
    let answer = b.sync_answer(&mut t).unwrap();
    assert_eq!((answer.error_code, answer.assignment), (0, Bytes::new()));
    assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    // Who asks again is told the same.
    assert_eq!(a.sync_answer(&mut t).unwrap().assignment, assignment("t", &[0, 1, 2]));
    a.send_sync(&mut t, &[]);
    assert_eq!(a.sync_answer(&mut t).unwrap().assignment, assignment("t", &[0, 1, 2]));
}

#[test]
fn a_sync_is_refused_for_another_generation_protocol_or_member() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    let mut ask = |request: SyncGroupRequest| t.ask(a.conn, 5, &request).error_code;
    let good = a.sync_request(&[]);
    assert_eq!(ask(good.clone().with_generation_id(7)), code(ResponseError::IllegalGeneration));
    assert_eq!(ask(good.clone().with_member_id(text("x"))), code(ResponseError::UnknownMemberId));
    assert_eq!(ask(good.clone().with_group_id(text("x").into())), code(ResponseError::UnknownMemberId));
    assert_eq!(ask(good.clone().with_group_id(text("").into())), code(ResponseError::InvalidGroupId));
    assert_eq!(ask(good.clone().with_protocol_name(Some(text("x")))), code(ResponseError::InconsistentGroupProtocol));
    assert_eq!(ask(good.clone().with_protocol_type(None)), code(ResponseError::InconsistentGroupProtocol));
    assert_eq!(ask(good), 0);
}

#[test]
fn joins_are_refused_for_bad_times_names_and_protocols() {
    let mut t = tester();
    stable(&mut t, 1);
    let b = Client::new(&mut t);
    let mut ask = |request: JoinGroupRequest| t.ask(b.conn, 9, &request).error_code;
    let good = b.join_request();
    assert_eq!(ask(good.clone().with_group_id(text("").into())), code(ResponseError::InvalidGroupId));
    assert_eq!(ask(good.clone().with_session_timeout_ms(0)), code(ResponseError::InvalidSessionTimeout));
    assert_eq!(ask(good.clone().with_session_timeout_ms(31 * 60_000)), code(ResponseError::InvalidSessionTimeout));
    assert_eq!(ask(good.clone().with_protocol_type(text("connect"))), code(ResponseError::InconsistentGroupProtocol));
    assert_eq!(ask(good.clone().with_protocols(Vec::new())), code(ResponseError::InconsistentGroupProtocol));
    let other = JoinGroupRequestProtocol::default().with_name(text("sticky"));
    assert_eq!(ask(good.clone().with_protocols(vec![other])), code(ResponseError::InconsistentGroupProtocol));
    assert_eq!(ask(good.clone().with_member_id(text("made-up"))), code(ResponseError::UnknownMemberId));
    let elsewhere = good.with_group_id(text("new").into()).with_member_id(text("made-up"));
    assert_eq!(ask(elsewhere), code(ResponseError::UnknownMemberId));
    assert_eq!(t.kafka.groups.state("new"), None);
}

#[test]
fn the_protocol_is_the_one_most_members_prefer_of_those_all_have() {
    let mut t = tester();
    let both = |first, second| vec![(first, subscription(&["t"])), (second, subscription(&["t"]))];
    let mut a = Client { protocols: both("range", "sticky"), ..Client::new(&mut t) };
    let mut b = Client { protocols: both("sticky", "range"), ..Client::new(&mut t) };
    let mut c = Client { protocols: both("sticky", "range"), ..Client::new(&mut t) };
    c.protocols.insert(0, ("only-mine", Bytes::new()));
    a.send_join(&mut t);
    assert_eq!(a.joined(&mut t).protocol_name.as_deref(), Some("range"));
    b.send_join(&mut t);
    c.send_join(&mut t);
    a.send_join(&mut t);
    assert_eq!(a.joined(&mut t).protocol_name.as_deref(), Some("sticky"));
    assert_eq!(c.joined(&mut t).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_generation_it_is_in() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    let generation = clients[0].generation;
    let b = &mut clients[1];
    b.send_join(&mut t);
    assert_eq!(b.joined(&mut t).generation_id, generation);
    assert_eq!(state(&t), "Stable");
    b.protocols = vec![("range", subscription(&["t", "u"]))];
    b.send_join(&mut t);
    assert!(b.join_answer(&mut t).is_none(), "a changed one makes all join");
    assert_eq!(state(&t), "PreparingRebalance");
}

#[test]
fn a_leader_that_joins_again_makes_all_join() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients[0].send_join(&mut t);
    assert_eq!(state(&t), "PreparingRebalance");
    assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    clients[1].send_join(&mut t);
    let generation = clients[1].generation;
    assert_eq!(clients[1].joined(&mut t).generation_id, generation + 1);
    assert_eq!(clients[0].joined(&mut t).leader, clients[0].id);
}

#[test]
fn in_completing_an_unchanged_join_gets_the_generation_and_a_changed_one_begins_anew() {
    let mut t = tester();
    let mut a = Client::new(&mut t);
    a.send_join(&mut t);
    a.joined(&mut t);
    a.send_join(&mut t);
    let again = a.joined(&mut t);
    assert_eq!((again.generation_id, again.members.len()), (1, 1));
    a.protocols = vec![("range", subscription(&["u"]))];
    a.send_join(&mut t);
    assert_eq!(a.joined(&mut t).generation_id, 2);
}

#[test]
fn a_rebalance_ends_the_syncs_that_wait() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients.iter_mut().for_each(|client| client.send_join(&mut t));
    clients.iter_mut().for_each(|client| drop(client.joined(&mut t)));
    clients[1].send_sync(&mut t, &[]);
    let mut c = Client::new(&mut t);
    c.send_join(&mut t);
    assert_eq!(clients[1].sync_answer(&mut t).unwrap().error_code, code(ResponseError::RebalanceInProgress));
    clients[0].send_sync(&mut t, &[]);
    assert_eq!(clients[0].sync_answer(&mut t).unwrap().error_code, code(ResponseError::RebalanceInProgress));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients[0].send_join(&mut t);
    for _ in 0..5 {
        t.pass(REBALANCE / 6);
        assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
        assert!(clients[0].join_answer(&mut t).is_none());
    }
    t.pass(REBALANCE / 6);
    assert_eq!(clients[0].joined(&mut t).members.len(), 1);
    assert_eq!(gone(&t), [(clients[1].id.to_string(), "did not rejoin in time")]);
    assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_does_not_rejoin_is_followed_by_one_who_did() {
    let mut t = tester();
    let mut clients = stable(&mut t, 3);
    clients[2].protocols = vec![("range", subscription(&["u"]))];
    clients[2].send_join(&mut t);
    clients[1].send_join(&mut t);
    for _ in 0..6 {
        clients[0].heartbeat(&mut t);
        t.pass(REBALANCE / 6);
    }
    let answer = clients[1].joined(&mut t);
    assert_eq!(answer.leader, clients[1].id);
    assert_eq!(answer.members.len(), 2);
}

#[test]
fn a_member_that_never_syncs_is_out_after_the_rebalance_timeout() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients.iter_mut().for_each(|client| client.send_join(&mut t));
    clients.iter_mut().for_each(|client| drop(client.joined(&mut t)));
    let plan = [(&clients[0].id, assignment("t", &[0]))];
    clients[0].send_sync(&mut t, &plan);
    assert_eq!(clients[0].sync_answer(&mut t).unwrap().error_code, 0);
    assert_eq!(state(&t), "Stable");
    for _ in 0..6 {
        assert_eq!((clients[0].heartbeat(&mut t), clients[1].heartbeat(&mut t)), (0, 0));
        t.pass(REBALANCE / 6);
    }
    assert_eq!(state(&t), "PreparingRebalance");
    assert_eq!(gone(&t), [(clients[1].id.to_string(), "did not sync in time")]);
}

#[test]
fn a_session_ends_without_heartbeats_and_goes_on_with_them() {
    let mut t = tester();
    let clients = stable(&mut t, 2);
    t.pass(SESSION / 2);
    assert_eq!(clients[0].heartbeat(&mut t), 0);
    t.pass(SESSION / 2);
    assert_eq!(gone(&t), [(clients[1].id.to_string(), "session timed out")]);
    assert_eq!(clients[0].heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::UnknownMemberId));
    t.pass(SESSION);
    assert_eq!(state(&t), "Empty");
}

#[test]
fn a_commit_keeps_a_session_alive() {
    let mut t = tester();
    let clients = stable(&mut t, 1);
    for offset in 0..4 {
        t.pass(SESSION / 2);
        assert_eq!(clients[0].commit(&mut t, offset), 0);
    }
    assert!(gone(&t).is_empty());
}

#[test]
fn a_member_that_waits_in_a_join_does_not_expire() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients[0].send_join(&mut t);
    for _ in 0..4 {
        t.pass(SESSION / 2);
        assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    }
    assert!(gone(&t).is_empty());
    clients[1].send_join(&mut t);
    clients[0].joined(&mut t);
}

#[test]
fn a_first_join_that_does_not_end_is_given_up_after_five_minutes() {
    let mut t = tester();
    let patient = |client: &Client| client.join_request().with_rebalance_timeout_ms(3_600_000);
    let mut a = Client { version: 3, ..Client::new(&mut t) };
    t.send(a.conn, 3, &patient(&a));
    a.joined(&mut t);
    let b = Client { version: 3, ..Client::new(&mut t) };
    t.send(b.conn, 3, &patient(&b));
    for _ in 0..60 {
        assert_eq!(a.heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
        assert_eq!(b.join_answer(&mut t), None);
        t.pass(SESSION / 2);
    }
    let answer = b.join_answer(&mut t).unwrap();
    assert_eq!((answer.error_code, answer.member_id.as_str()), (code(ResponseError::UnknownMemberId), ""));
}

#[test]
fn an_id_that_nobody_comes_back_with_expires_and_holds_up_the_join_until_then() {
    let mut t = tester();
    let mut a = Client::new(&mut t);
    a.send_join(&mut t);
    a.joined(&mut t);
    let b = Client::new(&mut t);
    let pending = t.ask(b.conn, 9, &b.join_request()).member_id;
    a.send_join(&mut t);
    assert!(a.join_answer(&mut t).is_some(), "in Completing an unchanged join is answered");
    a.protocols = vec![("range", subscription(&["u"]))];
    a.send_join(&mut t);
    assert!(a.join_answer(&mut t).is_none(), "the join waits for the pending member");
    t.pass(SESSION);
    assert_eq!(a.joined(&mut t).members.len(), 1);
    let late = Client { id: pending, ..b };
    let answer = t.ask(late.conn, 9, &late.join_request());
    assert_eq!(answer.error_code, code(ResponseError::UnknownMemberId));
}

#[test]
fn a_pending_member_may_leave() {
    let mut t = tester();
    let mut a = Client::new(&mut t);
    a.id = t.ask(a.conn, 9, &a.join_request()).member_id;
    assert_eq!(a.leave(&mut t), 0);
    assert_eq!(a.leave(&mut t), code(ResponseError::UnknownMemberId));
    assert!(gone(&t).is_empty());
}

#[test]
fn who_leaves_is_gone_and_the_others_rebalance() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    assert_eq!(clients[0].leave(&mut t), 0);
    assert_eq!(gone(&t), [(clients[0].id.to_string(), "left")]);
    assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    clients[1].send_join(&mut t);
    assert_eq!(clients[1].joined(&mut t).leader, clients[1].id);
    assert_eq!(clients[1].leave(&mut t), 0);
    assert_eq!(state(&t), "Empty");
    assert_eq!(clients[1].leave(&mut t), code(ResponseError::UnknownMemberId));
}

#[test]
fn an_old_leave_names_one_member_and_tells_its_error_at_the_top() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    let request = LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_member_id(a.id.clone());
    for version in 0..3 {
        let answer = t.ask(a.conn, version, &request);
        let expected = if version == 0 { 0 } else { code(ResponseError::UnknownMemberId) };
        assert_eq!((answer.error_code, answer.members.len()), (expected, 0));
    }
    assert_eq!(state(&t), "Empty");
}

#[test]
fn of_two_joins_of_one_member_the_newer_is_answered() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients[0].send_join(&mut t);
    let old = std::mem::replace(&mut clients[0].conn, t.connect(1));
    clients[0].send_join(&mut t);
    clients[1].send_join(&mut t);
    clients[0].joined(&mut t);
    assert!(t.answer::<JoinGroupRequest>(old, 9).is_none());
}

#[test]
fn a_full_group_takes_nobody_in() {
    let mut t = tester_with(Settings { group_max_size: 2, ..Settings::default() });
    let clients = stable(&mut t, 2);
    let c = Client::new(&mut t);
    let answer = t.ask(c.conn, 9, &c.join_request());
    assert_eq!(answer.error_code, code(ResponseError::GroupMaxSizeReached));
    assert_eq!(answer.member_id.as_str(), "");
    assert_eq!(clients[0].heartbeat(&mut t), 0);
}

#[test]
fn an_empty_group_waits_for_more_as_long_as_more_come() {
    let delay = Duration::from_secs(3);
    let mut t = tester_with(Settings { group_initial_rebalance_delay: delay, ..Settings::default() });
    let mut a = Client::new(&mut t);
    a.send_join(&mut t);
    t.pass(delay / 2);
    let mut b = Client::new(&mut t);
    b.send_join(&mut t);
    t.pass(delay);
    assert!(a.join_answer(&mut t).is_none());
    t.pass(delay / 2);
    assert_eq!(a.joined(&mut t).members.len(), 2);
    assert_eq!(b.joined(&mut t).generation_id, 1);
}

#[test]
fn heartbeats_are_refused_in_kafkas_order() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    let stranger = Client { id: text("x"), generation: 99, ..Client::new(&mut t) };
    assert_eq!(stranger.heartbeat(&mut t), code(ResponseError::UnknownMemberId));
    let late = Client { id: a.id.clone(), generation: a.generation - 1, ..Client::new(&mut t) };
    assert_eq!(late.heartbeat(&mut t), code(ResponseError::IllegalGeneration));
    let mut nowhere = HeartbeatRequest::default().with_group_id(text("none").into());
    assert_eq!(t.ask(a.conn, 4, &nowhere).error_code, code(ResponseError::UnknownMemberId));
    nowhere.group_id = text("").into();
    assert_eq!(t.ask(a.conn, 4, &nowhere).error_code, code(ResponseError::InvalidGroupId));
}

#[test]
fn a_new_coordinator_knows_the_last_generation_that_was_stored() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    let generation = clients[0].generation;
    let mut c = Client::new(&mut t);
    c.send_join(&mut t);
    clients[0].send_join(&mut t);
    t.pass(SESSION / 2);
    with_groups(&mut t, |groups, cx| groups.coordinator_moved(cx, GROUP));
    for parked in [&clients[0], &c] {
        assert_eq!(parked.join_answer(&mut t).unwrap().error_code, code(ResponseError::NotCoordinator));
    }
    assert_eq!((state(&t), t.kafka.groups.generation(GROUP)), ("Stable", Some(generation)));
    assert_eq!(c.heartbeat(&mut t), code(ResponseError::UnknownMemberId), "it was never stored");
    // Sessions begin anew.
    t.pass(SESSION - Duration::from_millis(1));
    assert_eq!((clients[0].heartbeat(&mut t), clients[1].heartbeat(&mut t)), (0, 0));
    assert!(gone(&t).is_empty());
    with_groups(&mut t, |groups, cx| groups.coordinator_moved(cx, GROUP));
    t.pass(SESSION);
    assert_eq!(gone(&t).len(), 2);
}

#[test]
fn a_new_coordinator_ends_syncs_and_takes_the_generation_back_that_had_no_assignment() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients.iter_mut().for_each(|client| client.send_join(&mut t));
    clients.iter_mut().for_each(|client| drop(client.joined(&mut t)));
    clients[1].send_sync(&mut t, &[]);
    with_groups(&mut t, |groups, cx| groups.coordinator_moved(cx, GROUP));
    assert_eq!(clients[1].sync_answer(&mut t).unwrap().error_code, code(ResponseError::NotCoordinator));
    assert_eq!(clients[0].heartbeat(&mut t), code(ResponseError::IllegalGeneration));
}

#[test]
fn a_test_can_make_a_group_rebalance_and_put_a_member_out() {
    let mut t = tester();
    let clients = stable(&mut t, 2);
    with_groups(&mut t, |groups, cx| groups.rebalance(cx, GROUP));
    assert_eq!(clients[0].heartbeat(&mut t), code(ResponseError::RebalanceInProgress));
    with_groups(&mut t, |groups, cx| groups.expel(cx, GROUP, &clients[1].id));
    assert_eq!(clients[1].heartbeat(&mut t), code(ResponseError::UnknownMemberId));
    assert_eq!(gone(&t), [(clients[1].id.to_string(), "session timed out")]);
}
