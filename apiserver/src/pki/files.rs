//! Files that are either absent or whole, and that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}

/// Makes a directory that only its owner may look into, unless it is there.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| failed("create the directory", path, source))
}

/// The file's text; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// Writes a file unless there is one, and returns what it then holds.
pub(super) fn create(path: &Path, text: &str) -> Result<String, Error> {
    let written = Written::new(path, text)?;
    // A link is made only where nothing is: of several processes that come here at once the first one wins.
    match fs::hard_link(&written.path, path) {
        Ok(()) => {
            sync_directory(path)?;
            Ok(text.to_owned())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| failed("read", path, ErrorKind::NotFound.into()))
        }
        Err(source) => Err(failed("create", path, source)),
    }
}

/// Writes a file in place of what was there.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let written = Written::new(path, text)?;
    fs::rename(&written.path, path).map_err(|source| failed("replace", path, source))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let synced = fs::File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|source| failed("write", directory, source))
}

/// A finished file under a temporary name, which goes when this is dropped.
struct Written {
    path: PathBuf,
}

impl Written {
    fn new(target: &Path, text: &str) -> Result<Self, Error> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut attempt = 0;
        let (path, mut file) = loop {
            let path = target.with_file_name(format!(".{name}.{}.{attempt}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => break (path, file),
                // Left behind by a process of this id that was killed, or another thread's.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
                Err(source) => return Err(failed("create", &path, source)),
            }
        };
        let written = Self { path };
        let done = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        done.map_err(|source| failed("write", &written.path, source))?;
        Ok(written)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Gone already if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}
