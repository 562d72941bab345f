//! Where a cluster's objects are kept: which store, how it is opened, and what an operator can do with it.

mod running;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use longshore_apiserver::http::HttpService;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::store::{MemoryStore, Revision, Status, Store};
use longshore_storage_embedded::EmbeddedStore;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::Error;
use crate::data_dir::{DataDir, Settings};
use crate::local::failed;
use running::{Kept, Running, compact};

/// How `etcd=` stores are had by a build that has none.
const NO_ETCD: &str = "this longshore was built without etcd: install protobuf-compiler and libprotobuf-dev, and build it with \
                       `cargo build --release --package longshore-cli --features etcd`";

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// In memory: gone with the process.
    Memory,
    /// In one file in the data directory; nothing acknowledged is lost.
    Embedded,
    /// In the etcd cluster with these members, which several API servers can share.
    Etcd(Vec<String>),
}

impl fmt::Display for StoreKind {
    /// As it is written on a command line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => formatter.write_str("memory"),
            Self::Embedded => formatter.write_str("embedded"),
            Self::Etcd(endpoints) => write!(formatter, "etcd={}", endpoints.join(",")),
        }
    }
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "embedded" => Ok(Self::Embedded),
            _ => match text.strip_prefix("etcd=") {
                Some(_) if !cfg!(feature = "etcd") => Err(NO_ETCD.to_owned()),
                Some(endpoints) if !endpoints.is_empty() => {
                    Ok(Self::Etcd(endpoints.split(',').map(str::to_owned).collect()))
                }
                _ => Err(format!("there is no store {text:?}; there are: memory, embedded, etcd=URL,URL...")),
            },
        }
    }
}

impl StoreKind {
    /// Whether a cluster that was made with `recorded` can go on with this one: the members of an etcd may change.
    pub(crate) fn continues(&self, recorded: &str) -> bool {
        self.to_string() == recorded || (matches!(self, Self::Etcd(_)) && recorded.starts_with("etcd="))
    }
}

/// How an etcd is reached; of no interest to other stores.
#[derive(Clone, Default)]
pub struct EtcdAccess {
    /// File with the certificate of the authority that signed the members'.
    pub ca: Option<PathBuf>,
    /// Files with this client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// How often what is older than this is compacted; `None` for never.
    pub compaction: Option<Duration>,
}

impl fmt::Debug for EtcdAccess {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EtcdAccess")
            .field("ca", &self.ca)
            .field("identity", &self.identity)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("compaction", &self.compaction)
            .finish()
    }
}

/// A store that is open.
#[derive(Debug)]
pub(crate) enum Opened {
    Memory(Arc<MemoryStore>),
    Embedded(Arc<EmbeddedStore>),
    #[cfg(feature = "etcd")]
    Etcd(Arc<longshore_storage_etcd::EtcdStore>),
}

impl Opened {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Embedded(store) => store.clone(),
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.clone(),
        }
    }

    /// The same service, which has administrators look after the store if nobody but this process can.
    pub(crate) fn kept(&self, service: HttpService) -> HttpService {
        match self {
            Self::Embedded(store) => service.with_store_keeper(Arc::new(Kept(store.clone()))),
            _ => service,
        }
    }

    /// Finishes what is under way.
    pub(crate) async fn close(self) {
        match self {
            Self::Memory(_) => {}
            Self::Embedded(store) => store.close().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.close().await,
        }
    }
}

/// Opens the store that the settings name.
pub(crate) async fn open(settings: &Settings, directory: &DataDir, access: &EtcdAccess) -> Result<Opened, Error> {
    match settings.store.parse::<StoreKind>().map_err(failed("store"))? {
        StoreKind::Memory => Ok(Opened::Memory(Arc::new(MemoryStore::new()))),
        StoreKind::Embedded => {
            let options = longshore_storage_embedded::Options::default();
            let store = EmbeddedStore::open(directory.join("store"), options).map_err(failed("store"))?;
            Ok(Opened::Embedded(Arc::new(store)))
        }
        StoreKind::Etcd(endpoints) => open_etcd(endpoints, access).await,
    }
}

