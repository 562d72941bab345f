//! What a container says, and where the shim writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use longshore_core::clock::Clock;
use longshore_core::runtime::LogLimits;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::Start;
use super::attach::Attached;
use super::messages::Kind;

/// A container whose process is the shim's child.
pub(super) struct Container {
    pub(super) start: Start,
    pub(super) pipes: Vec<Pipe>,
    log: Log,
    /// Who waits for its end; closing the connection tells.
    pub(super) waiting: Vec<UnixStream>,
    pub(super) attached: Attached,
}

/// What a container writes to: a pipe or its terminal.
pub(super) struct Pipe {
    kind: Kind,
    pub(super) reader: File,
    /// The line's beginning, until its end comes.
    line: Vec<u8>,
}

/// Longest piece of a line that is logged at once, as containerd's.
const LINE_MAX: usize = 16 << 10;

/// The other ends of a container's streams.
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A pipe whose end of the shim's does not wait: the reading end, or else the writing one.
fn pipe(reads: bool) -> io::Result<(File, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (own, other) = if reads { (reader, writer) } else { (writer, reader) };
    fcntl(&own, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((own.into(), other))
}

impl Container {
    /// A container that is about to be started, and the ends of the pipes that it is to use.
    pub(super) fn new(start: Start) -> io::Result<(Self, Ends)> {
        let log = Log::open(&start.log, start.log_limits)?;
        let (stdout, stdout_end) = pipe(true)?;
        let (stderr, stderr_end) = pipe(true)?;
        let (stdin, stdin_end) = if start.stdin && !start.tty { Some(pipe(false)?).unzip() } else { (None, None) };
        let attached = Attached::new(stdin, start.stdin_once);
        let pipes = vec![Pipe::new(Kind::Stdout, stdout), Pipe::new(Kind::Stderr, stderr)];
        let ends = Ends { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end };
        Ok((Self { start, pipes, log, waiting: Vec::new(), attached }, ends))
    }

    /// The container speaks on a terminal: the pipes were for the OCI runtime alone.
    pub(super) fn speaks_on(&mut self, terminal: File) -> io::Result<()> {
        self.pipes = vec![Pipe::new(Kind::Stdout, terminal.try_clone()?)];
        self.attached = Attached::on(terminal, self.start.stdin, self.start.stdin_once)?;
        Ok(())
    }

    pub(super) fn pump(&mut self, clock: &dyn Clock) {
        let (log, attached) = (&mut self.log, &mut self.attached);
        self.pipes.retain_mut(|pipe| pipe.pump(log, attached, clock));
        self.attached.pump();
    }

    /// Whether something of it is still to be written or sent.
    pub(super) fn is_busy(&self) -> bool {
        !self.pipes.is_empty() || self.attached.is_busy()
    }

    /// What the OCI runtime said last: in its log, or on the streams that it shares with the container.
    pub(super) fn complaint(&mut self) -> String {
        let mut said = fs::read_to_string(self.start.runtime_log()).unwrap_or_default();
        for pipe in &mut self.pipes {
            let mut bytes = Vec::new();
            // It would block once all is read.
            let _ = pipe.reader.read_to_end(&mut bytes);
            said.push_str(&String::from_utf8_lossy(&bytes));
        }
        complaint(&said)
    }
}

/// The last of what an OCI runtime said, without stamps.
pub(super) fn complaint(said: &str) -> String {
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    match last.split_once("msg=") {
        Some((_, message)) => serde_json::from_str(message).unwrap_or_else(|_| message.to_owned()),
        None => last.to_owned(),
    }
}

/// A container's log, of which only so much is kept.
struct Log {
    path: PathBuf,
    file: File,
    /// Entries that are not in the file yet: a container that writes much writes many lines at once.
    pending: Vec<u8>,
    /// Of the file with what is pending.
    size: u64,
    limits: LogLimits,
}

impl Log {
    fn open(path: &Path, limits: LogLimits) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, pending: Vec::new(), size, limits })
    }

    /// Adds an entry of these parts; it is in the file after [`Log::flush`].
    fn add(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if self.limits.max_bytes > 0 && self.size > 0 && self.size + length > self.limits.max_bytes {
            self.flush()?;
            self.rotate()?;
        }
        parts.iter().for_each(|part| self.pending.extend_from_slice(part));
        self.size += length;
        // Lines may be short, and what stands before each is not.
        if self.pending.len() > LINE_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.pending);
        // What a full disk does not take is lost, and not kept in memory.
        self.pending.clear();
        written
    }

    /// Begins a new file: every older one moves on by one, over the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        let old = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        let oldest = self.limits.max_files.max(2) - 1;
        for number in (1..oldest).rev() {
            match fs::rename(old(number), old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, old(1))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Pipe {
    fn new(kind: Kind, reader: File) -> Self {
        Self { kind, reader, line: Vec::new() }
    }

    /// Logs and passes on what there is; false once nothing more can come.
    fn pump(&mut self, log: &mut Log, attached: &mut Attached, clock: &dyn Clock) -> bool {
        /// How often a pipe is read before others have their turn: ample for all that it can hold.
        const READS_MAX: usize = 64;
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS_MAX {
            let count = match self.reader.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // A terminal's end is an error.
                Ok(0) | Err(_) => {
                    if !self.line.is_empty() {
                        let line = std::mem::take(&mut self.line);
                        self.log(log, &stamp(clock), "F", &line);
                        let _ = log.flush();
                    }
                    return false;
                }
                Ok(count) => count,
            };
            // What is read at once was said at once, as far as anybody can tell.
            let now = stamp(clock);
            attached.tell(self.kind, &buffer[..count]);
            for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                let whole = self.line.pop_if(|last| *last == b'\n').is_some();
                while self.line.len() > LINE_MAX {
                    let rest = self.line.split_off(LINE_MAX);
                    let part = std::mem::replace(&mut self.line, rest);
                    self.log(log, &now, "P", &part);
                }
                if whole {
                    self.log(log, &now, "F", &self.line);
                    self.line.clear();
                }
            }
            // A full disk must not stop the container.
            let _ = log.flush();
        }
        true
    }

    fn log(&self, log: &mut Log, now: &str, tag: &str, line: &[u8]) {
        let stream = if self.kind == Kind::Stderr { " stderr " } else { " stdout " };
        let parts = [now.as_bytes(), stream.as_bytes(), tag.as_bytes(), b" ", line, b"\n"];
        // A full disk must not stop the container.
        let _ = log.add(&parts);
    }
}

/// The time as it stands in logs.
fn stamp(clock: &dyn Clock) -> String {
    format!("{:.9}", clock.now())
}
