//! Partitions dealt to members of a rack in which they have a replica (KIP-881).
//!
//! Members and partitions are named by their places among those that are dealt to and dealt out. What is left in a rack
//! is the same for everybody there, so a partition is looked at once for each of its replicas, however many members there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

/// Whether it matters to members in these racks who gets which of the partitions: not if no partition is near anybody, nor if one is as near
/// as the other.
pub(super) fn matter<'a>(near: &BTreeSet<&str>, mut partitions: impl Iterator<Item = &'a [Arc<str>]> + Clone) -> bool {
    if near.is_empty() {
        return false;
    }
    let all: BTreeSet<&Arc<str>> = partitions.clone().flatten().collect();
    all.iter().any(|&rack| near.contains(&**rack)) && partitions.any(|racks| racks.len() < all.len())
}

/// How many partitions each member may still take.
#[derive(Debug)]
pub(super) struct Room {
    sure: Vec<usize>,
    /// Who may take one of those that are `more` than the sure ones.
    may_more: Vec<bool>,
    more: usize,
}

impl Room {
    /// `sure` for each member, and one more for `more` of those who `may_more`, whoever comes first.
    pub(super) fn new(sure: Vec<usize>, may_more: Vec<bool>, more: usize) -> Self {
        Self { sure, may_more, more }
    }

    fn is_left(&self, member: usize) -> bool {
        self.sure[member] > 0 || self.may_more[member] && self.more > 0
    }

    fn take(&mut self, member: usize) {
        if self.sure[member] > 0 {
            self.sure[member] -= 1;
        } else {
            self.may_more[member] = false;
            self.more -= 1;
        }
    }
}

/// The deal: first what is near, in one of two orders, then the rest.
#[derive(Debug)]
pub(super) struct Deal<'a> {
    /// The rack of each member that is in one.
    members: &'a [Option<&'a str>],
    /// The racks of each partition.
    partitions: &'a [Vec<&'a str>],
    room: Room,
    owners: Vec<Option<usize>>,
    /// Who has each partition so far, if somebody does, and how many each member gives away.
    holders: Vec<Option<usize>>,
    leaving: Vec<usize>,
}

impl<'a> Deal<'a> {
    pub(super) fn new(members: &'a [Option<&'a str>], partitions: &'a [Vec<&'a str>], room: Room) -> Self {
        Self {
            members,
            partitions,
            room,
            owners: vec![None; partitions.len()],
            holders: vec![None; partitions.len()],
            leaving: Vec::new(),
        }
    }

    /// Says who has the partitions so far, and how many of them each member gives away.
    pub(super) fn take_from(&mut self, holders: Vec<Option<usize>>, leaving: Vec<usize>) {
        (self.holders, self.leaving) = (holders, leaving);
    }

    /// Lets these members, one after the other, take the first of these partitions that are near, as many as they have room for. To one without
    /// a rack all are.
    pub(super) fn by_member(&mut self, members: impl Iterator<Item = usize>, partitions: Range<usize>) {
        let racks = |partition: usize| self.partitions[partition].iter().map(|&rack| Some(rack)).chain([None]);
        let mut ahead = group_by(partitions, racks);
        for member in members {
            let Some(ahead) = ahead.get_mut(&self.members[member]) else { continue };
            while self.room.is_left(member) {
                let Some(partition) = ahead.find(|&partition| self.is_to_have(partition)) else { break };
                self.give(partition, member);
            }
        }
    }

    /// Gives the partitions, one after the other, to the first member that is near and has room. One without a rack is near all.
    pub(super) fn by_partition(&mut self) {
        let mut ahead: BTreeMap<_, _> = group_by(0..self.members.len(), |member| [self.members[member]])
            .into_iter()
            .map(|(rack, members)| (rack, members.peekable()))
            .collect();
        for partition in 0..self.partitions.len() {
            let racks = self.partitions[partition].iter().map(|&rack| Some(rack)).chain([None]);
            let first = racks.filter_map(|rack| {
                let ahead = ahead.get_mut(&rack)?;
                while ahead.next_if(|&member| !self.room.is_left(member)).is_some() {}
                ahead.peek().copied()
            });
            if let Some(member) = first.min() {
                self.give(partition, member);
            }
        }
    }

    /// Gives the others, one after the other, to the first member that has room; says whose each partition is, if it is not its holder's still.
    pub(super) fn rest(mut self) -> Vec<Option<usize>> {
        let mut ahead = (0..self.members.len()).peekable();
        for partition in 0..self.partitions.len() {
            if self.is_to_have(partition) {
                while ahead.next_if(|&member| !self.room.is_left(member)).is_some() {}
                let Some(&member) = ahead.peek() else { break };
                self.give(partition, member);
            }
        }
        self.owners
    }

    fn is_to_have(&self, partition: usize) -> bool {
        self.owners[partition].is_none() && self.holders[partition].is_none_or(|holder| self.leaving[holder] > 0)
    }

    fn give(&mut self, partition: usize, member: usize) {
        self.room.take(member);
        self.owners[partition] = Some(member);
        if let Some(holder) = self.holders[partition] {
            self.leaving[holder] -= 1;
        }
    }
}

pub(super) fn names(racks: &[Arc<str>]) -> impl Iterator<Item = &str> {
    racks.iter().map(|rack| &**rack)
}

type ByRack<'a> = BTreeMap<Option<&'a str>, std::vec::IntoIter<usize>>;

fn group_by<'a, R: IntoIterator<Item = Option<&'a str>>>(
    all: impl Iterator<Item = usize>,
    racks: impl Fn(usize) -> R,
) -> ByRack<'a> {
    let mut grouped = BTreeMap::<_, Vec<usize>>::new();
    for one in all {
        racks(one).into_iter().for_each(|rack| grouped.entry(rack).or_default().push(one));
    }
    grouped.into_iter().map(|(rack, all)| (rack, all.into_iter())).collect()
}
