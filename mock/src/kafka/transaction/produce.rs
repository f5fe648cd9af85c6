//! Produce: batches come in.

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse},
    },
};

use super::{State, Transactions, handlers::fenced};
use crate::kafka::{
    Context,
    call::Call,
    log::{Appended, Batch, Invalid, Producer},
    topics::Topic,
};

/// From this version on zstd may be used.
const ZSTD_SINCE: i16 = 7;
/// From this version on an answer that refuses says who leads now (KIP-951).
const LEADERS_SINCE: i16 = 10;
/// From this version on a partition joins a transaction by being written to (KIP-890).
const PARTITIONS_JOIN_SINCE: i16 = 12;
/// `max.message.bytes` of a topic that does not say.
const BATCH_BYTES_MAX: usize = 1_048_588;

impl Transactions {
    pub(crate) fn produce(&mut self, cx: &mut Context<'_>, call: Call, request: ProduceRequest) {
        let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
        let acks = request.acks;
        let mut body = ProduceResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let mut has_failed = false;
        for topic in request.topic_data {
            let name = if topic.topic_id.is_nil() {
                Ok(topic.name.to_string())
            } else {
                cx.topics.name_of(topic.topic_id).map(str::to_owned).ok_or(ResponseError::UnknownTopicId)
            };
            let mut answered = TopicProduceResponse::default().with_name(topic.name).with_topic_id(topic.topic_id);
            for data in topic.partition_data {
                let appended = name.clone().and_then(|name| {
                    if !(-1..=1).contains(&acks) {
                        return Err(ResponseError::InvalidRequiredAcks);
                    }
                    self.write(cx, &call, transactional_id.as_deref(), &name, data.index, &data.records.unwrap_or_default())
                });
                has_failed |= appended.is_err();
                let part = PartitionProduceResponse::default().with_index(data.index);
                answered.partition_responses.push(match appended {
                    Ok(appended) => {
                        let partition = name.as_ref().ok().and_then(|name| cx.topics.partition(name, data.index));
                        part.with_base_offset(appended.base_offset)
                            .with_log_append_time_ms(appended.log_append_time_ms.unwrap_or(-1))
                            .with_log_start_offset(partition.map_or(-1, |partition| partition.log.start()))
                    }
                    Err(error) => {
                        let mut part = part.with_base_offset(-1).with_error_code(error.code());
                        // What the log itself refuses is answered with where the log starts.
                        if let (Ok(name), true) = (&name, is_refused_by_log(error, transactional_id.as_deref())) {
                            let partition = cx.topics.partition(name, data.index);
                            part.log_start_offset = partition.map_or(-1, |partition| partition.log.start());
                        }
                        if let Ok(name) = &name
                            && error == ResponseError::NotLeaderOrFollower
                            && call.version >= LEADERS_SINCE
                        {
                            part.current_leader = tell_leader(cx, name, data.index, &mut body.node_endpoints);
                        }
                        part
                    }
                });
            }
            body.responses.push(answered);
        }
        match acks {
            0 if has_failed => cx.out.hang_up(call),
            0 => cx.out.no_answer(call),
            _ => cx.out.answer(call, &body),
        }
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        call: &Call,
        transactional_id: Option<&str>,
        topic: &str,
        number: i32,
        records: &Bytes,
    ) -> Result<Appended, ResponseError> {
        let partition = cx.topics.leads(topic, number, call.broker, -1)?;
        if transactional_id.is_none() && Batch::claims_transaction(records) {
            return Err(ResponseError::TransactionalIdAuthorizationFailed);
        }
        let batch = Batch::parse(records).map_err(|invalid| match invalid {
            Invalid::Corrupt => ResponseError::CorruptMessage,
            Invalid::OldFormat | Invalid::Contradictory => ResponseError::InvalidRecord,
        })?;
        if batch.is_zstd() && call.version < ZSTD_SINCE {
            return Err(ResponseError::UnsupportedCompressionType);
        }
        if records.len() > cx.topics.get(topic).map_or(BATCH_BYTES_MAX, batch_bytes_max) {
            return Err(ResponseError::MessageTooLarge);
        }
        if let Some(producer) = batch.transactional_producer().filter(|producer| !partition.log.has_open(*producer)) {
            self.admit(cx, call.version, transactional_id.unwrap_or_default(), producer, topic, number)?;
        }
        let log = &mut cx.topics.partition_mut(topic, number).expect("it was found just now").log;
        log.append_produced(batch, cx.unix_ms)
    }

    /// Says whether a transaction may write to a partition; in new versions the partition joins it so.
    fn admit(
        &mut self,
        cx: &Context<'_>,
        version: i16,
        id: &str,
        producer: Producer,
        topic: &str,
        number: i32,
    ) -> Result<(), ResponseError> {
        let transaction = self.find(id, producer).map_err(|error| fenced(error, false))?;
        let at = (topic.to_owned(), number);
        if version >= PARTITIONS_JOIN_SINCE {
            transaction.begin(cx.now);
            transaction.partitions.insert(at);
            return Ok(());
        }
        let holds = transaction.state == State::Ongoing && transaction.partitions.contains(&at);
        if holds { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }
}

fn is_refused_by_log(error: ResponseError, transactional_id: Option<&str>) -> bool {
    // Of a transaction's records its coordinator is asked first.
    transactional_id.is_none() && matches!(error, ResponseError::OutOfOrderSequenceNumber | ResponseError::InvalidProducerEpoch)
}

fn batch_bytes_max(topic: &Topic) -> usize {
    topic.configs.get("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES_MAX)
}

/// Says who leads the partition now, and adds where that broker is.
fn tell_leader(cx: &Context<'_>, topic: &str, number: i32, endpoints: &mut Vec<NodeEndpoint>) -> LeaderIdAndEpoch {
    let led = cx.leader_of(topic, number);
    let Some((leader, epoch, broker)) = led else { return LeaderIdAndEpoch::default() };
    if let Some(broker) = broker.filter(|_| !endpoints.iter().any(|known| known.node_id.0 == leader)) {
        let (host, port, rack) = broker.endpoint();
        endpoints.push(NodeEndpoint::default().with_node_id(leader.into()).with_host(host).with_port(port).with_rack(rack));
    }
    LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch)
}
