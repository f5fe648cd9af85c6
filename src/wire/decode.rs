//! The bytes of answers at each version, and what they say. The `-1`s of the protocol end here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    AbortedTransaction, Api, ApiRange, ApiVersionsResponse, Broker, ConsumerHeartbeatResponse, CoordinatorResponse, EpochEnd,
    ErrorCode, FetchResponse, FetchedOffset, FetchedPartition, JoinGroupResponse, JoinedMember, LeaveGroupResponse, ListedOffset,
    Malformed, MetadataPartition, MetadataResponse, MetadataTopic, OffsetFetchResponse, Response, SaslAuthenticateResponse,
    SaslHandshakeResponse, SyncGroupResponse, TopicRef, consumer_protocol::NAMED_MAX, cursor::Cursor,
};
use crate::model::{BrokerId, Generation, LeaderEpoch, Offset, Position, TopicId, TopicPartition};

/// What a broker may say in its own words about an error.
const MESSAGE_CHARS_MAX: usize = 1000;

/// How long a client is made to wait at most: a quota's window is shorter, unless somebody has said so.
const THROTTLE_MAX: Duration = Duration::from_secs(30);

/// The longest name of the DNS has 253 characters.
const HOST_LEN_MAX: usize = 255;

impl Response {
    /// Decodes the answer to a request of `api` at `version` from what follows the frame's correlation id.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the bytes do not make sense as a whole.
    pub(crate) fn decode(api: Api, version: i16, body: Bytes) -> Result<Self, Malformed> {
        let mut cursor = cursor(api, version, body);
        let c = &mut cursor;
        if !api.versions().contains(&version) {
            return Err(c.malformed("a version that ottla does not speak"));
        }
        header(c)?;
        let response = match api {
            Api::ApiVersions => Self::ApiVersions(api_versions(c)?),
            Api::Metadata => Self::Metadata(metadata(c)?),
            Api::FindCoordinator => Self::FindCoordinator(find_coordinator(c)?),
            Api::JoinGroup => Self::JoinGroup(join_group(c)?),
            Api::SyncGroup => Self::SyncGroup(sync_group(c)?),
            Api::Heartbeat => Self::Heartbeat(heartbeat(c)?),
            Api::ConsumerGroupHeartbeat => Self::ConsumerGroupHeartbeat(consumer_group_heartbeat(c)?),
            Api::LeaveGroup => Self::LeaveGroup(leave_group(c)?),
            Api::OffsetCommit => Self::OffsetCommit(offset_commit(c)?),
            Api::OffsetFetch => Self::OffsetFetch(offset_fetch(c)?),
            Api::ListOffsets => Self::ListOffsets(list_offsets(c)?),
            Api::Fetch => Self::Fetch(fetch(c)?),
            Api::OffsetForLeaderEpoch => Self::OffsetForLeaderEpoch(offset_for_leader_epoch(c)?),
            Api::SaslHandshake => Self::SaslHandshake(sasl_handshake(c)?),
            Api::SaslAuthenticate => Self::SaslAuthenticate(sasl_authenticate(c)?),
        };
        cursor.finish()?;
        Ok(response)
    }

    /// Reads from an answer, as [`decode`](Self::decode), for how long the broker does not listen to the connection after it.
    pub(crate) fn throttle(api: Api, version: i16, body: &Bytes) -> Duration {
        if !api.throttles(version) {
            return Duration::ZERO;
        }
        let c = &mut cursor(api, version, body.clone());
        let mut read = || {
            header(c)?;
            // The handshake's answer has its list first.
            if api == Api::ApiVersions {
                api_ranges(c)?;
            }
            throttle(c)
        };
        // What is malformed is said by who decodes it.
        read().unwrap_or_default()
    }
}

fn cursor(api: Api, version: i16, body: Bytes) -> Cursor {
    // A broker that does not know the version asked says so at version 0, the one that every client can read.
    let refused = api == Api::ApiVersions && body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
    Cursor::new(api, if refused { 0 } else { version }, body)
}

/// Passes over what is left of the header. That of ApiVersions has no tagged fields at any version, so that every client can read it.
fn header(c: &mut Cursor) -> Result<(), Malformed> {
    if c.api() == Api::ApiVersions { Ok(()) } else { c.skip_tagged_fields() }
}

