//! The leader's duties.

use super::*;
use crate::{
    assignor::{Assignment, Assignor, GroupView},
    wire::decode_assignment,
};

/// Whom the leader's SyncGroup gives what.
#[track_caller]
fn check_given(rig: &mut Rig, expected: &[(&str, &str)]) {
    let sync = rig.take(Api::SyncGroup);
    let given: Vec<(String, String)> = sync_request(&sync)
        .assignments
        .iter()
        .map(|(member, blob)| {
            let (partitions, _) = decode_assignment(blob).expect("reads");
            (member.to_string(), partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let expected: Vec<(String, String)> = expected.iter().map(|(m, p)| (m.to_string(), p.to_string())).collect();
    assert_eq!(given, expected);
    rig.asks.push(sync);
}

/// Leads generation 5, with all of `t`'s two partitions.
fn leading_alone(partitions: i32) -> Rig {
    let mut rig = Rig::joining(config());
    rig.metadata(&[("t", partitions)]);
    rig.answer(Api::JoinGroup, Ok(leading("m", 5, &[("m", &["t"])])));
    let all: Vec<_> = (0..partitions.max(0)).map(|n| ("t", n)).collect();
    rig.answer(Api::SyncGroup, Ok(synced(&all)));
    rig.told();
    rig.pass(1_500);
    rig
}

#[test]
fn the_leader_assigns_to_every_member() {
    let mut rig = Rig::joining(config());
    rig.metadata(&[("t", 3)]);
    rig.answer(Api::JoinGroup, Ok(leading("m", 5, &[("m", &["t"]), ("a", &["t"]), ("z", &[])])));
    check_given(&mut rig, &[("a", "t-0 t-1"), ("m", "t-2"), ("z", "")]);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 2)])));
    assert_eq!(rig.told(), ["assigned 5: t-2, leads"]);
}

#[test]
fn the_leader_uses_the_assignor_that_was_selected() {
    let mut rig = Rig::joining(config());
    rig.metadata(&[("t", 3)]);
    let answer = leader("m", 5, &[("m", &["t"]), ("a", &["t"])]);
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(JoinGroupResponse { protocol: Some("roundrobin".into()), ..answer })));
    check_given(&mut rig, &[("a", "t-0 t-2"), ("m", "t-1")]);
}

#[test]
fn the_leader_waits_for_the_others_topics_and_beats_meanwhile() {
    let mut rig = Rig::assigning(config());
    rig.pass(3_000);
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::NONE)));
    rig.metadata(&[("t", 2)]);
    assert_eq!(rig.under_way(), []);
    rig.metadata(&[("t", 2), ("u", 1)]);
    check_given(&mut rig, &[("m", "t-0 t-1"), ("other", "u-0")]);
}

#[test]
fn a_topic_known_to_be_missing_need_not_be_waited_for() {
    let mut rig = Rig::assigning(config());
    rig.metadata(&[("t", 2), ("u", -1)]);
    check_given(&mut rig, &[("m", "t-0 t-1"), ("other", "")]);
}

#[test]
fn a_topic_in_a_bad_moment_is_waited_for() {
    let mut rig = Rig::assigning(config());
    let mut view = view(&[("t", 2), ("u", 1)]);
    view.topics.get_mut("u").expect("there").error = ErrorCode::LEADER_NOT_AVAILABLE;
    rig.machine.handle_metadata(rig.now, &view);
    rig.drain();
    assert_eq!(rig.under_way(), []);
}

#[test]
fn the_leader_does_not_wait_for_ever() {
    let mut rig = Rig::assigning(config());
    rig.pass(15_000);
    check_given(&mut rig, &[("m", "t-0 t-1"), ("other", "")]);
    // What comes later is assigned in the next round.
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1)])));
    rig.told();
    rig.metadata(&[("t", 2), ("u", 1)]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn the_leader_rejoins_when_partitions_are_added() {
    let mut rig = leading_alone(2);
    rig.metadata(&[("t", 2), ("elsewhere", 9)]);
    assert_eq!(rig.told(), [""; 0]);
    rig.metadata(&[("t", 3)]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
    rig.released();
    let join = rig.asks.iter().find(|ask| ask.request.api() == Api::JoinGroup).expect("joins");
    assert_eq!(join_request(join).reason.as_deref(), Some("topic t has 3 partitions instead of 2"));
}

#[test]
fn the_leader_rejoins_when_a_topic_appears_or_goes() {
    let mut rig = leading_alone(-1);
    rig.metadata(&[("t", 1)]);
    assert_eq!(rig.told(), ["rejoining"]);
    let mut rig = leading_alone(1);
    rig.metadata(&[("t", -1)]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn the_leader_does_not_rejoin_for_a_bad_moment() {
    let mut rig = leading_alone(2);
    let mut view = view(&[("t", 0)]);
    view.topics.get_mut("t").expect("there").error = ErrorCode::LEADER_NOT_AVAILABLE;
    rig.machine.handle_metadata(rig.now, &view);
    rig.metadata(&[]);
    assert_eq!(rig.told(), [""; 0]);
    assert!(rig.machine.is_stable());
}

/// Topics that only another member wants are the leader's business too.
#[test]
fn the_leader_rejoins_when_another_members_topic_grows() {
    let mut rig = Rig::assigning(config());
    rig.metadata(&[("t", 2), ("u", 1)]);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1)])));
    rig.told();
    rig.metadata(&[("t", 2), ("u", 2)]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn metadata_that_changes_while_syncing_is_noticed_after_it() {
    let mut rig = Rig::assigning(config());
    rig.metadata(&[("t", 2), ("u", 1)]);
    rig.metadata(&[("t", 3), ("u", 1)]);
    assert_eq!(rig.under_way(), [Api::SyncGroup]);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1)])));
    assert_eq!(rig.told(), ["assigned 5: t-0 t-1, leads", "rejoining", "release"]);
}

