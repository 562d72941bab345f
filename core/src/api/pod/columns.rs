//! What `kubectl get pods` shows, in upstream's words.

use jiff::Timestamp;
use serde_json::Value;

use super::{Container, ContainerRestartPolicy, ContainerStatus, Pod, PodStatus, PodTemplate};
use crate::api::ConditionStatus;
use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::kind::Column;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Ready containers of all containers."),
    column("Status", "string", "Where the pod is in its life, or what holds it up."),
    column("Restarts", "string", "How often its containers were restarted, and when last."),
    AGE,
    wide("IP", "string", "Address of the pod."),
    wide("Node", "string", "Node of the pod."),
    wide("Nominated Node", "string", "Node where room is being made for it."),
    wide("Readiness Gates", "string", "Further conditions that hold, of all that must."),
];

pub(super) const TEMPLATE_COLUMNS: &[Column] = &[
    NAME,
    column("Containers", "string", "Names of the containers."),
    column("Images", "string", "Images of the containers."),
    column("Pod Labels", "string", "Labels of the pods."),
];

pub(super) fn template_row(template: &PodTemplate, _now: Timestamp) -> Vec<Value> {
    let containers = &template.template.spec.containers;
    let list = |field: fn(&Container) -> &str| containers.iter().map(field).collect::<Vec<_>>().join(",");
    vec![
        columns::name(&template.metadata),
        list(|container| &container.name).into(),
        list(|container| &container.image).into(),
        columns::labels(template.template.metadata.labels.as_ref().unwrap_or(&Default::default())).into(),
    ]
}

/// What the containers add up to.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn count_restarts(&mut self, status: &ContainerStatus) {
        self.restarts += status.restart_count;
        if let Some(finished) =
            status.last_state.terminated.as_ref().and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0)
        {
            self.last_restart = self.last_restart.max(Some(finished));
        }
    }
}

pub(super) fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, columns::since(Some(last), now))
        }
        _ => summary.restarts.to_string(),
    };
    let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
    let address = pod.status.pod_ips.first().map_or(pod.status.pod_ip.as_str(), |first| &first.ip);
    vec![
        columns::name(&pod.metadata),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        columns::age(&pod.metadata, now),
        or_none(address).into(),
        or_none(&pod.spec.node_name).into(),
        or_none(&pod.status.nominated_node_name).into(),
        readiness_gates(pod).into(),
    ]
}

fn readiness_gates(pod: &Pod) -> String {
    if pod.spec.readiness_gates.is_empty() {
        return "<none>".to_owned();
    }
    let gates = &pod.spec.readiness_gates;
    let held = gates.iter().filter(|gate| condition(&pod.status, &gate.condition_type)).count();
    format!("{held}/{}", gates.len())
}

fn condition(status: &PodStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == ConditionStatus::True)
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy == Some(ContainerRestartPolicy::Always)
}

fn summarize(pod: &Pod) -> Summary {
    let (spec, status) = (&pod.spec, &pod.status);
    let mut summary = Summary {
        reason: if status.reason.is_empty() { status.phase.to_string() } else { status.reason.clone() },
        total: spec.containers.len() + spec.init_containers.iter().filter(|container| is_sidecar(container)).count(),
        ..Summary::default()
    };
    let gated = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == "PodScheduled" && condition.reason == "SchedulingGated");
    if gated {
        "SchedulingGated".clone_into(&mut summary.reason);
    }
    let initializing = summarize_init(pod, &mut summary);
    if !initializing || condition(status, "Initialized") {
        summarize_containers(pod, &mut summary);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if !matches!(status.phase, super::PodPhase::Succeeded | super::PodPhase::Failed) {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    summary
}

/// Counts the init containers; says whether one of them is still to end or to start.
fn summarize_init(pod: &Pod, summary: &mut Summary) -> bool {
    let sidecar = |name: &str| pod.spec.init_containers.iter().any(|each| each.name == name && is_sidecar(each));
    for (position, status) in pod.status.init_container_statuses.iter().enumerate() {
        summary.count_restarts(status);
        let state = &status.state;
        match (&state.terminated, &state.waiting) {
            (Some(ended), _) if ended.exit_code == 0 => continue,
            _ if sidecar(&status.name) && status.started == Some(true) => {
                summary.ready += usize::from(status.ready);
                continue;
            }
            (Some(ended), _) if !ended.reason.is_empty() => summary.reason = format!("Init:{}", ended.reason),
            (Some(ended), _) if ended.signal != 0 => summary.reason = format!("Init:Signal:{}", ended.signal),
            (Some(ended), _) => summary.reason = format!("Init:ExitCode:{}", ended.exit_code),
            (None, Some(waiting)) if !waiting.reason.is_empty() && waiting.reason != "PodInitializing" => {
                summary.reason = format!("Init:{}", waiting.reason);
            }
            _ => summary.reason = format!("Init:{position}/{}", pod.spec.init_containers.len()),
        }
        return true;
    }
    false
}

fn summarize_containers(pod: &Pod, summary: &mut Summary) {
    // Sidecars restart with the pod, so only the restarts of its own containers count from here on.
    let mut counted = Summary::default();
    let mut running = false;
    for status in pod.status.container_statuses.iter().rev() {
        counted.count_restarts(status);
        let state = &status.state;
        match (&state.waiting, &state.terminated) {
            (Some(waiting), _) if !waiting.reason.is_empty() => summary.reason.clone_from(&waiting.reason),
            (_, Some(ended)) if !ended.reason.is_empty() => summary.reason.clone_from(&ended.reason),
            (_, Some(ended)) if ended.signal != 0 => summary.reason = format!("Signal:{}", ended.signal),
            (_, Some(ended)) => summary.reason = format!("ExitCode:{}", ended.exit_code),
            _ if status.ready && state.running.is_some() => {
                running = true;
                summary.ready += 1;
            }
            _ => {}
        }
    }
    for status in &pod.status.init_container_statuses {
        if pod.spec.init_containers.iter().any(|each| each.name == status.name && is_sidecar(each)) {
            counted.count_restarts(status);
        }
    }
    (summary.restarts, summary.last_restart) = (counted.restarts, counted.last_restart);
    if summary.reason == "Completed" && running {
        let ready = condition(&pod.status, "Ready");
        if ready { "Running" } else { "NotReady" }.clone_into(&mut summary.reason);
    }
}
