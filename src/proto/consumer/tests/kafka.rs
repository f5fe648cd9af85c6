//! A Kafka cluster in memory: logs, a group, its offsets. It reads and writes real frames.

mod group;
mod log;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        self as kafka, TopicName,
        api_versions_response::ApiVersion,
        fetch_request::FetchPartition,
        fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData},
        find_coordinator_response::Coordinator,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
    protocol::{Decodable, Encodable, HeaderVersion, decode_request_header_from_buffer},
};

pub(super) use group::{Commit, Group};
pub(super) use log::{Log, Topic};

use crate::{
    model::TopicPartition,
    proto::{ConnId, backoff::Rng},
    wire::{Api, ErrorCode},
};

/// Every API, with the versions that a Kafka of today speaks.
const APIS: [(Api, i16, i16); 12] = [
    (Api::Fetch, 4, 17),
    (Api::ListOffsets, 1, 10),
    (Api::Metadata, 0, 12),
    (Api::OffsetCommit, 2, 9),
    (Api::OffsetFetch, 1, 9),
    (Api::FindCoordinator, 0, 6),
    (Api::JoinGroup, 0, 9),
    (Api::Heartbeat, 0, 4),
    (Api::LeaveGroup, 0, 5),
    (Api::SyncGroup, 0, 5),
    (Api::ApiVersions, 0, 4),
    (Api::OffsetForLeaderEpoch, 2, 4),
];

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// It is served.
    Served,
    /// It is refused with this code, and nothing is done.
    Refused(ErrorCode),
    /// It is served, and the answer takes so much longer.
    Slow(Duration),
    /// It is served, and the connection ends before the answer is out.
    AnswerLost,
    /// The connection ends before it is served.
    Closed,
    /// Nothing is done, and no answer ever comes.
    Ignored,
    /// It is served, and the answer is nonsense.
    Garbled,
}

/// The next requests of this kind have this fate.
struct Rule {
    api: Api,
    times: usize,
    fate: Fate,
}

/// A request on its way through a broker.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) conn: ConnId,
    pub(super) broker: i32,
    pub(super) api: Api,
    pub(super) fate: Fate,
    version: i16,
    correlation: i32,
    /// What it committed.
    pub(super) commits: Vec<(TopicPartition, i64)>,
}

/// A request, as a test looks back at it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) client: usize,
    pub(super) api: Api,
    /// Fetch: which partitions it asked for, and from where.
    pub(super) fetched: Vec<(TopicPartition, i64)>,
}

struct ParkedFetch {
    call: Call,
    request: kafka::FetchRequest,
    until: Instant,
}

pub(super) struct Kafka {
    pub(super) brokers: i32,
    pub(super) down: BTreeSet<i32>,
    pub(super) coordinator: i32,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) group: Group,
    pub(super) offsets: BTreeMap<TopicPartition, (i64, i32)>,
    /// Partitions with a transaction's offsets not yet settled.
    pub(super) unstable: BTreeSet<TopicPartition>,
    pub(super) commits: Vec<Commit>,
    pub(super) seen: Vec<Seen>,
    rules: Vec<Rule>,
    /// Chance decides what befalls a request: so many in a hundred.
    pub(super) chaos: Option<(Rng, u64)>,
    parked: Vec<ParkedFetch>,
    answers: VecDeque<(Call, Bytes)>,
    topic_ids: u8,
    /// How many bytes of records were sent.
    pub(super) bytes_fetched: usize,
    /// Fetch answers name partitions nobody asked for, too.
    pub(super) stray: bool,
}

impl Kafka {
    pub(super) fn new(brokers: i32) -> Self {
        Self {
            brokers,
            down: BTreeSet::new(),
            coordinator: 1,
            topics: BTreeMap::new(),
            group: Group::default(),
            offsets: BTreeMap::new(),
            unstable: BTreeSet::new(),
            commits: Vec::new(),
            seen: Vec::new(),
            rules: Vec::new(),
            chaos: None,
            parked: Vec::new(),
            answers: VecDeque::new(),
            topic_ids: 0,
            bytes_fetched: 0,
            stray: false,
        }
    }

