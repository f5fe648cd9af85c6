//! `cargo xtask sim`: whole groups in virtual time, one life for each seed.

use crate::process::{call, cargo};

const TEST: &str = "simulation::swarm::every_life_keeps_every_promise";
const PLANTED: &str = "simulation::swarm::every_planted_bug_is_found";

/// What is told to the test by the environment, and the words for it here.
const SETTINGS: [(&str, &str); 3] = [("--seeds", "OTTLA_SIM_SEEDS"), ("--from", "OTTLA_SIM_FROM"), ("--seed", "OTTLA_SIM_SEED")];

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let mut tests = cargo("test --quiet --profile sim --lib");
    let mut test = TEST;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match SETTINGS.iter().find(|(name, _)| name == word) {
            Some((_, variable)) => {
                let number = words.next().filter(|number| number.parse::<u64>().is_ok());
                tests.env(variable, number.ok_or_else(|| format!("{word} wants a number\n\n{}", crate::USAGE))?);
            }
            None if *word == "--trace" => drop(tests.env("OTTLA_SIM_TRACE", "1")),
            None if *word == "--planted" => {
                test = PLANTED;
                tests.env("OTTLA_SIM_FROM_THE_FIRST", "1");
            }
            None => return Err(format!("cannot understand {word}\n\n{}", crate::USAGE)),
        }
    }
    call(tests.args(["--", "--exact", test, "--nocapture"]))
}
