//! Cases about compaction: what clause 5 and `compact` say of forgetting.

use super::*;

async fn ten_commits(store: &dyn Store) -> Revision {
    for index in 0..10 {
        put(store, &format!("/{}", index % 4), &index.to_string()).await;
    }
    revision(store).await
}

/// Before the compacted revision nothing can be listed or watched; from it on everything can.
pub async fn clause_5_lists_and_watches_before_the_compacted_revision_are_refused(subject: Subject) {
    let store = &*subject.store;
    let current = ten_commits(store).await;
    let (from, then) = (current - 4, listed(store, "/", at(current - 4)).await);
    store.compact(from).await.unwrap();
    assert_eq!(store.status().await.unwrap().compacted, from);
    for requested in 1..from {
        let refused = Error::Compacted { requested, oldest: from };
        assert_eq!(store.list("/", at(requested)).await, Err(refused.clone()));
        assert_eq!(store.watch("/", requested).await.err(), Some(refused));
    }
    assert_eq!(listed(store, "/", at(from)).await, then);
    let mut watch = store.watch("/", from).await.unwrap();
    let seen: Vec<_> = take_changes(&mut watch, 4).await.into_iter().map(|(revision, _)| revision).collect();
    assert_eq!(seen, (from + 1..=current).collect::<Vec<_>>());
}

/// Compaction forgets the past, not the present.
pub async fn clause_5_compaction_keeps_current_values(subject: Subject) {
    let store = &*subject.store;
    let current = ten_commits(store).await;
    let before = store.list("/", no_options()).await.unwrap();
    store.compact(current).await.unwrap();
    assert_eq!(store.list("/", no_options()).await.unwrap(), before);
    assert_eq!(store.list("/", at(current)).await.unwrap(), before);
    assert_eq!(revision(store).await, current);
    let next = put(store, "/0", "new").await;
    assert_eq!(next, current + 1);
    assert_eq!(store.list("/", at(current)).await.unwrap().entries, before.entries);
}

/// Only what happened can be compacted, and what is compacted stays so.
pub async fn clause_5_compaction_is_bounded_by_the_present_and_never_undone(subject: Subject) {
    let store = &*subject.store;
    let current = ten_commits(store).await;
    let future = Error::FutureRevision { requested: current + 1, current };
    assert_eq!(store.compact(current + 1).await, Err(future));
    assert_eq!(store.status().await.unwrap().compacted, 0);
    store.compact(current - 2).await.unwrap();
    let again = Error::Compacted { requested: current - 3, oldest: current - 2 };
    assert_eq!(store.compact(current - 3).await, Err(again));
    assert_eq!(store.status().await.unwrap().compacted, current - 2);
    store.compact(current).await.unwrap();
    assert_eq!(store.status().await.unwrap().compacted, current);
}

/// A listing by pages is told when the revision it names is gone.
pub async fn clause_5_pages_whose_revision_is_compacted_end(subject: Subject) {
    let store = &*subject.store;
    ten_commits(store).await;
    let first = store.list("/", ListOptions { limit: 2, ..no_options() }).await.unwrap();
    let current = put(store, "/3", "changed").await;
    let next = ListOptions {
        revision: Some(first.revision),
        limit: 2,
        after: first.entries.last().map(|entry| entry.key.clone()),
    };
    store.compact(first.revision).await.unwrap();
    assert_eq!(store.list("/", next.clone()).await.unwrap().entries.len(), 2, "the revision itself is kept");
    store.compact(current).await.unwrap();
    let refused = Error::Compacted { requested: first.revision, oldest: current };
    assert_eq!(store.list("/", next).await, Err(refused));
}

/// Compacting what a watch has delivered already does not disturb it.
pub async fn clause_5_a_watch_that_has_seen_everything_survives_compaction(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    let mut elsewhere = store.watch("/nothing/", 1).await.unwrap();
    let current = ten_commits(store).await;
    assert_eq!(until_progress(&mut watch, current).await.unwrap().len(), 10);
    assert_eq!(until_progress(&mut elsewhere, current).await.unwrap().len(), 0);
    store.compact(current).await.unwrap();
    let next = put(store, "/a", "").await;
    assert_eq!(next_changes(&mut watch).await.0, next);
    let here = put(store, "/nothing/a", "").await;
    assert_eq!(next_changes(&mut elsewhere).await.0, here);
}

/// A watch whose events are compacted before it delivered them either has them still or ends with an error.
pub async fn clause_5_a_watch_that_compaction_overtakes_ends_or_delivers_everything(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    let current = ten_commits(store).await;
    store.compact(current).await.unwrap();
    match until_progress(&mut watch, current).await {
        Ok(seen) => {
            let seen: Vec<_> = seen.into_iter().map(|(revision, _)| revision).collect();
            assert_eq!(seen, (2..=current).collect::<Vec<_>>());
        }
        Err(Error::Compacted { .. } | Error::Lagged { .. }) => {
            assert!(watch.next().await.is_none(), "after an error a watch ends");
        }
        Err(other) => panic!("{other:?}"),
    }
}
