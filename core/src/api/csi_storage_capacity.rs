//! CSIStorageCapacity: how much room a storage driver has for volumes of a class.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::StorageV1;
use crate::api::columns::{self, NAME, column};
use crate::api::rules;
use crate::api::wire;
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::quantity::Quantity;
use crate::selector::LabelSelector;
use crate::validation::names::is_dns1123_subdomain;
use crate::validation::{ErrorList, NameRule, Path, Report, validate_label_selector};

/// How much room a storage driver has for volumes of a class, where some nodes can reach them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[allow(clippy::upper_case_acronyms, reason = "upstream's name of the kind")]
pub struct CSIStorageCapacity {
    /// Version of the API.
    #[serde(default)]
    pub api_version: StorageV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The nodes that can reach the volumes; none if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_topology: Option<LabelSelector>,
    /// The class.
    #[serde(default)]
    pub storage_class_name: String,
    /// How much is free, for volumes of any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// The largest volume that can be made; `capacity` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_volume_size: Option<Quantity>,
}

kind!(CSIStorageCapacity, "storage.k8s.io"/v1, "csistoragecapacities", singular "csistoragecapacity", Namespaced, short [], categories [], subresources []);

const COLUMNS: &[Column] =
    &[NAME, column("StorageClassName", "string", "The class."), column("Capacity", "string", "How much is free.")];

impl CSIStorageCapacity {
    /// The largest volume that can be made now, in bytes; `None` if that is not known.
    pub fn largest(&self) -> Option<i64> {
        self.maximum_volume_size.as_ref().or(self.capacity.as_ref()).map(Quantity::value)
    }
}

impl Kind for CSIStorageCapacity {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        validate_label_selector(self.node_topology.as_ref(), &Path::new("nodeTopology"), &mut errors);
        let at = Path::new("storageClassName");
        errors.invalid_each(&at, &self.storage_class_name, is_dns1123_subdomain(&self.storage_class_name));
        for (name, amount) in [("capacity", &self.capacity), ("maximumVolumeSize", &self.maximum_volume_size)] {
            if let Some(amount) = amount.as_ref().filter(|amount| amount.value() < 0) {
                errors.invalid(&Path::new(name), amount.to_string(), "must be greater than or equal to 0");
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        errors.immutable(&Path::new("nodeTopology"), &self.node_topology, &old.node_topology);
        errors.immutable(&Path::new("storageClassName"), &self.storage_class_name, &old.storage_class_name);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let capacity = self.capacity.as_ref().map_or_else(|| "<unset>".to_owned(), Quantity::to_string);
        vec![columns::name(&self.metadata), self.storage_class_name.as_str().into(), capacity.into()]
    }
}
