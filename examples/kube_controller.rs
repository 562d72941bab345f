//! Tests a controller that is written with kube-rs, against a real API server inside this process: no port, no
//! certificates, no Docker, and a few milliseconds to start.
//!
//! Run it with `cargo run --example kube_controller --features testing`; in your project the body of `main` is a
//! `#[tokio::test]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::wait::await_condition;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use longshore::testing::Cluster;

/// The controller under test: keeps a Secret of the same name and content beside every ConfigMap labelled `mirror=yes`.
async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = map.namespace().unwrap_or_default();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(map.name_any()),
            owner_references: Some(map.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        string_data: map.data.clone(),
        ..Secret::default()
    };
    let secrets = Api::<Secret>::namespaced((*client).clone(), &namespace);
    secrets.patch(&map.name_any(), &PatchParams::apply("mirror"), &Patch::Apply(secret)).await?;
    Ok(Action::await_change())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::start().await;
    let client = cluster.kube();

    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let marked = watcher::Config::default().labels("mirror=yes");
    let retry = |_: Arc<ConfigMap>, _: &kube::Error, _: Arc<Client>| Action::requeue(Duration::from_secs(1));
    let controller = Controller::new(maps.clone(), marked)
        .run(reconcile, retry, Arc::new(client.clone()))
        .for_each(|_| futures::future::ready(()));

    let test = async {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some("settings".into()),
                labels: Some(BTreeMap::from([("mirror".into(), "yes".into())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([("colour".into(), "blue".into())])),
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map).await?;
        let secrets = Api::<Secret>::default_namespaced(client.clone());
        let mirrored = |secret: Option<&Secret>| secret.is_some_and(|secret| secret.data.is_some());
        let secret = await_condition(secrets.clone(), "settings", mirrored).await?.expect("the condition asks for it");
        assert_eq!(secret.data.expect("the condition asks for it")["colour"].0, b"blue");

        // The garbage collector is the real one: the secret goes with its owner.
        maps.delete("settings", &Default::default()).await?;
        await_condition(secrets, "settings", |secret: Option<&Secret>| secret.is_none()).await?;
        println!("the controller mirrors what it should, and the garbage collector does the rest");
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    tokio::select! {
        () = controller => Err("the controller ended".into()),
        done = test => done,
    }
}
