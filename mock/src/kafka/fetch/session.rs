//! Fetch sessions (KIP-227): the broker remembers what a client fetches, and both say only what is new.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kafka_protocol::{
    ResponseError,
    messages::{FetchRequest, TopicName, fetch_request::FetchPartition, fetch_response::PartitionData},
};
use uuid::Uuid;

use crate::kafka::{Context, call::Call};

/// `min.incremental.fetch.session.eviction.ms`: before, no session makes room for a new one.
const EVICTION_AGE: Duration = Duration::from_secs(120);
const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;
/// From this version on topics go by their ids.
const TOPIC_IDS_SINCE: i16 = 13;

/// A partition as requests name it: by the topic's name, or its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) topic: TopicName,
    pub(super) id: Uuid,
    pub(super) number: i32,
}

/// What a fetch has to do with sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing.
    Sessionless,
    /// Its answer begins one, if there is room.
    Begin,
    /// It goes on with this one.
    Continue(i32),
}

/// All sessions, by broker and id.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<(i32, i32), Session>);

#[derive(Debug)]
struct Session {
    uses_topic_ids: bool,
    /// What the next request must say.
    epoch: i32,
    used: Instant,
    /// In the order in which they are read: who was given records goes to the end.
    partitions: BTreeMap<u64, (Key, Cached)>,
    places: BTreeMap<Key, u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Cached {
    asked: FetchPartition,
    high_watermark: i64,
    log_start: i64,
}

impl Sessions {
    /// Finds out what a request asks for, and remembers what it says.
    pub(super) fn begin(
        &mut self,
        call: &Call,
        request: FetchRequest,
        now: Instant,
    ) -> Result<(Plan, Vec<(Key, FetchPartition)>), ResponseError> {
        let at = (call.broker, request.session_id);
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.0.remove(&at);
            let plan = if request.session_epoch == FINAL_EPOCH { Plan::Sessionless } else { Plan::Begin };
            return Ok((plan, asked(request)));
        }
        let session = self.0.get_mut(&at).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != request.session_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != (call.version >= TOPIC_IDS_SINCE) {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        for forgotten in &request.forgotten_topics_data {
            for number in &forgotten.partitions {
                session.remove(&Key { topic: forgotten.topic.clone(), id: forgotten.topic_id, number: *number });
            }
        }
        for (key, asked) in asked(request) {
            session.ask(key, asked);
        }
        if session.partitions.is_empty() {
            self.0.remove(&at);
            return Ok((Plan::Sessionless, Vec::new()));
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.used = now;
        let asked = session.partitions.values().map(|(key, cached)| (key.clone(), cached.asked.clone())).collect();
        Ok((Plan::Continue(at.1), asked))
    }

    /// Begins a session with a first answer, if there is room; 0 is none.
    pub(super) fn open(
        &mut self,
        cx: &mut Context<'_>,
        call: &Call,
        answered: impl Iterator<Item = (Key, FetchPartition, PartitionData)>,
    ) -> i32 {
        let of_broker = || (call.broker, i32::MIN)..=(call.broker, i32::MAX);
        if self.0.range(of_broker()).count() >= cx.settings.fetch_sessions_max {
            let oldest = self.0.range(of_broker()).min_by_key(|(_, session)| session.used);
            match oldest.filter(|(_, session)| session.used + EVICTION_AGE < cx.now).map(|(at, _)| *at) {
                Some(at) => drop(self.0.remove(&at)),
                None => return 0,
            }
        }
        let mut session = Session {
            uses_topic_ids: call.version >= TOPIC_IDS_SINCE,
            epoch: 1,
            used: cx.now,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        };
        for (key, asked, answer) in answered {
            session.ask(key.clone(), asked);
            session.tell(&key, &answer, false);
        }
        if session.partitions.is_empty() {
            return 0;
        }
        loop {
            let id = i32::try_from(cx.random.next_u64() >> 33).expect("31 bits fit");
            if id != 0 && !self.0.contains_key(&(call.broker, id)) {
                self.0.insert((call.broker, id), session);
                return id;
            }
        }
    }

    /// Says whether the session's client has to be told this, and remembers that it was.
    pub(super) fn tells(&mut self, broker: i32, id: i32, key: &Key, answer: &PartitionData, has_records: bool) -> bool {
        self.0.get_mut(&(broker, id)).is_none_or(|session| session.tell(key, answer, has_records))
    }

    /// Forgets all sessions of a broker, as its restart does.
    pub(super) fn forget_broker(&mut self, broker: i32) {
        self.0.retain(|(of, _), _| *of != broker);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Session {
    fn ask(&mut self, key: Key, asked: FetchPartition) {
        if let Some(place) = self.places.get(&key) {
            let (_, cached) = self.partitions.get_mut(place).expect("both maps have the same partitions");
            cached.asked = asked;
            return;
        }
        self.put(key, Cached { asked, high_watermark: -1, log_start: -1 });
    }

    fn put(&mut self, key: Key, cached: Cached) {
        self.places.insert(key.clone(), self.next_place);
        self.partitions.insert(self.next_place, (key, cached));
        self.next_place += 1;
    }

    fn remove(&mut self, key: &Key) -> Option<Cached> {
        let place = self.places.remove(key)?;
        self.partitions.remove(&place).map(|(_, cached)| cached)
    }

    fn tell(&mut self, key: &Key, answer: &PartitionData, has_records: bool) -> bool {
        let Some(place) = self.places.get(key) else { return true };
        let (_, cached) = self.partitions.get_mut(place).expect("both maps have the same partitions");
        let is_moved = (cached.high_watermark, cached.log_start) != (answer.high_watermark, answer.log_start_offset);
        let is_failed = answer.error_code != 0 || answer.diverging_epoch.epoch >= 0;
        cached.log_start = answer.log_start_offset;
        // After a failure the client is told in any case that it is over.
        cached.high_watermark = if is_failed { -1 } else { answer.high_watermark };
        if has_records {
            let cached = self.remove(key).expect("it was found just now");
            self.put(key.clone(), cached);
        }
        has_records || is_moved || is_failed || answer.preferred_read_replica.0 >= 0
    }
}

fn asked(request: FetchRequest) -> Vec<(Key, FetchPartition)> {
    let partitions = request.topics.into_iter().flat_map(|topic| {
        let (name, id) = (topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |asked| (Key { topic: name.clone(), id, number: asked.partition }, asked))
    });
    partitions.collect()
}
