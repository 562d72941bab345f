//! Deletion: at once, by grace period, or held by finalizers.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::namespace::NamespacePhase;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::api::{Namespace, Pod};
use longshore_core::client::params::{DeleteParams, PropagationPolicy};
use longshore_core::client::{Deleted, Error, Target};
use longshore_core::kind::{AnyObject, DynObject};

use super::update::{Attempts, Change, Changed, Commit};
use super::{Registry, Warnings};
use crate::admission::{Operation, Request};
use crate::status;

/// Held by the garbage collector until the dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// Held by the garbage collector until the dependents are let go.
const ORPHAN: &str = "orphan";

impl Registry {
    /// Deletes an object, or begins to where finalizers or a grace period hold it.
    ///
    /// # Errors
    /// 404, or 409 Conflict if a precondition does not hold.
    pub async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        let cache = self.cache.kind(target.kind)?;
        let commit = Commit { target, operation: Operation::Delete, dry_run: params.dry_run };
        let mut attempts = Attempts::default();
        while let Some(current) = self.attempt(cache, target, &mut attempts).await? {
            let change = self.decide_delete(target, &current.object, params);
            let change = match change {
                Ok(change) => self.admit_delete(&current.object, params).await.map(|()| change),
                refused => refused,
            };
            let done = self.carry_out(cache, commit, &mut attempts, &current, change).await?;
            match done {
                Some(Changed::Removed(object)) => return Ok(Deleted::Gone(object)),
                Some(Changed::Put(object) | Changed::Nothing(object)) => return Ok(Deleted::Pending(object)),
                None => {}
            }
        }
        Err(status::conflict(&target.kind.info, target.name, status::MODIFIED))
    }

    async fn admit_delete(&self, old: &DynObject, params: &DeleteParams) -> Result<(), Error> {
        let (operation, dry_run) = (Operation::Delete, params.dry_run);
        // An answer to a deletion has no place for warnings.
        let mut warnings = Warnings::new();
        let mut request = Request { registry: self, operation, old: Some(&**old), dry_run, warnings: &mut warnings };
        self.admit(&mut request, &**old).await
    }

    fn decide_delete(&self, target: Target<'_>, old: &DynObject, params: &DeleteParams) -> Result<Change, Error> {
        check_preconditions(target, &**old, params)?;
        if is_namespace(&**old) && old.meta().deletion_timestamp.is_some() && !may_go(&**old) {
            let why = "The system is ensuring all content is removed from this namespace.  Upon completion, this \
                       namespace will automatically be purged by the system.";
            return Err(status::conflict(&target.kind.info, target.name, why));
        }
        let mut new = old.clone_box();
        let grace = match self.begin_grace(&mut *new, params) {
            Grace::Pending => return Ok(Change::Nothing),
            grace => grace,
        };
        set_finalizers(&mut *new, params.propagation_policy.as_ref());
        let held = new.meta().finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()) || !may_go(&*new);
        match grace {
            Grace::Period(period) if period > 0 || held => Ok(Change::Put(new)),
            Grace::None if held => {
                self.mark(&mut *new, 0);
                if let Some(namespace) = new.as_any_mut().downcast_mut::<Namespace>() {
                    namespace.status.phase = NamespacePhase::Terminating;
                }
                if new.equals(&**old) { Ok(Change::Nothing) } else { Ok(Change::Put(new)) }
            }
            _ => Ok(Change::Remove(new)),
        }
    }

    /// Puts the time of deletion into an object whose kind is deleted by grace period.
    fn begin_grace(&self, object: &mut dyn AnyObject, params: &DeleteParams) -> Grace {
        let Some(own) = grace_period(object) else { return Grace::None };
        let wanted = params.grace_period_seconds.map(i64::from);
        let meta = object.meta_mut();
        if let Some(ends) = &meta.deletion_timestamp {
            let Some(period) = meta.deletion_grace_period_seconds else { return Grace::None };
            return match wanted {
                // The period can only become shorter.
                Some(wanted) if wanted < period => {
                    let ends = ends.0 - SignedDuration::from_secs(period) + SignedDuration::from_secs(wanted);
                    meta.deletion_timestamp = Some(Time(ends));
                    meta.deletion_grace_period_seconds = Some(wanted);
                    Grace::Period(wanted)
                }
                _ => Grace::Pending,
            };
        }
        let period = if is_stopped(object) { 0 } else { wanted.unwrap_or(own) };
        let period = if period < 0 { 1 } else { period };
        self.mark(object, period);
        Grace::Period(period)
    }

    fn mark(&self, object: &mut dyn AnyObject, period: i64) {
        let now = self.now();
        let meta = object.meta_mut();
        if meta.deletion_timestamp.is_none() {
            meta.generation = meta.generation.filter(|generation| *generation > 0).map(|generation| generation + 1);
            meta.deletion_timestamp = Some(Time(now.0 + SignedDuration::from_secs(period)));
        }
        meta.deletion_grace_period_seconds = Some(period);
    }
}

