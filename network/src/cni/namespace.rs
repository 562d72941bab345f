//! Pods' network namespaces, kept until plugins have removed what they made: CNI has `DEL` run in the namespace, and the reference
//! plugins leave rules of the node behind if it is gone by then. A mount keeps it, whoever made it and however that ended, and
//! no other namespace can come to be at its path, as it can below `/proc` once a process's number is given again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use longshore_core::network::Error;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use crate::netlink::failed;

/// Keeps a namespace at a path.
pub(super) fn keep(namespace: &Path, at: &Path) -> Result<(), Error> {
    let kept = || -> io::Result<()> {
        if let Some(directory) = at.parent() {
            fs::create_dir_all(directory)?;
        }
        File::create(at)?;
        Ok(mount(Some(namespace), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    };
    kept().map_err(failed(format!("keep network namespace {}", namespace.display())))
}

/// Whether a namespace is kept there. After a restart of the machine there is a file, but no namespace.
pub(super) fn is_kept(at: &Path) -> bool {
    statfs(at).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Whether two paths lead to one namespace.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Lets go of the namespace at a path; none is fine.
pub(super) fn release(at: &Path) -> Result<(), Error> {
    let released = || -> io::Result<()> {
        loop {
            match umount2(at, MntFlags::MNT_DETACH) {
                // As often as somebody was killed between keeping it and saying so.
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        crate::disk::remove(at)
    };
    released().map_err(failed(format!("let go of the network namespace at {}", at.display())))
}
