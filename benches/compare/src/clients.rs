//! Who takes part: the raw loop, ottla in each mode, and the peers that can be built on this machine.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{plan::Plan, workload::Who};

/// By these names several are asked for at once.
const OTTLA_FAMILY: &str = "ottla";
const PEERS_FAMILY: &str = "peers";

const PEERS_FOLDER: &str = "benches/peers";

const OTTLA: [(&str, &[Who], &str); 7] = [
    ("batches", &[Who::All], "mode=batches"),
    ("deliveries", &[Who::All, Who::Members], "mode=deliveries"),
    ("at-most-once", &[Who::All], "mode=at-most-once"),
    ("manual", &[Who::All], "mode=manual"),
    ("pair", &[Who::Pair], "mode=pair"),
    ("pair-cooperative", &[Who::Pair], "mode=pair-cooperative"),
    ("pair-kip-848", &[Who::Pair], "mode=pair-consumer"),
];

const PEERS: [(&str, Make); 5] =
    [("franz-go", Make::Go), ("rdkafka", Make::Rust), ("confluent", Make::Rust), ("krafka", Make::Rust), ("java", Make::Java)];

/// A program that reads a topic.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// Whether it is somebody else's.
    pub(crate) is_peer: bool,
    roles: &'static [Who],
    program: OsString,
    args: Vec<OsString>,
}

impl Client {
    fn new(name: &'static str, roles: &'static [Who], command: &Command) -> Self {
        let args = command.get_args().map(OsString::from).collect();
        Self { name, is_peer: false, roles, program: command.get_program().into(), args }
    }

    fn peer(name: &'static str, command: &Command) -> Self {
        Self { is_peer: true, ..Self::new(name, &[Who::All, Who::Members], command) }
    }

    /// Says whether it is one of those that a workload is for.
    pub(crate) fn takes_part(&self, who: Who) -> bool {
        self.roles.contains(&who)
    }

    /// Starts the raw loop, whether or not it takes part.
    pub(crate) fn raw() -> Command {
        Command::new(sibling("bench-raw"))
    }

    /// Starts a member of a group, whether or not it takes part.
    pub(crate) fn member() -> Command {
        let mut member = Command::new(sibling("bench-ottla"));
        member.arg("mode=batches");
        member
    }

    /// Returns its name in a table.
    pub(crate) fn label(&self) -> String {
        if OTTLA.iter().any(|(name, ..)| *name == self.name) { format!("ottla {}", self.name) } else { self.name.into() }
    }

    /// Returns how it is called, but for what it shall read.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

/// Says whether there is such a client, or a family of them.
pub(crate) fn is_known(name: &str) -> bool {
    let ours = OTTLA.iter().map(|(name, ..)| *name);
    let all = ours.chain(PEERS.iter().map(|(name, _)| *name)).chain(["raw", OTTLA_FAMILY, PEERS_FAMILY]);
    all.into_iter().any(|known| known == name)
}

/// Builds who was asked for; tells who is missing, and why.
pub(crate) fn prepare(plan: &Plan, folder: &Path) -> (Vec<Client>, Vec<String>) {
    let mut clients = vec![Client::new("raw", &[Who::All], &Client::raw())];
    for (name, roles, arg) in OTTLA {
        clients.push(Client::new(name, roles, Command::new(sibling("bench-ottla")).arg(arg).args(&plan.with)));
    }
    clients.retain(|client| plan.wants(client.name, if client.name == "raw" { "raw" } else { OTTLA_FAMILY }));
    let mut missing = Vec::new();
    for (name, make) in PEERS {
        if !plan.wants(name, PEERS_FAMILY) {
            continue;
        }
        match make.peer(name, folder) {
            Ok(program) => clients.push(Client::peer(name, &program)),
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    (clients, missing)
}

/// How a peer is made: all have their sources in a folder of `benches/peers`.
enum Make {
    Go,
    Java,
    Rust,
}

impl Make {
    fn peer(&self, name: &str, folder: &Path) -> Result<Command, String> {
        match self {
            Self::Go => go(name, folder),
            Self::Java => java(),
            Self::Rust => rust(name, folder),
        }
    }
}

fn go(name: &str, folder: &Path) -> Result<Command, String> {
    let program = folder.join(name);
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(".").current_dir(Path::new(PEERS_FOLDER).join(name));
    build(&mut go, "Go (golang)")?;
    Ok(Command::new(program))
}

fn java() -> Result<Command, String> {
    let source = Path::new(PEERS_FOLDER).join("java/JavaClient.java");
    let source = fs::read_to_string(&source).map_err(|error| format!("cannot read {}: {error}", source.display()))?;
    kafka_harness::java_program("JavaClient", &source).map_err(|error| error.to_string())
}

/// Each of them alone: one that does not build, for want of a C compiler or of cmake, leaves the others their chance.
fn rust(name: &str, folder: &Path) -> Result<Command, String> {
    let target = folder.join("peers");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--release", "--features", name, "--bin", name]);
    cargo.args(["--manifest-path", &format!("{PEERS_FOLDER}/Cargo.toml"), "--target-dir"]).arg(&target);
    // What cargo told this program about itself would make others be built anew.
    let told = env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|part| name.to_string_lossy().starts_with(part)))
    {
        cargo.env_remove(name);
    }
    build(&mut cargo, "Rust")?;
    Ok(Command::new(target.join("release").join(name)))
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
