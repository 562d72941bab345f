//! What pods and pod templates may say, in upstream's words and order (`k8s.io/kubernetes/pkg/apis/core/validation`).

mod affinity;
mod annotations;
pub(crate) mod cloud_volumes;
mod containers;
mod dns;
mod env;
mod ephemeral;
mod mounts;
mod probes;
mod projected;
mod resize;
mod resources;
mod scheduling;
mod security;
mod spec;
mod status;
mod update;
mod volumes;
mod windows;

pub(crate) use affinity::validate_node_selector;
pub(crate) use containers::{PROTOCOLS, validate_port_number, validate_protocol};
pub(super) use ephemeral::validate_ephemeral_containers_update;
pub(crate) use probes::validate_port;
pub(super) use resize::validate_resize;
pub(crate) use scheduling::validate_taint_effect;
pub(super) use status::validate_status_update;
pub(super) use update::validate_pod_update;
pub(crate) use volumes::{Sources, validate_host_path};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Binding, Container, Pod, PodSpec, PodTemplateSpec};
use crate::api::rules;
use crate::validation::{ErrorList, NameRule, Path, Report, validate_annotations, validate_labels};

/// Checks a new pod.
pub(super) fn validate_pod(pod: &Pod) -> ErrorList {
    let mut errors = rules::validate(pod, NameRule::DnsSubdomain);
    validate_content(pod, &mut errors);
    let (spec, at) = (&pod.spec, Path::new("spec"));
    if !spec.ephemeral_containers.is_empty() {
        errors.forbidden(&at.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.node_name.is_empty() && !spec.scheduling_gates.is_empty() {
        errors.forbidden(&at.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::match_fields(&pod.metadata, spec, &at, &mut errors);
    errors
}

/// Checks a pod's metadata and specification, whether it is new or changed.
fn validate_metadata_and_spec(pod: &Pod, errors: &mut ErrorList) {
    errors.extend(rules::validate(pod, NameRule::DnsSubdomain));
    validate_content(pod, errors);
}

/// What holds for pods, new or changed, besides the rules for metadata of all kinds.
fn validate_content(pod: &Pod, errors: &mut ErrorList) {
    let (spec, at) = (&pod.spec, Path::new("spec"));
    annotations::validate(&pod.metadata, spec, &Path::new("metadata").child("annotations"), errors);
    spec::validate(spec, Some(&pod.metadata), &at, errors);
    if spec.service_account_name.is_empty() {
        projected::refuse_tokens(spec, &at, errors);
    }
    for (list, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
        for (index, container) in containers.iter().enumerate() {
            containers::validate_image_of_pod(container, &at.child(list).index(index), errors);
        }
    }
}

/// Checks what pods are made from. `at` is the template's place.
pub(crate) fn validate_template(template: &PodTemplateSpec, at: &Path, errors: &mut ErrorList) {
    validate_template_metadata(template, at, errors);
    let (metadata, spec, at) = (&template.metadata, &template.spec, at.child("spec"));
    spec::validate(spec, None, &at, errors);
    annotations::match_fields(metadata, spec, &at, errors);
    if !spec.ephemeral_containers.is_empty() {
        errors.forbidden(&at.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// Checks labels and annotations of what pods are made from.
pub(crate) fn validate_template_metadata(template: &PodTemplateSpec, at: &Path, errors: &mut ErrorList) {
    let (metadata, spec) = (&template.metadata, &template.spec);
    if let Some(labels) = &metadata.labels {
        errors.extend(validate_labels(labels, &at.child("labels")));
    }
    if let Some(annotations) = &metadata.annotations {
        errors.extend(validate_annotations(annotations, &at.child("annotations")));
    }
    annotations::validate(metadata, spec, &at.child("annotations"), errors);
}

impl Binding {
    /// Checks the assignment itself; whether pod and node exist and fit is the registry's business.
    pub fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        let (kind, at) = (&self.target.kind, Path::new("target"));
        if !kind.is_empty() && kind != "Node" {
            errors.not_supported(&at.child("kind"), kind.as_str(), &["Node", "<empty>"]);
        }
        if self.target.name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        errors
    }
}

/// Every container of a pod with its place: init containers first, debugging containers last.
fn for_each_container(spec: &PodSpec, at: &Path, mut visit: impl FnMut(&Container, &Path)) {
    for (list, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (index, container) in containers.iter().enumerate() {
            visit(container, &at.child(list).index(index));
        }
    }
    for (index, container) in spec.ephemeral_containers.iter().enumerate() {
        visit(&container.as_container(), &at.child("ephemeralContainers").index(index));
    }
}

/// The name that metadata gives, empty if none.
fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}
