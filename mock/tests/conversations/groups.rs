//! Classic groups: joining, syncing, heartbeats, and who is refused what in which state.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_mock::kafka_protocol::messages::{
    join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
    sync_group_request::SyncGroupRequestAssignment, *,
};

use crate::{
    offsets::commit,
    stage::{Line, Stage, play, text},
};

/// A subscription in the version that all know. It has to be one: a Kafka 4.3.1 that cannot read it never answers the join.
pub(crate) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

pub(crate) fn protocol(name: &str, topics: &[&str]) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription(topics))
}

pub(crate) fn join(group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocols(vec![protocol("range", &[group])])
}

pub(crate) fn sync(group: &str, member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| {
        let one = SyncGroupRequestAssignment::default().with_member_id(text(member));
        one.with_assignment(Bytes::from_static(assignment.as_bytes()))
    });
    SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect())
}

pub(crate) fn heartbeat(group: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(GroupId(text(group))).with_member_id(text(member)).with_generation_id(generation)
}

pub(crate) fn leave(group: &str, members: &[&str]) -> LeaveGroupRequest {
    let members = members.iter().map(|member| MemberIdentity::default().with_member_id(text(member)));
    LeaveGroupRequest::default().with_group_id(GroupId(text(group))).with_members(members.collect())
}

/// Joins with the id that the first answer gives.
pub(crate) async fn enter(stage: &mut Stage, line: Line, group: &str) -> String {
    let given = stage.ask(line, 9, &join(group, "")).await.member_id.to_string();
    stage.send(line, 9, &join(group, &given)).await;
    given
}

/// Makes a stable group of one member; it is in generation 1.
pub(crate) async fn alone(stage: &mut Stage, line: Line, group: &'static str) -> String {
    stage.group(group).await;
    let member = enter(stage, line, group).await;
    stage.hear::<JoinGroupRequest>(line, 9).await;
    stage.ask(line, 5, &sync(group, &member, 1, &[(&member, "all")])).await;
    member
}

