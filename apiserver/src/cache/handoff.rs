//! Hands objects from the writer to the cache, so that what this process wrote is not decoded again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use longshore_core::kind::{AnyObject, DynObject};
use longshore_core::store::Revision;
use rustc_hash::FxHashMap;

/// When this many objects were never asked for (the store copies values, or the feed was cut), they are forgotten.
const UNCLAIMED_MAX: usize = 4096;

/// Objects that are being committed, by the identity of their encoded bytes.
#[derive(Debug, Default)]
pub(crate) struct Handoff {
    slots: Mutex<FxHashMap<usize, Slot>>,
}

#[derive(Debug)]
struct Slot {
    /// Keeps the bytes alive, so that their address stays theirs.
    bytes: Bytes,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    /// Not committed as far as anyone knows.
    Waiting(Box<dyn AnyObject>),
    /// Committed, and taken by one of the two parties.
    Ready(DynObject),
}

/// A writer's claim; dropping it withdraws the object.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    handoff: &'a Handoff,
    address: usize,
}

/// Gives an object its version.
pub(crate) fn at_revision(mut object: Box<dyn AnyObject>, revision: Revision) -> DynObject {
    object.meta_mut().resource_version = Some(revision.to_string());
    Arc::from(object)
}

impl Handoff {
    fn lock(&self) -> MutexGuard<'_, FxHashMap<usize, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers an object whose encoded form is about to be committed.
    pub(crate) fn offer(&self, bytes: &Bytes, object: Box<dyn AnyObject>) -> Claim<'_> {
        let address = bytes.as_ptr() as usize;
        let mut slots = self.lock();
        if slots.len() >= UNCLAIMED_MAX {
            slots.retain(|_, slot| matches!(slot.state, SlotState::Waiting(_)));
        }
        slots.insert(address, Slot { bytes: bytes.clone(), state: SlotState::Waiting(object) });
        Claim { handoff: self, address }
    }

    /// The cache's side: the object that was encoded as these very bytes.
    pub(crate) fn take(&self, bytes: &Bytes, revision: Revision) -> Option<DynObject> {
        let address = bytes.as_ptr() as usize;
        let mut slots = self.lock();
        let slot = slots.remove(&address)?;
        if slot.bytes.len() != bytes.len() {
            return None;
        }
        match slot.state {
            SlotState::Ready(object) => Some(object),
            SlotState::Waiting(object) => {
                let object = at_revision(object, revision);
                slots.insert(address, Slot { bytes: slot.bytes, state: SlotState::Ready(Arc::clone(&object)) });
                Some(object)
            }
        }
    }
}

impl Claim<'_> {
    /// The writer's side after the commit: the stored object.
    pub(crate) fn committed(self, revision: Revision) -> DynObject {
        let mut slots = self.handoff.lock();
        let slot = slots.remove(&self.address).expect("a claim's slot stays until the claim ends");
        let object = match slot.state {
            SlotState::Ready(object) => object,
            SlotState::Waiting(object) => {
                let object = at_revision(object, revision);
                slots.insert(self.address, Slot { bytes: slot.bytes, state: SlotState::Ready(Arc::clone(&object)) });
                object
            }
        };
        drop(slots);
        std::mem::forget(self);
        object
    }

    /// The writer's side when the commit did not happen: the object comes back.
    pub(crate) fn refused(self) -> Option<Box<dyn AnyObject>> {
        let slot = self.handoff.lock().remove(&self.address);
        std::mem::forget(self);
        match slot?.state {
            SlotState::Waiting(object) => Some(object),
            SlotState::Ready(_) => None,
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.handoff.lock().remove(&self.address);
    }
}
