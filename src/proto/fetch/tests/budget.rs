//! Who is asked for how much, and that it all comes back.

use proptest::prelude::*;

use super::*;
use crate::wire;

#[test]
fn a_full_partition_is_not_asked_for_and_does_not_hold_up_the_others() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(0));
    h.add(1, offset(0));
    let mut full_at = 0;
    for base in 0..10 {
        let (call, _, request) = h.ask().expect("a Fetch");
        if request.partitions.len() == 1 {
            assert_eq!((request.partitions[0].partition.partition(), request.max_wait_ms), (1, 20), "a short wait");
            break;
        }
        assert_eq!(request.max_wait_ms, 500);
        full_at += chunk_of(&h.deliver(call, batch(base, 1, 5, MIB - 61))).1.data.len();
    }
    assert_eq!(full_at, 2 * MIB);
    let call = h.fetcher.calls.keys().next().copied().expect("partition 1's");
    h.fetcher.handle_taken(h.now, &handle(0, 1), MIB);
    h.answer_one(call, answered(1, ErrorCode::NONE, batch(0, 1, 5, 0)));
    assert_eq!(h.ask().map(|(_, _, request)| request.partitions.len()), Some(2));
}

#[test]
fn a_partition_that_nobody_takes_cannot_starve_another() {
    let mut h = Harness::with(MIB);
    (0..4).for_each(|n| h.add(n, offset(0)));
    let mut positions = [0i64; 4];
    for _ in 0..200 {
        let mut calls = Vec::new();
        while let Some((call, _, request)) = h.ask() {
            calls.push((call, request));
        }
        for (call, request) in calls {
            let mut room = request.max_bytes as usize;
            let mut partitions = Vec::new();
            for asked in &request.partitions {
                let n = asked.partition.partition();
                let size = (asked.max_bytes as usize).min(room);
                if size > 100 {
                    partitions.push(answered(n, ErrorCode::NONE, batch(positions[n as usize], 1, 5, size - 61)));
                    room -= size;
                }
            }
            for event in h.answer(call, Ok(Response::Fetch(response(partitions)))) {
                let FetchEvent::Chunk { handle, chunk, .. } = event else { continue };
                let n = handle.partition.partition();
                positions[n as usize] = chunk.next_offset.0;
                // Only partition 3's records are ever taken.
                if n == 3 {
                    h.fetcher.handle_taken(h.now, &handle, chunk.data.len());
                }
            }
        }
    }
    assert!(positions[3] > 40, "{positions:?}");
    assert!(positions[..3].iter().all(|&n| (1..10).contains(&n)), "{positions:?}");
}

#[test]
fn bytes_of_an_older_handle_count_until_they_are_taken() {
    let (mut h, call) = Harness::asking();
    let events = h.deliver(call, batch(10, 1, 5, 100));
    let bytes = chunk_of(&events).1.data.len();
    h.fetcher.add(h.now, &handle(0, 2), offset(50), &h.view);
    assert_eq!(h.used(), bytes);
    h.fetcher.handle_taken(h.now, &handle(0, 2), bytes);
    assert_eq!(h.used(), bytes, "not the new one's");
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes + 1);
    assert_eq!(h.used(), 0, "not more than there was");
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes);
    assert_eq!(h.used(), 0, "given back once");
}

#[test]
fn a_batch_larger_than_the_whole_budget_is_read_and_nothing_else_until_it_is_taken() {
    let mut h = Harness::with(1000);
    h.add(0, offset(10));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.max_bytes, 1000);
    let events = h.deliver(call, batch(10, 1, 5, MIB));
    let bytes = chunk_of(&events).1.data.len();
    assert_eq!(h.ask(), None);
    h.fetcher.handle_taken(h.now, &handle(0, 1), bytes);
    assert_eq!(h.asked_offset(), Some(11));
}

#[test]
fn what_a_broker_sends_beyond_the_reservation_is_left_to_the_next_fetch() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(0));
    h.add(1, offset(0));
    let (call, ..) = h.ask().expect("a Fetch");
    let huge = |n| answered(n, ErrorCode::NONE, batch(0, 1, 5, 3 * MIB));
    let events = h.answer(call, Ok(Response::Fetch(response(vec![huge(0), huge(1)]))));
    assert_eq!(chunk_of(&events).0, &handle(0, 1));
    assert_eq!(h.position(1), Some(offset(0)));
    let (_, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].partition, partition(1), "its turn");
}

#[test]
fn partitions_take_turns() {
    let mut h = Harness::with(64 * MIB);
    h.add(0, offset(0));
    h.add(1, offset(0));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].partition, partition(0));
    h.deliver(call, batch(0, 1, 5, 0));
    let (call, _, request) = h.ask().expect("a Fetch");
    assert_eq!(request.partitions[0].partition, partition(1));
    h.answer_one(call, answered(1, ErrorCode::NONE, batch(0, 1, 5, 0)));
    assert_eq!(h.ask().expect("a Fetch").2.partitions[0].partition, partition(0));
}

