//! The members of one group: processes that are started, stopped, killed, and sent home.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::Sender,
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use delivery_contract::{Event, Member};
use kafka_harness::signal;

use crate::{
    court::Told,
    lot::Lot,
    member::{Part, SESSION_TIMEOUT},
    mode::Mode,
    stage::Stage,
};

const MEMBERS: usize = 3;
const MEMBERS_MAX: usize = 4;
/// A member that was asked to close and does not within so long is stuck.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(40);

/// What was done to the members, and what they did that they should not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    pub(crate) closes: usize,
    /// Members that ended by themselves, or would not end.
    pub(crate) troubles: Vec<String>,
}

struct Group<'a> {
    stage: &'a Stage,
    mode: Mode,
    group: String,
    topic: String,
    court: Sender<(Duration, Told)>,
    members: Vec<Process>,
    started: u32,
    fates: Fates,
    lot: Lot,
}

struct Process {
    member: Member,
    child: Child,
    reader: Option<JoinHandle<String>>,
    folder: PathBuf,
    stopped_until: Option<Instant>,
    closing_since: Option<Instant>,
}

/// Keeps the group going and troubles it until it is time to heal; then lets it work, and at the end sends everybody home.
pub(crate) fn run(
    stage: &Stage,
    mode: Mode,
    names: (&str, &str),
    lot: Lot,
    court: Sender<(Duration, Told)>,
) -> Result<Fates, String> {
    let (group, topic) = (names.0.to_owned(), names.1.to_owned());
    let (members, fates) = (Vec::new(), Fates::default());
    let mut group = Group { stage, mode, group, topic, court, members, started: 0, fates, lot };
    for _ in 0..MEMBERS {
        group.start()?;
    }
    let mut next = Instant::now() + group.lot.ms(4000..8000);
    while !stage.is(&stage.heals) {
        sleep(Duration::from_millis(50));
        group.look()?;
        if Instant::now() >= next {
            group.trouble()?;
            next = Instant::now() + group.lot.ms(1500..9000);
        }
    }
    for at in 0..group.members.len() {
        group.wake(at)?;
    }
    while !stage.is(&stage.is_over) {
        sleep(Duration::from_millis(50));
        group.look()?;
    }
    for at in 0..group.members.len() {
        group.close(at);
    }
    while !group.members.is_empty() {
        sleep(Duration::from_millis(50));
        group.look()?;
    }
    Ok(group.fates)
}

