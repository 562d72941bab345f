//! A store that a running cluster has to itself: its API server answers for it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::AsyncReadExt;
use http::Request;
use longshore_apiserver::http::{COMPACT_PATH, SNAPSHOT_PATH, STATUS_PATH, StoreKeeper};
use longshore_core::store::{self, Revision, Status, Store};
use longshore_storage_embedded::EmbeddedStore;

use crate::Error;
use crate::connection::{kube_config, refused};
use crate::data_dir::DataDir;
use crate::local::failed;

/// The store, as the API server gives it to administrators.
#[derive(Debug)]
pub(super) struct Kept(pub(super) Arc<EmbeddedStore>);

#[async_trait]
impl StoreKeeper for Kept {
    async fn status(&self) -> Result<Status, store::Error> {
        self.0.status().await
    }

    async fn snapshot(&self) -> Result<File, store::Error> {
        self.0.snapshot_unnamed().await
    }

    async fn compact(&self, revision: Option<Revision>) -> Result<Revision, store::Error> {
        compact(&*self.0, revision).await
    }
}

/// Has a store forget what was before a revision (`None`: before now); answers the revision.
pub(super) async fn compact(store: &dyn Store, revision: Option<Revision>) -> Result<Revision, store::Error> {
    let revision = match revision {
        Some(revision) => revision,
        None => store.status().await?.revision,
    };
    store.compact(revision).await.map(|()| revision)
}

/// The API server of a directory's cluster.
pub(super) struct Running {
    client: kube::Client,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").finish_non_exhaustive()
    }
}

/// Bytes that are written at once.
const CHUNK: usize = 256 << 10;

impl Running {
    /// The server that the directory's kubeconfig names, or what was said of the process that runs there.
    pub(super) fn find(directory: &DataDir, running: Error) -> Result<Self, Error> {
        let Ok(kubeconfig) = std::fs::read_to_string(directory.kubeconfig()) else { return Err(running) };
        let mut config = kube_config(&kubeconfig).map_err(failed("kubeconfig"))?;
        // Whether it answers is to be known now.
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(failed("kubeconfig"))?;
        Ok(Self { client })
    }

    pub(super) async fn status(&self) -> Result<Status, Error> {
        let request = Request::get(STATUS_PATH).body(Vec::new()).map_err(failed("store"))?;
        let status: serde_json::Value = self.client.request(request).await.map_err(refused("store"))?;
        let number = |name: &str| status[name].as_u64();
        let known = |name: &'static str| {
            let missing = || Error::Part { part: "store", reason: format!("the API server does not say its {name}") };
            number(name).ok_or_else(missing)
        };
        let (revision, compacted) = (known("revision")?, known("compacted")?);
        Ok(Status { revision, compacted, keys: number("keys"), bytes: number("bytes") })
    }

    /// As [`compact`].
    pub(super) async fn compact(&self, revision: Option<Revision>) -> Result<Revision, Error> {
        let query = revision.map_or_else(String::new, |revision| format!("?revision={revision}"));
        let request = Request::post(format!("{COMPACT_PATH}{query}")).body(Vec::new()).map_err(failed("store"))?;
        let answer: serde_json::Value = self.client.request(request).await.map_err(refused("store"))?;
        let unsaid =
            || Error::Part { part: "store", reason: "the API server does not say what it compacted".to_owned() };
        answer["compacted"].as_u64().ok_or_else(unsaid)
    }

    /// Writes a copy to a file that does not exist yet, and which has its name only when it is whole; answers its bytes.
    pub(super) async fn snapshot(&self, file: &Path) -> Result<u64, Error> {
        if file.exists() {
            let reason = format!("{} exists already", file.display());
            return Err(Error::Part { part: "snapshot", reason });
        }
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let unfinished = file.with_file_name(name);
        let written = self.receive(&unfinished).await.and_then(|bytes| {
            std::fs::rename(&unfinished, file).map_err(Error::file("rename", &unfinished))?;
            let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(Error::file("sync", directory))?;
            Ok(bytes)
        });
        if written.is_err() {
            // It may not even have been made.
            let _ = std::fs::remove_file(&unfinished);
        }
        written
    }

    async fn receive(&self, path: &Path) -> Result<u64, Error> {
        let request = Request::get(SNAPSHOT_PATH).body(Vec::new()).map_err(failed("snapshot"))?;
        let mut copy = std::pin::pin!(self.client.request_stream(request).await.map_err(refused("snapshot"))?);
        // What an earlier attempt left.
        let _ = std::fs::remove_file(path);
        // It holds Secrets.
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = created.map_err(Error::file("create", path))?;
        let (mut chunk, mut bytes) = (vec![0; CHUNK], 0);
        loop {
            // One that ends before it is whole is an error.
            let length = copy.read(&mut chunk).await.map_err(failed("snapshot"))?;
            if length == 0 {
                break;
            }
            file.write_all(&chunk[..length]).map_err(Error::file("write", path))?;
            bytes += length as u64;
        }
        file.sync_all().map_err(Error::file("sync", path))?;
        Ok(bytes)
    }
}
