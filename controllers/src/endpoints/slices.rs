//! EndpointSlices: what a service's addresses are, at most a hundred in an object.
//!
//! A change touches as few slices as it can: endpoints stay where they are, new ones fill slices that are written
//! anyway, then one that has room, then new slices. So a service of thousands of pods costs one small write a change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::endpoint_slice::{
    AddressType, Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use longshore_core::api::pod::helpers::is_ready;
use longshore_core::api::{EndpointSlice, Pod, Protocol, Service};
use longshore_core::informer::ObjectKey;

use super::{
    addresses, hostname, is_ours, labels, node_name, pods, target_port, target_ref, watch_services_and_pods,
    watch_zones, zone,
};
use crate::claim::controller_ref;
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Endpoints in a slice.
const ENDPOINTS_MAX: usize = 100;
/// Index of our slices by namespace and name of their service.
const BY_SERVICE: &str = "endpoint-slice/service";

/// The controller of EndpointSlices.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EndpointSliceController;

/// Ports in an order of their own, to compare sets of them.
type Ports = BTreeSet<(String, String, i32, String)>;

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a String> {
    slice.metadata.labels.as_ref()?.get(key)
}

/// The service to which one of our slices belongs.
fn service_key(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = label(slice, SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    (label(slice, MANAGED_BY).is_some_and(|manager| manager == MANAGER)).then(|| ObjectKey::new(namespace, name))
}

fn ports_of(slice: &EndpointSlice) -> Ports {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let port = |port: &EndpointPort| {
        let protocol = port.protocol.as_ref().map_or("TCP", Protocol::as_str).to_owned();
        (text(&port.name), protocol, port.port.unwrap_or_default(), text(&port.app_protocol))
    };
    slice.ports.iter().map(port).collect()
}

fn write_ports(ports: &Ports) -> Vec<EndpointPort> {
    let port = |(name, protocol, port, app): &(String, String, i32, String)| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(Protocol::from(&**protocol)),
        port: Some(*port),
        app_protocol: Some(app.clone()).filter(|app| !app.is_empty()),
    };
    ports.iter().map(port).collect()
}

/// The kinds of address that a service has.
fn address_types(service: &Service) -> Vec<AddressType> {
    if service.spec.ip_families.is_empty() {
        let six = service.spec.cluster_ip.contains(':');
        return vec![if six { AddressType::IPv6 } else { AddressType::IPv4 }];
    }
    service.spec.ip_families.iter().map(|family| AddressType::from(&**family)).collect()
}

fn is_of_type(address: &str, type_: &AddressType) -> bool {
    address.contains(':') == (*type_ == AddressType::IPv6)
}

/// What identifies an endpoint, whatever else is said about it.
fn identity(endpoint: &Endpoint) -> (String, Vec<String>) {
    let uid = endpoint.target_ref.as_ref().map(|target| target.uid.clone()).unwrap_or_default();
    (uid, endpoint.addresses.clone())
}

fn endpoint(view: &View<'_>, service: &Service, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), pod.metadata.deletion_timestamp.is_some());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let (node_name, zone) = (node_name(pod), zone(view, pod));
    let hints = if ready { hints(service, node_name.as_deref(), zone.as_deref()) } else { None };
    Endpoint {
        addresses,
        conditions: EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) },
        hostname: hostname(pod, service),
        target_ref: Some(target_ref(pod)),
        node_name,
        zone,
        hints,
        ..Endpoint::default()
    }
}

/// For whom an endpoint is, where its service would rather have traffic stay near: its own zone, and its own node.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let by_node = match service.spec.traffic_distribution.as_deref()? {
        "PreferSameNode" => true,
        // The former is the older name of the latter.
        "PreferClose" | "PreferSameZone" => false,
        _ => return None,
    };
    let node = node.filter(|_| by_node).map(|name| ForNode { name: name.to_owned() });
    let zone = zone.map(|name| ForZone { name: name.to_owned() });
    let hints = EndpointHints { for_zones: zone.into_iter().collect(), for_nodes: node.into_iter().collect() };
    (hints != EndpointHints::default()).then_some(hints)
}

/// The endpoints that a service has, by the ports that they have in common.
fn wanted(view: &View<'_>, service: &Service, type_: &AddressType) -> BTreeMap<Ports, Vec<Endpoint>> {
    let mut wanted: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods(view, service) {
        let addresses = addresses(&pod).into_iter().filter(|address| is_of_type(address, type_));
        let addresses: Vec<String> = addresses.take(1).map(str::to_owned).collect();
        if addresses.is_empty() {
            continue;
        }
        let port = |port: &longshore_core::api::service::ServicePort| {
            let protocol = if port.protocol.is_unset() { "TCP" } else { port.protocol.as_str() };
            let app = port.app_protocol.clone().unwrap_or_default();
            Some((port.name.clone(), protocol.to_owned(), target_port(&pod, port)?, app))
        };
        let ports = service.spec.ports.iter().filter_map(port).collect();
        wanted.entry(ports).or_default().push(endpoint(view, service, &pod, addresses));
    }
    wanted
}

/// A slice and what it shall become.
struct Draft {
    was: Arc<EndpointSlice>,
    is: EndpointSlice,
}

impl Draft {
    fn is_changed(&self) -> bool {
        self.is != *self.was
    }

    fn room(&self) -> usize {
        ENDPOINTS_MAX.saturating_sub(self.is.endpoints.len())
    }
}

