//! The member against a coordinator played by hand, in virtual time.

mod answers;
mod closing;
mod cooperative;
mod coverage;
mod leading;
mod rounds;
mod time;
mod walk;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Classic, GroupConfig, GroupEvent, classic::Pace};
use crate::{
    assignor::{CooperativeSticky, Range, RoundRobin},
    model::{Generation, GroupProtocol, TopicPartition},
    proto::{Answer, Ask, CallError, ClusterView, Membership, Owner, PartitionView, Target, TopicView},
    wire::{
        Api, ErrorCode, JoinGroupResponse, JoinedMember, LeaveGroupResponse, Request, Response, Subscription, SyncGroupResponse,
        encode_assignment,
    },
};

pub(super) fn config() -> GroupConfig {
    GroupConfig {
        group: "g".into(),
        instance_id: None,
        rack: None,
        protocol: GroupProtocol::Classic,
        server_assignor: None,
        assignors: vec![Arc::new(Range), Arc::new(RoundRobin)],
        session_timeout: Duration::from_secs(45),
        heartbeat_interval: Duration::from_secs(3),
        rebalance_timeout: Duration::from_secs(300),
        request_timeout: Duration::from_secs(30),
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
        seed: 7,
    }
}

fn static_config() -> GroupConfig {
    GroupConfig { instance_id: Some("i".into()), ..config() }
}

fn cooperative_config() -> GroupConfig {
    GroupConfig { assignors: vec![Arc::new(CooperativeSticky)], ..config() }
}

/// A member, the time, and what it has asked and told so far.
struct Rig {
    machine: Classic,
    now: Instant,
    asks: Vec<Ask>,
    events: Vec<GroupEvent>,
}

impl Rig {
    /// Has not been told anything.
    fn new(config: GroupConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let now = Instant::now();
        Self { machine: Classic::new(config), now, asks: Vec::new(), events: Vec::new() }
    }

    /// Wants topic `t`, knows the coordinator, and has asked to join.
    fn joining(config: GroupConfig) -> Self {
        let mut rig = Self::new(config);
        rig.machine.handle_coordinator(rig.now, true);
        rig.subscribe(&["t"]);
        rig
    }

    /// Has joined generation 5 as `m`, a follower, and has asked for its assignment.
    fn syncing(config: GroupConfig) -> Self {
        let mut rig = Self::joining(config);
        rig.answer(Api::JoinGroup, Ok(joined("m", 5)));
        rig
    }

    /// Holds `t-0` and has been doing so for ten seconds.
    fn stable(config: GroupConfig) -> Self {
        let mut rig = Self::syncing(config);
        rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
        rig.told();
        for _ in 0..3 {
            rig.pass(3_000);
            rig.answer(Api::Heartbeat, Ok(Response::Heartbeat(ErrorCode::NONE)));
        }
        rig.pass(1_000);
        assert!(rig.machine.is_stable());
        rig
    }

    /// Was told of a rebalance, and is to release `t-0`.
    fn releasing(config: GroupConfig) -> Self {
        let mut rig = Self::stable(config);
        rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
        rig.drain();
        assert_eq!(rig.told(), ["rejoining", "release"]);
        rig
    }

    /// Has released, and asked to join again.
    fn rejoining(config: GroupConfig) -> Self {
        let mut rig = Self::releasing(config);
        rig.released();
        rig
    }

    /// Leads generation 5 and waits to hear of topic `u`, which the other member wants.
    fn assigning(config: GroupConfig) -> Self {
        let mut rig = Self::joining(config);
        rig.metadata(&[("t", 2)]);
        rig.answer(Api::JoinGroup, Ok(leading("m", 5, &[("m", &["t"]), ("other", &["u"])])));
        assert_eq!(rig.told(), ["watch u"]);
        rig
    }

    fn subscribe(&mut self, topics: &[&str]) {
        self.machine.handle_subscribe(self.now, topics.iter().map(|&topic| topic.into()).collect(), true);
        self.drain();
    }

    fn released(&mut self) {
        self.machine.handle_released(self.now);
        self.drain();
    }

    fn coordinator(&mut self, known: bool) {
        self.machine.handle_coordinator(self.now, known);
        self.drain();
    }

