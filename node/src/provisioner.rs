//! Makes volumes of the class `local-path` for claims whose first pod is placed on this node, and removes them.
//!
//! Such a volume is a directory below the agent's own, called after the claim's uid, so that an attempt that broke off is
//! simply made again. A finalizer keeps the volume's object until its directory is gone. *Invariant:* nothing is removed but
//! `volumes/<name of the volume>`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::persistent_volume::{
    LOCAL_PATH, LocalVolumeSource, PROVISIONED_BY, PersistentVolumePhase, VolumeNodeAffinity,
};
use longshore_core::api::persistent_volume_claim::{
    PersistentVolumeAccessMode, PersistentVolumeMode, SELECTED_NODE, STORAGE_PROVISIONER,
};
use longshore_core::api::pod::{NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm};
use longshore_core::api::storage_class::PersistentVolumeReclaimPolicy;
use longshore_core::api::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use longshore_core::client::params::{DeleteParams, PostParams, Preconditions};
use longshore_core::client::{Api, Error};
use longshore_core::events::Severity;
use longshore_core::informer::Informer;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Holds the object of a volume until its directory is gone.
const FINALIZER: &str = "longshore.io/local-path";
/// The label by which volumes name their node.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Wait before trying again.
const RETRY: Duration = Duration::from_secs(1);

/// Makes and removes this node's volumes.
#[derive(Debug)]
pub(crate) struct Provisioner {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    changed: Arc<Notify>,
}

/// One thing to do.
#[derive(Debug, Clone)]
enum Task {
    /// Make the volume of a claim.
    Make(Arc<PersistentVolumeClaim>),
    /// Remove a volume, with all that is in it.
    Remove(Arc<PersistentVolume>),
    /// Let the object of a volume go, and leave its directory.
    LetGo(Arc<PersistentVolume>),
}

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Client(#[from] Error),
    #[error("{}: {error}", .path.display())]
    Directory { path: PathBuf, error: io::Error },
}

impl Provisioner {
    pub(crate) fn new(claims: Informer<PersistentVolumeClaim>, volumes: Informer<PersistentVolume>) -> Self {
        let changed = Arc::new(Notify::new());
        let (of_claims, of_volumes) = (changed.clone(), changed.clone());
        claims.on_change(move |_| of_claims.notify_one());
        volumes.on_change(move |_| of_volumes.notify_one());
        Self { claims, volumes, changed }
    }

    pub(crate) async fn run(&self, shared: &Shared, cancel: &CancellationToken) {
        let work = cancel.run_until_cancelled(self.work(shared));
        tokio::join!(self.claims.run(cancel.clone()), self.volumes.run(cancel.clone()), work);
    }

    async fn work(&self, shared: &Shared) {
        self.claims.synced().await;
        self.volumes.synced().await;
        let mut refused = BTreeSet::new();
        loop {
            let mut failed = false;
            for task in tasks(&self.claims.list(), &self.volumes.list(), &shared.options.node_name) {
                if let Err(error) = self.carry_out(shared, &task, &mut refused).await {
                    tracing::warn!(%error, ?task, "cannot make or remove a volume, trying again");
                    failed = true;
                }
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = shared.clock.sleep(RETRY), if failed => {}
            }
        }
    }

    /// `refused` are the uids of claims that were told why they get nothing.
    async fn carry_out(&self, shared: &Shared, task: &Task, refused: &mut BTreeSet<String>) -> Result<(), Failure> {
        match task {
            Task::Make(claim) => match unsuitable(claim) {
                None => self.make(shared, claim).await,
                Some(why) => {
                    if refused.insert(claim.metadata.uid.clone().unwrap_or_default()) {
                        let class = claim.class();
                        let text = format!("failed to provision volume with StorageClass \"{class}\": {why}");
                        shared.recorder.record(&**claim, Severity::Warning, "ProvisioningFailed", text);
                    }
                    Ok(())
                }
            },
            Task::Remove(volume) => {
                if shared.is_real() {
                    remove_directory(&shared.options.volumes_dir(), volume).await?;
                }
                self.let_go(volume).await?;
                let params = DeleteParams {
                    preconditions: Some(Preconditions { uid: volume.metadata.uid.clone(), resource_version: None }),
                    ..DeleteParams::default()
                };
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                match self.volumes.delete("", name, &params).await {
                    Err(error) if !error.is_not_found() => Err(error.into()),
                    _ => Ok(()),
                }
            }
            Task::LetGo(volume) => self.let_go(volume).await,
        }
    }

    async fn make(&self, shared: &Shared, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let classes: Api<StorageClass> = Api::all(shared.client.clone());
        let class = classes.get(claim.class()).await?;
        let volume = volume(claim, &class, &shared.options.volumes_dir(), &shared.options.node_name);
        let name = volume.metadata.name.clone().unwrap_or_default();
        if shared.is_real() {
            make_directory(shared.options.volumes_dir().join(&name)).await?;
        }
        match self.volumes.create(volume, &PostParams::default()).await {
            Err(error) if !error.is_already_exists() => return Err(error.into()),
            _ => {}
        }
        let text = format!("Successfully provisioned volume {name}");
        shared.recorder.record(claim, Severity::Normal, "ProvisioningSucceeded", text);
        Ok(())
    }

