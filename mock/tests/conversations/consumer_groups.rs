//! Groups of KIP-848: the broker assigns.

use ottla_mock::kafka_protocol::messages::{consumer_group_heartbeat_request::TopicPartitions, *};
use uuid::Uuid;

use crate::{
    groups::{alone, heartbeat, leave},
    offsets::{commit, fetch_offsets},
    stage::{Stage, play, text},
};

pub(crate) fn enter(group: &str, member: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    beat(group, member, 0)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![TopicName(text(topic))]))
        .with_topic_partitions(Some(vec![]))
}

/// Says only that the member is there.
pub(crate) fn beat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_topic_partitions(None)
}

pub(crate) fn owning(request: ConsumerGroupHeartbeatRequest, topic: Uuid, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    let owned = TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.to_vec());
    request.with_topic_partitions(Some(vec![owned]))
}

/// Waits until the coordinator knows a topic, which it hears of later than the broker does: each of its partitions does so by itself.
pub(crate) async fn until_coordinators_know(stage: &mut Stage, topic: &'static str) {
    let line = stage.connect().await;
    for partition in 0..4 {
        let request = enter(&format!("{topic}-{partition}"), "scout", topic);
        stage
            .until(line, 1, &request, |answer| answer.assignment.as_ref().is_some_and(|all| !all.topic_partitions.is_empty()))
            .await;
    }
}

