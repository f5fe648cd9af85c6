//! Every way in the table of transitions is taken by some life of a member, and none is taken that is not in it.

use std::collections::BTreeSet;

use super::*;
use crate::proto::group::state::{Name, TRANSITIONS};

/// One short life after the other.
fn lives() -> Vec<Rig> {
    let mut lives = Vec::new();
    let mut live = |mut rig: Rig, end: &dyn Fn(&mut Rig)| {
        end(&mut rig);
        lives.push(rig);
    };
    let everywhere = |config: fn() -> GroupConfig| {
        [
            Rig::new(config()),
            Rig::joining(config()),
            Rig::assigning(config()),
            Rig::syncing(config()),
            Rig::stable(config()),
            Rig::releasing(config()),
        ]
    };
    for config in [config, static_config] {
        for rig in everywhere(config) {
            live(rig, &Rig::leave);
        }
        for rig in everywhere(config) {
            live(rig, &|rig| {
                rig.stalled();
                rig.resumed();
            });
        }
        for rig in everywhere(config) {
            live(rig, &|rig| {
                rig.stalled();
                rig.leave();
            });
        }
        // Fatal, wherever a heartbeat or a request is under way; and a close after it.
        for rig in everywhere(config) {
            live(rig, &|rig| {
                rig.pass(3_000);
                for ask in std::mem::take(&mut rig.asks) {
                    let unsupported = CallError::Unsupported { api: Api::JoinGroup, ours: (0, 1), theirs: None };
                    rig.answer_to(&ask, Err(unsupported));
                }
                rig.leave();
            });
        }
    }
    let no_answer = |rig: &mut Rig| {
        for ask in std::mem::take(&mut rig.asks) {
            rig.answer_to(&ask, lost());
        }
    };
    live(Rig::joining(config()), &no_answer);
    live(Rig::syncing(config()), &no_answer);
    live(Rig::assigning(config()), &|rig| {
        rig.metadata(&[("t", 1), ("u", 1)]);
    });
    live(Rig::assigning(config()), &|rig| rig.subscribe(&["v"]));
    live(Rig::stable(config()), &|rig| rig.member_error(&rig.machine.membership().clone(), ErrorCode::ILLEGAL_GENERATION));
    live(Rig::rejoining(config()), &|_| {});
    // Left after a stall; unsubscribed.
    live(Rig::stable(config()), &|rig| {
        rig.stalled();
        rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    });
    live(Rig::stable(config()), &|rig| {
        rig.subscribe(&[]);
        rig.released();
        rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    });
    live(Rig::stable(config()), &|rig| {
        rig.leave();
        rig.answer(Api::LeaveGroup, Ok(left(ErrorCode::NONE)));
    });
    // Unsubscribed while it holds something through a rebalance.
    live(Rig::stable(cooperative_config()), &|rig| {
        rig.machine.rebalance(rig.now, Pace::AtOnce, "test".to_owned());
        rig.drain();
        rig.subscribe(&[]);
        rig.answer(Api::JoinGroup, Ok(joined("m", 6)));
        rig.answer(Api::JoinGroup, Ok(joined("m", 7)));
        rig.answer(Api::SyncGroup, Ok(synced(&[])));
        rig.released();
    });
    // Fatal answers to what was asked before: after a generation was lost, while leaving, when stalled.
    live(Rig::syncing(static_config()), &|rig| {
        rig.member_error(&rig.machine.membership().clone(), ErrorCode::ILLEGAL_GENERATION);
        rig.coordinator(false);
        rig.answer(Api::JoinGroup, lost());
        rig.answer(Api::SyncGroup, Ok(sync_error(ErrorCode::FENCED_INSTANCE_ID)));
        rig.leave();
    });
    live(Rig::joining(static_config()), &|rig| {
        rig.stalled();
        rig.answer(Api::JoinGroup, Ok(join_error(ErrorCode::FENCED_INSTANCE_ID)));
        rig.leave();
    });
    live(Rig::rejoining(config()), &|rig| {
        rig.stalled();
        let unsupported = CallError::Unsupported { api: Api::JoinGroup, ours: (0, 1), theirs: None };
        rig.answer(Api::JoinGroup, Err(unsupported));
    });
    lives
}

#[test]
fn every_transition_is_taken() {
    let taken: BTreeSet<(Name, Name)> = lives().iter().flat_map(|rig| rig.machine.visited.iter().copied()).collect();
    let table: BTreeSet<(Name, Name)> = TRANSITIONS.iter().map(|&(from, to, _)| (from, to)).collect();
    let missed: Vec<_> = table.difference(&taken).collect();
    assert!(missed.is_empty(), "in the table, but never taken: {missed:?}");
    assert_eq!(table.len(), TRANSITIONS.len(), "a transition stands twice");
}
