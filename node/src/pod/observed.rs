//! What is known of a pod on this node, as the decisions need it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::Pod;
use longshore_core::api::pod::helpers::should_restart;
use longshore_core::api::pod::{self, ContainerRestartPolicy, ContainerStatus, PodStatus};
use longshore_core::runtime::{Container, ContainerState, Sandbox};

use super::resize::Pending;

/// Annotation of a container in the runtime: the seconds to wait before it is restarted after it ended.
pub(crate) const BACKOFF: &str = "longshore.dev/restart-backoff-seconds";
/// The first back-off in seconds, and the longest.
const BACKOFF_FIRST: u64 = 10;
const BACKOFF_MAX: u64 = 300;
/// A container that ran this long has left its crashes behind.
const BACKOFF_RESET: SignedDuration = SignedDuration::from_mins(10);

/// The exit code of what was killed.
const KILLED: i32 = 137;

/// What of a pod can be worked on, one operation at a time each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Volumes,
    Sandbox,
    Network,
    Object,
    Status,
    Container(String),
    /// Limits of containers that run.
    Resources,
}

/// An operation failed and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// When it is tried again, by the clock's `elapsed`: a time of day may jump.
    pub(crate) until: Duration,
    /// How often it failed in a row.
    pub(crate) count: u32,
    /// Why the container waits, one word; empty for operations that are no container's.
    pub(crate) reason: String,
    /// Why, for people.
    pub(crate) message: String,
}

/// The pod's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Net {
    /// An earlier agent may have attached the pod.
    #[default]
    Unknown,
    Attached(Vec<IpAddr>),
    Detached,
}

/// The pod's directory with its volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Disk {
    /// An earlier agent may have made it.
    #[default]
    Unknown,
    Ready,
    /// The volumes are gone; logs stay as long as the pod's object.
    Emptied,
    /// The logs are gone, too.
    Removed,
}

/// What the probes of one attempt of a container say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The attempt that was probed.
    pub(crate) attempt: u32,
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// The probe that says that the container must be restarted: `liveness` or `startup`.
    pub(crate) failed: Option<&'static str>,
}

/// Why a pod that was placed here does not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) net: Net,
    pub(crate) disk: Disk,
    /// The status as last worked out: what is known of containers that the runtime no longer has.
    pub(crate) remembered: PodStatus,
    /// By container.
    pub(crate) health: BTreeMap<String, Health>,
    pub(crate) failures: BTreeMap<Target, Failure>,
    /// The end of the logs of containers that want it as their termination message, by container id.
    pub(crate) log_tails: BTreeMap<String, String>,
    /// The attempts of containers that are stopped to be started again.
    pub(crate) stopped: BTreeMap<String, u32>,
    pub(crate) refusal: Option<Refusal>,
    /// Why the pod's containers do not get the resources that they now ask for.
    pub(crate) pending: Option<Pending>,
    /// Why the pod must leave the node: it uses more than it may.
    pub(crate) excess: Option<String>,
    /// The pod's object is no longer there.
    pub(crate) gone: bool,
    /// The object was deleted for good; finalizers may still hold it.
    pub(crate) deleted: bool,
    /// The server has the present status, or there is nobody to be told.
    pub(crate) reported: bool,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// It was stopped to be started again.
    pub(crate) stopped: bool,
    pub(crate) at: Option<Timestamp>,
    /// Seconds to wait after that before the next start.
    pub(crate) backoff: u64,
    /// Seconds to wait after the next attempt's end.
    pub(crate) next_backoff: u64,
}

impl Ended {
    /// Whether the container is started again. One that was stopped for that has not done its work, whatever code it ended with.
    pub(crate) fn restarts(&self, container: &pod::Container, spec: &pod::PodSpec) -> bool {
        let code = if self.stopped && self.code == 0 { KILLED } else { self.code };
        should_restart(container, spec, code)
    }
}

