//! One look at a deployment, from what is there to a plan.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::api::deployment::DeploymentStrategyType;
use longshore_core::api::{Deployment, ReplicaSet};
use longshore_core::events::Severity;
use longshore_core::int_or_string::IntOrString;

use super::draft::Draft;
use super::revision::REVISION;
use crate::plan::{Action, Plan};

/// What a look at a deployment has decided so far.
#[derive(Debug)]
pub(super) struct Rollout {
    /// The deployment as it is.
    pub(super) was: Arc<Deployment>,
    /// The deployment with the annotations and the status that it shall have.
    pub(super) deployment: Deployment,
    /// The replica sets of older templates, oldest first.
    pub(super) old: Vec<Draft>,
    /// The replica set of the template as it is now.
    pub(super) new: Option<Draft>,
    /// Old replica sets that are not worth keeping.
    pub(super) doomed: Vec<Arc<ReplicaSet>>,
    /// Nothing but the status may change: the name of a new replica set is taken.
    pub(super) collided: bool,
    /// The last try to create the new replica set failed, and the status does not say so yet.
    pub(super) tell_first: bool,
    pub(super) look_again: Option<Duration>,
    pub(super) now: Timestamp,
}

fn is_rolling(deployment: &Deployment) -> bool {
    deployment.spec.strategy.type_ != DeploymentStrategyType::Recreate
}

/// How many pods there may be beyond the number wanted, and how many may be missing. If both came out as 0 nothing could
/// ever move, so one may be missing then.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let replicas = deployment.spec.replicas.unwrap_or(1);
    let given = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
    let quarter = || IntOrString::String("25%".to_owned());
    // What is neither a number nor a percentage does not pass validation.
    let scaled =
        |bound: Option<IntOrString>, up| bound.unwrap_or_else(quarter).scaled(replicas, up).unwrap_or(0).max(0);
    let (surge, unavailable) = (scaled(given.max_surge, true), scaled(given.max_unavailable, false));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    bounds(deployment).0
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    bounds(deployment).1.min(deployment.spec.replicas.unwrap_or(1))
}

impl Rollout {
    pub(super) fn new(was: Arc<Deployment>, mut sets: Vec<Arc<ReplicaSet>>, now: Timestamp) -> Self {
        let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
        sets.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
        let deployment = (*was).clone();
        let old = sets.iter().map(Draft::of).collect();
        let (new, doomed, look_again) = (None, Vec::new(), None);
        Self { was, deployment, old, new, doomed, collided: false, tell_first: false, look_again, now }
    }

    pub(super) fn replicas(&self) -> i32 {
        self.deployment.spec.replicas.unwrap_or(1)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Draft> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn total(&self, count: impl Fn(&Draft) -> i32) -> i32 {
        self.all().map(count).fold(0, i32::saturating_add)
    }

    /// Whether the number of pods wanted changed since the replica sets were last scaled.
    pub(super) fn was_scaled(&self) -> bool {
        let differs = |desired: i64| desired != i64::from(self.replicas());
        self.all().any(|draft| draft.replicas() > 0 && draft.number(super::draft::DESIRED).is_some_and(differs))
    }

    /// Whether nothing more can be done in this look.
    pub(super) fn is_blocked(&self) -> bool {
        self.collided
    }

    /// Deletes old replica sets beyond the history limit, oldest revisions first, unless they still have pods.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let mut kept: Vec<&Draft> =
            self.old.iter().filter(|draft| draft.is.metadata.deletion_timestamp.is_none()).collect();
        let surplus = kept.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        kept.sort_by_key(|draft| draft.number(REVISION).unwrap_or(0));
        let idle = |draft: &&&Draft| draft.occupied() == 0 && draft.is_observed();
        self.doomed = kept.iter().take(surplus).filter(idle).filter_map(|draft| draft.was.clone()).collect();
    }

    pub(super) fn clean_up_if_complete(&mut self) {
        if super::status::is_complete(&self.deployment, &self.status()) {
            self.clean_up();
        }
    }

    /// What has to be done so that everything is as the drafts say.
    pub(super) fn into_plan(self) -> Plan {
        let mut plan = Plan { actions: Vec::new(), look_again: self.look_again };
        let changed = self.deployment != *self.was;
        let status = changed.then(|| Action::update_status(self.deployment));
        if self.collided {
            plan.actions.extend(status);
            return plan;
        }
        let (first, last) = if self.tell_first { (status, None) } else { (None, status) };
        plan.actions.extend(first);
        for draft in self.old.into_iter().chain(self.new).filter(Draft::is_changed) {
            let (before, after) = (draft.replicas_before(), draft.replicas());
            let scaled = draft.is.metadata.name.as_ref().filter(|_| before != after).map(|name| {
                let direction = if after > before { "up" } else { "down" };
                let text = format!("Scaled {direction} replica set {name} from {before} to {after}");
                Action::event(&*self.was, Severity::Normal, "ScalingReplicaSet", text)
            });
            plan.push(match draft.was {
                None => Action::Create(Box::new(draft.is)),
                Some(_) => Action::Update { object: Box::new(draft.is), subresource: None },
            });
            plan.actions.extend(scaled);
        }
        plan.actions.extend(self.doomed.iter().map(|set| Action::delete(&**set)));
        plan.actions.extend(last);
        plan
    }
}
