//! The driver: gives the core what happens, does what the core says, and sleeps until the next of both.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant as Clock, sleep_until},
};

use super::{
    NetConfig,
    connection::{self, Report},
    pool::Pool,
    token::Tokens,
};
use crate::proto::{
    BrokerAddr, ConnId, consumer,
    message::{Command, Event, Input, Output},
    onlooker::{self, Onlooker},
};

/// How many reports of connections wait for the driver before the connections do: what is not read stays with the broker.
const REPORTS_MAX: usize = 64;
/// How long the core goes on when nobody is left who could give it a command: enough to leave the group.
const LINGER: Duration = Duration::from_secs(3);

/// The sans-IO core as the driver sees it: after each `handle`, `poll` until it says `Wait`.
pub(crate) trait Core {
    type Command;
    type Event;

    fn handle(&mut self, now: Instant, input: Input<Self::Command>);

    fn poll(&mut self, now: Instant) -> Output<Self::Event>;

    /// Whether nothing is left to be done.
    fn is_finished(&self) -> bool;
}

impl Core for consumer::Consumer {
    type Command = Command;
    type Event = Event;

    fn handle(&mut self, now: Instant, input: Input) {
        self.handle(now, input);
    }

    fn poll(&mut self, now: Instant) -> Output {
        self.poll(now)
    }

    fn is_finished(&self) -> bool {
        self.is_finished()
    }
}

impl<T> Core for Onlooker<T> {
    type Command = onlooker::Command<T>;
    type Event = onlooker::Event<T>;

    fn handle(&mut self, now: Instant, input: Input<Self::Command>) {
        self.handle(now, input);
    }

    fn poll(&mut self, now: Instant) -> Output<Self::Event> {
        self.poll(now)
    }

    /// It has no end of its own: there may always be another question.
    fn is_finished(&self) -> bool {
        false
    }
}

/// Runs the core until it is finished. Dropping the future ends all connections at once.
///
/// `on_event` must not block; what it returns is given to the core as the next command. When all senders of commands are gone, the core
/// is given a last while to finish.
pub(crate) async fn drive<C: Core>(
    mut core: C,
    config: NetConfig,
    mut commands: mpsc::UnboundedReceiver<C::Command>,
    mut on_event: impl FnMut(C::Event) -> Option<C::Command>,
) {
    let (reports, mut reported) = mpsc::channel(REPORTS_MAX);
    let mut tokens = Tokens::new(config.tokens.clone(), config.token_timeout);
    let mut connections =
        Connections { open: BTreeMap::new(), tasks: JoinSet::new(), pool: Pool::new(config.pool_bytes_max), config, reports };
    let mut replies = VecDeque::new();
    let mut abandoned: Option<Clock> = None;
    let mut ticked = false;
    let timer = sleep_until(Clock::now());
    tokio::pin!(timer);
    loop {
        let now = Clock::now().into_std();
        let deadline = loop {
            match core.poll(now) {
                Output::Connect(id, addr) => connections.open(id, addr),
                Output::Transmit(id, frame) => connections.transmit(id, frame),
                Output::Disconnect(id) => connections.close(id),
                Output::FetchToken => tokens.ask(),
                Output::Event(event) => replies.extend(on_event(event)),
                Output::Wait(deadline) => match replies.pop_front() {
                    Some(reply) => core.handle(now, Input::Command(reply)),
                    None => break deadline,
                },
            }
        };
        if core.is_finished() {
            return;
        }
        // A flood of frames must not hold up the time; nor must a deadline that stays in the past hold up all else.
        if let Some((at, why)) = deadline.filter(|(at, _)| *at <= now && !ticked) {
            tracing::trace!(why, late = ?now.saturating_duration_since(at), "timer");
            core.handle(now, Input::Tick);
            ticked = true;
            continue;
        }
        ticked = false;
        let wake = match (deadline.map(|(at, _)| Clock::from_std(at)), abandoned) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(wake) = wake.filter(|wake| *wake != timer.deadline()) {
            timer.as_mut().reset(wake);
        }
        let input = tokio::select! {
            Some((id, report)) = reported.recv() => connections.input_of(id, report),
            command = commands.recv(), if abandoned.is_none() => {
                if command.is_none() {
                    abandoned = Some(Clock::now() + LINGER);
                }
                command.map(Input::Command)
            }
            token = tokens.next() => Some(Input::Token(token)),
            () = timer.as_mut(), if wake.is_some() => Some(Input::Tick),
        };
        if abandoned.is_some_and(|at| at <= Clock::now()) {
            return;
        }
        if let Some(input) = input {
            core.handle(Clock::now().into_std(), input);
        }
    }
}

