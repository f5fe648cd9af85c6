//! One seed's life: everything at once, at random; it heals in the end, and then everything must be done within a bound of time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, RequestKind, ResponseKind,
    fetch_response::{FetchableTopicResponse, PartitionData},
};
use ottla_mock::{Api, Outcome, ResponseError, Settings, Verdict};

use super::{
    draw::{Draw, Reading, Subscribing, Trouble},
    judge::Failure,
    quotas::Quotas,
    story::{Story, Telling, Who},
    world::{GROUP, World, ms, orders, secs},
};
use crate::{
    consumer::{SeekTo, Subscription},
    model::TopicPartition,
    planted,
    proto::backoff::Rng,
};

/// Longer than a session, than metadata may age, and than any user holds on to something.
const HEALED_WITHIN: Duration = secs(90);
/// How long it is watched afterwards that nothing is done that need not be.
const QUIET: Duration = secs(30);
const PARTITIONS_MAX: i32 = 8;
const AUDITORS: &str = "auditors";
const ASIDE: u64 = 0xa51d_e000;

/// The APIs that a consumer uses.
const APIS: [Api; 13] = [
    Api::ApiVersions,
    Api::Metadata,
    Api::FindCoordinator,
    Api::JoinGroup,
    Api::SyncGroup,
    Api::Heartbeat,
    Api::LeaveGroup,
    Api::ConsumerGroupHeartbeat,
    Api::OffsetCommit,
    Api::OffsetFetch,
    Api::ListOffsets,
    Api::OffsetForLeaderEpoch,
    Api::Fetch,
];

/// What came of a life.
pub(super) struct Outcomes {
    pub(super) elapsed: Duration,
    pub(super) requests: usize,
    pub(super) handed_out: usize,
    pub(super) failure: Option<Failure>,
    pub(super) story: Vec<String>,
    pub(super) draw: String,
}

/// Says what a seed's life is like.
pub(super) fn drawn(seed: u64) -> String {
    Draw::new(&mut Rng::new(seed)).to_string()
}

struct Life {
    world: World,
    rng: Rng,
    /// For what is drawn aside, so that the rest of a life stays what it was.
    aside: Rng,
    draw: Draw,
    alive: Vec<usize>,
    groups: Vec<&'static str>,
}

/// Plays a seed. Nothing in it depends on anything but the seed.
pub(super) fn play(seed: u64, telling: Telling) -> Outcomes {
    let mut rng = Rng::new(seed);
    let draw = Draw::new(&mut rng);
    planted::set_claims_lost(draw.claims_lost);
    let mut settings = Settings::default();
    settings.release = draw.release;
    settings.fetch_sessions_max = draw.fetch_sessions_max;
    settings.consumer_group_session_timeout = draw.session_timeout;
    settings.consumer_group_heartbeat_interval = draw.heartbeat_interval;
    settings.group_initial_rebalance_delay = ms([0, 0, 1_000][(rng.next_u64() % 3) as usize]);
    let mut world = World::seeded(draw.partitions, seed, settings);
    if draw.has_racks {
        world.in_racks();
    }
    world.connections_hold = false;
    world.is_strict = false;
    world.network.quotas = Quotas::new(draw.throttled_percent, seed);
    // Where no commit is refused or held back, and what is acked is to be committed.
    let holds_commits_back = draw.throttled_percent > 0 || draw.reading == Reading::Manual;
    if !holds_commits_back && !draw.has_any_of(&[Trouble::Requests, Trouble::Topics, Trouble::Retention]) {
        world.in_good_time = draw.drain_timeout;
    }
    world.may_be_fatal = false;
    world.network.latency = draw.latency.clone();
    world.story = Story::new(telling);
    let aside = Rng::new(seed ^ ASIDE);
    let mut life = Life { world, rng, aside, draw, alive: Vec::new(), groups: vec![GROUP] };
    if life.below(5) == 0 {
        life.groups.push(AUDITORS);
    }
    life.live();
    let Life { world, draw, .. } = life;
    Outcomes {
        elapsed: world.elapsed(),
        requests: world.requests.len(),
        handed_out: world.judges.values().map(|judge| judge.handed_out.len()).sum(),
        failure: world.failure(),
        story: world.story.lines().to_vec(),
        draw: draw.to_string(),
    }
}

