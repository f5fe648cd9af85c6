//! The operator: starts everything, lets it be troubled for a while, heals it, and hears the verdict.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    sync::mpsc::channel,
    thread::{self, sleep},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kafka_harness::{Admin, Cluster, Options, eventually};

use crate::{
    broker_faults, commits,
    court::{Court, HELD_FOR},
    lot::Lot,
    member,
    members::{self, Fates},
    mode::Mode,
    producing::{self, PARTITIONS},
    protocol::Protocol,
    stage::Stage,
};

const MINUTES: u64 = 20;
/// After the last fault everything must be handed out, finished and committed within so long.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
const LEADERS_TIMEOUT: Duration = Duration::from_secs(60);
const PRODUCERS: i32 = 2;
const NODES: usize = 3;

struct Order {
    minutes: u64,
    seed: u64,
    modes: Vec<Mode>,
    protocol: Protocol,
}

/// One group with its topic.
struct Scene {
    mode: Mode,
    group: String,
    topic: String,
    court: Court,
}

pub(crate) fn run(args: &[String]) -> Result<ExitCode, String> {
    let order = Order::parse(args)?;
    println!(
        "seed {}, {} minutes, 3 brokers, protocol {}; the first start takes longer",
        order.seed, order.minutes, order.protocol
    );
    let folder = Path::new("target/chaos").join(order.seed.to_string());
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let cluster = Cluster::start(options()).map_err(|error| error.to_string())?;
    let admin = Admin::start(&cluster.bootstrap(), cluster.version()).map_err(|error| error.to_string())?;
    let stage = Stage::new(cluster, admin, order.seed, order.protocol, folder);
    let scenes = order.modes.iter().map(|mode| Scene::set(&stage, *mode)).collect::<Result<Vec<_>, String>>()?;
    let (fates, faults) = play(&stage, &scenes, Duration::from_secs(60 * order.minutes))?;
    Ok(conclude(&stage, &scenes, &fates, faults))
}

/// A minority of brokers may die at any time, and nothing that was acknowledged may die with them.
fn options() -> Options {
    let [session_timeout_ms, heartbeat_ms] =
        [member::SESSION_TIMEOUT, member::HEARTBEAT_INTERVAL].map(|time| time.as_millis().to_string());
    let conf = [
        ("min.insync.replicas", "2"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
        // A leader that was stopped leaves the replicas that it should.
        ("replica.lag.time.max.ms", "5000"),
        // By the consumer protocol the brokers say what is in the members' settings by the classic one.
        ("group.consumer.min.session.timeout.ms", &session_timeout_ms),
        ("group.consumer.session.timeout.ms", &session_timeout_ms),
        ("group.consumer.min.heartbeat.interval.ms", &heartbeat_ms),
        ("group.consumer.heartbeat.interval.ms", &heartbeat_ms),
    ];
    let extra_conf = conf.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Options { nodes: NODES, extra_conf, ..Options::default() }
}

impl Order {
    fn parse(args: &[String]) -> Result<Self, String> {
        let by_clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut order = Self { minutes: MINUTES, seed: by_clock, modes: Mode::ALL.to_vec(), protocol: Protocol::Mixed };
        for pair in args.chunks(2) {
            let [name, value] = pair else { return Err(format!("cannot understand {}", args.join(" "))) };
            let number = || value.parse().map_err(|_| format!("{name} {value}: not a number"));
            match name.as_str() {
                "--minutes" => order.minutes = number()?,
                "--seed" => order.seed = number()?,
                "--mode" if value == "all" => order.modes = Mode::ALL.to_vec(),
                "--mode" => order.modes = vec![value.parse()?],
                "--protocol" => order.protocol = value.parse()?,
                _ => return Err(format!("cannot understand {name} {value}")),
            }
        }
        Ok(order)
    }
}

impl Scene {
    fn set(stage: &Stage, mode: Mode) -> Result<Self, String> {
        let (group, topic) = (format!("chaos-{mode}"), mode.to_string());
        stage.admin.create_topic(&topic, PARTITIONS, NODES as i16, &[]).map_err(|error| error.to_string())?;
        let is_led = || stage.admin.leaders(&topic).is_ok_and(|leaders| leaders.values().all(|leader| leader.leader > 0));
        if !eventually(LEADERS_TIMEOUT, is_led) {
            return Err(format!("{topic} has no leaders"));
        }
        Ok(Self { mode, group, topic, court: Court::new(mode, stage.clock(), &stage.folder)? })
    }
}

/// Everything on threads of its own; what each of them came to.
fn play(stage: &Stage, scenes: &[Scene], time: Duration) -> Result<(Vec<Fates>, usize), String> {
    let topics: Vec<_> = scenes.iter().map(|scene| scene.topic.clone()).collect();
    thread::scope(|threads| {
        let _over = AtTheEnd(stage);
        let (mut groups, mut courts) = (Vec::new(), Vec::new());
        for (scene, number) in scenes.iter().zip(1_u64..) {
            let (tell, told) = channel();
            threads.spawn(move || scene.court.sit(&told));
            let lot = |purpose: u64| Lot::new(stage.seed, 1000 * number + purpose);
            for producer in 0..PRODUCERS {
                let (lot, tell) = (lot(producer as u64), tell.clone());
                threads.spawn(move || producing::produce(stage, &scene.topic, producer, PRODUCERS, lot, &tell));
            }
            let commits = tell.clone();
            threads.spawn(move || commits::watch(stage, &scene.group, &commits));
            let (lot, members) = (lot(100), tell.clone());
            groups.push(threads.spawn(move || members::run(stage, scene.mode, (&scene.group, &scene.topic), lot, members)));
            courts.push((scene, tell));
        }
        let brokers = threads.spawn(|| broker_faults::disturb(stage, &topics, Lot::new(stage.seed, 1)));

        let end = Instant::now() + time;
        while Instant::now() < end && !groups.iter().any(|group| group.is_finished()) && !brokers.is_finished() {
            sleep(Duration::from_millis(100));
        }
        stage.enter(&stage.heals);
        println!("{:7.1} s: no more faults", stage.clock().now().as_secs_f64());
        let faults = brokers.join().expect("it does not panic").map_err(|error| error.to_string())?;
        // A last few records after the last fault.
        sleep(Duration::from_secs(3));
        stage.enter(&stage.is_quiet);
        let healed = Instant::now();
        sleep(HELD_FOR + Duration::from_secs(1));
        let truths: Vec<_> = courts
            .iter()
            .map(|(scene, tell)| {
                let (scene, tell) = (*scene, tell.clone());
                threads.spawn(move || producing::tell_truth(stage, &scene.topic, &scene.court, &tell))
            })
            .collect();
        for truth in truths {
            truth.join().expect("it does not panic")?;
        }
        sleep(HELD_FOR + Duration::from_secs(1));
        let is_done = || courts.iter().all(|(scene, _)| scene.court.bench().is_finished());
        while !is_done() && healed.elapsed() < HEALED_WITHIN {
            sleep(Duration::from_millis(500));
        }
        println!(
            "{:7.1} s: done, {:.1} s after the last record",
            stage.clock().now().as_secs_f64(),
            healed.elapsed().as_secs_f64()
        );
        stage.enter(&stage.is_over);
        let fates: Result<Vec<_>, _> = groups.into_iter().map(|group| group.join().expect("it does not panic")).collect();
        Ok((fates?, faults))
    })
}

/// Whatever goes wrong, no thread works on for ever.
struct AtTheEnd<'a>(&'a Stage);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        for phase in [&self.0.heals, &self.0.is_quiet, &self.0.is_over] {
            self.0.enter(phase);
        }
    }
}

