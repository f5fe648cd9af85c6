use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
        fetch_response::PartitionData,
    },
    protocol::StrBytes,
    records::RecordBatchDecoder,
};
use uuid::Uuid;

use crate::{
    Outcome,
    kafka::{ConnId, Settings, tester::Tester},
};

/// Goes by topic names, and knows everything else.
const NAMES: i16 = 12;
const IDS: i16 = 17;

fn cluster(brokers: i32) -> (Tester, ConnId) {
    let mut tester = Tester::new(Settings { brokers, ..Settings::default() });
    let conn = tester.connect(1);
    (tester, conn)
}

fn at(number: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(number).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

fn ask(topic: &str, partitions: &[FetchPartition]) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(partitions.to_vec());
    FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_topics(vec![topic])
}

fn ask_by_id(id: Uuid, partitions: &[FetchPartition]) -> FetchRequest {
    let topic = FetchTopic::default().with_topic_id(id).with_partitions(partitions.to_vec());
    FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_topics(vec![topic])
}

fn name(topic: &str) -> kafka_protocol::messages::TopicName {
    StrBytes::from_string(topic.to_owned()).into()
}

#[track_caller]
fn only(answer: &FetchResponse) -> &PartitionData {
    assert_eq!(answer.error_code, 0);
    let [topic] = &answer.responses[..] else { panic!("{} topics", answer.responses.len()) };
    let [partition] = &topic.partitions[..] else { panic!("{} partitions", topic.partitions.len()) };
    partition
}

/// Lists the offsets of all records, control records too, as somebody else's decoder reads them.
fn offsets(partition: &PartitionData) -> Vec<i64> {
    let mut records = partition.records.clone().expect("never null");
    if records.is_empty() {
        return Vec::new();
    }
    let sets = RecordBatchDecoder::decode_all(&mut records).expect("whole batches");
    sets.iter().flat_map(|set| &set.records).map(|record| record.offset).collect()
}

#[test]
fn what_was_appended_is_read_from_the_offset_on() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append("t", 0, ["a", "b"]);
        kafka.append("t", 0, ["c"]);
    });
    for version in 4..=NAMES {
        let answer = tester.ask(conn, version, &ask("t", &[at(0, 2)]));
        assert_eq!((only(&answer).high_watermark, offsets(only(&answer))), (3, vec![2]));
        let answer = tester.ask(conn, version, &ask("t", &[at(0, 1)]));
        assert_eq!(offsets(only(&answer)), [0, 1, 2], "batches come whole");
    }
}

#[test]
fn a_fetch_waits_for_records_and_no_longer_than_it_said() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| kafka.create_topic("t", 1));
    tester.send(conn, NAMES, &ask("t", &[at(0, 0)]));
    tester.pass(Duration::from_millis(499));
    assert!(tester.answer::<FetchRequest>(conn, NAMES).is_none());
    tester.pass(Duration::from_millis(1));
    let answer = tester.answer::<FetchRequest>(conn, NAMES).expect("the time is over");
    assert!(offsets(only(&answer)).is_empty());

    tester.send(conn, NAMES, &ask("t", &[at(0, 0)]));
    tester.with(|kafka| kafka.append("t", 0, ["a"]));
    let answer = tester.answer::<FetchRequest>(conn, NAMES).expect("there is a record");
    assert_eq!(offsets(only(&answer)), [0]);
}

#[test]
fn a_fetch_waits_for_as_many_bytes_as_it_said() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| kafka.create_topic("t", 2));
    tester.with(|kafka| kafka.append("t", 0, ["a"]));
    let request = ask("t", &[at(0, 0), at(1, 0)]).with_min_bytes(100);
    tester.send(conn, NAMES, &request);
    assert!(tester.answer::<FetchRequest>(conn, NAMES).is_none());
    tester.with(|kafka| kafka.append("t", 1, ["a"]));
    let answer = tester.answer::<FetchRequest>(conn, NAMES).expect("both together are enough");
    assert_eq!(answer.responses[0].partitions.iter().map(offsets).collect::<Vec<_>>(), [[0], [0]]);
}

