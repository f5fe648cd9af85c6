//! Where everything about a group comes together, is put in order, and is judged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Mutex, MutexGuard,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use delivery_contract::{Contract, Event, Member, Partition, Violation};

use crate::{mode::Mode, stage::Clock};

/// For so long a line may be on its way: then the events are judged in the order of their times.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(4);
/// How much of the story of its records, and of its group, is shown with a violation, and how many violations get one.
const SHOWN: usize = 25;
const STORIES_MAX: usize = 5;
const REMEMBERED: usize = 20_000;
/// How lines begin that are about one partition's records.
const RECORD_WORDS: [&str; 7] =
    ["visible", "invisible", "handed-out", "acked", "commit-acknowledged", "commits-asked", "commit-read"];

/// What is told to the court.
pub(crate) enum Told {
    Event(Event),
    /// A record, with the number that its value says it has.
    HandedOut(Event, u64),
    /// Records were written: offsets and numbers count up together.
    Produced {
        partition: Partition,
        first: i64,
        count: u64,
        number: u64,
        visible: bool,
    },
    /// Records may have been written, or not.
    Perhaps {
        partition: Partition,
        count: u64,
        number: u64,
    },
    Remark(Member, String),
}

/// One group's court.
pub(crate) struct Court {
    mode: Mode,
    clock: Clock,
    bench: Mutex<Bench>,
}

/// What is counted besides, for the summary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) handed_out: u64,
    pub(crate) repeats: u64,
    pub(crate) generations: BTreeSet<i32>,
    pub(crate) silence: Duration,
    pub(crate) silent_until: Duration,
    pub(crate) wrong_values: u64,
    last_handed_out: Duration,
}

pub(crate) struct Bench {
    pub(crate) contract: Contract,
    pub(crate) counts: Counts,
    values: Values,
    once: BTreeMap<Partition, BTreeSet<i64>>,
    story: VecDeque<(Duration, String)>,
    file: BufWriter<File>,
    told_of: u64,
    stories: usize,
}

impl Court {
    pub(crate) fn new(mode: Mode, clock: Clock, folder: &Path) -> Result<Self, String> {
        let path = folder.join(format!("{mode}.events"));
        let file = File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let bench = Bench {
            contract: Contract::new(mode.promise()),
            counts: Counts::default(),
            values: Values::default(),
            once: BTreeMap::new(),
            story: VecDeque::new(),
            file: BufWriter::new(file),
            told_of: 0,
            stories: 0,
        };
        Ok(Self { mode, clock, bench: Mutex::new(bench) })
    }

