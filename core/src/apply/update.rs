//! How a change moves ownership: for plain writes, and for server-side apply.

use serde_json::Value;

use super::ApplyError;
use super::conflict::{Conflict, Conflicts};
use super::fields::{Set, equal};
use super::managed::{Managed, ManagerId, Owned};
use super::typed::{Comparison, compare, ensure_named_fields, field_set, merge, remove};
use crate::schema::Type;

/// What the rules need to know besides the objects.
pub(super) struct Rules<'a> {
    pub(super) root: Type<'a>,
    pub(super) api_version: &'a str,
    /// Fields that nobody comes to own by this request.
    pub(super) ignored: &'a Set,
}

impl Rules<'_> {
    /// Takes what changed away from all but `writer`.
    fn take_away(
        &self,
        change: &Comparison,
        managed: &mut Managed,
        writer: &str,
        force: bool,
    ) -> Result<(), Conflicts> {
        // Upstream cannot convert to versions that it no longer serves, and forgets their owners.
        managed.fields.retain(|id, owned| id == writer || owned.api_version == self.api_version);
        let touched = change.modified.union(&change.added);
        let conflicts: Vec<(&ManagerId, Set)> = managed
            .fields
            .iter()
            .filter(|(id, _)| *id != writer)
            .map(|(id, owned)| (id, owned.set.intersection(&touched)))
            .filter(|(_, set)| !set.is_empty())
            .collect();
        if !force && !conflicts.is_empty() {
            let flat = conflicts
                .iter()
                .flat_map(|(id, set)| set.paths().into_iter().map(|path| Conflict { manager: (*id).clone(), path }));
            return Err(Conflicts(flat.collect()));
        }
        let gone = touched.union(&change.removed);
        for (_, owned) in managed.fields.iter_mut().filter(|(id, _)| *id != writer) {
            if !owned.set.intersection(&gone).is_empty() {
                owned.set = owned.set.difference(&touched).difference(&change.removed);
            }
        }
        managed.fields.retain(|_, owned| !owned.set.is_empty());
        Ok(())
    }

    /// Ownership after a plain write: who writes a field owns it.
    pub(super) fn update(&self, live: &Value, new: &Value, managed: &mut Managed, writer: &str) -> bool {
        let change = compare(live, new, self.root).without(self.ignored);
        let changed = !(change.added.is_empty() && change.modified.is_empty() && change.removed.is_empty());
        // Only conflicts are errors, and a forced write has none.
        let _ = self.take_away(&change, managed, writer, true);
        let before = managed.fields.get(writer).map(|owned| owned.set.clone()).unwrap_or_default();
        let set = before.difference(&change.removed).union(&change.modified).union(&change.added);
        let set = set.recursive_difference(self.ignored);
        if set.is_empty() {
            managed.fields.remove(writer);
        } else {
            let owned = Owned { set, api_version: self.api_version.to_owned(), applied: false };
            managed.fields.insert(writer.to_owned(), owned);
        }
        changed
    }

    /// Server-side apply: the new object, or `None` if it is as the live one.
    pub(super) fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: &mut Managed,
        applier: &str,
        force: bool,
    ) -> Result<Option<Value>, ApplyError> {
        let merged = merge(live, config, self.root)
            .map_err(|error| ApplyError::Internal(format!("failed to merge config: {error}")))?
            .unwrap_or(Value::Null);
        let last = managed.fields.get(applier).cloned();
        let set = field_set(config, self.root).recursive_difference(self.ignored);
        let owned = Owned { set, api_version: self.api_version.to_owned(), applied: true };
        managed.fields.insert(applier.to_owned(), owned);
        let new = self.prune(merged, managed, last.as_ref());
        let change = compare(live, &new, self.root).without(self.ignored);
        self.take_away(&change, managed, applier, force).map_err(ApplyError::Conflict)?;
        Ok(if equal(live, &new) { None } else { Some(new) })
    }

    /// Removes what the applier owned before and no longer applies, unless somebody else owns it.
    fn prune(&self, merged: Value, managed: &Managed, last: Option<&Owned>) -> Value {
        let Some(last) = last.filter(|last| !last.set.is_empty() && last.api_version == self.api_version) else {
            return merged;
        };
        let named = |set: &Set| ensure_named_fields(set, Some(self.root));
        let last = named(&last.set);
        let pruned = remove(&merged, &last, self.root);

        let merged_set = named(&field_set(&merged, self.root));
        let mut owned_by_any = Set::default();
        for owned in managed.fields.values().filter(|owned| owned.api_version == self.api_version) {
            owned_by_any = owned_by_any.union(&owned.set);
        }
        let kept = named(&field_set(&pruned, self.root)).union(&named(&owned_by_any));
        let pruned = remove(&merged, &merged_set.difference(&kept), self.root);

        // Only what this applier owned may go.
        let gone = merged_set.difference(&named(&field_set(&pruned, self.root)));
        remove(&merged, &gone.intersection(&last), self.root)
    }
}
