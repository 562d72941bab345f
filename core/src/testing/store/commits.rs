//! Cases about committing: clauses 1, 3, 4 and 7.

use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::store::{COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX};

/// Revisions are consecutive, whatever the commit holds.
pub async fn clause_1_each_commit_takes_the_next_revision(subject: Subject) {
    let store = &*subject.store;
    assert_eq!(put(store, "/a", "1").await, 2);
    assert_eq!(put(store, "/a", "1").await, 3, "the same value again is a change");
    assert_eq!(done(store, Transaction::new().put("/b", "").put("/c", "").delete("/a")).await, 4);
    assert_eq!(delete(store, "/b").await, 5);
    assert_eq!(done(store, Transaction::new().delete("/absent").put("/a", "")).await, 6);
    assert_eq!(revision(store).await, 6);
    let page = store.list("/", no_options()).await.unwrap();
    let revisions: Vec<_> = page.entries.iter().map(|entry| (entry.key.as_str(), entry.revision)).collect();
    assert_eq!(revisions, [("/a", 6), ("/c", 4)]);
}

/// Deleting what is absent, or nothing at all, leaves the revision alone.
pub async fn clause_1_a_commit_that_changes_nothing_takes_no_revision(subject: Subject) {
    let store = &*subject.store;
    let current = put(store, "/a", "").await;
    assert_eq!(delete(store, "/absent").await, current);
    assert_eq!(done(store, Transaction::new().delete("/b").delete("/c")).await, current);
    assert_eq!(done(store, Transaction::new()).await, current);
    assert_eq!(done(store, Transaction::new().expect("/a", current)).await, current);
    assert_eq!(revision(store).await, current);
    let mut watch = store.watch("/", current).await.unwrap();
    let next = put(store, "/d", "").await;
    assert_eq!(next, current + 1);
    assert_eq!(next_changes(&mut watch).await.0, next);
}

/// Overwriting keeps `created`; a key made anew after a delete is new.
pub async fn clause_1_created_is_kept_until_the_key_is_deleted(subject: Subject) {
    let store = &*subject.store;
    let first = put(store, "/a", "1").await;
    put(store, "/a", "2").await;
    assert_eq!(get(store, "/a").await.unwrap().created, first);
    delete(store, "/a").await;
    let second = put(store, "/a", "3").await;
    put(store, "/a", "4").await;
    assert_eq!(get(store, "/a").await.unwrap().created, second);
}

/// One comparison that fails prevents every operation.
pub async fn clause_3_a_failed_comparison_changes_nothing(subject: Subject) {
    let store = &*subject.store;
    let first = put(store, "/a", "1").await;
    let current = put(store, "/a", "2").await;
    let stale = Transaction::new().expect("/a", first).put("/a", "3").put("/b", "3").delete("/c");
    let outcome = store.commit(stale).await.unwrap();
    let stored = get(store, "/a").await;
    assert_eq!(outcome, Committed::Conflict { key: "/a".to_owned(), current: stored.clone() });
    assert_eq!(stored.map(|stored| (stored.value, stored.revision)), Some((Bytes::from("2"), current)));
    assert_eq!(get(store, "/b").await, None);
    assert_eq!(revision(store).await, current);
}

/// 0 means absent, anything else the exact revision of the last put.
pub async fn clause_3_comparisons_name_revision_or_absence(subject: Subject) {
    let store = &*subject.store;
    let conflicts = async |key: &str, expected: Revision| {
        let outcome = store.commit(Transaction::new().expect(key, expected).put("/done", "")).await.unwrap();
        matches!(outcome, Committed::Conflict { .. })
    };
    assert!(!conflicts("/a", 0).await);
    assert!(conflicts("/a", 1).await);
    let first = done(store, Transaction::new().expect("/a", 0).put("/a", "")).await;
    assert!(conflicts("/a", 0).await);
    assert!(!conflicts("/a", first).await, "a change of another key does not matter");
    assert!(conflicts("/a", first + 1).await);
    assert!(conflicts("/a", first - 1).await);
    delete(store, "/a").await;
    assert!(conflicts("/a", first).await);
    assert!(!conflicts("/a", 0).await);
}

/// The conflict names the first failing key in the order given, and what is there.
pub async fn clause_3_the_first_failed_comparison_is_named(subject: Subject) {
    let store = &*subject.store;
    let b = put(store, "/b", "x").await;
    let transaction = Transaction::new().expect("/b", b).expect("/z", 7).expect("/a", 7).expect("/b", 7).put("/c", "");
    let outcome = store.commit(transaction).await.unwrap();
    assert_eq!(outcome, Committed::Conflict { key: "/z".to_owned(), current: None });
}

/// All puts and deletes of one commit appear at one revision and never apart.
pub async fn clause_3_everything_in_a_commit_happens_together(subject: Subject) {
    let store = &*subject.store;
    put(store, "/a", "0").await;
    for round in 1..30 {
        let (new, old) = (format!("/{}", ["a", "b"][round % 2]), format!("/{}", ["b", "a"][round % 2]));
        let swap = Transaction::new().delete(old).put(new, round.to_string());
        let (swapped, page) = futures::join!(done(store, swap), store.list("/", no_options()));
        let page = page.unwrap();
        assert_eq!(page.entries.len(), 1, "between two commits there is always one key: {:?}", page.entries);
        let now = store.list("/", no_options()).await.unwrap();
        assert_eq!(now.revision, swapped);
        assert_eq!(now.entries[0].revision, swapped);
    }
}