#[cfg(feature = "etcd")]
async fn open_etcd(endpoints: Vec<String>, access: &EtcdAccess) -> Result<Opened, Error> {
    use longshore_storage_etcd::{Credentials, EtcdStore, Options, Tls};
    let read = |path: &Path| std::fs::read(path).map_err(Error::file("read", path));
    let mut options = Options::new(endpoints);
    options.seed = crate::random::seed().map_err(failed("randomness"))?;
    options.compaction = access.compaction;
    if let Some(ca) = &access.ca {
        let identity = access.identity.as_ref();
        let identity = identity.map(|(certificate, key)| Ok((read(certificate)?, read(key)?))).transpose()?;
        options.tls = Some(Tls { ca: read(ca)?, identity });
    }
    let credentials = access.credentials.clone();
    options.credentials = credentials.map(|(user, password)| Credentials { user, password });
    EtcdStore::open(options).await.map(|store| Opened::Etcd(Arc::new(store))).map_err(failed("store"))
}

#[cfg(not(feature = "etcd"))]
async fn open_etcd(_endpoints: Vec<String>, _access: &EtcdAccess) -> Result<Opened, Error> {
    Err(Error::Part { part: "store", reason: NO_ETCD.to_owned() })
}

/// The settings of a directory's cluster, or such as name another store.
fn settings(directory: &DataDir, asked: Option<&StoreKind>) -> Result<Settings, Error> {
    match (directory.settings()?, asked) {
        (Some(settings), None) => Ok(settings),
        (recorded, Some(kind)) => {
            let recorded = recorded.unwrap_or_else(|| Settings::new(String::new(), "", "none", 0));
            Ok(Settings { store: kind.to_string(), ..recorded })
        }
        (None, None) => Err(Error::NoCluster { directory: directory.path().into() }),
    }
}

/// Puts a snapshot in the place of a directory's embedded store, which is moved aside; it may be damaged.
fn restore_embedded(directory: &DataDir, file: &Path) -> Result<Restoring, Error> {
    let _lock = directory.lock()?;
    let (store, new) = (directory.join("store"), directory.join("store-restored"));
    // What an earlier attempt left.
    let _ = std::fs::remove_dir_all(&new);
    // No store commits a million times a second, so this is beyond whatever was seen, also of a store restored before.
    let beyond = Revision::try_from(SystemClock::new().now().as_microsecond()).unwrap_or(0);
    let copied = EmbeddedStore::restore(file, &new, beyond).map_err(failed("snapshot"))?;
    let replaced = (1..).map(|n| directory.join(&format!("store-replaced-{n}"))).find(|path| !path.exists());
    let replaced = replaced.filter(|_| store.exists());
    if let Some(replaced) = &replaced {
        // In one step, for where there is no store an empty one would be made. By then the copy has the name that the store that was there
        // shall have: whenever this ends, the store is never where the next attempt clears away what is left of this one.
        std::fs::rename(&new, replaced).map_err(Error::file("move", &new))?;
        let exchanged = renameat2(AT_FDCWD, replaced, AT_FDCWD, &store, RenameFlags::RENAME_EXCHANGE);
        exchanged.map_err(|error| Error::file("exchange", &store)(error.into()))?;
    } else {
        std::fs::rename(&new, &store).map_err(Error::file("move", &new))?;
    }
    let synced = std::fs::File::open(directory.path()).and_then(|opened| opened.sync_all());
    synced.map_err(Error::file("sync", directory.path()))?;
    Ok(Restoring::Done { keys: copied.keys, revision: copied.revision, replaced })
}

/// A store, for whoever looks after it.
#[derive(Debug)]
pub struct Keeper {
    reached: Reached,
    kind: StoreKind,
    /// Held where nobody else may have the store open.
    _lock: Option<crate::Lock>,
}

/// How a store is reached.
#[derive(Debug)]
enum Reached {
    Opened(Opened),
    /// Through the process that has it open.
    Through(Running),
}

/// How a store is.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoreReport {
    /// Which store.
    pub kind: StoreKind,
    /// What every store knows of itself.
    pub status: Status,
    /// How each member of an etcd is, or why that is not known; empty for other stores.
    pub members: Vec<Result<MemberReport, String>>,
}

