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
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_metadata(Some(text("note")));
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
        stage.says("with a member that is not there");
        let mut request = fetch_offsets(group, Some((topic, &[0])));
        request.groups[0].member_id = Some(text("ghost"));
        request.groups[0].member_epoch = 3;
        stage.ask(line, 9, &request).await;
    };
    play("commits", script, r#""#).await;
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
        stage.ask(line, 2, &delete_group("")).await;
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
    play("deletes", script, r#""#).await;
}
