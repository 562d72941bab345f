//! Pods come to nodes and go.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use super::{Change, Cluster, NodeId, NodeSet, at, at_mut, column_mut};
use crate::api::pod::Pod;
use crate::api::pod::helpers::is_terminal;
use crate::devices::{Assignment, Charge};
use crate::informer::ObjectKey;
use crate::scheduling::pod_shape::{Requests, Shape, ShapeId, Wanted, shape_hash};

/// A placed pod, as a number. Numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(u32);

/// A pod that has a node.
#[derive(Debug, Clone)]
pub struct PlacedPod {
    pod: Arc<Pod>,
    shape: Arc<Shape>,
    /// `None` while the cluster does not know its node.
    node: Option<NodeId>,
    /// What it takes, where that is not what its shape says: while it is resized.
    requests: Option<Box<Requests>>,
    /// What it takes of devices, if its annotation says so.
    pub(super) devices: Option<Box<Charge>>,
}

impl PlacedPod {
    /// The pod.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// What scheduling reads of it.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Where it is.
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// What it takes of its node.
    pub fn requests(&self) -> &Requests {
        self.requests.as_deref().unwrap_or(&self.shape.requests)
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    fn is(&self, namespace: &str, name: &str) -> bool {
        let meta = &self.pod.metadata;
        meta.name.as_deref().unwrap_or_default() == name && meta.namespace.as_deref().unwrap_or_default() == namespace
    }
}

/// All placed pods and all shapes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pods {
    entries: Vec<Option<PlacedPod>>,
    free: Vec<PodId>,
    /// By hash of namespace and name.
    index: FxHashMap<u64, SmallVec<[PodId; 1]>>,
    /// Pods on nodes that are not known, by name of node.
    orphans: BTreeMap<Box<str>, Vec<PodId>>,
    /// Pods on known nodes that say near which other pods they want to be, or not.
    with_affinity: BTreeSet<PodId>,
    /// How many pods on known nodes use a claim.
    claim_users: FxHashMap<ObjectKey, usize>,
    /// How many pods on known nodes there are of each priority.
    priorities: BTreeMap<i32, usize>,
    shapes: FxHashMap<u64, SmallVec<[Arc<Shape>; 1]>>,
    shape_count: usize,
    next_shape: u64,
    count: usize,
}

/// Shapes that nobody uses are thrown away once there are this many more than after the last time.
const SHAPES_SLACK: usize = 1024;

impl Pods {
    fn find(&self, namespace: &str, name: &str) -> Option<PodId> {
        let known = self.index.get(&name_hash(namespace, name))?;
        known.iter().copied().find(|id| self.get(*id).is_some_and(|pod| pod.is(namespace, name)))
    }

    fn get(&self, id: PodId) -> Option<&PlacedPod> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    fn insert(&mut self, pod: PlacedPod) -> PodId {
        let meta = &pod.pod.metadata;
        let hash = name_hash(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            PodId(u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 pods"))
        });
        self.entries[id.0 as usize] = Some(pod);
        self.index.entry(hash).or_default().push(id);
        self.count += 1;
        id
    }

    fn remove(&mut self, id: PodId) -> Option<PlacedPod> {
        let pod = self.entries.get_mut(id.0 as usize)?.take()?;
        let meta = &pod.pod.metadata;
        let hash = name_hash(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        if let Some(same) = self.index.get_mut(&hash) {
            same.retain(|other| *other != id);
            if same.is_empty() {
                self.index.remove(&hash);
            }
        }
        self.free.push(id);
        self.count -= 1;
        Some(pod)
    }
}

fn name_hash(namespace: &str, name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    namespace.hash(&mut hasher);
    name.hash(&mut hasher);
    hasher.finish()
}

/// Reading: pods.
impl Cluster {
    /// A placed pod.
    pub fn pod(&self, id: PodId) -> Option<&PlacedPod> {
        self.pods.get(id)
    }

    /// The placed pod of this name.
    pub fn find_pod(&self, namespace: &str, name: &str) -> Option<&PlacedPod> {
        self.pods.find(namespace, name).and_then(|id| self.pods.get(id))
    }

    /// The pods on a node, in no particular order.
    pub fn pods_on(&self, node: NodeId) -> impl Iterator<Item = &PlacedPod> {
        self.slots.get(node.index()).into_iter().flat_map(|slot| &slot.pods).filter_map(|id| self.pods.get(*id))
    }