fn api_ranges(c: &mut Cursor) -> Result<(ErrorCode, Vec<ApiRange>), Malformed> {
    let error = error_code(c)?;
    let apis = c.array(|c| {
        let range = ApiRange { key: c.i16()?, min: c.i16()?, max: c.i16()? };
        c.skip_tagged_fields()?;
        Ok(range)
    })?;
    Ok((error, apis))
}

fn api_versions(c: &mut Cursor) -> Result<ApiVersionsResponse, Malformed> {
    let (error, apis) = api_ranges(c)?;
    skip_throttle(c, 1)?;
    c.skip_tagged_fields()?;
    Ok(ApiVersionsResponse { error, apis })
}

fn metadata(c: &mut Cursor) -> Result<MetadataResponse, Malformed> {
    skip_throttle(c, 3)?;
    let brokers = c.array(broker)?;
    let cluster_id = c.nullable_string()?;
    let _controller_id = c.i32()?;
    let topics = c.array(metadata_topic)?;
    if (8..=10).contains(&c.version()) {
        let _cluster_authorized_operations = c.i32()?;
    }
    let error = if c.version() >= 13 { error_code(c)? } else { ErrorCode::NONE };
    c.skip_tagged_fields()?;
    Ok(MetadataResponse { error, brokers, cluster_id, topics })
}

fn metadata_topic(c: &mut Cursor) -> Result<MetadataTopic, Malformed> {
    let error = error_code(c)?;
    let name = if c.version() >= 12 { c.nullable_string()? } else { Some(c.string()?) };
    let id = if c.version() >= 10 { Some(c.fixed()?).filter(|id| *id != [0; 16]).map(TopicId) } else { None };
    let is_internal = c.bool()?;
    let partitions = c.array(metadata_partition)?;
    if c.version() >= 8 {
        let _topic_authorized_operations = c.i32()?;
    }
    c.skip_tagged_fields()?;
    Ok(MetadataTopic { error, name, id, is_internal, partitions })
}

fn metadata_partition(c: &mut Cursor) -> Result<MetadataPartition, Malformed> {
    let error = error_code(c)?;
    let partition = partition_number(c)?;
    let leader = broker_id(c)?;
    let leader_epoch = leader_epoch(c, 7)?;
    let replicas = c.numbers(BrokerId)?;
    let _in_sync_replicas = c.numbers(drop)?;
    if c.version() >= 5 {
        let _offline_replicas = c.numbers(drop)?;
    }
    c.skip_tagged_fields()?;
    Ok(MetadataPartition { error, partition, leader, leader_epoch, replicas })
}

fn find_coordinator(c: &mut Cursor) -> Result<CoordinatorResponse, Malformed> {
    skip_throttle(c, 1)?;
    if c.version() >= 4 {
        let coordinators = c.array(|c| {
            let _key = c.string()?;
            let (id, host, port) = (c.i32()?, c.string()?, c.i32()?);
            let (error, message) = (error_code(c)?, c.nullable_string()?);
            let found = coordinator(c, error, message, id, host, port)?;
            c.skip_tagged_fields()?;
            Ok(found)
        })?;
        c.skip_tagged_fields()?;
        // One group was asked for.
        return coordinators.into_iter().next().ok_or_else(|| c.malformed("no coordinator and no error"));
    }
    let error = error_code(c)?;
    let message = if c.version() >= 1 { c.nullable_string()? } else { None };
    let (id, host, port) = (c.i32()?, c.string()?, c.i32()?);
    let found = coordinator(c, error, message, id, host, port)?;
    c.skip_tagged_fields()?;
    Ok(found)
}

fn coordinator(
    c: &Cursor,
    error: ErrorCode,
    message: Option<Arc<str>>,
    id: i32,
    host: Arc<str>,
    port: i32,
) -> Result<CoordinatorResponse, Malformed> {
    // With an error the address is made of fillers.
    let coordinator = if error == ErrorCode::NONE { Some(address(c, id, host, port, None)?) } else { None };
    // Enough to be of use in an error, whatever a broker has to say; and nothing that a terminal would obey.
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    let message = message.map(|message| message.chars().take(MESSAGE_CHARS_MAX).map(shown).collect());
    Ok(CoordinatorResponse { error, message, coordinator })
}

