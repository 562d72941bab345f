//! Server-side apply: who owns which field of an object, recorded in `metadata.managedFields`.
//!
//! A [`FieldManager`] is made for a kind and a subresource. On create, update and patch it
//! [notes](FieldManager::update) what changed; on apply it [merges](FieldManager::apply) a configuration into the live
//! object, removes what the same applier no longer wants, and refuses to take a field from its owner unless forced.

mod conflict;
pub mod fields;
mod managed;
mod shape;
#[cfg(test)]
mod tests;
mod typed;
mod update;

use std::borrow::Cow;
use std::sync::LazyLock;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use serde_json::{Value, json};

pub use conflict::Conflicts;
use fields::Set;
use managed::{Managed, manager_id};
pub use shape::Shapes;

use crate::decode::{FieldValidation, decode_value};
use crate::kind::{AnyObject, KindType};
use crate::schema;

/// At most so many entries of updates are kept; older ones are folded together.
const MAX_UPDATE_MANAGERS: usize = 10;

/// Where `kubectl apply` keeps what it applied last, on the client's side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The writer while it is not yet known whether it is to be merged with an earlier entry of the same name.
const CURRENT_OPERATION: &str = "current-operation";

/// Why a configuration could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The request is malformed; upstream answers 400.
    #[error("{0}")]
    BadRequest(String),
    /// Others own fields that the configuration sets; upstream answers 409. Force, or leave these fields out.
    #[error("{0}")]
    Conflict(Conflicts),
    /// The configuration does not fit the schema, or the live object cannot be read; upstream answers 500.
    #[error("{0}")]
    Internal(String),
}

/// What nobody owns: it says which object this is, or the server sets it.
static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
    Set::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Tracks ownership of the fields of one kind, for requests through one subresource (or none).
#[derive(Debug)]
pub struct FieldManager {
    kind: &'static KindType,
    api_version: String,
    subresource: &'static str,
    reset: Set,
    defaults: bool,
}

impl FieldManager {
    /// A manager for `kind`. `subresource` is empty for the object's own path; `reset` are the fields that the
    /// registry puts back whatever the request says (`status` on the object's own path), so that nobody comes to own
    /// them.
    pub fn new(kind: &'static KindType, subresource: &'static str, reset: Set) -> Self {
        Self { kind, api_version: kind.info.api_version(), subresource, reset, defaults: true }
    }

    /// Whether an applied object gets its kind's defaults (as it does unless told otherwise).
    #[must_use]
    pub fn with_defaults(mut self, defaults: bool) -> Self {
        self.defaults = defaults;
        self
    }

    /// Sets `metadata.managedFields` of `new`, which `manager` writes in place of `live` (`None` on create) by create,
    /// update or patch. Malformed entries that the request brought along are ignored, as upstream does.
    pub fn update(&self, live: Option<&dyn AnyObject>, new: &mut dyn AnyObject, manager: &str, now: Timestamp) {
        let kept = live.and_then(|live| live.meta().managed_fields.as_deref());
        let brought = new.meta_mut().managed_fields.take();
        let is_same = brought.as_deref() == kept;
        let entries = match brought {
            // As it was read, mostly; what is the same needs no copy.
            brought if is_same => brought.map(Cow::Owned),
            Some(entries) if self.subresource.is_empty() && is_reset(&entries) => None,
            Some(entries) if self.subresource.is_empty() && Managed::decode(&entries).is_ok() => {
                Some(Cow::Owned(entries))
            }
            _ => kept.map(Cow::Borrowed),
        };
        let entries = match live {
            // The cheap way out for writes that change nothing: no sets, no JSON.
            Some(live) if is_same || entries.as_deref() == kept => {
                new.meta_mut().managed_fields = entries.map(Cow::into_owned);
                if live.equals(new) {
                    return;
                }
                new.meta_mut().managed_fields.take()
            }
            _ => entries.map(Cow::into_owned),
        };
        let mut managed = entries.as_deref().map(Managed::decode).transpose().ok().flatten().unwrap_or_default();
        let created = live.is_none_or(|live| live.meta().uid.as_deref().unwrap_or_default().is_empty());
        if managed.fields.is_empty() && !created {
            // Ownership is not tracked, because somebody reset it; the next apply starts it again.
            return;
        }
        let live = live.map_or_else(|| self.empty(), AnyObject::to_unmanaged_value);
        self.note_update(&live, &new.to_value(), &mut managed, manager, now);
        new.meta_mut().managed_fields = managed.encode();
    }

