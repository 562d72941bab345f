//! Who lost a place, why, and how much work went with it.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::scheduling::cluster::Cluster;

use super::{Bands, Figure, Measure, Unit};
use crate::observer::{Happening, Observer, Why};

/// Pods that had to leave before their end, preempted ones by their band of priorities, and how long they had run, which is lost.
#[derive(Debug, Clone, Default)]
pub struct Evictions {
    bands: Bands,
    causes: BTreeMap<Why, u64>,
    preempted: BTreeMap<i32, u64>,
    lost: Duration,
    run: Duration,
}

impl Evictions {
    /// None as yet.
    pub fn new(bands: Bands) -> Self {
        Self { bands, ..Self::default() }
    }
}

impl Observer for Evictions {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, _: &Cluster) {
        let Happening::Left { job, since, why, .. } = what else { return };
        let ran = at.saturating_sub(*since);
        self.run = self.run.saturating_add(ran);
        if matches!(why, Why::Finished | Why::Cancelled) {
            return;
        }
        *self.causes.entry(*why).or_default() += 1;
        self.lost = self.lost.saturating_add(ran);
        if *why == Why::Preempted {
            *self.preempted.entry(self.bands.key(job.priority())).or_default() += 1;
        }
    }
}

impl Measure for Evictions {
    fn figures(&self, _: Duration) -> Vec<Figure> {
        let of = |why: Why| self.causes.get(&why).copied().unwrap_or(0) as f64;
        let count = |name: &str, why: Why| Figure::new(name, Unit::Count, of(why));
        let mut figures = vec![
            count("preemptions", Why::Preempted),
            count("pods lost with nodes", Why::NodeLost),
            count("pods drained", Why::Drained),
        ];
        if self.preempted.len() > 1 {
            let by_band = self.preempted.iter().map(|(band, count)| {
                Figure::new(format!("preemptions ({})", self.bands.name(*band)), Unit::Count, *count as f64)
            });
            figures.extend(by_band);
        }
        if !self.run.is_zero() {
            let part = 100.0 * self.lost.as_secs_f64() / self.run.as_secs_f64();
            figures.push(Figure::new("running time lost", Unit::Percent, part));
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    #[test]
    fn who_ends_by_himself_loses_nothing() {
        let (mut world, mut measure) = (World::new(&[("a", 4000, 4)]), Evictions::new(Bands::Each));
        let job = world.job("j", "u", 1000, 1, 4);
        for (at, why) in [(30, Why::Finished), (10, Why::Preempted), (20, Why::NodeLost), (40, Why::Cancelled)] {
            let put = world.place(0, &job, "a", 0, &mut measure);
            world.leave(at, &put, why, &mut measure);
        }
        let figures = measure.figures(Duration::ZERO);
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        assert_eq!((value("preemptions"), value("pods lost with nodes"), value("pods drained")), (1.0, 1.0, 0.0));
        assert_eq!(value("running time lost"), 30.0);
    }
}
