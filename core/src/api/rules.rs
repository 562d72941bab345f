//! What the write rules of many kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::PodTemplateSpec;
use crate::api::pod::RestartPolicy;
use crate::kind::Described;
use crate::validation::{
    ErrorList, NameRule, Path, Report, validate_kube_finalizers, validate_object_meta, validate_object_meta_update,
};

/// Keeps the old generation, or moves it on by one if the desired state changed.
pub(crate) fn set_generation(metadata: &mut ObjectMeta, old: &ObjectMeta, changed: bool) {
    metadata.generation = if changed { Some(old.generation.unwrap_or_default() + 1) } else { old.generation };
}

/// Checks the metadata of a new object; `rule` says what the kind's names may look like.
pub(crate) fn validate<K: Described>(object: &K, rule: NameRule) -> ErrorList {
    let (metadata, path) = (object.meta(), Path::new("metadata"));
    let mut errors = validate_object_meta(metadata, K::INFO.namespaced, rule, &path);
    validate_kube_finalizers(metadata, &path, &mut errors);
    errors
}

/// Checks what an update does to metadata.
pub(crate) fn validate_update<K: Described>(object: &K, old: &K) -> ErrorList {
    let (metadata, path) = (object.meta(), Path::new("metadata"));
    let mut errors = validate_object_meta_update(metadata, old.meta(), &path);
    validate_kube_finalizers(metadata, &path, &mut errors);
    errors
}

/// Checks that an update names the version it is based on, as some kinds demand for their status a second time.
pub(crate) fn require_resource_version<K: Described>(object: &K, errors: &mut ErrorList) {
    if object.meta().resource_version.as_deref().unwrap_or_default().is_empty() {
        errors.required(&Path::new("resourceVersion"), "");
    }
}

/// Pods that are replaced when they go must restart their containers themselves.
pub(crate) fn require_always_restart(template: &PodTemplateSpec, at: &Path, errors: &mut ErrorList) {
    let policy = &template.spec.restart_policy;
    if *policy != RestartPolicy::Always {
        errors.not_supported(&at.child("spec").child("restartPolicy"), policy.as_str(), &["Always"]);
    }
}

/// The counts in the status of an object that keeps a number of pods running.
pub(crate) struct ReplicaCounts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: Option<i32>,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) terminating: Option<i32>,
    pub(crate) observed_generation: i64,
}

/// Checks counts, alone and against each other.
pub(crate) fn validate_replica_counts(counts: &ReplicaCounts, at: &Path, errors: &mut ErrorList) {
    let (full, ready, available) =
        (at.child("fullyLabeledReplicas"), at.child("readyReplicas"), at.child("availableReplicas"));
    let fully_labeled = counts.fully_labeled.unwrap_or_default();
    errors.non_negative(&at.child("replicas"), counts.replicas);
    errors.non_negative(&full, fully_labeled);
    errors.non_negative(&ready, counts.ready);
    errors.non_negative(&available, counts.available);
    if let Some(terminating) = counts.terminating {
        errors.non_negative(&at.child("terminatingReplicas"), terminating);
    }
    errors.non_negative(&at.child("observedGeneration"), counts.observed_generation);
    let mut bounded = |at: &Path, count: i32, most: i32, what: &str| {
        if count > most {
            errors.invalid(at, count, format!("cannot be greater than {what}"));
        }
    };
    bounded(&full, fully_labeled, counts.replicas, "status.replicas");
    bounded(&ready, counts.ready, counts.replicas, "status.replicas");
    bounded(&available, counts.available, counts.replicas, "status.replicas");
    bounded(&available, counts.available, counts.ready, "readyReplicas");
}
