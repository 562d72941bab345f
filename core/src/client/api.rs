//! The typed front of a client.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::StreamExt;
use kube_core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::Value;

use super::{Client, Deleted, Error, Scope, Target, WatchEvent, WatchStream};
use crate::kind::{DynObject, Kind, KindType, Subresource};

/// Access to the objects of one kind. Cheap to clone.
///
/// Watch events carry [`Watched`]; everything else `Arc<K>`.
pub struct Api<K> {
    client: Arc<dyn Client>,
    /// `None`: all namespaces, or a kind that has none.
    namespace: Option<Box<str>>,
    kind: PhantomData<fn() -> K>,
}

/// An object from a watch.
pub type Watched<K> = WatchEvent<Arc<K>>;

/// A typed listing.
#[derive(Debug, Clone)]
pub struct List<K> {
    /// The objects.
    pub items: Vec<Arc<K>>,
    /// The version that the listing reflects: where to start a watch.
    pub resource_version: String,
    /// Where the next page starts, if there is one.
    pub continue_token: Option<String>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

impl<K: Kind> fmt::Debug for Api<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("kind", &K::INFO.kind).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl<K: Kind> Api<K> {
    /// All objects of the kind, in every namespace. Names given to its methods are of kinds without namespace.
    pub fn all(client: Arc<dyn Client>) -> Self {
        Self { client, namespace: None, kind: PhantomData }
    }

    /// The objects of one namespace.
    pub fn namespaced(client: Arc<dyn Client>, namespace: &str) -> Self {
        Self { client, namespace: Some(namespace.into()), kind: PhantomData }
    }

    /// The client beneath.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    fn target<'a>(&'a self, name: &'a str) -> Target<'a> {
        Target { kind: KindType::of::<K>(), namespace: self.namespace.as_deref().unwrap_or_default(), name }
    }

    fn scope(&self) -> Scope<'_> {
        Scope { kind: KindType::of::<K>(), namespace: self.namespace.as_deref() }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get(&self, name: &str) -> Result<Arc<K>, Error> {
        Ok(typed(self.client.get(self.target(name), &GetParams::default()).await?))
    }

    /// Reads an object; `None` if there is none.
    ///
    /// # Errors
    /// As [`Client::get`], save [`Error::is_not_found`].
    pub async fn get_opt(&self, name: &str) -> Result<Option<Arc<K>>, Error> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists objects.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn list(&self, params: &ListParams) -> Result<List<K>, Error> {
        let list = self.client.list(self.scope(), params).await?;
        Ok(List {
            items: list.items.into_iter().map(typed).collect(),
            resource_version: list.resource_version,
            continue_token: list.continue_token,
        })
    }

    /// Watches objects.
    ///
    /// # Errors
    /// As [`Client::watch`].
    pub async fn watch(&self, params: &WatchParams, resource_version: &str) -> Result<WatchStream<Arc<K>>, Error> {
        let stream = self.client.watch(self.scope(), params, resource_version).await?;
        Ok(stream.map(|event| event.map(|event| event.map(typed))).boxed())
    }

    /// Creates an object. Its namespace is this access's, unless the object names one.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub async fn create(&self, mut object: K, params: &PostParams) -> Result<Arc<K>, Error> {
        let meta = kube_core::Resource::meta_mut(&mut object);
        if meta.namespace.is_none() {
            meta.namespace = self.namespace.as_deref().map(str::to_owned);
        }
        Ok(typed(self.client.create(Box::new(object), params).await?))
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update(&self, object: K, params: &PostParams) -> Result<Arc<K>, Error> {
        Ok(typed(self.client.update(Box::new(object), None, params).await?))
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_status(&self, object: K, params: &PostParams) -> Result<Arc<K>, Error> {
        Ok(typed(self.client.update(Box::new(object), Some(Subresource::Status), params).await?))
    }

    /// Changes an object by a patch.
    ///
    /// # Errors
    /// As [`Client::patch`].
    pub async fn patch(&self, name: &str, patch: &Patch<Value>, params: &PatchParams) -> Result<Arc<K>, Error> {
        Ok(typed(self.client.patch(self.target(name), None, patch, params).await?))
    }

    /// Changes an object's status by a patch.
    ///
    /// # Errors
    /// As [`Client::patch`].
    pub async fn patch_status(&self, name: &str, patch: &Patch<Value>, params: &PatchParams) -> Result<Arc<K>, Error> {
        Ok(typed(self.client.patch(self.target(name), Some(Subresource::Status), patch, params).await?))
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<Deleted, Error> {
        self.client.delete(self.target(name), params).await
    }
}

impl<T> WatchEvent<T> {
    /// The same event about something made from its object.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> WatchEvent<U> {
        match self {
            Self::Added(object) => WatchEvent::Added(f(object)),
            Self::Modified(object) => WatchEvent::Modified(f(object)),
            Self::Deleted(object) => WatchEvent::Deleted(f(object)),
            Self::Bookmark { resource_version, initial_events_end } => {
                WatchEvent::Bookmark { resource_version, initial_events_end }
            }
        }
    }
}

fn typed<K: Kind>(object: DynObject) -> Arc<K> {
    object.into_any_arc().downcast().expect("a client answers with objects of the kind asked for")
}
