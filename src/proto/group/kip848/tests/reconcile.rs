//! From what is held to what is to be held.

use super::*;

#[test]
fn joining_without_an_assignment_holds_nothing_and_says_so() {
    let mut rig = Rig::joining(config());
    rig.answer(beat(1, None));
    assert_eq!(rig.told(), ["assigned 1: "]);
    assert_eq!(rig.said(beat(1, None)), "1 holds nothing");
}

#[test]
fn what_is_new_is_taken_on_and_said_to_be_held() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(beat(6, Some(&[(T, &[0, 1, 2])])));
    assert_eq!(rig.told(), ["assigned 6: t-2"]);
    assert_eq!(rig.said(beat(6, None)), "6 holds t:0,1,2");
}

#[test]
fn an_assignment_that_changes_nothing_is_acknowledged() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(beat(6, Some(&[(T, &[1, 0])])));
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(rig.said(beat(6, None)), "6 holds t:0,1");
}

#[test]
fn what_is_to_go_is_said_to_be_gone_when_it_has_been_released() {
    let mut rig = Rig::releasing(config());
    assert_eq!(rig.held(), ["t-0", "t-1"]);
    // While it is at that it says nothing of what it holds.
    rig.pass(5_000);
    assert_eq!(rig.said(beat(5, None)), "5");
    rig.pass(5_000);
    assert_eq!(rig.said(beat(5, None)), "5");
    rig.released();
    assert_eq!(rig.held(), ["t-0"]);
    assert_eq!(rig.said(beat(6, None)), "5 holds t:0");
    rig.pass(5_000);
    assert_eq!(rig.said(beat(6, None)), "6");
    assert_eq!(rig.told(), [""; 0]);
}

#[test]
fn first_what_is_to_go_and_then_what_is_new() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(beat(5, Some(&[(T, &[0, 2])])));
    assert_eq!(rig.told(), ["release t-1"]);
    rig.released();
    assert_eq!(rig.told(), ["assigned 5: t-2"]);
    assert_eq!(rig.said(beat(5, None)), "5 holds t:0,2");
}

#[test]
fn the_newest_assignment_counts_when_the_step_is_done() {
    let mut rig = Rig::releasing(config());
    rig.pass(5_000);
    rig.answer(beat(6, Some(&[(T, &[1, 2])])));
    assert_eq!((rig.told(), rig.asks.len()), (vec![], 0));
    rig.released();
    // t-0 is to go now, and t-1, which has just gone, is to come back.
    assert_eq!((rig.told(), rig.said(beat(6, None))), (vec!["release t-0".to_owned()], "6".to_owned()));
    rig.released();
    assert_eq!(rig.told(), ["assigned 6: t-1 t-2"]);
    assert_eq!(rig.said(beat(7, None)), "6 holds t:1,2");
}

#[test]
fn after_a_lost_answer_it_says_what_it_holds_also_in_the_middle_of_a_step() {
    let mut rig = Rig::releasing(config());
    rig.pass(5_000);
    rig.answer(lost());
    rig.coordinator(true);
    // It holds t-1 still, and a coordinator that hears less would give it away.
    assert_eq!(rig.said(beat(5, None)), "5 is new here wants t holds t:0,1");
}

#[test]
fn what_cannot_be_released_in_time_is_lost() {
    let mut rig = Rig::releasing(config());
    let told = |rig: &mut Rig| {
        rig.asks.drain(..).collect::<Vec<_>>().iter().for_each(|ask| rig.answer_to(ask, beat(5, None)));
        rig.told()
    };
    // The rebalance timeout, less an interval and a back-off: the coordinator counts from before we heard of it.
    for _ in 0..293 {
        assert_eq!(told(&mut rig), [""; 0]);
        rig.pass(1_000);
    }
    assert_eq!(told(&mut rig), [""; 0]);
    rig.pass(1_000);
    assert_eq!((rig.told(), rig.held()), (vec!["lost t-1".to_owned()], vec!["t-0".to_owned()]));
    rig.released();
    assert_eq!(rig.held(), ["t-0"], "an answer that comes late");
}

