//! The network between consumers and brokers: what is on its way, and when it arrives.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ottla_mock::{Api, ConnId as BrokerConn};

use super::quotas::Quotas;
use crate::{
    model::TopicPartition,
    proto::{ConnId, Disconnect, backoff::Rng},
};

/// A connection, as its client numbers it.
pub(super) type LinkId = (usize, ConnId);

/// A connection between a client and a broker. What goes one way arrives in the order in which it was sent.
pub(super) struct Link {
    /// As the brokers number it.
    pub(super) conn: BrokerConn,
    pub(super) broker: i32,
    /// What the broker has not answered yet.
    pub(super) asked: VecDeque<Asked>,
    /// When the last thing that was sent arrives, each way.
    up: Instant,
    down: Instant,
    /// The broker has forgotten this connection, and the client was not told.
    pub(super) is_half_open: bool,
    /// The client has hung up, and the broker has not heard of it: what was sent before still arrives.
    pub(super) is_hung_up: bool,
}

/// A request that its client waits to be answered.
pub(super) struct Asked {
    pub(super) correlation: i32,
    pub(super) api: Api,
    pub(super) version: i16,
    /// What an OffsetCommit commits.
    pub(super) commits: Vec<(TopicPartition, i64)>,
}

impl Asked {
    /// Whether a frame, its length included, is the answer.
    fn is_answered_by(&self, frame: &Bytes) -> bool {
        frame.get(4..8) == Some(&self.correlation.to_be_bytes())
    }
}

pub(super) enum Happening {
    Connected,
    Request(Bytes),
    Answer(Bytes),
    Disconnected(Disconnect),
    /// The client has hung up.
    HungUp(BrokerConn),
}

