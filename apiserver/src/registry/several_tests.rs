//! Several registries over one store, one of whose caches is behind.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join;
use longshore_core::api::ConfigMap;
use longshore_core::client::params::{GetParams, ListParams, PostParams, VersionMatch, WatchParams};
use longshore_core::client::{Api, Client, Target, WatchEvent};
use longshore_core::clock::VirtualClock;
use longshore_core::kind::KindType;
use longshore_core::store::{
    Committed, Error, KeyValue, ListOptions, MemoryStore, Page, Revision, Snapshot, Status, Store, Transaction,
    WatchStream,
};
use serde_json::json;
use tokio::sync::watch;

use super::read::AHEAD;
use super::{Options, Registry};
use crate::LocalClient;

/// A store whose watches tell nothing while it is held.
#[derive(Debug)]
struct Held {
    store: Arc<dyn Store>,
    held: watch::Sender<bool>,
}

#[async_trait]
impl Store for Held {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        self.store.list(prefix, options).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error> {
        self.store.commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        let held = self.held.subscribe();
        let events = self.store.watch(prefix, after).await?;
        let free = futures::stream::unfold((events, held), |(mut events, mut held)| async move {
            let event = events.next().await?;
            held.wait_for(|held| !held).await.ok()?;
            Some((event, (events, held)))
        });
        Ok(free.boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.store.status().await
    }
}

struct Two {
    clock: VirtualClock,
    /// Writes here.
    near: Api<ConfigMap>,
    /// Reads here, where the cache can be held up.
    far: Api<ConfigMap>,
    held: watch::Sender<bool>,
}

impl Two {
    async fn start() -> Self {
        let clock = VirtualClock::new();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let held = watch::Sender::new(false);
        let slow = Arc::new(Held { store: Arc::clone(&store), held: held.clone() });
        let start = async |store: Arc<dyn Store>, options| {
            let registry = Registry::start(store, Arc::new(clock.clone()), options).await.unwrap();
            let client: Arc<dyn Client> = Arc::new(LocalClient::new(registry, "test"));
            Api::namespaced(client, "default")
        };
        let near = start(store, Options::new(1)).await;
        // A short window, to fall out of.
        let far = start(slow, Options { window: 8, ..Options::new(2) }).await;
        Self { clock, near, far, held }
    }

    async fn write(&self, name: &str) -> String {
        let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let created = self.near.create(map, &PostParams::default()).await.unwrap();
        created.metadata.resource_version.clone().unwrap()
    }

    /// What a read answers that has to wait for so long.
    async fn after<T>(&self, time: Duration, read: impl Future<Output = T>) -> T {
        let passes = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.clock.advance(time);
        };
        join(read, passes).await.0
    }
}

fn not_older(version: &str) -> ListParams {
    let version_match = Some(VersionMatch::NotOlderThan);
    ListParams { resource_version: Some(version.to_owned()), version_match, ..ListParams::default() }
}

#[tokio::test]
async fn a_read_waits_for_a_version_that_the_cache_does_not_have_yet_and_not_for_ever() {
    let two = Two::start().await;
    two.held.send_replace(true);
    let version = two.write("a").await;
    let exact = GetParams { resource_version: Some(version.clone()) };
    let target = Target { kind: KindType::of::<ConfigMap>(), namespace: "default", name: "a" };
    let error = two.after(AHEAD, two.far.client().get(target, &exact)).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (504, "Timeout"), "{error}");
    assert!(
        error.to_string().starts_with(&format!("Timeout: Too large resource version: {version}, current: ")),
        "{error}"
    );
    let error = two.after(AHEAD, two.far.list(&not_older(&version))).await.unwrap_err();
    assert_eq!(error.code(), 504);
    let read = two.after(Duration::ZERO, async {
        let arrives = async {
            tokio::task::yield_now().await;
            two.held.send_replace(false);
        };
        join(two.far.list(&not_older(&version)), arrives).await.0
    });
    assert_eq!(read.await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_read_without_a_version_is_fresh_though_the_cache_is_behind() {
    let two = Two::start().await;
    two.held.send_replace(true);
    let first = two.write("a").await;
    let second = two.write("b").await;
    // Any version will do, so what the cache has is good enough.
    let any = ListParams { resource_version: Some("0".into()), ..ListParams::default() };
    assert_eq!(two.far.list(&any).await.unwrap().items.len(), 0);
    let exact = ListParams { version_match: Some(VersionMatch::Exact), ..not_older(&first) };
    assert_eq!(two.far.list(&exact).await.unwrap().items.len(), 1, "an exact version comes from the store");
    two.after(AHEAD, two.far.get("a")).await.unwrap();
    let list = two.after(AHEAD, two.far.list(&ListParams::default())).await.unwrap();
    assert_eq!((list.items.len(), &list.resource_version), (2, &second));
    let page = two.after(AHEAD, two.far.list(&ListParams::default().limit(1))).await.unwrap();
    assert!(page.items.len() == 1 && page.continue_token.is_some());
    // Where such a listing ends a watch begins, also one that the cache comes to only later.
    let mut watch = two.far.watch(&WatchParams::default(), &list.resource_version).await.unwrap();
    two.write("c").await;
    two.held.send_replace(false);
    let Some(Ok(WatchEvent::Added(map))) = watch.next().await else { panic!("the change after the listing comes") };
    assert_eq!(map.metadata.name.as_deref(), Some("c"));
}

#[tokio::test]
async fn a_watch_with_initial_events_begins_with_all_that_was_written() {
    let two = Two::start().await;
    two.held.send_replace(true);
    let version = two.write("a").await;
    let params = WatchParams { send_initial_events: true, bookmarks: true, ..WatchParams::default() };
    let mut watch = two.after(AHEAD, two.far.watch(&params, "")).await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    let Some(Ok(WatchEvent::Bookmark { resource_version, initial_events_end: true })) = watch.next().await else {
        panic!("a bookmark closes the initial events")
    };
    assert_eq!(resource_version, version);
    two.held.send_replace(false);
    two.write("b").await;
    let Some(Ok(WatchEvent::Added(map))) = watch.next().await else { panic!("nothing comes twice") };
    assert_eq!(map.metadata.name.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_watch_that_falls_behind_is_told_and_misses_nothing_unsaid() {
    let two = Two::start().await;
    let start = two.write("a").await;
    two.far.list(&ListParams::default()).await.unwrap();
    let mut watch = two.far.watch(&WatchParams::default(), &start).await.unwrap();
    for number in 0..400 {
        two.write(&format!("m{number}")).await;
    }
    two.far.list(&ListParams::default()).await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert!(error.is_expired() && error.code() == 410, "{error}");
    assert!(watch.next().await.is_none());
    assert!(two.far.watch(&WatchParams::default(), &start).await.is_err_and(|error| error.is_expired()));
}
