use kafka_protocol::{
    ResponseError,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, TopicName,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        delete_topics_request::DeleteTopicState,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::kafka::{ConnId, Settings, tester::Tester};

fn name(name: &str) -> TopicName {
    StrBytes::from_string(name.to_owned()).into()
}

fn tester() -> (Tester, ConnId) {
    let mut tester = Tester::new(Settings { brokers: 3, ..Settings::default() });
    let conn = tester.connect(1);
    (tester, conn)
}

fn plain(topic: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(factor)
}

fn create(tester: &mut Tester, conn: ConnId, topics: Vec<CreatableTopic>) -> CreateTopicsResponse {
    tester.ask(conn, 7, &CreateTopicsRequest::default().with_topics(topics))
}

fn codes(answer: &CreateTopicsResponse) -> Vec<i16> {
    answer.topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn a_new_topic_is_led_by_the_brokers_in_turn() {
    let (mut tester, conn) = tester();
    let config = CreatableTopicConfig::default().with_name(StrBytes::from_static_str("cleanup.policy"));
    let config = config.with_value(Some(StrBytes::from_static_str("compact")));
    let answer = create(&mut tester, conn, vec![plain("t", 4, -1).with_configs(vec![config])]);
    assert_eq!(codes(&answer), [0]);
    assert_eq!((answer.topics[0].num_partitions, answer.topics[0].replication_factor), (4, 3));
    let topic = tester.kafka.topics.get("t").expect("it was created");
    assert_eq!(topic.id, answer.topics[0].topic_id);
    assert_eq!(topic.configs["cleanup.policy"], "compact");
    let replicas: Vec<_> = topic.partitions.iter().map(|partition| (partition.leader, &partition.replicas[..])).collect();
    assert_eq!(replicas, [(Some(1), &[1, 2, 3][..]), (Some(2), &[2, 3, 1]), (Some(3), &[3, 1, 2]), (Some(1), &[1, 2, 3])]);
    for version in 2..=6 {
        let request = CreateTopicsRequest::default().with_topics(vec![plain(&format!("v{version}"), 1, 1)]);
        assert_eq!(codes(&tester.ask(conn, version, &request)), [0]);
    }
}

#[test]
fn a_topic_that_cannot_be_is_refused_and_the_others_are_created() {
    let (mut tester, conn) = tester();
    create(&mut tester, conn, vec![plain("had", 1, 1), plain("a.b", 1, 1)]);
    let assigned = |numbers: &[(i32, &[i32])]| {
        let one = |(number, ids): &(i32, &[i32])| {
            let ids = ids.iter().map(|id| (*id).into()).collect();
            CreatableReplicaAssignment::default().with_partition_index(*number).with_broker_ids(ids)
        };
        plain("assigned", -1, -1).with_assignments(numbers.iter().map(one).collect())
    };
    let asked = [
        (plain("had", 1, 1), ResponseError::TopicAlreadyExists),
        (plain("no/name", 1, 1), ResponseError::InvalidTopicException),
        (plain("", 1, 1), ResponseError::InvalidTopicException),
        (plain("..", 1, 1), ResponseError::InvalidTopicException),
        (plain(&"x".repeat(250), 1, 1), ResponseError::InvalidTopicException),
        (plain("a_b", 1, 1), ResponseError::InvalidTopicException),
        (plain("zero", 0, 1), ResponseError::InvalidPartitions),
        (plain("factor", 1, 4), ResponseError::InvalidReplicationFactor),
        (plain("none", 1, 0), ResponseError::InvalidReplicationFactor),
        (assigned(&[(0, &[1, 9])]), ResponseError::InvalidReplicaAssignment),
        (assigned(&[(1, &[1])]), ResponseError::InvalidReplicaAssignment),
    ];
    for (topic, error) in asked {
        let answer = create(&mut tester, conn, vec![topic.clone()]);
        assert_eq!(codes(&answer), [error.code()], "{:?}", topic.name);
    }
    let answer = create(&mut tester, conn, vec![plain("zero", 0, 1), plain("good", 1, 1), assigned(&[(1, &[3]), (0, &[2, 1])])]);
    assert_eq!(codes(&answer), [ResponseError::InvalidPartitions.code(), 0, 0]);
    let partitions = &tester.kafka.topics.get("assigned").expect("it was created").partitions;
    assert_eq!((&partitions[0].replicas[..], partitions[1].leader), (&[2, 1][..], Some(3)));
    let twice = create(&mut tester, conn, vec![plain("twice", 1, 1), plain("twice", 1, 1)]);
    assert_eq!(codes(&twice), [ResponseError::InvalidRequest.code()], "told once");
}

/// A request's few bytes must not take any amount of memory.
#[test]
fn a_hundred_thousand_partitions_can_be_asked_for_in_all_and_not_one_more() {
    let (mut tester, conn) = tester();
    let too_many = [ResponseError::InvalidPartitions.code()];
    assert_eq!(codes(&create(&mut tester, conn, vec![plain("max", i32::MAX, 1)])), too_many);
    assert_eq!(codes(&create(&mut tester, conn, vec![plain("a", 99_999, 1)])), [0]);
    assert_eq!(codes(&create(&mut tester, conn, vec![plain("b", 2, 1)])), too_many);
    assert_eq!(codes(&create(&mut tester, conn, vec![plain("b", 1, 1)])), [0]);
    let more = CreatePartitionsTopic::default().with_name(name("b")).with_count(2).with_assignments(None);
    let answer = tester.ask(conn, 3, &CreatePartitionsRequest::default().with_topics(vec![more]));
    assert_eq!(answer.results[0].error_code, too_many[0]);
}

#[test]
fn what_is_only_validated_is_not_done() {
    let (mut tester, conn) = tester();
    let request = CreateTopicsRequest::default().with_topics(vec![plain("t", 1, 1)]).with_validate_only(true);
    assert_eq!(codes(&tester.ask(conn, 7, &request)), [0]);
    assert!(tester.kafka.topics.get("t").is_none());
    tester.with(|kafka| kafka.create_topic("t", 1));
    let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(2).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(true);
    assert_eq!(tester.ask(conn, 3, &request).results[0].error_code, 0);
    assert_eq!(tester.kafka.topics.get("t").map(|topic| topic.partitions.len()), Some(1));
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let (mut tester, conn) = tester();
    let id = tester.with(|kafka| {
        kafka.create_topic("named", 1);
        kafka.create_topic("known", 1)
    });
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name("named"), name("none")]);
    let answer = tester.ask(conn, 5, &request);
    let codes: Vec<_> = answer.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, ResponseError::UnknownTopicOrPartition.code()]);
    let by_id = |id: Uuid| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id(id), by_id(id)]);
    let answer = tester.ask(conn, 6, &request);
    let found: Vec<_> = answer.responses.iter().map(|topic| (topic.error_code, topic.name.clone(), topic.topic_id)).collect();
    assert_eq!(found, [(0, Some(name("known")), id), (ResponseError::UnknownTopicId.code(), None, id)]);
    assert_eq!(tester.kafka.topics.iter().count(), 0);
    for asked in [DeleteTopicState::default().with_name(Some(name("x"))).with_topic_id(id), by_id(Uuid::nil())] {
        let answer = tester.ask(conn, 6, &DeleteTopicsRequest::default().with_topics(vec![asked]));
        assert_eq!(answer.responses[0].error_code, ResponseError::InvalidRequest.code(), "by both, or by neither");
    }
}

