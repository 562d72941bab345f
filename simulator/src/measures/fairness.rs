//! Who has how much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;

use super::{Amounts, Figure, Measure, Series, Timeline, Unit};
use crate::observer::{Happening, Observer};

/// How many users' shares are drawn.
const DRAWN: usize = 5;

/// Dominant shares (Ghodsi et al., DRF, NSDI '11) by user: the largest part that a user's pods have of any resource of the cluster. How
/// even they are among the users of whom a job is there is told by Jain's index: 1 if all have the same, near 0 if one has everything.
#[derive(Debug, Clone)]
pub struct Fairness {
    period: Duration,
    nodes: Vec<Amounts>,
    capacity: Amounts,
    users: BTreeMap<Arc<str>, User>,
    /// Of the shares of users of whom a job is there.
    present: usize,
    sum: f64,
    squares: f64,
    index: Timeline,
}

#[derive(Debug, Clone)]
struct User {
    jobs: u64,
    used: Amounts,
    share: f64,
    line: Timeline,
}

/// Jain's index of fairness (DEC-TR-301, 1984); 1 of no values, and of zeros.
pub fn jain(values: &[f64]) -> f64 {
    let (sum, squares) = values.iter().fold((0.0, 0.0), |(sum, squares), value| (sum + value, squares + value * value));
    index(values.len(), sum, squares)
}

fn index(count: usize, sum: f64, squares: f64) -> f64 {
    if squares > 1e-12 { (sum * sum / (count as f64 * squares)).min(1.0) } else { 1.0 }
}

impl Fairness {
    /// Nobody has anything; what is drawn is drawn at moments `period` apart.
    pub fn new(period: Duration) -> Self {
        let mut even = Timeline::new(period);
        even.set(Duration::ZERO, 1.0);
        Self {
            period,
            nodes: Vec::new(),
            capacity: Amounts::default(),
            users: BTreeMap::new(),
            present: 0,
            sum: 0.0,
            squares: 0.0,
            index: even,
        }
    }

    /// The users and their mean shares up to `end`, the largest first.
    pub fn shares(&self, end: Duration) -> Vec<(Arc<str>, f64)> {
        let mut shares: Vec<(Arc<str>, f64)> =
            self.users.iter().map(|(name, user)| (name.clone(), user.line.mean(end))).collect();
        shares.sort_by(|(a, one), (b, other)| other.total_cmp(one).then_with(|| a.cmp(b)));
        shares
    }

    /// The user becomes another, and the sums with him.
    fn change(&mut self, at: Duration, name: &Arc<str>, how: impl FnOnce(&mut User)) {
        let period = self.period;
        let new = || User { jobs: 0, used: Amounts::default(), share: 0.0, line: Timeline::new(period) };
        let user = self.users.entry(name.clone()).or_insert_with(new);
        if user.jobs > 0 {
            self.present -= 1;
            self.sum -= user.share;
            self.squares -= user.share * user.share;
        }
        how(user);
        user.share = dominant(user.used, self.capacity);
        user.line.set(at, user.share);
        if user.jobs > 0 {
            self.present += 1;
            self.sum += user.share;
            self.squares += user.share * user.share;
        }
    }

    fn look(&mut self, at: Duration, cluster: &Cluster, node: NodeId) {
        if self.nodes.len() <= node.index() {
            self.nodes.resize(node.index() + 1, Amounts::default());
        }
        let now = Amounts::of_node(cluster, node);
        self.capacity += now - std::mem::replace(&mut self.nodes[node.index()], now);
        // All shares are parts of something else now.
        (self.present, self.sum, self.squares) = (0, 0.0, 0.0);
        for user in self.users.values_mut() {
            user.share = dominant(user.used, self.capacity);
            user.line.set(at, user.share);
            if user.jobs > 0 {
                self.present += 1;
                self.sum += user.share;
                self.squares += user.share * user.share;
            }
        }
    }
}

fn dominant(used: Amounts, capacity: Amounts) -> f64 {
    used.percent_of(capacity).into_iter().flatten().fold(0.0, f64::max)
}

impl Observer for Fairness {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        match what {
            Happening::NodeUp(node) | Happening::NodeDown(node) => self.look(at, cluster, *node),
            Happening::JobArrived(job) => self.change(at, &job.user, |user| user.jobs += 1),
            Happening::JobEnded { job, .. } => {
                self.change(at, &job.user, |user| user.jobs = user.jobs.saturating_sub(1));
            }
            Happening::Placed(placed) => {
                let amounts = Amounts::of(placed.pod);
                self.change(at, &placed.job.user, |user| user.used += amounts);
            }
            Happening::Left { job, pod, .. } => {
                let amounts = Amounts::of(pod);
                self.change(at, &job.user, |user| user.used -= amounts);
            }
            _ => return,
        }
        self.index.set(at, index(self.present, self.sum, self.squares));
    }
}

impl Measure for Fairness {
    fn figures(&self, end: Duration) -> Vec<Figure> {
        let shares = self.shares(end);
        let mut figures = vec![
            Figure::new("users", Unit::Count, shares.len() as f64),
            Figure::new("Jain's index of dominant shares, mean", Unit::Ratio, self.index.mean(end)),
        ];
        let largest =
            shares.first().map(|(_, share)| Figure::new("largest mean dominant share", Unit::Percent, *share));
        figures.extend(largest);
        figures
    }

    fn series(&self, end: Duration) -> Vec<Series> {
        let index = Series::over_time("Jain's index of dominant shares", "", Unit::Ratio, self.index.points(end));
        let shares = self.shares(end).into_iter().take(DRAWN).filter_map(|(name, _)| {
            let points = self.users.get(&name)?.line.points(end);
            Some(Series::over_time("dominant share by user", &*name, Unit::Percent, points))
        });
        std::iter::once(index).chain(shares).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::observer::Why;

    #[test]
    fn jains_index_is_one_part_of_how_many_there_are() {
        assert_eq!((jain(&[]), jain(&[0.0, 0.0]), jain(&[3.0, 3.0])), (1.0, 1.0, 1.0));
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
    }

    #[test]
    fn the_dominant_share_is_that_of_what_one_has_most_of() {
        let mut world = World::new(&[("a", 10_000, 10)]);
        let mut measure = Fairness::new(Duration::from_secs(10));
        world.up(0, &mut measure);
        // Of 10 cores, 10 GiB and 2 GPUs: a fifth of the cores, half of the memory, a quarter of the GPUs; and a tenth, a tenth, a quarter.
        let (large, small) = (world.job("j", "large", 2000, 5, 1), world.job("k", "small", 1000, 1, 1));
        world.arrive(0, &large, &mut measure);
        world.arrive(0, &small, &mut measure);
        let put = world.place(0, &large, "a", 0, &mut measure);
        world.place(0, &small, "a", 0, &mut measure);
        let end = Duration::from_secs(10);
        assert_eq!(measure.shares(end), [("large".into(), 50.0), ("small".into(), 25.0)]);
        assert!((measure.index.mean(end) - jain(&[50.0, 25.0])).abs() < 1e-9);
        // Who has no job left does not count, but what he had does.
        world.leave(10, &put, Why::Finished, &mut measure);
        world.end(10, &large, 0, &mut measure);
        assert!((measure.index.value() - 1.0).abs() < 1e-9);
        assert_eq!(measure.shares(Duration::from_secs(20))[0], ("large".into(), 25.0), "both have 25 now; by name");
        assert_eq!(measure.series(end).len(), 3);
        // Another node, another whole.
        world.lose(20, "a", &mut measure);
        assert_eq!(measure.capacity, Amounts::default());
    }
}
