//! Groups that change their protocol while they have members, and members of the classic protocol in consumer groups.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_mock::kafka_protocol::messages::{
    leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment, *,
};

use crate::{
    consumer_groups::{beat, enter, owning, until_coordinators_know},
    groups::{self, heartbeat, join, leave, protocol, sync},
    offsets::{commit, fetch_offsets},
    stage::{Line, Stage, play, text},
};

/// Partitions of one topic, as a leader gives them.
fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(partitions.len() as i32);
    partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    bytes.put_i32(-1);
    bytes.freeze()
}

fn giving(request: SyncGroupRequest, given: &[(&str, Bytes)]) -> SyncGroupRequest {
    let given = given.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment.clone())
    });
    request.with_assignments(given.collect())
}

/// Makes a stable classic group of one member that has all six partitions of the topic of its name; it is in generation 1.
async fn alone(stage: &mut Stage, line: Line, group: &'static str) -> String {
    stage.topic(group, 6).await;
    stage.group(group).await;
    until_coordinators_know(stage, group).await;
    let member = groups::enter(stage, line, group).await;
    stage.hear::<JoinGroupRequest>(line, 9).await;
    let all = assignment(group, &[0, 1, 2, 3, 4, 5]);
    stage.ask(line, 5, &giving(sync(group, &member, 1, &[]), &[(&member, all)])).await;
    member
}

fn describe(group: &str) -> ConsumerGroupDescribeRequest {
    ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(group))])
}

fn describe_classic(group: &str) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))])
}