#[test]
fn a_setting_that_no_topic_has_is_refused() {
    let (mut tester, conn) = tester();
    let config = CreatableTopicConfig::default().with_name(StrBytes::from_static_str("cleanup.polciy"));
    let answer = create(&mut tester, conn, vec![plain("t", 1, 1).with_configs(vec![config])]);
    assert_eq!(codes(&answer), [ResponseError::InvalidConfig.code()]);
    assert!(tester.kafka.topics.get("t").is_none());
}

#[test]
fn partitions_only_become_more() {
    let (mut tester, conn) = tester();
    tester.with(|kafka| kafka.create_topic_with("t", &[&[1, 2]], &[]));
    let mut ask = |topic: &str, count| {
        let topic = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None);
        tester.ask(conn, 3, &CreatePartitionsRequest::default().with_topics(vec![topic])).results[0].error_code
    };
    assert_eq!(ask("t", 1), ResponseError::InvalidPartitions.code());
    assert_eq!(ask("none", 2), ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(ask("t", 3), 0);
    let partitions = &tester.kafka.topics.get("t").expect("it exists").partitions;
    let replicas: Vec<_> = partitions.iter().map(|partition| &partition.replicas[..]).collect();
    assert_eq!(replicas, [[1, 2], [2, 3], [3, 1]]);
    for version in 0..=3 {
        let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(2).with_assignments(None);
        let answer = tester.ask(conn, version, &CreatePartitionsRequest::default().with_topics(vec![topic]));
        assert_eq!(answer.results[0].error_code, ResponseError::InvalidPartitions.code());
    }
}

#[test]
fn a_topic_made_anew_under_its_name_has_another_id() {
    let (mut tester, _) = tester();
    let (first, second) = tester.with(|kafka| {
        let first = kafka.create_topic("t", 1);
        kafka.delete_topic("t");
        (first, kafka.create_topic("t", 1))
    });
    assert_ne!(first, second);
    assert_eq!(tester.kafka.topics.name_of(first), None);
    assert_eq!(tester.kafka.topics.name_of(second), Some("t"));
}
