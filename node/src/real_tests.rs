//! Pods whose containers the agent takes for real ones: volumes, files, environment, probes, hooks.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore_core::api::persistent_volume_claim::PersistentVolumeClaimPhase;
use longshore_core::api::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use longshore_core::client::Api;
use longshore_core::client::params::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::testing::{World, condition, pod, state, status};
use crate::testing_real::Pretending;

struct Real {
    world: World,
    runtime: Arc<Pretending>,
    directory: tempfile::TempDir,
}

impl Real {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::new();
        world.options.root_dir = directory.path().to_owned();
        world.options.log_dir = directory.path().join("logs");
        world.runtime.add_image("web").unwrap();
        let runtime = Pretending::new(world.runtime.clone());
        Self { world, runtime, directory }
    }

    /// Waits for something that needs no time to pass, but perhaps other threads.
    async fn soon<T>(&self, what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
        for _ in 0..300_000 {
            tokio::task::yield_now().await;
            if let Some(found) = holds() {
                return found;
            }
            std::thread::yield_now();
        }
        panic!("never came: {what}");
    }

    async fn ready(&self, name: &str) -> Pod {
        self.soon("ready", || self.world.pod(name).filter(|pod| condition(pod, "Ready") == "True")).await
    }

    fn mounted(&self, target: &str) -> PathBuf {
        let configs = self.runtime.configs.lock().unwrap();
        let mounts = configs.iter().flat_map(|config| &config.mounts);
        mounts.into_iter().find(|mount| mount.target == std::path::Path::new(target)).unwrap().source.clone()
    }

    async fn run<T>(&self, test: impl Future<Output = T>) -> T {
        let agent = self.world.agent_with(self.runtime.clone());
        self.world.with_agent(agent, test).await
    }
}

fn config_map(value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": "map"}, "data": {"greeting": value}})).unwrap()
}

#[tokio::test]
async fn volumes_files_and_environment_arrive_and_go() {
    let real = Real::new();
    real.run(async {
        let spec = json!({
            "volumes": [
                {"name": "map", "configMap": {"name": "map"}}, {"name": "scratch", "emptyDir": {}},
                {"name": "told", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
            "containers": [{
                "name": "main", "image": "web", "args": ["$(GREETING)"],
                "env": [
                    {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "greeting"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "volumeMounts": [
                    {"name": "map", "mountPath": "/map"}, {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "told", "mountPath": "/told"},
                ],
            }],
        });
        real.world.create(pod("a", spec)).await;
        real.soon("it says why", || real.world.reasons().contains(&"FailedMount".to_owned()).then_some(())).await;
        assert_eq!(state(&real.world.pod("a").unwrap(), "main"), "ContainerCreating");
        real.world.api::<ConfigMap>().create(config_map("hello"), &PostParams::default()).await.unwrap();
        real.world.clock.advance(Duration::from_secs(1));
        let ready = real.ready("a").await;

        let config = real.runtime.configs.lock().unwrap()[0].clone();
        assert_eq!(config.args, ["hello"]);
        assert!(config.env.contains(&("IP".to_owned(), ready.status.pod_ip.clone())));
        let file = real.mounted("/map").join("greeting");
        assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
        let hosts = fs::read_to_string(real.mounted("/etc/hosts")).unwrap();
        assert!(hosts.contains(&format!("{}\ta\n", ready.status.pod_ip)), "{hosts}");
        assert!(real.mounted("/scratch").starts_with(real.directory.path()));

        // What changed arrives in the running container: at the next refresh, and what the pod tells of itself at once.
        let patch = Patch::Merge(json!({"data": {"greeting": "bye"}}));
        real.world.api::<ConfigMap>().patch("map", &patch, &PatchParams::default()).await.unwrap();
        real.world.clock.advance(Duration::from_secs(60));
        real.soon("refreshed", || (fs::read_to_string(&file).ok()? == "bye").then_some(())).await;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "web"}}}));
        real.world.api::<Pod>().patch("a", &patch, &PatchParams::default()).await.unwrap();
        let labels = real.mounted("/told").join("labels");
        real.soon("told", || (fs::read_to_string(&labels).ok()? == "app=\"web\"").then_some(())).await;

        real.world.delete("a", 30);
        real.soon("gone", || real.world.pod("a").is_none().then_some(())).await;
        assert_eq!(fs::read_dir(real.directory.path().join("pods")).unwrap().count(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_container_that_cannot_be_configured_waits() {
    let real = Real::new();
    real.run(async {
        let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "greeting"}}}]);
        real.world.create(pod("a", json!({"containers": [{"name": "main", "image": "web", "env": env}]}))).await;
        let waits = |pod: &Pod| state(pod, "main") == "CreateContainerConfigError";
        let waiting = real
            .soon("it waits", || {
                real.world.pod("a").filter(|pod| !pod.status.container_statuses.is_empty() && waits(pod))
            })
            .await;
        assert_eq!(status(&waiting, "main").state.waiting.as_ref().unwrap().message, "configmap \"map\" not found");
        real.world.api::<ConfigMap>().create(config_map("hello"), &PostParams::default()).await.unwrap();
        real.world.clock.advance(Duration::from_secs(2));
        real.ready("a").await;
    })
    .await;
}

