//! Transactions as they are applied, many to one frame of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use crc32fast::Hasher;
use longshore_core::clock::Clock;
use longshore_core::store::{Change, Commit, Committed, Deadlines, KeyValue, Operation, Revision, Transaction};

use crate::log::{Appended, Frame, Summed, sum_if_large};
use crate::overlay::{Entry, Mark, Place, Value};
use crate::snapshot::{Failed, Published};

/// A transaction as it comes to the writer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) transaction: Transaction,
    /// By operation: the checksum of the value that it puts, if that is a large one.
    sums: Vec<Option<Hasher>>,
    /// Large values that it is to replace, as they were when it was asked for.
    known: Vec<KeyValue>,
}

impl Asked {
    /// Does what can be done before it is the transaction's turn: in its caller's time, not the writer's.
    pub(crate) fn new(transaction: Transaction, published: &Published) -> Self {
        let known = published.known(&transaction);
        Self { known, ..transaction.into() }
    }
}

impl From<Transaction> for Asked {
    fn from(transaction: Transaction) -> Self {
        let put = |operation: &Operation| match operation {
            Operation::Put { value, .. } => sum_if_large(value),
            Operation::Delete { .. } => None,
        };
        let sums = transaction.operations.iter().map(put).collect();
        Self { transaction, sums, known: Vec::new() }
    }
}

/// What the transactions so far have made of the keys.
pub(crate) struct Batch<'a> {
    /// What there was before the batch: what is published, and over it what will be.
    published: &'a Published,
    before: Option<&'a Done>,
    clock: &'a dyn Clock,
    deadlines: &'a Deadlines,
    done: Done,
}

/// What a batch comes to, once it is in the log.
#[derive(Debug)]
pub(crate) struct Done {
    /// The revision after it.
    pub(crate) revision: Revision,
    /// Its commits that changed something.
    pub(crate) commits: Vec<Commit>,
    /// What it made of the keys.
    pub(crate) entries: BTreeMap<String, New>,
    /// Keys whose deadlines it changed, and to what.
    pub(crate) expiries: BTreeMap<String, Option<Duration>>,
}

/// What became of a key.
#[derive(Debug)]
pub(crate) struct New {
    /// Its value and when it was created; `None` if it was deleted.
    value: Option<(Summed, Revision)>,
    revision: Revision,
    expiry: Mark,
    /// Where in the frame the value lies.
    at: u64,
}

impl New {
    fn get(&self, key: &str) -> Option<KeyValue> {
        let (value, created) = self.value.as_ref()?;
        let (value, created) = (value.bytes.clone(), *created);
        Some(KeyValue { key: key.to_owned(), value, revision: self.revision, created })
    }

    /// The entry, once the frame is in the log.
    pub(crate) fn entry(self, frame: &Appended) -> Entry {
        let value = self.value.map(|(value, created)| Value {
            bytes: Place::of(value.bytes, &frame.slot, frame.at + self.at),
            revision: self.revision,
            created,
        });
        Entry { value, expiry: self.expiry }
    }
}

impl<'a> Batch<'a> {
    /// A batch after a revision, which is that of what is published, or of the batch before that is not yet.
    pub(crate) fn begin(
        revision: Revision,
        clock: &'a dyn Clock,
        deadlines: &'a Deadlines,
        published: &'a Published,
        before: Option<&'a Done>,
    ) -> Self {
        let done = Done { revision, commits: Vec::new(), entries: BTreeMap::new(), expiries: BTreeMap::new() };
        Self { published, before, clock, deadlines, done }
    }

    /// Applies one transaction, if its comparisons hold on top of those before it, and writes what it changes to the frame.
    /// After an error the batch is of no use.
    pub(crate) fn apply(&mut self, asked: &Asked, frame: &mut Frame) -> Result<Committed, Failed> {
        let Asked { transaction, sums, known } = asked;
        for compare in &transaction.compare {
            let current = self.get(&compare.key, known)?;
            if current.as_ref().map_or(0, |current| current.revision) != compare.revision {
                return Ok(Committed::Conflict { key: compare.key.clone(), current });
            }
        }
        let revision = self.done.revision + 1;
        let mut changes = Vec::with_capacity(transaction.operations.len());
        for (operation, sum) in transaction.operations.iter().zip(sums) {
            match operation {
                Operation::Put { key, value, ttl } => {
                    let value = Summed { bytes: value.clone(), sum: sum.clone() };
                    changes.push(self.put((key, value, *ttl), known, revision)?);
                }
                Operation::Delete { key } => changes.extend(self.delete(key, revision)?),
            }
        }
        if !changes.is_empty() {
            frame.commit(revision, changes.len());
            for change in &changes {
                if let Some(new) = self.done.entries.get_mut(&change.key) {
                    let value = new.value.as_ref().map(|(value, created)| (*created, value));
                    new.at = frame.change(&change.key, value, new.expiry);
                }
            }
            self.done.revision = revision;
            self.done.commits.push(Commit { revision, changes });
        }
        Ok(Committed::Done(self.done.revision))
    }

    pub(crate) fn finish(self) -> Done {
        self.done
    }

    fn get(&self, key: &str, known: &[KeyValue]) -> Result<Option<KeyValue>, Failed> {
        let before = || self.before.and_then(|before| before.entries.get(key));
        match self.done.entries.get(key).or_else(before) {
            Some(new) => Ok(new.get(key)),
            None => {
                let known = known.iter().find(|known| known.key == key);
                // The writer itself is who closes what is published.
                self.published.get_knowing(key, known).map_or(Ok(None), |(_, found)| found)
            }
        }
    }

    fn put(
        &mut self,
        (key, value, ttl): (&str, Summed, Option<Duration>),
        known: &[KeyValue],
        revision: Revision,
    ) -> Result<Change, Failed> {
        let previous = self.get(key, known)?;
        let created = previous.as_ref().map_or(revision, |previous| previous.created);
        let expiry = self.expiry(key, ttl);
        let bytes = value.bytes.clone();
        let new = New { value: Some((value, created)), revision, expiry, at: 0 };
        self.done.entries.insert(key.to_owned(), new);
        Ok(Change { key: key.to_owned(), value: Some(bytes), previous, revision, created })
    }

    fn delete(&mut self, key: &str, revision: Revision) -> Result<Option<Change>, Failed> {
        let Some(previous) = self.get(key, &[])? else { return Ok(None) };
        let expiry = self.expiry(key, None);
        self.done.entries.insert(key.to_owned(), New { value: None, revision, expiry, at: 0 });
        let created = previous.created;
        Ok(Some(Change { key: key.to_owned(), value: None, previous: Some(previous), revision, created }))
    }

    fn expiry(&mut self, key: &str, ttl: Option<Duration>) -> Mark {
        // A time to live beyond what a clock can count is forever.
        let deadline = ttl.and_then(|ttl| self.clock.elapsed().checked_add(ttl).map(|deadline| (deadline, ttl)));
        match deadline {
            Some((deadline, ttl)) => {
                let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                self.done.expiries.insert(key.to_owned(), Some(deadline));
                Mark::At(self.clock.now().as_millisecond().saturating_add_unsigned(ttl), ttl)
            }
            None if self.may_expire(key) => {
                self.done.expiries.insert(key.to_owned(), None);
                Mark::Cleared
            }
            None => Mark::Untouched,
        }
    }

    fn may_expire(&self, key: &str) -> bool {
        let changed = |done: &Done| done.expiries.contains_key(key);
        self.deadlines.contains(key) || changed(&self.done) || self.before.is_some_and(changed)
    }
}
