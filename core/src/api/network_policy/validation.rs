//! What network policies may say, in upstream's words.

use super::{IpBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use crate::api::rules;
use crate::int_or_string::IntOrString;
use crate::validation::addresses::{parse_legacy_net, validate_legacy_cidr};
use crate::validation::names::{is_valid_port_name, is_valid_port_num};
use crate::validation::{ErrorList, NameRule, Path, Report, json, validate_label_selector};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TYPES: [&str; 2] = ["Ingress", "Egress"];

/// Checks a new policy.
pub(super) fn validate(policy: &NetworkPolicy) -> ErrorList {
    let mut errors = rules::validate(policy, NameRule::DnsSubdomain);
    validate_spec(policy, &mut errors);
    errors
}

/// Checks an update.
pub(super) fn validate_update(new: &NetworkPolicy, old: &NetworkPolicy) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_spec(new, &mut errors);
    errors
}

fn validate_spec(policy: &NetworkPolicy, errors: &mut ErrorList) {
    let (spec, at) = (&policy.spec, Path::new("spec"));
    validate_label_selector(Some(&spec.pod_selector), &at.child("podSelector"), errors);
    for (index, rule) in spec.ingress.iter().enumerate() {
        validate_rule(&rule.ports, &rule.from, "from", &at.child("ingress").index(index), errors);
    }
    for (index, rule) in spec.egress.iter().enumerate() {
        validate_rule(&rule.ports, &rule.to, "to", &at.child("egress").index(index), errors);
    }
    let at = at.child("policyTypes");
    if spec.policy_types.len() > TYPES.len() {
        errors.invalid(&at, json(&spec.policy_types), "may not specify more than two policyTypes");
        return;
    }
    for (index, type_) in spec.policy_types.iter().enumerate().filter(|(_, type_)| !type_.is_known()) {
        errors.not_supported(&at.index(index), type_.as_str(), &TYPES);
    }
}

fn validate_rule(
    ports: &[NetworkPolicyPort],
    peers: &[NetworkPolicyPeer],
    peers_field: &str,
    at: &Path,
    errors: &mut ErrorList,
) {
    for (index, port) in ports.iter().enumerate() {
        validate_port(port, &at.child("ports").index(index), errors);
    }
    for (index, peer) in peers.iter().enumerate() {
        validate_peer(peer, &at.child(peers_field).index(index), errors);
    }
}

fn validate_port(port: &NetworkPolicyPort, at: &Path, errors: &mut ErrorList) {
    if let Some(protocol) = port.protocol.as_ref().filter(|protocol| !protocol.is_known()) {
        errors.not_supported(&at.child("protocol"), protocol.as_str(), &PROTOCOLS);
    }
    let (at_port, at_end) = (at.child("port"), at.child("endPort"));
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(number)), end) => {
            for why in is_valid_port_num((*number).into()) {
                errors.invalid(&at_port, *number, why);
            }
            if let Some(end) = end {
                if end < *number {
                    errors.invalid(&at_end, *number, "must be greater than or equal to `port`");
                }
                for why in is_valid_port_num(end.into()) {
                    errors.invalid(&at_end, end, why);
                }
            }
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                errors.invalid(&at_end, end, "may not be specified when `port` is non-numeric");
            }
            errors.invalid_each(&at_port, name, is_valid_port_name(name));
        }
        (None, Some(end)) => errors.invalid(&at_end, end, "may not be specified when `port` is not specified"),
        (None, None) => {}
    }
}

fn validate_peer(peer: &NetworkPolicyPeer, at: &Path, errors: &mut ErrorList) {
    validate_label_selector(peer.pod_selector.as_ref(), &at.child("podSelector"), errors);
    validate_label_selector(peer.namespace_selector.as_ref(), &at.child("namespaceSelector"), errors);
    if let Some(block) = &peer.ip_block {
        validate_block(block, &at.child("ipBlock"), errors);
    }
    let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match (selects, peer.ip_block.is_some()) {
        (false, false) => errors.required(at, "must specify a peer"),
        (true, true) => errors.forbidden(at, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn validate_block(block: &IpBlock, at: &Path, errors: &mut ErrorList) {
    if block.cidr.is_empty() {
        errors.required(&at.child("cidr"), "");
        return;
    }
    validate_legacy_cidr(&block.cidr, &at.child("cidr"), errors);
    let Some(range) = parse_legacy_net(&block.cidr) else { return };
    for (index, text) in block.except.iter().enumerate() {
        let at = at.child("except").index(index);
        validate_legacy_cidr(text, &at, errors);
        let Some(except) = parse_legacy_net(text) else { continue };
        if !range.contains(&except.network()) || range.prefix_len() >= except.prefix_len() {
            errors.invalid(&at, text.as_str(), "must be a strict subset of `cidr`");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kind::Kind;

    fn policy(spec: Value) -> NetworkPolicy {
        let object = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec});
        let mut policy: NetworkPolicy = serde_json::from_value(object).unwrap();
        policy.set_defaults();
        policy
    }

    fn errors(spec: Value) -> Vec<String> {
        policy(spec).validate().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_upstream_takes_is_right() {
        let ports = json!([{"port": 80}, {"port": "http", "protocol": "UDP"}, {"port": 1, "endPort": 1}, {}]);
        let peers = json!([
            {"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}}, {"podSelector": {}, "namespaceSelector": {}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"ipBlock": {"cidr": "fd00::/8"}},
        ]);
        let spec = json!({"podSelector": {}, "ingress": [{"ports": ports, "from": peers}], "egress": [{"ports": ports, "to": peers}]});
        assert_eq!(errors(spec), [""; 0]);
        assert_eq!(errors(json!({})), [""; 0]);
    }

    #[test]
    fn what_it_refuses_is_refused_in_its_words() {
        let port = |port: Value| errors(json!({"ingress": [{"ports": [port]}]}));
        assert_eq!(
            port(json!({"port": 80, "endPort": 79})),
            ["spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"]
        );
        assert_eq!(
            port(json!({"port": "web", "endPort": 79})),
            ["spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric"]
        );
        assert_eq!(
            port(json!({"endPort": 79})),
            ["spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified"]
        );
        assert_eq!(
            port(json!({"protocol": "ICMP"})),
            [
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\""
            ]
        );
        let peer = |peer: Value| errors(json!({"egress": [{"to": [peer]}]}));
        assert_eq!(peer(json!({})), ["spec.egress[0].to[0]: Required value: must specify a peer"]);
        assert_eq!(
            peer(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            ["spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer"]
        );
        assert_eq!(
            peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "11.0.0.0/16"]}})),
            [
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            ]
        );
        assert_eq!(
            errors(json!({"policyTypes": ["Both"]})),
            ["spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\""]
        );
    }

    #[test]
    fn directions_follow_from_the_rules() {
        let types = |spec: Value| policy(spec).spec.policy_types;
        assert_eq!(types(json!({})), ["Ingress".into()]);
        assert_eq!(types(json!({"egress": [{}]})), ["Ingress".into(), "Egress".into()]);
        assert_eq!(types(json!({"egress": [{}], "policyTypes": ["Egress"]})), ["Egress".into()]);
    }
}