/// Sets what every slice of the service has.
fn dress(slice: &mut EndpointSlice, service: &Service) {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    slice.metadata.labels = Some(labels(service, &[(SERVICE_NAME, name), (MANAGED_BY, MANAGER)]));
    slice.metadata.owner_references = Some(vec![controller_ref(service)]);
}

fn new_slice(service: &Service, type_: &AddressType, ports: &Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut slice =
        EndpointSlice { address_type: type_.clone(), ports: write_ports(ports), endpoints, ..EndpointSlice::default() };
    slice.metadata.namespace.clone_from(&service.metadata.namespace);
    slice.metadata.generate_name = Some(format!("{}-", service.metadata.name.as_deref().unwrap_or_default()));
    dress(&mut slice, service);
    slice
}

/// Brings the drafts of one set of ports to hold these endpoints; answers with those that found no room.
fn arrange(drafts: &mut [Draft], endpoints: Vec<Endpoint>) -> VecDeque<Endpoint> {
    let mut missing: BTreeMap<_, _> = endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    for draft in &mut *drafts {
        // Whoever is listed already stays where it is; of two entries for one endpoint the second goes.
        let known = std::mem::take(&mut draft.is.endpoints);
        draft.is.endpoints = known.iter().filter_map(|endpoint| missing.remove(&identity(endpoint))).collect();
    }
    let mut missing: VecDeque<Endpoint> = missing.into_values().collect();
    for draft in drafts.iter_mut().filter(|draft| draft.is_changed()) {
        let fitting = missing.len().min(draft.room());
        draft.is.endpoints.extend(missing.drain(..fitting));
    }
    // One more write takes all that is left, if there is a slice with so much room: the fullest.
    if !missing.is_empty()
        && let Some(draft) =
            drafts.iter_mut().filter(|draft| draft.room() >= missing.len()).min_by_key(|draft| draft.room())
    {
        draft.is.endpoints.extend(missing.drain(..));
    }
    missing
}

/// What to do about a service's slices of one type of address.
fn arrange_type(
    view: &View<'_>,
    service: &Service,
    type_: &AddressType,
    known: Vec<Arc<EndpointSlice>>,
) -> Vec<Action> {
    let mut groups: BTreeMap<Ports, Vec<Draft>> = BTreeMap::new();
    for was in known {
        let mut is = (*was).clone();
        dress(&mut is, service);
        groups.entry(ports_of(&was)).or_default().push(Draft { was, is });
    }
    let (mut drafts, mut created) = (Vec::new(), Vec::new());
    for (ports, endpoints) in wanted(view, service, type_) {
        let mut group = groups.remove(&ports).unwrap_or_default();
        let mut left = arrange(&mut group, endpoints);
        while !left.is_empty() {
            let endpoints = left.drain(..left.len().min(ENDPOINTS_MAX)).collect();
            created.push(new_slice(service, type_, &ports, endpoints));
        }
        drafts.extend(group);
    }
    // Slices that hold nothing, and those of ports that nobody has any more.
    let (mut empty, mut kept): (Vec<Draft>, Vec<Draft>) =
        drafts.into_iter().partition(|draft| draft.is.endpoints.is_empty());
    for mut draft in groups.into_values().flatten() {
        draft.is.endpoints.clear();
        empty.push(draft);
    }
    // A service without endpoints has one slice that says so.
    if kept.is_empty() && created.is_empty() {
        created.push(new_slice(service, type_, &Ports::new(), Vec::new()));
    }
    // Writing over a slice is better than deleting it and creating another.
    let reused = empty.len().min(created.len());
    for (mut draft, slice) in empty.drain(..reused).zip(created.drain(..reused)) {
        (draft.is.endpoints, draft.is.ports) = (slice.endpoints, slice.ports);
        kept.push(draft);
    }
    let mut actions: Vec<Action> = created.into_iter().map(|slice| Action::Create(Box::new(slice))).collect();
    let changed = kept.into_iter().filter(Draft::is_changed);
    actions.extend(changed.map(|draft| Action::Update { object: Box::new(draft.is), subresource: None }));
    actions.extend(empty.iter().map(|draft| Action::delete(&*draft.was)));
    actions
}

impl Controller for EndpointSliceController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoint_slice"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        let key = |slice: &EndpointSlice| service_key(slice).map(|key| key.to_string()).into_iter().collect();
        triggers.informer::<EndpointSlice>().add_index(BY_SERVICE, key);
        watch_services_and_pods(triggers);
        watch_zones(triggers);
        triggers.on::<EndpointSlice, _>(|change| {
            let versions = change.old().into_iter().chain(change.current());
            versions.filter_map(|slice| service_key(slice)).collect::<Vec<_>>()
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        let Some(service) = view.of::<Service>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        if !is_ours(&service) || service.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let mut known = view.of::<EndpointSlice>().by_index(BY_SERVICE, &key.to_string());
        known.retain(|slice| slice.metadata.deletion_timestamp.is_none());
        let mut plan = Plan::nothing();
        for type_ in address_types(&service) {
            let (of_type, others) = known.into_iter().partition(|slice| slice.address_type == type_);
            known = others;
            plan.actions.extend(arrange_type(view, &service, &type_, of_type));
        }
        // Of a family that the service has no more.
        plan.actions.extend(known.iter().map(|slice| Action::delete(&**slice)));
        plan
    }
}
