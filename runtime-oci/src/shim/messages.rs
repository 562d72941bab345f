//! What goes over a connection to a shim after its request, where that begins something that streams: messages of a kind, a
//! length of four bytes and that many bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest message.
pub(crate) const MESSAGE_MAX: usize = 64 << 10;

const HEAD: usize = 5;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// From the shim: it has begun.
    Begun = 0,
    /// From the shim: standard output.
    Stdout = 1,
    /// From the shim: standard error.
    Stderr = 2,
    /// From the shim: the exit code, in four bytes; nothing follows.
    Exit = 3,
    /// From the shim: why it cannot be, as text; nothing follows.
    Refused = 4,
    /// To the shim: standard input, until no more is sent.
    Stdin = 5,
    /// To the shim: the terminal's columns and rows, in two bytes each.
    Resize = 6,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Begun, Self::Stdout, Self::Stderr, Self::Exit, Self::Refused, Self::Stdin, Self::Resize];
}

/// A message as it is sent.
pub(crate) fn message(kind: Kind, content: &[u8]) -> Vec<u8> {
    debug_assert!(content.len() <= MESSAGE_MAX);
    let mut message = Vec::with_capacity(HEAD + content.len());
    message.push(kind as u8);
    message.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(content);
    message
}

fn head(head: [u8; HEAD]) -> io::Result<(Kind, usize)> {
    let [kind, a, b, c, d] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    match Kind::ALL.get(usize::from(kind)) {
        Some(kind) if length <= MESSAGE_MAX => Ok((*kind, length)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no such message")),
    }
}

/// Takes the first message out of what was read, once it is whole.
pub(super) fn take(read: &mut Vec<u8>) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let Some(first) = read.first_chunk() else { return Ok(None) };
    let (kind, length) = head(*first)?;
    if read.len() < HEAD + length {
        return Ok(None);
    }
    let content = read[HEAD..HEAD + length].to_vec();
    read.drain(..HEAD + length);
    Ok(Some((kind, content)))
}

/// The next message; `None` at the end.
pub(crate) async fn next<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut first = [0; HEAD];
    match stream.read_exact(&mut first).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (kind, length) = head(first)?;
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    Ok(Some((kind, content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_once_they_are_whole() {
        let mut read = Vec::new();
        let sent = [message(Kind::Stdin, b"abc"), message(Kind::Resize, b"")].concat();
        let mut taken = Vec::new();
        for byte in sent {
            read.push(byte);
            taken.extend(take(&mut read).unwrap());
        }
        assert_eq!(taken, [(Kind::Stdin, b"abc".to_vec()), (Kind::Resize, Vec::new())]);
        assert!(read.is_empty());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(take(&mut vec![7, 0, 0, 0, 0]).is_err());
        assert!(take(&mut vec![5, 0, 1, 0, 1]).is_err());
    }
}
