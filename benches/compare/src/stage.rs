//! A cluster, the topics on it, and the rounds that are played there.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use kafka_harness::{Admin, Cluster, DEFAULT_VERSION, Jvm, Options, eventually};

use crate::{
    clients::Client,
    fill::fill,
    measure::{self, Sample},
    pace::pace,
    plan::Plan,
    report::{ClientOutcome, Outcome},
    table::Metric,
    workload::{Feed, Workload},
};

/// A broker makes some fifty partitions a second on a slow disk.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(600);
/// A controller refuses to make ten thousand in one go.
const PARTITIONS_AT_ONCE_MAX: i32 = 5000;
const LOGS: &str = "target/bench/logs";
/// Nothing is read for its own sake before the broker's code is compiled, and its pages are in memory: that is, before the raw loop has
/// read so many times in a row, for each broker, no faster than ever before. A broker's compiler takes a core for many seconds.
const NO_FASTER: usize = 5;
/// And no longer than this, for each broker.
const WARM_UPS_MAX: usize = 25;

/// A cluster that is fit to be measured on.
pub(crate) struct Stage {
    cluster: Cluster,
    admin: Admin,
}

impl Stage {
    pub(crate) fn start(brokers: usize) -> Result<Self, String> {
        fs::create_dir_all(LOGS).map_err(|error| format!("cannot make {LOGS}: {error}"))?;
        // A commit of ten thousand partitions is larger than what a broker takes by default.
        let extra_conf = vec![("message.max.bytes".into(), "10485760".into())];
        let options = Options { nodes: brokers, jvm: Jvm::Swift, extra_conf, ..Options::default() };
        let cluster = Cluster::start(options).map_err(|error| error.to_string())?;
        let admin = Admin::start(&cluster.bootstrap(), DEFAULT_VERSION).map_err(|error| error.to_string())?;
        Ok(Self { cluster, admin })
    }

    /// Fills a topic and lets every client read it, round after round.
    pub(crate) fn play(&self, workload: &Workload, clients: &[Client], plan: &Plan) -> Result<Outcome, String> {
        let clients: Vec<_> = clients.iter().filter(|client| client.takes_part(workload.who)).collect();
        if clients.is_empty() {
            return Err("nobody takes part who was asked for".into());
        }
        let topic = format!("bench-{}", workload.name);
        if workload.feed == Feed::Before {
            let since = Instant::now();
            self.create(&topic, workload)?;
            let created = since.elapsed();
            fill(&self.cluster.bootstrap(), &topic, workload.load).map_err(|error| error.to_string())?;
            let filled = since.elapsed() - created;
            println!("\n{}: created in {:.1} s, filled in {:.1} s", workload.name, created.as_secs_f32(), filled.as_secs_f32());
            self.warm_up(workload, &topic)?;
        }
        let mut outcomes: Vec<_> = clients.iter().map(|client| ClientOutcome::of(client)).collect();
        let rounds = plan.rounds.min(workload.rounds_max);
        for round in 1..=rounds {
            for (client, outcome) in clients.iter().zip(&mut outcomes) {
                let name = format!("{}-{round}", client.name);
                let sample = match workload.feed {
                    Feed::Before => self.run(client.command(), workload, &topic, &name),
                    Feed::PerSecond(rate) => self.run_paced(client.command(), workload, &format!("{topic}-{name}"), rate),
                };
                match sample {
                    Ok(sample) => outcome.samples.push(sample),
                    Err(what) => outcome.failures.push(what),
                }
            }
            println!("{}: round {round} of {rounds}", workload.name);
        }
        // The space is wanted for the next one; should it not be given back now, it is at the end.
        let _ = self.admin.delete_topic(&topic);
        Ok(Outcome::new(*workload, rounds, outcomes))
    }

    fn warm_up(&self, workload: &Workload, topic: &str) -> Result<(), String> {
        let (mut fastest, mut no_faster) = (f64::INFINITY, 0);
        for _ in 0..WARM_UPS_MAX * workload.brokers {
            let sample = self.run(Client::raw(), workload, topic, "warm-up")?;
            let seconds = sample.get("read_s").unwrap_or_default();
            no_faster = if seconds < fastest { 0 } else { no_faster + 1 };
            fastest = fastest.min(seconds);
            if no_faster == NO_FASTER * workload.brokers {
                break;
            }
        }
        Ok(())
    }

    fn create(&self, topic: &str, workload: &Workload) -> Result<(), String> {
        let first = workload.partitions.min(PARTITIONS_AT_ONCE_MAX);
        self.admin.create_topic(topic, first, 1, workload.topic_configs()).map_err(|error| error.to_string())?;
        for total in (first..workload.partitions).step_by(PARTITIONS_AT_ONCE_MAX as usize) {
            let total = (total + PARTITIONS_AT_ONCE_MAX).min(workload.partitions);
            self.admin.add_partitions(topic, total).map_err(|error| error.to_string())?;
        }
        // Until each leader knows that it is one, some refuse what comes.
        let is_there = || self.admin.end_offsets(topic).is_ok_and(|ends| ends.len() as i32 == workload.partitions);
        if eventually(TOPIC_TIMEOUT, is_there) {
            return Ok(());
        }
        Err(format!("{topic}: some partition had no leader within {TOPIC_TIMEOUT:?}"))
    }

    /// Runs a client while records are sent to a topic of its own.
    fn run_paced(&self, client: Command, workload: &Workload, topic: &str, per_second: u32) -> Result<Sample, String> {
        self.create(topic, workload)?;
        thread::scope(|scope| {
            let bootstrap = self.cluster.bootstrap();
            let sending = scope.spawn(move || pace(&bootstrap, topic, workload.load, per_second));
            let sample = self.run(client, workload, topic, "paced");
            let sent = sending.join().map_err(|_| "sending panicked".to_owned());
            sent.and_then(|sent| sent.map_err(|error| error.to_string())).and(sample)
        })
    }

    fn run(&self, mut client: Command, workload: &Workload, topic: &str, name: &str) -> Result<Sample, String> {
        let wanted = workload.wanted();
        client.arg(format!("bootstrap={}", self.cluster.bootstrap())).arg(format!("topic={topic}"));
        client.arg(format!("group={topic}-{name}")).arg(format!("records={wanted}")).arg("commit_interval_ms=5000");
        client.args(workload.asks);
        let counts_fetches = workload.metrics.contains(&Metric::FetchesPerWait);
        let fetches = || if counts_fetches { self.fetches() } else { Ok(0) };
        let (since, before) = (Instant::now(), fetches()?);
        let mut sample = measure::run(client, &Path::new(LOGS).join(format!("{topic}-{name}.log")))?;
        if counts_fetches {
            sample.add("fetches_per_s", (fetches()? - before) as f64 / since.elapsed().as_secs_f64());
        }
        let [records, bytes] = ["records", "bytes"].map(|name| sample.get(name).unwrap_or_default() as u64);
        if records < wanted {
            return Err(format!("it read {records} records of {wanted}"));
        }
        // Nothing, where it looks into no record.
        if bytes != 0 && bytes != records * workload.load.value_bytes as u64 {
            return Err(format!("it read {bytes} bytes in {records} records"));
        }
        Ok(sample)
    }

    /// Counts the Fetches that consumers have sent so far.
    fn fetches(&self) -> Result<u64, String> {
        let of = |broker| {
            let process = self.cluster.process_id(broker).map_err(|error| error.to_string())?;
            self.admin.requests(process, "FetchConsumer").map_err(|error| error.to_string())
        };
        (1..=self.cluster.nodes()).map(of).sum()
    }
}
