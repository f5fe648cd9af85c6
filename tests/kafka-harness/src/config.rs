//! The configuration files of brokers and ZooKeeper, for tests: small, quick, on loopback.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{
    cluster::Options,
    error::{Error, Result},
    jars::Version,
};

/// Where each node of a cluster listens.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) brokers: Vec<u16>,
    pub(crate) controllers: Vec<u16>,
    pub(crate) zookeeper: u16,
}

impl Ports {
    pub(crate) fn free(nodes: usize) -> Result<Self> {
        let all = free_ports(2 * nodes + 1)?;
        Ok(Self { brokers: all[..nodes].to_vec(), controllers: all[nodes..2 * nodes].to_vec(), zookeeper: all[2 * nodes] })
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.brokers.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }
}

/// Finds ports that nobody listens on, below the range from which the system takes ports for outgoing connections: a broker that is
/// restarted must find its port free again.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    const FIRST: u16 = 10_000;
    const RANGE: u16 = 20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Another test program begins elsewhere.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(RANGE)) as u16;
    let free: Vec<_> = std::iter::repeat_with(|| FIRST + (start + TAKEN.fetch_add(1, Ordering::Relaxed) % RANGE) % RANGE)
        .take(usize::from(RANGE))
        .filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .take(count)
        .collect();
    if free.len() == count { Ok(free) } else { Err(Error::new("no free port on loopback")) }
}

/// Writes `server.properties` of broker `id`, counted from 1.
pub(crate) fn broker(options: &Options, version: Version, ports: &Ports, id: usize, data: &Path) -> String {
    let nodes = ports.brokers.len();
    let (broker, controller) = (ports.brokers[id - 1], ports.controllers[id - 1]);
    let mut lines = String::new();
    let mut set = |name: &str, value: &str| writeln!(lines, "{name}={value}").expect("writing to a String cannot fail");

    let client_listener = format!("PLAINTEXT://127.0.0.1:{broker}");
    if version.has_kraft() {
        let voters =
            ports.controllers.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        set("process.roles", "broker,controller");
        set("node.id", &id.to_string());
        set("controller.quorum.voters", &voters);
        set("controller.listener.names", "CONTROLLER");
        set("listeners", &format!("{client_listener},CONTROLLER://127.0.0.1:{controller}"));
        set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT");
    } else {
        set("broker.id", &id.to_string());
        set("zookeeper.connect", &format!("127.0.0.1:{}", ports.zookeeper));
        set("zookeeper.connection.timeout.ms", "30000");
        set("listeners", &client_listener);
    }
    set("advertised.listeners", &client_listener);
    set("log.dirs", &data.display().to_string());
    set("broker.rack", &format!("rack{id}"));
    if version >= Version(2, 4) {
        set("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector");
    }

    let replicas = if nodes < 3 { "1" } else { "3" };
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.replication.factor"), replicas);
        set(&format!("{topic}.num.partitions"), "4");
    }
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.min.isr"), "1");
    }
    set("group.initial.rebalance.delay.ms", "0");
    // A test of a dead member must not take Kafka's six seconds.
    set("group.min.session.timeout.ms", "500");
    set("auto.create.topics.enable", "false");
    set("delete.topic.enable", "true");
    set("log.cleaner.dedupe.buffer.size", "16777216");
    if nodes > 1 && version.has_kraft() {
        // Leaders move within seconds of a kill; by default it takes ten.
        set("broker.session.timeout.ms", "3000");
        set("broker.heartbeat.interval.ms", "500");
    }
    // Last: of two lines with one name Java takes the later.
    for (name, value) in &options.extra_conf {
        set(name, value);
    }
    lines
}

/// Writes `zoo.cfg`.
pub(crate) fn zookeeper(ports: &Ports, data: &Path) -> String {
    format!("dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", data.display(), ports.zookeeper)
}

/// Configures log4j 2, which logs for Kafka 4: warnings, and the line by which a broker says that it has started.
pub(crate) const LOG4J2: &str = "\
status=error
appender.a.name=A
appender.a.type=Console
appender.a.layout.type=PatternLayout
appender.a.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=WARN
rootLogger.appenderRef.a.ref=A
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=INFO
";

/// The same for log4j 1, which logs for Kafka before 4.
pub(crate) const LOG4J: &str = "\
log4j.rootLogger=WARN, A
log4j.appender.A=org.apache.log4j.ConsoleAppender
log4j.appender.A.layout=org.apache.log4j.PatternLayout
log4j.appender.A.layout.ConversionPattern=[%d] %p %m (%c)%n
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.logger.kafka.server.KafkaServer=INFO
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_never_given_twice() {
        let mut ports = [free_ports(7).unwrap(), free_ports(7).unwrap()].concat();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 14);
    }

    #[test]
    fn what_a_test_asks_for_comes_after_the_defaults() {
        let options = Options { extra_conf: vec![("group.min.session.timeout.ms".into(), "100".into())], ..Options::default() };
        let ports = Ports { brokers: vec![1], controllers: vec![2], zookeeper: 3 };
        let lines = broker(&options, Version(4, 3), &ports, 1, Path::new("/data"));
        assert!(lines.ends_with("group.min.session.timeout.ms=100\n"), "{lines}");
        assert!(lines.contains("listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n"), "{lines}");
    }

    #[test]
    fn old_brokers_get_a_zookeeper_and_no_setting_they_do_not_know() {
        let ports = Ports { brokers: vec![1], controllers: vec![2], zookeeper: 3 };
        let lines = broker(&Options::default(), Version(2, 1), &ports, 1, Path::new("/data"));
        assert!(lines.contains("zookeeper.connect=127.0.0.1:3\n"), "{lines}");
        assert!(!lines.contains("replica.selector") && !lines.contains("process.roles"), "{lines}");
    }
}
