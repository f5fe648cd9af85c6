//! Timers, and how much is asked when nothing works.

use super::*;

#[test]
fn heartbeats_go_by_their_sending() {
    let mut rig = Rig::stable(config());
    rig.pass(2_000);
    let beat = rig.take(Api::Heartbeat);
    rig.pass(2_900);
    rig.answer_to(&beat, Ok(heartbeat(ErrorCode::NONE)));
    rig.pass(99);
    assert_eq!(rig.under_way(), []);
    rig.pass(1);
    assert_eq!(rig.under_way(), [Api::Heartbeat]);
}

#[test]
fn no_second_heartbeat_while_one_is_under_way() {
    let mut rig = Rig::stable(config());
    rig.pass(20_000);
    assert_eq!(rig.under_way(), [Api::Heartbeat]);
}

#[test]
fn heartbeats_begin_when_joined_and_stop_when_joining() {
    let mut rig = Rig::joining(config());
    rig.pass(100_000);
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
    rig.answer(Api::JoinGroup, Ok(joined("m", 1)));
    rig.pass(3_000);
    assert_eq!(rig.under_way(), [Api::SyncGroup, Api::Heartbeat]);
    let mut rig = Rig::assigning(config());
    rig.pass(3_000);
    assert_eq!(rig.under_way(), [Api::Heartbeat]);
    let mut rig = Rig::releasing(config());
    rig.pass(3_000);
    assert_eq!(rig.under_way(), [Api::Heartbeat]);
}

/// The broker has given the partitions away by then: to read on would be to read as a ghost.
#[test]
fn a_session_without_heartbeats_ends_here_too() {
    let mut rig = Rig::stable(config());
    rig.pass(2_000);
    let beat = rig.take(Api::Heartbeat);
    // The last one answered was sent three seconds ago.
    rig.pass(41_999);
    assert_eq!(rig.told(), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.told(), ["coordinator unknown", "lost", "rejoining"]);
    assert_eq!(rig.member(), "m/-1");
    assert_eq!(rig.under_way(), []);
    rig.answer_to(&beat, lost());
    rig.coordinator(true);
    let join = rig.take(Api::JoinGroup);
    assert_eq!(&*join_request(&join).member_id, "m");
}

/// The process was stopped: the answer lay waiting while the broker's clock ran.
#[test]
fn an_answer_read_late_does_not_prolong_the_session() {
    let mut rig = Rig::stable(config());
    rig.pass(2_000);
    let beat = rig.take(Api::Heartbeat);
    rig.now += Duration::from_secs(60);
    let Owner::Group(call) = beat.owner else { panic!() };
    rig.machine.handle_answer(rig.now, call, Ok(heartbeat(ErrorCode::NONE)));
    rig.machine.handle_timeout(rig.now);
    rig.drain();
    assert_eq!(rig.told(), ["coordinator unknown", "lost", "rejoining"]);
}

#[test]
fn a_new_coordinator_gives_a_session_once() {
    let mut rig = Rig::stable(config());
    for _ in 0..8 {
        rig.coordinator(false);
        rig.pass(5_000);
        rig.coordinator(true);
        rig.answer(Api::Heartbeat, lost());
        assert_eq!(rig.told(), ["coordinator unknown"]);
    }
    rig.pass(10_000);
    assert_eq!(rig.told(), ["lost", "rejoining"], "45 s after it was first found, not heard from since");
}

#[test]
fn a_coordinator_that_was_heard_from_may_move_again() {
    let mut rig = Rig::stable(config());
    for _ in 0..4 {
        rig.coordinator(false);
        rig.pass(30_000);
        rig.coordinator(true);
        rig.pass(20_000);
        // The one that waited, and the one that was due behind it.
        rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::NONE)));
        rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::NONE)));
    }
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn a_session_ends_while_releasing_too() {
    let mut rig = Rig::releasing(config());
    rig.coordinator(false);
    rig.pass(50_000);
    assert_eq!(rig.told(), ["lost", "rejoining"]);
}

