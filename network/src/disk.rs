//! What the network keeps on disk: whatever it makes on the host is recorded here first, so that a later process finds it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a record so that it is either wholly there or not at all, whoever is killed meanwhile. What it tells of does not
/// outlive the machine, so it need not either, and this does not wait for the disk.
pub(crate) fn write<T: Serialize + ?Sized>(path: &Path, record: &T) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(&temporary, path)
}

/// Reads a record; `None` if there is none, or a loss of power has damaged it.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// In how many files [`write_parts`] keeps a table.
const PARTS: usize = 256;

/// Writes a table of many rows, of which somebody else may have changed no more than one: only the files, below a directory, that
/// are not as they were with the table `old`.
pub(crate) fn write_parts<T: Serialize + PartialEq>(
    directory: &Path,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &str,
) -> io::Result<()> {
    let parts = |table| -> Vec<Vec<&T>> {
        let mut parts = vec![Vec::new(); PARTS];
        for row in table {
            parts[part(name(row))].push(row);
        }
        parts
    };
    fs::create_dir_all(directory)?;
    for (number, (old, new)) in parts(old).iter().zip(&parts(new)).enumerate() {
        if old != new {
            write(&directory.join(format!("{number}.json")), new)?;
        }
    }
    Ok(())
}

/// Reads a table that [`write_parts`] wrote, in no order; empty if there is none.
pub(crate) fn read_parts<T: DeserializeOwned>(directory: &Path) -> io::Result<Vec<T>> {
    let mut table = Vec::new();
    for path in records(directory)? {
        table.extend(read::<Vec<T>>(&path)?.unwrap_or_default());
    }
    Ok(table)
}

/// The file of a name, which must not change from one version of this program to the next: FNV-1a.
fn part(name: &str) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % PARTS
}

/// The records below a directory; none if it is not there.
pub(crate) fn records(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut records: Vec<PathBuf> =
        entries.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    records.sort();
    Ok(records)
}

/// Removes a record; one that is gone is none.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_whose_rows_changed_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut old: Vec<(String, u32)> = (0..1000).map(|n| (format!("default/web-{n}"), n)).collect();
        let write =
            |old: &[_], new: &[_]| write_parts(directory.path(), old, new, |row: &(String, u32)| &row.0).unwrap();
        let read = || {
            let mut table: Vec<(String, u32)> = read_parts(directory.path()).unwrap();
            table.sort_by_key(|row| row.1);
            table
        };
        assert!(read().is_empty());
        write(&[], &old);
        assert_eq!(read(), old);
        let files = records(directory.path()).unwrap();
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        let mut new = old.clone();
        new[7].1 = 5000;
        new.remove(3);
        write(&old, &new);
        assert_eq!(records(directory.path()).unwrap().len(), 2);
        // What is damaged is as if it were not there.
        old = read();
        fs::write(&records(directory.path()).unwrap()[0], "[").unwrap();
        assert!(read().len() < old.len());
    }
}
