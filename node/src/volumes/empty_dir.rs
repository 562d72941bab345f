//! Directories that live as long as their pod, on the node's disk or in memory.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use longshore_core::api::pod::{EmptyDirVolumeSource, StorageMedium};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// Makes the directory if it is not there; its content is the pod's and stays. One in memory holds no more than its limit and
/// the pod's own limit of memory, in bytes.
pub(super) fn make(
    path: &Path,
    source: &EmptyDirVolumeSource,
    memory: Option<i64>,
    group: Option<u32>,
) -> io::Result<()> {
    match source.medium {
        StorageMedium::Unset | StorageMedium::Memory => {}
        ref other => {
            let message = format!("this node has no storage medium {other:?}: use the default or Memory");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    }
    let fresh = !path.exists();
    fs::create_dir_all(path)?;
    let mut mounted = false;
    if source.medium == StorageMedium::Memory && !is_tmpfs(path)? {
        let mut options = "mode=0777".to_owned();
        let own = source.size_limit.as_ref().map(|limit| limit.value());
        if let Some(limit) = [own, memory].into_iter().flatten().filter(|limit| *limit > 0).min() {
            options.push_str(&format!(",size={limit}"));
        }
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?;
        mounted = true;
    }
    if fresh || mounted {
        if group.is_some() {
            chown(path, None, group)?;
        }
        // With a group of its own, what is made inside belongs to that group, too.
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Whether the path itself is a mount in memory: its parent then lies on something else.
fn is_tmpfs(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or(path);
    let other_device = fs::metadata(path)?.dev() != fs::metadata(parent)?.dev();
    Ok(other_device && statfs(path)?.filesystem_type() == TMPFS_MAGIC)
}
