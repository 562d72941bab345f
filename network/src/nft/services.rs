//! Services as rules: per port one chain that picks a backend, found by a look-up of address, protocol and port, so that the
//! time a packet takes does not grow with their number.

use std::net::{IpAddr, SocketAddr};

use longshore_core::network::ServicePort;

use super::base::{MASQUERADE, Node, protocol};
use super::identifier;
use super::ruleset::Ruleset;
use crate::family::Family;

/// How many clients a backend with affinity remembers.
const CLIENTS_MAX: u32 = 65_535;

type Endpoint = (IpAddr, u16);

/// Adds one port of a service, if it has an address of the node's family.
pub(super) fn add(ruleset: &mut Ruleset, node: &Node, service: &ServicePort) {
    let of_family = |addresses: &[IpAddr]| -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| node.family.has(*address)).collect()
    };
    let (addresses, balancers) = (of_family(&service.addresses), of_family(&service.balancers));
    if addresses.is_empty() && balancers.is_empty() {
        return;
    }
    let key = identifier(&format!("{}/{}", service.name, protocol(service.protocol)));
    let backends = || service.backends.iter().filter(|backend| node.family.has(backend.address));
    let endpoint = |backend: &longshore_core::network::Backend| (backend.address, backend.port);
    let all: Vec<Endpoint> = backends().filter(|backend| !backend.fallback).map(endpoint).collect();
    let local: Vec<Endpoint> = backends().filter(|backend| backend.local).map(endpoint).collect();
    let none = all.is_empty() && local.is_empty();
    let picked = Picked { family: node.family, service, key: &key, all: &all, local: &local };

    let port = format!("{} . {}", protocol(service.protocol), service.port);
    let outside = format!("goto external/{key}");
    let mut external = false;
    for address in addresses {
        let is_cluster = node.services.iter().any(|range| range.contains(&address));
        let element = format!("{address} . {port}");
        match (is_cluster, none) {
            // What finds no way from the service range is refused as a whole.
            (true, true) => {}
            (true, false) => {
                let way = picked.chain(ruleset, service.internal_local);
                // Upstream's: there are backends, but not here.
                ruleset.element("services", element, way.map_or("drop".to_owned(), |chain| format!("goto {chain}")));
            }
            (false, true) => ruleset.element("refused", element, ""),
            (false, false) => {
                external = true;
                ruleset.element("services", element, outside.as_str());
            }
        }
    }
    if let Some(node_port) = service.node_port {
        let element = format!("{} . {node_port}", protocol(service.protocol));
        if none {
            ruleset.element("refused-node-ports", element, "");
        } else {
            external = true;
            ruleset.element("node-ports", element, outside.as_str());
        }
    }
    for address in balancers {
        let element = format!("{address} . {port}");
        match (none, service.balancer_sources.as_slice()) {
            (true, _) => ruleset.element("refused", element, ""),
            (false, []) => {
                external = true;
                ruleset.element("services", element, outside.as_str());
            }
            (false, sources) => {
                external = true;
                let chain = format!("sources/{key}");
                if !ruleset.chains.contains_key(&chain) {
                    for source in node.family.ranges(sources) {
                        ruleset.rule(&chain, format!("{} saddr {source} {outside}", picked.family.word()));
                    }
                    ruleset.rule(&chain, "drop");
                }
                ruleset.element("services", element, format!("goto {chain}"));
            }
        }
    }
    if external {
        from_outside(ruleset, &picked);
    }
}

/// The way of traffic that came to an external address or a node's port.
fn from_outside(ruleset: &mut Ruleset, picked: &Picked<'_>) {
    let to = |ruleset: &mut Ruleset, local| {
        picked.chain(ruleset, local).map_or("drop".to_owned(), |chain| format!("goto {chain}"))
    };
    let all = to(ruleset, false);
    let chain = format!("external/{}", picked.key);
    let marked = format!("meta mark set meta mark | {MASQUERADE}");
    if picked.service.external_local {
        // Upstream's: only traffic from outside stays on the node; pods and the node itself reach every backend.
        ruleset.rule(&chain, format!("{} saddr @cluster {all}", picked.family.word()));
        ruleset.rule(&chain, format!("fib saddr type local {marked} {all}"));
        let local = to(ruleset, true);
        ruleset.rule(&chain, local);
    } else {
        ruleset.rule(&chain, marked);
        ruleset.rule(&chain, all);
    }
}

