//! Offsets in groups of the consumer protocol.

use super::{
    consumer::{Modern, converge},
    *,
};
use crate::kafka::Release;

fn commit(t: &mut Tester, member: &Modern, version: i16, epoch: i32, partition: i32) -> i16 {
    let request = commit_request(GROUP, &[("t", partition, 5)]);
    let request = request.with_member_id(member.id.clone()).with_generation_id_or_member_epoch(epoch);
    t.ask(member.conn, version, &request).topics[0].partitions[0].error_code
}

fn fetch(t: &mut Tester, member: &Modern, id: Option<&str>, epoch: i32) -> i16 {
    let mut request = fetch_request(None);
    request.groups[0].member_id = id.map(text);
    request.groups[0].member_epoch = epoch;
    t.ask(member.conn, 9, &request).groups[0].error_code
}

/// Two members that share three partitions, in epoch 3; the first was alone in epoch 2.
fn two(t: &mut Tester) -> (Modern, Modern) {
    let (mut a, mut b) = (Modern::new(t, "a"), Modern::new(t, "b"));
    a.join(t);
    b.join(t);
    converge(t, &mut [&mut a, &mut b]);
    (a, b)
}

#[test]
fn a_commit_needs_the_members_epoch_and_version_9() {
    let mut t = tester();
    let (a, _) = two(&mut t);
    let own = *a.owned.first().unwrap();
    assert_eq!(commit(&mut t, &a, 9, a.epoch, own), 0);
    assert_eq!(commit(&mut t, &a, 8, a.epoch, own), code(ResponseError::UnsupportedVersion));
    assert_eq!(commit(&mut t, &a, 9, a.epoch + 1, own), code(ResponseError::StaleMemberEpoch));
    let stranger = Modern::new(&mut t, "x");
    assert_eq!(commit(&mut t, &stranger, 9, 2, own), code(ResponseError::UnknownMemberId));
    assert_eq!(commit(&mut t, &stranger, 9, -1, own), code(ResponseError::UnknownMemberId));
}

#[test]
fn from_4_3_on_an_older_epoch_is_good_for_what_the_member_has_had_since() {
    let mut t = tester();
    let (a, b) = two(&mut t);
    assert_eq!(commit(&mut t, &a, 9, 2, *a.owned.first().unwrap()), 0);
    assert_eq!(commit(&mut t, &a, 9, 2, *b.owned.first().unwrap()), code(ResponseError::StaleMemberEpoch));
    assert_eq!(commit(&mut t, &b, 9, 2, *b.owned.first().unwrap()), code(ResponseError::StaleMemberEpoch));
}

#[test]
fn before_4_3_only_the_newest_epoch_is_good() {
    let mut t = tester_with(Settings { release: Release::new(4, 2), ..Settings::default() });
    let (a, _) = two(&mut t);
    assert_eq!(commit(&mut t, &a, 9, a.epoch - 1, *a.owned.first().unwrap()), code(ResponseError::StaleMemberEpoch));
}

#[test]
fn a_fetch_may_name_its_member_and_is_then_checked() {
    let mut t = tester();
    let (a, _) = two(&mut t);
    assert_eq!(fetch(&mut t, &a, None, -1), 0);
    assert_eq!(fetch(&mut t, &a, Some("a"), a.epoch), 0);
    assert_eq!(fetch(&mut t, &a, Some("a"), 2), code(ResponseError::StaleMemberEpoch));
    assert_eq!(fetch(&mut t, &a, Some("x"), a.epoch), code(ResponseError::UnknownMemberId));
    // Older versions cannot say who asks.
    assert_eq!(t.ask(a.conn, 8, &fetch_request(None)).groups[0].error_code, 0);
    let oldest = OffsetFetchRequest::default().with_group_id(text(GROUP).into()).with_topics(None);
    assert_eq!(t.ask(a.conn, 7, &oldest).error_code, 0);
}

#[test]
fn offsets_of_an_unread_topic_get_old_from_their_commit() {
    let retention = Duration::from_secs(40);
    let mut t = tester_with(Settings { offsets_retention: retention, ..Settings::default() });
    create_topic(&mut t, "u", 1);
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    with_groups(&mut t, |groups, cx| {
        groups.store_offset(cx, GROUP, "t", 0, 1);
        groups.store_offset(cx, GROUP, "u", 0, 1);
    });
    t.pass(retention);
    assert_eq!(t.kafka.groups.committed(GROUP).into_keys().collect::<Vec<_>>(), [("t".to_owned(), 0)]);
}

#[test]
fn what_is_not_there_is_told_apart_from_what_may_not_be_committed() {
    let mut t = tester();
    let (a, _) = two(&mut t);
    let request = commit_request(GROUP, &[("none", 0, 5), ("t", 0, 5)]);
    let request = request.with_member_id(a.id.clone()).with_generation_id_or_member_epoch(a.epoch + 1);
    let answer = t.ask(a.conn, 9, &request);
    let errors: Vec<_> = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(errors, [code(ResponseError::UnknownTopicOrPartition), code(ResponseError::StaleMemberEpoch)]);
}
