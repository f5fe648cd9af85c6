//! Brokers, a network and a clock, all virtual, for the cluster machine to live in.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    model::{BrokerId, LeaderEpoch, TopicId},
    proto::{
        Answer, Ask, BrokerAddr, ClusterView, ConnId, Disconnect, Owner, PartitionView, Problem, ProblemKind, Target,
        cluster::{Cluster, ClusterConfig, ClusterEvent, ClusterOutput, Wanted, connection::Codec},
    },
    wire::{
        Api, ApiRange, ApiVersionsResponse, Broker, CoordinatorResponse, EncodeError, ErrorCode, Malformed, MetadataPartition,
        MetadataResponse, MetadataTopic, Request, Response, SaslAuthenticateResponse, SaslHandshakeResponse,
    },
};

const LATENCY: Duration = Duration::from_millis(1);
const NONSENSE: u32 = u32::MAX;

thread_local! {
    /// What the frames of this test stand for.
    static REQUESTS: RefCell<Vec<(i16, Request)>> = const { RefCell::new(Vec::new()) };
    static RESPONSES: RefCell<Vec<(Response, Duration)>> = const { RefCell::new(Vec::new()) };
}

/// Frames that say where in a table the request or answer stands.
const CODEC: Codec = Codec {
    versions: |request| if request.api() == Api::ApiVersions { 0..=4 } else { 0..=9 },
    negotiate: |request, apis| {
        let theirs = apis.iter().find(|range| range.key == request.api() as i16)?;
        let ours = if request.api() == Api::ApiVersions { 4 } else { 9 };
        (theirs.min <= ours).then_some(theirs.max.min(ours))
    },
    encode: |request, version, correlation, _client_id| {
        if matches!(request, Request::OffsetFetch { .. }) {
            return Err(EncodeError { api: request.api(), version, what: "the tests cannot say it".to_owned() });
        }
        let place = REQUESTS.with_borrow_mut(|requests| {
            requests.push((version, request.clone()));
            requests.len() as u32 - 1
        });
        let mut frame = BytesMut::new();
        frame.put_i32(8);
        frame.put_i32(correlation);
        frame.put_u32(place);
        Ok(frame.freeze())
    },
    decode: |api, version, body| {
        let malformed = |what| Malformed { api, version, at: 0, what };
        let place = u32::from_be_bytes(body.as_ref().try_into().map_err(|_| malformed("no place"))?);
        if place == NONSENSE {
            return Err(malformed("nonsense"));
        }
        Ok(RESPONSES.with_borrow(|responses| responses[place as usize].0.clone()))
    },
    throttle: |_, _, body| {
        let place = body.as_ref().try_into().map(u32::from_be_bytes);
        let throttle = |place| RESPONSES.with_borrow(|responses| Some(responses.get(place as usize)?.1));
        place.ok().and_then(throttle).unwrap_or_default()
    },
};

fn answer_frame(correlation: i32, answer: Option<Response>, throttle: Duration) -> Bytes {
    let place = answer.map_or(NONSENSE, |answer| {
        RESPONSES.with_borrow_mut(|responses| {
            responses.push((answer, throttle));
            responses.len() as u32 - 1
        })
    });
    let mut frame = BytesMut::new();
    frame.put_i32(correlation);
    frame.put_u32(place);
    frame.freeze()
}

/// What a listener does to who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Up,
    Refuses,
    /// Nothing comes back, as of a dead host.
    BlackHole,
    ClosesAtOnce,
    /// Takes the handshake, and closes at the first request.
    ClosesAfterHandshake,
    /// Answers the handshake with nonsense.
    Garbled,
    Http,
    /// Takes everything and answers nothing, as a stopped process.
    Silent,
    /// Shows a certificate that nobody trusts.
    Untrusted,
}

pub(super) struct Sim {
    pub(super) id: i32,
    pub(super) mode: Mode,
    pub(super) apis: Vec<ApiRange>,
    /// Requests of these are taken and not answered.
    pub(super) holds: BTreeSet<Api>,
    /// For how long answers to these say that it does not listen.
    pub(super) throttles: BTreeMap<Api, Duration>,
    /// Answers of these are nonsense.
    pub(super) garbles: BTreeSet<Api>,
    pub(super) wrong_correlation: bool,
    /// The highest version of the handshake that it takes, whatever it says of itself.
    pub(super) handshake_max: i16,
    /// Why it does not believe who the client is.
    pub(super) refuses: Option<&'static str>,
    /// How long it lets a connection last.
    pub(super) session_lifetime: Option<Duration>,
    /// What it answers to Metadata, if not what the world holds.
    pub(super) metadata: Option<MetadataResponse>,
}

