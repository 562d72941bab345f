//! The addresses behind services: EndpointSlices, and Endpoints for those who still read them.
//!
//! Both follow the pods that a service's selector selects. Services without a selector and those that only are a name
//! are somebody else's business.

mod legacy;
mod slices;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::pod::ContainerRestartPolicy;
use longshore_core::api::pod::helpers::{is_ready, is_terminal};
use longshore_core::api::service::{CLUSTER_IP_NONE, ServicePort, ServiceType};
use longshore_core::api::{Node, ObjectReference, Pod, Service};
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::int_or_string::IntOrString;

use crate::controller::{Triggers, View};
use crate::selects::selects_all;

pub(crate) use legacy::EndpointsController;
pub(crate) use slices::EndpointSliceController;

/// Label that says that the service has no address of its own.
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Whether we look after the service's endpoints.
fn is_ours(service: &Service) -> bool {
    !service.spec.selector.is_empty() && service.spec.type_ != ServiceType::ExternalName
}

fn is_headless(service: &Service) -> bool {
    service.spec.cluster_ip.is_empty() || service.spec.cluster_ip == CLUSTER_IP_NONE
}

/// The labels that endpoints inherit from their service, with those of our own on top.
fn labels(service: &Service, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    labels
}

/// The pods that stand behind a service, by name: those that have an address and have not ended.
fn pods(view: &View<'_>, service: &Service) -> Vec<Arc<Pod>> {
    let mut pods = view.of::<Pod>().list_namespace(service.metadata.namespace.as_deref().unwrap_or_default());
    pods.retain(|pod| {
        let addressed = !pod.status.pod_ip.is_empty() || !pod.status.pod_ips.is_empty();
        addressed && !is_terminal(pod) && selects_all(&service.spec.selector, &pod.metadata.labels)
    });
    pods
}

/// All addresses of a pod.
fn addresses(pod: &Pod) -> Vec<&str> {
    if pod.status.pod_ips.is_empty() {
        return vec![&pod.status.pod_ip];
    }
    pod.status.pod_ips.iter().map(|address| &*address.ip).collect()
}

/// The number of the port of a pod that a service's port leads to; `None` if the pod has no port of that name.
fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        IntOrString::Int(0) => return Some(port.port),
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(name) => name,
    };
    let sidecar = |container: &&longshore_core::api::pod::Container| {
        container.restart_policy == Some(ContainerRestartPolicy::Always)
    };
    let containers = pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(sidecar));
    let mut ports = containers.flat_map(|container| &container.ports);
    let protocol = |text: &longshore_core::api::Protocol| if text.is_unset() { "TCP".into() } else { text.to_string() };
    let found = ports.find(|of| of.name == *name && protocol(&of.protocol) == protocol(&port.protocol));
    found.map(|port| port.container_port)
}

/// The name that the pod has within the service, if it asks for one.
fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let named = !pod.spec.hostname.is_empty() && Some(&pod.spec.subdomain) == service.metadata.name.as_ref();
    named.then(|| pod.spec.hostname.clone())
}

fn node_name(pod: &Pod) -> Option<String> {
    Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty())
}

fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: "Pod".to_owned(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..ObjectReference::default()
    }
}

/// Whether a pod's change can change an endpoint.
fn matters(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| (is_ready(pod), is_terminal(pod), pod.metadata.deletion_timestamp.is_some());
    facts(old) != facts(new)
        || old.metadata.labels != new.metadata.labels
        || old.status.pod_ip != new.status.pod_ip
        || old.status.pod_ips != new.status.pod_ips
        || old.spec.node_name != new.spec.node_name
        || (&old.spec.hostname, &old.spec.subdomain) != (&new.spec.hostname, &new.spec.subdomain)
}

/// Wakes services that change, or whose pods do.
fn watch_services_and_pods(triggers: &Triggers<ObjectKey>) {
    triggers.on::<Service, _>(|change| [ObjectKey::of(&**change.object())]);
    let services = triggers.informer::<Service>();
    triggers.on::<Pod, _>(move |change: &Change<Arc<Pod>>| {
        if let Change::Modified { old, new } = change
            && !matters(old, new)
        {
            return Vec::new();
        }
        let (pod, old) = (change.object(), change.old());
        let candidates = services.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
        let concerned = |service: &&Arc<Service>| {
            let selects = |pod: &Arc<Pod>| selects_all(&service.spec.selector, &pod.metadata.labels);
            is_ours(service) && (selects(pod) || old.is_some_and(selects))
        };
        candidates.iter().filter(concerned).map(|service| ObjectKey::of(&**service)).collect()
    });
}

/// Wakes every service when the zone of a node becomes known or changes.
fn watch_zones(triggers: &Triggers<ObjectKey>) {
    let services = triggers.informer::<Service>();
    triggers.on::<Node, _>(move |change: &Change<Arc<Node>>| {
        let zone = |node: &Arc<Node>| node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE).cloned());
        let old = if let Change::Modified { old, .. } = change { zone(old) } else { None };
        if zone(change.object()) == old {
            return Vec::new();
        }
        services.list().iter().map(|service| ObjectKey::of(&**service)).collect()
    });
}

fn zone(view: &View<'_>, pod: &Pod) -> Option<String> {
    let node = view.of::<Node>().get("", &pod.spec.node_name)?;
    node.metadata.labels.as_ref()?.get(ZONE).cloned()
}

#[cfg(test)]
mod tests;
