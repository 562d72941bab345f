//! What to do next for a pod: a pure function of what is wanted, what is known, and the time.
//!
//! A plan is worked out anew whenever something changed, so a step must only be safe to start in the state that the
//! plan saw; whoever carries plans out does not start a step whose target is being worked on.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::Pod;
use longshore_core::api::pod;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::runtime::{ContainerRef, ContainerState, Resources};

use super::config::debugging_container;
use super::observed::{BACKOFF, Disk, Life, Net, Observed, Target, is_sidecar};
use super::phase::{is_final, phase};
use super::resize::{self, Lack};
use crate::probes::Time;

/// Upstream's grace period where none is given.
const GRACE_DEFAULT: i64 = 30;

/// How long containers have that use more than they may: upstream gives them no grace, which means a second.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// Longest wait for a time of day. The clock may be set while one waits.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Makes the pod's directory and its volumes.
    PrepareVolumes,
    CreateSandbox,
    /// Removes the sandbox and all that is in it.
    RemoveSandbox,
    Attach,
    Detach,
    /// Makes and starts an attempt of a container; one that was made is only started.
    Start {
        name: String,
        attempt: u32,
        backoff: u64,
    },
    /// Stops a container until then at the latest.
    Stop {
        container: ContainerRef,
        deadline: Timestamp,
        why: Why,
    },
    /// Gives containers that run, and their pod, other limits.
    Resize {
        containers: Vec<(ContainerRef, Resources)>,
    },
    /// Removes an old attempt.
    Forget {
        container: ContainerRef,
    },
    /// Removes the pod's directory, and its logs where its object goes, too.
    RemoveVolumes {
        logs: bool,
    },
    /// Removes the pod's object: the last step.
    DeleteObject,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The pod ends.
    PodEnds,
    /// This probe failed.
    Probe(&'static str),
    /// It gets other resources only when it starts.
    Resize,
}

impl Step {
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::PrepareVolumes | Self::RemoveVolumes { .. } => Target::Volumes,
            Self::CreateSandbox | Self::RemoveSandbox => Target::Sandbox,
            Self::Attach | Self::Detach => Target::Network,
            Self::DeleteObject => Target::Object,
            Self::Resize { .. } => Target::Resources,
            Self::Start { name, .. } => Target::Container(name.clone()),
            Self::Stop { container, .. } | Self::Forget { container } => Target::Container(container.name.clone()),
        }
    }
}

/// What to do now, and when to look again even if nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// By the clock's `elapsed`.
    pub(crate) wake: Option<Duration>,
    /// Nothing is left to do unless the pod's object changes.
    pub(crate) finished: bool,
}

/// Why a pod that was to run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its object is being deleted, or is gone.
    Deleted,
    /// Its containers have done what they were to do, or an earlier agent ended it.
    Finished,
    /// It was active for too long.
    DeadlineExceeded,
    /// The node does not take it.
    Refused,
    /// It uses more of the node than it may.
    Evicted,
}

/// Why the pod is to end; `None` if it is to run.
pub(crate) fn ending(pod: &Pod, observed: &Observed, now: Timestamp) -> Option<Ending> {
    if observed.gone || pod.metadata.deletion_timestamp.is_some() {
        Some(Ending::Deleted)
    } else if observed.refusal.is_some() {
        Some(Ending::Refused)
    } else if observed.excess.is_some() {
        Some(Ending::Evicted)
    } else if is_terminal(pod) || is_final(&observed.remembered.phase) {
        // What has ended stays ended.
        Some(Ending::Finished)
    } else if deadline(pod, observed).is_some_and(|deadline| deadline <= now) {
        Some(Ending::DeadlineExceeded)
    } else {
        is_final(&phase(pod, observed)).then_some(Ending::Finished)
    }
}

/// When the pod has been active for too long.
fn deadline(pod: &Pod, observed: &Observed) -> Option<Timestamp> {
    let seconds = pod.spec.active_deadline_seconds?;
    let start = observed.remembered.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// The next steps of a pod.
pub(crate) fn plan(pod: &Pod, observed: &Observed, time: Time) -> Plan {
    let mut planner = Planner { pod, observed, time, plan: Plan::default(), resized: Vec::new() };
    match ending(pod, observed, time.now) {
        Some(ending) => planner.end(ending),
        None => planner.run(),
    }
    planner.plan
}

struct Planner<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    time: Time,
    plan: Plan,
    /// Containers that run with other limits than they are to have.
    resized: Vec<(ContainerRef, Resources)>,
}

