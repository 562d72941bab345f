//! What is left of GPUs, parted by what pods to be expected could do with it.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;
use longshore_scheduler::policies::gpu::{Fragments, Workload};

use super::{Amounts, Figure, Measure, Series, Timeline, Unit};
use crate::observer::{Happening, Observer};

/// The kinds of fragments, in the order of [`fragments_by_kind`].
pub const FRAGMENT_KINDS: [&str; 6] = [
    "too little CPU and GPU",
    "too little GPU",
    "too little CPU",
    "pod needs no GPU",
    "pod needs no GPU, too little CPU",
    "wrong model",
];

const MICRO: f64 = 1000.0;

/// How much of each of the [`FRAGMENT_KINDS`], in thousandths of GPUs.
pub fn fragments_by_kind(of: &Fragments) -> [f64; 6] {
    [of.lacks_both, of.lacks_gpu, of.lacks_cpu, of.no_gpu, of.no_gpu_lacks_cpu, of.no_access]
}

/// FGD's measure (Weng et al., USENIX ATC '23): the GPUs that are left and of no use to the expected pods, by kind, in percent of all
/// GPUs of the nodes that are there.
#[derive(Debug, Clone)]
pub struct Fragmentation {
    workload: Arc<Workload>,
    /// Of each node its GPUs in thousandths, and its fragments in millionths: sums of whole numbers come back to 0.
    nodes: Vec<(i64, [i64; 6])>,
    capacity: i64,
    sums: [i64; 6],
    lines: [Timeline; 6],
    total: Timeline,
}

impl Fragmentation {
    /// As these pods see it; what is drawn is drawn at moments `period` apart.
    pub fn new(workload: Arc<Workload>, period: Duration) -> Self {
        let lines = std::array::from_fn(|_| Timeline::new(period));
        Self { workload, nodes: Vec::new(), capacity: 0, sums: [0; 6], lines, total: Timeline::new(period) }
    }

    fn look(&mut self, at: Duration, cluster: &Cluster, node: NodeId) {
        if self.nodes.len() <= node.index() {
            self.nodes.resize(node.index() + 1, Default::default());
        }
        let capacity = Amounts::of_node(cluster, node).gpu_milli;
        let kinds = if capacity > 0 { fragments_by_kind(&self.workload.fragments_on(cluster, node)) } else { [0.0; 6] };
        #[expect(clippy::cast_possible_truncation, reason = "a node has far fewer than 2^43 GPUs")]
        let kinds = kinds.map(|milli| (milli * MICRO).round() as i64);
        let (had, before) = std::mem::replace(&mut self.nodes[node.index()], (capacity, kinds));
        self.capacity += capacity - had;
        let mut total = 0.0;
        for (kind, line) in self.lines.iter_mut().enumerate() {
            self.sums[kind] += kinds[kind] - before[kind];
            let whole = self.capacity as f64 * MICRO;
            let percent = if whole > 0.0 { 100.0 * self.sums[kind] as f64 / whole } else { 0.0 };
            total += percent;
            line.set(at, percent);
        }
        self.total.set(at, total);
    }
}

impl Observer for Fragmentation {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        match what {
            Happening::NodeUp(node) | Happening::NodeDown(node) | Happening::Left { node, .. } => {
                self.look(at, cluster, *node);
            }
            Happening::Placed(placed) => self.look(at, cluster, placed.node),
            _ => {}
        }
    }
}

impl Measure for Fragmentation {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        let kinds = FRAGMENT_KINDS.into_iter().zip(&self.lines);
        let kinds = kinds
            .map(|(kind, line)| Figure::new(format!("GPU fragments ({kind}), mean"), Unit::Percent, line.mean(end)));
        let all = Figure::new("GPU fragments, mean", Unit::Percent, self.total.mean(end));
        std::iter::once(all).chain(kinds).collect()
    }

    fn series(&self, end: Duration) -> Vec<Series> {
        vec![Series::over_time("GPU fragments", "", Unit::Percent, self.total.points(end))]
    }
}

#[cfg(test)]
mod tests {
    use longshore_scheduler::policies::gpu::PodType;

    use super::super::testing::World;
    use super::*;

    #[test]
    fn what_is_too_little_for_the_expected_pods_is_a_fragment() {
        let whole = PodType { milli_cpu: 1000, milli: 1000, gpus: 1, models: String::new() };
        let workload = Arc::new(Workload::new([(whole, 1.0)]));
        let mut world = World::new(&[("a", 4000, 8)]);
        let mut measure = Fragmentation::new(workload, Duration::from_secs(1));
        world.up(0, &mut measure);
        assert_eq!(measure.total.value(), 0.0);
        // Half of one of two GPUs is taken: nobody who wants a whole one has any use for the other half.
        let job = world.job("j", "u", 1000, 1, 1);
        world.place(0, &job, "a", 0, &mut measure);
        let figures = measure.figures(Duration::from_secs(10));
        assert_eq!(figures[0], Figure::new("GPU fragments, mean", Unit::Percent, 25.0));
        assert_eq!(figures[2].value, 25.0, "{figures:?}");
        world.lose(5, "a", &mut measure);
        assert_eq!(measure.total.value(), 0.0);
    }
}
