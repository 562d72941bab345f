//! The typed front of an informer.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use kube_core::params::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::cache::Change;
use super::changes::Changes;
use super::reflector::{DynInformer, Selection};
use crate::client::{Client, Deleted, Error, Target};
use crate::clock::Clock;
use crate::kind::{DynObject, Kind, KindType, Subresource};

/// A cached handle to the objects of one kind: reads come from the cache, writes go to the server and show in the cache
/// when they return. See the [module's contract](super). Cheap to clone.
pub struct Informer<K> {
    inner: DynInformer,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), kind: PhantomData }
    }
}

impl<K> fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<K: Kind> Informer<K> {
    /// An informer that does nothing until [`Informer::run`].
    pub fn new(client: Arc<dyn Client>, clock: Arc<dyn Clock>, selection: Selection, seed: u64) -> Self {
        Self::from_dyn(DynInformer::new(client, clock, KindType::of::<K>(), selection, seed))
    }

    pub(super) fn from_dyn(inner: DynInformer) -> Self {
        debug_assert!(inner.kind() == KindType::of::<K>());
        Self { inner, kind: PhantomData }
    }

    /// The same informer without its type.
    pub fn as_dyn(&self) -> &DynInformer {
        &self.inner
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.get(namespace, name).map(downcast)
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        typed(self.inner.list())
    }

    /// The objects of one namespace, by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        typed(self.inner.list_namespace(namespace))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Adds an index; does nothing if there is one of that name. The function must depend on nothing but the object.
    pub fn add_index(&self, name: &'static str, function: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.inner.add_index(name, move |object| object.as_any().downcast_ref().map(&function).unwrap_or_default());
    }

    /// The objects that an index lists under a value, by namespace and name.
    ///
    /// # Panics
    /// In debug builds, if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        typed(self.inner.by_index(index, value))
    }

    /// Calls `handler` for every change from now on, after telling it of every object known as [`Change::Added`].
    pub fn on_change(&self, handler: impl Fn(Change<Arc<K>>) + Send + Sync + 'static) {
        self.inner.on_change(move |change| handler(change.clone().map(downcast)));
    }

    /// The changes from now on, beginning with every object known as [`Change::Added`], to be read at leisure.
    pub fn changes(&self) -> Changes<K> {
        let (changes, weak) = Changes::new();
        self.inner.on_change(move |change| {
            if let Some(shared) = weak.upgrade() {
                shared.push(change);
            }
        });
        changes
    }

    /// Whether the first listing is in.
    pub fn has_synced(&self) -> bool {
        self.inner.has_synced()
    }

    /// Waits for the first listing.
    pub async fn synced(&self) {
        self.inner.synced().await;
    }

    /// Keeps the cache current until cancelled. Failures are logged and tried again.
    pub async fn run(&self, cancel: CancellationToken) {
        self.inner.run(cancel).await;
    }

    /// Reads everything anew; see [`DynInformer::refresh`].
    ///
    /// # Errors
    /// What the listing failed with.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.inner.refresh().await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub async fn create(&self, object: K, params: &PostParams) -> Result<Arc<K>, Error> {
        self.wrote(self.inner.client().create(Box::new(object), params).await?)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update(&self, object: K, params: &PostParams) -> Result<Arc<K>, Error> {
        self.wrote(self.inner.client().update(Box::new(object), None, params).await?)
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_status(&self, object: K, params: &PostParams) -> Result<Arc<K>, Error> {
        self.wrote(self.inner.client().update(Box::new(object), Some(Subresource::Status), params).await?)
    }

    /// Changes an object or one of its subresources by a patch.
    ///
    /// # Errors
    /// As [`Client::patch`].
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<Arc<K>, Error> {
        let target = Target { kind: self.inner.kind(), namespace, name };
        self.wrote(self.inner.client().patch(target, subresource, patch, params).await?)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub async fn delete(&self, namespace: &str, name: &str, params: &DeleteParams) -> Result<Deleted, Error> {
        let target = Target { kind: self.inner.kind(), namespace, name };
        let deleted = self.inner.client().delete(target, params).await?;
        if !params.dry_run {
            self.inner.observe_delete(&deleted);
        }
        Ok(deleted)
    }

    fn wrote(&self, object: DynObject) -> Result<Arc<K>, Error> {
        self.inner.observe_write(&object);
        Ok(downcast(object))
    }
}

pub(super) fn downcast<K: Kind>(object: DynObject) -> Arc<K> {
    object.into_any_arc().downcast().expect("an informer holds objects of its kind")
}

fn typed<K: Kind>(objects: Vec<DynObject>) -> Vec<Arc<K>> {
    objects.into_iter().map(downcast).collect()
}