#[tokio::test]
async fn a_member_joins_syncs_and_is_refused_when_it_errs() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("one-member", stage.connect().await);
        stage.topic("one-member", 1).await;
        stage.group(group).await;
        stage.says("no such group yet");
        stage.ask(line, 4, &heartbeat(group, "ghost", 1)).await;
        stage.ask(line, 5, &sync(group, "ghost", 1, &[])).await;
        stage.ask(line, 5, &leave(group, &["ghost"])).await;
        stage.ask(line, 2, &LeaveGroupRequest::default().with_group_id(GroupId(text(group))).with_member_id(text("ghost"))).await;
        stage.ask(line, 9, &join(group, "ghost")).await;
        stage.ask(line, 8, &commit(group, "ghost", 1, "one-member", 5)).await;
        stage.says("requests that no group could grant");
        stage.ask(line, 9, &join("", "")).await;
        stage.ask(line, 4, &heartbeat("", "ghost", 1)).await;
        stage.ask(line, 5, &sync("", "ghost", 1, &[])).await;
        stage.ask(line, 5, &leave("", &["ghost"])).await;
        stage.ask(line, 9, &join(group, "").with_session_timeout_ms(1 << 30)).await;
        stage.ask(line, 9, &join(group, "").with_protocols(vec![])).await;
        stage.ask(line, 9, &join(group, "").with_protocol_type(text(""))).await;
        stage.says("with an id that was given");
        let member = enter(stage, line, group).await;
        stage.hear::<JoinGroupRequest>(line, 9).await;
        stage.says("completing the rebalance");
        stage.ask(line, 4, &heartbeat(group, &member, 1)).await;
        stage.ask(line, 4, &heartbeat(group, &member, 2)).await;
        stage.ask(line, 4, &heartbeat(group, &member, 0)).await;
        stage.ask(line, 4, &heartbeat(group, "ghost", 1)).await;
        stage.ask(line, 8, &commit(group, &member, 1, "one-member", 5)).await;
        stage.ask(line, 8, &commit(group, &member, 2, "one-member", 5)).await;
        stage.ask(line, 8, &commit(group, "", -1, "one-member", 5)).await;
        stage.says("joining again with the same metadata");
        stage.ask(line, 9, &join(group, &member)).await;
        stage.says("a leader's sync");
        stage.ask(line, 5, &sync(group, &member, 7, &[])).await;
        stage.ask(line, 5, &sync(group, "ghost", 1, &[])).await;
        stage.ask(line, 5, &sync(group, &member, 1, &[]).with_protocol_name(Some(text("roundrobin")))).await;
        stage.ask(line, 5, &sync(group, &member, 1, &[]).with_protocol_name(None)).await;
        stage.ask(line, 5, &sync(group, &member, 1, &[(&member, "all")])).await;
        stage.says("stable");
        stage.ask(line, 5, &sync(group, &member, 1, &[])).await;
        stage.ask(line, 5, &sync(group, &member, 0, &[])).await;
        stage.ask(line, 4, &heartbeat(group, &member, 1)).await;
        stage.ask(line, 4, &heartbeat(group, &member, 2)).await;
        stage.ask(line, 4, &heartbeat(group, "ghost", 1)).await;
        stage.ask(line, 8, &commit(group, &member, 1, "one-member", 5)).await;
        stage.ask(line, 8, &commit(group, &member, 0, "one-member", 5)).await;
        stage.ask(line, 8, &commit(group, "ghost", 1, "one-member", 5)).await;
        stage.ask(line, 8, &commit(group, "", -1, "one-member", 5)).await;
        stage.says("a leader that joins again begins a generation");
        stage.ask(line, 9, &join(group, &member)).await;
        stage.says("what it left unsynced is refused once it has left");
        stage.ask(line, 5, &leave(group, &[&member])).await;
        stage.ask(line, 5, &leave(group, &[&member])).await;
        stage.says("empty");
        stage.ask(line, 4, &heartbeat(group, &member, 2)).await;
        stage.ask(line, 5, &sync(group, &member, 2, &[])).await;
        stage.ask(line, 9, &join(group, &member)).await;
        stage.ask(line, 8, &commit(group, &member, 2, "one-member", 6)).await;
        stage.ask(line, 8, &commit(group, "", -1, "one-member", 7)).await;
        stage.ask(line, 5, &DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))])).await;
    };
    let heard = r#"
        # no such group yet
        Heartbeat v4: UnknownMemberId
        SyncGroup v5: UnknownMemberId
        LeaveGroup v5: {members [UnknownMemberId {member_id ghost}]}
        LeaveGroup v2: UnknownMemberId
        JoinGroup v9: UnknownMemberId {generation_id -1, member_id ghost}
        OffsetCommit v8: {topics [{name one-member, partitions [IllegalGeneration]}]}
        # requests that no group could grant
        JoinGroup v9: InvalidGroupId {generation_id -1}
        Heartbeat v4: InvalidGroupId
        SyncGroup v5: InvalidGroupId
        LeaveGroup v5: InvalidGroupId
        JoinGroup v9: InvalidSessionTimeout {generation_id -1}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1}
        # with an id that was given
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\none-member\xff\xff\xff\xff"}]}
        # completing the rebalance
        Heartbeat v4: NONE
        Heartbeat v4: IllegalGeneration
        Heartbeat v4: IllegalGeneration
        Heartbeat v4: UnknownMemberId
        OffsetCommit v8: {topics [{name one-member, partitions [RebalanceInProgress]}]}
        OffsetCommit v8: {topics [{name one-member, partitions [IllegalGeneration]}]}
        OffsetCommit v8: {topics [{name one-member, partitions [UnknownMemberId]}]}
        # joining again with the same metadata
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\none-member\xff\xff\xff\xff"}]}
        # a leader's sync
        SyncGroup v5: IllegalGeneration
        SyncGroup v5: UnknownMemberId
        SyncGroup v5: InconsistentGroupProtocol
        SyncGroup v5: InconsistentGroupProtocol
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        # stable
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        SyncGroup v5: IllegalGeneration
        Heartbeat v4: NONE
        Heartbeat v4: IllegalGeneration
        Heartbeat v4: UnknownMemberId
        OffsetCommit v8: {topics [{name one-member, partitions [0]}]}
        OffsetCommit v8: {topics [{name one-member, partitions [IllegalGeneration]}]}
        OffsetCommit v8: {topics [{name one-member, partitions [UnknownMemberId]}]}
        OffsetCommit v8: {topics [{name one-member, partitions [UnknownMemberId]}]}
        # a leader that joins again begins a generation
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\none-member\xff\xff\xff\xff"}]}
        # what it left unsynced is refused once it has left
        LeaveGroup v5: {members [{member_id member-1}]}
        LeaveGroup v5: {members [UnknownMemberId {member_id member-1}]}
        # empty
        Heartbeat v4: UnknownMemberId
        SyncGroup v5: UnknownMemberId
        JoinGroup v9: UnknownMemberId {generation_id -1, member_id member-1}
        OffsetCommit v8: {topics [{name one-member, partitions [UnknownMemberId]}]}
        OffsetCommit v8: {topics [{name one-member, partitions [0]}]}
        DescribeGroups v5: {groups [{group_id one-member, group_state Empty, protocol_type consumer, authorized_operations -2147483648}]}
    "#;
    play("one-member", script, heard).await;
}