fn join_group(c: &mut Cursor) -> Result<JoinGroupResponse, Malformed> {
    skip_throttle(c, 2)?;
    let error = error_code(c)?;
    let generation = Generation(c.i32()?);
    let (protocol_type, protocol) =
        if c.version() >= 7 { (c.nullable_string()?, c.nullable_string()?) } else { (None, Some(c.string()?)) };
    let leader = c.string()?;
    let skip_assignment = if c.version() >= 9 { c.bool()? } else { false };
    let member_id = c.string()?;
    let members = c.array(|c| {
        let member_id = c.string()?;
        let instance_id = if c.version() >= 5 { c.nullable_string()? } else { None };
        let metadata = c.bytes()?;
        c.skip_tagged_fields()?;
        Ok(JoinedMember { member_id, instance_id, metadata })
    })?;
    c.skip_tagged_fields()?;
    Ok(JoinGroupResponse { error, generation, protocol_type, protocol, leader, skip_assignment, member_id, members })
}

fn consumer_group_heartbeat(c: &mut Cursor) -> Result<ConsumerHeartbeatResponse, Malformed> {
    skip_throttle(c, 0)?;
    let (error, message) = (error_code(c)?, c.nullable_string()?);
    let _member_id = c.nullable_string()?;
    let epoch = Generation(c.i32()?);
    let heartbeat_interval = u64::try_from(c.i32()?).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    // A structure that may be null has a byte before it.
    let assignment = match c.fixed()? {
        [0xff] => None,
        [1] => {
            let topics = c.array(|c| {
                let (id, partitions) = (TopicId(c.fixed()?), c.array(partition_number)?);
                c.skip_tagged_fields()?;
                Ok((id, partitions))
            })?;
            c.skip_tagged_fields()?;
            if topics.iter().map(|(_, partitions): &(_, Vec<_>)| partitions.len()).sum::<usize>() > NAMED_MAX {
                return Err(c.malformed("more than 100000 partitions"));
            }
            Some(topics)
        }
        _ => return Err(c.malformed("neither an assignment nor none")),
    };
    c.skip_tagged_fields()?;
    Ok(ConsumerHeartbeatResponse { error, message, epoch, heartbeat_interval, assignment })
}

fn sync_group(c: &mut Cursor) -> Result<SyncGroupResponse, Malformed> {
    skip_throttle(c, 1)?;
    let error = error_code(c)?;
    let (protocol_type, protocol) = if c.version() >= 5 { (c.nullable_string()?, c.nullable_string()?) } else { (None, None) };
    let assignment = c.bytes()?;
    c.skip_tagged_fields()?;
    Ok(SyncGroupResponse { error, protocol_type, protocol, assignment })
}

fn heartbeat(c: &mut Cursor) -> Result<ErrorCode, Malformed> {
    skip_throttle(c, 1)?;
    let error = error_code(c)?;
    c.skip_tagged_fields()?;
    Ok(error)
}

fn leave_group(c: &mut Cursor) -> Result<LeaveGroupResponse, Malformed> {
    skip_throttle(c, 1)?;
    let error = error_code(c)?;
    let members = if c.version() < 3 {
        Vec::new()
    } else {
        c.array(|c| {
            let member_id = c.string()?;
            let _instance_id = c.nullable_string()?;
            let error = error_code(c)?;
            c.skip_tagged_fields()?;
            Ok((member_id, error))
        })?
    };
    c.skip_tagged_fields()?;
    Ok(LeaveGroupResponse { error, members })
}

fn offset_commit(c: &mut Cursor) -> Result<Vec<(TopicPartition, ErrorCode)>, Malformed> {
    skip_throttle(c, 3)?;
    let partitions = topics(c, |c| Ok((partition_number(c)?, error_code(c)?)))?;
    c.skip_tagged_fields()?;
    Ok(partitions)
}

fn offset_fetch(c: &mut Cursor) -> Result<OffsetFetchResponse, Malformed> {
    skip_throttle(c, 3)?;
    if c.version() >= 8 {
        let groups = c.array(|c| {
            let _group_id = c.string()?;
            let partitions = topics(c, fetched_offset)?;
            let error = error_code(c)?;
            c.skip_tagged_fields()?;
            Ok(OffsetFetchResponse { error, partitions })
        })?;
        c.skip_tagged_fields()?;
        // One group was asked for.
        return groups.into_iter().next().ok_or_else(|| c.malformed("no group"));
    }
    let partitions = topics(c, fetched_offset)?;
    let error = if c.version() >= 2 { error_code(c)? } else { ErrorCode::NONE };
    c.skip_tagged_fields()?;
    Ok(OffsetFetchResponse { error, partitions })
}