pub(super) struct Network {
    /// How long a message takes.
    pub(super) latency: Range<Duration>,
    /// Pairs of client and broker between which nothing passes for now.
    cut: BTreeSet<(usize, i32)>,
    pub(super) quotas: Quotas,
    /// What does not get through, in order.
    stuck: VecDeque<(LinkId, Happening)>,
    rng: Rng,
    connections: u64,
    sequence: u64,
    queue: BTreeMap<(Instant, u64), (LinkId, Happening)>,
    links: BTreeMap<LinkId, Link>,
    by_conn: BTreeMap<BrokerConn, LinkId>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            latency: Duration::from_millis(1)..Duration::from_millis(1),
            cut: BTreeSet::new(),
            quotas: Quotas::new(0, seed),
            stuck: VecDeque::new(),
            rng: Rng::new(seed),
            connections: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            links: BTreeMap::new(),
            by_conn: BTreeMap::new(),
        }
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes what happens next; a message that cannot get through is kept.
    pub(super) fn next(&mut self, now: Instant) -> Option<(LinkId, Happening)> {
        let (link, happening) = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?.remove();
        let broker = self.links.get(&link).map(|of| of.broker);
        if broker.is_some_and(|broker| self.cut.contains(&(link.0, broker))) {
            self.stuck.push_back((link, happening));
            return None;
        }
        Some((link, happening))
    }

    pub(super) fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub(super) fn link_of(&self, conn: BrokerConn) -> Option<LinkId> {
        self.by_conn.get(&conn).copied()
    }

    pub(super) fn links(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, now: Instant, id: LinkId, broker: i32) {
        self.connections += 1;
        let conn = BrokerConn(self.connections);
        self.links.insert(
            id,
            Link { conn, broker, asked: VecDeque::new(), up: now, down: now, is_half_open: false, is_hung_up: false },
        );
        self.by_conn.insert(conn, id);
        self.send_down(now, id, Happening::Connected);
    }

    /// A broker that is not there refuses.
    pub(super) fn refuse(&mut self, now: Instant, id: LinkId) {
        let at = now + self.delay();
        self.push(at, id, Happening::Disconnected(Disconnect::Unreachable("connection refused".to_owned())));
    }

    /// Sends a request, with what its answer will be looked at for.
    pub(super) fn request(&mut self, now: Instant, id: LinkId, frame: Bytes, asked: Asked) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.asked.push_back(asked);
        link.up = link.up.max(now + delay);
        let at = link.up;
        self.push(at, id, Happening::Request(frame));
    }

    pub(super) fn answer(&mut self, now: Instant, id: LinkId, mut frame: Bytes) {
        let link = self.links.get(&id);
        if let Some(asked) = link.and_then(|link| link.asked.iter().find(|asked| asked.is_answered_by(&frame))) {
            let quiet = self.quotas.throttle(asked, &mut frame);
            if !quiet.is_zero() {
                self.hold_up(id, now + quiet);
            }
        }
        self.send_down(now, id, Happening::Answer(frame));
    }

    /// Takes what a frame that has arrived is the answer to, if it is the one that is next.
    pub(super) fn take_asked(&mut self, id: LinkId, frame: &Bytes) -> Option<Asked> {
        self.links.get_mut(&id)?.asked.pop_front().filter(|asked| asked.is_answered_by(frame))
    }

    /// Lets nothing that its client has sent arrive before then.
    fn hold_up(&mut self, id: LinkId, until: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up = link.up.max(until);
        let is_held =
            |(of, what): &(LinkId, Happening)| *of == id && matches!(what, Happening::Request(_) | Happening::HungUp(_));
        let held: Vec<_> = self.queue.range(..(until, 0)).filter(|(_, what)| is_held(what)).map(|(key, _)| *key).collect();
        for (at, sequence) in held {
            let what = self.queue.remove(&(at, sequence)).expect("it was found just now");
            // In the order in which it was sent.
            self.queue.insert((until, sequence), what);
        }
    }

    /// The broker has hung up: the client hears of it after whatever was sent before.
    pub(super) fn closed(&mut self, now: Instant, id: LinkId) {
        let why = Disconnect::Closed("connection reset".to_owned());
        self.send_down(now, id, Happening::Disconnected(why));
    }

    /// The client has hung up: the broker hears of it later.
    pub(super) fn hang_up(&mut self, now: Instant, id: LinkId) {
        let delay = self.delay();
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_hung_up) {
            link.is_hung_up = true;
            let (at, conn) = (link.up.max(now + delay), link.conn);
            self.push(at, id, Happening::HungUp(conn));
        }
    }

    pub(super) fn forget(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.by_conn.remove(&link.conn);
        Some(link)
    }

    /// Lets nothing pass between a client and a broker, or everything again.
    pub(super) fn cut(&mut self, now: Instant, client: usize, broker: i32, is_cut: bool) {
        if is_cut {
            self.cut.insert((client, broker));
        } else {
            self.cut.remove(&(client, broker));
            self.let_through(now);
        }
    }

    pub(super) fn is_cut(&self, client: usize, broker: i32) -> bool {
        self.cut.contains(&(client, broker))
    }

    pub(super) fn heal(&mut self, now: Instant) {
        self.cut.clear();
        self.quotas.percent = 0;
        self.let_through(now);
    }

    /// Sends on what was stuck, in its order and before anything that comes after it.
    fn let_through(&mut self, now: Instant) {
        for (id, happening) in std::mem::take(&mut self.stuck) {
            let is_cut = self.links.get(&id).is_some_and(|link| self.cut.contains(&(id.0, link.broker)));
            if is_cut {
                self.stuck.push_back((id, happening));
            } else {
                self.push(now, id, happening);
            }
        }
    }

    fn send_down(&mut self, now: Instant, id: LinkId, happening: Happening) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.down = link.down.max(now + delay);
        let at = link.down;
        self.push(at, id, happening);
    }

    fn delay(&mut self) -> Duration {
        let spread = self.latency.end.saturating_sub(self.latency.start).as_micros() as u64;
        let more = if spread == 0 { 0 } else { self.rng.next_u64() % spread };
        self.latency.start + Duration::from_micros(more)
    }

    fn push(&mut self, at: Instant, id: LinkId, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (id, happening));
    }
}
