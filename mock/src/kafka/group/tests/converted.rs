//! Groups that change their protocol while they have members: what takes time, or another coordinator. The rest is in `conversations`.

use super::{consumer::Modern, *};
use crate::kafka::Release;

/// A classic member that has all three partitions, and one of the consumer protocol that came to it.
fn mixed(t: &mut Tester) -> (Client, Modern) {
    let mut classic = Client::new(t);
    classic.send_join(t);
    classic.joined(t);
    classic.send_sync(t, &[(&classic.id.clone(), assignment("t", &[0, 1, 2]))]);
    assert_eq!(classic.sync_answer(t).expect("an assignment").error_code, 0);
    let mut modern = Modern::new(t, "a");
    modern.join(t);
    assert_eq!((modern.epoch, state(t)), (2, "Reconciling"));
    (classic, modern)
}

fn rejoin(t: &mut Tester, classic: &mut Client) {
    classic.send_join(t);
    classic.joined(t);
}

/// Passes time, in which the classic member sends heartbeats, and says what the last one was told.
fn alive(t: &mut Tester, classic: &Client, time: Duration) -> i16 {
    let mut told = 0;
    for _ in 0..time.as_secs() / 5 {
        t.pass(Duration::from_secs(5));
        told = classic.heartbeat(t);
    }
    told
}

const ONGOING: ResponseError = ResponseError::RebalanceInProgress;
const UNKNOWN: ResponseError = ResponseError::UnknownMemberId;

#[test]
fn who_is_told_to_join_has_the_time_of_a_rebalance() {
    let mut t = tester();
    let (classic, _) = mixed(&mut t);
    // Its session alone would last for ever.
    assert_eq!(classic.heartbeat(&mut t), code(ONGOING));
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(25)), code(ONGOING));
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(5)), code(UNKNOWN));
    assert_eq!(gone(&t), [(classic.id.to_string(), "did not rejoin in time")]);
}

#[test]
fn who_has_joined_has_the_time_of_a_rebalance_to_sync() {
    let mut t = tester();
    let (mut classic, _) = mixed(&mut t);
    rejoin(&mut t, &mut classic);
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(25)), 0);
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(5)), code(UNKNOWN));
    assert_eq!(gone(&t), [(classic.id.to_string(), "did not sync in time")]);

    let mut t = tester();
    let (mut classic, _) = mixed(&mut t);
    rejoin(&mut t, &mut classic);
    classic.send_sync(&mut t, &[]);
    assert_eq!(classic.sync_answer(&mut t).expect("an assignment").error_code, 0);
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(40)), 0, "neither is due any more");
}

#[test]
fn a_classic_member_keeps_the_session_that_it_asked_for() {
    let mut t = tester();
    let (classic, _) = mixed(&mut t);
    t.pass(SESSION);
    assert_eq!(gone(&t), [(classic.id.to_string(), "session timed out")]);
    assert_eq!(state(&t), "Assigning", "the other one is there for longer");
}

#[test]
fn the_end_of_the_last_session_of_the_consumer_protocol_makes_a_classic_group() {
    let mut t = tester();
    let (mut classic, modern) = mixed(&mut t);
    rejoin(&mut t, &mut classic);
    classic.send_sync(&mut t, &[]);
    classic.sync_answer(&mut t).expect("an assignment");
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(40)), 0);
    assert_eq!(alive(&mut t, &classic, Duration::from_secs(5)), code(ONGOING));
    assert_eq!(gone(&t), [(modern.id.to_string(), "session timed out")]);
    assert_eq!((state(&t), t.kafka.groups.generation(GROUP)), ("PreparingRebalance", Some(2)));
    rejoin(&mut t, &mut classic);
    assert_eq!((state(&t), classic.generation), ("CompletingRebalance", 3));
}

