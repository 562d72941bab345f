//! The untyped informer: the cache, who listens to it, and the loop that lists and watches.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::StreamExt;
use kube_core::params::{ListParams, WatchParams};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Change, IndexFn, ObjectKey};
use crate::client::{Client, Deleted, Error, Scope, WatchEvent};
use crate::clock::Clock;
use crate::kind::{AnyObject, DynObject, KindType};

/// First wait after a failure to list or watch; doubles up to [`BACKOFF_MAX`], with as much again of jitter at most.
const BACKOFF_BASE: Duration = Duration::from_millis(800);
/// Longest wait before jitter.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A watch that lived this long was no failure.
const HEALTHY: Duration = Duration::from_secs(120);

/// Which objects of a kind an informer wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only this namespace; `None` for all.
    pub namespace: Option<String>,
    /// Fields and the values that they must have, such as `spec.nodeName`.
    pub fields: Vec<(String, String)>,
}

impl Selection {
    /// All objects whose field has this value.
    pub fn field(field: &str, value: &str) -> Self {
        Self { namespace: None, fields: vec![(field.to_owned(), value.to_owned())] }
    }

    fn selector(&self) -> Option<String> {
        let terms: Vec<String> = self.fields.iter().map(|(field, value)| format!("{field}={value}")).collect();
        (!terms.is_empty()).then(|| terms.join(","))
    }

    fn matches(&self, object: &dyn AnyObject) -> bool {
        self.namespace.as_deref().is_none_or(|want| object.meta().namespace.as_deref() == Some(want))
            && self.fields.iter().all(|(field, want)| object.field(field).as_ref() == Some(want))
    }
}

type Handler = Box<dyn Fn(&Change<DynObject>) + Send + Sync>;

/// An informer of a kind known only at run time; [`Informer`](super::Informer) is its typed front. Cheap to clone.
#[derive(Clone)]
pub struct DynInformer {
    shared: Arc<Shared>,
}

/// How far the first listing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    Awaited,
    NotServed,
    Done,
}

struct Shared {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    kind: &'static KindType,
    selection: Selection,
    cache: RwLock<Cache>,
    /// Held while the cache changes and its handlers are told, so that they hear of changes in order.
    handlers: Mutex<Vec<Handler>>,
    listing: watch::Sender<Listing>,
    seed: u64,
}

impl fmt::Debug for DynInformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer")
            .field("kind", &self.shared.kind.info.kind)
            .field("objects", &self.cache().len())
            .field("synced", &self.has_synced())
            .finish_non_exhaustive()
    }
}

