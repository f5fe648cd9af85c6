use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};

use super::*;

/// A group from `(member id, instance id or "", topics)` and `(topic, partitions)`.
fn group(members: &[(&str, &str, &[&str])], topics: &[(&str, i32)]) -> GroupView {
    let members = members
        .iter()
        .map(|&(id, instance, topics)| {
            let instance_id = Some(instance).filter(|instance| !instance.is_empty()).map(Arc::from);
            let mut topics: Vec<Arc<str>> = topics.iter().map(|&topic| topic.into()).collect();
            topics.sort_unstable();
            (id.into(), MemberView { instance_id, topics, ..MemberView::default() })
        })
        .collect();
    let partition_counts = topics.iter().map(|&(topic, count)| (topic.into(), count)).collect();
    GroupView { members, partition_counts, ..GroupView::default() }
}

/// Compares with `member: t-0 t-1, member: …`.
#[track_caller]
fn check_assignment(assignor: &dyn Assignor, group: &GroupView, expected: &[(&str, &str)]) {
    let told: Vec<(String, String)> = assignor
        .assign(group)
        .into_iter()
        .map(|(member, partitions)| {
            (member.to_string(), partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let expected: Vec<(String, String)> = expected.iter().map(|(m, p)| (m.to_string(), p.to_string())).collect();
    assert_eq!(told, expected);
}

const NEITHER: &[&str] = &[];
const T: &[&str] = &["t"];
const T1: &[&str] = &["t1"];
const T12: &[&str] = &["t1", "t2"];

#[test]
fn a_member_without_topics_gets_nothing() {
    let group = group(&[("c", "", NEITHER)], &[]);
    check_assignment(&Range, &group, &[("c", "")]);
    check_assignment(&RoundRobin, &group, &[("c", "")]);
}

#[test]
fn a_topic_that_does_not_exist_is_passed_over() {
    let group = group(&[("c", "", T)], &[]);
    check_assignment(&Range, &group, &[("c", "")]);
    check_assignment(&RoundRobin, &group, &[("c", "")]);
}

#[test]
fn a_topic_that_nobody_wants_is_passed_over() {
    let group = group(&[("c", "", T)], &[("t", 3), ("other", 3)]);
    check_assignment(&Range, &group, &[("c", "t-0 t-1 t-2")]);
    check_assignment(&RoundRobin, &group, &[("c", "t-0 t-1 t-2")]);
}

#[test]
fn one_partition_goes_to_the_first_of_two() {
    let group = group(&[("c1", "", T), ("c2", "", T)], &[("t", 1)]);
    check_assignment(&Range, &group, &[("c1", "t-0"), ("c2", "")]);
    check_assignment(&RoundRobin, &group, &[("c1", "t-0"), ("c2", "")]);
}

#[test]
fn different_subscriptions() {
    let group = group(&[("c1", "", T1), ("c2", "", T12), ("c3", "", T1)], &[("t1", 3), ("t2", 2)]);
    let expected = [("c1", "t1-0"), ("c2", "t1-1 t2-0 t2-1"), ("c3", "t1-2")];
    check_assignment(&Range, &group, &expected);
    check_assignment(&RoundRobin, &group, &expected);
}

#[test]
fn two_members_two_topics_of_three() {
    let group = group(&[("c1", "", T12), ("c2", "", T12)], &[("t1", 3), ("t2", 3)]);
    check_assignment(&Range, &group, &[("c1", "t1-0 t1-1 t2-0 t2-1"), ("c2", "t1-2 t2-2")]);
    check_assignment(&RoundRobin, &group, &[("c1", "t1-0 t1-2 t2-1"), ("c2", "t1-1 t2-0 t2-2")]);
}

#[test]
fn static_members_stand_in_the_order_of_their_instance_ids() {
    let group = group(&[("c-b", "i1", T12), ("c-a", "i2", T12)], &[("t1", 3), ("t2", 3)]);
    check_assignment(&Range, &group, &[("c-a", "t1-2 t2-2"), ("c-b", "t1-0 t1-1 t2-0 t2-1")]);
    check_assignment(&RoundRobin, &group, &[("c-a", "t1-1 t2-0 t2-2"), ("c-b", "t1-0 t1-2 t2-1")]);
}

#[test]
fn a_static_member_stands_before_a_dynamic_one() {
    let group = group(&[("c-b", "i1", T12), ("c-a", "", T12)], &[("t1", 3), ("t2", 3)]);
    check_assignment(&Range, &group, &[("c-a", "t1-2 t2-2"), ("c-b", "t1-0 t1-1 t2-0 t2-1")]);
    check_assignment(&RoundRobin, &group, &[("c-a", "t1-1 t2-0 t2-2"), ("c-b", "t1-0 t1-2 t2-1")]);
}

#[test]
fn three_static_members_and_a_dynamic_one() {
    let members = [("c1", "i1", T12), ("c2", "i2", T12), ("c3", "i3", T12), ("c4", "", T12)];
    let expected = [("c1", "t1-0 t1-1 t2-0"), ("c2", "t1-2 t2-1"), ("c3", "t1-3 t2-2"), ("c4", "t1-4 t2-3")];
    check_assignment(&Range, &group(&members, &[("t1", 5), ("t2", 4)]), &expected);
    let expected = [("c1", "t1-0 t2-1"), ("c2", "t1-1 t2-2"), ("c3", "t1-2"), ("c4", "t2-0")];
    check_assignment(&RoundRobin, &group(&members, &[("t1", 3), ("t2", 3)]), &expected);
}

#[test]
fn the_turn_goes_on_from_topic_to_topic() {
    let members = [("c0", "", &["t0"] as &[_]), ("c1", "", &["t0", "t1"]), ("c2", "", &["t0", "t1", "t2"])];
    let expected = [("c0", "t0-0"), ("c1", "t1-0"), ("c2", "t1-1 t2-0 t2-1 t2-2")];
    check_assignment(&RoundRobin, &group(&members, &[("t0", 1), ("t1", 2), ("t2", 3)]), &expected);
}

#[test]
fn member_ids_compare_as_in_java() {
    // U+FF5E is the smaller one by byte, but the larger one by UTF-16 unit, where U+1F600 begins with a surrogate.
    let group = group(&[("\u{ff5e}", "", T), ("\u{1f600}", "", T)], &[("t", 1)]);
    check_assignment(&Range, &group, &[("\u{ff5e}", ""), ("\u{1f600}", "t-0")]);
}

#[track_caller]
fn check_refused(members: &[(&str, &[(&str, i32)])], expected: &str) {
    let group = group(&[("c1", "", T1), ("c2", "", T12)], &[("t1", 2), ("t2", 2)]);
    let assignment = members
        .iter()
        .map(|&(member, partitions)| (member.into(), partitions.iter().map(|&(t, n)| TopicPartition::new(t, n)).collect()))
        .collect();
    assert_eq!(check(&group, &assignment).err().as_deref().unwrap_or("accepted"), expected);
}

#[test]
fn an_assignment_may_leave_partitions_and_members_out() {
    check_refused(&[("c2", &[("t1", 1), ("t2", 0)])], "accepted");
}

#[test]
fn a_partition_given_to_two_members_is_refused() {
    check_refused(&[("c1", &[("t1", 0)]), ("c2", &[("t1", 0)])], "it gives t1-0 both to member c1 and to member c2");
}

#[test]
fn a_partition_given_twice_to_one_member_is_refused() {
    check_refused(&[("c1", &[("t1", 0), ("t1", 0)])], "it gives t1-0 to member c1 twice");
}

#[test]
fn an_unknown_member_is_refused() {
    check_refused(&[("c3", &[])], "it names member c3, which is not in the group");
}

#[test]
fn a_topic_that_the_member_did_not_ask_for_is_refused() {
    check_refused(&[("c1", &[("t2", 0)])], "it gives t2-0 to member c1, which did not subscribe to that topic");
}

#[test]
fn a_partition_that_does_not_exist_is_refused() {
    check_refused(&[("c1", &[("t1", 2)])], "it gives t1-2 to member c1, but the topic has 2 partitions");
    check_refused(&[("c1", &[("t1", -1)])], "it gives t1--1 to member c1, but the topic has 2 partitions");
}

/// Puts the members, in their order, into these racks, and the replicas of the topics, one after the other, onto brokers in racks `r0`, `r1`, …
/// in turn.
fn in_racks(mut group: GroupView, members: &[&str], brokers: usize, replicas: usize) -> GroupView {
    for (member, rack) in group.members.values_mut().zip(members) {
        member.rack = Some(*rack).filter(|rack| !rack.is_empty()).map(Arc::from);
    }
    let mut next = 0..;
    let mut racks = |_| {
        let first = next.next().expect("endless");
        let racks: BTreeSet<Arc<str>> = (first..first + replicas).map(|n| format!("r{}", n % brokers).into()).collect();
        racks.into_iter().collect()
    };
    let counts = &group.partition_counts;
    group.partition_racks = counts.iter().map(|(topic, &count)| (topic.clone(), (0..count).map(&mut racks).collect())).collect();
    group
}

const T123: &[&str] = &["t1", "t2", "t3"];
const T34: &[&str] = &["t3", "t4"];
const R012: &[&str] = &["r0", "r1", "r2"];

// What the Java client's leader gives in these cases.

#[test]
fn range_gives_each_member_what_is_in_its_rack_first() {
    let three = group(&[("a", "", T123), ("b", "", T123), ("c", "", T123)], &[("t1", 6), ("t2", 7), ("t3", 2)]);
    let expected = [("a", "t1-0 t1-3 t2-0 t2-3 t2-6"), ("b", "t1-1 t1-4 t2-1 t2-4 t3-0"), ("c", "t1-2 t1-5 t2-2 t2-5 t3-1")];
    check_assignment(&Range, &in_racks(three.clone(), R012, 3, 1), &expected);
    let expected = [("a", "t1-0 t1-2 t2-0 t2-2 t2-3 t3-1"), ("b", "t1-1 t1-3 t2-1 t2-4 t3-0"), ("c", "t1-4 t1-5 t2-5 t2-6")];
    check_assignment(&Range, &in_racks(three, R012, 3, 2), &expected);
}

#[test]
fn range_looks_at_the_racks_of_those_who_want_the_topic() {
    let three = group(&[("a", "", T123), ("b", "", T123), ("c", "", &["t1", "t3"])], &[("t1", 6), ("t2", 7), ("t3", 2)]);
    let expected = [("a", "t1-0 t1-3 t2-0 t2-2 t2-3 t2-6"), ("b", "t1-1 t1-4 t2-1 t2-4 t2-5 t3-0"), ("c", "t1-2 t1-5 t3-1")];
    check_assignment(&Range, &in_racks(three, R012, 3, 1), &expected);
}

#[test]
fn range_keeps_together_what_belongs_together_whatever_the_racks() {
    let three = group(&[("a", "", T123), ("b", "", T123), ("c", "", T123)], &[("t1", 5), ("t2", 5), ("t3", 5)]);
    let expected = [("a", "t1-0 t1-1 t2-0 t2-1 t3-0 t3-1"), ("b", "t1-2 t1-3 t2-2 t2-3 t3-2 t3-3"), ("c", "t1-4 t2-4 t3-4")];
    check_assignment(&Range, &in_racks(three.clone(), R012, 3, 1), &expected);
    check_assignment(&Range, &in_racks(three, R012, 3, 2), &expected);
}

#[test]
fn range_gives_what_belongs_together_to_members_in_the_racks_of_all_of_it() {
    let topics = [("t1", 6), ("t2", 6), ("t3", 2), ("t4", 2)];
    let four = group(&[("a", "", T12), ("b", "", T12), ("c", "", T34), ("d", "", T34)], &topics);
    let expected =
        [("a", "t1-0 t1-2 t1-4 t2-0 t2-2 t2-4"), ("b", "t1-1 t1-3 t1-5 t2-1 t2-3 t2-5"), ("c", "t3-1 t4-1"), ("d", "t3-0 t4-0")];
    let racks = ["r0", "r1", "r1", "r0"];
    check_assignment(&Range, &in_racks(four, &racks, 2, 1), &expected);
    let all = &["t1", "t2", "t3", "t4"];
    let four = group(&[("a", "", all), ("b", "", all), ("c", "", all), ("d", "", all)], &topics);
    let expected =
        [("a", "t1-0 t1-2 t2-0 t2-2 t3-0 t4-0"), ("b", "t1-1 t1-3 t2-1 t2-3 t3-1 t4-1"), ("c", "t1-5 t2-5"), ("d", "t1-4 t2-4")];
    check_assignment(&Range, &in_racks(four, &racks, 2, 1), &expected);
}

#[test]
fn range_gives_what_belongs_together_to_the_first_member_in_the_racks_of_all_of_it() {
    let topics = [("t1", 6), ("t2", 6), ("t3", 2), ("t4", 2), ("t5", 4), ("t6", 4)];
    let all = &["t1", "t2", "t3", "t4", "t5", "t6", "t7"];
    let three = group(&[("a", "", all), ("b", "", all), ("c", "", all)], &topics);
    let expected = [
        ("a", "t1-0 t1-2 t2-0 t2-2 t3-0 t4-0 t5-1 t6-1"),
        ("b", "t1-1 t1-3 t2-1 t2-3 t3-1 t4-1 t5-2 t6-2"),
        ("c", "t1-4 t1-5 t2-4 t2-5 t5-0 t5-3 t6-0 t6-3"),
    ];
    check_assignment(&Range, &in_racks(three, R012, 3, 2), &expected);
}

/// Of a topic alone, members choose in turn; of several that belong together, each partition goes to somebody in turn.
#[test]
fn range_differs_in_who_gets_one_more() {
    let three = |topics| {
        group(&[("a", "", topics), ("b", "", topics), ("c", "", topics)], &topics.iter().map(|&t| (t, 4)).collect::<Vec<_>>())
    };
    let racks = ["r1", "r0", "r7"];
    check_assignment(&Range, &in_racks(three(T1), &racks, 2, 1), &[("a", "t1-1 t1-3"), ("b", "t1-0"), ("c", "t1-2")]);
    let expected = [("a", "t1-1 t2-1"), ("b", "t1-0 t1-2 t2-0 t2-2"), ("c", "t1-3 t2-3")];
    check_assignment(&Range, &in_racks(three(T12), &racks, 2, 1), &expected);
}

#[test]
fn range_gives_in_runs_where_racks_make_no_difference() {
    let two = group(&[("a", "", T), ("b", "", T)], &[("t", 4)]);
    let in_runs = [("a", "t-0 t-1"), ("b", "t-2 t-3")];
    for (members, brokers, replicas) in [
        // No member is in a rack; none in one with replicas; all racks have all; no broker tells its rack.
        (["", ""], 2, 1),
        (["r7", "r8"], 2, 1),
        (["r1", "r0"], 2, 2),
        (["r1", "r0"], 2, 0),
    ] {
        check_assignment(&Range, &in_racks(two.clone(), &members, brokers, replicas), &in_runs);
    }
    check_assignment(&Range, &in_racks(two, &["r1", "r0"], 2, 1), &[("a", "t-1 t-3"), ("b", "t-0 t-2")]);
}

#[test]
fn to_a_member_without_a_rack_all_partitions_are_near() {
    let two = group(&[("a", "", T), ("b", "", T)], &[("t", 4)]);
    check_assignment(&Range, &in_racks(two.clone(), &["", "r0"], 2, 1), &[("a", "t-0 t-1"), ("b", "t-2 t-3")]);
    check_assignment(&Range, &in_racks(two, &["r1", ""], 2, 1), &[("a", "t-1 t-3"), ("b", "t-0 t-2")]);
}

prop_compose! {
    fn any_group()(
        members in vec((option::of(0..9u8), vec(0..5u8, 0..5)), 1..8),
        counts in vec(0..9i32, 5),
    ) -> GroupView {
        let members: BTreeMap<Arc<str>, MemberView> = members
            .into_iter()
            .enumerate()
            .map(|(n, (instance, topics))| {
                let topics: BTreeSet<Arc<str>> = topics.into_iter().map(|t| format!("t{t}").into()).collect();
                // Instance ids are unique in a group.
                let instance_id = instance.map(|i| format!("i{i}-{n}").into());
                (format!("c{n}").into(), MemberView { instance_id, topics: topics.into_iter().collect(), ..MemberView::default() })
            })
            .collect();
        let wanted: BTreeSet<_> = members.values().flat_map(|member| member.topics.iter().cloned()).collect();
        let partition_counts = wanted.into_iter().zip(counts).collect();
        GroupView { members, partition_counts, ..GroupView::default() }
    }
}

prop_compose! {
    /// Puts a group of a few members and partitions, or some of it, into racks; there are some without members.
    fn any_racks()(members in vec(option::weighted(0.8, 0..4u8), 10), partitions in vec(vec(0..5u8, 0..4), 45)) -> Racked {
        Racked { members, partitions }
    }
}

prop_compose! {
    fn any_group_in_racks()(group in any_group(), racks in any_racks()) -> GroupView {
        racks.put(group)
    }
}

#[derive(Clone, Debug)]
struct Racked {
    members: Vec<Option<u8>>,
    partitions: Vec<Vec<u8>>,
}

impl Racked {
    fn put(&self, mut group: GroupView) -> GroupView {
        let name = |rack: &u8| Arc::from(format!("r{rack}"));
        for (member, rack) in group.members.values_mut().zip(&self.members) {
            member.rack = rack.as_ref().map(name);
        }
        let mut partitions = self.partitions.iter();
        let sets = |racks: &Vec<u8>| BTreeSet::from_iter(racks.iter().map(name)).into_iter().collect();
        let mut racks = |count: i32| partitions.by_ref().take(usize::try_from(count).expect("not negative")).map(sets).collect();
        group.partition_racks = group.partition_counts.iter().map(|(topic, &count)| (topic.clone(), racks(count))).collect();
        group
    }
}

fn partitions_of(group: &GroupView) -> BTreeSet<TopicPartition> {
    group
        .partition_counts
        .iter()
        .flat_map(|(topic, &count)| (0..count).map(move |n| TopicPartition::new(topic.clone(), n)))
        .collect()
}

proptest! {
    #[test]
    fn everything_is_given_once_to_a_subscriber(group in any_group_in_racks()) {
        for assignor in [&Range as &dyn Assignor, &RoundRobin, &Sticky, &CooperativeSticky] {
            let assignment = assignor.assign(&group);
            prop_assert_eq!(check(&group, &assignment), Ok(()));
            prop_assert_eq!(assignment.keys().collect::<Vec<_>>(), group.members.keys().collect::<Vec<_>>());
            let given: BTreeSet<_> = assignment.values().flatten().cloned().collect();
            prop_assert_eq!(given, partitions_of(&group));
        }
    }

    #[test]
    fn range_gives_subscribers_of_a_topic_consecutive_runs_that_differ_by_at_most_one(group in any_group()) {
        let assignment = Range.assign(&group);
        for topic in group.partition_counts.keys() {
            let runs: Vec<Vec<i32>> = group
                .members
                .iter()
                .filter(|(_, member)| member.topics.contains(topic))
                .map(|(id, _)| assignment[id].iter().filter(|p| p.topic() == &**topic).map(TopicPartition::partition).collect())
                .collect();
            let sizes = || runs.iter().map(Vec::len);
            prop_assert!(sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0) <= 1);
            prop_assert!(runs.iter().all(|run| run.windows(2).all(|pair| pair[1] == pair[0] + 1)));
        }
    }

    #[test]
    fn range_with_racks_is_as_even_and_never_farther_than_without(group in any_group_in_racks()) {
        let (with, without) = (Range.assign(&group), Range.assign(&without_racks(&group)));
        for topic in group.partition_counts.keys() {
            let sizes = |assignment: &Assignment| {
                let of = |partitions: &Vec<TopicPartition>| partitions.iter().filter(|p| p.topic() == &**topic).count();
                let mut sizes: Vec<_> = assignment.values().map(of).collect();
                sizes.sort_unstable();
                sizes
            };
            prop_assert_eq!(sizes(&with), sizes(&without));
        }
        prop_assert!(far_sets(&group, &with) <= far_sets(&group, &without));
    }

    /// Every member that leads gives the same: ids that the coordinator draws do not matter where members have names of their own.
    #[test]
    fn named_members_get_the_same_under_other_ids(group in any_group_in_racks(), ids in Just((0..8).collect::<Vec<_>>()).prop_shuffle()) {
        let mut group = group;
        let instances = |n: usize| Some(format!("i{n}").into());
        group.members.values_mut().enumerate().for_each(|(n, member)| member.instance_id = instances(n));
        let renamed = group.members.values().zip(&ids).map(|(member, id)| (format!("c{id}").into(), member.clone())).collect();
        let renamed = GroupView { members: renamed, ..group.clone() };
        for assignor in [&Range as &dyn Assignor, &RoundRobin, &Sticky] {
            let by_name = |group: &GroupView| -> BTreeMap<_, _> {
                let named = |(id, partitions)| (group.members[&id].instance_id.clone(), partitions);
                assignor.assign(group).into_iter().map(named).collect()
            };
            prop_assert_eq!(by_name(&group), by_name(&renamed));
        }
    }

    #[test]
    fn round_robin_is_even_among_equal_subscriptions(members in 1..9usize, counts in vec(0..9i32, 3)) {
        let topics: Vec<Arc<str>> = (0..3).map(|t| format!("t{t}").into()).collect();
        let member = MemberView { topics: topics.clone(), ..MemberView::default() };
        let group = GroupView {
            members: (0..members).map(|n| (format!("c{n}").into(), member.clone())).collect(),
            partition_counts: topics.into_iter().zip(counts).collect(),
            ..GroupView::default()
        };
        let assignment = RoundRobin.assign(&group);
        let sizes = || assignment.values().map(Vec::len);
        prop_assert!(sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0) <= 1);
    }
}

fn without_racks(group: &GroupView) -> GroupView {
    GroupView { partition_racks: BTreeMap::new(), ..group.clone() }
}

/// Whether the member is in a rack, and none of the partition's replicas is there.
fn is_far(group: &GroupView, member: &str, partition: &TopicPartition) -> bool {
    group.members[member].rack.as_ref().is_some_and(|rack| !group.racks(partition).contains(rack))
}

fn subscribers<'a>(group: &'a GroupView, topic: &str) -> Vec<&'a Arc<str>> {
    group.members.iter().filter(|(_, member)| member.is_subscribed(topic)).map(|(id, _)| id).collect()
}

