//! What a test does to the brokers, and to the network between them and their clients.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::{Kafka, Output, Request, Verdict};

impl Kafka {
    /// Lets `judge` decide what becomes of every request to this API, until [`heal`](Self::heal).
    ///
    /// Of several judges the first that does not say [`Verdict::Pass`] decides.
    pub fn intercept(&mut self, api: ApiKey, judge: impl FnMut(&Request<'_>) -> Verdict + Send + 'static) {
        self.faults.intercept(api, usize::MAX, Box::new(judge));
    }

    /// Lets the next `times` requests to this API have this fate.
    pub fn fail_next(&mut self, api: ApiKey, times: usize, verdict: Verdict) {
        if times > 0 {
            self.faults.intercept(api, times, Box::new(move |_| verdict.clone()));
        }
    }

    /// Answers of this broker take so much longer; zero makes it quick again.
    pub fn slow_broker(&mut self, broker: i32, by: Duration) {
        self.broker(broker);
        self.faults.slow(broker, by);
    }

    /// Answers to this API tell the client to wait so long, and its connection is not read from meanwhile (KIP-219).
    pub fn throttle(&mut self, api: ApiKey, time: Duration) {
        self.faults.throttle(api, i32::try_from(time.as_millis()).unwrap_or(i32::MAX));
    }

    /// Cuts a broker off from its clients, or ends that: connections stay, and nothing passes either way until then.
    pub fn isolate(&mut self, broker: i32, isolated: bool) {
        self.broker(broker);
        self.faults.isolate(broker, isolated);
        if !isolated {
            self.reconnect(broker);
        }
        self.settle();
    }

    /// Ends every connection to this broker, which goes on.
    pub fn disconnect(&mut self, broker: i32) {
        let conns: Vec<_> = self.connections.iter().filter(|(_, of)| of.broker == broker).map(|(conn, _)| *conn).collect();
        conns.into_iter().for_each(|conn| self.hang_up(conn));
    }

    /// Sends these bytes to every client of this broker, out of the blue.
    pub fn send_garbage(&mut self, broker: i32, bytes: &Bytes) {
        let conns = self.connections.iter().filter(|(_, of)| of.broker == broker).map(|(conn, _)| *conn);
        self.outputs.extend(conns.map(|conn| Output::Transmit(conn, bytes.clone())));
    }

    /// Ends all faults: judges, slowness, throttling, isolation. Brokers that are down stay down.
    pub fn heal(&mut self) {
        self.faults.heal();
        let ids: Vec<_> = self.brokers.ids().collect();
        ids.into_iter().for_each(|broker| self.reconnect(broker));
        self.settle();
    }

    /// Stops a broker as a crash does, before anybody has noticed: its connections end, what it led and coordinated stays with it.
    pub fn stop_broker(&mut self, broker: i32) {
        self.broker(broker).is_alive = false;
        self.disconnect(broker);
        self.settle();
    }

    /// Kills a broker: its connections end, and other replicas lead its partitions, other brokers coordinate its groups. A partition
    /// without another replica has no leader until the broker is back.
    pub fn kill_broker(&mut self, broker: i32) {
        let before = self.coordinators();
        self.broker(broker).is_alive = false;
        self.broker(broker).is_missed = true;
        self.disconnect(broker);
        self.elect_leaders();
        self.tell_moved(&before);
        self.settle();
    }

    /// Starts a broker again, with everything that it had.
    pub fn restart_broker(&mut self, broker: i32) {
        self.restart_broker_without(broker, 0);
    }

    /// Starts a broker again that has lost its last writes: partitions that nobody else has lose that many records.
    pub fn restart_broker_without(&mut self, broker: i32, records: i64) {
        let before = self.coordinators();
        self.broker(broker).is_alive = true;
        self.broker(broker).is_missed = false;
        self.forget_fetch_sessions(broker);
        if records > 0 {
            for (_, topic) in self.topics.iter_mut() {
                for partition in topic.partitions.iter_mut().filter(|partition| partition.replicas == [broker]) {
                    let end = partition.log.end() - records;
                    partition.log.truncate(end.max(partition.log.start()));
                }
            }
        }
        self.elect_leaders();
        self.tell_moved(&before);
        self.settle();
    }

    /// Lets another broker coordinate a group, or a transactional id; `None` leaves it without.
    pub fn move_coordinator(&mut self, key: &str, to: Option<i32>) {
        let before = self.coordinators();
        self.brokers.move_coordinator(key, to);
        self.tell_moved(&before);
        self.settle();
    }

    /// Says which broker coordinates a group, or a transactional id.
    #[must_use]
    pub fn coordinator(&self, key: &str) -> Option<i32> {
        self.brokers.coordinator_of(key)
    }

    /// Says which brokers are alive.
    #[must_use]
    pub fn brokers_alive(&self) -> Vec<i32> {
        self.brokers.alive().map(|(id, _)| id).collect()
    }

    /// Sets what clients are told of where a broker is.
    pub fn set_address(&mut self, broker: i32, host: &str, port: u16) {
        let broker = self.broker(broker);
        (broker.host, broker.port) = (host.to_owned(), port);
    }

    /// Sets the rack of a broker (`broker.rack`), for fetching from the closest replica.
    pub fn set_rack(&mut self, broker: i32, rack: Option<&str>) {
        self.broker(broker).rack = rack.map(str::to_owned);
    }

    #[track_caller]
    fn broker(&mut self, id: i32) -> &mut super::broker::Broker {
        let count = self.settings.brokers;
        self.brokers.get_mut(id).unwrap_or_else(|| panic!("there is no broker {id}: there are {count}, from 1"))
    }

    /// Finds leaders among the living, for partitions that have none.
    fn elect_leaders(&mut self) {
        let brokers = &self.brokers;
        for (_, topic) in self.topics.iter_mut() {
            for partition in &mut topic.partitions {
                let is_led = partition.leader.is_some_and(|leader| !brokers.is_missed(leader));
                if !is_led {
                    let leader = partition.replicas.iter().copied().find(|id| brokers.accepts(*id));
                    partition.elect(leader);
                }
            }
        }
    }

    /// Every group with the broker that coordinates it.
    fn coordinators(&self) -> Vec<(String, Option<i32>)> {
        self.groups.groups().into_iter().map(|group| (group.clone(), self.brokers.coordinator_of(&group))).collect()
    }

    fn tell_moved(&mut self, before: &[(String, Option<i32>)]) {
        for (group, was) in before {
            let is = self.brokers.coordinator_of(group);
            if is != *was {
                self.groups.coordinator_moved(super::context!(self), group);
            }
        }
    }

    /// Lets through what waited for the network.
    fn reconnect(&mut self, broker: i32) {
        for (conn, frame) in self.faults.take_held(broker) {
            self.transmit(conn, frame);
        }
        let conns: Vec<_> = self.connections.iter().filter(|(_, of)| of.broker == broker).map(|(conn, _)| *conn).collect();
        conns.into_iter().for_each(|conn| self.serve(conn));
    }
}
