//! The state that policies read: a cluster as columns, kept up to date by difference.
//!
//! Policies get a `&Cluster`, whose methods read; the methods that change it take `&mut self` and are for engines.
//! Each change is numbered and kept for a while ([`Cluster::changes_since`]).

mod changes;
mod devices;
mod groups;
mod labels;
mod nodes;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::pod_shape::HostPort;
use super::{NodeId, NodeSet};
use crate::api::Node;
use crate::api::node::Taint;
use crate::informer::ObjectKey;
use crate::kind::{DynObject, Kind, KindType};

pub use changes::Change;
pub use groups::Group;
pub use labels::{LabelColumn, ValueId};
pub use pods::{PlacedPod, PodId};

/// A kind of resource, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(u32);

impl ResourceId {
    /// `cpu`, in thousandths of a core.
    pub const CPU: Self = Self(0);
    /// `memory`, in bytes.
    pub const MEMORY: Self = Self(1);
    /// `ephemeral-storage`, in bytes.
    pub const EPHEMERAL_STORAGE: Self = Self(2);
    /// `pods`: how many there may be.
    pub const PODS: Self = Self(3);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names of the resources.
#[derive(Debug, Clone)]
pub(super) struct ResourceNames {
    ids: FxHashMap<Arc<str>, ResourceId>,
    names: Vec<Arc<str>>,
}

impl Default for ResourceNames {
    fn default() -> Self {
        let mut names = Self { ids: FxHashMap::default(), names: Vec::new() };
        for name in ["cpu", "memory", "ephemeral-storage", "pods"] {
            names.intern(name);
        }
        names
    }
}

impl ResourceNames {
    pub(super) fn intern(&mut self, name: &str) -> ResourceId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = ResourceId(u32::try_from(self.names.len()).expect("few resources"));
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.ids.insert(name, id);
        id
    }
}

/// A taint, as a number. Taints are the same if key, value and effect are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaintId(u32);

/// An image that nodes have.
#[derive(Debug, Clone)]
pub struct Image {
    size: i64,
    nodes: NodeSet,
}

impl Image {
    /// Its size in bytes, as the first node said.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// The nodes that have it.
    pub fn nodes(&self) -> &NodeSet {
        &self.nodes
    }
}

/// One place for a node.
#[derive(Debug, Clone, Default)]
struct Slot {
    node: Option<Arc<Node>>,
    taints: SmallVec<[TaintId; 2]>,
    pods: Vec<PodId>,
    with_volumes: Vec<PodId>,
    ports: Vec<HostPort>,
    devices: Option<Box<devices::Account>>,
    nominated: Vec<Arc<crate::api::pod::Pod>>,
}

/// Nodes, the pods on them, and what else placement depends on. A clone is a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    resources: ResourceNames,
    ids: FxHashMap<Arc<str>, NodeId>,
    slots: Vec<Slot>,
    /// By node. Apart from the slots, for each decision names a node, and a node's object is rarely in the processor's cache.
    names: Vec<Arc<str>>,
    free: BTreeSet<NodeId>,
    live: NodeSet,
    unschedulable: NodeSet,
    with_ports: NodeSet,
    with_nominations: NodeSet,
    /// By resource, then by node.
    allocatable: Vec<Vec<i64>>,
    requested: Vec<Vec<i64>>,
    nonzero_milli_cpu: Vec<i64>,
    nonzero_memory: Vec<i64>,
    pod_counts: Vec<i64>,
    labels: labels::Labels,
    taints: IndexMap<(String, String, String), (Taint, NodeSet), FxBuildHasher>,
    images: FxHashMap<Box<str>, Image>,
    pods: pods::Pods,
    /// Nodes for which room is being made, by pod.
    nominations: FxHashMap<ObjectKey, NodeId>,
    /// Groups of pods of which any pod is known.
    groups: FxHashMap<ObjectKey, Group>,
    namespaces: BTreeMap<Box<str>, BTreeMap<String, String>>,
    objects: BTreeMap<(&'static str, &'static str), BTreeMap<ObjectKey, DynObject>>,
    changes: changes::Changes,
}

/// Reading: nodes.
impl Cluster {
    /// A cluster without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// All nodes.
    pub fn nodes(&self) -> &NodeSet {
        &self.live
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.ids.len()
    }

    /// How long columns are: one more than the highest place that a node has or had.
    pub fn width(&self) -> usize {
        self.slots.len()
    }

    /// The node of this name.
    pub fn node_id(&self, name: &str) -> Option<NodeId> {
        self.ids.get(name).copied()
    }

    /// The node at a place.
    pub fn node(&self, node: NodeId) -> Option<&Arc<Node>> {
        self.slots.get(node.index())?.node.as_ref()
    }

    /// The name of the node at a place; empty if there is none.
    pub fn name(&self, node: NodeId) -> &str {
        self.names.get(node.index()).map_or("", |name| name)
    }

    /// Nodes that take no new pods.
    pub fn unschedulable(&self) -> &NodeSet {
        &self.unschedulable
    }

    /// One label of all nodes; `None` if no node has it.
    pub fn label(&self, key: &str) -> Option<&LabelColumn> {
        self.labels.column(key)
    }

    /// Every taint that nodes have or had, and the nodes that have it.
    pub fn taints(&self) -> impl Iterator<Item = (TaintId, &Taint, &NodeSet)> {
        self.taints
            .values()
            .enumerate()
            .map(|(index, (taint, nodes))| (TaintId(u32::try_from(index).expect("few taints")), taint, nodes))
    }

    /// The node's taints, in its order.
    pub fn taints_of(&self, node: NodeId) -> &[TaintId] {
        &self.slots[node.index()].taints
    }