#[test]
fn partitions_are_not_handed_back_before_the_group_can_meet() {
    let mut rig = leading_alone(2);
    rig.coordinator(false);
    rig.metadata(&[("t", 3)]);
    assert_eq!(rig.told(), [""; 0]);
    rig.coordinator(true);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn a_follower_does_not_watch_the_metadata() {
    let mut rig = Rig::stable(config());
    rig.metadata(&[("t", 1)]);
    rig.metadata(&[("t", 2)]);
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn a_leader_that_becomes_a_follower_stops_watching() {
    let mut rig = Rig::assigning(config());
    rig.metadata(&[("t", 2), ("u", 1)]);
    rig.answer(Api::SyncGroup, Ok(sync_error(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    assert_eq!(rig.told(), ["watch "]);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    rig.told();
    rig.metadata(&[("t", 2), ("u", 7)]);
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn a_member_that_cannot_be_read_gets_nothing_and_is_spoken_of() {
    let mut rig = Rig::joining(config());
    rig.metadata(&[("t", 1)]);
    let mut answer = leader("m", 5, &[("m", &["t"]), ("broken", &["t"])]);
    answer.members[1].metadata = Bytes::from_static(&[0, 3, 0x7f]);
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    check_given(&mut rig, &[("broken", ""), ("m", "t-0")]);
    let [GroupEvent::Problem(problem)] = &rig.events[..] else { panic!("{:?}", rig.events) };
    assert!(!problem.fatal && problem.what.contains("member broken"), "{}", problem.what);
}

#[derive(Debug)]
struct GivesAllToAll;

impl Assignor for GivesAllToAll {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        let t0 = || vec![TopicPartition::new("t", 0)];
        group.members.keys().map(|member| (member.clone(), t0())).collect()
    }
}

/// `t` has two partitions, with replicas in these racks.
fn in_racks(racks: [&str; 2]) -> ClusterView {
    let mut view = view(&[("t", 2)]);
    let partitions = &mut view.topics.get_mut("t").expect("there").partitions;
    partitions.iter_mut().zip(racks).for_each(|(partition, rack)| partition.racks = [Arc::from(rack)].into());
    view
}

/// Leads generation 5 as `m`, in rack `r0`, beside `a` in this one.
fn leading_in_racks(other: &str, expected: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::joining(config());
    rig.machine.handle_metadata(rig.now, &in_racks(["r0", "r1"]));
    let mut answer = leader("m", 5, &[("m", &["t"]), ("a", &["t"])]);
    for (member, rack) in answer.members.iter_mut().zip(["r0", other]) {
        let rack = Some(rack).filter(|_| !other.is_empty()).map(Arc::from);
        member.metadata = Subscription { topics: vec!["t".into()], rack, ..Subscription::default() }.encode();
    }
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    check_given(&mut rig, expected);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    rig.told();
    rig
}

#[test]
fn the_leader_assigns_by_racks_and_rejoins_when_replicas_move_to_others() {
    let mut rig = leading_in_racks("r1", &[("a", "t-1"), ("m", "t-0")]);
    rig.machine.handle_metadata(rig.now, &in_racks(["r0", "r1"]));
    rig.drain();
    assert_eq!(rig.told(), [""; 0]);
    rig.machine.handle_metadata(rig.now, &in_racks(["r1", "r0"]));
    rig.drain();
    assert_eq!(rig.told(), ["rejoining", "release"]);
    rig.released();
    let join = rig.asks.iter().find(|ask| ask.request.api() == Api::JoinGroup).expect("joins");
    assert_eq!(join_request(join).reason.as_deref(), Some("replicas of topic t are in other racks than was known"));
}

#[test]
fn to_members_without_racks_it_is_all_the_same_where_replicas_are() {
    let mut rig = leading_in_racks("", &[("a", "t-0"), ("m", "t-1")]);
    rig.machine.handle_metadata(rig.now, &in_racks(["r1", "r0"]));
    rig.drain();
    assert_eq!(rig.told(), [""; 0]);
}

#[derive(Debug)]
struct SaysTheRacks;

impl Assignor for SaysTheRacks {
    fn name(&self) -> &str {
        "range"
    }

    /// Gives all to whoever is in the rack of `t-0`.
    fn assign(&self, group: &GroupView) -> Assignment {
        let [rack] = group.racks(&TopicPartition::new("t", 0)) else { return Assignment::new() };
        assert!(group.racks(&TopicPartition::new("t", 2)).is_empty() && group.racks(&TopicPartition::new("u", 0)).is_empty());
        let near = |member: &str| group.members[member].rack.as_ref() == Some(rack);
        let all = || (0..2).map(|n| TopicPartition::new("t", n)).collect();
        group.members.keys().filter(|member| near(member)).map(|member| (member.clone(), all())).collect()
    }
}

#[test]
fn an_assignor_of_ones_own_is_told_the_racks() {
    let mut rig = Rig::joining(GroupConfig { assignors: vec![Arc::new(SaysTheRacks)], rack: Some("r1".into()), ..config() });
    rig.machine.handle_metadata(rig.now, &in_racks(["r1", "r0"]));
    let mut answer = leader("m", 5, &[("m", &["t"]), ("a", &["t"])]);
    let subscription = Subscription { topics: vec!["t".into()], rack: Some("r1".into()), ..Subscription::default() };
    answer.members[0].metadata = subscription.encode();
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    check_given(&mut rig, &[("a", ""), ("m", "t-0 t-1")]);
}

/// KIP-814, and before it: no roster says whether others are in racks, but this one is.
#[test]
fn a_leader_that_came_back_minds_racks_if_it_is_in_one() {
    for (rack, expected) in [(Some("r0".into()), &["rejoining", "release"][..]), (None, &[])] {
        let mut rig = Rig::joining(GroupConfig { rack, ..static_config() });
        rig.machine.handle_metadata(rig.now, &in_racks(["r0", "r1"]));
        let answer = JoinGroupResponse { leader: "i-01234567-89ab-cdef-0123-456789abcdef".into(), ..follower("i-new", 5) };
        rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
        rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
        rig.told();
        rig.machine.handle_metadata(rig.now, &in_racks(["r1", "r0"]));
        rig.drain();
        assert_eq!(rig.told(), expected);
    }
}

#[test]
fn a_wrong_assignment_is_fatal_and_not_sent() {
    let mut rig = Rig::joining(GroupConfig { assignors: vec![Arc::new(GivesAllToAll)], ..config() });
    rig.metadata(&[("t", 1)]);
    rig.answer(Api::JoinGroup, Ok(leading("m", 5, &[("m", &["t"]), ("a", &["t"])])));
    let Some(GroupEvent::Problem(problem)) = rig.events.last() else { panic!("{:?}", rig.events) };
    assert!(problem.fatal && problem.what.contains("t-0 both to member a and to member m"), "{}", problem.what);
    assert_eq!(rig.next_ask(), "nothing");
    // The others need not wait for our session to end.
    rig.leave();
    assert_eq!(rig.under_way(), [Api::LeaveGroup]);
}

/// KIP-814: a static leader came back, and the assignment stands.
fn came_back(config: GroupConfig, partitions: i32) -> Rig {
    let mut rig = Rig::joining(config);
    rig.metadata(&[("t", partitions)]);
    let answer = JoinGroupResponse { skip_assignment: true, ..leader("m", 5, &[("m", &["t"])]) };
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    check_given(&mut rig, &[]);
    rig
}

#[test]
fn a_leader_told_to_skip_the_assignment_sends_none_and_watches_all_the_same() {
    let mut rig = came_back(static_config(), 2);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1), ("t", 0)])));
    assert_eq!(rig.told(), ["assigned 5: t-0 t-1, leads"]);
    rig.metadata(&[("t", 3)]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn a_leader_told_to_skip_notices_what_changed_while_it_was_away() {
    let mut rig = came_back(static_config(), 3);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1)])));
    assert_eq!(rig.told(), ["assigned 5: t-0 t-1, leads", "rejoining", "release"]);
}

