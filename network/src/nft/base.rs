//! The part of the rules that every node has, whatever its Services: where they hook in, and what leaves with which address.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use longshore_core::network::{HostPort, Protocol, ServicePort};

use super::ruleset::{Chain, Ruleset};
use super::services;

/// Marks packets that must leave with the node's address. Kubernetes' own bit of the same meaning, so that somebody who
/// shares the mark does the same with it.
pub(super) const MASQUERADE: &str = "0x4000";

/// What the rules must know of the node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The bridge that the pods are on.
    pub(crate) bridge: String,
    /// Addresses of this node's pods.
    pub(crate) pods: Ipv4Net,
    /// Addresses of all nodes' pods.
    pub(crate) cluster: Vec<Ipv4Net>,
    /// Addresses of services.
    pub(crate) services: Vec<Ipv4Net>,
}

/// A pod and the node's ports that lead to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodPorts<'a> {
    pub(crate) address: Ipv4Addr,
    pub(crate) host_ports: &'a [HostPort],
}

/// Everything that the table should hold.
pub(crate) fn desired<'a>(
    node: &Node,
    pods: impl IntoIterator<Item = PodPorts<'a>>,
    service_ports: &[ServicePort],
) -> Ruleset {
    let mut ruleset = base(node);
    for pod in pods {
        ruleset.element("hairpin", format!("{0} . {0}", pod.address), "");
        for port in pod.host_ports {
            let (set, key) = match port.host_ip {
                None => ("host-ports", String::new()),
                Some(std::net::IpAddr::V4(ip)) if ip.is_unspecified() => ("host-ports", String::new()),
                Some(std::net::IpAddr::V4(ip)) => ("host-address-ports", format!("{ip} . ")),
                // The table is IPv4's.
                Some(std::net::IpAddr::V6(_)) => continue,
            };
            let key = format!("{key}{} . {}", protocol(port.protocol), port.host_port);
            ruleset.element(set, key, format!("{} . {}", pod.address, port.container_port));
        }
    }
    for port in service_ports {
        services::add(&mut ruleset, port, &node.services);
    }
    ruleset
}

fn base(node: &Node) -> Ruleset {
    let Node { bridge, pods, cluster, services } = node;
    let mut ruleset = Ruleset::default();
    ruleset.set("set", "cluster", "type ipv4_addr ; flags interval ; auto-merge ;");
    ruleset.set("set", "service-ranges", "type ipv4_addr ; flags interval ; auto-merge ;");
    ruleset.set("set", "hairpin", "type ipv4_addr . ipv4_addr ;");
    ruleset.set("map", "services", "type ipv4_addr . inet_proto . inet_service : verdict ;");
    ruleset.set("map", "node-ports", "type inet_proto . inet_service : verdict ;");
    ruleset.set("map", "host-ports", "type inet_proto . inet_service : ipv4_addr . inet_service ;");
    ruleset.set("map", "host-address-ports", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ;");
    ruleset.set("set", "refused", "type ipv4_addr . inet_proto . inet_service ;");
    ruleset.set("set", "refused-node-ports", "type inet_proto . inet_service ;");
    // An interval set refuses what overlaps within one command.
    for (set, ranges) in [("cluster", cluster), ("service-ranges", services)] {
        for range in Ipv4Net::aggregate(ranges) {
            ruleset.element(set, range.to_string(), "");
        }
    }

    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        let hook = if hook.is_empty() { String::new() } else { format!("type {hook} ; policy accept ;") };
        ruleset.chains.insert(name.to_owned(), Chain { hook, rules: rules.to_vec() });
    };
    // The bridge accepts answers to 127.0.0.1 (node ports work there, too), which pods must not abuse. What comes here is
    // not translated yet: an honest answer does not look so.
    chain(
        "guard",
        "filter hook prerouting priority -300",
        &[
            format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop"),
            format!("iifname \"{bridge}\" ip saddr 127.0.0.0/8 drop"),
        ],
    );
    chain("prerouting", "nat hook prerouting priority -100", &["jump dispatch".to_owned()]);
    chain("output", "nat hook output priority -100", &["jump dispatch".to_owned()]);
    chain(
        "dispatch",
        "",
        &[
            // Who comes from elsewhere has to get the answer from this node.
            format!(
                "ip daddr @service-ranges ip saddr != @cluster fib saddr type != local \
                 meta mark set meta mark | {MASQUERADE}"
            ),
            "ip daddr . meta l4proto . th dport vmap @services".to_owned(),
            "fib daddr type local meta l4proto . th dport vmap @node-ports".to_owned(),
            "meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @host-address-ports"
                .to_owned(),
            "fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @host-ports"
                .to_owned(),
        ],
    );
    chain(
        "postrouting",
        "nat hook postrouting priority 100",
        &[
            format!("meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark ^ {MASQUERADE} masquerade"),
            format!("oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade"),
            // A pod that reaches itself through a Service would answer itself directly.
            "ip saddr . ip daddr @hairpin masquerade".to_owned(),
            format!("ip saddr {pods} ip daddr != @cluster masquerade"),
        ],
    );
    // What still goes to a Service has not found a backend.
    let refused = [refuse("ip daddr @service-ranges"), refuse("ip daddr . meta l4proto . th dport @refused")].concat();
    chain("refuse-forward", "filter hook forward priority 0", &refused);
    chain("refuse-output", "filter hook output priority 0", &refused);
    chain(
        "refuse-input",
        "filter hook input priority 0",
        &[
            refuse("ip daddr . meta l4proto . th dport @refused"),
            refuse("fib daddr type local meta l4proto . th dport @refused-node-ports"),
        ]
        .concat(),
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
