//! What scheduling reads of a pod, worked out once for all pods that are alike.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use smallvec::SmallVec;

use crate::api::pod::helpers::{ResourceOptions, claim_name, has_pod_level_resources, pod_requests};
use crate::api::pod::{Container, ContainerRestartPolicy, Pod, Volume};
use crate::api::pod_group::group_of;
use crate::api::{Protocol, ResourceList};
use crate::quantity::Quantity;

use super::cluster::{ResourceId, ResourceNames};

/// CPU that a container without a request counts with where scores are worked out, in thousandths.
const DEFAULT_MILLI_CPU: i64 = 100;
/// Memory that a container without a request counts with where scores are worked out, in bytes.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// What a pod takes of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// By resource, in its order, without zeros; thousandths of a core for `cpu`, else whole units. `pods` is not among them.
    amounts: SmallVec<[(ResourceId, i64); 3]>,
    nonzero_milli_cpu: i64,
    nonzero_memory: i64,
    /// The same by the containers alone.
    incoming: (i64, i64),
}

impl Requests {
    /// Amounts other than zero, ordered by resource: thousandths of a core for `cpu`, else whole units.
    pub fn amounts(&self) -> &[(ResourceId, i64)] {
        &self.amounts
    }

    /// The amount of one resource.
    pub fn amount(&self, resource: ResourceId) -> i64 {
        self.amounts.iter().find(|(id, _)| *id == resource).map_or(0, |(_, amount)| *amount)
    }

    /// CPU in thousandths, where a container that does not ask for any counts as 100.
    pub fn nonzero_milli_cpu(&self) -> i64 {
        self.nonzero_milli_cpu
    }

    /// Memory in bytes, where a container that does not ask for any counts as 200 MiB.
    pub fn nonzero_memory(&self) -> i64 {
        self.nonzero_memory
    }

    /// [`Requests::nonzero_milli_cpu`] of a pod that is to be placed: here upstream ignores what is given for the pod as a
    /// whole, although it counts once the pod is placed.
    pub fn incoming_milli_cpu(&self) -> i64 {
        self.incoming.0
    }

    /// [`Requests::nonzero_memory`] of a pod that is to be placed; see [`Requests::incoming_milli_cpu`].
    pub fn incoming_memory(&self) -> i64 {
        self.incoming.1
    }

    pub(super) fn of(pod: &Pod, use_status: bool, names: &mut ResourceNames) -> Self {
        let options = ResourceOptions { use_status, ..ResourceOptions::default() };
        let requests = pod_requests(pod, options);
        let mut amounts: SmallVec<_> = (requests.iter())
            .filter(|(name, _)| is_counted(name))
            .map(|(name, quantity)| (names.intern(name), whole(name, quantity)))
            .filter(|(_, amount)| *amount != 0)
            .collect();
        amounts.sort_unstable();
        let complete = containers(pod).all(asks_for_both);
        let amount = |list: &ResourceList, name: &str| list.get(name).map_or(0, |quantity| whole(name, quantity));
        let cpu_and_memory = |list: &ResourceList| (amount(list, "cpu"), amount(list, "memory"));
        let nonzero = cpu_and_memory(&if complete { requests } else { nonzero_requests(pod, options) });
        let incoming = if has_pod_level_resources(pod) {
            cpu_and_memory(&nonzero_requests(pod, ResourceOptions { skip_pod_level: true, ..options }))
        } else {
            nonzero
        };
        Self { amounts, nonzero_milli_cpu: nonzero.0, nonzero_memory: nonzero.1, incoming }
    }
}

/// Whether nodes have an account of the resource: the well-known ones, extended ones (with a domain), huge pages and
/// attachable volumes. Others mean nothing, as upstream.
fn is_counted(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || name.contains('/')
        || name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
}

/// Thousandths of a core for `cpu`, else whole units.
pub(super) fn whole(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" { quantity.milli_value() } else { quantity.value() }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.init_containers.iter().chain(&pod.spec.containers)
}

fn asks_for_both(container: &Container) -> bool {
    let requests = &container.resources.requests;
    requests.contains_key("cpu") && requests.contains_key("memory")
}

fn nonzero_requests(pod: &Pod, options: ResourceOptions) -> ResourceList {
    let mut pod = pod.clone();
    for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
        let requests = &mut container.resources.requests;
        requests.entry("cpu".to_owned()).or_insert_with(|| Quantity::from_milli(DEFAULT_MILLI_CPU, Default::default()));
        requests.entry("memory".to_owned()).or_insert_with(|| Quantity::from_value(DEFAULT_MEMORY, Default::default()));
    }
    pod_requests(&pod, options)
}

/// A port of the node that a pod takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The port.
    pub port: i32,
    /// The protocol; never unset.
    pub protocol: Protocol,
    /// The address; `0.0.0.0` for all.
    pub ip: Box<str>,
}

impl HostPort {
    const ANY: &str = "0.0.0.0";

    /// Whether two pods cannot have these ports on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || &*self.ip == Self::ANY || &*other.ip == Self::ANY)
    }
}

