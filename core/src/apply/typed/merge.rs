//! Merging an applied configuration into the live object.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::{Shape, as_list, as_map, field_type, item_type, items, shape};
use crate::apply::fields::Element;
use crate::schema::Type;

/// `right` merged into `left`; what `right` says wins. `None` if nothing is left.
///
/// # Errors
/// An item of a list cannot be told apart from the others.
pub(in crate::apply) fn merge(left: &Value, right: &Value, type_: Type<'_>) -> Result<Option<Value>, String> {
    visit(Some(left), Some(right), type_)
}

fn visit(left: Option<&Value>, right: Option<&Value>, type_: Type<'_>) -> Result<Option<Value>, String> {
    let (left_map, right_map) = (as_map(left), as_map(right));
    let (left_list, right_list) = (as_list(left), as_list(right));
    match shape(type_, right.or(left)) {
        Shape::Map(false) if !(left_map.is_none_or(Map::is_empty) && right_map.is_none_or(Map::is_empty)) => {
            maps(left_map, right_map, type_)
        }
        Shape::List(false) if !(left_list.is_none_or(<[_]>::is_empty) && right_list.is_none_or(<[_]>::is_empty)) => {
            lists(left_list.unwrap_or_default(), right_list.unwrap_or_default(), type_)
        }
        _ => Ok(right.or(left).cloned()),
    }
}

fn maps(
    left: Option<&Map<String, Value>>,
    right: Option<&Map<String, Value>>,
    type_: Type<'_>,
) -> Result<Option<Value>, String> {
    let mut merged = Map::new();
    for (key, left) in left.into_iter().flatten() {
        let right = right.and_then(|right| right.get(key));
        let value = match (field_type(type_, key), right) {
            (Some(field), Some(_)) => visit(Some(left), right, field)?,
            // Only one side has it, or the schema does not know it: it stays as it is.
            (_, right) => Some(right.unwrap_or(left).clone()),
        };
        merged.extend(value.map(|value| (key.clone(), value)));
    }
    for (key, right) in right.into_iter().flatten() {
        if left.is_none_or(|left| !left.contains_key(key)) {
            merged.insert(key.clone(), right.clone());
        }
    }
    Ok(if merged.is_empty() { None } else { Some(Value::Object(merged)) })
}

/// The items of a list by what identifies them; `None` for those that are there more than once.
struct Index<'v> {
    order: Vec<Element>,
    values: BTreeMap<Element, Option<&'v Value>>,
}

fn index<'v>(list: &'v [Value], type_: Type<'_>, allow_repeated: bool) -> Result<Index<'v>, String> {
    let mut index = Index { order: Vec::with_capacity(list.len()), values: BTreeMap::new() };
    for (place, item) in list.iter().enumerate() {
        let element = items::element(type_, item).map_err(|error| format!("element {place}: {error}"))?;
        if index.values.contains_key(&element) {
            if !allow_repeated {
                return Err(format!("duplicate entries for key {element}"));
            }
            index.values.insert(element.clone(), None);
        } else {
            index.values.insert(element.clone(), Some(item));
        }
        index.order.push(element);
    }
    Ok(index)
}

/// Merges lists so that the order of both is kept as far as it goes; where they disagree, `right` decides.
fn lists(left: &[Value], right: &[Value], type_: Type<'_>) -> Result<Option<Value>, String> {
    let right = index(right, type_, false)?;
    let left_values = left;
    let left = index(left, type_, true)?;
    let item_type = item_type(type_);
    let mut shared: VecDeque<&Element> =
        right.order.iter().filter(|element| left.values.contains_key(*element)).collect();
    let mut next_shared = shared.pop_front();
    let mut taken: BTreeSet<&Element> = BTreeSet::new();
    let mut merged = Vec::with_capacity(left.order.len().max(right.order.len()));
    let merge_item = |element: &Element| {
        let from = |index: &Index<'_>| index.values.get(element).copied().flatten().cloned();
        visit(from(&left).as_ref(), from(&right).as_ref(), item_type)
    };
    let (mut at, mut place) = (0, 0);
    while at < left.order.len() || place < right.order.len() {
        if let (Some(element), Some(other)) = (left.order.get(at), right.order.get(place)) {
            if element == other {
                taken.insert(element);
                merged.extend(merge_item(element)?);
                at += 1;
                place += 1;
                next_shared = shared.pop_front();
                continue;
            }
            if right.values.contains_key(element) && next_shared.is_some_and(|next| next != element) {
                // Shared, but its turn comes later.
                at += 1;
                continue;
            }
        }
        if let Some(element) = left.order.get(at) {
            if !right.values.contains_key(element) {
                merged.push(left_values[at].clone());
                at += 1;
                continue;
            }
            if taken.contains(element) {
                at += 1;
            }
        }
        if let Some(element) = right.order.get(place) {
            taken.insert(element);
            merged.extend(merge_item(element)?);
            place += 1;
            if next_shared == Some(element) {
                next_shared = shared.pop_front();
            }
        }
    }
    Ok(if merged.is_empty() { None } else { Some(Value::Array(merged)) })
}
