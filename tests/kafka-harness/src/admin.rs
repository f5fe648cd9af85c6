//! Java's admin client, producers and consumers, in one JVM beside the cluster.
//!
//! What the commands and their answers look like is told in `java/AdminShell.java`.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{BufRead, BufReader, Write},
    ops::RangeInclusive,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use crate::{
    DEFAULT_VERSION,
    error::{Context, Error, Result},
    jars::{self, Jars, Version},
};

/// Longer than Java's clients take to give up by themselves, which is after one minute, or two.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);
/// Java's clients speak to brokers of 2.1 or newer since their 4.0.
const OLDEST_FOR_NEW_CLIENTS: Version = Version(2, 1);
const CLIENTS_FOR_OLD_BROKERS: &str = "3.9.2";

/// A JVM that does what a test wants done by others: may be shared by all threads.
pub struct Admin {
    process: Child,
    commands: Mutex<ChildStdin>,
    waiting: Arc<Waiting>,
    number: AtomicU64,
}

/// Who waits for which answer; `None` when the JVM has ended and no answer will come.
type Waiting = Mutex<Option<BTreeMap<u64, Sender<Result<Vec<String>>>>>>;

/// Partitions of topics, each with what was asked about it.
type ByPartition<T> = BTreeMap<(String, i32), T>;

impl Admin {
    /// Starts the JVM for a cluster of some version.
    ///
    /// # Errors
    ///
    /// Says what is missing on this machine.
    pub fn start(bootstrap: &str, broker_version: &str) -> Result<Self> {
        let is_old = Version::parse(broker_version)? < OLDEST_FOR_NEW_CLIENTS;
        let jars = Jars::of(if is_old { CLIENTS_FOR_OLD_BROKERS } else { DEFAULT_VERSION })?;
        let classes = jars.compile("AdminShell", include_str!("../java/AdminShell.java"))?;
        let mut java = jars::java(&jars)?;
        // Without settings its log says nothing; what matters comes as an answer.
        java.args(["-Dlog4j2.level=OFF", "-Dlog4j2.StatusLogger.level=OFF"]);
        java.args(["-cp", &format!("{}:{}", jars.class_path()?, classes.display()), "AdminShell", bootstrap]);
        let mut process =
            java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("start java")?;
        let commands = Mutex::new(process.stdin.take().expect("asked for above"));
        let answers = process.stdout.take().expect("asked for above");
        let waiting = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let same = Arc::clone(&waiting);
        thread::spawn(move || deliver(answers, &same));
        Ok(Self { process, commands, waiting, number: AtomicU64::new(1) })
    }

    /// Creates a topic; `configs` are names and values such as `("cleanup.policy", "compact")`.
    pub fn create_topic(&self, topic: &str, partitions: i32, replication: i16, configs: &[(&str, &str)]) -> Result<()> {
        let command =
            Command::new("create-topic").with("topic", topic).with("partitions", partitions).with("replication", replication);
        self.run(command.with_all("config.", configs)).map(drop)
    }

    /// Creates a topic whose partition n lives on the brokers `replicas[n]`, the first of them preferred as its leader.
    pub fn create_topic_on(&self, topic: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) -> Result<()> {
        let replicas: Vec<_> = replicas.iter().map(|brokers| ids(brokers)).collect();
        let command = Command::new("create-topic").with("topic", topic).with("replicas", replicas.join(";"));
        self.run(command.with_all("config.", configs)).map(drop)
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        self.run(Command::new("delete-topic").with("topic", topic)).map(drop)
    }

    /// Gives a topic more partitions: `total` in all.
    pub fn add_partitions(&self, topic: &str, total: i32) -> Result<()> {
        self.run(Command::new("add-partitions").with("topic", topic).with("total", total)).map(drop)
    }

