//! One line to a broker waits, others read what lies there unread.

use super::*;

/// Partitions 0 to n-1 of broker 1, read from their beginning.
fn with_partitions(n: i32, reading_lines: usize) -> Harness {
    let mut h = Harness::with_lines(64 * MIB, reading_lines);
    h.lead(&vec![1; n as usize], 5);
    (0..n).for_each(|n| h.add(n, offset(0)));
    h
}

/// Of a partition that ends at offset 1000: a batch of so many bytes, with the offsets from `base` to `next`.
fn part(n: i32, base: i64, next: i64, bytes: usize) -> FetchedPartition {
    answered(n, ErrorCode::NONE, batch(base, (next - base) as i32, 5, bytes.saturating_sub(61)))
}

fn empty(n: i32) -> FetchedPartition {
    answered(n, ErrorCode::NONE, Bytes::new())
}

fn numbers(request: &FetchRequest) -> Vec<i32> {
    request.partitions.iter().map(|asked| asked.partition.partition()).collect()
}

impl Harness {
    /// Everything that is asked for now: line, partitions, and how long the broker may wait.
    fn ask_all(&mut self) -> Vec<(u64, usize, Vec<i32>, i32)> {
        let asked = std::iter::from_fn(|| self.ask_line());
        asked.map(|(call, _, line, request)| (call, line, numbers(&request), request.max_wait_ms)).collect()
    }

    /// Answers, and takes what came.
    fn give(&mut self, call: u64, partitions: Vec<FetchedPartition>) {
        for event in self.answer(call, Ok(Response::Fetch(response(partitions)))) {
            if let FetchEvent::Chunk { handle, chunk, .. } = event {
                self.fetcher.handle_taken(self.now, &handle, chunk.data.len());
            }
        }
    }
}

/// Four partitions that are behind, and the calls of two lines that read them.
fn reading() -> (Harness, u64, u64) {
    let mut h = with_partitions(4, 2);
    let first = h.ask_all();
    assert_eq!(first[..], [(first[0].0, 0, vec![0, 1, 2, 3], 500)]);
    h.give(first[0].0, (0..4).map(|n| part(n, 0, 10, MIB)).collect());
    let lines = h.ask_all();
    assert_eq!(lines[..], [(lines[0].0, 1, vec![0, 1], 20), (lines[1].0, 2, vec![2, 3], 20)]);
    let calls = (lines[0].0, lines[1].0);
    (h, calls.0, calls.1)
}

#[test]
fn what_lies_unread_is_read_over_several_lines() {
    let (mut h, one, two) = reading();
    h.give(one, vec![part(0, 10, 20, MIB), part(1, 10, 20, MIB)]);
    let again = h.ask_all();
    assert_eq!(again[..], [(again[0].0, 1, vec![0, 1], 20)], "its own, while the other line reads");
    h.give(again[0].0, vec![part(0, 20, 30, MIB), part(1, 20, 30, MIB)]);
    h.give(two, vec![part(2, 10, 20, MIB), part(3, 10, 20, MIB)]);
    let again = h.ask_all();
    assert_eq!(again.iter().map(|(_, line, numbers, _)| (*line, numbers.len())).collect::<Vec<_>>(), [(1, 2), (2, 2)]);
}

/// Partitions 0 to 2n-1, one half of broker 1, the other of broker 2: what each was asked for first.
fn with_two_brokers(n: i32) -> (Harness, u64, u64) {
    let mut h = Harness::with_lines(64 * MIB, 2);
    h.lead(&[vec![1; n as usize], vec![2; n as usize]].concat(), 5);
    (0..2 * n).for_each(|n| h.add(n, offset(0)));
    let first = h.ask_all();
    assert_eq!(first[..], [(first[0].0, 0, (0..n).collect(), 500), (first[1].0, 0, (n..2 * n).collect(), 500)]);
    let calls = (first[0].0, first[1].0);
    (h, calls.0, calls.1)
}

#[test]
fn brokers_that_are_read_at_the_same_time_share_the_lines() {
    let (mut h, one, two) = with_two_brokers(2);
    h.give(one, vec![part(0, 0, 10, MIB), part(1, 0, 10, MIB)]);
    let of_one = h.ask_all();
    assert_eq!(
        of_one[..],
        [(of_one[0].0, 0, vec![0, 1], 500)],
        "the other one may have as much: one line each, and the first will do"
    );
    h.give(two, vec![part(2, 0, 10, MIB), part(3, 0, 10, MIB)]);
    let of_two = h.ask_all();
    assert_eq!(of_two[..], [(of_two[0].0, 0, vec![2, 3], 500)]);
    h.give(of_two[0].0, vec![part(2, 10, 1000, MIB), part(3, 10, 1000, MIB)]);
    let waiting = h.ask_all();
    assert_eq!(waiting[..], [(waiting[0].0, 0, vec![2, 3], 500)], "the second broker's have caught up");
    h.give(of_one[0].0, vec![part(0, 10, 20, MIB), part(1, 10, 20, MIB)]);
    let of_one = h.ask_all();
    assert_eq!(
        of_one.iter().map(|(_, line, numbers, _)| (*line, numbers.len())).collect::<Vec<_>>(),
        [(1, 1), (2, 1)],
        "all are for the first"
    );
}

