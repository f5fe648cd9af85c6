//! The cluster as a deterministic state machine: no socket, no clock, no task.
//!
//! ```text
//!  Input ─► connection ─► faults ─► groups        ─┐
//!                                   fetches        ├─► outbox ─► faults' delays ─► Output
//!                                   transactions   │
//!                                   topics, logs  ─┘
//! ```

mod api;
mod broker;
mod call;
mod clock;
mod connection;
mod control;
mod data;
mod fault;
mod fetch;
mod group;
mod log;
mod message;
mod people;
mod random;
mod refuse;
mod request;
mod sasl;
mod settings;
mod shape;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "some moment to begin with: only differences are looked at")]
mod tester;
mod topics;
mod transaction;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::{ResponseError, messages::RequestKind};

pub use api::Release;
pub use data::{Offsets, Outcome};
pub use fault::{Request, Verdict};
pub use group::MemberView;
pub use message::{ConnId, Event, Input, Output};
pub use sasl::{SaslMechanism, SaslSettings};
pub use settings::Settings;

use broker::{Broker, Brokers};
use call::{Call, Fate, Outbox};
use clock::Clock;
use connection::Connection;
use fault::Faults;
use fetch::Fetches;
use group::Groups;
use random::Random;
use topics::Topics;
use transaction::Transactions;

/// A cluster of Kafka brokers that does no I/O: [`handle`](Self::handle) what comes in, then [`poll`](Self::poll) what is to be done
/// until it says [`Output::Wait`]. The same settings and inputs give the same outputs, byte for byte.
#[derive(Debug)]
pub struct Kafka {
    settings: Settings,
    clock: Clock,
    now: Instant,
    random: Random,
    brokers: Brokers,
    topics: Topics,
    groups: Groups,
    fetches: Fetches,
    transactions: Transactions,
    faults: Faults,
    connections: BTreeMap<ConnId, Connection>,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    /// Answers that are on their way for a while, by when they leave.
    delayed: BTreeMap<(Instant, u64), (ConnId, Bytes)>,
    sequence: u64,
}

/// What a machine may use while it serves a request.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    /// Now, as records are dated.
    pub(crate) unix_ms: i64,
    pub(crate) settings: &'a Settings,
    pub(crate) brokers: &'a Brokers,
    pub(crate) topics: &'a mut Topics,
    pub(crate) random: &'a mut Random,
    pub(crate) out: &'a mut Outbox,
}

impl Context<'_> {
    /// Says who leads a partition now, in which epoch, and where that broker is.
    pub(crate) fn leader_of(&self, topic: &str, number: i32) -> Option<(i32, i32, Option<&Broker>)> {
        let partition = self.topics.partition(topic, number)?;
        let leader = partition.leader?;
        Some((leader, partition.leader_epoch, self.brokers.get(leader)))
    }
}

/// Borrows the context apart from the machines.
macro_rules! context {
    ($self:ident) => {
        &mut $crate::kafka::Context {
            now: $self.now,
            unix_ms: $self.clock.unix_ms($self.now),
            settings: &$self.settings,
            brokers: &$self.brokers,
            topics: &mut $self.topics,
            random: &mut $self.random,
            out: &mut $self.outbox,
        }
    };
}

pub(crate) use context;

