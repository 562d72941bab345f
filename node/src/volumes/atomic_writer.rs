//! Files of a volume that change all at once: a reader sees the old ones or the new ones, never a mixture.
//!
//! The files lie in a directory of their own; `..data` points to it, and what users see (`key`) points through `..data`.
//! New content goes into a new directory, then `..data` is swapped by one rename.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    /// The user whose it is; the agent's own if there is none.
    pub(crate) owner: Option<u32>,
}

/// Files by their path in the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// Makes `directory` hold exactly these files. Does nothing if it does.
///
/// # Errors
/// A path that leads out of the volume, or what the file system says.
pub(crate) fn write(directory: &Path, payload: &Payload, group: Option<u32>, stamp: Timestamp) -> io::Result<()> {
    for path in payload.keys() {
        check(path)?;
    }
    fs::create_dir_all(directory)?;
    let current = fs::read_link(directory.join(DATA)).ok();
    let visible: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    if let Some(current) = &current
        && holds(&directory.join(current), payload)
    {
        return show(directory, &visible);
    }
    let (name, fresh) = fresh_directory(directory, stamp)?;
    for (path, file) in payload {
        put(&fresh, path, file, group)?;
    }
    set_access(&fresh, 0o755, None, group)?;
    // Links that a reader follows must not dangle: new ones come after the swap, old ones go after it.
    let new_link = directory.join(DATA_NEW);
    remove_if_there(&new_link)?;
    symlink(&name, &new_link)?;
    fs::rename(&new_link, directory.join(DATA))?;
    show(directory, &visible)?;
    if let Some(old) = current {
        match fs::remove_dir_all(directory.join(old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A path must stay in the volume and not look like the writer's own names.
fn check(path: &str) -> io::Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        let message = format!("invalid path {path:?}: it must be relative, without '..' and not start with '..'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

fn fresh_directory(directory: &Path, stamp: Timestamp) -> io::Result<(String, PathBuf)> {
    // An earlier try at the same moment may have left one behind.
    for number in 0..1000_u32 {
        let name = format!("..{}.{number}", stamp.as_nanosecond());
        let path = directory.join(&name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok((name, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no name is free for a directory of new files"))
}

fn put(root: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = root.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut open = OpenOptions::new();
    let mut opened = open.write(true).create_new(true).mode(0o600).open(&target)?;
    opened.write_all(&file.content)?;
    drop(opened);
    // The group that the pod's processes are in must be able to read.
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    set_access(&target, mode, file.owner, group)
}

fn set_access(path: &Path, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        chown(path, owner, group)?;
    }
    // The umask of the agent must not decide what a container can read.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Whether a directory holds exactly these files.
fn holds(directory: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if list(directory, "", &mut found).is_err() || found.len() != payload.len() {
        return false;
    }
    payload.iter().all(|(path, file)| {
        let target = directory.join(path);
        found.contains(path.as_str())
            && fs::read(&target).is_ok_and(|content| content == file.content)
            && fs::metadata(&target)
                .is_ok_and(|meta| meta.permissions().mode() & 0o777 & !0o440 == file.mode & 0o777 & !0o440)
    })
}

fn list(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name);
        }
    }
    Ok(())
}

/// Makes the links that users see, and removes those that lead nowhere any more.
fn show(directory: &Path, visible: &BTreeSet<&str>) -> io::Result<()> {
    for name in visible {
        match symlink(Path::new(DATA).join(name), directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !visible.contains(&*name) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
