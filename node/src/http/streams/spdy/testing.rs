//! What a client sends.

use bytes::{BufMut, Bytes};

use super::headers::stored;
use super::{SYN_STREAM, control_frame};

/// Headers as they are before they are compressed.
pub(in super::super) fn text(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    text.put_u32(u32::try_from(pairs.len()).unwrap());
    for word in pairs.iter().flat_map(|(name, value)| [name, value]) {
        text.put_u32(u32::try_from(word.len()).unwrap());
        text.put_slice(word.as_bytes());
    }
    text
}

/// Headers that are not compressed, on a connection that begins with them or goes on.
pub(in super::super) fn block(pairs: &[(&str, &str)], is_first: bool) -> Vec<u8> {
    let beginning: &[u8] = if is_first { &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2] } else { &[] };
    [beginning, &stored(&text(pairs))].concat()
}

/// A frame that opens a stream.
pub(in super::super) fn open(id: u32, block: &[u8]) -> Bytes {
    control_frame(SYN_STREAM, &[id.to_be_bytes().as_slice(), &[0; 6], block].concat())
}