/// How many sets of partitions that belong together have one that is far from the member that has it.
fn far_sets(group: &GroupView, assignment: &Assignment) -> usize {
    let mut far = BTreeSet::new();
    for (member, partition) in assignment.iter().flat_map(|(member, partitions)| partitions.iter().map(move |p| (member, p))) {
        if is_far(group, member, partition) {
            far.insert((subscribers(group, partition.topic()), group.partition_counts[partition.topic()], partition.partition()));
        }
    }
    far.len()
}

/// Every member holds what it was given.
fn held(group: &GroupView, assignment: &Assignment) -> GroupView {
    let mut group = group.clone();
    for (member_id, member) in &mut group.members {
        member.owned = assignment.get(member_id).cloned().unwrap_or_default();
    }
    group
}

fn of_equals(members: usize, counts: Vec<i32>) -> GroupView {
    let topics: Vec<Arc<str>> = (0..counts.len()).map(|t| format!("t{t}").into()).collect();
    let member = MemberView { topics: topics.clone(), ..MemberView::default() };
    GroupView {
        members: (0..members).map(|n| (format!("c{n}").into(), member.clone())).collect(),
        partition_counts: topics.into_iter().zip(counts).collect(),
        ..GroupView::default()
    }
}

fn spread(assignment: &Assignment) -> usize {
    let sizes = || assignment.values().map(Vec::len);
    sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0)
}

