//! Exports of NFS servers, mounted by the kernel without a helper.

use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use longshore_core::api::pod::NFSVolumeSource;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

const PORT: u16 = 2049;

/// Mounts the export at the path, unless something is mounted there. Options are those of the volume: `ro` and the like are
/// flags, all others are the file system's.
pub(super) fn make(path: &Path, source: &NFSVolumeSource, options: &[String]) -> Result<(), String> {
    if is_mounted(path) {
        return Ok(());
    }
    let export = format!("{}:{}", source.server, source.path);
    let failed = |why: &str| format!("cannot mount {export}: {why}");
    fs::create_dir_all(path).map_err(|error| failed(&error.to_string()))?;
    let mut flags = if source.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let mut data = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            other => data.push(other.to_owned()),
        }
    }
    // The kernel does not look names up.
    let address = (source.server.as_str(), PORT).to_socket_addrs().map_err(|error| failed(&error.to_string()))?;
    let address = address.map(|address| address.ip()).next().ok_or_else(|| failed("the server has no address"))?;
    data.push(format!("addr={address}"));
    let mounted = mount(Some(export.as_str()), path, Some("nfs4"), flags, Some(data.join(",").as_str()));
    mounted.map_err(|error| match error {
        Errno::ENODEV => failed("the kernel of this node has no NFS (no nfs4 in /proc/filesystems)"),
        error => failed(error.desc()),
    })
}

/// Whether something is mounted at a directory whose parent is of another file system.
pub(super) fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|data| data.dev());
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(parents))) => own != parents,
        _ => false,
    }
}
