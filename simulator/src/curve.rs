//! What is recorded while pods arrive, by how much GPU arrived.

use std::collections::BTreeMap;

use serde::Serialize;

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
}

/// What was so after one arrival, in thousandths of GPUs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) arrived: i64,
    pub(crate) used: i64,
    pub(crate) fragments: f64,
}

/// The rows by load.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    capacity: f64,
    bins: BTreeMap<u32, Bin>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    rows: f64,
    allocation: f64,
    ratio: f64,
    amount: f64,
}

impl Bin {
    fn with(self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            allocation: self.allocation + other.allocation,
            ratio: self.ratio + other.ratio,
            amount: self.amount + other.amount,
        }
    }
}

impl Curve {
    /// Nothing yet; `capacity` is that of all GPUs in thousandths.
    pub(crate) fn new(capacity: i64) -> Self {
        Self { capacity: capacity as f64, bins: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        let percent = |milli: f64| 100.0 * milli / self.capacity;
        let arrived = percent(row.arrived as f64).round_ties_even();
        if arrived > f64::from(ARRIVED_MAX) + 1.0 {
            return;
        }
        let idle = self.capacity - row.used as f64;
        let ratio = if idle > 0.0 { 100.0 * row.fragments / idle } else { 0.0 };
        let row = Bin {
            rows: 1.0,
            allocation: cents(percent(row.used as f64)),
            ratio: cents(ratio),
            amount: cents(row.fragments),
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
        let mut curve = Curve::new(10_000);
        for (arrived, used, fragments) in [(95, 95, 5000.0), (104, 100, 4000.0), (390, 200, 100.0), (13_200, 9000, 1.0)]
        {
            curve.add(Row { arrived, used, fragments });
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
    }

    #[test]
    fn a_cluster_in_full_use_has_no_fragments() {
        let mut curve = Curve::new(1000);
        curve.add(Row { arrived: 1000, used: 1000, fragments: 0.0 });
        assert_eq!(curve.points().last().unwrap().fragmentation_ratio, 0.0);
    }
}
