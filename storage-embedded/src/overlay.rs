//! What the logs have and the file has not yet: the latest entry of each key that changed, and which log it is in.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use longshore_core::store::{KeyValue, Revision};

use crate::log::Slot;

/// A key's latest state.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// `None` if the key was deleted.
    pub(crate) value: Option<Value>,
    pub(crate) expiry: Mark,
}

/// A value with its place in history.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) bytes: Place,
    pub(crate) revision: Revision,
    pub(crate) created: Revision,
}

/// Where a value is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Memory(Bytes),
    /// In a log's file, which is not used again while this is there.
    Log {
        slot: Arc<Slot>,
        at: u64,
        length: usize,
    },
}

/// Values of more bytes than this are read from the log when they are needed.
pub(crate) const MEMORY_BYTES_MAX: usize = 2048;

/// About what an entry takes in memory besides its key and value.
const ENTRY_BYTES: usize = 128;

/// What becomes of a key's row in the table of those that expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// There is none, before and after.
    Untouched,
    /// There may be one, which goes.
    Cleared,
    /// When the key runs out, in milliseconds since 1970, and the time to live that was given, in milliseconds.
    At(i64, u64),
}

impl Place {
    /// The place of bytes that lie in a log as well.
    pub(crate) fn of(bytes: Bytes, slot: &Arc<Slot>, at: u64) -> Self {
        match bytes.len() {
            length if length > MEMORY_BYTES_MAX => Self::Log { slot: Arc::clone(slot), at, length },
            _ => Self::Memory(bytes),
        }
    }

    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::Log { slot, at, length } => slot.read(*at, *length).map(Bytes::from),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Log { length, .. } => *length,
        }
    }
}

impl Value {
    pub(crate) fn at(&self, key: &str) -> io::Result<KeyValue> {
        let (value, revision, created) = (self.bytes.read()?, self.revision, self.created);
        Ok(KeyValue { key: key.to_owned(), value, revision, created })
    }
}

impl From<KeyValue> for Value {
    fn from(known: KeyValue) -> Self {
        Self { bytes: Place::Memory(known.value), revision: known.revision, created: known.created }
    }
}

impl Entry {
    pub(crate) fn at(&self, key: &str) -> io::Result<Option<KeyValue>> {
        self.value.as_ref().map(|value| value.at(key)).transpose()
    }

    /// The revision of its value, if it has one.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.value.as_ref().map(|value| value.revision)
    }

    /// Bytes of key and value.
    fn bytes(&self, key: &str) -> u64 {
        (key.len() + self.value.as_ref().map_or(0, |value| value.bytes.len())) as u64
    }

    fn memory(&self, key: &str) -> usize {
        let value = match &self.value {
            Some(Value { bytes: Place::Memory(bytes), .. }) => bytes.len(),
            _ => 0,
        };
        ENTRY_BYTES + key.len() + value
    }
}

/// Entries by key, in order, each with the number of the log that it is in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    entries: BTreeMap<String, (u64, Entry)>,
    memory: usize,
    /// Bytes of each log's entries that are here.
    live: BTreeMap<u64, u64>,
}

/// The part of an overlay that a listing needs.
pub(crate) struct Part {
    pub(crate) entries: Vec<(String, Option<Value>)>,
    /// The overlay was not looked at beyond this key.
    pub(crate) until: Option<String>,
}

impl Overlay {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key).map(|(_, entry)| entry)
    }

    /// Lays an entry, which is in this log, over what is there.
    pub(crate) fn lay(&mut self, key: String, log: u64, mut entry: Entry) {
        self.memory += entry.memory(&key);
        *self.live.entry(log).or_default() += entry.bytes(&key);
        // Most keys are there already, and need not be allocated anew.
        match self.entries.get_mut(&key) {
            Some(below) => {
                if entry.expiry == Mark::Untouched {
                    entry.expiry = below.1.expiry;
                }
                let (before, was) = std::mem::replace(below, (log, entry));
                self.forget(&key, before, &was);
            }
            None => {
                self.entries.insert(key, (log, entry));
            }
        }
    }

    fn forget(&mut self, key: &str, log: u64, entry: &Entry) {
        self.memory -= entry.memory(key);
        if let Some(live) = self.live.get_mut(&log) {
            *live -= entry.bytes(key);
        }
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes of this log that count: its entries that no later ones cover.
    pub(crate) fn live(&self, log: u64) -> u64 {
        self.live.get(&log).copied().unwrap_or(0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().map(|(key, (_, entry))| (key, entry))
    }

    /// Of the next so many entries after a key those that are in logs up to this one, and the last key that was looked at
    /// (`None`: there are no more).
    pub(crate) fn until_log(
        &self,
        log: u64,
        after: Option<&str>,
        count: usize,
    ) -> (Vec<(String, Entry)>, Option<String>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut found, mut last, mut left) = (Vec::new(), None, count);
        for (key, (at, entry)) in self.entries.range::<str, _>((start, Bound::Unbounded)) {
            if left == 0 {
                return (found, last);
            }
            left -= 1;
            if *at <= log {
                found.push((key.clone(), entry.clone()));
            }
            if left == 0 {
                last = Some(key.clone());
            }
        }
        (found, None)
    }

    /// Removes those of these keys whose entries are in logs up to this one.
    pub(crate) fn remove<'a>(&mut self, log: u64, keys: impl Iterator<Item = &'a String>) {
        for key in keys {
            if self.entries.get(key).is_some_and(|(at, _)| *at <= log)
                && let Some((at, entry)) = self.entries.remove(key)
            {
                self.forget(key, at, &entry);
            }
        }
        self.live.retain(|at, live| *at > log || *live > 0);
    }

    /// The entries under a prefix after a key, up to `live` keys that exist and one more.
    pub(crate) fn part(&self, prefix: &str, after: Option<&str>, live: usize) -> Part {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut part = Part { entries: Vec::new(), until: None };
        let mut found = 0;
        for (key, (_, entry)) in self.entries.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            if found > live {
                part.until = part.entries.last().map(|(key, _): &(String, _)| key.clone());
                break;
            }
            found += usize::from(entry.value.is_some());
            part.entries.push((key.clone(), entry.value.clone()));
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: &'static str, expiry: Mark) -> Entry {
        Entry { value: Some(Value { bytes: Place::Memory(bytes.into()), revision: 2, created: 2 }), expiry }
    }

    #[test]
    fn what_is_covered_by_a_later_log_counts_no_more_for_the_earlier() {
        let mut overlay = Overlay::default();
        overlay.lay("/a".into(), 1, entry("four", Mark::At(1, 1)));
        overlay.lay("/b".into(), 1, entry("four", Mark::Untouched));
        assert_eq!((overlay.live(1), overlay.live(2)), (12, 0));
        overlay.lay("/a".into(), 2, entry("", Mark::Untouched));
        assert_eq!((overlay.live(1), overlay.live(2)), (6, 2));
        assert_eq!(overlay.get("/a").map(|entry| entry.expiry), Some(Mark::At(1, 1)), "the file may have a row");
        let (first, last) = overlay.until_log(1, None, 1);
        assert_eq!((first.len(), last.as_deref()), (0, Some("/a")));
        let (second, last) = overlay.until_log(1, last.as_deref(), 1);
        assert_eq!((second.len(), second[0].0.as_str(), last), (1, "/b", None));
        overlay.remove(1, ["/a".to_owned(), "/b".to_owned()].iter());
        assert_eq!((overlay.live(1), overlay.live(2), overlay.iter().count()), (0, 2, 1));
        assert_eq!(overlay.memory(), ENTRY_BYTES + 2);
    }
}
