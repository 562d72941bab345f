//! DefaultStorageClass and StorageObjectInUseProtection: what new claims and volumes get.

use async_trait::async_trait;
use longshore_core::api::{
    PersistentVolume, PersistentVolumeClaim, StorageClass, persistent_volume, persistent_volume_claim,
};
use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, KindType};

use super::{AdmissionRule, Operation, Request};

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
