//! Which rules policies become.

use longshore_core::network::{Others, Policy};

use super::*;
use crate::nft::{desired, node};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn policy(name: &str, pods: &[&str], ingress: Option<Vec<Allowed>>, egress: Option<Vec<Allowed>>) -> Policy {
    Policy { name: name.into(), pods: pods.iter().map(|pod| address(pod)).collect(), ingress, egress }
}

fn from_pods(pods: &[&str]) -> Allowed {
    let others = Others { pods: pods.iter().map(|pod| address(pod)).collect(), blocks: Vec::new() };
    Allowed { pods: None, others: Some(others), ports: None }
}

fn tcp(first: u16, last: u16) -> PortRange {
    PortRange { protocol: Protocol::Tcp, first, last }
}

fn rules(policies: &[Policy]) -> Ruleset {
    let mut ruleset = desired(&node(), [], &[]);
    add(&mut ruleset, Family::V4, policies, &Part::Whole);
    ruleset
}

fn chain<'a>(ruleset: &'a Ruleset, name: &str) -> Vec<&'a str> {
    ruleset.chains.get(name).map(|chain| chain.rules.iter().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn without_policies_nothing_is_judged() {
    assert_eq!(rules(&[]), desired(&node(), [], &[]));
    // Nor for pods of another family.
    assert_eq!(rules(&[policy("ns/six", &["fd00::2"], Some(Vec::new()), None)]), desired(&node(), [], &[]));
}

#[test]
fn a_pod_is_isolated_in_the_directions_that_its_policies_name() {
    let ruleset = rules(&[
        policy("ns/deny", &["10.1.0.2"], Some(Vec::new()), None),
        policy("ns/web", &["10.1.0.2", "10.1.0.3"], Some(vec![from_pods(&["10.1.1.9"])]), None),
    ]);
    assert_eq!(
        chain(&ruleset, "pod-ingress/10.1.0.2"),
        ["jump policy-ingress/ns/deny", "jump policy-ingress/ns/web", "drop"]
    );
    assert_eq!(chain(&ruleset, "pod-ingress/10.1.0.3"), ["jump policy-ingress/ns/web", "drop"]);
    assert_eq!(chain(&ruleset, "policy-ingress/ns/deny"), [""; 0]);
    assert_eq!(chain(&ruleset, "policy-ingress/ns/web"), ["ip saddr @policy-ingress/ns/web/0 accept"]);
    assert!(ruleset.chains.contains_key("policy-ingress/ns/deny"));
    assert!(!ruleset.sets.contains_key("isolated-egress"));
}

#[test]
fn one_more_pod_at_the_other_end_is_one_element() {
    let web = |others: &[&str]| rules(&[policy("ns/web", &["10.1.0.2"], Some(vec![from_pods(others)]), None)]);
    let commands = web(&["10.1.1.8"]).difference(&web(&["10.1.1.8", "10.1.1.9"]), "ip t");
    assert_eq!(commands, "add element ip t policy-ingress/ns/web/0 { 10.1.1.9 }\n");
}

#[test]
fn blocks_and_ports_are_conditions() {
    let block = |range: &str, except: &[&str]| Block {
        range: range.parse().unwrap(),
        except: except.iter().map(|range| range.parse().unwrap()).collect(),
    };
    let blocks =
        vec![block("10.0.0.0/8", &["10.1.0.0/16", "10.1.2.0/24"]), block("0.0.0.0/0", &[]), block("fd00::/8", &[])];
    let allowed = Allowed {
        pods: Some(vec![address("10.1.0.2")]),
        others: Some(Others { pods: Vec::new(), blocks }),
        ports: Some(vec![
            tcp(80, 80),
            tcp(8000, 8100),
            tcp(8050, 9000),
            PortRange { protocol: Protocol::Udp, first: 0, last: u16::MAX },
        ]),
    };
    let ruleset = rules(&[policy("ns/out", &["10.1.0.2", "10.1.0.3"], None, Some(vec![allowed]))]);
    assert_eq!(
        chain(&ruleset, "policy-egress/ns/out"),
        [
            "ip saddr { 10.1.0.2 } ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } tcp dport { 80, 8000-9000 } accept",
            "ip saddr { 10.1.0.2 } ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } meta l4proto udp accept",
            "ip saddr { 10.1.0.2 } tcp dport { 80, 8000-9000 } accept",
            "ip saddr { 10.1.0.2 } meta l4proto udp accept",
        ]
    );
}

#[test]
fn an_end_that_nobody_is_allows_nothing() {
    let ruleset = rules(&[policy("ns/web", &["10.1.0.2"], Some(vec![from_pods(&["fd00::2"])]), None)]);
    assert_eq!(chain(&ruleset, "policy-ingress/ns/web"), [""; 0]);
}