#[test]
fn a_topic_that_cannot_be_named_yet_is_asked_for_until_it_can() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(beat(6, Some(&[(T, &[0, 1]), (U, &[0])])));
    assert_eq!(rig.told(), ["identify 1"]);
    // What it holds is what it can read.
    assert_eq!(rig.said(beat(6, None)), "6 holds t:0,1");
    rig.pass(5_000);
    rig.answer(beat(6, None));
    rig.metadata(&[("t", T)]);
    assert_eq!(rig.told(), [""; 0], "it was said, and is not forgotten");
    rig.metadata(&[("t", T), ("u", U)]);
    assert_eq!(rig.told(), ["assigned 6: u-0", "identify 0"]);
    assert_eq!(rig.said(beat(6, None)), "6 holds t:0,1 u:0");
}

#[test]
fn what_was_to_be_named_is_over_with_the_assignment_or_the_membership() {
    let unnamed = || {
        let mut rig = Rig::holding(config());
        rig.pass(5_000);
        rig.answer(beat(6, Some(&[(T, &[0, 1]), (U, &[0])])));
        assert_eq!(rig.told(), ["identify 1"]);
        rig.answer(beat(6, None));
        rig.pass(5_000);
        rig
    };
    let mut rig = unnamed();
    // The topic was deleted before anybody told its name.
    rig.answer(beat(7, Some(&[(T, &[0, 1])])));
    assert_eq!(rig.told(), ["identify 0"]);
    let mut rig = unnamed();
    rig.answer(refused(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(rig.told(), ["lost t-0 t-1", "identify 0", "rejoining"]);
}

#[test]
fn what_the_coordinator_finds_to_match_is_known_by_its_id_only() {
    let mut rig = Rig::new(config());
    rig.coordinator(true);
    rig.metadata(&[]);
    rig.subscribe_pattern(&[], "[tu]");
    assert_eq!(rig.said(beat(1, None)), "0 is new here wants none matches [tu] holds nothing");
    assert_eq!((rig.told(), rig.said(beat(1, None))), (vec!["assigned 1: ".to_owned()], "1 holds nothing".to_owned()));
    rig.pass(5_000);
    rig.answer(beat(2, Some(&[(T, &[0]), (U, &[1])])));
    assert_eq!((rig.told(), rig.said(beat(2, None))), (vec!["identify 2".to_owned()], "2 holds nothing".to_owned()));
    rig.metadata(&[("u", U)]);
    assert_eq!(
        (rig.told(), rig.said(beat(2, None))),
        (vec!["assigned 2: u-1".to_owned(), "identify 1".to_owned()], "2 holds u:1".to_owned())
    );
    rig.metadata(&[("t", T), ("u", U)]);
    assert_eq!(
        (rig.told(), rig.said(beat(2, None))),
        (vec!["assigned 2: t-0".to_owned(), "identify 0".to_owned()], "2 holds t:0 u:1".to_owned())
    );
}

#[test]
fn a_topic_of_the_same_name_is_another_one() {
    let mut rig = Rig::holding(config());
    // Its partitions may be another member's at once.
    rig.metadata(&[("t", U)]);
    assert_eq!(rig.told(), ["lost t-0 t-1", "identify 1"]);
    assert_eq!(rig.said(beat(6, Some(&[(U, &[0])]))), "5 holds nothing");
    assert_eq!(rig.told(), ["assigned 6: t-0", "identify 0"]);
    assert_eq!(rig.said(beat(6, None)), "6 holds u:0");
}

#[test]
fn a_topic_of_the_same_name_that_the_coordinator_knows_first() {
    let mut rig = Rig::holding(config());
    rig.pass(5_000);
    rig.answer(beat(6, Some(&[(U, &[0])])));
    assert_eq!(rig.told(), ["release t-0 t-1"]);
    // There is nothing to be released any more.
    rig.metadata(&[("t", U)]);
    assert_eq!(rig.told(), ["lost t-0 t-1", "assigned 6: t-0"]);
    assert_eq!(rig.said(beat(6, None)), "6 holds u:0");
    rig.released();
    assert_eq!(rig.held(), ["t-0"]);
}

#[test]
fn metadata_that_forget_a_topic_take_nothing_away() {
    let mut rig = Rig::holding(config());
    rig.metadata(&[]);
    assert_eq!((rig.told(), rig.held().len()), (vec!["identify 1".to_owned()], 2));
}
