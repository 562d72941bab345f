//! Volumes of real pods, below the pod's directory: `volumes/<name>` for those that the node makes.

mod atomic_writer;
mod claim;
mod empty_dir;
mod host_path;
mod nfs;
mod ownership;
mod payload;
mod sub_path;
pub(crate) mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::api::Pod;
use longshore_core::api::pod::helpers::{ResourceOptions, pod_limits};
use longshore_core::api::pod::{Container, MountPropagationMode, RecursiveReadOnlyMode, Volume, VolumeMount};
use longshore_core::quantity::Quantity;
use longshore_core::runtime::{Mount, Propagation};
use nix::mount::{MntFlags, umount2};
use tokio::task::spawn_blocking;

use self::atomic_writer::Payload;
use crate::Options;
use crate::env::Environment;
use crate::shared::Shared;
use crate::sources::{Place, Sources};

/// Why a volume is not there, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub(crate) struct Error {
    pub(crate) volume: String,
    pub(crate) reason: String,
}

/// What a volume is made from.
enum Kind<'a> {
    /// Files that the node writes.
    Files,
    EmptyDir(&'a longshore_core::api::pod::EmptyDirVolumeSource),
    HostPath(&'a longshore_core::api::pod::HostPathVolumeSource),
    Nfs(&'a longshore_core::api::pod::NFSVolumeSource),
    Claim,
    Unsupported,
}

fn kind(volume: &Volume) -> Kind<'_> {
    if let Some(source) = &volume.empty_dir {
        Kind::EmptyDir(source)
    } else if let Some(source) = &volume.host_path {
        Kind::HostPath(source)
    } else if let Some(source) = &volume.nfs {
        Kind::Nfs(source)
    } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        Kind::Claim
    } else if volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
    {
        Kind::Files
    } else {
        Kind::Unsupported
    }
}

/// Whether any volume's content can change while the pod runs.
pub(crate) fn changes_in_place(pod: &Pod) -> bool {
    pod.spec.volumes.iter().any(|volume| matches!(kind(volume), Kind::Files))
}

/// Makes the volumes, or brings those up to date whose sources changed. What is right already is not touched.
///
/// # Errors
/// The first volume that cannot be made.
pub(crate) async fn prepare(shared: &Arc<Shared>, pod: &Pod, addresses: &[IpAddr]) -> Result<(), Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut sources = Sources::new(shared.client.clone(), namespace);
    let place = Place {
        host_ips: shared.options.addresses.iter().map(ToString::to_string).collect(),
        pod_ips: addresses.iter().map(ToString::to_string).collect(),
        directory: None,
    };
    let directory = shared.options.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    let mut content = Content::default();
    for volume in &pod.spec.volumes {
        let error = |reason: String| Error { volume: volume.name.clone(), reason };
        match kind(volume) {
            Kind::Files => {
                let payload =
                    payload::payload(pod, volume, &mut sources, &shared.tokens, &place, &shared.allocatable).await;
                content.payloads.insert(volume.name.clone(), payload.map_err(|missing| error(missing.message))?);
            }
            // A volume that the pod has stays, whatever became of its claim.
            Kind::Claim if claim::is_made(&volume_path(&directory, &volume.name)) => {}
            Kind::Claim => {
                let backing = claim::backing(shared, pod, volume).await.map_err(error)?;
                content.backings.insert(volume.name.clone(), backing);
            }
            Kind::Unsupported => return Err(error("this node does not support volumes of its kind".to_owned())),
            Kind::EmptyDir(_) | Kind::HostPath(_) | Kind::Nfs(_) => {}
        }
    }
    let (pod, options) = (pod.clone(), shared.options.clone());
    let stamp = shared.clock.now();
    let work = move || make(&pod, &options, &content, stamp);
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error { volume: String::new(), reason: format!("the work broke off: {error}") }))
}

/// What was found out about volumes before they are made, by their names.
#[derive(Default)]
struct Content {
    payloads: BTreeMap<String, Payload>,
    backings: BTreeMap<String, claim::Backing>,
}