#[test]
fn heartbeat_failures_back_off_up_to_a_second() {
    let mut rig = Rig::stable(config());
    rig.asks.clear();
    rig.pass(2_000);
    let mut waits = Vec::new();
    for _ in 0..6 {
        rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)));
        let start = rig.now;
        rig.next_ask();
        waits.push((rig.now - start).as_millis());
    }
    for (wait, about) in waits.into_iter().zip([100, 200, 400, 800, 1000, 1000]) {
        assert!((about * 8 / 10..=about * 12 / 10 + 1).contains(&wait), "{wait} ms instead of about {about}");
    }
}

#[test]
fn a_lasting_problem_is_said_once_then_rarely_and_anew_after_it_was_gone() {
    let mut rig = Rig::joining(config());
    let mut said = 0;
    let start = rig.now;
    while rig.now - start < Duration::from_secs(900) {
        rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::GROUP_AUTHORIZATION_FAILED)));
        said += rig.told().len();
        let asked = rig.now;
        rig.next_ask();
        assert!(rig.now - asked <= Duration::from_secs(5), "tried again too late");
    }
    assert_eq!(said, 2, "at once, and after ten minutes");
    rig.answer(Api::JoinGroup, Ok(joined("m", 1)));
    rig.answer(Api::SyncGroup, Ok(synced(&[])));
    rig.told();
    rig.pass(3_000);
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::GROUP_AUTHORIZATION_FAILED)));
    assert_eq!(rig.told(), ["Unauthorized"]);
}

#[test]
fn joining_for_nothing_is_said_within_five_seconds() {
    for answer in [join_error(ErrorCode::UNKNOWN_MEMBER_ID), join_error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)] {
        let mut rig = Rig::joining(config());
        let start = rig.now;
        while rig.now - start < Duration::from_secs(60) {
            rig.answer(Api::JoinGroup, Ok(answer.clone()));
            rig.next_ask();
            let told = rig.told();
            assert!(told.len() <= 1, "{told:?}");
            if !told.is_empty() {
                break;
            }
        }
        assert!(rig.now - start <= Duration::from_secs(5) && rig.now - start >= Duration::from_secs(2), "{:?}", rig.now - start);
    }
}

/// Answers everything by `coordinator` for an hour; says what was asked when, and how much was told.
fn hour(config: GroupConfig, mut coordinator: impl FnMut(&Ask) -> Answer) -> (Vec<(Duration, Api)>, usize) {
    let mut rig = Rig::joining(config);
    let (mut asked, mut told) = (Vec::new(), 0);
    let (start, end) = (rig.now, rig.now + Duration::from_secs(3600));
    while rig.now < end {
        while !rig.asks.is_empty() || !rig.events.is_empty() {
            if let Some(ask) = rig.asks.pop() {
                asked.push((rig.now - start, ask.request.api()));
                assert!(asked.len() < 100_000, "asks without end");
                let answer = coordinator(&ask);
                rig.answer_to(&ask, answer);
            }
            for event in std::mem::take(&mut rig.events) {
                told += 1;
                match event {
                    GroupEvent::CoordinatorUnknown { .. } => rig.coordinator(true),
                    GroupEvent::Release { .. } => rig.released(),
                    _ => {}
                }
            }
        }
        match rig.machine.poll_timeout(true) {
            Some((at, _)) => rig.pass((at - rig.now).as_micros().div_ceil(1000) as u64),
            None => panic!("nothing would ever happen again"),
        }
    }
    (asked, told)
}

#[track_caller]
fn check_hour(coordinator: impl FnMut(&Ask) -> Answer) {
    let (asked, told) = hour(config(), coordinator);
    let asked = asked.len();
    // Once a second, with its jitter; JoinGroup, its repetition with the member id, SyncGroup and a heartbeat each.
    assert!(asked <= 4 * 4_600, "{asked} requests in an hour");
    // Rejoining, Release or Lost, Assigned, CoordinatorUnknown each.
    assert!(told <= 4 * 4_600, "{told} events in an hour");
    assert!(asked >= 700, "{asked} requests in an hour: gave up");
}