    /// Tells where a topic's partitions are.
    pub fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, Leader>> {
        let fields = self.run(Command::new("describe-topic").with("topic", topic))?;
        by_partition(&fields, |words| {
            Ok(Leader { leader: parse(words.first())?, replicas: parse_ids(words.get(1))?, in_sync: parse_ids(words.get(2))? })
        })
        .map(of_one_topic)
    }

    /// Changes settings while the brokers run; `kind` is `topic` or `broker`.
    pub fn alter_config(&self, kind: &str, name: &str, configs: &[(&str, &str)]) -> Result<()> {
        self.run(Command::new("alter-config").with("type", kind).with("name", name).with_all("config.", configs)).map(drop)
    }

    /// Sets a quota, such as `consumer_byte_rate`, for all clients that call themselves `client_id` (Kafka from 2.6 on); with `None` it takes
    /// it away. As `kafka-configs --entity-type clients` does.
    pub fn set_quota(&self, client_id: &str, quota: &str, value: Option<f64>) -> Result<()> {
        let command = Command::new("set-quota").with("client-id", client_id).with("quota", quota);
        self.run(if let Some(value) = value { command.with("value", value) } else { command }).map(drop)
    }

    /// Tells the offset after the last record of each partition.
    pub fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        self.list_offsets(topic, "latest")
    }

    /// Tells the offset of the first record that is still there, for each partition.
    pub fn start_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        self.list_offsets(topic, "earliest")
    }

    fn list_offsets(&self, topic: &str, at: &str) -> Result<BTreeMap<i32, i64>> {
        let fields = self.run(Command::new("list-offsets").with("topic", topic).with("at", at))?;
        by_partition(&fields, |words| parse(words.first())).map(of_one_topic)
    }

    /// Deletes the records before an offset: the log then starts there.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        self.run(Command::new("delete-records").at(topic, partition).with("before", before)).map(drop)
    }

    /// Denies everybody one operation, such as `READ`, on a `topic` or `group`, and allows every other. Needs brokers with an authorizer.
    pub fn deny(&self, kind: &str, name: &str, operation: &str) -> Result<()> {
        self.run(Command::new("deny").with("type", kind).with("name", name).with("operation", operation)).map(drop)
    }

    /// Takes back every rule about a `topic` or `group`.
    pub fn undeny(&self, kind: &str, name: &str) -> Result<()> {
        self.run(Command::new("undeny").with("type", kind).with("name", name)).map(drop)
    }

    /// Gives a user of SCRAM a password, with both hashes; with `None` it takes the user away.
    pub fn set_password(&self, user: &str, password: Option<&str>) -> Result<()> {
        let command = Command::new("set-password").with("user", user);
        self.run(if let Some(password) = password { command.with("password", password) } else { command }).map(drop)
    }

    /// Moves a partition to other brokers; does not wait until it is there.
    pub fn reassign(&self, topic: &str, partition: i32, replicas: &[i32]) -> Result<()> {
        self.run(Command::new("reassign").at(topic, partition).with("replicas", ids(replicas))).map(drop)
    }

    /// Makes the preferred replica a partition's leader again.
    pub fn elect_preferred(&self, topic: &str, partition: i32) -> Result<()> {
        self.run(Command::new("elect").at(topic, partition).with("kind", "preferred")).map(drop)
    }

    /// Makes any living replica a partition's leader, even one that lacks records.
    pub fn elect_unclean(&self, topic: &str, partition: i32) -> Result<()> {
        self.run(Command::new("elect").at(topic, partition).with("kind", "unclean")).map(drop)
    }

    /// Tells what a group has committed, and how far that is from the end, by topic and partition.
    pub fn committed(&self, group: &str) -> Result<ByPartition<Lag>> {
        let fields = self.run(Command::new("committed").with("group", group))?;
        by_partition(&fields, |words| Ok(Lag { offset: parse(words.first())?, lag: parse(words.get(1))? }))
    }

    /// Tells what the coordinator knows of a group.
    pub fn group(&self, group: &str) -> Result<Group> {
        let fields = self.run(Command::new("describe-group").with("group", group))?;
        let members = fields.iter().skip(3).map(|field| GroupMember::parse(field)).collect::<Result<_>>()?;
        let word = |at: usize| fields.get(at).cloned().unwrap_or_default();
        Ok(Group { state: word(0), coordinator: parse(fields.get(1).map(String::as_str).as_ref())?, assignor: word(2), members })
    }

    /// Tells how many requests of a kind, such as `FetchConsumer`, a broker on this machine has answered, given the number of its process.
    pub fn requests(&self, process: u32, kind: &str) -> Result<u64> {
        let fields = self.run(Command::new("requests").with("process", process).with("kind", kind))?;
        parse(fields.first().map(String::as_str).as_ref())
    }

    /// Tells how many bytes the middle one of the last requests of a kind had to a broker on this machine, given the number of its process.
    pub fn request_bytes(&self, process: u32, kind: &str) -> Result<u64> {
        let fields = self.run(Command::new("request-bytes").with("process", process).with("kind", kind))?;
        parse(fields.first().map(String::as_str).as_ref())
    }

    /// Tells how many bytes all requests of a kind had to a broker on this machine together, given the number of its process.
    pub fn all_request_bytes(&self, process: u32, kind: &str) -> Result<u64> {
        let fields = self.run(Command::new("all-request-bytes").with("process", process).with("kind", kind))?;
        parse(fields.first().map(String::as_str).as_ref())
    }

    /// Tells how many bytes of a topic a broker on this machine has sent to consumers, given the number of its process.
    pub fn bytes_out(&self, process: u32, topic: &str) -> Result<u64> {
        let fields = self.run(Command::new("bytes-out").with("process", process).with("topic", topic))?;
        parse(fields.first().map(String::as_str).as_ref())
    }

    /// Tells how many connections a broker on this machine has accepted so far, given the number of its process.
    pub fn connections(&self, process: u32) -> Result<u64> {
        let fields = self.run(Command::new("connections").with("process", process))?;
        parse(fields.first().map(String::as_str).as_ref())
    }

    /// Commits an offset for a group that has no members.
    pub fn alter_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.run(Command::new("alter-offset").with("group", group).at(topic, partition).with("offset", offset)).map(drop)
    }

    /// Removes the committed offset of a partition to which no member subscribes.
    pub fn delete_offsets(&self, group: &str, topic: &str, partition: i32) -> Result<()> {
        self.run(Command::new("delete-offsets").with("group", group).at(topic, partition)).map(drop)
    }

    /// Deletes a group that has no members.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.run(Command::new("delete-group").with("group", group)).map(drop)
    }

    /// Produces records and waits until all replicas have them; returns the first and the last offset.
    pub fn produce(&self, records: &Produce<'_>) -> Result<(i64, i64)> {
        self.send(records.command("produce"))
    }

    /// Produces records in a transaction. One left open is ended by [`end_transaction`](Self::end_transaction), or by another call with
    /// its id, whose records then join it when `join` is set.
    pub fn produce_in_transaction(&self, id: &str, records: &Produce<'_>, outcome: Outcome, join: bool) -> Result<(i64, i64)> {
        self.send(records.command("transaction").with("id", id).with("outcome", outcome.word()).with("continue", join))
    }

    /// Commits or aborts a transaction that was left open.
    pub fn end_transaction(&self, id: &str, outcome: Outcome) -> Result<()> {
        self.run(Command::new("end-transaction").with("id", id).with("outcome", outcome.word())).map(drop)
    }

    fn send(&self, command: Command) -> Result<(i64, i64)> {
        let fields = self.run(command)?;
        let word = |at: usize| parse(fields.get(at).map(String::as_str).as_ref());
        Ok((word(0)?, word(1)?))
    }

    /// Lets a Java consumer join a group. `assignors` are names such as `range`, `roundrobin`, `sticky`, `cooperative-sticky`, separated
    /// by commas; `configs` are the consumer's own. It commits by itself every 500 ms unless `enable.auto.commit` is `false`.
    pub fn join(
        &self,
        name: &str,
        group: &str,
        topics: &[&str],
        assignors: &str,
        configs: &[(&str, &str)],
    ) -> Result<JavaMember<'_>> {
        let command = Command::new("member-start").with("name", name).with("group", group).with("topics", topics.join(","));
        self.run(command.with("assignor", assignors).with_all("config.", configs))?;
        Ok(JavaMember { admin: self, name: name.into() })
    }

    fn run(&self, command: Command) -> Result<Vec<String>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let ended = || Error::new(format!("{}: the JVM of the admin shell has ended", command.name));
        let (answer, answered) = channel();
        self.waiting.lock().expect("nothing panics while it holds it").as_mut().ok_or_else(ended)?.insert(number, answer);
        let line = format!("{number}\t{}{}\n", command.name, command.arguments);
        self.commands.lock().expect("nothing panics while it holds it").write_all(line.as_bytes()).map_err(|_| ended())?;
        match answered.recv_timeout(ANSWER_TIMEOUT) {
            Ok(answer) => {
                answer.map_err(|error| Error::new(format!("{}{}: {error}", command.name, command.arguments.replace('\t', " "))))
            }
            Err(_) => Err(Error::new(format!("{}: the admin shell did not answer", command.name))),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Gives each answer to whoever waits for it, until the JVM ends; then nobody waits any longer.
fn deliver(answers: ChildStdout, waiting: &Waiting) {
    let lock = || waiting.lock().expect("nothing panics while it holds it");
    for line in BufReader::new(answers).lines().map_while(std::io::Result::ok) {
        let mut words = line.split('\t').map(str::to_owned);
        let (number, verdict) = (words.next().and_then(|word| word.parse().ok()), words.next());
        let answer =
            if verdict.as_deref() == Some("ok") { Ok(words.collect()) } else { Err(Error::new(words.collect::<String>())) };
        let asker = number.and_then(|number: u64| lock().as_mut()?.remove(&number));
        // Whoever asked may have given up.
        let _ = asker.map(|asker| asker.send(answer));
    }
    *lock() = None;
}

/// Java's consumer as a member of a group; leaves it when told to [`stop`](Self::stop).
pub struct JavaMember<'a> {
    admin: &'a Admin,
    name: String,
}

