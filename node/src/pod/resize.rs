//! Changes of the resources of a pod that runs: what of a change the node grants, and what is left to be done about it.
//!
//! What is granted stands in the status (`allocatedResources`, and the limits that are in force), so that the next agent
//! knows it. All decisions about a pod are made with what is granted instead of what is asked for.

use std::sync::Arc;

use longshore_core::api::pod::helpers::{ResourceOptions, is_terminal, pod_requests};
use longshore_core::api::pod::{Container, ContainerStatus, PodStatus, ResourceRequirements};
use longshore_core::api::{Pod, ResourceList};
use longshore_core::quantity::{Format, Quantity};
use longshore_core::runtime::Resources;

use super::config::limits;
use super::observed::is_sidecar;
use crate::admission;

/// What can change in place.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Why what is asked for is not granted: a reason of the condition `PodResizePending`, and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The pod with the resources that it has been granted, and why these are not what it asks for. `give` gives it what it asks for,
/// or says why not.
pub(crate) fn grant(
    pod: &Arc<Pod>,
    status: &PodStatus,
    give: impl FnOnce(&Arc<Pod>) -> Result<(), Pending>,
) -> (Arc<Pod>, Option<Pending>) {
    match held(pod, status).filter(|_| !is_terminal(pod)) {
        None => (pod.clone(), None),
        Some(held) => match give(pod) {
            Ok(()) => (pod.clone(), None),
            Err(pending) => (held, Some(pending)),
        },
    }
}

/// The pod with the resources that it was granted, if these are not what it asks for.
pub(crate) fn held(pod: &Arc<Pod>, status: &PodStatus) -> Option<Arc<Pod>> {
    let other = |container: &Container| {
        let mut statuses = status.container_statuses.iter().chain(&status.init_container_statuses);
        let known = statuses.find(|status| status.name == container.name).and_then(allocated);
        known.filter(|known| !same(known, &container.resources))
    };
    let sidecars = pod.spec.init_containers.iter().filter(|init| is_sidecar(init));
    // Mostly they are, and no copy is needed.
    if pod.spec.containers.iter().chain(sidecars).all(|container| other(container).is_none()) {
        return None;
    }
    let mut granted = Pod::clone(pod);
    for container in resizable(&mut granted) {
        let Some(known) = other(container) else { continue };
        for name in RESIZABLE {
            set(&mut container.resources.requests, name, known.requests.get(name).cloned());
            set(&mut container.resources.limits, name, known.limits.get(name).cloned());
        }
    }
    Some(Arc::new(granted))
}

fn resizable(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    let sidecars = pod.spec.init_containers.iter_mut().filter(|init| is_sidecar(init));
    pod.spec.containers.iter_mut().chain(sidecars)
}

/// What a container was granted; `None` if nobody has said so yet.
fn allocated(status: &ContainerStatus) -> Option<ResourceRequirements> {
    let actual = status.resources.clone()?;
    Some(ResourceRequirements { requests: status.allocated_resources.clone(), ..actual })
}

fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    RESIZABLE
        .iter()
        .all(|name| a.requests.get(*name) == b.requests.get(*name) && a.limits.get(*name) == b.limits.get(*name))
}

fn set(list: &mut ResourceList, name: &str, amount: Option<Quantity>) {
    match amount {
        Some(amount) => drop(list.insert(name.to_owned(), amount)),
        None => drop(list.remove(name)),
    }
}

/// Whether a pod asks for more than it holds.
pub(crate) fn grows(held: &Pod, pod: &Pod) -> bool {
    let [held, asked] = [held, pod].map(|pod| pod_requests(pod, ResourceOptions::default()));
    RESIZABLE.iter().any(|name| asked.get(*name) > held.get(*name))
}

/// Whether the node has what a pod asks for beside others.
pub(crate) fn fits<'a>(
    pod: &Pod,
    allocatable: &ResourceList,
    others: impl Iterator<Item = &'a Arc<Pod>> + Clone,
) -> Result<(), Pending> {
    let requests = pod_requests(pod, ResourceOptions::default());
    for name in RESIZABLE {
        let (Some(request), Some(capacity)) = (requests.get(name), allocatable.get(name)) else { continue };
        if request > capacity {
            let unit = |quantity: &Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            let (request, capacity) = (unit(request), unit(capacity));
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {request}, capacity: {capacity}");
            return Err(Pending { reason: "Infeasible", message });
        }
    }
    let fits = admission::fits(pod, allocatable, others);
    fits.map_err(|refusal| Pending { reason: "Deferred", message: refusal.message })
}

/// What of a running container is not yet as it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// New limits bring it there.
    Limits(Resources),
    /// It has to be restarted for them.
    Restart,
}

/// What is left to be done for a container with these limits.
pub(crate) fn lack(container: &Container, present: &Resources) -> Option<Lack> {
    let wanted = Resources { oom_score_adj: present.oom_score_adj, ..limits(container) };
    let cpu =
        (wanted.cpu_request_milli, wanted.cpu_limit_milli) != (present.cpu_request_milli, present.cpu_limit_milli);
    let memory = wanted.memory_limit != present.memory_limit;
    let restarts = |name: &str| {
        container.resize_policy.iter().any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    };
    if cpu && restarts("cpu") || memory && restarts("memory") {
        Some(Lack::Restart)
    } else {
        (cpu || memory).then_some(Lack::Limits(wanted))
    }
}

/// The resources that are in force for a container with these limits, in the words of its spec where they are the same.
pub(crate) fn in_force(
    container: &Container,
    present: &Resources,
    before: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let granted = ResourceRequirements { claims: Vec::new(), ..container.resources.clone() };
    if lack(container, present).is_none() {
        return granted;
    }
    let mut actual = before.and_then(|before| before.resources.clone()).unwrap_or(granted);
    let milli = |amount: u64| Quantity::from_milli(i64::try_from(amount).unwrap_or(i64::MAX), Format::DecimalSi);
    let bytes = |amount: u64| Quantity::from_value(i64::try_from(amount).unwrap_or(i64::MAX), Format::BinarySi);
    let request = present.cpu_request_milli;
    set(&mut actual.requests, "cpu", (request > 0).then(|| milli(request)));
    set(&mut actual.limits, "cpu", present.cpu_limit_milli.map(milli));
    set(&mut actual.limits, "memory", present.memory_limit.map(bytes));
    actual
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