impl DynInformer {
    /// An informer that does nothing until [`DynInformer::run`]. The seed is for the jitter of its back-off.
    pub fn new(
        client: Arc<dyn Client>,
        clock: Arc<dyn Clock>,
        kind: &'static KindType,
        selection: Selection,
        seed: u64,
    ) -> Self {
        let shared = Shared {
            client,
            clock,
            kind,
            selection,
            cache: RwLock::default(),
            handlers: Mutex::default(),
            listing: watch::Sender::new(Listing::Awaited),
            seed,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The kind of the objects.
    pub fn kind(&self) -> &'static KindType {
        self.shared.kind
    }

    /// The client beneath. What is written through it directly shows in the cache only when the watch tells.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.shared.client
    }

    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.shared.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<Handler>> {
        self.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<DynObject> {
        self.cache().get(&ObjectKey::new(namespace, name)).cloned()
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<DynObject> {
        self.cache().iter().cloned().collect()
    }

    /// The objects of one namespace, by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<DynObject> {
        self.cache().namespace(namespace).cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.cache().len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index; does nothing if there is one of that name. The function must depend on nothing but the object.
    pub fn add_index(
        &self,
        name: &'static str,
        function: impl Fn(&dyn AnyObject) -> Vec<String> + Send + Sync + 'static,
    ) {
        let function: IndexFn = Arc::new(function);
        self.shared.cache.write().unwrap_or_else(PoisonError::into_inner).add_index(name, function);
    }

    /// The objects that an index lists under a value, by namespace and name.
    ///
    /// # Panics
    /// In debug builds, if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<DynObject> {
        let cache = self.cache();
        debug_assert!(cache.has_index(index), "no index {index} over {}", self.shared.kind.info.plural);
        cache.by_index(index, value)
    }

    /// Calls `handler` for every change from now on, after telling it of every object known as [`Change::Added`].
    pub fn on_change(&self, handler: impl Fn(&Change<DynObject>) + Send + Sync + 'static) {
        let mut handlers = self.handlers();
        for object in self.list() {
            handler(&Change::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Whether the first listing is in.
    pub fn has_synced(&self) -> bool {
        *self.shared.listing.borrow() == Listing::Done
    }

    /// Waits for the first listing.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.listing.subscribe().wait_for(|listing| *listing == Listing::Done).await;
    }

    /// Waits for the first listing, or for the server to say that it does not serve the kind.
    pub async fn answered(&self) {
        let _ = self.shared.listing.subscribe().wait_for(|listing| *listing != Listing::Awaited).await;
    }

    /// Lets go of the handlers.
    pub(super) fn drop_handlers(&self) {
        let handlers = std::mem::take(&mut *self.handlers());
        drop(handlers);
    }

    fn change(&self, change: impl FnOnce(&mut Cache) -> Vec<Change<DynObject>>) {
        let handlers = self.handlers();
        let changes = change(&mut self.shared.cache.write().unwrap_or_else(PoisonError::into_inner));
        for change in &changes {
            for handler in &*handlers {
                handler(change);
            }
        }
    }

    /// Shows the answer to a write that did not go through this handle. Answers older than the cache change nothing.
    pub fn observe_write(&self, object: &DynObject) {
        let selected = self.shared.selection.matches(&**object);
        self.change(|cache| cache.wrote(object.clone(), selected));
    }

    /// Shows the answer to a delete that did not go through this handle.
    pub fn observe_delete(&self, deleted: &Deleted) {
        let (Deleted::Gone(object) | Deleted::Pending(object)) = deleted;
        let selected = self.shared.selection.matches(&**object);
        self.change(|cache| cache.deleted(deleted, selected));
    }

    /// Puts objects into the cache of an informer that does not run, as if they had been listed: for tests and for
    /// deciding about a recorded state.
    pub fn seed(&self, objects: Vec<DynObject>) {
        let wanted = objects.into_iter().filter(|object| self.shared.selection.matches(&**object)).collect();
        self.change(|cache| cache.replace(wanted, None));
        self.shared.listing.send_replace(Listing::Done);
    }

    /// Reads everything anew and merges it: afterwards the cache shows at least what the server had when the call began.
    ///
    /// # Errors
    /// What the listing failed with; the cache is as before.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.relist().await.map(drop)
    }

    async fn relist(&self) -> Result<String, Error> {
        let scope = Scope { kind: self.shared.kind, namespace: self.shared.selection.namespace.as_deref() };
        let mut params = ListParams { field_selector: self.shared.selection.selector(), ..ListParams::default() };
        let (mut items, mut resource_version) = (Vec::new(), None);
        loop {
            let page = self.shared.client.list(scope, &params).await?;
            items.extend(page.items);
            // Every page of a listing shows the moment of the first.
            let resource_version = resource_version.get_or_insert(page.resource_version);
            if page.continue_token.is_none() {
                self.change(|cache| cache.replace(items, resource_version.parse().ok()));
                return Ok(std::mem::take(resource_version));
            }
            params.continue_token = page.continue_token;
        }
    }

    /// Keeps the cache current until cancelled. Failures are logged and tried again.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut backoff = Backoff { attempt: 0, rng: Pcg64::seed_from_u64(self.shared.seed) };
        let work = async {
            let mut from = None;
            loop {
                let begun = self.shared.clock.elapsed();
                let went_on = from.is_some();
                let ended = self.list_and_watch(&mut from).await;
                if self.shared.clock.elapsed().saturating_sub(begun) >= HEALTHY {
                    backoff.attempt = 0;
                }
                match ended {
                    // Servers end watches as a matter of course.
                    Ok(true) => backoff.attempt = 0,
                    Ok(false) => {}
                    Err(error) => {
                        // Too old to go on from, or doubtful: list anew.
                        if error.is_expired() || matches!(error, Error::Api(_) | Error::Decode { .. }) {
                            from = None;
                        }
                        // A server that was away is back, and knows the past no longer: the failures before are no reason to wait.
                        if error.is_expired() && went_on {
                            backoff.attempt = 0;
                        }
                        let kind = self.shared.kind.info.plural;
                        if error.is_not_found() && !self.has_synced() {
                            if self.shared.listing.send_replace(Listing::NotServed) == Listing::Awaited {
                                tracing::info!(
                                    kind,
                                    "the server does not serve this kind; asking again from time to time"
                                );
                            }
                        } else {
                            tracing::warn!(kind, %error, "cannot list or watch, trying again");
                        }
                    }
                }
                let wait = backoff.next();
                self.shared.clock.sleep(wait).await;
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// One listing, unless there is a version to go on from, and one watch. Says whether the watch told anything.
    async fn list_and_watch(&self, from: &mut Option<String>) -> Result<bool, Error> {
        let start = match from {
            Some(version) => version.clone(),
            None => {
                let version = self.relist().await?;
                self.shared.listing.send_replace(Listing::Done);
                from.insert(version).clone()
            }
        };
        let scope = Scope { kind: self.shared.kind, namespace: self.shared.selection.namespace.as_deref() };
        let params = WatchParams {
            field_selector: self.shared.selection.selector(),
            bookmarks: true,
            send_initial_events: false,
            ..WatchParams::default()
        };
        let mut events = self.shared.client.watch(scope, &params, &start).await?;
        let mut told = false;
        while let Some(event) = events.next().await {
            let version = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = object.meta().resource_version.clone();
                    self.change(|cache| cache.observe(object));
                    version
                }
                WatchEvent::Deleted(object) => {
                    self.change(|cache| cache.observe_deleted(&*object));
                    object.meta().resource_version.clone()
                }
                WatchEvent::Bookmark { resource_version, .. } => {
                    self.change(|cache| {
                        cache.advance(resource_version.parse().ok());
                        Vec::new()
                    });
                    Some(resource_version)
                }
            };
            told = true;
            if version.is_some() {
                *from = version;
            }
        }
        Ok(told)
    }
}

struct Backoff {
    attempt: u32,
    rng: Pcg64,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        // The first time after a healthy watch is no reason to wait long.
        let base = BACKOFF_BASE.saturating_mul(1 << self.attempt.min(6)).min(BACKOFF_MAX);
        let base = if self.attempt == 0 { base / 8 } else { base };
        self.attempt = self.attempt.saturating_add(1);
        base.mul_f64(1.0 + self.rng.random::<f64>())
    }
}