#[tokio::test]
async fn members_share_reconcile_and_leave() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("consumer", stage.connect().await);
        let topic = stage.topic(group, 4).await;
        stage.group(group).await;
        until_coordinators_know(stage, group).await;
        stage.says("nobody is there");
        stage.ask(line, 1, &beat(group, "a", 1)).await;
        stage.ask(line, 1, &beat(group, "a", -1)).await;
        stage.says("the first gets everything");
        stage.ask(line, 1, &enter(group, "a", group)).await;
        stage.ask(line, 1, &beat(group, "a", 2)).await;
        stage.says("what it says it has is acknowledged");
        stage.ask(line, 1, &owning(beat(group, "a", 2), topic, &[0, 1, 2, 3])).await;
        stage.says("the second waits for what the first gives up");
        stage.ask(line, 1, &enter(group, "b", group)).await;
        let shrunk = stage.ask(line, 1, &beat(group, "a", 2)).await;
        let kept = shrunk.assignment.expect("it has to give up some").topic_partitions[0].partitions.clone();
        stage.ask(line, 1, &beat(group, "b", 3)).await;
        stage.ask(line, 1, &beat(group, "a", 2)).await;
        stage.ask(line, 1, &owning(beat(group, "a", 2), topic, &kept)).await;
        stage.ask(line, 1, &beat(group, "b", 3)).await;
        stage.ask(line, 1, &beat(group, "a", 3)).await;
        stage.says("a full request gets a full answer");
        let full = enter(group, "a", group).with_member_epoch(3);
        stage.ask(line, 1, &owning(full, topic, &kept)).await;
        stage.says("commits and fetches of offsets, with each epoch");
        stage.ask(line, 9, &commit(group, "a", 3, group, 5)).await;
        stage.ask(line, 9, &commit(group, "a", 2, group, 6)).await;
        stage.ask(line, 9, &commit(group, "a", 4, group, 6)).await;
        stage.ask(line, 9, &commit(group, "ghost", 2, group, 6)).await;
        stage.ask(line, 9, &commit(group, "", -1, group, 6)).await;
        stage.ask(line, 8, &commit(group, "a", 3, group, 6)).await;
        stage.ask(line, 8, &commit(group, "a", 2, group, 6)).await;
        for (member, epoch) in [("a", 3), ("a", 2), ("a", 4), ("ghost", 3), ("", -1)] {
            let mut request = fetch_offsets(group, Some((group, &[0])));
            request.groups[0].member_id = Some(text(member));
            request.groups[0].member_epoch = epoch;
            stage.ask(line, 9, &request).await;
        }
        stage.says("classic requests");
        stage.ask(line, 4, &heartbeat(group, "a", 3)).await;
        stage.ask(line, 2, &DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))])).await;
        stage.ask(line, 5, &DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))])).await;
        stage.ask(line, 1, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(group))])).await;
        stage.says("epochs that are not the member's");
        stage.ask(line, 1, &beat(group, "a", 4)).await;
        stage.ask(line, 1, &beat(group, "a", 2)).await;
        stage.ask(line, 1, &owning(beat(group, "a", 2), topic, &kept)).await;
        stage.ask(line, 1, &beat(group, "ghost", 2)).await;
        stage.ask(line, 1, &beat(group, "ghost", -1)).await;
        stage.says("one leaves, the other has everything");
        stage.ask(line, 1, &beat(group, "b", -1)).await;
        stage.ask(line, 1, &beat(group, "a", 3)).await;
        stage.ask(line, 1, &beat(group, "b", 3)).await;
        stage.says("a member that begins again");
        stage.ask(line, 1, &enter(group, "a", group)).await;
        stage.says("the last leaves");
        stage.ask(line, 1, &beat(group, "a", -1)).await;
        stage.ask(line, 9, &commit(group, "", -1, group, 7)).await;
        stage.ask(line, 1, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(group))])).await;
    };
    let heard = r#"
        # nobody is there
        ConsumerGroupHeartbeat v1: GroupIdNotFound
        ConsumerGroupHeartbeat v1: GroupIdNotFound
        # the first gets everything
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer, partitions [0, 1, 2, 3]}]}}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000}
        # what it says it has is acknowledged
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000}
        # the second waits for what the first gives up
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 3, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer, partitions [0, 1]}]}}
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 3, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 3, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 3, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer, partitions [2, 3]}]}}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 3, heartbeat_interval_ms 5000}
        # a full request gets a full answer
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 3, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer, partitions [0, 1]}]}}
        # commits and fetches of offsets, with each epoch
        OffsetCommit v9: {topics [{name consumer, partitions [0]}]}
        OffsetCommit v9: {topics [{name consumer, partitions [0]}]}
        OffsetCommit v9: {topics [{name consumer, partitions [StaleMemberEpoch]}]}
        OffsetCommit v9: {topics [{name consumer, partitions [UnknownMemberId]}]}
        OffsetCommit v9: {topics [{name consumer, partitions [UnknownMemberId]}]}
        OffsetCommit v8: {topics [{name consumer, partitions [UnsupportedVersion]}]}
        OffsetCommit v8: {topics [{name consumer, partitions [UnsupportedVersion]}]}
        OffsetFetch v9: {groups [{group_id consumer, topics [{name consumer, partitions [{committed_offset 6, committed_leader_epoch -1, metadata note}]}]}]}
        OffsetFetch v9: {groups [StaleMemberEpoch {group_id consumer}]}
        OffsetFetch v9: {groups [StaleMemberEpoch {group_id consumer}]}
        OffsetFetch v9: {groups [UnknownMemberId {group_id consumer}]}
        OffsetFetch v9: {groups [UnknownMemberId {group_id consumer}]}
        # classic requests
        Heartbeat v4: UnknownMemberId
        DeleteGroups v2: {results [NonEmptyGroup {group_id consumer}]}
        DescribeGroups v5: {groups [{group_id consumer, group_state Dead, authorized_operations -2147483648}]}
        ConsumerGroupDescribe v1: {groups [{group_id consumer, group_state Stable, group_epoch 3, assignment_epoch 3, assignor_name uniform, members [{member_id a, member_epoch 3, client_id tester, client_host /127.0.0.1, subscribed_topic_names [consumer], assignment {topic_partitions [{topic_id id of consumer, topic_name consumer, partitions [0, 1]}]}, target_assignment {topic_partitions [{topic_id id of consumer, topic_name consumer, partitions [0, 1]}]}, member_type 1}, {member_id b, member_epoch 3, client_id tester, client_host /127.0.0.1, subscribed_topic_names [consumer], assignment {topic_partitions [{topic_id id of consumer, topic_name consumer, partitions [2, 3]}]}, target_assignment {topic_partitions [{topic_id id of consumer, topic_name consumer, partitions [2, 3]}]}, member_type 1}], authorized_operations -2147483648}]}
        # epochs that are not the member's
        ConsumerGroupHeartbeat v1: FencedMemberEpoch
        ConsumerGroupHeartbeat v1: FencedMemberEpoch
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 3, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: UnknownMemberId
        ConsumerGroupHeartbeat v1: UnknownMemberId
        # one leaves, the other has everything
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch -1}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 4, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer, partitions [0, 1, 2, 3]}]}}
        ConsumerGroupHeartbeat v1: UnknownMemberId
        # a member that begins again
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 4, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer, partitions [0, 1, 2, 3]}]}}
        # the last leaves
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch -1}
        OffsetCommit v9: {topics [{name consumer, partitions [0]}]}
        ConsumerGroupDescribe v1: {groups [{group_id consumer, group_state Empty, group_epoch 5, assignment_epoch 4, assignor_name uniform, authorized_operations -2147483648}]}
    "#;
    play("consumer", script, heard).await;
}

