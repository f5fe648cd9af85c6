//! One member of a group: a process that consumes, tells what it does, and may be killed at any moment.

use std::{
    io::BufRead,
    process::{ExitCode, exit},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use delivery_contract::{Event, Member, Partition};
use ottla::{
    AtLeastOnce, AtMostOnce, Batches, CommitError, ConsumeError, Consumer, Delivery, Handle, Manual, OffsetReset, PartitionEnd,
    PartitionStream, Partitions,
};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    lot::Lot,
    mode::Mode,
    protocol::Protocol,
    stage::Clock,
    voice::{Telling, Voice, named},
};

/// Longer than the session of a member, so that its partitions are somebody else's.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream that ended with a fatal error.
const GAVE_UP: i32 = 3;

/// What the operator tells a member that it starts.
pub(crate) struct Part {
    pub(crate) mode: Mode,
    pub(crate) member: Member,
    pub(crate) bootstrap: String,
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    pub(crate) protocol: Protocol,
}

impl Part {
    pub(crate) fn args(&self) -> [String; 8] {
        let (mode, member, start_us, seed) = (self.mode, self.member, self.clock.start_us, self.seed);
        let (bootstrap, group, topic) = (self.bootstrap.clone(), self.group.clone(), self.topic.clone());
        [
            mode.to_string(),
            member.to_string(),
            bootstrap,
            group,
            topic,
            start_us.to_string(),
            seed.to_string(),
            self.protocol.to_string(),
        ]
    }

    fn parse(args: &[String]) -> Option<Self> {
        // What follows is for whoever looks for this process.
        let [mode, member, bootstrap, group, topic, start_us, seed, protocol, ..] = args else { return None };
        Some(Self {
            mode: mode.parse().ok()?,
            member: member.parse().ok()?,
            bootstrap: bootstrap.clone(),
            group: group.clone(),
            topic: topic.clone(),
            clock: Clock { start_us: start_us.parse().ok()? },
            seed: seed.parse().ok()?,
            protocol: protocol.parse().ok()?,
        })
    }
}

