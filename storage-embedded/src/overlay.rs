//! What the log has and the file has not yet: the latest entry of each key that changed.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use longshore_core::store::{KeyValue, Revision};

/// A key's latest state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None` if the key was deleted.
    pub(crate) value: Option<Value>,
    pub(crate) expiry: Mark,
}

/// A value with its place in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) bytes: Bytes,
    pub(crate) revision: Revision,
    pub(crate) created: Revision,
}

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

impl Entry {
    pub(crate) fn at(&self, key: &str) -> Option<KeyValue> {
        self.value.as_ref().map(|value| KeyValue {
            key: key.to_owned(),
            value: value.bytes.clone(),
            revision: value.revision,
            created: value.created,
        })
    }
}

/// Entries by key, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    entries: BTreeMap<String, Entry>,
}

/// The part of an overlay that a listing needs.
pub(crate) struct Part {
    pub(crate) entries: Vec<(String, Option<KeyValue>)>,
    /// The overlay was not looked at beyond this key.
    pub(crate) until: Option<String>,
}

impl Overlay {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Lays an entry over what is there.
    pub(crate) fn lay(&mut self, key: String, mut entry: Entry) {
        if entry.expiry == Mark::Untouched
            && let Some(below) = self.entries.get(&key)
        {
            entry.expiry = below.expiry;
        }
        self.entries.insert(key, entry);
    }

    /// Lays all entries of another over what is there.
    pub(crate) fn lay_all(&mut self, other: Self) {
        for (key, entry) in other.entries {
            self.lay(key, entry);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// The entries under a prefix after a key, up to `live` keys that exist and one more.
    pub(crate) fn part(&self, prefix: &str, after: Option<&str>, live: usize) -> Part {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut part = Part { entries: Vec::new(), until: None };
        let mut found = 0;
        for (key, entry) in self.entries.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            if found > live {
                part.until = part.entries.last().map(|(key, _): &(String, _)| key.clone());
                break;
            }
            found += usize::from(entry.value.is_some());
            part.entries.push((key.clone(), entry.at(key)));
        }
        part
    }
}