#[tokio::test]
async fn static_members_leave_for_a_while() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("consumer-static", stage.connect().await);
        stage.topic(group, 2).await;
        stage.group(group).await;
        until_coordinators_know(stage, group).await;
        let name = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("one")));
        stage.ask(line, 1, &name(enter(group, "a", group))).await;
        stage.says("its name is taken while it is there");
        stage.ask(line, 1, &name(enter(group, "b", group))).await;
        stage.says("it leaves for a while");
        stage.ask(line, 1, &name(beat(group, "a", -2))).await;
        stage.ask(line, 1, &name(beat(group, "a", 2))).await;
        stage.says("somebody comes in its place");
        stage.ask(line, 1, &name(enter(group, "b", group))).await;
        stage.ask(line, 1, &name(beat(group, "a", 2))).await;
        stage.ask(line, 1, &beat(group, "a", 2)).await;
        stage.ask(line, 1, &name(beat(group, "a", -2))).await;
        stage.ask(line, 1, &name(beat(group, "b", 2))).await;
        stage.says("for good");
        stage.ask(line, 1, &name(beat(group, "b", -1))).await;
        stage.ask(line, 1, &name(beat(group, "b", -2))).await;
    };
    let heard = r#"
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer-static, partitions [0, 1]}]}}
        # its name is taken while it is there
        ConsumerGroupHeartbeat v1: UnreleasedInstanceId
        # it leaves for a while
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch -2}
        ConsumerGroupHeartbeat v1: FencedMemberEpoch
        # somebody comes in its place
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer-static, partitions [0, 1]}]}}
        ConsumerGroupHeartbeat v1: FencedInstanceId
        ConsumerGroupHeartbeat v1: UnknownMemberId
        ConsumerGroupHeartbeat v1: FencedInstanceId
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 2, heartbeat_interval_ms 5000}
        # for good
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch -1}
        ConsumerGroupHeartbeat v1: UnknownMemberId
    "#;
    play("consumer-static", script, heard).await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("consumer-refused", stage.connect().await);
        let topic = stage.topic(group, 1).await;
        stage.group(group).await;
        until_coordinators_know(stage, group).await;
        let good = || enter(group, "a", group);
        stage.ask(line, 1, &good().with_group_id(GroupId(text("")))).await;
        stage.ask(line, 1, &good().with_member_id(text(""))).await;
        stage.ask(line, 1, &good().with_rebalance_timeout_ms(-1)).await;
        stage.ask(line, 1, &good().with_topic_partitions(None)).await;
        stage.ask(line, 1, &owning(good(), topic, &[0])).await;
        stage.ask(line, 1, &good().with_subscribed_topic_names(None)).await;
        stage.ask(line, 1, &good().with_subscribed_topic_names(Some(vec![]))).await;
        stage.ask(line, 1, &good().with_instance_id(Some(text("")))).await;
        stage.ask(line, 1, &good().with_member_epoch(-3)).await;
        stage.ask(line, 1, &good().with_member_epoch(-2)).await;
        stage.ask(line, 1, &good().with_server_assignor(Some(text("none")))).await;
        stage.ask(line, 1, &good().with_subscribed_topic_regex(Some(text("(")))).await;
        stage.ask(line, 1, &good().with_rack_id(Some(text("")))).await;
        stage.says("an id from the broker, in the first version");
        let member = stage.ask(line, 0, &good().with_member_id(text(""))).await.member_id.expect("an id").to_string();
        stage.ask(line, 0, &beat(group, &member, 2)).await;
        stage.says("another assignor, another topic");
        stage.ask(line, 1, &beat(group, &member, 2).with_server_assignor(Some(text("range")))).await;
        stage.ask(line, 1, &beat(group, &member, 2).with_server_assignor(Some(text("none")))).await;
        let elsewhere = Some(vec![TopicName(text("consumer-unknown"))]);
        stage.ask(line, 1, &beat(group, &member, 2).with_subscribed_topic_names(elsewhere)).await;
        stage.says("in a classic group");
        alone(stage, line, "classic-not-consumer").await;
        stage.ask(line, 1, &beat("classic-not-consumer", "a", 1)).await;
        stage.ask(line, 1, &beat("classic-not-consumer", "a", -1)).await;
        stage.says("leaving with a classic request");
        stage.ask(line, 5, &leave(group, &[&member, "ghost"])).await;
    };
    let heard = r#"
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 1, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: InvalidRequest
        ConsumerGroupHeartbeat v1: UnsupportedAssignor
        ConsumerGroupHeartbeat v1: InvalidRegularExpression
        ConsumerGroupHeartbeat v1: InvalidRequest
        # an id from the broker, in the first version
        ConsumerGroupHeartbeat v0: {member_id member-1, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of consumer-refused, partitions [0]}]}}
        ConsumerGroupHeartbeat v0: {member_id member-1, member_epoch 2, heartbeat_interval_ms 5000}
        # another assignor, another topic
        ConsumerGroupHeartbeat v1: {member_id member-1, member_epoch 2, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: UnsupportedAssignor
        ConsumerGroupHeartbeat v1: {member_id member-1, member_epoch 2, heartbeat_interval_ms 5000}
        # in a classic group
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-2, member_id member-2, members [{member_id member-2, metadata b"\0\0\0\0\0\x01\0\x14classic-not-consumer\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        ConsumerGroupHeartbeat v1: GroupIdNotFound
        ConsumerGroupHeartbeat v1: GroupIdNotFound
        # leaving with a classic request
        LeaveGroup v5: {members [UnknownMemberId {member_id ghost}, {member_id member-1}]}
    "#;
    play("consumer-refused", script, heard).await;
}
