//! Topics: how they come, grow and go, and who is told what of them.

use ottla_mock::kafka_protocol::messages::{
    create_partitions_request::CreatePartitionsTopic,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
    delete_topics_request::DeleteTopicState,
    metadata_request::MetadataRequestTopic,
    *,
};
use uuid::Uuid;

use crate::stage::{Stage, play, text};

fn topic(name: &str, partitions: i32, replication: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(topics)
}

fn grow(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic = CreatePartitionsTopic::default().with_name(TopicName(text(name))).with_count(count).with_assignments(None);
    CreatePartitionsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
}

fn delete(name: Option<&str>, id: Uuid) -> DeleteTopicsRequest {
    let topic = DeleteTopicState::default().with_name(name.map(|name| TopicName(text(name)))).with_topic_id(id);
    DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
}

fn about(name: Option<&str>, id: Uuid) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(name.map(|name| TopicName(text(name)))).with_topic_id(id);
    MetadataRequest::default().with_topics(Some(vec![topic]))
}

#[tokio::test]
async fn topics_come_grow_and_go() {
    let script = async |stage: &mut Stage| {
        let line = stage.connect().await;
        stage.topic("topics", 1).await;
        stage.says("refused");
        stage.ask(line, 7, &create(vec![topic("topics", 1, 1)])).await;
        stage.ask(line, 7, &create(vec![topic("no/name", 1, 1)])).await;
        stage.ask(line, 7, &create(vec![topic("", 1, 1)])).await;
        stage.ask(line, 7, &create(vec![topic("..", 1, 1)])).await;
        stage.ask(line, 7, &create(vec![topic("topics-0", 0, 1)])).await;
        stage.ask(line, 7, &create(vec![topic("topics-9", 1, 9)])).await;
        stage.ask(line, 7, &create(vec![topic("topics-r", 1, 0)])).await;
        stage.ask(line, 7, &create(vec![topic("topics-twice", 1, 1), topic("topics-twice", 2, 1)])).await;
        let config = CreatableTopicConfig::default().with_name(text("no.such.setting")).with_value(Some(text("1")));
        stage.ask(line, 7, &create(vec![topic("topics-c", 1, 1).with_configs(vec![config])])).await;
        let on = |number, brokers: &[i32]| {
            let brokers = brokers.iter().map(|id| BrokerId(*id)).collect();
            CreatableReplicaAssignment::default().with_partition_index(number).with_broker_ids(brokers)
        };
        stage.ask(line, 7, &create(vec![topic("topics-on", 1, 1).with_assignments(vec![on(0, &[1])])])).await;
        stage.ask(line, 7, &create(vec![topic("topics-on", -1, -1).with_assignments(vec![on(0, &[7])])])).await;
        stage.ask(line, 7, &create(vec![topic("topics-on", -1, -1).with_assignments(vec![on(1, &[1])])])).await;
        stage.says("checked only");
        stage.ask(line, 7, &create(vec![topic("topics-checked", 2, 1)]).with_validate_only(true)).await;
        stage.ask(line, 12, &about(Some("topics-checked"), Uuid::nil())).await;
        stage.says("with defaults");
        stage.ask(line, 5, &create(vec![topic("topics-default", -1, -1)])).await;
        stage.ask(line, 2, &create(vec![topic("topics-old", 2, 1)])).await;
        stage.says("grow");
        stage.ask(line, 3, &grow("topics", 3)).await;
        stage.until_led("topics", 3).await;
        stage.ask(line, 12, &about(Some("topics"), Uuid::nil())).await;
        stage.ask(line, 3, &grow("topics", 3)).await;
        stage.ask(line, 3, &grow("topics", 2)).await;
        stage.ask(line, 3, &grow("topics", 0)).await;
        stage.ask(line, 3, &grow("topics-unknown", 2)).await;
        stage.ask(line, 3, &grow("topics", 5).with_validate_only(true)).await;
        stage.says("go");
        let unknown = Uuid::from_u128(7);
        stage.names.set(unknown, "unknown-topic");
        stage.ask(line, 6, &delete(Some("topics-unknown"), Uuid::nil())).await;
        stage.ask(line, 6, &delete(None, unknown)).await;
        stage.ask(line, 6, &delete(Some("topics"), unknown)).await;
        stage.ask(line, 6, &delete(None, Uuid::nil())).await;
        let id = stage.id("topics");
        stage.ask(line, 6, &delete(None, id)).await;
        // While a topic goes, a real broker may answer for a moment with no topic at all: it still knows
        // the name of the id, and no longer the topic of the name.
        let gone = |answer: &MetadataResponse| answer.topics.first().is_some_and(|topic| topic.error_code != 0);
        stage.until(line, 12, &about(None, id), gone).await;
        stage.ask(line, 12, &about(None, id)).await;
        stage.ask(line, 6, &delete(None, id)).await;
        stage.until_led("topics-old", 2).await;
        let by_name = vec![TopicName(text("topics-old")), TopicName(text("topics-unknown"))];
        stage.ask(line, 5, &DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topic_names(by_name)).await;
    };
    let heard = r#"
        # refused
        CreateTopics v7: {topics [TopicAlreadyExists {name topics, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidTopicException {name no/name, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidTopicException {num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidTopicException {name .., num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidPartitions {name topics-0, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidReplicationFactor {name topics-9, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidReplicationFactor {name topics-r, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidRequest {name topics-twice, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidConfig {name topics-c, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidRequest {name topics-on, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidReplicaAssignment {name topics-on, num_partitions -1, replication_factor -1}]}
        CreateTopics v7: {topics [InvalidReplicaAssignment {name topics-on, num_partitions -1, replication_factor -1}]}
        # checked only
        CreateTopics v7: {topics [{name topics-checked, topic_id topic-1, num_partitions 2, replication_factor 1}]}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [UnknownTopicOrPartition {name topics-checked, topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        # with defaults
        CreateTopics v5: {topics [{name topics-default, num_partitions 1, replication_factor 1}]}
        CreateTopics v2: {topics [{name topics-old, num_partitions -1, replication_factor -1}]}
        # grow
        CreatePartitions v3: {results [{name topics}]}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [{name topics, topic_id id of topics, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 2, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        CreatePartitions v3: {results [InvalidPartitions {name topics}]}
        CreatePartitions v3: {results [InvalidPartitions {name topics}]}
        CreatePartitions v3: {results [InvalidPartitions {name topics}]}
        CreatePartitions v3: {results [UnknownTopicOrPartition {name topics-unknown}]}
        CreatePartitions v3: {results [{name topics}]}
        # go
        DeleteTopics v6: {responses [UnknownTopicOrPartition {name topics-unknown}]}
        DeleteTopics v6: {responses [UnknownTopicId {topic_id unknown-topic}]}
        DeleteTopics v6: {responses [InvalidRequest {name topics, topic_id unknown-topic}]}
        DeleteTopics v6: {responses [InvalidRequest]}
        DeleteTopics v6: {responses [{name topics, topic_id id of topics}]}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [UnknownTopicId {topic_id id of topics, topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        DeleteTopics v6: {responses [UnknownTopicId {topic_id id of topics}]}
        DeleteTopics v5: {responses [UnknownTopicOrPartition {name topics-unknown}, {name topics-old}]}
    "#;
    play("topics", script, heard).await;
}

#[tokio::test]
async fn metadata_is_told_in_every_form() {
    let script = async |stage: &mut Stage| {
        let line = stage.connect().await;
        let id = stage.topic("metadata", 2).await;
        let unknown = Uuid::from_u128(7);
        stage.names.set(unknown, "unknown-topic");
        stage.ask(line, 12, &MetadataRequest::default().with_topics(Some(vec![]))).await;
        stage.ask(line, 12, &about(Some("metadata"), Uuid::nil())).await;
        stage.ask(line, 13, &about(Some("metadata"), Uuid::nil())).await;
        stage.ask(line, 12, &about(None, id)).await;
        stage.ask(line, 12, &about(None, unknown)).await;
        stage.ask(line, 12, &about(Some("metadata-unknown"), Uuid::nil())).await;
        stage.ask(line, 12, &about(Some("no/name"), Uuid::nil())).await;
        stage.ask(line, 12, &about(Some("metadata"), Uuid::nil()).with_include_topic_authorized_operations(true)).await;
        for version in [1, 4, 7, 9, 10] {
            stage.ask(line, version, &about(Some("metadata"), Uuid::nil())).await;
        }
        let mut both = about(None, id);
        both.topics.as_mut().expect("set").push(MetadataRequestTopic::default().with_name(Some(TopicName(text("metadata")))));
        stage.ask(line, 12, &both).await;
        stage.says("all topics: this one is among them");
        let mut all = stage.quietly(line, 12, &MetadataRequest::default().with_topics(None)).await;
        all.topics.retain(|topic| topic.topic_id == id);
        stage.notes("Metadata v12", &all);
    };
    let heard = r#"
        Metadata v12: {brokers [{node_id 1}], controller_id 1, cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v13: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [UnknownTopicId {topic_id unknown-topic, topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [UnknownTopicOrPartition {name metadata-unknown, topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [InvalidTopicException {name no/name, topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations 3576}], cluster_authorized_operations -2147483648}
        Metadata v1: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, partitions [{leader_id 1, leader_epoch -1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, leader_epoch -1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v4: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, partitions [{leader_id 1, leader_epoch -1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, leader_epoch -1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v7: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v9: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v10: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
        # all topics: this one is among them
        Metadata v12: {brokers [{node_id 1}], controller_id 1, topics [{name metadata, topic_id id of metadata, partitions [{leader_id 1, replica_nodes [1], isr_nodes [1]}, {partition_index 1, leader_id 1, replica_nodes [1], isr_nodes [1]}], topic_authorized_operations -2147483648}], cluster_authorized_operations -2147483648}
    "#;
    play("metadata", script, heard).await;
}
