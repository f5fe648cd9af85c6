//! A partition gets another leader: who is refused, and how epochs show where logs part.

use std::env;

use kafka_harness::{Admin, Cluster, DEFAULT_VERSION, Options};
use ottla_mock::{
    MockCluster,
    kafka_protocol::messages::{
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic},
        metadata_request::MetadataRequestTopic,
        *,
    },
};

use crate::{
    fetch::{fetch, read},
    logs::{epoch_end, list},
    produce::{NOBODY, batch, now_ms, produce, write},
    stage::{Stage, act, text},
};

const TOPIC: &str = "leaders";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_begins_an_epoch() {
    let expected = r#"
        ListOffsets v10: {topics [{name leaders, partitions [{timestamp -1, offset 2}]}]}
        # the old leader
        ListOffsets v10: {topics [{name leaders, partitions [NotLeaderOrFollower {timestamp -1, offset -1, leader_epoch -1}]}]}
        Produce v9: {responses [{name leaders, partition_responses [NotLeaderOrFollower {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id -1, leader_epoch -1}}]}]}
        Produce v10: {responses [{name leaders, partition_responses [NotLeaderOrFollower {base_offset -1, log_append_time_ms -1, log_start_offset -1, current_leader {leader_id 2, leader_epoch 1}}]}], node_endpoints [{node_id 2}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [NotLeaderOrFollower {leader_epoch -1, end_offset -1}]}]}
        # the new leader, before it has written anything
        ListOffsets v10: {topics [{name leaders, partitions [{timestamp -1, offset 2, leader_epoch 1}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [{end_offset 2}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [{leader_epoch 1, end_offset 2}]}]}
        # and then
        ListOffsets v10: {topics [{name leaders, partitions [{timestamp -1, offset 3, leader_epoch 1}]}]}
        ListOffsets v10: {topics [{name leaders, partitions [{timestamp -1, offset 0}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [{end_offset 2}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [{leader_epoch 1, end_offset 3}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [{leader_epoch -1, end_offset -1}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [FencedLeaderEpoch {leader_epoch -1, end_offset -1}]}]}
        Fetch v17: {responses [{topic_id id of leaders, partitions [FencedLeaderEpoch {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id 2, leader_epoch 1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}], node_endpoints [{node_id 2}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [{end_offset 2}]}]}
        Fetch v17: {responses [{topic_id id of leaders, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"0-1 epoch 0; 2-2 epoch 1"}]}]}
        OffsetForLeaderEpoch v4: {topics [{topic leaders, partitions [UnknownLeaderEpoch {leader_epoch -1, end_offset -1}]}]}
        Fetch v17: {responses [{topic_id id of leaders, partitions [UnknownLeaderEpoch {high_watermark -1, last_stable_offset -1, log_start_offset -1, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
        # a reader whose last records are not in this log
        Fetch v17: {responses [{topic_id id of leaders, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {epoch -1, end_offset -1}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1, records b"2-2 epoch 1"}]}]}
        Fetch v17: {responses [{topic_id id of leaders, partitions [{high_watermark 3, last_stable_offset 3, log_start_offset 0, diverging_epoch {end_offset 2}, current_leader {leader_id -1, leader_epoch -1}, snapshot_id {end_offset -1, epoch -1}, preferred_read_replica -1}]}]}
    "#;
    let mut wrong = Vec::new();
    if env::var_os("OTTLA_REAL_KAFKA").is_some() {
        let cluster = Cluster::start(Options { nodes: 3, ..Options::default() }).expect("a real Kafka");
        let admin = Admin::start(&cluster.bootstrap(), DEFAULT_VERSION).expect("the admin shell");
        let elect = || {
            tokio::task::block_in_place(|| {
                admin.reassign(TOPIC, 0, &[2, 1]).expect("reassign");
                admin.elect_preferred(TOPIC, 0).expect("elect");
            });
        };
        wrong.extend(act("real", TOPIC, &script(&elect), Stage::new(cluster.bootstrap(), None), expected).await);
    }
    let mock = MockCluster::builder().brokers(3).start().await;
    let elect = || mock.with(|kafka| kafka.elect(TOPIC, 0, 2));
    wrong.extend(act("mock", TOPIC, &script(&elect), Stage::new(mock.bootstrap_servers(), None), expected).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn script(elect: &impl Fn()) -> impl AsyncFn(&mut Stage) {
    async move |stage: &mut Stage| {
        let (old, new) = (stage.connect_to(1).await, stage.connect_to(2).await);
        let replicas = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let topic = CreatableTopic::default().with_name(TopicName(text(TOPIC))).with_assignments(vec![replicas]);
        let topic = topic.with_num_partitions(-1).with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let created = stage.quietly(old, 7, &request).await;
        let id = created.topics[0].topic_id;
        stage.names.set(id, "id of leaders");
        stage.until(old, 10, &list(TOPIC, -1), |answer| answer.topics[0].partitions[0].error_code == 0).await;
        write(stage, old, TOPIC, 2).await;
        stage.ask(old, 10, &list(TOPIC, -1)).await;
        elect();
        let name = MetadataRequestTopic::default().with_name(Some(TopicName(text(TOPIC))));
        let metadata = MetadataRequest::default().with_topics(Some(vec![name]));
        for line in [old, new] {
            stage.until(line, 12, &metadata, |answer| answer.topics[0].partitions[0].leader_id.0 == 2).await;
        }
        stage.until(new, 10, &list(TOPIC, -1), |answer| answer.topics[0].partitions[0].error_code == 0).await;
        stage.until(old, 10, &list(TOPIC, -1), |answer| answer.topics[0].partitions[0].error_code != 0).await;
        stage.says("the old leader");
        stage.ask(old, 10, &list(TOPIC, -1)).await;
        stage.ask(old, 9, &produce(TOPIC, batch(NOBODY, 1, now_ms()))).await;
        stage.ask(old, 10, &produce(TOPIC, batch(NOBODY, 1, now_ms()))).await;
        stage.ask(old, 4, &epoch_end(TOPIC, 0, 0, -1)).await;
        stage.says("the new leader, before it has written anything");
        stage.ask(new, 10, &list(TOPIC, -1)).await;
        stage.ask(new, 4, &epoch_end(TOPIC, 0, 0, -1)).await;
        stage.ask(new, 4, &epoch_end(TOPIC, 0, 1, -1)).await;
        stage.says("and then");
        write(stage, new, TOPIC, 1).await;
        stage.ask(new, 10, &list(TOPIC, -1)).await;
        stage.ask(new, 10, &list(TOPIC, -2)).await;
        for epoch in [0, 1, 2] {
            stage.ask(new, 4, &epoch_end(TOPIC, 0, epoch, -1)).await;
        }
        for current in [0, 1, 2] {
            stage.ask(new, 4, &epoch_end(TOPIC, 0, 0, current)).await;
            let mut request = fetch(id, 0, 0);
            request.topics[0].partitions[0].current_leader_epoch = current;
            read(stage, new, 17, &request).await;
        }
        stage.says("a reader whose last records are not in this log");
        for offset in [2, 3] {
            let mut request = fetch(id, 0, offset);
            request.topics[0].partitions[0].last_fetched_epoch = 0;
            read(stage, new, 17, &request).await;
        }
    }
}