/// How a member of an etcd is.
#[derive(Debug)]
#[non_exhaustive]
pub struct MemberReport {
    /// Where it is reached.
    pub endpoint: String,
    /// Its version.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of it that hold something.
    pub bytes_in_use: u64,
    /// What it complains of.
    pub alarms: Vec<String>,
    /// Whether defragmenting it would give back much.
    pub wants_defragmentation: bool,
}

/// What remains to be done for a store to be as a snapshot has it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Restoring {
    /// These commands, one on the machine of each member.
    Commands(Vec<String>),
    /// Nothing: it is done.
    #[non_exhaustive]
    Done {
        /// Objects and other keys that are there now.
        keys: u64,
        /// The store's revision: later than all that anybody can have seen.
        revision: Revision,
        /// Where the store is that was there before.
        replaced: Option<PathBuf>,
    },
}

impl Keeper {
    /// Opens the store of a directory's cluster, or another one. If the cluster runs and has its store to itself, its API server is
    /// asked.
    ///
    /// # Errors
    /// [`Error::NoCluster`] if none is named and none was started there; [`Error::Running`] if a process that has the store to
    /// itself left no kubeconfig;
    /// [`Error::Missing`] for a store in memory, which nobody else can see.
    pub async fn open(directory: &DataDir, asked: Option<StoreKind>, access: &EtcdAccess) -> Result<Self, Error> {
        let settings = settings(directory, asked.as_ref())?;
        let kind: StoreKind = settings.store.parse().map_err(failed("store"))?;
        let lock = match kind {
            StoreKind::Memory => {
                let what = "a store in memory is part of the process that runs the cluster".to_owned();
                let remedy = "nothing else can see it; --store embedded keeps objects in a file".to_owned();
                return Err(Error::Missing { what, remedy });
            }
            StoreKind::Embedded if !directory.join("store").exists() => {
                return Err(Error::NoCluster { directory: directory.path().into() });
            }
            StoreKind::Embedded => match directory.lock() {
                Ok(lock) => Some(lock),
                Err(running @ Error::Running { .. }) => {
                    let reached = Reached::Through(Running::find(directory, running)?);
                    return Ok(Self { reached, kind, _lock: None });
                }
                Err(error) => return Err(error),
            },
            StoreKind::Etcd(_) => None,
        };
        // Whoever looks after a store has nothing compacted by the way.
        let access = EtcdAccess { compaction: None, ..access.clone() };
        let reached = Reached::Opened(open(&settings, directory, &access).await?);
        Ok(Self { reached, kind, _lock: lock })
    }

    /// How the store is.
    ///
    /// # Errors
    /// [`Error::Part`] with what the store says.
    pub async fn status(&self) -> Result<StoreReport, Error> {
        let status = match &self.reached {
            Reached::Opened(opened) => opened.store().status().await.map_err(failed("store"))?,
            Reached::Through(running) => running.status().await?,
        };
        Ok(StoreReport { kind: self.kind.clone(), status, members: self.members().await })
    }

