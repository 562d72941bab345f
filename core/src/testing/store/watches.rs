//! Cases about watching: clause 5.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;

use super::*;

fn keys(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.key.as_str()).collect()
}

/// From any past revision on, exactly what came after it is delivered, in order.
pub async fn clause_5_a_watch_from_the_past_delivers_what_happened_since(subject: Subject) {
    let store = &*subject.store;
    let mut revisions = vec![1];
    for index in 0..20 {
        revisions.push(put(store, &format!("/{index}"), "v").await);
    }
    for (skip, after) in revisions.iter().enumerate() {
        let mut watch = store.watch("/", *after).await.unwrap();
        let seen = until_progress(&mut watch, *revisions.last().unwrap()).await.unwrap();
        let got: Vec<_> = seen.iter().map(|(revision, _)| *revision).collect();
        assert_eq!(got, revisions[skip + 1..], "after {after}");
    }
    let mut all = store.watch("/", 0).await.unwrap();
    assert_eq!(take_changes(&mut all, 20).await[0].0, revisions[1], "before the first revision nothing happened");
}

/// The watch stands when the call returns, even if nobody polls it.
pub async fn clause_5_a_watch_from_now_misses_nothing_committed_after_it_was_made(subject: Subject) {
    let store = &*subject.store;
    put(store, "/a", "before").await;
    let now = revision(store).await;
    let mut watch = store.watch("/", now).await.unwrap();
    let mut expected = Vec::new();
    for index in 0..20 {
        expected.push(put(store, "/a", &index.to_string()).await);
    }
    let seen: Vec<_> = take_changes(&mut watch, 20).await.into_iter().map(|(revision, _)| revision).collect();
    assert_eq!(seen, expected);
    // A waiting watch is woken.
    let (next, committed) = futures::join!(next_changes(&mut watch), put(store, "/b", ""));
    assert_eq!((next.0, keys(&next.1)), (committed, vec!["/b"]));
}

/// A watch cannot start from what has not happened.
pub async fn clause_5_a_watch_from_the_future_is_refused(subject: Subject) {
    let store = &*subject.store;
    let current = put(store, "/a", "").await;
    let refused = store.watch("/", current + 1).await.err();
    assert_eq!(refused, Some(Error::FutureRevision { requested: current + 1, current }));
    assert!(store.watch("/", current).await.is_ok());
}

/// Changes elsewhere are not delivered, those under the prefix all are.
pub async fn clause_5_only_the_prefix_is_delivered(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/a/", 1).await.unwrap();
    let mut wide = store.watch("/a", 1).await.unwrap();
    for key in ["/a", "/a/x", "/a0", "/b/a/", "/a/", "/a/x/y"] {
        put(store, key, "").await;
    }
    let both = done(store, Transaction::new().put("/b", "").delete("/a/x").put("/a0", "").put("/a/z", "")).await;
    let seen = until_progress(&mut watch, both).await.unwrap();
    let got: Vec<_> = seen.iter().map(|(_, changes)| keys(changes)).collect();
    assert_eq!(got, [vec!["/a/x"], vec!["/a/"], vec!["/a/x/y"], vec!["/a/x", "/a/z"]]);
    let seen = until_progress(&mut wide, both).await.unwrap();
    let got: Vec<_> = seen.iter().flat_map(|(_, changes)| keys(changes)).collect();
    assert_eq!(got, ["/a", "/a/x", "/a0", "/a/", "/a/x/y", "/a/x", "/a0", "/a/z"]);
}

/// One commit is one event, its changes in the transaction's order and under one revision.
pub async fn clause_5_changes_of_one_commit_come_together_in_its_order(subject: Subject) {
    let store = &*subject.store;
    put(store, "/old", "").await;
    let mut watch = store.watch("/", revision(store).await).await.unwrap();
    let all = Transaction::new().put("/z", "1").delete("/absent").put("/a", "2").delete("/old").put("/m", "3");
    let committed = done(store, all).await;
    let (at, changes) = next_changes(&mut watch).await;
    assert_eq!(at, committed);
    assert_eq!(keys(&changes), ["/z", "/a", "/old", "/m"]);
    assert!(changes.iter().all(|change| change.revision == committed));
}

