//! Ingress: rules for HTTP traffic from outside. A plain type: Longshore does not serve it yet.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{NetworkingV1, Protocol, TypedLocalObjectReference};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule};

/// Rules by which HTTP traffic from outside reaches services.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Ingress {
    /// Version of the API.
    #[serde(default)]
    pub api_version: NetworkingV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The rules.
    #[serde(default)]
    pub spec: IngressSpec,
    /// Where the traffic enters.
    #[serde(default)]
    pub status: IngressStatus,
}

/// Rules by which HTTP traffic reaches services.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// Who should carry the rules out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_class_name: Option<String>,
    /// Where traffic goes that no rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_backend: Option<IngressBackend>,
    /// Certificates by host.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub tls: Vec<IngressTls>,
    /// Rules by host; the first that matches counts.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<IngressRule>,
}

/// A certificate for some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// Hosts in the certificate.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub hosts: Vec<String>,
    /// Secret that holds the certificate and its key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secret_name: String,
}

/// Paths of one host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// The host, possibly with a leading wildcard; empty means any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host: String,
    /// Paths and where they lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpIngressRuleValue>,
}

/// Paths and where they lead.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpIngressRuleValue {
    /// The paths.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub paths: Vec<HttpIngressPath>,
}

/// One path and where it leads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpIngressPath {
    /// The path, beginning with a slash.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: String,
    /// How the path is compared: `Exact`, `Prefix` or `ImplementationSpecific`.
    #[serde(default)]
    pub path_type: Option<String>,
    /// Where it leads.
    #[serde(default)]
    pub backend: IngressBackend,
}

/// A service, or another object, that takes traffic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressBackend {
    /// A service of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<IngressServiceBackend>,
    /// Another object of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<TypedLocalObjectReference>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressServiceBackend {
    /// Name of the service.
    #[serde(default)]
    pub name: String,
    /// Which of its ports.
    #[serde(default)]
    pub port: ServiceBackendPort,
}

/// A port of a service, by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ServiceBackendPort {
    /// Name of the port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Number of the port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub number: i32,
}

/// Where the traffic enters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressStatus {
    /// The load balancer.
    #[serde(default)]
    pub load_balancer: IngressLoadBalancerStatus,
}

/// Points at which a load balancer takes traffic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressLoadBalancerStatus {
    /// The points.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ingress: Vec<IngressLoadBalancerIngress>,
}

/// One point at which a load balancer takes traffic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressLoadBalancerIngress {
    /// Its address.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ip: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// Its ports.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<IngressPortStatus>,
}

/// One port of a load balancer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressPortStatus {
    /// Port number.
    #[serde(default)]
    pub port: i32,
    /// Protocol of the port.
    #[serde(default)]
    pub protocol: Protocol,
    /// What is wrong with the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

crate::kind!(Ingress, "networking.k8s.io"/v1, "ingresses", singular "ingress", Namespaced, short ["ing"], categories [], subresources [Status]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Class", "string", "The ingress class that carries the rules out."),
    column("Hosts", "string", "Hosts that the rules name."),
    column("Address", "string", "Where the traffic enters."),
    column("Ports", "string", "Ports that take the traffic."),
    AGE,
];

impl Ingress {
    fn hosts(&self) -> String {
        const SHOWN: usize = 3;
        let hosts: Vec<&str> = self.spec.rules.iter().map(|rule| &*rule.host).filter(|host| !host.is_empty()).collect();
        match hosts.len() {
            0 => "*".to_owned(),
            count if count > SHOWN => format!("{} + {} more...", hosts[..SHOWN].join(","), count - SHOWN),
            _ => hosts.join(","),
        }
    }

    fn addresses(&self) -> String {
        let points = self.status.load_balancer.ingress.iter();
        let mut addresses: Vec<&str> =
            points.map(|point| if point.ip.is_empty() { &*point.hostname } else { &*point.ip }).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.join(",")
    }
}

impl Kind for Ingress {
    fn prepare_for_create(&mut self) {
        self.status = IngressStatus::default();
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        if subresource == Some(Subresource::Status) {
            self.spec = old.spec.clone();
        } else {
            self.status = old.status.clone();
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
    }

    fn validate(&self) -> ErrorList {
        rules::validate(self, NameRule::DnsSubdomain)
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        rules::validate_update(self, old)
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let class = self.spec.ingress_class_name.as_deref().unwrap_or("<none>");
        let ports = if self.spec.tls.is_empty() { "80" } else { "80, 443" };
        vec![
            columns::name(&self.metadata),
            class.into(),
            self.hosts().into(),
            self.addresses().into(),
            ports.into(),
            columns::age(&self.metadata, now),
        ]
    }
}
