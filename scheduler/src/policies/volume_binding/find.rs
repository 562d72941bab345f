//! Volumes for claims that wait for their pod: one that exists and fits, or one that can be made.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::api::persistent_volume_claim::SELECTED_NODE;
use longshore_core::api::pod::helpers::node_selector_matches;
use longshore_core::api::storage_class::{NO_PROVISIONER, TopologySelectorTerm};
use longshore_core::api::{CSIDriver, CSIStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass};
use longshore_core::quantity::Quantity;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{NodeView, Reason, Refusal};
use longshore_core::selector::Selector;
use smallvec::SmallVec;

use super::claims::Claims;

const NO_LABELS: &BTreeMap<String, String> = &BTreeMap::new();

/// What is there for a pod's claims.
pub(super) struct Volumes<'c> {
    /// Volumes that the pod's claims are bound to; `None` for those that do not exist.
    bound: Vec<Option<&'c PersistentVolume>>,
    /// Volumes by class, of the classes that waiting claims ask for.
    by_class: BTreeMap<&'c str, Vec<&'c PersistentVolume>>,
    /// Classes that waiting claims ask for.
    classes: BTreeMap<&'c str, &'c StorageClass>,
    /// Drivers that publish how much room they have.
    with_capacity: BTreeSet<&'c str>,
    capacities: Vec<(&'c CSIStorageCapacity, Selector)>,
}

/// What becomes of the claims on one node.
#[derive(Debug, Default)]
pub(super) struct Found<'c> {
    /// Claims, by their place among those that wait, with the volumes that exist for them.
    pub(super) existing: Vec<(usize, &'c PersistentVolume)>,
    /// Claims, by their place, for which a volume is to be made.
    pub(super) to_make: Vec<usize>,
}

/// Why a node will not do.
enum Lack {
    Volume,
    Room,
    /// Something that only an administrator can mend, in upstream's words.
    Other(String),
}

impl<'c> Volumes<'c> {
    /// Looks up what is there.
    pub(super) fn for_claims(cluster: &'c Cluster, claims: &Claims) -> Self {
        let bound = claims.bound.iter().map(|name| cluster.object("", name)).collect();
        let mut volumes = Self {
            bound,
            by_class: BTreeMap::new(),
            classes: BTreeMap::new(),
            with_capacity: BTreeSet::new(),
            capacities: Vec::new(),
        };
        let wanted: BTreeSet<&str> = claims.waiting.iter().map(|claim| claim.class()).collect();
        if wanted.is_empty() {
            return volumes;
        }
        for volume in cluster.objects::<PersistentVolume>().filter(|volume| wanted.contains(volume.class())) {
            volumes.by_class.entry(volume.class()).or_default().push(volume);
        }
        let named = |class: &&StorageClass| wanted.contains(class.metadata.name.as_deref().unwrap_or_default());
        for class in cluster.objects::<StorageClass>().filter(named) {
            volumes.classes.insert(class.metadata.name.as_deref().unwrap_or_default(), class);
        }
        let publishing = cluster.objects::<CSIDriver>().filter(|driver| driver.spec.storage_capacity == Some(true));
        volumes.with_capacity = publishing.filter_map(|driver| driver.metadata.name.as_deref()).collect();
        let capacities = cluster.objects::<CSIStorageCapacity>();
        let capacities = capacities.filter(|capacity| wanted.contains(capacity.storage_class_name.as_str()));
        volumes.capacities = capacities
            .filter_map(|capacity| Some((capacity, capacity.node_topology.as_ref()?.compile().ok()?)))
            .collect();
        volumes
    }

    /// Why the pod cannot have its volumes on the node; `None` if it can.
    pub(super) fn refusal(&self, node: NodeView<'_>, claims: &Claims) -> Option<Refusal> {
        let labels = node.node().metadata.labels.as_ref().unwrap_or(NO_LABELS);
        let mut reasons: SmallVec<[Reason; 1]> = SmallVec::new();
        // Upstream looks no further than the first bound claim that is wrong.
        let wrong = self.bound.iter().find_map(|volume| match volume {
            None => Some("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
            Some(volume) if !is_reachable(volume, labels) => {
                Some("node(s) didn't match PersistentVolume's node affinity")
            }
            Some(_) => None,
        });
        reasons.extend(wrong.map(Reason::from));
        match self.find(node.name(), labels, claims) {
            Ok(_) => {}
            Err(Lack::Volume) => reasons.push("node(s) didn't find available persistent volumes to bind".into()),
            Err(Lack::Room) => reasons.push("node(s) did not have enough free storage".into()),
            Err(Lack::Other(text)) => reasons.push(text.into()),
        }
        reasons.sort_unstable();
        let code = longshore_core::scheduling::Code::UnschedulableAndUnresolvable;
        (!reasons.is_empty()).then_some(Refusal { code, reasons })
    }

    /// What would become of the claims on a node; `None` if it will not do.
    pub(super) fn found(&self, node: &str, labels: &BTreeMap<String, String>, claims: &Claims) -> Option<Found<'c>> {
        self.find(node, labels, claims).ok()
    }

