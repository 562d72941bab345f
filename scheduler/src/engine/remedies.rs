//! The smallest changes that would let a pod fit that no node can take.
//!
//! A change is found by looking at what the pod asks for and what the cluster has, and it is said only after the filters
//! were run for the pod as it would then be: so what is said is true of the cluster as it is.

use std::fmt;
use std::sync::Arc;

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::tolerates;
use longshore_core::api::pod::{Pod, UnsatisfiableConstraintAction};
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_core::scheduling::{HostPort, NodeId, NodeSet};

use super::cached::{Cached, Question, nominated_ahead};
use super::change::Change;
use super::{Engine, Unplaced};
use crate::Profile;

/// How often all nodes are looked at for one pod at most.
const LOOKS_MAX: usize = 200;
/// Of how many taints a toleration is tried; those of the most nodes come first.
const TAINTS_MAX: usize = 8;
/// The taint that stands for `spec.unschedulable`.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Changes to a pod that, made together, let it fit. Prints like `200m less cpu: 14 nodes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Remedy {
    /// What is to be changed: one thing, or two if no one thing helps.
    pub changes: Vec<Change>,
    /// On how many nodes the pod would fit.
    pub nodes: usize,
}

impl Remedy {
    /// The pod with all changes made; `None` if it has nothing of what is to be changed.
    pub fn apply(&self, pod: &Pod) -> Option<Pod> {
        self.changes.iter().try_fold(pod.clone(), |pod, change| change.apply(&pod))
    }

    /// What is to be changed, without the number of nodes.
    pub fn text(&self) -> String {
        let changes: Vec<String> = self.changes.iter().map(Change::to_string).collect();
        changes.join(" and ")
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.nodes == 1 { "" } else { "s" };
        write!(f, "{}: {} node{plural}", self.text(), self.nodes)
    }
}

impl Engine {
    /// The smallest changes to a pod that would let it fit, those first that open the most nodes. Pairs of changes are
    /// looked for only if no single one helps. Empty if the pod fits as it is, if a policy holds it back, or if nothing was
    /// found: only changes of the pod are tried, and of these not all.
    ///
    /// Looks at all nodes for each change, a bounded number of times, and leaves alone what the engine remembers.
    ///
    /// # Errors
    /// [`Unplaced::NoProfile`].
    pub fn remedies(&mut self, pod: &Pod) -> Result<Vec<Remedy>, Unplaced> {
        let place = self.profile_place(pod).ok_or_else(|| Unplaced::no_profile(pod))?;
        if self.held(place, pod).is_err() {
            return Ok(Vec::new());
        }
        let profile = self.profiles[place].clone();
        let mut search = Search { profile: &profile, cluster: &mut self.cluster, looks: 0 };
        if !search.fits(pod).is_empty() {
            return Ok(Vec::new());
        }
        let mut found = search.single(pod, &[]);
        if found.is_empty() {
            found = search.pairs(pod);
        }
        found.sort_by_key(|remedy| std::cmp::Reverse(remedy.nodes));
        Ok(found)
    }
}

struct Search<'s> {
    profile: &'s Arc<Profile>,
    cluster: &'s mut Cluster,
    looks: usize,
}

