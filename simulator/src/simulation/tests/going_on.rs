//! The same again, and otherwise: determinism, checkpoints, forks.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::value::RawValue;

use super::events::think;
use super::*;

/// Two minutes of all that can happen, by chance.
fn workload(seed: u64) -> Events {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut events: Events = (0..8).map(|number| at(0.0, node(&format!("n{number}"), 4 + number % 3))).collect();
    let mut time = 0.0;
    for number in 0..60 {
        time += rng.random_range(0.0..3.0);
        let tasks = (0..rng.random_range(1..3))
            .map(|_| {
                let lasts = if rng.random_bool(0.1) { 0.0 } else { rng.random_range(0.5..20.0) };
                let task = task(rng.random_range(1..5), rng.random_range(1..3), lasts);
                important(task, [0, 0, 0, 5, 9][rng.random_range(0..5)])
            })
            .collect();
        let class = if rng.random_bool(0.2) { Class::Service } else { Class::Batch };
        let job = Job { class, gang: rng.random_bool(0.3), ..job(&format!("j{number}"), tasks) };
        events.push(at(time, What::Job(job)));
        if rng.random_bool(0.15) {
            let name = format!("n{}", rng.random_range(0..8));
            let what = match rng.random_range(0..4) {
                0 => What::NodeLost(name.into()),
                1 => What::Drain(name.into()),
                _ => node(&name, rng.random_range(3..7)),
            };
            events.push(at(time, what));
        }
        if rng.random_bool(0.15) {
            events.push(at(time, What::Cancel(format!("j{}", rng.random_range(0..=number)).into())));
        }
    }
    events
}

/// One of each architecture.
pub(super) fn simulations() -> Vec<Simulation> {
    let schedulers = || {
        vec![
            SchedulerSpec { takes: Takes::Batch, decisions: think(0.2) },
            SchedulerSpec { takes: Takes::Batch, decisions: think(0.3) },
            SchedulerSpec { takes: Takes::Service, decisions: think(2.0) },
        ]
    };
    let shared = |conflicts, commit| Architecture::SharedState { schedulers: schedulers(), conflicts, commit };
    let of = |architecture| Simulation { architecture, seed: 3, ..Simulation::default() };
    vec![
        of(Architecture::default()),
        of(Architecture::Monolithic { decisions: think(0.4) }),
        of(shared(Conflicts::Fine, Commit::Incremental)),
        Simulation { retry: Retry::Immediate { attempts: 20 }, ..of(shared(Conflicts::Coarse, Commit::Gang)) },
        Simulation { preemption: false, ..of(Architecture::TwoLevel { frameworks: schedulers() }) },
    ]
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_others() {
    for simulation in simulations() {
        let (one, two) = (run(&simulation, workload(1)), run(&simulation, workload(1)));
        assert_eq!(one, two);
        let other = run(&Simulation { seed: 4, ..simulation }, workload(1));
        assert_ne!(one.1, other.1);
    }
}

/// Half of a run, written down as JSON and read again, then the rest.
fn in_two_parts(simulation: &Simulation, events: Events, half: Duration) -> (Ended, Vec<String>) {
    let mut diary = Diary::default();
    let mut running = simulation.start(profile()).unwrap();
    let ended = running.advance(&mut events.clone().into_iter().peekable(), Some(half), &mut diary).unwrap();
    assert_eq!(ended.at, half);
    let text = serde_json::to_string(&running.checkpoint()).unwrap();
    assert_eq!(serde_json::to_string(&running.checkpoint()).unwrap(), text);
    let read: Checkpoint = serde_json::from_str(&text).unwrap();
    let mut resumed = read.resume(simulation, profile()).unwrap();
    assert_eq!(serde_json::to_string(&resumed.checkpoint()).unwrap(), text, "what goes on is what was left");
    let taken = usize::try_from(read.events()).unwrap();
    let mut rest = events.into_iter().skip(taken).peekable();
    let ended = resumed.advance(&mut rest, None, &mut diary).unwrap();
    (ended, diary.lines)
}

#[test]
fn what_is_resumed_goes_on_as_if_it_had_not_been_left() {
    for (number, simulation) in simulations().into_iter().enumerate() {
        for half in [10.0, 47.3, 80.0] {
            let whole = run(&simulation, workload(7));
            assert!(whole.1.len() > 200);
            let parts = in_two_parts(&simulation, workload(7), seconds(half));
            for (part, whole) in parts.1.iter().zip(&whole.1) {
                assert_eq!(part, whole, "simulation {number}, left at {half}");
            }
            assert_eq!(parts, whole, "simulation {number}, left at {half}");
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let simulation = &simulations()[1];
    let mut events = workload(7).into_iter().peekable();
    let mut running = simulation.start(profile()).unwrap();
    running.advance(&mut events, Some(seconds(30.0)), &mut Diary::default()).unwrap();
    let rest: Events = events.collect();
    let go_on = |mut running: Running| {
        let mut diary = Diary::default();
        let ended = running.advance(&mut rest.clone().into_iter().peekable(), None, &mut diary).unwrap();
        (ended, diary.lines)
    };
    let same = running.fork(simulation, profile()).unwrap();
    let quick = Simulation { architecture: Architecture::default(), ..simulation.clone() };
    let quick = running.fork(&quick, profile()).unwrap();
    let shared = running.fork(&simulations()[3], profile()).unwrap();
    let (as_it_was, others) = (go_on(running), [go_on(quick), go_on(shared)]);
    assert_eq!(go_on(same), as_it_was);
    assert!(others.iter().all(|other| other.1 != as_it_was.1));
    assert!(others.iter().all(|(ended, _)| ended.events == as_it_was.0.events));
}

#[test]
fn a_damaged_checkpoint_is_an_error() {
    let simulation = &simulations()[1];
    let mut running = simulation.start(profile()).unwrap();
    running.advance(&mut workload(7).into_iter().peekable(), Some(seconds(30.0)), &mut Diary::default()).unwrap();
    let good = serde_json::to_string(&running.checkpoint()).unwrap();
    let resume = |part: &str, value: &str| {
        let mut bad: BTreeMap<&str, &RawValue> = serde_json::from_str(&good).unwrap();
        let value = RawValue::from_string(value.to_owned()).unwrap();
        assert!(bad.insert(part, &value).is_some());
        let read: Checkpoint = serde_json::from_str(&serde_json::to_string(&bad).unwrap()).unwrap();
        read.resume(simulation, profile()).unwrap_err().to_string()
    };
    assert!(resume("version", "9").contains("form 9"));
    assert!(resume("templates", "[]").contains("template"));
    assert!(resume("jobs", "[]").contains("damaged"));
    assert!(resume("nodes", "[]").contains("node"));
}