    fn find(&self, node: &str, labels: &BTreeMap<String, String>, claims: &Claims) -> Result<Found<'c>, Lack> {
        let mut found = Found::default();
        let mut to_match = Vec::new();
        for (place, claim) in claims.waiting.iter().enumerate() {
            match claim.annotation(SELECTED_NODE) {
                "" => to_match.push(place),
                selected if selected == node => found.to_make.push(place),
                _ => return Err(Lack::Volume),
            }
        }
        // The smallest claims take the smallest volumes.
        to_match.sort_by_key(|place| claims.waiting[*place].size());
        for place in to_match {
            match self.existing(&claims.waiting[place], labels, &found.existing) {
                Some(volume) => found.existing.push((place, volume)),
                None => found.to_make.push(place),
            }
        }
        for place in &found.to_make {
            self.can_be_made(&claims.waiting[*place], labels)?;
        }
        Ok(found)
    }

    /// The volume that exists for the claim: the one set aside for it, or else the smallest that does.
    fn existing(
        &self,
        claim: &PersistentVolumeClaim,
        labels: &BTreeMap<String, String>,
        taken: &[(usize, &PersistentVolume)],
    ) -> Option<&'c PersistentVolume> {
        let selector = claim.spec.selector.as_ref().map(longshore_core::selector::LabelSelector::compile);
        let selector = selector.transpose().ok()?;
        let mut best: Option<(&PersistentVolume, Quantity)> = None;
        for volume in self.by_class.get(claim.class()).into_iter().flatten().copied() {
            if taken.iter().any(|(_, other)| std::ptr::eq(*other, volume)) || !volume.suits(claim) {
                continue;
            }
            let reachable = is_reachable(volume, labels);
            if volume.is_for(claim) {
                return reachable.then_some(volume);
            }
            let has = volume.size();
            let smaller = best.as_ref().is_none_or(|(_, least)| has < *least);
            if smaller && reachable && volume.is_offered_to(claim, selector.as_ref()) {
                best = Some((volume, has));
            }
        }
        best.map(|(volume, _)| volume)
    }

    /// Whether the claim's class can make a volume for this node.
    fn can_be_made(&self, claim: &PersistentVolumeClaim, labels: &BTreeMap<String, String>) -> Result<(), Lack> {
        let name = claim.class();
        let Some(class) = self.classes.get(name) else {
            return Err(Lack::Other(format!("failed to find storage class {name:?}")));
        };
        if class.provisioner.is_empty()
            || class.provisioner == NO_PROVISIONER
            || !is_allowed(&class.allowed_topologies, labels)
        {
            return Err(Lack::Volume);
        }
        let wanted = claim.spec.resources.requests.get("storage").map(Quantity::value);
        let Some(wanted) = wanted.filter(|_| self.with_capacity.contains(class.provisioner.as_str())) else {
            return Ok(());
        };
        let has_room = self.capacities.iter().any(|(capacity, nodes)| {
            capacity.storage_class_name == name
                && capacity.largest().is_some_and(|largest| largest >= wanted)
                && nodes.matches(labels)
        });
        if has_room { Ok(()) } else { Err(Lack::Room) }
    }
}

/// Whether a node with these labels can reach the volume.
fn is_reachable(volume: &PersistentVolume, labels: &BTreeMap<String, String>) -> bool {
    let required = volume.spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| node_selector_matches(required, labels).unwrap_or(false))
}

/// Whether a class allows nodes with these labels.
fn is_allowed(terms: &[TopologySelectorTerm], labels: &BTreeMap<String, String>) -> bool {
    let holds = |term: &TopologySelectorTerm| {
        let expressions = &term.match_label_expressions;
        !expressions.is_empty()
            && expressions.iter().all(|wanted| labels.get(&wanted.key).is_some_and(|has| wanted.values.contains(has)))
    };
    terms.is_empty() || terms.iter().any(holds)
}
