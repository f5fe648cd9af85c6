//! Consumers as they are, their users, a network and a clock, all virtual, around the brokers of ottla-mock.
//!
//! Time jumps to whatever comes next. What ottla promises is asserted at every step, not only at a test's end (see `judge`).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::{Duration, Instant},
};

use ottla_mock::{Api, Input as BrokerInput, Kafka, Output as BrokerOutput, Release, Settings};

use super::{
    client::Client,
    judge::{Failure, Judge},
    network::{Happening, Link, LinkId, Network},
    sight,
    store::Store,
    story::{Story, Who},
};
use crate::{
    consumer::{Consumer, ConsumerBuilder},
    error::ConsumeErrorKind,
    model::{GroupProtocol, TopicPartition},
    proto::{Disconnect, backoff::Rng, message::Input},
};

/// What records are dated: 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;
pub(super) const GROUP: &str = "workers";

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
    builder_of(GROUP)
}

pub(super) fn builder_of(group: &str) -> ConsumerBuilder {
    builder_of_nothing(group).subscribe(["orders"])
}

/// Subscribes to nothing yet. What most scenarios are about is the classic protocol; the drawn lives have all of them.
pub(super) fn builder_of_nothing(group: &str) -> ConsumerBuilder {
    Consumer::builder(group, ["b1:9092", "b2:9092", "b3:9092"])
        .group_protocol(GroupProtocol::Classic)
        .session_timeout(secs(10))
        .heartbeat_interval(secs(3))
        .rebalance_timeout(secs(60))
        .drain_timeout(secs(10))
        .processing_timeout(secs(60))
}

/// The first release whose topics have ids (KIP-516).
const TOPIC_IDS_SINCE: Release = Release::new(2, 8);

/// A request, as a test looks back at it.
pub(super) struct Request {
    pub(super) at: Instant,
    pub(super) client: usize,
    pub(super) api: Api,
    /// Fetch: which partitions it asked for, and from where.
    pub(super) fetched: Vec<(TopicPartition, i64)>,
}

/// A commit that a broker has stored.
pub(super) struct Stored {
    pub(super) client: usize,
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
}

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) kafka: Kafka,
    pub(super) clients: Vec<Client>,
    pub(super) judges: BTreeMap<String, Judge>,
    /// Of groups whose programs keep their positions themselves.
    pub(super) stores: BTreeMap<String, Store>,
    pub(super) network: Network,
    pub(super) story: Story,
    pub(super) requests: Vec<Request>,
    pub(super) stored: Vec<Stored>,
    pub(super) bytes_fetched: usize,
    /// No request waits for its connection for long, so none is for partitions that went meanwhile.
    pub(super) connections_hold: bool,
    /// Scenarios have faults that nobody can go on after; lives have none.
    pub(super) may_be_fatal: bool,
    /// Whoever gives a partition up sooner than this has committed everything of it that is finished.
    pub(super) in_good_time: Duration,
    /// A broken promise is a panic at once.
    pub(super) is_strict: bool,
    /// The offsets that consumers are to see.
    pub(super) truth: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// What lies in transactions that nobody has ended.
    pub(super) open: Vec<(TopicPartition, Range<i64>)>,
    /// Where the last transaction's marker lies: a log that loses it has that transaction open for ever.
    pub(super) markers: BTreeMap<TopicPartition, i64>,
    /// Where topics have none, what a member goes on reading may be of another topic of the name.
    pub(super) topics_have_ids: bool,
    /// Where logs of this name ended that were deleted.
    pub(super) former_ends: BTreeMap<TopicPartition, i64>,
    pub(super) names: sight::Names,
    /// Whom each client was last told to lead a partition, with the epoch.
    pub(super) leaders: BTreeMap<(usize, TopicPartition), (i32, i32)>,
    pub(super) kafka_deadline: Option<Instant>,
    pub(super) rng: Rng,
    pub(super) seed: u64,
}

impl World {
    /// Three brokers, and the topic `orders` with so many partitions.
    pub(super) fn new(partitions: i32) -> Self {
        Self::seeded(partitions, 7, Settings::default())
    }

    pub(super) fn seeded(partitions: i32, seed: u64, mut settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some moment to begin with: only differences are looked at")]
        let start = Instant::now();
        (settings.brokers, settings.seed) = (3, seed);
        let topics_have_ids = settings.release >= TOPIC_IDS_SINCE;
        let mut world = Self {
            start,
            now: start,
            kafka: Kafka::new(settings, start, START_MS),
            clients: Vec::new(),
            judges: BTreeMap::new(),
            stores: BTreeMap::new(),
            network: Network::new(seed),
            story: Story::default(),
            requests: Vec::new(),
            stored: Vec::new(),
            bytes_fetched: 0,
            connections_hold: true,
            may_be_fatal: true,
            in_good_time: Duration::ZERO,
            is_strict: true,
            truth: BTreeMap::new(),
            open: Vec::new(),
            markers: BTreeMap::new(),
            topics_have_ids,
            former_ends: BTreeMap::new(),
            names: sight::Names::default(),
            leaders: BTreeMap::new(),
            kafka_deadline: None,
            rng: Rng::new(seed ^ 0x5eed),
            seed,
        };
        world.create("orders", partitions);
        world.kafka.move_coordinator(GROUP, Some(1));
        world
    }