/// Before JoinGroup version 9 a static leader that comes back is told its former member id as leader's, and no members.
#[test]
fn a_static_leader_that_came_back_to_an_old_broker_overwrites_nothing_and_watches() {
    let mut rig = Rig::joining(static_config());
    rig.metadata(&[("t", 2)]);
    let answer = JoinGroupResponse { leader: "i-01234567-89ab-cdef-0123-456789abcdef".into(), ..follower("i-new", 5) };
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    check_given(&mut rig, &[]);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    rig.told();
    rig.metadata(&[("t", 3)]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn a_leader_whose_name_begins_like_ours_is_another() {
    let mut rig = Rig::joining(static_config());
    rig.metadata(&[("t", 2)]);
    let answer = JoinGroupResponse { leader: "i-2-01234567-89ab-cdef-0123-456789abcdef".into(), ..follower("i-new", 5) };
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    rig.told();
    rig.metadata(&[("t", 3)]);
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn a_leader_without_a_roster_overwrites_nothing() {
    let mut rig = Rig::joining(static_config());
    rig.metadata(&[("t", 2)]);
    rig.answer(Api::JoinGroup, Ok(leading("m", 5, &[])));
    check_given(&mut rig, &[]);
}

#[test]
fn a_subscription_that_changes_while_assigning_is_joined_with_at_once() {
    let mut rig = Rig::assigning(config());
    rig.subscribe(&["t", "v"]);
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}
