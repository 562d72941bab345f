//! The shapes of the Omega paper's figures: what each architecture does to batch jobs while service jobs need more and more thought.

#[path = "../../examples/omega/cell.rs"]
mod cell;

use cell::{Arrivals, Cell, Measures, Scheduling};
use longshore_simulator::simulation::{Commit, Conflicts};

const CELL: Cell = Cell {
    nodes: 40,
    cores: 8,
    seconds: 1200.0,
    batch: Arrivals { between: 2.0, pods: 4.0, lasts: 60.0, cores: 1 },
    service: Arrivals { between: 40.0, pods: 5.0, lasts: 400.0, cores: 1 },
    seed: 1,
};

const OMEGA: Scheduling = Scheduling::Shared(Conflicts::Fine, Commit::Incremental);

/// With short and with long thought for a service job.
fn measured(scheduling: Scheduling) -> [Measures; 2] {
    [0.1, 30.0].map(|time| CELL.run(scheduling, time).expect("the cell can be run"))
}

#[test]
fn with_shared_state_batch_jobs_do_not_wait_for_the_service_scheduler() {
    let [quick, slow] = measured(OMEGA);
    assert!(quick.batch_wait < 0.1 && slow.batch_wait < 0.1, "{quick:?} {slow:?}");
    assert_eq!((quick.given_up, slow.given_up), (0, 0));
    assert!((slow.batch_busy - quick.batch_busy).abs() < 0.02, "{quick:?} {slow:?}");
    assert!(slow.service_busy > 0.5 && slow.service_wait > 5.0, "{slow:?}");
}

#[test]
fn a_single_path_becomes_busy_all_the_time_and_everybody_waits() {
    let [quick, slow] = measured(Scheduling::SinglePath);
    assert!(quick.batch_busy < 0.2 && quick.batch_wait < 0.1, "{quick:?}");
    assert!(slow.batch_busy > 0.99 && slow.batch_wait > 100.0, "{slow:?}");
}

#[test]
fn with_a_fast_path_batch_jobs_wait_behind_service_jobs_all_the_same() {
    let [quick, slow] = measured(Scheduling::MultiPath);
    let [_, single] = measured(Scheduling::SinglePath);
    assert!(quick.batch_wait < 0.1 && slow.batch_wait > 5.0, "{quick:?} {slow:?}");
    assert!(slow.batch_wait < single.batch_wait / 2.0, "{slow:?} {single:?}");
}

#[test]
fn with_offers_a_slow_framework_starves_the_quick_one() {
    let [quick, slow] = measured(Scheduling::TwoLevel);
    let [_, shared] = measured(OMEGA);
    assert!(quick.batch_wait < 0.2, "{quick:?}");
    assert!(slow.batch_wait > 10.0 * shared.batch_wait.max(0.1), "{slow:?} {shared:?}");
}

#[test]
fn coarse_conflicts_and_gang_commits_raise_the_conflict_fraction() {
    let of = |conflicts, commit| -> f64 {
        let service = Arrivals { between: 15.0, lasts: 150.0, ..CELL.service };
        let full = |seed| Cell { cores: 5, service, seed, ..CELL };
        let run = |seed| full(seed).run(Scheduling::Shared(conflicts, commit), 10.0).unwrap().conflict_fraction;
        (1..=4).map(run).sum::<f64>() / 4.0
    };
    let fine = of(Conflicts::Fine, Commit::Incremental);
    let coarse = of(Conflicts::Coarse, Commit::Incremental);
    let gang = of(Conflicts::Fine, Commit::Gang);
    let both = of(Conflicts::Coarse, Commit::Gang);
    assert!(fine < coarse, "fine {fine}, coarse {coarse}");
    assert!(fine < gang && coarse < both, "fine {fine}, gang {gang}, coarse {coarse}, both {both}");
}
