//! Nodes come, change and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Change, Cluster, Image, NodeId, NodeSet, ResourceId, Slot, TaintId, at_mut, column_mut};
use crate::api::Node;
use crate::api::node::ContainerImage;
use crate::scheduling::pod_shape::whole;

fn annotation(node: &Node) -> Option<&String> {
    node.metadata.annotations.as_ref()?.get(crate::devices::ANNOTATION)
}

impl Cluster {
    /// Puts a node in, or replaces the one of its name. Pods that were known to be on it before it was are now.
    pub fn put_node(&mut self, node: Arc<Node>) -> NodeId {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let id = match self.ids.get(name) {
            Some(&id) => id,
            None => self.take_place(name),
        };
        let old = self.slots[id.index()].node.take();
        self.change_node(id, old.as_deref(), Some(&node));
        self.slots[id.index()].node = Some(node.clone());
        if old.as_ref().is_none_or(|old| annotation(old) != annotation(&node)) {
            self.open_account(id, &node);
        }
        self.changes.push(Change::Node(id));
        if old.is_none() {
            self.adopt(id, node.metadata.name.as_deref().unwrap_or_default());
        }
        id
    }

    /// Takes a node out; its pods are kept in case it comes back. Says whether it was there.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let Some(id) = self.ids.remove(name) else { return false };
        self.orphan(id, name);
        let old = self.slots[id.index()].node.take();
        self.change_node(id, old.as_deref(), None);
        for pod in std::mem::take(&mut self.slots[id.index()].nominated) {
            self.nominations.remove(&crate::informer::ObjectKey::of(&*pod));
        }
        self.with_nominations.remove(id);
        self.slots[id.index()] = Slot::default();
        self.names[id.index()] = Arc::default();
        self.live.remove(id);
        self.free.insert(id);
        self.changes.push(Change::Node(id));
        true
    }

    /// The lowest free place, so that the same history gives the same places.
    fn take_place(&mut self, name: &str) -> NodeId {
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.names.push(Arc::default());
            NodeId::from_index(self.slots.len() - 1)
        });
        for column in [&mut self.pod_counts, &mut self.nonzero_milli_cpu, &mut self.nonzero_memory] {
            *at_mut(column, id) = 0;
        }
        let name: Arc<str> = name.into();
        self.names[id.index()] = name.clone();
        self.ids.insert(name, id);
        self.live.insert(id);
        id
    }

    fn change_node(&mut self, id: NodeId, old: Option<&Node>, new: Option<&Node>) {
        let none = BTreeMap::new();
        let labels = |node: Option<&Node>| node.and_then(|node| node.metadata.labels.clone());
        let (before, after) = (labels(old), labels(new));
        self.labels.change(id, before.as_ref().unwrap_or(&none), after.as_ref().unwrap_or(&none));

        if new.is_some_and(|node| node.spec.unschedulable) {
            self.unschedulable.insert(id);
        } else {
            self.unschedulable.remove(id);
        }

        for taint in std::mem::take(&mut self.slots[id.index()].taints) {
            self.taints[taint.0 as usize].1.remove(id);
        }
        for taint in new.map_or(&[][..], |node| &node.spec.taints) {
            let key = (taint.key.clone(), taint.value.clone(), taint.effect.to_string());
            let entry = self.taints.entry(key);
            let place = TaintId(u32::try_from(entry.index()).expect("few taints"));
            entry.or_insert_with(|| (taint.clone(), NodeSet::new())).1.insert(id);
            self.slots[id.index()].taints.push(place);
        }

        let amounts = |node: Option<&Node>| node.map(|node| node.status.allocatable.clone()).unwrap_or_default();
        for name in amounts(old).keys() {
            let resource = self.resources.intern(name);
            *at_mut(column_mut(&mut self.allocatable, resource), id) = 0;
        }
        for (name, amount) in &amounts(new) {
            let resource = self.resources.intern(name);
            *at_mut(column_mut(&mut self.allocatable, resource), id) = whole(name, amount);
        }
        // Columns that every policy indexes by node are as long as there are places.
        for resource in [ResourceId::CPU, ResourceId::MEMORY, ResourceId::EPHEMERAL_STORAGE, ResourceId::PODS] {
            at_mut(column_mut(&mut self.allocatable, resource), id);
            at_mut(column_mut(&mut self.requested, resource), id);
        }

        let images = |node: Option<&Node>| node.map(|node| node.status.images.clone()).unwrap_or_default();
        let (before, after) = (images(old), images(new));
        if before != after {
            self.change_images(id, &before, &after);
        }
    }

    fn change_images(&mut self, id: NodeId, before: &[ContainerImage], after: &[ContainerImage]) {
        // Those that stay are put in before the others go, so that the size that the first node told stays.
        let names = |images: &[ContainerImage]| -> BTreeMap<String, i64> {
            let all = images.iter().flat_map(|image| image.names.iter().map(|name| (name.clone(), image.size_bytes)));
            all.collect()
        };
        let (before, after) = (names(before), names(after));
        for (name, size) in &after {
            let image = self.images.entry(name.as_str().into());
            image.or_insert_with(|| Image { size: *size, nodes: NodeSet::new() }).nodes.insert(id);
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            if let Some(image) = self.images.get_mut(name.as_str()) {
                image.nodes.remove(id);
                if image.nodes.is_empty() {
                    self.images.remove(name.as_str());
                }
            }
        }
    }
}
