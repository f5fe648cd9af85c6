//! Anything, in any order: the member keeps its promises, and finds back when the troubles end.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Answers one of the requests under way.
    Answer(usize, Reply),
    Coordinator(bool),
    Metadata(i32),
    Subscribe(Vec<&'static str>),
    Released,
    MemberError(ErrorCode),
    Stalled,
    Resumed,
    Rejoin,
    Pass(u64),
    Leave,
}

#[derive(Clone, Debug)]
enum Reply {
    Good { leads: bool, skip: bool, partitions: i32 },
    Code(ErrorCode),
    Nothing,
    NotSent,
}

fn code() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![
        Just(ErrorCode::MEMBER_ID_REQUIRED),
        Just(ErrorCode::UNKNOWN_MEMBER_ID),
        Just(ErrorCode::ILLEGAL_GENERATION),
        Just(ErrorCode::REBALANCE_IN_PROGRESS),
        Just(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        Just(ErrorCode::NOT_COORDINATOR),
        Just(ErrorCode::GROUP_AUTHORIZATION_FAILED),
        Just(ErrorCode::GROUP_MAX_SIZE_REACHED),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        6 => (any::<bool>(), any::<bool>(), 0..3i32).prop_map(|(leads, skip, partitions)| Reply::Good { leads, skip, partitions }),
        3 => code().prop_map(Reply::Code),
        1 => Just(Reply::Nothing),
        1 => Just(Reply::NotSent),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4usize, reply()).prop_map(|(which, reply)| Step::Answer(which, reply)),
        3 => any::<bool>().prop_map(Step::Coordinator),
        2 => (-1..4i32).prop_map(Step::Metadata),
        1 => prop_oneof![Just(vec![]), Just(vec!["t"]), Just(vec!["t", "u"])].prop_map(Step::Subscribe),
        3 => Just(Step::Released),
        1 => code().prop_map(Step::MemberError),
        1 => Just(Step::Stalled),
        1 => Just(Step::Resumed),
        1 => Just(Step::Rejoin),
        6 => prop_oneof![0..500u64, 0..5_000u64, 0..400_000u64].prop_map(Step::Pass),
    ]
}

fn answer_of(ask: &Ask, reply: &Reply) -> Answer {
    let code = match reply {
        Reply::Code(code) => *code,
        Reply::Good { .. } => ErrorCode::NONE,
        Reply::Nothing => return lost(),
        Reply::NotSent => return Err(CallError::NotSent("no connection".to_owned())),
    };
    let (leads, skip, partitions) = match *reply {
        Reply::Good { leads, skip, partitions } => (leads, skip, partitions),
        _ => (false, false, 0),
    };
    let held: Vec<_> = (0..partitions).map(|n| ("t", n)).collect();
    Ok(match &ask.request {
        Request::JoinGroup(_) if code == ErrorCode::NONE && leads => {
            let answer = leader("m", 3, &[("m", &["t"]), ("other", &["u"])]);
            Response::JoinGroup(JoinGroupResponse { skip_assignment: skip, ..answer })
        }
        Request::JoinGroup(_) if code == ErrorCode::NONE => joined("m", 3),
        Request::JoinGroup(_) => Response::JoinGroup(joined_with(code, "m")),
        // Fatal to any other request.
        _ if code == ErrorCode::MEMBER_ID_REQUIRED => return lost(),
        Request::SyncGroup(_) if code == ErrorCode::NONE => synced(&held),
        Request::SyncGroup(_) => sync_error(code),
        Request::Heartbeat(_) => heartbeat(code),
        Request::LeaveGroup(_) => left(code),
        other => panic!("asked {other:?}"),
    })
}

/// What our surroundings know of the member, from its events.
#[derive(Debug, Default)]
struct Surroundings {
    is_cooperative: bool,
    owned: BTreeSet<TopicPartition>,
    releasing: BTreeSet<TopicPartition>,
    looking_for_the_coordinator: bool,
    over: bool,
}

