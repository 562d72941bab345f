//! Several schedulers: what each sees, and what happens if two want the same.

use std::sync::atomic::{AtomicU64, Ordering};

use longshore_core::clock::Clock;

use super::events::think;
use super::*;

/// A scheduler for batch jobs that thinks 1 s, and one for services that thinks 2 s.
fn two() -> Vec<SchedulerSpec> {
    vec![
        SchedulerSpec { takes: Takes::Batch, decisions: think(1.0) },
        SchedulerSpec { takes: Takes::Service, decisions: think(2.0) },
    ]
}

fn shared(conflicts: Conflicts, commit: Commit) -> Simulation {
    let architecture = Architecture::SharedState { schedulers: two(), conflicts, commit };
    Simulation { architecture, ..first() }
}

fn offers() -> Simulation {
    Simulation { architecture: Architecture::TwoLevel { frameworks: two() }, preemption: false, ..first() }
}

#[test]
fn who_claims_what_is_gone_is_in_conflict_and_tries_again() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(0.0, What::Job(service("s", vec![task(1, 2, 5.0)]))),
        at(0.0, What::Job(job("b", vec![task(1, 2, 3.0)]))),
    ];
    let lines = lines(&shared(Conflicts::Fine, Commit::Incremental), events);
    assert_eq!(
        with(&lines, &["attempt", "left"]),
        [
            "1 first attempt b by 0 since 0: 1/0/0",
            "2 first attempt s by 1 since 0: 0/1/0",
            "4 left b-0 n since 1: Finished",
            "4.01 attempt s by 1 since 2.01: 0/0/1",
            "7.01 attempt s by 1 since 5.01: 1/0/0",
            "12.01 left s-0 n since 7.01: Finished",
        ],
        "it decides on the state as it was when it began, and waits for its back-off"
    );
}

#[test]
fn coarse_conflicts_are_more_than_fine_ones() {
    let events = || {
        vec![
            at(0.0, node("n", 2)),
            at(0.0, What::Job(service("s", vec![task(1, 1, 5.0)]))),
            at(0.0, What::Job(job("b", vec![task(1, 1, 3.0)]))),
        ]
    };
    let fine = lines(&shared(Conflicts::Fine, Commit::Incremental), events());
    assert_eq!(with(&fine, &["s"])[1], "2 first attempt s by 1 since 0: 1/0/0");
    let coarse = lines(&shared(Conflicts::Coarse, Commit::Incremental), events());
    assert_eq!(
        with(&coarse, &["s"])[1..3],
        ["2 first attempt s by 1 since 0: 0/1/0", "4.01 attempt s by 1 since 2.01: 0/1/0"],
        "that a pod went is a change, too"
    );
}

#[test]
fn what_one_claims_for_itself_is_no_conflict() {
    let events = vec![at(0.0, node("n", 4)), at(0.0, What::Job(service("s", vec![task(3, 1, 5.0)])))];
    let lines = lines(&shared(Conflicts::Coarse, Commit::Incremental), events);
    assert_eq!(with(&lines, &["attempt"]), ["2 first attempt s by 1 since 0: 3/0/0"]);
}

#[test]
fn a_gang_keeps_nothing_of_a_claim_that_is_in_conflict() {
    let events = |service: Job| {
        vec![
            at(0.0, node("m", 1)),
            at(0.0, node("n", 1)),
            at(0.0, What::Job(service)),
            at(0.0, What::Job(job("b", vec![task(1, 1, 1.0)]))),
        ]
    };
    let plain = || service("s", vec![task(2, 1, 5.0)]);
    let attempts =
        |simulation: &Simulation, service: Job| with(&lines(simulation, events(service)), &["s"])[1..3].to_vec();
    assert_eq!(
        attempts(&shared(Conflicts::Fine, Commit::Incremental), plain()),
        ["2 first attempt s by 1 since 0: 2/0/0", "7 ended s of 0"],
        "the batch job has ended"
    );
    let busy = |mut events: Events| {
        events.insert(2, at(0.0, What::Job(job("long", vec![task(1, 1, 9.0)]))));
        events
    };
    let attempts =
        |simulation: &Simulation, service: Job| with(&lines(simulation, busy(events(service))), &["s"])[1..3].to_vec();
    assert_eq!(
        attempts(&shared(Conflicts::Fine, Commit::Incremental), plain())[0],
        "2 first attempt s by 1 since 0: 1/1/0"
    );
    assert_eq!(attempts(&shared(Conflicts::Fine, Commit::Gang), plain())[0], "2 first attempt s by 1 since 0: 0/1/0");
    let together = Job { gang: true, ..plain() };
    assert_eq!(
        attempts(&shared(Conflicts::Fine, Commit::Incremental), together)[0],
        "2 first attempt s by 1 since 0: 0/1/0"
    );
}

#[test]
fn another_node_at_the_same_place_is_not_the_one_that_was_chosen() {
    let events = vec![
        at(0.0, node("n", 4)),
        at(0.0, What::Job(service("s", vec![task(1, 1, 5.0)]))),
        at(0.5, What::NodeLost("n".into())),
        at(1.0, node("other", 4)),
    ];
    let lines = lines(&shared(Conflicts::Fine, Commit::Incremental), events);
    assert_eq!(
        with(&lines, &["attempt"]),
        ["2 first attempt s by 1 since 0: 0/1/0", "4.01 attempt s by 1 since 2.01: 1/0/0"]
    );
}