impl JavaMember<'_> {
    /// Tells what the member holds and has read.
    pub fn status(&self) -> Result<MemberStatus> {
        MemberStatus::parse(&self.run("member-status")?)
    }

    /// Commits what the member has read, and waits for it.
    pub fn commit(&self) -> Result<()> {
        self.run("member-commit").map(drop)
    }

    /// Leaves the group in order, and tells the last status.
    pub fn stop(self) -> Result<MemberStatus> {
        MemberStatus::parse(&self.run("member-stop")?)
    }

    fn run(&self, command: &'static str) -> Result<Vec<String>> {
        self.admin.run(Command::new(command).with("name", &self.name))
    }
}

/// What a peer's member of a group holds and has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// The partitions it holds, sorted.
    pub assigned: Vec<(String, i32)>,
    /// How often it was given partitions.
    pub rebalances: u32,
    /// Why it ended; empty while it runs.
    pub failure: String,
    /// What it read of each partition.
    pub seen: ByPartition<Seen>,
}

impl MemberStatus {
    /// Returns how many records it read in all, repeated ones included.
    pub fn records(&self) -> usize {
        self.seen.values().map(Seen::records).sum()
    }

    fn parse(fields: &[String]) -> Result<Self> {
        let [assigned, rebalances, failure, seen @ ..] = fields else { return Err(unreadable(&fields.join(" "))) };
        let seen = by_partition(seen, |words| Seen::parse(words.first().unwrap_or(&"")))?;
        Ok(Self {
            assigned: partitions(assigned)?,
            rebalances: parse(Some(&rebalances.as_str()))?,
            failure: failure.clone(),
            seen,
        })
    }
}

