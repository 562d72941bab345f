//! Patches of all four kinds.

use std::sync::{Mutex, PoisonError};

use kube_core::response::StatusCause;
use longshore_core::apply::ApplyError;
use longshore_core::client::params::{PatchParams, PostParams, ValidationDirective};
use longshore_core::client::{Error, Target};
use longshore_core::decode::{DecodeError, FieldValidation, decode_value};
use longshore_core::kind::{AnyObject, DynObject, Subresource};
use longshore_core::patch::{PatchError, apply_json_patch, apply_merge_patch, apply_strategic};
use longshore_core::schema;
use longshore_core::status as core_status;
use longshore_core::status::GroupResource;
use longshore_core::validation::{self, ErrorType};
use serde_json::Value;

use super::create::{DEFAULT_MANAGER, field_manager};
use super::update::Rewrite;
use super::{Registry, Warnings};
use crate::status;

/// A patch as a request brings it.
#[derive(Debug, Clone, PartialEq)]
pub enum PatchBody {
    /// `application/json-patch+json`.
    Json(Value),
    /// `application/merge-patch+json`.
    Merge(Value),
    /// `application/strategic-merge-patch+json`.
    Strategic(Value),
    /// `application/apply-patch+yaml`.
    Apply(Value),
}

impl Registry {
    /// Changes an object or one of its subresources by a patch.
    ///
    /// # Errors
    /// 404 (an apply patch creates instead), 409, 422, 400 for a malformed patch.
    pub async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &PatchBody,
        params: &PatchParams,
    ) -> Result<(DynObject, Warnings), Error> {
        if params.force && !matches!(patch, PatchBody::Apply(_)) {
            return Err(status::bad_request("force may only be set for apply patches"));
        }
        let manager = params.field_manager.as_deref().unwrap_or_default();
        if let PatchBody::Apply(_) = patch
            && manager.is_empty()
        {
            return Err(status::bad_request("fieldManager is required for apply patch"));
        }
        let rewrite = Rewrite {
            target,
            subresource,
            manager: if manager.is_empty() { DEFAULT_MANAGER } else { manager },
            dry_run: params.dry_run,
            tracks: !matches!(patch, PatchBody::Apply(_)),
        };
        // What was found wrong in the last attempt, to warn of.
        let found = Mutex::new(Warnings::new());
        let make = |current: &DynObject| self.patched(target, subresource, patch, params, current, &found);
        let outcome = self.rewrite(rewrite, make).await;
        match (outcome, patch) {
            (Err(error), PatchBody::Apply(config)) if error.is_not_found() && subresource.is_none() => {
                let mut object = field_manager(target.kind, "")
                    .apply(None, config, manager, params.force, self.clock.now())
                    .map_err(|error| refuse_apply(target, error))?;
                let meta = object.meta_mut();
                meta.name.get_or_insert_with(|| target.name.to_owned());
                if target.kind.info.namespaced && meta.namespace.is_none() {
                    meta.namespace = Some(target.namespace.to_owned());
                }
                check_place(target, &*object)?;
                let created = PostParams { dry_run: params.dry_run, field_manager: Some(manager.to_owned()) };
                self.create_tracked(object, &created, false).await
            }
            (outcome, _) => outcome.map(|(object, mut warnings)| {
                warnings.splice(0..0, found.into_inner().unwrap_or_else(PoisonError::into_inner));
                (object, warnings)
            }),
        }
    }

    fn patched(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &PatchBody,
        params: &PatchParams,
        current: &DynObject,
        found: &Mutex<Warnings>,
    ) -> Result<Box<dyn AnyObject>, Error> {
        let kind = target.kind;
        // What such a patch does not mention need not be read again: that is a third of a status that an agent writes.
        let spares = matches!(patch, PatchBody::Merge(patch) if spares_managed_fields(patch));
        let applied = match patch {
            PatchBody::Json(patch) => apply_json_patch(current.to_value(), patch),
            PatchBody::Merge(patch) if spares => apply_merge_patch(current.to_unmanaged_value(), patch),
            PatchBody::Merge(patch) => apply_merge_patch(current.to_value(), patch),
            PatchBody::Strategic(patch) => apply_strategic(current.to_value(), patch.clone(), schema::of(kind)),
            PatchBody::Apply(config) => {
                let path = subresource.map_or("", Subresource::as_str);
                let mut object = field_manager(kind, path)
                    .apply(
                        Some(&**current),
                        config,
                        &params.field_manager.clone().unwrap_or_default(),
                        params.force,
                        self.clock.now(),
                    )
                    .map_err(|error| refuse_apply(target, error))?;
                object.normalize();
                check_place(target, &*object)?;
                return Ok(object);
            }
        };
        let value = applied.map_err(|error| refuse_patch(target, &error))?;
        let validation = match params.field_validation {
            Some(ValidationDirective::Strict) => FieldValidation::Strict,
            Some(ValidationDirective::Ignore) => FieldValidation::Ignore,
            _ => FieldValidation::Warn,
        };
        let decoded =
            decode_value(kind, value, validation).map_err(|error| refuse_result(&shown(patch, current), &error))?;
        *found.lock().unwrap_or_else(PoisonError::into_inner) = decoded.warnings;
        let mut object = decoded.object;
        if spares {
            object.meta_mut().managed_fields.clone_from(&current.meta().managed_fields);
        }
        object.set_defaults();
        object.normalize();
        check_place(target, &*object)?;
        Ok(object)
    }
}

