//! The bytes of requests at each version.
//!
//! `kafka_protocol` refuses a field that the version lacks, so each function sets what its version has; [`Request::versions`] has seen to
//! it that nothing that matters is left out.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use indexmap::IndexMap;
use kafka_protocol::{
    messages::{self as kafka, GroupId, RequestHeader, TopicName},
    protocol::{Encodable, HeaderVersion, StrBytes},
};
use zeroize::Zeroize;

use super::{
    Api, CommitPartition, ConsumerHeartbeatRequest, EncodeError, EpochPartition, FetchRequest, Isolation, JoinGroupRequest,
    LeaveGroupRequest, ListOffsetsPartition, MemberRequest, OffsetCommitRequest, Request, SyncGroupRequest, Timestamp,
};
use crate::{
    model::{LeaderEpoch, TopicId, TopicPartition},
    secret::Secret,
};

/// What every consumer says in place of a replica's broker id.
const CONSUMER: kafka::BrokerId = kafka::BrokerId(-1);

/// How long a broker may look for an offset in tiered storage; what it takes for versions that cannot say it.
const REMOTE_LIST_OFFSETS_TIMEOUT_MS: i32 = 30_000;

impl Request {
    /// Encodes the whole frame: length, header, body.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when `version` is none of [`Request::versions`], or a text is longer than the protocol can say.
    pub(crate) fn encode(&self, version: i16, correlation_id: i32, client_id: &str) -> Result<Bytes, EncodeError> {
        let frame = Frame { api: self.api(), version, correlation_id, client_id };
        let versions = self.versions();
        if !versions.contains(&version) {
            return Err(frame.error(format!("it can be said at versions {} to {}", versions.start(), versions.end())));
        }
        match self {
            Self::ApiVersions => frame.encode(&api_versions(version)),
            Self::Metadata { topics } => frame.encode(&metadata(topics.as_deref())),
            Self::MetadataById { topics } => frame.encode(&metadata_by_id(topics)),
            Self::FindCoordinator { group } => frame.encode(&find_coordinator(version, group)),
            Self::JoinGroup(join) => frame.encode(&join_group(version, join)),
            Self::SyncGroup(sync) => frame.encode(&sync_group(version, sync)),
            Self::Heartbeat(member) => frame.encode(&heartbeat(version, member)),
            Self::ConsumerGroupHeartbeat(beat) => frame.encode(&consumer_group_heartbeat(beat)),
            Self::LeaveGroup(leave) => frame.encode(&leave_group(version, leave)),
            Self::OffsetCommit(commit) => frame.encode(&offset_commit(version, commit)),
            Self::OffsetFetch { group, partitions } => frame.encode(&offset_fetch(version, group, partitions)),
            Self::GroupOffsets { group } => frame.encode(&group_offsets(version, group)),
            Self::ListOffsets { isolation, partitions } => frame.encode(&list_offsets(version, *isolation, partitions)),
            Self::Fetch(fetch_request) => frame.encode(&fetch(version, fetch_request)),
            Self::OffsetForLeaderEpoch { partitions } => frame.encode(&offset_for_leader_epoch(partitions)),
            Self::SaslHandshake { mechanism } => frame.encode(&sasl_handshake(mechanism)),
            Self::SaslAuthenticate { message } => frame.encode_secret(&sasl_authenticate(message), message.expose().len()),
        }
    }
}

struct Frame<'a> {
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &'a str,
}

impl Frame<'_> {
    fn encode<T: Encodable + HeaderVersion>(&self, body: &T) -> Result<Bytes, EncodeError> {
        self.encode_into(BytesMut::new(), body).map(BytesMut::freeze)
    }

    /// Encodes a body with a secret of `length` bytes, and leaves no copy of it behind.
    fn encode_secret<T: Encodable + HeaderVersion>(&self, body: &T, length: usize) -> Result<Bytes, EncodeError> {
        /// What all other fields take, but for the client's name.
        const BESIDE: usize = 64;

        // With room enough it never moves.
        let room = BytesMut::with_capacity(length + self.client_id.len() + BESIDE);
        let mut frame = self.encode_into(room, body)?;
        let secret = Secret::new(&frame[..]);
        frame.zeroize();
        Ok(secret.expose().clone())
    }

    fn encode_into<T: Encodable + HeaderVersion>(&self, mut frame: BytesMut, body: &T) -> Result<BytesMut, EncodeError> {
        let header = RequestHeader::default()
            .with_request_api_key(self.api as i16)
            .with_request_api_version(self.version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text(self.client_id)));
        frame.put_i32(0); // the length, once it is known
        header
            .encode(&mut frame, T::header_version(self.version))
            .and_then(|()| body.encode(&mut frame, self.version))
            .map_err(|error| self.error(error.to_string()))?;
        let length = i32::try_from(frame.len() - 4).map_err(|_| self.error("longer than a frame can be".into()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame)
    }

    fn error(&self, what: String) -> EncodeError {
        EncodeError { api: self.api, version: self.version, what }
    }
}

