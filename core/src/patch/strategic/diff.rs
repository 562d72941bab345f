//! The patch between two objects.

use serde_json::{Value, json};

use super::order::{deduplicate, normalize, sort_by_text, sorted_indexes};
use super::{
    DELETE_FROM_LIST, DIRECTIVE, Object, Outcome, RETAIN_KEYS, SET_ORDER, go_format, holds_objects, key_of, lookup,
    lookup_list,
};
use crate::patch::PatchError;
use crate::schema::Type;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// Say the order of merged lists that changed.
    pub(super) set_order: bool,
    /// Leave out what was added or changed.
    pub(super) ignore_changes: bool,
    /// Leave out what was deleted.
    pub(super) ignore_deletions: bool,
    /// Say which keys the object keeps.
    pub(super) retain_keys: bool,
}

/// The patch that turns `original` into `modified`. Lists of scalars inside `original` are left sorted: upstream's
/// three-way diff depends on that.
pub(super) fn maps(original: &mut Object, modified: &Object, type_: Type<'_>, options: Options) -> Outcome<Object> {
    let mut patch = Object::new();
    let mut retained = Vec::new();
    for (key, value) in modified {
        if options.retain_keys && !value.is_null() {
            retained.push(Value::String(key.clone()));
        }
        let Some(old) = original.get_mut(key) else {
            if !options.ignore_changes {
                patch.insert(key.clone(), value.clone());
            }
            continue;
        };
        if key == DIRECTIVE {
            if !old.is_string() || !value.is_string() {
                return Err(PatchError::unmergeable(format!("invalid value for special key: {DIRECTIVE}")));
            }
            if old != value {
                patch.insert(key.clone(), value.clone());
            }
            continue;
        }
        match (old, value) {
            (Value::Object(old), Value::Object(new)) => map_field(&mut patch, key, old, new, type_, options)?,
            (Value::Array(old), Value::Array(new)) => list_field(&mut patch, key, old, new, type_, options)?,
            (old, new) => {
                let retyped = go_format::type_name(old) != go_format::type_name(new);
                if !options.ignore_changes && (retyped || old != new) {
                    patch.insert(key.clone(), new.clone());
                }
            }
        }
    }
    if !options.ignore_deletions {
        for key in original.keys().filter(|key| !modified.contains_key(*key)) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    let loses_keys = || original.iter().any(|(key, value)| !value.is_null() && !modified.contains_key(key));
    if !retained.is_empty() && (!patch.is_empty() || loses_keys()) {
        sort_by_text(&mut retained, None);
        patch.insert(RETAIN_KEYS.to_owned(), Value::Array(retained));
    }
    Ok(patch)
}

fn map_field(
    patch: &mut Object,
    key: &str,
    old: &mut Object,
    new: &Object,
    type_: Type<'_>,
    options: Options,
) -> Outcome<()> {
    let (field, strategy) = match lookup(type_, key) {
        Ok(found) => found,
        Err(_) if old == new => return Ok(()),
        Err(error) => return Err(error),
    };
    if strategy.replace {
        if !options.ignore_changes {
            patch.insert(key.to_owned(), Value::Object(new.clone()));
        }
        return Ok(());
    }
    let inner = maps(old, new, field, Options { retain_keys: strategy.retain_keys, ..options })?;
    if !inner.is_empty() {
        patch.insert(key.to_owned(), Value::Object(inner));
    }
    Ok(())
}

fn list_field(
    patch: &mut Object,
    key: &str,
    old: &mut Vec<Value>,
    new: &[Value],
    type_: Type<'_>,
    options: Options,
) -> Outcome<()> {
    let (item_type, strategy) = match lookup_list(type_, key) {
        Ok(found) => found,
        Err(_) if old == new => return Ok(()),
        Err(error) => return Err(error),
    };
    if !strategy.merge {
        if !options.ignore_changes && old != new {
            patch.insert(key.to_owned(), Value::Array(new.to_vec()));
        }
        return Ok(());
    }
    let options = Options { retain_keys: strategy.retain_keys, ..options };
    let Lists { changes, deletions, order } = lists(old, new, item_type, &strategy.merge_key, options)?;
    let mut insert = |key: String, list: Vec<Value>| {
        if !list.is_empty() {
            patch.insert(key, Value::Array(list));
        }
    };
    insert(key.to_owned(), changes);
    insert(format!("{DELETE_FROM_LIST}/{key}"), deletions);
    insert(format!("{SET_ORDER}/{key}"), order);
    Ok(())
}

#[derive(Default)]
struct Lists {
    changes: Vec<Value>,
    deletions: Vec<Value>,
    order: Vec<Value>,
}

fn lists(
    old: &mut Vec<Value>,
    new: &[Value],
    item_type: Type<'_>,
    merge_key: &str,
    options: Options,
) -> Outcome<Lists> {
    if old.is_empty() {
        let changes = if options.ignore_changes { Vec::new() } else { new.to_vec() };
        return Ok(Lists { changes, ..Lists::default() });
    }
    if holds_objects(&[old, new])? {
        let (changes, deletions) = lists_of_objects(old, new, item_type, merge_key, options)?;
        let mut changes = normalize(changes, new, Some(merge_key))?;
        let same_order = same_order(old, new, merge_key)?;
        changes.extend(deletions);
        let changed = !options.ignore_changes && (!changes.is_empty() || !same_order);
        let deleted = !options.ignore_deletions && !changes.is_empty();
        let order = if options.set_order && (changed || deleted) {
            new.iter().map(|item| json!({ merge_key: item[merge_key] })).collect()
        } else {
            Vec::new()
        };
        return Ok(Lists { changes, deletions: Vec::new(), order });
    }
    let (changes, deletions) = lists_of_scalars(old, new, options);
    let changes = normalize(changes, new, None)?;
    let deleted = !options.ignore_deletions && !deletions.is_empty();
    let changed = !options.ignore_changes && *old != new;
    let order = if options.set_order && (deleted || changed) { new.to_vec() } else { Vec::new() };
    Ok(Lists { changes, deletions, order })
}

fn same_order(old: &[Value], new: &[Value], merge_key: &str) -> Outcome<bool> {
    if old.len() != new.len() {
        return Ok(false);
    }
    for (old, new) in old.iter().zip(new) {
        if key_of(old, merge_key)? != key_of(new, merge_key)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What was added and what is gone. Sorts `old`.
fn lists_of_scalars(old: &mut [Value], new: &[Value], options: Options) -> (Vec<Value>, Vec<Value>) {
    let mut sorted = new.to_vec();
    sort_by_text(old, None);
    sort_by_text(&mut sorted, None);
    let (mut added, mut gone) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), sorted.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => go_format::plain(old).cmp(&go_format::plain(new)),
        };
        if order.is_le() {
            let item = old.next();
            gone.extend(item.filter(|_| order.is_lt() && !options.ignore_deletions).cloned());
        }
        if order.is_ge() {
            let item = new.next();
            added.extend(item.filter(|_| order.is_gt() && !options.ignore_changes).cloned());
        }
    }
    deduplicate(&mut gone);
    (added, gone)
}

