//! Topics as their administrators ask for them.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
        DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
        create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
        create_topics_request::CreatableTopic,
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
        delete_topics_response::DeletableTopicResult,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::{Context, check_name, place};
use crate::kafka::{broker::Brokers, call::Call};

/// How Kafka says that a config is the topic's own.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;

/// What a topic can be configured with; whatever else a request says is a slip of the pen.
const TOPIC_CONFIGS: &[&str] = &[
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// How many partitions there can be, of all topics, for a request to be given more: each takes memory, unlike the number that asks for it.
const PARTITIONS_MAX: usize = 100_000;

type Refusal = (ResponseError, String);

pub(crate) fn create_topics(cx: &mut Context<'_>, call: Call, request: CreateTopicsRequest) {
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> = request.topics.iter().map(|topic| &topic.name).filter(|name| !seen.insert(*name)).collect();
    let mut results = Vec::with_capacity(request.topics.len());
    let mut told = BTreeSet::new();
    for asked in request.topics.iter().filter(|asked| !repeated.contains(&asked.name) || told.insert(&asked.name)) {
        let body = CreatableTopicResult::default().with_name(asked.name.clone());
        let replicas = if repeated.contains(&asked.name) {
            Err((ResponseError::InvalidRequest, "Duplicate topic name.".to_owned()))
        } else {
            check_name(cx.topics, &asked.name)
                .and_then(|()| replicas_of(cx, asked))
                .and_then(|replicas| check_configs(asked).map(|()| replicas))
        };
        results.push(match replicas {
            Ok(replicas) => create(cx, &call, body, asked, &replicas, request.validate_only),
            Err((error, why)) => {
                let body = body.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(why)));
                if call.version >= 5 { body.with_num_partitions(-1).with_replication_factor(-1) } else { body }
            }
        });
    }
    let body = CreateTopicsResponse::default().with_throttle_time_ms(call.throttle_time_ms).with_topics(results);
    cx.out.answer(call, &body);
}

fn replicas_of(cx: &Context<'_>, asked: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if !asked.assignments.is_empty() {
        return assigned(cx.brokers, asked);
    }
    let count = if asked.num_partitions == -1 { cx.settings.default_partitions } else { asked.num_partitions };
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or((ResponseError::InvalidPartitions, "Number of partitions must be larger than 0.".to_owned()))?;
    check_partitions(cx, count)?;
    let brokers = cx.brokers.ids().count();
    let factor = match asked.replication_factor {
        -1 => None,
        factor => Some(usize::try_from(factor).ok().filter(|factor| (1..=brokers).contains(factor)).ok_or_else(|| {
            let why = format!("Unable to replicate the partition {factor} time(s): {brokers} broker(s) are registered.");
            (ResponseError::InvalidReplicationFactor, why)
        })?),
    };
    Ok(place(cx.brokers, 0..count, factor))
}

fn check_partitions(cx: &Context<'_>, more: usize) -> Result<(), Refusal> {
    let there_are = cx.topics.partitions();
    if more <= PARTITIONS_MAX.saturating_sub(there_are) {
        return Ok(());
    }
    let why = format!("This cluster has {there_are} partitions, and takes {PARTITIONS_MAX} at most, not {more} more.");
    Err((ResponseError::InvalidPartitions, why))
}

/// Reads which brokers are to have which partition, as the request says it.
fn assigned(brokers: &Brokers, asked: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let why = "A manual partition assignment leaves partitions and replication factor at -1.";
        return Err((ResponseError::InvalidRequest, why.to_owned()));
    }
    let by_number: BTreeMap<i32, &[BrokerId]> =
        asked.assignments.iter().map(|assignment| (assignment.partition_index, &assignment.broker_ids[..])).collect();
    let is_whole = by_number.keys().copied().eq((0..).take(asked.assignments.len()));
    if !is_whole {
        let why = "Partitions should be a consecutive 0-based integer sequence.";
        return Err((ResponseError::InvalidReplicaAssignment, why.to_owned()));
    }
    by_number.values().map(|ids| check_replicas(brokers, ids)).collect()
}

fn check_replicas(brokers: &Brokers, ids: &[BrokerId]) -> Result<Vec<i32>, Refusal> {
    let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    if ids.is_empty() || distinct.len() < ids.len() || ids.iter().any(|id| brokers.get(*id).is_none()) {
        let why = format!("The brokers {ids:?} cannot be the replicas of a partition.");
        return Err((ResponseError::InvalidReplicaAssignment, why));
    }
    Ok(ids)
}

fn check_configs(asked: &CreatableTopic) -> Result<(), Refusal> {
    match asked.configs.iter().find(|config| !TOPIC_CONFIGS.contains(&config.name.as_str())) {
        Some(config) => Err((ResponseError::InvalidConfig, format!("Unknown topic config name: {}", &*config.name))),
        None => Ok(()),
    }
}