impl Life {
    fn below(&mut self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn live(&mut self) {
        for group in self.groups.clone() {
            self.start(group, false);
        }
        for step in 0..self.draw.steps {
            let pause = ms(self.below(self.draw.pause_ms));
            self.world.run(pause);
            if self.world.failure().is_some() {
                return;
            }
            self.step(step * 2 > self.draw.steps);
            self.resubscribe();
        }
        self.heal();
    }

    fn start(&mut self, group: &str, is_late: bool) {
        let (builder, draw) = (self.draw.builder(group, is_late), self.draw.clone());
        let client = self.world.join(builder, |consumer| draw.read(consumer));
        let habits = draw.habits(&mut self.rng);
        self.world.habits(client, |of| *of = habits);
        self.alive.push(client);
    }

    fn group(&mut self) -> &'static str {
        let at = self.below(self.groups.len() as u64);
        self.groups[at as usize]
    }

    /// Any partition that there is.
    fn partition(&mut self) -> TopicPartition {
        let all = self.world.partitions();
        match all.len() as u64 {
            0 => orders(0),
            count => all[self.below(count) as usize].clone(),
        }
    }

    fn step(&mut self, is_late: bool) {
        if self.chance(35) {
            let (of, count) = (self.partition(), 1 + self.below(40) as i32);
            if self.world.truth.contains_key(&of) {
                self.world.produce_to(&of, count);
            }
            return;
        }
        if self.alive.len() < self.draw.clients_max && self.chance(25) {
            let group = self.group();
            return self.start(group, is_late);
        }
        let Some(at) = (!self.draw.troubles.is_empty()).then(|| self.below(self.draw.troubles.len() as u64)) else { return };
        self.trouble(self.draw.troubles[at as usize], is_late);
    }

    /// Lets a program want something else, now and then.
    fn resubscribe(&mut self) {
        let number = self.aside.next_u64();
        if self.draw.subscribing != Subscribing::Changing || !number.is_multiple_of(8) || self.alive.is_empty() {
            return;
        }
        let client = self.alive[(number >> 8) as usize % self.alive.len()];
        let wanted = match (number >> 40) % 6 {
            0 => None,
            1 => Some(Subscription::from(["extra"])),
            2 => Some(Subscription::new().pattern("[eo].*")),
            3 => Some(Subscription::new().pattern("e.*")),
            4 => Some(Subscription::from(["orders", "extra"])),
            _ => Some(Subscription::from(["orders"])),
        };
        self.subscribe(client, wanted);
    }

    fn subscribe(&mut self, client: usize, wanted: Option<Subscription>) {
        self.world.tell(Who::Client(client), || format!("wants {wanted:?}"));
        self.world.with_handle(client, |handle| match wanted {
            Some(wanted) => handle.subscribe(wanted).expect("a subscription that makes sense"),
            None => handle.unsubscribe(),
        });
    }

