//! Whatever happens, every request gets exactly one answer, in time.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::world::{Mode, World, addr, config, ms, names, secs, topic};
use crate::{
    model::{BrokerId, Generation, LeaderEpoch, TopicPartition},
    proto::{ConnId, Disconnect, Owner, Target},
    wire::{Api, ErrorCode, MemberRequest, Request},
};

#[derive(Clone, Debug)]
enum Step {
    Ask(Target, u64),
    Run(u64),
    Fail(i32, Mode),
    Hold(i32, bool),
    Garble(i32, bool),
    WrongCorrelation(i32, bool),
    Coordinator(Option<i32>),
    CoordinatorLost,
    Leader(i32, i32),
    Hint(i32, i32),
    Refresh,
    /// News of a connection that may or may not exist.
    Stray(u64, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let broker = || 1..4i32;
    let target = prop_oneof![
        Just(Target::Any),
        Just(Target::Coordinator),
        (1..5).prop_map(|id| Target::Broker(BrokerId(id))),
        (1..5, 0..3usize).prop_map(|(id, line)| Target::Fetch(BrokerId(id), line)),
    ];
    let mode = prop_oneof![
        3 => Just(Mode::Up),
        1 => prop::sample::select(vec![
            Mode::Refuses, Mode::BlackHole, Mode::ClosesAtOnce, Mode::ClosesAfterHandshake, Mode::Garbled, Mode::Http, Mode::Silent,
        ]),
    ];
    prop_oneof![
        6 => (target, 1..40_000u64).prop_map(|(target, timeout)| Step::Ask(target, timeout)),
        6 => prop_oneof![0..5u64, 0..3000u64].prop_map(Step::Run),
        3 => (broker(), mode).prop_map(|(id, mode)| Step::Fail(id, mode)),
        1 => (broker(), any::<bool>()).prop_map(|(id, on)| Step::Hold(id, on)),
        1 => (broker(), any::<bool>()).prop_map(|(id, on)| Step::Garble(id, on)),
        1 => (broker(), any::<bool>()).prop_map(|(id, on)| Step::WrongCorrelation(id, on)),
        1 => prop::option::of(broker()).prop_map(Step::Coordinator),
        1 => Just(Step::CoordinatorLost),
        1 => (broker(), 0..9).prop_map(|(id, epoch)| Step::Leader(id, epoch)),
        1 => (1..6, 0..9).prop_map(|(id, epoch)| Step::Hint(id, epoch)),
        1 => Just(Step::Refresh),
        1 => (0..30u64, 0..5u8).prop_map(|(id, what)| Step::Stray(id, what)),
    ]
}

fn check(steps: Vec<Step>, seed: u64) {
    let mut world = World::new(3, crate::proto::cluster::ClusterConfig { seed, ..config(&["b1", "b3"]) });
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 1)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.with(|cluster, now| cluster.want_coordinator(now));
    let mut asked: BTreeMap<Owner, Duration> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Ask(to, timeout) => {
                let owner = Owner::Group(asked.len() as u64);
                asked.insert(owner, world.elapsed() + ms(timeout));
                let (member_id, generation) = ("m".into(), Generation(1));
                let request = Request::Heartbeat(MemberRequest { group: "g".into(), generation, member_id, instance_id: None });
                world.ask(owner, to, request, ms(timeout));
            }
            Step::Run(time) => world.run(ms(time)),
            Step::Fail(id, mode) => world.fail(&format!("b{id}"), mode),
            Step::Hold(id, on) => {
                let holds = &mut world.sim(&format!("b{id}")).holds;
                if on {
                    holds.insert(Api::Heartbeat)
                } else {
                    holds.remove(&Api::Heartbeat)
                };
            }
            Step::Garble(id, on) => {
                let garbles = &mut world.sim(&format!("b{id}")).garbles;
                for api in [Api::Metadata, Api::FindCoordinator, Api::Heartbeat] {
                    if on {
                        garbles.insert(api)
                    } else {
                        garbles.remove(&api)
                    };
                }
            }
            Step::WrongCorrelation(id, on) => world.sim(&format!("b{id}")).wrong_correlation = on,
            Step::Coordinator(id) => world.coordinator = id.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            Step::CoordinatorLost => world.with(|cluster, now| cluster.coordinator_lost(now, "test")),
            Step::Leader(id, epoch) => {
                world.topics.insert("t".into(), topic("t", Some(1), &[(id, epoch)]));
            }
            Step::Hint(id, epoch) => {
                let partition = TopicPartition::new("t", 0);
                world.with(|cluster, now| cluster.leader_hint(now, &partition, BrokerId(id), LeaderEpoch(epoch), &[]));
            }
            Step::Refresh => world.with(|cluster, now| cluster.refresh_metadata(now, "test")),
            Step::Stray(id, what) => world.with(|cluster, now| match what {
                0 => cluster.handle_connected(now, ConnId(id)),
                1 => cluster.handle_frame(now, ConnId(id), vec![1, 2].into()),
                2 => cluster.handle_frame(now, ConnId(id), vec![0; 40].into()),
                3 => cluster.handle_disconnected(now, ConnId(id), Disconnect::Closed("stray".to_owned())),
                _ => cluster.handle_timeout(now),
            }),
        }
        for (owner, deadline) in &asked {
            let answers = world.answers.iter().filter(|(to, _)| to == owner).count();
            assert!(answers <= 1, "{owner:?} was answered {answers} times");
            assert!(answers == 1 || world.elapsed() <= *deadline, "{owner:?} has no answer after its deadline");
        }
    }
    // The faults stop: everything is answered, and all is found again.
    for id in 1..=3 {
        let sim = world.sim(&format!("b{id}"));
        (sim.mode, sim.wrong_correlation) = (Mode::Up, false);
        sim.holds.clear();
        sim.garbles.clear();
    }
    world.coordinator = Ok(2);
    world.topics.insert("t".into(), topic("t", Some(1), &[(3, 10)]));
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(45));
    if world.coordinator() != Some(BrokerId(2)) {
        world.with(|cluster, now| cluster.coordinator_lost(now, "it says NOT_COORDINATOR"));
        world.run(secs(3));
    }
    assert!(world.answers.len() == asked.len(), "{} answers to {} requests", world.answers.len(), asked.len());
    assert_eq!(world.coordinator(), Some(BrokerId(2)));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(3)));
    assert_eq!(world.cluster.broker_name(BrokerId(1)), format!("broker 1 ({})", addr("b1")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_exactly_once_and_the_cluster_is_found_again(
        steps in prop::collection::vec(step(), 1..60),
        seed in any::<u64>(),
    ) {
        check(steps, seed);
    }
}