/// What of `before` is somebody else's in `after`, apart from what `gone` had and `come` got.
fn moved(before: &Assignment, after: &Assignment, gone: Option<&str>, come: Option<&str>) -> Vec<TopicPartition> {
    let is_moved = |(member_id, partition): (&Arc<str>, &TopicPartition)| {
        let is_kept = after.get(member_id).is_some_and(|kept| kept.contains(partition));
        let has_come = come.is_some_and(|come| after[come].contains(partition));
        (!is_kept && !has_come && gone != Some(member_id)).then(|| partition.clone())
    };
    before
        .iter()
        .flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, partition)))
        .filter_map(is_moved)
        .collect()
}

#[test]
fn sticky_lets_everybody_keep_what_is_fair_and_shares_out_the_rest() {
    let mut group = group(&[("a", "", T), ("b", "", T), ("c", "", T)], &[("t", 7)]);
    let owned = |numbers: &[i32]| numbers.iter().map(|&n| TopicPartition::new("t", n)).collect();
    group.members.get_mut("a").expect("there").owned = owned(&[1, 3, 4, 5]);
    group.members.get_mut("b").expect("there").owned = owned(&[6]);
    check_assignment(&Sticky, &group, &[("a", "t-1 t-3 t-4"), ("b", "t-2 t-6"), ("c", "t-0 t-5")]);
}

