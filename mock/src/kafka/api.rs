//! Which versions of which API a Kafka of which release speaks.

use kafka_protocol::{
    messages::ApiKey,
    protocol::{Message, VersionRange},
};

/// A release of Kafka, as far as it matters to the protocol: `4.3`, `2.8`, `0.11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    pub(crate) major: u8,
    pub(crate) minor: u8,
}

impl Release {
    /// The newest release that this cluster knows.
    pub const NEWEST: Self = Self::new(4, 3);
    /// The oldest one: the first with today's record batches.
    pub const OLDEST: Self = Self::new(0, 11);

    /// Names a release.
    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// Reads `"2.8"`, or `"2.8.1"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(str::parse);
        let release = Self::new(numbers.next()?.ok()?, numbers.next()?.ok()?);
        (Self::OLDEST..=Self::NEWEST).contains(&release).then_some(release)
    }
}

/// One API's versions: the oldest and newest since this release.
type Since = (Release, i16, i16);

const fn since(major: u8, minor: u8, oldest: i16, newest: i16) -> Since {
    (Release::new(major, minor), oldest, newest)
}

/// What each release's brokers announce. From 4.0 on they have given up the oldest versions.
const APIS: &[(ApiKey, &[Since])] = &[
    (
        ApiKey::Produce,
        &[
            since(0, 11, 0, 3),
            since(1, 1, 0, 5),
            since(2, 0, 0, 6),
            since(2, 1, 0, 7),
            since(2, 4, 0, 8),
            since(2, 8, 0, 9),
            since(3, 7, 0, 10),
            since(3, 8, 0, 11),
            since(4, 0, 3, 12),
            since(4, 1, 3, 13),
        ],
    ),
    (
        ApiKey::Fetch,
        &[
            since(0, 11, 0, 5),
            since(1, 1, 0, 7),
            since(2, 0, 0, 8),
            since(2, 1, 0, 10),
            since(2, 3, 0, 11),
            since(2, 7, 0, 12),
            since(3, 1, 0, 13),
            since(3, 5, 0, 15),
            since(3, 7, 0, 16),
            since(3, 9, 0, 17),
            since(4, 0, 4, 17),
            since(4, 1, 4, 18),
        ],
    ),
    (
        ApiKey::ListOffsets,
        &[
            since(0, 11, 0, 2),
            since(2, 0, 0, 3),
            since(2, 1, 0, 4),
            since(2, 3, 0, 5),
            since(2, 8, 0, 6),
            since(3, 0, 0, 7),
            since(3, 5, 0, 8),
            since(3, 9, 0, 9),
            since(4, 0, 1, 10),
            since(4, 2, 1, 11),
        ],
    ),
    (
        ApiKey::Metadata,
        &[
            since(0, 11, 0, 4),
            since(1, 1, 0, 5),
            since(2, 0, 0, 6),
            since(2, 1, 0, 7),
            since(2, 3, 0, 8),
            since(2, 4, 0, 9),
            since(2, 8, 0, 11),
            since(3, 1, 0, 12),
            since(4, 0, 0, 13),
        ],
    ),
    (
        ApiKey::OffsetCommit,
        &[
            since(0, 11, 0, 3),
            since(2, 0, 0, 4),
            since(2, 1, 0, 6),
            since(2, 3, 0, 7),
            since(2, 4, 0, 8),
            since(3, 7, 0, 9),
            since(4, 0, 2, 9),
            since(4, 2, 2, 10),
        ],
    ),
    (
        ApiKey::OffsetFetch,
        &[
            since(0, 11, 0, 3),
            since(2, 0, 0, 4),
            since(2, 1, 0, 5),
            since(2, 4, 0, 6),
            since(2, 5, 0, 7),
            since(3, 0, 0, 8),
            since(3, 7, 0, 9),
            since(4, 0, 1, 9),
            since(4, 2, 1, 10),
        ],
    ),
    (
        ApiKey::FindCoordinator,
        &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 4, 0, 3), since(3, 0, 0, 4), since(3, 8, 0, 5), since(3, 9, 0, 6)],
    ),
    (
        ApiKey::JoinGroup,
        &[since(0, 11, 0, 2), since(2, 0, 0, 3), since(2, 3, 0, 5), since(2, 4, 0, 6), since(2, 5, 0, 7), since(3, 2, 0, 9)],
    ),
    (ApiKey::Heartbeat, &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 3, 0, 3), since(2, 4, 0, 4)]),
    (ApiKey::LeaveGroup, &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 4, 0, 4), since(3, 2, 0, 5)]),
    (ApiKey::SyncGroup, &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 3, 0, 3), since(2, 4, 0, 4), since(2, 5, 0, 5)]),
    (ApiKey::DescribeGroups, &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 3, 0, 3), since(2, 4, 0, 5), since(4, 0, 0, 6)]),
    (ApiKey::ListGroups, &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 4, 0, 3), since(2, 6, 0, 4), since(3, 8, 0, 5)]),
    (ApiKey::SaslHandshake, &[since(0, 11, 0, 0), since(1, 1, 0, 1)]),
    (ApiKey::ApiVersions, &[since(0, 11, 0, 1), since(2, 0, 0, 2), since(2, 4, 0, 3), since(3, 9, 0, 4)]),
    (
        ApiKey::CreateTopics,
        &[since(0, 11, 0, 2), since(2, 0, 0, 3), since(2, 4, 0, 5), since(2, 7, 0, 6), since(2, 8, 0, 7), since(4, 0, 2, 7)],
    ),
    (
        ApiKey::DeleteTopics,
        &[
            since(0, 11, 0, 1),
            since(2, 0, 0, 2),
            since(2, 1, 0, 3),
            since(2, 4, 0, 4),
            since(2, 7, 0, 5),
            since(2, 8, 0, 6),
            since(4, 0, 1, 6),
        ],
    ),
    (ApiKey::DeleteRecords, &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 6, 0, 2)]),
    (
        ApiKey::InitProducerId,
        &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 4, 0, 2), since(2, 5, 0, 3), since(2, 7, 0, 4), since(3, 8, 0, 5)],
    ),
    (
        ApiKey::OffsetForLeaderEpoch,
        &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 1, 0, 2), since(2, 3, 0, 3), since(2, 8, 0, 4), since(4, 0, 2, 4)],
    ),
    (
        ApiKey::AddPartitionsToTxn,
        &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 7, 0, 2), since(2, 8, 0, 3), since(3, 6, 0, 4), since(3, 8, 0, 5)],
    ),
    (ApiKey::AddOffsetsToTxn, &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 7, 0, 2), since(2, 8, 0, 3), since(3, 8, 0, 4)]),
    (
        ApiKey::EndTxn,
        &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 7, 0, 2), since(2, 8, 0, 3), since(3, 8, 0, 4), since(4, 0, 0, 5)],
    ),
    (
        ApiKey::TxnOffsetCommit,
        &[since(0, 11, 0, 0), since(2, 0, 0, 1), since(2, 1, 0, 2), since(2, 5, 0, 3), since(3, 8, 0, 4), since(4, 0, 0, 5)],
    ),
    (ApiKey::SaslAuthenticate, &[since(1, 1, 0, 0), since(2, 3, 0, 1), since(2, 5, 0, 2)]),
    (ApiKey::CreatePartitions, &[since(1, 1, 0, 0), since(2, 0, 0, 1), since(2, 5, 0, 2), since(2, 7, 0, 3)]),
    (ApiKey::DeleteGroups, &[since(1, 1, 0, 0), since(2, 0, 0, 1), since(2, 4, 0, 2)]),
    (ApiKey::OffsetDelete, &[since(2, 4, 0, 0)]),
    (ApiKey::DescribeCluster, &[since(2, 8, 0, 0), since(3, 7, 0, 1), since(4, 0, 0, 2)]),
    (ApiKey::ConsumerGroupHeartbeat, &[since(3, 7, 0, 0), since(4, 0, 0, 1)]),
    (ApiKey::ConsumerGroupDescribe, &[since(3, 8, 0, 0), since(4, 0, 0, 1)]),
];

