//! Groups of the consumer protocol (KIP-848).

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::*;

/// A member as a client would be one.
pub(super) struct Modern {
    pub(super) conn: ConnId,
    pub(super) id: StrBytes,
    pub(super) epoch: i32,
    instance_id: Option<&'static str>,
    topics: Vec<&'static str>,
    assignor: Option<&'static str>,
    /// What it has taken up, of the topic `t`.
    pub(super) owned: BTreeSet<i32>,
    /// What it was last told to have.
    told: BTreeSet<i32>,
}

impl Modern {
    pub(super) fn new(t: &mut Tester, id: &str) -> Self {
        Self {
            conn: t.connect(1),
            id: text(id),
            epoch: 0,
            instance_id: None,
            topics: vec!["t"],
            assignor: None,
            owned: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    pub(super) fn brief(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance_id.map(StrBytes::from_static_str))
            .with_rebalance_timeout_ms(-1)
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None)
    }

    pub(super) fn joining(&self) -> ConsumerGroupHeartbeatRequest {
        self.brief()
            .with_member_epoch(0)
            .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
            .with_subscribed_topic_names(Some(self.topics.iter().map(|topic| text(topic).into()).collect()))
            .with_server_assignor(self.assignor.map(StrBytes::from_static_str))
            .with_topic_partitions(Some(Vec::new()))
    }

    fn owning(&self, t: &Tester) -> ConsumerGroupHeartbeatRequest {
        let id = t.kafka.topics.get("t").expect("the topic").id;
        let of = TopicPartitions::default().with_topic_id(id).with_partitions(self.owned.iter().copied().collect());
        let owned = if self.owned.is_empty() { Vec::new() } else { vec![of] };
        self.brief().with_topic_partitions(Some(owned))
    }

    fn ask(&mut self, t: &mut Tester, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let answer = t.ask(self.conn, 1, &request);
        if answer.error_code == 0 {
            self.epoch = answer.member_epoch;
            if let Some(assignment) = &answer.assignment {
                self.told = assignment.topic_partitions.iter().flat_map(|of| of.partitions.iter().copied()).collect();
            }
        }
        answer
    }

    #[track_caller]
    pub(super) fn join(&mut self, t: &mut Tester) -> ConsumerGroupHeartbeatResponse {
        let answer = self.ask(t, self.joining());
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.owned = self.told.clone();
        answer
    }

    /// Beats with nothing new to say.
    pub(super) fn beat(&mut self, t: &mut Tester) -> i16 {
        self.ask(t, self.brief()).error_code
    }

    /// Takes up what it was told, and says so.
    #[track_caller]
    fn acknowledge(&mut self, t: &mut Tester) {
        self.owned = self.told.clone();
        let answer = self.ask(t, self.owning(t));
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
}

/// Lets all beat until nothing changes; nobody ever has what another one has.
pub(super) fn converge(t: &mut Tester, members: &mut [&mut Modern]) -> Vec<usize> {
    for _ in 0..4 {
        for member in members.iter_mut() {
            assert_eq!(member.beat(t), 0);
            member.acknowledge(t);
        }
        let mut owners = BTreeMap::new();
        for (member, number) in members.iter().flat_map(|member| member.owned.iter().map(move |number| (&member.id, *number))) {
            assert_eq!(owners.insert(number, member), None, "partition {number} has two owners");
        }
    }
    assert_eq!(state(t), "Stable");
    members.iter().map(|member| member.owned.len()).collect()
}

fn errors_of(t: &mut Tester, request: ConsumerGroupHeartbeatRequest) -> i16 {
    let conn = t.connect(1);
    t.ask(conn, 1, &request).error_code
}

#[test]
fn a_first_member_gets_all_partitions_at_once_and_the_interval() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    let answer = a.join(&mut t);
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (2, 5000));
    assert_eq!(answer.member_id, Some(a.id.clone()));
    assert_eq!(a.owned, [0, 1, 2].into());
    assert_eq!(state(&t), "Stable");
    let quiet = a.ask(&mut t, a.brief());
    assert_eq!((quiet.error_code, quiet.assignment), (0, None), "nothing changed");
    let view = &t.kafka.groups.members(GROUP)[0];
    assert_eq!(view.assignment.len(), 3);
    assert_eq!(view.assignment[2], ("t".to_owned(), 2));
}

#[test]
fn a_full_heartbeat_is_told_the_assignment_though_it_is_the_same() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    let full = a.owning(&t).with_rebalance_timeout_ms(1000).with_subscribed_topic_names(Some(vec![text("t").into()]));
    assert!(a.ask(&mut t, full).assignment.is_some());
}

