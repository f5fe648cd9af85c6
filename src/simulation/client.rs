//! A consumer as it is, with its user: what they do whenever the world lets them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ottla_mock::Api;

use super::{
    judge::Judge,
    network::{Asked, Happening, LinkId},
    sight,
    story::Who,
    user::{self, Habits, Records, Taken, Woken, Work},
    world::{Request, World, builder, ms},
};
use crate::{
    consumer::{Consumer, ConsumerBuilder, Handle, SeekTo, Undriven},
    error::ConsumeError,
    model::TopicPartition,
    proto::{
        Deadline, PartitionHandle,
        consumer::Consumer as Core,
        message::{Command, Event, Input, Output, SeekTarget, Unfinished},
    },
};

/// How often a consumer may be busy without time passing before it counts as a busy loop.
const STEPS_MAX: usize = 20_000;

pub(super) struct Client {
    /// Whose judge looks at it: its group's, or without a group its own.
    pub(super) group: String,
    is_groupless: bool,
    pub(super) handle: Handle,
    pub(super) habits: Habits,
    pub(super) problems: Vec<(Duration, ConsumeError)>,
    /// What the core said, but for chunks and the like.
    pub(super) events: Vec<(Duration, String)>,
    pub(super) closed: Option<Unfinished>,
    is_closing: bool,
    /// Acks are committed, by whatever end; programs that commit themselves are told of each commit.
    commits_acks: bool,
    /// What it let go of while it closed, with something finished that was not committed.
    left_behind: Vec<TopicPartition>,
    /// Since when it has been giving something up.
    revoking_since: Duration,
    /// Every partition that it holds, and whether it is being revoked.
    pub(super) holds: BTreeMap<TopicPartition, bool>,
    /// As what it holds each, by the core's last word.
    assignments: BTreeMap<TopicPartition, u64>,
    /// What it works on, with when that is done.
    pub(super) in_hand: VecDeque<(Instant, Work)>,
    /// How often reading of a partition began anew: acks of what was handed out before count for nothing.
    pub(super) eras: BTreeMap<TopicPartition, u64>,
    pub(super) wakeups: usize,
    pub(super) budget: usize,
    pub(super) core: Core,
    pub(super) records: Option<Records>,
    pub(super) commands: tokio::sync::mpsc::UnboundedReceiver<Command>,
    pub(super) on_event: Box<dyn Fn(Event)>,
    pub(super) deadline: Option<Deadline>,
    /// Ticks at the same moment.
    pub(super) ticks: (Instant, usize),
    pub(super) woken: Arc<Woken>,
    /// What came while the process was stopped.
    pub(super) mail: Option<VecDeque<(LinkId, Happening)>>,
    pub(super) is_dead: bool,
}

impl World {
    /// Starts a consumer; its number.
    pub(super) fn join(&mut self, builder: ConsumerBuilder, mode: impl FnOnce(Consumer) -> Records) -> usize {
        let seed = self.seed.wrapping_add(self.clients.len() as u64 * 1000);
        let (group, budget) = builder.looked_at();
        let is_groupless = group.is_none();
        let group = group.unwrap_or_else(|| format!("none, of client {}", self.clients.len()));
        let Undriven { core, consumer, handle, commands, on_event } = builder.undriven(self.now, seed);
        let records = mode(consumer);
        let is_new = !self.judges.contains_key(&group);
        self.judges.entry(group.clone()).or_insert_with(|| Judge::new(records.is_at_most_once())).commits_nothing = is_groupless;
        if is_new {
            self.show_logs(&group);
        }
        let at_once = if matches!(records, Records::Manual(_) | Records::Placed(..)) { 1 } else { usize::MAX };
        if matches!(records, Records::Placed(..)) {
            self.stores.entry(group.clone()).or_default();
        }
        let commits_acks = !is_groupless && !matches!(records, Records::Manual(_) | Records::Placed(..));
        let client = self.clients.len();
        self.story.tell(self.now - self.start, Who::Client(client), || format!("starts, in group {group}"));
        self.clients.push(Client {
            group,
            is_groupless,
            handle,
            habits: Habits { takes: true, at_once, work: Duration::ZERO, is_uneven: false, drops_percent: 0 },
            problems: Vec::new(),
            events: Vec::new(),
            closed: None,
            is_closing: false,
            commits_acks,
            left_behind: Vec::new(),
            revoking_since: Duration::ZERO,
            holds: BTreeMap::new(),
            assignments: BTreeMap::new(),
            in_hand: VecDeque::new(),
            eras: BTreeMap::new(),
            wakeups: 0,
            budget,
            core,
            records: Some(records),
            commands,
            on_event,
            deadline: None,
            ticks: (self.now, 0),
            woken: Woken::new(),
            mail: None,
            is_dead: false,
        });
        self.settle(client);
        client
    }

