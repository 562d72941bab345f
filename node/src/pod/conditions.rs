//! The conditions of a pod that its node decides.

use jiff::Timestamp;
use longshore_core::api::pod::helpers::{condition, update_condition};
use longshore_core::api::pod::{ContainerStatus, PodCondition, PodPhase, PodStatus};
use longshore_core::api::{ConditionStatus, Pod};

use super::observed::{Life, Observed, Target, is_sidecar};
use super::resize::lack;

/// What the conditions tell beside the containers' statuses.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// The sandbox is there and connected.
    pub(crate) sandbox: bool,
    /// All init containers have done their part.
    pub(crate) initialized: bool,
    pub(crate) phase: PodPhase,
}

type Verdict = (ConditionStatus, &'static str, String);

fn holds() -> Verdict {
    (ConditionStatus::True, "", String::new())
}

/// Puts the node's conditions into a status whose containers are up to date; others stay.
pub(crate) fn update(pod: &Pod, status: &mut PodStatus, marks: &Marks, now: Timestamp) {
    let sandbox = if marks.sandbox { holds() } else { (ConditionStatus::False, "", String::new()) };
    let containers = containers_ready(pod, status, marks);
    let ready = ready(pod, status, &containers);
    let verdicts = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(pod, status, marks)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", holds()),
    ];
    for (type_, (holds, reason, message)) in verdicts {
        let generation = pod.metadata.generation.unwrap_or(0);
        let new = PodCondition {
            type_: type_.to_owned(),
            observed_generation: generation,
            status: holds,
            reason: reason.to_owned(),
            message,
            ..PodCondition::default()
        };
        update_condition(&mut status.conditions, new, now);
    }
}

/// Tells of a change of resources that is not granted, or not yet made.
pub(crate) fn update_resize(pod: &Pod, observed: &Observed, status: &mut PodStatus, now: Timestamp) {
    let pending = observed.pending.as_ref().map(|pending| (pending.reason.to_owned(), pending.message.clone()));
    let sidecars = pod.spec.init_containers.iter().filter(|init| is_sidecar(init));
    let lacks = pod.spec.containers.iter().chain(sidecars).any(|container| match observed.life(&container.name) {
        Life::Running(running) => lack(container, &running.resources).is_some(),
        _ => false,
    });
    let failure = observed.failures.get(&Target::Resources);
    let progress = lacks.then(|| match failure {
        Some(failure) => ("Error".to_owned(), failure.message.clone()),
        None => (String::new(), String::new()),
    });
    for (type_, verdict) in [("PodResizePending", pending), ("PodResizeInProgress", progress)] {
        match verdict {
            Some((reason, message)) => {
                let new = PodCondition {
                    type_: type_.to_owned(),
                    observed_generation: pod.metadata.generation.unwrap_or(0),
                    status: ConditionStatus::True,
                    reason,
                    message,
                    ..PodCondition::default()
                };
                update_condition(&mut status.conditions, new, now);
            }
            None => status.conditions.retain(|condition| condition.type_ != type_),
        }
    }
}

fn initialized(pod: &Pod, status: &PodStatus, marks: &Marks) -> Verdict {
    if marks.phase == PodPhase::Succeeded {
        return (ConditionStatus::True, "PodCompleted", String::new());
    }
    if marks.initialized {
        return holds();
    }
    let incomplete = pod
        .spec
        .init_containers
        .iter()
        .zip(&status.init_container_statuses)
        .filter(|(init, found)| if is_sidecar(init) { found.started != Some(true) } else { !found.ready });
    let names: Vec<&str> = incomplete.map(|(init, _)| init.name.as_str()).collect();
    let message = format!("containers with incomplete status: [{}]", names.join(" "));
    (ConditionStatus::False, "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, status: &PodStatus, marks: &Marks) -> Verdict {
    match marks.phase {
        PodPhase::Succeeded => return (ConditionStatus::False, "PodCompleted", String::new()),
        PodPhase::Failed => return (ConditionStatus::False, "PodFailed", String::new()),
        _ => {}
    }
    let sidecars = pod.spec.init_containers.iter().zip(&status.init_container_statuses);
    let sidecars = sidecars.filter(|(init, _)| is_sidecar(init)).map(|(_, found)| found);
    let unready = sidecars.chain(&status.container_statuses).filter(|found: &&ContainerStatus| !found.ready);
    let names: Vec<&str> = unready.map(|found| found.name.as_str()).collect();
    if names.is_empty() {
        return holds();
    }
    let message = format!("containers with unready status: [{}]", names.join(" "));
    (ConditionStatus::False, "ContainersNotReady", message)
}

fn ready(pod: &Pod, status: &PodStatus, containers: &Verdict) -> Verdict {
    if containers.0 != ConditionStatus::True {
        return containers.clone();
    }
    let mut complaints = Vec::new();
    for gate in &pod.spec.readiness_gates {
        let type_ = &gate.condition_type;
        match condition(status, type_) {
            None => {
                complaints.push(format!("corresponding condition of pod readiness gate \"{type_}\" does not exist."))
            }
            Some(found) if found.status != ConditionStatus::True => complaints
                .push(format!("the status of pod readiness gate \"{type_}\" is not \"True\", but {}", found.status)),
            Some(_) => {}
        }
    }
    if complaints.is_empty() {
        return holds();
    }
    (ConditionStatus::False, "ReadinessGatesNotReady", complaints.join(", "))
}
