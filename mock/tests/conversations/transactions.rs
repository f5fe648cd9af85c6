//! Transactions: records and offsets that count together or not at all.

use ottla_mock::kafka_protocol::messages::{
    add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    *,
};

use crate::{
    fetch::{fetch, read},
    logs::list,
    offsets::{commit, fetch_offsets},
    produce::{Writer, batch, now_ms, produce, write},
    stage::{Stage, play, text},
};

#[derive(Clone, Copy)]
struct Producer {
    name: &'static str,
    id: i64,
    epoch: i16,
}

impl Producer {
    fn of(name: &'static str, given: &InitProducerIdResponse) -> Self {
        Self { name, id: given.producer_id.0, epoch: given.producer_epoch }
    }

    fn named(&self) -> TransactionalId {
        TransactionalId(text(self.name))
    }

    fn adds(&self, topic: &str) -> AddPartitionsToTxnRequest {
        let topic = AddPartitionsToTxnTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![0]);
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.named())
            .with_v3_and_below_producer_id(ProducerId(self.id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic])
    }

    fn writes(&self, topic: &str, sequence: i32) -> ProduceRequest {
        let records = batch(Writer(self.id, self.epoch, sequence, true), 2, now_ms());
        produce(topic, records).with_transactional_id(Some(self.named()))
    }

    fn adds_offsets(&self, group: &str) -> AddOffsetsToTxnRequest {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.named())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_group_id(GroupId(text(group)))
    }

    fn commits(&self, group: &str, topic: &str, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(-1);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(self.named())
            .with_group_id(GroupId(text(group)))
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }

    fn ends(&self, committed: bool) -> EndTxnRequest {
        EndTxnRequest::default()
            .with_transactional_id(self.named())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(committed)
    }
}

/// Begins again until the last transaction has ended: its markers are written after the answer.
async fn begin(stage: &mut Stage, line: crate::stage::Line, request: &AddPartitionsToTxnRequest) {
    let code = |answer: &AddPartitionsToTxnResponse| {
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    };
    const CONCURRENT_TRANSACTIONS: i16 = 51;
    let answer = stage.until(line, 3, request, |answer| code(answer) != CONCURRENT_TRANSACTIONS).await;
    stage.notes("AddPartitionsToTxn v3", &answer);
}

