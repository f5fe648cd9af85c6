//! The jars of one Kafka version, brought by Maven and kept in the user's cache folder.

use std::{
    env, fmt,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use crate::{
    DEFAULT_VERSION,
    error::{Context, Error, Result},
};

/// A version as far as decisions depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// Reads the first two numbers of, say, `0.11.0.3`.
    pub(crate) fn parse(version: &str) -> Result<Self> {
        let mut numbers = version.split('.').map_while(|part| part.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) >= (0, 11) => Ok(Self(major, minor)),
            (Some(_), Some(_)) => {
                Err(Error::new(format!("Kafka {version} is older than 0.11, the oldest that ottla reads from")))
            }
            _ => Err(Error::new(format!("{version:?} is no Kafka version"))),
        }
    }

    /// KRaft is ready for use, from 3.3 on; before, ZooKeeper keeps the metadata.
    pub(crate) fn has_kraft(self) -> bool {
        self >= Self(3, 3)
    }
}

/// The folder with one version's jars.
#[derive(Clone, Debug)]
pub(crate) struct Jars {
    pub(crate) folder: PathBuf,
    pub(crate) version: Version,
}

impl Jars {
    /// Finds the jars in the cache folder, or fetches them first.
    pub(crate) fn of(version: &str) -> Result<Self> {
        // One download per program at a time; another program's is harmless: the folders are the same.
        static FETCHING: Mutex<()> = Mutex::new(());
        let (folder, parsed) = (cache_folder()?.join(version), Version::parse(version)?);
        let _one_at_a_time = FETCHING.lock().expect("no fetch panics");
        if !folder.exists() {
            java_and_maven()?;
            fetch(version, parsed, &folder)?;
        }
        Ok(Self { folder, version: parsed })
    }

    /// Returns the class path: sorted, because an AppCDS archive is valid for one order only.
    pub(crate) fn class_path(&self) -> Result<String> {
        let entries = fs::read_dir(&self.folder).context(format!("list {}", self.folder.display()))?;
        let mut jars: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("jar".as_ref())).collect();
        jars.sort();
        Ok(jars.iter().map(|jar| jar.display().to_string()).collect::<Vec<_>>().join(":"))
    }

    /// Returns the archive of loaded classes with which a JVM starts in a third of the time.
    pub(crate) fn archive(&self) -> PathBuf {
        self.folder.join("broker.jsa")
    }

    /// Compiles a Java program of one file against these jars and returns the folder of its classes; a second time costs nothing.
    pub(crate) fn compile(&self, name: &str, source: &str) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let classes = self.folder.join(format!("{name}-{:016x}", hasher.finish()));
        build_folder(&classes, |fresh| {
            let file = fresh.join(format!("{name}.java"));
            fs::write(&file, source).context(format!("write {}", file.display()))?;
            let mut javac = jdk("javac");
            javac.args(["-nowarn", "-proc:none", "-cp", &self.class_path()?, "-d"]).arg(fresh).arg(file);
            run(&mut javac, "javac")
        })?;
        Ok(classes)
    }
}

/// What a JVM shall be good at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jvm {
    /// It is up within a second and small: for tests, which do little with it.
    #[default]
    Prompt,
    /// It runs as a server would: optimised code, the garbage collector of servers, a heap of 1 GiB. For measurements.
    Swift,
}

impl Jvm {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Prompt => &["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms64m", "-Xmx256m"],
            Self::Swift => &["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Xms1g", "-Xmx1g"],
        }
    }
}

/// Builds a `java` command line up to the class path: flags that start a small JVM fast.
pub(crate) fn java(jars: &Jars) -> Result<Command> {
    java_for(jars, Jvm::Prompt)
}

