//! Cooperative members: what is held through a rebalance, what is handed back, and what the leader withholds.

use super::*;
use crate::{
    assignor::Sticky,
    wire::{decode_assignment, decode_cooperative, decode_sticky},
};

/// Compares what a JoinGroup under way says: "t-0 t-1 of generation 5".
#[track_caller]
fn check_claims(rig: &Rig, expected: &str) {
    let join = rig.asks.iter().find(|ask| ask.request.api() == Api::JoinGroup).expect("joins");
    for (_, blob) in &join_request(join).protocols {
        let claims = Subscription::decode(blob).expect("reads");
        let generation = claims.generation.unwrap_or(Generation::NONE);
        assert_eq!(format!("{} of generation {}", in_words(&claims.owned), generation.0), expected);
        let told = claims.user_data.map(|data| decode_cooperative(&data).expect("reads"));
        assert_eq!(told, Some(claims.generation), "for who reads no newer version");
    }
}

fn in_words(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What is to be released, as told last.
fn to_release(rig: &Rig) -> String {
    let release = rig.events.iter().find_map(|event| match event {
        GroupEvent::Release { partitions, .. } => Some(partitions),
        _ => None,
    });
    in_words(release.expect("something is to be released"))
}

/// Holds `t-0` and `t-1`, and joins the generation after 5.
fn rejoining_with_two() -> Rig {
    let mut rig = Rig::syncing(cooperative_config());
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1)])));
    rig.pass(3_000);
    rig.told();
    rig.answer(Api::Heartbeat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!(rig.told(), ["rejoining"], "nothing is released");
    check_claims(&rig, "t-0 t-1 of generation 5");
    rig
}

#[test]
fn what_is_kept_is_held_through_a_rebalance() {
    let mut rig = rejoining_with_two();
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1), ("t", 2)])));
    assert_eq!(rig.told(), ["assigned 6: t-2"]);
    assert!(rig.machine.is_stable());
}

/// The random walk found it: the end of the session had passed while nobody looked.
#[test]
fn what_is_held_is_lost_with_a_join_that_comes_to_nothing_after_the_session() {
    let mut rig = rejoining_with_two();
    rig.pass(45_000);
    assert_eq!(rig.told(), [""; 0], "a join may take as long as a rebalance");
    rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!(rig.told(), ["coordinator unknown", "lost", "rejoining"]);
}

/// Found by the simulation: a classic group that becomes one of KIP-848 in a rebalance has forgotten who had what, and gives it to others.
#[test]
fn what_a_coordinator_takes_that_assigns_is_handed_back_only_in_the_generation_in_which_it_was_given() {
    let leaderless = |generation| Response::JoinGroup(JoinGroupResponse { leader: "".into(), ..follower("m", generation) });
    let mut rig = rejoining_with_two();
    rig.answer(Api::JoinGroup, Ok(leaderless(5)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1)])));
    assert_eq!(to_release(&rig), "t-0");
    assert_eq!(rig.told(), ["assigned 5: ", "rejoining", "release"], "it waits for us");
    rig.released();
    rig.answer(Api::JoinGroup, Ok(leaderless(6)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1), ("t", 3)])));
    assert_eq!(rig.told(), ["assigned 6: t-3"]);

    // It has gone on without us; or it did not ask us to join, and has another count by now.
    let mut later = rejoining_with_two();
    later.answer(Api::JoinGroup, Ok(leaderless(6)));
    let mut unasked = Rig::syncing(cooperative_config());
    unasked.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("t", 1)])));
    unasked.subscribe(&["t", "u"]);
    unasked.told();
    unasked.answer(Api::JoinGroup, Ok(leaderless(5)));
    for (mut rig, generation) in [(later, 6), (unasked, 5)] {
        rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1), ("t", 3)])));
        let lost = rig.events.iter().find_map(|event| match event {
            GroupEvent::Lost { partitions, .. } => Some(in_words(partitions)),
            _ => None,
        });
        assert_eq!(lost.as_deref(), Some("t-0"), "it has not waited: it may be another's already");
        assert_eq!(rig.told(), ["lost".to_owned(), format!("assigned {generation}: t-3")]);
        assert!(rig.machine.is_stable());
    }
}

