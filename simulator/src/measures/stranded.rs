//! What is left of nodes and of no use, because of something else nothing is left.

use std::time::Duration;

use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;

use super::{Amounts, Distribution, Figure, Measure, Series, Timeline, Unit};
use crate::observer::{Happening, Observer};

/// Stranded CPU and memory, in percent of what the nodes have: what is free on nodes where the other of both is exhausted (Verma et al.,
/// Borg, EuroSys '15, say "resources that can't be used because another resource on the machine is fully allocated").
///
/// Memory is exhausted where less is free than the typical pod asks for, which is the median of what the pods that arrived so far ask
/// for; and so is CPU.
#[derive(Debug, Clone)]
pub struct Stranded {
    asked: [Distribution; 2],
    typical: [f64; 2],
    nodes: Vec<Node>,
    capacity: [f64; 2],
    stranded: [f64; 2],
    lines: [Timeline; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    capacity: [f64; 2],
    free: [f64; 2],
    stranded: [f64; 2],
}

const NAMES: [&str; 2] = ["cpu", "memory"];

impl Stranded {
    /// Nothing is stranded; what is drawn is drawn at moments `period` apart.
    pub fn new(period: Duration) -> Self {
        Self {
            asked: Default::default(),
            typical: [0.0; 2],
            nodes: Vec::new(),
            capacity: [0.0; 2],
            stranded: [0.0; 2],
            lines: std::array::from_fn(|_| Timeline::new(period)),
        }
    }

    fn look(&mut self, cluster: &Cluster, node: NodeId) {
        if self.nodes.len() <= node.index() {
            self.nodes.resize(node.index() + 1, Node::default());
        }
        let all = Amounts::of_node(cluster, node);
        let free = all - Amounts::used_on(cluster, node);
        let both = |amounts: Amounts| [amounts.milli_cpu as f64, amounts.memory as f64];
        self.put(node.index(), both(all), both(free));
    }

    fn put(&mut self, place: usize, capacity: [f64; 2], free: [f64; 2]) {
        let exhausted: [bool; 2] = std::array::from_fn(|of| free[of] < self.typical[of]);
        let stranded = std::array::from_fn(|of| if exhausted[1 - of] { free[of].max(0.0) } else { 0.0 });
        let old = std::mem::replace(&mut self.nodes[place], Node { capacity, free, stranded });
        for of in 0..2 {
            self.capacity[of] += capacity[of] - old.capacity[of];
            self.stranded[of] += stranded[of] - old.stranded[of];
        }
    }

    /// Says whether the typical pod is another than before.
    fn arrived(&mut self, amounts: Amounts, count: u64) -> bool {
        self.asked[0].add_many(amounts.milli_cpu as f64, count);
        self.asked[1].add_many(amounts.memory as f64, count);
        let typical = [self.asked[0].quantile(0.5), self.asked[1].quantile(0.5)];
        std::mem::replace(&mut self.typical, typical) != typical
    }
}

impl Observer for Stranded {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        match what {
            Happening::NodeUp(node) | Happening::NodeDown(node) | Happening::Left { node, .. } => {
                self.look(cluster, *node);
            }
            Happening::Placed(placed) => self.look(cluster, placed.node),
            Happening::JobArrived(job) => {
                let mut changed = false;
                for task in &job.tasks {
                    changed |= self.arrived(Amounts::of(&task.pod), u64::from(task.count));
                }
                if !changed {
                    return;
                }
                for place in 0..self.nodes.len() {
                    let Node { capacity, free, .. } = self.nodes[place];
                    self.put(place, capacity, free);
                }
            }
            _ => return,
        }
        for of in 0..2 {
            let percent = if self.capacity[of] > 0.0 { 100.0 * self.stranded[of] / self.capacity[of] } else { 0.0 };
            self.lines[of].set(at, percent);
        }
    }
}

impl Measure for Stranded {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        let figure = |(of, name): (usize, &str)| {
            Figure::new(format!("{name} stranded, mean"), Unit::Percent, self.lines[of].mean(end))
        };
        NAMES.into_iter().enumerate().map(figure).collect()
    }

    fn series(&self, end: Duration) -> Vec<Series> {
        let one = |(of, name): (usize, &str)| {
            Series::over_time(format!("{name} stranded"), "", Unit::Percent, self.lines[of].points(end))
        };
        NAMES.into_iter().enumerate().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::observer::Why;

    #[test]
    fn what_is_free_beside_what_is_exhausted_is_stranded() {
        let mut world = World::new(&[("a", 4000, 8), ("b", 4000, 8)]);
        let mut measure = Stranded::new(Duration::from_secs(100));
        world.up(0, &mut measure);
        let job = world.job("j", "u", 1000, 7, 2);
        world.arrive(0, &job, &mut measure);
        let put = world.place(0, &job, "a", 0, &mut measure);
        world.leave(10, &put, Why::Finished, &mut measure);
        let figures = measure.figures(Duration::from_secs(20));
        // For 10 s, 3 of 8 cores beside 1 GiB that is too little for a pod of 7.
        assert_eq!(figures[0], Figure::new("cpu stranded, mean", Unit::Percent, 37.5 / 2.0));
        assert_eq!(figures[1].value, 0.0);
        // When pods become small, so does what they need.
        let put = world.place(20, &job, "a", 0, &mut measure);
        let small = world.job("s", "u", 500, 1, 100);
        world.arrive(20, &small, &mut measure);
        assert_eq!(measure.stranded, [0.0, 0.0], "{:?}", measure.typical);
        world.leave(30, &put, Why::Finished, &mut measure);
        world.lose(30, "a", &mut measure);
        assert_eq!(measure.capacity[0], 4000.0);
    }
}
