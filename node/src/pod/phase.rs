//! Where a pod is in its life, from what its containers do.

use longshore_core::api::Pod;
use longshore_core::api::pod::{PodPhase, RestartPolicy};

use super::observed::{Life, Observed, is_sidecar};

/// The phase by what the containers do, whatever else may end the pod.
pub(crate) fn phase(pod: &Pod, observed: &Observed) -> PodPhase {
    let spec = &pod.spec;
    let mut initializing = false;
    for init in &spec.init_containers {
        match observed.life(&init.name) {
            _ if is_sidecar(init) => initializing |= !observed.is_started(&init.name),
            Life::Ended(ended) if ended.code == 0 => {}
            Life::Ended(ended) if !ended.restarts(init, spec) => return PodPhase::Failed,
            // A sandbox that was lost takes the record of its init containers with it.
            Life::Absent if lost_for_good(pod, observed, &init.name) => return PodPhase::Failed,
            _ => initializing = true,
        }
    }
    let (mut waiting, mut running, mut ended, mut well) = (false, false, 0, 0);
    for container in &spec.containers {
        match observed.life_or_memory(&container.name) {
            Life::Absent | Life::Created(_) => waiting = true,
            Life::Running(_) => running = true,
            Life::Ended(end) if end.restarts(container, spec) => running = true,
            Life::Ended(end) => {
                ended += 1;
                well += usize::from(end.code == 0);
            }
        }
    }
    if ended == spec.containers.len() {
        return if well == ended { PodPhase::Succeeded } else { PodPhase::Failed };
    }
    let begun = running || ended > 0;
    if waiting || (initializing && !begun) { PodPhase::Pending } else { PodPhase::Running }
}

/// An init container that ran in a sandbox which was lost, in a pod whose containers are not run twice.
fn lost_for_good(pod: &Pod, observed: &Observed, name: &str) -> bool {
    pod.spec.restart_policy == RestartPolicy::Never
        && matches!(observed.life_or_memory(name), Life::Ended(ended) if ended.code != 0)
}

/// The phase in which a pod ends whose containers have all been stopped.
pub(crate) fn last_phase(pod: &Pod, observed: &Observed) -> PodPhase {
    let well = |name: &str| matches!(observed.life_or_memory(name), Life::Ended(ended) if ended.code == 0);
    if pod.spec.containers.iter().all(|container| well(&container.name)) {
        PodPhase::Succeeded
    } else {
        PodPhase::Failed
    }
}

pub(crate) fn is_final(phase: &PodPhase) -> bool {
    matches!(phase, PodPhase::Succeeded | PodPhase::Failed)
}
