//! What a test sees of groups, and does to them.

use std::collections::BTreeMap;

use super::{Kafka, MemberView, context};

/// The producer that leaves offsets pending for a test: none that a client could have.
const PENDING_PRODUCER: i64 = -7;

impl Kafka {
    /// Returns what a group has committed, by topic and partition: the next offset to read.
    #[must_use]
    pub fn committed(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        self.groups.committed(group)
    }

    /// Returns who is in a group, with what each was assigned.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<MemberView> {
        self.groups.members(group)
    }

    /// Names a group's state as Kafka does: `Stable`, `PreparingRebalance`, …; `None` if there is no such group.
    #[must_use]
    pub fn group_state(&self, group: &str) -> Option<&'static str> {
        self.groups.state(group)
    }

    /// Returns a group's generation, or epoch.
    #[must_use]
    pub fn generation(&self, group: &str) -> Option<i32> {
        self.groups.generation(group)
    }

    /// Tells of all groups in words, for a test that fails.
    #[must_use]
    pub fn describe_groups(&self) -> String {
        let groups = self.groups.groups();
        let group = |group: &String| {
            let (state, members) = (self.group_state(group).unwrap_or_default(), self.members(group));
            format!("group {group}: {state}, members {members:?}, committed {:?}\n", self.committed(group))
        };
        groups.iter().map(group).collect()
    }

    /// Makes a group rebalance: its members have to join again.
    pub fn rebalance(&mut self, group: &str) {
        self.groups.rebalance(context!(self), group);
        self.settle();
    }

    /// Takes a member out of its group as if its session had ended.
    pub fn expel(&mut self, group: &str, member_id: &str) {
        self.groups.expel(context!(self), group, member_id);
        self.settle();
    }

    /// Stores an offset for a group, as somebody with Kafka's tools would.
    pub fn store_offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.groups.store_offset(context!(self), group, topic, partition, offset);
        self.settle();
    }

    /// Leaves an offset with a group that belongs to a transaction which has not ended: whoever asks for stable offsets has to wait.
    pub fn leave_offset_pending(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.groups.leave_pending(context!(self), PENDING_PRODUCER, group, (topic, partition), offset);
    }

    /// Ends the transactions of [`leave_offset_pending`](Self::leave_offset_pending): their offsets are stored, or forgotten.
    pub fn settle_pending_offsets(&mut self, is_committed: bool) {
        self.groups.end_transaction(context!(self), PENDING_PRODUCER, is_committed);
        self.settle();
    }
}
