//! Anything, in any order: the member keeps its promises, and finds back when the troubles end.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

/// A later topic of the name `t`.
const V: TopicId = TopicId([3; 16]);

#[derive(Clone, Debug)]
enum Step {
    /// Answers one of the heartbeats under way.
    Answer(usize, Reply),
    Coordinator(bool),
    Metadata(Vec<(&'static str, TopicId)>),
    Subscribe(Vec<&'static str>),
    SubscribePattern,
    Released,
    MemberError(ErrorCode),
    Stalled,
    Resumed,
    Pass(u64),
    Leave,
}

#[derive(Clone, Debug)]
enum Reply {
    Good { epoch: i32, assignment: Option<Vec<(TopicId, Vec<i32>)>> },
    Code(ErrorCode),
    Nothing,
}

fn code() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![
        Just(ErrorCode::UNKNOWN_MEMBER_ID),
        Just(ErrorCode::FENCED_MEMBER_EPOCH),
        Just(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        Just(ErrorCode::NOT_COORDINATOR),
        Just(ErrorCode::GROUP_AUTHORIZATION_FAILED),
        Just(ErrorCode::GROUP_MAX_SIZE_REACHED),
    ]
}

fn assignment() -> impl Strategy<Value = Vec<(TopicId, Vec<i32>)>> {
    let topic = |id| proptest::collection::btree_set(0..3i32, 0..4).prop_map(move |numbers| (id, numbers.into_iter().collect()));
    (prop_oneof![topic(T), topic(V)], topic(U)).prop_map(|(t, u)| vec![t, u])
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        6 => (0..9i32, proptest::option::of(assignment())).prop_map(|(epoch, assignment)| Reply::Good { epoch, assignment }),
        2 => code().prop_map(Reply::Code),
        1 => Just(Reply::Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let metadata = prop_oneof![Just(vec![]), Just(vec![("t", T)]), Just(vec![("t", T), ("u", U)]), Just(vec![("t", V)])];
    prop_oneof![
        12 => (0..2usize, reply()).prop_map(|(which, reply)| Step::Answer(which, reply)),
        3 => any::<bool>().prop_map(Step::Coordinator),
        2 => metadata.prop_map(Step::Metadata),
        1 => prop_oneof![Just(vec![]), Just(vec!["t"]), Just(vec!["t", "u"])].prop_map(Step::Subscribe),
        1 => Just(Step::SubscribePattern),
        3 => Just(Step::Released),
        1 => code().prop_map(Step::MemberError),
        1 => Just(Step::Stalled),
        1 => Just(Step::Resumed),
        6 => prop_oneof![0..500u64, 0..6_000u64, 0..400_000u64].prop_map(Step::Pass),
    ]
}

/// What our surroundings know of the member, from its events.
#[derive(Debug, Default)]
struct Surroundings {
    owned: BTreeSet<TopicPartition>,
    releasing: BTreeSet<TopicPartition>,
    /// What the member cannot take on before it is named.
    unnamed: BTreeSet<TopicId>,
    looking_for_the_coordinator: bool,
    over: bool,
}

impl Surroundings {
    fn hear(&mut self, rig: &mut Rig) {
        for event in std::mem::take(&mut rig.events) {
            assert!(!self.over, "{event:?} after the end");
            match event {
                GroupEvent::Assigned { partitions, generation, .. } => {
                    assert!(self.releasing.is_empty(), "taken on before what is to go has gone");
                    assert!(partitions.iter().all(|partition| !self.owned.contains(partition)), "assigned twice");
                    assert!(generation > Generation(0));
                    self.owned.extend(partitions);
                }
                GroupEvent::Release { partitions, deadline, .. } => {
                    assert!(self.releasing.is_empty() && deadline > rig.now - Duration::from_secs(3_600));
                    self.releasing.extend(partitions);
                    assert!(!self.releasing.is_empty() && self.releasing.is_subset(&self.owned));
                }
                GroupEvent::Lost { partitions, .. } => {
                    for partition in partitions {
                        assert!(self.owned.remove(&partition), "lost what was not owned");
                        self.releasing.remove(&partition);
                    }
                }
                GroupEvent::CoordinatorUnknown { .. } => self.looking_for_the_coordinator = true,
                GroupEvent::Problem(problem) => assert!(!problem.fatal, "{problem:?}"),
                GroupEvent::Left => self.over = true,
                GroupEvent::Identify(topics) => self.unnamed = topics,
                GroupEvent::Rejoining { .. } => {}
                GroupEvent::WatchTopics(_) | GroupEvent::RefreshMetadata | GroupEvent::OtherProtocol => panic!("{event:?}"),
            }
        }
        assert!(self.owned.iter().eq(rig.machine.owned.keys()));
        if rig.machine.may_commit() {
            assert!(rig.machine.membership().generation > Generation(0));
        }
        let in_our_name = |ask: &&Ask| request(ask).member.member_id == rig.machine.membership().member_id;
        assert!(rig.asks.iter().filter(in_our_name).count() <= 1, "{:?}", rig.asks);
    }

    /// Once metadata have told what they know, whatever of the assignment has no name is asked for, unless something is handed back first.
    fn check_unnamed(&self, rig: &Rig) {
        if matches!(rig.machine.state, State::Member { .. }) && rig.machine.wants_anything() {
            let is_unnamed = |id: &TopicId| !rig.machine.names.contains_key(id);
            let unnamed: BTreeSet<_> = rig.machine.target.iter().map(|(id, _)| *id).filter(is_unnamed).collect();
            assert_eq!(self.unnamed, unnamed);
        }
    }

    fn take(&mut self, rig: &mut Rig, step: &Step) {
        match step {
            Step::Answer(which, reply) if *which < rig.asks.len() => {
                let ask = rig.asks.remove(*which);
                let answer = match reply {
                    Reply::Good { epoch, assignment } => {
                        let assignment = assignment.as_ref().map(|topics| topics.iter().map(|(id, held)| (*id, &held[..])));
                        beat(*epoch, assignment.map(Iterator::collect::<Vec<_>>).as_deref())
                    }
                    Reply::Code(code) => refused(*code),
                    Reply::Nothing => lost(),
                };
                rig.answer_to(&ask, answer);
            }
            Step::Answer(..) => {}
            Step::Coordinator(known) => {
                self.looking_for_the_coordinator = !known;
                rig.coordinator(*known);
            }
            Step::Metadata(topics) => {
                rig.metadata(topics);
                self.hear(rig);
                self.check_unnamed(rig);
            }
            Step::Subscribe(topics) => rig.subscribe(topics),
            Step::SubscribePattern => rig.subscribe_pattern(&["u"], "[tv]"),
            Step::Released => {
                let released = std::mem::take(&mut self.releasing);
                if !released.is_empty() {
                    self.owned.retain(|partition| !released.contains(partition));
                    rig.released();
                }
            }
            Step::MemberError(code) => rig.member_error(*code),
            Step::Stalled => rig.stalled(),
            Step::Resumed => rig.resumed(),
            Step::Pass(ms) => {
                // A coordinator, or the connection to it, does not let a request stand for ever.
                if *ms >= 30_000 {
                    rig.asks.drain(..).collect::<Vec<_>>().iter().for_each(|ask| rig.answer_to(ask, lost()));
                }
                rig.pass(*ms);
            }
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
    fn keeps_its_promises_and_finds_back(steps in vec(step(), 0..80), is_static in any::<bool>()) {
        let mut rig = Rig::new(if is_static { static_config() } else { config() });
        let mut around = Surroundings::default();
        around.take(&mut rig, &Step::Subscribe(vec!["t"]));
        for step in &steps {
            around.take(&mut rig, step);
        }
        // The troubles end.
        around.take(&mut rig, &Step::Subscribe(vec!["t", "u"]));
        around.take(&mut rig, &Step::Resumed);
        around.take(&mut rig, &Step::Metadata(vec![("t", T), ("u", U)]));
        around.take(&mut rig, &Step::Coordinator(true));
        let target = vec![(T, vec![0]), (U, vec![2])];
        for _ in 0..60 {
            // A few at once, no more: there is no storm.
            for _ in 0..4 {
                around.take(&mut rig, &Step::Answer(0, Reply::Good { epoch: 9, assignment: Some(target.clone()) }));
                around.take(&mut rig, &Step::Released);
            }
            if around.looking_for_the_coordinator {
                around.take(&mut rig, &Step::Coordinator(true));
            }
            around.take(&mut rig, &Step::Pass(250));
        }
        prop_assert_eq!(rig.held(), ["t-0", "u-2"], "after 15 s: {:?}", rig.machine.state);
        let is_settled = matches!(rig.machine.state, State::Member { is_said: true });
        prop_assert!(is_settled, "{:?}", rig.machine.state);
        prop_assert!(around.unnamed.is_empty(), "everything has a name, and is not looked for any more");
        // And it always comes to an end.
        around.take(&mut rig, &Step::Leave);
        around.take(&mut rig, &Step::Pass(5_000));
        prop_assert!(around.over);
    }
}