    pub(super) fn at_least_once(&mut self) -> usize {
        self.join(builder(), |consumer| Records::AtLeastOnce(consumer.at_least_once()))
    }
}

// ---------------------------------------------------------------- what a test does to processes

impl World {
    /// The process is killed: nothing more comes from it, and its connections end.
    pub(super) fn kill(&mut self, client: usize) {
        self.tell(Who::Client(client), || "is killed".to_owned());
        let one = &mut self.clients[client];
        one.is_dead = true;
        one.records = None;
        one.in_hand.clear();
        one.holds.clear();
        let at = self.now - self.start;
        self.judge_of(client).gone(at, client);
        let links: Vec<_> = self.network.links().filter(|(id, _)| id.0 == client).map(|(id, _)| id).collect();
        links.into_iter().for_each(|link| self.network.hang_up(self.now, link));
    }

    /// The process stops, as under a debugger, and goes on later as if no time had passed.
    pub(super) fn freeze(&mut self, client: usize, is_frozen: bool) {
        let one = &mut self.clients[client];
        if is_frozen == one.mail.is_some() || one.is_dead {
            return;
        }
        if is_frozen {
            one.mail = Some(VecDeque::new());
            self.tell(Who::Client(client), || "is stopped".to_owned());
            return;
        }
        let mail = one.mail.take().unwrap_or_default();
        self.tell(Who::Client(client), || "goes on".to_owned());
        // Its timers are over, and it may look at them before its mail.
        self.tick(client);
        self.settle(client);
        for (link, happening) in mail {
            self.happen(link, happening);
        }
    }

    /// The user closes its stream.
    pub(super) fn close(&mut self, client: usize, timeout: Duration) {
        self.tell(Who::Client(client), || format!("closes, within {timeout:?}"));
        self.clients[client].is_closing = true;
        self.clients[client].handle.shutdown(timeout);
        self.settle(client);
    }

    /// The user changes its ways, and looks at its stream.
    pub(super) fn habits(&mut self, client: usize, change: impl FnOnce(&mut Habits)) {
        change(&mut self.clients[client].habits);
        self.clients[client].woken.set(true);
        self.settle(client);
    }

    /// The user does something through its handle, and looks at its stream before anything else can happen.
    pub(super) fn with_handle(&mut self, client: usize, act: impl FnOnce(&Handle)) {
        act(&self.clients[client].handle);
        self.clients[client].woken.set(true);
        while self.clients[client].is_awake() && self.take(client) {}
        self.settle(client);
    }

    /// The user acks everything that it has in hand.
    pub(super) fn ack_all(&mut self, client: usize) {
        for (_, work) in std::mem::take(&mut self.clients[client].in_hand) {
            self.finish_one(client, work);
        }
        self.clients[client].woken.set(true);
        self.settle(client);
    }
}

// ---------------------------------------------------------------- what it does

impl World {
    /// Lets a consumer, and its user, do everything that can be done now.
    pub(super) fn settle(&mut self, client: usize) {
        for _ in 0..STEPS_MAX {
            let now = self.now;
            let one = &mut self.clients[client];
            if !one.is_awake() {
                return;
            }
            match one.core.poll(now) {
                Output::Connect(conn, addr) => {
                    let broker: i32 = addr.host[1..].parse().expect("b1, b2, …");
                    if self.kafka.brokers_alive().contains(&broker) {
                        self.network.connect(now, (client, conn), broker);
                    } else {
                        self.network.refuse(now, (client, conn));
                    }
                }
                Output::Transmit(conn, frame) => self.transmit((client, conn), frame),
                Output::Disconnect(conn) => {
                    self.abandon_commit((client, conn));
                    self.network.hang_up(now, (client, conn));
                }
                Output::FetchToken => unreachable!("these clients have no tokens"),
                Output::Event(event) => self.event(client, event),
                Output::Wait(deadline) => {
                    one.deadline = deadline;
                    if let Ok(command) = one.commands.try_recv() {
                        self.command(client, command);
                    } else if !self.take(client) {
                        return;
                    }
                }
            }
        }
        panic!("[a busy loop] client {client} is busy without time passing:\n{}", self.report());
    }

