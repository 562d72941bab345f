//! Devices on a simulated node, and plug-ins behind real sockets.

use std::path::Path as FilePath;

use longshore_core::api::pod::PodPhase;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::devices::ANNOTATION;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::super::{FakeGpus, grpc, proto, serve};
use super::*;
use crate::testing::{World, pod};

const GPU: &str = "longshore.dev/gpu";

fn world(gpus: usize) -> (World, Arc<FakeGpus>) {
    let mut world = World::new();
    let fake = Arc::new(FakeGpus::new(gpus));
    world.options.device_plugins.push(fake.clone());
    world.options.shared_devices.insert(GPU.to_owned());
    (world, fake)
}

/// A pod that asks for this, and was told these devices if any.
fn asking(name: &str, (suffix, amount): (&str, &str), told: Option<Value>) -> Pod {
    let requests = json!({ format!("{GPU}{suffix}"): amount });
    let containers = json!([{"name": "main", "image": "web", "resources": {"requests": requests}}]);
    let mut pod = pod(name, json!({"containers": containers}));
    let text = |told: Value| json!({"main": {GPU: told}}).to_string();
    pod.metadata.annotations = told.map(|told| [(ANNOTATION.to_owned(), text(told))].into());
    pod
}

const HALF: (&str, &str) = ("-milli", "500");

async fn offered(world: &World, resource: &str, amount: i64) {
    let has = || {
        let nodes = world.server.objects(longshore_core::kind::KindType::of::<longshore_core::api::Node>());
        (!nodes.is_empty() && world.node().status.allocatable.get(resource).is_some_and(|it| it.value() == amount))
            .then_some(())
    };
    world.until(&format!("{amount} {resource}"), has).await;
}

async fn ran(world: &World, name: &str) -> String {
    let over = |pod: &Pod| matches!(pod.status.phase, PodPhase::Running | PodPhase::Failed);
    let pod = world.until(name, || world.pod(name).filter(over)).await;
    if pod.status.phase == PodPhase::Failed {
        return format!("{}: {}", pod.status.reason, pod.status.message);
    }
    let told = pod.metadata.annotations.and_then(|all| all.get(ANNOTATION).cloned()).unwrap_or_default();
    told.replace(GPU, "gpu").replace('"', "")
}

