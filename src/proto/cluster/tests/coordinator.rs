//! The group's coordinator: found, lost, moved.

use super::world::{Mode, World, addr, config, ms, names, secs};
use crate::{
    model::{BrokerId, Generation},
    proto::{CallError, Owner, ProblemKind, Target, cluster::ClusterEvent},
    wire::{Api, Broker, ErrorCode, MemberRequest, MetadataResponse, Request, Response},
};

fn heartbeat() -> Request {
    let (member_id, generation) = ("m".into(), Generation(1));
    Request::Heartbeat(MemberRequest { group: "g".into(), generation, member_id, instance_id: None })
}

fn found() -> World {
    let mut world = World::new(3, config(&["b2"]));
    world.with(|cluster, now| cluster.want_topics(now, names([])));
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(ms(20));
    assert_eq!(world.coordinator_events(), [&ClusterEvent::CoordinatorKnown(BrokerId(1))]);
    world.run(secs(5));
    world
}

fn searches(world: &World) -> usize {
    world.sent(Api::FindCoordinator).len()
}

#[test]
fn it_is_found_once_however_often_it_is_wanted() {
    let mut world = World::new(3, config(&["b1", "b2", "b3"]));
    for _ in 0..10 {
        world.with(|cluster, now| cluster.want_coordinator(now));
    }
    world.run(ms(20));
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(100));
    assert_eq!(world.coordinator_events(), [&ClusterEvent::CoordinatorKnown(BrokerId(1))]);
    assert_eq!((world.coordinator(), searches(&world)), (Some(BrokerId(1)), 1));
}

#[test]
fn it_has_a_connection_of_its_own_which_is_not_closed_when_idle() {
    let mut world = found();
    world.run(secs(3600));
    let before = world.connects.len();
    world.ask(Owner::Group(1), Target::Coordinator, heartbeat(), secs(5));
    world.ask(Owner::Fetch(1), Target::Broker(BrokerId(1)), heartbeat(), secs(5));
    world.run(ms(1));
    assert!(world.answer_to(Owner::Group(1)).is_ok());
    world.run(ms(10));
    assert_eq!(world.coordinator_events().len(), 1, "it was never lost");
    assert!(world.connects[before..].iter().any(|(_, to)| *to == addr("b1")), "the control connection is another");
}

#[test]
fn when_it_moves_its_calls_are_answered_and_the_next_one_is_found() {
    let mut world = found();
    world.sim("b1").holds.insert(Api::Heartbeat);
    world.ask(Owner::Group(1), Target::Coordinator, heartbeat(), secs(5));
    world.run(ms(10));
    world.coordinator = Ok(3);
    world.with(|cluster, now| cluster.coordinator_lost(now, "it says NOT_COORDINATOR"));
    assert_eq!(world.answer_to(Owner::Group(1)), &Err(CallError::Lost("b1:9092: it says NOT_COORDINATOR".to_owned())));
    assert_eq!(world.coordinator(), None);
    world.with(|cluster, now| cluster.coordinator_lost(now, "told twice"));
    world.run(ms(20));
    let why = "it says NOT_COORDINATOR".to_owned();
    assert_eq!(
        world.coordinator_events()[1..],
        [&ClusterEvent::CoordinatorUnknown { why }, &ClusterEvent::CoordinatorKnown(BrokerId(3))]
    );
    world.ask(Owner::Group(2), Target::Coordinator, heartbeat(), secs(5));
    world.run(ms(10));
    assert!(world.answer_to(Owner::Group(2)).is_ok());
}

#[test]
fn when_its_connection_ends_it_is_looked_for_at_once() {
    let mut world = found();
    world.fail("b1", Mode::Refuses);
    world.coordinator = Ok(2);
    world.run(ms(20));
    assert!(
        matches!(world.coordinator_events()[1], ClusterEvent::CoordinatorUnknown { why } if why.contains("connection reset"))
    );
    assert_eq!(world.coordinator_events()[2], &ClusterEvent::CoordinatorKnown(BrokerId(2)));
}

#[test]
fn a_coordinator_that_denies_it_for_minutes_is_not_asked_in_a_loop() {
    let mut world = found();
    for _ in 0..600 * 100 {
        if world.coordinator().is_some() {
            world.with(|cluster, now| cluster.coordinator_lost(now, "it says NOT_COORDINATOR"));
        }
        world.run(ms(10));
    }
    assert!((460..=800).contains(&searches(&world)), "{} searches", searches(&world));
}

#[test]
fn one_that_is_dead_but_still_named_is_tried_with_a_back_off_told_of_and_found_when_it_moves() {
    for mode in [Mode::Refuses, Mode::BlackHole, Mode::Silent] {
        let mut world = found();
        world.fail("b1", mode);
        world.run(secs(30));
        assert!(searches(&world) <= 45, "{mode:?}: {} searches", searches(&world));
        assert_eq!(world.problem_kinds(), [ProblemKind::Unreachable], "{mode:?}: {:?}", world.problems());
        assert!(world.problems()[0].1.what.contains("broker 1"), "{mode:?}: {}", world.problems()[0].1.what);
        world.coordinator = Ok(3);
        world.run(ms(4500));
        assert_eq!(world.coordinator(), Some(BrokerId(3)), "{mode:?}");
    }
}

