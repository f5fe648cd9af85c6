//! What is done to brokers, and to the group from the broker's side.

use super::{
    story::Who,
    world::{GROUP, World},
};
use crate::model::TopicPartition;

impl World {
    /// Stops a broker as a crash does. What it led and coordinated stays with it until somebody moves it.
    pub(super) fn stop_broker(&mut self, broker: i32) {
        self.tell(Who::Operator, || format!("stops broker {broker}"));
        self.kafka.stop_broker(broker);
        self.drain_kafka();
    }

    /// Kills a broker; others take over what it led and coordinated.
    pub(super) fn kill_broker(&mut self, broker: i32) {
        self.tell(Who::Operator, || format!("kills broker {broker}"));
        self.kafka.kill_broker(broker);
        self.drain_kafka();
    }

    pub(super) fn restart_brokers(&mut self) {
        self.tell(Who::Operator, || "starts all brokers again".to_owned());
        for broker in 1..=3 {
            if !self.kafka.brokers_alive().contains(&broker) {
                self.kafka.restart_broker(broker);
            }
        }
        self.drain_kafka();
    }

    pub(super) fn move_coordinator(&mut self, to: i32) {
        self.move_coordinator_of(GROUP, Some(to));
    }

    pub(super) fn move_coordinator_of(&mut self, group: &str, to: Option<i32>) {
        self.tell(Who::Operator, || format!("lets broker {to:?} coordinate {group}"));
        self.kafka.move_coordinator(group, to);
        self.drain_kafka();
    }

    /// Makes the group begin a rebalance.
    pub(super) fn rebalance(&mut self) {
        self.rebalance_of(GROUP);
    }

    pub(super) fn rebalance_of(&mut self, group: &str) {
        self.tell(Who::Operator, || format!("rebalances {group}"));
        self.kafka.rebalance(group);
        self.drain_kafka();
    }

    /// The session of somebody in the group ends.
    pub(super) fn expel(&mut self, group: &str, which: usize) {
        let members = self.kafka.members(group);
        if let Some(member) = members.get(which % members.len().max(1)) {
            self.tell(Who::Operator, || format!("ends the session of {}", member.member_id));
            self.kafka.expel(group, &member.member_id);
            self.drain_kafka();
        }
    }

    /// Somebody else has committed this for the group, and finished what lies before it.
    pub(super) fn begin_at(&mut self, of: &TopicPartition, offset: i64) {
        self.kafka.store_offset(GROUP, of.topic(), of.partition(), offset);
        self.drain_kafka();
        self.excuse(of, offset);
    }

    /// What lies before an offset need not be finished by anybody.
    pub(super) fn excuse(&mut self, of: &TopicPartition, below: i64) {
        let at = self.elapsed();
        self.judge().excuse(at, of, below);
    }

    /// Half of a connection is gone: the broker has forgotten it, and the client does not know.
    pub(super) fn half_open(&mut self, client: usize, which: usize) {
        let links: Vec<_> =
            self.network.links().filter(|(id, link)| id.0 == client && !link.is_half_open).map(|(id, _)| id).collect();
        let Some(id) = links.get(which % links.len().max(1)).copied() else { return };
        let link = self.network.link(id).expect("listed");
        link.is_half_open = true;
        let (conn, broker) = (link.conn, link.broker);
        self.tell(Who::Operator, || {
            format!("breaks a connection of client {client} to broker {broker}, of which only the broker knows")
        });
        self.kafka.handle(self.now, ottla_mock::Input::Disconnected(conn));
        self.drain_kafka();
    }

    /// Ends all faults but those of clients.
    pub(super) fn heal(&mut self) {
        self.tell(Who::Operator, || "heals everything".to_owned());
        self.kafka.heal();
        self.network.heal(self.now);
        self.drain_kafka();
    }
}
