//! Scale: the number of replicas of a workload, in one shape for all kinds.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::Scale;
use longshore_core::client::params::{GetParams, PatchParams, PostParams};
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, Subresource};
use longshore_core::patch::{PatchError, apply_json_patch, apply_merge_patch};
use longshore_core::selector::LabelSelector;
use serde_json::{Value, json};

use super::create::DEFAULT_MANAGER;
use super::update::Rewrite;
use super::{PatchBody, Registry};
use crate::status;

impl Registry {
    /// The scale of a workload.
    ///
    /// # Errors
    /// 404.
    pub async fn scale(&self, target: Target<'_>) -> Result<Scale, Error> {
        scale_of(&*self.get(target, &GetParams::default()).await?)
    }

    /// Sets the number of replicas of a workload. A version or uid in `scale` must be the workload's.
    ///
    /// # Errors
    /// 404, 409 Conflict, 422 Invalid.
    pub async fn update_scale(&self, target: Target<'_>, scale: &Scale, params: &PostParams) -> Result<Scale, Error> {
        let manager = params.field_manager.as_deref().unwrap_or(DEFAULT_MANAGER);
        self.rewrite_scale(target, manager, params.dry_run, |_| Ok(scale.clone())).await
    }

    /// Changes the scale of a workload by a patch of its [`Scale`].
    ///
    /// # Errors
    /// 404, 409 Conflict, 422 Invalid, 400 for a malformed patch.
    pub async fn patch_scale(
        &self,
        target: Target<'_>,
        patch: &PatchBody,
        params: &PatchParams,
    ) -> Result<Scale, Error> {
        let manager = params.field_manager.as_deref().unwrap_or(DEFAULT_MANAGER);
        if let PatchBody::Apply(config) = patch {
            // Who applies a scale owns the field of the workload that it stands for.
            let info = &target.kind.info;
            let config = json!({
                "apiVersion": info.api_version(), "kind": info.kind,
                "metadata": { "name": target.name, "namespace": target.namespace },
                "spec": { "replicas": config["spec"]["replicas"] },
            });
            let scale = Some(Subresource::Scale);
            let (object, _) = self.patch(target, scale, &PatchBody::Apply(config), params).await?;
            return scale_of(&*object);
        }
        let patched = |current: &Scale| {
            let value = serde_json::to_value(current).map_err(status::internal)?;
            let value = match patch {
                PatchBody::Json(patch) => apply_json_patch(value, patch),
                // A scale has no lists, so both kinds of merge are one.
                PatchBody::Merge(patch) | PatchBody::Strategic(patch) => apply_merge_patch(value, patch),
                PatchBody::Apply(_) => unreachable!("handled above"),
            };
            let value = value.map_err(|error| match error {
                PatchError::Malformed(text) => status::bad_request(text),
                error => status::failure(
                    422,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                ),
            })?;
            serde_json::from_value(value).map_err(|error| status::bad_request(error.to_string()))
        };
        self.rewrite_scale(target, manager, params.dry_run, patched).await
    }

    async fn rewrite_scale(
        &self,
        target: Target<'_>,
        manager: &str,
        dry_run: bool,
        make: impl Fn(&Scale) -> Result<Scale, Error> + Send + Sync,
    ) -> Result<Scale, Error> {
        let rewrite = Rewrite { target, subresource: Some(Subresource::Scale), manager, dry_run, tracks: true };
        let (object, _) = self
            .rewrite(rewrite, |current| {
                let scale = make(&scale_of(&**current)?)?;
                check(target, &scale)?;
                let mut value = current.to_value();
                value["spec"]["replicas"] = scale.spec.replicas.into();
                let mut object = (target.kind.from_value)(value).map_err(status::internal)?;
                let meta = object.meta_mut();
                meta.resource_version = scale.metadata.resource_version.filter(|version| !version.is_empty());
                if let Some(uid) = scale.metadata.uid.filter(|uid| !uid.is_empty()) {
                    meta.uid = Some(uid);
                }
                Ok(object)
            })
            .await?;
        scale_of(&*object)
    }
}

fn check(target: Target<'_>, scale: &Scale) -> Result<(), Error> {
    let named = scale.metadata.name.as_deref().unwrap_or_default();
    if !named.is_empty() && named != target.name {
        let name = target.name;
        return Err(status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    if scale.spec.replicas >= 0 {
        return Ok(());
    }
    let (name, replicas) = (target.name, scale.spec.replicas);
    Err(status::failure(
        422,
        "Invalid",
        format!(
            "Scale.autoscaling {name:?} is invalid: spec.replicas: Invalid value: {replicas}: must be greater than or \
             equal to 0"
        ),
    ))
}

fn scale_of(object: &dyn AnyObject) -> Result<Scale, Error> {
    let value = object.to_value();
    let meta = object.meta();
    let number = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    let mut scale = Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        ..Scale::default()
    };
    // A workload without a number wants one.
    scale.spec.replicas = number(&value["spec"]["replicas"]).unwrap_or(1);
    scale.status.replicas = number(&value["status"]["replicas"]).unwrap_or(0);
    let selector = &value["spec"]["selector"];
    let is_selector = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let selector = if is_selector {
        serde_json::from_value(selector.clone()).map_err(status::internal)?
    } else {
        // A replication controller's is a plain map.
        let labels = serde_json::from_value::<Option<BTreeMap<String, String>>>(selector.clone());
        LabelSelector {
            match_labels: labels.map_err(status::internal)?.unwrap_or_default(),
            ..LabelSelector::default()
        }
    };
    scale.status.selector = selector.compile().map_err(status::internal)?.to_string();
    Ok(scale)
}
