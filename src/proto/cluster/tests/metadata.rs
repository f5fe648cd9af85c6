//! Metadata: when it is asked for, and what is believed.

use std::{sync::Arc, time::Duration};

use super::world::{Mode, World, config, ms, names, secs, topic, topic_error};
use crate::{
    model::{BrokerId, LeaderEpoch, TopicId, TopicPartition},
    proto::{
        ProblemKind,
        cluster::{ClusterEvent, Wanted},
        selection::TopicPattern,
    },
    wire::{Api, Broker, ErrorCode, MetadataPartition, MetadataResponse, MetadataTopic, Request},
};

/// One broker or more, and a topic of one partition that broker 1 leads at epoch 5.
fn settled(brokers: i32) -> World {
    let mut world = World::new(brokers, config(&["b1"]));
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 5)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(ms(100));
    assert_eq!((world.partition("t", 0).leader, world.sent(Api::Metadata).len()), (Some(BrokerId(1)), 1));
    world
}

fn refresh(world: &mut World) {
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(3));
}

#[test]
fn it_is_asked_again_when_it_is_old_whatever_else_happens() {
    let mut world = settled(1);
    world.run(secs(3600));
    assert_eq!(world.sent(Api::Metadata).len(), 13);
    let changed = world.events.iter().filter(|(_, event)| *event == ClusterEvent::MetadataChanged).count();
    assert_eq!((changed, world.view().revision), (13, 1));
}

#[test]
fn a_new_topic_is_asked_about_at_once_and_an_old_one_is_forgotten() {
    let mut world = settled(1);
    world.topics.insert("u".into(), topic("u", None, &[(1, 0)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["u"])));
    assert!(!world.view().topics.contains_key("t"));
    world.run(ms(10));
    assert!(world.view().topics.contains_key("u"));
    let asked = world.sent(Api::Metadata).len();
    world.with(|cluster, now| cluster.want_topics(now, names(["u"])));
    world.run(secs(10));
    assert_eq!(world.sent(Api::Metadata).len(), asked, "nothing was new");
}

