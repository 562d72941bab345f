//! NodeVolumeLimits: how many volumes a storage driver can attach to a node.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::api::pod::helpers::{claim_name, owns_claim};
use longshore_core::api::pod::{Pod, Volume};
use longshore_core::api::{CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass};
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, PreFilter, Refusal, State, Update,
};

use super::storage;

/// Refuses nodes that would have more volumes of a driver than it can attach.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeVolumeLimits;

/// A volume as its driver knows it: the driver, and what it calls the volume.
type Handle = (String, String);

impl Policy for NodeVolumeLimits {
    fn name(&self) -> &str {
        "NodeVolumeLimits"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        let mut kinds = storage::kinds();
        kinds.push(KindType::of::<CSINode>());
        kinds
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodRemoved(gone) | ClusterEvent::PodForgotten(gone) => !gone.spec.volumes.is_empty(),
            _ => storage::is_own_claim(pod, event) || storage::changed::<CSINode>(event).is_some(),
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

/// Of a pod's or a claim's volume that was a plug-in's own in old times: the plug-in, its driver of today, and the volume's
/// handle. It counts where the node says that the plug-in has moved to the driver.
macro_rules! moved {
    ($volume:expr) => {{
        let volume = $volume;
        let disk = |plugin, driver, handle| Some((plugin, driver, handle));
        if let Some(source) = &volume.gce_persistent_disk {
            disk("kubernetes.io/gce-pd", "pd.csi.storage.gke.io", source.pd_name.as_str())
        } else if let Some(source) = &volume.aws_elastic_block_store {
            disk("kubernetes.io/aws-ebs", "ebs.csi.aws.com", source.volume_id.as_str())
        } else if let Some(source) = &volume.azure_disk {
            disk("kubernetes.io/azure-disk", "disk.csi.azure.com", source.disk_uri.as_str())
        } else if let Some(source) = &volume.cinder {
            disk("kubernetes.io/cinder", "cinder.csi.openstack.org", source.volume_id.as_str())
        } else if let Some(source) = &volume.vsphere_volume {
            disk("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com", source.volume_path.as_str())
        } else if let Some(source) = &volume.portworx_volume {
            disk("kubernetes.io/portworx-volume", "pxd.portworx.com", source.volume_id.as_str())
        } else {
            None
        }
    }};
}

/// The drivers of the plug-ins of old times, by the provisioner that classes name.
const MOVED_PROVISIONERS: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// Whether the node says that a plug-in has moved to its driver.
fn has_moved(node: &CSINode, plugin: &str) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    let moved = annotations.and_then(|all| all.get("storage.alpha.kubernetes.io/migrated-plugins"));
    moved.is_some_and(|moved| moved.split(',').any(|name| name == plugin))
}

/// What the driver of a claim's volume is, and what it calls the volume; `None` for volumes without a driver.
fn handle(cluster: &Cluster, node: &CSINode, claim: &PersistentVolumeClaim) -> Option<Handle> {
    let bound = Some(claim.spec.volume_name.as_str()).filter(|name| !name.is_empty());
    let Some(volume) = bound.and_then(|name| cluster.object::<PersistentVolume>("", name)) else {
        return future_handle(cluster, node, claim);
    };
    if let Some(csi) = &volume.spec.csi {
        return Some((csi.driver.clone(), csi.volume_handle.clone()));
    }
    let (plugin, driver, handle) = moved!(&volume.spec)?;
    has_moved(node, plugin).then(|| (driver.to_owned(), handle.to_owned()))
}

/// The volume that a claim will get from its class.
fn future_handle(cluster: &Cluster, node: &CSINode, claim: &PersistentVolumeClaim) -> Option<Handle> {
    // A claim without a class that is known is bound before its pod is placed.
    let class: &StorageClass = cluster.object("", claim.class()).filter(|_| !claim.class().is_empty())?;
    let meta = &claim.metadata;
    let name = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    // No driver has a handle that begins so.
    let handle = format!("\0{}/{}", name.0, name.1);
    match MOVED_PROVISIONERS.iter().find(|(plugin, _)| *plugin == class.provisioner) {
        Some((plugin, driver)) => has_moved(node, plugin).then(|| ((*driver).to_owned(), handle)),
        None => Some((class.provisioner.clone(), handle)),
    }
}

/// Adds the volumes of a pod that drivers attach. Claims of the pod's that are missing count for nothing.
fn add_volumes(cluster: &Cluster, node: &CSINode, pod: &Pod, to: &mut BTreeSet<Handle>) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for volume in &pod.spec.volumes {
        let Some(name) = claim_name(pod, volume) else {
            if let Some((_, driver, handle)) = moved!(volume).filter(|(plugin, ..)| has_moved(node, plugin)) {
                to.insert((driver.to_owned(), handle.to_owned()));
            }
            continue;
        };
        let claim = cluster.object::<PersistentVolumeClaim>(namespace, &name);
        let Some(claim) = claim.filter(|claim| volume.ephemeral.is_none() || owns_claim(pod, claim)) else { continue };
        let handle = handle(cluster, node, claim);
        to.extend(handle.filter(|(driver, volume)| !driver.is_empty() && !volume.is_empty()));
    }
}

impl NodeVolumeLimits {
    /// Whether the node's drivers can attach the pod's volumes beside those that are there.
    fn fits(cycle: Cycle<'_>, node: longshore_core::scheduling::NodeId) -> bool {
        let cluster = cycle.cluster();
        let Some(csi) = cluster.object::<CSINode>("", cluster.name(node)) else { return true };
        let mut new = BTreeSet::new();
        add_volumes(cluster, csi, cycle.pod(), &mut new);
        if !new.iter().any(|(driver, _)| csi.limit(driver).is_some()) {
            return true;
        }
        let mut attached = BTreeSet::new();
        for pod in cluster.pods_with_volumes_on(node) {
            add_volumes(cluster, csi, pod.pod(), &mut attached);
        }
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        // A volume of several pods is attached once.
        for (driver, _) in attached.union(&new) {
            *count.entry(driver).or_default() += 1;
        }
        let added: BTreeSet<&str> = new.difference(&attached).map(|(driver, _)| driver.as_str()).collect();
        added.into_iter().all(|driver| {
            let most = csi.limit(driver).map(|limit| usize::try_from(limit).unwrap_or(0));
            most.is_none_or(|most| count[driver] <= most)
        })
    }
}

impl Filter for NodeVolumeLimits {
    fn pre_filter(&self, cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        let counts = |volume: &Volume| {
            volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || moved!(volume).is_some()
        };
        Ok(if cycle.shape().volumes().any(counts) { PreFilter::All } else { PreFilter::Skip })
    }

    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        // Before this policy another has refused a pod whose claims do not exist; a claim of its own may still come.
        let namespace = cycle.shape().namespace();
        let missing = cycle
            .shape()
            .claims()
            .find(|name| cycle.cluster().object::<PersistentVolumeClaim>(namespace, name).is_none());
        if let Some(name) = missing {
            let not_found = storage::not_found::<PersistentVolumeClaim>(&name);
            let reason = format!("looking up PVC {namespace}/{name}: {not_found}");
            candidates.keep_only(&NodeSet::new(), Refusal::unresolvable(reason));
            return;
        }
        let full: NodeSet = candidates.nodes().iter().filter(|node| !Self::fits(cycle, *node)).collect();
        candidates.refuse_all(&full, Refusal::unschedulable("node(s) exceed max volume count"));
    }

    fn update(&self, cycle: Cycle<'_>, _state: &mut State, changes: &[Change], _affected: &mut NodeSet) -> Update {
        storage::update(cycle, changes, &self.kinds())
    }
}