/// Whether a merge patch leaves `metadata.managedFields` as it is.
fn spares_managed_fields(patch: &Value) -> bool {
    let Some(patch) = patch.as_object() else { return false };
    patch.get("metadata").is_none_or(|metadata| metadata.is_object() && metadata.get("managedFields").is_none())
}

/// What an error shows of a patch whose result is not right: the result, but of a strategic patch the patch itself.
fn shown(patch: &PatchBody, current: &DynObject) -> String {
    let result = match patch {
        PatchBody::Json(patch) => apply_json_patch(current.to_value(), patch),
        PatchBody::Merge(patch) => apply_merge_patch(current.to_value(), patch),
        PatchBody::Strategic(patch) | PatchBody::Apply(patch) => return patch.to_string(),
    };
    result.map(|value| value.to_string()).unwrap_or_default()
}

fn check_place(target: Target<'_>, object: &dyn AnyObject) -> Result<(), Error> {
    let name = object.meta().name.as_deref().unwrap_or_default();
    if name != target.name {
        return Err(status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    if target.kind.info.namespaced && !namespace.is_empty() && namespace != target.namespace {
        return Err(status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL ({})",
            target.namespace
        )));
    }
    Ok(())
}

fn refuse_patch(target: Target<'_>, error: &PatchError) -> Error {
    match error {
        PatchError::Malformed(text) => status::bad_request(text),
        _ => status::failure(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {error}"),
        ),
    }
    .about_target(target)
}

fn refuse_result(shown: &str, error: &DecodeError) -> Error {
    if let DecodeError::Strict { .. } | DecodeError::Type { .. } = error {
        let invalid = validation::Error {
            type_: ErrorType::FieldValueInvalid,
            field: "patch".to_owned(),
            bad_value: shown.into(),
            detail: error.to_string(),
        };
        return core_status::invalid(GroupResource::default(), "", &[invalid]).into();
    }
    status::bad_request(error.to_string())
}

fn refuse_apply(target: Target<'_>, error: ApplyError) -> Error {
    match error {
        ApplyError::BadRequest(text) => status::bad_request(text),
        ApplyError::Internal(text) => status::unknown(text).about_target(target),
        ApplyError::Conflict(conflicts) => {
            let mut error = status::failure(409, "Conflict", conflicts.to_string());
            if let Error::Api(status) = &mut error {
                let causes = conflicts.causes().into_iter();
                let causes = causes.map(|(field, message)| StatusCause {
                    reason: "FieldManagerConflict".to_owned(),
                    message,
                    field,
                });
                status.details = Some(kube_core::response::StatusDetails {
                    name: String::new(),
                    group: String::new(),
                    kind: String::new(),
                    uid: String::new(),
                    causes: causes.collect(),
                    retry_after_seconds: 0,
                });
            }
            error
        }
    }
}

trait About {
    fn about_target(self, target: Target<'_>) -> Self;
}

impl About for Error {
    /// Names the object in the error's details.
    fn about_target(mut self, target: Target<'_>) -> Self {
        if let Self::Api(status) = &mut self {
            status.details = Some(kube_core::response::StatusDetails {
                name: target.name.to_owned(),
                group: target.kind.info.group.to_owned(),
                kind: target.kind.info.plural.to_owned(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds: 0,
            });
        }
        self
    }
}