    /// All placed pods whose node is known.
    pub fn placed_pods(&self) -> impl Iterator<Item = (NodeId, &PlacedPod)> {
        self.pods.entries.iter().flatten().filter_map(|pod| Some((pod.node?, pod)))
    }

    /// Those placed pods that say near which other pods they want to be, or not.
    pub fn pods_with_affinity(&self) -> impl Iterator<Item = (NodeId, &PlacedPod)> {
        let pods = self.pods.with_affinity.iter().filter_map(|id| self.pods.get(*id));
        pods.filter_map(|pod| Some((pod.node?, pod)))
    }

    /// The pods on a node that have volumes of [`Shape::volumes`].
    pub fn pods_with_volumes_on(&self, node: NodeId) -> impl Iterator<Item = &PlacedPod> {
        let slot = self.slots.get(node.index()).into_iter();
        slot.flat_map(|slot| &slot.with_volumes).filter_map(|id| self.pods.get(*id))
    }

    /// How many placed pods use the claim.
    pub fn claim_users(&self, namespace: &str, claim: &str) -> usize {
        self.pods.claim_users.get(&ObjectKey::new(namespace, claim)).copied().unwrap_or(0)
    }

    /// The lowest priority of any pod on a known node.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.pods.priorities.keys().next().copied()
    }

    /// How many pods are placed.
    pub fn pod_count(&self) -> usize {
        self.pods.count
    }

    /// Pods for which room is being made on the node.
    pub fn nominated(&self, node: NodeId) -> &[Arc<Pod>] {
        self.slots.get(node.index()).map_or(&[], |slot| &slot.nominated)
    }

    /// Nodes on which room is being made for some pod.
    pub fn nodes_with_nominations(&self) -> &NodeSet {
        &self.with_nominations
    }

    /// The node on which room is being made for the pod.
    pub fn nomination(&self, namespace: &str, name: &str) -> Option<NodeId> {
        self.nominations.get(&ObjectKey::new(namespace, name)).copied()
    }
}

/// Changing: pods.
impl Cluster {
    /// The shape of a pod that is to be placed.
    pub fn shape(&mut self, pod: &Pod) -> Arc<Shape> {
        self.shape_as(pod, Wanted::by(pod))
    }

    fn shape_as(&mut self, pod: &Pod, wanted: Wanted<'_>) -> Arc<Shape> {
        let hash = shape_hash(pod, wanted);
        let pods = &mut self.pods;
        let alike = pods.shapes.entry(hash).or_default();
        if let Some(shape) = alike.iter().find(|shape| shape.is_of(pod, wanted)) {
            return shape.clone();
        }
        let id = ShapeId(pods.next_shape);
        pods.next_shape += 1;
        let shape = Arc::new(Shape::of(id, pod, wanted, &mut self.resources));
        alike.push(shape.clone());
        pods.shape_count += 1;
        if pods.shape_count >= SHAPES_SLACK && pods.next_shape.is_multiple_of(SHAPES_SLACK as u64) {
            self.drop_shapes();
        }
        shape
    }

    /// Forgets shapes that no pod has.
    fn drop_shapes(&mut self) {
        let pods = &mut self.pods;
        pods.shapes.retain(|_, alike| {
            alike.retain(|shape| Arc::strong_count(shape) > 1);
            !alike.is_empty()
        });
        pods.shape_count = pods.shapes.values().map(SmallVec::len).sum();
    }