#[tokio::test]
async fn a_classic_group_becomes_a_consumer_group_and_a_classic_one_again() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("converted", stage.connect().await);
        let one = alone(stage, line, group).await;
        stage.says("the first of the consumer protocol comes");
        stage.ask(line, 1, &enter(group, "a", group)).await;
        stage.ask(line, 1, &describe(group)).await;
        stage.ask(line, 6, &describe_classic(group)).await;
        stage.says("the classic one has to join");
        stage.ask(line, 4, &heartbeat(group, &one, 1)).await;
        stage.ask(line, 4, &heartbeat(group, &one, 2)).await;
        stage.ask(line, 4, &heartbeat(group, "a", 2)).await;
        stage.ask(line, 5, &sync(group, &one, 1, &[])).await;
        stage.ask(line, 8, &commit(group, &one, 1, group, 3)).await;
        stage.ask(line, 8, &commit(group, &one, 2, group, 3)).await;
        stage.ask(line, 9, &join(group, &one)).await;
        stage.says("it is in the new epoch");
        stage.ask(line, 4, &heartbeat(group, &one, 1)).await;
        stage.ask(line, 4, &heartbeat(group, &one, 2)).await;
        stage.ask(line, 5, &sync(group, &one, 1, &[])).await;
        stage.ask(line, 5, &sync(group, &one, 2, &[]).with_protocol_name(Some(text("roundrobin")))).await;
        stage.ask(line, 5, &sync(group, &one, 2, &[])).await;
        stage.ask(line, 3, &sync(group, &one, 2, &[])).await;
        stage.ask(line, 1, &beat(group, "a", 2)).await;
        stage.ask(line, 1, &describe(group)).await;
        stage.says("commits and fetches of offsets");
        for generation in [1, 2, 3, -1] {
            stage.ask(line, 8, &commit(group, &one, generation, group, 4)).await;
        }
        for (member, epoch) in [(&*one, 2), (&*one, 1), ("a", 1)] {
            let mut request = fetch_offsets(group, Some((group, &[0])));
            request.groups[0].member_id = Some(text(member));
            request.groups[0].member_epoch = epoch;
            stage.ask(line, 9, &request).await;
        }
        stage.says("another classic one comes");
        let two = groups::enter(stage, line, group).await;
        stage.hear::<JoinGroupRequest>(line, 9).await;
        stage.ask(line, 5, &sync(group, &two, 3, &[])).await;
        stage.ask(line, 4, &heartbeat(group, &two, 3)).await;
        stage.ask(line, 4, &heartbeat(group, &one, 2)).await;
        stage.ask(line, 9, &join(group, &one)).await;
        stage.ask(line, 5, &sync(group, &one, 3, &[])).await;
        stage.ask(line, 4, &heartbeat(group, &two, 3)).await;
        stage.ask(line, 1, &beat(group, "a", 2)).await;
        let owned = owning(beat(group, "a", 2), stage.id(group), &[3, 4]);
        stage.ask(line, 1, &owned).await;
        stage.ask(line, 4, &heartbeat(group, &two, 3)).await;
        stage.ask(line, 9, &join(group, &two)).await;
        stage.ask(line, 5, &sync(group, &two, 3, &[])).await;
        stage.says("who is refused");
        stage.ask(line, 9, &join(group, "").with_protocol_type(text("connect"))).await;
        stage.ask(line, 9, &join(group, "").with_protocols(vec![protocol("roundrobin", &[group])])).await;
        stage.ask(line, 9, &join(group, "ghost").with_group_instance_id(Some(text("unknown")))).await;
        stage.ask(line, 4, &heartbeat(group, "ghost", 3)).await;
        stage.ask(line, 5, &sync(group, "ghost", 3, &[])).await;
        stage.ask(line, 5, &sync(group, "a", 3, &[])).await;
        stage.says("one leaves, and what it had is for the others");
        stage.ask(line, 5, &leave(group, &[&two])).await;
        stage.ask(line, 4, &heartbeat(group, &one, 3)).await;
        // Which of the two gets what depends on their ids.
        let led_on = stage.quietly(line, 1, &beat(group, "a", 3)).await;
        let given = led_on.assignment.map(|of| of.topic_partitions.iter().map(|of| of.partitions.len()).sum::<usize>());
        stage.notes("epoch", &led_on.member_epoch);
        stage.notes("partitions", &given);
        stage.ask(line, 4, &heartbeat(group, &one, 3)).await;
        stage.says("the last of the consumer protocol leaves");
        stage.ask(line, 1, &beat(group, "a", -1)).await;
        stage.ask(line, 1, &describe(group)).await;
        let described = stage.quietly(line, 6, &describe_classic(group)).await.groups.remove(0);
        stage.notes("state", &described.group_state);
        stage.notes("bytes of its assignment", &described.members[0].member_assignment.len());
        stage.ask(line, 4, &heartbeat(group, &one, 3)).await;
        stage.ask(line, 8, &commit(group, &one, 3, group, 5)).await;
        stage.ask(line, 5, &sync(group, &one, 3, &[])).await;
        stage.ask(line, 9, &join(group, &one)).await;
        stage.ask(line, 5, &giving(sync(group, &one, 5, &[]), &[(&one, assignment(group, &[0, 5]))])).await;
    };
    let heard = r#"
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\tconverted\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\tconverted\0\0\0\x06\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\xff\xff\xff\xff"}
        # the first of the consumer protocol comes
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000}
        ConsumerGroupDescribe v1: {groups [{group_id converted, group_state Reconciling, group_epoch 2, assignment_epoch 2, assignor_name uniform, members [{member_id a, member_epoch 2, client_id tester, client_host /127.0.0.1, subscribed_topic_names [converted], target_assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [3, 4, 5]}]}, member_type 1}, {member_id member-1, member_epoch 1, client_id tester, client_host /127.0.0.1, subscribed_topic_names [converted], assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [0, 1, 2, 3, 4, 5]}]}, target_assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [0, 1, 2]}]}}], authorized_operations -2147483648}]}
        DescribeGroups v6: {groups [GroupIdNotFound {group_id converted, group_state Dead, authorized_operations -2147483648}]}
        # the classic one has to join
        Heartbeat v4: RebalanceInProgress
        Heartbeat v4: IllegalGeneration
        Heartbeat v4: UnknownMemberId
        SyncGroup v5: RebalanceInProgress
        OffsetCommit v8: {topics [{name converted, partitions [0]}]}
        OffsetCommit v8: {topics [{name converted, partitions [IllegalGeneration]}]}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, member_id member-1}
        # it is in the new epoch
        Heartbeat v4: IllegalGeneration
        Heartbeat v4: NONE
        SyncGroup v5: IllegalGeneration
        SyncGroup v5: InconsistentGroupProtocol
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\tconverted\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff"}
        SyncGroup v3: {assignment b"\0\0\0\0\0\x01\0\tconverted\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff"}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of converted, partitions [3, 4, 5]}]}}
        ConsumerGroupDescribe v1: {groups [{group_id converted, group_state Stable, group_epoch 2, assignment_epoch 2, assignor_name uniform, members [{member_id a, member_epoch 2, client_id tester, client_host /127.0.0.1, subscribed_topic_names [converted], assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [3, 4, 5]}]}, target_assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [3, 4, 5]}]}, member_type 1}, {member_id member-1, member_epoch 2, client_id tester, client_host /127.0.0.1, subscribed_topic_names [converted], assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [0, 1, 2]}]}, target_assignment {topic_partitions [{topic_id id of converted, topic_name converted, partitions [0, 1, 2]}]}}], authorized_operations -2147483648}]}
        # commits and fetches of offsets
        OffsetCommit v8: {topics [{name converted, partitions [0]}]}
        OffsetCommit v8: {topics [{name converted, partitions [0]}]}
        OffsetCommit v8: {topics [{name converted, partitions [IllegalGeneration]}]}
        OffsetCommit v8: {topics [{name converted, partitions [IllegalGeneration]}]}
        OffsetFetch v9: {groups [{group_id converted, topics [{name converted, partitions [{committed_offset 4, committed_leader_epoch -1, metadata note}]}]}]}
        OffsetFetch v9: {groups [IllegalGeneration {group_id converted}]}
        OffsetFetch v9: {groups [StaleMemberEpoch {group_id converted}]}
        # another classic one comes
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, member_id member-2}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\0\xff\xff\xff\xff"}
        Heartbeat v4: NONE
        Heartbeat v4: RebalanceInProgress
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, member_id member-1}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\tconverted\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff"}
        Heartbeat v4: NONE
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of converted, partitions [3, 4]}]}}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 3, heartbeat_interval_ms 5000}
        Heartbeat v4: RebalanceInProgress
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, member_id member-2}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\tconverted\0\0\0\x02\0\0\0\x02\0\0\0\x05\xff\xff\xff\xff"}
        # who is refused
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1}
        JoinGroup v9: InconsistentGroupProtocol {generation_id -1}
        JoinGroup v9: UnknownMemberId {generation_id -1}
        Heartbeat v4: UnknownMemberId
        SyncGroup v5: UnknownMemberId
        SyncGroup v5: UnknownMemberId
        # one leaves, and what it had is for the others
        LeaveGroup v5: {members [{member_id member-2}]}
        Heartbeat v4: NONE
        epoch: 4
        partitions: 3
        Heartbeat v4: RebalanceInProgress
        # the last of the consumer protocol leaves
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch -1}
        ConsumerGroupDescribe v1: {groups [GroupIdNotFound {group_id converted, authorized_operations -2147483648}]}
        state: PreparingRebalance
        bytes of its assignment: 37
        Heartbeat v4: IllegalGeneration
        OffsetCommit v8: {topics [{name converted, partitions [IllegalGeneration]}]}
        SyncGroup v5: IllegalGeneration
        JoinGroup v9: {generation_id 5, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\tconverted\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\tconverted\0\0\0\x02\0\0\0\0\0\0\0\x05\xff\xff\xff\xff"}
    "#;
    play("converted", script, heard).await;
}