#[test]
fn what_goes_to_others_is_handed_back_in_the_new_generation() {
    let mut rig = rejoining_with_two();
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1), ("t", 3)])));
    assert_eq!(to_release(&rig), "t-0");
    assert_eq!(rig.told(), ["assigned 6: t-3", "rejoining", "release"]);
    assert!(rig.machine.may_commit());
    assert_eq!(rig.under_way(), [], "it is not given up before it is released");
    rig.released();
    check_claims(&rig, "t-1 t-3 of generation 6");
    rig.answer(Api::JoinGroup, Ok(joined("m", 7)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1), ("t", 3)])));
    assert_eq!(rig.told(), ["assigned 7: "]);
}

/// Nobody is to be asked for ever to hand back and take.
#[test]
fn a_leader_that_moves_partitions_in_every_round_is_not_followed_without_end() {
    let mut rig = rejoining_with_two();
    let mut waited = Duration::ZERO;
    for round in 0..6 {
        let since = rig.now;
        rig.next_ask();
        waited += rig.now - since;
        rig.answer(Api::JoinGroup, Ok(joined("m", 6 + round)));
        rig.answer(Api::SyncGroup, Ok(synced(&[("t", round % 2)])));
        rig.released();
    }
    assert!(waited > Duration::from_millis(300), "{waited:?}");
}

#[test]
fn what_could_not_be_released_in_time_is_lost_and_nothing_else() {
    let mut rig = rejoining_with_two();
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 1)])));
    rig.told();
    for _ in 0..99 {
        rig.pass(3_000);
        if let Some(beat) = rig.asks.pop_if(|ask| ask.request.api() == Api::Heartbeat) {
            rig.answer_to(&beat, Ok(heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)));
        }
    }
    assert_eq!(rig.told(), ["lost"]);
    check_claims(&rig, "t-1 of generation 6");
}

