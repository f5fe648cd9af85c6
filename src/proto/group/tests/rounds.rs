//! Rebalances: from the trigger to the next assignment.

use super::*;

#[test]
fn the_first_round() {
    let mut rig = Rig::new(config());
    rig.subscribe(&["b", "a", "b"]);
    assert_eq!(rig.told(), ["coordinator unknown"]);
    assert_eq!(rig.under_way(), []);
    rig.coordinator(true);
    let join = rig.take(Api::JoinGroup);
    assert_eq!(join.timeout, Duration::from_secs(305));
    let request = join_request(&join);
    assert_eq!((&*request.group, &*request.member_id, &request.instance_id), ("g", "", &None));
    assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (45_000, 300_000));
    let names: Vec<_> = request.protocols.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["range", "roundrobin"]);
    for (_, blob) in &request.protocols {
        let subscription = Subscription::decode(blob).expect("reads");
        let topics: Vec<_> = subscription.topics.iter().map(|topic| &**topic).collect();
        assert_eq!((topics, subscription.owned, subscription.generation), (vec!["a", "b"], vec![], None));
    }
    rig.answer_to(&join, Ok(joined("m", 1)));
    assert_eq!(rig.told(), [""; 0]);
    let sync = rig.take(Api::SyncGroup);
    let request = sync_request(&sync);
    assert_eq!((&*request.member.member_id, request.member.generation, &*request.protocol), ("m", Generation(1), "range"));
    assert_eq!(request.assignments, []);
    rig.answer_to(&sync, Ok(synced(&[("b", 1), ("a", 0)])));
    assert_eq!(
        rig.events,
        [GroupEvent::Assigned {
            generation: Generation(1),
            member_id: "m".into(),
            protocol: "range".into(),
            leader: false,
            partitions: vec![TopicPartition::new("a", 0), TopicPartition::new("b", 1)],
        }]
    );
    assert!(rig.machine.is_stable());
}

#[test]
fn the_blob_stays_the_same_from_join_to_join() {
    let blob = |rig: &mut Rig| join_request(&rig.take(Api::JoinGroup)).protocols.clone();
    assert_eq!(blob(&mut Rig::joining(config())), blob(&mut Rig::rejoining(config())));
}

#[test]
fn the_rack_is_told() {
    let rack = Some(Arc::from("r1"));
    let mut rig = Rig::joining(GroupConfig { rack: rack.clone(), ..config() });
    let join = rig.take(Api::JoinGroup);
    assert_eq!(Subscription::decode(&join_request(&join).protocols[0].1).expect("reads").rack, rack);
}

#[test]
fn commits_are_held_from_the_join_to_the_end_of_the_sync() {
    let mut rig = Rig::stable(config());
    assert!(rig.machine.may_commit());
    rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
    assert!(rig.machine.may_commit(), "while releasing");
    assert_eq!(rig.under_way(), [], "JoinGroup waits for the release, which waits for the commit");
    rig.released();
    assert!(!rig.machine.may_commit(), "joining");
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    assert!(!rig.machine.may_commit(), "syncing");
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    assert!(rig.machine.may_commit());
    assert!(!Rig::new(config()).machine.may_commit());
}

#[test]
fn a_member_that_owns_nothing_joins_at_once() {
    let mut rig = Rig::syncing(config());
    rig.answer(Api::SyncGroup, Ok(synced(&[])));
    rig.told();
    rig.pass(3_000);
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!(rig.told(), ["rejoining"]);
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

#[test]
fn what_is_not_released_in_time_is_lost_and_the_round_goes_on() {
    let mut rig = Rig::stable(config());
    rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
    let Some(GroupEvent::Release { deadline, .. }) = rig.machine.events.back().cloned() else { panic!() };
    // Before the coordinator's patience ends, which may have begun a heartbeat ago.
    assert_eq!(deadline - rig.now, Duration::from_secs(296));
    rig.drain();
    while rig.now < deadline {
        rig.pass(1_000);
        if rig.under_way().contains(&Api::Heartbeat) {
            rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)));
        }
    }
    assert_eq!(rig.told(), ["rejoining", "release", "lost"]);
    assert_eq!((rig.member().as_str(), rig.under_way()), ("m/5", vec![Api::JoinGroup]));
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.released();
    assert_eq!(rig.under_way(), [Api::SyncGroup], "a late release changes nothing");
}

#[test]
fn triggers_merge_into_one_round() {
    let mut rig = Rig::stable(config());
    rig.machine.rebalance(rig.now, Pace::AtOnce, "first".to_owned());
    rig.machine.rebalance(rig.now, Pace::AtOnce, "second".to_owned());
    rig.member_error(&rig.machine.membership().clone(), ErrorCode::REBALANCE_IN_PROGRESS);
    rig.subscribe(&["t", "u"]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
    rig.released();
    let join = rig.take(Api::JoinGroup);
    assert_eq!(join_request(&join).reason.as_deref(), Some("first"));
    rig.answer_to(&join, Ok(joined("m", 6)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("u", 0)])));
    assert_eq!(rig.told(), ["assigned 6: t-0 u-0"]);
    assert_eq!(rig.under_way(), []);
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let mut rig = Rig::stable(config());
    rig.machine.rebalance(rig.now, Pace::AtOnce, "é".repeat(300));
    rig.released();
    let join = rig.take(Api::JoinGroup);
    assert_eq!(join_request(&join).reason.as_deref(), Some(&*"é".repeat(255)));
}

