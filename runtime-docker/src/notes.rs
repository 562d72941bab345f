//! What is kept in files: what the engine has no place for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use longshore_core::runtime::{ContainerRef, Resources};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// At most upstream's.
const MESSAGE_MAX: usize = 4096;

/// How a container ended that never ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unstarted {
    pub(crate) finished_at: Timestamp,
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// Who holds an exec'd process: it ends with this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Notes(PathBuf);

impl Notes {
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        let notes = Self(directory);
        fs::create_dir_all(notes.execs())?;
        Ok(notes)
    }

    fn pod(&self, uid: &str) -> PathBuf {
        self.0.join("pods").join(uid)
    }

    fn container(&self, name: &ContainerRef) -> PathBuf {
        self.pod(&name.pod_uid).join(format!("{}_{}", name.name, name.attempt))
    }

    fn execs(&self) -> PathBuf {
        self.0.join("execs")
    }

    /// The file for a container's termination message, made if it is not there.
    pub(crate) fn message_file(&self, name: &ContainerRef) -> io::Result<PathBuf> {
        let directory = self.container(name);
        fs::create_dir_all(&directory)?;
        let path = directory.join("message");
        // Whoever the container runs as must be able to write it; nobody else comes into the directory.
        fs::OpenOptions::new().append(true).create(true).open(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        Ok(path)
    }

    /// What a container said about its end.
    pub(crate) fn message(&self, name: &ContainerRef) -> String {
        let bytes = fs::read(self.container(name).join("message")).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MESSAGE_MAX)..]).into_owned()
    }

    pub(crate) fn unstarted(&self, name: &ContainerRef) -> Option<Unstarted> {
        read(&self.container(name).join("unstarted.json"))
    }

    pub(crate) fn note_unstarted(&self, name: &ContainerRef, how: &Unstarted) -> io::Result<()> {
        fs::create_dir_all(self.container(name))?;
        write(&self.container(name).join("unstarted.json"), how)
    }

    /// The limits that a container was given since it was made.
    pub(crate) fn resources(&self, name: &ContainerRef) -> Option<Resources> {
        read(&self.container(name).join("resources.json"))
    }

    pub(crate) fn note_resources(&self, name: &ContainerRef, resources: &Resources) -> io::Result<()> {
        fs::create_dir_all(self.container(name))?;
        write(&self.container(name).join("resources.json"), resources)
    }

    pub(crate) fn forget_container(&self, name: &ContainerRef) -> io::Result<()> {
        remove(&self.container(name))
    }

    pub(crate) fn forget_pod(&self, uid: &str) -> io::Result<()> {
        remove(&self.pod(uid))
    }

    pub(crate) fn forget_all(&self) -> io::Result<()> {
        remove(&self.0)
    }

    pub(crate) fn note_exec(&self, id: &str, holder: &Holder) -> io::Result<()> {
        write(&self.execs().join(id), holder)
    }

    pub(crate) fn forget_exec(&self, id: &str) {
        // One that stays is looked at again when the runtime is opened.
        let _ = fs::remove_file(self.execs().join(id));
    }

    /// The exec'd processes that were not seen to end, and who holds them.
    pub(crate) fn execs_held(&self) -> Vec<(String, Holder)> {
        let entries = fs::read_dir(self.execs()).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, read(&entry.path())?))).collect()
    }
}

/// Writes a note wholly or not at all.
fn write<T: Serialize>(path: &Path, note: &T) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(note)?)?;
    fs::rename(&temporary, path)
}

/// A note; what a loss of power has damaged is as if it were not there.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
