use longshore_core::api::Event;
use longshore_core::client::Target;
use longshore_core::kind::{Kind, KindType};
use serde_json::{Value, json};

use super::*;
use crate::testing::World;
use crate::testing_real::Pretending;

struct Here {
    world: World,
    directory: tempfile::TempDir,
}

impl Here {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::new();
        world.options.root_dir = directory.path().to_owned();
        Self { world, directory }
    }

    async fn run<T>(&self, test: impl Future<Output = T>) -> T {
        let agent = self.world.agent_with(Pretending::new(self.world.runtime.clone()));
        self.world.with_agent(agent, test).await
    }

    async fn add<K: Kind>(&self, object: Value) -> Arc<K> {
        let object = serde_json::from_value::<K>(object).unwrap();
        let api = if K::INFO.namespaced { self.world.api() } else { Api::all(self.world.client()) };
        api.create(object, &PostParams::default()).await.unwrap()
    }

    async fn add_claim(&self, name: &str, node: &str, mode: &str) -> Arc<PersistentVolumeClaim> {
        let annotations = json!({ SELECTED_NODE: node, STORAGE_PROVISIONER: LOCAL_PATH });
        let spec = json!({
            "accessModes": [mode], "storageClassName": "local-path", "resources": { "requests": { "storage": "1Gi" } },
        });
        self.add(json!({ "metadata": { "namespace": "ns", "name": name, "annotations": annotations }, "spec": spec }))
            .await
    }

    fn volumes(&self) -> Vec<PersistentVolume> {
        let objects = self.world.server.objects(KindType::of::<PersistentVolume>());
        objects.iter().map(|object| object.as_any().downcast_ref::<PersistentVolume>().unwrap().clone()).collect()
    }

    async fn soon<T>(&self, mut holds: impl FnMut() -> Option<T>) -> T {
        for _ in 0..300_000 {
            tokio::task::yield_now().await;
            if let Some(found) = holds() {
                return found;
            }
            std::thread::yield_now();
        }
        panic!("never came");
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut PersistentVolume)) {
        let kind = KindType::of::<PersistentVolume>();
        self.world.server.modify(Target { kind, namespace: "", name }, |object| {
            change(object.as_any_mut().downcast_mut().unwrap());
        });
    }
}

#[tokio::test]
async fn a_claim_gets_a_directory_that_goes_with_it() {
    let here = Here::new();
    here.run(async {
        let class = json!({ "metadata": { "name": "local-path" }, "provisioner": LOCAL_PATH });
        here.add::<StorageClass>(class).await;
        let claim = here.add_claim("data", "n1", "ReadWriteOnce").await;
        here.add_claim("elsewhere", "n2", "ReadWriteOnce").await;
        let made = here.soon(|| here.volumes().pop()).await;
        let name = made.metadata.name.clone().unwrap();
        let path = here.directory.path().join("volumes").join(&name);
        assert_eq!(made.spec.local.as_ref().unwrap().path, path.display().to_string());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        assert!(made.is_for(&claim));
        assert_eq!(made.spec.persistent_volume_reclaim_policy, PersistentVolumeReclaimPolicy::Delete);

        fs::write(path.join("file"), "content").unwrap();
        let beside = here.directory.path().join("volumes").join("beside");
        fs::create_dir(&beside).unwrap();
        here.change(&name, |volume| volume.status.phase = PersistentVolumePhase::Bound);
        here.world.settle().await;
        assert_eq!(here.volumes().len(), 1, "one is enough, and it stays while it is bound");
        here.change(&name, |volume| volume.status.phase = PersistentVolumePhase::Released);
        here.soon(|| here.volumes().is_empty().then_some(())).await;
        assert!(!path.exists() && beside.exists());
    })
    .await;
}

#[tokio::test]
async fn a_claim_for_which_no_directory_will_do_is_told_so_once() {
    let here = Here::new();
    here.run(async {
        here.add_claim("shared", "n1", "ReadWriteMany").await;
        let told = || {
            let objects = here.world.server.objects(KindType::of::<Event>());
            let events = objects.iter().filter_map(|object| object.as_any().downcast_ref::<Event>().cloned());
            events.into_iter().find(|event| event.reason == "ProvisioningFailed")
        };
        let event = here.soon(told).await;
        assert!(event.message.ends_with("access modes"), "{}", event.message);
        here.add_claim("other", "n2", "ReadWriteOnce").await;
        here.world.settle().await;
        assert_eq!(told().unwrap().count, event.count);
    })
    .await;
}

fn some_volume(name: &str, path: &Path, node: &str) -> PersistentVolume {
    let mut volume = PersistentVolume::default();
    volume.metadata.name = Some(name.into());
    volume.metadata.annotations = Some([(PROVISIONED_BY.into(), LOCAL_PATH.into())].into());
    volume.spec.local = Some(Box::new(LocalVolumeSource { path: path.display().to_string(), fs_type: None }));
    volume.spec.node_affinity = Some(affinity(node));
    volume.spec.persistent_volume_reclaim_policy = PersistentVolumeReclaimPolicy::Delete;
    volume.status.phase = PersistentVolumePhase::Released;
    volume
}

#[tokio::test]
async fn nothing_is_removed_that_lies_elsewhere() {
    let temporary = tempfile::tempdir().unwrap();
    let (directory, precious) = (temporary.path().join("volumes"), temporary.path().join("precious"));
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir(&precious).unwrap();
    let cases: [(&str, &Path); 4] =
        [("a", &precious), ("..", temporary.path()), ("../precious", &precious), ("", &directory)];
    for (name, path) in cases {
        remove_directory(&directory, &some_volume(name, path, "n1")).await.unwrap();
        assert!(precious.exists() && directory.exists(), "{name}");
    }
}

#[test]
fn only_volumes_of_this_node_are_this_nodes_business() {
    let path = Path::new("/data/volumes/a");
    let mut kept = some_volume("kept", path, "n1");
    kept.spec.persistent_volume_reclaim_policy = PersistentVolumeReclaimPolicy::Retain;
    let mut leaving = kept.clone();
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    leaving.metadata.finalizers = Some(vec![FINALIZER.into()]);
    let all = [some_volume("own", path, "n1"), some_volume("other", path, "n2"), kept, leaving].map(Arc::new);
    let due = tasks(&[], &all, "n1");
    assert!(matches!(&due[..], [Task::Remove(own), Task::LetGo(_)] if own.metadata.name.as_deref() == Some("own")));
}
