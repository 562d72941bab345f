//! From the engine's log files to those of CRI.
//!
//! The engine writes one JSON object a line; each becomes one line of CRI's. So the last line of the one tells where in the
//! other it came from: nothing else has to be remembered for the copy to go on after a crash without loss or repetition.
//! Whoever copies holds a lock on the directory of CRI's file, for there may be two with the same runtime open.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use longshore_core::runtime::LogLimits;
use nix::sys::inotify::WatchDescriptor;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;

use crate::follow::Watch;

/// How the engine keeps logs: in as many files of as many bytes.
pub(crate) const OPTIONS: [(&str, &str); 2] = [("max-size", "16m"), ("max-file", "5")];

/// The engine cuts lines into parts of this many bytes.
const PART: usize = 16 << 10;

/// No line of ours is longer: a part may have grown to three times its size when it was made UTF-8, and has a stamp.
const LINE_MAX: u64 = 64 << 10;

/// The logs that are followed.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) files: AsyncFd<Watch>,
    /// By the engine's id of the container.
    followed: Mutex<BTreeMap<String, Arc<Followed>>>,
    /// Whose directory a watch is for.
    watches: Mutex<BTreeMap<WatchDescriptor, String>>,
}

impl Logs {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { files: Watch::open()?, followed: Mutex::default(), watches: Mutex::default() })
    }

    /// Follows a container's log, unless it is followed.
    pub(crate) async fn add(&self, id: &str, engines: PathBuf, ours: PathBuf, limits: LogLimits) -> io::Result<()> {
        {
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            if followed.contains_key(id) {
                return Ok(());
            }
            if let Some(directory) = engines.parent() {
                // Before the first copy, so that nothing is missed between the two.
                let watch = self.files.get_ref().add(directory)?;
                self.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(watch, id.to_owned());
            }
            followed.insert(id.to_owned(), Arc::new(Followed { engines, ours, limits, place: Mutex::default() }));
        }
        self.sync(id).await
    }

    /// Copies all that a container has said so far.
    pub(crate) async fn sync(&self, id: &str) -> io::Result<()> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let Some(followed) = followed else { return Ok(()) };
        tokio::task::spawn_blocking(move || followed.copy()).await.map_err(io::Error::other)?
    }

    /// Ends following a log.
    pub(crate) fn forget(&self, id: &str) {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = watches.iter().find(|(_, of)| *of == id).map(|(watch, _)| *watch) else { return };
        watches.remove(&watch);
        self.files.get_ref().remove(watch);
    }

    /// The container whose log a watch is for.
    pub(crate) fn watched(&self, watch: WatchDescriptor) -> Option<String> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).get(&watch).cloned()
    }

    /// All containers whose logs are followed.
    pub(crate) fn all(&self) -> Vec<String> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// A container's log.
#[derive(Debug)]
struct Followed {
    /// The engine's newest file.
    engines: PathBuf,
    ours: PathBuf,
    limits: LogLimits,
    /// How far it is copied, as far as is known.
    place: Mutex<Option<Place>>,
}

/// A place in the engine's files, and ours there.
#[derive(Debug)]
struct Place {
    file: File,
    offset: u64,
    ours: Mark,
}

/// Which file of ours is written, and how long it is.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    inode: u64,
    length: u64,
}

/// The file of ours that is written.
struct Ours<'a> {
    followed: &'a Followed,
    file: File,
    length: u64,
}

/// What a log was called some turns later.
fn older(log: &Path, turns: u32) -> PathBuf {
    PathBuf::from(format!("{}.{turns}", log.display()))
}

impl<'a> Ours<'a> {
    fn open(followed: &'a Followed) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&followed.ours)?;
        let length = file.metadata()?.len();
        Ok(Self { followed, file, length })
    }

    fn mark(&self) -> io::Result<Mark> {
        Ok(Mark { inode: self.file.metadata()?.ino(), length: self.length })
    }

    fn is(&self, mark: &Mark) -> bool {
        self.mark().is_ok_and(|own| own == *mark)
    }

