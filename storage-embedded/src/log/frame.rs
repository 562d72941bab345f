//! How the log's bytes lie: a header for the log, then frames, each the commits of one sync.
//!
//! All begins at multiples of 512 bytes, so that no write touches a sector that holds something acknowledged, and so that
//! frames behind a damaged one can be found. Numbers are little-endian. A frame is told from what an earlier use of the
//! file left by the log's number, and from what was torn by its checksums.

use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
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

/// Values of at least so many bytes are written from where they are, rather than copied first.
const APART_MIN: usize = 16 << 10;

/// A value that is put, and the checksum of its bytes if that was worked out already.
#[derive(Debug, Clone)]
pub(crate) struct Summed {
    pub(crate) bytes: Bytes,
    pub(crate) sum: Option<Hasher>,
}

/// The checksum of a value that is large enough for it to be of use.
pub(crate) fn sum_if_large(bytes: &[u8]) -> Option<Hasher> {
    (bytes.len() >= APART_MIN).then(|| sum(bytes))
}

fn sum(bytes: &[u8]) -> Hasher {
    let mut sum = Hasher::new();
    sum.update(bytes);
    sum
}

/// A frame in the making; reused from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// All of it but for large values.
    raw: Vec<u8>,
    /// Large values, in order, each with the place in `raw` before which it comes and its checksum.
    apart: Vec<(usize, Bytes, Hasher)>,
    apart_bytes: usize,
}

impl Frame {
    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.raw.resize(FRAME_HEADER, 0);
        self.apart.clear();
        self.apart_bytes = 0;
    }

    /// Begins a commit of so many changes.
    pub(crate) fn commit(&mut self, revision: Revision, changes: usize) {
        self.raw.extend_from_slice(&revision.to_le_bytes());
        self.raw.extend_from_slice(&(changes as u32).to_le_bytes());
    }

    /// Adds a change to the commit that was begun: what a key came to. Answers where in the frame its value lies.
    pub(crate) fn change(&mut self, key: &str, value: Option<(Revision, &Summed)>, expiry: Mark) -> u64 {
        let (kind, at, ttl) = match expiry {
            Mark::Untouched => (0, 0, 0),
            Mark::Cleared => (1, 0, 0),
            Mark::At(at, ttl) => (2, at, ttl),
        };
        let present = if value.is_some() { 4 } else { 0 };
        let nothing = Summed { bytes: Bytes::new(), sum: None };
        let (created, Summed { bytes: value, sum: known }) = value.unwrap_or((0, &nothing));
        self.raw.push(kind | present);
        self.raw.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(&created.to_le_bytes());
        if kind == 2 {
            self.raw.extend_from_slice(&at.to_le_bytes());
            self.raw.extend_from_slice(&ttl.to_le_bytes());
        }
        self.raw.extend_from_slice(key.as_bytes());
        let at = self.len();
        if value.len() < APART_MIN {
            self.raw.extend_from_slice(value);
        } else {
            let sum = known.clone().unwrap_or_else(|| sum(value));
            self.apart.push((self.raw.len(), value.clone(), sum));
            self.apart_bytes += value.len();
        }
        at as u64
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.raw.len() + self.apart_bytes
    }

    /// The parts of the frame as they lie one behind the other in the log, once it is [sealed](Frame::seal).
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let parts = self.apart.iter().flat_map(move |(until, value, _)| {
            let before = &self.raw[std::mem::replace(&mut from, *until)..*until];
            [before, &**value]
        });
        let last = self.apart.last().map_or(0, |(until, ..)| *until);
        parts.chain([&self.raw[last..]])
    }

    /// Makes the frame whole: with its header, and padded to whole sectors.
    pub(crate) fn seal(&mut self, log: u64, first: Revision) {
        let length = (self.len() - FRAME_HEADER) as u32;
        let (mut sum, mut from) = (Hasher::new(), FRAME_HEADER);
        for (until, _, of_value) in &self.apart {
            sum.update(&self.raw[std::mem::replace(&mut from, *until)..*until]);
            sum.combine(of_value);
        }
        sum.update(&self.raw[from..]);
        let sum = sum.finalize();
        let padding = self.len().next_multiple_of(SECTOR) - self.len();
        self.raw.resize(self.raw.len() + padding, 0);
        let header = &mut self.raw[..FRAME_HEADER];
        header[..4].copy_from_slice(FRAME_MAGIC);
        header[8..16].copy_from_slice(&log.to_le_bytes());
        header[16..24].copy_from_slice(&first.to_le_bytes());
        header[24..28].copy_from_slice(&length.to_le_bytes());
        header[28..32].copy_from_slice(&sum.to_le_bytes());
        let own = crc32fast::hash(&header[8..]);
        header[4..8].copy_from_slice(&own.to_le_bytes());
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
        let summed = |bytes: Vec<u8>| Summed { sum: sum_if_large(&bytes), bytes: bytes.into() };
        let (small, large, empty) = (summed(vec![b'x']), summed(vec![b'y'; APART_MIN]), summed(Vec::new()));
        let unsummed = Summed { bytes: large.bytes.clone(), sum: None };
        let changes = [
            ("/a", Some((3, &small)), Mark::Untouched),
            ("/b", None, Mark::Cleared),
            ("/c", Some((8, &empty)), Mark::At(-5, 1000)),
            ("/d", Some((4, &large)), Mark::Untouched),
            ("/e", Some((4, &unsummed)), Mark::Cleared),
            ("/f", Some((3, &small)), Mark::Untouched),
        ];
        let mut frame = Frame::default();
        frame.clear();
        frame.commit(8, changes.len());
        let places: Vec<_> = changes.iter().map(|(key, value, expiry)| frame.change(key, *value, *expiry)).collect();
        frame.seal(2, 8);
        let raw: Vec<u8> = frame.parts().flatten().copied().collect();
        assert_eq!((raw.len() % SECTOR, raw.len()), (0, frame.len()));
        assert_eq!(frame.parts().filter(|part| part.len() == APART_MIN).count(), 2, "they were not copied");
        for ((_, value, _), place) in changes.iter().zip(places) {
            let value = value.map(|(_, value)| value.bytes.clone()).unwrap_or_default();
            assert_eq!(raw[place as usize..place as usize + value.len()], value);
        }
        let header = FrameHeader::decode(&raw).expect("the header is whole");
        assert_eq!((header.log, header.first), (2, 8));
        let payload = &raw[FRAME_HEADER..FRAME_HEADER + header.length];
        assert!(header.fits(payload));
        let mut read = Reader(payload);
        assert_eq!((read.u64(), read.u32()), (Some(8), Some(6)));
        for (key, value, expiry) in changes {
            let (created, summed) = value.unwrap_or((0, &empty));
            let change = RawChange { key, present: value.is_some(), value: &summed.bytes, created, expiry };
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
