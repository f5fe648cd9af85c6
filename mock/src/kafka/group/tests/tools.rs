//! What tools ask about groups.

use super::*;

fn describe(t: &mut Tester, conn: ConnId, version: i16, group: &str) -> describe_groups_response::DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![text(group).into()]);
    t.ask(conn, version, &request).groups.remove(0)
}

#[test]
fn a_group_is_described_in_every_version() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    for version in 0..=6 {
        let group = describe(&mut t, a.conn, version, GROUP);
        assert_eq!((group.error_code, group.group_state.as_str()), (0, "Stable"));
        assert_eq!((group.protocol_type.as_str(), group.protocol_data.as_str()), ("consumer", "range"));
        let member = &group.members[0];
        assert_eq!((&member.member_id, member.client_id.as_str()), (&a.id, "tester"));
        assert_eq!((&member.member_metadata, &member.member_assignment), (&subscription(&["t"]), &assignment("t", &[0])));
        let unknown = describe(&mut t, a.conn, version, "none");
        let error = if version >= 6 { code(ResponseError::GroupIdNotFound) } else { 0 };
        assert_eq!((unknown.error_code, unknown.group_state.as_str()), (error, "Dead"));
    }
}

#[test]
fn metadata_is_described_only_of_stable_groups() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    with_groups(&mut t, |groups, cx| groups.rebalance(cx, GROUP));
    let group = describe(&mut t, a.conn, 5, GROUP);
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("PreparingRebalance", ""));
    assert!(group.members[0].member_metadata.is_empty());
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    with_groups(&mut t, |groups, cx| groups.store_offset(cx, "idle", "t", 0, 1));
    let mut list = |version, states: &[&str], types: &[&str]| {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|state| text(state)).collect())
            .with_types_filter(types.iter().map(|kind| text(kind)).collect());
        let groups = t.ask(a.conn, version, &request).groups;
        groups.iter().map(|group| group.group_id.to_string()).collect::<Vec<_>>()
    };
    for version in 0..=5 {
        assert_eq!(list(version, &[], &[]), ["idle", GROUP]);
    }
    assert_eq!(list(4, &["stable"], &[]), [GROUP]);
    assert_eq!(list(5, &["Empty", "Dead"], &["classic"]), ["idle"]);
    assert_eq!(list(5, &[], &["consumer"]), [""; 0]);
}

#[test]
fn only_empty_groups_can_be_deleted() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    assert_eq!(a.commit(&mut t, 1), 0);
    let request = DeleteGroupsRequest::default().with_groups_names(vec![text(GROUP).into(), text("none").into()]);
    let delete = |t: &mut Tester| {
        let answer = t.ask(a.conn, 2, &request);
        answer.results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    let unknown = code(ResponseError::GroupIdNotFound);
    assert_eq!(delete(&mut t), [code(ResponseError::NonEmptyGroup), unknown]);
    assert_eq!(a.leave(&mut t), 0);
    assert_eq!(delete(&mut t), [0, unknown]);
    assert_eq!(fetch_offset(&mut t, a.conn), (-1, 0));
}

#[test]
fn an_empty_group_without_offsets_is_forgotten() {
    let mut t = tester();
    let a = &stable(&mut t, 1)[0];
    assert_eq!(a.leave(&mut t), 0);
    assert_eq!(state(&t), "Empty");
    t.pass(Duration::from_secs(600));
    assert_eq!(t.kafka.groups.state(GROUP), None);
}

#[test]
fn a_broker_speaks_only_of_groups_that_it_coordinates() {
    let mut t = tester_with(Settings { brokers: 2, ..Settings::default() });
    with_groups(&mut t, |groups, cx| groups.store_offset(cx, GROUP, "t", 0, 1));
    let home = t.kafka.brokers.coordinator_of(GROUP).unwrap();
    let (here, there) = (t.connect(home), t.connect(3 - home));
    assert_eq!(t.ask(here, 5, &ListGroupsRequest::default()).groups.len(), 1);
    assert_eq!(t.ask(there, 5, &ListGroupsRequest::default()).groups.len(), 0);
    assert_eq!(describe(&mut t, there, 6, GROUP).error_code, code(ResponseError::NotCoordinator));
    let request = DeleteGroupsRequest::default().with_groups_names(vec![text(GROUP).into()]);
    assert_eq!(t.ask(there, 2, &request).results[0].error_code, code(ResponseError::NotCoordinator));
    // A fetch for several groups is refused for each that is elsewhere.
    let mut many = fetch_request(None);
    let abroad = (0..).map(|n| format!("g{n}")).find(|id| t.kafka.brokers.coordinator_of(id) != Some(home)).unwrap();
    many.groups.push(many.groups[0].clone().with_group_id(text(&abroad).into()));
    let errors: Vec<_> = t.ask(here, 8, &many).groups.iter().map(|group| group.error_code).collect();
    assert_eq!(errors, [0, code(ResponseError::NotCoordinator)]);
}
