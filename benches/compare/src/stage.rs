//! A cluster, the topics on it, and the rounds that are played there.

use std::{
    fmt::Display,
    fs,
    iter::Sum,
    ops::Range,
    path::Path,
    process::Command,
    sync::mpsc::{self, RecvTimeoutError},
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
    table::{BROKER_CPU_S, Metric},
    workload::{Feed, Place, Workload},
};

/// A broker makes some fifty partitions a second on a slow disk.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(600);
/// A controller refuses to make ten thousand in one go.
const PARTITIONS_AT_ONCE_MAX: i32 = 5000;
const LOGS: &str = "target/bench/logs";
/// Nothing is read for its own sake before the brokers' code is compiled, and their pages are in memory: that is, before it was read so
/// many times in a row, for each broker, and took them about as much CPU each time as the cheapest time of all. The clock on the wall shows
/// less: a broker that takes twice the CPU hardly keeps a client waiting that has a core for itself.
const STEADY: usize = 6;
/// And no longer than this, for each broker.
const WARM_UPS_MAX: usize = 40;
/// Some of the CPU time goes into what has nothing to do with reading.
const ASIDE_S: f64 = 0.05;

/// How often a broker is asked for what it has counted, while a client is idle.
const WATCHED_EVERY: Duration = Duration::from_millis(500);
/// A client that was asked to be idle for 20 s in the end is idle when it has so long to go: it leaves its group after that.
const IDLE_LAST: Range<Duration> = Duration::from_secs(3)..Duration::from_secs(18);

/// A cluster that is fit to be measured on.
pub(crate) struct Stage {
    cluster: Cluster,
    admin: Admin,
}