#[test]
fn only_the_first_batch_of_the_first_partition_with_any_goes_past_the_limits() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 3);
        for partition in [1, 2] {
            kafka.append("t", partition, [vec![7; 1000]]);
            kafka.append("t", partition, [vec![7; 1000]]);
        }
    });
    let small = |number| at(number, 0).with_partition_max_bytes(10);
    let answer = tester.ask(conn, NAMES, &ask("t", &[small(0), small(1), small(2)]));
    let lengths = |answer: &FetchResponse| -> Vec<usize> {
        answer.responses[0].partitions.iter().map(|partition| partition.records.as_ref().map_or(0, Bytes::len)).collect()
    };
    let one = lengths(&answer)[1];
    assert!(one > 1000);
    assert_eq!(lengths(&answer), [0, one, 0]);
    let limit = i32::try_from(3 * one + 5).expect("small");
    let answer = tester.ask(conn, NAMES, &ask("t", &[at(1, 0), at(2, 0)]).with_max_bytes(limit));
    assert_eq!(lengths(&answer), [2 * one, one + 5], "an answer ends within a batch");
}

#[test]
fn a_reader_of_committed_records_stops_at_the_last_stable_offset_and_learns_what_was_aborted() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append_transaction("t", 0, ["a"], Outcome::Abort);
        kafka.append("t", 0, ["b"]);
        kafka.append_transaction("t", 0, ["c"], Outcome::Open);
    });
    let request = ask("t", &[at(0, 0)]).with_isolation_level(1);
    let answer = tester.ask(conn, NAMES, &request);
    let part = only(&answer);
    assert_eq!((part.high_watermark, part.last_stable_offset), (4, 3));
    assert_eq!(offsets(part), [0, 1, 2]);
    let aborted = part.aborted_transactions.as_ref().expect("a list");
    assert_eq!(aborted.iter().map(|it| it.first_offset).collect::<Vec<_>>(), [0]);
    let uncommitted = tester.ask(conn, NAMES, &ask("t", &[at(0, 0)]));
    assert_eq!(offsets(only(&uncommitted)), [0, 1, 2, 3]);
    assert_eq!(only(&uncommitted).aborted_transactions, None);

    tester.send(conn, NAMES, &ask("t", &[at(0, 3)]).with_isolation_level(1));
    assert!(tester.answer::<FetchRequest>(conn, NAMES).is_none());
    tester.with(|kafka| kafka.end_open_transactions("t", 0, Outcome::Commit));
    let answer = tester.answer::<FetchRequest>(conn, NAMES).expect("the last stable offset has moved");
    assert_eq!(offsets(only(&answer)), [3, 4]);
}

#[test]
fn offsets_outside_the_log_are_refused() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append("t", 0, ["a", "b", "c"]);
        kafka.delete_records("t", 0, 2);
    });
    for offset in [0, 1, 4] {
        let answer = tester.ask(conn, NAMES, &ask("t", &[at(0, offset)]));
        let part = only(&answer);
        assert_eq!((part.error_code, part.high_watermark), (ResponseError::OffsetOutOfRange.code(), -1));
    }
    let answer = tester.ask(conn, NAMES, &ask("t", &[at(0, 2)]));
    assert_eq!(only(&answer).log_start_offset, 2);
}

