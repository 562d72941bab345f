//! Gang: pods that are of use only together get nodes together or not at all.

use std::time::Duration;

use longshore_core::api::PodGroup;
use longshore_core::api::pod::Pod;
use longshore_core::api::pod_group::group_of;
use longshore_core::informer::ObjectKey;
use longshore_core::kind::{AnyObject, KindType};
use longshore_core::quantity::Quantity;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, Grouping, NodeId, NodeSet, Permit, Permitted, Policy, PreFilter, Reach,
    Refusal, State, Update, Waiting,
};

/// Pods that name a [`PodGroup`] of their namespace by the label `scheduling.x-k8s.io/pod-group` wait until
/// `spec.minMember` of them are there; then they are given nodes, which are held until so many have one. If that cannot be any
/// more, or takes longer than `spec.scheduleTimeoutSeconds`, all give their nodes back. Without `minResources` free in the
/// whole cluster nothing is begun.
///
/// Pods of a group that does not exist are refused until it does. Who uses an [`Engine`](crate::Engine) without a
/// [`Scheduler`](crate::Scheduler) tells it of the pods of groups by [`Cluster::put_member`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gang {
    timeout: Duration,
}

impl Default for Gang {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60) }
    }
}

impl Gang {
    /// The policy with another timeout than 60 seconds, for groups that have none of their own.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

/// A pod's group, as the cluster knows it.
struct Known<'c> {
    name: &'c str,
    object: &'c PodGroup,
    present: usize,
    settled: usize,
}

impl<'c> Known<'c> {
    /// `None` for a pod without a group.
    fn of(cycle: Cycle<'c>) -> Option<Result<Self, Refusal>> {
        let name = group_of(cycle.pod())?;
        let namespace = cycle.shape().namespace();
        let cluster = cycle.cluster();
        let Some(object) = cluster.object::<PodGroup>(namespace, name) else {
            return Some(Err(Refusal::unresolvable(format!("pod group {name} does not exist"))));
        };
        let (present, settled) =
            cluster.group(namespace, name).map_or((0, 0), |group| (group.present(), group.settled()));
        Some(Ok(Self { name, object, present, settled }))
    }

    /// Whether it may be begun with.
    fn check(&self, cluster: &Cluster) -> Result<(), Refusal> {
        let Self { name, present, .. } = *self;
        let least = self.object.min_member();
        if present < least {
            return Err(Refusal::unresolvable(format!("pod group {name} has {present} of {least} pods")));
        }
        if self.settled > 0 {
            return Ok(());
        }
        for (resource, wanted) in &self.object.spec.min_resources {
            let free = free(cluster, resource);
            let whole = if resource == "cpu" { wanted.milli_value() } else { wanted.value() };
            if free < whole {
                let free = if resource == "cpu" {
                    Quantity::from_milli(free, Default::default())
                } else {
                    Quantity::from_value(free, Default::default())
                };
                let why = format!("pod group {name} needs {wanted} of {resource}, of which {free} are free");
                return Err(Refusal::unresolvable(why));
            }
        }
        Ok(())
    }
}

/// What nobody asked for of a resource, on all nodes together.
fn free(cluster: &Cluster, resource: &str) -> i64 {
    let Some(id) = cluster.resource(resource) else { return 0 };
    let (allocatable, requested) = (cluster.allocatable(id), cluster.requested(id));
    let requested = if resource == "pods" { cluster.pod_counts() } else { requested };
    let at = |column: &[i64], node: NodeId| column.get(node.index()).copied().unwrap_or(0);
    cluster.nodes().iter().map(|node| (at(allocatable, node) - at(requested, node)).max(0)).sum()
}

fn is_group_of(pod: &Pod, kind: &KindType, object: &dyn AnyObject) -> bool {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    kind == KindType::of::<PodGroup>()
        && group_of(pod).is_some_and(|group| ObjectKey::of(object) == ObjectKey::new(namespace, group))
}

impl Policy for Gang {
    fn name(&self) -> &str {
        "Gang"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        vec![KindType::of::<PodGroup>()]
    }

    /// That another pod of the group came, or went, the queue knows by itself.
    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::ObjectChanged { kind, object } => is_group_of(pod, kind, *object),
            ClusterEvent::NodeUpdated { old, new } => old.status.allocatable != new.status.allocatable,
            ClusterEvent::NodeAdded(_) | ClusterEvent::PodRemoved(_) | ClusterEvent::PodForgotten(_) => true,
            _ => false,
        }
    }

    fn as_grouping(&self) -> Option<&dyn Grouping> {
        Some(self)
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_permit(&self) -> Option<&dyn Permit> {
        Some(self)
    }
}

impl Grouping for Gang {
    fn group<'p>(&self, pod: &'p Pod) -> Option<&'p str> {
        group_of(pod)
    }

    fn go_on(&self, cycle: Cycle<'_>, left: usize) -> Result<(), Refusal> {
        let Some(known) = Known::of(cycle) else { return Ok(()) };
        let Known { name, object, settled, present } = known?;
        let least = object.min_member();
        if settled + left >= least {
            Ok(())
        } else if present < least {
            Err(Refusal::unresolvable(format!("pod group {name} has {present} of {least} pods")))
        } else {
            let why = format!("pod group {name} does not fit as a whole: {settled} of {least} pods found a node");
            Err(Refusal::unschedulable(why))
        }
    }
}

impl Filter for Gang {
    fn pre_filter(&self, cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        match Known::of(cycle) {
            Some(known) => known?.check(cycle.cluster()).map(|()| PreFilter::Skip),
            None => Ok(PreFilter::Skip),
        }
    }

    fn filter(&self, _cycle: Cycle<'_>, _state: &State, _candidates: &mut Candidates) {}

    fn reach(&self) -> Reach {
        Reach::Cluster
    }

    /// Nothing to say about any node, unless there is now a reason not to begin.
    fn update(&self, cycle: Cycle<'_>, state: &mut State, _changes: &[Change], _affected: &mut NodeSet) -> Update {
        if self.pre_filter(cycle, state).is_ok() { Update::Done } else { Update::Recompute }
    }
}

impl Permit for Gang {
    fn permit(&self, cycle: Cycle<'_>, _node: NodeId, waiting: &mut dyn Waiting) -> Permitted {
        let known = match Known::of(cycle) {
            None => return Permitted::Allow,
            Some(Err(why)) => return Permitted::Refuse(why),
            Some(Ok(known)) => known,
        };
        // The pod itself has its node already, and so have those that wait.
        if known.settled < known.object.min_member() {
            let own = known.object.spec.schedule_timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            return Permitted::Wait(own.filter(|seconds| *seconds > 0).map_or(self.timeout, Duration::from_secs));
        }
        let namespace = &cycle.pod().metadata.namespace;
        for (pod, _) in waiting.pods() {
            if pod.metadata.namespace == *namespace && group_of(&pod) == Some(known.name) {
                waiting.allow(&ObjectKey::of(&*pod));
            }
        }
        Permitted::Allow
    }
}

#[cfg(test)]
#[path = "gang_tests.rs"]
mod tests;
