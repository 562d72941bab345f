//! NetworkPolicy: who may reach a group of pods, and whom these may reach.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{NetworkingV1, Protocol};
use crate::int_or_string::IntOrString;
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// Who may reach a group of pods, and whom these may reach.
///
/// A pod that no policy selects takes and sends everything. One that some do is isolated in the directions that they name:
/// what none of them allows is dropped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Version of the API.
    #[serde(default)]
    pub api_version: NetworkingV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The rules.
    #[serde(default)]
    pub spec: NetworkPolicySpec,
}

/// Who may reach a group of pods, and whom these may reach.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// The pods of the policy's namespace that it is about; empty means all.
    #[serde(default)]
    pub pod_selector: LabelSelector,
    /// What may reach them: whatever one of the rules allows. Without rules nothing may.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    /// What they may reach: whatever one of the rules allows. Without rules, if `policyTypes` names `Egress`, nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub egress: Vec<NetworkPolicyEgressRule>,
    /// The directions that the policy is about; if unset `Ingress`, and `Egress` if there are rules for it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub policy_types: Vec<PolicyType>,
}

/// What may reach the pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyIngressRule {
    /// Ports of the pods; empty means all.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<NetworkPolicyPort>,
    /// From where; empty means anywhere.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<NetworkPolicyPeer>,
}

/// What the pods may reach.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyEgressRule {
    /// Ports at the other end; empty means all.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<NetworkPolicyPort>,
    /// Whereto; empty means anywhere.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub to: Vec<NetworkPolicyPeer>,
}

/// A port, or a range of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyPort {
    /// `TCP`, `UDP` or `SCTP`; `TCP` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Number of the port, or its name in the pods that take the traffic; all ports of the protocol if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<IntOrString>,
    /// Last port of the range that begins at `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
}

/// The other end of traffic: pods, or a range of addresses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyPeer {
    /// Pods with these labels, of the policy's namespace or of those that `namespaceSelector` selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Pods of namespaces with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// A range of addresses. Excludes the selectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpBlock {
    /// The range, such as `192.168.1.0/24`.
    #[serde(default)]
    pub cidr: String,
    /// Ranges within it that do not belong to it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub except: Vec<String>,
}

string_enum! {
    /// A direction of traffic.
    pub enum PolicyType {
        /// What reaches pods.
        Ingress,
        /// What pods reach.
        Egress,
    }
}

mod validation;

kind!(NetworkPolicy, "networking.k8s.io"/v1, "networkpolicies", singular "networkpolicy", Namespaced, short ["netpol"], categories [], subresources []);

const COLUMNS: &[Column] =
    &[NAME, column("Pod-Selector", "string", "Labels of the pods that the policy is about."), AGE];

impl Kind for NetworkPolicy {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        let of_ingress = spec.ingress.iter_mut().flat_map(|rule| &mut rule.ports);
        for port in of_ingress.chain(spec.egress.iter_mut().flat_map(|rule| &mut rule.ports)) {
            port.protocol.get_or_insert(Protocol::Tcp);
        }
        if spec.policy_types.is_empty() {
            spec.policy_types.push(PolicyType::Ingress);
            if !spec.egress.is_empty() {
                spec.policy_types.push(PolicyType::Egress);
            }
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _subresource: Option<Subresource>) {
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
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
        let selector = LabelSelector::format(Some(&self.spec.pod_selector));
        vec![columns::name(&self.metadata), selector.into(), columns::age(&self.metadata, now)]
    }
}
