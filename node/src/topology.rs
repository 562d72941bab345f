//! Which endpoints of a Service this node's traffic goes to, where the Service would rather have it stay near: what the hints of
//! its EndpointSlices say (`spec.trafficDistribution`).
//!
//! Traffic stays on the node, or else in its zone, if every ready endpoint says for whom it is, and one is for this node; else it
//! goes everywhere, as upstream's proxy has it. Ports of one Service that would differ go as far as the farthest.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::endpoint_slice::Endpoint;
use longshore_core::api::{EndpointSlice, Node};

use crate::services::SERVICE_NAME;

/// Label of a node: its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// How far traffic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Node,
    Zone,
    Everywhere,
}

/// What the ready endpoints of a port say for whom they are.
#[derive(Debug, Default)]
struct Port {
    ready: usize,
    /// How many say a node, and how many this one.
    nodes: (usize, usize),
    /// The same of zones.
    zones: (usize, usize),
}

impl Port {
    fn add(&mut self, endpoint: &Endpoint, here: &Here<'_>) {
        self.ready += 1;
        let Some(hints) = &endpoint.hints else { return };
        self.nodes.0 += usize::from(!hints.for_nodes.is_empty());
        self.nodes.1 += usize::from(here.is_node_of(endpoint));
        self.zones.0 += usize::from(!hints.for_zones.is_empty());
        self.zones.1 += usize::from(here.is_zone_of(endpoint));
    }

    fn reach(&self) -> Reach {
        let told = |(all, ours): (usize, usize)| all == self.ready && ours > 0;
        if told(self.nodes) {
            Reach::Node
        } else if told(self.zones) {
            Reach::Zone
        } else {
            Reach::Everywhere
        }
    }
}

/// Where this node is.
pub(crate) struct Here<'a> {
    pub(crate) node: &'a str,
    pub(crate) zone: Option<&'a str>,
}

impl Here<'_> {
    fn is_node_of(&self, endpoint: &Endpoint) -> bool {
        endpoint.hints.iter().flat_map(|hints| &hints.for_nodes).any(|of| of.name == self.node)
    }

    fn is_zone_of(&self, endpoint: &Endpoint) -> bool {
        endpoint.hints.iter().flat_map(|hints| &hints.for_zones).any(|of| Some(of.name.as_str()) == self.zone)
    }

    fn uses(&self, endpoint: &Endpoint, reach: Reach) -> bool {
        // What is not ready is only used where nothing is, and local pods also where traffic must not leave the node.
        !is_ready(endpoint)
            || endpoint.node_name.as_deref() == Some(self.node)
            || match reach {
                Reach::Node => self.is_node_of(endpoint),
                Reach::Zone => self.is_zone_of(endpoint),
                Reach::Everywhere => true,
            }
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready != Some(false)
}

/// The zone of a node, if it has one.
pub(crate) fn zone(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
}

/// Service and family of a slice.
fn group(slice: &EndpointSlice) -> (&str, &str, &str) {
    let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    (namespace, name.map_or("", String::as_str), slice.address_type.as_str())
}

/// The slices without the endpoints that are meant for others.
pub(crate) fn near(slices: Vec<Arc<EndpointSlice>>, here: &Here<'_>) -> Vec<Arc<EndpointSlice>> {
    if slices.iter().all(|slice| slice.endpoints.iter().all(|endpoint| endpoint.hints.is_none())) {
        return slices;
    }
    let mut ports: BTreeMap<_, BTreeMap<&str, Port>> = BTreeMap::new();
    for slice in &slices {
        let of_service = ports.entry(group(slice)).or_default();
        for port in &slice.ports {
            let port = of_service.entry(port.name.as_deref().unwrap_or_default()).or_default();
            slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)).for_each(|endpoint| port.add(endpoint, here));
        }
    }
    let reach = |slice: &EndpointSlice| {
        let of_service = ports.get(&group(slice)).into_iter().flat_map(BTreeMap::values);
        of_service.filter(|port| port.ready > 0).map(Port::reach).max().unwrap_or(Reach::Everywhere)
    };
    let keep = |slice: &Arc<EndpointSlice>| {
        let reach = reach(slice);
        if slice.endpoints.iter().all(|endpoint| here.uses(endpoint, reach)) {
            return slice.clone();
        }
        let mut nearer = EndpointSlice::clone(slice);
        nearer.endpoints.retain(|endpoint| here.uses(endpoint, reach));
        Arc::new(nearer)
    };
    slices.iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An endpoint at a node of a zone, which is for these nodes and zones.
    fn endpoint(node: &str, ready: bool, for_nodes: &[&str], for_zones: &[&str]) -> Value {
        let names = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let hints = json!({"forNodes": names(for_nodes), "forZones": names(for_zones)});
        let hints = if for_nodes.len() + for_zones.len() == 0 { Value::Null } else { hints };
        json!({"addresses": [node], "nodeName": node, "conditions": {"ready": ready}, "hints": hints})
    }

    fn slice(port: &str, endpoints: &[Value]) -> Arc<EndpointSlice> {
        let labels = json!({"kubernetes.io/service-name": "web"});
        let slice = json!({
            "metadata": {"namespace": "ns", "name": port, "labels": labels},
            "addressType": "IPv4", "ports": [{"name": port, "port": 80}], "endpoints": endpoints,
        });
        Arc::new(serde_json::from_value(slice).unwrap())
    }

    /// The nodes whose endpoints are used on node `a` of zone `1`.
    fn used(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
        let near = near(slices.to_vec(), &Here { node: "a", zone: Some("1") });
        near.iter().flat_map(|slice| &slice.endpoints).flat_map(|endpoint| endpoint.addresses.clone()).collect()
    }

    #[test]
    fn traffic_stays_on_the_node_or_in_the_zone_if_somebody_there_takes_it() {
        let node = |node: &str, zone: &str| endpoint(node, true, &[node], &[zone]);
        let zone = |node: &str, zone: &str| endpoint(node, true, &[], &[zone]);
        for (endpoints, expected) in [
            (vec![node("a", "1"), node("b", "1"), node("c", "2")], vec!["a"]),
            (vec![node("b", "1"), node("c", "2")], vec!["b"]),
            (vec![node("c", "2"), node("d", "2")], vec!["c", "d"]),
            (vec![zone("a", "1"), zone("b", "1"), zone("c", "2")], vec!["a", "b"]),
            // One that says nothing is for everybody, so all are.
            (vec![zone("a", "1"), zone("c", "2"), endpoint("d", true, &[], &[])], vec!["a", "c", "d"]),
            // Who is not ready decides nothing, and stays for the case that nobody is.
            (vec![endpoint("a", false, &[], &[]), zone("b", "1"), zone("c", "2")], vec!["a", "b"]),
            (vec![endpoint("b", false, &["b"], &["1"]), endpoint("c", false, &[], &["2"])], vec!["b", "c"]),
        ] {
            assert_eq!(used(&[slice("http", &endpoints)]), expected, "{endpoints:?}");
        }
    }

    #[test]
    fn a_port_that_nobody_near_has_makes_the_service_go_far() {
        let http = slice("http", &[endpoint("a", true, &[], &["1"]), endpoint("c", true, &[], &["2"])]);
        let metrics = slice("metrics", &[endpoint("c", true, &[], &["2"])]);
        assert_eq!(used(std::slice::from_ref(&http)), ["a"]);
        assert_eq!(used(&[http, metrics]), ["a", "c", "c"]);
    }
}