#[test]
fn a_partition_is_given_on_only_after_its_owner_gave_it_up() {
    let mut t = tester();
    let (mut a, mut b) = (Modern::new(&mut t, "a"), Modern::new(&mut t, "b"));
    a.join(&mut t);
    b.join(&mut t);
    assert!(b.owned.is_empty(), "all is in a's hands");
    assert_eq!((b.epoch, state(&t)), (3, "Reconciling"));
    assert_eq!(a.beat(&mut t), 0);
    assert_eq!((a.epoch, a.told.len()), (2, 2), "a is to give one up, in its old epoch");
    assert_eq!(b.beat(&mut t), 0);
    assert!(b.told.is_empty());
    assert_eq!(a.beat(&mut t), 0, "a beat that says nothing gives nothing up");
    assert_eq!(b.beat(&mut t), 0);
    assert!(b.told.is_empty());
    a.acknowledge(&mut t);
    assert_eq!(a.epoch, 3);
    assert_eq!(b.beat(&mut t), 0);
    assert_eq!(b.told.len(), 1);
    assert!(a.owned.is_disjoint(&b.told));
    assert_eq!(state(&t), "Stable");
}

#[test]
fn partitions_are_spread_evenly_and_few_move() {
    let mut t = Tester::new(Settings::default());
    create_topic(&mut t, "t", 12);
    let mut members: Vec<_> = ["a", "b", "c", "d"].map(|id| Modern::new(&mut t, id)).into();
    for count in 1..=4 {
        let before: Vec<_> = members.iter().map(|member| member.owned.clone()).collect();
        members[count - 1].join(&mut t);
        let loads = converge(&mut t, &mut members[..count].iter_mut().collect::<Vec<_>>());
        assert_eq!(loads, vec![12 / count; count]);
        for (member, before) in members[..count - 1].iter().zip(before) {
            assert!(member.owned.is_subset(&before), "who was there only gives up");
        }
    }
}

#[test]
fn members_may_choose_the_range_assignor() {
    let mut t = Tester::new(Settings::default());
    create_topic(&mut t, "t", 5);
    let [mut a, mut b] = ["a", "b"].map(|id| Modern { assignor: Some("range"), ..Modern::new(&mut t, id) });
    a.join(&mut t);
    b.join(&mut t);
    converge(&mut t, &mut [&mut a, &mut b]);
    assert_eq!((a.owned, b.owned), ([0, 1, 2].into(), [3, 4].into()));
    let mut c = Modern { assignor: Some("mine"), ..Modern::new(&mut t, "c") };
    let request = c.joining();
    assert_eq!(c.ask(&mut t, request).error_code, code(ResponseError::UnsupportedAssignor));
}

#[test]
fn members_with_other_topics_get_only_those() {
    let mut t = tester();
    create_topic(&mut t, "u", 4);
    let mut a = Modern { topics: vec!["t", "u"], ..Modern::new(&mut t, "a") };
    let mut b = Modern { topics: vec!["t", "missing"], ..Modern::new(&mut t, "b") };
    b.join(&mut t);
    a.join(&mut t);
    for _ in 0..3 {
        // Neither says what it has of `u`, which nobody but `a` may have.
        assert_eq!((a.beat(&mut t), b.beat(&mut t)), (0, 0));
        b.acknowledge(&mut t);
    }
    let views = t.kafka.groups.members(GROUP);
    assert!(views[1].assignment.iter().all(|(topic, _)| topic == "t"));
    assert_eq!(views.iter().map(|view| view.assignment.len()).sum::<usize>(), 7);
}

#[test]
fn new_partitions_and_topics_are_found_at_the_next_heartbeat() {
    let mut t = tester();
    let mut a = Modern { topics: vec!["t", "later"], ..Modern::new(&mut t, "a") };
    a.join(&mut t);
    create_topic(&mut t, "later", 2);
    assert_eq!(a.beat(&mut t), 0);
    assert_eq!(a.epoch, 3);
    assert_eq!(t.kafka.groups.members(GROUP)[0].assignment.len(), 5);
}

#[test]
fn a_change_of_topics_changes_the_assignment() {
    let mut t = tester();
    create_topic(&mut t, "u", 2);
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    let request = a.brief().with_subscribed_topic_names(Some(vec![text("u").into()]));
    let answer = a.ask(&mut t, request);
    assert_eq!((answer.member_epoch, a.told.len()), (2, 0), "what is not wanted is taken away first");
    a.acknowledge(&mut t);
    assert_eq!((a.epoch, a.told.clone()), (3, [0, 1].into()));
    assert!(t.kafka.groups.members(GROUP)[0].assignment.iter().all(|(topic, _)| topic == "u"));
}

