//! In which racks the replicas are.
//!
//! An answer leaves out a broker that is down, but its replicas are where they were: its rack is remembered, or every restart of a broker
//! would look as if they had moved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{BrokerId, Racks},
    wire::Broker,
};

/// More brokers than any cluster has. Where more were heard of in the course of time, those that are gone are forgotten.
const BROKERS_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct BrokerRacks {
    /// As each broker was last told of; one without a rack is not in it.
    racks: BTreeMap<BrokerId, Arc<str>>,
    /// Each set that partitions have, once: there are few, and many partitions.
    sets: BTreeSet<Racks>,
}

impl BrokerRacks {
    /// Takes in what an answer says of the brokers.
    pub(super) fn hear(&mut self, brokers: &[Broker]) {
        self.sets.retain(|set| Arc::strong_count(set) > 1);
        if self.racks.len() > BROKERS_MAX {
            self.racks.clear();
        }
        for broker in brokers {
            match &broker.rack {
                Some(rack) => _ = self.racks.insert(broker.id, Arc::clone(rack)),
                None => _ = self.racks.remove(&broker.id),
            }
        }
    }

    /// The racks of the brokers that have these replicas.
    pub(super) fn of(&mut self, replicas: &[BrokerId]) -> Racks {
        let mut racks: Vec<_> = replicas.iter().filter_map(|broker| self.racks.get(broker)).cloned().collect();
        racks.sort_unstable();
        racks.dedup();
        if let Some(known) = self.sets.get(&*racks) {
            return Arc::clone(known);
        }
        let racks = Racks::from(racks);
        self.sets.insert(Arc::clone(&racks));
        racks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32) -> Broker {
        Broker { id: BrokerId(id), host: "b".into(), port: 9092, rack: Some(format!("r{}", id % 2).into()) }
    }

    #[test]
    fn partitions_in_the_same_racks_share_one_set() {
        let mut racks = BrokerRacks::default();
        racks.hear(&[broker(1), broker(2), broker(3)]);
        let (one, other) = (racks.of(&[1, 2].map(BrokerId)), racks.of(&[2, 3, 1].map(BrokerId)));
        assert_eq!(*one, [Arc::from("r0"), Arc::from("r1")]);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(racks.of(&[BrokerId(4)]).is_empty());
    }

    #[test]
    fn what_is_not_used_any_more_is_forgotten() {
        let mut racks = BrokerRacks::default();
        racks.hear(&(0..=BROKERS_MAX as i32).map(broker).collect::<Vec<_>>());
        drop(racks.of(&[BrokerId(1)]));
        racks.hear(&[broker(2)]);
        assert_eq!((racks.racks.len(), racks.sets.len()), (1, 0));
    }
}
