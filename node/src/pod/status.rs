//! The status of a pod, as clients read it: a pure function of what is known of the pod.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::pod::helpers::set_condition;
use longshore_core::api::pod::{
    ContainerState, ContainerStateTerminated, HostIP, PodCondition, PodIP, PodPhase, PodStatus, qos_class,
};
use longshore_core::api::{ConditionStatus, Pod};

use super::conditions::{self, Marks};
use super::config::debugging_container;
use super::container_status::{Telling, container_status};
use super::observed::{Net, Observed, is_sidecar};
use super::phase::{is_final, last_phase, phase};
use super::plan::{Ending, ending};

/// What of the node stands in its pods' statuses.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The runtime's name, the scheme of container ids.
    pub(crate) scheme: String,
    /// Addresses of the node, the primary first.
    pub(crate) host_ips: Vec<String>,
}

/// A moment as it stands in objects: in whole seconds. A status with fractions would never equal what the server has.
pub(crate) fn whole(moment: Timestamp) -> Time {
    Time(Timestamp::from_second(moment.as_second()).unwrap_or(moment))
}

/// The status of the pod now.
pub(crate) fn status(pod: &Pod, observed: &Observed, facts: &Facts, now: Timestamp) -> PodStatus {
    let last = &observed.remembered;
    let ending = ending(pod, observed, now);
    let stopped = ending.is_some() && !observed.is_running();
    if stopped && is_final(&last.phase) && observed.sandbox.is_none() {
        return again(pod, last);
    }
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation.unwrap_or(0),
        nominated_node_name: String::new(),
        start_time: last.start_time.clone().or(Some(whole(now))),
        qos_class: qos_class(&pod.spec),
        host_ip: facts.host_ips.first().cloned().unwrap_or_default(),
        host_ips: facts.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect(),
        // Conditions of others, and what others note, stay.
        ..pod.status.clone()
    };
    if let Some(refusal) = &observed.refusal {
        status.phase = PodPhase::Failed;
        status.reason.clone_from(&refusal.reason);
        status.message = format!("Pod was rejected: {}", refusal.message);
        return status;
    }
    addresses(pod, observed, &mut status);
    status.phase = match ending {
        _ if is_final(&last.phase) => last.phase.clone(),
        // A pod that is not wanted any more ends when the last container has.
        Some(Ending::Deleted) if stopped => last_phase(pod, observed),
        Some(Ending::DeadlineExceeded | Ending::Evicted) if stopped => PodPhase::Failed,
        _ => match phase(pod, observed) {
            // What still runs has to stop first: a pod that has ended uses nothing.
            phase if is_final(&phase) && !stopped => PodPhase::Running,
            phase => phase,
        },
    };
    if ending == Some(Ending::DeadlineExceeded) {
        status.reason = "DeadlineExceeded".to_owned();
        status.message = "Pod was active on the node longer than the specified deadline".to_owned();
    }
    if let (Some(Ending::Evicted), Some(excess)) = (ending, &observed.excess) {
        status.reason = "Evicted".to_owned();
        status.message.clone_from(excess);
        let disruption = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: ConditionStatus::True,
            reason: "TerminationByKubelet".to_owned(),
            message: excess.clone(),
            ..PodCondition::default()
        };
        set_condition(&mut status, disruption, whole(now).0);
    }
    let idle = if pod.spec.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let telling = Telling { pod, observed, facts, idle, ends: ending.is_some(), now };
    containers(&telling, &mut status);
    if ending == Some(Ending::Deleted) && stopped {
        account_for_all(&mut status);
    }
    // An agent that has just taken a pod over does not know yet that it is connected, but it is.
    let taken_over = observed.net == Net::Unknown && !last.pod_ip.is_empty();
    let has_sandbox = observed.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready);
    let marks = Marks {
        sandbox: observed.is_connected() || has_sandbox && taken_over,
        initialized: is_initialized(pod, observed, &status),
        phase: status.phase.clone(),
    };
    conditions::update_resize(pod, observed, &mut status, whole(now).0);
    conditions::update(pod, &mut status, &marks, whole(now).0);
    status
}

/// A pod that has ended keeps the status it ended with.
fn again(pod: &Pod, last: &PodStatus) -> PodStatus {
    let mut status = last.clone();
    status.observed_generation = pod.metadata.generation.unwrap_or(0);
    status
}

fn addresses(pod: &Pod, observed: &Observed, status: &mut PodStatus) {
    let ips: Vec<String> = match &observed.net {
        Net::Attached(addresses) => addresses.iter().map(ToString::to_string).collect(),
        // An adopted pod has the addresses it had until they are known again; one that ended keeps its last.
        _ => return,
    };
    let ips = if pod.spec.host_network { status.host_ips.iter().map(|host| host.ip.clone()).collect() } else { ips };
    status.pod_ip = ips.first().cloned().unwrap_or_default();
    status.pod_ips = ips.into_iter().map(|ip| PodIP { ip }).collect();
}

fn containers(telling: &Telling<'_>, status: &mut PodStatus) {
    let spec = &telling.pod.spec;
    let of = |container| container_status(telling, container);
    status.init_container_statuses = spec.init_containers.iter().map(of).collect();
    status.container_statuses = spec.containers.iter().map(of).collect();
    status.ephemeral_container_statuses = spec
        .ephemeral_containers
        .iter()
        .map(|debugging| container_status(telling, &debugging_container(debugging)))
        .collect();
    for found in &mut status.ephemeral_container_statuses {
        // Nobody asks how they are.
        found.ready = false;
        found.started = None;
        found.resources = None;
    }
    for (init, found) in spec.init_containers.iter().zip(&mut status.init_container_statuses) {
        if !is_sidecar(init) {
            let well = found.state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
            found.ready = well;
            found.started = Some(found.state.running.is_some());
        }
    }
}

/// Whether all init containers have done their part.
fn is_initialized(pod: &Pod, observed: &Observed, status: &PodStatus) -> bool {
    let begun = observed.is_initialized(pod) || status.phase == PodPhase::Succeeded;
    begun
        || pod
            .spec
            .init_containers
            .iter()
            .zip(&status.init_container_statuses)
            .all(|(init, found)| if is_sidecar(init) { found.started == Some(true) } else { found.ready })
}

/// In the last status of a deleted pod every container has ended: what is not known to have ended well counts as
/// failed, as upstream has it.
fn account_for_all(status: &mut PodStatus) {
    let regular = status.container_statuses.iter_mut().chain(&mut status.init_container_statuses);
    for found in regular {
        found.ready = false;
        found.started = Some(false);
        if found.state.terminated.is_some() {
            continue;
        }
        found.state = match found.last_state.terminated.take() {
            Some(ended) => ContainerState { terminated: Some(ended), ..ContainerState::default() },
            None => ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: "ContainerStatusUnknown".to_owned(),
                    message: "The container could not be located when the pod was terminated".to_owned(),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            },
        };
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
