//! What a scheduler would do for a job: worked out by the engine, in the cell itself, and taken back if it is only a plan.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::NodeId;
use longshore_scheduler::{Engine, Unplaced};

use super::jobs::{Live, pod_of};

/// A place for a pod.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) ordinal: u64,
    pub(super) pod: Arc<Pod>,
    pub(super) node: NodeId,
    /// Who must go for it, all of that node.
    pub(super) victims: Vec<Arc<Pod>>,
}

/// What a scheduler would do for a job.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) placed: Vec<Planned>,
    /// How many pods no node can take.
    pub(super) refused: u64,
    /// One of each kind of them.
    pub(super) spokesmen: Vec<Arc<Pod>>,
}

/// How to plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) now: Duration,
    pub(super) gang: bool,
    pub(super) preemption: bool,
}

impl Plan {
    /// Finds places for all pods of a job that wait. They have them in the engine's cluster then, and victims are gone.
    pub(super) fn carried_out(engine: &mut Engine, live: &Live, manner: Manner) -> Self {
        let mut plan = Self::default();
        let mut refused_task = None;
        for (first, end, _) in live.waiting.ranges() {
            let mut ordinal = first;
            while let Some((place, task)) = live.task_of(ordinal).filter(|_| ordinal < end) {
                if refused_task == Some(place) {
                    // Equal pods get equal answers: nothing has changed but that less is free.
                    let of_task: u64 = live.job.tasks[..=place].iter().map(|task| u64::from(task.count)).sum();
                    let next = of_task.min(end);
                    plan.refused += next - ordinal;
                    ordinal = next;
                    continue;
                }
                let pod = Arc::new(pod_of(&live.job, task, ordinal, manner.now));
                match plan.place(engine, &pod, manner.preemption) {
                    Some((node, victims)) => plan.placed.push(Planned { ordinal, pod, node, victims }),
                    None if manner.gang => {
                        plan.take_back(engine);
                        return Self { refused: live.waiting.count(), spokesmen: vec![pod], ..Self::default() };
                    }
                    None => {
                        plan.refused += 1;
                        plan.spokesmen.push(pod);
                        refused_task = Some(place);
                    }
                }
                ordinal += 1;
            }
        }
        plan
    }

    fn place(&self, engine: &mut Engine, pod: &Arc<Pod>, preemption: bool) -> Option<(NodeId, Vec<Arc<Pod>>)> {
        let diagnosis = match engine.place(pod) {
            Ok(placement) => return Some((placement.id, Vec::new())),
            Err(Unplaced::Refused(diagnosis)) if preemption => diagnosis,
            Err(_) => return None,
        };
        let way = engine.post_filter(pod, &diagnosis).nomination?;
        let name = |pod: &Pod| pod.metadata.name.clone();
        // A job does not gain by evicting what it has just placed.
        if way.victims.iter().any(|victim| self.placed.iter().any(|own| name(&own.pod) == name(victim))) {
            return None;
        }
        evict(engine, &way.victims);
        if engine.place_on(pod, way.node).is_err() {
            restore(engine, &way.victims, way.node);
            return None;
        }
        Some((way.node, way.victims))
    }

    /// Makes the cluster as it was before the plan was carried out.
    pub(super) fn take_back(&self, engine: &mut Engine) {
        for planned in self.placed.iter().rev() {
            take_out(engine, &planned.pod);
            restore(engine, &planned.victims, planned.node);
        }
    }
}

/// Takes a pod out of the engine's cluster; says whether it was there.
pub(super) fn take_out(engine: &mut Engine, pod: &Pod) -> bool {
    let meta = &pod.metadata;
    engine.unplace(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Takes these pods out of the engine's cluster.
pub(super) fn evict(engine: &mut Engine, victims: &[Arc<Pod>]) {
    for victim in victims {
        take_out(engine, victim);
    }
}

/// Puts them back.
pub(super) fn restore(engine: &mut Engine, victims: &[Arc<Pod>], node: NodeId) {
    victims.iter().for_each(|victim| engine.cluster_mut().place(victim.clone(), node));
}
