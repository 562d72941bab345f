//! Images on this node, imported or pulled, unpacked layer by layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::runtime::{Credentials, Error, Image, ImageDisk, ImageId, ImageName, Images};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::{self, failed};
use crate::pull::Puller;
use crate::unpack::{Limits, unpack};

/// Bytes that may follow a layer's end: padding.
const TRAILER_MAX: u64 = 16 << 20;

/// The parts of an image's configuration that matter here; the names are the format's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Configuration {
    pub(crate) config: Defaults,
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Defaults {
    pub(crate) env: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    pub(crate) r#type: String,
    pub(crate) diff_ids: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    configuration: Configuration,
    size: u64,
    /// Repositories with the digests of the manifests that the image was pulled by.
    #[serde(default)]
    digests: BTreeSet<String>,
}

/// A file of an image that is made on the spot.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Path in the image.
    pub target: PathBuf,
    /// File of this machine to copy.
    pub source: PathBuf,
    /// Access rights, such as `0o755`; of several names of one file, the first's hold.
    pub mode: u32,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) root: PathBuf,
    /// Locked, shared, as long as this process may put something into the store.
    _in_use: File,
}

impl Store {
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        for name in ["layers", "images", "work"] {
            fs::create_dir_all(root.join(name)).map_err(failed(format!("create {}", root.display())))?;
        }
        let open = || -> io::Result<Self> {
            let in_use = File::options().create(true).truncate(false).write(true).open(root.join("in-use"))?;
            let alone = in_use.try_lock().is_ok();
            let store = Self { root: root.clone(), _in_use: in_use };
            if alone {
                store.sweep()?;
            }
            // Whoever sweeps is soon done.
            store._in_use.lock_shared()?;
            Ok(store)
        };
        open().map_err(failed(format!("open {}", root.display())))
    }

    /// Removes what a process that was killed left half made.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.work())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { disk::remove_tree(&entry.path())? } else { fs::remove_file(entry.path())? }
        }
        let mut layers = Vec::new();
        for entry in fs::read_dir(self.root.join("layers"))? {
            layers.push(format!("sha256:{}", entry?.file_name().display()));
        }
        self.drop_unused(&layers)
    }

    /// Where things are that are not whole yet.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(crate) fn has_layer(&self, diff_id: &str) -> io::Result<bool> {
        Ok(self.root.join("layers").join(hex(diff_id)?).is_dir())
    }

    /// Removes those of these layers that no image has.
    pub(crate) fn drop_unused(&self, layers: &[String]) -> io::Result<()> {
        let _held = self.hold()?;
        self.remove_unused(layers)
    }

    fn remove_unused(&self, layers: &[String]) -> io::Result<()> {
        let mut kept = BTreeSet::new();
        for image in fs::read_dir(self.root.join("images"))? {
            let path = image?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                // It was not written to its end.
                fs::remove_file(&path)?;
                continue;
            }
            let image: Option<Record> = disk::read(&path)?;
            kept.extend(image.into_iter().flat_map(|image| image.configuration.rootfs.diff_ids));
        }
        for layer in layers.iter().filter(|layer| !kept.contains(*layer)) {
            disk::remove_tree(&self.root.join("layers").join(hex(layer)?))?;
        }
        Ok(())
    }

    /// Nobody else, in whatever process, changes names or removes layers as long as the caller has this.
    fn hold(&self) -> io::Result<File> {
        let lock = File::options().create(true).truncate(false).write(true).open(self.root.join("names.lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    fn names(&self) -> io::Result<BTreeMap<String, String>> {
        Ok(disk::read(&self.root.join("names.json"))?.unwrap_or_default())
    }

    fn record(&self, id: &str) -> io::Result<Option<Record>> {
        disk::read(&self.root.join("images").join(format!("{}.json", hex(id)?)))
    }

    pub(crate) fn configuration(&self, id: &ImageId) -> io::Result<Option<Configuration>> {
        Ok(self.record(&id.0)?.map(|record| record.configuration))
    }

    /// The unpacked layers, lowest first.
    pub(crate) fn layers(&self, configuration: &Configuration) -> io::Result<Vec<PathBuf>> {
        configuration.rootfs.diff_ids.iter().map(|id| Ok(self.root.join("layers").join(hex(id)?))).collect()
    }

    /// Makes an image of one layer from files of this machine.
    pub(crate) fn build(&self, name: &str, files: &[ImageFile], entrypoint: &[String]) -> Result<Image, Error> {
        let build = || -> io::Result<Image> {
            let mut layer = tempfile::tempfile_in(self.work())?;
            let mut builder = tar::Builder::new(&mut layer);
            let mut known: BTreeMap<&Path, &Path> = BTreeMap::new();
            for file in files {
                let target = file.target.strip_prefix("/").unwrap_or(&file.target);
                let mut header = tar::Header::new_gnu();
                header.set_mode(file.mode);
                header.set_uid(0);
                header.set_gid(0);
                // One file under several names, as busybox likes it, is kept once.
                if let Some(first) = known.get(file.source.as_path()) {
                    header.set_entry_type(tar::EntryType::Link);
                    header.set_size(0);
                    builder.append_link(&mut header, target, first)?;
                    continue;
                }
                known.insert(&file.source, target);
                header.set_size(fs::metadata(&file.source)?.len());
                builder.append_data(&mut header, target, File::open(&file.source)?)?;
            }
            builder.finish()?;
            drop(builder);
            io::Seek::rewind(&mut layer)?;
            let mut hash = Sha256::new();
            io::copy(&mut layer, &mut HashWriter(&mut hash))?;
            io::Seek::rewind(&mut layer)?;
            let configuration = serde_json::json!({
                "architecture": std::env::consts::ARCH, "os": "linux",
                "config": {"Entrypoint": entrypoint, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(hash)]},
            });
            self.add(&serde_json::to_vec(&configuration)?, vec![layer], &[name.to_owned()])
        };
        build().map_err(|error| Error::Image { image: name.to_owned(), reason: error.to_string() })
    }

    pub(crate) fn add(&self, config: &[u8], layers: Vec<File>, names: &[String]) -> io::Result<Image> {
        let configuration: Configuration = serde_json::from_slice(config)?;
        if configuration.rootfs.diff_ids.len() != layers.len() {
            return Err(io::Error::other("the manifest and the configuration name different numbers of layers"));
        }
        let mut size = config.len() as u64;
        for (layer, diff_id) in layers.into_iter().zip(&configuration.rootfs.diff_ids) {
            size += layer.metadata()?.len();
            self.add_layer(layer, diff_id)?;
        }
        self.keep(config, size, names, None)
    }

    /// Writes down an image whose layers are all here, and its names; `digest_name` is a repository with its manifest's.
    pub(crate) fn keep(
        &self,
        config: &[u8],
        size: u64,
        names: &[String],
        digest_name: Option<String>,
    ) -> io::Result<Image> {
        let configuration: Configuration = serde_json::from_slice(config)?;
        let id = digest(Sha256::new_with_prefix(config));
        let path = self.root.join("images").join(format!("{}.json", hex(&id)?));
        let _held = self.hold()?;
        for layer in &configuration.rootfs.diff_ids {
            if !self.has_layer(layer)? {
                return Err(io::Error::other(format!("layer {layer} was removed meanwhile: try again")));
            }
        }
        let mut known = self.names()?;
        for name in names {
            let name = ImageName::parse(name).map_err(io::Error::other)?;
            known.insert(name.to_string(), id.clone());
        }
        let before = disk::read::<Record>(&path)?;
        let is_new = before.is_none();
        let mut digests = before.map(|known| known.digests).unwrap_or_default();
        digests.extend(digest_name);
        let written = disk::write(&path, &Record { configuration, size, digests })
            .and_then(|()| disk::write(&self.root.join("names.json"), &known));
        if written.is_err() && is_new {
            // An image without a name would keep its layers for ever.
            let _ = fs::remove_file(&path);
        }
        written?;
        self.image(&known, &id)?.ok_or_else(|| io::Error::other("the image vanished"))
    }

    pub(crate) fn add_layer(&self, layer: File, diff_id: &str) -> io::Result<()> {
        let target = self.root.join("layers").join(hex(diff_id)?);
        if target.is_dir() {
            return Ok(());
        }
        let work = tempfile::tempdir_in(self.work())?;
        let root = work.path().join("layer");
        fs::create_dir(&root)?;
        let mut hash = Sha256::new();
        let mut reader = HashReader { inner: decompressed(layer)?, hash: &mut hash };
        unpack(&mut reader, &root, Limits::LAYER)?;
        // The digest covers what follows the archive's end, too.
        if io::copy(&mut reader.by_ref().take(TRAILER_MAX), &mut io::sink())? == TRAILER_MAX {
            return Err(io::Error::other(format!("layer {diff_id} goes on after its end")));
        }
        if digest(hash) != diff_id {
            return Err(io::Error::other(format!("layer {diff_id} is damaged: its content has another digest")));
        }
        match fs::rename(&root, &target) {
            // Somebody else unpacked the same layer meanwhile.
            Err(_) if target.is_dir() => Ok(()),
            renamed => renamed,
        }
    }

    fn image(&self, names: &BTreeMap<String, String>, id: &str) -> io::Result<Option<Image>> {
        let Some(record) = self.record(id)? else { return Ok(None) };
        let tags: Vec<String> = names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone()).collect();
        let user = record.configuration.config.user;
        let digests: Vec<String> = record.digests.into_iter().collect();
        // What another image took the names of is not missed.
        let pinned = digests.is_empty() && !tags.is_empty();
        Ok(Some(Image { id: ImageId(id.to_owned()), tags, digests, size: record.size, user, pinned }))
    }

    fn resolve(&self, name: &str) -> Result<Option<Image>, Error> {
        let find = || {
            let names = self.names()?;
            let id = if name.starts_with("sha256:") {
                Some(name.to_owned())
            } else {
                let name = ImageName::parse(name).map_err(io::Error::other)?;
                names.get(&name.to_string()).cloned()
            };
            id.map_or(Ok(None), |id| self.image(&names, &id))
        };
        if !name.starts_with("sha256:") {
            ImageName::parse(name)?;
        }
        find().map_err(failed(format!("look up image {name}")))
    }

    /// All images, also those whose names others have got since.
    pub(crate) fn list(&self) -> io::Result<Vec<Image>> {
        let names = self.names()?;
        let mut images = Vec::new();
        for entry in fs::read_dir(self.root.join("images"))? {
            let path = entry?.path();
            let hex = path.file_stem().filter(|_| path.extension().is_some_and(|extension| extension == "json"));
            let Some(hex) = hex else { continue };
            images.extend(self.image(&names, &format!("sha256:{}", hex.display()))?);
        }
        images.sort_by(|a, b| a.tags.cmp(&b.tags).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// Takes a name from an image, or, by its id, all of them; an image without a name goes.
    fn remove(&self, name: &str, used: &[ImageId]) -> Result<(), Error> {
        let by_id = name.starts_with("sha256:");
        let name = if by_id { name.to_owned() } else { ImageName::parse(name)?.to_string() };
        let failed = |error| failed(format!("remove image {name}"))(error);
        let _held = self.hold().map_err(failed)?;
        let mut names = self.names().map_err(failed)?;
        let id = if by_id {
            names.retain(|_, id| *id != name);
            self.record(&name).map_err(failed)?.map(|_| name.clone())
        } else {
            names.remove(&name)
        };
        let Some(id) = id else { return Err(Error::NotFound { what: format!("image {name}") }) };
        let last = !names.values().any(|other| *other == id);
        if last && used.iter().any(|used| used.0 == id) {
            let state = "used by a container".to_owned();
            return Err(Error::WrongState { operation: "remove".to_owned(), what: format!("image {name}"), state });
        }
        disk::write(&self.root.join("names.json"), &names).map_err(failed)?;
        if last {
            self.forget(&id).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes an image's record and the layers that no other image has.
    fn forget(&self, id: &str) -> io::Result<()> {
        let Some(record) = self.record(id)? else { return Ok(()) };
        fs::remove_file(self.root.join("images").join(format!("{}.json", hex(id)?)))?;
        self.remove_unused(&record.configuration.rootfs.diff_ids)
    }
}

#[derive(Debug)]
pub(crate) struct LocalImages {
    pub(crate) store: Arc<Store>,
    pub(crate) puller: Arc<Puller>,
    pub(crate) sandboxes: PathBuf,
}

#[async_trait]
impl Images for LocalImages {
    async fn resolve(&self, name: &str) -> Result<Option<Image>, Error> {
        self.store.resolve(name)
    }

    async fn pull(&self, name: &str, credentials: &Credentials) -> Result<Image, Error> {
        self.puller.pull(name, credentials).await
    }

    async fn list(&self) -> Result<Vec<Image>, Error> {
        self.store.list().map_err(failed("list images"))
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let used = crate::host::used_images(&self.sandboxes).map_err(failed("list containers"))?;
        let (store, name) = (self.store.clone(), name.to_owned());
        crate::blocking(move || store.remove(&name, &used)).await
    }

    async fn disk(&self) -> Result<Option<ImageDisk>, Error> {
        let found = rustix::fs::statvfs(&self.store.root).map_err(io::Error::from);
        let found = found.map_err(failed(format!("look at the disk of {}", self.store.root.display())))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Some(ImageDisk { capacity: bytes(found.f_blocks), available: bytes(found.f_bavail) }))
    }
}

struct HashReader<'a, R> {
    inner: R,
    hash: &'a mut Sha256,
}

impl<R: Read> Read for HashReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn digest(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn hex(digest: &str) -> io::Result<&str> {
    let hex =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    hex.ok_or_else(|| io::Error::other(format!("{digest:?} is not a sha256 digest")))
}

pub(crate) fn decompressed(mut file: File) -> io::Result<Box<dyn Read>> {
    let mut magic = [0; 4];
    let count = file.read(&mut magic)?;
    io::Seek::rewind(&mut file)?;
    Ok(match &magic[..count] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(BufReader::new(file)),
    })
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
