//! Where a cluster on one machine keeps everything: one directory, one owner at a time.
//!
//! ```text
//! <data-dir>/
//!   lock           held by the process that runs the cluster; holds its process id
//!   cluster.json   what was chosen when the cluster was made, see Settings
//!   registries.json  the administrator's: how to reach registries, see DataDir::registries
//!   kubeconfig     of the administrator; on a machine that joined, of its node
//!   serving.pem    by which such a node serves
//!   pki/           the cluster's CA and the parts' certificates
//!   store/         the objects
//!   runtime/       images, sandboxes and containers
//!   node/          volumes and logs of pods
//!   network/       addresses of pods
//!   longshore.log  what a detached cluster says
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_runtime_oci::Registry;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::dns::Domain;

/// The format of `cluster.json`.
const VERSION: u32 = 1;
/// Time between looks at a lock whose owner dies.
const DYING_POLL: Duration = Duration::from_millis(20);
/// How often it is looked at: 5 s in all.
const DYING_POLLS: u32 = 250;

/// What was chosen when the cluster was made; later starts keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Settings {
    /// Format of this record.
    pub version: u32,
    /// What tells this cluster's names on the host from another's: four hexadecimal digits.
    pub instance: String,
    /// Where objects are kept: `memory`, `embedded` or `etcd=URL,…`.
    pub store: String,
    /// What runs containers: `oci`, `docker` or `simulated`.
    pub runtime: String,
    /// Where the Docker Engine is that runs them; `None` for its usual socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_host: Option<String>,
    /// What connects pods: `bridge`, `cni`, `host` or `none`.
    #[serde(default = "default_network")]
    pub network: String,
    /// Where CNI configurations are; `None` for the usual place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_configuration: Option<PathBuf>,
    /// Where CNI plugins are; none for the usual places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_plugins: Vec<PathBuf>,
    /// How many nodes.
    pub nodes: u32,
    /// Where the API listens.
    pub address: std::net::SocketAddr,
    /// Addresses of pods: a range, or one of each family with a comma in between, the primary first. So are the other ranges.
    pub pod_range: String,
    /// Addresses of Services.
    pub service_range: String,
    /// Addresses of all nodes' pods, of which nodes that join get theirs; empty for none.
    #[serde(default)]
    pub cluster_range: String,
    /// Domain of the cluster's names.
    #[serde(default = "default_domain")]
    pub cluster_domain: String,
    /// Where pods find the cluster's DNS, as `--cluster-dns` has it; empty for the tenth address of Services.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_dns: String,
}

/// The domain of clusters that were made before it was recorded, and of those that have no other.
fn default_domain() -> String {
    Domain::default().to_string()
}

/// Of records that are older than the choice, too.
fn default_network() -> String {
    crate::local::NetworkKind::Bridge.as_str().to_owned()
}

impl Settings {
    /// A record of the present format.
    pub(crate) fn new(instance: String, store: &str, runtime: &str, nodes: u32) -> Self {
        Self {
            version: VERSION,
            instance,
            store: store.to_owned(),
            runtime: runtime.to_owned(),
            docker_host: None,
            network: default_network(),
            cni_configuration: None,
            cni_plugins: Vec::new(),
            nodes,
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            pod_range: String::new(),
            service_range: String::new(),
            cluster_range: String::new(),
            cluster_domain: default_domain(),
            cluster_dns: String::new(),
        }
    }

    /// Whether other control planes can be over the same store.
    pub(crate) fn is_shared(&self) -> bool {
        self.store.starts_with("etcd=")
    }
}

