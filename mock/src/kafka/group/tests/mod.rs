//! One test for each rule of the group coordinator, told by a client in real frames.

mod classic;
mod consumer;
mod consumer_offsets;
mod converted;
mod offsets;
mod statics;
mod tools;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{
        consumer_protocol_assignment as assignment, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, offset_commit_request as commit, offset_fetch_request as fetch,
        sync_group_request::SyncGroupRequestAssignment, *,
    },
    protocol::{Encodable, StrBytes},
};

use crate::kafka::{
    Context, Groups, Kafka, Settings,
    log::Log,
    message::{ConnId, Event},
    tester::Tester,
    topics::{Partition, Topic},
};

const GROUP: &str = "orders";
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

/// A member as a client would be one: what it knows of itself.
struct Client {
    conn: ConnId,
    id: StrBytes,
    instance_id: Option<&'static str>,
    generation: i32,
    protocols: Vec<(&'static str, Bytes)>,
    version: i16,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn code(error: ResponseError) -> i16 {
    error.code()
}

impl Client {
    fn new(t: &mut Tester) -> Self {
        let protocols = vec![("range", subscription(&["t"]))];
        Self { conn: t.connect(1), id: StrBytes::default(), instance_id: None, generation: -1, protocols, version: 9 }
    }

    fn with_instance(t: &mut Tester, instance_id: &'static str) -> Self {
        Self { instance_id: Some(instance_id), ..Self::new(t) }
    }

    fn instance(&self) -> Option<StrBytes> {
        self.instance_id.map(StrBytes::from_static_str)
    }

    fn join_request(&self) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(&'static str, Bytes)| {
            let body = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str(name));
            body.with_metadata(metadata.clone())
        };
        JoinGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_session_timeout_ms(SESSION.as_millis() as i32)
            .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(self.protocols.iter().map(protocol).collect())
    }

    /// Sends a join, and goes the way round by `MEMBER_ID_REQUIRED`.
    fn send_join(&mut self, t: &mut Tester) {
        let is_new = self.id.is_empty() && self.instance_id.is_none() && self.version >= 4;
        if is_new {
            let answer = t.ask(self.conn, self.version, &self.join_request());
            assert_eq!(answer.error_code, code(ResponseError::MemberIdRequired));
            self.id = answer.member_id;
        }
        t.send(self.conn, self.version, &self.join_request());
    }

    #[track_caller]
    fn joined(&mut self, t: &mut Tester) -> JoinGroupResponse {
        let answer = self.join_answer(t).expect("an answer to the join");
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.id = answer.member_id.clone();
        self.generation = answer.generation_id;
        answer
    }

    fn join_answer(&self, t: &mut Tester) -> Option<JoinGroupResponse> {
        t.answer::<JoinGroupRequest>(self.conn, self.version)
    }

    fn sync_version(&self) -> i16 {
        if self.version >= 7 { 5 } else { 2 }
    }

    fn sync_request(&self, assignments: &[(&StrBytes, Bytes)]) -> SyncGroupRequest {
        let assignment = |(id, bytes): &(&StrBytes, Bytes)| {
            SyncGroupRequestAssignment::default().with_member_id((*id).clone()).with_assignment(bytes.clone())
        };
        let request = SyncGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance())
            .with_assignments(assignments.iter().map(assignment).collect());
        if self.sync_version() < 5 {
            return request;
        }
        request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
    }

    fn send_sync(&self, t: &mut Tester, assignments: &[(&StrBytes, Bytes)]) {
        t.send(self.conn, self.sync_version(), &self.sync_request(assignments));
    }

    fn sync_answer(&self, t: &mut Tester) -> Option<SyncGroupResponse> {
        t.answer::<SyncGroupRequest>(self.conn, self.sync_version())
    }

    fn heartbeat(&self, t: &mut Tester) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance());
        t.ask(self.conn, 4, &request).error_code
    }

    fn leave(&self, t: &mut Tester) -> i16 {
        let member = MemberIdentity::default().with_member_id(self.id.clone()).with_group_instance_id(self.instance());
        let request = LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_members(vec![member]);
        let answer = t.ask(self.conn, 5, &request);
        assert_eq!(answer.error_code, 0);
        answer.members[0].error_code
    }

    fn commit_request(&self, offset: i64) -> OffsetCommitRequest {
        commit_request(GROUP, &[("t", 0, offset)])
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance())
    }

    fn commit(&self, t: &mut Tester, offset: i64) -> i16 {
        t.ask(self.conn, 8, &self.commit_request(offset)).topics[0].partitions[0].error_code
    }
}

fn tester() -> Tester {
    tester_with(Settings::default())
}

fn tester_with(settings: Settings) -> Tester {
    let mut t = Tester::new(settings);
    create_topic(&mut t, "t", 3);
    t
}