#[test]
fn only_the_leader_serves_and_its_epoch_must_be_the_clients() {
    let (mut tester, conn) = cluster(2);
    tester.with(|kafka| kafka.create_topic_with("t", &[&[1]], &[]));
    let elsewhere = tester.connect(2);
    let code = |tester: &mut Tester, conn, topic: &str, partition: FetchPartition| {
        only(&tester.ask(conn, NAMES, &ask(topic, &[partition]).with_max_wait_ms(0))).error_code
    };
    assert_eq!(code(&mut tester, elsewhere, "t", at(0, 0)), ResponseError::NotLeaderOrFollower.code());
    assert_eq!(code(&mut tester, conn, "u", at(0, 0)), ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(code(&mut tester, conn, "t", at(1, 0)), ResponseError::UnknownTopicOrPartition.code());
    tester.with(|kafka| kafka.elect("t", 0, 1));
    let with_epoch = |epoch| at(0, 0).with_current_leader_epoch(epoch);
    assert_eq!(code(&mut tester, conn, "t", with_epoch(0)), ResponseError::FencedLeaderEpoch.code());
    assert_eq!(code(&mut tester, conn, "t", with_epoch(1)), 0);
    assert_eq!(code(&mut tester, conn, "t", with_epoch(2)), ResponseError::UnknownLeaderEpoch.code());
}

#[test]
fn a_waiting_fetch_learns_at_once_that_the_leader_is_another_or_the_topic_gone() {
    let (mut tester, conn) = cluster(2);
    let id = tester.with(|kafka| kafka.create_topic("t", 1));
    tester.send(conn, IDS, &ask_by_id(id, &[at(0, 0).with_current_leader_epoch(0)]));
    tester.with(|kafka| kafka.elect("t", 0, 2));
    let answer = tester.answer::<FetchRequest>(conn, IDS).expect("the leader is another");
    assert_eq!(only(&answer).error_code, ResponseError::FencedLeaderEpoch.code());
    let leader = &only(&answer).current_leader;
    assert_eq!((leader.leader_id.0, leader.leader_epoch), (2, 1));
    assert_eq!(answer.node_endpoints.iter().map(|node| (node.node_id.0, node.port)).collect::<Vec<_>>(), [(2, 9092)]);

    let other = tester.connect(2);
    tester.send(other, IDS, &ask_by_id(id, &[at(0, 0)]));
    tester.with(|kafka| kafka.delete_topic("t"));
    let answer = tester.answer::<FetchRequest>(other, IDS).expect("the topic is gone");
    assert_eq!(only(&answer).error_code, ResponseError::UnknownTopicOrPartition.code());
    let answer = tester.ask(other, IDS, &ask_by_id(id, &[at(0, 0)]));
    assert_eq!(only(&answer).error_code, ResponseError::UnknownTopicId.code());
}

#[test]
fn a_client_ahead_of_a_truncated_log_learns_where_they_part() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append("t", 0, ["a"]);
        kafka.append("t", 0, ["b"]);
        assert_eq!(kafka.truncate("t", 0, 1), 1);
        kafka.append("t", 0, ["c"]);
        kafka.append("t", 0, ["d"]);
    });
    let with_epoch = |offset, epoch| at(0, offset).with_last_fetched_epoch(epoch);
    let answer = tester.ask(conn, NAMES, &ask("t", &[with_epoch(2, 0)]));
    let part = only(&answer);
    assert_eq!((part.error_code, part.diverging_epoch.epoch, part.diverging_epoch.end_offset), (0, 0, 1));
    assert!(offsets(part).is_empty());
    let answer = tester.ask(conn, NAMES, &ask("t", &[with_epoch(1, 0)]));
    assert_eq!(offsets(only(&answer)), [1, 2]);
    let answer = tester.ask(conn, NAMES, &ask("t", &[with_epoch(1, 9)]));
    assert_eq!(only(&answer).error_code, ResponseError::OffsetOutOfRange.code());
}

#[test]
fn the_leader_names_a_replica_in_the_clients_rack_which_serves() {
    let (mut tester, conn) = cluster(2);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append("t", 0, ["a"]);
        kafka.append("t", 0, ["b"]);
        for (id, rack) in [(1, "east"), (2, "west")] {
            kafka.brokers.get_mut(id).expect("a broker").rack = Some(rack.to_owned());
        }
    });
    let from = |rack: &'static str, offset| ask("t", &[at(0, offset)]).with_rack_id(StrBytes::from_static_str(rack));
    let near = tester.ask(conn, NAMES, &from("west", 0));
    assert_eq!((only(&near).preferred_read_replica.0, offsets(only(&near)).len()), (2, 0));
    let leaders = tester.ask(conn, NAMES, &from("east", 0));
    assert_eq!((only(&leaders).preferred_read_replica.0, offsets(only(&leaders)).len()), (-1, 2));
    let nowhere = tester.ask(conn, NAMES, &from("north", 0));
    assert_eq!(only(&nowhere).preferred_read_replica.0, -1);

    let follower = tester.connect(2);
    let served = tester.ask(follower, NAMES, &from("west", 0));
    assert_eq!(offsets(only(&served)), [0, 1]);
    let old = tester.ask(follower, 10, &ask("t", &[at(0, 0)]));
    assert_eq!(only(&old).error_code, ResponseError::NotLeaderOrFollower.code());

    tester.with(|kafka| kafka.hold_followers("t", 0, Some(1)));
    let lagging = tester.ask(follower, NAMES, &from("west", 0));
    assert_eq!((offsets(only(&lagging)), only(&lagging).high_watermark), (vec![0], 1));
    let beyond = tester.ask(follower, NAMES, &from("west", 2));
    assert_eq!(only(&beyond).error_code, ResponseError::OffsetOutOfRange.code());
    let leaders = tester.ask(conn, NAMES, &from("west", 1).with_max_wait_ms(0));
    assert_eq!(only(&leaders).preferred_read_replica.0, 2);
    tester.with(|kafka| kafka.append("t", 0, ["c"]));
    let leaders = tester.ask(conn, NAMES, &from("west", 2));
    assert_eq!(offsets(only(&leaders)), [2], "the follower does not have it yet");
}

