//! Empties a namespace that is being deleted, then lets it go.
//!
//! Pods go first, so that nothing that they use (a network policy, a secret) goes from under them; then everything else.
//! The conditions say what is still in the way.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::namespace::{FINALIZER_KUBERNETES, NamespaceCondition, NamespacePhase};
use longshore_core::api::{ConditionStatus, Namespace};
use longshore_core::client::params::PropagationPolicy;
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::kind::{DynObject, KindType, Subresource};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, ObjectRef, Plan};

/// Condition, reason and message while nothing is in the way.
const CLEAR: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The namespace controller.
#[derive(Debug, Clone)]
pub struct NamespaceController {
    kinds: Vec<&'static KindType>,
}

impl NamespaceController {
    /// A controller that empties namespaces of objects of these kinds; those that have no namespace are skipped.
    pub fn new(kinds: &[&'static KindType]) -> Self {
        Self { kinds: kinds.iter().copied().filter(|kind| kind.info.namespaced).collect() }
    }

    /// What the namespace holds, pods first.
    fn content(&self, view: &View<'_>, name: &str) -> Vec<(&'static KindType, Vec<DynObject>)> {
        let content = |kind: &&'static KindType| (*kind, view.of_kind(kind).list_namespace(name));
        let mut content: Vec<_> = self.kinds.iter().map(content).filter(|(_, objects)| !objects.is_empty()).collect();
        content.sort_by_key(|(kind, _)| !is_pod(kind));
        content
    }
}

fn is_pod(kind: &KindType) -> bool {
    kind.info.group.is_empty() && kind.info.kind == "Pod"
}

/// The conditions that describe what is left, with the times of those that did not change kept.
fn conditions(
    known: &[NamespaceCondition],
    content: &[(&'static KindType, Vec<DynObject>)],
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let (mut counts, mut finalizers) = (Vec::new(), BTreeMap::<&str, usize>::new());
    for (kind, objects) in content {
        counts.push(format!("{}.{} has {} resource instances", kind.info.plural, kind.info.group, objects.len()));
        for finalizer in objects.iter().flat_map(|object| object.meta().finalizers.iter().flatten()) {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    counts.sort_unstable();
    let finalizers: Vec<String> =
        finalizers.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances")).collect();
    let mut conditions = known.to_vec();
    for (type_, reason, message) in CLEAR {
        let (left, reason_left, message_left) = match type_ {
            "NamespaceContentRemaining" => (&counts, "SomeResourcesRemain", "Some resources are remaining: "),
            "NamespaceFinalizersRemaining" => {
                (&finalizers, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: ")
            }
            _ => (&Vec::new(), "", ""),
        };
        let condition = NamespaceCondition {
            type_: type_.to_owned(),
            status: if left.is_empty() { ConditionStatus::False } else { ConditionStatus::True },
            last_transition_time: Some(Time(now)),
            reason: if left.is_empty() { reason } else { reason_left }.to_owned(),
            message: if left.is_empty() { message.to_owned() } else { format!("{message_left}{}", left.join(", ")) },
        };
        let same = |known: &NamespaceCondition| {
            known.status == condition.status && known.reason == condition.reason && known.message == condition.message
        };
        match conditions.iter_mut().find(|known| known.type_ == type_) {
            Some(known) if same(known) => {}
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

impl Controller for NamespaceController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "namespace"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<Namespace, _>(|change| {
            let deleting = change.object().metadata.deletion_timestamp.is_some();
            deleting.then(|| ObjectKey::of(&**change.object()))
        });
        for kind in &self.kinds {
            triggers.on_kind(kind, |change| match change {
                Change::Deleted(object) => {
                    object.meta().namespace.as_deref().map(|namespace| ObjectKey::new("", namespace))
                }
                Change::Added(_) | Change::Modified { .. } => None,
            });
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(namespace) = view.of::<Namespace>().get("", &key.name) else { return Plan::nothing() };
        let ours = |finalizer: &String| finalizer == FINALIZER_KUBERNETES;
        if namespace.metadata.deletion_timestamp.is_none() || !namespace.spec.finalizers.iter().any(ours) {
            return Plan::nothing();
        }
        let mut plan = Plan::nothing();
        let content = self.content(view, &key.name);
        let pods_first = content.first().is_some_and(|(kind, _)| is_pod(kind));
        for (kind, objects) in &content {
            if pods_first && !is_pod(kind) {
                break;
            }
            for object in objects.iter().filter(|object| object.meta().deletion_timestamp.is_none()) {
                plan.push(Action::Delete {
                    target: ObjectRef::of(&**object),
                    resource_version: None,
                    propagation: Some(PropagationPolicy::Background),
                    grace_seconds: None,
                });
            }
        }
        let mut status = (*namespace).clone();
        status.status.phase = NamespacePhase::Terminating;
        status.status.conditions = conditions(&namespace.status.conditions, &content, now);
        if !content.is_empty() {
            if status != *namespace {
                // What is left is what the deletions above leave; the next look, which they cause, tells.
                plan.push(Action::Update { object: Box::new(status), subresource: Some(Subresource::Status) });
            }
            return plan;
        }
        // The caches may be behind; nothing may be left behind in a namespace that is gone.
        for kind in &self.kinds {
            plan.push(Action::ConfirmEmpty { kind, namespace: key.name.clone() });
        }
        let mut free = (*namespace).clone();
        free.spec.finalizers.retain(|finalizer| !ours(finalizer));
        plan.push(Action::Update { object: Box::new(free), subresource: Some(Subresource::Finalize) });
        plan
    }
}

#[cfg(test)]
#[path = "namespace_tests.rs"]
mod tests;
