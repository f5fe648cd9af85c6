//! A cluster of real brokers.
//!
//! Everything a cluster has on disk is in one folder: `n1/`, `n2/`, … and for old versions `zookeeper/`, each with its settings, its
//! data, its `log` and, while it runs, its `pid`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    DEFAULT_VERSION,
    config::{self, Ports},
    error::{Context, Error, Result},
    jars::{self, Jars, Jvm, Version},
    process::{Watchdog, end_processes_of, eventually, last_lines, reap, signal, spawn_recorded},
};

/// The oldest brokers take 30 s on a quiet machine.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// A broker of a quorum that lost its majority waits minutes for it: then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// SIGKILL leaves only what the kernel has to do.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Writing the archive of loaded classes makes a broker's end slow.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(120);

const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// What a cluster shall be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many brokers; each is a controller, too.
    pub nodes: usize,
    /// Kafka's version, 0.11.0.3 or newer; before 3.3 with a ZooKeeper.
    pub version: String,
    /// Further lines for every broker's `server.properties`; they win over the harness' own.
    pub extra_conf: Vec<(String, String)>,
    /// What every broker listens to beside PLAINTEXT, by which brokers speak to each other (Kafka from 1.0 on).
    pub listeners: Vec<Listener>,
    /// Further arguments for formatting the storage, such as `--feature group.version=1` (KRaft only).
    pub format_args: Vec<String>,
    /// What the brokers' JVMs shall be good at.
    pub jvm: Jvm,
    /// Further arguments for the brokers' JVMs, such as `-Djava.security.auth.login.config=FILE`.
    pub jvm_args: Vec<String>,
}

/// A listener of its own kind.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name, in upper case.
    pub name: &'static str,
    /// `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: &'static str,
    /// Its settings, without the `listener.name.NAME.` before each. Values may have several lines.
    pub conf: Vec<(String, String)>,
}

impl Default for Options {
    /// Asks for one broker of the default version.
    fn default() -> Self {
        Self {
            nodes: 1,
            version: DEFAULT_VERSION.into(),
            extra_conf: Vec::new(),
            listeners: Vec::new(),
            format_args: Vec::new(),
            jvm: Jvm::default(),
            jvm_args: Vec::new(),
        }
    }
}

/// Brokers that run until this is dropped, or the program ends in whatever way.
pub struct Cluster {
    jars: Jars,
    version: String,
    jvm: Jvm,
    jvm_args: Vec<String>,
    ports: Ports,
    nodes: Vec<Node>,
    zookeeper: Option<Node>,
    /// `None` for brokers that are to outlive this program.
    watchdog: Option<Watchdog>,
}

