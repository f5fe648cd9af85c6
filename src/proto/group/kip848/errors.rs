//! What each error code of ConsumerGroupHeartbeat means to a member, as data.

use crate::{
    proto::{
        ProblemKind,
        group::{
            GroupConfig,
            errors::{advice, is_passing},
        },
    },
    wire::ErrorCode,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    Done,
    BackOff,
    /// Look the coordinator up, and tell it everything; membership and partitions stay.
    FindCoordinator,
    /// Its epoch is not ours: everything is lost, join anew.
    Rejoin,
    /// It does not know us: as `Rejoin`, under a new id.
    RejoinAsNew,
    /// The broker, or the group, does not speak this protocol. What that means for a member is found out by joining: a group that became a
    /// classic one while we were missed becomes ours again.
    FallBack,
    /// Someone can change it while we run: say it, and try again slowly.
    Lasting(ProblemKind),
    Fatal(ProblemKind),
}

use Reaction::*;

pub(super) fn heartbeat(code: ErrorCode) -> Reaction {
    match code {
        ErrorCode::NONE => Done,
        ErrorCode::FENCED_MEMBER_EPOCH => Rejoin,
        ErrorCode::UNKNOWN_MEMBER_ID => RejoinAsNew,
        ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => FindCoordinator,
        ErrorCode::UNSUPPORTED_VERSION | ErrorCode::GROUP_ID_NOT_FOUND => FallBack,
        ErrorCode::GROUP_AUTHORIZATION_FAILED | ErrorCode::TOPIC_AUTHORIZATION_FAILED => Lasting(ProblemKind::Unauthorized),
        ErrorCode::GROUP_MAX_SIZE_REACHED => Lasting(ProblemKind::GroupRefused),
        // The former process of this name has not been missed yet: its place is free when its session ends.
        ErrorCode::UNRELEASED_INSTANCE_ID => Lasting(ProblemKind::Fenced),
        ErrorCode::FENCED_INSTANCE_ID => Fatal(ProblemKind::Fenced),
        code if is_passing(code) => BackOff,
        // UNSUPPORTED_ASSIGNOR, INVALID_REQUEST, INVALID_REGULAR_EXPRESSION, INVALID_GROUP_ID, and what nobody foresaw.
        _ => Fatal(ProblemKind::GroupRefused),
    }
}

/// Says what to do where this protocol is not to be had.
pub(super) fn instead(pattern: Option<&str>) -> String {
    match pattern {
        None => "choose the classic protocol".to_owned(),
        Some(pattern) => {
            format!("let ottla match the pattern {pattern:?}, which by the classic protocol no broker does: subscribe_pattern")
        }
    }
}

/// Says what was refused, and what to do about it.
pub(super) fn explain(code: ErrorCode, message: Option<&str>, config: &GroupConfig, pattern: Option<&str>) -> String {
    let what_to_do = match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            "this user needs DESCRIBE on every topic that it subscribes to; ottla goes on trying".to_owned()
        }
        ErrorCode::GROUP_MAX_SIZE_REACHED => {
            "the group has as many members as the broker's group.consumer.max.size allows; ottla goes on trying".to_owned()
        }
        ErrorCode::UNRELEASED_INSTANCE_ID => format!(
            "another member has the group.instance.id {}, or had it until just now; each running member needs one of its own; ottla goes \
             on trying",
            config.instance_id.as_deref().unwrap_or("(none)")
        ),
        ErrorCode::UNSUPPORTED_ASSIGNOR => {
            let assignor = config.server_assignor.as_deref().unwrap_or_default();
            format!("the broker has no assignor \"{assignor}\" (its setting is group.consumer.assignors)")
        }
        ErrorCode::INVALID_REGULAR_EXPRESSION => {
            let pattern = pattern.unwrap_or_default();
            format!("the pattern {pattern:?} is no regular expression to the broker, which takes the syntax of RE2")
        }
        ErrorCode::UNSUPPORTED_VERSION => {
            format!("the broker does not speak the consumer protocol (KIP-848): upgrade to Kafka 4.0, or {}", instead(pattern))
        }
        ErrorCode::GROUP_ID_NOT_FOUND => format!(
            "the group is of another protocol and cannot be converted while it has members (the broker's setting is \
             group.consumer.migration.policy): stop them, or {}",
            instead(pattern)
        ),
        _ => advice(code, config),
    };
    let message = message.map(|message| format!(" ({message})")).unwrap_or_default();
    format!("a heartbeat of group {} was refused with {code}{message}: {what_to_do}", config.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row() {
        for (code, reaction) in [
            (ErrorCode::NONE, Done),
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, BackOff),
            (ErrorCode::NOT_COORDINATOR, FindCoordinator),
            (ErrorCode::COORDINATOR_NOT_AVAILABLE, FindCoordinator),
            (ErrorCode::FENCED_MEMBER_EPOCH, Rejoin),
            (ErrorCode::UNKNOWN_MEMBER_ID, RejoinAsNew),
            (ErrorCode::UNRELEASED_INSTANCE_ID, Lasting(ProblemKind::Fenced)),
            (ErrorCode::FENCED_INSTANCE_ID, Fatal(ProblemKind::Fenced)),
            (ErrorCode::UNSUPPORTED_ASSIGNOR, Fatal(ProblemKind::GroupRefused)),
            (ErrorCode::UNSUPPORTED_VERSION, FallBack),
            (ErrorCode::GROUP_ID_NOT_FOUND, FallBack),
            (ErrorCode::INVALID_REQUEST, Fatal(ProblemKind::GroupRefused)),
            (ErrorCode::INVALID_REGULAR_EXPRESSION, Fatal(ProblemKind::GroupRefused)),
            (ErrorCode::GROUP_MAX_SIZE_REACHED, Lasting(ProblemKind::GroupRefused)),
            (ErrorCode::GROUP_AUTHORIZATION_FAILED, Lasting(ProblemKind::Unauthorized)),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, Lasting(ProblemKind::Unauthorized)),
            (ErrorCode(999), Fatal(ProblemKind::GroupRefused)),
        ] {
            assert_eq!(heartbeat(code), reaction, "{code}");
        }
    }
}
