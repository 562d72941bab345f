//! How the log's bytes lie: a header for the log, then frames, each the commits of one sync.
//!
//! All begins at multiples of 512 bytes, so that no write touches a sector that holds something acknowledged, and so that
//! frames behind a damaged one can be found. Numbers are little-endian. A frame is told from what an earlier use of the
//! file left by the log's number, and from what was torn by its checksums.

use std::sync::Arc;

use bytes::Bytes;
use longshore_core::store::Revision;

use super::Slot;
use crate::overlay::{Entry, Mark, Place, Value};

/// Headers and frames begin at multiples of this many bytes.
pub(crate) const SECTOR: usize = 512;
/// Bytes before a frame's commits.
pub(crate) const FRAME_HEADER: usize = 32;

const LOG_MAGIC: &[u8; 8] = b"LONGLOG1";
const FRAME_MAGIC: &[u8; 4] = b"FRAM";

/// What a log begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogHeader {
    /// Counts logs; never used twice.
    pub(crate) id: u64,
    /// The revision before the log's first. Whatever earlier logs hold beyond it was never acknowledged, and is void.
    pub(crate) after: Revision,
}

impl LogHeader {
    pub(crate) fn encode(self) -> [u8; SECTOR] {
        let mut raw = [0; SECTOR];
        raw[..8].copy_from_slice(LOG_MAGIC);
        raw[8..16].copy_from_slice(&self.id.to_le_bytes());
        raw[16..24].copy_from_slice(&self.after.to_le_bytes());
        let sum = crc32fast::hash(&raw[..24]);
        raw[24..28].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    /// `None` if this is no header, or a torn one.
    pub(crate) fn decode(raw: &[u8]) -> Option<Self> {
        let mut read = Reader(raw);
        let magic = read.take(8)?;
        let (id, after) = (read.u64()?, read.u64()?);
        (magic == LOG_MAGIC && read.u32()? == crc32fast::hash(&raw[..24])).then_some(Self { id, after })
    }
}

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The log that it belongs to.
    pub(crate) log: u64,
    /// Revision of its first commit.
    pub(crate) first: Revision,
    /// Bytes of its commits.
    pub(crate) length: usize,
    sum: u32,
}

impl FrameHeader {
    /// `None` if this is no header, or a damaged one.
    pub(crate) fn decode(raw: &[u8]) -> Option<Self> {
        let mut read = Reader(raw);
        let (magic, own) = (read.take(4)?, read.u32()?);
        let (log, first, length, sum) = (read.u64()?, read.u64()?, read.u32()?, read.u32()?);
        let whole = magic == FRAME_MAGIC && own == crc32fast::hash(&raw[8..FRAME_HEADER]);
        whole.then_some(Self { log, first, length: length as usize, sum })
    }

    /// Whether these are the commits that the header was written for.
    pub(crate) fn fits(&self, commits: &[u8]) -> bool {
        commits.len() == self.length && crc32fast::hash(commits) == self.sum
    }
}

/// A frame in the making; reused from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    raw: Vec<u8>,
}

impl Frame {
    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.raw.resize(FRAME_HEADER, 0);
    }

    /// Begins a commit of so many changes.
    pub(crate) fn commit(&mut self, revision: Revision, changes: usize) {
        self.raw.extend_from_slice(&revision.to_le_bytes());
        self.raw.extend_from_slice(&(changes as u32).to_le_bytes());
    }

    /// Adds a change to the commit that was begun: what a key came to. Answers where in the frame its value lies.
    pub(crate) fn change(&mut self, key: &str, value: Option<(Revision, &[u8])>, expiry: Mark) -> u64 {
        let (kind, at, ttl) = match expiry {
            Mark::Untouched => (0, 0, 0),
            Mark::Cleared => (1, 0, 0),
            Mark::At(at, ttl) => (2, at, ttl),
        };
        let present = if value.is_some() { 4 } else { 0 };
        let (created, value) = value.unwrap_or_default();
        self.raw.push(kind | present);
        self.raw.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&created.to_le_bytes());
        if kind == 2 {
            self.raw.extend_from_slice(&at.to_le_bytes());
            self.raw.extend_from_slice(&ttl.to_le_bytes());
        }
        self.raw.extend_from_slice(key.as_bytes());
        let at = self.raw.len() as u64;
        self.raw.extend_from_slice(value);
        at
    }

    /// The frame as it is written to the log, padded to whole sectors.
    pub(crate) fn seal(&mut self, log: u64, first: Revision) -> &[u8] {
        let length = (self.raw.len() - FRAME_HEADER) as u32;
        let sum = crc32fast::hash(&self.raw[FRAME_HEADER..]);
        self.raw.resize(self.raw.len().next_multiple_of(SECTOR), 0);
        let header = &mut self.raw[..FRAME_HEADER];
        header[..4].copy_from_slice(FRAME_MAGIC);
        header[8..16].copy_from_slice(&log.to_le_bytes());
        header[16..24].copy_from_slice(&first.to_le_bytes());
        header[24..28].copy_from_slice(&length.to_le_bytes());
        header[28..32].copy_from_slice(&sum.to_le_bytes());
        let own = crc32fast::hash(&header[8..]);
        header[4..8].copy_from_slice(&own.to_le_bytes());
        &self.raw
    }
}