impl Search<'_> {
    /// The nodes that can take the pod; none once this was asked too often.
    fn fits(&mut self, pod: &Pod) -> NodeSet {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return NodeSet::new();
        }
        let shape = self.cluster.shape(pod);
        let question = Question { profile: self.profile, pod, shape: &shape };
        let nodes = self.cluster.nodes().clone();
        Cached::filtered(question, self.cluster, nodes).nodes().clone()
    }

    /// What helps with one change to the pod, to which these were made already.
    fn single(&mut self, pod: &Pod, made: &[Change]) -> Vec<Remedy> {
        let mut found = Vec::new();
        for resource in self.resources(pod) {
            found.extend(self.less(pod, &[resource], made));
        }
        for change in changes(self.cluster, pod) {
            found.extend(self.verified(pod, made, vec![change]));
        }
        found
    }

    /// What helps with two changes.
    fn pairs(&mut self, pod: &Pod) -> Vec<Remedy> {
        let mut found: Vec<Remedy> = Vec::new();
        let resources = self.resources(pod);
        for (index, first) in resources.iter().enumerate() {
            for second in &resources[index + 1..] {
                found.extend(self.less(pod, &[*first, *second], &[]));
            }
        }
        for change in changes(self.cluster, pod) {
            let Some(changed) = change.apply(pod) else { continue };
            for remedy in self.single(&changed, &[change]) {
                let known = found.iter().any(|other| same_changes(&other.changes, &remedy.changes));
                if !known {
                    found.push(remedy);
                }
            }
        }
        found
    }

    fn verified(&mut self, pod: &Pod, made: &[Change], changes: Vec<Change>) -> Option<Remedy> {
        let changed = changes.iter().try_fold(pod.clone(), |pod, change| change.apply(&pod))?;
        let nodes = self.fits(&changed).len();
        let changes = made.iter().cloned().chain(changes).collect();
        (nodes > 0).then_some(Remedy { changes, nodes })
    }

    fn resources(&mut self, pod: &Pod) -> Vec<ResourceId> {
        let shape = self.cluster.shape(pod);
        shape.requests().amounts().iter().filter(|(_, amount)| *amount > 0).map(|(resource, _)| *resource).collect()
    }

    /// Less of these resources: as little less as lets it fit anywhere; of one alone also as much as opens half of the nodes
    /// that it can open, or more.
    fn less(&mut self, pod: &Pod, resources: &[ResourceId], made: &[Change]) -> Vec<Remedy> {
        let Some(without) = self.without(pod, resources) else { return Vec::new() };
        // Where nothing but these resources is in the way.
        let opened = self.fits(&without);
        let mut lacks: Vec<Vec<i64>> = opened.iter().map(|node| self.lacks(pod, node, resources)).collect();
        lacks.retain(|lack| lack.iter().all(|by| *by > 0));
        let shape = self.cluster.shape(pod);
        let part = |lack: &Vec<i64>| -> i128 {
            // Thousandths of what is asked for, so that cores and bytes can be compared.
            let parts = lack.iter().zip(resources);
            parts
                .map(|(by, resource)| i128::from(*by) * 1000 / i128::from(shape.requests().amount(*resource).max(1)))
                .sum()
        };
        lacks.sort_by_cached_key(|lack| (part(lack), lack.clone()));
        let Some(smallest) = lacks.first().cloned() else { return Vec::new() };
        let mut steps = vec![smallest];
        if resources.len() == 1 {
            steps.extend(lacks.get(lacks.len() / 2).cloned());
            steps.dedup();
        }
        let names: Vec<String> = resources.iter().map(|id| self.cluster.resource_name(*id).to_owned()).collect();
        let steps = steps.into_iter().filter_map(|lack| {
            let less = names.iter().zip(lack).map(|(name, by)| Change::Less { resource: name.clone(), by });
            self.verified(pod, made, less.collect())
        });
        steps.collect()
    }

    /// The pod as if it asked for nothing of these resources.
    fn without(&mut self, pod: &Pod, resources: &[ResourceId]) -> Option<Pod> {
        let shape = self.cluster.shape(pod);
        resources.iter().try_fold(pod.clone(), |pod, resource| {
            let name = self.cluster.resource_name(*resource).to_owned();
            let overhead = pod.spec.overhead.get(&name);
            let overhead =
                overhead.map_or(0, |amount| if name == "cpu" { amount.milli_value() } else { amount.value() });
            Change::Less { resource: name, by: shape.requests().amount(*resource) - overhead }.apply(&pod)
        })
    }

    /// How much more of each resource the pod wants than the node has left, pods counted for which room is being made there.
    fn lacks(&mut self, pod: &Pod, node: NodeId, resources: &[ResourceId]) -> Vec<i64> {
        let shape = self.cluster.shape(pod);
        let ahead = nominated_ahead(Question { profile: self.profile, pod, shape: &shape }, self.cluster, node);
        let ahead: Vec<_> = ahead.iter().map(|pod| self.cluster.shape(pod)).collect();
        let at = |column: &[i64]| column.get(node.index()).copied().unwrap_or(0);
        let lack = |resource: &ResourceId| {
            let promised: i64 = ahead.iter().map(|shape| shape.requests().amount(*resource)).sum();
            let taken = at(self.cluster.requested(*resource)) + promised;
            shape.requests().amount(*resource) + taken - at(self.cluster.allocatable(*resource))
        };
        resources.iter().map(lack).collect()
    }
}

