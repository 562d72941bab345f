//! Takes back that a pod is about to be disrupted when that does not come about.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::pod::PodCondition;
use longshore_core::api::pod::helpers::{condition, is_terminal, set_condition};
use longshore_core::api::{ConditionStatus, Pod};
use longshore_core::informer::{Change, ObjectKey};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

/// How long a pod that shall be disrupted may stay undeleted.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// The controller that clears stale `DisruptionTarget` conditions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StaleDisruptionController;

/// Since when a pod has been about to be disrupted; `None` if it is not, or is being deleted. What its own node said of it
/// holds for as long as the node takes.
fn threatened_since(pod: &Pod) -> Option<Timestamp> {
    if pod.metadata.deletion_timestamp.is_some() || is_terminal(pod) {
        return None;
    }
    let threat = condition(&pod.status, DISRUPTION_TARGET)?;
    let counts = threat.status == ConditionStatus::True && threat.reason != "TerminationByKubelet";
    threat.last_transition_time.as_ref().filter(|_| counts).map(|time| time.0)
}

impl Controller for StaleDisruptionController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "stale_pod_disruption"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<Pod, _>(|change: &Change<Arc<Pod>>| {
            let pod = change.current().filter(|pod| threatened_since(pod).is_some())?;
            Some(ObjectKey::of(&**pod))
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(pod) = view.of::<Pod>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        let Some(since) = threatened_since(&pod) else { return Plan::nothing() };
        let due = since.checked_add(TIMEOUT).unwrap_or(Timestamp::MAX);
        if let Ok(left) = Duration::try_from(due.duration_since(now))
            && !left.is_zero()
        {
            return Plan { actions: Vec::new(), look_again: Some(left) };
        }
        let mut pod = (*pod).clone();
        let cleared = PodCondition {
            type_: DISRUPTION_TARGET.to_owned(),
            status: ConditionStatus::False,
            ..PodCondition::default()
        };
        set_condition(&mut pod.status, cleared, now);
        vec![Action::update_status(pod)].into()
    }
}
