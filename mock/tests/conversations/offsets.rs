//! Committed offsets: what is kept, what is refused, and in which forms they are told.

use ottla_mock::kafka_protocol::messages::{
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    *,
};

use crate::{
    groups::{alone, join, leave},
    stage::{Stage, play, text},
};

pub(crate) fn commit(group: &str, member: &str, generation: i32, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

/// Asks for these partitions of one topic; for everything without a topic.
pub(crate) fn fetch_offsets(group: &str, of: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    let topics = of.map(|(name, partitions)| {
        let topic = OffsetFetchRequestTopics::default().with_name(TopicName(text(name)));
        vec![topic.with_partition_indexes(partitions.to_vec())]
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(topics);
    OffsetFetchRequest::default().with_groups(vec![group])
}

fn fetch_offsets_of_old(group: &str, of: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    let topics = of.map(|(name, partitions)| {
        let topic = OffsetFetchRequestTopic::default().with_name(TopicName(text(name)));
        vec![topic.with_partition_indexes(partitions.to_vec())]
    });
    OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(topics)
}

#[tokio::test]
async fn commits_are_kept_and_told_in_every_form() {
    let script = async |stage: &mut Stage| {
        let (group, topic, line) = ("commits", "commits", stage.connect().await);
        stage.topic(topic, 2).await;
        stage.group(group).await;
        stage.says("nothing committed");
        stage.ask(line, 9, &fetch_offsets(group, None)).await;
        stage.ask(line, 9, &fetch_offsets(group, Some((topic, &[0, 1])))).await;
        stage.ask(line, 7, &fetch_offsets_of_old(group, Some((topic, &[0])))).await;
        stage.ask(line, 1, &fetch_offsets_of_old(group, Some((topic, &[0])))).await;
        stage.says("commits of nobody");
        stage.ask(line, 8, &commit(group, "", -1, topic, 5)).await;
        stage.ask(line, 8, &commit(group, "", -1, "commits-unknown", 5)).await;
        stage.ask(line, 9, &commit(group, "", -1, topic, 6)).await;
        stage.ask(line, 2, &commit(group, "", -1, topic, 7)).await;
        stage.ask(line, 8, &commit(group, "ghost", 3, topic, 5)).await;
        stage.ask(line, 8, &commit(group, "ghost", -1, topic, 5)).await;
        stage.ask(line, 8, &commit("", "", -1, topic, 5)).await;
        stage.says("a partition that is not there, an epoch, metadata that is too long");
        let mut request = commit(group, "", -1, topic, 9);
        request.topics[0].partitions[0].partition_index = 7;
        stage.ask(line, 8, &request).await;
        let mut request = commit(group, "", -1, topic, 8);
        request.topics[0].partitions[0].committed_leader_epoch = 3;
        stage.ask(line, 8, &request).await;
        let mut request = commit(group, "", -1, topic, 9);
        request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(5000)));
        stage.ask(line, 8, &request).await;
        let mut request = commit(group, "", -1, topic, -1);
        request.topics[0].partitions[0].partition_index = 1;
        stage.ask(line, 8, &request).await;
        stage.says("told");
        stage.ask(line, 9, &fetch_offsets(group, Some((topic, &[0, 1, 7])))).await;
        stage.ask(line, 9, &fetch_offsets(group, None)).await;
        stage.ask(line, 8, &fetch_offsets(group, None)).await;
        stage.ask(line, 7, &fetch_offsets_of_old(group, None)).await;
        stage.ask(line, 2, &fetch_offsets_of_old(group, None)).await;
        stage.ask(line, 1, &fetch_offsets_of_old(group, Some((topic, &[0, 9])))).await;
        stage.ask(line, 9, &fetch_offsets(group, Some(("commits-unknown", &[0])))).await;
        stage.ask(line, 9, &fetch_offsets("", None)).await;
        let mut two = fetch_offsets(group, Some((topic, &[0])));
        two.groups.push(OffsetFetchRequestGroup::default().with_group_id(GroupId(text("commits-no-group"))));
        two.groups[1].topics = None;
        stage.ask(line, 8, &two).await;
        let nameless = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(""))]);
        stage.ask(line, 2, &nameless).await;
        stage.ask(line, 2, &nameless).await;
        stage.says("with a member that is not there");
        let mut request = fetch_offsets(group, Some((topic, &[0])));
        request.groups[0].member_id = Some(text("ghost"));
        request.groups[0].member_epoch = 3;
        stage.ask(line, 9, &request).await;
    };
    let heard = r#"
        # nothing committed
        OffsetFetch v9: {groups [{group_id commits}]}
        OffsetFetch v9: {groups [{group_id commits, topics [{name commits, partitions [{committed_offset -1, committed_leader_epoch -1}, {partition_index 1, committed_offset -1, committed_leader_epoch -1}]}]}]}
        OffsetFetch v7: {topics [{name commits, partitions [{committed_offset -1, committed_leader_epoch -1}]}]}
        OffsetFetch v1: {topics [{name commits, partitions [{committed_offset -1, committed_leader_epoch -1}]}]}
        # commits of nobody
        OffsetCommit v8: {topics [{name commits, partitions [0]}]}
        OffsetCommit v8: {topics [{name commits-unknown, partitions [UnknownTopicOrPartition]}]}
        OffsetCommit v9: {topics [{name commits, partitions [0]}]}
        OffsetCommit v2: {topics [{name commits, partitions [0]}]}
        OffsetCommit v8: {topics [{name commits, partitions [UnknownMemberId]}]}
        OffsetCommit v8: {topics [{name commits, partitions [0]}]}
        OffsetCommit v8: {topics [{name commits, partitions [0]}]}
        # a partition that is not there, an epoch, metadata that is too long
        OffsetCommit v8: {topics [{name commits, partitions [UnknownTopicOrPartition {partition_index 7}]}]}
        OffsetCommit v8: {topics [{name commits, partitions [0]}]}
        OffsetCommit v8: {topics [{name commits, partitions [OffsetMetadataTooLarge]}]}
        OffsetCommit v8: {topics [{name commits, partitions [{partition_index 1}]}]}
        # told
        OffsetFetch v9: {groups [{group_id commits, topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch 3, metadata note}, {partition_index 1, committed_offset -1, committed_leader_epoch -1, metadata note}, {partition_index 7, committed_offset -1, committed_leader_epoch -1}]}]}]}
        OffsetFetch v9: {groups [{group_id commits, topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch 3, metadata note}, {partition_index 1, committed_offset -1, committed_leader_epoch -1, metadata note}]}]}]}
        OffsetFetch v8: {groups [{group_id commits, topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch 3, metadata note}, {partition_index 1, committed_offset -1, committed_leader_epoch -1, metadata note}]}]}]}
        OffsetFetch v7: {topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch 3, metadata note}, {partition_index 1, committed_offset -1, committed_leader_epoch -1, metadata note}]}]}
        OffsetFetch v2: {topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch -1, metadata note}, {partition_index 1, committed_offset -1, committed_leader_epoch -1, metadata note}]}]}
        OffsetFetch v1: {topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch -1, metadata note}, {partition_index 9, committed_offset -1, committed_leader_epoch -1}]}]}
        OffsetFetch v9: {groups [{group_id commits, topics [{name commits-unknown, partitions [{committed_offset -1, committed_leader_epoch -1}]}]}]}
        OffsetFetch v9: {groups [{topics [{name commits, partitions [{committed_offset 5, committed_leader_epoch -1, metadata note}]}]}]}
        OffsetFetch v8: {groups [{group_id commits, topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch 3, metadata note}]}]}, {group_id commits-no-group}]}
        DeleteGroups v2: {results [0]}
        DeleteGroups v2: {results [GroupIdNotFound]}
        # with a member that is not there
        OffsetFetch v9: {groups [{group_id commits, topics [{name commits, partitions [{committed_offset 8, committed_leader_epoch 3, metadata note}]}]}]}
    "#;
    play("commits", script, heard).await;
}

