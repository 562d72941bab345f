//! Simulations that are played through a whole control plane.

use std::time::Duration;

#[cfg(feature = "control-plane")]
use longshore_core::scheduling::Policy;
use longshore_scheduler::Profile;
#[cfg(feature = "control-plane")]
use longshore_scheduler::policies::{DefaultBinder, Gang, PrioritySort};

use super::{ExperimentError, SimulationSpec};
use crate::measures::Figure;
use crate::observer::Observer;
use crate::simulation::{Retry, Ties};
use crate::traces::Events;

fn wrong(reason: &str) -> ExperimentError {
    ExperimentError::Workload(reason.into())
}

/// Refuses what has no meaning there.
pub(super) fn check(spec: &SimulationSpec) -> Result<(), ExperimentError> {
    if cfg!(not(feature = "control-plane")) {
        return Err(wrong(
            "controlPlane: this program was built without the feature control-plane of longshore-simulator",
        ));
    }
    if spec.until.is_none() {
        return Err(wrong("controlPlane: say until when, as until: SECONDS; nodes go on to tell that they live"));
    }
    let modelled = [
        ("architectures", !spec.architectures.is_empty()),
        ("serviceJobTimes", !spec.service_job_times.is_empty()),
        ("retry", spec.retry != Retry::default()),
        ("preemption", spec.preemption.is_some()),
    ];
    match modelled.iter().find(|(_, is_said)| *is_said) {
        Some((key, _)) => Err(wrong(&format!("{key}: with controlPlane the scheduler is the real one: leave it out"))),
        None => Ok(()),
    }
}

/// Plays it; answers when it ended, how many pods wait, and further figures.
#[cfg(feature = "control-plane")]
pub(super) fn run(
    profiles: Vec<Profile>,
    ties: Ties,
    seed: u64,
    until: Duration,
    events: Events,
    observer: &mut dyn Observer,
) -> Result<(Duration, u64, Vec<Figure>), ExperimentError> {
    let scheduler = longshore_scheduler::Options {
        profiles: for_all(profiles),
        tie_break: ties.tie_break(seed),
        seed,
        ..Default::default()
    };
    let control_plane = crate::control_plane::ControlPlane { scheduler, seed, until };
    let lived = control_plane.run(events, observer).map_err(|error| ExperimentError::Workload(error.into()))?;
    Ok((until, lived.waiting, lived.figures))
}

/// One profile is for all pods, whatever it is called. Gangs are for the scheduler to honour here, and so is what policies for the engine
/// alone do without: an order of the queue, and somebody who binds.
#[cfg(feature = "control-plane")]
fn for_all(mut profiles: Vec<Profile>) -> Vec<Profile> {
    if let [one] = &mut profiles[..] {
        *one = one.clone().named(longshore_scheduler::DEFAULT_SCHEDULER_NAME);
    }
    let complete = |profile: Profile| {
        let has = |what: fn(&dyn Policy) -> bool| profile.policies().iter().any(|enabled| what(enabled.policy()));
        let (ordered, bound) =
            (has(|policy| policy.as_queue_order().is_some()), has(|policy| policy.as_binder().is_some()));
        let mut profile = profile.with(Gang::default());
        if !ordered {
            profile = profile.with(PrioritySort);
        }
        if bound { profile } else { profile.with(DefaultBinder) }
    };
    profiles.into_iter().map(complete).collect()
}

/// Plays nothing, for there is nothing to play it.
#[cfg(not(feature = "control-plane"))]
pub(super) fn run(
    _: Vec<Profile>,
    _: Ties,
    _: u64,
    _: Duration,
    _: Events,
    _: &mut dyn Observer,
) -> Result<(Duration, u64, Vec<Figure>), ExperimentError> {
    Err(wrong("controlPlane: this program was built without the feature control-plane of longshore-simulator"))
}
