//! The part of the rules that every node has, whatever its Services: where they hook in, and what leaves with which address.

use std::net::IpAddr;

use ipnet::IpNet;
use longshore_core::network::{HostPort, Protocol};

use super::ruleset::{Chain, Ruleset};
use crate::family::Family;

/// Marks packets that must leave with the node's address. Kubernetes' own bit of the same meaning, so that somebody who
/// shares the mark does the same with it.
pub(super) const MASQUERADE: &str = "0x4000";

/// What the rules must know of the node, for one family of addresses.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) family: Family,
    /// How this node's pods are connected.
    pub(crate) way: Way,
    /// Addresses of all nodes' pods.
    pub(crate) cluster: Vec<IpNet>,
    /// Addresses of services.
    pub(crate) services: Vec<IpNet>,
}

/// How pods are connected to their node.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// By our bridge: what they send always passes the node's routing.
    Bridge {
        /// Its name.
        interface: String,
        /// Addresses of its pods.
        pods: IpNet,
    },
    /// By somebody else, who also sees to it that they reach the world. Two pods may reach each other past the node's routing.
    Other,
}

/// A pod and the node's ports that lead to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodPorts<'a> {
    pub(crate) address: IpAddr,
    pub(crate) host_ports: &'a [HostPort],
}

/// What every table has, and its pods. What is not of the node's family is left out.
pub(super) fn base<'a>(node: &Node, pods: impl IntoIterator<Item = PodPorts<'a>>) -> Ruleset {
    let mut ruleset = frame(node);
    for pod in pods.into_iter().filter(|pod| node.family.has(pod.address)) {
        ruleset.element("pods", pod.address.to_string(), "");
        ruleset.element("hairpin", format!("{0} . {0}", pod.address), "");
        for port in pod.host_ports {
            let (set, key) = match port.host_ip {
                None => ("host-ports", String::new()),
                Some(ip) if !node.family.has(ip) => continue,
                Some(ip) if ip.is_unspecified() => ("host-ports", String::new()),
                Some(ip) => ("host-address-ports", format!("{ip} . ")),
            };
            let key = format!("{key}{} . {}", protocol(port.protocol), port.host_port);
            ruleset.element(set, key, format!("{} . {}", pod.address, port.container_port));
        }
    }
    ruleset
}

