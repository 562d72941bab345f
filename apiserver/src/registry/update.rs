//! Replacement, and the loop that all changes of existing objects go through.

use longshore_core::api::Service;
use longshore_core::apply::ignore_times_of_managed_fields;
use longshore_core::client::params::PostParams;
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, DynObject, Subresource};
use longshore_core::store::{Committed, Transaction};

use super::along::Write;
use super::create::{DEFAULT_MANAGER, field_manager};
use super::{ATTEMPTS, PutOutcome, Registry, Warnings, name_of, namespace_of};
use crate::admission::{Operation, Request};
use crate::cache::handoff::at_revision;
use crate::cache::{Cached, KindCache};
use crate::{allocation, key, status};

/// What a change wants to be done.
pub(super) enum Change {
    /// Store this in its place.
    Put(Box<dyn AnyObject>),
    /// Remove it; this is its last state.
    Remove(Box<dyn AnyObject>),
    /// Leave it.
    Nothing,
}

/// What was done.
pub(super) enum Changed {
    Put(DynObject),
    Removed(DynObject),
    Nothing(DynObject),
}

impl Changed {
    pub(super) fn into_object(self) -> DynObject {
        match self {
            Self::Put(object) | Self::Removed(object) | Self::Nothing(object) => object,
        }
    }
}

/// How an object is rewritten.
pub(super) struct Rewrite<'a> {
    pub(super) target: Target<'a>,
    pub(super) subresource: Option<Subresource>,
    pub(super) manager: &'a str,
    pub(super) dry_run: bool,
    /// Whether ownership of fields is still to be noted (server-side apply does it itself).
    pub(super) tracks: bool,
}

