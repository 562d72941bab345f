//! Giving a volume to the pod's group, as upstream does it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// What the group may do with files and directories, and that what is made in a directory is the group's, too.
const FILE: u32 = 0o660;
const DIRECTORY: u32 = 0o2770;

/// Gives all below a directory to the group. A directory that is the group's already was given to it before.
pub(super) fn give(root: &Path, group: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(root)?;
    if meta.gid() == group && meta.mode() & DIRECTORY == DIRECTORY {
        return Ok(());
    }
    below(root, group)
}

/// The directory itself comes last: if this breaks off, it is done again.
fn below(path: &Path, group: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            below(&entry?.path(), group)?;
        }
    }
    lchown(path, None, Some(group))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let more = if meta.is_dir() { DIRECTORY } else { FILE };
    fs::set_permissions(path, fs::Permissions::from_mode((meta.mode() & 0o7777) | more))
}