struct Node {
    folder: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Cluster {
    /// Starts the brokers and returns once each of them says that it has started.
    ///
    /// # Errors
    ///
    /// Says what is missing on this machine, or shows the end of the log of a broker that did not start.
    pub fn start(options: Options) -> Result<Self> {
        let jars = Jars::of(&options.version)?;
        ensure_archive(&jars, &options.version)?;
        Self::start_with(options, jars, None)
    }

    /// Starts brokers that outlive this program, until [`stop_detached`]; returns their bootstrap servers.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and when brokers of this folder may still run.
    pub fn start_detached(options: Options, folder: &Path) -> Result<String> {
        if folder.exists() {
            return Err(Error::new(format!("{} is there already: brokers may still run, end them first", folder.display())));
        }
        let jars = Jars::of(&options.version)?;
        ensure_archive(&jars, &options.version)?;
        let mut cluster = Self::prepare(&options, jars, folder)?;
        cluster.run_all(None)?;
        // Only now: had the start failed, the watchdog would have cleaned up.
        cluster.watchdog.take().map_or(Ok(()), Watchdog::dismiss)?;
        Ok(cluster.bootstrap())
    }

    fn start_with(options: Options, jars: Jars, archive: Option<&Path>) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("ottla-kafka-{}-{number}", std::process::id()));
        let cluster = Self::prepare(&options, jars, &folder)?;
        cluster.run_all(archive)?;
        Ok(cluster)
    }

    /// Lays out the folder, under a watchdog from the first moment.
    fn prepare(options: &Options, jars: Jars, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context(format!("make {}", folder.display()))?;
        let watchdog = Some(Watchdog::over(folder)?);
        let ports = Ports::free(options.nodes, &options.listeners)?;
        let node = |name: &str| -> Result<Node> {
            let folder = folder.join(name);
            fs::create_dir_all(&folder).context(format!("make {}", folder.display()))?;
            write(&folder.join("log4j2.properties"), config::LOG4J2)?;
            write(&folder.join("log4j.properties"), config::LOG4J)?;
            Ok(Node { folder, process: Mutex::new(None) })
        };
        let zookeeper = if jars.version.has_kraft() { None } else { Some(node("zookeeper")?) };
        if let Some(zookeeper) = &zookeeper {
            write(&zookeeper.folder.join("zoo.cfg"), &config::zookeeper(&ports, &zookeeper.folder.join("data")))?;
        }
        let nodes = (1..=options.nodes).map(|id| node(&format!("n{id}"))).collect::<Result<Vec<_>>>()?;
        let version = options.version.clone();
        let (jvm, jvm_args) = (options.jvm, options.jvm_args.clone());
        let cluster = Self { jars, version, jvm, jvm_args, ports, nodes, zookeeper, watchdog };
        for (node, id) in cluster.nodes.iter().zip(1..) {
            let lines = config::broker(options, cluster.jars.version, &cluster.ports, id, &node.folder.join("data"));
            write(&node.folder.join("server.properties"), &lines)?;
            if cluster.jars.version.has_kraft() {
                cluster.format(node, id, &options.format_args)?;
            }
        }
        Ok(cluster)
    }

    fn run_all(&self, archive: Option<&Path>) -> Result<()> {
        if let Some(zookeeper) = &self.zookeeper {
            self.run(zookeeper, "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg", None)?;
            self.await_start(zookeeper, |_| zookeeper_serves(self.ports.zookeeper))?;
        }
        for node in &self.nodes {
            self.run(node, "kafka.Kafka", "server.properties", archive)?;
        }
        self.nodes.iter().try_for_each(|node| self.await_start(node, says_started))
    }

    /// Returns the bootstrap servers, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.ports.bootstrap()
    }

    /// Returns the addresses of another listener, by its name, separated by commas.
    ///
    /// # Panics
    ///
    /// When the cluster was not started with such a listener.
    pub fn bootstrap_of(&self, listener: &str) -> String {
        self.ports.bootstrap_of(listener)
    }

    /// Returns the version that the brokers have.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns how many brokers there are, running or not; they are numbered from 1.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Ends broker `id` in order (SIGTERM): it hands its partitions over first. Returns when the process has ended.
    pub fn stop_broker(&self, id: usize) -> Result<()> {
        self.end(id, "TERM", STOP_TIMEOUT)
    }

    /// Kills broker `id` (SIGKILL), as a crash would. Returns when the process has ended.
    pub fn kill_broker(&self, id: usize) -> Result<()> {
        self.end(id, "KILL", KILL_TIMEOUT)
    }

    /// Halts broker `id` (SIGSTOP): its connections stay open and say nothing.
    pub fn pause_broker(&self, id: usize) -> Result<()> {
        self.with_process(id, |child| signal("STOP", child))
    }

    /// Lets a halted broker go on (SIGCONT).
    pub fn resume_broker(&self, id: usize) -> Result<()> {
        self.with_process(id, |child| signal("CONT", child))
    }

    /// Starts broker `id` again, with its port and its data. Returns when it says that it has started.
    pub fn start_broker(&self, id: usize) -> Result<()> {
        let node = self.node(id)?;
        if node.process().is_some() {
            return Err(Error::new(format!("broker {id} runs already")));
        }
        self.run(node, "kafka.Kafka", "server.properties", None)?;
        self.await_start(node, says_started)
    }

    /// Returns what broker `id` logged, over all its lives.
    pub fn log(&self, id: usize) -> Result<String> {
        let log = fs::read(self.node(id)?.folder.join("log")).context("read the log")?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Returns the folder in which broker `id` keeps its partitions, each in a folder `TOPIC-PARTITION`.
    pub fn data_folder(&self, id: usize) -> Result<PathBuf> {
        Ok(self.node(id)?.folder.join("data"))
    }

    /// Returns the system's number for the process of broker `id`.
    pub fn process_id(&self, id: usize) -> Result<u32> {
        self.with_process(id, |child| Ok(child.id()))
    }

    fn node(&self, id: usize) -> Result<&Node> {
        id.checked_sub(1).and_then(|at| self.nodes.get(at)).ok_or_else(|| Error::new(format!("there is no broker {id}")))
    }

    fn with_process<T>(&self, id: usize, act: impl FnOnce(&mut Child) -> Result<T>) -> Result<T> {
        let mut process = self.node(id)?.process();
        act(process.as_mut().ok_or_else(|| Error::new(format!("broker {id} does not run")))?)
    }

    fn end(&self, id: usize, how: &str, within: Duration) -> Result<()> {
        let node = self.node(id)?;
        self.with_process(id, |child| {
            signal(how, child)?;
            if reap(&node.folder, child, within).is_some() {
                return Ok(());
            }
            signal("KILL", child)?;
            let ended = reap(&node.folder, child, KILL_TIMEOUT);
            ended.map(drop).ok_or_else(|| Error::new(format!("broker {id} outlived SIGKILL")))
        })?;
        *node.process() = None;
        Ok(())
    }

    /// Formats the storage of a new broker. What comes of it depends on nothing but the arguments: it is kept for the next cluster,
    /// which is spared the JVM.
    fn format(&self, node: &Node, id: usize, args: &[String]) -> Result<()> {
        let data = node.folder.join("data");
        let formatted = self.jars.folder.join(format!("formatted-{id}-{}", args.join("_").replace('/', "_")));
        if !formatted.exists() {
            let mut format = jars::java(&self.jars)?;
            format.args(log_flags(&node.folder)).args(["-cp", &self.jars.class_path()?, "kafka.tools.StorageTool", "format"]);
            format.args(["-t", CLUSTER_ID, "-c"]).arg(node.folder.join("server.properties")).args(args);
            jars::run(&mut format, "kafka.tools.StorageTool")?;
            jars::build_folder(&formatted, |fresh| copy_tree(&data, fresh))
        } else {
            fs::create_dir_all(&data).context(format!("make {}", data.display()))?;
            copy_tree(&formatted, &data)
        }
    }

    fn run(&self, node: &Node, main: &str, settings: &str, archive: Option<&Path>) -> Result<()> {
        let mut java = jars::java_for(&self.jars, self.jvm)?;
        java.args(log_flags(&node.folder)).arg(format!("-Dkafka.logs.dir={}", node.folder.display()));
        if let Some(archive) = archive {
            java.arg(format!("-XX:ArchiveClassesAtExit={}", archive.display()));
        }
        java.args(&self.jvm_args).args(["-cp", &self.jars.class_path()?, main]).arg(node.folder.join(settings));
        let line: Vec<OsString> = std::iter::once(java.get_program()).chain(java.get_args()).map(OsString::from).collect();
        // The line by which a start is told stands after this one, whatever the earlier lives of the broker said.
        let log = node.folder.join("log");
        let mut file = fs::File::options().create(true).append(true).open(&log).context(format!("open {}", log.display()))?;
        writeln!(file, "{STARTING}").context(format!("write {}", log.display()))?;
        *node.process() = Some(spawn_recorded(&node.folder, line)?);
        Ok(())
    }

    fn await_start(&self, node: &Node, started: impl Fn(&str) -> bool) -> Result<()> {
        let log = || {
            let all =
                fs::read(node.folder.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            all.rsplit(STARTING).next().unwrap_or_default().to_owned()
        };
        let (mut is_up, mut ended) = (false, None);
        eventually(START_TIMEOUT, || {
            is_up = started(&log());
            ended = node.process().as_mut().and_then(|child| child.try_wait().ok().flatten());
            is_up || ended.is_some()
        });
        let what = match ended {
            Some(status) => format!("ended ({status})"),
            None if is_up => return Ok(()),
            None => format!("did not start within {START_TIMEOUT:?}"),
        };
        Err(Error::new(format!("{} {what}:\n{}", node.folder.display(), last_lines(&log(), 30))))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.watchdog.take().is_none() {
            return;
        }
        // The watchdog has ended them; their parent still has to take notice.
        for node in self.nodes.iter().chain(&self.zookeeper) {
            if let Some(mut child) = node.process().take() {
                let _ = child.wait();
            }
        }
    }
}

impl Node {
    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().expect("nothing panics while it holds a broker's process")
    }
}

