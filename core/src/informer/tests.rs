//! The reflector loop against a server that lags, breaks and forgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::params::{DeleteParams, PostParams};
use rand::{RngExt, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Change, Informer, Informers, Selection};
use crate::api::V1;
use crate::client::{Api, Client};
use crate::clock::{Clock, VirtualClock};
use crate::kind::{Column, Described, Kind, KindType, Subresource};
use crate::testing::client::{FakeServer, Faults};
use crate::validation::ErrorList;

/// A small kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) struct Item {
    #[serde(default)]
    api_version: V1,
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    color: String,
}

crate::kind!(Item, v1, "items", singular "item", Namespaced, short [], categories [], subresources []);

impl Kind for Item {
    fn validate(&self) -> ErrorList {
        Vec::new()
    }
    fn validate_update(&self, _: &Self, _: Option<Subresource>) -> ErrorList {
        Vec::new()
    }
    fn columns() -> &'static [Column] {
        &[]
    }
    fn row(&self, _: Timestamp) -> Vec<serde_json::Value> {
        Vec::new()
    }
    fn field(&self, label: &str) -> Option<String> {
        (label == "color").then(|| self.color.clone())
    }
}

fn item(name: &str, color: &str) -> Item {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
    Item { metadata, color: color.into(), ..Item::default() }
}

struct World {
    clock: VirtualClock,
    server: FakeServer,
    client: Arc<dyn Client>,
}

fn world(seed: u64) -> World {
    let clock = VirtualClock::new();
    let server = FakeServer::new(Arc::new(clock.clone()), seed);
    World { client: Arc::new(server.clone()), clock, server }
}

impl World {
    fn informer(&self, selection: Selection) -> Informer<Item> {
        Informer::new(self.client.clone(), Arc::new(self.clock.clone()), selection, 1)
    }

    fn api(&self) -> Api<Item> {
        Api::namespaced(self.client.clone(), "ns")
    }

    /// Lets everything happen that can happen; time passes only while nothing else can.
    async fn settle(&self) {
        for _ in 0..30 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if self.clock.advance_to_next().is_none() {
                break;
            }
        }
    }
}

fn post() -> PostParams {
    PostParams::default()
}

