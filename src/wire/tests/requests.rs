use std::sync::Arc;

use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{self as kafka, RequestHeader},
    protocol::{Decodable, HeaderVersion},
};

use super::super::*;
use crate::{
    model::{Generation, LeaderEpoch, Offset, TopicId, TopicPartition},
    secret::Secret,
};

/// A request with everything set that can be.
pub(super) fn rich(api: Api) -> Request {
    sample(api, true)
}

/// A request of a dynamic member and of partitions of which little is known.
pub(super) fn plain(api: Api) -> Request {
    sample(api, false)
}

fn sample(api: Api, rich: bool) -> Request {
    let partition = |topic: &str, number| TopicPartition::new(topic, number);
    let epoch = |epoch| rich.then_some(LeaderEpoch(epoch));
    let instance_id: Option<Arc<str>> = rich.then(|| "static".into());
    let reason = rich.then(|| "a reason".to_owned());
    let isolation = if rich { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let member = MemberRequest {
        group: "group".into(),
        generation: Generation(7),
        member_id: "member".into(),
        instance_id: instance_id.clone(),
    };
    match api {
        Api::ApiVersions => Request::ApiVersions,
        Api::Metadata => Request::Metadata { topics: Some(vec!["b".into(), "a".into()]) },
        Api::FindCoordinator => Request::FindCoordinator { group: "group".into() },
        Api::JoinGroup => Request::JoinGroup(JoinGroupRequest {
            group: "group".into(),
            member_id: "member".into(),
            instance_id,
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            protocols: vec![("sticky".into(), Bytes::from_static(b"1")), ("range".into(), Bytes::from_static(b"2"))],
            reason,
        }),
        Api::SyncGroup => Request::SyncGroup(SyncGroupRequest {
            member,
            protocol: "range".into(),
            assignments: vec![("m2".into(), Bytes::from_static(b"2")), ("m1".into(), Bytes::from_static(b"1"))],
        }),
        Api::Heartbeat => Request::Heartbeat(member),
        Api::ConsumerGroupHeartbeat => Request::ConsumerGroupHeartbeat(Box::new(ConsumerHeartbeatRequest {
            member,
            rack: rich.then(|| "rack".into()),
            rebalance_timeout_ms: rich.then_some(300_000),
            topics: rich.then(|| vec!["b".into(), "a".into()]),
            pattern: rich.then(|| "a.*|b".into()),
            assignor: rich.then(|| "uniform".into()),
            owned: rich.then(|| vec![(TopicId([7; 16]), vec![0, 2])]),
        })),
        Api::LeaveGroup => {
            Request::LeaveGroup(LeaveGroupRequest { group: "group".into(), member_id: "member".into(), instance_id, reason })
        }
        Api::OffsetCommit => Request::OffsetCommit(OffsetCommitRequest {
            member,
            partitions: vec![
                CommitPartition { partition: partition("b", 1), offset: Offset(11), leader_epoch: None },
                CommitPartition { partition: partition("a", 2), offset: Offset(22), leader_epoch: epoch(5) },
                CommitPartition { partition: partition("b", 0), offset: Offset(33), leader_epoch: epoch(6) },
            ],
        }),
        Api::OffsetFetch => Request::OffsetFetch {
            group: "group".into(),
            partitions: vec![partition("b", 1), partition("a", 2), partition("b", 0)],
        },
        Api::ListOffsets => Request::ListOffsets {
            isolation,
            partitions: vec![
                ListOffsetsPartition { partition: partition("b", 1), current_leader_epoch: None, timestamp: Timestamp::Earliest },
                ListOffsetsPartition {
                    partition: partition("a", 2),
                    current_leader_epoch: epoch(5),
                    timestamp: Timestamp::Latest,
                },
                ListOffsetsPartition {
                    partition: partition("b", 0),
                    current_leader_epoch: epoch(6),
                    timestamp: Timestamp::AtMs(99),
                },
            ],
        },
        Api::Fetch => {
            let asked = |topic, number, id, leader| FetchPartition {
                partition: partition(topic, number),
                topic_id: rich.then_some(TopicId([id; 16])),
                current_leader_epoch: epoch(leader),
                offset: Offset(i64::from(number) * 100),
                last_fetched_epoch: epoch(leader - 1),
                max_bytes: 1000 + number,
            };
            Request::Fetch(FetchRequest {
                max_wait_ms: 500,
                min_bytes: 1,
                max_bytes: 50_000_000,
                isolation,
                rack: rich.then(|| "rack".into()),
                session: FetchSession::NONE,
                by_topic_id: rich,
                partitions: vec![asked("b", 1, 0xB, 5), asked("a", 2, 0xA, 6), asked("b", 0, 0xB, 7)],
            })
        }
        Api::OffsetForLeaderEpoch => Request::OffsetForLeaderEpoch {
            partitions: vec![
                EpochPartition { partition: partition("b", 1), current_leader_epoch: None, leader_epoch: LeaderEpoch(3) },
                EpochPartition { partition: partition("a", 2), current_leader_epoch: epoch(5), leader_epoch: LeaderEpoch(4) },
            ],
        },
        Api::SaslHandshake => Request::SaslHandshake { mechanism: "SCRAM-SHA-512" },
        Api::SaslAuthenticate => Request::SaslAuthenticate { message: Secret::new(*b"open sesame") },
    }
}

/// Encodes the request and reads it as a broker would.
fn sent<T: Decodable + HeaderVersion>(request: &Request, version: i16) -> T {
    let mut frame = request.encode(version, 77, "client").unwrap();
    assert_eq!(frame.get_i32() as usize, frame.remaining(), "the length is that of what follows");
    let header = RequestHeader::decode(&mut frame, T::header_version(version)).unwrap();
    assert_eq!(header.request_api_key, request.api() as i16);
    assert_eq!(header.request_api_version, version);
    assert_eq!(header.correlation_id, 77);
    assert_eq!(header.client_id.as_deref(), Some("client"));
    let body = T::decode(&mut frame, version).unwrap();
    assert!(!frame.has_remaining(), "{request:?} {version}: bytes left over");
    body
}

/// Hands the request as the broker reads it to `check`, rich and plain, at every version.
fn check<T: Decodable + HeaderVersion>(api: Api, check: impl Fn(T, i16, bool)) {
    for is_rich in [true, false] {
        let request = sample(api, is_rich);
        for version in request.versions() {
            check(sent(&request, version), version, is_rich);
        }
    }
}

/// Trap 11: the crate refuses a field that the version lacks.
#[test]
fn everything_can_be_said_at_every_version_that_is_offered() {
    for request in Api::ALL.into_iter().flat_map(|api| [rich(api), plain(api)]) {
        for version in request.versions() {
            request.encode(version, 1, "client").unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn other_versions_are_refused_without_a_byte() {
    let by_name = plain(Api::Fetch);
    let error = by_name.encode(13, 1, "client").unwrap_err();
    assert_eq!(error.to_string(), "cannot encode Fetch version 13: it can be said at versions 4 to 12");
    for request in Api::ALL.map(rich) {
        let versions = request.versions();
        assert!(request.encode(versions.start() - 1, 1, "client").is_err());
        assert!(request.encode(versions.end() + 1, 1, "client").is_err());
    }
}

#[test]
fn a_text_too_long_for_the_version_is_an_error() {
    let group = "g".repeat(40_000);
    let request = Request::FindCoordinator { group: group.as_str().into() };
    assert!(request.encode(2, 1, "client").is_err());
    assert!(request.encode(3, 1, "client").is_ok());
    assert!(request.encode(3, 1, &group).is_err(), "the client id has no compact form");
}

#[test]
fn api_versions() {
    check(Api::ApiVersions, |body: kafka::ApiVersionsRequest, version, _| {
        let name = if version >= 3 { "ottla" } else { "" };
        assert_eq!(&*body.client_software_name, name);
        assert_eq!(body.client_software_version.is_empty(), version < 3);
        // Or the broker answers INVALID_REQUEST (KIP-511).
        assert!(body.client_software_version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)));
    });
}

#[test]
fn metadata_names_its_topics_and_creates_none() {
    check(Api::Metadata, |body: kafka::MetadataRequest, _, _| {
        let topics = body.topics.expect("null asks for all topics");
        assert_eq!(topics.iter().map(|topic| topic.name.as_ref().unwrap().0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(topics.iter().all(|topic| topic.topic_id.is_nil()));
        assert!(!body.allow_auto_topic_creation);
    });
}

#[test]
fn metadata_of_no_topic_asks_for_the_brokers_only_and_without_a_list_for_all_topics() {
    for (topics, list) in [(Some(vec![]), Some(vec![])), (None, None)] {
        let request = Request::Metadata { topics };
        for version in request.versions() {
            let body: kafka::MetadataRequest = sent(&request, version);
            assert_eq!((body.topics, body.allow_auto_topic_creation), (list.clone(), false), "{version}");
        }
    }
}

#[test]
fn metadata_of_topics_by_their_ids_name_none() {
    let request = Request::MetadataById { topics: vec![TopicId([2; 16]), TopicId([1; 16])] };
    // At 10 and 11 there is a field for the id, which brokers do not take at its word.
    assert_eq!(*request.versions().start(), 12);
    for version in request.versions() {
        let body: kafka::MetadataRequest = sent(&request, version);
        let topics = body.topics.expect("null asks for all topics");
        let asked: Vec<_> = topics.iter().map(|topic| (topic.topic_id.as_bytes()[0], topic.name.as_ref())).collect();
        assert_eq!(asked, [(2, None), (1, None)], "{version}");
        assert!(!body.allow_auto_topic_creation);
    }
}

#[test]
fn find_coordinator() {
    check(Api::FindCoordinator, |body: kafka::FindCoordinatorRequest, version, _| {
        assert_eq!(body.key_type, 0);
        let keys: Vec<&str> = body.coordinator_keys.iter().map(|key| key.as_str()).collect();
        if version >= 4 { assert_eq!(keys, ["group"]) } else { assert_eq!(&*body.key, "group") }
    });
}

#[test]
fn join_group() {
    check(Api::JoinGroup, |body: kafka::JoinGroupRequest, version, rich| {
        assert_eq!((&**body.group_id, &*body.member_id, &*body.protocol_type), ("group", "member", "consumer"));
        assert_eq!((body.session_timeout_ms, body.rebalance_timeout_ms), (45_000, 300_000));
        assert_eq!(body.group_instance_id.as_deref(), rich.then_some("static"));
        assert_eq!(body.reason.as_deref(), (rich && version >= 8).then_some("a reason"));
        let protocols: Vec<(&str, &[u8])> = body.protocols.iter().map(|p| (&*p.name, &*p.metadata)).collect();
        assert_eq!(protocols, [("sticky", &b"1"[..]), ("range", b"2")], "in order of preference");
    });
}

#[test]
fn sync_group() {
    check(Api::SyncGroup, |body: kafka::SyncGroupRequest, version, rich| {
        assert_eq!((&**body.group_id, body.generation_id, &*body.member_id), ("group", 7, "member"));
        assert_eq!(body.group_instance_id.as_deref(), rich.then_some("static"));
        assert_eq!(body.protocol_type.as_deref(), (version >= 5).then_some("consumer"));
        assert_eq!(body.protocol_name.as_deref(), (version >= 5).then_some("range"));
        let assignments: Vec<(&str, &[u8])> = body.assignments.iter().map(|a| (&*a.member_id, &*a.assignment)).collect();
        assert_eq!(assignments, [("m1", &b"1"[..]), ("m2", b"2")]);
    });
}

#[test]
fn heartbeat() {
    check(Api::Heartbeat, |body: kafka::HeartbeatRequest, _, rich| {
        assert_eq!((&**body.group_id, body.generation_id, &*body.member_id), ("group", 7, "member"));
        assert_eq!(body.group_instance_id.as_deref(), rich.then_some("static"));
    });
}

#[test]
fn consumer_group_heartbeat() {
    check(Api::ConsumerGroupHeartbeat, |body: kafka::ConsumerGroupHeartbeatRequest, _, rich| {
        assert_eq!((&**body.group_id, body.member_epoch, &*body.member_id), ("group", 7, "member"));
        assert_eq!(body.instance_id.as_deref(), rich.then_some("static"));
        assert_eq!(body.rack_id.as_deref(), rich.then_some("rack"));
        assert_eq!(body.rebalance_timeout_ms, if rich { 300_000 } else { -1 });
        let topics = body.subscribed_topic_names.map(|topics| topics.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(topics, rich.then(|| vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(body.subscribed_topic_regex.as_deref(), rich.then_some("a.*|b"));
        assert_eq!(body.server_assignor.as_deref(), rich.then_some("uniform"));
        let owned = body
            .topic_partitions
            .map(|owned| owned.iter().map(|of| (of.topic_id.as_bytes().to_vec(), of.partitions.clone())).collect::<Vec<_>>());
        assert_eq!(owned, rich.then(|| vec![(vec![7; 16], vec![0, 2])]));
    });
}

#[test]
fn leave_group() {
    check(Api::LeaveGroup, |body: kafka::LeaveGroupRequest, version, rich| {
        assert_eq!(&**body.group_id, "group");
        if version < 3 {
            assert_eq!(&*body.member_id, "member");
            return;
        }
        let [member] = &*body.members else { panic!("{:?}", body.members) };
        assert_eq!((&*member.member_id, member.group_instance_id.as_deref()), ("member", rich.then_some("static")));
        assert_eq!(member.reason.as_deref(), (rich && version >= 5).then_some("a reason"));
    });
}

#[test]
fn offset_commit() {
    check(Api::OffsetCommit, |body: kafka::OffsetCommitRequest, version, rich| {
        assert_eq!((&**body.group_id, body.generation_id_or_member_epoch, &*body.member_id), ("group", 7, "member"));
        assert_eq!(body.group_instance_id.as_deref(), rich.then_some("static"));
        assert_eq!(body.retention_time_ms, -1);
        let epoch = |epoch| if rich && version >= 6 { epoch } else { -1 };
        let commits: Vec<_> = body
            .topics
            .iter()
            .flat_map(|t| {
                t.partitions.iter().map(|p| (&**t.name, p.partition_index, p.committed_offset, p.committed_leader_epoch))
            })
            .collect();
        assert_eq!(commits, [("a", 2, 22, epoch(5)), ("b", 0, 33, epoch(6)), ("b", 1, 11, -1)]);
        assert_eq!(body.topics.len(), 2, "grouped by topic");
    });
}

#[test]
fn offset_fetch_asks_for_stable_offsets() {
    check(Api::OffsetFetch, |body: kafka::OffsetFetchRequest, version, _| {
        assert_eq!(body.require_stable, version >= 7);
        let expected = vec![("a".to_owned(), vec![2]), ("b".to_owned(), vec![0, 1])];
        let topics: Vec<_> = if version >= 8 {
            let [group] = &*body.groups else { panic!("{:?}", body.groups) };
            assert_eq!((&**group.group_id, &group.member_id, group.member_epoch), ("group", &None, -1));
            group.topics.iter().flatten().map(|t| (t.name.to_string(), t.partition_indexes.clone())).collect()
        } else {
            assert_eq!(&**body.group_id, "group");
            body.topics.iter().flatten().map(|t| (t.name.to_string(), t.partition_indexes.clone())).collect()
        };
        assert_eq!(topics, expected);
    });
}

#[test]
fn all_offsets_of_a_group_are_asked_for_by_naming_no_topic() {
    let request = Request::GroupOffsets { group: "group".into() };
    assert_eq!(request.versions(), 2..=9);
    for version in request.versions() {
        let body: kafka::OffsetFetchRequest = sent(&request, version);
        assert!(!body.require_stable, "{version}");
        let (group, topics) = match &*body.groups {
            [group] => (&group.group_id, group.topics.is_none()),
            _ => (&body.group_id, body.topics.is_none()),
        };
        assert_eq!((&***group, topics), ("group", true), "{version}");
    }
}

#[test]
fn the_newest_record_is_not_asked_for_where_that_cannot_be_said() {
    let partition = TopicPartition::new("a", 0);
    let partitions = vec![ListOffsetsPartition { partition, current_leader_epoch: None, timestamp: Timestamp::Newest }];
    let request = Request::ListOffsets { isolation: Isolation::ReadUncommitted, partitions };
    assert_eq!(request.versions(), 7..=10);
    for version in request.versions() {
        let body: kafka::ListOffsetsRequest = sent(&request, version);
        assert_eq!(body.topics[0].partitions[0].timestamp, -3);
    }
}

#[test]
fn list_offsets() {
    check(Api::ListOffsets, |body: kafka::ListOffsetsRequest, version, rich| {
        assert_eq!((body.replica_id.0, body.isolation_level), (-1, i8::from(rich)));
        assert_eq!(body.timeout_ms > 0, version >= 10);
        let epoch = |epoch| if rich && version >= 4 { epoch } else { -1 };
        let asked: Vec<_> = body
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (&**t.name, p.partition_index, p.current_leader_epoch, p.timestamp)))
            .collect();
        assert_eq!(asked, [("a", 2, epoch(5), -1), ("b", 0, epoch(6), 99), ("b", 1, -1, -2)]);
    });
}

#[test]
fn fetch_outside_any_session_in_the_order_asked() {
    check(Api::Fetch, |body: kafka::FetchRequest, version, rich| {
        assert_eq!((body.replica_id.0, body.replica_state.replica_id.0), (-1, -1));
        assert_eq!((body.max_wait_ms, body.min_bytes, body.max_bytes), (500, 1, 50_000_000));
        assert_eq!((body.session_id, body.session_epoch, body.isolation_level), (0, -1, i8::from(rich)));
        assert_eq!(&*body.rack_id, if rich && version >= 11 { "rack" } else { "" });
        assert!(body.forgotten_topics_data.is_empty());
        let topics: Vec<_> = body.topics.iter().map(|t| (&**t.topic, t.topic_id.as_bytes()[0], t.partitions.len())).collect();
        assert_eq!(topics, if version >= 13 { [("", 0xB, 2), ("", 0xA, 1)] } else { [("b", 0, 2), ("a", 0, 1)] });
        let epoch = |since, epoch| if rich && version >= since { epoch } else { -1 };
        let asked: Vec<_> = body
            .topics
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| (p.partition, p.current_leader_epoch, p.fetch_offset, p.last_fetched_epoch, p.partition_max_bytes))
            .collect();
        let expected = [(1, 5), (0, 7), (2, 6)];
        let expected = expected.map(|(n, e)| (n, epoch(9, e), i64::from(n) * 100, epoch(12, e - 1), 1000 + n));
        assert_eq!(asked, expected);
        assert!(body.topics.iter().flat_map(|t| &t.partitions).all(|p| p.log_start_offset == -1));
    });
}

/// A session that goes on, in which one partition is new and three are to be forgotten.
#[test]
fn fetch_in_a_session_says_what_is_new_and_what_is_to_be_forgotten() {
    for by_topic_id in [false, true] {
        let Request::Fetch(mut fetch) = rich(Api::Fetch) else { unreachable!("asked for") };
        let id = |id| by_topic_id.then_some(TopicId([id; 16]));
        let forgotten =
            |topic, number, of| ForgottenPartition { partition: TopicPartition::new(topic, number), topic_id: id(of) };
        fetch.partitions.truncate(1);
        fetch.partitions[0].topic_id = id(0xB);
        fetch.by_topic_id = by_topic_id;
        fetch.session = FetchSession {
            id: 77,
            epoch: 3,
            forgotten: vec![forgotten("b", 7, 0xB), forgotten("a", 1, 0xA), forgotten("b", 8, 0xB)],
        };
        let request = Request::Fetch(fetch);
        assert_eq!(request.versions(), if by_topic_id { 7..=18 } else { 7..=12 }, "before 7, what is not named is not read");
        for version in request.versions() {
            let body: kafka::FetchRequest = sent(&request, version);
            assert_eq!((body.session_id, body.session_epoch, body.topics.len()), (77, 3, 1));
            let forgotten: Vec<_> =
                body.forgotten_topics_data.iter().map(|t| (&**t.topic, t.topic_id.as_bytes()[0], t.partitions.clone())).collect();
            let expected = if version >= 13 { [("", 0xB), ("", 0xA)] } else { [("b", 0), ("a", 0)] };
            let [b, a] = expected;
            assert_eq!(forgotten, [(b.0, b.1, vec![7, 8]), (a.0, a.1, vec![1])], "version {version}");
        }
    }
}

#[test]
fn offset_for_leader_epoch() {
    check(Api::OffsetForLeaderEpoch, |body: kafka::OffsetForLeaderEpochRequest, _, rich| {
        assert_eq!(body.replica_id.0, -1);
        let asked: Vec<_> = body
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (&**t.topic, p.partition, p.current_leader_epoch, p.leader_epoch)))
            .collect();
        assert_eq!(asked, [("a", 2, if rich { 5 } else { -1 }, 4), ("b", 1, -1, 3)]);
    });
}

#[test]
fn sasl_handshake() {
    check(Api::SaslHandshake, |body: kafka::SaslHandshakeRequest, _, _| assert_eq!(&*body.mechanism, "SCRAM-SHA-512"));
}

#[test]
fn sasl_authenticate_says_its_message_and_shows_it_to_nobody_else() {
    check(Api::SaslAuthenticate, |body: kafka::SaslAuthenticateRequest, _, _| assert_eq!(&*body.auth_bytes, b"open sesame"));
    let request = rich(Api::SaslAuthenticate);
    assert_eq!(format!("{request:?}"), "SaslAuthenticate { message: (secret) }");
    // Longer than any buffer that would do for other requests.
    let long = Request::SaslAuthenticate { message: Secret::new(vec![b'x'; 10_000]) };
    for version in long.versions() {
        assert_eq!(sent::<kafka::SaslAuthenticateRequest>(&long, version).auth_bytes.len(), 10_000);
    }
}
