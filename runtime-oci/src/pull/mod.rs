//! Pulls images from registries by the distribution API, version 2. Nothing that a registry sends is trusted.

mod blob;
mod challenge;
mod failure;
mod repository;
mod transport;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures::stream::{self, StreamExt, TryStreamExt};
use longshore_core::clock::Clock;
use longshore_core::runtime::{Credentials, Error, Image, ImageName};
use sha2::{Digest, Sha256};

use crate::images::{Configuration, Store, digest, hex};
use crate::manifest::{Descriptor, Document, Manifest, Platform, architecture};
use failure::Failure;
use repository::Repository;
pub use transport::Registry;
use transport::Transport;

/// How many layers of an image are fetched at once.
const AT_ONCE: usize = 3;
/// Most bytes of a manifest, an index or a configuration.
const DOCUMENT_MAX: usize = 8 << 20;
/// Most layers: overlayfs does not mount many more.
const LAYERS_MAX: usize = 128;
/// Most bytes of a layer as it is sent.
const LAYER_MAX: u64 = 32 << 30;
/// An index may name indexes, but not for ever.
const DEPTH_MAX: usize = 4;

const DOCUMENTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

type Pull = BoxFuture<'static, Result<Image, Error>>;

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// Bytes of the layers that are here.
    pub received: u64,
    /// Bytes of all layers, as they are sent.
    pub total: u64,
}

type Report<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

/// Counts what came of an image's layers.
struct Meter<'a> {
    progress: Mutex<PullProgress>,
    report: Report<'a>,
}

impl<'a> Meter<'a> {
    fn new(total: u64, report: Report<'a>) -> Self {
        let progress = PullProgress { received: 0, total };
        report(progress);
        Self { progress: Mutex::new(progress), report }
    }

    fn add(&self, bytes: u64) {
        self.change(|received| received.saturating_add(bytes));
    }

    /// What came was thrown away.
    fn back(&self, bytes: u64) {
        self.change(|received| received.saturating_sub(bytes));
    }

    fn change(&self, change: impl FnOnce(u64) -> u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.received = change(progress.received);
        (self.report)(*progress);
    }
}

/// A pull that others may join.
struct Running {
    name: ImageName,
    /// Who may have the image is the registry's to say: a pull is shared by those with the same login only.
    credentials: Credentials,
    pull: WeakShared<Pull>,
}

/// What a pull unpacks.
#[derive(Default)]
struct Unpacked {
    layers: Mutex<Vec<String>>,
    /// Read while a layer is unpacked, which goes on although nobody waits for it any more.
    running: Arc<tokio::sync::RwLock<()>>,
}

/// Pulls images into a store.
pub(crate) struct Puller {
    transport: Transport,
    store: Arc<Store>,
    running: Mutex<Vec<Running>>,
}

impl fmt::Debug for Puller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Puller").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Puller {
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, registries: BTreeMap<String, Registry>) -> Self {
        Self { transport: Transport::new(clock, registries), store, running: Mutex::default() }
    }

    /// Pulls an image, or waits for the same pull that runs already. It ends when nobody waits for it any more.
    pub(crate) async fn pull(self: &Arc<Self>, name: &str, credentials: &Credentials) -> Result<Image, Error> {
        let name = ImageName::parse(name)?;
        self.join(name, credentials).await
    }

    /// Pulls an image, and tells how far it is; for itself, whatever others pull.
    pub(crate) async fn pull_reporting(
        &self,
        name: &str,
        credentials: &Credentials,
        report: Report<'_>,
    ) -> Result<Image, Error> {
        let name = ImageName::parse(name)?;
        self.fetch(&name, credentials, report).await.map_err(|failure| self.failed(&name, failure))
    }

    fn failed(&self, name: &ImageName, failure: Failure) -> Error {
        Error::Image { image: name.to_string(), reason: failure.reason(&self.store.root) }
    }

    fn join(self: &Arc<Self>, name: ImageName, credentials: &Credentials) -> Shared<Pull> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|other| other.pull.upgrade().is_some());
        let same = |other: &&Running| other.name == name && other.credentials == *credentials;
        if let Some(pull) = running.iter().find(same).and_then(|other| other.pull.upgrade()) {
            return pull;
        }
        let (puller, wanted, login) = (self.clone(), name.clone(), credentials.clone());
        let pull: Pull = Box::pin(async move {
            let fetched = puller.fetch(&wanted, &login, &|_| {}).await;
            fetched.map_err(|failure| puller.failed(&wanted, failure))
        });
        let pull = pull.shared();
        if let Some(weak) = pull.downgrade() {
            running.push(Running { name, credentials: credentials.clone(), pull: weak });
        }
        pull
    }

    async fn fetch(&self, name: &ImageName, credentials: &Credentials, report: Report<'_>) -> Result<Image, Failure> {
        let repository = Repository::new(&self.transport, name, credentials);
        let (manifest, manifest_digest) = find(&repository, name).await?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            hex(&part.digest).map_err(|error| Failure::Final(error.to_string()))?;
        }
        let config = document(&repository, &format!("blobs/{}", manifest.config.digest), &manifest.config).await?;
        let configuration: Configuration = serde_json::from_slice(&config)
            .map_err(|error| Failure::Final(format!("the image's configuration cannot be read: {error}")))?;
        let diff_ids = &configuration.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() || diff_ids.len() > LAYERS_MAX {
            let (layers, most) = (manifest.layers.len(), LAYERS_MAX);
            let reason = format!("{layers} layers for {} of the configuration, of {most} at most", diff_ids.len());
            return Err(Failure::Final(reason));
        }
        if let Some(huge) = manifest.layers.iter().find(|layer| layer.size > LAYER_MAX) {
            return Err(Failure::Final(format!("layer {} has more than the {LAYER_MAX} bytes it may", huge.digest)));
        }
        let size = manifest.layers.iter().map(|layer| layer.size).sum::<u64>() + config.len() as u64;
        // The same layer twice, as empty ones like to be, is fetched once.
        let layers: BTreeMap<&String, &Descriptor> = diff_ids.iter().zip(&manifest.layers).collect();
        let meter = Meter::new(layers.values().map(|layer| layer.size).sum(), report);
        let unpacked = Unpacked::default();
        let done = async {
            let fetches: Vec<BoxFuture<'_, Result<(), Failure>>> = layers
                .into_iter()
                .map(|(id, layer)| self.layer(&repository, layer, id, &unpacked, &meter).boxed())
                .collect();
            stream::iter(fetches).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            let (store, name) = (self.store.clone(), name.clone());
            let digest = format!("{}@{manifest_digest}", name.repository());
            let kept = crate::blocking_io(move || store.keep(&config, size, &[name.to_string()], Some(digest))).await;
            kept.map_err(Failure::Disk)
        };
        let done = done.await;
        if let Err(Failure::Disk(_)) = done {
            // Other failures leave what came for the next try; a full disk needs the room.
            let _ended = unpacked.running.write().await;
            let layers = std::mem::take(&mut *unpacked.layers.lock().unwrap_or_else(PoisonError::into_inner));
            let store = self.store.clone();
            crate::blocking_io(move || store.drop_unused(&layers)).await?;
        }
        done
    }

    async fn layer(
        &self,
        repository: &Repository<'_>,
        layer: &Descriptor,
        diff_id: &str,
        unpacked: &Unpacked,
        meter: &Meter<'_>,
    ) -> Result<(), Failure> {
        if self.store.has_layer(diff_id).map_err(|error| Failure::Final(error.to_string()))? {
            meter.add(layer.size);
            return Ok(());
        }
        let file: File = blob::download(repository, layer, &self.store.work(), meter).await?;
        let (store, id) = (self.store.clone(), diff_id.to_owned());
        unpacked.layers.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        let running = unpacked.running.clone().read_owned().await;
        let add = move || {
            let _running = running;
            store.add_layer(file, &id)
        };
        crate::blocking_io(add).await.map_err(|error| {
            let disk = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
            if disk { Failure::Disk(error) } else { Failure::Final(format!("layer {}: {error}", layer.digest)) }
        })?;
        tracing::debug!(image = repository.host(), layer = layer.digest, bytes = layer.size, "a layer is here");
        Ok(())
    }
}

