//! A few worlds, and worlds with bugs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::branch::Sabotage;
use crate::{Options, Outcome, run};

fn short(sabotage: Option<Sabotage>) -> Options {
    Options { duration: Duration::from_secs(10), sabotage }
}

fn found(outcome: &Outcome) -> Vec<String> {
    outcome.violations.iter().map(ToString::to_string).collect()
}

#[test]
fn worlds_keep_their_promises() {
    for seed in 1..=3 {
        let outcome = run(seed, &short(None));
        assert_eq!(found(&outcome), Vec::<String>::new(), "seed {seed}: {:#?}", outcome.plan);
        assert!(outcome.changes > 20 && outcome.lasted > Duration::from_secs(8), "{outcome:?}");
    }
}

/// Without the flag `select!` looks first at what it likes.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_decides_all() {
    let fingerprints = |seed| [(); 3].map(|()| run(seed, &short(None)).fingerprint);
    let (one, other) = (fingerprints(1), fingerprints(2));
    assert!(one.iter().all(|same| *same == one[0]) && one[0] != other[0], "{one:?} {other:?}");
}

/// The promises that the worlds of some seeds break when they have a bug, the first of which is waited for.
fn broken(sabotage: Sabotage, awaited: &str) -> BTreeSet<&'static str> {
    let mut broken = BTreeSet::new();
    for seed in 1..=40 {
        broken.extend(run(seed, &short(Some(sabotage))).violations.iter().map(|violation| violation.promise));
        if broken.contains(awaited) {
            break;
        }
    }
    broken
}

#[test]
fn a_lost_write_is_found() {
    let promise = "acknowledged writes";
    assert!(broken(Sabotage::LostWrites, promise).contains(promise));
}

#[test]
fn an_event_that_a_watch_left_out_is_found() {
    assert!(broken(Sabotage::SkippedEvents, "watches").contains("watches"));
}

#[test]
fn a_leader_that_writes_after_its_term_is_found() {
    assert!(broken(Sabotage::NoFences, "fences").contains("fences"));
}

#[test]
fn writes_whose_conditions_do_not_hold_are_found() {
    let promise = "linearizability";
    assert!(broken(Sabotage::Unconditional, promise).contains(promise));
}
