//! Consumers, their users, a network and a clock, all virtual, around the cluster in memory.
//!
//! Time jumps to whatever comes next. What ottla promises is asserted at every step, not only at a test's end (see `ledger`).

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::Stream;

use super::{
    kafka::{Fate, Kafka},
    ledger::Ledger,
};
use crate::{
    consumer::{AtLeastOnce, AtMostOnce, Consumer, ConsumerBuilder, Delivery, Handle, Undriven},
    error::{ConsumeError, ConsumeErrorKind},
    model::TopicPartition,
    proto::{
        ConnId, Deadline, Disconnect,
        consumer::Consumer as Core,
        message::{Command, Event, Input, Output, Unfinished},
    },
    wire::Api,
};

const LATENCY: Duration = Duration::from_millis(1);
/// How often a consumer may be busy without time passing before it counts as a busy loop.
const STEPS_MAX: usize = 20_000;

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Partition `number` of the topic that most scenarios read.
pub(super) fn orders(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

pub(super) fn builder() -> ConsumerBuilder {
    Consumer::builder("workers", ["b1:9092", "b2:9092", "b3:9092"])
        .subscribe(["orders"])
        .session_timeout(secs(10))
        .heartbeat_interval(secs(3))
        .rebalance_timeout(secs(60))
        .drain_timeout(secs(10))
        .processing_timeout(secs(60))
}

pub(super) enum Records {
    AtLeastOnce(AtLeastOnce),
    AtMostOnce(AtMostOnce),
}

/// How the user's program goes about its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) takes: bool,
    /// How many records it works on at the same time.
    pub(super) at_once: usize,
    /// How long it works on each.
    pub(super) work: Duration,
    /// It drops so many of a hundred without an ack.
    pub(super) drops_percent: u64,
}

pub(super) struct Client {
    pub(super) handle: Handle,
    pub(super) habits: Habits,
    pub(super) problems: Vec<(Duration, ConsumeError)>,
    /// What the core said, but for chunks and the like.
    pub(super) events: Vec<(Duration, String)>,
    pub(super) closed: Option<Unfinished>,
    /// Every partition that it holds, and whether it is being revoked.
    pub(super) holds: BTreeMap<TopicPartition, bool>,
    pub(super) in_hand: Vec<(Instant, Delivery)>,
    pub(super) wakeups: usize,
    core: Core,
    records: Option<Records>,
    commands: tokio::sync::mpsc::UnboundedReceiver<Command>,
    on_event: Box<dyn Fn(Event)>,
    deadline: Option<Deadline>,
    /// Ticks at the same moment.
    ticks: (Instant, usize),
    woken: Arc<Woken>,
    frozen: bool,
    dead: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Conn {
    broker: i32,
    /// A broker serves one request of a connection at a time.
    busy: bool,
    queue: VecDeque<(Bytes, Vec<TopicPartition>)>,
}

enum Happening {
    Connected,
    /// With what its sender held then, as far as it was not being revoked.
    Request(Bytes, Vec<TopicPartition>),
    Answer(Bytes, Vec<(TopicPartition, i64)>, Api),
    Disconnected(Disconnect),
}

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) kafka: Kafka,
    pub(super) clients: Vec<Client>,
    pub(super) ledger: Ledger,
    conns: BTreeMap<(usize, ConnId), Conn>,
    network: BTreeMap<(Instant, u64), (usize, ConnId, Happening)>,
    sequence: u64,
    seed: u64,
    /// No request waits for its connection for long, so none is for partitions that went meanwhile.
    pub(super) connections_hold: bool,
}

impl World {
    /// Three brokers, and the topic `orders` with so many partitions.
    pub(super) fn new(partitions: i32) -> Self {
        Self::seeded(partitions, 7)
    }

    pub(super) fn seeded(partitions: i32, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some moment to begin with: only differences are looked at")]
        let start = Instant::now();
        let mut kafka = Kafka::new(3);
        kafka.create("orders", partitions);
        Self {
            start,
            now: start,
            kafka,
            clients: Vec::new(),
            ledger: Ledger::default(),
            conns: BTreeMap::new(),
            network: BTreeMap::new(),
            sequence: 0,
            seed,
            connections_hold: true,
        }
    }