#[test]
fn a_broker_that_brings_nothing_keeps_no_line_from_the_others() {
    let refusal = FetchResponse { error: ErrorCode::UNKNOWN_SERVER_ERROR, ..response(Vec::new()) };
    for answer in [Err(CallError::NotSent("refused".into())), Ok(Response::Fetch(refusal))] {
        let (mut h, one, two) = with_two_brokers(2);
        h.answer(two, answer);
        h.give(one, vec![part(0, 0, 10, MIB), part(1, 0, 10, MIB)]);
        let of_one = h.ask_all();
        assert_eq!(of_one.iter().map(|(_, line, ..)| *line).collect::<Vec<_>>(), [1, 2]);
    }
}

#[test]
fn a_single_line_reads_apart_from_what_waits_where_that_is_more() {
    let (mut h, one, two) = with_two_brokers(3);
    h.give(two, (3..6).map(|n| part(n, 0, 10, MIB)).collect());
    h.ask_all();
    h.give(one, vec![part(0, 0, 10, MIB), part(1, 0, 10, MIB), part(2, 0, 1000, MIB)]);
    let of_one = h.ask_all();
    assert_eq!(of_one[..], [(of_one[0].0, 0, vec![0, 1, 2], 500)], "one that is quiet is named along");
    h.give(of_one[0].0, vec![part(0, 10, 20, MIB), part(1, 10, 1000, MIB), empty(2)]);
    let of_one = h.ask_all();
    assert_eq!(
        of_one[..],
        [(of_one[0].0, 1, vec![0], 20), (of_one[1].0, 0, vec![2, 1], 20)],
        "two that are would be named each time"
    );
    h.give(of_one[0].0, vec![part(0, 20, 30, MIB)]);
    let of_one = h.ask_all();
    assert_eq!(of_one[..], [(of_one[0].0, 1, vec![0], 20)]);
}

#[test]
fn what_has_more_to_read_does_not_wait_behind_what_has_not() {
    let (mut h, one, two) = with_two_brokers(4);
    h.give(two, (4..8).map(|n| part(n, 0, 10, MIB)).collect());
    h.ask_all();
    h.give(one, vec![part(0, 0, 10, MIB), part(1, 0, 10, MIB), part(2, 0, 1000, MIB), part(3, 0, 1000, MIB)]);
    h.fetcher.pause(&partition(1), true);
    let of_one = h.ask_all();
    assert_eq!(of_one[..], [(of_one[0].0, 1, vec![0], 20), (of_one[1].0, 0, vec![2, 3], 20)], "more waits than is read");
    h.fetcher.pause(&partition(1), false);
    h.give(of_one[0].0, vec![part(0, 10, 20, MIB)]);
    let of_one = h.ask_all();
    assert_eq!(of_one[..], [(of_one[0].0, 1, vec![1, 0], 20)], "no more does, but the first line is in use");
}