    /// Puts each broker in a rack of its own.
    pub(super) fn in_racks(&mut self) {
        (1..=3).for_each(|broker| self.kafka.set_rack(broker, Some(&format!("rack{broker}"))));
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Judges the group that most scenarios have.
    pub(super) fn judge(&mut self) -> &mut Judge {
        self.judges.entry(GROUP.to_owned()).or_insert_with(|| Judge::new(false))
    }

    /// Everything that any user was handed out.
    pub(super) fn handed_out(&self, partition: &TopicPartition) -> Vec<i64> {
        self.judges.get(GROUP).map(|judge| judge.offsets(partition)).unwrap_or_default()
    }

    /// How many records were handed out more than once.
    pub(super) fn repeats(&self) -> usize {
        self.judges.values().map(Judge::repeats).sum()
    }

    pub(super) fn count(&self, api: Api) -> usize {
        self.requests.iter().filter(|request| request.api == api).count()
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.committed_by(GROUP, partition)
    }

    pub(super) fn committed_by(&self, group: &str, partition: &TopicPartition) -> Option<i64> {
        self.kafka.committed(group).get(&(partition.topic().to_owned(), partition.partition())).copied()
    }

    pub(super) fn problem_kinds(&self, client: usize) -> Vec<ConsumeErrorKind> {
        self.clients[client].problems.iter().map(|(_, problem)| problem.kind()).collect()
    }

    pub(super) fn holders(&self, partition: &TopicPartition) -> Vec<usize> {
        (0..self.clients.len()).filter(|client| self.clients[*client].holds.contains_key(partition)).collect()
    }

    /// Tells a part of the story.
    pub(super) fn tell(&mut self, who: Who, what: impl FnOnce() -> String) {
        self.story.tell(self.now - self.start, who, what);
    }
}

// ---------------------------------------------------------------- time

impl World {
    /// Says whether every record was handed out, and every one that was is committed.
    pub(super) fn is_done(&self) -> bool {
        self.judges.iter().all(|(group, judge)| {
            let committed = self.kafka.committed(group);
            let committed = |of: &TopicPartition| committed.get(&(of.topic().to_owned(), of.partition())).copied();
            self.truth.iter().all(|(of, visible)| {
                let is_settled = |last: &i64| {
                    judge.commits_nothing || committed(of).is_some_and(|at| at > *last) || judge.is_passed_by(of, *last)
                };
                let lacks_something = self.stores.get(group).is_some_and(|store| store.lacks(of, visible).is_some());
                visible.last().is_none_or(is_settled) && (judge.is_at_most_once() || judge.missing(of) == 0) && !lacks_something
            })
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
        self.drain_kafka();
        for client in 0..self.clients.len() {
            self.settle(client);
        }
        loop {
            let awake = self.clients.iter().filter(|client| client.is_awake());
            let users = awake.clone().flat_map(|client| client.in_hand.iter().map(|(at, _)| *at)).min();
            let timers = awake.filter_map(|client| client.deadline.map(|(at, _)| at)).min();
            let network = self.network.next_at();
            let next = [network, self.kafka_deadline, users, timers].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if network.is_some_and(|at| at <= self.now) {
                if let Some((link, happening)) = self.network.next(self.now) {
                    self.happen(link, happening);
                }
            } else if self.kafka_deadline.is_some_and(|at| at <= self.now) {
                self.kafka.handle(self.now, BrokerInput::Tick);
                self.drain_kafka();
                assert!(self.kafka_deadline.is_none_or(|at| at > self.now), "the cluster is busy for ever");
            } else {
                for client in 0..self.clients.len() {
                    self.finish_work(client);
                    self.tick(client);
                }
            }
        }
        self.now = end;
        self.check();
    }

    /// Stops at the first promise that was broken.
    fn check(&self) {
        if !self.is_strict {
            return;
        }
        if let Some(failure) = self.failure() {
            panic!("[{}] {}\n{}", failure.checker, failure.what, self.report());
        }
    }

    /// Returns the first promise that was broken.
    pub(super) fn failure(&self) -> Option<Failure> {
        let malformed = self.kafka.malformed().first();
        let malformed =
            malformed.map(|what| Failure { checker: "a request that no broker understands".to_owned(), what: what.clone() });
        malformed.or_else(|| self.judges.values().find_map(Judge::failure))
    }

    /// What the world looks like, for a test that fails.
    pub(super) fn report(&self) -> String {
        let mut report = format!("at {:?}\n", self.elapsed());
        for partition in self.partitions() {
            let offsets = self.kafka.offsets(partition.topic(), partition.partition());
            let committed: Vec<_> = self.judges.keys().map(|group| self.committed_by(group, &partition)).collect();
            let missing: Vec<_> = self.judges.values().map(|judge| judge.missing(&partition)).collect();
            report += &format!("{partition}: {offsets:?}, committed {committed:?}, not handed out {missing:?}\n");
        }
        for group in self.judges.keys() {
            report +=
                &format!("group {group}: {:?}, coordinator {:?}\n", self.kafka.group_state(group), self.kafka.coordinator(group));
        }
        for (number, client) in self.clients.iter().enumerate() {
            let waits = client.deadline.map(|(_, why)| why);
            let (dead, frozen) = (client.is_dead, client.mail.is_some());
            report += &format!("client {number}: dead {dead}, frozen {frozen}, holds {:?}, waits for {waits:?}\n", client.holds);
            let last = client.events.len().saturating_sub(12);
            for (at, event) in &client.events[last..] {
                report += &format!("  {at:?} {event}\n");
            }
        }
        report
    }
}

// ---------------------------------------------------------------- what happens

impl World {
    pub(super) fn happen(&mut self, link: LinkId, happening: Happening) {
        let (client, conn) = link;
        if let Happening::HungUp(conn) = happening {
            self.network.forget(link);
            self.kafka.handle(self.now, BrokerInput::Disconnected(conn));
            return self.drain_kafka();
        }
        if let Happening::Request(frame) = happening {
            let Some(open) = self.network.link(link).filter(|open| !open.is_half_open) else { return };
            let conn = open.conn;
            self.kafka.handle(self.now, BrokerInput::Received(conn, frame));
            return self.drain_kafka();
        }
        let one = &mut self.clients[client];
        if one.is_dead {
            return;
        }
        // Who has hung up hears nothing more.
        if self.network.link(link).is_some_and(|link| link.is_hung_up) {
            return;
        }
        // Who is stopped finds everything when it goes on.
        if let Some(mail) = &mut one.mail {
            return mail.push_back((link, happening));
        }
        let input = match happening {
            Happening::Connected => {
                let Some(open) = self.network.link(link) else { return };
                let (broker_conn, broker) = (open.conn, open.broker);
                self.kafka.handle(self.now, BrokerInput::Connected(broker_conn, broker));
                self.drain_kafka();
                Input::Connected(conn)
            }
            Happening::Answer(frame) => {
                let Some(open) = self.network.link(link) else { return };
                let broker = open.broker;
                let asked = self.network.take_asked(link, &frame);
                // Its length is for whoever cuts the stream into frames.
                let frame = frame.slice(4..);
                if let Some(asked) = asked {
                    self.look_at_answer(client, broker, &asked, &frame);
                }
                Input::Frame(conn, frame)
            }
            Happening::Disconnected(why) => {
                self.abandon_commit(link);
                if self.network.forget(link).is_some() || matches!(why, Disconnect::Unreachable(_)) {
                    Input::Disconnected(conn, why)
                } else {
                    return;
                }
            }
            Happening::Request(_) | Happening::HungUp(_) => unreachable!("dealt with above"),
        };
        self.clients[client].core.handle(self.now, input);
        self.settle(client);
    }

    /// A connection is over: whether a commit on it was stored is unknown, but it is in flight no more.
    pub(super) fn abandon_commit(&mut self, link: LinkId) {
        let has_commit = |link: &mut Link| link.asked.iter().any(|asked| asked.api == Api::OffsetCommit);
        if self.network.link(link).is_some_and(has_commit) {
            self.judge_of(link.0).commit_abandoned(link.0);
        }
    }

    /// Carries out what the brokers want done.
    pub(super) fn drain_kafka(&mut self) {
        loop {
            match self.kafka.poll() {
                BrokerOutput::Transmit(conn, frame) => {
                    if let Some(link) = self.network.link_of(conn) {
                        self.network.answer(self.now, link, frame);
                    }
                }
                BrokerOutput::Disconnect(conn) => {
                    if let Some(link) = self.network.link_of(conn) {
                        self.network.closed(self.now, link);
                    }
                }
                BrokerOutput::Event(event) => self.broker_event(event),
                BrokerOutput::Wait(deadline) => {
                    self.kafka_deadline = deadline;
                    return;
                }
            }
        }
    }

    fn broker_event(&mut self, event: ottla_mock::Event) {
        self.tell(Who::Kafka, || format!("{event:?}"));
        if let ottla_mock::Event::Generation { group, generation, members } = &event {
            self.judges.entry(group.clone()).and_modify(|judge| judge.generation_begins(*generation, members));
        }
        if let ottla_mock::Event::Committed { group, topic, partition, offset, conn, .. } = event {
            let Some((client, _)) = self.network.link_of(conn) else { return };
            let (at, of) = (self.now - self.start, TopicPartition::new(topic, partition));
            let is_of_another_life = self.former_ends.get(&of).is_some_and(|end| offset <= *end);
            if let Some(judge) = self.judges.get_mut(&group) {
                // A commit names its topic: that it was deleted and made anew meanwhile no broker can see.
                if is_of_another_life {
                    judge.excuse(at, &of, offset);
                }
                judge.stored(at, client, &of, offset);
            }
            self.stored.push(Stored { client, partition: of, offset });
        }
    }
}
