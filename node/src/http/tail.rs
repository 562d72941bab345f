//! Streams a log: the part that was asked for, then what is written while it is watched.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use jiff::Timestamp;
use longshore_core::runtime::ContainerState;
use tokio::task::spawn_blocking;

use super::cri;
use super::logs::Log;
use crate::shared::Shared;

/// Time between looks at a log that is followed.
const POLL: Duration = Duration::from_millis(200);
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// Which part of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Whether to wait for more until the container has ended.
    pub(super) follow: bool,
    /// Whether lines begin with their time.
    pub(super) timestamps: bool,
    /// Only so many lines at the end.
    pub(super) tail: Option<u64>,
    /// Only so many bytes.
    pub(super) limit: Option<u64>,
    /// Only what was written since then.
    pub(super) since: Option<Timestamp>,
}

struct Tail {
    shared: Arc<Shared>,
    log: Log,
    selection: Selection,
    reader: Option<Reader>,
    /// The container had ended before the log was last found to have nothing more.
    ended: bool,
    done: bool,
}

/// The selected text of a log.
pub(super) fn stream(
    shared: Arc<Shared>,
    log: Log,
    selection: Selection,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let reader = Reader::new(selection.clone());
    let tail = Tail { shared, log, selection, reader: Some(reader), ended: false, done: false };
    stream::unfold(tail, |mut tail| async move {
        let item = tail.next().await?;
        Some((item, tail))
    })
}

impl Tail {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if self.done {
                return None;
            }
            let (mut reader, path) = (self.reader.take()?, self.log.path.clone());
            let read = spawn_blocking(move || {
                let read = reader.read(&path);
                (reader, read)
            });
            let (reader, read) = match read.await {
                Ok(done) => done,
                Err(error) => return Some(Err(io::Error::other(error))),
            };
            self.done = reader.left == Some(0);
            self.reader = Some(reader);
            match read {
                Ok(bytes) if !bytes.is_empty() => return Some(Ok(bytes.into())),
                Ok(_) if !self.selection.follow || self.ended => return None,
                Ok(_) => {
                    // What was written before the container ended is read once more after it is known to have.
                    self.ended = self.has_ended().await;
                    if !self.ended {
                        self.shared.clock.sleep(POLL).await;
                    }
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }

    async fn has_ended(&self) -> bool {
        let wanted = &self.log.container;
        match self.shared.runtime.sandbox(&wanted.pod_uid).await {
            Ok(Some(sandbox)) => {
                let found = sandbox.containers.iter().find(|container| container.container == *wanted);
                found.is_none_or(|container| matches!(container.state, ContainerState::Exited { .. }))
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

/// Reads a log piece by piece, over its rotations.
struct Reader {
    selection: Selection,
    file: Option<File>,
    /// The beginning of an entry whose end was not there yet.
    rest: Vec<u8>,
    /// Bytes that may still be given.
    left: Option<u64>,
    /// Whether the text stands at the beginning of a line.
    at_line_start: bool,
}

impl Reader {
    fn new(selection: Selection) -> Self {
        Self { left: selection.limit, selection, file: None, rest: Vec::new(), at_line_start: true }
    }

    /// The next piece of text; empty if there is nothing more for now.
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.is_empty() && self.left != Some(0) {
            let file = match &mut self.file {
                Some(file) => file,
                None => match File::open(path) {
                    Ok(mut file) => {
                        // Only the first file is shortened: what comes after a rotation is new.
                        let lines = self.selection.tail.take().unwrap_or(u64::MAX);
                        let start = if lines == u64::MAX { 0 } else { cri::tail_start(&mut file, lines)? };
                        file.seek(SeekFrom::Start(start))?;
                        self.file.insert(file)
                    }
                    // A container that wrote nothing yet has no log.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(text),
                    Err(error) => return Err(error),
                },
            };
            let mut chunk = vec![0; CHUNK];
            let count = file.read(&mut chunk)?;
            if count == 0 {
                if is_current(file, path) {
                    return Ok(text);
                }
                self.file = next_after(file, path);
                if self.file.is_none() {
                    self.rest.clear();
                }
                continue;
            }
            self.rest.extend_from_slice(&chunk[..count]);
            self.take_entries(&mut text);
        }
        Ok(text)
    }

    fn take_entries(&mut self, text: &mut Vec<u8>) {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        for line in whole[..end].split(|byte| *byte == b'\n') {
            let Some(entry) = cri::parse(line) else { continue };
            if self.selection.since.is_some_and(|since| entry.timestamp().is_some_and(|time| time < since)) {
                continue;
            }
            if self.selection.timestamps && self.at_line_start {
                text.extend_from_slice(entry.time);
                text.push(b' ');
            }
            text.extend_from_slice(entry.text);
            self.at_line_start = !entry.partial;
            if !entry.partial {
                text.push(b'\n');
            }
        }
        if let Some(left) = &mut self.left {
            text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= text.len() as u64;
        }
    }
}

/// The file that follows one which was moved aside, itself perhaps moved aside meanwhile; `None` for the log's first.
fn next_after(file: &File, path: &Path) -> Option<File> {
    let old = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let opened = file.metadata().ok()?;
    let is_it = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|there| (there.ino(), there.dev()) == (opened.ino(), opened.dev()))
    };
    let files = (1..).map(old).take_while(|path| path.exists()).count();
    let last = u32::try_from(files).unwrap_or(u32::MAX);
    match (1..=last).find(|number| is_it(&old(*number))) {
        Some(1) => File::open(path).ok(),
        Some(number) => File::open(old(number - 1)).ok(),
        // What followed it is gone, too: the oldest that there is comes next.
        None if last > 0 => File::open(old(last)).ok(),
        None => None,
    }
}

/// Whether the path still leads to this file, and the file was not cut.
fn is_current(file: &mut File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return true };
    let same = open.ino() == there.ino() && open.dev() == there.dev();
    same && file.stream_position().is_ok_and(|position| position <= there.len())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_is_missed_when_a_log_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let old = |number: u32| directory.path().join(format!("0.log.{number}"));
        let write = |text: &str| fs::write(&path, format!("2025-01-01T00:00:01Z stdout F {text}\n")).unwrap();
        let rotate = || {
            for number in (0..4).rev() {
                let from = if number == 0 { path.clone() } else { old(number) };
                let _ = fs::rename(from, old(number + 1));
            }
        };
        let mut reader = Reader::new(Selection::default());
        let mut rest = || {
            let mut all = Vec::new();
            loop {
                let piece = reader.read(&path).unwrap();
                if piece.is_empty() {
                    return String::from_utf8(all).unwrap();
                }
                all.extend(piece);
            }
        };
        write("one");
        assert_eq!(rest(), "one\n");
        for text in ["two", "three", "four"] {
            rotate();
            write(text);
        }
        assert_eq!(rest(), "two\nthree\nfour\n");
        rotate();
        write("five");
        assert_eq!(rest(), "five\n");
        // One that was too slow goes on with what is left.
        for text in ["six", "seven", "eight", "nine", "ten", "eleven"] {
            rotate();
            write(text);
        }
        assert_eq!(rest(), "seven\neight\nnine\nten\neleven\n");
    }
}
