//! The brokers: who is there, who coordinates what, and what they say of themselves.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, MetadataRequest, MetadataResponse,
        api_versions_response::ApiVersion,
        describe_cluster_response::DescribeClusterBroker,
        find_coordinator_response::Coordinator,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::{
    Context, api,
    call::Call,
    topics::{self, Partition, Topic},
};

const CLUSTER_ID: &str = "ottla-mock-cluster-id1";
/// What everybody may do with a topic where nobody is forbidden anything, as a set of bits: read, write, create, delete, alter,
/// describe, and describe and alter configs.
const ALL_TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// ApiVersions requests name the client's software in these versions (KIP-511).
const NAMES_SINCE: i16 = 3;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
    pub(crate) is_alive: bool,
    /// The cluster has noticed that it is gone, and gave its duties to others.
    pub(crate) is_missed: bool,
}

impl Broker {
    /// Where it is, in the protocol's terms: host, port and rack.
    pub(crate) fn endpoint(&self) -> (StrBytes, i32, Option<StrBytes>) {
        let rack = self.rack.clone().map(StrBytes::from_string);
        (StrBytes::from_string(self.host.clone()), self.port.into(), rack)
    }
}

#[derive(Debug)]
pub(crate) struct Brokers {
    by_id: BTreeMap<i32, Broker>,
    /// Coordinators that were moved, by group or transactional id; `None` while there is none.
    moved: BTreeMap<String, Option<i32>>,
}

impl Brokers {
    pub(crate) fn new(count: i32) -> Self {
        let broker = |id: i32| Broker { host: format!("b{id}"), port: 9092, rack: None, is_alive: true, is_missed: false };
        Self { by_id: (1..=count).map(|id| (id, broker(id))).collect(), moved: BTreeMap::new() }
    }

    pub(crate) fn get_mut(&mut self, id: i32) -> Option<&mut Broker> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn get(&self, id: i32) -> Option<&Broker> {
        self.by_id.get(&id)
    }

    pub(crate) fn accepts(&self, id: i32) -> bool {
        self.get(id).is_some_and(|broker| broker.is_alive)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = i32> {
        self.by_id.keys().copied()
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = (i32, &Broker)> {
        self.by_id.iter().filter(|(_, broker)| broker.is_alive).map(|(id, broker)| (*id, broker))
    }

    /// The broker with the smallest number that is alive, as good as any.
    pub(crate) fn controller(&self) -> Option<i32> {
        self.alive().next().map(|(id, _)| id)
    }

    pub(crate) fn is_missed(&self, id: i32) -> bool {
        self.get(id).is_none_or(|broker| broker.is_missed)
    }

    /// Who coordinates this group or transactional id: chosen by its name among those that nobody misses, as long as nobody moved it.
    pub(crate) fn coordinator_of(&self, key: &str) -> Option<i32> {
        let chosen = match self.moved.get(key) {
            Some(Some(id)) if self.is_missed(*id) => self.chosen(key),
            Some(moved) => *moved,
            None => self.chosen(key),
        };
        chosen.filter(|id| self.accepts(*id))
    }

    fn chosen(&self, key: &str) -> Option<i32> {
        let sum = key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let first = sum % self.by_id.len().max(1);
        let in_turn = self.ids().skip(first).chain(self.ids().take(first));
        in_turn.into_iter().find(|id| !self.is_missed(*id))
    }

    pub(crate) fn move_coordinator(&mut self, key: &str, to: Option<i32>) {
        self.moved.insert(key.to_owned(), to);
    }
}

pub(super) fn api_versions(cx: &mut Context<'_>, mut call: Call, request: &ApiVersionsRequest) {
    let (oldest, newest) = api::versions(call.api, cx.settings.release).expect("every release has it");
    let is_named = is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version);
    if (NAMES_SINCE..=newest).contains(&call.version) && !is_named {
        let body = ApiVersionsResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        return cx.out.answer(call, &body.with_error_code(ResponseError::InvalidRequest.code()));
    }
    let api = |(api, oldest, newest)| {
        // Kafka announces what it has given up: librdkafka compresses nothing for a broker that does not (KAFKA-18659).
        let oldest = if api == ApiKey::Produce { 0 } else { oldest };
        ApiVersion::default().with_api_key(api as i16).with_min_version(oldest).with_max_version(newest)
    };
    let apis: Vec<_> = api::announced(cx.settings.release).map(api).collect();
    let mut body = ApiVersionsResponse::default();
    if (oldest..=newest).contains(&call.version) {
        body = body.with_api_keys(apis);
        if call.version >= 1 {
            body = body.with_throttle_time_ms(call.throttle_time_ms);
        }
    } else {
        // Whoever asks in a form that is too new learns what there is in the oldest form (KIP-511).
        call.version = 0;
        let own = apis.into_iter().filter(|api| api.api_key == call.api as i16).collect();
        body = body.with_error_code(ResponseError::UnsupportedVersion.code()).with_api_keys(own);
    }
    cx.out.answer(call, &body);
}

fn is_software_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    is_end(name.chars().next()) && is_end(name.chars().last()) && name.chars().all(is_inner)
}