    fn rules<'a>(&'a self) -> update::Rules<'a> {
        update::Rules { root: schema::of(self.kind).root(), api_version: &self.api_version, ignored: &self.reset }
    }

    fn id(&self, manager: &str, applied: bool) -> String {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        manager_id(manager, applied, &self.api_version, self.subresource)
    }

    /// The kind's empty object, as JSON.
    fn empty(&self) -> Value {
        let empty = (self.kind.from_value)(json!({ "kind": self.kind.info.kind }));
        empty.map_or_else(|_| json!({}), |object| object.to_value())
    }

    /// Takes out what nobody owns, and the manager if nothing is left of its set.
    fn strip(&self, managed: &mut Managed, id: &str) {
        if let Some(owned) = managed.fields.get_mut(id) {
            owned.set = owned.set.difference(&STRIPPED);
            if owned.set.is_empty() {
                managed.fields.remove(id);
            }
        }
    }

    fn note_update(&self, live: &Value, new: &Value, managed: &mut Managed, manager: &str, now: Timestamp) {
        let id = self.id(manager, false);
        self.rules().update(live, new, managed, CURRENT_OPERATION);
        self.strip(managed, CURRENT_OPERATION);
        // Something was taken or added: the entry is renewed and joined with what the manager owned before.
        if let Some(mut owned) = managed.fields.remove(CURRENT_OPERATION) {
            if let Some(before) = managed.fields.get(&id) {
                owned.set = owned.set.union(&before.set);
            }
            managed.fields.insert(id.clone(), owned);
            managed.times.insert(id, Time(now));
        }
        managed.cap_updates(MAX_UPDATE_MANAGERS);
    }

    /// Applies `config` on behalf of `manager` to `live` (`None` if the object does not exist yet). The result has
    /// defaults and its `metadata.managedFields`.
    ///
    /// # Errors
    /// The configuration is of another kind, does not fit the schema, or (unless `force` is set) sets fields that
    /// others own.
    pub fn apply(
        &self,
        live: Option<&dyn AnyObject>,
        config: &Value,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<Box<dyn AnyObject>, ApplyError> {
        let entries = live.and_then(|live| live.meta().managed_fields.as_deref()).unwrap_or_default();
        let mut managed = Managed::decode(entries)
            .map_err(|error| ApplyError::Internal(format!("failed to decode managed fields: {error}")))?;
        self.check(config)?;
        let live = live.map_or_else(|| self.empty(), AnyObject::to_unmanaged_value);
        if managed.fields.is_empty() {
            self.note_update(&self.empty(), &live, &mut managed, "before-first-apply", now);
        }
        let (mut new, managed) = self.apply_or_upgrade(&live, config, managed, manager, force, now)?;
        if manager == "kubectl" {
            renew_last_applied(&mut new, config);
        }
        let mut object = decode_value(self.kind, new, FieldValidation::Ignore)
            .map_err(|error| ApplyError::Internal(format!("failed to convert new typed object: {error}")))?
            .object;
        if self.defaults {
            object.set_defaults();
        }
        object.meta_mut().managed_fields = managed.encode();
        Ok(object)
    }

    /// The configuration that `manager` applied last through this subresource, as far as it still owns it: what it owns
    /// of `object`, with the object's type, name and namespace. `None` if it has not applied.
    ///
    /// This is where a controller starts that changes some of the fields it applied before.
    pub fn extract(&self, object: &dyn AnyObject, manager: &str) -> Option<Value> {
        let managed = Managed::decode(object.meta().managed_fields.as_deref()?).ok()?;
        let owned = managed.fields.get(&self.id(manager, true))?;
        let value = object.to_value();
        let extracted = typed::extract(&value, &owned.set, schema::of(self.kind).root());
        let mut config = extracted.unwrap_or_else(|| json!({}));
        config["apiVersion"] = json!(self.api_version);
        config["kind"] = json!(self.kind.info.kind);
        for field in ["name", "namespace"] {
            if let Some(name) = value["metadata"].get(field) {
                config["metadata"][field] = name.clone();
            }
        }
        Some(config)
    }

    fn check(&self, config: &Value) -> Result<(), ApplyError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&config["apiVersion"]), text(&config["kind"]));
        if api_version != self.api_version || kind != self.kind.info.kind {
            let text = format!("invalid object type: {}, Kind={kind}", group_version(&api_version));
            return Err(ApplyError::BadRequest(text));
        }
        if !config["metadata"]["managedFields"].is_null() {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        typed::validate(config, schema::of(self.kind).root()).map_err(|error| {
            let (namespace, name) = (text(&config["metadata"]["namespace"]), text(&config["metadata"]["name"]));
            let version = group_version(&api_version);
            let text =
                format!("failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {error}");
            ApplyError::Internal(text)
        })
    }

    /// Applies, and lets `kubectl` take fields that its client-side apply had set and nobody has changed since.
    fn apply_or_upgrade(
        &self,
        live: &Value,
        config: &Value,
        managed: Managed,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<(Value, Managed), ApplyError> {
        let result = self.apply_once(live, config, managed.clone(), manager, force, now);
        let Err(ApplyError::Conflict(conflicts)) = &result else { return result };
        if manager != "kubectl" {
            return result;
        }
        let Some(allowed) = self.last_applied_set(live) else { return result };
        let left: Vec<_> = conflicts.0.iter().filter(|conflict| !allowed.has(&conflict.path.0)).cloned().collect();
        if !left.is_empty() {
            return Err(ApplyError::Conflict(Conflicts(left)));
        }
        self.apply_once(live, config, managed, manager, true, now)
    }

    fn apply_once(
        &self,
        live: &Value,
        config: &Value,
        mut managed: Managed,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<(Value, Managed), ApplyError> {
        let id = self.id(manager, true);
        let new = self.rules().apply(live, config, &mut managed, &id, force)?;
        self.strip(&mut managed, &id);
        // An apply that changes nothing does not renew the entry's time.
        if new.is_some() {
            managed.times.insert(id, Time(now));
        }
        Ok((new.unwrap_or_else(|| live.clone()), managed))
    }

    /// The fields that client-side apply set last and that still have the same values.
    fn last_applied_set(&self, live: &Value) -> Option<Set> {
        let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str().filter(|text| !text.is_empty())?;
        let last: Value = serde_json::from_str(annotation).ok()?;
        let root = schema::of(self.kind).root();
        if last["apiVersion"] != self.api_version.as_str() || typed::validate(&last, root).is_err() {
            return None;
        }
        let change = typed::compare(&last, live, root);
        let set = typed::field_set(&last, root);
        Some(set.difference(&change.modified).difference(&change.added).difference(&change.removed))
    }
}

/// Whether a request asks to forget all ownership: an empty list, or one empty entry.
fn is_reset(entries: &[ManagedFieldsEntry]) -> bool {
    match entries {
        [] => true,
        [only] => *only == ManagedFieldsEntry::default(),
        _ => false,
    }
}

/// `group/version` as Go prints it; the core group's is empty.
fn group_version(api_version: &str) -> String {
    if api_version.contains('/') { api_version.to_owned() } else { format!("/{api_version}") }
}

/// Brings client-side apply's annotation, if there is one, up to what was applied now.
fn renew_last_applied(object: &mut Value, config: &Value) {
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotation) = annotations.and_then(|annotations| annotations.get_mut(LAST_APPLIED)) else { return };
    if annotation.as_str().is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.swap_remove(LAST_APPLIED);
    }
    config.sort_all_objects();
    // Go escapes what would be markup in HTML.
    let text = config.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    *annotation = Value::String(text + "\n");
}

/// Undoes a change that touches nothing but times in `metadata.managedFields`, so that it does not count as a change.
pub fn ignore_times_of_managed_fields(live: &dyn AnyObject, new: &mut dyn AnyObject) {
    let (Some(before), Some(after)) = (&live.meta().managed_fields, &new.meta().managed_fields) else { return };
    let pairs = || before.iter().zip(after);
    if before.len() != after.len()
        || !pairs().all(|(before, after)| are_same_but_for_time(before, after))
        || pairs().all(|(before, after)| before.time == after.time)
    {
        return;
    }
    let new_entries = std::mem::replace(&mut new.meta_mut().managed_fields, live.meta().managed_fields.clone());
    if !live.equals(new) {
        new.meta_mut().managed_fields = new_entries;
    }
}

fn are_same_but_for_time(one: &ManagedFieldsEntry, other: &ManagedFieldsEntry) -> bool {
    let ManagedFieldsEntry { api_version, fields_type, fields_v1, manager, operation, subresource, time: _ } = one;
    (api_version, fields_type, manager) == (&other.api_version, &other.fields_type, &other.manager)
        && (operation, subresource, fields_v1) == (&other.operation, &other.subresource, &other.fields_v1)
}