impl Registry {
    /// Replaces an object or one of its subresources. A version in the object must be the current one.
    ///
    /// # Errors
    /// 404, 409 Conflict, 422 Invalid, or what admission says.
    pub async fn update(
        &self,
        mut object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<(DynObject, Warnings), Error> {
        let kind = object.kind_type();
        let (namespace, name) = (namespace_of(&*object).to_owned(), name_of(&*object).to_owned());
        object.set_defaults();
        object.normalize();
        let rewrite = Rewrite {
            target: Target { kind, namespace: &namespace, name: &name },
            subresource,
            manager: params.field_manager.as_deref().unwrap_or(DEFAULT_MANAGER),
            dry_run: params.dry_run,
            tracks: true,
        };
        self.rewrite(rewrite, |_| Ok(object.clone_box())).await
    }

    /// Replaces an object by what `make` makes of it, again whenever it changed in between.
    pub(super) async fn rewrite(
        &self,
        rewrite: Rewrite<'_>,
        make: impl Fn(&DynObject) -> Result<Box<dyn AnyObject>, Error> + Send + Sync,
    ) -> Result<(DynObject, Warnings), Error> {
        let cache = self.cache.kind(rewrite.target.kind)?;
        if rewrite.subresource.is_some_and(|subresource| !rewrite.target.kind.info.has(subresource)) {
            return Err(status::failure(404, "NotFound", "the server could not find the requested resource"));
        }
        let mut attempts = Attempts::default();
        while let Some(current) = self.attempt(cache, rewrite.target, &mut attempts).await? {
            let mut warnings = Warnings::new();
            let change = self.decide_rewrite(&rewrite, &current, &make, &mut warnings).await;
            let operation = Operation::Update(rewrite.subresource);
            let commit = Commit { target: rewrite.target, operation, dry_run: rewrite.dry_run };
            let done = self.carry_out(cache, commit, &mut attempts, &current, change).await?;
            if let Some(changed) = done {
                return Ok((changed.into_object(), warnings));
            }
        }
        Err(status::conflict(&rewrite.target.kind.info, rewrite.target.name, status::MODIFIED))
    }

    async fn decide_rewrite(
        &self,
        rewrite: &Rewrite<'_>,
        current: &Cached,
        make: &(impl Fn(&DynObject) -> Result<Box<dyn AnyObject>, Error> + Send + Sync),
        warnings: &mut Warnings,
    ) -> Result<Change, Error> {
        let (target, subresource) = (rewrite.target, rewrite.subresource);
        let old = &*current.object;
        let mut new = make(&current.object)?;
        before_update(target, old, &mut *new)?;
        let brought = new.meta_mut().managed_fields.take();
        let operation = Operation::Update(subresource);
        let mut request = Request { registry: self, operation, old: Some(old), dry_run: rewrite.dry_run, warnings };
        self.mutate(&mut request, &mut *new).await?;
        // Scale is another way to change the desired state, and its rules are those of the object's own path.
        let part = subresource.filter(|subresource| *subresource != Subresource::Scale);
        new.prepare_for_update(old, part);
        keep_metadata(old, &mut *new);
        let allocated = if part.is_none() { self.allocate(old, &mut *new).await? } else { None };
        let complete: &dyn AnyObject = allocated.as_deref().map_or(&*new, |allocated| allocated);
        let errors = complete.validate_update(old, part);
        if !errors.is_empty() {
            return Err(status::invalid(&target.kind.info, target.name, &errors));
        }
        self.admit(&mut request, &*new).await?;
        new.meta_mut().managed_fields = brought;
        new.meta_mut().resource_version.clone_from(&old.meta().resource_version);
        ignore_times_of_managed_fields(old, &mut *new);
        if is_same(old, &mut *new, rewrite.tracks) {
            return Ok(Change::Nothing);
        }
        if rewrite.tracks && !self.note_renewal(old, &mut *new, rewrite.manager) {
            let path = subresource.map_or("", Subresource::as_str);
            let fields = field_manager(target.kind, path);
            fields.update(Some(old), &mut *new, rewrite.manager, self.clock.now());
        }
        if let (Some(allocated), Some(new)) = (allocated, new.as_any_mut().downcast_mut::<Service>()) {
            new.spec = allocated.spec;
        }
        if is_finished(old, &*new) {
            return Ok(Change::Remove(new));
        }
        Ok(Change::Put(new))
    }

    /// A service as it is once it has been given what it lacks; `None` for all other kinds. It stays apart until ownership of
    /// fields is noted: what the system gives is nobody's.
    async fn allocate(&self, old: &dyn AnyObject, new: &mut dyn AnyObject) -> Result<Option<Box<Service>>, Error> {
        let (Some(old), Some(new)) = (old.as_any().downcast_ref::<Service>(), new.as_any_mut().downcast_mut()) else {
            return Ok(None);
        };
        allocation::prepare(Some(old), new);
        let mut allocated = Box::new(new.clone());
        self.allocator.give(Some(old), &mut allocated, &self.random).await?;
        Ok(Some(allocated))
    }

    /// Reads the object for the next attempt; `None` when there were too many.
    ///
    /// # Errors
    /// 404, or what the store says.
    pub(super) async fn attempt(
        &self,
        cache: &KindCache,
        target: Target<'_>,
        attempts: &mut Attempts,
    ) -> Result<Option<Cached>, Error> {
        if attempts.made == ATTEMPTS {
            return Ok(None);
        }
        attempts.made += 1;
        let short = key::short(target.namespace, target.name);
        match self.current(cache, &short, attempts.certain).await? {
            Some(current) => Ok(Some(current)),
            None => Err(status::not_found(&target.kind.info, target.name)),
        }
    }

    /// Does what was decided, on the condition that the object is still as it was seen; `None` if it is not.
    ///
    /// The first attempt works on the cache's copy, so a refusal that rests on a stale copy is not believed.
    pub(super) async fn carry_out(
        &self,
        cache: &KindCache,
        commit: Commit<'_>,
        attempts: &mut Attempts,
        current: &Cached,
        change: Result<Change, Error>,
    ) -> Result<Option<Changed>, Error> {
        let Commit { target, operation, dry_run } = commit;
        let short = key::short(target.namespace, target.name);
        let certain = std::mem::replace(&mut attempts.certain, true);
        let write = Write { operation, old: Some(&*current.object), certain };
        let refused = |error: Error| async {
            if certain || self.is_current(cache, &short, current).await? { Err(error) } else { Ok(None) }
        };
        match change {
            Err(error) => refused(error).await,
            Ok(Change::Nothing) => {
                let holds = certain || self.is_current(cache, &short, current).await?;
                Ok(holds.then(|| Changed::Nothing(current.object.clone())))
            }
            Ok(Change::Put(object)) => {
                let along = match self.along(write, Some(&*object)).await {
                    Ok(along) => along,
                    Err(error) => return refused(error).await,
                };
                if dry_run {
                    return Ok(Some(Changed::Put(at_revision(object, current.revision))));
                }
                match self.put(cache, &short, current.revision, object, along).await? {
                    PutOutcome::Done(stored) => Ok(Some(Changed::Put(stored))),
                    PutOutcome::Conflict { .. } => Ok(None),
                }
            }
            Ok(Change::Remove(object)) if dry_run => Ok(Some(Changed::Removed(at_revision(object, current.revision)))),
            Ok(Change::Remove(object)) => {
                let along = self.along(write, None).await?;
                let key = key::full(&target.kind.info, &short);
                let mut transaction = Transaction::new().expect(key.clone(), current.revision).delete(key);
                transaction.compare.extend(along.transaction.compare.iter().cloned());
                transaction.operations.extend(along.transaction.operations.iter().cloned());
                let committed = self.store.commit(transaction).await;
                let committed = committed.map_err(|error| status::from_store(error, &format!("delete {target}")))?;
                let Committed::Done(revision) = committed else { return Ok(None) };
                along.done(revision);
                Ok(Some(Changed::Removed(at_revision(object, revision))))
            }
        }
    }

    async fn is_current(&self, cache: &KindCache, short: &str, seen: &Cached) -> Result<bool, Error> {
        let key = key::full(&cache.kind.info, short);
        let read = self.store.get(&key).await.map_err(|error| status::from_store(error, "read"))?;
        Ok(read.value.is_some_and(|entry| entry.revision == seen.revision))
    }
}

/// A change that is to be committed.
#[derive(Clone, Copy)]
pub(super) struct Commit<'a> {
    pub(super) target: Target<'a>,
    pub(super) operation: Operation,
    pub(super) dry_run: bool,
}

