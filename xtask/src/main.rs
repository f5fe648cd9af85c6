//! The project's own commands: `cargo xtask` lists them.

#![allow(clippy::disallowed_methods, reason = "a command takes real time")]

mod bench;
mod chaos;
mod fuzz;
mod instructions;
mod kafka;
mod no_c;
mod process;
mod quickstart;
mod sim;
mod test;

use std::{env, path::Path, process::ExitCode};

const USAGE: &str = "\
cargo xtask quickstart
    The example of that name on a real broker: two members share a topic, one leaves, the other takes over where it stopped.
    The Kafka is that of KAFKA_BOOTSTRAP_SERVERS, or one on this machine's Java.

cargo xtask test [--quick] [FILTER]
    Everything that must hold before a merge: format, lints, docs, no C, licences, all tests, instructions, and the tests
    against a real Kafka. With FILTER only the tests whose names contain it; with --quick none that needs a Kafka.
    The Kafka is that of KAFKA_BOOTSTRAP_SERVERS, or one in Docker, or one on this machine's Java.

cargo xtask sim [--seeds N] [--from SEED] [--seed S [--trace]] [--planted]
    Whole groups in virtual time, one life for each seed: faults, crashes, rebalances, and every promise checked at every step. --seed
    plays one life, --trace tells its story; --planted shows that bugs which are put in on purpose are found.

cargo xtask instructions [--bless]
    Counts the instructions that the hot path takes, and holds them against benches/instructions.toml; with --bless it makes that table anew.
    Needs valgrind. `test` does it, too.

cargo xtask fuzz [--minutes 1] [TARGET]
    Fuzzes everything that takes bytes from the network, each target for so long: answers, blobs (of other members), core (a whole consumer),
    frames, records, requests (to the mock). Needs a nightly toolchain, and cargo-fuzz. `test` replays the seeds.

cargo xtask chaos [--minutes 20] [--seed S] [--mode MODE|all] [--protocol PROTOCOL]
    Members of groups, each a process, on three real brokers; members and brokers are killed, stopped and restarted at random while records
    are produced. Then everything is healed, and must be finished within two minutes. What breaks the delivery contract is told by its name,
    with what happened before it; all that happened is in target/chaos. By default every MODE (at-least-once, batches, at-most-once, manual,
    partitions) runs, all at the same time, and the PROTOCOL (classic, consumer, auto) is mixed. Needs Java.

cargo xtask bench [--quick] [--rounds 5] [--only CLIENT,…] [--with NAME=VALUE] [WORKLOAD…]
    Measures ottla in each mode beside a raw loop and other people's clients (franz-go, librdkafka, Confluent's, krafka, Java's) on a real
    broker of this machine, in turn, and prints medians and ratios; all figures are in target/bench. --quick reads a tenth. CLIENT is a
    row of the tables, or ottla, or peers; --with sets partition_bytes, buffer_bytes, catch_up_connections, threads=many or
    protocol=consumer for ottla. A peer whose compiler is missing is left out. Needs Java.

cargo xtask kafka up [--nodes 3] [--version 4.3.1]
    Starts brokers to play with and prints their bootstrap servers.
cargo xtask kafka down
    Ends them, and removes their data.";

fn main() -> ExitCode {
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository"))
        .expect("the repository is still where it was built");
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["quickstart"] => quickstart::run().map_err(|error| error.to_string()),
        ["sim", ref args @ ..] => sim::run(args),
        ["test", ref args @ ..] => test::run(args),
        ["instructions", ref args @ ..] => instructions::run(args),
        ["fuzz", ref args @ ..] => fuzz::run(args),
        ["chaos", ref args @ ..] => chaos::run(args),
        ["bench", ref args @ ..] => bench::run(args),
        ["kafka", "up", ref args @ ..] => kafka::up(args),
        ["kafka", "down"] => kafka::down(),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