fn frame(node: &Node) -> Ruleset {
    let Node { family, way, cluster, services } = node;
    let (ip, addr) = (family.word(), family.type_());
    let mut ruleset = Ruleset::default();
    ruleset.set("set", "cluster", format!("type {addr} ; flags interval ; auto-merge ;"));
    ruleset.set("set", "service-ranges", format!("type {addr} ; flags interval ; auto-merge ;"));
    ruleset.set("set", "pods", format!("type {addr} ;"));
    ruleset.set("set", "hairpin", format!("type {addr} . {addr} ;"));
    ruleset.set("map", "services", format!("type {addr} . inet_proto . inet_service : verdict ;"));
    ruleset.set("map", "node-ports", "type inet_proto . inet_service : verdict ;");
    ruleset.set("map", "host-ports", format!("type inet_proto . inet_service : {addr} . inet_service ;"));
    ruleset.set(
        "map",
        "host-address-ports",
        format!("type {addr} . inet_proto . inet_service : {addr} . inet_service ;"),
    );
    ruleset.set("set", "refused", format!("type {addr} . inet_proto . inet_service ;"));
    ruleset.set("set", "refused-node-ports", "type inet_proto . inet_service ;");
    // An interval set refuses what overlaps within one command.
    for (set, ranges) in [("cluster", cluster), ("service-ranges", services)] {
        for range in IpNet::aggregate(ranges) {
            ruleset.element(set, range.to_string(), "");
        }
    }

    let mut chain = |name: &str, hook: &str, rules: Vec<String>| {
        let hook = if hook.is_empty() { String::new() } else { format!("type {hook} ; policy accept ;") };
        ruleset.chains.insert(name.to_owned(), Chain { hook, rules });
    };
    if let (Way::Bridge { interface, .. }, Family::V4) = (way, family) {
        // The bridge accepts answers to 127.0.0.1 (node ports work there, too), which pods must not abuse. What comes here is
        // not translated yet: an honest answer does not look so.
        chain(
            "guard",
            "filter hook prerouting priority -300",
            vec![
                format!("iifname \"{interface}\" ip daddr 127.0.0.0/8 drop"),
                format!("iifname \"{interface}\" ip saddr 127.0.0.0/8 drop"),
            ],
        );
    }
    chain("prerouting", "nat hook prerouting priority -100", vec!["jump dispatch".to_owned()]);
    chain("output", "nat hook output priority -100", vec!["jump dispatch".to_owned()]);
    let mut dispatch = Vec::new();
    if !cluster.is_empty() {
        // Who comes from elsewhere has to get the answer from this node.
        dispatch.push(format!(
            "{ip} daddr @service-ranges {ip} saddr != @cluster fib saddr type != local \
             meta mark set meta mark | {MASQUERADE}"
        ));
    }
    dispatch.push(format!("{ip} daddr . meta l4proto . th dport vmap @services"));
    let is_reachable_as_local = matches!((way, family), (Way::Bridge { .. }, Family::V4));
    if !is_reachable_as_local {
        // The kernel takes no answers to these addresses from elsewhere.
        dispatch.push(format!("{ip} daddr {} return", if *family == Family::V4 { "127.0.0.0/8" } else { "::1" }));
    }
    dispatch.extend([
        "fib daddr type local meta l4proto . th dport vmap @node-ports".to_owned(),
        format!(
            "meta l4proto {{ tcp, udp, sctp }} dnat {ip} to {ip} daddr . meta l4proto . th dport map @host-address-ports"
        ),
        format!(
            "fib daddr type local meta l4proto {{ tcp, udp, sctp }} \
             dnat {ip} to meta l4proto . th dport map @host-ports"
        ),
    ]);
    chain("dispatch", "", dispatch);
    let mut postrouting =
        vec![format!("meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark ^ {MASQUERADE} masquerade")];
    match way {
        Way::Bridge { interface, pods } => {
            if *family == Family::V4 {
                postrouting.push(format!("oifname \"{interface}\" ip saddr 127.0.0.0/8 masquerade"));
            }
            // A pod that reaches itself through a Service would answer itself directly.
            postrouting.push(format!("{ip} saddr . {ip} daddr @hairpin masquerade"));
            postrouting.push(format!("{ip} saddr {pods} {ip} daddr != @cluster masquerade"));
        }
        // Any pod here may answer any other directly, past what translates the answer.
        Way::Other => postrouting.push(format!("ct status dnat {ip} saddr @pods {ip} daddr @pods masquerade")),
    }
    chain("postrouting", "nat hook postrouting priority 100", postrouting);
    // What still goes to a Service has not found a backend.
    let nobody = format!("{ip} daddr . meta l4proto . th dport @refused");
    let refused = [refuse(&format!("{ip} daddr @service-ranges")), refuse(&nobody)].concat();
    chain("refuse-forward", "filter hook forward priority 0", refused.clone());
    chain("refuse-output", "filter hook output priority 0", refused);
    chain(
        "refuse-input",
        "filter hook input priority 0",
        [refuse(&nobody), refuse("fib daddr type local meta l4proto . th dport @refused-node-ports")].concat(),
    );
    ruleset
}

/// Rules that refuse what matches. A reset for TCP, since the kernel sends only a few ICMP messages a second to one host,
/// and a caller that gets none waits.
fn refuse(what: &str) -> [String; 2] {
    [format!("{what} meta l4proto tcp reject with tcp reset"), format!("{what} reject")]
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
