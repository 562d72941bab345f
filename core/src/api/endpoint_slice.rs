//! EndpointSlice: some of the addresses behind a service.

mod validation;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{DiscoveryV1, ObjectReference, Protocol};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// Some of the addresses behind a service, all of one family.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Version of the API.
    #[serde(default)]
    pub api_version: DiscoveryV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the addresses are: `IPv4`, `IPv6` or `FQDN`. Cannot change.
    #[serde(default)]
    pub address_type: AddressType,
    /// The endpoints, at most 1000.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub endpoints: Vec<Endpoint>,
    /// The ports that every endpoint offers, at most 100.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<EndpointPort>,
}

/// One endpoint, usually a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses of the endpoint; consumers use only the first.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Vec<String>,
    /// Whether the endpoint takes traffic.
    #[serde(default)]
    pub conditions: EndpointConditions,
    /// Host name of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The object behind the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
    /// Topology labels of the older API, read only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deprecated_topology: BTreeMap<String, String>,
    /// The node that hosts the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The zone in which the endpoint is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Who should use the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<EndpointHints>,
}

/// Whether an endpoint takes traffic. Unset means unknown, which consumers read as the usual case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointConditions {
    /// Whether it takes new traffic: serving and not terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Whether it is able to answer, even while terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Whether it is on its way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

/// Who should use an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointHints {
    /// Zones whose clients should use it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub for_zones: Vec<ForZone>,
    /// Nodes whose clients should use it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub for_nodes: Vec<ForNode>,
}

/// A zone that should use an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForZone {
    /// Name of the zone.
    #[serde(default)]
    pub name: String,
}

/// A node that should use an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForNode {
    /// Name of the node.
    #[serde(default)]
    pub name: String,
}

/// A port that every endpoint of a slice offers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct EndpointPort {
    /// Name of the service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`; `TCP` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Port number; unset means all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// What is spoken on the port, as a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

string_enum! {
    /// What the addresses of a slice are.
    pub enum AddressType {
        /// IPv4 addresses.
        IPv4,
        /// IPv6 addresses.
        IPv6,
        /// Domain names.
        Fqdn = "FQDN",
    }
}

kind!(EndpointSlice, "discovery.k8s.io"/v1, "endpointslices", singular "endpointslice", Namespaced, short [], categories [], subresources []);

const COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", "What the addresses are."),
    column("Ports", "string", "The first ports."),
    column("Endpoints", "string", "The first addresses."),
    AGE,
];

fn list_cell(items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 3;
    let items: Vec<String> = items.collect();
    let shown = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    match items.len().saturating_sub(SHOWN) {
        0 if shown.is_empty() => "<unset>".to_owned(),
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

impl Kind for EndpointSlice {
    fn set_defaults(&mut self) {
        for port in &mut self.ports {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert(Protocol::Tcp);
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        for endpoint in &mut self.endpoints {
            endpoint.deprecated_topology.clear();
        }
    }

    fn prepare_for_update(&mut self, old: &Self, _subresource: Option<Subresource>) {
        let changed =
            self.address_type != old.address_type || self.endpoints != old.endpoints || self.ports != old.ports;
        rules::set_generation(&mut self.metadata, &old.metadata, changed);
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        validation::validate_update(self, old)
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let ports = self.ports.iter().map(|port| match (port.port, &port.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        });
        let addresses = self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().cloned());
        vec![
            columns::name(&self.metadata),
            self.address_type.as_str().into(),
            list_cell(ports).into(),
            list_cell(addresses).into(),
            columns::age(&self.metadata, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_show_three_and_count_the_rest() {
        let cell = |items: &[&str]| list_cell(items.iter().map(|item| (*item).to_owned()));
        assert_eq!(cell(&[]), "<unset>");
        assert_eq!(cell(&["a", "b", "c"]), "a,b,c");
        assert_eq!(cell(&["a", "b", "c", "d", "e"]), "a,b,c + 2 more...");
    }
}
