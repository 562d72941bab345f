//! Those who are connected to a container's own process, and its standard input.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::messages::{Kind, MESSAGE_MAX, message, take};
use crate::terminal;

/// Bytes that wait for one who is attached; with more than that it is cut off, for the container does not wait.
const UNSENT_MAX: usize = 256 << 10;

/// Bytes of standard input that wait for the container; with more than that nobody is listened to.
const UNREAD_MAX: usize = 64 << 10;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Attached {
    clients: Vec<Client>,
    stdin: Option<Stdin>,
    /// The terminal, where the container has one.
    terminal: Option<File>,
    /// Whether standard input ends with the first who gives some.
    once: bool,
}

struct Stdin {
    writer: File,
    /// What the container has not taken yet.
    waiting: Vec<u8>,
    /// Whether it ends once nothing waits.
    ending: bool,
}

struct Client {
    stream: UnixStream,
    /// Whether what it sends is standard input.
    stdin: bool,
    /// Whether it has said that it will send nothing any more.
    silent: bool,
    received: Vec<u8>,
    unsent: Vec<u8>,
    gone: bool,
}

impl Attached {
    /// For a container without a terminal; `stdin` is written without waiting.
    pub(super) fn new(stdin: Option<File>, once: bool) -> Self {
        let stdin = stdin.map(|writer| Stdin { writer, waiting: Vec::new(), ending: false });
        Self { stdin, once, ..Self::default() }
    }

    /// For a container with this terminal, which is read and written without waiting.
    pub(super) fn on(terminal: File, stdin: bool, once: bool) -> io::Result<Self> {
        let writer = if stdin { Some(terminal.try_clone()?) } else { None };
        Ok(Self { terminal: Some(terminal), ..Self::new(writer, once) })
    }

    pub(super) fn add(&mut self, stream: UnixStream, stdin: bool) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let unsent = message(Kind::Begun, &[]);
        self.clients.push(Client { stream, stdin, silent: false, received: Vec::new(), unsent, gone: false });
        Ok(())
    }

    /// Passes on what the container said.
    pub(super) fn tell(&mut self, kind: Kind, said: &[u8]) {
        for client in &mut self.clients {
            client.tell(kind, said);
        }
    }

    /// Whether something is still to be sent.
    pub(super) fn is_busy(&self) -> bool {
        self.clients.iter().any(|client| !client.unsent.is_empty())
    }

    pub(super) fn interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let listens = self.listens();
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, listens && !client.silent);
            flags.set(PollFlags::POLLOUT, !client.unsent.is_empty());
            // That one of those is gone is seen in any case.
            if client.silent || !flags.is_empty() {
                fds.push(PollFd::new(client.stream.as_fd(), flags));
            }
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|stdin| !stdin.waiting.is_empty()) {
            fds.push(PollFd::new(stdin.writer.as_fd(), PollFlags::POLLOUT));
        }
    }

    fn listens(&self) -> bool {
        self.stdin.as_ref().is_none_or(|stdin| stdin.waiting.len() < UNREAD_MAX)
    }

    /// Does whatever can be done without waiting.
    pub(super) fn pump(&mut self) {
        self.feed();
        let mut at = 0;
        while at < self.clients.len() {
            self.listen(at);
            let client = &mut self.clients[at];
            client.send();
            if client.gone {
                let gave_input = client.stdin && !client.silent;
                self.clients.remove(at);
                if gave_input {
                    self.end_input();
                }
            } else {
                at += 1;
            }
        }
        self.feed();
    }

    /// Reads from one client, as long as there is room for what it sends.
    fn listen(&mut self, at: usize) {
        let mut buffer = [0; 16 << 10];
        if self.clients[at].silent {
            self.clients[at].look_whether_gone();
        }
        while self.listens() && !self.clients[at].gone && !self.clients[at].silent {
            let client = &mut self.clients[at];
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    client.silent = true;
                    client.look_whether_gone();
                    if client.stdin {
                        self.end_input();
                    }
                }
                Ok(count) => {
                    client.received.extend_from_slice(&buffer[..count]);
                    self.understand(at);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    client.gone = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn understand(&mut self, at: usize) {
        loop {
            let client = &mut self.clients[at];
            match take(&mut client.received) {
                Ok(None) => return,
                Ok(Some((Kind::Stdin, bytes))) if client.stdin => {
                    if let Some(stdin) = self.stdin.as_mut().filter(|stdin| !stdin.ending) {
                        stdin.waiting.extend(bytes);
                    }
                }
                Ok(Some((Kind::Resize, bytes))) => self.resize(&bytes),
                Ok(Some((Kind::Stdin, _))) => {}
                Ok(Some(_)) | Err(_) => {
                    client.gone = true;
                    return;
                }
            }
        }
    }

    fn resize(&self, size: &[u8]) {
        if let (Some(terminal), [a, b, c, d]) = (&self.terminal, size) {
            let (width, height) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            // A terminal that is gone needs no size.
            let _ = terminal::resize(terminal, width, height);
        }
    }

    /// One who gave input is done: as upstream, that is the end of it only where it is to be given once.
    fn end_input(&mut self) {
        if self.once
            && let Some(stdin) = &mut self.stdin
        {
            stdin.ending = true;
        }
    }

    /// Gives the container what waits for it.
    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while !stdin.waiting.is_empty() {
            match stdin.writer.write(&stdin.waiting) {
                Ok(count) => drop(stdin.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.stdin = None;
                    return;
                }
            }
        }
        if stdin.ending {
            self.stdin = None;
        }
    }
}

impl Client {
    fn tell(&mut self, kind: Kind, said: &[u8]) {
        for piece in said.chunks(MESSAGE_MAX) {
            self.unsent.extend(message(kind, piece));
        }
        self.send();
        self.gone |= self.unsent.len() > UNSENT_MAX;
    }

    /// One who is silent may still read.
    fn look_whether_gone(&mut self) {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        self.gone |= poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
    }

    fn send(&mut self) {
        while !self.unsent.is_empty() && !self.gone {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.gone = true,
            }
        }
        if self.gone {
            self.unsent = Vec::new();
        }
    }
}
