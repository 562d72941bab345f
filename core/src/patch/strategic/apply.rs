//! Merging a patch into an object, or one patch into another.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::order::{identity, normalize_elements, positions, split_deletions};
use super::{
    BAD_RETAIN_KEYS, BAD_SET_ORDER, DELETE_FROM_LIST, DIRECTIVE, Object, Outcome, RETAIN_KEYS, SET_ORDER, as_list,
    bad_directive, go_format, holds_objects, key_of, lookup, lookup_list, no_merge_key, order,
};
use crate::patch::PatchError;
use crate::schema::{Node, PatchStrategy, Type};

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// Carry directives out. Unset when `original` is itself a patch: then they are kept.
    pub(super) merge_directives: bool,
    /// Skip a null for a field that the original lacks.
    pub(super) ignore_unmatched_nulls: bool,
}

pub(super) fn merge_map(original: &mut Object, mut patch: Object, type_: Type<'_>, options: Options) -> Outcome<()> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => {
                patch.swap_remove(DIRECTIVE);
                *original = patch;
            }
            Some("delete") => original.clear(),
            _ => {
                let directive = directive.clone();
                return Err(bad_directive(&directive, &Value::Object(patch)));
            }
        }
        return Ok(());
    }
    retain_keys(original, &mut patch, options)?;
    set_orders(original, &mut patch, type_, options)?;

    for (key, change) in patch {
        let (key, deletes) = if key.starts_with(DELETE_FROM_LIST) {
            if !options.merge_directives {
                original.insert(key, change);
                continue;
            }
            let list = key.strip_prefix(DELETE_FROM_LIST).and_then(|rest| rest.strip_prefix('/'));
            (list.ok_or_else(|| PatchError::malformed("invalid patch format of primitive list"))?.to_owned(), true)
        } else {
            (key, false)
        };
        if change.is_null() {
            original.swap_remove(&key);
            if options.ignore_unmatched_nulls {
                continue;
            }
        }
        match (original.get_mut(&key), change) {
            (Some(Value::Object(current)), Value::Object(change)) => {
                let (field, strategy) = lookup(type_, &key)?;
                if strategy.replace {
                    *current = change;
                } else {
                    merge_map(current, change, field, options)?;
                }
            }
            (Some(Value::Array(current)), Value::Array(change)) => {
                let (items, strategy) = lookup_list(type_, &key)?;
                if strategy.merge {
                    let original = std::mem::take(current);
                    *current = merge_list(original, change, items, &strategy.merge_key, options, deletes)?;
                } else {
                    *current = change;
                }
            }
            // Another type, or nothing, is there: the patch's value takes its place, unless it only deletes.
            (_, _) if deletes => {}
            (_, mut change) => {
                if options.ignore_unmatched_nulls {
                    discard_nulls(&mut change);
                }
                match without_directives(change) {
                    Some(value) => original.insert(key, value),
                    None => original.swap_remove(&key),
                };
            }
        }
    }
    Ok(())
}

/// Drops nulls from objects, at any depth.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without the objects that hold a directive; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

/// `$retainKeys`: drops the original's keys that the directive does not name.
fn retain_keys(original: &mut Object, patch: &mut Object, options: Options) -> Outcome<()> {
    let Some(directive) = patch.swap_remove(RETAIN_KEYS) else { return Ok(()) };
    if !options.merge_directives {
        return match original.get(RETAIN_KEYS) {
            Some(other) if *other != directive => {
                let (other, directive) = (go_format::plain(other), go_format::plain(&directive));
                let text = format!(
                    "{other} and {directive} are not deep equal: this may happen when calculating the 3-way diff patch"
                );
                Err(PatchError::unmergeable(text))
            }
            _ => {
                original.insert(RETAIN_KEYS.to_owned(), directive);
                Ok(())
            }
        };
    }
    let malformed = || PatchError::malformed(BAD_RETAIN_KEYS);
    let kept: FxHashSet<&str> = directive.as_array().ok_or_else(malformed)?.iter().filter_map(Value::as_str).collect();
    for (key, change) in &*patch {
        let is_directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
        if !change.is_null() && !is_directive && !kept.contains(key.as_str()) {
            return Err(malformed());
        }
    }
    original.retain(|key, _| kept.contains(key.as_str()));
    Ok(())
}

