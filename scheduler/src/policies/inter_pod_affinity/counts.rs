//! Numbers by topology domain.

use longshore_core::scheduling::cluster::{Cluster, LabelColumn, ValueId};
use longshore_core::scheduling::{NodeId, NodeSet};
use rustc_hash::FxHashMap;

/// Numbers by domain: for some topology keys, for each value that nodes have.
///
/// Values are numbers of the cluster's columns. These hold as long as no node changes; then everything is counted anew.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) keys: Vec<String>,
    pub(super) counts: FxHashMap<(usize, ValueId), i64>,
    /// Domains whose number is not zero.
    nonzero: usize,
}

impl Counts {
    /// The place of a key among the keys.
    pub(super) fn key(&mut self, key: &str) -> usize {
        self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
            self.keys.push(key.to_owned());
            self.keys.len() - 1
        })
    }

    /// Adds to the domain of a node; says which it is and what was counted before and is now. Nothing happens if the node
    /// does not have the key.
    pub(super) fn add(
        &mut self,
        cluster: &Cluster,
        node: NodeId,
        key: usize,
        amount: i64,
    ) -> Option<(ValueId, i64, i64)> {
        let value = cluster.label(&self.keys[key])?.value(node)?;
        let count = self.counts.entry((key, value)).or_insert(0);
        let before = *count;
        *count += amount;
        let now = *count;
        self.nonzero = self.nonzero + usize::from(now != 0) - usize::from(before != 0);
        Some((value, before, now))
    }

    pub(super) fn get(&self, key: usize, value: ValueId) -> i64 {
        self.counts.get(&(key, value)).copied().unwrap_or(0)
    }

    /// Whether there is a domain in which anything counts.
    pub(super) fn any(&self) -> bool {
        self.nonzero > 0
    }

    /// Those of `within` that are in a domain in which something counts.
    pub(super) fn nodes(&self, cluster: &Cluster, within: &NodeSet) -> NodeSet {
        if !self.any() {
            return NodeSet::new();
        }
        let columns = self.columns(cluster);
        let counted = |node: &NodeId| {
            columns.iter().any(|(key, column)| column.value(*node).is_some_and(|value| self.get(*key, value) > 0))
        };
        within.iter().filter(counted).collect()
    }

    pub(super) fn columns<'c>(&self, cluster: &'c Cluster) -> Vec<(usize, &'c LabelColumn)> {
        self.keys.iter().enumerate().filter_map(|(place, key)| Some((place, cluster.label(key)?))).collect()
    }

    /// Adds the nodes of a domain to a set.
    pub(super) fn add_domain(&self, cluster: &Cluster, key: usize, value: ValueId, set: &mut NodeSet) {
        if let Some(column) = cluster.label(&self.keys[key]) {
            column.add_nodes_of(value, set);
        }
    }
}