    async fn members(&self) -> Vec<Result<MemberReport, String>> {
        match &self.reached {
            #[cfg(feature = "etcd")]
            Reached::Opened(Opened::Etcd(store)) => {
                let report = |member: longshore_storage_etcd::MemberStatus| MemberReport {
                    wants_defragmentation: member.wants_defragmentation(),
                    endpoint: member.endpoint,
                    version: member.version,
                    leads: member.leads,
                    bytes: member.bytes,
                    bytes_in_use: member.bytes_in_use,
                    alarms: member.alarms,
                };
                let statuses = store.member_statuses().await;
                statuses.into_iter().map(|status| status.map(report).map_err(|error| error.to_string())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Forgets what was before a revision (`None`: before now), and answers the revision.
    ///
    /// # Errors
    /// [`Error::Part`] with what the store says.
    pub async fn compact(&self, revision: Option<Revision>) -> Result<Revision, Error> {
        match &self.reached {
            Reached::Opened(opened) => compact(&*opened.store(), revision).await.map_err(failed("store")),
            Reached::Through(running) => running.compact(revision).await,
        }
    }

    /// Writes a copy of everything to a file that does not exist yet; answers its bytes.
    ///
    /// # Errors
    /// [`Error::Part`] with what the store says; [`Error::Missing`] for a store that cannot.
    pub async fn snapshot(&self, file: &Path) -> Result<u64, Error> {
        let opened = match &self.reached {
            Reached::Opened(opened) => opened,
            Reached::Through(running) => return running.snapshot(file).await,
        };
        match opened {
            #[cfg(feature = "etcd")]
            Opened::Etcd(store) => store.save_snapshot(file).await.map(|saved| saved.bytes).map_err(failed("snapshot")),
            Opened::Embedded(store) => {
                store.snapshot(file).await.map(|copied| copied.bytes).map_err(failed("snapshot"))
            }
            Opened::Memory(_) => {
                let what = "a store in memory writes no snapshots".to_owned();
                Err(Error::Missing { what, remedy: "--store embedded keeps objects in a file".to_owned() })
            }
        }
    }

    /// Checks a snapshot, and brings the store of a directory's cluster, or another one, to it, as far as that can be done from
    /// here. An embedded store that is there is moved aside.
    ///
    /// # Errors
    /// As [`Keeper::open`]; [`Error::Part`] for a file that is no snapshot.
    pub async fn restore(
        directory: &DataDir,
        asked: Option<StoreKind>,
        access: &EtcdAccess,
        file: &Path,
    ) -> Result<Restoring, Error> {
        if settings(directory, asked.as_ref())?.store == StoreKind::Embedded.to_string() {
            let (directory, file) = (directory.clone(), file.to_owned());
            let work = tokio::task::spawn_blocking(move || restore_embedded(&directory, &file));
            return work.await.map_err(failed("store"))?;
        }
        let keeper = Self::open(directory, asked, access).await?;
        let restoring = keeper.restore_commands(file).await;
        keeper.close().await;
        restoring
    }

    #[cfg(feature = "etcd")]
    async fn restore_commands(&self, file: &Path) -> Result<Restoring, Error> {
        let mut commands = Vec::new();
        if let Reached::Opened(Opened::Etcd(store)) = &self.reached {
            longshore_storage_etcd::check_snapshot(file).await.map_err(failed("snapshot"))?;
            let members = store.restore_commands(file).await.map_err(failed("store"))?;
            commands.extend(members.into_iter().map(|member| member.command));
        }
        Ok(Restoring::Commands(commands))
    }

    #[cfg(not(feature = "etcd"))]
    async fn restore_commands(&self, _file: &Path) -> Result<Restoring, Error> {
        Err(Error::Part { part: "store", reason: NO_ETCD.to_owned() })
    }

    /// Lets the store go.
    pub async fn close(self) {
        if let Reached::Opened(opened) = self.reached {
            opened.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_written_as_it_is_read() {
        for text in ["memory", "embedded"] {
            assert_eq!(text.parse::<StoreKind>().unwrap().to_string(), text);
        }
        let unknown = "paper".parse::<StoreKind>().unwrap_err();
        assert_eq!(unknown, "there is no store \"paper\"; there are: memory, embedded, etcd=URL,URL...");
        let etcd = "etcd=http://a:2379,http://b:2379".parse::<StoreKind>();
        if cfg!(feature = "etcd") {
            let etcd = etcd.unwrap();
            assert_eq!(etcd, StoreKind::Etcd(vec!["http://a:2379".into(), "http://b:2379".into()]));
            assert_eq!(etcd.to_string(), "etcd=http://a:2379,http://b:2379");
            assert!(etcd.continues("etcd=http://c:2379") && !etcd.continues("embedded"));
            assert!("etcd=".parse::<StoreKind>().is_err());
        } else {
            assert!(etcd.unwrap_err().contains("--features etcd"));
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let access = EtcdAccess { credentials: Some(("root".into(), "secret".into())), ..EtcdAccess::default() };
        let shown = format!("{access:?}");
        assert!(shown.contains("root") && !shown.contains("secret"), "{shown}");
    }
}
