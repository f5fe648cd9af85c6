//! Who takes part: the raw loop, ottla in each mode, and the peers that can be built on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::plan::Plan;

const PEERS_FOLDER: &str = "benches/peers";

const PEERS: [(&str, Make); 1] = [("franz-go", Make::Go)];

/// A program that reads a topic.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// Whether it is somebody else's.
    pub(crate) is_peer: bool,
    program: PathBuf,
    args: Vec<String>,
}

impl Client {
    fn ours(name: &'static str, binary: &str, args: &[&str]) -> Self {
        Self { name, is_peer: false, program: sibling(binary), args: args.iter().map(|&arg| arg.to_owned()).collect() }
    }

    fn peer(name: &'static str, program: PathBuf) -> Self {
        Self { name, is_peer: true, program, args: Vec::new() }
    }

    /// Starts the raw loop, whether or not it takes part.
    pub(crate) fn raw() -> Command {
        Command::new(sibling("bench-raw"))
    }

    /// Returns how it is called, but for what it shall read.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

/// Builds who was asked for; tells who is missing, and why.
pub(crate) fn prepare(plan: &Plan, folder: &Path) -> (Vec<Client>, Vec<String>) {
    let mut clients = vec![Client::ours("raw", "bench-raw", &[])];
    for (name, arg) in [
        ("batches", "mode=batches"),
        ("deliveries", "mode=deliveries"),
        ("at-most-once", "mode=at-most-once"),
        ("manual", "mode=manual"),
    ] {
        clients.push(Client::ours(name, "bench-ottla", &[arg]));
    }
    clients.retain(|client| plan.wants(client.name, if client.name == "raw" { "raw" } else { "ottla" }));
    let mut missing = Vec::new();
    for (name, make) in PEERS {
        if !plan.wants(name, "peers") {
            continue;
        }
        match make.peer(name, folder) {
            Ok(program) => clients.push(Client::peer(name, program)),
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    (clients, missing)
}

/// How a peer is made.
enum Make {
    Go,
}

impl Make {
    fn peer(&self, name: &str, folder: &Path) -> Result<PathBuf, String> {
        match self {
            Self::Go => go(name, folder),
        }
    }
}

fn go(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let program = folder.join(name);
    let mut go = Command::new("go");
    build(go.args(["build", "-o"]).arg(&program).arg(".").current_dir(Path::new(PEERS_FOLDER).join(name)), "Go (golang)")?;
    Ok(program)
}

/// Runs a compiler; says what is to be installed if it is not there.
fn build(command: &mut Command, what: &str) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(|_| format!("there is no {name}: install {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let told: Vec<_> = told.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(format!("it does not build:\n    {}", told[told.len().saturating_sub(12)..].join("\n    ")))
}

/// The path of a program that was built together with this one.
fn sibling(name: &str) -> PathBuf {
    let this = env::current_exe().expect("the system knows what it runs");
    fs::canonicalize(&this).unwrap_or(this).with_file_name(name)
}
