//! For each checker a history that breaks it and nothing else, and one that nearly does.

use std::{collections::BTreeMap, time::Duration};

use crate::{Checker, Contract, Event, Member, Mode, Partition};

fn told(mode: Mode, history: &str) -> Contract {
    let mut contract = Contract::new(mode);
    for (number, line) in history.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let event: Event = line.parse().unwrap();
        assert_eq!(event.to_string(), line, "the text form of an event is its own");
        contract.observe(Duration::from_millis(number as u64), &event);
    }
    contract
}

fn broken(contract: &Contract) -> Vec<Checker> {
    contract.violations().iter().map(|violation| violation.checker).collect()
}

#[track_caller]
fn breaks(mode: Mode, checker: Checker, history: &str) {
    let contract = told(mode, history);
    assert_eq!(broken(&contract), [checker], "{:?}", contract.violations());
}

#[track_caller]
fn holds(mode: Mode, history: &str) {
    let contract = told(mode, history);
    assert_eq!(contract.violations(), [], "{history}");
}

fn finished(mode: Mode, history: &str) -> Vec<Checker> {
    let mut contract = told(mode, history);
    assert_eq!(broken(&contract), []);
    contract.finish(Duration::from_secs(1), &BTreeMap::new());
    broken(&contract)
}

use Mode::{AtLeastOnce, AtMostOnce};

const TWO_RECORDS: &str = "visible t/0 0\nvisible t/0 1\nassigned 1 1 t/0\n";

#[test]
fn committed_before_it_was_finished() {
    let one_acked = format!("{TWO_RECORDS}handed-out 1 t/0 0 1\nhanded-out 1 t/0 1 1\nacked 1 t/0 1\n");
    breaks(AtLeastOnce, Checker::CommittedUnfinished, &format!("{one_acked}commit-stored 1 t/0 2"));
    breaks(AtLeastOnce, Checker::CommittedUnfinished, &format!("{one_acked}commit-read t/0 2 perhaps-old"));
    holds(AtLeastOnce, &format!("{one_acked}acked 1 t/0 0\ncommit-stored 1 t/0 2"));
    holds(AtLeastOnce, &format!("{one_acked}commit-stored 1 t/0 0"));
    // A zombie's commit, stored in time, and its ack from before.
    holds(AtLeastOnce, &format!("{one_acked}acked 1 t/0 0\nlost 1 t/0\nassigned 2 2 t/0\ncommit-stored 1 t/0 2"));
    // A seek goes past what nobody need finish.
    holds(AtLeastOnce, &format!("{one_acked}sought 1 t/0 1\ncommit-stored 1 t/0 2"));
    breaks(AtLeastOnce, Checker::CommittedUnfinished, &format!("{one_acked}sought 1 t/0 0\ncommit-stored 1 t/0 2"));
    breaks(AtLeastOnce, Checker::CommittedUnfinished, &format!("{one_acked}sought 1 t/0 anew\ncommit-stored 1 t/0 2"));
}

#[test]
fn what_a_commit_passed_turns_out_to_be_a_record() {
    let passed = "assigned 1 1 t/0\nhanded-out 1 t/0 0 1\nacked 1 t/0 0\ncommit-stored 1 t/0 2\n";
    breaks(AtLeastOnce, Checker::CommittedUnfinished, &format!("{passed}acked 1 t/0 1\nvisible t/0 1"));
    holds(AtLeastOnce, &format!("{passed}visible t/0 0\ninvisible t/0 1\nvisible t/0 2"));
    holds(AtLeastOnce, &format!("{passed}log-starts t/0 2\nvisible t/0 1"));
}

#[test]
fn handed_out_before_its_commit_was_acknowledged() {
    let begun = format!("{TWO_RECORDS}commit-acknowledged 1 t/0 1\nhanded-out 1 t/0 0 1\n");
    breaks(AtMostOnce, Checker::HandedOutUncommitted, &format!("{begun}handed-out 1 t/0 1 1"));
    breaks(AtMostOnce, Checker::HandedOutUncommitted, &format!("{begun}commit-acknowledged 2 t/0 2\nhanded-out 1 t/0 1 1"));
    holds(AtMostOnce, &format!("{begun}commit-acknowledged 1 t/0 2\nhanded-out 1 t/0 1 1"));
    holds(AtLeastOnce, &format!("{begun}handed-out 1 t/0 1 1"));
}

