//! Volumes that a claim stands for.
//!
//! What is a path of the node is noted as a symbolic link in the pod's directory, which says to a later agent where the
//! volume is, and which nothing follows that removes the directory. What has to be mounted is mounted there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use longshore_core::api::persistent_volume_claim::{PersistentVolumeClaimPhase, PersistentVolumeMode};
use longshore_core::api::pod::helpers::{claim_name, node_selector_matches, owns_claim};
use longshore_core::api::pod::{HostPathVolumeSource, NFSVolumeSource, Volume};
use longshore_core::api::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use longshore_core::client::Api;

use super::{host_path, nfs, ownership};
use crate::shared::Shared;

/// What a volume is on this node.
#[derive(Debug, Clone)]
pub(super) enum Backing {
    HostPath(HostPathVolumeSource),
    /// A directory that belongs to the volume alone.
    Local(PathBuf),
    Nfs {
        source: NFSVolumeSource,
        options: Vec<String>,
    },
}

/// Finds out what a claim stands for.
///
/// # Errors
/// It stands for nothing that this node can give the pod, in upstream's words.
pub(super) async fn backing(shared: &Shared, pod: &Pod, volume: &Volume) -> Result<Backing, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim_name(pod, volume).unwrap_or_default();
    let wrong = |why: &str| format!("error processing PVC {namespace}/{name}: {why}");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), namespace);
    let claim =
        claims.get_opt(&name).await.map_err(|error| wrong(&format!("failed to fetch PVC from API server: {error}")))?;
    let claim = claim.ok_or_else(|| wrong(&format!("persistentvolumeclaims \"{name}\" not found")))?;
    if volume.ephemeral.is_some() && !owns_claim(pod, &claim) {
        return Err(wrong("PVC was not created for the pod (pod is not owner)"));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(wrong("PVC is being deleted"));
    }
    if claim.status.phase != PersistentVolumeClaimPhase::Bound || claim.spec.volume_name.is_empty() {
        return Err(wrong("PVC is not bound"));
    }
    let name = &claim.spec.volume_name;
    let volumes: Api<PersistentVolume> = Api::all(shared.client.clone());
    let found = volumes.get_opt(name).await.map_err(|error| wrong(&format!("failed to fetch PV {name}: {error}")))?;
    let found = found.ok_or_else(|| wrong(&format!("persistentvolumes \"{name}\" not found")))?;
    if !found.is_for(&claim) {
        return Err(wrong(&format!("PV {name} is bound to another claim")));
    }
    reachable(shared, &found).await?;
    sort(&found).ok_or_else(|| {
        format!("this node cannot use volume \"{name}\": it knows file systems of hostPath, local and nfs volumes")
    })
}

async fn reachable(shared: &Shared, volume: &PersistentVolume) -> Result<(), String> {
    let Some(required) = volume.spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref()) else {
        return Ok(());
    };
    let nodes: Api<Node> = Api::all(shared.client.clone());
    let node = nodes.get(&shared.options.node_name).await.map_err(|error| error.to_string())?;
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if node_selector_matches(required, &labels).unwrap_or(false) {
        return Ok(());
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    Err(format!("MountVolume.NodeAffinity check failed for volume \"{name}\": no matching NodeSelectorTerms"))
}

fn sort(volume: &PersistentVolume) -> Option<Backing> {
    let spec = &volume.spec;
    if spec.volume_mode == Some(PersistentVolumeMode::Block) {
        return None;
    }
    if let Some(source) = &spec.host_path {
        return Some(Backing::HostPath((**source).clone()));
    }
    if let Some(source) = &spec.local {
        return Some(Backing::Local(PathBuf::from(&source.path)));
    }
    let source = spec.nfs.as_ref()?;
    Some(Backing::Nfs { source: (**source).clone(), options: spec.mount_options.clone() })
}

/// Whether an earlier attempt has made the volume already.
pub(super) fn is_made(path: &Path) -> bool {
    path.is_symlink() || nfs::is_mounted(path)
}

/// Makes the volume at its place in the pod's directory.
pub(super) fn make(path: &Path, backing: &Backing, group: Option<u32>) -> Result<(), String> {
    match backing {
        Backing::HostPath(source) => {
            host_path::check(source)?;
            link(path, Path::new(&source.path))
        }
        Backing::Local(target) => {
            if !target.is_dir() {
                return Err(format!("path \"{}\" does not exist or is no directory", target.display()));
            }
            if let Some(group) = group {
                let given = ownership::give(target, group);
                given.map_err(|error| format!("applyFSGroup failed for {}: {error}", target.display()))?;
            }
            link(path, target)
        }
        Backing::Nfs { source, options } => nfs::make(path, source, options),
    }
}

fn link(path: &Path, target: &Path) -> Result<(), String> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(target, path));
    made.map_err(|error| format!("cannot note the place of the volume at {}: {error}", path.display()))
}

/// Where the volume really is.
pub(super) fn place(path: PathBuf) -> PathBuf {
    fs::read_link(&path).unwrap_or(path)
}
