//! What readers see: the file, what the log has beyond it, and the past that lists at a revision ask for.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use longshore_core::store::{Commit, Error, History, KeyValue, ListOptions, Operation, Page, Revision, Transaction};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::base::{EXPIRY, KEYS, Stored};
use crate::overlay::{Entry, MEMORY_BYTES_MAX, Overlay, Value};

/// The file as of one revision. Pages of it that are needed are kept while this lives.
pub(crate) struct Snapshot {
    keys: ReadOnlyTable<&'static str, &'static [u8]>,
    expiry: ReadOnlyTable<&'static str, (i64, u64)>,
    pub(crate) revision: Revision,
    /// Counts how often the file was opened.
    pub(crate) generation: u64,
}

impl Snapshot {
    pub(crate) fn take(database: &Database, revision: Revision, generation: u64) -> Result<Self, redb::Error> {
        let read = database.begin_read()?;
        Ok(Self { keys: read.open_table(KEYS)?, expiry: read.open_table(EXPIRY)?, revision, generation })
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<KeyValue>, redb::Error> {
        self.get_knowing(key, None)
    }

    /// Reads a key of which the caller has a value that may be the one.
    fn get_knowing(&self, key: &str, known: Option<&KeyValue>) -> Result<Option<KeyValue>, redb::Error> {
        let found = ReadableTable::get(&self.keys, key)?;
        let read = |raw: &[u8]| {
            let stored = Stored::decode(raw)?;
            Ok(known.filter(|known| known.revision == stored.revision).cloned().unwrap_or_else(|| stored.at(key)))
        };
        found.map(|raw| read(raw.value())).transpose()
    }

    pub(crate) fn count(&self) -> Result<u64, redb::Error> {
        Ok(self.keys.len()?)
    }

    pub(crate) fn keys(&self) -> &ReadOnlyTable<&'static str, &'static [u8]> {
        &self.keys
    }

    pub(crate) fn expiry(&self) -> &ReadOnlyTable<&'static str, (i64, u64)> {
        &self.expiry
    }
}

/// Everything as of the last published revision.
struct Current {
    base: Arc<Snapshot>,
    /// What the file does not have, or not so.
    recent: Overlay,
    revision: Revision,
    keys: u64,
}

/// What readers share with the writer; clones are the same.
#[derive(Clone)]
pub(crate) struct Published {
    current: Arc<RwLock<Option<Current>>>,
}

impl Published {
    /// What is published when a store opens: the file, and what a replay of the log found.
    pub(crate) fn new(base: Snapshot, recent: Overlay, revision: Revision, keys: u64) -> Self {
        let base = Arc::new(base);
        Self { current: Arc::new(RwLock::new(Some(Current { base, recent, revision, keys }))) }
    }

    /// The revision, and the number of keys.
    pub(crate) fn status(&self) -> Result<(Revision, u64), Error> {
        let current = self.read();
        let current = current.as_ref().ok_or(Error::Closed)?;
        Ok((current.revision, current.keys))
    }

    /// Reads a key. The outer error is the store's; the inner one is the file's, with the generation that failed.
    pub(crate) fn get(&self, key: &str) -> Result<(Revision, Result<Option<KeyValue>, Failed>), Error> {
        self.get_knowing(key, None)
    }

    /// Reads a key of which the caller has a value that may still be the one; then its bytes are not read again.
    pub(crate) fn get_knowing(
        &self,
        key: &str,
        known: Option<&KeyValue>,
    ) -> Result<(Revision, Result<Option<KeyValue>, Failed>), Error> {
        let (base, entry, revision) = {
            let current = self.read();
            let current = current.as_ref().ok_or(Error::Closed)?;
            (Arc::clone(&current.base), current.recent.get(key).cloned(), current.revision)
        };
        let found = match entry {
            Some(entry) => match known.filter(|known| entry.revision() == Some(known.revision)) {
                Some(known) => Ok(Some(known.clone())),
                None => entry.at(key).map_err(redb::Error::Io),
            },
            None => base.get_knowing(key, known),
        };
        Ok((revision, found.map_err(|error| Failed { error, generation: base.generation })))
    }

