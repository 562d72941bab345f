//! Unpacks an image's layer so that nothing in it can reach outside its directory.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{XattrFlags, lsetxattr};

/// Most bytes between two entries: their headers with long names and extensions, which are held in memory.
const HEADERS_MAX: u64 = 1 << 20;

/// The attribute that holds a program's capabilities.
const CAPABILITY: &str = "security.capability";

/// What one layer may have at most: a small file can unpack to what fills any disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
}

impl Limits {
    pub(crate) const LAYER: Self = Self { bytes: 32 << 30, entries: 1_000_000 };

    fn exceeded(self) -> io::Error {
        io::Error::other(format!("layer is larger than {} entries or {} bytes", self.entries, self.bytes))
    }
}

/// A stream that may be read so far and no further.
struct Fenced<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Fenced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 && !buffer.is_empty() {
            return Err(io::Error::other("an entry's headers are too large"));
        }
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - count as u64);
        Ok(count)
    }
}

/// Unpacks a layer's tar stream into `root`, with overlayfs' marks for what the layer deletes.
pub(crate) fn unpack(layer: impl Read, root: &Path, limits: Limits) -> io::Result<()> {
    let left = Rc::new(Cell::new(HEADERS_MAX));
    let mut archive = tar::Archive::new(Fenced { inner: layer, left: left.clone() });
    let mut bytes = 0_u64;
    let mut modes: Vec<(PathBuf, u32)> = Vec::new();
    let mut entries = archive.entries()?;
    for count in 0.. {
        left.set(HEADERS_MAX);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry?;
        bytes = bytes.saturating_add(entry.size());
        if count >= limits.entries || bytes > limits.bytes {
            return Err(limits.exceeded());
        }
        // A sparse file holds less than its size.
        left.set(entry.size().saturating_add(HEADERS_MAX));
        place(&mut entry, root, &mut modes)?;
        // What is not wanted of an entry is not the next one's header.
        io::copy(&mut entry, &mut io::sink())?;
    }
    for (name, mode) in modes {
        // What came later may have put a link in its place, or on the way to it.
        let Ok(Some(directory)) = inside(root, &name) else { continue };
        if fs::symlink_metadata(&directory).is_ok_and(|found| found.is_dir()) {
            fs::set_permissions(directory, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Puts one entry where it belongs; rights of directories are for later.
fn place<R: Read>(entry: &mut tar::Entry<'_, R>, root: &Path, modes: &mut Vec<(PathBuf, u32)>) -> io::Result<()> {
    let name = entry.path()?.into_owned();
    let Some(target) = inside(root, &name)? else { return Ok(()) };
    let file_name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = target.parent().unwrap_or(root);
    fs::create_dir_all(parent)?;
    if file_name == ".wh..wh..opq" {
        lsetxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
        return Ok(());
    }
    if let Some(deleted) = file_name.strip_prefix(".wh.") {
        if matches!(deleted, "" | "." | "..") {
            return Err(refused(&name, "is not a whiteout"));
        }
        let whiteout = parent.join(deleted);
        clear(&whiteout)?;
        mknod(&whiteout, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?;
        return Ok(());
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
                io::copy(entry, &mut File::create_new(&target)?)?;
            }
            tar::EntryType::Symlink => symlink(link(entry, &name)?, &target)?,
            tar::EntryType::Link => {
                let source = inside(root, &link(entry, &name)?)?.ok_or_else(|| refused(&name, "links to the root"))?;
                fs::hard_link(source, &target)?;
                return Ok(());
            }
            // Devices come from the runtime, never from an image.
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => return Ok(()),
            _ => return Ok(()),
        }
    }
    let id = |id: io::Result<u64>| id.and_then(|id| u32::try_from(id).map_err(io::Error::other));
    lchown(&target, Some(id(entry.header().uid())?), Some(id(entry.header().gid())?))?;
    if let Some(capability) = capability(entry)? {
        // After the owner, whose change takes it away.
        lsetxattr(&target, CAPABILITY, &capability, XattrFlags::empty())?;
    }
    match kind {
        tar::EntryType::Symlink => {}
        // A directory's rights may forbid what is still to be put into it.
        tar::EntryType::Directory => modes.push((name, mode)),
        _ => fs::set_permissions(&target, Permissions::from_mode(mode))?,
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
#[path = "unpack_tests.rs"]
mod tests;