#[tokio::test]
async fn two_members_share_and_the_one_left_out_gets_nothing() {
    let script = async |stage: &mut Stage| {
        let (group, a, b) = ("two-members", stage.connect().await, stage.connect().await);
        stage.topic("two-members", 1).await;
        let first = alone(stage, a, group).await;
        stage.says("the second one waits for the first");
        let second = enter(stage, b, group).await;
        stage.until_state(group, "PreparingRebalance", 2).await;
        let c = stage.connect().await;
        stage.ask(c, 4, &heartbeat(group, &first, 1)).await;
        stage.ask(c, 4, &heartbeat(group, &first, 2)).await;
        stage.ask(c, 4, &heartbeat(group, &second, 1)).await;
        stage.ask(c, 5, &sync(group, &first, 1, &[])).await;
        stage.ask(c, 8, &commit(group, &first, 1, "two-members", 3)).await;
        stage.ask(c, 8, &commit(group, &first, 0, "two-members", 3)).await;
        stage.ask(c, 8, &commit(group, "", -1, "two-members", 3)).await;
        stage.ask(a, 9, &join(group, &first)).await;
        stage.hear::<JoinGroupRequest>(b, 9).await;
        stage.says("the follower waits for the leader");
        stage.send(b, 5, &sync(group, &second, 2, &[])).await;
        stage.ask(c, 4, &heartbeat(group, &second, 2)).await;
        stage.ask(c, 8, &commit(group, &second, 2, "two-members", 3)).await;
        stage.ask(a, 5, &sync(group, &first, 2, &[(&first, "all"), ("ghost", "more")])).await;
        stage.hear::<SyncGroupRequest>(b, 5).await;
        stage.says("a follower that joins again changes nothing");
        stage.ask(b, 9, &join(group, &second)).await;
        stage.ask(b, 4, &heartbeat(group, &second, 2)).await;
        stage.says("unless it wants something else");
        stage.send(b, 9, &join(group, &second).with_protocols(vec![protocol("range", &["other"])])).await;
        stage.until_state(group, "PreparingRebalance", 2).await;
        stage.ask(a, 9, &join(group, &first)).await;
        stage.hear::<JoinGroupRequest>(b, 9).await;
        stage.says("one leaves before the sync: the other's is refused");
        stage.send(b, 5, &sync(group, &second, 3, &[])).await;
        stage.ask(c, 5, &leave(group, &[&first])).await;
        stage.hear::<SyncGroupRequest>(b, 5).await;
        stage.ask(c, 4, &heartbeat(group, &second, 3)).await;
        stage.ask(b, 9, &join(group, &second)).await;
        stage.ask(b, 5, &sync(group, &second, 4, &[(&second, "all")])).await;
        stage.says("who left comes back as somebody new");
        stage.ask(a, 9, &join(group, &first)).await;
        stage.ask(a, 5, &leave(group, &["ghost", &second])).await;
    };
    let heard = r#"
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x0btwo-members\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        # the second one waits for the first
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        Heartbeat v4: RebalanceInProgress
        Heartbeat v4: IllegalGeneration
        Heartbeat v4: RebalanceInProgress
        SyncGroup v5: RebalanceInProgress
        OffsetCommit v8: {topics [{name two-members, partitions [0]}]}
        OffsetCommit v8: {topics [{name two-members, partitions [IllegalGeneration]}]}
        OffsetCommit v8: {topics [{name two-members, partitions [UnknownMemberId]}]}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x0btwo-members\xff\xff\xff\xff"}, {member_id member-2, metadata b"\0\0\0\0\0\x01\0\x0btwo-members\xff\xff\xff\xff"}]}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-2}
        # the follower waits for the leader
        Heartbeat v4: NONE
        OffsetCommit v8: {topics [{name two-members, partitions [RebalanceInProgress]}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        SyncGroup v5: {protocol_type consumer, protocol_name range}
        # a follower that joins again changes nothing
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-2}
        Heartbeat v4: NONE
        # unless it wants something else
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x0btwo-members\xff\xff\xff\xff"}, {member_id member-2, metadata b"\0\0\0\0\0\x01\0\x05other\xff\xff\xff\xff"}]}
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, leader member-1, member_id member-2}
        # one leaves before the sync: the other's is refused
        LeaveGroup v5: {members [{member_id member-1}]}
        SyncGroup v5: RebalanceInProgress
        Heartbeat v4: RebalanceInProgress
        JoinGroup v9: {generation_id 4, protocol_type consumer, protocol_name range, leader member-2, member_id member-2, members [{member_id member-2, metadata b"\0\0\0\0\0\x01\0\x0btwo-members\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        # who left comes back as somebody new
        JoinGroup v9: UnknownMemberId {generation_id -1, member_id member-1}
        LeaveGroup v5: {members [UnknownMemberId {member_id ghost}, {member_id member-2}]}
    "#;
    play("two-members", script, heard).await;
}

#[tokio::test]
async fn protocols_have_to_agree() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("protocols", stage.connect().await);
        let member = alone(stage, line, group).await;
        let other = protocol("sticky", &[group]);
        stage.ask(line, 9, &join(group, "").with_protocols(vec![other.clone()])).await;
        stage.ask(line, 9, &join(group, "").with_protocol_type(text("connect"))).await;
        stage.ask(line, 9, &join(group, &member).with_protocol_type(text("connect"))).await;
        stage.ask(line, 9, &join(group, &member).with_protocols(vec![other])).await;
        stage.says("which of several they have in common is told");
        let both = vec![protocol("roundrobin", &[group]), protocol("range", &[group])];
        let second = stage.connect().await;
        let id = stage.ask(second, 9, &join(group, "").with_protocols(both.clone())).await.member_id.to_string();
        stage.send(second, 9, &join(group, &id).with_protocols(both.clone())).await;
        stage.until_state(group, "PreparingRebalance", 2).await;
        stage.ask(line, 9, &join(group, &member)).await;
        stage.hear::<JoinGroupRequest>(second, 9).await;
        stage.send(second, 9, &join(group, &id).with_protocols(both.clone())).await;
        stage.hear::<JoinGroupRequest>(second, 9).await;
    };
    let heard = r#"
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\tprotocols\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1, member_id member-1}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1, member_id member-1}
        # which of several they have in common is told
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\tprotocols\xff\xff\xff\xff"}, {member_id member-2, metadata b"\0\0\0\0\0\x01\0\tprotocols\xff\xff\xff\xff"}]}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-2}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, leader member-1, member_id member-2}
    "#;
    play("protocols", script, heard).await;
}

