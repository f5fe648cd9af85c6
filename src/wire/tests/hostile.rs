//! Bytes that no broker should send.

use std::sync::LazyLock;

use bytes::Bytes;
use kafka_protocol::messages as kafka;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use super::{super::*, answers::answer, every_version, peer};
use crate::model::{LeaderEpoch, Offset};

/// A small, a middling and a large answer of each API at each version, the same in each run.
fn samples() -> impl Iterator<Item = (Api, i16, Bytes)> {
    static SAMPLES: LazyLock<Vec<(Api, i16, Bytes)>> = LazyLock::new(|| every_version().flat_map(three_answers).collect());
    SAMPLES.iter().cloned()
}

fn three_answers((api, version): (Api, i16)) -> [(Api, i16, Bytes); 3] {
    let mut runner = TestRunner::deterministic();
    let answers = answer(api, version);
    let mut samples: Vec<Bytes> =
        (0..21).map(|_| peer::encode(&answers.new_tree(&mut runner).unwrap().current(), version)).collect();
    samples.sort_by_key(Bytes::len);
    [0, 10, 20].map(|at| (api, version, samples[at].clone()))
}

fn check_malformed(api: Api, version: i16, body: &[u8], what: &str) {
    let malformed = Response::decode(api, version, Bytes::copy_from_slice(body)).unwrap_err();
    assert!(malformed.at <= body.len());
    assert_eq!((malformed.api, malformed.what), (api, what), "{malformed}");
}

#[test]
fn an_answer_cut_short_anywhere_is_malformed() {
    for (api, version, whole) in samples() {
        assert!(Response::decode(api, version, whole.clone()).is_ok());
        for length in 0..whole.len() {
            let cut = Response::decode(api, version, whole.slice(..length));
            assert!(cut.is_err(), "{api:?} {version}: {length} of {} bytes are {cut:?}", whole.len());
        }
    }
}

#[test]
fn a_byte_too_many_is_malformed() {
    for (api, version, whole) in samples() {
        let longer = Bytes::from([&whole[..], &[0]].concat());
        let malformed = Response::decode(api, version, longer).unwrap_err();
        assert_eq!((malformed.what, malformed.at), ("bytes left over", whole.len()), "{malformed}");
    }
}

