//! `cargo xtask test`: everything that must hold before a merge.

use std::{
    env,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use crate::{
    instructions, no_c,
    process::{call, cargo},
};

/// The tests wait for brokers more than they compute.
const REAL_KAFKA_THREADS_MIN: usize = 4;

const DOCKER_BOOTSTRAP: &str = "127.0.0.1:9092";

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let is_quick = args.contains(&"--quick");
    let words: Vec<_> = args.iter().copied().filter(|&arg| arg != "--quick").collect();
    let filter = match words[..] {
        [] => None,
        [filter] if !filter.starts_with('-') => Some(filter),
        _ => return Err(format!("cannot understand {}\n\n{}", args.join(" "), crate::USAGE)),
    };

    let mut report = Report::default();
    if filter.is_none() {
        report.step("format", || call(&mut cargo("fmt --all --check")));
        report.step("lints", || {
            call(&mut cargo("clippy --workspace --all-targets --features ottla/__bench,ottla-mock/tls -- -D warnings"))
        });
        report.step("other crypto, or none", other_crypto);
        report.step("docs", || call(cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings")));
        report.step("no C", no_c::check);
        report.step("licences, bans, sources, advisories", deny);
    }
    report.step("unit and API tests", || call(tests("").args(filter).env_remove("OTTLA_REAL_KAFKA")));
    if filter.is_none() {
        report.step("every order of acks", orders);
        report.step("exactly once with SQLite", sqlite);
        report.step("instructions", instructions::check);
    }
    if !is_quick {
        report.step("the mock beside reality", || mock_beside_reality(filter));
        report.step("real Kafka", || real_kafka(filter));
    }
    report.conclude()
}

/// All tests and examples, or those named. Every step has them of the same packages and features, so that they are built once.
fn tests(targets: &str) -> Command {
    let mut tests = cargo("test --workspace --features ottla/__bench,ottla-mock/tls");
    tests.args(targets.split_whitespace());
    tests
}

/// What was done, and what came of it.
#[derive(Default)]
struct Report(Vec<(&'static str, f32, bool)>);

impl Report {
    /// Takes a step; one that fails does not keep the others from being taken.
    fn step(&mut self, name: &'static str, act: impl FnOnce() -> Result<(), String>) {
        println!("\n==== {name} ====");
        let started = Instant::now();
        let done = act();
        let took_s = started.elapsed().as_secs_f32();
        match &done {
            Ok(()) => println!("---- {name}: ok, {took_s:.1} s"),
            Err(what) => println!("---- {name}: FAILED, {took_s:.1} s: {what}"),
        }
        self.0.push((name, took_s, done.is_ok()));
    }

    fn conclude(self) -> Result<(), String> {
        println!("\n==== summary ====");
        for (name, took_s, is_ok) in &self.0 {
            println!("{:6} {took_s:7.1} s  {name}", if *is_ok { "ok" } else { "FAILED" });
        }
        let failed: Vec<_> = self.0.iter().filter(|(_, _, is_ok)| !is_ok).map(|(name, ..)| *name).collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join("; "))) }
    }
}

/// Lints what is built for who asks for another crypto provider, or for no TLS at all. Those providers are C.
fn other_crypto() -> Result<(), String> {
    let mut all = vec!["", "__rustls"];
    if has_c_compiler() {
        all.extend(["aws-lc", "ring"]);
    } else {
        println!("not checked: the features aws-lc and ring, for there is no C compiler");
    }
    all.iter().try_for_each(|feature| {
        let lints = format!("clippy --package ottla --lib --no-default-features --features={feature} -- -D warnings");
        call(&mut cargo(&lints))
    })
}

fn has_c_compiler() -> bool {
    Command::new("cc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn deny() -> Result<(), String> {
    let is_installed =
        cargo("deny --version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_installed {
        println!("not checked: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    call(&mut cargo("deny --all-features check bans licenses sources"))?;
    if cargo("deny fetch db").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return call(&mut cargo("deny --all-features check --disable-fetch advisories"));
    }
    println!("advisories are not checked: their database cannot be reached");
    Ok(())
}

/// Plays every order in which threads can get to a run and its window. The locks are other ones then, so all is built apart.
fn orders() -> Result<(), String> {
    let mut tests = cargo("test --quiet --package ottla --lib consumer::acks::orders -- --nocapture");
    call(tests.env("RUSTFLAGS", "--cfg shuttle").env("CARGO_TARGET_DIR", "target/shuttle"))
}

/// An example apart from the others, for SQLite is C. It says by itself whether each payment was booked once.
fn sqlite() -> Result<(), String> {
    if !has_c_compiler() {
        println!("not played: examples/sqlite, for there is no C compiler");
        return Ok(());
    }
    call(cargo("run --quiet --manifest-path examples/sqlite/Cargo.toml").env("CARGO_TARGET_DIR", "target/sqlite"))
}

/// Holds the mock to what a real Kafka says, and lets other people's clients live on it; the brokers are always of this machine's Java.
fn mock_beside_reality(filter: Option<&str>) -> Result<(), String> {
    kafka_harness::java_and_maven().map_err(|error| error.to_string())?;
    call(tests("--test both --test conversations --test foreign").args(filter).env("OTTLA_REAL_KAFKA", "1"))
}

/// Runs the tests against whichever Kafka can be had: somebody's, one in Docker, or one on this machine's Java.
fn real_kafka(filter: Option<&str>) -> Result<(), String> {
    // The peers (Java's clients, Kafka's tools) and the clusters whose brokers are killed need Java in any case.
    kafka_harness::java_and_maven().map_err(|error| error.to_string())?;
    let threads = thread::available_parallelism().map_or(1, usize::from).max(REAL_KAFKA_THREADS_MIN);
    let mut tests = tests("--test real_kafka");
    tests.args(filter).args(["--", &format!("--test-threads={threads}")]).env("OTTLA_REAL_KAFKA", "1");
    if let Ok(bootstrap) = env::var("KAFKA_BOOTSTRAP_SERVERS") {
        println!("on the brokers of KAFKA_BOOTSTRAP_SERVERS: {bootstrap}");
        return call(&mut tests);
    }
    if !docker_answers() {
        println!("on Kafka {} and this machine's Java", kafka_harness::DEFAULT_VERSION);
        return call(&mut tests);
    }
    println!("on the broker of compose.yaml, in Docker: {DOCKER_BOOTSTRAP}");
    let tested = call(&mut docker("compose up --detach --wait"))
        .and_then(|()| call(tests.env("KAFKA_BOOTSTRAP_SERVERS", DOCKER_BOOTSTRAP)));
    let ended = call(&mut docker("compose down --volumes"));
    tested.and(ended)
}

fn docker_answers() -> bool {
    let mut info = docker("compose ls");
    info.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn docker(args: &str) -> Command {
    let mut docker = Command::new("docker");
    docker.args(args.split(' '));
    docker
}