fn api_versions(version: i16) -> kafka::ApiVersionsRequest {
    let request = kafka::ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request
        .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

fn metadata(topics: Option<&[Arc<str>]>) -> kafka::MetadataRequest {
    let topic = |name: &Arc<str>| kafka::metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let by_name = |topics: &[Arc<str>]| {
        let mut topics: Vec<&Arc<str>> = topics.iter().collect();
        topics.sort();
        topics.into_iter().map(topic).collect()
    };
    // Null means all topics; an empty list means none.
    kafka::MetadataRequest::default().with_topics(topics.map(by_name)).with_allow_auto_topic_creation(false)
}

fn metadata_by_id(topics: &[TopicId]) -> kafka::MetadataRequest {
    let topic = |id: &TopicId| kafka::metadata_request::MetadataRequestTopic::default().with_name(None).with_topic_id(uuid(*id));
    let topics = topics.iter().map(topic).collect();
    kafka::MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false)
}

fn find_coordinator(version: i16, group: &str) -> kafka::FindCoordinatorRequest {
    // Key type 0, the default, is a group.
    let request = kafka::FindCoordinatorRequest::default();
    if version >= 4 { request.with_coordinator_keys(vec![text(group)]) } else { request.with_key(text(group)) }
}

fn join_group(version: i16, join: &JoinGroupRequest) -> kafka::JoinGroupRequest {
    let protocol = |(name, metadata): &(Arc<str>, Bytes)| {
        kafka::join_group_request::JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
    };
    let mut request = kafka::JoinGroupRequest::default()
        .with_group_id(group_id(&join.group))
        .with_member_id(text(&join.member_id))
        .with_session_timeout_ms(join.session_timeout_ms)
        .with_rebalance_timeout_ms(join.rebalance_timeout_ms)
        .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
        .with_protocols(join.protocols.iter().map(protocol).collect());
    if version >= 5 {
        request = request.with_group_instance_id(optional_text(&join.instance_id));
    }
    if version >= 8 {
        request = request.with_reason(join.reason.as_deref().map(text));
    }
    request
}

fn sync_group(version: i16, sync: &SyncGroupRequest) -> kafka::SyncGroupRequest {
    let mut assignments: Vec<_> = sync.assignments.iter().collect();
    assignments.sort();
    let assignment = |(member_id, assignment): &(Arc<str>, Bytes)| {
        kafka::sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(assignment.clone())
    };
    let mut request = kafka::SyncGroupRequest::default()
        .with_group_id(group_id(&sync.member.group))
        .with_generation_id(sync.member.generation.0)
        .with_member_id(text(&sync.member.member_id))
        .with_assignments(assignments.into_iter().map(assignment).collect());
    if version >= 3 {
        request = request.with_group_instance_id(optional_text(&sync.member.instance_id));
    }
    if version >= 5 {
        request = request
            .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(&sync.protocol)));
    }
    request
}

fn heartbeat(version: i16, member: &MemberRequest) -> kafka::HeartbeatRequest {
    let request = kafka::HeartbeatRequest::default()
        .with_group_id(group_id(&member.group))
        .with_generation_id(member.generation.0)
        .with_member_id(text(&member.member_id));
    if version >= 3 { request.with_group_instance_id(optional_text(&member.instance_id)) } else { request }
}

fn consumer_group_heartbeat(beat: &ConsumerHeartbeatRequest) -> kafka::ConsumerGroupHeartbeatRequest {
    use kafka::consumer_group_heartbeat_request::TopicPartitions;

    let topic = |(id, partitions): &(TopicId, Vec<i32>)| {
        TopicPartitions::default().with_topic_id(uuid(*id)).with_partitions(partitions.clone())
    };
    kafka::ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id(&beat.member.group))
        .with_member_id(text(&beat.member.member_id))
        .with_member_epoch(beat.member.generation.0)
        .with_instance_id(optional_text(&beat.member.instance_id))
        .with_rack_id(optional_text(&beat.rack))
        .with_rebalance_timeout_ms(beat.rebalance_timeout_ms.unwrap_or(-1))
        .with_subscribed_topic_names(beat.topics.as_ref().map(|topics| topics.iter().map(|name| topic_name(name)).collect()))
        .with_subscribed_topic_regex(optional_text(&beat.pattern))
        .with_server_assignor(optional_text(&beat.assignor))
        .with_topic_partitions(beat.owned.as_ref().map(|owned| owned.iter().map(topic).collect()))
}

