//! How two values differ.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Shape, as_list, as_map, below, field_type, item_type, items, shape};
use crate::apply::fields::{Element, Set, equal};
use crate::schema::Type;

/// The fields that differ between two values. No field is in more than one set.
#[derive(Debug, Clone, Default)]
pub(in crate::apply) struct Comparison {
    pub(in crate::apply) removed: Set,
    pub(in crate::apply) modified: Set,
    pub(in crate::apply) added: Set,
}

impl Comparison {
    /// Without the fields given and all below them.
    pub(in crate::apply) fn without(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            removed: self.removed.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            added: self.added.recursive_difference(ignored),
        }
    }
}

/// How `right` differs from `left`.
pub(in crate::apply) fn compare(left: &Value, right: &Value, type_: Type<'_>) -> Comparison {
    let mut walker = Walker { result: Comparison::default() };
    walker.visit(Some(left), Some(right), type_, &mut Vec::new());
    walker.result
}

struct Walker {
    result: Comparison,
}

impl Walker {
    fn visit(&mut self, left: Option<&Value>, right: Option<&Value>, type_: Type<'_>, path: &mut Vec<Element>) {
        // Most of an object is the same on both sides.
        if left == right {
            return;
        }
        let is_leaf = match shape(type_, right.or(left)) {
            Shape::Scalar => true,
            Shape::Map(atomic) => {
                let (left, right) = (as_map(left), as_map(right));
                atomic || (left.is_none_or(Map::is_empty) && right.is_none_or(Map::is_empty))
            }
            Shape::List(atomic) => {
                let (left, right) = (as_list(left), as_list(right));
                atomic || (left.is_none_or(<[_]>::is_empty) && right.is_none_or(<[_]>::is_empty))
            }
        };
        let set = match (left, right) {
            (None, _) => &mut self.result.added,
            (_, None) => &mut self.result.removed,
            (Some(left), Some(right)) => {
                if is_leaf {
                    if !equal(left, right) {
                        self.result.modified.insert(path);
                    }
                    return;
                }
                return self.descend(Some(left), Some(right), type_, path);
            }
        };
        set.insert(path);
        if !is_leaf {
            self.descend(left, right, type_, path);
        }
    }

    fn descend(&mut self, left: Option<&Value>, right: Option<&Value>, type_: Type<'_>, path: &mut Vec<Element>) {
        match shape(type_, right.or(left)) {
            Shape::Map(_) => self.maps(as_map(left), as_map(right), type_, path),
            Shape::List(_) => {
                self.lists(as_list(left).unwrap_or_default(), as_list(right).unwrap_or_default(), type_, path);
            }
            Shape::Scalar => {}
        }
    }

    fn maps(
        &mut self,
        left: Option<&Map<String, Value>>,
        right: Option<&Map<String, Value>>,
        type_: Type<'_>,
        path: &mut Vec<Element>,
    ) {
        let mut differing: Vec<(&String, Option<&Value>, Option<&Value>)> = Vec::new();
        for (key, left) in left.into_iter().flatten() {
            let right = right.and_then(|right| right.get(key));
            if right != Some(left) {
                differing.push((key, Some(left), right));
            }
        }
        let added = right.into_iter().flatten().filter(|(key, _)| left.is_none_or(|left| !left.contains_key(*key)));
        differing.extend(added.map(|(key, right)| (key, None, Some(right))));
        // Inserting in order is what keeps large maps cheap.
        differing.sort_unstable_by_key(|(key, ..)| *key);
        for (key, left, right) in differing {
            if let Some(field) = field_type(type_, key) {
                below(path, Element::field(key), |path| self.visit(left, right, field, path));
            }
        }
    }

    fn lists(&mut self, left: &[Value], right: &[Value], type_: Type<'_>, path: &mut Vec<Element>) {
        let mut pairs: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in left {
            if let Ok(element) = items::element(type_, item) {
                pairs.entry(element).or_default().0.push(item);
            }
        }
        for item in right {
            if let Ok(element) = items::element(type_, item) {
                pairs.entry(element).or_default().1.push(item);
            }
        }
        let item_type = item_type(type_);
        for (element, (left, right)) in pairs {
            below(path, element, |path| match (&left[..], &right[..]) {
                ([] | [_], [] | [_]) => self.visit(left.first().copied(), right.first().copied(), item_type, path),
                // Repeated items count as one value.
                ([_, _, ..], [_, _, ..]) => {
                    let same =
                        left.len() == right.len() && left.iter().zip(&right).all(|(left, right)| equal(left, right));
                    if !same {
                        self.result.modified.insert(path);
                    }
                }
                ([_, _, ..], rest) => {
                    if let Some(right) = rest.first() {
                        self.visit(None, Some(right), item_type, path);
                    }
                    self.result.removed.insert(path);
                }
                (rest, [_, _, ..]) => {
                    if let Some(left) = rest.first() {
                        self.visit(Some(left), None, item_type, path);
                    }
                    self.result.added.insert(path);
                }
            });
        }
    }
}
