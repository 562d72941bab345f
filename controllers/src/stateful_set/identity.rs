//! The name, the labels and the storage by which a pod of a stateful set stays the same when it is replaced.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use longshore_core::api::pod::{PersistentVolumeClaimVolumeSource, Volume};
use longshore_core::api::stateful_set::PersistentVolumeClaimRetentionPolicyType;
use longshore_core::api::{PersistentVolumeClaim, Pod, PodTemplateSpec, StatefulSet};
use longshore_core::kind::AnyObject;
use serde_json::json;

use crate::controller::View;
use crate::plan::{Action, ObjectRef, Report, Verb};
use crate::revisions::REVISION_HASH;
use crate::template::pod_of;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

fn name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The ordinal in the name of one of the set's pods.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let digits = pod.metadata.name.as_deref()?.strip_prefix(name(set))?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    // `web-01` and `web-+1` are other names.
    (ordinal >= 0 && ordinal.to_string() == digits).then_some(ordinal)
}

/// The revision that a pod was made from.
pub(super) fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).map_or("", String::as_str)
}

fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", name(set))
}

fn claim_names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> {
    let templates = set.spec.volume_claim_templates.iter();
    templates.map(move |template| claim_name(set, template.metadata.name.as_deref().unwrap_or_default(), ordinal))
}

/// Whether a claim is called like one of the set's.
pub(super) fn is_claim_of(set: &StatefulSet, claim: &PersistentVolumeClaim) -> bool {
    let claim = claim.metadata.name.as_deref().unwrap_or_default();
    let ordinal = claim.rsplit_once('-').and_then(|(_, digits)| digits.parse().ok());
    ordinal.is_some_and(|ordinal| claim_names(set, ordinal).any(|name| name == claim))
}

/// Whether a claim of an ordinal is on its way out.
pub(super) fn loses_claim(view: &View<'_>, set: &StatefulSet, ordinal: i32) -> bool {
    let claims = view.of::<PersistentVolumeClaim>();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = claim_names(set, ordinal).filter_map(|name| claims.get(namespace, &name));
    found.any(|claim| claim.metadata.deletion_timestamp.is_some())
}

/// The pod of this ordinal.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pod_of(template, set);
    let pod_name = format!("{}-{ordinal}", name(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(pod_name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), pod_name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
    pod.spec.hostname = pod_name;
    pod.spec.subdomain.clone_from(&set.spec.service_name);
    for template in &set.spec.volume_claim_templates {
        let volume = template.metadata.name.clone().unwrap_or_default();
        // The set's claim goes before a volume of the same name in the template.
        pod.spec.volumes.retain(|other| other.name != volume);
        let claim_name = claim_name(set, &volume, ordinal);
        let source = PersistentVolumeClaimVolumeSource { claim_name, ..PersistentVolumeClaimVolumeSource::default() };
        let persistent_volume_claim = Some(Box::new(source));
        pod.spec.volumes.push(Volume { name: volume, persistent_volume_claim, ..Volume::default() });
    }
    pod
}

/// Creations and deletions, in the words of upstream's stateful set controller.
pub(super) fn words(report: &Report<'_>) -> (&'static str, String) {
    let (kind, name, about) = (report.kind.info.kind, report.name, report.about);
    let (verb, good, bad) = match report.verb {
        Verb::Create => ("create", "SuccessfulCreate", "FailedCreate"),
        Verb::Delete => ("delete", "SuccessfulDelete", "FailedDelete"),
        _ => ("update", "SuccessfulUpdate", "FailedUpdate"),
    };
    let what = if kind == "PersistentVolumeClaim" { "Claim" } else { kind };
    let text = format!("{verb} {what} {name} in {} {}", about.kind, about.name);
    match report.error {
        None => (good, format!("{text} successful")),
        Some(error) => (bad, format!("{text} failed error: {error}")),
    }
}

fn reference(owner: &dyn AnyObject) -> OwnerReference {
    let (info, meta) = (&owner.kind_type().info, owner.meta());
    OwnerReference {
        api_version: info.api_version(),
        kind: info.kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// What the set says about its claims: whether they go when it is deleted, and when it shrinks.
fn retention(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
    let deletes =
        |when: &PersistentVolumeClaimRetentionPolicyType| *when == PersistentVolumeClaimRetentionPolicyType::Delete;
    (deletes(&policy.when_deleted), deletes(&policy.when_scaled))
}

/// Sees to it that the claims of an ordinal are there, and that they go with the set or with the pod if the set says so.
/// `pod` is the pod if there is one, `condemned` whether it goes because the set shrinks.
pub(super) fn claims(
    view: &View<'_>,
    set: &StatefulSet,
    ordinal: i32,
    pod: Option<&Arc<Pod>>,
    condemned: bool,
) -> Vec<Action> {
    let informer = view.of::<PersistentVolumeClaim>();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let (goes_with_set, goes_with_pod) = retention(set);
    let goes_with_pod = condemned && goes_with_pod;
    let mut actions = Vec::new();
    for template in &set.spec.volume_claim_templates {
        let name = claim_name(set, template.metadata.name.as_deref().unwrap_or_default(), ordinal);
        let known = informer.get(namespace, &name);
        let mut owners = known.as_ref().and_then(|claim| claim.metadata.owner_references.clone()).unwrap_or_default();
        // References of our kinds are ours to set; what others set stays.
        let pod_name = format!("{}-{ordinal}", self::name(set));
        owners.retain(|owner| match owner.kind.as_str() {
            "Pod" => owner.name != pod_name,
            "StatefulSet" => owner.name != self::name(set),
            _ => true,
        });
        if goes_with_pod && let Some(pod) = pod {
            owners.push(reference(&**pod));
        } else if goes_with_set {
            owners.push(reference(set));
        }
        match known {
            Some(claim) => {
                let meta = &claim.metadata;
                if *meta.owner_references.as_deref().unwrap_or_default() != *owners {
                    let guard =
                        json!({ "ownerReferences": owners, "uid": meta.uid, "resourceVersion": meta.resource_version });
                    let patch = json!({ "metadata": guard });
                    actions.push(Action::Patch { target: ObjectRef::of(&*claim), subresource: None, patch });
                }
            }
            None if condemned => {}
            None => {
                let mut claim =
                    PersistentVolumeClaim { spec: template.spec.clone(), ..PersistentVolumeClaim::default() };
                claim.metadata.name = Some(name);
                claim.metadata.namespace.clone_from(&set.metadata.namespace);
                claim.metadata.annotations.clone_from(&template.metadata.annotations);
                let mut labels = template.metadata.labels.clone().unwrap_or_default();
                labels.extend(set.spec.selector.iter().flat_map(|selector| selector.match_labels.clone()));
                claim.metadata.labels = Some(labels);
                claim.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
                actions.push(Action::Create(Box::new(claim)).reported_with(set, words));
            }
        }
    }
    actions
}
