//! Cases that hold whatever goes wrong: they read back after an unknown outcome and watch again after a cut, as
//! clause 6 asks of callers, so they also run with injected faults.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::*;

const WRITERS: usize = 8;
const ROUNDS: usize = 30;

/// Runs the writers as tasks of their own, truly at once, and answers what they return, in their order.
async fn at_once<T, F>(subject: &Subject, write: impl Fn(Arc<dyn Store>, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let work = write(Arc::clone(&subject.store), writer);
        tasks.spawn(async move { (writer, work.await) });
    }
    let by_writer: BTreeMap<usize, T> = tasks.join_all().await.into_iter().collect();
    by_writer.into_values().collect()
}

/// What became of a commit.
enum Outcome {
    Done(Revision),
    Conflict,
    Unknown,
}

async fn attempt(store: &dyn Store, transaction: Transaction) -> Outcome {
    match store.commit(transaction).await {
        Ok(Committed::Done(revision)) => Outcome::Done(revision),
        Ok(Committed::Conflict { .. }) => Outcome::Conflict,
        Err(Error::Unavailable { .. }) => Outcome::Unknown,
        Err(other) => panic!("a fault is told as unavailable, not as: {other}"),
    }
}

async fn get_surely(store: &dyn Store, key: &str) -> Option<KeyValue> {
    loop {
        match store.get(key).await {
            Ok(snapshot) => return snapshot.value,
            Err(Error::Unavailable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

async fn list_surely(store: &dyn Store, prefix: &str, options: ListOptions) -> Vec<KeyValue> {
    loop {
        match store.list(prefix, options.clone()).await {
            Ok(page) => return page.entries,
            Err(Error::Unavailable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Everything that happened under the prefix after revision 1, up to `until`, however often the watch is cut.
/// Answers `None` if the history is gone before it was seen.
async fn watch_surely(store: &dyn Store, prefix: &str, until: Revision) -> Option<Vec<(Revision, Vec<Change>)>> {
    let (mut seen, mut last) = (Vec::new(), 1);
    'again: loop {
        let mut watch = match store.watch(prefix, last).await {
            Ok(watch) => watch,
            Err(Error::Unavailable { .. }) => continue,
            Err(Error::Compacted { .. }) => return None,
            Err(other) => panic!("{other}"),
        };
        loop {
            match watch.next().await {
                Some(Ok(WatchEvent::Changes { revision, changes })) => {
                    assert!(revision > last, "{revision} is delivered after {last}");
                    last = revision;
                    seen.push((revision, changes));
                }
                Some(Ok(WatchEvent::Progress(revision))) => {
                    assert!(revision >= last);
                    last = revision;
                }
                Some(Err(Error::Lagged { last: told })) => {
                    assert!(told <= last, "a cut watch does not claim more than it delivered");
                    continue 'again;
                }
                Some(Err(Error::Unavailable { .. })) | None => continue 'again,
                Some(Err(Error::Compacted { .. })) => return None,
                Some(Err(other)) => panic!("{other}"),
            }
            if last >= until {
                return Some(seen);
            }
        }
    }
}

/// The revision of a commit made now, after everything else.
async fn final_revision(store: &dyn Store) -> Revision {
    for index in 0.. {
        if let Outcome::Done(revision) = attempt(store, Transaction::new().put("/end", index.to_string())).await {
            return revision;
        }
    }
    unreachable!("the loop above ends only by returning")
}

/// Revisions are unique, grow for every writer, and each is stored with its own key.
pub async fn concurrent_writers_get_one_revision_each(subject: Subject) {
    let store = &*subject.store;
    let write = |store: Arc<dyn Store>, writer: usize| async move {
        let store = &*store;
        let mut mine = Vec::new();
        for round in 0..ROUNDS {
            let key = format!("/w/{writer}/{round}");
            if let Outcome::Done(revision) = attempt(store, Transaction::new().put(key.clone(), "v")).await {
                assert!(mine.last().is_none_or(|(last, _)| *last < revision), "a writer's own revisions grow");
                mine.push((revision, key));
            }
        }
        mine
    };
    let acknowledged: Vec<(Revision, String)> = at_once(&subject, write).await.into_iter().flatten().collect();
    let by_revision: BTreeMap<Revision, &String> =
        acknowledged.iter().map(|(revision, key)| (*revision, key)).collect();
    assert_eq!(by_revision.len(), acknowledged.len(), "no revision is given twice");
    let stored: BTreeMap<String, Revision> =
        list_surely(store, "/w/", no_options()).await.into_iter().map(|entry| (entry.key, entry.revision)).collect();
    for (revision, key) in &acknowledged {
        assert_eq!(stored.get(key), Some(revision), "{key}");
    }
}

/// Creations that only one writer can win: each key has one winner, and no winner's value is lost.
pub async fn no_acknowledged_commit_is_lost(subject: Subject) {
    let store = &*subject.store;
    let write = |store: Arc<dyn Store>, writer: usize| async move {
        let store = &*store;
        let (mut won, mut unknown) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let key = format!("/k/{round:03}");
            let mine = Transaction::new().expect(key.clone(), 0).put(key.clone(), writer.to_string());
            match attempt(store, mine).await {
                Outcome::Done(_) => won.push(key),
                Outcome::Conflict => assert!(get_surely(store, &key).await.is_some()),
                Outcome::Unknown => unknown.push(key),
            }
        }
        (won, unknown)
    };
    let outcomes = at_once(&subject, write).await;
    let stored = list_surely(store, "/k/", no_options()).await;
    for entry in &stored {
        let winner: usize = String::from_utf8_lossy(&entry.value).parse().unwrap();
        let (won, unknown) = &outcomes[winner];
        assert!(won.contains(&entry.key) || unknown.contains(&entry.key), "{} was won by who did not ask", entry.key);
        assert_eq!(entry.revision, entry.created);
    }
    let all_won: usize = outcomes.iter().map(|(won, _)| won.len()).sum();
    for (writer, (won, _)) in outcomes.iter().enumerate() {
        for key in won {
            let entry = stored.iter().find(|entry| entry.key == *key);
            assert_eq!(entry.map(|entry| entry.value.clone()), Some(writer.to_string().into()), "{key}");
        }
    }
    assert!(all_won <= stored.len());
}

/// Optimistic increments of one counter: each acknowledged one counts once, each unknown one at most once.
pub async fn no_increment_is_lost(subject: Subject) {
    let store = &*subject.store;
    let write = |store: Arc<dyn Store>, _: usize| async move {
        let store = &*store;
        let (mut sure, mut unknown) = (0, 0);
        while sure + unknown < ROUNDS {
            let now = get_surely(store, "/counter").await;
            let count: usize = now.as_ref().map_or(0, |now| String::from_utf8_lossy(&now.value).parse().unwrap());
            let expected = now.map_or(0, |now| now.revision);
            let next = Transaction::new().expect("/counter", expected).put("/counter", (count + 1).to_string());
            match attempt(store, next).await {
                Outcome::Done(_) => sure += 1,
                Outcome::Conflict => {}
                Outcome::Unknown => unknown += 1,
            }
        }
        (sure, unknown)
    };
    let outcomes = at_once(&subject, write).await;
    let (sure, unknown) = outcomes.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let counter = get_surely(store, "/counter").await.unwrap();
    let count: usize = String::from_utf8_lossy(&counter.value).parse().unwrap();
    assert!((sure..=sure + unknown).contains(&count), "{count} is not {sure} plus up to {unknown}");
}

/// Whoever follows a watch from the beginning knows at each revision what a list shows, while others write.
pub async fn watches_rebuild_what_lists_show(subject: Subject) {
    let store = &*subject.store;
    let write = |store: Arc<dyn Store>, writer: usize| async move {
        let store = &*store;
        for round in 0..ROUNDS {
            let (mine, shared) = (format!("/d/{writer}/{}", round % 3), format!("/d/shared/{}", round % 5));
            let transaction = match round % 4 {
                3 => Transaction::new().delete(mine).delete(shared),
                _ => Transaction::new().put(mine, round.to_string()).put(shared, format!("{writer} {round}")),
            };
            attempt(store, transaction).await;
        }
    };
    at_once(&subject, write).await;
    let end = final_revision(store).await;
    let Some(seen) = watch_surely(store, "/d/", end).await else {
        println!("not applicable: the store's history is too short for this case");
        return;
    };
    let mut rebuilt: BTreeMap<String, KeyValue> = BTreeMap::new();
    for (step, (revision, changes)) in seen.into_iter().enumerate() {
        for change in changes {
            assert_eq!(change.previous.as_ref(), rebuilt.get(&change.key), "what was before {revision}");
            match change.value {
                Some(value) => {
                    let (key, created) = (change.key, change.created);
                    rebuilt.insert(key.clone(), KeyValue { key, value, revision, created });
                }
                None => assert!(rebuilt.remove(&change.key).is_some(), "only what is there can be deleted"),
            }
        }
        if step % 10 == 0 {
            let listed = list_surely(store, "/d/", at(revision)).await;
            assert_eq!(listed, rebuilt.values().cloned().collect::<Vec<_>>(), "at {revision}");
        }
    }
    assert_eq!(list_surely(store, "/d/", no_options()).await, rebuilt.into_values().collect::<Vec<_>>());
}
