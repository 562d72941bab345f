//! A part of a volume, as a mount of its own.
//!
//! A container may have put symbolic links into a volume that lead out of it, and may swap them while the path is
//! walked. So the path is opened by the kernel with the volume as its root, and what was opened is what is mounted.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

/// Most bytes of a file that is read.
const TEXT_MAX: u64 = 1 << 20;

/// Mounts `sub_path` of `volume` at `bound`. A directory that is not there is made.
pub(super) fn bind(volume: &Path, sub_path: &str, bound: &Path) -> io::Result<()> {
    let opened = open_inside(volume, sub_path)?;
    let is_directory = fs::metadata(format!("/proc/self/fd/{}", opened.as_raw_fd()))?.is_dir();
    // An earlier attempt of the container may have left its mount.
    let _ = umount2(bound, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    if is_directory {
        fs::create_dir_all(bound)?;
    } else {
        if let Some(parent) = bound.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::OpenOptions::new().create(true).append(true).open(bound)?;
    }
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    mount(Some(source.as_str()), bound, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

/// Opens a path that cannot leave the volume, making the directories of it that are missing.
pub(super) fn open_inside(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let plain = Path::new(sub_path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("subPath {sub_path:?} leads out of the volume"),
        ));
    }
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    match open_below(&root, sub_path, OFlag::O_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut done = String::new();
    for part in Path::new(sub_path).components() {
        let Component::Normal(name) = part else { continue };
        let parent = open_below(&root, if done.is_empty() { "." } else { &done }, OFlag::O_PATH)?;
        let made = nix::sys::stat::mkdirat(&parent, Path::new(name), Mode::from_bits_truncate(0o755));
        match made {
            Ok(()) => {
                let made = format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), name.to_string_lossy());
                fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
            }
            Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if !done.is_empty() {
            done.push('/');
        }
        done.push_str(&name.to_string_lossy());
    }
    open_below(&root, sub_path, OFlag::O_PATH)
}

/// Reads a regular file that lies in the volume.
pub(super) fn read_text(volume: &Path, path: &str) -> io::Result<String> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // Looked at before it is opened: whoever opens a pipe waits for somebody who writes, and whoever opens a device sets it going.
    let found = fs::File::from(open_below(&root, path, OFlag::O_PATH)?);
    let unusable = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    let metadata = found.metadata()?;
    if !metadata.is_file() {
        return unusable("it is no regular file");
    }
    if metadata.len() > TEXT_MAX {
        return unusable("it is larger than 1 MiB");
    }
    let file = fs::File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut text = String::new();
    file.take(TEXT_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn open_below(root: &OwnedFd, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    // Links are followed as the container would see them: none leads above the volume's root.
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(root, path, how)?)
}