fn fetched_offset(c: &mut Cursor) -> Result<(i32, FetchedOffset), Malformed> {
    let number = partition_number(c)?;
    let offset = offset(c)?;
    let leader_epoch = leader_epoch(c, 5)?;
    let metadata = c.nullable_string()?.filter(|metadata| !metadata.is_empty());
    let error = error_code(c)?;
    Ok((number, FetchedOffset { error, committed: offset.map(|offset| Position { offset, leader_epoch }), metadata }))
}

fn list_offsets(c: &mut Cursor) -> Result<Vec<(TopicPartition, ListedOffset)>, Malformed> {
    skip_throttle(c, 2)?;
    let partitions = topics(c, |c| {
        let number = partition_number(c)?;
        let error = error_code(c)?;
        let timestamp_ms = Some(c.i64()?).filter(|timestamp_ms| *timestamp_ms >= 0);
        let offset = offset(c)?;
        let leader_epoch = leader_epoch(c, 4)?;
        let position = offset.map(|offset| Position { offset, leader_epoch });
        Ok((number, ListedOffset { error, position, timestamp_ms }))
    })?;
    c.skip_tagged_fields()?;
    Ok(partitions)
}

fn offset_for_leader_epoch(c: &mut Cursor) -> Result<Vec<(TopicPartition, EpochEnd)>, Malformed> {
    skip_throttle(c, 2)?;
    let partitions = topics(c, |c| {
        let error = error_code(c)?;
        let number = partition_number(c)?;
        let end = leader_epoch(c, 1)?.zip(offset(c)?);
        Ok((number, EpochEnd { error, end }))
    })?;
    c.skip_tagged_fields()?;
    Ok(partitions)
}

fn sasl_handshake(c: &mut Cursor) -> Result<SaslHandshakeResponse, Malformed> {
    let error = error_code(c)?;
    let mechanisms = c.array(Cursor::string)?;
    Ok(SaslHandshakeResponse { error, mechanisms })
}