/// A change carries the value before it; a delete carries the creation of what it deleted.
pub async fn clause_5_changes_tell_what_was_before(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    let first = put(store, "/a", "1").await;
    let second = put(store, "/a", "2").await;
    let third = delete(store, "/a").await;
    let fourth = put(store, "/a", "3").await;
    let seen: Vec<Change> = take_changes(&mut watch, 4).await.into_iter().flat_map(|(_, changes)| changes).collect();
    let was = |value: &'static str, revision| {
        Some(KeyValue { key: "/a".to_owned(), value: value.into(), revision, created: first })
    };
    let change = |value: Option<&'static str>, previous, revision, created| {
        let value = value.map(|value| Bytes::from_static(value.as_bytes()));
        Change { key: "/a".to_owned(), value, previous, revision, created }
    };
    assert_eq!(seen[0], change(Some("1"), None, first, first));
    assert_eq!(seen[1], change(Some("2"), was("1", first), second, first));
    assert_eq!(seen[2], change(None, was("2", second), third, first));
    assert_eq!(seen[3], change(Some("3"), None, fourth, fourth));
}

/// Progress names a revision only when everything up to it was delivered, and comes at least once after the backlog.
pub async fn clause_5_progress_comes_after_the_backlog(subject: Subject) {
    let store = &*subject.store;
    for index in 0..30 {
        put(store, ["/a/1", "/b/1"][index % 2], &index.to_string()).await;
    }
    let current = revision(store).await;
    for (prefix, expected) in [("/a/", 15), ("/b/", 15), ("/", 30), ("/c/", 0)] {
        let mut watch = store.watch(prefix, 1).await.unwrap();
        let (mut last, mut count, mut progress) = (1, 0, 0);
        while progress < current {
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Changes { revision, .. } => {
                    assert!(revision > last && revision > progress, "{revision} after {last}, progress {progress}");
                    (last, count) = (revision, count + 1);
                }
                WatchEvent::Progress(revision) => {
                    assert!(revision >= progress && revision >= last);
                    progress = revision;
                }
            }
        }
        assert_eq!(count, expected, "{prefix}");
    }
}

/// Many watches of one prefix see the same events.
pub async fn clause_5_every_watch_sees_the_same(subject: Subject) {
    let store = &*subject.store;
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(store.watch("/", 1).await.unwrap());
    }
    let write = async {
        for index in 0..100 {
            put(store, &format!("/{}", index % 7), &index.to_string()).await;
        }
    };
    let (seen, ()) = futures::join!(join_all(watches.iter_mut().map(|watch| take_changes(watch, 100))), write);
    assert!(seen.iter().all(|other| *other == seen[0]));
    assert!(seen[0].is_sorted_by_key(|(revision, _)| *revision));
}

/// Dropping a watch, waiting or not, affects neither the store nor other watches.
pub async fn clause_5_a_dropped_watch_disturbs_nobody(subject: Subject) {
    let store = &*subject.store;
    let mut stays = store.watch("/", 1).await.unwrap();
    for index in 0..50 {
        let mut dropped = store.watch("/", revision(store).await).await.unwrap();
        if index % 2 == 0 {
            // Leave it waiting for an event before it goes.
            while dropped.next().now_or_never().is_some() {}
        }
        drop(dropped);
        put(store, "/a", &index.to_string()).await;
    }
    assert_eq!(take_changes(&mut stays, 50).await.len(), 50);
}

/// A watch that nobody polls while much happens delivers all of it, or ends by saying that it could not.
pub async fn clause_5_a_slow_watch_skips_nothing(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    // It has seen a little when it stops being polled.
    for value in ["1", "2", "3"] {
        put(store, "/a", value).await;
    }
    take_changes(&mut watch, 3).await;
    let commits = 2_000;
    let write = async |index: usize| put(store, "/a", &"x".repeat(index % 900)).await;
    for start in (0..commits).step_by(100) {
        join_all((start..start + 100).map(write)).await;
    }
    let mut expected = 5;
    loop {
        match watch.next().await {
            Some(Ok(WatchEvent::Changes { revision, .. })) => {
                assert_eq!(revision, expected, "the next commit follows the last one");
                expected += 1;
                if expected == commits as Revision + 5 {
                    return;
                }
            }
            Some(Ok(WatchEvent::Progress(revision))) => assert_eq!(revision, expected - 1),
            Some(Err(Error::Lagged { last })) => {
                assert_eq!(last, expected - 1);
                break;
            }
            Some(Err(Error::Compacted { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(watch.next().await.is_none(), "after an error a watch ends");
}
