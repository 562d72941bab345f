//! NodeResourcesFit: a node must have what the pod asks for, and prefers to be packed or spread.

use std::collections::BTreeSet;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Code, Cycle, Filter, MAX_NODE_SCORE, NodeId, NodeSet, Policy, Reach, Reason, Refusal,
    RefusalId, Score, Scores, State,
};
use smallvec::SmallVec;

use super::lanes::{self, LANES, Lane, Lanes, chunk, floor};

/// [`MAX_NODE_SCORE`] in floating point.
pub(super) const BEST: f64 = 100.0;
/// As long as fewer of 64 neighbouring nodes are asked about, each is looked at by itself.
const FEW: u32 = 12;

/// Whether emptier or fuller nodes are better.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Emptier nodes, by these resources with these weights.
    LeastAllocated(Vec<(String, i64)>),
    /// Fuller nodes, by these resources with these weights.
    MostAllocated(Vec<(String, i64)>),
    /// Nodes whose use, in per cent, a line through points gives the highest score.
    RequestedToCapacityRatio {
        /// The resources, with their weights.
        resources: Vec<(String, i64)>,
        /// Points of the line, each a use in per cent and a score from 0 to 10, by ascending use; at least one.
        shape: Vec<(i64, i64)>,
    },
}

impl Strategy {
    /// Emptier nodes, by CPU and memory alike.
    pub fn least_allocated() -> Self {
        Self::LeastAllocated(cpu_and_memory())
    }

    /// Fuller nodes, by CPU and memory alike.
    pub fn most_allocated() -> Self {
        Self::MostAllocated(cpu_and_memory())
    }
}

pub(super) fn cpu_and_memory() -> Vec<(String, i64)> {
    vec![("cpu".to_owned(), 1), ("memory".to_owned(), 1)]
}

/// Refuses nodes that do not have what the pod asks for, and scores the others by how full they would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeResourcesFit {
    strategy: Strategy,
    ignored: BTreeSet<String>,
    ignored_groups: BTreeSet<String>,
}

impl Default for NodeResourcesFit {
    fn default() -> Self {
        Self::new(Strategy::least_allocated())
    }
}

impl NodeResourcesFit {
    /// The policy with a strategy.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, ignored: BTreeSet::new(), ignored_groups: BTreeSet::new() }
    }

    /// Refuses no node for lack of these extended resources, nor of any in these groups (what is before the `/` of their
    /// names). Scores count them all the same.
    #[must_use]
    pub fn ignoring(
        mut self,
        resources: impl IntoIterator<Item = String>,
        groups: impl IntoIterator<Item = String>,
    ) -> Self {
        self.ignored.extend(resources);
        self.ignored_groups.extend(groups);
        self
    }

    /// What the pod asks for and the node must have.
    fn demands<'c>(&'c self, cycle: Cycle<'c>) -> impl Iterator<Item = (ResourceId, i64)> + 'c {
        let ignores = !self.ignored.is_empty() || !self.ignored_groups.is_empty();
        let amounts = cycle.shape().requests().amounts().iter().copied();
        amounts.filter(move |&(resource, amount)| {
            amount > 0 && !(ignores && self.ignores(cycle.cluster().resource_name(resource)))
        })
    }

    fn ignores(&self, resource: &str) -> bool {
        let Some((group, _)) = resource.split_once('/') else { return false };
        let is_extended = !resource.contains("kubernetes.io/") && !resource.starts_with("requests.");
        is_extended && (self.ignored.contains(resource) || self.ignored_groups.contains(group))
    }
}

impl Policy for NodeResourcesFit {
    fn name(&self) -> &str {
        "NodeResourcesFit"
    }

