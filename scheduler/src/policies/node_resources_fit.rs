//! NodeResourcesFit: a node must have what the pod asks for, and prefers to be packed or spread.

use std::collections::BTreeSet;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Code, Cycle, Filter, MAX_NODE_SCORE, NodeId, NodeSet, Policy, Reach, Reason, Refusal,
    RefusalId, Score, Scores, State,
};
use smallvec::SmallVec;

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
        for node in candidates.nodes().clone().iter() {
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
            Strategy::LeastAllocated(resources) => score_by_rate(&usage(resources), least, nodes, scores),
            Strategy::MostAllocated(resources) => score_by_rate(&usage(resources), most, nodes, scores),
            Strategy::RequestedToCapacityRatio { resources, shape } => {
                score_by_ratio(&usage(resources), shape, nodes, scores);
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// Scores by the weighted mean of a rate of each resource. Generic, so that the rate is compiled into the loop.
fn score_by_rate(usage: &Usage<'_>, rate: impl Fn(i64, i64) -> i64, nodes: &NodeSet, scores: &mut Scores) {
    for node in nodes.iter() {
        let (mut sum, mut weights) = (0, 0);
        usage.each(node, |weight, requested, allocatable| {
            sum += weight * rate(requested, allocatable);
            weights += weight;
        });
        // Two resources of weight 1 are the usual case, and a division is dear.
        match weights {
            0 => {}
            2 => scores.add(node, sum / 2),
            _ => scores.add(node, sum / weights),
        }
    }
}

fn least(requested: i64, allocatable: i64) -> i64 {
    if requested > allocatable { 0 } else { quotient((allocatable - requested) * MAX_NODE_SCORE, allocatable) }
}

/// The quotient of numbers that are not negative, truncated: quicker than the processor's own division where both have few
/// bits, as they mostly do.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "below 2^52, and then corrected")]
fn quotient(dividend: i64, divisor: i64) -> i64 {
    const EXACT: i64 = 1 << 52;
    if dividend >= EXACT || divisor >= EXACT {
        return dividend / divisor;
    }
    // Rounding may have reached the next whole number, never passed it.
    let near = (dividend as f64 / divisor as f64) as i64;
    near - i64::from(near * divisor > dividend)
}

fn most(requested: i64, allocatable: i64) -> i64 {
    quotient(requested.min(allocatable) * MAX_NODE_SCORE, allocatable)
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

fn at(column: &[i64], node: NodeId) -> i64 {
    column.get(node.index()).copied().unwrap_or(0)
}