/// A commit as the log has it: its revision, and the entries of the keys that it changed.
pub(crate) type Logged = (Revision, Vec<(String, Entry)>);

/// The commits of a frame, which lie at this place of a log's file; `None` if they are not what this version writes.
pub(crate) fn commits(raw: &[u8], slot: &Arc<Slot>, at: u64) -> Option<Vec<Logged>> {
    let mut read = Reader(raw);
    let mut commits = Vec::new();
    while !read.0.is_empty() {
        let (revision, count) = (read.u64()?, read.u32()?);
        let change = |_| {
            let change = read.change()?;
            let value_at = at + (raw.len() - read.0.len() - change.value.len()) as u64;
            let bytes = Place::of(Bytes::copy_from_slice(change.value), slot, value_at);
            let value = change.present.then_some(Value { bytes, revision, created: change.created });
            Some((change.key.to_owned(), Entry { value, expiry: change.expiry }))
        };
        commits.push((revision, (0..count).map(change).collect::<Option<Vec<_>>>()?));
    }
    Some(commits)
}

/// A change as it lies in a frame.
#[derive(Debug, PartialEq, Eq)]
struct RawChange<'a> {
    key: &'a str,
    present: bool,
    value: &'a [u8],
    created: Revision,
    expiry: Mark,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn change(&mut self) -> Option<RawChange<'a>> {
        let flags = self.take(1)?[0];
        let (key, value, created) = (self.u32()? as usize, self.u32()? as usize, self.u64()?);
        let expiry = match flags & 3 {
            0 => Mark::Untouched,
            1 => Mark::Cleared,
            2 => Mark::At(self.u64()?.cast_signed(), self.u64()?),
            _ => return None,
        };
        let key = std::str::from_utf8(self.take(key)?).ok()?;
        Some(RawChange { key, present: flags & 4 != 0, value: self.take(value)?, created, expiry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let changes = [
            ("/a", Some((3, &b"x"[..])), Mark::Untouched),
            ("/b", None, Mark::Cleared),
            ("/c", Some((8, &b""[..])), Mark::At(-5, 1000)),
        ];
        let mut frame = Frame::default();
        frame.clear();
        frame.commit(8, changes.len());
        let places: Vec<_> = changes.iter().map(|(key, value, expiry)| frame.change(key, *value, *expiry)).collect();
        let raw = frame.seal(2, 8).to_vec();
        assert_eq!(raw.len() % SECTOR, 0);
        assert_eq!(raw[places[0] as usize], b'x');
        let header = FrameHeader::decode(&raw).expect("the header is whole");
        assert_eq!((header.log, header.first), (2, 8));
        let payload = &raw[FRAME_HEADER..FRAME_HEADER + header.length];
        assert!(header.fits(payload));
        let mut read = Reader(payload);
        assert_eq!((read.u64(), read.u32()), (Some(8), Some(3)));
        for (key, value, expiry) in changes {
            let (created, bytes) = value.unwrap_or_default();
            let change = RawChange { key, present: value.is_some(), value: bytes, created, expiry };
            assert_eq!(read.change(), Some(change));
        }
        assert_eq!((read.0.len(), Reader(&payload[payload.len() - 8..]).change()), (0, None));
        let mut flipped = payload.to_vec();
        flipped[20] ^= 1;
        assert!(!header.fits(&flipped));
        assert_eq!(LogHeader::decode(&LogHeader { id: 3, after: 9 }.encode()), Some(LogHeader { id: 3, after: 9 }));
        assert_eq!(LogHeader::decode(&[0; SECTOR]), None);
    }
}