/// The node that a pod names before it is placed. A placed pod's node does not make its shape, or there would be as many
/// shapes as nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wanted<'p> {
    pub(super) node: &'p str,
    pub(super) nominated: &'p str,
}

impl<'p> Wanted<'p> {
    pub(super) fn by(pod: &'p Pod) -> Self {
        Self { node: &pod.spec.node_name, nominated: &pod.status.nominated_node_name }
    }
}

/// The number of a [`Shape`]; never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeId(pub(super) u64);

/// Pods that scheduling cannot tell apart have one shape: what follows from namespace, labels, annotations, owner and the
/// parts of the spec that placement depends on, worked out once.
///
/// Not part of it: name, uid, host name, what runs in the containers (commands, environment, mounts) and volumes that are
/// made on any node (configMap, secret, emptyDir, projected, downwardAPI).
#[derive(Debug, Clone)]
pub struct Shape {
    pub(super) id: ShapeId,
    /// The first pod seen of this shape.
    pub(super) pod: Pod,
    pub(super) requests: Requests,
    pub(super) ports: SmallVec<[HostPort; 1]>,
    pub(super) images: Vec<Box<str>>,
    pub(super) group: Option<Box<str>>,
}

impl Shape {
    pub(super) fn of(id: ShapeId, pod: &Pod, wanted: Wanted<'_>, names: &mut ResourceNames) -> Self {
        let requests = Requests::of(pod, false, names);
        let images = containers(pod).map(|container| normalized_image(&container.image)).collect();
        let mut model = pod.clone();
        wanted.node.clone_into(&mut model.spec.node_name);
        wanted.nominated.clone_into(&mut model.status.nominated_node_name);
        Self { id, pod: model, requests, ports: host_ports(pod), images, group: group_of(pod).map(Into::into) }
    }

    /// The shape's number.
    pub fn id(&self) -> ShapeId {
        self.id
    }

    /// A pod of this shape; of its fields only those are to be read that make the shape.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The pods' namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The pods' labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.pod.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    /// The pods' priority.
    pub fn priority(&self) -> i32 {
        self.pod.spec.priority.unwrap_or(0)
    }

    /// What each pod takes of its node.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The ports that each pod takes of its node.
    pub fn host_ports(&self) -> &[HostPort] {
        &self.ports
    }

    /// The images of init containers and containers, each with its tag.
    pub fn images(&self) -> &[Box<str>] {
        &self.images
    }

    /// The pods' volumes that may tie them to nodes: all but those whose content comes with the pod.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        volumes(&self.pod)
    }

    /// The names of the claims behind the pods' volumes, in the pods' namespace.
    pub fn claims(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.volumes().filter_map(|volume| claim_name(&self.pod, volume))
    }

    /// Whether the pods say near which other pods they want to be, or not.
    pub fn has_pod_affinity(&self) -> bool {
        let affinity = self.pod.spec.affinity.as_deref();
        affinity.is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
    }

    /// Whether the pod has this shape.
    pub(super) fn is_of(&self, pod: &Pod, wanted: Wanted<'_>) -> bool {
        let (a, b) = (&self.pod, pod);
        let (meta, other) = (&a.metadata, &b.metadata);
        let (spec, given) = (&a.spec, &b.spec);
        meta.namespace == other.namespace
            && meta.labels == other.labels
            && meta.annotations == other.annotations
            && controller(a) == controller(b)
            && spec.priority == given.priority
            && Wanted::by(a) == wanted
            && spec.node_selector == given.node_selector
            && spec.affinity == given.affinity
            && spec.tolerations == given.tolerations
            && spec.topology_spread_constraints == given.topology_spread_constraints
            && spec.scheduling_gates == given.scheduling_gates
            && spec.preemption_policy == given.preemption_policy
            && spec.overhead == given.overhead
            && spec.resources == given.resources
            && spec.resource_claims == given.resource_claims
            && spec.runtime_class_name == given.runtime_class_name
            && spec.host_network == given.host_network
            && spec.workload_ref == given.workload_ref
            && spec.containers.len() == given.containers.len()
            && spec.init_containers.len() == given.init_containers.len()
            && containers(a).zip(containers(b)).all(|(a, b)| same_container(a, b))
            && volumes(a).eq(volumes(b))
            // A claim of the pod's own is found by the pod's name.
            && (volumes(a).all(|volume| volume.ephemeral.is_none())
                || (meta.name == other.name && meta.uid == other.uid))
    }
}

fn same_container(a: &Container, b: &Container) -> bool {
    a.image == b.image && a.resources == b.resources && a.restart_policy == b.restart_policy && a.ports == b.ports
}

/// The pod's volumes that may tie it to nodes.
fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.volumes.iter().filter(|volume| binds(volume))
}

/// Whether the volume may tie the pod to nodes.
fn binds(volume: &Volume) -> bool {
    volume.config_map.is_none()
        && volume.secret.is_none()
        && volume.empty_dir.is_none()
        && volume.projected.is_none()
        && volume.downward_api.is_none()
}

fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some((&owner.kind, &owner.uid))
}

