//! Strategic merge patch: a JSON merge patch that merges lists by key where the schema says so.
//!
//! Directives in a patch: `$patch: replace|delete` (in an object or a list item), `$retainKeys`,
//! `$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>`. [`apply_strategic`] applies a patch;
//! [`create_two_way`] and [`create_three_way`] make one, as `kubectl apply` does.

mod apply;
mod conflicts;
mod diff;
mod order;

use serde_json::{Map, Value};

use super::{PatchError, go_format, yaml};
use crate::schema::{Node, PatchStrategy, Schema, Type};

type Object = Map<String, Value>;
type Outcome<T> = Result<T, PatchError>;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";

const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_SET_ORDER: &str = "invalid patch format of setElementOrder list";

/// Applies a strategic merge patch to `original`.
///
/// # Errors
/// The patch is malformed, does not fit the schema, or an item of a merged list lacks its key.
pub fn apply_strategic(original: Value, patch: Value, schema: &Schema) -> Result<Value, PatchError> {
    let mut original = document(original)?;
    let options = apply::Options { merge_directives: true, ignore_unmatched_nulls: true };
    apply::merge_map(&mut original, document(patch)?, schema.root(), options)?;
    Ok(Value::Object(original))
}

/// The patch that turns `original` into `modified`.
///
/// # Errors
/// One of them is not an object, or a field that differs is not in the schema.
pub fn create_two_way(original: &Value, modified: &Value, schema: &Schema) -> Result<Value, PatchError> {
    let options = diff::Options { set_order: true, ..diff::Options::default() };
    let mut original = document(original.clone())?;
    diff::maps(&mut original, &document(modified.clone())?, schema.root(), options).map(Value::Object)
}

/// The patch that brings `current` to `modified` and removes what was in `last_applied` but no longer is in `modified`;
/// what others changed in `current` stays. With `overwrite` unset, a field that both changed differently is an error.
///
/// # Errors
/// [`PatchError::Conflict`] as said above; else one of the documents is not an object, or a field that differs is not
/// in the schema.
pub fn create_three_way(
    last_applied: &Value,
    modified: &Value,
    current: &Value,
    schema: &Schema,
    overwrite: bool,
) -> Result<Value, PatchError> {
    let root = schema.root();
    let mut last_applied = if last_applied.is_null() { Object::new() } else { document(last_applied.clone())? };
    let modified = document(modified.clone())?;
    let mut current = document(current.clone())?;

    let additions = diff::Options { ignore_deletions: true, set_order: true, ..diff::Options::default() };
    let additions = diff::maps(&mut current, &modified, root, additions)?;
    let deletions = diff::Options { ignore_changes: true, set_order: true, ..diff::Options::default() };
    let mut patch = diff::maps(&mut last_applied, &modified, root, deletions)?;
    apply::merge_map(&mut patch, additions, root, apply::Options::default())?;

    if !overwrite {
        let changed = diff::maps(&mut last_applied, &current, root, diff::Options::default())?;
        let (patch_value, changed) = (Value::Object(patch), Value::Object(changed));
        if conflicts::between(&patch_value, &changed, root)? {
            return Err(PatchError::Conflict(format!(
                "patch:\n{}\nconflicts with changes made from original to current:\n{}\n",
                yaml::to_yaml(&patch_value),
                yaml::to_yaml(&changed)
            )));
        }
        return Ok(patch_value);
    }
    Ok(Value::Object(patch))
}

fn document(value: Value) -> Outcome<Object> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(PatchError::malformed("invalid JSON document")),
    }
}

/// The type of the field `key` of `parent`, and how it is merged.
fn lookup<'s>(parent: Type<'s>, key: &str) -> Outcome<(Type<'s>, PatchStrategy)> {
    let missing = |name: &str| {
        PatchError::unmergeable(format!("unable to find api field in struct {name} for the json field {key:?}"))
    };
    let kind = match parent.node() {
        Node::Struct(object) => {
            let field = object.field_like(key).ok_or_else(|| missing(&object.name))?;
            return Ok((parent.of_field(field), field.patch.clone()));
        }
        Node::Map(map) => return Ok((parent.of_values(map), PatchStrategy::default())),
        Node::Any => return Ok((parent, PatchStrategy::default())),
        Node::List(_) => "slice",
        Node::Scalar(scalar) if scalar.go_kind() == "struct" => return Err(missing(&format!("{scalar:?}"))),
        Node::Scalar(scalar) => scalar.go_kind(),
    };
    Err(PatchError::unmergeable(format!("merging an object in json but data type is not struct, instead is: {kind}")))
}

/// The type of the items of the list `key` of `parent`, and how the list is merged.
fn lookup_list<'s>(parent: Type<'s>, key: &str) -> Outcome<(Type<'s>, PatchStrategy)> {
    let (field, strategy) = lookup(parent, key)?;
    let items = match field.node() {
        Node::List(node) => field.of_items(node),
        Node::Any => field,
        _ => {
            let kind = if matches!(parent.node(), Node::Map(_)) { "map" } else { "struct" };
            return Err(PatchError::unmergeable(format!("expected slice or array type, but got: {kind}")));
        }
    };
    if matches!(items.node(), Node::List(_)) {
        return Err(PatchError::unmergeable("unexpected slice of slice"));
    }
    Ok((items, strategy))
}

/// Whether the items of all the lists are objects (`true`) or scalars; they must be of one JSON type.
fn holds_objects(lists: &[&[Value]]) -> Outcome<bool> {
    let mut found: Option<&'static str> = None;
    for item in lists.iter().copied().flatten() {
        let name = go_format::type_name(item);
        match found {
            None if item.is_array() => {
                return Err(PatchError::NotApplicable("lists of lists are not supported".to_owned()));
            }
            None => found = Some(name),
            Some(first) if first != name => {
                let lists: Vec<String> = lists.iter().map(|list| go_format::list(list)).collect();
                let text = format!("list element types are not identical: [{}]", lists.join(" "));
                return Err(PatchError::unmergeable(text));
            }
            Some(_) => {}
        }
    }
    match found {
        None => Err(PatchError::unmergeable("no elements in any of the given slices")),
        Some(name) => Ok(name.starts_with("map")),
    }
}

fn wrong_type(expected: &str, found: &Value) -> PatchError {
    PatchError::unmergeable(format!("expected a {expected}, but received a {}", go_format::type_name(found)))
}

fn no_merge_key(item: &Value, merge_key: &str) -> PatchError {
    let item = go_format::plain(item);
    PatchError::unmergeable(format!("map: {item} does not contain declared merge key: {merge_key}"))
}

fn bad_directive(directive: &Value, patch: &Value) -> PatchError {
    let (directive, patch) = (go_format::string(directive), go_format::plain(patch));
    PatchError::unmergeable(format!("unknown patch type: {directive} in map: {patch}"))
}

/// The list that a value must be.
fn as_list(value: &Value) -> Outcome<&[Value]> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type("[]interface {}", value))
}

/// The value of an item's merge key.
fn key_of<'v>(item: &'v Value, merge_key: &str) -> Outcome<&'v Value> {
    let fields = item.as_object().ok_or_else(|| wrong_type("map[string]interface {}", item))?;
    fields.get(merge_key).ok_or_else(|| no_merge_key(item, merge_key))
}
