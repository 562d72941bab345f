//! Network policies as rules. Every direction has a chain of its own in the way of what is forwarded, so that a packet between two
//! pods of the node is judged twice: may it leave the one, may it reach the other. There its addresses are those of the pods,
//! whatever Service led it; what the node itself sends to its pods is not forwarded and never judged.
//!
//! A look-up by the pod's address finds the pod's chain, which asks each of its policies and drops what none of them accepts. Pods
//! at the other end are a set a rule, so that one that comes or goes is one element.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use longshore_core::network::{Allowed, Block, Policy, PortRange, Protocol};

use super::base::protocol;
use super::identifier;
use super::part::Part;
use super::ruleset::{Chain, Ruleset};
use crate::family::Family;

/// One of the two.
struct Direction {
    /// Part of names.
    word: &'static str,
    /// Which of a packet's addresses is the pod's.
    pod: &'static str,
    /// And which the other end's.
    other: &'static str,
    /// Place among the chains of the same hook.
    priority: i32,
    rules: fn(&Policy) -> Option<&Vec<Allowed>>,
}

const DIRECTIONS: [Direction; 2] = [
    Direction { word: "egress", pod: "saddr", other: "daddr", priority: 10, rules: |policy| policy.egress.as_ref() },
    Direction { word: "ingress", pod: "daddr", other: "saddr", priority: 11, rules: |policy| policy.ingress.as_ref() },
];

/// Adds what is in a part of all policies.
pub(super) fn add(ruleset: &mut Ruleset, family: Family, policies: &[Policy], part: &Part) {
    for direction in &DIRECTIONS {
        add_direction(ruleset, family, direction, policies, part);
    }
}

fn add_direction(ruleset: &mut Ruleset, family: Family, direction: &Direction, policies: &[Policy], part: &Part) {
    let Direction { word, pod, priority, rules, .. } = direction;
    let mut of_pod: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let mut judges = false;
    for policy in policies {
        let Some(rules) = rules(policy) else { continue };
        let chain = format!("policy-{word}/{}", identifier(&policy.name));
        let pods: Vec<IpAddr> = policy.pods.iter().copied().filter(|pod| family.has(*pod)).collect();
        if pods.is_empty() {
            continue;
        }
        judges = true;
        if part.has_policy(policy) {
            ruleset.chains.entry(chain.clone()).or_default();
            for (index, allowed) in rules.iter().enumerate() {
                allow(ruleset, family, direction, &chain, index, allowed);
            }
        }
        for pod in pods.into_iter().filter(|pod| part.has_pod(*pod)) {
            of_pod.entry(pod).or_default().push(chain.clone());
        }
    }
    if !judges {
        return;
    }
    let (ip, map) = (family.word(), format!("isolated-{word}"));
    ruleset.set("map", &map, format!("type {} : verdict ;", family.type_()));
    for (address, chains) in of_pod {
        let chain = identifier(&format!("pod-{word}/{address}"));
        for policy in chains {
            ruleset.rule(&chain, format!("jump {policy}"));
        }
        ruleset.rule(&chain, "drop");
        ruleset.element(&map, address.to_string(), format!("goto {chain}"));
    }
    let judge = Chain {
        hook: format!("type filter hook forward priority {priority} ; policy accept ;"),
        rules: vec![
            "ct state established,related accept".to_owned(),
            // Nobody comes between a pod and itself.
            format!("{ip} saddr . {ip} daddr @hairpin accept"),
            format!("{ip} {pod} vmap @{map}"),
        ],
    };
    ruleset.chains.insert(format!("judge-{word}"), judge);
}

/// Adds the rules for what one rule of a policy allows.
fn allow(ruleset: &mut Ruleset, family: Family, direction: &Direction, chain: &str, index: usize, allowed: &Allowed) {
    let ip = family.word();
    let mut heads = vec![String::new()];
    if let Some(pods) = &allowed.pods {
        let pods: BTreeSet<String> = pods.iter().filter(|pod| family.has(**pod)).map(ToString::to_string).collect();
        if pods.is_empty() {
            return;
        }
        heads = vec![format!("{ip} {} {{ {} }} ", direction.pod, join(pods))];
    }
    if let Some(others) = &allowed.others {
        let mut ends = Vec::new();
        if others.pods.iter().any(|pod| family.has(*pod)) {
            let set = format!("{chain}/{index}");
            ruleset.set("set", &set, format!("type {} ;", family.type_()));
            for pod in others.pods.iter().filter(|pod| family.has(**pod)) {
                ruleset.element(&set, pod.to_string(), "");
            }
            ends.push(format!("{ip} {} @{set} ", direction.other));
        }
        let blocks = others.blocks.iter().filter(|block| family.has(block.range.addr()));
        ends.extend(blocks.map(|block| block_condition(family, direction, block)));
        heads = heads.iter().flat_map(|head| ends.iter().map(move |end| format!("{head}{end}"))).collect();
    }
    let ports = allowed.ports.as_ref().map_or(vec![String::new()], |ports| port_conditions(ports));
    for head in heads {
        for port in &ports {
            ruleset.rule(chain, format!("{head}{port}accept"));
        }
    }
}

fn block_condition(family: Family, direction: &Direction, block: &Block) -> String {
    let (ip, other) = (family.word(), direction.other);
    let mut condition = String::new();
    if block.range.prefix_len() > 0 {
        condition = format!("{ip} {other} {} ", block.range.trunc());
    }
    // What overlaps is refused within one set.
    let except = IpNet::aggregate(&family.ranges(&block.except));
    if !except.is_empty() {
        condition.push_str(&format!("{ip} {other} != {{ {} }} ", join(except)));
    }
    condition
}

/// One condition a protocol.
fn port_conditions(ports: &[PortRange]) -> Vec<String> {
    let mut of_protocol: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
    let sorted: BTreeSet<&PortRange> = ports.iter().collect();
    for range in sorted {
        let ranges = of_protocol.entry(range.protocol).or_default();
        match ranges.last_mut() {
            // What overlaps is refused within one set.
            Some((_, last)) if range.first <= last.saturating_add(1) => *last = range.last.max(*last),
            _ => ranges.push((range.first, range.last)),
        }
    }
    let text = |(first, last): (u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let condition = |(of, ranges): (Protocol, Vec<(u16, u16)>)| match ranges.as_slice() {
        [(0..=1, u16::MAX)] => format!("meta l4proto {} ", protocol(of)),
        _ => format!("{} dport {{ {} }} ", protocol(of), join(ranges.iter().copied().map(text))),
    };
    of_protocol.into_iter().map(condition).collect()
}

fn join(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
