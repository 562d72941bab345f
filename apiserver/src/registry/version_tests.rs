//! The rules of resource versions in reads, and how long things are kept.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use longshore_core::api::{ConfigMap, Event};
use longshore_core::client::params::{GetParams, ListParams, PostParams, VersionMatch, WatchParams};
use longshore_core::client::{Api, Client, Error, List, WatchEvent};
use longshore_core::clock::VirtualClock;
use longshore_core::store::{
    self, Committed, HistoryLimits, KeyValue, ListOptions, MemoryStore, Page, Revision, Snapshot, Store, Transaction,
    WatchStream,
};
use serde_json::json;

use super::{Options, Registry};
use crate::LocalClient;

struct Cluster {
    clock: VirtualClock,
    store: Arc<dyn Store>,
    client: Arc<dyn Client>,
    maps: Api<ConfigMap>,
}

impl Cluster {
    async fn start() -> Self {
        let clock = VirtualClock::new();
        let shared = Arc::new(clock.clone());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_clock(shared.clone(), HistoryLimits::default()));
        let registry = Registry::start(Arc::clone(&store), shared, Options::new(1)).await.unwrap();
        let client: Arc<dyn Client> = Arc::new(LocalClient::new(registry, "test"));
        let maps = Api::namespaced(Arc::clone(&client), "default");
        Self { clock, store, client, maps }
    }

    async fn create(&self, name: &str) -> u64 {
        let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let created = self.maps.create(map, &PostParams::default()).await.unwrap();
        created.metadata.resource_version.as_ref().unwrap().parse().unwrap()
    }
}

fn names(list: &List<ConfigMap>) -> Vec<&str> {
    list.items.iter().map(|map| map.metadata.name.as_deref().unwrap()).collect()
}

fn at(version: u64, version_match: VersionMatch) -> ListParams {
    ListParams {
        resource_version: Some(version.to_string()),
        version_match: Some(version_match),
        ..ListParams::default()
    }
}

#[tokio::test]
async fn a_listing_is_of_the_version_asked_for_or_a_later_one() {
    let cluster = Cluster::start().await;
    let first = cluster.create("a").await;
    let second = cluster.create("b").await;
    let exact = cluster.maps.list(&at(first, VersionMatch::Exact)).await.unwrap();
    assert_eq!((names(&exact), &exact.resource_version), (vec!["a"], &first.to_string()));
    let later = cluster.maps.list(&at(first, VersionMatch::NotOlderThan)).await.unwrap();
    assert_eq!((names(&later), &later.resource_version), (vec!["a", "b"], &second.to_string()));
    // Pages through a version that is named are of that version.
    let paged = ListParams { resource_version: Some(first.to_string()), ..ListParams::default().limit(5) };
    assert_eq!(names(&cluster.maps.list(&paged).await.unwrap()), ["a"]);
    let any = ListParams { resource_version: Some("0".to_owned()), ..ListParams::default() };
    assert_eq!(names(&cluster.maps.list(&any).await.unwrap()), ["a", "b"]);
    cluster.store.compact(second).await.unwrap();
    let error = cluster.maps.list(&at(first, VersionMatch::Exact)).await.unwrap_err();
    assert!(error.is_expired(), "{error}");
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let cluster = Cluster::start().await;
    let refused = async |params: ListParams| cluster.maps.list(&params).await.unwrap_err();
    let error = refused(at(0, VersionMatch::Exact)).await;
    assert_eq!(error.code(), 422);
    assert_eq!(
        error.to_string(),
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is \
         forbidden for resourceVersion \"0\""
    );
    let error = refused(ListParams { version_match: Some(VersionMatch::NotOlderThan), ..ListParams::default() }).await;
    assert_eq!(
        error.to_string(),
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden \
         unless resourceVersion is provided"
    );
    let token = ListParams { resource_version: Some("5".to_owned()), ..ListParams::default().continue_token("x") };
    assert_eq!(refused(token).await.code(), 400);
}