/// What Kafka keeps for itself: the mock has no use for them, but whoever makes one gets one that is told as such.
const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

pub(super) fn metadata(cx: &mut Context<'_>, call: Call, request: &MetadataRequest) {
    // No list asks for all topics; up to version 0 an empty one does so too.
    let asked = request.topics.as_ref().filter(|topics| call.version > 0 || !topics.is_empty());
    let mut topics = Vec::new();
    match asked {
        None => topics.extend(cx.topics.iter().map(|(name, topic)| describe(cx, &call, name, topic))),
        Some(asked) => {
            let mut told = BTreeSet::new();
            for wanted in asked {
                let by_id = wanted.name.is_none();
                let name = match &wanted.name {
                    Some(name) => Some(name.0.to_string()),
                    None => cx.topics.name_of(wanted.topic_id).map(str::to_owned),
                };
                if name.as_ref().is_some_and(|name| !told.insert(name.clone())) {
                    // Asked for by its name and by its id.
                    continue;
                }
                let may_create = cx.settings.auto_create_topics && (call.version < 4 || request.allow_auto_topic_creation);
                if let Some(name) = name.as_deref().filter(|name| may_create && cx.topics.get(name).is_none()) {
                    topics::create(cx, name, cx.settings.default_partitions);
                }
                let found = name.as_deref().and_then(|name| Some((name, cx.topics.get(name)?)));
                topics.push(match found {
                    Some((name, topic)) => describe(cx, &call, name, topic),
                    None => unknown(&call, name.filter(|_| !by_id), wanted.topic_id),
                });
            }
        }
    }
    if request.include_topic_authorized_operations && call.version >= 8 {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = ALL_TOPIC_OPERATIONS;
        }
    }
    answer_metadata(cx, call, topics);
}

/// Says of all that was asked that it cannot be told, with this error.
pub(super) fn refuse_metadata(cx: &mut Context<'_>, call: Call, request: &MetadataRequest, error: ResponseError) {
    let topic = |topic: &MetadataRequestTopic| {
        let name = topic.name.clone().or_else(|| (call.version < 12).then(|| StrBytes::default().into()));
        let body = MetadataResponseTopic::default().with_name(name).with_error_code(error.code());
        if call.version >= 10 { body.with_topic_id(topic.topic_id) } else { body }
    };
    let topics = request.topics.iter().flatten().map(topic).collect();
    // This one is said of the whole answer, which has a place for it from version 13 on.
    if error == ResponseError::RebootstrapRequired && call.version >= 13 {
        let body = MetadataResponse::default().with_error_code(error.code()).with_throttle_time_ms(call.throttle_time_ms);
        return cx.out.answer(call, &body);
    }
    answer_metadata(cx, call, topics);
}

fn answer_metadata(cx: &mut Context<'_>, call: Call, topics: Vec<MetadataResponseTopic>) {
    let brokers = cx.brokers.alive().map(|(id, broker)| {
        let (host, port, rack) = broker.endpoint();
        let body = MetadataResponseBroker::default().with_node_id(id.into()).with_host(host).with_port(port);
        if call.version >= 1 { body.with_rack(rack) } else { body }
    });
    let mut body = MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics);
    if call.version >= 1 {
        body = body.with_controller_id(cx.brokers.controller().unwrap_or(-1).into());
    }
    if call.version >= 2 {
        body = body.with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)));
    }
    if call.version >= 3 {
        body = body.with_throttle_time_ms(call.throttle_time_ms);
    }
    cx.out.answer(call, &body);
}

fn describe(cx: &Context<'_>, call: &Call, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, number)| describe_partition(cx, call, partition, number));
    let body = MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from_string(name.to_owned()).into()))
        .with_is_internal(call.version >= 1 && INTERNAL_TOPICS.contains(&name))
        .with_partitions(partitions.collect());
    if call.version >= 10 { body.with_topic_id(topic.id) } else { body }
}