#[test]
fn what_was_handed_out_is_committed_when_somebody_looks() {
    let both = format!("{TWO_RECORDS}commit-acknowledged 1 t/0 2\nhanded-out 1 t/0 0 1\n");
    breaks(AtMostOnce, Checker::HandedOutUncommitted, &format!("{both}commits-asked\ncommit-read t/0 0 fresh"));
    holds(AtMostOnce, &format!("{both}commits-asked\nhanded-out 1 t/0 1 1\ncommit-read t/0 1 fresh"));
    holds(AtMostOnce, &format!("{both}commits-asked\ncommit-read t/0 0 perhaps-old"));
    // A seek back leads the commits back, too.
    holds(AtMostOnce, &format!("{both}commit-stored 1 t/0 2\nsought 1 t/0 0\ncommits-asked\ncommit-read t/0 0 fresh"));
}

#[test]
fn handed_out_without_owning_the_partition() {
    breaks(AtLeastOnce, Checker::HandedOutUnowned, "handed-out 1 t/0 0 1");
    let held = format!("{TWO_RECORDS}handed-out 1 t/0 0 1\n");
    for end in ["lost 1 t/0", "released 1 t/0", "gone 1", "assigned 1 2 t/1"] {
        breaks(AtLeastOnce, Checker::HandedOutUnowned, &format!("{held}{end}\nhanded-out 1 t/0 1 1"));
    }
    // It was stopped, and has not heard yet.
    holds(
        AtLeastOnce,
        &format!("{held}stalled 1\nassigned 2 2 t/0\nhanded-out 2 t/0 0 1\nwoke 1\nhanded-out 1 t/0 1 1\nlost 1 t/0"),
    );
}

#[test]
fn handed_out_after_revocation_began() {
    let revoking = format!("{TWO_RECORDS}handed-out 1 t/0 0 1\nrevoking 1 t/0\n");
    breaks(AtLeastOnce, Checker::HandedOutAfterRevocation, &format!("{revoking}handed-out 1 t/0 1 1"));
    breaks(AtLeastOnce, Checker::HandedOutAfterRevocation, &format!("{revoking}handed-out 1 t/0 0 2"));
    holds(AtLeastOnce, &format!("{revoking}acked 1 t/0 0\nreleased 1 t/0\nassigned 1 2 t/0\nhanded-out 1 t/0 1 1"));
    holds(AtLeastOnce, &format!("{revoking}assigned 1 2 t/0\nhanded-out 1 t/0 0 1"));
}

#[test]
fn at_most_once_but_handed_out_twice() {
    let crashed = "assigned 1 1 t/0\ncommit-acknowledged 1 t/0 9\nhanded-out 1 t/0 3 1\ngone 1\nassigned 2 2 t/0\n";
    let again = format!("{crashed}commit-acknowledged 2 t/0 9\nhanded-out 2 t/0 3 1");
    breaks(AtMostOnce, Checker::HandedOutTwice, &again);
    holds(AtLeastOnce, &again);
    holds(AtMostOnce, &format!("{crashed}commit-acknowledged 2 t/0 9\nhanded-out 2 t/0 4 1"));
    holds(AtMostOnce, &format!("{crashed}commit-acknowledged 2 t/0 9\nsought 2 t/0 3\nhanded-out 2 t/0 3 1"));
}

#[test]
fn out_of_order_within_an_assignment() {
    let begun = "assigned 1 1 t/0\nhanded-out 1 t/0 0 1\nhanded-out 1 t/0 1 1\n";
    breaks(AtLeastOnce, Checker::OutOfOrder, &format!("{begun}handed-out 1 t/0 0 1"));
    breaks(AtLeastOnce, Checker::OutOfOrder, &format!("{begun}handed-out 1 t/0 0 1\nhanded-out 1 t/0 2 1"));
    breaks(AtLeastOnce, Checker::OutOfOrder, &format!("{begun}handed-out 1 t/0 0 2\nhanded-out 1 t/0 0 2"));
    breaks(AtLeastOnce, Checker::OutOfOrder, &format!("{begun}acked 1 t/0 0\nhanded-out 1 t/0 0 2"));
    holds(AtLeastOnce, &format!("{begun}handed-out 1 t/0 0 2\nhanded-out 1 t/0 0 3\nhanded-out 1 t/0 2 1"));
    holds(AtLeastOnce, &format!("{begun}sought 1 t/0 anew\nhanded-out 1 t/0 0 1"));
    holds(AtLeastOnce, &format!("{begun}lost 1 t/0\nassigned 1 2 t/0\nhanded-out 1 t/0 0 1"));
    // A cooperative rebalance that leaves the partition where it is.
    breaks(AtLeastOnce, Checker::OutOfOrder, &format!("{begun}assigned 1 2 t/0\nhanded-out 1 t/0 0 1"));
}

