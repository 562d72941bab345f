//! The status of one container.

use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::api::pod::helpers::should_restart;
use longshore_core::api::pod::{
    self, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ResourceRequirements, TerminationMessagePolicy,
};
use longshore_core::runtime::{Container, ContainerState as Made};

use super::observed::{Life, Observed, Target};
use super::resize::in_force;
use super::status::{Facts, whole};

/// What is known of all containers of a pod.
pub(crate) struct Telling<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) facts: &'a Facts,
    /// Why a container waits if nothing else is known.
    pub(crate) idle: &'a str,
    /// The pod is to end: nothing waits to be started.
    pub(crate) ends: bool,
    pub(crate) now: Timestamp,
}

/// The status of a container of the spec.
pub(crate) fn container_status(telling: &Telling<'_>, spec: &pod::Container) -> ContainerStatus {
    let Telling { observed, facts, idle, .. } = *telling;
    let name = &spec.name;
    let remembered = observed.remembered(name);
    let Some(latest) = observed.latest(name) else {
        let mut status = remembered.cloned().unwrap_or_else(|| ContainerStatus {
            name: name.clone(),
            image: spec.image.clone(),
            state: waiting(idle, ""),
            ..ContainerStatus::default()
        });
        lose(&mut status);
        wait_for_failure(telling, spec, &mut status);
        status.ready = false;
        status.started = Some(false);
        return status;
    };
    let terminated = |container: &Container| terminated(spec, container, observed, facts);
    let before = observed.previous(name).and_then(terminated);
    let last_state = match before {
        Some(ended) => ContainerState { terminated: Some(ended), ..ContainerState::default() },
        // The record of the attempt before may be gone from the runtime.
        None if latest.container.attempt > 0 => remembered.map(|old| last_end(old, latest, facts)).unwrap_or_default(),
        None => ContainerState::default(),
    };
    let mut status = ContainerStatus {
        name: name.clone(),
        image: latest.image_name.clone(),
        image_id: latest.image.0.clone(),
        container_id: container_id(latest, facts),
        restart_count: i32::try_from(latest.container.attempt).unwrap_or(i32::MAX),
        last_state,
        started: Some(false),
        ..ContainerStatus::default()
    };
    match &latest.state {
        Made::Created => status.state = waiting(idle, ""),
        Made::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(whole(*started_at)) };
            status.state = ContainerState { running: Some(running), ..ContainerState::default() };
            let health = observed.health(latest);
            status.started = Some(health.is_some_and(|health| health.started));
            status.ready = health.is_some_and(|health| health.started && health.ready);
        }
        Made::Exited { .. } => {
            status.state = ContainerState { terminated: terminated(latest), ..ContainerState::default() };
        }
    }
    status.allocated_resources.clone_from(&spec.resources.requests);
    status.resources = Some(match latest.state {
        Made::Running { .. } => in_force(spec, &latest.resources, remembered),
        _ => ResourceRequirements { claims: Vec::new(), ..spec.resources.clone() },
    });
    wait_for_failure(telling, spec, &mut status);
    status
}

/// While a start has failed or is held back, the container waits, and its end moves to the last state.
fn wait_for_failure(telling: &Telling<'_>, spec: &pod::Container, status: &mut ContainerStatus) {
    let Telling { pod, observed, now, .. } = *telling;
    if status.state.running.is_some() {
        return;
    }
    let ended = status.state.terminated.as_ref();
    let again = ended.is_none_or(|ended| should_restart(spec, &pod.spec, ended.exit_code));
    // What was stopped to be started again, and ended well: told as an end, the API would never let it run again.
    let stopped = !again && matches!(observed.life(&spec.name), Life::Ended(ended) if ended.restarts(spec, &pod.spec));
    let waits = if !(again || stopped) || telling.ends {
        None
    } else if let Some(failure) = observed.failures.get(&Target::Container(spec.name.clone())) {
        Some(waiting(&failure.reason, &failure.message))
    } else {
        crash_loop(pod, &spec.name, observed, now).or_else(|| stopped.then(|| waiting(telling.idle, "")))
    };
    if let Some(waits) = waits {
        if let Some(ended) = status.state.terminated.take() {
            status.last_state = ContainerState { terminated: Some(ended), ..ContainerState::default() };
        }
        status.state = waits;
    }
}

fn crash_loop(pod: &Pod, name: &str, observed: &Observed, now: Timestamp) -> Option<ContainerState> {
    let Life::Ended(ended) = observed.life(name) else { return None };
    let left = ended.at?.checked_add(std::time::Duration::from_secs(ended.backoff)).ok()?;
    (left > now).then(|| waiting("CrashLoopBackOff", &crash_loop_message(pod, name, ended.backoff)))
}

/// Upstream's words for a container that is held back.
pub(crate) fn crash_loop_message(pod: &Pod, name: &str, seconds: u64) -> String {
    let wait = match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    };
    format!("back-off {wait} restarting failed container={name} pod={}", full_name(pod))
}

/// `name_namespace(uid)`, as upstream names a pod in messages.
pub(crate) fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
}

pub(crate) fn waiting(reason: &str, message: &str) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: reason.to_owned(), message: message.to_owned() };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// A container that was running and is not there any more has ended in a way that nobody saw.
fn lose(status: &mut ContainerStatus) {
    let Some(running) = status.state.running.take() else { return };
    status.state.terminated = Some(ContainerStateTerminated {
        exit_code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when the pod was deleted.  The container used to be Running"
            .to_owned(),
        started_at: running.started_at,
        container_id: status.container_id.clone(),
        ..ContainerStateTerminated::default()
    });
}

/// How the attempt before `latest` ended, from a status that may be about either of them.
fn last_end(old: &ContainerStatus, latest: &Container, facts: &Facts) -> ContainerState {
    if old.container_id == container_id(latest, facts) {
        return old.last_state.clone();
    }
    let mut old = old.clone();
    lose(&mut old);
    match old.state.terminated {
        Some(ended) => ContainerState { terminated: Some(ended), ..ContainerState::default() },
        None => old.last_state,
    }
}

fn terminated(
    spec: &pod::Container,
    container: &Container,
    observed: &Observed,
    facts: &Facts,
) -> Option<ContainerStateTerminated> {
    let Made::Exited { started_at, finished_at, code, signal, oom_killed, message } = &container.state else {
        return None;
    };
    let reason = match (started_at, code) {
        _ if *oom_killed => "OOMKilled",
        (None, 127 | 128) => "StartError",
        (_, 0) => "Completed",
        _ => "Error",
    };
    let from_log = spec.termination_message_policy == TerminationMessagePolicy::FallbackToLogsOnError
        && message.is_empty()
        && *code != 0;
    let tail = from_log.then(|| observed.log_tails.get(&container.id)).flatten();
    Some(ContainerStateTerminated {
        exit_code: *code,
        signal: *signal,
        reason: reason.to_owned(),
        message: tail.unwrap_or(message).clone(),
        started_at: started_at.map(whole),
        finished_at: Some(whole(*finished_at)),
        container_id: container_id(container, facts),
    })
}

fn container_id(container: &Container, facts: &Facts) -> String {
    format!("{}://{}", facts.scheme, container.id)
}
