//! Deletes objects whose owners are gone, and carries out the propagation policies of deletion.
//!
//! - **background**: the owner goes at once; its dependents, then without an owner, follow.
//! - **foreground**: the owner waits (finalizer `foregroundDeletion`) until every dependent that blocks it is gone.
//! - **orphan**: the owner waits (finalizer `orphan`) until its dependents no longer name it.
//!
//! Works over all kinds by their metadata alone. An owner of a kind that nobody serves here counts as present.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use longshore_core::client::params::PropagationPolicy;
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::kind::{AnyObject, DynObject, KindType};
use serde_json::json;

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, ObjectRef, Plan};

/// Index of objects by the uids of their owners.
const BY_OWNER: &str = "garbage-collector/owner-uid";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The garbage collector.
#[derive(Debug, Clone)]
pub struct GarbageCollector {
    kinds: Vec<&'static KindType>,
}

/// An object to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item {
    group: &'static str,
    kind: &'static str,
    key: ObjectKey,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

impl Item {
    fn of(object: &dyn AnyObject) -> Self {
        let info = &object.kind_type().info;
        Self { group: info.group, kind: info.kind, key: ObjectKey::of(object) }
    }
}

fn owners(object: &dyn AnyObject) -> &[OwnerReference] {
    object.meta().owner_references.as_deref().unwrap_or_default()
}

fn has_finalizer(object: &dyn AnyObject, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|have| have == finalizer)
}

fn is_deleting(object: &dyn AnyObject) -> bool {
    object.meta().deletion_timestamp.is_some()
}

fn waits_for_dependents(object: &dyn AnyObject) -> bool {
    is_deleting(object) && has_finalizer(object, FOREGROUND)
}

/// How an object's owners stand.
#[derive(Debug, Default)]
struct Owners {
    /// There and staying, or not for us to judge.
    solid: usize,
    /// Gone, as far as the cache knows.
    gone: Vec<ObjectRef>,
    /// Deleted in the foreground: they wait for this object.
    waiting: Vec<ObjectRef>,
}

impl GarbageCollector {
    /// A collector over these kinds.
    pub fn new(kinds: Vec<&'static KindType>) -> Self {
        Self { kinds }
    }

    fn kind(&self, group: &str, kind: &str) -> Option<&'static KindType> {
        self.kinds.iter().copied().find(|have| have.info.group == group && have.info.kind == kind)
    }

    /// The object that a reference of `dependent` means; `None` if its kind is unknown, or its namespace cannot be.
    fn owner(&self, dependent: &dyn AnyObject, reference: &OwnerReference) -> Option<ObjectRef> {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = self.kind(group, &reference.kind)?;
        let namespace = match (kind.info.namespaced, dependent.meta().namespace.as_deref()) {
            (false, _) => "",
            (true, Some(namespace)) => namespace,
            // An object without namespace cannot have an owner within one.
            (true, None) => return None,
        };
        Some(ObjectRef { kind, key: ObjectKey::new(namespace, &reference.name), uid: reference.uid.clone() })
    }

    fn dependents(&self, view: &View<'_>, uid: &str) -> Vec<DynObject> {
        self.kinds.iter().flat_map(|kind| view.of_kind(kind).by_index(BY_OWNER, uid)).collect()
    }

    fn judge(&self, view: &View<'_>, object: &dyn AnyObject) -> Owners {
        let mut judged = Owners::default();
        for reference in owners(object) {
            let Some(owner) = self.owner(object, reference) else {
                judged.solid += 1;
                continue;
            };
            let found = view.of_kind(owner.kind).get(&owner.key.namespace, &owner.key.name);
            match found.filter(|found| found.meta().uid.as_deref() == Some(&owner.uid)) {
                None => judged.gone.push(owner),
                Some(found) if waits_for_dependents(&*found) => judged.waiting.push(owner),
                Some(_) => judged.solid += 1,
            }
        }
        judged
    }

    /// What to do about an object that nobody deleted, or whose owner waits for it.
    fn collect(&self, view: &View<'_>, object: &dyn AnyObject) -> Plan {
        let Owners { solid, gone, waiting } = self.judge(view, object);
        let mut plan = Plan::nothing();
        if gone.is_empty() && waiting.is_empty() {
            return plan;
        }
        // The cache of another kind may be behind: an owner is gone only if the server says so.
        for owner in &gone {
            plan.push(Action::ConfirmGone(owner.clone()));
        }
        if solid > 0 {
            let lost = |uid: &str| gone.iter().chain(&waiting).any(|owner| owner.uid == uid);
            plan.push(without_owners(object, lost));
            return plan;
        }
        let dependents = if waiting.is_empty() { Vec::new() } else { self.dependents(view, uid(object)) };
        let propagation = if !dependents.is_empty() {
            // An owner below which somebody blocks on the object itself would wait for itself for ever.
            for dependent in dependents.iter().filter(|dependent| waits_for_dependents(&***dependent)) {
                plan.push(unblock(&**dependent, uid(object)));
            }
            PropagationPolicy::Foreground
        } else if has_finalizer(object, ORPHAN) {
            PropagationPolicy::Orphan
        } else if has_finalizer(object, FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        plan.push(Action::Delete {
            target: ObjectRef::of(object),
            resource_version: object.meta().resource_version.clone(),
            propagation: Some(propagation),
            grace_seconds: None,
        });
        plan
    }

    /// The owner is deleted; its dependents shall stay.
    fn orphan(&self, view: &View<'_>, object: &dyn AnyObject) -> Plan {
        let mut plan = Plan::nothing();
        for dependent in self.dependents(view, uid(object)) {
            plan.push(without_owners(&*dependent, |owner| owner == uid(object)));
        }
        plan.push(without_finalizer(object, ORPHAN));
        plan
    }

    /// The owner is deleted after its dependents, each of which is looked at on its own.
    fn foreground(&self, view: &View<'_>, object: &dyn AnyObject) -> Plan {
        let blocks = |dependent: &DynObject| {
            owners(&**dependent)
                .iter()
                .any(|owner| owner.uid == uid(object) && owner.block_owner_deletion == Some(true))
        };
        if self.dependents(view, uid(object)).iter().any(blocks) {
            return Plan::nothing();
        }
        vec![without_finalizer(object, FOREGROUND)].into()
    }

    /// Whom a change makes worth a look.
    fn concerned(&self, triggers: &Triggers<Item>, change: &Change<DynObject>) -> Vec<Item> {
        let object = &**change.object();
        let mut items = vec![Item::of(object)];
        let gone = matches!(change, Change::Deleted(_));
        if gone || waits_for_dependents(object) {
            for kind in &self.kinds {
                let dependents = triggers.dyn_informer(kind).by_index(BY_OWNER, uid(object));
                items.extend(dependents.iter().map(|dependent| Item::of(&**dependent)));
            }
        }
        // Owners that wait for this object, or did before the change.
        let references = owners(object).iter().chain(change.old().into_iter().flat_map(|old| owners(&**old)));
        for owner in references.filter_map(|reference| self.owner(object, reference)) {
            items.push(Item { group: owner.kind.info.group, kind: owner.kind.info.kind, key: owner.key });
        }
        items
    }
}