#[test]
fn skipped_within_an_assignment() {
    let three = format!("{TWO_RECORDS}visible t/0 2\n");
    breaks(AtLeastOnce, Checker::Skipped, &format!("{three}handed-out 1 t/0 0 1\nhanded-out 1 t/0 2 1"));
    holds(AtLeastOnce, &format!("{three}handed-out 1 t/0 1 1\nhanded-out 1 t/0 2 1"));
    holds(AtLeastOnce, &format!("{three}handed-out 1 t/0 0 1\nsought 1 t/0 2\nhanded-out 1 t/0 2 1"));
    holds(AtLeastOnce, &format!("{three}handed-out 1 t/0 0 1\nlog-starts t/0 2\nhanded-out 1 t/0 2 1"));
    let unknown = "assigned 1 1 t/0\nhanded-out 1 t/0 0 1\nhanded-out 1 t/0 2 1\n";
    breaks(AtLeastOnce, Checker::Skipped, &format!("{unknown}visible t/0 1"));
    holds(AtLeastOnce, &format!("{unknown}invisible t/0 1"));
}

#[test]
fn the_committed_offset_went_back() {
    let committed = format!("{TWO_RECORDS}acked 1 t/0 0\nacked 1 t/0 1\ncommit-stored 1 t/0 2\n");
    breaks(AtLeastOnce, Checker::CommitWentBack, &format!("{committed}commit-stored 1 t/0 1"));
    breaks(AtMostOnce, Checker::CommitWentBack, &format!("{committed}commit-read t/0 1 fresh"));
    holds(AtLeastOnce, &format!("{committed}commit-read t/0 1 perhaps-old\ncommit-stored 1 t/0 2"));
    holds(AtLeastOnce, &format!("{committed}sought 1 t/0 0\ncommit-stored 1 t/0 1"));
    holds(AtLeastOnce, &format!("{committed}truncated t/0 1\ncommit-stored 1 t/0 1"));
    holds(AtLeastOnce, &format!("{committed}remade t/0\ncommit-stored 1 t/0 0"));
    // One seek, one way back.
    let sought = format!("{committed}sought 1 t/0 0\ncommit-stored 1 t/0 1\ncommit-stored 1 t/0 2\ncommit-stored 1 t/0 1");
    breaks(AtLeastOnce, Checker::CommitWentBack, &sought);
}

#[test]
fn handed_back_before_what_was_finished_was_committed() {
    let check = |history: &str, expected: &[Checker]| {
        let mut contract = told(AtLeastOnce, &format!("{TWO_RECORDS}handed-out 1 t/0 0 1\nhanded-out 1 t/0 1 1\n{history}"));
        contract.handed_back(Duration::from_secs(1), Member(1), &Partition::new("t", 0));
        assert_eq!(broken(&contract), expected, "{history}");
    };
    let acked = "acked 1 t/0 0\nacked 1 t/0 1\n";
    check(acked, &[Checker::HandedBackUncommitted]);
    check(&format!("{acked}commit-stored 1 t/0 1"), &[Checker::HandedBackUncommitted]);
    check(&format!("{acked}commit-stored 1 t/0 2"), &[]);
    // What was given up unfinished is read again.
    check("acked 1 t/0 1", &[]);
}

#[test]
fn two_members_hold_one_partition_in_one_generation() {
    breaks(AtLeastOnce, Checker::TwoOwners, "assigned 1 4 t/0 t/1\nassigned 2 4 t/1");
    holds(AtLeastOnce, "assigned 1 4 t/0 t/1\nassigned 2 4 t/2");
    holds(AtLeastOnce, "assigned 1 4 t/0\nassigned 2 5 t/0");
    // A static member that is started again takes its own place.
    holds(AtLeastOnce, "assigned 1 4 t/0\ngone 1\nassigned 2 4 t/0");
}

#[test]
fn an_aborted_record_was_handed_out() {
    let handed_out = "assigned 1 1 t/0\nhanded-out 1 t/0 0 1";
    breaks(AtLeastOnce, Checker::HandedOutAborted, &format!("invisible t/0 0\n{handed_out}"));
    breaks(AtLeastOnce, Checker::HandedOutAborted, &format!("{handed_out}\ninvisible t/0 0"));
    holds(AtLeastOnce, &format!("{handed_out}\ninvisible t/0 1"));
    holds(AtLeastOnce, &format!("invisible t/0 0\ntruncated t/0 0\n{handed_out}"));
}

