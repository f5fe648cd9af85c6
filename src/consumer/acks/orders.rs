//! Every order in which threads can get to a run and its window, one after the other: small lives, played to the last of them.
//!
//! Shuttle, not loom: loom's `Arc` knows no `Weak`, and cannot be the receiver of a method. So what is played is every order of steps, not
//! every reordering within the memory model that a step's `Ordering` allows.
//! The number of orders grows with the factorial of the steps, so a life has two threads and only what matters to it; larger ones
//! are played in some thousand orders by lot.
//!
//! `cargo xtask test` runs them, with `--cfg shuttle`, in a target folder of their own.

use std::sync::atomic::AtomicU64;

use shuttle::{
    Config, Runner,
    scheduler::{DfsScheduler, RandomScheduler, Scheduler},
    thread,
};

use super::{tests::*, *};
use crate::{
    consumer::{Delivery, run::RunCursor},
    records::encode::TestBatch,
};

/// Plays a life in every order; says in how many.
fn play(name: &str, life: impl Fn() + Send + Sync + 'static) {
    play_with(DfsScheduler::new(None, false), name, life);
}

/// Plays a life that has too many orders for that in some of them, the same ones each time.
fn play_by_lot(name: &str, life: impl Fn() + Send + Sync + 'static) {
    play_with(RandomScheduler::new_from_seed(5, 2_000), name, life);
}

fn play_with(scheduler: impl Scheduler + 'static, name: &str, life: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // An unoptimised build needs more than the 32 KiB that are usual.
    config.stack_size = 256 << 10;
    // It warns of what stands above.
    config.silence_warnings = true;
    println!("{name}: {} orders", Runner::new(scheduler, config).run(life));
}

/// Which records somebody has begun to ack, as bits. Not a step of its own.
#[derive(Clone, Default)]
struct Begun(Arc<AtomicU64>);

impl Begun {
    fn ack(&self, delivery: Delivery) {
        self.0.fetch_or(1 << delivery.offset(), Release);
        delivery.ack();
    }

    /// Looks at the watermark: it must not have passed a record that nobody acked, and must not fall behind `before`.
    fn look(&self, assigned: &Assigned, before: i64) -> i64 {
        let watermark = assigned.watermark().offset.0;
        let begun = i64::from(self.0.load(Acquire).trailing_ones());
        assert!((before..=begun).contains(&watermark), "{watermark} after {before}, and {begun} are acked");
        watermark
    }
}

/// Deliveries of one run of so many records; nothing else holds the run.
fn run_of(fixture: &Fixture, base: i64, count: i32) -> Vec<Delivery> {
    take_all(&mut fixture.open_one(TestBatch::dense(base, count)))
}

/// A run of one record which is acked, as a batch is, and held by nothing else.
fn finished_run(fixture: &Fixture, base: i64) -> RunCursor {
    let cursor = fixture.open_one(TestBatch::dense(base, 1));
    cursor.run().whole_batch().unwrap().ack();
    cursor
}

fn is_released(notices: &[Notice]) -> bool {
    notices.iter().any(|notice| matches!(notice, Notice::Released))
}

#[track_caller]
fn check_end(fixture: &Fixture, watermark: i64) {
    assert_eq!((fixture.watermark(), fixture.assigned.live_runs()), (watermark, 0));
}

#[test]
fn two_acks_at_once_both_count() {
    play("two threads ack a record each", || {
        let fixture = Fixture::new(0);
        let acking = run_of(&fixture, 0, 2).into_iter().map(|delivery| thread::spawn(|| delivery.ack()));
        acking.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        check_end(&fixture, 2);
        assert!(fixture.take_notices().is_empty());
    });
}

#[test]
fn a_watermark_never_passes_what_is_acked_and_ends_exact() {
    play("a run is acked and let go of, and the watermark is looked at twice", || {
        let (fixture, begun) = (Fixture::new(0), Begun::default());
        let deliveries = run_of(&fixture, 0, 2);
        let acking = {
            let begun = begun.clone();
            thread::spawn(move || deliveries.into_iter().for_each(|delivery| begun.ack(delivery)))
        };
        let looked = begun.look(&fixture.assigned, 0);
        begun.look(&fixture.assigned, looked);
        acking.join().unwrap();
        check_end(&fixture, 2);
    });
}

#[test]
fn runs_that_end_in_any_order_count_in_the_logs_order() {
    play("two finished runs are let go of", || {
        let fixture = Fixture::new(0);
        let [first, second] = [finished_run(&fixture, 0), finished_run(&fixture, 1)];
        let ending = thread::spawn(move || drop(second));
        drop(first);
        ending.join().unwrap();
        check_end(&fixture, 2);
    });
}

/// The watermark settles a run that is acked and still held; its end settles it again.
#[test]
fn a_run_that_is_settled_by_a_look_and_by_its_end_counts_once() {
    play("a finished run is let go of, and the watermark is looked at", || {
        let fixture = Fixture::new(0);
        let finished = finished_run(&fixture, 0);
        let behind = run_of(&fixture, 1, 1);
        let ending = thread::spawn(move || drop(finished));
        // While it is being let go of, nobody can ask it any more.
        assert!((0..=1).contains(&fixture.watermark()));
        ending.join().unwrap();
        assert_eq!((fixture.watermark(), fixture.assigned.live_runs()), (1, 1), "the run behind it is untouched");
        behind.into_iter().for_each(Delivery::ack);
        check_end(&fixture, 2);
    });
}