/// `$setElementOrder/<list>`: merges the lists concerned and puts them into the order given, or copies the directive
/// if `original` is a patch. What was merged is taken out of the patch.
fn set_orders(original: &mut Object, patch: &mut Object, type_: Type<'_>, options: Options) -> Outcome<()> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.swap_remove(&directive) else { continue };
        if !options.merge_directives {
            match original.get(&directive) {
                Some(other) if *other != order => return Err(PatchError::malformed(BAD_SET_ORDER)),
                Some(_) => {}
                None => {
                    original.insert(directive.clone(), order.clone());
                }
            }
        }
        let order = as_list(&order)?;
        let list = directive.strip_prefix(SET_ORDER).and_then(|rest| rest.strip_prefix('/'));
        let list = list.ok_or_else(|| PatchError::malformed(BAD_SET_ORDER))?;
        let server_list = original.get(list).map(as_list).transpose()?.map(<[Value]>::to_vec);
        let patch_list = patch.get(list).map(as_list).transpose()?.map(<[Value]>::to_vec);
        let (items, strategy) = lookup_list(type_, list)?;
        let merge_key = Some(&*strategy.merge_key).filter(|key| !key.is_empty());
        check_order(patch_list.as_deref().unwrap_or_default(), order, merge_key)?;

        if server_list.is_none() && patch_list.is_none() {
            continue;
        }
        let (server_list, patch_list) = (server_list.unwrap_or_default(), patch_list.unwrap_or_default());
        let objects = holds_objects(&[&server_list, &patch_list]);
        let server_order = match strategy.merge && objects.as_ref().is_ok_and(|objects| *objects) {
            true if patch.contains_key(list) => order_after_merge(&server_list, &patch_list, &strategy.merge_key),
            _ => server_list.clone(),
        };
        let merged = match (original.contains_key(list), patch.contains_key(list)) {
            (true, false) => server_list.clone(),
            (false, _) => patch_list.into_iter().filter_map(without_directives).collect(),
            (true, true) => merge_lists(server_list.clone(), patch_list, items, &strategy, options)?,
        };
        let (from_patch, server_only) = partition(merged, order, merge_key)?;
        let item_key = if objects? { Some(merge_key.unwrap_or_default()) } else { None };
        let ordered = normalize_elements(from_patch, server_only, order, &server_order, item_key)?;
        original.insert(list.to_owned(), Value::Array(ordered));
        patch.swap_remove(list);
    }
    Ok(())
}

fn merge_lists(
    server: Vec<Value>,
    patch: Vec<Value>,
    items: Type<'_>,
    strategy: &PatchStrategy,
    options: Options,
) -> Outcome<Vec<Value>> {
    if !strategy.merge {
        return Ok(patch);
    }
    merge_list(server, patch, items, &strategy.merge_key, options, false)
}

/// The server's list as upstream sees it when it orders the merged one: deleting shifts items in place and leaves stale
/// ones at the end, and added items overwrite these.
fn order_after_merge(server: &[Value], patch: &[Value], merge_key: &str) -> Vec<Value> {
    let mut places: FxHashMap<String, Vec<usize>> = FxHashMap::default();
    for (place, item) in server.iter().enumerate().rev() {
        places.entry(identity(item, Some(merge_key))).or_default().push(place);
    }
    let mut alive = vec![true; server.len()];
    let mut last = server.len();
    let mut stale = Vec::new();
    for item in patch.iter().filter(|item| item[DIRECTIVE] == "delete") {
        for place in places.remove(&identity(item, Some(merge_key))).into_iter().flatten().rev() {
            while last > 0 && !alive[last - 1] {
                last -= 1;
            }
            stale.extend(server.get(last.saturating_sub(1)).cloned());
            alive[place] = false;
        }
    }
    let mut order: Vec<Value> =
        server.iter().zip(alive).filter(|(_, alive)| *alive).map(|(item, _)| item.clone()).collect();
    let added = patch.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let added = added.filter(|item| !places.contains_key(&identity(item, Some(merge_key))));
    order.extend(added.take(stale.len()).cloned());
    stale.truncate(server.len() - order.len());
    order.extend(stale.into_iter().rev());
    order
}