/// The same for a JVM that is good at something.
pub(crate) fn java_for(jars: &Jars, jvm: Jvm) -> Result<Command> {
    let mut java = jdk("java");
    java.args(jvm.flags()).args(["-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]);
    java.args(["-Dlog4j2.disableJmx=true", "-Dzookeeper.sasl.client=false", "-Dzookeeper.jmx.log4j.disable=true"]);
    if jars.archive().exists() {
        java.arg(format!("-XX:SharedArchiveFile={}", jars.archive().display()));
    }
    Ok(java)
}

/// Prepares a Java program of one file, with Kafka's classes in reach and the flags that Java has by itself.
///
/// # Errors
///
/// Says what is missing on this machine, or what the compiler says.
pub fn java_program(name: &str, source: &str) -> Result<Command> {
    let jars = Jars::of(DEFAULT_VERSION)?;
    let classes = jars.compile(name, source)?;
    let mut java = jdk("java");
    java.args(["-Dlog4j2.level=OFF", "-Dlog4j2.StatusLogger.level=OFF"]);
    java.args(["-cp", &format!("{}:{}", jars.class_path()?, classes.display()), name]);
    Ok(java)
}

/// Names a program of the JDK: that of `JAVA_HOME`, or the one in the path.
fn jdk(program: &str) -> Command {
    Command::new(env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin").join(program)).unwrap_or(program.into()))
}

/// Checks that there is a JDK, new enough, and Maven.
///
/// # Errors
///
/// Says what to install.
pub fn java_and_maven() -> Result<()> {
    let wanted = "a real Kafka needs a JDK from 17 on and Maven (Debian, Ubuntu: apt-get install openjdk-17-jdk-headless maven)";
    for mut program in [jdk("javac"), Command::new("mvn")] {
        program.arg("-version").stdin(Stdio::null());
        let told = program.output().map_err(|error| Error::new(format!("{wanted}; {:?}: {error}", program.get_program())))?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let javac = told.strip_prefix("javac ").and_then(|version| version.split('.').next()?.trim().parse::<u32>().ok());
        if javac.is_some_and(|version| version < 17) {
            return Err(Error::new(format!("{wanted}; here is {}", told.trim())));
        }
    }
    Ok(())
}

/// Names the folder where everything fetched or built is kept.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    let folder = base.ok_or_else(|| Error::new("neither XDG_CACHE_HOME nor HOME is set"))?.join("ottla-kafka");
    fs::create_dir_all(&folder).context(format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Lets `build` fill a fresh folder, then gives it its name: nobody ever sees a half-made one, not even after a crash.
pub(crate) fn build_folder(folder: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let fresh =
        folder.with_file_name(format!(".new-{}-{}", std::process::id(), folder.file_name().unwrap_or_default().display()));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).context(format!("make {}", fresh.display()))?;
    let built = build(&fresh).and_then(|()| match fs::rename(&fresh, folder) {
        // Somebody else was faster with the same.
        Err(_) if folder.exists() => Ok(()),
        renamed => renamed.context(format!("name {}", folder.display())),
    });
    let _ = fs::remove_dir_all(&fresh);
    built
}

/// Runs a program to its end; what it printed goes into the error.
pub(crate) fn run(command: &mut Command, name: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context(format!("run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(Error::new(format!("{name} failed:\n{}", crate::process::last_lines(&told, 30))))
}

fn fetch(version: &str, parsed: Version, folder: &Path) -> Result<()> {
    let with_tools = |tools| build_folder(folder, |fresh| copy_dependencies(&dependencies(version, parsed, tools), fresh));
    // Some versions were published without their tools; a broker runs without.
    with_tools(true).or_else(|error| with_tools(false).map_err(|_| error))
}

fn copy_dependencies(dependencies: &[Dependency<'_>], fresh: &Path) -> Result<()> {
    let dependencies: String = dependencies.iter().map(Dependency::to_string).collect();
    let project = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>ottla</groupId><artifactId>kafka</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    );
    fs::write(fresh.join("pom.xml"), project).context("write pom.xml")?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=.", "-DincludeScope=runtime"]).current_dir(fresh);
    run(&mut maven, "mvn")?;
    // Class paths must not name two log bindings.
    for jar in fs::read_dir(fresh).context("list the jars")?.flatten() {
        let name = jar.file_name().display().to_string();
        if name.starts_with("slf4j-log4j12-") || name.starts_with("log4j-1.2") {
            fs::remove_file(jar.path()).context(format!("remove {name}"))?;
        }
    }
    // Flushed before the folder gets its name.
    File::open(fresh).and_then(|folder| folder.sync_all()).context("flush the jars")
}

struct Dependency<'a> {
    group: &'a str,
    artifact: &'a str,
    version: &'a str,
}

/// What a tool of the command line does not need: Connect with its web server, and a second log binding.
const EXCLUDED: [(&str, &str); 8] = [
    ("org.apache.kafka", "connect-runtime"),
    ("org.apache.kafka", "connect-api"),
    ("org.apache.kafka", "connect-json"),
    ("org.apache.kafka", "kafka-log4j-appender"),
    ("org.glassfish.jersey.containers", "*"),
    ("org.eclipse.jetty", "*"),
    ("log4j", "log4j"),
    ("org.slf4j", "slf4j-log4j12"),
];

impl fmt::Display for Dependency<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, artifact, version } = self;
        write!(
            f,
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version><exclusions>"
        )?;
        for (group, artifact) in EXCLUDED {
            write!(f, "<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>")?;
        }
        write!(f, "</exclusions></dependency>")
    }
}

fn dependencies(version: &str, parsed: Version, with_tools: bool) -> Vec<Dependency<'_>> {
    let needed = |group, artifact, version| Dependency { group, artifact, version };
    let core = if parsed >= Version(2, 4) { "kafka_2.13" } else { "kafka_2.12" };
    let mut all = vec![needed("org.apache.kafka", core, version)];
    if with_tools {
        all.push(needed("org.apache.kafka", "kafka-tools", version));
    }
    if parsed >= Version(4, 0) {
        all.extend(
            ["log4j-slf4j-impl", "log4j-core", "log4j-api"].map(|name| needed("org.apache.logging.log4j", name, "2.25.4")),
        );
    } else {
        all.extend(["slf4j-reload4j", "slf4j-api"].map(|name| needed("org.slf4j", name, "1.7.36")));
    }
    if parsed < Version(2, 4) {
        // The ZooKeeper they came with cannot resolve an address since Java 14.
        all.push(needed("org.apache.zookeeper", "zookeeper", "3.5.9"));
    }
    if parsed < Version(2, 0) {
        // Left the JDK with Java 11.
        all.push(needed("javax.xml.bind", "jaxb-api", "2.3.1"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(Version::parse("0.11.0.3").unwrap(), Version(0, 11));
        assert!(Version::parse("3.10.0").unwrap() > Version::parse("3.9.2").unwrap());
        assert!(Version::parse("0.10.2.2").is_err());
        assert!(Version::parse("newest").is_err());
    }

    #[test]
    fn old_versions_get_the_jars_that_java_17_needs() {
        let names = |version: &str| {
            let all = dependencies(version, Version::parse(version).unwrap(), true);
            all.iter().map(|dependency| dependency.artifact.to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("4.3.1"), "kafka_2.13 kafka-tools log4j-slf4j-impl log4j-core log4j-api");
        assert_eq!(names("3.9.2"), "kafka_2.13 kafka-tools slf4j-reload4j slf4j-api");
        assert_eq!(names("2.1.1"), "kafka_2.12 kafka-tools slf4j-reload4j slf4j-api zookeeper");
        assert_eq!(names("0.11.0.3"), "kafka_2.12 kafka-tools slf4j-reload4j slf4j-api zookeeper jaxb-api");
    }
}
