//! Whose is what: dependents that name their controller, and orphans that one may adopt.
//!
//! A dependent belongs to the controller object that its owner reference names by uid, and to nobody else. A controller
//! object adopts orphans that its selector selects, and releases what its selector no longer selects. Before it adopts
//! it asks the server whether it is alive itself: what a deleted owner adopts would be collected as garbage.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::kind::{AnyObject, Kind};
use longshore_core::selector::Selector;
use serde_json::json;

use crate::controller::{Triggers, View};
use crate::plan::{Action, ObjectRef};

/// Index of dependents by the uid of their controller.
const BY_CONTROLLER: &str = "controllers/controller-uid";
/// Index of objects that have no controller, by namespace.
const ORPHANS: &str = "controllers/orphans";

/// The object's owner that controls it.
pub(crate) fn controller_of(object: &dyn AnyObject) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` controls the object.
pub(crate) fn is_controlled_by(object: &dyn AnyObject, owner: &dyn AnyObject) -> bool {
    controller_of(object).is_some_and(|controller| Some(&controller.uid) == owner.meta().uid.as_ref())
}

/// The reference that makes `owner` the controller of a dependent.
pub(crate) fn controller_ref(owner: &dyn AnyObject) -> OwnerReference {
    let (info, meta) = (&owner.kind_type().info, owner.meta());
    OwnerReference {
        api_version: info.api_version(),
        kind: info.kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The key of the controller of kind `O` that an object names.
pub(crate) fn controller_key<O: Kind>(object: &dyn AnyObject) -> Option<ObjectKey> {
    let owner = controller_of(object)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    (owner.kind == O::INFO.kind && group == O::INFO.group).then(|| ObjectKey::new(namespace, &owner.name))
}

/// Adds the indexes that [`dependents`] and [`claim`] need.
pub(crate) fn index_dependents<D: Kind>(triggers: &Triggers<ObjectKey>) {
    let informer = triggers.informer::<D>();
    informer
        .add_index(BY_CONTROLLER, |object| controller_of(object).map(|owner| owner.uid.clone()).into_iter().collect());
    informer.add_index(ORPHANS, |object| match controller_of(object) {
        None => vec![AnyObject::meta(object).namespace.clone().unwrap_or_default()],
        Some(_) => Vec::new(),
    });
}

/// Wakes controller objects of kind `O` when a dependent of kind `D` that they control changes, and when an orphan that
/// they could adopt does.
pub(crate) fn watch_dependents<O: Kind, D: Kind>(triggers: &Triggers<ObjectKey>, selector: fn(&O) -> Selector) {
    index_dependents::<D>(triggers);
    let owners = triggers.informer::<O>();
    triggers.on::<D, _>(move |change: &Change<Arc<D>>| {
        let mut keys: Vec<ObjectKey> = Vec::new();
        let versions = change.old().into_iter().chain(change.current());
        keys.extend(versions.filter_map(|object| controller_key::<O>(&**object)));
        // An orphan that stays as it was was looked at when it became so.
        let orphan = |object: &&Arc<D>| controller_of(&***object).is_none();
        let labels = |object: &Arc<D>| AnyObject::meta(&**object).labels.clone();
        let known = change.old().filter(orphan).map(labels);
        if let Some(object) = change.current().filter(orphan).filter(|object| known != Some(labels(object))) {
            let meta = AnyObject::meta(&**object);
            let candidates = owners.list_namespace(meta.namespace.as_deref().unwrap_or_default());
            let adopters = candidates.iter().filter(|owner| selector(owner).matches_optional(meta.labels.as_ref()));
            keys.extend(adopters.map(|owner| ObjectKey::of(&**owner)));
        }
        keys.dedup();
        keys
    });
}

/// The dependents that name `owner` as their controller, by name.
pub(crate) fn dependents<D: Kind>(view: &View<'_>, owner: &dyn AnyObject) -> Vec<Arc<D>> {
    view.of::<D>().by_index(BY_CONTROLLER, owner.meta().uid.as_deref().unwrap_or_default())
}

/// What belongs to a controller object.
#[derive(Debug)]
pub(crate) struct Claim<D> {
    /// What it controls and selects, by name.
    pub(crate) owned: Vec<Arc<D>>,
    /// What must be done first so that this is all.
    pub(crate) actions: Vec<Action>,
}

/// Finds out what belongs to `owner`, which selects by `selector`. As long as there are actions the claim is not settled:
/// carry them out and look again.
pub(crate) fn claim<D: Kind>(view: &View<'_>, owner: &dyn AnyObject, selector: &Selector) -> Claim<D> {
    let deleted = |object: &dyn AnyObject| object.meta().deletion_timestamp.is_some();
    let selects = |object: &dyn AnyObject| selector.matches_optional(object.meta().labels.as_ref());
    let (mut owned, mut actions) = (Vec::new(), Vec::new());
    for object in dependents::<D>(view, owner) {
        if selects(&*object) {
            owned.push(object);
        } else if !deleted(owner) && !deleted(&*object) {
            actions.push(release(&*object, owner));
        }
    }
    if deleted(owner) {
        return Claim { owned, actions };
    }
    let mut adoptions = view.of::<D>().by_index(ORPHANS, owner.meta().namespace.as_deref().unwrap_or_default());
    adoptions.retain(|object| !deleted(&**object) && selects(&**object));
    if !adoptions.is_empty() {
        actions.push(Action::ConfirmAlive(ObjectRef::of(owner)));
        actions.extend(adoptions.iter().map(|object| adopt(&**object, owner)));
    }
    Claim { owned, actions }
}

fn with_owners(object: &dyn AnyObject, owners: &[OwnerReference]) -> Action {
    let meta = object.meta();
    let guard = json!({ "ownerReferences": owners, "uid": meta.uid, "resourceVersion": meta.resource_version });
    Action::Patch { target: ObjectRef::of(object), subresource: None, patch: json!({ "metadata": guard }) }
}

fn adopt(object: &dyn AnyObject, owner: &dyn AnyObject) -> Action {
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|known| Some(&known.uid) != owner.meta().uid.as_ref());
    owners.push(controller_ref(owner));
    with_owners(object, &owners)
}

fn release(object: &dyn AnyObject, owner: &dyn AnyObject) -> Action {
    let mut owners = object.meta().owner_references.clone().unwrap_or_default();
    owners.retain(|known| Some(&known.uid) != owner.meta().uid.as_ref());
    with_owners(object, &owners)
}
