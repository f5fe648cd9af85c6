//! Connections: handshake, back-off, deadlines, and what becomes of requests.

use std::time::Duration;

use super::world::{Mode, World, addr, config, every_api, ms, names, secs, topic};
use crate::{
    model::{BrokerId, Generation},
    proto::{
        CallError, Disconnect, Owner, ProblemKind, Target,
        cluster::{
            ClusterConfig,
            ClusterEvent::{CoordinatorKnown as Known, CoordinatorUnknown},
            connection::CALLS_MAX,
        },
    },
    wire::{Api, Broker, ErrorCode, MemberRequest, MetadataResponse, OffsetCommitRequest, Request, Response},
};

fn member() -> MemberRequest {
    MemberRequest { group: "g".into(), generation: Generation(1), member_id: "m".into(), instance_id: None }
}

fn heartbeat() -> Request {
    Request::Heartbeat(member())
}

/// Three brokers, all known.
fn settled() -> World {
    let mut world = World::new(3, config(&["b1"]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.topics.insert("t".into(), super::world::topic("t", Some(1), &[(1, 1), (2, 1)]));
    world.run(secs(1));
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    world
}

#[track_caller]
fn assert_not_sent(world: &World, owner: Owner, why: &str) {
    match world.answer_to(owner) {
        Err(CallError::NotSent(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_lost(world: &World, owner: Owner, why: &str) {
    match world.answer_to(owner) {
        Err(CallError::Lost(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// KIP-219: whoever asks all the same is not heard, and what it has asked is not late.
#[test]
fn a_broker_whose_quota_is_used_up_is_waited_for() {
    let mut world = settled();
    let fetch = Owner::Fetch;
    world.sim("b1").throttles.insert(Api::Heartbeat, secs(5));
    let held = || Request::ListOffsets { isolation: crate::wire::Isolation::ReadCommitted, partitions: Vec::new() };
    world.sim("b1").holds.insert(Api::ListOffsets);
    world.ask(fetch(1), Target::Broker(BrokerId(1)), heartbeat(), secs(3));
    // Written before the answer to the first is there.
    world.ask(fetch(2), Target::Broker(BrokerId(1)), held(), secs(3));
    world.run(secs(1));
    let (connects, before) = (world.connects.len(), world.sent(Api::Heartbeat).len());
    world.ask(fetch(3), Target::Broker(BrokerId(1)), heartbeat(), secs(3));
    world.run(ms(3_990));
    assert_eq!(world.sent(Api::Heartbeat).len(), before, "not yet");
    world.run(ms(20));
    assert_eq!(world.sent(Api::Heartbeat).len(), before + 1);
    world.run(secs(2));
    world.sim("b1").holds.clear();
    for _ in 0..2 {
        world.release("b1", Response::Heartbeat(ErrorCode::NONE));
        world.run(ms(10));
    }
    for call in [1, 2, 3] {
        assert_eq!(world.answer_to(fetch(call)), &Ok(Response::Heartbeat(ErrorCode::NONE)), "{call}");
    }
    assert_eq!(world.connects.len(), connects, "nothing was given up");
    // Patience counts from then on.
    world.sim("b1").throttles.clear();
    world.sim("b1").holds.insert(Api::Heartbeat);
    world.ask(fetch(4), Target::Broker(BrokerId(1)), heartbeat(), secs(3));
    world.run(ms(2_990));
    assert!(!world.answers.iter().any(|(owner, _)| *owner == fetch(4)));
    world.run(ms(20));
    assert_lost(&world, fetch(4), "did not answer Heartbeat within 3s");
}

/// Behind a heartbeat that is answered with "wait" a commit would be read late; and after a newer one, if the connection is given up meanwhile.
#[test]
fn a_commit_is_written_where_nothing_else_is_in_flight() {
    let mut world = settled();
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(1));
    world.sim("b1").holds.insert(Api::Heartbeat);
    let commit = || Request::OffsetCommit(OffsetCommitRequest { member: member(), partitions: Vec::new() });
    for (call, request) in [(1, heartbeat()), (2, commit()), (3, heartbeat())] {
        world.ask(Owner::Committer(call), Target::Coordinator, request, secs(30));
    }
    world.run(secs(1));
    assert_eq!((world.sent(Api::Heartbeat).len(), world.sent(Api::OffsetCommit).len()), (2, 0));
    world.sim("b1").holds.clear();
    world.release("b1", Response::Heartbeat(ErrorCode::NONE));
    world.run(ms(10));
    assert_eq!(world.sent(Api::OffsetCommit).len(), 0, "another is still in flight");
    world.release("b1", Response::Heartbeat(ErrorCode::NONE));
    world.run(ms(10));
    assert_eq!(world.sent(Api::OffsetCommit).len(), 1);
    for call in 1..=3 {
        assert!(world.answer_to(Owner::Committer(call)).is_ok());
    }
    // What comes while it is in flight may be behind it.
    world.sim("b1").holds.insert(Api::OffsetCommit);
    world.ask(Owner::Committer(4), Target::Coordinator, commit(), secs(30));
    world.ask(Owner::Committer(5), Target::Coordinator, heartbeat(), secs(30));
    world.run(ms(10));
    assert_eq!((world.sent(Api::Heartbeat).len(), world.sent(Api::OffsetCommit).len()), (3, 2));
}

#[test]
fn who_has_to_wait_before_the_first_request_does_and_is_answered() {
    let mut world = World::new(1, config(&["b1"]));
    world.sim("b1").throttles.insert(Api::ApiVersions, secs(40));
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 1)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(secs(39));
    assert_eq!(world.sent(Api::Metadata).len(), 0);
    world.run(secs(2));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(1)));
    assert_eq!(world.connects.len(), 1);
    let problem = world.problems().first().unwrap().1.what.clone();
    assert!(problem.contains("quota"), "{problem}");
}

#[test]
fn a_dead_bootstrap_address_does_not_hold_up_the_next() {
    for (mode, within) in
        [(Mode::Refuses, ms(50)), (Mode::ClosesAtOnce, ms(50)), (Mode::BlackHole, ms(1100)), (Mode::Silent, ms(1100))]
    {
        for seed in 0..4 {
            let mut world = World::new(2, crate::proto::cluster::ClusterConfig { seed, ..config(&["b1", "b2"]) });
            world.fail("b1", mode);
            world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
            world.topics.insert("t".into(), super::world::topic("t", Some(1), &[(2, 1)]));
            world.run(within);
            assert_eq!(world.partition("t", 0).leader, Some(BrokerId(2)), "{mode:?}, seed {seed}");
        }
    }
}

#[test]
fn clients_do_not_all_begin_with_the_same_bootstrap_address() {
    let first = |seed| {
        let mut world = World::new(3, crate::proto::cluster::ClusterConfig { seed, ..config(&["b1", "b2", "b3"]) });
        world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
        world.connects[0].1.clone()
    };
    let begins: std::collections::BTreeSet<_> = (0..20).map(first).collect();
    assert_eq!(begins.len(), 3);
}

#[test]
fn nothing_is_opened_before_something_must_be_sent() {
    let mut world = World::new(1, config(&["b1"]));
    world.run(secs(3600));
    assert_eq!((world.connects.len(), world.wakeups), (0, 0));
}

#[test]
fn each_purpose_has_its_connection_and_requests_on_one_are_pipelined() {
    let mut world = settled();
    let before = world.connects.len();
    world.sim("b2").holds.insert(Api::Fetch);
    for call in 0..3 {
        world.ask(Owner::Fetch(call), Target::Fetch(BrokerId(2), 0), heartbeat(), secs(5));
        world.ask(Owner::Positions(call), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    }
    world.run(ms(10));
    assert_eq!(world.connects.len(), before + 2);
    for call in 0..3 {
        assert_eq!(world.answer_to(Owner::Fetch(call)), &Ok(Response::Heartbeat(ErrorCode::NONE)));
        assert_eq!(world.answer_to(Owner::Positions(call)), &Ok(Response::Heartbeat(ErrorCode::NONE)));
    }
    let heartbeats = world.sent(Api::Heartbeat);
    assert_eq!(heartbeats.first(), heartbeats.last(), "sent one after the other's answer");
}

#[test]
fn the_handshake_goes_down_to_what_the_broker_speaks() {
    for (theirs, versions) in [(9, vec![4]), (4, vec![4]), (3, vec![4, 3]), (0, vec![4, 0])] {
        let mut world = World::new(1, config(&["b1"]));
        world.sim("b1").apis = every_api(theirs);
        world.with(|cluster, now| cluster.want_coordinator(now));
        world.run(ms(20));
        let asked: Vec<_> = world.requests.iter().take_while(|r| r.3 == Request::ApiVersions).map(|r| r.2).collect();
        assert_eq!(asked, versions);
        assert_eq!(world.requests.iter().find(|r| r.3.api() == Api::FindCoordinator).unwrap().2, theirs);
    }
}

#[test]
fn a_broker_that_refuses_a_version_without_a_word_is_asked_at_version_0() {
    let mut world = World::new(1, config(&["b1"]));
    world.sim("b1").apis.clear();
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(1));
    let asked: Vec<_> = world.requests.iter().filter(|r| r.3 == Request::ApiVersions).map(|r| r.2).collect();
    assert_eq!(asked, [4, 0]);
    assert_eq!(world.problem_kinds(), [ProblemKind::Incompatible], "it names no FindCoordinator");
    assert!(world.problems()[0].1.fatal);
}

#[test]
fn a_broker_that_refuses_what_it_says_it_knows_is_not_asked_the_same_again() {
    let mut world = World::new(1, config(&["b1"]));
    world.sim("b1").handshake_max = 2;
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(ms(20));
    let asked: Vec<_> = world.requests.iter().take_while(|r| r.3 == Request::ApiVersions).map(|r| r.2).collect();
    assert_eq!(asked, [4, 3, 2]);
}

#[test]
fn an_api_that_the_broker_lacks_is_said_to_be_unsupported_and_its_request_is_not_sent() {
    let mut world = settled();
    world.sim("b2").apis.retain(|range| range.key != Api::Heartbeat as i16);
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    let unsupported = CallError::Unsupported { api: Api::Heartbeat, ours: (0, 9), theirs: None };
    assert_eq!(world.answer_to(Owner::Group(1)), &Err(unsupported));
}

#[test]
fn a_request_that_cannot_be_encoded_is_not_sent_and_harms_no_other() {
    let mut world = settled();
    let unsayable = Request::OffsetFetch { group: "g".into(), partitions: Vec::new() };
    world.ask(Owner::Positions(1), Target::Broker(BrokerId(2)), unsayable, secs(5));
    world.ask(Owner::Positions(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert_not_sent(&world, Owner::Positions(1), "cannot say");
    assert!(world.answer_to(Owner::Positions(2)).is_ok());
}

#[test]
fn a_disconnect_tells_what_was_written_from_what_was_not() {
    let mut world = settled();
    world.sim("b2").holds.insert(Api::Heartbeat);
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    // Another connection, whose handshake is never answered.
    world.sim("b2").holds.insert(Api::ApiVersions);
    world.ask(Owner::Fetch(1), Target::Fetch(BrokerId(2), 0), heartbeat(), secs(5));
    world.run(ms(10));
    world.fail("b2", Mode::Refuses);
    world.run(ms(10));
    assert_lost(&world, Owner::Group(1), "connection reset");
    assert_not_sent(&world, Owner::Fetch(1), "connection reset");
}

#[test]
fn a_broker_that_is_unknown_or_down_is_told_at_once() {
    let mut world = settled();
    world.ask(Owner::Group(1), Target::Broker(BrokerId(9)), heartbeat(), secs(5));
    assert_not_sent(&world, Owner::Group(1), "broker 9 is not known");
    world.ask(Owner::Group(2), Target::Coordinator, heartbeat(), secs(5));
    assert_not_sent(&world, Owner::Group(2), "coordinator is not known");
    world.fail("b2", Mode::Refuses);
    world.ask(Owner::Group(3), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert_not_sent(&world, Owner::Group(3), "b2:9092: connection refused");
    // The next one waits for the back-off, so that who asks again and again is slowed down.
    world.ask(Owner::Group(4), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(20));
    assert!(!world.answers.iter().any(|(owner, _)| *owner == Owner::Group(4)));
    world.run(ms(100));
    assert_not_sent(&world, Owner::Group(4), "b2:9092: connection refused");
}

#[test]
fn a_wrong_correlation_id_ends_the_connection() {
    let mut world = settled();
    world.sim("b2").wrong_correlation = true;
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert_lost(&world, Owner::Group(1), "correlation id 2 where 1 was the next");
    assert_lost(&world, Owner::Group(2), "correlation id 2 where 1 was the next");
}

#[test]
fn an_answer_that_makes_no_sense_is_told_to_who_asked_and_the_connection_goes_on() {
    let mut world = settled();
    world.sim("b2").garbles.insert(Api::Heartbeat);
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert!(matches!(world.answer_to(Owner::Group(1)), Err(CallError::Malformed(_))));
    let before = world.connects.len();
    world.sim("b2").garbles.clear();
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert!(world.answer_to(Owner::Group(2)).is_ok());
    assert_eq!(world.connects.len(), before);
}

#[test]
fn a_written_request_without_an_answer_in_time_ends_its_connection() {
    let mut world = settled();
    world.sim("b2").holds.insert(Api::Heartbeat);
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(60));
    world.run(ms(4990));
    assert!(world.answers.is_empty());
    world.run(ms(20));
    assert_lost(&world, Owner::Group(1), "did not answer Heartbeat within 5s");
    assert_lost(&world, Owner::Group(2), "did not answer Heartbeat within 5s");
    world.sim("b2").holds.clear();
    world.ask(Owner::Group(3), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(100));
    assert!(world.answer_to(Owner::Group(3)).is_ok(), "a new connection");
}

#[test]
fn a_request_that_waits_for_its_connection_too_long_was_not_sent() {
    let mut world = settled();
    world.fail("b2", Mode::BlackHole);
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(60));
    world.run(ms(5010));
    assert_not_sent(&world, Owner::Group(1), "within 5s: connecting");
    world.run(secs(6));
    assert_not_sent(&world, Owner::Group(2), "no answer within 10 s");
}

#[test]
fn a_connection_takes_a_limited_number_of_requests() {
    let mut world = settled();
    world.sim("b2").holds.insert(Api::Heartbeat);
    for call in 0..=CALLS_MAX as u64 {
        world.ask(Owner::Group(call), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    }
    assert_not_sent(&world, Owner::Group(CALLS_MAX as u64), "too many requests");
    assert_eq!(world.answers.len(), 1);
}

#[test]
fn an_unreachable_cluster_costs_little_and_is_found_again_within_seconds() {
    for mode in
        [Mode::Refuses, Mode::ClosesAtOnce, Mode::ClosesAfterHandshake, Mode::Garbled, Mode::Http, Mode::Silent, Mode::BlackHole]
    {
        let mut world = settled();
        for host in ["b1", "b2", "b3"] {
            world.fail(host, mode);
        }
        world.with(|cluster, now| cluster.want_coordinator(now));
        let (connects, wakeups) = (world.connects.len(), world.wakeups);
        world.run(secs(1200));
        let (connects, wakeups) = (world.connects.len() - connects, world.wakeups - wakeups);
        assert!(connects <= 3 * 1200 * 10 / 8 + 20, "{mode:?}: {connects} connects");
        assert!(connects >= 100, "{mode:?}: {connects} connects");
        assert!(wakeups <= 4 * connects as u64 + 2700, "{mode:?}: {wakeups} wake-ups");
        let unreachable = world.problem_kinds().iter().filter(|kind| **kind == ProblemKind::Unreachable).count();
        assert!((18..=21).contains(&unreachable), "{mode:?}: told {unreachable} times");
        let incompatible = world.problem_kinds().iter().filter(|kind| **kind == ProblemKind::Incompatible).count();
        let expected = if matches!(mode, Mode::Garbled | Mode::Http) { 56..=61 } else { 0..=0 };
        assert!(expected.contains(&incompatible), "{mode:?}: told {incompatible} times");
        for host in ["b1", "b2", "b3"] {
            world.sim(host).mode = Mode::Up;
        }
        // What hangs must time out first.
        world.run(secs(if matches!(mode, Mode::Silent | Mode::BlackHole) { 12 } else { 3 }));
        assert_eq!(world.coordinator(), Some(BrokerId(1)), "{mode:?}");
    }
}

#[test]
fn an_unreachable_cluster_is_told_after_four_seconds_with_each_address_and_its_error() {
    let mut world = World::new(2, config(&["b1", "b2", "gone"]));
    world.fail("b1", Mode::ClosesAfterHandshake);
    world.fail("b2", Mode::ClosesAtOnce);
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(ms(3900));
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    world.run(ms(200));
    assert_eq!(world.problem_kinds(), [ProblemKind::Unreachable]);
    let what = &world.problems()[0].1.what;
    for part in ["b1:9092 (closed while", "SASL", "b2:9092 (closed while", "TLS", "gone:9092 (connection refused)"] {
        assert!(what.contains(part), "no {part:?} in: {what}");
    }
    assert!(!world.problems()[0].1.fatal);
    world.run(secs(58));
    assert_eq!(world.problems().len(), 1);
    // Over, and back again: that is news at once, if four seconds later.
    world.sim("b1").mode = Mode::Up;
    world.run(secs(2));
    world.fail("b1", Mode::Refuses);
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(5));
    assert_eq!(world.problem_kinds(), [ProblemKind::Unreachable; 2]);
}

#[test]
fn what_is_no_kafka_is_told_at_once_with_what_it_said() {
    for (mode, said) in [(Mode::Http, "it looks like HTTP"), (Mode::Garbled, "nonsense")] {
        let mut world = World::new(1, config(&["b1"]));
        world.fail("b1", mode);
        world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
        world.run(secs(1));
        assert_eq!(world.problem_kinds(), [ProblemKind::Incompatible]);
        let (at, problem) = world.problems()[0];
        assert!(at < ms(10) && problem.what.contains(said) && problem.what.contains("b1:9092"), "{at:?}: {}", problem.what);
    }
}

#[test]
fn every_broker_is_replaced_behind_the_bootstrap_address() {
    let mut world = settled();
    world.run(secs(10));
    for host in ["b1", "b2", "b3"] {
        world.fail(host, Mode::Refuses);
    }
    // The bootstrap name now leads to the new ones, of which it is none.
    world.add("n1", 11);
    world.add("b1", -1);
    world.topics.insert("t".into(), super::world::topic("t", Some(1), &[(11, 5), (11, 5)]));
    world.with(|cluster, now| cluster.refresh_metadata(now, "a connection was lost"));
    world.run(secs(3));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(11)));
    world.ask(Owner::Group(1), Target::Broker(BrokerId(11)), heartbeat(), secs(5));
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert!(world.answer_to(Owner::Group(1)).is_ok());
    assert_not_sent(&world, Owner::Group(2), "not known");
}

/// Three brokers, known by way of `boot`, which leads to another one by now, and none of them to that one.
fn moved(trigger: Duration) -> World {
    let mut world = World::new(3, ClusterConfig { rebootstrap_trigger: trigger, ..config(&["boot"]) });
    world.add("boot", -1);
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 1), (2, 1)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(secs(1));
    world.add("n1", 11);
    let brokers = vec![Broker { id: BrokerId(11), host: "n1".into(), port: 9092, rack: None }];
    let topics = vec![topic("t", Some(1), &[(11, 2), (11, 2)])];
    world.sim("boot").metadata = Some(MetadataResponse { error: ErrorCode::NONE, brokers, cluster_id: None, topics });
    world.drop_all("boot", &Disconnect::Closed("moved".to_owned()));
    world.run(ms(10));
    world
}

/// What a broker says that does not belong to the cluster any more.
fn start_over() -> MetadataResponse {
    MetadataResponse { error: ErrorCode::REBOOTSTRAP_REQUIRED, brokers: Vec::new(), cluster_id: None, topics: Vec::new() }
}

/// KIP-1102.
#[test]
fn a_broker_sends_the_client_back_to_its_bootstrap_addresses() {
    let mut world = moved(secs(300));
    for host in ["b1", "b2", "b3"] {
        world.sim(host).metadata = Some(start_over());
    }
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert_eq!(world.open_to("b2"), 1);
    let asked = world.sent(Api::Metadata).len();
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(1));
    assert_eq!(world.sent(Api::Metadata).len() - asked, 2, "one broker said it, and the bootstrap address knew more");
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(11)));
    assert_eq!(["b1", "b2", "b3"].map(|host| world.open_to(host)), [0; 3]);
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.ask(Owner::Group(3), Target::Broker(BrokerId(11)), heartbeat(), secs(5));
    world.run(ms(10));
    assert_not_sent(&world, Owner::Group(2), "not known");
    assert!(world.answer_to(Owner::Group(3)).is_ok());
    assert_eq!(world.problem_kinds(), []);
}

#[test]
fn brokers_that_send_the_client_back_again_and_again_are_told_of_and_disturb_nothing() {
    let mut world = moved(secs(300));
    for host in ["boot", "b1", "b2", "b3", "n1"] {
        world.sim(host).metadata = Some(start_over());
    }
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(1));
    let (asked, connects) = (world.sent(Api::Metadata).len(), world.connects.len());
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(50));
    let (asked, connects) = (world.sent(Api::Metadata).len() - asked, world.connects.len() - connects);
    assert!((30..=70).contains(&asked) && connects <= 5, "{asked} questions, {connects} connections");
    let found = world.coordinator_events();
    assert!(matches!(found[..], [Known(_), CoordinatorUnknown { .. }, Known(_)]), "once is enough: {found:?}");
    assert_eq!(world.problem_kinds(), [ProblemKind::Unreachable]);
    assert!(world.problems()[0].1.what.contains("REBOOTSTRAP_REQUIRED"), "{}", world.problems()[0].1.what);
    world.sim("boot").metadata = None;
    world.run(secs(2));
    let asked = world.sent(Api::Metadata).len();
    world.run(secs(60));
    assert_eq!(world.sent(Api::Metadata).len(), asked);
}

