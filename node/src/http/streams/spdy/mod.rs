//! Frames of SPDY/3.1, as much as kubectl's port-forward uses of it: streams with headers, data, resets and pings.
//!
//! Written after the specification, "SPDY Protocol - Draft 3.1". As with upstream's own implementation there is no flow
//! control: a window is never updated by the other side, so none is kept here.

mod headers;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(super) use headers::{Headers, Inflater};

const VERSION: u16 = 3;
const HEAD: usize = 8;
/// The longest control frame that is read: headers of a forwarded stream have some 60 bytes.
const CONTROL_MAX: usize = 16 << 10;
/// The flag of a frame that ends its stream's direction.
const FIN: u8 = 1;
const STREAM_ID: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const HEADERS: u16 = 8;

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// The other side did what it must not.
    ProtocolError = 1,
    /// It was not looked at.
    Refused = 3,
}

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// It opens a stream.
    Open {
        /// The stream.
        id: u32,
        /// Its headers, compressed.
        block: Bytes,
        /// Whether it says nothing more on it.
        fin: bool,
    },
    /// Bytes of a stream, as they come: a frame that is long arrives in pieces.
    Data {
        /// The stream.
        id: u32,
        /// Some bytes, or none.
        bytes: Bytes,
        /// Whether these are the last.
        fin: bool,
    },
    /// It gives a stream up.
    Reset {
        /// The stream.
        id: u32,
    },
    /// It wants this back.
    Ping {
        /// The ping's number.
        id: u32,
    },
    /// Headers that change nothing here, but the state of their compression.
    Headers {
        /// Compressed.
        block: Bytes,
    },
    /// What needs no answer.
    Other,
}

/// What breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("frames of SPDY/{0} are not understood")]
    Version(u16),
    #[error("a control frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a control frame is too short")]
    TooShort,
    #[error("headers: {0}")]
    Headers(&'static str),
}

/// Makes frames of bytes. It keeps no more than one control frame.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    read: BytesMut,
    /// The stream whose data is being read, whether it ends with that, and how many bytes are to come.
    data: Option<(u32, bool, usize)>,
}

impl Decoder {
    /// Bytes arrived. All frames are to be taken before more arrive.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }

    /// The next frame, once it is there.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(frame) = self.data() {
            return Ok(Some(frame));
        }
        let Some(head) = self.read.first_chunk::<HEAD>() else { return Ok(None) };
        let mut head = head.as_slice();
        let (first, flags_and_length) = (head.get_u32(), head.get_u32());
        let [flags, ..] = flags_and_length.to_be_bytes();
        let length = usize::try_from(flags_and_length & 0x00ff_ffff).unwrap_or(usize::MAX);
        if first & !STREAM_ID == 0 {
            self.read.advance(HEAD);
            self.data = Some((first, flags & FIN != 0, length));
            return Ok(self.data());
        }
        let [kind_high, kind_low] = [first.to_be_bytes()[2], first.to_be_bytes()[3]];
        let version = u16::try_from((first & STREAM_ID) >> 16).unwrap_or_default();
        if version != VERSION {
            return Err(Error::Version(version));
        }
        if length > CONTROL_MAX {
            return Err(Error::TooLong(length));
        }
        if self.read.len() < HEAD + length {
            return Ok(None);
        }
        self.read.advance(HEAD);
        let content = self.read.split_to(length).freeze();
        control(u16::from_be_bytes([kind_high, kind_low]), flags & FIN != 0, content).map(Some)
    }

    /// Data of the frame that is being read, as much as is there.
    fn data(&mut self) -> Option<Frame> {
        let (id, fin, left) = self.data?;
        if left > 0 && self.read.is_empty() {
            return None;
        }
        let bytes = self.read.split_to(left.min(self.read.len())).freeze();
        let left = left - bytes.len();
        self.data = (left > 0).then_some((id, fin, left));
        Some(Frame::Data { id, bytes, fin: fin && left == 0 })
    }
}

fn control(kind: u16, fin: bool, mut content: Bytes) -> Result<Frame, Error> {
    let id = |content: &mut Bytes| content.try_get_u32().map_err(|_| Error::TooShort);
    Ok(match kind {
        SYN_STREAM => {
            let id = id(&mut content)? & STREAM_ID;
            // The stream that this one belongs to, its priority and a slot: of no interest.
            if content.len() < 6 {
                return Err(Error::TooShort);
            }
            content.advance(6);
            Frame::Open { id, block: content, fin }
        }
        RST_STREAM => Frame::Reset { id: id(&mut content)? & STREAM_ID },
        PING => Frame::Ping { id: id(&mut content)? },
        SYN_REPLY | HEADERS => {
            id(&mut content)?;
            Frame::Headers { block: content }
        }
        _ => Frame::Other,
    })
}

fn control_frame(kind: u16, content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + content.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    frame.put_slice(content);
    frame.freeze()
}

/// Accepts a stream; `block` is of [`headers::none`].
pub(super) fn reply(id: u32, block: &[u8]) -> Bytes {
    control_frame(SYN_REPLY, &[&id.to_be_bytes(), block].concat())
}

pub(super) fn reset(id: u32, why: Reset) -> Bytes {
    control_frame(RST_STREAM, &[id.to_be_bytes(), (why as u32).to_be_bytes()].concat())
}

pub(super) fn ping(id: u32) -> Bytes {
    control_frame(PING, &id.to_be_bytes())
}

/// Bytes of a stream: less than 16 MiB.
pub(super) fn data(id: u32, bytes: &[u8], fin: bool) -> Bytes {
    debug_assert!(bytes.len() < 1 << 24);
    let mut frame = BytesMut::with_capacity(HEAD + bytes.len());
    frame.put_u32(id);
    frame.put_u32(u32::from(u8::from(fin)) << 24 | u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    frame.put_slice(bytes);
    frame.freeze()
}