/// Lets members hold what they say: `("a", "t-0 t-1")`.
fn holding(mut group: GroupView, held: &[(&str, &str)]) -> GroupView {
    for (member, partitions) in held {
        let partition = |text: &str| {
            text.split_once('-').map(|(topic, number)| TopicPartition::new(topic, number.parse().expect("a number")))
        };
        group.members.get_mut(*member).expect("there").owned = partitions.split(' ').filter_map(partition).collect();
    }
    group
}

#[test]
fn sticky_gives_what_nobody_has_to_members_in_its_rack() {
    let three = group(&[("a", "", T), ("b", "", T), ("c", "", T)], &[("t", 7)]);
    let racks = ["r2", "", "r0"];
    check_assignment(
        &Sticky,
        &in_racks(three.clone(), &racks, 3, 1),
        &[("a", "t-2 t-5"), ("b", "t-1 t-4"), ("c", "t-0 t-3 t-6")],
    );
    let three = holding(three, &[("b", "t-0 t-3")]);
    check_assignment(&Sticky, &in_racks(three, &racks, 3, 1), &[("a", "t-1 t-2 t-5"), ("b", "t-0 t-3"), ("c", "t-4 t-6")]);
}

#[test]
fn sticky_lets_those_idle_who_are_far_where_there_are_more_members_than_partitions() {
    let three = group(&[("a", "", T), ("b", "", T), ("c", "", T)], &[("t", 2)]);
    check_assignment(&Sticky, &in_racks(three, &["r0", "r0", "r1"], 2, 1), &[("a", "t-0"), ("b", ""), ("c", "t-1")]);
}