pub(crate) fn run(args: &[String]) -> Result<ExitCode, String> {
    let part = Part::parse(args).ok_or("a member is started by the operator")?;
    let lot = Lot::new(part.seed, part.member.0.into());
    let handle = Arc::new(OnceLock::<Handle>::new());
    obey(Arc::clone(&handle));
    // On one thread everything is in one order; on several, the consumer's own is tried.
    let mut runtime = match part.member.0 % 2 {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(live(&part, lot, &handle));
    Ok(ExitCode::SUCCESS)
}

/// Closes in order when the operator says a word, and ends at once when he is gone.
fn obey(handle: Arc<OnceLock<Handle>>) {
    thread::spawn(move || {
        for _word in std::io::stdin().lock().lines().map_while(Result::ok) {
            match handle.get() {
                Some(handle) => handle.shutdown(CLOSE_TIMEOUT),
                None => exit(0),
            }
        }
        exit(0);
    });
}

async fn live(part: &Part, mut lot: Lot, handle: &OnceLock<Handle>) {
    let voice = Arc::new(Voice::new(part.member, part.clock));
    let (commit_interval, protocol) = (lot.ms(20..600), part.protocol.draw(&mut lot));
    let consumer = loop {
        let builder = Consumer::builder(part.group.as_str(), part.bootstrap.split(','))
            .subscribe([part.topic.as_str()])
            .client_id(format!("member-{}", part.member))
            .offset_reset(OffsetReset::Earliest)
            .session_timeout(SESSION_TIMEOUT)
            .heartbeat_interval(HEARTBEAT_INTERVAL)
            .group_protocol(protocol)
            .rebalance_timeout(Duration::from_secs(8))
            .drain_timeout(Duration::from_secs(3))
            .processing_timeout(Duration::from_secs(30))
            .request_timeout(Duration::from_secs(5))
            .connect_timeout(Duration::from_secs(3))
            .metadata_max_age(Duration::from_secs(5))
            .redelivery_backoff(Duration::from_millis(20), Duration::from_millis(500))
            .commit_interval(commit_interval);
        match builder.connect().await {
            Ok(consumer) => break consumer,
            Err(error) => voice.remark(&error.to_string()),
        }
    };
    let begin = |steering: Handle| {
        voice.listen(steering.events(), &steering.assignment());
        let _ = handle.set(steering);
        let voice = Arc::clone(&voice);
        tokio::spawn(async move { voice.listen_on().await })
    };
    let listener;
    match part.mode {
        Mode::AtLeastOnce => {
            let records = consumer.at_least_once();
            listener = begin(records.handle());
            at_least_once(records, &voice, &mut lot).await;
        }
        Mode::Batches => {
            let batches = consumer.batches();
            listener = begin(batches.handle());
            whole_batches(batches, &voice, &mut lot).await;
        }
        Mode::AtMostOnce => {
            let records = consumer.at_most_once();
            listener = begin(records.handle());
            at_most_once(records, &voice, &mut lot).await;
        }
        Mode::Manual => {
            let batches = consumer.manual();
            listener = begin(batches.handle());
            manual(batches, &voice, &mut lot).await;
        }
        Mode::Partitions => {
            let partitions = consumer.partitions();
            listener = begin(partitions.handle());
            by_partition(partitions, &voice, &mut lot).await;
        }
    }
    // The events end once the group is left.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT + SESSION_TIMEOUT, listener).await;
}

async fn at_least_once(mut records: AtLeastOnce, voice: &Arc<Voice>, lot: &mut Lot) {
    let room = Arc::new(Semaphore::new([1, 8, 64][lot.below(3)]));
    while let Some(next) = voice.take(&mut records, |next| next.as_ref().ok().map(place), tell_delivery).await {
        if let Some(delivery) = heard(next, voice) {
            work(delivery, voice, lot, &room).await;
        }
    }
}

async fn by_partition(mut partitions: Partitions, voice: &Arc<Voice>, lot: &mut Lot) {
    while let Some(next) = voice.take(&mut partitions, |_| None, |_, _| {}).await {
        let Some(stream) = heard(next, voice) else { continue };
        let (voice, lot) = (Arc::clone(voice), Lot::new(lot.number(), 0));
        tokio::spawn(one_partition(stream, voice, lot));
    }
}

async fn one_partition(mut stream: PartitionStream, voice: Arc<Voice>, mut lot: Lot) {
    let room = Arc::new(Semaphore::new([1, 8, 64][lot.below(3)]));
    let partition = named(stream.topic_partition());
    let place = |delivery: &Delivery| Some(named(delivery.topic_partition()));
    let tell = |telling: &mut Telling, delivery: &Delivery| {
        telling.handed_out(&partition, delivery.offset(), delivery.attempt(), delivery.value());
    };
    while let Some(delivery) = voice.take(&mut stream, place, tell).await {
        work(delivery, &voice, &mut lot, &room).await;
        // As if its task had panicked: it comes again.
        if lot.number().is_multiple_of(3000) {
            let member = voice.lock().member();
            voice.say(&Event::Sought { member, partition, to: None });
            return;
        }
    }
    voice.remark(&format!("the stream of {partition} ended: {:?}", stream.end()));
    if stream.end() == PartitionEnd::Revoked {
        // What is left to do for it takes its time.
        sleep(lot.ms(0..300)).await;
    }
}

async fn whole_batches(mut batches: Batches, voice: &Arc<Voice>, lot: &mut Lot) {
    let place = |next: &Result<ottla::Batch, ConsumeError>| next.as_ref().ok().map(|batch| named(batch.topic_partition()));
    let tell = |telling: &mut Telling, next: &Result<ottla::Batch, ConsumeError>| {
        let Ok(batch) = next else { return };
        let partition = named(batch.topic_partition());
        batch.iter().for_each(|record| telling.handed_out(&partition, record.offset(), batch.attempt(), record.value()));
    };
    while let Some(next) = voice.take(&mut batches, place, tell).await {
        let Some(batch) = heard(next, voice) else { continue };
        let partition = named(batch.topic_partition());
        let delay = if lot.percent(30) { lot.ms(0..40) } else { Duration::ZERO };
        match lot.below(100) {
            0..3 => drop(batch),
            3..5 => batch.retry_after(Duration::from_millis(30)),
            5..30 => {
                let voice = Arc::clone(voice);
                tokio::spawn(async move {
                    sleep(delay).await;
                    voice.acked(&partition, batch.iter().map(|record| record.offset()));
                    batch.ack();
                });
            }
            _ => {
                sleep(delay).await;
                voice.acked(&partition, batch.iter().map(|record| record.offset()));
                batch.ack();
            }
        }
    }
}

async fn at_most_once(mut records: AtMostOnce, voice: &Arc<Voice>, lot: &mut Lot) {
    let handle = records.handle();
    let place = |next: &Result<ottla::Record, ConsumeError>| next.as_ref().ok().map(|record| named(record.topic_partition()));
    let tell = |telling: &mut Telling, next: &Result<ottla::Record, ConsumeError>| {
        let Ok(record) = next else { return };
        let partition = named(record.topic_partition());
        let lag = handle.lag().into_iter().find(|lag| lag.partition == *record.topic_partition());
        // Where the partition went away this very moment nobody knows any more what this member had heard. The broker still does.
        let committed = lag.map_or(Some(record.offset() + 1), |lag| lag.committed);
        if let Some(offset) = committed {
            telling.tell(&Event::CommitAcknowledged { member: telling.member(), partition: partition.clone(), offset });
        }
        telling.handed_out(&partition, record.offset(), 1, record.value());
    };
    while let Some(next) = voice.take(&mut records, place, tell).await {
        if heard(next, voice).is_some() && lot.percent(2) {
            sleep(lot.ms(0..100)).await;
        }
    }
}

async fn manual(mut batches: Manual, voice: &Arc<Voice>, lot: &mut Lot) {
    let place = |next: &Result<ottla::ManualBatch, ConsumeError>| next.as_ref().ok().map(|batch| named(batch.topic_partition()));
    let tell = |telling: &mut Telling, next: &Result<ottla::ManualBatch, ConsumeError>| {
        let Ok(batch) = next else { return };
        let partition = named(batch.topic_partition());
        batch.iter().for_each(|record| telling.handed_out(&partition, record.offset(), 1, record.value()));
    };
    while let Some(next) = voice.take(&mut batches, place, tell).await {
        let Some(batch) = heard(next, voice) else { continue };
        let (partition, member) = (named(batch.topic_partition()), voice.lock().member());
        if lot.percent(5) {
            sleep(lot.ms(0..100)).await;
        }
        let middle = batch.iter().nth(batch.len() / 2).map_or(batch.next_offset(), |record| record.offset());
        let halves = if lot.percent(20) { vec![middle, batch.next_offset()] } else { vec![batch.next_offset()] };
        for end in halves {
            voice.acked(&partition, batch.iter().map(|record| record.offset()).filter(|offset| *offset < end));
            // What is unknown, or was refused this time, is asked for again: nobody else will.
            loop {
                match batch.commit_to(end).await {
                    Ok(()) => voice.say(&Event::CommitAcknowledged { member, partition: partition.clone(), offset: end }),
                    Err(CommitError::NotAssigned { .. }) => {}
                    Err(error) => {
                        voice.remark(&error.to_string());
                        sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                }
                break;
            }
        }
    }
}

/// Does with a record what programs do: finishes it now, or later, or not at all.
async fn work(delivery: Delivery, voice: &Arc<Voice>, lot: &mut Lot, room: &Arc<Semaphore>) {
    let partition = named(delivery.topic_partition());
    match lot.below(1000) {
        0..8 => drop(delivery),
        8..12 => delivery.retry_after(lot.ms(0..60)),
        12..400 => {
            let (voice, delay) = (Arc::clone(voice), lot.ms(0..30));
            let room = Arc::clone(room).acquire_owned().await.expect("it is never closed");
            tokio::spawn(async move {
                sleep(delay).await;
                voice.acked(&partition, [delivery.offset()]);
                delivery.ack();
                drop(room);
            });
        }
        luck => {
            if luck < 405 {
                sleep(lot.ms(0..200)).await;
            }
            voice.acked(&partition, [delivery.offset()]);
            delivery.ack();
        }
    }
}

fn place(delivery: &Delivery) -> Partition {
    named(delivery.topic_partition())
}

fn tell_delivery(telling: &mut Telling, next: &Result<Delivery, ConsumeError>) {
    if let Ok(delivery) = next {
        telling.handed_out(&place(delivery), delivery.offset(), delivery.attempt(), delivery.value());
    }
}

/// A member that gives up tells the operator so.
fn heard<T>(next: Result<T, ConsumeError>, voice: &Voice) -> Option<T> {
    let error = match next {
        Ok(item) => return Some(item),
        Err(error) => error,
    };
    voice.remark(&format!("{error:?}"));
    if error.is_fatal() {
        exit(GAVE_UP);
    }
    None
}