#[test]
fn a_pattern_matches_whole_names_of_topics_that_are_and_that_come() {
    let mut t = tester();
    create_topic(&mut t, "t2", 1);
    let mut a = Modern::new(&mut t, "a");
    let request = a.joining().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("t[0-9]")));
    a.ask(&mut t, request.clone());
    let names = |t: &Tester| t.kafka.groups.members(GROUP)[0].assignment.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&t), ["t2"]);
    create_topic(&mut t, "t3", 1);
    create_topic(&mut t, "t33", 1);
    assert_eq!(a.beat(&mut t), 0);
    assert_eq!(names(&t), ["t2", "t3"]);
    let bad = Modern::new(&mut t, "b").joining().with_subscribed_topic_regex(Some(text("(")));
    assert_eq!(errors_of(&mut t, bad), code(ResponseError::InvalidRegularExpression));
    let none = a.brief().with_subscribed_topic_regex(Some(text("")));
    a.ask(&mut t, none);
    assert!(a.told.is_empty());
}

#[test]
fn heartbeats_that_make_no_sense_are_invalid() {
    let mut t = tester();
    let a = Modern::new(&mut t, "a");
    let join = a.joining();
    let bad = [
        join.clone().with_member_id(text("")),
        join.clone().with_group_id(text("").into()),
        join.clone().with_instance_id(Some(text(""))),
        join.clone().with_rack_id(Some(text(""))),
        join.clone().with_rebalance_timeout_ms(-1),
        join.clone().with_topic_partitions(None),
        join.clone().with_topic_partitions(Some(vec![TopicPartitions::default()])),
        join.clone().with_subscribed_topic_names(None),
        a.brief().with_member_epoch(-2),
        a.brief().with_member_epoch(-3),
    ];
    for request in bad {
        assert_eq!(errors_of(&mut t, request.clone()), code(ResponseError::InvalidRequest), "{request:?}");
    }
    assert_eq!(t.kafka.groups.state(GROUP), None);
    let oldest = t.ask(a.conn, 0, &join.with_member_id(text("")));
    assert!(oldest.member_id.is_some_and(|id| !id.is_empty()), "version 0 is given an id");
}

#[test]
fn only_a_member_of_the_right_epoch_is_served() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    assert_eq!(errors_of(&mut t, a.brief().with_member_epoch(1)), code(ResponseError::GroupIdNotFound));
    a.join(&mut t);
    let stranger = a.brief().with_member_id(text("x")).with_member_epoch(1);
    assert_eq!(errors_of(&mut t, stranger), code(ResponseError::UnknownMemberId));
    for epoch in [3, 7] {
        assert_eq!(errors_of(&mut t, a.brief().with_member_epoch(epoch)), code(ResponseError::FencedMemberEpoch));
    }
    // An older epoch is good only from one who missed the last answer, and has nothing that is not its own.
    let (old, full) = (a.epoch, a.owning(&t));
    with_groups(&mut t, |groups, cx| groups.rebalance(cx, GROUP));
    assert_eq!(a.beat(&mut t), 0);
    assert_eq!(a.epoch, old + 1);
    assert_eq!(errors_of(&mut t, a.brief().with_member_epoch(old)), code(ResponseError::FencedMemberEpoch));
    assert_eq!(errors_of(&mut t, full.clone().with_member_epoch(old)), 0);
    with_groups(&mut t, |groups, cx| groups.rebalance(cx, GROUP));
    assert_eq!(a.beat(&mut t), 0);
    assert_eq!(errors_of(&mut t, full.with_member_epoch(old)), code(ResponseError::FencedMemberEpoch));
}

#[test]
fn a_member_leaves_and_its_partitions_are_free() {
    let mut t = tester();
    let (mut a, mut b) = (Modern::new(&mut t, "a"), Modern::new(&mut t, "b"));
    a.join(&mut t);
    b.join(&mut t);
    converge(&mut t, &mut [&mut a, &mut b]);
    let answer = t.ask(a.conn, 1, &a.brief().with_member_epoch(-1));
    assert_eq!((answer.error_code, answer.member_epoch, answer.heartbeat_interval_ms), (0, -1, 0));
    assert_eq!(b.beat(&mut t), 0);
    assert_eq!(b.told.len(), 3);
    assert_eq!(gone(&t), [("a".to_owned(), "left")]);
    assert_eq!(errors_of(&mut t, a.brief().with_member_epoch(-1)), code(ResponseError::UnknownMemberId));
}