/// 128 operations and 1.5 MB pass, one more does not; no key twice, none empty.
pub async fn clause_3_limits_are_exact_and_beyond_them_nothing_happens(subject: Subject) {
    let store = &*subject.store;
    let puts = |count: usize| (0..count).fold(Transaction::new(), |all, index| all.put(format!("/k/{index}"), "v"));
    let full = done(store, puts(COMMIT_OPERATIONS_MAX)).await;
    let too_many = COMMIT_OPERATIONS_MAX + 1;
    assert_eq!(store.commit(puts(too_many)).await, Err(Error::TooManyOperations { got: too_many }));
    let compares = (0..too_many).fold(Transaction::new(), |all, index| all.expect(format!("/c/{index}"), 0));
    assert_eq!(store.commit(compares).await, Err(Error::TooManyOperations { got: too_many }));

    let sized = |bytes: usize| Transaction::new().put("/big", vec![b'x'; bytes - "/big".len()]);
    assert_eq!(store.commit(sized(COMMIT_BYTES_MAX + 1)).await, Err(Error::TooLarge { got: COMMIT_BYTES_MAX + 1 }));
    let twice = Transaction::new().put("/a", "1").delete("/a");
    assert!(matches!(store.commit(twice).await, Err(Error::InvalidTransaction { .. })));
    let unnamed = Transaction::new().put("", "1");
    assert!(matches!(store.commit(unnamed).await, Err(Error::InvalidTransaction { .. })));
    assert_eq!(revision(store).await, full, "nothing refused has happened");

    assert_eq!(done(store, sized(COMMIT_BYTES_MAX)).await, full + 1);
    assert_eq!(get(store, "/big").await.unwrap().value.len(), COMMIT_BYTES_MAX - "/big".len());
}

/// Values are bytes; keys may hold any character.
pub async fn clause_3_any_key_and_value_is_stored_as_it_is(subject: Subject) {
    let store = &*subject.store;
    let values: [Bytes; 4] = [Bytes::new(), Bytes::from_static(b"\0"), (0..=255).collect(), vec![0xff; 70_000].into()];
    let keys = ["a", "/registry//pods/default/web", "/ü/\u{0}/\n", &"/long".repeat(200)];
    for key in keys {
        for value in &values {
            done(store, Transaction::new().put(key, value.clone())).await;
            assert_eq!(&get(store, key).await.unwrap().value, value, "key {key:?}");
        }
    }
    assert_eq!(store.list("", no_options()).await.unwrap().entries.len(), keys.len());
}

/// After the store was dropped and opened again, everything acknowledged is there and the revision goes on.
/// Not applicable, as it then says, to stores that the subject cannot open again.
pub async fn clause_4_what_was_acknowledged_is_there_after_opening_again(mut subject: Subject) {
    let Some(reopen) = subject.reopen.take() else {
        println!("not applicable: this store cannot be opened again");
        return;
    };
    let mut expected = Vec::new();
    for round in 0..5 {
        let store = &*subject.store;
        let before = revision(store).await;
        assert_eq!(listed(store, "/", no_options()).await, expected);
        for entry in &expected {
            let stored = get(store, &entry.0).await.unwrap();
            assert!(stored.created <= stored.revision && stored.revision <= before);
        }
        for index in 0..10 {
            let (key, value) = (format!("/p/{round}/{index}"), format!("{round} {index}"));
            put(store, &key, &value).await;
            expected.push((key, value));
        }
        let (gone, _) = expected.remove(0);
        let last = delete(store, &gone).await;
        assert_eq!(last, before + 11);
        // Only one holder may be left, or the store is not closed.
        drop(std::mem::replace(&mut subject.store, Arc::new(crate::store::MemoryStore::new())));
        subject.store = reopen().await;
        assert_eq!(revision(&*subject.store).await, last);
        assert_eq!(listed(&*subject.store, "/", at(last)).await, expected);
        let mut watch = subject.store.watch("/", last).await.unwrap();
        let next = put(&*subject.store, "/z", "").await;
        assert_eq!(next_changes(&mut watch).await.0, next);
        delete(&*subject.store, "/z").await;
    }
}

/// Commits that are dropped at any point happen whole or not at all, and the store goes on.
pub async fn clause_7_dropped_commits_leave_the_store_whole(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    for index in 0..50 {
        let transaction = Transaction::new().put(format!("/x/{index}"), "v").put(format!("/y/{index}"), "v");
        match index % 3 {
            // Never polled, polled once, and finished.
            0 => drop(store.commit(transaction)),
            1 => drop(store.commit(transaction).now_or_never()),
            _ => drop(done(store, transaction).await),
        }
        drop(store.list("/", no_options()).now_or_never());
        drop(store.get("/x/0").now_or_never());
    }
    put(store, "/z", "end").await;
    let names = |entries: Vec<KeyValue>, prefix: &str| -> Vec<String> {
        entries.iter().filter_map(|entry| entry.key.strip_prefix(prefix).map(str::to_owned)).collect()
    };
    let page = store.list("/", no_options()).await.unwrap();
    let (x, y) = (names(page.entries.clone(), "/x/"), names(page.entries.clone(), "/y/"));
    assert_eq!(x, y, "each commit happened whole or not at all");
    for index in (2..50).step_by(3) {
        assert!(x.contains(&index.to_string()), "an acknowledged commit is there");
    }
    let seen = until_progress(&mut watch, page.revision).await.unwrap();
    let whole = seen.iter().filter(|(revision, changes)| *revision <= page.revision && changes.len() == 2).count();
    assert_eq!(whole, x.len(), "the watch saw each of them whole");
}
