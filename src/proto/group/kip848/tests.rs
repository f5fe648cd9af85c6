//! The member against a coordinator played by hand, in virtual time.

mod errors;
mod heartbeats;
mod leaving;
mod reconcile;
mod walk;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Kip848, State};
use crate::{
    model::{Generation, GroupProtocol, TopicId, TopicPartition},
    proto::{
        Answer, Ask, ClusterView, Membership, Owner, PartitionView, Target, TopicView,
        group::{
            GroupConfig, GroupEvent,
            tests::{self, lost},
        },
    },
    wire::{ConsumerHeartbeatRequest, ConsumerHeartbeatResponse, ErrorCode, Request, Response},
};

/// The topics that there are: `t`, and `u`, which not every test lets the member know.
const T: TopicId = TopicId([1; 16]);
const U: TopicId = TopicId([2; 16]);

fn config() -> GroupConfig {
    GroupConfig {
        rack: Some("r".into()),
        protocol: GroupProtocol::Consumer,
        server_assignor: Some("uniform".into()),
        assignors: Vec::new(),
        ..tests::config()
    }
}

fn static_config() -> GroupConfig {
    GroupConfig { instance_id: Some("i".into()), ..config() }
}

fn auto_config() -> GroupConfig {
    GroupConfig { protocol: GroupProtocol::Auto, ..config() }
}

/// A member, the time, the heartbeats nobody has answered yet, and what it has told.
struct Rig {
    machine: Kip848,
    now: Instant,
    asks: Vec<Ask>,
    events: Vec<GroupEvent>,
}

impl Rig {
    fn new(config: GroupConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        Self { machine: Kip848::new(config), now, asks: Vec::new(), events: Vec::new() }
    }

    /// Wants topic `t`, knows it and the coordinator, and has asked to join.
    fn joining(config: GroupConfig) -> Self {
        let mut rig = Self::new(config);
        rig.coordinator(true);
        rig.metadata(&[("t", T)]);
        rig.subscribe(&["t"]);
        rig
    }

    /// Holds `t-0` and `t-1` at epoch 5, and has said so.
    fn holding(config: GroupConfig) -> Self {
        let mut rig = Self::joining(config);
        rig.answer(beat(5, Some(&[(T, &[0, 1])])));
        assert_eq!(rig.told(), ["assigned 5: t-0 t-1"]);
        assert_eq!(rig.said(beat(5, None)), "5 holds t:0,1");
        rig
    }

    /// Is to hand `t-1` back, at epoch 5.
    fn releasing(config: GroupConfig) -> Self {
        let mut rig = Self::holding(config);
        rig.pass(5_000);
        rig.answer(beat(5, Some(&[(T, &[0])])));
        assert_eq!(rig.told(), ["release t-1"]);
        rig
    }

    fn subscribe(&mut self, topics: &[&str]) {
        self.machine.handle_subscribe(self.now, topics.iter().map(|&topic| topic.into()).collect(), None);
        self.drain();
    }

    /// Wants what the coordinator finds to match, too.
    fn subscribe_pattern(&mut self, topics: &[&str], pattern: &str) {
        let topics = topics.iter().map(|&topic| topic.into()).collect();
        self.machine.handle_subscribe(self.now, topics, Some(pattern.into()));
        self.drain();
    }

    fn coordinator(&mut self, known: bool) {
        self.machine.handle_coordinator(self.now, known);
        self.drain();
    }

    fn metadata(&mut self, topics: &[(&str, TopicId)]) {
        let topic = |id| TopicView { error: ErrorCode::NONE, id: Some(id), partitions: vec![PartitionView::default(); 3] };
        let topics = topics.iter().map(|&(name, id)| (name.into(), topic(id))).collect();
        self.machine.handle_metadata(self.now, &ClusterView { revision: 1, topics });
        self.drain();
    }

    fn released(&mut self) {
        self.machine.handle_released(self.now);
        self.drain();
    }

    fn leave(&mut self) {
        self.machine.handle_leave(self.now);
        self.drain();
    }

    fn stalled(&mut self) {
        self.machine.handle_stalled(self.now);
        self.drain();
    }

    fn resumed(&mut self) {
        self.machine.handle_resumed(self.now);
        self.drain();
    }

    fn member_error(&mut self, code: ErrorCode) {
        let sent = self.machine.membership().clone();
        self.machine.handle_member_error(self.now, &sent, code);
        self.drain();
    }

    /// Answers the only heartbeat under way, and says what that was, in short.
    #[track_caller]
    fn said(&mut self, answer: Answer) -> String {
        let ask = self.take();
        let said = in_short(request(&ask));
        self.answer_to(&ask, answer);
        said
    }