/// How often a change was tried.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: usize,
    /// Whether the object now comes from the store, not from the cache.
    certain: bool,
}

/// Checks what an update may assume, and fills in what it left out.
fn before_update(target: Target<'_>, old: &dyn AnyObject, new: &mut dyn AnyObject) -> Result<(), Error> {
    let info = &target.kind.info;
    let version = new.meta().resource_version.as_deref().unwrap_or_default();
    if !version.is_empty() && version != "0" && old.meta().resource_version.as_deref() != Some(version) {
        return Err(status::conflict(info, target.name, status::MODIFIED));
    }
    let (uid, own) = (new.meta().uid.as_deref().unwrap_or_default(), old.meta().uid.as_deref().unwrap_or_default());
    if !uid.is_empty() && uid != own {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(status::conflict(info, target.name, why));
    }
    let meta = new.meta_mut();
    if info.namespaced && meta.namespace.as_deref().unwrap_or_default().is_empty() {
        meta.namespace = Some(target.namespace.to_owned());
    }
    meta.resource_version.clone_from(&old.meta().resource_version);
    meta.generation = old.meta().generation;
    keep_metadata(old, new);
    Ok(())
}

/// Metadata that no update changes.
fn keep_metadata(old: &dyn AnyObject, new: &mut dyn AnyObject) {
    let (old, new) = (old.meta(), new.meta_mut());
    new.self_link = None;
    if new.uid.as_deref().unwrap_or_default().is_empty() {
        new.uid.clone_from(&old.uid);
    }
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    // Deletion cannot be taken back, nor begun by an update.
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    if old.deletion_timestamp.is_none() {
        new.deletion_grace_period_seconds = None;
    } else if new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
}

/// Whether nothing changed. An update that brings no `managedFields` leaves them as they are.
fn is_same(old: &dyn AnyObject, new: &mut dyn AnyObject, tracks: bool) -> bool {
    if tracks && new.meta().managed_fields.is_none() {
        new.meta_mut().managed_fields.clone_from(&old.meta().managed_fields);
        let same = old.equals(new);
        new.meta_mut().managed_fields = None;
        return same;
    }
    old.equals(new)
}

/// Whether the last finalizer went from an object that is being deleted.
fn is_finished(old: &dyn AnyObject, new: &dyn AnyObject) -> bool {
    old.meta().deletion_timestamp.is_some()
        && new.meta().finalizers.as_ref().is_none_or(Vec::is_empty)
        && old.meta().deletion_grace_period_seconds.unwrap_or(0) == 0
        && super::delete::may_go(new)
}
