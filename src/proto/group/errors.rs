//! What each error code of each answer means to a member: the reaction tables, as data.
//!
//! A code that no table names is fatal unless it tells of something passing.

use super::GroupConfig;
use crate::{proto::ProblemKind, wire::ErrorCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It was done.
    Done,
    /// The member is alive, and a rebalance is under way: join.
    Rejoin,
    /// The coordinator gave a member id: join with it.
    AdoptMemberId,
    /// Something passing at this coordinator: try again after a back-off.
    BackOff,
    /// Look the coordinator up; membership and partitions stay.
    FindCoordinator,
    /// The generation is gone, the member id is not: with it the coordinator need not wait for a ghost's session to end.
    ResetGeneration,
    /// The coordinator does not know the member.
    ResetMember,
    /// The group may be of the other protocol; otherwise its members and we have no assignor in common.
    OtherProtocol,
    /// Someone can change it while we run: say it, and try again slowly.
    Lasting(ProblemKind),
    Fatal(ProblemKind),
    /// Concerns whoever asked, not the membership.
    Ignore,
}

use Reaction::*;

pub(super) fn join(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::NONE => Done,
        ErrorCode::MEMBER_ID_REQUIRED => AdoptMemberId,
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND => ResetMember,
        ErrorCode::ILLEGAL_GENERATION => ResetGeneration,
        ErrorCode::REBALANCE_IN_PROGRESS => Rejoin,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => OtherProtocol,
        code => common(code),
    }
}

pub(super) fn sync(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::NONE => Done,
        ErrorCode::REBALANCE_IN_PROGRESS => Rejoin,
        ErrorCode::ILLEGAL_GENERATION => ResetGeneration,
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND => ResetMember,
        code => common(code),
    }
}

pub(super) fn heartbeat(code: ErrorCode) -> Reaction {
    sync(code)
}

/// For the answers of others (commits, committed positions) that were asked for in the member's name.
pub(super) fn member(code: ErrorCode) -> Reaction {
    match sync(code) {
        reaction @ (Rejoin | ResetGeneration | ResetMember | Fatal(ProblemKind::Fenced)) => reaction,
        _ => Ignore,
    }
}

pub(super) fn leave(code: ErrorCode) -> Reaction {
    match common(code) {
        reaction @ (FindCoordinator | BackOff) => reaction,
        // Gone already, or never to be done: leaving is a courtesy, nobody waits for it.
        _ => Done,
    }
}

fn common(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => FindCoordinator,
        ErrorCode::GROUP_AUTHORIZATION_FAILED => Lasting(ProblemKind::Unauthorized),
        ErrorCode::GROUP_MAX_SIZE_REACHED => Lasting(ProblemKind::GroupRefused),
        ErrorCode::FENCED_INSTANCE_ID => Fatal(ProblemKind::Fenced),
        ErrorCode::UNSUPPORTED_VERSION => Fatal(ProblemKind::Incompatible),
        code if is_passing(code) => BackOff,
        // INCONSISTENT_GROUP_PROTOCOL where it was joined already, INVALID_SESSION_TIMEOUT, INVALID_GROUP_ID, and what nobody foresaw.
        _ => Fatal(ProblemKind::GroupRefused),
    }
}

/// Whether trying again may help. UNKNOWN_SERVER_ERROR is among them: it tells of a broker in trouble, and a consumer that ends because
/// of it helps nobody.
pub(super) fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::BROKER_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED
            | ErrorCode::UNKNOWN_SERVER_ERROR
    )
}

/// Says what was refused, and what to do about it.
pub(super) fn explain(tried: &str, code: ErrorCode, config: &GroupConfig) -> String {
    format!("{tried} of group {} was refused with {code}: {}", config.group, advice(code, config))
}