impl Kafka {
    /// Makes a cluster. `unix_ms` is what `now` is called in records' timestamps.
    #[must_use]
    pub fn new(settings: Settings, now: Instant, unix_ms: i64) -> Self {
        Self {
            clock: Clock::new(now, unix_ms),
            now,
            random: Random::new(settings.seed),
            brokers: Brokers::new(settings.brokers),
            topics: Topics::default(),
            groups: Groups::default(),
            fetches: Fetches::default(),
            transactions: Transactions::default(),
            faults: Faults::default(),
            connections: BTreeMap::new(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            delayed: BTreeMap::new(),
            sequence: 0,
            settings,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Connected(conn, broker) => {
                if self.brokers.accepts(broker) {
                    self.connections.insert(conn, Connection::new(broker));
                } else {
                    self.outputs.push_back(Output::Disconnect(conn));
                }
            }
            Input::Received(conn, bytes) => {
                let received = self.connections.get_mut(&conn).map(|of| of.receive(&bytes, self.settings.request_bytes_max));
                match received {
                    Some(Ok(())) => self.serve(conn),
                    Some(Err(why)) => self.refuse_as_malformed(conn, why),
                    None => {}
                }
            }
            Input::Disconnected(conn) => self.forget(conn),
            Input::Tick => {}
        }
        self.settle();
    }

    /// Says what is to be done next; after [`Output::Wait`] there is nothing more until the next [`handle`](Self::handle).
    pub fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(self.deadline()))
    }

    /// Why requests were refused that no broker would have understood: a client under test should leave this empty.
    #[must_use]
    pub fn malformed(&self) -> &[String] {
        &self.outbox.malformed
    }

    fn deadline(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        let muted = self.connections.values().filter_map(Connection::deadline).min();
        [delayed, muted, self.groups.deadline(), self.fetches.deadline(), self.transactions.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets everything happen that can happen now. What is sent may free a connection for its next request, which may be due at once.
    pub(crate) fn settle(&mut self) {
        loop {
            self.groups.tick(context!(self));
            self.transactions.tick(context!(self), &mut self.groups);
            self.fetches.tick(context!(self));
            self.unmute();
            self.outputs.extend(self.outbox.events.drain(..).map(Output::Event));
            let answers = std::mem::take(&mut self.outbox.answers);
            let is_idle = answers.is_empty();
            for (call, frame) in answers {
                self.dispatch(&call, frame);
            }
            if let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (conn, frame) = entry.remove();
                self.transmit(conn, frame);
            } else if is_idle {
                return;
            }
        }
    }

    /// Serves what a connection has sent, as far as its turn has come: a broker takes one request of a connection at a time.
    fn serve(&mut self, conn: ConnId) {
        loop {
            let now = self.now;
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            if self.faults.is_isolated(connection.broker) {
                return;
            }
            let frame = match connection.next_request(now, self.settings.request_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(why) => return self.refuse_as_malformed(conn, why),
            };
            let broker = connection.broker;
            match request::read(conn, broker, self.settings.release, frame) {
                Ok((call, request)) => self.receive(call, request),
                Err(why) => self.refuse_as_malformed(conn, why),
            }
        }
    }

    /// Lets the faults have their say, then serves the request.
    fn receive(&mut self, mut call: Call, request: RequestKind) {
        let Some(connection) = self.connections.get(&call.conn) else { return };
        if self.settings.sasl.is_some() && !connection.sasl.admits(call.api, self.now) {
            return self.hang_up(call.conn);
        }
        let verdict = self.faults.judge(&call, &request);
        call.throttle_time_ms = self.faults.throttle_time_ms(call.api);
        match verdict {
            Verdict::Pass => {}
            Verdict::Reply(response) => return refuse::reply(&response, call, &mut self.outbox),
            Verdict::ReplyAfter(time, response) => {
                call.fate = Fate::SentAfter(time);
                return refuse::reply(&response, call, &mut self.outbox);
            }
            Verdict::Error(error) => return self.refuse(&request, error, call),
            Verdict::Delay(time) => call.fate = Fate::SentAfter(time),
            Verdict::NoReply => return,
            Verdict::CloseBefore => return self.hang_up(call.conn),
            Verdict::CloseAfterApplying => call.fate = Fate::Lost,
            Verdict::SilentAfterApplying => call.fate = Fate::Kept,
            Verdict::Garbage => call.fate = Fate::Garbled,
        }
        if let Some(error) = self.misplaced(&call, &request) {
            return refuse::refuse(&request, error, call, &mut self.outbox);
        }
        self.apply(call, request);
    }

    fn refuse(&mut self, request: &RequestKind, error: ResponseError, call: Call) {
        match request {
            // The brokers are named also to those who may not know the topics.
            RequestKind::Metadata(request) => broker::refuse_metadata(context!(self), call, request, error),
            _ => refuse::refuse(request, error, call, &mut self.outbox),
        }
    }

    /// Says what is wrong when a request for a coordinator reaches another broker.
    fn misplaced(&self, call: &Call, request: &RequestKind) -> Option<ResponseError> {
        let key = match request {
            RequestKind::JoinGroup(request) => &request.group_id.0,
            RequestKind::SyncGroup(request) => &request.group_id.0,
            RequestKind::Heartbeat(request) => &request.group_id.0,
            RequestKind::LeaveGroup(request) => &request.group_id.0,
            RequestKind::OffsetCommit(request) => &request.group_id.0,
            RequestKind::OffsetDelete(request) => &request.group_id.0,
            RequestKind::TxnOffsetCommit(request) => &request.group_id.0,
            RequestKind::ConsumerGroupHeartbeat(request) => &request.group_id.0,
            RequestKind::OffsetFetch(request) if call.version < 8 => &request.group_id.0,
            RequestKind::OffsetFetch(request) => &request.groups.first()?.group_id.0,
            RequestKind::InitProducerId(request) => &request.transactional_id.as_ref()?.0,
            RequestKind::AddOffsetsToTxn(request) => &request.transactional_id.0,
            RequestKind::EndTxn(request) => &request.transactional_id.0,
            RequestKind::AddPartitionsToTxn(request) if call.version < 4 => &request.v3_and_below_transactional_id.0,
            _ => return None,
        };
        match self.brokers.coordinator_of(key) {
            None => Some(ResponseError::CoordinatorNotAvailable),
            Some(broker) if broker != call.broker => Some(ResponseError::NotCoordinator),
            Some(_) => None,
        }
    }

    fn apply(&mut self, call: Call, request: RequestKind) {
        let cx = context!(self);
        let sasl = self.connections.get_mut(&call.conn).map(|connection| &mut connection.sasl);
        let (groups, fetches, transactions) = (&mut self.groups, &mut self.fetches, &mut self.transactions);
        match request {
            RequestKind::ApiVersions(request) => broker::api_versions(cx, call, &request),
            RequestKind::Metadata(request) => broker::metadata(cx, call, &request),
            RequestKind::FindCoordinator(request) => broker::find_coordinator(cx, call, &request),
            RequestKind::DescribeCluster(request) => broker::describe_cluster(cx, call, &request),

            RequestKind::SaslHandshake(request) => sasl.into_iter().for_each(|sasl| sasl.handshake(cx, call.clone(), &request)),
            RequestKind::SaslAuthenticate(request) => {
                sasl.into_iter().for_each(|sasl| sasl.authenticate(cx, call.clone(), &request));
            }

            RequestKind::JoinGroup(request) => groups.join_group(cx, call, request),
            RequestKind::SyncGroup(request) => groups.sync_group(cx, call, request),
            RequestKind::Heartbeat(request) => groups.heartbeat(cx, call, request),
            RequestKind::LeaveGroup(request) => groups.leave_group(cx, call, request),
            RequestKind::ConsumerGroupHeartbeat(request) => groups.consumer_group_heartbeat(cx, call, request),
            RequestKind::OffsetCommit(request) => groups.offset_commit(cx, call, request),
            RequestKind::OffsetFetch(request) => groups.offset_fetch(cx, call, request),
            RequestKind::OffsetDelete(request) => groups.offset_delete(cx, call, request),
            RequestKind::TxnOffsetCommit(request) => match transactions.admit_offsets(cx, call.version, &request) {
                Ok(()) => groups.txn_offset_commit(cx, call, request),
                Err(error) => refuse::refuse(&RequestKind::TxnOffsetCommit(request), error, call, cx.out),
            },
            RequestKind::DescribeGroups(request) => groups.describe_groups(cx, call, request),
            RequestKind::ConsumerGroupDescribe(request) => groups.consumer_group_describe(cx, call, request),
            RequestKind::ListGroups(request) => groups.list_groups(cx, call, request),
            RequestKind::DeleteGroups(request) => groups.delete_groups(cx, call, request),

            RequestKind::Fetch(request) => fetches.fetch(cx, call, request),
            RequestKind::ListOffsets(request) => log::list_offsets(cx, call, request),
            RequestKind::OffsetForLeaderEpoch(request) => log::offset_for_leader_epoch(cx, call, request),
            RequestKind::DeleteRecords(request) => log::delete_records(cx, call, request),
            RequestKind::Produce(request) => transactions.produce(cx, call, request),
            RequestKind::InitProducerId(request) => transactions.init_producer_id(cx, groups, call, request),
            RequestKind::AddPartitionsToTxn(request) => transactions.add_partitions(cx, call, request),
            RequestKind::AddOffsetsToTxn(request) => transactions.add_offsets(cx, call, request),
            RequestKind::EndTxn(request) => transactions.end(cx, groups, call, request),

            RequestKind::CreateTopics(request) => topics::create_topics(cx, call, request),
            RequestKind::DeleteTopics(request) => {
                for name in topics::delete_topics(cx, call, request) {
                    groups.topic_deleted(cx, &name);
                }
            }
            RequestKind::CreatePartitions(request) => topics::create_partitions(cx, call, request),
            other => unreachable!("{other:?} is not announced, and so was refused when it was read"),
        }
    }

    /// Sends an answer, or lets the fault have it.
    fn dispatch(&mut self, call: &Call, frame: Bytes) {
        if call.throttle_time_ms > 0
            && let Some(connection) = self.connections.get_mut(&call.conn)
        {
            connection.mute(self.now + clock::ms(call.throttle_time_ms));
        }
        match call.fate {
            Fate::Sent => self.transmit(call.conn, frame),
            Fate::SentAfter(time) => self.delay(call.conn, time, frame),
            Fate::Lost => self.hang_up(call.conn),
            Fate::Kept => {}
            Fate::Garbled if frame.is_empty() => self.transmit(call.conn, frame),
            Fate::Garbled => self.transmit(call.conn, fault::garble(&frame)),
        }
    }

    fn delay(&mut self, conn: ConnId, time: Duration, frame: Bytes) {
        self.sequence += 1;
        self.delayed.insert((self.now + time, self.sequence), (conn, frame));
    }

    fn transmit(&mut self, conn: ConnId, frame: Bytes) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if self.faults.is_isolated(connection.broker) {
            return self.faults.hold(connection.broker, conn, frame);
        }
        let slow = self.faults.slowness(connection.broker);
        if !slow.is_zero() && connection.delay_once() {
            return self.delay(conn, slow, frame);
        }
        connection.answered();
        // Some requests have no answer, as Produce with acks=0: what follows them is served all the same.
        if !frame.is_empty() {
            self.outputs.push_back(Output::Transmit(conn, frame));
        }
        self.serve(conn);
    }

    fn unmute(&mut self) {
        let now = self.now;
        let ready: Vec<_> = self.connections.iter_mut().filter_map(|(conn, of)| of.unmute(now).then_some(*conn)).collect();
        ready.into_iter().for_each(|conn| self.serve(conn));
    }

    /// Ends a connection from the broker's side.
    fn hang_up(&mut self, conn: ConnId) {
        if self.connections.contains_key(&conn) {
            self.forget(conn);
            self.outputs.push_back(Output::Disconnect(conn));
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.connections.remove(&conn);
        self.fetches.forget(conn);
    }

    fn refuse_as_malformed(&mut self, conn: ConnId, why: String) {
        self.outbox.malformed.push(why);
        self.hang_up(conn);
    }
}