#[test]
fn without_metadata_for_long_what_is_known_of_the_brokers_is_forgotten() {
    let mut world = moved(secs(20));
    world.fail("boot", Mode::Refuses);
    for host in ["b1", "b2", "b3"] {
        world.sim(host).garbles.insert(Api::Metadata);
    }
    world.run(secs(30));
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(19));
    world.ask(Owner::Fetch(1), Target::Fetch(BrokerId(2), 0), heartbeat(), secs(5));
    world.run(ms(900));
    assert!(world.answer_to(Owner::Fetch(1)).is_ok(), "it counts from the first question that had no answer");
    world.run(ms(200));
    assert_eq!(["b1", "b2", "b3"].map(|host| world.open_to(host)), [0; 3]);
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert_not_sent(&world, Owner::Group(2), "not known");
    world.sim("boot").mode = Mode::Up;
    world.run(secs(3));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(11)));
    let connects = world.connects.len();
    world.run(secs(200));
    assert_eq!(world.connects.len(), connects, "and nothing is forgotten any more");
}

#[test]
fn while_no_broker_can_be_reached_none_is_forgotten() {
    let mut world = moved(secs(20));
    for host in ["boot", "b1", "b2", "b3"] {
        world.fail(host, Mode::Refuses);
    }
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(100));
    // The bootstrap address never comes back.
    world.sim("b2").mode = Mode::Up;
    world.topics.insert("t".into(), topic("t", Some(1), &[(2, 9), (2, 9)]));
    world.run(secs(3));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(2)));
}

