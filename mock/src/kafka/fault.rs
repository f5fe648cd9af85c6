//! What a test makes go wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, RequestKind, ResponseKind},
};

use super::{call::Call, message::ConnId};

/// What is to become of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It is served as always.
    Pass,
    /// This is the answer; the broker does nothing else.
    Reply(Box<ResponseKind>),
    /// This is the answer, and it comes so much later; the broker does nothing else.
    ReplyAfter(Duration, Box<ResponseKind>),
    /// It is refused with this error; the broker does nothing else.
    Error(ResponseError),
    /// It is served at once, and the answer comes so much later.
    Delay(Duration),
    /// Nothing is done and no answer ever comes; the connection stays open, and what follows on it waits for ever.
    NoReply,
    /// The connection ends before the request is served.
    CloseBefore,
    /// The request is served, and the connection ends before the answer is out: the client cannot know.
    CloseAfterApplying,
    /// The request is served, and no answer ever comes: the client cannot know either.
    SilentAfterApplying,
    /// The request is served, and nonsense comes instead of the answer.
    Garbage,
}

/// A request, as it is shown to whoever decides what becomes of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The broker that was asked.
    pub broker: i32,
    /// The API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: &'a str,
    /// The connection it came by.
    pub conn: ConnId,
    /// The request itself.
    pub body: &'a RequestKind,
}

type Judge = Box<dyn FnMut(&Request<'_>) -> Verdict + Send>;

struct Rule {
    api: ApiKey,
    /// How often it still applies.
    left: usize,
    judge: Judge,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("api", &self.api).field("left", &self.left).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
    slow: BTreeMap<i32, Duration>,
    throttled: BTreeMap<i16, i32>,
    isolated: BTreeSet<i32>,
    /// What an isolated broker has answered.
    held: Vec<(i32, ConnId, Bytes)>,
}

impl Faults {
    /// Adds a rule; the first one that still applies and does not pass decides.
    pub(super) fn intercept(&mut self, api: ApiKey, times: usize, judge: Judge) {
        self.rules.push(Rule { api, left: times, judge });
    }

    pub(super) fn slow(&mut self, broker: i32, by: Duration) {
        self.slow.insert(broker, by);
    }

    pub(super) fn throttle(&mut self, api: ApiKey, time_ms: i32) {
        self.throttled.insert(api as i16, time_ms);
    }

    pub(super) fn isolate(&mut self, broker: i32, isolated: bool) {
        if isolated {
            self.isolated.insert(broker);
        } else {
            self.isolated.remove(&broker);
        }
    }

    pub(super) fn is_isolated(&self, broker: i32) -> bool {
        self.isolated.contains(&broker)
    }

    /// Keeps what an isolated broker cannot send.
    pub(super) fn hold(&mut self, broker: i32, conn: ConnId, frame: Bytes) {
        self.held.push((broker, conn, frame));
    }

    /// Gives back what this broker could not send.
    pub(super) fn take_held(&mut self, broker: i32) -> Vec<(ConnId, Bytes)> {
        let (taken, held) = std::mem::take(&mut self.held).into_iter().partition(|(of, ..)| *of == broker);
        self.held = held;
        taken.into_iter().map(|(_, conn, frame)| (conn, frame)).collect()
    }

    /// Ends all faults; what was held is still to be taken.
    pub(super) fn heal(&mut self) {
        let held = std::mem::take(&mut self.held);
        *self = Self { held, ..Self::default() };
    }

    pub(super) fn slowness(&self, broker: i32) -> Duration {
        self.slow.get(&broker).copied().unwrap_or_default()
    }

    pub(super) fn throttle_time_ms(&self, api: ApiKey) -> i32 {
        self.throttled.get(&(api as i16)).copied().unwrap_or_default()
    }

    pub(super) fn judge(&mut self, call: &Call, request: &RequestKind) -> Verdict {
        let request = Request {
            broker: call.broker,
            api: call.api,
            version: call.version,
            client_id: call.client_id.as_deref().unwrap_or_default(),
            conn: call.conn,
            body: request,
        };
        let mut verdict = Verdict::Pass;
        for rule in self.rules.iter_mut().filter(|rule| rule.api == call.api) {
            verdict = (rule.judge)(&request);
            if !matches!(verdict, Verdict::Pass) {
                rule.left -= 1;
                break;
            }
        }
        self.rules.retain(|rule| rule.left > 0);
        verdict
    }
}

/// Replaces what follows the correlation id by nonsense.
pub(super) fn garble(frame: &Bytes) -> Bytes {
    let mut garbled = BytesMut::from(&frame[..8.min(frame.len())]);
    garbled.resize(frame.len().max(48), 0xff);
    let length = u32::try_from(garbled.len() - 4).expect("as short as an answer");
    garbled[..4].copy_from_slice(&length.to_be_bytes());
    garbled.freeze()
}
