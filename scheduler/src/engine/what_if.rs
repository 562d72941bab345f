//! What would become of pods, tried on a copy.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::{Cluster, ResourceId};

use super::{Engine, Placement, Unplaced};
use crate::Profile;

/// How much of a resource is asked for in the whole cluster: thousandths of a core of `cpu`, bytes of `memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Utilisation {
    /// What the nodes have.
    pub allocatable: i64,
    /// What pods asked for as things are.
    pub before: i64,
    /// What they would ask for.
    pub after: i64,
}

impl Utilisation {
    /// [`Utilisation::before`] as a part of what there is, 0 to 1; 0 if there is nothing.
    pub fn part_before(&self) -> f64 {
        part(self.before, self.allocatable)
    }

    /// [`Utilisation::after`] as a part of what there is.
    pub fn part_after(&self) -> f64 {
        part(self.after, self.allocatable)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn part(amount: i64, of: i64) -> f64 {
    if of == 0 { 0.0 } else { amount as f64 / of as f64 }
}

/// What [`Engine::what_if`] found.
#[derive(Debug, Clone)]
pub struct WhatIf {
    /// For each pod, in the order given, where it would go or why nowhere.
    pub placements: Vec<Result<Placement, Unplaced>>,
    /// How many would be placed.
    pub placed: usize,
    /// How many would not.
    pub refused: usize,
    /// CPU of the cluster.
    pub cpu: Utilisation,
    /// Memory of the cluster.
    pub memory: Utilisation,
    /// On how many nodes there are pods as things are.
    pub nodes_before: usize,
    /// On how many nodes there would be pods.
    pub nodes_after: usize,
}

impl Engine {
    /// Places pods, in this order, on a copy of the cluster as it is, with any profile, or with the engine's own if none is
    /// given. Touches nothing: neither cluster nor random sequence. Pods that are placed already are taken out first, all of
    /// them, so that this also tells how they would be packed anew. Nobody is evicted, and nobody waits for permission.
    pub fn what_if(&self, profile: Option<Profile>, pods: &[Arc<Pod>]) -> WhatIf {
        self.twin().try_out(profile, pods)
    }

    /// [`Engine::what_if`] on a copy that is needed no more.
    pub(crate) fn try_out(mut self, profile: Option<Profile>, pods: &[Arc<Pod>]) -> WhatIf {
        if let Some(profile) = profile {
            self.profiles = vec![Arc::new(profile)];
        }
        let before = Totals::of(&self.cluster);
        for pod in pods {
            let meta = &pod.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            self.cluster.remove_pod(namespace.unwrap_or_default(), name.unwrap_or_default());
            self.cluster.put_member(pod);
        }
        let placements: Vec<_> = pods.iter().map(|pod| self.place(&unbound(pod))).collect();
        let after = Totals::of(&self.cluster);
        let placed = placements.iter().filter(|placement| placement.is_ok()).count();
        let utilisation = |place: usize| Utilisation {
            allocatable: before.allocatable[place],
            before: before.requested[place],
            after: after.requested[place],
        };
        WhatIf {
            placed,
            refused: placements.len() - placed,
            placements,
            cpu: utilisation(0),
            memory: utilisation(1),
            nodes_before: before.nodes,
            nodes_after: after.nodes,
        }
    }
}

/// The pod as it was before it had a node.
pub(crate) fn unbound(pod: &Arc<Pod>) -> Arc<Pod> {
    if pod.spec.node_name.is_empty() && pod.status.nominated_node_name.is_empty() {
        return pod.clone();
    }
    let mut pod = Pod::clone(pod);
    pod.spec.node_name.clear();
    pod.status.nominated_node_name.clear();
    Arc::new(pod)
}

struct Totals {
    /// CPU and memory.
    allocatable: [i64; 2],
    requested: [i64; 2],
    /// With at least one pod.
    nodes: usize,
}

impl Totals {
    fn of(cluster: &Cluster) -> Self {
        let sum = |column: &[i64]| -> i64 {
            cluster.nodes().iter().map(|node| column.get(node.index()).copied().unwrap_or(0)).sum()
        };
        let both = [ResourceId::CPU, ResourceId::MEMORY];
        let counts = cluster.pod_counts();
        let used = cluster.nodes().iter().filter(|node| counts.get(node.index()).is_some_and(|count| *count > 0));
        Self {
            allocatable: both.map(|resource| sum(cluster.allocatable(resource))),
            requested: both.map(|resource| sum(cluster.requested(resource))),
            nodes: used.count(),
        }
    }
}