fn describe_partition(cx: &Context<'_>, call: &Call, partition: &Partition, number: i32) -> MetadataResponsePartition {
    let (alive, offline): (Vec<i32>, Vec<i32>) = partition.replicas.iter().partition(|id| cx.brokers.accepts(**id));
    let ids = |ids: &[i32]| ids.iter().map(|id| (*id).into()).collect();
    let leader = partition.leader;
    let error = if leader.is_none() { ResponseError::LeaderNotAvailable.code() } else { 0 };
    let body = MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(number)
        .with_leader_id(leader.unwrap_or(-1).into())
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&alive));
    let body = if call.version >= 5 { body.with_offline_replicas(ids(&offline)) } else { body };
    if call.version >= 7 { body.with_leader_epoch(partition.leader_epoch) } else { body }
}

fn unknown(call: &Call, name: Option<String>, id: Uuid) -> MetadataResponseTopic {
    let body = MetadataResponseTopic::default();
    match name {
        Some(name) => {
            let error = match topics::is_legal(&name) {
                true => ResponseError::UnknownTopicOrPartition,
                false => ResponseError::InvalidTopicException,
            };
            body.with_name(Some(StrBytes::from_string(name).into())).with_error_code(error.code())
        }
        None => {
            // The name may be left out from version 12 on.
            let name = (call.version < 12).then(|| StrBytes::default().into());
            body.with_name(name).with_topic_id(id).with_error_code(ResponseError::UnknownTopicId.code())
        }
    }
}

pub(super) fn find_coordinator(cx: &mut Context<'_>, call: Call, request: &FindCoordinatorRequest) {
    let find = |key: &str| {
        if !matches!(request.key_type, GROUP | TRANSACTION) {
            return Err(ResponseError::InvalidRequest);
        }
        let id = cx.brokers.coordinator_of(key).ok_or(ResponseError::CoordinatorNotAvailable)?;
        let broker = cx.brokers.get(id).expect("a coordinator is one of the brokers");
        let (host, port, _) = broker.endpoint();
        Ok((id, host, port))
    };
    let mut body = FindCoordinatorResponse::default();
    if call.version >= 1 {
        body = body.with_throttle_time_ms(call.throttle_time_ms);
    }
    if call.version >= 4 {
        let coordinator = |key: &StrBytes| {
            let body = Coordinator::default().with_key(key.clone());
            match find(key) {
                Ok((id, host, port)) => body.with_node_id(id.into()).with_host(host).with_port(port),
                Err(error) => body.with_node_id((-1).into()).with_port(-1).with_error_code(error.code()),
            }
        };
        body = body.with_coordinators(request.coordinator_keys.iter().map(coordinator).collect());
    } else {
        body = match find(&request.key) {
            Ok((id, host, port)) => body.with_node_id(id.into()).with_host(host).with_port(port),
            Err(error) => body.with_node_id((-1).into()).with_port(-1).with_error_code(error.code()),
        };
    }
    cx.out.answer(call, &body);
}

pub(super) fn describe_cluster(cx: &mut Context<'_>, call: Call, _: &DescribeClusterRequest) {
    let brokers = cx.brokers.alive().map(|(id, broker)| {
        let (host, port, rack) = broker.endpoint();
        DescribeClusterBroker::default().with_broker_id(id.into()).with_host(host).with_port(port).with_rack(rack)
    });
    let body = DescribeClusterResponse::default()
        .with_throttle_time_ms(call.throttle_time_ms)
        .with_cluster_id(StrBytes::from_static_str(CLUSTER_ID))
        .with_controller_id(cx.brokers.controller().unwrap_or(-1).into())
        .with_brokers(brokers.collect());
    cx.out.answer(call, &body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Release, Settings, tester::Tester};

    #[test]
    fn an_old_broker_tells_a_new_client_what_it_knows() {
        let mut tester = Tester::new(Settings { release: Release::new(2, 1), ..Settings::default() });
        let conn = tester.connect(1);
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tester"))
            .with_client_software_version(StrBytes::from_static_str("1"));
        tester.send(conn, 4, &request);
        let answer = tester.answer::<ApiVersionsRequest>(conn, 0).expect("in the oldest form");
        assert_eq!(answer.error_code, ResponseError::UnsupportedVersion.code());
        assert_eq!(answer.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect::<Vec<_>>(), [(18, 2)]);
    }
}
