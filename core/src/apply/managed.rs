//! `metadata.managedFields`, decoded.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};

use super::fields::{Set, quoted};

/// Who a field belongs to: upstream's identifier of a manager, a JSON text that is also its sorting key.
pub(super) type ManagerId = String;

/// What one manager owns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owned {
    pub(super) set: Set,
    pub(super) api_version: String,
    /// By server-side apply, as against create, update and patch.
    pub(super) applied: bool,
}

/// Who owns what, and since when.
#[derive(Debug, Clone, Default)]
pub(super) struct Managed {
    pub(super) fields: BTreeMap<ManagerId, Owned>,
    /// May name managers that own nothing any more.
    pub(super) times: BTreeMap<ManagerId, Time>,
}

/// The identifier of a manager. Of one that applies it does not depend on the version.
pub(super) fn manager_id(manager: &str, applied: bool, api_version: &str, subresource: &str) -> ManagerId {
    let mut parts = Vec::with_capacity(4);
    let mut part = |name: &str, value: &str| {
        if !value.is_empty() {
            parts.push(format!("\"{name}\":{}", serde_json::Value::from(value)));
        }
    };
    part("manager", manager);
    part("operation", if applied { "Apply" } else { "Update" });
    part("apiVersion", if applied { "" } else { api_version });
    part("subresource", subresource);
    format!("{{{}}}", parts.join(","))
}

fn parse_id(id: &str) -> ManagedFieldsEntry {
    serde_json::from_str(id).unwrap_or_default()
}

/// A manager as conflicts name it: `"kubectl" using v1`.
pub(super) fn print_manager(id: &str) -> String {
    let entry = parse_id(id);
    let mut text = quoted(entry.manager.as_deref().unwrap_or_default());
    if let Some(subresource) = &entry.subresource {
        text += &format!(" with subresource {}", quoted(subresource));
    }
    if entry.operation.as_deref() == Some("Update") {
        text += &format!(" using {}", entry.api_version.unwrap_or_default());
    }
    text
}

impl Managed {
    /// Reads the entries of an object's metadata.
    ///
    /// # Errors
    /// An entry is malformed; the text is upstream's.
    pub(super) fn decode(entries: &[ManagedFieldsEntry]) -> Result<Self, String> {
        let mut managed = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let applied = match entry.operation.as_deref() {
                Some("Apply") => true,
                Some("Update") => false,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let api_version = entry.api_version.clone().unwrap_or_default();
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match entry.fields_type.as_deref().unwrap_or_default() {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
                other => return Err(format!("invalid fieldsType {} in managed fields entry {index}", quoted(other))),
            }
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let id = manager_id(&text(&entry.manager), applied, &api_version, &text(&entry.subresource));
            let set = match &entry.fields_v1 {
                Some(fields) => {
                    Set::from_fields_v1(&fields.0).map_err(|error| format!("error decoding set: {error}"))?
                }
                None => Set::default(),
            };
            match &entry.time {
                Some(time) => managed.times.insert(id.clone(), time.clone()),
                None => managed.times.remove(&id),
            };
            managed.fields.insert(id, Owned { set, api_version, applied });
        }
        Ok(managed)
    }

    /// The entries for an object's metadata, sorted as upstream does; `None` if nobody owns anything.
    pub(super) fn encode(&self) -> Option<Vec<ManagedFieldsEntry>> {
        let mut entries: Vec<ManagedFieldsEntry> = self
            .fields
            .iter()
            .map(|(id, owned)| {
                let named = parse_id(id);
                ManagedFieldsEntry {
                    api_version: Some(owned.api_version.clone()),
                    fields_type: Some("FieldsV1".to_owned()),
                    fields_v1: Some(FieldsV1(owned.set.to_fields_v1())),
                    operation: if owned.applied { Some("Apply".to_owned()) } else { named.operation },
                    time: self.times.get(id).cloned(),
                    manager: named.manager,
                    subresource: named.subresource,
                }
            })
            .collect();
        let second = |entry: &ManagedFieldsEntry| entry.time.as_ref().map_or(0, |time| time.0.as_second());
        entries.sort_by(|left, right| {
            let by_time = || second(left).cmp(&second(right));
            let by_name = || left.manager.cmp(&right.manager).then_with(|| left.api_version.cmp(&right.api_version));
            let order = left.operation.cmp(&right.operation).then_with(by_time).then_with(by_name);
            order.then_with(|| left.subresource.cmp(&right.subresource))
        });
        if entries.is_empty() { None } else { Some(entries) }
    }

    /// Folds the oldest updates into one entry, `ancient-changes`, until there are at most `most` updates.
    pub(super) fn cap_updates(&mut self, most: usize) {
        let second = |id: &ManagerId| self.times.get(id).map_or(0, |time| time.0.as_second());
        let mut updaters: Vec<ManagerId> =
            self.fields.iter().filter(|(_, owned)| !owned.applied).map(|(id, _)| id.clone()).collect();
        updaters.sort_by(|left, right| second(left).cmp(&second(right)).then_with(|| left.cmp(right)));
        let mut count = updaters.len();
        let mut first_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
        for updater in updaters {
            if count <= most {
                return;
            }
            let Some(owned) = self.fields.get(&updater).cloned() else { continue };
            let Some(first) = first_of_version.get(&owned.api_version).cloned() else {
                first_of_version.insert(owned.api_version, updater);
                continue;
            };
            let bucket = manager_id("ancient-changes", false, &owned.api_version, "");
            if !self.fields.contains_key(&bucket)
                && let Some(first) = self.fields.remove(&first)
            {
                self.fields.insert(bucket.clone(), first);
            }
            if let Some(bucket) = self.fields.get_mut(&bucket) {
                bucket.set = owned.set.union(&bucket.set);
            }
            self.fields.remove(&updater);
            count -= 1;
            match self.times.get(&updater).cloned() {
                Some(time) => self.times.insert(bucket, time),
                None => self.times.remove(&bucket),
            };
        }
    }
}
