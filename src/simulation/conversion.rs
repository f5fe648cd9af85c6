//! Groups that go from one group protocol to the other, and their members.

use std::sync::Arc;

use ottla_mock::{Api, Settings};

use super::{
    user::Records,
    world::{GROUP, World, builder, secs},
};
use crate::{
    assignor::{Assignor, CooperativeSticky},
    model::{GroupProtocol, TopicPartition},
};

fn join(world: &mut World, protocol: GroupProtocol) -> usize {
    world.join(builder().group_protocol(protocol), |consumer| Records::AtLeastOnce(consumer.at_least_once()))
}

/// Who leaves the choice to us is a member by whichever protocol the group is of, also when that changes behind its back. Here the broker
/// converts none that has members.
#[test]
fn a_member_follows_its_group_from_one_protocol_to_the_other() {
    let mut settings = Settings::default();
    settings.consumer_group_migration = false;
    let mut world = World::seeded(2, 7, settings);
    let classic = join(&mut world, GroupProtocol::Classic);
    world.produce(0, 10);
    world.finish(secs(5));
    let member = join(&mut world, GroupProtocol::Auto);
    let third = join(&mut world, GroupProtocol::Classic);
    world.run_until(secs(20), |world| world.clients[third].holds.len() == 1 || world.clients[member].holds.len() == 1);
    world.close(third, secs(5));
    world.run_until(secs(20), |world| [classic, member].iter().all(|&client| world.clients[client].holds.len() == 1));
    world.produce(0, 10);
    world.produce(1, 10);
    world.finish(secs(5));
    // It is away while the last classic member leaves, and the group begins anew by the other protocol.
    world.freeze(member, true);
    world.close(classic, secs(5));
    world.run(secs(12));
    let other = join(&mut world, GroupProtocol::Consumer);
    world.run_until(secs(20), |world| world.clients[other].holds.len() == 2);
    world.freeze(member, false);
    world.run_until(secs(20), |world| [member, other].iter().all(|&client| world.clients[client].holds.len() == 1));
    world.produce(0, 10);
    world.produce(1, 10);
    world.finish(secs(5));
    assert_eq!((world.problem_kinds(member), world.repeats()), (vec![], 0));
    assert_eq!(world.clients[member].said("Lost").len(), 1);
}

/// What a cooperative member keeps it reads on, into a consumer group and out of it again.
#[test]
fn what_is_kept_flows_while_the_group_is_converted() {
    let mut world = World::new(4);
    let cooperative: [Arc<dyn Assignor>; 1] = [Arc::new(CooperativeSticky)];
    let stays = world.join(builder().assignors(cooperative), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    (0..4).for_each(|partition| world.produce(partition, 10));
    world.finish(secs(10));
    let comes = join(&mut world, GroupProtocol::Consumer);
    world.run_until(secs(20), |world| [stays, comes].iter().all(|&client| world.clients[client].holds.len() == 2));
    let kept: Vec<_> = world.clients[stays].holds.keys().cloned().collect();
    (0..4).for_each(|partition| world.produce(partition, 10));
    world.finish(secs(10));
    world.close(comes, secs(5));
    world.run_until(secs(20), |world| world.clients[stays].holds.len() == 4);
    assert!(world.kafka.members(GROUP)[0].is_leader, "a classic group has a leader");
    (0..4).for_each(|partition| world.produce(partition, 10));
    world.finish(secs(10));
    let taken: Vec<_> = world.clients[stays].events.iter().filter(|(_, event)| event.starts_with("Revok")).collect();
    let is_kept =
        |of: &TopicPartition| taken.iter().all(|(_, event)| !event.contains(&format!("{}-{}", of.topic(), of.partition())));
    assert!(!taken.is_empty() && kept.iter().all(is_kept), "{kept:?}: {taken:?}");
    assert_eq!((world.problem_kinds(stays), world.problem_kinds(comes), world.repeats()), (vec![], vec![], 0));
}

/// Found by the simulation: a member that was put out, as a tool may do, of a group that became a classic one for that, took it for the end.
#[test]
fn a_member_that_is_put_out_finds_its_group_classic_and_converts_it_again() {
    let mut world = World::new(2);
    let classic = join(&mut world, GroupProtocol::Classic);
    let modern = join(&mut world, GroupProtocol::Consumer);
    let is_shared = |world: &World| [classic, modern].iter().all(|&client| world.clients[client].holds.len() == 1);
    world.run_until(secs(20), is_shared);
    let joins = world.count(Api::JoinGroup);
    let members = world.kafka.members(GROUP);
    let is_modern = |id: &str| world.clients[modern].events.iter().any(|(_, event)| event.contains(id));
    let which = members.iter().position(|member| is_modern(&member.member_id)).expect("it is a member");
    world.expel(GROUP, which);
    assert_eq!(world.kafka.group_state(GROUP), Some("PreparingRebalance"), "a classic group, in which all have to join");
    world.run_until(secs(20), |world| !world.clients[modern].said("Lost").is_empty());
    world.run_until(secs(20), |world| is_shared(world) && world.count(Api::JoinGroup) > joins);
    assert!(world.kafka.members(GROUP).iter().all(|member| !member.is_leader), "nobody leads a consumer group");
    (0..2).for_each(|partition| world.produce(partition, 10));
    world.finish(secs(10));
    assert_eq!((world.problem_kinds(classic), world.problem_kinds(modern), world.repeats()), (vec![], vec![], 0));
}