#[tokio::test]
async fn a_silent_member_is_put_out() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("silent", stage.connect().await);
        stage.group(group).await;
        let short = |member: &str| join(group, member).with_session_timeout_ms(500).with_rebalance_timeout_ms(500);
        let member = stage.ask(line, 9, &short("")).await.member_id.to_string();
        stage.ask(line, 9, &short(&member)).await;
        stage.ask(line, 5, &sync(group, &member, 1, &[(&member, "all")])).await;
        stage.until_state(group, "Empty", 0).await;
        stage.ask(line, 4, &heartbeat(group, &member, 1)).await;
        stage.says("an id that was given and not used is forgotten, too");
        let given = stage.ask(line, 9, &short("")).await.member_id.to_string();
        tokio::time::sleep(Duration::from_millis(800)).await;
        stage.ask(line, 9, &short(&given)).await;
        stage.says("so is who does not sync in time");
        let member = stage.ask(line, 9, &short("")).await.member_id.to_string();
        stage.ask(line, 9, &short(&member)).await;
        stage.until_state(group, "Empty", 0).await;
        stage.ask(line, 5, &sync(group, &member, 3, &[])).await;
    };
    let heard = r#"
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x06silent\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        Heartbeat v4: UnknownMemberId
        # an id that was given and not used is forgotten, too
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        JoinGroup v9: UnknownMemberId {generation_id -1, member_id member-2}
        # so is who does not sync in time
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-3}
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, leader member-3, member_id member-3, members [{member_id member-3, metadata b"\0\0\0\0\0\x01\0\x06silent\xff\xff\xff\xff"}]}
        SyncGroup v5: UnknownMemberId
    "#;
    play("silent", script, heard).await;
}

#[tokio::test]
async fn an_older_client_joins_at_once() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("older", stage.connect().await);
        stage.group(group).await;
        let member = stage.ask(line, 3, &join(group, "")).await.member_id.to_string();
        stage
            .ask(line, 2, &{
                let mut old = sync(group, &member, 1, &[(&member, "all")]);
                (old.protocol_type, old.protocol_name) = (None, None);
                old
            })
            .await;
        stage.ask(line, 2, &heartbeat(group, &member, 1)).await;
        stage.ask(line, 5, &DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))])).await;
        stage.ask(line, 2, &LeaveGroupRequest::default().with_group_id(GroupId(text(group))).with_member_id(text(&member))).await;
    };
    let heard = r#"
        JoinGroup v3: {generation_id 1, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x05older\xff\xff\xff\xff"}]}
        SyncGroup v2: {assignment b"all"}
        Heartbeat v2: NONE
        DescribeGroups v5: {groups [{group_id older, group_state Stable, protocol_type consumer, protocol_data range, members [{member_id member-1, client_id tester, client_host /127.0.0.1, member_metadata b"\0\0\0\0\0\x01\0\x05older\xff\xff\xff\xff", member_assignment b"all"}], authorized_operations -2147483648}]}
        LeaveGroup v2: NONE
    "#;
    play("older", script, heard).await;
}
