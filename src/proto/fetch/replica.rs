//! Reading from a replica that is nearer than the leader (KIP-392).
//!
//! A leader that is told our rack names such a replica instead of sending records, if its broker is set up to (`replica.selector.class`). It is
//! asked until its lease ends, and then the leader again, which may name another. A replica may be behind, or gone: whatever is wrong with what
//! it says, it is the leader's word that counts, and for a while that one is not told our rack, so that reading goes on.

use std::time::{Duration, Instant};

use super::{Fetcher, Node};
use crate::model::{BrokerId, TopicPartition};

/// How long a partition stays with its leader after a replica has failed it.
const SHUN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) broker: BrokerId,
    pub(super) until: Instant,
}

impl Fetcher {
    /// The leader has named a nearer replica.
    pub(super) fn go_to_replica(&mut self, now: Instant, partition: &TopicPartition, broker: BrokerId) {
        tracing::debug!(%partition, broker = broker.0, "reading from a nearer replica");
        self.move_to(partition, Some(Replica { broker, until: now + self.config.replica_lease }));
    }

    /// Asks the leader again, if it is a replica that is asked.
    pub(super) fn return_to_leader(&mut self, partition: &TopicPartition) {
        self.move_to(partition, None);
    }

    /// As `return_to_leader`, and stays there for a while.
    pub(super) fn shun_replicas(&mut self, now: Instant, partition: &TopicPartition, why: &str) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        if let Some(replica) = cursor.replica {
            tracing::debug!(%partition, broker = replica.broker.0, why, "the leader is asked again");
            cursor.shuns_replicas_until = Some(now + SHUN);
            self.return_to_leader(partition);
        }
    }

    /// As `shun_replicas`, for all that is read from `broker` without it being the leader.
    pub(super) fn shun_replica(&mut self, now: Instant, broker: BrokerId) {
        let Some(node) = self.nodes.get(&broker) else { return };
        let partitions: Vec<_> = node.cursors.iter().cloned().collect();
        for partition in partitions {
            self.shun_replicas(now, &partition, "it does not answer");
        }
    }

    fn move_to(&mut self, partition: &TopicPartition, replica: Option<Replica>) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let from = cursor.source();
        cursor.replica = replica;
        let to = cursor.source();
        if from != to {
            from.into_iter().for_each(|broker| self.leave(broker, partition));
            to.into_iter().for_each(|broker| self.join(broker, partition));
            self.changed = true;
        }
    }

    /// Counts a partition to the broker that it is read from.
    pub(super) fn join(&mut self, broker: BrokerId, partition: &TopicPartition) {
        self.nodes.entry(broker).or_insert_with(|| Node::new(&self.config)).cursors.insert(partition.clone());
    }

    pub(super) fn leave(&mut self, broker: BrokerId, partition: &TopicPartition) {
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.cursors.remove(partition);
            if node.is_done_with() {
                self.nodes.remove(&broker);
            }
        }
    }
}
