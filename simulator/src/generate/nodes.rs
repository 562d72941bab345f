//! Nodes by kinds and counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::quantity::{Format, Quantity};
use serde::{Deserialize, Serialize};

use crate::objects;
use crate::openb::Machine;
use crate::workload::{Event, What};

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Equal nodes, there from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nodes {
    /// What their names begin with; other nodes of the workload must have another one.
    #[serde(default = "node")]
    pub name: String,
    /// How many.
    pub count: u32,
    /// Cores of each.
    pub cpu: Quantity,
    /// Of each.
    pub memory: Quantity,
    /// The most pods of each.
    #[serde(default = "pods")]
    pub pods: u32,
    /// How many GPUs each has.
    #[serde(default)]
    pub gpus: u16,
    /// Their model.
    #[serde(default)]
    pub gpu_model: String,
    /// What else each has.
    #[serde(default)]
    pub resources: BTreeMap<String, Quantity>,
    /// Labels of each.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How many zones they are spread over, one after another.
    #[serde(default)]
    pub zones: u32,
}

fn node() -> String {
    "node".to_owned()
}

fn pods() -> u32 {
    110
}

impl Nodes {
    pub(crate) fn events(self) -> impl Iterator<Item = Event> + Send {
        (0..self.count).map(move |number| Event { at: Duration::ZERO, what: What::Node(Arc::new(self.node(number))) })
    }

    fn node(&self, number: u32) -> longshore_core::api::Node {
        let name = format!("{}-{number}", self.name);
        let gpus = i64::from(self.gpus);
        let model = self.gpu_model.clone();
        let mut node = objects::node(&Machine { name: name.clone(), milli_cpu: 0, memory_mib: 0, gpus, model });
        let has = &mut node.status.allocatable;
        has.insert("cpu".to_owned(), self.cpu.clone());
        has.insert("memory".to_owned(), self.memory.clone());
        has.insert("pods".to_owned(), Quantity::from_value(i64::from(self.pods), Format::DecimalSi));
        has.extend(self.resources.iter().map(|(name, amount)| (name.clone(), amount.clone())));
        let labels = node.metadata.labels.get_or_insert_default();
        labels.insert(HOST.to_owned(), name);
        if let Some(zone) = number.checked_rem(self.zones) {
            labels.insert(ZONE.to_owned(), format!("zone-{zone}"));
        }
        labels.extend(self.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        node
    }
}
