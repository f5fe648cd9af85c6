//! Which versions of each API ottla speaks, and which one to use with a given broker.

use std::ops::RangeInclusive;

use super::{Api, ApiRange, Isolation, Request, Timestamp};

/// The versions of `api` that a broker speaks, as its ApiVersions answer tells; `None` when it does not know the API.
pub(crate) fn api_range(apis: &[ApiRange], api: Api) -> Option<(i16, i16)> {
    apis.iter().find(|range| range.key == api as i16).map(|range| (range.min, range.max))
}

/// What matters to ottla of the versions that a broker speaks: one range of each API it may ask, however many a broker names.
pub(crate) fn ranges_of_interest(apis: &[ApiRange]) -> Vec<ApiRange> {
    Api::ALL.into_iter().filter_map(|api| apis.iter().copied().find(|range| range.key == api as i16)).collect()
}

/// The highest version at which `request` can be said to a broker that speaks `apis`.
pub(crate) fn negotiate(request: &Request, apis: &[ApiRange]) -> Option<i16> {
    let (min, max) = api_range(apis, request.api())?;
    let ours = request.versions();
    let highest = max.min(*ours.end());
    (highest >= min && highest >= *ours.start()).then_some(highest)
}

impl Request {
    /// The versions at which this very request can be said and its answer read.
    ///
    /// Narrower than what the API has where a version lacks a field that changes what the request means. A field that only helps, such as
    /// a leader epoch, is left out at versions that lack it.
    pub(crate) fn versions(&self) -> RangeInclusive<i16> {
        let all = self.api().versions();
        let (mut min, mut max) = (*all.start(), *all.end());
        match self {
            // A static member that does not give its name is another, dynamic member.
            Self::JoinGroup(join) if join.instance_id.is_some() => min = 5,
            Self::SyncGroup(sync) if sync.member.instance_id.is_some() => min = 3,
            Self::Heartbeat(member) if member.instance_id.is_some() => min = 3,
            Self::LeaveGroup(leave) if leave.instance_id.is_some() => min = 3,
            Self::OffsetCommit(commit) if commit.member.instance_id.is_some() => min = 7,
            // Before, ids are not trusted, and a topic without a name cannot be said.
            Self::MetadataById { .. } => min = 12,
            // Before there is no way to say everything.
            Self::GroupOffsets { .. } => min = 2,
            Self::ListOffsets { partitions, .. } if partitions.iter().any(|asked| asked.timestamp == Timestamp::Newest) => {
                min = 7
            }
            // Without an isolation level the end of the log is the high watermark, beyond what read_committed may see.
            Self::ListOffsets { isolation: Isolation::ReadCommitted, .. } => min = 2,
            Self::Fetch(fetch) => {
                if !fetch.by_topic_id {
                    max = 12;
                }
                // Without sessions, what is not named is not read.
                if fetch.session.epoch > 0 {
                    min = 7;
                }
            }
            _ => {}
        }
        min..=max
    }
}

impl Api {
    /// The versions of which ottla writes the request and reads the answer.
    ///
    /// Literals, not `kafka_protocol`'s constants: each new version needs a decoder of ours first. Every broker from Kafka 0.11 on speaks
    /// at least one version of each, but for OffsetForLeaderEpoch, and SaslAuthenticate, which is from 1.0.
    pub(super) fn versions(self) -> RangeInclusive<i16> {
        match self {
            Self::Fetch => 4..=18,
            Self::ListOffsets => 1..=10,
            // Before 4 a question about a topic may create it, and at 0 an empty list asks for all topics.
            Self::Metadata => 4..=13,
            Self::OffsetCommit => 2..=9,
            Self::OffsetFetch => 1..=9,
            Self::FindCoordinator => 0..=6,
            // At 0 the rebalance timeout cannot be said: the session timeout, which is far shorter, would stand for it.
            Self::JoinGroup => 1..=9,
            Self::Heartbeat => 0..=4,
            Self::LeaveGroup => 0..=5,
            Self::SyncGroup => 0..=5,
            Self::ApiVersions => 0..=4,
            // Before 3 the broker wants the permissions of another broker (KIP-320), and the answer could lie beyond the high watermark.
            Self::OffsetForLeaderEpoch => 3..=4,
            // At 0 the mechanism's messages follow bare, without headers.
            Self::SaslHandshake => 0..=1,
            Self::SaslAuthenticate => 0..=2,
            // At 0, before Kafka 4.0, the protocol is a preview, and the member id is the broker's to give.
            Self::ConsumerGroupHeartbeat => 1..=1,
        }
    }

    /// The first flexible version (KIP-482): compact lengths, and tagged fields after each structure.
    pub(super) fn flexible_from(self) -> i16 {
        match self {
            Self::Fetch => 12,
            Self::ListOffsets => 6,
            Self::Metadata => 9,
            Self::OffsetCommit => 8,
            Self::OffsetFetch => 6,
            Self::FindCoordinator => 3,
            Self::JoinGroup => 6,
            Self::Heartbeat => 4,
            Self::LeaveGroup => 4,
            Self::SyncGroup => 4,
            Self::ApiVersions => 3,
            Self::OffsetForLeaderEpoch => 4,
            // It comes before anything is known of the broker, and never became flexible.
            Self::SaslHandshake => i16::MAX,
            Self::SaslAuthenticate => 2,
            Self::ConsumerGroupHeartbeat => 0,
        }
    }

    pub(crate) fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// Whether a broker that answers so makes its client wait afterwards, if it has to wait.
    pub(crate) fn throttles(self, version: i16) -> bool {
        self.throttles_from().is_some_and(|from| version >= from)
    }

    /// From which version on an answer says for how long its broker does not listen to the connection now, because a quota is used up (KIP-219).
    /// With an earlier one it has held the answer back for so long.
    pub(super) fn throttles_from(self) -> Option<i16> {
        Some(match self {
            Self::Fetch => 8,
            Self::ListOffsets => 3,
            Self::Metadata => 6,
            Self::OffsetCommit => 4,
            Self::OffsetFetch => 4,
            Self::FindCoordinator => 2,
            Self::JoinGroup => 3,
            Self::Heartbeat => 2,
            Self::LeaveGroup => 2,
            Self::SyncGroup => 2,
            Self::OffsetForLeaderEpoch => 2,
            Self::ConsumerGroupHeartbeat => 0,
            Self::ApiVersions => 2,
            Self::SaslHandshake | Self::SaslAuthenticate => return None,
        })
    }
}