#[test]
fn another_coordinator_knows_who_speaks_what() {
    let mut t = tester();
    let (mut classic, modern) = mixed(&mut t);
    with_groups(&mut t, |groups, cx| groups.coordinator_moved(cx, GROUP));
    assert_eq!(classic.heartbeat(&mut t), code(ONGOING));
    rejoin(&mut t, &mut classic);
    assert_eq!(classic.generation, 2);
    classic.send_sync(&mut t, &[]);
    classic.sync_answer(&mut t).expect("an assignment");

    // That a group which has just become a classic one again was to rebalance is in no log: Kafka forgets it, too.
    let leave = modern.brief().with_member_epoch(-1);
    assert_eq!(t.ask(modern.conn, 1, &leave).error_code, 0);
    assert_eq!(state(&t), "PreparingRebalance");
    with_groups(&mut t, |groups, cx| groups.coordinator_moved(cx, GROUP));
    assert_eq!((state(&t), t.kafka.groups.generation(GROUP)), ("Stable", Some(2)));
    let view = &t.kafka.groups.members(GROUP)[0];
    assert_eq!((view.is_leader, view.assignment.len()), (true, 2), "what it had, and not what the other one had");
    assert_eq!(classic.heartbeat(&mut t), 0);
}

#[test]
fn groups_that_cannot_be_converted_stay_what_they_are() {
    let with_user_data = |data: &'static [u8]| {
        let body = ConsumerProtocolAssignment::default().with_user_data(Some(Bytes::from_static(data)));
        let mut blob = BytesMut::new();
        blob.put_i16(1);
        body.encode(&mut blob, 1).expect("an assignment");
        blob.freeze()
    };
    let malformed = Bytes::from_static(b"all");
    for (given, is_converted) in [(with_user_data(b""), true), (with_user_data(b"mine"), false), (malformed, false)] {
        let mut t = tester();
        let mut classic = Client::new(&mut t);
        classic.send_join(&mut t);
        classic.joined(&mut t);
        classic.send_sync(&mut t, &[(&classic.id.clone(), given.clone())]);
        classic.sync_answer(&mut t).expect("an assignment");
        let modern = Modern::new(&mut t, "a");
        let answer = t.ask(modern.conn, 1, &modern.joining());
        assert_eq!(answer.error_code == 0, is_converted, "{given:?}: {answer:?}");
        if !is_converted {
            assert_eq!((answer.error_code, state(&t)), (code(ResponseError::GroupIdNotFound), "Stable"));
            assert_eq!(classic.heartbeat(&mut t), 0);
        }
    }
}

#[test]
fn where_it_is_not_allowed_only_empty_groups_are_converted() {
    let mut t = tester_with(Settings { consumer_group_migration: false, ..Settings::default() });
    let classic = stable(&mut t, 1).remove(0);
    let mut modern = Modern::new(&mut t, "a");
    let answer = t.ask(modern.conn, 1, &modern.joining());
    assert_eq!((answer.error_code, state(&t)), (code(ResponseError::GroupIdNotFound), "Stable"));
    assert_eq!(classic.leave(&mut t), 0);
    modern.join(&mut t);
    let back = Client::new(&mut t);
    let answer = t.ask(back.conn, 9, &back.join_request());
    assert_eq!(answer.error_code, code(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn before_4_3_a_classic_member_joins_as_soon_as_there_is_an_epoch() {
    for (release, told) in [(Release::new(4, 0), code(ONGOING)), (Release::NEWEST, 0)] {
        let mut t = tester_with(Settings { release, ..Settings::default() });
        let (mut classic, mut modern) = mixed(&mut t);
        rejoin(&mut t, &mut classic);
        classic.send_sync(&mut t, &[]);
        classic.sync_answer(&mut t).expect("an assignment");
        with_groups(&mut t, |groups, cx| groups.rebalance(cx, GROUP));
        assert_eq!(classic.heartbeat(&mut t), told, "{release:?}");
        assert_eq!(modern.beat(&mut t), 0);
        assert_eq!(classic.heartbeat(&mut t), code(ONGOING), "{release:?}");
    }
}