fn leave_group(version: i16, leave: &LeaveGroupRequest) -> kafka::LeaveGroupRequest {
    let request = kafka::LeaveGroupRequest::default().with_group_id(group_id(&leave.group));
    if version < 3 {
        return request.with_member_id(text(&leave.member_id));
    }
    let mut member = kafka::leave_group_request::MemberIdentity::default()
        .with_member_id(text(&leave.member_id))
        .with_group_instance_id(optional_text(&leave.instance_id));
    if version >= 5 {
        member = member.with_reason(leave.reason.as_deref().map(text));
    }
    request.with_members(vec![member])
}

fn offset_commit(version: i16, commit: &OffsetCommitRequest) -> kafka::OffsetCommitRequest {
    use kafka::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};

    let partition = |commit: &&CommitPartition| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(commit.partition.partition())
            .with_committed_offset(commit.offset.0);
        if version >= 6 { partition.with_committed_leader_epoch(epoch(commit.leader_epoch)) } else { partition }
    };
    let topics = by_topic(
        &commit.partitions,
        |commit| &commit.partition,
        |name, partitions| {
            OffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions.iter().map(partition).collect())
        },
    );
    // The retention time (2 to 4) stays -1: the broker's setting.
    let request = kafka::OffsetCommitRequest::default()
        .with_group_id(group_id(&commit.member.group))
        .with_generation_id_or_member_epoch(commit.member.generation.0)
        .with_member_id(text(&commit.member.member_id))
        .with_topics(topics);
    if version >= 7 { request.with_group_instance_id(optional_text(&commit.member.instance_id)) } else { request }
}

fn offset_fetch(version: i16, group: &str, partitions: &[TopicPartition]) -> kafka::OffsetFetchRequest {
    use kafka::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};

    fn numbers(partitions: &[&TopicPartition]) -> Vec<i32> {
        partitions.iter().map(|partition| partition.partition()).collect()
    }

    let request = kafka::OffsetFetchRequest::default();
    if version >= 8 {
        let topics = by_topic(
            partitions,
            |partition| partition,
            |name, partitions| OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(numbers(partitions)),
        );
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(Some(topics));
        return request.with_groups(vec![group]).with_require_stable(true);
    }
    let topics = by_topic(
        partitions,
        |partition| partition,
        |name, partitions| OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(numbers(partitions)),
    );
    request.with_group_id(group_id(group)).with_topics(Some(topics)).with_require_stable(version >= 7)
}

fn group_offsets(version: i16, group: &str) -> kafka::OffsetFetchRequest {
    // No topics, which is not the same as an empty list, are all of them.
    let request = kafka::OffsetFetchRequest::default();
    if version >= 8 {
        let group =
            kafka::offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
        return request.with_groups(vec![group]);
    }
    request.with_group_id(group_id(group)).with_topics(None)
}

fn list_offsets(version: i16, isolation: Isolation, partitions: &[ListOffsetsPartition]) -> kafka::ListOffsetsRequest {
    use kafka::list_offsets_request::{ListOffsetsPartition as Partition, ListOffsetsTopic};

    let partition = |asked: &&ListOffsetsPartition| {
        let partition =
            Partition::default().with_partition_index(asked.partition.partition()).with_timestamp(match asked.timestamp {
                Timestamp::Latest => -1,
                Timestamp::Earliest => -2,
                Timestamp::Newest => -3,
                Timestamp::AtMs(timestamp_ms) => timestamp_ms,
            });
        if version >= 4 { partition.with_current_leader_epoch(epoch(asked.current_leader_epoch)) } else { partition }
    };
    let topics = by_topic(
        partitions,
        |asked| &asked.partition,
        |name, partitions| {
            ListOffsetsTopic::default().with_name(name).with_partitions(partitions.iter().map(partition).collect())
        },
    );
    let mut request = kafka::ListOffsetsRequest::default().with_replica_id(CONSUMER).with_topics(topics);
    if version >= 2 {
        request = request.with_isolation_level(isolation_level(isolation));
    }
    if version >= 10 {
        request = request.with_timeout_ms(REMOTE_LIST_OFFSETS_TIMEOUT_MS);
    }
    request
}

