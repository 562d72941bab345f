//! DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize: what new claims and volumes get, and which
//! claims may grow.

use async_trait::async_trait;
use longshore_core::api::persistent_volume_claim::PersistentVolumeClaimPhase;
use longshore_core::api::{
    PersistentVolume, PersistentVolumeClaim, StorageClass, persistent_volume, persistent_volume_claim,
};
use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, KindType};

use super::{AdmissionRule, Operation, Request, forbidden};

/// A claim that says nothing about its class gets the class that is marked as the default; of several, the newest.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultStorageClass;

#[async_trait]
impl AdmissionRule for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        let Some(claim) = object.as_any_mut().downcast_mut::<PersistentVolumeClaim>() else { return Ok(()) };
        if request.operation != Operation::Create || claim.has_class() {
            return Ok(());
        }
        // Who has just made a class wants it to count.
        request.registry.refresh().await?;
        let classes = request.registry.cached_objects(KindType::of::<StorageClass>());
        let classes = classes.iter().filter_map(|class| class.as_any().downcast_ref());
        if let Some(default) = StorageClass::default_of(classes) {
            claim.spec.storage_class_name.clone_from(&default.metadata.name);
        }
        Ok(())
    }
}

/// New claims and volumes get the finalizers that hold them while they are in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct StorageProtection;

#[async_trait]
impl AdmissionRule for StorageProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let finalizer = if object.as_any().is::<PersistentVolumeClaim>() {
            persistent_volume_claim::PROTECTION
        } else if object.as_any().is::<PersistentVolume>() {
            persistent_volume::PROTECTION
        } else {
            return Ok(());
        };
        let finalizers = object.meta_mut().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == finalizer) {
            finalizers.push(finalizer.to_owned());
        }
        Ok(())
    }
}

/// A claim may ask for more only once it is bound, and if its class allows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaimResize;

#[async_trait]
impl AdmissionRule for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, request: &mut Request<'_>, object: &dyn AnyObject) -> Result<(), Error> {
        let old = request.old.and_then(|old| old.as_any().downcast_ref::<PersistentVolumeClaim>());
        let new = object.as_any().downcast_ref::<PersistentVolumeClaim>();
        let (Operation::Update(None), Some(old), Some(new)) = (request.operation, old, new) else { return Ok(()) };
        if new.size() <= old.size() {
            return Ok(());
        }
        if old.status.phase != PersistentVolumeClaimPhase::Bound {
            return Err(forbidden(object, "Only bound persistent volume claims can be expanded"));
        }
        let classes = request.registry.cached_objects(KindType::of::<StorageClass>());
        let mut classes = classes.iter().filter_map(|class| class.as_any().downcast_ref::<StorageClass>());
        let grows = |class: &StorageClass| {
            class.metadata.name.as_deref() == Some(new.class()) && class.allow_volume_expansion == Some(true)
        };
        if classes.any(grows) {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                   support resize";
        Err(forbidden(object, why))
    }
}
