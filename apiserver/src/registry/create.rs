//! Creation.

use longshore_core::api::Service;
use longshore_core::apply::FieldManager;
use longshore_core::apply::fields::Set;
use longshore_core::client::Error;
use longshore_core::client::params::PostParams;
use longshore_core::kind::{AnyObject, DynObject, KindType, Subresource};
use longshore_core::validation::{self, ErrorType};
use serde_json::Value;

use super::along::Write;
use super::{ATTEMPTS, PutOutcome, Registry, Warnings, name_of, namespace_of};
use crate::admission::{Operation, Request};
use crate::{allocation, key, status};

/// How many names are tried for a `generateName`.
const NAME_ATTEMPTS: usize = 8;

/// Who writes, where a request does not say.
pub(super) const DEFAULT_MANAGER: &str = "longshore";

impl Registry {
    /// Creates an object in its metadata's namespace.
    ///
    /// # Errors
    /// 409 AlreadyExists, 422 Invalid, or what admission says.
    pub async fn create(
        &self,
        object: Box<dyn AnyObject>,
        params: &PostParams,
    ) -> Result<(DynObject, Warnings), Error> {
        self.create_tracked(object, params, true).await
    }

    /// Creates; `tracks` says that ownership of fields is still to be noted.
    pub(super) async fn create_tracked(
        &self,
        mut object: Box<dyn AnyObject>,
        params: &PostParams,
        tracks: bool,
    ) -> Result<(DynObject, Warnings), Error> {
        let kind = object.kind_type();
        let info = &kind.info;
        let cache = self.cache.kind(kind)?;
        let mut warnings = Warnings::new();
        if object.meta().resource_version.as_deref().is_some_and(|version| !version.is_empty() && version != "0") {
            return Err(status::unknown("resourceVersion should not be set on objects to be created"));
        }
        if info.namespaced && namespace_of(&*object).is_empty() {
            return Err(status::bad_request("an empty namespace may not be set during creation"));
        }
        if !info.namespaced && !namespace_of(&*object).is_empty() {
            return Err(status::bad_request("namespace may not be set on an object without namespace"));
        }
        let brought = object.meta_mut().managed_fields.take();
        let base = self.fill_metadata(&mut *object);
        object.set_defaults();
        object.normalize();
        let operation = Operation::Create;
        let mut request =
            Request { registry: self, operation, old: None, dry_run: params.dry_run, warnings: &mut warnings };
        self.mutate(&mut request, &mut *object).await?;
        object.prepare_for_create();
        object.set_defaults();
        if let Some(service) = object.as_any_mut().downcast_mut() {
            allocation::prepare(None, service);
        }
        object.meta_mut().managed_fields = brought;
        let manager = params.field_manager.as_deref().unwrap_or(DEFAULT_MANAGER);
        if tracks {
            self.shapes.create(kind, || field_manager(kind, ""), &mut *object, (manager, self.clock.now()));
        }
        // What the system gives is nobody's, so it comes after ownership is noted; validation sees it.
        let mut given = object.as_any().is::<Service>().then(|| object.clone_box());
        self.complete(&mut request, &mut *object).await?;
        let mut names = 1;
        for attempt in 1..=ATTEMPTS {
            let name = name_of(&*object).to_owned();
            let short = key::short(namespace_of(&*object), &name);
            if params.dry_run && self.current(cache, &short, true).await?.is_some() {
                return Err(status::already_exists(info, &name));
            }
            let write = Write { operation, old: None, certain: attempt > 1 };
            let along = self.along(write, Some(&*object)).await?;
            if params.dry_run {
                return Ok((object.into(), warnings));
            }
            let (returned, exists) = match self.put(cache, &short, 0, object, along).await? {
                PutOutcome::Done(stored) => return Ok((stored, warnings)),
                PutOutcome::Conflict { object, exists } => (object, exists),
            };
            let refuse = || match &base {
                Some(base) => status::generate_name_conflict(info, base),
                None => status::already_exists(info, &name),
            };
            object = returned.ok_or_else(refuse)?;
            if exists {
                let base = base.as_ref().filter(|_| names < NAME_ATTEMPTS).ok_or_else(refuse)?;
                object.meta_mut().name = Some(self.random.name(base));
                names += 1;
            }
            if let Some(given) = &mut given {
                // What it was to have may be gone: it starts again from what its author gave.
                given.meta_mut().name.clone_from(&object.meta().name);
                object = given.clone_box();
                // What there is to say was said.
                let warnings = &mut Warnings::new();
                let mut request = Request { registry: self, operation, old: None, dry_run: false, warnings };
                self.complete(&mut request, &mut *object).await?;
            }
        }
        Err(status::conflict(info, name_of(&*object), status::MODIFIED))
    }

    /// Gives a service what it lacks, validates, and lets the rules of admission refuse.
    async fn complete(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        if let Some(service) = object.as_any_mut().downcast_mut() {
            self.allocator.give(None, service, &self.random).await?;
        }
        check(object.kind_type(), object)?;
        self.admit(request, object).await
    }

    /// Sets what only the system sets, and a name where one is to be generated; returns what the name starts with.
    fn fill_metadata(&self, object: &mut dyn AnyObject) -> Option<String> {
        let meta = object.meta_mut();
        meta.deletion_timestamp = None;
        meta.deletion_grace_period_seconds = None;
        meta.creation_timestamp = Some(self.now());
        meta.uid = Some(self.random.uid());
        meta.resource_version = None;
        meta.self_link = None;
        meta.generation = None;
        if !meta.name.as_deref().unwrap_or_default().is_empty() {
            return None;
        }
        let base = meta.generate_name.clone().filter(|base| !base.is_empty())?;
        meta.name = Some(self.random.name(&base));
        Some(base)
    }
}

/// Validates a new object.
fn check(kind: &KindType, object: &dyn AnyObject) -> Result<(), Error> {
    let mut errors = object.validate();
    if errors.is_empty() {
        errors.extend(segment_error("metadata.name", name_of(object)));
        errors.extend(segment_error("metadata.namespace", namespace_of(object)).filter(|_| kind.info.namespaced));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(status::invalid(&kind.info, name_of(object), &errors))
}

/// What makes a name unfit to be part of a path or a key, whatever the kind's own rules say.
fn segment_error(field: &str, name: &str) -> Option<validation::Error> {
    let error = |type_, bad_value: Value, detail: String| {
        Some(validation::Error { type_, field: field.to_owned(), bad_value, detail })
    };
    if name.is_empty() {
        let detail = "name or generateName is required".to_owned();
        return error(ErrorType::FieldValueRequired, Value::Null, detail);
    }
    let invalid = |detail| error(ErrorType::FieldValueInvalid, name.into(), detail);
    if name == "." || name == ".." {
        return invalid(format!("may not be '{name}'"));
    }
    let unfit = ['/', '%'].into_iter().find(|character| name.contains(*character))?;
    invalid(format!("may not contain '{unfit}'"))
}

/// Ownership through the object's own path (`subresource` empty) or another.
pub(super) fn field_manager(kind: &'static KindType, subresource: &'static str) -> FieldManager {
    let reset = match subresource {
        "" if kind.info.has(Subresource::Status) => Set::of_fields(&[&["status"]]),
        "status" => Set::of_fields(&[&["spec"]]),
        _ => Set::of_fields(&[]),
    };
    FieldManager::new(kind, subresource, reset)
}