#[tokio::test]
async fn offsets_and_groups_are_deleted_when_nobody_needs_them() {
    let script = async |stage: &mut Stage| {
        let (group, topic, line) = ("deletes", "deletes", stage.connect().await);
        stage.topic(topic, 1).await;
        let delete_offset = |of: &str, topic: &str| {
            let partition = OffsetDeleteRequestPartition::default();
            let topic = OffsetDeleteRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
            OffsetDeleteRequest::default().with_group_id(GroupId(text(of))).with_topics(vec![topic])
        };
        let delete_group = |of: &str| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(of))]);
        stage.group(group).await;
        stage.says("no such group");
        stage.ask(line, 0, &delete_offset(group, topic)).await;
        stage.ask(line, 2, &delete_group(group)).await;
        stage.ask(line, 0, &delete_offset("", topic)).await;
        let describe = |of: &str| DescribeGroupsRequest::default().with_groups(vec![GroupId(text(of))]);
        stage.ask(line, 5, &describe(group)).await;
        stage.ask(line, 6, &describe(group)).await;
        stage.says("with offsets");
        stage.ask(line, 8, &commit(group, "", -1, topic, 5)).await;
        stage.ask(line, 0, &delete_offset(group, "deletes-unknown")).await;
        stage.ask(line, 0, &delete_offset(group, topic)).await;
        stage.ask(line, 9, &fetch_offsets(group, None)).await;
        stage.says("with a member whose subscription cannot be read");
        let member = alone(stage, line, group).await;
        stage.ask(line, 8, &commit(group, &member, 1, topic, 6)).await;
        stage.ask(line, 2, &delete_group(group)).await;
        stage.ask(line, 0, &delete_offset(group, topic)).await;
        stage.says("empty again");
        stage.ask(line, 5, &leave(group, &[&member])).await;
        stage.ask(line, 8, &commit(group, "", -1, topic, 5)).await;
        stage.ask(line, 2, &delete_group(group)).await;
        stage.ask(line, 9, &fetch_offsets(group, None)).await;
        stage.ask(line, 6, &describe(group)).await;
        stage.ask(line, 9, &join(group, &member)).await;
    };
    let heard = r#"
        # no such group
        OffsetDelete v0: GroupIdNotFound
        DeleteGroups v2: {results [GroupIdNotFound {group_id deletes}]}
        OffsetDelete v0: InvalidGroupId
        DescribeGroups v5: {groups [{group_id deletes, group_state Dead, authorized_operations -2147483648}]}
        DescribeGroups v6: {groups [GroupIdNotFound {group_id deletes, group_state Dead, authorized_operations -2147483648}]}
        # with offsets
        OffsetCommit v8: {topics [{name deletes, partitions [0]}]}
        OffsetDelete v0: {topics [{name deletes-unknown, partitions [UnknownTopicOrPartition]}]}
        OffsetDelete v0: {topics [{name deletes, partitions [0]}]}
        OffsetFetch v9: {groups [{group_id deletes}]}
        # with a member whose subscription cannot be read
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x07deletes\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"all"}
        OffsetCommit v8: {topics [{name deletes, partitions [0]}]}
        DeleteGroups v2: {results [NonEmptyGroup {group_id deletes}]}
        OffsetDelete v0: {topics [{name deletes, partitions [GroupSubscribedToTopic]}]}
        # empty again
        LeaveGroup v5: {members [{member_id member-1}]}
        OffsetCommit v8: {topics [{name deletes, partitions [0]}]}
        DeleteGroups v2: {results [{group_id deletes}]}
        OffsetFetch v9: {groups [{group_id deletes}]}
        DescribeGroups v6: {groups [GroupIdNotFound {group_id deletes, group_state Dead, authorized_operations -2147483648}]}
        JoinGroup v9: UnknownMemberId {generation_id -1, member_id member-1}
    "#;
    play("deletes", script, heard).await;
}