#[test]
fn sticky_moves_nothing_for_a_racks_sake() {
    let two = holding(group(&[("a", "", T), ("b", "", T)], &[("t", 2)]), &[("a", "t-0"), ("b", "t-1")]);
    for assignor in [&Sticky as &dyn Assignor, &CooperativeSticky] {
        check_assignment(assignor, &in_racks(two.clone(), &["r1", "r0"], 2, 1), &[("a", "t-0"), ("b", "t-1")]);
    }
}

#[test]
fn sticky_gives_a_new_member_what_is_in_its_rack_and_not_in_that_of_who_had_it() {
    let three = group(&[("a", "", T), ("b", "", T), ("c", "", T)], &[("t", 6)]);
    let three = holding(three, &[("a", "t-2 t-3 t-4"), ("b", "t-0 t-1 t-5")]);
    let expected = [("a", "t-3 t-4"), ("b", "t-0 t-1"), ("c", "t-2 t-5")];
    for assignor in [&Sticky as &dyn Assignor, &CooperativeSticky] {
        check_assignment(assignor, &in_racks(three.clone(), R012, 3, 1), &expected);
    }
    // Where racks make no difference, what was held last goes.
    let expected = [("a", "t-2 t-3"), ("b", "t-0 t-1"), ("c", "t-4 t-5")];
    check_assignment(&Sticky, &in_racks(three, R012, 3, 3), &expected);
    // Of what is in both racks, too.
    let two = holding(group(&[("a", "", T), ("b", "", T)], &[("t", 4)]), &[("a", "t-0 t-1 t-2 t-3")]);
    check_assignment(&Sticky, &in_racks(two, &["r1", "r0"], 4, 2), &[("a", "t-1 t-2"), ("b", "t-0 t-3")]);
    let two = holding(group(&[("a", "", T), ("b", "", T)], &[("t", 2)]), &[("a", "t-0 t-1")]);
    for racks in [["r1", "r0"], ["r2", "r1"]] {
        check_assignment(&Sticky, &in_racks(two.clone(), &racks, 3, 2), &[("a", "t-1"), ("b", "t-0")]);
    }
}

