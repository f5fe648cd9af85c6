//! One look into the logs that a fetch asks for.

use kafka_protocol::{
    ResponseError,
    messages::{
        fetch_request::FetchPartition,
        fetch_response::{AbortedTransaction, EpochEndOffset, PartitionData},
    },
};

use super::session::Key;
use crate::kafka::{
    broker::Brokers,
    call::Call,
    log::Slice,
    topics::{Partition, Topics},
};

/// From this version on followers serve consumers too (KIP-392).
const FOLLOWERS_SINCE: i16 = 11;

/// What a fetch asks for.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) wanted: Vec<Wanted>,
    pub(super) bytes_max: usize,
    pub(super) is_read_committed: bool,
    pub(super) rack: String,
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    /// The topic's name; or why there is none, which was clear before anything was read and so ends no waiting.
    pub(super) name: Result<String, ResponseError>,
    pub(super) asked: FetchPartition,
}

/// What one look has found, in the order of what was wanted.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) parts: Vec<(PartitionData, Slice)>,
    pub(super) bytes: usize,
    /// The client has to know at once.
    pub(super) is_urgent: bool,
}

impl Query {
    pub(super) fn look(&self, topics: &Topics, brokers: &Brokers, call: &Call) -> Found {
        // Kafka waits for nothing if there is nothing that it could read.
        let is_urgent = self.wanted.iter().all(|wanted| wanted.name.is_err());
        let mut found = Found { parts: Vec::with_capacity(self.wanted.len()), bytes: 0, is_urgent };
        for wanted in &self.wanted {
            let body = PartitionData::default().with_partition_index(wanted.key.number).with_high_watermark(-1);
            let name = match &wanted.name {
                Ok(name) => name,
                Err(error) => {
                    found.parts.push((body.with_error_code(error.code()), Slice::default()));
                    continue;
                }
            };
            let left = self.bytes_max.saturating_sub(found.bytes);
            let read = self.read(topics, brokers, call, name, wanted, body.clone(), left, found.bytes == 0);
            let (body, slice, is_urgent) =
                read.unwrap_or_else(|error| (body.with_error_code(error.code()), Slice::default(), true));
            found.bytes += slice.len();
            found.is_urgent |= is_urgent;
            found.parts.push((body, slice));
        }
        found
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the loop above, with all it knows")]
    fn read(
        &self,
        topics: &Topics,
        brokers: &Brokers,
        call: &Call,
        name: &str,
        wanted: &Wanted,
        body: PartitionData,
        bytes_max: usize,
        is_first: bool,
    ) -> Result<(PartitionData, Slice, bool), ResponseError> {
        let asked = &wanted.asked;
        let may_follow = call.version >= FOLLOWERS_SINCE;
        let epoch = asked.current_leader_epoch;
        if topics.get(name).is_some_and(|topic| !wanted.key.id.is_nil() && topic.id != wanted.key.id) {
            return Err(ResponseError::InconsistentTopicId);
        }
        let partition = topics.has_replica(name, wanted.key.number, call.broker, epoch)?;
        let is_leader = partition.leader == Some(call.broker);
        if !is_leader && !may_follow {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        let log = &partition.log;
        let end = if is_leader { log.end() } else { partition.follower_end.map_or(log.end(), |end| end.min(log.end())) };
        let mut body = body
            .with_high_watermark(end)
            .with_last_stable_offset(log.last_stable().min(end))
            .with_log_start_offset(log.start())
            .with_aborted_transactions(self.is_read_committed.then(Vec::new));
        let nearer = if is_leader && may_follow { self.nearer(partition, brokers, asked.fetch_offset) } else { None };
        if let Some(nearer) = nearer {
            return Ok((body.with_preferred_read_replica(nearer.into()), Slice::default(), true));
        }
        if let Some(diverging) = diverging(partition, asked)? {
            return Ok((body.with_diverging_epoch(diverging), Slice::default(), true));
        }
        if !(log.start()..=end).contains(&asked.fetch_offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let limit = log.limit(self.is_read_committed).min(end);
        let bytes_max = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(bytes_max);
        let slice = log.read(asked.fetch_offset, limit, bytes_max, is_first);
        if self.is_read_committed {
            let aborted = log.aborted_from(asked.fetch_offset).map(|aborted| {
                AbortedTransaction::default().with_producer_id(aborted.producer_id.into()).with_first_offset(aborted.first_offset)
            });
            body = body.with_aborted_transactions(Some(aborted.collect()));
        }
        Ok((body, slice, false))
    }

    /// Names a follower in the client's rack that has what it asks for, unless the leader is there itself.
    fn nearer(&self, partition: &Partition, brokers: &Brokers, offset: i64) -> Option<i32> {
        let is_near = |id: i32| brokers.get(id).is_some_and(|broker| broker.rack.as_deref() == Some(&self.rack));
        let end = partition.follower_end.unwrap_or(partition.log.end());
        if self.rack.is_empty() || partition.leader.is_some_and(is_near) || !(partition.log.start()..=end).contains(&offset) {
            return None;
        }
        partition.replicas.iter().copied().find(|id| is_near(*id) && brokers.accepts(*id))
    }
}

/// Says where the client's records and the log part, if they do (KIP-320).
fn diverging(partition: &Partition, asked: &FetchPartition) -> Result<Option<EpochEndOffset>, ResponseError> {
    if asked.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = partition.log.end_of(asked.last_fetched_epoch);
    let (epoch, end) = end.ok_or(ResponseError::OffsetOutOfRange)?;
    if asked.fetch_offset < partition.log.start() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let is_diverging = epoch < asked.last_fetched_epoch || end < asked.fetch_offset;
    Ok(is_diverging.then(|| EpochEndOffset::default().with_epoch(epoch).with_end_offset(end)))
}
