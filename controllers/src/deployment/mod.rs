//! Deployment: keeps pods of one sort running through replica sets, one for each version of the template, and rolls
//! changes out from the old ones to the new one.
//!
//! One look makes drafts of the replica sets as they shall become ([`rollout::Rollout`]); what differs from what is there
//! becomes the plan. Bounds are kept a little more strictly than upstream keeps them: pods that a replica set has been
//! told to delete but still has count against `maxSurge`, and while an old one has not taken notice of its last change,
//! the new one does not grow.

mod conditions;
mod draft;
mod revision;
mod rolling;
mod rollout;
mod scale;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::deployment::DeploymentStrategyType;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::api::{Deployment, Pod, ReplicaSet};
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::selector::Selector;

use self::rollout::Rollout;
use crate::claim::{Claim, claim, controller_key, dependents, watch_dependents};
use crate::controller::{Controller, Triggers, View};
use crate::plan::Plan;
use crate::selects::compiled;

/// The controller of Deployments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeploymentController;

fn selector(deployment: &Deployment) -> Selector {
    compiled(deployment.spec.selector.as_ref())
}

fn is_recreate(deployment: &Deployment) -> bool {
    deployment.spec.strategy.type_ == DeploymentStrategyType::Recreate
}

/// Whether any pod of these replica sets has not ended yet.
fn have_pods(view: &View<'_>, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter().any(|set| dependents::<Pod>(view, &**set).iter().any(|pod| !is_terminal(pod)))
}

impl Controller for DeploymentController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "deployment"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<Deployment, _>(|change| [ObjectKey::of(&**change.object())]);
        watch_dependents::<Deployment, ReplicaSet>(triggers, selector);
        // The new pods of a Recreate wait for the last of the old ones to end.
        crate::claim::index_dependents::<Pod>(triggers);
        let (sets, deployments) = (triggers.informer::<ReplicaSet>(), triggers.informer::<Deployment>());
        triggers.on::<Pod, _>(move |change: &Change<Arc<Pod>>| {
            let pod = change.object();
            if !is_terminal(pod) && !matches!(change, Change::Deleted(_)) {
                return None;
            }
            let key = controller_key::<ReplicaSet>(&**pod)?;
            let key = controller_key::<Deployment>(&*sets.get(&key.namespace, &key.name)?)?;
            let deployment = deployments.get(&key.namespace, &key.name)?;
            is_recreate(&deployment).then_some(key)
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(deployment) = view.of::<Deployment>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        let Claim { owned, actions } = claim::<ReplicaSet>(view, &*deployment, &selector(&deployment));
        if !actions.is_empty() {
            return actions.into();
        }
        let mut rollout = Rollout::new(deployment.clone(), owned, now);
        if deployment.metadata.deletion_timestamp.is_some() {
            rollout.observe();
            return rollout.into_plan();
        }
        rollout.note_pause();
        if deployment.spec.paused || rollout.was_scaled() {
            rollout.adopt_revision(false, view);
            rollout.scale();
            if deployment.spec.paused {
                rollout.clean_up();
            }
            rollout.observe();
            return rollout.into_plan();
        }
        if is_recreate(&deployment) {
            rollout.adopt_revision(false, view);
            let old: Vec<_> = rollout.old.iter().filter_map(|draft| draft.was.clone()).collect();
            if !rollout.stop_old() && !have_pods(view, &old) {
                rollout.adopt_revision(true, view);
                rollout.start_new();
                rollout.clean_up_if_complete();
            }
        } else {
            rollout.adopt_revision(true, view);
            if !rollout.is_blocked() && !rollout.grow_new() && !rollout.shrink_old() {
                rollout.clean_up_if_complete();
            }
        }
        rollout.observe_progress();
        rollout.into_plan()
    }
}

#[cfg(test)]
mod tests;