#[tokio::test]
async fn own_writes_are_visible_while_the_watch_lags() {
    let world = world(1);
    let informer = world.informer(Selection::default());
    let cancel = CancellationToken::new();
    let run = informer.run(cancel.clone());
    let test = async {
        informer.synced().await;
        world.server.set_lagging(true);
        let created = informer.create(item("a", "red"), &post()).await.unwrap();
        assert_eq!(informer.get("ns", "a").unwrap().color, "red");
        let blue = Item { color: "blue".into(), ..(*created).clone() };
        informer.update(blue, &post()).await.unwrap();
        assert_eq!(informer.get("ns", "a").unwrap().color, "blue");
        informer.delete("ns", "a", &DeleteParams::default()).await.unwrap();
        assert!(informer.is_empty());
        world.server.tell(1);
        world.settle().await;
        assert!(informer.is_empty(), "the watch told of the creation, long undone");
        world.server.set_lagging(false);
        world.settle().await;
        assert!(informer.is_empty());
        cancel.cancel();
    };
    tokio::join!(run, test);
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_answered_for_and_listed_once_it_is() {
    let world = world(1);
    let informer = world.informer(Selection::default());
    let inner = informer.as_dyn().clone();
    let missing = crate::status::not_found(&Item::INFO, "");
    world.server.fail_with([crate::client::Error::Api(Box::new(missing))]);
    let cancel = CancellationToken::new();
    let run = informer.run(cancel.clone());
    let test = async {
        inner.answered().await;
        assert!(!informer.has_synced());
        world.settle().await;
        assert!(informer.has_synced());
        inner.answered().await;
        cancel.cancel();
    };
    tokio::join!(run, test);
}

#[tokio::test]
async fn expiry_and_errors_lead_to_a_new_listing() {
    let world = world(2);
    let informer = world.informer(Selection::default());
    world.server.fail_with([crate::client::Error::Unavailable { operation: "list".into(), reason: "x".into() }]);
    let adds = Arc::new(AtomicUsize::new(0));
    let seen = adds.clone();
    informer.on_change(move |change| {
        if matches!(change, Change::Added(_)) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    let cancel = CancellationToken::new();
    let run = informer.run(cancel.clone());
    let test = async {
        world.settle().await;
        assert!(informer.has_synced());
        world.server.set_lagging(true);
        world.api().create(item("a", "red"), &post()).await.unwrap();
        world.server.compact();
        world.server.set_lagging(false);
        world.settle().await;
        assert_eq!(informer.len(), 1);
        assert_eq!(adds.load(Ordering::Relaxed), 1, "told once");
        cancel.cancel();
    };
    tokio::join!(run, test);
}

#[tokio::test]
async fn a_server_that_was_away_and_has_forgotten_the_past_is_listed_at_once() {
    let world = world(4);
    let informer = world.informer(Selection::default());
    let cancel = CancellationToken::new();
    let run = informer.run(cancel.clone());
    let test = async {
        informer.synced().await;
        // The watch breaks, and nobody answers for a while.
        world.server.set_faults(Faults { watch_cut: 1.0, ..Faults::default() });
        world.api().create(item("a", "red"), &post()).await.unwrap();
        world.server.compact();
        let away = || crate::client::Error::Unavailable { operation: "watch".into(), reason: "x".into() };
        world.server.fail_with(std::iter::repeat_with(away).take(6));
        let mut last = None;
        while informer.is_empty() {
            last = world.clock.advance_to_next().or(last);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        assert!(world.clock.elapsed() > Duration::from_secs(30), "it was away for long: {:?}", world.clock.elapsed());
        assert!(last < Some(Duration::from_secs(1)), "{last:?} after it was back");
        cancel.cancel();
    };
    tokio::join!(run, test);
}

#[tokio::test]
async fn selection_indexes_and_changes() {
    let world = world(3);
    let informer = world.informer(Selection::field("color", "red"));
    informer.add_index("name", |item: &Item| item.metadata.name.iter().cloned().collect());
    let mut changes = informer.changes();
    let cancel = CancellationToken::new();
    let run = informer.run(cancel.clone());
    let test = async {
        informer.synced().await;
        let api = world.api();
        api.create(item("a", "red"), &post()).await.unwrap();
        api.create(item("b", "green"), &post()).await.unwrap();
        let Change::Added(a) = changes.next().await else { panic!("a was added") };
        assert_eq!(informer.by_index("name", "a").len(), 1);
        // Painted green through the handle: out of sight at once.
        informer.update(Item { color: "green".into(), ..(*a).clone() }, &post()).await.unwrap();
        assert!(informer.is_empty() && informer.by_index("name", "a").is_empty());
        assert!(matches!(changes.next().await, Change::Deleted(_)));
        // Painted red and replaced before the reader looks: two pieces of news at most.
        let b = api.get("b").await.unwrap();
        api.update(Item { color: "red".into(), ..(*b).clone() }, &post()).await.unwrap();
        world.settle().await;
        assert_eq!(informer.len(), 1);
        let Change::Added(_) = changes.next().await else { panic!("b came into sight") };
        api.delete("b", &DeleteParams::default()).await.unwrap();
        api.create(item("b", "red"), &post()).await.unwrap();
        world.settle().await;
        assert!(matches!(changes.try_next(), Some(Change::Deleted(_))));
        assert!(matches!(changes.try_next(), Some(Change::Added(_))));
        assert!(changes.try_next().is_none());
        cancel.cancel();
    };
    tokio::join!(run, test);
}

#[tokio::test]
async fn a_set_shares_one_informer_a_kind() {
    let world = world(4);
    let set = Informers::new(world.client.clone(), Arc::new(world.clock.clone()), 1);
    let (one, other) = (set.of::<Item>(), set.of_kind(KindType::of::<Item>()));
    let cancel = CancellationToken::new();
    let run = set.run(cancel.clone());
    let test = async {
        set.synced().await;
        one.create(item("a", "red"), &post()).await.unwrap();
        assert_eq!((other.len(), set.all().len()), (1, 1));
        cancel.cancel();
    };
    tokio::join!(run, test);
}

/// Writers with faults at every step: what a writer did is visible to it, and the cache ends as the server's state.
#[tokio::test]
async fn random_faults() {
    for seed in 0..40 {
        let world = world(seed);
        let informer = world.informer(Selection::default());
        let cancel = CancellationToken::new();
        let run = informer.run(cancel.clone());
        let test = async {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
            informer.synced().await;
            world.server.set_faults(Faults { refused: 0.1, answer_lost: 0.1, watch_cut: 0.2, expired: 0.3 });
            for step in 0..150 {
                let name = ["a", "b", "c"][rng.random_range(0..3)];
                match (rng.random_range(0..4), informer.get("ns", name)) {
                    (0, Some(_)) => {
                        if informer.delete("ns", name, &DeleteParams::default()).await.is_ok() {
                            assert!(informer.get("ns", name).is_none(), "seed {seed} step {step}");
                        }
                    }
                    (1, Some(known)) => {
                        let color = format!("color-{step}");
                        let new = Item { color: color.clone(), ..(*known).clone() };
                        if informer.update(new, &post()).await.is_ok() {
                            assert_eq!(informer.get("ns", name).unwrap().color, color, "seed {seed} step {step}");
                        }
                    }
                    (2, None) => {
                        if informer.create(item(name, "new"), &post()).await.is_ok() {
                            assert!(informer.get("ns", name).is_some(), "seed {seed} step {step}");
                        }
                    }
                    _ => world.server.set_lagging(rng.random_bool(0.5)),
                }
                if rng.random_bool(0.3) {
                    world.settle().await;
                }
                if rng.random_bool(0.02) {
                    world.server.compact();
                }
            }
            world.server.set_faults(Faults::default());
            world.server.set_lagging(false);
            world.settle().await;
            let versions = |objects: Vec<crate::kind::DynObject>| -> Vec<_> {
                objects.iter().map(|object| object.meta().resource_version.clone()).collect()
            };
            let truth = versions(world.server.objects(KindType::of::<Item>()));
            assert_eq!(versions(informer.as_dyn().list()), truth, "seed {seed}");
            cancel.cancel();
        };
        tokio::join!(run, test);
    }
}