fn make(pod: &Pod, options: &Options, content: &Content, stamp: jiff::Timestamp) -> Result<(), Error> {
    let group = pod.spec.security_context.as_ref().and_then(|context| context.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    let memory = pod_limits(pod, ResourceOptions::default()).get("memory").map(Quantity::value);
    let directory = options.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    for volume in &pod.spec.volumes {
        let path = volume_path(&directory, &volume.name);
        let done = match kind(volume) {
            Kind::Files => {
                let empty = Payload::new();
                let payload = content.payloads.get(&volume.name).unwrap_or(&empty);
                atomic_writer::write(&path, payload, group, stamp).map_err(|error| error.to_string())
            }
            Kind::EmptyDir(source) => empty_dir::make(&path, source, memory, group).map_err(|error| error.to_string()),
            Kind::HostPath(source) => host_path::check(source),
            Kind::Nfs(source) => nfs::make(&path, source, &[]),
            Kind::Claim => match content.backings.get(&volume.name) {
                Some(backing) => claim::make(&path, backing, group),
                None => Ok(()),
            },
            Kind::Unsupported => Ok(()),
        };
        done.map_err(|reason| Error { volume: volume.name.clone(), reason })?;
    }
    Ok(())
}

fn volume_path(pod_directory: &Path, volume: &str) -> PathBuf {
    pod_directory.join("volumes").join(volume)
}

/// Reads a file in a volume of the pod that has this directory. What containers put there is not believed: nothing leads out of the
/// volume, nor is it waited for.
pub(crate) fn read_text(pod_directory: &Path, volume: &str, path: &str) -> io::Result<String> {
    sub_path::read_text(&volume_path(pod_directory, volume), path)
}

/// The mounts of a container, in the order of the spec.
///
/// # Errors
/// A mount that cannot be, in words for the container's waiting message.
pub(crate) async fn mounts(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Container,
    env: &Environment,
) -> Result<Vec<Mount>, String> {
    let directory = shared.options.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    let mut wanted = Vec::new();
    for mount in &container.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("the pod has no volume \"{}\"", mount.name))?;
        let source = match kind(volume) {
            Kind::HostPath(source) => PathBuf::from(&source.path),
            Kind::Claim => claim::place(volume_path(&directory, &volume.name)),
            _ => volume_path(&directory, &volume.name),
        };
        let sub_path =
            if mount.sub_path_expr.is_empty() { mount.sub_path.clone() } else { expand_strictly(env, mount)? };
        let claim_only_reads = volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only);
        let read_only = mount.read_only || claim_only_reads || matches!(kind(volume), Kind::Files);
        let target = if mount.mount_path.starts_with('/') {
            PathBuf::from(&mount.mount_path)
        } else {
            Path::new("/").join(&mount.mount_path)
        };
        wanted.push((
            source,
            sub_path,
            Mount {
                source: PathBuf::new(),
                target,
                read_only,
                recursive_read_only: recursive_read_only(shared, mount)?,
                propagation: propagation(mount),
            },
        ));
    }
    let name = container.name.clone();
    let work = move || {
        let mut mounts = Vec::new();
        for (index, (source, sub_path, mut mount)) in wanted.into_iter().enumerate() {
            mount.source = if sub_path.is_empty() {
                source
            } else {
                let bound = directory.join("subpaths").join(&name).join(index.to_string());
                sub_path::bind(&source, &sub_path, &bound).map_err(|error| {
                    format!("failed to prepare subPath for volumeMount of container \"{name}\": {error}")
                })?;
                bound
            };
            mounts.push(mount);
        }
        Ok(mounts)
    };
    spawn_blocking(work).await.unwrap_or_else(|error| Err(format!("the work broke off: {error}")))
}

/// Unlike elsewhere, a variable that is not known is an error: the path would mean something else.
fn expand_strictly(env: &Environment, mount: &VolumeMount) -> Result<String, String> {
    let expanded = env.expand(&mount.sub_path_expr);
    if expanded.contains("$(") {
        return Err(format!("failed to expand subPathExpr \"{}\": a variable in it is not set", mount.sub_path_expr));
    }
    if expanded.starts_with('/') {
        return Err(format!("subPath `{expanded}` must be a relative path"));
    }
    Ok(expanded)
}

/// Whether what is mounted below a mount is read-only, too.
fn recursive_read_only(shared: &Shared, mount: &VolumeMount) -> Result<bool, String> {
    let can = shared.info.capabilities.recursive_read_only;
    match &mount.recursive_read_only {
        Some(RecursiveReadOnlyMode::Enabled) if !can => Err(format!(
            "volume \"{}\" requested recursive read-only mode, but it is not supported by the runtime",
            mount.name
        )),
        Some(RecursiveReadOnlyMode::Enabled) => Ok(true),
        Some(RecursiveReadOnlyMode::IfPossible) => Ok(can),
        _ => Ok(false),
    }
}

fn propagation(mount: &VolumeMount) -> Propagation {
    match &mount.mount_propagation {
        Some(MountPropagationMode::HostToContainer) => Propagation::HostToContainer,
        Some(MountPropagationMode::Bidirectional) => Propagation::Bidirectional,
        _ => Propagation::Private,
    }
}

/// Removes a pod's directory, and its logs if given. What is mounted below is unmounted first, so that nothing beyond
/// the directory is touched.
///
/// # Errors
/// Something is mounted below that cannot be unmounted, or a file cannot be removed.
pub(crate) async fn remove(directory: PathBuf, logs: Option<PathBuf>) -> io::Result<()> {
    let work = move || {
        unmount_below(&directory)?;
        for path in logs.iter().chain([&directory]) {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn unmount_below(directory: &Path) -> io::Result<()> {
    let Ok(canonical) = directory.canonicalize() else { return Ok(()) };
    let mut points = mount_points_below(&fs::read_to_string("/proc/self/mountinfo")?, &canonical);
    // What was mounted last lies on top.
    points.reverse();
    for point in points {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

fn mount_points_below(mount_info: &str, directory: &Path) -> Vec<PathBuf> {
    let points = mount_info.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text)));
    points.filter(|point| point.starts_with(directory)).collect()
}

/// The kernel writes spaces and the like as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests;