    fn transmit(&mut self, link: LinkId, frame: Bytes) {
        let client = link.0;
        let sent = sight::sent(&frame, &self.names);
        let (at, now) = (self.now - self.start, self.now);
        self.story.tell(at, Who::Client(client), || sight::words(&sent));
        let sight::Sent { correlation, api, version, commits, fetched, .. } = sent;
        let judge = self.judges.get_mut(&self.clients[client].group).expect("made when the client joined");
        match api {
            Api::JoinGroup => judge.join_sent(client),
            Api::OffsetCommit => judge.commit_sent(client),
            _ => {}
        }
        if self.connections_hold {
            let holds = &self.clients[client].holds;
            for (of, _) in fetched.iter().filter(|(of, _)| holds.get(of) != Some(&false)) {
                judge.fail("a fetch of what is not owned", format!("{of} by client {client}"));
            }
        }
        self.requests.push(Request { at: now, client, api, fetched });
        self.network.request(now, link, frame, Asked { correlation, api, version, commits });
    }

    pub(super) fn look_at_answer(&mut self, client: usize, broker: i32, asked: &Asked, frame: &Bytes) {
        let at = self.now - self.start;
        let told = sight::answered(asked, frame, &mut self.names);
        for (of, leader, epoch) in told.leaders {
            let known = self.leaders.entry((client, of)).or_insert((epoch, leader));
            if epoch >= known.0 {
                *known = (epoch, leader);
            }
        }
        let leads = |of: &TopicPartition| self.leaders.get(&(client, of.clone())).is_some_and(|(_, leader)| *leader == broker);
        let believed: Vec<_> = told.out_of_range.into_iter().filter(leads).collect();
        self.story.tell(at, Who::Client(client), || format!("hears of {:?}{}", asked.api, told.words));
        let judge = self.judge_of(client);
        if asked.api == Api::OffsetCommit {
            judge.commit_answered(at, client, told.stored);
        }
        for of in told.doors.into_iter().chain(believed) {
            judge.door_opened(client, of);
        }
        for of in told.doors_closed {
            judge.door_closed(client, of);
        }
    }

    fn command(&mut self, client: usize, command: Command) {
        let at = self.now - self.start;
        match &command {
            Command::Taken { chunks } => {
                let bytes = chunks.iter().map(|(_, bytes)| bytes).sum();
                self.judge_of(client).released_bytes(client, bytes);
            }
            Command::Seek { partition, to } => {
                let (of, to) = (partition.clone(), *to);
                self.story.tell(at, Who::Client(client), || format!("seeks {to:?} in {of}"));
                // What is not its own it cannot seek, and ottla does not.
                if self.clients[client].holds.get(&of) != Some(&false) {
                    return self.clients[client].core.handle(self.now, Input::Command(command));
                }
                self.seek_begins(client, &of, to);
            }
            Command::Reopen { handle, finished } => {
                let of = &handle.partition;
                self.story.tell(at, Who::Client(client), || format!("begins anew in {of}, at {}", finished.offset.0));
                if self.clients[client].has(handle) {
                    self.seek_begins(client, of, SeekTarget::Offset(finished.offset));
                }
            }
            Command::Place { handle, at: to } => {
                self.story.tell(at, Who::Client(client), || format!("begins {} at {to:?}", handle.partition));
                if self.clients[client].has(handle) {
                    self.seek_begins(client, &handle.partition, *to);
                }
            }
            _ => {}
        }
        self.clients[client].core.handle(self.now, Input::Command(command));
    }

    fn seek_begins(&mut self, client: usize, of: &TopicPartition, to: SeekTarget) {
        let at = self.now - self.start;
        let judge = self.judge_of(client);
        judge.seek_begins(client, of.clone());
        let offset = match to {
            SeekTarget::Offset(offset) => Some(offset.0),
            SeekTarget::Time(_) => None,
        };
        judge.sought(at, client, of, offset);
    }