    /// Creates a topic, led by the brokers in turn.
    pub(super) fn create(&mut self, name: &str, partitions: i32) {
        self.topic_ids += 1;
        let logs = (0..partitions).map(|number| Log::new(number % self.brokers + 1)).collect();
        self.topics.insert(name.to_owned(), Topic { id: [self.topic_ids; 16], logs });
    }

    pub(super) fn log(&mut self, partition: &TopicPartition) -> &mut Log {
        &mut self.topics.get_mut(partition.topic()).expect("a topic of this cluster").logs[partition.partition() as usize]
    }

    pub(super) fn find(&self, partition: &TopicPartition) -> Option<&Log> {
        self.topics.get(partition.topic())?.logs.get(usize::try_from(partition.partition()).ok()?)
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        let of = |(name, topic): (&String, &Topic)| {
            (0..topic.logs.len()).map(|number| TopicPartition::new(name.as_str(), number as i32)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.offsets.get(partition).map(|(offset, _)| *offset)
    }

    /// Decides what befalls the next `times` requests to this API.
    pub(super) fn rule(&mut self, api: Api, times: usize, fate: Fate) {
        self.rules.push(Rule { api, times, fate });
    }

    pub(super) fn heal(&mut self) {
        self.rules.clear();
        self.chaos = None;
        self.down.clear();
        self.unstable.clear();
    }

    pub(super) fn count(&self, api: Api) -> usize {
        self.seen.iter().filter(|seen| seen.api == api).count()
    }

    pub(super) fn next_answer(&mut self) -> Option<(Call, Bytes)> {
        self.answers.pop_front()
    }

    /// The broker that `broker` dies takes what is parked on it along.
    pub(super) fn forget_broker(&mut self, broker: i32) {
        self.parked.retain(|parked| parked.call.broker != broker);
    }

    /// A connection has ended: who hung up reads no answer.
    pub(super) fn forget(&mut self, client: usize, conn: ConnId) {
        self.parked.retain(|parked| (parked.call.client, parked.call.conn) != (client, conn));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.parked.iter().map(|parked| parked.until).chain(self.group.deadline()).min()
    }

    /// Lets the time, or new records, answer what is parked.
    pub(super) fn tick(&mut self, now: Instant) {
        self.tick_group(now);
        for parked in std::mem::take(&mut self.parked) {
            let ParkedFetch { call, request, until } = parked;
            self.fetch(now, call, request, until);
        }
    }

    /// Serves one frame, with its length.
    pub(super) fn serve(&mut self, now: Instant, client: usize, conn: ConnId, broker: i32, frame: &Bytes) {
        let mut body = frame.slice(4..);
        let header = decode_request_header_from_buffer(&mut body).expect("a request header");
        let version = header.request_api_version;
        let known = APIS.iter().find(|(api, ..)| *api as i16 == header.request_api_key);
        let &(api, min, max) = known.expect("an API that was announced");
        assert!((min..=max).contains(&version), "{api:?} version {version} was not announced");
        let fate = self.fate(api);
        self.seen.push(Seen { at: now, client, api, fetched: Vec::new() });
        let call = Call { client, conn, broker, api, fate, version, correlation: header.correlation_id, commits: Vec::new() };
        if matches!(fate, Fate::Ignored | Fate::Closed) {
            self.answers.push_back((call, Bytes::new()));
            return;
        }
        let body = &mut body;
        match api {
            Api::ApiVersions => self.api_versions(call),
            Api::Metadata => self.metadata(call, &decode(body, version)),
            Api::FindCoordinator => self.find_coordinator(call, &decode(body, version)),
            Api::JoinGroup => self.join(now, call, &decode(body, version)),
            Api::SyncGroup => self.sync(now, call, &decode(body, version)),
            Api::Heartbeat => self.heartbeat(now, call, &decode(body, version)),
            Api::LeaveGroup => self.leave(now, call, &decode(body, version)),
            Api::OffsetCommit => self.offset_commit(now, call, &decode(body, version)),
            Api::OffsetFetch => self.offset_fetch(call, &decode(body, version)),
            Api::ListOffsets => self.list_offsets(call, &decode(body, version)),
            Api::OffsetForLeaderEpoch => self.offset_for_leader_epoch(call, &decode(body, version)),
            Api::Fetch => {
                let request: kafka::FetchRequest = decode(body, version);
                let asked = request.topics.iter().flat_map(|topic| {
                    // A topic that is gone has no name.
                    let name = self.name_of(&topic.topic, topic.topic_id.as_bytes());
                    let asked =
                        |name: &str, asked: &FetchPartition| (TopicPartition::new(name, asked.partition), asked.fetch_offset);
                    topic.partitions.iter().filter_map(move |partition| Some(asked(name.as_deref()?, partition)))
                });
                let asked = asked.collect();
                self.seen.last_mut().expect("pushed above").fetched = asked;
                let until = now + Duration::from_millis(request.max_wait_ms as u64);
                self.fetch(now, call, request, until);
            }
        }
    }

    fn fate(&mut self, api: Api) -> Fate {
        let fits = |rule: &&mut Rule| rule.api == api && rule.times > 0;
        if let Some(rule) = self.rules.iter_mut().find(fits) {
            rule.times -= 1;
            return rule.fate;
        }
        let Some((rng, percent)) = &mut self.chaos else { return Fate::Served };
        if rng.next_u64() % 100 >= *percent {
            return Fate::Served;
        }
        match rng.next_u64() % 10 {
            0..3 => Fate::AnswerLost,
            3 => Fate::Closed,
            4..6 => Fate::Slow(Duration::from_millis(rng.next_u64() % 3000)),
            6 if api != Api::ApiVersions => Fate::Ignored,
            _ => codes(api).get(rng.next_u64() as usize % 8).map_or(Fate::Served, |code| Fate::Refused(*code)),
        }
    }

    fn answer<T: Encodable + HeaderVersion>(&mut self, call: Call, body: &T) {
        let mut frame = BytesMut::new();
        frame.put_i32(call.correlation);
        if call.fate == Fate::Garbled {
            frame.put_slice(&[0xff; 40]);
        } else {
            if T::header_version(call.version) > 0 {
                frame.put_u8(0);
            }
            body.encode(&mut frame, call.version).expect("the answer fits its version");
        }
        self.answers.push_back((call, frame.freeze()));
    }

    fn api_versions(&mut self, call: Call) {
        let api = |(api, min, max): (Api, i16, i16)| {
            ApiVersion::default().with_api_key(api as i16).with_min_version(min).with_max_version(max)
        };
        let body = kafka::ApiVersionsResponse::default().with_api_keys(APIS.map(api).to_vec());
        self.answer(call, &body);
    }

    fn metadata(&mut self, call: Call, request: &kafka::MetadataRequest) {
        let forced = call.error();
        let brokers = (1..=self.brokers).filter(|id| !self.down.contains(id)).map(|id| {
            MetadataResponseBroker::default().with_node_id(id.into()).with_host(format!("b{id}").into()).with_port(9092)
        });
        let topic = |name: &TopicName| {
            let body = MetadataResponseTopic::default().with_name(Some(name.clone()));
            let Some(topic) = self.topics.get(name.0.as_str()).filter(|_| forced.is_none()) else {
                return body.with_error_code(forced.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).0);
            };
            let partition = |(number, log): (usize, &Log)| {
                MetadataResponsePartition::default()
                    .with_partition_index(number as i32)
                    .with_leader_id(log.leader.into())
                    .with_leader_epoch(log.epoch)
                    .with_error_code(if log.leader < 0 { ErrorCode::LEADER_NOT_AVAILABLE.0 } else { 0 })
            };
            body.with_topic_id(topic.id.to_vec().try_into().expect("16 bytes"))
                .with_partitions(topic.logs.iter().enumerate().map(partition).collect())
        };
        let asked = request.topics.iter().flatten().filter_map(|topic| topic.name.as_ref());
        let body = kafka::MetadataResponse::default().with_brokers(brokers.collect()).with_topics(asked.map(topic).collect());
        self.answer(call, &body);
    }

    fn find_coordinator(&mut self, call: Call, request: &kafka::FindCoordinatorRequest) {
        let error = call.error().unwrap_or(ErrorCode::NONE).0;
        let (id, host) = if error == 0 { (self.coordinator, format!("b{}", self.coordinator)) } else { (-1, String::new()) };
        let coordinator = |key: &kafka_protocol::protocol::StrBytes| {
            Coordinator::default()
                .with_key(key.clone())
                .with_error_code(error)
                .with_node_id(id.into())
                .with_host(host.clone().into())
                .with_port(9092)
        };
        let coordinators = request.coordinator_keys.iter().map(coordinator).collect();
        self.answer(call, &kafka::FindCoordinatorResponse::default().with_coordinators(coordinators));
    }

    fn list_offsets(&mut self, call: Call, request: &kafka::ListOffsetsRequest) {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let body = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                let of = TopicPartition::new(topic.name.0.as_str(), asked.partition_index);
                match self.leads(&call, self.find(&of), asked.current_leader_epoch) {
                    Err(code) => body.with_error_code(code.0),
                    Ok(log) => {
                        let offset = match (asked.timestamp, request.isolation_level) {
                            (-1, 1) => log.last_stable(),
                            (-1, _) => log.end,
                            _ => log.start,
                        };
                        body.with_offset(offset).with_leader_epoch(log.epoch)
                    }
                }
            });
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let body = kafka::ListOffsetsResponse::default().with_topics(topics.collect());
        self.answer(call, &body);
    }

    fn offset_for_leader_epoch(&mut self, call: Call, request: &kafka::OffsetForLeaderEpochRequest) {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let body = EpochEndOffset::default().with_partition(asked.partition);
                let of = TopicPartition::new(topic.topic.0.as_str(), asked.partition);
                match self.leads(&call, self.find(&of), asked.current_leader_epoch) {
                    Err(code) => body.with_error_code(code.0),
                    Ok(log) => {
                        let (epoch, end) = log.end_of(asked.leader_epoch).unwrap_or((-1, -1));
                        body.with_leader_epoch(epoch).with_end_offset(end)
                    }
                }
            });
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        let body = kafka::OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
        self.answer(call, &body);
    }

    /// Answers a Fetch if there is something to say, or its time is over; parks it otherwise.
    fn fetch(&mut self, now: Instant, call: Call, request: kafka::FetchRequest, until: Instant) {
        let mut left = request.max_bytes as usize;
        let (mut something, mut bytes) = (false, 0);
        let mut endpoints = BTreeSet::new();
        let topics = request.topics.iter().map(|topic| {
            let name = self.name_of(&topic.topic, topic.topic_id.as_bytes());
            let partitions = topic.partitions.iter().map(|asked| {
                let mut body = PartitionData::default().with_partition_index(asked.partition).with_high_watermark(-1);
                let of = name.as_ref().map(|name| TopicPartition::new(name.as_str(), asked.partition));
                let found = of.as_ref().and_then(|of| self.find(of));
                let unknown =
                    if call.version >= 13 { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
                let lead = if name.is_none() { Err(unknown) } else { self.leads(&call, found, asked.current_leader_epoch) };
                let log = match lead {
                    Ok(log) => log,
                    Err(code) => {
                        something = true;
                        if let Some(log) = found.filter(|log| code == ErrorCode::NOT_LEADER_OR_FOLLOWER && log.leader > 0) {
                            let leader = LeaderIdAndEpoch::default().with_leader_id(log.leader.into());
                            body = body.with_current_leader(leader.with_leader_epoch(log.epoch));
                            endpoints.insert(log.leader);
                        }
                        return body.with_error_code(code.0);
                    }
                };
                let body =
                    body.with_high_watermark(log.end).with_last_stable_offset(log.last_stable()).with_log_start_offset(log.start);
                if let Some((epoch, end)) = log.diverges(asked.last_fetched_epoch, asked.fetch_offset) {
                    something = true;
                    let diverging = kafka::fetch_response::EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                    return body.with_diverging_epoch(diverging);
                }
                if !(log.start..=log.end).contains(&asked.fetch_offset) {
                    something = true;
                    return body.with_error_code(ErrorCode::OFFSET_OUT_OF_RANGE.0).with_high_watermark(-1);
                }
                let committed_only = request.isolation_level == 1;
                let limit = if committed_only { log.last_stable() } else { log.end };
                let records = log.read(asked.fetch_offset, limit, left.min(asked.partition_max_bytes as usize), bytes == 0);
                left = left.saturating_sub(records.len());
                bytes += records.len();
                let aborted = committed_only.then(|| log.aborted_from(asked.fetch_offset));
                body.with_records(Some(records)).with_aborted_transactions(aborted)
            });
            let topic_response = FetchableTopicResponse::default().with_partitions(partitions.collect());
            topic_response.with_topic(topic.topic.clone()).with_topic_id(topic.topic_id)
        });
        let mut topics: Vec<_> = topics.collect();
        if !something && bytes < request.min_bytes as usize && now < until {
            self.parked.push(ParkedFetch { call, request, until });
            return;
        }
        self.bytes_fetched += bytes;
        if self.stray {
            let partition =
                |number| PartitionData::default().with_partition_index(number).with_records(Some(Bytes::from_static(b"stray")));
            let strays = FetchableTopicResponse::default().with_topic_id([9; 16].to_vec().try_into().expect("16 bytes"));
            topics.push(strays.with_partitions(vec![partition(0)]));
            topics[0].partitions.extend([partition(7), partition(i32::MAX)]);
        }
        let endpoint =
            |id: i32| NodeEndpoint::default().with_node_id(id.into()).with_host(format!("b{id}").into()).with_port(9092);
        let endpoints = if call.version >= 16 { endpoints.into_iter().map(endpoint).collect() } else { Vec::new() };
        let body = kafka::FetchResponse::default().with_responses(topics).with_node_endpoints(endpoints);
        self.answer(call, &body);
    }

    fn leads<'a>(&self, call: &Call, log: Option<&'a Log>, epoch: i32) -> Result<&'a Log, ErrorCode> {
        if let Some(code) = call.error() {
            return Err(code);
        }
        let log = log.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if log.leader != call.broker {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        match epoch {
            -1 => Ok(log),
            epoch if epoch < log.epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            epoch if epoch > log.epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(log),
        }
    }

    /// A topic is named by its id from version 13 on.
    fn name_of(&self, name: &TopicName, id: &[u8; 16]) -> Option<String> {
        if *id == [0; 16] {
            return Some(name.0.to_string());
        }
        self.topics.iter().find(|(_, topic)| topic.id == *id).map(|(name, _)| name.clone())
    }
}