    /// Writes lines, beginning a new file before the one that would be too much.
    fn write(&mut self, lines: &str) -> io::Result<()> {
        let limit = self.followed.limits.max_bytes;
        let mut rest = lines;
        while !rest.is_empty() {
            let mut fitting = 0;
            for line in rest.split_inclusive('\n') {
                if limit > 0 && self.length + (fitting + line.len()) as u64 > limit && self.length + fitting as u64 > 0
                {
                    break;
                }
                fitting += line.len();
            }
            let (now, later) = rest.split_at(fitting);
            self.file.write_all(now.as_bytes())?;
            self.length += now.len() as u64;
            rest = later;
            if !rest.is_empty() {
                self.turn()?;
            }
        }
        Ok(())
    }

    /// Begins a new file.
    fn turn(&mut self) -> io::Result<()> {
        let log = &self.followed.ours;
        let kept = self.followed.limits.max_files.max(2) - 1;
        for turns in (1..kept).rev() {
            match fs::rename(older(log, turns), older(log, turns + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(log, older(log, 1))?;
        *self = Self::open(self.followed)?;
        Ok(())
    }
}

/// A line of the engine's.
#[derive(Debug, Deserialize)]
struct Entry {
    log: String,
    stream: String,
    time: Timestamp,
}

impl Entry {
    /// The same as CRI has it.
    fn line(&self) -> String {
        // What is not cut and has no end of line is the end of the stream.
        let (text, tag) = match self.log.strip_suffix('\n') {
            Some(text) => (text, "F"),
            None if self.log.len() < PART => (self.log.as_str(), "F"),
            None => (self.log.as_str(), "P"),
        };
        format!("{:.9} {} {tag} {text}\n", self.time, self.stream)
    }
}

impl Followed {
    fn copy(&self) -> io::Result<()> {
        let mut known = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.ours.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(directory)?;
        let held = File::open(directory)?;
        held.lock()?;
        let mut ours = Ours::open(self)?;
        let place = match known.take() {
            Some(place) if ours.is(&place.ours) => Some(place),
            _ => self.find(&mut ours)?,
        };
        let Some(mut place) = place else { return Ok(()) };
        loop {
            while place.step(&mut ours)? {}
            // The engine begins a new file when one is full, and never writes to the last again.
            match self.after(&place.file)? {
                Some(file) => {
                    while place.step(&mut ours)? {}
                    (place.file, place.offset) = (file, 0);
                }
                None => break,
            }
        }
        place.ours = ours.mark()?;
        *known = Some(place);
        Ok(())
    }

    /// The engine's files, the oldest first.
    fn files(&self) -> io::Result<Vec<File>> {
        let name = self.engines.display();
        let older = (1..).map(|number| PathBuf::from(format!("{name}.{number}")));
        let mut files = Vec::new();
        for path in std::iter::once(self.engines.clone()).chain(older) {
            match File::open(&path) {
                Ok(file) => files.push(file),
                // Between two steps of a change of files the newest is missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound && path == self.engines => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        files.reverse();
        Ok(files)
    }

    /// The file after this; `None` if this is the newest.
    fn after(&self, file: &File) -> io::Result<Option<File>> {
        let own = file.metadata()?.ino();
        if fs::metadata(&self.engines).is_ok_and(|newest| newest.ino() == own) {
            return Ok(None);
        }
        let mut files = self.files()?;
        let mut inodes = Vec::new();
        for file in &files {
            inodes.push(file.metadata()?.ino());
        }
        // One that the engine has removed meanwhile is older than all.
        let next = inodes.iter().position(|inode| *inode == own).map_or(0, |place| place + 1);
        Ok(if next < files.len() { Some(files.swap_remove(next)) } else { None })
    }

    /// Where to go on: after the entry from which the last whole line of ours was made. `None` if there is nothing yet.
    fn find(&self, ours: &mut Ours<'_>) -> io::Result<Option<Place>> {
        let mut last = last_line(&ours.file)?;
        ours.length = ours.file.metadata()?.len();
        if last.is_empty() {
            // It was begun just now.
            last = File::open(older(&self.ours, 1)).map_or_else(|_| Ok(String::new()), |file| last_line(&file))?;
        }
        let mark = ours.mark()?;
        let stamp = last.split(' ').next().and_then(|stamp| stamp.parse::<Timestamp>().ok());
        // If the engine has thrown it away, with the first that is newer.
        let (mut exact, mut newer) = (None, None);
        let files = self.files()?;
        for (number, file) in files.iter().enumerate() {
            let (mut reader, mut offset) = (BufReader::new(file.try_clone()?), 0);
            reader.seek(SeekFrom::Start(0))?;
            while let Some((entry, size)) = next(&mut reader)? {
                if let (Some(entry), Some(stamp)) = (entry, stamp) {
                    if newer.is_none() && entry.time > stamp {
                        newer = Some((number, offset));
                    }
                    if entry.time == stamp && entry.line() == last {
                        exact = Some((number, offset + size));
                    }
                }
                offset += size;
            }
            if number + 1 == files.len() && newer.is_none() && stamp.is_some() {
                newer = Some((number, offset));
            }
        }
        let (number, offset) = exact.or(newer).unwrap_or((0, 0));
        Ok(files.into_iter().nth(number).map(|file| Place { file, offset, ours: mark }))
    }
}

impl Place {
    /// Copies some; false once all is copied.
    fn step(&mut self, ours: &mut Ours<'_>) -> io::Result<bool> {
        /// Ample for one turn of a container that says much.
        const BYTES: u64 = 1 << 20;
        self.file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(&self.file);
        let (mut lines, mut read) = (String::new(), 0);
        while read < BYTES
            && let Some((entry, size)) = next(&mut reader)?
        {
            read += size;
            // What is not an entry was damaged with the machine's power.
            lines.extend(entry.map(|entry| entry.line()));
        }
        ours.write(&lines)?;
        self.offset += read;
        Ok(read > 0)
    }
}

/// The next whole line of the engine's and its size.
fn next(reader: &mut impl BufRead) -> io::Result<Option<(Option<Entry>, u64)>> {
    let mut line = Vec::new();
    let size = reader.read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then(|| (serde_json::from_slice(&line).ok(), size as u64)))
}

/// The last line of ours; what a crash has left of one is taken away.
fn last_line(ours: &File) -> io::Result<String> {
    let length = ours.metadata()?.len();
    let start = length.saturating_sub(2 * LINE_MAX);
    let mut tail = Vec::new();
    ReadAt { file: ours, offset: start }.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole < tail.len() {
        ours.set_len(start + whole as u64)?;
        tail.truncate(whole);
    }
    let begin = tail[..whole.saturating_sub(1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok(String::from_utf8_lossy(&tail[begin..]).into_owned())
}

/// Reads a file without moving where it is written.
struct ReadAt<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        directory: tempfile::TempDir,
        said: u64,
    }

    impl Case {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), said: 0 }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// One who copies, as after a restart.
        fn copier(&self) -> Followed {
            let (engines, ours) = (self.path("x-json.log"), self.path("logs/0.log"));
            Followed { engines, ours, limits: LogLimits::default(), place: Mutex::default() }
        }

        /// The engine writes down what a container says.
        fn say(&mut self, text: &str) {
            self.said += 1;
            let entry = serde_json::json!({
                "log": text, "stream": "stdout", "time": format!("2026-11-28T18:00:00.{:06}Z", self.said),
            });
            self.engine(&format!("{entry}\n"));
        }

        fn engine(&self, bytes: &str) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path("x-json.log")).unwrap();
            file.write_all(bytes.as_bytes()).unwrap();
        }

        /// The engine begins a new file, and keeps two older ones.
        fn rotate(&self) {
            let _ = fs::rename(self.path("x-json.log.1"), self.path("x-json.log.2"));
            fs::rename(self.path("x-json.log"), self.path("x-json.log.1")).unwrap();
            File::create(self.path("x-json.log")).unwrap();
        }

        fn texts(&self) -> Vec<String> {
            let ours = fs::read_to_string(self.path("logs/0.log")).unwrap();
            ours.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned()).collect()
        }
    }

    #[test]
    fn entries_become_lines_of_cri() {
        let entry = |log: &str| Entry {
            log: log.to_owned(),
            stream: "stderr".to_owned(),
            time: "2026-11-28T18:00:00.5Z".parse().unwrap(),
        };
        assert_eq!(entry("text\n").line(), "2026-11-28T18:00:00.500000000Z stderr F text\n");
        assert_eq!(entry("the end").line(), "2026-11-28T18:00:00.500000000Z stderr F the end\n");
        assert!(entry(&"x".repeat(PART)).line().starts_with("2026-11-28T18:00:00.500000000Z stderr P x"));
    }

    #[test]
    fn a_copy_goes_on_where_another_ended() {
        let mut case = Case::new();
        let first = case.copier();
        first.copy().unwrap();
        case.say("one\n");
        first.copy().unwrap();
        case.say("same\n");
        case.say("same\n");
        first.copy().unwrap();
        first.copy().unwrap();
        assert_eq!(case.texts(), ["F one", "F same", "F same"]);
        case.say("two\n");
        // Two at a time, and each sees what the other did.
        let second = case.copier();
        second.copy().unwrap();
        first.copy().unwrap();
        case.say("three\n");
        first.copy().unwrap();
        second.copy().unwrap();
        assert_eq!(case.texts(), ["F one", "F same", "F same", "F two", "F three"]);
    }

    #[test]
    fn half_a_line_is_written_again() {
        let mut case = Case::new();
        case.say("one\n");
        case.say("two\n");
        case.copier().copy().unwrap();
        let path = case.path("logs/0.log");
        let ours = fs::read(&path).unwrap();
        for length in 0..ours.len() {
            fs::write(&path, &ours[..length]).unwrap();
            case.copier().copy().unwrap();
            assert_eq!(fs::read(&path).unwrap(), ours, "{length}");
        }
        // The engine's own half line is waited for.
        case.engine("{\"log\":\"th");
        case.copier().copy().unwrap();
        assert_eq!(case.texts(), ["F one", "F two"]);
        case.engine("ree\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-28T18:00:01Z\"}\n");
        case.copier().copy().unwrap();
        assert_eq!(case.texts(), ["F one", "F two", "F three"]);
    }

    #[test]
    fn the_engines_new_files_are_followed() {
        let mut case = Case::new();
        let first = case.copier();
        case.say("one\n");
        first.copy().unwrap();
        case.say("two\n");
        case.rotate();
        case.say("three\n");
        case.rotate();
        case.say("four\n");
        first.copy().unwrap();
        let all = ["F one", "F two", "F three", "F four"];
        assert_eq!(case.texts(), all);
        // Also by one who begins in the middle, or anew.
        let ours = fs::read_to_string(case.path("logs/0.log")).unwrap();
        for lines in 0..4 {
            let begun: String = ours.split_inclusive('\n').take(lines).collect();
            fs::write(case.path("logs/0.log"), begun).unwrap();
            case.copier().copy().unwrap();
            assert_eq!(case.texts(), all, "{lines}");
        }
    }

    #[test]
    fn a_full_file_is_turned_and_the_copy_goes_on() {
        let mut case = Case::new();
        for number in 0..10 {
            case.say(&format!("line {number}\n"));
            // Each as after a restart; three lines of 47 bytes fit.
            let copier = Followed { limits: LogLimits { max_bytes: 150, max_files: 3 }, ..case.copier() };
            copier.copy().unwrap();
            copier.copy().unwrap();
        }
        let text = |name: &str| fs::read_to_string(case.path(name)).unwrap_or_default();
        let all = [text("logs/0.log.2"), text("logs/0.log.1"), text("logs/0.log")].concat();
        let numbers: Vec<&str> = all.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(numbers, ["3", "4", "5", "6", "7", "8", "9"]);
        assert!(!case.path("logs/0.log.3").exists());
    }

    #[test]
    fn what_the_engine_has_thrown_away_is_not_waited_for() {
        let mut case = Case::new();
        case.say("one\n");
        case.copier().copy().unwrap();
        for text in ["two\n", "three\n", "four\n", "five\n"] {
            case.say(text);
            case.rotate();
        }
        case.copier().copy().unwrap();
        assert_eq!(case.texts(), ["F one", "F four", "F five"]);
    }
}