    async fn let_go(&self, volume: &PersistentVolume) -> Result<(), Failure> {
        if !is_held(volume) {
            return Ok(());
        }
        let mut free = volume.clone();
        if let Some(finalizers) = &mut free.metadata.finalizers {
            finalizers.retain(|name| name != FINALIZER);
        }
        match self.volumes.update(free, &PostParams::default()).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// What is to be done for a node.
fn tasks(claims: &[Arc<PersistentVolumeClaim>], volumes: &[Arc<PersistentVolume>], node: &str) -> Vec<Task> {
    let made: BTreeSet<&str> = volumes.iter().filter_map(|volume| volume.metadata.name.as_deref()).collect();
    let wanted = claims.iter().filter(|claim| {
        claim.annotation(SELECTED_NODE) == node
            && claim.annotation(STORAGE_PROVISIONER) == LOCAL_PATH
            && claim.spec.volume_name.is_empty()
            && claim.metadata.deletion_timestamp.is_none()
            && !made.contains(name(claim).as_str())
    });
    let own = affinity(node);
    let own = volumes.iter().filter(|volume| {
        let annotations = volume.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(PROVISIONED_BY)).is_some_and(|by| by == LOCAL_PATH)
            && volume.spec.node_affinity.as_ref() == Some(&own)
    });
    let ends = own.filter_map(|volume| {
        let goes = volume.spec.persistent_volume_reclaim_policy == PersistentVolumeReclaimPolicy::Delete;
        match volume.status.phase {
            PersistentVolumePhase::Released if goes => Some(Task::Remove(volume.clone())),
            PersistentVolumePhase::Bound => None,
            _ => (volume.metadata.deletion_timestamp.is_some() && is_held(volume)).then(|| Task::LetGo(volume.clone())),
        }
    });
    wanted.cloned().map(Task::Make).chain(ends).collect()
}

fn is_held(volume: &PersistentVolume) -> bool {
    volume.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

/// Why no directory will do for the claim.
fn unsuitable(claim: &PersistentVolumeClaim) -> Option<&'static str> {
    const OF_ONE_NODE: [PersistentVolumeAccessMode; 2] =
        [PersistentVolumeAccessMode::ReadWriteOnce, PersistentVolumeAccessMode::ReadWriteOncePod];
    if claim.spec.volume_mode == Some(PersistentVolumeMode::Block) {
        Some("block volume provisioning is not supported")
    } else if claim.spec.selector.is_some() {
        Some("claim.Spec.Selector is not supported")
    } else if !claim.spec.access_modes.iter().all(|mode| OF_ONE_NODE.contains(mode)) {
        Some("NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes")
    } else {
        None
    }
}

/// The name of the volume of a claim.
fn name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

fn affinity(node: &str) -> VolumeNodeAffinity {
    let here = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: NodeSelectorOperator::In,
        values: vec![node.to_owned()],
    };
    let term = NodeSelectorTerm { match_expressions: vec![here], ..NodeSelectorTerm::default() };
    VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }
}

fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, directory: &Path, node: &str) -> PersistentVolume {
    let name = name(claim);
    let mut volume = PersistentVolume {
        metadata: ObjectMeta {
            annotations: Some([(PROVISIONED_BY.to_owned(), LOCAL_PATH.to_owned())].into()),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        ..PersistentVolume::default()
    };
    let path = directory.join(&name).display().to_string();
    let spec = &mut volume.spec;
    spec.capacity = [("storage".to_owned(), claim.size())].into();
    spec.local = Some(Box::new(LocalVolumeSource { path, fs_type: None }));
    spec.access_modes.clone_from(&claim.spec.access_modes);
    spec.storage_class_name = claim.class().to_owned();
    spec.mount_options.clone_from(&class.mount_options);
    spec.volume_mode.clone_from(&claim.spec.volume_mode);
    spec.persistent_volume_reclaim_policy =
        class.reclaim_policy.clone().unwrap_or(PersistentVolumeReclaimPolicy::Delete);
    spec.node_affinity = Some(affinity(node));
    volume.metadata.name = Some(name);
    volume.set_aside_for(claim)
}

/// Makes a directory in which every user may write, as container images have their own.
async fn make_directory(path: PathBuf) -> Result<(), Failure> {
    let made = path.clone();
    let work = move || {
        fs::create_dir_all(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o777))?;
        // Data that is promised to stay must be found after a crash of the machine.
        made.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    };
    done(path, spawn_blocking(work).await)
}

/// Removes the directory of a volume, if it is where this agent makes them.
async fn remove_directory(directory: &Path, volume: &PersistentVolume) -> Result<(), Failure> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let own = directory.join(name);
    let path = volume.spec.local.as_ref().map(|local| Path::new(&local.path));
    if own.parent() != Some(directory) || path != Some(&own) {
        tracing::warn!(volume = name, "a volume says that it was made here but lies elsewhere: its data is left alone");
        return Ok(());
    }
    let removed = own.clone();
    let work = move || match fs::remove_dir_all(&removed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    done(own, spawn_blocking(work).await)
}

fn done(path: PathBuf, ended: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| Failure::Directory { path, error })
}

#[cfg(test)]
#[path = "provisioner_tests.rs"]
mod tests;