#[test]
fn a_new_subscription_rejoins() {
    let mut rig = Rig::stable(config());
    rig.subscribe(&["t"]);
    assert_eq!(rig.told(), [""; 0], "nothing new");
    rig.subscribe(&["u", "t"]);
    assert_eq!(rig.told(), ["rejoining", "release"]);
}

#[test]
fn a_subscription_that_changes_while_joining_is_joined_with_next() {
    let mut rig = Rig::joining(config());
    rig.subscribe(&["u"]);
    assert_eq!(rig.under_way(), [Api::JoinGroup], "one at a time");
    rig.answer(Api::JoinGroup, Ok(joined("m", 1)));
    let join = rig.take(Api::JoinGroup);
    let subscription = Subscription::decode(&join_request(&join).protocols[0].1).expect("reads");
    assert_eq!(subscription.topics, ["u".into()]);
}

#[test]
fn a_subscription_that_changes_while_syncing_is_joined_with_next_and_the_assignment_not_taken() {
    let mut rig = Rig::syncing(config());
    rig.subscribe(&["t", "u"]);
    assert_eq!(rig.under_way(), [Api::SyncGroup]);
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(rig.under_way(), [Api::JoinGroup]);
}

/// A rebalance that ends in another one before its own assignment came.
#[test]
fn two_rebalances_one_into_the_other() {
    let mut rig = Rig::rejoining(config());
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.pass(3_000);
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.answer(Api::SyncGroup, Ok(sync_error(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!((rig.told(), rig.under_way()), (vec![], vec![Api::JoinGroup]));
    rig.answer(Api::JoinGroup, Ok(joined("m", 7)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1)])));
    assert_eq!(rig.told(), ["assigned 7: t-1"]);
}

/// A rebalance that begins while the partitions are still being released for the one before, whose generation ends meanwhile.
#[test]
fn a_generation_that_ends_while_releasing() {
    let mut rig = Rig::releasing(config());
    rig.pass(2_000);
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::ILLEGAL_GENERATION)));
    assert_eq!(rig.told(), ["lost", "rejoining"]);
    assert_eq!((rig.member().as_str(), rig.under_way()), ("m/-1", vec![Api::JoinGroup]));
}

#[test]
fn rebalance_right_after_the_assignment() {
    let mut rig = Rig::syncing(config());
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
    rig.member_error(&rig.machine.membership().clone(), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.told(), ["assigned 5: t-0", "rejoining", "release"]);
    rig.released();
    assert_eq!(rig.next_ask(), "JoinGroup at once");
}

#[test]
fn partitions_are_kept_while_the_coordinator_moves() {
    let mut rig = Rig::stable(config());
    rig.coordinator(false);
    rig.pass(20_000);
    assert_eq!((rig.told(), rig.under_way()), (vec![], vec![]));
    rig.coordinator(true);
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::NONE)));
    rig.pass(2_999);
    assert_eq!((rig.told(), rig.under_way()), (vec![], vec![]));
    assert!(rig.machine.is_stable());
}

#[test]
fn the_sync_waits_for_a_coordinator_too() {
    let mut rig = Rig::joining(config());
    rig.coordinator(false);
    rig.answer(Api::JoinGroup, Ok(joined("m", 1)));
    assert_eq!(rig.under_way(), []);
    rig.coordinator(true);
    assert_eq!(rig.under_way(), [Api::SyncGroup]);
}

#[test]
fn an_answer_of_another_api_is_a_bug() {
    let caught = std::panic::catch_unwind(|| Rig::joining(config()).answer(Api::JoinGroup, Ok(heartbeat(ErrorCode::NONE))));
    assert!(caught.is_err());
}

#[test]
fn who_we_are_is_told() {
    let rig = Rig::stable(static_config());
    assert_eq!((&*rig.machine.config().group, rig.member().as_str()), ("g", "m/5"));
}

#[test]
fn who_wants_something_else_again_and_again_joins_at_once_each_time_and_is_not_told_off() {
    let mut rig = Rig::stable(config());
    for round in 0..20 {
        rig.subscribe(if round % 2 == 0 { &["t", "u"] } else { &["t"] });
        assert_eq!(rig.told(), ["rejoining", "release"]);
        rig.released();
        rig.answer(Api::JoinGroup, Ok(joined("m", 6 + round)));
        rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0)])));
        assert_eq!(rig.told(), [format!("assigned {}: t-0", 6 + round)]);
    }
}
