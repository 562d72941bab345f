//! Headers, which are compressed by zlib with a dictionary that both sides know.
//!
//! A preset dictionary is nothing but text that seems to have come before. So zlib need not know of it: the raw stream is
//! given the dictionary first, as a block that is stored and not compressed. What is sent consists of such blocks alone.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

use super::Error;

/// The longest headers.
const HEADERS_MAX: usize = 16 << 10;

/// What a stream begins with here: compressed by deflate with 32 KiB of window, and the dictionary's checksum.
const BEGINNING: [u8; 6] = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];

/// What is left of a stream after such a beginning, whatever window and effort it names.
fn begin(block: &[u8]) -> Option<&[u8]> {
    let (beginning, rest) = block.split_first_chunk::<6>()?;
    let [method, flags, checksum @ ..] = *beginning;
    let is_deflate = method & 0xf == 8 && u16::from_be_bytes([method, flags]) % 31 == 0;
    (is_deflate && flags & 0x20 != 0 && checksum == BEGINNING[2..]).then_some(rest)
}

/// The words of the dictionary, each of which has its length before it.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of the dictionary.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
     Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
     Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
     Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
     application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8\
     charset=iso-8859-1,utf-,*,enq=0.";

pub(super) fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for word in WORDS {
        dictionary.put_u32(u32::try_from(word.len()).unwrap_or_default());
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(TEXT.as_bytes());
    dictionary
}

/// A block of a raw stream that holds bytes as they are: fewer than 64 Ki.
pub(super) fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut block = vec![0];
    block.put_u16_le(length);
    block.put_u16_le(!length);
    block.put_slice(bytes);
    block
}

/// No headers, as the blocks of one connection, of which the first differs from the others.
#[derive(Debug, Default)]
pub(in super::super) struct Headers {
    begun: bool,
}

impl Headers {
    pub(in super::super) fn none(&mut self) -> Vec<u8> {
        // The empty block at the end is what a compressor's flush makes: readers in Go wait for more without it.
        let block = [stored(&0_u32.to_be_bytes()), stored(&[])].concat();
        if std::mem::replace(&mut self.begun, true) { block } else { [BEGINNING.as_slice(), &block].concat() }
    }
}

/// Reads the headers of one connection, block by block.
pub(in super::super) struct Inflater {
    raw: Decompress,
    /// Whether the stream's beginning was read.
    begun: bool,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self { raw: Decompress::new(false), begun: false }
    }
}

impl Inflater {
    /// The headers of a block.
    pub(in super::super) fn read(&mut self, block: &Bytes) -> Result<Vec<(String, String)>, Error> {
        let mut block: &[u8] = block;
        if !self.begun {
            block = begin(block).ok_or(Error::Headers("they are not compressed as they must be"))?;
            self.inflate(&stored(&dictionary()))?;
            self.begun = true;
        }
        pairs(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Error> {
        let mut read = Vec::with_capacity(HEADERS_MAX);
        loop {
            let (before_in, before_out) = (self.raw.total_in(), read.len());
            let status = self.raw.decompress_vec(block, &mut read, FlushDecompress::Sync);
            let taken = usize::try_from(self.raw.total_in() - before_in).unwrap_or(usize::MAX);
            block = block.get(taken..).unwrap_or_default();
            match status {
                Ok(Status::StreamEnd) => return Err(Error::Headers("their stream has ended")),
                Err(_) => return Err(Error::Headers("they cannot be decompressed")),
                Ok(_) if read.len() == HEADERS_MAX => return Err(Error::Headers("they are too long")),
                Ok(_) if block.is_empty() || (taken == 0 && read.len() == before_out) => return Ok(read),
                Ok(_) => {}
            }
        }
    }
}

/// A number of pairs, and before each name and value its length.
fn pairs(mut text: &[u8]) -> Result<Vec<(String, String)>, Error> {
    const SHORT: Error = Error::Headers("they end too early");
    fn word(text: &mut &[u8]) -> Result<String, Error> {
        let length = usize::try_from(text.try_get_u32().map_err(|_| SHORT)?).map_err(|_| SHORT)?;
        let word = text.get(..length).ok_or(SHORT)?;
        text.advance(length);
        String::from_utf8(word.to_vec()).map_err(|_| Error::Headers("they are not UTF-8"))
    }
    let count = text.try_get_u32().map_err(|_| SHORT)?;
    // Each takes some bytes, so a count that is too high ends soon.
    (0..count).map(|_| Ok((word(&mut text)?, word(&mut text)?))).collect()
}