    fn member_error(&mut self, sent: &Membership, code: ErrorCode) {
        self.machine.handle_member_error(self.now, sent, code);
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

    fn leave(&mut self) {
        self.machine.handle_leave(self.now, "closed".to_owned());
        self.drain();
    }

    fn metadata(&mut self, topics: &[(&str, i32)]) {
        let view = view(topics);
        self.machine.handle_metadata(self.now, &view);
        self.drain();
    }

    /// Answers the only request of this API under way.
    #[track_caller]
    fn answer(&mut self, api: Api, answer: Answer) {
        let ask = self.take(api);
        self.answer_to(&ask, answer);
    }

    fn answer_to(&mut self, ask: &Ask, answer: Answer) {
        let Owner::Group(call) = ask.owner else { panic!("asked as {:?}", ask.owner) };
        self.machine.handle_answer(self.now, call, answer.map(|response| select(&ask.request, response)));
        self.drain();
    }

    /// Takes the only request of this API under way.
    #[track_caller]
    fn take(&mut self, api: Api) -> Ask {
        let of_api: Vec<_> = (0..self.asks.len()).filter(|&n| self.asks[n].request.api() == api).collect();
        match of_api[..] {
            [only] => self.asks.remove(only),
            _ => panic!("expected one {api:?} among {:?}", self.asks),
        }
    }

    fn under_way(&self) -> Vec<Api> {
        self.asks.iter().map(|ask| ask.request.api()).collect()
    }

    /// What was told since the last time.
    fn told(&mut self) -> Vec<String> {
        self.events.drain(..).map(|event| in_short(&event)).collect()
    }

    /// Takes what the machine has to say, and checks what must hold whenever it has been drained.
    fn drain(&mut self) {
        loop {
            if let Some(ask) = self.machine.poll_ask(self.now, true) {
                assert_eq!(ask.to, Target::Coordinator);
                assert!(ask.timeout > Duration::ZERO);
                self.asks.push(ask);
            } else if let Some(event) = self.machine.poll_event() {
                self.events.push(event);
            } else {
                break;
            }
        }
        if let Some((at, why)) = self.machine.poll_timeout(true) {
            assert!(at > self.now, "\"{why}\" is due and was not done");
        }
        for api in [Api::JoinGroup, Api::SyncGroup, Api::Heartbeat] {
            assert!(self.under_way().iter().filter(|&&other| other == api).count() <= 1, "{:?}", self.under_way());
        }
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some((at, _)) = self.machine.poll_timeout(true).filter(|(at, _)| *at <= until) {
            self.now = at;
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    /// Lets time pass until something is asked; says what, and how long it took.
    fn next_ask(&mut self) -> String {
        let start = self.now;
        loop {
            if let Some(ask) = self.asks.last() {
                let api = ask.request.api();
                return match (self.now - start).as_millis() {
                    0 => format!("{api:?} at once"),
                    80..=1_250 => format!("{api:?} after a back-off"),
                    1_251..=5_000 => format!("{api:?} after seconds"),
                    long => format!("{api:?} after {long} ms"),
                };
            }
            match self.machine.poll_timeout(true) {
                Some((at, _)) => self.pass((at - self.now).as_micros().div_ceil(1000) as u64),
                None => return "nothing".to_owned(),
            }
        }
    }

    fn member(&self) -> String {
        let Membership { member_id, generation } = self.machine.membership();
        format!("{member_id}/{}", generation.0)
    }
}

pub(super) fn in_short(event: &GroupEvent) -> String {
    match event {
        GroupEvent::CoordinatorUnknown { .. } => "coordinator unknown".to_owned(),
        GroupEvent::Release { .. } => "release".to_owned(),
        GroupEvent::Lost { .. } => "lost".to_owned(),
        GroupEvent::Assigned { generation, leader, partitions, .. } => {
            let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            format!("assigned {}: {}{}", generation.0, partitions.join(" "), if *leader { ", leads" } else { "" })
        }
        GroupEvent::WatchTopics(topics) => format!("watch {}", topics.join(" ")),
        GroupEvent::RefreshMetadata => "refresh metadata".to_owned(),
        GroupEvent::Identify(topics) => format!("identify {}", topics.len()),
        GroupEvent::OtherProtocol => "other protocol".to_owned(),
        GroupEvent::Rejoining { .. } => "rejoining".to_owned(),
        GroupEvent::Left => "left".to_owned(),
        GroupEvent::Problem(problem) => format!("{:?}{}", problem.kind, if problem.fatal { ", fatal" } else { "" }),
    }
}

/// A coordinator selects what the member offers, where a test does not say otherwise.
fn select(request: &Request, mut response: Response) -> Response {
    let (selected, offered) = match (request, &mut response) {
        (Request::JoinGroup(request), Response::JoinGroup(answer)) => {
            let offers_range = request.protocols.iter().any(|(name, _)| &**name == "range");
            (&mut answer.protocol, request.protocols.first().filter(|_| !offers_range).map(|(name, _)| name))
        }
        (Request::SyncGroup(request), Response::SyncGroup(answer)) => (&mut answer.protocol, Some(&request.protocol)),
        _ => return response,
    };
    if let Some(offered) = offered.filter(|_| selected.as_deref() == Some("range")) {
        *selected = Some(offered.clone());
    }
    response
}

fn joined_with(error: ErrorCode, member_id: &str) -> JoinGroupResponse {
    JoinGroupResponse {
        error,
        generation: Generation(-1),
        protocol_type: None,
        protocol: None,
        leader: "".into(),
        skip_assignment: false,
        member_id: member_id.into(),
        members: Vec::new(),
    }
}

fn join_error(error: ErrorCode) -> Response {
    Response::JoinGroup(joined_with(error, ""))
}

fn follower(member_id: &str, generation: i32) -> JoinGroupResponse {
    JoinGroupResponse {
        generation: Generation(generation),
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        leader: "other".into(),
        ..joined_with(ErrorCode::NONE, member_id)
    }
}

fn joined(member_id: &str, generation: i32) -> Response {
    Response::JoinGroup(follower(member_id, generation))
}

fn leader(member_id: &str, generation: i32, members: &[(&str, &[&str])]) -> JoinGroupResponse {
    let members = members
        .iter()
        .map(|&(id, topics)| {
            let subscription = Subscription { topics: topics.iter().map(|&t| t.into()).collect(), ..Subscription::default() };
            JoinedMember { member_id: id.into(), instance_id: None, metadata: subscription.encode() }
        })
        .collect();
    JoinGroupResponse { leader: member_id.into(), members, ..follower(member_id, generation) }
}

fn leading(member_id: &str, generation: i32, members: &[(&str, &[&str])]) -> Response {
    Response::JoinGroup(leader(member_id, generation, members))
}

fn synced_with(error: ErrorCode, assignment: Bytes) -> SyncGroupResponse {
    SyncGroupResponse { error, protocol_type: Some("consumer".into()), protocol: Some("range".into()), assignment }
}

fn synced(partitions: &[(&str, i32)]) -> Response {
    let partitions: Vec<_> = partitions.iter().map(|&(topic, n)| TopicPartition::new(topic, n)).collect();
    Response::SyncGroup(synced_with(ErrorCode::NONE, encode_assignment(&partitions, None)))
}

fn sync_error(error: ErrorCode) -> Response {
    Response::SyncGroup(synced_with(error, Bytes::new()))
}

fn heartbeat(code: ErrorCode) -> Response {
    Response::Heartbeat(code)
}

fn left(error: ErrorCode) -> Response {
    Response::LeaveGroup(LeaveGroupResponse { error, members: Vec::new() })
}

pub(super) fn lost() -> Answer {
    Err(CallError::Lost("the connection was lost".to_owned()))
}

/// A topic with -1 partitions does not exist.
pub(super) fn view(topics: &[(&str, i32)]) -> ClusterView {
    let topics = topics.iter().map(|&(name, partitions)| {
        let error = if partitions < 0 { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::NONE };
        let partitions = vec![PartitionView::default(); usize::try_from(partitions).unwrap_or(0)];
        (Arc::from(name), TopicView { error, id: None, partitions })
    });
    ClusterView { revision: 1, topics: topics.collect::<BTreeMap<_, _>>() }
}

fn join_request(ask: &Ask) -> &crate::wire::JoinGroupRequest {
    match &ask.request {
        Request::JoinGroup(request) => request,
        other => panic!("{other:?}"),
    }
}

fn sync_request(ask: &Ask) -> &crate::wire::SyncGroupRequest {
    match &ask.request {
        Request::SyncGroup(request) => request,
        other => panic!("{other:?}"),
    }
}

fn leave_request(ask: &Ask) -> &crate::wire::LeaveGroupRequest {
    match &ask.request {
        Request::LeaveGroup(request) => request,
        other => panic!("{other:?}"),
    }
}
