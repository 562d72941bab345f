//! Renewal of leases: the most frequent write of a large cluster, and one that changes the owner of no field.

use longshore_core::api::Lease;
use longshore_core::kind::AnyObject;

use super::Registry;

impl Registry {
    /// Notes who owns the fields of a lease that its holder renews, without comparing all fields of both objects. Says
    /// whether it could: only the time of renewal changed, and only the writer owned that.
    pub(super) fn note_renewal(&self, old: &dyn AnyObject, new: &mut dyn AnyObject, manager: &str) -> bool {
        let (Some(old), Some(new)) = (old.as_any().downcast_ref::<Lease>(), new.as_any_mut().downcast_mut::<Lease>())
        else {
            return false;
        };
        let Some(before) = &old.metadata.managed_fields else { return false };
        if new.metadata.managed_fields.as_ref().is_some_and(|brought| brought != before) {
            return false;
        }
        let mut owners = before.iter().enumerate().filter(|(_, entry)| {
            entry.fields_v1.as_ref().is_some_and(|fields| !fields.0["f:spec"]["f:renewTime"].is_null())
        });
        let (Some((place, owner)), None) = (owners.next(), owners.next()) else { return false };
        let is_writer = owner.manager.as_deref() == Some(manager)
            && owner.operation.as_deref() == Some("Update")
            && owner.subresource.as_deref().unwrap_or_default().is_empty();
        if !is_writer {
            return false;
        }
        let mut renewed = old.clone();
        renewed.spec.renew_time.clone_from(&new.spec.renew_time);
        renewed.metadata.managed_fields = None;
        let brought = new.metadata.managed_fields.take();
        if renewed.spec.renew_time.is_none() || renewed != *new {
            new.metadata.managed_fields = brought;
            return false;
        }
        let mut entries = before.clone();
        entries[place].time = Some(self.now());
        new.metadata.managed_fields = Some(entries);
        true
    }
}
