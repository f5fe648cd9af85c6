//! Committed offsets.

use kafka_protocol::messages::{offset_delete_request as delete, txn_offset_commit_request as txn};

use super::*;

/// A producer whose transaction knows of the group.
#[derive(Clone, Copy)]
struct Producer {
    id: i64,
    epoch: i16,
}

fn begin(t: &mut Tester, conn: ConnId) -> Producer {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(text("tx").into()));
    let answer =
        t.ask(conn, 3, &request.with_transaction_timeout_ms(60_000).with_producer_id((-1).into()).with_producer_epoch(-1));
    assert_eq!(answer.error_code, 0);
    let producer = Producer { id: answer.producer_id.0, epoch: answer.producer_epoch };
    let request = AddOffsetsToTxnRequest::default().with_transactional_id(text("tx").into()).with_group_id(text(GROUP).into());
    let request = request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
    assert_eq!(t.ask(conn, 3, &request).error_code, 0);
    producer
}

fn txn_request(producer: Producer, offset: i64) -> TxnOffsetCommitRequest {
    let of = txn::TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = txn::TxnOffsetCommitRequestTopic::default().with_name(text("t").into()).with_partitions(vec![of]);
    TxnOffsetCommitRequest::default()
        .with_transactional_id(text("tx").into())
        .with_group_id(text(GROUP).into())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_generation_id(-1)
        .with_topics(vec![topic])
}

fn end(t: &mut Tester, conn: ConnId, producer: Producer, is_committed: bool) {
    let request = EndTxnRequest::default().with_transactional_id(text("tx").into()).with_committed(is_committed);
    let request = request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
    assert_eq!(t.ask(conn, 3, &request).error_code, 0);
}

fn committed(t: &Tester) -> Vec<i64> {
    let offset = |event: &Event| match event {
        Event::Committed { offset, .. } => Some(*offset),
        _ => None,
    };
    t.events.iter().filter_map(offset).collect()
}

#[test]
fn a_member_commits_and_reads_back_what_it_said() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    assert_eq!(fetch_offset(&mut t, a.conn), (-1, 0));
    let mut request = a.commit_request(42);
    request.topics[0].partitions[0].committed_leader_epoch = 7;
    request.topics[0].partitions[0].committed_metadata = Some(text("note"));
    for version in 2..=9 {
        assert_eq!(t.ask(a.conn, version, &request).topics[0].partitions[0].error_code, 0);
    }
    let answer = t.ask(a.conn, 9, &fetch_request(None));
    let partition = &answer.groups[0].topics[0].partitions[0];
    assert_eq!((partition.committed_offset, partition.committed_leader_epoch), (42, 7));
    assert_eq!(partition.metadata.as_deref(), Some("note"));
    let event = Event::Committed {
        group: GROUP.to_owned(),
        member_id: a.id.to_string(),
        topic: "t".to_owned(),
        partition: 0,
        offset: 42,
        conn: a.conn,
    };
    assert_eq!(t.events.last(), Some(&event));
    assert_eq!(t.kafka.groups.committed(GROUP), [(("t".to_owned(), 0), 42)].into());
}

#[test]
fn every_version_of_offset_fetch_answers() {
    let mut t = tester();
    let conn = t.connect(1);
    with_groups(&mut t, |groups, cx| groups.store_offset(cx, GROUP, "t", 0, 42));
    let topic = fetch::OffsetFetchRequestTopic::default().with_name(text("t").into()).with_partition_indexes(vec![0, 1]);
    let request = OffsetFetchRequest::default().with_group_id(text(GROUP).into()).with_topics(Some(vec![topic]));
    for version in 1..=7 {
        let answer = t.ask(conn, version, &request);
        let offsets: Vec<_> = answer.topics[0].partitions.iter().map(|of| of.committed_offset).collect();
        assert_eq!(offsets, [42, -1], "version {version}");
    }
    for version in 2..=7 {
        let answer = t.ask(conn, version, &request.clone().with_topics(None));
        assert_eq!(answer.topics[0].partitions.len(), 1, "version {version}");
    }
    let unknown = fetch::OffsetFetchRequestGroup::default().with_group_id(text("none").into());
    let mut request = fetch_request(Some(&[("t", &[0])]));
    request.groups.push(unknown.with_topics(None));
    for version in 8..=9 {
        let answer = t.ask(conn, version, &request);
        assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 42);
        assert_eq!((answer.groups[1].error_code, answer.groups[1].topics.len()), (0, 0));
    }
}

#[test]
fn commits_are_refused_in_kafkas_order() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    let mut ask = |request: OffsetCommitRequest| t.ask(a.conn, 8, &request).topics[0].partitions[0].error_code;
    let good = a.commit_request(1);
    assert_eq!(ask(good.clone().with_member_id(text("x"))), code(ResponseError::UnknownMemberId));
    let older = a.generation - 1;
    assert_eq!(ask(good.clone().with_generation_id_or_member_epoch(older)), code(ResponseError::IllegalGeneration));
    assert_eq!(ask(commit_request(GROUP, &[("t", 0, 1)])), code(ResponseError::UnknownMemberId), "the group is not empty");
    let named = good.clone().with_group_instance_id(Some(text("i")));
    assert_eq!(ask(named), code(ResponseError::UnknownMemberId));
    let elsewhere = good.clone().with_group_id(text("none").into());
    assert_eq!(ask(elsewhere.clone()), code(ResponseError::IllegalGeneration));
    assert_eq!(t.ask(a.conn, 9, &elsewhere).topics[0].partitions[0].error_code, code(ResponseError::GroupIdNotFound));
    assert_eq!(committed(&t), [0; 0]);
}