#[tokio::test]
async fn who_waits_in_a_classic_group_is_sent_away_when_it_becomes_a_consumer_group() {
    let script = async |stage: &mut Stage| {
        let (group, line, other) = ("converted-waiting", stage.connect().await, stage.connect().await);
        let one = alone(stage, line, group).await;
        stage.says("another one joins, which waits for the first");
        let two = groups::enter(stage, other, group).await;
        stage.until_state(group, "PreparingRebalance", 2).await;
        stage.ask(line, 1, &enter(group, "a", group)).await;
        stage.hear::<JoinGroupRequest>(other, 9).await;
        stage.ask(line, 4, &heartbeat(group, &one, 1)).await;
        stage.ask(line, 4, &heartbeat(group, &two, 1)).await;
        stage.says("all join");
        stage.ask(line, 9, &join(group, &one)).await;
        stage.ask(line, 9, &join(group, &two)).await;
        stage.ask(line, 5, &sync(group, &one, 2, &[])).await;
        // Which of the two gets what depends on their ids.
        stage.quietly(line, 5, &sync(group, &two, 2, &[])).await;
        stage.quietly(line, 1, &beat(group, "a", 2)).await;
        stage.says("a request takes out all but the classic ones");
        stage.ask(line, 5, &leave(group, &["a", &two])).await;
        stage.ask(line, 4, &heartbeat(group, &one, 2)).await;
        stage.ask(line, 9, &join(group, &one)).await;
    };
    let heard = r#"
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x11converted-waiting\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\x11converted-waiting\0\0\0\x06\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\xff\xff\xff\xff"}
        # another one joins, which waits for the first
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 2, heartbeat_interval_ms 5000}
        JoinGroup v9: RebalanceInProgress {generation_id -1, member_id member-2}
        Heartbeat v4: RebalanceInProgress
        Heartbeat v4: RebalanceInProgress
        # all join
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, member_id member-1}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, member_id member-2}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\x11converted-waiting\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff"}
        # a request takes out all but the classic ones
        LeaveGroup v5: {members [{member_id a}, {member_id member-2}]}
        Heartbeat v4: RebalanceInProgress
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x11converted-waiting\xff\xff\xff\xff"}]}
    "#;
    play("converted-waiting", script, heard).await;
}