fn uid(object: &dyn AnyObject) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

fn guarded(object: &dyn AnyObject, mut patch: serde_json::Value) -> Action {
    patch["metadata"]["uid"] = json!(object.meta().uid);
    patch["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
    Action::Patch { target: ObjectRef::of(object), subresource: None, patch }
}

fn without_owners(object: &dyn AnyObject, lost: impl Fn(&str) -> bool) -> Action {
    let kept: Vec<&OwnerReference> = owners(object).iter().filter(|owner| !lost(&owner.uid)).collect();
    guarded(object, json!({ "metadata": { "ownerReferences": kept } }))
}

fn unblock(object: &dyn AnyObject, owner: &str) -> Action {
    let mut references = owners(object).to_vec();
    for reference in references.iter_mut().filter(|reference| reference.uid == owner) {
        reference.block_owner_deletion = Some(false);
    }
    guarded(object, json!({ "metadata": { "ownerReferences": references } }))
}

fn without_finalizer(object: &dyn AnyObject, finalizer: &str) -> Action {
    let kept: Vec<&String> = object.meta().finalizers.iter().flatten().filter(|have| *have != finalizer).collect();
    guarded(object, json!({ "metadata": { "finalizers": kept } }))
}

impl Controller for GarbageCollector {
    type Key = Item;

    fn name(&self) -> &'static str {
        "garbage_collector"
    }

    fn triggers(&self, triggers: &Triggers<Item>) {
        for kind in &self.kinds {
            triggers
                .dyn_informer(kind)
                .add_index(BY_OWNER, |object| owners(object).iter().map(|owner| owner.uid.clone()).collect());
        }
        for kind in &self.kinds {
            let (collector, informers) = (self.clone(), triggers.clone());
            triggers.on_kind(kind, move |change| collector.concerned(&informers, change));
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &Item, _now: Timestamp) -> Plan {
        let found =
            self.kind(key.group, key.kind).and_then(|kind| view.of_kind(kind).get(&key.key.namespace, &key.key.name));
        let Some(object) = found else { return Plan::nothing() };
        let object = &*object;
        if !is_deleting(object) {
            return self.collect(view, object);
        }
        if has_finalizer(object, ORPHAN) {
            self.orphan(view, object)
        } else if has_finalizer(object, FOREGROUND) {
            self.foreground(view, object)
        } else {
            Plan::nothing()
        }
    }
}

#[cfg(test)]
#[path = "garbage_collector_tests.rs"]
mod tests;