/// Goes on with a session.
fn next(session: i32, epoch: i32, topics: FetchRequest) -> FetchRequest {
    topics.with_session_id(session).with_session_epoch(epoch).with_max_wait_ms(0)
}

fn nothing() -> FetchRequest {
    FetchRequest::default().with_min_bytes(1)
}

#[test]
fn a_session_says_only_what_is_new() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 3);
        kafka.append("t", 1, ["a"]);
    });
    let full = tester.ask(conn, NAMES, &next(0, 0, ask("t", &[at(0, 0), at(1, 0), at(2, 0)])));
    let session = full.session_id;
    assert!(session > 0);
    assert_eq!(full.responses[0].partitions.len(), 3);
    let again = tester.ask(conn, NAMES, &next(session, 1, ask("t", &[at(1, 1)])));
    assert_eq!((again.session_id, again.responses.len()), (session, 0), "nothing is new");
    tester.with(|kafka| kafka.append("t", 2, ["b"]));
    let moved = tester.ask(conn, NAMES, &next(session, 2, nothing()));
    assert_eq!((only(&moved).partition_index, offsets(only(&moved))), (2, vec![0]));

    let topic = ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![2]);
    let forgotten = tester.ask(conn, NAMES, &next(session, 3, nothing().with_forgotten_topics_data(vec![topic])));
    assert!(forgotten.responses.is_empty(), "it would have been told again");
    let answer = tester.ask(conn, NAMES, &next(session, 4, ask("t", &[at(1, 9)])));
    assert_eq!(only(&answer).error_code, ResponseError::OffsetOutOfRange.code());
    let healed = tester.ask(conn, NAMES, &next(session, 5, ask("t", &[at(1, 1)])));
    assert_eq!(only(&healed).error_code, 0, "that a failure is over is told");
}

#[test]
fn who_was_given_records_is_read_last_the_next_time() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 2);
        kafka.append("t", 0, ["a"]);
        kafka.append("t", 1, ["b"]);
    });
    let first = tester.ask(conn, NAMES, &next(0, 0, ask("t", &[at(0, 0), at(1, 0)])).with_max_bytes(1));
    assert_eq!(first.responses[0].partitions.iter().map(|part| offsets(part).len()).collect::<Vec<_>>(), [1, 0]);
    let second = tester.ask(conn, NAMES, &next(first.session_id, 1, nothing()).with_max_bytes(1));
    let given: Vec<_> = second.responses[0].partitions.iter().map(|part| part.partition_index).collect();
    assert_eq!(given, [0], "a session of which nothing was read keeps its order");
    let third = tester.ask(conn, NAMES, &next(first.session_id, 2, nothing()).with_max_bytes(1));
    assert_eq!(only(&third).partition_index, 1);
}

#[test]
fn a_session_that_is_not_there_or_elsewhere_is_refused() {
    let (mut tester, conn) = cluster(1);
    let id = tester.with(|kafka| kafka.create_topic("t", 1));
    let unknown = tester.ask(conn, NAMES, &next(77, 1, nothing()));
    assert_eq!(unknown.error_code, ResponseError::FetchSessionIdNotFound.code());
    let session = tester.ask(conn, NAMES, &next(0, 0, ask("t", &[at(0, 0)]))).session_id;
    let early = tester.ask(conn, NAMES, &next(session, 2, nothing()));
    assert_eq!(early.error_code, ResponseError::InvalidFetchSessionEpoch.code());
    let by_id = tester.ask(conn, IDS, &next(session, 1, ask_by_id(id, &[at(0, 0)])));
    assert_eq!(by_id.error_code, ResponseError::FetchSessionTopicIdError.code());
    let closed = tester.ask(conn, NAMES, &next(session, -1, nothing()));
    assert_eq!((closed.error_code, closed.session_id), (0, 0));
    let gone = tester.ask(conn, NAMES, &next(session, 1, nothing()));
    assert_eq!(gone.error_code, ResponseError::FetchSessionIdNotFound.code());
    let session = tester.ask(conn, NAMES, &next(0, 0, ask("t", &[at(0, 0)]))).session_id;
    tester.with(|kafka| kafka.forget_fetch_sessions(1));
    let restarted = tester.ask(conn, NAMES, &next(session, 1, nothing()));
    assert_eq!(restarted.error_code, ResponseError::FetchSessionIdNotFound.code());
}