/// What is assigned is forgotten where a rebalance was about to end and begins anew; a consumer group then takes all for free.
#[tokio::test]
async fn a_group_that_is_converted_in_a_rebalance_forgets_who_has_what() {
    let script = async |stage: &mut Stage| {
        let (group, line, other) = ("converted-forgets", stage.connect().await, stage.connect().await);
        let one = alone(stage, line, group).await;
        stage.says("another one comes, and both are in a generation that nobody has assigned yet");
        let two = groups::enter(stage, other, group).await;
        stage.until_state(group, "PreparingRebalance", 2).await;
        stage.send(line, 9, &join(group, &one)).await;
        // Either may be the first, and so the leader.
        stage.receive::<JoinGroupRequest>(line, 9).await;
        stage.receive::<JoinGroupRequest>(other, 9).await;
        stage.says("it wants something else, and all have to join again");
        let changed = join(group, &two).with_protocols(vec![protocol("range", &[group, "elsewhere"])]);
        stage.send(other, 9, &changed).await;
        stage.until_state(group, "PreparingRebalance", 2).await;
        stage.says("the first of the consumer protocol is given partitions at once");
        let entered = stage.quietly(line, 1, &enter(group, "a", group)).await;
        let given = entered.assignment.map(|of| of.topic_partitions.iter().map(|of| of.partitions.len()).sum::<usize>());
        stage.notes("epoch", &entered.member_epoch);
        stage.notes("partitions", &given);
        stage.hear::<JoinGroupRequest>(other, 9).await;
        stage.says("what the others commit is taken all the same");
        stage.ask(line, 8, &commit(group, &one, 2, group, 3)).await;
        let again = stage.ask(line, 9, &join(group, &one)).await;
        stage.ask(line, 8, &commit(group, &one, again.generation_id, group, 3)).await;
        stage.says("and whoever joins is taken in, by an id of its own");
        stage.ask(line, 9, &join(group, "a member of another life")).await;
    };
    let heard = r#"
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-1}
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, metadata b"\0\0\0\0\0\x01\0\x11converted-forgets\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\x11converted-forgets\0\0\0\x06\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\xff\xff\xff\xff"}
        # another one comes, and both are in a generation that nobody has assigned yet
        JoinGroup v9: MemberIdRequired {generation_id -1, member_id member-2}
        # it wants something else, and all have to join again
        # the first of the consumer protocol is given partitions at once
        epoch: 3
        partitions: 2
        JoinGroup v9: RebalanceInProgress {generation_id -1, member_id member-2}
        # what the others commit is taken all the same
        OffsetCommit v8: {topics [{name converted-forgets, partitions [0]}]}
        JoinGroup v9: {generation_id 3, protocol_type consumer, protocol_name range, member_id member-1}
        OffsetCommit v8: {topics [{name converted-forgets, partitions [0]}]}
        # and whoever joins is taken in, by an id of its own
        JoinGroup v9: {generation_id 4, protocol_type consumer, protocol_name range, member_id member-3}
    "#;
    play("converted-forgets", script, heard).await;
}