#[test]
fn an_idle_connection_is_closed_and_opened_again_when_needed() {
    let mut world = settled();
    world.ask(Owner::Group(1), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(secs(545));
    let before = world.connects.len();
    world.ask(Owner::Group(2), Target::Broker(BrokerId(2)), heartbeat(), secs(5));
    world.run(ms(10));
    assert!(world.answer_to(Owner::Group(2)).is_ok());
    assert_eq!(world.connects.len(), before + 1);
}

#[test]
fn a_broker_that_hangs_does_not_hold_up_what_any_broker_can_do() {
    let mut world = settled();
    let hangs = world.requests.iter().find(|r| r.3.api() == Api::Metadata).unwrap().1.clone();
    world.sims.get_mut(&hangs).unwrap().mode = Mode::Silent;
    world.with(|cluster, now| cluster.want_topics(now, names(["t", "u"])));
    world.topics.insert("u".into(), super::world::topic("u", None, &[(2, 1)]));
    // The request that is there already waits for its own time, a shorter one than others have; then another broker is asked.
    world.run(ms(5500));
    assert_eq!(world.partition("u", 0).leader, Some(BrokerId(2)));
}

#[test]
fn what_any_broker_can_do_goes_to_another_than_one_that_owes_an_answer_for_long() {
    let mut world = settled();
    let asked = world.requests.iter().find(|r| r.3.api() == Api::Metadata).unwrap().1.clone();
    let sim = world.sims.get_mut(&asked).unwrap();
    sim.holds.insert(Api::Heartbeat);
    let id = BrokerId(sim.id);
    world.ask(Owner::Positions(1), Target::Broker(id), heartbeat(), secs(30));
    world.run(ms(1100));
    world.topics.insert("u".into(), super::world::topic("u", None, &[(2, 1)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t", "u"])));
    world.run(ms(20));
    assert_eq!(world.partition("u", 0).leader, Some(BrokerId(2)));
}

#[test]
fn attempts_that_fail_side_by_side_count_once_and_an_answer_ends_the_back_off() {
    let mut world = settled();
    let attempt = |world: &mut World, call| {
        world.fail("b3", Mode::Refuses);
        world.run(ms(1));
        let before = world.connects.len();
        world.ask(Owner::Group(call), Target::Broker(BrokerId(3)), heartbeat(), secs(5));
        world.ask(Owner::Fetch(call), Target::Fetch(BrokerId(3), 0), heartbeat(), secs(5));
        world.run(ms(2));
        assert_eq!(world.connects.len(), before + 2);
        assert_not_sent(world, Owner::Fetch(call), "connection refused");
        world.sim("b3").mode = Mode::Up;
        world.ask(Owner::Group(call + 1), Target::Broker(BrokerId(3)), heartbeat(), secs(5));
        world.run(ms(70));
        assert!(world.answer_to(Owner::Group(call + 1)).is_ok(), "it waited longer than after one failure");
    };
    attempt(&mut world, 1);
    attempt(&mut world, 11);
    attempt(&mut world, 21);
}

#[test]
fn a_broker_is_named_with_its_address() {
    let world = settled();
    assert_eq!(world.cluster.broker_name(BrokerId(2)), "broker 2 (b2:9092)");
    assert_eq!(world.cluster.broker_name(BrokerId(7)), "broker 7");
    assert_eq!(addr("::1").to_string(), "[::1]:9092");
}