/// The directory of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// Held while a process runs the cluster of a directory.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl DataDir {
    /// Names the directory; does not touch it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self(std::path::absolute(&path).unwrap_or(path))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where the administrator's kubeconfig is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    /// Where a detached cluster logs.
    pub fn log(&self) -> PathBuf {
        self.join("longshore.log")
    }

    /// Makes the directory, for its owner only, and takes its lock.
    ///
    /// # Errors
    /// [`Error::Running`] if another process has it; [`Error::File`].
    pub fn lock(&self) -> Result<Lock, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(Error::file("create directory", &self.0))?;
        let path = self.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        let mut lock = self.take(file)?;
        let record = || -> std::io::Result<()> {
            lock.set_len(0)?;
            write!(lock, "{}", std::process::id())
        };
        Self::recorded(record, &path)?;
        Ok(Lock { _file: lock })
    }

    /// Takes the lock, also from a process that was killed a moment ago: its threads keep files open until the last of them
    /// has gone, which is after it looks dead to who killed it.
    fn take(&self, mut file: File) -> Result<Flock<File>, Error> {
        for _ in 0..DYING_POLLS {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((file, _)) => file,
            };
            let pid = self.holder();
            if is_alive(pid) {
                return Err(Error::Running { directory: self.0.clone(), pid });
            }
            #[expect(clippy::disallowed_methods, reason = "commands come here before any runtime is there")]
            std::thread::sleep(DYING_POLL);
        }
        Err(Error::Running { directory: self.0.clone(), pid: self.holder() })
    }

    fn recorded(mut record: impl FnMut() -> std::io::Result<()>, path: &Path) -> Result<(), Error> {
        record().map_err(Error::file("write", path))
    }

    /// The process that runs the cluster, if one does.
    ///
    /// # Errors
    /// [`Error::File`] if the lock cannot be read.
    pub fn running(&self) -> Result<Option<u32>, Error> {
        let path = self.join("lock");
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("open", &path)(error)),
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_free) => Ok(None),
            Err(_) => Ok(Some(self.holder())),
        }
    }

    fn holder(&self) -> u32 {
        let mut text = String::new();
        let read = File::open(self.join("lock")).and_then(|mut file| file.read_to_string(&mut text));
        read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
    }

    /// What was chosen when the cluster was made; `None` if none was.
    ///
    /// # Errors
    /// [`Error::File`] if the record cannot be read, or a newer version wrote it.
    pub fn settings(&self) -> Result<Option<Settings>, Error> {
        let path = self.join("cluster.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let settings: Settings = serde_json::from_slice(&bytes).map_err(|error| Error::File {
            tried: "understand",
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if settings.version != VERSION {
            let reason = format!("it has format {}, this version knows {VERSION}", settings.version);
            return Err(Error::File { tried: "understand", path, reason });
        }
        Ok(Some(settings))
    }

    /// How to reach registries of images, from the administrator's `registries.json`: by host (with its port, if names of
    /// images have one), a `ca` file or `plainHttp`.
    ///
    /// # Errors
    /// [`Error::File`] if the file is there and malformed.
    pub fn registries(&self) -> Result<BTreeMap<String, Registry>, Error> {
        let path = self.join("registries.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        serde_json::from_slice(&bytes).map_err(|error| Error::File {
            tried: "understand",
            path,
            reason: error.to_string(),
        })
    }

    /// Records what was chosen.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn record(&self, settings: &Settings) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(settings).expect("settings are plain data");
        self.write("cluster.json", &bytes)
    }

    /// Writes a file that only its owner can read, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let (path, new) = (self.join(name), self.join(&format!(".{name}.new")));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(Error::file("write", &path))
    }

    /// Deletes the directory with everything in it.
    ///
    /// # Errors
    /// [`Error::File`] naming what could not be deleted.
    pub(crate) fn delete(&self, lock: Lock) -> Result<(), Error> {
        fs::remove_dir_all(&self.0).map_err(Error::file("delete", &self.0))?;
        drop(lock);
        Ok(())
    }
}

/// Whether a process runs: one that has ended and waits for its parent to ask does not.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the program's name, which stands in brackets and may hold some itself.
    status.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).is_some_and(|state| state != 'Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::new(temp.path().join("made"));
        assert_eq!(directory.running().unwrap(), None);
        let lock = directory.lock().unwrap();
        assert_eq!(directory.running().unwrap(), Some(std::process::id()));
        let error = directory.lock().unwrap_err();
        assert!(matches!(error, Error::Running { pid, .. } if pid == std::process::id()), "{error}");
        drop(lock);
        assert_eq!(directory.running().unwrap(), None);
        assert!(directory.lock().is_ok());
    }

    #[test]
    fn the_lock_of_a_dead_process_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::new(temp.path());
        let lock = directory.lock().unwrap();
        // A child that has ended, and that nobody has asked about yet, stands for a process that was just killed.
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        while is_alive(dead.id()) {
            std::thread::yield_now();
        }
        fs::write(directory.join("lock"), dead.id().to_string()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| directory.lock());
            drop(lock);
            waiting.join().unwrap().unwrap();
        });
        dead.wait().unwrap();
    }

    #[test]
    fn settings_are_kept_and_newer_ones_refused() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::new(temp.path());
        assert_eq!(directory.settings().unwrap(), None);
        let mut settings = Settings::new("00ab".into(), "memory", "simulated", 3);
        directory.record(&settings).unwrap();
        assert_eq!(directory.settings().unwrap().as_ref(), Some(&settings));
        settings.version += 1;
        directory.record(&settings).unwrap();
        assert!(directory.settings().unwrap_err().to_string().contains("format 2"));
        fs::write(temp.path().join("cluster.json"), "{").unwrap();
        assert!(directory.settings().is_err());
    }

    #[test]
    fn registries_are_read_and_misspelt_ones_refused() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::new(temp.path());
        assert_eq!(directory.registries().unwrap(), BTreeMap::new());
        fs::write(directory.join("registries.json"), r#"{"a.io": {"ca": "/ca.pem"}, "b:5000": {"plainHttp": true}}"#)
            .unwrap();
        let registries = directory.registries().unwrap();
        assert_eq!(registries["a.io"], Registry { ca: Some("/ca.pem".into()), plain_http: false });
        assert!(registries["b:5000"].plain_http);
        fs::write(directory.join("registries.json"), r#"{"a.io": {"CA": "/ca.pem"}}"#).unwrap();
        assert!(directory.registries().unwrap_err().to_string().contains("unknown field"));
    }
}