#[test]
fn a_classic_request_takes_members_out_too() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    let leaving = ["a", "x"].map(|id| MemberIdentity::default().with_member_id(text(id)));
    let request = LeaveGroupRequest::default().with_group_id(GroupId(text(GROUP))).with_members(leaving.to_vec());
    let codes: Vec<_> = t.ask(a.conn, 5, &request).members.iter().map(|member| member.error_code).collect();
    assert_eq!(codes, [0, code(ResponseError::UnknownMemberId)]);
    assert_eq!(gone(&t), [("a".to_owned(), "left")]);
}

#[test]
fn before_4_3_a_new_group_has_no_epoch() {
    let mut t = tester_with(Settings { release: crate::kafka::api::Release::new(4, 2), ..Settings::default() });
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    assert_eq!(a.epoch, 1);
}

#[test]
fn a_session_ends_after_the_brokers_own_timeout() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    t.pass(Duration::from_secs(40));
    assert_eq!(a.beat(&mut t), 0);
    t.pass(Duration::from_secs(45) - Duration::from_millis(1));
    assert!(gone(&t).is_empty());
    t.pass(Duration::from_millis(1));
    assert_eq!(gone(&t), [("a".to_owned(), "session timed out")]);
    assert_eq!(a.beat(&mut t), code(ResponseError::UnknownMemberId));
    assert_eq!(state(&t), "Empty");
    a.epoch = 0;
    a.join(&mut t);
    assert_eq!(a.epoch, 4, "the epoch goes on");
}

#[test]
fn a_member_that_gives_nothing_up_is_fenced_after_its_rebalance_timeout() {
    let mut t = tester();
    let (mut a, mut b) = (Modern::new(&mut t, "a"), Modern::new(&mut t, "b"));
    a.join(&mut t);
    b.join(&mut t);
    for _ in 0..3 {
        assert_eq!((a.beat(&mut t), b.beat(&mut t)), (0, 0));
        t.pass(REBALANCE / 3);
    }
    assert_eq!(gone(&t), [("a".to_owned(), "did not revoke in time")]);
    assert_eq!(a.beat(&mut t), code(ResponseError::UnknownMemberId));
    assert_eq!(b.beat(&mut t), 0);
    assert_eq!(b.told.len(), 3);
}

