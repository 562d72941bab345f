//! What a service gets that its author left out.

use super::{
    ClientIpConfig, Service, ServiceAffinity, ServiceExternalTrafficPolicy, ServiceInternalTrafficPolicy, ServiceType,
};
use crate::int_or_string::IntOrString;

/// How long a client stays with its pod unless told otherwise: three hours.
const CLIENT_IP_TIMEOUT_SECONDS: i32 = 10_800;

pub(super) fn set_defaults(service: &mut Service) {
    let spec = &mut service.spec;
    if spec.session_affinity.is_unset() {
        spec.session_affinity = ServiceAffinity::None;
    }
    match spec.session_affinity {
        ServiceAffinity::None => spec.session_affinity_config = None,
        ServiceAffinity::ClientIP => {
            let client_ip = spec.session_affinity_config.get_or_insert_default().client_ip.get_or_insert_default();
            if client_ip.timeout_seconds.is_none() {
                *client_ip = ClientIpConfig { timeout_seconds: Some(CLIENT_IP_TIMEOUT_SECONDS) };
            }
        }
        _ => {}
    }
    if spec.type_.is_unset() {
        spec.type_ = ServiceType::ClusterIP;
    }
    for port in &mut spec.ports {
        port.protocol.set_default();
        if matches!(&port.target_port, IntOrString::Int(0)) || port.target_port == IntOrString::String(String::new()) {
            port.target_port = IntOrString::Int(port.port);
        }
    }
    let balanced = spec.type_ == ServiceType::LoadBalancer;
    let node_port = spec.type_ == ServiceType::NodePort;
    let cluster_ip = spec.type_ == ServiceType::ClusterIP;
    let external = balanced || node_port || (cluster_ip && !spec.external_ips.is_empty());
    if external && spec.external_traffic_policy.is_unset() {
        spec.external_traffic_policy = ServiceExternalTrafficPolicy::Cluster;
    }
    if balanced || node_port || cluster_ip {
        spec.internal_traffic_policy.get_or_insert(ServiceInternalTrafficPolicy::Cluster);
    }
    if balanced {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
        for point in service.status.load_balancer.ingress.iter_mut().filter(|point| !point.ip.is_empty()) {
            point.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: Value) {
        let mut service: Service = serde_json::from_value(json!({ "spec": spec })).unwrap();
        set_defaults(&mut service);
        assert_eq!(serde_json::to_value(&service.spec).unwrap(), expected);
    }

    #[test]
    fn ports_type_and_policies_are_filled_in() {
        check(
            json!({ "ports": [{ "port": 80 }] }),
            json!({ "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }], "type": "ClusterIP",
                    "sessionAffinity": "None", "internalTrafficPolicy": "Cluster" }),
        );
        check(
            json!({ "type": "LoadBalancer", "sessionAffinity": "ClientIP" }),
            json!({ "type": "LoadBalancer", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                    "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10800 } },
                    "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true }),
        );
        check(json!({ "type": "ExternalName" }), json!({ "type": "ExternalName", "sessionAffinity": "None" }));
    }

    #[test]
    fn a_useless_affinity_config_goes() {
        check(
            json!({ "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 5 } }, "externalIPs": ["1.2.3.4"] }),
            json!({ "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                    "externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Cluster" }),
        );
    }
}