    fn event(&mut self, client: usize, event: Event) {
        let at = self.now - self.start;
        let one = &mut self.clients[client];
        let judge = self.judges.get_mut(&one.group).expect("made when the client joined");
        let handles = match &event {
            Event::Assigned { handles, .. } => &handles[..],
            Event::Started { handle, .. } | Event::Unplaced(handle) => std::slice::from_ref(handle),
            _ => &[],
        };
        one.assignments.extend(handles.iter().map(|handle| (handle.partition.clone(), handle.assignment)));
        match &event {
            Event::Assigned { handles, generation, member_id } => {
                one.holds.extend(handles.iter().map(|handle| (handle.partition.clone(), false)));
                handles.iter().for_each(|handle| *one.eras.entry(handle.partition.clone()).or_default() += 1);
                // There is nothing that could be committed.
                let reset = handles.iter().filter(|_| one.is_groupless);
                reset.for_each(|handle| judge.door_opened(client, handle.partition.clone()));
                let partitions: Vec<_> = one.holds.keys().cloned().collect();
                judge.assigned(at, client, (member_id, *generation), &partitions);
            }
            Event::Started { handle, position, committed } => {
                *one.eras.entry(handle.partition.clone()).or_default() += 1;
                let committed = committed.as_ref().map(|committed| committed.offset.0);
                judge.started(at, client, &handle.partition, *position, committed);
            }
            Event::Chunk { handle, chunk, .. } => {
                judge.anchored(at, client, &handle.partition);
                self.bytes_fetched += chunk.data.len();
                judge.received(client, chunk.data.len(), one.budget);
            }
            Event::Revoking(handles) => {
                one.revoking_since = at;
                for handle in handles {
                    one.holds.insert(handle.partition.clone(), true);
                    judge.revoking(at, client, &handle.partition);
                }
            }
            Event::Revoked(handles) | Event::Lost { handles, .. } => {
                let is_revoked = matches!(event, Event::Revoked(_));
                let in_good_time = is_revoked && !one.is_closing && at < one.revoking_since + self.in_good_time;
                for handle in handles {
                    if in_good_time {
                        judge.handed_back(at, client, &handle.partition);
                    }
                    if one.is_closing && one.commits_acks && judge.is_behind(client, &handle.partition) {
                        one.left_behind.push(handle.partition.clone());
                    }
                    one.holds.remove(&handle.partition);
                    *one.eras.entry(handle.partition.clone()).or_default() += 1;
                    judge.released(at, client, &handle.partition);
                }
            }
            Event::Unplaced(handle) => *one.eras.entry(handle.partition.clone()).or_default() += 1,
            // Acks of what was handed out of a topic that is gone are none of what the next one holds.
            Event::Halted(partition) => {
                *one.eras.entry(partition.clone()).or_default() += 1;
                if one.is_groupless {
                    judge.door_opened(client, partition.clone());
                }
            }
            Event::Closed(unfinished) => {
                let is_told = |of: &&TopicPartition| unfinished.uncommitted.contains(of) || unfinished.in_work.contains(of);
                if let Some(of) = one.left_behind.iter().find(|of| !is_told(of)) {
                    judge.fail(
                        "closed well though something was not committed",
                        format!("{of} by client {client}: {unfinished:?}"),
                    );
                }
                one.closed = Some(unfinished.clone());
            }
            _ => {}
        }
        if !matches!(event, Event::Chunk { .. } | Event::Watermarks { .. } | Event::ReadProgress | Event::Committed { .. }) {
            let words = format!("{event:?}");
            self.story.tell(at, Who::Client(client), || words.clone());
            one.events.push((at, words));
        }
        (one.on_event)(event);
    }

    pub(super) fn tick(&mut self, client: usize) {
        let one = &mut self.clients[client];
        let Some((_, why)) = one.deadline.filter(|(at, _)| *at <= self.now && one.is_awake()) else { return };
        one.wakeups += 1;
        one.ticks = if one.ticks.0 == self.now { (self.now, one.ticks.1 + 1) } else { (self.now, 1) };
        assert!(one.ticks.1 < 10, "[a busy loop] {why}");
        one.core.handle(self.now, Input::Tick);
        self.settle(client);
    }
}

// ---------------------------------------------------------------- the users