#[test]
fn a_claim_by_preemption_evicts_when_it_is_made() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(0.0, What::Job(job("low", vec![task(2, 1, 20.0)]))),
        at(2.0, What::Job(service("high", vec![important(task(1, 1, 4.0), 5)]))),
    ];
    let lines = lines(&shared(Conflicts::Fine, Commit::Incremental), events);
    assert_eq!(
        with(&lines, &["left", "placed"])[2..5],
        [
            "4 left low-1 n since 1: Preempted",
            "4 placed high-0 on n waiting since 2",
            "8 left high-0 n since 4: Finished",
        ]
    );
}

#[test]
fn what_is_offered_to_one_is_locked_for_the_others() {
    let events = vec![
        at(0.0, node("n", 3)),
        at(0.0, What::Job(job("early", vec![task(1, 1, 1.5)]))),
        at(1.5, What::Job(service("s", vec![task(1, 1, 9.0)]))),
        at(1.6, What::Job(job("b", vec![task(2, 1, 9.0)]))),
    ];
    let lines = lines(&offers(), events);
    assert_eq!(
        with(&lines, &["attempt"]),
        [
            "1 first attempt early by 0 since 0: 1/0/0",
            "3.5 first attempt s by 1 since 1.5: 1/0/0",
            // One core became free while two were on offer to the other.
            "3.5 first attempt b by 0 since 2.5: 1/0/1",
            "4.51 attempt b by 0 since 3.51: 1/0/0",
        ]
    );
}

#[test]
fn the_smallest_dominant_share_gets_the_next_offer() {
    let framework = |takes| SchedulerSpec { takes, decisions: think(1.0) };
    let frameworks = vec![framework(Takes::Batch), framework(Takes::Service)];
    let simulation = Simulation { architecture: Architecture::TwoLevel { frameworks }, ..offers() };
    let events = vec![
        at(0.0, node("n", 9)),
        at(0.0, What::Job(job("b0", vec![task(1, 1, 90.0)]))),
        at(0.0, What::Job(job("b1", vec![task(1, 1, 90.0)]))),
        at(0.0, What::Job(service("s0", vec![task(3, 1, 90.0)]))),
        at(0.0, What::Job(service("s1", vec![task(1, 1, 90.0)]))),
        at(0.0, What::Job(job("b2", vec![task(1, 1, 90.0)]))),
    ];
    let order: Vec<String> = with(&lines(&simulation, events), &["attempt"])
        .iter()
        .map(|line| line.split(' ').nth(3).unwrap().to_owned())
        .collect();
    assert_eq!(order, ["b0", "s0", "b1", "b2", "s1"]);
}

#[test]
fn what_will_never_fit_does_not_keep_offers_going_round() {
    let events = vec![
        at(0.0, node("n", 1)),
        at(0.0, What::Job(job("b", vec![task(1, 2, 1.0)]))),
        at(0.0, What::Job(service("s", vec![task(1, 2, 1.0)]))),
    ];
    let (ended, lines) = run(&offers(), events);
    assert_eq!(ended.waiting, 2);
    assert!(lines.len() < 20, "{lines:?}");
}

#[test]
fn several_that_take_the_same_share_it() {
    let schedulers = (0..3).map(|_| SchedulerSpec { takes: Takes::All, decisions: think(1.0) }).collect();
    let architecture =
        Architecture::SharedState { schedulers, conflicts: Conflicts::Fine, commit: Commit::Incremental };
    let mut events = vec![at(0.0, node("n", 100))];
    events.extend((0..30).map(|number| at(0.0, What::Job(job(&format!("j{number}"), vec![task(1, 1, 1.0)])))));
    let (ended, _) = run(&Simulation { architecture, ..first() }, events);
    let jobs: Vec<u64> = ended.busy.iter().map(Duration::as_secs).collect();
    assert_eq!(jobs.iter().sum::<u64>(), 30);
    assert!(jobs.iter().all(|jobs| *jobs > 3), "{jobs:?}");
}

/// Says of each look at it that a second has passed.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

#[async_trait::async_trait]
impl Clock for Ticking {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
    async fn sleep(&self, _: Duration) {}
}

#[test]
fn decisions_can_be_measured() {
    let decisions = DecisionTimes { service: DecisionTime::Measured, ..think(5.0) };
    let simulation = Simulation { architecture: Architecture::Monolithic { decisions }, ..first() };
    let deciders = Deciders { clock: Some(Arc::new(Ticking::default())), ..profile().into() };
    let mut diary = Diary::default();
    let events = vec![at(0.0, node("n", 2)), at(0.0, What::Job(service("s", vec![task(1, 1, 1.0)])))];
    simulation.run(deciders, events, None, &mut diary).unwrap();
    assert_eq!(with(&diary.lines, &["attempt"]), ["1 first attempt s by 0 since 0: 1/0/0"]);
}
