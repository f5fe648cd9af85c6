//! Kafka's own command-line tool for groups.

use std::process::Stdio;

use crate::{
    DEFAULT_VERSION,
    error::{Context, Error, Result},
    jars::{self, Jars, Version},
};

/// Where the tool's class is: since 3.8, and before.
const CLASSES: [&str; 2] = ["org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "kafka.admin.ConsumerGroupCommand"];

/// Runs `kafka-consumer-groups` of the brokers' own version: the word that an operator goes by.
pub struct ConsumerGroups {
    jars: Jars,
    bootstrap: String,
}

impl ConsumerGroups {
    /// Gets the tool of a version, for the brokers at `bootstrap`.
    pub fn of(bootstrap: &str, version: &str) -> Result<Self> {
        let mut jars = Jars::of(version)?;
        if jars.version >= Version(3, 8) && !jars.folder.join(format!("kafka-tools-{version}.jar")).exists() {
            // This version was published without its tools.
            jars = Jars::of(DEFAULT_VERSION)?;
        }
        Ok(Self { jars, bootstrap: bootstrap.into() })
    }

    /// Runs the tool once, with arguments such as `--describe --group orders`, and returns what it prints. Takes a second or two.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let class = CLASSES[usize::from(self.jars.version < Version(3, 8))];
        let mut java = jars::java(&self.jars)?;
        java.args(["-cp", &self.jars.class_path()?, class, "--bootstrap-server", &self.bootstrap]).args(args);
        let output = java.stdin(Stdio::null()).output().context("start java")?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(told);
        }
        Err(Error::new(format!("{class} {}:\n{told}{}", args.join(" "), String::from_utf8_lossy(&output.stderr))))
    }
}