#[test]
fn what_has_caught_up_waits_on_the_first_line_but_not_long_while_others_have_not() {
    let (mut h, one, two) = reading();
    h.give(one, vec![part(0, 10, 1000, MIB), part(1, 10, 20, MIB)]);
    let asked = h.ask_all();
    assert_eq!(asked[..], [(asked[0].0, 1, vec![1], 20), (asked[1].0, 0, vec![0], 20)]);
    h.give(two, vec![part(2, 10, 1000, MIB), part(3, 10, 1000, MIB)]);
    assert_eq!(h.ask_all(), [], "the first line is in use");
    h.give(asked[1].0, vec![empty(0)]);
    h.give(asked[0].0, vec![part(1, 20, 1000, MIB)]);
    h.now += Duration::from_millis(20);
    h.fetcher.handle_timeout(h.now);
    let asked = h.ask_all();
    let [(_, 0, numbers, 500)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(numbers.iter().sum::<i32>(), 1 + 2 + 3, "all that have caught up: {numbers:?}");
}

#[test]
fn little_to_read_and_a_single_partition_need_no_further_line() {
    for (partitions, bytes) in [(4, 1000), (1, MIB)] {
        let mut h = with_partitions(partitions, 2);
        let call = h.ask_all()[0].0;
        h.give(call, (0..partitions).map(|n| part(n, 0, 10, bytes)).collect());
        let asked = h.ask_all();
        assert_eq!(asked[..], [(asked[0].0, 0, (0..partitions).collect(), 500)], "{partitions} partitions, {bytes} bytes");
    }
}

#[test]
fn a_lost_line_is_not_missed() {
    // A broker may allow no more connections than one.
    let (mut h, one, two) = reading();
    h.answer(one, Err(CallError::NotSent("too many connections".into())));
    h.answer(two, Err(CallError::NotSent("too many connections".into())));
    let begun = h.now;
    while h.now < begun + Duration::from_secs(299) {
        let asked = h.ask_all();
        assert!(asked.iter().all(|(_, line, ..)| *line == 0), "{asked:?}");
        for (call, _, numbers, _) in asked {
            let base = |n| h.position(n).expect("it is read").offset.0;
            let parts = numbers.iter().map(|&n| part(n, base(n), base(n) + 1, MIB)).collect();
            h.give(call, parts);
        }
        h.now += Duration::from_millis(1000);
        h.fetcher.handle_timeout(h.now);
    }
    h.now += Duration::from_secs(2);
    assert!(h.ask_all().iter().any(|(_, line, ..)| *line == 1), "it is tried again");
}

#[test]
fn of_many_partitions_that_are_behind_only_those_are_named_that_find_room() {
    let mut h = with_partitions(100, 2);
    let first = h.ask_all();
    assert_eq!((first.len(), first[0].2.len()), (1, 100), "of none is known yet what it has");
    h.give(first[0].0, (0..100).map(|n| if n < 4 { part(n, 0, 10, MIB) } else { empty(n) }).collect());
    let asked = h.ask_all();
    assert_eq!(asked.iter().map(|(_, line, ..)| *line).collect::<Vec<_>>(), [1, 2]);
    let named: Vec<_> = asked.iter().flat_map(|(_, _, numbers, _)| numbers).copied().collect();
    assert_eq!(named, (4..12).collect::<Vec<_>>(), "those whose turn it is");
}

#[test]
fn what_is_behind_is_named_beside_any_number_that_are_quiet() {
    // Found by the simulation: what the quiet ones might have brought left no room for the one with records.
    let mut h = with_partitions(8, 0);
    let mut call = h.ask_all()[0].0;
    for base in (0..100).step_by(10) {
        h.give(call, vec![part(7, base, base + 10, MIB)]);
        let asked = h.ask_all();
        assert_eq!(asked[0].2, (0..8).collect::<Vec<_>>());
        call = asked[0].0;
    }
}

#[test]
fn what_is_said_to_lie_there_and_does_not_come_is_waited_for_like_anything_else() {
    let (mut h, one, two) = reading();
    h.give(one, vec![empty(0), empty(1)]);
    h.give(two, vec![empty(2), empty(3)]);
    h.now += Duration::from_millis(20);
    h.fetcher.handle_timeout(h.now);
    let asked = h.ask_all();
    assert_eq!(asked[..], [(asked[0].0, 0, vec![0, 1, 2, 3], 500)]);
}

#[test]
fn hot_partitions_do_not_keep_quiet_ones_waiting() {
    let mut h = with_partitions(50, 2);
    let is_hot = |n: i32| n % 7 == 0;
    let (mut next, mut asked_at, begun) = ([0i64; 50], [h.now; 50], h.now);
    while h.now < begun + Duration::from_secs(10) {
        for (_, _, numbers, _) in h.ask_all() {
            numbers.iter().for_each(|&n| asked_at[n as usize] = h.now);
        }
        // The broker answers, each 5 ms, what it was asked first, with four hot partitions at most.
        let (&call, Call { partitions, .. }) = h.fetcher.calls.first_key_value().expect("something is always asked for");
        let mut room = 4;
        let answer = |asked: &Asked| {
            let n = asked.partition.partition();
            let base = next[n as usize];
            let bytes = if is_hot(n) && room > 0 { MIB } else { 0 };
            let mut answer = if bytes > 0 { part(n, base, base + 10, bytes) } else { empty(n) };
            answer.high_watermark = Offset(if is_hot(n) { base + 1000 } else { base });
            if bytes > 0 {
                (room, next[n as usize]) = (room - 1, base + 10);
            }
            answer
        };
        let answers = partitions.iter().map(answer).collect();
        h.give(call, answers);
        h.now += Duration::from_millis(5);
        h.fetcher.handle_timeout(h.now);
        let waits = |n: i32| h.fetcher.cursors[&partition(n)].asked.is_none();
        let longest = (0..50).filter(|&n| waits(n)).map(|n| h.now - asked_at[n as usize]).max();
        assert!(longest.is_none_or(|longest| longest < Duration::from_millis(50)), "{longest:?} since it was asked for");
    }
    let read: Vec<_> = (0..50).filter(|&n| is_hot(n)).map(|n| next[n as usize]).collect();
    assert!(read.iter().all(|&next| next > 1000 && next * 10 > read[0] * 9), "all alike: {read:?}");
}