#[tokio::test]
async fn a_version_that_is_not_reached_in_time_is_too_large() {
    let cluster = Cluster::start().await;
    let now = cluster.create("a").await;
    let waits = async |read: std::pin::Pin<Box<dyn Future<Output = Error> + '_>>| {
        let move_on = async {
            while cluster.clock.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
            cluster.clock.advance(Duration::from_secs(3));
        };
        let (error, ()) = tokio::join!(read, move_on);
        let expected = format!("Timeout: Too large resource version: {}, current: {now}", now + 1000);
        assert_eq!((error.code(), error.to_string()), (504, expected));
    };
    let far = at(now + 1000, VersionMatch::NotOlderThan);
    waits(Box::pin(async { cluster.maps.list(&far).await.unwrap_err() })).await;
    let target = longshore_core::client::Target {
        kind: longshore_core::kind::KindType::of::<ConfigMap>(),
        namespace: "default",
        name: "a",
    };
    let far = GetParams { resource_version: Some((now + 1000).to_string()) };
    waits(Box::pin(async { cluster.client.get(target, &far).await.unwrap_err() })).await;
}

#[tokio::test]
async fn a_token_that_is_too_old_brings_another_that_goes_on_with_what_is_there() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "d"] {
        cluster.create(name).await;
    }
    let first = cluster.maps.list(&ListParams::default().limit(2)).await.unwrap();
    let token = first.continue_token.unwrap();
    let last = cluster.create("e").await;
    cluster.store.compact(last).await.unwrap();
    let error = cluster.maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap_err();
    assert!(error.is_expired(), "{error}");
    let Error::Api(status) = error else { panic!("the server refused") };
    let token = status.metadata.unwrap().continue_.unwrap();
    let second = cluster.maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!((names(&second), second.resource_version.as_str()), (vec!["c", "d"], last.to_string().as_str()));
    let token = second.continue_token.unwrap();
    let third = cluster.maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(names(&third), ["e"]);
}

#[tokio::test]
async fn events_of_an_hour_ago_are_gone() {
    let cluster = Cluster::start().await;
    let events = Api::<Event>::namespaced(Arc::clone(&cluster.client), "default");
    let event: Event = serde_json::from_value(json!({ "metadata": { "name": "e" }, "reason": "Started" })).unwrap();
    events.create(event, &PostParams::default()).await.unwrap();
    let start = events.list(&ListParams::default()).await.unwrap().resource_version;
    let mut watch = events.watch(&WatchParams::default(), &start).await.unwrap();
    cluster.clock.advance(Duration::from_secs(3599));
    assert!(events.get_opt("e").await.unwrap().is_some());
    cluster.clock.advance(Duration::from_secs(1));
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Deleted(_)))));
    assert!(events.get_opt("e").await.unwrap().is_none());
}

/// A store that notes how much is asked of it at once; 0 for everything.
#[derive(Debug)]
struct Noting {
    store: MemoryStore,
    limits: Mutex<Vec<usize>>,
}

#[async_trait::async_trait]
impl Store for Noting {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, store::Error> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, store::Error> {
        self.limits.lock().unwrap().push(options.limit);
        self.store.list(prefix, options).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, store::Error> {
        self.store.commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, store::Error> {
        self.store.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), store::Error> {
        self.store.compact(revision).await
    }

    async fn status(&self) -> Result<store::Status, store::Error> {
        self.store.status().await
    }
}

/// However many objects there are, what is stored of them is in memory page by page: when the cache is filled, and when a past
/// version is listed.
#[tokio::test]
async fn nothing_is_asked_of_the_store_as_a_whole() {
    const MAPS: usize = 3500;
    let noting = Noting { store: MemoryStore::new(), limits: Mutex::default() };
    let store = Arc::new(noting);
    let start = async || Registry::start(store.clone(), Arc::new(VirtualClock::new()), Options::new(1)).await.unwrap();
    let client: Arc<dyn Client> = Arc::new(LocalClient::new(start().await, "test"));
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut last = String::new();
    for index in 0..MAPS {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": format!("{index}")}})).unwrap();
        let made = maps.create(map, &PostParams::default()).await.unwrap();
        last.clone_from(made.metadata.resource_version.as_ref().unwrap());
    }
    store.limits.lock().unwrap().clear();
    let client: Arc<dyn Client> = Arc::new(LocalClient::new(start().await, "test"));
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let exact = at(last.parse().unwrap(), VersionMatch::Exact);
    assert_eq!(maps.list(&exact).await.unwrap().items.len(), MAPS);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), MAPS);
    let limits = store.limits.lock().unwrap();
    assert!(limits.len() >= 2 * MAPS / 1000, "{limits:?}");
    assert!(limits.iter().all(|limit| (1..=1000).contains(limit)), "{limits:?}");
}