/// The chains that pick among a port's backends.
struct Picked<'a> {
    family: Family,
    service: &'a ServicePort,
    key: &'a str,
    all: &'a [Endpoint],
    local: &'a [Endpoint],
}

impl Picked<'_> {
    /// The chain that picks among all backends or the local ones, made if it is not there; `None` without backends.
    fn chain(&self, ruleset: &mut Ruleset, local: bool) -> Option<String> {
        let (word, endpoints) = if local { ("local", self.local) } else { ("any", self.all) };
        let chain = format!("{word}/{}", self.key);
        if endpoints.is_empty() {
            return None;
        }
        if !ruleset.chains.contains_key(&chain) {
            match self.service.affinity_seconds {
                None => self.translate(ruleset, &chain, endpoints),
                Some(seconds) => self.stay(ruleset, &chain, endpoints, seconds),
            }
        }
        Some(chain)
    }

    /// Each new connection gets any of the backends.
    ///
    /// Two rules, since the map alone can miss: a packet that reads the old rules while a transaction replaces them finds
    /// the old map's elements gone already (seen with Linux 6.18), and would be refused. It goes to the first.
    fn translate(&self, ruleset: &mut Ruleset, chain: &str, endpoints: &[Endpoint]) {
        let (ip, protocol) = (self.family.word(), protocol(self.service.protocol));
        if let [_, _, ..] = endpoints {
            let choices = choices(endpoints, |(address, port)| format!("{address} . {port}"));
            let count = endpoints.len();
            ruleset.rule(
                chain,
                format!("meta l4proto {protocol} dnat {ip} to numgen random mod {count} map {{ {choices} }}"),
            );
        }
        if let Some(first) = endpoints.first() {
            ruleset.rule(chain, format!("meta l4proto {protocol} dnat {ip} to {}", SocketAddr::from(*first)));
        }
    }

    /// A client stays with the backend that it had, as long as that remembers it.
    fn stay(&self, ruleset: &mut Ruleset, chain: &str, endpoints: &[Endpoint], seconds: u32) {
        let (ip, protocol) = (self.family.word(), protocol(self.service.protocol));
        let place = |(address, port): &Endpoint| identifier(&format!("{}/{address}/{port}", self.key));
        for endpoint in endpoints {
            let place = place(endpoint);
            // The name carries the time: a set's declaration cannot be changed.
            let (set, backend) = (format!("clients/{place}/{seconds}"), format!("backend/{place}"));
            if !ruleset.chains.contains_key(&backend) {
                let declaration = format!(
                    "type {} ; size {CLIENTS_MAX} ; flags dynamic,timeout ; timeout {seconds}s ;",
                    self.family.type_()
                );
                ruleset.set("set", &set, declaration);
                ruleset.rule(&backend, format!("update @{set} {{ {ip} saddr }}"));
                ruleset.rule(&backend, format!("meta l4proto {protocol} dnat {ip} to {}", SocketAddr::from(*endpoint)));
            }
            ruleset.rule(chain, format!("{ip} saddr @{set} goto {backend}"));
        }
        let choices = choices(endpoints, |endpoint| format!("goto backend/{}", place(endpoint)));
        ruleset.rule(chain, format!("numgen random mod {} vmap {{ {choices} }}", endpoints.len()));
        if let Some(first) = endpoints.first() {
            ruleset.rule(chain, format!("goto backend/{}", place(first)));
        }
    }
}

/// The elements of a map from a random number to an endpoint.
fn choices(endpoints: &[Endpoint], value: impl Fn(&Endpoint) -> String) -> String {
    let elements = endpoints.iter().enumerate().map(|(n, endpoint)| format!("{n} : {}", value(endpoint)));
    elements.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