impl Planner<'_> {
    /// Adds a step unless it failed a moment ago.
    fn add(&mut self, step: Step) {
        match self.observed.failures.get(&step.target()) {
            Some(failure) if failure.until > self.time.elapsed => self.wake(failure.until),
            _ => self.plan.steps.push(step),
        }
    }

    fn wake(&mut self, at: Duration) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Looks again at a time of day, and once a while before: the clock may have been wrong.
    fn wake_at(&mut self, at: Timestamp) {
        let left = Duration::try_from(at.duration_since(self.time.now)).unwrap_or_default();
        self.wake(self.time.elapsed + left.min(LOOK_AT_CLOCK));
    }

    fn run(&mut self) {
        if let Some(deadline) = deadline(self.pod, self.observed) {
            self.wake_at(deadline);
        }
        if self.observed.disk != Disk::Ready {
            self.add(Step::PrepareVolumes);
        }
        match &self.observed.sandbox {
            Some(sandbox) if sandbox.ready => {}
            // What it was connected to is gone with its namespaces.
            Some(_) => return self.add(Step::RemoveSandbox),
            // A network that knew an earlier sandbox must not hand its addresses to a new one.
            None if self.observed.net != Net::Detached => return self.add(Step::Detach),
            None => {
                if self.observed.disk == Disk::Ready {
                    self.add(Step::CreateSandbox);
                }
                return;
            }
        }
        if !matches!(self.observed.net, Net::Attached(_)) {
            self.add(Step::Attach);
        }
        self.forget_old();
        // Nothing that is wrong with the pod keeps anybody from finding out what.
        for debugging in &self.pod.spec.ephemeral_containers {
            self.container(&debugging_container(debugging));
        }
        if self.init_containers() {
            for container in &self.pod.spec.containers {
                self.container(container);
            }
        }
        if !self.resized.is_empty() {
            let containers = std::mem::take(&mut self.resized);
            self.add(Step::Resize { containers });
        }
    }

    /// Of each container the last two attempts stay: one that is, and one whose log may be asked for.
    fn forget_old(&mut self) {
        for container in self.observed.containers() {
            let name = &container.container.name;
            let kept = self.observed.previous(name).or_else(|| self.observed.latest(name));
            let ended = matches!(container.state, ContainerState::Exited { .. });
            if ended && kept.is_some_and(|kept| container.container.attempt < kept.container.attempt) {
                self.plan.steps.push(Step::Forget { container: container.container.clone() });
            }
        }
    }

    /// Does what is next for init containers; whether the others may run.
    fn init_containers(&mut self) -> bool {
        let initialized = self.observed.is_initialized(self.pod);
        for init in &self.pod.spec.init_containers {
            let name = &init.name;
            if is_sidecar(init) {
                self.container(init);
                if !initialized && !self.observed.is_started(name) {
                    return false;
                }
            } else if !initialized {
                match self.observed.life(name) {
                    Life::Ended(ended) if ended.code == 0 => {}
                    Life::Ended(ended) if !ended.restarts(init, &self.pod.spec) => return false,
                    _ => {
                        self.container(init);
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Keeps one container running, as its policy wants it.
    fn container(&mut self, container: &pod::Container) {
        let name = &container.name;
        match self.observed.life_or_memory(name) {
            Life::Absent => self.start(name, self.observed.next_attempt(name), 0),
            Life::Created(made) => {
                let backoff = made.annotations.get(BACKOFF).and_then(|text| text.parse().ok());
                self.start(name, made.container.attempt, backoff.unwrap_or(0));
            }
            Life::Running(running) => {
                let failed = self.observed.health(running).and_then(|health| health.failed);
                if let Some(probe) = failed {
                    let grace = probe_grace(container, self.pod, probe);
                    let stop = Step::Stop {
                        container: running.container.clone(),
                        deadline: after(self.time.now, grace),
                        why: Why::Probe(probe),
                    };
                    self.add(stop);
                    return;
                }
                match resize::lack(container, &running.resources) {
                    Some(Lack::Limits(limits)) => self.resized.push((running.container.clone(), limits)),
                    Some(Lack::Restart) => {
                        let grace = seconds(self.pod.spec.termination_grace_period_seconds.unwrap_or(GRACE_DEFAULT));
                        let deadline = after(self.time.now, grace);
                        self.add(Step::Stop { container: running.container.clone(), deadline, why: Why::Resize });
                    }
                    None => {}
                }
            }
            Life::Ended(ended) => {
                // A regular init container runs again with a new sandbox, whatever came of it in the old one.
                let fresh_init = self.observed.latest(name).is_none() && self.is_regular_init(name);
                if !fresh_init && !ended.restarts(container, &self.pod.spec) {
                    return;
                }
                let at = ended.at.map(|at| after(at, Duration::from_secs(ended.backoff)));
                match at {
                    Some(at) if at > self.time.now => self.wake_at(at),
                    _ => self.start(name, self.observed.next_attempt(name), ended.next_backoff),
                }
            }
        }
    }

    fn is_regular_init(&self, name: &str) -> bool {
        self.pod.spec.init_containers.iter().any(|init| init.name == name && !is_sidecar(init))
    }

    fn start(&mut self, name: &str, attempt: u32, backoff: u64) {
        if self.observed.disk == Disk::Ready && self.observed.is_connected() {
            self.add(Step::Start { name: name.to_owned(), attempt, backoff });
        }
    }

    fn end(&mut self, ending: Ending) {
        let deadline = self.stop_by(ending);
        if self.stop_containers(deadline) {
            return;
        }
        // The records of how containers ended go with the sandbox: they must have arrived first.
        if !self.observed.reported {
            return;
        }
        if self.observed.sandbox.is_some() {
            return self.add(Step::RemoveSandbox);
        }
        if self.observed.net != Net::Detached {
            return self.add(Step::Detach);
        }
        let (observed, metadata) = (self.observed, &self.pod.metadata);
        let logs = observed.gone || metadata.deletion_timestamp.is_some();
        if observed.disk != Disk::Removed && (logs || observed.disk != Disk::Emptied) {
            return self.add(Step::RemoveVolumes { logs });
        }
        if observed.gone || observed.deleted || metadata.deletion_timestamp.is_none() {
            self.plan.finished = true;
        } else {
            self.add(Step::DeleteObject);
        }
    }

    fn stop_by(&self, ending: Ending) -> Timestamp {
        let own = self.pod.spec.termination_grace_period_seconds.unwrap_or(GRACE_DEFAULT);
        let metadata = &self.pod.metadata;
        match (ending, &metadata.deletion_timestamp) {
            // The deletion's time has the grace period in it.
            (Ending::Deleted, Some(at)) => {
                let most = after(self.time.now, seconds(metadata.deletion_grace_period_seconds.unwrap_or(own)));
                at.0.min(most)
            }
            (Ending::Evicted, _) => after(self.time.now, EVICTION_GRACE),
            _ => after(self.time.now, seconds(own)),
        }
    }

    /// Stops what runs, sidecars after the others and in reverse order; whether anything still runs.
    fn stop_containers(&mut self, deadline: Timestamp) -> bool {
        let running = |name: &str| match self.observed.life(name) {
            Life::Running(container) => Some(container.container.clone()),
            _ => None,
        };
        let spec = &self.pod.spec;
        let regular = spec.init_containers.iter().filter(|init| !is_sidecar(init));
        let mut stop: Vec<ContainerRef> =
            spec.containers.iter().chain(regular).filter_map(|container| running(&container.name)).collect();
        stop.extend(spec.ephemeral_containers.iter().filter_map(|container| running(&container.name)));
        if stop.is_empty() {
            let mut sidecars = spec.init_containers.iter().rev().filter(|init| is_sidecar(init));
            stop.extend(sidecars.find_map(|sidecar| running(&sidecar.name)));
        }
        if stop.is_empty() {
            // Containers that the spec does not name: none of ours, but in our sandbox.
            return false;
        }
        for container in stop {
            self.add(Step::Stop { container, deadline, why: Why::PodEnds });
        }
        true
    }
}

fn probe_grace(container: &pod::Container, pod: &Pod, probe: &str) -> Duration {
    let probe = if probe == "startup" { &container.startup_probe } else { &container.liveness_probe };
    let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
    seconds(own.or(pod.spec.termination_grace_period_seconds).unwrap_or(GRACE_DEFAULT))
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