struct Connections {
    open: BTreeMap<ConnId, Open>,
    /// Aborts what is left when it is dropped.
    tasks: JoinSet<()>,
    pool: Pool,
    config: NetConfig,
    reports: mpsc::Sender<(ConnId, Report)>,
}

struct Open {
    outgoing: mpsc::UnboundedSender<Bytes>,
    task: AbortHandle,
}

impl Connections {
    fn open(&mut self, id: ConnId, addr: BrokerAddr) {
        while self.tasks.try_join_next().is_some() {}
        // Not bounded here: the core bounds how much it sends on each.
        let (outgoing, frames) = mpsc::unbounded_channel();
        let run = connection::run(id, addr, self.config.clone(), self.pool.clone(), frames, self.reports.clone());
        let task = self.tasks.spawn(run);
        self.open.insert(id, Open { outgoing, task });
    }

    fn transmit(&self, id: ConnId, frame: Bytes) {
        if let Some(open) = self.open.get(&id) {
            // One that just ended will say so.
            let _ = open.outgoing.send(frame);
        }
    }

    fn close(&mut self, id: ConnId) {
        if let Some(open) = self.open.remove(&id) {
            open.task.abort();
        }
    }

    /// What a report means to the core; `None` if the core has closed the connection meanwhile.
    fn input_of<C>(&mut self, id: ConnId, report: Report) -> Option<Input<C>> {
        if !self.open.contains_key(&id) {
            return None;
        }
        Some(match report {
            Report::Connected => Input::Connected(id),
            Report::Frame(frame) => Input::Frame(id, frame),
            Report::Disconnected(why) => {
                self.open.remove(&id);
                Input::Disconnected(id, why)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::oneshot,
    };

    use super::*;
    use crate::proto::Deadline;

    /// Says what it is told to, and tells what it was given.
    #[derive(Default)]
    struct Puppet {
        says: VecDeque<Output<String>>,
        deadline: Option<Deadline>,
        finished: bool,
    }

    impl Core for Puppet {
        type Command = Output<String>;
        type Event = String;

        fn handle(&mut self, _now: Instant, input: Input<Self::Command>) {
            match input {
                Input::Command(Output::Wait(Some(deadline))) => self.deadline = Some(deadline),
                Input::Command(Output::Wait(None)) => self.finished = true,
                Input::Command(command) => self.says.push_back(command),
                Input::Tick => {
                    self.deadline = self.deadline.filter(|(_, why)| *why == "stuck");
                    self.says.push_back(Output::Event("Tick".to_owned()));
                }
                other => self.says.push_back(Output::Event(format!("{other:?}"))),
            }
        }

        fn poll(&mut self, _now: Instant) -> Output<String> {
            self.says.pop_front().unwrap_or(Output::Wait(self.deadline))
        }

        fn is_finished(&self) -> bool {
            self.finished
        }
    }

    struct Driven {
        commands: mpsc::UnboundedSender<Output<String>>,
        events: mpsc::UnboundedReceiver<String>,
        ended: oneshot::Receiver<()>,
        task: tokio::task::JoinHandle<()>,
    }

    fn driven(core: Puppet) -> Driven {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        let (on_end, ended) = oneshot::channel();
        let config = NetConfig::of_tests();
        let task = tokio::spawn(async move {
            drive(core, config, receiver, move |event| {
                let reply = (event == "Tick").then(|| Output::Event("reply".to_owned()));
                let _ = sender.send(event);
                reply
            })
            .await;
            let _ = on_end.send(());
        });
        Driven { commands, events, ended, task }
    }

    fn addr(listener: &TcpListener) -> BrokerAddr {
        BrokerAddr { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() }
    }

    #[tokio::test]
    async fn frames_go_both_ways_until_the_other_side_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut driven = driven(Puppet::default());
        driven.commands.send(Output::Connect(ConnId(1), addr(&listener))).unwrap();
        let (mut broker, _) = listener.accept().await.unwrap();
        assert_eq!(driven.events.recv().await.unwrap(), "Connected(ConnId(1))");
        for part in ["ab", "c"] {
            driven.commands.send(Output::Transmit(ConnId(1), Bytes::from(part))).unwrap();
        }
        let mut got = [0; 3];
        broker.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"abc");
        broker.write_all(b"\0\0\0\x02hi\0\0\0\x01!").await.unwrap();
        assert_eq!(driven.events.recv().await.unwrap(), r#"Frame(ConnId(1), b"hi")"#);
        assert_eq!(driven.events.recv().await.unwrap(), r#"Frame(ConnId(1), b"!")"#);
        drop(broker);
        assert_eq!(driven.events.recv().await.unwrap(), r#"Disconnected(ConnId(1), Closed("closed by the broker"))"#);
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_unreachable() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = addr(&nobody);
        drop(nobody);
        let mut driven = driven(Puppet::default());
        driven.commands.send(Output::Connect(ConnId(1), addr.clone())).unwrap();
        let event = driven.events.recv().await.unwrap();
        assert!(event.starts_with(&format!("Disconnected(ConnId(1), Unreachable(\"{addr}: ")), "{event}");
    }

    #[tokio::test]
    async fn a_connection_that_the_core_closes_is_closed_and_not_heard_of_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut driven = driven(Puppet::default());
        driven.commands.send(Output::Connect(ConnId(1), addr(&listener))).unwrap();
        let (mut broker, _) = listener.accept().await.unwrap();
        driven.events.recv().await.unwrap();
        driven.commands.send(Output::Disconnect(ConnId(1))).unwrap();
        assert_eq!(broker.read(&mut [0]).await.unwrap(), 0);
        driven.commands.send(Output::Transmit(ConnId(1), Bytes::from_static(b"late"))).unwrap();
        driven.commands.send(Output::Event("last".to_owned())).unwrap();
        assert_eq!(driven.events.recv().await.unwrap(), "last");
    }

    #[tokio::test]
    async fn dropping_the_driver_closes_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let driven = driven(Puppet::default());
        driven.commands.send(Output::Connect(ConnId(1), addr(&listener))).unwrap();
        let (mut broker, _) = listener.accept().await.unwrap();
        driven.task.abort();
        assert_eq!(broker.read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_kept_and_an_event_may_be_replied_to() {
        let mut driven = driven(Puppet::default());
        let start = Clock::now();
        let at = start + Duration::from_secs(60);
        driven.commands.send(Output::Wait(Some((at.into_std(), "test")))).unwrap();
        assert_eq!(driven.events.recv().await.unwrap(), "Tick");
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(driven.events.recv().await.unwrap(), "reply");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_stays_in_the_past_does_not_keep_commands_out() {
        let mut driven = driven(Puppet::default());
        driven.commands.send(Output::Wait(Some((Clock::now().into_std(), "stuck")))).unwrap();
        driven.commands.send(Output::Event("heard".to_owned())).unwrap();
        while driven.events.recv().await.unwrap() != "heard" {}
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_core_is_finished_or_a_while_after_it_was_abandoned() {
        let finished = driven(Puppet::default());
        finished.commands.send(Output::Wait(None)).unwrap();
        finished.ended.await.unwrap();
        let Driven { commands, events: _events, ended, task: _task } = driven(Puppet::default());
        let start = Clock::now();
        drop(commands);
        ended.await.unwrap();
        assert!(start.elapsed() >= LINGER && start.elapsed() < LINGER * 2);
    }
}