    #[track_caller]
    fn answer(&mut self, answer: Answer) {
        self.said(answer);
    }

    #[track_caller]
    fn take(&mut self) -> Ask {
        assert_eq!(self.asks.len(), 1, "{:?}", self.asks);
        self.asks.remove(0)
    }

    fn answer_to(&mut self, ask: &Ask, answer: Answer) {
        let Owner::Group(call) = ask.owner else { panic!("asked as {:?}", ask.owner) };
        self.machine.handle_answer(self.now, call, answer);
        self.drain();
    }

    /// What was told since the last time.
    fn told(&mut self) -> Vec<String> {
        self.events.drain(..).map(|event| tell(&event)).collect()
    }

    /// Takes what the machine has to say, and checks what must hold whenever it has been drained.
    fn drain(&mut self) {
        loop {
            if let Some(ask) = self.machine.poll_ask(self.now) {
                assert_eq!(ask.to, Target::Coordinator);
                assert!(ask.timeout > Duration::ZERO);
                self.asks.push(ask);
            } else if let Some(event) = self.machine.poll_event() {
                self.events.push(event);
            } else {
                break;
            }
        }
        if let Some((at, why)) = self.machine.poll_timeout() {
            assert!(at > self.now, "\"{why}\" is due and was not done");
        }
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= until) {
            self.now = at;
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    /// Lets time pass until a heartbeat is asked for; says how long that took.
    fn next_ask(&mut self) -> &'static str {
        let start = self.now;
        while self.asks.is_empty() {
            let Some((at, _)) = self.machine.poll_timeout() else { return "never" };
            self.pass((at - self.now).as_micros().div_ceil(1000) as u64);
        }
        match (self.now - start).as_millis() {
            0 => "at once",
            80..=1_250 => "after a back-off",
            1_251..=5_000 => "after seconds",
            _ => "much later",
        }
    }

    fn held(&self) -> Vec<String> {
        self.machine.owned.keys().map(ToString::to_string).collect()
    }

    fn member_id(&self) -> Arc<str> {
        self.machine.membership().member_id.clone()
    }
}

fn request(ask: &Ask) -> &ConsumerHeartbeatRequest {
    match &ask.request {
        Request::ConsumerGroupHeartbeat(request) => request,
        other => panic!("{other:?}"),
    }
}

/// The epoch, and what is said beside it.
fn in_short(beat: &ConsumerHeartbeatRequest) -> String {
    let name = |id: &TopicId| if *id == T { "t" } else { "u" };
    let numbers = |numbers: &[i32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut said = beat.member.generation.0.to_string();
    if beat.rebalance_timeout_ms.is_some() {
        said += " is new here";
    }
    if let Some(topics) = &beat.topics {
        said += &format!(" wants {}", if topics.is_empty() { "none".to_owned() } else { topics.join(",") });
    }
    match beat.pattern.as_deref() {
        // Everything that is said says so: what was matched before is not matched any more.
        Some("") if beat.rebalance_timeout_ms.is_some() => {}
        Some("") => said += " matches no more",
        Some(pattern) => said += &format!(" matches {pattern}"),
        None => assert!(beat.rebalance_timeout_ms.is_none(), "a heartbeat that says everything but the pattern"),
    }
    if let Some(owned) = &beat.owned {
        let owned: Vec<_> = owned.iter().map(|(id, held)| format!("{}:{}", name(id), numbers(held))).collect();
        said += &format!(" holds {}", if owned.is_empty() { "nothing".to_owned() } else { owned.join(" ") });
    }
    said
}

fn tell(event: &GroupEvent) -> String {
    let names = |partitions: &[TopicPartition]| partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match event {
        GroupEvent::Release { partitions, .. } => format!("release {}", names(partitions)),
        GroupEvent::Lost { partitions, .. } => format!("lost {}", names(partitions)),
        GroupEvent::WatchTopics(_) => panic!("{event:?} of the consumer protocol"),
        _ => tests::in_short(event),
    }
}

fn response(error: ErrorCode, epoch: i32, assignment: Option<&[(TopicId, &[i32])]>) -> Answer {
    Ok(Response::ConsumerGroupHeartbeat(ConsumerHeartbeatResponse {
        error,
        message: None,
        epoch: Generation(epoch),
        heartbeat_interval: Some(Duration::from_secs(5)),
        assignment: assignment.map(|topics| topics.iter().map(|(id, numbers)| (*id, numbers.to_vec())).collect()),
    }))
}

fn beat(epoch: i32, assignment: Option<&[(TopicId, &[i32])]>) -> Answer {
    response(ErrorCode::NONE, epoch, assignment)
}

fn refused(code: ErrorCode) -> Answer {
    response(code, 0, None)
}