    /// An image by its name with tag or digest, as nodes report it.
    pub fn image(&self, name: &str) -> Option<&Image> {
        self.images.get(name)
    }
}

/// Reading: resources and ports.
impl Cluster {
    /// The resource of this name; `None` if nobody has it or asks for it.
    pub fn resource(&self, name: &str) -> Option<ResourceId> {
        self.resources.ids.get(name).copied()
    }

    /// The resource's name.
    pub fn resource_name(&self, resource: ResourceId) -> &str {
        &self.resources.names[resource.index()]
    }

    /// What pods may use of a resource, by node. The column ends early where all further nodes have nothing.
    pub fn allocatable(&self, resource: ResourceId) -> &[i64] {
        self.allocatable.get(resource.index()).map_or(&[], Vec::as_slice)
    }

    /// What pods asked for of a resource, by node. The column ends early where all further nodes have 0. For
    /// [`ResourceId::PODS`] use [`Cluster::pod_counts`].
    pub fn requested(&self, resource: ResourceId) -> &[i64] {
        self.requested.get(resource.index()).map_or(&[], Vec::as_slice)
    }

    /// CPU asked for, by node, each container without a request counted as 100 thousandths.
    pub fn nonzero_milli_cpu(&self) -> &[i64] {
        &self.nonzero_milli_cpu
    }

    /// Memory asked for, by node, each container without a request counted as 200 MiB.
    pub fn nonzero_memory(&self) -> &[i64] {
        &self.nonzero_memory
    }

    /// How many pods are on each node.
    pub fn pod_counts(&self) -> &[i64] {
        &self.pod_counts
    }

    /// The ports of the node that its pods take.
    pub fn ports_of(&self, node: NodeId) -> &[HostPort] {
        &self.slots[node.index()].ports
    }

    /// Nodes of which any port is taken.
    pub fn nodes_with_ports(&self) -> &NodeSet {
        &self.with_ports
    }
}

/// Reading: namespaces and other objects.
impl Cluster {
    /// The labels of a namespace; `None` if it is not known.
    pub fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// All namespaces with their labels.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        self.namespaces.iter().map(|(name, labels)| (&**name, labels))
    }

    /// An object of a kind that a policy asked for; see [`Policy::kinds`](super::Policy::kinds).
    pub fn object<K: Kind>(&self, namespace: &str, name: &str) -> Option<&K> {
        let objects = self.objects.get(&(K::INFO.group, K::INFO.kind))?;
        objects.get(&ObjectKey::new(namespace, name))?.as_any().downcast_ref()
    }

    /// The objects of a kind that a policy asked for, by namespace and name.
    pub fn objects<K: Kind>(&self) -> impl Iterator<Item = &K> {
        let objects = self.objects.get(&(K::INFO.group, K::INFO.kind));
        objects.into_iter().flat_map(BTreeMap::values).filter_map(|object| object.as_any().downcast_ref())
    }
}

/// Reading: the objects of one namespace, and changes.
impl Cluster {
    /// The objects of a kind that a policy asked for in one namespace, by name.
    pub fn objects_in<'c, K: Kind>(&'c self, namespace: &'c str) -> impl Iterator<Item = &'c K> {
        let objects = self.objects.get(&(K::INFO.group, K::INFO.kind));
        let first = ObjectKey::new(namespace, "");
        let objects = objects.into_iter().flat_map(move |objects| objects.range(first.clone()..));
        let objects = objects.take_while(move |(key, _)| &*key.namespace == namespace);
        objects.filter_map(|(_, object)| object.as_any().downcast_ref())
    }

    /// The number that the next change will have.
    pub fn generation(&self) -> u64 {
        self.changes.next()
    }

    /// The changes from this number on; `None` if they are no longer known.
    pub fn changes_since(&self, generation: u64) -> Option<impl Iterator<Item = &Change> + Clone> {
        self.changes.since(generation)
    }
}

/// Changing: namespaces and other objects.
impl Cluster {
    /// Puts a namespace in, or changes its labels.
    pub fn put_namespace(&mut self, name: &str, labels: &BTreeMap<String, String>) {
        if self.namespaces.get(name) != Some(labels) {
            self.namespaces.insert(name.into(), labels.clone());
            self.changes.push(Change::Namespace);
        }
    }

    /// Takes a namespace out.
    pub fn remove_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.changes.push(Change::Namespace);
        }
    }

    /// Puts an object in or replaces it. For kinds that have no method of their own.
    pub fn put_object(&mut self, object: DynObject) {
        let kind = object.kind_type();
        let objects = self.objects.entry((kind.info.group, kind.info.kind)).or_default();
        objects.insert(ObjectKey::of(&*object), object);
        self.changes.push(Change::Object(kind));
    }

    /// Takes an object out.
    pub fn remove_object(&mut self, kind: &'static KindType, key: &ObjectKey) {
        let objects = self.objects.get_mut(&(kind.info.group, kind.info.kind));
        if objects.is_some_and(|objects| objects.remove(key).is_some()) {
            self.changes.push(Change::Object(kind));
        }
    }
}

fn at(column: &[i64], node: NodeId) -> i64 {
    column.get(node.index()).copied().unwrap_or(0)
}

fn at_mut(column: &mut Vec<i64>, node: NodeId) -> &mut i64 {
    if node.index() >= column.len() {
        column.resize(node.index() + 1, 0);
    }
    &mut column[node.index()]
}

fn column_mut(columns: &mut Vec<Vec<i64>>, resource: ResourceId) -> &mut Vec<i64> {
    if resource.index() >= columns.len() {
        columns.resize_with(resource.index() + 1, Vec::new);
    }
    &mut columns[resource.index()]
}

#[cfg(test)]
#[path = "../cluster_tests.rs"]
mod tests;
