//! How many of everything.

use std::time::Duration;

use longshore_core::scheduling::cluster::Cluster;

use super::{Figure, Measure, Unit};
use crate::observer::{Happening, Observer, Why};

/// Counts jobs and pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs that arrived.
    pub jobs: u64,
    /// Jobs of which nothing runs or waits any more.
    pub jobs_ended: u64,
    /// Pods of the jobs that arrived.
    pub pods: u64,
    /// Places given to pods; a pod that loses its place may get another.
    pub placements: u64,
    /// Pods that ended by themselves.
    pub finished: u64,
    /// Times that no node could take a pod.
    pub refusals: u64,
    /// Pods that were given up.
    pub given_up: u64,
    /// Pods in a place now.
    pub running: u64,
    /// The most pods that ever were in a place at a time.
    pub running_max: u64,
}

impl Observer for Counts {
    fn hear(&mut self, _: Duration, what: &Happening<'_>, _: &Cluster) {
        match what {
            Happening::JobArrived(job) => {
                self.jobs += 1;
                self.pods += job.pods();
            }
            Happening::JobEnded { .. } => self.jobs_ended += 1,
            Happening::Placed(_) => {
                self.placements += 1;
                self.running += 1;
                self.running_max = self.running_max.max(self.running);
            }
            Happening::Left { why, .. } => {
                self.running = self.running.saturating_sub(1);
                self.finished += u64::from(*why == Why::Finished);
            }
            Happening::GivenUp { waiting, .. } => self.given_up += waiting,
            Happening::Attempt(attempt) => self.refusals += u64::from(attempt.refused),
            _ => {}
        }
    }
}

impl Measure for Counts {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        let count = |name: &str, count: u64| Figure::new(name, Unit::Count, count as f64);
        vec![
            Figure::new("simulated time", Unit::Hours, end.as_secs_f64() / 3600.0),
            count("jobs arrived", self.jobs),
            count("jobs ended", self.jobs_ended),
            count("pods arrived", self.pods),
            count("placements", self.placements),
            count("pods finished", self.finished),
            count("refusals", self.refusals),
            count("pods given up", self.given_up),
            count("pods running at the end", self.running),
            count("most pods running", self.running_max),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::observer::Attempt;

    #[test]
    fn each_thing_is_counted_once() {
        let (mut world, mut counts) = (World::new(&[("a", 4000, 4)]), Counts::default());
        let job = world.job("j", "u", 1000, 1, 2);
        world.arrive(0, &job, &mut counts);
        let first = world.place(1, &job, "a", 0, &mut counts);
        let second = world.place(1, &job, "a", 0, &mut counts);
        let (arrived, began) = (Duration::ZERO, Duration::from_secs(1));
        let attempt =
            Attempt { scheduler: 0, job: &job, arrived, first: true, began, placed: 2, conflicts: 0, refused: 1 };
        world.attempt(2, attempt, &mut counts);
        world.leave(5, &first, Why::Finished, &mut counts);
        world.leave(6, &second, Why::Preempted, &mut counts);
        world.end(6, &job, 0, &mut counts);
        let expected = Counts {
            jobs: 1,
            jobs_ended: 1,
            pods: 2,
            placements: 2,
            finished: 1,
            refusals: 1,
            given_up: 0,
            running: 0,
            running_max: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.figures(Duration::from_secs(7200))[0].value, 2.0);
    }
}