#[tokio::test]
async fn committed_records_are_read_and_aborted_ones_named() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("txn", stage.connect().await);
        let id = stage.topic(topic, 1).await;
        let committed = |offset| fetch(id, 0, offset).with_isolation_level(1);
        let given = stage.producer(line, "txn").await;
        let one = Producer::of("txn", &given);
        write(stage, line, topic, 1).await;
        stage.says("open");
        begin(stage, line, &one.adds(topic)).await;
        stage.ask(line, 9, &one.writes(topic, 0)).await;
        write(stage, line, topic, 1).await;
        read(stage, line, 17, &committed(0)).await;
        read(stage, line, 17, &committed(1)).await;
        read(stage, line, 17, &fetch(id, 0, 0)).await;
        stage.ask(line, 10, &list(topic, -1)).await;
        stage.ask(line, 10, &list(topic, -1).with_isolation_level(1)).await;
        stage.says("aborted");
        stage.ask(line, 3, &one.ends(false)).await;
        stage
            .until(line, 10, &list(topic, -1).with_isolation_level(1), |answer| answer.topics[0].partitions[0].offset == 5)
            .await;
        read(stage, line, 17, &committed(0)).await;
        read(stage, line, 17, &committed(4)).await;
        read(stage, line, 17, &committed(5)).await;
        stage.says("committed");
        begin(stage, line, &one.adds(topic)).await;
        stage.ask(line, 9, &one.writes(topic, 2)).await;
        stage.ask(line, 3, &one.ends(true)).await;
        stage
            .until(line, 10, &list(topic, -1).with_isolation_level(1), |answer| answer.topics[0].partitions[0].offset == 8)
            .await;
        read(stage, line, 17, &committed(0)).await;
        read(stage, line, 17, &fetch(id, 0, 5)).await;
        stage.says("ended again, the same way and the other");
        stage.until(line, 3, &one.ends(true), |answer| answer.error_code != 51).await;
        stage.ask(line, 3, &one.ends(true)).await;
        stage.ask(line, 3, &one.ends(false)).await;
        stage.says("written without being added, and without a transaction");
        stage.ask(line, 9, &one.writes(topic, 4)).await;
        let stranger = Producer { name: "txn-unknown", ..one };
        stage.ask(line, 3, &stranger.ends(true)).await;
        stage.ask(line, 3, &stranger.adds(topic)).await;
        stage.ask(line, 3, &Producer { id: one.id + 77, ..one }.adds(topic)).await;
        stage.ask(line, 3, &one.adds("txn-unknown")).await;
    };
    let heard = r#"
        InitProducerId v4: {producer_id producer-1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        # open
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name txn, results_by_partition [0]}]}
        Produce v9: {responses [{name txn, partition_responses [{base_offset 1, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 4, last_stable_offset 1, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-0 epoch 0"}]}]}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 4, last_stable_offset 1, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 4, last_stable_offset 1, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-0 epoch 0; 1-2 epoch 0 in transaction; 3-3 epoch 0"}]}]}
        ListOffsets v10: {topics [{name txn, partitions [{timestamp -1, offset 4}]}]}
        ListOffsets v10: {topics [{name txn, partitions [{timestamp -1, offset 1}]}]}
        # aborted
        EndTxn v3: {producer_id -1, producer_epoch -1}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 5, last_stable_offset 5, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, aborted_transactions [{producer_id producer-1, first_offset 1}], preferred_read_replica -1, records b"0-0 epoch 0; 1-2 epoch 0 in transaction; 3-3 epoch 0; 4-4 epoch 0 marker"}]}]}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 5, last_stable_offset 5, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, aborted_transactions [{producer_id producer-1, first_offset 1}], preferred_read_replica -1, records b"4-4 epoch 0 marker"}]}]}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 5, last_stable_offset 5, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # committed
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name txn, results_by_partition [0]}]}
        Produce v9: {responses [{name txn, partition_responses [{base_offset 5, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        EndTxn v3: {producer_id -1, producer_epoch -1}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 8, last_stable_offset 8, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, aborted_transactions [{producer_id producer-1, first_offset 1}], preferred_read_replica -1, records b"0-0 epoch 0; 1-2 epoch 0 in transaction; 3-3 epoch 0; 4-4 epoch 0 marker; 5-6 epoch 0 in transaction; 7-7 epoch 0 marker"}]}]}
        Fetch v17: {responses [{topic_id id of txn, partitions [{high_watermark 8, last_stable_offset 8, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"5-6 epoch 0 in transaction; 7-7 epoch 0 marker"}]}]}
        # ended again, the same way and the other
        EndTxn v3: {producer_id -1, producer_epoch -1}
        EndTxn v3: InvalidTxnState {producer_id -1, producer_epoch -1}
        # written without being added, and without a transaction
        Produce v9: {responses [{name txn, partition_responses [InvalidTxnState {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        EndTxn v3: InvalidProducerIdMapping {producer_id -1, producer_epoch -1}
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name txn, results_by_partition [InvalidProducerIdMapping]}]}
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name txn, results_by_partition [InvalidProducerIdMapping]}]}
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name txn-unknown, results_by_partition [UnknownTopicOrPartition]}]}
    "#;
    play("txn", script, heard).await;
}