fn conclude(stage: &Stage, scenes: &[Scene], fates: &[Fates], faults: usize) -> ExitCode {
    let mut is_clean = true;
    let mut table = String::new();
    for (scene, fates) in scenes.iter().zip(fates) {
        let mut bench = scene.court.bench();
        bench.finish(scene.mode, stage.clock().now());
        let (counts, violations) = (bench.counts.clone(), bench.contract.violation_count());
        for trouble in &fates.troubles {
            println!("{}: {trouble}", scene.mode);
        }
        if counts.wrong_values > 0 {
            println!("{}: {} values are not what was written", scene.mode, counts.wrong_values);
        }
        is_clean &= violations == 0 && counts.wrong_values == 0 && fates.troubles.is_empty();
        let (mode, silence, until) = (scene.mode, counts.silence.as_secs_f64(), counts.silent_until.as_secs());
        table += &format!(
            "{mode:14} {:8} {:10} {:8} {:6} {:6} {:6} {:11} {silence:6.1} s until {until:4} s {:10}\n",
            counts.records,
            counts.handed_out,
            counts.repeats,
            fates.kills,
            fates.stops,
            fates.closes,
            counts.generations.len(),
            violations,
        );
    }
    let verdict = if is_clean { "no violation" } else { "VIOLATED" };
    println!("\nseed {}: {faults} times a broker was disturbed; the stories are in {}", stage.seed, stage.folder.display());
    println!(
        "mode            records handed-out  repeats  kills  stops closes generations  longest silence  violations\n{table}{verdict}"
    );
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_and_nonsense_refused() {
        let parse = |args: &str| Order::parse(&args.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let order = parse("--minutes 3 --seed 9 --mode manual").ok().unwrap();
        assert_eq!((order.minutes, order.seed, order.modes), (3, 9, vec![Mode::Manual]));
        let order = parse("--mode all").ok().unwrap();
        assert_eq!((order.minutes, order.modes.len()), (20, 5));
        for nonsense in ["--minutes", "--minutes x", "--mode none", "--fast yes"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
