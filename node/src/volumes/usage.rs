//! How much of the node's disk a pod uses, and whether that is more than it may.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use longshore_core::api::Pod;
use longshore_core::api::pod::helpers::{ResourceOptions, pod_limits};
use longshore_core::api::pod::{EmptyDirVolumeSource, StorageMedium, Volume};
use longshore_core::quantity::Quantity;
use tokio::task::spawn_blocking;

use super::volume_path;
use crate::Options;

/// Size of a block in `st_blocks`.
const BLOCK: u64 = 512;

fn on_disk(volume: &Volume) -> Option<&EmptyDirVolumeSource> {
    volume.empty_dir.as_deref().filter(|source| source.medium != StorageMedium::Memory)
}

fn limit_of_all(pod: &Pod) -> Option<Quantity> {
    pod_limits(pod, ResourceOptions::default()).get("ephemeral-storage").filter(|limit| !limit.is_zero()).cloned()
}

/// Whether the pod may use only so much.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    let limited = |volume: &Volume| on_disk(volume).is_some_and(|source| source.size_limit.is_some());
    pod.spec.volumes.iter().any(limited) || limit_of_all(pod).is_some()
}

/// Why the pod has to leave the node, in upstream's words; `None` if it uses no more than it may. Its empty directories and
/// its logs count, what containers write into their own file systems does not.
pub(crate) async fn excess(options: &Options, pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let directory = options.pod_dir(uid);
    let names = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let logs = options.pod_log_dir(names.0, names.1, uid);
    let pod = pod.clone();
    spawn_blocking(move || find_excess(&pod, &directory, &logs)).await.ok().flatten()
}

fn find_excess(pod: &Pod, directory: &Path, logs: &Path) -> Option<String> {
    let mut total = used(logs);
    for volume in &pod.spec.volumes {
        let Some(source) = on_disk(volume) else { continue };
        let size = used(&volume_path(directory, &volume.name));
        if let Some(limit) = source.size_limit.as_ref().filter(|limit| !limit.is_zero())
            && exceeds(size, limit)
        {
            return Some(format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ", volume.name));
        }
        total += size;
    }
    let limit = limit_of_all(pod)?;
    exceeds(total, &limit)
        .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "))
}

fn exceeds(size: u64, limit: &Quantity) -> bool {
    u64::try_from(limit.value()).is_ok_and(|limit| size > limit)
}

/// The bytes that a directory takes on its disk; what comes or goes meanwhile may count or not.
fn used(directory: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(directory) else { return 0 };
    let mut linked = BTreeSet::new();
    walk(directory, meta.dev(), &mut linked).unwrap_or(0)
}

fn walk(path: &Path, device: u64, linked: &mut BTreeSet<u64>) -> io::Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    // What is mounted inside lies elsewhere, and what has several names counts once.
    if meta.dev() != device || (!meta.is_dir() && meta.nlink() > 1 && !linked.insert(meta.ino())) {
        return Ok(0);
    }
    let mut size = meta.blocks() * BLOCK;
    if meta.is_dir() {
        for entry in fs::read_dir(path)?.flatten() {
            size += walk(&entry.path(), device, linked).unwrap_or(0);
        }
    }
    Ok(size)
}