#[tokio::test]
async fn a_new_incarnation_fences_the_old_one() {
    let script = async |stage: &mut Stage| {
        let (topic, line) = ("fenced", stage.connect().await);
        let id = stage.topic(topic, 1).await;
        let old = Producer::of("fenced", &stage.producer(line, "fenced").await);
        begin(stage, line, &old.adds(topic)).await;
        stage.ask(line, 9, &old.writes(topic, 0)).await;
        stage.says("its successor aborts what it left open");
        let request =
            InitProducerIdRequest::default().with_transactional_id(Some(old.named())).with_transaction_timeout_ms(60_000);
        let given = stage.until(line, 4, &request, |answer| answer.error_code != 51).await;
        stage.notes("InitProducerId v4", &given);
        let new = Producer::of("fenced", &given);
        read(stage, line, 17, &fetch(id, 0, 0).with_isolation_level(1)).await;
        stage.ask(line, 3, &old.ends(true)).await;
        stage.ask(line, 1, &old.ends(true)).await;
        stage.ask(line, 3, &old.adds(topic)).await;
        stage.ask(line, 3, &old.adds_offsets("fenced")).await;
        stage.ask(line, 9, &old.writes(topic, 2)).await;
        begin(stage, line, &new.adds(topic)).await;
        stage.ask(line, 9, &new.writes(topic, 0)).await;
        stage.ask(line, 9, &old.writes(topic, 2)).await;
        stage.ask(line, 3, &new.ends(true)).await;
        stage.says("refused");
        stage.ask(line, 4, &request.clone().with_transaction_timeout_ms(1 << 30)).await;
        stage.ask(line, 4, &request.clone().with_transactional_id(Some(TransactionalId(text(""))))).await;
        let resumed = |id, epoch| request.clone().with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
        stage.until(line, 4, &resumed(new.id, old.epoch), |answer| answer.error_code != 51).await;
        stage.ask(line, 4, &resumed(new.id, old.epoch)).await;
        stage.ask(line, 4, &resumed(new.id + 77, new.epoch)).await;
        stage.ask(line, 4, &resumed(new.id, new.epoch)).await;
    };
    let heard = r#"
        InitProducerId v4: {producer_id producer-1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name fenced, results_by_partition [0]}]}
        Produce v9: {responses [{name fenced, partition_responses [{base_offset 0, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # its successor aborts what it left open
        InitProducerId v4: {producer_id producer-1, producer_epoch 2, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        Fetch v17: {responses [{topic_id id of fenced, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, aborted_transactions [{producer_id producer-1, first_offset 0}], preferred_read_replica -1, records b"0-1 epoch 0 in transaction; 2-2 epoch 0 marker"}]}]}
        EndTxn v3: ProducerFenced {producer_id -1, producer_epoch -1}
        EndTxn v1: InvalidProducerEpoch {producer_id -1, producer_epoch -1}
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name fenced, results_by_partition [ProducerFenced]}]}
        AddOffsetsToTxn v3: ProducerFenced
        Produce v9: {responses [{name fenced, partition_responses [InvalidProducerEpoch {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        AddPartitionsToTxn v3: {results_by_topic_v3_and_below [{name fenced, results_by_partition [0]}]}
        Produce v9: {responses [{name fenced, partition_responses [{base_offset 3, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v9: {responses [{name fenced, partition_responses [InvalidProducerEpoch {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        EndTxn v3: {producer_id -1, producer_epoch -1}
        # refused
        InitProducerId v4: InvalidTransactionTimeout {producer_id -1, producer_epoch -1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        InitProducerId v4: InvalidRequest {producer_id -1, producer_epoch -1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        InitProducerId v4: ProducerFenced {producer_id -1, producer_epoch -1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        InitProducerId v4: ProducerFenced {producer_id -1, producer_epoch -1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        InitProducerId v4: {producer_id producer-1, producer_epoch 3, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
    "#;
    play("fenced", script, heard).await;
}

#[tokio::test]
async fn offsets_are_unstable_until_the_transaction_ends() {
    let script = async |stage: &mut Stage| {
        let (topic, group, line) = ("txn-offsets", "txn-offsets", stage.connect().await);
        stage.topic(topic, 1).await;
        stage.group(group).await;
        let one = Producer::of("txn-offsets", &stage.producer(line, "txn-offsets").await);
        stage.ask(line, 8, &commit(group, "", -1, topic, 3)).await;
        stage.ask(line, 3, &one.adds_offsets(group)).await;
        stage.ask(line, 3, &one.commits(group, topic, 5)).await;
        stage.ask(line, 9, &fetch_offsets(group, Some((topic, &[0])))).await;
        stage.ask(line, 9, &fetch_offsets(group, Some((topic, &[0]))).with_require_stable(true)).await;
        stage.ask(line, 9, &fetch_offsets(group, None).with_require_stable(true)).await;
        stage.says("aborted");
        stage.ask(line, 3, &one.ends(false)).await;
        let stable = fetch_offsets(group, Some((topic, &[0]))).with_require_stable(true);
        let is_stable = |answer: &OffsetFetchResponse| answer.groups[0].topics[0].partitions[0].error_code == 0;
        let answer = stage.until(line, 9, &stable, is_stable).await;
        stage.notes("OffsetFetch v9", &answer);
        stage.says("committed");
        let answer = stage.until(line, 3, &one.adds_offsets(group), |answer| answer.error_code != 51).await;
        stage.notes("AddOffsetsToTxn v3", &answer);
        stage.ask(line, 3, &one.commits(group, topic, 7)).await;
        stage.ask(line, 3, &one.commits(group, "txn-unknown", 7)).await;
        stage.ask(line, 3, &one.commits(group, topic, 8).with_member_id(text("ghost")).with_generation_id(3)).await;
        stage.ask(line, 3, &Producer { epoch: 9, ..one }.commits(group, topic, 8)).await;
        stage.ask(line, 3, &one.ends(true)).await;
        let answer = stage.until(line, 9, &stable, is_stable).await;
        stage.notes("OffsetFetch v9", &answer);
    };
    let heard = r#"
        InitProducerId v4: {producer_id producer-1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        OffsetCommit v8: {topics [{name txn-offsets, partitions [0]}]}
        AddOffsetsToTxn v3: NONE
        TxnOffsetCommit v3: {topics [{name txn-offsets, partitions [0]}]}
        OffsetFetch v9: {groups [{group_id txn-offsets, topics [{name txn-offsets, partitions [{committed_offset 3, committed_leader_epoch -1, metadata note}]}]}]}
        OffsetFetch v9: {groups [{group_id txn-offsets, topics [{name txn-offsets, partitions [UnstableOffsetCommit {committed_offset -1, committed_leader_epoch -1}]}]}]}
        OffsetFetch v9: {groups [{group_id txn-offsets, topics [{name txn-offsets, partitions [UnstableOffsetCommit {committed_offset -1, committed_leader_epoch -1}]}]}]}
        # aborted
        EndTxn v3: {producer_id -1, producer_epoch -1}
        OffsetFetch v9: {groups [{group_id txn-offsets, topics [{name txn-offsets, partitions [{committed_offset 3, committed_leader_epoch -1, metadata note}]}]}]}
        # committed
        AddOffsetsToTxn v3: NONE
        TxnOffsetCommit v3: {topics [{name txn-offsets, partitions [0]}]}
        TxnOffsetCommit v3: {topics [{name txn-unknown, partitions [UnknownTopicOrPartition]}]}
        TxnOffsetCommit v3: {topics [{name txn-offsets, partitions [UnknownMemberId]}]}
        TxnOffsetCommit v3: {topics [{name txn-offsets, partitions [InvalidProducerEpoch]}]}
        EndTxn v3: {producer_id -1, producer_epoch -1}
        OffsetFetch v9: {groups [{group_id txn-offsets, topics [{name txn-offsets, partitions [{committed_offset 7, committed_leader_epoch -1}]}]}]}
    "#;
    play("txn-offsets", script, heard).await;
}

#[tokio::test]
async fn with_new_versions_writing_joins_and_every_end_begins_an_epoch() {
    let script = async |stage: &mut Stage| {
        let (topic, group, line) = ("txn-new", "txn-new", stage.connect().await);
        let id = stage.topic(topic, 1).await;
        stage.group(group).await;
        let mut one = Producer::of("txn-new", &stage.producer(line, "txn-new").await);
        for committed in [true, false] {
            stage.says(if committed { "committed" } else { "aborted" });
            stage.ask(line, 12, &one.writes(topic, 0)).await;
            stage.ask(line, 5, &one.commits(group, topic, 5)).await;
            stage.ask(line, 9, &fetch_offsets(group, Some((topic, &[0]))).with_require_stable(true)).await;
            let ended = stage.ask(line, 5, &one.ends(committed)).await;
            stage.says("ended again: the answer is the same");
            stage.until(line, 5, &one.ends(committed), |answer| answer.error_code != 51).await;
            stage.ask(line, 5, &one.ends(committed)).await;
            stage.says("the former epoch is over");
            stage.ask(line, 12, &one.writes(topic, 2)).await;
            one.epoch = ended.producer_epoch;
        }
        let end = |answer: &ListOffsetsResponse| answer.topics[0].partitions[0].offset == 6;
        stage.until(line, 10, &list(topic, -1).with_isolation_level(1), end).await;
        read(stage, line, 17, &fetch(id, 0, 0).with_isolation_level(1)).await;
        stage.ask(line, 9, &fetch_offsets(group, None).with_require_stable(true)).await;
        stage.says("an end of nothing");
        stage.ask(line, 5, &one.ends(false)).await;
        let answer = stage.until(line, 5, &one.ends(true), |answer| answer.error_code != 51).await;
        stage.notes("EndTxn v5", &answer);
    };
    let heard = r#"
        InitProducerId v4: {producer_id producer-1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        # committed
        Produce v12: {responses [{name txn-new, partition_responses [{base_offset 0, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        TxnOffsetCommit v5: {topics [{name txn-new, partitions [0]}]}
        OffsetFetch v9: {groups [{group_id txn-new, topics [{name txn-new, partitions [UnstableOffsetCommit {committed_offset -1, committed_leader_epoch -1}]}]}]}
        EndTxn v5: {producer_id producer-1, producer_epoch 1}
        # ended again: the answer is the same
        EndTxn v5: {producer_id producer-1, producer_epoch 1}
        # the former epoch is over
        Produce v12: {responses [{name txn-new, partition_responses [InvalidProducerEpoch {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        # aborted
        Produce v12: {responses [{name txn-new, partition_responses [{base_offset 3, log_append_time_ms -1, log_start_offset 0, current_leader {leader_id -1, leader_epoch -1}}]}]}
        TxnOffsetCommit v5: {topics [{name txn-new, partitions [0]}]}
        OffsetFetch v9: {groups [{group_id txn-new, topics [{name txn-new, partitions [UnstableOffsetCommit {committed_offset -1, committed_leader_epoch -1}]}]}]}
        EndTxn v5: {producer_id producer-1, producer_epoch 2}
        # ended again: the answer is the same
        EndTxn v5: {producer_id producer-1, producer_epoch 2}
        # the former epoch is over
        Produce v12: {responses [{name txn-new, partition_responses [InvalidProducerEpoch {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Fetch v17: {responses [{topic_id id of txn-new, partitions [{high_watermark 6, last_stable_offset 6, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, aborted_transactions [{producer_id producer-1, first_offset 3}], preferred_read_replica -1, records b"0-1 epoch 0 in transaction; 2-2 epoch 0 marker; 3-4 epoch 0 in transaction; 5-5 epoch 0 marker"}]}]}
        OffsetFetch v9: {groups [{group_id txn-new, topics [{name txn-new, partitions [{committed_offset 5, committed_leader_epoch -1}]}]}]}
        # an end of nothing
        EndTxn v5: {producer_id producer-1, producer_epoch 3}
        EndTxn v5: InvalidTxnState {producer_id -1, producer_epoch -1}
    "#;
    play("txn-new", script, heard).await;
}
