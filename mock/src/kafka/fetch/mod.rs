//! Fetch: long polls, sessions, limits.

mod read;
mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, FetchResponse,
        fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint},
    },
};

use super::{ConnId, Context, call::Call, clock::ms, topics::Topics};
use read::{Found, Query, Wanted};
use session::{Key, Plan, Sessions};

/// `fetch.max.bytes` of brokers: no answer has more, whatever a client asks for.
const FETCH_BYTES_MAX: usize = 55 << 20;
const READ_COMMITTED: i8 = 1;
/// From this version on an answer that refuses says who leads now (KIP-951).
const LEADERS_SINCE: i16 = 16;

/// All fetches that wait, and all sessions.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    sessions: Sessions,
    parked: BTreeMap<ConnId, Parked>,
    deadlines: BTreeSet<(Instant, ConnId)>,
    /// The change up to which those who wait have looked.
    seen: u64,
}

#[derive(Debug)]
struct Parked {
    call: Call,
    plan: Plan,
    query: Query,
    bytes_min: usize,
    deadline: Instant,
}

impl Fetches {
    pub(super) fn fetch(&mut self, cx: &mut Context<'_>, call: Call, mut request: FetchRequest) {
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
        let deadline = cx.now + ms(request.max_wait_ms);
        let is_read_committed = request.isolation_level == READ_COMMITTED;
        let rack = std::mem::take(&mut request.rack_id).to_string();
        let (plan, asked) = match self.sessions.begin(&call, request, cx.now) {
            Ok(begun) => begun,
            Err(error) => {
                let body = FetchResponse::default().with_throttle_time_ms(call.throttle_time_ms);
                return cx.out.answer(call, &body.with_error_code(error.code()));
            }
        };
        let wanted = asked.into_iter().map(|(key, asked)| Wanted { name: name_of(cx.topics, &key), key, asked });
        let query = Query { wanted: wanted.collect(), bytes_max, is_read_committed, rack };
        let parked = Parked { call, plan, query, bytes_min, deadline };
        let found = parked.query.look(cx.topics, cx.brokers, &parked.call);
        if parked.is_done(&found, cx.now) {
            return self.answer(cx, parked, found);
        }
        self.deadlines.insert((parked.deadline, parked.call.conn));
        self.parked.insert(parked.call.conn, parked);
    }

    /// Answers those whose time is over, and if anything has changed also those whom it concerns.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        let mut ready: Vec<_> = self.deadlines.iter().take_while(|(at, _)| *at <= cx.now).map(|(_, conn)| *conn).collect();
        if self.seen != cx.topics.changes() {
            self.seen = cx.topics.changes();
            ready = self.parked.keys().copied().collect();
        }
        for conn in ready {
            let parked = self.parked.get(&conn).expect("it was listed just now");
            let found = parked.query.look(cx.topics, cx.brokers, &parked.call);
            if parked.is_done(&found, cx.now) {
                let parked = self.take(conn).expect("it was found just now");
                self.answer(cx, parked, found);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.take(conn);
    }

    /// Forgets all sessions of a broker, as its restart does.
    pub(super) fn forget_sessions(&mut self, broker: i32) {
        self.sessions.forget_broker(broker);
    }

    fn take(&mut self, conn: ConnId) -> Option<Parked> {
        let parked = self.parked.remove(&conn)?;
        self.deadlines.remove(&(parked.deadline, conn));
        Some(parked)
    }

    fn answer(&mut self, cx: &mut Context<'_>, parked: Parked, found: Found) {
        let Parked { call, plan, query, .. } = parked;
        let mut body = FetchResponse::default().with_throttle_time_ms(call.throttle_time_ms);
        let mut parts: Vec<_> = query.wanted.into_iter().zip(found.parts).collect();
        match plan {
            Plan::Sessionless => {}
            Plan::Begin => {
                let answered =
                    parts.iter().map(|(wanted, (answer, _))| (wanted.key.clone(), wanted.asked.clone(), answer.clone()));
                body.session_id = self.sessions.open(cx, &call, answered);
            }
            Plan::Continue(id) => {
                body.session_id = id;
                parts.retain(|(wanted, (answer, slice))| {
                    self.sessions.tells(call.broker, id, &wanted.key, answer, slice.len() > 0)
                });
            }
        }
        for (wanted, (mut part, slice)) in parts {
            let is_moved = [ResponseError::NotLeaderOrFollower, ResponseError::FencedLeaderEpoch]
                .iter()
                .any(|error| error.code() == part.error_code);
            if is_moved && call.version >= LEADERS_SINCE {
                part.current_leader = tell_leader(cx, &wanted, &mut body.node_endpoints);
            }
            part.records = Some(if slice.len() > 0 { slice.into_bytes() } else { Bytes::new() });
            let is_same = |topic: &FetchableTopicResponse| (&topic.topic, topic.topic_id) == (&wanted.key.topic, wanted.key.id);
            if !body.responses.last().is_some_and(is_same) {
                let topic = FetchableTopicResponse::default().with_topic(wanted.key.topic).with_topic_id(wanted.key.id);
                body.responses.push(topic);
            }
            body.responses.last_mut().expect("there is one now").partitions.push(part);
        }
        cx.out.answer(call, &body);
    }
}

impl Parked {
    fn is_done(&self, found: &Found, now: Instant) -> bool {
        found.is_urgent || found.bytes >= self.bytes_min || now >= self.deadline
    }
}

fn name_of(topics: &Topics, key: &Key) -> Result<String, ResponseError> {
    if !key.id.is_nil() {
        return topics.name_of(key.id).map(str::to_owned).ok_or(ResponseError::UnknownTopicId);
    }
    let name = Some(key.topic.to_string()).filter(|name| topics.partition(name, key.number).is_some());
    name.ok_or(ResponseError::UnknownTopicOrPartition)
}

/// Says who leads the partition now, and adds where that broker is.
fn tell_leader(cx: &Context<'_>, wanted: &Wanted, endpoints: &mut Vec<NodeEndpoint>) -> LeaderIdAndEpoch {
    let led = wanted.name.as_ref().ok().and_then(|name| cx.leader_of(name, wanted.key.number));
    let Some((leader, epoch, broker)) = led else { return LeaderIdAndEpoch::default() };
    if let Some(broker) = broker.filter(|_| !endpoints.iter().any(|known| known.node_id.0 == leader)) {
        let (host, port, rack) = broker.endpoint();
        endpoints.push(NodeEndpoint::default().with_node_id(leader.into()).with_host(host).with_port(port).with_rack(rack));
    }
    LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch)
}
