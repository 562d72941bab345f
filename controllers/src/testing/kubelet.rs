//! A scheduler and a node agent for tests: they move pods on by one state at a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::pod::helpers::set_condition;
use longshore_core::api::pod::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PodCondition, PodIP, PodPhase, RestartPolicy,
};
use longshore_core::api::{ConditionStatus, Pod};
use longshore_core::clock::Clock;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::World;
use crate::plan::ObjectRef;

/// Pods with this image never become ready.
const BAD_IMAGE: &str = "bad";

pub(crate) struct Kubelet {
    rng: Pcg64,
    /// Where pods go that do not say where they want to go.
    pub(crate) nodes: Vec<String>,
    /// How likely a pod moves on in a step.
    pub(crate) eager: f64,
    /// How likely a pod that ends by itself fails.
    pub(crate) fails: f64,
    addresses: u32,
}

impl Kubelet {
    pub(crate) fn new(seed: u64) -> Self {
        let nodes = (0..3).map(|index| format!("node-{index}")).collect();
        Self { rng: Pcg64::seed_from_u64(seed), nodes, eager: 1.0, fails: 0.0, addresses: 1 }
    }

    /// Moves pods on.
    pub(crate) fn step(&mut self, world: &World) {
        for pod in world.all::<Pod>() {
            if self.rng.random_bool(self.eager) {
                self.move_on(world, &pod);
            }
        }
    }

    fn move_on(&mut self, world: &World, pod: &Pod) {
        let now = world.clock.now();
        let ended = matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed);
        let target = ObjectRef::of(pod);
        let change = |change: &mut dyn FnMut(&mut Pod)| {
            world.server.modify(target.target(), |object| change(object.as_any_mut().downcast_mut::<Pod>().unwrap()));
        };
        if pod.metadata.deletion_timestamp.is_some() {
            if !ended {
                change(&mut |pod| end(pod, PodPhase::Failed, 137, now));
            } else if pod.metadata.finalizers.iter().flatten().next().is_none() {
                world.server.remove(target.target());
            } else if pod.metadata.deletion_grace_period_seconds != Some(0) {
                change(&mut |pod| pod.metadata.deletion_grace_period_seconds = Some(0));
            }
            return;
        }
        if ended {
            return;
        }
        if pod.spec.node_name.is_empty() {
            let node = pinned(pod).unwrap_or_else(|| self.nodes[self.rng.random_range(0..self.nodes.len())].clone());
            change(&mut |pod| pod.spec.node_name.clone_from(&node));
        } else if pod.status.phase != PodPhase::Running {
            let ip = format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
            self.addresses += 1;
            change(&mut |pod| {
                pod.status.phase = PodPhase::Running;
                pod.status.start_time = Some(Time(now));
                pod.status.pod_ip.clone_from(&ip);
                pod.status.pod_ips = vec![PodIP { ip: ip.clone() }];
            });
        } else if !longshore_core::api::pod::helpers::is_ready(pod) {
            if pod.spec.containers.iter().all(|container| container.image != BAD_IMAGE) {
                change(&mut |pod| set_ready(pod, true, now));
            }
        } else if pod.spec.restart_policy == RestartPolicy::Never {
            let fails = self.rng.random_bool(self.fails);
            let (phase, code) = if fails { (PodPhase::Failed, 1) } else { (PodPhase::Succeeded, 0) };
            change(&mut |pod| end(pod, phase.clone(), code, now));
        }
    }
}

fn pinned(pod: &Pod) -> Option<String> {
    let required = pod.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    terms.first()?.match_fields.first()?.values.first().cloned()
}

pub(crate) fn set_ready(pod: &mut Pod, ready: bool, now: jiff::Timestamp) {
    let status = if ready { ConditionStatus::True } else { ConditionStatus::False };
    let condition = PodCondition { type_: "Ready".into(), status, ..PodCondition::default() };
    set_condition(&mut pod.status, condition, now);
}

/// Ends a pod as if all its containers had exited with this code.
pub(crate) fn end(pod: &mut Pod, phase: PodPhase, exit_code: i32, now: jiff::Timestamp) {
    pod.status.phase = phase;
    set_ready(pod, false, now);
    let names = pod.spec.containers.iter().map(|container| container.name.clone());
    pod.status.container_statuses = names
        .map(|name| {
            let ended = ContainerStateTerminated { exit_code, finished_at: Some(Time(now)), ..Default::default() };
            let state = ContainerState { terminated: Some(ended), ..ContainerState::default() };
            ContainerStatus { name, state, ..ContainerStatus::default() }
        })
        .collect();
}