fn same_changes(a: &[Change], b: &[Change]) -> bool {
    a.len() == b.len() && a.iter().all(|change| b.contains(change))
}

/// The changes worth a try, resources aside.
fn changes(cluster: &Cluster, pod: &Pod) -> Vec<Change> {
    let spec = &pod.spec;
    let mut changes = tolerations(cluster, pod);
    let selector = spec.node_selector.iter();
    changes.extend(selector.map(|(key, value)| Change::WithoutNodeSelector { key: key.clone(), value: value.clone() }));
    let spread = spec.topology_spread_constraints.iter();
    let hard = spread.filter(|of| of.when_unsatisfiable == UnsatisfiableConstraintAction::DoNotSchedule);
    changes.extend(hard.map(|constraint| Change::WithoutSpread(Box::new(constraint.clone()))));
    if let Some(affinity) = spec.affinity.as_deref() {
        let node = affinity.node_affinity.as_ref();
        if node.is_some_and(|node| node.required_during_scheduling_ignored_during_execution.is_some()) {
            changes.push(Change::WithoutNodeAffinity);
        }
        let near = affinity.pod_affinity.iter().flat_map(|of| &of.required_during_scheduling_ignored_during_execution);
        changes.extend(near.map(|term| Change::WithoutPodAffinity(Box::new(term.clone()))));
        let far = affinity.pod_anti_affinity.iter();
        let far = far.flat_map(|of| &of.required_during_scheduling_ignored_during_execution);
        changes.extend(far.map(|term| Change::WithoutPodAntiAffinity(Box::new(term.clone()))));
    }
    changes.extend(ports(cluster, pod));
    changes
}

/// A toleration for each taint that keeps the pod off.
fn tolerations(cluster: &Cluster, pod: &Pod) -> Vec<Change> {
    let tolerated = |taint: &Taint| pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, taint));
    let repels = |taint: &Taint| matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute);
    let mut taints: Vec<(Taint, usize)> = (cluster.taints())
        .filter(|(_, taint, nodes)| repels(taint) && !nodes.is_empty() && !tolerated(taint))
        .map(|(_, taint, nodes)| (Taint { time_added: None, ..taint.clone() }, nodes.len()))
        .collect();
    let cordoned = Taint { key: UNSCHEDULABLE.to_owned(), effect: TaintEffect::NoSchedule, ..Taint::default() };
    if !cluster.unschedulable().is_empty()
        && !tolerated(&cordoned)
        && taints.iter().all(|(taint, _)| *taint != cordoned)
    {
        taints.push((cordoned, cluster.unschedulable().len()));
    }
    taints.sort_by_key(|(_, nodes)| std::cmp::Reverse(*nodes));
    taints.into_iter().take(TAINTS_MAX).map(|(taint, _)| Change::Tolerate(taint)).collect()
}

/// For each port of the node that the pod wants and some pod has taken, one that nobody has.
fn ports(cluster: &Cluster, pod: &Pod) -> Vec<Change> {
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let wanted: Vec<i32> =
        containers.flat_map(|container| &container.ports).map(|port| port.host_port).filter(|port| *port > 0).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let with_ports = cluster.nodes_with_ports();
    let taken: Vec<&HostPort> = with_ports.iter().flat_map(|node| cluster.ports_of(node)).collect();
    let is_free = |port: &i32| !wanted.contains(port) && taken.iter().all(|taken| taken.port != *port);
    let Some(free) = (1..=i32::from(u16::MAX)).rev().find(is_free) else { return Vec::new() };
    let mut changes: Vec<Change> = Vec::new();
    for port in wanted {
        if let Some(taken) = taken.iter().find(|taken| taken.port == port) {
            let change = Change::OtherHostPort { port: HostPort::clone(taken), free };
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
    }
    changes
}
