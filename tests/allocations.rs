//! In its steady state a consumer allocates nothing per record, and only a few times per answer.
//!
//! Whole consumers live here, on the mock. Each life is lived twice, with few answers and with many: what the longer one allocates more is
//! what answers cost, without the beginning and the end. And it is lived with few records to an answer and with many: what that costs
//! more is what records cost.
//!
//! Only the client is counted, all of it: its task, its driver and its connections run on one thread, the brokers on another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ottla::{Consumer, OffsetReset};
use ottla_mock::{Api, MockCluster, Verdict};
use tokio::runtime;

/// Where the counted part of a life begins and ends: so many answers.
const ANSWERS: [u64; 2] = [50, 150];
/// How many records one answer holds, few and many: both fill buffers that are used again.
const RECORDS: [u64; 2] = [100, 1000];
/// Together with what surrounds it: no record is short enough to be a special case, and a hundred exceed 16 KiB.
const VALUE_LEN: usize = 250;

/// What one answer may cost, whatever is in it: its Fetch, its frame, its chunk, its run, a message or two.
const PER_ANSWER_MAX: f64 = 36.0;
/// What one commit may cost, where commits are a part of reading.
const PER_COMMIT_MAX: f64 = 30.0;

#[derive(Clone, Copy)]
enum Mode {
    AtLeastOnce,
    Batches,
    AtMostOnce,
}

/// What a life came to.
#[derive(Debug)]
struct Life {
    allocations: u64,
    commits: u64,
}

#[test]
fn at_least_once_allocates_per_answer_and_not_per_record() {
    check(Mode::AtLeastOnce);
}

#[test]
fn batches_allocate_per_answer_and_not_per_record() {
    check(Mode::Batches);
}

#[test]
fn at_most_once_allocates_per_answer_and_commit_and_not_per_record() {
    check(Mode::AtMostOnce);
}

#[track_caller]
fn check(mode: Mode) {
    let [few, many] = RECORDS.map(|records| {
        let [short, long] = ANSWERS.map(|answers| live(mode, answers, records));
        let answers = (ANSWERS[1] - ANSWERS[0]) as f64;
        let commits = long.commits.saturating_sub(short.commits) as f64;
        let allocations = long.allocations.saturating_sub(short.allocations) as f64;
        println!("{records} records to an answer: {:.1} allocations and {:.2} commits", allocations / answers, commits / answers);
        assert!(
            allocations <= answers * PER_ANSWER_MAX + commits * PER_COMMIT_MAX,
            "{records} records to an answer: {allocations} allocations for {answers} answers and {commits} commits"
        );
        // Without what the commits may have cost.
        (allocations - commits * PER_COMMIT_MAX) / answers
    });
    // One allocation for every tenth record would be 90 more.
    assert!(many <= few.max(0.0) + 5.0, "{few:.1} allocations per answer with few records, {many:.1} with ten times as many");
}

/// Reads a topic of `answers * records` records to its end, closes, and tells what that took.
fn live(mode: Mode, answers: u64, records: u64) -> Life {
    let brokers = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let cluster = brokers.block_on(MockCluster::builder().topic("orders", 1).start());
    for _ in 0..answers {
        cluster.append("orders", 0, (0..records).map(|_| vec![b'x'; VALUE_LEN]));
    }
    let commits = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&commits);
    cluster.intercept(Api::OffsetCommit, move |_| {
        counter.fetch_add(1, Relaxed);
        Verdict::Pass
    });

    let client = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bootstrap = cluster.bootstrap_servers();
    let life = async {
        let consumer = Consumer::builder("workers", [bootstrap])
            .subscribe(["orders"])
            .offset_reset(OffsetReset::Earliest)
            // One batch to an answer.
            .partition_fetch_bytes_max(1)
            // Not within this life.
            .commit_interval(Duration::from_secs(60))
            .heartbeat_interval(Duration::from_secs(20))
            .session_timeout(Duration::from_secs(60))
            .connect()
            .await
            .expect("a cluster");
        let (mut left, mut lens) = (answers * records, 0);
        match mode {
            Mode::AtLeastOnce => {
                let mut stream = consumer.at_least_once();
                while left > 0 {
                    let delivery = stream.next().await.expect("open").expect("good");
                    lens += delivery.value().map_or(0, <[u8]>::len);
                    delivery.ack();
                    left -= 1;
                }
                stream.close(Duration::from_secs(10)).await.expect("all acknowledged");
            }
            Mode::Batches => {
                let mut stream = consumer.batches();
                while left > 0 {
                    let batch = stream.next_batch().await.expect("open").expect("good");
                    lens += batch.iter().filter_map(|record| record.value()).map(<[u8]>::len).sum::<usize>();
                    left -= batch.len() as u64;
                    batch.ack();
                }
                stream.close(Duration::from_secs(10)).await.expect("all acknowledged");
            }
            Mode::AtMostOnce => {
                let mut stream = consumer.at_most_once();
                while left > 0 {
                    let record = stream.next().await.expect("open").expect("good");
                    lens += record.value().map_or(0, <[u8]>::len);
                    left -= 1;
                }
                stream.close(Duration::from_secs(10)).await.expect("nothing to wait for");
            }
        }
        assert_eq!(lens as u64, answers * records * VALUE_LEN as u64);
    };
    let counted = allocation_counter::measure(|| client.block_on(life));
    Life { allocations: counted.count_total, commits: commits.load(Relaxed) }
}
