//! A simple model of the contract, and random histories in which a store must agree with it at every step.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::store::Operation;

const KEYS: [&str; 12] =
    ["/a", "/a/", "/a/b", "/a/b/c", "/a/c", "/a0", "/b/1", "/b/2", "/b/3", "/c", "/\u{10ffff}", "/a/\u{10ffff}"];
const PREFIXES: [&str; 8] = ["", "/", "/a", "/a/", "/a/b", "/b/", "/absent", "/\u{10ffff}"];
const SEEDS: u64 = 6;
const STEPS: usize = 250;

/// Everything a store should know.
#[derive(Debug)]
struct Model {
    /// The keys at each revision.
    past: Vec<BTreeMap<String, KeyValue>>,
    /// What each revision changed.
    commits: BTreeMap<Revision, Vec<Change>>,
    compacted: Revision,
    /// When keys run out, in time since the start.
    deadlines: BTreeMap<String, Duration>,
    now: Duration,
}

/// A watch and what it has delivered.
struct Watching {
    prefix: &'static str,
    last: Revision,
    stream: WatchStream,
}

impl Model {
    fn new() -> Self {
        // Revision 0 is before the store, 1 is empty.
        let past = vec![BTreeMap::new(), BTreeMap::new()];
        let (commits, deadlines) = (BTreeMap::new(), BTreeMap::new());
        Self { past, commits, compacted: 0, deadlines, now: Duration::ZERO }
    }

    fn revision(&self) -> Revision {
        self.past.len() as Revision - 1
    }

    fn current(&self) -> &BTreeMap<String, KeyValue> {
        self.past.last().expect("there is always a first revision")
    }

