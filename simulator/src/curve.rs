//! What is recorded while pods arrive, by how much GPU arrived.

use std::collections::BTreeMap;

use longshore_core::devices::WHOLE;
use serde::Serialize;

use crate::measures::Amounts;

/// Beyond this nothing is recorded, in percent of what all nodes have.
const ARRIVED_MAX: u32 = 130;

/// The means over the arrivals about one percentage of load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// GPUs asked for so far, by pods that found a place and those that did not, in percent of all GPUs.
    pub arrived: u32,
    /// GPUs in use, in percent of all GPUs.
    pub allocation: f64,
    /// Fragments in percent of the GPUs that are not in use.
    pub fragmentation_ratio: f64,
    /// Fragments in percent of all GPUs.
    pub fragmentation_amount: f64,
    /// GPUs of which any part is in use, in percent of all GPUs.
    pub gpus_in_use: f64,
    /// CPU in use, in percent of all.
    pub cpu_allocation: f64,
    /// Memory in use, in percent of all.
    pub memory_allocation: f64,
}

/// What was so after one arrival.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    /// Thousandths of GPUs that pods asked for.
    pub(crate) arrived: i64,
    /// All of what pods have that found a place.
    pub(crate) used: Amounts,
    /// Thousandths of GPUs.
    pub(crate) fragments: f64,
    /// GPUs of which any part is in use.
    pub(crate) touched: i64,
}

/// The rows by load.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    all: Amounts,
    capacity: f64,
    bins: BTreeMap<u32, Bin>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    rows: f64,
    allocation: f64,
    ratio: f64,
    amount: f64,
    touched: f64,
    cpu: f64,
    memory: f64,
}

impl Bin {
    fn with(self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            allocation: self.allocation + other.allocation,
            ratio: self.ratio + other.ratio,
            amount: self.amount + other.amount,
            touched: self.touched + other.touched,
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
        }
    }
}

impl Curve {
    /// Nothing yet, of all that there is.
    pub(crate) fn new(all: Amounts) -> Self {
        Self { all, capacity: all.gpu_milli as f64, bins: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        let percent = |milli: f64| 100.0 * milli / self.capacity;
        let arrived = percent(row.arrived as f64).round_ties_even();
        if arrived > f64::from(ARRIVED_MAX) + 1.0 {
            return;
        }
        let used = row.used.gpu_milli as f64;
        let idle = self.capacity - used;
        let ratio = if idle > 0.0 { 100.0 * row.fragments / idle } else { 0.0 };
        let [cpu, memory, _] = row.used.percent_of(self.all).map(|part| part.unwrap_or(0.0));
        let row = Bin {
            rows: 1.0,
            allocation: cents(percent(used)),
            ratio: cents(ratio),
            amount: cents(row.fragments),
            touched: percent((row.touched * WHOLE) as f64),
            cpu,
            memory,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 131")]
        let bin = self.bins.entry(arrived as u32).or_default();
        *bin = bin.with(&row);
    }

    /// The highest percentage at which anything was recorded.
    pub(crate) fn last(&self) -> u32 {
        self.bins.range(..=ARRIVED_MAX).next_back().map_or(0, |(arrived, _)| *arrived)
    }

    /// The means, percentage by percentage, as the figures of FGD (Weng et al., USENIX ATC '23) are made: of the rows that are
    /// nearest to it, or where there are none, of those nearest to the percentages before and after.
    pub(crate) fn points(&self) -> Vec<Point> {
        let mean = |arrived: u32| {
            let near = || {
                let bins = self.bins.range(arrived.saturating_sub(1)..=arrived + 1);
                bins.fold(None, |sum: Option<Bin>, (_, bin)| Some(sum.unwrap_or_default().with(bin)))
            };
            let bin = self.bins.get(&arrived).copied().or_else(near)?;
            Some(Point {
                arrived,
                allocation: cents(bin.allocation / bin.rows),
                fragmentation_ratio: bin.ratio / bin.rows,
                fragmentation_amount: cents(100.0 * bin.amount / bin.rows / self.capacity),
                gpus_in_use: cents(bin.touched / bin.rows),
                cpu_allocation: cents(bin.cpu / bin.rows),
                memory_allocation: cents(bin.memory / bin.rows),
            })
        };
        (0..=self.last()).filter_map(mean).collect()
    }
}

/// Rounded to two digits behind the point.
fn cents(value: f64) -> f64 {
    (value * 100.0).round_ties_even() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_averaged_by_the_nearest_percentage() {
        let all = |gpu_milli| Amounts { milli_cpu: 4000, memory: 0, gpu_milli };
        let mut curve = Curve::new(all(10_000));
        for (arrived, used, fragments) in [(95, 95, 5000.0), (104, 100, 4000.0), (390, 200, 100.0), (13_200, 9000, 1.0)]
        {
            let used = Amounts { milli_cpu: 1000, ..all(used) };
            curve.add(Row { arrived, used, fragments, touched: 2 });
        }
        let points = curve.points();
        let arrived: Vec<u32> = points.iter().map(|point| point.arrived).collect();
        assert_eq!(arrived, [0, 1, 2, 3, 4], "nothing is near 5 percent");
        // 1 % has rows of its own, and its neighbours have none but those.
        for place in [0, 1, 2] {
            let Point { allocation, fragmentation_ratio, fragmentation_amount, .. } = points[place];
            assert_eq!((allocation, fragmentation_amount), (0.98, 45.0), "{place}");
            assert!((fragmentation_ratio - f64::midpoint(50.48, 40.4)).abs() < 1e-9, "{fragmentation_ratio}");
        }
        assert_eq!((points[3].allocation, points[4].allocation), (2.0, 2.0));
        let Point { gpus_in_use, cpu_allocation, memory_allocation, .. } = points[4];
        assert_eq!((gpus_in_use, cpu_allocation, memory_allocation), (20.0, 25.0, 0.0));
    }

    #[test]
    fn a_cluster_in_full_use_has_no_fragments() {
        let all = Amounts { gpu_milli: 1000, ..Amounts::default() };
        let mut curve = Curve::new(all);
        curve.add(Row { arrived: 1000, used: all, ..Row::default() });
        assert_eq!(curve.points().last().unwrap().fragmentation_ratio, 0.0);
    }
}