/// A hash that pods of one shape share. It reads few fields, which tell most shapes apart; [`Shape::is_of`] decides.
pub(super) fn shape_hash(pod: &Pod, wanted: Wanted<'_>) -> u64 {
    let mut hasher = FxHasher::default();
    pod.metadata.namespace.hash(&mut hasher);
    pod.metadata.labels.hash(&mut hasher);
    pod.metadata.annotations.hash(&mut hasher);
    let spec = &pod.spec;
    spec.priority.hash(&mut hasher);
    wanted.node.hash(&mut hasher);
    spec.node_selector.hash(&mut hasher);
    spec.tolerations.len().hash(&mut hasher);
    for container in containers(pod) {
        container.image.hash(&mut hasher);
        for quantity in container.resources.requests.values() {
            quantity.milli_value().hash(&mut hasher);
        }
    }
    for volume in volumes(pod) {
        if let Some(claim) = &volume.persistent_volume_claim {
            claim.claim_name.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Ports of the node that the pod takes: of containers and of sidecars.
fn host_ports(pod: &Pod) -> SmallVec<[HostPort; 1]> {
    let sidecar = |container: &&Container| container.restart_policy == Some(ContainerRestartPolicy::Always);
    let running = pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(sidecar));
    let ports = running.flat_map(|container| &container.ports).filter(|port| port.host_port > 0);
    ports
        .map(|port| HostPort {
            port: port.host_port,
            protocol: if port.protocol.is_unset() { Protocol::Tcp } else { port.protocol.clone() },
            ip: if port.host_ip.is_empty() { HostPort::ANY } else { &port.host_ip }.into(),
        })
        .collect()
}

/// The image's name with its tag, as nodes report it.
fn normalized_image(name: &str) -> Box<str> {
    let tagged = match (name.rfind(':'), name.rfind('/')) {
        (Some(colon), Some(slash)) => colon > slash,
        (colon, _) => colon.is_some(),
    };
    if tagged { name.into() } else { format!("{name}:latest").into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, extra: Value) -> Pod {
        let mut value = json!({
            "metadata": { "name": name, "namespace": "default", "uid": name },
            "spec": { "containers": [{ "name": "c", "image": "web", "env": [{ "name": "N", "value": name }] }], "hostname": name },
        });
        value["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_that_differ_in_name_alone_are_alike() {
        let mut names = ResourceNames::default();
        let (a, b) = (pod("a", json!({})), pod("b", json!({})));
        let anywhere = Wanted::default();
        let shape = Shape::of(ShapeId(0), &a, anywhere, &mut names);
        assert!(shape.is_of(&b, anywhere) && !shape.is_of(&b, Wanted { node: "n1", nominated: "" }));
        assert_eq!(shape_hash(&a, anywhere), shape_hash(&b, anywhere));
        for other in [json!({ "nodeSelector": { "x": "y" } }), json!({ "priority": 5 }), json!({ "hostNetwork": true })]
        {
            assert!(!shape.is_of(&pod("c", other), anywhere));
        }
    }

    #[test]
    fn pods_with_claims_of_their_own_are_not_alike() {
        let mut names = ResourceNames::default();
        let anywhere = Wanted::default();
        let shared = json!({ "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] });
        let shape = Shape::of(ShapeId(0), &pod("a", shared.clone()), anywhere, &mut names);
        assert!(shape.is_of(&pod("b", shared), anywhere));
        assert_eq!(shape.claims().collect::<Vec<_>>(), ["data"]);
        let own = json!({ "volumes": [{ "name": "v", "ephemeral": {} }, { "name": "w", "emptyDir": {} }] });
        let shape = Shape::of(ShapeId(1), &pod("a", own.clone()), anywhere, &mut names);
        assert!(shape.is_of(&pod("a", own.clone()), anywhere) && !shape.is_of(&pod("b", own), anywhere));
        assert_eq!(shape.claims().collect::<Vec<_>>(), ["a-v"]);
    }

    #[test]
    fn containers_without_requests_count_in_scores_only() {
        let mut names = ResourceNames::default();
        let pod = pod("a", json!({ "overhead": { "cpu": "5m" } }));
        let requests = Requests::of(&pod, false, &mut names);
        assert_eq!(requests.amounts(), [(ResourceId::CPU, 5)]);
        assert_eq!((requests.nonzero_milli_cpu(), requests.nonzero_memory()), (105, DEFAULT_MEMORY));
    }

    #[test]
    fn images_have_tags() {
        assert_eq!(&*normalized_image("web"), "web:latest");
        assert_eq!(&*normalized_image("host:5000/web"), "host:5000/web:latest");
        assert_eq!(&*normalized_image("host:5000/web:1"), "host:5000/web:1");
    }

    #[test]
    fn ports_conflict_by_address() {
        let port = |ip: &str, port| HostPort { port, protocol: Protocol::Tcp, ip: ip.into() };
        assert!(port("0.0.0.0", 80).conflicts(&port("10.0.0.1", 80)));
        assert!(!port("10.0.0.2", 80).conflicts(&port("10.0.0.1", 80)));
        assert!(!port("0.0.0.0", 80).conflicts(&port("0.0.0.0", 81)));
    }
}