fn fetch(version: i16, fetch: &FetchRequest) -> kafka::FetchRequest {
    use kafka::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

    let partition = |asked: &super::FetchPartition| {
        let mut partition = FetchPartition::default()
            .with_partition(asked.partition.partition())
            .with_fetch_offset(asked.offset.0)
            .with_partition_max_bytes(asked.max_bytes);
        if version >= 9 {
            partition = partition.with_current_leader_epoch(epoch(asked.current_leader_epoch));
        }
        if version >= 12 {
            partition = partition.with_last_fetched_epoch(epoch(asked.last_fetched_epoch));
        }
        partition
    };
    let topics = in_order(version, fetch.partitions.iter().map(|asked| (&asked.partition, asked.topic_id, partition(asked))));
    let topics = topics
        .map(|(name, id, partitions)| FetchTopic::default().with_topic(name).with_topic_id(uuid(id)).with_partitions(partitions));
    let forgotten = fetch.session.forgotten.iter().map(|of| (&of.partition, of.topic_id, of.partition.partition()));
    let forgotten = in_order(version, forgotten).map(|(name, id, partitions)| {
        ForgottenTopic::default().with_topic(name).with_topic_id(uuid(id)).with_partitions(partitions)
    });
    // The replica's state (from 15 on in place of its id) is by default that of a consumer.
    let mut request = kafka::FetchRequest::default()
        .with_replica_id(CONSUMER)
        .with_max_wait_ms(fetch.max_wait_ms)
        .with_min_bytes(fetch.min_bytes)
        .with_max_bytes(fetch.max_bytes)
        .with_isolation_level(isolation_level(fetch.isolation))
        .with_topics(topics.collect());
    if version >= 7 {
        request = request
            .with_session_id(fetch.session.id)
            .with_session_epoch(fetch.session.epoch)
            .with_forgotten_topics_data(forgotten.collect());
    }
    if version >= 11 {
        request = request.with_rack_id(fetch.rack.as_deref().map(text).unwrap_or_default());
    }
    request
}

fn offset_for_leader_epoch(partitions: &[EpochPartition]) -> kafka::OffsetForLeaderEpochRequest {
    use kafka::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};

    let partition = |asked: &&EpochPartition| {
        OffsetForLeaderPartition::default()
            .with_partition(asked.partition.partition())
            .with_current_leader_epoch(epoch(asked.current_leader_epoch))
            .with_leader_epoch(asked.leader_epoch.0)
    };
    let topics = by_topic(
        partitions,
        |asked| &asked.partition,
        |name, partitions| {
            OffsetForLeaderTopic::default().with_topic(name).with_partitions(partitions.iter().map(partition).collect())
        },
    );
    kafka::OffsetForLeaderEpochRequest::default().with_replica_id(CONSUMER).with_topics(topics)
}

fn sasl_handshake(mechanism: &'static str) -> kafka::SaslHandshakeRequest {
    kafka::SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism))
}

fn sasl_authenticate(message: &Secret) -> kafka::SaslAuthenticateRequest {
    kafka::SaslAuthenticateRequest::default().with_auth_bytes(message.expose().clone())
}

const PROTOCOL_TYPE: &str = "consumer";

/// Groups what is asked by topic, topics and partitions in order: the same question is the same bytes.
fn by_topic<'a, T, U>(
    items: &'a [T],
    partition: impl Fn(&T) -> &TopicPartition,
    topic: impl Fn(TopicName, &[&'a T]) -> U,
) -> Vec<U> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by(|a, b| partition(a).cmp(partition(b)));
    let same_topic = |a: &&T, b: &&T| partition(a).topic() == partition(b).topic();
    sorted.chunk_by(same_topic).map(|items| topic(topic_name(partition(items[0]).topic()), items)).collect()
}

/// Groups what is asked by topic, each by its name, or by its id where the version has it. Not sorted: a broker fills its answer in the order
/// asked, and who comes last may get nothing. The order is the asker's decision.
fn in_order<'a, T>(
    version: i16,
    items: impl Iterator<Item = (&'a TopicPartition, Option<TopicId>, T)>,
) -> impl Iterator<Item = (TopicName, TopicId, Vec<T>)> {
    let mut topics: IndexMap<(&str, Option<TopicId>), Vec<T>> = IndexMap::new();
    for (partition, id, item) in items {
        topics.entry((partition.topic(), id.filter(|_| version >= 13))).or_default().push(item);
    }
    topics.into_iter().map(|((name, id), items)| match id {
        Some(id) => (TopicName::default(), id, items),
        None => (topic_name(name), TopicId([0; 16]), items),
    })
}

fn uuid<T: TryFrom<Vec<u8>, Error: std::fmt::Debug>>(id: TopicId) -> T {
    id.0.to_vec().try_into().expect("an id has sixteen bytes")
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn optional_text(optional: &Option<Arc<str>>) -> Option<StrBytes> {
    optional.as_deref().map(text)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

fn epoch(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, |epoch| epoch.0)
}

fn isolation_level(isolation: Isolation) -> i8 {
    match isolation {
        Isolation::ReadUncommitted => 0,
        Isolation::ReadCommitted => 1,
    }
}
