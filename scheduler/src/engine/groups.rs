//! Nodes that agree in some labels, such as the zone: what depends on these labels alone is worked out once a group.

use longshore_core::scheduling::cluster::{Cluster, LabelColumn};
use longshore_core::scheduling::{NodeId, NodeSet};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// More groups than this are no gain over the nodes themselves.
const MOST: usize = 64;

/// A partition of the nodes.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Names of the labels.
    keys: Vec<String>,
    /// By node: its group.
    of_node: Vec<u32>,
    members: Vec<NodeSet>,
    /// By group: its first node.
    firsts: Vec<NodeId>,
}

/// Whether a label has few enough values to part nodes by.
pub(super) fn parts_few(cluster: &Cluster, key: &str) -> bool {
    cluster.label(key).is_none_or(|column| column.value_count() < MOST)
}

impl Groups {
    /// The nodes parted by labels; `None` if that makes too many groups.
    pub(super) fn by(cluster: &Cluster, keys: Vec<String>) -> Option<Self> {
        let columns: Vec<Option<&LabelColumn>> = keys.iter().map(|key| cluster.label(key)).collect();
        let mut known: FxHashMap<SmallVec<[usize; 2]>, u32> = FxHashMap::default();
        let mut groups = Self { keys, of_node: vec![0; cluster.width()], ..Self::default() };
        for node in cluster.nodes().iter() {
            let value = |column: &Option<&LabelColumn>| column.and_then(|column| column.value(node));
            let values = columns.iter().map(|column| value(column).map_or(0, |value| value.index() + 1)).collect();
            let next = groups.members.len();
            let group = *known.entry(values).or_insert(u32::try_from(next).ok()?);
            if group as usize == next {
                if next == MOST {
                    return None;
                }
                groups.members.push(NodeSet::new());
                groups.firsts.push(node);
            }
            groups.members[group as usize].insert(node);
            groups.of_node[node.index()] = group;
        }
        Some(groups)
    }

    /// Whether nodes of a group agree in all of these labels.
    pub(super) fn cover(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.keys.iter().any(|known| known == key))
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The group of a node that was there when the nodes were parted.
    pub(super) fn of(&self, node: NodeId) -> usize {
        self.of_node[node.index()] as usize
    }

    /// By node: its group.
    pub(super) fn of_nodes(&self) -> &[u32] {
        &self.of_node
    }

    /// The nodes of a group.
    pub(super) fn members(&self, group: usize) -> &NodeSet {
        &self.members[group]
    }

    /// One node of each group.
    pub(super) fn firsts(&self) -> &[NodeId] {
        &self.firsts
    }
}