    fn trouble(&mut self, trouble: Trouble, is_late: bool) {
        let of = self.partition();
        let exists = self.world.truth.contains_key(&of);
        let broker = 1 + self.below(3) as i32;
        let group = self.group();
        let at = self.below(self.alive.len().max(1) as u64) as usize;
        let client = self.alive.get(at).copied();
        let number = self.rng.next_u64();
        let world = &mut self.world;
        match trouble {
            Trouble::Requests => self.trouble_requests(),
            Trouble::HalfOpen => client.into_iter().for_each(|client| world.half_open(client, number as usize)),
            Trouble::Cuts => client.into_iter().for_each(|client| {
                let is_cut = !world.network.is_cut(client, broker);
                world.tell(Who::Operator, || format!("network between client {client} and broker {broker}: cut {is_cut}"));
                world.network.cut(world.now, client, broker, is_cut);
            }),
            Trouble::Crashes => {
                if let Some(client) = client {
                    self.alive.remove(at);
                    world.kill(client);
                }
                self.start(group, is_late);
            }
            Trouble::Freezes => client.into_iter().for_each(|client| {
                let is_frozen = !world.clients[client].is_frozen();
                world.freeze(client, is_frozen);
            }),
            Trouble::Closes => {
                if let Some(client) = client {
                    self.alive.remove(at);
                    world.close(client, ms(number % 3_000));
                }
                self.start(group, is_late);
            }
            Trouble::Stalls => client.into_iter().for_each(|client| {
                world.tell(Who::Client(client), || "takes records, or does not, from now on".to_owned());
                world.habits(client, |habits| habits.takes = !habits.takes);
            }),
            Trouble::Seeks => client.into_iter().for_each(|client| {
                if exists {
                    let offsets = world.kafka.offsets(of.topic(), of.partition());
                    let to = match number % 6 {
                        0 => SeekTo::Beginning,
                        1 => SeekTo::End,
                        _ => SeekTo::Offset(offsets.start + (number >> 8) as i64 % (offsets.end - offsets.start + 1)),
                    };
                    world.with_handle(client, |handle| handle.seek(&of, to));
                }
            }),
            Trouble::Pauses => client.into_iter().for_each(|client| {
                let pauses = number.is_multiple_of(2);
                world.tell(Who::Client(client), || format!("pauses {of}: {pauses}"));
                world.with_handle(client, |handle| if pauses { handle.pause([&of]) } else { handle.resume([&of]) });
            }),
            Trouble::FormerLeaders if exists => {
                let leader = world.kafka.leader(of.topic(), of.partition()).unwrap_or(broker);
                self.former_leaders(leader, ms(200 + number % 2_000));
            }
            Trouble::Growth => {
                let count = world.truth.keys().filter(|of| of.topic() == "orders").count() as i32;
                if count > 0 && count < PARTITIONS_MAX {
                    world.grow("orders", count + 1);
                    world.produce(count, 5);
                }
            }
            Trouble::Leaders if exists => world.elect_in(&of, broker),
            Trouble::Coordinators => world.move_coordinator_of(group, (!number.is_multiple_of(5)).then_some(broker)),
            Trouble::Rebalances => world.rebalance_of(group),
            Trouble::Expulsions => world.expel(group, number as usize),
            Trouble::BrokerStops if world.kafka.brokers_alive().len() > 1 => world.stop_broker(broker),
            Trouble::BrokerKills if world.kafka.brokers_alive().len() > 1 => world.kill_broker(broker),
            Trouble::BrokerStops | Trouble::BrokerKills => world.restart_brokers(),
            Trouble::Truncation if exists => {
                let offsets = world.kafka.offsets(of.topic(), of.partition());
                let lost = (number % 20) as i64;
                let floor = offsets.start.max(world.markers.get(&of).copied().unwrap_or(0));
                if offsets.end - lost > floor {
                    world.truncate(&of, offsets.end - lost);
                    world.produce_to(&of, 1 + ((number >> 8) % 30) as i32);
                }
            }
            Trouble::Retention if exists => {
                let offsets = world.kafka.offsets(of.topic(), of.partition());
                let start = offsets.start + (number % 30) as i64;
                if start < offsets.last_stable {
                    world.delete_before(&of, start);
                }
            }
            Trouble::Compaction if exists => {
                world.produce_keyed(&of, 1 + (number % 40) as i32, 5);
                world.compact(&of);
            }
            Trouble::Transactions if exists => {
                let (count, outcome) = (1 + (number % 20) as i32, [Outcome::Commit, Outcome::Abort, Outcome::Open]);
                match (number >> 8) % 5 {
                    at @ 0..3 => world.produce_transaction(&of, count, outcome[at as usize]),
                    at => world.end_transactions(&of, outcome[at as usize - 3]),
                }
            }
            Trouble::Topics => match world.truth.keys().any(|of| of.topic() == "extra") {
                true => world.delete("extra"),
                false => world.create("extra", 1 + (number % 3) as i32),
            },
            Trouble::FormerLeaders
            | Trouble::Leaders
            | Trouble::Truncation
            | Trouble::Retention
            | Trouble::Compaction
            | Trouble::Transactions => {}
        }
    }