fn create_topic(t: &mut Tester, name: &str, partitions: i32) {
    let partition = || Partition { replicas: vec![1], leader: Some(1), leader_epoch: 0, log: Log::default(), follower_end: None };
    t.with(|kafka| {
        let id = kafka.random.uuid();
        let partitions = (0..partitions).map(|_| partition()).collect();
        kafka.topics.insert(name, Topic { id, partitions, configs: Default::default() });
    });
}

/// Does something to the groups as a user's test would.
fn with_groups<T>(t: &mut Tester, act: impl FnOnce(&mut Groups, &mut Context<'_>) -> T) -> T {
    t.with(|kafka| {
        let Kafka { settings, clock, now, random, brokers, topics, groups, outbox: out, .. } = kafka;
        act(groups, &mut Context { now: *now, unix_ms: clock.unix_ms(*now), settings, brokers, topics, random, out })
    })
}

fn state(t: &Tester) -> &'static str {
    t.kafka.groups.state(GROUP).expect("the group is there")
}

fn state_is(t: &Tester, state: &str) -> bool {
    t.kafka.groups.state(GROUP) == Some(state)
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut blob = BytesMut::new();
    blob.put_i16(1);
    let body = ConsumerProtocolSubscription::default().with_topics(topics.iter().map(|topic| text(topic)).collect());
    body.encode(&mut blob, 1).expect("a subscription");
    blob.freeze()
}

fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut blob = BytesMut::new();
    blob.put_i16(1);
    let of = assignment::TopicPartition::default().with_topic(text(topic).into()).with_partitions(partitions.to_vec());
    let body = ConsumerProtocolAssignment::default().with_assigned_partitions(vec![of]);
    body.encode(&mut blob, 1).expect("an assignment");
    blob.freeze()
}

fn commit_request(group: &str, offsets: &[(&str, i32, i64)]) -> OffsetCommitRequest {
    let topic = |(topic, partition, offset): &(&str, i32, i64)| {
        let of = commit::OffsetCommitRequestPartition::default().with_partition_index(*partition);
        let of = of.with_committed_offset(*offset).with_committed_metadata(Some(text("")));
        commit::OffsetCommitRequestTopic::default().with_name(text(topic).into()).with_partitions(vec![of])
    };
    let topics = offsets.iter().map(topic).collect();
    OffsetCommitRequest::default().with_group_id(text(group).into()).with_topics(topics).with_generation_id_or_member_epoch(-1)
}

fn fetch_request(topics: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let topic = |(name, partitions): &(&str, &[i32])| {
        let body = fetch::OffsetFetchRequestTopics::default().with_name(text(name).into());
        body.with_partition_indexes(partitions.to_vec())
    };
    let group = fetch::OffsetFetchRequestGroup::default()
        .with_group_id(text(GROUP).into())
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()));
    OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true)
}

/// Asks for one partition's offset: the offset, and the error.
fn fetch_offset(t: &mut Tester, conn: ConnId) -> (i64, i16) {
    let answer = t.ask(conn, 8, &fetch_request(Some(&[("t", &[0])])));
    assert_eq!(answer.groups[0].error_code, 0);
    let partition = &answer.groups[0].topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

/// Brings a group of so many members to a generation with assignments; the first leads.
fn stable(t: &mut Tester, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| Client::new(t)).collect();
    settle(t, &mut clients);
    clients
}

/// Lets all these join and sync: partition `i` goes to the client `i`.
fn settle(t: &mut Tester, clients: &mut [Client]) {
    let mut waiting = vec![false; clients.len()];
    // The first is answered alone, before the others come; then all are together.
    for _ in 0..3 {
        for (client, waits) in clients.iter_mut().zip(&mut waiting) {
            let is_behind = Some(client.generation) != t.kafka.groups.generation(GROUP) || state_is(t, "PreparingRebalance");
            if is_behind && !*waits {
                client.send_join(t);
                *waits = true;
            }
        }
        for (client, waits) in clients.iter_mut().zip(&mut waiting) {
            if let Some(answer) = client.join_answer(t) {
                assert_eq!(answer.error_code, 0, "{answer:?}");
                client.id = answer.member_id;
                client.generation = answer.generation_id;
                *waits = false;
            }
        }
    }
    assert!(!waiting.contains(&true), "all have joined");
    let ids: Vec<_> = clients.iter().map(|client| client.id.clone()).collect();
    let plan: Vec<_> = ids.iter().zip(0..).map(|(id, number)| (id, assignment("t", &[number]))).collect();
    for client in clients.iter() {
        let is_leader = t.kafka.groups.members(GROUP).iter().any(|of| of.is_leader && of.member_id == client.id.as_str());
        client.send_sync(t, if is_leader { &plan } else { &[] });
    }
    for client in clients.iter() {
        let answer = client.sync_answer(t).expect("an assignment");
        assert_eq!(answer.error_code, 0);
    }
    assert_eq!(state(t), "Stable");
}

fn gone(t: &Tester) -> Vec<(String, &'static str)> {
    let why = |event: &Event| match event {
        Event::MemberGone { member_id, why, .. } => Some((member_id.clone(), *why)),
        _ => None,
    };
    t.events.iter().filter_map(why).collect()
}
