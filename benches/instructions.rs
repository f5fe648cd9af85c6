//! Does one piece of work so many times, for `cargo xtask instructions`, which counts the instructions that it takes.
//!
//! `instructions` lists the pieces; `instructions PIECE TIMES` does one, and says how many units of work are in it each time. Making what
//! the work is done on costs the same however often it is done, so the difference of two counts is the work alone.

use std::{env, hint::black_box, process::ExitCode};

use ottla::{
    Assignor, Range, RoundRobin,
    bench::{Acks, Answer, Commits, Compression, Planner, Shape, Stream, Streams, check_assignment, group},
};

/// Small: under a simulated processor everything takes fifty times as long.
const ANSWER_BYTES: usize = 256 << 10;

type Work = fn(u32) -> u64;

const PIECES: &[(&str, Work)] = &[
    ("decode, 16 B", |times| decode(times, Shape::value(16), Compression::None)),
    ("decode, 100 B", |times| decode(times, Shape::value(100), Compression::None)),
    ("decode, 1 KiB", |times| decode(times, Shape::value(1024), Compression::None)),
    ("decode, key and two headers", |times| {
        decode(times, Shape { key_len: Some(16), value_len: 100, headers: 2 }, Compression::None)
    }),
    ("decode, 100 B lz4", |times| decode(times, Shape::value(100), Compression::Lz4)),
    ("decode, 100 B zstd", |times| decode(times, Shape::value(100), Compression::Zstd)),
    ("next and ack, 100 B", |times| read(times, &Streams::AtLeastOnce)),
    ("batch and ack, 100 B", |times| read(times, &Streams::Batches)),
    ("at most once, 100 B", |times| read(times, &Streams::AtMostOnce)),
    ("ack backwards, 100 B", ack_backwards),
    ("planner, 10,000 partitions, idle", |times| plan(times, 0)),
    ("planner, 10,000 partitions, 100 with data", |times| plan(times, 100)),
    ("commit tick, 10,000 partitions", commit),
    ("range, 1,000 members x 100,000 partitions", |times| assign(times, &Range)),
    ("round robin, 1,000 members x 100,000 partitions", |times| assign(times, &RoundRobin)),
];

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let found = args.first().and_then(|name| PIECES.iter().find(|(piece, _)| piece == name));
    let times = args.get(1).and_then(|times| times.parse().ok());
    match (found, times) {
        (Some((_, work)), Some(times)) => println!("{}", work(times)),
        // Also when called by `cargo bench`.
        _ => PIECES.iter().for_each(|(piece, _)| println!("{piece}")),
    }
    ExitCode::SUCCESS
}

fn decode(times: u32, shape: Shape, compression: Compression) -> u64 {
    let answer = Answer::new(ANSWER_BYTES, shape, compression);
    repeat(times, || answer.walk());
    answer.records()
}

fn read(times: u32, streams: &Streams) -> u64 {
    let answer = Answer::new(ANSWER_BYTES, Shape::value(100), Compression::None);
    let mut stream = Stream::new(&answer, streams);
    repeat(times, || stream.read_all());
    answer.records()
}

/// The last one first, with a look at the watermark after every thousand.
fn ack_backwards(times: u32) -> u64 {
    let answer = Answer::new(ANSWER_BYTES, Shape::value(100), Compression::None);
    repeat(times, || {
        let (acks, mut deliveries) = Acks::of(&answer);
        while let Some(delivery) = deliveries.pop() {
            delivery.ack();
            if deliveries.len().is_multiple_of(1000) {
                black_box(acks.watermark());
            }
        }
        acks.watermark() as usize
    });
    answer.records()
}

fn plan(times: u32, with_data: usize) -> u64 {
    let mut planner = Planner::new(10_000, 3);
    repeat(times, || planner.round(with_data));
    1
}

fn commit(times: u32) -> u64 {
    let mut commits = Commits::new(10_000);
    repeat(times, || commits.tick());
    1
}

fn assign(times: u32, assignor: &dyn Assignor) -> u64 {
    let group = group(1_000, 1_000, 100);
    repeat(times, || {
        let assignment = assignor.assign(&group);
        assert!(check_assignment(&group, &assignment));
        assignment.len()
    });
    1
}

fn repeat(times: u32, mut work: impl FnMut() -> usize) {
    for _ in 0..times {
        black_box(work());
    }
}
