//! Many lives, one for each seed, and the test of the tests: bugs that are put in must be found.
//!
//! A failure prints one command that plays it again; `cargo xtask sim` plays as many as one likes.

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    judge::Failure,
    life::{self, Outcomes},
    story::Telling,
};
use crate::planted::{self, Bug};

/// How many lives every `cargo test` plays.
const SEEDS: u64 = 200;
/// How many lives a planted bug may take to be found.
const PLANTED_SEEDS_MAX: u64 = 2000;
/// Where every `cargo test` looks first for the shyest ones, to be done sooner. `cargo xtask sim --planted` looks from the first seed on, and says
/// what these have become when lives are drawn in another way.
const SHY: [(Bug, u64); 7] = [
    (Bug::AcknowledgeBeforeCommit, 46),
    (Bug::ForgetAssignmentEpoch, 71),
    (Bug::RefetchKept, 78),
    (Bug::BelieveAnyoneOutOfRange, 121),
    (Bug::CommitUnderNextEpoch, 159),
    (Bug::KeepForgotten, 316),
    (Bug::CommitTwiceAtOnce, 979),
];
/// A life is told from time to time, when there are many.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// `cargo xtask sim` says by these what to play.
const SEED: &str = "OTTLA_SIM_SEED";
const SEED_COUNT: &str = "OTTLA_SIM_SEEDS";
const FROM: &str = "OTTLA_SIM_FROM";
const FROM_THE_FIRST: &str = "OTTLA_SIM_FROM_THE_FIRST";
const TRACE: &str = "OTTLA_SIM_TRACE";

#[test]
fn every_life_keeps_every_promise() {
    if let Some(seed) = number(SEED) {
        return alone(seed);
    }
    let (from, count) = (number(FROM).unwrap_or(0), number(SEED_COUNT).unwrap_or(SEEDS));
    let totals = many(from, count);
    println!("{totals}");
    if let Some((seed, failure)) = totals.failures.first() {
        let seeds: Vec<_> = totals.failures.iter().map(|(seed, _)| seed).collect();
        panic!(
            "{failure}\n\n{} of {} lives failed: seeds {seeds:?}\nplay the first again: cargo xtask sim --seed {seed} --trace",
            totals.failures.len(),
            totals.lives
        );
    }
}

/// Whatever is told of a failure must be what happens when it is looked at.
#[test]
fn the_same_seed_tells_the_same_story_byte_for_byte() {
    for seed in [1, 7, 42] {
        let (first, second) = (play(seed, Telling::Kept), play(seed, Telling::Kept));
        assert!(first.story.len() > 100, "seed {seed} has a story of {} lines", first.story.len());
        assert_eq!(first.story, second.story, "seed {seed}");
        assert_eq!(play(seed, Telling::Nobody).requests, first.requests, "listening changes nothing");
    }
}

/// Nobody need believe a judge that has never found anything.
#[test]
fn every_planted_bug_is_found() {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    // Found is only what is not there without the bug.
                    let is_clean = |seed| play(seed, Telling::Nobody).failure.is_none();
                    let known = SHY.iter().find(|(shy, _)| shy == bug && env::var_os(FROM_THE_FIRST).is_none());
                    let mut seeds = known.map(|(_, seed)| *seed).into_iter().chain(0..PLANTED_SEEDS_MAX);
                    let caught = seeds.find_map(|seed| {
                        let failure = planted::with(*bug, || play(seed, Telling::Nobody).failure)?;
                        is_clean(seed).then_some((seed + 1, failure))
                    });
                    found.lock().expect("nobody panics with it").push((*bug, caught));
                }
            });
        }
    });
    let mut found = found.into_inner().expect("all are done");
    found.sort_by_key(|(bug, _)| Bug::ALL.iter().position(|of| of == bug));
    for (bug, caught) in &found {
        match caught {
            Some((seeds, failure)) => println!("{bug:?}: found by life {seeds}: {}", failure.checker),
            None => println!("{bug:?}: not found in {PLANTED_SEEDS_MAX} lives"),
        }
    }
    let missed: Vec<_> = found.iter().filter(|(_, caught)| caught.is_none()).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// What many lives came to.
struct Totals {
    lives: u64,
    simulated: Duration,
    took: Duration,
    threads: usize,
    requests: usize,
    handed_out: usize,
    failures: Vec<(u64, Failure)>,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = self.simulated.as_secs_f64() / 60.0;
        let per_minute = minutes / (self.took.as_secs_f64() / 60.0) / self.threads as f64;
        write!(
            f,
            "{} lives, {minutes:.0} simulated minutes, {} requests, {} records handed out, {} failures; {:.0} s: {per_minute:.0} \
             simulated minutes a minute and thread ({} threads)",
            self.lives,
            self.requests,
            self.handed_out,
            self.failures.len(),
            self.took.as_secs_f64(),
            self.threads
        )
    }
}

fn many(from: u64, count: u64) -> Totals {
    #[expect(clippy::disallowed_methods, reason = "how fast it is")]
    let started = Instant::now();
    let threads = threads();
    let next = AtomicU64::new(from);
    let totals = Totals {
        lives: 0,
        simulated: Duration::ZERO,
        took: Duration::ZERO,
        threads,
        requests: 0,
        handed_out: 0,
        failures: Vec::new(),
    };
    let totals = Mutex::new((totals, Duration::ZERO));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    let outcomes = play(seed, Telling::Nobody);
                    let (totals, told) = &mut *totals.lock().expect("nobody panics with it");
                    totals.lives += 1;
                    totals.simulated += outcomes.elapsed;
                    totals.requests += outcomes.requests;
                    totals.handed_out += outcomes.handed_out;
                    totals.took = started.elapsed();
                    if let Some(failure) = outcomes.failure {
                        println!("seed {seed}: {failure}\n  ({})", outcomes.draw);
                        totals.failures.push((seed, failure));
                    }
                    if totals.took - *told > TOLD_EVERY {
                        *told = totals.took;
                        println!("{totals}");
                    }
                }
            });
        }
    });
    let (mut totals, _) = totals.into_inner().expect("all are done");
    totals.failures.sort_by_key(|(seed, _)| *seed);
    totals
}

/// Plays one seed, for a person to look at.
fn alone(seed: u64) {
    println!("seed {seed}: {}", life::drawn(seed));
    let outcomes = play(seed, if env::var_os(TRACE).is_some() { Telling::Printed } else { Telling::Nobody });
    println!("{} requests, {} records handed out, {:?} simulated", outcomes.requests, outcomes.handed_out, outcomes.elapsed);
    if let Some(failure) = outcomes.failure {
        panic!("{failure}");
    }
}

/// Plays one seed; a panic in it is a failure like any.
fn play(seed: u64, telling: Telling) -> Outcomes {
    panic::catch_unwind(AssertUnwindSafe(|| life::play(seed, telling))).unwrap_or_else(|panicked| {
        let what = panicked.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panicked.downcast_ref::<&str>().map(|what| (*what).to_owned())).unwrap_or_default();
        let named = what.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let (checker, what) = named.map_or(("a panic", what.as_str()), |(checker, what)| (checker, what));
        Outcomes {
            elapsed: Duration::ZERO,
            requests: 0,
            handed_out: 0,
            failure: Some(Failure { checker: checker.to_owned(), what: what.to_owned() }),
            story: Vec::new(),
            draw: life::drawn(seed),
        }
    })
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}
