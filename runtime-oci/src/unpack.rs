//! Unpacks an image's layer so that nothing in it can reach outside its directory.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{XattrFlags, lsetxattr};

/// Most bytes of one layer.
const BYTES_MAX: u64 = 32 << 30;
/// Most entries of one layer.
const ENTRIES_MAX: usize = 1_000_000;

/// The attribute that holds a program's capabilities.
const CAPABILITY: &str = "security.capability";

/// Unpacks a layer's tar stream into `root`, with overlayfs' marks for what the layer deletes.
pub(crate) fn unpack(layer: impl Read, root: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(layer);
    let mut bytes = 0_u64;
    let mut modes: Vec<(PathBuf, u32)> = Vec::new();
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        bytes = bytes.saturating_add(entry.size());
        if count >= ENTRIES_MAX || bytes > BYTES_MAX {
            return Err(io::Error::other(format!("layer is larger than {ENTRIES_MAX} entries or {BYTES_MAX} bytes")));
        }
        let name = entry.path()?.into_owned();
        let Some(target) = inside(root, &name)? else { continue };
        let file_name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = target.parent().unwrap_or(root);
        fs::create_dir_all(parent)?;
        if file_name == ".wh..wh..opq" {
            lsetxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
            continue;
        }
        if let Some(deleted) = file_name.strip_prefix(".wh.") {
            if matches!(deleted, "" | "." | "..") {
                return Err(refused(&name, "is not a whiteout"));
            }
            let whiteout = parent.join(deleted);
            clear(&whiteout)?;
            mknod(&whiteout, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?;
            continue;
        }
        let kind = entry.header().entry_type();
        let mode = entry.header().mode()? & 0o7777;
        if kind.is_dir() {
            if !fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
                clear(&target)?;
                fs::create_dir(&target)?;
            }
        } else {
            clear(&target)?;
            match kind {
                tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                    io::copy(&mut entry, &mut File::create_new(&target)?)?;
                }
                tar::EntryType::Symlink => symlink(link(&entry, &name)?, &target)?,
                tar::EntryType::Link => {
                    let source =
                        inside(root, &link(&entry, &name)?)?.ok_or_else(|| refused(&name, "links to the root"))?;
                    fs::hard_link(source, &target)?;
                    continue;
                }
                // Devices come from the runtime, never from an image.
                tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => continue,
                _ => continue,
            }
        }
        let id = |id: io::Result<u64>| id.and_then(|id| u32::try_from(id).map_err(io::Error::other));
        lchown(&target, Some(id(entry.header().uid())?), Some(id(entry.header().gid())?))?;
        if let Some(capability) = capability(&mut entry)? {
            // After the owner, whose change takes it away.
            lsetxattr(&target, CAPABILITY, &capability, XattrFlags::empty())?;
        }
        match kind {
            tar::EntryType::Symlink => {}
            // A directory's rights may forbid what is still to be put into it.
            tar::EntryType::Directory => modes.push((target, mode)),
            _ => fs::set_permissions(&target, Permissions::from_mode(mode))?,
        }
    }
    for (directory, mode) in modes {
        if fs::symlink_metadata(&directory).is_ok_and(|found| found.is_dir()) {
            fs::set_permissions(directory, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// The capabilities of a program. Other attributes are left out: some steer overlayfs.
fn capability<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Vec<u8>>> {
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if extension.key_bytes().strip_prefix(b"SCHILY.xattr.") == Some(CAPABILITY.as_bytes()) {
            return Ok(Some(extension.value_bytes().to_vec()));
        }
    }
    Ok(None)
}

fn link<R: Read>(entry: &tar::Entry<'_, R>, name: &Path) -> io::Result<PathBuf> {
    Ok(entry.link_name()?.ok_or_else(|| refused(name, "is a link to nothing"))?.into_owned())
}

fn refused(name: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("layer entry {} {why}", name.display()))
}

/// Where an entry goes; `None` for the root itself.
fn inside(root: &Path, name: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = root.to_owned();
    let mut components = name.components().filter(|c| !matches!(c, Component::CurDir | Component::RootDir)).peekable();
    if components.peek().is_none() {
        return Ok(None);
    }
    while let Some(component) = components.next() {
        let Component::Normal(part) = component else { return Err(refused(name, "points outside the image")) };
        path.push(part);
        // Following a link that the layer made itself could leave the layer.
        if components.peek().is_some() && fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
            return Err(refused(name, "goes through something that is no directory"));
        }
    }
    Ok(Some(path))
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kind: tar::EntryType, name: &str, link: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, link) in [(tar::EntryType::Symlink, "out", "/tmp"), (kind, name, link)] {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            header.set_size(0);
            header.set_mode(0o644);
            header.set_uid(nix::unistd::getuid().as_raw().into());
            header.set_gid(nix::unistd::getgid().as_raw().into());
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn nothing_leaves_the_directory() {
        for (kind, name, link) in [
            (tar::EntryType::Regular, "../escape", ""),
            (tar::EntryType::Regular, "out/escape", ""),
            (tar::EntryType::Link, "hard", "../../etc/passwd"),
            (tar::EntryType::Link, "hard", "out/x"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let error = unpack(layer(kind, name, link).as_slice(), root.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name} {link}: {error}");
        }
        let root = tempfile::tempdir().unwrap();
        unpack(layer(tar::EntryType::Regular, "/abs", "").as_slice(), root.path()).unwrap();
        assert!(root.path().join("abs").is_file());
    }

    #[test]
    fn what_a_layer_deletes_becomes_overlayfs_marks() {
        if !nix::unistd::geteuid().is_root() {
            return longshore_core::testing::skip("overlayfs' marks need root");
        }
        let root = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for name in ["dir/.wh.gone", "dir/kept", "other/.wh..wh..opq"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o4755);
            header.set_uid(7);
            header.set_gid(8);
            builder.append_data(&mut header, name, io::empty()).unwrap();
        }
        unpack(builder.into_inner().unwrap().as_slice(), root.path()).unwrap();
        let gone = fs::symlink_metadata(root.path().join("dir/gone")).unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&gone.file_type()));
        assert_eq!(std::os::unix::fs::MetadataExt::rdev(&gone), 0);
        let kept = fs::metadata(root.path().join("dir/kept")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777), (7, 8, 0o4755));
        let mut value = [0; 8];
        let count = rustix::fs::lgetxattr(root.path().join("other"), "trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..count], b"y");
        assert!(!root.path().join("dir/.wh.gone").exists());

        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, "dir/.wh...", io::empty()).unwrap();
        assert!(unpack(builder.into_inner().unwrap().as_slice(), root.path()).is_err());
    }
}
