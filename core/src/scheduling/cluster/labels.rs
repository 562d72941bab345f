//! The labels of the nodes, turned around: which nodes have a label, and with which value.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::super::{NodeId, NodeSet};

/// More nodes than this are kept as bits.
const FEW: usize = 32;

/// A value of a label, as a number; see [`LabelColumn::value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);

impl ValueId {
    /// The number, for tables by value.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One label of all nodes.
#[derive(Debug, Clone, Default)]
pub struct LabelColumn {
    /// The nodes that have it.
    nodes: NodeSet,
    /// By node: one more than the value's number; 0 if the node does not have the label.
    of_node: Vec<u32>,
    ids: FxHashMap<Arc<str>, u32>,
    values: Vec<Value>,
}

#[derive(Debug, Clone)]
struct Value {
    text: Arc<str>,
    nodes: Nodes,
}

/// A label such as the host name has as many values as there are nodes: bits for each would be quadratic.
#[derive(Debug, Clone)]
enum Nodes {
    Few(SmallVec<[NodeId; 2]>),
    Many(NodeSet),
}

impl Nodes {
    fn insert(&mut self, node: NodeId) {
        match self {
            Self::Few(few) if few.len() < FEW => few.push(node),
            Self::Few(few) => {
                let mut set: NodeSet = few.iter().copied().collect();
                set.insert(node);
                *self = Self::Many(set);
            }
            Self::Many(set) => {
                set.insert(node);
            }
        }
    }

    fn remove(&mut self, node: NodeId) {
        match self {
            Self::Few(few) => few.retain(|have| *have != node),
            Self::Many(set) => {
                set.remove(node);
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(set) => set.len(),
        }
    }
}

impl LabelColumn {
    /// The nodes that have the label.
    pub fn nodes(&self) -> &NodeSet {
        &self.nodes
    }

    /// The node's value of the label.
    pub fn value(&self, node: NodeId) -> Option<ValueId> {
        self.of_node.get(node.index())?.checked_sub(1).map(ValueId)
    }

    /// The value's text.
    pub fn text(&self, value: ValueId) -> &str {
        &self.values[value.index()].text
    }

    /// How many values have numbers, those included that no node has any more.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The values that nodes have, in the order of their numbers.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &str)> {
        let used = self.values.iter().enumerate().filter(|(_, value)| value.nodes.len() > 0);
        used.map(|(index, value)| (ValueId(u32::try_from(index).expect("few values")), &*value.text))
    }

    /// Adds the nodes with this value to a set.
    pub fn add_nodes_with(&self, value: &str, set: &mut NodeSet) {
        if let Some(&id) = self.ids.get(value) {
            self.add_nodes_of(ValueId(id), set);
        }
    }

    /// Adds the nodes with this value to a set.
    pub fn add_nodes_of(&self, value: ValueId, set: &mut NodeSet) {
        match &self.values[value.index()].nodes {
            Nodes::Few(few) => {
                for &node in few {
                    set.insert(node);
                }
            }
            Nodes::Many(many) => set.union(many),
        }
    }

    fn set(&mut self, node: NodeId, text: &str) {
        let id = *self.ids.entry(text.into()).or_insert_with_key(|text| {
            self.values.push(Value { text: text.clone(), nodes: Nodes::Few(SmallVec::new()) });
            u32::try_from(self.values.len() - 1).expect("few values")
        });
        if node.index() >= self.of_node.len() {
            self.of_node.resize(node.index() + 1, 0);
        }
        self.of_node[node.index()] = id + 1;
        self.values[id as usize].nodes.insert(node);
        self.nodes.insert(node);
    }

    fn unset(&mut self, node: NodeId) {
        if let Some(value) = self.value(node) {
            self.values[value.index()].nodes.remove(node);
            self.of_node[node.index()] = 0;
            self.nodes.remove(node);
        }
    }
}

/// All labels of all nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels {
    columns: FxHashMap<Arc<str>, LabelColumn>,
}

impl Labels {
    pub(super) fn column(&self, key: &str) -> Option<&LabelColumn> {
        self.columns.get(key)
    }

    /// Changes a node's labels from `old` to `new`.
    pub(super) fn change(&mut self, node: NodeId, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
        for (key, value) in old.iter().filter(|(key, value)| new.get(*key) != Some(value)) {
            debug_assert!(self.columns.contains_key(key.as_str()), "label {key}={value} of a node has its column");
            if let Some(column) = self.columns.get_mut(key.as_str()) {
                column.unset(node);
                if column.nodes.is_empty() {
                    self.columns.remove(key.as_str());
                }
            }
        }
        for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
            if !self.columns.contains_key(key.as_str()) {
                self.columns.insert(key.as_str().into(), LabelColumn::default());
            }
            if let Some(column) = self.columns.get_mut(key.as_str()) {
                column.set(node, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn columns_follow_the_labels() {
        let mut all = Labels::default();
        let none = BTreeMap::new();
        for index in 0..100 {
            let zone = if index % 2 == 0 { "a" } else { "b" };
            all.change(NodeId::from_index(index), &none, &labels(&[("zone", zone), ("name", &index.to_string())]));
        }
        let with = |all: &Labels, key: &str, value: &str| {
            let mut set = NodeSet::new();
            all.column(key).unwrap().add_nodes_with(value, &mut set);
            set.iter().map(NodeId::index).collect::<Vec<_>>()
        };
        assert_eq!(with(&all, "name", "7"), [7]);
        assert_eq!(with(&all, "zone", "a").len(), 50);
        let node = NodeId::from_index(2);
        all.change(node, &labels(&[("zone", "a"), ("name", "2")]), &labels(&[("zone", "b")]));
        assert_eq!((with(&all, "zone", "a").len(), with(&all, "zone", "b").len()), (49, 51));
        let zone = all.column("zone").unwrap();
        assert_eq!(zone.text(zone.value(node).unwrap()), "b");
        assert_eq!(all.column("name").unwrap().value(node), None);
        all.change(node, &labels(&[("zone", "b")]), &labels(&[("only", "x")]));
        all.change(node, &labels(&[("only", "x")]), &none);
        assert!(all.column("only").is_none());
    }
}
