//! What the sticky assignors share: everybody keeps what it has, as far as that is fair.
//!
//! 1. *Keep*: each member keeps what it holds, of the topics it still wants.
//! 2. *Fill*: what nobody holds goes to whoever has least, topics with the fewest subscribers first.
//! 3. *Level*: a partition moves from who has most to who has least among the subscribers of its topic, as long as the two differ by more
//!    than one. Each move makes the sum of the squares smaller, so there is an end.
//!
//! Topics with the same subscribers are one class. There are few of those, mostly one, however many topics and partitions there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use super::{Assignment, GroupView, MemberOrder};
use crate::model::TopicPartition;

/// Assigns every partition that somebody wants, with as few moves as a fair share allows.
pub(super) fn balance(group: &GroupView) -> Assignment {
    let members = MemberOrder::of(group);
    let mut balance = Balance::new(group, &members);
    let left = balance.keep(&members);
    balance.fill(left);
    balance.level();
    balance.conclude(&members)
}

/// A member, by its place in the order.
type Place = usize;

struct Balance<'a> {
    topics: BTreeMap<&'a Arc<str>, Topic>,
    classes: Vec<Class>,
    /// The classes that each member subscribed to.
    classes_of: Vec<Vec<usize>>,
    /// How many partitions each member has.
    load: Vec<usize>,
}

struct Topic {
    class: usize,
    partitions: i32,
}

#[derive(Default)]
struct Class {
    subscribers: Vec<Place>,
    held: BTreeMap<Place, Vec<TopicPartition>>,
}

/// Who has how much, of one class.
struct Ranks {
    subscribers: BTreeSet<(usize, Place)>,
    /// Those of them who have something of the class to give.
    holders: BTreeSet<(usize, Place)>,
}

impl<'a> Balance<'a> {
    fn new(group: &'a GroupView, members: &MemberOrder<'a>) -> Self {
        let (mut topics, mut numbers) = (BTreeMap::new(), BTreeMap::<Vec<Place>, usize>::new());
        for (topic, partitions, subscribers) in members.subscribers(group).filter(|(_, _, subscribers)| !subscribers.is_empty()) {
            let next = numbers.len();
            let class = *numbers.entry(subscribers).or_insert(next);
            topics.insert(topic, Topic { class, partitions });
        }
        let mut classes: Vec<_> = numbers.iter().map(|_| Class::default()).collect();
        let mut classes_of = vec![Vec::new(); members.len()];
        for (subscribers, class) in numbers {
            subscribers.iter().for_each(|&place| classes_of[place].push(class));
            classes[class].subscribers = subscribers;
        }
        Self { topics, classes, classes_of, load: vec![0; members.len()] }
    }

    /// Lets each member keep what is its own; says what nobody has, by class.
    fn keep(&mut self, members: &MemberOrder<'a>) -> Vec<Vec<TopicPartition>> {
        let mut is_kept: BTreeMap<_, _> = self
            .topics
            .iter()
            .map(|(&topic, known)| (topic, vec![false; usize::try_from(known.partitions).unwrap_or(0)]))
            .collect();
        for place in 0..members.len() {
            for partition in &members.view(place).owned {
                let is_subscribed = members.is_subscribed(place, partition.topic());
                let kept = is_kept.get_mut(partition.shared_topic()).filter(|_| is_subscribed);
                let kept = kept.and_then(|kept| kept.get_mut(usize::try_from(partition.partition()).ok()?));
                if let Some(kept) = kept.filter(|kept| !**kept) {
                    *kept = true;
                    self.give(self.topics[partition.shared_topic()].class, place, partition.clone());
                }
            }
        }
        let mut left = vec![Vec::new(); self.classes.len()];
        for (topic, kept) in is_kept {
            let numbers = (0..).zip(kept).filter(|(_, kept)| !kept);
            left[self.topics[topic].class].extend(numbers.map(|(number, _)| TopicPartition::new(Arc::clone(topic), number)));
        }
        left
    }

    fn fill(&mut self, left: Vec<Vec<TopicPartition>>) {
        let mut left: Vec<_> = left.into_iter().enumerate().collect();
        left.sort_by_key(|&(class, _)| (self.classes[class].subscribers.len(), class));
        for (class, partitions) in left {
            let subscribers = &self.classes[class].subscribers;
            let mut least: BinaryHeap<_> = subscribers.iter().map(|&place| Reverse((self.load[place], place))).collect();
            for partition in partitions {
                let Some(mut first) = least.peek_mut() else { break };
                let place = first.0.1;
                first.0.0 += 1;
                drop(first);
                self.give(class, place, partition);
            }
        }
    }

    fn level(&mut self) {
        let mut ranks: Vec<_> = self.classes.iter().map(|class| Ranks::of(class, &self.load)).collect();
        loop {
            let gaps = ranks.iter().enumerate().filter_map(|(class, ranks)| Some((ranks.gap()?, class)));
            // The widest first: where all members want the same, nothing moves but what must.
            let Some(((gap, from, to), class)) = gaps.max_by_key(|&((gap, ..), class)| (gap, Reverse(class))) else { return };
            if gap <= 1 {
                return;
            }
            for place in [from, to] {
                self.classes_of[place].iter().for_each(|&class| ranks[class].remove(self.load[place], place));
            }
            let Some(partition) = self.classes[class].held.get_mut(&from).and_then(Vec::pop) else { return };
            self.load[from] -= 1;
            self.give(class, to, partition);
            for place in [from, to] {
                let holds = |class: usize| self.classes[class].held.get(&place).is_some_and(|held| !held.is_empty());
                self.classes_of[place].iter().for_each(|&class| ranks[class].insert(self.load[place], place, holds(class)));
            }
        }
    }

    fn give(&mut self, class: usize, to: Place, partition: TopicPartition) {
        self.load[to] += 1;
        self.classes[class].held.entry(to).or_default().push(partition);
    }

    fn conclude(self, members: &MemberOrder<'a>) -> Assignment {
        let mut assignment = members.empty_assignment();
        for (place, partitions) in self.classes.into_iter().flat_map(|class| class.held) {
            assignment.entry(members.id(place).clone()).or_default().extend(partitions);
        }
        assignment.values_mut().for_each(|partitions| partitions.sort_unstable());
        assignment
    }
}

impl Ranks {
    fn of(class: &Class, load: &[usize]) -> Self {
        let ranked = |place: Place| (load[place], place);
        let holders = class.held.iter().filter(|(_, held)| !held.is_empty()).map(|(&place, _)| ranked(place)).collect();
        Self { subscribers: class.subscribers.iter().map(|&place| ranked(place)).collect(), holders }
    }

    fn remove(&mut self, load: usize, place: Place) {
        self.subscribers.remove(&(load, place));
        self.holders.remove(&(load, place));
    }

    fn insert(&mut self, load: usize, place: Place, holds: bool) {
        self.subscribers.insert((load, place));
        if holds {
            self.holders.insert((load, place));
        }
    }

    /// By how much who has most exceeds who has least, and both.
    fn gap(&self) -> Option<(usize, Place, Place)> {
        let (&(most, from), &(least, to)) = (self.holders.last()?, self.subscribers.first()?);
        // A holder is a subscriber, so nobody has less than the least.
        Some((most - least, from, to))
    }
}
