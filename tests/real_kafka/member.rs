//! A member of a group on ottla, as a task of the test, or as a process of its own that can be killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use ottla::{Consumer, ConsumerBuilder, Delivery, Handle, OffsetReset};

use crate::support::{DEADLINE, eventually_async};

pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(300);

/// Partition and offset.
pub type Place = (i32, i64);

/// Settings that make what takes long take short.
pub fn builder(bootstrap: &str, group: &str, topic: &str) -> ConsumerBuilder {
    builder_of_nothing(bootstrap, group).subscribe([topic])
}

/// Subscribes to nothing yet.
pub fn builder_of_nothing(bootstrap: &str, group: &str) -> ConsumerBuilder {
    Consumer::builder(group, bootstrap.split(','))
        .client_id(format!("ottla-{group}"))
        .session_timeout(SESSION_TIMEOUT)
        .heartbeat_interval(HEARTBEAT_INTERVAL)
        .commit_interval(Duration::from_millis(100))
        .metadata_max_age(Duration::from_secs(1))
        .offset_reset(OffsetReset::Earliest)
}

/// A member that acknowledges every record as soon as it has it.
pub struct Member {
    pub handle: Handle,
    seen: Arc<Mutex<Vec<Place>>>,
    errors: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Member {
    pub async fn join(builder: ConsumerBuilder) -> Self {
        Self::join_with(builder, |delivery| async { delivery.ack() }).await
    }

    pub async fn join_with<F>(builder: ConsumerBuilder, work: impl Fn(Delivery) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        Self::start(builder.connect().await.expect("connect"), work)
    }

    /// As [`join_with`](Self::join_with), for a test that has to do with the consumer first.
    pub fn start<F>(consumer: Consumer, work: impl Fn(Delivery) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let mut records = consumer.at_least_once();
        let handle = records.handle();
        let (seen, errors) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (all, failed) = (Arc::clone(&seen), Arc::clone(&errors));
        let task = tokio::spawn(async move {
            while let Some(delivery) = records.next().await {
                match delivery {
                    Ok(delivery) => {
                        all.lock().unwrap().push((delivery.partition(), delivery.offset()));
                        work(delivery).await;
                    }
                    Err(error) => failed.lock().unwrap().push(error.to_string()),
                }
            }
        });
        Self { handle, seen, errors, task }
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.handle.assignment().iter().map(ottla::TopicPartition::partition).collect()
    }

    pub fn seen(&self) -> Vec<Place> {
        self.seen.lock().unwrap().clone()
    }

    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Closes, as a service would on ctrl-c; returns what it has read.
    pub async fn leave(self) -> Vec<Place> {
        self.handle.shutdown(Duration::from_secs(10));
        self.task.await.expect("the member's task does not panic");
        Arc::into_inner(self.seen).expect("the task has ended").into_inner().unwrap()
    }
}

/// Waits until the members' assignments are complete, disjoint and balanced.
#[track_caller]
pub fn settled<'a>(members: &'a [Member], partitions: i32) -> impl Future<Output = ()> + 'a {
    eventually_async("the assignment is complete and disjoint", DEADLINE, move || {
        let held: Vec<i32> = members.iter().flat_map(Member::partitions).collect();
        let sizes = || members.iter().map(|member| member.partitions().len());
        let balanced = sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0) <= 1;
        balanced && held.len() == partitions as usize && held.iter().collect::<BTreeSet<_>>().len() == held.len()
    })
}

pub fn all_places(partitions: i32, count: i64) -> BTreeSet<Place> {
    (0..partitions).flat_map(|partition| (0..count).map(move |offset| (partition, offset))).collect()
}

// ---------------------------------------------------------------- a process of its own

const ROLE: &str = "OTTLA_TEST_ROLE";

/// A member in another process, which a test may kill without warning.
pub struct Process {
    child: Child,
    reader: Option<JoinHandle<()>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Runs the named test of this very program again, to play `role`.
    pub fn start(test: &str, role: &str, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&lines);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader =
            std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| told.lock().unwrap().push(line)));
        Self { child, reader: Some(reader), lines }
    }

    pub fn lines(&self, word: &str) -> Vec<Vec<i64>> {
        parse(&self.lines.lock().unwrap(), word)
    }

    /// SIGKILL; returns what the process said before.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The numbers behind `word` in each line that begins with it.
pub fn parse(lines: &[String], word: &str) -> Vec<Vec<i64>> {
    let numbers =
        |line: &String| line.strip_prefix(word).map(|rest| rest.split_whitespace().map(|n| n.parse().unwrap()).collect());
    lines.iter().filter_map(numbers).collect()
}

/// The role this process shall play, if it is one of those.
pub fn role() -> Option<String> {
    let role = env::var(ROLE).ok()?;
    // The test runner has begun a line of its own.
    println!();
    Some(role)
}

pub fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is set by the outer test"))
}

/// Tells the outer test something, in one write: a line is there whole or not at all.
pub fn tell(word: &str, numbers: &[i64]) {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    let line = format!("{word} {}\n", numbers.join(" "));
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    std::io::stdout().lock().flush().unwrap();
}

/// How often each place was seen.
pub fn counts(places: impl IntoIterator<Item = Place>) -> BTreeMap<Place, usize> {
    let mut counts = BTreeMap::new();
    for place in places {
        *counts.entry(place).or_default() += 1;
    }
    counts
}