impl Stage {
    pub(crate) fn start(brokers: usize) -> Result<Self, String> {
        fs::create_dir_all(LOGS).map_err(|error| format!("cannot make {LOGS}: {error}"))?;
        // A commit of ten thousand partitions is larger than what a broker takes by default.
        let mut extra_conf = vec![("message.max.bytes".into(), "10485760".into())];
        // By the new protocol the broker says how often it hears of its members: as often as a pair says it by the classic one.
        extra_conf.extend(
            ["group.consumer.min.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"]
                .map(|name| (name.to_owned(), "100".to_owned())),
        );
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
        let topic_of = |place: Place| format!("bench-{}{}", workload.name, place.suffixes().0);
        if workload.feed == Feed::Before {
            for &place in workload.places {
                let (topic, since) = (topic_of(place), Instant::now());
                self.create(&topic, workload, place)?;
                let created = since.elapsed();
                fill(&self.cluster.bootstrap(), &topic, workload.load).map_err(|error| error.to_string())?;
                let filled = since.elapsed() - created;
                println!("\n{topic}: created in {:.1} s, filled in {:.1} s", created.as_secs_f32(), filled.as_secs_f32());
                self.warm_up(workload, &topic)?;
            }
        }
        let runs: Vec<_> = clients.iter().flat_map(|client| workload.places.iter().map(move |&place| (client, place))).collect();
        let mut outcomes: Vec<_> = runs.iter().map(|(client, place)| ClientOutcome::of(client, *place)).collect();
        let rounds = plan.rounds.min(workload.rounds_max);
        for round in 1..=rounds {
            for ((client, place), outcome) in runs.iter().zip(&mut outcomes) {
                let (topic, name) = (topic_of(*place), format!("{}-{round}", client.name));
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
        workload.places.iter().for_each(|&place| drop(self.admin.delete_topic(&topic_of(place))));
        Ok(Outcome::new(*workload, rounds, outcomes))
    }

    fn warm_up(&self, workload: &Workload, topic: &str) -> Result<(), String> {
        let workload = &Workload { asks: &[], ..*workload };
        let mut took = Vec::new();
        while took.len() < WARM_UPS_MAX * workload.brokers && !is_steady(&took, STEADY * workload.brokers) {
            let mut cpu = 0.0;
            for client in [Client::raw(), Client::member()] {
                let sample = self.run(client, workload, topic, &format!("warm-up-{}", took.len()))?;
                cpu += sample.get(BROKER_CPU_S).unwrap_or_default();
            }
            took.push(cpu);
        }
        Ok(())
    }

    fn create(&self, topic: &str, workload: &Workload, place: Place) -> Result<(), String> {
        let (first, configs) = (workload.partitions.min(PARTITIONS_AT_ONCE_MAX), workload.topic_configs());
        // Left to itself, a controller gives one of three brokers five partitions of twelve, and another three.
        let brokers: Vec<_> = match place {
            Place::Everywhere => (1..=self.cluster.nodes() as i32).collect(),
            Place::OnOne => vec![1],
        };
        let replicas: Vec<_> = brokers.chunks(1).cycle().take(first as usize).collect();
        let made = self.admin.create_topic_on(topic, &replicas, configs);
        made.map_err(|error| error.to_string())?;
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
        self.create(topic, workload, Place::Everywhere)?;
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
        let (since, before, cpu_before) = (Instant::now(), fetches()?, self.brokers_cpu()?);
        let log = Path::new(LOGS).join(format!("{topic}-{name}.log"));
        let mut sample = match workload.metrics.contains(&Metric::IdleFetchBytes) {
            true => self.run_watched(client, &log)?,
            false => measure::run(client, &log)?,
        };
        sample.add(BROKER_CPU_S, (self.brokers_cpu()? - cpu_before).as_secs_f64());
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

    /// Runs a client that is idle in the end, and tells how many bytes of Fetches came from it then.
    fn run_watched(&self, client: Command, log: &Path) -> Result<Sample, String> {
        let (ended, has_ended) = mpsc::channel::<()>();
        let (sample, counts) = thread::scope(|scope| {
            let counting = scope.spawn(move || {
                let mut counts = Vec::new();
                while let Err(RecvTimeoutError::Timeout) = has_ended.recv_timeout(WATCHED_EVERY) {
                    counts.push((Instant::now(), self.fetch_bytes()?));
                }
                Ok(counts)
            });
            let sample = measure::run(client, log);
            drop(ended);
            (sample, counting.join().unwrap_or_else(|_| Err("counting panicked".to_owned())))
        });
        let (mut sample, counts) = (sample?, counts?);
        let end = Instant::now();
        let is_idle = |at: Instant| IDLE_LAST.contains(&end.duration_since(at));
        let idle: Vec<_> = counts.into_iter().filter(|(at, _)| is_idle(*at)).collect();
        if let [(begins, before), .., (ends, after)] = idle[..] {
            sample.add("idle_fetch_bytes_per_s", (after - before) as f64 / ends.duration_since(begins).as_secs_f64());
        }
        Ok(sample)
    }

    /// Returns the user and system time of all brokers, so far.
    fn brokers_cpu(&self) -> Result<Duration, String> {
        self.of_all_brokers(measure::cpu_of)
    }

    /// Counts the Fetches that consumers have sent so far.
    fn fetches(&self) -> Result<u64, String> {
        self.of_all_brokers(|process| self.admin.requests(process, "FetchConsumer"))
    }

    /// Counts the bytes of these Fetches.
    fn fetch_bytes(&self) -> Result<u64, String> {
        self.of_all_brokers(|process| self.admin.all_request_bytes(process, "FetchConsumer"))
    }

    fn of_all_brokers<T: Sum, E: Display>(&self, of: impl Fn(u32) -> Result<T, E>) -> Result<T, String> {
        let of = |broker| {
            let process = self.cluster.process_id(broker).map_err(|error| error.to_string())?;
            of(process).map_err(|error| error.to_string())
        };
        (1..=self.cluster.nodes()).map(of).sum()
    }
}

/// Says whether the last so many of these took about as much as the cheapest of all.
fn is_steady(took: &[f64], many: usize) -> bool {
    let cheapest = took.iter().copied().fold(f64::INFINITY, f64::min);
    let last = took.len().checked_sub(many).map(|from| &took[from..]);
    last.is_some_and(|last| last.iter().all(|cpu| *cpu <= 1.5 * cheapest + ASIDE_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_warm_when_reading_costs_them_what_it_did() {
        assert!(!is_steady(&[0.3, 0.3], 3));
        assert!(is_steady(&[2.0, 0.3, 0.25, 0.4], 3));
        assert!(!is_steady(&[2.0, 0.3, 0.2, 0.4], 3), "0.4 is far from 0.2");
        assert!(is_steady(&[0.0, 0.01, 0.04], 3), "a moment of something else");
    }
}
