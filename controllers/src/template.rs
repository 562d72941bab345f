//! Pods from a template.

use longshore_core::api::{Pod, PodTemplateSpec};
use longshore_core::kind::AnyObject;

use crate::claim::controller_ref;

/// A pod as the template says, controlled by `owner` and with a name that the server makes from the owner's.
pub(crate) fn pod_of(template: &PodTemplateSpec, owner: &dyn AnyObject) -> Pod {
    let mut pod = Pod { spec: template.spec.clone(), ..Pod::default() };
    let filled = |map: &Option<std::collections::BTreeMap<String, String>>| map.clone().filter(|map| !map.is_empty());
    pod.metadata.labels = filled(&template.metadata.labels);
    pod.metadata.annotations = filled(&template.metadata.annotations);
    pod.metadata.finalizers = template.metadata.finalizers.clone().filter(|all| !all.is_empty());
    pod.metadata.namespace.clone_from(&owner.meta().namespace);
    pod.metadata.generate_name = Some(format!("{}-", owner.meta().name.as_deref().unwrap_or_default()));
    pod.metadata.owner_references = Some(vec![controller_ref(owner)]);
    pod
}