#[test]
fn a_topic_wanted_while_an_answer_is_on_its_way_is_asked_about_after_it() {
    let mut world = World::new(1, config(&["b1"]));
    world.topics.insert("t".into(), topic("t", None, &[(1, 0)]));
    world.topics.insert("u".into(), topic("u", None, &[(1, 0)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(Duration::from_micros(2500));
    assert_eq!(world.sent(Api::Metadata).len(), 1);
    world.with(|cluster, now| cluster.want_topics(now, names(["t", "u"])));
    world.run(ms(10));
    assert_eq!(world.view().topics.len(), 2);
    assert_eq!(world.sent(Api::Metadata).len(), 2);
}

#[test]
fn errors_cause_one_request_at_once_and_then_one_a_second() {
    let mut world = settled(1);
    let before = world.sent(Api::Metadata).len();
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(ms(2));
    assert_eq!(world.sent(Api::Metadata).len(), before + 1, "at once");
    for _ in 0..6000 {
        world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
        world.run(ms(10));
    }
    let asked = world.sent(Api::Metadata).len() - before;
    assert!((50..=85).contains(&asked), "{asked} in a minute");
    world.run(secs(10));
    let before = world.sent(Api::Metadata).len();
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(ms(2));
    assert_eq!(world.sent(Api::Metadata).len(), before + 1, "at once again after a calm time");
}

#[test]
fn a_missing_topic_is_told_once_after_three_seconds_and_found_within_seconds_even_after_an_hour() {
    for wait in [secs(10), secs(3600)] {
        let mut world = settled(2);
        world.with(|cluster, now| cluster.want_topics(now, names(["later", "t"])));
        world.run(ms(2900));
        assert!(world.problems().is_empty());
        assert_eq!(world.view().topics["later"].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "known to be missing at once");
        world.run(wait);
        assert_eq!(world.problem_kinds(), [ProblemKind::UnknownTopic]);
        let (at, problem) = world.problems()[0];
        assert!(at < ms(4500) && problem.what.contains("later") && !problem.fatal, "{at:?} {problem:?}");
        assert!(world.sent(Api::Metadata).len() < 1100, "{} requests", world.sent(Api::Metadata).len());
        world.topics.insert("later".into(), topic("later", None, &[(1, 0)]));
        world.run(ms(4900));
        assert_eq!(world.partition("later", 0).leader, Some(BrokerId(1)));
        world.topics.remove("later");
        refresh(&mut world);
        world.run(secs(4));
        assert_eq!(world.problem_kinds(), [ProblemKind::UnknownTopic; 2], "it fails anew");
    }
}

#[test]
fn a_topic_that_may_not_be_read_is_told_at_once_and_once() {
    let mut world = settled(1);
    world.topics.insert("secret".into(), topic_error("secret", ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    world.with(|cluster, now| cluster.want_topics(now, names(["secret", "t"])));
    world.run(secs(600));
    assert_eq!(world.problem_kinds(), [ProblemKind::Unauthorized]);
    let (at, problem) = world.problems()[0];
    assert!(at < ms(200) && problem.what.contains("secret") && problem.code == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    world.topics.insert("secret".into(), topic("secret", None, &[(1, 0)]));
    world.run(secs(5));
    assert_eq!(world.partition("secret", 0).leader, Some(BrokerId(1)));
}

#[test]
fn a_topic_that_one_broker_does_not_know_for_a_moment_is_kept() {
    let mut world = settled(1);
    world.topics.remove("t");
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(2));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(1)));
    world.run(secs(3));
    assert_eq!(world.view().topics["t"].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "deleted");
    assert!(world.view().topics["t"].partitions.is_empty());
}

#[test]
fn a_partition_without_a_leader_is_looked_after_until_it_has_one() {
    for leaderless in [topic("t", Some(1), &[(-1, 6)]), topic("t", Some(1), &[(77, 6)])] {
        let mut world = settled(1);
        world.topics.insert("t".into(), leaderless);
        world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
        world.run(secs(2));
        assert_eq!(world.partition("t", 0).leader, None);
        world.topics.insert("t".into(), topic("t", Some(1), &[(1, 7)]));
        world.run(ms(1300));
        assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(7)));
    }
}

#[test]
fn an_older_leader_epoch_is_not_believed() {
    let mut world = settled(2);
    world.topics.insert("t".into(), topic("t", Some(1), &[(2, 6)]));
    refresh(&mut world);
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(2)));
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 5)]));
    let revision = world.view().revision;
    refresh(&mut world);
    assert_eq!((world.partition("t", 0).leader, world.view().revision), (Some(BrokerId(2)), revision));
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 7)]));
    world.run(secs(2));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(1)), "the contradiction is followed up without another error");
}

#[test]
fn a_topic_does_not_lose_partitions_by_an_old_answer() {
    let mut world = settled(1);
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 5), (1, 1), (1, 1)]));
    refresh(&mut world);
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 6)]));
    refresh(&mut world);
    assert_eq!(world.view().topics["t"].partitions.len(), 3);
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(6)));
}

#[test]
fn a_topic_made_anew_begins_anew() {
    let mut world = settled(1);
    world.topics.insert("t".into(), topic("t", Some(2), &[(1, 0)]));
    refresh(&mut world);
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(0)));
    assert_eq!(world.view().topics["t"].id, Some(TopicId([2; 16])));
}

#[test]
fn a_topic_made_anew_on_brokers_without_topic_ids_is_believed_in_the_end() {
    let mut world = World::new(1, config(&["b1"]));
    world.topics.insert("t".into(), topic("t", None, &[(1, 5), (1, 5)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(secs(1));
    world.topics.insert("t".into(), topic("t", None, &[(1, 0)]));
    refresh(&mut world);
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(5)));
    world.run(secs(15));
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(0)));
    assert_eq!(world.view().topics["t"].partitions.len(), 1);
}

#[test]
fn a_broker_that_does_not_tell_topic_ids_does_not_take_them_away() {
    let mut world = settled(1);
    world.topics.insert("t".into(), topic("t", None, &[(1, 5)]));
    refresh(&mut world);
    assert_eq!(world.view().topics["t"].id, Some(TopicId([1; 16])));
}