#[test]
fn a_broker_that_waits_for_room_is_not_overtaken() {
    // Either broker alone asks for all there is.
    let mut h = Harness::with(32 * 1024);
    (0..4).for_each(|n| h.add(n, offset(0)));
    let mut asked = Vec::new();
    for base in 0..6 {
        let (call, broker, request) = h.ask().expect("a Fetch");
        assert_eq!(h.ask(), None, "no room for the other");
        asked.push(broker);
        let n = request.partitions[0].partition.partition();
        for event in h.answer_one(call, answered(n, ErrorCode::NONE, batch(base, 1, 5, 0))) {
            let FetchEvent::Chunk { handle, chunk, .. } = event else { continue };
            h.fetcher.handle_taken(h.now, &handle, chunk.data.len());
        }
    }
    assert_eq!(asked, [1, 2, 1, 2, 1, 2]);
}

#[derive(Clone, Debug)]
enum Step {
    Add(i32),
    Remove(i32),
    Pause(i32, bool),
    /// The broker's next answer: how full, and whether the first batch is larger than what was asked for.
    Answer(prop::sample::Index, u8, bool),
    Fail(prop::sample::Index, bool),
    Code(prop::sample::Index, i16),
    Take(prop::sample::Index),
    Move(Vec<i32>, i32),
    Refetch(i32),
    Sleep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..4i32;
    let index = any::<prop::sample::Index>();
    let code = prop::sample::select(vec![0i16, -1, 1, 2, 3, 6, 29, 74, 75, 100, 999]);
    let step = prop_oneof![
        3 => n.clone().prop_map(Step::Add),
        1 => n.clone().prop_map(Step::Remove),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, paused)| Step::Pause(n, paused)),
        8 => (index.clone(), any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(i, full, huge)| Step::Answer(i, full, huge)),
        1 => (index.clone(), any::<bool>()).prop_map(|(i, sent)| Step::Fail(i, sent)),
        2 => (index.clone(), code).prop_map(|(i, code)| Step::Code(i, code)),
        6 => index.prop_map(Step::Take),
        1 => (prop::collection::vec(0..4i32, 4), 5..8i32).prop_map(|(leaders, epoch)| Step::Move(leaders, epoch)),
        1 => n.prop_map(Step::Refetch),
        4 => Just(Step::Sleep),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Invariant F: whatever happens, only what is free is asked for, and all of it comes back. And each chunk continues the last.
    #[test]
    fn the_budget_is_never_exceeded(reading_lines in 0..3usize, steps in steps()) {
        const MAX: usize = 200 * 1024;
        let mut h = Harness::with_lines(MAX, reading_lines);
        let mut current: BTreeMap<i32, PartitionHandle> = BTreeMap::new();
        let mut next: BTreeMap<PartitionHandle, i64> = BTreeMap::new();
        let mut in_flight: Vec<(u64, (i32, usize), FetchRequest)> = Vec::new();
        let mut untaken: Vec<(PartitionHandle, usize)> = Vec::new();
        let mut assignment = 0;
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Sleep, 3)) {
            let mut answer = None;
            match step {
                Step::Add(n) => {
                    assignment += 1;
                    let p = handle(n, assignment);
                    h.fetcher.add(h.now, &p, at(100, 5), &h.view);
                    next.insert(p.clone(), 100);
                    current.insert(n, p);
                }
                Step::Remove(n) => if let Some(p) = current.remove(&n) { h.fetcher.remove(&p) },
                Step::Pause(n, paused) => h.fetcher.pause(&partition(n), paused),
                Step::Answer(i, full, huge) if !in_flight.is_empty() => {
                    let (call, _, request) = in_flight.remove(i.index(in_flight.len()));
                    let mut room = request.max_bytes as usize * usize::from(full) / 255;
                    let mut partitions = Vec::new();
                    for (i, asked) in request.partitions.iter().enumerate() {
                        let size = if huge && i == 0 { 2 * asked.max_bytes as usize } else { room.min(asked.max_bytes as usize) };
                        if size >= 61 {
                            room = room.saturating_sub(size);
                            let records = batch(asked.offset.0, 3, 5, size - 61);
                            partitions.push(answered(asked.partition.partition(), ErrorCode::NONE, records));
                        }
                    }
                    answer = Some((call, Ok(Response::Fetch(response(partitions))), request.max_bytes as usize));
                }
                Step::Code(i, code) if !in_flight.is_empty() => {
                    let (call, _, request) = in_flight.remove(i.index(in_flight.len()));
                    let refuse = |p: &crate::wire::FetchPartition| answered(p.partition.partition(), ErrorCode(code), Bytes::new());
                    answer = Some((call, Ok(Response::Fetch(response(request.partitions.iter().map(refuse).collect()))), 0));
                }
                Step::Fail(i, sent) if !in_flight.is_empty() => {
                    let (call, ..) = in_flight.remove(i.index(in_flight.len()));
                    let error = if sent { CallError::Lost("x".into()) } else { CallError::NotSent("x".into()) };
                    answer = Some((call, Err(error), 0));
                }
                Step::Take(i) if !untaken.is_empty() => {
                    let (p, bytes) = untaken.remove(i.index(untaken.len()));
                    h.fetcher.handle_taken(h.now, &p, bytes);
                }
                Step::Move(leaders, epoch) => {
                    h.lead(&leaders, epoch);
                    h.fetcher.handle_view(h.now, &h.view);
                }
                Step::Refetch(n) => if let Some(p) = current.get(&n) {
                    h.fetcher.refetch(h.now, p, Offset(100));
                    next.insert(p.clone(), 100);
                }
                Step::Sleep if h.fetcher.poll_timeout().is_some() => h.sleep(),
                _ => {}
            }
            let mut admitted = (0, 0);
            if let Some((call, answer, reserved)) = answer {
                admitted.0 = reserved;
                h.fetcher.handle_answer(h.now, call, answer, &h.view);
            }
            while let Some(event) = h.fetcher.poll_event() {
                match event {
                    FetchEvent::Chunk { handle, chunk, .. } => {
                        prop_assert!(current.values().any(|p| *p == handle), "a chunk of a partition that is not ours");
                        prop_assert_eq!(next.insert(handle.clone(), chunk.next_offset.0), Some(chunk.from.0), "a gap");
                        admitted.1 += chunk.data.len();
                        prop_assert!(admitted.1 <= admitted.0 || admitted.1 == chunk.data.len(), "more than reserved");
                        untaken.push((handle, chunk.data.len()));
                    }
                    // The aggregate validates; the log is whole.
                    FetchEvent::Validate { handle, position } => h.fetcher.add(h.now, &handle, position, &h.view),
                    _ => {}
                }
            }
            loop {
                let held: usize = untaken.iter().map(|(_, bytes)| bytes).sum();
                let reserved: usize = in_flight.iter().map(|(_, _, request)| request.max_bytes as usize).sum();
                prop_assert_eq!(h.fetcher.budget.free(MAX), MAX.saturating_sub(held + reserved));
                let Some((call, broker, line, request)) = h.ask_line() else { break };
                prop_assert!(held + reserved + request.max_bytes as usize <= MAX, "more is asked for than is free");
                prop_assert!(in_flight.iter().all(|(_, other, _)| *other != (broker, line)), "two Fetches on one line");
                in_flight.push((call, (broker, line), request));
            }
        }
        // All is taken and answered: nothing is left of the budget's use, and everything that can be read is asked for.
        for (p, bytes) in untaken { h.fetcher.handle_taken(h.now, &p, bytes); }
        for (call, ..) in in_flight { h.answer(call, Err(CallError::Lost("x".into()))); }
        prop_assert_eq!(h.used(), 0);
        h.lead(&[1, 1, 2, 2], 9);
        h.fetcher.handle_view(h.now, &h.view);
        for (n, _) in current {
            assignment += 1;
            h.fetcher.pause(&partition(n), false);
            h.fetcher.add(h.now, &handle(n, assignment), at(100, 9), &h.view);
        }
        h.now += Duration::from_secs(60);
        h.fetcher.handle_timeout(h.now);
        let mut asked = 0;
        while let Some((_, _, request)) = h.ask() { asked += request.partitions.len(); }
        prop_assert_eq!(asked, h.fetcher.cursors.len());
    }
}

