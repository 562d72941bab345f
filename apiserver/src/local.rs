//! The client of parts in the same process: it calls the registry and hands out its objects, without serialization.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::api::TokenRequest;
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use longshore_core::client::{Bind, Client, Deleted, DynList, Error, Scope, Target, WatchStream};
use longshore_core::kind::{AnyObject, DynObject, Subresource};
use serde_json::Value;

use crate::registry::{PatchBody, Registry};
use crate::status;

/// A [`Client`] over a [`Registry`] in the same process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalClient {
    registry: Arc<Registry>,
    manager: Arc<str>,
}

impl LocalClient {
    /// A client whose writes are noted as `manager`'s in `managedFields`, unless a call names another.
    pub fn new(registry: Arc<Registry>, manager: &str) -> Self {
        Self { registry, manager: manager.into() }
    }

    /// The registry beneath.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn named(&self, params: &PostParams) -> PostParams {
        let manager = params.field_manager.clone().unwrap_or_else(|| self.manager.to_string());
        PostParams { dry_run: params.dry_run, field_manager: Some(manager) }
    }
}

#[async_trait]
impl Client for LocalClient {
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error> {
        self.registry.get(target, params).await
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        self.registry.list(scope, params).await
    }

    async fn watch(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        resource_version: &str,
    ) -> Result<WatchStream, Error> {
        self.registry.watch(scope, params, resource_version).await
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error> {
        Ok(self.registry.create(object, &self.named(params)).await?.0)
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, Error> {
        Ok(self.registry.update(object, subresource, &self.named(params)).await?.0)
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, Error> {
        let body = match patch {
            Patch::Apply(value) => PatchBody::Apply(value.clone()),
            Patch::Merge(value) => PatchBody::Merge(value.clone()),
            Patch::Strategic(value) => PatchBody::Strategic(value.clone()),
            _ => return Err(status::bad_request("this kind of patch is not known to the local client")),
        };
        let mut params = params.clone();
        params.field_manager.get_or_insert_with(|| self.manager.to_string());
        Ok(self.registry.patch(target, subresource, &body, &params).await?.0)
    }

    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        self.registry.delete(target, params).await
    }

    async fn bind(&self, bind: &Bind) -> Result<(), Error> {
        self.registry.bind(bind, false).await
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error> {
        self.registry.create_token(request).await
    }
}