impl World {
    /// The user looks at its stream, if it was woken and has a hand free. Says whether it took something.
    fn take(&mut self, client: usize) -> bool {
        let at = self.now - self.start;
        let one = &mut self.clients[client];
        let is_free = one.habits.takes && one.in_hand.len() < one.habits.at_once;
        let Some(records) = one.records.as_mut().filter(|_| is_free && one.woken.is_set()) else { return false };
        one.woken.set(false);
        let taken = records.take(&Waker::from(Arc::clone(&one.woken)));
        let Some(taken) = taken else { return false };
        one.woken.set(true);
        match taken {
            Taken::Problem(error) => {
                self.story.tell(at, Who::Client(client), || format!("is told: {error}"));
                if error.is_fatal() && !self.may_be_fatal {
                    let what = format!("client {client}: {error}");
                    self.judges.get_mut(&one.group).expect("made when it joined").fail("a fault was taken for the end", what);
                }
                // Whoever keeps the positions asks to be asked again.
                let again = error.topic_partition().filter(|_| matches!(one.records, Some(Records::Placed(..)))).cloned();
                again.into_iter().for_each(|of| one.handle.seek(&of, SeekTo::Beginning));
                one.problems.push((at, error));
            }
            Taken::Unplaced(partition) => {
                let of = partition.topic_partition().clone();
                let next = self.stores.get_mut(&one.group).expect("made when the client joined").begin(client, &of);
                let Some(Records::Placed(_, streams)) = &mut one.records else { unreachable!("only these place") };
                streams.push(partition.start_from(SeekTo::Offset(next)));
                self.story.tell(at, Who::Client(client), || format!("places {of} at {next}"));
            }
            Taken::Stream(what, partition) => self.story.tell(at, Who::Client(client), || format!("{partition} {what}")),
            Taken::Records(seen, work) => {
                let habits = one.habits;
                let era = seen.first().and_then(|seen| one.eras.get(&seen.partition)).copied().unwrap_or_default();
                let work = work.map(|work| work.of_era(era));
                let (first, last) = (seen.first().map(|seen| seen.offset), seen.last().map(|seen| seen.offset));
                let of = seen.first().map(|seen| seen.partition.to_string()).unwrap_or_default();
                self.story.tell(at, Who::Client(client), || format!("is handed {of} {first:?} to {last:?}"));
                for seen in &seen {
                    self.judge_of(client).handed_out(at, client, seen);
                }
                match work {
                    None => {}
                    Some(work) if habits.work.is_zero() && habits.drops_percent == 0 => self.finish_one(client, work),
                    Some(work) => {
                        let done = user::done_at(self.now, &habits, self.rng.next_u64());
                        self.clients[client].in_hand.push_back((done, work));
                    }
                }
            }
        }
        true
    }

    /// The user finishes what it has worked on long enough.
    pub(super) fn finish_work(&mut self, client: usize) {
        let one = &mut self.clients[client];
        if !one.is_awake() || one.in_hand.iter().all(|(at, _)| *at > self.now) {
            return;
        }
        let now = self.now;
        let (done, left): (VecDeque<_>, _) = std::mem::take(&mut one.in_hand).into_iter().partition(|(at, _)| *at <= now);
        one.in_hand = left;
        // Whoever worked with its last free hand looks at its stream again.
        one.woken.set(true);
        for (_, work) in done {
            let drops = self.clients[client].habits.drops_percent;
            let may_drop = work.may_be_dropped();
            if may_drop && drops > 0 && self.rng.next_u64() % 100 < drops {
                let at = self.now - self.start;
                self.story.tell(at, Who::Client(client), || format!("drops {:?}", work.offsets()));
                drop(work);
            } else {
                self.finish_one(client, work);
            }
        }
        self.settle(client);
    }

    fn finish_one(&mut self, client: usize, work: Work) {
        let at = self.now - self.start;
        if let Some(store) = self.stores.get_mut(&self.clients[client].group)
            && let Some((of, _)) = work.offsets().into_iter().find(|(of, offset)| !store.count(client, of, *offset))
        {
            // Somebody else has counted it, or may have: whoever reads on does so from where the store is.
            self.story.tell(at, Who::Client(client), || format!("may not count {:?}", work.offsets()));
            if let Some(Records::Placed(_, streams)) = &mut self.clients[client].records {
                streams.retain(|stream| *stream.topic_partition() != of);
            }
            return;
        }
        for (of, offset) in work.offsets() {
            if work.era == self.clients[client].eras.get(&of).copied().unwrap_or_default() {
                self.judge_of(client).acked(at, client, &of, offset);
            }
        }
        let Some(work) = work.finish() else { return };
        let one = &mut self.clients[client];
        let (work, error) = work.step(&Waker::from(Arc::clone(&one.woken)));
        if let Some(error) = error {
            self.story.tell(at, Who::Client(client), || format!("hears of its commit: {error}"));
        }
        if let Some(work) = work {
            // Its answer may come at any moment; looking now and then is enough.
            self.clients[client].in_hand.push_back((self.now + ms(20), work));
        }
    }

    pub(super) fn judge_of(&mut self, client: usize) -> &mut Judge {
        self.judges.get_mut(&self.clients[client].group).expect("made when the client joined")
    }
}

impl Client {
    pub(super) fn is_awake(&self) -> bool {
        !self.is_dead && self.mail.is_none()
    }

    /// Whether it holds this as it was given to it last, and is not giving it back.
    fn has(&self, handle: &PartitionHandle) -> bool {
        let is_held = self.holds.get(&handle.partition) == Some(&false);
        is_held && self.assignments.get(&handle.partition) == Some(&handle.assignment)
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.mail.is_some()
    }

    /// When the core said something that begins like this.
    pub(super) fn said(&self, what: &str) -> Vec<Duration> {
        self.events.iter().filter(|(_, event)| event.starts_with(what)).map(|(at, _)| *at).collect()
    }
}