#[test]
fn a_hint_is_taken_if_it_is_newer_and_its_broker_is_known() {
    let partition = TopicPartition::new("t", 0);
    let broker = Broker { id: BrokerId(9), host: "b9".into(), port: 9092, rack: None };
    let check = |leader: i32, epoch: i32, brokers: &[Broker], expected: i32| {
        let mut world = settled(2);
        world.with(|cluster, now| cluster.leader_hint(now, &partition, BrokerId(leader), LeaderEpoch(epoch), brokers));
        assert_eq!(world.partition("t", 0).leader, Some(BrokerId(expected)), "leader {leader} at epoch {epoch}");
        world
    };
    check(2, 6, &[], 2);
    check(2, 5, &[], 1);
    check(2, 4, &[], 1);
    check(9, 6, &[], 1);
    let world = check(9, 6, std::slice::from_ref(&broker), 9);
    assert_eq!(world.cluster.broker_name(BrokerId(9)), "broker 9 (b9:9092)");
    assert_eq!(world.view().revision, 2);
    let unknown = TopicPartition::new("t", 7);
    settled(1).with(|cluster, now| cluster.leader_hint(now, &unknown, BrokerId(1), LeaderEpoch(9), &[]));
}

#[test]
fn an_answer_that_names_no_broker_is_not_believed() {
    let mut world = settled(1);
    world.sim("b1").metadata =
        Some(MetadataResponse { error: ErrorCode::NONE, brokers: Vec::new(), cluster_id: None, topics: Vec::new() });
    refresh(&mut world);
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(1)));
    assert_eq!(world.cluster.broker_name(BrokerId(1)), "broker 1 (b1:9092)");
    world.sim("b1").metadata = None;
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 6)]));
    world.run(secs(2));
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(6)));
}

#[test]
fn partition_numbers_from_the_wire_size_nothing() {
    let mut world = settled(1);
    let mut hostile = topic("t", Some(1), &[(1, 6), (1, 6), (1, 6)]);
    let odd = |partition| MetadataPartition { partition, ..hostile.partitions[0].clone() };
    hostile.partitions = vec![odd(i32::MAX), odd(-1), odd(1)];
    world.topics.insert("t".into(), hostile);
    refresh(&mut world);
    assert_eq!(world.view().topics["t"].partitions.len(), 3);
}

#[test]
fn what_was_not_asked_about_is_not_taken_over() {
    let mut world = settled(1);
    let brokers = vec![Broker { id: BrokerId(1), host: "b1".into(), port: 9092, rack: None }];
    let topics = vec![topic("t", Some(1), &[(1, 6)]), topic("other", Some(3), &[(1, 6)])];
    world.sim("b1").metadata = Some(MetadataResponse { error: ErrorCode::NONE, brokers, cluster_id: None, topics });
    refresh(&mut world);
    assert_eq!(world.view().topics.keys().map(|name| &**name).collect::<Vec<_>>(), ["t"]);
}

#[test]
fn an_unsatisfying_answer_lets_the_next_question_go_to_another_broker() {
    let mut world = settled(3);
    // The broker that was asked so far is cut off from the others and knows nothing new.
    let stale = settled(3).sims.remove(&super::world::addr("b1")).map(|_| MetadataResponse {
        error: ErrorCode::NONE,
        brokers: (1..=3).map(|id| Broker { id: BrokerId(id), host: format!("b{id}").into(), port: 9092, rack: None }).collect(),
        cluster_id: None,
        topics: vec![topic("t", Some(1), &[(-1, 5)])],
    });
    world.sim("b1").metadata = stale;
    world.topics.insert("t".into(), topic("t", Some(1), &[(2, 6)]));
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(ms(300));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(2)));
}

#[test]
fn nonsense_instead_of_metadata_is_told_once_and_asked_about_with_a_back_off() {
    let mut world = settled(1);
    world.sim("b1").garbles.insert(Api::Metadata);
    let before = world.sent(Api::Metadata).len();
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(secs(50));
    assert_eq!(world.problem_kinds(), [ProblemKind::Protocol]);
    let asked = world.sent(Api::Metadata).len() - before;
    assert!((40..=70).contains(&asked), "{asked}");
}

#[test]
fn leaders_that_moved_off_a_killed_broker_are_known_within_a_second() {
    let mut world = settled(3);
    world.fail("b1", Mode::Refuses);
    world.topics.insert("t".into(), topic("t", Some(1), &[(2, 6)]));
    world.with(|cluster, now| cluster.refresh_metadata(now, "the connection to the leader was lost"));
    world.run(ms(300));
    assert_eq!(world.partition("t", 0).leader, Some(BrokerId(2)));
}

#[test]
fn it_asks_only_for_the_wanted_topics() {
    let world = settled(1);
    let asked = world.requests.iter().find(|request| request.3.api() == Api::Metadata).unwrap();
    assert_eq!(asked.3, Request::Metadata { topics: Some(vec!["t".into()]) });
}