    /// The large values that a transaction is probably to replace by such, as far as they can be read.
    pub(crate) fn known(&self, transaction: &Transaction) -> Vec<KeyValue> {
        let large = |operation: &Operation| match operation {
            Operation::Put { key, value, .. } if value.len() > MEMORY_BYTES_MAX => self.get(key).ok()?.1.ok()?,
            _ => None,
        };
        transaction.operations.iter().filter_map(large).collect()
    }

    /// Publishes commits with the entries that they come to, which are in this log.
    pub(crate) fn publish(
        &self,
        history: &History,
        commits: Vec<Commit>,
        log: u64,
        entries: impl Iterator<Item = (String, Entry)>,
    ) {
        let mut current = self.write();
        if let Some(current) = current.as_mut() {
            for change in commits.iter().flat_map(|commit| &commit.changes) {
                match (&change.previous, &change.value) {
                    (None, Some(_)) => current.keys += 1,
                    (Some(_), None) => current.keys = current.keys.saturating_sub(1),
                    _ => {}
                }
            }
            for (key, entry) in entries {
                current.recent.lay(key, log, entry);
            }
            current.revision = commits.last().map_or(current.revision, |commit| commit.revision);
        }
        // Under the lock, so that readers see keys and history at the same revision.
        history.publish(commits);
    }

    /// The entries in logs up to this one, as they are found while others are published.
    ///
    /// None can come meanwhile, for these logs are written no more; one that goes was covered by a later log.
    pub(crate) fn until_log(&self, log: u64, step: usize) -> Result<Vec<(String, Entry)>, Error> {
        let (mut entries, mut last) = (Vec::new(), None);
        loop {
            let current = self.read();
            let recent = &current.as_ref().ok_or(Error::Closed)?.recent;
            let (found, next) = recent.until_log(log, last.as_deref(), step);
            entries.extend(found);
            last = next;
            if last.is_none() {
                return Ok(entries);
            }
        }
    }

    /// Goes on without those of these entries in logs up to this one that are there still: the file has them.
    pub(crate) fn forget<'a>(&self, log: u64, keys: impl Iterator<Item = &'a String>) {
        if let Some(current) = self.write().as_mut() {
            current.recent.remove(log, keys);
        }
    }

    /// Goes on with the file as it is now.
    pub(crate) fn rebase(&self, base: Snapshot) {
        let mut current = self.write();
        let Some(current) = current.as_mut() else { return };
        let old = std::mem::replace(&mut current.base, Arc::new(base));
        drop(old);
    }

    /// How large what the file does not have is, in bytes of memory, and how much of each of these logs counts, in bytes.
    pub(crate) fn weigh(&self, logs: impl Iterator<Item = u64>) -> (usize, Vec<u64>) {
        let current = self.read();
        let Some(current) = current.as_ref() else { return (0, Vec::new()) };
        (current.recent.memory(), logs.map(|log| current.recent.live(log)).collect())
    }

    /// From now on there is nothing to see.
    pub(crate) fn close(&self) {
        let old = self.write().take();
        drop(old);
    }

    /// All that there is at this moment: the file with what is to be laid over it, in order.
    pub(crate) fn all(&self) -> Result<(Arc<Snapshot>, Overlay, Revision), Error> {
        let current = self.read();
        let current = current.as_ref().ok_or(Error::Closed)?;
        Ok((Arc::clone(&current.base), current.recent.clone(), current.revision))
    }

    /// Begins a listing. If `whole`, all that may be needed is taken at once; else what most probably is.
    pub(crate) fn list(
        &self,
        history: &History,
        prefix: &str,
        options: &ListOptions,
        whole: bool,
    ) -> Result<Listing, Error> {
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let live = if whole { usize::MAX } else { limit };
        let after = options.after.as_deref();
        // The lock is held until the past is taken, so that it begins where the present ends.
        let (base, recent, past, revision) = {
            let current = self.read();
            let current = current.as_ref().ok_or(Error::Closed)?;
            let revision = options.revision.unwrap_or(current.revision);
            let past = history.overlay(prefix, revision, current.revision)?;
            (Arc::clone(&current.base), current.recent.part(prefix, after, live), past, revision)
        };
        let until = recent.until;
        let mut overlay: BTreeMap<_, _> = recent.entries.into_iter().collect();
        let past = past.into_iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        overlay.extend(past.map(|(key, was)| (key, was.map(Value::from))));
        if let Some(until) = &until {
            overlay.retain(|key, _| key <= until);
        }
        let last = options.after.clone().filter(|after| after.as_str() >= prefix);
        Ok(Listing {
            base,
            prefix: prefix.to_owned(),
            limit,
            overlay: overlay.into_iter().peekable(),
            until,
            last,
            page: Page { entries: Vec::new(), more: false, remaining: Some(0), revision },
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Current>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Published {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Published").finish_non_exhaustive()
    }
}

/// A read of the file that failed, and which opening of it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: redb::Error,
    pub(crate) generation: u64,
}

/// How far a listing is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to look at.
    More,
    /// The page is complete.
    Complete,
    /// More is needed than was taken: begin again, and take all.
    TakeAll,
}

