//! Terminals that an OCI runtime has made: it hands them over at a socket whose path it is given.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::unix::pipe::{Receiver, Sender};

/// Receives the terminal from an OCI runtime that has connected. It is then read and written without waiting.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<File> {
    // Beside the descriptor comes its name.
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let terminal = received.next().ok_or_else(|| io::Error::other("the OCI runtime sent no terminal"))?;
    fcntl(&terminal, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(terminal.into())
}

/// Sets a terminal's size in characters; who runs on it is told.
pub(crate) fn resize(terminal: impl AsFd, width: u16, height: u16) -> io::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// A terminal as what is read and what is written, which works as with the ends of two pipes.
pub(crate) fn split(terminal: File) -> io::Result<(Receiver, Sender)> {
    let writer = terminal.try_clone()?;
    Ok((Receiver::from_file_unchecked(terminal)?, Sender::from_file_unchecked(writer)?))
}
