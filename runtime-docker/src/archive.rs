//! Images made on the spot, as the archives that `docker load` takes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where programs are looked for in such an image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/// What is in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    /// A copy of this file.
    File(&'a Path),
    /// What another name in the image has.
    Link(&'a Path),
}

/// An image of one layer that is being made.
pub(crate) struct Archive {
    layer: tar::Builder<File>,
}

impl Archive {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { layer: tar::Builder::new(tempfile::tempfile()?) })
    }

    pub(crate) fn add(&mut self, target: &Path, content: Content<'_>, mode: u32) -> io::Result<()> {
        let target = target.strip_prefix("/").unwrap_or(target);
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        match content {
            Content::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                self.layer.append_data(&mut header, target, bytes)
            }
            Content::File(source) => {
                header.set_size(fs::metadata(source)?.len());
                self.layer.append_data(&mut header, target, File::open(source)?)
            }
            Content::Link(first) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                self.layer.append_link(&mut header, target, first)
            }
        }
    }

    /// The archive, from its beginning.
    pub(crate) fn finish(self, name: &str, entrypoint: &[String]) -> io::Result<File> {
        let mut layer = self.layer.into_inner()?;
        let length = layer.stream_position()?;
        layer.rewind()?;
        let configuration = serde_json::to_vec(&serde_json::json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": [PATH]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&mut layer)?)]},
        }))?;
        layer.rewind()?;
        let file = format!("{}.json", digest(&mut configuration.as_slice())?);
        let manifest =
            serde_json::to_vec(&serde_json::json!([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]))?;
        let mut archive = tar::Builder::new(tempfile::tempfile()?);
        let mut add = |name: &str, length: u64, content: &mut dyn Read| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(length);
            archive.append_data(&mut header, name, content)
        };
        add("layer.tar", length, &mut layer)?;
        add(&file, configuration.len() as u64, &mut configuration.as_slice())?;
        add("manifest.json", manifest.len() as u64, &mut manifest.as_slice())?;
        let mut archive = archive.into_inner()?;
        archive.rewind()?;
        Ok(archive)
    }
}

/// The archive of an image of files of this machine.
pub(crate) fn build(name: &str, files: &[ImageFile], entrypoint: &[String]) -> io::Result<File> {
    let mut archive = Archive::new()?;
    let mut known: BTreeMap<&Path, &Path> = BTreeMap::new();
    for file in files {
        let target = file.target.strip_prefix("/").unwrap_or(&file.target);
        // One file under several names, as busybox likes it, is kept once.
        match known.get(file.source.as_path()) {
            Some(first) => archive.add(target, Content::Link(first), file.mode)?,
            None => {
                archive.add(target, Content::File(&file.source), file.mode)?;
                known.insert(&file.source, target);
            }
        }
    }
    archive.finish(name, entrypoint)
}

/// A file to send to the engine: an archive as it is, a directory packed.
pub(crate) fn packed(path: &Path) -> io::Result<File> {
    if !path.is_dir() {
        return File::open(path);
    }
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    archive.append_dir_all(".", path)?;
    let mut archive = archive.into_inner()?;
    archive.rewind()?;
    Ok(archive)
}

/// As Go and images call the machine this was compiled for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(content: &mut dyn Read) -> io::Result<String> {
    let mut hash = HashWriter(Sha256::new());
    io::copy(content, &mut hash)?;
    Ok(hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