    /// All leaders change, and one that was asked just before says of everything that it is out of range.
    fn former_leaders(&mut self, broker: i32, late: Duration) {
        self.world.tell(Who::Operator, || {
            format!("lets broker {broker} say in {late:?} that offsets are out of range, and others lead")
        });
        let mut is_over = false;
        self.world.kafka.intercept(Api::Fetch, move |request| {
            let RequestKind::Fetch(fetch) = request.body else { unreachable!("only Fetch is intercepted") };
            if is_over || request.broker != broker || fetch.topics.is_empty() {
                return Verdict::Pass;
            }
            is_over = true;
            Verdict::ReplyAfter(late, Box::new(out_of_range(fetch)))
        });
        // The next Fetch is on its way, and answered by the one that leads no more.
        self.world.run(ms(self.draw.fetch_wait_ms() as u64));
        for of in self.world.partitions() {
            let leader = self.world.kafka.leader(of.topic(), of.partition()).unwrap_or(1);
            self.world.elect_in(&of, leader % 3 + 1);
        }
    }

    /// From now on so many of a hundred requests do not go as they should.
    fn trouble_requests(&mut self) {
        let (percent, seed) = (self.below(30), self.rng.next_u64());
        self.world.tell(Who::Operator, || format!("lets {percent} of 100 requests go wrong"));
        self.world.kafka.heal();
        let rng = Arc::new(Mutex::new(Rng::new(seed)));
        for api in APIS {
            let rng = Arc::clone(&rng);
            self.world.kafka.intercept(api, move |_| {
                let rng = &mut rng.lock().expect("nobody panics with it");
                if rng.next_u64() % 100 < percent { verdict(api, rng) } else { Verdict::Pass }
            });
        }
        self.world.drain_kafka();
    }

    fn heal(&mut self) {
        // What comes last has nothing behind it that would make up for what goes wrong with it.
        for of in &self.world.partitions() {
            self.world.produce_to(of, 2);
        }
        self.world.run(secs(2));
        planted::set_claims_lost(false);
        self.world.heal();
        self.world.restart_brokers();
        for group in self.groups.clone() {
            if self.world.kafka.coordinator(group).is_none() {
                self.world.move_coordinator_of(group, Some(1));
            }
        }
        let partitions = self.world.partitions();
        for of in &partitions {
            self.world.end_transactions(of, Outcome::Abort);
        }
        for client in self.alive.clone() {
            self.world.freeze(client, false);
            if self.draw.subscribing == Subscribing::Changing {
                self.subscribe(client, Some(["orders", "extra"].into()));
            }
            self.world.with_handle(client, |handle| handle.resume(&partitions));
            self.world.habits(client, |habits| habits.takes = true);
        }
        for group in self.groups.clone() {
            if !self
                .alive
                .iter()
                .any(|client| self.world.clients[*client].group == group && self.world.clients[*client].closed.is_none())
            {
                self.start(group, true);
            }
        }
        // Whoever seeks the end must have found it, before there is something beyond.
        self.world.run(secs(5));
        if self.draw.claims_lost {
            // What was withheld for the sake of who did not hold it is given to somebody, once nobody's claim is on its way any more.
            self.world.run(secs(25));
        }
        if self.draw.claims_lost || self.draw.may_forget_to_rebalance() {
            self.groups.iter().for_each(|group| self.world.rebalance_of(group));
        }
        let seekers = self.draw.troubles.contains(&Trouble::Seeks);
        for of in partitions.iter().filter(|_| seekers) {
            self.world.produce_to(of, 3);
        }
        let missing: usize = self.world.judges.values().map(|judge| judge.missing_in_all()).sum();
        let patience = HEALED_WITHIN + self.draw.time_to_work_on(missing);
        let (healed, joins) = (self.world.now, self.world.count(Api::JoinGroup));
        while !self.is_finished() && self.world.failure().is_none() {
            if self.world.now > healed + patience {
                let report = self.world.report();
                let at = self.world.elapsed();
                // Of every group: whichever has not finished says what is missing.
                self.world.judges.values_mut().for_each(|judge| judge.finish(at));
                self.world
                    .judge()
                    .fail("not everything was done in time", format!("{patience:?} after all was healed:\n{report}"));
                return;
            }
            self.world.run(ms(100));
        }
        if self.world.failure().is_some() {
            return;
        }
        let at = self.world.elapsed();
        self.world.judges.values_mut().for_each(|judge| judge.finish(at));
        let requests = self.world.requests.len();
        self.world.run(QUIET);
        self.judge_quiet(self.world.requests.len() - requests, self.world.count(Api::JoinGroup) - joins);
    }