enum Event {
    Connected(ConnId),
    Frame(ConnId, Bytes),
    Disconnected(ConnId, Disconnect),
}

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) cluster: Cluster,
    pub(super) sims: BTreeMap<BrokerAddr, Sim>,
    /// What the brokers say of topics, and of the coordinator.
    pub(super) topics: BTreeMap<Arc<str>, MetadataTopic>,
    pub(super) coordinator: Result<i32, ErrorCode>,
    pub(super) answers: Vec<(Owner, Answer)>,
    pub(super) events: Vec<(Duration, ClusterEvent)>,
    pub(super) requests: Vec<(Duration, BrokerAddr, i16, Request)>,
    pub(super) connects: Vec<(Duration, BrokerAddr)>,
    pub(super) tokens_asked: u32,
    /// Messages of SASL without a header.
    pub(super) bare: Vec<Bytes>,
    pub(super) wakeups: u64,
    conns: BTreeMap<ConnId, (BrokerAddr, VecDeque<i32>)>,
    network: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
}

pub(super) fn addr(host: &str) -> BrokerAddr {
    BrokerAddr { host: host.into(), port: 9092 }
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn config(bootstrap: &[&str]) -> ClusterConfig {
    ClusterConfig {
        bootstrap: bootstrap.iter().map(|host| addr(host)).collect(),
        client_id: "test".into(),
        group: Some("g".into()),
        request_timeout: secs(30),
        connect_timeout: secs(10),
        metadata_max_age: secs(300),
        rebootstrap_trigger: secs(300),
        reconnect_backoff: ms(50),
        reconnect_backoff_max: secs(1),
        retry_backoff: ms(100),
        retry_backoff_max: secs(1),
        idle_timeout: secs(540),
        encrypted: false,
        sasl: None,
        seed: 7,
    }
}

pub(super) fn every_api(max: i16) -> Vec<ApiRange> {
    [1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 17, 18, 23, 36].map(|key| ApiRange { key, min: 0, max }).to_vec()
}

/// A topic whose partitions are led by these brokers, each with this epoch.
pub(super) fn topic(name: &str, id: Option<u8>, leaders: &[(i32, i32)]) -> MetadataTopic {
    let partitions = leaders.iter().enumerate().map(|(number, (leader, epoch))| MetadataPartition {
        error: ErrorCode::NONE,
        partition: number as i32,
        leader: Some(BrokerId(*leader)).filter(|leader| leader.0 >= 0),
        leader_epoch: Some(LeaderEpoch(*epoch)),
        replicas: Vec::new(),
    });
    MetadataTopic {
        error: ErrorCode::NONE,
        name: Some(name.into()),
        id: id.map(|id| TopicId([id; 16])),
        is_internal: false,
        partitions: partitions.collect(),
    }
}

pub(super) fn topic_error(name: &str, error: ErrorCode) -> MetadataTopic {
    MetadataTopic { error, ..topic(name, None, &[]) }
}

pub(super) fn names<const N: usize>(names: [&str; N]) -> Wanted {
    Wanted { named: names.into_iter().map(Arc::from).collect(), ..Wanted::default() }
}

impl World {
    /// Brokers b1 to b`count`, all up, of which b1 coordinates; the client knows the bootstrap addresses.
    pub(super) fn new(count: i32, config: ClusterConfig) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            cluster: Cluster::with_codec(config, CODEC),
            sims: BTreeMap::new(),
            topics: BTreeMap::new(),
            coordinator: Ok(1),
            answers: Vec::new(),
            events: Vec::new(),
            requests: Vec::new(),
            connects: Vec::new(),
            tokens_asked: 0,
            bare: Vec::new(),
            wakeups: 0,
            conns: BTreeMap::new(),
            network: BTreeMap::new(),
            sequence: 0,
        };
        for id in 1..=count {
            world.add(&format!("b{id}"), id);
        }
        world
    }

    pub(super) fn add(&mut self, host: &str, id: i32) {
        let sim = Sim {
            id,
            mode: Mode::Up,
            apis: every_api(9),
            holds: BTreeSet::new(),
            throttles: BTreeMap::new(),
            garbles: BTreeSet::new(),
            wrong_correlation: false,
            handshake_max: i16::MAX,
            refuses: None,
            session_lifetime: None,
            metadata: None,
        };
        self.sims.insert(addr(host), sim);
    }

    pub(super) fn sim(&mut self, host: &str) -> &mut Sim {
        self.sims.get_mut(&addr(host)).unwrap()
    }

    /// Changes a listener, and drops who is connected.
    pub(super) fn fail(&mut self, host: &str, mode: Mode) {
        self.sim(host).mode = mode;
        self.drop_all(host, &Disconnect::Closed("connection reset".to_owned()));
    }

    /// Ends all connections to a host.
    pub(super) fn drop_all(&mut self, host: &str, why: &Disconnect) {
        let lost: Vec<_> = self.conns.iter().filter(|(_, (to, _))| *to == addr(host)).map(|(id, _)| *id).collect();
        for id in lost {
            self.conns.remove(&id);
            self.send(ms(0), Event::Disconnected(id, why.clone()));
        }
    }

    /// Which broker the client takes for the group's coordinator, while a connection to it stands.
    pub(super) fn coordinator(&self) -> Option<BrokerId> {
        self.cluster.coordinator.known()
    }

    pub(super) fn ask(&mut self, owner: Owner, to: Target, request: Request, timeout: Duration) {
        self.cluster.handle_ask(self.now, Ask { owner, to, request, timeout });
        self.drain();
    }

    /// Lets the machine do something now.
    pub(super) fn with<T>(&mut self, act: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        let result = act(&mut self.cluster, self.now);
        self.drain();
        result
    }

    /// Runs until nothing happens before `time` from now has passed.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        loop {
            let timer = self.cluster.poll_timeout();
            let event = self.network.first_key_value().map(|(key, _)| *key);
            let timer_first = match (timer, event) {
                (Some((timer, _)), Some((event, _))) => timer < event,
                (timer, _) => timer.is_some(),
            };
            if timer_first {
                let (at, _) = timer.unwrap();
                if at > end {
                    break;
                }
                self.now = self.now.max(at);
                self.wakeups += 1;
                self.cluster.handle_timeout(self.now);
                let next = self.cluster.poll_timeout();
                assert!(next.is_none_or(|(at, _)| at > self.now), "busy loop: {:?}", next.unwrap().1);
            } else if let Some(key) = event.filter(|(at, _)| *at <= end) {
                self.now = self.now.max(key.0);
                match self.network.remove(&key).unwrap() {
                    Event::Connected(id) => self.cluster.handle_connected(self.now, id),
                    Event::Frame(id, frame) => self.cluster.handle_frame(self.now, id, frame),
                    Event::Disconnected(id, why) => {
                        self.conns.remove(&id);
                        self.cluster.handle_disconnected(self.now, id, why);
                    }
                }
            } else {
                break;
            }
            self.drain();
        }
        self.now = end;
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn topic(&self, name: &Arc<str>) -> MetadataTopic {
        self.topics.get(name).cloned().unwrap_or_else(|| topic_error(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))
    }

    fn topic_by_id(&self, id: TopicId) -> MetadataTopic {
        let unknown = MetadataTopic { name: None, id: Some(id), ..topic_error("", ErrorCode::UNKNOWN_TOPIC_ID) };
        self.topics.values().find(|topic| topic.id == Some(id)).cloned().unwrap_or(unknown)
    }

    pub(super) fn view(&self) -> &ClusterView {
        self.cluster.view()
    }

    pub(super) fn partition(&self, topic: &str, number: usize) -> PartitionView {
        self.view().topics[topic].partitions[number].clone()
    }

    /// Every problem told so far, with when.
    pub(super) fn problems<'a>(&'a self) -> Vec<(Duration, &'a Problem)> {
        let problem = |(at, event): &'a (Duration, ClusterEvent)| match event {
            ClusterEvent::Problem(problem) => Some((*at, problem)),
            _ => None,
        };
        self.events.iter().filter_map(problem).collect()
    }

    pub(super) fn problem_kinds(&self) -> Vec<ProblemKind> {
        self.problems().iter().map(|(_, problem)| problem.kind).collect()
    }

    /// When requests of this API were sent.
    pub(super) fn sent(&self, api: Api) -> Vec<Duration> {
        self.requests.iter().filter(|(.., request)| request.api() == api).map(|(at, ..)| *at).collect()
    }

    pub(super) fn answer_to(&self, owner: Owner) -> &Answer {
        let mut found = self.answers.iter().filter(|(to, _)| *to == owner);
        let answer = &found.next().unwrap_or_else(|| panic!("{owner:?} has no answer")).1;
        assert!(found.next().is_none(), "{owner:?} was answered twice");
        answer
    }

    /// How many connections to this host stand.
    pub(super) fn open_to(&self, host: &str) -> usize {
        self.conns.values().filter(|(to, _)| *to == addr(host)).count()
    }

    pub(super) fn coordinator_events(&self) -> Vec<&ClusterEvent> {
        let is_one =
            |event: &&ClusterEvent| matches!(event, ClusterEvent::CoordinatorKnown(_) | ClusterEvent::CoordinatorUnknown { .. });
        self.events.iter().map(|(_, event)| event).filter(is_one).collect()
    }

    fn send(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.network.insert((self.now + after, self.sequence), event);
    }

    fn drain(&mut self) {
        while let Some(output) = self.cluster.poll_output() {
            match output {
                ClusterOutput::Connect(id, to) => self.connect(id, to),
                ClusterOutput::Transmit(id, frame) => self.receive(id, &frame),
                ClusterOutput::Disconnect(id) => {
                    self.conns.remove(&id);
                }
                ClusterOutput::FetchToken => self.tokens_asked += 1,
            }
        }
        self.answers.extend(std::iter::from_fn(|| self.cluster.poll_answer()));
        let elapsed = self.elapsed();
        self.events.extend(std::iter::from_fn(|| self.cluster.poll_event()).map(|event| (elapsed, event)));
    }

    fn connect(&mut self, id: ConnId, to: BrokerAddr) {
        self.connects.push((self.elapsed(), to.clone()));
        match self.sims.get(&to).map_or(Mode::Refuses, |sim| sim.mode) {
            Mode::Refuses => {
                self.send(LATENCY, Event::Disconnected(id, Disconnect::Unreachable("connection refused".to_owned())));
            }
            Mode::Untrusted => {
                self.send(LATENCY, Event::Disconnected(id, Disconnect::Tls("not trusted".to_owned())));
            }
            Mode::BlackHole => {
                self.send(secs(10), Event::Disconnected(id, Disconnect::Unreachable("no answer within 10 s".to_owned())));
            }
            mode => {
                self.conns.insert(id, (to, VecDeque::new()));
                self.send(LATENCY, Event::Connected(id));
                if mode == Mode::ClosesAtOnce {
                    self.send(LATENCY, Event::Disconnected(id, Disconnect::Closed("closed".to_owned())));
                }
            }
        }
    }

    fn receive(&mut self, id: ConnId, frame: &Bytes) {
        if frame.len() != 12 {
            self.receive_bare(id, frame.slice(4..));
            return;
        }
        let correlation = i32::from_be_bytes(*frame[4..].first_chunk().unwrap());
        let place = u32::from_be_bytes(*frame[8..].first_chunk().unwrap());
        let (version, request) = REQUESTS.with_borrow(|requests| requests[place as usize].clone());
        let Some((to, held)) = self.conns.get_mut(&id) else { return };
        let to = to.clone();
        self.requests.push((self.now - self.start, to.clone(), version, request.clone()));
        let Some(sim) = self.sims.get(&to) else { return };
        let api = request.api();
        let handshake = api == Api::ApiVersions;
        // A broker serves one request after the other: what is behind a held one waits too.
        if sim.mode == Mode::Silent || sim.holds.contains(&api) || !held.is_empty() {
            held.push_back(correlation);
            return;
        }
        let event = match sim.mode {
            Mode::Http => Event::Disconnected(id, Disconnect::BadFrame("it looks like HTTP".to_owned())),
            Mode::ClosesAfterHandshake if !handshake => Event::Disconnected(id, Disconnect::Closed("closed".to_owned())),
            Mode::ClosesAtOnce => return,
            _ => {
                let nonsense = sim.garbles.contains(&api) || (sim.mode == Mode::Garbled && handshake);
                let correlation = if sim.wrong_correlation && !handshake { correlation + 1 } else { correlation };
                let answer = (!nonsense).then(|| self.answer(sim, version, &request));
                let throttle = sim.throttles.get(&api).copied().unwrap_or_default();
                Event::Frame(id, answer_frame(correlation, answer, throttle))
            }
        };
        self.send(LATENCY, event);
    }

    fn receive_bare(&mut self, id: ConnId, message: Bytes) {
        let refuses = self.conns.get(&id).is_some_and(|(to, _)| self.sims[to].refuses.is_some());
        self.bare.push(message);
        let event = match refuses {
            true => Event::Disconnected(id, Disconnect::Closed("closed".to_owned())),
            false => Event::Frame(id, Bytes::new()),
        };
        self.send(LATENCY, event);
    }

    /// Answers the oldest request that this host holds on its newest connection that holds any.
    pub(super) fn release(&mut self, host: &str, answer: Response) {
        let held = self.conns.iter_mut().rev().find(|(_, (to, held))| *to == addr(host) && !held.is_empty());
        let (id, (_, held)) = held.expect("nothing is held");
        let (id, correlation) = (*id, held.pop_front().unwrap());
        self.send(LATENCY, Event::Frame(id, answer_frame(correlation, Some(answer), Duration::ZERO)));
    }

    fn answer(&self, sim: &Sim, version: i16, request: &Request) -> Response {
        let broker = |(addr, sim): (&BrokerAddr, &Sim)| Broker {
            id: BrokerId(sim.id),
            host: Arc::clone(&addr.host),
            port: addr.port,
            rack: None,
        };
        match request {
            Request::ApiVersions => {
                let own = sim.apis.iter().find(|range| range.key == Api::ApiVersions as i16);
                let known = version <= own.map_or(0, |own| own.max).min(sim.handshake_max);
                let error = if known { ErrorCode::NONE } else { ErrorCode::UNSUPPORTED_VERSION };
                Response::ApiVersions(ApiVersionsResponse { error, apis: sim.apis.clone() })
            }
            Request::Metadata { .. } | Request::MetadataById { .. } if sim.metadata.is_some() => {
                Response::Metadata(sim.metadata.clone().unwrap())
            }
            Request::Metadata { .. } | Request::MetadataById { .. } => Response::Metadata(MetadataResponse {
                error: ErrorCode::NONE,
                // Real brokers list those alive.
                brokers: self.sims.iter().filter(|(_, sim)| sim.mode == Mode::Up && sim.id >= 0).map(broker).collect(),
                cluster_id: None,
                topics: match request {
                    Request::MetadataById { topics } => topics.iter().map(|id| self.topic_by_id(*id)).collect(),
                    Request::Metadata { topics: Some(names) } => names.iter().map(|name| self.topic(name)).collect(),
                    _ => self.topics.values().cloned().collect(),
                },
            }),
            Request::FindCoordinator { .. } => {
                let found = self.coordinator.ok().and_then(|id| self.sims.iter().find(|(_, sim)| sim.id == id)).map(broker);
                let error = self.coordinator.err().unwrap_or(ErrorCode::NONE);
                Response::FindCoordinator(CoordinatorResponse { error, message: None, coordinator: found })
            }
            Request::SaslHandshake { .. } => {
                Response::SaslHandshake(SaslHandshakeResponse { error: ErrorCode::NONE, mechanisms: Vec::new() })
            }
            Request::SaslAuthenticate { .. } => Response::SaslAuthenticate(SaslAuthenticateResponse {
                error: sim.refuses.map_or(ErrorCode::NONE, |_| ErrorCode::SASL_AUTHENTICATION_FAILED),
                message: sim.refuses.map(Arc::from),
                challenge: Bytes::new(),
                session_lifetime: sim.session_lifetime,
            }),
            _ => Response::Heartbeat(ErrorCode::NONE),
        }
    }
}