fn create(
    cx: &mut Context<'_>,
    call: &Call,
    body: CreatableTopicResult,
    asked: &CreatableTopic,
    replicas: &[Vec<i32>],
    is_only_validated: bool,
) -> CreatableTopicResult {
    let config = |config: &kafka_protocol::messages::create_topics_request::CreatableTopicConfig| {
        Some((config.name.to_string(), config.value.as_ref()?.to_string()))
    };
    let configs: BTreeMap<_, _> = asked.configs.iter().filter_map(config).collect();
    let told = configs.iter().map(|(name, value)| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
            .with_config_source(DYNAMIC_TOPIC_CONFIG)
    });
    let told = told.collect();
    // Kafka draws an id even for a topic that it does not create.
    let id = if is_only_validated {
        cx.random.uuid()
    } else {
        cx.topics.create(&asked.name, replicas, configs, cx.brokers, cx.random)
    };
    let body = if call.version >= 7 { body.with_topic_id(id) } else { body };
    if call.version < 5 {
        return body;
    }
    let partitions = i32::try_from(replicas.len()).expect("as many as the request asked for");
    let factor = i16::try_from(replicas.first().map_or(0, Vec::len)).expect("no more than there are brokers");
    body.with_num_partitions(partitions).with_replication_factor(factor).with_configs(Some(told))
}

/// Deletes topics, and says which ones are gone.
pub(crate) fn delete_topics(cx: &mut Context<'_>, call: Call, request: DeleteTopicsRequest) -> Vec<String> {
    let mut deleted = Vec::new();
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let by_either = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let results = by_name.chain(by_either).map(|(name, id)| {
        if name.is_some() != id.is_nil() {
            // Both, or neither.
            let body = DeletableTopicResult::default().with_name(name).with_error_code(ResponseError::InvalidRequest.code());
            return if call.version >= 6 { body.with_topic_id(id) } else { body };
        }
        let known = name.clone().or_else(|| Some(TopicName(StrBytes::from_string(cx.topics.name_of(id)?.to_owned()))));
        let removed = known.as_ref().and_then(|name| cx.topics.remove(name));
        let (error, id) = match &removed {
            Some(topic) => (0, topic.id),
            None if name.is_some() => (ResponseError::UnknownTopicOrPartition.code(), id),
            None => (ResponseError::UnknownTopicId.code(), id),
        };
        if let Some(name) = known.as_ref().filter(|_| removed.is_some()) {
            deleted.push(name.to_string());
        }
        let body = DeletableTopicResult::default().with_name(known).with_error_code(error);
        if call.version >= 6 { body.with_topic_id(id) } else { body }
    });
    let results = results.collect();
    cx.out.answer(
        call.clone(),
        &DeleteTopicsResponse::default().with_throttle_time_ms(call.throttle_time_ms).with_responses(results),
    );
    deleted
}

pub(crate) fn create_partitions(cx: &mut Context<'_>, call: Call, request: CreatePartitionsRequest) {
    let mut results = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let body = CreatePartitionsTopicResult::default().with_name(asked.name.clone());
        results.push(match more_replicas(cx, asked) {
            Ok(replicas) => {
                if let Some(topic) = cx.topics.get_mut(&asked.name).filter(|_| !request.validate_only) {
                    topic.grow(&replicas, cx.brokers);
                }
                body
            }
            Err((error, why)) => body.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(why))),
        });
    }
    let body = CreatePartitionsResponse::default().with_throttle_time_ms(call.throttle_time_ms).with_results(results);
    cx.out.answer(call, &body);
}

fn more_replicas(cx: &Context<'_>, asked: &CreatePartitionsTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    let topic = cx.topics.get(&asked.name);
    let topic = topic.ok_or((ResponseError::UnknownTopicOrPartition, "This server does not host this topic.".to_owned()))?;
    let had = topic.partitions.len();
    let count = usize::try_from(asked.count).ok().filter(|count| *count > had);
    let count = count.ok_or_else(|| {
        let why = format!("The topic currently has {had} partition(s); {} is not more.", asked.count);
        (ResponseError::InvalidPartitions, why)
    })?;
    check_partitions(cx, count - had)?;
    let Some(assignments) = &asked.assignments else {
        let factor = topic.partitions.first().map(|partition| partition.replicas.len());
        return Ok(place(cx.brokers, had..count, factor));
    };
    if assignments.len() != count - had {
        let why = format!("{} assignment(s) do not fit {} new partition(s).", assignments.len(), count - had);
        return Err((ResponseError::InvalidReplicaAssignment, why));
    }
    assignments.iter().map(|assignment| check_replicas(cx.brokers, &assignment.broker_ids)).collect()
}
