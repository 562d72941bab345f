//! How long jobs and pods wait, and how much longer jobs take than they would alone.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::scheduling::cluster::Cluster;

use super::{Bands, Distribution, Figure, Measure, Unit};
use crate::observer::{Happening, Observer};
use crate::workload::{Class, Job};

/// A job that runs for less is counted as if it ran so long, lest a moment of waiting be a thousandfold slowdown (Feitelson et al.,
/// JSSPP '97).
const SHORT: Duration = Duration::from_secs(10);

/// Waiting times and slowdown, by class and by band of priorities.
///
/// A job's wait is the time from its arrival until a scheduler first begins to think about it (Omega, EuroSys '13); a pod's, the time
/// until it has a place, from its job's arrival or from when it lost its last place. A job's slowdown is the time from its arrival to
/// its end divided by how long its longest task runs, or by ten seconds if that is more; a job with a task of unknown length has none.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    bands: Bands,
    /// Of each class all, and each band.
    groups: BTreeMap<(Class, Option<i32>), Group>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    jobs: Distribution,
    pods: Distribution,
    slowdown: Distribution,
}

impl Waits {
    /// Nothing has waited yet.
    pub fn new(bands: Bands) -> Self {
        Self { bands, groups: BTreeMap::new() }
    }

    /// Adds to what is known of a job's class, and of its band.
    fn add(&mut self, job: &Job, to: impl Fn(&mut Group)) {
        let band = self.bands.key(job.priority());
        for band in [None, Some(band)] {
            to(self.groups.entry((job.class, band)).or_default());
        }
    }
}

impl Observer for Waits {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, _: &Cluster) {
        match what {
            Happening::Attempt(attempt) if attempt.first => {
                let wait = attempt.began.saturating_sub(attempt.arrived);
                self.add(attempt.job, |group| group.jobs.add(wait.as_secs_f64()));
            }
            Happening::Placed(placed) => {
                let wait = at.saturating_sub(placed.waiting_since);
                self.add(placed.job, |group| group.pods.add(wait.as_secs_f64()));
            }
            Happening::JobEnded { job, arrived } => {
                let longest = job.tasks.iter().map(|task| task.duration).max().flatten();
                let known = job.tasks.iter().all(|task| task.duration.is_some());
                if let (Some(alone), true) = (longest, known) {
                    let took = at.saturating_sub(*arrived).max(SHORT);
                    let slowdown = took.as_secs_f64() / alone.max(SHORT).as_secs_f64();
                    self.add(job, |group| group.slowdown.add(slowdown));
                }
            }
            _ => {}
        }
    }
}

impl Measure for Waits {
    fn figures(&self, _: Duration) -> Vec<Figure> {
        let mut figures = Vec::new();
        for ((class, band), Group { jobs, pods, slowdown }) in &self.groups {
            let name = match class {
                Class::Batch => "batch",
                Class::Service => "service",
            };
            let bands = self.groups.keys().filter(|(of, band)| of == class && band.is_some()).count();
            let group = match band {
                None => name.to_owned(),
                // Of one band alone all was said.
                Some(_) if bands == 1 => continue,
                Some(band) => format!("{name}, {}", self.bands.name(*band)),
            };
            for (what, unit, all) in [
                ("wait of jobs", Unit::Seconds, jobs),
                ("wait of pods", Unit::Seconds, pods),
                ("slowdown of jobs", Unit::Ratio, slowdown),
            ] {
                if all.count() == 0 {
                    continue;
                }
                let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
                let quantiles = quantiles.map(|(name, part)| (name, all.quantile(part)));
                for (name, value) in [("mean", all.mean())].into_iter().chain(quantiles) {
                    figures.push(Figure::new(format!("{what} ({group}), {name}"), unit, value));
                }
            }
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::observer::{Attempt, Why};

    #[test]
    fn waits_are_by_job_and_by_pod() {
        let (mut world, mut waits) = (World::new(&[("a", 4000, 4)]), Waits::new(Bands::Each));
        let job = world.job("j", "u", 1000, 1, 2);
        world.arrive(10, &job, &mut waits);
        let attempt = |first, began| Attempt {
            scheduler: 0,
            job: &job,
            arrived: Duration::from_secs(10),
            first,
            began: Duration::from_secs(began),
            placed: 1,
            conflicts: 0,
            refused: 1,
        };
        world.attempt(15, attempt(true, 14), &mut waits);
        let first = world.place(15, &job, "a", 10, &mut waits);
        world.attempt(30, attempt(false, 29), &mut waits);
        let second = world.place(30, &job, "a", 10, &mut waits);
        world.leave(115, &first, Why::Finished, &mut waits);
        world.leave(130, &second, Why::Finished, &mut waits);
        world.end(130, &job, 10, &mut waits);
        let figures = waits.figures(Duration::ZERO);
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        assert_eq!(value("wait of jobs (batch), mean"), 4.0);
        assert_eq!(value("wait of pods (batch), mean"), 12.5);
        assert_eq!(value("slowdown of jobs (batch), mean"), 1.2);
        assert!((value("wait of pods (batch), p99") - 20.0).abs() < 0.2);
    }

    #[test]
    fn short_jobs_and_those_without_an_end_do_not_distort() {
        let (world, mut waits) = (World::new(&[]), Waits::new(Bands::named([("low", 0), ("high", 5)])));
        let mut short = (*world.job("j", "u", 1, 1, 1)).clone();
        short.tasks[0].duration = Some(Duration::from_millis(1));
        world.end(1, &std::sync::Arc::new(short.clone()), 0, &mut waits);
        short.tasks.push(crate::workload::Task { duration: None, ..short.tasks[0].clone() });
        world.end(1000, &std::sync::Arc::new(short), 0, &mut waits);
        let figures = waits.figures(Duration::ZERO);
        assert_eq!(figures[0], Figure::new("slowdown of jobs (batch), mean", Unit::Ratio, 1.0));
    }
}
