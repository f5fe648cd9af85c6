use std::ops::RangeInclusive;

use kafka_protocol::{
    messages as kafka,
    protocol::{HeaderVersion, Message},
};

use super::{super::*, requests};

/// The versions that `kafka_protocol` has of both the request and the answer, and the first flexible one.
fn theirs(api: Api) -> (RangeInclusive<i16>, i16) {
    fn of<Q: Message + HeaderVersion, A: Message + HeaderVersion>() -> (RangeInclusive<i16>, i16) {
        let both = Q::VERSIONS.intersect(&A::VERSIONS);
        let flexible = (both.min..=both.max).find(|version| Q::header_version(*version) == 2);
        (both.min..=both.max, flexible.unwrap_or(i16::MAX))
    }
    match api {
        Api::Fetch => of::<kafka::FetchRequest, kafka::FetchResponse>(),
        Api::ListOffsets => of::<kafka::ListOffsetsRequest, kafka::ListOffsetsResponse>(),
        Api::Metadata => of::<kafka::MetadataRequest, kafka::MetadataResponse>(),
        Api::OffsetCommit => of::<kafka::OffsetCommitRequest, kafka::OffsetCommitResponse>(),
        Api::OffsetFetch => of::<kafka::OffsetFetchRequest, kafka::OffsetFetchResponse>(),
        Api::FindCoordinator => of::<kafka::FindCoordinatorRequest, kafka::FindCoordinatorResponse>(),
        Api::JoinGroup => of::<kafka::JoinGroupRequest, kafka::JoinGroupResponse>(),
        Api::Heartbeat => of::<kafka::HeartbeatRequest, kafka::HeartbeatResponse>(),
        Api::LeaveGroup => of::<kafka::LeaveGroupRequest, kafka::LeaveGroupResponse>(),
        Api::SyncGroup => of::<kafka::SyncGroupRequest, kafka::SyncGroupResponse>(),
        Api::ApiVersions => of::<kafka::ApiVersionsRequest, kafka::ApiVersionsResponse>(),
        Api::OffsetForLeaderEpoch => of::<kafka::OffsetForLeaderEpochRequest, kafka::OffsetForLeaderEpochResponse>(),
        Api::ConsumerGroupHeartbeat => of::<kafka::ConsumerGroupHeartbeatRequest, kafka::ConsumerGroupHeartbeatResponse>(),
        Api::SaslHandshake => of::<kafka::SaslHandshakeRequest, kafka::SaslHandshakeResponse>(),
        Api::SaslAuthenticate => of::<kafka::SaslAuthenticateRequest, kafka::SaslAuthenticateResponse>(),
    }
}

/// Trap 10: the crate's table by API key promises versions that its types lack.
#[test]
fn versions_are_those_of_both_the_request_type_and_the_answer_type() {
    for api in Api::ALL {
        let (ours, (theirs, flexible)) = (api.versions(), theirs(api));
        assert!(theirs.contains(ours.start()) && theirs.contains(ours.end()), "{api:?}: {ours:?} of {theirs:?}");
        assert_eq!(api.flexible_from(), flexible, "{api:?}");
        assert_eq!(api as i16, requests::rich(api).api() as i16);
    }
    assert_eq!(*Api::OffsetCommit.versions().end(), 9);
    assert_eq!(*Api::OffsetFetch.versions().end(), 9);
}

fn check_negotiate(request: &Request, theirs: Option<(i16, i16)>, expected: Option<i16>) {
    let other = ApiRange { key: 42, min: 0, max: 100 };
    let theirs_too = theirs.map(|(min, max)| ApiRange { key: request.api() as i16, min, max });
    let apis: Vec<ApiRange> = [other].into_iter().chain(theirs_too).collect();
    assert_eq!(negotiate(request, &apis), expected, "{request:?} with {theirs:?}");
    assert_eq!(api_range(&apis, request.api()), theirs);
}

#[test]
fn the_highest_common_version_is_used() {
    let request = Request::FindCoordinator { group: "g".into() };
    check_negotiate(&request, Some((0, 3)), Some(3));
    check_negotiate(&request, Some((2, 100)), Some(6));
    check_negotiate(&request, Some((6, 6)), Some(6));
    check_negotiate(&request, Some((7, 9)), None);
    check_negotiate(&request, Some((3, 1)), None);
    check_negotiate(&request, None, None);
    check_negotiate(&Request::Metadata { topics: Some(vec![]) }, Some((0, 3)), None);
}

#[test]
fn a_fetch_by_name_ends_before_topic_ids_begin() {
    let Request::Fetch(mut fetch) = requests::rich(Api::Fetch) else { unreachable!() };
    check_negotiate(&Request::Fetch(fetch.clone()), Some((4, 17)), Some(17));
    fetch.by_topic_id = false;
    check_negotiate(&Request::Fetch(fetch.clone()), Some((4, 17)), Some(12));
    check_negotiate(&Request::Fetch(fetch), Some((13, 17)), None);
}

#[test]
fn a_static_member_is_not_spoken_of_where_its_name_cannot_be_said() {
    for (api, since) in
        [(Api::JoinGroup, 5), (Api::SyncGroup, 3), (Api::Heartbeat, 3), (Api::LeaveGroup, 3), (Api::OffsetCommit, 7)]
    {
        assert_eq!(*requests::rich(api).versions().start(), since, "{api:?}");
        assert_eq!(requests::plain(api).versions(), api.versions(), "{api:?}");
    }
}

#[test]
fn the_end_of_committed_records_is_not_asked_for_without_an_isolation_level() {
    assert_eq!(*requests::rich(Api::ListOffsets).versions().start(), 2);
    assert_eq!(*requests::plain(Api::ListOffsets).versions().start(), 1);
}
