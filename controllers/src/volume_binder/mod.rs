//! Brings claims and volumes together.
//!
//! A binding is written down on both sides, the volume's first: once the volume names the claim and its uid, no other
//! claim can have it, and whoever dies in between finds the rest to do. So each look does the one next step of a claim or
//! of a volume, and what it writes wakes the other side.
//!
//! Claims of a class that waits for its first consumer are left to the scheduler, which sets volumes aside or names a node
//! for which the class's provisioner makes one. Provisioners are others: they see the claim's annotation.

mod claim;
mod volume;

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::{PersistentVolume, PersistentVolumeClaim, Pod, StorageClass};
use longshore_core::informer::{Change, ObjectKey};

use crate::controller::{Controller, Triggers, View};
use crate::plan::Plan;
use crate::pods::index_by_claim;

/// Index of claims that have no volume yet.
const UNBOUND: &str = "volume-binder/unbound";
/// Index of claims by the volume that they name.
const BY_VOLUME: &str = "volume-binder/volume";
/// Index of volumes by the claim that they name, as `namespace/name`.
const BY_CLAIM: &str = "volume-binder/claim";

/// The binder.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VolumeBinder;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// One claim.
    Claim(ObjectKey),
    /// One volume.
    Volume(Box<str>),
}

fn volume_item(name: &str) -> Item {
    Item::Volume(name.into())
}

/// The key of the claim that a volume names.
fn claim_of(volume: &PersistentVolume) -> Option<ObjectKey> {
    volume.spec.claim_ref.as_ref().map(|claim| ObjectKey::new(&claim.namespace, &claim.name))
}

impl Controller for VolumeBinder {
    type Key = Item;

    fn name(&self) -> &'static str {
        "persistentvolume_binder"
    }

    fn component(&self) -> String {
        "persistentvolume-controller".to_owned()
    }

    fn triggers(&self, triggers: &Triggers<Item>) {
        index_by_claim(triggers);
        triggers.informer::<Pod>();
        let claims = triggers.informer::<PersistentVolumeClaim>();
        claims.add_index(UNBOUND, |claim| if claim.is_fully_bound() { Vec::new() } else { vec![String::new()] });
        claims.add_index(BY_VOLUME, |claim| {
            Some(claim.spec.volume_name.clone()).filter(|name| !name.is_empty()).into_iter().collect()
        });
        let volumes = triggers.informer::<PersistentVolume>();
        volumes.add_index(BY_CLAIM, |volume| claim_of(volume).map(|key| key.to_string()).into_iter().collect());

        triggers.on::<PersistentVolumeClaim, _>(move |change: &Change<Arc<PersistentVolumeClaim>>| {
            let key = ObjectKey::of(&**change.object());
            let mut items: Vec<Item> = Vec::new();
            for volume in volumes.by_index(BY_CLAIM, &key.to_string()) {
                items.push(volume_item(volume.metadata.name.as_deref().unwrap_or_default()));
            }
            items.push(Item::Claim(key));
            items
        });
        let waiting = claims.clone();
        triggers.on::<PersistentVolume, _>(move |change: &Change<Arc<PersistentVolume>>| {
            let name = change.object().metadata.name.as_deref().unwrap_or_default();
            let mut items = vec![volume_item(name)];
            let versions = change.old().into_iter().chain(change.current());
            items.extend(versions.filter_map(|volume| claim_of(volume)).map(Item::Claim));
            items.extend(keys(&claims.by_index(BY_VOLUME, name)));
            if change.current().is_some_and(|volume| volume.spec.claim_ref.is_none()) {
                items.extend(keys(&claims.by_index(UNBOUND, "")));
            }
            items
        });
        triggers.on::<StorageClass, _>(move |_| keys(&waiting.by_index(UNBOUND, "")).collect::<Vec<_>>());
    }

    fn reconcile(&self, view: &View<'_>, key: &Item, now: Timestamp) -> Plan {
        match key {
            Item::Claim(key) => match view.of::<PersistentVolumeClaim>().get(&key.namespace, &key.name) {
                Some(found) => claim::reconcile(view, &found).into(),
                None => Plan::nothing(),
            },
            Item::Volume(name) => match view.of::<PersistentVolume>().get("", name) {
                Some(found) => volume::reconcile(view, &found, now).into(),
                None => Plan::nothing(),
            },
        }
    }
}

fn keys(claims: &[Arc<PersistentVolumeClaim>]) -> impl Iterator<Item = Item> {
    claims.iter().map(|claim| Item::Claim(ObjectKey::of(&**claim)))
}

#[cfg(test)]
mod tests;
