//! What readers see: the file as of the last published revision.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use longshore_core::store::{Error, History, KeyValue, ListOptions, Page, Revision};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::disk::{KEYS, Stored};

/// The keys as of one revision. Pages of the file that it needs are kept while it lives.
pub(crate) struct Snapshot {
    keys: ReadOnlyTable<&'static str, &'static [u8]>,
    pub(crate) revision: Revision,
    /// Counts how often the file was opened.
    pub(crate) generation: u64,
}

impl Snapshot {
    pub(crate) fn take(database: &Database, revision: Revision, generation: u64) -> Result<Self, redb::Error> {
        Ok(Self { keys: database.begin_read()?.open_table(KEYS)?, revision, generation })
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<KeyValue>, redb::Error> {
        let found = ReadableTable::get(&self.keys, key)?;
        found.map(|raw| Ok(Stored::decode(raw.value())?.at(key))).transpose()
    }

    pub(crate) fn count(&self) -> Result<u64, redb::Error> {
        Ok(self.keys.len()?)
    }
}

/// The current snapshot, and the history that fits it.
#[derive(Clone)]
pub(crate) struct Published {
    current: Arc<RwLock<Option<Arc<Snapshot>>>>,
}

impl Published {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { current: Arc::new(RwLock::new(Some(Arc::new(snapshot)))) }
    }

    pub(crate) fn get(&self) -> Result<Arc<Snapshot>, Error> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or(Error::Closed)
    }

    /// Replaces the snapshot, and does what must be seen together with it.
    pub(crate) fn replace(&self, snapshot: Option<Arc<Snapshot>>, publish: impl FnOnce()) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, snapshot);
        publish();
        drop(current);
        drop(old);
    }

    /// Begins a listing: a snapshot with what must be laid over it to see the revision asked for.
    pub(crate) fn list(&self, history: &History, prefix: &str, options: &ListOptions) -> Result<Listing, Error> {
        // Held until the overlay is taken, so that it begins where the snapshot ends.
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = current.clone().ok_or(Error::Closed)?;
        let revision = options.revision.unwrap_or(snapshot.revision);
        let mut overlay = history.overlay(prefix, revision, snapshot.revision)?;
        if let Some(after) = &options.after {
            overlay.retain(|key, _| key > after);
        }
        let last = options.after.clone().filter(|after| after.as_str() >= prefix);
        Ok(Listing {
            snapshot,
            prefix: prefix.to_owned(),
            limit: if options.limit == 0 { usize::MAX } else { options.limit },
            overlay: overlay.into_iter().peekable(),
            last,
            page: Page { entries: Vec::new(), more: false, remaining: Some(0), revision },
        })
    }
}

impl std::fmt::Debug for Published {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Published").finish_non_exhaustive()
    }
}

/// A listing in the making, step by step so that a long one gives way to others.
pub(crate) struct Listing {
    pub(crate) snapshot: Arc<Snapshot>,
    prefix: String,
    limit: usize,
    /// What changed keys held at the revision asked for.
    overlay: Peekable<btree_map::IntoIter<String, Option<KeyValue>>>,
    /// The last key that was looked at.
    last: Option<String>,
    pub(crate) page: Page,
}

impl Listing {
    /// Looks at so many more keys of the file; answers whether the page is complete.
    pub(crate) fn step(&mut self, keys: usize) -> Result<bool, redb::Error> {
        let start = match &self.last {
            Some(last) => Bound::Excluded(last.as_str()),
            None => Bound::Included(self.prefix.as_str()),
        };
        let snapshot = Arc::clone(&self.snapshot);
        let mut range = ReadableTable::range::<&str>(&snapshot.keys, (start, Bound::Unbounded))?;
        for _ in 0..keys {
            let Some((key, raw)) = range.next().transpose()?.filter(|(key, _)| key.value().starts_with(&self.prefix))
            else {
                self.overlay_before(None);
                return Ok(true);
            };
            let key = key.value();
            if self.overlay_before(Some(key)) {
                return Ok(true);
            }
            let changed = self.overlay.next_if(|(changed, _)| changed == key);
            let entry = match changed {
                Some((_, was)) => was,
                None => Some(Stored::decode(raw.value())?.at(key)),
            };
            if self.add(entry) {
                return Ok(true);
            }
            self.last = Some(key.to_owned());
        }
        Ok(false)
    }

    /// Adds what the overlay holds before the key (or to the end); answers whether the page is complete.
    fn overlay_before(&mut self, key: Option<&str>) -> bool {
        while let Some((_, was)) = self.overlay.next_if(|(changed, _)| key.is_none_or(|key| changed.as_str() < key)) {
            if self.add(was) {
                return true;
            }
        }
        false
    }

    /// Adds an entry, unless the page is full; answers whether it is.
    fn add(&mut self, entry: Option<KeyValue>) -> bool {
        let Some(entry) = entry else { return false };
        if self.page.entries.len() == self.limit {
            self.page.more = true;
            // Counting the rest would read all of it.
            self.page.remaining = None;
            return true;
        }
        self.page.entries.push(entry);
        false
    }
}