    fn is_finished(&self) -> bool {
        let at = self.world.elapsed();
        // The first is quickly asked, and the second not often needed.
        self.world.is_done() && self.world.judges.values().all(|judge| judge.is_finished(at))
    }

    /// When all is well, little is asked.
    fn judge_quiet(&mut self, requests: usize, joins: usize) {
        let clients = self.alive.len();
        // Each client has a fetch of up to three brokers out, a heartbeat, now and then a commit or metadata.
        let fetches = 3 * QUIET.as_millis() as usize / self.draw.fetch_wait_ms();
        let most = clients * (fetches + 2 * QUIET.as_millis() as usize / self.draw.heartbeat_ms() + 150);
        if requests > most {
            let what = format!(
                "{requests} requests of {clients} clients in {QUIET:?}, in which nothing happened; {most} were to be expected"
            );
            self.world.judge().fail("a storm of requests", what);
        }
        let all = self.world.clients.len();
        if joins > 15 * all {
            self.world.judge().fail("a storm of joins", format!("{joins} joins of {all} clients after the end of all trouble"));
        }
    }
}

/// Says of everything that was asked for that it is out of range.
fn out_of_range(request: &FetchRequest) -> ResponseKind {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let body = PartitionData::default().with_partition_index(asked.partition).with_high_watermark(-1);
            body.with_error_code(ResponseError::OffsetOutOfRange.code()).with_records(Some(Bytes::new()))
        });
        let body = FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id);
        body.with_partitions(partitions.collect())
    });
    ResponseKind::Fetch(FetchResponse::default().with_responses(topics.collect()))
}

/// Draws what becomes of a request.
fn verdict(api: Api, rng: &mut Rng) -> Verdict {
    match rng.next_u64() % 12 {
        0..3 => Verdict::CloseAfterApplying,
        3 => Verdict::CloseBefore,
        4..6 => Verdict::Delay(ms(rng.next_u64() % 3000)),
        6 if api != Api::ApiVersions => Verdict::NoReply,
        7 if api != Api::ApiVersions => Verdict::SilentAfterApplying,
        8 if rng.next_u64().is_multiple_of(4) => Verdict::Garbage,
        _ => match errors(api) {
            [] => Verdict::Pass,
            errors => Verdict::Error(errors[(rng.next_u64() % errors.len() as u64) as usize]),
        },
    }
}

/// What a broker may say to it for a while, though nothing is wrong with the request.
fn errors(api: Api) -> &'static [ResponseError] {
    match api {
        Api::Fetch | Api::ListOffsets | Api::OffsetForLeaderEpoch => &[
            ResponseError::NotLeaderOrFollower,
            ResponseError::UnknownTopicOrPartition,
            ResponseError::UnknownLeaderEpoch,
            ResponseError::KafkaStorageError,
            ResponseError::OffsetNotAvailable,
            ResponseError::ReplicaNotAvailable,
        ],
        Api::Metadata => &[ResponseError::LeaderNotAvailable, ResponseError::UnknownTopicOrPartition],
        Api::FindCoordinator => &[ResponseError::CoordinatorNotAvailable],
        Api::OffsetFetch => {
            &[ResponseError::UnstableOffsetCommit, ResponseError::CoordinatorLoadInProgress, ResponseError::NotCoordinator]
        }
        Api::OffsetCommit => &[
            ResponseError::RequestTimedOut,
            ResponseError::CoordinatorLoadInProgress,
            ResponseError::NotCoordinator,
            ResponseError::RebalanceInProgress,
            ResponseError::UnknownMemberId,
            ResponseError::IllegalGeneration,
        ],
        Api::JoinGroup | Api::SyncGroup | Api::Heartbeat => &[
            ResponseError::CoordinatorNotAvailable,
            ResponseError::NotCoordinator,
            ResponseError::CoordinatorLoadInProgress,
            ResponseError::RebalanceInProgress,
            ResponseError::UnknownMemberId,
            ResponseError::IllegalGeneration,
        ],
        Api::ConsumerGroupHeartbeat => &[
            ResponseError::CoordinatorNotAvailable,
            ResponseError::NotCoordinator,
            ResponseError::CoordinatorLoadInProgress,
            ResponseError::UnknownMemberId,
            ResponseError::FencedMemberEpoch,
        ],
        _ => &[],
    }
}
