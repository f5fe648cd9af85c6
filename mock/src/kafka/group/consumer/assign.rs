//! The assignors of the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{DEFAULT_ASSIGNOR, Member, TopicPartitions};

type Members = BTreeMap<StrBytes, Member>;
type Targets = BTreeMap<StrBytes, TopicPartitions>;
/// Topics by name, with their ids and numbers of partitions.
type Metadata = BTreeMap<String, (Uuid, usize)>;

/// Computes every member's target by the assignor that most members prefer.
pub(super) fn assign(members: &Members, current: &Targets, topics: &Metadata) -> Targets {
    match preferred(members) {
        "range" => range(members, topics),
        _ => uniform(members, current, topics),
    }
}

pub(super) fn preferred(members: &Members) -> &str {
    let mut votes = BTreeMap::new();
    for assignor in members.values().filter_map(|member| member.assignor.as_deref()) {
        *votes.entry(assignor).or_insert(0) += 1;
    }
    // Of several with the same number of votes the default one is taken, or else the first by name.
    let most = votes.into_iter().max_by_key(|(name, count)| (*count, *name == DEFAULT_ASSIGNOR, std::cmp::Reverse(*name)));
    most.map_or(DEFAULT_ASSIGNOR, |(name, _)| name)
}

fn subscribers<'a>(members: &'a Members, topic: &str) -> Vec<&'a Member> {
    members.values().filter(|member| member.is_subscribed_to(topic)).collect()
}

/// Gives each member a run of neighbouring partitions of each topic.
fn range(members: &Members, topics: &Metadata) -> Targets {
    let mut targets = Targets::new();
    for (name, (id, partitions)) in topics {
        let mut subscribers = subscribers(members, name);
        // Static members keep their places over restarts.
        subscribers.sort_by_key(|member| (member.instance_id.is_none(), member.instance_id.clone(), member.id.clone()));
        let mut numbers = 0..i32::try_from(*partitions).unwrap_or(i32::MAX);
        let (each, more) = (partitions.checked_div(subscribers.len()), partitions.checked_rem(subscribers.len()));
        for (place, member) in subscribers.into_iter().enumerate() {
            let count = each.unwrap_or(0) + usize::from(place < more.unwrap_or(0));
            let run: BTreeSet<_> = numbers.by_ref().take(count).collect();
            if !run.is_empty() {
                targets.entry(member.id.clone()).or_default().insert(*id, run);
            }
        }
    }
    targets
}

/// Spreads all partitions evenly, and moves as few as it can.
fn uniform(members: &Members, current: &Targets, topics: &Metadata) -> Targets {
    let mut loads: BTreeMap<&StrBytes, Vec<(Uuid, i32)>> = members.keys().map(|id| (id, Vec::new())).collect();
    let mut wanted_by: BTreeMap<Uuid, BTreeSet<&StrBytes>> = BTreeMap::new();
    let mut free = Vec::new();
    for (name, (id, partitions)) in topics {
        let subscribers: BTreeSet<_> = subscribers(members, name).into_iter().map(|member| &member.id).collect();
        for number in 0..i32::try_from(*partitions).unwrap_or(i32::MAX) {
            let has =
                |member: &&&StrBytes| current.get(**member).and_then(|of| of.get(id)).is_some_and(|of| of.contains(&number));
            match subscribers.iter().find(has) {
                Some(owner) => loads.entry(owner).or_default().push((*id, number)),
                None => free.push((*id, number)),
            }
        }
        wanted_by.insert(*id, subscribers);
    }
    for partition in free {
        let least = wanted_by[&partition.0].iter().min_by_key(|member| loads[**member].len()).copied();
        if let Some(least) = least {
            loads.entry(least).or_default().push(partition);
        }
    }
    while let Some((from, at, to)) = find_move(&loads, &wanted_by) {
        let partition = loads.get_mut(from).expect("it is a member").remove(at);
        loads.entry(to).or_default().push(partition);
    }
    let mut targets = Targets::new();
    for (member, partitions) in loads {
        for (topic, number) in partitions {
            targets.entry(member.clone()).or_default().entry(topic).or_default().insert(number);
        }
    }
    targets
}

/// Finds a partition whose move makes the loads more even; each such move makes their squares' sum smaller, so they come to an end.
fn find_move<'a>(
    loads: &BTreeMap<&'a StrBytes, Vec<(Uuid, i32)>>,
    wanted_by: &BTreeMap<Uuid, BTreeSet<&'a StrBytes>>,
) -> Option<(&'a StrBytes, usize, &'a StrBytes)> {
    let mut heaviest: Vec<_> = loads.iter().collect();
    heaviest.sort_by_key(|(member, partitions)| (std::cmp::Reverse(partitions.len()), **member));
    for (from, partitions) in heaviest {
        // The newest first: what a member has had for long stays.
        for (at, (topic, _)) in partitions.iter().enumerate().rev() {
            let least = wanted_by[topic].iter().min_by_key(|member| loads[**member].len()).copied();
            if let Some(to) = least.filter(|to| loads[to].len() + 1 < partitions.len()) {
                return Some((from, at, to));
            }
        }
    }
    None
}
