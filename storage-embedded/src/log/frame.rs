//! How the log's bytes lie: a header for the log, then frames, each the commits of one sync.
//!
//! All begins at multiples of 512 bytes, so that no write touches a sector that holds something acknowledged, and so that
//! frames behind a damaged one can be found. Numbers are little-endian. A frame is told from what an earlier use of the
//! file left by the log's number, and from what was torn by its checksums.

use bytes::Bytes;
use longshore_core::store::Revision;

use crate::overlay::{Entry, Mark, Value};

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

    /// Adds a change to the commit that was begun.
    pub(crate) fn change(&mut self, key: &str, entry: &Entry) {
        let (kind, at, ttl) = match entry.expiry {
            Mark::Untouched => (0, 0, 0),
            Mark::Cleared => (1, 0, 0),
            Mark::At(at, ttl) => (2, at, ttl),
        };
        let (present, created, value) = match &entry.value {
            Some(value) => (4, value.created, value.bytes.as_ref()),
            None => (0, 0, [].as_slice()),
        };
        self.raw.push(kind | present);
        self.raw.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&created.to_le_bytes());
        if kind == 2 {
            self.raw.extend_from_slice(&at.to_le_bytes());
            self.raw.extend_from_slice(&ttl.to_le_bytes());
        }
        self.raw.extend_from_slice(key.as_bytes());
        self.raw.extend_from_slice(value);
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

/// The commits of a frame; `None` if it does not hold what this version writes.
pub(crate) fn commits(raw: &[u8]) -> Option<Vec<Logged>> {
    let mut read = Reader(raw);
    let mut commits = Vec::new();
    while !read.0.is_empty() {
        let (revision, count) = (read.u64()?, read.u32()?);
        let changes = (0..count).map(|_| read.change(revision)).collect::<Option<Vec<_>>>()?;
        commits.push((revision, changes));
    }
    Some(commits)
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

    fn change(&mut self, revision: Revision) -> Option<(String, Entry)> {
        let flags = self.take(1)?[0];
        let (key, value, created) = (self.u32()? as usize, self.u32()? as usize, self.u64()?);
        let expiry = match flags & 3 {
            0 => Mark::Untouched,
            1 => Mark::Cleared,
            2 => Mark::At(self.u64()?.cast_signed(), self.u64()?),
            _ => return None,
        };
        let key = std::str::from_utf8(self.take(key)?).ok()?.to_owned();
        let bytes = Bytes::copy_from_slice(self.take(value)?);
        let value = (flags & 4 != 0).then_some(Value { bytes, revision, created });
        Some((key, Entry { value, expiry }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let value = |bytes: &'static [u8], created| Some(Value { bytes: bytes.into(), revision: 8, created });
        let entries = [
            ("/a".to_owned(), Entry { value: value(b"x", 3), expiry: Mark::Untouched }),
            ("/b".to_owned(), Entry { value: None, expiry: Mark::Cleared }),
            ("/c".to_owned(), Entry { value: value(b"", 8), expiry: Mark::At(-5, 1000) }),
        ];
        let mut frame = Frame::default();
        frame.clear();
        frame.commit(8, entries.len());
        for (key, entry) in &entries {
            frame.change(key, entry);
        }
        let raw = frame.seal(2, 8).to_vec();
        assert_eq!(raw.len() % SECTOR, 0);
        let header = FrameHeader::decode(&raw).expect("the header is whole");
        assert_eq!((header.log, header.first), (2, 8));
        let payload = &raw[FRAME_HEADER..FRAME_HEADER + header.length];
        assert!(header.fits(payload));
        assert_eq!(commits(payload), Some(vec![(8, entries.to_vec())]));
        assert_eq!(commits(&payload[..payload.len() - 1]), None);
        let mut flipped = payload.to_vec();
        flipped[20] ^= 1;
        assert!(!header.fits(&flipped));
        assert_eq!(LogHeader::decode(&LogHeader { id: 3, after: 9 }.encode()), Some(LogHeader { id: 3, after: 9 }));
        assert_eq!(LogHeader::decode(&[0; SECTOR]), None);
    }
}
