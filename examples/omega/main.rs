//! What becomes of a cell as service jobs need more and more thought, by who schedules: the experiment of figures 5 to 9 of
//! Schwarzkopf et al., "Omega: flexible, scalable schedulers for large compute clusters" (EuroSys '13).
//!
//! `cargo run --release --features scheduler,simulator --example omega`

mod cell;

use cell::{Arrivals, Cell, Scheduling};
use longshore::simulator::simulation::{Commit, Conflicts};

const CELL: Cell = Cell {
    nodes: 100,
    cores: 12,
    seconds: 7200.0,
    batch: Arrivals { between: 2.0, pods: 10.0, lasts: 100.0, cores: 1 },
    service: Arrivals { between: 60.0, pods: 5.0, lasts: 1800.0, cores: 2 },
    seed: 1,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schedulings = [
        ("monolithic, single path", Scheduling::SinglePath),
        ("monolithic, multi path", Scheduling::MultiPath),
        ("two-level", Scheduling::TwoLevel),
        ("shared state", Scheduling::Shared(Conflicts::Fine, Commit::Incremental)),
        ("shared state, coarse", Scheduling::Shared(Conflicts::Coarse, Commit::Incremental)),
        ("shared state, gang", Scheduling::Shared(Conflicts::Fine, Commit::Gang)),
        ("shared state, coarse, gang", Scheduling::Shared(Conflicts::Coarse, Commit::Gang)),
    ];
    println!(
        "t(service): thought for a service job; waits in seconds; busy: part of the time in which a scheduler decides\n"
    );
    for (name, scheduling) in schedulings {
        println!("{name:<27} t(service)  batch wait  service wait  batch busy  service busy  conflicts  given up");
        for per_service_job in [0.1, 1.0, 10.0, 30.0, 100.0] {
            let measured = CELL.run(scheduling, per_service_job)?;
            println!(
                "{:<27} {per_service_job:>10} {:>11.2} {:>13.2} {:>11.3} {:>13.3} {:>10.2} {:>9}",
                "",
                measured.batch_wait,
                measured.service_wait,
                measured.batch_busy,
                measured.service_busy,
                measured.conflict_fraction,
                measured.given_up,
            );
        }
    }
    Ok(())
}