/// Shares stay what they are without racks, where members want different topics, too.
#[test]
fn sticky_looks_at_racks_among_those_who_want_the_same() {
    let members = [("a", "", T12), ("b", "", T12), ("c", "", &["t2"] as &[_])];
    let three = group(&members, &[("t1", 4), ("t2", 2)]);
    let expected = [("a", "t1-1 t1-3"), ("b", "t1-0 t1-2"), ("c", "t2-0 t2-1")];
    check_assignment(&Sticky, &in_racks(three, &["r1", "r0", "r0"], 2, 1), &expected);
}

#[test]
fn sticky_does_not_believe_in_what_cannot_be() {
    let mut group = group(&[("a", "", T1), ("b", "", T12)], &[("t1", 2), ("t2", 1)]);
    let of_no_subscriber = TopicPartition::new("t2", 0);
    let that_does_not_exist = [TopicPartition::new("t1", 2), TopicPartition::new("t1", -1), TopicPartition::new("gone", 0)];
    group.members.get_mut("a").expect("there").owned = that_does_not_exist.into_iter().chain([of_no_subscriber]).collect();
    check_assignment(&Sticky, &group, &[("a", "t1-0 t1-1"), ("b", "t2-0")]);
}

#[test]
fn sticky_levels_across_topics_with_different_subscribers() {
    let members = [("a", "", T12), ("b", "", T1), ("c", "", &["t2"] as &[_])];
    let mut group = group(&members, &[("t1", 4), ("t2", 2)]);
    let all = (0..4).map(|n| TopicPartition::new("t1", n)).chain((0..2).map(|n| TopicPartition::new("t2", n)));
    group.members.get_mut("a").expect("there").owned = all.collect();
    check_assignment(&Sticky, &group, &[("a", "t1-0 t1-1"), ("b", "t1-2 t1-3"), ("c", "t2-0 t2-1")]);
}