/// A drain fences, then counts who is out; whoever it counts must tell it when they are gone, or it waits until its time is up.
#[test]
fn a_drain_hears_of_every_run_that_it_counted() {
    for is_acked in [true, false] {
        play("a delivery leaves the user's hands while its partition is being revoked", move || {
            let fixture = Fixture::new(0);
            let delivery = run_of(&fixture, 0, 1).pop().unwrap();
            let leaving = thread::spawn(move || if is_acked { delivery.ack() } else { drop(delivery) });
            fixture.assigned.fence();
            let counted = fixture.assigned.live_runs();
            leaving.join().unwrap();
            let notices = fixture.take_notices();
            let is_given_back = notices.iter().any(|notice| matches!(notice, Notice::Dropped { .. }));
            assert!(counted == 0 || is_released(&notices) || is_given_back, "counted, and nobody told: {notices:?}");
            drop(notices);
            check_end(&fixture, i64::from(is_acked));
        });
    }
}

/// The hole may come before the run behind it is opened, or after.
#[test]
fn a_run_that_is_opened_behind_a_hole_does_not_count() {
    play("a run becomes a hole while the next one is opened", || {
        let fixture = Fixture::new(0);
        let mut deliveries = run_of(&fixture, 0, 2);
        let hole = deliveries.pop().unwrap();
        deliveries.pop().unwrap().ack();
        // Nothing is given back any more.
        fixture.assigned.fence();
        let leaving = thread::spawn(move || drop(hole));
        let behind = run_of(&fixture, 2, 1);
        leaving.join().unwrap();
        behind.into_iter().for_each(Delivery::ack);
        check_end(&fixture, 1);
        assert!(is_released(&fixture.take_notices()));
    });
}

#[test]
fn a_run_that_ends_behind_a_hole_does_not_count() {
    play_by_lot("a run becomes a hole while the finished one behind it is let go of", || {
        let fixture = Fixture::new(0);
        let mut hole = fixture.open_one(TestBatch::dense(0, 2));
        hole.next().unwrap().ack();
        let behind = finished_run(&fixture, 2);
        let leaving = thread::spawn(move || drop(hole));
        drop(behind);
        leaving.join().unwrap();
        check_end(&fixture, 1);
    });
}

#[test]
fn a_record_that_is_given_back_and_acked_leaves_no_hole() {
    play("a delivery is dropped and delivered again while another of its run is acked", || {
        let (fixture, begun) = (Fixture::new(0), Begun::default());
        let mut deliveries = run_of(&fixture, 0, 2);
        let (second, first) = (deliveries.pop().unwrap(), deliveries.pop().unwrap());
        let acking = {
            let begun = begun.clone();
            thread::spawn(move || begun.ack(second))
        };
        drop(first);
        let notices = fixture.take_notices();
        let [Notice::Dropped { run, redelivery, attempt: 2, .. }] = &notices[..] else { panic!("{notices:?}") };
        let again = run.redeliver(*redelivery);
        drop(notices);
        assert_eq!(again.attempt(), 2);
        begun.look(&fixture.assigned, 0);
        begun.ack(again);
        acking.join().unwrap();
        check_end(&fixture, 2);
        assert!(fixture.take_notices().is_empty());
    });
}

/// What is asked for statistics holds every run for a moment: it must neither stand still nor let go of one under the lock.
#[test]
fn runs_may_end_while_everything_is_asked() {
    play("a run ends while the unacked and the activity are asked for", || {
        let fixture = Fixture::new(0);
        let deliveries = run_of(&fixture, 0, 1);
        let handed_out = fixture.assigned.activity();
        let acking = thread::spawn(move || deliveries.into_iter().for_each(Delivery::ack));
        assert!(fixture.assigned.unacked().0 <= 1);
        fixture.assigned.activity();
        acking.join().unwrap();
        assert!(fixture.assigned.activity() > handed_out);
        assert_eq!(fixture.assigned.unacked(), (0, None));
        check_end(&fixture, 1);
    });
}

#[test]
fn a_large_life_ends_exact() {
    play_by_lot("three threads ack three runs, and the watermark is looked at", || {
        let (fixture, begun) = (Fixture::new(0), Begun::default());
        let mut shares = [Vec::new(), Vec::new(), Vec::new()];
        for base in [0, 3, 6] {
            for delivery in run_of(&fixture, base, 3) {
                // Each thread has some of each run, and none has neighbours.
                shares[(delivery.offset() % 3) as usize].push(delivery);
            }
        }
        let acking = shares.map(|share| {
            let begun = begun.clone();
            thread::spawn(move || share.into_iter().rev().for_each(|delivery| begun.ack(delivery)))
        });
        let looked = (0..4).fold(0, |before, _| begun.look(&fixture.assigned, before));
        acking.into_iter().for_each(|thread| thread.join().unwrap());
        begun.look(&fixture.assigned, looked);
        check_end(&fixture, 9);
    });
}