    /// Puts a pod in whose `spec.nodeName` is set, or replaces the one of its name. A pod that will never run again, or
    /// has no node, is taken out instead.
    pub fn put_pod(&mut self, pod: Arc<Pod>) {
        let node = self.node_id(&pod.spec.node_name);
        if pod.spec.node_name.is_empty() || is_terminal(&pod) {
            let meta = &pod.metadata;
            self.remove_pod(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
            return;
        }
        self.place_on(pod, node);
    }

    /// Puts a pod on a node, whatever its `spec.nodeName` says. If it was on another, it is no longer.
    pub fn place(&mut self, pod: Arc<Pod>, node: NodeId) {
        self.place_on(pod, Some(node));
    }

    fn place_on(&mut self, pod: Arc<Pod>, node: Option<NodeId>) -> PodId {
        let shape = self.shape_as(&pod, Wanted::default());
        let requests = self.requests_by_status(&pod, &shape);
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        if let Some(id) = self.pods.find(namespace, name) {
            let old = self.pods.entries[id.0 as usize].as_mut().expect("an id that was found has its pod");
            let same = node.is_some()
                && old.node == node
                && Arc::ptr_eq(&old.shape, &shape)
                && old.requests == requests
                && old.is_terminating() == meta.deletion_timestamp.is_some();
            if same {
                let started = old.pod.status.start_time != pod.status.start_time;
                old.pod = pod;
                if let Some(node) = node.filter(|_| started) {
                    self.changes.push(Change::Touched(node));
                }
                return id;
            }
            self.take_out(id);
        }
        if let Some(group) = &shape.group {
            self.member_placed(namespace, group, name, true);
        }
        let unknown = node.is_none().then(|| Box::<str>::from(pod.spec.node_name.as_str()));
        let devices = Assignment::of(&pod).map(|assignment| Box::new(assignment.charge(&pod)));
        let id = self.pods.insert(PlacedPod { pod, shape, node, requests, devices });
        match (node, unknown) {
            (Some(node), _) => self.charge(id, node),
            (None, Some(name)) => self.pods.orphans.entry(name).or_default().push(id),
            (None, None) => {}
        }
        id
    }

    /// Looks at the cluster as it would be if some pods were on a node and others, wherever they are, were gone. Afterwards
    /// it is as it was, the order of the pods on each node included, and no change is recorded.
    pub fn suppose<R>(
        &mut self,
        (here, node): (&[Arc<Pod>], NodeId),
        gone: &[ObjectKey],
        look: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let was_paused = std::mem::replace(&mut self.changes.paused, true);
        let gone: Vec<PodId> = gone.iter().filter_map(|key| self.pods.find(&key.namespace, &key.name)).collect();
        let mut orders: BTreeMap<NodeId, [Vec<PodId>; 2]> = BTreeMap::new();
        for node in gone.iter().filter_map(|id| self.pods.get(*id)?.node) {
            let slot = &self.slots[node.index()];
            orders.entry(node).or_insert_with(|| [slot.pods.clone(), slot.with_volumes.clone()]);
        }
        let gone: Vec<(PodId, PlacedPod)> =
            gone.into_iter().filter_map(|id| self.take_out(id).map(|pod| (id, pod))).collect();
        here.iter().for_each(|pod| self.place(pod.clone(), node));
        let result = look(self);
        for pod in here {
            let meta = &pod.metadata;
            self.remove_pod(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        }
        let mut renamed: FxHashMap<PodId, PodId> = FxHashMap::default();
        for (old, pod) in gone {
            let new = self.place_on(pod.pod, pod.node);
            renamed.insert(old, new);
        }
        for (node, [pods, with_volumes]) in orders {
            let named = |ids: Vec<PodId>| ids.into_iter().map(|id| renamed.get(&id).copied().unwrap_or(id)).collect();
            let slot = &mut self.slots[node.index()];
            (slot.pods, slot.with_volumes) = (named(pods), named(with_volumes));
        }
        self.changes.paused = was_paused;
        result
    }

    /// Takes a pod out; says which it was.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) -> Option<PlacedPod> {
        let id = self.pods.find(namespace, name)?;
        self.take_out(id)
    }

    fn take_out(&mut self, id: PodId) -> Option<PlacedPod> {
        match self.pods.get(id)?.node {
            Some(node) => self.discharge(id, node),
            None => {
                let name = self.pods.get(id)?.pod.spec.node_name.clone();
                if let Some(orphans) = self.pods.orphans.get_mut(name.as_str()) {
                    orphans.retain(|other| *other != id);
                    if orphans.is_empty() {
                        self.pods.orphans.remove(name.as_str());
                    }
                }
            }
        }
        let gone = self.pods.remove(id)?;
        if let Some(group) = &gone.shape.group {
            let meta = &gone.pod.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            self.member_placed(namespace.unwrap_or_default(), group, name.unwrap_or_default(), false);
        }
        Some(gone)
    }

    fn requests_by_status(&mut self, pod: &Pod, shape: &Shape) -> Option<Box<Requests>> {
        let mut statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        if !statuses.any(|status| status.resources.is_some()) {
            return None;
        }
        let requests = Requests::of(pod, true, &mut self.resources);
        (requests != shape.requests).then(|| Box::new(requests))
    }

    fn charge(&mut self, id: PodId, node: NodeId) {
        let shape = self.count(id, node, 1);
        if shape.has_pod_affinity() {
            self.pods.with_affinity.insert(id);
        }
        for claim in shape.claims() {
            *self.pods.claim_users.entry(ObjectKey::new(shape.namespace(), &claim)).or_default() += 1;
        }
        let slot = &mut self.slots[node.index()];
        slot.pods.push(id);
        if shape.volumes().next().is_some() {
            slot.with_volumes.push(id);
        }
        slot.ports.extend(shape.ports.iter().cloned());
        if !slot.ports.is_empty() {
            self.with_ports.insert(node);
        }
        if let (Some(account), Some(pod)) = (&mut slot.devices, self.pods.get(id)) {
            account.enter(pod);
        }
        self.changes.push(Change::PodAdded { node, shape });
    }

    fn discharge(&mut self, id: PodId, node: NodeId) {
        let shape = self.count(id, node, -1);
        self.pods.with_affinity.remove(&id);
        for claim in shape.claims() {
            let key = ObjectKey::new(shape.namespace(), &claim);
            if let Some(users) = self.pods.claim_users.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.pods.claim_users.remove(&key);
                }
            }
        }
        let slot = &mut self.slots[node.index()];
        if let (Some(account), Some(pod)) = (&mut slot.devices, self.pods.get(id)) {
            account.leave(pod);
        }
        slot.pods.retain(|other| *other != id);
        slot.with_volumes.retain(|other| *other != id);
        for port in &shape.ports {
            if let Some(place) = slot.ports.iter().position(|have| have == port) {
                slot.ports.swap_remove(place);
            }
        }
        if slot.ports.is_empty() {
            self.with_ports.remove(node);
        }
        self.changes.push(Change::PodRemoved { node, shape });
    }

    fn count(&mut self, id: PodId, node: NodeId, sign: i64) -> Arc<Shape> {
        let pod = self.pods.get(id).expect("a pod that is charged or discharged is there");
        let requests = pod.requests.as_deref().unwrap_or(&pod.shape.requests);
        for &(resource, amount) in requests.amounts() {
            *at_mut(column_mut(&mut self.requested, resource), node) += sign * amount;
        }
        *at_mut(&mut self.nonzero_milli_cpu, node) += sign * requests.nonzero_milli_cpu();
        *at_mut(&mut self.nonzero_memory, node) += sign * requests.nonzero_memory();
        *at_mut(&mut self.pod_counts, node) += sign;
        let (priority, shape) = (pod.shape.priority(), pod.shape.clone());
        let of_priority = self.pods.priorities.entry(priority).or_default();
        *of_priority = if sign > 0 { *of_priority + 1 } else { of_priority.saturating_sub(1) };
        if *of_priority == 0 {
            self.pods.priorities.remove(&priority);
        }
        debug_assert!(at(&self.pod_counts, node) >= 0, "no more pods go than came");
        shape
    }

    /// The node came: pods that were known to be on it are.
    pub(super) fn adopt(&mut self, node: NodeId, name: &str) {
        for id in self.pods.orphans.remove(name).unwrap_or_default() {
            if let Some(pod) = &mut self.pods.entries[id.0 as usize] {
                pod.node = Some(node);
                self.charge(id, node);
            }
        }
    }

    /// The node goes: its pods are kept aside.
    pub(super) fn orphan(&mut self, node: NodeId, name: &str) {
        let pods = self.slots[node.index()].pods.clone();
        for id in pods {
            self.discharge(id, node);
            if let Some(pod) = &mut self.pods.entries[id.0 as usize] {
                pod.node = None;
                if pod.pod.spec.node_name != name {
                    // An assumed pod does not name its node yet.
                    let mut named = Pod::clone(&pod.pod);
                    name.clone_into(&mut named.spec.node_name);
                    pod.pod = Arc::new(named);
                }
                self.pods.orphans.entry(name.into()).or_default().push(id);
            }
        }
    }

    /// Makes known that room is being made for a pod on a node, and nowhere else.
    pub fn nominate(&mut self, pod: Arc<Pod>, node: NodeId) {
        let key = ObjectKey::of(&*pod);
        self.clear_nomination(&key.namespace, &key.name);
        self.slots[node.index()].nominated.push(pod);
        self.with_nominations.insert(node);
        self.nominations.insert(key, node);
        self.changes.push(Change::Nominated(node));
    }

    /// Makes known that no room is being made for the pod any more.
    pub fn clear_nomination(&mut self, namespace: &str, name: &str) {
        let key = ObjectKey::new(namespace, name);
        let Some(node) = self.nominations.remove(&key) else { return };
        let slot = &mut self.slots[node.index()];
        slot.nominated.retain(|pod| ObjectKey::of(&**pod) != key);
        if slot.nominated.is_empty() {
            self.with_nominations.remove(node);
        }
        self.changes.push(Change::Nominated(node));
    }
}
