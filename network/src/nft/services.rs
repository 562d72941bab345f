//! Services as rules: per port one chain that picks a backend, found by a look-up of address, protocol and port, so that the
//! time a packet takes does not grow with their number.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use longshore_core::network::ServicePort;

use super::base::{MASQUERADE, protocol};
use super::ruleset::Ruleset;

/// How many clients a backend with affinity remembers.
const CLIENTS_MAX: u32 = 65_535;

type Endpoint = (Ipv4Addr, u16);

/// Adds one port of a service.
pub(super) fn add(ruleset: &mut Ruleset, service: &ServicePort, ranges: &[Ipv4Net]) {
    let key = format!("{}/{}", slug(&service.name), protocol(service.protocol));
    let endpoints = |local_only: bool| -> Vec<Endpoint> {
        let backends = service.backends.iter().filter(|backend| backend.local || !local_only);
        backends.filter_map(|backend| Some((v4(backend.address)?, backend.port))).collect()
    };
    let (all, local) = (endpoints(false), endpoints(true));
    let mut picked = Picked { service, key: &key, all: &all, local: &local };

    let port = format!("{} . {}", protocol(service.protocol), service.port);
    let mut external = false;
    for address in service.addresses.iter().copied().filter_map(v4) {
        let is_cluster = ranges.iter().any(|range| range.contains(&address));
        match (is_cluster, all.is_empty()) {
            // What finds no way from the service range is refused as a whole.
            (true, _) => {
                if let Some(chain) = picked.chain(ruleset, service.internal_local) {
                    ruleset.element("services", format!("{address} . {port}"), format!("goto {chain}"));
                }
            }
            (false, true) => ruleset.element("refused", format!("{address} . {port}"), ""),
            (false, false) => {
                external = true;
                ruleset.element("services", format!("{address} . {port}"), format!("goto external/{key}"));
            }
        }
    }
    if let Some(node_port) = service.node_port {
        let element = format!("{} . {node_port}", protocol(service.protocol));
        if all.is_empty() {
            ruleset.element("refused-node-ports", element, "");
        } else {
            external = true;
            ruleset.element("node-ports", element, format!("goto external/{key}"));
        }
    }
    if external {
        from_outside(ruleset, &mut picked);
    }
}

/// The way of traffic that came to an external address or a node's port.
fn from_outside(ruleset: &mut Ruleset, picked: &mut Picked<'_>) {
    let Some(all) = picked.chain(ruleset, false) else { return };
    let chain = format!("external/{}", picked.key);
    let marked = format!("meta mark set meta mark | {MASQUERADE}");
    if picked.service.external_local {
        // Upstream's: only traffic from outside stays on the node; pods and the node itself reach every backend.
        ruleset.rule(&chain, format!("ip saddr @cluster goto {all}"));
        ruleset.rule(&chain, format!("fib saddr type local {marked} goto {all}"));
        match picked.chain(ruleset, true) {
            Some(local) => ruleset.rule(&chain, format!("goto {local}")),
            None => ruleset.rule(&chain, "drop"),
        }
    } else {
        ruleset.rule(&chain, marked);
        ruleset.rule(&chain, format!("goto {all}"));
    }
}

/// The chains that pick among a port's backends.
struct Picked<'a> {
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
        let protocol = protocol(self.service.protocol);
        if let [_, _, ..] = endpoints {
            let choices = choices(endpoints, |(address, port)| format!("{address} . {port}"));
            let count = endpoints.len();
            ruleset.rule(
                chain,
                format!("meta l4proto {protocol} dnat ip to numgen random mod {count} map {{ {choices} }}"),
            );
        }
        if let Some((address, port)) = endpoints.first() {
            ruleset.rule(chain, format!("meta l4proto {protocol} dnat ip to {address}:{port}"));
        }
    }

    /// A client stays with the backend that it had, as long as that remembers it.
    fn stay(&self, ruleset: &mut Ruleset, chain: &str, endpoints: &[Endpoint], seconds: u32) {
        let protocol = protocol(self.service.protocol);
        let place = |(address, port): &Endpoint| format!("{}/{address}/{port}", self.key);
        for endpoint @ (address, port) in endpoints {
            let place = place(endpoint);
            // The name carries the time: a set's declaration cannot be changed.
            let (set, backend) = (format!("clients/{place}/{seconds}"), format!("backend/{place}"));
            if !ruleset.chains.contains_key(&backend) {
                let declaration =
                    format!("type ipv4_addr ; size {CLIENTS_MAX} ; flags dynamic,timeout ; timeout {seconds}s ;");
                ruleset.set("set", &set, declaration);
                ruleset.rule(&backend, format!("update @{set} {{ ip saddr }}"));
                ruleset.rule(&backend, format!("meta l4proto {protocol} dnat ip to {address}:{port}"));
            }
            ruleset.rule(chain, format!("ip saddr @{set} goto {backend}"));
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

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// A service port's name as part of a chain's: `default/web:http` becomes `default/web/http`.
fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            ':' => slug.push('/'),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '/' => slug.push(c),
            // No name of Kubernetes' has any of these; two names must still not become one.
            _ => slug.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    slug
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
