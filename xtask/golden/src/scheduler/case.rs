//! The input of a case, and the cluster that it describes.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::api::{
    CSIDriver, CSINode, CSIStorageCapacity, Namespace, Node, PersistentVolume, PersistentVolumeClaim,
    PodDisruptionBudget, ReplicaSet, ReplicationController, Service, StatefulSet, StorageClass,
};
use longshore_core::kind::Kind;
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::{Engine, Profile};
use serde::Deserialize;
use serde_json::Value;

/// One line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) family: String,
    namespaces: Vec<Namespace>,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    nominated_pods: Vec<Pod>,
    services: Vec<Service>,
    replication_controllers: Vec<ReplicationController>,
    replica_sets: Vec<ReplicaSet>,
    stateful_sets: Vec<StatefulSet>,
    persistent_volumes: Vec<PersistentVolume>,
    persistent_volume_claims: Vec<PersistentVolumeClaim>,
    storage_classes: Vec<StorageClass>,
    csi_nodes: Vec<CSINode>,
    csi_drivers: Vec<CSIDriver>,
    csi_storage_capacities: Vec<CSIStorageCapacity>,
    pod_disruption_budgets: Vec<PodDisruptionBudget>,
    pub(super) pod: Pod,
    pub(super) expect: Value,
}

impl Case {
    /// Reads a line. Pods have no uid there: it is their namespace and name.
    pub(super) fn read(line: &str) -> Result<Self, serde_json::Error> {
        let mut case: Self = serde_json::from_str(line)?;
        for pod in case.pods.iter_mut().chain(&mut case.nominated_pods).chain([&mut case.pod]) {
            let meta = &mut pod.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            let uid = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
            meta.uid.get_or_insert(uid);
        }
        Ok(case)
    }

    /// An engine over the cluster of the case.
    pub(super) fn engine(&self) -> Engine {
        let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::ByName);
        let cluster = engine.cluster_mut();
        for namespace in &self.namespaces {
            let meta = &namespace.metadata;
            let labels = meta.labels.clone().unwrap_or_default();
            cluster.put_namespace(meta.name.as_deref().unwrap_or_default(), &labels);
        }
        for node in &self.nodes {
            cluster.put_node(Arc::new(node.clone()));
        }
        for pod in &self.pods {
            cluster.put_pod(Arc::new(pod.clone()));
        }
        for pod in &self.nominated_pods {
            if let Some(node) = cluster.node_id(&pod.status.nominated_node_name) {
                cluster.nominate(Arc::new(pod.clone()), node);
            }
        }
        put(&mut engine, &self.services);
        put(&mut engine, &self.replication_controllers);
        put(&mut engine, &self.replica_sets);
        put(&mut engine, &self.stateful_sets);
        put(&mut engine, &self.persistent_volumes);
        put(&mut engine, &self.persistent_volume_claims);
        put(&mut engine, &self.storage_classes);
        put(&mut engine, &self.csi_nodes);
        put(&mut engine, &self.csi_drivers);
        put(&mut engine, &self.csi_storage_capacities);
        put(&mut engine, &self.pod_disruption_budgets);
        engine
    }
}

fn put<K: Kind>(engine: &mut Engine, objects: &[K]) {
    for object in objects {
        engine.cluster_mut().put_object(Arc::new(object.clone()));
    }
}
