//! What the sticky assignors share: everybody keeps what it has, as far as that is fair.
//!
//! 1. *Keep*: each member keeps what it holds, of the topics it still wants.
//! 2. *Fill*: what nobody holds goes to whoever has least, topics with the fewest subscribers first.
//! 3. *Level*: a partition moves from who has most to who has least among the subscribers of its topic, as long as the two differ by more
//!    than one. Each move makes the sum of the squares smaller, so there is an end.
//! 4. *Deal*: where racks matter (KIP-881), what goes, and to whom, is settled once more by them, now that it is known how much each member
//!    keeps and gets. So balance comes first, then that everybody keeps what it has, then that it is near.
//!
//! Topics with the same subscribers are one class. There are few of those, mostly one, however many topics and partitions there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use super::{
    Assignment, GroupView, MemberOrder,
    racks::{self, Deal, Room, names},
};
use crate::model::TopicPartition;

/// Assigns every partition that somebody wants, with as few moves as a fair share allows.
pub(super) fn balance(group: &GroupView) -> Assignment {
    let members = MemberOrder::of(group);
    let mut balance = Balance::new(group, &members);
    balance.keep(&members);
    balance.fill();
    balance.level();
    balance.deal(group, &members);
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
    held: BTreeMap<Place, Held>,
    /// What nobody had.
    left: Vec<TopicPartition>,
    racks_matter: bool,
}

/// What one member has, of one class: first what it had before, then what has come to it.
#[derive(Default)]
struct Held {
    partitions: Vec<TopicPartition>,
    kept: usize,
    /// What it had before, and has not any more.
    gone: Vec<TopicPartition>,
}

