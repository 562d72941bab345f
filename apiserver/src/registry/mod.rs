//! The registry: the one way in which objects are written, and the one place from which they are read.
//!
//! A write goes decode → admission (may change) → defaults → preparation → validation → admission (may refuse) →
//! commit. Everything is optimistic: an update reads, computes, and commits on the condition that nothing changed.
//! What must never disagree with an object (what its pod takes of a node, its addresses) is written in the same commit.

mod along;
mod bind;
mod bootstrap;
mod create;
mod delete;
mod evict;
#[cfg(test)]
mod fence_tests;
mod join;
mod patch;
#[cfg(test)]
mod pod_tests;
mod presence;
mod random;
mod read;
mod renewal;
mod roles;
mod scale;
#[cfg(test)]
mod several_tests;
#[cfg(test)]
mod tests;
mod token;
mod update;
#[cfg(test)]
mod version_tests;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::{Event, Pod};
use longshore_core::apply::Shapes;
use longshore_core::client::{Error, Target};
use longshore_core::clock::Clock;
use longshore_core::kind::{AnyObject, DynObject, Kind, KindType};
use longshore_core::store::{self, Committed, KeyValue, Revision, Store, Transaction};
use tokio::task::JoinSet;

use crate::admission::{self, AdmissionRule, Request, Unsupported};
use crate::allocation::{Allocator, PortRange, ServiceRanges};
use crate::cache::{Cache, Cached, Feed, KindCache, feed};
use crate::ledger::{self, Claim, Ledger};
use crate::selector::Filter;
use crate::token::TokenIssuer;
use crate::{key, status};

pub use patch::PatchBody;

use along::Along;
pub(crate) use random::Random;
pub(crate) use token::{POD_LIFE, refuse_node};

/// How often a write is tried again that lost against another, unless it named a version.
const ATTEMPTS: usize = 32;

/// How a registry is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The kinds that are served.
    pub kinds: Vec<&'static KindType>,
    /// Events that are kept of each kind for watches that start in the past.
    pub window: usize,
    /// Seed of uids and generated names; two registries over one store must not share it.
    pub seed: u64,
    /// What requests have to pass, in this order; see [`admission::built_in`].
    pub admission: Vec<Arc<dyn AdmissionRule>>,
    /// How long events are kept; each write of one begins this time anew.
    pub event_ttl: Duration,
    /// Addresses of services. Servers over one store must agree.
    pub service_addresses: ServiceRanges,
    /// Node ports of services. Servers over one store must agree.
    pub node_ports: PortRange,
    /// What makes tokens of service accounts and knows them. Without it there are no tokens, and none is mounted into pods. Servers
    /// over one store must share its key.
    pub tokens: Option<Arc<TokenIssuer>>,
}

impl Options {
    /// All kinds, 4096 events each, this seed, the built-in rules of admission, an hour for events, services in
    /// `10.96.0.0/16` and ports `30000-32767`, no tokens.
    pub fn new(seed: u64) -> Self {
        Self {
            kinds: longshore_core::api::kinds().to_vec(),
            window: 4096,
            seed,
            admission: admission::built_in(Unsupported::Refuse),
            event_ttl: Duration::from_secs(3600),
            service_addresses: ServiceRanges::DEFAULT,
            node_ports: PortRange::DEFAULT,
            tokens: None,
        }
    }
}

/// Why a registry could not start.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The objects in the store cannot be read.
    #[error("cannot read the objects in the store: {0}")]
    Store(#[from] store::Error),
    /// An object that every cluster has cannot be created.
    #[error("cannot create {what}: {source}")]
    Bootstrap {
        /// The object, such as `namespaces default`.
        what: String,
        /// What the registry said.
        source: Error,
    },
}

/// What a write has to say besides its result; sent as `Warning` headers.
pub type Warnings = Vec<String>;