    /// Starts a consumer; its number.
    pub(super) fn join(&mut self, builder: ConsumerBuilder, mode: impl FnOnce(Consumer) -> Records) -> usize {
        let seed = self.seed.wrapping_add(self.clients.len() as u64 * 1000);
        let Undriven { core, consumer, handle, commands, on_event } = builder.undriven(self.now, seed);
        let records = mode(consumer);
        self.ledger.expect(matches!(records, Records::AtLeastOnce(_)), matches!(records, Records::AtMostOnce(_)));
        self.clients.push(Client {
            handle,
            habits: Habits { takes: true, at_once: usize::MAX, work: Duration::ZERO, drops_percent: 0 },
            problems: Vec::new(),
            events: Vec::new(),
            closed: None,
            holds: BTreeMap::new(),
            in_hand: Vec::new(),
            wakeups: 0,
            core,
            records: Some(records),
            commands,
            on_event,
            deadline: None,
            ticks: (self.now, 0),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            frozen: false,
            dead: false,
        });
        let client = self.clients.len() - 1;
        self.settle(client);
        client
    }

    pub(super) fn at_least_once(&mut self) -> usize {
        self.join(builder(), |consumer| Records::AtLeastOnce(consumer.at_least_once()))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn produce(&mut self, partition: i32, count: i32) {
        self.kafka.log(&orders(partition)).produce(count);
        self.tick_kafka();
    }

    /// Does something to the cluster.
    pub(super) fn kafka<T>(&mut self, act: impl FnOnce(&mut Kafka, Instant) -> T) -> T {
        let result = act(&mut self.kafka, self.now);
        self.tick_kafka();
        result
    }

    /// Makes another broker the leader of a partition.
    pub(super) fn elect(&mut self, partition: i32, leader: i32) {
        self.kafka(|kafka, _| kafka.log(&orders(partition)).elect(leader));
    }

    /// Kills a broker. What it led and coordinated stays with it until the test moves it.
    pub(super) fn stop_broker(&mut self, broker: i32) {
        self.kafka.down.insert(broker);
        self.kafka.forget_broker(broker);
        let lost: Vec<_> = self.conns.iter().filter(|(_, conn)| conn.broker == broker).map(|(id, _)| *id).collect();
        for (client, conn) in lost {
            self.hang_up(client, conn);
        }
    }

    /// The process is killed: nothing more comes from it, and its connections end.
    pub(super) fn kill(&mut self, client: usize) {
        self.clients[client].dead = true;
        self.clients[client].records = None;
        self.clients[client].in_hand.clear();
        self.clients[client].holds.clear();
        let lost: Vec<_> = self.conns.keys().filter(|(of, _)| *of == client).copied().collect();
        for (client, conn) in lost {
            self.conns.remove(&(client, conn));
            self.kafka.forget(client, conn);
        }
    }

    /// The process stops, as under a debugger, and goes on later as if no time had passed.
    pub(super) fn freeze(&mut self, client: usize, frozen: bool) {
        self.clients[client].frozen = frozen;
        self.settle(client);
    }

    /// The user closes its stream.
    pub(super) fn close(&mut self, client: usize, timeout: Duration) {
        self.clients[client].handle.shutdown(timeout);
        self.settle(client);
    }

    /// The user changes its ways, and looks at its stream.
    pub(super) fn habits(&mut self, client: usize, change: impl FnOnce(&mut Habits)) {
        change(&mut self.clients[client].habits);
        self.clients[client].woken.0.store(true, Ordering::Relaxed);
        self.settle(client);
    }

    /// The user does something through its handle, and looks at its stream before anything else can happen.
    pub(super) fn with_handle(&mut self, client: usize, act: impl FnOnce(&Handle)) {
        act(&self.clients[client].handle);
        self.clients[client].woken.0.store(true, Ordering::Relaxed);
        while self.clients[client].is_awake() && self.take(client) {}
        self.settle(client);
    }

    /// The user acks everything that it has in hand.
    pub(super) fn ack_all(&mut self, client: usize) {
        for (_, delivery) in std::mem::take(&mut self.clients[client].in_hand) {
            self.ledger.acked(&delivery);
            delivery.ack();
        }
        self.clients[client].woken.0.store(true, Ordering::Relaxed);
        self.settle(client);
    }

    /// Everything that any user was handed out.
    pub(super) fn handed_out(&self, partition: &TopicPartition) -> Vec<i64> {
        self.ledger.handed_out(partition)
    }

    pub(super) fn problem_kinds(&self, client: usize) -> Vec<ConsumeErrorKind> {
        self.clients[client].problems.iter().map(|(_, problem)| problem.kind()).collect()
    }

    pub(super) fn holders(&self, partition: &TopicPartition) -> Vec<usize> {
        (0..self.clients.len()).filter(|client| self.clients[*client].holds.contains_key(partition)).collect()
    }

    /// Says whether every record was handed out, and every one that was is committed.
    pub(super) fn is_done(&self) -> bool {
        self.kafka.partitions().iter().all(|partition| {
            let log = self.kafka.find(partition).expect("listed");
            let Some(last) = log.visible.last() else { return true };
            self.kafka.committed(partition).is_some_and(|committed| committed > *last)
                && log.visible.iter().all(|offset| self.ledger.was_handed_out(partition, *offset))
        })
    }

    /// Says whether everything is committed: at most once, that is all that can be asked for.
    pub(super) fn is_committed(&self) -> bool {
        self.kafka.partitions().iter().all(|partition| {
            let last = self.kafka.find(partition).and_then(|log| log.visible.last());
            last.is_none_or(|last| self.kafka.committed(partition).is_some_and(|committed| committed > *last))
        })
    }

    /// Runs until everything is done; fails if that takes longer than `limit`.
    #[track_caller]
    pub(super) fn finish(&mut self, limit: Duration) {
        let end = self.now + limit;
        while !self.is_done() {
            assert!(self.now < end, "not done within {limit:?}:\n{}", self.report());
            self.run(ms(50));
        }
        self.ledger.check_contents();
    }

    /// Runs until `done`; fails if that takes longer than `limit`.
    #[track_caller]
    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not so within {limit:?}:\n{}", self.report());
            self.run(ms(5));
        }
    }

    /// Lets this much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for client in 0..self.clients.len() {
            self.settle(client);
        }
        loop {
            let network = self.network.first_key_value().map(|((at, _), _)| *at);
            let kafka = self.kafka.deadline();
            let awake = self.clients.iter().filter(|client| client.is_awake());
            let users = awake.clone().flat_map(|client| client.in_hand.iter().map(|(at, _)| *at)).min();
            let timers = awake.filter_map(|client| client.deadline.map(|(at, _)| at)).min();
            let Some(next) = [network, kafka, users, timers].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if network.is_some_and(|at| at <= self.now) {
                let (_, (client, conn, happening)) = self.network.pop_first().expect("looked at above");
                self.happen(client, conn, happening);
            } else if kafka.is_some_and(|at| at <= self.now) {
                self.tick_kafka();
                assert!(self.kafka.deadline().is_none_or(|at| at > self.now), "the cluster is busy for ever");
            } else {
                for client in 0..self.clients.len() {
                    self.finish_work(client);
                    self.tick(client);
                }
            }
        }
        self.now = end;
    }

    /// What the world looks like, for a test that fails.
    pub(super) fn report(&self) -> String {
        let mut report = format!("at {:?}\n", self.elapsed());
        for partition in self.kafka.partitions() {
            let log = self.kafka.find(&partition).expect("listed");
            let missing = log.visible.iter().filter(|offset| !self.ledger.was_handed_out(&partition, **offset)).count();
            let (leader, end, committed) = (log.leader, log.end, self.kafka.committed(&partition));
            report += &format!("{partition}: leader {leader}, end {end}, committed {committed:?}, {missing} not handed out\n");
        }
        for (number, client) in self.clients.iter().enumerate() {
            report +=
                &format!("client {number}: holds {:?}, waits for {:?}\n", client.holds, client.deadline.map(|(_, why)| why));
            let last = client.events.len().saturating_sub(12);
            for (at, event) in &client.events[last..] {
                report += &format!("  {at:?} {event}\n");
            }
        }
        report
    }

    fn happen(&mut self, client: usize, conn: ConnId, happening: Happening) {
        if self.clients[client].dead {
            return;
        }
        let input = match happening {
            Happening::Request(frame, held) => {
                let Some(open) = self.conns.get_mut(&(client, conn)) else { return };
                if open.busy {
                    open.queue.push_back((frame, held));
                } else {
                    open.busy = true;
                    let broker = open.broker;
                    self.kafka.serve(self.now, client, conn, broker, &frame);
                    for (partition, _) in &self.kafka.seen.last().expect("served").fetched {
                        let owned = held.contains(partition) || !self.connections_hold;
                        assert!(
                            owned,
                            "client {client} fetches {partition}, which is not (any more) its own:\n{}",
                            self.report()
                        );
                    }
                    self.tick_kafka();
                }
                return;
            }
            // Who is stopped finds everything when it goes on.
            _ if self.clients[client].frozen => {
                self.schedule(ms(10), client, conn, happening);
                return;
            }
            Happening::Answer(frame, commits, api) => {
                let Some(open) = self.conns.get_mut(&(client, conn)) else { return };
                open.busy = false;
                if let Some((next, held)) = open.queue.pop_front() {
                    self.schedule(Duration::ZERO, client, conn, Happening::Request(next, held));
                }
                self.ledger.answered(client, conn, api, &commits);
                Input::Frame(conn, frame)
            }
            Happening::Connected if self.conns.contains_key(&(client, conn)) => Input::Connected(conn),
            Happening::Connected => return,
            Happening::Disconnected(why) => Input::Disconnected(conn, why),
        };
        self.clients[client].core.handle(self.now, input);
        self.settle(client);
    }

    fn tick_kafka(&mut self) {
        self.kafka.tick(self.now);
        while let Some((call, frame)) = self.kafka.next_answer() {
            let (client, conn) = (call.client, call.conn);
            if !call.commits.is_empty() {
                for (partition, offset) in &call.commits {
                    self.ledger.stored(self.kafka.find(partition).expect("checked"), partition, *offset);
                }
            }
            let wait = match call.fate {
                Fate::Served | Fate::Refused(_) | Fate::Garbled => LATENCY,
                Fate::Slow(time) => LATENCY + time,
                Fate::Ignored => continue,
                Fate::AnswerLost | Fate::Closed => {
                    self.hang_up(client, conn);
                    continue;
                }
            };
            self.schedule(wait, client, conn, Happening::Answer(frame, call.commits, call.api));
        }
    }

    fn hang_up(&mut self, client: usize, conn: ConnId) {
        if self.conns.remove(&(client, conn)).is_some() {
            self.kafka.forget(client, conn);
            self.ledger.hung_up(client, conn);
            self.schedule(LATENCY, client, conn, Happening::Disconnected(Disconnect::Closed("connection reset".to_owned())));
        }
    }

    fn schedule(&mut self, after: Duration, client: usize, conn: ConnId, happening: Happening) {
        self.sequence += 1;
        self.network.insert((self.now + after, self.sequence), (client, conn, happening));
    }

    /// The user has finished some work.
    fn finish_work(&mut self, client: usize) {
        let one = &mut self.clients[client];
        if !one.is_awake() {
            return;
        }
        let now = self.now;
        let (done, left): (Vec<_>, _) = std::mem::take(&mut one.in_hand).into_iter().partition(|(at, _)| *at <= now);
        one.in_hand = left;
        if done.is_empty() {
            return;
        }
        // Whoever worked on its last free hand looks at its stream again.
        one.woken.0.store(true, Ordering::Relaxed);
        for (_, delivery) in done {
            if self.ledger.chance(self.clients[client].habits.drops_percent) {
                drop(delivery);
            } else {
                self.ledger.acked(&delivery);
                delivery.ack();
            }
        }
        self.settle(client);
    }

    fn tick(&mut self, client: usize) {
        let one = &mut self.clients[client];
        let Some((_, why)) = one.deadline.filter(|(at, _)| *at <= self.now && one.is_awake()) else { return };
        one.wakeups += 1;
        one.ticks = if one.ticks.0 == self.now { (self.now, one.ticks.1 + 1) } else { (self.now, 1) };
        assert!(one.ticks.1 < 10, "busy loop: {why}");
        one.core.handle(self.now, Input::Tick);
        self.settle(client);
    }

    /// Lets a consumer, and its user, do everything that can be done now.
    fn settle(&mut self, client: usize) {
        for _ in 0..STEPS_MAX {
            let now = self.now;
            let one = &mut self.clients[client];
            if !one.is_awake() {
                return;
            }
            match one.core.poll(now) {
                Output::Connect(conn, addr) => {
                    let broker: i32 = addr.host[1..].parse().expect("b1, b2, …");
                    if self.kafka.down.contains(&broker) {
                        let why = Disconnect::Unreachable("connection refused".to_owned());
                        self.schedule(LATENCY, client, conn, Happening::Disconnected(why));
                    } else {
                        self.conns.insert((client, conn), Conn { broker, busy: false, queue: VecDeque::new() });
                        self.schedule(LATENCY, client, conn, Happening::Connected);
                    }
                }
                Output::Transmit(conn, frame) => {
                    if self.conns.contains_key(&(client, conn)) {
                        self.ledger.sent(client, conn, i16::from_be_bytes([frame[4], frame[5]]));
                        let held = self.clients[client].holds.iter().filter(|(_, revoking)| !**revoking);
                        let held = held.map(|(partition, _)| partition.clone()).collect();
                        self.schedule(LATENCY, client, conn, Happening::Request(frame, held));
                    }
                }
                Output::Disconnect(conn) => {
                    self.conns.remove(&(client, conn));
                    self.kafka.forget(client, conn);
                    self.ledger.hung_up(client, conn);
                }
                Output::Event(event) => self.event(client, event),
                Output::Wait(deadline) => {
                    one.deadline = deadline;
                    if let Ok(command) = one.commands.try_recv() {
                        one.core.handle(now, Input::Command(command));
                    } else if !self.take(client) {
                        return;
                    }
                }
            }
        }
        panic!("busy without time passing:\n{}", self.report());
    }

    fn event(&mut self, client: usize, event: Event) {
        let elapsed = self.elapsed();
        let one = &mut self.clients[client];
        match &event {
            Event::Assigned { handles, .. } => {
                one.holds = handles.iter().map(|handle| (handle.partition.clone(), false)).collect();
                self.ledger.joined(client);
            }
            Event::Revoking(handles) => {
                for handle in handles {
                    one.holds.insert(handle.partition.clone(), true);
                }
            }
            Event::Revoked(handles) | Event::Lost { handles, .. } => {
                for handle in handles {
                    one.holds.remove(&handle.partition);
                }
            }
            Event::Closed(unfinished) => one.closed = Some(unfinished.clone()),
            _ => {}
        }
        if !matches!(event, Event::Chunk { .. } | Event::Watermarks { .. } | Event::ReadProgress | Event::Committed { .. }) {
            one.events.push((elapsed, format!("{event:?}")));
        }
        (one.on_event)(event);
    }

    /// The user looks at its stream, if it was woken and has a hand free. Says whether it took something.
    fn take(&mut self, client: usize) -> bool {
        let elapsed = self.elapsed();
        let one = &mut self.clients[client];
        let free = one.habits.takes && one.in_hand.len() < one.habits.at_once;
        if !free || !one.woken.0.load(Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&one.woken));
        let mut cx = Context::from_waker(&waker);
        one.woken.0.store(false, Ordering::Relaxed);
        let taken = match &mut one.records {
            Some(Records::AtLeastOnce(records)) => match Pin::new(records).poll_next(&mut cx) {
                Poll::Ready(Some(Ok(delivery))) => {
                    self.ledger.taken(client, &one.holds, delivery.topic_partition(), delivery.offset(), delivery.value());
                    if one.habits.work.is_zero() && one.habits.drops_percent == 0 {
                        self.ledger.acked(&delivery);
                        delivery.ack();
                    } else {
                        one.in_hand.push((self.now + one.habits.work, delivery));
                    }
                    true
                }
                Poll::Ready(Some(Err(error))) => {
                    one.problems.push((elapsed, error));
                    true
                }
                Poll::Ready(None) | Poll::Pending => false,
            },
            Some(Records::AtMostOnce(records)) => match Pin::new(records).poll_next(&mut cx) {
                Poll::Ready(Some(Ok(record))) => {
                    self.ledger.taken(client, &one.holds, record.topic_partition(), record.offset(), record.value());
                    true
                }
                Poll::Ready(Some(Err(error))) => {
                    one.problems.push((elapsed, error));
                    true
                }
                Poll::Ready(None) | Poll::Pending => false,
            },
            None => false,
        };
        if taken {
            self.clients[client].woken.0.store(true, Ordering::Relaxed);
        }
        taken
    }
}

impl Client {
    fn is_awake(&self) -> bool {
        !self.dead && !self.frozen
    }

    /// When the core said something that begins like this.
    pub(super) fn said(&self, what: &str) -> Vec<Duration> {
        self.events.iter().filter(|(_, event)| event.starts_with(what)).map(|(at, _)| *at).collect()
    }
}
