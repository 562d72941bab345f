//! Lines of text files, plain or compressed, and what a line can do to a run.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{Tally, TraceError};

/// No line of a trace is as long; what is longer is not kept in memory.
const LONGEST: u64 = 1 << 20;

/// Why a line was not used.
#[derive(Debug)]
pub(super) enum Stop {
    /// The line is bad.
    Row(String),
    /// Nothing can go on.
    Run(TraceError),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Row(reason)
    }
}

impl From<TraceError> for Stop {
    fn from(error: TraceError) -> Self {
        Self::Run(error)
    }
}

/// The files of a table in a folder: `table.csv`, `table-00.csv.gz`, or everything of that kind in a folder `table`; in the order of
/// their names.
pub(super) fn parts(directory: &Path, table: &str, extension: &str) -> Result<Vec<PathBuf>, TraceError> {
    let fits = |name: &str| name.strip_suffix(".gz").unwrap_or(name).ends_with(extension);
    let own = |name: &str| name.strip_prefix(table).is_some_and(|rest| rest.starts_with(['.', '-', '_']));
    let folder = directory.join(table);
    let mut files =
        if folder.is_dir() { list(&folder, fits)? } else { list(directory, |name| fits(name) && own(name))? };
    if files.is_empty() {
        let (directory, table) = (directory.to_owned(), format!("{table}{extension}"));
        return Err(TraceError::NoTable { directory, table });
    }
    files.sort();
    Ok(files)
}

fn list(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, TraceError> {
    let failed = |source| TraceError::Read { file: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted) {
            files.push(path);
        }
    }
    Ok(files)
}

fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut plain = BufReader::new(File::open(file)?);
    let packed = plain.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) })
}

/// Reads the next line into `bytes` without its end; false if there is none.
fn read_line(from: &mut dyn BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    if Read::take(&mut *from, LONGEST + 1).read_until(b'\n', bytes)? == 0 {
        return Ok(false);
    }
    let mut ended = bytes.last() == Some(&b'\n');
    while !ended {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let read = newline.map_or(buffer.len(), |place| place + 1);
        ended = newline.is_some();
        from.consume(read);
    }
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(true)
}

/// Hands over every line that is not blank, of one file after another, with whether it is the first of its file. Bad ones are counted.
pub(super) fn each_line(
    files: &[PathBuf],
    tally: &Tally,
    mut each: impl FnMut(&Path, bool, &str) -> Result<(), Stop>,
) -> Result<(), TraceError> {
    let mut bytes = Vec::new();
    for file in files {
        let failed = |source| TraceError::Read { file: file.clone(), source };
        let mut from = open(file).map_err(failed)?;
        let mut first = true;
        for line in 1.. {
            if !read_line(&mut *from, &mut bytes).map_err(failed)? {
                break;
            }
            let outcome = match std::str::from_utf8(&bytes) {
                _ if bytes.len() as u64 > LONGEST => Err(Stop::Row(format!("it is longer than {LONGEST} bytes"))),
                Err(error) => Err(Stop::Row(format!("it is not UTF-8 after {} bytes", error.valid_up_to()))),
                Ok(text) => match text.trim_start_matches('\u{feff}') {
                    text if text.trim().is_empty() => continue,
                    text => each(file, first, text),
                },
            };
            first = false;
            match outcome {
                Ok(()) => {}
                Err(Stop::Row(reason)) => tally.bad(file, line, reason)?,
                Err(Stop::Run(error)) => return Err(error),
            }
        }
    }
    Ok(())
}
