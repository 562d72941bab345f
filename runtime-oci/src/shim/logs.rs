//! What a container says, and where the shim writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use jiff::Timestamp;
use longshore_core::clock::Clock;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::Start;

/// A container whose process is the shim's child.
pub(super) struct Container {
    pub(super) start: Start,
    pub(super) pipes: Vec<Pipe>,
    log: File,
    /// Who waits for its end; closing the connection tells.
    pub(super) waiting: Vec<UnixStream>,
}

pub(super) struct Pipe {
    stream: &'static str,
    pub(super) reader: File,
    /// The line's beginning, until its end comes.
    line: Vec<u8>,
}

/// Longest piece of a line that is logged at once, as containerd's.
const LINE_MAX: usize = 16 << 10;

/// A pipe that is read without waiting.
fn output() -> io::Result<(File, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader.into(), writer))
}

impl Container {
    /// A container that is about to be started, and the ends of the pipes that it is to write to.
    pub(super) fn new(start: Start) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        if let Some(parent) = start.log.parent() {
            fs::create_dir_all(parent)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
        let (stdout, stdout_writer) = output()?;
        let (stderr, stderr_writer) = output()?;
        let pipes = vec![
            Pipe { stream: "stdout", reader: stdout, line: Vec::new() },
            Pipe { stream: "stderr", reader: stderr, line: Vec::new() },
        ];
        Ok((Self { start, pipes, log, waiting: Vec::new() }, stdout_writer, stderr_writer))
    }

    pub(super) fn pump(&mut self, clock: &dyn Clock) {
        let log = &mut self.log;
        self.pipes.retain_mut(|pipe| pipe.pump(log, clock));
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
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
        match last.split_once("msg=") {
            Some((_, message)) => serde_json::from_str(message).unwrap_or_else(|_| message.to_owned()),
            None => last.to_owned(),
        }
    }
}

impl Pipe {
    /// Logs what there is; false once nothing more can come.
    fn pump(&mut self, log: &mut File, clock: &dyn Clock) -> bool {
        /// How often a pipe is read before others have their turn: ample for all that it can hold.
        const READS_MAX: usize = 64;
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS_MAX {
            let count = match self.reader.read(&mut buffer) {
                Ok(0) => {
                    if !self.line.is_empty() {
                        let line = std::mem::take(&mut self.line);
                        self.log(log, clock.now(), "F", &line);
                    }
                    return false;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                let whole = self.line.pop_if(|last| *last == b'\n').is_some();
                while self.line.len() > LINE_MAX {
                    let rest = self.line.split_off(LINE_MAX);
                    let part = std::mem::replace(&mut self.line, rest);
                    self.log(log, clock.now(), "P", &part);
                }
                if whole {
                    let line = std::mem::take(&mut self.line);
                    self.log(log, clock.now(), "F", &line);
                }
            }
        }
        true
    }

    fn log(&self, log: &mut File, now: Timestamp, tag: &str, line: &[u8]) {
        let mut entry = format!("{now:.9} {} {tag} ", self.stream).into_bytes();
        entry.extend_from_slice(line);
        entry.push(b'\n');
        // A full disk must not stop the container.
        let _ = log.write_all(&entry);
    }
}
