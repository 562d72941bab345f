//! A replica set as it is and as it shall become.

use std::sync::Arc;

use longshore_core::api::{Deployment, ReplicaSet};

use super::rollout::max_surge;

/// Annotation: how many pods the deployment wanted when it last scaled this replica set.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation: how many pods it would have borne then.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// As it is; `None` if it is to be created.
    pub(super) was: Option<Arc<ReplicaSet>>,
    /// As it shall become.
    pub(super) is: ReplicaSet,
}

impl Draft {
    pub(super) fn of(set: &Arc<ReplicaSet>) -> Self {
        Self { was: Some(set.clone()), is: (**set).clone() }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.was.as_ref().is_none_or(|was| **was != self.is)
    }

    pub(super) fn replicas(&self) -> i32 {
        self.is.spec.replicas.unwrap_or(1)
    }

    /// How many pods it was told to have before this look.
    pub(super) fn replicas_before(&self) -> i32 {
        self.was.as_ref().map_or(0, |was| was.spec.replicas.unwrap_or(1))
    }

    /// How many pods it has or will have: those that it has yet to delete count.
    pub(super) fn occupied(&self) -> i32 {
        self.replicas().max(self.is.status.replicas)
    }

    /// How many of its pods serve and are not yet bound to go.
    pub(super) fn available(&self) -> i32 {
        self.is.status.available_replicas.min(self.replicas())
    }

    /// Whether it has taken notice of its last change.
    pub(super) fn is_observed(&self) -> bool {
        self.is.status.observed_generation >= self.is.metadata.generation.unwrap_or_default()
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.is.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(super) fn number(&self, key: &str) -> Option<i64> {
        self.annotation(key)?.parse().ok()
    }

    /// Tells it to have this many pods.
    pub(super) fn scale_to(&mut self, replicas: i32, deployment: &Deployment) {
        self.is.spec.replicas = Some(replicas);
        self.note_size(deployment);
    }

    /// Notes how many pods the deployment wants and bears, for scaling in proportion later.
    pub(super) fn note_size(&mut self, deployment: &Deployment) {
        let desired = deployment.spec.replicas.unwrap_or(1);
        let annotations = self.is.metadata.annotations.get_or_insert_default();
        annotations.insert(DESIRED.to_owned(), desired.to_string());
        annotations.insert(MAX.to_owned(), desired.saturating_add(max_surge(deployment)).to_string());
    }
}
