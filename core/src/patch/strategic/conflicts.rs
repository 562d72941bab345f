//! Whether two patches of one object disagree.

use std::collections::BTreeMap;

use serde_json::Value;

use super::order::{deduplicate, sort_by_text};
use super::{DIRECTIVE, Object, Outcome, RETAIN_KEYS, go_format, holds_objects, lookup, lookup_list};
use crate::patch::PatchError;
use crate::schema::{PatchStrategy, Type};

/// Whether some field is set to different values.
pub(super) fn between(left: &Value, right: &Value, type_: Type<'_>) -> Outcome<bool> {
    values(left, right, type_, &PatchStrategy::default())
}

fn values(left: &Value, right: &Value, type_: Type<'_>, strategy: &PatchStrategy) -> Outcome<bool> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            if left.get(DIRECTIVE) != right.get(DIRECTIVE) {
                return Ok(true);
            }
            if strategy.replace { Ok(false) } else { maps(left, right, type_) }
        }
        (Value::Array(left), Value::Array(right)) => lists(left, right, type_, strategy),
        (left, right) => Ok(left != right),
    }
}

fn maps(left: &Object, right: &Object, type_: Type<'_>) -> Outcome<bool> {
    for (key, left) in left.iter().filter(|(key, _)| *key != DIRECTIVE && *key != RETAIN_KEYS) {
        if let Some(right) = right.get(key) {
            let (field, strategy) = match left {
                Value::Object(_) => lookup(type_, key)?,
                Value::Array(_) => lookup_list(type_, key)?,
                _ => (type_, PatchStrategy::default()),
            };
            if values(left, right, field, &strategy)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// `item_type` is that of the items.
fn lists(left: &[Value], right: &[Value], item_type: Type<'_>, strategy: &PatchStrategy) -> Outcome<bool> {
    let objects = holds_objects(&[left, right])?;
    if strategy.merge {
        if !objects {
            return Ok(false);
        }
        let (left, right) = (by_key(left, &strategy.merge_key)?, by_key(right, &strategy.merge_key)?);
        for (key, left) in &left {
            if let Some(right) = right.get(key)
                && between(left, right, item_type)?
            {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    if left.len() != right.len() {
        return Ok(true);
    }
    let (mut left, mut right) = (left.to_vec(), right.to_vec());
    if !objects {
        for list in [&mut left, &mut right] {
            deduplicate(list);
            sort_by_text(list, None);
        }
    }
    for (left, right) in left.iter().zip(&right) {
        if between(left, right, item_type)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn by_key<'v>(list: &'v [Value], merge_key: &str) -> Outcome<BTreeMap<String, &'v Value>> {
    list.iter()
        .map(|item| match item.get(merge_key) {
            Some(key) => Ok((go_format::plain(key), item)),
            None => {
                let item = go_format::plain(item);
                let text = format!("cannot find merge key `{merge_key}` in merging list element:{item}");
                Err(PatchError::unmergeable(text))
            }
        })
        .collect()
}
