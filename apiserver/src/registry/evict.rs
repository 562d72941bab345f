//! Eviction: a deletion of a pod that disruption budgets have a say in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::pod::helpers::{is_ready, is_terminal, set_condition};
use longshore_core::api::pod::{PodCondition, PodPhase};
use longshore_core::api::pod_disruption_budget::UnhealthyPodEvictionPolicy;
use longshore_core::api::{ConditionStatus, Pod, PodDisruptionBudget};
use longshore_core::client::params::{DeleteParams, GetParams};
use longshore_core::client::{Deleted, Error, Target};
use longshore_core::kind::{AnyObject, KindType, Subresource};
use longshore_core::selector::Selector;

use super::create::DEFAULT_MANAGER;
use super::update::Rewrite;
use super::{Registry, name_of};
use crate::status;

/// Most pods that a budget notes as evicted but not yet counted.
const DISRUPTED_MAX: usize = 2000;

impl Registry {
    /// Deletes a pod if the budget that covers it allows it, which then allows one pod less.
    ///
    /// # Errors
    /// 429 TooManyRequests if the budget allows no pod to go, or nobody has counted its pods yet; and what a deletion says.
    pub async fn evict(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        let pod = self.get(target, &GetParams::default()).await?;
        let Some(pod) = pod.as_any().downcast_ref::<Pod>() else {
            return Err(status::failure(404, "NotFound", "the server could not find the requested resource"));
        };
        let is_wanted = !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none();
        if is_wanted {
            if pod.status.phase != PodPhase::Pending
                && let Some(budget) = self.budget_of(pod).await?
            {
                self.spend(&budget, pod, params.dry_run).await?;
            }
            self.announce(target, params.dry_run).await?;
        }
        self.delete(target, params).await
    }

    /// Says on the pod why it goes, for those who count how pods end.
    async fn announce(&self, target: Target<'_>, dry_run: bool) -> Result<(), Error> {
        let now = self.now();
        self.rewrite(status_of(target, dry_run), |current| {
            let mut new = current.clone_box();
            if let Some(pod) = new.as_any_mut().downcast_mut::<Pod>() {
                let condition = PodCondition {
                    type_: "DisruptionTarget".to_owned(),
                    status: ConditionStatus::True,
                    reason: "EvictionByEvictionAPI".to_owned(),
                    message: "Eviction API: evicting".to_owned(),
                    ..PodCondition::default()
                };
                set_condition(&mut pod.status, condition, now.0);
            }
            Ok(new)
        })
        .await
        .map(drop)
    }

    /// The budget that covers a pod. The cache has been made current by the read of the pod.
    async fn budget_of(&self, pod: &Pod) -> Result<Option<PodDisruptionBudget>, Error> {
        let budgets = self.cached_objects(KindType::of::<PodDisruptionBudget>());
        let covers = |budget: &&PodDisruptionBudget| {
            budget.metadata.namespace == pod.metadata.namespace
                && Selector::from_object(budget.spec.selector.as_ref())
                    .is_ok_and(|selector| selector.matches_optional(pod.metadata.labels.as_ref()))
        };
        let mut covering = budgets.iter().filter_map(|budget| budget.as_any().downcast_ref()).filter(covers);
        let first = covering.next().cloned();
        if covering.next().is_some() {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(status::failure(500, "InternalError", why));
        }
        Ok(first)
    }

    /// Takes one pod off what a budget allows.
    async fn spend(&self, budget: &PodDisruptionBudget, pod: &Pod, dry_run: bool) -> Result<(), Error> {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let kind = KindType::of::<PodDisruptionBudget>();
        let rewrite = status_of(Target { kind, namespace, name: name_of(budget) }, dry_run);
        let now = self.now();
        self.rewrite(rewrite, |current| {
            let Some(budget) = current.as_any().downcast_ref::<PodDisruptionBudget>() else {
                return Err(status::internal("what is stored as a budget is none"));
            };
            if is_no_loss(budget, pod) {
                return Ok(current.clone_box());
            }
            spent(budget, pod, now.clone()).map(|budget| Box::new(budget) as Box<dyn AnyObject>)
        })
        .await
        .map(drop)
    }
}

fn status_of(target: Target<'_>, dry_run: bool) -> Rewrite<'_> {
    Rewrite { target, subresource: Some(Subresource::Status), manager: DEFAULT_MANAGER, dry_run, tracks: true }
}

/// Whether the pod is not ready, and so does not count among those that the budget protects.
fn is_no_loss(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let status = &budget.status;
    let enough = status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
    let always = budget.spec.unhealthy_pod_eviction_policy == Some(UnhealthyPodEvictionPolicy::AlwaysAllow);
    !is_ready(pod) && (always || enough)
}

fn spent(budget: &PodDisruptionBudget, pod: &Pod, now: Time) -> Result<PodDisruptionBudget, Error> {
    let (name, status) = (name_of(budget), &budget.status);
    if status.observed_generation < budget.metadata.generation.unwrap_or(0) {
        return Err(refused(format!("The disruption budget {name} is still being processed by the server."), 10));
    }
    if status.disruptions_allowed <= 0 {
        let (desired, current) = (status.desired_healthy, status.current_healthy);
        let why = format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently");
        return Err(refused(why, 0));
    }
    if status.disrupted_pods.len() > DISRUPTED_MAX {
        return Err(refused(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller".into(),
            0,
        ));
    }
    let mut budget = budget.clone();
    budget.status.disruptions_allowed -= 1;
    budget.status.disrupted_pods.insert(name_of(pod).to_owned(), now);
    Ok(budget)
}

fn refused(why: String, retry_after: u32) -> Error {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut refused = longshore_core::status::too_many_requests(message, retry_after);
    let cause = longshore_core::status::cause("DisruptionBudget", why, "");
    if let Some(details) = &mut refused.details {
        details.causes.push(cause);
    }
    refused.into()
}