/// What is wanted by pattern alone.
fn matching(included: &str) -> Wanted {
    let pattern = TopicPattern::new(&[included.to_owned()], &[], false).unwrap();
    Wanted { pattern: Some(Arc::new(pattern)), ..Wanted::default() }
}

fn view_of(world: &World) -> Vec<&str> {
    world.view().topics.keys().map(|name| &**name).collect()
}

fn matched(world: &World) -> Option<Vec<&str>> {
    Some(world.cluster.matching_topics()?.iter().map(|name| &**name).collect())
}

/// Topics t and u, of which the pattern matches both, and others.
fn settled_by_pattern() -> World {
    let mut world = World::new(1, config(&["b1"]));
    for name in ["t", "u", "other"] {
        world.topics.insert(name.into(), topic(name, None, &[(1, 0)]));
    }
    let internal = MetadataTopic { is_internal: true, ..topic("v", None, &[(1, 0)]) };
    world.topics.insert("v".into(), internal);
    world.with(|cluster, now| cluster.want_topics(now, matching("[tuv]")));
    assert_eq!(matched(&world), None, "nothing was asked yet");
    world.run(ms(100));
    assert_eq!((matched(&world), view_of(&world)), (Some(vec!["t", "u"]), vec!["t", "u"]));
    world
}

#[test]
fn what_matches_is_found_among_all_topics_and_nothing_else_is_kept() {
    let mut world = settled_by_pattern();
    let asked = world.requests.iter().find(|request| request.3.api() == Api::Metadata).unwrap();
    assert_eq!(asked.3, Request::Metadata { topics: None });
    world.run(secs(200));
    assert_eq!(world.sent(Api::Metadata).len(), 1, "nothing is missing");
    world.topics.insert("v".into(), topic("v", None, &[(1, 0)]));
    world.run(secs(101));
    assert_eq!(matched(&world), Some(vec!["t", "u", "v"]), "found when metadata are old");
    assert_eq!(world.problem_kinds(), []);
}

#[test]
fn a_topic_that_matched_is_over_when_it_has_been_missing_for_a_while_and_nobody_hears_of_it() {
    let mut world = settled_by_pattern();
    let gone = world.topics.remove("u").unwrap();
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(ms(2_900));
    assert_eq!(matched(&world), Some(vec!["t", "u"]), "a broker may not know of it yet");
    world.topics.insert("u".into(), gone);
    world.run(secs(2));
    world.topics.remove("u");
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(ms(2_900));
    assert_eq!(matched(&world), Some(vec!["t", "u"]), "it was there in between");
    world.run(secs(2));
    assert_eq!((matched(&world), view_of(&world)), (Some(vec!["t"]), vec!["t"]));
    let asked = world.sent(Api::Metadata).len();
    world.run(secs(200));
    assert_eq!(world.sent(Api::Metadata).len(), asked, "nothing is looked for");
    assert_eq!(world.problem_kinds(), []);
}

#[test]
fn a_topic_that_is_named_as_well_is_missed() {
    let mut world = settled_by_pattern();
    world.with(|cluster, now| cluster.want_topics(now, Wanted { pattern: matching("[tu]").pattern, ..names(["u", "w"]) }));
    world.run(secs(5));
    assert_eq!(world.problem_kinds(), [ProblemKind::UnknownTopic]);
    assert!(world.problems()[0].1.what.contains("topic w does not exist"));
    world.topics.remove("u");
    refresh(&mut world);
    world.run(secs(2));
    assert_eq!(world.problem_kinds(), [ProblemKind::UnknownTopic; 2]);
}