#[test]
fn sessions_are_bounded_and_idle_ones_make_room() {
    let mut tester = Tester::new(Settings { fetch_sessions_max: 1, ..Settings::default() });
    let conn = tester.connect(1);
    tester.with(|kafka| kafka.create_topic("t", 1));
    let full = next(0, 0, ask("t", &[at(0, 0)]));
    let first = tester.ask(conn, NAMES, &full).session_id;
    assert!(first > 0);
    assert_eq!(tester.ask(conn, NAMES, &full).session_id, 0, "there is no room");
    tester.pass(Duration::from_secs(121));
    let second = tester.ask(conn, NAMES, &full).session_id;
    assert!(second > 0 && second != first);
    assert_eq!(tester.kafka.fetches.sessions.len(), 1);
    let mut without = Tester::new(Settings { fetch_sessions_max: 0, ..Settings::default() });
    let conn = without.connect(1);
    without.with(|kafka| kafka.create_topic("t", 1));
    assert_eq!(without.ask(conn, NAMES, &full).session_id, 0);
}

#[test]
fn who_hangs_up_waits_no_longer() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| kafka.create_topic("t", 1));
    tester.send(conn, NAMES, &ask("t", &[at(0, 0)]));
    assert_eq!(tester.kafka.fetches.parked.len(), 1);
    tester.input(crate::Input::Disconnected(conn));
    assert!(tester.kafka.fetches.parked.is_empty() && tester.kafka.fetches.deadlines.is_empty());
}

#[test]
fn that_a_client_no_longer_parts_from_the_log_is_told_in_its_session() {
    let (mut tester, conn) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append("t", 0, ["a"]);
        kafka.elect("t", 0, 1);
    });
    let parted = at(0, 1).with_last_fetched_epoch(3);
    let healed = at(0, 1).with_last_fetched_epoch(0);
    tester.with(|kafka| kafka.elect("t", 0, 1));
    tester.with(|kafka| kafka.append("t", 0, ["b"]));
    // Epoch 1 has written nothing, so that it ends with epoch 0.
    let behind = tester.ask(conn, NAMES, &next(0, 0, ask("t", &[at(0, 2).with_last_fetched_epoch(1)])));
    assert_eq!((only(&behind).diverging_epoch.epoch, only(&behind).diverging_epoch.end_offset), (0, 1));
    let session = behind.session_id;
    let again = tester.ask(conn, NAMES, &next(session, 1, ask("t", &[at(0, 2).with_last_fetched_epoch(2)])));
    assert_eq!((only(&again).error_code, only(&again).diverging_epoch.epoch), (0, -1));
    let unknown = tester.ask(conn, NAMES, &next(session, 2, ask("t", &[parted])));
    assert_eq!(only(&unknown).error_code, ResponseError::OffsetOutOfRange.code());
    let answer = tester.ask(conn, NAMES, &next(session, 3, ask("t", &[healed])));
    assert_eq!(offsets(only(&answer)), [1]);
}

#[test]
fn every_version_that_goes_by_ids_is_answered() {
    let (mut tester, conn) = cluster(2);
    let id = tester.with(|kafka| kafka.create_topic("t", 1));
    tester.with(|kafka| kafka.append("t", 0, ["a"]));
    let elsewhere = tester.connect(2);
    tester.with(|kafka| kafka.elect("t", 0, 1));
    for version in 13..=18 {
        let answer = tester.ask(conn, version, &next(0, 0, ask_by_id(id, &[at(0, 0)])));
        assert_eq!((answer.responses[0].topic_id, offsets(only(&answer))), (id, vec![0]));
        let fenced = at(0, 0).with_current_leader_epoch(0);
        let answer = tester.ask(elsewhere, version, &ask_by_id(id, &[fenced]));
        assert_eq!(only(&answer).error_code, ResponseError::FencedLeaderEpoch.code());
        assert_eq!(only(&answer).current_leader.leader_id.0, if version >= 16 { 1 } else { -1 });
    }
}

#[test]
#[should_panic(expected = "no partition t-1")]
fn a_lever_without_its_partition_says_so() {
    let (mut tester, _) = cluster(1);
    tester.with(|kafka| {
        kafka.create_topic("t", 1);
        kafka.append("t", 1, ["a"]);
    });
}