enum Grace {
    /// The kind knows no grace period.
    None,
    /// Deletion is on its way and stays as it is.
    Pending,
    /// The object has this many seconds.
    Period(i64),
}

fn check_preconditions(target: Target<'_>, object: &dyn AnyObject, params: &DeleteParams) -> Result<(), Error> {
    let Some(wanted) = &params.preconditions else { return Ok(()) };
    let meta = object.meta();
    for (what, wanted, own) in
        [("UID", &wanted.uid, &meta.uid), ("ResourceVersion", &wanted.resource_version, &meta.resource_version)]
    {
        if let Some(wanted) = wanted
            && Some(wanted) != own.as_ref()
        {
            let own = own.as_deref().unwrap_or_default();
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {own}");
            return Err(status::conflict(&target.kind.info, target.name, why));
        }
    }
    Ok(())
}

/// The finalizers that a propagation policy asks of the garbage collector.
fn set_finalizers(object: &mut dyn AnyObject, policy: Option<&PropagationPolicy>) {
    let info = &object.kind_type().info;
    // Kinds of the first days orphan unless told otherwise.
    let orphans = matches!((info.group, info.kind), ("", "ReplicationController") | ("batch", "Job"));
    let finalizers = object.meta_mut().finalizers.get_or_insert_default();
    let wanted = match policy {
        Some(PropagationPolicy::Orphan) => Some(ORPHAN),
        Some(PropagationPolicy::Foreground) => Some(FOREGROUND),
        Some(PropagationPolicy::Background) => None,
        None => [FOREGROUND, ORPHAN]
            .into_iter()
            .find(|name| finalizers.iter().any(|finalizer| finalizer == name))
            .or(orphans.then_some(ORPHAN)),
    };
    finalizers.retain(|finalizer| ![FOREGROUND, ORPHAN].contains(&finalizer.as_str()) || Some(&**finalizer) == wanted);
    if let Some(wanted) = wanted
        && !finalizers.iter().any(|finalizer| finalizer == wanted)
    {
        finalizers.push(wanted.to_owned());
    }
    if finalizers.is_empty() {
        object.meta_mut().finalizers = None;
    }
}

/// The grace period in seconds that an object of this kind has by itself; `None` for kinds that have none.
fn grace_period(object: &dyn AnyObject) -> Option<i64> {
    let pod = object.as_any().downcast_ref::<Pod>()?;
    Some(pod.spec.termination_grace_period_seconds.unwrap_or(0))
}

/// Whether a pod runs nowhere, so that nobody has to stop it.
fn is_stopped(object: &dyn AnyObject) -> bool {
    object.as_any().downcast_ref::<Pod>().is_some_and(|pod| pod.spec.node_name.is_empty() || is_terminal(pod))
}

fn is_namespace(object: &dyn AnyObject) -> bool {
    object.as_any().is::<Namespace>()
}

/// Whether nothing besides `metadata.finalizers` holds the object: a namespace has finalizers of its own.
pub(super) fn may_go(object: &dyn AnyObject) -> bool {
    object.as_any().downcast_ref::<Namespace>().is_none_or(|namespace| namespace.spec.finalizers.is_empty())
}