#[test]
fn while_its_connection_hangs_it_is_asked_whether_it_is_still_the_one() {
    let mut world = World::new(3, config(&["b2"]));
    world.sim("b1").mode = Mode::Silent;
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(2));
    assert_eq!((world.open_to("b1"), world.coordinator()), (1, None));
    world.coordinator = Ok(3);
    world.run(ms(1100));
    assert_eq!((world.open_to("b1"), world.coordinator()), (0, Some(BrokerId(3))));
}

#[test]
fn one_search_is_in_flight_at_most() {
    let mut world = World::new(1, config(&["b2"]));
    world.add("b2", 2);
    world.sim("b1").mode = Mode::Silent;
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(2));
    world.sim("b2").holds.insert(Api::FindCoordinator);
    world.run(ms(1100));
    assert_eq!(searches(&world), 2);
    world.fail("b1", Mode::Refuses);
    world.run(secs(3));
    assert_eq!(searches(&world), 2);
}

#[test]
fn it_is_known_by_its_address_even_if_the_metadata_do_not_name_it() {
    let mut world = found();
    let brokers = vec![Broker { id: BrokerId(2), host: "b2".into(), port: 9092, rack: None }];
    for host in ["b1", "b2", "b3"] {
        world.sim(host).metadata =
            Some(MetadataResponse { error: ErrorCode::NONE, brokers: brokers.clone(), cluster_id: None, topics: Vec::new() });
    }
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(1));
    assert_eq!(world.cluster.broker_name(BrokerId(1)), "broker 1 (b1:9092)");
    assert_eq!(world.cluster.broker_name(BrokerId(3)), "broker 3");
}

#[test]
fn one_that_is_not_available_yet_is_asked_for_at_several_brokers_with_a_back_off() {
    let mut world = World::new(3, config(&["b1"]));
    world.coordinator = Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(10));
    assert!((9..=20).contains(&searches(&world)), "{} searches", searches(&world));
    let asked: std::collections::BTreeSet<_> =
        world.requests.iter().filter(|r| r.3.api() == Api::FindCoordinator).map(|r| &r.1).collect();
    assert!(asked.len() >= 2, "{asked:?}");
    assert!(world.problems().is_empty());
    world.run(secs(5));
    assert_eq!(world.problem_kinds(), [ProblemKind::Unreachable]);
    assert!(world.problems()[0].1.what.contains("COORDINATOR_NOT_AVAILABLE"));
    world.coordinator = Ok(2);
    world.run(ms(1300));
    assert_eq!(world.coordinator(), Some(BrokerId(2)));
}

#[test]
fn a_group_that_may_not_be_used_is_told_once_a_minute_and_asked_about_every_few_seconds() {
    let mut world = World::new(1, config(&["b1"]));
    world.coordinator = Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(58));
    assert_eq!(world.problem_kinds(), [ProblemKind::Unauthorized]);
    let problem = world.problems()[0].1;
    assert!(problem.what.contains("group g") && !problem.fatal && problem.code == Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    assert!((12..=25).contains(&searches(&world)), "{}", searches(&world));
    world.coordinator = Ok(1);
    world.run(secs(5));
    assert_eq!(world.coordinator(), Some(BrokerId(1)));
}

#[test]
fn what_cannot_get_better_is_fatal_and_not_asked_again() {
    for (error, kind) in
        [(ErrorCode::INVALID_GROUP_ID, ProblemKind::GroupRefused), (ErrorCode::UNSUPPORTED_VERSION, ProblemKind::Incompatible)]
    {
        let mut world = World::new(1, config(&["b1"]));
        world.coordinator = Err(error);
        world.with(|cluster, now| cluster.want_coordinator(now));
        world.run(secs(60));
        assert_eq!((world.problem_kinds(), searches(&world)), (vec![kind], 1));
        assert!(world.problems()[0].1.fatal);
    }
}

#[test]
fn nonsense_instead_of_a_coordinator_is_told_once_and_asked_about_with_a_back_off() {
    let mut world = World::new(1, config(&["b1"]));
    world.sim("b1").garbles.insert(Api::FindCoordinator);
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(50));
    assert_eq!(world.problem_kinds(), [ProblemKind::Protocol]);
    assert!((40..=70).contains(&searches(&world)), "{}", searches(&world));
}

#[test]
fn an_answer_may_be_parked_as_long_as_its_own_time_allows() {
    let mut world = found();
    world.sim("b1").holds.insert(Api::Heartbeat);
    world.ask(Owner::Group(1), Target::Coordinator, heartbeat(), secs(600));
    world.run(secs(599));
    assert!(world.answers.is_empty());
    world.release("b1", Response::Heartbeat(ErrorCode::NONE));
    world.run(ms(10));
    assert!(world.answer_to(Owner::Group(1)).is_ok());
}