#[test]
fn a_commit_waits_out_a_rebalance_only_between_join_and_sync() {
    let mut t = tester();
    let mut clients = stable(&mut t, 2);
    clients[1].protocols = vec![("range", subscription(&["u"]))];
    clients[1].send_join(&mut t);
    assert_eq!(state(&t), "PreparingRebalance");
    assert_eq!(clients[0].commit(&mut t, 1), 0);
    clients[0].send_join(&mut t);
    clients[0].joined(&mut t);
    assert_eq!(clients[0].commit(&mut t, 2), code(ResponseError::RebalanceInProgress));
    assert_eq!(committed(&t), [1]);
}

#[test]
fn one_who_is_in_no_group_commits_into_an_empty_one() {
    let mut t = tester();
    let conn = t.connect(1);
    let request = commit_request(GROUP, &[("t", 0, 3)]);
    assert_eq!(t.ask(conn, 8, &request).topics[0].partitions[0].error_code, 0);
    assert_eq!(state(&t), "Empty");
    assert_eq!(fetch_offset(&mut t, conn), (3, 0));
}

#[test]
fn partitions_that_are_not_there_and_too_long_notes_are_refused_one_by_one() {
    let mut t = tester();
    let conn = t.connect(1);
    let mut request = commit_request(GROUP, &[("t", 0, 3), ("t", 3, 3), ("none", 0, 3), ("t", 1, 4)]);
    request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4097)));
    let answer = t.ask(conn, 8, &request);
    let errors: Vec<_> = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    let unknown = code(ResponseError::UnknownTopicOrPartition);
    assert_eq!(errors, [code(ResponseError::OffsetMetadataTooLarge), unknown, unknown, 0]);
    assert_eq!(committed(&t), [4]);
    let nowhere = t.ask(conn, 8, &commit_request("other", &[("none", 0, 3)]));
    assert_eq!(nowhere.topics[0].partitions[0].error_code, unknown);
    assert_eq!(t.kafka.groups.state("other"), None, "a commit of nothing makes no group");
}

#[test]
fn a_transactions_offset_is_unstable_until_it_ends() {
    let mut t = tester();
    let conn = t.connect(1);
    with_groups(&mut t, |groups, cx| groups.store_offset(cx, GROUP, "t", 0, 1));
    for (version, is_committed, expected) in [(0, true, 10), (5, false, 10), (3, true, 13)] {
        let producer = begin(&mut t, conn);
        let answer = t.ask(conn, version, &txn_request(producer, 10 + i64::from(version)));
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
        assert_eq!(fetch_offset(&mut t, conn), (-1, code(ResponseError::UnstableOffsetCommit)));
        let mut request = fetch_request(Some(&[("t", &[0])]));
        request.require_stable = false;
        assert!(t.ask(conn, 8, &request).groups[0].topics[0].partitions[0].committed_offset >= 1);
        end(&mut t, conn, producer, is_committed);
        assert_eq!(fetch_offset(&mut t, conn), (expected, 0));
    }
    assert_eq!(committed(&t), [1, 10, 13]);
}

#[test]
fn a_plain_commit_after_a_transactions_outlives_its_end() {
    let mut t = tester();
    let conn = t.connect(1);
    let producer = begin(&mut t, conn);
    assert_eq!(t.ask(conn, 3, &txn_request(producer, 10)).topics[0].partitions[0].error_code, 0);
    with_groups(&mut t, |groups, cx| groups.store_offset(cx, GROUP, "t", 0, 20));
    end(&mut t, conn, producer, true);
    assert_eq!(fetch_offset(&mut t, conn), (20, 0));
}

#[test]
fn a_transactions_commit_is_checked_against_the_group() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    let producer = begin(&mut t, a.conn);
    let mut ask = |request: TxnOffsetCommitRequest| t.ask(a.conn, 3, &request).topics[0].partitions[0].error_code;
    let good = txn_request(producer, 1).with_member_id(a.id.clone()).with_generation_id(a.generation);
    assert_eq!(ask(good.clone()), 0);
    assert_eq!(ask(good.clone().with_generation_id(9)), code(ResponseError::IllegalGeneration));
    assert_eq!(ask(good.clone().with_member_id(text("x"))), code(ResponseError::UnknownMemberId));
    assert_eq!(ask(good.with_group_id(text("none").into())), code(ResponseError::IllegalGeneration));
    assert_eq!(ask(txn_request(producer, 1)), 0, "a producer may say nothing of its group");
}