#[test]
fn that_nothing_matches_is_told_once_and_what_comes_is_found() {
    let mut world = settled_by_pattern();
    world.with(|cluster, now| cluster.want_topics(now, matching("x.*")));
    assert_eq!((matched(&world), view_of(&world)), (None, vec![]), "of another pattern nothing is known");
    world.run(ms(2_900));
    assert_eq!((matched(&world), world.problem_kinds()), (Some(vec![]), vec![]));
    world.run(secs(600));
    assert_eq!(world.problem_kinds(), [ProblemKind::UnknownTopic]);
    assert!(world.problems()[0].1.what.contains(r#"matches "x.*""#), "{}", world.problems()[0].1.what);
    world.topics.insert("xx".into(), topic("xx", None, &[(1, 0)]));
    world.run(secs(5));
    assert_eq!(matched(&world), Some(vec!["xx"]));
}

#[test]
fn that_nothing_matches_is_not_told_to_whom_reads_something_else() {
    let mut world = settled_by_pattern();
    world.with(|cluster, now| cluster.want_topics(now, Wanted { pattern: matching("x.*").pattern, ..names(["t"]) }));
    world.run(secs(200));
    assert_eq!((matched(&world), view_of(&world), world.problem_kinds()), (Some(vec![]), vec!["t"], vec![]));
    assert_eq!(world.sent(Api::Metadata).len(), 2, "nor is it looked for");
}

#[test]
fn an_answer_for_a_former_pattern_says_nothing_of_the_present_one() {
    let mut world = settled_by_pattern();
    world.with(|cluster, now| cluster.refresh_metadata(now, "test"));
    world.run(Duration::from_micros(500));
    assert_eq!(world.sent(Api::Metadata).len(), 2);
    world.with(|cluster, now| cluster.want_topics(now, matching("o.*")));
    world.run(Duration::from_micros(1_200));
    assert_eq!((matched(&world), world.sent(Api::Metadata).len()), (None, 3));
    world.run(ms(10));
    assert_eq!((matched(&world), view_of(&world)), (Some(vec!["other"]), vec!["other"]));
    // Without a pattern there is nothing to wait for, nor are all topics asked for.
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    assert_eq!(matched(&world), Some(vec![]));
    world.run(ms(10));
    assert_eq!(world.requests.last().unwrap().3, Request::Metadata { topics: Some(vec!["t".into()]) });
}

#[test]
fn of_what_is_still_held_the_leader_is_known_and_nobody_hears_that_it_is_gone() {
    let mut world = settled(1);
    let held = Wanted { held: names(["t"]).named, ..names([]) };
    world.with(|cluster, now| cluster.want_topics(now, held));
    assert_eq!(view_of(&world), ["t"]);
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 6)]));
    refresh(&mut world);
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(6)));
    world.topics.remove("t");
    refresh(&mut world);
    world.run(secs(10));
    assert_eq!(world.problem_kinds(), []);
    world.with(|cluster, now| cluster.want_topics(now, names([])));
    assert_eq!(view_of(&world), [""; 0]);
}

#[test]
fn a_broker_that_is_down_is_still_in_its_rack() {
    let mut world = settled(1);
    let mut told = topic("t", Some(1), &[(1, 5)]);
    told.partitions[0].replicas = [3, 1, 2].map(BrokerId).to_vec();
    let mut check = |racks: &[(i32, Option<&str>)], expected: &[&str]| {
        let broker = |&(id, rack): &(i32, Option<&str>)| {
            let rack = rack.map(Into::into);
            Broker { id: BrokerId(id), host: format!("b{id}").into(), port: 9092, rack }
        };
        let brokers = racks.iter().map(broker).collect();
        world.sim("b1").metadata =
            Some(MetadataResponse { error: ErrorCode::NONE, brokers, cluster_id: None, topics: vec![told.clone()] });
        refresh(&mut world);
        assert_eq!(world.partition("t", 0).racks.iter().map(|rack| &**rack).collect::<Vec<_>>(), expected);
        world.view().revision
    };
    let before = check(&[(1, Some("b")), (2, Some("a")), (3, Some("b"))], &["a", "b"]);
    assert_eq!(check(&[(1, Some("b"))], &["a", "b"]), before, "nothing has changed");
    let after = check(&[(1, None), (2, Some("c")), (3, Some("b"))], &["b", "c"]);
    assert_eq!(after, before + 1);
}

/// What is wanted by these ids, beside a topic by its name.
fn ids<const N: usize>(ids: [u8; N]) -> Wanted {
    Wanted { ids: ids.into_iter().map(|id| TopicId([id; 16])).collect(), ..names(["t"]) }
}

/// How often topics were asked for by their ids.
fn asked_by_id(world: &World) -> usize {
    world.requests.iter().filter(|(.., request)| matches!(request, Request::MetadataById { .. })).count()
}

