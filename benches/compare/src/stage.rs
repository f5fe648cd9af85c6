//! A cluster, the topics on it, and the rounds that are played there.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use kafka_harness::{Admin, Cluster, DEFAULT_VERSION, Jvm, Options, eventually};

use crate::{
    clients::Client,
    fill::fill,
    measure::{self, Sample},
    plan::Plan,
    report::{ClientOutcome, Outcome},
    workload::Workload,
};

const TOPIC_TIMEOUT: Duration = Duration::from_secs(120);
const LOGS: &str = "target/bench/logs";
/// Nothing is read for its own sake before the broker's code is compiled, and its pages are in memory.
const WARM_UPS: usize = 2;

/// A cluster that is fit to be measured on.
pub(crate) struct Stage {
    cluster: Cluster,
    admin: Admin,
}

impl Stage {
    pub(crate) fn start(brokers: usize) -> Result<Self, String> {
        let options = Options { nodes: brokers, jvm: Jvm::Swift, ..Options::default() };
        let cluster = Cluster::start(options).map_err(|error| error.to_string())?;
        let admin = Admin::start(&cluster.bootstrap(), DEFAULT_VERSION).map_err(|error| error.to_string())?;
        Ok(Self { cluster, admin })
    }

    /// Fills a topic and lets every client read it, round after round.
    pub(crate) fn play(&self, workload: &Workload, clients: &[Client], plan: &Plan) -> Result<Outcome, String> {
        let since = Instant::now();
        let topic = format!("bench-{}", workload.name);
        let configs = [("retention.ms", "-1")];
        self.admin.create_topic(&topic, workload.partitions, 1, &configs).map_err(|error| error.to_string())?;
        // Until each leader knows that it is one, some refuse what comes.
        if !eventually(TOPIC_TIMEOUT, || {
            self.admin.end_offsets(&topic).is_ok_and(|ends| ends.len() as i32 == workload.partitions)
        }) {
            return Err(format!("{topic}: some partition had no leader within {TOPIC_TIMEOUT:?}"));
        }
        fill(&self.cluster.bootstrap(), &topic, workload.load).map_err(|error| error.to_string())?;
        println!("\n{}: filled in {:.1} s", workload.name, since.elapsed().as_secs_f32());
        fs::create_dir_all(LOGS).map_err(|error| format!("cannot make {LOGS}: {error}"))?;

        let outcome = |client: &Client| ClientOutcome {
            name: client.name,
            is_peer: client.is_peer,
            samples: Vec::new(),
            failures: Vec::new(),
        };
        let mut outcomes: Vec<_> = clients.iter().map(outcome).collect();
        for _ in 0..WARM_UPS {
            self.run(Client::raw(), workload, &topic, "warm-up")?;
        }
        for round in 1..=plan.rounds {
            for (client, outcome) in clients.iter().zip(&mut outcomes) {
                match self.run(client.command(), workload, &topic, &format!("{}-{round}", client.name)) {
                    Ok(sample) => outcome.samples.push(sample),
                    Err(what) => outcome.failures.push(what),
                }
            }
            println!("{}: round {round} of {}", workload.name, plan.rounds);
        }
        // The space is wanted for the next one; should it not be given back now, it is at the end.
        let _ = self.admin.delete_topic(&topic);
        Ok(Outcome::new(*workload, plan.rounds, outcomes))
    }

    fn run(&self, mut client: Command, workload: &Workload, topic: &str, name: &str) -> Result<Sample, String> {
        let wanted = workload.load.records;
        client.arg(format!("bootstrap={}", self.cluster.bootstrap())).arg(format!("topic={topic}"));
        client.arg(format!("group={topic}-{name}")).arg(format!("records={wanted}")).arg("commit_interval_ms=5000");
        let sample = measure::run(client, &Path::new(LOGS).join(format!("{}-{name}.log", workload.name)))?;
        let records = sample.get("records").unwrap_or_default();
        if records == wanted as f64 { Ok(sample) } else { Err(format!("it read {records} records of {wanted}")) }
    }
}