/// The budget counts what is handed out; the rest of the answer must not stay in memory with it.
#[test]
fn a_chunk_that_is_the_smaller_part_of_an_answers_records_does_not_keep_the_others() {
    for (junk, is_slice) in [(0, true), (3 * 61, false)] {
        let (mut h, call) = Harness::asking();
        let records = Bytes::from(batch(10, 1, 5, 0));
        let place = records.as_ptr();
        // Nobody has asked for the second partition.
        let answer = response(vec![answered(0, ErrorCode::NONE, records), answered(77, ErrorCode::NONE, vec![0; junk])]);
        let events = h.answer(call, Ok(Response::Fetch(answer)));
        let [FetchEvent::Chunk { chunk, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(chunk.data, batch(10, 1, 5, 0));
        assert_eq!(chunk.data.as_ptr() == place, is_slice, "with {junk} bytes of others");
    }
}

#[test]
fn of_the_aborted_transactions_only_those_are_kept_that_matter_to_a_chunk() {
    let (mut h, call) = Harness::asking();
    let mut partition = answered(0, ErrorCode::NONE, batch(10, 1, 5, 0));
    // The batch is no producer's with an id.
    partition.aborted = (0..10_000).map(|n| wire::AbortedTransaction { producer_id: n, first_offset: Offset(n) }).collect();
    let events = h.answer(call, Ok(Response::Fetch(response(vec![partition]))));
    let [FetchEvent::Chunk { chunk, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(chunk.aborted, []);
}