#[test]
fn what_is_wanted_by_its_id_is_asked_for_until_it_is_known_and_then_by_its_name() {
    let mut world = settled(1);
    world.with(|cluster, now| cluster.want_topics(now, ids([1, 7, 8])));
    world.run(ms(10));
    let unknown = [7, 8].map(|id| TopicId([id; 16])).to_vec();
    assert_eq!(world.requests.last().unwrap().3, Request::MetadataById { topics: unknown }, "t is known, and has the id 1");
    world.run(secs(30));
    let asked = asked_by_id(&world);
    assert!((20..=60).contains(&asked), "{asked} in half a minute");
    world.topics.insert("u".into(), topic("u", Some(7), &[(1, 3)]));
    world.run(secs(2));
    assert_eq!((view_of(&world), world.view().topics["u"].id), (vec!["t", "u"], Some(TopicId([7; 16]))));
    assert_eq!(world.requests.last().unwrap().3, Request::MetadataById { topics: vec![TopicId([8; 16])] });
    world.topics.insert("v".into(), topic("v", Some(8), &[(1, 3)]));
    world.run(secs(2));
    assert_eq!(view_of(&world), ["t", "u", "v"]);
    let asked = asked_by_id(&world);
    refresh(&mut world);
    let all = ["t", "u", "v"].map(Arc::from).to_vec();
    assert_eq!(world.requests.last().unwrap().3, Request::Metadata { topics: Some(all) });
    world.run(secs(200));
    assert_eq!((asked_by_id(&world), world.problem_kinds()), (asked, vec![]));
    // Who has taken it on holds it by its name.
    let held = Wanted { held: names(["u"]).named, ..names(["t"]) };
    world.with(|cluster, now| cluster.want_topics(now, held));
    assert_eq!(view_of(&world), ["t", "u"]);
}

#[test]
fn looking_for_an_id_holds_up_nothing_that_is_wanted_by_name() {
    let mut world = settled(1);
    world.with(|cluster, now| cluster.want_topics(now, ids([7])));
    world.run(secs(5));
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 6)]));
    refresh(&mut world);
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(6)));
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 7)]));
    world.run(secs(301));
    assert_eq!(world.partition("t", 0).leader_epoch, Some(LeaderEpoch(7)), "metadata age, whatever is asked for by id");
}

#[test]
fn an_id_that_goes_unanswered_is_asked_for_again() {
    let mut world = settled(1);
    world.sim("b1").garbles.insert(Api::Metadata);
    world.with(|cluster, now| cluster.want_topics(now, ids([7])));
    world.run(secs(3));
    world.sim("b1").garbles.clear();
    world.topics.insert("u".into(), topic("u", Some(7), &[(1, 3)]));
    world.run(secs(3));
    assert_eq!(view_of(&world), ["t", "u"]);
}

#[test]
fn an_id_whose_topic_is_gone_is_looked_for_until_it_is_not_wanted_and_nobody_hears_of_it() {
    let mut world = settled(1);
    world.topics.insert("u".into(), topic("u", Some(7), &[(1, 3)]));
    world.with(|cluster, now| cluster.want_topics(now, ids([7])));
    world.run(secs(1));
    assert_eq!(view_of(&world), ["t", "u"]);
    world.topics.remove("u");
    refresh(&mut world);
    world.run(secs(10));
    assert_eq!((view_of(&world), world.problem_kinds()), (vec!["t"], vec![]));
    assert!(asked_by_id(&world) > 3, "perhaps one broker only does not know it");
    // Another of the name is another one.
    world.topics.insert("u".into(), topic("u", Some(8), &[(1, 3)]));
    world.run(secs(10));
    assert_eq!(view_of(&world), ["t"]);
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    let asked = asked_by_id(&world);
    world.run(secs(60));
    assert_eq!(asked_by_id(&world), asked);
}

#[test]
fn that_a_topic_which_was_assigned_may_not_be_described_is_told() {
    let mut world = settled(1);
    let refused = MetadataTopic { name: None, ..topic("u", Some(7), &[]) };
    let refused = MetadataTopic { error: ErrorCode::TOPIC_AUTHORIZATION_FAILED, ..refused };
    world.topics.insert("u".into(), refused);
    world.with(|cluster, now| cluster.want_topics(now, ids([7])));
    world.run(secs(50));
    assert_eq!(world.problem_kinds(), [ProblemKind::Unauthorized]);
    let what = &world.problems()[0].1.what;
    assert!(what.contains("id BwcHBwcHBwcHBwcHBwcHBw") && what.contains("Describe"), "{what}");
    world.topics.insert("u".into(), topic("u", Some(7), &[(1, 3)]));
    world.run(secs(5));
    assert_eq!(view_of(&world), ["t", "u"]);
}