/// The manifest for this machine, and the digest of what the name stands for.
async fn find(repository: &Repository<'_>, name: &ImageName) -> Result<(Manifest, String), Failure> {
    let reference = name.digest().or(name.tag()).unwrap_or("latest");
    let answer = repository.get(&format!("manifests/{reference}"), DOCUMENTS, 0).await?;
    let claimed = answer.headers.get("docker-content-digest").and_then(|value| value.to_str().ok().map(str::to_owned));
    let mut bytes = answer.body.all(DOCUMENT_MAX).await?;
    let found = digest(Sha256::new_with_prefix(&bytes));
    let expected = name.digest().map(str::to_owned).or(claimed);
    if let Some(expected) = expected.filter(|expected| expected.starts_with("sha256:") && *expected != found) {
        return Err(lie(repository, &found, &expected));
    }
    for _ in 0..DEPTH_MAX {
        let document = serde_json::from_slice(&bytes);
        let index = match document.map_err(|_| Failure::Final("its manifest is in no format known here".into()))? {
            Document::Manifest(manifest) => return Ok((manifest, found)),
            Document::Index(index) => index,
        };
        let here = |descriptor: &&Descriptor| descriptor.platform.as_ref().is_none_or(Platform::is_this_machine);
        let next = index.manifests.iter().find(here).ok_or_else(|| none_here(&index.manifests))?;
        hex(&next.digest).map_err(|error| Failure::Final(error.to_string()))?;
        bytes = document_at(repository, next).await?;
    }
    Err(Failure::Final(format!("its index names indexes more than {DEPTH_MAX} deep")))
}

async fn document_at(repository: &Repository<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
    document(repository, &format!("manifests/{}", descriptor.digest), descriptor).await
}

/// A small document whole, if it is what its descriptor says.
async fn document(repository: &Repository<'_>, below: &str, expected: &Descriptor) -> Result<Vec<u8>, Failure> {
    let most = usize::try_from(expected.size).unwrap_or(usize::MAX);
    if most > DOCUMENT_MAX {
        return Err(Failure::Final(format!("{} has more than the {DOCUMENT_MAX} bytes it may", expected.digest)));
    }
    let answer = repository.get(below, DOCUMENTS, 0).await?;
    let bytes = answer.body.all(most).await?;
    let found = digest(Sha256::new_with_prefix(&bytes));
    if found != expected.digest {
        return Err(lie(repository, &found, &expected.digest));
    }
    Ok(bytes)
}

fn lie(repository: &Repository<'_>, found: &str, expected: &str) -> Failure {
    let host = repository.host();
    Failure::Final(format!(
        "{host} sends {found} for {}: the content is not what was asked for",
        failure::tame(expected)
    ))
}

fn none_here(manifests: &[Descriptor]) -> Failure {
    let platforms = manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
    let platforms: Vec<String> = platforms.take(20).map(|of| format!("{}/{}", of.os, of.architecture)).collect();
    let reason = format!("it has no image for linux/{}, only for {}", architecture(), platforms.join(", "));
    Failure::Final(failure::tame(&reason))
}

#[cfg(test)]
mod tests;
