//! What an earlier agent left that belongs to no pod of this node any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use longshore_core::runtime::{ContainerState, PodRef, Sandbox};
use tokio_util::sync::CancellationToken;

use crate::pod::config::GRACE_PERIOD;
use crate::shared::Shared;
use crate::volumes;

/// Pods that the network knows, by uid.
pub(crate) type Attached = BTreeMap<String, PodRef>;

/// Wait before trying again.
const RETRY: Duration = Duration::from_secs(2);

/// Stops and removes a sandbox whose pod is gone, trying until it succeeds.
pub(crate) async fn remove(shared: Arc<Shared>, sandbox: Sandbox, stop: CancellationToken) {
    tracing::info!(pod = %sandbox.pod, uid = sandbox.pod.uid, "removing a pod that no longer exists");
    let grace = sandbox.annotations.get(GRACE_PERIOD).and_then(|text| text.parse().ok()).unwrap_or(1);
    let work = async {
        loop {
            match try_remove(&shared, &sandbox, Duration::from_secs(grace)).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(pod = %sandbox.pod, error, "cannot remove a pod, trying again"),
            }
            shared.clock.sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn try_remove(shared: &Shared, sandbox: &Sandbox, grace: Duration) -> Result<(), String> {
    let pod = &sandbox.pod;
    let running = sandbox.containers.iter().filter(|of| matches!(of.state, ContainerState::Running { .. }));
    let stops = running.map(|container| shared.runtime.stop_container(&container.container, grace));
    for stopped in join_all(stops).await {
        stopped.map_err(|error| error.to_string())?;
    }
    shared.runtime.remove_sandbox(&pod.uid).await.map_err(|error| error.to_string())?;
    shared.network.detach(pod).await.map_err(|error| error.to_string())?;
    if shared.is_real() {
        let logs = shared.options.pod_log_dir(&pod.namespace, &pod.name, &pod.uid);
        volumes::remove(shared.options.pod_dir(&pod.uid), Some(logs)).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Frees the addresses of a pod that has no sandbox.
pub(crate) async fn detach(shared: Arc<Shared>, pod: PodRef, stop: CancellationToken) {
    let work = async {
        while let Err(error) = shared.network.detach(&pod).await {
            tracing::warn!(%pod, %error, "cannot detach a pod, trying again");
            shared.clock.sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Removes the directories of pods that are neither wanted nor there, and their logs if those lie below the agent's own
/// directory: elsewhere they may be another's.
pub(crate) async fn remove_directories(shared: Arc<Shared>, keep: BTreeSet<String>) {
    let options = &shared.options;
    let is_kept = |uid: &str| keep.contains(uid);
    let mut orphans = entries(&options.root_dir.join("pods"));
    orphans.retain(|(name, _)| !is_kept(name));
    if options.log_dir.starts_with(&options.root_dir) {
        let logs = entries(&options.log_dir).into_iter();
        // `namespace_name_uid`
        orphans.extend(logs.filter(|(name, _)| name.rsplit_once('_').is_some_and(|(_, uid)| !is_kept(uid))));
    }
    for (_, path) in orphans {
        if let Err(error) = volumes::remove(path.clone(), None).await {
            tracing::warn!(path = %path.display(), %error, "cannot remove the directory of a pod that is gone");
        }
    }
}

fn entries(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}
