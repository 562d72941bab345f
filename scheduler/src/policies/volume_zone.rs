//! VolumeZone: volumes that carry a zone's or region's label are used there.

use std::collections::BTreeSet;

use longshore_core::api::pod::Pod;
use longshore_core::api::storage_class::VolumeBindingMode;
use longshore_core::api::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, PreFilter, Refusal, State, Update,
};

use super::storage;

/// Labels of zones and regions, each with its name of today.
const TOPOLOGY: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Between the zones of a volume that is in several.
const ZONES_SEPARATOR: &str = "__";

/// Refuses nodes outside the zones and regions of the pod's volumes.
#[derive(Debug, Clone, Copy, Default)]
pub struct VolumeZone;

/// A label that nodes must have, with one of these values.
struct Wanted {
    key: &'static str,
    today: &'static str,
    values: BTreeSet<String>,
}

impl Policy for VolumeZone {
    fn name(&self) -> &str {
        "VolumeZone"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        storage::kinds()
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            _ => {
                storage::is_own_claim(pod, event)
                    || storage::changed::<PersistentVolume>(event).is_some()
                    || storage::changed::<StorageClass>(event).is_some()
            }
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

/// The volume that a claim is bound to; `None` if it may get one on any node.
fn volume_of<'c>(cluster: &'c Cluster, claim: &PersistentVolumeClaim) -> Result<Option<&'c PersistentVolume>, Refusal> {
    let name = claim.spec.volume_name.as_str();
    if !name.is_empty() {
        let volume = cluster.object("", name);
        return volume.map(Some).ok_or_else(|| Refusal::unresolvable(storage::not_found::<PersistentVolume>(name)));
    }
    let class = claim.class();
    if class.is_empty() {
        return Err(Refusal::unresolvable("PersistentVolumeClaim had no pv name and storageClass name"));
    }
    let found: &StorageClass =
        cluster.object("", class).ok_or_else(|| Refusal::unresolvable(storage::not_found::<StorageClass>(class)))?;
    match found.volume_binding_mode {
        None => Err(Refusal::unresolvable(format!("VolumeBindingMode not set for StorageClass {class:?}"))),
        Some(VolumeBindingMode::WaitForFirstConsumer) => Ok(None),
        Some(_) => Err(Refusal::unresolvable("PersistentVolume had no name")),
    }
}

/// The zones in a label; `None` if it cannot be read.
fn zones(value: &str) -> Option<BTreeSet<String>> {
    value.split(ZONES_SEPARATOR).map(|zone| Some(zone.trim().to_owned()).filter(|zone| !zone.is_empty())).collect()
}

impl Filter for VolumeZone {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let mut wanted = Vec::new();
        for claim in cycle.shape().volumes().filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            if claim.claim_name.is_empty() {
                return Err(Refusal::unresolvable("PersistentVolumeClaim had no name"));
            }
            let claim = storage::claim(cycle.cluster(), cycle.pod(), &claim.claim_name)?;
            let Some(volume) = volume_of(cycle.cluster(), claim)? else { continue };
            let label = |key: &str| volume.metadata.labels.as_ref()?.get(key);
            for (key, today) in TOPOLOGY {
                if let Some(values) = label(key).and_then(|value| zones(value)) {
                    wanted.push(Wanted { key, today, values });
                }
            }
        }
        if wanted.is_empty() {
            return Ok(PreFilter::Skip);
        }
        state.set(wanted);
        Ok(PreFilter::All)
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        let Some(wanted) = state.get::<Vec<Wanted>>() else { return };
        let mut out = NodeSet::new();
        for node in candidates.nodes().iter() {
            let view = cycle.node(node);
            // A node that says nothing about where it is, is where it must be.
            if !TOPOLOGY.iter().any(|(key, _)| view.label(key).is_some()) {
                continue;
            }
            let fits = |wanted: &Wanted| {
                let value = view.label(wanted.key).or_else(|| view.label(wanted.today));
                value.is_some_and(|value| wanted.values.contains(value))
            };
            if !wanted.iter().all(fits) {
                out.insert(node);
            }
        }
        candidates.refuse_all(&out, Refusal::unresolvable("node(s) had no available volume zone"));
    }

    fn update(&self, cycle: Cycle<'_>, _state: &mut State, changes: &[Change], _affected: &mut NodeSet) -> Update {
        storage::update(cycle, changes, &self.kinds())
    }
}