/// Where a container is in its life, over all its attempts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Life<'a> {
    /// It was never made, as far as anybody knows.
    Absent,
    Created(&'a Container),
    Running(&'a Container),
    Ended(Ended),
}

impl Observed {
    /// The latest attempt of a container that the runtime has.
    pub(crate) fn latest(&self, name: &str) -> Option<&Container> {
        self.attempts(name).max_by_key(|container| container.container.attempt)
    }

    /// The attempt before the latest, if the runtime has it.
    pub(crate) fn previous(&self, name: &str) -> Option<&Container> {
        let latest = self.latest(name)?.container.attempt;
        self.attempts(name).filter(|c| c.container.attempt < latest).max_by_key(|c| c.container.attempt)
    }

    pub(crate) fn attempts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Container> {
        let name = name.to_owned();
        self.containers().filter(move |container| container.container.name == name)
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = &Container> {
        self.sandbox.iter().flat_map(|sandbox| &sandbox.containers)
    }

    /// The status of a container as last worked out, by an earlier agent perhaps.
    pub(crate) fn remembered(&self, name: &str) -> Option<&ContainerStatus> {
        let status = &self.remembered;
        let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
        all.into_iter().flatten().find(|status| status.name == name)
    }

    /// The life of a container by what the runtime has.
    pub(crate) fn life(&self, name: &str) -> Life<'_> {
        let Some(container) = self.latest(name) else { return Life::Absent };
        match &container.state {
            ContainerState::Created => Life::Created(container),
            ContainerState::Running { .. } => Life::Running(container),
            ContainerState::Exited { started_at, finished_at, code, .. } => {
                let noted: u64 = container.annotations.get(BACKOFF).and_then(|text| text.parse().ok()).unwrap_or(0);
                let ran = started_at.map_or(SignedDuration::ZERO, |start| finished_at.duration_since(start));
                let backoff = if ran >= BACKOFF_RESET { 0 } else { noted };
                let next_backoff = if backoff == 0 { BACKOFF_FIRST } else { (backoff * 2).min(BACKOFF_MAX) };
                let stopped = self.stopped.get(name) == Some(&container.container.attempt);
                Life::Ended(Ended { code: *code, stopped, at: Some(*finished_at), backoff, next_backoff })
            }
        }
    }

    /// The life of a container that is not run again when its sandbox is made anew: what the runtime has lost is known
    /// from the status. One that was running when it was lost counts as killed.
    pub(crate) fn life_or_memory(&self, name: &str) -> Life<'_> {
        let life = self.life(name);
        if life != Life::Absent {
            return life;
        }
        let Some(status) = self.remembered(name).filter(|status| !status.container_id.is_empty()) else {
            return Life::Absent;
        };
        // While it waits to be restarted, its end is in the last state.
        let ended = status.state.terminated.as_ref().or(status.last_state.terminated.as_ref());
        let code = match (&status.state.running, ended) {
            (None, Some(ended)) => ended.exit_code,
            _ => KILLED,
        };
        Life::Ended(Ended { code, stopped: false, at: None, backoff: 0, next_backoff: BACKOFF_FIRST })
    }

    /// The number of the next attempt: one more than the runtime or the status knows of.
    pub(crate) fn next_attempt(&self, name: &str) -> u32 {
        let made = self.latest(name).map(|container| container.container.attempt + 1);
        let known = self.remembered(name).filter(|status| !status.container_id.is_empty());
        let known = known.map(|status| u32::try_from(status.restart_count).unwrap_or(0) + 1);
        made.max(known).unwrap_or(0)
    }

    /// What the probes say of the attempt that runs.
    pub(crate) fn health(&self, container: &Container) -> Option<&Health> {
        let health = self.health.get(&container.container.name)?;
        (health.attempt == container.container.attempt).then_some(health)
    }

    /// Whether a container runs and its startup probe, if any, has held.
    pub(crate) fn is_started(&self, name: &str) -> bool {
        match self.life(name) {
            Life::Running(container) => self.health(container).is_some_and(|health| health.started),
            _ => false,
        }
    }

    /// Whether any container still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.containers().any(|container| matches!(container.state, ContainerState::Running { .. }))
    }

    /// Whether init containers are over with: one of the others was made in this sandbox.
    pub(crate) fn is_initialized(&self, pod: &Pod) -> bool {
        pod.spec.containers.iter().any(|container| self.latest(&container.name).is_some())
    }

    /// Whether containers can be started.
    pub(crate) fn is_connected(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) && matches!(self.net, Net::Attached(_))
    }
}

/// Whether an init container keeps running beside the others.
pub(crate) fn is_sidecar(container: &pod::Container) -> bool {
    container.restart_policy == Some(ContainerRestartPolicy::Always)
}
