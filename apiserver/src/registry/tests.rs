//! The registry through its local client, over the in-memory store.

use std::sync::Arc;

use futures::StreamExt;
use longshore_core::api::{ConfigMap, Namespace};
use longshore_core::client::params::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams,
};
use longshore_core::client::{Api, Client, Deleted, WatchEvent};
use longshore_core::clock::VirtualClock;
use longshore_core::store::{MemoryStore, Store};
use serde_json::json;

use super::{Options, Registry};
use crate::LocalClient;

async fn client_on(store: Arc<dyn Store>) -> Arc<dyn Client> {
    let registry = Registry::start(store, Arc::new(VirtualClock::new()), Options::new(1)).await.unwrap();
    Arc::new(LocalClient::new(registry, "test"))
}

async fn client() -> Arc<dyn Client> {
    client_on(Arc::new(MemoryStore::new())).await
}

fn maps(client: &Arc<dyn Client>) -> Api<ConfigMap> {
    Api::namespaced(Arc::clone(client), "default")
}

fn map(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap { data: [("key".into(), value.into())].into(), ..ConfigMap::default() };
    map.metadata.name = Some(name.to_owned());
    map
}

#[tokio::test]
async fn what_is_created_can_be_read_listed_and_deleted() {
    let client = client().await;
    let maps = maps(&client);
    let created = maps.create(map("a", "1"), &PostParams::default()).await.unwrap();
    let meta = &created.metadata;
    assert_eq!(meta.namespace.as_deref(), Some("default"));
    assert_eq!(meta.uid.as_ref().map(String::len), Some(36));
    assert!(meta.creation_timestamp.is_some() && meta.resource_version.is_some());
    assert_eq!(meta.managed_fields.as_ref().map(Vec::len), Some(1));
    let read = maps.get("a").await.unwrap();
    assert!(Arc::ptr_eq(&created, &read), "the writer's object is the cache's");
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(maps.create(map("a", "2"), &PostParams::default()).await.unwrap_err().is_already_exists());
    assert!(matches!(maps.delete("a", &DeleteParams::default()).await.unwrap(), Deleted::Gone(_)));
    let error = maps.get("a").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "configmaps \"a\" not found");
}

#[tokio::test]
async fn a_name_is_generated_and_nothing_is_created_where_there_is_no_namespace() {
    let client = client().await;
    let mut unnamed = map("", "1");
    unnamed.metadata.generate_name = Some("web-".to_owned());
    let created = maps(&client).create(unnamed, &PostParams::default()).await.unwrap();
    let name = created.metadata.name.clone().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let lost = Api::<ConfigMap>::namespaced(client, "nowhere");
    let error = lost.create(map("a", "1"), &PostParams::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"nowhere\" not found");
}

#[tokio::test]
async fn a_merge_patch_keeps_who_owns_what_unless_it_is_about_that() {
    let client = client().await;
    let maps = maps(&client);
    maps.create(map("a", "1"), &PostParams::default()).await.unwrap();
    let params = PatchParams { field_manager: Some("other".to_owned()), ..PatchParams::default() };
    let patched = async |patch| maps.patch("a", &Patch::Merge(patch), &params).await.unwrap();
    let owners = |map: &ConfigMap| {
        let entries = map.metadata.managed_fields.iter().flatten();
        entries.map(|entry| entry.manager.clone().unwrap()).collect::<Vec<_>>()
    };
    let changed = patched(json!({ "metadata": { "labels": { "l": "m" } }, "data": { "other": "2" } })).await;
    assert_eq!(owners(&changed), ["other", "test"]);
    assert_eq!(changed.data["key"], "1");
    let same = patched(json!({ "data": { "other": "2" } })).await;
    assert_eq!(same.metadata, changed.metadata);
    let reset = patched(json!({ "metadata": { "managedFields": [{}] } })).await;
    assert_eq!(owners(&reset), Vec::<String>::new());
}

#[tokio::test]
async fn a_stale_update_conflicts_and_an_update_without_change_writes_nothing() {
    let client = client().await;
    let maps = maps(&client);
    let first = maps.create(map("a", "1"), &PostParams::default()).await.unwrap();
    let mut second = ConfigMap::clone(&first);
    second.data.insert("key".into(), "2".into());
    let second = maps.update(second, &PostParams::default()).await.unwrap();
    assert_ne!(first.metadata.resource_version, second.metadata.resource_version);
    let mut stale = ConfigMap::clone(&first);
    stale.data.insert("key".into(), "3".into());
    let error = maps.update(stale, &PostParams::default()).await.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(
        error.to_string(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    let same = maps.update(ConfigMap::clone(&second), &PostParams::default()).await.unwrap();
    assert_eq!(same.metadata.resource_version, second.metadata.resource_version);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut unwritten = ConfigMap::clone(&second);
    unwritten.data.insert("key".into(), "9".into());
    maps.update(unwritten, &dry).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap().data["key"], "2");
}

#[tokio::test]
async fn many_writers_lose_no_update() {
    let client = client().await;
    let maps = maps(&client);
    maps.create(map("a", "1"), &PostParams::default()).await.unwrap();
    let writes = (0..40).map(|number| {
        let maps = maps.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {format!("k{number}"): "v"}}));
            maps.patch("a", &patch, &PatchParams::default()).await.unwrap();
        }
    });
    futures::future::join_all(writes).await;
    assert_eq!(maps.get("a").await.unwrap().data.len(), 41);
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_deletion() {
    let client = client().await;
    let maps = maps(&client);
    let mut held = map("a", "1");
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    maps.create(held, &PostParams::default()).await.unwrap();
    let wrong = Preconditions { uid: Some("other".to_owned()), resource_version: None };
    let error = maps.delete("a", &DeleteParams::default().preconditions(wrong)).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(matches!(maps.delete("a", &DeleteParams::default()).await.unwrap(), Deleted::Pending(_)));
    let pending = maps.get("a").await.unwrap();
    assert!(pending.metadata.deletion_timestamp.is_some());
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("a", &patch, &PatchParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none(), "the last finalizer went");
}