/// Lists what a broker of `release` announces, as far as this cluster can speak it.
pub(crate) fn announced(release: Release) -> impl Iterator<Item = (ApiKey, i16, i16)> {
    APIS.iter().filter_map(move |(api, _)| versions(*api, release).map(|(oldest, newest)| (*api, oldest, newest)))
}

/// Looks up the versions of one API; `None` if the release does not have it.
pub(crate) fn versions(api: ApiKey, release: Release) -> Option<(i16, i16)> {
    let (_, history) = APIS.iter().find(|(of, _)| *of == api)?;
    let &(_, oldest, newest) = history.iter().rev().find(|(since, ..)| *since <= release)?;
    let spoken = spoken(api)?;
    let (oldest, newest) = (oldest.max(spoken.min), newest.min(spoken.max));
    (oldest <= newest).then_some((oldest, newest))
}

/// The versions that request and answer both can be read and written in here.
fn spoken(api: ApiKey) -> Option<VersionRange> {
    macro_rules! spoken {
        ($($api:ident: $request:ident, $response:ident;)*) => {
            match api {
                $(ApiKey::$api => {
                    let request = <kafka_protocol::messages::$request as Message>::VERSIONS;
                    let response = <kafka_protocol::messages::$response as Message>::VERSIONS;
                    Some(VersionRange { min: request.min.max(response.min), max: request.max.min(response.max) })
                })*
                _ => None,
            }
        };
    }
    spoken! {
        Produce: ProduceRequest, ProduceResponse;
        Fetch: FetchRequest, FetchResponse;
        ListOffsets: ListOffsetsRequest, ListOffsetsResponse;
        Metadata: MetadataRequest, MetadataResponse;
        OffsetCommit: OffsetCommitRequest, OffsetCommitResponse;
        OffsetFetch: OffsetFetchRequest, OffsetFetchResponse;
        FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse;
        JoinGroup: JoinGroupRequest, JoinGroupResponse;
        Heartbeat: HeartbeatRequest, HeartbeatResponse;
        LeaveGroup: LeaveGroupRequest, LeaveGroupResponse;
        SyncGroup: SyncGroupRequest, SyncGroupResponse;
        DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse;
        ListGroups: ListGroupsRequest, ListGroupsResponse;
        SaslHandshake: SaslHandshakeRequest, SaslHandshakeResponse;
        ApiVersions: ApiVersionsRequest, ApiVersionsResponse;
        CreateTopics: CreateTopicsRequest, CreateTopicsResponse;
        DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse;
        DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse;
        InitProducerId: InitProducerIdRequest, InitProducerIdResponse;
        OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
        AddPartitionsToTxn: AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
        AddOffsetsToTxn: AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
        EndTxn: EndTxnRequest, EndTxnResponse;
        TxnOffsetCommit: TxnOffsetCommitRequest, TxnOffsetCommitResponse;
        SaslAuthenticate: SaslAuthenticateRequest, SaslAuthenticateResponse;
        CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse;
        DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse;
        OffsetDelete: OffsetDeleteRequest, OffsetDeleteResponse;
        DescribeCluster: DescribeClusterRequest, DescribeClusterResponse;
        ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
        ConsumerGroupDescribe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_the_versions_it_came_with() {
        let old = |api| versions(api, Release::new(2, 8));
        assert_eq!(old(ApiKey::Fetch), Some((4, 12)));
        assert_eq!(old(ApiKey::JoinGroup), Some((0, 7)));
        assert_eq!(old(ApiKey::OffsetFetch), Some((1, 7)));
        assert_eq!(old(ApiKey::ConsumerGroupHeartbeat), None);
        assert_eq!(versions(ApiKey::ConsumerGroupHeartbeat, Release::NEWEST), Some((0, 1)));
        assert_eq!(versions(ApiKey::Fetch, Release::NEWEST), Some((4, 18)));
        assert_eq!(versions(ApiKey::JoinGroup, Release::OLDEST), Some((0, 2)));
    }

    #[test]
    fn releases_are_read_and_what_is_none_is_refused() {
        assert_eq!(Release::parse("2.8"), Some(Release::new(2, 8)));
        assert_eq!(Release::parse("3.9.2"), Some(Release::new(3, 9)));
        for text in ["", "4", "0.10", "5.0", "x.y"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }
}
