//! One pod and one node, as a policy sees them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cluster::{Cluster, PlacedPod};
use super::{NodeId, Shape};
use crate::api::Node;
use crate::api::pod::Pod;
use crate::devices::Pool;

/// What a policy is asked about: a pod, in a cluster. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Cycle<'a> {
    pod: &'a Pod,
    shape: &'a Shape,
    cluster: &'a Cluster,
}

/// A pod that is to be placed, as a closure about pods and nodes sees it.
pub type PodView<'a> = Cycle<'a>;

impl<'a> Cycle<'a> {
    /// The question where to put `pod`, whose shape this is. For engines.
    pub fn new(pod: &'a Pod, shape: &'a Shape, cluster: &'a Cluster) -> Self {
        Self { pod, shape, cluster }
    }

    /// The pod. What is said about its nodes is kept for the next pod of the same [`Shape`], so it must depend only on
    /// what makes the shape.
    pub fn pod(&self) -> &'a Pod {
        self.pod
    }

    /// What was worked out about pods like this.
    pub fn shape(&self) -> &'a Shape {
        self.shape
    }

    /// The cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// One of its nodes.
    pub fn node(&self, node: NodeId) -> NodeView<'a> {
        NodeView { cluster: self.cluster, id: node }
    }

    /// The pod's labels.
    pub fn labels(&self) -> &'a BTreeMap<String, String> {
        self.shape.labels()
    }

    /// One of the pod's annotations.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// What the pod asks for of a resource: thousandths of a core for `cpu`, else whole units.
    pub fn request(&self, resource: &str) -> i64 {
        self.cluster.resource(resource).map_or(0, |resource| self.shape.requests().amount(resource))
    }
}

/// A node in a cluster. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    cluster: &'a Cluster,
    id: NodeId,
}

impl<'a> NodeView<'a> {
    /// The node's place.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node's name.
    pub fn name(&self) -> &'a str {
        self.cluster.name(self.id)
    }

    /// The object.
    ///
    /// # Panics
    /// If there is no node at this place any more; policies are only asked about nodes that are there.
    pub fn node(&self) -> &'a Node {
        self.cluster.node(self.id).expect("policies are asked about nodes that are there")
    }

    /// One of the node's labels.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        let column = self.cluster.label(key)?;
        column.value(self.id).map(|value| column.text(value))
    }

    /// What pods may use of a resource: thousandths of a core for `cpu`, else whole units.
    pub fn allocatable(&self, resource: &str) -> i64 {
        self.cluster.resource(resource).map_or(0, |resource| at(self.cluster.allocatable(resource), self.id))
    }

    /// What the node's pods asked for of a resource: thousandths of a core for `cpu`, else whole units.
    pub fn requested(&self, resource: &str) -> i64 {
        if resource == "pods" {
            return at(self.cluster.pod_counts(), self.id);
        }
        self.cluster.resource(resource).map_or(0, |resource| at(self.cluster.requested(resource), self.id))
    }

    /// What is left of a resource; negative if more was promised than there is.
    pub fn free(&self, resource: &str) -> i64 {
        self.allocatable(resource) - self.requested(resource)
    }

    /// What is left of the node's devices: [`Cluster::devices`].
    pub fn devices(&self) -> Option<Cow<'a, Pool>> {
        self.cluster.devices(self.id)
    }

    /// The pods on the node, in no particular order; those that were given the node but are not bound yet included.
    pub fn pods(&self) -> impl Iterator<Item = &'a PlacedPod> + use<'a> {
        self.cluster.pods_on(self.id)
    }
}

fn at(column: &[i64], node: NodeId) -> i64 {
    column.get(node.index()).copied().unwrap_or(0)
}
