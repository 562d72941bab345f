//! How `kubectl get services` shows a service.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{LoadBalancerStatus, Service, ServicePort, ServiceType};
use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::kind::Column;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How the service can be reached."),
    column("Cluster-IP", "string", "Address inside the cluster."),
    column("External-IP", "string", "Addresses outside the cluster."),
    column("Port(s)", "string", "Ports, node ports behind a colon."),
    AGE,
    wide("Selector", "string", "Labels of the pods behind the service."),
];

pub(super) fn row(service: &Service, now: Timestamp) -> Vec<Value> {
    let spec = &service.spec;
    vec![
        columns::name(&service.metadata),
        spec.type_.as_str().into(),
        spec.cluster_ips.first().map_or("<none>", String::as_str).into(),
        external_ip(service).into(),
        or_none(spec.ports.iter().map(port).collect::<Vec<_>>().join(",")).into(),
        columns::age(&service.metadata, now),
        columns::labels(&spec.selector).into(),
    ]
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn port(port: &ServicePort) -> String {
    let ServicePort { port, node_port, protocol, .. } = port;
    if *node_port > 0 { format!("{port}:{node_port}/{protocol}") } else { format!("{port}/{protocol}") }
}

fn external_ip(service: &Service) -> String {
    let external_ips = service.spec.external_ips.join(",");
    match service.spec.type_ {
        ServiceType::ClusterIP | ServiceType::NodePort => or_none(external_ips),
        ServiceType::LoadBalancer => match (balancer(&service.status.load_balancer), external_ips) {
            (balancer, none) if none.is_empty() => {
                if balancer.is_empty() {
                    "<pending>".to_owned()
                } else {
                    balancer
                }
            }
            (balancer, own) if balancer.is_empty() => own,
            (balancer, own) => format!("{balancer},{own}"),
        },
        ServiceType::ExternalName => service.spec.external_name.clone(),
        _ => "<unknown>".to_owned(),
    }
}

fn balancer(status: &LoadBalancerStatus) -> String {
    let points = status.ingress.iter().map(|point| if point.ip.is_empty() { &*point.hostname } else { &*point.ip });
    points.filter(|point| !point.is_empty()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Value, cells: [&str; 7]) {
        let service: Service = serde_json::from_value(object).unwrap();
        assert_eq!(row(&service, Timestamp::UNIX_EPOCH), cells);
    }

    #[test]
    fn cells_by_type() {
        check(
            json!({ "metadata": { "name": "web", "creationTimestamp": "1969-12-31T23:55:00Z" },
                    "spec": { "type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": { "b": "2", "a": "1" },
                              "ports": [{ "port": 80, "nodePort": 30080, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }] } }),
            ["web", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "5m", "a=1,b=2"],
        );
        check(
            json!({ "spec": { "type": "LoadBalancer" } }),
            ["", "LoadBalancer", "<none>", "<pending>", "<none>", "<unknown>", "<none>"],
        );
        check(
            json!({ "spec": { "type": "LoadBalancer", "externalIPs": ["9.9.9.9"] },
                    "status": { "loadBalancer": { "ingress": [{ "ip": "2.2.2.2" }, { "hostname": "a.example" }] } } }),
            ["", "LoadBalancer", "<none>", "2.2.2.2,a.example,9.9.9.9", "<none>", "<unknown>", "<none>"],
        );
        check(
            json!({ "spec": { "type": "ExternalName", "externalName": "db.example" } }),
            ["", "ExternalName", "<none>", "db.example", "<none>", "<unknown>", "<none>"],
        );
    }
}
