//! The planner of Fetch requests, with the bench in the brokers' place.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{at, handle, start};
use crate::{
    model::{BrokerId, LeaderEpoch, Offset, TopicId},
    proto::{
        ClusterView, Owner, PartitionView, Target, TopicView,
        fetch::{FetchConfig, FetchEvent, Fetcher},
    },
    records::encode::TestBatch,
    wire::{ErrorCode, FetchResponse, FetchedPartition, Isolation, Request, Response, TopicRef},
};

const MAX_WAIT: Duration = Duration::from_millis(500);
const TOPIC_ID: TopicId = TopicId([7; 16]);

/// Partitions of one topic, spread over brokers, all of them read by one consumer.
pub struct Planner {
    fetcher: Fetcher,
    view: ClusterView,
    now: Instant,
    /// What each broker is to read, with its offsets.
    sessions: BTreeMap<BrokerId, BTreeMap<i32, Offset>>,
    /// A batch of ten records at offset 0.
    batch: Vec<u8>,
}

impl Planner {
    /// Begins to read `partitions` at once, with an otherwise usual configuration.
    pub fn new(partitions: i32, brokers: i32) -> Self {
        let config = FetchConfig {
            isolation: Isolation::ReadUncommitted,
            max_wait: MAX_WAIT,
            min_bytes: 1,
            bytes_max: 64 << 20,
            partition_bytes_max: 1 << 20,
            reading_lines: 2,
            rack: None,
            replica_lease: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 5,
        };
        let known = |n| PartitionView {
            leader: Some(BrokerId(n % brokers)),
            leader_epoch: Some(LeaderEpoch(1)),
            ..PartitionView::default()
        };
        let topic = TopicView { error: ErrorCode::NONE, id: Some(TOPIC_ID), partitions: (0..partitions).map(known).collect() };
        let view = ClusterView { revision: 1, topics: [("bench".into(), topic)].into() };
        let mut planner = Self {
            fetcher: Fetcher::new(config),
            view,
            now: start(),
            sessions: BTreeMap::new(),
            batch: TestBatch::dense(0, 10).encode(),
        };
        for n in 0..partitions {
            planner.fetcher.add(planner.now, &handle(n), at(0), &planner.view);
        }
        planner
    }

    /// Asks every broker once and answers: of each answer, the first `with_data` partitions bring a batch, which is taken at once. With
    /// none, the brokers take their time. Returns how many partitions were asked for.
    pub fn round(&mut self, with_data: usize) -> usize {
        let mut calls = Vec::new();
        while let Some(ask) = self.fetcher.poll_ask(self.now, &self.view) {
            let (Owner::Fetch(call), Target::Fetch(broker, _), Request::Fetch(request)) = (ask.owner, ask.to, ask.request) else {
                continue;
            };
            calls.push((call, broker, request));
        }
        if with_data == 0 {
            self.now += MAX_WAIT;
            self.fetcher.handle_timeout(self.now);
        }
        let mut asked = 0;
        for (call, broker, request) in calls {
            let session = self.sessions.entry(broker).or_default();
            session.extend(request.partitions.iter().map(|asked| (asked.partition.partition(), asked.offset)));
            for forgotten in &request.session.forgotten {
                session.remove(&forgotten.partition.partition());
            }
            asked += session.len();
            let with_data: Vec<_> = session.iter().take(with_data).map(|(&partition, &offset)| (partition, offset)).collect();
            let partitions = with_data.into_iter().map(|(partition, offset)| self.answered(partition, offset)).collect();
            let response = FetchResponse {
                throttle: Duration::ZERO,
                error: ErrorCode::NONE,
                session_id: 1 + broker.0,
                partitions,
                brokers: Vec::new(),
            };
            self.fetcher.handle_answer(self.now, call, Ok(Response::Fetch(response)), &self.view);
            while let Some(event) = self.fetcher.poll_event() {
                if let FetchEvent::Chunk { handle, chunk, .. } = event {
                    self.fetcher.handle_taken(self.now, &handle, chunk.data.len());
                }
            }
        }
        asked
    }

    fn answered(&self, partition: i32, offset: Offset) -> FetchedPartition {
        let mut batch = self.batch.clone();
        batch[..8].copy_from_slice(&offset.0.to_be_bytes());
        FetchedPartition {
            topic: TopicRef::Id(TOPIC_ID),
            partition,
            error: ErrorCode::NONE,
            high_watermark: Offset(offset.0 + 10),
            last_stable_offset: Offset(offset.0 + 10),
            log_start_offset: Some(Offset(0)),
            aborted: Vec::new(),
            preferred_replica: None,
            diverging: None,
            current_leader: None,
            records: Bytes::from(batch),
        }
    }
}
