//! Service: one address for a group of pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::wire::{self, is_default};
use crate::api::{Protocol, V1};
use crate::int_or_string::IntOrString;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// One stable address for a group of pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Service {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the service should be.
    #[serde(default)]
    pub spec: ServiceSpec,
    /// What was made of it.
    #[serde(default)]
    pub status: ServiceStatus,
}

/// What a service should be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Ports that the service offers.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "port", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port", "protocol"]))]
    pub ports: Vec<ServicePort>,
    /// Labels of the pods behind the service; empty means that somebody else keeps its endpoints.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub selector: BTreeMap<String, String>,
    /// Address inside the cluster; given by the system if empty, `None` for a headless service. Cannot change.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "is_default")]
    pub cluster_ip: String,
    /// All addresses inside the cluster, one a family; the first equals `clusterIP`.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub cluster_ips: Vec<String>,
    /// How the service can be reached; `ClusterIP` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub type_: ServiceType,
    /// Addresses whose traffic nodes take for the service, though the system does not manage them.
    #[serde(rename = "externalIPs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub external_ips: Vec<String>,
    /// `ClientIP` keeps a client with one pod; `None` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session_affinity: ServiceAffinity,
    /// Address asked of the load balancer. Deprecated.
    #[serde(rename = "loadBalancerIP", default, skip_serializing_if = "is_default")]
    pub load_balancer_ip: String,
    /// Ranges of clients that the load balancer lets through.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub load_balancer_source_ranges: Vec<String>,
    /// Name to which DNS refers, for type `ExternalName`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub external_name: String,
    /// Whether traffic from outside goes to pods of all nodes (`Cluster`) or only of the node it entered (`Local`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub external_traffic_policy: ServiceExternalTrafficPolicy,
    /// Port on which nodes say whether they have local pods; given by the system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health_check_node_port: i32,
    /// Whether names resolve to pods that are not ready too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub publish_not_ready_addresses: bool,
    /// Details of session affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// `IPv4` or `IPv6`, in the order of `clusterIPs`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ip_families: Vec<String>,
    /// Whether one or two address families are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Whether a load balancer's ports get node ports too; true if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Who should make the load balancer. Can be set only when the type becomes `LoadBalancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
    /// Whether traffic from inside goes to pods of all nodes (`Cluster`) or only of its own (`Local`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<ServiceInternalTrafficPolicy>,
    /// A wish as to which pods traffic prefers, such as `PreferSameZone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name of the port; needed if there are several.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`; `TCP` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "TCP"))]
    pub protocol: Protocol,
    /// What is spoken on the port, as a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Port number that clients use.
    #[serde(default)]
    pub port: i32,
    /// Number or name of the pods' port; the same as `port` if unset.
    #[serde(default)]
    pub target_port: IntOrString,
    /// Port on every node, for types `NodePort` and `LoadBalancer`; given by the system if 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_port: i32,
}

/// Details of session affinity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    /// Details of affinity by client address.
    #[serde(rename = "clientIP", default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<ClientIpConfig>,
}

/// Details of affinity by client address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// How long a client stays with its pod, in seconds; 10800 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
}

/// What was made of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The load balancer.
    #[serde(default)]
    pub load_balancer: LoadBalancerStatus,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Points at which a load balancer takes traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// The points.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One point at which a load balancer takes traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    /// Its address.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ip: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// `VIP` if traffic arrives with the balancer's address as its destination, `Proxy` if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_mode: Option<String>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<PortStatus>,
}

/// One port of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
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

string_enum! {
    /// How a service can be reached.
    pub enum ServiceType {
        /// From inside the cluster.
        ClusterIP,
        /// From outside too, through a port of every node.
        NodePort,
        /// From outside too, through a load balancer.
        LoadBalancer,
        /// It is only another name for something outside.
        ExternalName,
    }
}

string_enum! {
    /// Whether a client stays with one pod.
    pub enum ServiceAffinity {
        /// By the client's address.
        ClientIP,
        /// Not at all.
        None,
    }
}

string_enum! {
    /// Where traffic from outside the cluster may go.
    pub enum ServiceExternalTrafficPolicy {
        /// To pods of all nodes.
        Cluster,
        /// To pods of the node that it entered.
        Local,
    }
}

string_enum! {
    /// Where traffic from inside the cluster may go.
    pub enum ServiceInternalTrafficPolicy {
        /// To pods of all nodes.
        Cluster,
        /// To pods of the node that it comes from.
        Local,
    }
}

string_enum! {
    /// How many address families a service has.
    pub enum IpFamilyPolicy {
        /// One.
        SingleStack,
        /// Two if the cluster has two.
        PreferDualStack,
        /// Two, or the service is refused.
        RequireDualStack,
    }
}

mod columns;
mod defaults;
mod update;
mod validation;

kind!(Service, v1, "services", singular "service", Namespaced, short ["svc"], categories ["all"], subresources [Status]);

/// The `clusterIP` of a service that has no address of its own.
pub const CLUSTER_IP_NONE: &str = "None";

impl Service {
    /// What is wrong with the service's addresses and families, alone and against each other. Whoever gives it addresses asks before,
    /// as upstream does.
    pub fn validate_cluster_ips(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::validate_cluster_ips(self, &mut errors);
        errors
    }
}

impl Kind for Service {
    fn set_defaults(&mut self) {
        defaults::set_defaults(self);
    }

    fn prepare_for_create(&mut self) {
        self.status = ServiceStatus::default();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            None => self.status = old.status.clone(),
            Some(_) => self.spec = old.spec.clone(),
        }
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        match subresource {
            None => update::validate_update(self, old),
            Some(_) => update::validate_status_update(self, old),
        }
    }

    fn columns() -> &'static [Column] {
        self::columns::COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        self::columns::row(self, now)
    }

    fn field(&self, label: &str) -> Option<String> {
        match label {
            "spec.clusterIP" => Some(self.spec.cluster_ip.clone()),
            "spec.type" => Some(self.spec.type_.to_string()),
            _ => None,
        }
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }
}
