//! VolumeRestrictions: disks that one node, and claims that one pod, can use at a time.

use longshore_core::api::PersistentVolumeClaim;
use longshore_core::api::persistent_volume_claim::PersistentVolumeAccessMode;
use longshore_core::api::pod::{Pod, Volume};
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::Change;
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, PreFilter, Refusal, State, Update,
};

use super::storage;

/// Refuses nodes where a disk of the pod is in use in a way that excludes it, and every node while a pod uses a claim that only
/// one may.
#[derive(Debug, Clone, Copy, Default)]
pub struct VolumeRestrictions;

/// Claims of the pod that only one pod may use and that are in use.
struct Taken(usize);

impl Policy for VolumeRestrictions {
    fn name(&self) -> &str {
        "VolumeRestrictions"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        vec![KindType::of::<PersistentVolumeClaim>()]
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodRemoved(gone) | ClusterEvent::PodForgotten(gone) => !gone.spec.volumes.is_empty(),
            _ => storage::is_own_claim(pod, event),
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

/// Whether disks of this sort exclude each other.
fn is_exclusive(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.rbd.is_some()
        || volume.iscsi.is_some()
}

/// Whether two volumes are one disk that cannot be used twice on a node.
fn exclude_each_other(a: &Volume, b: &Volume) -> bool {
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk)
        && a.pd_name == b.pd_name
        && !(a.read_only && b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store)
        && a.volume_id == b.volume_id
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi)
        && a.iqn == b.iqn
        && !(a.read_only && b.read_only)
    {
        return true;
    }
    matches!((&a.rbd, &b.rbd), (Some(a), Some(b)) if a.monitors.iter().any(|monitor| b.monitors.contains(monitor))
        && a.pool == b.pool
        && a.image == b.image
        && !(a.read_only && b.read_only))
}

impl Filter for VolumeRestrictions {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let (shape, cluster) = (cycle.shape(), cycle.cluster());
        let mut taken = 0;
        for claim in shape.volumes().filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            let found = storage::claim(cluster, cycle.pod(), &claim.claim_name)?;
            let alone = found.spec.access_modes.contains(&PersistentVolumeAccessMode::ReadWriteOncePod);
            taken += usize::from(alone && cluster.claim_users(shape.namespace(), &claim.claim_name) > 0);
        }
        state.set(Taken(taken));
        Ok(if taken == 0 && !shape.volumes().any(is_exclusive) { PreFilter::Skip } else { PreFilter::All })
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        let disks: Vec<_> = cycle.shape().volumes().filter(|volume| is_exclusive(volume)).collect();
        if !disks.is_empty() {
            let mut conflicts = NodeSet::new();
            for node in candidates.nodes().iter() {
                let others = || cycle.cluster().pods_with_volumes_on(node).flat_map(|pod| pod.shape().volumes());
                if disks.iter().any(|disk| others().any(|other| exclude_each_other(disk, other))) {
                    conflicts.insert(node);
                }
            }
            candidates.refuse_all(&conflicts, Refusal::unschedulable("node(s) had no available disk"));
        }
        if state.get::<Taken>().is_some_and(|taken| taken.0 > 0) {
            let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
            candidates.keep_only(&NodeSet::new(), Refusal::unschedulable(reason));
        }
    }

    fn update(&self, cycle: Cycle<'_>, _state: &mut State, changes: &[Change], _affected: &mut NodeSet) -> Update {
        // A pod elsewhere may have begun or ceased to use a claim of this one's.
        let shares = |change: &Change| match change {
            Change::PodAdded { shape, .. } | Change::PodRemoved { shape, .. } => {
                shape.namespace() == cycle.shape().namespace()
                    && shape.claims().any(|claim| cycle.shape().claims().any(|own| own == claim))
            }
            _ => false,
        };
        if cycle.shape().claims().next().is_some() && changes.iter().any(shares) {
            return Update::Recompute;
        }
        storage::update(cycle, changes, &[KindType::of::<PersistentVolumeClaim>()])
    }
}