/// Items added or changed, and directives that delete the items that are gone.
fn lists_of_objects(
    old: &mut [Value],
    new: &[Value],
    item_type: Type<'_>,
    merge_key: &str,
    options: Options,
) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let (mut changes, mut gone) = (Vec::new(), Vec::new());
    let (old_order, new_order) = (sorted_indexes(old, merge_key), sorted_indexes(new, merge_key));
    let (mut old_at, mut new_at) = (0, 0);
    while old_at < old_order.len() || new_at < new_order.len() {
        let old_key = old_order.get(old_at).map(|&index| key_of(&old[index], merge_key).cloned()).transpose()?;
        let new_key = new_order.get(new_at).map(|&index| key_of(&new[index], merge_key)).transpose()?;
        let order = match (&old_key, new_key) {
            (Some(old), Some(new)) => go_format::plain(old).cmp(&go_format::plain(new)),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Equal => {
                if let (Value::Object(old), Value::Object(new)) = (&mut old[old_order[old_at]], &new[new_order[new_at]])
                {
                    let mut change = maps(old, new, item_type, options)?;
                    if !change.is_empty() {
                        change.insert(merge_key.to_owned(), new[merge_key].clone());
                        changes.push(Value::Object(change));
                    }
                }
            }
            std::cmp::Ordering::Less if !options.ignore_deletions => {
                gone.push(json!({ merge_key: old_key, DIRECTIVE: "delete" }));
            }
            std::cmp::Ordering::Greater if !options.ignore_changes => changes.push(new[new_order[new_at]].clone()),
            _ => {}
        }
        old_at += usize::from(order.is_le());
        new_at += usize::from(order.is_ge());
    }
    Ok((changes, gone))
}
