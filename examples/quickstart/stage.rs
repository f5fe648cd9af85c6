//! Where the members play: a Kafka inside this process, or the one of `KAFKA_BOOTSTRAP_SERVERS`, with a topic of records.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kafka_harness::{Admin, DEFAULT_VERSION, Produce, eventually};
use ottla_mock::MockCluster;

const PARTITIONS: i32 = 4;
const RECORDS_PER_PARTITION: u64 = 5;
/// On a quiet machine a new topic has its leaders within milliseconds.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) struct Stage {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    kafka: Kafka,
}

enum Kafka {
    Embedded {
        _cluster: MockCluster,
    },
    /// Somebody's: the topic is deleted afterwards.
    Real(Admin),
}

impl Stage {
    pub(crate) async fn set() -> Result<Self> {
        match env::var("KAFKA_BOOTSTRAP_SERVERS") {
            Ok(bootstrap) => Self::real(bootstrap),
            Err(_) => Ok(Self::embedded().await),
        }
    }

    async fn embedded() -> Self {
        let (cluster, topic) = (MockCluster::start().await, "orders".to_owned());
        cluster.create_topic(&topic, PARTITIONS as usize);
        for partition in 0..PARTITIONS {
            cluster.append(&topic, partition, (0..RECORDS_PER_PARTITION).map(|number| format!("order {number}")));
        }
        println!("an embedded cluster; topic {topic}: {PARTITIONS} partitions, {RECORDS_PER_PARTITION} records in each");
        Self { bootstrap: cluster.bootstrap_servers(), topic, kafka: Kafka::Embedded { _cluster: cluster } }
    }

    /// Filling a topic is not what ottla is for: Java's own tools do it.
    fn real(bootstrap: String) -> Result<Self> {
        let admin = Admin::start(&bootstrap, DEFAULT_VERSION)?;
        let topic = format!("ottla-quickstart-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
        admin.create_topic(&topic, PARTITIONS, 1, &[])?;
        let is_led = || {
            let leaders = admin.leaders(&topic).unwrap_or_default();
            leaders.len() == PARTITIONS as usize && leaders.values().all(|partition| partition.leader >= 0)
        };
        if !eventually(LEADERS_TIMEOUT, is_led) {
            return Err(format!("{topic} has no leaders within {LEADERS_TIMEOUT:?}").into());
        }
        for partition in 0..PARTITIONS {
            admin.produce(&Produce { topic: &topic, partition, count: RECORDS_PER_PARTITION, ..Produce::default() })?;
        }
        println!("the Kafka at {bootstrap}; topic {topic}: {PARTITIONS} partitions, {RECORDS_PER_PARTITION} records in each");
        Ok(Self { bootstrap, topic, kafka: Kafka::Real(admin) })
    }

    pub(crate) fn clear(self) -> Result<()> {
        if let Kafka::Real(admin) = self.kafka {
            admin.delete_topic(&self.topic)?;
        }
        Ok(())
    }
}
