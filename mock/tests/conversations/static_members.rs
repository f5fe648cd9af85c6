//! Static members: they come back under their name, and only one may have it.

use ottla_mock::kafka_protocol::messages::{leave_group_request::MemberIdentity, *};

use crate::{
    groups::{heartbeat, join, leave, protocol, sync},
    offsets::commit,
    stage::{Stage, play, text},
};

fn named(group: &str, member: &str) -> JoinGroupRequest {
    join(group, member).with_group_instance_id(Some(text("one")))
}

#[tokio::test]
async fn a_static_member_comes_back_and_fences_its_former_self() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("static", stage.connect().await);
        stage.topic(group, 1).await;
        stage.group(group).await;
        let old = stage.ask(line, 9, &named(group, "")).await.member_id.to_string();
        stage.ask(line, 5, &sync(group, &old, 1, &[(&old, "all")]).with_group_instance_id(Some(text("one")))).await;
        stage.says("the same name, without an id: no rebalance");
        let new = stage.ask(line, 9, &named(group, "")).await.member_id.to_string();
        stage.ask(line, 5, &sync(group, &new, 1, &[]).with_group_instance_id(Some(text("one")))).await;
        stage.says("the former self is fenced, where it says its name");
        stage.ask(line, 4, &heartbeat(group, &old, 1).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 4, &heartbeat(group, &old, 1)).await;
        stage.ask(line, 4, &heartbeat(group, &new, 1).with_group_instance_id(Some(text("another")))).await;
        stage.ask(line, 8, &commit(group, &old, 1, group, 3).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 8, &commit(group, &new, 1, group, 3).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 5, &sync(group, &old, 1, &[]).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 9, &named(group, &old)).await;
        stage.ask(line, 9, &named(group, "ghost")).await;
        stage.ask(line, 9, &join(group, "ghost").with_group_instance_id(Some(text("unknown")))).await;
        stage.says("a former client would not know that it need not assign");
        let newer = stage.ask(line, 8, &named(group, "")).await.member_id.to_string();
        stage.ask(line, 5, &sync(group, &newer, 1, &[]).with_group_instance_id(Some(text("one")))).await;
        stage.says("it comes back with another subscription");
        let other = named(group, "").with_protocols(vec![protocol("range", &["elsewhere"])]);
        let newest = stage.ask(line, 9, &other).await.member_id.to_string();
        stage.ask(line, 5, &sync(group, &newest, 2, &[(&newest, "all")]).with_group_instance_id(Some(text("one")))).await;
        stage.says("it is removed by its name");
        let by_name = |name| MemberIdentity::default().with_group_instance_id(Some(text(name)));
        let mut request = leave(group, &[]);
        request.members = vec![by_name("unknown"), by_name("one").with_member_id(text(&old))];
        stage.ask(line, 5, &request).await;
        request.members = vec![by_name("one")];
        stage.ask(line, 5, &request).await;
        stage.ask(line, 4, &heartbeat(group, &newest, 2).with_group_instance_id(Some(text("one")))).await;
    };
    let heard = r#"
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, group_instance_id one, metadata b"\0\0\0\0\0\x01\0\x06static\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        # the same name, without an id: no rebalance
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-2, skip_assignment true, member_id member-2, members [{member_id member-2, group_instance_id one, metadata b"\0\0\0\0\0\x01\0\x06static\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        # the former self is fenced, where it says its name
        Heartbeat v4: FencedInstanceId
        Heartbeat v4: UnknownMemberId
        Heartbeat v4: UnknownMemberId
        OffsetCommit v8: {topics [{name static, partitions [FencedInstanceId]}]}
        OffsetCommit v8: {topics [{name static, partitions [0]}]}
        SyncGroup v5: FencedInstanceId
        JoinGroup v9: FencedInstanceId {generation_id -1, member_id member-1}
        JoinGroup v9: FencedInstanceId {generation_id -1, member_id ghost}
        JoinGroup v9: UnknownMemberId {generation_id -1, member_id ghost}
        # a former client would not know that it need not assign
        JoinGroup v8: {generation_id 1, protocol_type consumer, protocol_name range, leader member-2, member_id member-3}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        # it comes back with another subscription
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-4, skip_assignment true, member_id member-4, members [{member_id member-4, group_instance_id one, metadata b"\0\0\0\0\0\x01\0\telsewhere\xff\xff\xff\xff"}]}
        SyncGroup v5: IllegalGeneration
        # it is removed by its name
        LeaveGroup v5: {members [FencedInstanceId {member_id member-1, group_instance_id one}, UnknownMemberId {group_instance_id unknown}]}
        LeaveGroup v5: {members [{group_instance_id one}]}
        Heartbeat v4: UnknownMemberId
    "#;
    play("static", script, heard).await;
}