impl Surroundings {
    fn hear(&mut self, rig: &mut Rig) {
        for event in std::mem::take(&mut rig.events) {
            assert!(!self.over, "{event:?} after the end");
            match event {
                GroupEvent::Assigned { partitions, generation, .. } => {
                    assert!(self.is_cooperative || self.owned.is_empty(), "assigned on top of what was not handed back");
                    assert!(partitions.iter().all(|partition| !self.owned.contains(partition)), "assigned twice");
                    assert!(generation >= Generation(0));
                    self.owned.extend(partitions);
                }
                GroupEvent::Release { partitions, deadline, .. } => {
                    assert!(self.releasing.is_empty() && deadline > rig.now - Duration::from_secs(3_600));
                    self.releasing.extend(partitions);
                    assert!(!self.releasing.is_empty() && self.releasing.is_subset(&self.owned));
                    assert!(self.is_cooperative || self.releasing == self.owned);
                }
                GroupEvent::Lost { partitions, .. } => {
                    for partition in partitions {
                        assert!(self.owned.remove(&partition), "lost what was not owned");
                        self.releasing.remove(&partition);
                    }
                    assert!(self.releasing.is_empty());
                }
                GroupEvent::CoordinatorUnknown { .. } => self.looking_for_the_coordinator = true,
                GroupEvent::Problem(problem) => assert!(!problem.fatal, "{problem:?}"),
                GroupEvent::Left => self.over = true,
                GroupEvent::Rejoining { .. } | GroupEvent::WatchTopics(_) => {}
                GroupEvent::Identify(_) | GroupEvent::RefreshMetadata => panic!("{event:?} of the classic protocol"),
                GroupEvent::OtherProtocol => panic!("nobody left the choice to us"),
            }
        }
        assert_eq!(self.owned, rig.machine.owned);
        if rig.machine.may_commit() {
            assert!(rig.machine.membership().generation >= Generation(0));
        }
        assert!(rig.asks.len() <= 6, "{:?}", rig.under_way());
    }

    fn take(&mut self, rig: &mut Rig, step: &Step) {
        match step {
            Step::Answer(which, reply) if *which < rig.asks.len() => {
                let ask = rig.asks.remove(*which);
                rig.answer_to(&ask, answer_of(&ask, reply));
            }
            Step::Answer(..) => {}
            Step::Coordinator(known) => {
                self.looking_for_the_coordinator = !known;
                rig.coordinator(*known);
            }
            Step::Metadata(partitions) => rig.metadata(&[("t", *partitions), ("u", 1)]),
            Step::Subscribe(topics) => rig.subscribe(topics),
            Step::Released => {
                let released = std::mem::take(&mut self.releasing);
                if !released.is_empty() {
                    self.owned.retain(|partition| !released.contains(partition));
                    rig.released();
                }
            }
            Step::MemberError(code) => rig.member_error(&rig.machine.membership().clone(), *code),
            Step::Stalled => rig.stalled(),
            Step::Resumed => rig.resumed(),
            Step::Rejoin => {
                rig.machine.rebalance(rig.now, Pace::AtOnce, "asked".to_owned());
                rig.drain();
            }
            Step::Pass(ms) => rig.pass(*ms),
            Step::Leave => {
                (self.owned, self.releasing) = Default::default();
                rig.leave();
            }
        }
        self.hear(rig);
    }
}

proptest! {
    #[test]
    fn keeps_its_promises_and_finds_back(steps in vec(step(), 0..80), is_static in any::<bool>(), is_cooperative in any::<bool>()) {
        let of_protocol = if is_cooperative { cooperative_config() } else { config() };
        let mut rig = Rig::new(GroupConfig { instance_id: is_static.then(|| "i".into()), ..of_protocol });
        let mut around = Surroundings { is_cooperative, ..Surroundings::default() };
        around.take(&mut rig, &Step::Subscribe(vec!["t"]));
        for step in &steps {
            around.take(&mut rig, step);
        }
        // The troubles end.
        around.take(&mut rig, &Step::Subscribe(vec!["t"]));
        around.take(&mut rig, &Step::Resumed);
        around.take(&mut rig, &Step::Metadata(1));
        if !rig.machine.is_stable() || around.looking_for_the_coordinator {
            around.take(&mut rig, &Step::Coordinator(true));
        }
        for _ in 0..60 {
            while !rig.asks.is_empty() {
                around.take(&mut rig, &Step::Answer(0, Reply::Good { leads: false, skip: false, partitions: 1 }));
            }
            around.take(&mut rig, &Step::Released);
            if around.looking_for_the_coordinator {
                around.take(&mut rig, &Step::Coordinator(true));
            }
            around.take(&mut rig, &Step::Pass(250));
        }
        prop_assert!(rig.machine.is_stable(), "after 15 s: {:?}", rig.machine.state);
        // And it always comes to an end.
        around.take(&mut rig, &Step::Leave);
        around.take(&mut rig, &Step::Pass(5_000));
        prop_assert!(around.over);
    }
}
