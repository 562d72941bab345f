//! Annotations of pods that mean something, most of them older forms of fields.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{for_each_container, scheduling};
use crate::api::pod::{
    AppArmorProfile, AppArmorProfileType, Pod, PodSpec, SeccompProfile, SeccompProfileType, Toleration,
};
use crate::devices::{self, Assignment};
use crate::validation::paths::validate_local_descending_path;
use crate::validation::{ErrorList, Path, Report, read_json};

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

type Annotations = BTreeMap<String, String>;

/// Whether a pod is only the picture of one that a node runs from a file.
pub(super) fn is_mirror(metadata: &ObjectMeta) -> bool {
    metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// Checks annotations of a pod or template.
pub(super) fn validate(metadata: &ObjectMeta, spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let none = Annotations::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&none);
    if let Some(value) = annotations.get(MIRROR)
        && spec.node_name.is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&at.key(MIRROR), value.as_str(), why);
    }
    if let Some(text) = annotations.get(TOLERATIONS).filter(|text| !text.is_empty()) {
        match read_json::<Vec<Toleration>>(text.as_bytes(), "[]core.Toleration") {
            Ok(tolerations) => scheduling::validate_tolerations(&tolerations, &at.child(TOLERATIONS), errors),
            Err(error) => errors.invalid(at, TOLERATIONS, error),
        }
    }
    if let Some(cost) = annotations.get(DELETION_COST)
        && !is_deletion_cost(cost)
    {
        errors.invalid(&at.key(DELETION_COST), cost.as_str(), "must be a 32bit integer");
    }
    if let Some(profile) = annotations.get(SECCOMP_POD) {
        validate_seccomp(profile, &at.child(SECCOMP_POD), errors);
    }
    for (key, profile) in annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER)) {
        validate_seccomp(profile, &at.child(key), errors);
    }
    for (key, profile) in annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let mut found = false;
        for_each_container(spec, at, |container, _| found |= container.name == name);
        if !found {
            errors.invalid(&at.key(key), name, "container not found");
        }
        let known = matches!(profile.as_str(), "" | "runtime/default" | "unconfined");
        if !known && !profile.starts_with("localhost/") {
            errors.invalid(&at.key(key), profile.as_str(), format!("invalid AppArmor profile name: {profile:?}"));
        }
    }
}

/// A number of 32 bits in the one way to write it.
fn is_deletion_cost(text: &str) -> bool {
    let canonical = text.starts_with('-') || text == "0" || text.starts_with(|c| ('1'..='9').contains(&c));
    canonical && text.parse::<i32>().is_ok()
}

fn validate_seccomp(profile: &str, at: &Path, errors: &mut ErrorList) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        _ => match profile.strip_prefix("localhost/") {
            Some(path) => validate_local_descending_path(path, at, errors),
            None => errors.invalid(at, profile, "must be a valid seccomp profile"),
        },
    }
}

/// Checks what an update does to annotations that may not change.
pub(super) fn validate_update(new: &Pod, old: &Pod, errors: &mut ErrorList) {
    let none = Annotations::new();
    let (now, before) =
        (new.metadata.annotations.as_ref().unwrap_or(&none), old.metadata.annotations.as_ref().unwrap_or(&none));
    let at = Path::new("metadata").child("annotations");
    for (key, _) in before.iter().filter(|(key, value)| now.get(*key) != Some(value)) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&at.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&at.key(key), "may not remove or update mirror pod annotation");
        }
        // Containers go on with what they have, whatever would be written.
        if key == devices::ANNOTATION && !old.spec.node_name.is_empty() && Assignment::of(old).is_some() {
            errors.forbidden(&at.key(key), "may not change which devices a placed pod has");
        }
    }
    for key in now.keys().filter(|key| !before.contains_key(*key)) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&at.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&at.key(key), "may not add mirror pod annotation");
        }
    }
    validate(&new.metadata, &new.spec, &at, errors);
}

/// Checks that a profile given by annotation and by field is the same. `at` is the specification's place.
pub(super) fn match_fields(metadata: &ObjectMeta, spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let Some(annotations) = &metadata.annotations else { return };
    let of_pod = spec.security_context.as_ref();
    if let Some(profile) = of_pod.and_then(|context| context.seccomp_profile.as_ref())
        && let Some(annotation) = annotations.get(SECCOMP_POD)
    {
        match_seccomp(annotation, profile, &at.child("securityContext").child("seccompProfile"), errors);
    }
    for_each_container(spec, at, |container, at| {
        let own = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
        if let Some(profile) = own
            && let Some(annotation) = annotations.get(&format!("{SECCOMP_CONTAINER}{}", container.name))
        {
            match_seccomp(annotation, profile, &at.child("securityContext").child("seccompProfile"), errors);
        }
    });
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let of_pod = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    for_each_container(spec, at, |container, at| {
        let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
        if let Some(profile) = own.or(of_pod)
            && let Some(annotation) = annotations.get(&format!("{APP_ARMOR}{}", container.name))
        {
            match_app_armor(annotation, profile, &at.child("securityContext").child("appArmorProfile"), errors);
        }
    });
}

fn match_seccomp(annotation: &str, profile: &SeccompProfile, at: &Path, errors: &mut ErrorList) {
    let type_matches = match profile.type_ {
        SeccompProfileType::Unconfined => annotation == "unconfined",
        SeccompProfileType::RuntimeDefault => matches!(annotation, "runtime/default" | "docker/default"),
        SeccompProfileType::Localhost => annotation.starts_with("localhost/"),
        _ => return,
    };
    if !type_matches {
        errors.forbidden(&at.child("type"), "seccomp type in annotation and field must match");
    } else if profile.type_ == SeccompProfileType::Localhost
        && annotation.strip_prefix("localhost/") != profile.localhost_profile.as_deref()
    {
        errors.forbidden(&at.child("localhostProfile"), "seccomp profile in annotation and field must match");
    }
}

fn match_app_armor(annotation: &str, profile: &AppArmorProfile, at: &Path, errors: &mut ErrorList) {
    let type_matches = match profile.type_ {
        AppArmorProfileType::Unconfined => annotation == "unconfined",
        AppArmorProfileType::RuntimeDefault => annotation == "runtime/default",
        AppArmorProfileType::Localhost => annotation.starts_with("localhost/"),
        _ => return,
    };
    if !type_matches {
        errors.forbidden(&at.child("type"), "apparmor type in annotation and field must match");
    } else if profile.type_ == AppArmorProfileType::Localhost
        && annotation.strip_prefix("localhost/") != profile.localhost_profile.as_deref()
    {
        errors.forbidden(&at.child("localhostProfile"), "apparmor profile in annotation and field must match");
    }
}
