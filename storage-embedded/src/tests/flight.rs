//! Batches that are applied and prepared while the one before is synced.

use std::time::Duration;

use futures::future::join_all;
use futures::poll;
use longshore_core::clock::VirtualClock;
use longshore_core::store::{KeyValue, Operation};

use super::*;

/// One transaction a batch: each that waits is a full one.
fn started(directory: &Path, log_bytes: u64, clock: &VirtualClock) -> (EmbeddedStore, Arc<Failing>) {
    let options =
        Options { batch_max: 1, log_bytes, logs_max: 1, clock: Arc::new(clock.clone()), ..Options::default() };
    let disk = Disk::new(directory, &options).unwrap();
    *disk.failing.power.lock().unwrap() = Some(BTreeMap::new());
    let failing = Arc::clone(&disk.failing);
    (EmbeddedStore::start(disk, options).unwrap(), failing)
}

/// Commits all, of which all but the first wait while the first is synced: from the third on each is applied with the one before
/// in flight.
async fn commit_all(store: &EmbeddedStore, failing: &Failing, all: Vec<Transaction>) -> Vec<Result<Committed, Error>> {
    let mut commits: Vec<_> = all.into_iter().map(|one| store.commit(one)).collect();
    let held = failing.held.lock();
    let before = failing.syncs.load(Ordering::SeqCst);
    assert!(poll!(&mut commits[0]).is_pending());
    while failing.syncs.load(Ordering::SeqCst) == before {
        std::thread::yield_now();
    }
    for commit in &mut commits[1..] {
        assert!(poll!(commit).is_pending());
    }
    drop(held);
    join_all(commits).await
}

/// What a store is to hold.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, KeyValue>,
    revision: u64,
}

impl Model {
    fn commit(&mut self, transaction: &Transaction) -> Committed {
        for compare in &transaction.compare {
            let current = self.keys.get(&compare.key);
            if current.map_or(0, |current| current.revision) != compare.revision {
                return Committed::Conflict { key: compare.key.clone(), current: current.cloned() };
            }
        }
        let revision = self.revision + 1;
        for operation in &transaction.operations {
            let key = operation.key().to_owned();
            match operation {
                Operation::Put { value, .. } => {
                    let created = self.keys.get(&key).map_or(revision, |before| before.created);
                    let new = KeyValue { key: key.clone(), value: value.clone(), revision, created };
                    self.keys.insert(key, new);
                    self.revision = revision;
                }
                Operation::Delete { .. } if self.keys.remove(&key).is_some() => self.revision = revision,
                Operation::Delete { .. } => {}
            }
        }
        Committed::Done(self.revision)
    }
}

/// Transactions each of which depends on the one before.
fn chain(start: u64) -> Vec<Transaction> {
    let large = |byte: u8| vec![byte; 20_000];
    vec![
        Transaction::new().put("/a", large(b'a')),
        Transaction::new().put("/a", large(b'b')).put("/b", "first"),
        Transaction::new().expect("/a", start + 2).put("/a", "small"),
        Transaction::new().expect("/b", 0).put("/b", "never, unless the second failed"),
        Transaction::new().delete("/a"),
        Transaction::new().expect("/a", 0).put("/a", large(b'c')),
        Transaction::new().delete("/absent"),
        Transaction::new().delete("/b"),
        Transaction::new().put("/b", large(b'd')),
        Transaction::new().expect("/b", start + 3).delete("/b"),
    ]
}

#[tokio::test]
async fn whichever_sync_fails_those_after_it_do_not_build_on_it() {
    // Logs that hold all of it, and such as are full after a frame or two.
    for (log_bytes, failures, sync) in [(1 << 20, 1), (1 << 20, 2), (30_000, 1), (30_000, 3)]
        .iter()
        .flat_map(|(b, f)| (0..14).map(move |s| (*b, *f, s)))
    {
        let case = format!("logs of {log_bytes} bytes, from sync {sync} on {failures} fail");
        let (directory, clock) = (tempfile::tempdir().unwrap(), VirtualClock::new());
        let (store, failing) = started(directory.path(), log_bytes, &clock);
        let mut model = Model { revision: store.status().await.unwrap().revision, ..Model::default() };
        failing.sync_failures.store(failures, Ordering::SeqCst);
        failing.sync_in.store(sync, Ordering::SeqCst);
        let all = chain(model.revision);
        let outcomes = commit_all(&store, &failing, all.clone()).await;
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(failed <= usize::from(sync > 0) * failures as usize, "{case}: {outcomes:?}");
        for (transaction, outcome) in all.iter().zip(outcomes) {
            if let Ok(outcome) = outcome {
                assert_eq!(outcome, model.commit(transaction), "{case}: {transaction:?}");
            }
        }
        failing.sync_in.store(0, Ordering::SeqCst);
        let after = Transaction::new().put("/after", "all");
        assert_eq!(store.commit(after.clone()).await, Ok(model.commit(&after)), "{case}");
        let page = store.list("/", ListOptions::default()).await.unwrap();
        assert_eq!((&page.entries, page.revision), (&model.keys.into_values().collect(), model.revision), "{case}");

        let killed = tempfile::tempdir().unwrap();
        for (name, power) in failing.power.lock().unwrap().as_ref().unwrap() {
            std::fs::write(killed.path().join(name), power.written()).unwrap();
        }
        drop(store);
        for directory in [killed.path(), directory.path()] {
            let again = open(directory).unwrap().list("/", ListOptions::default()).await.unwrap();
            assert_eq!(again, page, "{case}");
        }
    }
}

#[tokio::test]
async fn a_deadline_that_is_in_flight_is_taken_back_by_the_next() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), VirtualClock::new());
    let (store, failing) = started(directory.path(), 1 << 20, &clock);
    let hour = Duration::from_secs(3600);
    let all = vec![
        Transaction::new().put("/first", "x"),
        Transaction::new().put_with_ttl("/kept", "x", hour),
        Transaction::new().put("/kept", "y"),
        Transaction::new().put_with_ttl("/gone", "x", hour),
    ];
    assert!(commit_all(&store, &failing, all).await.iter().all(Result::is_ok));
    let mut watch = store.watch("/gone", store.status().await.unwrap().revision).await.unwrap();
    clock.advance(hour * 2);
    while let WatchEvent::Progress(_) = watch.next().await.unwrap().unwrap() {}
    drop(store);
    let keys = open(directory.path()).unwrap().list("/", ListOptions::default()).await.unwrap().entries;
    assert_eq!(keys.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["/first", "/kept"]);
}