/// A listing in the making, step by step so that a long one gives way to others.
pub(crate) struct Listing {
    pub(crate) base: Arc<Snapshot>,
    prefix: String,
    limit: usize,
    /// What keys hold at the revision asked for that the file does not have, or not so.
    overlay: Peekable<btree_map::IntoIter<String, Option<Value>>>,
    /// Beyond this key the overlay is not complete.
    until: Option<String>,
    /// The last key that was looked at.
    last: Option<String>,
    pub(crate) page: Page,
}

impl Listing {
    /// Looks at so many more keys of the file.
    pub(crate) fn step(&mut self, keys: usize) -> Result<Step, redb::Error> {
        let start = match &self.last {
            Some(last) => Bound::Excluded(last.as_str()),
            None => Bound::Included(self.prefix.as_str()),
        };
        let base = Arc::clone(&self.base);
        let mut range = ReadableTable::range::<&str>(&base.keys, (start, Bound::Unbounded))?;
        for _ in 0..keys {
            let Some((key, raw)) = range.next().transpose()?.filter(|(key, _)| key.value().starts_with(&self.prefix))
            else {
                let full = self.overlay_before(None)?;
                return Ok(if full || self.until.is_none() { Step::Complete } else { Step::TakeAll });
            };
            let key = key.value();
            if self.overlay_before(Some(key))? {
                return Ok(Step::Complete);
            }
            if self.until.as_ref().is_some_and(|until| key > until.as_str()) {
                return Ok(Step::TakeAll);
            }
            let full = match self.overlay.next_if(|(changed, _)| changed == key) {
                Some((_, None)) => false,
                Some((_, Some(value))) => self.add(|| Ok(value.at(key)?))?,
                None => self.add(|| Ok(Stored::decode(raw.value())?.at(key)))?,
            };
            if full {
                return Ok(Step::Complete);
            }
            self.last = Some(key.to_owned());
        }
        Ok(Step::More)
    }

    /// Adds what the overlay holds before the key (or to the end); answers whether the page is complete.
    fn overlay_before(&mut self, key: Option<&str>) -> Result<bool, redb::Error> {
        while let Some((changed, value)) =
            self.overlay.next_if(|(changed, _)| key.is_none_or(|key| changed.as_str() < key))
        {
            if let Some(value) = value
                && self.add(|| Ok(value.at(&changed)?))?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds an entry, unless the page is full; answers whether it is.
    fn add(&mut self, entry: impl FnOnce() -> Result<KeyValue, redb::Error>) -> Result<bool, redb::Error> {
        if self.page.entries.len() == self.limit {
            self.page.more = true;
            // Counting the rest would read all of it.
            self.page.remaining = None;
            return Ok(true);
        }
        self.page.entries.push(entry()?);
        Ok(false)
    }
}
