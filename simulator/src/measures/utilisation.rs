//! How much of the cluster is asked for and how much is given away, over time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;

use super::{Amounts, Figure, Measure, RESOURCES, Series, Timeline, Unit};
use crate::observer::{Happening, Observer};
use crate::workload::Job;

/// Allocation and demand of CPU, memory and GPUs, in percent of what the nodes have that are there at the moment.
///
/// Allocated is what pods on nodes asked for, whatever they use; demanded is what all pods of jobs ask for that have arrived and not
/// ended. A node that takes no more pods counts as long as it is there.
#[derive(Debug, Clone)]
pub struct Utilisation {
    nodes: Vec<(Amounts, Amounts)>,
    capacity: Amounts,
    used: Amounts,
    demanded: Amounts,
    jobs: BTreeMap<Arc<str>, Amounts>,
    lines: [Lines; 3],
    arrived: Amounts,
}

#[derive(Debug, Clone)]
struct Lines {
    allocated: Timeline,
    demanded: Timeline,
    highest: f64,
}

impl Utilisation {
    /// Nothing is used; what is drawn is drawn at moments `period` apart.
    pub fn new(period: Duration) -> Self {
        let line = || Timeline::new(period);
        let lines = std::array::from_fn(|_| Lines { allocated: line(), demanded: line(), highest: 0.0 });
        Self {
            nodes: Vec::new(),
            capacity: Amounts::default(),
            used: Amounts::default(),
            demanded: Amounts::default(),
            jobs: BTreeMap::new(),
            lines,
            arrived: Amounts::default(),
        }
    }

    fn look(&mut self, cluster: &Cluster, node: NodeId) {
        if self.nodes.len() <= node.index() {
            self.nodes.resize(node.index() + 1, Default::default());
        }
        let now = (Amounts::of_node(cluster, node), Amounts::used_on(cluster, node));
        let (capacity, used) = std::mem::replace(&mut self.nodes[node.index()], now);
        self.capacity += now.0 - capacity;
        self.used += now.1 - used;
    }
}

/// What all pods of a job ask for.
pub(super) fn of_job(job: &Job) -> Amounts {
    job.tasks.iter().map(|task| Amounts::of(&task.pod) * i64::from(task.count)).sum()
}

impl Observer for Utilisation {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        match what {
            Happening::NodeUp(node) | Happening::NodeDown(node) | Happening::Left { node, .. } => {
                self.look(cluster, *node);
            }
            Happening::Placed(placed) => self.look(cluster, placed.node),
            Happening::JobArrived(job) => {
                let amounts = of_job(job);
                self.demanded += amounts;
                self.arrived += amounts;
                self.jobs.insert(job.name.clone(), amounts);
            }
            Happening::JobEnded { job, .. } => {
                self.demanded -= self.jobs.remove(&job.name).unwrap_or_default();
            }
            _ => return,
        }
        let (used, demanded) = (self.used.percent_of(self.capacity), self.demanded.percent_of(self.capacity));
        for (place, lines) in self.lines.iter_mut().enumerate() {
            let used = used[place].unwrap_or(0.0);
            lines.highest = lines.highest.max(used);
            lines.allocated.set(at, used);
            lines.demanded.set(at, demanded[place].unwrap_or(0.0));
        }
    }
}

impl Measure for Utilisation {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        let mut figures = Vec::new();
        let arrived = self.arrived.parts();
        for (place, lines) in self.lines.iter().enumerate().filter(|(place, _)| arrived[*place] > 0) {
            let resource = RESOURCES[place];
            let (allocated, demanded) = (lines.allocated.mean(end), lines.demanded.mean(end));
            figures.push(Figure::new(format!("{resource} allocated, mean"), Unit::Percent, allocated));
            figures.push(Figure::new(format!("{resource} allocated, highest"), Unit::Percent, lines.highest));
            figures.push(Figure::new(format!("{resource} demanded, mean"), Unit::Percent, demanded));
            if demanded > 0.0 {
                let ratio = allocated / demanded;
                figures.push(Figure::new(format!("{resource} allocated of demanded"), Unit::Ratio, ratio));
            }
        }
        figures
    }

    fn series(&self, end: Duration) -> Vec<Series> {
        let arrived = self.arrived.parts();
        let drawn = self.lines.iter().enumerate().filter(|(place, _)| arrived[*place] > 0);
        let both = drawn.flat_map(|(place, lines)| {
            let plot = format!("{} allocated", RESOURCES[place]);
            let line =
                |name: &str, line: &Timeline| Series::over_time(plot.clone(), name, Unit::Percent, line.points(end));
            [line("", &lines.allocated), line("demanded", &lines.demanded)]
        });
        both.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::observer::Why;

    #[test]
    fn allocation_is_weighted_by_time_and_follows_nodes() {
        let mut world = World::new(&[("a", 4000, 8), ("b", 4000, 8)]);
        let mut measure = Utilisation::new(Duration::from_secs(10));
        world.up(0, &mut measure);
        let job = world.job("j", "u", 2000, 2, 2);
        world.arrive(0, &job, &mut measure);
        let put = world.place(10, &job, "a", 0, &mut measure);
        world.lose(20, "b", &mut measure);
        world.leave(30, &put, Why::Finished, &mut measure);
        world.end(30, &job, 0, &mut measure);
        let end = Duration::from_secs(40);
        let figures = measure.figures(end);
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        // A quarter for 10 s, then half of what is left for 10 s.
        assert_eq!(value("cpu allocated, mean"), (25.0 * 10.0 + 50.0 * 10.0) / 40.0);
        assert_eq!(value("cpu allocated, highest"), 50.0);
        assert_eq!(value("cpu demanded, mean"), (50.0 * 20.0 + 100.0 * 10.0) / 40.0);
        assert_eq!(value("gpu allocated, mean"), (12.5 * 10.0 + 25.0 * 10.0) / 40.0);
        let points: Vec<f64> = measure.series(end)[0].points.iter().map(|(_, y)| *y).collect();
        assert_eq!(points, [0.0, 0.0, 25.0, 50.0, 0.0]);
    }
}