#[test]
fn a_committed_record_was_never_handed_out() {
    let first = format!("{TWO_RECORDS}handed-out 1 t/0 0 1\nacked 1 t/0 0\ncommit-stored 1 t/0 1\n");
    assert_eq!(finished(AtLeastOnce, &first), [Checker::NeverHandedOut]);
    assert_eq!(finished(AtLeastOnce, &format!("{first}log-starts t/0 2")), []);
    assert_eq!(finished(AtLeastOnce, &format!("{first}sought 1 t/0 2")), []);
    let mut contract = told(AtLeastOnce, &first);
    assert_eq!(contract.finish(Duration::ZERO, &BTreeMap::from([(Partition::new("t", 0), 1)])), [], "no more is asked for");
}

#[test]
fn an_acked_record_was_lost() {
    let acked = format!("{TWO_RECORDS}handed-out 1 t/0 0 1\nhanded-out 1 t/0 1 1\nacked 1 t/0 0\nacked 1 t/0 1\n");
    assert_eq!(finished(AtLeastOnce, &format!("{acked}commit-stored 1 t/0 1")), [Checker::AckLost]);
    assert_eq!(finished(AtLeastOnce, &format!("{acked}commit-stored 1 t/0 2")), []);
}

#[test]
fn not_everything_was_acked_and_committed() {
    let handed_out = format!("{TWO_RECORDS}commit-acknowledged 1 t/0 9\nhanded-out 1 t/0 0 1\nhanded-out 1 t/0 1 1\n");
    assert_eq!(finished(AtLeastOnce, &format!("{handed_out}acked 1 t/0 1")), [Checker::Unfinished]);
    assert_eq!(finished(AtLeastOnce, &format!("{handed_out}acked 1 t/0 0\nacked 1 t/0 1\ncommit-stored 1 t/0 3")), []);
    assert_eq!(finished(AtMostOnce, &format!("{handed_out}commit-stored 1 t/0 1")), [Checker::Unfinished]);
    // The commits of a topic that was deleted say nothing of the one that took its name.
    let remade = format!("{handed_out}commit-stored 1 t/0 2\nremade t/0\nvisible t/0 0\n");
    assert_eq!(finished(AtMostOnce, &remade), [Checker::Unfinished]);
    assert_eq!(finished(AtMostOnce, &format!("{remade}commit-stored 1 t/0 1")), []);
    // At most once, what was in a crashed member's hands is lost.
    assert_eq!(finished(AtMostOnce, "visible t/0 0\nvisible t/0 1\ncommit-stored 1 t/0 2"), []);
}

#[test]
fn what_was_cut_off_may_come_from_a_buffer_and_again_from_the_log() {
    let cut = "
        visible t/0 0\nvisible t/0 1\nvisible t/0 2\nassigned 1 1 t/0
        commit-acknowledged 1 t/0 3\nhanded-out 1 t/0 0 1\nhanded-out 1 t/0 1 1\ncommit-stored 1 t/0 3
        truncated t/0 1\nvisible t/0 1
        handed-out 1 t/0 2 1\nsought 1 t/0 anew\nhanded-out 1 t/0 1 1
        commit-stored 1 t/0 2\n";
    holds(AtMostOnce, cut);
    holds(AtMostOnce, &cut.replace("sought 1 t/0 anew\n", ""));
    let new =
        format!("{cut}visible t/0 2\nvisible t/0 3\ncommit-acknowledged 1 t/0 5\nhanded-out 1 t/0 2 1\nhanded-out 1 t/0 3 1\n");
    holds(AtMostOnce, &new);
    let again = told(AtMostOnce, &format!("{new}handed-out 1 t/0 3 1"));
    assert_eq!(broken(&again), [Checker::OutOfOrder, Checker::HandedOutTwice], "what came after is as good as any other");
}