#[tokio::test]
async fn a_container_that_is_not_alive_is_restarted() {
    let real = Real::new();
    real.runtime.exec_code.store(1, Ordering::SeqCst);
    real.run(async {
        let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2, "successThreshold": 1});
        let ready = json!({"exec": {"command": ["ready"]}, "periodSeconds": 5, "failureThreshold": 1, "successThreshold": 1});
        let hooks = json!({"preStop": {"exec": {"command": ["bye"]}}});
        let main = json!({"name": "main", "image": "web", "livenessProbe": probe, "readinessProbe": ready, "lifecycle": hooks});
        real.world.create(pod("a", json!({"containers": [main]}))).await;
        real.soon("unhealthy", || real.world.reasons().contains(&"Unhealthy".to_owned()).then_some(())).await;
        assert_eq!(condition(&real.world.pod("a").unwrap(), "Ready"), "False");
        real.world.clock.advance(Duration::from_secs(5));
        real.soon("restarted", || real.world.pod("a").filter(|pod| status(pod, "main").restart_count == 1)).await;
        assert!(real.world.reasons().contains(&"Killing".to_owned()));
        assert!(real.runtime.commands.lock().unwrap().contains(&vec!["bye".to_owned()]), "the hook ran");
        real.runtime.exec_code.store(0, Ordering::SeqCst);
        real.world.clock.advance(Duration::from_secs(5));
        real.ready("a").await;
    })
    .await;
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_stop() {
    let real = Real::new();
    real.runtime.exec_code.store(1, Ordering::SeqCst);
    real.run(async {
        let hooks = json!({"postStart": {"exec": {"command": ["hello"]}}, "preStop": {"sleep": {"seconds": 7}}});
        let main = json!({"name": "main", "image": "web", "lifecycle": hooks});
        real.world.create(pod("a", json!({"containers": [main]}))).await;
        // One whose hook fails is stopped, and started again like any that failed: at once, then after a while.
        let held_back = |pod: &Pod| state(pod, "main") == "CrashLoopBackOff" && status(pod, "main").restart_count == 1;
        real.soon("the hook failed twice", || real.world.pod("a").filter(held_back)).await;
        // Events are written beside.
        let told = || real.world.reasons().contains(&"FailedPostStartHook".to_owned()).then_some(());
        real.soon("told of the hook", told).await;
        real.runtime.exec_code.store(0, Ordering::SeqCst);
        real.world.clock.advance(Duration::from_secs(10));
        let restarted = |pod: &Pod| condition(pod, "Ready") == "True" && status(pod, "main").restart_count == 2;
        real.soon("restarted", || real.world.pod("a").filter(restarted)).await;
        assert_eq!(*real.runtime.commands.lock().unwrap(), [["hello"], ["hello"], ["hello"]]);
        // It runs on until the hook has ended.
        real.world.delete("a", 30);
        real.soon("killing", || (real.world.reasons().last()? == "Killing").then_some(())).await;
        real.world.clock.advance(Duration::from_secs(6));
        real.world.settle().await;
        assert_eq!(state(&real.world.pod("a").unwrap(), "main"), "Running");
        real.world.clock.advance(Duration::from_secs(1));
        real.soon("gone", || real.world.pod("a").is_none().then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_said_how_to_get() {
    let real = Real::new();
    real.run(async {
        real.world.create(pod("a", json!({"containers": [{"name": "main", "image": "other"}]}))).await;
        let waits = |pod: &Pod| !pod.status.container_statuses.is_empty() && state(pod, "main") == "ImagePullBackOff";
        let waiting = real.soon("it waits", || real.world.pod("a").filter(waits)).await;
        let message = status(&waiting, "main").state.waiting.as_ref().unwrap().message.clone();
        assert!(message.contains("longshore image load"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn directories_of_pods_that_are_gone_are_removed() {
    let real = Real::new();
    let orphan = real.directory.path().join("pods").join("long-gone");
    let logs = real.directory.path().join("logs").join("ns_a_long-gone");
    fs::create_dir_all(orphan.join("volumes/x")).unwrap();
    fs::create_dir_all(logs.join("main")).unwrap();
    real.run(async {
        real.soon("removed", || (!orphan.exists() && !logs.exists()).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn logs_stay_until_the_pods_object_goes() {
    let real = Real::new();
    real.run(async {
        let main = json!([{"name": "main", "image": "web", "command": ["true"]}]);
        let created = real.world.create(pod("a", json!({"restartPolicy": "Never", "containers": main}))).await;
        let uid = created.metadata.uid.as_deref().unwrap();
        let logs = real.world.options.pod_log_dir("ns", "a", uid);
        fs::create_dir_all(&logs).unwrap();
        let ended = |pod: &Pod| pod.status.phase == longshore_core::api::pod::PodPhase::Succeeded;
        real.soon("ended", || real.world.pod("a").filter(ended)).await;
        real.soon("its directory went", || (!real.directory.path().join("pods").join(uid).exists()).then_some(()))
            .await;
        real.world.settle().await;
        assert!(logs.exists());
        // An ended pod is deleted without a grace period: its object is gone at once.
        real.world.api::<Pod>().delete("a", &Default::default()).await.unwrap();
        real.soon("the logs went", || (!logs.exists()).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn services_are_programmed_into_the_network() {
    let real = Real::new();
    real.run(async {
        let service = json!({
            "metadata": {"name": "web"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let service: longshore_core::api::Service = serde_json::from_value(service).unwrap();
        real.world.api().create(service, &PostParams::default()).await.unwrap();
        real.world
            .until("programmed", || {
                let table = real.world.network.services.lock().unwrap();
                table.iter().any(|port| port.name == "ns/web:80").then_some(())
            })
            .await;
    })
    .await;
}

fn claimed() -> serde_json::Value {
    json!({
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": true}}],
        "containers": [{"name": "main", "image": "web", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    })
}

#[tokio::test]
async fn a_pod_waits_until_its_claim_is_bound() {
    let real = Real::new();
    let place = real.directory.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("kept"), "x").unwrap();
    real.run(async {
        let said = |text: &str| real.world.messages().iter().any(|message| message.ends_with(text)).then_some(());
        real.world.create(pod("a", claimed())).await;
        real.soon("no claim", || said("error processing PVC ns/data: persistentvolumeclaims \"data\" not found")).await;
        let claim = json!({"metadata": {"name": "data", "namespace": "ns"}, "spec": {"volumeName": "pv"}});
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        let claim = real.world.api().create(claim, &PostParams::default()).await.unwrap();
        let mut volume = PersistentVolume::default();
        volume.metadata.name = Some("pv".into());
        volume.spec.local = Some(Box::new(serde_json::from_value(json!({"path": place})).unwrap()));
        let volumes = Api::<PersistentVolume>::all(real.world.client());
        volumes.create(volume.set_aside_for(&claim), &PostParams::default()).await.unwrap();
        real.world.clock.advance(Duration::from_secs(1));
        real.soon("not bound", || said("error processing PVC ns/data: PVC is not bound")).await;
        let mut bound = (*claim).clone();
        bound.status.phase = PersistentVolumeClaimPhase::Bound;
        real.world.api().update_status(bound, &PostParams::default()).await.unwrap();
        real.world.clock.advance(Duration::from_secs(4));
        real.ready("a").await;
        assert_eq!(real.mounted("/data"), place);
        assert!(real.runtime.configs.lock().unwrap()[0].mounts.iter().any(|mount| mount.read_only));

        real.world.delete("a", 30);
        real.soon("gone", || real.world.pod("a").is_none().then_some(())).await;
        assert!(place.join("kept").exists(), "what is on the volume outlives the pod");
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_fills_its_empty_directory_is_evicted() {
    let real = Real::new();
    real.run(async {
        let spec = json!({
            "restartPolicy": "Always",
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "64Ki"}}],
            "containers": [{"name": "main", "image": "web", "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
        });
        real.world.create(pod("a", spec)).await;
        real.ready("a").await;
        fs::write(real.mounted("/scratch").join("little"), [0; 1000]).unwrap();
        real.world.clock.advance(Duration::from_secs(10));
        real.world.settle().await;
        assert_eq!(condition(&real.world.pod("a").unwrap(), "Ready"), "True");

        fs::write(real.mounted("/scratch").join("much"), vec![1; 100_000]).unwrap();
        let evicted = |pod: &Pod| pod.status.phase == longshore_core::api::pod::PodPhase::Failed;
        let evicted = real
            .soon("evicted", || {
                real.world.clock.advance(Duration::from_millis(100));
                real.world.pod("a").filter(evicted)
            })
            .await;
        let text = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"64Ki\". ";
        assert_eq!((evicted.status.reason.as_str(), evicted.status.message.as_str()), ("Evicted", text));
        assert_eq!(condition(&evicted, "DisruptionTarget"), "True");
        assert!(real.world.reasons().contains(&"Evicted".to_owned()));
        let uid = evicted.metadata.uid.as_deref().unwrap();
        let directory = real.directory.path().join("pods").join(uid);
        real.soon("its directory went", || (!directory.exists()).then_some(())).await;
        assert_eq!(real.world.pod("a").unwrap().status.reason, "Evicted");
    })
    .await;
}