/// What to do about it.
pub(super) fn advice(code: ErrorCode, config: &GroupConfig) -> String {
    match code {
        ErrorCode::GROUP_AUTHORIZATION_FAILED => {
            format!("this user needs READ on GROUP {}; ottla goes on trying", config.group)
        }
        ErrorCode::GROUP_MAX_SIZE_REACHED => {
            "the group has as many members as the broker's group.max.size allows; ottla goes on trying".to_owned()
        }
        ErrorCode::INVALID_SESSION_TIMEOUT => format!(
            "the session timeout of {} ms is outside the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
            config.session_timeout.as_millis()
        ),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            let ours: Vec<&str> = config.assignors.iter().map(|assignor| assignor.name()).collect();
            format!(
                "the other members of the group know none of our assignors ({}), or the group is no consumer group; in a rolling \
                 upgrade, first give every member the old and the new assignor, then take the old one away (a coordinator that has just \
                 taken the group over knows of each member only the assignor in use, until it joins again)",
                ours.join(", ")
            )
        }
        ErrorCode::INVALID_GROUP_ID => "the broker does not take this group id".to_owned(),
        ErrorCode::FENCED_INSTANCE_ID => format!(
            "another member joined with the group.instance.id {}; each running member needs one of its own",
            config.instance_id.as_deref().unwrap_or("(none)")
        ),
        ErrorCode::UNSUPPORTED_VERSION if config.instance_id.is_some() => {
            "the broker is too old for static members: unset group.instance.id, or upgrade to Kafka 2.3".to_owned()
        }
        ErrorCode::UNSUPPORTED_VERSION => "the broker is too old".to_owned(),
        _ => "ottla does not know how to go on".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(table: fn(ErrorCode) -> Reaction, rows: &[(ErrorCode, Reaction)]) {
        for &(code, reaction) in rows {
            assert_eq!(table(code), reaction, "{code}");
        }
    }

    const COMMON: [(ErrorCode, Reaction); 12] = [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, BackOff),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, FindCoordinator),
        (ErrorCode::NOT_COORDINATOR, FindCoordinator),
        (ErrorCode::FENCED_INSTANCE_ID, Fatal(ProblemKind::Fenced)),
        (ErrorCode::INVALID_SESSION_TIMEOUT, Fatal(ProblemKind::GroupRefused)),
        (ErrorCode::INVALID_GROUP_ID, Fatal(ProblemKind::GroupRefused)),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, Lasting(ProblemKind::Unauthorized)),
        (ErrorCode::GROUP_MAX_SIZE_REACHED, Lasting(ProblemKind::GroupRefused)),
        (ErrorCode::UNSUPPORTED_VERSION, Fatal(ProblemKind::Incompatible)),
        (ErrorCode::REQUEST_TIMED_OUT, BackOff),
        (ErrorCode::UNKNOWN_SERVER_ERROR, BackOff),
        (ErrorCode(999), Fatal(ProblemKind::GroupRefused)),
    ];

    #[test]
    fn join_group() {
        check(join, &COMMON);
        check(
            join,
            &[
                (ErrorCode::NONE, Done),
                (ErrorCode::MEMBER_ID_REQUIRED, AdoptMemberId),
                (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, OtherProtocol),
                (ErrorCode::UNKNOWN_MEMBER_ID, ResetMember),
                (ErrorCode::ILLEGAL_GENERATION, ResetGeneration),
                (ErrorCode::REBALANCE_IN_PROGRESS, Rejoin),
            ],
        );
    }

    #[test]
    fn sync_group() {
        check(sync, &COMMON);
        check(
            sync,
            &[
                (ErrorCode::NONE, Done),
                (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, Fatal(ProblemKind::GroupRefused)),
                (ErrorCode::REBALANCE_IN_PROGRESS, Rejoin),
                (ErrorCode::ILLEGAL_GENERATION, ResetGeneration),
                (ErrorCode::UNKNOWN_MEMBER_ID, ResetMember),
            ],
        );
    }

    #[test]
    fn heartbeats() {
        check(heartbeat, &COMMON);
        check(
            heartbeat,
            &[
                (ErrorCode::NONE, Done),
                (ErrorCode::REBALANCE_IN_PROGRESS, Rejoin),
                (ErrorCode::ILLEGAL_GENERATION, ResetGeneration),
                (ErrorCode::UNKNOWN_MEMBER_ID, ResetMember),
            ],
        );
    }

    #[test]
    fn leave_group() {
        check(
            leave,
            &[
                (ErrorCode::NONE, Done),
                (ErrorCode::UNKNOWN_MEMBER_ID, Done),
                (ErrorCode::FENCED_INSTANCE_ID, Done),
                (ErrorCode::GROUP_AUTHORIZATION_FAILED, Done),
                (ErrorCode::COORDINATOR_NOT_AVAILABLE, FindCoordinator),
                (ErrorCode::NOT_COORDINATOR, FindCoordinator),
                (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, BackOff),
            ],
        );
    }

    #[test]
    fn what_a_commit_was_told() {
        check(
            member,
            &[
                (ErrorCode::NONE, Ignore),
                (ErrorCode::REBALANCE_IN_PROGRESS, Rejoin),
                (ErrorCode::ILLEGAL_GENERATION, ResetGeneration),
                (ErrorCode::UNKNOWN_MEMBER_ID, ResetMember),
                (ErrorCode::GROUP_ID_NOT_FOUND, ResetMember),
                (ErrorCode::FENCED_INSTANCE_ID, Fatal(ProblemKind::Fenced)),
                // The committer's own business.
                (ErrorCode::GROUP_AUTHORIZATION_FAILED, Ignore),
                (ErrorCode::NOT_COORDINATOR, Ignore),
                (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Ignore),
                (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Ignore),
                (ErrorCode::OFFSET_METADATA_TOO_LARGE, Ignore),
            ],
        );
    }
}
