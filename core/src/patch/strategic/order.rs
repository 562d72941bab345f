//! The order of merged lists, and the sorting that diffs rely on.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::{DIRECTIVE, Outcome, go_format, key_of, wrong_type};

/// What identifies an item: its merge key's value if the list holds objects, else the item.
pub(super) fn identity(item: &Value, merge_key: Option<&str>) -> String {
    match merge_key {
        Some(key) => item.get(key).unwrap_or(&Value::Null).to_string(),
        None => item.to_string(),
    }
}

/// Where each item stands (the first, if several are the same).
pub(super) fn positions(list: &[Value], merge_key: Option<&str>) -> FxHashMap<String, usize> {
    let mut positions = FxHashMap::default();
    for (index, item) in list.iter().enumerate() {
        positions.entry(identity(item, merge_key)).or_insert(index);
    }
    positions
}

/// Brings `patch` into `patch_order` and `server_only` into `server_order`, then weaves them: the order within both
/// stays, and an item that only the server has goes before the first item of the patch that it preceded.
/// `merge_key` is `None` for scalars.
pub(super) fn normalize_elements(
    patch: Vec<Value>,
    server_only: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Outcome<Vec<Value>> {
    let patch = normalize(patch, patch_order, merge_key)?;
    let server_only = normalize(server_only, server_order, merge_key)?;
    let positions = positions(server_order, merge_key);
    let place = |item: &Value| positions.get(&identity(item, merge_key)).copied();
    let mut woven = Vec::with_capacity(patch.len() + server_only.len());
    let (mut left, mut right) = (server_only.into_iter().peekable(), patch.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(woven),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => {
                matches!((place(left), place(right)), (Some(left), Some(right)) if left < right)
            }
        };
        woven.extend(if take_left { left.next() } else { right.next() });
    }
}

/// Sorts `list` by `order`; items marked for deletion go last.
pub(super) fn normalize(list: Vec<Value>, order: &[Value], merge_key: Option<&str>) -> Outcome<Vec<Value>> {
    let (kept, deleted) = match merge_key {
        Some(key) => {
            for item in list.iter().chain(order) {
                key_of(item, key)?;
            }
            split_deletions(list)?
        }
        None => (list, Vec::new()),
    };
    let positions = positions(order, merge_key);
    let mut kept: Vec<(Option<usize>, Value)> =
        kept.into_iter().map(|item| (positions.get(&identity(&item, merge_key)).copied(), item)).collect();
    kept.sort_by_key(|(place, _)| *place);
    Ok(kept.into_iter().map(|(_, item)| item).chain(deleted).collect())
}

/// Items to keep, and items with `$patch: delete`.
pub(super) fn split_deletions(list: Vec<Value>) -> Outcome<(Vec<Value>, Vec<Value>)> {
    if let Some(other) = list.iter().find(|item| !item.is_object()) {
        return Err(wrong_type("map[string]interface {}", other));
    }
    Ok(list.into_iter().partition(|item| item[DIRECTIVE] != "delete"))
}

/// Sorts by what Go prints for the value; of equal items the later comes first, as upstream's sort has it.
pub(super) fn sort_by_text(list: &mut [Value], merge_key: Option<&str>) {
    let text = |item: &Value| match merge_key {
        Some(key) => go_format::plain(item.get(key).unwrap_or(&Value::Null)),
        None => go_format::plain(item),
    };
    let mut keyed: Vec<(String, Value)> = list.iter_mut().map(|item| (text(item), item.take())).collect();
    keyed.reverse();
    keyed.sort_by(|left, right| left.0.cmp(&right.0));
    for (place, (_, item)) in list.iter_mut().zip(keyed) {
        *place = item;
    }
}

/// The items' indexes in the order that [`sort_by_text`] would bring them.
pub(super) fn sorted_indexes(list: &[Value], merge_key: &str) -> Vec<usize> {
    let text = |index: &usize| go_format::plain(list[*index].get(merge_key).unwrap_or(&Value::Null));
    let mut indexes: Vec<usize> = (0..list.len()).rev().collect();
    indexes.sort_by_cached_key(text);
    indexes
}

/// Drops repeated items; each gap is filled with the list's last item, as upstream does.
pub(super) fn deduplicate(list: &mut Vec<Value>) {
    let mut places: FxHashMap<String, BTreeSet<usize>> = FxHashMap::default();
    for (place, item) in list.iter().enumerate() {
        places.entry(item.to_string()).or_default().insert(place);
    }
    if places.len() == list.len() {
        return;
    }
    let mut at = 0;
    while at < list.len() {
        let text = list[at].to_string();
        while let Some(&other) = places.get(&text).and_then(|places| places.range(at + 1..).next()) {
            let last = list.len() - 1;
            let moved = list[last].to_string();
            list.swap_remove(other);
            if let Some(places) = places.get_mut(&text) {
                places.remove(&other);
            }
            if let Some(places) = places.get_mut(&moved).filter(|_| other != last) {
                places.remove(&last);
                places.insert(other);
            }
        }
        at += 1;
    }
}