proptest! {
    #[test]
    fn sticky_is_even_and_moves_only_what_a_member_more_or_less_makes_fair(
        members in 2..9usize,
        counts in vec(0..9i32, 1..4),
        racks in any_racks(),
    ) {
        let of_equals = |members, counts| racks.put(of_equals(members, counts));
        let before = Sticky.assign(&of_equals(members, counts.clone()));
        prop_assert!(spread(&before) <= 1);
        let again = Sticky.assign(&held(&of_equals(members, counts.clone()), &before));
        prop_assert_eq!(&again, &before, "nothing has changed");

        let more = held(&of_equals(members + 1, counts.clone()), &before);
        let after = Sticky.assign(&more);
        let come = format!("c{members}");
        prop_assert!(spread(&after) <= 1);
        prop_assert_eq!(moved(&before, &after, None, Some(&come)), vec![]);

        let mut less = held(&of_equals(members, counts), &before);
        less.members.remove("c0");
        let after = Sticky.assign(&less);
        prop_assert!(spread(&after) <= 1);
        prop_assert_eq!(moved(&before, &after, Some("c0"), None), vec![]);
    }

    #[test]
    fn sticky_is_even_from_whatever_was_held(members in 1..9usize, counts in vec(0..9i32, 1..4), holders in vec(0..12usize, 27)) {
        let mut group = of_equals(members, counts);
        for (partition, holder) in partitions_of(&group).into_iter().zip(holders) {
            // Some are nobody's.
            if let Some(member) = group.members.get_mut(&*format!("c{holder}")) {
                member.owned.push(partition);
            }
        }
        let assignment = Sticky.assign(&group);
        prop_assert!(spread(&assignment) <= 1);
        let kept = |(id, member): (&Arc<str>, &MemberView)| member.owned.iter().filter(|p| assignment[id].contains(p)).count();
        let kept: usize = group.members.iter().map(kept).sum();
        // As many stay as can: each member's fair share of what it has.
        let (all, share) = (partitions_of(&group).len(), partitions_of(&group).len() / members);
        let mut held: Vec<_> = group.members.values().map(|member| member.owned.len()).collect();
        held.sort_unstable_by(|a, b| b.cmp(a));
        let fair = |(nth, held): (usize, &usize)| (*held).min(share + usize::from(nth < all % members));
        prop_assert_eq!(kept, held.iter().enumerate().map(fair).sum::<usize>());
    }

    /// Members hold anything, and want anything: for the sake of racks nobody keeps less, and nothing is less even.
    #[test]
    fn sticky_with_racks_is_as_even_and_as_sticky_as_without(group in any_group_in_racks(), holders in vec(0..8usize, 45)) {
        let mut group = group;
        for (partition, holder) in partitions_of(&group).into_iter().zip(holders) {
            if let Some(member) = group.members.get_mut(&*format!("c{holder}")) {
                member.owned.push(partition);
            }
        }
        let (with, without) = (Sticky.assign(&group), Sticky.assign(&without_racks(&group)));
        let loads = |assignment: &Assignment| {
            let mut loads: Vec<_> = assignment.values().map(Vec::len).collect();
            loads.sort_unstable();
            loads
        };
        prop_assert_eq!(loads(&with), loads(&without));
        let kept = |assignment: &Assignment, id: &Arc<str>| assignment[id].iter().filter(|p| group.members[id].owned.contains(p)).count();
        for id in group.members.keys() {
            prop_assert!(kept(&with, id) >= kept(&without, id));
        }
        // No two of those that came from elsewhere are far where one would be near the other's member.
        let came = |(id, partitions): (&Arc<str>, &Vec<TopicPartition>)| -> Vec<_> {
            let came = partitions.iter().filter(|p| !group.members[id].owned.contains(p) && is_far(&group, id, p));
            came.map(|partition| (id.clone(), partition.clone())).collect()
        };
        let far: Vec<_> = with.iter().flat_map(came).collect();
        for ((a, other), (b, partition)) in far.iter().flat_map(|one| far.iter().map(move |other| (one, other))) {
            if subscribers(&group, other.topic()) == subscribers(&group, partition.topic()) {
                prop_assert!(is_far(&group, a, partition), "{} could be at {} instead of {}", partition, a, b);
            }
        }
    }

    /// With different subscriptions, too, no single move would make it more even.
    #[test]
    fn sticky_leaves_no_move_that_would_make_it_more_even(group in any_group_in_racks()) {
        let assignment = Sticky.assign(&group);
        for (holder, partitions) in &assignment {
            for partition in partitions {
                let others = group.members.iter().filter(|(_, member)| member.is_subscribed(partition.topic()));
                for (other, _) in others {
                    prop_assert!(partitions.len() <= assignment[other].len() + 1, "{} could go from {} to {}", partition, holder, other);
                }
            }
        }
    }
}