/// Checks that the patch's items stand in the order given and are all part of it.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Outcome<()> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let kept = match merge_key {
        Some(_) => split_deletions(patch.to_vec())?.0,
        None => patch.to_vec(),
    };
    let (mut at, mut place) = (0, 0);
    while at < kept.len() && place < order.len() {
        if kept[at].get(DIRECTIVE).is_some() {
            at += 1;
            continue;
        }
        let same = match merge_key {
            Some(key) => key_of(&kept[at], key)? == key_of(&order[place], key)?,
            None => kept[at] == order[place],
        };
        at += usize::from(same);
        place += 1;
    }
    if at == kept.len() {
        return Ok(());
    }
    let (patch, order) = (go_format::list(patch), go_format::list(order));
    let text = format!("The order in patch list:\n{patch}\n doesn't match {SET_ORDER} list:\n{order}\n");
    Err(PatchError::unmergeable(text))
}

/// Items that `by` names, and the others.
fn partition(list: Vec<Value>, by: &[Value], merge_key: Option<&str>) -> Outcome<(Vec<Value>, Vec<Value>)> {
    if let Some(key) = merge_key {
        for item in &list {
            key_of(item, key)?;
        }
        if let (false, Some(index)) = (list.is_empty(), by.iter().position(|item| !item.is_object())) {
            return Err(PatchError::unmergeable(format!("value for key {index} is not a map.")));
        }
    }
    let named = positions(by, merge_key);
    Ok(list.into_iter().partition(|item| named.contains_key(&identity(item, merge_key))))
}

fn merge_list(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    item_type: Type<'_>,
    merge_key: &str,
    options: Options,
    deletes: bool,
) -> Outcome<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !holds_objects(&[&original, &patch])? {
        if options.merge_directives && deletes {
            let gone = positions(&patch, None);
            original.retain(|item| !gone.contains_key(&identity(item, None)));
            return Ok(original);
        }
        let mut merged: Vec<Value> = original.iter().chain(&patch).cloned().collect();
        order::deduplicate(&mut merged);
        let merge_key = Some(merge_key).filter(|key| !key.is_empty());
        let (from_patch, server_only) = partition(merged, &patch, merge_key)?;
        return normalize_elements(from_patch, server_only, &patch, &original, None);
    }
    if merge_key.is_empty() {
        let kind = match item_type.node() {
            Node::Struct(_) => "struct",
            Node::Map(_) => "map",
            Node::List(_) => "slice",
            Node::Any => "interface",
            Node::Scalar(scalar) => scalar.go_kind(),
        };
        return Err(PatchError::unmergeable(format!("cannot merge lists without merge key for type {kind}")));
    }
    let (mut original, patch) = special_items(original, patch, merge_key)?;
    let server_order = original.clone();
    let mut places = positions(&original, Some(merge_key));
    for item in &patch {
        key_of(item, merge_key)?;
        // Items of the original that lack the key can match nothing.
        match places.get(&identity(item, Some(merge_key))) {
            Some(&place) => {
                if let (Value::Object(current), Value::Object(change)) = (&mut original[place], item.clone()) {
                    merge_map(current, change, item_type, options)?;
                }
            }
            None => {
                places.insert(identity(item, Some(merge_key)), original.len());
                original.push(item.clone());
            }
        }
    }
    let (from_patch, server_only) = partition(original, &patch, Some(merge_key))?;
    normalize_elements(from_patch, server_only, &patch, &server_order, Some(merge_key))
}

/// Carries out `$patch` in the items of a patch: the original without what is deleted, and the other items.
fn special_items(mut original: Vec<Value>, patch: Vec<Value>, merge_key: &str) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut deleted = FxHashSet::default();
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => match item.get(merge_key) {
                Some(key) => {
                    deleted.insert(key.to_string());
                }
                None => return Err(no_merge_key(&item, merge_key)),
            },
            Some("replace") => replace = true,
            Some("merge") => return Err(PatchError::unmergeable("merging lists cannot yet be specified in the patch")),
            _ => return Err(bad_directive(directive, &item)),
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    original.retain(|item| item.get(merge_key).is_none_or(|key| !deleted.contains(&key.to_string())));
    Ok((original, plain))
}
