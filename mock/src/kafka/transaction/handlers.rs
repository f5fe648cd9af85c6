//! What producers ask the coordinator of their transactions.

use kafka_protocol::{
    ResponseError,
    messages::{
        AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest,
        EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, TxnOffsetCommitRequest,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        add_partitions_to_txn_response::{
            AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
        },
    },
};

use super::{State, Transactions};
use crate::kafka::{Context, call::Call, clock::ms, group::Groups, log::Producer};

/// From these versions on a producer with an old epoch is told so by an error of its own (KIP-588).
const INIT_FENCED_SINCE: i16 = 4;
const FENCED_SINCE: i16 = 2;
/// From this version on several transactions go into one request.
const BATCHED_SINCE: i16 = 4;
/// From this version on the end of a transaction begins an epoch (KIP-890).
const BUMPED_SINCE: i16 = 5;
/// From this version on offsets join a transaction by being committed (KIP-890).
const OFFSETS_JOIN_SINCE: i16 = 5;

impl Transactions {
    pub(crate) fn init_producer_id(
        &mut self,
        cx: &mut Context<'_>,
        groups: &mut Groups,
        call: Call,
        request: InitProducerIdRequest,
    ) {
        let timeout = ms(request.transaction_timeout_ms);
        let expected = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let expected = Some(expected).filter(|expected| expected.id >= 0);
        let producer = match &request.transactional_id {
            None => Ok(Producer { id: self.new_producer_id(), epoch: 0 }),
            Some(id) if id.is_empty() => Err(ResponseError::InvalidRequest),
            Some(_) if timeout.is_zero() || timeout > cx.settings.transaction_max_timeout => {
                Err(ResponseError::InvalidTransactionTimeout)
            }
            Some(id) => self.init(cx, groups, id, timeout, expected),
        };
        let body = InitProducerIdResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let body = match producer {
            Ok(producer) => body.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch),
            Err(error) => {
                let code = fenced(error, call.version >= INIT_FENCED_SINCE).code();
                body.with_producer_id((-1).into()).with_producer_epoch(-1).with_error_code(code)
            }
        };
        cx.out.answer(call, &body);
    }

    pub(crate) fn add_partitions(&mut self, cx: &mut Context<'_>, call: Call, request: AddPartitionsToTxnRequest) {
        let body = AddPartitionsToTxnResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let is_fenced_known = call.version >= FENCED_SINCE;
        let body = if call.version >= BATCHED_SINCE {
            let results = request.transactions.into_iter().map(|asked| {
                let producer = Producer { id: asked.producer_id.0, epoch: asked.producer_epoch };
                let id = asked.transactional_id;
                let topics = self.add(cx, &id, producer, asked.topics, asked.verify_only, is_fenced_known);
                AddPartitionsToTxnResult::default().with_transactional_id(id).with_topic_results(topics)
            });
            body.with_results_by_transaction(results.collect())
        } else {
            let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
            let id = request.v3_and_below_transactional_id;
            let topics = self.add(cx, &id, producer, request.v3_and_below_topics, false, is_fenced_known);
            body.with_results_by_topic_v3_and_below(topics)
        };
        cx.out.answer(call, &body);
    }

    /// Adds all of these partitions to a transaction, or none.
    fn add(
        &mut self,
        cx: &Context<'_>,
        id: &str,
        producer: Producer,
        topics: Vec<AddPartitionsToTxnTopic>,
        is_only_verified: bool,
        is_fenced_known: bool,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let all = || topics.iter().flat_map(|topic| topic.partitions.iter().map(|number| (topic.name.to_string(), *number)));
        let exists = |topic: &str, number| cx.topics.partition(topic, number).is_some();
        let are_known = all().all(|(topic, number)| exists(&topic, number));
        let done = self.find(id, producer).and_then(|transaction| {
            if is_only_verified {
                let holds = transaction.state == State::Ongoing && all().all(|at| transaction.partitions.contains(&at));
                return if holds { Ok(()) } else { Err(ResponseError::InvalidTxnState) };
            }
            if are_known {
                transaction.begin(cx.now);
                transaction.partitions.extend(all());
            }
            Ok(())
        });
        let code = |topic: &str, number| match done {
            _ if !exists(topic, number) => ResponseError::UnknownTopicOrPartition.code(),
            _ if !are_known => ResponseError::OperationNotAttempted.code(),
            Ok(()) => 0,
            Err(error) => fenced(error, is_fenced_known).code(),
        };
        let results = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|number| {
                let body = AddPartitionsToTxnPartitionResult::default().with_partition_index(*number);
                body.with_partition_error_code(code(&topic.name, *number))
            });
            let partitions = partitions.collect();
            AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(partitions)
        });
        results.collect()
    }

    pub(crate) fn add_offsets(&mut self, cx: &mut Context<'_>, call: Call, request: AddOffsetsToTxnRequest) {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let done = self.find(&request.transactional_id, producer).map(|transaction| transaction.begin(cx.now));
        let error = done.err().map_or(0, |error| fenced(error, call.version >= FENCED_SINCE).code());
        let body = AddOffsetsToTxnResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        cx.out.answer(call, &body.with_error_code(error));
    }

    /// Says whether offsets may be committed in a transaction; in new versions the transaction begins with them.
    pub(crate) fn admit_offsets(
        &mut self,
        cx: &Context<'_>,
        version: i16,
        request: &TxnOffsetCommitRequest,
    ) -> Result<(), ResponseError> {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let transaction = self.find(&request.transactional_id, producer).map_err(|error| fenced(error, false))?;
        if version >= OFFSETS_JOIN_SINCE {
            transaction.begin(cx.now);
        }
        if transaction.state == State::Ongoing { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    pub(crate) fn end(&mut self, cx: &mut Context<'_>, groups: &mut Groups, call: Call, request: EndTxnRequest) {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let is_bumping = call.version >= BUMPED_SINCE;
        let ended = self.end_as_asked(cx, groups, &request.transactional_id, producer, request.committed, is_bumping);
        let body = EndTxnResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let body = match ended {
            Ok(next) if is_bumping => body.with_producer_id(next.id.into()).with_producer_epoch(next.epoch),
            Ok(_) => body,
            Err(error) => body.with_error_code(fenced(error, call.version >= FENCED_SINCE).code()),
        };
        cx.out.answer(call, &body);
    }
}

/// Says that an epoch is old in the words that the version has for it.
pub(super) fn fenced(error: ResponseError, is_fenced_known: bool) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if !is_fenced_known => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}