/// Offsets in the order in which they were read, as runs without a gap; one that came again begins another run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub Vec<RangeInclusive<i64>>);

impl Seen {
    /// Returns how many records these are, repeated ones included.
    pub fn records(&self) -> usize {
        self.0.iter().map(|run| (run.end() - run.start() + 1) as usize).sum()
    }

    /// Reads `0-99,105-120`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let run = |run: &str| {
            let (first, last) = run.split_once('-').ok_or_else(|| unreadable(text))?;
            Ok(parse(Some(&first))?..=parse(Some(&last))?)
        };
        text.split(',').filter(|run| !run.is_empty()).map(run).collect::<Result<_>>().map(Self)
    }
}

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The offset of the next record to read.
    pub offset: i64,
    /// How many offsets lie between it and the end.
    pub lag: i64,
}

/// Who serves a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader's broker id; -1 when there is none.
    pub leader: i32,
    /// The brokers that hold the partition, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that have all records.
    pub in_sync: Vec<i32>,
}

/// What the coordinator knows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`, …
    pub state: String,
    /// The coordinator's broker id.
    pub coordinator: i32,
    /// The name of the assignor that the broker picked.
    pub assignor: String,
    /// The members, in no order.
    pub members: Vec<GroupMember>,
}

/// What the coordinator knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The member's id, as the coordinator gave it.
    pub member_id: String,
    /// The client's own name.
    pub client_id: String,
    /// The name of a static member; empty for others.
    pub instance_id: String,
    /// The partitions it was given, sorted.
    pub assigned: Vec<(String, i32)>,
}