#[test]
fn a_seek_holds_where_the_log_is_cut_below_it_before_anything_is_read() {
    let five: String = (0..5).map(|offset| format!("visible t/0 {offset}\n")).collect();
    let cut = |after: &str| format!("{five}assigned 1 1 t/0\nsought 1 t/0 3\n{after}truncated t/0 1\n{five}");
    let read = |member: u32, from: i64| -> String {
        let all = from..5;
        all.map(|of| format!("handed-out {member} t/0 {of} 1\nacked {member} t/0 {of}\n")).collect::<String>()
            + &format!("commit-stored {member} t/0 5\n")
    };
    assert_eq!(finished(AtLeastOnce, &(cut("") + &read(1, 3))), []);
    assert_eq!(finished(AtLeastOnce, &(cut("") + "anchored 1 t/0\n" + &read(1, 3))), []);
    // Not further than was sought.
    assert_eq!(finished(AtLeastOnce, &(cut("") + &read(1, 4))), [Checker::NeverHandedOut]);
    // Who takes over was never told to go there.
    let taken_over = cut("") + "released 1 t/0\nassigned 2 2 t/0\n";
    assert_eq!(finished(AtLeastOnce, &(taken_over.clone() + &read(2, 3))), [Checker::NeverHandedOut]);
    assert_eq!(finished(AtLeastOnce, &(taken_over + &read(2, 0))), []);
    // Who has begun to read, or is told of the cut, knows.
    assert_eq!(finished(AtLeastOnce, &(cut("anchored 1 t/0\n") + &read(1, 3))), [Checker::NeverHandedOut]);
    assert_eq!(finished(AtLeastOnce, &(cut("handed-out 1 t/0 3 1\n") + &read(1, 3))), [Checker::NeverHandedOut]);
    assert_eq!(finished(AtLeastOnce, &(cut("") + "sought 1 t/0 anew\n" + &read(1, 3))), [Checker::NeverHandedOut]);
    let remade = cut("") + "remade t/0\n" + &five;
    assert_eq!(finished(AtLeastOnce, &(remade + &read(1, 3))), [Checker::NeverHandedOut]);
}

#[test]
fn a_seek_that_finds_nothing_to_hand_out_holds_as_well() {
    let two = "visible t/0 0\nvisible t/0 1\n";
    let cut = format!("{two}assigned 1 1 t/0\nsought 1 t/0 2\ntruncated t/0 0\n{two}");
    // At the end of the log.
    assert_eq!(finished(AtLeastOnce, &format!("{cut}commit-stored 1 t/0 2")), []);
    // Beyond it only what nobody is to see.
    let over = "released 1 t/0\nassigned 2 2 t/0\n";
    assert_eq!(finished(AtLeastOnce, &format!("{cut}invisible t/0 2\nanchored 1 t/0\ncommit-stored 1 t/0 3\n{over}")), []);
    // A commit tells nothing: it may be from before the seek.
    assert_eq!(finished(AtLeastOnce, &format!("{cut}commit-stored 1 t/0 2\n{over}")), [Checker::NeverHandedOut]);
}

#[test]
fn what_is_no_event_is_an_error() {
    for line in [
        "",
        "handed-out",
        "handed-out 1 t/0 0",
        "handed-out 1 t 0 1",
        "gone 1 2",
        "commit-read t/0 1",
        "sought 1 t/0 x",
        "assigned 1 1 ",
    ] {
        assert!(line.parse::<Event>().is_err(), "{line}");
    }
    assert_eq!("gone x".parse::<Event>().unwrap_err().to_string(), r#"no event: "gone x""#);
}

#[test]
fn a_flood_of_violations_is_counted_and_cut() {
    let mut contract = Contract::new(AtLeastOnce);
    for offset in 0..5000 {
        let event = format!("handed-out 1 t/0 {offset} 1").parse().unwrap();
        contract.observe(Duration::ZERO, &event);
    }
    assert_eq!((contract.violations().len(), contract.violation_count()), (1000, 5000));
    let told = "0.000 s: handed out without owning the partition: t/0: offset 0 by member 1";
    assert_eq!(contract.violations()[0].to_string(), told);
}

#[test]
fn a_long_run_of_a_partition_costs_little() {
    let partition = Partition::new("t", 0);
    let mut contract = Contract::new(AtLeastOnce);
    contract.observe(Duration::ZERO, &"assigned 1 1 t/0".parse().unwrap());
    let member = crate::Member(1);
    for offset in 0..100_000 {
        let partition = || partition.clone();
        contract.observe(Duration::ZERO, &Event::Visible { partition: partition(), offset });
        contract.observe(Duration::ZERO, &Event::HandedOut { member, partition: partition(), offset, attempt: 1 });
        contract.observe(Duration::ZERO, &Event::Acked { member, partition: partition(), offset });
        contract.observe(Duration::ZERO, &Event::CommitStored { member, partition: partition(), offset: offset + 1 });
    }
    assert_eq!(contract.finish(Duration::ZERO, &BTreeMap::new()), []);
    let size = format!("{contract:?}").len();
    assert!(size < 2000, "{size}: {contract:?}");
}

#[test]
fn every_checker_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Checker::ALL.iter().map(|checker| checker.name()).collect();
    assert_eq!(names.len(), Checker::ALL.len());
}