#[test]
fn a_static_member_keeps_its_name_and_its_place_while_it_is_away() {
    let mut t = tester();
    let [mut a, mut b] = ["a", "b"].map(|id| Modern::new(&mut t, id));
    a.instance_id = Some("i");
    a.join(&mut t);
    b.join(&mut t);
    converge(&mut t, &mut [&mut a, &mut b]);
    let mut new = Modern { instance_id: Some("i"), ..Modern::new(&mut t, "new") };
    assert_eq!(errors_of(&mut t, new.joining()), code(ResponseError::UnreleasedInstanceId), "the newcomer is turned away");
    let answer = t.ask(a.conn, 1, &a.brief().with_member_epoch(-2));
    assert_eq!((answer.error_code, answer.member_epoch), (0, -2));
    assert_eq!(b.beat(&mut t), 0);
    assert_eq!(b.told, b.owned, "its partitions are kept for it");
    let epoch = t.kafka.groups.generation(GROUP);
    new.join(&mut t);
    assert_eq!(new.owned, a.owned);
    assert_eq!(t.kafka.groups.generation(GROUP), epoch, "no rebalance");
    assert_eq!(gone(&t), [("a".to_owned(), "replaced")]);
    assert_eq!(a.beat(&mut t), code(ResponseError::FencedInstanceId));
    let nobody = Modern { instance_id: Some("j"), epoch: 1, ..Modern::new(&mut t, "x") };
    assert_eq!(errors_of(&mut t, nobody.brief()), code(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_that_does_not_come_back_is_out_when_its_session_ends() {
    let mut t = tester();
    let mut a = Modern { instance_id: Some("i"), ..Modern::new(&mut t, "a") };
    a.join(&mut t);
    t.ask(a.conn, 1, &a.brief().with_member_epoch(-2));
    assert_eq!(a.beat(&mut t), code(ResponseError::FencedMemberEpoch));
    t.pass(Duration::from_secs(45));
    assert_eq!(gone(&t), [("a".to_owned(), "session timed out")]);
}

#[test]
fn a_full_consumer_group_takes_nobody_in() {
    let mut t = tester_with(Settings { group_max_size: 1, ..Settings::default() });
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    let b = Modern::new(&mut t, "b").joining();
    assert_eq!(errors_of(&mut t, b), code(ResponseError::GroupMaxSizeReached));
    assert_eq!(a.beat(&mut t), 0);
}

#[test]
fn without_consumer_groups_the_version_is_unsupported() {
    let mut t = tester_with(Settings { consumer_groups: false, ..Settings::default() });
    let a = Modern::new(&mut t, "a").joining();
    assert_eq!(errors_of(&mut t, a), code(ResponseError::UnsupportedVersion));
}

#[test]
fn an_empty_group_changes_its_protocol_and_begins_anew() {
    let mut t = tester();
    let classic = stable(&mut t, 1).remove(0);
    assert_eq!(classic.commit(&mut t, 7), 0);
    let mut modern = Modern::new(&mut t, "a");
    assert_eq!(classic.leave(&mut t), 0);
    modern.join(&mut t);
    assert_eq!(t.kafka.groups.committed(GROUP).into_values().collect::<Vec<_>>(), [7], "offsets stay");
    t.ask(modern.conn, 1, &modern.brief().with_member_epoch(-1));
    let mut back = Client::new(&mut t);
    back.send_join(&mut t);
    assert_eq!(back.joined(&mut t).generation_id, 1);
}

#[test]
fn a_new_coordinator_keeps_everything_and_sessions_begin_anew() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    t.pass(Duration::from_secs(40));
    with_groups(&mut t, |groups, cx| groups.coordinator_moved(cx, GROUP));
    t.pass(Duration::from_secs(40));
    assert_eq!(a.beat(&mut t), 0);
    assert_eq!(a.epoch, 2);
}

#[test]
fn a_consumer_group_is_described_and_listed() {
    let mut t = tester();
    let mut a = Modern::new(&mut t, "a");
    a.join(&mut t);
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text(GROUP).into(), text("none").into()]);
    for version in 0..=1 {
        let answer = t.ask(a.conn, version, &request);
        let group = &answer.groups[0];
        assert_eq!((group.error_code, group.group_state.as_str(), group.assignor_name.as_str()), (0, "Stable", "uniform"));
        assert_eq!((group.group_epoch, group.assignment_epoch, group.members[0].member_epoch), (2, 2, 2));
        assert_eq!(group.members[0].assignment, group.members[0].target_assignment);
        assert_eq!(group.members[0].assignment.topic_partitions[0].topic_name.as_str(), "t");
        assert_eq!(answer.groups[1].error_code, code(ResponseError::GroupIdNotFound));
    }
    let listed = t.ask(a.conn, 5, &ListGroupsRequest::default().with_types_filter(vec![text("Consumer")]));
    assert_eq!((listed.groups[0].group_state.as_str(), listed.groups[0].group_type.as_str()), ("Stable", "consumer"));
}

#[test]
fn a_tool_takes_members_out_in_one_step() {
    let mut t = tester();
    let [mut a, mut b] = ["a", "b"].map(|id| Modern::new(&mut t, id));
    a.instance_id = Some("i");
    a.join(&mut t);
    b.join(&mut t);
    let member = |id: &str, instance_id: Option<&str>| {
        MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance_id.map(text))
    };
    let leaving = vec![member("x", Some("i")), member("", Some("i")), member("b", None), member("x", None)];
    let request = LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_members(leaving);
    let answer = t.ask(a.conn, 5, &request);
    let errors: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
    assert_eq!(errors, [code(ResponseError::FencedInstanceId), 0, 0, code(ResponseError::UnknownMemberId)]);
    assert_eq!((state(&t), t.kafka.groups.generation(GROUP)), ("Empty", Some(4)));
}

#[test]
fn one_who_leaves_with_its_topics_changes_the_epoch_once() {
    let mut t = tester();
    create_topic(&mut t, "u", 1);
    let mut a = Modern { topics: vec!["u"], ..Modern::new(&mut t, "a") };
    let mut b = Modern::new(&mut t, "b");
    a.join(&mut t);
    b.join(&mut t);
    let epoch = b.epoch;
    t.ask(a.conn, 1, &a.brief().with_member_epoch(-1));
    assert_eq!(b.beat(&mut t), 0);
    assert_eq!(b.epoch, epoch + 1);
}

#[test]
fn each_epoch_is_told_with_its_members() {
    let mut t = tester();
    let (mut a, mut b) = (Modern::new(&mut t, "a"), Modern::new(&mut t, "b"));
    a.join(&mut t);
    b.join(&mut t);
    t.ask(a.conn, 1, &a.brief().with_member_epoch(-1));
    let told = |event: &Event| match event {
        Event::Generation { generation, members, .. } => Some((*generation, members.join(" "))),
        _ => None,
    };
    let told: Vec<_> = t.events.iter().filter_map(told).collect();
    assert_eq!(told, [(2, "a".to_owned()), (3, "a b".to_owned()), (4, "b".to_owned())]);
}