    fn may_help(&self, _pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::PodRemoved(_) | ClusterEvent::PodForgotten(_) => true,
            ClusterEvent::NodeUpdated { old, new } => old.status.allocatable != new.status.allocatable,
            // Scaled down in place.
            ClusterEvent::PodUpdated { old, new } => {
                old.spec.containers.iter().map(|container| &container.resources).ne(new
                    .spec
                    .containers
                    .iter()
                    .map(|container| &container.resources))
                    || old.status.container_statuses != new.status.container_statuses
            }
            ClusterEvent::SelfUpdated { .. } => true,
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

/// A resource that the pod wants, with its columns.
struct Wanted<'c> {
    amount: i64,
    allocatable: &'c [i64],
    requested: &'c [i64],
}

/// What a node lacks: bit 0 room for a pod, the others the pod's requests in order.
type Lack = u64;

impl Filter for NodeResourcesFit {
    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        let cluster = cycle.cluster();
        // Columns are looked up once, not for every node.
        let pods = (cluster.allocatable(ResourceId::PODS), cluster.pod_counts());
        let wanted: SmallVec<[Wanted<'_>; 4]> = (self.demands(cycle))
            .map(|(resource, amount)| Wanted {
                amount,
                allocatable: cluster.allocatable(resource),
                requested: cluster.requested(resource),
            })
            .collect();
        let mut said: SmallVec<[((Lack, bool), RefusalId); 4]> = SmallVec::new();
        let doubtful = candidates.nodes().words().filter(|(start, _)| !all_fit(pods, &wanted, *start));
        let doubtful: SmallVec<[(usize, u64); 4]> = doubtful.collect();
        for node in doubtful.into_iter().flat_map(|(start, word)| nodes_of(start, word)) {
            let mut lack: Lack = Lack::from(at(pods.1, node) + 1 > at(pods.0, node));
            let mut never = false;
            for (index, Wanted { amount, allocatable, requested }) in wanted.iter().enumerate() {
                let has = at(allocatable, node);
                if *amount > has - at(requested, node) {
                    lack |= 2 << index.min(62);
                    never |= *amount > has;
                }
            }
            if lack == 0 {
                continue;
            }
            let why = match said.iter().find(|(key, _)| *key == (lack, never)) {
                Some((_, why)) => *why,
                None => {
                    let why = candidates.reason(self.refusal(cycle, lack, never));
                    said.push(((lack, never), why));
                    why
                }
            };
            candidates.refuse_for(node, why);
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// Whether all of the 64 nodes from `start` on have room for a pod and all that it wants: mostly, and told quickly.
fn all_fit(pods: (&[i64], &[i64]), wanted: &[Wanted<'_>], start: usize) -> bool {
    let fit = |there: &[i64], taken: &[i64], more: i64| {
        let Some((there, taken)) = chunk(there, start).zip(chunk(taken, start)) else { return false };
        let mut lacks = false;
        for lane in 0..LANES {
            lacks |= more > there[lane] - taken[lane];
        }
        !lacks
    };
    fit(pods.0, pods.1, 1) && wanted.iter().all(|it| fit(it.allocatable, it.requested, it.amount))
}

impl NodeResourcesFit {
    fn refusal(&self, cycle: Cycle<'_>, lack: Lack, never: bool) -> Refusal {
        let mut reasons: SmallVec<[Reason; 1]> = SmallVec::new();
        if lack & 1 != 0 {
            reasons.push("Too many pods".into());
        }
        for (index, (resource, _)) in self.demands(cycle).enumerate() {
            if lack & (2 << index.min(62)) != 0 {
                reasons.push(match resource {
                    ResourceId::CPU => "Insufficient cpu".into(),
                    ResourceId::MEMORY => "Insufficient memory".into(),
                    other => format!("Insufficient {}", cycle.cluster().resource_name(other)).into(),
                });
            }
        }
        let code = if never { Code::UnschedulableAndUnresolvable } else { Code::Unschedulable };
        Refusal { code, reasons }
    }
}

impl Score for NodeResourcesFit {
    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let usage = |resources| Usage::of(cycle, resources, true);
        match &self.strategy {
            Strategy::LeastAllocated(resources) => score_by_rate(&usage(resources), (least, least_of), nodes, scores),
            Strategy::MostAllocated(resources) => score_by_rate(&usage(resources), (most, most_of), nodes, scores),
            Strategy::RequestedToCapacityRatio { resources, shape } => {
                score_by_ratio(&usage(resources), shape, nodes, scores);
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// Scores by the weighted mean of a rate of each resource. Generic, so that the rate, of one node and of 64 at once, is compiled
/// into the loop.
fn score_by_rate(
    usage: &Usage<'_>,
    (rate, rate_of): (impl Fn(i64, i64) -> i64, impl Fn(f64, f64) -> f64),
    nodes: &NodeSet,
    scores: &mut Scores,
) {
    let mean = |lanes: &[(i32, Lanes)], sum: &mut Lane| {
        sum.fill(0.0);
        for (weight, lanes) in lanes {
            let weight = f64::from(*weight);
            for ((sum, taken), there) in sum.iter_mut().zip(&lanes.taken).zip(&lanes.there) {
                *sum += weight * rate_of(*taken, *there);
            }
        }
        // Two resources of weight 1 are the usual case, and a division is dear.
        match lanes.iter().map(|(weight, _)| f64::from(*weight)).sum() {
            2.0 => sum.iter_mut().for_each(|sum| *sum = floor(*sum * 0.5)),
            weights => sum.iter_mut().for_each(|sum| *sum = lanes::quotient(*sum, weights)),
        }
    };
    usage.score(nodes, scores, mean, |node| {
        let (mut sum, mut weights) = (0, 0);
        usage.each(node, |weight, requested, allocatable| {
            sum += weight * rate(requested, allocatable);
            weights += weight;
        });
        if weights == 0 { 0 } else { sum / weights }
    });
}

fn least(requested: i64, allocatable: i64) -> i64 {
    if requested > allocatable { 0 } else { (allocatable - requested) * MAX_NODE_SCORE / allocatable }
}

fn most(requested: i64, allocatable: i64) -> i64 {
    requested.min(allocatable) * MAX_NODE_SCORE / allocatable
}

fn least_of(requested: f64, allocatable: f64) -> f64 {
    let free = if requested > allocatable { 0.0 } else { allocatable - requested };
    lanes::quotient(free * BEST, allocatable)
}

fn most_of(requested: f64, allocatable: f64) -> f64 {
    let used = if requested > allocatable { allocatable } else { requested };
    lanes::quotient(used * BEST, allocatable)
}

/// Scores by a line over the use of each resource. As upstream, resources with score 0 do not count for the mean, and the mean
/// is rounded, not truncated.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as upstream, and at most 100")]
fn score_by_ratio(usage: &Usage<'_>, shape: &[(i64, i64)], nodes: &NodeSet, scores: &mut Scores) {
    for node in nodes.iter() {
        let (mut sum, mut weights) = (0, 0);
        usage.each(node, |weight, requested, allocatable| {
            let used = i128::from(requested.clamp(0, allocatable)) * 100 / i128::from(allocatable);
            let score = on_line(shape, used as i64);
            if score > 0 {
                sum += weight * score;
                weights += weight;
            }
        });
        if weights > 0 {
            scores.add(node, (sum as f64 / weights as f64).round() as i64);
        }
    }
}

/// The score at a use in per cent, from 0 to [`MAX_NODE_SCORE`]. Before the first point and after the last one the line is flat.
fn on_line(shape: &[(i64, i64)], at: i64) -> i64 {
    let scaled = |score: i64| score * (MAX_NODE_SCORE / 10);
    let next = shape.partition_point(|(used, _)| *used < at);
    match (next.checked_sub(1).and_then(|before| shape.get(before)), shape.get(next)) {
        (Some((from, low)), Some((to, high))) => {
            scaled(*low) + (scaled(*high) - scaled(*low)) * (at - from) / (to - from)
        }
        (Some((_, score)), None) | (None, Some((_, score))) => scaled(*score),
        (None, None) => 0,
    }
}

/// How full nodes would be with the pod, by resource with its weight.
pub(super) struct Usage<'c> {
    resources: SmallVec<[(i64, Wanted<'c>); 2]>,
}

impl<'c> Usage<'c> {
    /// `nonzero`: containers without requests count as if they had some.
    pub(super) fn of(cycle: Cycle<'c>, resources: &[(String, i64)], nonzero: bool) -> Self {
        let (cluster, requests): (&'c Cluster, _) = (cycle.cluster(), cycle.shape().requests());
        let known = resources.iter().filter_map(|(name, weight)| Some((cluster.resource(name)?, *weight)));
        let resources = known.filter_map(|(resource, weight)| {
            let (asked, taken) = match resource {
                ResourceId::CPU if nonzero => (requests.incoming_milli_cpu(), cluster.nonzero_milli_cpu()),
                ResourceId::MEMORY if nonzero => (requests.incoming_memory(), cluster.nonzero_memory()),
                resource => (requests.amount(resource), cluster.requested(resource)),
            };
            let basic = matches!(resource, ResourceId::CPU | ResourceId::MEMORY | ResourceId::EPHEMERAL_STORAGE);
            // An extended resource that the pod does not want is no reason to prefer a node.
            let wanted = Wanted { amount: asked, allocatable: cluster.allocatable(resource), requested: taken };
            (asked != 0 || basic).then_some((weight, wanted))
        });
        Self { resources: resources.collect() }
    }

    /// Adds the scores that `of_lanes` gives 64 nodes at once, and `of_one` single nodes where these are not exact or only few are
    /// asked about.
    pub(super) fn score(
        &self,
        nodes: &NodeSet,
        scores: &mut Scores,
        of_lanes: impl Fn(&[(i32, Lanes)], &mut Lane),
        of_one: impl Fn(NodeId) -> i64,
    ) {
        let weighted =
            |(weight, _): &(i64, Wanted<'_>)| i32::try_from(*weight).ok().map(|weight| (weight, Lanes::ZERO));
        let mut lanes: SmallVec<[(i32, Lanes); 2]> = self.resources.iter().map_while(weighted).collect();
        let exact = lanes.len() == self.resources.len() && !lanes.is_empty();
        let mut all = [0.0; LANES];
        lanes::widest(
            #[inline(always)]
            || {
                for (start, word) in nodes.words() {
                    let mut resources = self.resources.iter().zip(&mut lanes);
                    if exact
                        && word.count_ones() >= FEW
                        && resources
                            .all(|((_, it), (_, lanes))| lanes.load(it.requested, it.allocatable, it.amount, start))
                    {
                        of_lanes(&lanes, &mut all);
                        scores.add_lanes(start, word, |lane| lanes::whole(all[lane]));
                    } else {
                        nodes_of(start, word).for_each(|node| scores.add(node, of_one(node)));
                    }
                }
            },
        );
    }

    /// Calls with weight, what would be taken, and what there is, for resources that the node has.
    pub(super) fn each(&self, node: NodeId, mut call: impl FnMut(i64, i64, i64)) {
        for (weight, wanted) in &self.resources {
            let has = at(wanted.allocatable, node);
            if has != 0 {
                call(*weight, at(wanted.requested, node) + wanted.amount, has);
            }
        }
    }
}

/// The nodes of a word of a node set.
fn nodes_of(start: usize, word: u64) -> impl Iterator<Item = NodeId> {
    (0..LANES).filter(move |lane| word >> lane & 1 == 1).map(move |lane| NodeId::from_index(start + lane))
}

fn at(column: &[i64], node: NodeId) -> i64 {
    column.get(node.index()).copied().unwrap_or(0)
}