#[tokio::test]
async fn static_members_change_their_protocol() {
    let script = async |stage: &mut Stage| {
        let (group, line) = ("converted-static", stage.connect().await);
        let topic = stage.topic(group, 4).await;
        stage.group(group).await;
        until_coordinators_know(stage, group).await;
        let name = |request: JoinGroupRequest| request.with_group_instance_id(Some(text("one")));
        let modern = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("one")));
        let old = stage.ask(line, 9, &name(join(group, ""))).await.member_id.to_string();
        let request = giving(sync(group, &old, 1, &[]), &[(&old, assignment(group, &[0, 1, 2, 3]))]);
        stage.ask(line, 5, &request.with_group_instance_id(Some(text("one")))).await;
        stage.says("it comes back with the consumer protocol");
        stage.ask(line, 1, &modern(enter(group, "a", group))).await;
        stage.ask(line, 4, &heartbeat(group, &old, 1).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 4, &heartbeat(group, &old, 1)).await;
        stage.ask(line, 1, &modern(owning(beat(group, "a", 1), topic, &[0, 1, 2, 3]))).await;
        stage.says("and with the classic one: no rebalance");
        let new = stage.ask(line, 9, &name(join(group, ""))).await;
        let (member, generation) = (new.member_id.to_string(), new.generation_id);
        stage.ask(line, 6, &describe_classic(group)).await;
        stage.ask(line, 5, &sync(group, &member, generation, &[]).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 4, &heartbeat(group, &member, generation).with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 1, &modern(beat(group, "a", 1))).await;
        stage.says("beside another one");
        stage.ask(line, 1, &enter(group, "b", group)).await;
        stage.ask(line, 1, &modern(enter(group, "c", group))).await;
        let by_name = MemberIdentity::default().with_group_instance_id(Some(text("one")));
        stage.ask(line, 9, &name(join(group, "ghost"))).await;
        let classic = stage.ask(line, 9, &name(join(group, ""))).await;
        let request = sync(group, &classic.member_id, classic.generation_id, &[]);
        stage.ask(line, 5, &request.with_group_instance_id(Some(text("one")))).await;
        stage.ask(line, 1, &describe(group)).await;
        let mut request = leave(group, &[]);
        request.members = vec![by_name];
        stage.ask(line, 5, &request).await;
        stage.ask(line, 1, &beat(group, "b", 2)).await;
    };
    let heard = r#"
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, leader member-1, member_id member-1, members [{member_id member-1, group_instance_id one, metadata b"\0\0\0\0\0\x01\0\x10converted-static\xff\xff\xff\xff"}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\x10converted-static\0\0\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\xff\xff\xff\xff"}
        # it comes back with the consumer protocol
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 1, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of converted-static, partitions [0, 1, 2, 3]}]}}
        Heartbeat v4: FencedInstanceId
        Heartbeat v4: UnknownMemberId
        ConsumerGroupHeartbeat v1: {member_id a, member_epoch 1, heartbeat_interval_ms 5000}
        # and with the classic one: no rebalance
        JoinGroup v9: {generation_id 1, protocol_type consumer, protocol_name range, member_id member-2}
        DescribeGroups v6: {groups [{group_id converted-static, group_state Stable, protocol_type consumer, protocol_data range, members [{member_id member-2, group_instance_id one, client_id tester, client_host /127.0.0.1, member_metadata b"\0\0\0\0\0\x01\0\x10converted-static\xff\xff\xff\xff", member_assignment b"\0\0\0\0\0\x01\0\x10converted-static\0\0\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\xff\xff\xff\xff"}], authorized_operations -2147483648}]}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\x10converted-static\0\0\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\xff\xff\xff\xff"}
        Heartbeat v4: NONE
        ConsumerGroupHeartbeat v1: GroupIdNotFound
        # beside another one
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 2, heartbeat_interval_ms 5000}
        ConsumerGroupHeartbeat v1: {member_id c, member_epoch 2, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of converted-static, partitions [0, 1]}]}}
        JoinGroup v9: FencedInstanceId {generation_id -1}
        JoinGroup v9: {generation_id 2, protocol_type consumer, protocol_name range, member_id member-3}
        SyncGroup v5: {protocol_type consumer, protocol_name range, assignment b"\0\0\0\0\0\x01\0\x10converted-static\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff"}
        ConsumerGroupDescribe v1: {groups [{group_id converted-static, group_state Reconciling, group_epoch 2, assignment_epoch 2, assignor_name uniform, members [{member_id b, member_epoch 2, client_id tester, client_host /127.0.0.1, subscribed_topic_names [converted-static], target_assignment {topic_partitions [{topic_id id of converted-static, topic_name converted-static, partitions [2, 3]}]}, member_type 1}, {member_id member-3, instance_id one, member_epoch 2, client_id tester, client_host /127.0.0.1, subscribed_topic_names [converted-static], assignment {topic_partitions [{topic_id id of converted-static, topic_name converted-static, partitions [0, 1]}]}, target_assignment {topic_partitions [{topic_id id of converted-static, topic_name converted-static, partitions [0, 1]}]}}], authorized_operations -2147483648}]}
        LeaveGroup v5: {members [{group_instance_id one}]}
        ConsumerGroupHeartbeat v1: {member_id b, member_epoch 3, heartbeat_interval_ms 5000, assignment {topic_partitions [{topic_id id of converted-static, partitions [0, 1, 2, 3]}]}}
    "#;
    play("converted-static", script, heard).await;
}
