//! Probes: when each is due, and what its results make of a container. Carrying one out is `check`'s.

pub(crate) mod check;
mod grpc;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::api::pod::{Container, Probe};
use longshore_core::runtime::{ContainerRef, ContainerState};

use crate::pod::observed::{Health, Life, Observed};

/// What a probe decides. In the order in which they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_deref(),
            Self::Liveness => container.liveness_probe.as_deref(),
            Self::Readiness => container.readiness_probe.as_deref(),
        }
    }

    /// As messages begin.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// One probe of one container.
pub(crate) type Key = (String, Kind);

/// A probe to carry out now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Due {
    pub(crate) key: Key,
    pub(crate) container: ContainerRef,
    pub(crate) probe: Probe,
}

/// One probe's memory.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    /// The verdict of enough results in a row.
    verdict: Option<bool>,
    last: bool,
    /// Results like the last in a row.
    streak: i32,
    /// When it is due, by the clock's `elapsed`.
    due: Duration,
    running: bool,
}

/// The probes of one attempt of a container.
#[derive(Debug, Default)]
struct Attempt {
    number: u32,
    states: BTreeMap<Kind, State>,
}

/// The probes of a pod.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    attempts: BTreeMap<String, Attempt>,
}

/// The time, both ways.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) now: Timestamp,
    pub(crate) elapsed: Duration,
}

impl Probes {
    /// Follows which containers run: probes begin with a container and end with it.
    pub(crate) fn follow(&mut self, pod: &Pod, observed: &Observed, time: Time) {
        let spec = &pod.spec;
        let mut running = BTreeMap::new();
        for container in spec.containers.iter().chain(&spec.init_containers) {
            let Life::Running(found) = observed.life(&container.name) else { continue };
            let ContainerState::Running { started_at, .. } = &found.state else { continue };
            let number = found.container.attempt;
            let known = self.attempts.remove(&container.name).filter(|attempt| attempt.number == number);
            let attempt = known.unwrap_or_else(|| {
                // What an earlier agent found holds until it is found otherwise: its end must not shake a pod.
                let before = observed.remembered(&container.name);
                let before = before.filter(|status| status.container_id.ends_with(&format!("://{}", found.id)));
                let known = |kind| match kind {
                    Kind::Startup => before.is_some_and(|status| status.started == Some(true)),
                    Kind::Readiness => before.is_some_and(|status| status.ready),
                    Kind::Liveness => true,
                };
                let age = Duration::try_from(time.now.duration_since(*started_at)).unwrap_or_default();
                begin(container, number, time.elapsed, age, known)
            });
            running.insert(container.name.clone(), attempt);
        }
        self.attempts = running;
    }

    /// What the probes say of each container that runs.
    pub(crate) fn health(&self) -> BTreeMap<String, Health> {
        self.attempts.iter().map(|(name, attempt)| (name.clone(), attempt.health())).collect()
    }

    /// The probes that are due, marked as being carried out.
    pub(crate) fn due(&mut self, pod: &Pod, elapsed: Duration) -> Vec<Due> {
        let spec = &pod.spec;
        let mut due = Vec::new();
        for container in spec.containers.iter().chain(&spec.init_containers) {
            let Some(attempt) = self.attempts.get_mut(&container.name) else { continue };
            for kind in attempt.active() {
                let Some(probe) = kind.of(container) else { continue };
                let Some(state) = attempt.states.get_mut(&kind).filter(|state| state.due <= elapsed) else { continue };
                if std::mem::replace(&mut state.running, true) {
                    continue;
                }
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                due.push(Due {
                    key: (container.name.clone(), kind),
                    container: ContainerRef { pod_uid: uid, name: container.name.clone(), attempt: attempt.number },
                    probe: probe.clone(),
                });
            }
        }
        due
    }

    /// When the next probe is due that is not being carried out.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let states = self
            .attempts
            .values()
            .flat_map(|attempt| attempt.active().into_iter().filter_map(|kind| attempt.states.get(&kind)));
        states.filter(|state| !state.running).map(|state| state.due).filter(|due| *due < Duration::MAX).min()
    }

    /// Takes a result. `again` tells whether the probe goes on: one of a simulated container need not.
    pub(crate) fn result(&mut self, due: &Due, good: bool, elapsed: Duration, again: bool) {
        let Some(attempt) = self.attempts.get_mut(&due.key.0) else { return };
        if attempt.number != due.container.attempt {
            return;
        }
        let Some(state) = attempt.states.get_mut(&due.key.1) else { return };
        state.running = false;
        let period = Duration::from_secs(u64::try_from(due.probe.period_seconds).unwrap_or(0).max(1));
        state.due = if again { elapsed + period } else { Duration::MAX };
        state.streak = if state.last == good { state.streak.saturating_add(1) } else { 1 };
        state.last = good;
        let threshold = if good { due.probe.success_threshold } else { due.probe.failure_threshold };
        if state.streak >= threshold.max(1) {
            state.verdict = Some(good);
        }
    }
}

fn begin(
    container: &Container,
    number: u32,
    elapsed: Duration,
    age: Duration,
    known: impl Fn(Kind) -> bool,
) -> Attempt {
    let mut states = BTreeMap::new();
    for kind in Kind::ALL {
        let Some(probe) = kind.of(container) else { continue };
        let delay = Duration::from_secs(u64::try_from(probe.initial_delay_seconds).unwrap_or(0));
        let due = elapsed + delay.saturating_sub(age);
        states.insert(kind, State { verdict: known(kind).then_some(true), due, ..State::default() });
    }
    Attempt { number, states }
}

impl Attempt {
    fn verdict(&self, kind: Kind) -> Option<Option<bool>> {
        self.states.get(&kind).map(|state| state.verdict)
    }

    /// The probes that are carried out now: the startup probe alone until it has held, and none after a failure that
    /// ends the container.
    fn active(&self) -> Vec<Kind> {
        let health = self.health();
        if health.failed.is_some() {
            Vec::new()
        } else if health.started {
            vec![Kind::Liveness, Kind::Readiness]
        } else {
            vec![Kind::Startup]
        }
    }

    fn health(&self) -> Health {
        let started = self.verdict(Kind::Startup).is_none_or(|verdict| verdict == Some(true));
        let failed = match (self.verdict(Kind::Startup), self.verdict(Kind::Liveness)) {
            (Some(Some(false)), _) => Some("startup"),
            (_, Some(Some(false))) => Some("liveness"),
            _ => None,
        };
        let ready = self.verdict(Kind::Readiness).is_none_or(|verdict| verdict == Some(true));
        Health { attempt: self.number, started, ready: started && ready, failed }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