#[tokio::test]
async fn the_node_tells_of_its_devices_and_of_what_becomes_of_them() {
    let (world, gpus) = world(2);
    world
        .with(async {
            offered(&world, GPU, 2).await;
            let node = world.node();
            assert_eq!(node.status.allocatable["longshore.dev/gpu-milli"].value(), 2000);
            assert_eq!(node.metadata.annotations.unwrap()[ANNOTATION], r#"{"longshore.dev/gpu":["gpu-0","gpu-1"]}"#);
            gpus.set_healthy(0, false);
            offered(&world, GPU, 1).await;
            let node = world.node();
            assert_eq!(node.status.capacity[GPU].value(), 2);
            assert_eq!(node.metadata.annotations.unwrap()[ANNOTATION], r#"{"longshore.dev/gpu":["gpu-1"]}"#);
            gpus.set_healthy(1, false);
            offered(&world, GPU, 0).await;
            assert!(world.node().metadata.annotations.is_none_or(|all| !all.contains_key(ANNOTATION)));
        })
        .await;
}

#[tokio::test]
async fn pods_get_the_devices_that_they_were_told_or_are_told_which_they_get() {
    let (world, gpus) = world(2);
    world
        .with(async {
            offered(&world, GPU, 2).await;
            world.create(asking("told", HALF, Some(json!({"gpu-1": 500})))).await;
            assert_eq!(ran(&world, "told").await, "{main:{gpu:{gpu-1:500}}}");
            // Nobody chose for it: the best fit.
            world.create(asking("untold", HALF, None)).await;
            assert_eq!(ran(&world, "untold").await, "{main:{gpu:{gpu-1:500}}}");
            world.create(asking("late", HALF, Some(json!({"gpu-1": 500})))).await;
            assert_eq!(
                ran(&world, "late").await,
                "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to devices that the pod was given being unavailable for \
                 longshore.dev/gpu, which is unexpected"
            );
            gpus.set_healthy(0, false);
            offered(&world, GPU, 1).await;
            world.create(asking("whole", ("", "1"), None)).await;
            assert_eq!(
                ran(&world, "whole").await,
                "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to requested number of devices unavailable for \
                 longshore.dev/gpu. Requested: 1, Available: 0, which is unexpected"
            );
            gpus.set_healthy(0, true);
            offered(&world, GPU, 2).await;
            world.delete("told", 0);
            world.until("gone", || world.pod("told").is_none().then_some(())).await;
            world.create(asking("next", HALF, Some(json!({"gpu-1": 500})))).await;
            assert_eq!(ran(&world, "next").await, "{main:{gpu:{gpu-1:500}}}");
        })
        .await;
}

#[tokio::test]
async fn a_new_agent_knows_who_has_what() {
    let (world, _gpus) = world(2);
    let first = async {
        offered(&world, GPU, 2).await;
        world.create(asking("a", ("", "1"), None)).await;
        assert_eq!(ran(&world, "a").await, "{main:{gpu:{gpu-0:1000}}}");
    };
    world.with(first).await;
    // Even if the annotation were lost, the sandbox knows.
    let target = longshore_core::client::Target {
        kind: longshore_core::kind::KindType::of::<Pod>(),
        namespace: "ns",
        name: "a",
    };
    world.server.modify(target, |pod| pod.meta_mut().annotations = None);
    let second = async {
        offered(&world, GPU, 2).await;
        world.pass(Duration::from_secs(1)).await;
        world.create(asking("b", ("", "1"), None)).await;
        assert_eq!(ran(&world, "b").await, "{main:{gpu:{gpu-1:1000}}}");
        world.create(asking("c", ("", "1"), None)).await;
        assert!(ran(&world, "c").await.starts_with("UnexpectedAdmissionError"));
    };
    world.with(second).await;
}

#[tokio::test]
async fn containers_are_told_their_devices_and_shares() {
    let devices = Devices::default();
    devices.register(Arc::new(FakeGpus::new(2)), true);
    let list = ["gpu-0", "gpu-1"].map(|id| PluginDevice { id: id.to_owned(), healthy: true });
    devices.listed(GPU, 1, list.to_vec());
    let mut half = asking("a", HALF, Some(json!({"gpu-1": 500})));
    half.metadata.uid = Some("u".to_owned());
    assert!(!devices.assign(&half).unwrap(), "it was told");
    let given = devices.allocate("u", "main").await.unwrap();
    let env: Vec<String> = given.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["LONGSHORE_DEVICE_MILLI=500", "VISIBLE_DEVICES=gpu-1"]);
    let paths: Vec<_> = given.devices.iter().map(|device| (device.source.as_path(), device.target.as_path())).collect();
    assert_eq!(paths, [(FilePath::new("/dev/null"), FilePath::new("/dev/fake-gpu1"))]);
    assert_eq!(devices.allocate("u", "other").await.unwrap(), Allocation::default());
    assert!(devices.gone(GPU, 1, Duration::ZERO));
    assert!(devices.allocate("u", "main").await.unwrap_err().contains("no device plug-in is registered"));
    assert!(!devices.gone(GPU, 7, Duration::ZERO), "an earlier registration says nothing any more");
}

#[test]
fn kinds_have_a_domain_of_their_own() {
    for name in ["example.com/gpu", "nvidia.com/gpu", "longshore.dev/gpu"] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in [
        "",
        "gpu",
        "/gpu",
        "kubernetes.io/gpu",
        "x.kubernetes.io/gpu",
        "a.b/c/d",
        "a.b/c-milli",
        "requests.a.b/c",
        "a b/c",
    ] {
        assert!(check_name(name).is_err(), "{name}");
    }
}

/// An agent's registration, and what it heard of.
struct Registration {
    directory: tempfile::TempDir,
    plugins: mpsc::Receiver<Arc<dyn DevicePlugin>>,
    agent: tokio::task::JoinSet<()>,
    cancel: CancellationToken,
}

impl Registration {
    fn start(directory: tempfile::TempDir) -> Self {
        let (sender, plugins) = mpsc::channel(1);
        let (cancel, path) = (CancellationToken::new(), directory.path().to_owned());
        let mut agent = tokio::task::JoinSet::new();
        let token = cancel.clone();
        agent.spawn(async move { registration::run(&path, sender, &token).await });
        Self { directory, plugins, agent, cancel }
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.cancel.cancel();
        while self.agent.join_next().await.is_some() {}
        self.directory
    }
}

#[tokio::test]
async fn a_plug_in_of_another_process_registers_again_with_a_new_agent() {
    let mut agent = Registration::start(tempfile::tempdir().unwrap());
    let (gpus, cancel) = (Arc::new(FakeGpus::new(2)), CancellationToken::new());
    let mut plugin = tokio::task::JoinSet::new();
    let (path, clock): (_, Arc<dyn Clock>) = (agent.directory.path().to_owned(), Arc::new(SystemClock::new()));
    let (served, token) = (gpus.clone(), cancel.clone());
    plugin.spawn(async move { serve(served, &path, clock, token).await });
    let remote = agent.plugins.recv().await.unwrap();
    assert_eq!(remote.resource(), GPU);
    let mut lists = remote.devices();
    assert_eq!(lists.next().await.unwrap().unwrap().iter().filter(|device| device.healthy).count(), 2);
    gpus.set_healthy(1, false);
    assert_eq!(lists.next().await.unwrap().unwrap().iter().filter(|device| device.healthy).count(), 1);
    let given = remote.allocate(&["gpu-1".to_owned()]).await.unwrap();
    assert_eq!(given, gpus.allocate(&["gpu-1".to_owned()]).await.unwrap());
    let error = remote.allocate(&["gpu-9".to_owned()]).await.unwrap_err().to_string();
    assert!(error.contains("there is no GPU gpu-9"), "{error}");

    let directory = agent.stop().await;
    let mut agent = Registration::start(directory);
    let again = agent.plugins.recv().await.unwrap();
    assert_eq!(again.devices().next().await.unwrap().unwrap().len(), 2);
    cancel.cancel();
    plugin.join_next().await.unwrap().unwrap().unwrap();
    // What was being listed ends, one way or another.
    while let Some(Ok(_)) = lists.next().await {}
    assert!(again.devices().next().await.unwrap().is_err(), "nobody is there");
    agent.stop().await;
}

#[tokio::test]
async fn what_is_no_registration_harms_nothing() {
    let mut agent = Registration::start(tempfile::tempdir().unwrap());
    let socket = agent.directory.path().join(registration::SOCKET);
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let register = |version: &str, endpoint: &str, resource: &str| {
        let [version, endpoint, resource] = [version, endpoint, resource].map(str::to_owned);
        proto::Register { version, endpoint, resource, pre_start: false }.encode()
    };
    let method = "/v1beta1.Registration/Register";
    let cases = [
        (method, b"\xff\xff\xff".to_vec(), "no message"),
        (method, register("v1alpha1", "a.sock", GPU), "v1alpha1"),
        (method, register("v1beta1", "../a.sock", GPU), "endpoint"),
        (method, register("v1beta1", "", GPU), "endpoint"),
        (method, register("v1beta1", "a.sock", "cpu"), "invalid"),
        ("/v1beta1.Registration/Other", Vec::new(), "no such call"),
    ];
    for (method, request, expected) in cases {
        let error = grpc::call_once(&socket, method, &request).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut garbage = UnixStream::connect(&socket).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(garbage);
    grpc::call_once(&socket, method, &register("v1beta1", "a.sock", GPU)).await.unwrap();
    assert_eq!(agent.plugins.recv().await.unwrap().resource(), GPU);
    agent.stop().await;
}
