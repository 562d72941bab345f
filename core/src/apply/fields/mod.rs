//! Sets of fields, and their wire format FieldsV1.
//!
//! A set is a tree: each node has members (fields that belong to the set) and children (fields below which others
//! belong to it). Owning a field does not mean owning what is below it, and the other way round.

mod element;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::cmp::Ordering;
use std::fmt;

pub use element::Element;
pub(crate) use element::{equal, quoted};
pub use read::FieldsError;

/// A set of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// Sorted, without repetition.
    members: Vec<Element>,
    /// Sorted by element, without repetition.
    children: Vec<(Element, Set)>,
}

/// The steps from an object to one of its fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Path(pub Vec<Element>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}

/// Walks two sorted slices together.
fn zip_sorted<'a, 'b, A, B>(
    left: &'a [A],
    right: &'b [B],
    order: impl Fn(&A, &B) -> Ordering,
    mut visit: impl FnMut(Option<&'a A>, Option<&'b B>),
) {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => order(left, right),
        };
        let left = if order.is_le() { left.next() } else { None };
        let right = if order.is_ge() { right.next() } else { None };
        visit(left, right);
    }
}

impl Set {
    /// The set of the fields at `paths`, each a list of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// Adds the field at `path`. The whole object (an empty path) cannot be a member.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.insert_member(last),
            [first, rest @ ..] => self.child(first).insert(rest),
        }
    }

    pub(crate) fn insert_member(&mut self, element: &Element) {
        // Fields usually come in order.
        if self.members.last().is_none_or(|last| last < element) {
            self.members.push(element.clone());
        } else if let Err(place) = self.members.binary_search(element) {
            self.members.insert(place, element.clone());
        }
    }

    /// The set below `element`, made if there is none.
    fn child(&mut self, element: &Element) -> &mut Self {
        let place = if self.children.last().is_none_or(|(last, _)| last < element) {
            self.children.push((element.clone(), Self::default()));
            self.children.len() - 1
        } else {
            match self.children.binary_search_by(|(other, _)| other.cmp(element)) {
                Ok(place) => place,
                Err(place) => {
                    self.children.insert(place, (element.clone(), Self::default()));
                    place
                }
            }
        };
        &mut self.children[place].1
    }

    /// Puts `set` below `element`, unless it is empty.
    pub(crate) fn put_below(&mut self, element: &Element, set: Self) {
        if !set.is_empty() {
            let child = self.child(element);
            *child = if child.is_empty() { set } else { child.union(&set) };
        }
    }

    /// The set below `element`.
    pub(crate) fn below(&self, element: &Element) -> Option<&Self> {
        let place = self.children.binary_search_by(|(other, _)| other.cmp(element)).ok()?;
        Some(&self.children[place].1)
    }

    /// Whether `element` itself is a member at the top.
    pub(crate) fn has_member(&self, element: &Element) -> bool {
        self.members.binary_search(element).is_ok()
    }

    /// Whether the field at `path` is a member.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.below(first).is_some_and(|set| set.has(rest)),
        }
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|(_, set)| set.is_empty())
    }

    /// How many members the set has.
    pub fn size(&self) -> usize {
        self.members.len() + self.children.iter().map(|(_, set)| set.size()).sum::<usize>()
    }

    /// The members' paths: those of a node first, then those below, each sorted.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Path>) {
        for member in &self.members {
            prefix.push(member.clone());
            paths.push(Path(prefix.clone()));
            prefix.pop();
        }
        for (element, set) in &self.children {
            prefix.push(element.clone());
            set.collect_paths(prefix, paths);
            prefix.pop();
        }
    }

    /// The fields in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = Self::default();
        zip_sorted(&self.members, &other.members, Ord::cmp, |left, right| out.members.extend(left.or(right).cloned()));
        zip_sorted(&self.children, &other.children, by_element, |left, right| {
            out.children.extend(match (left, right) {
                (Some((element, left)), Some((_, right))) => Some((element.clone(), left.union(right))),
                (left, right) => left.or(right).cloned(),
            });
        });
        out
    }

    /// The fields in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        zip_sorted(&self.members, &other.members, Ord::cmp, |left, right| out.members.extend(left.and(right).cloned()));
        zip_sorted(&self.children, &other.children, by_element, |left, right| {
            if let (Some((element, left)), Some((_, right))) = (left, right) {
                out.push_child(element, left.intersection(right));
            }
        });
        out
    }

    /// The fields in this set but not in `other`. Taking a field away leaves what is below it.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members_without(other), children: Vec::new() };
        zip_sorted(&self.children, &other.children, by_element, |left, right| match (left, right) {
            (Some((element, left)), Some((_, right))) => out.push_child(element, left.difference(right)),
            (left, _) => out.children.extend(left.cloned()),
        });
        out
    }

    /// The fields in this set but neither in `other` nor below a field of it.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members_without(other), children: Vec::new() };
        zip_sorted(&self.children, &other.children, by_element, |left, right| {
            let Some((element, left)) = left else { return };
            if other.has_member(element) {
                return;
            }
            match right {
                Some((_, right)) => out.push_child(element, left.recursive_difference(right)),
                None => out.children.push((element.clone(), left.clone())),
            }
        });
        out
    }

    fn members_without(&self, other: &Self) -> Vec<Element> {
        let mut members = Vec::new();
        zip_sorted(&self.members, &other.members, Ord::cmp, |left, right| {
            if right.is_none() {
                members.extend(left.cloned());
            }
        });
        members
    }

    fn push_child(&mut self, element: &Element, set: Self) {
        if !set.is_empty() {
            self.children.push((element.clone(), set));
        }
    }

    /// The members below which there is no other member.
    #[must_use]
    pub fn leaves(&self) -> Self {
        let mut out = Self::default();
        zip_sorted(
            &self.members,
            &self.children,
            |member, (element, _)| member.cmp(element),
            |member, child| {
                if child.is_none() {
                    out.members.extend(member.cloned());
                }
            },
        );
        out.children = self.children.iter().map(|(element, set)| (element.clone(), set.leaves())).collect();
        out
    }

    pub(crate) fn children(&self) -> &[(Element, Self)] {
        &self.children
    }

    pub(crate) fn from_parts(members: Vec<Element>, children: Vec<(Element, Self)>) -> Self {
        Self { members, children }
    }

    pub(crate) fn members(&self) -> &[Element] {
        &self.members
    }
}

fn by_element(left: &(Element, Set), right: &(Element, Set)) -> Ordering {
    left.0.cmp(&right.0)
}