/// A partition that may be dealt.
struct Offer<'g> {
    partition: TopicPartition,
    /// Who has it, among the subscribers, and gives it away or keeps it.
    holder: Option<usize>,
    racks: &'g [Arc<str>],
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
        let mut balance = Self { topics, classes, classes_of, load: vec![0; members.len()] };
        if members.have_racks() && !group.partition_racks.is_empty() {
            balance.look_at_racks(group, members);
        }
        balance
    }

    fn look_at_racks(&mut self, group: &GroupView, members: &MemberOrder) {
        let mut topics = vec![Vec::new(); self.classes.len()];
        for (topic, known) in &self.topics {
            topics[known.class].push((topic, known.partitions));
        }
        for (class, topics) in self.classes.iter_mut().zip(topics) {
            let near = class.subscribers.iter().filter_map(|&place| members.rack(place)).collect();
            let partitions = topics.iter().flat_map(|(topic, partitions)| group.topic_racks(topic, *partitions));
            class.racks_matter = racks::matter(&near, partitions);
        }
    }

    /// Lets each member keep what is its own; finds what nobody has.
    fn keep(&mut self, members: &MemberOrder<'a>) {
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
        for held in self.classes.iter_mut().flat_map(|class| class.held.values_mut()) {
            held.kept = held.partitions.len();
        }
        for (topic, kept) in is_kept {
            let numbers = (0..).zip(kept).filter(|(_, kept)| !kept);
            let left = numbers.map(|(number, _)| TopicPartition::new(Arc::clone(topic), number));
            self.classes[self.topics[topic].class].left.extend(left);
        }
    }

    fn fill(&mut self) {
        let mut order: Vec<_> = (0..self.classes.len()).collect();
        order.sort_by_key(|&class| (self.classes[class].subscribers.len(), class));
        for class in order {
            let subscribers = &self.classes[class].subscribers;
            let mut least: BinaryHeap<_> = subscribers.iter().map(|&place| Reverse((self.load[place], place))).collect();
            for partition in self.classes[class].left.clone() {
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
            let Some(partition) = self.classes[class].held.get_mut(&from).and_then(Held::pop) else { return };
            self.load[from] -= 1;
            self.give(class, to, partition);
            for place in [from, to] {
                let holds = |class: usize| self.classes[class].held.get(&place).is_some_and(|held| !held.partitions.is_empty());
                self.classes_of[place].iter().for_each(|&class| ranks[class].insert(self.load[place], place, holds(class)));
            }
        }
    }

    fn give(&mut self, class: usize, to: Place, partition: TopicPartition) {
        self.load[to] += 1;
        self.classes[class].held.entry(to).or_default().partitions.push(partition);
    }

    fn deal(&mut self, group: &GroupView, members: &MemberOrder<'a>) {
        let most = self.load.iter().copied().max().unwrap_or(0);
        // Where all want the same, it is the same to all who has one more than others: whoever is near.
        let is_free = self.classes.len() == 1;
        for class in self.classes.iter_mut().filter(|class| class.racks_matter) {
            let (mut sure, mut may_more, mut more, mut leaving) = (Vec::new(), Vec::new(), 0, Vec::new());
            let offer = |partition: TopicPartition, holder| {
                let racks = group.racks(&partition);
                Offer { partition, holder, racks }
            };
            let mut offers: Vec<_> = class.left.drain(..).map(|partition| offer(partition, None)).collect();
            let mut near = Vec::new();
            for (nth, &place) in class.subscribers.iter().enumerate() {
                let held = class.held.entry(place).or_default();
                let came = held.partitions.len() - held.kept;
                let has_one_more = is_free && self.load[place] == most && came > 0;
                sure.push(came - usize::from(has_one_more));
                may_more.push(has_one_more || is_free && self.load[place] < most);
                more += usize::from(has_one_more);
                leaving.push(held.gone.len());
                held.partitions.truncate(held.kept);
                if !held.gone.is_empty() {
                    let had = held.partitions.drain(..).chain(held.gone.drain(..)).map(|partition| offer(partition, Some(nth)));
                    let (is_near, is_far): (Vec<_>, Vec<_>) = had.partition(|offer| members.is_near(place, offer.racks));
                    offers.extend(is_far);
                    near.extend(is_near);
                }
            }
            let far = offers.len();
            offers.extend(near);
            let racks: Vec<Vec<&str>> = offers.iter().map(|offer| names(offer.racks).collect()).collect();
            let in_racks: Vec<_> = class.subscribers.iter().map(|&place| members.rack(place)).collect();
            let mut deal = Deal::new(&in_racks, &racks, Room::new(sure, may_more, more));
            deal.take_from(offers.iter().map(|offer| offer.holder).collect(), leaving);
            // What is near to who has it goes last.
            for partitions in [0..far, 0..racks.len()] {
                deal.by_member((0..in_racks.len()).filter(|&nth| in_racks[nth].is_some()), partitions);
            }
            for (offer, owner) in offers.into_iter().zip(deal.rest()) {
                if let Some(nth) = owner.or(offer.holder) {
                    class.held.entry(class.subscribers[nth]).or_default().partitions.push(offer.partition);
                }
            }
        }
    }

    fn conclude(self, members: &MemberOrder<'a>) -> Assignment {
        let mut assignment = members.empty_assignment();
        for (place, held) in self.classes.into_iter().flat_map(|class| class.held) {
            assignment.entry(members.id(place).clone()).or_default().extend(held.partitions);
        }
        assignment.values_mut().for_each(|partitions| partitions.sort_unstable());
        assignment
    }
}

impl Held {
    fn pop(&mut self) -> Option<TopicPartition> {
        let last = self.partitions.pop();
        if self.partitions.len() < self.kept {
            self.kept = self.partitions.len();
            self.gone.extend(last.clone());
        }
        last
    }
}

impl Ranks {
    fn of(class: &Class, load: &[usize]) -> Self {
        let ranked = |place: Place| (load[place], place);
        let holders =
            class.held.iter().filter(|(_, held)| !held.partitions.is_empty()).map(|(&place, _)| ranked(place)).collect();
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