    fn commit(&mut self, transaction: &Transaction) -> Committed {
        for compare in &transaction.compare {
            let current = self.current().get(&compare.key);
            if current.map_or(0, |current| current.revision) != compare.revision {
                return Committed::Conflict { key: compare.key.clone(), current: current.cloned() };
            }
        }
        let (mut keys, revision) = (self.current().clone(), self.revision() + 1);
        let mut changes = Vec::new();
        for operation in &transaction.operations {
            let (key, previous) = (operation.key().to_owned(), keys.get(operation.key()).cloned());
            self.deadlines.remove(&key);
            match operation {
                Operation::Put { value, ttl, .. } => {
                    let created = previous.as_ref().map_or(revision, |previous| previous.created);
                    keys.insert(key.clone(), KeyValue { key: key.clone(), value: value.clone(), revision, created });
                    if let Some(ttl) = ttl {
                        self.deadlines.insert(key.clone(), self.now + *ttl);
                    }
                    changes.push(Change { key, value: Some(value.clone()), previous, revision, created });
                }
                Operation::Delete { .. } => {
                    if let Some(old) = keys.remove(&key) {
                        let created = old.created;
                        changes.push(Change { key, value: None, previous: Some(old), revision, created });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.past.push(keys);
            self.commits.insert(revision, changes);
        }
        Committed::Done(self.revision())
    }

    fn page(&self, prefix: &str, options: &ListOptions) -> Result<(Vec<KeyValue>, bool), Error> {
        let requested = options.revision.unwrap_or(self.revision());
        if requested > self.revision() {
            return Err(Error::FutureRevision { requested, current: self.revision() });
        }
        if requested < self.compacted.max(1) {
            return Err(Error::Compacted { requested, oldest: self.compacted.max(1) });
        }
        let all = self.past[requested as usize].values();
        let mut entries: Vec<KeyValue> = all
            .filter(|entry| entry.key.starts_with(prefix))
            .filter(|entry| options.after.as_ref().is_none_or(|after| entry.key > *after))
            .cloned()
            .collect();
        let more = options.limit > 0 && entries.len() > options.limit;
        if more {
            entries.truncate(options.limit);
        }
        Ok((entries, more))
    }

    /// What a watch of the prefix delivers after a revision.
    fn after(&self, prefix: &str, revision: Revision) -> Vec<(Revision, Vec<Change>)> {
        let concerned = |changes: &[Change]| -> Vec<Change> {
            changes.iter().filter(|change| change.key.starts_with(prefix)).cloned().collect()
        };
        let commits = self.commits.range(revision + 1..).map(|(at, changes)| (*at, concerned(changes)));
        commits.filter(|(_, changes)| !changes.is_empty()).collect()
    }
}

fn random_transaction(random: &mut Pcg64, model: &Model, expiry: bool) -> Transaction {
    let mut transaction = Transaction::new();
    for _ in 0..random.random_range(0..3) {
        let key = *KEYS.choose(random).unwrap();
        let actual = model.current().get(key).map_or(0, |current| current.revision);
        let expected = if random.random_bool(0.8) { actual } else { random.random_range(0..=model.revision()) };
        transaction = transaction.expect(key, expected);
    }
    let mut keys = KEYS.to_vec();
    for _ in 0..random.random_range(0..5) {
        let key = keys.swap_remove(random.random_range(0..keys.len()));
        let value = Bytes::from(random.random_range(0..1000_u32).to_string());
        transaction = match random.random_range(0..10) {
            0..=3 => transaction.delete(key),
            4 if expiry => transaction.put_with_ttl(key, value, Duration::from_secs(random.random_range(1..20))),
            _ => transaction.put(key, value),
        };
    }
    transaction
}

/// Random commits, listings, watches, compactions, passing time and (where it can be) closing and opening again: at each
/// step the store answers what the model does.
pub async fn random_histories_agree_with_the_model(mut subject: Subject) {
    let reopen = subject.reopen.take();
    let mut model = Model::new();
    for seed in 0..SEEDS {
        // Shown when the case fails.
        println!("seed {seed}, from revision {}", model.revision());
        let mut random = Pcg64::seed_from_u64(seed);
        let mut watches: Vec<Watching> = Vec::new();
        for _ in 0..STEPS {
            let store = Arc::clone(&subject.store);
            match random.random_range(0..100) {
                0..60 => {
                    let transaction = random_transaction(&mut random, &model, subject.clock.is_some());
                    let expected = model.commit(&transaction);
                    assert_eq!(store.commit(transaction.clone()).await, Ok(expected), "{transaction:?}");
                }
                60..75 => check_list(&*store, &model, &mut random).await,
                75..80 => {
                    let key = *KEYS.choose(&mut random).unwrap();
                    let got = store.get(key).await.unwrap();
                    assert_eq!((got.value.as_ref(), got.revision), (model.current().get(key), model.revision()));
                }
                80..86 => watches.extend(check_start(&*store, &model, &mut random).await),
                86..92 if !watches.is_empty() => {
                    let watching = watches.swap_remove(random.random_range(0..watches.len()));
                    watches.extend(check_watch(watching, &model).await);
                }
                92..95 => check_compact(&*store, &mut model, &mut random).await,
                95..98 => pass_time(&subject, &mut model, Duration::from_secs(random.random_range(1..6))).await,
                98 => {
                    let Some(reopen) = &reopen else { continue };
                    drop(store);
                    watches.clear();
                    subject.store = Arc::new(crate::store::MemoryStore::new());
                    subject.store = reopen().await;
                    // Time stood still for the keys, and history may be gone.
                    model.compacted = subject.store.status().await.unwrap().compacted;
                }
                _ => {}
            }
            let status = subject.store.status().await.unwrap();
            assert_eq!(status.revision, model.revision());
            assert!(status.compacted >= model.compacted);
            assert!(status.keys.is_none_or(|keys| keys == model.current().len() as u64));
            model.compacted = status.compacted;
        }
        for watching in watches {
            check_watch(watching, &model).await;
        }
    }
}

async fn check_list(store: &dyn Store, model: &Model, random: &mut Pcg64) {
    let prefix = *PREFIXES.choose(random).unwrap();
    let options = ListOptions {
        revision: random.random_bool(0.5).then(|| random.random_range(0..=model.revision() + 1)),
        limit: random.random_range(0..6),
        after: random.random_bool(0.3).then(|| (*KEYS.choose(random).unwrap()).to_owned()),
    };
    let listed = store.list(prefix, options.clone()).await;
    if let Ok(page) = &listed {
        assert_eq!(page.revision, options.revision.unwrap_or(model.revision()));
    }
    let listed = listed.map(|page| (page.entries, page.more));
    assert_eq!(listed, model.page(prefix, &options), "{prefix:?} {options:?}");
}

/// Starts a watch anywhere, future and compacted revisions included.
async fn check_start(store: &dyn Store, model: &Model, random: &mut Pcg64) -> Option<Watching> {
    let prefix = *PREFIXES.choose(random).unwrap();
    let after = random.random_range(model.compacted.saturating_sub(3)..=model.revision() + 1);
    match store.watch(prefix, after).await {
        Ok(stream) => {
            assert!((model.compacted..=model.revision()).contains(&after));
            Some(Watching { prefix, last: after, stream })
        }
        Err(Error::FutureRevision { .. }) => {
            assert!(after > model.revision());
            None
        }
        Err(Error::Compacted { .. }) => {
            assert!(after < model.compacted);
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// Takes everything that a watch has, and answers it unless compaction ended it.
async fn check_watch(mut watching: Watching, model: &Model) -> Option<Watching> {
    if watching.last == model.revision() {
        // Progress to here was told already, and need not be told again.
        return Some(watching);
    }
    let expected = model.after(watching.prefix, watching.last);
    match until_progress(&mut watching.stream, model.revision()).await {
        Ok(seen) => {
            assert_eq!(seen, expected, "watch of {:?} after {}", watching.prefix, watching.last);
            watching.last = model.revision();
            Some(watching)
        }
        Err(Error::Compacted { .. } | Error::Lagged { .. }) => {
            // A store need not know whether what is gone concerned the watch.
            assert!(watching.last < model.compacted, "a watch ended for no reason");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

async fn check_compact(store: &dyn Store, model: &mut Model, random: &mut Pcg64) {
    // Mostly a little further, so that some history stays.
    let span = (model.revision() - model.compacted) / 4;
    let requested = (model.compacted + random.random_range(0..=span + 2)).saturating_sub(1);
    let compacted = store.compact(requested).await;
    if requested < model.compacted {
        assert_eq!(compacted, Err(Error::Compacted { requested, oldest: model.compacted }));
    } else if requested > model.revision() {
        assert_eq!(compacted, Err(Error::FutureRevision { requested, current: model.revision() }));
    } else {
        assert_eq!(compacted, Ok(()));
        model.compacted = requested;
    }
}

/// Lets time pass, and waits until the store has deleted what ran out, and nothing else.
async fn pass_time(subject: &Subject, model: &mut Model, duration: Duration) {
    let Some(clock) = &subject.clock else { return };
    let mut watch = subject.store.watch("", model.revision()).await.unwrap();
    clock.advance(duration);
    model.now += duration;
    let due = |model: &Model| -> Vec<String> {
        let now = model.now;
        model.deadlines.iter().filter(|(_, deadline)| **deadline <= now).map(|(key, _)| key.clone()).collect()
    };
    while !due(model).is_empty() {
        let (revision, changes) = next_changes(&mut watch).await;
        let due = due(model);
        assert!(changes.iter().all(|change| change.value.is_none() && due.contains(&change.key)), "{changes:?}");
        let deletes = changes.iter().fold(Transaction::new(), |all, change| all.delete(change.key.clone()));
        assert_eq!(model.commit(&deletes), Committed::Done(revision));
        assert_eq!(model.commits.get(&revision), Some(&changes));
    }
}
