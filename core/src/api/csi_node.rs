//! CSINode: the storage drivers that run on a node.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::StorageV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire;
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::{is_dns1123_subdomain, is_qualified_name};
use crate::validation::{ErrorList, NameRule, Path, Report};

/// Longest identifier by which a driver knows a node.
const NODE_ID_MAX: usize = 192;
/// Longest name of a driver.
pub(super) const DRIVER_NAME_MAX: usize = 63;

/// The storage drivers that run on the node of the same name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[allow(clippy::upper_case_acronyms, reason = "upstream's name of the kind")]
pub struct CSINode {
    /// Version of the API.
    #[serde(default)]
    pub api_version: StorageV1,
    /// Name, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The drivers.
    #[serde(default)]
    pub spec: CSINodeSpec,
}

/// The storage drivers that run on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CSINodeSpec {
    /// The drivers.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub drivers: Vec<CSINodeDriver>,
}

/// A storage driver on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CSINodeDriver {
    /// The driver's name.
    #[serde(default)]
    pub name: String,
    /// What the driver calls the node.
    #[serde(rename = "nodeID", default)]
    pub node_id: String,
    /// Labels of the node that say where the driver's volumes can be reached from.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub topology_keys: Vec<String>,
    /// How many volumes the driver can attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable: Option<VolumeNodeResources>,
}

/// How many volumes a driver can attach to a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeNodeResources {
    /// The most; any number if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
}

kind!(CSINode, "storage.k8s.io"/v1, "csinodes", singular "csinode", Cluster, short [], categories [], subresources []);

const COLUMNS: &[Column] = &[NAME, column("Drivers", "integer", "How many storage drivers run on the node."), AGE];

impl CSINode {
    /// How many volumes of this driver the node can have; `None` for any number.
    pub fn limit(&self, driver: &str) -> Option<i32> {
        let driver = self.spec.drivers.iter().find(|known| known.name == driver)?;
        driver.allocatable.as_ref()?.count
    }
}

/// Upstream's rule for names of drivers.
pub(super) fn validate_driver_name(name: &str, at: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(at, "");
    }
    if name.len() > DRIVER_NAME_MAX {
        errors.too_long(at, DRIVER_NAME_MAX);
    }
    errors.invalid_each(at, name, is_dns1123_subdomain(&name.to_lowercase()));
}

fn validate_driver(driver: &CSINodeDriver, at: &Path, errors: &mut ErrorList) {
    validate_driver_name(&driver.name, &at.child("name"), errors);
    let id = at.child("nodeID");
    if driver.node_id.is_empty() {
        errors.required(&id, driver.node_id.as_str());
    }
    if driver.node_id.len() > NODE_ID_MAX {
        errors.invalid(&id, driver.node_id.as_str(), format!("must be {NODE_ID_MAX} characters or less"));
    }
    if let Some(count) =
        driver.allocatable.as_ref().and_then(|allocatable| allocatable.count).filter(|count| *count < 0)
    {
        errors.invalid(&at.child("allocatable").child("count"), count, "must be greater than or equal to 0");
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, key) in driver.topology_keys.iter().enumerate() {
        let at = at.child("topologyKeys").index(index);
        if !seen.insert(key) {
            errors.duplicate(&at, key.as_str());
        }
        errors.invalid_each(&at, key, is_qualified_name(key));
    }
}

fn validate_spec(spec: &CSINodeSpec, errors: &mut ErrorList) {
    let at = Path::new("spec").child("drivers");
    let mut seen = std::collections::BTreeSet::new();
    for (index, driver) in spec.drivers.iter().enumerate() {
        validate_driver(driver, &at.index(index), errors);
        if !seen.insert(&driver.name) {
            errors.duplicate(&at.index(index).child("name"), driver.name.as_str());
        }
    }
}

impl Kind for CSINode {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        validate_spec(&self.spec, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        validate_spec(&self.spec, &mut errors);
        // A driver may come, go, and change its number of volumes, but is otherwise what it was.
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            let known = old.spec.drivers.iter().find(|known| known.name == driver.name);
            let same =
                |known: &CSINodeDriver| known.node_id == driver.node_id && known.topology_keys == driver.topology_keys;
            if known.is_some_and(|known| !same(known)) {
                let at = Path::new("spec").child("drivers").index(index);
                errors.invalid(&at, driver.name.as_str(), "field is immutable");
            }
        }
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![columns::name(&self.metadata), self.spec.drivers.len().into(), columns::age(&self.metadata, now)]
    }
}
