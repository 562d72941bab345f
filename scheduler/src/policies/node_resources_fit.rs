//! NodeResourcesFit: a node must have what the pod asks for, and prefers to be packed or spread.

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
}

impl Default for NodeResourcesFit {
    fn default() -> Self {
        Self::new(Strategy::least_allocated())
    }
}

impl NodeResourcesFit {
    /// The policy with a strategy.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy }
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
        let wanted: SmallVec<[Wanted<'_>; 4]> = (cycle.shape().requests().amounts().iter())
            .filter(|(_, amount)| *amount > 0)
            .map(|&(resource, amount)| Wanted {
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
                    let why = candidates.reason(refusal(cycle, lack, never));
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

fn refusal(cycle: Cycle<'_>, lack: Lack, never: bool) -> Refusal {
    let mut reasons: SmallVec<[Reason; 1]> = SmallVec::new();
    if lack & 1 != 0 {
        reasons.push("Too many pods".into());
    }
    let amounts = cycle.shape().requests().amounts().iter().filter(|(_, amount)| *amount > 0);
    for (index, (resource, _)) in amounts.enumerate() {
        if lack & (2 << index.min(62)) != 0 {
            reasons.push(match *resource {
                ResourceId::CPU => "Insufficient cpu".into(),
                ResourceId::MEMORY => "Insufficient memory".into(),
                other => format!("Insufficient {}", cycle.cluster().resource_name(other)).into(),
            });
        }
    }
    let code = if never { Code::UnschedulableAndUnresolvable } else { Code::Unschedulable };
    Refusal { code, reasons }
}

impl Score for NodeResourcesFit {
    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let (resources, rate): (_, fn(i64, i64) -> i64) = match &self.strategy {
            Strategy::LeastAllocated(resources) => (resources, least),
            Strategy::MostAllocated(resources) => (resources, most),
        };
        let usage = Usage::of(cycle, resources, true);
        for node in nodes.iter() {
            let (mut sum, mut weights) = (0, 0);
            usage.each(node, |weight, requested, allocatable| {
                sum += weight * rate(requested, allocatable);
                weights += weight;
            });
            if weights > 0 {
                scores.add(node, sum / weights);
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

fn least(requested: i64, allocatable: i64) -> i64 {
    if requested > allocatable { 0 } else { (allocatable - requested) * MAX_NODE_SCORE / allocatable }
}

fn most(requested: i64, allocatable: i64) -> i64 {
    requested.min(allocatable) * MAX_NODE_SCORE / allocatable
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