    pub(crate) fn bench(&self) -> MutexGuard<'_, Bench> {
        self.bench.lock().expect("the judge does not panic")
    }

    /// Hears what is told until nobody is left who could tell something.
    pub(crate) fn sit(&self, told: &Receiver<(Duration, Told)>) {
        let mut waiting: BTreeMap<(Duration, u64), Told> = BTreeMap::new();
        let mut number = 0;
        loop {
            let ripe = self.clock.now().saturating_sub(HELD_FOR);
            // All that is there, before anything is judged.
            let is_over = loop {
                match told.try_recv() {
                    Ok((at, what)) => drop(waiting.insert((at, number), what)),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
                number += 1;
            };
            let late = waiting.split_off(&(if is_over { Duration::MAX } else { ripe }, 0));
            let mut bench = self.bench();
            for ((at, _), what) in std::mem::replace(&mut waiting, late) {
                bench.hear(self.mode, at, what);
            }
            drop(bench);
            if is_over {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Bench {
    /// Whether nothing would be missed if this were the end.
    pub(crate) fn is_finished(&self) -> bool {
        let mut trial = self.contract.clone();
        trial.finish(Duration::ZERO, &BTreeMap::new());
        trial.violation_count() == self.contract.violation_count()
    }

    pub(crate) fn finish(&mut self, mode: Mode, at: Duration) {
        self.contract.finish(at, &BTreeMap::new());
        self.show(mode);
        self.counts.wrong_values += self.values.unexplained();
        let _ = self.file.flush();
    }

    /// The last offset of a partition of which its producer knows that there is a record.
    pub(crate) fn last_visible(&self, partition: &Partition) -> Option<i64> {
        self.values.truth.get(partition)?.iter().rfind(|(_, run)| run.visible).map(|(first, run)| first + run.count as i64 - 1)
    }

    fn hear(&mut self, mode: Mode, at: Duration, what: Told) {
        match what {
            // One who read everything says it again.
            Told::Event(Event::Visible { partition, offset }) if self.values.is_visible(&partition, offset) == Some(true) => {}
            Told::Event(Event::Invisible { partition, offset }) if self.values.is_visible(&partition, offset).is_some() => {
                if self.values.is_visible(&partition, offset) == Some(true) {
                    self.values.wrong.push(format!("{partition} {offset}: it was written, and Java's consumer does not see it"));
                }
            }
            Told::Event(event) => self.judge(mode, at, &event),
            Told::HandedOut(event, number) => {
                if let Event::HandedOut { partition, offset, .. } = &event {
                    self.count_handed_out(at, partition, *offset);
                    self.values.handed_out(partition, *offset, number);
                }
                self.judge(mode, at, &event);
            }
            Told::Produced { partition, first, count, number, visible } => {
                self.counts.records += if visible { count } else { 0 };
                self.values.produced(&partition, first, Run { count, number, visible });
                for offset in first..first + count as i64 {
                    let partition = partition.clone();
                    let event =
                        if visible { Event::Visible { partition, offset } } else { Event::Invisible { partition, offset } };
                    self.judge(mode, at, &event);
                }
            }
            Told::Perhaps { partition, count, number } => {
                self.values.perhaps.entry(partition).or_default().push(Run { count, number, visible: false });
            }
            Told::Remark(member, text) => self.remember(at, format!("member {member} {text}")),
        }
        let wrong = self.values.wrong.drain(..).collect::<Vec<_>>();
        for what in wrong {
            self.counts.wrong_values += 1;
            println!("{mode}: {:.3} s: a value is not what was written: {what}", at.as_secs_f64());
        }
    }

    fn judge(&mut self, mode: Mode, at: Duration, event: &Event) {
        if let Event::Assigned { generation, .. } = event {
            self.counts.generations.insert(*generation);
        }
        self.remember(at, event.to_string());
        self.contract.observe(at, event);
        self.show(mode);
    }

    fn count_handed_out(&mut self, at: Duration, partition: &Partition, offset: i64) {
        let counts = &mut self.counts;
        counts.handed_out += 1;
        if let Some(seen) = self.once.get_mut(partition) {
            counts.repeats += u64::from(!seen.insert(offset));
        } else {
            self.once.insert(partition.clone(), BTreeSet::from([offset]));
        }
        let silence = at.saturating_sub(counts.last_handed_out);
        if silence > counts.silence {
            (counts.silence, counts.silent_until) = (silence, at);
        }
        counts.last_handed_out = counts.last_handed_out.max(at);
    }

    fn remember(&mut self, at: Duration, line: String) {
        // A story that cannot be written down is still judged.
        let _ = writeln!(self.file, "{} {line}", at.as_micros());
        self.story.push_back((at, line));
        if self.story.len() > REMEMBERED {
            self.story.pop_front();
        }
    }

    /// Shows violations that were not shown yet, with what came before.
    fn show(&mut self, mode: Mode) {
        let shown = std::mem::replace(&mut self.told_of, self.contract.violation_count());
        let news: Vec<Violation> = self.contract.violations().iter().skip(shown as usize).cloned().collect();
        for violation in news {
            println!("{mode}: VIOLATION at {violation}");
            self.stories += 1;
            if self.stories > STORIES_MAX {
                continue;
            }
            let before = self.before(&violation.partition);
            for (at, line) in before.into_iter().rev() {
                println!("    {:.3} {line}", at.as_secs_f64());
            }
        }
    }

    /// What led there: the last of what happened to the partition's records, and of what happened to the group.
    fn before(&self, partition: &Partition) -> Vec<&(Duration, String)> {
        let name = partition.to_string();
        let (mut of_records, mut of_group) = (0, 0);
        let is_shown = |(_, line): &&(Duration, String)| {
            let is_of_record = RECORD_WORDS.iter().any(|word| line.starts_with(word));
            let shown = if is_of_record { &mut of_records } else { &mut of_group };
            let concerns = !is_of_record || line == "commits-asked" || line.split(' ').any(|word| word == name);
            *shown += usize::from(concerns);
            concerns && *shown <= SHOWN
        };
        self.story.iter().rev().filter(is_shown).collect()
    }
}

/// What was written where, and what members say they read there.
#[derive(Default)]
struct Values {
    truth: BTreeMap<Partition, BTreeMap<i64, Run>>,
    perhaps: BTreeMap<Partition, Vec<Run>>,
    /// Read before it was known to be written.
    pending: BTreeMap<Partition, BTreeMap<i64, u64>>,
    wrong: Vec<String>,
}

#[derive(Clone, Copy)]
struct Run {
    count: u64,
    number: u64,
    visible: bool,
}

impl Values {
    /// Whether a record that is to be seen is at that place; `None` where its producer has not said.
    fn is_visible(&self, partition: &Partition, offset: i64) -> Option<bool> {
        self.run(partition, offset).map(|(_, run)| run.visible)
    }

    fn run(&self, partition: &Partition, offset: i64) -> Option<(i64, Run)> {
        let (first, run) = self.truth.get(partition)?.range(..=offset).next_back()?;
        (offset < first + run.count as i64).then_some((*first, *run))
    }

    fn handed_out(&mut self, partition: &Partition, offset: i64, number: u64) {
        match self.run(partition, offset) {
            Some((first, run)) => {
                let expected = run.number + (offset - first) as u64;
                if expected != number {
                    self.wrong.push(format!("{partition} {offset}: number {number}, not {expected}"));
                }
            }
            None => drop(self.pending.entry(partition.clone()).or_default().insert(offset, number)),
        }
    }

    fn produced(&mut self, partition: &Partition, first: i64, run: Run) {
        self.truth.entry(partition.clone()).or_default().insert(first, run);
        let Some(pending) = self.pending.get_mut(partition) else { return };
        let mut now = pending.split_off(&first);
        pending.append(&mut now.split_off(&(first + run.count as i64)));
        for (offset, number) in now {
            self.handed_out(partition, offset, number);
        }
    }

    /// How many values were read at places where nothing is known to be written, and that nobody tried to write either.
    fn unexplained(&self) -> u64 {
        let tried = |partition: &Partition, number: u64| {
            self.perhaps
                .get(partition)
                .is_some_and(|runs| runs.iter().any(|run| (run.number..run.number + run.count).contains(&number)))
        };
        let all = self.pending.iter().flat_map(|(partition, values)| values.values().map(move |number| (partition, *number)));
        all.filter(|(partition, number)| !tried(partition, *number)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produced(values: &mut Values, first: i64, count: u64, number: u64) {
        values.produced(&Partition::new("t", 0), first, Run { count, number, visible: true });
    }

    #[test]
    fn a_value_is_checked_whether_it_is_read_or_written_first() {
        let (partition, mut values) = (Partition::new("t", 0), Values::default());
        values.handed_out(&partition, 12, 7);
        values.handed_out(&partition, 13, 7);
        values.handed_out(&partition, 20, 13);
        produced(&mut values, 10, 5, 5);
        assert_eq!(values.wrong, ["t/0 13: number 7, not 8"]);
        values.handed_out(&partition, 14, 9);
        values.handed_out(&partition, 10, 6);
        assert_eq!(values.wrong[1..], ["t/0 10: number 6, not 5"]);
        assert_eq!(values.is_visible(&partition, 14), Some(true));
        assert_eq!(values.is_visible(&partition, 15), None);
        assert_eq!(values.unexplained(), 1);
        values.perhaps.insert(partition, vec![Run { count: 4, number: 10, visible: false }]);
        assert_eq!(values.unexplained(), 0);
    }

    #[test]
    fn the_court_puts_in_order_what_comes_in_disorder() {
        let folder = std::env::temp_dir().join(format!("ottla-chaos-court-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let court = Court::new(Mode::AtLeastOnce, Clock { start_us: 0 }, &folder).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        for (at, event) in [
            (4, "commit-read t/0 1 fresh"),
            (2, "handed-out 1 t/0 0 1"),
            (3, "acked 1 t/0 0"),
            (1, "assigned 1 1 t/0"),
            (5, "handed-out 2 t/0 0 1"),
        ] {
            tell.send((Duration::from_secs(at), Told::Event(event.parse().unwrap()))).unwrap();
        }
        drop(tell);
        court.sit(&told);
        let bench = court.bench();
        let violations: Vec<_> = bench.contract.violations().iter().map(|violation| violation.at.as_secs()).collect();
        assert_eq!(violations, [5]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
