//! The configuration files of brokers and ZooKeeper, for tests: small, quick, on loopback.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{
    cluster::{Listener, Options},
    error::{Error, Result},
    jars::Version,
};

/// Where each node of a cluster listens.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) brokers: Vec<u16>,
    pub(crate) controllers: Vec<u16>,
    pub(crate) zookeeper: u16,
    /// Other listeners than the plaintext one, each with a port for every broker.
    pub(crate) listeners: Vec<(&'static str, Vec<u16>)>,
}

impl Ports {
    pub(crate) fn free(nodes: usize, listeners: &[Listener]) -> Result<Self> {
        let mut all = free_ports((2 + listeners.len()) * nodes + 1)?;
        let zookeeper = all.pop().expect("one more than the brokers need");
        let mut each = all.chunks(nodes.max(1)).map(<[u16]>::to_vec);
        let mut next = || each.next().unwrap_or_default();
        let (brokers, controllers) = (next(), next());
        Ok(Self { brokers, controllers, zookeeper, listeners: listeners.iter().map(|one| (one.name, next())).collect() })
    }

    pub(crate) fn bootstrap(&self) -> String {
        addresses(&self.brokers)
    }

    pub(crate) fn bootstrap_of(&self, listener: &str) -> String {
        let found = self.listeners.iter().find(|(name, _)| *name == listener);
        addresses(&found.unwrap_or_else(|| panic!("there is no listener {listener}")).1)
    }
}

fn addresses(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
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
    let mut set = |name: &str, value: &str| {
        // A line in the value would be a line of the file.
        writeln!(lines, "{name}={}", value.replace('\n', "\\n")).expect("writing to a String cannot fail")
    };

    let mut client_listener = format!("PLAINTEXT://127.0.0.1:{broker}");
    let mut protocols = "PLAINTEXT:PLAINTEXT".to_owned();
    for (listener, (name, ports)) in options.listeners.iter().zip(&ports.listeners) {
        client_listener += &format!(",{name}://127.0.0.1:{}", ports[id - 1]);
        protocols += &format!(",{name}:{}", listener.protocol);
        for (setting, value) in &listener.conf {
            set(&format!("listener.name.{}.{setting}", name.to_lowercase()), value);
        }
    }
    if !options.listeners.is_empty() {
        set("inter.broker.listener.name", "PLAINTEXT");
    }
    if version.has_kraft() {
        let voters =
            ports.controllers.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        set("process.roles", "broker,controller");
        set("node.id", &id.to_string());
        set("controller.quorum.voters", &voters);
        set("controller.listener.names", "CONTROLLER");
        set("listeners", &format!("{client_listener},CONTROLLER://127.0.0.1:{controller}"));
        set("listener.security.protocol.map", &format!("{protocols},CONTROLLER:PLAINTEXT"));
    } else {
        set("broker.id", &id.to_string());
        set("zookeeper.connect", &format!("127.0.0.1:{}", ports.zookeeper));
        set("zookeeper.connection.timeout.ms", "30000");
        set("listeners", &client_listener);
        if !options.listeners.is_empty() {
            set("listener.security.protocol.map", &protocols);
        }
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
        let ports = Ports { brokers: vec![1], controllers: vec![2], zookeeper: 3, listeners: Vec::new() };
        let lines = broker(&options, Version(4, 3), &ports, 1, Path::new("/data"));
        assert!(lines.ends_with("group.min.session.timeout.ms=100\n"), "{lines}");
        assert!(lines.contains("listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n"), "{lines}");
    }

    #[test]
    fn every_listener_has_its_port_its_protocol_and_its_settings() {
        let conf = vec![("ssl.keystore.key".to_owned(), "two\nlines".to_owned())];
        let options = Options { listeners: vec![Listener { name: "TLS", protocol: "SSL", conf }], ..Options::default() };
        let ports = Ports::free(2, &options.listeners).unwrap();
        let lines = broker(&options, Version(4, 3), &ports, 2, Path::new("/data"));
        assert!(lines.contains(&format!(",TLS://127.0.0.1:{},CONTROLLER:", ports.listeners[0].1[1])), "{lines}");
        assert!(lines.contains("map=PLAINTEXT:PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT\n"), "{lines}");
        assert!(lines.contains("listener.name.tls.ssl.keystore.key=two\\nlines\n"), "{lines}");
        assert_eq!(ports.bootstrap_of("TLS").split(',').count(), 2);
    }

    #[test]
    fn old_brokers_get_a_zookeeper_and_no_setting_they_do_not_know() {
        let ports = Ports { brokers: vec![1], controllers: vec![2], zookeeper: 3, listeners: Vec::new() };
        let lines = broker(&Options::default(), Version(2, 1), &ports, 1, Path::new("/data"));
        assert!(lines.contains("zookeeper.connect=127.0.0.1:3\n"), "{lines}");
        assert!(!lines.contains("replica.selector") && !lines.contains("process.roles"), "{lines}");
    }
}