/// Objects in a store, with the rules of their kinds.
///
/// Dropping it ends its watches.
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    cache: Arc<Cache>,
    admission: Vec<Arc<dyn AdmissionRule>>,
    ledger: Ledger,
    allocator: Allocator,
    event_ttl: Duration,
    tokens: Option<Arc<TokenIssuer>>,
    random: Random,
    kinds: Vec<&'static KindType>,
    /// Which fields new objects have.
    shapes: Shapes,
    tasks: Mutex<JoinSet<()>>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.cache.close();
    }
}

impl Registry {
    /// Reads the store and starts to follow it. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// The store could not be read, or holds an object that cannot be decoded.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Arc<Self>, StartError> {
        let cache = Arc::new(Cache::new(&options.kinds, options.window));
        let feed = Feed { cache: Arc::clone(&cache), store: Arc::clone(&store), clock: Arc::clone(&clock) };
        let revision = load(&feed, &cache).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(feed.follow(revision));
        let registry = Arc::new(Self {
            ledger: Ledger::new(Arc::clone(&store)),
            allocator: Allocator::new(Arc::clone(&store), options.service_addresses, options.node_ports),
            store,
            clock,
            cache,
            admission: options.admission,
            event_ttl: options.event_ttl,
            tokens: options.tokens,
            random: Random::new(options.seed),
            kinds: options.kinds,
            shapes: Shapes::default(),
            tasks: Mutex::new(tasks),
        });
        registry.bootstrap().await?;
        Ok(registry)
    }

    /// Stops following the store and ends all watches.
    pub async fn stop(&self) {
        self.cache.close();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    /// The kinds that are served.
    pub fn kinds(&self) -> &[&'static KindType] {
        &self.kinds
    }

    /// The registry's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A name that begins so and is probably nobody's.
    pub(crate) fn fresh_name(&self, base: &str) -> String {
        self.random.name(base)
    }

    /// How many objects of a kind there are, as far as the cache knows; `None` if the kind is not served.
    pub fn count(&self, kind: &KindType) -> Option<usize> {
        self.cache.kind(kind).ok().map(|cache| cache.len())
    }

    pub(crate) fn serves(&self, kind: &KindType) -> bool {
        self.cache.kind(kind).is_ok()
    }

    /// All objects of a kind as the cache knows them; none if the kind is not served.
    pub(crate) fn cached_objects(&self, kind: &KindType) -> Vec<DynObject> {
        self.cache.kind(kind).map(|cache| cache.objects()).unwrap_or_default()
    }

    /// The objects of a kind in a namespace, or in all, as the cache knows them; none if the kind is not served.
    pub(crate) fn cached_in<K: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let Ok(cache) = self.cache.kind(KindType::of::<K>()) else { return Vec::new() };
        let found = cache.list(namespace, &Filter::default(), 0, 0).objects.into_iter();
        found.filter_map(|object| object.into_any_arc().downcast().ok()).collect()
    }

    /// An object as the cache knows it.
    pub(crate) fn cached_one<K: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let cache = self.cache.kind(KindType::of::<K>()).ok()?;
        cache.get(&key::short(namespace, name))?.object.into_any_arc().downcast().ok()
    }

    /// Waits until the cache has everything that was committed before this call.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        self.cache.fresh(&*self.store).await
    }

    /// An object as the cache knows it, else as the store does, else as it appears within `patience`.
    pub(crate) async fn find(&self, target: Target<'_>, patience: Duration) -> Result<Option<DynObject>, Error> {
        let cache = self.cache.kind(target.kind)?;
        let short = key::short(target.namespace, target.name);
        let mut changes = cache.changes();
        if let Some(found) = self.current(cache, &short, false).await? {
            return Ok(Some(found.object));
        }
        if patience.is_zero() {
            return Ok(None);
        }
        let appears = pin!(async {
            while changes.changed().await.is_ok() {
                if let Some(found) = cache.get(&short) {
                    return Some(found.object);
                }
            }
            None
        });
        match select(appears, self.clock.sleep(patience)).await {
            Either::Left((found, _)) => Ok(found),
            Either::Right(_) => Ok(None),
        }
    }

    /// Lets the rules of admission change an object.
    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        for rule in &self.admission {
            rule.mutate(request, object).await?;
        }
        Ok(())
    }

    /// Asks the rules of admission about an object.
    async fn admit(&self, request: &mut Request<'_>, object: &dyn AnyObject) -> Result<(), Error> {
        for rule in &self.admission {
            rule.validate(request, object).await?;
        }
        Ok(())
    }

    fn now(&self) -> Time {
        // The wire format has whole seconds.
        let now = self.clock.now();
        Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// The object as the cache knows it, else as the store does.
    async fn current(&self, cache: &KindCache, short: &str, from_store: bool) -> Result<Option<Cached>, Error> {
        if !from_store && let Some(cached) = cache.get(short) {
            return Ok(Some(cached));
        }
        let key = key::full(&cache.kind.info, short);
        let read = self.store.get(&key).await.map_err(|error| status::from_store(error, "read"))?;
        read.value.map(|entry| self.decode(cache, &entry)).transpose()
    }

    fn decode(&self, cache: &KindCache, entry: &KeyValue) -> Result<Cached, Error> {
        let object = feed::decode(cache.kind, entry).map_err(|error| status::from_store(error, "read"))?;
        Ok(Cached { object, revision: entry.revision })
    }

    /// Puts an object, and what goes along, on the condition that its key was last put at `expected` (0: is absent).
    async fn put(
        &self,
        cache: &KindCache,
        short: &str,
        expected: Revision,
        mut object: Box<dyn AnyObject>,
        along: Along,
    ) -> Result<PutOutcome, Error> {
        object.meta_mut().resource_version = None;
        let info = &cache.kind.info;
        let bytes = Bytes::from(object.to_vec());
        let claim = self.cache.handoff.offer(&bytes, object);
        let key = key::full(info, short);
        let mut transaction = Transaction::new().expect(key.clone(), expected);
        transaction = if cache.kind == KindType::of::<Event>() {
            transaction.put_with_ttl(key.clone(), bytes, self.event_ttl)
        } else {
            transaction.put(key.clone(), bytes)
        };
        transaction.compare.extend(along.transaction.compare.iter().cloned());
        transaction.operations.extend(along.transaction.operations.iter().cloned());
        match self.store.commit(transaction).await {
            Ok(Committed::Done(revision)) => {
                along.done(revision);
                Ok(PutOutcome::Done(claim.committed(revision)))
            }
            Ok(Committed::Conflict { key: lost, .. }) => {
                Ok(PutOutcome::Conflict { object: claim.refused(), exists: lost == key })
            }
            Err(error) => {
                drop(claim);
                Err(status::from_store(error, &format!("write {} {short}", info.resource())))
            }
        }
    }
}

/// Fills the cache, and makes the ledger agree with the pods in it.
async fn load(feed: &Feed, cache: &Cache) -> Result<Revision, store::Error> {
    loop {
        let revision = feed.load().await?;
        let Ok(pods) = cache.kind(KindType::of::<Pod>()) else { return Ok(revision) };
        let pods = pods.objects();
        let claims = pods.iter().filter_map(|pod| Claim::of(pod.as_any().downcast_ref()?));
        if ledger::repair(&*feed.store, revision, claims).await? {
            return Ok(revision);
        }
    }
}

enum PutOutcome {
    Done(DynObject),
    /// Somebody else was faster. The object comes back to be tried again.
    Conflict {
        object: Option<Box<dyn AnyObject>>,
        /// Whether it was the object's own key that was not as expected.
        exists: bool,
    },
}

fn namespace_of(object: &dyn AnyObject) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

fn name_of(object: &dyn AnyObject) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}
