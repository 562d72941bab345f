//! Endpoints: the addresses behind a service, all in one object.

mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ObjectReference, Protocol, V1};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path};

/// The addresses behind a service. Slices ([`EndpointSlice`](super::EndpointSlice)) are the newer form.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Endpoints {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// Groups of addresses that offer the same ports.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub subsets: Vec<EndpointSubset>,
}

/// Addresses that all offer the same ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSubset {
    /// Addresses that take traffic.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<EndpointAddress>,
    /// Addresses that do not take traffic now.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub not_ready_addresses: Vec<EndpointAddress>,
    /// Ports that every address offers.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<EndpointPort>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct EndpointAddress {
    /// The IP address; not loopback, link-local or multicast.
    #[serde(default)]
    pub ip: String,
    /// Host name of the endpoint.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// The node that hosts the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The object, usually a pod, behind the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct EndpointPort {
    /// The name of the service's port; may be empty only if there is just one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Port number.
    #[serde(default)]
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`; `TCP` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// What is spoken on the port, as a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

kind!(Endpoints, v1, "endpoints", singular "endpoints", Namespaced, short ["ep"], categories [], subresources []);

const COLUMNS: &[Column] =
    &[NAME, column("Endpoints", "string", "The first addresses that take traffic, with their ports."), AGE];

/// How many addresses are shown before the rest is only counted.
const SHOWN: usize = 3;

impl Endpoints {
    fn cell(&self) -> String {
        if self.subsets.is_empty() {
            return "<none>".to_owned();
        }
        let mut all = Vec::new();
        for subset in &self.subsets {
            let addresses = subset.addresses.iter().map(|address| address.ip.as_str());
            if subset.ports.is_empty() {
                all.extend(addresses.clone().map(str::to_owned));
            }
            for port in &subset.ports {
                all.extend(addresses.clone().map(|ip| host_port(ip, port.port)));
            }
        }
        let more = all.len().saturating_sub(SHOWN);
        all.truncate(SHOWN);
        let shown = all.join(",");
        if more == 0 { shown } else { format!("{shown} + {more} more...") }
    }
}

fn host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

impl Kind for Endpoints {
    fn set_defaults(&mut self) {
        for port in self.subsets.iter_mut().flat_map(|subset| &mut subset.ports) {
            port.protocol.set_default();
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        validation::validate_subsets(&self.subsets, &Path::new("subsets"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        errors.extend(self.validate());
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![columns::name(&self.metadata), self.cell().into(), columns::age(&self.metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cell_shows_three_and_counts_the_rest() {
        let subset = |ips: &[&str], ports: &[i32]| EndpointSubset {
            addresses: ips.iter().map(|ip| EndpointAddress { ip: (*ip).into(), ..Default::default() }).collect(),
            ports: ports.iter().map(|&port| EndpointPort { port, ..Default::default() }).collect(),
            ..Default::default()
        };
        let cell = |subsets| Endpoints { subsets, ..Default::default() }.cell();
        assert_eq!(cell(vec![]), "<none>");
        assert_eq!(cell(vec![subset(&["10.0.0.1"], &[])]), "10.0.0.1");
        assert_eq!(cell(vec![subset(&["fd00::1"], &[80])]), "[fd00::1]:80");
        let two_by_two = subset(&["10.0.0.1", "10.0.0.2"], &[80, 443]);
        assert_eq!(cell(vec![two_by_two]), "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more...");
    }
}