impl Group<'_> {
    fn start(&mut self) -> Result<(), String> {
        self.started += 1;
        let member = Member(self.started);
        let part = Part {
            mode: self.mode,
            member,
            bootstrap: self.stage.cluster.bootstrap(),
            group: self.group.clone(),
            topic: self.topic.clone(),
            clock: self.stage.clock(),
            seed: self.stage.seed,
            protocol: self.stage.protocol,
        };
        // The cluster's watchdog ends whoever has his number in a folder there and says so in his arguments.
        let data = self.stage.cluster.data_folder(1).map_err(|error| error.to_string())?;
        let home = data.ancestors().nth(2).expect("a broker's data is in the broker's folder in the cluster's");
        let folder = home.join(format!("{}-{member}", self.mode));
        let failed = |what: &str, error: std::io::Error| format!("cannot {what}: {error}");
        fs::create_dir_all(&folder).map_err(|error| failed("make a member's folder", error))?;
        let errors = File::create(folder.join("errors")).map_err(|error| failed("make a member's log", error))?;
        let mut child = Command::new(env::current_exe().map_err(|error| failed("find this program", error))?)
            .arg("member")
            .args(part.args())
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| failed("start a member", error))?;
        fs::write(folder.join("pid"), child.id().to_string()).map_err(|error| failed("write a member's number", error))?;
        let (lines, court, clock) = (child.stdout.take().expect("asked for above"), self.court.clone(), self.stage.clock());
        let reader = thread::spawn(move || {
            let last = listen(member, BufReader::new(lines), &court);
            let _ = court.send((clock.now(), Told::Event(Event::Gone { member })));
            last
        });
        self.members.push(Process { member, child, reader: Some(reader), folder, stopped_until: None, closing_since: None });
        Ok(())
    }

    /// Does something bad to somebody.
    fn trouble(&mut self) -> Result<(), String> {
        let free: Vec<_> = (0..self.members.len()).filter(|&at| self.members[at].closing_since.is_none()).collect();
        if free.is_empty() {
            return Ok(());
        }
        let at = free[self.lot.below(free.len())];
        match self.lot.below(12) {
            0..4 => self.kill(at),
            4..6 if self.members[at].stopped_until.is_none() => {
                let time = self.lot.ms(200..3000);
                self.halt(at, time)
            }
            6..9 if self.members[at].stopped_until.is_none() => {
                let time = SESSION_TIMEOUT + self.lot.ms(500..8000);
                self.halt(at, time)
            }
            9..11 if self.members[at].stopped_until.is_none() => {
                self.close(at);
                self.fates.closes += 1;
                Ok(())
            }
            _ if self.members.len() < MEMBERS_MAX => self.start(),
            _ => self.kill(at),
        }
    }

    /// Wakes who has slept enough, buries who has ended, and fills the ranks.
    fn look(&mut self) -> Result<(), String> {
        for at in 0..self.members.len() {
            if self.members[at].stopped_until.is_some_and(|until| until <= Instant::now()) {
                self.wake(at)?;
            }
        }
        let mut at = 0;
        while at < self.members.len() {
            let process = &mut self.members[at];
            let status = process.child.try_wait().map_err(|error| format!("cannot look at a member: {error}"))?;
            let is_stuck = process.closing_since.is_some_and(|since| since.elapsed() > CLOSE_TIMEOUT);
            match status {
                Some(status) => self.bury(at, status),
                None if is_stuck => {
                    self.fates.troubles.push(format!("member {} would not close", process.member));
                    self.kill(at)?;
                }
                None => at += 1,
            }
        }
        let is_short = |group: &Self| group.members.iter().filter(|process| process.closing_since.is_none()).count() < MEMBERS;
        while !self.stage.is(&self.stage.is_over) && is_short(self) {
            self.start()?;
        }
        Ok(())
    }

    fn bury(&mut self, at: usize, status: ExitStatus) {
        let mut process = self.members.remove(at);
        let last = process.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let errors = fs::read_to_string(process.folder.join("errors")).unwrap_or_default();
        if process.closing_since.is_none() || !status.success() || !errors.is_empty() {
            self.fates.troubles.push(format!("member {} ended by itself ({status}): {last} {errors}", process.member));
        }
        let _ = fs::remove_file(process.folder.join("pid"));
    }

    fn kill(&mut self, at: usize) -> Result<(), String> {
        let mut process = self.members.remove(at);
        self.fates.kills += 1;
        process.child.kill().and_then(|()| process.child.wait()).map_err(|error| format!("cannot kill a member: {error}"))?;
        let _ = process.reader.take().map(JoinHandle::join);
        let _ = fs::remove_file(process.folder.join("pid"));
        Ok(())
    }

    fn halt(&mut self, at: usize, time: Duration) -> Result<(), String> {
        let process = &mut self.members[at];
        signal("STOP", &process.child).map_err(|error| error.to_string())?;
        process.stopped_until = Some(Instant::now() + time);
        let member = process.member;
        self.fates.stops += 1;
        self.tell(Event::Stalled { member });
        Ok(())
    }

    fn wake(&mut self, at: usize) -> Result<(), String> {
        let process = &mut self.members[at];
        if process.stopped_until.take().is_none() {
            return Ok(());
        }
        let member = process.member;
        let done = signal("CONT", &process.child).map_err(|error| error.to_string());
        self.tell(Event::Woke { member });
        done
    }

    fn close(&mut self, at: usize) {
        let process = &mut self.members[at];
        if process.closing_since.is_none() {
            process.closing_since = Some(Instant::now());
            // One that has ended already is buried soon.
            let _ = process.child.stdin.as_mut().map(|stdin| stdin.write_all(b"close\n"));
        }
    }

    fn tell(&self, event: Event) {
        self.court.send((self.stage.clock().now(), Told::Event(event))).expect("the court sits until everybody has spoken");
    }
}

/// Nobody is left behind, whatever ended the run.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands a member's lines on to the court; returns its last remark.
fn listen(member: Member, mut lines: impl BufRead, court: &Sender<(Duration, Told)>) -> String {
    let (mut line, mut last) = (String::new(), String::new());
    // What a killed member did not say to the end was not said.
    while lines.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
        let (at, what) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let at = Duration::from_micros(at.parse().unwrap_or(0));
        let told = match what.split_once('#') {
            Some(("", remark)) => {
                last = remark.trim().to_owned();
                Told::Remark(member, what.to_owned())
            }
            Some((event, number)) => match (event.trim_end().parse(), number.parse()) {
                (Ok(event), Ok(number)) => Told::HandedOut(event, number),
                _ => Told::Remark(member, format!("said {line:?}")),
            },
            None => what.parse().map_or_else(|_| Told::Remark(member, format!("said {line:?}")), Told::Event),
        };
        if court.send((at, told)).is_err() {
            break;
        }
        line.clear();
    }
    last
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_members_lines_are_read_and_what_it_did_not_finish_is_not() {
        let (tell, told) = channel();
        let lines = "10 assigned 3 1 t/0\n11 handed-out 3 t/0 5 1 #4\n12 # Rejoining\n13 nonsense\n14 acked 3 t/0 5";
        assert_eq!(listen(Member(3), lines.as_bytes(), &tell), "Rejoining");
        drop(tell);
        let heard: Vec<_> = told
            .iter()
            .map(|(at, told)| match told {
                Told::Event(event) => format!("{} {event}", at.as_micros()),
                Told::HandedOut(event, number) => format!("{} {event}, {number}", at.as_micros()),
                Told::Remark(member, what) => format!("{} {member}: {what}", at.as_micros()),
                Told::Produced { .. } | Told::Perhaps { .. } => unreachable!("no member produces"),
            })
            .collect();
        let expected =
            ["10 assigned 3 1 t/0", "11 handed-out 3 t/0 5 1, 4", "12 3: # Rejoining", "13 3: said \"13 nonsense\\n\""];
        assert_eq!(heard, expected);
    }
}