impl GroupMember {
    fn parse(field: &str) -> Result<Self> {
        let words: Vec<_> = field.split('|').collect();
        let [member_id, client_id, instance_id, assigned] = words[..] else { return Err(unreadable(field)) };
        let (member_id, client_id, instance_id) = (member_id.into(), client_id.into(), instance_id.into());
        Ok(Self { member_id, client_id, instance_id, assigned: partitions(assigned)? })
    }
}

/// Records to produce, numbered from `first`; what each holds follows from its number, see [`value`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Produce<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// How many records.
    pub count: u64,
    /// The number of the first record.
    pub first: u64,
    /// The values' length; they are longer if their number needs it.
    pub size: usize,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`; empty means `none`.
    pub codec: &'a str,
    /// What the keys begin with, before the record's number; `None` for records without a key.
    pub key: Option<&'a str>,
    /// Headers that every record gets.
    pub headers: &'a [(&'a str, &'a str)],
    /// The first record's timestamp, each further one's 1 ms later; `None` for the time of producing.
    pub timestamp_ms: Option<i64>,
    /// Tombstones: records without a value.
    pub null_values: bool,
    /// Further settings of the producer, such as `("batch.size", "1000000")`.
    pub configs: &'a [(&'a str, &'a str)],
}

impl Produce<'_> {
    fn command(&self, name: &'static str) -> Command {
        let codec = if self.codec.is_empty() { "none" } else { self.codec };
        let mut command = Command::new(name).at(self.topic, self.partition).with("count", self.count).with("first", self.first);
        command = command.with("size", self.size).with("codec", codec).with_all("config.", self.configs);
        for (at, (name, value)) in self.headers.iter().enumerate() {
            command = command.with(&format!("header.{at}"), format!("{name}={value}"));
        }
        if let Some(key) = self.key {
            command = command.with("key", key);
        }
        if let Some(timestamp_ms) = self.timestamp_ms {
            // The shell adds the record's number.
            command = command.with("timestamp", timestamp_ms - self.first as i64);
        }
        if self.null_values { command.with("null-values", true) } else { command }
    }
}

/// Returns the value of record `n`, as [`Admin::produce`] writes it.
pub fn value(topic: &str, partition: i32, n: u64, size: usize) -> String {
    format!("{:.<size$}", format!("{topic}-{partition}-{n}"))
}

/// How a transaction shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its records become visible.
    Commit,
    /// Its records are never seen by readers of committed ones.
    Abort,
    /// It stays open, and holds back readers of committed records.
    Open,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
            Self::Open => "open",
        }
    }
}

/// One line for the shell.
struct Command {
    name: &'static str,
    arguments: String,
}

impl Command {
    fn new(name: &'static str) -> Self {
        Self { name, arguments: String::new() }
    }

    fn with(mut self, name: &str, value: impl Display) -> Self {
        self.arguments.push_str(&format!("\t{name}={value}"));
        self
    }

    fn with_all(self, beginning: &str, pairs: &[(&str, &str)]) -> Self {
        pairs.iter().fold(self, |command, (name, value)| command.with(&format!("{beginning}{name}"), value))
    }

    fn at(self, topic: &str, partition: i32) -> Self {
        self.with("topic", topic).with("partition", partition)
    }
}

fn ids(brokers: &[i32]) -> String {
    brokers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn parse_ids(text: Option<&&str>) -> Result<Vec<i32>> {
    text.unwrap_or(&"").split(',').filter(|id| !id.is_empty()).map(|id| parse(Some(&id))).collect()
}

/// Reads fields of the form `TOPIC/PARTITION/…`.
fn by_partition<T>(fields: &[String], read: impl Fn(&[&str]) -> Result<T>) -> Result<ByPartition<T>> {
    let one = |field: &String| {
        let words: Vec<_> = field.split('/').collect();
        let [topic, partition, rest @ ..] = &words[..] else { return Err(unreadable(field)) };
        Ok(((topic.to_string(), parse(Some(partition))?), read(rest)?))
    };
    fields.iter().map(one).collect()
}

fn of_one_topic<T>(all: ByPartition<T>) -> BTreeMap<i32, T> {
    all.into_iter().map(|((_, partition), value)| (partition, value)).collect()
}

/// Reads `TOPIC/PARTITION,TOPIC/PARTITION`.
pub(crate) fn partitions(text: &str) -> Result<Vec<(String, i32)>> {
    let one = |text: &str| {
        let (topic, partition) = text.split_once('/').ok_or_else(|| unreadable(text))?;
        Ok((topic.to_owned(), parse(Some(&partition))?))
    };
    let mut all = text.split(',').filter(|text| !text.is_empty()).map(one).collect::<Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

fn parse<T: std::str::FromStr>(text: Option<&&str>) -> Result<T> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| unreadable(text.unwrap_or(&"")))
}

fn unreadable(text: &str) -> Error {
    Error::new(format!("the peer's answer cannot be read: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_to_their_size_and_never_cut() {
        assert_eq!(value("t", 2, 15, 10), "t-2-15....");
        assert_eq!(value("t", 2, 15, 3), "t-2-15");
    }

    #[test]
    fn a_status_is_read_from_its_fields() {
        let fields = ["b/1,a/10,a/9", "3", "", "a/9/0-4,2-4"].map(String::from);
        let status = MemberStatus::parse(&fields).unwrap();
        assert_eq!(status.assigned, [("a".into(), 9), ("a".into(), 10), ("b".into(), 1)]);
        assert_eq!(status.seen[&("a".into(), 9)], Seen(vec![0..=4, 2..=4]));
        assert_eq!((status.records(), status.rebalances), (8, 3));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for fields in [&["a", "1", ""][..], &["", "x", ""], &["", "1"], &["", "1", "", "a/0/7"]] {
            let fields: Vec<_> = fields.iter().map(|field| field.to_string()).collect();
            assert!(MemberStatus::parse(&fields).is_err(), "{fields:?}");
        }
    }
}