impl Call {
    pub(super) fn error(&self) -> Option<ErrorCode> {
        match self.fate {
            Fate::Refused(code) => Some(code),
            _ => None,
        }
    }
}

fn decode<T: Decodable>(body: &mut Bytes, version: i16) -> T {
    let request = T::decode(body, version).expect("a request that can be read");
    assert!(body.is_empty(), "bytes left over behind a request");
    request
}

/// What a healthy client may meet at any time without having done anything wrong.
fn codes(api: Api) -> &'static [ErrorCode] {
    match api {
        Api::Fetch | Api::ListOffsets | Api::OffsetForLeaderEpoch => &[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_LEADER_EPOCH,
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::OFFSET_NOT_AVAILABLE,
            ErrorCode::REPLICA_NOT_AVAILABLE,
        ],
        Api::Metadata => &[ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION],
        Api::FindCoordinator => &[ErrorCode::COORDINATOR_NOT_AVAILABLE],
        Api::OffsetFetch => {
            &[ErrorCode::UNSTABLE_OFFSET_COMMIT, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::NOT_COORDINATOR]
        }
        Api::OffsetCommit => &[
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::ILLEGAL_GENERATION,
        ],
        Api::JoinGroup | Api::SyncGroup | Api::Heartbeat => &[
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::ILLEGAL_GENERATION,
        ],
        Api::LeaveGroup | Api::ApiVersions => &[],
    }
}