/// Its claim is as old as what it holds, not as the round that came to nothing.
#[test]
fn a_round_that_comes_to_nothing_leaves_what_is_held_and_its_generation() {
    let mut rig = rejoining_with_two();
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.answer(Api::SyncGroup, Ok(sync_error(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!(rig.told(), [""; 0]);
    rig.next_ask();
    check_claims(&rig, "t-0 t-1 of generation 5");
    rig.answer(Api::JoinGroup, lost());
    assert_eq!(rig.told(), ["coordinator unknown"]);
    rig.coordinator(true);
    rig.next_ask();
    check_claims(&rig, "t-0 t-1 of generation 5");
}

#[test]
fn who_is_not_known_any_more_has_lost_what_it_held() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION] {
        let mut rig = rejoining_with_two();
        rig.answer(Api::JoinGroup, Ok(join_error(code)));
        assert_eq!(rig.told()[0], "lost", "{code}");
        rig.next_ask();
        check_claims(&rig, " of generation 5");
    }
}

#[test]
fn what_is_held_between_two_generations_is_lost_when_the_session_ends() {
    let mut rig = rejoining_with_two();
    rig.answer(Api::JoinGroup, lost());
    rig.told();
    rig.pass(44_000);
    assert_eq!(rig.told(), [""; 0]);
    rig.pass(2_000);
    assert_eq!(rig.told(), ["lost", "rejoining"]);
}

#[test]
fn no_join_is_written_while_a_commit_is_under_way() {
    let mut rig = Rig::stable(cooperative_config());
    rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
    assert!(rig.machine.poll_ask(rig.now, false).is_none());
    assert!(rig.machine.poll_timeout(false).is_some_and(|(at, _)| at > rig.now), "it would be asked in vain");
    rig.drain();
    check_claims(&rig, "t-0 of generation 5");
}

#[test]
fn who_offers_an_eager_assignor_too_hands_everything_back() {
    let both = GroupConfig { assignors: vec![Arc::new(CooperativeSticky), Arc::new(Range)], ..config() };
    let mut rig = Rig::rejoining(both);
    let join = rig.take(Api::JoinGroup);
    for (name, blob) in &join_request(&join).protocols {
        let claims = Subscription::decode(blob).expect("reads");
        assert_eq!((claims.owned, claims.generation, claims.user_data), (Vec::new(), None, None), "{name}");
    }
}

#[test]
fn an_eager_sticky_member_tells_what_it_had() {
    let mut rig = Rig::rejoining(GroupConfig { assignors: vec![Arc::new(Sticky), Arc::new(Range)], ..config() });
    let join = rig.take(Api::JoinGroup);
    let [sticky, range] = [0, 1].map(|n| Subscription::decode(&join_request(&join).protocols[n].1).expect("reads"));
    let (had, generation) = decode_sticky(&sticky.user_data.expect("tells")).expect("reads");
    assert_eq!(
        (in_words(&had), generation, sticky.owned, range.user_data),
        ("t-0".into(), Some(Generation(5)), Vec::new(), None)
    );
}

#[test]
fn a_topic_that_is_not_wanted_any_more_is_handed_back_first() {
    let mut rig = Rig::joining(cooperative_config());
    rig.subscribe(&["t", "u"]);
    rig.answer(Api::JoinGroup, Ok(joined("m", 5)));
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    rig.answer(Api::SyncGroup, Ok(synced(&[("t", 0), ("u", 0)])));
    rig.told();
    rig.subscribe(&["t"]);
    assert_eq!(to_release(&rig), "u-0");
    rig.released();
    rig.next_ask();
    check_claims(&rig, "t-0 of generation 6");
}

/// A commit between JoinGroup and SyncGroup is refused: what is held would be given up without.
#[test]
fn who_unsubscribes_in_the_middle_of_a_rebalance_hands_back_in_the_next_generation_and_leaves() {
    let mut rig = rejoining_with_two();
    rig.subscribe(&[]);
    rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
    assert!(!rig.machine.may_commit());
    assert_eq!(rig.told(), [""; 0]);
    let join = rig.take(Api::JoinGroup);
    let said = Subscription::decode(&join_request(&join).protocols[0].1).expect("reads");
    assert_eq!((said.topics, in_words(&said.owned)), (vec![], "t-0 t-1".to_owned()));
    rig.answer_to(&join, Ok(joined("m", 7)));
    rig.answer(Api::SyncGroup, Ok(synced(&[])));
    assert_eq!(to_release(&rig), "t-0 t-1");
    assert!(rig.machine.may_commit());
    rig.released();
    assert_eq!(rig.under_way(), [Api::LeaveGroup]);
}

/// Whom the leader gives what, if the members want all of `t`, and claim `(member, generation, partitions)`.
#[track_caller]
fn check_given(claims: &[(&str, i32, &[i32])], partitions: i32, expected: &[(&str, &str)]) {
    let mut rig = Rig::joining(cooperative_config());
    rig.metadata(&[("t", partitions)]);
    let members = claims.iter().map(|&(id, generation, owned)| {
        let owned = owned.iter().map(|&n| TopicPartition::new("t", n)).collect();
        let topics = vec!["t".into()];
        let generation = Some(Generation(generation));
        let metadata = Subscription { topics, owned, generation, ..Subscription::default() }.encode();
        JoinedMember { member_id: id.into(), instance_id: None, metadata }
    });
    let answer = JoinGroupResponse { leader: "m".into(), members: members.collect(), ..follower("m", 5) };
    rig.answer(Api::JoinGroup, Ok(Response::JoinGroup(answer)));
    let sync = rig.take(Api::SyncGroup);
    let given: Vec<_> = sync_request(&sync)
        .assignments
        .iter()
        .map(|(member, blob)| (member.to_string(), in_words(&decode_assignment(blob).expect("reads").0)))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(m, p)| (m.to_string(), p.to_string())).collect();
    assert_eq!(given, expected);
}

#[test]
fn the_leader_gives_nobody_what_another_still_holds() {
    check_given(&[("m", 4, &[0, 1]), ("n", -1, &[])], 2, &[("m", "t-0"), ("n", "")]);
    check_given(&[("m", 5, &[0]), ("n", 5, &[])], 2, &[("m", "t-0"), ("n", "t-1")]);
}

#[test]
fn the_leader_believes_the_newer_claim_and_neither_of_two_as_new() {
    check_given(&[("m", 3, &[0]), ("n", 4, &[0])], 1, &[("m", ""), ("n", "t-0")]);
    check_given(&[("m", 4, &[0, 1]), ("n", 4, &[1])], 2, &[("m", "t-0"), ("n", "")]);
}