#[test]
fn offsets_of_a_group_get_old_from_when_it_was_left() {
    let retention = Duration::from_secs(3600);
    let mut t = tester_with(Settings { offsets_retention: retention, ..Settings::default() });
    let clients = stable(&mut t, 1);
    assert_eq!(clients[0].commit(&mut t, 5), 0);
    for _ in 0..=(retention.as_secs() / 5) {
        t.pass(SESSION / 2);
        assert_eq!(clients[0].heartbeat(&mut t), 0);
    }
    assert_eq!(clients[0].leave(&mut t), 0);
    t.pass(retention - Duration::from_millis(1));
    assert_eq!(fetch_offset(&mut t, clients[0].conn), (5, 0));
    t.pass(Duration::from_millis(1));
    assert_eq!(fetch_offset(&mut t, clients[0].conn), (-1, 0));
    assert_eq!(t.kafka.groups.state(GROUP), None, "the group went with them");
}

#[test]
fn offsets_without_members_get_old_from_their_commit() {
    let retention = Duration::from_secs(3600);
    let mut t = tester_with(Settings { offsets_retention: retention, ..Settings::default() });
    let conn = t.connect(1);
    t.ask(conn, 8, &commit_request(GROUP, &[("t", 0, 3), ("t", 1, 3)]));
    t.pass(retention / 2);
    t.ask(conn, 8, &commit_request(GROUP, &[("t", 0, 4)]));
    t.pass(retention / 2);
    assert_eq!(t.kafka.groups.committed(GROUP), [(("t".to_owned(), 0), 4)].into());
    t.pass(retention / 2);
    assert_eq!(t.kafka.groups.state(GROUP), None);
}

#[test]
fn a_live_group_loses_old_offsets_only_of_topics_it_does_not_read() {
    let retention = Duration::from_secs(60);
    let mut t = tester_with(Settings { offsets_retention: retention, ..Settings::default() });
    create_topic(&mut t, "u", 1);
    let clients = stable(&mut t, 1);
    with_groups(&mut t, |groups, cx| {
        groups.store_offset(cx, GROUP, "t", 0, 1);
        groups.store_offset(cx, GROUP, "u", 0, 1);
    });
    for _ in 0..13 {
        t.pass(SESSION / 2);
        assert_eq!(clients[0].heartbeat(&mut t), 0);
    }
    assert_eq!(t.kafka.groups.committed(GROUP).into_keys().collect::<Vec<_>>(), [("t".to_owned(), 0)]);
}

#[test]
fn an_old_commit_may_say_how_long_it_is_to_be_kept() {
    let mut t = tester();
    let conn = t.connect(1);
    t.ask(conn, 3, &commit_request(GROUP, &[("t", 0, 3)]).with_retention_time_ms(1000));
    t.pass(Duration::from_millis(999));
    assert_eq!(fetch_offset(&mut t, conn), (3, 0));
    t.pass(Duration::from_millis(1));
    assert_eq!(fetch_offset(&mut t, conn), (-1, 0));
}

#[test]
fn the_offsets_of_a_deleted_topic_go() {
    let mut t = tester();
    let conn = t.connect(1);
    with_groups(&mut t, |groups, cx| groups.store_offset(cx, GROUP, "t", 0, 1));
    let producer = begin(&mut t, conn);
    assert_eq!(t.ask(conn, 3, &txn_request(producer, 10)).topics[0].partitions[0].error_code, 0);
    with_groups(&mut t, |groups, cx| groups.topic_deleted(cx, "t"));
    assert_eq!(fetch_offset(&mut t, conn), (-1, 0));
    end(&mut t, conn, producer, true);
    assert_eq!(fetch_offset(&mut t, conn), (-1, 0));
}

#[test]
fn offsets_can_be_deleted_unless_somebody_reads_them() {
    let mut t = tester();
    create_topic(&mut t, "u", 1);
    let a = &stable(&mut t, 1)[0];
    with_groups(&mut t, |groups, cx| {
        groups.store_offset(cx, GROUP, "t", 0, 1);
        groups.store_offset(cx, GROUP, "u", 0, 1);
    });
    let of = |topic: &str| {
        let partition = delete::OffsetDeleteRequestPartition::default();
        delete::OffsetDeleteRequestTopic::default().with_name(text(topic).into()).with_partitions(vec![partition])
    };
    let request = OffsetDeleteRequest::default().with_group_id(text(GROUP).into()).with_topics(vec![of("t"), of("u"), of("x")]);
    let answer = t.ask(a.conn, 0, &request);
    let errors: Vec<_> = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    let expected = [ResponseError::GroupSubscribedToTopic.code(), 0, ResponseError::UnknownTopicOrPartition.code()];
    assert_eq!((answer.error_code, errors), (0, expected.to_vec()));
    assert_eq!(t.kafka.groups.committed(GROUP).into_keys().collect::<Vec<_>>(), [("t".to_owned(), 0)]);
    let nowhere = t.ask(a.conn, 0, &request.clone().with_group_id(text("none").into()));
    assert_eq!(nowhere.error_code, code(ResponseError::GroupIdNotFound));
}
