//! Changes to a pod that may let it fit.

use std::fmt;

use longshore_core::api::ResourceList;
use longshore_core::api::node::Taint;
use longshore_core::api::pod::helpers::{ResourceOptions, is_pod_level_resource, pod_requests};
use longshore_core::api::pod::{Pod, PodAffinityTerm, Toleration, TolerationOperator, TopologySpreadConstraint};
use longshore_core::quantity::{Format, Quantity};
use longshore_core::scheduling::HostPort;

/// Something that could be changed about a pod. Prints as what is to be done, such as `200m less cpu`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Ask for less of a resource.
    Less {
        /// The resource.
        resource: String,
        /// By how much: thousandths of a core for `cpu`, else whole units.
        by: i64,
    },
    /// Tolerate a taint.
    Tolerate(Taint),
    /// Do without one label of the node selector.
    WithoutNodeSelector {
        /// The label's key.
        key: String,
        /// The value asked for.
        value: String,
    },
    /// Do without the required node affinity.
    WithoutNodeAffinity,
    /// Do without a topology spread constraint.
    WithoutSpread(Box<TopologySpreadConstraint>),
    /// Do without a required term of pod affinity.
    WithoutPodAffinity(Box<PodAffinityTerm>),
    /// Do without a required term of pod anti-affinity.
    WithoutPodAntiAffinity(Box<PodAffinityTerm>),
    /// Take another port of the node.
    OtherHostPort {
        /// The port that is taken.
        port: HostPort,
        /// One that no node has taken.
        free: i32,
    },
}

impl Change {
    /// The pod with the change made; `None` if there is nothing to change.
    pub fn apply(&self, pod: &Pod) -> Option<Pod> {
        let mut changed = pod.clone();
        let spec = &mut changed.spec;
        let done = match self {
            Self::Less { resource, by } => ask_for_less(&mut changed, resource, *by)?,
            Self::Tolerate(taint) => {
                spec.tolerations.push(Toleration {
                    key: taint.key.clone(),
                    operator: TolerationOperator::Equal,
                    value: taint.value.clone(),
                    effect: taint.effect.as_str().to_owned(),
                    toleration_seconds: None,
                });
                true
            }
            Self::WithoutNodeSelector { key, .. } => spec.node_selector.remove(key).is_some(),
            Self::WithoutNodeAffinity => {
                let affinity = spec.affinity.as_mut()?.node_affinity.as_mut()?;
                affinity.required_during_scheduling_ignored_during_execution.take().is_some()
            }
            Self::WithoutSpread(constraint) => take_out(&mut spec.topology_spread_constraints, constraint),
            Self::WithoutPodAffinity(term) => {
                let affinity = spec.affinity.as_mut()?.pod_affinity.as_mut()?;
                take_out(&mut affinity.required_during_scheduling_ignored_during_execution, term)
            }
            Self::WithoutPodAntiAffinity(term) => {
                let affinity = spec.affinity.as_mut()?.pod_anti_affinity.as_mut()?;
                take_out(&mut affinity.required_during_scheduling_ignored_during_execution, term)
            }
            Self::OtherHostPort { port, free } => {
                let containers = spec.init_containers.iter_mut().chain(&mut spec.containers);
                let ports = containers.flat_map(|container| &mut container.ports);
                // Whatever the protocol: the other one is free for all.
                let moved = ports.filter(|own| own.host_port == port.port).map(|own| own.host_port = *free);
                moved.count() > 0
            }
        };
        done.then_some(changed)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Less { resource, by } => write!(f, "{} less {resource}", quantity(resource, *by)),
            Self::Tolerate(Taint { key, value, effect, .. }) if value.is_empty() => {
                write!(f, "tolerate {key}:{}", effect.as_str())
            }
            Self::Tolerate(Taint { key, value, effect, .. }) => write!(f, "tolerate {key}={value}:{}", effect.as_str()),
            Self::WithoutNodeSelector { key, value } => write!(f, "without nodeSelector {key}={value}"),
            Self::WithoutNodeAffinity => f.write_str("without required node affinity"),
            Self::WithoutSpread(constraint) => {
                write!(f, "without topology spread over {}", constraint.topology_key)
            }
            Self::WithoutPodAffinity(term) => write!(f, "without pod affinity by {}", term.topology_key),
            Self::WithoutPodAntiAffinity(term) => write!(f, "without pod anti-affinity by {}", term.topology_key),
            Self::OtherHostPort { port, .. } => {
                write!(f, "another host port than {}/{}", port.port, port.protocol.as_str())
            }
        }
    }
}

fn take_out<T: PartialEq>(list: &mut Vec<T>, item: &T) -> bool {
    let place = list.iter().position(|other| other == item);
    place.map(|place| list.remove(place)).is_some()
}

/// Thousandths of a core for `cpu`, else whole units, in the format that people use for it.
pub(crate) fn quantity(resource: &str, amount: i64) -> Quantity {
    match resource {
        "cpu" => Quantity::from_milli(amount, Format::DecimalSi),
        "memory" | "ephemeral-storage" => Quantity::from_value(amount, Format::BinarySi),
        other if other.starts_with("hugepages-") => Quantity::from_value(amount, Format::BinarySi),
        _ => Quantity::from_value(amount, Format::DecimalSi),
    }
}

fn whole(list: &ResourceList, resource: &str) -> i64 {
    list.get(resource).map_or(0, |amount| if resource == "cpu" { amount.milli_value() } else { amount.value() })
}

/// Sees to it that the pod asks for less by this much in all. How that is shared out among its containers makes no
/// difference to scheduling, so all of it goes to the first. `None` if it does not ask for as much, its overhead aside.
fn ask_for_less(pod: &mut Pod, resource: &str, by: i64) -> Option<bool> {
    let own = ResourceOptions { exclude_overhead: true, ..ResourceOptions::default() };
    let left = whole(&pod_requests(pod, own), resource).checked_sub(by).filter(|left| *left >= 0)?;
    let left = quantity(resource, left);
    if let Some(level) = &mut pod.spec.resources
        && is_pod_level_resource(resource)
        && let Some(amount) = level.requests.get_mut(resource)
    {
        *amount = left;
        return Some(true);
    }
    for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
        container.resources.requests.remove(resource);
    }
    let first = pod.spec.containers.first_mut()?;
    first.resources.requests.insert(resource.to_owned(), left);
    Some(true)
}
