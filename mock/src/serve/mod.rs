//! The cluster on tokio: it gets its bytes and its time from here.

mod pipe;
mod tcp;

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use crate::kafka::{ConnId, Event, Input, Kafka, Output, Settings};

pub(crate) use pipe::connect;
pub(crate) use tcp::{Listening, listen};

const READ_BYTES: usize = 64 * 1024;

/// The cluster, and what its tasks share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The deadline may have changed.
    woken: Notify,
    /// Counts what happened, for those who wait for something to become true.
    changes: watch::Sender<u64>,
}

struct State {
    kafka: Kafka,
    /// What is to be sent, by connection; a connection ends when its sender is dropped.
    senders: BTreeMap<ConnId, mpsc::UnboundedSender<Bytes>>,
    connections: u64,
    deadline: Option<Instant>,
    events: Vec<Event>,
}

thread_local! {
    /// This thread holds the lock.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The state, locked; the thread that has it must not ask for it again.
struct Locked<'a>(MutexGuard<'a, State>);

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let unix_ms = unix_time().as_millis();
        let kafka = Kafka::new(settings, now(), i64::try_from(unix_ms).unwrap_or(i64::MAX));
        let state = State { kafka, senders: BTreeMap::new(), connections: 0, deadline: None, events: Vec::new() };
        Self { state: Mutex::new(state), woken: Notify::new(), changes: watch::Sender::new(0) }
    }

    /// Does something to the cluster, and everything that follows from it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Kafka) -> T) -> T {
        let mut state = self.lock();
        // The cluster learns what time it is before anything is done to it.
        state.kafka.handle(now(), Input::Tick);
        let done = act(&mut state.kafka);
        self.carry_out(&mut state);
        done
    }

    /// Looks at the cluster, and changes nothing.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Kafka) -> T) -> T {
        look(&self.lock().kafka)
    }

    /// Takes the events since the last time.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().events)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ticks the cluster whenever it asks for it.
    pub(crate) async fn tick(self: Arc<Self>) {
        loop {
            let deadline = self.lock().deadline;
            let sleep = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.with(|_| ()),
                () = self.woken.notified() => {}
            }
        }
    }

    /// Serves one connection until either side ends it.
    pub(crate) async fn serve(self: Arc<Self>, broker: i32, stream: impl AsyncRead + AsyncWrite) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (conn, mut frames) = self.accept(broker);
        let read = async {
            let mut bytes = vec![0; READ_BYTES];
            while let Ok(count @ 1..) = reader.read(&mut bytes).await {
                self.input(Input::Received(conn, Bytes::copy_from_slice(&bytes[..count])));
            }
        };
        let write = async {
            while let Some(frame) = frames.recv().await {
                if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = write => {}
        }
        self.lock().senders.remove(&conn);
        self.input(Input::Disconnected(conn));
        // Whoever is at the other end finds a connection that was ended, not one that was reset.
        let _ = writer.shutdown().await;
    }

    fn accept(&self, broker: i32) -> (ConnId, mpsc::UnboundedReceiver<Bytes>) {
        let (sender, frames) = mpsc::unbounded_channel();
        let mut state = self.lock();
        state.connections += 1;
        let conn = ConnId(state.connections);
        state.senders.insert(conn, sender);
        state.kafka.handle(now(), Input::Connected(conn, broker));
        self.carry_out(&mut state);
        (conn, frames)
    }

    fn input(&self, input: Input) {
        let mut state = self.lock();
        state.kafka.handle(now(), input);
        self.carry_out(&mut state);
    }

    fn carry_out(&self, state: &mut State) {
        loop {
            match state.kafka.poll() {
                Output::Transmit(conn, frame) => {
                    if let Some(sender) = state.senders.get(&conn) {
                        // Who has gone reads no answer.
                        let _ = sender.send(frame);
                    }
                }
                Output::Disconnect(conn) => drop(state.senders.remove(&conn)),
                Output::Event(event) => state.events.push(event),
                Output::Wait(deadline) => {
                    if state.deadline != deadline {
                        state.deadline = deadline;
                        self.woken.notify_one();
                    }
                    break;
                }
            }
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// # Panics
    ///
    /// If it is called from inside a closure that the cluster itself runs, which would wait for itself for ever; or if such a closure has
    /// panicked before.
    fn lock(&self) -> Locked<'_> {
        let is_nested = INSIDE.replace(true);
        assert!(
            !is_nested,
            "a closure that the cluster runs asks the cluster itself: use the `&Kafka` or `&Request` that it is given"
        );
        match self.state.lock() {
            Ok(state) => Locked(state),
            Err(_) => {
                INSIDE.set(false);
                panic!("the cluster broke in a panic before this one: look at that");
            }
        }
    }
}

/// The tasks of a cluster; they end with it.
pub(crate) type Tasks = JoinSet<()>;

fn now() -> Instant {
    // tokio's, so that a test may stop the clock.
    tokio::time::Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "records are dated by the wall's clock")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
