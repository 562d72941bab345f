//! How busy schedulers are, and how often they get into each other's way.

use std::time::Duration;

use longshore_core::scheduling::cluster::Cluster;

use super::{Figure, Measure, Unit};
use crate::observer::{Happening, Observer};

/// Busyness and conflicts as Omega defines them (Schwarzkopf et al., EuroSys '13): busyness is the part of the time that a scheduler
/// makes decisions, conflict fraction how many conflicts there were for each transaction that succeeded.
///
/// An attempt is a transaction. It had a conflict if a place was gone when it was claimed, and it succeeded if a pod got its place.
#[derive(Debug, Clone, Default)]
pub struct Schedulers {
    all: Vec<Scheduler>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Scheduler {
    busy: Duration,
    attempts: u64,
    succeeded: u64,
    conflicted: u64,
    placed: u64,
    claims_lost: u64,
}

impl Scheduler {
    fn fraction(part: u64, of: u64) -> f64 {
        if of == 0 { 0.0 } else { part as f64 / of as f64 }
    }
}

impl Observer for Schedulers {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, _: &Cluster) {
        let Happening::Attempt(attempt) = what else { return };
        if self.all.len() <= attempt.scheduler {
            self.all.resize(attempt.scheduler + 1, Scheduler::default());
        }
        let of = &mut self.all[attempt.scheduler];
        of.busy += at.saturating_sub(attempt.began);
        of.attempts += 1;
        of.succeeded += u64::from(attempt.placed > 0);
        of.conflicted += u64::from(attempt.conflicts > 0);
        of.placed += u64::from(attempt.placed);
        of.claims_lost += u64::from(attempt.conflicts);
    }
}

impl Measure for Schedulers {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        let several = self.all.len() > 1;
        let mut figures = Vec::new();
        for (place, of) in self.all.iter().enumerate() {
            let who = if several { format!("scheduler {place}, ") } else { String::new() };
            let busyness = if end.is_zero() { 0.0 } else { of.busy.as_secs_f64() / end.as_secs_f64() };
            let lost = Scheduler::fraction(of.claims_lost, of.placed + of.claims_lost);
            figures.extend([
                Figure::new(format!("{who}busyness"), Unit::Ratio, busyness),
                Figure::new(format!("{who}attempts"), Unit::Count, of.attempts as f64),
                Figure::new(
                    format!("{who}conflict fraction"),
                    Unit::Ratio,
                    Scheduler::fraction(of.conflicted, of.succeeded),
                ),
                Figure::new(format!("{who}claims lost"), Unit::Ratio, lost),
            ]);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::observer::Attempt;

    #[test]
    fn busyness_and_conflicts_are_by_scheduler() {
        let (world, mut measure) = (World::new(&[]), Schedulers::default());
        let job = world.job("j", "u", 1, 1, 1);
        let attempt = |scheduler, began, placed, conflicts| Attempt {
            scheduler,
            job: &job,
            arrived: Duration::ZERO,
            first: false,
            began: Duration::from_secs(began),
            placed,
            conflicts,
            refused: 0,
        };
        world.attempt(10, attempt(1, 5, 3, 1), &mut measure);
        world.attempt(20, attempt(1, 15, 0, 2), &mut measure);
        world.attempt(21, attempt(0, 20, 1, 0), &mut measure);
        let figures = measure.figures(Duration::from_secs(100));
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        assert_eq!((value("scheduler 0, busyness"), value("scheduler 1, busyness")), (0.01, 0.1));
        assert_eq!(value("scheduler 1, conflict fraction"), 2.0);
        assert_eq!(value("scheduler 1, claims lost"), 0.5);
        assert_eq!(value("scheduler 0, conflict fraction"), 0.0);
    }
}
