//! Events about a pod or one of its containers.

use longshore_core::api::{ObjectReference, Pod};
use longshore_core::events::{EventRecorder, Severity, reference};

/// Reports about one pod, or about one container of it.
#[derive(Debug, Clone)]
pub(crate) struct Events<'a> {
    recorder: &'a EventRecorder,
    about: ObjectReference,
}

impl<'a> Events<'a> {
    pub(crate) fn of_pod(recorder: &'a EventRecorder, pod: &Pod) -> Self {
        Self { recorder, about: reference(pod) }
    }

    /// The same, about a container: `kubectl describe` groups by the field's path.
    pub(crate) fn of_container(recorder: &'a EventRecorder, pod: &Pod, name: &str) -> Self {
        let list = if pod.spec.init_containers.iter().any(|container| container.name == name) {
            "initContainers"
        } else if pod.spec.ephemeral_containers.iter().any(|container| container.name == name) {
            "ephemeralContainers"
        } else {
            "containers"
        };
        let about = ObjectReference { field_path: format!("spec.{list}{{{name}}}"), ..reference(pod) };
        Self { recorder, about }
    }

    pub(crate) fn normal(&self, reason: &str, message: impl Into<String>) {
        self.recorder.record_about(self.about.clone(), Severity::Normal, reason, message);
    }

    pub(crate) fn warning(&self, reason: &str, message: impl Into<String>) {
        self.recorder.record_about(self.about.clone(), Severity::Warning, reason, message);
    }
}
