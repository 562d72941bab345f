//! Reads images out of `docker save` archives and OCI layouts. Nothing in them is trusted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use longshore_core::runtime::{Error, Image};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::disk::failed;
use crate::images::{Store, decompressed, digest, hex};
use crate::manifest::{Descriptor, Document, Index, Platform};
use crate::unpack::{Limits, unpack};

/// An entry of a `docker save` archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

impl Store {
    /// Imports a `docker save` archive or an OCI layout, as a directory or a tar file.
    pub(crate) fn import(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let invalid = |error: io::Error| Error::Image { image: path.display().to_string(), reason: error.to_string() };
        if path.is_dir() {
            return self.import_directory(path).map_err(invalid);
        }
        let work = tempfile::tempdir_in(self.root.join("work")).map_err(failed("import an image"))?;
        let file = File::open(path).map_err(invalid)?;
        // The archive's own entries are as little trusted as a layer's.
        let unpacked = unpack(decompressed(file).map_err(invalid)?, work.path(), Limits::LAYER);
        unpacked.map_err(|error| invalid(no_archive(&error)))?;
        self.import_directory(work.path()).map_err(invalid)
    }

    fn import_directory(&self, directory: &Path) -> io::Result<Vec<Image>> {
        let open = |name: &Path| -> io::Result<File> {
            let plain = name.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            let path = directory.join(name);
            if !plain || !fs::canonicalize(&path)?.starts_with(fs::canonicalize(directory)?) {
                return Err(io::Error::other(format!("{} is outside the archive", name.display())));
            }
            File::open(path)
        };
        let blob = |digest: &str| -> io::Result<PathBuf> { Ok(Path::new("blobs/sha256").join(hex(digest)?)) };
        let mut images = Vec::new();
        if directory.join("manifest.json").exists() {
            for saved in serde_json::from_reader::<_, Vec<Saved>>(open(Path::new("manifest.json"))?)? {
                let layers = saved.layers.iter().map(|layer| open(layer)).collect::<Result<_, _>>()?;
                images.push(self.add(&all(open(&saved.config)?)?, layers, &saved.repo_tags.unwrap_or_default())?);
            }
        } else {
            if !directory.join("index.json").exists() {
                return Err(io::Error::other("it has neither manifest.json (docker save) nor index.json (OCI layout)"));
            }
            let index: Index = serde_json::from_reader(open(Path::new("index.json"))?)?;
            // What is found in an index below goes by the name that the index has.
            let mut waiting: Vec<(Descriptor, BTreeMap<String, String>)> =
                index.manifests.into_iter().rev().map(|descriptor| (descriptor, BTreeMap::new())).collect();
            let mut seen = std::collections::BTreeSet::new();
            while let Some((descriptor, mut annotations)) = waiting.pop() {
                annotations.extend(descriptor.annotations);
                let here = descriptor.platform.as_ref().is_none_or(Platform::is_this_machine);
                // Indexes that name each other over and over would never end.
                if !here || !seen.insert((descriptor.digest.clone(), annotations.clone())) {
                    continue;
                }
                let content = checked(open(&blob(&descriptor.digest)?)?, &descriptor.digest)?;
                let manifest = match serde_json::from_slice(&content)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(index) => {
                        waiting.extend(index.manifests.into_iter().rev().map(|d| (d, annotations.clone())));
                        continue;
                    }
                };
                let layers = manifest.layers.iter().map(|l| open(&blob(&l.digest)?)).collect::<Result<_, _>>()?;
                let config = checked(open(&blob(&manifest.config.digest)?)?, &manifest.config.digest)?;
                let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
                let name = name.iter().find_map(|key| annotations.get(*key)).cloned();
                images.push(self.add(&config, layers, &Vec::from_iter(name))?);
            }
        }
        if images.is_empty() {
            return Err(io::Error::other("it holds no image for this machine"));
        }
        Ok(images)
    }
}

/// Why a file could not be unpacked, without the file's own content that the reader of archives quotes.
fn no_archive(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let reason: String = text.chars().take_while(|c| !c.is_control()).take(100).collect();
    io::Error::other(format!("it is no whole `docker save` archive or OCI layout: {reason}"))
}

/// A small file whole: manifests and configurations are a few kilobytes.
fn all(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(8 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn checked(file: File, expected: &str) -> io::Result<Vec<u8>> {
    let bytes = all(file)?;
    if digest(Sha256::new_with_prefix(&bytes)) != expected {
        return Err(io::Error::other(format!("blob {expected} is damaged: its content has another digest")));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