fn sasl_authenticate(c: &mut Cursor) -> Result<SaslAuthenticateResponse, Malformed> {
    let error = error_code(c)?;
    let message = c.nullable_string()?;
    let challenge = c.bytes()?;
    let lifetime_ms = if c.version() >= 1 { c.i64()? } else { 0 };
    c.skip_tagged_fields()?;
    // 0 stands for ever.
    let session_lifetime = u64::try_from(lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    Ok(SaslAuthenticateResponse { error, message, challenge, session_lifetime })
}

fn fetch(c: &mut Cursor) -> Result<FetchResponse, Malformed> {
    let throttle = throttle(c)?;
    let (error, session_id) = if c.version() >= 7 { (error_code(c)?, c.i32()?) } else { (ErrorCode::NONE, 0) };
    let mut partitions = Vec::new();
    c.each(|c| {
        let topic = if c.version() >= 13 { TopicRef::Id(TopicId(c.fixed()?)) } else { TopicRef::Name(c.string()?) };
        c.each(|c| {
            partitions.push(fetched_partition(c, topic.clone())?);
            Ok(())
        })?;
        c.skip_tagged_fields()
    })?;
    let mut brokers = Vec::new();
    c.tagged_fields(|c, tag| {
        match tag {
            0 if c.version() >= 16 => brokers = c.array(broker)?,
            _ => c.skip_field(),
        }
        Ok(())
    })?;
    let records: usize = partitions.iter().map(|partition| partition.records.len()).sum();
    if records * 2 < c.len() {
        // What is kept is counted by its records. A slice would keep the whole answer, most of which is something else.
        for partition in &mut partitions {
            partition.records = Bytes::copy_from_slice(&partition.records);
        }
    }
    Ok(FetchResponse { throttle, error, session_id, partitions, brokers })
}

fn fetched_partition(c: &mut Cursor, topic: TopicRef) -> Result<FetchedPartition, Malformed> {
    let partition = partition_number(c)?;
    let error = error_code(c)?;
    let high_watermark = Offset(c.i64()?);
    let last_stable_offset = offset(c)?.unwrap_or(high_watermark);
    let log_start_offset = if c.version() >= 5 { offset(c)? } else { None };
    let aborted = c.nullable_array(|c| {
        let aborted = AbortedTransaction { producer_id: c.i64()?, first_offset: Offset(c.i64()?) };
        c.skip_tagged_fields()?;
        Ok(aborted)
    })?;
    let preferred_replica = if c.version() >= 11 { broker_id(c)? } else { None };
    let records = c.nullable_bytes()?;
    let (mut diverging, mut current_leader) = (None, None);
    c.tagged_fields(|c, tag| {
        match tag {
            0 => {
                diverging = leader_epoch(c, 12)?.zip(offset(c)?);
                c.skip_tagged_fields()?;
            }
            1 => {
                current_leader = broker_id(c)?.zip(leader_epoch(c, 12)?);
                c.skip_tagged_fields()?;
            }
            _ => c.skip_field(),
        }
        Ok(())
    })?;
    Ok(FetchedPartition {
        topic,
        partition,
        error,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        aborted: aborted.unwrap_or_default(),
        preferred_replica,
        diverging,
        current_leader,
        records: records.unwrap_or_default(),
    })
}

/// Reads topics by name with their partitions: the shape that several answers have. The name is shared by the partitions.
fn topics<T>(
    c: &mut Cursor,
    mut partition: impl FnMut(&mut Cursor) -> Result<(i32, T), Malformed>,
) -> Result<Vec<(TopicPartition, T)>, Malformed> {
    let mut partitions = Vec::new();
    c.each(|c| {
        let topic = c.string()?;
        c.each(|c| {
            let (number, what) = partition(c)?;
            c.skip_tagged_fields()?;
            partitions.push((TopicPartition::new(Arc::clone(&topic), number), what));
            Ok(())
        })?;
        c.skip_tagged_fields()
    })?;
    Ok(partitions)
}

fn broker(c: &mut Cursor) -> Result<Broker, Malformed> {
    let (id, host, port, rack) = (c.i32()?, c.string()?, c.i32()?, c.nullable_string()?);
    let broker = address(c, id, host, port, rack)?;
    c.skip_tagged_fields()?;
    Ok(broker)
}

/// Checks what an answer says of a broker.
fn address(c: &Cursor, id: i32, host: Arc<str>, port: i32, rack: Option<Arc<str>>) -> Result<Broker, Malformed> {
    if id < 0 {
        return Err(c.malformed("a broker with a negative id"));
    }
    if host.is_empty() {
        return Err(c.malformed("a broker without a host"));
    }
    if host.len() > HOST_LEN_MAX || host.contains(char::is_control) {
        return Err(c.malformed("a broker with an impossible host"));
    }
    let port = u16::try_from(port).map_err(|_| c.malformed("a broker with an impossible port"))?;
    Ok(Broker { id: BrokerId(id), host, port, rack })
}

fn throttle(c: &mut Cursor) -> Result<Duration, Malformed> {
    let throttle = Duration::from_millis(u64::try_from(c.i32()?).unwrap_or(0));
    Ok(if c.api().throttles(c.version()) { throttle.min(THROTTLE_MAX) } else { Duration::ZERO })
}

/// Passes over what [`Response::throttle`] reads.
fn skip_throttle(c: &mut Cursor, since: i16) -> Result<(), Malformed> {
    if c.version() >= since {
        c.i32()?;
    }
    Ok(())
}

fn error_code(c: &mut Cursor) -> Result<ErrorCode, Malformed> {
    c.i16().map(ErrorCode)
}

fn partition_number(c: &mut Cursor) -> Result<i32, Malformed> {
    let number = c.i32()?;
    if number < 0 { Err(c.malformed("a negative partition")) } else { Ok(number) }
}

fn broker_id(c: &mut Cursor) -> Result<Option<BrokerId>, Malformed> {
    let id = c.i32()?;
    Ok((id >= 0).then_some(BrokerId(id)))
}

fn offset(c: &mut Cursor) -> Result<Option<Offset>, Malformed> {
    let offset = c.i64()?;
    Ok((offset >= 0).then_some(Offset(offset)))
}

fn leader_epoch(c: &mut Cursor, since: i16) -> Result<Option<LeaderEpoch>, Malformed> {
    if c.version() < since {
        return Ok(None);
    }
    let epoch = c.i32()?;
    Ok((epoch >= 0).then_some(LeaderEpoch(epoch)))
}
