//! Endpoints: all addresses of a service in one object of the service's name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use longshore_core::api::endpoints::{EndpointAddress, EndpointPort, EndpointSubset};
use longshore_core::api::pod::helpers::is_ready;
use longshore_core::api::{Endpoints, Protocol, Service};
use longshore_core::informer::ObjectKey;
use longshore_core::kind::AnyObject;

use super::{hostname, is_ours, labels, node_name, pods, target_port, target_ref, watch_services_and_pods};
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Annotation of an object that does not show all.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in an object.
const ADDRESSES_MAX: usize = 1000;

/// The controller of Endpoints.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EndpointsController;

/// A port in an order of its own.
type Port = (String, String, i32, Option<String>);
/// Addresses that are ready or not, in the order of their texts, with their place in the list.
type Addresses = BTreeSet<(String, usize)>;

/// The subsets of a service: every port with the addresses that have it, addresses with the same ports together.
fn subsets(view: &View<'_>, service: &Service) -> (Vec<EndpointSubset>, bool) {
    let mut pods = pods(view, service);
    let unready_too = service.spec.publish_not_ready_addresses;
    pods.retain(|pod| unready_too || pod.metadata.deletion_timestamp.is_none());
    // Ready ones first, should there be too many.
    pods.sort_by_key(|pod| !(unready_too || is_ready(pod)));
    let truncated = pods.len() > ADDRESSES_MAX;
    pods.truncate(ADDRESSES_MAX);
    // Of the service's first family alone: a reader of Endpoints knows of no second.
    let v6 = service.spec.ip_families.first().map(|family| family == "IPv6");
    let mut by_ports: BTreeMap<Option<Port>, Addresses> = BTreeMap::new();
    for (index, pod) in pods.iter().enumerate() {
        let mut addresses = super::addresses(pod).into_iter();
        let Some(ip) = addresses.find(|ip| v6.is_none_or(|v6| ip.contains(':') == v6)).map(str::to_owned) else {
            continue;
        };
        let port = |port: &longshore_core::api::service::ServicePort| {
            let protocol = if port.protocol.is_unset() { "TCP" } else { port.protocol.as_str() };
            Some((port.name.clone(), protocol.to_owned(), target_port(pod, port)?, port.app_protocol.clone()))
        };
        let mut ports: Vec<Option<Port>> = service.spec.ports.iter().filter_map(port).map(Some).collect();
        if service.spec.ports.is_empty() {
            ports.push(None);
        }
        for port in ports {
            by_ports.entry(port).or_default().insert((ip.clone(), index));
        }
    }
    let mut by_addresses: BTreeMap<Addresses, Vec<Port>> = BTreeMap::new();
    for (port, addresses) in by_ports {
        by_addresses.entry(addresses).or_default().extend(port);
    }
    let subset = |(addresses, ports): (Addresses, Vec<Port>)| {
        let mut subset = EndpointSubset::default();
        for (ip, index) in addresses {
            let pod = &pods[index];
            let address = EndpointAddress {
                ip,
                hostname: hostname(pod, service).unwrap_or_default(),
                node_name: node_name(pod),
                target_ref: Some(target_ref(pod)),
            };
            let ready = unready_too || is_ready(pod);
            if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses }.push(address);
        }
        let port = |(name, protocol, port, app_protocol): Port| EndpointPort {
            name,
            port,
            protocol: Protocol::from(&*protocol),
            app_protocol,
        };
        subset.ports = ports.into_iter().map(port).collect();
        subset
    };
    (by_addresses.into_iter().map(subset).collect(), truncated)
}

fn is_managed(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
}

impl Controller for EndpointsController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        watch_services_and_pods(triggers);
        triggers.on::<Endpoints, _>(|change| [ObjectKey::of(&**change.object())]);
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        let known = view.of::<Endpoints>().get(&key.namespace, &key.name);
        let Some(service) = view.of::<Service>().get(&key.namespace, &key.name) else {
            // Nothing owns the object, so it goes with its service by our hand.
            let ours = known.filter(|endpoints| is_managed(endpoints));
            return ours.map(|endpoints| Action::delete(&*endpoints)).into_iter().collect::<Vec<_>>().into();
        };
        if !is_ours(&service) || service.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let mut new = known.as_deref().cloned().unwrap_or_default();
        let truncated;
        (new.subsets, truncated) = subsets(view, &service);
        new.metadata.labels = Some(labels(&service, &[(MANAGED_BY, MANAGER)]));
        let annotations = new.metadata.annotations.get_or_insert_default();
        if truncated {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        } else {
            annotations.remove(OVER_CAPACITY);
        }
        if annotations.is_empty() {
            new.metadata.annotations = None;
        }
        match known {
            Some(known) if known.equals(&new) => Plan::nothing(),
            Some(_) => vec![Action::Update { object: Box::new(new), subresource: None }].into(),
            None => {
                new.metadata.name.clone_from(&service.metadata.name);
                new.metadata.namespace.clone_from(&service.metadata.namespace);
                vec![Action::Create(Box::new(new))].into()
            }
        }
    }
}
