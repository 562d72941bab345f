//! Transactions as they are applied to the file's tables, many in one write.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use longshore_core::clock::Clock;
use longshore_core::store::{Change, Commit, Committed, Deadlines, KeyValue, Operation, Revision, Transaction};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::disk::{EXPIRY, KEYS, META, META_REVISION, Stored};

/// The tables of one write, and what the transactions so far have made of them.
pub(crate) struct Batch<'a> {
    keys: Table<'a, &'static str, &'static [u8]>,
    expiry: Table<'a, &'static str, (i64, u64)>,
    meta: Table<'a, &'static str, u64>,
    clock: &'a dyn Clock,
    deadlines: &'a Deadlines,
    done: Done,
    /// Reused from value to value.
    buffer: Vec<u8>,
}

/// What a batch comes to, once it is written.
#[derive(Debug)]
pub(crate) struct Done {
    /// The revision after it.
    pub(crate) revision: Revision,
    /// Its commits that changed something.
    pub(crate) commits: Vec<Commit>,
    /// Keys whose deadlines it changed, and to what.
    pub(crate) expiries: BTreeMap<String, Option<Duration>>,
}

impl<'a> Batch<'a> {
    pub(crate) fn begin(
        transaction: &'a WriteTransaction,
        revision: Revision,
        clock: &'a dyn Clock,
        deadlines: &'a Deadlines,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            expiry: transaction.open_table(EXPIRY)?,
            meta: transaction.open_table(META)?,
            clock,
            deadlines,
            done: Done { revision, commits: Vec::new(), expiries: BTreeMap::new() },
            buffer: Vec::new(),
        })
    }

    /// Applies one transaction, if its comparisons hold on top of those before it.
    pub(crate) fn apply(&mut self, transaction: &Transaction) -> Result<Committed, redb::Error> {
        for compare in &transaction.compare {
            let current = self.get(&compare.key)?;
            if current.as_ref().map_or(0, |current| current.revision) != compare.revision {
                return Ok(Committed::Conflict { key: compare.key.clone(), current });
            }
        }
        let revision = self.done.revision + 1;
        let mut changes = Vec::with_capacity(transaction.operations.len());
        for operation in &transaction.operations {
            match operation {
                Operation::Put { key, value, ttl } => changes.push(self.put(key, value, *ttl, revision)?),
                Operation::Delete { key } => changes.extend(self.delete(key, revision)?),
            }
        }
        if !changes.is_empty() {
            self.done.revision = revision;
            self.done.commits.push(Commit { revision, changes });
        }
        Ok(Committed::Done(self.done.revision))
    }

    /// Writes the revision and closes the tables.
    pub(crate) fn finish(mut self) -> Result<Done, redb::Error> {
        if !self.done.commits.is_empty() {
            self.meta.insert(META_REVISION, self.done.revision)?;
        }
        Ok(self.done)
    }

    fn get(&self, key: &str) -> Result<Option<KeyValue>, redb::Error> {
        let found = self.keys.get(key)?;
        found.map(|raw| Ok(Stored::decode(raw.value())?.at(key))).transpose()
    }

    fn put(
        &mut self,
        key: &str,
        value: &Bytes,
        ttl: Option<Duration>,
        revision: Revision,
    ) -> Result<Change, redb::Error> {
        let previous = self.get(key)?;
        let created = previous.as_ref().map_or(revision, |previous| previous.created);
        Stored { revision, created, value }.encode(&mut self.buffer);
        self.keys.insert(key, self.buffer.as_slice())?;
        self.set_ttl(key, ttl)?;
        Ok(Change { key: key.to_owned(), value: Some(value.clone()), previous, revision, created })
    }

    fn delete(&mut self, key: &str, revision: Revision) -> Result<Option<Change>, redb::Error> {
        let Some(raw) = self.keys.remove(key)? else { return Ok(None) };
        let previous = Stored::decode(raw.value())?.at(key);
        drop(raw);
        self.set_ttl(key, None)?;
        let created = previous.created;
        Ok(Some(Change { key: key.to_owned(), value: None, previous: Some(previous), revision, created }))
    }

    fn set_ttl(&mut self, key: &str, ttl: Option<Duration>) -> Result<(), redb::Error> {
        // A time to live beyond what a clock can count is forever.
        let deadline = ttl.and_then(|ttl| self.clock.elapsed().checked_add(ttl).map(|deadline| (deadline, ttl)));
        match deadline {
            Some((deadline, ttl)) => {
                let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                let at = self.clock.now().as_millisecond().saturating_add_unsigned(ttl);
                self.expiry.insert(key, (at, ttl))?;
                self.done.expiries.insert(key.to_owned(), Some(deadline));
            }
            None if self.deadlines.contains(key) || self.done.expiries.contains_key(key) => {
                self.expiry.remove(key)?;
                self.done.expiries.insert(key.to_owned(), None);
            }
            None => {}
        }
        Ok(())
    }
}