#[test]
fn an_hour_of_every_join_error() {
    for code in [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::MEMBER_ID_REQUIRED,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        check_hour(|_| Ok(join_error(code)));
    }
    check_hour(|_| Ok(Response::JoinGroup(joined_with(ErrorCode::MEMBER_ID_REQUIRED, "m"))));
    check_hour(|_| lost());
}

#[test]
fn an_hour_of_member_ids_that_are_then_unknown() {
    check_hour(|ask| match join_request(ask).member_id.is_empty() {
        true => Ok(Response::JoinGroup(joined_with(ErrorCode::MEMBER_ID_REQUIRED, "m"))),
        false => Ok(join_error(ErrorCode::UNKNOWN_MEMBER_ID)),
    });
}

#[test]
fn an_hour_of_every_sync_error() {
    for code in [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
    ] {
        check_hour(|ask| match &ask.request {
            Request::JoinGroup(_) => Ok(joined("m", 1)),
            _ => Ok(sync_error(code)),
        });
    }
}

#[test]
fn an_hour_of_assignments_that_cannot_be_taken() {
    for assignment in
        [synced(&[("foreign", 0)]), Response::SyncGroup(synced_with(ErrorCode::NONE, Bytes::from_static(b"garbled")))]
    {
        check_hour(|ask| match &ask.request {
            Request::JoinGroup(_) => Ok(joined("m", 1)),
            _ => Ok(assignment.clone()),
        });
    }
}

#[test]
fn an_hour_of_every_heartbeat_error() {
    for code in [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
    ] {
        check_hour(|ask| match &ask.request {
            Request::JoinGroup(_) => Ok(joined("m", 1)),
            Request::SyncGroup(_) => Ok(synced(&[("t", 0)])),
            _ => Ok(heartbeat(code)),
        });
    }
}

#[test]
fn an_hour_of_commits_that_are_refused_at_once() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION, ErrorCode::REBALANCE_IN_PROGRESS] {
        let mut rig = Rig::joining(config());
        let (mut joins, end) = (0, rig.now + Duration::from_secs(3600));
        while rig.now < end {
            rig.next_ask();
            rig.answer(Api::JoinGroup, Ok(joined("m", 1)));
            rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
            rig.member_error(&rig.machine.membership().clone(), code);
            rig.released();
            joins += 1;
            assert!(joins <= 4_600, "a join every {} ms", 3_600_000 / joins);
        }
    }
}

#[test]
fn an_hour_in_which_nothing_is_wrong() {
    let (asked, told) = hour(config(), |ask| match &ask.request {
        Request::JoinGroup(_) => Ok(joined("m", 1)),
        Request::SyncGroup(_) => Ok(synced(&[("t", 0)])),
        _ => Ok(heartbeat(ErrorCode::NONE)),
    });
    assert_eq!((asked.len(), told), (1 + 1 + 1199, 1));
}

#[test]
fn the_same_seed_gives_the_same_hour() {
    let run = |seed| {
        let mut n = 0;
        let troubled = |ask: &Ask| {
            n += 1;
            match (&ask.request, n % 5) {
                (_, 0) => lost(),
                (Request::JoinGroup(_), 1) => Ok(join_error(ErrorCode::UNKNOWN_MEMBER_ID)),
                (Request::JoinGroup(_), _) => Ok(joined("m", n)),
                (Request::SyncGroup(_), _) => Ok(synced(&[("t", 0)])),
                (Request::Heartbeat(_), 2) => Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)),
                _ => Ok(heartbeat(ErrorCode::NONE)),
            }
        };
        hour(GroupConfig { seed, ..config() }, troubled)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2), "the waits are varied");
}
