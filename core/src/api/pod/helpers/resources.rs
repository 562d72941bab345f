//! What a pod asks for and may use, all its containers together.

use rustc_hash::FxHashMap;

use crate::api::pod::{Container, ContainerRestartPolicy, ContainerStatus, Pod};
use crate::api::resources::ResourceList;

/// What counts when a pod's resources are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceOptions {
    /// Also look at what the node granted and what runs, as matters while a pod is resized.
    pub use_status: bool,
    /// Leave out the overhead of the pod's runtime class.
    pub exclude_overhead: bool,
    /// Ignore resources given for the pod as a whole.
    pub skip_pod_level: bool,
}

/// Whether a resource may be given for a pod as a whole: CPU, memory and huge pages.
pub fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the pod as a whole has requests or limits that count.
pub fn has_pod_level_resources(pod: &Pod) -> bool {
    pod.spec.resources.as_ref().is_some_and(|resources| {
        resources.requests.keys().chain(resources.limits.keys()).any(|name| is_pod_level_resource(name))
    })
}

/// What the pod asks for.
///
/// Containers that run at the same time are added up; init containers that run one after the other count by the
/// largest, each together with the sidecars started before it. Requests of the pod as a whole replace the sum.
pub fn pod_requests(pod: &Pod, options: ResourceOptions) -> ResourceList {
    let mut total = aggregate(pod, options, requests_of, |container| &container.resources.requests);
    if !options.skip_pod_level
        && let Some(resources) = &pod.spec.resources
    {
        replace(&mut total, &resources.requests);
    }
    if !options.exclude_overhead {
        add(&mut total, &pod.spec.overhead);
    }
    total
}

/// What the pod may use. Overhead is added only to resources that are limited to something.
pub fn pod_limits(pod: &Pod, options: ResourceOptions) -> ResourceList {
    let mut total = aggregate(pod, options, limits_of, |container| &container.resources.limits);
    if !options.skip_pod_level
        && let Some(resources) = &pod.spec.resources
    {
        replace(&mut total, &resources.limits);
    }
    if !options.exclude_overhead {
        for (name, amount) in &pod.spec.overhead {
            if let Some(limit) = total.get_mut(name).filter(|limit| !limit.is_zero()) {
                *limit += amount;
            }
        }
    }
    total
}

/// What the pod asks of one resource: thousandths of a core for `cpu`, 1 for `pods`, else whole units. Overhead counts only
/// where the pod asks for something itself.
pub fn resource_request(pod: &Pod, name: &str) -> i64 {
    if name == "pods" {
        return 1;
    }
    let own = pod_requests(pod, ResourceOptions { exclude_overhead: true, ..ResourceOptions::default() });
    let Some(mut amount) = own.get(name).cloned().filter(|amount| !amount.is_zero()) else { return 0 };
    if let Some(overhead) = pod.spec.overhead.get(name) {
        amount += overhead;
    }
    if name == "cpu" { amount.milli_value() } else { amount.value() }
}

fn aggregate(
    pod: &Pod,
    options: ResourceOptions,
    with_status: fn(&Pod, &Container, &ContainerStatus) -> ResourceList,
    given: fn(&Container) -> &ResourceList,
) -> ResourceList {
    let mut statuses: FxHashMap<&str, &ContainerStatus> = FxHashMap::default();
    if options.use_status {
        let all = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        statuses.extend(all.map(|status| (status.name.as_str(), status)));
    }
    let amounts = |container: &Container| match statuses.get(container.name.as_str()) {
        Some(status) if status.resources.is_some() => with_status(pod, container, status),
        _ => given(container).clone(),
    };

    let mut total = ResourceList::new();
    for container in &pod.spec.containers {
        add(&mut total, &amounts(container));
    }
    let (mut sidecars, mut peak) = (ResourceList::new(), ResourceList::new());
    for container in &pod.spec.init_containers {
        if container.restart_policy == Some(ContainerRestartPolicy::Always) {
            let own = amounts(container);
            add(&mut total, &own);
            add(&mut sidecars, &own);
            max(&mut peak, &sidecars);
        } else {
            let mut own = given(container).clone();
            add(&mut own, &sidecars);
            max(&mut peak, &own);
        }
    }
    max(&mut total, &peak);
    total
}

fn requests_of(pod: &Pod, container: &Container, status: &ContainerStatus) -> ResourceList {
    let mut amounts =
        if resize_is_infeasible(pod) { ResourceList::new() } else { container.resources.requests.clone() };
    if let Some(actual) = &status.resources {
        max(&mut amounts, &actual.requests);
    }
    max(&mut amounts, &status.allocated_resources);
    amounts
}

fn limits_of(pod: &Pod, container: &Container, status: &ContainerStatus) -> ResourceList {
    let mut amounts = if resize_is_infeasible(pod) { ResourceList::new() } else { container.resources.limits.clone() };
    if let Some(actual) = &status.resources {
        max(&mut amounts, &actual.limits);
    }
    amounts
}

fn resize_is_infeasible(pod: &Pod) -> bool {
    super::condition(&pod.status, "PodResizePending").is_some_and(|condition| condition.reason == "Infeasible")
}

fn add(total: &mut ResourceList, amounts: &ResourceList) {
    for (name, amount) in amounts {
        match total.get_mut(name) {
            Some(sum) => *sum += amount,
            None => drop(total.insert(name.clone(), amount.clone())),
        }
    }
}

fn max(total: &mut ResourceList, amounts: &ResourceList) {
    for (name, amount) in amounts {
        if total.get(name).is_none_or(|most| amount > most) {
            total.insert(name.clone(), amount.clone());
        }
    }
}

fn replace(total: &mut ResourceList, amounts: &ResourceList) {
    for (name, amount) in amounts.iter().filter(|(name, _)| is_pod_level_resource(name)) {
        total.insert(name.clone(), amount.clone());
    }
}