/// Ends the brokers of a folder and removes it.
pub fn stop_detached(folder: &Path) -> Result<()> {
    end_processes_of(folder)?;
    if folder.exists() { Err(Error::new(format!("cannot remove {}", folder.display()))) } else { Ok(()) }
}

/// Divides the lives of a broker in its log.
const STARTING: &str = "---- starting ----";

fn says_started(log: &str) -> bool {
    // 3.3 and later; 2.x; 0.11 and 1.x.
    log.contains("Kafka Server started")
        || log.contains("] started (kafka.server.KafkaServer)")
        || log.contains("], started (kafka.server")
}

fn zookeeper_serves(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"srvr")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.contains("Mode:"))
}

fn log_flags(folder: &Path) -> [String; 2] {
    [
        format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()),
        format!("-Dlog4j.configuration=file:{}", folder.join("log4j.properties").display()),
    ]
}

/// Runs a broker once, only to write down which classes it loads: every later JVM of this version starts three times as fast.
fn ensure_archive(jars: &Jars, version: &str) -> Result<()> {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock().expect("no broker's start panics");
    if jars.archive().exists() || jars.version < Version(2, 8) {
        return Ok(());
    }
    let fresh = jars.folder.join(format!("broker.jsa.{}", std::process::id()));
    let cluster = Cluster::start_with(Options { version: version.into(), ..Options::default() }, jars.clone(), Some(&fresh))?;
    cluster.end(1, "TERM", ARCHIVE_TIMEOUT)?;
    // A JVM that wrote none costs the later ones two seconds each, and no more.
    let _ = fs::rename(&fresh, jars.archive());
    Ok(())
}

/// Copies a folder into another that is there already.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).context(format!("list {}", from.display()))?.flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            fs::create_dir_all(&to).context(format!("make {}", to.display()))?;
            copy_tree(&from, &to)?;
        } else {
            fs::copy(&from, &to).context(format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(format!("write {}", path.display()))
}