#[tokio::test]
async fn a_deleted_namespace_terminates_and_takes_nothing_new() {
    let client = client().await;
    let namespaces = Api::<Namespace>::all(Arc::clone(&client));
    let mut space = Namespace::default();
    space.metadata.name = Some("space".to_owned());
    namespaces.create(space, &PostParams::default()).await.unwrap();
    assert!(matches!(namespaces.delete("space", &DeleteParams::default()).await.unwrap(), Deleted::Pending(_)));
    let space = namespaces.get("space").await.unwrap();
    assert_eq!(space.status.phase.as_str(), "Terminating");
    let inside = Api::<ConfigMap>::namespaced(client, "space");
    let error = inside.create(map("a", "1"), &PostParams::default()).await.unwrap_err();
    assert!(error.is_namespace_terminating(), "{error}");
}

#[tokio::test]
async fn pages_of_a_listing_are_of_one_version() {
    let client = client().await;
    let maps = maps(&client);
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(map(name, "1"), &PostParams::default()).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    maps.delete("d", &DeleteParams::default()).await.unwrap();
    let token = first.continue_token.clone().unwrap();
    let second = maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    let token = second.continue_token.clone().unwrap();
    let third = maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert!(third.continue_token.is_none());
    let names: Vec<_> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page.items.iter().map(|map| map.metadata.name.clone().unwrap()))
        .collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(first.resource_version, third.resource_version);
}

#[tokio::test]
async fn a_watch_shows_what_the_selector_makes_of_each_change() {
    let client = client().await;
    let maps = maps(&client);
    let start = maps.list(&ListParams::default()).await.unwrap().resource_version;
    let params = WatchParams::default().labels("app=web");
    let mut watch = maps.watch(&params, &start).await.unwrap();
    maps.create(map("a", "1"), &PostParams::default()).await.unwrap();
    for labels in [json!({"app": "web"}), json!({"app": "web", "tier": "1"}), json!({"app": "db"})] {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        maps.patch("a", &patch, &PatchParams::default()).await.unwrap();
    }
    let mut versions = Vec::new();
    for expected in ["added", "modified", "deleted"] {
        let (seen, object) = match watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("modified", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            WatchEvent::Bookmark { .. } => panic!("nobody asked for bookmarks"),
        };
        assert_eq!(seen, expected);
        versions.push(object.metadata.resource_version.clone().unwrap().parse::<u64>().unwrap());
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_and_old_versions_are_gone() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = client_on(Arc::clone(&store)).await;
    maps(&first).create(map("a", "1"), &PostParams::default()).await.unwrap();
    drop(first);
    let client = client_on(store).await;
    let maps = maps(&client);
    assert_eq!(maps.get("a").await.unwrap().data["key"], "1", "a new registry finds what the old one stored");
    let mut watch = maps.watch(&WatchParams::streaming_lists(), "").await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    let bookmark = watch.next().await.unwrap().unwrap();
    assert!(matches!(bookmark, WatchEvent::Bookmark { initial_events_end: true, .. }));
    let error = maps.watch(&WatchParams::default(), "1").await.err().unwrap();
    assert!(error.is_expired(), "{error}");
}

#[tokio::test]
async fn apply_creates_then_merges_and_refuses_what_others_own() {
    let client = client().await;
    let maps = maps(&client);
    let config = |value: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": value},
        }))
    };
    maps.patch("a", &config("1"), &PatchParams::apply("one")).await.unwrap();
    let error = maps.patch("a", &config("2"), &PatchParams::apply("two")).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.key");
    maps.patch("a", &config("2"), &PatchParams::apply("two").force()).await.unwrap();
    let now = maps.get("a").await.unwrap();
    assert_eq!(now.data["key"], "2");
    let again = maps.patch("a", &config("2"), &PatchParams::apply("two")).await.unwrap();
    assert_eq!(again.metadata.resource_version, now.metadata.resource_version);
}