#[test]
fn a_flipped_byte_never_panics() {
    for (api, version, whole) in samples() {
        for at in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut flipped = whole.to_vec();
                flipped[at] ^= mask;
                let _ = Response::decode(api, version, flipped.into());
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    // Mostly small ones: they are lengths and counts that lead deeper in.
    let byte = prop_oneof![4 => 0u8..4, 1 => any::<u8>(), 1 => Just(0xff), 1 => Just(0x7f)];
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(byte, 0..120), |bytes| {
            let bytes = Bytes::from(bytes);
            for (api, version) in every_version() {
                let _ = Response::decode(api, version, bytes.clone());
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn versions_that_were_never_asked_for_are_not_read() {
    for (api, _, whole) in samples() {
        for other in [i16::MIN, -1, api.versions().start() - 1, api.versions().end() + 1, i16::MAX] {
            assert!(Response::decode(api, other, whole.clone()).is_err(), "{api:?} {other}");
        }
    }
}

/// Trap 1: 9 bytes that made the crate ask for 412 GB, and the process abort.
#[test]
fn a_metadata_answer_that_promises_more_brokers_than_bytes() {
    const MORE: &str = "an array with more elements than there are bytes";
    check_malformed(Api::Metadata, 8, b"\0\0\0\0\x7f\xff\xff\xff\0", MORE);
    check_malformed(Api::Metadata, 9, b"\0\0\0\0\0\xff\xff\xff\xff\x0f", MORE);
}

/// Trap 1 once more, in 15 bytes.
#[test]
fn a_fetch_answer_that_promises_more_topics_than_bytes() {
    const MORE: &str = "an array with more elements than there are bytes";
    check_malformed(Api::Fetch, 11, b"\0\0\0\0\0\0\0\0\0\0\x7f\xff\xff\xff\0", MORE);
    check_malformed(Api::Fetch, 12, b"\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\x0f", MORE);
}

/// Every place of every answer overwritten with the greatest counts and lengths there are.
#[test]
fn the_greatest_counts_anywhere_never_abort() {
    for (api, version, whole) in samples() {
        for at in 0..whole.len() {
            for bomb in [&b"\x7f\xff\xff\xff"[..], b"\xff\xff\xff\xff\x0f", b"\x80\0\0\0", b"\x7f\xff"] {
                let _ = Response::decode(api, version, [&whole[..at], bomb].concat().into());
                let rest = whole.get(at + bomb.len()..).unwrap_or_default();
                let _ = Response::decode(api, version, [&whole[..at], bomb, rest].concat().into());
            }
        }
    }
}

#[test]
fn negative_lengths_and_nulls_where_a_value_must_be() {
    check_malformed(Api::ListOffsets, 1, b"\xff\xff\xff\xfe", "a negative length");
    check_malformed(Api::ListOffsets, 1, b"\x80\0\0\0", "a negative length");
    check_malformed(Api::ListOffsets, 1, b"\xff\xff\xff\xff", "null where an array must be");
    check_malformed(Api::ListOffsets, 6, b"\0\0\0\0\0\0", "null where an array must be");
    check_malformed(Api::ListOffsets, 1, b"\0\0\0\x01\xff\xff", "null where a string must be");
    check_malformed(Api::ListOffsets, 1, b"\0\0\0\x01\xff\xfe", "a negative length");
    check_malformed(Api::ListOffsets, 6, b"\0\0\0\0\0\x02\0", "null where a string must be");
    check_malformed(Api::SyncGroup, 0, b"\0\0\xff\xff\xff\xff", "null where bytes must be");
    check_malformed(Api::SyncGroup, 4, b"\0\0\0\0\0\0\0\0", "null where bytes must be");
    check_malformed(Api::JoinGroup, 6, b"\0\0\0\0\0\0\0\0\0\0\x01\0", "null where a string must be");
}

#[test]
fn numbers_of_more_than_32_bits() {
    let what = "a number of more than 32 bits";
    check_malformed(Api::Heartbeat, 4, b"\x80\x80\x80\x80\x80\x01", what);
    check_malformed(Api::Heartbeat, 4, b"\xff\xff\xff\xff\x1f", what);
    check_malformed(Api::Heartbeat, 4, b"\xff\xff\xff\xff\x8f\0", what);
}

#[test]
fn tagged_fields_stay_within_their_bounds() {
    // One field, tag 5, longer than the answer.
    check_malformed(Api::Heartbeat, 4, b"\x01\x05\x7f\0\0\0\0", "a tagged field that is longer than what holds it");
    check_malformed(Api::Heartbeat, 4, b"\xff\xff\xff\xff\x0f\0\0\0\0\0\0\0\0", "cut short");
    // Diverging epochs (tag 0) of 4 bytes, where 13 belong, and of 14, the last of which is the topic's.
    let partition = |tagged: &[u8]| {
        let start = b"\0\0\0\0\0\0\0\0\0\0\0\x02\x02t\x02";
        let fields = [0; 4 + 2 + 8 + 8 + 8 + 1 + 4 + 1];
        [start, &fields[..], tagged, b"\0\0"].concat()
    };
    let whole = partition(b"\x01\0\x0d\0\0\0\x07\0\0\0\0\0\0\0\x09\0");
    let Ok(Response::Fetch(answer)) = Response::decode(Api::Fetch, 12, whole.into()) else { panic!("not an answer") };
    assert_eq!(answer.partitions[0].diverging, Some((LeaderEpoch(7), Offset(9))));
    check_malformed(Api::Fetch, 12, &partition(b"\x01\0\x04\0\0\0\x07\0\0\0\0\0\0\0\x09\0"), "cut short");
    check_malformed(Api::Fetch, 12, &partition(b"\x01\0\x0e\0\0\0\x07\0\0\0\0\0\0\0\x09\0"), "bytes left over");
}

#[test]
fn text_that_is_not_utf8() {
    check_malformed(Api::ListOffsets, 1, b"\0\0\0\x01\0\x02\xc3\x28", "a string that is not UTF-8");
}

#[test]
fn brokers_that_cannot_be_reached() {
    let metadata = |id: i32, host: &'static str, port: i32| {
        let broker = kafka::metadata_response::MetadataResponseBroker::default()
            .with_node_id(id.into())
            .with_host(host.into())
            .with_port(port);
        peer::frame(9, kafka::MetadataResponse::default().with_brokers(vec![broker]))
    };
    assert!(Response::decode(Api::Metadata, 9, metadata(0, "host", 65_535)).is_ok());
    check_malformed(Api::Metadata, 9, &metadata(0, "host", 65_536), "a broker with an impossible port");
    check_malformed(Api::Metadata, 9, &metadata(0, "host", -1), "a broker with an impossible port");
    check_malformed(Api::Metadata, 9, &metadata(0, "", 9092), "a broker without a host");
    check_malformed(Api::Metadata, 9, &metadata(-1, "host", 9092), "a broker with a negative id");
}

#[test]
fn a_coordinator_found_nowhere() {
    let body = kafka::FindCoordinatorResponse::default().with_node_id((-1).into()).with_port(-1);
    check_malformed(Api::FindCoordinator, 3, &peer::frame(3, body), "a broker with a negative id");
    let body = peer::frame(4, kafka::FindCoordinatorResponse::default());
    check_malformed(Api::FindCoordinator, 4, &body, "no coordinator and no error");
}

#[test]
fn an_offset_fetch_answer_without_the_group() {
    check_malformed(Api::OffsetFetch, 8, &peer::frame(8, kafka::OffsetFetchResponse::default()), "no group");
}

#[test]
fn a_negative_partition() {
    let partition = kafka::list_offsets_response::ListOffsetsPartitionResponse::default().with_partition_index(-1);
    let topic = kafka::list_offsets_response::ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
    let body = peer::frame(7, kafka::ListOffsetsResponse::default().with_topics(vec![topic]));
    check_malformed(Api::ListOffsets, 7, &body, "a negative partition");
}

#[test]
fn a_topic_without_a_name() {
    // From 12 on there may be one, that was asked for by its id.
    check_malformed(Api::Metadata, 9, b"\0\0\0\0\0\x01\0\0\0\0\0\x02\0\0\0", "null where a string must be");
}

/// Every text was that short once, and brokers keep to it; so no error and no log can become huge by one.
#[test]
fn a_text_of_32767_bytes_is_read_and_a_longer_one_is_not() {
    let answer = |length: usize| {
        let member = "m".repeat(length);
        peer::frame(9, kafka::JoinGroupResponse::default().with_member_id(member.into()).with_protocol_name(Some("p".into())))
    };
    assert!(Response::decode(Api::JoinGroup, 9, answer(32_767)).is_ok());
    check_malformed(Api::JoinGroup, 9, &answer(32_768), "a text of more than 32767 bytes");
}

#[test]
fn a_million_entries_are_read_and_one_more_is_not() {
    let answer = |counts: [usize; 2]| {
        let mut body = vec![0, 0, 0, 2];
        for count in counts {
            body.extend([0, 1, b't']);
            body.extend((count as i32).to_be_bytes());
            body.resize(body.len() + count * 6, 0);
        }
        body
    };
    // The topics are entries, too.
    assert!(Response::decode(Api::OffsetCommit, 2, answer([500_000, 499_998]).into()).is_ok());
    check_malformed(Api::OffsetCommit, 2, &answer([500_000, 499_999]), "more than 1000000 entries");
}

#[test]
fn hosts_that_no_name_server_knows() {
    let metadata = |host: String| {
        let broker = kafka::metadata_response::MetadataResponseBroker::default().with_host(host.into()).with_port(9092);
        peer::frame(9, kafka::MetadataResponse::default().with_brokers(vec![broker]))
    };
    assert!(Response::decode(Api::Metadata, 9, metadata("h".repeat(255))).is_ok());
    check_malformed(Api::Metadata, 9, &metadata("h".repeat(256)), "a broker with an impossible host");
    check_malformed(Api::Metadata, 9, &metadata("a\nb".into()), "a broker with an impossible host");
    check_malformed(Api::Metadata, 9, &metadata("a\0b".into()), "a broker with an impossible host");
}

#[test]
fn of_a_long_message_as_much_is_kept_as_an_error_can_say() {
    let message = "\u{1b}[31m\r\n".to_owned() + &"é".repeat(1000);
    let body = kafka::FindCoordinatorResponse::default().with_error_code(15).with_error_message(Some(message.clone().into()));
    let Ok(Response::FindCoordinator(answer)) = Response::decode(Api::FindCoordinator, 3, peer::frame(3, body)) else {
        panic!("not an answer")
    };
    assert_eq!(answer.message, Some(" [31m  ".to_owned() + &"é".repeat(993)));
}

/// A broker may name as many APIs as it likes; what is kept is one range of each that ottla asks.
#[test]
fn versions_of_which_no_use_is_made_are_not_kept() {
    let known = Api::ALL.map(|api| ApiRange { key: api as i16, min: 0, max: 3 });
    let again = known.map(|range| ApiRange { max: 4, ..range });
    let foreign: Vec<_> = (100..10_000).map(|key| ApiRange { key, min: 0, max: 0 }).collect();
    let mut kept = ranges_of_interest(&[&foreign, &known[..], &again, &foreign].concat());
    kept.sort_by_key(|range| range.key);
    assert_eq!(kept, known);
}

/// The budget of a consumer counts records: a slice of a large answer with few of them would keep what nobody counts.
#[test]
fn records_that_are_the_smaller_part_of_their_answer_do_not_keep_it() {
    use kafka::fetch_response::{FetchableTopicResponse, PartitionData};

    for (topics, is_slice) in [(1, true), (40, false)] {
        let mut partition = PartitionData::default().with_records(Some(Bytes::from(vec![7; 1000])));
        let topics = (0..topics).map(|_| FetchableTopicResponse::default().with_partitions(vec![std::mem::take(&mut partition)]));
        let frame = peer::frame(12, kafka::FetchResponse::default().with_responses(topics.collect()));
        let Ok(Response::Fetch(answer)) = Response::decode(Api::Fetch, 12, frame.clone()) else { panic!("not a Fetch answer") };
        let records = &answer.partitions[0].records;
        assert_eq!(**records, [7; 1000]);
        assert_eq!(frame.as_ptr_range().contains(&records.as_ptr()), is_slice, "{} bytes", frame.len());
    }
}
